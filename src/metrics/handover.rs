//! Owns which ended episodes were handed over to the record. Never drops one that was not.

use super::{Episode, SessionMetrics};

impl<I: Copy + PartialEq + Send + Sync + 'static> SessionMetrics<I> {
    /// Ended episodes that were not handed over yet.
    pub(crate) fn untaken(&self) -> impl Iterator<Item = &Episode<I>> {
        self.finished.iter().skip(usize::from(self.taken))
    }

    /// Whether an episode began or ended since the last [`forget_taken`](Self::forget_taken).
    pub(crate) fn has_news(&self) -> bool {
        self.fresh || self.untaken().next().is_some()
    }

    /// Marks them as handed over and forgets all but the last.
    pub(crate) fn forget_taken(&mut self) {
        self.fresh = false;
        self.forget_written();
        self.taken = !self.finished.is_empty();
    }

    /// Sets the frames per second of the running and later episodes, where nobody else says.
    pub(crate) fn set_fps(&mut self, fps: u32) {
        self.template.fps = fps;
        if let Some(current) = &mut self.current {
            current.meta.fps = fps;
        }
    }

    /// The app ends: this is why an episode closes now, if it does so on its own.
    pub(crate) fn note_app_exit(&mut self) {
        if let Some(reason) = &mut self.auto_close {
            *reason = "appExit";
        }
    }

    /// Drops the running episode, so that no file tells of it and the next one gets its number.
    /// Returns whether one was running.
    pub(crate) fn abandon(&mut self) -> bool {
        let running = self.current.take().is_some();
        self.begun -= u32::from(running);
        running
    }

    /// Sets the prediction window of the running episode, where nobody else says.
    pub(crate) fn set_max_prediction(&mut self, frames: u32) {
        if let Some(current) = &mut self.current {
            current.meta.max_prediction_frames = frames;
        }
    }
}
