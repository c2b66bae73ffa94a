//! Measures the evidence about one late input from the packets that carried it, and keeps causes
//! open for a second while a later packet can still change them.

use std::time::Duration;

use super::arrivals::{Arrivals, Carried};
use super::{Arrival, Cause, Evidence, Pause, Via, decide};
use crate::frame::{Frame, MAX_PLAYERS};

/// Packets below which no transit time is "usual" yet: a median of fewer is one packet's chance.
const USUAL_LEAST: usize = 4;
/// Open causes kept at once, about a second of rollbacks at 60 Hz. Those beyond it stay as decided
/// first.
const OPEN_MAX: usize = 64;
/// How long a cause may be revised: after it an overtaken packet counts as lost, and a dead path
/// has been left, for which the route takes 250 ms.
const REVISABLE_FOR: Duration = Duration::from_secs(1);
/// Shortest gap between two packets that is a pause: two frames at 60 Hz.
const PAUSE_MIN: Duration = Duration::from_millis(33);
/// ggrs 0.13 repeats its inputs after 200 ms (`RUNNING_RETRY_INTERVAL`), less a tick.
const GGRS_RETRY: Duration = Duration::from_millis(180);
/// How long before its frame was simulated an input may have been sent, when its packet is
/// unknown: half of a slow intercontinental round trip, rounded up.
const UNKNOWN_TRANSIT: Duration = Duration::from_millis(150);

/// A route that moved from one path to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct RouteShift {
    /// When it was decided, by this peer's clock.
    pub at: Duration,
    /// When the last packet that arrived over the path left behind was sent, by the player's clock:
    /// nothing sent later arrived that way.
    pub left: Duration,
}

/// One player's link at one moment: pass it to [`LinkEvidence::set`] in every update.
/// [`Link::player_link`](crate::link::Link::player_link) fills it in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct PlayerLink {
    /// The path in use.
    pub via: Via,
    /// The state of the link that goes into every rollback event, whichever input was late.
    pub evidence: Evidence,
    /// The last change of the route from one path to the other.
    pub shift: Option<RouteShift>,
    /// The player's clock minus this peer's, in microseconds.
    pub offset_us: Option<i64>,
    /// Length of a frame. Zero when unknown; pauses are not looked for then.
    pub frame: Duration,
    /// The expected interval between packets of the player, at least a frame.
    pub interval: Duration,
    /// Input delay in frames, the same on every peer: it covers as much of the transit.
    pub input_delay: Frame,
    /// Prediction window in frames. Zero when unknown.
    pub max_prediction: Frame,
    /// Mean transit of the packets of the last seconds on the direct path and over the relay, by the
    /// peers' own clocks, in microseconds: what is usual before an episode has shown it.
    pub usual_us: [Option<i64>; 2],
}

/// An input that had not arrived when its frame was simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateInput {
    /// Handle of the player.
    pub player: usize,
    /// Frame of the input.
    pub frame: Frame,
    /// When the frame was first simulated without it, by this peer's clock.
    pub due: Duration,
    /// When the rollback that corrected it ran, by this peer's clock.
    pub corrected: Duration,
}

/// A rollback whose cause may still change.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OpenCause {
    id: u64,
    late: LateInput,
    cause: Cause,
    evidence: Evidence,
}

/// Decides why inputs were late: feed it links and packets as they arrive, then ask with
/// [`judge`](Self::judge). Empty, it answers [`Cause::Unknown`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkEvidence {
    players: [Option<PlayerLink>; MAX_PLAYERS],
    arrivals: [Arrivals; MAX_PLAYERS],
    open: Vec<OpenCause>,
    /// Something arrived that may change an open cause.
    news: bool,
}

impl LinkEvidence {
    /// Sets the link of one player. Handles from [`MAX_PLAYERS`] on are ignored.
    pub fn set(&mut self, player: usize, link: PlayerLink) {
        if let Some(slot) = self.players.get_mut(player) {
            self.news |= slot.is_some_and(|before| before.shift != link.shift);
            *slot = Some(link);
        }
    }

    /// The link of one player, once it was set.
    #[must_use]
    pub fn get(&self, player: usize) -> Option<&PlayerLink> {
        self.players.get(player)?.as_ref()
    }

    /// Records an input packet of a player, in order of arrival.
    pub fn arrived(&mut self, player: usize, arrival: Arrival) {
        if let Some(arrivals) = self.arrivals.get_mut(player) {
            self.news |= arrivals.push(arrival);
        }
    }

    /// Records that the direct copy of a relayed packet arrived.
    pub fn copied(&mut self, player: usize, seq: u16) {
        if let Some(arrivals) = self.arrivals.get_mut(player) {
            self.news |= arrivals.copy(seq);
        }
    }

    /// Starts another episode for this player: frames count from 0 again.
    pub fn restart(&mut self, player: usize) {
        if let Some(arrivals) = self.arrivals.get_mut(player) {
            arrivals.clear();
        }
    }

    /// Forgets every link, for the next lab session.
    pub fn clear(&mut self) {
        self.players = Default::default();
        self.arrivals.iter_mut().for_each(Arrivals::clear);
        self.finalize_all();
    }

