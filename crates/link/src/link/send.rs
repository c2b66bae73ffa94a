//! The sending half of a link: game packets, and what each poll sends besides.
//!
//! Owns which paths carry a packet in each state. Never decides the state.

use std::time::Duration;

use super::{
    Echo, Header, IDLE_EPOCH, Kind, Link, MAX_PAYLOAD, Out, Path, SentBy, Transmit, frame,
};
use crate::{
    route::{RouteCause, RouteState},
    wire::{HEADER_LEN, wrap_micros},
};

/// Probes of an idle path: one a second keeps its round trip known and its echo fresh.
const PROBE: Duration = Duration::from_secs(1);
/// Probes while it matters whether a path works: the doubt should not wait for a second.
const PROBE_URGENT: Duration = Duration::from_millis(200);
/// How long a direct path may be silent after a return: above any round trip that plays well.
const RETURN_GRACE: Duration = Duration::from_millis(500);
/// Decisions kept while nobody drains them.
const CHANGES_MAX: usize = 256;
/// Control payloads per poll, so that a full queue does not burst.
const CONTROL_PER_POLL: usize = 4;

impl Link {
    /// Sends one packet of the game on the path or paths of the route. `newest_input` says that it
    /// carries the newest local input: it is kept, to be sent again at once when a path is added.
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
            self.newest_input.went = [None; 2];
        }
        let (direct, relay) = self.carriers();
        if direct {
            by.direct = self.transmit(now, Path::Direct, Kind::Data, seq, payload, out);
            if !by.direct {
                // What could not go directly goes by relay in the same call.
                let resent = self.decide(now, true, out);
                by.relay = resent && newest_input;
            }
        }
        if !by.relay && (relay || (direct && !by.direct && self.carriers().1)) {
            by.relay = self.transmit(now, Path::Relay, Kind::Data, seq, payload, out);
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

    /// One tick, after everything due was received: decides the route, and sends heartbeats,
    /// probes, control messages, and the newest input again where a path was added.
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
    pub(super) fn carriers(&self) -> (bool, bool) {
        let direct = self.direct_open && self.settings.policy.directs();
        let relay = self.relay_up;
        match self.router.state() {
            RouteState::Connecting => (false, false),
            RouteState::Provisional | RouteState::Relay => (false, relay),
            RouteState::Direct => (direct, false),
            RouteState::Suspect => (direct, self.relay_echoes()),
            RouteState::Survival => (direct, relay),
        }
    }

    /// Judges until nothing is left to decide; returns whether the newest input went by relay.
    pub(super) fn decide(&mut self, now: Duration, send_failed: bool, out: &mut Out<'_>) -> bool {
        let before = self.carried;
        let mut failed = send_failed;
        // No rule leads in a circle; the bound only says so.
        for _ in 0..4 {
            let evidence = self.evidence(now, failed);
            failed = false;
            let Some(change) = self.router.judge(now, &evidence) else {
                break;
            };
            if change.to.failed_over() {
                self.relay_grace = self.cadence.awake(now);
            }
            if change.cause == RouteCause::Returned {
                // The peer returns one way later: until then it sends one probe a second.
                self.direct_grace = self.cadence.awake(now) + RETURN_GRACE;
            }
            self.record_shift(&change);
            self.last_change = Some(change);
            // Drained every tick; the bound only holds memory while nobody does.
            if self.changes.len() >= CHANGES_MAX {
                self.changes.pop_front();
            }
            self.changes.push_back(change);
        }
        let after = self.carriers();
        self.carried = after;
        if self.episode.is_none() || !self.newest_input.present {
            return false;
        }
        // An added path is behind by what it did not carry: the newest input packet holds all
        // unacknowledged inputs, so one packet catches up. ggrs itself would wait for 200 ms.
        if after.0 && !before.0 {
            self.resend(now, Path::Direct, out);
        }
        after.1 && !before.1 && self.resend(now, Path::Relay, out)
    }

    fn resend(&mut self, now: Duration, path: Path, out: &mut Out<'_>) -> bool {
        let payload = std::mem::take(&mut self.newest_input.payload);
        let seq = self.newest_input.seq;
        let sent = self.transmit(now, path, Kind::Data, seq, &payload, out);
        self.newest_input.payload = payload;
        self.stats.resent_inputs += u64::from(sent);
        sent
    }

    /// A header alone in every tick in which the game sent nothing, so that silence means loss.
    fn send_heartbeat(&mut self, now: Duration, out: &mut Out<'_>) {
        if self.episode.is_none() {
            if self.exit_wait > 0 {
                self.exit_wait -= 1;
                self.flow_header(now, out);
            }
            return;
        }
        // An app that draws at 144 Hz and plays at 60 owes a packet per frame, not per poll, and
        // its game may still send in this very poll: a first heartbeat waits for one poll more.
        let frame = frame(self.settings.fps);
        let poll = self.cadence.interval();
        let patience = if self.quiet || poll * 4 >= frame * 3 {
            frame * 3 / 4
        } else {
            frame + poll
        };
        let owed = self
            .last_flow
            .is_none_or(|last| now.saturating_sub(last) >= patience);
        if owed && !self.sent_since_poll {
            if self.input_overdue(now) {
                self.repeat_input(now, out);
            } else {
                self.flow_header(now, out);
            }
            self.last_flow = Some(now);
            self.sent_since_poll = true;
            self.quiet = true;
        }
    }

    /// Whether the newest input should have been acknowledged by now. ggrs would repeat it after
    /// 200 ms without an input of the peer; of two stalled games one can reset that clock of the
    /// other again and again, and both stand still for seconds after the path came back.
    fn input_overdue(&self, now: Duration) -> bool {
        let input = &self.newest_input;
        let arrived = Path::ALL.into_iter().any(|path| {
            input.went[path.index()].is_some_and(|seq| self.paths[path.index()].sent.confirmed(seq))
        });
        let age = self.cadence.awake(now).saturating_sub(input.at);
        input.present && !arrived && age > self.unacked_limit(self.interval())
    }

    fn repeat_input(&mut self, now: Duration, out: &mut Out<'_>) {
        let (direct, relay) = self.carriers();
        if direct && !self.resend(now, Path::Direct, out) {
            self.decide(now, true, out);
        }
        if relay {
            self.resend(now, Path::Relay, out);
        }
        // Neither path taking it must not make every tick try again at once.
        self.newest_input.at = self.cadence.awake(now);
    }

    fn flow_header(&mut self, now: Duration, out: &mut Out<'_>) {
        let (direct, relay) = self.carriers();
        let seq = self.next_data_seq();
        if direct && !self.transmit(now, Path::Direct, Kind::Heartbeat, seq, &[], out) {
            self.decide(now, true, out);
        }
        if relay {
            self.transmit(now, Path::Relay, Kind::Heartbeat, seq, &[], out);
        }
    }

    fn send_probes(&mut self, now: Duration, out: &mut Out<'_>) {
        // Before play it is cheap to learn the round trips well.
        let urgent = self.episode.is_none()
            || !matches!(self.router.state(), RouteState::Direct | RouteState::Relay);
        for path in Path::ALL {
            let (open, calm) = match path {
                // After a promotion the direct path is asked once a second and never carries more.
                Path::Direct => (self.direct_open, self.router.state().failed_over()),
                Path::Relay => (self.relay_up, false),
            };
            let every = if urgent && !calm { PROBE_URGENT } else { PROBE };
            // A probe that comes to a quiet path is answered at once, so that its echo is fresh at
            // any frame rate; one that crossed ours waits.
            let asked = self.stamps[path.index()].map(|(_, at)| at);
            let due = self.last_sent[path.index()].is_none_or(|last| {
                now.saturating_sub(last) >= every
                    || asked.is_some_and(|at| at.saturating_sub(last) >= every / 2)
            });
            if open && due {
                let seq = self.data_seq;
                self.transmit(now, path, Kind::Probe, seq, &[], out);
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
                self.transmit(now, Path::Direct, Kind::Control, seq, &payload, out);
            }
            if self.relay_up {
                self.transmit(now, Path::Relay, Kind::Control, seq, &payload, out);
            }
        }
    }

    fn next_data_seq(&mut self) -> u16 {
        self.data_seq = self.data_seq.wrapping_add(1);
        self.data_seq
    }

    /// Puts one datagram on one path; returns whether the path took it.
    fn transmit(
        &mut self,
        now: Duration,
        path: Path,
        kind: Kind,
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
            epoch: self.episode.map_or(IDLE_EPOCH, |episode| episode.epoch),
            data_seq,
            path_seq: self.paths[path.index()].sent.next_seq(),
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

        let stats = &mut self.stats.paths[path.index()];
        let transmit = Transmit {
            path,
            kind,
            bytes: &self.buffer[..len],
        };
        if out(transmit).is_err() {
            stats.send_failures += 1;
            if path == Path::Direct {
                self.stats.direct_send_failures += 1;
                self.last_refusal = Some(awake);
                self.refusals.note(awake);
            }
            return false;
        }
        stats.sent += 1;
        stats.bytes_sent += len as u64;
        if kind == Kind::Data {
            let (packets, bytes) = match path {
                Path::Direct => (
                    &mut self.stats.game_packets_direct,
                    &mut self.stats.game_bytes_direct,
                ),
                Path::Relay => (
                    &mut self.stats.game_packets_relay,
                    &mut self.stats.game_bytes_relay,
                ),
            };
            *packets += 1;
            *bytes += len as u64;
        }
        self.last_sent[path.index()] = Some(now);
        if kind == Kind::Data && data_seq == self.newest_input.seq {
            self.newest_input.went[path.index()] = Some(header.path_seq);
            self.newest_input.at = awake;
        }
        self.paths[path.index()].sent.record(awake, stamp);
        true
    }

    /// Every path echoes itself: what comes back another way measures neither of them.
    fn echo(&self, now: Duration, path: Path) -> Option<Echo> {
        self.stamps[path.index()]
            .map(|(sent, at)| Echo {
                path,
                sent,
                hold: now.saturating_sub(at),
            })
            .filter(|echo| echo.hold < Duration::from_millis(1_048))
    }
}
