//! The table of episodes: what the other tables are grouped by, and the totals to compare their rows
//! with.

use std::collections::BTreeMap;

use serde_json::Value;

use super::table;
use crate::EpisodeDocument;

table! {
    /// Every episode file.
    EPISODES = "episodes", "One peer's file about one episode: conditions, settings and totals.";
    for episode in Episode(document) => [&document.episode];
    "episodeNum" Int ["-"] "Counts from 0 within the lab session." = episode.episode_num;
    "trialLabel" Text ["-"] "The study's name for this trial." = episode.trial_label.as_ref();
    "condition" Text ["JSON"] "The experimental condition, as the study names it." = map(&episode.condition);
    "conditionsSpec" Text ["-"] "Artificial network conditions of this peer. Empty if none." = document.quality.conditions.spec.as_ref();
    "routePolicy" Text ["-"] "p2p-first, p2p-only, relay-only or dual-path." = document.session.route_policy.map(crate::RoutePolicy::as_str);
    "players" Int ["players"] "Players of the episode." = document.inputs.confirmed.len();
    "seed" Text ["hex"] "Seed of the episode." = episode.seed;
    "fps" Int ["Hz"] "Frames per second the session was built for." = episode.fps;
    "inputDelayFrames" Int ["frames"] "Input delay of this file's player." = document.session.local_player_id.and_then(|player| episode.input_delay_frames.get(&player)).copied();
    "maxPredictionFrames" Int ["frames"] "ggrs's prediction window." = episode.max_prediction_frames;
    "predictor" Text ["-"] "How missing inputs were predicted." = episode.predictor.as_ref();
    "endFrame" Int ["frames"] "Length of the episode in frames." = episode.end_frame;
    "endReason" Text ["-"] "Why it ended." = episode.end_reason.as_ref().map(crate::EndReason::as_str);
    "isPartial" Flag ["-"] "Whether it was still running, or cut off." = episode.is_partial;
    "originUnixMs" Int ["ms since 1970"] "The moment of atUs = 0 on this peer." = document.clock.origin_unix_ms;
    "startAtUs" Int ["us"] "First simulation of frame 0, since originUnixMs." = document.timeline.frame_at_us.first;
    "durationUs" Int ["us"] "From the first simulation of frame 0 to that of the last frame." = document.timeline.frame_at_us.first.map(|_| document.timeline.frame_at_us.deltas.iter().sum::<u64>());
    "syncStatus" Text ["-"] "verified, confirmed-only, disputed or partial." = document.sync.status.as_str();
    "rollbacks" Int ["rollbacks"] "rollbacks.count." = document.rollbacks.count;
    "maxRollbackFrames" Int ["frames"] "Deepest rollback." = document.rollbacks.max_frames;
    "resimulatedFrames" Int ["frames"] "Frames simulated again." = document.rollbacks.resimulated_frames;
    "resimTimeUs" Int ["us"] "Time that took." = document.rollbacks.resim_time_us;
    "predicted" Int ["inputs"] "Remote inputs first simulated on a prediction." = document.frames.predicted;
    "predictionHits" Int ["inputs"] "Those whose last prediction was right." = document.frames.prediction_hits;
    "predictionMisses" Int ["inputs"] "Those whose last prediction was wrong." = document.frames.prediction_misses;
    "stalledTicks" Int ["ticks"] "frames.stalled: ticks without a new frame." = document.frames.stalled;
    "stalls" Int ["stalls"] "Number of stalls below the end." = document.frames.stalls.len();
    "frameTimeP50Us" Int ["us"] "Median time between frames." = document.frames.frame_time_us.p50;
    "frameTimeP99Us" Int ["us"] "99th percentile of it." = document.frames.frame_time_us.p99;
    "frameTimeMaxUs" Int ["us"] "Largest." = document.frames.frame_time_us.max;
    "connectionType" Text ["-"] "Worst route in use: direct, turn or relay." = document.connection.route_type.map(crate::Via::as_str);
    "sentViaP2P" Int ["inputs"] "Local inputs first sent directly alone." = document.inputs.sent_via_p2p;
    "sentViaRelay" Int ["inputs"] "Local inputs first sent by the relay alone." = document.inputs.sent_via_relay;
    "sentViaBoth" Int ["inputs"] "Local inputs first sent on both paths at once." = document.inputs.sent_via_both;
    "p2pFallbackTriggered" Flag ["-"] "Whether a route became relay. Empty without the lab's transport." = document.quality.p2p_fallback_triggered;
    "p2pFallbackFrame" Int ["frame"] "The next frame to simulate when it did." = document.quality.p2p_fallback_frame;
    "fallbackCause" Text ["-"] "Why." = document.quality.fallback_cause.map(crate::RouteCause::as_str);
    "failoverFeasible" Flag ["-"] "Whether a lost path could be replaced without a stall all the time." = document.quality.failover_feasible;
    "bothPathsMs" Float ["ms"] "Time during which packets went on both paths." = document.quality.both_paths_ms;
    "rttMedianMs" Float ["ms"] "Median of the latency samples." = document.latency.median_ms;
    "rttMaxMs" Float ["ms"] "Largest of them." = document.latency.max_ms;
    "backgroundMs" Float ["ms"] "Time in the background. Empty where it was not measured." = document.focus_loss.total_background_ms;
    "hashMismatches" Int ["hashes"] "sync.p2pHashMismatches." = document.sync.p2p_hash_mismatches;
    "kind" Text ["-"] "human, bot or replay. Empty if it is not known." = kind(document);
    "policyName" Text ["-"] "Name of a bot's policy." = own(document).and_then(|player| player.policy_name.as_ref());
    "pseudonym" Text ["-"] "The player's pseudonym." = own(document).and_then(|player| player.pseudonym.as_ref());
    "displayHz" Float ["Hz"] "Refresh rate of the screen. Empty when headless." = document.display.refresh_hz;
    "game" Text ["-"] "The game's name." = &document.software.game;
    "gameVersion" Text ["-"] "The game's version." = &document.software.version;
    "library" Text ["-"] "This crate's name and version." = &document.software.library;
    "schemaVersion" Text ["-"] "Version of the file's format." = &document.schema.version;
}

fn own(document: &EpisodeDocument) -> Option<&crate::Player> {
    let local = document.session.local_player_id?;
    let players = &document.session.players;
    players.iter().find(|player| player.player_id == local)
}

fn kind(document: &EpisodeDocument) -> Option<&'static str> {
    own(document)?.kind.map(crate::PlayerKind::as_str)
}

/// A map as JSON; empty if the study named nothing.
fn map(map: &BTreeMap<String, Value>) -> Option<String> {
    let object = map.iter().map(|(key, value)| (key.clone(), value.clone()));
    (!map.is_empty()).then(|| Value::Object(object.collect()).to_string())
}
