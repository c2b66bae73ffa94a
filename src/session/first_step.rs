//! When the first step of a session runs: `bevy_ggrs` steps by the time that it has accumulated, and
//! begins with what was left of the updates before the session was there.
//!
//! Without a session `bevy_ggrs` 0.22 accumulates time as well, and forgets it whenever a step is due
//! (`run_ggrs_schedules`). Its accumulator is private, but both are in reach through
//! [`RollbackFrameRate`]: with a very high rate a step is due in every update, with a very low one in
//! none. Nothing else reads the rate while no step runs, and it is restored in the same update.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::RollbackFrameRate;

/// A step is due in every update that takes time at all.
const EVERY_UPDATE: usize = 1_000_000_000;
/// No step is due: updates of a running game take less than a second.
const NO_UPDATE: usize = 1;
/// Updates remembered. Those of a display differ by its clock's resolution, 0.1 ms in browsers.
const DELTAS: usize = 8;

/// What an update does, see [`FirstStep::turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Waits, and lets the accumulated time grow.
    Keep,
    /// Waits, and empties the accumulator.
    Empty,
    /// Inserts the session now: one step is due in this update, or two where updates are a little
    /// shorter than a frame and one alone would not suffice.
    Begin,
    /// Inserts the session after this update's steps, with an empty accumulator: the update came so
    /// late that a burst of steps would run at once.
    BeginAfter,
}

/// Plans the updates before the first step.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstStep {
    /// What `bevy_ggrs` has accumulated, once that is known.
    accumulated: Option<Duration>,
    /// Lengths of the last updates.
    deltas: [Duration; DELTAS],
    count: usize,
    turn: Option<Turn>,
}

impl FirstStep {
    /// Decides what the update at `now`, which took `delta`, does for a first step at `at`.
    pub(super) fn turn(&mut self, now: Duration, at: Duration, delta: Duration, fps: u32) -> Turn {
        let step = Duration::from_secs(1) / fps.max(1);
        self.deltas[self.count % DELTAS] = delta;
        self.count += 1;
        let turn = if now >= at {
            match self.accumulated.map(|accumulated| accumulated + delta) {
                Some(total) if total < step * 3 => Turn::Begin,
                _ => Turn::BeginAfter,
            }
        } else if self.accumulated.is_none() || self.accumulates(at - now) >= step {
            Turn::Empty
        } else {
            Turn::Keep
        };
        self.accumulated = match turn {
            Turn::Empty | Turn::BeginAfter => Some(Duration::ZERO),
            Turn::Keep | Turn::Begin => self.accumulated.map(|accumulated| accumulated + delta),
        };
        self.turn = Some(turn);
        turn
    }

    /// The time that the updates from here to the first one at or after `left` will take at least.
    fn accumulates(&self, left: Duration) -> Duration {
        let known = &self.deltas[..self.count.min(DELTAS)];
        let shortest = known.iter().copied().filter(|delta| !delta.is_zero()).min();
        let Some(shortest) = shortest else {
            return left;
        };
        let updates = left.as_nanos().div_ceil(shortest.as_nanos());
        shortest * u32::try_from(updates).unwrap_or(u32::MAX)
    }

    /// Whether the session begins once this update's steps have run.
    pub(super) fn begins_after(&self) -> bool {
        self.turn == Some(Turn::BeginAfter)
    }

    /// Makes `bevy_ggrs` do in this update what was decided.
    pub(super) fn apply(&self, world: &mut World) {
        let rate = match self.turn {
            Some(Turn::Keep) => NO_UPDATE,
            Some(Turn::Empty | Turn::BeginAfter) => EVERY_UPDATE,
            Some(Turn::Begin) | None => return,
        };
        world.insert_resource(RollbackFrameRate(rate));
    }

    /// Restores the game's rate.
    pub(super) fn restore(&self, world: &mut World, fps: u32) {
        world.insert_resource(RollbackFrameRate(fps as usize));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `run_ggrs_schedules` does with its accumulator.
    #[derive(Default)]
    struct Stepper {
        accumulated: Duration,
        began: bool,
        steps: u32,
    }

    impl Stepper {
        fn update(&mut self, delta: Duration, rate: usize) {
            let step = Duration::from_nanos(1_000_000_000 / rate as u64);
            self.accumulated += delta;
            while self.accumulated >= step {
                self.accumulated -= step;
                if self.began {
                    self.steps += 1;
                } else {
                    self.accumulated = Duration::ZERO;
                }
            }
        }
    }

    /// Plays updates of the lengths `deltas` hands out; returns when the first step ran, and how many
    /// ran in that update.
    fn first_step(at: Duration, mut delta: impl FnMut(usize) -> Duration) -> (Duration, u32) {
        let (mut plan, mut stepper) = (FirstStep::default(), Stepper::default());
        let mut now = Duration::ZERO;
        for update in 0.. {
            let delta = delta(update);
            now += delta;
            if stepper.began {
                stepper.update(delta, 60);
            } else {
                let turn = plan.turn(now, at, delta, 60);
                stepper.began = turn == Turn::Begin;
                let rate = match turn {
                    Turn::Keep => NO_UPDATE,
                    Turn::Empty | Turn::BeginAfter => EVERY_UPDATE,
                    Turn::Begin => 60,
                };
                stepper.update(delta, rate);
                stepper.began |= plan.begins_after();
            }
            if stepper.steps > 0 {
                return (now, stepper.steps);
            }
        }
        unreachable!("a step runs at last");
    }

    #[test]
    fn the_first_step_runs_alone_in_the_first_update_at_or_after_the_instant() {
        for micros in [1_000, 4_000, 6_944, 8_334, 16_600, 16_667, 16_700] {
            let delta = Duration::from_micros(micros);
            for phase in 0..40 {
                let at = Duration::from_micros(500_000 + phase * 997);
                let (now, steps) = first_step(at, |_| delta);
                assert_eq!(steps, 1, "updates of {micros} us, instant {at:?}");
                assert!(
                    now >= at && now < at + delta,
                    "{micros} us: {at:?}, {now:?}"
                );
            }
        }
    }

    #[test]
    fn updates_of_a_display_whose_clock_is_coarse_begin_in_time() {
        for phase in 0..40 {
            let at = Duration::from_micros(500_000 + phase * 997);
            let coarse = |update| Duration::from_micros([16_600, 16_700, 16_700][update % 3]);
            let (now, steps) = first_step(at, coarse);
            assert!(steps <= 2, "instant {at:?}: {steps} steps");
            assert!(
                now >= at && now < at + Duration::from_micros(16_700),
                "{at:?}, {now:?}"
            );
        }
    }

    #[test]
    fn an_update_that_comes_late_begins_with_the_next_one_and_one_step() {
        let at = Duration::from_millis(500);
        let hitch = |update| Duration::from_micros(if update == 29 { 400_000 } else { 16_667 });
        let (now, steps) = first_step(at, hitch);
        assert_eq!(steps, 1);
        assert_eq!(now, Duration::from_micros(29 * 16_667 + 400_000 + 16_667));
    }
}
