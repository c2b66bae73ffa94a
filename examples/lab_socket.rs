//! A box game that builds its own sessions, as in matchbox's `bevy_ggrs` example, over this crate's
//! socket: the direct path is blackholed half-way, and the match goes on.
//!
//!     cargo run --release --example lab_socket
//!
//! plays two apps in one process on an embedded server, over real WebRTC, for about ten seconds;
//! each leaves a file in `exports`. With the address of a server (`rollback-lab serve`) it is one
//! peer that waits for another:
//!
//!     cargo run --release --example lab_socket -- ws://127.0.0.1:3536
//!
//! A game on a `MatchboxSocket` becomes one on this socket by these lines:
//!
//! ```diff
//! + app.add_plugins(LabSocketPlugin::<BoxConfig>::default());
//!
//! - commands.insert_resource(MatchboxSocket::new_unreliable(room_url));
//! + commands.insert_resource(LabRoom::new(room_url, players));
//!
//! - fn lobby(mut socket: ResMut<MatchboxSocket>, ...)
//! + fn lobby(mut room: ResMut<LabRoom>, ...)
//!
//! - socket.update_peers();
//! - if socket.connected_peers().count() + 1 < players { return; }
//! + if !room.ready() { return; }
//!
//! - for (handle, player) in socket.players().into_iter().enumerate() {
//! + for (handle, player) in room.players().into_iter().enumerate() {
//!
//! - let session = builder.start_p2p_session(socket.take_channel(0)?)?;
//! + let session = room.start_p2p_session(builder)?;
//! ```
//!
//! The exit status is 0 if every peer played to the end, over the relay from the outage on, and the
//! files are valid and agree; 1 otherwise.

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bevy::app::ScheduleRunnerPlugin;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_ggrs::ggrs::{DesyncDetection, SessionBuilder};
use bevy_ggrs::{
    GgrsConfig, GgrsPlugin, GgrsSchedule, LocalInputs, LocalPlayers, PlayerInputs, ReadInputs,
    Rollback, RollbackApp, RollbackFrameCount, RollbackFrameRate, Session,
};
use bevy_matchbox::prelude::PeerId;
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::metrics::SessionMetrics;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EndReason, EpisodeDocument};
use rollback_lab_record::check::{check_episode, check_pair};
use rollback_lab_server::{LabServer, ServerSettings};
use serde::{Deserialize, Serialize};

type BoxConfig = GgrsConfig<BoxInput, PeerId>;
type Failure = Box<dyn Error + Send + Sync>;

const FPS: usize = 60;
const PLAYERS: usize = 2;
/// Eight seconds.
const FRAMES: i32 = 480;
/// From here on no direct packet arrives.
const CUT_AT: i32 = FRAMES / 2;
/// A second beyond the end, in which a peer that is behind gets the last inputs.
const EXTRA_FRAMES: i32 = 60;
/// A match takes ten seconds; after this time it has failed.
const MATCH_LIMIT: Duration = Duration::from_secs(60);
/// WebRTC's crates warn about every connection that is set up or closed.
const LOG_FILTER: &str = "info,webrtc=error,rtc=error,matchbox_socket=error";

/// The result of one peer, shared with the thread that waits for it.
#[derive(Resource, Clone, Default)]
struct Shared(Arc<Mutex<Outcome>>);

#[derive(Default)]
struct Outcome {
    file: Option<(String, EpisodeDocument)>,
    failure: Option<String>,
}

