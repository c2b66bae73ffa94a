//! The table of all measurements, and the verdict: what must hold of them.

use std::time::Duration;

use crate::frame_scheduler::{FPS, PauseMonitor, WINDOW};
use crate::measure::{End, Peer};
use crate::options::Options;

/// A longer pause of the machine disturbs a match: it is about the silence after which this crate
/// suspects a path at 60 Hz.
const MACHINE_PAUSE: Duration = Duration::from_millis(30);
/// Stalled frames that a busy machine may cause beyond its measured pauses: one thread is monitored,
/// and every peer has several. Half a second.
const STALLS_OF_A_BUSY_MACHINE: u32 = 30;

/// The network stack of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stack {
    /// `bevy_ggrs` and matchbox alone.
    Plain,
    /// This crate, as it is by default.
    P2pFirst,
    /// This crate with every packet on both paths, always.
    DualPath,
}

impl Stack {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::P2pFirst, Self::DualPath];

    /// The room in which its peers meet.
    pub(crate) const fn room(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::P2pFirst => "p2p-first",
            Self::DualPath => "dual-path",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Plain => "bevy_ggrs + matchbox",
            Self::P2pFirst => "bevy_rollback_lab",
            Self::DualPath => "bevy_rollback_lab, `dual-path`",
        }
    }
}

/// One match and its measurements.
pub(crate) struct Match {
    stack: Stack,
    input_delay: u32,
    peers: Vec<Peer>,
    broken: Option<String>,
    /// Pauses of the machine during the outage.
    pauses: Vec<Duration>,
}

impl Match {
    /// A match whose peers have finished.
    pub(crate) fn new(
        stack: Stack,
        input_delay: u32,
        outage: Option<Duration>,
        joined: [Result<Peer, String>; 2],
        monitor: &PauseMonitor,
    ) -> Self {
        let mut broken = outage
            .is_none()
            .then(|| "the frame of the outage was not reached".to_owned());
        let mut peers = Vec::new();
        for peer in joined {
            match peer {
                Ok(peer) => peers.push(peer),
                Err(error) => broken = Some(error),
            }
        }
        Self {
            stack,
            input_delay,
            peers,
            broken,
            pauses: monitor.pauses(outage.unwrap_or_default()),
        }
    }

    fn disturbed(&self) -> bool {
        self.pauses.iter().any(|pause| *pause > MACHINE_PAUSE)
            || self.peers.iter().any(|peer| peer.own_stalls > 0)
    }

    /// Stalled frames that the machine explains.
    fn explained(&self) -> u32 {
        if !self.disturbed() {
            return 0;
        }
        let paused: Duration = self.pauses.iter().sum();
        STALLS_OF_A_BUSY_MACHINE + 2 * frames(paused)
    }

    /// The requirement that is not met, if any.
    pub(crate) fn fault(&self) -> Option<String> {
        let what = format!("{}, input delay {}", self.stack.title(), self.input_delay);
        if let Some(error) = &self.broken {
            return Some(format!("{what}: {error}"));
        }
        self.peers.iter().find_map(|peer| {
            let wrong = match (self.stack, &peer.end) {
                (_, End::Failed(error)) => error.clone(),
                (Stack::Plain, End::OpponentDisconnected(_)) => return None,
                (Stack::Plain, End::Complete) => {
                    "it survived the outage, so nothing is compared: do its packets pass the wrapper?"
                        .to_owned()
                }
                (_, End::OpponentDisconnected(after)) => {
                    format!("the opponent was disconnected {} ms after the start of the outage", ms(*after))
                }
                (_, End::Complete) if peer.stalled > self.explained() => format!(
                    "{} frames stalled, of which the machine explains {} (it paused for {:?})",
                    peer.stalled,
                    self.explained(),
                    self.pauses
                ),
                (_, End::Complete) if peer.first_relayed.is_none() => {
                    "no game packet went over the relay during the outage: were direct packets dropped?".to_owned()
                }
                (Stack::P2pFirst, End::Complete) if peer.failed_over.is_none() => {
                    "the route did not fail over: were direct packets dropped?".to_owned()
                }
                (_, End::Complete) => return None,
            };
            Some(format!("{what}: {wrong}"))
        })
    }
}

