//! The tables as Parquet: every column optional, rows buffered up to one row group.

use std::io::Write;
use std::sync::Arc;

use ::parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::types::{Type, TypePtr};

use super::{Cell, Column, ColumnKind, Table, TableError};

/// Rows of one row group: what a table holds in memory, whatever the number of files. Large enough
/// for readers to skip by, small enough for ten tables at once.
const ROWS_PER_GROUP: usize = 32 * 1024;

/// One table on its way into a Parquet file.
pub(super) struct ParquetTable<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Vec<Buffer>,
    rows: usize,
}

/// The cells of one column in one row group: which are there, and those that are.
struct Buffer {
    present: Vec<i16>,
    values: Values,
}

enum Values {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Text(Vec<ByteArray>),
    Flag(Vec<bool>),
}

impl<W: Write + Send> ParquetTable<W> {
    pub(super) fn new(table: &Table, to: W) -> Result<Self, TableError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        Ok(Self {
            writer: SerializedFileWriter::new(to, schema(table)?, Arc::new(properties))?,
            columns: table.columns.iter().map(Buffer::new).collect(),
            rows: 0,
        })
    }

    pub(super) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), TableError> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.push(cell);
        }
        self.rows += 1;
        if self.rows == ROWS_PER_GROUP {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands back what was written to, with everything in it.
    pub(super) fn finish(mut self) -> Result<W, TableError> {
        if self.rows > 0 {
            self.flush()?;
        }
        Ok(self.writer.into_inner()?)
    }

    fn flush(&mut self) -> Result<(), TableError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let Some(writer) = group.next_column()? else {
                break;
            };
            column.write(writer)?;
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl Buffer {
    fn new(column: &Column) -> Self {
        Self {
            present: Vec::new(),
            values: match column.kind {
                ColumnKind::Int => Values::Int(Vec::new()),
                ColumnKind::Float => Values::Float(Vec::new()),
                ColumnKind::Text => Values::Text(Vec::new()),
                ColumnKind::Flag => Values::Flag(Vec::new()),
            },
        }
    }

    fn push(&mut self, cell: &Cell<'_>) {
        let present = match (&mut self.values, cell) {
            (Values::Int(values), Cell::Int(Some(value))) => {
                values.push(*value);
                true
            }
            (Values::Float(values), Cell::Float(Some(value))) => {
                values.push(*value);
                true
            }
            (Values::Flag(values), Cell::Flag(Some(value))) => {
                values.push(*value);
                true
            }
            (Values::Text(values), Cell::Text(Some(text))) => {
                // Keys repeat in every row of a file: the bytes are shared.
                let same = values
                    .last()
                    .filter(|last| last.data() == text.as_bytes())
                    .cloned();
                values.push(same.unwrap_or_else(|| ByteArray::from(text.as_bytes().to_vec())));
                true
            }
            // An empty cell; cells and columns come of one definition, so kinds never differ.
            _ => false,
        };
        self.present.push(i16::from(present));
    }

    fn write(&mut self, mut writer: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let present = Some(self.present.as_slice());
        match &mut self.values {
            Values::Int(values) => {
                let typed = writer.typed::<Int64Type>();
                typed.write_batch(values, present, None)?;
                values.clear();
            }
            Values::Float(values) => {
                let typed = writer.typed::<DoubleType>();
                typed.write_batch(values, present, None)?;
                values.clear();
            }
            Values::Text(values) => {
                let typed = writer.typed::<ByteArrayType>();
                typed.write_batch(values, present, None)?;
                values.clear();
            }
            Values::Flag(values) => {
                let typed = writer.typed::<BoolType>();
                typed.write_batch(values, present, None)?;
                values.clear();
            }
        }
        self.present.clear();
        writer.close()
    }
}

fn schema(table: &Table) -> Result<TypePtr, ParquetError> {
    let fields = table.columns.iter().map(|column| {
        let (physical, logical) = match column.kind {
            ColumnKind::Int => (Physical::INT64, None),
            ColumnKind::Float => (Physical::DOUBLE, None),
            ColumnKind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            ColumnKind::Flag => (Physical::BOOLEAN, None),
        };
        Type::primitive_type_builder(column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>, _>>()?;
    let root = Type::group_type_builder(table.name).with_fields(fields);
    Ok(Arc::new(root.build()?))
}
