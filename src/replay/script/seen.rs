//! The history as one peer saw it: which value of each input was simulated when.
//!
//! The file lists the value shown first, the last prediction before a correction, and the confirmed
//! value. Only a prediction that was revised more than once is computed here, by the game's predictor
//! from the newest input known at that moment.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::{Corrections, ScriptError, Step, decode, lateness_of, to_frame};
use crate::record::{EpisodeDocument, RollbackEvent};
use crate::rollback::trace::{Frame, Known};

pub(super) struct Seen<'a, I> {
    confirmed: &'a [Vec<I>],
    gone: &'a [Option<usize>],
    frames: usize,
    events: Vec<&'a RollbackEvent>,
    /// Per player; empty for a local one.
    lateness: Vec<Vec<Option<u32>>>,
    /// Wrong values that were shown first.
    first_shown: BTreeMap<(Frame, usize), I>,
    corrections: Corrections<I>,
    /// The tick in which each frame was first simulated.
    ticks: Vec<u64>,
}

impl<'a, I: Clone + Default + DeserializeOwned> Seen<'a, I> {
    pub(super) fn new(
        document: &'a EpisodeDocument,
        confirmed: &'a [Vec<I>],
        gone: &'a [Option<usize>],
        frames: usize,
    ) -> Result<Self, ScriptError> {
        let mut events: Vec<&RollbackEvent> = document.rollbacks.events.iter().collect();
        events.sort_by_key(|event| event.rollback_id);
        for event in &events {
            if event.loaded_frame < 0 || event.loaded_frame >= event.current_frame {
                return Err(ScriptError::Rollback {
                    id: event.rollback_id,
                    loaded: event.loaded_frame,
                    current: event.current_frame,
                });
            }
        }
        // A rollback that loads beyond the frames to play corrected nothing of them.
        events.retain(|event| event.loaded_frame < to_frame(frames));
        Ok(Self {
            confirmed,
            gone,
            frames,
            lateness: (0..confirmed.len())
                .map(|player| lateness_of(document, player))
                .collect(),
            first_shown: first_shown(document)?,
            corrections: corrections(&events)?,
            ticks: ticks(document, frames),
            events,
        })
    }

    pub(super) fn steps(&self, predict: impl Fn(I) -> I) -> Vec<Step<I>> {
        let mut steps = Vec::with_capacity(self.frames + self.events.len());
        let mut next_event = 0;
        for frame in 0..self.frames {
            while let Some(event) = self.events.get(next_event)
                && event.current_frame <= to_frame(frame)
            {
                steps.push(self.rollback(next_event, frame, &predict));
                next_event += 1;
            }
            steps.push(Step::Advance {
                frame: to_frame(frame),
                inputs: (0..self.confirmed.len())
                    .map(|player| self.first(frame, player))
                    .collect(),
            });
        }
        // Corrections that came while frames beyond the end were simulated.
        for event in next_event..self.events.len() {
            steps.push(self.rollback(event, self.frames, &predict));
        }
        steps
    }

    fn rollback(&self, event: usize, current: usize, predict: &impl Fn(I) -> I) -> Step<I> {
        let recorded = self.events[event];
        let load = recorded.loaded_frame;
        let from = usize::try_from(load).unwrap_or(0);
        let inputs = (from..current)
            .map(|frame| {
                (0..self.confirmed.len())
                    .map(|player| self.again(event, frame, player, predict))
                    .collect()
            })
            .collect();
        Step::Rollback {
            id: recorded.rollback_id,
            load,
            inputs,
        }
    }

    /// The input of a frame that is simulated for the first time.
    fn first(&self, frame: usize, player: usize) -> (I, Known) {
        let confirmed = || self.confirmed[player][frame].clone();
        if self.is_gone(frame, player, None) {
            return (confirmed(), Known::Disconnected);
        }
        match self.late(frame, player) {
            Some(0) => (confirmed(), Known::Confirmed),
            _ => {
                let shown = self.first_shown.get(&(to_frame(frame), player));
                let value = shown.cloned().unwrap_or_else(confirmed);
                (value, Known::Predicted)
            }
        }
    }

