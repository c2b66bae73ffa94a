// Declarations of the documents that bevy_rollback_lab exports, and of how a page receives them.
// Generated from crates/record/schema by `cargo xtask types`; do not edit.

/**
 * What kind of ICE candidate one side of a direct path uses (RFC 8445, section 5.1.1). No address
 * stands in any file.
 */
export type CandidateType = "host" | "srflx" | "prflx" | "relay";
/**
 * The path in use to a player, or the path that a copy of an input took.
 */
export type Via = "direct" | "turn" | "relay" | "unknown";
/**
 * A 64-bit value as sixteen lower-case hex digits.
 */
export type Hex64 = string;
/**
 * Why an episode or a lab session ended: one of the examples, or the game's own word.
 */
export type EndReason = string;
/**
 * Why the input that a rollback corrected was late: the first that fits, in this order.
 */
export type Cause =
  | "disconnect"
  | "routeChange"
  | "peerHidden"
  | "peerStall"
  | "packetLoss"
  | "reordering"
  | "jitterSpike"
  | "frameAdvantage"
  | "baseLatency"
  | "unknown";
/**
 * Why a route changed.
 */
export type RouteCause =
  | "directOpened"
  | "directPending"
  | "silence"
  | "unacked"
  | "sendFailed"
  | "peerDoubt"
  | "recovered"
  | "dead"
  | "lossy"
  | "congested"
  | "closed"
  | "never"
  | "peerPromoted"
  | "policy"
  | "relaySilent"
  | "relayBack"
  | "returned"
  | "unknown";
/**
 * One of the two paths that a datagram can take to a peer: [`Direct`](Path::Direct) or
 * [`Relay`](Path::Relay).
 *
 * In options, log lines and files it is written as `direct` or `relay`. Whether the direct path
 * leads through a TURN server is a property of the connection and not of the path:
 * [`Via`](crate::cause::Via) tells the two apart.
 */
export type Path = "direct" | "relay";
/**
 * Which paths the game packets to one peer take at the moment.
 *
 * Read it from a [`RouteChange`] or from `quality.routeChanges` of a file.
 */
export type RouteState = "connecting" | "provisional" | "direct" | "suspect" | "relay" | "survival";
/**
 * Who sits behind a handle.
 */
export type PlayerKind = "human" | "bot" | "replay";
/**
 * Which paths a session may use for game packets.
 *
 * [`P2pFirst`](RoutePolicy::P2pFirst) suits a game that should survive a lost path; the others
 * are for experiments that want one kind of path or both. All peers of a session must agree on
 * it. In options and files it is written as `p2p-first`, `p2p-only`, `relay-only` or `dual-path`.
 */
export type RoutePolicy = "p2p-first" | "p2p-only" | "relay-only" | "dual-path";
/**
 * What a file can claim about agreement.
 */
export type SyncStatus = "verified" | "confirmed-only" | "disputed" | "partial";

/**
 * One episode as one peer saw it: the content of `episode-<n>.player-<k>.json`. Read one with
 * [`parse`](Self::parse) and check it with [`check::check_episode`].
 *
 * A file is written when its episode ends, and while it runs by `SessionMetrics::export` of the
 * plugin; `episode.isPartial` tells the two apart.
 */
export interface EpisodeDocument {
  /**
   * What the times in this file mean.
   */
  clock: Clock;
  /**
   * What a crash may have cost.
   */
  completeness: Completeness;
  /**
   * The routes to the other peers.
   */
  connection: Connection;
  /**
   * The game's own data.
   */
  custom: Custom;
  /**
   * The screen. All `null` when headless.
   */
  display: Display;
  /**
   * Which episode this is and how it was set up.
   */
  episode: EpisodeInfo;
  /**
   * Times the game was in the background.
   */
  focusLoss: FocusLoss;
  /**
   * How many frames were simulated, predicted and waited for.
   */
  frames: Frames;
  /**
   * `sessionId` again, under the name that existing analysis scripts read.
   */
  gameId: string;
  /**
   * What was pressed, and how it travelled.
   */
  inputs: Inputs;
  /**
   * Round trips over the route in use.
   */
  latency: Latency;
  /**
   * `localPlayerId` again, under the name that existing analysis scripts read.
   */
  playerId: number | null;
  /**
   * Health of the paths, and the fallback if there was one.
   */
  quality: Quality;
  /**
   * Losses of connection and how they ended.
   */
  reconnection: Reconnection;
  /**
   * Every rollback that ran.
   */
  rollbacks: Rollbacks;
  /**
   * Name and version of the format.
   */
  schema: Schema;
  /**
   * Who played, and under which agreement.
   */
  session: SessionMeta;
  /**
   * What ran.
   */
  software: Software;
  /**
   * Whether the peers simulated the same.
   */
  sync: SyncReport;
  /**
   * What the participant saw and when.
   */
  timeline: Timeline;
}
/**
 * `clock`: what `atUs` and `timestamp` mean in this file.
 */
