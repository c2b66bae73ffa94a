//! [`ReplayPlugin`]: a replay on screen, with pause, step, seek, speed and view.

use std::collections::BTreeSet;

use bevy::prelude::*;
use bevy_ggrs::RunGgrsSystems;
use ggrs::Config;

use super::{Playback, Script, ScriptError, Step, View, mark_loads, script_of, setup_of};
use crate::clock::LabClock;
use crate::offline::{Driver, EpisodeSetup, OfflinePlugin, start_episode};
use crate::record::EpisodeDocument;
use crate::rollback::trace::Frame;
use crate::rollback::{EpisodeRecord, ObservePlugin, RollbackLabSystems, TraceLog};

/// Frames between two kept states, from which a seek starts: one second at 60 frames per second. A
/// step back simulates at most so many frames, 15 ms for a game that needs 0.25 ms per frame.
const KEEP_EVERY_FRAMES: usize = 60;
/// Longest time that one update plays, in seconds: the replay does not jump after a window was dragged.
const LONGEST_UPDATE_SECONDS: f64 = 0.25;
/// Slower looks like a pause, faster like a seek.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.01..=100.0;

/// Plays one episode file in the game's own app.
///
/// Add it in place of [`RollbackLabPlugins`](crate::RollbackLabPlugins) or of the game's session, and
/// control it with the [`Replay`] resource. With [`View::AsSeen`] every rollback is played and written
/// as [`RollbackCompleted`](crate::rollback::RollbackCompleted), as in a match. It has no `Default`:
/// there is nothing to play without a file.
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
    /// [`ScriptError`] if the file cannot be played in a game with this input type.
    pub fn new(document: &EpisodeDocument) -> Result<Self, ScriptError> {
        let script = script_of::<C>(document)?;
        let replay = Replay {
            frame: 0,
            frames: Frame::try_from(script.frames()).unwrap_or(Frame::MAX),
            view: View::Canonical,
            speed: 1.0,
            paused: false,
            late: Vec::new(),
            request: None,
        };
        Ok(Self {
            script,
            setup: setup_of(document),
            replay,
        })
    }

    /// Sets the view at the start. Default: [`View::Canonical`].
    #[must_use]
    pub fn view(mut self, view: View) -> Self {
        self.replay.view = view;
        self
    }

    /// Starts paused, before frame 0.
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
            .register_type::<Replay>()
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

/// Shows where a replay is, and controls it. Requests take effect in the next [`PreUpdate`].
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::replay::{Replay, View};
///
/// fn control(keys: Res<ButtonInput<KeyCode>>, mut replay: ResMut<Replay>) {
///     if keys.just_pressed(KeyCode::Space) {
///         replay.toggle();
///     }
///     if keys.just_pressed(KeyCode::ArrowLeft) {
///         replay.step(-1);
///     }
///     if keys.just_pressed(KeyCode::KeyV) {
///         replay.show(View::AsSeen);
///     }
/// }
/// # let mut app = App::new();
/// # app.add_systems(Update, control);
/// ```
#[derive(Resource, Reflect, Clone, Debug, PartialEq)]
#[reflect(Resource, Clone, Debug, PartialEq)]
pub struct Replay {
    frame: Frame,
    frames: Frame,
    view: View,
    speed: f64,
    paused: bool,
    late: Vec<(usize, Option<u32>)>,
    #[reflect(ignore)]
    request: Option<Request>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Request {
    Step(i32),
    Seek(Frame),
}

impl Replay {
    /// The frame before which the shown state is.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// Number of frames of the file.
    #[must_use]
    pub fn frames(&self) -> Frame {
        self.frames
    }

    /// Whether the last frame is shown.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.frame >= self.frames
    }

    /// The view that is played.
    #[must_use]
    pub fn view(&self) -> View {
        self.view
    }

    /// Switches to another view, from the frame shown.
    pub fn show(&mut self, view: View) {
        self.view = view;
    }

    /// Whether it is paused. At the end it pauses by itself.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// How late each remote player's input for the newest simulated frame came in the match: handle and
    /// frames, 0 in time, `None` for never. Available in either view.
    #[must_use]
    pub fn lateness(&self) -> &[(usize, Option<u32>)] {
        &self.late
    }

    /// Pauses.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Resumes.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Pauses or resumes.
    pub fn toggle(&mut self) {
        self.paused = !self.paused;
    }

    /// Speed as a factor; 1 is that of the match.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Sets the speed as a factor, 0.01 to 100. Default: 1, that of the match. Others are clamped.
    pub fn set_speed(&mut self, speed: f64) {
        if speed.is_finite() {
            self.speed = speed.clamp(*SPEEDS.start(), *SPEEDS.end());
        }
    }

