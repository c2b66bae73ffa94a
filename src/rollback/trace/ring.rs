//! The bounded memory of a trace: the last frames as they were simulated, and the last saves. It
//! allocates in the first frame only.

use std::time::Duration;

use super::{AppliedInputs, FRAMES_REMEMBERED, Frame, Known, MAX_PLAYERS};

/// A prediction that is not judged yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guess<I> {
    /// The value first shown.
    pub shown: I,
    /// The value used last.
    pub last: I,
}

/// One frame as it was simulated last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<I> {
    pub frame: Frame,
    /// The tick of the first simulation, counted from 1.
    pub first_tick: u64,
    pub first_at: Duration,
    pub inputs: AppliedInputs<I>,
    pub known: [Known; MAX_PLAYERS],
    pub guesses: [Option<Guess<I>>; MAX_PLAYERS],
}

/// The last [`FRAMES_REMEMBERED`] frames and saves, addressed by frame number.
#[derive(Debug)]
pub(super) struct Ring<I> {
    slots: Vec<Option<Slot<I>>>,
    saves: Vec<Option<(Frame, Option<u128>)>>,
}

impl<I> Default for Ring<I> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            saves: Vec::new(),
        }
    }
}

impl<I> Ring<I> {
    pub(super) fn get(&self, frame: Frame) -> Option<&Slot<I>> {
        let slot = self.slots.get(index(frame)?)?.as_ref()?;
        (slot.frame == frame).then_some(slot)
    }

    /// The save of this frame: `Some(None)` without a checksum.
    pub(super) fn saved(&self, frame: Frame) -> Option<Option<u128>> {
        let (saved, checksum) = (*self.saves.get(index(frame)?)?)?;
        (saved == frame).then_some(checksum)
    }

    pub(super) fn save(&mut self, frame: Frame, checksum: Option<u128>) {
        if let Some(save) = index(frame).and_then(|index| self.saves.get_mut(index)) {
            *save = Some((frame, checksum));
        }
    }

    /// Saves of frames after `frame` hold states that are simulated again now; `newest` is the last.
    pub(super) fn forget_saves_after(&mut self, frame: Frame, newest: Frame) {
        for later in (frame..newest).take(FRAMES_REMEMBERED) {
            let save = index(later + 1).and_then(|index| self.saves.get_mut(index));
            if let Some(save) = save {
                *save = save.filter(|&(saved, _)| saved <= frame);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.slots.resize_with(FRAMES_REMEMBERED, || None);
        self.saves.clear();
        self.saves.resize_with(FRAMES_REMEMBERED, || None);
    }

    /// Puts a frame in its place; the number of the other frame that had to go, if any.
    pub(super) fn insert(&mut self, slot: Slot<I>) -> Option<Frame> {
        let frame = slot.frame;
        let place = self.slots.get_mut(index(frame)?)?;
        let evicted = place.replace(slot)?.frame;
        (evicted != frame).then_some(evicted)
    }
}

fn index(frame: Frame) -> Option<usize> {
    Some(usize::try_from(frame).ok()? % FRAMES_REMEMBERED)
}