export interface Clock {
  /**
   * Unix milliseconds at which `atUs` is 0.
   */
  originUnixMs: number;
  /**
   * The same moment in microseconds. `null` where it is not known that finely: in a browser, and
   * in files of version 1.0.
   */
  originUnixUs: number | null;
  /**
   * This peer's clock against the others'.
   */
  peers: PeerClock[];
  /**
   * Smallest step of this clock; a browser's may be coarse.
   */
  resolutionUs: number | null;
}
/**
 * This peer's clock against one other's.
 */
export interface PeerClock {
  /**
   * When the offset below held: at the last sample. `null` in files of version 1.0.
   */
  atUs: number | null;
  /**
   * How fast the offset grows, in parts per million. `null` below ten seconds of samples.
   */
  driftPpm: number | null;
  /**
   * Their `atUs` minus ours at the same instant: the middle of what all samples agree on, each
   * widened by a drift of 200 ppm up to `atUs`.
   */
  offsetUs: number | null;
  /**
   * The other player.
   */
  playerId: number;
  /**
   * Measurements, as `[atUs, offsetUs, uncertaintyUs]`: at most 32, those of the link's whole
   * life.
   */
  samples: [number, number, number][];
  /**
   * Half the width of the interval the offset lies in.
   */
  uncertaintyUs: number | null;
}
/**
 * `completeness`: what a crash may have cost. `null` while no journal is kept.
 */
export interface Completeness {
  /**
   * Rows that are missing.
   */
  gaps: number | null;
  /**
   * Rows the journal held.
   */
  journalRows: number | null;
  /**
   * Whether this file was put together from a journal.
   */
  recovered: boolean | null;
}
/**
 * `connection`: the routes to the other peers.
 */
export interface Connection {
  /**
   * The peer that `type` speaks of.
   */
  connectionDetails: ConnectionDetails | null;
  /**
   * One entry per remote player.
   */
  peers: ConnectionPeer[];
  /**
   * Worst route in use during the episode: `direct` before `turn` before `relay`.
   */
  type: Via | null;
}
/**
 * The connection behind `connection.type`.
 */
export interface ConnectionDetails {
  /**
   * ICE candidate type on this side. `null` without a direct path.
   */
  localCandidateType: CandidateType | null;
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * ICE candidate type on the other side. `null` without a direct path.
   */
  remoteCandidateType: CandidateType | null;
}
/**
 * The route to one remote player.
 */
export interface ConnectionPeer {
  /**
   * ICE candidate types, ours then theirs. Empty when there is no direct path.
   */
  candidateTypes: CandidateType[];
  /**
   * From being named by the server to a usable path.
   */
  connectMs: number | null;
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * Route at the end of the episode: `direct`, `turn` or `relay`.
   */
  route: Via | null;
  /**
   * Whether the episode began on the relay.
   */
  startedOnRelay: boolean | null;
}
/**
 * `custom`: the game's own data.
 */
export interface Custom {
  /**
   * Facts about the episode.
   */
  annotations: {
    [k: string]: unknown;
  };
  /**
   * Events of confirmed frames, in order.
   */
  events: CustomEvent[];
}
/**
 * One of the game's events.
 */
export interface CustomEvent {
  /**
   * First simulation of the frame that raised it. `null` if that is not known.
   */
  atUs: number | null;
  /**
   * Its content.
   */
  data: unknown;
  /**
   * The frame the game gave it.
   */
  frame: number;
  /**
   * Its name.
   */
  name: string;
}
/**
 * `display`: the screen. Its own latency is not measured.
 */
export interface Display {
  /**
   * Height of the drawing area in physical pixels.
   */
  height: number | null;
  /**
   * Refreshes per second.
   */
  refreshHz: number | null;
  /**
   * Width of the drawing area in physical pixels.
   */
  width: number | null;
}
/**
 * `episode`: which one this is, and how it was set up.
 */
export interface EpisodeInfo {
  /**
   * The experimental condition, as the study names it.
   */
  condition: {
    [k: string]: unknown;
  };
  /**
   * The game's settings.
   */
  config: {
    [k: string]: unknown;
  };
  /**
   * Digest of those settings, compared between peers before play.
   */
  configDigest: Hex64 | null;
  /**
   * E: the first frame at which the end holds in confirmed state. In a partial file the number
   * of frames simulated so far.
   */
  endFrame: number;
  /**
   * Why it ended. `null` while it runs.
   */
  endReason: EndReason | null;
  /**
   * `sessionId` and number.
   */
  episodeId: string;
  /**
   * Counts from 0 within the lab session.
   */
  episodeNum: number;
  /**
   * Frames per second the session was built for.
   */
  fps: number;
  /**
   * Hash of state 0.
   */
  initialStateHash: Hex64 | null;
  /**
   * Input delay in frames, by player.
   */
  inputDelayFrames: {
    /**
     * This interface was referenced by `undefined`'s JSON-Schema definition
     * via the `patternProperty` "^\d+$".
     */
    [k: string]: number;
  };
  /**
   * Whether the episode was still running, or was cut off, when this was written.
   */
  isPartial: boolean;
  /**
   * ggrs's prediction window.
   */
  maxPredictionFrames: number;
  /**
   * How missing inputs were predicted, e.g. `repeatLast`.
   */
  predictor: string | null;
  /**
   * Seed of the episode; the same on every peer.
   */
  seed: Hex64 | null;
  /**
   * Always 0.
   */
  startFrame: number;
  /**
   * The study's name for this trial.
   */
  trialLabel: string | null;
}
/**
 * `focusLoss`: times the game was in the background. Empty and `null` where it was not measured,
 * as in a game without a window.
 */
