//! The rows of the stage `network`. To add one: its name and what happens, the steps, and what is
//! expected if that is not a match without a stalled frame.

use super::row::Step::{
    Away, DropUdp, DropUdpOneWay, ForgetNat, Gone, Kill, LoseTcp, NewAddress, ResetTcp, Restart,
    StartOther, Terminate, Wait,
};
use super::row::{Row, Stalled};
use super::topology::{A, B, S};

/// A path is back: the match goes on within this time.
const BACK_MS: u64 = 1000;
/// A websocket that brought nothing for 1 s is replaced; then the match goes on within 1 s.
const NOTICED_MS: u64 = 2000;
/// A peer is gone after 35 s of silence on every path. The exact second depends on when its last
/// packet came; a peer that stops at the end of its window may be noticed up to 2 s later.
const GONE_S: (f64, f64) = (34.0, 38.0);
/// Who leaves reports it: the other one need not wait.
const REPORTED_S: (f64, f64) = (0.0, 3.0);

const LEFT: Option<&str> = Some("peerLeft");

/// The rows in the order of the table.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row::new("healthy", "nothing happens").fps(60),
    Row::new("udp-lost", "UDP is dropped midway, both ways").during(&[Wait(3.0), DropUdp]),
    Row::new("udp-lost-one-way", "UDP is dropped midway, from A to B")
        .during(&[Wait(3.0), DropUdpOneWay(A, B)]),
    Row::new("udp-blocked", "UDP is blocked from the start").on_relay(),

    Row::new("away-1s", "A's whole network is away for 1 s")
        .during(&[Wait(3.0), Away(&[A], 1.0)]).back_within_ms(BACK_MS),
    Row::new("away-2.5s", "A's whole network is away for 2.5 s")
        .during(&[Wait(3.0), Away(&[A], 2.5)]).back_within_ms(BACK_MS),
    Row::new("away-5s", "A's whole network is away for 5 s")
        .during(&[Wait(3.0), Away(&[A], 5.0)]).back_within_ms(BACK_MS),
    Row::new("away-10s", "A's whole network is away for 10 s")
        .during(&[Wait(3.0), Away(&[A], 10.0)]).back_within_ms(BACK_MS),
    Row::new("away-30s", "A's whole network is away for 30 s")
        .during(&[Wait(3.0), Away(&[A], 30.0)]).back_within_ms(BACK_MS),
    Row::new("relay-away-1s", "on the relay, A's network is away for 1 s").on_relay()
        .during(&[Wait(3.0), Away(&[A], 1.0)]).back_within_ms(BACK_MS).long(),
    Row::new("relay-away-2.5s", "on the relay, A's network is away for 2.5 s").on_relay()
        .during(&[Wait(3.0), Away(&[A], 2.5)]).back_within_ms(BACK_MS),
    Row::new("relay-away-5s", "on the relay, A's network is away for 5 s").on_relay()
        .during(&[Wait(3.0), Away(&[A], 5.0)]).back_within_ms(BACK_MS).long(),
    Row::new("relay-away-10s", "on the relay, A's network is away for 10 s").on_relay()
        .during(&[Wait(3.0), Away(&[A], 10.0)]).back_within_ms(BACK_MS).long(),
    Row::new("relay-away-30s", "on the relay, A's network is away for 30 s").on_relay()
        .during(&[Wait(3.0), Away(&[A], 30.0)]).back_within_ms(BACK_MS).long(),
    Row::new("both-away-2.5s", "the networks of both players are away for 2.5 s")
        .during(&[Wait(3.0), Away(&[A, B], 2.5)]).back_within_ms(BACK_MS),

    Row::new("server-away-10s", "the server is away for 10 s, the direct path carries the match")
        .seconds(18).during(&[Wait(3.0), Away(&[S], 10.0)]).single_path(),
    Row::new("server-away-30s", "the server is away for 30 s; 8 s later UDP is dropped")
        .seconds(50).during(&[Wait(3.0), Away(&[S], 30.0), Wait(8.0), DropUdp]).single_path(),
    Row::new("relay-server-away-10s", "on the relay, the server is away for 10 s").on_relay()
        .during(&[Wait(3.0), Away(&[S], 10.0)]).back_within_ms(BACK_MS),
    Row::new("server-killed-restarted", "on the relay, the server is killed and back after 1 s")
        .on_relay().secret()
        .during(&[Wait(3.0), Kill(S), Wait(1.0), Restart]).back_within_ms(BACK_MS),
    Row::new("server-killed-other", "on the relay, the server is killed, another one takes over")
        .on_relay().secret()
        .during(&[Wait(3.0), Kill(S), StartOther]).back_within_ms(BACK_MS),
    Row::new("server-killed", "the server is killed, the direct path lives")
        .during(&[Wait(3.0), Kill(S)]).single_path(),
    Row::new("server-stopped", "the server is stopped with SIGTERM, the direct path lives")
        .during(&[Wait(3.0), Terminate(S)]).single_path().long(),
    Row::new("server-stopped-restarted", "on the relay, the server is stopped and back after 1 s")
        .on_relay().secret()
        .during(&[Wait(3.0), Terminate(S), Wait(1.0), Restart]).back_within_ms(BACK_MS),
    Row::new("tcp-reset", "a middlebox resets the server's TCP for 3 s; 3 s later UDP is dropped")
        .seconds(14).during(&[Wait(3.0), ResetTcp(3.0), Wait(3.0), DropUdp]).single_path().long(),
    Row::new("relay-tcp-reset", "on the relay, a middlebox resets the server's TCP for 0.5 s")
        .on_relay().during(&[Wait(3.0), ResetTcp(0.5)]).back_within_ms(BACK_MS),

    Row::new("new-address", "A's address changes at once")
        .during(&[Wait(3.0), NewAddress(A, 0.0)]).back_within_ms(NOTICED_MS).long(),
    Row::new("new-address-1s", "A changes from Wi-Fi to cellular, 1 s without a network")
        .during(&[Wait(3.0), NewAddress(A, 1.0)]).back_within_ms(BACK_MS),
    Row::new("new-address-server-killed", "4 s after A has changed its address the server is killed")
        .seconds(14).during(&[Wait(3.0), NewAddress(A, 1.0), Wait(4.0), Kill(S)])
        .back_within_ms(BACK_MS),
    Row::new("away-30s-server-killed", "5 s after an outage that outlasts ICE the server is killed")
        .seconds(14).during(&[Wait(3.0), Away(&[A], 30.0), Wait(5.0), Kill(S)])
        .back_within_ms(BACK_MS),
    Row::new("nat", "A is behind a NAT").nats(1).long(),
    Row::new("nat-forgets", "A's NAT forgets its UDP mappings").nats(1)
        .during(&[Wait(3.0), ForgetNat(A)]).back_within_ms(BACK_MS),
    Row::new("nat-both", "both are behind a NAT, without STUN: the relay carries it").nats(2)
        .single_path(),
    Row::new("relay-loss-5", "5 % of the relay's TCP segments are lost").on_relay()
        .during(&[Wait(1.0), LoseTcp(5)]).back_within_ms(BACK_MS),
    Row::new("relay-loss-20", "20 % of the relay's TCP segments are lost").on_relay()
        .during(&[Wait(1.0), LoseTcp(20)]).stalled(Stalled::Any),

    Row::new("three-away-3s", "of three players A is away for 3 s").players(3)
        .during(&[Wait(3.0), Away(&[A], 3.0)]).back_within_ms(BACK_MS),
    Row::new("three-killed", "of three players A is killed: the others end after 35 s").players(3)
        .during(&[Wait(3.0), Kill(A)]).ends(&[None, LEFT, LEFT], GONE_S)
        .stalled(Stalled::Listed(30)).long(),
    Row::new("killed", "A is killed: B ends after 35 s")
        .during(&[Wait(3.0), Kill(A)]).ends(&[None, LEFT], GONE_S).stalled(Stalled::Listed(30)),
    Row::new("no-network", "A's network is away for good: both end after 35 s")
        .during(&[Wait(3.0), Gone(A)]).ends(&[LEFT, LEFT], GONE_S).stalled(Stalled::Listed(30)),
    Row::new("terminated", "A gets SIGTERM: both leave files, B ends at once")
        .during(&[Wait(3.0), Terminate(A)]).ends(&[Some("localQuit"), LEFT], REPORTED_S),
];

