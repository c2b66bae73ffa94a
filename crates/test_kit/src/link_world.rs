//! Two links in virtual time, joined by shaped paths, each driven by a model of a ggrs game.
//!
//! The model keeps ggrs 0.13's rules that matter for stalls: every input packet carries all
//! unacknowledged inputs, a frame is advanced only while `current - last_confirmed <
//! max_prediction`, a stalled game sends nothing but a retry after 200 ms, and every input packet
//! received is acknowledged.

#![expect(
    clippy::unwrap_used,
    reason = "a model that cannot go on panics where it stopped"
)]

use std::{collections::HashSet, time::Duration};

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use rollback_lab_link::conditions::{Conditions, Direction, Shaper};
use rollback_lab_link::link::{Incoming, Link, LinkSettings, Out, SendFailed, SentBy, Transmit};
use rollback_lab_link::route::{RouteCause, RouteChange, RoutePolicy, RouteState};
use rollback_lab_link::wire::{DatagramKind, HEADER_LEN, Path};

/// A millisecond.
pub const MS: Duration = Duration::from_millis(1);
/// A second.
pub const SECOND: Duration = Duration::from_secs(1);

/// Settings of the two peers and of the paths between them.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Route policy of both peers.
    pub policy: RoutePolicy,
    /// Frames per second.
    pub fps: u32,
    /// Input delay in frames.
    pub input_delay: u32,
    /// Prediction window in frames, as ggrs counts it.
    pub max_prediction: u32,
    /// One-way delay of the direct path.
    pub direct: Duration,
    /// One-way delay of the relay path.
    pub relay: Duration,
    /// A condition spec, applied on top of the delays. The relay path is TCP unless it says
    /// `transport=datagram`: losses on it delay.
    pub conditions: &'static str,
    /// Frames by which peer 1 is ahead.
    pub skew: u32,
    /// How long after a tick of peer 0 peer 1 ticks.
    pub phase: Duration,
    /// Each tick comes late by a random time below this.
    pub tick_jitter: Duration,
    /// Length of a tick of each peer; `None` is one frame.
    pub tick: [Option<Duration>; 2],
    /// Time between connecting and the first frame.
    pub lobby: Duration,
    /// Whether a network task beside the game drives each link, as natively: it takes packets in when they
    /// arrive and polls every 4.2 ms, whatever the game does. Else the game's ticks do both.
    pub network_task: bool,
    /// Seed of conditions and tick jitter.
    pub seed: u64,
}

/// How often a network task polls.
const TASK_POLL: Duration = Duration::from_micros(4_167);

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: RoutePolicy::P2pFirst,
            fps: 60,
            input_delay: 0,
            max_prediction: 8,
            direct: 10 * MS,
            relay: 10 * MS,
            conditions: "",
            skew: 0,
            phase: 3 * MS,
            tick_jitter: MS,
            tick: [None; 2],
            lobby: 1_500 * MS,
            network_task: false,
            seed: 1,
        }
    }
}

/// The model of a ggrs game on one peer.
#[derive(Default)]
pub struct Game {
    running: bool,
    /// Next frame to simulate.
    pub current: i32,
    last_received: i32,
    acked: i32,
    /// When an input packet last arrived, for ggrs's retry.
    last_input: Duration,
    /// Ticks in which no frame was advanced.
    pub stalls: u32,
    /// The paths that each input packet was sent on.
    pub sent_by: Vec<SentBy>,
    next_id: u32,
    seen: HashSet<u32>,
    last_data: Option<Duration>,
    /// Longest time between two packets that brought new inputs.
    pub longest_gap: Duration,
    started: Duration,
}

