//! What the game and the network task pass to each other: bounded queues and snapshots. Neither side
//! waits for the other, and the game's side allocates nothing.
//!
//! | from | what | bound |
//! |---|---|---|
//! | game | packets of the game | 256; a packet beyond it is dropped and counted, and its successor carries its inputs |
//! | game | orders: peers, episodes, conditions, control messages | none, they are rare |
//! | game | when it ticked last, its frame | one atomic each |
//! | task | packets received | 512; the oldest gives way |
//! | task | events, control messages, route changes | 8,192, far above what honest peers cause |
//! | task | first datagrams of inputs | 8,192; the oldest gives way |
//! | task | one [`PeerView`] for each peer | the newest |

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use bevy::log::warn_once;
use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use concurrent_queue::ConcurrentQueue;
use futures::task::AtomicWaker;
use ggrs::Frame;
use rollback_lab_link::conditions::{Conditions, Realised};
use rollback_lab_link::link::{LinkSnapshot, MAX_PAYLOAD, Packet, SentBy};
use rollback_lab_link::route::RouteChange;
use rollback_lab_link::wire::{ControlMessage, Path};

use super::network::NetEvent;

/// Packets of the game that wait for the network task: four seconds of one peer at 60 Hz. The task
/// takes them within milliseconds unless the machine is out of processor time.
const OUTGOING_MAX: usize = 256;
/// Packets received that wait for the game: two seconds of two peers over both paths at 60 Hz. Newer
/// packets carry the unacknowledged inputs of older ones.
const INCOMING_MAX: usize = 512;
/// Departures that wait for the game: above a minute of one peer, so that a long stall of the game
/// costs the record nothing. The same for reports, of which there are a few in a minute.
const REPORTS_MAX: usize = 8_192;

/// `AtomicI64` outside an episode.
const NO_FRAME: i64 = -1;
/// `AtomicU64` before the first tick.
const NO_TICK: u64 = u64::MAX;

/// Bytes of one packet of the game, in place.
#[derive(Clone, Copy)]
pub(super) struct Payload {
    len: usize,
    bytes: [u8; MAX_PAYLOAD],
}

impl Payload {
    pub(super) const EMPTY: Self = Self {
        len: 0,
        bytes: [0; MAX_PAYLOAD],
    };

    /// A copy of `bytes`; `None` if they are too many.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let mut payload = Self::EMPTY;
        payload.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        payload.len = bytes.len();
        Some(payload)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A packet of the game on its way out: one or more ggrs messages to one peer.
pub(super) struct Outgoing {
    pub(super) to: PeerId,
    pub(super) epoch: u16,
    /// First and last input frame that it carries.
    pub(super) inputs: Option<(Frame, Frame)>,
    pub(super) payload: Payload,
}

/// A packet of a peer's game that came in.
pub(super) struct Inbound {
    pub(super) from: PeerId,
    pub(super) epoch: u16,
    /// When it arrived.
    pub(super) at: Duration,
    pub(super) path: Path,
    /// What its header said.
    pub(super) packet: Packet,
    /// The route was direct or suspect when it arrived.
    pub(super) route_is_direct: bool,
    /// Empty in a further copy that came directly.
    pub(super) payload: Payload,
}

impl Inbound {
    /// A further copy of a packet that came before.
    pub(super) const fn is_copy(&self) -> bool {
        self.payload.is_empty()
    }
}

/// What the game asks of the network task.
pub(super) enum Order {
    SetPeers(Vec<PeerId>),
    SetRelayAvailable(bool),
    SetPlayer(usize),
    SetConditions(Box<Conditions>),
    SetHidden(bool),
    SetSkew(i32),
    SetRunning(bool),
    SetDirectCut(bool),
    StartEpoch(u16),
    /// The first frame of the epoch is simulated now: conditions count from here.
    FrameZero,
    EndEpoch,
    Control(PeerId, ControlMessage),
    CountMalformed(PeerId, Path, &'static str),
    CountUnsendable(PeerId),
    Close,
}

/// What the network task reports to the game.
pub(super) enum Report {
    Event(NetEvent),
    Control(PeerId, ControlMessage),
    /// A change of the route, with the next frame to simulate when it happened.
    Route(PeerId, Option<Frame>, RouteChange),
}

/// Local inputs that a datagram carried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputDeparture {
    /// The peer that they were sent to.
    pub peer: PeerId,
    /// First input frame.
    pub first: Frame,
    /// Last input frame.
    pub last: Frame,
    /// The path or paths that took the datagram.
    pub by: SentBy,
}

/// What the game may know of one peer's link.
#[derive(Clone)]
pub(super) struct PeerView {
    pub(super) id: PeerId,
    pub(super) link: LinkSnapshot,
    /// The ICE candidates of its data channel, once known.
    pub(super) pair: Option<CandidatePair>,
    /// From being named to a usable path.
    pub(super) connect_time: Option<Duration>,
    /// Control messages to it that the task has taken from the game.
    pub(super) control_taken: u64,
}

/// The task's snapshot of everything that the game reads.
#[derive(Clone, Default)]
pub(super) struct View {
    pub(super) peers: Vec<PeerView>,
    /// What the conditions did so far, by [`Path::index`].
    pub(super) realised: [Realised; 2],
    /// The conditions treat the direct path in a way of its own.
    pub(super) direct_only: bool,
}

#[derive(Default)]
struct Published {
    view: View,
    /// Newer than what the game has.
    fresh: bool,
}

/// The queues between one game and its network task.
pub(super) struct Exchange {
    outgoing: ConcurrentQueue<Outgoing>,
    orders: ConcurrentQueue<Order>,
    incoming: ConcurrentQueue<Inbound>,
    reports: ConcurrentQueue<Report>,
    /// With the episode's number.
    departures: ConcurrentQueue<(u16, InputDeparture)>,
    published: Mutex<Published>,
    frame: AtomicI64,
    ticked_us: AtomicU64,
    waker: AtomicWaker,
    woken: AtomicBool,
    /// The game has let go: the task ends.
    abandoned: AtomicBool,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            outgoing: ConcurrentQueue::bounded(OUTGOING_MAX),
            orders: ConcurrentQueue::unbounded(),
            incoming: ConcurrentQueue::bounded(INCOMING_MAX),
            reports: ConcurrentQueue::bounded(REPORTS_MAX),
            departures: ConcurrentQueue::bounded(REPORTS_MAX),
            published: Mutex::default(),
            frame: AtomicI64::new(NO_FRAME),
            ticked_us: AtomicU64::new(NO_TICK),
            waker: AtomicWaker::new(),
            woken: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        }
    }
}

