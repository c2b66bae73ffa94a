//! The numbers of every episode: one fold over the trace's facts, with what session and transport
//! report beside them. [`record`](crate::record) turns them into files.

use bevy::ecs::message::MessageCursor;
use bevy::prelude::*;
use serde::Serialize;
use serde_json::Value;

mod compact;
mod episode;
mod input_timing;
pub(crate) mod link;
mod pending;
mod reports;
mod systems;

pub use crate::rollback::EpisodeRecord;
pub use input_timing::InputTiming;
pub use rollback_lab_record::{
    ConditionRealised, Consent, Datagrams, Display, EndReason, EpisodeMeta, PeerClock, Player,
    PlayerKind, SessionMeta, Software, Summary,
};

pub(crate) use compact::micros;
pub(crate) use episode::{EpisodeData, LossNote, NOT_COME, RollbackRow, Row};
pub(crate) use input_timing::{DeviceNote, explains};
pub(crate) use link::{DesyncNote, LinkReport};
#[cfg(feature = "matchbox")]
pub(crate) use pending::ObservedSession;
pub(crate) use systems::fold_metrics;

use crate::rollback::DesyncDetected;
use crate::rollback::trace::{Fact, Frame, SessionKind};

/// Distance in frames between two exported state hashes: one a second at 60 frames per second, 0.7 KB per
/// minute in the compressed file. The inputs of every frame are in the digest anyway.
pub const HASH_EVERY_FRAMES: u32 = 60;

/// Read [`live`](Self::live) for the numbers of the running episode, [`export`](Self::export) for
/// its document so far. `I` is the game's input.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::metrics::SessionMetrics;
///
/// fn print_summary(metrics: Res<SessionMetrics<u8>>) {
///     let live = metrics.live();
///     println!("{} frames, {} rollbacks", live.frames, live.rollbacks);
/// }
/// # let mut app = App::new();
/// # app.init_resource::<SessionMetrics<u8>>().add_systems(Update, print_summary);
/// # app.update();
/// ```
///
/// Facts and reports that come while no episode runs are left out: they belong to frames after an
/// end. Nothing is allocated per tick except the amortised growth of the columns; the bench
/// `allocations` prints what an hour of play leaves.
#[derive(Resource, Debug)]
pub struct SessionMetrics<I: Send + Sync + 'static> {
    current: Option<EpisodeData<I>>,
    finished: Vec<EpisodeData<I>>,
    /// Whether the record has taken the first of them.
    taken: bool,
    template: EpisodeMeta,
    begun: u32,
    /// An episode began since the record looked last.
    fresh: bool,
    hash_every: u32,
    /// Reason with which an episode closes by itself when its ggrs session is gone.
    auto_close: Option<EndReason>,
    /// The trace is of a sync test or a spectator now, which no episode counts.
    apart: bool,
    cursors: Cursors<I>,
}

/// How far the messages were read. Kept here and not in a system, because systems of two schedules
/// fold them and each message counts once.
#[derive(Debug)]
struct Cursors<I: Send + Sync + 'static> {
    facts: MessageCursor<Fact<I>>,
    desyncs: MessageCursor<DesyncDetected>,
}

impl<I: Send + Sync + 'static> Default for Cursors<I> {
    fn default() -> Self {
        Self {
            facts: MessageCursor::default(),
            desyncs: MessageCursor::default(),
        }
    }
}

impl<I: Send + Sync + 'static> Default for SessionMetrics<I> {
    fn default() -> Self {
        Self {
            current: None,
            finished: Vec::new(),
            taken: false,
            template: EpisodeMeta::default(),
            begun: 0,
            fresh: false,
            hash_every: HASH_EVERY_FRAMES,
            auto_close: None,
            apart: false,
            cursors: Cursors::default(),
        }
    }
}

/// The numbers of the running episode so far, or of the last one: for a summary line or a HUD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Reflect)]
pub struct LiveNumbers {
    /// Frames simulated, or the end frame once the episode has ended.
    pub frames: u32,
    /// Frames whose inputs are all known.
    pub confirmed_frames: u32,
    /// Rollbacks that ran.
    pub rollbacks: u64,
    /// Deepest rollback in frames; 0 without one.
    pub max_rollback_frames: u32,
    /// Frames simulated again.
    pub resimulated_frames: u64,
    /// Share of predictions that were right, 0 to 1. `None` before the first was judged.
    pub prediction_hit_rate: Option<f64>,
    /// Stalls, the running one included.
    pub stalls: u64,
    /// Ticks lost to them.
    pub stalled_ticks: u64,
    /// Share of local input frames that went peer to peer alone, of all sent, 0 to 1. `None` without
    /// the lab's transport.
    pub share_sent_p2p: Option<f64>,
    /// The next frame to simulate at the first fallback. `None` without one.
    pub fallback_frame: Option<Frame>,
    /// Comparisons of hashes that failed.
    pub desyncs: u64,
}

