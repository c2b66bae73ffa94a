//! Scenarios 1 to 6 and 8: two links over a model of a ggrs game.

use std::time::Duration;

use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

use crate::options::Options;
use crate::table::Row;
use rollback_lab_test_kit::link_world::{MS, SECOND, Setup, World};
use rollback_lab_test_kit::outages::{self as cuts, Outage as Cut};

const RATES: [u32; 5] = [10, 20, 30, 60, 120];

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Runs `jobs` on all cores; results come in the order of the jobs.
pub(crate) fn side_by_side<J: Sync, R: Send>(jobs: &[J], run: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(job) = jobs.get(at) else {
                        return;
                    };
                    let result = run(job);
                    let mut done = done.lock().unwrap_or_else(|broken| broken.into_inner());
                    done.push((at, result));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(|broken| broken.into_inner());
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

fn grids(grids: &[(u32, Duration, Cut)]) -> Vec<Row> {
    let results = side_by_side(grids, |(fps, phase, cut)| cuts::grid(*fps, *phase, *cut));
    let row = |((fps, _, cut), grid): (&(u32, Duration, Cut), &cuts::Grid)| {
        let what = match cut {
            Cut::Both => "both ways",
            Cut::BothAndInFlight => "both ways and packets in flight",
            Cut::OneWay => "one way",
        };
        let edge = if grid.stalled == 0 {
            "no outage stalled".to_owned()
        } else {
            format!(
                "highest margin that stalled {:.1} ms",
                grid.worst_stalled_ms
            )
        };
        let broken = grid.broken_setup.clone().unwrap_or_default();
        Row::new(
            format!("{fps} fps, {what}"),
            grid.cuts.into(),
            format!(
                "{} inside the budget, {} of them stalled a frame; outside {} stalled; {edge}",
                grid.inside,
                grid.broken,
                grid.stalled - grid.broken
            ),
        )
        .require(grid.cuts >= 1_000, "at least 1,000 outages")
        .require(grid.inside > 0, "some outages are inside the budget")
        .require(grid.broken == 0, format!("no stall inside: {broken}"))
        .require(grid.undecided == 0, "every outage ends on the relay")
    };
    grids.iter().zip(&results).map(row).collect()
}

/// 1: an outage at every phase of a tick, over round trips, input delays, skews and frame rates.
pub(crate) fn cuts(_: &Options) -> Vec<Row> {
    let phases = [(30, 20), (60, 12), (120, 7)];
    let both = phases.map(|(fps, _)| (fps, 3 * MS, Cut::Both));
    let in_flight = phases.map(|(fps, phase)| (fps, phase * MS, Cut::BothAndInFlight));
    grids(&[both, in_flight].concat())
}

/// 2: outages of one direction, and a link that is down for five seconds.
pub(crate) fn one_way(_: &Options) -> Vec<Row> {
    let mut rows = grids(&[(30, 20), (60, 12), (120, 7)].map(|(f, p)| (f, p * MS, Cut::OneWay)));
    let (mut runs, mut stalls, mut returns) = (0, 0, 0);
    for fps in RATES {
        for phase in 0..17 {
            let setup = Setup {
                fps,
                input_delay: 2,
                ..Setup::default()
            };
            let mut world = World::playing(setup, 3 * SECOND + phase * MS);
            world.reset_counts();
            world.cut_both(Path::Direct);
            world.run_for(5 * SECOND);
            world.heal_both(Path::Direct);
            world.run_for(20 * SECOND);
            runs += 1;
            stalls += world.stalls();
            returns += u32::from(world.routes() != [RouteState::Relay; 2]);
        }
    }
    rows.push(
        Row::new(
            "down for 5 s and up again, 10 to 120 fps",
            runs,
            format!("{stalls} stalled frames, {returns} not on the relay at the end"),
        )
        .require(stalls == 0, "no stall")
        .require(returns == 0, "a failover is final"),
    );
    rows
}

/// 3: a Wi-Fi spike of 150 ms: no failover.
pub(crate) fn spikes(_: &Options) -> Vec<Row> {
    let rows = RATES.map(|fps| {
        let (mut longest, mut stalls, mut failovers, mut inside) = (Duration::ZERO, 0, 0, 0);
        for phase in 0..100 {
            let setup = Setup {
                fps,
                input_delay: 2,
                seed: phase,
                ..Setup::default()
            };
            let wait = 3 * SECOND + Duration::from_millis(phase);
            let mut world = World::playing(setup, wait);
            inside += u32::from(world.margin() >= 0.0);
            let before = world.both_paths();
            world.reset_counts();
            world.cut_both(Path::Direct);
            world.run_for(150 * MS);
            world.heal_both(Path::Direct);
            world.run_for(10 * SECOND);
            longest = longest.max(world.both_paths() - before);
            stalls += world.stalls();
            failovers += world.failovers();
        }
        Row::new(
            format!("150 ms without a packet at {fps} fps"),
            100,
            format!(
                "{failovers} failovers, {stalls} stalled frames, both paths for {:.0} ms at most",
                ms(longest)
            ),
        )
        .require(failovers == 0, "a spike causes no failover")
        .require(longest < SECOND, "both paths end within a second")
        .require(stalls == 0 || inside < 100, "no stall inside the budget")
    });
    rows.into()
}

/// 4: ten healthy minutes: no game packet on the relay.
pub(crate) fn healthy(_: &Options) -> Vec<Row> {
    let minutes = 10;
    side_by_side(&RATES, |&fps| {
        let setup = Setup {
            fps,
            direct: 20 * MS,
            relay: 25 * MS,
            conditions: "direct:jitter=3ms",
            tick_jitter: 2 * MS,
            input_delay: 2,
            ..Setup::default()
        };
        let world = World::playing(setup, minutes * 60 * SECOND);
        let peers = world.peers.each_ref();
        let bytes: u64 = peers
            .map(|peer| peer.link.stats().game_bytes_relay)
            .iter()
            .sum();
        let direct: u64 = peers
            .map(|peer| peer.link.stats().game_bytes_direct)
            .iter()
            .sum();
        let probes: u64 = peers.map(|peer| peer.relay_kinds[2]).iter().sum();
        Row::new(
            format!("{minutes} healthy minutes at {fps} fps"),
            1,
            format!(
                "{bytes} game bytes on the relay ({direct} direct), {probes} probes, {} stalls",
                world.stalls()
            ),
        )
        .require(bytes == 0, "no game byte on the relay")
        .require(world.stalls() == 0, "no stall")
        .require(world.routes() == [RouteState::Direct; 2], "still direct")
    })
}

/// 5: troubles of a peer and not of the path: stalls, a hidden tab, a pause, 15 Hz. No failover.
pub(crate) fn peers(_: &Options) -> Vec<Row> {
    type Trouble = (&'static str, fn(&mut World));
    let troubles: [Trouble; 4] = [
        ("five stalls of 400 ms", |world| {
            for _ in 0..5 {
                world.suspend(1, 400 * MS);
                world.run_for(2_400 * MS);
            }
        }),
        ("five stalls of 3 s", |world| {
            for _ in 0..5 {
                world.suspend(1, 3 * SECOND);
                world.run_for(5 * SECOND);
            }
        }),
        ("a tab hidden for 10 s, awake once a second", |world| {
            world.peers[1].link.set_hidden(true);
            world.run_for(100 * MS);
            for _ in 0..10 {
                world.suspend(1, SECOND);
                world.run_for(SECOND + 20 * MS);
            }
            world.peers[1].link.set_hidden(false);
        }),
        ("a pause of both of 5 and 7 s", |world| {
            world.suspend(0, 5 * SECOND);
            world.suspend(1, 7 * SECOND);
            world.run_for(10 * SECOND);
        }),
    ];
    let mut rows = Vec::new();
    for (what, act) in troubles {
        let (mut failovers, mut astray) = (0, 0);
        for fps in RATES {
            let mut world = World::playing(
                Setup {
                    fps,
                    ..Setup::default()
                },
                3 * SECOND,
            );
            act(&mut world);
            world.run_for(5 * SECOND);
            failovers += world.failovers();
            astray += u32::from(world.routes() != [RouteState::Direct; 2]);
        }
        rows.push(
            Row::new(
                format!("{what}, 10 to 120 fps"),
                RATES.len() as u64,
                format!("{failovers} failovers, {astray} not direct at the end"),
            )
            .require(failovers == 0 && astray == 0, "no failover"),
        );
    }
    let slow = SECOND / 15;
    let (mut failovers, mut both) = (0, Duration::ZERO);
    let polls = [[None, Some(slow)], [Some(slow), None], [Some(slow); 2]];
    for tick in polls {
        let setup = Setup {
            tick,
            input_delay: 3,
            ..Setup::default()
        };
        let world = World::playing(setup, 60 * SECOND);
        failovers += world.failovers();
        both = both.max(world.both_paths());
    }
    rows.push(
        Row::new(
            "a minute at 60 fps with one peer, the other, both at 15 polls a second",
            polls.len() as u64,
            format!(
                "{failovers} failovers, both paths for {:.0} ms at most",
                ms(both)
            ),
        )
        .require(failovers == 0, "no failover")
        .require(
            both < 2 * SECOND,
            "no degraded path once the poll rate is known",
        ),
    );
    rows
}

/// 6: the direct path heals after the failover: no failback.
pub(crate) fn heals(_: &Options) -> Vec<Row> {
    let (mut returns, mut direct_packets) = (0, 0);
    for fps in RATES {
        let mut world = World::playing(
            Setup {
                fps,
                ..Setup::default()
            },
            3 * SECOND,
        );
        world.cut_both(Path::Direct);
        world.run_for(5 * SECOND);
        world.heal_both(Path::Direct);
        let packets = |world: &World| -> u64 {
            let of = |index: usize| world.peers[index].link.stats().game_packets_direct;
            of(0) + of(1)
        };
        let before = packets(&world);
        world.run_for(300 * SECOND);
        direct_packets += packets(&world) - before;
        returns += usize::from(world.routes() != [RouteState::Relay; 2]);
    }
    vec![
        Row::new(
            "five minutes after the path healed, 10 to 120 fps",
            RATES.len() as u64,
            format!("{returns} failbacks, {direct_packets} game packets on the healed path"),
        )
        .require(returns == 0 && direct_packets == 0, "a failover is final"),
    ]
}

/// Loss on the direct path alone, beside a relay with the same latency and no loss.
const LOSSES: [&str; 5] = [
    "direct:loss=5%",
    "direct:loss=10%",
    "direct:loss=20%",
    "direct:loss=40%",
    "direct:loss=60%",
];
/// Longest time in `Suspect`: two seconds on both paths decide, once the loss of both is known well
/// enough.
const SUSPECT_BOUND: Duration = Duration::from_secs(23);

/// The longest time that either peer was in `Suspect`.
fn longest_suspect(world: &World) -> Duration {
    let mut longest = Duration::ZERO;
    for peer in &world.peers {
        let mut since = None;
        for change in &peer.changes {
            if let Some(since) = since.take() {
                longest = longest.max(change.at.saturating_sub(since));
            }
            if change.to == RouteState::Suspect {
                since = Some(change.at);
            }
        }
        if let Some(since) = since {
            longest = longest.max(peer.clock(world.now).saturating_sub(since));
        }
    }
    longest
}

/// 8: both peers fail over at once or one after the other; packets come twice and out of order.
pub(crate) fn agreement(_: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut apart, mut stalls) = (0, 0);
    for phase in 0..100 {
        let setup = Setup {
            phase: Duration::ZERO,
            tick_jitter: Duration::ZERO,
            ..Setup::default()
        };
        let mut world = World::playing(setup, 3 * SECOND + phase * MS / 3);
        world.cut_both(Path::Direct);
        world.run_for(SECOND);
        apart += u32::from(world.routes() != [RouteState::Relay; 2]);
        stalls += world.stalls();
    }
    rows.push(
        Row::new(
            "both fail over in the same instant",
            100,
            format!("{apart} ended apart, {stalls} stalled frames"),
        )
        .require(apart == 0 && stalls == 0, "they agree"),
    );
    let (mut apart, mut duplicates, mut reordered) = (0, 0, 0);
    for seed in 0..100 {
        let setup = Setup {
            conditions: "jitter=60ms,latency=70ms,loss=5%",
            input_delay: 3,
            seed,
            ..Setup::default()
        };
        let mut world = World::playing(setup, 10 * SECOND);
        world.cut(usize::from(seed % 2 == 0), Path::Direct);
        world.run_for(4 * SECOND);
        let [first, second] = world.routes();
        apart += u32::from(first.failed_over() != second.failed_over());
        for peer in &world.peers {
            duplicates += peer.link.stats().duplicate_data;
            reordered += peer.link.stats().path(Path::Direct).reordered;
        }
    }
    let mut longest = Duration::ZERO;
    let mut matches = 0;
    for spec in LOSSES {
        for fps in RATES {
            for seed in 0..5 {
                let setup = Setup {
                    fps,
                    input_delay: 2,
                    conditions: spec,
                    seed,
                    ..Setup::default()
                };
                let world = World::playing(setup, 60 * SECOND);
                longest = longest.max(longest_suspect(&world));
                matches += 1;
            }
        }
    }
    rows.push(
        Row::new(
            "a minute with 5 to 60 % loss on the direct path, 10 to 120 fps",
            matches,
            format!("suspect for {:.0} ms at most", ms(longest)),
        )
        .require(longest < SUSPECT_BOUND, "no path is suspect for longer"),
    );
    // `Game::take` of the model panics when a packet reaches it twice or leaves a hole.
    rows.push(
        Row::new(
            "an outage one way, with duplicates, reordering and 5 % loss",
            100,
            format!(
                "{apart} ended apart; {duplicates} copies and {reordered} reordered packets, none \
                 of which reached the game twice"
            ),
        )
        .require(apart == 0, "they agree")
        .require(duplicates > 0 && reordered > 0, "there were copies"),
    );
    rows
}
