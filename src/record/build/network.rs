//! Builds the categories about paths and interruptions: connection, inputs, quality, latency,
//! reconnection, focus loss.

use std::time::Duration;

use serde::Serialize;

use super::{Cut, action_runs};
use crate::metrics::{LinkReport, LossNote, explains, micros};
use rollback_lab_link::link::SentBy;
use rollback_lab_record::{
    ActionRuns, ConditionsRecord, Connection, ConnectionDetails, Disconnection, FailoverMargin,
    FallbackTrigger, FocusLoss, Hex64, Inputs, Latency, LatencySample, LocalChange, Path,
    PeerPeriod, Period, Quality, Reconnection, RouteChangeRecord, RouteState, Summary, Via,
};

impl<I: Copy + PartialEq + Serialize> Cut<'_, I> {
    pub(super) fn connection(&self) -> Connection {
        let links = &self.of.links;
        let worst = links
            .values()
            .filter_map(|link| Some((self.worst_route(link)?, link)))
            // The first of equals, hence the reversed order.
            .rev()
            .max_by_key(|(route, _)| *route);
        Connection {
            route_type: worst.map(|(route, _)| route),
            connection_details: worst.map(|(_, link)| ConnectionDetails {
                player_id: link.connection.player_id,
                local_candidate_type: link.connection.candidate_types.first().copied(),
                remote_candidate_type: link.connection.candidate_types.get(1).copied(),
            }),
            peers: links.values().map(|link| link.connection.clone()).collect(),
        }
    }

    /// The worst route towards a player over the whole episode.
    fn worst_route(&self, link: &LinkReport) -> Option<Via> {
        let player = link.connection.player_id;
        let mut changes = self.of.routes.iter();
        let relayed =
            changes.any(|(of, _, change)| *of == player && change.to == RouteState::Relay);
        if relayed || link.connection.started_on_relay == Some(true) {
            Some(Via::Relay)
        } else {
            link.connection.route
        }
    }

    pub(super) fn inputs(&self) -> Inputs {
        let of = self.of;
        let measured = of.meta.has_transport;
        let sent = |direct, relay| -> u64 {
            let by = SentBy { direct, relay };
            of.remote_players()
                .map(|player| of.sent[player].count(by, self.end))
                .sum()
        };
        let received = |path| -> u64 {
            of.remote_players()
                .map(|player| of.received[player].count(Some(path), self.end))
                .sum()
        };
        let (p2p, relay, both) = (sent(true, false), sent(false, true), sent(true, true));
        let all = u64::from(self.end) * of.remote_players().count() as u64;
        Inputs {
            sent_via_p2p: measured.then_some(p2p),
            sent_via_relay: measured.then_some(relay),
            sent_via_both: measured.then_some(both),
            unsent: measured.then(|| all - p2p - relay - both),
            received_via_p2p: measured.then(|| received(Path::Direct)),
            received_via_relay: measured.then(|| received(Path::Relay)),
            action_labels: of.meta.action_labels.clone(),
            local_changes: self.local_changes(),
            confirmed: (0..of.players)
                .map(|player_id| ActionRuns {
                    player_id,
                    runs: action_runs(of.confirmed[player_id].up_to(self.end)),
                })
                .collect(),
        }
    }

    /// Frame 0 counts as a change only if its input was read, that is without input delay. With an
    /// unknown delay it cannot be known when an input was read.
    fn local_changes(&self) -> Vec<LocalChange> {
        let sampled: Vec<u64> = self.of.sampled_at.iter().collect();
        let mut changes = Vec::new();
        for player_id in self.of.local_players() {
            let delays = &self.of.meta.input_delay_frames;
            let delay = delays.get(&player_id).copied();
            let mut frame = 0u32;
            for (_, count) in self.of.confirmed[player_id].up_to(self.end) {
                let read_at = delay.and_then(|delay| frame.checked_sub(delay));
                if frame > 0 || delay == Some(0) {
                    let sample = |frame: u32| sampled.get(frame as usize).copied();
                    let sampled_at_us = read_at.and_then(sample);
                    let before = read_at.and_then(|frame| sample(frame.checked_sub(1)?));
                    let by = sampled_at_us
                        .and_then(|until| explains(&self.of.device_notes, before, until));
                    changes.push(LocalChange {
                        player_id,
                        frame: i32::try_from(frame).unwrap_or(i32::MAX),
                        sampled_at_us,
                        device_at_us: by.and_then(|note| note.device_at).map(micros),
                        device: by.map(|note| note.device.to_owned()),
                    });
                }
                frame += count;
            }
        }
        changes.sort_by_key(|change| (change.frame, change.player_id));
        changes
    }

    pub(super) fn quality(&self) -> Quality {
        let of = self.of;
        let measured = of.meta.has_transport;
        let fallback = of.fallback();
        let margin = of
            .margins
            .values()
            .map(|series| Summary::of(series.iter().copied().map(tenths)))
            .filter(|summary| summary.count > 0)
            .min_by(|a, b| f64::total_cmp(&least(a), &least(b)));
        let (spec, seed) = match &of.meta.conditions {
            Some((spec, seed)) => (Some(spec.clone()), Some(Hex64(*seed))),
            None => (None, None),
        };
        let linked = !of.links.is_empty();
        Quality {
            p2p_fallback_triggered: measured.then_some(fallback.is_some()),
            p2p_fallback_frame: fallback.map(|&(_, frame, _)| frame),
            fallback_cause: fallback.map(|(_, _, change)| change.cause),
            fallback_trigger: fallback.map(|(_, _, change)| FallbackTrigger {
                metric: change.metric.to_owned(),
                value: finite(change.value),
                threshold: finite(change.threshold),
            }),
            route_changes: of
                .routes
                .iter()
                .map(|&(player_id, frame, change)| RouteChangeRecord {
                    player_id,
                    frame,
                    at_us: micros(change.at),
                    from: change.from,
                    to: change.to,
                    cause: change.cause,
                    metric: change.metric.to_owned(),
                    value: finite(change.value),
                    threshold: finite(change.threshold),
                })
                .collect(),
            failover_feasible: if of.lacked_second_path {
                Some(false)
            } else {
                margin.as_ref().and_then(|margin| Some(margin.min? >= 0.0))
            },
            failover_margin_ms: FailoverMargin {
                min: margin.as_ref().and_then(|margin| margin.min),
                median: margin.as_ref().and_then(|margin| margin.median),
            },
            conditions: ConditionsRecord {
                spec,
                seed,
                realised: of.condition_realised.clone(),
            },
            condition_interrupted: measured.then_some(of.condition_interrupted),
            paths: of
                .links
                .values()
                .flat_map(|link| link.paths.iter().cloned())
                .collect(),
            direct_send_failures: linked.then(|| {
                of.links
                    .values()
                    .map(|link| link.direct_send_failures)
                    .sum()
            }),
            both_paths_ms: linked
                .then(|| of.links.values().map(|link| millis(link.both_paths)).sum()),
        }
    }

    pub(super) fn latency(&self) -> Latency {
        let samples: Vec<LatencySample> = self
            .of
            .latency
            .iter()
            .map(|mark| LatencySample {
                player_id: mark.player,
                timestamp: self.unix_ms(mark.at),
                rtt_ms: tenths(mark.rtt_ms),
                input_ms: mark.input_ms.map(tenths),
            })
            .collect();
        let summary = Summary::of(samples.iter().map(|sample| sample.rtt_ms));
        Latency {
            sample_count: summary.count,
            min_ms: summary.min,
            max_ms: summary.max,
            mean_ms: summary.mean,
            median_ms: summary.median,
            samples,
        }
    }

    pub(super) fn reconnection(&self) -> Reconnection {
        Reconnection {
            disconnections: self.of.disconnections.iter().map(loss).collect(),
            attempts: self.of.reconnect_attempts,
            // The game does not pause for the server: a standstill is in the stalls.
            total_pause_duration_ms: 0.0,
            resumes: self.of.resumes.iter().map(loss).collect(),
        }
    }

    pub(super) fn focus_loss(&self) -> FocusLoss {
        // A period that did not end lasts until the last frame of the file.
        let last_frame = self.of.frame_at.iter().take(self.end as usize).last();
        let last_frame = last_frame.map_or(Duration::ZERO, Duration::from_micros);
        let periods: Vec<Period> = self
            .of
            .background
            .iter()
            .map(|&(start, end)| Period {
                start: self.unix_ms(start),
                end: end.map(|end| self.unix_ms(end)),
                duration_ms: millis(end.unwrap_or(last_frame).saturating_sub(start)),
            })
            .collect();
        let peers = self.of.peer_background.iter();
        let peer_background_periods = peers
            .map(|&(player_id, start, end)| PeerPeriod {
                player_id,
                start: self.unix_ms(start),
                end: end.map(|end| self.unix_ms(end)),
                duration_ms: millis(end.unwrap_or(last_frame).saturating_sub(start)),
            })
            .collect();
        let watched = self.of.focus_watched;
        FocusLoss {
            peer_background_periods,
            total_background_ms: watched
                .then(|| periods.iter().map(|period| period.duration_ms).sum()),
            period_count: watched.then_some(periods.len() as u64),
            background_periods: periods,
            timeout_ms: self.of.meta.focus_timeout_ms,
            was_timeout_triggered: watched.then_some(false),
        }
    }
}

fn loss(note: &LossNote) -> Disconnection {
    Disconnection {
        player_id: note.player,
        frame: note.frame,
        at_us: micros(note.at),
        reason: note.reason.clone(),
    }
}

fn least(summary: &Summary) -> f64 {
    summary.min.unwrap_or(f64::INFINITY)
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn millis(duration: Duration) -> f64 {
    micros(duration) as f64 / 1000.0
}

/// A round trip is not known more finely, and digits cost space.
fn tenths(ms: f32) -> f64 {
    (f64::from(ms) * 10.0).round() / 10.0
}
