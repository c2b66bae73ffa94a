//! When a lost data channel is negotiated anew.

use std::time::Duration;

use rollback_lab_link::route::RoutePolicy;
use rollback_lab_link::wire::Path;
use rollback_lab_test_kit::link_world::{SECOND, Setup, World};

/// Milliseconds from `since` until each renegotiation of peer `index`.
fn renegotiations(world: &World, index: usize, since: Duration) -> Vec<u128> {
    let times = world.peers[index].renegotiations.iter();
    times.map(|at| (*at - since).as_millis()).collect()
}

fn assert_none(world: &World) {
    let peers = world.peers.iter();
    assert!(
        peers
            .map(|peer| peer.renegotiations.len())
            .all(|count| count == 0)
    );
}

#[test]
fn a_lost_direct_path_is_renegotiated_at_once_and_then_ever_less_often() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    let cut = world.now;
    world.cut_both(Path::Direct);
    world.run_for(120 * SECOND);
    for index in [0, 1] {
        let at = renegotiations(&world, index, cut);
        assert!((250..400).contains(&at[0]), "{at:?}");
        let pauses: Vec<u128> = at.windows(2).map(|two| (two[1] - two[0]) / 500).collect();
        assert_eq!(
            pauses,
            [6, 12, 24, 48, 60, 60],
            "3, 6, 12, 24, 30 s: {at:?}"
        );
    }
}

#[test]
fn a_path_that_is_lost_one_way_is_renegotiated_by_the_peer_that_hears_nothing() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    let cut = world.now;
    world.cut(0, Path::Direct);
    world.run_for(20 * SECOND);
    assert_eq!(renegotiations(&world, 0, cut), [0; 0]);
    let at = renegotiations(&world, 1, cut);
    assert!((250..400).contains(&at[0]), "{at:?}");
}

#[test]
fn without_the_relay_nothing_is_negotiated_until_it_is_back() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    Path::ALL.into_iter().for_each(|path| world.cut_both(path));
    world.run_for(10 * SECOND);
    assert_none(&world);
    let back = world.now;
    world.heal_both(Path::Relay);
    world.run_for(20 * SECOND);
    for index in [0, 1] {
        let at = renegotiations(&world, index, back);
        // The first segment that is repeated after the outage brings it back.
        assert!((0..12_000).contains(&at[0]), "{at:?}");
    }
}

#[test]
fn a_path_that_delivers_is_not_renegotiated() {
    let lossy = Setup {
        conditions: "direct:loss=20%",
        ..Setup::default()
    };
    for setup in [Setup::default(), lossy] {
        let mut world = World::playing(setup, 3 * SECOND);
        world.run_for(60 * SECOND);
        world.stop();
        world.run_for(30 * SECOND);
        assert_none(&world);
    }
}

#[test]
fn a_channel_that_opened_anew_is_given_time_to_deliver() {
    let mut world = World::playing(Setup::default(), 3 * SECOND);
    world.cut_both(Path::Direct);
    world.run_for(SECOND);
    let opened = world.now;
    for peer in &mut world.peers {
        peer.renegotiations.clear();
        let local = peer.clock(opened);
        peer.link.direct_opened(local);
    }
    world.heal_both(Path::Direct);
    world.run_for(60 * SECOND);
    assert_none(&world);
    // Lost again, it starts from the beginning.
    let cut = world.now;
    world.cut_both(Path::Direct);
    world.run_for(10 * SECOND);
    let at = renegotiations(&world, 0, cut);
    assert!(
        (4_000..6_000).contains(&at[0]),
        "one probe a second: {at:?}"
    );
    assert_eq!((at[1] - at[0]) / 500, 6);
}

#[test]
fn a_policy_without_the_direct_path_negotiates_none() {
    let setup = Setup {
        policy: RoutePolicy::RelayOnly,
        ..Setup::default()
    };
    let mut world = World::playing(setup, 3 * SECOND);
    world.cut_both(Path::Direct);
    world.run_for(20 * SECOND);
    assert_none(&world);
}
