//! The Bevy messages about rollbacks, stalls, desyncs and ggrs's own events.

use std::time::Duration;

use bevy::prelude::*;

use super::cause::{Cause, Evidence, Via};
use super::trace::{Fact, Frame, Misprediction, RollbackRecord, SessionKind};

/// The ordered stream of everything that the trace reports, which metrics are folded from.
impl<I: Send + Sync + 'static> Message for Fact<I> {}

/// Read this message to react to a rollback that ran and corrected something: 0..n per update, one
/// per rollback.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::rollback::RollbackCompleted;
///
/// fn log_rollbacks(mut rollbacks: MessageReader<RollbackCompleted<u8>>) {
///     for rollback in rollbacks.read() {
///         info!(
///             "{} frames deep, because of {:?} of player {}",
///             rollback.rollback_frames, rollback.cause, rollback.player
///         );
///     }
/// }
/// # let mut app = App::new();
/// # app.add_message::<RollbackCompleted<u8>>().add_systems(Update, log_rollbacks);
/// # app.update();
/// ```
#[derive(Message, Reflect, Clone, Debug, PartialEq)]
pub struct RollbackCompleted<I: Send + Sync + 'static> {
    /// The kind of session it ran in. Only P2P sessions guess inputs, so no other has one.
    pub session: SessionKind,
    /// Number of this rollback in its episode, from 0.
    pub rollback_id: u64,
    /// When the state was loaded, in time since the lab session's origin.
    pub at: Duration,
    /// The same moment in Unix milliseconds.
    pub timestamp: u64,
    /// The first frame that had been simulated with a wrong input.
    pub frame: Frame,
    /// The next frame to simulate when the correction came.
    pub current_frame: Frame,
    /// Depth in frames: `current_frame - frame`, at least 1.
    pub rollback_frames: u32,
    /// Handle of the player whose input it was; the lowest if several.
    pub player: usize,
    /// The guess that was simulated last. `None` in a disconnect rollback.
    pub predicted_action: Option<I>,
    /// What was really pressed. `None` in a disconnect rollback.
    pub actual_action: Option<I>,
    /// The state that was loaded, at most `frame`; lower with sparse saving.
    pub loaded_frame: Frame,
    /// Frames simulated again, at least `rollback_frames`.
    pub resimulated_frames: u32,
    /// From the load to the end of the last frame simulated again.
    pub resim_time: Duration,
    /// Why the input was late, as far as it is known now. A [`CauseRevised`] may follow.
    pub cause: Cause,
    /// Ticks from the first simulation of `frame` until its input was known.
    pub late_by_frames: u32,
    /// The route in use when the rollback ran. The episode's file holds the path of the
    /// input itself.
    pub via: Via,
    /// What was known of the player's link when the rollback ran.
    pub evidence: Evidence,
    /// Every other frame-player pair that the same rollback corrected.
    pub also_mispredicted: Vec<Misprediction<I>>,
}

impl<I: Clone + Send + Sync + 'static> RollbackCompleted<I> {
    /// The message about one record. `timestamp` is its time in Unix milliseconds.
    #[must_use]
    pub fn new(record: &RollbackRecord<I>, session: SessionKind, timestamp: u64) -> Self {
        Self {
            session,
            rollback_id: record.id,
            at: record.at,
            timestamp,
            frame: record.frame,
            current_frame: record.current_frame,
            rollback_frames: record.rollback_frames(),
            player: record.player,
            predicted_action: record.predicted.clone(),
            actual_action: record.actual.clone(),
            loaded_frame: record.loaded_frame,
            resimulated_frames: record.resimulated,
            resim_time: record.resim_time,
            cause: record.cause,
            late_by_frames: record.late_by_frames,
            via: record.via,
            evidence: record.evidence,
            also_mispredicted: record.also.clone(),
        }
    }
}

/// Read this message if you show causes: packets after a rollback revised its cause, for example
/// because the packet that seemed lost was only overtaken, or because its whole path was given up.
/// 0..n per update, within a second of the rollback.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::rollback::CauseRevised;
///
/// fn log_revisions(mut revised: MessageReader<CauseRevised>) {
///     for revision in revised.read() {
///         info!("rollback {}: {:?}", revision.rollback_id, revision.cause);
///     }
/// }
/// # let mut app = App::new();
/// # app.add_message::<CauseRevised>().add_systems(Update, log_revisions);
/// # app.update();
/// ```
#[derive(Message, Reflect, Clone, Copy, Debug, PartialEq)]
pub struct CauseRevised {
    /// Number of the rollback in the running episode.
    pub rollback_id: u64,
    /// Why the input was late.
    pub cause: Cause,
    /// What that was decided from.
    pub evidence: Evidence,
}