export interface FocusLoss {
  /**
   * Every period, in order.
   */
  backgroundPeriods: Period[];
  /**
   * Every period in which another player's game was in the background, as its peer reported.
   */
  peerBackgroundPeriods: PeerPeriod[];
  /**
   * Number of `backgroundPeriods`.
   */
  periodCount: number | null;
  /**
   * Length after which the session ends. `null` when there is no such rule.
   */
  timeoutMs: number | null;
  /**
   * Sum of `backgroundPeriods`.
   */
  totalBackgroundMs: number | null;
  /**
   * Whether it did.
   */
  wasTimeoutTriggered: boolean | null;
}
/**
 * A period in the background.
 */
export interface Period {
  /**
   * Length, up to the end of the episode.
   */
  durationMs: number;
  /**
   * End in Unix milliseconds. `null` if it lasted beyond the episode.
   */
  end: number | null;
  /**
   * Start in Unix milliseconds.
   */
  start: number;
}
/**
 * A period in which another player's game was in the background.
 */
export interface PeerPeriod {
  /**
   * Length, up to the end of the episode.
   */
  durationMs: number;
  /**
   * When the report of its end arrived. `null` if it lasted beyond the episode.
   */
  end: number | null;
  /**
   * The player.
   */
  playerId: number;
  /**
   * When the report of its start arrived, in Unix milliseconds.
   */
  start: number;
}
/**
 * `frames`: how many frames were simulated, predicted and waited for. The numbers add up:
 * [`check`](crate::check) recomputes them.
 */
export interface Frames {
  /**
   * Frames below E simulated for the first time.
   */
  advanced: number;
  /**
   * Time between the first simulations of consecutive frames.
   */
  frameTimeUs: FrameTimes;
  /**
   * Most frames simulated beyond the last confirmed one.
   */
  maxFramesAhead: number;
  /**
   * Those not judged yet. Zero unless partial.
   */
  open: number;
  /**
   * Frames at or after E simulated before the end was confirmed.
   */
  overrun: number;
  /**
   * Frames and remote players first simulated on a prediction.
   */
  predicted: number;
  /**
   * Those whose last prediction was right.
   */
  predictionHits: number;
  /**
   * Those whose last prediction was wrong.
   */
  predictionMisses: number;
  /**
   * Frames simulated again by rollbacks.
   */
  resimulated: number;
  /**
   * Predictions replaced by another prediction.
   */
  revisions: number;
  /**
   * Ticks without a new frame, waiting for a frame below E, or in the standstill in which a partial
   * episode ended.
   */
  stalled: number;
  /**
   * Other ticks without a new frame, waiting for a frame at or after E.
   */
  stalledOverrun: number;
  /**
   * Every stall below E, and the standstill in which a partial episode ended.
   */
  stalls: StallRecord[];
  /**
   * Runs of `ReadInputs`.
   */
  ticks: number;
  /**
   * E.
   */
  total: number;
  /**
   * Those that a disconnect made meaningless.
   */
  voided: number;
}
/**
 * Quantiles of the time between frames. `null` with fewer than two frames.
 */
export interface FrameTimes {
  /**
   * Largest.
   */
  max: number | null;
  /**
   * Median.
   */
  p50: number | null;
  /**
   * 99th percentile.
   */
  p99: number | null;
}
/**
 * Ticks in a row in which no new frame could be simulated.
 */
export interface StallRecord {
  /**
   * When it began.
   */
  atUs: number;
  /**
   * Why, or `unknown`.
   */
  cause: Cause;
  /**
   * The frame that had to wait.
   */
  frame: number;
  /**
   * How many ticks.
   */
  ticks: number;
}
/**
 * `inputs`: what was pressed, and how it travelled. Counts are `null` without the lab's transport.
 */
export interface Inputs {
  /**
   * The game's names for its actions.
   */
  actionLabels: {
    [k: string]: string;
  } | null;
  /**
   * The input applied at every frame, by player, as runs.
   */
  confirmed: ActionRuns[];
  /**
   * Frames at which a local player's input changed.
   */
  localChanges: LocalChange[];
  /**
   * Remote input frames whose first copy came by direct or TURN.
   */
  receivedViaP2P: number | null;
  /**
   * Remote input frames whose first copy came by the relay.
   */
  receivedViaRelay: number | null;
  /**
   * The same, on both paths at once.
   */
  sentViaBoth: number | null;
  /**
   * Local input frames times remote peers whose first datagram went by direct or TURN alone.
   */
  sentViaP2P: number | null;
  /**
   * The same, by the relay alone.
   */
  sentViaRelay: number | null;
  /**
   * Local input frames that no datagram carried, e.g. the first ones under an input delay.
   */
  unsent: number | null;
}
/**
 * One player's applied inputs.
 */
