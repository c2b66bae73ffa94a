//! The sending half of a link: the paths of the game's packets in each state, and the heartbeats,
//! probes and control messages of each poll.

use std::time::Duration;

use super::{IDLE_EPOCH, Link, MAX_PAYLOAD, Out, SentBy, Transmit};
use crate::{
    route::{RouteCause, RouteChange, RouteState},
    wire::{DatagramKind, Echo, HEADER_LEN, Header, Path, wrap_micros},
};

/// Interval of probes on an idle path: one a second keeps its round trip known and its echo fresh.
const PROBE: Duration = Duration::from_secs(1);
/// Interval of probes while it matters whether a path works: five a second, so that a failover does
/// not wait for one.
const PROBE_URGENT: Duration = Duration::from_millis(200);
/// How long a direct path may be silent after a failback: above any playable round trip.
const RETURN_GRACE: Duration = Duration::from_millis(500);
/// Route changes kept until the caller drains them: more than a session makes.
const CHANGES_MAX: usize = 256;
/// Control payloads per poll, so that a full queue of 16 is spread over four ticks.
const CONTROL_PER_POLL: usize = 4;
/// Decisions in a row: no rule leads in a circle, and the longest chain is shorter.
const DECISIONS_MAX: usize = 4;
/// Longest time that a stamp is echoed after: the header's two bytes in steps of 16 us.
const ECHO_HOLD_MAX: Duration = Duration::from_millis(1_048);

impl Link {
    /// Sends one packet of the game on the path or paths of the route, and returns those that took
    /// it. `newest_input` states that it carries the newest local input: it is kept, and sent again
    /// at once when a path is added. Nothing is sent outside an episode, or of an empty payload or
    /// one above [`MAX_PAYLOAD`].
    pub fn send_data(
        &mut self,
        now: Duration,
        payload: &[u8],
        newest_input: bool,
        out: &mut Out<'_>,
    ) -> SentBy {
        self.enter(now);
        let mut by = SentBy::default();
        if self.episode.is_none() || payload.is_empty() || payload.len() > MAX_PAYLOAD {
            self.stats.unsent += 1;
            return by;
        }
        let seq = self.next_data_seq();
        if newest_input {
            self.newest_input.payload.clear();
            self.newest_input.payload.extend_from_slice(payload);
            self.newest_input.seq = seq;
            self.newest_input.present = true;
            self.newest_input.sent_as = [None; 2];
        }
        let (direct, relay) = self.send_paths();
        if direct {
            by.direct = self.transmit(now, Path::Direct, DatagramKind::Data, seq, payload, out);
            if !by.direct {
                // A packet that the direct path refused goes by relay in the same call.
                let resent = self.decide(now, true, out);
                by.relay = resent && newest_input;
            }
        }
        if !by.relay && (relay || (direct && !by.direct && self.send_paths().1)) {
            by.relay = self.transmit(now, Path::Relay, DatagramKind::Data, seq, payload, out);
        }
        self.sent_since_poll |= by.direct || by.relay;
        if by.direct || by.relay {
            self.last_flow = Some(now);
            self.quiet = false;
        } else {
            self.stats.unsent += 1;
        }
        by
    }

    /// Runs one tick, after everything that arrived was received: decides the route, and sends
    /// heartbeats, probes, control messages, and the newest input again where a path was added.
    pub fn poll(&mut self, now: Duration, out: &mut Out<'_>) {
        self.enter(now);
        self.cadence.poll(now);
        self.count_both_paths(now);
        self.expect_acks();
        self.decide(now, false, out);
        self.send_heartbeat(now, out);
        self.send_control_due(now, out);
        self.send_probes(now, out);
        self.sent_since_poll = false;
        self.last_poll = Some(now);
        self.refresh_stats();
    }

    /// Which of (direct, relay) carry game packets now.
    pub(super) fn send_paths(&self) -> (bool, bool) {
        let direct = self.direct_open && self.settings.policy.directs();
        let relay = self.relay_up;
        match self.router.state() {
            RouteState::Connecting => (false, false),
            RouteState::Provisional | RouteState::Relay => (false, relay),
            RouteState::Direct => (direct, false),
            RouteState::Suspect => (direct, self.relay_echoes() && !self.peer_is_silent()),
            RouteState::Survival => (direct, relay),
        }
    }