/// One of the two peers.
pub struct Peer {
    /// Its link to the other.
    pub link: Link,
    /// The conditions on the packets it sends.
    pub shaper: Shaper<DatagramKind>,
    /// Its model of a ggrs game.
    pub game: Game,
    /// Its route changes, in order.
    pub changes: Vec<RouteChange>,
    /// When its data channel was to be negotiated anew.
    pub renegotiations: Vec<Duration>,
    /// Own clock minus the world's.
    offset: Duration,
    grid: Duration,
    next: Duration,
    /// The next poll of its network task.
    next_poll: Duration,
    /// When its game ticked last, by its own clock.
    ticked: Option<Duration>,
    /// Packets for the game that its network task has taken in.
    taken_in: Vec<Vec<u8>>,
    rng: Xoshiro256PlusPlus,
    /// The time span in which it does not tick.
    pub suspended: Option<(Duration, Duration)>,
    /// Whether sending on the direct path fails.
    pub refuse_direct: bool,
    /// Datagrams that its link rejected.
    pub malformed: u64,
    /// Datagrams it sent over the relay: data, heartbeats, probes, control.
    pub relay_kinds: [u64; 4],
}

/// Two peers and the network between them.
pub struct World {
    /// The settings it was built from.
    pub setup: Setup,
    /// The virtual time.
    pub now: Duration,
    /// The peers.
    pub peers: [Peer; 2],
}

fn frame(fps: u32) -> Duration {
    SECOND / fps
}

impl World {
    /// Both peers connected, in the lobby.
    pub fn new(setup: Setup) -> Self {
        let mut world = Self::unconnected(setup);
        for peer in &mut world.peers {
            let now = peer.offset;
            peer.link.peer_named(now);
            peer.link.relay_usable(now, true);
            peer.link.direct_opened(now);
        }
        world
    }

    /// Both peers exist; no path has been reported to them.
    pub fn unconnected(setup: Setup) -> Self {
        let peer = |index: usize| {
            let offset = [Duration::ZERO, 777 * SECOND][index];
            let settings = LinkSettings {
                policy: setup.policy,
                fps: setup.fps,
                max_prediction: setup.max_prediction,
                input_delay: setup.input_delay,
                return_to_direct: false,
            };
            let spec = Conditions::parse(setup.conditions).unwrap();
            let mut shaper = Shaper::new(&spec, index, setup.seed);
            for (path, latency) in [(Path::Direct, setup.direct), (Path::Relay, setup.relay)] {
                let mut shape = shaper.shape(path);
                shape.latency = shape.latency.max(latency);
                shaper.set_shape(path, shape);
            }
            let first = if index == 0 {
                Duration::ZERO
            } else {
                setup.phase
            };
            Peer {
                link: Link::new(settings, offset),
                shaper,
                game: Game::default(),
                changes: Vec::new(),
                renegotiations: Vec::new(),
                offset,
                grid: first,
                next: first,
                // The two tasks are not in step.
                next_poll: first + TASK_POLL / 3,
                ticked: None,
                taken_in: Vec::new(),
                rng: Xoshiro256PlusPlus::seed_from_u64(setup.seed * 2 + index as u64),
                suspended: None,
                refuse_direct: false,
                malformed: 0,
                relay_kinds: [0; 4],
            }
        };
        Self {
            now: Duration::ZERO,
            peers: [peer(0), peer(1)],
            setup,
        }
    }

    /// A match that has been playing for `play` after the lobby.
    pub fn playing(setup: Setup, play: Duration) -> Self {
        let mut world = Self::new(setup);
        world.run_to(world.setup.lobby);
        world.start(1);
        world.run_for(play);
        world
    }

    /// Starts an episode on both peers.
    pub fn start(&mut self, epoch: u16) {
        let skew = self.setup.skew;
        for (index, peer) in self.peers.iter_mut().enumerate() {
            peer.link.start_epoch(self.now + peer.offset, epoch);
            let skew = i32::try_from(skew).unwrap();
            peer.link.set_skew(if index == 0 { -skew } else { skew });
            peer.game = Game {
                running: true,
                last_received: -1,
                acked: -1,
                last_input: self.now,
                next_id: peer.game.next_id,
                seen: std::mem::take(&mut peer.game.seen),
                // The peer that is ahead starts earlier by the skew.
                started: self.now + frame(self.setup.fps) * [self.setup.skew, 0][index],
                ..Game::default()
            };
        }
    }

