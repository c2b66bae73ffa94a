//! The same outage of the direct path over plain `bevy_ggrs` + matchbox and over this crate, as one
//! table.
//!
//!     cargo run --release --example failover                (three runs, under a minute)
//!     cargo run --release --example failover -- --quick     (one shorter run: what CI plays)
//!     cargo run --release --example failover -- --runs 10
//!
//! Two bots play the same game over real WebRTC on loopback, 60 frames a second, prediction window
//! 8, input delay 0 and 2. From one frame on every direct packet is dropped, both ways. Three
//! matches run at the same time, so that the machine disturbs them alike: the plain stack, this crate,
//! and this crate with every packet on both paths all the time. The same observers measure all of
//! them. The exit status is non-zero if a match of this crate stalled or ended early and the machine
//! does not explain it, or if the plain stack survived, because then nothing was compared.

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

use frame_scheduler::PauseMonitor;
use measure::{Outage, Peer};
use options::Options;
use table::{Match, Stack};

/// Every crate would warn about the lost path, which is intended here.
const LOG_FILTER: &str = "error,webrtc=off,rtc=off,matchbox_socket=off";
/// Window and input delay are the budget of a failover without a stall.
const INPUT_DELAYS: [u32; 2] = [0, 2];

/// The settings of one match, the same for both peers.
#[derive(Clone)]
pub(crate) struct Rules {
    server: String,
    room: String,
    seed: u64,
    frames: u32,
    input_delay: u32,
    clock: LabClock,
    outage: Outage,
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    // A process can set up logging once, so the peers' apps do not.
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
            played.extend(side_by_side(&options, &server.url(), run, input_delay));
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
fn side_by_side(options: &Options, server: &str, run: u32, input_delay: u32) -> Vec<Match> {
    let clock = LabClock::real();
    let monitor = PauseMonitor::start(clock.clone());
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
                outage: Outage::new(options.outage_at, clock.clone()),
            };
            let peers = [(), ()].map(|()| {
                let rules = rules.clone();
                thread::spawn(move || play(stack, &rules))
            });
            (stack, rules.outage, peers)
        })
        .collect();
    matches
        .into_iter()
        .map(|(stack, outage, peers)| {
            let joined = peers.map(|peer| {
                let panicked = |_| Err("the peer's thread panicked".to_owned());
                peer.join().unwrap_or_else(panicked)
            });
            Match::new(stack, input_delay, outage.start(), joined, &monitor)
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
