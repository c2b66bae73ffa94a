//! Owns what one episode accumulates: compact columns by frame and lists of rare things. Never
//! knows the end beforehand; everything can be cut at any frame afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::compact::{Runs, Times};
use super::{Carrier, DesyncNote, DeviceNote, EpisodeMeta, LinkReport, PeerClock, RouteNote};
use crate::metrics::ConditionRealised;
use crate::rollback::EventNote;
use crate::rollback::trace::{Fact, Frame, MAX_PLAYERS, Misprediction, Outcome, RollbackRecord};
use rollback_lab_link::cause::{Cause, Evidence, Via};
use rollback_lab_record::digest::fold_checksum;

/// Lateness of an input that has not come.
pub(crate) const NOT_COME: u16 = u16::MAX;

/// One episode, running or ended.
#[derive(Clone, Debug)]
pub(crate) struct Episode<I> {
    pub meta: EpisodeMeta,
    pub hash_every: u32,
    pub players: usize,
    pub local: u32,
    /// Set when the trace said that its episode is over.
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

    pub sent: [Runs<Carrier>; MAX_PLAYERS],
    pub received: [Runs<Carrier>; MAX_PLAYERS],
    pub links: BTreeMap<usize, LinkReport>,
    pub routes: Vec<(usize, Frame, RouteNote)>,
    pub rtt: Vec<(usize, Duration, f32)>,
    pub margins: BTreeMap<usize, Vec<f32>>,
    pub condition_realised: BTreeMap<&'static str, ConditionRealised>,
    pub condition_interrupted: bool,
    pub peer_clocks: BTreeMap<usize, PeerClock>,

    pub hash_matches: u64,
    pub matched_through: BTreeMap<usize, Frame>,
    pub desyncs: Vec<DesyncNote>,
    pub peer_digests: BTreeMap<usize, (Frame, u64)>,

    pub disconnections: Vec<LossNote>,
    pub resumes: Vec<LossNote>,
    pub reconnect_attempts: u64,
    pub paused: Duration,
    /// Whether somebody tells when the game is in the background.
    pub focus_watched: bool,
    pub background: Vec<(Duration, Option<Duration>)>,
    /// The same of other players, as their peers told.
    pub peer_background: Vec<(usize, Duration, Option<Duration>)>,
    pub focus_timeout: bool,

    /// Changes of the local input, by the devices that made them.
    pub device_notes: Vec<DeviceNote>,

    pub annotations: BTreeMap<String, Value>,
    pub events: Vec<EventNote>,
}

/// How an episode ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub frame: u32,
    pub reason: Option<String>,
    pub partial: bool,
    pub at: Option<Duration>,
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
    pub cause: Option<&'static str>,
}

/// A rollback; what it also corrected lies in one list for all.
#[derive(Clone, Debug)]
pub(crate) struct RollbackRow<I> {
    pub record: RollbackRecord<I>,
    pub also: std::ops::Range<usize>,
    pub cause: Cause,
    pub via: Via,
    pub evidence: Evidence,
}

/// A connection lost, or come back.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LossNote {
    pub player: Option<usize>,
    pub frame: Frame,
    pub at: Duration,
    pub reason: Option<String>,
}

impl<I: Copy + PartialEq> Episode<I> {
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
            rtt: Vec::new(),
            margins: BTreeMap::new(),
            condition_realised: BTreeMap::new(),
            condition_interrupted: false,
            peer_clocks: BTreeMap::new(),
            hash_matches: 0,
            matched_through: BTreeMap::new(),
            desyncs: Vec::new(),
            peer_digests: BTreeMap::new(),
            disconnections: Vec::new(),
            resumes: Vec::new(),
            reconnect_attempts: 0,
            paused: Duration::ZERO,
            focus_watched: false,
            background: Vec::new(),
            peer_background: Vec::new(),
            focus_timeout: false,
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
            Fact::Stalled { frame, at, ticks } => self.stalls.push(StallRow {
                frame,
                ticks: u64::from(ticks),
                at,
                cause: None,
            }),
            Fact::Confirmed {
                frame,
                ref inputs,
                disconnected,
                checksum,
            } => self.confirm(frame, inputs, disconnected, checksum),
            Fact::ConfirmedChanged { frame, .. } => self.confirmed_changed.push(frame),
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
        let cause = if record.disconnect {
            Cause::Disconnect
        } else {
            Cause::Unknown
        };
        self.rollbacks.push(RollbackRow {
            // An empty list allocates nothing; the pairs lie in `also`.
            record: RollbackRecord {
                also: Vec::new(),
                ..*record
            },
            also: start..self.also.len(),
            cause,
            via: Via::Unknown,
            evidence: Evidence::default(),
        });
    }

    fn confirm(&mut self, frame: Frame, inputs: &[I], disconnected: u32, checksum: Option<u128>) {
        // Beyond a frame that was not seen nothing can be claimed as confirmed.
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

    /// Chooses the end. A claim beyond what was simulated and confirmed makes the file partial.
    pub(crate) fn close(&mut self, end: Option<Frame>, reason: Option<&str>, partial: bool) {
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
            reason: reason.map(str::to_owned),
            partial: partial
                || frame > self.confirmed_frames
                || end.is_some_and(|end| i64::from(end) > i64::from(frame)),
            at: None,
        });
    }

    /// Frames below `limit` that the observer did not see.
    pub(crate) fn unseen(&self, limit: u32) -> u64 {
        let below = |&(first, count): &(Frame, u32)| {
            u64::from(count.min(limit.saturating_sub(first.unsigned_abs())))
        };
        self.unseen.iter().map(below).sum()
    }

    /// Ticks that wait for a frame right now, as a stall that is not told yet.
    pub(crate) fn open_stall(&self) -> Option<StallRow> {
        let told: u64 = self.stalls.iter().map(|stall| stall.ticks).sum();
        let seen = u64::from(self.advanced()) - self.unseen(u32::MAX);
        let ticks = self.ticks.checked_sub(seen + told)?;
        (ticks > 0).then_some(StallRow {
            frame: self.next_frame(),
            ticks,
            at: self.waiting_since.unwrap_or_default(),
            cause: None,
        })
    }
}