impl Shared {
    fn with<R>(&self, read: impl FnOnce(&mut Outcome) -> R) -> R {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn main() -> ExitCode {
    // A process can set up logging once, so the apps do not.
    App::new().add_plugins(LogPlugin {
        filter: LOG_FILTER.to_owned(),
        ..default()
    });
    let played = match std::env::args().nth(1) {
        Some(server) => play_all(&server, 1),
        None => LabServer::start(ServerSettings::loopback())
            .map_err(Failure::from)
            .and_then(|server| {
                let played = play_all(&server.url(), PLAYERS);
                server.shutdown();
                played
            }),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Plays a number of peers, each on a thread, and checks their results.
fn play_all(server: &str, peers: usize) -> Result<(), Failure> {
    let room_url = format!("{server}/box_game?players={PLAYERS}");
    let threads: Vec<_> = (0..peers)
        .map(|_| {
            let room_url = room_url.clone();
            thread::spawn(move || {
                let shared = Shared::default();
                let exit = app(room_url, shared.clone()).run();
                (shared, exit)
            })
        })
        .collect();
    let mut documents = Vec::new();
    for thread in threads {
        let (shared, exit) = thread.join().map_err(|_| "a peer's thread panicked")?;
        documents.push(shared.with(|outcome| check_outcome(outcome, &exit))?);
    }
    for (number, ours) in documents.iter().enumerate() {
        for theirs in &documents[number + 1..] {
            if let Some(violation) = check_pair(ours, theirs).first() {
                return Err(format!("the peers' files disagree: {violation}").into());
            }
        }
    }
    Ok(())
}

/// Checks that a peer finished over the relay and wrote a valid file.
fn check_outcome(outcome: &mut Outcome, exit: &AppExit) -> Result<EpisodeDocument, Failure> {
    if let Some(failure) = outcome.failure.take() {
        return Err(failure.into());
    }
    let (path, document) = outcome.file.take().ok_or("a peer wrote no file")?;
    println!("{path}");
    let (frames, rollbacks) = (&document.frames, &document.rollbacks);
    println!(
        "  {} frames, {} stalled, {} rollbacks, at most {} deep",
        frames.total, frames.stalled, rollbacks.count, rollbacks.max_frames
    );
    let quality = &document.quality;
    for change in &quality.route_changes {
        println!(
            "  frame {}: {} -> {} ({})",
            change.frame, change.from, change.to, change.cause
        );
    }
    if let Some(violation) = check_episode(&document).first() {
        return Err(format!("{path}: {violation}").into());
    }
    if document.episode.is_partial || document.episode.end_frame != FRAMES {
        return Err(format!("{path}: ended at frame {}", document.episode.end_frame).into());
    }
    if !document.sync.desyncs.is_empty() {
        return Err(format!("{path}: the peers' states differ").into());
    }
    if quality.p2p_fallback_triggered != Some(true) {
        return Err(format!("{path}: the route did not fail over to the relay").into());
    }
    match exit {
        AppExit::Success => Ok(document),
        AppExit::Error(code) => Err(format!("{path}: its peer exited with {code}").into()),
    }
}

#[derive(States, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum GameState {
    #[default]
    Lobby,
    InGame,
}

#[derive(Resource)]
struct RoomUrl(String);

fn app(room_url: String, shared: Shared) -> App {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(
            Duration::from_secs(1) / FPS as u32,
        )),
        StatesPlugin,
        GgrsPlugin::<BoxConfig>::default(),
    ))
    .insert_resource(RollbackFrameRate(FPS))
    .rollback_component_with_copy::<Place>()
    .rollback_component_with_copy::<Velocity>()
    .checksum_component_with_hash::<Place>()
    .checksum_component_with_hash::<Velocity>()
    .insert_resource(RoomUrl(room_url))
    .init_state::<GameState>()
    .add_systems(OnEnter(GameState::Lobby), join_room)
    .add_systems(Update, lobby.run_if(in_state(GameState::Lobby)))
    .add_systems(OnEnter(GameState::InGame), place_boxes)
    .add_systems(ReadInputs, press)
    .add_systems(GgrsSchedule, move_boxes);

    // The socket, and beside it the observers: either works without the other.
    app.add_plugins(LabSocketPlugin::<BoxConfig>::default());
    app.add_plugins(RollbackObserverPlugins::<BoxConfig>::default());

    // What this example adds: the outage, an end, and the results.
    app.insert_resource(shared)
        .add_observer(keep_file)
        .add_observer(keep_failure)
        .add_systems(Update, give_up)
        .add_systems(
            Update,
            (cut_direct_path, end_match, leave).run_if(in_state(GameState::InGame)),
        );
    app
}

fn join_room(url: Res<RoomUrl>, mut commands: Commands) {
    commands.insert_resource(LabRoom::new(&url.0, PLAYERS).input_delay(2));
}

/// Waits for all players, then builds the session with the game's own settings.
fn lobby(
    mut room: ResMut<LabRoom>,
    mut state: ResMut<NextState<GameState>>,
    mut commands: Commands,
) -> Result {
    if !room.ready() {
        return Ok(());
    }
    let mut builder = SessionBuilder::<BoxConfig>::new()
        .with_num_players(PLAYERS)?
        .with_max_prediction_window(8)
        .with_input_delay(2)
        .with_fps(FPS)?
        .with_desync_detection_mode(DesyncDetection::On { interval: 10 });
    for (handle, player) in room.players().into_iter().enumerate() {
        builder = builder.add_player(player, handle)?;
    }
    let session = room.start_p2p_session(builder)?;
    commands.insert_resource(Session::P2P(session));
    state.set(GameState::InGame);
    Ok(())
}

