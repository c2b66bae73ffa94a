//! Unmodified `matchbox_socket` clients meet through the server.

use crate::support::{TIMEOUT, run, server, within};
use futures::StreamExt;
use futures::future::{Either, select};
use matchbox_socket::{
    MessageLoopFuture, PeerId, PeerState, RtcIceServerConfig, WebRtcChannel, WebRtcSocket,
    WebRtcSocketBuilder,
};
use rollback_lab_server::LabServer;

fn stock(server: &LabServer, room: &str) -> (WebRtcSocket, MessageLoopFuture) {
    WebRtcSocketBuilder::new(format!("{}/{room}", server.url()))
        .ice_server(RtcIceServerConfig {
            urls: Vec::new(),
            ..RtcIceServerConfig::default()
        })
        .add_unreliable_channel()
        .build()
}

/// The next peer that gets into the state.
async fn peer(socket: &mut WebRtcSocket, wanted: PeerState) -> PeerId {
    loop {
        let (peer, state) = socket.next().await.expect("the message loop runs");
        if state == wanted {
            return peer;
        }
    }
}

async fn packet(channel: &mut WebRtcChannel) -> (PeerId, Vec<u8>) {
    let (peer, packet) = channel.next().await.expect("the message loop runs");
    (peer, packet.to_vec())
}

/// Drives the message loops as long as the test runs; none of them may end before it.
async fn driven(loops: Vec<MessageLoopFuture>, test: impl Future<Output = ()>) {
    let ended = futures::future::select_all(loops);
    match select(std::pin::pin!(test), ended).await {
        Either::Left(_) => {}
        Either::Right(((result, ..), _)) => panic!("a message loop ended: {result:?}"),
    }
}

#[test]
fn two_stock_clients_exchange_packets_on_a_data_channel() {
    run(async {
        let server = server();
        let (mut a, loop_a) = stock(&server, "stock?next=2");
        let (mut b, loop_b) = stock(&server, "stock?next=2");
        driven(vec![loop_a, loop_b], async {
            let b_at_a = within(TIMEOUT, "a's peer", peer(&mut a, PeerState::Connected)).await;
            let a_at_b = within(TIMEOUT, "b's peer", peer(&mut b, PeerState::Connected)).await;
            assert_eq!(a.id(), Some(a_at_b), "b knows a by the id the server gave");
            assert_eq!(b.id(), Some(b_at_a), "a knows b by the id the server gave");
            let mut a = a.take_channel(0).expect("the only channel");
            let mut b = b.take_channel(0).expect("the only channel");
            a.send(b"ping".as_slice().into(), b_at_a);
            let at_b = within(TIMEOUT, "b's packet", packet(&mut b)).await;
            assert_eq!(at_b, (a_at_b, b"ping".to_vec()));
            b.send(b"pong".as_slice().into(), a_at_b);
            let at_a = within(TIMEOUT, "a's packet", packet(&mut a)).await;
            assert_eq!(at_a, (b_at_a, b"pong".to_vec()));
        })
        .await;
    });
}

#[test]
fn a_stock_client_learns_that_its_peer_left() {
    run(async {
        let server = server();
        let (mut a, loop_a) = stock(&server, "stock");
        let (b, mut loop_b) = stock(&server, "stock");
        driven(vec![loop_a], async {
            let gone = {
                let connected = std::pin::pin!(peer(&mut a, PeerState::Connected));
                match select(connected, &mut loop_b).await {
                    Either::Left((peer, _)) => peer,
                    Either::Right((result, _)) => panic!("b's message loop ended: {result:?}"),
                }
            };
            drop((b, loop_b));
            let left = within(TIMEOUT, "the leave", peer(&mut a, PeerState::Disconnected));
            assert_eq!(left.await, gone);
        })
        .await;
    });
}
