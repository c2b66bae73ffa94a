//! The harness: one match of two apps over simulated paths. When each of them polls, what the test
//! case does to it, and the log of both.

use std::time::Duration;

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_ggrs::Session;
use bevy_rollback_lab::LabNet;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::config::link_settings;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::rollback::{CauseRevised, RollbackCompleted};
use rollback_lab_link::cause::Cause;
use rollback_lab_link::conditions::Conditions;

use super::cases::{Action, TestCase};
use super::simulated_path::{Sent, SimulatedNetwork, SimulatedPath};
use rollback_lab_test_kit::lab::{
    Keys, LabPeer, ScriptedKeys, TestConfig, VirtualNetwork, add_game,
};

/// How often the network task polls its links, whatever the game does.
const NETWORK_EVERY: Duration = Duration::from_micros(4_167);

/// A tick at 60 Hz.
pub(super) const FRAME: Duration = Duration::from_nanos(16_666_667);

/// One update of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    pub at: Duration,
    /// The next frame to simulate, afterwards.
    pub next: i32,
    pub hidden: bool,
    /// It waits for inputs: ggrs does not simulate a frame that is a window ahead.
    pub waits: bool,
}

/// A rollback as the library reported it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReportedRollback {
    pub id: u64,
    pub frame: i32,
    pub disconnect: bool,
    /// The cause in `RollbackCompleted`.
    pub first_cause: Cause,
    /// The cause after the last revision.
    pub cause: Cause,
    pub evidence: rollback_lab_link::cause::Evidence,
}

/// The log of a match.
pub(super) struct Played {
    pub input_delay: i32,
    /// Rollbacks of earlier frames are not judged: the link profile had just changed.
    pub judged_from: i32,
    pub sent: Vec<Sent>,
    pub updates: [Vec<Update>; 2],
    pub rollbacks: [Vec<ReportedRollback>; 2],
}

#[derive(Resource, Default)]
struct Reported(Vec<ReportedRollback>);

fn record_rollbacks(
    mut completed: MessageReader<RollbackCompleted<Keys>>,
    mut revised: MessageReader<CauseRevised>,
    mut reported: ResMut<Reported>,
) {
    reported
        .0
        .extend(completed.read().map(|rollback| ReportedRollback {
            id: rollback.rollback_id,
            frame: rollback.frame,
            disconnect: rollback.actual_action.is_none(),
            first_cause: rollback.cause,
            cause: rollback.cause,
            evidence: rollback.evidence,
        }));
    for revision in revised.read() {
        let revised = reported
            .0
            .iter_mut()
            .find(|rollback| rollback.id == revision.rollback_id);
        if let Some(rollback) = revised {
            rollback.cause = revision.cause;
            rollback.evidence = revision.evidence;
        }
    }
}

fn peer(
    hub: &VirtualNetwork,
    paths: &SimulatedPath,
    slot: usize,
    case: &TestCase,
    seed: u64,
) -> LabPeer {
    let config = LabConfig::new("ws://lab", "room")
        .input_delay(case.input_delay)
        .episodes(1)
        .no_files();
    let clock = LabClock::manual(1_700_000_000_000);
    // As on two machines, the peers' clocks have different origins.
    clock.advance(Duration::from_millis(731 * slot as u64));
    let network = SimulatedNetwork {
        hub: hub.join(),
        paths: paths.clone(),
        slot,
    };
    let net = LabNet::new(
        network,
        clock.clone(),
        link_settings(&config),
        &Conditions::default(),
        seed,
    );
    let mut app = App::new();
    app.insert_resource(clock.clone())
        .insert_resource(net)
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::ZERO))
        .init_resource::<Reported>()
        .add_systems(Last, record_rollbacks);
    add_game(&mut app, config, seed * 2 + slot as u64);
    // Inputs change every other frame on average: nearly every late input is a misprediction.
    app.insert_resource(ScriptedKeys {
        seed: seed * 2 + slot as u64,
        per: (1, 2),
    });
    app.finish();
    app.cleanup();
    LabPeer { app, clock }
}

/// Whether the session of `app` waits for inputs: the frame after the last confirmed one is a window ago.
fn waits(app: &App) -> bool {
    match app.world().get_resource::<Session<TestConfig>>() {
        Some(Session::P2P(session)) => {
            let ahead = session.current_frame() - session.confirmed_frame();
            usize::try_from(ahead).is_ok_and(|ahead| ahead >= session.max_prediction())
        }
        _ => false,
    }
}

