//! A small model of ggrs for the tests of the record: inputs arrive late, frames are predicted and
//! corrected. It drives the plugin's own trace and metrics. Seeded, without a clock.

use std::time::Duration;

use bevy_rollback_lab::internals::trace::{Fact, Known, RollbackRecord, Trace};
use bevy_rollback_lab::metrics::{EndReason, EpisodeMeta, SessionMeta, SessionMetrics};
use rollback_lab_link::link::SentBy;
use rollback_lab_record::{Path, RoutePolicy};
use serde::Serialize;

/// The input of the modelled game.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pad {
    /// One bit per button.
    pub buttons: u8,
}

/// The match as one peer sees it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of players.
    pub players: usize,
    /// The player of this peer.
    pub local: usize,
    /// Frames of the episode.
    pub frames: u32,
    /// Frames that are simulated after the last frame of the episode.
    pub overrun: u32,
    /// Seed of the inputs of all players; the same on every peer.
    pub input_seed: u64,
    /// Seed of this peer's network.
    pub net_seed: u64,
    /// Ticks by which remote inputs are late at least.
    pub late: u32,
    /// Ticks by which the lateness varies above that.
    pub spread: u32,
    /// The buttons of a player change in one of this many frames, at random.
    pub change_every: u32,
    /// A player who leaves, and the frame in which ggrs gives that player up.
    pub disconnect: Option<(usize, u32)>,
    /// The path that brings the remote inputs. `None` if it is not measured.
    pub path: Option<Path>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            players: 2,
            local: 0,
            frames: 300,
            overrun: 4,
            input_seed: 1,
            net_seed: 2,
            late: 2,
            spread: 2,
            change_every: 20,
            disconnect: None,
            path: Some(Path::Direct),
        }
    }
}

const WINDOW: i32 = 8;

/// Steele, Lea and Flood's generator `SplitMix64`.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, or 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        (self.next_u64() % u64::from(limit.max(1))) as u32
    }
}

/// The inputs of all players, the same on every peer.
fn pressed(plan: &Plan) -> Vec<Vec<Pad>> {
    let mut random = Random(plan.input_seed);
    let frames = plan.frames + plan.overrun + 200;
    (0..plan.players)
        .map(|_| {
            let mut pad = Pad::default();
            let mut press = |_| {
                if random.below(plan.change_every) == 0 {
                    pad.buttons ^= 1 << random.below(4);
                }
                pad
            };
            (0..frames).map(&mut press).collect()
        })
        .collect()
}

/// The metadata of an episode of this plan.
pub fn meta(plan: &Plan) -> EpisodeMeta {
    EpisodeMeta {
        session: SessionMeta {
            session_id: "00c0ffee".to_owned(),
            player_ids: (0..plan.players).collect(),
            local_player_id: Some(plan.local),
            route_policy: Some(RoutePolicy::P2pFirst),
            ..SessionMeta::default()
        },
        fps: 60,
        input_delay_frames: (0..plan.players).map(|player| (player, 0)).collect(),
        max_prediction_frames: WINDOW as u32,
        seed: Some(7),
        origin_unix_ms: 1_700_000_000_000,
        origin_unix_us: Some(1_700_000_000_000_000),
        has_transport: true,
        ..EpisodeMeta::default()
    }
}

/// Plays one episode into the metrics. The episode stays open and has frames beyond `plan.frames`.
pub fn play(plan: &Plan, metrics: &mut SessionMetrics<Pad>) {
    play_with(plan, metrics, |_| ());
}

