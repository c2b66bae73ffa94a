//! One remote peer over two paths: a sans-I/O endpoint.
//!
//! A [`Link`] does what lies between the game's packets and the two paths: headers,
//! acknowledgements, de-duplication, heartbeats, probes, the control channel and the route. `now` is
//! passed in, datagrams leave through a closure ([`Out`]), and after the first packets only control
//! messages allocate.
//!
//! In every tick: pass each datagram that arrived to [`Link::receive`], call [`Link::poll`], then
//! send the game's packets with [`Link::send_data`]. The [crate docs](crate) have an example.

use std::{collections::VecDeque, time::Duration};

use crate::{
    cause::RouteShift,
    health::{PathHealth, Recurrence, SLOW_APART},
    route::{RouteChange, RoutePolicy, RouteState, Router},
    wire::{
        ControlMessage, DatagramKind, HEADER_LEN, MAX_DATAGRAM, Path, WireError,
        control::ControlChannel,
    },
};

mod cadence;
mod comparison;
mod dedupe;
mod evidence;
mod flow;
mod game_ticks;
mod peer_clock;
mod peer_pauses;
mod receive;
mod renegotiation;
mod send;
mod snapshot;
mod stats;

pub use crate::health::Rtt;
pub use evidence::HIDDEN_GRACE;
pub use flow::Packet;
pub use peer_clock::{ClockEstimate, ClockEstimator, drift_ppm};
pub use snapshot::LinkSnapshot;
pub use stats::{LinkStats, PathStats};

use cadence::Cadence;
use comparison::BothPaths;
use dedupe::Dedupe;
use flow::Flow;
use game_ticks::GameTicks;
use peer_pauses::PeerPauses;
use renegotiation::Renegotiation;

/// Largest payload of a data packet, in bytes.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM - HEADER_LEN;

/// Epoch in the headers of a peer that plays no episode: the other side sees at once that heartbeats
/// ended on purpose.
pub const IDLE_EPOCH: u16 = u16::MAX;

/// Decisions kept until [`Link::drain_changes`]; a route changes a few times in a session.
const CHANGES_RESERVED: usize = 16;
/// Headers that announce the end of an episode, one per poll: two may be lost.
const EXIT_HEADERS: u8 = 3;
/// Frame rates that a link accepts: above 1,000 a frame is below the resolution of browser clocks.
const FPS_MAX: u32 = 1_000;

/// The settings of the game that a link needs; equal on both peers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSettings {
    /// Which paths may be used. Defaults to [`RoutePolicy::P2pFirst`].
    pub policy: RoutePolicy,
    /// Simulation frames per second, 1 to 1,000. Defaults to 60.
    pub fps: u32,
    /// ggrs's prediction window in frames. Defaults to 8.
    pub max_prediction: u32,
    /// Input delay in frames. Defaults to 2.
    pub input_delay: u32,
    /// Whether a route that failed over may fail back to a direct path that recovered. Defaults to
    /// false: one failover is easier to account for in an experiment than a route that flaps.
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

/// Returned by [`Out`] when a path cannot take a datagram now. The link counts it and may use the
/// other path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("path did not take the datagram")]
pub struct SendFailed;

/// One datagram that a link sends now: hand `bytes` to `path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// The path to send it on.
    pub path: Path,
    /// What it holds, as in its header: a send queue can put control messages first without decoding
    /// the datagram.
    pub kind: DatagramKind,
    /// The datagram, header included, at most [`MAX_DATAGRAM`] bytes. Only valid during the call.
    pub bytes: &'a [u8],
}

/// The closure that takes a link's datagrams, one call each, within [`Link::poll`] and
/// [`Link::send_data`]. Return [`SendFailed`] when the path cannot take the datagram now.
pub type Out<'a> = dyn FnMut(Transmit<'_>) -> Result<(), SendFailed> + 'a;

/// The paths that took a data packet. Neither, when it could not be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct SentBy {
    /// The direct path took it.
    pub direct: bool,
    /// The relay took it.
    pub relay: bool,
}

/// What [`Link::receive`] found in a datagram.
#[derive(Debug, PartialEq)]
pub enum Incoming<'a> {
    /// The first copy of a data packet: validate it with [`ggrs_wire`](crate::ggrs_wire) and pass it
    /// to ggrs.
    Data {
        /// One encoded `ggrs::Message`.
        payload: &'a [u8],
        /// The path over which it arrived.
        via: Path,
    },
    /// Another copy of a data packet.
    Duplicate,
    /// Data of another episode, or while no episode runs. Counted and dropped.
    OtherEpoch,
    /// Control messages, in order; empty for a copy or an acknowledgement.
    Control(Vec<ControlMessage>),
    /// A header without a payload.
    Nothing,
}

/// Why [`Link::receive`] dropped a datagram.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The bytes are not a valid datagram.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The datagram acknowledges packets that were never sent.
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

