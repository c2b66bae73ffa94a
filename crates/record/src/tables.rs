//! Flat tables of all files, as CSV and Parquet, with a data dictionary.
//!
//! Every column is defined once, with its name, unit, meaning and the way it is read off a document
//! ([`ALL`]); the writers and the dictionary are made of that list.
//!
//! ```
//! use rollback_lab_record::EpisodeDocument;
//! use rollback_lab_record::tables::{ALL, Source};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! let document = EpisodeDocument::parse(text)?;
//! let rollbacks = ALL.iter().find(|table| table.name == "rollbacks").expect("a table");
//! let mut rows = 0;
//! rollbacks.rows(Source::Episode(&document), &mut |_cells| {
//!     rows += 1;
//!     Ok(())
//! })?;
//! assert_eq!(rows, document.rollbacks.count);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`TableFiles`] writes all of them into a folder.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use crate::{EpisodeDocument, Hex64, SessionDocument};

mod csv;
pub mod dictionary;
mod episodes;
mod expand;
mod export;
mod frames;
mod network;
mod parquet;
mod sessions;

pub use export::{Formats, TableFiles, Written};

/// Every table, in the order of the data dictionary.
pub const ALL: [&Table; 10] = [
    &sessions::SESSIONS,
    &episodes::EPISODES,
    &frames::ROLLBACKS,
    &frames::FRAMES,
    &frames::STALLS,
    &frames::HASHES,
    &network::INPUTS,
    &network::LATENESS,
    &network::ROUTES,
    &network::LATENCY,
];

/// A table: its rows begin with the five key columns. Read them with [`rows`](Table::rows), or write
/// all tables with [`TableFiles`].
#[derive(Debug)]
pub struct Table {
    /// Name of its files, without the ending.
    pub name: &'static str,
    /// What one row is.
    pub about: &'static str,
    /// Its columns, the keys first.
    pub columns: &'static [Column],
    rows: fn(Source<'_>, &mut Emit<'_>) -> Result<(), TableError>,
}

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name; the one in the JSON wherever the meaning is the same.
    pub name: &'static str,
    /// What its cells hold.
    pub kind: ColumnKind,
    /// Unit of a number; `-` where there is none.
    pub unit: &'static str,
    /// What it says, and when it is empty.
    pub meaning: &'static str,
}

/// What the cells of a column hold. Every cell may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// A signed 64-bit integer.
    Int,
    /// A 64-bit floating-point number.
    Float,
    /// Text; inputs, conditions and settings as JSON.
    Text,
    /// True or false.
    Flag,
}

impl ColumnKind {
    /// The name in the data dictionary.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int => "integer",
            Self::Float => "number",
            Self::Text => "text",
            Self::Flag => "boolean",
        }
    }
}

/// One cell. `None` is an empty one: not measured, or not there.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// Of a column of that kind.
    Int(Option<i64>),
    /// Of a column of that kind.
    Float(Option<f64>),
    /// Of a column of that kind.
    Text(Option<Cow<'a, str>>),
    /// Of a column of that kind.
    Flag(Option<bool>),
}

/// A document that rows are read off.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// One peer's file about one episode.
    Episode(&'a EpisodeDocument),
    /// One peer's file about the lab session.
    Session(&'a SessionDocument),
}

/// Where rows go: the cells stand in the order of the table's columns.
pub type Emit<'e> = dyn FnMut(&[Cell<'_>]) -> Result<(), TableError> + 'e;

/// Why tables could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A file could not be created, written or renamed.
    #[error("table file {} could not be written: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A row could not be written as CSV.
    #[error("row could not be written as CSV: {0}")]
    Csv(#[from] ::csv::Error),
    /// Rows could not be written as Parquet.
    #[error("rows could not be written as Parquet: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
}

impl Table {
    /// Reads every row of this table off a document; a table of the other kind of document has none.
    ///
    /// # Errors
    /// What `emit` returns, at its first error.
    pub fn rows(&self, source: Source<'_>, emit: &mut Emit<'_>) -> Result<(), TableError> {
        (self.rows)(source, emit)
    }
}

impl<'a> Source<'a> {
    /// The cells of the key columns.
    fn key(self) -> [Cell<'a>; 5] {
        let (session, episode) = match self {
            Self::Episode(document) => (&document.session, Some(&document.episode.episode_id)),
            Self::Session(document) => (&document.session, None),
        };
        [
            Cell::Text(session.study_id.as_ref().into_cell()),
            Cell::Text(session.group_id.as_ref().into_cell()),
            Cell::Text((&session.session_id).into_cell()),
            Cell::Text(episode.into_cell()),
            Cell::Int(session.local_player_id.into_cell()),
        ]
    }
}

/// What fits into a cell of one kind; `T` is the cell's content.
trait IntoCell<T> {
    fn into_cell(self) -> Option<T>;
}

