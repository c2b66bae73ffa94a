//! An episode file as steps to play: the canonical history, and the one that the participant saw.

use std::collections::BTreeMap;

use bevy::prelude::{Reflect, ReflectDefault};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::record::{Cause, EpisodeDocument, RollbackEvent, TimesUs};
use crate::rollback::trace::{Frame, Known};

mod seen;

/// Which history of an episode a replay plays.
///
/// ```
/// use bevy_rollback_lab::replay::View;
///
/// assert_eq!(View::default(), View::Canonical);
/// ```
#[derive(Reflect, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[reflect(Clone, Debug, Default, PartialEq)]
pub enum View {
    /// Every frame once, with its confirmed inputs: what all peers agree on.
    #[default]
    Canonical,
    /// What this peer simulated, when it did: predictions first, and every rollback when it ran.
    AsSeen,
}

/// One step of the simulation.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<I> {
    /// A frame was simulated for the first time.
    Advance {
        /// The frame.
        frame: Frame,
        /// The inputs used, handles from 0.
        inputs: Vec<(I, Known)>,
    },
    /// A rollback: a state was loaded, and its frames were simulated again.
    Rollback {
        /// `rollbackId` of the event.
        id: u64,
        /// The state that was loaded.
        load: Frame,
        /// The inputs of each frame from `load` on.
        inputs: Vec<Vec<(I, Known)>>,
    },
}

/// One episode file, ready to be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Script<I> {
    canonical: Vec<Step<I>>,
    as_seen: Vec<Step<I>>,
    /// Per frame: whether its first state is its last, because no later rollback loads an earlier one.
    finals: Vec<bool>,
    players: usize,
    /// When each frame was first simulated; empty if the file has no times.
    at_us: Vec<u64>,
    /// Per player, how late each input came; empty for a local one.
    lateness: Vec<Vec<Option<u32>>>,
}

/// A file that cannot be played.
///
/// ```
/// use bevy_rollback_lab::replay::ScriptError;
///
/// let error = ScriptError::NoInputs { player: 1 };
/// assert!(error.to_string().starts_with("the file has no inputs of player 1"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The players are not numbered from 0, or their inputs are missing.
    #[error("the file has no inputs of player {player}: `rollback-lab verify` checks files")]
    NoInputs {
        /// The player.
        player: usize,
    },
    /// An input cannot be deserialized as this game's input.
    #[error(
        "input {value} of player {player} is not an input of this game: {source}; play the file in \
         the game and version that recorded it"
    )]
    Input {
        /// The player.
        player: usize,
        /// The input in the file.
        value: Value,
        /// Why it cannot be deserialized.
        source: serde_json::Error,
    },
    /// A rollback of the file cannot have run: it loads no earlier frame.
    #[error(
        "rollback {id} at frame {current} loads frame {loaded}: the file is damaged, `rollback-lab \
         verify` checks it"
    )]
    Rollback {
        /// `rollbackId`.
        id: u64,
        /// `loadedFrame`.
        loaded: Frame,
        /// `currentFrame`.
        current: Frame,
    },
}

impl<I: Clone + Default + DeserializeOwned> Script<I> {
    /// Reads a document. `predict` is the predictor of the game's ggrs config, for predictions that
    /// were revised twice: a file does not list these.
    ///
    /// The frames to play are the confirmed ones below `endFrame`.
    ///
    /// # Errors
    /// [`ScriptError`] if inputs are missing or belong to another game.
    pub fn read(document: &EpisodeDocument, predict: impl Fn(I) -> I) -> Result<Self, ScriptError> {
        let players = document.session.player_ids.len();
        let mut confirmed: Vec<Vec<I>> = Vec::with_capacity(players);
        for player in 0..players {
            confirmed.push(confirmed_of(document, player)?);
        }
        let end = usize::try_from(document.episode.end_frame).unwrap_or(0);
        let known = confirmed.iter().map(Vec::len).min().unwrap_or(0);
        let frames = known.min(end);
        let gone = gone_frames(document, players, frames);

        let canonical = (0..frames)
            .map(|frame| Step::Advance {
                frame: to_frame(frame),
                inputs: (0..players)
                    .map(|player| {
                        let gone = gone[player].is_some_and(|from| frame >= from);
                        let known = if gone {
                            Known::Disconnected
                        } else {
                            Known::Confirmed
                        };
                        (confirmed[player][frame].clone(), known)
                    })
                    .collect(),
            })
            .collect();
        let as_seen = seen::Seen::new(document, &confirmed, &gone, frames)?.steps(predict);
        let finals = final_states(&as_seen, frames);
        Ok(Self {
            canonical,
            as_seen,
            finals,
            players,
            at_us: times(&document.timeline.frame_at_us),
            lateness: (0..players)
                .map(|player| lateness_of(document, player))
                .collect(),
        })
    }
}

impl<I> Script<I> {
    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> u32 {
        u32::try_from(self.canonical.len()).unwrap_or(u32::MAX)
    }

