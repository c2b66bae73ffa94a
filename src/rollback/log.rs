//! The one resource that observers write: the trace, and which session it belongs to.

use std::collections::VecDeque;
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::Session;
use bevy_ggrs::ggrs::{Config, InputStatus};

use super::trace::{Fact, Frame, Known, SessionKind, TooManyPlayers, Trace};
use crate::clock::LabClock;

/// The trace of the running episode, for sessions of one ggrs config.
#[derive(Resource)]
pub struct TraceLog<C: Config> {
    trace: Trace<C::Input>,
    kind: SessionKind,
    /// The kind that the facts taken so far end in.
    reported: SessionKind,
    by_hand: bool,
    /// ggrs's events are read here, not by the game.
    reads_events: bool,
    /// This session has too many players to be observed, and the warning is logged.
    refused: bool,
    /// A tick of a session that the trace has not begun yet.
    early_tick: Option<Duration>,
    /// The state of such a session saved before its first frame.
    early_save: Option<(Frame, Option<u128>)>,
    /// The app's clock, so that no mark has to ask the world for it.
    clock: LabClock,
}

impl<C: Config> Default for TraceLog<C> {
    fn default() -> Self {
        Self {
            trace: Trace::default(),
            kind: SessionKind::P2P,
            reported: SessionKind::P2P,
            by_hand: false,
            reads_events: false,
            refused: false,
            early_tick: None,
            early_save: None,
            clock: LabClock::default(),
        }
    }
}

impl<C: Config> TraceLog<C> {
    /// Begins an episode of a P2P session: `players_local[handle]` says whether that player is
    /// on this peer.
    ///
    /// Call it before the session's first step. From the first call on, episodes are delimited by
    /// hand: a `Session` that comes or goes neither begins nor closes one.
    ///
    /// # Errors
    /// [`TooManyPlayers`] if the trace cannot hold them; nothing is observed then.
    pub fn begin(&mut self, players_local: &[bool], now: Duration) -> Result<(), TooManyPlayers> {
        self.by_hand = true;
        self.kind = SessionKind::P2P;
        self.trace.begin(players_local, now)
    }

    /// Closes the episode; what happens afterwards is ignored until the next one begins.
    pub fn close(&mut self, now: Duration) {
        self.early_tick = None;
        self.early_save = None;
        self.trace.close(now);
    }

    /// From now on only [`begin`](Self::begin) and [`close`](Self::close) delimit episodes.
    pub fn delimit_by_hand(&mut self) {
        self.by_hand = true;
    }

    /// Reads ggrs's events, which nothing else can read then.
    pub(super) fn read_events(&mut self) {
        self.reads_events = true;
    }

    /// Whether the game leaves ggrs's events to the observers.
    #[must_use]
    pub(crate) fn reads_events(&self) -> bool {
        self.reads_events
    }

    /// Whether episodes are delimited by hand.
    #[must_use]
    pub fn is_by_hand(&self) -> bool {
        self.by_hand
    }

    /// The kind of session the newest episode belongs to.
    #[must_use]
    pub fn kind(&self) -> SessionKind {
        self.kind
    }

    /// The trace, to be read.
    #[must_use]
    pub fn trace(&self) -> &Trace<C::Input> {
        &self.trace
    }

    /// Reads this clock from now on.
    pub(crate) fn follow(&mut self, clock: &LabClock) {
        self.clock = clock.clone();
    }

    pub(super) fn trace_mut(&mut self) -> &mut Trace<C::Input> {
        &mut self.trace
    }

    /// Takes the facts so far into `into`, which must be empty. Returns the kind of session that the
    /// first of them are about: a `Began` among them names another.
    pub(super) fn swap_facts(&mut self, into: &mut VecDeque<Fact<C::Input>>) -> SessionKind {
        self.trace.swap_facts(into);
        std::mem::replace(&mut self.reported, self.kind)
    }

    /// Whether a session that is there should begin an episode.
    pub(super) fn awaits_session(&self) -> bool {
        !self.by_hand && !self.refused && !self.trace.is_active()
    }

    /// Begins the episode of a session that appeared.
    fn begin_session(&mut self, session: &Session<C>, now: Duration) {
        let (kind, players, local) = match session {
            Session::P2P(p2p) => (
                SessionKind::P2P,
                p2p.num_players(),
                p2p.local_player_handles(),
            ),
            Session::SyncTest(test) => (
                SessionKind::SyncTest,
                test.num_players(),
                (0..test.num_players()).collect(),
            ),
            Session::Spectator(spectator) => {
                (SessionKind::Spectator, spectator.num_players(), Vec::new())
            }
        };
        let players: Vec<bool> = (0..players).map(|handle| local.contains(&handle)).collect();
        self.kind = kind;
        if let Err(error) = self.trace.begin_as(kind, &players, now) {
            self.refused = true;
            warn!("this session is not observed: {error}");
        }
    }

    /// The session is gone: closes the episode that it was.
    pub(super) fn session_gone(&mut self) {
        if !self.by_hand {
            self.refused = false;
            self.close(self.clock.now());
        }
    }

    /// `ReadInputs` ran before `frame`. ggrs counts on from the newest frame, so an earlier one is
    /// the start of another session that replaced the observed one between two updates.
    pub(crate) fn tick(&mut self, frame: Frame, confirmed: Frame) {
        let now = self.clock.now();
        let replaced = self.trace.is_active() && frame <= self.trace.newest_frame();
        if replaced && !self.by_hand {
            self.close(now);
        }
        if self.trace.is_active() {
            self.trace.settle(confirmed);
            self.trace.tick(now);
        } else if self.awaits_session() {
            self.early_tick = Some(now);
        }
    }

    /// A session is there while a frame starts and when the steps are over: begins its episode if
    /// that is not done yet.
    pub(super) fn notice_session(&mut self, session: Option<&Session<C>>) {
        if self.awaits_session()
            && let Some(session) = session
        {
            let early_tick = self.early_tick.take();
            self.begin_session(session, early_tick.unwrap_or_else(|| self.clock.now()));
            if let Some(at) = early_tick {
                self.trace.tick(at);
            }
            if let Some((frame, checksum)) = self.early_save.take() {
                self.trace.saved(frame, checksum);
            }
        }
    }

    /// A state is being loaded.
    pub(super) fn load(&mut self, target: Frame) {
        self.trace.load(target, self.clock.now());
    }

    /// A frame starts.
    pub(super) fn advance_begin(&mut self, frame: Frame, inputs: &[(C::Input, InputStatus)]) {
        let inputs = inputs.iter().map(|&(input, status)| (input, known(status)));
        self.trace.advance_begin(frame, inputs, self.clock.now());
    }

    /// A frame ended: only the end of one that is simulated again is a time that counts.
    pub(super) fn advance_end(&mut self) {
        if self.trace.is_reloading() {
            self.trace.advance_end(self.clock.now());
        }
    }

    /// A state was saved.
    pub(super) fn saved(&mut self, frame: Frame, checksum: Option<u128>) {
        self.trace.saved(frame, checksum);
        if self.awaits_session() {
            self.early_save = Some((frame, checksum));
        }
    }
}

fn known(status: InputStatus) -> Known {
    match status {
        InputStatus::Confirmed => Known::Confirmed,
        InputStatus::Predicted => Known::Predicted,
        InputStatus::Disconnected => Known::Disconnected,
    }
}
