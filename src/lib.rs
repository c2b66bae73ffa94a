//! Rollback matches over `bevy_ggrs` and matchbox that survive a lost P2P path, and export every
//! rollback as JSON.
//!
//! Add this crate to a [`bevy_ggrs`] game and get
//!
//! - a Bevy message for **every rollback**: predicted and actual input, why it came late, what it cost;
//! - **one JSON file per peer and episode**, complete, checkable against itself and against the other
//!   peers' files, and replayable in the game;
//! - **a match that survives**: when the direct path degrades, the same packets go through a relay.
//!
//! # Which set-up fits
//!
//! | | observers only | own sessions over a [`LabRoom`] | the whole plugin |
//! |---|---|---|---|
//! | you add | [`RollbackObserverPlugins`] | [`LabSocketPlugin`] | [`RollbackLabPlugins`] |
//! | you keep | transport, session, lobby | ggrs sessions, lobby | the simulation |
//! | rollbacks and stalls as messages | yes | with the observers | yes |
//! | desyncs | in the two files, or ggrs's own event; live with `read_events` | live, with the observers | live |
//! | one file per episode | yes, one per ggrs session | with the observers | yes, compared between the peers |
//! | direct path first, relay as fallback | no | yes | yes |
//! | seeds, episodes, compared settings | no | no | yes |
//! | runnable example | `observe_existing` | `lab_socket` | `minimal`, `headless_duel` |
//!
//! Use the re-exports [`bevy_ggrs`], [`bevy_matchbox`] and [`ggrs`], so that versions cannot disagree.
//!
//! ## Observers only
//!
//! For a game that exists, with any transport. An episode is the life of its ggrs session; its file
//! lies in `exports` once the session is removed or the app exits. The game sees what it saw without the
//! line: `session.events()` stays its own, unless it leaves them to the observers with
//! [`read_events`](RollbackObserverPlugins::read_events).
//!
//! ```no_run
//! use bevy::prelude::*;
//! use bevy_rollback_lab::bevy_ggrs::{GgrsConfig, GgrsPlugin};
//! use bevy_rollback_lab::prelude::*;
//!
//! type Config = GgrsConfig<u8>;
//!
//! fn log_rollbacks(mut rollbacks: MessageReader<RollbackCompleted<u8>>) {
//!     for rollback in rollbacks.read() {
//!         info!("frame {} rolled back {} frames", rollback.frame, rollback.rollback_frames);
//!     }
//! }
//!
//! App::new()
//!     .add_plugins((MinimalPlugins, GgrsPlugin::<Config>::default()))
//!     .add_plugins(RollbackObserverPlugins::<Config>::default()) // <- the added line
//!     .add_systems(Update, log_rollbacks)
//!     .run();
//! ```
//!
//! ## The whole plugin
//!
//! [`RollbackLabPlugins`] joins a room, meets the other peers, compares settings, and plays episodes.
//! The game brings its simulation, reads its inputs, and spawns its world on [`EpisodeStarting`]. The
//! server is `rollback-lab serve`; a stock matchbox server works too, without a relay.
//!
//! ```no_run
//! use bevy::platform::collections::HashMap;
//! use bevy::{prelude::*, state::app::StatesPlugin};
//! use bevy_rollback_lab::bevy_ggrs::{LocalInputs, LocalPlayers, prelude::*};
//! use bevy_rollback_lab::prelude::*;
//!
//! type Config = GgrsConfig<u8, PeerId>;
//!
//! #[derive(Component, Clone, Copy, Hash)]
//! #[require(Rollback)]
//! struct Position(usize, i32); // player handle, place
//!
//! fn read_inputs(players: Res<LocalPlayers>, mut commands: Commands) {
//!     let inputs: HashMap<usize, u8> = players.0.iter().map(|&handle| (handle, 1)).collect();
//!     commands.insert_resource(LocalInputs::<Config>(inputs));
//! }
//!
//! fn step(
//!     inputs: Res<PlayerInputs<Config>>,
//!     mut players: Query<&mut Position>,
//!     mut episode: ResMut<Episode>,
//! ) {
//!     for mut position in &mut players {
//!         position.1 += i32::from(inputs[position.0].0);
//!         if position.1 > 1_000 {
//!             episode.end("goal"); // rolled back with the state that it follows from
//!         }
//!     }
//! }
//!
//! let config = LabConfig::new("ws://127.0.0.1:3536", "my-room").players(2).frame_limit(1_800);
//! App::new()
//!     .add_plugins((MinimalPlugins, StatesPlugin))
//!     .add_plugins(RollbackLabPlugins::<Config>::new(config))
//!     .rollback_component_with_copy::<Position>()
//!     .checksum_component::<Position>(portable_hash)
//!     .add_systems(ReadInputs, read_inputs)
//!     .add_systems(GgrsSchedule, step)
//!     .add_observer(|starting: On<EpisodeStarting>, mut commands: Commands| {
//!         commands.spawn_batch((0..starting.players).map(|handle| Position(handle, 0)));
//!     })
//!     .add_observer(|ended: On<EpisodeEnded>| match &ended.file {
//!         Ok(path) => info!("episode {}: {}", ended.number, path.display()),
//!         Err(error) => error!("episode {}: {error}", ended.number),
//!     })
//!     .run();
//! ```
//!
//! ### From a menu
//!
//! [`RollbackLabPlugins::idle`] joins nothing by itself. [`JoinLab`] begins a session and [`LeaveLab`] ends it,
//! in any [`SessionPhase`](session::SessionPhase) and as often as the game likes: another room, a rematch in
//! the same one, another try after a failure. [`WaitingForPlayers`](session::WaitingForPlayers) is there to be
//! shown while players are waited for.
//!
//! ```no_run
//! use bevy::{prelude::*, state::app::StatesPlugin};
//! use bevy_rollback_lab::bevy_ggrs::GgrsConfig;
//! use bevy_rollback_lab::prelude::*;
//!
//! type Config = GgrsConfig<u8, PeerId>;
//!
//! fn press_play(mut commands: Commands) {
//!     let config = LabConfig::new("ws://127.0.0.1:3536", "my-room").frame_limit(1_800);
//!     commands.trigger(JoinLab(config));
//! }
//!
//! fn press_back(mut commands: Commands) {
//!     commands.trigger(LeaveLab); // the others are notified; `Idle` follows
//! }
//!
//! fn show_waiting(waiting: Res<WaitingForPlayers>) {
//!     info!("{} of {} players", waiting.present, waiting.needed);
//! }
//!
//! # fn play_pressed() -> bool { false }
//! # fn back_pressed() -> bool { false }
//! App::new()
//!     .add_plugins((MinimalPlugins, StatesPlugin))
//!     .add_plugins(RollbackLabPlugins::<Config>::idle())
//!     .add_systems(Update, press_play.run_if(play_pressed))
//!     .add_systems(Update, press_back.run_if(back_pressed))
//!     .add_systems(Update, show_waiting.run_if(resource_exists::<WaitingForPlayers>))
//!     .add_observer(|failed: On<SessionFailed>| error!("{}", failed.error))
//!     .run();
//! ```
//!
//! ## Own sessions over a `LabRoom`
//!
//! For a game that builds its ggrs sessions itself, over a `MatchboxSocket` today. [`LabRoom`] takes
//! the place of that socket; add the observers beside it for files.
//!
//! ```no_run
//! use bevy::prelude::*;
//! use bevy_rollback_lab::bevy_ggrs::{GgrsConfig, GgrsPlugin, Session};
//! use bevy_rollback_lab::ggrs::SessionBuilder;
//! use bevy_rollback_lab::prelude::*;
//!
//! type Config = GgrsConfig<u8, PeerId>;
//!
//! fn join(mut commands: Commands) {
//!     commands.insert_resource(LabRoom::new("ws://127.0.0.1:3536/my-room?players=2", 2));
//! }
//!
//! fn start(mut room: ResMut<LabRoom>, mut commands: Commands) -> Result {
//!     let mut builder = SessionBuilder::<Config>::new().with_num_players(2)?;
//!     for (handle, player) in room.players().into_iter().enumerate() {
//!         builder = builder.add_player(player, handle)?;
//!     }
//!     commands.insert_resource(Session::P2P(room.start_p2p_session(builder)?));
//!     Ok(())
//! }
//!
//! fn may_start(room: Option<Res<LabRoom>>, session: Option<Res<Session<Config>>>) -> bool {
//!     session.is_none() && room.is_some_and(|room| room.ready())
//! }
//!
//! App::new()
//!     .add_plugins((MinimalPlugins, GgrsPlugin::<Config>::default()))
//!     .add_plugins(LabSocketPlugin::<Config>::default())
//!     .add_plugins(RollbackObserverPlugins::<Config>::default())
//!     .add_systems(Startup, join)
//!     .add_systems(Update, start.run_if(may_start))
//!     .run();
//! ```
//!
//! # Messages and events
//!
//! Messages are streams, read with a `MessageReader`; events are observed with `On<…>`. `I` is the
//! game's input. A row names the set-ups that emit it: **o**bservers, **r**oom, **w**hole plugin.
//!
//! | | kind | from | when |
//! |---|---|---|---|
//! | [`RollbackCompleted<I>`](rollback::RollbackCompleted) | message | o w | a rollback corrected a misprediction |
//! | [`CauseRevised`](rollback::CauseRevised) | message | o w | later packets showed a better cause of it |
//! | [`RollbackReloaded`](rollback::RollbackReloaded) | message | o w | frames were simulated again without a correction |
//! | [`StallEnded`](rollback::StallEnded) | message | o w | the simulation had to wait for an input, and goes on |
//! | [`DesyncDetected`](rollback::DesyncDetected) | message | o w | two peers computed different states |
//! | [`SessionEvent`](rollback::SessionEvent) | message | o w | a player is gone; with `read_events` and in a lab session every event of ggrs |
//! | [`RouteChanged`](session::RouteChanged) | message | r w | the packets to a peer take another path |
//! | [`PeerNotice`](session::PeerNotice) | message | r w | a peer hid its tab, was taken off, left, or the server was lost |
//! | [`EpisodeStarting`] | event | w | the world is empty: spawn it from this seed |
//! | [`EpisodeStarted`](session::EpisodeStarted) | event | w | every peer is synchronized, frames run |
//! | [`EpisodeEnded`](record::EpisodeEnded) | event | o w | the document of an episode is complete, its file written |
//! | [`DesyncRecorded`](record::DesyncRecorded) | event | o w | the states around a desync were recorded, see [`DesyncApp`](record::DesyncApp) |
//! | [`SessionDocumentChanged`](record::SessionDocumentChanged) | event | w | the session document changed |
//! | [`SessionFailed`](session::SessionFailed) | event | r w | there will be no match; the error names the way out |
//! | [`JoinRefused`] | event | w | a [`JoinLab`] came while this peer is in a room |
//!
//! A game triggers [`JoinLab`] and [`LeaveLab`], [`ReadyForEpisode`](session::ReadyForEpisode) to start an episode by itself
//! ([`LabConfig::auto_start`](method@config::LabConfig::auto_start)), and [`SetHidden`](session::SetHidden)
//! when its window is hidden. [`SessionPhase`](session::SessionPhase) is a Bevy state.
//!
//! # Schedule order
//!
//! Nothing of this crate runs in `GgrsSchedule`, and observation changes nothing about the simulation.
//! In every update, in [`PreUpdate`](bevy::app::PreUpdate):
//!
//! 1. Packets are received, paths judged, due packets sent.
//! 2. `RunGgrsSystems`: `bevy_ggrs` runs no, one or several ggrs steps (`ReadInputs`, `SaveWorld`,
//!    `LoadWorld`, `AdvanceWorld`). Observers in these schedules write a trace, and nothing else.
//! 3. [`RollbackLabSystems::Observe`]: the trace becomes messages.
//! 4. [`RollbackLabSystems::Session`]: episodes start and end.
//! 5. [`RollbackLabSystems::Measure`]: messages are counted.
//! 6. [`RollbackLabSystems::Record`]: finished documents go to their files.
//! 7. Diagnostics and the HUD read the numbers.
//!
//! So a system in `Update` sees the messages of the same update. When the app exits, steps 3 to 6 run
//! once more in [`Last`](bevy::app::Last), so that the running episode is written too.
//!
//! # The exported file
//!
//! Every episode leaves `<sessionId>/episode-<n>.player-<k>.json` on each peer, and every lab session
//! `<sessionId>/session.player-<k>.json`: inputs, predictions, rollbacks with causes, stalls, route
//! changes, state hashes, times. [`record::EpisodeDocument`] is its type, and `docs/file-format.md`
//! explains each field. The game adds its own data through [`EpisodeRecord`](metrics::EpisodeRecord):
//! an event of a frame that is rolled back is dropped, and what remains is written once.
//!
//! ```
//! use bevy::prelude::*;
//! use bevy_rollback_lab::prelude::*;
//!
//! fn score(mut record: ResMut<EpisodeRecord>) {
//!     record.annotate("difficulty", 3);
//!     record.event(120, "goal", serde_json::json!({ "by": 0 }));
//! }
//! # let mut app = App::new();
//! # app.init_resource::<EpisodeRecord>().add_systems(Update, score);
//! # app.update();
//! ```
//!
//! `rollback-lab verify`, `report`, `tables` and `merge` read the files on the command line;
//! [`replay`] plays a file again, on screen or headless with every state hash compared.
//!
//! # Tools for a game's author
//!
//! - [`proof::ForcedRollbacks`]: a test that finds state which is not rolled back, by name.
//! - [`checksum::portable_hash`]: checksums that are equal natively and in a browser.
//! - [`LabConfig::conditions`](method@config::LabConfig::conditions): seeded latency, jitter, loss and outages.
//! - [`diagnostics::LabDiagnosticsPlugin`]: depth, stalls, RTT and the failover margin as Bevy
//!   diagnostics; `LabHudPlugin` draws them.
//!
//! # Features
//!
//! | feature | default | what |
//! |---|---|---|
//! | `matchbox` | yes | rooms, routes and episodes over WebRTC; without it only observers, files, replays and proofs remain |
//! | `window` | | `LabDisplayPlugin`: which frames were drawn, and on what display |
//! | `hud` | | `LabHudPlugin`: routes, rollbacks and stalls on screen; includes `window` |
//! | `schema` | | JSON Schema for the document types |
//! | `unstable-internals` | | what this repository's own tests and benches use; **no semver**, changes without notice |
//!
//! In a browser (`wasm32-unknown-unknown`) the module `web` hands documents over to the page and keeps
//! a hidden tab playing.
//!
//! # Glossary
//!
//! - **room**: where peers meet on a server. **lab session**: a room and its peers, with one session
//!   id. **episode**: one ggrs session in it, frames from 0, with its own seed and file.
//! - **path**: direct (peer to peer, TURN included) or relay (through the server). **route**: which
//!   path the packets to one peer take now ([`RouteState`]).
//! - **failover**: the route becomes relay, for the rest of the lab session. **failover margin**: how
//!   much later an input could come without a stall; while it is not negative, a lost direct path
//!   stalls no frame.
//! - **predicted frame**: simulated with a guessed input. **confirmed frame**: all its inputs are
//!   known. **prediction window**: how many frames may be predicted.
//! - **rollback**: a state is loaded and its frames are simulated again with corrected inputs.
//!   **depth**: how many. **stall**: a tick in which no new frame could be simulated.
//! - **desync**: two peers computed different states of a confirmed frame. **player slot**: a player
//!   handle (ggrs's number of a player, from 0) with its peer.
//!
//! # Read on
//!
//! `README.md` starts with a 60-second run; `docs/` is the reference of files, conditions, routes and
//! pages; `ARCHITECTURE.md` follows the data through the code. The routes' state machine is the crate
//! `rollback_lab_link`, the files' types and checks are `rollback_lab_record`.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "unstable-internals"),
    allow(
        dead_code,
        unreachable_pub,
        reason = "what only tests and benches use is public under that feature, where CI checks both lints"
    )
)]

