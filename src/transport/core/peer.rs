//! Owns what is kept of one remote peer beside its link: which inputs it is known to have, which
//! arrived, and the bounds its messages are checked against. It never sends.

use std::time::Duration;

use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Frame, NULL_FRAME};

use crate::transport::EpisodeBounds;
use rollback_lab_link::ggrs_wire::{Checked, Limits, Owner, PlayerBounds, SentPings};
use rollback_lab_link::link::{Link, Packet, SentBy};
use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

/// Local inputs that a datagram carried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputDeparture {
    /// To whom.
    pub peer: PeerId,
    /// First input frame.
    pub first: Frame,
    /// Last input frame.
    pub last: Frame,
    /// The path or paths that took the datagram.
    pub by: SentBy,
}

/// Remote inputs that were new when a datagram brought them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputArrival {
    /// Who pressed.
    pub peer: PeerId,
    /// First new input frame.
    pub first: Frame,
    /// Last new input frame.
    pub last: Frame,
    /// The path of the first copy.
    pub via: Path,
    /// The next frame to simulate when they came.
    pub current_frame: Frame,
    /// When they came.
    pub at: Duration,
}

/// A packet of inputs as it came, first or not: what explains a late one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputPacket {
    /// First and last input frame that it carried; `None` of a further copy, which is not read.
    pub frames: Option<(Frame, Frame)>,
    /// Its path.
    pub via: Path,
    /// When it came, by our clock.
    pub at: Duration,
    /// What its header told.
    pub packet: Packet,
    /// It came by relay first, while the direct path should have brought it too.
    pub alone: bool,
}

/// Packets kept between two looks: those of a second at 60 Hz.
const PACKETS: usize = 64;

/// The last packets of inputs, in the order in which they came.
pub(in crate::transport) struct InputPackets {
    ring: [Option<InputPacket>; PACKETS],
    count: u64,
    epoch: u64,
}

/// How far somebody has read the packets of inputs of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketCursor {
    epoch: u64,
    seen: u64,
}

impl InputPackets {
    pub(super) const fn new() -> Self {
        Self {
            ring: [None; PACKETS],
            count: 0,
            epoch: 0,
        }
    }

    /// Another episode begins, the `epoch`th.
    pub(super) fn restart(&mut self, epoch: u64) {
        *self = Self {
            epoch,
            ..Self::new()
        };
    }

    pub(super) fn push(&mut self, packet: InputPacket) {
        self.ring[Self::slot(self.count)] = Some(packet);
        self.count += 1;
    }

    /// Hands out what came since `cursor`; tells whether an episode began meanwhile.
    pub(in crate::transport) fn read(
        &self,
        cursor: &mut PacketCursor,
        mut take: impl FnMut(bool, &InputPacket),
    ) {
        let mut restarted = cursor.epoch != self.epoch;
        if restarted {
            *cursor = PacketCursor {
                epoch: self.epoch,
                seen: 0,
            };
        }
        let oldest = self.count.saturating_sub(PACKETS as u64);
        for number in cursor.seen.max(oldest)..self.count {
            if let Some(packet) = &self.ring[Self::slot(number)] {
                take(std::mem::take(&mut restarted), packet);
            }
        }
        cursor.seen = self.count;
        if restarted {
            // Nothing came yet: the next look tells it.
            cursor.epoch = self.epoch.wrapping_sub(1);
        }
    }

    fn slot(number: u64) -> usize {
        usize::try_from(number % PACKETS as u64).expect("a remainder of 64 fits")
    }
}

/// One remote peer.
pub(in crate::transport) struct Peer {
    pub(in crate::transport) id: PeerId,
    pub(in crate::transport) link: Link,
    pub(super) players: Vec<PlayerBounds>,
    pub(super) sent_pings: SentPings,
    pub(super) magic: Option<u16>,
    pub(in crate::transport) packets: InputPackets,
    /// Newest local input that some path took.
    pub(super) carried: Frame,
    pub(super) heard_direct: Duration,
    pub(super) closing: Option<Duration>,
    pub(super) named_at: Duration,
    pub(super) usable_at: Option<Duration>,
}

impl Peer {
    /// From being named to a usable path.
    pub(in crate::transport) fn connect_time(&self) -> Option<Duration> {
        Some(self.usable_at?.saturating_sub(self.named_at))
    }

    /// Books the inputs that a checked message brought first.
    pub(super) fn record_inputs(
        &mut self,
        checked: &Checked,
        via: Path,
        current_frame: Frame,
        at: Duration,
    ) -> Option<InputArrival> {
        let known = self.newest(Owner::Sender);
        let last = checked.newest_input_frame.filter(|&last| last > known)?;
        // With input delay the first packet starts at the delay: the frames before it hold the
        // default input and never travel.
        let first = checked
            .first_input_frame
            .map_or(last, |first| first.max(known + 1));
        self.set_newest(Owner::Sender, last);
        Some(InputArrival {
            peer: self.id,
            first,
            last,
            via,
            current_frame,
            at,
        })
    }

    /// Keeps what a packet of inputs tells, for the causes of rollbacks.
    pub(super) fn record_packet(
        &mut self,
        frames: Option<(Frame, Frame)>,
        via: Path,
        at: Duration,
    ) {
        let direct = matches!(self.link.route(), RouteState::Direct | RouteState::Suspect);
        self.packets.push(InputPacket {
            frames,
            via,
            at,
            packet: *self.link.last_packet(),
            alone: via == Path::Relay && direct,
        });
    }

    /// Another peer's inputs are known here, so this one may tell of them.
    pub(super) fn heard_of(&mut self, bounds: &EpisodeBounds, other: PeerId, last: Frame) {
        for (player, player_slot) in self.players.iter_mut().zip(&bounds.player_slots) {
            if *player_slot == Some(other) {
                player.last_frame = player.last_frame.max(last);
            }
        }
    }

    pub(super) fn newest(&self, owner: Owner) -> Frame {
        self.players
            .iter()
            .filter(|player| player.owner == owner)
            .map(|player| player.last_frame)
            .max()
            .unwrap_or(NULL_FRAME)
    }

    pub(super) fn set_newest(&mut self, owner: Owner, frame: Frame) {
        for player in self
            .players
            .iter_mut()
            .filter(|player| player.owner == owner)
        {
            player.last_frame = frame;
        }
    }
}

/// The bounds that a message of `peer` is checked against.
pub(super) fn limits<'a>(
    bounds: &EpisodeBounds,
    peer: &'a Peer,
    current_frame: Frame,
) -> Limits<'a> {
    Limits {
        players: &peer.players,
        input_bytes: bounds.input_bytes,
        max_prediction: bounds.max_prediction,
        max_input_delay: bounds.max_input_delay,
        desync_interval: bounds.desync_interval,
        current_frame,
        remote_magic: peer.magic,
        sent_pings: &peer.sent_pings,
    }
}
