//! [`SyncTestNamesPlugin`]: which registered type differs in a frame that a ggrs sync test simulated
//! twice.

use std::collections::VecDeque;
use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_ggrs::{RollbackFrameCount, RunGgrsSystems, SaveWorld, SaveWorldSystems, Session};
use ggrs::{Config, Frame};

use super::names::Names;
use super::parts::Parts;

/// Names the types that differ in a sync test of this config.
///
/// ggrs reports only which frame differs. Add this plugin beside a sync test session and observe
/// [`DesyncFound`]; it is triggered once, for the first such frame, after the update in which the
/// frame was simulated again.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::proof::{DesyncFound, SyncTestNamesPlugin};
///
/// #[derive(Component)]
/// struct Position(i32);
///
/// let mut app = App::new();
/// app.add_plugins(SyncTestNamesPlugin::<GgrsConfig<u8>>::default().name::<Position>())
///     .add_observer(|found: On<DesyncFound>| panic!("{}", found.event()));
/// ```
pub struct SyncTestNamesPlugin<C> {
    names: Names,
    config: PhantomData<fn() -> C>,
}

impl<C> Default for SyncTestNamesPlugin<C> {
    fn default() -> Self {
        Self {
            names: Names::default(),
            config: PhantomData,
        }
    }
}

impl<C> SyncTestNamesPlugin<C> {
    /// Lets reports name the component or resource `T`. Needed where Bevy's `debug` feature is off.
    #[must_use]
    pub fn name<T: Send + Sync + 'static>(mut self) -> Self {
        self.names.add::<T>();
        self
    }
}

/// A frame of a sync test gave another state when it was simulated again. An [`Event`], at most one per
/// app.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::proof::DesyncFound;
///
/// fn report(found: On<DesyncFound>) {
///     error!("frame {}: {}", found.frame, found.parts.join(", "));
/// }
/// # let mut app = App::new();
/// # app.add_observer(report);
/// ```
#[derive(Event, Clone, Debug, PartialEq, Eq)]
pub struct DesyncFound {
    /// The state before this frame differs.
    pub frame: Frame,
    /// Names of the registered types whose checksums differ.
    pub parts: Vec<String>,
}

impl std::fmt::Display for DesyncFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "frame {}: `{}` differs after resimulation; a run of ForcedRollbacks names the pitfalls that fit",
            self.frame,
            self.parts.join("`, `")
        )
    }
}

impl<C: Config> Plugin for SyncTestNamesPlugin<C> {
    fn build(&self, app: &mut App) {
        app.insert_resource(FirstStates {
            names: self.names.clone(),
            ..default()
        })
        .add_systems(SaveWorld, compare::<C>.after(SaveWorldSystems::Snapshot))
        .add_systems(PreUpdate, trigger_found.after(RunGgrsSystems));
    }
}

/// States kept: ggrs checks fewer frames than its prediction window, whose queue holds 128 inputs.
const KEPT_STATES: usize = 128;

/// The states as they were first simulated.
#[derive(Resource, Default)]
struct FirstStates {
    names: Names,
    states: VecDeque<(Frame, Parts)>,
    found: Option<DesyncFound>,
    reported: bool,
}

fn compare<C: Config>(world: &mut World) {
    let frame = world.resource::<RollbackFrameCount>().0;
    if !matches!(
        world.get_resource::<Session<C>>(),
        Some(Session::SyncTest(_))
    ) {
        return;
    }
    let parts = Parts::read(world);
    world.resource_scope(|world, mut seen: Mut<FirstStates>| {
        // State 0 is saved once per session, so this is a new session.
        if frame == 0 {
            seen.states.clear();
        }
        let first = seen.states.iter().find(|(of, _)| *of == frame);
        let Some((_, first)) = first else {
            if seen.states.len() == KEPT_STATES {
                seen.states.pop_front();
            }
            seen.states.push_back((frame, parts));
            return;
        };
        let differing = first.differing(&parts);
        if !differing.is_empty() && seen.found.is_none() && !seen.reported {
            let named = differing.iter().map(|id| seen.names.of(world, *id));
            let parts = named.collect();
            seen.found = Some(DesyncFound { frame, parts });
        }
    });
}

fn trigger_found(mut seen: ResMut<FirstStates>, mut commands: Commands) {
    if let Some(found) = seen.bypass_change_detection().found.take() {
        seen.reported = true;
        commands.trigger(found);
    }
}
