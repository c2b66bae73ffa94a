//! Keeps serialized states past their confirmation and writes them when peers turn out to differ. The
//! game registers the system that serializes a state.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bevy::ecs::system::SystemId;
use bevy::prelude::*;
use bevy_ggrs::{
    Checksum, ConfirmedFrameCount, RollbackFrameCount, SaveWorld, SaveWorldSystems, Session,
};
use ggrs::{Config, DesyncDetection};
use serde::Serialize;
use serde_json::Value;

use super::sink::{Document, RecordSink};
use crate::clock::LabClock;
use crate::metrics::{EpisodeData, SessionMetrics, micros};
use crate::rollback::trace::Frame;
use crate::rollback::{DesyncDetected, RollbackLabSystems};
use rollback_lab_record::desync::{DESYNC_SCHEMA, DesyncBundle, FrameInputs, Snapshot};
use rollback_lab_record::digest::fold_checksum;
use rollback_lab_record::{Hex64, SCHEMA_VERSION, Schema};

/// States kept: with the usual ten frames between two of them almost three seconds at 60 Hz, longer
/// than a checksum takes to come over any path that plays.
const KEPT: usize = 16;

/// Registers the system that serializes the game's state, so that a desync leaves a bundle of states.
pub trait DesyncApp {
    /// Keeps what `print` returns for every frame that peers compare, and after a desync writes the
    /// states around the first differing frame as a [`DesyncBundle`].
    ///
    /// `print` is a system that reads the rolled-back state and returns it as JSON. It runs
    /// when such a frame is saved (every tenth by default), again if that frame is simulated again,
    /// and must change nothing. The parameter is the game's ggrs config.
    ///
    /// ```
    /// # use bevy::prelude::*;
    /// # use bevy_ggrs::{GgrsConfig, RollbackApp};
    /// # use bevy_rollback_lab::prelude::*;
    /// # use serde_json::{Value, json};
    /// # type Config = GgrsConfig<u8>;
    /// #[derive(Component, Clone, Copy, Hash)]
    /// struct Position(i32);
    ///
    /// fn print_positions(positions: Query<&Position>) -> Value {
    ///     positions.iter().map(|at| json!(at.0)).collect()
    /// }
    ///
    /// # let mut app = App::new();
    /// # app.add_plugins(bevy_ggrs::GgrsPlugin::<Config>::default());
    /// app.print_state::<Config, _>(print_positions);
    /// ```
    fn print_state<C: Config, M>(
        &mut self,
        print: impl IntoSystem<(), Value, M> + 'static,
    ) -> &mut Self
    where
        C::Input: Serialize;
}

impl DesyncApp for App {
    fn print_state<C: Config, M>(
        &mut self,
        print: impl IntoSystem<(), Value, M> + 'static,
    ) -> &mut Self
    where
        C::Input: Serialize,
    {
        let print = self.register_system(print);
        self.add_message::<DesyncDetected>()
            .insert_resource(PrintedStates::<C> {
                print,
                kept: VecDeque::with_capacity(KEPT + 1),
                written: false,
                digests: 0,
                every: 0,
                config: PhantomData,
            })
            .add_systems(SaveWorld, keep::<C>.after(SaveWorldSystems::Snapshot))
            .add_systems(
                PreUpdate,
                write_bundle::<C>.in_set(RollbackLabSystems::Record),
            )
    }
}

/// Observe this event to get this peer's half of a desync: the peers computed different states, and
/// what this one kept is on its way to its file.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::record::DesyncRecorded;
///
/// fn log_desync(recorded: On<DesyncRecorded>) {
///     error!("states differ from frame {:?} on", recorded.bundle.first_differing_frame);
/// }
/// # App::new().add_observer(log_desync);
/// ```
#[derive(Event, Clone, Debug)]
pub struct DesyncRecorded {
    /// What it kept.
    pub bundle: Arc<DesyncBundle>,
}

/// The states of the last compared frames.
#[derive(Resource)]
struct PrintedStates<C> {
    print: SystemId<(), Value>,
    kept: VecDeque<(Frame, Option<u128>, Value)>,
    /// The bundle of this episode is written.
    written: bool,
    /// Digests of the other peers that were compared.
    digests: usize,
    every: u32,
    config: PhantomData<fn() -> C>,
}

/// A state is saved: prints it if its checksum is one that peers compare.
fn keep<C: Config>(world: &mut World) {
    let Some(Session::P2P(session)) = world.get_resource::<Session<C>>() else {
        return;
    };
    let DesyncDetection::On { interval } = session.desync_detection() else {
        return;
    };
    let frame = world.resource::<RollbackFrameCount>().0;
    if interval == 0 || !frame.unsigned_abs().is_multiple_of(interval) {
        return;
    }
    let print = world.resource::<PrintedStates<C>>().print;
    let state = match world.run_system(print) {
        Ok(state) => state,
        Err(error) => Value::String(format!("the state could not be printed: {error}")),
    };
    let checksum = world.get_resource::<Checksum>().map(|sum| sum.0);
    let mut states = world.resource_mut::<PrintedStates<C>>();
    states.every = interval;
    if frame == 0 {
        states.written = false;
        states.digests = 0;
    }
    // What was simulated beyond this frame is simulated anew, or is of an episode before.
    states.kept.retain(|(of, ..)| *of < frame);
    states.kept.push_back((frame, checksum, state));
    if states.kept.len() > KEPT {
        states.kept.pop_front();
    }
}

