//! Data channels that replace a lost one. matchbox negotiates with a peer once per socket, and answers
//! no second offer, so that every attempt is a socket of its own, for one peer. Its signals carry its
//! number; those of the first socket carry none, and are matchbox's own.
//!
//! The peer with the smaller id makes the offers, and the other one asks for them.

use std::collections::HashMap;
use std::task::{Context, Poll};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{
    ChannelConfig, Packet, PeerEvent, PeerId, PeerSignal, PeerState, RtcIceServerConfig,
    WebRtcSocket, WebRtcSocketBuilder,
};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};

use super::CHANNEL;
use super::message_loops::MessageLoops;
use crate::transport::network::NetEvent;
use crate::transport::websocket::{AttemptSignal, ServerConnection};

/// How long an attempt may take: browsers have ended ICE checks by then. Earlier ones are not given up for
/// it, because ICE may be slow; and on a page matchbox 0.15 panics when the data channel of a socket opens
/// that was dropped before (`channel_open` in `webrtc_socket/wasm.rs`).
const OPENS_WITHIN: Duration = Duration::from_secs(30);
/// How long a replaced data channel is kept: what was sent on it is in flight.
const REPLACED_FOR: Duration = Duration::from_secs(2);
/// Least time between two attempts that a peer asks for: an attempt costs a handshake.
const APART: Duration = Duration::from_secs(1);

/// One socket for one peer.
struct Attempt {
    peer: PeerId,
    number: u32,
    socket: WebRtcSocket,
    to_matchbox: UnboundedSender<PeerEvent>,
    began: Duration,
    open: bool,
    /// When a newer data channel to the peer opened.
    replaced: Option<Duration>,
}

/// The attempts to all peers.
pub(super) struct Renegotiation {
    ice: RtcIceServerConfig,
    own: Option<PeerId>,
    attempts: Vec<Attempt>,
    /// The newest attempt with each peer, and when it began.
    newest: HashMap<PeerId, (u32, Duration)>,
}

impl Renegotiation {
    pub(super) fn new(ice: RtcIceServerConfig) -> Self {
        Self {
            ice,
            own: None,
            attempts: Vec::new(),
            newest: HashMap::new(),
        }
    }

    pub(super) const fn set_own_id(&mut self, own: PeerId) {
        self.own = Some(own);
    }

