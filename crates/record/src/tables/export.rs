//! The folder of tables: a file per table and format, written row by row, and the dictionary beside
//! them. A table is there whole or not at all.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::csv::CsvTable;
use super::parquet::ParquetTable;
use super::{ALL, Cell, Source, Table, TableError, dictionary};

/// Which files are made of each table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// `NAME.csv`.
    pub csv: bool,
    /// `NAME.parquet`.
    pub parquet: bool,
}

/// Tables on their way into a folder. Until [`finish`](Self::finish) their files have temporary
/// names; what is never finished leaves no table.
pub struct TableFiles {
    folder: PathBuf,
    tables: Vec<OpenTable>,
}

/// A table that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
}

struct OpenTable {
    table: &'static Table,
    rows: u64,
    csv: Option<CsvTable<BufWriter<File>>>,
    parquet: Option<ParquetTable<BufWriter<File>>>,
}

impl TableFiles {
    /// Opens every table in `folder`, which is created if need be.
    ///
    /// # Errors
    /// [`TableError`] naming the file that cannot be created.
    pub fn create(folder: &Path, formats: Formats) -> Result<Self, TableError> {
        fs::create_dir_all(folder).map_err(|source| at(folder, source))?;
        let open = |table: &'static Table| -> Result<OpenTable, TableError> {
            let file = |wanted: bool, ending: &str| {
                wanted
                    .then(|| create(&temporary(folder, table.name, ending)))
                    .transpose()
            };
            Ok(OpenTable {
                table,
                rows: 0,
                csv: file(formats.csv, "csv")?
                    .map(|file| CsvTable::new(table, file))
                    .transpose()?,
                parquet: file(formats.parquet, "parquet")?
                    .map(|file| ParquetTable::new(table, file))
                    .transpose()?,
            })
        };
        Ok(Self {
            folder: folder.to_owned(),
            tables: ALL.into_iter().map(open).collect::<Result<_, _>>()?,
        })
    }

    /// Adds the rows of one document to every table.
    ///
    /// # Errors
    /// [`TableError`] when a row cannot be written.
    pub fn add(&mut self, source: Source<'_>) -> Result<(), TableError> {
        for open in &mut self.tables {
            let table = open.table;
            table.rows(source, &mut |cells| open.row(cells))?;
        }
        Ok(())
    }

    /// Closes the tables, gives them their names, and writes the dictionary.
    ///
    /// # Errors
    /// [`TableError`] when a file cannot be closed or renamed.
    pub fn finish(self) -> Result<Vec<Written>, TableError> {
        let Self { folder, tables } = self;
        let mut written = Vec::new();
        for open in tables {
            let name = open.table.name;
            if let Some(csv) = open.csv {
                settle(&folder, name, "csv", csv.finish()?)?;
            }
            if let Some(parquet) = open.parquet {
                settle(&folder, name, "parquet", parquet.finish()?)?;
            }
            written.push(Written {
                table: name,
                rows: open.rows,
            });
        }
        for (name, content) in [
            (dictionary::CSV, dictionary::csv()?),
            (dictionary::MARKDOWN, dictionary::markdown().into_bytes()),
        ] {
            let path = folder.join(name);
            fs::write(&path, content).map_err(|source| at(&path, source))?;
        }
        Ok(written)
    }
}

impl OpenTable {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), TableError> {
        self.rows += 1;
        if let Some(csv) = &mut self.csv {
            csv.row(cells)?;
        }
        if let Some(parquet) = &mut self.parquet {
            parquet.row(cells)?;
        }
        Ok(())
    }
}

fn temporary(folder: &Path, name: &str, ending: &str) -> PathBuf {
    folder.join(format!(".{name}.{ending}.part"))
}

fn create(path: &Path) -> Result<BufWriter<File>, TableError> {
    let file = File::create(path).map_err(|source| at(path, source))?;
    Ok(BufWriter::new(file))
}

fn settle(
    folder: &Path,
    name: &str,
    ending: &str,
    mut file: BufWriter<File>,
) -> Result<(), TableError> {
    let from = temporary(folder, name, ending);
    let to = folder.join(format!("{name}.{ending}"));
    file.flush().map_err(|source| at(&from, source))?;
    fs::rename(&from, &to).map_err(|source| at(&to, source))
}

fn at(path: &Path, source: std::io::Error) -> TableError {
    TableError::File {
        path: path.to_owned(),
        source,
    }
}