    /// Ends the episode on both peers.
    pub fn stop(&mut self) {
        for peer in &mut self.peers {
            peer.link.end_epoch();
            peer.game.running = false;
        }
    }

    /// Runs for `span` of virtual time.
    pub fn run_for(&mut self, span: Duration) {
        self.run_to(self.now + span);
    }

    /// Runs up to the instant `end`.
    pub fn run_to(&mut self, end: Duration) {
        loop {
            let index = usize::from(self.peers[1].next < self.peers[0].next);
            let at = self.peers[index].next;
            let turn = self.next_turn().filter(|(turn, _)| *turn <= at);
            let first = turn.map_or(at, |(turn, _)| turn);
            if first > end {
                self.now = end;
                return;
            }
            self.now = first;
            match turn {
                Some((_, task)) => self.task_turn(task),
                None => self.tick(index),
            }
        }
    }

    /// When a network task runs next, and whose.
    fn next_turn(&self) -> Option<(Duration, usize)> {
        if !self.setup.network_task {
            return None;
        }
        let turn = |index: usize| {
            let arrival = self.peers[1 - index].shaper.next_due();
            let poll = self.peers[index].next_poll;
            (arrival.map_or(poll, |at| at.clamp(self.now, poll)), index)
        };
        Some(turn(0).min(turn(1)))
    }

    /// One turn of a network task: what arrived is taken in, and the link is polled when that is due.
    fn task_turn(&mut self, index: usize) {
        let Self { now, peers, .. } = self;
        let world = *now;
        let [first, second] = peers;
        let (peer, other) = if index == 0 {
            (first, second)
        } else {
            (second, first)
        };
        receive(world, peer, other);
        if world < peer.next_poll {
            return;
        }
        peer.next_poll += TASK_POLL;
        if let Some(ticked) = peer.ticked {
            peer.link.set_game_tick(ticked);
        }
        poll(world, peer);
    }

    /// Blackholes what `from` sends on `path`. Over the relay, which is TCP, it comes after the path
    /// has healed.
    pub fn cut(&mut self, from: usize, path: Path) {
        self.peers[from].shaper.cut(path, Direction::Outgoing);
    }

    /// Blackholes `path`, both ways.
    pub fn cut_both(&mut self, path: Path) {
        (0..2).for_each(|from| self.cut(from, path));
    }

    /// Ends what [`cut`](Self::cut) began.
    pub fn heal(&mut self, from: usize, path: Path) {
        self.peers[from].shaper.heal(path, Direction::Outgoing);
    }

    /// Ends what [`cut_both`](Self::cut_both) began.
    pub fn heal_both(&mut self, path: Path) {
        (0..2).for_each(|from| self.heal(from, path));
    }

    /// Stops the ticks of a peer for `span` from now on, as a blocked process does.
    pub fn suspend(&mut self, index: usize, span: Duration) {
        self.peers[index].suspended = Some((self.now, self.now + span));
    }

    /// Stalled ticks of both peers.
    pub fn stalls(&self) -> u32 {
        self.peers.iter().map(|peer| peer.game.stalls).sum()
    }

    /// Longest time either peer waited for new inputs.
    pub fn longest_gap(&self) -> Duration {
        self.peers
            .iter()
            .map(|peer| peer.game.longest_gap)
            .max()
            .unwrap()
    }

    /// Sets the stalls and the longest gap of both peers to zero.
    pub fn reset_counts(&mut self) {
        for peer in &mut self.peers {
            peer.game.stalls = 0;
            peer.game.longest_gap = Duration::ZERO;
        }
    }

