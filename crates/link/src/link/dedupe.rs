//! Which data sequences came already, over whichever path.
//!
//! Owns a window of sequences. What falls out of it counts as seen: late beyond any use.

use crate::wire::seq_diff;

/// Sequences remembered: three seconds of three datagrams a tick at 120 Hz, longer than a
/// relay frame may wait (150 ms) or a direct packet survives in any queue.
const WINDOW: u16 = 1024;

/// De-duplication window over both paths.
#[derive(Clone, Debug)]
pub(super) struct Dedupe {
    seen: [u64; WINDOW as usize / 64],
    newest: Option<u16>,
}

impl Default for Dedupe {
    fn default() -> Self {
        Self {
            seen: [0; WINDOW as usize / 64],
            newest: None,
        }
    }
}

impl Dedupe {
    /// Marks `seq` as seen; returns whether it was new.
    pub(super) fn first(&mut self, seq: u16) -> bool {
        let ahead = self.newest.map_or(i16::MAX, |newest| seq_diff(seq, newest));
        if ahead > 0 {
            if ahead.unsigned_abs() >= WINDOW {
                self.seen = [0; WINDOW as usize / 64];
            } else {
                for step in 0..ahead.unsigned_abs() {
                    self.clear(seq.wrapping_sub(step));
                }
            }
            self.newest = Some(seq);
        } else if ahead.unsigned_abs() >= WINDOW {
            return false;
        }
        let (word, bit) = Self::place(seq);
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        new
    }

    fn clear(&mut self, seq: u16) {
        let (word, bit) = Self::place(seq);
        self.seen[word] &= !bit;
    }

    const fn place(seq: u16) -> (usize, u64) {
        let slot = (seq % WINDOW) as usize;
        (slot / 64, 1 << (slot % 64))
    }
}
