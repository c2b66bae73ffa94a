//! Owns the replay that one watches: its clock, pause, step, seek, speed and view. Never draws, and
//! never compares a hash.

use std::collections::BTreeSet;

use bevy::prelude::*;
use bevy_ggrs::RunGgrsSystems;
use ggrs::Config;

use super::{Script, ScriptError, Stage, Step, View, mark_loads, script_of, setup_of};
use crate::clock::LabClock;
use crate::offline::{Driver, EpisodeSetup, OfflinePlugin, start_episode};
use crate::record::EpisodeDocument;
use crate::rollback::trace::Frame;
use crate::rollback::{EpisodeRecord, ObservePlugin, RollbackLabSystems, TraceLog};

/// Frames between two kept states, from which a seek starts. A second at 60 Hz: fewer would make a
/// step back slower than a frame for a game that needs 0.25 ms to simulate one.
const KEEP_EVERY_FRAMES: usize = 60;
/// Longest time that one update catches up on: a window that was dragged does not jump ahead.
const LONGEST_UPDATE_SECONDS: f64 = 0.25;
/// Speeds outside of this cannot be told from a pause, or from a seek.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// Plays one episode file in the game's own app, in place of
/// [`RollbackLabPlugins`](crate::RollbackLabPlugins) or of a session.
///
/// The game is controlled by the [`Replay`] resource. Rollbacks that are played again are told as
/// [`RollbackCompleted`](crate::rollback::RollbackCompleted), as in a match.
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::record::EpisodeDocument;
/// use bevy_rollback_lab::replay::{Replay, ReplayPlugin, ScriptError};
///
/// type Config = GgrsConfig<u8>;
///
/// /// Half as fast, over and over.
/// fn repeat(mut replay: ResMut<Replay>) {
///     replay.set_speed(0.5);
///     if replay.is_over() {
///         replay.seek(0);
///         replay.resume();
///     }
/// }
///
/// fn watch(document: &EpisodeDocument) -> Result<App, ScriptError> {
///     let mut app = App::new();
///     app.add_plugins((MinimalPlugins, ReplayPlugin::<Config>::new(document)?))
///         .add_systems(Update, repeat);
///     Ok(app)
/// }
/// ```
pub struct ReplayPlugin<C: Config> {
    script: Script<C::Input>,
    setup: EpisodeSetup,
    replay: Replay,
}

impl<C: Config> ReplayPlugin<C> {
    /// A replay of this file, running from frame 0 in the canonical view.
    ///
    /// # Errors
    /// [`ScriptError`] when the file cannot be played in a game of this input.
    pub fn new(document: &EpisodeDocument) -> Result<Self, ScriptError> {
        let script = script_of::<C>(document)?;
        let replay = Replay {
            frame: 0,
            frames: Frame::try_from(script.frames()).unwrap_or(Frame::MAX),
            view: View::Canonical,
            speed: 1.0,
            paused: false,
            late: Vec::new(),
            wish: None,
        };
        Ok(Self {
            script,
            setup: setup_of(document),
            replay,
        })
    }

    /// Begins in this view.
    #[must_use]
    pub fn view(mut self, view: View) -> Self {
        self.replay.view = view;
        self
    }

    /// Begins paused before frame 0.
    #[must_use]
    pub fn paused(mut self) -> Self {
        self.replay.paused = true;
        self
    }
}

impl<C: Config> Plugin for ReplayPlugin<C> {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<OfflinePlugin<C>>() {
            app.add_plugins(OfflinePlugin::<C>::default());
        }
        if !app.is_plugin_added::<ObservePlugin<C>>() {
            app.add_plugins(ObservePlugin::<C>::default());
        }
        let player = Player::<C>::new(self.script.clone(), self.setup.clone(), self.replay.view);
        app.insert_resource(self.replay.clone())
            .insert_resource(player)
            .add_systems(PostStartup, begin::<C>)
            .add_systems(
                PreUpdate,
                drive::<C>
                    .after(RunGgrsSystems)
                    .before(RollbackLabSystems::Observe),
            );
    }
}

/// Where a replay stands, and what the person who watches wants of it. What is asked for happens in
/// the next [`PreUpdate`].
#[derive(Resource, Clone, Debug, PartialEq)]
pub struct Replay {
    frame: Frame,
    frames: Frame,
    view: View,
    speed: f64,
    paused: bool,
    late: Vec<(usize, Option<u32>)>,
    wish: Option<Wish>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Step(i32),
    Seek(Frame),
}