    /// The route of each peer.
    pub fn routes(&self) -> [RouteState; 2] {
        [self.peers[0].link.route(), self.peers[1].link.route()]
    }

    /// Time in which packets were sent on both paths: the longer one of both peers.
    pub fn both_paths(&self) -> Duration {
        let both = |peer: &Peer| peer.link.stats().both_paths;
        both(&self.peers[0]).max(both(&self.peers[1]))
    }

    /// Number of failovers of both peers.
    pub fn failovers(&self) -> usize {
        self.causes_into(RouteState::Relay).len()
    }

    /// Causes of all route changes of both peers into `state`, except those from Survival.
    pub fn causes_into(&self, state: RouteState) -> Vec<RouteCause> {
        let changes = self.peers.iter().flat_map(|peer| &peer.changes);
        changes
            .filter(|change| change.to == state && change.from != RouteState::Survival)
            .map(|change| change.cause)
            .collect()
    }

    /// The smaller failover margin of both peers in milliseconds; minus infinity if it is unknown.
    pub fn margin(&self) -> f64 {
        let margin = |peer: &Peer| peer.link.margin().unwrap_or(f64::NEG_INFINITY);
        margin(&self.peers[0]).min(margin(&self.peers[1]))
    }

    fn tick(&mut self, index: usize) {
        let Self { setup, now, peers } = self;
        let world = *now;
        let [first, second] = peers;
        let (peer, other) = if index == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let length = setup.tick[index].unwrap_or_else(|| frame(setup.fps));
        peer.grid += length;
        let late = setup
            .tick_jitter
            .mul_f64(f64::from(peer.rng.next_u32()) / 4_294_967_296.0);
        peer.next = (peer.grid + late).max(world + Duration::from_micros(500));
        if let Some((from, to)) = peer.suspended
            && (from..to).contains(&peer.next)
        {
            while peer.grid < to {
                peer.grid += length;
            }
            peer.next = peer.grid;
        }

        let local = world + peer.offset;
        peer.ticked = Some(local);
        if !setup.network_task {
            receive(world, peer, other);
            poll(world, peer);
        }
        let packets = std::mem::take(&mut peer.taken_in);
        let game = &mut peer.game;
        let mut answers = 0;
        for payload in &packets {
            answers += u32::from(game.take(world, payload));
        }
        if !game.running {
            return;
        }
        let Peer {
            link,
            shaper,
            game,
            changes,
            refuse_direct,
            relay_kinds,
            ..
        } = peer;
        let mut out =
            |sent: Transmit<'_>| hand_over(world, shaper, *refuse_direct, relay_kinds, sent);
        for _ in 0..answers {
            let mut ack = vec![1];
            ack.extend(game.id().to_le_bytes());
            ack.extend(game.last_received.to_le_bytes());
            link.send_data(local, &ack, false, &mut out);
        }
        let due = world.saturating_sub(game.started).as_nanos() / frame(setup.fps).as_nanos();
        // A slow poller runs several frames in one tick, as bevy_ggrs does.
        let steps = (length.as_nanos() / frame(setup.fps).as_nanos()).max(1);
        let steps = steps.min((due + 1).saturating_sub(game.current as u128));
        if world < game.started {
            return;
        }
        for _ in 0..steps {
            game.step(world, setup, link, local, &mut out);
        }
        changes.extend(link.drain_changes());
    }
}

/// Takes in what has arrived.
fn receive(world: Duration, peer: &mut Peer, other: &mut Peer) {
    let local = world + peer.offset;
    while let Some(packet) = other.shaper.pop_due(world) {
        if !peer.shaper.admit(packet.path) {
            continue;
        }
        match peer.link.receive(local, packet.path, &packet.bytes) {
            Ok(Incoming::Data { payload, .. }) => peer.taken_in.push(payload.to_vec()),
            Ok(_) => {}
            Err(_) => peer.malformed += 1,
        }
        other.shaper.recycle(packet.bytes);
    }
}

