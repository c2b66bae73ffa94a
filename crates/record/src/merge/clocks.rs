//! How far one peer's clock is from another's: from exchanged timestamps or from the order in which
//! inputs must have been sent and received, whichever is less uncertain, else from the wall clocks.
//! Every answer carries its method and its uncertainty.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{EpisodeDocument, PeerClock};

/// Times of frames are rounded to 100 microseconds on either side.
const ROUNDING_US: i64 = 100;

/// How an offset was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ClockMethod {
    /// This is the clock.
    Reference,
    /// From timestamps that the peers exchanged, as the files state it.
    Exchange,
    /// From inputs: none is received before it was sent, in either direction.
    InputOrder,
    /// From the wall clocks of both computers, which are not synchronized by the lab.
    WallClock,
}

/// How one peer's times become those of the one clock: add `offsetUs`, and
/// `driftPpm * (atUs - anchorUs) / 1,000,000`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerOffset {
    /// Whose times.
    pub player_id: usize,
    /// How it was found.
    pub method: ClockMethod,
    /// To be added to that peer's `atUs`.
    pub offset_us: i64,
    /// Half the width of the interval that holds the true offset. `null` when nothing bounds it.
    pub uncertainty_us: Option<u64>,
    /// How fast the offset grows, in parts per million. Zero when it was not measured.
    pub drift_ppm: f64,
    /// That peer's time at which `offsetUs` holds.
    pub anchor_us: i64,
}

impl PeerOffset {
    /// One of that peer's times on the one clock.
    #[must_use]
    pub fn apply(&self, at_us: u64) -> i64 {
        self.apply_signed(i64::try_from(at_us).unwrap_or(i64::MAX))
    }

    /// The same for a time before that peer's zero.
    #[must_use]
    pub fn apply_signed(&self, at_us: i64) -> i64 {
        let since = at_us.saturating_sub(self.anchor_us);
        let drift = (self.drift_ppm * since as f64 / 1e6).round() as i64;
        at_us.saturating_add(self.offset_us).saturating_add(drift)
    }
}

type File<'a> = (usize, &'a EpisodeDocument);

/// The offset of `peer` from `reference`.
pub(super) fn offset(reference: File<'_>, peer: File<'_>) -> PeerOffset {
    if reference.0 == peer.0 {
        return PeerOffset {
            player_id: peer.0,
            method: ClockMethod::Reference,
            offset_us: 0,
            uncertainty_us: Some(0),
            drift_ppm: 0.0,
            anchor_us: 0,
        };
    }
    let found = [exchanged(reference, peer), input_order(reference, peer)];
    found
        .into_iter()
        .flatten()
        .min_by_key(|offset| offset.uncertainty_us.unwrap_or(u64::MAX))
        .unwrap_or_else(|| wall_clock(reference, peer))
}

/// From the file with the smaller uncertainty; each measures the other's clock against its own.
fn exchanged(reference: File<'_>, peer: File<'_>) -> Option<PeerOffset> {
    let theirs = clock_of(peer.1, reference.0).map(|clock| {
        // Measured there: what is to be added to its own times to get the reference's.
        let (anchor_us, offset_us) = anchor(clock);
        (clock, anchor_us, offset_us, clock.drift_ppm.unwrap_or(0.0))
    });
    let ours = clock_of(reference.1, peer.0).map(|clock| {
        let (anchor_us, offset_us) = anchor(clock);
        let drift = -clock.drift_ppm.unwrap_or(0.0);
        (
            clock,
            anchor_us.saturating_add(offset_us),
            -offset_us,
            drift,
        )
    });
    let (clock, anchor_us, offset_us, drift_ppm) = theirs
        .into_iter()
        .chain(ours)
        .min_by_key(|(clock, ..)| clock.uncertainty_us.unwrap_or(u64::MAX))?;
    Some(PeerOffset {
        player_id: peer.0,
        method: ClockMethod::Exchange,
        offset_us,
        uncertainty_us: clock.uncertainty_us,
        drift_ppm,
        anchor_us,
    })
}

fn clock_of(document: &EpisodeDocument, player: usize) -> Option<&PeerClock> {
    let clocks = &document.clock.peers;
    clocks
        .iter()
        .find(|clock| clock.player_id == player && clock.offset_us.is_some())
}

