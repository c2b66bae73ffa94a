//! The pure fold from frame marks (inputs read, state loaded, frame advanced, state saved, frames
//! confirmed) to ordered facts: rollbacks, judged predictions, stalls, confirmed frames. It reads
//! neither a clock nor the world.

use std::collections::{VecDeque, vec_deque};
use std::time::Duration;

mod facts;
mod judge;
mod ring;

pub use facts::{AppliedInputs, Fact, Known, Misprediction, Outcome, RollbackRecord, SessionKind};
use ring::{Guess, Ring, Slot};

use rollback_lab_link::cause::{Cause, Evidence, Via};
pub use rollback_lab_link::frame::{Frame, MAX_PLAYERS};

/// Frames remembered. ggrs holds at most 128 inputs per player, so no prediction window with its
/// input delay can reach further back; the other half is slack for reloads of confirmed frames.
pub const FRAMES_REMEMBERED: usize = 256;

/// A session has more players than a trace can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rollback trace holds at most {MAX_PLAYERS} players, not {players}")]
pub struct TooManyPlayers {
    /// Players of that session.
    pub players: usize,
}

/// Folds the marks of one episode after the other into ordered facts.
///
/// Marks come in the order in which ggrs's requests run; between [`close`](Self::close) and the
/// next [`begin`](Self::begin) they are ignored. After the first seconds nothing is allocated
/// except the list of a rollback that corrected more than one frame.
///
/// ```
/// use bevy_rollback_lab::internals::trace::{Fact, Known, Trace};
/// use std::time::Duration;
///
/// let mut trace = Trace::<u8>::default();
/// let at = Duration::ZERO;
/// trace.begin(&[true, false], at)?;
/// trace.tick(at);
/// trace.advance_begin(0, [(7, Known::Confirmed), (0, Known::Predicted)], at);
/// trace.advance_end(at);
/// // The remote input arrives and is another one.
/// trace.tick(at);
/// trace.load(0, at);
/// trace.advance_begin(0, [(7, Known::Confirmed), (5, Known::Confirmed)], at);
/// trace.advance_end(at);
/// trace.settle(0);
/// let rollbacks = trace.drain().filter(|fact| matches!(fact, Fact::RollbackRan(_)));
/// assert_eq!(rollbacks.count(), 1);
/// # Ok::<(), bevy_rollback_lab::internals::trace::TooManyPlayers>(())
/// ```
#[derive(Debug)]
pub struct Trace<I> {
    active: bool,
    players: usize,
    local: u32,
    ring: Ring<I>,
    facts: VecDeque<Fact<I>>,
    /// Newest frame simulated.
    newest: Frame,
    /// Newest frame reported as confirmed.
    settled: Frame,
    /// Ticks of this episode so far.
    ticks: u64,
    /// The last tick, while it has not advanced a new frame.
    idle_tick: Option<Duration>,
    stall: Option<Stall>,
    /// One bit per handle: the players who were gone when the stall began.
    gone_before_stall: u32,
    reload: Option<Reload>,
    /// Pairs that the running reload corrected, in order of frame and handle.
    corrected: Vec<Misprediction<I>>,
    /// Per player the first frame seen with them gone.
    gone_from: [Frame; MAX_PLAYERS],
    rollbacks: u64,
    confirmed_changed: u64,
    frames_missed: u64,
}

/// A run of ticks that advanced no new frame, still going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The frame that has to wait.
    pub frame: Frame,
    /// The first stalled tick.
    pub at: Duration,
    /// Stalled ticks so far, at least 1.
    pub ticks: u32,
}

/// A loaded state and what was simulated again from it.
#[derive(Clone, Copy, Debug)]
struct Reload {
    at: Duration,
    end: Duration,
    target: Frame,
    current: Frame,
    resimulated: u32,
    /// First frame and player corrected because the player is gone.
    voided: Option<(Frame, usize)>,
}