/// Neither path opened within 15 s, see [`Link::failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no path to peer: neither a direct connection nor the relay worked within 15 s")]
pub struct NoPath;

/// The newest header of the peer. Defaults to that of a peer that plays no episode.
#[derive(Clone, Copy, Debug, Default)]
struct PeerView {
    received: bool,
    /// Newest `sent`, unwrapped.
    clock: Duration,
    interval: Option<Duration>,
    tick_interval: Option<Duration>,
    degraded: bool,
    failed_over: bool,
    hidden: bool,
    epoch: u16,
}

/// The running episode. Times are awake times.
#[derive(Clone, Copy, Debug)]
struct LinkEpisode {
    epoch: u16,
    started: Duration,
    /// When the first datagram of the peer in this epoch arrived, on any path.
    received: Option<Duration>,
    /// One arrived in this epoch over the direct path.
    received_direct: bool,
}

/// What was known when the direct path became suspect because nothing came.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// By the awake clock.
    at: Duration,
    /// Direct packets received and missed until then.
    received: u64,
    missed: u64,
}

/// The newest game input, kept to be sent again when a path is added.
#[derive(Clone, Debug)]
struct NewestInput {
    payload: Vec<u8>,
    seq: u16,
    present: bool,
    /// The packet numbers under which it was last sent, by [`Path::index`].
    sent_as: [Option<u32>; 2],
    /// When it was last sent on any path, by the awake clock.
    at: Duration,
}

/// The connection to one remote peer over both paths: see the [module docs](self) for the order of
/// calls.
#[derive(Debug)]
pub struct Link {
    settings: LinkSettings,
    router: Router,
    cadence: Cadence,
    game: GameTicks,
    paths: [PathHealth; 2],
    dedupe: Dedupe,
    control: ControlChannel,
    stats: LinkStats,
    changes: VecDeque<RouteChange>,
    last_change: Option<RouteChange>,
    last_shift: Option<RouteShift>,
    suspicion: Option<Suspicion>,

    direct_open: bool,
    renegotiation: Renegotiation,
    /// Awake time before which direct silence is ignored: after opening, after a hidden tab.
    direct_grace: Duration,
    relay_up: bool,
    /// The same for the relay: after a failover, after it became usable.
    relay_grace: Duration,
    hidden: bool,
    skew: i32,

    episode: Option<LinkEpisode>,
    /// Headers still to be sent to announce that the episode is over.
    exit_headers: u8,
    newest_input: NewestInput,
    data_seq: u16,
    sent_since_poll: bool,
    /// Paths that carried game packets after the last decision: (direct, relay).
    carried: (bool, bool),
    /// When the direct path last refused a datagram, by the awake clock.
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
    peer_pauses: PeerPauses,
    /// Per path: newest `sent` received, and when.
    stamps: [Option<(u32, Duration)>; 2],
    /// Per path: the last of our own stamps that gave a round-trip sample.
    sampled: [Option<u32>; 2],
    /// Peer's clock at its newest packet that arrived directly.
    direct_clock: Duration,
    relay_alone: u32,
    /// Peer's clock at the newest packet counted in `relay_alone`.
    alone_clock: Duration,
    clock: ClockEstimator,
    flow: Flow,
}