pub mod checksum;
pub mod clock;
#[cfg(feature = "matchbox")]
pub mod config;
pub mod diagnostics;
#[cfg(feature = "window")]
pub mod display;
#[cfg(all(feature = "matchbox", unix))]
mod exit;
mod ggrs_fixes;
#[cfg(feature = "hud")]
pub mod hud;
#[cfg(feature = "unstable-internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(feature = "matchbox")]
mod life_cycle;
pub mod metrics;
pub mod offline;
mod plugins;
pub mod proof;
pub mod record;
pub mod replay;
pub mod rollback;
#[cfg(feature = "matchbox")]
pub mod session;
#[cfg(feature = "matchbox")]
mod transport;
#[cfg(all(feature = "matchbox", target_arch = "wasm32"))]
pub mod web;

pub use bevy_ggrs;
#[cfg(feature = "matchbox")]
pub use bevy_matchbox;
pub use ggrs;

#[cfg(feature = "matchbox")]
pub use config::LabConfig;
#[cfg(all(feature = "matchbox", unix))]
pub use exit::ExitOnSignalPlugin;
pub use ggrs_fixes::GgrsFixesPlugin;
#[cfg(feature = "matchbox")]
pub use life_cycle::{JoinLab, JoinRefused, LeaveLab};
pub use plugins::RollbackObserverPlugins;
pub use rollback::RollbackLabSystems;
#[cfg(feature = "matchbox")]
pub use {
    plugins::RollbackLabPlugins,
    session::{EpisodeStarting, LabRoom, LabSocketPlugin},
    transport::LabNet,
};

