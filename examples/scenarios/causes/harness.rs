//! Owns one match of two apps over the air: when each of them polls, what its scene does to it, and
//! the log of both. Never judges.

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

use super::cases::{Act, Scene};
use super::simulated_path::{Air, AirNetwork, Sent};
use rollback_lab_test_kit::lab::{Hub, Keys, LabPeer, Presser, TestConfig, add_game};

/// A tick at 60 Hz.
pub(super) const FRAME: Duration = Duration::from_nanos(16_666_667);

/// One update of a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    pub at: Duration,
    /// The next frame to simulate, afterwards.
    pub next: i32,
    pub hidden: bool,
}

/// A rollback as it was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToldRollback {
    pub id: u64,
    pub frame: i32,
    pub disconnect: bool,
    pub at_once: Cause,
    pub cause: Cause,
    pub evidence: rollback_lab_link::cause::Evidence,
}

/// What a match left.
pub(super) struct Played {
    pub input_delay: i32,
    /// Rollbacks of earlier frames are not judged: the weather itself had just changed.
    pub judged_from: i32,
    pub sent: Vec<Sent>,
    pub updates: [Vec<Update>; 2],
    pub told: [Vec<ToldRollback>; 2],
}

#[derive(Resource, Default)]
struct Told(Vec<ToldRollback>);

fn listen(
    mut completed: MessageReader<RollbackCompleted<Keys>>,
    mut revised: MessageReader<CauseRevised>,
    mut told: ResMut<Told>,
) {
    told.0.extend(completed.read().map(|rollback| ToldRollback {
        id: rollback.rollback_id,
        frame: rollback.frame,
        disconnect: rollback.actual_action.is_none(),
        at_once: rollback.cause,
        cause: rollback.cause,
        evidence: rollback.evidence,
    }));
    for revision in revised.read() {
        let of = told
            .0
            .iter_mut()
            .find(|told| told.id == revision.rollback_id);
        if let Some(told) = of {
            told.cause = revision.cause;
            told.evidence = revision.evidence;
        }
    }
}

fn peer(hub: &Hub, air: &Air, slot: usize, scene: &Scene, seed: u64) -> LabPeer {
    let config = LabConfig::new("ws://lab", "room")
        .input_delay(scene.input_delay)
        .episodes(1)
        .no_files();
    let clock = LabClock::manual(1_700_000_000_000);
    // The peers' clocks have other origins, as everywhere.
    clock.advance(Duration::from_millis(731 * slot as u64));
    let network = AirNetwork {
        hub: hub.join(),
        air: air.clone(),
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
        .init_resource::<Told>()
        .add_systems(Last, listen);
    add_game(&mut app, config, seed * 2 + slot as u64);
    // Every other input is another one: nearly every late input is a misprediction.
    app.insert_resource(Presser {
        seed: seed * 2 + slot as u64,
        per: (1, 2),
    });
    app.finish();
    app.cleanup();
    LabPeer { app, clock }
}

/// Plays one match of a scene.
pub(super) fn play(scene: &Scene, seed: u64) -> Played {
    let hub = Hub::new(2, true);
    let air = Air::new(seed + 1_000 * scene.name.len() as u64);
    let mut peers = [0, 1].map(|slot| peer(&hub, &air, slot, scene, seed));
    let mut dice = seed.wrapping_mul(77) + 5;
    let mut chance = move || {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (dice >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut last = [Duration::ZERO; 2];
    // The second one polls at another moment of the tick in every match.
    let mut next = [FRAME, FRAME + FRAME.mul_f64(chance())];
    let mut updates: [Vec<Update>; 2] = default();
    let mut hidden = [false; 2];
    let mut paused = [0_u32; 2];
    let mut playing = None;
    let mut judged_from = i32::MAX;
    let mut gone = false;
    for _ in 0..20_000 + scene.frames * 4 {
        let of = usize::from(next[1] < next[0]);
        let now = next[of];
        let by = now - std::mem::replace(&mut last[of], now);
        air.sky().now = now;
        if paused[of] > 0 {
            paused[of] -= 1;
            peers[of].poll_paused(by);
        } else {
            peers[of].step(by);
        }
        let frames = peers.each_ref().map(LabPeer::frame);
        updates[of].push(Update {
            at: now,
            next: frames[of],
            hidden: hidden[of],
        });
        next[of] = now + FRAME.mul_f64(1.0 + scene.tick_jitter * (chance() - 0.5));
        if playing.is_none() && frames.iter().all(|&frame| frame > 20) {
            playing = Some(now);
            judged_from = frames[0].max(frames[1]) + 75;
            air.sky().weather = Some(scene.weather);
        }
        let Some(since) = playing else {
            continue;
        };
        if frames.iter().any(|&frame| frame as usize > scene.frames) {
            break;
        }
        let turn = updates[of].len();
        match scene.act(turn, chance()) {
            Act::Nothing => {}
            Act::Stall(ms) => next[of] += Duration::from_millis(ms),
            Act::Lead(lead) => {
                if of == 1 && frames[0] - frames[1] < lead {
                    paused[1] = u32::try_from(lead - (frames[0] - frames[1])).unwrap_or(0);
                }
            }
            Act::Hide(hide) => {
                hidden[of] = hide;
                net(&peers[of]).set_hidden(hide);
            }
        }
        if hidden[of] {
            // A browser lets a hidden page run rarely.
            next[of] += Duration::from_millis(230);
        }
        if scene
            .cut_after
            .is_some_and(|after| now >= since + Duration::from_millis(after))
        {
            let mut sky = air.sky();
            if let Some(weather) = &mut sky.weather {
                weather.cut = true;
            }
        }
        if !gone && of == 0 && scene.disconnect_at.is_some_and(|at| frames[0] >= at) {
            let mut session = peers[0]
                .app
                .world_mut()
                .resource_mut::<Session<TestConfig>>();
            if let Session::P2P(session) = &mut *session
                // Without a guess there is nothing to correct, and ggrs 0.13 asserts that there is.
                && session.current_frame() - session.confirmed_frame() > 2
            {
                gone = session.disconnect_player(1).is_ok();
            }
        }
    }
    let told =
        peers.map(|mut peer| std::mem::take(&mut peer.app.world_mut().resource_mut::<Told>().0));
    let sent = std::mem::take(&mut air.sky().log);
    Played {
        input_delay: i32::try_from(scene.input_delay).unwrap_or(0),
        judged_from,
        sent,
        updates,
        told,
    }
}

fn net(peer: &LabPeer) -> &LabNet {
    peer.app.world().resource()
}
