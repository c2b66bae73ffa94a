//! Unmodified `matchbox_socket` clients meet through our server.

use std::time::Duration;

use crate::support::{PATIENCE, run, server, within};
use futures::future::{Either, select};
use futures_timer::Delay;
use matchbox_socket::{
    MessageLoopFuture, PeerId, PeerState, RtcIceServerConfig, WebRtcSocket, WebRtcSocketBuilder,
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

/// Updates the socket until that many peers are in the state.
async fn peers(socket: &mut WebRtcSocket, wanted: PeerState) -> PeerId {
    loop {
        for (peer, state) in socket.update_peers() {
            if state == wanted {
                return peer;
            }
        }
        Delay::new(Duration::from_millis(10)).await;
    }
}

async fn packet(socket: &mut WebRtcSocket) -> (PeerId, Vec<u8>) {
    loop {
        if let Some((peer, bytes)) = socket.channel_mut(0).receive().pop() {
            return (peer, bytes.to_vec());
        }
        Delay::new(Duration::from_millis(10)).await;
    }
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
            let b_at_a = within(PATIENCE, "a's peer", peers(&mut a, PeerState::Connected)).await;
            let a_at_b = within(PATIENCE, "b's peer", peers(&mut b, PeerState::Connected)).await;
            assert_eq!(a.id(), Some(a_at_b), "b knows a by the id the server gave");
            assert_eq!(b.id(), Some(b_at_a), "a knows b by the id the server gave");
            a.channel_mut(0).send(b"ping".as_slice().into(), b_at_a);
            let at_b = within(PATIENCE, "b's packet", packet(&mut b)).await;
            assert_eq!(at_b, (a_at_b, b"ping".to_vec()));
            b.channel_mut(0).send(b"pong".as_slice().into(), a_at_b);
            let at_a = within(PATIENCE, "a's packet", packet(&mut a)).await;
            assert_eq!(at_a, (b_at_a, b"pong".to_vec()));
        })
        .await;
    });
}

#[test]
fn a_stock_client_hears_that_its_peer_left() {
    run(async {
        let server = server();
        let (mut a, loop_a) = stock(&server, "stock");
        let (b, loop_b) = stock(&server, "stock");
        driven(vec![loop_a], async {
            let mut loop_b = loop_b;
            let gone = {
                let connected = std::pin::pin!(peers(&mut a, PeerState::Connected));
                match select(connected, &mut loop_b).await {
                    Either::Left((peer, _)) => peer,
                    Either::Right((result, _)) => panic!("b's message loop ended: {result:?}"),
                }
            };
            drop((b, loop_b));
            let left = within(
                PATIENCE,
                "the leave",
                peers(&mut a, PeerState::Disconnected),
            );
            assert_eq!(left.await, gone);
        })
        .await;
    });
}
