//! When a silent websocket is probed, and when it is given up. No clock and no I/O.

use std::time::Duration;

/// How often the driver checks.
pub(super) const CHECK_EVERY: Duration = Duration::from_millis(100);
/// Silence after which the server is asked for a sign of life. While a match uses the relay something
/// comes more often than that.
const PROBE_AFTER: Duration = Duration::from_millis(300);
/// Time without anything after a probe after which the websocket is given up. A new one costs two or three
/// round trips; TCP's own repetitions would take seconds.
const DEAD_AFTER: Duration = Duration::from_secs(1);
/// Checks after a probe before which no websocket is given up: after a stall of this process the first
/// check comes late, and before what has arrived meanwhile was read.
const CHECKS: u32 = 3;

/// Watches one websocket.
#[derive(Debug)]
pub(super) struct Liveness {
    activity: Duration,
    probed: Option<Probed>,
}

#[derive(Debug)]
struct Probed {
    at: Duration,
    checks: u32,
}

/// What is to be done after a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Wait,
    /// Send a probe.
    Probe,
    /// Replace the websocket.
    Dead,
}

impl Liveness {
    /// Watches a websocket that was opened at `now`.
    pub(super) fn new(now: Duration) -> Self {
        Self {
            activity: now,
            probed: None,
        }
    }

    /// Something came, whatever it is.
    pub(super) fn activity(&mut self, now: Duration) {
        self.activity = now;
        self.probed = None;
    }

    /// Decides at one of the checks.
    pub(super) fn check(&mut self, now: Duration) -> Verdict {
        match &mut self.probed {
            None if now.saturating_sub(self.activity) < PROBE_AFTER => Verdict::Wait,
            None => {
                self.probed = Some(Probed { at: now, checks: 0 });
                Verdict::Probe
            }
            Some(probed) => {
                probed.checks += 1;
                let dead = now.saturating_sub(probed.at) >= DEAD_AFTER && probed.checks >= CHECKS;
                if dead { Verdict::Dead } else { Verdict::Wait }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Checks at these times, in milliseconds, after something came at 0.
    fn verdicts(at: &[u32]) -> Vec<(u32, Verdict)> {
        let mut liveness = Liveness::new(Duration::ZERO);
        at.iter()
            .map(|&ms| (ms, liveness.check(ms * MS)))
            .filter(|(_, verdict)| *verdict != Verdict::Wait)
            .collect()
    }

    #[test]
    fn a_silent_websocket_is_probed_and_given_up_a_second_later() {
        let every: Vec<u32> = (1..=14).map(|check| check * 100).collect();
        let expected = [(300, Verdict::Probe), (1_300, Verdict::Dead)];
        assert_eq!(verdicts(&every)[..2], expected);
    }

    #[test]
    fn an_answer_in_time_keeps_it() {
        let mut liveness = Liveness::new(Duration::ZERO);
        for ms in (100..60_000).step_by(100) {
            let verdict = liveness.check(ms * MS);
            assert_ne!(verdict, Verdict::Dead, "{ms}");
            if verdict == Verdict::Probe {
                // A round trip just below the limit.
                liveness.activity((ms + 999) * MS);
            }
        }
    }

    #[test]
    fn a_stall_of_this_process_gives_no_websocket_up_before_what_came_is_read() {
        assert_eq!(
            verdicts(&[300, 3_300, 3_301, 3_400]),
            [(300, Verdict::Probe), (3_400, Verdict::Dead)]
        );
        assert_eq!(
            verdicts(&[100, 3_300, 3_400]),
            [(3_300, Verdict::Probe)],
            "a stall before any probe is no silence of the server"
        );
    }

    #[test]
    fn a_page_whose_timers_run_once_a_second_takes_three_of_them() {
        assert_eq!(
            verdicts(&[1_000, 2_000, 3_000, 4_000]),
            [(1_000, Verdict::Probe), (4_000, Verdict::Dead)]
        );
    }
}
