//! Owns a workaround: `bevy_ggrs` keeps one snapshot too few at the beginning of a session.
//!
//! While no remote input has come, ggrs lets a window of `W` frames be simulated, which saves the
//! states 0 to W; later the oldest state that can be loaded is the one after the confirmed frame, and
//! `W` states are enough. `bevy_ggrs` 0.22 keeps `W` states from the beginning, drops state 0, and
//! panics when the first input corrects frame 0 ("Could not rollback to 0"): without input delay, over
//! a way longer than the window. It reads its depth from [`MaxPredictionWindow`] before every save, and
//! keeps 60 states where that is missing; confirmed ones are dropped all the same.

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::{MaxPredictionWindow, SaveWorld, SaveWorldSystems};
use ggrs::Config;

/// States that `bevy_ggrs` keeps unless told: its `DEFAULT_FPS`.
const KEPT: usize = 60;

/// The window, while a state is saved.
#[derive(Resource, Default)]
struct PutAside(Option<MaxPredictionWindow>);

pub(super) struct DepthPlugin<C>(pub PhantomData<fn() -> C>);

impl<C: Config> Plugin for DepthPlugin<C> {
    fn build(&self, app: &mut App) {
        app.init_resource::<PutAside>().add_systems(
            SaveWorld,
            (
                put_aside::<C>.before(SaveWorldSystems::Snapshot),
                put_back.after(SaveWorldSystems::Snapshot),
            ),
        );
    }
}

fn put_aside<C: Config>(world: &mut World) {
    let Some(bevy_ggrs::Session::P2P(session)) = world.get_resource::<bevy_ggrs::Session<C>>()
    else {
        return;
    };
    // A longer window has to be believed.
    if session.max_prediction() < KEPT {
        let window = world.remove_resource::<MaxPredictionWindow>();
        world.resource_mut::<PutAside>().0 = window;
    }
}

fn put_back(world: &mut World) {
    if let Some(window) = world.resource_mut::<PutAside>().0.take() {
        world.insert_resource(window);
    }
}