export interface ActionRuns {
  /**
   * The player.
   */
  playerId: number;
  /**
   * `[input, count]` from frame 0 on.
   */
  runs: [unknown, number][];
}
/**
 * A change of a local player's input.
 */
export interface LocalChange {
  /**
   * Which device.
   */
  device: string | null;
  /**
   * When the device says it happened.
   */
  deviceAtUs: number | null;
  /**
   * First frame the new input is applied at.
   */
  frame: number;
  /**
   * The local player.
   */
  playerId: number;
  /**
   * When the game read it, input delay before that frame.
   */
  sampledAtUs: number | null;
}
/**
 * `latency`: round trips over the route in use, as the network has them, and what players feel.
 */
export interface Latency {
  /**
   * Largest.
   */
  maxMs: number | null;
  /**
   * Mean.
   */
  meanMs: number | null;
  /**
   * Median.
   */
  medianMs: number | null;
  /**
   * Smallest.
   */
  minMs: number | null;
  /**
   * Length of `samples`.
   */
  sampleCount: number;
  /**
   * Every sample. The figures above are of its round trips.
   */
  samples: LatencySample[];
}
/**
 * One round trip.
 */
export interface LatencySample {
  /**
   * What a player feels: from the tick in which the remote game read an input to the tick in
   * which this peer simulated with it, input delay, waits for ticks and losses included. The
   * median of the inputs since the sample before; `null` where none came, or the remote clock is
   * not known.
   */
  inputMs: number | null;
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * The smoothed round trip at that moment.
   */
  rttMs: number;
  /**
   * When, in Unix milliseconds.
   */
  timestamp: number;
}
/**
 * `quality`: health of the paths.
 */
export interface Quality {
  /**
   * Time during which packets went on both paths.
   */
  bothPathsMs: number | null;
  /**
   * Whether a failover ended a condition of the direct path. `null` without the lab's transport.
   */
  conditionInterrupted: boolean | null;
  /**
   * Network conditions asked for, and what came of them.
   */
  conditions: ConditionsRecord;
  /**
   * Single packets the direct channel refused.
   */
  directSendFailures: number | null;
  /**
   * Whether a lost path could be replaced without a stall all the time. `false` also where there was
   * no second path at some time: the server was lost, or cannot relay.
   */
  failoverFeasible: boolean | null;
  /**
   * Time left over when a lost path is replaced; negative means a stall.
   */
  failoverMarginMs: FailoverMargin;
  /**
   * Why.
   */
  fallbackCause: RouteCause | null;
  /**
   * The measurement that decided it.
   */
  fallbackTrigger: FallbackTrigger | null;
  /**
   * The next frame to simulate when it did.
   */
  p2pFallbackFrame: number | null;
  /**
   * Whether a route became relay during the episode. `null` without the lab's transport.
   */
  p2pFallbackTriggered: boolean | null;
  /**
   * Counters, one entry per remote player and path.
   */
  paths: PathRecord[];
  /**
   * Every transition of every route, in order.
   */
  routeChanges: RouteChangeRecord[];
}
/**
 * Network conditions of this peer's own packets.
 */
export interface ConditionsRecord {
  /**
   * What came of them, by path.
   */
  realised: {
    [k: string]: ConditionRealised;
  };
  /**
   * Seed of their randomness.
   */
  seed: Hex64 | null;
  /**
   * As written in the settings. `null` when none were asked for.
   */
  spec: string | null;
}
/**
 * What conditions did on one path.
 */
export interface ConditionRealised {
  /**
   * Sent while the path was cut.
   */
  cut: number;
  /**
   * Packets it dropped: `lost`, `cut` and `queueDropped` together.
   */
  dropped: number;
  /**
   * Second copies of packets that came twice; not in `offered`.
   */
  duplicated: number;
  /**
   * Stretches of packets lost without one let through between them: `lost / lossRuns` is the
   * mean length of a burst.
   */
  lossRuns: number;
  /**
   * Lost one by one or in bursts.
   */
  lost: number;
  /**
   * Mean added delay.
   */
  meanDelayMs: number | null;
  /**
   * Packets that came to the shaper.
   */
  offered: number;
  /**
   * 95th percentile of the added delay.
   */
  p95DelayMs: number | null;
  /**
   * Sent when too much waited for the rate limit already.
   */
  queueDropped: number;
  /**
   * Let through after a packet that was sent later.
   */
  reordered: number;
}
/**
 * Time left over when a lost path is replaced.
 */
export interface FailoverMargin {
  /**
   * Median over the episode, of the peer that has the smallest.
   */
  median: number | null;
  /**
   * Smallest over the episode and the peers.
   */
  min: number | null;
}
/**
 * What a threshold was compared with.
 */
export interface FallbackTrigger {
  /**
   * Name with unit, e.g. `silenceMs`.
   */
  metric: string;
  /**
   * The value it crossed.
   */
  threshold: number | null;
  /**
   * The measured value.
   */
  value: number | null;
}
/**
 * Counters of one path to one remote player, over the episode.
 */
