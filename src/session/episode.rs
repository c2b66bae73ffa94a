//! What an episode is to the simulation: the rolled-back [`Episode`] resource with its sticky end flag,
//! the search for its end in confirmed state, and the reset between episodes.

use std::collections::VecDeque;
use std::hash::Hash;

use bevy::ecs::component::Mutable;
use bevy::ecs::entity_disabling::Disabled;
use bevy::ecs::query::Allow;
use bevy::prelude::*;
use bevy_ggrs::{
    ConfirmedFrameCount, Rollback, RollbackApp, RollbackDespawned, RollbackFrameCount,
    RollbackOrdered, SaveWorld, SaveWorldSystems,
};
use ggrs::Frame;

/// The running episode: read its number and seed in the simulation, and end it there.
///
/// Rolled back like the game's own state: an end inside `GgrsSchedule` is undone by a rollback that
/// makes it untrue, and holds once the frame is confirmed.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// fn goal(mut episode: ResMut<Episode>) {
///     episode.end("goal"); // sticky: the first reason stays
/// }
/// # let mut episode = Episode::default();
/// # episode.end("goal");
/// # episode.end("late");
/// # assert_eq!(episode.ended(), Some("goal"));
/// ```
#[derive(Resource, Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[reflect(Resource, Default)]
pub struct Episode {
    number: u32,
    seed: u64,
    ended: Option<&'static str>,
}

impl Episode {
    /// Number of the episode in its lab session, from 0.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Seed of the episode, the same on every peer.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Ends the episode with the state that this frame makes. The first reason stays.
    pub fn end(&mut self, reason: &'static str) {
        self.ended.get_or_insert(reason);
    }

    /// Why the episode ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<&'static str> {
        self.ended
    }
}

/// Reason of an episode that ended at its frame limit.
pub(crate) const FRAME_LIMIT: &str = "frameLimit";

/// The end flag of each recent state; the newest save of a frame counts.
#[derive(Resource, Default)]
pub(super) struct EndFlags {
    states: VecDeque<(Frame, Option<&'static str>)>,
}

/// States kept: the prediction window is at most 32, the rest is slack.
const KEPT_STATES: usize = 128;

impl EndFlags {
    fn record(&mut self, frame: Frame, ended: Option<&'static str>) {
        while self
            .states
            .back()
            .is_some_and(|(newest, _)| *newest >= frame)
        {
            self.states.pop_back();
        }
        if self.states.len() == KEPT_STATES {
            self.states.pop_front();
        }
        self.states.push_back((frame, ended));
    }

    /// Newest state saved.
    pub(super) fn newest(&self) -> Option<Frame> {
        self.states.back().map(|(frame, _)| *frame)
    }

    /// First confirmed state at which the episode is over: its inputs are known through the frame
    /// before, and the state itself was simulated with them and saved.
    pub(super) fn end(
        &self,
        confirmed: Frame,
        limit: Option<u32>,
    ) -> Option<(Frame, &'static str)> {
        let at_limit = |frame| limit.is_some_and(|limit| i64::from(frame) >= i64::from(limit));
        self.states
            .iter()
            .take_while(|(frame, _)| *frame <= confirmed.saturating_add(1))
            .find_map(|&(frame, ended)| match ended {
                Some(reason) => Some((frame, reason)),
                None => at_limit(frame).then_some((frame, FRAME_LIMIT)),
            })
    }

    /// Whether the confirmed state of `frame` is known and does not end the episode.
    pub(super) fn goes_on(&self, frame: Frame, confirmed: Frame) -> bool {
        frame <= confirmed.saturating_add(1)
            && self
                .states
                .iter()
                .any(|&(state, ended)| state == frame && ended.is_none())
    }

    pub(super) fn clear(&mut self) {
        self.states.clear();
    }
}

/// Resets game state between episodes.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// #[derive(Resource, Clone, Copy, Default)]
/// struct Score([u32; 2]);
///
/// App::new().reset_on_episode::<Score>();
/// ```
pub trait EpisodeApp {
    /// Sets `R` to its default before every episode, as every rolled-back resource must be.
    fn reset_on_episode<R: Resource + Default>(&mut self) -> &mut Self;

    /// Everything that a rolled-back resource needs, in one call: inserts its default, rolls it back by
    /// `Clone`, adds it by `Hash` to the checksum that peers compare, and resets it before every episode.
    ///
    /// ```
    /// use bevy::prelude::*;
    /// use bevy_rollback_lab::bevy_ggrs::{GgrsConfig, GgrsPlugin};
    /// use bevy_rollback_lab::prelude::*;
    ///
    /// #[derive(Resource, Clone, Default, Hash)]
    /// struct Score([u32; 2]);
    ///
    /// App::new()
    ///     .add_plugins((MinimalPlugins, GgrsPlugin::<GgrsConfig<u8>>::default()))
    ///     .episode_resource::<Score>();
    /// ```
    fn episode_resource<R: Resource<Mutability = Mutable> + Clone + Hash + Default>(
        &mut self,
    ) -> &mut Self;
}

impl EpisodeApp for App {
    fn reset_on_episode<R: Resource + Default>(&mut self) -> &mut Self {
        self.init_resource::<Resets>();
        self.world_mut()
            .resource_mut::<Resets>()
            .0
            .push(|world| world.insert_resource(R::default()));
        self
    }