    /// Pauses, and goes so many frames forward, or back if negative.
    pub fn step(&mut self, frames: i32) {
        self.paused = true;
        let pending = match self.request {
            Some(Request::Step(pending)) => pending,
            _ => 0,
        };
        self.request = Some(Request::Step(pending.saturating_add(frames)));
    }

    /// Goes to the state before `frame`.
    pub fn seek(&mut self, frame: Frame) {
        self.request = Some(Request::Seek(frame));
    }
}

/// The position in the steps, and the states that can be loaded.
#[derive(Resource)]
struct Player<C: Config> {
    script: Script<C::Input>,
    setup: EpisodeSetup,
    playback: Playback<C>,
    view: View,
    /// The next step.
    position: usize,
    /// Seconds since frame 0, in the time of the match.
    clock: f64,
    /// Per frame: whether its state is kept for seeking. It is the canonical one in either view.
    kept: Vec<bool>,
    /// The kept states that are saved now.
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
            playback: Playback::new(driver, saved),
            view,
            position: 0,
            clock: 0.0,
            kept,
            stored: BTreeSet::new(),
        }
    }

    fn frame(&self) -> Frame {
        self.playback.driver.frame()
    }

    /// When `frame` is due, in seconds since frame 0: as in the match, or in even steps.
    fn due(&self, frame: Frame) -> f64 {
        let seen = match (self.script.at_us(0), self.script.at_us(frame)) {
            (Some(first), Some(at)) if self.view == View::AsSeen => Some(at.saturating_sub(first)),
            _ => None,
        };
        seen.map_or(f64::from(frame) / f64::from(self.setup.fps), |us| {
            us as f64 / 1e6
        })
    }

    /// Plays the next frame, with the rollbacks before it. Returns `false` at the end.
    fn play_frame(&mut self, world: &mut World) -> bool {
        let steps = self.script.steps(self.view);
        let Some(rest) = steps.get(self.position..).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        if let Some(mut log) = world.get_resource_mut::<TraceLog<C>>() {
            log.tick(self.playback.driver.frame(), -1);
        }
        for step in rest {
            self.position += 1;
            let (kept, stored) = (&self.kept, &mut self.stored);
            if let Step::Rollback { load, .. } = step {
                stored.split_off(&(load + 1));
            }
            self.playback.play(world, step, |frame, _| {
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

    /// Goes to the state before `target` as this view first shows it: from the newest kept state before
    /// it, or on from here.
    fn seek(&mut self, world: &mut World, target: Frame, from_kept: bool) {
        let last = Frame::try_from(self.script.frames()).unwrap_or(Frame::MAX);
        let target = target.clamp(0, last);
        // Skipped frames write no messages.
        end_trace::<C>(world);
        if from_kept || target < self.frame() {
            // The state of `target` itself may be a corrected one: it is simulated, not loaded.
            let before = self.stored.range(..target.max(1)).next_back().copied();
            if let Some(frame) = before {
                self.playback.driver.load(world, frame);
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

/// Every [`KEEP_EVERY_FRAMES`] frames one whose first state is final.
fn kept<I>(script: &Script<I>, frames: usize) -> Vec<bool> {
    let mut kept = vec![false; frames + 1];
    let mut last = None;
    for (frame, kept) in kept.iter_mut().enumerate() {
        let far = last.is_none_or(|last| frame >= last + KEEP_EVERY_FRAMES);
        if far && Frame::try_from(frame).is_ok_and(|frame| script.is_final(frame)) {
            *kept = true;
            last = Some(frame);
        }
    }
    kept
}

fn begin<C: Config>(world: &mut World) {
    world.resource_scope(|world, player: Mut<Player<C>>| {
        start_episode(world, &player.setup);
        player.playback.driver.place(world);
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
        warn!("this replay writes no rollback messages: {error}");
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
            // `bevy_ggrs` resets its counts while there is no session.
            player.playback.driver.place(world);
            let player = &mut *player;
            if player.view != replay.view {
                player.view = replay.view;
                let frame = player.frame();
                player.seek(world, frame, true);
            }
            match replay.request.take() {
                Some(Request::Step(frames)) if frames > 0 => {
                    for _ in 0..frames {
                        player.play_frame(world);
                    }
                    player.clock = player.due(player.frame());
                }
                Some(Request::Step(frames)) => {
                    let target = player.frame().saturating_add(frames);
                    player.seek(world, target, false);
                }
                Some(Request::Seek(target)) => player.seek(world, target, false),
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