/// Read this message to see reloads that corrected nothing: sparse saving and sync tests load a state
/// and simulate it forward again. It is no rollback, whatever [`session`](Self::session) says. 0..n
/// per update.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::rollback::RollbackReloaded;
///
/// fn count_reloads(mut reloads: MessageReader<RollbackReloaded>, mut count: Local<usize>) {
///     *count += reloads.read().count();
/// }
/// # let mut app = App::new();
/// # app.add_message::<RollbackReloaded>().add_systems(Update, count_reloads);
/// # app.update();
/// ```
#[derive(Message, Reflect, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackReloaded {
    /// The kind of session that reloaded: a sync test does so in every frame.
    pub session: SessionKind,
    /// When the state was loaded.
    pub at: Duration,
    /// The state that was loaded.
    pub loaded_frame: Frame,
    /// Frames simulated again.
    pub resimulated_frames: u32,
    /// From the load to the end of the last frame simulated again.
    pub resim_time: Duration,
}

/// Read this message to react to a stall that is over: a run of ticks without a new frame, because
/// an input was missing. 0..n per update.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::rollback::StallEnded;
///
/// fn log_stalls(mut stalls: MessageReader<StallEnded>) {
///     for stall in stalls.read() {
///         info!("frame {} waited {} ticks: {:?}", stall.frame, stall.ticks, stall.cause);
///     }
/// }
/// # let mut app = App::new();
/// # app.add_message::<StallEnded>().add_systems(Update, log_stalls);
/// # app.update();
/// ```
#[derive(Message, Reflect, Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallEnded {
    /// The kind of session that stalled. A spectator reads no inputs, so its waiting is none.
    pub session: SessionKind,
    /// The frame that had to wait.
    pub frame: Frame,
    /// The first stalled tick.
    pub at: Duration,
    /// Stalled ticks, at least 1.
    pub ticks: u32,
    /// Why the input that the frame waited for was late.
    pub cause: Cause,
}

/// Read this message to react to a desync: two peers of a P2P session computed different states for
/// a confirmed frame. What a sync test finds is `bevy_ggrs`'s `SyncTestMismatch`. 0..n per update.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::rollback::DesyncDetected;
///
/// fn log_desyncs(mut desyncs: MessageReader<DesyncDetected>) {
///     for desync in desyncs.read() {
///         error!("frame {} differs from players {:?}", desync.frame, desync.players);
///     }
/// }
/// # let mut app = App::new();
/// # app.add_message::<DesyncDetected>().add_systems(Update, log_desyncs);
/// # app.update();
/// ```
#[derive(Message, Reflect, Clone, Debug, PartialEq, Eq)]
pub struct DesyncDetected {
    /// When this peer noticed.
    pub at: Duration,
    /// The frame whose states differ.
    pub frame: Frame,
    /// This peer's checksum.
    pub local_checksum: u128,
    /// The other peer's checksum.
    pub remote_checksum: u128,
    /// Handles of the players on the other peer.
    pub players: Vec<usize>,
}

/// Read it to learn what happened in the ggrs session: 0..n per update.
///
/// ggrs's event queue can be drained once only. In a lab session, and with
/// [`RollbackObserverPlugins::read_events`](crate::RollbackObserverPlugins::read_events), the observers
/// drain it in every update and write all of it as this message. Otherwise the queue is the game's, and
/// this message reports [`Disconnected`](SessionEventKind::Disconnected) alone: with the frame in which
/// ggrs first applied the default input of a player, which every peer sees.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::rollback::{SessionEvent, SessionEventKind};
///
/// fn log_losses(mut events: MessageReader<SessionEvent>) {
///     for event in events.read() {
///         if event.kind == SessionEventKind::Disconnected {
///             info!("players {:?} are gone", event.players);
///         }
///     }
/// }
/// # let mut app = App::new();
/// # app.add_message::<SessionEvent>().add_systems(Update, log_losses);
/// # app.update();
/// ```
#[derive(Message, Reflect, Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// The kind of session it comes from; sync tests have no events.
    pub session: SessionKind,
    /// When it was drained, or the frame was simulated.
    pub at: Duration,
    /// Handles of the players on the peer concerned; empty when it concerns no single peer, or
    /// the host of a spectator.
    pub players: Vec<usize>,
    /// What happened.
    pub kind: SessionEventKind,
}

/// What happened in the ggrs session, with ggrs's own numbers.
#[derive(Reflect, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEventKind {
    /// A round trip of the handshake succeeded.
    Synchronizing {
        /// Round trips needed.
        total: u32,
        /// Round trips done.
        count: u32,
    },
    /// The handshake with that peer is complete.
    Synchronized,
    /// The peer is gone for good.
    Disconnected,
    /// Nothing came from the peer for a while.
    NetworkInterrupted {
        /// Time until the peer is declared gone.
        disconnect_timeout: Duration,
    },
    /// Packets of the peer arrive again.
    NetworkResumed,
    /// This peer runs ahead of the others.
    WaitRecommendation {
        /// Frames that ggrs would skip.
        skip_frames: u32,
    },
    /// The states of a confirmed frame differ; [`DesyncDetected`] is written too.
    DesyncDetected {
        /// The frame.
        frame: Frame,
        /// This peer's checksum.
        local_checksum: u128,
        /// The other peer's checksum.
        remote_checksum: u128,
    },
}
