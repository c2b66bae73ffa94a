//! Runs `bevy_ggrs`'s schedules without a session: save, load, advance with given inputs.

use bevy::ecs::schedule::ScheduleLabel;
use bevy::prelude::*;
use bevy_ggrs::{
    AdvanceWorld, AdvanceWorldSystems, Checksum, ConfirmedFrameCount, GgrsPlugin, LoadWorld,
    LocalInputs, LocalPlayers, MaxPredictionWindow, PlayerInputs, ReadInputs, RollbackFrameCount,
    SaveWorld, Session,
};
use ggrs::{Config, Frame, InputStatus, PlayerHandle, PlayerType, SessionBuilder};

/// Drives a world through frames as the requests of a ggrs session would.
///
/// Every call sets the frame counts of `bevy_ggrs` first: without a session `bevy_ggrs` resets them
/// whenever a step is due.
pub struct Driver<C: Config> {
    inputs: Option<PlayerInputs<C>>,
    window: MaxPredictionWindow,
    frame: Frame,
    confirmed: Frame,
    local: Vec<PlayerHandle>,
}

impl<C: Config> Driver<C> {
    /// A driver at frame 0 of a world that keeps the newest `snapshots` saved states.
    #[must_use]
    pub fn new(snapshots: usize, local: Vec<PlayerHandle>) -> Self {
        let (inputs, window) = take_from_session::<C>(snapshots.max(MIN_SNAPSHOTS));
        Self {
            inputs: Some(inputs),
            window,
            frame: 0,
            confirmed: NOTHING_CONFIRMED,
            local,
        }
    }

    /// The next frame to simulate.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame
    }

    /// Confirms frames up to `frame`: the world may drop the states before it.
    pub fn confirm(&mut self, frame: Frame) {
        self.confirmed = frame;
    }

    /// Sets the frame counts of `bevy_ggrs`.
    pub fn place(&self, world: &mut World) {
        world.insert_resource(RollbackFrameCount(self.frame));
        world.insert_resource(ConfirmedFrameCount(self.confirmed));
        world.insert_resource(self.window);
        if world
            .get_resource::<LocalPlayers>()
            .is_none_or(|local| local.0 != self.local)
        {
            world.insert_resource(LocalPlayers(self.local.clone()));
        }
    }

    /// Saves the state, and returns its checksum if the game computes one.
    pub fn save(&mut self, world: &mut World) -> Option<u128> {
        self.place(world);
        world.run_schedule(SaveWorld);
        world.get_resource::<Checksum>().map(|checksum| checksum.0)
    }

    /// Loads the state saved before `frame`.
    ///
    /// # Panics
    /// If that state was not saved, or was dropped.
    pub fn load(&mut self, world: &mut World, frame: Frame) {
        self.frame = frame;
        self.place(world);
        world.run_schedule(LoadWorld);
    }

    /// Simulates the next frame with these inputs, handles from 0.
    pub fn advance(
        &mut self,
        world: &mut World,
        inputs: impl IntoIterator<Item = (C::Input, InputStatus)>,
    ) {
        let mut player_inputs = self
            .inputs
            .take()
            .unwrap_or_else(|| take_from_session::<C>(MIN_SNAPSHOTS).0);
        player_inputs.clear();
        player_inputs.extend(inputs);
        // As in a session, the count is one ahead of the frame that the inputs belong to.
        self.frame += 1;
        self.place(world);
        world.insert_resource(player_inputs);
        world.run_schedule(AdvanceWorld);
        self.inputs = world.remove_resource::<PlayerInputs<C>>();
    }
}

/// ggrs's smallest prediction window that a session of one player can be built with.
const MIN_SNAPSHOTS: usize = 2;
/// `ConfirmedFrameCount` before the first frame is confirmed.
const NOTHING_CONFIRMED: Frame = -1;

#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
struct OneStep;

#[derive(Resource)]
struct Kept<C: Config>(PlayerInputs<C>);

/// Only `bevy_ggrs` can construct these two resources: their fields are private. So a sync test of one
/// player runs one step in a world of its own, and both are taken out of that world.
fn take_from_session<C: Config>(window: usize) -> (PlayerInputs<C>, MaxPredictionWindow) {
    let session = SessionBuilder::<C>::new()
        .with_num_players(1)
        .and_then(|builder| builder.add_player(PlayerType::Local, 0))
        .and_then(|builder| {
            builder
                .with_max_prediction_window(window)
                .with_check_distance(0)
                .start_synctest_session()
        })
        .expect("a sync test of one local player is valid");
    let mut time = Time::<()>::default();
    // One step is due at `bevy_ggrs`'s default of 60 frames per second, and not two.
    time.advance_by(std::time::Duration::from_millis(20));

    let mut app = App::new();
    app.insert_resource(time)
        .init_resource::<Time<Virtual>>()
        .init_schedule(OneStep)
        .add_plugins(GgrsPlugin::<C>::new(OneStep))
        .add_systems(ReadInputs, press_nothing::<C>)
        .add_systems(
            AdvanceWorld,
            keep_inputs::<C>.in_set(AdvanceWorldSystems::Last),
        )
        .insert_resource(Session::SyncTest(session));
    app.world_mut().run_schedule(OneStep);
    let inputs = app.world_mut().remove_resource::<Kept<C>>();
    let window = app.world_mut().remove_resource::<MaxPredictionWindow>();
    inputs
        .map(|kept| kept.0)
        .zip(window)
        .expect("a due step of a sync test advances the world")
}

fn press_nothing<C: Config>(mut commands: Commands) {
    let inputs = [(0, C::Input::default())];
    commands.insert_resource(LocalInputs::<C>(inputs.into_iter().collect()));
}

fn keep_inputs<C: Config>(world: &mut World) {
    if let Some(inputs) = world.remove_resource::<PlayerInputs<C>>() {
        world.insert_resource(Kept(inputs));
    }
}
