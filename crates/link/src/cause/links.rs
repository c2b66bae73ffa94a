//! Owns what is known of every player's link, and the measurement of one late input from it. Pure:
//! the owner of the transport describes the links and hands over every packet of inputs.

use std::time::Duration;

use super::{Arrival, Arrivals, Cause, Evidence, Via, decide};
use crate::frame::{Frame, MAX_PLAYERS};

/// Packets below which nothing is usual yet.
const USUAL_LEAST: usize = 4;
/// Causes that may still change, at once. More are left as they were decided first.
const OPEN_MAX: usize = 64;
/// After this long an overtaken packet is lost, and a dead path would have been left: the router
/// takes 250 ms for that.
const SETTLED: Duration = Duration::from_secs(1);
/// Shortest gap between two packets that is a pause: two frames at 60 Hz.
const PAUSE_MIN: Duration = Duration::from_millis(33);
/// ggrs 0.13 repeats its inputs after 200 ms (`RUNNING_RETRY_INTERVAL`); a tick earlier is as late.
const GGRS_RETRY: Duration = Duration::from_millis(180);
/// How long before its frame was simulated an input may have been sent, when nothing is known of
/// its packet: half of a slow intercontinental round trip, rounded up.
const UNKNOWN_WAY: Duration = Duration::from_millis(150);

/// A route went over from one path to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteShift {
    /// When it was decided, by this peer's clock.
    pub at: Duration,
    /// What the player sent later did not come by the path that was left. By the player's clock.
    pub left: Duration,
}

/// One player's link, as its owner last described it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlayerLink {
    /// The route in use.
    pub via: Via,
    /// The measurements that go into a rollback event, whichever input was late.
    pub evidence: Evidence,
    /// The last change of the route from one path to the other.
    pub shift: Option<RouteShift>,
    /// The player's clock minus this peer's, in microseconds.
    pub offset_us: Option<i64>,
    /// Length of a frame. Zero when it is not known: then no pace is.
    pub frame: Duration,
    /// The expected interval between packets of the player, at least a frame.
    pub interval: Duration,
    /// How much of the way the input delay covers.
    pub covered: Duration,
}

/// An input that was not there when it was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateInput {
    /// Whose.
    pub player: usize,
    /// Of which frame.
    pub frame: Frame,
    /// When the frame was first simulated without it.
    pub due: Duration,
    /// When the correction ran.
    pub corrected: Duration,
}

/// A rollback whose cause may still change.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Open {
    id: u64,
    late: LateInput,
    cause: Cause,
    evidence: Evidence,
}

/// What is known of every player's link; empty for a session without the lab's transport.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkEvidence {
    players: [Option<PlayerLink>; MAX_PLAYERS],
    arrivals: [Arrivals; MAX_PLAYERS],
    open: Vec<Open>,
    /// Something came that may change a cause told before.
    news: bool,
}

impl LinkEvidence {
    /// Describes the link of one player; a handle beyond [`MAX_PLAYERS`] is ignored.
    pub fn set(&mut self, player: usize, link: PlayerLink) {
        if let Some(slot) = self.players.get_mut(player) {
            self.news |= slot.is_some_and(|before| before.shift != link.shift);
            *slot = Some(link);
        }
    }

    /// The link of one player, if anybody described it.
    #[must_use]
    pub fn get(&self, player: usize) -> Option<&PlayerLink> {
        self.players.get(player)?.as_ref()
    }

    /// Takes in the next packet of inputs of a player.
    pub fn arrived(&mut self, player: usize, arrival: Arrival) {
        if let Some(arrivals) = self.arrivals.get_mut(player) {
            self.news |= arrivals.push(arrival);
        }
    }

    /// The direct copy of a packet that had come by relay came too.
    pub fn copied(&mut self, player: usize, seq: u16) {
        if let Some(arrivals) = self.arrivals.get_mut(player) {
            self.news |= arrivals.copy(seq);
        }
    }

    /// Another episode begins for this player: frames count from 0 again.
    pub fn restart(&mut self, player: usize) {
        if let Some(arrivals) = self.arrivals.get_mut(player) {
            arrivals.clear();
        }
    }

    /// Forgets every link, for the next lab session.
    pub fn clear(&mut self) {
        self.players = Default::default();
        self.arrivals.iter_mut().for_each(Arrivals::clear);
        self.settle_all();
    }

    /// No cause told before changes any more: the episode is over.
    pub fn settle_all(&mut self) {
        self.open.clear();
        self.news = false;
    }

    /// Why an input was late, and what that was decided from.
    #[must_use]
    pub fn judge(&self, disconnect: bool, late: &LateInput) -> (Cause, Evidence) {
        let evidence = self.evidence(late).rounded();
        (decide(disconnect, &evidence), evidence)
    }

    /// The same for the rollback with this id; a cause that later packets can change is kept open.
    pub fn judge_rollback(
        &mut self,
        id: u64,
        disconnect: bool,
        late: LateInput,
    ) -> (Cause, Evidence) {
        let (cause, evidence) = self.judge(disconnect, &late);
        self.open
            .retain(|open| late.corrected <= open.late.corrected + SETTLED);
        // A packet that seems lost may come yet, or its whole path was.
        if cause == Cause::PacketLoss && self.open.len() < OPEN_MAX {
            if self.open.capacity() == 0 {
                self.open.reserve_exact(OPEN_MAX);
            }
            self.open.push(Open {
                id,
                late,
                cause,
                evidence,
            });
        }
        (cause, evidence)
    }

