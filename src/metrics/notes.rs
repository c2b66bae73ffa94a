//! Owns what session and transport add to the running episode: causes, routes, carriers, round
//! trips, comparisons, interruptions. A note without a running episode is left out.

use std::time::Duration;

use serde::Serialize;

use super::{
    Carrier, ConditionRealised, DesyncNote, Display, Episode, LinkReport, LiveNumbers, LossNote,
    PeerClock, RouteNote, SessionMetrics,
};
use crate::rollback::trace::{Frame, MAX_PLAYERS};
use rollback_lab_link::cause::{Cause, Evidence, Via};

impl<I: Copy + PartialEq + Send + Sync + 'static> SessionMetrics<I> {
    /// Why the rollback with this id (of the running or the last episode) had to run.
    pub fn record_cause(&mut self, rollback_id: u64, cause: Cause, via: Via, evidence: Evidence) {
        let episode = self.current.as_mut().or(self.finished.last_mut());
        let rollbacks = episode
            .into_iter()
            .flat_map(|episode| &mut episode.rollbacks);
        if let Some(row) = rollbacks.rev().find(|row| row.record.id == rollback_id) {
            row.cause = cause;
            row.via = via;
            row.evidence = evidence;
        }
    }

    /// What came later tells a better reason for the rollback with this id.
    pub fn revise_cause(&mut self, rollback_id: u64, cause: Cause, evidence: Evidence) {
        let episode = self.current.as_mut().or(self.finished.last_mut());
        let rollbacks = episode
            .into_iter()
            .flat_map(|episode| &mut episode.rollbacks);
        if let Some(row) = rollbacks.rev().find(|row| row.record.id == rollback_id) {
            row.cause = cause;
            let frames_ahead = row.evidence.frames_ahead;
            row.evidence = Evidence {
                frames_ahead,
                ..evidence
            };
        }
    }

    /// Why the newest stall at this frame (of the running or the last episode) happened.
    pub fn record_stall_cause(&mut self, frame: Frame, cause: &'static str) {
        self.edit_newest(|episode| {
            let mut stalls = episode.stalls.iter_mut().rev();
            if let Some(stall) = stalls.find(|stall| stall.frame == frame) {
                stall.cause = Some(cause);
            }
        });
    }

    /// A datagram to `player` carried the local inputs of frames `first..=newest`. Frames that an
    /// earlier datagram carried already are left as they are; frames before `first` that none did
    /// were sent by nothing.
    pub fn record_sent(&mut self, player: usize, first: Frame, newest: Frame, by: Carrier) {
        self.edit(|episode| carry(&mut episode.sent, player, first, newest, by));
    }

    /// The first copy of `player`'s inputs of frames `first..=newest` came; frames known already
    /// are left as they are.
    pub fn record_received(&mut self, player: usize, first: Frame, newest: Frame, by: Carrier) {
        self.edit(|episode| carry(&mut episode.received, player, first, newest, by));
    }

    /// The route to `player` changed; `frame` is the next one to simulate.
    pub fn record_route(&mut self, player: usize, frame: Frame, note: RouteNote) {
        self.edit(|episode| episode.routes.push((player, frame, note)));
    }

    /// The round trip to `player` over the route in use, about once a second.
    pub fn record_rtt(&mut self, player: usize, at: Duration, rtt_ms: f64) {
        if rtt_ms.is_finite() {
            self.edit(|episode| episode.rtt.push((player, at, rtt_ms as f32)));
        }
    }

    /// The failover margin towards `player`, about once a second.
    pub fn record_margin(&mut self, player: usize, margin_ms: f64) {
        if margin_ms.is_finite() {
            self.edit(|episode| {
                let margins = episode.margins.entry(player).or_default();
                margins.push(margin_ms as f32);
            });
        }
    }

    /// The link to `player` as it stands, in the running episode or the one that just ended; the
    /// last report counts.
    pub fn link(&mut self, player: usize, report: LinkReport) {
        self.edit_newest(|episode| {
            episode.links.insert(player, report);
        });
    }

    /// What this peer's conditions did on a path (`direct` or `relay`); the last report counts.
    pub fn record_conditions(&mut self, path: &'static str, realised: ConditionRealised) {
        self.edit_newest(|episode| {
            episode.condition_realised.insert(path, realised);
        });
    }

    /// A promotion ended a condition of the direct path.
    pub fn record_condition_interrupted(&mut self) {
        self.edit(|episode| episode.condition_interrupted = true);
    }

    /// This peer's clock against another's; the last report counts.
    pub fn record_clock(&mut self, clock: PeerClock) {
        self.edit(|episode| {
            episode.peer_clocks.insert(clock.player_id, clock);
        });
    }

    /// `player`'s hash of this frame's state is the same as ours.
    pub fn record_hash_match(&mut self, player: usize, frame: Frame) {
        self.edit(|episode| {
            episode.hash_matches += 1;
            let through = episode.matched_through.entry(player).or_insert(frame);
            *through = frame.max(*through);
        });
    }

    /// A peer's hash differs from ours.
    pub fn record_desync(&mut self, note: DesyncNote) {
        // The same update may have closed the episode that it belongs to.
        if let Some(episode) = self.current.as_mut().or(self.finished.last_mut()) {
            episode.desyncs.push(note);
        }
    }

    /// `player` ended the episode at `end_frame` with this history digest.
    pub fn record_peer_digest(&mut self, player: usize, end_frame: Frame, digest: u64) {
        // The word of a peer may come while this one has closed the episode already.
        if let Some(episode) = self.current.as_mut().or(self.finished.last_mut()) {
            episode.peer_digests.insert(player, (end_frame, digest));
        }
    }

    /// The connection to `player` (or to the server) is lost.
    pub fn record_disconnected(
        &mut self,
        player: Option<usize>,
        at: Duration,
        reason: Option<&str>,
    ) {
        self.edit(|episode| {
            let note = loss(episode, player, at, reason);
            episode.disconnections.push(note);
        });
    }

    /// The connection to `player` (or to the server) is back.
    pub fn record_resumed(&mut self, player: Option<usize>, at: Duration) {
        self.edit(|episode| {
            let note = loss(episode, player, at, None);
            episode.resumes.push(note);
        });
    }

    /// An attempt to come back was made.
    pub fn record_reconnect_attempt(&mut self) {
        self.edit(|episode| episode.reconnect_attempts += 1);
    }

    /// The game stood still for this long because of a lost connection.
    pub fn record_paused(&mut self, duration: Duration) {
        self.edit(|episode| episode.paused += duration);
    }

    /// Somebody watches whether the game is in the background. Without this, or one of the notes
    /// below, the file claims nothing about it.
    pub fn record_focus_watched(&mut self) {
        self.edit(|episode| episode.focus_watched = true);
    }

    /// The game went into the background.
    pub fn record_focus_lost(&mut self, at: Duration) {
        self.edit(|episode| {
            episode.focus_watched = true;
            if episode
                .background
                .last()
                .is_none_or(|(_, end)| end.is_some())
            {
                episode.background.push((at, None));
            }
        });
    }

    /// The game came back from the background.
    pub fn record_focus_gained(&mut self, at: Duration) {
        self.edit(|episode| {
            episode.focus_watched = true;
            if let Some((_, end @ None)) = episode.background.last_mut() {
                *end = Some(at);
            }
        });
    }

    /// Another player's peer told that its game went into the background.
    pub fn record_peer_hidden(&mut self, player: usize, at: Duration) {
        self.edit(|episode| {
            let mut told = episode.peer_background.iter();
            if !told.any(|&(of, _, end)| of == player && end.is_none()) {
                episode.peer_background.push((player, at, None));
            }
        });
    }

    /// Another player's peer told that its game came back from the background.
    pub fn record_peer_visible(&mut self, player: usize, at: Duration) {
        self.edit(|episode| {
            let mut told = episode.peer_background.iter_mut();
            let open = told.find(|(of, _, end)| *of == player && end.is_none());
            if let Some((_, _, end)) = open {
                *end = Some(at);
            }
        });
    }

    /// The game was in the background longer than allowed.
    pub fn record_focus_timeout(&mut self) {
        self.edit(|episode| {
            episode.focus_watched = true;
            episode.focus_timeout = true;
        });
    }

    /// The newest frame was drawn. Never called when headless.
    pub fn record_drawn(&mut self) {
        self.edit(Episode::record_drawn);
    }

    /// The screen that the game is drawn on; the last report counts.
    pub fn record_display(&mut self, display: &Display) {
        self.edit(|episode| {
            if episode.meta.display != *display {
                episode.meta.display.clone_from(display);
            }
        });
    }

    /// The running episode, or one that ended and is not written yet.
    fn edit_newest(&mut self, edit: impl FnOnce(&mut Episode<I>)) {
        let pending = self.pending().next().is_some();
        let ended = self.finished.last_mut().filter(|_| pending);
        if let Some(newest) = self.current.as_mut().or(ended) {
            edit(newest);
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Episode<I>)) {
        if let Some(current) = &mut self.current {
            edit(current);
        }
    }
}

