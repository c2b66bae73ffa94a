//! The tables about frames: rollbacks, frames, stalls and hashes.

use super::{expand, table};

table! {
    /// Every rollback that ran.
    ROLLBACKS = "rollbacks", "One rollback that ran on this peer.";
    for event in Episode(document) => &document.rollbacks.events;
    "rollbackId" Int ["-"] "Counts up within the episode." = event.rollback_id;
    "frame" Int ["frame"] "First frame that had been simulated with a wrong input." = event.frame;
    "currentFrame" Int ["frame"] "The next frame to simulate when the correction came." = event.current_frame;
    "rollbackFrames" Int ["frames"] "Depth: currentFrame - frame, at least 1." = event.rollback_frames;
    "atUs" Int ["us"] "When the correction ran, since clock.originUnixMs of this peer." = event.at_us;
    "timestampMs" Int ["ms since 1970"] "The same by this peer's wall clock." = event.timestamp;
    "remotePlayerId" Int ["-"] "The player whose input was wrong." = event.player_id;
    "predictedAction" Text ["JSON"] "The last prediction used. Empty when a disconnect forced the rollback." = event.predicted_action.as_ref();
    "actualAction" Text ["JSON"] "The confirmed input. Empty when a disconnect forced the rollback." = event.actual_action.as_ref();
    "loadedFrame" Int ["frame"] "The state that was loaded, at most frame." = event.loaded_frame;
    "resimulatedFrames" Int ["frames"] "Frames simulated again, at least rollbackFrames." = event.resimulated_frames;
    "resimTimeUs" Int ["us"] "Time that took." = event.resim_time_us;
    "cause" Text ["-"] "Why the input was late, as this peer's file says." = event.cause.as_str();
    "lateByFrames" Int ["frames"] "From the first simulation of frame until its input was known." = event.late_by_frames;
    "via" Text ["-"] "Path of the input's first copy: direct, turn, relay or unknown." = event.via.as_str();
    "rttMs" Float ["ms"] "Smoothed round trip to that player. Empty if not measured." = event.evidence.rtt_ms;
    "jitterMs" Float ["ms"] "Smoothed deviation of the round trip. Empty if not measured." = event.evidence.jitter_ms;
    "lostPackets" Int ["packets"] "Packets of that player found lost recently. Empty if not measured." = event.evidence.lost_packets;
    "framesAhead" Int ["frames"] "Frames this peer ran ahead. Empty if not measured." = event.evidence.frames_ahead;
    "peerSilenceMs" Float ["ms"] "Since the last packet of that player. Empty if not measured." = event.evidence.peer_silence_ms;
    "alsoMispredicted" Int ["inputs"] "Other frames and players that the same rollback corrected." = event.also_mispredicted.len();
}

table! {
    /// Every frame.
    FRAMES = "frames", "One frame, when this peer first simulated it.";
    for row in Episode(document) => expand::frames(document);
    "frame" Int ["frame"] "Counts from 0." = row.frame;
    "atUs" Int ["us"] "First simulation, since clock.originUnixMs of this peer, rounded to 100 us." = row.at_us;
    "frameTimeUs" Int ["us"] "Since the first simulation of the frame before. Empty for frame 0." = row.frame_time_us;
    "drawnTimes" Int ["rendered frames"] "How often it was the newest frame on screen. Empty if not measured." = row.drawn_times;
    "lateFrames" Int ["frames"] "How late the latest remote input of this frame came; 0 was in time. Empty if none came." = row.late_frames;
    "latePlayers" Int ["players"] "Remote players whose input was not there in time." = row.late_players;
    "missingPlayers" Int ["players"] "Remote players whose input never came, or had not when the episode closed." = row.missing_players;
    "wrongPlayers" Int ["players"] "Remote players who were shown with an input that turned out wrong." = row.wrong_players;
    "stalledTicks" Int ["ticks"] "Ticks in which this frame had to wait." = row.stalled_ticks;
}

table! {
    /// Every stall.
    STALLS = "stalls", "One stall below the end of the episode: ticks in a row without a new frame.";
    for stall in Episode(document) => &document.frames.stalls;
    "frame" Int ["frame"] "The frame that had to wait." = stall.frame;
    "ticks" Int ["ticks"] "How long, in ticks of the session's rate." = stall.ticks;
    "atUs" Int ["us"] "When it began, since clock.originUnixMs of this peer." = stall.at_us;
    "cause" Text ["-"] "Why, or unknown." = stall.cause.as_str();
}

table! {
    /// Every hash of a confirmed state.
    HASHES = "hashes", "One confirmed state on the grid of sync.hashes.";
    for (index, hash) in Episode(document) => document.sync.hashes.values.iter().enumerate();
    "frame" Int ["frame"] "The frame whose state was hashed." = index as u64 * u64::from(document.sync.hashes.every_frames);
    "hash" Text ["hex"] "Sixteen hex digits. Empty where the game computed none." = *hash;
}