/// The game's side.
impl Exchange {
    /// Queues a packet; the task sends it when it is woken. One that the task did not take in time is
    /// dropped, and counted on the link to its peer.
    pub(super) fn send(&self, packet: Outgoing) {
        if let Err(full) = self.outgoing.push(packet) {
            self.order(Order::CountUnsendable(full.into_inner().to));
        }
    }

    /// Queues an order; the task carries orders out before packets.
    pub(super) fn order(&self, order: Order) {
        let queued = self.orders.push(order);
        debug_assert!(queued.is_ok(), "the queue of orders is not closed");
    }

    /// Wakes the task for what was queued.
    pub(super) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Sets the next frame to simulate; `None` outside an episode.
    pub(super) fn set_frame(&self, frame: Option<Frame>) {
        let frame = frame.map_or(NO_FRAME, i64::from);
        self.frame.store(frame, Ordering::Relaxed);
    }

    /// The game ticks now.
    pub(super) fn set_ticked(&self, now: Duration) {
        let micros = u64::try_from(now.as_micros()).unwrap_or(NO_TICK - 1);
        self.ticked_us.store(micros, Ordering::Relaxed);
    }

    pub(super) fn next_incoming(&self) -> Option<Inbound> {
        self.incoming.pop().ok()
    }

    pub(super) fn next_report(&self) -> Option<Report> {
        self.reports.pop().ok()
    }

    pub(super) fn next_departure(&self) -> Option<(u16, InputDeparture)> {
        self.departures.pop().ok()
    }

    /// Exchanges `view` for the newest one, unless the task is just writing it.
    pub(super) fn refresh(&self, view: &mut View) {
        let mut published = match self.published.try_lock() {
            Ok(published) => published,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if std::mem::take(&mut published.fresh) {
            std::mem::swap(view, &mut published.view);
        }
    }

    /// The task ends at its next turn.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.wake();
    }
}

/// The task's side.
impl Exchange {
    pub(super) fn next_order(&self) -> Option<Order> {
        self.orders.pop().ok()
    }

    pub(super) fn next_outgoing(&self) -> Option<Outgoing> {
        self.outgoing.pop().ok()
    }

    /// The next frame to simulate; `None` outside an episode.
    pub(super) fn frame(&self) -> Option<Frame> {
        Frame::try_from(self.frame.load(Ordering::Relaxed))
            .ok()
            .filter(|frame| *frame >= 0)
    }

    /// When the game ticked last.
    pub(super) fn ticked(&self) -> Option<Duration> {
        let micros = self.ticked_us.load(Ordering::Relaxed);
        (micros != NO_TICK).then(|| Duration::from_micros(micros))
    }

    /// Hands a packet to the game; the oldest one gives way.
    pub(super) fn deliver(&self, packet: Inbound) {
        if matches!(self.incoming.force_push(packet), Ok(Some(_))) {
            warn_once!("dropped packets of the game: more than {INCOMING_MAX} waited to be read");
        }
    }

