//! The vocabulary of the trace: the marks it takes and the facts it emits.

use std::ops::Deref;
use std::time::Duration;

use bevy::prelude::Reflect;

use super::{Frame, MAX_PLAYERS};
use rollback_lab_link::cause::{Cause, Evidence, Via};

/// What kind of ggrs session an episode is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Reflect)]
pub enum SessionKind {
    /// Players on several peers: the only kind whose rollbacks are real.
    #[default]
    P2P,
    /// A local check of determinism: it reloads all the time and predicts nothing.
    SyncTest,
    /// Follows others' game on confirmed inputs alone: no ticks, no predictions, no rollbacks.
    Spectator,
}

/// How an input was known when a frame was simulated with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// The player really pressed it.
    Confirmed,
    /// A guess; the real input had not arrived.
    Predicted,
    /// The player is gone; ggrs applies the default input.
    Disconnected,
}

/// How a prediction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The last predicted value was what the player really pressed.
    Hit,
    /// It was not; a rollback corrected it.
    Miss,
    /// It cannot be known: the player was disconnected before that frame.
    Voided,
}

/// One input per player handle, at most [`MAX_PLAYERS`], without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct AppliedInputs<I> {
    values: [I; MAX_PLAYERS],
    len: u8,
}

impl<I: Copy> AppliedInputs<I> {
    /// Collects the inputs of handles 0, 1, ...; `None` without any or beyond [`MAX_PLAYERS`].
    pub fn collect(inputs: impl IntoIterator<Item = I>) -> Option<Self> {
        let mut inputs = inputs.into_iter();
        let first = inputs.next()?;
        let mut all = Self {
            values: [first; MAX_PLAYERS],
            len: 1,
        };
        for input in inputs {
            *all.values.get_mut(usize::from(all.len))? = input;
            all.len += 1;
        }
        Some(all)
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [I] {
        &mut self.values[..usize::from(self.len)]
    }
}

impl<I> Deref for AppliedInputs<I> {
    type Target = [I];