impl Replay {
    /// The state shown is the one before this frame.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// Frames of the file.
    #[must_use]
    pub fn frames(&self) -> Frame {
        self.frames
    }

    /// Whether the last frame is shown.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.frame >= self.frames
    }

    /// Which history is played.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// Plays another history from the frame shown.
    pub fn show(&mut self, view: View) {
        self.view = view;
    }

    /// Whether it stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// How late each remote player's input for the newest simulated frame came in the match, in
    /// frames: 0 in time, `None` never. Told in either view.
    #[must_use]
    pub fn lateness(&self) -> &[(usize, Option<u32>)] {
        &self.late
    }

    /// Stands still.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Goes on.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Goes on, or stands still.
    pub fn toggle(&mut self) {
        self.paused = !self.paused;
    }

    /// Speed; 1 is that of the match.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Plays so many times as fast as the match, between a hundredth and a hundred times.
    pub fn set_speed(&mut self, speed: f64) {
        if speed.is_finite() {
            self.speed = speed.clamp(*SPEEDS.start(), *SPEEDS.end());
        }
    }

    /// Pauses, so many frames further or back.
    pub fn step(&mut self, frames: i32) {
        self.paused = true;
        let before = match self.wish {
            Some(Wish::Step(before)) => before,
            _ => 0,
        };
        self.wish = Some(Wish::Step(before.saturating_add(frames)));
    }

    /// Shows the state before `frame`.
    pub fn seek(&mut self, frame: Frame) {
        self.wish = Some(Wish::Seek(frame));
    }
}

/// The replay's own side: where in the steps it is, and which states can be loaded.
#[derive(Resource)]
struct Player<C: Config> {
    script: Script<C::Input>,
    setup: EpisodeSetup,
    stage: Stage<C>,
    view: View,
    /// The next step.
    position: usize,
    /// Seconds since frame 0, in the time of the match.
    clock: f64,
    /// Frames whose saved state is the canonical one, in either view.
    kept: Vec<bool>,
    /// Those of them that are saved now.
    stored: BTreeSet<Frame>,
}

impl<C: Config> Player<C> {
    fn new(script: Script<C::Input>, setup: EpisodeSetup, view: View) -> Self {
        let frames = script.frames() as usize;
        let kept = kept(&script, frames);
        let mut saved = kept.clone();
        mark_loads(script.as_seen(), &mut saved);
        let snapshots = saved.iter().filter(|saved| **saved).count() + 2;
        let driver = Driver::<C>::new(snapshots, vec![setup.local_player]);
        Self {
            script,
            setup,
            stage: Stage::new(driver, saved),
            view,
            position: 0,
            clock: 0.0,
            kept,
            stored: BTreeSet::new(),
        }
    }

    fn frame(&self) -> Frame {
        self.stage.driver.frame()
    }

    /// When `frame` is due, in seconds since frame 0: as it was simulated then, or evenly.
    fn due(&self, frame: Frame) -> f64 {
        let seen = match (self.script.at_us(0), self.script.at_us(frame)) {
            (Some(first), Some(at)) if self.view == View::AsSeen => Some(at.saturating_sub(first)),
            _ => None,
        };
        seen.map_or(f64::from(frame) / f64::from(self.setup.fps), |us| {
            us as f64 / 1e6
        })
    }

    /// Plays the next frame, with the corrections that came before it; `false` at the end.
    fn play_frame(&mut self, world: &mut World) -> bool {
        let steps = self.script.steps(self.view);
        let Some(rest) = steps.get(self.position..).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        if let Some(mut log) = world.get_resource_mut::<TraceLog<C>>() {
            log.tick(self.stage.driver.frame(), -1);
        }
        for step in rest {
            self.position += 1;
            let (kept, stored) = (&self.kept, &mut self.stored);
            if let Step::Rollback { load, .. } = step {
                stored.split_off(&(load + 1));
            }
            self.stage.play(world, step, |frame, _| {
                stored.split_off(&frame);
                if kept[frame.unsigned_abs() as usize] {
                    stored.insert(frame);
                }
            });
            if matches!(step, Step::Advance { .. }) {
                break;
            }
        }
        if let Some(mut record) = world.get_resource_mut::<EpisodeRecord>() {
            record.take_confirmed(Frame::MAX).for_each(drop);
        }
        true
    }

