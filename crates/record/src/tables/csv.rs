//! The tables as CSV: a header, an empty field for an empty cell.

use std::fmt::Write as _;
use std::io::Write;

use ::csv::Writer;

use super::{Cell, Table, TableError};

/// One table on its way into a CSV file.
pub(super) struct CsvTable<W: Write> {
    writer: Writer<W>,
    field: String,
}

impl<W: Write> CsvTable<W> {
    pub(super) fn new(table: &Table, to: W) -> Result<Self, TableError> {
        let mut writer = Writer::from_writer(to);
        writer.write_record(table.columns.iter().map(|column| column.name))?;
        Ok(Self {
            writer,
            field: String::new(),
        })
    }

    pub(super) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), TableError> {
        for cell in cells {
            self.field.clear();
            // Writing into a string cannot fail.
            let _ = match cell {
                Cell::Int(Some(value)) => write!(self.field, "{value}"),
                // The shortest form that reads back as the same number.
                Cell::Float(Some(value)) => write!(self.field, "{value}"),
                Cell::Flag(Some(value)) => write!(self.field, "{value}"),
                Cell::Text(Some(text)) => {
                    self.writer.write_field(text.as_bytes())?;
                    continue;
                }
                Cell::Int(None) | Cell::Float(None) | Cell::Flag(None) | Cell::Text(None) => Ok(()),
            };
            self.writer.write_field(&self.field)?;
        }
        self.writer.write_record(None::<&[u8]>)?;
        Ok(())
    }

    /// Hands back what was written to, with everything in it.
    pub(super) fn finish(self) -> Result<W, TableError> {
        self.writer
            .into_inner()
            .map_err(|error| ::csv::Error::from(error.into_error()).into())
    }
}
