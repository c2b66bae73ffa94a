//! The interactive native run: command line, embedded server unless `--server` names one, bots as
//! opponents, and a check of the files at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bevy::app::AppExit;
use bevy_rollback_lab::record::EpisodeDocument;
use bevy_rollback_lab::record::check::{check_episode, check_pair};
use bevy_rollback_lab::replay::View;
use clap::Parser;
use rollback_lab_server::{LabServer, ServerSettings};

use crate::game;
use crate::opponent::Opponents;
use crate::options::Options;
use crate::playback;
use crate::rounds::{Outcome, SharedOutcome};

/// Plays a match in a window.
pub(crate) fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(file) = &options.replay {
        return watch(file, &options);
    }
    // The embedded server has no address yet; any valid one will do for the check.
    let server = options.server.as_deref().unwrap_or("ws://127.0.0.1");
    if let Err(error) = options.settings(server).lab().validate() {
        eprintln!("error: {error}");
        return ExitCode::from(2);
    }
    let embedded = match &options.server {
        Some(_) => None,
        None => match LabServer::start(ServerSettings::loopback()) {
            Ok(server) => Some(server),
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        },
    };
    let own = embedded.as_ref().map(LabServer::url);
    let settings = options.settings(own.as_deref().unwrap_or(server));

    // The window's app sets up logging, so it is built before the bots start.
    let mut app = game::app(settings.clone());
    let bots = Opponents::spawn(options.opponents(), &settings);
    let outcome = app.world().resource::<SharedOutcome>().clone();
    let exit = app.run();
    let mut outcomes = vec![outcome.get()];
    outcomes.extend(bots.join());
    if let Some(server) = embedded {
        server.shutdown();
    }

    let faults = faults(&outcomes);
    for fault in &faults {
        eprintln!("error: {fault}");
    }
    if faults.is_empty() && exit == AppExit::Success {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays an episode file in a window.
fn watch(file: &Path, options: &Options) -> ExitCode {
    let view = if options.as_seen {
        View::AsSeen
    } else {
        View::Canonical
    };
    let settings = options.settings("ws://127.0.0.1");
    let app = read(file).and_then(|(_, document)| playback::app(&document, view, &settings));
    match app.map(|mut app| app.run()) {
        Ok(AppExit::Success) => ExitCode::SUCCESS,
        Ok(AppExit::Error(_)) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The failure of this peer's session, and everything wrong in the files. A partial file is fine: the
/// window may be closed in the middle of a match.
fn faults(outcomes: &[Outcome]) -> Vec<String> {
    let mut faults: Vec<String> = outcomes
        .first()
        .and_then(|own| own.failure.clone())
        .into_iter()
        .collect();
    let written = outcomes.iter().map(|outcome| outcome.files.len()).max();
    for number in 0..written.unwrap_or(0) {
        let mut documents: Vec<(PathBuf, EpisodeDocument)> = Vec::new();
        for file in outcomes.iter().filter_map(|peer| peer.files.get(number)) {
            match file.clone().and_then(|path| read(&path)) {
                Ok(read) => documents.push(read),
                Err(error) => faults.push(error),
            }
        }
        for (index, (path, document)) in documents.iter().enumerate() {
            println!("{}", path.display());
            let alone = check_episode(document);
            let others = &documents[index + 1..];
            let pairs = others
                .iter()
                .flat_map(|(_, other)| check_pair(document, other));
            let broken = alone.into_iter().chain(pairs);
            faults.extend(broken.map(|rule| format!("{}: {rule}", path.display())));
            if document.sync.p2p_hash_mismatches > 0 {
                faults.push(format!("{}: the peers' states differ", path.display()));
            }
        }
    }
    faults
}

fn read(path: &Path) -> Result<(PathBuf, EpisodeDocument), String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(&error))?;
    let document = EpisodeDocument::parse(&text).map_err(|error| named(&error))?;
    Ok((path.to_owned(), document))
}