/// What two peers do not agree on.
struct Dispute {
    frame: Option<Frame>,
    hashes: [u64; 2],
    players: Vec<usize>,
    at: Duration,
}

/// The first dispute of an episode is written at once: what comes after it follows from it.
fn write_bundle<C: Config>(
    mut desyncs: MessageReader<DesyncDetected>,
    mut states: ResMut<PrintedStates<C>>,
    confirmed: Res<ConfirmedFrameCount>,
    clock: Res<LabClock>,
    metrics: Option<Res<SessionMetrics<C::Input>>>,
    sink: Option<ResMut<RecordSink>>,
    mut commands: Commands,
) where
    C::Input: Serialize,
{
    let seen = desyncs.read().min_by_key(|desync| desync.frame);
    let (Some(metrics), Some(mut sink)) = (metrics, sink) else {
        return;
    };
    let Some(episode) = metrics.latest().filter(|_| !states.written) else {
        return;
    };
    let dispute = match seen {
        Some(desync) => Some(Dispute {
            frame: Some(desync.frame),
            hashes: [desync.local_checksum, desync.remote_checksum].map(fold_checksum),
            players: desync.players.clone(),
            at: desync.at,
        }),
        // Digests come once, at the end.
        None if episode.peer_digests.len() > states.digests => {
            states.bypass_change_detection().digests = episode.peer_digests.len();
            differing_digest(episode, clock.now())
        }
        None => None,
    };
    let Some(dispute) = dispute else {
        return;
    };
    states.written = true;
    let bundle = bundle(dispute, &states, confirmed.0, episode);
    error!(
        "the peers computed different states; the states of this one go to {}",
        bundle.path().display()
    );
    let bundle = Arc::new(bundle);
    commands.trigger(DesyncRecorded {
        bundle: Arc::clone(&bundle),
    });
    sink.write(Document::Desync(bundle));
}

/// The first peer whose history of the same frames is another.
fn differing_digest<I>(episode: &EpisodeData<I>, now: Duration) -> Option<Dispute>
where
    I: Copy + PartialEq + Send + Sync + Serialize + 'static,
{
    let end = episode.end.as_ref()?.frame;
    let own = episode.digest(episode.confirmed_frames.min(end));
    let same_end = |frame: Frame| u32::try_from(frame) == Ok(end);
    let (&player, &(_, theirs)) = episode
        .peer_digests
        .iter()
        .find(|(_, (frame, digest))| same_end(*frame) && *digest != own)?;
    Some(Dispute {
        frame: None,
        hashes: [own, theirs],
        players: vec![player],
        at: now,
    })
}

fn bundle<C: Config>(
    dispute: Dispute,
    states: &PrintedStates<C>,
    confirmed: Frame,
    episode: &EpisodeData<C::Input>,
) -> DesyncBundle
where
    C::Input: Serialize,
{
    let snapshots: Vec<Snapshot> = states
        .kept
        .iter()
        .filter(|(frame, ..)| *frame <= confirmed)
        .map(|(frame, checksum, state)| Snapshot {
            frame: *frame,
            hash: checksum.map(|sum| Hex64(fold_checksum(sum))),
            state: state.clone(),
        })
        .collect();
    let frames = match (snapshots.first(), snapshots.last()) {
        (Some(first), Some(last)) => first.frame..last.frame,
        _ => 0..0,
    };
    DesyncBundle {
        schema: Schema {
            name: DESYNC_SCHEMA.to_owned(),
            version: SCHEMA_VERSION.to_owned(),
        },
        software: episode.meta.software.clone(),
        session: episode.meta.session.clone(),
        episode_id: episode.meta.episode_id(),
        episode_num: episode.meta.episode_num,
        first_differing_frame: dispute.frame,
        compared_every_frames: states.every,
        local_hash: Hex64(dispute.hashes[0]),
        remote_hash: Hex64(dispute.hashes[1]),
        remote_players: dispute.players,
        at_us: micros(dispute.at),
        snapshots,
        inputs: frames
            .map(|frame| FrameInputs {
                frame,
                inputs: inputs_at(episode, frame),
            })
            .collect(),
    }
}

fn inputs_at<I>(episode: &EpisodeData<I>, frame: Frame) -> Vec<Value>
where
    I: Copy + PartialEq + Send + Sync + Serialize + 'static,
{
    (0..episode.players)
        .map(|player| {
            let input = episode.confirmed[player].at(frame.unsigned_abs());
            input
                .and_then(|input| serde_json::to_value(input).ok())
                .unwrap_or_default()
        })
        .collect()
}
