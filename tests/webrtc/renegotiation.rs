//! Data channels that are negotiated anew, over real WebRTC and a lab server.

use std::time::{Duration, Instant};

use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::transport::network::{NetEvent, Network};
use bevy_rollback_lab::internals::transport::{MatchboxNetwork, MatchboxSettings};
use rollback_lab_link::wire::{DatagramKind, Path};
use rollback_lab_test_kit::agreed::server;

const LIMIT: Duration = Duration::from_secs(20);

struct Member {
    network: MatchboxNetwork,
    clock: LabClock,
    own: Option<PeerId>,
    opened: Vec<PeerId>,
    closed: Vec<PeerId>,
    received: Vec<Vec<u8>>,
}

impl Member {
    fn join(url: &str) -> Self {
        let clock = LabClock::real();
        let settings = MatchboxSettings::new(format!("{url}/anew?players=2"));
        Self {
            network: MatchboxNetwork::open(settings, clock.clone()),
            clock,
            own: None,
            opened: Vec::new(),
            closed: Vec::new(),
            received: Vec::new(),
        }
    }

    fn poll(&mut self) {
        let mut events = Vec::new();
        self.network.poll_events(&mut events);
        for event in events {
            match event {
                NetEvent::IdAssigned(id) => self.own = Some(id),
                NetEvent::DirectOpened(peer) => self.opened.push(peer),
                NetEvent::DirectClosed(peer) => self.closed.push(peer),
                _ => {}
            }
        }
        let received = &mut self.received;
        self.network.receive(self.clock.now(), &mut |datagram| {
            if datagram.path == Path::Direct {
                received.push(datagram.bytes.to_vec());
            }
        });
    }

    fn send(&mut self, to: PeerId, bytes: &[u8]) {
        let sent = self
            .network
            .send(Path::Direct, to, DatagramKind::Probe, bytes);
        assert!(sent.is_ok());
    }
}

/// Polls both until `done`.
fn poll_until(members: &mut [Member; 2], what: &str, done: impl Fn(&[Member; 2]) -> bool) {
    let until = Instant::now() + LIMIT;
    while !done(members) {
        assert!(Instant::now() < until, "{what}: not within {LIMIT:?}");
        members.iter_mut().for_each(Member::poll);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A datagram in each direction arrives.
fn assert_delivers(members: &mut [Member; 2], ids: [PeerId; 2], number: u8) {
    let delivered = |members: &[Member; 2]| {
        let came = |member: &Member| member.received.contains(&vec![number]);
        members.iter().all(came)
    };
    let until = Instant::now() + LIMIT;
    while !delivered(members) {
        assert!(Instant::now() < until, "datagram {number} did not arrive");
        for (member, to) in members.iter_mut().zip([ids[1], ids[0]]) {
            member.send(to, &[number]);
            member.poll();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn either_peer_or_both_negotiate_another_data_channel_again_and_again() {
    let server = server();
    let mut members = [server.url(), server.url()].map(|url| Member::join(&url));
    let open = |times: usize| {
        move |members: &[Member; 2]| members.iter().all(|member| member.opened.len() >= times)
    };
    poll_until(&mut members, "the first data channel", open(1));
    let ids = members.each_ref().map(|member| member.own.unwrap());
    assert_delivers(&mut members, ids, 0);
    for (round, begins) in [(1, [true, false]), (2, [false, true]), (3, [true, true])] {
        for (index, member) in members.iter_mut().enumerate() {
            if begins[index] {
                member.network.renegotiate(ids[1 - index]);
            }
        }
        let what = format!("round {round}, begun by {begins:?}");
        poll_until(&mut members, &what, open(round + 1));
        assert_delivers(&mut members, ids, u8::try_from(round).unwrap());
        // The replaced one is closed by then, and an attempt that a peer asks for may begin.
        let until = Instant::now() + Duration::from_millis(2_500);
        poll_until(&mut members, &what, |_| Instant::now() > until);
        assert_delivers(&mut members, ids, 10 + u8::try_from(round).unwrap());
    }
    for (index, member) in members.iter().enumerate() {
        assert_eq!(member.opened, [ids[1 - index]; 4], "one in each round");
        assert_eq!(member.closed, [], "one that was replaced is no loss");
    }
    server.shutdown();
}

#[test]
fn a_peer_that_knows_of_fewer_attempts_is_heard_when_it_asks_for_one() {
    let server = server();
    let mut members = [server.url(), server.url()].map(|url| Member::join(&url));
    poll_until(&mut members, "the first data channel", |members| {
        members.iter().all(|member| !member.opened.is_empty())
    });
    let ids = members.each_ref().map(|member| member.own.unwrap());
    let offers = usize::from(ids[1] < ids[0]);
    // The other one takes up the first of them alone: the rest follows within a second.
    for _ in 0..4 {
        members[offers].network.renegotiate(ids[1 - offers]);
        let until = Instant::now() + Duration::from_millis(150);
        poll_until(&mut members, "an offer", |_| Instant::now() > until);
    }
    let until = Instant::now() + Duration::from_millis(2_500);
    poll_until(&mut members, "the attempts", |_| Instant::now() > until);
    let before = members.each_ref().map(|member| member.opened.len());
    members[1 - offers].network.renegotiate(ids[offers]);
    poll_until(&mut members, "the one that was asked for", |members| {
        let opened = members.iter().zip(before);
        opened
            .map(|(member, before)| member.opened.len() - before)
            .all(|more| more == 1)
    });
    assert_delivers(&mut members, ids, 1);
    server.shutdown();
}

#[test]
fn a_data_channel_that_its_peer_closes_is_reported() {
    let server = server();
    let [mut stays, leaves] = [server.url(), server.url()].map(|url| Member::join(&url));
    let mut members = [stays, leaves];
    poll_until(&mut members, "the first data channel", |members| {
        members.iter().all(|member| !member.opened.is_empty())
    });
    let ids = members.each_ref().map(|member| member.own.unwrap());
    members[0].network.renegotiate(ids[1]);
    members[1].network.renegotiate(ids[0]);
    poll_until(&mut members, "the second one", |members| {
        members.iter().all(|member| member.opened.len() == 2)
    });
    assert_delivers(&mut members, ids, 1);
    members[1].network.close();
    [stays, _] = members;
    let until = Instant::now() + LIMIT;
    while stays.closed.is_empty() {
        assert!(Instant::now() < until, "not reported within {LIMIT:?}");
        stays.poll();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(stays.closed, [ids[1]]);
    server.shutdown();
}
