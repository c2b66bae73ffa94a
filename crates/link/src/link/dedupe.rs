//! Drops copies: a window of the data sequences that arrived, over either path. A sequence older
//! than the window counts as seen, since its packet is too late to be of use.

use crate::wire::seq_diff;

/// Sequences remembered: almost three seconds of three datagrams a tick at 120 Hz, longer than the
/// relay holds a frame (150 ms) or a packet stays in the queue of a router.
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
