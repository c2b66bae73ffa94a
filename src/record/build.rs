//! From gathered numbers to a document: everything is cut at the end frame and gets its name. The
//! totals follow from what is listed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::metrics::{EpisodeData, LiveNumbers, NOT_COME, Row, SessionMetrics, input_json, micros};
use crate::rollback::trace::Frame;
use rollback_lab_record::digest::fold_checksum;
use rollback_lab_record::{
    Clock, Completeness, Custom, CustomEvent, Desync, EPISODE_SCHEMA, EpisodeDocument, EpisodeInfo,
    FirstShown, FirstShownRun, FrameTimes, Frames, Hashes, Hex64, Lateness, Rollbacks,
    SCHEMA_VERSION, Schema, StallRecord, SyncReport, SyncStatus, Timeline, TimesUs,
};

mod network;
mod rollbacks;

impl<I> SessionMetrics<I>
where
    I: Copy + PartialEq + Serialize + Send + Sync + 'static,
{
    /// The document of the running episode, with `isPartial: true`, else of the last one. `None`
    /// before the first.
    #[must_use]
    pub fn export(&self) -> Option<EpisodeDocument> {
        self.latest().map(|episode| Cut::new(episode).document())
    }

    /// Takes the ended episodes that were not taken yet, with their numbers. The last one stays for
    /// [`export`](Self::export).
    pub(super) fn take_finished(&mut self) -> Vec<(EpisodeDocument, LiveNumbers)> {
        let taken = self
            .pending()
            .map(|episode| (Cut::new(episode).document(), episode.live()))
            .collect();
        self.forget_taken();
        taken
    }

    /// The documents of every episode still held, in order.
    #[must_use]
    pub fn export_all(&self) -> Vec<EpisodeDocument> {
        self.episodes()
            .map(|episode| Cut::new(episode).document())
            .collect()
    }
}

/// Step of `timeline.frameAtUs`: finer than any display or browser clock can tell two frames apart,
/// and the smallest that the file's budget allows (a minute's jitter costs 7 KB in microseconds,
/// 4.5 KB so).
const FRAME_TIME_STEP_US: u64 = 100;

/// An episode, cut at its end frame.
struct Cut<'a, I> {
    of: &'a EpisodeData<I>,
    /// E.
    end: u32,
}

impl<'a, I: Copy + PartialEq + Serialize> Cut<'a, I> {
    fn new(of: &'a EpisodeData<I>) -> Self {
        Self {
            of,
            end: of.end_frame(),
        }
    }

    fn keeps(&self, frame: Frame) -> bool {
        i64::from(frame) < i64::from(self.end)
    }

    fn unix_ms(&self, at: std::time::Duration) -> u64 {
        let since = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        self.of.meta.origin_unix_ms.saturating_add(since)
    }

    fn document(&self) -> EpisodeDocument {
        let meta = &self.of.meta;
        let rollbacks = self.rollbacks();
        let mut session = meta.session.clone();
        if session.player_ids.is_empty() {
            session.player_ids = (0..self.of.players).collect();
        }
        if session.local_player_id.is_none() {
            session.local_player_id = self.of.local_players().next();
        }
        EpisodeDocument {
            schema: Schema {
                name: EPISODE_SCHEMA.to_owned(),
                version: SCHEMA_VERSION.to_owned(),
            },
            game_id: session.session_id.clone(),
            player_id: session.local_player_id,
            software: meta.software.clone(),
            episode: self.episode(),
            clock: Clock {
                origin_unix_ms: meta.origin_unix_ms,
                origin_unix_us: meta.origin_unix_us,
                resolution_us: meta.clock_resolution_us,
                peers: self.of.peer_clocks.values().cloned().collect(),
            },
            display: meta.display.clone(),
            connection: self.connection(),
            inputs: self.inputs(),
            timeline: self.timeline(),
            frames: self.frames(&rollbacks),
            rollbacks,
            sync: self.sync(),
            quality: self.quality(),
            latency: self.latency(),
            reconnection: self.reconnection(),
            focus_loss: self.focus_loss(),
            custom: self.custom(),
            completeness: Completeness {
                gaps: Some(self.of.unseen(self.end)).filter(|&gaps| gaps > 0),
                ..Completeness::default()
            },
            session,
        }
    }

    fn episode(&self) -> EpisodeInfo {
        let meta = &self.of.meta;
        EpisodeInfo {
            episode_id: meta.episode_id(),
            episode_num: meta.episode_num,
            seed: meta.seed.map(Hex64),
            start_frame: 0,
            end_frame: i32::try_from(self.end).unwrap_or(i32::MAX),
            end_reason: self.of.end.as_ref().and_then(|end| end.reason.clone()),
            is_partial: self.of.is_partial(),
            trial_label: meta.trial_label.clone(),
            condition: meta.condition.clone(),
            fps: meta.fps,
            input_delay_frames: meta.input_delay_frames.clone(),
            max_prediction_frames: meta.max_prediction_frames,
            predictor: meta.predictor.clone(),
            initial_state_hash: self.of.exported_hash(0).map(Hex64),
            config: meta.config.clone(),
            config_digest: meta.config_digest.map(Hex64),
        }
    }

