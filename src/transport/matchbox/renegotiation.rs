//! Data channels that replace a lost one. matchbox negotiates with a peer once per socket, and answers
//! no second offer, so that every attempt is a socket of its own, for one peer. Its signals carry its
//! number; those of the first socket carry none, and are matchbox's own.
//!
//! The peer with the smaller id makes the offers, and the other one asks for them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use bevy_matchbox::matchbox_socket::{
    ChannelConfig, Packet, PeerEvent, PeerId, PeerRequest, PeerSignal, PeerState,
    RtcIceServerConfig, SignalingError, Signaller, SignallerBuilder, WebRtcSocket,
    WebRtcSocketBuilder, async_trait::async_trait,
};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use super::CHANNEL;
use super::message_loops::MessageLoops;
use crate::transport::network::NetEvent;
use crate::transport::websocket::{AttemptSignal, ServerConnection};

/// How long an attempt may take. Browsers end ICE checks after about 15 s.
const OPENS_WITHIN: Duration = Duration::from_secs(15);
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
            server.send_attempt_signal(peer, number, None);
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
        let begins = match &signal {
            None => own < peer,
            Some(PeerSignal::Offer(_)) => peer < own,
            Some(_) => false,
        };
        let apart = self
            .newest
            .get(&peer)
            .is_none_or(|&(_, at)| now >= at + APART);
        if begins && attempt > self.number(peer) && apart {
            self.start(now, peer, attempt, server, loops);
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
        // An attempt that has not opened gives way.
        self.attempts
            .retain(|attempt| attempt.peer != peer || attempt.open);
        let (to_matchbox, from_server) = unbounded();
        let mut first = vec![PeerEvent::IdAssigned(own)];
        if own < peer {
            first.push(PeerEvent::NewPeer(peer));
        }
        for event in first {
            let _ = to_matchbox.unbounded_send(event);
        }
        let signaller = AttemptSignallerBuilder {
            events: Mutex::new(Some(from_server)),
            server: server.clone(),
            number,
        };
        let (socket, message_loop) = WebRtcSocketBuilder::new("")
            .ice_server(self.ice.clone())
            .signaller_builder(Arc::new(signaller))
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
            let peer = attempt.peer;
            // A closed socket has no more changes.
            let changes = attempt.socket.try_update_peers();
            let ended = changes.is_err();
            let mut closed = ended;
            for (_, state) in changes.unwrap_or_default() {
                if state == PeerState::Connected {
                    attempt.open = true;
                    let number = attempt.number;
                    bevy::log::info!("another data channel to {peer} is open, by attempt {number}");
                    events.push(NetEvent::DirectOpened(peer));
                    for older in self.attempts[..index].iter_mut() {
                        if older.peer == peer {
                            older.replaced.get_or_insert(now);
                        }
                    }
                    break;
                }
                closed = true;
            }
            let attempt = &self.attempts[index];
            let late = !attempt.open && now >= attempt.began + OPENS_WITHIN;
            let replaced = attempt.replaced.is_some_and(|at| now >= at + REPLACED_FOR);
            if closed || late || replaced {
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

    /// Moves what came on the channels to `direct`, stamped with `now`, and wakes the task of `context`
    /// when more comes.
    pub(super) fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        mut take: impl FnMut(PeerId, Packet),
    ) {
        for attempt in &mut self.attempts {
            let channel = attempt.socket.channel_mut(CHANNEL);
            while let std::task::Poll::Ready(Some((from, datagram))) =
                channel.poll_next_unpin(context)
            {
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
            attempt.socket.close();
        }
    }
}

/// Builds the one signaller of an attempt.
struct AttemptSignallerBuilder {
    events: Mutex<Option<UnboundedReceiver<PeerEvent>>>,
    server: ServerConnection,
    number: u32,
}

impl fmt::Debug for AttemptSignallerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptSignallerBuilder")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait(?Send))]
impl SignallerBuilder for AttemptSignallerBuilder {
    /// The server connection exists; matchbox's address and attempts are ignored.
    async fn new_signaller(
        &self,
        _attempts: Option<u16>,
        _room_url: String,
    ) -> Result<Box<dyn Signaller>, SignalingError> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(events) = events.take() else {
            return Err(SignalingError::UserImplementationError(
                "an attempt has one matchbox socket".into(),
            ));
        };
        Ok(Box::new(AttemptSignaller {
            events,
            server: self.server.clone(),
            number: self.number,
        }))
    }
}

struct AttemptSignaller {
    events: UnboundedReceiver<PeerEvent>,
    server: ServerConnection,
    number: u32,
}

#[cfg_attr(not(target_arch = "wasm32"), async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait(?Send))]
impl Signaller for AttemptSignaller {
    async fn send(&mut self, request: PeerRequest) -> Result<(), SignalingError> {
        if let PeerRequest::Signal { receiver, data } = request {
            self.server
                .send_attempt_signal(receiver, self.number, Some(data));
        }
        Ok(())
    }

    /// Taking from a channel is safe to cancel, which matchbox's signaling loop does at will.
    async fn next_message(&mut self) -> Result<PeerEvent, SignalingError> {
        match self.events.next().await {
            Some(event) => Ok(event),
            None => futures::future::pending().await,
        }
    }
}