export interface PathRecord {
  /**
   * Bytes received, headers included.
   */
  bytesReceived: number;
  /**
   * Bytes sent, headers included.
   */
  bytesSent: number;
  /**
   * Datagrams of every kind.
   */
  datagrams: Datagrams;
  /**
   * Deviation of the delay on this path.
   */
  jitterMs: Summary;
  /**
   * `direct` or `relay`.
   */
  path: Path;
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * Round trips on this path.
   */
  rttMs: Summary;
}
/**
 * Datagrams on one path.
 */
export interface Datagrams {
  /**
   * Of the received ones, copies of a datagram that had come on this path before.
   */
  duplicate: number;
  /**
   * Sent and never acknowledged while later ones were.
   */
  lost: number;
  /**
   * Refused, by reason.
   */
  malformed: {
    [k: string]: number;
  };
  /**
   * Came out of the path, well formed.
   */
  received: number;
  /**
   * Came after a later one.
   */
  reordered: number;
  /**
   * Handed to the path.
   */
  sent: number;
}
/**
 * A series in five numbers. All `null` when nothing was measured.
 */
export interface Summary {
  /**
   * Number of measurements.
   */
  count: number;
  /**
   * Largest.
   */
  max: number | null;
  /**
   * Mean.
   */
  mean: number | null;
  /**
   * Median.
   */
  median: number | null;
  /**
   * Smallest.
   */
  min: number | null;
}
/**
 * One transition of one route.
 */
export interface RouteChangeRecord {
  /**
   * When.
   */
  atUs: number;
  /**
   * Why.
   */
  cause: RouteCause;
  /**
   * The next frame to simulate at that moment.
   */
  frame: number;
  /**
   * State before.
   */
  from: RouteState;
  /**
   * Name of the measurement, with unit.
   */
  metric: string;
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * The value it crossed.
   */
  threshold: number | null;
  /**
   * State after.
   */
  to: RouteState;
  /**
   * The measured value.
   */
  value: number | null;
}
/**
 * `reconnection`: losses of connection.
 */
export interface Reconnection {
  /**
   * Attempts to come back.
   */
  attempts: number;
  /**
   * Every loss, in order.
   */
  disconnections: Disconnection[];
  /**
   * Every return, in order.
   */
  resumes: Disconnection[];
  /**
   * Time the game stood still for them.
   */
  totalPauseDurationMs: number;
}
/**
 * A connection lost, or come back.
 */
export interface Disconnection {
  /**
   * When.
   */
  atUs: number;
  /**
   * The next frame to simulate at that moment.
   */
  frame: number;
  /**
   * The remote player. `null` for the server.
   */
  playerId: number | null;
  /**
   * Why, as far as it is known.
   */
  reason: string | null;
}
/**
 * `rollbacks`: every rollback that ran.
 */
export interface Rollbacks {
  /**
   * Events by cause; a cause that never fitted does not stand here.
   */
  byCause: {
    [k: string]: number;
  };
  /**
   * Number of events.
   */
  count: number;
  /**
   * One per rollback with `frame` below `endFrame`.
   */
  events: RollbackEvent[];
  /**
   * Largest `rollbackFrames`. Zero when there was none.
   */
  maxFrames: number;
  /**
   * Mean `rollbackFrames`. `null` when there was none.
   */
  meanFrames: number | null;
  /**
   * Reloads that corrected nothing; never part of `count`.
   */
  reloadsWithoutCorrection: number;
  /**
   * Time that took.
   */
  resimTimeUs: number;
  /**
   * Frames simulated again.
   */
  resimulatedFrames: number;
}
/**
 * One rollback.
 *
 * The order is that of the file: what seldom changes stands together, which makes files smaller.
 */
export interface RollbackEvent {
  /**
   * The confirmed input. `null` when a disconnect forced the rollback.
   */
  actualAction: unknown;
  /**
   * Every other frame and player the same rollback corrected.
   */
  alsoMispredicted: AlsoMispredicted[];
  /**
   * When the correction ran.
   */
  atUs: number;
  /**
   * Why the input was late.
   */
  cause: Cause;
  /**
   * The next frame to simulate when the correction came.
   */
  currentFrame: number;
  /**
   * What `cause` was decided from.
   */
  evidence: Evidence;
  /**
   * First frame that had been simulated with a wrong input.
   */
  frame: number;
  /**
   * Frames at the session's rate, stalled ones included, from the first simulation of `frame`
   * until its input was known.
   */
  lateByFrames: number;
  /**
   * The state that was loaded, at most `frame`.
   */
  loadedFrame: number;
  /**
   * The remote player whose input was wrong.
   */
  playerId: number;
  /**
   * The last prediction used. `null` when a disconnect forced the rollback.
   */
  predictedAction: unknown;
  /**
   * Time that took.
   */
  resimTimeUs: number;
  /**
   * Frames simulated again, at least `rollbackFrames`.
   */
  resimulatedFrames: number;
  /**
   * `currentFrame` - `frame`, at least 1.
   */
  rollbackFrames: number;
  /**
   * Counts up within the episode.
   */
  rollbackId: number;
  /**
   * When the correction ran, in Unix milliseconds.
   */
  timestamp: number;
  /**
   * How the first copy of the corrected input came; where none was seen, the route in use when
   * the rollback ran.
   */
  via: Via;
}
/**
 * Another frame and player that a rollback corrected.
 */