/// Prints all matches, one row per stack and input delay.
pub(crate) fn print(options: &Options, played: &[Match]) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "Every direct packet dropped from frame {} of {} on; {FPS} Hz, window {WINDOW}, two peers a \
         match, {} matches a row, {cores} cores; median / maximum over the peers, during the outage \
         unless stated otherwise.\n",
        options.outage_at, options.frames, options.runs
    );
    println!(
        "| stack | input delay | stalled frames | longest gap ms | before the outage ms | rollbacks \
         | first relayed packet ms | failover ms | on the relay before the outage \
         | played to the end | disturbed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut rows: Vec<(Stack, u32)> = Vec::new();
    for input_delay in crate::INPUT_DELAYS {
        rows.extend(Stack::ALL.map(|stack| (stack, input_delay)));
    }
    for (stack, input_delay) in rows {
        let matches: Vec<_> = played
            .iter()
            .filter(|played| played.stack == stack && played.input_delay == input_delay)
            .collect();
        print_row(stack, input_delay, &matches);
    }
    println!();
}

fn print_row(stack: Stack, input_delay: u32, matches: &[&Match]) {
    let peers: Vec<&Peer> = matches.iter().flat_map(|played| &played.peers).collect();
    let spread = |read: &dyn Fn(&Peer) -> Option<f64>| {
        let values = peers.iter().filter_map(|peer| read(peer)).collect();
        median_and_max(values).map_or_else(
            || "-".to_owned(),
            |(median, max)| format!("{median:.0} / {max:.0}"),
        )
    };
    let cells = [
        stack.title().to_owned(),
        input_delay.to_string(),
        spread(&|peer| Some(f64::from(peer.stalled))),
        spread(&|peer| Some(ms(peer.longest_gap))),
        spread(&|peer| Some(ms(peer.gap_before))),
        spread(&|peer| Some(f64::from(peer.rollbacks))),
        spread(&|peer| peer.first_relayed.map(ms)),
        spread(&|peer| peer.failed_over.map(ms)),
        on_relay_before(&peers),
        end(&peers),
        format!(
            "{} of {}",
            matches.iter().filter(|played| played.disturbed()).count(),
            matches.len()
        ),
    ];
    println!("| {} |", cells.join(" | "));
}

/// Game packets on the relay before the outage, as a share of those on the direct path.
fn on_relay_before(peers: &[&Peer]) -> String {
    let sent = peers.iter().filter_map(|peer| peer.sent_before);
    let [direct, relay] = sent.fold([0, 0], |[a, b], [direct, relay]| [a + direct, b + relay]);
    if direct == 0 {
        return "no relay".to_owned();
    }
    format!("{:.0} %", relay as f64 * 100.0 / direct as f64)
}

fn end(peers: &[&Peer]) -> String {
    let complete = peers
        .iter()
        .filter(|peer| matches!(peer.end, End::Complete))
        .count();
    let disconnected = peers.iter().filter_map(|peer| match peer.end {
        End::OpponentDisconnected(after) => Some(ms(after)),
        _ => None,
    });
    let opponent = median_and_max(disconnected.collect())
        .map_or_else(String::new, |(median, _)| {
            format!("; opponent disconnected after {median:.0} ms")
        });
    format!("{complete} of {} peers{opponent}", peers.len())
}

fn median_and_max(mut values: Vec<f64>) -> Option<(f64, f64)> {
    values.sort_by(f64::total_cmp);
    let max = *values.last()?;
    let middle = values.len() / 2;
    let median = if values.len().is_multiple_of(2) {
        (values[middle - 1] + values[middle]) / 2.0
    } else {
        values[middle]
    };
    Some((median, max))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn frames(time: Duration) -> u32 {
    (time.as_secs_f64() * f64::from(FPS)).ceil() as u32
}
