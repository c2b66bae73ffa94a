//! The result of a headless replay, in numbers and in a sentence.

use std::fmt;

use crate::record::Hex64;
use crate::rollback::trace::Frame;

/// The result of [`check`](super::check). Its text is a sentence that names the first difference and
/// its likely cause.
///
/// ```
/// use bevy_rollback_lab::replay::ReplayReport;
///
/// fn summary(report: &ReplayReport) -> String {
///     match &report.first_difference {
///         Some(difference) => format!("not reproduced: {difference}"),
///         None if report.is_proven() => format!("{} frames reproduced", report.frames),
///         None => String::from("the file has no state hashes"),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// Frames of the file.
    pub frames: u32,
    /// Frames simulated, the resimulated ones included.
    pub simulated: u64,
    /// Rollbacks played. 0 in the canonical view.
    pub rollbacks: u64,
    /// State hashes of the file that were compared.
    pub hashes_checked: u32,
    /// The first difference between file and replay.
    pub first_difference: Option<Difference>,
    /// The target that the file was recorded on: its `software.target`.
    pub recorded_on: String,
    /// The target of this build.
    pub replayed_on: String,
}

impl ReplayReport {
    /// Whether at least one state hash was compared and none differed. False for a game without
    /// checksums.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.hashes_checked > 0 && self.first_difference.is_none()
    }
}

/// A difference between a file and its replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What was compared.
    pub kind: DifferenceKind,
    /// The frame before which the state differs. `None` for the digest, which is about all frames. A
    /// file holds a hash of every n-th state, so the fault is in one of the n frames before.
    pub frame: Option<Frame>,
    /// The hash in the file.
    pub recorded: Hex64,
    /// The hash of the replay. `None` if the game computes no checksum.
    pub replayed: Option<Hex64>,
}

/// What differs between a file and its replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DifferenceKind {
    /// `episode.initialStateHash`: the world was set up differently.
    InitialState,
    /// A value of `sync.hashes`: a frame was simulated differently.
    State,
    /// `sync.historyDigest` alone: the inputs are serialized differently, or the file was edited.
    HistoryDigest,
}

impl DifferenceKind {
    /// Name of this kind in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InitialState => "initialState",
            Self::State => "state",
            Self::HistoryDigest => "historyDigest",
        }
    }
}

impl fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frames,
            hashes_checked,
            rollbacks,
            ..
        } = self;
        write!(f, "{frames} frames, {rollbacks} rollbacks, ")?;
        match &self.first_difference {
            None if *hashes_checked == 0 => {
                f.write_str("no state hash to compare: register checksums with `bevy_ggrs`")
            }
            None => write!(
                f,
                "{hashes_checked} state hashes and the history digest agree"
            ),
            Some(difference) => {
                difference.fmt(f)?;
                self.hint(difference, f)
            }
        }
    }
}

impl ReplayReport {
    /// The likely cause. A file holds one hash per state, so it cannot name a component.
    fn hint(&self, difference: &Difference, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.recorded_on != self.replayed_on {
            return write!(
                f,
                "; recorded on {}, replayed on {}: floats (sin, powf) differ between targets, and \
                 so do hashes of usize, enums and lengths that `portable_hash` does not compute",
                self.recorded_on, self.replayed_on
            );
        }
        f.write_str(match difference.kind {
            DifferenceKind::InitialState => {
                "; spawn the world from EpisodeStarting alone: the same seed, players and order of \
                 spawns"
            }
            DifferenceKind::State => {
                "; this is another version of the game, or state is not rolled back: a run of \
                 ForcedRollbacks names the component"
            }
            DifferenceKind::HistoryDigest => {
                "; the game writes its inputs differently, or the file was edited"
            }
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.frame) {
            (DifferenceKind::InitialState, _) => f.write_str("the state before frame 0")?,
            (DifferenceKind::State, Some(frame)) => write!(f, "the state before frame {frame}")?,
            _ => f.write_str("the history digest")?,
        }
        write!(f, " differs: {} in the file, ", self.recorded)?;
        match self.replayed {
            Some(replayed) => write!(f, "{replayed} in the replay"),
            None => f.write_str("no checksum in the replay"),
        }
    }
}
