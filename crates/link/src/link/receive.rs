//! The receiving half of a link: what every datagram of the peer tells.
//!
//! Owns admission, de-duplication and the books that headers move. Never decides a route.

use std::time::Duration;

use super::{
    ClockAnswer, ControlMessage, Echo, Header, Incoming, Kind, Link, LinkError, Path, PeerView,
    frame, micros, seq_diff32, unwrap_micros, wrap_micros,
};

/// An answer that took longer says nothing that headers do not say: ten seconds.
const ANSWER_MAX_US: u32 = 10_000_000;

impl Link {
    /// Takes in one datagram that arrived on `path`. Never decides: that is for [`Link::poll`],
    /// after everything due was taken in.
    ///
    /// # Errors
    /// Says why the datagram was dropped. Such a datagram changes nothing but its counter.
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
                let malformed = &mut self.stats.paths[path.index()].malformed;
                *malformed.entry(error.reason()).or_default() += 1;
                return Err(error);
            }
        };
        let stats = &mut self.stats.paths[path.index()];
        stats.received += 1;
        stats.bytes_received += datagram.len() as u64;
        let sent_at = self.record_header(now, arrived, path, &header);
        let in_flow = matches!(header.kind, Kind::Data | Kind::Heartbeat)
            && self
                .episode
                .is_some_and(|episode| episode.epoch == header.epoch);
        if in_flow {
            let interval = self.interval();
            let held = self.cadence.stalling(now);
            self.flow.note(&header, sent_at, interval, held);
        }
        Ok(match header.kind {
            Kind::Data => {
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
            Kind::Heartbeat => {
                if self.dedupe.first(header.data_seq) {
                    self.record_alone(path, sent_at);
                }
                Incoming::Nothing
            }
            Kind::Probe => Incoming::Nothing,
            Kind::Control => Incoming::Control(messages),
        })
    }

    /// Everything that can be refused is refused here, before anything is changed.
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
        let messages = if header.kind == Kind::Control {
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
        let sent_at = if self.peer.heard {
            unwrap_micros(self.peer.clock, header.sent)
        } else {
            Duration::from_micros(u64::from(header.sent))
        };

        // What was drained at the end of an own hitch waited here, not on the path.
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
        if health.received.record(header.path_seq, awake, on_time) {
            self.stamps[path.index()] = Some((header.sent, arrived));
        }

        if let Some(echo) = header.echo.filter(|echo| !stalling && echo.path == path) {
            // How long a stamped packet waited here is known, and not in the measurement.
            let late = if arrived < now { Duration::ZERO } else { late };
            self.record_echo(arrived, sent_at, header, echo, late);
        }
        for path in Path::ALL {
            self.paths[path.index()]
                .sent
                .confirm(header.acks[path.index()], awake);
        }

        if path == Path::Direct {
            self.relay_alone = 0;
            self.direct_clock = self.direct_clock.max(sent_at);
        }
        if !self.peer.heard || seq_diff32(header.sent, wrap_micros(self.peer.clock)) >= 0 {
            if self.peer.hidden && !header.hidden {
                self.direct_grace = awake;
                self.relay_grace = awake;
            }
            self.peer = PeerView {
                heard: true,
                clock: sent_at,
                interval: header.interval,
                degraded: header.degraded,
                // Monotone, unless the policy allows a return.
                failed_over: header.failed_over
                    || (self.peer.failed_over && !self.router.returns()),
                hidden: header.hidden,
                epoch: header.epoch,
                silence: header.silence,
            };
        }
        if let Some(episode) = &mut self.episode
            && header.epoch == episode.epoch
        {
            episode.heard.get_or_insert(awake);
            episode.heard_direct |= path == Path::Direct;
        }
        sent_at
    }

    /// Only the newest confirmed packet of a path, with the very stamp it was sent with, echoed over
    /// the same path, and only once, gives a sample: nothing else can move the round trip.
    fn record_echo(
        &mut self,
        now: Duration,
        sent_at: Duration,
        header: &Header,
        echo: Echo,
        late: Duration,
    ) {
        let index = echo.path.index();
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

    /// Takes in what the peer's clock said outside its ticks. Routes and round trips do not move: no
    /// game packet takes so little time.
    pub fn record_clock(&mut self, answer: ClockAnswer, received_at: Duration) {
        // Headers say from where on the peer's stamps count.
        if !self.peer.heard {
            return;
        }
        let whole = wrap_micros(received_at).wrapping_sub(answer.asked);
        let hold = answer.answered.wrapping_sub(answer.heard);
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

    /// Counts ticks of the peer that were heard by relay alone. Only what was sent after
    /// everything that came directly counts: a relay slower than the direct path proves nothing.
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

/// A time in microseconds without what may have been waiting for a late poll of ours. It may have
/// waited for less: what was not longer than `usual` anyway says nothing new about the path.
fn without_waiting(time: i64, late: Duration, usual: i64) -> i64 {
    (time - micros(late)).max(usual.min(time))
}