    fn episode_resource<R: Resource<Mutability = Mutable> + Clone + Hash + Default>(
        &mut self,
    ) -> &mut Self {
        self.init_resource::<R>()
            .rollback_resource_with_clone::<R>()
            .checksum_resource_with_hash::<R>()
            .reset_on_episode::<R>()
    }
}

#[derive(Resource, Default)]
struct Resets(Vec<fn(&mut World)>);

/// Adds the resource and its rollback.
pub(crate) fn plugin(app: &mut App) {
    app.register_type::<Episode>()
        .init_resource::<Episode>()
        .init_resource::<EndFlags>()
        .init_resource::<Resets>()
        .rollback_resource_with_copy::<Episode>()
        .add_systems(SaveWorld, record_end_flag.after(SaveWorldSystems::Snapshot));
}

fn record_end_flag(
    frame: Res<RollbackFrameCount>,
    episode: Res<Episode>,
    mut flags: ResMut<EndFlags>,
) {
    flags.record(frame.0, episode.ended());
}

/// Leaves nothing of the last episode: rolled-back entities, their order (it is hashed into
/// component checksums, and mispredicted spawns can differ per peer), frame counts, resources.
pub(crate) fn reset(world: &mut World, number: u32, seed: u64) {
    // Those that `despawn_rollback` hides until their despawn is confirmed, too.
    let rolled_back: Vec<Entity> = world
        .query_filtered::<Entity, (With<Rollback>, Allow<RollbackDespawned>, Allow<Disabled>)>()
        .iter(world)
        .collect();
    if *world.resource::<Episode>() == Episode::default()
        && let Some(&first) = rolled_back.first()
    {
        warn!(
            "{} rolled-back entities were spawned before the episode ({}) and are despawned: spawn \
             them on EpisodeStarting, which every episode has",
            rolled_back.len(),
            components(world, first)
        );
    }
    for entity in rolled_back {
        if let Ok(entity) = world.get_entity_mut(entity) {
            entity.despawn();
        }
    }
    world.insert_resource(RollbackOrdered::default());
    world.insert_resource(RollbackFrameCount(0));
    world.insert_resource(ConfirmedFrameCount(-1));
    begin(world, number, seed);
}

/// Warns of an episode whose world has nothing that rolls back but resources: whatever its entities do,
/// no peer would notice a difference.
pub(super) fn warn_if_empty(world: &mut World) {
    let mut rolled_back = world.query_filtered::<(), With<Rollback>>();
    if rolled_back.iter(world).next().is_none() {
        warn!(
            "no entity has the component Rollback at frame 0: only rolled-back resources are \
             simulated again and compared"
        );
    }
}

/// What an entity is, by the names of the game's components; without Bevy's feature `debug` a hint at it.
fn components(world: &World, entity: Entity) -> String {
    let names = world.inspect_entity(entity).into_iter().flatten();
    let names = names.map(|component| component.name().shortname().to_string());
    let own = |name: &String| !matches!(name.as_str(), "Rollback" | "RollbackId");
    let mut names: Vec<String> = names.filter(own).collect();
    names.sort();
    names.dedup();
    names.join(", ")
}

/// The same in a world that the game has already filled.
pub(crate) fn begin(world: &mut World, number: u32, seed: u64) {
    world.resource_mut::<EndFlags>().clear();
    world.insert_resource(Episode {
        number,
        seed,
        ended: None,
    });
    for reset in world.resource::<Resets>().0.clone() {
        reset(world);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_flag_counts_only_in_confirmed_state() {
        let mut flags = EndFlags::default();
        for frame in 0..=10 {
            flags.record(frame, (frame >= 9).then_some("goal"));
        }
        assert_eq!(
            flags.end(7, None),
            None,
            "state 9 needs the inputs through frame 8"
        );
        assert_eq!(flags.end(8, None), Some((9, "goal")));
    }

    #[test]
    fn a_rollback_takes_a_predicted_end_back() {
        let mut flags = EndFlags::default();
        for frame in 0..=10 {
            flags.record(frame, (frame >= 9).then_some("goal"));
        }
        for frame in 8..=10 {
            flags.record(frame, None);
        }
        assert_eq!(flags.end(20, None), None);
        assert_eq!(flags.newest(), Some(10));
    }

    #[test]
    fn the_frame_limit_ends_at_exactly_that_state() {
        let mut flags = EndFlags::default();
        for frame in 0..=12 {
            flags.record(frame, None);
        }
        assert_eq!(flags.end(8, Some(10)), None);
        assert_eq!(flags.end(9, Some(10)), Some((10, FRAME_LIMIT)));
        assert_eq!(flags.end(12, Some(13)), None, "state 13 was not saved yet");
    }
}