/// Lets a link decide and send what is due.
fn poll(world: Duration, peer: &mut Peer) {
    let local = world + peer.offset;
    let Peer {
        link,
        shaper,
        changes,
        renegotiations,
        refuse_direct,
        relay_kinds,
        ..
    } = peer;
    let mut out = |sent: Transmit<'_>| hand_over(world, shaper, *refuse_direct, relay_kinds, sent);
    link.poll(local, &mut out);
    changes.extend(link.drain_changes());
    if link.renegotiation_due(local) {
        renegotiations.push(world);
    }
}

/// Gives a datagram to the conditions.
fn hand_over(
    world: Duration,
    shaper: &mut Shaper<DatagramKind>,
    refuse_direct: bool,
    relay_kinds: &mut [u64; 4],
    sent: Transmit<'_>,
) -> Result<(), SendFailed> {
    let Transmit { path, kind, bytes } = sent;
    assert!(bytes.len() >= HEADER_LEN);
    if path == Path::Direct && refuse_direct {
        return Err(SendFailed);
    }
    if path == Path::Relay {
        let index = match kind {
            DatagramKind::Data => 0,
            DatagramKind::Heartbeat => 1,
            DatagramKind::Probe => 2,
            DatagramKind::Control => 3,
        };
        relay_kinds[index] += 1;
    }
    shaper.push(world, path, bytes, kind);
    Ok(())
}

impl Peer {
    /// The first failover from a direct path.
    pub fn fallback(&self) -> Option<&RouteChange> {
        self.changes.iter().find(|change| change.is_fallback())
    }

    /// This peer's clock at the virtual time `world`.
    pub fn clock(&self, world: Duration) -> Duration {
        world + self.offset
    }
}

impl Game {
    fn id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Takes a packet; returns whether it needs an acknowledgement.
    fn take(&mut self, now: Duration, payload: &[u8]) -> bool {
        let word = |at: usize| i32::from_le_bytes(payload[at..at + 4].try_into().unwrap());
        let id = u32::from_le_bytes(payload[1..5].try_into().unwrap());
        assert!(self.seen.insert(id), "packet {id} was delivered twice");
        self.acked = self.acked.max(word(5));
        if payload[0] != 0 {
            return false;
        }
        let (first, newest) = (word(9), word(13));
        assert!(first <= self.last_received + 1, "inputs are contiguous");
        if newest > self.last_received {
            self.last_received = newest;
            if let Some(last) = self.last_data {
                self.longest_gap = self.longest_gap.max(now - last);
            }
            self.last_data = Some(now);
        }
        self.last_input = now;
        true
    }

    fn step(
        &mut self,
        now: Duration,
        setup: &Setup,
        link: &mut Link,
        local: Duration,
        out: &mut Out<'_>,
    ) {
        let delay = i32::try_from(setup.input_delay).unwrap();
        let ahead = if self.last_received < 0 {
            self.current
        } else {
            self.current - self.last_received
        };
        if ahead < i32::try_from(setup.max_prediction).unwrap() {
            let payload = self.input(self.current + delay);
            let by = link.send_data(local, &payload, true, out);
            self.sent_by.push(by);
            self.current += 1;
        } else {
            self.stalls += 1;
            if now - self.last_input >= 200 * MS {
                self.last_input = now;
                let payload = self.input(self.current - 1 + delay);
                link.send_data(local, &payload, true, out);
            }
        }
    }

    fn input(&mut self, newest: i32) -> Vec<u8> {
        let mut payload = vec![0];
        payload.extend(self.id().to_le_bytes());
        payload.extend(self.last_received.to_le_bytes());
        payload.extend((self.acked + 1).to_le_bytes());
        payload.extend(newest.to_le_bytes());
        payload.resize(
            payload.len() + usize::try_from(newest - self.acked).unwrap().min(128),
            7,
        );
        payload
    }
}