    /// Negotiates another data channel with `peer`, or asks it to.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        peer: PeerId,
        server: &ServerConnection,
        loops: &mut MessageLoops,
    ) {
        let Some(own) = self.own else { return };
        let number = self.number(peer).saturating_add(1);
        bevy::log::info!("nothing comes from {peer} directly: attempt {number} to renegotiate");
        if own < peer {
            self.start(now, peer, number, server, loops);
        } else {
            server.ask_for_attempt(peer, number);
        }
    }

    /// Takes in a signal of an attempt.
    pub(super) fn take(
        &mut self,
        now: Duration,
        peer: PeerId,
        received: AttemptSignal,
        server: &ServerConnection,
        loops: &mut MessageLoops,
    ) {
        let Some(own) = self.own else { return };
        let AttemptSignal { attempt, signal } = received;
        let newer = attempt > self.number(peer);
        let begins = match &signal {
            // The peer may know of fewer attempts than this one made.
            None if own < peer => Some(attempt.max(self.number(peer).saturating_add(1))),
            Some(PeerSignal::Offer(_)) if peer < own && newer => Some(attempt),
            _ => None,
        };
        let newest = self.newest.get(&peer);
        let apart = newest.is_none_or(|&(_, at)| now >= at + APART);
        if let Some(number) = begins.filter(|_| apart) {
            self.start(now, peer, number, server, loops);
        }
        let of = |known: &&Attempt| known.peer == peer && known.number == attempt;
        if let (Some(data), Some(known)) = (signal, self.attempts.iter().find(of)) {
            let signal = PeerEvent::Signal { sender: peer, data };
            // Its message loop has ended.
            let _ = known.to_matchbox.unbounded_send(signal);
        }
    }

    fn number(&self, peer: PeerId) -> u32 {
        self.newest.get(&peer).map_or(0, |&(number, _)| number)
    }

    fn start(
        &mut self,
        now: Duration,
        peer: PeerId,
        number: u32,
        server: &ServerConnection,
        loops: &mut MessageLoops,
    ) {
        let Some(own) = self.own else { return };
        self.newest.insert(peer, (number, now));
        let (to_matchbox, from_server) = unbounded();
        let mut first = vec![PeerEvent::IdAssigned(own)];
        if own < peer {
            first.push(PeerEvent::NewPeer(peer));
        }
        for event in first {
            let _ = to_matchbox.unbounded_send(event);
        }
        let (socket, message_loop) = WebRtcSocketBuilder::new("")
            .ice_server(self.ice.clone())
            .signaller_builder(server.attempt_signaller(number, from_server))
            .add_channel(ChannelConfig::unreliable())
            .build();
        loops.add(message_loop);
        self.attempts.push(Attempt {
            peer,
            number,
            socket,
            to_matchbox,
            began: now,
            open: false,
            replaced: None,
        });
    }

    /// The newest open data channel to `peer` that is not the first one.
    fn current(&mut self, peer: PeerId) -> Option<&mut Attempt> {
        let open = |attempt: &&mut Attempt| attempt.peer == peer && attempt.open;
        self.attempts.iter_mut().rev().find(open)
    }

    /// Whether a data channel negotiated anew is open to `peer`.
    pub(super) fn is_open(&mut self, peer: PeerId) -> bool {
        self.current(peer).is_some()
    }

    /// The socket to send to `peer` on, if it is not the first one.
    pub(super) fn socket(&mut self, peer: PeerId) -> Option<&mut WebRtcSocket> {
        self.current(peer).map(|attempt| &mut attempt.socket)
    }

    /// Appends which data channels opened and closed.
    pub(super) fn poll_events(&mut self, now: Duration, events: &mut Vec<NetEvent>) {
        let mut index = 0;
        while let Some(attempt) = self.attempts.get_mut(index) {
            let (peer, number) = (attempt.peer, attempt.number);
            // A closed socket has no more changes.
            let changes = attempt.socket.try_update_peers();
            let closed = changes.as_ref().map_or(true, |changes| {
                changes
                    .last()
                    .is_some_and(|(_, state)| *state == PeerState::Disconnected)
            });
            let opened = |(_, state): &(PeerId, PeerState)| *state == PeerState::Connected;
            if changes.unwrap_or_default().iter().any(opened) {
                attempt.open = true;
                let (earlier, rest) = self.attempts.split_at_mut(index);
                let newer = |other: &Attempt| other.peer == peer && other.open;
                if rest[1..].iter().any(newer) {
                    rest[0].replaced = Some(now);
                } else {
                    bevy::log::info!("another data channel to {peer} is open, by attempt {number}");
                    events.push(NetEvent::DirectOpened(peer));
                    for older in earlier.iter_mut().filter(|other| other.peer == peer) {
                        older.replaced.get_or_insert(now);
                    }
                }
            }
            let attempt = &self.attempts[index];
            let over = if attempt.open {
                attempt.replaced.is_some_and(|at| now >= at + REPLACED_FOR)
            } else {
                now >= attempt.began + OPENS_WITHIN
            };
            if closed || over {
                let mut gone = self.attempts.remove(index);
                gone.socket.close();
                if closed && gone.open && gone.replaced.is_none() {
                    events.push(NetEvent::DirectClosed(peer));
                }
            } else {
                index += 1;
            }
        }
    }

    /// Hands what came on the channels to `take`, and wakes the task of `context` when more comes.
    pub(super) fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        mut take: impl FnMut(PeerId, Packet),
    ) {
        for attempt in &mut self.attempts {
            let channel = attempt.socket.channel_mut(CHANNEL);
            while let Poll::Ready(Some((from, datagram))) = channel.poll_next_unpin(context) {
                take(from, datagram);
            }
        }
    }

    /// Takes what came on the channels.
    pub(super) fn receive(&mut self) -> impl Iterator<Item = (PeerId, Packet)> + '_ {
        self.attempts
            .iter_mut()
            .flat_map(|attempt| attempt.socket.channel_mut(CHANNEL).receive())
    }

    pub(super) fn close(&mut self) {
        for mut attempt in self.attempts.drain(..) {
            // See `OPENS_WITHIN`: the page outlives its session.
            if cfg!(target_arch = "wasm32") && !attempt.open {
                std::mem::forget(attempt);
            } else {
                attempt.socket.close();
            }
        }
    }
}