impl<I> Default for Trace<I> {
    fn default() -> Self {
        Self {
            active: false,
            players: 0,
            local: 0,
            ring: Ring::default(),
            facts: VecDeque::new(),
            newest: -1,
            settled: -1,
            ticks: 0,
            idle_tick: None,
            stall: None,
            gone_before_stall: 0,
            reload: None,
            corrected: Vec::new(),
            gone_from: [Frame::MAX; MAX_PLAYERS],
            rollbacks: 0,
            confirmed_changed: 0,
            frames_missed: 0,
        }
    }
}

impl<I: Copy + PartialEq> Trace<I> {
    /// Starts an episode of a P2P session: `players[handle]` says whether that player is local, and
    /// everything counts from frame 0.
    /// An episode still open is closed first.
    ///
    /// # Errors
    /// [`TooManyPlayers`] beyond [`MAX_PLAYERS`]; the marks are ignored then.
    pub fn begin(&mut self, players: &[bool], now: Duration) -> Result<(), TooManyPlayers> {
        self.begin_as(SessionKind::P2P, players, now)
    }

    /// The same for a session of another kind, which `Began` carries.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn begin_as(
        &mut self,
        session: SessionKind,
        players: &[bool],
        now: Duration,
    ) -> Result<(), TooManyPlayers> {
        self.close(now);
        if players.len() > MAX_PLAYERS {
            return Err(TooManyPlayers {
                players: players.len(),
            });
        }
        let facts = std::mem::take(&mut self.facts);
        let mut ring = std::mem::take(&mut self.ring);
        ring.clear();
        *self = Self {
            active: true,
            players: players.len(),
            local: bits(players.iter().copied()),
            ring,
            facts,
            corrected: std::mem::take(&mut self.corrected),
            ..Self::default()
        };
        self.facts.push_back(Fact::Began {
            at: now,
            session,
            players: u8::try_from(self.players).expect("at most MAX_PLAYERS players"),
            local: self.local,
        });
        Ok(())
    }

    /// Ends the episode: a running stall is reported, open predictions stay open.
    pub fn close(&mut self, now: Duration) {
        if !self.active {
            return;
        }
        self.end_tick();
        self.end_stall();
        self.facts.push_back(Fact::Closed { at: now });
        self.active = false;
    }

    /// ggrs asked for the local inputs: one tick.
    pub fn tick(&mut self, now: Duration) {
        if !self.active {
            return;
        }
        self.end_tick();
        self.ticks += 1;
        self.idle_tick = Some(now);
        self.facts.push_back(Fact::Tick { at: now });
    }

    /// The state before frame `target` was loaded.
    pub fn load(&mut self, target: Frame, now: Duration) {
        if !self.active {
            return;
        }
        self.end_reload();
        let current = self.newest.saturating_add(1);
        // The newest state is the one before the frame that is simulated next.
        self.ring.forget_saves_after(target, current);
        self.reload = Some(Reload {
            at: now,
            end: now,
            target,
            current,
            resimulated: 0,
            voided: None,
        });
    }

    /// The simulation of `frame` starts with these inputs, handles from 0.
    ///
    /// A frame not later than the newest one is simulated again; inputs for another number of
    /// players than the episode began with are ignored.
    pub fn advance_begin(
        &mut self,
        frame: Frame,
        inputs: impl IntoIterator<Item = (I, Known)>,
        now: Duration,
    ) {
        if !self.active {
            return;
        }
        let mut known = [Known::Confirmed; MAX_PLAYERS];
        let inputs = AppliedInputs::collect(inputs.into_iter().enumerate().map(
            |(player, (input, how))| {
                if let Some(slot) = known.get_mut(player) {
                    *slot = how;
                }
                input
            },
        ));
        let Some(inputs) = inputs.filter(|inputs| inputs.len() == self.players) else {
            self.frames_missed += 1;
            return;
        };
        for (player, (gone_from, how)) in self.gone_from.iter_mut().zip(known).enumerate() {
            if how == Known::Disconnected {
                if *gone_from == Frame::MAX {
                    let at = now;
                    let gone = Fact::PlayerGone { at, frame, player };
                    self.facts.push_back(gone);
                }
                *gone_from = frame.min(*gone_from);
            }
        }
        if frame > self.newest {
            self.first_simulation(frame, inputs, known, now);
        } else {
            self.simulation_again(frame, &inputs, &known, now);
        }
    }

    /// The simulation that [`advance_begin`](Self::advance_begin) started ended.
    pub fn advance_end(&mut self, now: Duration) {
        if let Some(reload) = &mut self.reload {
            reload.end = now;
        }
    }

    /// The state before frame `frame` was saved. The newest save of a frame counts.
    pub fn saved(&mut self, frame: Frame, checksum: Option<u128>) {
        if self.active {
            self.ring.save(frame, checksum);
        }
    }

    /// The step is over, and ggrs holds every input up to frame `confirmed`: closes hits and
    /// reports the frames that are final now.
    ///
    /// `confirmed` must be what ggrs knew when this step's requests were made (`bevy_ggrs`'s
    /// `ConfirmedFrameCount`): a later poll may raise it before the frames are simulated again.
    pub fn settle(&mut self, confirmed: Frame) {
        if !self.active {
            return;
        }
        self.end_tick();
        while self.settled < confirmed.min(self.newest) {
            self.settled += 1;
            self.confirm(self.settled);
        }
    }

    /// Takes the facts reported so far, oldest first.
    pub fn drain(&mut self) -> vec_deque::Drain<'_, Fact<I>> {
        self.facts.drain(..)
    }

    /// Takes all of them at once: `into` must be empty and receives the next ones.
    pub fn swap_facts(&mut self, into: &mut VecDeque<Fact<I>>) {
        std::mem::swap(&mut self.facts, into);
    }

    fn first_simulation(
        &mut self,
        frame: Frame,
        inputs: AppliedInputs<I>,
        known: [Known; MAX_PLAYERS],
        now: Duration,
    ) {
        self.end_reload();
        self.idle_tick = None;
        self.end_stall();
        self.skip_to(frame);
        let guessed =
            |player: usize| known[player] == Known::Predicted && self.local & (1 << player) == 0;
        self.facts.push_back(Fact::FrameAdvanced {
            frame,
            at: now,
            predicted: bits((0..self.players).map(guessed)),
        });
        let mut slot = Slot {
            frame,
            first_tick: self.ticks,
            first_at: now,
            inputs,
            known,
            guesses: [None; MAX_PLAYERS],
        };
        for player in (0..self.players).filter(|&player| guessed(player)) {
            let value = inputs[player];
            slot.guesses[player] = Some(Guess {
                shown: value,
                last: value,
            });
            self.facts.push_back(Fact::Predicted {
                frame,
                player,
                value,
            });
        }
        self.newest = frame;
        if let Some(evicted) = self.ring.insert(slot)
            && evicted > self.settled
        {
            self.frames_missed += 1;
        }
    }

    /// Frames that were never seen are skipped and counted; an observer that came late has none
    /// before its first.
    fn skip_to(&mut self, frame: Frame) {
        let skipped = frame.saturating_sub(self.newest.saturating_add(1));
        self.frames_missed += u64::from(skipped.unsigned_abs());
        if self.newest < 0 {
            self.settled = frame - 1;
        }
    }

    /// The last tick's requests have all run.
    fn end_tick(&mut self) {
        self.end_reload();
        let Some(at) = self.idle_tick.take() else {
            return;
        };
        let frame = self.newest.saturating_add(1);
        if self.stall.is_none() {
            self.gone_before_stall = self.gone();
        }
        let stall = self.stall.get_or_insert(Stall {
            frame,
            at,
            ticks: 0,
        });
        stall.ticks += 1;
    }

    fn end_stall(&mut self) {
        let Some(stall) = self.stall.take() else {
            return;
        };
        // ggrs waited for a player until it gave that player up.
        let given_up = self.gone() & !self.gone_before_stall != 0;
        self.facts.push_back(Fact::Stalled {
            frame: stall.frame,
            at: stall.at,
            ticks: stall.ticks,
            cause: if given_up {
                Cause::Disconnect
            } else {
                Cause::Unknown
            },
        });
    }

    /// The players seen gone so far.
    fn gone(&self) -> u32 {
        bits(self.gone_from.iter().map(|&from| from != Frame::MAX))
    }

    fn end_reload(&mut self) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        let resim_time = reload.end.saturating_sub(reload.at);
        let first = self.corrected.first().copied();
        let Some((frame, player)) = first
            .map(|pair| (pair.frame, pair.player))
            .or(reload.voided)
        else {
            self.facts.push_back(Fact::Reloaded {
                at: reload.at,
                loaded_frame: reload.target,
                resimulated: reload.resimulated,
                resim_time,
            });
            return;
        };
        let also = self.corrected.get(1..).unwrap_or_default().to_vec();
        self.corrected.clear();
        let slot = self
            .ring
            .get(frame)
            .expect("a corrected frame is remembered");
        self.facts.push_back(Fact::RollbackRan(RollbackRecord {
            id: self.rollbacks,
            at: reload.at,
            frame,
            current_frame: reload.current,
            player,
            predicted: first.map(|pair| pair.predicted),
            actual: first.map(|pair| pair.actual),
            loaded_frame: reload.target,
            resimulated: reload.resimulated,
            resim_time,
            also,
            disconnect: first.is_none(),
            first_simulated_at: slot.first_at,
            late_by_frames: self.ticks_since(slot),
            cause: if first.is_none() {
                Cause::Disconnect
            } else {
                Cause::Unknown
            },
            via: Via::Unknown,
            evidence: Evidence::default(),
        }));
        self.rollbacks += 1;
    }

    fn ticks_since(&self, slot: &Slot<I>) -> u32 {
        u32::try_from(self.ticks - slot.first_tick).unwrap_or(u32::MAX)
    }
}

