//! Owns what a headless replay came to, in numbers and in a sentence. Never plays anything.

use std::fmt;

use crate::record::Hex64;
use crate::rollback::trace::Frame;

/// What a replay came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayReport {
    /// Frames of the file that were played.
    pub frames: u32,
    /// Frames simulated, those simulated again by rollbacks included.
    pub simulated: u64,
    /// Rollbacks that ran again. Zero in the canonical view.
    pub rollbacks: u64,
    /// State hashes of the file that were compared.
    pub hashes_checked: u32,
    /// The first thing that came out differently.
    pub first_difference: Option<Difference>,
    /// `software.target` of the file.
    pub recorded_on: String,
    /// The same of this build.
    pub replayed_on: String,
}

impl ReplayReport {
    /// Whether at least one state hash was compared, and nothing differed. A game without checksums
    /// proves nothing.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.hashes_checked > 0 && self.first_difference.is_none()
    }
}

/// What came out differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What was compared.
    pub found: Found,
    /// The frame that the state comes before; `None` of the digest, which is of all frames. Where
    /// only every n-th state has a hash, the fault lies in one of the n frames before.
    pub frame: Option<Frame>,
    /// What the file says.
    pub recorded: Hex64,
    /// What came out here; `None` if the game computes no checksum.
    pub replayed: Option<Hex64>,
}

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// `episode.initialStateHash`: the world was set up in another way.
    InitialState,
    /// A value of `sync.hashes`: a frame was simulated in another way.
    State,
    /// `sync.historyDigest` alone: the inputs are written in another way, or the file was edited.
    HistoryDigest,
}

impl Found {
    /// Its name in reports of other kinds.
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
            None if *hashes_checked == 0 => f.write_str(
                "no state hash to compare: register checksums, or nothing can be proven",
            ),
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
    /// What fits the difference, as far as it can be known: a file holds one hash per state, and
    /// not one per component.
    fn hint(&self, difference: &Difference, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.recorded_on != self.replayed_on {
            return write!(
                f,
                "; recorded on {}, replayed on {}: floats (sin, powf) differ between targets, and \
                 so do hashes of usize, enums and lengths without `portable_hash`",
                self.recorded_on, self.replayed_on
            );
        }
        f.write_str(match difference.found {
            Found::InitialState => {
                "; the world must be spawned from EpisodeStarting alone: seed, players, the order \
                 of spawns"
            }
            Found::State => {
                "; another version of the game, or state that is not rolled back: a run of \
                 ForcedRollbacks names the component"
            }
            Found::HistoryDigest => {
                "; the game writes its inputs differently, or the file was edited"
            }
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.found, self.frame) {
            (Found::InitialState, _) => f.write_str("the state before frame 0")?,
            (Found::State, Some(frame)) => write!(f, "the state before frame {frame}")?,
            _ => f.write_str("the history digest")?,
        }
        write!(f, " differs: the file says {}, the replay ", self.recorded)?;
        match self.replayed {
            Some(replayed) => write!(f, "says {replayed}"),
            None => f.write_str("has no checksum"),
        }
    }
}
