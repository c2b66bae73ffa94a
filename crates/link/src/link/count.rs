//! Counting what the owner of a link found wrong with a payload.
//! Never looks into a payload itself.

use super::Link;
use crate::wire::Path;

impl Link {
    /// Counts a data packet whose payload was refused after the header was read.
    pub fn count_malformed(&mut self, path: Path, reason: &'static str) {
        *self.stats.paths[path.index()]
            .malformed
            .entry(reason)
            .or_default() += 1;
    }

    /// Counts a game packet that could not be encoded.
    pub fn count_unsendable(&mut self, _reason: &'static str) {
        self.stats.unsent += 1;
    }
}