impl<I> Trace<I> {
    /// Whether an episode is open.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }

    /// Whether a state was loaded, and its frames are simulated again.
    #[must_use]
    pub fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// The newest frame simulated, -1 before the first.
    #[must_use]
    pub fn newest_frame(&self) -> Frame {
        self.newest
    }

    /// The newest frame reported as confirmed, -1 before the first.
    #[must_use]
    pub fn confirmed_frame(&self) -> Frame {
        self.settled
    }

    /// The newest saved state that only confirmed inputs led to: the number of the frame it comes
    /// before, and its checksum if the save had one.
    #[must_use]
    pub fn confirmed_state(&self) -> Option<(Frame, Option<u128>)> {
        let newest = self.settled.checked_add(1)?;
        (0..=newest)
            .rev()
            .take(FRAMES_REMEMBERED)
            .find_map(|frame| Some((frame, self.ring.saved(frame)?)))
    }

    /// When a frame was first simulated, while it is remembered.
    #[must_use]
    pub fn first_simulated_at(&self, frame: Frame) -> Option<Duration> {
        Some(self.ring.get(frame)?.first_at)
    }

    /// The running stall, if there is one. It becomes a fact when it ends.
    #[must_use]
    pub fn open_stall(&self) -> Option<Stall> {
        self.stall
    }

    /// Inputs of confirmed frames that changed afterwards. Zero unless ggrs or the game's setup is
    /// at fault; each is reported as a fact too.
    #[must_use]
    pub fn confirmed_changed(&self) -> u64 {
        self.confirmed_changed
    }

    /// Frames that were not seen, or forgotten before they were confirmed. Zero unless the
    /// observer came late or the marks are not those of one session.
    #[must_use]
    pub fn frames_missed(&self) -> u64 {
        self.frames_missed
    }
}

/// One bit per position that holds.
fn bits(flags: impl IntoIterator<Item = bool>) -> u32 {
    flags
        .into_iter()
        .enumerate()
        .fold(0, |bits, (position, flag)| {
            bits | u32::from(flag) << position
        })
}