/// Lets the network tasks of both peers do what is due until `to`: they wake at every arrival, and by
/// their own timer.
fn run_networks(peers: &[LabPeer; 2], paths: &SimulatedPath, to: Duration) {
    loop {
        let (from, due) = {
            let paths = paths.lock();
            let due = [0, 1].map(|slot| paths.next_due(slot).map(|due| due.max(paths.now)));
            (paths.now, due)
        };
        let timer = NETWORK_EVERY.saturating_mul(rounds(from) + 1);
        let now = due.into_iter().flatten().fold(to.min(timer), Duration::min);
        paths.lock().now = now;
        for (peer, due) in peers.iter().zip(due) {
            peer.clock.advance(now - from);
            if now == timer || due == Some(now) {
                net(peer).run_network();
            }
        }
        if now == to {
            return;
        }
    }
}

/// Whole intervals of the network's timer until `at`.
fn rounds(at: Duration) -> u32 {
    u32::try_from(at.as_micros() / NETWORK_EVERY.as_micros()).unwrap_or(u32::MAX - 1)
}

/// Plays one match of a test case.
pub(super) fn play(case: &TestCase, seed: u64) -> Played {
    let hub = VirtualNetwork::new(2, true);
    let paths = SimulatedPath::new(seed + 1_000 * case.name.len() as u64);
    let mut peers = [0, 1].map(|slot| peer(&hub, &paths, slot, case, seed));
    let mut random = seed.wrapping_mul(77) + 5;
    let mut chance = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut last = [Duration::ZERO; 2];
    // The phase between the ticks of the peers differs from match to match.
    let mut next = [FRAME, FRAME + FRAME.mul_f64(chance())];
    let mut updates: [Vec<Update>; 2] = default();
    let mut hidden = [false; 2];
    let mut paused = [0_u32; 2];
    let mut playing = None;
    let mut judged_from = i32::MAX;
    let mut gone = false;
    for _ in 0..20_000 + case.frames * 4 {
        let of = usize::from(next[1] < next[0]);
        let now = next[of];
        run_networks(&peers, &paths, now);
        let by = now - std::mem::replace(&mut last[of], now);
        let pause = paused[of] > 0;
        paused[of] -= u32::from(pause);
        peers[of].update(if pause { Duration::ZERO } else { by });
        let frames = peers.each_ref().map(LabPeer::frame);
        updates[of].push(Update {
            at: now,
            next: frames[of],
            hidden: hidden[of],
            waits: waits(&peers[of].app),
        });
        next[of] = now + FRAME.mul_f64(1.0 + case.tick_jitter * (chance() - 0.5));
        if playing.is_none() && frames.iter().all(|&frame| frame > 20) {
            playing = Some(now);
            judged_from = frames[0].max(frames[1]) + 75;
            paths.lock().link = Some(case.link);
        }
        let Some(since) = playing else {
            continue;
        };
        if frames.iter().any(|&frame| frame as usize > case.frames) {
            break;
        }
        let update = updates[of].len();
        match case.action(update, chance()) {
            Action::None => {}
            Action::Stall(ms) => next[of] += Duration::from_millis(ms),
            Action::FallBehind(lead) => {
                if of == 1 && frames[0] - frames[1] < lead {
                    paused[1] = u32::try_from(lead - (frames[0] - frames[1])).unwrap_or(0);
                }
            }
            Action::SetHidden(hide) => {
                hidden[of] = hide;
                net(&peers[of]).set_hidden(hide);
            }
        }
        if hidden[of] {
            // Browsers throttle hidden pages.
            next[of] += Duration::from_millis(230);
        }
        if case
            .outage_after
            .is_some_and(|after| now >= since + Duration::from_millis(after))
            && let Some(link) = &mut paths.lock().link
        {
            link.outage = true;
        }
        if !gone && of == 0 && case.disconnect_at.is_some_and(|at| frames[0] >= at) {
            let mut session = peers[0]
                .app
                .world_mut()
                .resource_mut::<Session<TestConfig>>();
            if let Session::P2P(session) = &mut *session
                // Without a prediction there is nothing to correct, and ggrs 0.13 asserts that there is.
                && session.current_frame() - session.confirmed_frame() > 2
            {
                gone = session.disconnect_player(1).is_ok();
            }
        }
    }
    let rollbacks = peers
        .map(|mut peer| std::mem::take(&mut peer.app.world_mut().resource_mut::<Reported>().0));
    let sent = std::mem::take(&mut paths.lock().log);
    Played {
        input_delay: i32::try_from(case.input_delay).unwrap_or(0),
        judged_from,
        sent,
        updates,
        rollbacks,
    }
}

fn net(peer: &LabPeer) -> &LabNet {
    peer.app.world().resource()
}