    /// Number of players.
    #[must_use]
    pub fn players(&self) -> usize {
        self.players
    }

    /// The steps of a view.
    #[must_use]
    pub fn steps(&self, view: View) -> &[Step<I>] {
        match view {
            View::Canonical => &self.canonical,
            View::AsSeen => &self.as_seen,
        }
    }

    /// Every frame once, with its confirmed inputs.
    #[must_use]
    pub fn canonical(&self) -> &[Step<I>] {
        &self.canonical
    }

    /// What this peer simulated, in order. All corrections are applied at its end, so its last state is
    /// that of the canonical history.
    #[must_use]
    pub fn as_seen(&self) -> &[Step<I>] {
        &self.as_seen
    }

    /// Whether the first state before `frame` is its final one: no later rollback loads an earlier
    /// state.
    #[must_use]
    pub fn is_final(&self, frame: Frame) -> bool {
        usize::try_from(frame).is_ok_and(|frame| self.finals.get(frame).copied().unwrap_or(false))
    }

    /// How many frames after the first simulation of `frame` this player's input came: 0 in time,
    /// `Some(None)` for never. `None` for a local player, and beyond the file.
    #[must_use]
    pub fn late_by(&self, frame: Frame, player: usize) -> Option<Option<u32>> {
        let late = self.lateness.get(player)?;
        late.get(usize::try_from(frame).ok()?).copied()
    }

    /// When `frame` was first simulated, in microseconds of the file's clock.
    #[must_use]
    pub fn at_us(&self, frame: Frame) -> Option<u64> {
        self.at_us.get(usize::try_from(frame).ok()?).copied()
    }
}

fn to_frame(frame: usize) -> Frame {
    Frame::try_from(frame).unwrap_or(Frame::MAX)
}

fn times(times: &TimesUs) -> Vec<u64> {
    let Some(first) = times.first else {
        return Vec::new();
    };
    let rest = times.deltas.iter().scan(first, |at, delta| {
        *at += delta;
        Some(*at)
    });
    std::iter::once(first).chain(rest).collect()
}

fn confirmed_of<I: Clone + DeserializeOwned>(
    document: &EpisodeDocument,
    player: usize,
) -> Result<Vec<I>, ScriptError> {
    let runs = document
        .inputs
        .confirmed
        .iter()
        .find(|runs| runs.player_id == player)
        .ok_or(ScriptError::NoInputs { player })?;
    let mut inputs = Vec::new();
    for (value, count) in &runs.runs {
        let input: I = decode(value, player)?;
        inputs.extend(std::iter::repeat_n(input, *count as usize));
    }
    Ok(inputs)
}

fn decode<I: DeserializeOwned>(value: &Value, player: usize) -> Result<I, ScriptError> {
    serde::Deserialize::deserialize(value).map_err(|source| ScriptError::Input {
        player,
        value: value.clone(),
        source,
    })
}

/// Per player, the first frame that was simulated without them, if they left. An input that never came
/// has no lateness.
fn gone_frames(document: &EpisodeDocument, players: usize, frames: usize) -> Vec<Option<usize>> {
    let left = |player: usize| {
        let event =
            |event: &RollbackEvent| event.cause == Cause::Disconnect && event.player_id == player;
        let losses = &document.reconnection.disconnections;
        document.rollbacks.events.iter().any(event)
            || losses.iter().any(|loss| loss.player_id == Some(player))
    };
    (0..players)
        .map(|player| {
            let late = lateness_of(document, player);
            let first = late.iter().take(frames).position(Option::is_none)?;
            left(player).then_some(first)
        })
        .collect()
}

/// Lateness of every input of a player; empty for a local one.
fn lateness_of(document: &EpisodeDocument, player: usize) -> Vec<Option<u32>> {
    let runs = document
        .timeline
        .lateness
        .iter()
        .find(|lateness| lateness.player_id == player)
        .map_or(&[][..], |lateness| &lateness.runs);
    runs.iter()
        .flat_map(|&(late, count)| std::iter::repeat_n(late, count as usize))
        .collect()
}

/// For every frame 0..=frames, whether its first state is final.
fn final_states<I>(steps: &[Step<I>], frames: usize) -> Vec<bool> {
    let mut finals = vec![true; frames + 1];
    let mut earliest = Frame::MAX;
    let mut next = frames;
    for step in steps.iter().rev() {
        match step {
            Step::Rollback { load, .. } => {
                // A correction after the last frame changes the final state too.
                finals[next] &= earliest >= to_frame(next);
                earliest = earliest.min(*load);
            }
            Step::Advance { frame, .. } => {
                next = usize::try_from(*frame).unwrap_or(0);
                finals[next] = earliest >= *frame;
            }
        }
    }
    finals
}

/// Corrections by frame and player: the rollback that made them, and the last prediction before.
type Corrections<I> = BTreeMap<(Frame, usize), (usize, I)>;
