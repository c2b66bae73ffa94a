//! Owns the categories about paths and interruptions: connection, inputs, quality, latency,
//! reconnection, focus loss.

use std::time::Duration;

use serde::Serialize;

use super::super::*;
use super::{Cut, action_runs};
use crate::metrics::{Carrier, LinkReport, LossNote, PathReport, explains, micros};

impl<I: Copy + PartialEq + Serialize> Cut<'_, I> {
    pub(super) fn connection(&self) -> Connection {
        let links = &self.of.links;
        let worst = links
            .iter()
            .filter_map(|(&player, link)| Some((self.worst_route(player, link)?, player, link)))
            // The first of equals, hence the reversed order.
            .rev()
            .max_by_key(|(route, _, _)| badness(route));
        Connection {
            route_type: worst.map(|(route, _, _)| route.to_owned()),
            connection_details: worst.map(|(_, player_id, link)| ConnectionDetails {
                player_id,
                local_candidate_type: link.candidate_types.as_ref().map(|types| types.0.clone()),
                remote_candidate_type: link.candidate_types.as_ref().map(|types| types.1.clone()),
            }),
            peers: links
                .iter()
                .map(|(&player_id, link)| ConnectionPeer {
                    player_id,
                    route: link.route.map(str::to_owned),
                    candidate_types: link
                        .candidate_types
                        .iter()
                        .flat_map(|(ours, theirs)| [ours.clone(), theirs.clone()])
                        .collect(),
                    connect_ms: link.connect_time.map(millis),
                    started_on_relay: link.started_on_relay,
                })
                .collect(),
        }
    }

    /// The worst route towards a player over the whole episode.
    fn worst_route(&self, player: usize, link: &LinkReport) -> Option<&'static str> {
        let mut changes = self.of.routes.iter();
        let failed_over = changes.any(|(of, _, note)| *of == player && note.to == "relay");
        if failed_over || link.started_on_relay == Some(true) {
            Some("relay")
        } else {
            link.route
        }
    }

    pub(super) fn inputs(&self) -> Inputs {
        let of = self.of;
        let measured = of.meta.has_transport;
        let sent = |by| -> u64 {
            of.remote_players()
                .map(|player| of.sent[player].count(by, self.end))
                .sum()
        };
        let received = |by| -> u64 {
            of.remote_players()
                .map(|player| of.received[player].count(by, self.end))
                .sum()
        };
        let (p2p, relay, both) = (
            sent(Carrier::P2p),
            sent(Carrier::Relay),
            sent(Carrier::Both),
        );
        let all = u64::from(self.end) * of.remote_players().count() as u64;
        Inputs {
            sent_via_p2p: measured.then_some(p2p),
            sent_via_relay: measured.then_some(relay),
            sent_via_both: measured.then_some(both),
            unsent: measured.then(|| all - p2p - relay - both),
            received_via_p2p: measured.then(|| received(Carrier::P2p)),
            received_via_relay: measured.then(|| received(Carrier::Relay)),
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
    /// unknown delay nobody knows when an input was read.
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
            fallback_cause: fallback.map(|(_, _, note)| note.cause.to_owned()),
            fallback_trigger: fallback.map(|(_, _, note)| FallbackTrigger {
                metric: note.metric.to_owned(),
                value: finite(note.value),
                threshold: finite(note.threshold),
            }),
            route_changes: of
                .routes
                .iter()
                .map(|&(player_id, frame, note)| RouteChangeRecord {
                    player_id,
                    frame,
                    at_us: micros(note.at),
                    from: note.from.to_owned(),
                    to: note.to.to_owned(),
                    cause: note.cause.to_owned(),
                    metric: note.metric.to_owned(),
                    value: finite(note.value),
                    threshold: finite(note.threshold),
                })
                .collect(),
            failover_feasible: margin.as_ref().and_then(|margin| Some(margin.min? >= 0.0)),
            failover_margin_ms: FailoverMargin {
                min: margin.as_ref().and_then(|margin| margin.min),
                median: margin.as_ref().and_then(|margin| margin.median),
            },
            conditions: Conditions {
                spec,
                seed,
                realised: of
                    .condition_realised
                    .iter()
                    .map(|(&path, realised)| (path.to_owned(), realised.clone()))
                    .collect(),
            },
            condition_interrupted: measured.then_some(of.condition_interrupted),
            paths: self.paths(),
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

    fn paths(&self) -> Vec<PathRecord> {
        let mut paths = Vec::new();
        for (&player_id, link) in &self.of.links {
            let reports = [("direct", &link.direct), ("relay", &link.relay)];
            for (path, report) in reports {
                paths.extend(
                    report
                        .as_ref()
                        .map(|report| record(player_id, path, report)),
                );
            }
        }
        paths
    }

    pub(super) fn latency(&self) -> Latency {
        let samples: Vec<LatencySample> = self
            .of
            .rtt
            .iter()
            .map(|&(player_id, at, rtt)| LatencySample {
                player_id,
                timestamp: self.unix_ms(at),
                rtt_ms: tenths(rtt),
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
            total_pause_duration_ms: millis(self.of.paused),
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
            was_timeout_triggered: watched.then_some(self.of.focus_timeout),
        }
    }
}

fn record(player_id: usize, path: &str, report: &PathReport) -> PathRecord {
    PathRecord {
        player_id,
        path: path.to_owned(),
        datagrams: report.datagrams.clone(),
        bytes_sent: report.bytes_sent,
        bytes_received: report.bytes_received,
        rtt_ms: report.rtt_ms.clone(),
        jitter_ms: report.jitter_ms.clone(),
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

fn badness(route: &str) -> u8 {
    match route {
        "direct" => 0,
        "turn" => 1,
        _ => 2,
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

/// Microseconds of a round trip tell nothing, and digits cost space.
fn tenths(ms: f32) -> f64 {
    (f64::from(ms) * 10.0).round() / 10.0
}
