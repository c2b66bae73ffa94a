//! The packets of inputs that came from one peer, kept for the record and for the causes of rollbacks.

use std::sync::atomic::{AtomicU64, Ordering};

use ggrs::Frame;
use rollback_lab_link::cause::Arrival;

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
