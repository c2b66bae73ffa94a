//! What session and transport report about the running episode: routes, send paths, round trips,
//! digests, interruptions. A report without a running episode is left out.

use std::time::Duration;

use serde::Serialize;

use super::compact::Runs;
use super::episode::LatencyMark;
use super::{DesyncNote, EpisodeData, LinkReport, LiveNumbers, LossNote, SessionMetrics};
use crate::rollback::trace::Frame;
use rollback_lab_link::link::SentBy;
use rollback_lab_link::route::RouteChange;
use rollback_lab_record::{ConditionRealised, Display, Path, PeerClock};

impl<I: Copy + PartialEq + Send + Sync + 'static> SessionMetrics<I> {
    /// A datagram to `player` carried the local inputs of frames `first..=newest` over the paths
    /// `by`. Frames that an earlier datagram carried stay as they are; frames before `first` that
    /// none carried count as unsent.
    pub fn record_sent(&mut self, player: usize, first: Frame, newest: Frame, by: SentBy) {
        self.edit(|episode| {
            if let Some(runs) = episode.sent.get_mut(player) {
                extend(runs, first, newest, SentBy::default(), by);
            }
        });
    }

    /// The first copy of `player`'s inputs of frames `first..=newest` arrived over `path`. Frames
    /// known already stay as they are.
    pub fn record_received(&mut self, player: usize, first: Frame, newest: Frame, path: Path) {
        self.edit(|episode| {
            if let Some(runs) = episode.received.get_mut(player) {
                extend(runs, first, newest, None, Some(path));
            }
        });
    }

    /// The route to `player` changed; `frame` is the next one to simulate.
    pub fn record_route(&mut self, player: usize, frame: Frame, change: RouteChange) {
        self.edit(|episode| episode.routes.push((player, frame, change)));
    }

    /// The round trip to `player` over the route in use, and the latency of that player's inputs,
    /// about once a second.
    pub fn record_latency(
        &mut self,
        player: usize,
        at: Duration,
        rtt_ms: f64,
        input_ms: Option<f64>,
    ) {
        if rtt_ms.is_finite() {
            let mark = LatencyMark {
                player,
                at,
                rtt_ms: rtt_ms as f32,
                input_ms: input_ms.map(|ms| ms as f32),
            };
            self.edit(|episode| episode.latency.push(mark));
        }
    }

    /// A direct path had nothing to fail over to.
    pub fn record_no_second_path(&mut self) {
        self.edit(|episode| episode.lacked_second_path = true);
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

    /// A link as it stands, in the running episode or the one that just ended. The last report of
    /// a player counts.
    pub fn record_link(&mut self, report: LinkReport) {
        self.edit_newest(|episode| {
            episode.links.insert(report.connection.player_id, report);
        });
    }

    /// What this peer's conditions did on a path. The last report of a path counts.
    pub fn record_conditions(&mut self, path: Path, realised: ConditionRealised) {
        self.edit_newest(|episode| {
            episode.condition_realised.insert(path, realised);
        });
    }

    /// A failover ended a condition of the direct path.
    pub fn record_condition_interrupted(&mut self) {
        self.edit(|episode| episode.condition_interrupted = true);
    }

    /// This peer's clock against another's. The last report of a player counts.
    pub fn record_clock(&mut self, clock: PeerClock) {
        self.edit(|episode| {
            episode.peer_clocks.insert(clock.player_id, clock);
        });
    }

    /// A peer's hash differs from ours.
    pub fn record_desync(&mut self, note: DesyncNote) {
        // The same update may have closed the episode that it belongs to.
        if let Some(episode) = self.current.as_mut().or(self.finished.last_mut()) {
            episode.desyncs.push(note);
        }
    }

    /// `player`'s peer ended the episode at `end_frame` with this history digest.
    pub fn record_peer_digest(&mut self, player: usize, end_frame: Frame, digest: u64) {
        // A peer's digest may arrive after this peer has closed the episode.
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

    /// The connection to the server is back after so many attempts.
    pub fn record_server_back(&mut self, at: Duration, attempts: u32, away: Duration) {
        self.edit(|episode| {
            let reason = format!("back after {attempts} attempts and {} ms", away.as_millis());
            let note = loss(episode, None, at, Some(&reason));
            episode.resumes.push(note);
            episode.reconnect_attempts += u64::from(attempts);
        });
    }

    /// The app reports when the game is in the background. Without this, or one of the reports
    /// below, `focusLoss` of the file is `null`.
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

    /// Another player's peer reported that its game went into the background.
    pub fn record_peer_hidden(&mut self, player: usize, at: Duration) {
        self.edit(|episode| {
            let mut periods = episode.peer_background.iter();
            if !periods.any(|&(of, _, end)| of == player && end.is_none()) {
                episode.peer_background.push((player, at, None));
            }
        });
    }

    /// Another player's peer reported that its game came back from the background.
    pub fn record_peer_visible(&mut self, player: usize, at: Duration) {
        self.edit(|episode| {
            let mut periods = episode.peer_background.iter_mut();
            let open = periods.find(|(of, _, end)| *of == player && end.is_none());
            if let Some((_, _, end)) = open {
                *end = Some(at);
            }
        });
    }

    /// The newest frame was drawn. A headless game makes no such report.
    pub fn record_drawn(&mut self) {
        self.edit(EpisodeData::record_drawn);
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
    fn edit_newest(&mut self, edit: impl FnOnce(&mut EpisodeData<I>)) {
        let pending = self.pending().next().is_some();
        let ended = self.finished.last_mut().filter(|_| pending);
        if let Some(newest) = self.current.as_mut().or(ended) {
            edit(newest);
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&mut EpisodeData<I>)) {
        if let Some(current) = &mut self.current {
            edit(current);
        }
    }
}

/// Extends `runs` by `value` up to `newest`, filling frames before `first` with `gap`.
fn extend<T: Copy + PartialEq>(runs: &mut Runs<T>, first: Frame, newest: Frame, gap: T, value: T) {
    let (Ok(first), Ok(newest)) = (u32::try_from(first), u32::try_from(newest)) else {
        return;
    };
    runs.push_many(gap, first.min(newest + 1).saturating_sub(runs.len()));
    runs.push_many(value, (newest + 1).saturating_sub(runs.len()));
}

fn loss<I: Copy + PartialEq>(
    episode: &EpisodeData<I>,
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

impl<I: Copy + PartialEq> EpisodeData<I> {
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
            let closed = self.stalls.iter().copied();
            closed
                .chain(self.open_stall())
                .filter(|stall| below(stall.frame) || self.is_last_standstill(stall.frame))
        };
        let sent = |direct, relay| -> u64 {
            let by = SentBy { direct, relay };
            self.sent.iter().map(|runs| runs.count(by, end)).sum()
        };
        let p2p = sent(true, false);
        let carried = p2p + sent(false, true) + sent(true, true);
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

    /// The first fallback after play began.
    pub(crate) fn fallback(&self) -> Option<&(usize, Frame, RouteChange)> {
        self.routes
            .iter()
            .find(|(_, _, change)| change.is_fallback())
    }
}

impl<I: Copy + PartialEq + Serialize> EpisodeData<I> {
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
