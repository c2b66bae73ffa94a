//! Owns the table and the verdict: what was measured, row by row, and what must hold of it. Never
//! measures.

use std::time::Duration;

use crate::frame_scheduler::{FPS, Pulse, WINDOW};
use crate::measure::{End, Peer};
use crate::options::Options;

/// Pauses of the machine beyond this are no fault of a stack: it is the silence after which this
/// crate doubts a path, at 60 Hz.
const MACHINE_PAUSE: Duration = Duration::from_millis(30);
/// Stalled frames that a disturbed machine may cost beyond its measured pauses: one thread's pauses
/// are measured, and every peer has several. Half a second.
const STALLS_OF_A_BUSY_MACHINE: u32 = 30;

/// What a match is played over.
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

/// One match and what it came to.
pub(crate) struct Match {
    stack: Stack,
    input_delay: u32,
    peers: Vec<Peer>,
    broken: Option<String>,
    /// Pauses of the machine after the cut.
    pauses: Vec<Duration>,
}

impl Match {
    /// A match whose peers are back.
    pub(crate) fn new(
        stack: Stack,
        input_delay: u32,
        cut: Option<Duration>,
        joined: [Result<Peer, String>; 2],
        pulse: &Pulse,
    ) -> Self {
        let mut broken = cut
            .is_none()
            .then(|| "the cut was never reached".to_owned());
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
            pauses: pulse.pauses(cut.unwrap_or_default()),
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

    /// What does not hold, if anything.
    pub(crate) fn fault(&self) -> Option<String> {
        let what = format!("{}, input delay {}", self.stack.title(), self.input_delay);
        if let Some(error) = &self.broken {
            return Some(format!("{what}: {error}"));
        }
        self.peers.iter().find_map(|peer| {
            let wrong = match (self.stack, &peer.end) {
                (_, End::Failed(error)) => error.clone(),
                (Stack::Plain, End::OpponentGone(_)) => return None,
                (Stack::Plain, End::Whole) => {
                    "it survived the cut, so nothing is compared: do its packets pass the wrapper?"
                        .to_owned()
                }
                (_, End::OpponentGone(after)) => {
                    format!("the opponent was given up {} ms after the cut", ms(*after))
                }
                (_, End::Whole) if peer.stalled > self.explained() => format!(
                    "{} frames stalled, of which the machine explains {} (it paused for {:?})",
                    peer.stalled,
                    self.explained(),
                    self.pauses
                ),
                (_, End::Whole) if peer.first_relayed.is_none() => {
                    "no game packet came to the relay after the cut: was the path cut?".to_owned()
                }
                (Stack::P2pFirst, End::Whole) if peer.failed_over.is_none() => {
                    "the route was not promoted: was the path cut?".to_owned()
                }
                (_, End::Whole) => return None,
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
         match, {} matches a row, {cores} cores; median / maximum over the peers, after the cut \
         unless said otherwise.\n",
        options.cut_at, options.frames, options.runs
    );
    println!(
        "| stack | input delay | stalled frames | longest gap, ms | the same before | rollbacks \
         | first packet by relay, ms | route failed_over, ms | on the relay before | went on to the end \
         | disturbed |"
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

/// Game packets on the relay while the direct path was whole, as a share of those on the direct
/// path.
fn on_relay_before(peers: &[&Peer]) -> String {
    let sent = peers.iter().filter_map(|peer| peer.sent_before);
    let [direct, relay] = sent.fold([0, 0], |[a, b], [direct, relay]| [a + direct, b + relay]);
    if direct == 0 {
        return "no relay".to_owned();
    }
    format!("{:.0} %", relay as f64 * 100.0 / direct as f64)
}

fn end(peers: &[&Peer]) -> String {
    let whole = peers
        .iter()
        .filter(|peer| matches!(peer.end, End::Whole))
        .count();
    let gone = peers.iter().filter_map(|peer| match peer.end {
        End::OpponentGone(after) => Some(ms(after)),
        _ => None,
    });
    let told = median_and_max(gone.collect()).map_or_else(String::new, |(median, _)| {
        format!("; opponent declared gone after {median:.0} ms")
    });
    format!("{whole} of {} peers{told}", peers.len())
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
