//! Matches of three and four players over real WebRTC on loopback: healthy, with one pair that
//! loses its direct path, with all direct paths cut, and left by one player.

use std::collections::BTreeMap;
use std::time::Duration;

use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::{EpisodeDocument, RouteChangeRecord};
use rollback_lab_record::check::check_episode;
use rollback_lab_record::{EndReason, RouteCause, RouteState, Via};
use rollback_lab_test_kit::agreed::{
    UNEXPLAINED_SUSPECTS, agreed, assert_no_stall, assert_pairs_agree, config, disturbed, server,
};
use rollback_lab_test_kit::real::{Outcome, RealPeer, play_real};

/// Plays one episode; all players follow the same script.
fn play_all(players: usize, frames: u32, script: RealPeer) -> Vec<Outcome> {
    let server = server();
    let config = config(&server.url()).players(players).frame_limit(frames);
    let outcomes = play_real(&config, vec![script; players]);
    server.shutdown();
    outcomes
}

fn file(outcome: &Outcome) -> &EpisodeDocument {
    let [episode] = outcome.episodes.as_slice() else {
        panic!("one episode, not {}", outcome.episodes.len());
    };
    episode
}

fn player(outcome: &Outcome) -> usize {
    file(outcome).player_id.expect("the file names its player")
}

/// The route at the end of the episode to every other player.
fn routes(outcome: &Outcome) -> BTreeMap<usize, Via> {
    let peers = file(outcome).connection.peers.iter();
    peers
        .map(|peer| (peer.player_id, peer.route.unwrap_or_default()))
        .collect()
}

fn changes(outcome: &Outcome) -> &[RouteChangeRecord] {
    &file(outcome).quality.route_changes
}

/// Route changes that left a direct path for the relay.
fn failovers(outcome: &Outcome) -> Vec<&RouteChangeRecord> {
    let to_relay = changes(outcome)
        .iter()
        .filter(|change| change.to == RouteState::Relay);
    // From survival the route goes back to the relay, which it had before.
    to_relay
        .filter(|change| change.from != RouteState::Survival)
        .collect()
}

/// Asserts that the route to this player did not fail over, and that nothing was relayed to it
/// unless the route became suspect. On a quiet machine it may become suspect
/// [`UNEXPLAINED_SUSPECTS`] times.
fn assert_stayed_direct(outcome: &Outcome, to: usize, disturbed: bool) {
    let player = player(outcome);
    let about_it: Vec<_> = changes(outcome)
        .iter()
        .filter(|change| change.player_id == to)
        .collect();
    assert!(
        about_it.iter().all(|change| change.to != RouteState::Relay),
        "player {player} left its healthy path to player {to}: {about_it:#?}"
    );
    let suspects = about_it
        .iter()
        .filter(|change| change.to == RouteState::Suspect);
    assert!(
        disturbed || suspects.count() <= UNEXPLAINED_SUSPECTS,
        "player {player} suspects its healthy path to player {to} on a quiet machine: {about_it:#?}"
    );
    if about_it.is_empty() {
        assert_eq!(
            outcome.relayed_game_to.get(&to),
            None,
            "player {player} sends no game packet to player {to} over the relay in state Direct"
        );
        assert_eq!(routes(outcome)[&to], Via::Direct);
    }
}

#[test]
fn three_players_play_peer_to_peer_and_all_their_files_agree() {
    let outcomes = play_all(3, 240, RealPeer::default());
    for episode in agreed(&outcomes, 1).concat() {
        assert_eq!(episode.episode.end_frame, 240);
        assert_eq!(episode.connection.peers.len(), 2);
        assert_eq!(episode.connection.route_type, Some(Via::Direct));
        assert_eq!(episode.quality.p2p_fallback_triggered, Some(false));
    }
    for outcome in &outcomes {
        let others = (0..3).filter(|other| *other != player(outcome));
        for other in others {
            assert_stayed_direct(outcome, other, disturbed(&outcomes));
        }
        if changes(outcome).is_empty() {
            let inputs = &file(outcome).inputs;
            let relayed = (inputs.sent_via_relay, inputs.sent_via_both);
            assert_eq!(relayed, (Some(0), Some(0)));
        }
    }
    assert_no_stall(&outcomes, "a healthy match does not stall");
}