/// Where the line of a drifting clock is pinned: where the file says that its offset held, in older
/// files at the best sample, or anywhere without drift.
fn anchor(clock: &PeerClock) -> (i64, i64) {
    let offset = clock.offset_us.unwrap_or(0);
    let on_our_clock = |at_us: u64| i64::try_from(at_us).unwrap_or(i64::MAX);
    if let Some(at_us) = clock.at_us {
        return (on_our_clock(at_us), offset);
    }
    let best = clock
        .samples
        .iter()
        .min_by_key(|(_, _, uncertainty)| *uncertainty);
    match (clock.drift_ppm, best) {
        (Some(_), Some((at_us, offset_us, _))) => (on_our_clock(*at_us), *offset_us),
        _ => (0, offset),
    }
}

/// An input is read by its player before anybody else has it: every input bounds the offset from
/// one side, and those of the other direction from the other.
fn input_order(reference: File<'_>, peer: File<'_>) -> Option<PeerOffset> {
    // peer - reference is at most this, and at least minus that.
    let most = shortest_way(reference, peer)?;
    let least = shortest_way(peer, reference)?.checked_neg()?;
    if least > most {
        // Clocks that drift apart over a long episode; one offset does not describe them.
        return None;
    }
    let middle = i64::midpoint(least, most);
    Some(PeerOffset {
        player_id: peer.0,
        method: ClockMethod::InputOrder,
        offset_us: middle.saturating_neg(),
        uncertainty_us: Some(most.abs_diff(least).div_ceil(2)),
        drift_ppm: 0.0,
        anchor_us: 0,
    })
}

/// The smallest difference, in the readers' own times, between an input of `from` being read and
/// its being known at `to`.
fn shortest_way(from: File<'_>, to: File<'_>) -> Option<i64> {
    let sender = times(from.1);
    let receiver = times(to.1);
    let delays = &from.1.episode.input_delay_frames;
    let delay = delays.get(&from.0).copied().unwrap_or(0) as usize;
    let lateness = &to.1.timeline.lateness;
    let runs = &lateness.iter().find(|late| late.player_id == from.0)?.runs;
    let lag = reading_lag(from, &sender, delay);
    // In a stall an input is read in the first tick, at a time that is not noted.
    let stalls = from.1.frames.stalls.iter();
    let waited: BTreeSet<_> = stalls
        .filter_map(|stall| usize::try_from(stall.frame).ok())
        .collect();
    let mut frame = 0_usize;
    let mut shortest: Option<i64> = None;
    for (late, count) in runs {
        let last = frame.saturating_add(*count as usize);
        for applied in frame..last.min(receiver.len()) {
            let Some(late) = late else { break };
            let known = receiver.get(applied.saturating_add(*late as usize));
            let read = applied
                .checked_sub(delay)
                .filter(|frame| !waited.contains(frame))
                .and_then(|frame| sender.get(frame));
            if let (Some(known), Some(read)) = (known, read) {
                let way = known.saturating_sub(*read);
                shortest = Some(shortest.map_or(way, |least| least.min(way)));
            }
        }
        frame = last;
    }
    shortest?.checked_add(lag)?.checked_add(ROUNDING_US)
}

/// The longest time between reading an input and the first simulation of the frame in whose tick
/// it was read, which is what the file notes of every frame.
fn reading_lag(from: File<'_>, sender: &[i64], delay: usize) -> i64 {
    let changes = from.1.inputs.local_changes.iter();
    changes
        .filter(|change| change.player_id == from.0)
        .filter_map(|change| {
            let frame = usize::try_from(change.frame).ok()?.checked_sub(delay)?;
            let read = i64::try_from(change.sampled_at_us?).ok()?;
            Some(sender.get(frame)?.saturating_sub(read))
        })
        .max()
        .unwrap_or(0)
        .max(0)
}

/// First simulation of every frame, by the file's own clock.
pub(super) fn times(document: &EpisodeDocument) -> Vec<i64> {
    let series = &document.timeline.frame_at_us;
    let Some(first) = series.first.and_then(|first| i64::try_from(first).ok()) else {
        return Vec::new();
    };
    let mut at = first;
    let mut times = vec![at];
    for delta in &series.deltas {
        at = at.saturating_add(i64::try_from(*delta).unwrap_or(i64::MAX));
        times.push(at);
    }
    times
}

fn wall_clock(reference: File<'_>, peer: File<'_>) -> PeerOffset {
    let origin = |file: File<'_>| i128::from(file.1.clock.origin_unix_ms);
    let offset = (origin(peer) - origin(reference)) * 1000;
    PeerOffset {
        player_id: peer.0,
        method: ClockMethod::WallClock,
        offset_us: i64::try_from(offset).unwrap_or_default(),
        uncertainty_us: None,
        drift_ppm: 0.0,
        anchor_us: 0,
    }
}
