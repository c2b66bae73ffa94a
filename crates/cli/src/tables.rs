//! `rollback-lab tables`: CSV and Parquet tables of all files, one row per rollback, frame, stall,
//! input and so on, with a data dictionary that explains every column.
//!
//! One document is in memory at a time, so the size of a study does not matter.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rollback_lab_record::tables::{Formats, Source, TableError, TableFiles};

use crate::error::{CommandError, FileError, LeftOut, none_left_out};
use crate::files::{self, FileGroup};

#[derive(Args)]
pub(crate) struct TablesOptions {
    /// Episode and session files, or folders that are searched for them
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Folder of the tables and their data dictionary; it is created
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// File format of the tables
    #[arg(long, value_enum, default_value_t = Format::Both)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Parquet,
    Both,
}

/// Writes the tables and prints a line for each.
///
/// # Errors
/// When a table cannot be written; or, after the tables of all other files were written, with the
/// files that could not be read.
pub(crate) fn tables(options: &TablesOptions) -> Result<(), CommandError> {
    let found = files::find_episodes(&options.paths)?;
    let formats = Formats {
        csv: !matches!(options.format, Format::Parquet),
        parquet: !matches!(options.format, Format::Csv),
    };
    let bar = files::progress("writing tables", found.files());
    let mut tables = TableFiles::create(&options.out, formats)?;
    let mut left_out = found.unreadable;
    for group in &found.groups {
        add_group(group, &mut tables, &mut left_out)?;
        bar.inc(group.files.len() as u64);
    }
    bar.finish_and_clear();
    for table in tables.finish()? {
        println!("{:<12} {:>10} rows", table.table, table.rows);
    }
    println!("{}", options.out.display());
    none_left_out(left_out, "in the tables")
}

fn add_group(
    group: &FileGroup,
    tables: &mut TableFiles,
    left_out: &mut Vec<LeftOut>,
) -> Result<(), TableError> {
    let mut players = Vec::new();
    for path in &group.files {
        let added = match group.episode {
            Some(_) => add_episode(path, &mut players, tables),
            None => add_session(path, &mut players, tables),
        };
        match added {
            Ok(written) => written?,
            Err(why) => left_out.push(LeftOut {
                path: path.clone(),
                why,
            }),
        }
    }
    Ok(())
}

fn add_episode(
    path: &Path,
    players: &mut Vec<usize>,
    tables: &mut TableFiles,
) -> Result<Result<(), TableError>, FileError> {
    let document = files::read_episode(path)?;
    once("episode", document.session.local_player_id, players)?;
    Ok(tables.add(Source::Episode(&document)))
}

fn add_session(
    path: &Path,
    players: &mut Vec<usize>,
    tables: &mut TableFiles,
) -> Result<Result<(), TableError>, FileError> {
    let document = files::read_session(path)?;
    once("session", document.session.local_player_id, players)?;
    Ok(tables.add(Source::Session(&document)))
}

/// Refuses a second file of the same player: it would count everything twice.
fn once(
    document: &'static str,
    player: Option<usize>,
    players: &mut Vec<usize>,
) -> Result<(), FileError> {
    let Some(player) = player else { return Ok(()) };
    if players.contains(&player) {
        return Err(FileError::Copy(document));
    }
    players.push(player);
    Ok(())
}
