//! The data dictionary: every column of every table with its unit and meaning, generated from the
//! definitions that the tables are written by.

use super::{ALL, Table, TableError};

/// Name of the dictionary as CSV, beside the tables.
pub const CSV: &str = "data-dictionary.csv";
/// Name of the dictionary for reading, beside the tables.
pub const MARKDOWN: &str = "data-dictionary.md";

/// What holds for every table; a page of its own would not be read.
const NOTES: &str = "\
Made by `rollback-lab tables`, from the definitions the tables are written by.

- An empty cell (CSV: an empty field, Parquet: null) was not measured or is not there.
- Columns ending in `AtUs` and the column `atUs` are microseconds on the clock of the row's
  `playerId`; `originUnixMs` of the table of episodes is their zero. `rollback-lab merge` puts all
  peers on one clock.
- Every peer writes a file of its own: the inputs and hashes of an episode stand there once per
  file. Filter by `playerId`, or by `isLocal` in the table of inputs.
- Inputs, conditions and settings are JSON, whatever the game serializes.
";

/// The dictionary as CSV.
///
/// # Errors
/// None that writing into memory can bring about; the CSV library's type says so.
pub fn csv() -> Result<Vec<u8>, TableError> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(["table", "column", "type", "unit", "meaning"])?;
    for table in ALL {
        for column in table.columns {
            writer.write_record([
                table.name,
                column.name,
                column.kind.as_str(),
                column.unit,
                column.meaning,
            ])?;
        }
    }
    writer
        .into_inner()
        .map_err(|error| ::csv::Error::from(error.into_error()).into())
}

/// The dictionary for reading.
#[must_use]
pub fn markdown() -> String {
    let mut text = format!("# Data dictionary\n\n{NOTES}");
    for table in ALL {
        text.push_str(&section(table));
    }
    text
}

fn section(table: &Table) -> String {
    let mut text = format!(
        "\n## {}\n\n{}\n\n| column | type | unit | meaning |\n|---|---|---|---|\n",
        table.name, table.about
    );
    for column in table.columns {
        text.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            column.name,
            column.kind.as_str(),
            column.unit,
            column.meaning.replace('|', "\\|")
        ));
    }
    text
}
