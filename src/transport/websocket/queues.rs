//! The queues around the websocket's task, every one of them bounded.
//!
//! The websocket's driver takes from [`Shared::next_outgoing`] and gives to [`Shared::on_text`] and
//! [`Shared::on_binary`]; the game and matchbox's signaller use the other methods.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bevy_matchbox::matchbox_socket::{PeerEvent, PeerId, PeerRequest, PeerSignal};
use futures::{
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    future::poll_fn,
    task::AtomicWaker,
};

use serde::{Deserialize, Serialize};

use rollback_lab_link::wire::{
    clock::{ClockAnswer, ClockDatagram, MAX_CLOCK},
    relay::{
        MAX_FRAME_LEN, ResumeToken, Roster, ServerFrame, decode_server, encode_forward,
        encode_probe, encode_running,
    },
    wrap_micros,
};

use super::{Outage, RelaySendError, RelayedPacket, ServerEvent, ServerStats, Urgency};
use crate::clock::LabClock;

/// Game packets that may wait for the websocket: a second of one peer's at 60 Hz. What is
/// older is in the newer ones, since every input packet carries all unacknowledged inputs.
const MAX_GAME_OUT: usize = 64;
/// Control packets that may wait: two windows of the control channel to each of 3 peers.
const MAX_CONTROL_OUT: usize = 96;
/// Questions about clocks and answers to them that may wait: one of each a second and peer.
const MAX_CLOCKS_OUT: usize = 16;
/// Signals that may wait; a full handshake with one peer takes about 20.
const MAX_SIGNALS_OUT: usize = 1_024;
/// Relayed packets, and events, that may wait for a game that does not read them: 4 seconds of 4
/// players.
const MAX_IN: usize = 1_024;

/// Signals of attempts to negotiate another data channel that may wait for the network task: it takes them
/// within milliseconds, and a handshake has about 20.
const MAX_ATTEMPT_SIGNALS: usize = 256;

/// Outages that are counted one by one; of more the oldest is dropped.
const MAX_OUTAGES: usize = 256;

/// What the websocket sends next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OutFrame {
    Text(String),
    Binary(Vec<u8>),
    Close,
}

/// A signal of an attempt to negotiate another data channel with a peer, in the place of matchbox's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::transport) struct AttemptSignal {
    /// Numbered from 1, by the peer that makes the offers.
    pub(in crate::transport) attempt: u32,
    /// `None` asks that peer to begin.
    pub(in crate::transport) signal: Option<PeerSignal>,
}

/// matchbox's `PeerRequest` with such a signal.
#[derive(Serialize)]
enum AttemptRequest {
    Signal {
        receiver: PeerId,
        data: AttemptSignal,
    },
}

/// matchbox's `PeerEvent` with such a signal.
#[derive(Deserialize)]
enum AttemptEvent {
    Signal { sender: PeerId, data: AttemptSignal },
}

/// Everything that the game, the signaller and the websocket's task share.
#[derive(Debug)]
pub(crate) struct Shared {
    inner: Mutex<Inner>,
    outgoing: AtomicWaker,
    /// The reader of events and relayed packets.
    incoming: AtomicWaker,
}

#[derive(Debug)]
struct Inner {
    events: VecDeque<ServerEvent>,
    relayed: VecDeque<RelayedPacket>,
    signals: VecDeque<String>,
    attempt_signals: VecDeque<(PeerId, AttemptSignal)>,
    control: VecDeque<Vec<u8>>,
    game: VecDeque<Vec<u8>>,
    clocks: VecDeque<ClockOut>,
    to_matchbox: UnboundedSender<PeerEvent>,
    from_server: Option<UnboundedReceiver<PeerEvent>>,
    id_assigned: bool,
    binary_seen: bool,
    relay: bool,
    closing: bool,
    ended: bool,
    /// What takes the membership up again, from a server that can.
    token: Option<ResumeToken>,
    /// The websocket is lost; the newest outage in `stats` is the one.
    lost: bool,
    resume_attempts: u32,
    probe: bool,
    probes: u32,
    /// Whether the game's match runs, and what the server knows of it.
    running: bool,
    running_sent: Option<bool>,
    stats: ServerStats,
}

impl Default for Shared {
    fn default() -> Self {
        let (to_matchbox, from_server) = unbounded();
        Self {
            inner: Mutex::new(Inner {
                events: VecDeque::new(),
                relayed: VecDeque::new(),
                signals: VecDeque::new(),
                attempt_signals: VecDeque::new(),
                control: VecDeque::new(),
                game: VecDeque::new(),
                clocks: VecDeque::new(),
                to_matchbox,
                from_server: Some(from_server),
                id_assigned: false,
                binary_seen: false,
                relay: false,
                closing: false,
                ended: false,
                token: None,
                lost: false,
                resume_attempts: 0,
                probe: false,
                probes: 0,
                running: false,
                running_sent: None,
                stats: ServerStats::default(),
            }),
            outgoing: AtomicWaker::new(),
            incoming: AtomicWaker::new(),
        }
    }
}

