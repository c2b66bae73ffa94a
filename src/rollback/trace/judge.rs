//! The judgement of inputs: what a frame simulated again says about the inputs used before, and
//! what is final when a frame is confirmed.

use std::time::Duration;

use super::ring::Slot;
use super::{AppliedInputs, Fact, Frame, Known, MAX_PLAYERS, Misprediction, Outcome, Trace, bits};

impl<I: Copy + PartialEq> Trace<I> {
    /// A frame simulated once more, with the inputs known now.
    pub(super) fn simulation_again(
        &mut self,
        frame: Frame,
        inputs: &AppliedInputs<I>,
        known: &[Known; MAX_PLAYERS],
        now: Duration,
    ) {
        if self.reload.is_none() {
            // Frames only repeat after a load; one that was not seen was at this frame.
            self.load(frame, now);
        }
        if let Some(reload) = &mut self.reload {
            reload.resimulated += 1;
        }
        let Some(mut slot) = self.ring.get(frame).copied() else {
            return;
        };
        for player in 0..self.players {
            self.compare(&mut slot, player, inputs[player], known[player]);
        }
        self.ring.insert(slot);
    }

    /// One input used again: what it says about the guess or the input used before.
    fn compare(&mut self, slot: &mut Slot<I>, player: usize, value: I, how: Known) {
        let frame = slot.frame;
        let before = std::mem::replace(&mut slot.inputs.as_mut_slice()[player], value);
        let known_before = std::mem::replace(&mut slot.known[player], how);
        match (&mut slot.guesses[player], how) {
            (Some(guess), Known::Predicted) => {
                if guess.last != value {
                    guess.last = value;
                    self.facts.push_back(Fact::Revised {
                        frame,
                        player,
                        value,
                    });
                }
            }
            (Some(guess), Known::Confirmed) => {
                let predicted = guess.last;
                if predicted == value {
                    self.judge(slot, player, Outcome::Hit);
                } else {
                    self.judge(slot, player, Outcome::Miss);
                    self.corrected.push(Misprediction {
                        frame,
                        player,
                        predicted,
                        actual: value,
                    });
                }
            }
            (Some(_), Known::Disconnected) => {
                self.judge(slot, player, Outcome::Voided);
                self.record_voided(frame, player);
            }
            (None, _) if before == value && known_before == how => {}
            (None, Known::Disconnected) if frame > self.settled => {
                self.record_voided(frame, player);
            }
            (None, _) => {
                self.confirmed_changed += 1;
                self.facts.push_back(Fact::ConfirmedChanged {
                    frame,
                    player,
                    before,
                    after: value,
                });
            }
        }
    }

    fn record_voided(&mut self, frame: Frame, player: usize) {
        if let Some(reload) = &mut self.reload {
            reload.voided.get_or_insert((frame, player));
        }
    }

    /// Closes a guess by the input that the slot holds now.
    fn judge(&mut self, slot: &mut Slot<I>, player: usize, outcome: Outcome) {
        let Some(guess) = slot.guesses[player].take() else {
            return;
        };
        self.facts.push_back(Fact::Judged {
            frame: slot.frame,
            player,
            outcome,
            shown: guess.shown,
            last: guess.last,
            actual: slot.inputs[player],
            late: self.ticks_since(slot),
        });
    }

    /// A frame became final: guesses still open were right, unless their player is gone.
    pub(super) fn confirm(&mut self, frame: Frame) {
        let Some(mut slot) = self.ring.get(frame).copied() else {
            return;
        };
        for player in 0..self.players {
            if slot.guesses[player].is_none() {
                continue;
            }
            if frame >= self.gone_from[player] {
                self.judge(&mut slot, player, Outcome::Voided);
                slot.known[player] = Known::Disconnected;
            } else {
                self.judge(&mut slot, player, Outcome::Hit);
                slot.known[player] = Known::Confirmed;
            }
        }
        self.ring.insert(slot);
        self.facts.push_back(Fact::Confirmed {
            frame,
            inputs: slot.inputs,
            disconnected: bits((0..self.players).map(|p| slot.known[p] == Known::Disconnected)),
            checksum: self.ring.saved(frame).flatten(),
        });
    }
}
