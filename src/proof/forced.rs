//! [`ForcedRollbacks`]: plays a game with seeded inputs and rolls it back at every frame, once with a
//! misprediction and once with the same inputs, whose results must be equal.

use std::collections::VecDeque;
use std::marker::PhantomData;

use bevy::prelude::*;
use ggrs::{Config, Frame, InputStatus};

use super::hints::{Comparison, Divergence, Pitfall};
use super::names::Names;
use super::parts::Parts;
use crate::offline::{Driver, EpisodeSetup, start_app, start_episode};
use crate::rollback::EpisodeRecord;

mod diagnose;
mod random;

use random::Random;

/// Tests whether a game computes the same state again after every rollback.
///
/// First two apps play without any rollback: a difference between them has another cause. Then a
/// third app plays, and after every frame
///
/// 1. it is rolled back by a seeded random number of frames,
/// 2. these are simulated with a wrong input of one player, as in a misprediction,
/// 3. it is rolled back again and simulates them with the right inputs; the checksum of every
///    registered type must equal that of the first simulation.
///
/// A failure names the first frame that differs, the types that differ in it, and the pitfalls that
/// fit.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_ggrs::prelude::*;
/// use bevy_rollback_lab::proof::ForcedRollbacks;
///
/// type Config = GgrsConfig<u8>;
///
/// #[derive(Component, Clone, Copy, Hash)]
/// #[require(Rollback)]
/// struct Position(i32);
///
/// fn walk(inputs: Res<PlayerInputs<Config>>, mut walkers: Query<&mut Position>) {
///     for mut position in &mut walkers {
///         position.0 += i32::from(inputs[0].0) - i32::from(inputs[1].0);
///     }
/// }
///
/// fn my_game() -> App {
///     let mut app = App::new();
///     app.add_plugins(MinimalPlugins)
///         .rollback_component_with_copy::<Position>()
///         .checksum_component_with_hash::<Position>()
///         .add_systems(Startup, |mut commands: Commands| {
///             commands.spawn(Position(0));
///         })
///         .add_systems(GgrsSchedule, walk);
///     app
/// }
///
/// let report = ForcedRollbacks::<Config>::new(7, |bits| bits as u8)
///     .frames(100)
///     .name::<Position>()
///     .run(my_game)
///     .unwrap_or_else(|divergence| panic!("{divergence}"));
/// assert_eq!((report.rollbacks, report.most_entities), (100, 1));
/// ```
pub struct ForcedRollbacks<C: Config> {
    seed: u64,
    input: Box<dyn Fn(u64) -> C::Input>,
    players: usize,
    frames: u32,
    max_depth: u32,
    fixed_depth: bool,
    fps: u32,
    names: Names,
    config: PhantomData<fn() -> C>,
}

/// What a game that passed was tested with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForcedReport {
    /// Frames played.
    pub frames: u32,
    /// Rollbacks forced, each after a misprediction.
    pub rollbacks: u64,
    /// Frames simulated, the resimulated ones included.
    pub simulated: u64,
    /// Types whose checksums were compared, `bevy_ggrs`'s count of entities included. 1 means that the
    /// game registered none, so nothing of it was tested: assert that it is larger.
    pub types: usize,
    /// Most rolled-back entities in one frame.
    pub most_entities: usize,
}

/// Most frames for which a seeded input is held: people do not press a new key every frame.
const LONGEST_HOLD: u64 = 20;

impl<C: Config> ForcedRollbacks<C> {
    /// A test of two players, 600 frames, rolled back by up to 8. `input` makes an input from random
    /// bits; equal seeds play equal games.
    #[must_use]
    pub fn new(seed: u64, input: impl Fn(u64) -> C::Input + 'static) -> Self {
        Self {
            seed,
            input: Box::new(input),
            players: 2,
            frames: 600,
            max_depth: 8,
            fixed_depth: false,
            fps: 60,
            names: Names::default(),
            config: PhantomData,
        }
    }

    /// Sets the number of players, at least 1. Default: 2.
    #[must_use]
    pub fn players(mut self, players: usize) -> Self {
        self.players = players.max(1);
        self
    }

    /// Sets the number of frames to play. Default: 600.
    #[must_use]
    pub fn frames(mut self, frames: u32) -> Self {
        self.frames = frames;
        self
    }

    /// Sets the depth of the deepest rollback in frames, at least 1. Default: 8.
    #[must_use]
    pub fn max_depth(mut self, frames: u32) -> Self {
        self.max_depth = frames.max(1);
        self
    }

    /// Rolls back by exactly so many frames every time, as a sync test does. Default: a random depth.
    #[must_use]
    pub fn depth(mut self, frames: u32) -> Self {
        self.fixed_depth = true;
        self.max_depth(frames)
    }

    /// Sets the frames per second, for games that read `Time`. Default: 60.
    #[must_use]
    pub fn fps(mut self, fps: u32) -> Self {
        self.fps = fps.max(1);
        self
    }

