//! A duel of bots over real WebRTC that loses its direct path half-way, without a screen.
//!
//!     cargo run --release --example headless_duel
//!
//! needs nothing but Rust: an embedded server, one app per bot, a seeded everyday network
//! (`--conditions none` for a clean one), one episode, one file per peer, a table with the rollbacks
//! and their causes. `--help` lists the options; `summary.rs` documents what `--json` prints.
//! The exit status is 0 on success, 1 if a session failed, a desync was seen, a file could not be
//! written or files disagree, and 2 if the options cannot work.

use std::path::Path;
use std::process::ExitCode;
use std::thread;

use bevy::app::App;
use bevy::log::{Level, LogPlugin};
use clap::Parser;
use rollback_lab_server::{LabServer, ServerSettings};

mod files;
mod options;
mod peer;
mod progress;
mod summary;

use files::EpisodeFile;
use options::Options;
use peer::Outcome;
use progress::{ProgressLine, REDRAW, SharedStatus};
use summary::Summary;

/// Only warnings: the table shows the rest. The crates named here warn about every connection that
/// is set up or closed.
const LOG_FILTER: &str = "warn,webrtc=error,rtc=error,matchbox_socket=error";

fn main() -> ExitCode {
    let options = Options::parse();
    // Logs go to stderr. A process can set up logging once, so the peers' apps do not.
    App::new().add_plugins(LogPlugin {
        level: Level::INFO,
        filter: LOG_FILTER.to_owned(),
        ..LogPlugin::default()
    });
    if let Err(error) = options.check() {
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
    let server = match (&options.server, &embedded) {
        (Some(url), _) => url.clone(),
        (None, Some(server)) => server.url(),
        (None, None) => unreachable!("without --server one is embedded"),
    };
    let mut outcomes = play(&options, &server);
    outcomes.sort_by_key(|peer| peer.player);
    if let Some(server) = embedded {
        server.shutdown();
    }

    let summary = summarize(&options, server, &outcomes);
    if options.json {
        let json = serde_json::to_string_pretty(&summary).expect("a summary is plain data");
        println!("{json}");
    } else {
        print!("{}", summary.table());
    }
    if summary.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs this process's peers, each on a thread of its own, and draws the progress line on this one.
fn play(options: &Options, server: &str) -> Vec<Outcome> {
    let peers: Vec<_> = (0..options.local_peers())
        .map(|number| {
            let status = SharedStatus::default();
            let (lab, cut) = (options.lab(server), options.cut_frame());
            let shown = status.clone();
            let thread = thread::Builder::new()
                .name(format!("peer {number}"))
                .spawn(move || peer::play(lab, cut, shown))
                .expect("the system has a thread for every peer");
            (status, thread)
        })
        .collect();

    let mut line = ProgressLine::new(options.frames, options.episodes);
    while peers.iter().any(|(_, thread)| !thread.is_finished()) {
        let shown: Vec<_> = peers.iter().map(|(status, _)| status.get()).collect();
        line.draw(&shown);
        thread::sleep(REDRAW);
    }
    line.finish();
    peers
        .into_iter()
        .map(|(_, thread)| {
            thread.join().unwrap_or_else(|_| Outcome {
                failure: Some("the peer's thread panicked".to_owned()),
                ..Outcome::default()
            })
        })
        .collect()
}

fn summarize(options: &Options, server: String, outcomes: &[Outcome]) -> Summary {
    let mut summary = Summary {
        server,
        room: options.room.clone(),
        cut_direct_at_frame: options.cut_frame(),
        session_id: outcomes.iter().find_map(|peer| peer.session_id.clone()),
        ..Summary::default()
    };
    for (number, peer) in outcomes.iter().enumerate() {
        let name = peer.player.map_or_else(
            || format!("peer {number}"),
            |player| format!("player {player}"),
        );
        if let Some(failure) = &peer.failure {
            summary.failures.push(format!("{name}: {failure}"));
        } else if peer.files.len() != options.episodes as usize {
            let (ended, all) = (peer.files.len(), options.episodes);
            let failure = format!("{name}: {ended} of {all} episodes have ended");
            summary.failures.push(failure);
        }
        record_session_document(options, peer, &mut summary);
    }
    for number in 0..options.episodes as usize {
        read_episode(outcomes, number, &mut summary);
    }
    summary.ok = summary.failures.is_empty();
    summary
}

/// A session document is written even if no episode was played.
fn record_session_document(options: &Options, peer: &Outcome, summary: &mut Summary) {
    let (Some(id), Some(player)) = (&peer.session_id, peer.player) else {
        return;
    };
    let name = format!("session.player-{player}.json");
    let path = options.out.join(id).join(name);
    let shown = path.display().to_string();
    if path.is_file() {
        summary.session_files.push(shown);
    } else {
        summary.failures.push(format!("{shown} was not written"));
    }
}

/// Adds the rows of one episode and the faults of its files, alone and against each other.
fn read_episode(outcomes: &[Outcome], number: usize, summary: &mut Summary) {
    let mut read: Vec<EpisodeFile> = Vec::new();
    for file in outcomes.iter().filter_map(|peer| peer.files.get(number)) {
        let file = file.clone().and_then(|path| EpisodeFile::read(&path));
        match file {
            Ok(file) => read.push(file),
            Err(error) => summary.failures.push(error),
        }
    }
    for (index, file) in read.iter().enumerate() {
        summary.episodes.push(file.row());
        summary.folder = file.folder().map(Path::to_path_buf);
        summary.failures.extend(file.faults());
        for other in &read[index + 1..] {
            summary.failures.extend(file.disagreements(other));
        }
    }
}
