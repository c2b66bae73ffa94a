//! The Bevy side of the record: metrics are folded, ended episodes go to the sink, and an event
//! reports each file.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bevy::ecs::schedule::ScheduleLabel;
use bevy::log::tracing;
use bevy::prelude::*;
use bevy_ggrs::Session;
use ggrs::Config;

use super::sink::{RecordSink, SinkError, SinkEvent, WriteError};
use super::{EndReason, EpisodeDocument};
use crate::clock::LabClock;
use crate::metrics::{
    EpisodeMeta, EpisodeRecord, InputTiming, LiveNumbers, SessionMeta, SessionMetrics, Software,
    fold_metrics,
};
use crate::rollback::{RollbackLabSystems, SessionKind, TraceLog};

/// How long the end of the app waits for its last files.
const EXIT_WAIT: Duration = Duration::from_secs(10);

/// Observe this event to get an episode's numbers, document and file once it has ended.
///
/// Triggered once per episode and peer, when its file was written or could not be.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::record::EpisodeEnded;
///
/// fn log_file(ended: On<EpisodeEnded>) {
///     match &ended.file {
///         Ok(path) => info!("episode {} is in {}", ended.number, path.display()),
///         Err(error) => error!("episode {}: {error}", ended.number),
///     }
/// }
/// # App::new().add_observer(log_file);
/// ```
#[derive(Event, Clone, Debug)]
pub struct EpisodeEnded {
    /// Number of the episode, from 0.
    pub number: u32,
    /// Its length in frames: they count from 0 to this one, excluded.
    pub end_frame: i32,
    /// Why it ended. `None` if it was cut off without a reason.
    pub reason: Option<EndReason>,
    /// Its numbers.
    pub summary: LiveNumbers,
    /// Where its file is, or why it was not written.
    pub file: Result<PathBuf, WriteError>,
    /// The document itself, shared with the writer.
    pub document: Arc<EpisodeDocument>,
}

/// Folds metrics and writes files.
///
/// # Panics
/// Adding it for a lab session whose folder cannot be written: better before the match than
/// after. An observed game is left running; its documents stay in memory, and the log says so.
pub struct RecordPlugin<C> {
    export_dir: Option<PathBuf>,
    lab: bool,
    config: PhantomData<fn() -> C>,
}

impl<C: Config> RecordPlugin<C> {
    /// For a game that delimits its own sessions: an episode is the life of one.
    ///
    /// Only P2P sessions leave files. A file's ticks are runs of `ReadInputs`, and a spectator has
    /// none; its rollbacks are corrections of predictions, and a sync test predicts nothing and
    /// reloads all the time. Their totals would not add up, so neither is written, and the log says
    /// so once. Their messages are written all the same, tagged with their
    /// [`SessionKind`](crate::rollback::SessionKind).
    #[must_use]
    pub fn observing(export_dir: Option<PathBuf>) -> Self {
        Self {
            export_dir,
            lab: false,
            config: PhantomData,
        }
    }

    /// For a lab session, which says when an episode begins and ends; see `LabRecordPlugin`.
    #[cfg(feature = "matchbox")]
    pub(super) fn lab(export_dir: Option<PathBuf>) -> Self {
        Self {
            export_dir,
            lab: true,
            config: PhantomData,
        }
    }

