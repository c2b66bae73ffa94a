//! [`LabHudPlugin`]: an overlay with the live numbers of the session. Hidden, it has no entity and no
//! asset.

use std::marker::PhantomData;
use std::time::Duration;

use bevy::input::InputSystems;
use bevy::input::common_conditions::input_just_pressed;
use bevy::prelude::*;
use ggrs::Config;

use crate::diagnostics::{KeepLiveStats, LiveStats, LiveStatsPlugin, LiveStatsSystems};

mod graph;
mod panel;

use graph::GraphImage;
use panel::{DesyncBanner, StatsText};

/// How often the text is rewritten: numbers that change faster cannot be read.
const REWRITE_INTERVAL: Duration = Duration::from_millis(200);

/// Shows the routes, rollbacks and stalls of a session of `C` over the game; F3 shows and hides it.
///
/// Add it to an app with a window and Bevy's UI, beside
/// [`RollbackLabPlugins`](crate::RollbackLabPlugins) or
/// [`RollbackObserverPlugins`](crate::RollbackObserverPlugins). [`HudShown`] shows and hides it too.
/// While it is hidden, only the check of the key runs.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::prelude::*;
///
/// # let mut app = App::new();
/// app.add_plugins(
///     LabHudPlugin::<GgrsConfig<u8>>::default().with_key(KeyCode::F1).shown(true),
/// );
/// ```
pub struct LabHudPlugin<C> {
    key: KeyCode,
    shown: bool,
    config: PhantomData<fn() -> C>,
}

impl<C> Default for LabHudPlugin<C> {
    fn default() -> Self {
        Self {
            key: KeyCode::F3,
            shown: false,
            config: PhantomData,
        }
    }
}

impl<C> LabHudPlugin<C> {
    /// Sets the key that shows and hides the overlay. Default: F3.
    #[must_use]
    pub fn with_key(mut self, key: KeyCode) -> Self {
        self.key = key;
        self
    }

    /// Sets whether the overlay is shown from the start. Default: false.
    #[must_use]
    pub fn shown(mut self, shown: bool) -> Self {
        self.shown = shown;
        self
    }
}

/// Whether the HUD is shown. Set it for a button or a gesture.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::hud::HudShown;
///
/// fn toggle_hud(mut shown: ResMut<HudShown>) {
///     shown.0 = !shown.0;
/// }
/// # let mut app = App::new();
/// # app.insert_resource(HudShown(false)).add_systems(Update, toggle_hud).update();
/// # assert!(app.world().resource::<HudShown>().0);
/// ```
#[derive(Resource, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[reflect(Resource, Clone, Debug, Default, PartialEq)]
pub struct HudShown(pub bool);

/// Marks the root entity of the HUD.
#[derive(Component, Reflect, Clone, Copy, Debug, Default)]
#[reflect(Component, Clone, Debug, Default)]
pub struct Hud;

impl<C: Config> Plugin for LabHudPlugin<C> {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<LiveStatsPlugin<C>>() {
            app.add_plugins(LiveStatsPlugin::<C>::default());
        }
        app.insert_resource(HudShown(self.shown))
            .register_type::<HudShown>()
            .register_type::<Hud>()
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
                    .before(LiveStatsSystems),
            )
            .add_systems(
                PostUpdate,
                (write_text, show_desync_banner, draw_graph)
                    .run_if(resource_exists::<LiveStats>.and_then(any_with_component::<Hud>)),
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
            warn_once!(
                "the HUD is not shown: the app has no `Assets<Image>`; add Bevy's image plugin"
            );
            return;
        };
        world.init_resource::<LiveStats>();
        panel::spawn(&mut world.commands(), &image);
        world.insert_resource(GraphImage(image));
    } else {
        for hud in present {
            world.despawn(hud);
        }
        // The image is freed with its last handle.
        world.remove_resource::<GraphImage>();
        if !world.contains_resource::<KeepLiveStats>() {
            world.remove_resource::<LiveStats>();
        }
    }
    world.flush();
}

fn write_text(
    live_stats: Res<LiveStats>,
    time: Res<Time<Real>>,
    mut next: Local<Duration>,
    mut texts: Query<&mut Text, With<StatsText>>,
    added: Query<(), Added<StatsText>>,
) {
    if time.elapsed() < *next && added.is_empty() {
        return;
    }
    *next = time.elapsed() + REWRITE_INTERVAL;
    for mut text in &mut texts {
        panel::write(&live_stats, &mut text.0);
    }
}

fn show_desync_banner(
    live_stats: Res<LiveStats>,
    mut banners: Query<&mut Node, With<DesyncBanner>>,
) {
    let display = if live_stats.desyncs > 0 {
        Display::Flex
    } else {
        Display::None
    };
    for mut banner in &mut banners {
        if banner.display != display {
            banner.display = display;
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
        graph::paint(live_stats.history().copied(), pixels);
    }
}