    /// Makes every open cause final: the episode is over.
    pub fn finalize_all(&mut self) {
        self.open.clear();
        self.news = false;
    }

    /// Why an input was late, and the evidence that decided it.
    #[must_use]
    pub fn judge(&self, disconnect: bool, late: &LateInput) -> (Cause, Evidence) {
        let evidence = self.evidence(late).rounded();
        (decide(disconnect, &evidence), evidence)
    }

    /// [`judge`](Self::judge) for the rollback with this id. A cause that later packets can change
    /// is kept open for [`revise`](Self::revise).
    pub fn judge_rollback(
        &mut self,
        id: u64,
        disconnect: bool,
        late: LateInput,
    ) -> (Cause, Evidence) {
        let (cause, evidence) = self.judge(disconnect, &late);
        self.open
            .retain(|open| late.corrected <= open.late.corrected + REVISABLE_FOR);
        // A packet that seems lost may still arrive, or its whole path was lost.
        if cause == Cause::PacketLoss && self.open.len() < OPEN_MAX {
            if self.open.capacity() == 0 {
                self.open.reserve_exact(OPEN_MAX);
            }
            self.open.push(OpenCause {
                id,
                late,
                cause,
                evidence,
            });
        }
        (cause, evidence)
    }

    /// Whether something arrived that may change an open cause: call [`revise`](Self::revise).
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.news && !self.open.is_empty()
    }

    /// Whether a cause reported before may still change.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        !self.open.is_empty()
    }

    /// Reports every cause that later packets have changed: the rollback's id, its new cause and the
    /// new evidence. Causes older than a second stay as they are.
    pub fn revise(&mut self, now: Duration, mut report: impl FnMut(u64, Cause, Evidence)) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        self.open
            .retain(|open| now <= open.late.corrected + REVISABLE_FOR);
        let mut open = std::mem::take(&mut self.open);
        for case in &mut open {
            let now = self.evidence(&case.late).rounded();
            let cause = decide(false, &now);
            if cause == case.cause || cause == Cause::Unknown {
                continue;
            }
            // The state of the link stays that of the rollback.
            case.evidence = Evidence {
                rtt_ms: case.evidence.rtt_ms,
                jitter_ms: case.evidence.jitter_ms,
                lost_packets: case.evidence.lost_packets,
                frames_ahead: case.evidence.frames_ahead,
                peer_silence_ms: case.evidence.peer_silence_ms,
                ..now
            };
            case.cause = cause;
            report(case.id, cause, case.evidence);
        }
        self.open = open;
    }

    /// The input that a simulation stalled at `at` waits for: the oldest one missing then, as
    /// `(player, frame)`.
    #[must_use]
    pub fn awaited(&self, at: Duration) -> Option<(usize, Frame)> {
        let players = self.arrivals.iter().enumerate();
        let known = players.filter_map(|(player, arrivals)| {
            self.get(player)?;
            Some((arrivals.newest_at(at)?, player))
        });
        known.min().map(|(newest, player)| (player, newest + 1))
    }

    /// What the packets say about a late input.
    fn evidence(&self, late: &LateInput) -> Evidence {
        let Some(link) = self.get(late.player) else {
            return Evidence::default();
        };
        let mut evidence = link.evidence;
        let arrivals = &self.arrivals[late.player];
        let Some(carried) = arrivals.carried(late.frame) else {
            let around = late.due.saturating_sub(UNKNOWN_TRANSIT)..=late.corrected;
            let changed = |shift: RouteShift| around.contains(&shift.at);
            evidence.route_changed = link.shift.map(changed);
            return evidence;
        };
        let carrier = carried.carrier;
        // When the input should have been sent: one frame per frame after the last packet before
        // it, if there is one.
        let due = carried.before.map_or(carrier.sent, |before| {
            let frames = late.frame.saturating_sub(before.newest).unsigned_abs();
            before.sent + link.frame * frames
        });
        let (pause, hidden) = paused(link, late.frame, arrivals, &carried);
        let own_is_first = carrier.newest == late.frame;
        let repeated = own_is_first && pause.is_zero() && is_repeated(link, &carried, due);

        // Sent over the relay alone, it was late because the relay takes longer.
        let had_changed = own_is_first && carrier.failed_over;
        evidence.route_changed =
            Some(!had_changed && shifted_around(link, late, due.min(carrier.sent)));
        evidence.peer_hidden = Some(carrier.hidden || hidden);
        evidence.peer_pause_ms = Some(ms(pause));
        evidence.packet_lost = Some(!carried.own_came || repeated || carrier.alone);
        evidence.overtaken = Some(!own_is_first && carried.own_came);
        measure_lateness(link, late, arrivals, &carrier, &mut evidence);
        evidence
    }
}