/// A datagram of the clock exchange that is stamped when the websocket takes it.
#[derive(Clone, Copy, Debug)]
struct ClockOut {
    destination: u8,
    /// The question that it answers, and when that was read; `None` of a question.
    answers: Option<(u32, Duration)>,
}

/// What the reader of the websocket should know about a text message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextSeen {
    FirstId,
    Other,
}

impl Shared {
    // ---- the game's side ----

    pub(super) fn next_event(&self) -> Option<ServerEvent> {
        self.lock().events.pop_front()
    }

    pub(super) fn next_relayed(&self) -> Option<RelayedPacket> {
        self.lock().relayed.pop_front()
    }

    pub(super) fn relayed_len(&self) -> usize {
        self.lock().relayed.len()
    }

    pub(super) fn poll_incoming(&self, context: &mut Context<'_>) -> Poll<()> {
        self.incoming.register(context.waker());
        let inner = self.lock();
        if inner.events.is_empty() && inner.relayed.is_empty() && inner.attempt_signals.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    pub(super) fn stats(&self) -> ServerStats {
        self.lock().stats.clone()
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.outgoing.wake();
    }

    pub(super) fn queue_relay(&self, frame: &[u8], urgency: Urgency) -> Result<(), RelaySendError> {
        let inner = &mut *self.lock();
        if inner.ended || inner.closing {
            return Err(RelaySendError::Ended);
        }
        if inner.lost {
            return Err(RelaySendError::Lost);
        }
        if !inner.relay {
            return Err(RelaySendError::NoRelay);
        }
        let (queue, max) = match urgency {
            Urgency::Game => (&mut inner.game, MAX_GAME_OUT),
            Urgency::Control => (&mut inner.control, MAX_CONTROL_OUT),
        };
        if queue.len() >= max {
            queue.pop_front();
            inner.stats.relay_send_dropped += 1;
        }
        queue.push_back(frame.to_vec());
        self.outgoing.wake();
        Ok(())
    }

    /// Queues a question for the clock of the member in slot `destination`.
    pub(super) fn ask_clock(&self, destination: u8) {
        let inner = &mut *self.lock();
        if inner.relay && !inner.closing {
            inner.push_clock(ClockOut {
                destination,
                answers: None,
            });
            self.outgoing.wake();
        }
    }

    /// Reports to the server, now and after every resumption, whether the game's match runs.
    pub(super) fn set_running(&self, running: bool) {
        self.lock().running = running;
        self.outgoing.wake();
    }

    // ---- the signaller's side ----

    /// The events for matchbox; there is one receiver.
    pub(crate) fn take_signals(&self) -> Option<UnboundedReceiver<PeerEvent>> {
        self.lock().from_server.take()
    }

    /// Queues a signal; without a connection it goes nowhere, as any lost signal would.
    pub(crate) fn queue_signal(&self, request: &PeerRequest) {
        self.queue_text(request);
    }

    /// The same for a signal of an attempt.
    pub(crate) fn queue_attempt_signal(
        &self,
        receiver: PeerId,
        attempt: u32,
        signal: Option<PeerSignal>,
    ) {
        let data = AttemptSignal { attempt, signal };
        self.queue_text(&AttemptRequest::Signal { receiver, data });
    }

    fn queue_text(&self, request: &impl Serialize) {
        let Ok(text) = serde_json::to_string(request) else {
            return;
        };
        let inner = &mut *self.lock();
        if !inner.ended && inner.signals.len() < MAX_SIGNALS_OUT {
            inner.signals.push_back(text);
            self.outgoing.wake();
        }
    }

    pub(super) fn next_attempt_signal(&self) -> Option<(PeerId, AttemptSignal)> {
        self.lock().attempt_signals.pop_front()
    }

    // ---- the websocket's side ----

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Waits for the next frame to send: clocks, signals, control, then game packets.
    pub(super) async fn next_outgoing(&self, clock: &LabClock) -> OutFrame {
        poll_fn(|cx| {
            self.outgoing.register(cx.waker());
            self.lock()
                .pop_outgoing(clock)
                .map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits until the game has let go of the connection.
    pub(super) async fn closing(&self) {
        poll_fn(|cx| {
            self.outgoing.register(cx.waker());
            if self.is_closing() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// What takes the membership up again; `None` of a server that cannot resume.
    pub(super) fn token(&self) -> Option<ResumeToken> {
        self.lock().token
    }

    /// Queues a question whether the server is there.
    pub(super) fn probe(&self) {
        self.lock().probe = true;
        self.outgoing.wake();
    }

    /// Numbers the attempts of this connection to resume.
    pub(super) fn next_resume_attempt(&self) -> u32 {
        let inner = &mut *self.lock();
        inner.resume_attempts += 1;
        inner.resume_attempts
    }

    /// An attempt to reconnect begins.
    pub(super) fn record_attempt(&self, now: Duration) {
        if let Some(outage) = self.lock().stats.outages.last_mut() {
            outage.attempts += 1;
            outage.first_attempt_at.get_or_insert(now);
        }
    }

    /// The websocket is lost, and is reconnected. Packets that wait for it are dropped, being old when it
    /// is back; signals wait, because nothing repeats them.
    pub(super) fn lose(&self, reason: String, now: Duration) {
        let inner = &mut *self.lock();
        inner.lost = true;
        inner.relay = false;
        inner.probe = false;
        inner.running_sent = None;
        inner.drop_packets();
        if inner.stats.outages.len() >= MAX_OUTAGES {
            inner.stats.outages.remove(0);
        }
        inner.stats.outages.push(Outage {
            lost_at: now,
            attempts: 0,
            first_attempt_at: None,
            resumed_at: None,
        });
        inner.push_event(ServerEvent::Lost {
            reason,
            reconnecting: true,
        });
        self.incoming.wake();
    }

    pub(super) fn emit(&self, event: ServerEvent) {
        self.lock().push_event(event);
        self.incoming.wake();
    }

    /// Emits how the connection ended. Nothing is queued for sending from then on.
    pub(super) fn end(&self, event: ServerEvent) {
        let inner = &mut *self.lock();
        inner.ended = true;
        inner.relay = false;
        inner.signals.clear();
        inner.drop_packets();
        inner.push_event(event);
        self.incoming.wake();
    }

    /// Reports a stock server, unless a binary frame has shown that it is none.
    pub(super) fn relay_wait_over(&self) {
        let inner = &mut *self.lock();
        if !inner.binary_seen {
            inner.push_event(ServerEvent::NoRelay);
            self.incoming.wake();
        }
    }

    pub(super) fn on_text(&self, text: &str) -> TextSeen {
        let inner = &mut *self.lock();
        let Ok(event) = serde_json::from_str::<PeerEvent>(text) else {
            match serde_json::from_str(text) {
                Ok(AttemptEvent::Signal { sender, data })
                    if inner.attempt_signals.len() < MAX_ATTEMPT_SIGNALS =>
                {
                    inner.attempt_signals.push_back((sender, data));
                    self.incoming.wake();
                }
                _ => inner.stats.unknown_text += 1,
            }
            return TextSeen::Other;
        };
        if let PeerEvent::IdAssigned(id) = &event {
            // A second one panics matchbox's message loop.
            if inner.id_assigned {
                return TextSeen::Other;
            }
            inner.id_assigned = true;
            let id = *id;
            inner.push_event(ServerEvent::IdAssigned(id));
            self.incoming.wake();
            // The socket may be gone while the relay is still in use.
            let _ = inner.to_matchbox.unbounded_send(event);
            return TextSeen::FirstId;
        }
        let _ = inner.to_matchbox.unbounded_send(event);
        TextSeen::Other
    }

    /// Returns the token that is to be kept, if this frame brought one.
    pub(super) fn on_binary(&self, bytes: &[u8], received_at: Duration) -> Option<ResumeToken> {
        let inner = &mut *self.lock();
        let event = match decode_server(bytes) {
            Ok(ServerFrame::Forwarded { source, payload }) => {
                match ClockDatagram::decode(payload) {
                    Some(ClockDatagram::Ask { asked }) => {
                        inner.push_clock(ClockOut {
                            destination: source,
                            answers: Some((asked, received_at)),
                        });
                        self.outgoing.wake();
                        return None;
                    }
                    Some(ClockDatagram::Answer(answer)) => ServerEvent::ClockAnswered {
                        source,
                        answer,
                        received_at,
                    },
                    None => {
                        inner.binary_seen = true;
                        inner.push_relayed(RelayedPacket {
                            source,
                            payload: payload.to_vec(),
                            received_at,
                        });
                        self.incoming.wake();
                        return None;
                    }
                }
            }
            Ok(ServerFrame::Welcome(roster)) => {
                inner.binary_seen = true;
                inner.welcome(roster, received_at);
                self.outgoing.wake();
                return None;
            }
            Ok(ServerFrame::Token(token)) => {
                inner.token = Some(token);
                return Some(token);
            }
            // The websocket lives; its reader has noticed.
            Ok(ServerFrame::ProbeAnswer { .. }) => return None,
            Ok(ServerFrame::Roster(roster)) => ServerEvent::Roster(roster),
            Ok(ServerFrame::Notice(notice)) => ServerEvent::Notice(notice),
            Err(error) => {
                *inner.stats.malformed.entry(error.reason()).or_default() += 1;
                return None;
            }
        };
        inner.binary_seen = true;
        inner.push_event(event);
        self.incoming.wake();
        None
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is complete in itself, so a panic elsewhere spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push_clock(&mut self, out: ClockOut) {
        if self.clocks.len() < MAX_CLOCKS_OUT {
            self.clocks.push_back(out);
        }
    }

    fn drop_packets(&mut self) {
        self.control.clear();
        self.game.clear();
        self.clocks.clear();
    }

    /// The server has let this peer in, or back in.
    fn welcome(&mut self, roster: Roster, received_at: Duration) {
        self.relay = true;
        if !self.id_assigned {
            // A reload resumes with the id of the page before it, which the server does not repeat.
            let own = roster.members.iter().find(|m| m.slot == roster.slot);
            let id = own.map(|member| PeerId(uuid::Uuid::from_bytes(member.peer)));
            if let Some(id) = id {
                self.id_assigned = true;
                self.push_event(ServerEvent::IdAssigned(id));
                // The socket may be gone while the relay is still in use.
                let _ = self.to_matchbox.unbounded_send(PeerEvent::IdAssigned(id));
            }
        }
        if !std::mem::take(&mut self.lost) {
            self.push_event(ServerEvent::Welcome(roster));
            return;
        }
        if let Some(outage) = self.stats.outages.last_mut() {
            outage.resumed_at = Some(received_at);
            let resumed = ServerEvent::Resumed {
                attempts: outage.attempts,
                away: received_at.saturating_sub(outage.lost_at),
            };
            self.push_event(resumed);
        }
        self.push_event(ServerEvent::Roster(roster));
    }

    fn pop_outgoing(&mut self, clock: &LabClock) -> Option<OutFrame> {
        if std::mem::take(&mut self.probe) {
            self.probes = self.probes.wrapping_add(1);
            return Some(OutFrame::Binary(encode_probe(self.probes).to_vec()));
        }
        // The first one shows the server that this is no stock client.
        if self.relay && self.running_sent != Some(self.running) {
            self.running_sent = Some(self.running);
            return Some(OutFrame::Binary(encode_running(self.running).to_vec()));
        }
        if let Some(out) = self.clocks.pop_front() {
            return Some(OutFrame::Binary(out.stamped(clock)));
        }
        if let Some(text) = self.signals.pop_front() {
            return Some(OutFrame::Text(text));
        }
        if let Some(frame) = self.control.pop_front() {
            self.stats.relay_sent += 1;
            return Some(OutFrame::Binary(frame));
        }
        if self.closing {
            return Some(OutFrame::Close);
        }
        let frame = self.game.pop_front()?;
        self.stats.relay_sent += 1;
        Some(OutFrame::Binary(frame))
    }

    /// When the queue is full the oldest packet gives way.
    fn push_relayed(&mut self, packet: RelayedPacket) {
        self.stats.relay_received += 1;
        if self.relayed.len() >= MAX_IN {
            self.relayed.pop_front();
            self.stats.relay_receive_dropped += 1;
        }
        self.relayed.push_back(packet);
    }

    /// When the queue is full the oldest answer of another member gives way, or else the oldest
    /// event.
    fn push_event(&mut self, event: ServerEvent) {
        if self.events.len() >= MAX_IN {
            let from_a_member =
                |event: &ServerEvent| matches!(event, ServerEvent::ClockAnswered { .. });
            let oldest = self.events.iter().position(from_a_member);
            self.events.remove(oldest.unwrap_or(0));
        }
        self.events.push_back(event);
    }
}

impl ClockOut {
    /// The relay frame, sent now.
    fn stamped(self, clock: &LabClock) -> Vec<u8> {
        let now = wrap_micros(clock.now());
        let datagram = match self.answers {
            None => ClockDatagram::Ask { asked: now },
            Some((asked, heard)) => ClockDatagram::Answer(ClockAnswer {
                asked,
                received: wrap_micros(heard),
                answered: now,
                step_us: clock.step_us(),
            }),
        };
        let mut payload = [0; MAX_CLOCK];
        let length = datagram.encode(&mut payload);
        let mut frame = [0; MAX_FRAME_LEN];
        let length = encode_forward(self.destination, &payload[..length], &mut frame)
            .expect("a datagram of the clock exchange fits into a relay frame");
        frame[..length].to_vec()
    }
}

#[cfg(test)]
mod tests;
