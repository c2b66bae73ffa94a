//! The tables about inputs and the paths they took: inputs, lateness, routes and latency.

use super::{expand, table};

table! {
    /// Every run of equal inputs.
    INPUTS = "inputs", "One run of equal inputs of one player, as applied; every file lists every player.";
    for run in Episode(document) => document.inputs.confirmed.iter().flat_map(|player| expand::runs(player.player_id, &player.runs));
    "inputPlayerId" Int ["-"] "The player who pressed it." = run.player_id;
    "isLocal" Flag ["-"] "Whether that is the player of this file." = document.session.local_player_id == Some(run.player_id);
    "frame" Int ["frame"] "First frame it is applied at." = run.frame;
    "frames" Int ["frames"] "For how many." = run.frames;
    "input" Text ["JSON"] "The input, as the game serializes it." = run.value;
    "sampledAtUs" Int ["us"] "When the game read it. Empty for other players' inputs." = expand::change_of(document, &run).and_then(|change| change.sampled_at_us);
    "deviceAtUs" Int ["us"] "When the device says it happened. Empty if it does not." = expand::change_of(document, &run).and_then(|change| change.device_at_us);
    "device" Text ["-"] "Which device. Empty if not known." = expand::change_of(document, &run).and_then(|change| change.device.as_ref());
}

table! {
    /// Every run of equally late inputs.
    LATENESS = "lateness", "One run of frames whose inputs of one remote player came equally late.";
    for run in Episode(document) => document.timeline.lateness.iter().flat_map(|player| expand::runs(player.player_id, &player.runs));
    "remotePlayerId" Int ["-"] "The player who was late." = run.player_id;
    "frame" Int ["frame"] "First frame of the run." = run.frame;
    "frames" Int ["frames"] "Its length." = run.frames;
    "lateFrames" Int ["frames"] "Ticks after the frame's first simulation; 0 was in time. Empty if it never came." = *run.value;
}

table! {
    /// Every transition of every route.
    ROUTES = "routes", "One transition of the route to one remote player.";
    for change in Episode(document) => &document.quality.route_changes;
    "remotePlayerId" Int ["-"] "The player at the other end." = change.player_id;
    "frame" Int ["frame"] "The next frame to simulate at that moment." = change.frame;
    "atUs" Int ["us"] "When, since clock.originUnixMs of this peer." = change.at_us;
    "from" Text ["-"] "State before." = change.from.as_str();
    "to" Text ["-"] "State after." = change.to.as_str();
    "cause" Text ["-"] "Why." = change.cause.as_str();
    "metric" Text ["-"] "The measurement that decided, with its unit in the name." = &change.metric;
    "value" Float ["as metric"] "What was measured." = change.value;
    "threshold" Float ["as metric"] "What it crossed." = change.threshold;
}

table! {
    /// Every sample of the round trip.
    LATENCY = "latency", "One sample of the round trip to one remote player, over the route in use.";
    for sample in Episode(document) => &document.latency.samples;
    "remotePlayerId" Int ["-"] "The player at the other end." = sample.player_id;
    "atUs" Int ["us"] "When, since clock.originUnixMs of this peer; a multiple of 1,000." = sample.timestamp.checked_sub(document.clock.origin_unix_ms).map(|ms| ms.saturating_mul(1000));
    "timestampMs" Int ["ms since 1970"] "The same by this peer's wall clock." = sample.timestamp;
    "rttMs" Float ["ms"] "The smoothed round trip at that moment." = sample.rtt_ms;
    "inputMs" Float ["ms"] "From reading an input there to simulating with it here, the median since the sample before. Empty if none came." = sample.input_ms;
}