/// Buttons: one bit per direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct BoxInput(u8);

/// By how much a held button changes the speed in a frame.
const ACCELERATION: i32 = 300;
const MAX_SPEED: i32 = 3_000;
/// Half the length of the plane.
const EDGE: i32 = 150_000;

/// A player's box and where it is. Integers, so that every machine computes the same.
#[derive(Component, Clone, Copy, Hash)]
struct Place {
    handle: usize,
    at: [i32; 2],
}

#[derive(Component, Clone, Copy, Default, Hash)]
struct Velocity([i32; 2]);

fn place_boxes(mut commands: Commands) {
    for handle in 0..PLAYERS {
        let at = [EDGE / 2 * (2 * handle as i32 - 1), 0];
        commands.spawn((Place { handle, at }, Velocity::default(), Rollback));
    }
}

/// A bot that holds each random choice for a fifth of a second.
fn press(local: Res<LocalPlayers>, frame: Res<RollbackFrameCount>, mut commands: Commands) {
    let choice = |handle: usize| {
        let turn = frame.0.unsigned_abs() / 12 * 2 + handle as u32;
        // Knuth's multiplicative hash; its upper bits are the mixed ones.
        BoxInput((turn.wrapping_mul(2_654_435_761) >> 28) as u8)
    };
    let inputs = local.0.iter().map(|&handle| (handle, choice(handle)));
    commands.insert_resource(LocalInputs::<BoxConfig>(inputs.collect()));
}

fn move_boxes(inputs: Res<PlayerInputs<BoxConfig>>, mut boxes: Query<(&mut Place, &mut Velocity)>) {
    for (mut place, mut velocity) in &mut boxes {
        let (BoxInput(buttons), _) = inputs[place.handle];
        for axis in 0..2 {
            let held = |bit: usize| i32::from(buttons >> (2 * axis + bit) & 1);
            let speed = match held(1) - held(0) {
                // Friction takes an eighth of it.
                0 => velocity.0[axis] * 7 / 8,
                push => velocity.0[axis] + push * ACCELERATION,
            };
            velocity.0[axis] = speed.clamp(-MAX_SPEED, MAX_SPEED);
            place.at[axis] = (place.at[axis] + velocity.0[axis]).clamp(-EDGE, EDGE);
        }
    }
}

fn cut_direct_path(frame: Res<RollbackFrameCount>, net: Res<LabNet>, mut cut: Local<bool>) {
    if frame.0 >= CUT_AT && !std::mem::replace(&mut *cut, true) {
        info!("frame {}: the direct path is cut", frame.0);
        net.cut_direct();
    }
}

/// Ends the episode at the same frame on both peers, once that frame is confirmed.
fn end_match(mut metrics: ResMut<SessionMetrics<BoxInput>>, mut over: Local<bool>) {
    let confirmed = i64::from(metrics.live().confirmed_frames);
    if !*over && confirmed > i64::from(FRAMES) {
        *over = true;
        metrics.close(Some(FRAMES), Some(EndReason::FrameLimit), false);
    }
}

fn leave(frame: Res<RollbackFrameCount>, shared: Res<Shared>, mut exit: MessageWriter<AppExit>) {
    if frame.0 >= FRAMES + EXTRA_FRAMES && shared.with(|outcome| outcome.file.is_some()) {
        exit.write(AppExit::Success);
    }
}

fn keep_file(ended: On<EpisodeEnded>, shared: Res<Shared>) {
    shared.with(|outcome| match &ended.file {
        Ok(path) => {
            let document = (*ended.document).clone();
            outcome.file = Some((path.display().to_string(), document));
        }
        Err(error) => outcome.failure = Some(error.to_string()),
    });
}

fn keep_failure(failed: On<SessionFailed>, shared: Res<Shared>, mut exit: MessageWriter<AppExit>) {
    shared.with(|outcome| outcome.failure = Some(failed.error.to_string()));
    exit.write(AppExit::error());
}

fn give_up(time: Res<Time<Real>>, shared: Res<Shared>, mut exit: MessageWriter<AppExit>) {
    if time.elapsed() > MATCH_LIMIT {
        shared.with(|outcome| outcome.failure = Some("the match did not end in time".to_owned()));
        exit.write(AppExit::error());
    }
}
