//! Volley, the demo game of `bevy_rollback_lab`: a deterministic game for 1 to 4 players over any
//! `bevy_ggrs` session. Two sides, a net, a ball, points, a serve after each point.
//!
//! The package has three parts:
//!
//! - this library, the game without a screen: the pure rules on integers ([`court`], [`rules`]), the
//!   input ([`input`]), bots ([`bot`]), and [`VolleyPlugin`], which registers the state for rollback
//!   and checksums. Examples, tests and benches of the workspace play it.
//! - the binary `volley` (feature `screen`, on by default): scene, devices, overlay, in a window or
//!   on a page. `cargo run --release -p volley` plays against a bot at once.
//! - `page/`, the page around the binary in a browser, built and served by `cargo xtask demo`.
//!
//! A game on another session type or transport needs these lines:
//!
//! ```
//! use std::net::SocketAddr;
//!
//! use bevy::prelude::*;
//! use bevy_ggrs::prelude::*;
//! use volley::bot::BotPlugin;
//! use volley::{VolleyConfig, VolleyPlugin, start_court};
//!
//! type Config = VolleyConfig<SocketAddr>;
//!
//! let mut app = App::new();
//! app.add_plugins((
//!     MinimalPlugins,
//!     GgrsPlugin::<Config>::default(),
//!     VolleyPlugin::<Config>::default(),
//!     // Bots press the buttons of the local players.
//!     BotPlugin::<Config>::new(7, 60),
//! ));
//! // Before the first frame, the same on every peer:
//! start_court(app.world_mut(), 2, 7);
//! ```

use std::marker::PhantomData;

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;
use bevy_ggrs::ggrs;
use bevy_ggrs::prelude::*;
use bevy_rollback_lab::checksum::portable_hash;
use serde_json::{Value, json};

pub mod bot;
pub mod court;
pub mod input;
pub mod rules;

use court::{Body, Court, MAX_PLAYERS, Score};
use input::VolleyInput;

/// The game's ggrs config for an address type: `VolleyConfig<PeerId>` for matchbox,
/// `VolleyConfig<SocketAddr>` for UDP.
pub type VolleyConfig<Address> = GgrsConfig<VolleyInput, Address>;

/// Marks a player on the court.
#[derive(Component, Clone, Copy, Debug, Hash, PartialEq, Eq)]
#[require(Rollback)]
pub struct Player {
    /// The ggrs player handle; even handles play left.
    pub handle: usize,
}

/// Marks the ball.
#[derive(Component, Clone, Copy, Debug, Hash, PartialEq, Eq)]
#[require(Rollback)]
pub struct Ball;

/// Position and velocity of a player or the ball.
#[derive(Component, Clone, Copy, Debug, Default, Hash, PartialEq, Eq, Deref, DerefMut)]
pub struct Motion(pub Body);

/// Phase, points and the serve.
#[derive(Resource, Clone, Copy, Debug, Default, Hash, PartialEq, Eq, Deref, DerefMut)]
pub struct Scoreboard(pub Score);

/// The game: its state with rollback and checksums, and its one system in [`GgrsSchedule`]. Set up the
/// court with [`start_court`] before the first frame.
pub struct VolleyPlugin<C>(PhantomData<C>);

impl<C> Default for VolleyPlugin<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: ggrs::Config<Input = VolleyInput>> Plugin for VolleyPlugin<C> {
    fn build(&self, app: &mut App) {
        app.init_resource::<Scoreboard>()
            .rollback_component_with_copy::<Player>()
            .rollback_component_with_copy::<Ball>()
            .rollback_component_with_copy::<Motion>()
            .rollback_resource_with_copy::<Scoreboard>()
            .checksum_component::<Player>(portable_hash)
            .checksum_component::<Ball>(portable_hash)
            .checksum_component::<Motion>(portable_hash)
            .checksum_resource::<Scoreboard>(portable_hash)
            .add_systems(GgrsSchedule, advance_court::<C>);
    }
}

/// Starts a new game and despawns the old one. Call it between episodes, outside of rollback, with the
/// same arguments on every peer.
///
/// Entities are spawned by handle and the ball last: the order is part of every peer's checksums.
///
/// # Panics
/// If `players` is not 1 to [`MAX_PLAYERS`].
pub fn start_court(world: &mut World, players: usize, seed: u64) {
    let mut old = world.query_filtered::<Entity, Or<(With<Player>, With<Ball>)>>();
    for entity in old.iter(world).collect::<Vec<_>>() {
        world.despawn(entity);
    }
    let court = Court::new(players, seed);
    for (handle, body) in court.playing().iter().enumerate() {
        world.spawn((Player { handle }, Motion(*body)));
    }
    world.spawn((Ball, Motion(court.ball)));
    world.insert_resource(Scoreboard(court.score));
}

/// Reads the court in any schedule: bots do in `ReadInputs`, a renderer does in `Update`.
#[derive(SystemParam)]
pub struct CourtReader<'w, 's> {
    players: Query<'w, 's, (&'static Player, &'static Motion), Without<Ball>>,
    ball: Query<'w, 's, &'static Motion, With<Ball>>,
    score: Res<'w, Scoreboard>,
}

impl CourtReader<'_, '_> {
    /// The court at this peer's newest frame, predictions included; `None` before [`start_court`].
    pub fn court(&self) -> Option<Court> {
        let ball = self.ball.single().ok()?;
        let players = self
            .players
            .iter()
            .map(|(player, at)| (player.handle, **at));
        gather(players, **ball, **self.score)
    }
}

/// The court as JSON, for the states in a desync bundle (`print_state`).
pub fn print_court(reader: CourtReader) -> Value {
    let Some(Court {
        players,
        count,
        ball,
        score,
    }) = reader.court()
    else {
        return Value::Null;
    };
    let body = |of: &Body| json!({"x": of.x, "y": of.y, "vx": of.vx, "vy": of.vy});
    json!({
        "players": players[..count].iter().map(body).collect::<Vec<_>>(),
        "ball": body(&ball),
        "points": score.points,
        "score": format!("{score:?}"),
    })
}

fn advance_court<C: ggrs::Config<Input = VolleyInput>>(
    inputs: Res<PlayerInputs<C>>,
    mut players: Query<(&Player, &mut Motion), Without<Ball>>,
    mut ball: Query<&mut Motion, With<Ball>>,
    mut score: ResMut<Scoreboard>,
) {
    let Ok(mut ball) = ball.single_mut() else {
        return;
    };
    let bodies = players.iter().map(|(player, at)| (player.handle, **at));
    let Some(mut court) = gather(bodies, **ball, **score) else {
        return;
    };
    let mut held = [VolleyInput::NONE; MAX_PLAYERS];
    for (held, (input, _)) in held.iter_mut().zip(inputs.iter()) {
        *held = *input;
    }
    rules::step(&mut court, &held);

    for (player, mut at) in &mut players {
        **at = court.players[player.handle];
    }
    **ball = court.ball;
    **score = court.score;
}

/// The court with its players by handle, in whatever order the ECS stores them. `None` without
/// players.
fn gather(players: impl Iterator<Item = (usize, Body)>, ball: Body, score: Score) -> Option<Court> {
    let mut court = Court {
        players: [Body::default(); MAX_PLAYERS],
        count: 0,
        ball,
        score,
    };
    for (handle, body) in players {
        *court.players.get_mut(handle)? = body;
        court.count += 1;
    }
    (court.count > 0).then_some(court)
}
