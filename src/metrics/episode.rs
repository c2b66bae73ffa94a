//! What one episode accumulates: compact columns by frame, and lists of rare events. The end frame
//! is not known beforehand, so everything here can be cut at any frame afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::compact::{Runs, Times};
use super::{DesyncNote, DeviceNote, EpisodeMeta, LinkReport};
use crate::rollback::EventNote;
use crate::rollback::trace::{Fact, Frame, MAX_PLAYERS, Misprediction, Outcome, RollbackRecord};
use rollback_lab_link::cause::{Cause, Evidence};
use rollback_lab_link::link::SentBy;
use rollback_lab_link::route::RouteChange;
use rollback_lab_record::digest::fold_checksum;
use rollback_lab_record::{ConditionRealised, EndReason, Path, PeerClock};

/// One sample of the latency to one player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LatencyMark {
    /// The remote player.
    pub player: usize,
    /// When.
    pub at: Duration,
    /// The smoothed round trip over the route in use.
    pub rtt_ms: f32,
    /// From reading an input there to simulating with it here.
    pub input_ms: Option<f32>,
}

/// Lateness of an input that has not arrived.
pub(crate) const NOT_COME: u16 = u16::MAX;

/// One episode, running or ended.
#[derive(Clone, Debug)]
pub(crate) struct EpisodeData<I> {
    pub meta: EpisodeMeta,
    pub hash_every: u32,
    pub players: usize,
    pub local: u32,
    /// The trace has closed the episode.
    pub trace_closed: bool,
    pub end: Option<End>,

    pub ticks: u64,
    /// The first tick since the last new frame.
    pub waiting_since: Option<Duration>,
    pub frame_at: Times,
    pub sampled_at: Times,
    pub rows: Vec<Row>,
    pub unseen: Vec<(Frame, u32)>,
    pub lateness: [Vec<u16>; MAX_PLAYERS],
    pub drawn: Option<Vec<u8>>,
    pub revised: Vec<Frame>,
    pub first_shown: Vec<(Frame, usize, I)>,
    /// Every time the lead over the confirmed frames reached a new height.
    pub ahead: Vec<(Frame, u32)>,
    pub stalls: Vec<StallRow>,
    pub rollbacks: Vec<RollbackRow<I>>,
    pub also: Vec<Misprediction<I>>,
    pub reloads: Vec<Frame>,

    pub confirmed: [Runs<I>; MAX_PLAYERS],
    pub confirmed_frames: u32,
    pub hashes: Vec<Option<u64>>,
    pub confirmed_changed: Vec<Frame>,

    /// The paths that first took the local input of each frame, by remote player.
    pub sent: [Runs<SentBy>; MAX_PLAYERS],
    /// The path of the first copy of each frame's input, by its player.
    pub received: [Runs<Option<Path>>; MAX_PLAYERS],
    pub links: BTreeMap<usize, LinkReport>,
    pub routes: Vec<(usize, Frame, RouteChange)>,
    pub latency: Vec<LatencyMark>,
    pub margins: BTreeMap<usize, Vec<f32>>,
    /// There was no path to fail over to at some time.
    pub lacked_second_path: bool,
    pub condition_realised: BTreeMap<Path, ConditionRealised>,
    pub condition_interrupted: bool,
    pub peer_clocks: BTreeMap<usize, PeerClock>,

    pub desyncs: Vec<DesyncNote>,
    pub peer_digests: BTreeMap<usize, (Frame, u64)>,

    pub disconnections: Vec<LossNote>,
    /// Lost connections that came back.
    pub resumes: Vec<LossNote>,
    /// Attempts that they took.
    pub reconnect_attempts: u64,
    /// Whether the app reports when the game is in the background.
    pub focus_watched: bool,
    pub background: Vec<(Duration, Option<Duration>)>,
    /// The same of other players, as their peers reported.
    pub peer_background: Vec<(usize, Duration, Option<Duration>)>,