impl<T, U: IntoCell<T>> IntoCell<T> for Option<U> {
    fn into_cell(self) -> Option<T> {
        self.and_then(IntoCell::into_cell)
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),*) => {$(
        impl IntoCell<i64> for $kind {
            // Counters that do not fit are beyond any episode; an empty cell is no wrong one.
            fn into_cell(self) -> Option<i64> {
                i64::try_from(self).ok()
            }
        }
    )*};
}

whole_numbers!(i32, i64, u32, u64, usize);

impl IntoCell<f64> for f64 {
    fn into_cell(self) -> Option<f64> {
        Some(self)
    }
}

impl IntoCell<bool> for bool {
    fn into_cell(self) -> Option<bool> {
        Some(self)
    }
}

impl<'a> IntoCell<Cow<'a, str>> for &'a str {
    fn into_cell(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a> IntoCell<Cow<'a, str>> for &'a String {
    fn into_cell(self) -> Option<Cow<'a, str>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a> IntoCell<Cow<'a, str>> for String {
    fn into_cell(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(self))
    }
}

impl<'a> IntoCell<Cow<'a, str>> for Hex64 {
    fn into_cell(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

impl<'a> IntoCell<Cow<'a, str>> for &Value {
    fn into_cell(self) -> Option<Cow<'a, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

/// Defines a table: its columns and how each is read off one item of a document are one list, so
/// that a name, a unit or a meaning cannot part from its values.
macro_rules! table {
    (
        $(#[$doc:meta])*
        $name:ident = $file:literal, $about:literal;
        for $item:pat in $kind_of:ident($document:ident) => $rows:expr;
        $($column:literal $kind:ident [$unit:literal] $meaning:literal = $value:expr;)*
    ) => {
        $(#[$doc])*
        pub(super) static $name: $crate::tables::Table = $crate::tables::Table {
            name: $file,
            about: $about,
            columns: &[
                $crate::tables::Column {
                    name: "studyId",
                    kind: $crate::tables::ColumnKind::Text,
                    unit: "-",
                    meaning: "Study, as the settings name it. Empty if they do not.",
                },
                $crate::tables::Column {
                    name: "groupId",
                    kind: $crate::tables::ColumnKind::Text,
                    unit: "-",
                    meaning: "Group of participants, as the settings name it. Empty if they do not.",
                },
                $crate::tables::Column {
                    name: "sessionId",
                    kind: $crate::tables::ColumnKind::Text,
                    unit: "-",
                    meaning: "Lab session; the same in the files of all its peers.",
                },
                $crate::tables::Column {
                    name: "episodeId",
                    kind: $crate::tables::ColumnKind::Text,
                    unit: "-",
                    meaning: "Episode: session and number. Empty in the table of sessions.",
                },
                $crate::tables::Column {
                    name: "playerId",
                    kind: $crate::tables::ColumnKind::Int,
                    unit: "-",
                    meaning: "Player whose file this row is read off. Empty if no player was local.",
                },
                $($crate::tables::Column {
                    name: $column,
                    kind: $crate::tables::ColumnKind::$kind,
                    unit: $unit,
                    meaning: $meaning,
                },)*
            ],
            rows: {
                fn rows(
                    source: $crate::tables::Source<'_>,
                    emit: &mut $crate::tables::Emit<'_>,
                ) -> Result<(), $crate::tables::TableError> {
                    let $crate::tables::Source::$kind_of($document) = source else {
                        return Ok(());
                    };
                    let [study, group, session, episode, player] = source.key();
                    let mut cells = vec![study, group, session, episode, player];
                    for $item in $rows {
                        cells.truncate(5);
                        $(cells.push($crate::tables::Cell::$kind(
                            $crate::tables::IntoCell::into_cell($value),
                        ));)*
                        emit(&cells)?;
                    }
                    Ok(())
                }
                rows
            },
        };
    };
}

use table;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_begins_with_the_same_five_keys() {
        for table in ALL {
            let keys: Vec<_> = table.columns[..5].iter().map(|key| key.name).collect();
            assert_eq!(
                keys,
                ["studyId", "groupId", "sessionId", "episodeId", "playerId"],
                "{}",
                table.name
            );
        }
    }

    #[test]
    fn names_of_tables_and_columns_are_used_once() {
        let mut names: Vec<_> = ALL.iter().map(|table| table.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for table in ALL {
            let mut columns: Vec<_> = table.columns.iter().map(|column| column.name).collect();
            columns.sort_unstable();
            columns.dedup();
            assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
        }
    }

    #[test]
    fn a_unit_in_a_name_is_the_unit_of_the_column() {
        for (table, column) in ALL
            .iter()
            .flat_map(|t| t.columns.iter().map(move |c| (t, c)))
        {
            let wanted = [("Us", "us"), ("Ms", "ms"), ("Hz", "Hz")]
                .iter()
                .find(|(ending, _)| column.name.ends_with(ending));
            if let Some((_, unit)) = wanted {
                assert!(
                    column.unit.starts_with(unit),
                    "{}.{} is in {}",
                    table.name,
                    column.name,
                    column.unit
                );
            }
        }
    }
}