/// The same with what the observer decides about every rollback.
pub fn play_with(
    plan: &Plan,
    metrics: &mut SessionMetrics<Pad>,
    mut decide: impl FnMut(&mut RollbackRecord<Pad>),
) {
    let actual = pressed(plan);
    let mut net = Random(plan.net_seed);
    let mut trace = Trace::<Pad>::default();
    let mut now = Duration::from_millis(400);
    let locals: Vec<bool> = (0..plan.players)
        .map(|player| player == plan.local)
        .collect();
    trace
        .begin(&locals, now)
        .expect("a plan has at most four players");
    // The newest input known of each player, the input used at each frame, state before it.
    let mut known = vec![-1_i32; plan.players];
    let mut used: Vec<Vec<Pad>> = Vec::new();
    let mut states = vec![0_u64];
    let mut gone = vec![i32::MAX; plan.players];
    trace.saved(0, Some(0));
    let direct = SentBy {
        direct: true,
        relay: false,
    };
    let mut ticks = 0_u32;
    while used.len() < (plan.frames + plan.overrun) as usize {
        ticks += 1;
        assert!(ticks < 20 * (plan.frames + 100), "the model makes progress");
        now += Duration::from_micros(16_400 + u64::from(net.below(534)));
        trace.tick(now);
        let current = used.len() as i32;
        let mut first_wrong = None;
        for player in 0..plan.players {
            if player == plan.local {
                known[player] = current;
                continue;
            }
            if let Some((leaver, at)) = plan.disconnect
                && leaver == player
                && current >= at as i32
                && gone[player] == i32::MAX
            {
                gone[player] = known[player] + 1;
                // ggrs simulates again from the first frame that the leaver is missing in.
                if gone[player] < current {
                    first_wrong = Some(gone[player]);
                }
                continue;
            }
            if gone[player] != i32::MAX {
                continue;
            }
            let late = plan.late + net.below(plan.spread + 1);
            let arrived = (ticks as i32 - 1 - late as i32).min(plan.frames as i32 + 190);
            let before = known[player];
            known[player] = before.max(arrived);
            for frame in before + 1..=known[player].min(current - 1) {
                if used[frame as usize][player] != actual[player][frame as usize] {
                    first_wrong = Some(first_wrong.map_or(frame, |wrong: i32| wrong.min(frame)));
                    break;
                }
            }
        }
        let at = |player: usize, frame: i32| -> (Pad, Known) {
            if frame >= gone[player] {
                (Pad::default(), Known::Disconnected)
            } else if frame <= known[player] {
                (actual[player][frame as usize], Known::Confirmed)
            } else if known[player] < 0 {
                (Pad::default(), Known::Predicted)
            } else {
                (actual[player][known[player] as usize], Known::Predicted)
            }
        };
        let cost = Duration::from_micros(200 + u64::from(net.below(700)));
        let mut simulate = |frame: i32, used: &mut Vec<Vec<Pad>>, now: Duration| {
            let inputs: Vec<_> = (0..plan.players).map(|player| at(player, frame)).collect();
            trace.advance_begin(frame, inputs.iter().copied(), now);
            trace.advance_end(now + cost);
            let pads: Vec<Pad> = inputs.iter().map(|(pad, _)| *pad).collect();
            let mut state = states[frame as usize];
            for pad in &pads {
                state = Random(state ^ u64::from(pad.buttons)).next_u64();
            }
            states.truncate(frame as usize + 1);
            states.push(state);
            used.truncate(frame as usize);
            used.push(pads);
            trace.saved(frame + 1, Some(u128::from(state)));
        };
        if let Some(wrong) = first_wrong {
            trace_load(&mut simulate, &mut used, wrong, current, now);
        }
        let confirmed = (0..plan.players)
            .filter(|&player| gone[player] == i32::MAX)
            .map(|player| known[player])
            .min()
            .unwrap_or(current);
        if current - confirmed < WINDOW {
            simulate(current, &mut used, now);
        }
        trace.settle(confirmed.min(used.len() as i32 - 1));
        for player in (0..plan.players).filter(|&player| player != plan.local) {
            metrics.record_sent(player, 0, current, direct);
            if let Some(path) = plan.path {
                metrics.record_received(player, 0, known[player], path);
            }
        }
        if ticks.is_multiple_of(60) {
            for player in (0..plan.players).filter(|&player| player != plan.local) {
                let rtt_ms = 40.0 + f64::from(net.below(100)) / 10.0;
                metrics.record_latency(player, now, rtt_ms, Some(rtt_ms / 2.0 + 40.0));
                metrics.record_margin(player, 12.0 + f64::from(net.below(100)) / 10.0);
            }
        }
        for mut fact in trace.drain() {
            if let Fact::RollbackRan(record) = &mut fact {
                decide(record);
            }
            metrics.fold(&fact);
        }
        metrics.record_drawn();
    }
    trace.close(now);
    for fact in trace.drain() {
        metrics.fold(&fact);
    }
}

/// Simulates the frames again in one go. The trace recognises the load by the first repeated frame,
/// so the load is not marked.
fn trace_load(
    simulate: &mut impl FnMut(i32, &mut Vec<Vec<Pad>>, Duration),
    used: &mut Vec<Vec<Pad>>,
    wrong: i32,
    current: i32,
    now: Duration,
) {
    for frame in wrong..current {
        simulate(frame, used, now);
    }
}

/// The metrics of an episode that was played and closed at its last frame.
pub fn finished(plan: &Plan) -> SessionMetrics<Pad> {
    let mut metrics = SessionMetrics::default();
    metrics.begin(meta(plan));
    play(plan, &mut metrics);
    metrics.close(Some(plan.frames as i32), Some(EndReason::FrameLimit), false);
    metrics
}