    /// Judges until nothing is left to decide; returns whether the newest input was sent by relay.
    pub(super) fn decide(&mut self, now: Duration, send_failed: bool, out: &mut Out<'_>) -> bool {
        let before = self.carried;
        let mut failed = send_failed;
        for _ in 0..DECISIONS_MAX {
            let evidence = self.evidence(now, failed);
            failed = false;
            let Some(change) = self.router.judge(now, &evidence) else {
                break;
            };
            self.apply_change(now, change);
        }
        let after = self.send_paths();
        self.carried = after;
        if self.episode.is_none() || !self.newest_input.present {
            return false;
        }
        // An added path lacks the packets before it: the newest input packet holds all
        // unacknowledged inputs, so one packet catches up. ggrs itself would wait for 200 ms.
        if after.0 && !before.0 {
            self.resend(now, Path::Direct, out);
        }
        after.1 && !before.1 && self.resend(now, Path::Relay, out)
    }

    fn apply_change(&mut self, now: Duration, change: RouteChange) {
        if change.to.failed_over() {
            self.relay_grace = self.cadence.awake(now);
        }
        if change.cause == RouteCause::Returned {
            // The peer fails back half a round trip later: until then it sends one probe a second.
            self.direct_grace = self.cadence.awake(now) + RETURN_GRACE;
        }
        self.record_shift(&change);
        self.record_suspicion(&change);
        self.last_change = Some(change);
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
    }

    /// Sends the newest input again.
    fn resend(&mut self, now: Duration, path: Path, out: &mut Out<'_>) -> bool {
        let payload = std::mem::take(&mut self.newest_input.payload);
        let seq = self.newest_input.seq;
        let sent = self.transmit(now, path, DatagramKind::Data, seq, &payload, out);
        self.newest_input.payload = payload;
        self.stats.resent_inputs += u64::from(sent);
        sent
    }

    /// A header alone when the game has sent nothing for one interval, so that silence means loss.
    fn send_heartbeat(&mut self, now: Duration, out: &mut Out<'_>) {
        if self.episode.is_none() {
            if self.exit_headers > 0 {
                self.exit_headers -= 1;
                self.send_header(now, out);
            }
            return;
        }
        // A link that polls more often than that owes a packet per interval, not per poll, and the game
        // may still send in time: a first heartbeat waits for one poll more.
        let beat = self.beat();
        let poll = self.cadence.interval();
        let patience = if self.quiet || poll * 4 >= beat * 3 {
            beat * 3 / 4
        } else {
            beat + poll
        };
        let owed = self
            .last_flow
            .is_none_or(|last| now.saturating_sub(last) >= patience);
        if !owed || self.sent_since_poll {
            return;
        }
        if self.input_overdue(now) {
            self.repeat_input(now, out);
        } else {
            self.send_header(now, out);
        }
        self.last_flow = Some(now);
        self.sent_since_poll = true;
        self.quiet = true;
    }

    /// Whether the newest input should have been acknowledged by now. ggrs would repeat it after
    /// 200 ms without an input of the peer; of two stalled games one can reset that timer of the
    /// other again and again, and both stall for seconds after the path recovered.
    fn input_overdue(&self, now: Duration) -> bool {
        let input = &self.newest_input;
        let arrived = Path::ALL.into_iter().any(|path| {
            input.sent_as[path.index()]
                .is_some_and(|seq| self.paths[path.index()].sent.confirmed(seq))
        });
        let age = self.cadence.awake(now).saturating_sub(input.at);
        input.present && !arrived && age > self.unacked_limit(self.interval())
    }

    fn repeat_input(&mut self, now: Duration, out: &mut Out<'_>) {
        let (direct, relay) = self.send_paths();
        if direct && !self.resend(now, Path::Direct, out) {
            self.decide(now, true, out);
        }
        if relay {
            self.resend(now, Path::Relay, out);
        }
        // If no path took it, the next attempt waits as well.
        self.newest_input.at = self.cadence.awake(now);
    }

    /// Sends a heartbeat on the path or paths of the route.
    fn send_header(&mut self, now: Duration, out: &mut Out<'_>) {
        let (direct, relay) = self.send_paths();
        let seq = self.next_data_seq();
        if direct && !self.transmit(now, Path::Direct, DatagramKind::Heartbeat, seq, &[], out) {
            self.decide(now, true, out);
        }
        if relay {
            self.transmit(now, Path::Relay, DatagramKind::Heartbeat, seq, &[], out);
        }
    }