    fn deref(&self) -> &[I] {
        &self.values[..usize::from(self.len)]
    }
}

impl<I: PartialEq> PartialEq for AppliedInputs<I> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// A frame-player pair that was simulated with a wrong guess and corrected.
#[derive(Clone, Copy, Debug, PartialEq, Reflect)]
pub struct Misprediction<I> {
    /// The frame whose input was guessed.
    pub frame: Frame,
    /// The remote player's handle.
    pub player: usize,
    /// The last value guessed.
    pub predicted: I,
    /// What the player really pressed.
    pub actual: I,
}

/// One rollback that ran and corrected something.
#[derive(Clone, Debug, PartialEq)]
pub struct RollbackRecord<I> {
    /// Number of this rollback in its episode, from 0.
    pub id: u64,
    /// When the state was loaded.
    pub at: Duration,
    /// The first frame that had been simulated with a wrong input; in a disconnect rollback the
    /// first frame it corrected.
    pub frame: Frame,
    /// The next frame to simulate when the correction came: ggrs's current frame.
    pub current_frame: Frame,
    /// Whose input it was; the lowest handle if several.
    pub player: usize,
    /// The last value guessed for `frame`. `None` in a disconnect rollback.
    pub predicted: Option<I>,
    /// What was really pressed. `None` in a disconnect rollback.
    pub actual: Option<I>,
    /// The state that was loaded, at most `frame`; lower with sparse saving.
    pub loaded_frame: Frame,
    /// Frames simulated again, at least `current_frame - frame`.
    pub resimulated: u32,
    /// From the load to the end of the last frame simulated again.
    pub resim_time: Duration,
    /// Every other frame-player pair that the same rollback corrected, in order.
    pub also: Vec<Misprediction<I>>,
    /// Forced by a disconnect alone; a rollback that also corrected a guess is not one of these.
    pub disconnect: bool,
    /// When `frame` was first simulated.
    pub first_simulated_at: Duration,
    /// Ticks from the first simulation of `frame` until its input was known: frames at the
    /// session's rate, stalled ones included, hence at least `current_frame - frame`.
    pub late_by_frames: u32,
    /// Why the input was late. The trace knows no links: it sets [`Cause::Disconnect`] or
    /// [`Cause::Unknown`], and the observer decides the cause before anybody reads the fact.
    pub cause: Cause,
    /// The route in use when the rollback ran. Decided with the cause.
    pub via: Via,
    /// What the cause was decided from.
    pub evidence: Evidence,
}

impl<I> RollbackRecord<I> {
    /// Depth: how many frames had to be corrected, at least 1.
    #[must_use]
    pub fn rollback_frames(&self) -> u32 {
        u32::try_from(self.current_frame - self.frame).unwrap_or(0)
    }
}

/// What happened, in the order in which it became certain.
///
/// The trace does not know where an episode ends: it emits facts about frames beyond the end too,
/// and the fold leaves them out.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact<I> {
    /// An episode began: everything after it belongs to frames from 0.
    Began {
        /// When.
        at: Duration,
        /// The kind of session it is: only a P2P one has rollbacks that count.
        session: SessionKind,
        /// Number of players, handles 0 up to it.
        players: u8,
        /// One bit per handle: the players of this peer.
        local: u32,
    },
    /// One tick: ggrs asked for the local inputs once.
    Tick {
        /// When.
        at: Duration,
    },
    /// A frame was simulated for the first time.
    FrameAdvanced {
        /// The frame.
        frame: Frame,
        /// When its simulation started.
        at: Duration,
        /// One bit per handle: the remote players whose input was a guess.
        predicted: u32,
    },
    /// A guess was simulated for the first time; follows its `FrameAdvanced`.
    Predicted {
        /// The frame.
        frame: Frame,
        /// The remote player's handle.
        player: usize,
        /// The guess first shown.
        value: I,
    },
    /// A guess was replaced by a different guess. Not a miss.
    Revised {
        /// The frame.
        frame: Frame,
        /// The remote player's handle.
        player: usize,
        /// The new guess.
        value: I,
    },
    /// A prediction ended. Exactly once for each `Predicted`, unless the episode closes before.
    Judged {
        /// The frame.
        frame: Frame,
        /// The remote player's handle.
        player: usize,
        /// How it ended.
        outcome: Outcome,
        /// The guess first shown.
        shown: I,
        /// The last guess used, by which it is judged.
        last: I,
        /// The input that was applied in the end; the default input when voided.
        actual: I,
        /// Ticks from the first simulation of the frame until the input was known. For a hit this
        /// is when every player's input of the frame was known, which is all that ggrs exposes.
        late: u32,
    },
    /// A rollback ran and corrected something.
    RollbackRan(RollbackRecord<I>),
    /// A state was loaded and simulated forward again without correcting anything, as sparse
    /// saving does. Not a rollback.
    Reloaded {
        /// When the state was loaded.
        at: Duration,
        /// The state that was loaded.
        loaded_frame: Frame,
        /// Frames simulated again.
        resimulated: u32,
        /// From the load to the end of the last frame simulated again.
        resim_time: Duration,
    },
    /// A run of ticks without a new frame ended, or its episode did.
    Stalled {
        /// The frame that had to wait.
        frame: Frame,
        /// The first stalled tick.
        at: Duration,
        /// Stalled ticks, at least 1.
        ticks: u32,
        /// Why the input that the frame waited for was late. Decided like the cause of a rollback.
        cause: Cause,
    },
    /// Later packets revised the cause of a rollback. The trace itself emits none of these.
    CauseRevised {
        /// Number of the rollback in the episode.
        id: u64,
        /// The cause now.
        cause: Cause,
        /// What it was decided from.
        evidence: Evidence,
    },
    /// A frame is final on this peer. Every frame once, in order.
    Confirmed {
        /// The frame.
        frame: Frame,
        /// The input applied, for every player.
        inputs: AppliedInputs<I>,
        /// One bit per handle: the players who were gone.
        disconnected: u32,
        /// Checksum of the state before this frame's input, if it was saved.
        checksum: Option<u128>,
    },
    /// An input of a confirmed frame changed afterwards: a fault of ggrs or of the game's setup.
    ConfirmedChanged {
        /// The frame.
        frame: Frame,
        /// The player's handle.
        player: usize,
        /// The input that was confirmed.
        before: I,
        /// The input applied now.
        after: I,
    },
    /// ggrs gave a player up: from `frame` on it applies the default input.
    PlayerGone {
        /// When that was simulated.
        at: Duration,
        /// The first frame without them.
        frame: Frame,
        /// The player's handle.
        player: usize,
    },
    /// The episode was closed; predictions not judged by now stay open.
    Closed {
        /// When.
        at: Duration,
    },
}
