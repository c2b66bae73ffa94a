//! A naive model of ggrs 0.13's P2P session that keeps its whole history.

use std::time::Duration;

use bevy_rollback_lab::internals::trace::{Frame, Known, Misprediction, Outcome, Trace};
use proptest::prelude::*;

/// What happens before one tick of the session.
#[derive(Clone, Debug)]
pub(super) struct TickPlan {
    /// Inputs arriving, per remote player.
    pub arrivals: [u8; 3],
    /// The remote player who is disconnected now.
    pub disconnect: Option<usize>,
    /// Whether an update ends after this tick; otherwise the next tick follows in the same one.
    pub update_ends: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Predictor {
    RepeatLast,
    Default,
    /// Depends on how many inputs are known, so that reloads revise predictions without a miss.
    Erratic,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub seed: u64,
    pub players: usize,
    pub local: usize,
    pub window: Frame,
    pub delay: Frame,
    pub sparse: bool,
    pub predictor: Predictor,
    pub ticks: Vec<TickPlan>,
}

pub(super) fn plans() -> impl Strategy<Value = Plan> {
    let tick = (
        prop::array::uniform3(prop_oneof![3 => Just(0u8), 4 => Just(1), 2 => 2..6u8]),
        prop_oneof![60 => Just(None), 1 => (0..3usize).prop_map(Some)],
        prop::bool::weighted(0.8),
    )
        .prop_map(|(arrivals, disconnect, update_ends)| TickPlan {
            arrivals,
            disconnect,
            update_ends,
        });
    (
        any::<u64>(),
        2..=4usize,
        0..4usize,
        2..12i32,
        0..4i32,
        any::<bool>(),
        prop_oneof![
            Just(Predictor::RepeatLast),
            Just(Predictor::Default),
            Just(Predictor::Erratic)
        ],
        prop::collection::vec(tick, 1..400),
    )
        .prop_map(
            |(seed, players, local, window, delay, sparse, predictor, ticks)| Plan {
                seed,
                players,
                local: local % players,
                window,
                delay,
                sparse,
                predictor,
                ticks,
            },
        )
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One simulation of one frame.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub tick: u64,
    pub inputs: Vec<(u8, Known)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelRollback {
    pub current: Frame,
    pub loaded: Frame,
    pub corrected: Vec<Misprediction<u8>>,
    pub voided: Vec<(Frame, usize)>,
    pub tick: u64,
    pub elapsed: Duration,
}

/// Frame, player, first prediction, last prediction; outcome, applied input and lateness once
/// known.
pub(super) type Unit = (Frame, usize, u8, u8, Option<(Outcome, u8, u32)>);

/// ggrs 0.13's `advance_frame`, with its history.
pub(super) struct Model {
    pub plan: Plan,
    pub trace: Trace<u8>,
    pub now: Duration,
    pub tick: u64,
    pub current: Frame,
    pub last_saved: Frame,
    pub last_confirmed: Frame,
    /// Newest known input frame of each player.
    pub known: Vec<Frame>,
    pub gone: Vec<bool>,
    pub disconnect_frame: Option<Frame>,
    pub versions: Vec<Vec<Version>>,
    pub rollbacks: Vec<ModelRollback>,
    /// Per tick: the frame it advanced, if any, and `ConfirmedFrameCount` after it.
    pub ticks: Vec<(Option<Frame>, Frame)>,
    pub confirmed_count: Frame,
}

impl Model {
    pub(super) fn run(plan: Plan) -> Self {
        let mut trace = Trace::default();
        let players: Vec<bool> = (0..plan.players).map(|p| p == plan.local).collect();
        trace.begin(&players, Duration::ZERO).unwrap();
        let mut model = Self {
            trace,
            now: Duration::ZERO,
            tick: 0,
            current: 0,
            last_saved: -1,
            last_confirmed: -1,
            known: vec![-1; plan.players],
            gone: vec![false; plan.players],
            disconnect_frame: None,
            versions: Vec::new(),
            rollbacks: Vec::new(),
            ticks: Vec::new(),
            confirmed_count: -1,
            plan,
        };
        for tick in model.plan.ticks.clone() {
            model.step(&tick);
        }
        model.now += Duration::from_millis(1);
        model.trace.settle(model.confirmed_count);
        model.trace.close(model.now);
        model
    }

    pub(super) fn real(&self, player: usize, frame: Frame) -> u8 {
        if frame < self.plan.delay {
            return 0;
        }
        let held = 1 + mix(self.plan.seed ^ player as u64) % 5;
        (mix(self.plan.seed ^ (player as u64) << 40 ^ (frame as u64 / held)) % 3) as u8
    }

    fn is_known(&self, player: usize, frame: Frame) -> bool {
        frame <= self.known[player]
    }

    fn input(&self, player: usize, frame: Frame) -> (u8, Known) {
        if self.is_known(player, frame) {
            return (self.real(player, frame), Known::Confirmed);
        }
        if self.gone[player] {
            return (0, Known::Disconnected);
        }
        let guess = match self.plan.predictor {
            Predictor::RepeatLast if self.known[player] >= 0 => {
                self.real(player, self.known[player])
            }
            Predictor::RepeatLast | Predictor::Default => 0,
            Predictor::Erratic => (mix(self.known[player] as u64) % 3) as u8,
        };
        (guess, Known::Predicted)
    }

    /// Newest frame of which every connected player's input is known.
    fn confirmed(&self) -> Frame {
        (0..self.plan.players)
            .filter(|&player| !self.gone[player])
            .map(|player| self.known[player])
            .min()
            .unwrap()
    }

    pub(super) fn state(&self, frame: Frame) -> u128 {
        let applied = &self.versions[..frame as usize];
        applied.iter().fold(1, |state, versions| {
            versions
                .last()
                .unwrap()
                .inputs
                .iter()
                .fold(state, |state, (input, how)| {
                    u128::from(mix(state as u64
                        ^ u64::from(*input) << 8
                        ^ u64::from(*how == Known::Disconnected)))
                })
        })
    }

    fn pass(&mut self) -> Duration {
        self.now += Duration::from_micros(100);
        self.now
    }

    fn save(&mut self) {
        self.last_saved = self.current;
        let checksum = self.state(self.current);
        self.trace.saved(self.current, Some(checksum));
    }

    fn simulate(&mut self) {
        let inputs: Vec<_> = (0..self.plan.players)
            .map(|player| self.input(player, self.current))
            .collect();
        let frame = self.current as usize;
        if frame == self.versions.len() {
            self.versions.push(Vec::new());
        }
        self.versions[frame].push(Version {
            tick: self.tick,
            inputs: inputs.clone(),
        });
        let begin = self.pass();
        self.trace.advance_begin(self.current, inputs, begin);
        let end = self.pass();
        self.trace.advance_end(end);
        self.current += 1;
    }

    fn reload(&mut self, target: Frame, confirmed: Frame) {
        let current = self.current;
        let before = self.versions.clone();
        let start = self.pass();
        self.trace.load(target, start);
        self.current = target;
        for i in 0..current - target {
            let save = if self.plan.sparse {
                self.current == confirmed
            } else {
                i > 0
            };
            if save {
                self.save();
            }
            self.simulate();
        }
        let (mut corrected, mut voided) = (Vec::new(), Vec::new());
        for frame in target..current {
            for player in 0..self.plan.players {
                let (predicted, was) = before[frame as usize].last().unwrap().inputs[player];
                let (actual, is) = self.versions[frame as usize].last().unwrap().inputs[player];
                if was == Known::Predicted && is == Known::Confirmed && predicted != actual {
                    corrected.push(Misprediction {
                        frame,
                        player,
                        predicted,
                        actual,
                    });
                }
                if was == Known::Predicted && is == Known::Disconnected {
                    voided.push((frame, player));
                }
            }
        }
        self.rollbacks.push(ModelRollback {
            current,
            loaded: target,
            corrected,
            voided,
            tick: self.tick,
            elapsed: self.now - start,
        });
    }

    fn first_incorrect(&self) -> Option<Frame> {
        let wrong = (0..self.current).find(|&frame| {
            let used = &self.versions[frame as usize].last().unwrap().inputs;
            used.iter().enumerate().any(|(player, &(value, how))| {
                how == Known::Predicted
                    && self.is_known(player, frame)
                    && self.real(player, frame) != value
            })
        });
        [wrong, self.disconnect_frame].into_iter().flatten().min()
    }

    fn step(&mut self, plan: &TickPlan) {
        self.now += Duration::from_millis(16);
        self.tick += 1;
        self.trace.tick(self.now);
        let remotes: Vec<usize> = (0..self.plan.players)
            .filter(|&player| player != self.plan.local)
            .collect();
        for (&player, &count) in remotes.iter().zip(&plan.arrivals) {
            // A peer can be ahead of us by its own window and delay, not more.
            let furthest = self.current + self.plan.window + self.plan.delay;
            if !self.gone[player] {
                self.known[player] = (self.known[player] + Frame::from(count)).min(furthest);
            }
        }
        if let Some(&player) = plan.disconnect.and_then(|index| remotes.get(index))
            && !self.gone[player]
        {
            self.gone[player] = true;
            if self.current > self.known[player] {
                let from = self.known[player] + 1;
                self.disconnect_frame = Some(self.disconnect_frame.map_or(from, |f| f.min(from)));
            }
        }

        let mut requests = false;
        let confirmed = self.confirmed();
        if self.current == 0 {
            self.save();
            requests = true;
        }
        if let Some(first_incorrect) = self.first_incorrect() {
            let target = if self.plan.sparse {
                self.last_saved
            } else {
                first_incorrect
            };
            assert!(
                target <= first_incorrect,
                "the model loads before what it corrects"
            );
            self.reload(target, confirmed);
            self.disconnect_frame = None;
            requests = true;
        }
        if !self.plan.sparse {
            self.save();
            requests = true;
        } else if self.current - self.last_saved >= self.plan.window {
            if confirmed >= self.current {
                self.save();
            } else {
                self.reload(self.last_saved, confirmed);
            }
            requests = true;
        }
        let mut last_confirmed = confirmed.min(self.current);
        if self.plan.sparse {
            last_confirmed = last_confirmed.min(self.last_saved);
        }
        self.last_confirmed = last_confirmed;
        self.known[self.plan.local] = self.current + self.plan.delay;
        let ahead = if self.last_confirmed < 0 {
            self.current
        } else {
            self.current - self.last_confirmed
        };
        let advanced = (ahead < self.plan.window).then_some(self.current);
        if advanced.is_some() {
            self.simulate();
            requests = true;
        }
        if requests {
            self.confirmed_count = self.confirmed();
        }
        self.ticks.push((advanced, self.confirmed_count));
        if plan.update_ends {
            self.now += Duration::from_micros(50);
        }
        // After the update, or before the next tick of the same one.
        self.trace.settle(self.confirmed_count);
    }

    pub(super) fn newest(&self) -> Frame {
        self.versions.len() as Frame - 1
    }

    pub(super) fn final_frame(&self) -> Frame {
        self.confirmed_count.min(self.newest())
    }

    pub(super) fn first_tick(&self, frame: Frame) -> u64 {
        self.versions[frame as usize][0].tick
    }

    /// Every frame and player that was first simulated with a prediction, and its outcome.
    pub(super) fn units(&self) -> Vec<Unit> {
        let mut units = Vec::new();
        for (frame, versions) in self.versions.iter().enumerate() {
            let frame = frame as Frame;
            for player in 0..self.plan.players {
                let uses: Vec<_> = versions
                    .iter()
                    .map(|v| (v.inputs[player], v.tick))
                    .collect();
                let ((shown, Known::Predicted), _) = uses[0] else {
                    continue;
                };
                let last = uses
                    .iter()
                    .filter(|((_, how), _)| *how == Known::Predicted)
                    .map(|((value, _), _)| *value)
                    .next_back()
                    .unwrap();
                let resolved = uses.iter().find(|((_, how), _)| *how != Known::Predicted);
                let passed = self
                    .ticks
                    .iter()
                    .position(|(_, confirmed)| *confirmed >= frame)
                    .map(|index| index as u64 + 1);
                let end = match (resolved, passed) {
                    (Some(&((value, how), tick)), _) => {
                        let outcome = match how {
                            Known::Disconnected => Outcome::Voided,
                            _ if value == last => Outcome::Hit,
                            _ => Outcome::Miss,
                        };
                        let tick = passed.map_or(tick, |passed| passed.min(tick));
                        Some((outcome, value, tick))
                    }
                    (None, Some(tick)) => {
                        assert_eq!(
                            last,
                            self.real(player, frame),
                            "ggrs would have corrected it"
                        );
                        Some((Outcome::Hit, last, tick))
                    }
                    (None, None) => None,
                };
                let end = end.map(|(outcome, value, tick)| {
                    (outcome, value, (tick - self.first_tick(frame)) as u32)
                });
                units.push((frame, player, shown, last, end));
            }
        }
        units
    }

    pub(super) fn stalls(&self) -> Vec<(Frame, u32)> {
        let mut stalls: Vec<(Frame, u32)> = Vec::new();
        let mut next = 0;
        let mut running = false;
        for (advanced, _) in &self.ticks {
            match advanced {
                Some(frame) => {
                    next = frame + 1;
                    running = false;
                }
                None if running => stalls.last_mut().unwrap().1 += 1,
                None => {
                    stalls.push((next, 1));
                    running = true;
                }
            }
        }
        stalls
    }
}
