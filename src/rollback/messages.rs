//! Owns the Bevy messages about rollbacks, stalls, desyncs and ggrs's own events. Never reads a
//! session or writes a message itself.

use std::time::Duration;

use bevy::prelude::*;

use super::cause::{Cause, Evidence, Via};
use super::trace::{Fact, Frame, Misprediction, RollbackRecord, SessionKind};

/// The ordered stream of everything that the trace tells: what metrics are folded from.
impl<I: Send + Sync + 'static> Message for Fact<I> {}

/// A rollback ran and corrected something. A [`Message`], 0..n per update, one per rollback.
#[derive(Message, Clone, Debug, PartialEq)]
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
    /// Why the input was late, as far as it is known now: [`CauseRevised`] tells of a better reason.
    pub cause: Cause,
    /// Ticks from the first simulation of `frame` until its input was known.
    pub late_by_frames: u32,
    /// The route in use when the rollback ran. The episode's file tells how the input itself came.
    pub via: Via,
    /// What was known of the player's link when the rollback ran.
    pub evidence: Evidence,
    /// Every other frame-player pair that the same rollback corrected.
    pub also_mispredicted: Vec<Misprediction<I>>,
}

impl<I: Clone + Send + Sync + 'static> RollbackCompleted<I> {
    /// The message about one record, with its cause and what that was decided from.
    #[must_use]
    pub fn new(
        record: &RollbackRecord<I>,
        session: SessionKind,
        (cause, evidence): (Cause, Evidence),
        via: Via,
        timestamp: u64,
    ) -> Self {
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
            cause,
            late_by_frames: record.late_by_frames,
            via,
            evidence,
            also_mispredicted: record.also.clone(),
        }
    }
}

/// What came after a rollback tells a better reason for it: the packet that seemed lost was overtaken,
/// or its whole path was given up. A [`Message`], 0..n per update.
#[derive(Message, Clone, Copy, Debug, PartialEq)]
pub struct CauseRevised {
    /// Number of the rollback in the running episode.
    pub rollback_id: u64,
    /// Why the input was late.
    pub cause: Cause,
    /// What that was decided from.
    pub evidence: Evidence,
}

/// A state was loaded and simulated forward again without correcting anything, as sparse saving
/// and sync tests do: never a rollback, whatever [`session`](Self::session) says. A [`Message`],
/// 0..n per update.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
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

/// A run of ticks without a new frame ended. A [`Message`], 0..n per update.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
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

/// Two peers of a P2P session computed different states for a confirmed frame; what a sync test
/// finds is `bevy_ggrs`'s `SyncTestMismatch`. A [`Message`], 0..n per update.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
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

/// Something that a ggrs session told about its peers. A [`Message`], 0..n per update.
///
/// ggrs's event queue can be drained once only, and the observer does it: read these instead of
/// `session.events()`, whose oldest events are lost beyond 100.
#[derive(Message, Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// The kind of session that told it; sync tests tell nothing.
    pub session: SessionKind,
    /// When it was drained.
    pub at: Duration,
    /// Handles of the players on the peer concerned; empty when it is about nobody in particular,
    /// or about the host of a spectator.
    pub players: Vec<usize>,
    /// What happened.
    pub kind: SessionEventKind,
}

/// What a ggrs session told, with its numbers as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The peer was heard of again.
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
