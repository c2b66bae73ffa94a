//! Owns `rollback-lab report`: episodes in, one self-contained page out. The page draws what
//! [`data`] hands it; nothing is fetched from anywhere. Never judges a file.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use crate::{files, merge};

#[path = "report/data.rs"]
mod data;

/// The page, with a place for its data.
const PAGE: &str = include_str!("report/page.html");
const PLACE: &str = "/*DATA*/";

#[derive(Args)]
pub(crate) struct Report {
    /// Episode files, of all peers as far as they are there, or folders of them.
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

/// Writes the page and prints where it is.
///
/// # Errors
/// A page that cannot be written; or, after a page of all others was written, the files that could
/// not be read.
pub(crate) fn report(options: &Report) -> Result<(), String> {
    let found = files::find_episodes(&options.paths)?;
    let mut broken: Vec<String> = found
        .unreadable
        .iter()
        .map(|(path, why)| format!("{}: {why}", path.display()))
        .collect();
    let bar = files::progress("report", found.files());
    let mut episodes = Vec::new();
    for group in found.episodes() {
        match merge::merged(group) {
            Ok(document) => episodes.push(data::episode(&document)),
            Err(why) => broken.push(why),
        }
        bar.inc(group.files.len() as u64);
    }
    bar.finish_and_clear();
    if !episodes.is_empty() {
        fs::write(&options.out, page(&episodes)?)
            .map_err(|error| format!("{}: {error}", options.out.display()))?;
        println!("{}: {} episodes", options.out.display(), episodes.len());
    }
    match (episodes.is_empty(), broken.is_empty()) {
        (false, true) => Ok(()),
        (true, true) => Err(String::from("no episode file")),
        _ => Err(format!("not in the report:\n  {}", broken.join("\n  "))),
    }
}

fn page(episodes: &[data::Episode]) -> Result<String, String> {
    let json = serde_json::to_string(episodes).map_err(|error| error.to_string())?;
    // Inside a script element only this character could end it.
    Ok(PAGE.replacen(PLACE, &json.replace('<', "\\u003c"), 1))
}
