//! `rollback-lab report`: one HTML page with routes, rollbacks, stalls and latency of every peer on
//! one time axis. All data is inside the page; it loads nothing and can be sent as a file.

mod data;

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::error::{CommandError, none_left_out};
use crate::{files, merge};

/// The page, with a placeholder for its data.
const PAGE: &str = include_str!("report/page.html");
const DATA_PLACEHOLDER: &str = "/*DATA*/";

#[derive(Args)]
pub(crate) struct ReportOptions {
    /// Episode files of all peers, as far as there are any, or folders that are searched for them
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// The page to write
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

/// Writes the page and prints its path.
///
/// # Errors
/// When the page cannot be written or there is no episode; or, after a page of all others was
/// written, with the files that could not be read or merged.
pub(crate) fn report(options: &ReportOptions) -> Result<(), CommandError> {
    let found = files::find_episodes(&options.paths)?;
    let bar = files::progress("drawing", found.files());
    let mut left_out = found.unreadable;
    let mut episodes = Vec::new();
    for group in files::episodes(&found.groups) {
        match merge::merged(group) {
            Ok(document) => episodes.push(data::episode(&document)),
            Err(why) => left_out.push(why),
        }
        bar.inc(group.files.len() as u64);
    }
    bar.finish_and_clear();
    if !episodes.is_empty() {
        let page = page(&episodes)?;
        fs::write(&options.out, page).map_err(|source| CommandError::Write {
            path: options.out.clone(),
            source,
        })?;
        println!("{}: {} episodes", options.out.display(), episodes.len());
    } else if left_out.is_empty() {
        return Err(CommandError::NoEpisodes);
    }
    none_left_out(left_out, "in the report")
}

fn page(episodes: &[data::EpisodeData]) -> Result<String, CommandError> {
    let json = serde_json::to_string(episodes)?;
    // Inside a script element only this character could end it.
    Ok(PAGE.replacen(DATA_PLACEHOLDER, &json.replace('<', "\\u003c"), 1))
}
