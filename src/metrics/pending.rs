//! Which ended episodes the record has taken. One that it has not taken is kept.

use rollback_lab_record::EndReason;

use super::{EpisodeData, SessionMetrics};

/// What the episodes of an observed game belong to.
#[cfg(feature = "matchbox")]
#[derive(Clone, Debug)]
pub(crate) struct ObservedSession {
    pub(crate) id: String,
    /// Number of its next episode.
    pub(crate) begun: u32,
}

impl<I: Copy + PartialEq + Send + Sync + 'static> SessionMetrics<I> {
    /// Ended episodes that the record has not taken yet.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &EpisodeData<I>> {
        self.finished.iter().skip(usize::from(self.taken))
    }

    /// Whether an episode began or ended since the last [`forget_taken`](Self::forget_taken).
    pub(crate) fn has_news(&self) -> bool {
        self.fresh || self.pending().next().is_some()
    }

    /// Marks them as taken and forgets all but the last.
    pub(crate) fn forget_taken(&mut self) {
        self.fresh = false;
        self.forget_written();
        self.taken = !self.finished.is_empty();
    }

    /// Id of the session that later episodes belong to.
    #[cfg(feature = "matchbox")]
    pub(crate) fn session_id(&self) -> &str {
        &self.template.session.session_id
    }

    /// Sets the session of later episodes, and returns the one they belonged to so far.
    #[cfg(feature = "matchbox")]
    pub(crate) fn set_session(&mut self, session: ObservedSession) -> ObservedSession {
        ObservedSession {
            id: std::mem::replace(&mut self.template.session.session_id, session.id),
            begun: std::mem::replace(&mut self.begun, session.begun),
        }
    }

    /// Whether episodes that begin later run over the lab's links.
    #[cfg(feature = "matchbox")]
    pub(crate) fn set_has_transport(&mut self, has_transport: bool) {
        self.template.has_transport = has_transport;
    }

    /// Whether the newest episode has ended and the record has not taken it yet.
    #[cfg(feature = "matchbox")]
    pub(crate) fn has_pending(&self) -> bool {
        self.current.is_none() && self.pending().next().is_some()
    }

    /// Length of a frame of the running episode, or of the next one.
    #[cfg(feature = "matchbox")]
    pub(crate) fn frame_ms(&self) -> f64 {
        let fps = self
            .current
            .as_ref()
            .map_or(self.template.fps, |current| current.meta.fps);
        1e3 / f64::from(fps.max(1))
    }

    /// Sets the frames per second of the running and later episodes, for games that configure none.
    pub(crate) fn set_fps(&mut self, fps: u32) {
        self.template.fps = fps;
        if let Some(current) = &mut self.current {
            current.meta.fps = fps;
        }
    }

    /// The app exits: an episode that closes with its session now closes for this reason.
    pub(crate) fn record_app_exit(&mut self) {
        if let Some(reason) = &mut self.auto_close {
            *reason = EndReason::AppExit;
        }
    }

    /// Sets the prediction window of the running episode, for games that configure none.
    pub(crate) fn set_max_prediction(&mut self, frames: u32) {
        if let Some(current) = &mut self.current {
            current.meta.max_prediction_frames = frames;
        }
    }
}