export interface AlsoMispredicted {
  /**
   * The confirmed input.
   */
  actualAction: unknown;
  /**
   * The frame.
   */
  frame: number;
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * The last prediction used.
   */
  predictedAction: unknown;
}
/**
 * What was known of a player's link when a rollback ran. `None` is "not measured", not zero.
 *
 * The order is that of the file: fields that seldom change are neighbours, which makes files
 * smaller.
 */
export interface Evidence {
  /**
   * How much earlier than the player this peer simulates a frame, by the estimate of the other's
   * clock, in milliseconds. Negative when it is behind. The rest is the usual transit time, the
   * wait for this peer's poll included: `lateMs` - `overUsualMs` - `aheadMs` + what the player's
   * input delay covers.
   */
  aheadMs: number | null;
  /**
   * Frames that this peer is ahead of the others, as ggrs estimates it. Negative when behind.
   */
  framesAhead: number | null;
  /**
   * Smoothed deviation of the round-trip time, in milliseconds.
   */
  jitterMs: number | null;
  /**
   * From the first simulation on the prediction to the arrival of the input, in milliseconds. A
   * packet that arrived while this peer itself stalled counts as if it had taken the usual time.
   */
  lateMs: number | null;
  /**
   * Packets of that player missing among those of the last second.
   */
  lostPackets: number | null;
  /**
   * How much longer the packet was in flight than the median of the packets before it, in
   * milliseconds.
   */
  overUsualMs: number | null;
  /**
   * Whether a packet sent later brought the input first.
   */
  overtaken: boolean | null;
  /**
   * Whether the packet that carried the input first did not arrive.
   */
  packetLost: boolean | null;
  /**
   * Whether the player was hidden when the input was sent, or during the pause before it.
   */
  peerHidden: boolean | null;
  /**
   * How long the player's game stalled before it sent the input late, in milliseconds; zero when
   * it did not, or waited for the inputs of others.
   */
  peerPauseMs: number | null;
  /**
   * Time since the last packet of that player, in milliseconds.
   */
  peerSilenceMs: number | null;
  /**
   * Whether the route moved to another path while the input was in flight.
   */
  routeChanged: boolean | null;
  /**
   * Smoothed round-trip time over the route in use, in milliseconds.
   */
  rttMs: number | null;
}
/**
 * `schema`: the format of this file.
 */
export interface Schema {
  /**
   * [`EPISODE_SCHEMA`](super::EPISODE_SCHEMA) or [`SESSION_SCHEMA`](super::SESSION_SCHEMA).
   */
  name: string;
  /**
   * `major.minor`.
   */
  version: string;
}
/**
 * `session`: who played, and under which agreement.
 */
export interface SessionMeta {
  /**
   * The agreement given before play.
   */
  consent: Consent | null;
  /**
   * Group of participants.
   */
  groupId: string | null;
  /**
   * This peer's handle. `null` if no player is local; the lowest if several are.
   */
  localPlayerId: number | null;
  /**
   * Every player's handle, in order.
   */
  playerIds: number[];
  /**
   * Who sat behind each handle.
   */
  players: Player[];
  /**
   * The room's name, when there is one.
   */
  room: string | null;
  /**
   * `p2p-first`, `p2p-only`, `relay-only` or `dual-path`.
   */
  routePolicy: RoutePolicy | null;
  /**
   * The lab session; the same on every peer.
   */
  sessionId: string;
  /**
   * Study this session belongs to.
   */
  studyId: string | null;
}
/**
 * The agreement a participant gave.
 */
export interface Consent {
  /**
   * When, in Unix milliseconds.
   */
  atUnixMs: number;
  /**
   * Version of the text agreed to.
   */
  version: string;
}
/**
 * One player.
 */
export interface Player {
  /**
   * Human, bot or replay. `null` when it is not known.
   */
  kind: PlayerKind | null;
  /**
   * The ggrs player handle.
   */
  playerId: number;
  /**
   * Digest of a bot's policy.
   */
  policyDigest: string | null;
  /**
   * Name of a bot's policy.
   */
  policyName: string | null;
  /**
   * Version of a bot's policy.
   */
  policyVersion: string | null;
  /**
   * Pseudonym; a participant's own id stands in no file.
   */
  pseudonym: string | null;
}
/**
 * `software`: what ran.
 */
