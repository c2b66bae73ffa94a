//! One remote peer over two paths: a sans-io endpoint.
//!
//! Owns everything between the game's datagrams and the two paths: headers, acknowledgements,
//! de-duplication, heartbeats, probes, the control channel and the route. Never does I/O and never
//! reads a clock: `now` comes in, datagrams go out through a function of the caller. After the
//! first packets nothing is allocated but control messages.
//!
//! Per tick the caller first feeds every datagram that is due to [`Link::receive`], then calls
//! [`Link::poll`], then lets the game send through [`Link::send_data`].

use std::{collections::VecDeque, time::Duration};

use super::{
    health::{PathHealth, Recurrence, SLOW_APART},
    route::{RouteChange, RoutePolicy, RouteState, Router},
    wire::{
        ControlMessage, Echo, HEADER_LEN, Header, Kind, MAX_DATAGRAM, Path, WireError,
        clock::ClockAnswer, control::ControlChannel, seq_diff32, unwrap_micros, wrap_micros,
    },
};

mod cadence;
mod count;
mod dedupe;
mod evidence;
mod flow;
mod peer_clock;
mod receive;
mod send;
mod stats;
mod trouble;

use cadence::Cadence;
use dedupe::Dedupe;
pub use evidence::HIDDEN_GRACE;
use flow::Flow;
pub use flow::{Packet, Pause};
pub use peer_clock::{ClockEstimate, DRIFT_MAX_PPM, PeerClock, drift_ppm, estimate_at};
pub use stats::{LateEvidence, LinkStats, PathStats, RouteShift};
use trouble::BothPaths;

/// Largest payload of a data packet.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM - HEADER_LEN;

/// Epoch in the headers of a peer that plays no episode: how the other side learns at once that
/// heartbeats have ended on purpose.
pub const IDLE_EPOCH: u16 = u16::MAX;

/// What a link must know of the game.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSettings {
    /// Which paths may be used. Defaults to p2p-first.
    pub policy: RoutePolicy,
    /// Frames per second. Defaults to 60.
    pub fps: u32,
    /// ggrs's prediction window in frames. Defaults to 8.
    pub max_prediction: u32,
    /// Input delay in frames. Defaults to 2.
    pub input_delay: u32,
    /// Whether a promoted route may return to a direct path that healed. Defaults to false.
    pub return_to_direct: bool,
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self {
            policy: RoutePolicy::P2pFirst,
            fps: 60,
            max_prediction: 8,
            input_delay: 2,
            return_to_direct: false,
        }
    }
}

/// A path did not take a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path did not take the datagram")]
pub struct SendFailed;

/// One datagram that a link sends now: hand `bytes` to `path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// The path that shall carry it.
    pub path: Path,
    /// What it holds, as its header says. A send queue may let control messages pass game packets
    /// by this, without decoding the header.
    pub kind: Kind,
    /// The datagram, header included, at most [`MAX_DATAGRAM`] bytes. Only valid during the call.
    pub bytes: &'a [u8],
}

/// Where a link's datagrams go: called once per datagram, within [`Link::poll`] and
/// [`Link::send_data`]. Return [`SendFailed`] when the path cannot take the datagram now.
pub type Out<'a> = dyn FnMut(Transmit<'_>) -> Result<(), SendFailed> + 'a;

/// The paths that took a data packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentBy {
    /// The direct path did.
    pub direct: bool,
    /// The relay did.
    pub relay: bool,
}

/// What a received datagram brought.
#[derive(Debug, PartialEq)]
pub enum Incoming<'a> {
    /// The first copy of a data packet.
    Data {
        /// One encoded `ggrs::Message`.
        payload: &'a [u8],
        /// The path of this first copy.
        via: Path,
    },
    /// A further copy of a data packet.
    Duplicate,
    /// Data of another episode, or of one while none runs. Counted.
    OtherEpoch,
    /// Control messages that are now complete and in order.
    Control(Vec<ControlMessage>),
    /// A header only.
    Nothing,
}

/// Why a datagram was dropped unread.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// It is no datagram of ours.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It acknowledges packets that were never sent.
    #[error("datagram acknowledges packets that were never sent")]
    AckBeyondSent,
}

impl LinkError {
    /// Stable key for counters.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Wire(error) => error.reason(),
            Self::AckBeyondSent => "ackBeyondSent",
        }
    }
}