    /// Shows the state before `target` as this view first showed it: from the newest kept state
    /// before it, or on from here.
    fn seek(&mut self, world: &mut World, target: Frame, from_kept: bool) {
        let last = Frame::try_from(self.script.frames()).unwrap_or(Frame::MAX);
        let target = target.clamp(0, last);
        // What is skipped is told to nobody.
        end_trace::<C>(world);
        if from_kept || target < self.frame() {
            // The state of `target` itself may be a corrected one: it is simulated, not loaded.
            let before = self.stored.range(..target.max(1)).next_back().copied();
            if let Some(frame) = before {
                self.stage.driver.load(world, frame);
                self.stored.split_off(&(frame + 1));
                self.position = self.step_of(frame);
            }
        }
        while self.frame() < target && self.play_frame(world) {}
        self.clock = self.due(self.frame());
        begin_trace::<C>(world, &self.setup);
    }

    /// The step that simulates `frame` for the first time.
    fn step_of(&self, frame: Frame) -> usize {
        let steps = self.script.steps(self.view).iter();
        let first =
            |step: &Step<C::Input>| matches!(step, Step::Advance { frame: of, .. } if *of == frame);
        steps.clone().position(first).unwrap_or(steps.len())
    }
}

/// Every so many frames a settled one, and the first.
fn kept<I>(script: &Script<I>, frames: usize) -> Vec<bool> {
    let mut kept = vec![false; frames + 1];
    let mut last = None;
    for (frame, kept) in kept.iter_mut().enumerate() {
        let far = last.is_none_or(|last| frame >= last + KEEP_EVERY_FRAMES);
        if far && Frame::try_from(frame).is_ok_and(|frame| script.is_settled(frame)) {
            *kept = true;
            last = Some(frame);
        }
    }
    kept
}

fn begin<C: Config>(world: &mut World) {
    world.resource_scope(|world, player: Mut<Player<C>>| {
        start_episode(world, &player.setup);
        player.stage.driver.place(world);
        begin_trace::<C>(world, &player.setup);
    });
}

fn begin_trace<C: Config>(world: &mut World, setup: &EpisodeSetup) {
    let now = world.resource::<LabClock>().now();
    let local: Vec<bool> = (0..setup.players)
        .map(|player| player == setup.local_player)
        .collect();
    let begun = world.resource_mut::<TraceLog<C>>().begin(&local, now);
    if let Err(error) = begun {
        warn!("rollbacks of this replay are not told: {error}");
    }
}

fn end_trace<C: Config>(world: &mut World) {
    let now = world.resource::<LabClock>().now();
    world.resource_mut::<TraceLog<C>>().close(now);
}

/// One update of the replay.
fn drive<C: Config>(world: &mut World) {
    let elapsed = world.get_resource::<Time<Real>>().map_or(0.0, |time| {
        time.delta_secs_f64().min(LONGEST_UPDATE_SECONDS)
    });
    world.resource_scope(|world, mut player: Mut<Player<C>>| {
        world.resource_scope(|world, mut replay: Mut<Replay>| {
            // `bevy_ggrs` has no session and has reset its counts.
            player.stage.driver.place(world);
            let player = &mut *player;
            if player.view != replay.view {
                player.view = replay.view;
                let frame = player.frame();
                player.seek(world, frame, true);
            }
            match replay.wish.take() {
                Some(Wish::Step(frames)) if frames > 0 => {
                    for _ in 0..frames {
                        player.play_frame(world);
                    }
                    player.clock = player.due(player.frame());
                }
                Some(Wish::Step(frames)) => {
                    let target = player.frame().saturating_add(frames);
                    player.seek(world, target, false);
                }
                Some(Wish::Seek(target)) => player.seek(world, target, false),
                None if !replay.paused => {
                    player.clock += elapsed * replay.speed;
                    while player.due(player.frame()) <= player.clock && player.play_frame(world) {}
                }
                None => {}
            }
            replay.frame = player.frame();
            let newest = player.frame() - 1;
            let late = (0..player.setup.players)
                .filter_map(|of| Some((of, player.script.late_by(newest, of)?)));
            replay.late.clear();
            replay.late.extend(late);
            if replay.is_over() && player.position >= player.script.steps(player.view).len() {
                replay.paused = true;
            }
        });
    });
}
