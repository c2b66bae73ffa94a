//! What is kept of one remote peer beside its link: which inputs it is known to have, which packets
//! of inputs came, and the bounds its messages are checked against.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Frame, Message as GgrsMessage, NULL_FRAME};

use crate::transport::EpisodeBounds;
use crate::transport::network::Received;
use rollback_lab_link::cause::{Arrival, Pause};
use rollback_lab_link::ggrs_wire::{
    self, Checked, Handover, Limits, Owner, PlayerBounds, SentPings,
};
use rollback_lab_link::link::{Incoming, Link, LinkError, SentBy};
use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

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

/// A packet of remote inputs as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputPacket {
    /// The first copy.
    First {
        /// What explains a late input.
        arrival: Arrival,
        /// First and last frame of the inputs that no packet had brought before.
        new: Option<(Frame, Frame)>,
    },
    /// A further copy, over the direct path, of the packet with this number. Its payload is not read.
    Copy {
        /// The packet's number among the peer's packets.
        seq: u16,
    },
}

/// Packets kept between two reads. Both readers run once per update: at 60 Hz and over both paths
/// this is more than four seconds without one, in which a peer fills its prediction window once and
/// then repeats one packet.
const PACKETS: usize = 512;

/// The last packets of inputs of one peer and one episode, in the order in which they came.
pub(in crate::transport) struct InputPackets {
    ring: Vec<InputPacket>,
    /// Packets so far.
    count: u64,
    /// Differs from that of any other peer and episode.
    id: u64,
}

/// How far a reader has read the packets of inputs of one player.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PacketCursor {
    id: u64,
    seen: u64,
}

impl InputPackets {
    pub(super) fn new() -> Self {
        Self {
            ring: Vec::with_capacity(PACKETS),
            count: 0,
            id: Self::next_id(),
        }
    }

    /// Another episode begins.
    pub(super) fn restart(&mut self) {
        self.ring.clear();
        self.count = 0;
        self.id = Self::next_id();
    }

    /// From 1: a new cursor has read nothing.
    fn next_id() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn push(&mut self, packet: InputPacket) {
        if self.ring.len() < PACKETS {
            self.ring.push(packet);
        } else {
            self.ring[Self::slot(self.count)] = packet;
        }
        self.count += 1;
    }

    /// Hands out what came since `cursor`, each packet with whether it is the first one that the
    /// cursor sees of another episode.
    pub(in crate::transport) fn read(
        &self,
        cursor: &mut PacketCursor,
        mut take: impl FnMut(bool, &InputPacket),
    ) {
        let mut restarted = cursor.id != self.id;
        let seen = if restarted { 0 } else { cursor.seen };
        let oldest = self.count.saturating_sub(PACKETS as u64);
        for number in seen.max(oldest)..self.count {
            take(
                std::mem::take(&mut restarted),
                &self.ring[Self::slot(number)],
            );
            *cursor = PacketCursor {
                id: self.id,
                seen: number + 1,
            };
        }
    }

    fn slot(number: u64) -> usize {
        usize::try_from(number % PACKETS as u64).expect("a remainder of 512 fits")
    }
}

/// A checked message of a peer's game.
pub(super) struct DataMessage {
    pub(super) message: GgrsMessage,
    /// Its newest input frame, if no message had brought it before.
    pub(super) newest_input: Option<Frame>,
}

/// One remote peer.
pub(in crate::transport) struct Peer {
    pub(in crate::transport) id: PeerId,
    pub(in crate::transport) link: Link,
    pub(super) players: Vec<PlayerBounds>,
    pub(super) sent_pings: SentPings,
    pub(super) magic: Option<u16>,
    pub(in crate::transport) packets: InputPackets,
    /// Its input packets on their way into ggrs.
    pub(in crate::transport) handover: Handover,
    /// Newest local input that some path took.
    pub(super) carried: Frame,
    /// When the direct path last brought anything.
    pub(super) direct_at: Duration,
    pub(super) closing: Option<Duration>,
    pub(super) named_at: Duration,
    pub(super) usable_at: Option<Duration>,
}

impl Peer {
    pub(super) fn new(id: PeerId, link: Link, now: Duration) -> Self {
        Self {
            id,
            link,
            players: Vec::new(),
            sent_pings: SentPings::default(),
            magic: None,
            packets: InputPackets::new(),
            handover: Handover::default(),
            carried: NULL_FRAME,
            direct_at: now,
            closing: None,
            named_at: now,
            usable_at: None,
        }
    }

    /// Another episode begins, between the players of `bounds`.
    pub(super) fn start_epoch(&mut self, now: Duration, epoch: u16, bounds: &EpisodeBounds) {
        self.link.start_epoch(now, epoch);
        self.sent_pings = SentPings::default();
        self.magic = None;
        self.packets.restart();
        self.handover.restart(now);
        self.carried = NULL_FRAME;
        let owner = |player_slot: &Option<PeerId>| match player_slot {
            None => Owner::Local,
            Some(id) if *id == self.id => Owner::Sender,
            Some(_) => Owner::Other,
        };
        let owners = bounds.player_slots.iter().map(owner);
        self.players = owners.map(PlayerBounds::new).collect();
    }

    /// From being named to a usable path.
    pub(in crate::transport) fn connect_time(&self) -> Option<Duration> {
        Some(self.usable_at?.saturating_sub(self.named_at))
    }