export interface Software {
  /**
   * Version of Bevy.
   */
  bevy: string | null;
  /**
   * Browser family and major version only, so that no participant is recognised by it.
   */
  browser: string | null;
  /**
   * Digest of the build, when the game states one.
   */
  buildDigest: string | null;
  /**
   * The game's name.
   */
  game: string;
  /**
   * Version of ggrs.
   */
  ggrs: string | null;
  /**
   * Commit the game was built from.
   */
  gitCommit: string | null;
  /**
   * Whether uncommitted changes were in that build.
   */
  gitDirty: boolean | null;
  /**
   * Name and version of this crate.
   */
  library: string;
  /**
   * Target triple, or architecture and operating system.
   */
  target: string;
  /**
   * The game's version.
   */
  version: string;
}
/**
 * `sync`: whether the peers simulated the same.
 */
export interface SyncReport {
  /**
   * Last frame through which every peer agrees. `null` if nothing was compared.
   */
  agreedThroughFrame: number | null;
  /**
   * Confirmed inputs that changed afterwards. Zero unless ggrs or the game's setup is at fault.
   */
  confirmedChanged: number;
  /**
   * Last frame below `endFrame` whose inputs are all known. `null` if there is none.
   */
  confirmedFrame: number | null;
  /**
   * Every desync that was seen.
   */
  desyncs: Desync[];
  /**
   * Those that were equal.
   */
  hashMatches: number | null;
  /**
   * Comparisons with another peer's hash. `null` when the session does not report each one.
   */
  hashVerifications: number | null;
  /**
   * Hashes of confirmed states.
   */
  hashes: Hashes;
  /**
   * Chained over all confirmed frames; see [`digest`](crate::digest).
   */
  historyDigest: Hex64;
  /**
   * Those that were not.
   */
  p2pHashMismatches: number;
  /**
   * The digest that each remote player reported for the same `endFrame`; `null` if none came.
   */
  peerHistoryDigest: {
    /**
     * This interface was referenced by `undefined`'s JSON-Schema definition
     * via the `patternProperty` "^\d+$".
     */
    [k: string]: Hex64 | null;
  };
  /**
   * What this file can claim.
   */
  status: SyncStatus;
  /**
   * Last frame whose state another peer's hash agreed with. `null` if there is none.
   */
  verifiedFrame: number | null;
}
/**
 * A hash that differs from another peer's.
 */
export interface Desync {
  /**
   * When it was seen.
   */
  atUs: number;
  /**
   * The frame of the state.
   */
  frame: number;
  /**
   * This peer's hash.
   */
  localHash: Hex64;
  /**
   * Whose hash it was compared with.
   */
  playerId: number | null;
  /**
   * The other's hash.
   */
  remoteHash: Hex64;
}
/**
 * Hashes of confirmed states.
 */
export interface Hashes {
  /**
   * Distance in frames between two values.
   */
  everyFrames: number;
  /**
   * Hash of state 0, of state `everyFrames`, and so on below `endFrame`. `null` where the game
   * computed none, empty if it never did.
   */
  values: (Hex64 | null)[];
}
/**
 * `timeline`: what the participant saw and when.
 */
export interface Timeline {
  /**
   * How often each frame was the newest one on screen, as `[times, frames]` runs from frame 0
   * on; 0 is a frame that was not drawn. `null` when nothing was drawn or it was not measured.
   */
  drawnFrames: [number, number][] | null;
  /**
   * First simulation of every frame 0..`endFrame`, each rounded to 100 microseconds.
   */
  frameAtUs: TimesUs;
  /**
   * How late each remote player's inputs came.
   */
  lateness: Lateness[];
  /**
   * Predicted values that were shown first and turned out wrong.
   */
  predictedFirst: FirstShown[];
}
/**
 * A series of times, each as the distance to the one before.
 */
export interface TimesUs {
  /**
   * Microseconds from each to the next: one less than there are times.
   */
  deltas: number[];
  /**
   * The first time. `null` if the series is empty.
   */
  first: number | null;
}
/**
 * Lateness of one remote player's inputs.
 */
export interface Lateness {
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * `[lateFrames, count]` runs from frame 0 on: 0 was there when its frame was first simulated,
   * n came n ticks later, `null` had not come when the episode closed, or never will.
   */
  runs: [number | null, number][];
}
/**
 * Wrong predictions of one remote player, by the value first shown.
 */
export interface FirstShown {
  /**
   * The remote player.
   */
  playerId: number;
  /**
   * Frames whose first shown input differs from the confirmed one.
   */
  runs: FirstShownRun[];
}
/**
 * Consecutive frames that showed the same wrong input.
 */
export interface FirstShownRun {
  /**
   * The input shown.
   */
  action: unknown;
  /**
   * How many.
   */
  count: number;
  /**
   * The first of them.
   */
  frame: number;
}
/**
 * The content of `session.player-<k>.json`, rewritten at each step.
 */
export interface SessionDocument {
  /**
   * `completed`, `frameLimit`, `waitTimeout`, `neverConnected`, `peerLeft`, `localQuit`,
   * `focusTimeout`, `desync`, `refused` or `serverLost`. `null` while the session lives.
   */
  endReason: EndReason | null;
  /**
   * File names of the episodes, in order.
   */
  episodes: string[];
  /**
   * Unix milliseconds at which `atUs` is 0.
   */
  originUnixMs: number;
  /**
   * Every phase entered, in order.
   */
  phases: Phase[];
  /**
   * Name and version of the format.
   */
  schema: Schema;
  /**
   * Who played, as far as it is known yet.
   */
  session: SessionMeta;
  /**
   * What ran.
   */
  software: Software;
  /**
   * From joining to the first episode. `null` while none has begun.
   */
  waitedMs: number | null;
}
/**
 * One phase entered.
 */