    fn sink(&self) -> RecordSink {
        match self.export_dir.as_deref().map(open_folder) {
            None => RecordSink::in_memory(),
            Some(Ok(sink)) => sink,
            Some(Err(error)) if self.lab => panic!("{error}"),
            Some(Err(error)) => {
                error!("{error}; documents stay in memory");
                RecordSink::in_memory()
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn open_folder(folder: &Path) -> Result<RecordSink, SinkError> {
    RecordSink::open(folder)
}

/// A page has no folders: its files stay in memory until the page fetches them.
#[cfg(target_arch = "wasm32")]
fn open_folder(_folder: &Path) -> Result<RecordSink, SinkError> {
    Ok(RecordSink::in_memory())
}

impl<C: Config> Plugin for RecordPlugin<C> {
    fn build(&self, app: &mut App) {
        app.init_resource::<LabClock>()
            .init_resource::<EpisodeRecord>()
            .init_resource::<InputTiming>()
            .init_resource::<SendQueue>()
            .init_resource::<EarlierSinks>()
            .insert_resource(self.sink());
        if self.lab {
            build_lab::<C>(app);
        } else {
            build_observing::<C>(app);
        }
    }

    /// Only now is it known whether the game's sessions run over a room of the lab's.
    #[cfg(feature = "matchbox")]
    fn finish(&self, app: &mut App) {
        if !self.lab
            && app
                .world()
                .contains_resource::<crate::session::RoomsExpected>()
        {
            super::links::observe_links::<C>(app);
        }
    }
}

/// Folds the metrics of a lab session and writes what ended. Runs in [`PreUpdate`], and once more
/// in [`Last`] when the app exits: one schedule, so that its systems keep one reading position in
/// the messages.
#[derive(ScheduleLabel, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RecordSchedule;

fn run_record(world: &mut World) {
    world.run_schedule(RecordSchedule);
}

fn build_lab<C: Config>(app: &mut App) {
    app.init_schedule(RecordSchedule)
        .configure_sets(
            RecordSchedule,
            (RollbackLabSystems::Measure, RollbackLabSystems::Record).chain(),
        )
        .add_systems(
            RecordSchedule,
            (
                fold_metrics::<C::Input>.in_set(RollbackLabSystems::Measure),
                report_outcomes.in_set(RollbackLabSystems::Record),
            ),
        )
        .add_systems(PreUpdate, run_record.in_set(RollbackLabSystems::Measure))
        .add_systems(
            Last,
            (
                run_record.in_set(RollbackLabSystems::Measure),
                flush_on_exit.in_set(RollbackLabSystems::Record),
            ),
        );
}

/// The clock's origin in microseconds; a browser has whole milliseconds.
pub(super) fn fine_origin(clock: &LabClock) -> Option<u64> {
    (!cfg!(target_arch = "wasm32")).then(|| clock.origin_unix_us())
}

/// An episode closes with its ggrs session, and its document goes to the sink.
fn build_observing<C: Config>(app: &mut App) {
    let clock = app.world().resource::<LabClock>();
    let (origin, origin_us) = (clock.origin_unix_ms(), fine_origin(clock));
    let template = EpisodeMeta {
        // An observed game has not configured its name.
        software: software("", ""),
        session: SessionMeta {
            // Two games on one machine may start in the same millisecond.
            session_id: format!("observed-{origin:x}-{:x}", process_id()),
            ..default()
        },
        fps: 60,
        predictor: Some(predictor::<C>()),
        origin_unix_ms: origin,
        origin_unix_us: origin_us,
        clock_resolution_us: Some(u64::from(clock.step_us())),
        ..default()
    };
    app.insert_resource(SessionMetrics::<C::Input>::closing_with_session(template))
        .add_systems(
            PreUpdate,
            (
                fold_metrics::<C::Input>.in_set(RollbackLabSystems::Measure),
                write_closed::<C>.in_set(RollbackLabSystems::Record),
            ),
        )
        .add_systems(
            Last,
            (
                record_exit::<C>.in_set(RollbackLabSystems::Observe),
                fold_metrics::<C::Input>.in_set(RollbackLabSystems::Measure),
                (write_closed::<C>, flush_on_exit)
                    .chain()
                    .in_set(RollbackLabSystems::Record),
            ),
        );
}

#[cfg(not(target_arch = "wasm32"))]
fn process_id() -> u32 {
    std::process::id()
}

#[cfg(target_arch = "wasm32")]
fn process_id() -> u32 {
    0
}

fn record_exit<C: Config>(mut metrics: ResMut<SessionMetrics<C::Input>>) {
    metrics.record_app_exit();
}

/// Looks whether an episode began or ended, and whether a file is on its way. In most updates there
/// is neither, and then nothing more of the world is asked for.
pub(super) fn write_closed<C: Config>(world: &mut World) {
    let mut ran = Ok(());
    if world.resource::<SessionMetrics<C::Input>>().has_news() {
        ran = world.run_system_cached(queue_ended::<C>);
    }
    if !world.resource::<RecordSink>().is_quiet() {
        ran = ran.and(world.run_system_cached(report_outcomes));
    }
    if let Err(error) = ran {
        error!("an episode was not queued for writing: {error}");
    }
}

/// Completes the settings of an episode that began, and queues the documents of those that ended.
fn queue_ended<C: Config>(
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut sink: ResMut<RecordSink>,
    mut send_queue: ResMut<SendQueue>,
    rate: Option<Res<bevy_ggrs::RollbackFrameRate>>,
    session: Option<Res<Session<C>>>,
    log: Res<TraceLog<C>>,
    mut logged: Local<bool>,
) {
    let kept_apart = log.kind() != SessionKind::P2P && log.trace().is_active();
    if kept_apart && !std::mem::replace(&mut *logged, true) {
        info!(
            "a {:?} session leaves no file: only P2P sessions do",
            log.kind()
        );
    }
    if let Some(rate) = rate {
        metrics.set_fps(u32::try_from(rate.0).unwrap_or(u32::MAX));
    }
    if let Some(Session::P2P(session)) = session.as_deref() {
        let window = session.max_prediction();
        metrics.set_max_prediction(u32::try_from(window).unwrap_or(u32::MAX));
    }
    for (document, summary) in metrics.take_finished() {
        send_queue.post(&mut sink, document, summary);
    }
}

/// What runs, as far as this build knows it.
#[must_use]
pub(crate) fn software(game: &str, version: &str) -> Software {
    Software {
        library: format!("bevy_rollback_lab {}", env!("CARGO_PKG_VERSION")),
        game: game.to_owned(),
        version: version.to_owned(),
        build_digest: None,
        git_commit: None,
        git_dirty: None,
        // From the lock file of the build; see `build.rs`.
        bevy: option_env!("ROLLBACK_LAB_BEVY_VERSION").map(str::to_owned),
        ggrs: option_env!("ROLLBACK_LAB_GGRS_VERSION").map(str::to_owned),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        browser: browser(),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn browser() -> Option<String> {
    None
}

#[cfg(target_arch = "wasm32")]
fn browser() -> Option<String> {
    let navigator = js_sys::Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    let user_agent = js_sys::Reflect::get(&navigator, &"userAgent".into()).ok()?;
    super::browser::family(&user_agent.as_string()?)
}

/// How missing inputs are predicted: ggrs's own predictors by their usual names, others by type.
pub(super) fn predictor<C: Config>() -> String {
    let name = std::any::type_name::<C::InputPredictor>();
    match name.rsplit("::").next() {
        Some("PredictRepeatLast") => String::from("repeatLast"),
        Some("PredictDefault") => String::from("default"),
        _ => name.to_owned(),
    }
}

/// Episodes whose file is on its way.
#[derive(Resource, Default)]
pub(super) struct SendQueue {
    waiting: HashMap<PathBuf, (Arc<EpisodeDocument>, LiveNumbers)>,
}

impl SendQueue {
    /// Queues the document of a finished episode.
    pub(super) fn post(
        &mut self,
        sink: &mut RecordSink,
        document: EpisodeDocument,
        summary: LiveNumbers,
    ) {
        log_summary(&document, &summary);
        // The sink writes it while this one waits for the outcome.
        let document = Arc::new(document);
        let path = document.path();
        self.waiting.insert(path, (Arc::clone(&document), summary));
        sink.write(document);
    }

    fn take(&mut self, path: &Path) -> Option<(Arc<EpisodeDocument>, LiveNumbers)> {
        let key = self.waiting.keys().find(|key| path.ends_with(key))?.clone();
        self.waiting.remove(&key)
    }
}

/// One line about how the episode went; the whole document at debug level.
fn log_summary(document: &EpisodeDocument, summary: &LiveNumbers) {
    // A game over another transport measures neither.
    let (share, fallback) = match (summary.share_sent_p2p, summary.fallback_frame) {
        (None, None) => (String::from("-"), String::from("-")),
        (share, frame) => (
            share.map_or_else(
                || String::from("-"),
                |share| format!("{:.1}%", share * 100.0),
            ),
            frame.map_or_else(|| String::from("none"), |frame| frame.to_string()),
        ),
    };
    info!(
        "episode {}: {} frames, {} rollbacks, max depth {}, {share} sent P2P, fallback frame {fallback}",
        document.episode.episode_num,
        summary.frames,
        summary.rollbacks,
        summary.max_rollback_frames,
    );
    if tracing::enabled!(tracing::Level::DEBUG)
        && let Ok(text) = serde_json::to_string(document)
    {
        debug!("{text}");
    }
}

/// Sinks of earlier lab sessions with files still on their way, or kept in memory.
#[derive(Resource, Default)]
pub(super) struct EarlierSinks(Vec<RecordSink>);

/// Files go to `folder` from now on. Those on their way still arrive where they should, and those that
/// could not be written are tried again.
///
/// # Errors
/// Nothing can be written there; the sink is unchanged then.
#[cfg(feature = "matchbox")]
pub(super) fn change_folder(world: &mut World, folder: Option<PathBuf>) -> Result<(), SinkError> {
    for sink in &mut world.resource_mut::<EarlierSinks>().0 {
        sink.retry();
    }
    // A page has no folders.
    if cfg!(target_arch = "wasm32") || world.resource::<RecordSink>().folder() == folder.as_deref()
    {
        return Ok(());
    }
    let next = match folder {
        Some(folder) => open_folder(&folder)?,
        None => RecordSink::in_memory(),
    };
    let before = std::mem::replace(&mut *world.resource_mut::<RecordSink>(), next);
    if !before.is_quiet() || before.kept() > 0 {
        world.resource_mut::<EarlierSinks>().0.push(before);
    }
    Ok(())
}

pub(super) fn report_outcomes(
    mut sink: ResMut<RecordSink>,
    mut earlier: ResMut<EarlierSinks>,
    mut send_queue: ResMut<SendQueue>,
    mut commands: Commands,
) {
    for event in sink.bypass_change_detection().poll() {
        report(event, &mut send_queue, &mut commands);
    }
    if earlier.0.is_empty() {
        return;
    }
    for sink in &mut earlier.0 {
        for event in sink.poll() {
            report(event, &mut send_queue, &mut commands);
        }
    }
    earlier.0.retain(|sink| !sink.is_quiet() || sink.kept() > 0);
}

fn report(event: SinkEvent, send_queue: &mut SendQueue, commands: &mut Commands) {
    let (path, file) = match event {
        SinkEvent::Written { path, .. } => (path.clone(), Ok(path)),
        SinkEvent::Failed(error) => {
            error!("{error}");
            (error.path().to_owned(), Err(error))
        }
    };
    let Some((document, summary)) = send_queue.take(&path) else {
        return;
    };
    commands.trigger(EpisodeEnded {
        number: document.episode.episode_num,
        end_frame: document.episode.end_frame,
        reason: document.episode.end_reason.clone(),
        summary,
        file,
        document,
    });
}

/// The app exits: waits for its last files.
fn flush_on_exit(
    mut sink: ResMut<RecordSink>,
    mut earlier: ResMut<EarlierSinks>,
    mut send_queue: ResMut<SendQueue>,
    mut commands: Commands,
) {
    for sink in earlier.0.iter_mut().chain([&mut *sink]) {
        for event in sink.flush(EXIT_WAIT) {
            report(event, &mut send_queue, &mut commands);
        }
        if sink.kept() > 0 {
            error!("{} files could not be written and are lost", sink.kept());
        }
    }
}
