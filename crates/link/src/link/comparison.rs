//! Compares both paths: evidence that the direct path works, but worse than the relay would. The
//! route rules `lossy` and `congested` use it.

use std::time::Duration;

use super::{Link, frame, micros};
use crate::health::StretchQuality;
use crate::wire::Path;

/// Stretch over which the losses of both paths are compared, as far as the rings of
/// [`health`](crate::health) reach: at 60 Hz about two seconds.
const COMPARED: Duration = Duration::from_secs(5);
/// Packets of each path and direction below which a share is not significant: half a second at 30 Hz.
const COMPARED_MIN: u32 = 16;
/// Share of packets that a relay must deliver on time to be preferred.
const RELAY_SHARE: f64 = 0.95;
/// Share by which the relay must lose less than the direct path. Below one packet in twenty the
/// difference does not matter to a player.
const LOSES_LESS: f64 = 0.05;
/// Standard errors by which they must differ: at three, chance decides in one case of 700.
const SIGMAS: f64 = 3.0;
/// How long both paths must have been in use without a late packet over the relay before its losses
/// count as fewer. TCP loses nothing and delivers late instead, 200 ms and more: at one lost segment
/// in two hundred and 60 packets a second, twenty seconds without one happen once in 400 times, and
/// a failover is final.
const RELAY_PROVEN: Duration = Duration::from_secs(20);
/// Full seconds in which the direct path must queue: a shorter queue drains by itself.
const QUEUED_SECONDS: u64 = 3;
/// Frames by which an acknowledgement must be overdue to make its packet slow: ggrs's default
/// prediction window.
const SLOW_FRAMES: u32 = 8;
/// Jitter of polls, there and back: a browser's frame scheduler varies by some 5 ms.
const TWICE_JITTER: Duration = Duration::from_millis(10);

/// The time in which game packets used both paths, by the awake clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BothPaths {
    /// When the current stretch began.
    since: Option<Duration>,
    last: Option<Duration>,
    /// In use since the last late packet over the relay.
    relay_on_time: Duration,
    by_second: [(u64, Duration); 10],
}

impl BothPaths {
    fn record(&mut self, awake: Duration, both: bool) {
        let last = self.last.replace(awake);
        if !both {
            self.since = None;
            return;
        }
        self.since.get_or_insert(awake);
        let span = last.map_or(Duration::ZERO, |last| awake.saturating_sub(last));
        self.relay_on_time += span;
        let second = awake.as_secs() + 1;
        let slot = &mut self.by_second[usize::try_from(second % 10).unwrap_or_default()];
        if slot.0 != second {
            *slot = (second, Duration::ZERO);
        }
        slot.1 += span;
    }

    /// A packet came late over the relay.
    pub(super) const fn relay_was_late(&mut self) {
        self.relay_on_time = Duration::ZERO;
    }

    fn of_10s(&self, awake: Duration) -> Duration {
        let newest = awake.as_secs() + 1;
        self.by_second
            .iter()
            .filter(|(second, _)| *second > 0 && newest.saturating_sub(*second) < 10)
            .map(|(_, span)| *span)
            .sum()
    }
}

impl Link {
    pub(super) fn count_both_paths(&mut self, now: Duration) {
        let Some(last) = self.last_poll else {
            return;
        };
        let both = self.episode.is_some() && self.send_paths() == (true, true);
        if both {
            self.stats.both_paths += now.saturating_sub(last);
        }
        let awake = self.cadence.awake(now);
        self.both_paths.record(awake, both);
    }

    /// How long game packets have used both paths without a break.
    pub(super) fn both_together(&self, awake: Duration) -> Duration {
        let since = self.both_paths.since;
        since.map_or(Duration::ZERO, |since| awake.saturating_sub(since))
    }

    /// How long they did within the last ten seconds.
    pub(super) fn both_of_10s(&self, awake: Duration) -> Duration {
        self.both_paths.of_10s(awake)
    }

    /// Runs of losses on the direct path within the last ten seconds, up to three.
    pub(super) fn loss_runs(&self, awake: Duration) -> usize {
        let start = awake.saturating_sub(Duration::from_secs(10));
        self.paths[0].sent.loss_runs_since(start)
    }

