//! Owns the overlay: it appears with a key, shows the vitals of the session, and leaves nothing
//! behind when it goes. Never counts anything and never touches the session.

use std::marker::PhantomData;
use std::time::Duration;

use bevy::input::InputSystems;
use bevy::input::common_conditions::input_just_pressed;
use bevy::prelude::*;
use ggrs::Config;

use crate::diagnostics::{KeepVitals, LiveStats, LiveStatsPlugin, VitalsSystems, is_watched};

mod graph;
mod panel;

use graph::GraphImage;
use panel::{Alarm, Words};

/// Text that changes faster than this cannot be read.
const REWRITE: Duration = Duration::from_millis(200);

/// An overlay with the routes, the rollbacks and the health of a session of `C`.
///
/// For any Bevy app with a window and Bevy's UI, beside the lab's or the observers' plugins; F3
/// shows and hides it, and so does [`HudShown`]. Hidden it has no entity, no asset and no running
/// system but the look at that key.
pub struct RollbackLabHudPlugin<C> {
    key: KeyCode,
    shown: bool,
    config: PhantomData<fn() -> C>,
}

impl<C> Default for RollbackLabHudPlugin<C> {
    fn default() -> Self {
        Self {
            key: KeyCode::F3,
            shown: false,
            config: PhantomData,
        }
    }
}

impl<C> RollbackLabHudPlugin<C> {
    /// Toggled by `key` instead of F3.
    #[must_use]
    pub fn with_key(mut self, key: KeyCode) -> Self {
        self.key = key;
        self
    }

    /// Shown from the start, or not. Defaults to false.
    #[must_use]
    pub fn shown(mut self, shown: bool) -> Self {
        self.shown = shown;
        self
    }
}

/// Whether the HUD is to be seen. A game may set it, for a button or a gesture.
#[derive(Resource, Clone, Copy, Debug, PartialEq, Eq)]
pub struct HudShown(pub bool);

/// The root of everything that the HUD draws.
#[derive(Component)]
pub struct Hud;

impl<C: Config> Plugin for RollbackLabHudPlugin<C> {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<LiveStatsPlugin<C>>() {
            app.add_plugins(LiveStatsPlugin::<C>::default());
        }
        app.insert_resource(HudShown(self.shown))
            .add_systems(
                PreUpdate,
                (
                    toggle.run_if(
                        resource_exists::<ButtonInput<KeyCode>>
                            .and_then(input_just_pressed(self.key)),
                    ),
                    show_or_hide.run_if(resource_changed::<HudShown>),
                )
                    .chain()
                    .after(InputSystems)
                    .before(VitalsSystems),
            )
            .add_systems(
                PostUpdate,
                (write_words, sound_alarm, draw_graph)
                    .run_if(is_watched.and_then(any_with_component::<Hud>)),
            );
    }
}

fn toggle(mut shown: ResMut<HudShown>) {
    shown.0 = !shown.0;
}

fn show_or_hide(world: &mut World) {
    let wanted = world.resource::<HudShown>().0;
    let mut huds = world.query_filtered::<Entity, With<Hud>>();
    let present: Vec<Entity> = huds.iter(world).collect();
    if wanted != present.is_empty() {
        return;
    }
    if wanted {
        let image = world
            .get_resource_mut::<Assets<Image>>()
            .map(|mut images| images.add(graph::image()));
        let Some(image) = image else {
            warn_once!("the HUD needs Bevy's images: it is not shown");
            return;
        };
        world.init_resource::<LiveStats>();
        panel::spawn(&mut world.commands(), &image);
        world.insert_resource(GraphImage(image));
    } else {
        for hud in present {
            world.despawn(hud);
        }
        // The image goes with its last handle.
        world.remove_resource::<GraphImage>();
        if !world.contains_resource::<KeepVitals>() {
            world.remove_resource::<LiveStats>();
        }
    }
    world.flush();
}

fn write_words(
    live_stats: Res<LiveStats>,
    time: Res<Time<Real>>,
    mut next: Local<Duration>,
    mut words: Query<&mut Text, With<Words>>,
    fresh: Query<(), Added<Words>>,
) {
    if time.elapsed() < *next && fresh.is_empty() {
        return;
    }
    *next = time.elapsed() + REWRITE;
    for mut text in &mut words {
        panel::write(&live_stats, &mut text.0);
    }
}

fn sound_alarm(live_stats: Res<LiveStats>, mut alarms: Query<&mut Node, With<Alarm>>) {
    let display = if live_stats.desyncs > 0 {
        Display::Flex
    } else {
        Display::None
    };
    for mut alarm in &mut alarms {
        if alarm.display != display {
            alarm.display = display;
        }
    }
}

fn draw_graph(
    live_stats: Res<LiveStats>,
    image: Res<GraphImage>,
    mut images: ResMut<Assets<Image>>,
) {
    if live_stats.ticks() == 0 {
        return;
    }
    if let Some(mut image) = images.get_mut(&image.0)
        && let Some(pixels) = &mut image.data
    {
        graph::paint(live_stats.columns().copied(), pixels);
    }
}