    fn timeline(&self) -> Timeline {
        let lateness = |player: usize| Lateness {
            player_id: player,
            runs: runs(
                self.of.lateness[player]
                    .iter()
                    .take(self.end as usize)
                    .map(|&late| (late != NOT_COME).then_some(u32::from(late))),
            ),
        };
        let drawn = self.of.drawn.as_ref().map(|drawn| {
            let times = drawn.iter().take(self.end as usize);
            runs(times.map(|&times| u32::from(times)))
        });
        Timeline {
            frame_at_us: frame_times_us(self.of.frame_at.iter().take(self.end as usize)),
            drawn_frames: drawn,
            lateness: self.of.remote_players().map(lateness).collect(),
            predicted_first: self
                .of
                .remote_players()
                .map(|player| self.first_shown(player))
                .collect(),
        }
    }

    fn first_shown(&self, player_id: usize) -> FirstShown {
        let mut shown: Vec<(Frame, I)> = self
            .of
            .first_shown
            .iter()
            .filter(|&&(frame, player, _)| player == player_id && self.keeps(frame))
            .map(|&(frame, _, input)| (frame, input))
            .collect();
        // Predictions are judged by corrections and by confirmation, hence not quite in order.
        shown.sort_by_key(|&(frame, _)| frame);
        let mut runs: Vec<(Frame, u32, I)> = Vec::new();
        for (frame, input) in shown {
            match runs.last_mut() {
                Some((first, count, last)) if *last == input && *first + *count as i32 == frame => {
                    *count += 1;
                }
                _ => runs.push((frame, 1, input)),
            }
        }
        let runs = runs.into_iter().map(|(frame, count, input)| FirstShownRun {
            frame,
            count,
            action: input_json(&input),
        });
        FirstShown {
            player_id,
            runs: runs.collect(),
        }
    }

    fn frames(&self, rollbacks: &Rollbacks) -> Frames {
        let of = self.of;
        let rows = &of.rows[..self.end as usize];
        let count = |bits: fn(&Row) -> u8| -> u64 {
            rows.iter()
                .map(|row| u64::from(bits(row).count_ones()))
                .sum()
        };
        let predicted = count(|row| row.predicted);
        let hits = count(|row| row.hit);
        let misses = count(|row| row.missed);
        let voided = count(|row| row.voided);
        // A stall that goes on while the file is written, or in which a match ended that was cut short,
        // waits for the frame after the last.
        let counts = |frame| self.keeps(frame) || of.is_last_standstill(frame);
        let stalls = || of.stalls.iter().copied().chain(of.open_stall());
        let ticks = |overrun: bool| -> u64 {
            let of_kind = stalls().filter(|stall| counts(stall.frame) != overrun);
            of_kind.map(|stall| stall.ticks).sum()
        };
        let unseen = of.unseen(self.end);
        Frames {
            total: u64::from(self.end),
            advanced: u64::from(self.end) - unseen,
            overrun: u64::from(of.advanced() - self.end) - (of.unseen(u32::MAX) - unseen),
            ticks: of.ticks,
            stalled: ticks(false),
            stalled_overrun: ticks(true),
            stalls: stalls()
                .filter(|stall| counts(stall.frame))
                .map(|stall| StallRecord {
                    frame: stall.frame,
                    ticks: stall.ticks,
                    at_us: micros(stall.at),
                    cause: stall.cause,
                })
                .collect(),
            resimulated: rollbacks.resimulated_frames,
            predicted,
            prediction_hits: hits,
            prediction_misses: misses,
            voided,
            open: predicted.saturating_sub(hits + misses + voided),
            revisions: of
                .revised
                .iter()
                .filter(|&&frame| self.keeps(frame))
                .count() as u64,
            max_frames_ahead: of
                .ahead
                .iter()
                .rev()
                .find(|&&(frame, _)| self.keeps(frame))
                .map_or(0, |&(_, ahead)| ahead),
            frame_time_us: frame_times(of.frame_at.deltas(self.end)),
        }
    }