impl Link {
    /// Creates a link to a peer that is not connected yet.
    #[must_use]
    pub fn new(settings: LinkSettings, now: Duration) -> Self {
        let settings = LinkSettings {
            fps: settings.fps.clamp(1, FPS_MAX),
            ..settings
        };
        Self {
            settings,
            router: Router::new(settings.policy, now).returning(settings.return_to_direct),
            cadence: Cadence::new(beat(settings.fps)),
            game: GameTicks::new(frame(settings.fps)),
            paths: [PathHealth::default(), PathHealth::default()],
            dedupe: Dedupe::default(),
            control: ControlChannel::new(),
            stats: LinkStats::default(),
            changes: VecDeque::with_capacity(CHANGES_RESERVED),
            last_change: None,
            last_shift: None,
            suspicion: None,
            direct_open: false,
            renegotiation: Renegotiation::default(),
            direct_grace: now,
            relay_up: false,
            relay_grace: now,
            hidden: false,
            skew: 0,
            episode: None,
            exit_headers: 0,
            newest_input: NewestInput {
                payload: Vec::with_capacity(MAX_PAYLOAD),
                seq: 0,
                present: false,
                sent_as: [None; 2],
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
            peer_pauses: PeerPauses::default(),
            stamps: [None; 2],
            sampled: [None; 2],
            direct_clock: Duration::ZERO,
            relay_alone: 0,
            alone_clock: Duration::ZERO,
            clock: ClockEstimator::default(),
            flow: Flow::default(),
        }
    }

    /// Call when the server's roster names the peer: connection time-outs start.
    pub fn peer_named(&mut self, now: Duration) {
        self.router.name_peer(now);
    }

    /// Call when a data channel to the peer opened: the first one, or one that was
    /// [negotiated anew](Self::renegotiation_due).
    pub fn direct_opened(&mut self, now: Duration) {
        self.direct_open = true;
        self.renegotiation.opened = true;
        self.direct_grace = self.cadence.awake(now);
        self.control.retry_now();
    }

    /// Call when the data channel to the peer ended.
    pub fn direct_closed(&mut self) {
        self.direct_open = false;
    }

    /// Call when the server reports whether the relay reaches the peer.
    pub fn relay_usable(&mut self, now: Duration, up: bool) {
        let up = up && self.settings.policy.relays();
        if up && !self.relay_up {
            self.relay_grace = self.cadence.awake(now);
            self.control.retry_now();
        }
        self.relay_up = up;
    }

    /// Sets whether this peer's window or tab is hidden; the other side grants it 1.5 s more of
    /// silence then. Defaults to false.
    pub fn set_hidden(&mut self, hidden: bool) {
        self.hidden = hidden;
    }

    /// Sets the resolution of this peer's clock, in microseconds. Defaults to 100.
    pub fn set_clock_step(&mut self, step_us: u16) {
        self.clock.set_our_step(step_us);
    }

    /// Sets when this peer's game ticked last, which its headers state: this peer answers while its
    /// game stands still, and the other one learns so. Call it before [`poll`](Self::poll).
    pub fn set_game_tick(&mut self, at: Duration) {
        self.game.tick(at);
    }

    /// Sets by how many frames this peer is ahead of the other one (negative: behind), as ggrs
    /// estimates it. A difference shrinks the [margin](Self::margin). Defaults to 0.
    pub fn set_skew(&mut self, frames: i32) {
        self.skew = frames;
    }

    /// Starts an episode: from now on only data of `epoch` is accepted, heartbeats are sent, and the
    /// paths are judged once both sides received a datagram of it. `epoch` must not be
    /// [`IDLE_EPOCH`].
    pub fn start_epoch(&mut self, now: Duration, epoch: u16) {
        self.episode = Some(LinkEpisode {
            epoch,
            started: self.cadence.awake(now),
            received: None,
            received_direct: false,
        });
        self.exit_headers = 0;
        self.newest_input.present = false;
        self.relay_alone = 0;
        self.flow = Flow::default();
    }

    /// Ends the episode: heartbeats stop, and nothing is judged until the next one.
    pub fn end_epoch(&mut self) {
        if self.episode.take().is_some() {
            self.exit_headers = EXIT_HEADERS;
        }
    }

    /// Queues a control message. It is sent on every open path until the peer acknowledges it.
    ///
    /// # Errors
    /// [`WireError::ControlBounds`] names a field of the message that the peer would refuse.
    pub fn send_control(&mut self, message: ControlMessage) -> Result<(), WireError> {
        self.control.queue(message)
    }

    /// Number of control messages that the peer has not acknowledged.
    #[must_use]
    pub fn unacked_control(&self) -> usize {
        self.control.unacked()
    }

    /// Takes the route changes since the last call, oldest first. At most 256 are kept.
    pub fn drain_changes(&mut self) -> impl Iterator<Item = RouteChange> + '_ {
        self.changes.drain(..)
    }

    /// The state of the route: which paths game packets use.
    #[must_use]
    pub const fn route(&self) -> RouteState {
        self.router.state()
    }

    /// The last route change, once there was one.
    #[must_use]
    pub const fn last_change(&self) -> Option<&RouteChange> {
        self.last_change.as_ref()
    }

    /// Whether any path can carry game packets now.
    #[must_use]
    pub fn usable(&self) -> bool {
        let (direct, relay) = self.send_paths();
        direct || relay
    }

    /// Whether the direct path carries the game and neither peer suspects it.
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

    /// Whether the direct path carries the game and nothing could replace it, although the policy would
    /// use the relay: the server is lost, or cannot relay.
    #[must_use]
    pub const fn lacks_second_path(&self) -> bool {
        self.direct_open
            && !self.relay_up
            && self.settings.policy.directs()
            && self.settings.policy.relays()
            && !self.router.state().failed_over()
    }

    /// [`NoPath`] once no path has opened for 15 s after [`peer_named`](Self::peer_named). It clears
    /// if one opens after all.
    #[must_use]
    pub fn failed(&self) -> Option<NoPath> {
        self.router.failed().then_some(NoPath)
    }

    /// Counters since the link was made. Losses, jitter and round trips are updated by
    /// [`poll`](Self::poll).
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

/// Longest time without a packet of the flow while a path is healthy: a lost path is noticed equally
/// soon at 10 frames per second as at 60.
const BEAT: Duration = Duration::from_micros(16_667);

/// The interval of heartbeats: a frame of a game that is faster than 60 per second.
fn beat(fps: u32) -> Duration {
    frame(fps).min(BEAT)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests;