    /// The input of a frame that the rollback `event` simulates again.
    fn again(
        &self,
        event: usize,
        frame: usize,
        player: usize,
        predict: &impl Fn(I) -> I,
    ) -> (I, Known) {
        let confirmed = || self.confirmed[player][frame].clone();
        if self.is_gone(frame, player, Some(event)) {
            return (confirmed(), Known::Disconnected);
        }
        let at = self.ticks_of(event);
        let correction = self.corrections.get(&(to_frame(frame), player));
        match correction {
            Some((by, _)) if *by <= event => (confirmed(), Known::Confirmed),
            None if self.is_known(frame, player, at) => (confirmed(), Known::Confirmed),
            _ => {
                let last = correction.map_or_else(confirmed, |(_, prediction)| prediction.clone());
                let until = correction.map_or(self.events.len(), |(by, _)| *by);
                let revised_again = (event + 1..until).any(|later| {
                    let later_at = self.ticks_of(later);
                    self.covers(later, frame)
                        && (correction.is_some() || !self.is_known(frame, player, later_at))
                });
                let value = if revised_again {
                    self.prediction(player, at, predict)
                } else {
                    last
                };
                (value, Known::Predicted)
            }
        }
    }

    /// The prediction from the newest input known at a tick.
    fn prediction(&self, player: usize, at: u64, predict: &impl Fn(I) -> I) -> I {
        let known = (0..self.frames)
            .take_while(|&frame| self.is_known(frame, player, at))
            .last();
        known.map_or_else(I::default, |frame| {
            predict(self.confirmed[player][frame].clone())
        })
    }

    fn late(&self, frame: usize, player: usize) -> Option<u32> {
        match self.lateness[player].get(frame) {
            Some(late) => *late,
            // A local input is in time, and so is every input of a file without lateness.
            None => Some(0),
        }
    }

    fn is_known(&self, frame: usize, player: usize, at: u64) -> bool {
        self.late(frame, player)
            .is_some_and(|late| self.ticks[frame] + u64::from(late) <= at)
    }

    /// Whether the frame was simulated without the player: from the leave on, and in the frames that
    /// the rollback of the leave simulated again.
    fn is_gone(&self, frame: usize, player: usize, during: Option<usize>) -> bool {
        if self.gone[player].is_none_or(|from| frame < from) {
            return false;
        }
        let leave = self
            .events
            .iter()
            .position(|event| event.player_id == player && event.actual_action.is_none());
        match (leave, during) {
            (None, _) => true,
            (Some(leave), Some(event)) if event >= leave => true,
            (Some(leave), _) => to_frame(frame) >= self.events[leave].current_frame,
        }
    }

    fn covers(&self, event: usize, frame: usize) -> bool {
        let event = self.events[event];
        (event.loaded_frame..event.current_frame).contains(&to_frame(frame))
    }

    /// The tick in which a rollback ran: the first simulation of its frame and how late it came.
    fn ticks_of(&self, event: usize) -> u64 {
        let event = self.events[event];
        let first = usize::try_from(event.frame)
            .ok()
            .and_then(|frame| self.ticks.get(frame));
        first.map_or(0, |first| first + u64::from(event.late_by_frames))
    }
}

fn first_shown<I: Clone + DeserializeOwned>(
    document: &EpisodeDocument,
) -> Result<BTreeMap<(Frame, usize), I>, ScriptError> {
    let mut shown = BTreeMap::new();
    for player in &document.timeline.predicted_first {
        for run in &player.runs {
            let value: I = decode(&run.action, player.player_id)?;
            for frame in run.frame..run.frame.saturating_add_unsigned(run.count) {
                shown.insert((frame, player.player_id), value.clone());
            }
        }
    }
    Ok(shown)
}

fn corrections<I: DeserializeOwned>(
    events: &[&RollbackEvent],
) -> Result<Corrections<I>, ScriptError> {
    let mut corrections = Corrections::new();
    for (index, event) in events.iter().enumerate() {
        let own = event
            .predicted_action
            .as_ref()
            .map(|predicted| (event.frame, event.player_id, predicted));
        let also = event
            .also_mispredicted
            .iter()
            .map(|pair| (pair.frame, pair.player_id, &pair.predicted_action));
        for (frame, player, predicted) in own.into_iter().chain(also) {
            let prediction = decode(predicted, player)?;
            corrections.insert((frame, player), (index, prediction));
        }
    }
    Ok(corrections)
}

/// The tick of every frame's first simulation: one per frame, and the stalled ones before it.
fn ticks(document: &EpisodeDocument, frames: usize) -> Vec<u64> {
    let mut stalls = document.frames.stalls.iter().peekable();
    let mut stalled = 0;
    (0..frames)
        .map(|frame| {
            while let Some(stall) = stalls.next_if(|stall| stall.frame <= to_frame(frame)) {
                stalled += stall.ticks;
            }
            frame as u64 + stalled
        })
        .collect()
}
