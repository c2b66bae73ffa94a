//! One peer of the duel: a Bevy app on a thread of its own, played by a bot. Here are the plugins,
//! the moment at which the direct path is blackholed, and the status for the progress line.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::RollbackFrameCount;
use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::config::{LabConfig, PlayerKind, StudyConfig};
use bevy_rollback_lab::prelude::*;

use crate::progress::SharedStatus;
use volley::bot::policy::{POLICY_NAME, POLICY_VERSION};
use volley::bot::{BotPlugin, Bots};
use volley::input::VolleyInput;
use volley::{VolleyConfig, VolleyPlugin, print_court, start_court};

type Config = VolleyConfig<PeerId>;

/// Version of the volley game, which peers compare.
const GAME_VERSION: &str = "1";
/// Ticks that a late loop catches up on; after a longer stall it starts a new schedule.
const CATCH_UP: u32 = 8;
/// How long a finished session goes on: its leave message is repeated until acknowledged.
const EXIT_WAIT: Duration = Duration::from_millis(700);

/// The result of one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Id of the lab session, once the players met.
    pub session_id: Option<String>,
    /// Handle of the local player, once the players met.
    pub player: Option<usize>,
    /// Why the session failed, if it did.
    pub failure: Option<String>,
    /// The file of every episode that ended, or why it was not written.
    pub files: Vec<Result<PathBuf, String>>,
}

/// Files of the episodes that ended so far.
#[derive(Resource, Default)]
struct Files(Vec<Result<PathBuf, String>>);

/// Blackholes every direct path from a frame of episode 0 on.
#[derive(Resource)]
struct CutAt(Option<u32>);

#[derive(Resource, Deref)]
struct Shown(SharedStatus);

/// Plays the whole lab session and returns when it is finished or failed.
pub(crate) fn play(lab: LabConfig, cut: Option<u32>, status: SharedStatus) -> Outcome {
    let fps = lab.fps;
    // ggrs truncates its frame to whole nanoseconds: one more makes every update one frame.
    let tick = Duration::from_nanos(1_000_000_000 / u64::from(fps) + 1);
    let mut app = build(lab, tick);
    app.insert_resource(CutAt(cut))
        .insert_resource(Shown(status));
    run(&mut app, tick);
    outcome(&app)
}

fn build(lab: LabConfig, tick: Duration) -> App {
    let fps = lab.fps;
    let lab = lab.game("volley", GAME_VERSION).study(StudyConfig {
        player_kind: PlayerKind::Bot,
        policy_name: Some(POLICY_NAME.to_owned()),
        policy_version: Some(POLICY_VERSION.to_owned()),
        ..default()
    });
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, StatesPlugin))
        .insert_resource(TimeUpdateStrategy::ManualDuration(tick))
        .add_plugins(RollbackLabPlugins::<Config>::new(lab))
        .add_plugins(VolleyPlugin::<Config>::default())
        .print_state::<Config, _>(print_court)
        // The seed of each episode replaces this one before its first frame.
        .add_plugins(BotPlugin::<Config>::new(0, fps))
        .init_resource::<Files>()
        .add_observer(set_up_episode)
        .add_observer(keep_file)
        .add_systems(Update, (cut_direct, show_status));
    app
}

/// Updates the app once per tick of the wall clock until the session is over.
fn run(app: &mut App, tick: Duration) {
    app.finish();
    app.cleanup();
    let mut next = Instant::now();
    let mut over: Option<Instant> = None;
    while over.is_none_or(|since| since.elapsed() < EXIT_WAIT) {
        app.update();
        if is_over(app) {
            over.get_or_insert_with(Instant::now);
        }
        next += tick;
        let now = Instant::now();
        if now > next + tick * CATCH_UP {
            next = now;
        }
        thread::sleep(next.saturating_duration_since(now));
    }
    // The last update closes and writes what is still open.
    app.world_mut().write_message(AppExit::Success);
    app.update();
}

fn is_over(app: &App) -> bool {
    let phase = app.world().resource::<State<SessionPhase>>().get();
    matches!(phase, SessionPhase::Finished | SessionPhase::Failed)
}

fn outcome(app: &App) -> Outcome {
    let info = app.world().get_resource::<SessionInfo>();
    let session = app.world().get_resource::<LabSession<Config>>();
    Outcome {
        session_id: info.map(|info| info.session_id.clone()),
        player: info.map(|info| info.local_player),
        failure: session
            .and_then(LabSession::failure)
            .map(ToString::to_string),
        files: app.world().resource::<Files>().0.clone(),
    }
}

fn set_up_episode(starting: On<EpisodeStarting>, mut commands: Commands, mut bots: ResMut<Bots>) {
    let EpisodeStarting { players, seed, .. } = *starting.event();
    bots.restart(seed);
    commands.queue(move |world: &mut World| start_court(world, players, seed));
}

fn keep_file(ended: On<EpisodeEnded>, mut files: ResMut<Files>) {
    let file = ended.file.clone().map_err(|error| error.to_string());
    files.0.push(file);
}

fn cut_direct(
    mut cut: ResMut<CutAt>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Option<Res<RollbackFrameCount>>,
    net: Res<LabNet>,
) {
    let (Some(at), Some(frame), SessionPhase::Playing) = (cut.0, frame, phase.get()) else {
        return;
    };
    if episode.number() == 0 && i64::from(frame.0) >= i64::from(at) {
        net.cut_direct();
        cut.0 = None;
    }
}

fn show_status(
    shown: Res<Shown>,
    episode: Res<Episode>,
    phase: Res<State<SessionPhase>>,
    frame: Option<Res<RollbackFrameCount>>,
    mut rollbacks: MessageReader<RollbackCompleted<VolleyInput>>,
    mut routes: MessageReader<RouteChanged>,
) {
    shown.update(|status| {
        if status.episode != episode.number() {
            status.episode = episode.number();
            status.rollbacks = 0;
        }
        status.phase = phase.get().as_str();
        status.rollbacks += rollbacks.read().len() as u64;
        // The frame counter restarts at 0 as soon as an episode is over.
        if let (Some(frame), SessionPhase::Playing) = (frame, phase.get()) {
            status.frame = frame.0;
        }
        for changed in routes.read() {
            status
                .routes
                .retain(|(player, _)| *player != changed.player);
            let route = changed.change.to.as_str().to_owned();
            status.routes.push((changed.player, route));
        }
    });
}