    /// Whether something came that may change a cause told before.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.news && !self.open.is_empty()
    }

    /// Whether a cause told before may still change.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        !self.open.is_empty()
    }

    /// Tells every cause that what came meanwhile has changed: the rollback's id, its cause and the
    /// evidence. What is older than a second stays as it is.
    pub fn revise(&mut self, now: Duration, mut tell: impl FnMut(u64, Cause, Evidence)) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        self.open
            .retain(|open| now <= open.late.corrected + SETTLED);
        let mut open = std::mem::take(&mut self.open);
        for case in &mut open {
            let now = self.evidence(&case.late).rounded();
            let cause = decide(false, &now);
            if cause != case.cause && cause != Cause::Unknown {
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
                tell(case.id, cause, case.evidence);
            }
        }
        self.open = open;
    }

    /// The input for which a simulation had to wait from `at` on: the oldest one missing then.
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
    #[must_use]
    pub fn evidence(&self, late: &LateInput) -> Evidence {
        let Some(link) = self.get(late.player) else {
            return Evidence::default();
        };
        let mut evidence = link.evidence;
        let arrivals = &self.arrivals[late.player];
        let Some(carried) = arrivals.carried(late.frame) else {
            let around = late.due.saturating_sub(UNKNOWN_WAY)..=late.corrected;
            let changed = |shift: RouteShift| around.contains(&shift.at);
            evidence.route_changed = link.shift.map(changed);
            return evidence;
        };
        let carrier = carried.carrier;
        // When the input was due to be sent: the pace of the last packet before it, if there is one.
        let due = carried.before.map_or(carrier.sent, |before| {
            let frames = late.frame.saturating_sub(before.newest).unsigned_abs();
            before.sent + link.frame * frames
        });
        let (pause, hidden) = paused(link, late.frame, arrivals, &carried);
        let own_is_first = carrier.newest == late.frame;
        let repeated = own_is_first && pause.is_zero() && is_repeated(link, &carried, due);
        let lost = !carried.own_came || repeated || carrier.alone;

        evidence.route_changed = Some(link.shift.is_some_and(|shift| {
            let sent = due.min(carrier.sent);
            let ours = to_ours(sent, link.offset_us);
            // The player's own route follows one way later.
            let way = link.evidence.rtt_ms.unwrap_or_default().clamp(0.0, 1e4) / 2e3;
            let over = shift.at + Duration::from_secs_f64(way);
            sent > shift.left && ours <= over && late.corrected + SETTLED >= shift.at
        }));
        evidence.peer_hidden = Some(carrier.hidden || hidden);
        evidence.peer_pause_ms = Some(ms(pause));
        evidence.packet_lost = Some(lost);
        evidence.overtaken = Some(!own_is_first && carried.own_came);
        let mut late_ms = (carrier.at.as_secs_f64() - late.due.as_secs_f64()) * 1e3;
        if let Some(usual) = arrivals.usual_us(&carrier, USUAL_LEAST) {
            let mut over = (carrier.transit_us() - usual) as f64 / 1e3;
            if carrier.held {
                // It came while this peer did nothing: as it is not known when, as usual.
                late_ms = (late_ms - over).max(0.0);
                over = 0.0;
            }
            evidence.over_usual_ms = Some(over);
            if let Some(offset) = link.offset_us {
                let way = (usual + offset) as f64 / 1e3;
                evidence.ahead_ms = Some(late_ms + ms(link.covered) - way - over);
            }
        }
        evidence.late_ms = Some(late_ms);
        evidence
    }
}

/// How long the player's game stood still before it sent the input late, zero if it did not; and
/// whether it was hidden meanwhile.
fn paused(
    link: &PlayerLink,
    frame: Frame,
    arrivals: &Arrivals,
    carried: &super::arrivals::Carried,
) -> (Duration, bool) {
    let none = (Duration::ZERO, false);
    if link.frame.is_zero() {
        return none;
    }
    let carrier = &carried.carrier;
    // Sent in the very tick that ended the pause, and later than by the pace before it. What a game
    // makes up for in one tick is late by less and less.
    if let Some(pause) = arrivals.pause_before(carrier.sent) {
        let resuming = carrier.sent <= pause.to + link.interval * 3 / 4;
        let due = arrivals
            .newest_sent_by(pause.from)
            .map(|last| last.sent + link.frame * frame.saturating_sub(last.newest).unsigned_abs());
        if resuming && due.is_none_or(|due| pause.to >= due + link.frame / 2) {
            return (pause.to.saturating_sub(pause.from), pause.hidden);
        }
    }
    // It polled, and its game waited for others: what it would have sent for the frames in between
    // is not missing, it never was.
    let Some(before) = carried.before.filter(|before| before.newest == frame - 1) else {
        return none;
    };
    let later = carrier.newest.saturating_sub(frame).unsigned_abs();
    let gap = carrier.sent.saturating_sub(before.sent);
    let gap = gap.saturating_sub(link.frame * later);
    let waited = gap > PAUSE_MIN.max(link.interval * 5 / 2);
    if waited && !is_repeated(link, carried, before.sent + link.frame) {
        (gap, false)
    } else {
        none
    }
}

/// Whether the packet is one that was sent again for want of an acknowledgement: it has the number
/// of the first one, or comes after ggrs's own wait, and something is missing.
fn is_repeated(link: &PlayerLink, carried: &super::arrivals::Carried, due: Duration) -> bool {
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