export interface Phase {
  /**
   * When it was entered.
   */
  atUs: number;
  /**
   * Its name.
   */
  phase: string;
}
/**
 * One peer's half of a desync: the content of `desync-<n>.player-<k>.json`, written when the
 * desync is seen. Put beside the other peer's it says what differed, and from which frame on.
 *
 * States are kept at the frames whose checksums peers compare; what made them differ happened
 * after the newest frame that is equal in both halves.
 */
export interface DesyncBundle {
  /**
   * When it was seen, on this file's clock.
   */
  atUs: number;
  /**
   * Peers compare the states of every so-manieth frame.
   */
  comparedEveryFrames: number;
  /**
   * `sessionId` and number, as in the episode's file.
   */
  episodeId: string;
  /**
   * Counts from 0 within the lab session.
   */
  episodeNum: number;
  /**
   * First compared frame whose states differed. `null` if only the digests of the whole history
   * did, at the end: the states of the last frames come too late to be compared.
   */
  firstDifferingFrame: number | null;
  /**
   * The inputs applied at every frame from the first snapshot to the last, every player.
   */
  inputs: FrameInputs[];
  /**
   * This peer's hash of that state, or its digest of the history.
   */
  localHash: Hex64;
  /**
   * The other peer's.
   */
  remoteHash: Hex64;
  /**
   * Handles of the players on the other peer.
   */
  remotePlayers: number[];
  /**
   * Name and version of the format.
   */
  schema: Schema;
  /**
   * Who played.
   */
  session: SessionMeta;
  /**
   * Confirmed states around that frame, oldest first, as the game prints them; empty if it does
   * not print any.
   */
  snapshots: Snapshot[];
  /**
   * What ran.
   */
  software: Software;
}
/**
 * The inputs that turned a state into the next one.
 */
export interface FrameInputs {
  /**
   * The frame at which they were applied.
   */
  frame: number;
  /**
   * One per player, by handle.
   */
  inputs: unknown[];
}
/**
 * A confirmed state.
 */
export interface Snapshot {
  /**
   * Its frame.
   */
  frame: number;
  /**
   * Its hash. `null` where the game computes none.
   */
  hash: Hex64 | null;
  /**
   * The game's own words.
   */
  state: unknown;
}

/** `detail` of the event `rollbacklab:error`. */
export interface LabError {
  /** Why there is no match, as a sentence for the participant. */
  message: string;
  /**
   * What failed. The page, before the program runs: `graphics` (no WebGL2), `download`,
   * `instantiate`. The program: `start` (settings in the address, a file to watch), `session`,
   * `panic`.
   */
  phase: "graphics" | "download" | "instantiate" | "start" | "session" | "panic";
}

/** The result of `replayEpisode`. */
export interface Replayed {
  /** Frames of the file that were played. */
  frames: number;
  /** Rollbacks that ran again; 0 in the canonical history. */
  rollbacks: number;
  /** Frames simulated, those simulated again included. */
  simulated: number;
  /** State hashes of the file that were compared. */
  hashesChecked: number;
  /** The first difference; `null` if everything agreed. */
  firstDifference: {
    what: "initialState" | "state" | "historyDigest";
    /** The state before this frame; `null` of the digest. */
    frame: number | null;
    recorded: Hex64;
    /** `null` if the game computes no checksum. */
    replayed: Hex64 | null;
  } | null;
  /** At least one hash was compared, and nothing differed. */
  proven: boolean;
  /** The same in a sentence. */
  message: string;
  /** Time it took, set-up included, in milliseconds. */
  ms: number;
}

declare global {
  interface Window {
    /** The running episode with `episode.isPartial: true`, else the last one; `null` before the first. */
    exportSessionMetrics(): EpisodeDocument | null;
    /** Every episode of this page so far, the running one last. */
    exportSessionMetrics(options: { all: true }): EpisodeDocument[];
    /**
     * Plays an episode headless and compares every state hash; with `asSeen` as its peer saw it,
     * predictions and rollbacks included. Throws where the file is not of this game. On pages whose
     * game calls `web::install_replay`.
     */
    replayEpisode(document: EpisodeDocument | string, options?: { asSeen?: boolean }): Replayed;
  }

  interface WindowEventMap {
    /** An episode's document is complete. */
    "rollbacklab:episode": globalThis.CustomEvent<EpisodeDocument>;
    /** The session document changed. */
    "rollbacklab:session": globalThis.CustomEvent<SessionDocument>;
    /** The peers computed different states. */
    "rollbacklab:desync": globalThis.CustomEvent<DesyncBundle>;
    /** The session failed, or could not begin. */
    "rollbacklab:error": globalThis.CustomEvent<LabError>;
  }
}