    /// Whether the relay delivers what the direct path loses, and in time.
    ///
    /// Late packets count in favour of the direct path and against the relay. A relay that is slower
    /// by more than `S` would be late for longer than a lost packet is missed, and one whose latency
    /// alone uses up the prediction window would stall every frame: both paths are better then.
    pub(super) fn relay_loses_less(&self, awake: Duration) -> bool {
        if self.both_paths.relay_on_time < RELAY_PROVEN {
            return false;
        }
        let Some((direct_rtt, relay_rtt)) =
            self.path_rtt(Path::Direct).zip(self.path_rtt(Path::Relay))
        else {
            return false;
        };
        let interval = self.interval();
        let slower = relay_rtt.saturating_sub(direct_rtt) / 2;
        let window = self.settings.max_prediction.saturating_sub(1) + self.settings.input_delay;
        if slower > self.calm_limit()
            || relay_rtt / 2 + interval > frame(self.settings.fps) * window
        {
            return false;
        }
        let start = awake.saturating_sub(COMPARED);
        let gap = self.calm_limit();
        let [direct, relay] = Path::ALL.map(|path| {
            let health = &self.paths[path.index()];
            let limit = self.ack_limit(path, interval);
            let came = health.received.quality(start, awake, gap);
            let went = health.sent.quality(start, awake, limit);
            (came, went)
        });
        // The worse direction of each path counts.
        let direct = if direct.0.loss() > direct.1.loss() {
            direct.0
        } else {
            direct.1
        };
        let good = |quality: &StretchQuality| {
            quality.judged >= COMPARED_MIN
                && !quality.two_in_a_row
                && quality.share() >= RELAY_SHARE
        };
        let known = direct.arrived + direct.lost;
        if known < COMPARED_MIN || !good(&relay.0) || !good(&relay.1) {
            return false;
        }
        let (worse, better) = (direct.loss(), 1.0 - relay.0.share().min(relay.1.share()));
        // The standard error of a difference of two shares, taken from their mean.
        let mean = f64::midpoint(worse, better);
        let count = f64::from(known.min(relay.0.judged).min(relay.1.judged));
        let error = (2.0 * mean * (1.0 - mean) / count).sqrt();
        worse - better >= LOSES_LESS.max(SIGMAS * error)
    }

    /// The least queue of the direct path in each of the last three full seconds: its mean delay above
    /// its own minimum of ten seconds, in milliseconds. `None` unless it was also slower than the
    /// relay in each of them.
    pub(super) fn queued_ms(&self, now: Duration) -> Option<f64> {
        let [direct, relay] = &self.paths;
        let floor = direct.delay.min_over(now, 9)?;
        // A tenth of the relay's delay (half its round trip), and the jitter of polls.
        let slower = micros(self.path_rtt(Path::Relay)? / 20) + 5_000;
        let mut least = i64::MAX;
        for second in 0..QUEUED_SECONDS {
            let mean = direct.delay.mean_of_full_second(now, second)?;
            let beside = relay.delay.mean_of_full_second(now, second)?;
            if mean - beside <= slower {
                return None;
            }
            least = least.min(mean - floor);
        }
        Some(least as f64 / 1e3)
    }

    /// How often within a second the direct path delivered packets eight frames too late, while the
    /// relay is faster.
    pub(super) fn slow_acks(&self, awake: Duration) -> usize {
        let rtt = |path| self.path_rtt(path);
        let faster = rtt(Path::Direct)
            .zip(rtt(Path::Relay))
            .is_some_and(|(direct, relay)| relay * 11 / 10 + TWICE_JITTER < direct);
        let second_ago = awake.saturating_sub(Duration::from_secs(1));
        if faster {
            self.paths[0].sent.slow_since(second_ago)
        } else {
            0
        }
    }

    /// Sets which packets count as slow from now on.
    pub(super) fn expect_acks(&mut self) {
        let limit = self.unacked_limit(self.interval());
        let overdue = frame(self.settings.fps) * SLOW_FRAMES;
        self.paths[0].sent.set_slow_after(limit + overdue);
    }
}
