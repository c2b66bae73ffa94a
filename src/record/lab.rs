//! What a lab session adds to the record: its links and digests are recorded, an episode closes when
//! the session stops it, and the session document is kept up to date.

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::links::{LinkWatch, millis, record_links};
use super::recorder::{
    RecordPlugin, RecordSchedule, SendQueue, change_folder, fine_origin, report_outcomes,
};
use super::sink::{RecordSink, SinkError};
use super::{EndReason, Phase, Player, SessionDocument, SessionMeta};
use crate::clock::LabClock;
use crate::metrics::{EpisodeMeta, SessionMetrics, micros};
use crate::rollback::RollbackLabSystems;
use crate::session::{
    EpisodeAbandoned, EpisodeFinalized, EpisodeStarting, EpisodeStopped, Focus, LabSession,
    SessionFailed, SessionInfo, SessionPhase,
};
use crate::transport::LabNet;
use rollback_lab_link::link::LinkSnapshot;

/// What is known of every episode of this lab session.
#[derive(Resource)]
struct Template(EpisodeMeta);

/// The session document, as far as it was written.
#[derive(Resource)]
struct Trail {
    document: SessionDocument,
    /// The session as this peer is configured, before the players are known.
    session: SessionMeta,
    phase: Option<SessionPhase>,
    joined: Option<Duration>,
    /// Where it was written last: before all players are known, under a provisional id.
    written: Option<PathBuf>,
}

/// Observe this event to follow the session document: it changed and is on its way to its file.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::record::SessionDocumentChanged;
///
/// fn log_phase(changed: On<SessionDocumentChanged>) {
///     if let Some(entered) = changed.document.phases.last() {
///         info!("session entered {}", entered.phase);
///     }
/// }
/// # App::new().add_observer(log_phase);
/// ```
#[derive(Event, Clone, Debug)]
pub struct SessionDocumentChanged {
    /// The document as it is now.
    pub document: Arc<SessionDocument>,
}

/// What the record of a lab session needs to know before it begins.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordSettings {
    /// Folder of the files. `None` keeps them in memory.
    pub export_dir: Option<PathBuf>,
    /// What is known of every episode.
    pub template: EpisodeMeta,
}

/// Folds the metrics of a lab session and writes its files.
///
/// # Panics
/// Adding it with a folder that cannot be written: better before the match than after.
pub(crate) struct LabRecordPlugin<C> {
    settings: RecordSettings,
    config: PhantomData<fn() -> C>,
}

impl<C> Default for LabRecordPlugin<C> {
    /// Without files until [`begin_session`] names a folder.
    fn default() -> Self {
        Self::new(RecordSettings::default())
    }
}

impl<C> LabRecordPlugin<C> {
    /// A record by `settings`.
    #[must_use]
    pub(crate) fn new(settings: RecordSettings) -> Self {
        Self {
            settings,
            config: PhantomData,
        }
    }
}

impl<C: Config<Address = PeerId>> Plugin for LabRecordPlugin<C> {
    fn build(&self, app: &mut App) {
        app.add_plugins(RecordPlugin::<C>::lab(self.settings.export_dir.clone()));
        build::<C>(app, self.settings.template.clone());
    }
}

fn build<C: Config<Address = PeerId>>(app: &mut App, template: EpisodeMeta) {
    describe(app.world_mut(), template);
    app.insert_resource(SessionMetrics::<C::Input>::default())
        .init_resource::<LinkWatch>()
        .add_observer(begin_episode::<C>)
        .add_observer(record_failure);
    app.add_systems(
        RecordSchedule,
        (
            (record_links::<C>, close_stopped::<C>, drop_abandoned::<C>)
                .chain()
                .after(crate::metrics::fold_metrics::<C::Input>)
                .in_set(RollbackLabSystems::Measure),
            (write_settled::<C>, keep_trail::<C>)
                .chain()
                .in_set(RollbackLabSystems::Record)
                .before(report_outcomes),
        ),
    );
}

/// Sets what is known of the lab session and its episodes, by the clock as it is now.
fn describe(world: &mut World, mut template: EpisodeMeta) {
    let clock = world.resource::<LabClock>().clone();
    template.origin_unix_ms = clock.origin_unix_ms();
    template.origin_unix_us = fine_origin(&clock);
    template.clock_resolution_us = Some(u64::from(clock.step_us()));
    world.insert_resource(Trail {
        document: SessionDocument::new(
            template.software.clone(),
            template.session.clone(),
            clock.origin_unix_ms(),
        ),
        session: template.session.clone(),
        phase: None,
        joined: None,
        written: None,
    });
    world.insert_resource(Template(template));
}

/// Another lab session begins in this app: nothing of the last one is in its files.
///
/// # Errors
/// The folder cannot be written; the record is unchanged then.
pub(crate) fn begin_session<C: Config<Address = PeerId>>(
    world: &mut World,
    settings: RecordSettings,
) -> Result<(), SinkError> {
    change_folder(world, settings.export_dir)?;
    describe(world, settings.template);
    world.resource_mut::<SessionMetrics<C::Input>>().restart();
    world.resource_mut::<LinkWatch>().restart();
    Ok(())
}