pub use rollback_lab_link::cause::{Cause, Evidence, Via};
pub use rollback_lab_link::conditions::{ConditionError, Conditions};
pub use rollback_lab_link::route::{RouteCause, RouteChange, RoutePolicy, RouteState};

/// What a game uses: plugins, configuration, messages and events with their field types, errors.
///
/// ```
/// use bevy_rollback_lab::prelude::*;
/// ```
pub mod prelude {
    pub use crate::RollbackLabSystems;
    pub use crate::RollbackObserverPlugins;
    pub use crate::checksum::portable_hash;
    pub use crate::diagnostics::LabDiagnosticsPlugin;
    #[cfg(feature = "window")]
    pub use crate::display::LabDisplayPlugin;
    #[cfg(feature = "hud")]
    pub use crate::hud::LabHudPlugin;
    pub use crate::metrics::{EpisodeRecord, InputTiming};
    pub use crate::record::{DesyncApp, DesyncRecorded, EpisodeEnded};
    pub use crate::rollback::{
        CauseRevised, DesyncDetected, RollbackCompleted, SessionEvent, SessionEventKind, StallEnded,
    };
    #[cfg(all(feature = "matchbox", target_arch = "wasm32"))]
    pub use crate::web::WebPlugin;
    pub use crate::{Cause, Evidence, RouteCause, RouteChange, RoutePolicy, RouteState, Via};
    #[cfg(feature = "matchbox")]
    pub use crate::{
        JoinLab, JoinRefused, LeaveLab, RollbackLabPlugins,
        config::{ConfigError, LabConfig, PlayerKind, StudyConfig},
        session::{
            Episode, EpisodeApp, EpisodeStarted, EpisodeStarting, LabRoom, LabSession,
            LabSocketPlugin, PeerNotice, ReadyForEpisode, RouteChanged, SessionError,
            SessionFailed, SessionInfo, SessionPhase, WaitingFor, WaitingForPlayers,
        },
    };
    #[cfg(feature = "matchbox")]
    pub use bevy_matchbox::matchbox_socket::PeerId;
}