/// Whether the route moved while the input sent at `sent`, by the player's clock, was in flight.
fn shifted_around(link: &PlayerLink, late: &LateInput, sent: Duration) -> bool {
    link.shift.is_some_and(|shift| {
        let ours = to_ours(sent, link.offset_us);
        // The player's own route follows half a round trip later. At most 10 s: an estimate above
        // that is none.
        let transit = link.evidence.rtt_ms.unwrap_or_default().clamp(0.0, 1e4) / 2e3;
        let over = shift.at + Duration::from_secs_f64(transit);
        sent > shift.left && ours <= over && late.corrected + REVISABLE_FOR >= shift.at
    })
}

/// Splits the lateness of `carrier` into the lead of this peer, the usual transit and the excess.
fn measure_lateness(
    link: &PlayerLink,
    late: &LateInput,
    arrivals: &Arrivals,
    carrier: &Arrival,
    evidence: &mut Evidence,
) {
    let mut late_ms = (carrier.at.as_secs_f64() - late.due.as_secs_f64()) * 1e3;
    let of_path = link.usual_us[usize::from(carrier.relay)];
    if let Some(usual) = arrivals.usual_us(carrier, USUAL_LEAST).or(of_path) {
        let mut over = (carrier.transit_us() - usual) as f64 / 1e3;
        if carrier.held {
            // It arrived while this peer stalled, so its transit is taken to be the usual one.
            late_ms = (late_ms - over).max(0.0);
            over = 0.0;
        }
        evidence.over_usual_ms = Some(over);
        if let Some(offset) = link.offset_us {
            let transit = (usual + offset) as f64 / 1e3;
            let covered = link.frame * link.input_delay.unsigned_abs();
            evidence.ahead_ms = Some(late_ms + ms(covered) - transit - over);
        }
    }
    evidence.late_ms = Some(late_ms);
}

/// How long the player's game stalled before it sent the input late (zero if it did not), and
/// whether it was hidden meanwhile.
fn paused(
    link: &PlayerLink,
    frame: Frame,
    arrivals: &Arrivals,
    carried: &Carried,
) -> (Duration, bool) {
    let none = (Duration::ZERO, false);
    if link.frame.is_zero() {
        return none;
    }
    let carrier = &carried.carrier;
    // Sent in the tick that ended the pause, and later than the packets before it promise. A game
    // that catches up several frames in one tick is late by less with each of them.
    if let Some(pause) = arrivals.pause_before(carrier.sent)
        && resumed_late(link, frame, arrivals, carrier, &pause)
    {
        return (pause.to.saturating_sub(pause.from), pause.hidden);
    }
    // It polled while its game stood still: the packets of the frames in between are not missing, they
    // were not sent.
    let Some(before) = carried.before.filter(|before| before.newest == frame - 1) else {
        return none;
    };
    let later = carrier.newest.saturating_sub(frame).unsigned_abs();
    let gap = carrier.sent.saturating_sub(before.sent);
    let gap = gap.saturating_sub(link.frame * later);
    let paused = gap > PAUSE_MIN.max(link.interval * 5 / 2);
    if paused
        && !waited_for_inputs(link, &before)
        && !is_repeated(link, carried, before.sent + link.frame)
    {
        (gap, false)
    } else {
        none
    }
}

/// Whether the player's game had to wait for the inputs of others after it sent `last`: that is not its
/// own stall. ggrs 0.13 sends the input of a frame, and then does not simulate the frame if it is a
/// prediction window ahead of the last confirmed one (`P2PSession::advance_rollback_frame`).
fn waited_for_inputs(link: &PlayerLink, last: &Arrival) -> bool {
    let at = last.newest.saturating_sub(link.input_delay);
    let ahead = last
        .confirmed
        .map(|confirmed| at.saturating_sub(confirmed.max(0)));
    link.max_prediction > 0 && ahead >= Some(link.max_prediction)
}

/// Whether `carrier` was sent in the tick that ended `pause` and at least half a frame late.
fn resumed_late(
    link: &PlayerLink,
    frame: Frame,
    arrivals: &Arrivals,
    carrier: &Arrival,
    pause: &Pause,
) -> bool {
    let resuming = carrier.sent <= pause.to + link.interval * 3 / 4;
    let due = arrivals
        .newest_sent_by(pause.from)
        .map(|last| last.sent + link.frame * frame.saturating_sub(last.newest).unsigned_abs());
    resuming && due.is_none_or(|due| pause.to >= due + link.frame / 2)
}

/// Whether the packet was sent again because the first one was not acknowledged: it has the number
/// of the first one, or it follows ggrs's own retry interval while packets are missing.
fn is_repeated(link: &PlayerLink, carried: &Carried, due: Duration) -> bool {
    let carrier = &carried.carrier;
    let late = carrier.sent.saturating_sub(due);
    let missing = carried
        .before
        .is_some_and(|before| carrier.missing > before.missing);
    let repeated = carrier.behind && late > PAUSE_MIN.max(link.interval);
    repeated || (missing && late >= GGRS_RETRY)
}

/// A moment of the player's clock by this peer's.
fn to_ours(theirs: Duration, offset_us: Option<i64>) -> Duration {
    let offset = offset_us.unwrap_or_default();
    let shift = Duration::from_micros(offset.unsigned_abs());
    if offset < 0 {
        theirs + shift
    } else {
        theirs.saturating_sub(shift)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
