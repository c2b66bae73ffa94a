//! A lost direct path, played over plain `bevy_ggrs` + matchbox and over this crate, as one table.
//!
//!     cargo run --release --example failover                (three runs, under a minute)
//!     cargo run --release --example failover -- --quick     (one shorter run: what CI plays)
//!     cargo run --release --example failover -- --runs 10
//!
//! Two bots play the same game over real WebRTC on loopback, 60 frames a second, prediction window
//! 8, input delay 0 and 2. From one frame on every direct packet is dropped, both ways. Three
//! matches run side by side, so that the machine disturbs them alike: the plain stack, this crate,
//! and this crate with every packet on both paths all the time. All are measured by the same
//! observers. The exit status is non-zero if a match of this crate stalled or ended without the
//! machine being the reason, or if the plain stack survived, because then nothing was compared.

use std::process::ExitCode;
use std::thread;

use bevy::app::App;
use bevy::log::{Level, LogPlugin};
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::prelude::RoutePolicy;
use rollback_lab_server::{LabServer, ServerSettings};

mod frame_scheduler;
mod lab;
mod measure;
mod options;
mod plain;
mod table;

use frame_scheduler::Pulse;
use measure::{Cut, Peer};
use options::Options;
use table::{Match, Stack};

/// A lost path is the matter here: everybody would warn about it.
const LOG_FILTER: &str = "error,webrtc=off,rtc=off,matchbox_socket=off";
/// The budget of a failover without a stall is the window and the input delay.
const INPUT_DELAYS: [u32; 2] = [0, 2];

/// What one match is played by; both peers hold the same.
#[derive(Clone)]
pub struct Rules {
    server: String,
    room: String,
    seed: u64,
    frames: u32,
    input_delay: u32,
    clock: LabClock,
    cut: Cut,
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    // A log can be set up once per process, so not by the peers' apps.
    App::new().add_plugins(LogPlugin {
        level: Level::ERROR,
        filter: LOG_FILTER.to_owned(),
        ..LogPlugin::default()
    });
    let server = match LabServer::start(ServerSettings::loopback()) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut played = Vec::new();
    for run in 0..options.runs {
        for input_delay in INPUT_DELAYS {
            eprintln!(
                "run {} of {}, input delay {input_delay}",
                run + 1,
                options.runs
            );
            played.extend(heat(&options, &server.url(), run, input_delay));
        }
    }
    server.shutdown();
    table::print(&options, &played);
    let faults: Vec<String> = played.iter().filter_map(Match::fault).collect();
    for fault in &faults {
        println!("FAILED: {fault}");
    }
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One match per stack, all at the same time.
fn heat(options: &Options, server: &str, run: u32, input_delay: u32) -> Vec<Match> {
    let clock = LabClock::real();
    let pulse = Pulse::start(clock.clone());
    let matches: Vec<_> = Stack::ALL
        .into_iter()
        .map(|stack| {
            let rules = Rules {
                server: server.to_owned(),
                room: format!("{}-{input_delay}-{run}", stack.room()),
                seed: u64::from(run) + 1,
                frames: options.frames,
                input_delay,
                clock: clock.clone(),
                cut: Cut::new(options.cut_at, clock.clone()),
            };
            let peers = [(), ()].map(|()| {
                let rules = rules.clone();
                thread::spawn(move || play(stack, &rules))
            });
            (stack, rules.cut, peers)
        })
        .collect();
    matches
        .into_iter()
        .map(|(stack, cut, peers)| {
            let joined = peers.map(|peer| {
                let panicked = |_| Err("the peer's thread panicked".to_owned());
                peer.join().unwrap_or_else(panicked)
            });
            Match::new(stack, input_delay, cut.moment(), joined, &pulse)
        })
        .collect()
}

fn play(stack: Stack, rules: &Rules) -> Result<Peer, String> {
    match stack {
        Stack::Plain => plain::play(rules),
        Stack::P2pFirst => lab::play(rules, RoutePolicy::P2pFirst),
        Stack::DualPath => lab::play(rules, RoutePolicy::DualPath),
    }
}