    /// Takes in one datagram. Paths are judged by `now`; the stamp of its arrival only measures.
    pub(super) fn receive<'a>(
        &mut self,
        now: Duration,
        received: Received<'a>,
    ) -> Result<Incoming<'a>, LinkError> {
        let Received {
            path, at, bytes, ..
        } = received;
        if path == Path::Direct {
            self.direct_at = now;
        }
        self.link.receive_stamped(now, at, path, bytes)
    }

    /// Decodes the first copy of a data packet within `bounds`, and records its inputs. A message
    /// outside them is counted.
    pub(super) fn decode(
        &mut self,
        payload: &[u8],
        via: Path,
        bounds: &EpisodeBounds,
        current_frame: Frame,
        now: Duration,
    ) -> Option<DataMessage> {
        if self.handover.is_closed() {
            return None;
        }
        let (message, checked) = self.check(payload, via, bounds, current_frame, now)?;
        let newest_input = self.record_inputs(&checked, via, now);
        Some(DataMessage {
            message,
            newest_input,
        })
    }

    /// Decodes a message within `bounds`. One outside them is counted.
    pub(super) fn check(
        &mut self,
        payload: &[u8],
        via: Path,
        bounds: &EpisodeBounds,
        current_frame: Frame,
        now: Duration,
    ) -> Option<(GgrsMessage, Checked)> {
        let limits = Limits {
            players: &self.players,
            input_bytes: bounds.input_bytes,
            max_prediction: bounds.max_prediction,
            max_input_delay: bounds.max_input_delay,
            desync_interval: bounds.desync_interval,
            current_frame,
            remote_magic: self.magic,
            sent_pings: &self.sent_pings,
        };
        match ggrs_wire::decode(payload, &limits) {
            Ok((message, checked)) => {
                self.magic.get_or_insert(checked.magic);
                self.handover.record(now, payload, &checked);
                Some((message, checked))
            }
            Err(error) => {
                self.link.count_malformed(via, error.reason());
                self.handover.record_refused(error);
                None
            }
        }
    }

    /// Records the packet of a checked message, if it carries inputs. Returns the newest input frame
    /// if it is new.
    fn record_inputs(&mut self, checked: &Checked, via: Path, at: Duration) -> Option<Frame> {
        let newest = checked.newest_input_frame?;
        let known = self.newest(Owner::Sender);
        let is_new = newest > known;
        // With input delay the first packet starts at the delay: the frames before it hold the
        // default input and are not sent.
        let first_new = checked
            .first_input_frame
            .map_or(newest, |first| first.max(known + 1));
        if let Some(first) = checked.first_input_frame {
            let arrival = self.arrival(first, newest, via, at);
            self.packets.push(InputPacket::First {
                arrival,
                new: is_new.then_some((first_new, newest)),
            });
        }
        if is_new {
            self.set_newest(Owner::Sender, newest);
        }
        is_new.then_some(newest)
    }

    /// Records a further copy of a data packet that came directly.
    pub(super) fn record_copy(&mut self) {
        let seq = self.link.last_packet().seq;
        self.packets.push(InputPacket::Copy { seq });
    }

    /// The packet received last, by its header, with the inputs in it.
    fn arrival(&self, first: Frame, newest: Frame, via: Path, at: Duration) -> Arrival {
        let header = self.link.last_packet();
        let relay = via == Path::Relay;
        let direct = matches!(self.link.route(), RouteState::Direct | RouteState::Suspect);
        Arrival {
            first,
            newest,
            sent: header.sent,
            at,
            seq: header.seq,
            relay,
            alone: relay && direct,
            hidden: header.hidden,
            held: header.held,
            behind: header.behind,
            missing: header.missing,
            pause: header.pause.map(|pause| Pause {
                from: pause.from,
                to: pause.to,
                hidden: pause.hidden,
            }),
        }
    }

    /// The inputs of peer `other` are known here through `last`, so this peer may report its
    /// disconnection at any frame up to that.
    pub(super) fn record_other(&mut self, bounds: &EpisodeBounds, other: PeerId, last: Frame) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(packets: &InputPackets, cursor: &mut PacketCursor) -> Vec<(bool, u16)> {
        let mut seen = Vec::new();
        packets.read(cursor, |restarted, packet| match packet {
            InputPacket::Copy { seq } => seen.push((restarted, *seq)),
            InputPacket::First { .. } => panic!("no first copy was pushed"),
        });
        seen
    }

    #[test]
    fn every_reader_gets_each_packet_once_and_learns_of_a_new_episode() {
        let mut packets = InputPackets::new();
        let (mut first, mut second) = (PacketCursor::default(), PacketCursor::default());
        packets.push(InputPacket::Copy { seq: 1 });
        assert_eq!(read(&packets, &mut first), [(true, 1)]);
        packets.push(InputPacket::Copy { seq: 2 });
        assert_eq!(read(&packets, &mut first), [(false, 2)]);
        assert_eq!(read(&packets, &mut second), [(true, 1), (false, 2)]);
        packets.restart();
        assert_eq!(read(&packets, &mut first), []);
        packets.push(InputPacket::Copy { seq: 3 });
        assert_eq!(read(&packets, &mut first), [(true, 3)]);
    }

    #[test]
    fn a_reader_that_comes_late_gets_the_newest_packets() {
        let mut packets = InputPackets::new();
        for seq in 0..1_000 {
            packets.push(InputPacket::Copy { seq });
        }
        let seen = read(&packets, &mut PacketCursor::default());
        assert_eq!(seen.len(), PACKETS);
        assert_eq!((seen[0], seen[PACKETS - 1]), ((true, 488), (false, 999)));
    }

    #[test]
    fn the_packets_of_another_peer_are_no_continuation() {
        let (mut one, mut other) = (InputPackets::new(), InputPackets::new());
        let mut cursor = PacketCursor::default();
        one.push(InputPacket::Copy { seq: 1 });
        read(&one, &mut cursor);
        other.push(InputPacket::Copy { seq: 2 });
        assert_eq!(read(&other, &mut cursor), [(true, 2)]);
    }
}