    fn sync(&self) -> SyncReport {
        let of = self.of;
        let confirmed = of.confirmed_frames.min(self.end);
        let mut values: Vec<Option<Hex64>> = Vec::new();
        if of.hash_every > 0 {
            let count = confirmed.div_ceil(of.hash_every) as usize;
            values.extend(of.hashes.iter().take(count).map(|hash| hash.map(Hex64)));
        }
        if values.iter().all(Option::is_none) {
            values.clear();
        }
        let digest = of.digest(confirmed);
        let same_end = |frame: Frame| u32::try_from(frame) == Ok(self.end);
        let peers: BTreeMap<usize, Option<Hex64>> = of
            .remote_players()
            .map(|player| {
                let reported = of.peer_digests.get(&player);
                let reported = reported.filter(|(frame, _)| same_end(*frame));
                (player, reported.map(|&(_, digest)| Hex64(digest)))
            })
            .collect();
        let partial = of.is_partial();
        let all_equal =
            !peers.is_empty() && peers.values().all(|peer| *peer == Some(Hex64(digest)));
        let differs = peers.values().flatten().any(|peer| *peer != Hex64(digest))
            || of.peer_digests.values().any(|&(frame, _)| !same_end(frame));
        let desyncs: Vec<Desync> = of.desyncs.iter().map(desync).collect();
        let faulty = of
            .confirmed_changed
            .iter()
            .filter(|&&frame| self.keeps(frame))
            .count() as u64;
        let status = if !desyncs.is_empty() || faulty > 0 || (differs && !partial) {
            SyncStatus::Disputed
        } else if partial {
            SyncStatus::Partial
        } else if all_equal {
            SyncStatus::Verified
        } else {
            SyncStatus::ConfirmedOnly
        };
        let last_confirmed = i32::try_from(confirmed).ok().and_then(last);
        let last_hash = values.iter().rposition(Option::is_some);
        let hashed = last_hash.and_then(|index| i32::try_from(index * of.hash_every as usize).ok());
        let verified = status == SyncStatus::Verified;
        SyncReport {
            hashes: Hashes {
                every_frames: of.hash_every,
                values,
            },
            // ggrs reports only the comparisons that fail.
            hash_verifications: None,
            hash_matches: None,
            p2p_hash_mismatches: desyncs.len() as u64,
            confirmed_frame: last_confirmed,
            verified_frame: hashed.filter(|_| verified),
            status,
            history_digest: Hex64(digest),
            peer_history_digest: peers,
            agreed_through_frame: last_confirmed.filter(|_| verified),
            confirmed_changed: faulty,
            desyncs,
        }
    }

    fn custom(&self) -> Custom {
        let times: Vec<u64> = if self.of.events.is_empty() {
            Vec::new()
        } else {
            self.of.frame_at.iter().collect()
        };
        let events = self
            .of
            .events
            .iter()
            .filter(|event| self.keeps(event.key()));
        Custom {
            annotations: self.of.annotations.clone(),
            events: events
                .map(|event| CustomEvent {
                    frame: event.frame,
                    at_us: usize::try_from(event.key())
                        .ok()
                        .and_then(|key| times.get(key).copied()),
                    name: event.name.clone(),
                    data: event.data.clone(),
                })
                .collect(),
        }
    }
}

fn desync(note: &crate::metrics::DesyncNote) -> Desync {
    Desync {
        frame: note.frame,
        player_id: note.player,
        local_hash: Hex64(fold_checksum(note.local)),
        remote_hash: Hex64(fold_checksum(note.remote)),
        at_us: micros(note.at),
    }
}

/// Times rounded to the step, so that no error adds up, as distances.
fn frame_times_us(times: impl Iterator<Item = u64>) -> TimesUs {
    let round = |at: u64| at.saturating_add(FRAME_TIME_STEP_US / 2) / FRAME_TIME_STEP_US;
    let times: Vec<u64> = times.map(|at| round(at) * FRAME_TIME_STEP_US).collect();
    TimesUs {
        first: times.first().copied(),
        deltas: times.windows(2).map(|pair| pair[1] - pair[0]).collect(),
    }
}

/// The last frame of so many; `None` of none.
fn last(frames: i32) -> Option<i32> {
    (frames > 0).then(|| frames - 1)
}

/// Equal neighbours as one run.
fn runs<T: PartialEq>(values: impl IntoIterator<Item = T>) -> Vec<(T, u32)> {
    let mut runs: Vec<(T, u32)> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => runs.push((value, 1)),
        }
    }
    runs
}

/// Nearest-rank quantiles.
fn frame_times(deltas: &[u32]) -> FrameTimes {
    let mut sorted = deltas.to_vec();
    sorted.sort_unstable();
    let rank = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).map(|&delta| u64::from(delta))
    };
    FrameTimes {
        p50: rank(50),
        p99: rank(99),
        max: sorted.last().map(|&delta| u64::from(delta)),
    }
}

/// Runs of inputs as JSON.
fn action_runs<I: Serialize>(runs: impl Iterator<Item = (I, u32)>) -> Vec<(Value, u32)> {
    runs.map(|(input, count)| (input_json(&input), count))
        .collect()
}