    /// Reports to the game.
    pub(super) fn report(&self, report: Report) {
        if self.reports.push(report).is_err() {
            warn_once!("dropped reports: {REPORTS_MAX} wait to be read");
        }
    }

    /// Reports the first datagram with local inputs; the oldest report gives way.
    pub(super) fn report_departure(&self, epoch: u16, departure: InputDeparture) {
        if matches!(self.departures.force_push((epoch, departure)), Ok(Some(_))) {
            warn_once!("dropped departures of inputs: more than {REPORTS_MAX} waited to be read");
        }
    }

    /// Lets `write` bring the published view up to date.
    pub(super) fn publish(&self, write: impl FnOnce(&mut View)) {
        let mut published: MutexGuard<'_, Published> = self
            .published
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        write(&mut published.view);
        published.fresh = true;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Whether the game has queued something since the last call. Registers `waker` first, so that
    /// no later wake is missed.
    pub(super) fn poll_woken(&self, waker: &std::task::Waker) -> bool {
        self.waker.register(waker);
        self.woken.swap(false, Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbound(seq: u16) -> Inbound {
        Inbound {
            from: PeerId(uuid::Uuid::nil()),
            epoch: 1,
            at: Duration::ZERO,
            path: Path::Direct,
            packet: Packet {
                seq,
                ..Packet::default()
            },
            route_is_direct: true,
            payload: Payload::EMPTY,
        }
    }

    #[test]
    fn when_the_game_does_not_read_the_oldest_packets_give_way_and_control_messages_stay() {
        let exchange = Exchange::default();
        let peer = PeerId(uuid::Uuid::nil());
        exchange.report(Report::Control(peer, ControlMessage::Hidden));
        for seq in 0..INCOMING_MAX as u16 + 100 {
            exchange.deliver(inbound(seq));
        }
        let first = exchange.next_incoming().map(|packet| packet.packet.seq);
        assert_eq!(first, Some(100));
        assert!(matches!(exchange.next_report(), Some(Report::Control(..))));
    }

    #[test]
    fn orders_are_not_limited_and_packets_of_the_game_are() {
        let exchange = Exchange::default();
        let [one, other] = [1, 2].map(|id| PeerId(uuid::Uuid::from_u128(id)));
        for number in 0..OUTGOING_MAX as u64 + 3 {
            exchange.order(Order::SetSkew(0));
            exchange.send(Outgoing {
                to: if number < OUTGOING_MAX as u64 + 1 {
                    one
                } else {
                    other
                },
                epoch: 1,
                inputs: None,
                payload: Payload::new(&number.to_le_bytes()).unwrap(),
            });
        }
        let (mut skews, mut unsendable) = (0, Vec::new());
        while let Some(order) = exchange.next_order() {
            match order {
                Order::CountUnsendable(to) => unsendable.push(to),
                _ => skews += 1,
            }
        }
        assert_eq!(skews, OUTGOING_MAX + 3);
        assert_eq!(unsendable, [one, other, other]);
        let sent = exchange.next_outgoing().unwrap();
        assert_eq!(sent.payload.bytes(), 0_u64.to_le_bytes());
    }

    #[test]
    fn the_game_gets_the_newest_view_and_keeps_its_own_while_none_is_newer() {
        let exchange = Exchange::default();
        let mut view = View::default();
        exchange.publish(|view| view.direct_only = true);
        exchange.refresh(&mut view);
        assert!(view.direct_only);
        exchange.refresh(&mut view);
        assert!(view.direct_only, "nothing newer");
        let writing = exchange.published.lock().unwrap();
        exchange.refresh(&mut view);
        assert!(
            view.direct_only,
            "the task is writing, and the game does not wait"
        );
        drop(writing);
    }

    #[test]
    fn frames_and_ticks_are_unknown_before_the_first() {
        let exchange = Exchange::default();
        assert_eq!((exchange.frame(), exchange.ticked()), (None, None));
        exchange.set_frame(Some(0));
        exchange.set_ticked(Duration::from_millis(7));
        assert_eq!(exchange.frame(), Some(0));
        assert_eq!(exchange.ticked(), Some(Duration::from_millis(7)));
        exchange.set_frame(None);
        assert_eq!(exchange.frame(), None);
    }

    #[test]
    fn a_wake_before_the_task_waits_is_not_lost() {
        let exchange = Exchange::default();
        let waker = futures::task::noop_waker();
        assert!(!exchange.poll_woken(&waker));
        exchange.wake();
        assert!(exchange.poll_woken(&waker));
        assert!(!exchange.poll_woken(&waker), "once");
    }
}