/// Why a link will not come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no path to peer: neither a direct connection nor the relay worked within 15 s")]
pub struct NoPath;

/// The newest header of the peer.
#[derive(Clone, Copy, Debug, Default)]
struct PeerView {
    heard: bool,
    /// Newest `sent`, unwrapped.
    clock: Duration,
    interval: Option<Duration>,
    degraded: bool,
    failed_over: bool,
    hidden: bool,
    epoch: u16,
    silence: Duration,
}

/// The running episode. Times are awake times.
#[derive(Clone, Copy, Debug)]
struct Episode {
    epoch: u16,
    started: Duration,
    /// When the peer was first heard in this epoch, on any path.
    heard: Option<Duration>,
    /// It was heard in this epoch over the direct path.
    heard_direct: bool,
}

/// The newest game input, kept to be sent again when a path is added.
#[derive(Clone, Debug)]
struct NewestInput {
    payload: Vec<u8>,
    seq: u16,
    present: bool,
    /// The path sequences under which it last went, by [`Path::index`].
    went: [Option<u16>; 2],
    /// When it last went on any path, by the awake clock.
    at: Duration,
}

/// One remote peer.
#[derive(Debug)]
pub struct Link {
    settings: LinkSettings,
    router: Router,
    cadence: Cadence,
    paths: [PathHealth; 2],
    dedupe: Dedupe,
    control: ControlChannel,
    stats: LinkStats,
    changes: VecDeque<RouteChange>,
    last_change: Option<RouteChange>,
    last_shift: Option<RouteShift>,

    direct_open: bool,
    /// Awake time before which direct silence means nothing: opening, unhiding.
    direct_grace: Duration,
    relay_up: bool,
    /// The same for the relay: promotion, reconnection.
    relay_grace: Duration,
    hidden: bool,
    skew: i32,

    episode: Option<Episode>,
    /// Heartbeats still to be sent to say that the episode is over.
    exit_wait: u8,
    newest_input: NewestInput,
    data_seq: u16,
    sent_since_poll: bool,
    /// Paths that carried game packets after the last decision: (direct, relay).
    carried: (bool, bool),
    /// When the direct path last refused a packet, by the awake clock.
    last_refusal: Option<Duration>,
    refusals: Recurrence,
    /// The newest `now` seen.
    latest: Duration,
    last_flow: Option<Duration>,
    /// The last packet of the flow was a heartbeat.
    quiet: bool,
    last_sent: [Option<Duration>; 2],
    last_poll: Option<Duration>,
    both_paths: BothPaths,
    buffer: [u8; MAX_DATAGRAM],

    peer: PeerView,
    /// Per path: newest `sent` received, and when.
    stamps: [Option<(u32, Duration)>; 2],
    /// Per path: the last of our own stamps that gave a sample.
    sampled: [Option<u32>; 2],
    /// Peer's clock at its newest packet that came directly.
    direct_clock: Duration,
    relay_alone: u32,
    /// Peer's clock at the newest packet counted in `relay_alone`.
    alone_clock: Duration,
    clock: PeerClock,
    flow: Flow,
}

impl Link {
    /// A link to a peer that is not connected yet.
    #[must_use]
    pub fn new(settings: LinkSettings, now: Duration) -> Self {
        let settings = LinkSettings {
            fps: settings.fps.clamp(1, 1_000),
            ..settings
        };
        Self {
            settings,
            router: Router::new(settings.policy, now).returning(settings.return_to_direct),
            cadence: Cadence::new(frame(settings.fps)),
            paths: [PathHealth::default(), PathHealth::default()],
            dedupe: Dedupe::default(),
            control: ControlChannel::new(),
            stats: LinkStats::default(),
            changes: VecDeque::with_capacity(16),
            last_change: None,
            last_shift: None,
            direct_open: false,
            direct_grace: now,
            relay_up: false,
            relay_grace: now,
            hidden: false,
            skew: 0,
            episode: None,
            exit_wait: 0,
            newest_input: NewestInput {
                payload: Vec::with_capacity(MAX_PAYLOAD),
                seq: 0,
                present: false,
                went: [None; 2],
                at: now,
            },
            data_seq: 0,
            sent_since_poll: false,
            carried: (false, false),
            last_refusal: None,
            refusals: Recurrence::new(SLOW_APART),
            latest: now,
            last_flow: None,
            quiet: false,
            last_sent: [None; 2],
            last_poll: None,
            both_paths: BothPaths::default(),
            buffer: [0; MAX_DATAGRAM],
            peer: PeerView {
                epoch: IDLE_EPOCH,
                ..PeerView::default()
            },
            stamps: [None; 2],
            sampled: [None; 2],
            direct_clock: Duration::ZERO,
            relay_alone: 0,
            alone_clock: Duration::ZERO,
            clock: PeerClock::default(),
            flow: Flow::default(),
        }
    }

