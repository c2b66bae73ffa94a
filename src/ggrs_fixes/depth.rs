//! A workaround: `bevy_ggrs` keeps one snapshot too few at the beginning of a session.
//!
//! While no remote input has come, ggrs lets a window of `W` frames be simulated, which saves the
//! states 0 to W; later the oldest state that can be loaded is the one after the confirmed frame, and
//! `W` states are enough. `bevy_ggrs` 0.22 keeps `W` states from the beginning, drops state 0, and
//! panics when the first input corrects frame 0 ("Could not rollback to 0"): without input delay, over
//! a way longer than the window. It reads its depth from [`MaxPredictionWindow`] before every save, and
//! keeps 60 states where that is missing; confirmed ones are dropped all the same.

use bevy::prelude::*;
use bevy_ggrs::{MaxPredictionWindow, SaveWorld, SaveWorldSystems, Session};
use ggrs::Config;

/// States that `bevy_ggrs` keeps by default: its `DEFAULT_FPS`.
const KEPT: usize = 60;

/// The window, while a state is saved.
#[derive(Resource, Default)]
struct PutAside(Option<MaxPredictionWindow>);

pub(super) fn plugin<C: Config>(app: &mut App) {
    app.init_resource::<PutAside>().add_systems(
        SaveWorld,
        (
            put_aside::<C>.before(SaveWorldSystems::Snapshot),
            put_back.after(SaveWorldSystems::Snapshot),
        ),
    );
}

fn put_aside<C: Config>(world: &mut World) {
    // Sessions of every kind: what a sync test or a spectator set would stay for the next match.
    let needed = match world.get_resource::<Session<C>>() {
        Some(Session::P2P(session)) => session.max_prediction(),
        Some(Session::SyncTest(session)) => session.max_prediction(),
        Some(Session::Spectator(_)) => 0,
        None => return,
    };
    // A longer window needs more than the default.
    if needed < KEPT {
        let window = world.remove_resource::<MaxPredictionWindow>();
        world.resource_mut::<PutAside>().0 = window;
    }
}

fn put_back(world: &mut World) {
    if let Some(window) = world.resource_mut::<PutAside>().0.take() {
        world.insert_resource(window);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bevy_ggrs::{GgrsConfig, GgrsPlugin, GgrsResourceSnapshots, RollbackApp};
    use ggrs::{PlayerType, SessionBuilder};

    type TestConfig = GgrsConfig<u8>;

    #[derive(Resource, Clone, Copy)]
    struct Score;

    #[test]
    fn a_sync_test_with_a_short_window_leaves_the_next_match_its_depth() {
        let session = SessionBuilder::<TestConfig>::new()
            .with_num_players(1)
            .and_then(|builder| builder.add_player(PlayerType::Local, 0))
            .and_then(|builder| {
                builder
                    .with_max_prediction_window(4)
                    .with_check_distance(0)
                    .start_synctest_session()
            })
            .expect("one local player is valid");
        let mut app = App::new();
        app.add_plugins((
            MinimalPlugins,
            GgrsPlugin::<TestConfig>::default(),
            plugin::<TestConfig>,
        ))
        .rollback_resource_with_copy::<Score>()
        .insert_resource(Score)
        .insert_resource(Session::SyncTest(session));
        app.world_mut().run_schedule(SaveWorld);
        let snapshots = app.world().resource::<GgrsResourceSnapshots<Score>>();
        assert_eq!(snapshots.depth(), KEPT);
        assert!(
            app.world().contains_resource::<MaxPredictionWindow>(),
            "put back"
        );
    }
}
