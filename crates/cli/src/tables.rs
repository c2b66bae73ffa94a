//! Owns `rollback-lab tables`: documents in, tables out, one episode in memory at a time. Never
//! decides what a row is; that is the library's list.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rollback_lab_record::tables::{Formats, Source, TableFiles};

use crate::files::{self, Group};

#[derive(Args)]
pub(crate) struct Tables {
    /// Folders, searched for episode and session files, or such files.
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Folder of the tables and their data dictionary. It is created.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What the tables are written as.
    #[arg(long, value_enum, default_value_t = Format::Both)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Parquet,
    Both,
}

/// Writes the tables, then one line for each.
///
/// # Errors
/// A table that cannot be written; or, after the tables of all others were written, the files that
/// could not be read.
pub(crate) fn tables(options: &Tables) -> Result<(), String> {
    let found = files::find_episodes(&options.paths)?;
    let formats = Formats {
        csv: !matches!(options.format, Format::Parquet),
        parquet: !matches!(options.format, Format::Csv),
    };
    let mut tables =
        TableFiles::create(&options.out, formats).map_err(|error| error.to_string())?;
    let mut left_out: Vec<String> = found
        .unreadable
        .iter()
        .map(|(path, why)| format!("{}: {why}", path.display()))
        .collect();
    let bar = files::progress("tables", found.files());
    for group in &found.groups {
        add(group, &mut tables, &mut left_out)?;
        bar.inc(group.files.len() as u64);
    }
    bar.finish_and_clear();
    let written = tables.finish().map_err(|error| error.to_string())?;
    for table in written {
        println!("{:<12} {:>10} rows", table.table, table.rows);
    }
    println!("{}", options.out.display());
    if left_out.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} files are not in the tables:\n  {}",
        left_out.len(),
        left_out.join("\n  ")
    ))
}

fn add(group: &Group, tables: &mut TableFiles, left_out: &mut Vec<String>) -> Result<(), String> {
    let mut players = Vec::new();
    for path in &group.files {
        // A copy would count everything twice.
        let mut is_copy = |player: Option<usize>| {
            let copy = player.is_some() && players.contains(&player);
            players.push(player);
            copy
        };
        let added = if group.episode.is_some() {
            files::read_episode(path).and_then(|document| {
                if is_copy(document.session.local_player_id) {
                    return Err(String::from("another file of the same episode and player"));
                }
                Ok(tables.add(Source::Episode(&document)))
            })
        } else {
            files::read_session(path).and_then(|document| {
                if is_copy(document.session.local_player_id) {
                    return Err(String::from("another file of the same session and player"));
                }
                Ok(tables.add(Source::Session(&document)))
            })
        };
        match added {
            Ok(written) => written.map_err(|error| error.to_string())?,
            Err(why) => left_out.push(format!("{}: {why}", path.display())),
        }
    }
    Ok(())
}