    /// Lets reports name the component or resource `T`. Needed where Bevy's `debug` feature is off:
    /// without it Bevy keeps no type names.
    #[must_use]
    pub fn name<T: Send + Sync + 'static>(mut self) -> Self {
        self.names.add::<T>();
        self
    }

    /// Tests the game that `build` makes: an app with the game's plugins and a clock
    /// (`MinimalPlugins`), without network and window.
    ///
    /// # Errors
    /// [`Divergence`]: the first frame that differs, the types that differ in it, and the pitfalls that
    /// fit.
    pub fn run(&self, build: impl Fn() -> App) -> Result<ForcedReport, Divergence> {
        let inputs = self.inputs();
        let mut first = Run::<C>::new(self, build());
        let mut second = Run::<C>::new(self, build());
        for (frame, inputs) in inputs.iter().enumerate() {
            let (one, other) = (first.save(), second.save());
            let differing = one.differing(&other);
            if !differing.is_empty() {
                let world = first.app.world();
                let named = differing.iter().map(|id| self.names.of(world, *id));
                return Err(Divergence {
                    frame: frame_of(frame),
                    comparison: Comparison::TwoRuns,
                    parts: named.collect(),
                    pitfalls: vec![Pitfall::Randomness],
                });
            }
            first.advance(inputs);
            second.advance(inputs);
        }
        drop((first, second));
        self.force(Run::<C>::new(self, build()), &inputs)
    }

    fn force(&self, mut run: Run<C>, inputs: &[Vec<C::Input>]) -> Result<ForcedReport, Divergence> {
        let mut random = Random::new(self.seed ^ 0xf0_1d);
        // The newest states as first simulated: state `current - i` at index `i` from the back.
        let mut seen: VecDeque<Parts> = VecDeque::from([run.save()]);
        let mut rollbacks = 0;
        let mut most_entities = 0;
        for current in 1..=inputs.len() {
            run.advance(&inputs[current - 1]);
            seen.push_back(run.save());
            let deepest = current.min(self.max_depth as usize);
            let depth = if self.fixed_depth {
                deepest
            } else {
                1 + random.below(deepest as u64) as usize
            };
            let from = current - depth;
            let wrong = self.mispredicted(&inputs[from..current], &mut random);
            run.load(frame_of(from));
            run.resimulate(&wrong, drop);
            run.load(frame_of(from));
            let oldest = current + 1 - seen.len();
            let mut again = vec![seen[from - oldest].clone()];
            run.resimulate(&inputs[from..current], |parts| again.push(parts));
            rollbacks += 1;
            let seen_from = seen.range(from - oldest..);
            let differs = |(before, after): (&Parts, &Parts)| !before.differing(after).is_empty();
            if let Some(place) = seen_from.zip(&again).position(differs) {
                let seen: Vec<Parts> = seen.into_iter().skip(from - oldest).collect();
                let inputs = &inputs[from..from + place];
                return Err(run.diagnose(&self.names, from, &seen, &again, inputs));
            }
            most_entities = most_entities.max(again[depth].order.len());
            while seen.len() > self.max_depth as usize {
                seen.pop_front();
            }
        }
        let types = seen.back().map_or(0, |parts| parts.sums.len());
        Ok(ForcedReport {
            frames: self.frames,
            rollbacks,
            simulated: run.simulated,
            types,
            most_entities,
        })
    }

    /// The inputs of every frame: each player holds one for a while.
    fn inputs(&self) -> Vec<Vec<C::Input>> {
        let mut players: Vec<(Random, u64, C::Input)> = (0..self.players)
            .map(|player| {
                let random = Random::new(self.seed.wrapping_add(player as u64 + 1));
                (random, 0, C::Input::default())
            })
            .collect();
        let mut hold = |(random, left, held): &mut (Random, u64, C::Input)| {
            if *left == 0 {
                *left = 1 + random.below(LONGEST_HOLD);
                *held = (self.input)(random.next());
            }
            *left -= 1;
            *held
        };
        (0..self.frames)
            .map(|_| players.iter_mut().map(&mut hold).collect())
            .collect()
    }

    /// The same inputs, with those of one player replaced by another one.
    fn mispredicted(&self, right: &[Vec<C::Input>], random: &mut Random) -> Vec<Vec<C::Input>> {
        let player = random.below(self.players as u64) as usize;
        let wrong_input = (self.input)(random.next());
        let mut wrong = right.to_vec();
        for inputs in &mut wrong {
            inputs[player] = wrong_input;
        }
        wrong
    }
}

/// One app being played.
struct Run<C: Config> {
    app: App,
    driver: Driver<C>,
    simulated: u64,
}

impl<C: Config> Run<C> {
    fn new(test: &ForcedRollbacks<C>, mut app: App) -> Self {
        start_app::<C>(&mut app);
        let setup = EpisodeSetup {
            session_id: String::from("forced rollbacks"),
            number: 0,
            seed: Some(test.seed),
            players: test.players,
            local_player: 0,
            fps: test.fps,
            // A game without episodes has spawned its world when the app started.
            clear: false,
        };
        start_episode(app.world_mut(), &setup);
        Self {
            app,
            driver: Driver::new(test.max_depth as usize + 2, vec![0]),
            simulated: 0,
        }
    }

    fn save(&mut self) -> Parts {
        let world = self.app.world_mut();
        self.driver.save(world);
        Parts::read(world)
    }

    fn load(&mut self, frame: Frame) {
        self.driver.load(self.app.world_mut(), frame);
    }

    fn advance(&mut self, inputs: &[C::Input]) {
        let world = self.app.world_mut();
        let inputs = inputs.iter().map(|input| (*input, InputStatus::Confirmed));
        self.driver.advance(world, inputs);
        self.simulated += 1;
        if let Some(mut record) = world.get_resource_mut::<EpisodeRecord>() {
            record.take_confirmed(Frame::MAX).for_each(drop);
        }
    }

    /// Simulates from a loaded state, and passes every resulting state to `each`.
    fn resimulate(&mut self, inputs: &[Vec<C::Input>], mut each: impl FnMut(Parts)) {
        for inputs in inputs {
            self.advance(inputs);
            each(self.save());
        }
    }
}

fn frame_of(frame: usize) -> Frame {
    Frame::try_from(frame).unwrap_or(Frame::MAX)
}