/// Matches over the relay alone whose delays are compared: with loss of the real TCP, and with the
/// model of it in `conditions`.
#[rustfmt::skip]
pub(super) const COMPARED: &[Row] = &[
    compared("tcp-loss-0", "relay only, nothing lost"),
    compared("tcp-loss-1", "relay only, 1 % of the TCP segments lost").during(&[LoseTcp(1)]),
    compared("tcp-model-1", "relay only, conditions with 1 % of loss").conditions("relay:loss=1%"),
    compared("tcp-loss-5", "relay only, 5 % of the TCP segments lost").during(&[LoseTcp(5)]),
    compared("tcp-model-5", "relay only, conditions with 5 % of loss").conditions("relay:loss=5%"),
];

/// Twenty seconds at 60 frames per second over the relay alone.
const fn compared(name: &'static str, about: &'static str) -> Row {
    Row::new(name, about)
        .fps(60)
        .seconds(20)
        .options("--route-policy relay-only")
        .long()
        .stalled(Stalled::Any)
}

/// Every row that can be named.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(COMPARED)
}

/// The rows of these names, in the order of the table; without names all of them.
pub(super) fn named(names: &[String]) -> Result<Vec<&'static Row>, String> {
    if let Some(unknown) = names
        .iter()
        .find(|name| !all().any(|row| row.name == **name))
    {
        return Err(format!(
            "unknown row `{unknown}`; `cargo xtask network --list` lists them"
        ));
    }
    let chosen = all().filter(|row| names.is_empty() || names.iter().any(|of| of == row.name));
    Ok(chosen.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::network::row::Ends;

    #[test]
    fn names_are_unique_and_enough_rows_are_played_in_ci() {
        let names: BTreeSet<&str> = all().map(|row| row.name).collect();
        assert_eq!(names.len(), all().count());
        assert!(all().filter(|row| row.short).count() >= 20);
    }

    #[test]
    fn every_player_of_a_row_that_ends_early_has_a_reason_or_is_killed() {
        for row in all() {
            if let Ends::Early { reasons, .. } = row.expected.ends {
                assert_eq!(reasons.len(), row.players, "{}", row.name);
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let names = |text: &str| vec![text.to_owned()];
        assert!(named(&names("helthy")).unwrap_err().contains("`helthy`"));
        assert_eq!(named(&names("healthy")).unwrap().len(), 1);
        assert_eq!(named(&[]).unwrap().len(), all().count());
    }

    #[test]
    fn a_match_outlasts_what_happens_to_it() {
        for row in all() {
            let (mut played, mut paths) = (0.0, 0);
            for step in row.during {
                match *step {
                    Wait(seconds) => played += seconds,
                    // The direct path carries the match while only the server is away.
                    Away(&[S], seconds) | ResetTcp(seconds) if row.before.is_empty() => {
                        played += seconds;
                    }
                    _ => {}
                }
                paths += usize::from(step.brings_path());
            }
            assert!(played + 2.0 < row.seconds as f64, "{}", row.name);
            let measured = row.expected.back_within_ms.is_some();
            assert!(!measured || paths > 0, "{}", row.name);
        }
    }
}
