//! The receiving half of a link: validation of datagrams, de-duplication, and the measurements that
//! headers carry.

use std::time::Duration;

use super::{Incoming, Link, LinkError, PeerView, frame, micros};
use crate::wire::{
    ControlMessage, DatagramKind, Echo, Header, Path, clock::ClockAnswer, seq_diff32,
    unwrap_micros, wrap_micros,
};

/// Longest time that an answer to a clock query may take, in microseconds: the round trip of a slower
/// one bounds the offset less than headers do, and its stamp could be of another wrap.
const ANSWER_MAX_US: u32 = 10_000_000;

impl Link {
    /// Receives one datagram of `path`. Call it for everything that arrived, then [`Link::poll`],
    /// which decides.
    ///
    /// `now` is the time of the tick that reads the datagram, on both paths: the rules compare delays
    /// of the two paths, and a path whose packets are stamped by an I/O task as they arrive would
    /// look faster by half a tick. Such a stamp belongs into
    /// [`cause::Arrival::at`](crate::cause::Arrival::at).
    ///
    /// # Errors
    /// [`LinkError`] when the datagram was dropped. It changes nothing but its counter then.
    pub fn receive<'a>(
        &mut self,
        now: Duration,
        path: Path,
        datagram: &'a [u8],
    ) -> Result<Incoming<'a>, LinkError> {
        self.receive_stamped(now, now, path, datagram)
    }

    /// The same for a datagram that a task of its own read and stamped at `arrived`, before this poll.
    /// Round trips and the peer's clock are measured without its wait for the poll; the paths are
    /// judged by `now`, as those are whose packets carry no stamp.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_stamped<'a>(
        &mut self,
        now: Duration,
        arrived: Duration,
        path: Path,
        datagram: &'a [u8],
    ) -> Result<Incoming<'a>, LinkError> {
        let arrived = arrived.min(now);
        self.enter(now);
        let (header, payload, messages) = match self.admit(datagram) {
            Ok(admitted) => admitted,
            Err(error) => {
                self.count_malformed(path, error.reason());
                return Err(error);
            }
        };
        let stats = &mut self.stats.paths[path.index()];
        stats.received += 1;
        stats.bytes_received += datagram.len() as u64;
        let sent_at = self.record_header(now, arrived, path, &header);
        let in_flow = matches!(header.kind, DatagramKind::Data | DatagramKind::Heartbeat)
            && self
                .episode
                .is_some_and(|episode| episode.epoch == header.epoch);
        if in_flow {
            let tick = self.peer_tick_interval(&header);
            let held = self.cadence.stalling(now);
            self.flow.record(&header, sent_at, tick, held);
        }
        Ok(match header.kind {
            DatagramKind::Data => {
                let running = self.episode.map(|episode| episode.epoch);
                if running != Some(header.epoch) {
                    self.stats.epoch_dropped += 1;
                    return Ok(Incoming::OtherEpoch);
                }
                if !self.dedupe.first(header.data_seq) {
                    self.stats.duplicate_data += 1;
                    return Ok(Incoming::Duplicate);
                }
                match path {
                    Path::Direct => self.stats.first_by_direct += 1,
                    Path::Relay => self.stats.first_by_relay += 1,
                }
                self.record_alone(path, sent_at);
                Incoming::Data { payload, via: path }
            }
            DatagramKind::Heartbeat => {
                if self.dedupe.first(header.data_seq) {
                    self.record_alone(path, sent_at);
                }
                Incoming::Nothing
            }
            DatagramKind::Probe => Incoming::Nothing,
            DatagramKind::Control => Incoming::Control(messages),
        })
    }

    /// Validates a datagram before it changes anything.
    fn admit<'a>(
        &mut self,
        datagram: &'a [u8],
    ) -> Result<(Header, &'a [u8], Vec<ControlMessage>), LinkError> {
        let (header, payload) = Header::decode(datagram)?;
        for path in Path::ALL {
            self.paths[path.index()]
                .sent
                .check(header.acks[path.index()])
                .map_err(|_| LinkError::AckBeyondSent)?;
        }
        let messages = if header.kind == DatagramKind::Control {
            self.control.on_received(payload)?
        } else {
            Vec::new()
        };
        Ok((header, payload, messages))
    }

    /// Takes in what every header tells; returns its `sent`, unwrapped.
    fn record_header(
        &mut self,
        now: Duration,
        arrived: Duration,
        path: Path,
        header: &Header,
    ) -> Duration {
        let awake = self.cadence.awake(now);
        let late_after = self.calm_limit();
        let sent_at = if self.peer.received {
            unwrap_micros(self.peer.clock, header.sent)
        } else {
            Duration::from_micros(u64::from(header.sent))
        };

        // Packets drained at the end of an own stall waited here, not on the path.
        let stalling = self.cadence.stalling(now);
        let late = self.cadence.late(now, frame(self.settings.fps));
        let health = &mut self.paths[path.index()];
        let came = micros(now) - micros(sent_at);
        let usual = health.delay.min_over(now, 1).unwrap_or(came);
        let transit = without_waiting(came, late, usual);
        let on_time = stalling || transit <= usual.saturating_add(micros(late_after));
        if !stalling {
            health.delay.add(now, transit);
        }
        if path == Path::Relay && !on_time {
            self.both_paths.relay_was_late();
        }
        if health.received.record(header.number, awake, on_time) {
            self.stamps[path.index()] = Some((header.sent, arrived));
        }

        if let Some(echo) = header.echo.filter(|_| !stalling) {
            // How long a stamped packet waited here is known, and not in the measurement.
            let late = if arrived < now { Duration::ZERO } else { late };
            self.record_echo(arrived, sent_at, header, path, echo, late);
        }
        for path in Path::ALL {
            self.paths[path.index()]
                .sent
                .confirm(header.acks[path.index()], awake);
        }

        if path == Path::Direct {
            self.relay_alone = 0;
            self.peer_pauses.record(now, header, sent_at);
            self.direct_clock = self.direct_clock.max(sent_at);
        }
        if !self.peer.received || seq_diff32(header.sent, wrap_micros(self.peer.clock)) >= 0 {
            if self.peer.hidden && !header.hidden {
                self.direct_grace = awake;
                self.relay_grace = awake;
            }
            self.peer = PeerView {
                received: true,
                clock: sent_at,
                interval: header.interval,
                tick_interval: header.tick_interval,
                degraded: header.degraded,
                // Monotone, unless failback is allowed.
                failed_over: header.failed_over
                    || (self.peer.failed_over && !self.router.returns()),
                hidden: header.hidden,
                epoch: header.epoch,
            };
        }
        if let Some(episode) = &mut self.episode
            && header.epoch == episode.epoch
        {
            episode.received.get_or_insert(awake);
            episode.received_direct |= path == Path::Direct;
        }
        sent_at
    }

    /// Adds a round-trip sample from an echo: of the newest confirmed packet of a path, with its own
    /// stamp, over the same path, and once. No other echo can move the round trip.
    fn record_echo(
        &mut self,
        now: Duration,
        sent_at: Duration,
        header: &Header,
        path: Path,
        echo: Echo,
        late: Duration,
    ) {
        let index = path.index();
        let health = &mut self.paths[index];
        if self.sampled[index] == Some(echo.sent)
            || !health.sent.stamped(header.acks[index], echo.sent)
        {
            return;
        }
        let elapsed = now.saturating_sub(unwrap_micros(now, echo.sent));
        let Some(rtt) = elapsed.checked_sub(echo.hold) else {
            return;
        };
        self.sampled[index] = Some(echo.sent);
        let usual = if health.rtt.samples > 0 {
            health.rtt.min
        } else {
            rtt
        };
        let without = without_waiting(micros(rtt), late, micros(usual));
        health
            .rtt
            .add(Duration::from_micros(without.unsigned_abs()));

        // RFC 5905's four timestamps; the bounds of an offset hold for the whole round trip alone.
        let (t1, t4) = (micros(now) - micros(elapsed), micros(now));
        let (t2, t3) = (micros(sent_at) - micros(echo.hold), micros(sent_at));
        self.clock.add([t1, t2, t3, t4]);
    }

    /// Adds the answer to a clock query, which was received at `received_at`, to the
    /// [clock estimate](Self::clock_offset). Round trips and routes do not use it, because it waits
    /// for no tick, as game packets do.
    pub fn record_clock(&mut self, answer: ClockAnswer, received_at: Duration) {
        // The first header defines the origin of the peer's stamps.
        if !self.peer.received {
            return;
        }
        let whole = wrap_micros(received_at).wrapping_sub(answer.asked);
        let hold = answer.answered.wrapping_sub(answer.received);
        if whole > ANSWER_MAX_US || hold > whole {
            return;
        }
        let (t4, t3) = (
            micros(received_at),
            micros(unwrap_micros(self.peer.clock, answer.answered)),
        );
        self.clock.set_their_step(answer.step_us);
        self.clock
            .add([t4 - i64::from(whole), t3 - i64::from(hold), t3, t4]);
    }

    /// Counts ticks of the peer received by relay alone. Only packets sent after everything that
    /// arrived directly count: a relay slower than the direct path proves nothing.
    fn record_alone(&mut self, path: Path, sent_at: Duration) {
        let apart = self.interval() / 2;
        if path == Path::Relay
            && sent_at > self.direct_clock
            && (self.relay_alone == 0 || sent_at >= self.alone_clock + apart)
        {
            self.relay_alone = self.relay_alone.saturating_add(1);
            self.alone_clock = sent_at;
        }
    }
}

/// A time in microseconds less the wait for a late poll of ours. The wait may have been shorter, so
/// the result is at least `usual`, unless the time itself is below that.
fn without_waiting(time: i64, late: Duration, usual: i64) -> i64 {
    (time - micros(late)).max(usual.min(time))
}