fn begin_episode<C: Config<Address = PeerId>>(
    starting: On<EpisodeStarting>,
    template: Res<Template>,
    info: Res<SessionInfo>,
    (net, clock, focus): (Res<LabNet>, Res<LabClock>, Res<Focus>),
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut watch: ResMut<LinkWatch>,
) {
    let mut meta = template.0.clone();
    meta.episode_num = starting.number;
    meta.seed = Some(starting.seed);
    meta.predictor = Some(super::recorder::predictor::<C>());
    describe_session(&mut meta.session, &info);
    let delay = meta
        .input_delay_frames
        .values()
        .next()
        .copied()
        .unwrap_or(0);
    meta.input_delay_frames = (0..starting.players)
        .map(|player| (player, delay))
        .collect();
    metrics.begin(meta);
    let now = clock.now();
    if focus.watched {
        metrics.record_focus_watched();
    }
    if focus.hidden {
        metrics.record_focus_lost(now);
    }
    for player_slot in info
        .player_slots
        .iter()
        .filter(|player_slot| !player_slot.local)
    {
        if net
            .link(player_slot.peer, LinkSnapshot::peer_hidden)
            .unwrap_or_default()
        {
            metrics.record_peer_hidden(player_slot.handle, now);
        }
    }
    watch.begin(&net, &info, now);
}

/// The players of the template are this peer's own settings; here they get their player slots.
fn describe_session(session: &mut SessionMeta, info: &SessionInfo) {
    session.session_id.clone_from(&info.session_id);
    session.player_ids = info
        .player_slots
        .iter()
        .map(|player_slot| player_slot.handle)
        .collect();
    session.local_player_id = Some(info.local_player);
    let own = session.players.first().cloned();
    session.players = info
        .player_slots
        .iter()
        .map(|player_slot| match &own {
            Some(own) if player_slot.local => Player {
                player_id: player_slot.handle,
                ..own.clone()
            },
            // The others' kind and policy are in their own files.
            _ => Player {
                player_id: player_slot.handle,
                kind: None,
                policy_name: None,
                policy_version: None,
                policy_digest: None,
                pseudonym: None,
            },
        })
        .collect();
}

/// The simulation stopped: the last reports are taken and the numbers are closed. The file is
/// secured at once, without the others' digests, which [`write_settled`] may have to wait for.
fn close_stopped<C: Config<Address = PeerId>>(
    mut stopped: MessageReader<EpisodeStopped>,
    net: Option<Res<LabNet>>,
    watch: Res<LinkWatch>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut sink: ResMut<RecordSink>,
) {
    for stop in stopped.read() {
        if let Some(net) = &net {
            watch.report(net, &mut metrics);
        }
        let reason = EndReason::from(stop.reason);
        metrics.close(Some(stop.end_frame), Some(reason), stop.partial);
        sink.secure(|| metrics.export());
    }
}

/// The players gather again, or leave, before the first frame: there is nothing to write.
fn drop_abandoned<C: Config<Address = PeerId>>(
    mut abandoned: MessageReader<EpisodeAbandoned>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
) {
    if abandoned.read().count() > 0 {
        metrics.abandon();
    }
}

/// Every peer has reported its end, or will not any more: the document is complete.
fn write_settled<C: Config<Address = PeerId>>(
    mut settled: MessageReader<EpisodeFinalized>,
    mut metrics: ResMut<SessionMetrics<C::Input>>,
    mut sink: ResMut<RecordSink>,
    mut send_queue: ResMut<SendQueue>,
    mut trail: ResMut<Trail>,
) {
    for settled in settled.read() {
        for &(player, end_frame, digest) in &settled.digests {
            metrics.record_peer_digest(player, end_frame, digest);
        }
        for (document, summary) in metrics.take_finished() {
            if let Some(name) = document.path().file_name() {
                trail
                    .document
                    .episodes
                    .push(name.to_string_lossy().into_owned());
            }
            send_queue.post(&mut sink, document, summary);
            trail.phase = None;
        }
    }
}

/// Rewrites the session document whenever the session takes a step.
fn keep_trail<C: Config<Address = PeerId>>(
    session: Res<LabSession<C>>,
    info: Option<Res<SessionInfo>>,
    clock: Res<LabClock>,
    mut trail: ResMut<Trail>,
    mut sink: ResMut<RecordSink>,
    mut commands: Commands,
) {
    let phase = session.phase();
    // In `Idle` the document is complete, and without a network there is none.
    if trail.phase == Some(phase) || phase == SessionPhase::Idle || !session.has_joined() {
        return;
    }
    let now = clock.now();
    trail.phase = Some(phase);
    let entered = trail
        .document
        .phases
        .last()
        .is_none_or(|last| last.phase != phase.as_str());
    if entered {
        trail.document.phases.push(Phase {
            phase: phase.as_str().to_owned(),
            at_us: micros(now),
        });
    }
    match phase {
        // Players may gather several times.
        SessionPhase::Gathering => {
            trail.joined.get_or_insert(now);
        }
        SessionPhase::Playing if trail.document.waited_ms.is_none() => {
            trail.document.waited_ms = trail.joined.map(|joined| millis(now - joined));
        }
        _ => {}
    }
    if let Some(reason) = session.end_reason() {
        let end_reason = &mut trail.document.end_reason;
        end_reason.get_or_insert_with(|| reason.into());
    }
    trail.document.session = trail.session.clone();
    match &info {
        Some(info) => describe_session(&mut trail.document.session, info),
        // Only this peer is known so far: the trail has a provisional id.
        None => {
            let Some(id) = session.provisional_id(clock.origin_unix_ms()) else {
                return;
            };
            trail.document.session.session_id = id;
            trail.document.session.local_player_id = Some(0);
        }
    }
    let document = Arc::new(trail.document.clone());
    commands.trigger(SessionDocumentChanged {
        document: Arc::clone(&document),
    });
    let path = document.path();
    match trail.written.replace(path.clone()) {
        Some(old) if old != path => sink.supersede(old, document),
        _ => sink.write(document),
    }
}

fn record_failure(failed: On<SessionFailed>, mut trail: ResMut<Trail>) {
    let end_reason = failed.error.end_reason();
    trail
        .document
        .end_reason
        .get_or_insert_with(|| end_reason.into());
}