    /// The roster named the peer: the clocks of the connection start.
    pub fn peer_named(&mut self, now: Duration) {
        self.router.name_peer(now);
    }

    /// The data channel to the peer opened.
    pub fn direct_opened(&mut self, now: Duration) {
        self.direct_open = true;
        self.direct_grace = self.cadence.awake(now);
        self.control.retry_now();
    }

    /// The data channel to the peer ended.
    pub fn direct_closed(&mut self, _now: Duration) {
        self.direct_open = false;
    }

    /// The server says whether the relay reaches the peer.
    pub fn relay_usable(&mut self, now: Duration, up: bool) {
        let up = up && self.settings.policy.relays();
        if up && !self.relay_up {
            self.relay_grace = self.cadence.awake(now);
            self.control.retry_now();
        }
        self.relay_up = up;
    }

    /// This peer's window or tab is hidden: the other side stops expecting packets.
    pub fn set_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    /// The steps in which this peer's clock counts, in microseconds. Defaults to 100.
    pub fn set_clock_step(&mut self, step_us: u16) {
        self.clock.set_our_step(step_us);
    }

    /// Frames by which this peer is ahead of the other one (negative: behind). Shrinks the margin.
    pub fn set_skew(&mut self, frames: i32) {
        self.skew = frames;
    }

    /// An episode begins: from now on only data of `epoch` passes, heartbeats go out, and the
    /// paths are judged as soon as both sides heard each other in it.
    pub fn start_epoch(&mut self, now: Duration, epoch: u16) {
        self.episode = Some(Episode {
            epoch,
            started: self.cadence.awake(now),
            heard: None,
            heard_direct: false,
        });
        self.exit_wait = 0;
        self.newest_input.present = false;
        self.relay_alone = 0;
        self.flow = Flow::default();
    }

    /// The episode is over: heartbeats end, nothing is judged until the next one.
    pub fn end_epoch(&mut self) {
        if self.episode.take().is_some() {
            self.exit_wait = 3;
        }
    }

    /// Queues a control message; it is sent on every open path until the peer has it.
    ///
    /// # Errors
    /// Names a field of the message that the peer would refuse.
    pub fn send_control(&mut self, message: ControlMessage) -> Result<(), WireError> {
        self.control.queue(message)
    }

    /// Control messages that the peer has not confirmed.
    #[must_use]
    pub fn unacked_control(&self) -> usize {
        self.control.unacked()
    }

    /// The decisions since the last call, oldest first.
    pub fn drain_changes(&mut self) -> impl Iterator<Item = RouteChange> + '_ {
        self.changes.drain(..)
    }

    /// Where game packets go.
    #[must_use]
    pub const fn route(&self) -> RouteState {
        self.router.state()
    }

    /// The last decision about the route.
    #[must_use]
    pub const fn last_change(&self) -> Option<&RouteChange> {
        self.last_change.as_ref()
    }

    /// Whether game packets can reach the peer at all.
    #[must_use]
    pub fn usable(&self) -> bool {
        let (direct, relay) = self.carriers();
        direct || relay
    }

    /// Direct is open, nobody doubts it, and no fallback happened.
    #[must_use]
    pub const fn p2p_healthy(&self) -> bool {
        self.direct_open
            && !self.router.state().failed_over()
            && !self.router.degraded()
            && !self.peer.degraded
            && !matches!(
                self.router.state(),
                RouteState::Connecting | RouteState::Provisional
            )
    }

    /// Why the link will not come up, once that is clear.
    #[must_use]
    pub fn failed(&self) -> Option<NoPath> {
        self.router.failed().then_some(NoPath)
    }

    /// Counters.
    #[must_use]
    pub const fn stats(&self) -> &LinkStats {
        &self.stats
    }

    fn enter(&mut self, now: Duration) {
        let interval = self.interval();
        self.cadence.touch(now, interval);
        self.latest = self.latest.max(now);
    }
}

/// Length of a frame.
fn frame(fps: u32) -> Duration {
    Duration::from_secs(1) / fps
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
