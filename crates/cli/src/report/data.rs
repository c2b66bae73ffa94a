//! The data of a report's page: times in milliseconds of the one clock, and series thinned to what
//! a screen can show, with every extreme kept.

use std::collections::BTreeMap;

use rollback_lab_record::merge::{Agreement, MergedClock, MergedEpisode, MergedPeer, RouteLabel};
use rollback_lab_record::{Cause, EndReason, Frames, RouteCause, RoutePolicy, RouteState};
use serde::Serialize;
use serde_json::Value;

/// Points of one series: more than a wide screen has pixels.
const POINTS: usize = 3000;

/// A frame is drawn as long from this multiple of its nominal duration: at 60 Hz it missed at
/// least one refresh of the display.
const LONG_FRAME: f64 = 1.75;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EpisodeData {
    id: String,
    session_id: String,
    room: Option<String>,
    study_id: Option<String>,
    group_id: Option<String>,
    trial_label: Option<String>,
    condition: BTreeMap<String, Value>,
    route_policy: Option<RoutePolicy>,
    fps: u32,
    max_prediction: u32,
    frames: i32,
    end_reason: Option<EndReason>,
    missing: Vec<usize>,
    clock: MergedClock,
    agreement: Agreement,
    from_ms: f64,
    to_ms: f64,
    causes: Vec<&'static str>,
    peers: Vec<PeerData>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerData {
    id: usize,
    name: String,
    partial: bool,
    input_delay: u32,
    conditions: Option<String>,
    totals: Frames,
    routes: Vec<RouteData>,
    rollbacks: Vec<RollbackData>,
    stalls: Vec<StallData>,
    rtt: Vec<(f64, f64, usize)>,
    /// Start, then the largest lateness; `null` for an input that did not arrive.
    late: Vec<(f64, Option<u32>)>,
    /// Long frames: their time, and that since the frame before.
    long: Vec<(f64, f64)>,
    background: Vec<(f64, f64)>,
    changes: Vec<ChangeData>,
    events: Vec<(f64, String)>,
    desyncs: Vec<(f64, i32)>,
}

#[derive(Serialize)]
struct RouteData {
    to: usize,
    segments: Vec<(f64, f64, RouteLabel)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RollbackData {
    at: f64,
    frame: i32,
    depth: u32,
    cause: &'static str,
    player: usize,
    late_by: u32,
    via: &'static str,
    resim_us: u64,
    predicted: Option<Value>,
    actual: Option<Value>,
    /// From reading the input at its player to the correction here.
    took: Option<f64>,
}

#[derive(Serialize)]
struct StallData {
    at: f64,
    ms: f64,
    ticks: u64,
    frame: i32,
    cause: Cause,
}

#[derive(Serialize)]
struct ChangeData {
    at: f64,
    frame: i32,
    to: usize,
    from: RouteState,
    state: RouteState,
    cause: RouteCause,
    metric: String,
    value: Option<f64>,
    threshold: Option<f64>,
}

pub(super) fn episode(merged: &MergedEpisode) -> EpisodeData {
    let ends: Vec<(f64, f64)> = merged
        .peers
        .iter()
        .filter_map(|peer| {
            let times = times(peer);
            Some((*times.first()?, *times.last()?))
        })
        .collect();
    let from_ms = ends.iter().map(|(from, _)| *from).reduce(f64::min);
    let to_ms = ends.iter().map(|(_, to)| *to).reduce(f64::max);
    let (from_ms, to_ms) = (from_ms.unwrap_or(0.0), to_ms.unwrap_or(0.0));
    EpisodeData {
        id: merged.episode.episode_id.clone(),
        session_id: merged.session.session_id.clone(),
        room: merged.session.room.clone(),
        study_id: merged.session.study_id.clone(),
        group_id: merged.session.group_id.clone(),
        trial_label: merged.episode.trial_label.clone(),
        condition: merged.episode.condition.clone(),
        route_policy: merged.session.route_policy,
        fps: merged.episode.fps,
        max_prediction: merged.episode.max_prediction_frames,
        frames: merged.episode.end_frame,
        end_reason: merged.episode.end_reason.clone(),
        missing: merged.session.missing_player_ids.clone(),
        clock: merged.clock.clone(),
        agreement: merged.agreement.clone(),
        from_ms,
        to_ms,
        causes: Cause::ALL.map(Cause::as_str).to_vec(),
        peers: merged
            .peers
            .iter()
            .map(|peer| of_peer(merged, peer, to_ms))
            .collect(),
    }
}

fn of_peer(merged: &MergedEpisode, peer: &MergedPeer, to_ms: f64) -> PeerData {
    let own = peer.player_id;
    let times = times(peer);
    let tick_ms = 1000.0 / f64::from(merged.episode.fps.max(1));
    let rollbacks = merged.rollbacks.iter();
    let stalls = merged
        .stalls
        .iter()
        .filter(|stall| stall.observer_id == own);
    let rtt: Vec<_> = merged
        .latency
        .iter()
        .filter(|sample| sample.observer_id == own)
        .map(|sample| {
            (
                ms(sample.at_us),
                sample.event.rtt_ms,
                sample.event.player_id,
            )
        })
        .collect();
    PeerData {
        id: own,
        name: name(merged, own),
        partial: peer.is_partial,
        input_delay: merged
            .episode
            .input_delay_frames
            .get(&own)
            .copied()
            .unwrap_or(0),
        conditions: peer.conditions.spec.clone(),
        totals: peer.frames.clone(),
        routes: routes(merged, peer, &times, to_ms),
        rollbacks: rollbacks
            .filter(|rollback| rollback.observer_id == own)
            .map(|rollback| RollbackData {
                at: ms(rollback.at_us),
                frame: rollback.event.frame,
                depth: rollback.event.rollback_frames,
                cause: rollback.cause.as_str(),
                player: rollback.event.player_id,
                late_by: rollback.event.late_by_frames,
                via: rollback.event.via.as_str(),
                resim_us: rollback.event.resim_time_us,
                predicted: rollback.event.predicted_action.clone(),
                actual: rollback.event.actual_action.clone(),
                took: rollback
                    .sender
                    .as_ref()
                    .map(|sender| ms(sender.until_corrected_us)),
            })
            .collect(),
        stalls: stalls
            .map(|stall| StallData {
                at: ms(stall.at_us),
                ms: stall.event.ticks as f64 * tick_ms,
                ticks: stall.event.ticks,
                frame: stall.event.frame,
                cause: stall.event.cause,
            })
            .collect(),
        rtt: thinned(&rtt, |sample| sample.1),
        late: lateness(peer, &times),
        long: long_frames(&times, tick_ms),
        background: merged
            .background
            .iter()
            .filter(|period| period.observer_id == own)
            .map(|period| (ms(period.at_us), period.duration_ms))
            .collect(),
        changes: changes(merged, own),
        events: merged
            .custom
            .iter()
            .filter(|event| event.observer_id == own)
            .map(|event| (ms(event.at_us), event.event.name.clone()))
            .collect(),
        desyncs: merged
            .desyncs
            .iter()
            .filter(|desync| desync.observer_id == own)
            .map(|desync| (ms(desync.at_us), desync.event.frame))
            .collect(),
    }
}

fn name(merged: &MergedEpisode, player: usize) -> String {
    let players = &merged.session.players;
    let known = players.iter().find(|known| known.player_id == player);
    let about = known.and_then(|known| {
        let kind = known.kind.map(|kind| kind.as_str().to_owned());
        let policy = known.policy_name.clone();
        known.pseudonym.clone().or(policy).or(kind)
    });
    about.map_or_else(
        || format!("player {player}"),
        |about| format!("player {player} ({about})"),
    )
}

fn changes(merged: &MergedEpisode, own: usize) -> Vec<ChangeData> {
    let changes = merged.route_changes.iter();
    changes
        .filter(|change| change.observer_id == own)
        .map(|change| ChangeData {
            at: ms(change.at_us),
            frame: change.event.frame,
            to: change.event.player_id,
            from: change.event.from,
            state: change.event.to,
            cause: change.event.cause,
            metric: change.event.metric.clone(),
            value: change.event.value,
            threshold: change.event.threshold,
        })
        .collect()
}

/// The states of every route over the episode. Before its first change a route is in the state
/// that this change leaves; without a change, in its final one.
fn routes(merged: &MergedEpisode, peer: &MergedPeer, times: &[f64], to_ms: f64) -> Vec<RouteData> {
    let start = times.first().copied().unwrap_or(0.0);
    peer.routes
        .iter()
        .map(|route| {
            let changes: Vec<_> = merged
                .route_changes
                .iter()
                .filter(|change| {
                    change.observer_id == peer.player_id
                        && change.event.player_id == route.player_id
                })
                .collect();
            let first = changes
                .first()
                .map(|change| RouteLabel::State(change.event.from));
            let mut state = first.or(route.route.map(RouteLabel::InUse));
            let mut since = start;
            let mut segments = Vec::new();
            for change in changes {
                let at = ms(change.at_us).max(start);
                if let Some(state) = state.filter(|_| at > since) {
                    segments.push((since, at, state));
                }
                state = Some(RouteLabel::State(change.event.to));
                since = at;
            }
            if let Some(state) = state {
                segments.push((since, to_ms, state));
            }
            RouteData {
                to: route.player_id,
                segments,
            }
        })
        .collect()
}

/// The largest lateness over the remote players, per stretch of frames.
fn lateness(peer: &MergedPeer, times: &[f64]) -> Vec<(f64, Option<u32>)> {
    let mut worst: Vec<Option<u32>> = vec![Some(0); times.len()];
    for player in &peer.lateness {
        let values = player
            .runs
            .iter()
            .flat_map(|(late, count)| std::iter::repeat_n(*late, *count as usize));
        for (frame, late) in worst.iter_mut().zip(values) {
            // An input that did not arrive is later than any number.
            *frame = frame.zip(late).map(|(one, other)| one.max(other));
        }
    }
    let chunk = worst.len().div_ceil(POINTS).max(1);
    let mut points: Vec<(f64, Option<u32>)> = Vec::new();
    for (values, times) in worst.chunks(chunk).zip(times.chunks(chunk)) {
        let late = values
            .iter()
            .copied()
            .try_fold(0, |most, late| Some(most.max(late?)));
        let at = times.first().copied().unwrap_or_default();
        if points.last().is_none_or(|(_, before)| *before != late) {
            points.push((at, late));
        }
    }
    points
}

fn long_frames(times: &[f64], tick_ms: f64) -> Vec<(f64, f64)> {
    let long: Vec<_> = times
        .windows(2)
        .map(|pair| (pair[1], pair[1] - pair[0]))
        .filter(|(_, took)| *took > LONG_FRAME * tick_ms)
        .collect();
    thinned(&long, |frame| frame.1)
}

/// The largest point of every stretch, so that no peak is lost.
fn thinned<T: Copy>(points: &[T], height: impl Fn(&T) -> f64) -> Vec<T> {
    let chunk = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(chunk)
        .filter_map(|chunk| chunk.iter().max_by(|a, b| height(a).total_cmp(&height(b))))
        .copied()
        .collect()
}

fn times(peer: &MergedPeer) -> Vec<f64> {
    let Some(mut at_us) = peer.frame_at_us.first else {
        return Vec::new();
    };
    let mut times = vec![ms(at_us)];
    for delta in &peer.frame_at_us.deltas {
        at_us = at_us.saturating_add_unsigned(*delta);
        times.push(ms(at_us));
    }
    times
}

/// Milliseconds to a hundredth, which is finer than the page shows.
fn ms(us: i64) -> f64 {
    (us as f64 / 10.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollback_lab_record::EpisodeDocument;
    use rollback_lab_record::merge::merge;

    fn golden() -> MergedEpisode {
        let path = rollback_lab_test_kit::files::GOLDEN;
        let text = std::fs::read_to_string(path).unwrap();
        merge(&[EpisodeDocument::parse(&text).unwrap()]).unwrap()
    }

    #[test]
    fn a_thinned_series_keeps_its_peak() {
        let mut points = vec![(0.0, 1.0); POINTS * 7 + 3];
        points[POINTS * 5 + 1] = (5.0, 99.0);
        let thin = thinned(&points, |point| point.1);
        assert!(thin.len() <= POINTS);
        assert!(thin.contains(&(5.0, 99.0)));
        assert!(thinned(&Vec::<(f64, f64)>::new(), |point| point.1).is_empty());
    }

    #[test]
    fn a_route_is_drawn_from_the_first_frame_to_the_last() {
        let merged = golden();
        let episode = episode(&merged);
        let segments = &episode.peers[0].routes[0].segments;
        let states: Vec<_> = segments.iter().map(|segment| segment.2.as_str()).collect();
        // The golden file's two changes are of the same instant: `suspect` has no duration.
        assert_eq!(states, ["direct", "relay"]);
        assert!((segments[0].0 - episode.from_ms).abs() < f64::EPSILON);
        assert!((segments[1].1 - episode.to_ms).abs() < f64::EPSILON);
        assert!((segments[0].1 - segments[1].0).abs() < f64::EPSILON);
    }

    #[test]
    fn an_input_that_did_not_arrive_is_later_than_any_number() {
        let mut merged = golden();
        merged.peers[0].lateness[0].runs = vec![(Some(0), 10), (Some(4), 1), (None, 289)];
        let late = &episode(&merged).peers[0].late;
        let values: Vec<_> = late.iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [Some(0), Some(4), None]);
    }
}