#[test]
fn a_pair_that_loses_its_path_is_relayed_while_the_other_pairs_stay_direct() {
    let (cut, end, pair) = (150, 300, [1, 3]);
    let script = RealPeer {
        cut_between: Some((cut, pair)),
        ..RealPeer::default()
    };
    let outcomes = play_all(4, end, script);
    for episode in agreed(&outcomes, 1).concat() {
        assert_eq!(episode.episode.end_frame, end as i32);
    }
    let disturbed = disturbed(&outcomes);
    for outcome in &outcomes {
        let own = player(outcome);
        let lost = |other: usize| pair.contains(&own) && pair.contains(&other);
        let others: Vec<_> = (0..4).filter(|other| *other != own).collect();
        for &other in others.iter().filter(|other| !lost(**other)) {
            assert_stayed_direct(outcome, other, disturbed);
        }
        let episode = file(outcome);
        let (quality, inputs) = (&episode.quality, &episode.inputs);
        let worst = episode.connection.route_type;
        let quiet = |other: &usize| changes(outcome).iter().all(|c| c.player_id != *other);
        let sent = [
            inputs.sent_via_p2p,
            inputs.sent_via_relay,
            inputs.sent_via_both,
        ];
        let [p2p, relay, both] = sent.map(|count| count.expect("the lab's transport counts"));
        let Some(&lost) = others.iter().find(|other| lost(**other)) else {
            assert_eq!(worst, Some(Via::Direct), "player {own}");
            assert_eq!(quality.p2p_fallback_triggered, Some(false));
            assert_eq!(relay, 0, "player {own} sends nothing by relay alone");
            assert!(both == 0 || !others.iter().all(quiet));
            continue;
        };
        assert_eq!(worst, Some(Via::Relay), "the worst route in use");
        let details = episode.connection.connection_details.as_ref();
        assert_eq!(details.map(|of| of.player_id), Some(lost));
        assert_eq!(routes(outcome)[&lost], Via::Relay);
        let failovers = failovers(outcome);
        let [failover] = failovers.as_slice() else {
            panic!("fallback is final: {failovers:#?}");
        };
        assert_eq!(failover.player_id, lost);
        assert!([RouteCause::Dead, RouteCause::PeerPromoted].contains(&failover.cause));
        assert_eq!(quality.p2p_fallback_frame, Some(failover.frame));
        assert!(outcome.relayed_game_to[&lost] > 0);
        // The relay alone from the failover on, both paths while suspect before it.
        let after = u64::from(end).saturating_sub(failover.frame as u64);
        let survived = changes(outcome)
            .iter()
            .any(|c| c.to == RouteState::Survival);
        assert!(
            survived || relay.abs_diff(after) <= 10,
            "player {own} sent {relay} inputs by relay alone, {after} frames follow the failover"
        );
        assert!(both > 0, "player {own} sent none on both paths");
        assert!(
            p2p > 2 * u64::from(cut as u32),
            "player {own} sent {p2p} inputs peer to peer alone"
        );
    }
    assert_no_stall(&outcomes, "an outage between one pair stalls no frame");
}

#[test]
fn four_players_whose_paths_are_all_cut_play_on_over_the_relay() {
    let script = RealPeer {
        cut_at: Some(150),
        ..RealPeer::default()
    };
    let outcomes = play_all(4, 300, script);
    for episode in agreed(&outcomes, 1).concat() {
        assert_eq!(episode.episode.end_frame, 300);
        assert_eq!(episode.connection.route_type, Some(Via::Relay));
        let at = episode.quality.p2p_fallback_frame;
        assert!(
            at.is_some_and(|at| (150..240).contains(&at)),
            "failover at {at:?}, cut at 150"
        );
    }
    for outcome in &outcomes {
        let routes = routes(outcome);
        assert_eq!(routes.len(), 3);
        assert!(
            routes.values().all(|route| *route == Via::Relay),
            "{routes:?}"
        );
        let failovers = failovers(outcome);
        assert_eq!(failovers.len(), 3, "each pair once: {failovers:#?}");
        assert_eq!(
            outcome.relayed_game_to.len(),
            3,
            "all players are relayed to"
        );
    }
    assert_no_stall(&outcomes, "the cut stalls no frame");
}

/// The file of a peer that stayed when player `gone` left: partial for that reason and naming the
/// player.
fn left_by(outcome: &Outcome, gone: usize) -> &EpisodeDocument {
    let episode = partial(outcome, EndReason::PeerLeft);
    assert_eq!(outcome.phase, SessionPhase::Failed);
    let failure = outcome.failure.as_deref().unwrap_or_default();
    assert!(
        failure.starts_with(&format!("player {gone} is gone: ")),
        "who left first is named: {failure}"
    );
    let first = episode.reconnection.disconnections.first();
    assert_eq!(first.map(|of| of.player_id), Some(Some(gone)));
    episode
}

/// The one file of a peer, which is partial for this reason and keeps the invariants.
fn partial(outcome: &Outcome, reason: EndReason) -> &EpisodeDocument {
    let episode = file(outcome);
    assert_eq!(check_episode(episode), []);
    assert!(episode.episode.is_partial);
    assert_eq!(episode.episode.end_reason.as_ref(), Some(&reason));
    assert!(
        episode.episode.end_frame > 60,
        "the file holds the match until then, not {} frames",
        episode.episode.end_frame
    );
    let sessions: Vec<_> = outcome
        .sessions
        .iter()
        .map(|session| session.end_reason.clone())
        .collect();
    assert_eq!(sessions, [Some(reason)]);
    episode
}

/// Plays with three players, of whom the last one follows the script and the others play on.
fn play_left_by(script: RealPeer) -> Vec<Outcome> {
    let server = server();
    let config = config(&server.url()).players(3).frame_limit(2_000);
    let stays = RealPeer::default();
    let outcomes = play_real(&config, vec![stays.clone(), stays, script]);
    server.shutdown();
    outcomes
}

#[test]
fn a_player_who_quits_ends_the_match_for_the_others_and_all_files_agree() {
    let outcomes = play_left_by(RealPeer {
        quit_at: Some(90),
        ..RealPeer::default()
    });
    let [stay @ .., left] = outcomes.as_slice() else {
        panic!("three peers");
    };
    let mut files = vec![partial(left, EndReason::LocalQuit)];
    for outcome in stay {
        files.push(left_by(outcome, player(left)));
        let after = outcome.stopped.saturating_duration_since(left.stopped);
        assert!(after < Duration::from_secs(5), "noticed after {after:?}");
    }
    assert_eq!(files.len(), 3);
    assert_pairs_agree(&files);
}

#[test]
fn a_player_who_vanishes_is_named_by_both_remaining_peers() {
    let outcomes = play_left_by(RealPeer {
        vanish_at: Some(90),
        ..RealPeer::default()
    });
    let [first, second, vanished] = outcomes.as_slice() else {
        panic!("three peers");
    };
    assert!(
        vanished.episodes.is_empty(),
        "a killed process writes nothing"
    );
    let gone = (0..3).find(|gone| ![player(first), player(second)].contains(gone));
    let gone = gone.expect("two of three stayed");
    let files = [first, second].map(|outcome| left_by(outcome, gone));
    assert_pairs_agree(&files);
}
