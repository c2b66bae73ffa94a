//! The course of a match, the same for a window and for a bot: courts are set up, episodes follow each
//! other, direct paths are blackholed on demand, files and failures are collected.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::RollbackFrameCount;
use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::prelude::*;

use crate::settings::Settings;
use volley::bot::Bots;
use volley::{VolleyConfig, start_court};

/// The ggrs config of the demo.
pub(crate) type Config = VolleyConfig<PeerId>;

/// How long a finished session goes on: its leave message is repeated until acknowledged.
const EXIT_WAIT: Duration = Duration::from_millis(700);

/// The result of a peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Why the session failed, if it did.
    pub failure: Option<String>,
    /// The file of every episode that ended, or why it was not written.
    pub files: Vec<Result<PathBuf, String>>,
}

/// The outcome, shared with the thread that waits for the end of the app.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct SharedOutcome(Arc<Mutex<Outcome>>);

impl SharedOutcome {
    /// The outcome now.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn get(&self) -> Outcome {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn change(&self, change: impl FnOnce(&mut Outcome)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// How long the result of an episode is shown before the next one starts.
#[derive(Resource, Clone, Copy, Debug)]
pub(crate) struct Pause(pub Duration);

/// Blackholes every direct path from this frame of episode 0 on.
#[derive(Resource, Clone, Copy, Debug)]
struct CutAt(Option<u32>);

/// The app ends with the session.
#[derive(Resource, Clone, Copy, Debug)]
struct Quit;

/// The lab session of this peer and the course of its match.
pub(crate) fn plugin(app: &mut App, settings: &Settings, pause: Duration) {
    app.add_plugins(RollbackLabPlugins::<Config>::new(
        settings.lab().auto_start(false),
    ))
    .add_plugins(volley::VolleyPlugin::<Config>::default())
    .print_state::<Config, _>(volley::print_court)
    .insert_resource(Pause(pause))
    .insert_resource(CutAt(settings.cut_direct_at))
    .init_resource::<SharedOutcome>()
    .add_observer(set_up_episode)
    .add_observer(keep_file)
    .add_observer(keep_failure)
    .add_systems(
        Update,
        (
            start_next.run_if(in_state(SessionPhase::Between)),
            cut_direct.run_if(in_state(SessionPhase::Playing)),
            leave.run_if(resource_exists::<Quit>),
        ),
    );
    if settings.quit {
        app.insert_resource(Quit);
    }
}

/// Sets up the court for an episode, of a match or of a file.
pub(crate) fn set_up_episode(
    starting: On<EpisodeStarting>,
    mut commands: Commands,
    bots: Option<ResMut<Bots>>,
) {
    let EpisodeStarting { players, seed, .. } = *starting.event();
    if let Some(mut bots) = bots {
        bots.restart(seed);
    }
    commands.queue(move |world: &mut World| start_court(world, players, seed));
}

/// Starts the first episode at once, the others after the result was shown.
fn start_next(
    phase: Res<State<SessionPhase>>,
    pause: Res<Pause>,
    time: Res<Time<Real>>,
    mut played: Local<bool>,
    mut since: Local<Option<Duration>>,
    mut commands: Commands,
) {
    if phase.is_changed() {
        *since = Some(time.elapsed());
    }
    let Some(entered) = *since else {
        return;
    };
    let wait = if *played { pause.0 } else { Duration::ZERO };
    if time.elapsed() >= entered + wait {
        *played = true;
        *since = None;
        commands.trigger(ReadyForEpisode);
    }
}

fn cut_direct(
    mut cut: ResMut<CutAt>,
    episode: Res<Episode>,
    frame: Option<Res<RollbackFrameCount>>,
    net: Res<LabNet>,
) {
    let (Some(at), Some(frame)) = (cut.0, frame) else {
        return;
    };
    if episode.number() == 0 && i64::from(frame.0) >= i64::from(at) {
        net.cut_direct();
        cut.0 = None;
    }
}

fn keep_file(ended: On<EpisodeEnded>, outcome: Res<SharedOutcome>) {
    let file = ended.file.clone().map_err(|error| error.to_string());
    outcome.change(|outcome| outcome.files.push(file));
}

fn keep_failure(failed: On<SessionFailed>, outcome: Res<SharedOutcome>) {
    let failure = failed.error.to_string();
    outcome.change(|outcome| outcome.failure = Some(failure));
}

/// A session that is over still says goodbye for a moment.
fn leave(
    phase: Res<State<SessionPhase>>,
    time: Res<Time<Real>>,
    mut over: Local<Option<Duration>>,
    mut exit: MessageWriter<AppExit>,
) {
    let (done, with) = match phase.get() {
        SessionPhase::Finished => (true, AppExit::Success),
        SessionPhase::Failed => (true, AppExit::error()),
        _ => (false, AppExit::Success),
    };
    if done && time.elapsed() >= *over.get_or_insert(time.elapsed()) + EXIT_WAIT {
        exit.write(with);
    }
}