impl<I: Copy + PartialEq + Send + Sync + 'static> SessionMetrics<I> {
    /// Metrics that close an episode by themselves when its ggrs session is gone, for games whose
    /// episodes are the life of a session. Its file is partial then: a game that knows where the
    /// episode ended calls [`close`](Self::close) before. `template` describes all of them.
    #[must_use]
    pub fn closing_with_session(template: EpisodeMeta) -> Self {
        Self {
            template,
            auto_close: Some(EndReason::SessionRemoved),
            ..Self::default()
        }
    }

    /// Sets the distance between exported state hashes for episodes that begin later; all peers
    /// must agree on it. Zero leaves them out, as a session with sparse saving must: its peers save
    /// different states. Defaults to [`HASH_EVERY_FRAMES`].
    pub fn set_hash_every_frames(&mut self, frames: u32) {
        self.hash_every = frames;
    }

    /// Describes episodes that begin with the trace and without [`begin`](Self::begin).
    pub fn set_template(&mut self, template: EpisodeMeta) {
        self.template = template;
    }

    /// Starts an episode. One that still runs is closed as partial first.
    pub fn begin(&mut self, meta: EpisodeMeta) {
        self.close(None, None, true);
        self.begun = meta.episode_num + 1;
        self.fresh = true;
        self.current = Some(EpisodeData::new(meta, self.hash_every));
    }

    /// Adds the next fact of the trace. Those of sync tests and spectators are left out: the first
    /// reloads without a rollback, the second has no ticks, so the totals of a file would not add
    /// up.
    pub fn fold(&mut self, fact: &Fact<I>) {
        if let Fact::Began { session, .. } = fact {
            self.apart = *session != SessionKind::P2P;
            if self.apart {
                // The record reports that it leaves this one out.
                self.fresh = true;
            } else {
                self.follow_trace();
            }
        }
        if self.apart {
            return;
        }
        // The update that revises a cause may have closed its episode.
        let revised = matches!(fact, Fact::CauseRevised { .. });
        let ended = self.finished.last_mut().filter(|_| revised);
        let Some(episode) = self.current.as_mut().or(ended) else {
            return;
        };
        episode.fold(fact);
        if episode.trace_closed && self.auto_close.is_some() {
            // Whether a match was over when its session went away, only the game knows.
            self.close(None, self.auto_close.clone(), true);
        }
    }

    /// The trace began an episode: the one that [`begin`](Self::begin) announced, or else one that
    /// the template describes.
    fn follow_trace(&mut self) {
        let announced = self
            .current
            .as_ref()
            .is_some_and(|current| current.ticks == 0 && !current.trace_closed);
        if !announced {
            let mut meta = self.template.clone();
            meta.episode_num = self.begun;
            self.begin(meta);
        }
    }

    /// Takes the game's annotations and its events of confirmed frames. Call it after the facts of
    /// an update are folded.
    pub fn fold_record(&mut self, record: &mut EpisodeRecord) {
        let Some(current) = &mut self.current else {
            record.drop_events();
            return;
        };
        current.annotations.append(&mut record.take_annotations());
        let confirmed = Frame::try_from(current.confirmed_frames).unwrap_or(Frame::MAX) - 1;
        current.events.extend(record.take_confirmed(confirmed));
    }

    /// Takes which devices changed the local input. Without a running episode they are dropped.
    pub fn fold_input_timing(&mut self, timing: &mut InputTiming) {
        let notes = timing.take();
        if let Some(current) = &mut self.current {
            current.device_notes.extend(notes);
        }
    }

    /// Ends the running episode at `end_frame`, E; everything of later frames is left out of its
    /// file or counted as overrun. Returns whether one was running.
    ///
    /// Without an `end_frame` it ends after the last confirmed frame, or, if `partial`, after the
    /// last simulated one. An end that is not confirmed, or beyond what was simulated, makes the
    /// file partial whatever `partial` says.
    pub fn close(
        &mut self,
        end_frame: Option<Frame>,
        reason: Option<EndReason>,
        partial: bool,
    ) -> bool {
        let Some(mut episode) = self.current.take() else {
            return false;
        };
        episode.close(end_frame, reason, partial);
        self.finished.push(episode);
        true
    }

    /// Forgets ended episodes except the last one, once their files are written.
    pub fn forget_written(&mut self) {
        let keep = self.finished.len().saturating_sub(1);
        self.finished.drain(..keep);
    }

    /// Forgets the running episode, which does not begin after all.
    #[cfg(feature = "matchbox")]
    pub(crate) fn abandon(&mut self) {
        self.current = None;
    }

    /// Forgets every episode: another lab session begins. What was read of the messages stays read.
    #[cfg(feature = "matchbox")]
    pub(crate) fn restart(&mut self) {
        let cursors = std::mem::take(&mut self.cursors);
        *self = Self {
            cursors,
            hash_every: self.hash_every,
            ..Self::default()
        };
    }

    /// Whether an episode runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.current.is_some()
    }

    /// The running episode, or the last one.
    pub(crate) fn latest(&self) -> Option<&EpisodeData<I>> {
        self.current.as_ref().or(self.finished.last())
    }

    /// Every episode still held, in order.
    pub(crate) fn episodes(&self) -> impl Iterator<Item = &EpisodeData<I>> {
        self.finished.iter().chain(&self.current)
    }

    /// Comparisons of hashes that failed in the running episode, or in the last one.
    #[must_use]
    pub fn desyncs(&self) -> u64 {
        self.latest()
            .map_or(0, |episode| episode.desyncs.len() as u64)
    }

    /// The numbers of the running episode, or of the last one.
    #[must_use]
    pub fn live(&self) -> LiveNumbers {
        self.latest().map(EpisodeData::live).unwrap_or_default()
    }
}

impl<I: Copy + PartialEq + Serialize + Send + Sync + 'static> SessionMetrics<I> {
    /// The history digest of the running or last episode for a chosen end, which each peer reports
    /// to the others. `None` while not every frame below `end_frame` is confirmed.
    #[must_use]
    pub fn digest_at(&self, end_frame: Frame) -> Option<u64> {
        let episode = self.latest()?;
        let frames = u32::try_from(end_frame).ok()?;
        (frames <= episode.confirmed_frames).then(|| episode.digest(frames))
    }
}

/// The JSON that an input is exported as. In place of one that cannot be serialized stands the
/// error.
pub(crate) fn input_json<I: Serialize>(input: &I) -> Value {
    serde_json::to_value(input)
        .unwrap_or_else(|error| Value::String(format!("not serializable: {error}")))
}