fn carry(
    runs: &mut [super::compact::Runs<Carrier>; MAX_PLAYERS],
    player: usize,
    first: Frame,
    newest: Frame,
    by: Carrier,
) {
    let (Some(runs), Ok(first), Ok(newest)) = (
        runs.get_mut(player),
        u32::try_from(first),
        u32::try_from(newest),
    ) else {
        return;
    };
    runs.push_many(
        Carrier::Nothing,
        first.min(newest + 1).saturating_sub(runs.len()),
    );
    runs.push_many(by, (newest + 1).saturating_sub(runs.len()));
}

fn loss<I: Copy + PartialEq>(
    episode: &Episode<I>,
    player: Option<usize>,
    at: Duration,
    reason: Option<&str>,
) -> LossNote {
    LossNote {
        player,
        frame: episode.next_frame(),
        at,
        reason: reason.map(str::to_owned),
    }
}

impl<I: Copy + PartialEq> Episode<I> {
    pub(crate) fn live(&self) -> LiveNumbers {
        let end = self.end_frame();
        let below = |frame: Frame| i64::from(frame) < i64::from(end);
        let count = |of: fn(&super::episode::Row) -> u8| -> u64 {
            let rows = self.rows.iter().take(end as usize);
            rows.map(|row| u64::from(of(row).count_ones())).sum()
        };
        let (hits, misses) = (count(|row| row.hit), count(|row| row.missed));
        let rollbacks = || self.rollbacks.iter().filter(|row| below(row.record.frame));
        let stalls = || {
            let told = self.stalls.iter().copied();
            told.chain(self.open_stall())
                .filter(|stall| below(stall.frame) || self.end.is_none())
        };
        let sent = |by| -> u64 { self.sent.iter().map(|runs| runs.count(by, end)).sum() };
        let p2p = sent(Carrier::P2p);
        let carried = p2p + sent(Carrier::Relay) + sent(Carrier::Both);
        LiveNumbers {
            frames: end,
            confirmed_frames: self.confirmed_frames.min(end),
            rollbacks: rollbacks().count() as u64,
            max_rollback_frames: rollbacks()
                .map(|row| row.record.rollback_frames())
                .max()
                .unwrap_or(0),
            resimulated_frames: rollbacks()
                .map(|row| u64::from(row.record.resimulated))
                .sum(),
            prediction_hit_rate: ratio(hits, hits + misses),
            stalls: stalls().count() as u64,
            stalled_ticks: stalls().map(|stall| stall.ticks).sum(),
            share_sent_p2p: ratio(p2p, carried).filter(|_| self.meta.has_transport),
            fallback_frame: self.fallback().map(|(_, frame, _)| *frame),
            desyncs: self.desyncs.len() as u64,
        }
    }

    /// The first promotion after play began.
    pub(crate) fn fallback(&self) -> Option<&(usize, Frame, RouteNote)> {
        self.routes.iter().find(|(_, _, note)| note.is_fallback())
    }
}

impl<I: Copy + PartialEq + Serialize> Episode<I> {
    /// The history digest over the first `frames` frames, as far as they are confirmed.
    pub(crate) fn digest(&self, frames: u32) -> u64 {
        let runs: Vec<Vec<_>> = (0..self.players)
            .map(|player| {
                let runs = self.confirmed[player].up_to(frames);
                runs.map(|(input, count)| (super::input_json(&input), count))
                    .collect()
            })
            .collect();
        rollback_lab_record::digest::of_runs(&runs, frames, |frame| self.exported_hash(frame))
    }

    /// The hash of a frame's state, if it is one that is exported.
    pub(crate) fn exported_hash(&self, frame: u32) -> Option<u64> {
        if self.hash_every == 0 || !frame.is_multiple_of(self.hash_every) {
            return None;
        }
        *self.hashes.get((frame / self.hash_every) as usize)?
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