    fn send_probes(&mut self, now: Duration, out: &mut Out<'_>) {
        // Before an episode frequent probes are cheap, and the round trips become accurate.
        let urgent = self.episode.is_none()
            || !matches!(self.router.state(), RouteState::Direct | RouteState::Relay);
        for path in Path::ALL {
            let (open, calm) = match path {
                // After a failover the direct path carries one probe a second and no more.
                Path::Direct => (self.direct_open, self.router.state().failed_over()),
                Path::Relay => (self.relay_up, false),
            };
            let every = if urgent && !calm { PROBE_URGENT } else { PROBE };
            // A probe that arrives on a quiet path is answered at once, so that its echo is fresh at
            // any frame rate; one that crossed ours waits.
            let probed = self.stamps[path.index()].map(|(_, at)| at);
            let due = self.last_sent[path.index()].is_none_or(|last| {
                now.saturating_sub(last) >= every
                    || probed.is_some_and(|at| at.saturating_sub(last) >= every / 2)
            });
            if open && due {
                let seq = self.data_seq;
                self.transmit(now, path, DatagramKind::Probe, seq, &[], out);
            }
        }
    }

    fn send_control_due(&mut self, now: Duration, out: &mut Out<'_>) {
        if !self.direct_open && !self.relay_up {
            return;
        }
        let rtt = self.srtt().unwrap_or_default();
        for _ in 0..CONTROL_PER_POLL {
            let Some(payload) = self.control.poll(now, rtt) else {
                return;
            };
            let seq = self.data_seq;
            if self.direct_open {
                self.transmit(now, Path::Direct, DatagramKind::Control, seq, &payload, out);
            }
            if self.relay_up {
                self.transmit(now, Path::Relay, DatagramKind::Control, seq, &payload, out);
            }
        }
    }

    fn next_data_seq(&mut self) -> u16 {
        self.data_seq = self.data_seq.wrapping_add(1);
        self.data_seq
    }

    /// Sends one datagram on one path; returns whether the path took it.
    fn transmit(
        &mut self,
        now: Duration,
        path: Path,
        kind: DatagramKind,
        data_seq: u16,
        payload: &[u8],
        out: &mut Out<'_>,
    ) -> bool {
        let awake = self.cadence.awake(now);
        let stamp = wrap_micros(now);
        let header = Header {
            degraded: self.router.degraded(),
            failed_over: self.router.announces_failover(now),
            hidden: self.hidden,
            interval: Some(self.advertised()),
            tick_interval: self.game.interval(),
            tick_age: self.game.age(now),
            epoch: self.episode.map_or(IDLE_EPOCH, |episode| episode.epoch),
            data_seq,
            number: low_32(self.paths[path.index()].sent.next_number()),
            acks: [self.paths[0].received.ack(), self.paths[1].received.ack()],
            silence: self.silence(Path::Direct, awake),
            sent: stamp,
            echo: self.echo(now, path),
            ..Header::new(kind)
        };
        let len = HEADER_LEN + payload.len();
        let (head, body) = self
            .buffer
            .split_first_chunk_mut::<HEADER_LEN>()
            .expect("the buffer holds a datagram");
        header.encode(head);
        body[..payload.len()].copy_from_slice(payload);

        let transmit = Transmit {
            path,
            kind,
            bytes: &self.buffer[..len],
        };
        if out(transmit).is_err() {
            self.stats.count_refused(path);
            if path == Path::Direct {
                self.last_refusal = Some(awake);
                self.refusals.record(awake);
            }
            return false;
        }
        self.stats.count_sent(path, kind, len);
        self.last_sent[path.index()] = Some(now);
        if kind == DatagramKind::Data && data_seq == self.newest_input.seq {
            self.newest_input.sent_as[path.index()] = Some(header.number);
            self.newest_input.at = awake;
        }
        self.paths[path.index()].sent.record(awake, stamp);
        true
    }

    /// Every path echoes itself: an echo over the other path would measure neither of them.
    fn echo(&self, now: Duration, path: Path) -> Option<Echo> {
        self.stamps[path.index()]
            .map(|(sent, at)| Echo {
                sent,
                hold: now.saturating_sub(at),
            })
            .filter(|echo| echo.hold < ECHO_HOLD_MAX)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the wire carries the low 32 bits; expand_number restores the rest"
)]
const fn low_32(number: u64) -> u32 {
    number as u32
}