    /// Changes of the local input, by the devices that made them.
    pub device_notes: Vec<DeviceNote>,

    pub annotations: BTreeMap<String, Value>,
    pub events: Vec<EventNote>,
}

/// How an episode ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub frame: u32,
    pub reason: Option<EndReason>,
    pub partial: bool,
}

/// Predictions of one frame, one bit per handle.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    pub predicted: u8,
    pub hit: u8,
    pub missed: u8,
    pub voided: u8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct StallRow {
    pub frame: Frame,
    pub ticks: u64,
    pub at: Duration,
    pub cause: Cause,
}

/// A rollback. Its other corrections lie in one list for all rollbacks.
#[derive(Clone, Debug)]
pub(crate) struct RollbackRow<I> {
    pub record: RollbackRecord<I>,
    pub also: std::ops::Range<usize>,
}

/// A connection lost, or come back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LossNote {
    pub player: Option<usize>,
    pub frame: Frame,
    pub at: Duration,
    pub reason: Option<String>,
}

impl<I: Copy + PartialEq> EpisodeData<I> {
    pub(crate) fn new(meta: EpisodeMeta, hash_every: u32) -> Self {
        let players = meta.session.player_ids.len().min(MAX_PLAYERS);
        let local = meta
            .session
            .local_player_id
            .map_or(0, |player| 1 << player.min(31));
        Self {
            meta,
            hash_every,
            players,
            local,
            trace_closed: false,
            end: None,
            ticks: 0,
            waiting_since: None,
            frame_at: Times::default(),
            sampled_at: Times::default(),
            rows: Vec::new(),
            unseen: Vec::new(),
            lateness: Default::default(),
            drawn: None,
            revised: Vec::new(),
            first_shown: Vec::new(),
            ahead: Vec::new(),
            stalls: Vec::new(),
            rollbacks: Vec::new(),
            also: Vec::new(),
            reloads: Vec::new(),
            confirmed: Default::default(),
            confirmed_frames: 0,
            hashes: Vec::new(),
            confirmed_changed: Vec::new(),
            sent: Default::default(),
            received: Default::default(),
            links: BTreeMap::new(),
            routes: Vec::new(),
            latency: Vec::new(),
            margins: BTreeMap::new(),
            lacked_second_path: false,
            condition_realised: BTreeMap::new(),
            condition_interrupted: false,
            peer_clocks: BTreeMap::new(),
            desyncs: Vec::new(),
            peer_digests: BTreeMap::new(),
            disconnections: Vec::new(),
            resumes: Vec::new(),
            reconnect_attempts: 0,
            focus_watched: false,
            background: Vec::new(),
            peer_background: Vec::new(),
            device_notes: Vec::new(),
            annotations: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    /// Frames simulated at least once.
    pub(crate) fn advanced(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// The next frame to simulate.
    pub(crate) fn next_frame(&self) -> Frame {
        Frame::try_from(self.rows.len()).unwrap_or(Frame::MAX)
    }

    /// E: the chosen end, or the frames so far.
    pub(crate) fn end_frame(&self) -> u32 {
        self.end.as_ref().map_or(self.advanced(), |end| end.frame)
    }

    pub(crate) fn is_partial(&self) -> bool {
        self.end.as_ref().is_none_or(|end| end.partial)
    }

    pub(crate) fn remote_players(&self) -> impl Iterator<Item = usize> {
        let local = self.local;
        (0..self.players).filter(move |player| local & (1 << player) == 0)
    }

    pub(crate) fn local_players(&self) -> impl Iterator<Item = usize> {
        let local = self.local;
        (0..self.players).filter(move |player| local & (1 << player) != 0)
    }

    pub(crate) fn fold(&mut self, fact: &Fact<I>) {
        match *fact {
            Fact::Began { players, local, .. } => {
                self.players = usize::from(players);
                self.local = local;
            }
            Fact::Tick { at } => {
                self.record_ahead();
                self.ticks += 1;
                self.waiting_since.get_or_insert(at);
            }
            Fact::FrameAdvanced {
                frame,
                at,
                predicted,
            } => self.advance(frame, at, predicted),
            Fact::Predicted { .. } => {}
            Fact::Revised { frame, .. } => self.revised.push(frame),
            Fact::Judged {
                frame,
                player,
                outcome,
                shown,
                actual,
                late,
                ..
            } => {
                self.judge(frame, player, outcome, late);
                if shown != actual {
                    self.first_shown.push((frame, player, shown));
                }
            }
            Fact::RollbackRan(ref record) => self.record_rollback(record),
            Fact::Reloaded { loaded_frame, .. } => self.reloads.push(loaded_frame),
            Fact::Stalled {
                frame,
                at,
                ticks,
                cause,
            } => self.stalls.push(StallRow {
                frame,
                ticks: u64::from(ticks),
                at,
                cause,
            }),
            Fact::CauseRevised {
                id,
                cause,
                evidence,
            } => self.revise_cause(id, cause, evidence),
            Fact::Confirmed {
                frame,
                ref inputs,
                disconnected,
                checksum,
            } => self.confirm(frame, inputs, disconnected, checksum),
            Fact::ConfirmedChanged { frame, .. } => self.confirmed_changed.push(frame),
            // The confirmed inputs say it too.
            Fact::PlayerGone { .. } => {}
            Fact::Closed { .. } => {
                self.record_ahead();
                self.trace_closed = true;
            }
        }
    }

    fn advance(&mut self, frame: Frame, at: Duration, predicted: u32) {
        let skipped = frame - self.next_frame();
        if skipped < 0 {
            return;
        }
        if skipped > 0 {
            self.unseen
                .push((self.next_frame(), skipped.unsigned_abs()));
        }
        let sampled = self.waiting_since.take().unwrap_or(at);
        for unseen in (0..=skipped).rev().map(|left| left > 0) {
            self.frame_at.push(at);
            self.sampled_at.push(sampled);
            let predicted = if unseen { 0 } else { predicted as u8 };
            self.rows.push(Row {
                predicted,
                ..Row::default()
            });
            for (player, lateness) in self.lateness[..self.players].iter_mut().enumerate() {
                let late = unseen || predicted & (1 << player) != 0;
                lateness.push(if late { NOT_COME } else { 0 });
            }
            if let Some(drawn) = &mut self.drawn {
                drawn.push(0);
            }
        }
    }

    fn judge(&mut self, frame: Frame, player: usize, outcome: Outcome, late: u32) {
        let Some(index) = usize::try_from(frame).ok().filter(|&i| i < self.rows.len()) else {
            return;
        };
        let row = &mut self.rows[index];
        let mask = match outcome {
            Outcome::Hit => &mut row.hit,
            Outcome::Miss => &mut row.missed,
            Outcome::Voided => &mut row.voided,
        };
        *mask |= 1 << player;
        if outcome != Outcome::Voided {
            self.lateness[player][index] = u16::try_from(late)
                .unwrap_or(NOT_COME - 1)
                .min(NOT_COME - 1);
        }
    }

    fn record_rollback(&mut self, record: &RollbackRecord<I>) {
        let start = self.also.len();
        self.also.extend_from_slice(&record.also);
        self.rollbacks.push(RollbackRow {
            // An empty list allocates nothing; the pairs lie in `also`.
            record: RollbackRecord {
                also: Vec::new(),
                ..*record
            },
            also: start..self.also.len(),
        });
    }

    /// Later packets revised the cause of a rollback. The lead of this peer stays the one it had
    /// when the rollback ran.
    pub(crate) fn revise_cause(&mut self, id: u64, cause: Cause, evidence: Evidence) {
        let mut newest_first = self.rollbacks.iter_mut().rev();
        if let Some(row) = newest_first.find(|row| row.record.id == id) {
            let frames_ahead = row.record.evidence.frames_ahead;
            row.record.cause = cause;
            row.record.evidence = Evidence {
                frames_ahead,
                ..evidence
            };
        }
    }

    fn confirm(&mut self, frame: Frame, inputs: &[I], disconnected: u32, checksum: Option<u128>) {
        // After a frame that the observer missed, nothing counts as confirmed.
        if u32::try_from(frame) != Ok(self.confirmed_frames) {
            return;
        }
        self.confirmed_frames += 1;
        for (player, (runs, &input)) in self.confirmed.iter_mut().zip(inputs).enumerate() {
            runs.push(input);
            if disconnected & (1 << player) != 0
                && let Some(late) = self.lateness[player].get_mut(frame.unsigned_abs() as usize)
            {
                *late = NOT_COME;
            }
        }
        if self.hash_every > 0 && frame.unsigned_abs().is_multiple_of(self.hash_every) {
            self.hashes.push(checksum.map(fold_checksum));
        }
    }

    /// The lead of the newest frame over the confirmed ones, once a step is over.
    fn record_ahead(&mut self) {
        let ahead = self.advanced().saturating_sub(self.confirmed_frames);
        if ahead > self.ahead.last().map_or(0, |&(_, highest)| highest) {
            self.ahead.push((self.next_frame() - 1, ahead));
        }
    }

    pub(crate) fn record_drawn(&mut self) {
        let frames = self.rows.len();
        let drawn = self.drawn.get_or_insert_with(|| vec![0; frames]);
        if let Some(times) = drawn.last_mut() {
            *times = times.saturating_add(1);
        }
    }

    /// Chooses the end. An end beyond what was simulated and confirmed makes the file partial.
    pub(crate) fn close(&mut self, end: Option<Frame>, reason: Option<EndReason>, partial: bool) {
        self.record_ahead();
        let so_far = if partial {
            self.advanced()
        } else {
            self.confirmed_frames
        };
        let frame = end.map_or(so_far, |end| u32::try_from(end).unwrap_or(0));
        let frame = frame.min(self.advanced());
        self.end = Some(End {
            frame,
            reason,
            partial: partial
                || frame > self.confirmed_frames
                || end.is_some_and(|end| i64::from(end) > i64::from(frame)),
        });
    }

    /// Frames below `limit` that the observer missed.
    pub(crate) fn unseen(&self, limit: u32) -> u64 {
        let below = |&(first, count): &(Frame, u32)| {
            u64::from(count.min(limit.saturating_sub(first.unsigned_abs())))
        };
        self.unseen.iter().map(below).sum()
    }

    /// Whether a stall waits for a frame that was not simulated any more: it lasts, or the episode was
    /// cut short in it.
    pub(crate) fn is_last_standstill(&self, frame: Frame) -> bool {
        self.end.is_none() || (self.is_partial() && frame == self.next_frame())
    }

    /// Ticks that wait for a frame right now: a stall whose fact is still to come.
    pub(crate) fn open_stall(&self) -> Option<StallRow> {
        let closed: u64 = self.stalls.iter().map(|stall| stall.ticks).sum();
        let seen = u64::from(self.advanced()) - self.unseen(u32::MAX);
        let ticks = self.ticks.checked_sub(seen + closed)?;
        (ticks > 0).then_some(StallRow {
            frame: self.next_frame(),
            ticks,
            at: self.waiting_since.unwrap_or_default(),
            cause: self.open_stall_cause(),
        })
    }

    /// A stall that no input ended has no packet to judge: what ended the match is its cause, if that was
    /// the loss of a player.
    fn open_stall_cause(&self) -> Cause {
        match &self.end {
            Some(end) if end.reason == Some(EndReason::PeerLeft) => Cause::Disconnect,
            _ => Cause::Unknown,
        }
    }
}
