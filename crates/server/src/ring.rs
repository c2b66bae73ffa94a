//! The queue of relayed packets from one sender to one receiver: bounded, the oldest packet is
//! dropped when it is full, and stale ones are not sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets that wait for one receiver from one sender: a quarter of a second at 60 Hz. A ggrs
/// input packet repeats every unacknowledged input, so the newest packets are worth the most.
pub(crate) const RING_LEN: usize = 16;
/// A packet older than this is not sent: at 60 Hz it is older than ggrs's default prediction
/// window of 8 frames, and a newer one carries the same inputs.
pub(crate) const STALE_AFTER: Duration = Duration::from_millis(150);

/// An item of a queue, and when it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Queued<T> {
    /// When the server had read it.
    pub received: Instant,
    /// The item itself.
    pub item: T,
}

/// A queue of at most [`RING_LEN`] items that drops the oldest.
#[derive(Clone, Debug)]
pub(crate) struct PacketRing<T> {
    items: VecDeque<Queued<T>>,
}

impl<T> Default for PacketRing<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::with_capacity(RING_LEN),
        }
    }
}

impl<T> PacketRing<T> {
    /// Appends an item. In a full ring it replaces the oldest one, which is returned.
    pub(crate) fn push(&mut self, received: Instant, item: T) -> Option<T> {
        let dropped = if self.items.len() == RING_LEN {
            self.items.pop_front()
        } else {
            None
        };
        self.items.push_back(Queued { received, item });
        dropped.map(|queued| queued.item)
    }

    /// Takes the oldest item that is not stale, and adds the number of stale ones to `stale`.
    pub(crate) fn pop(&mut self, now: Instant, stale: &mut u32) -> Option<Queued<T>> {
        while let Some(queued) = self.items.pop_front() {
            if now.saturating_duration_since(queued.received) <= STALE_AFTER {
                return Some(queued);
            }
            *stale += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_seventeenth_packet_drops_the_oldest() {
        let now = Instant::now();
        let mut ring = PacketRing::default();
        for n in 0..16 {
            assert_eq!(ring.push(now, n), None, "16 packets fit");
        }
        assert_eq!(ring.push(now, 16), Some(0));
        assert_eq!(ring.push(now, 17), Some(1));
        let mut stale = 0;
        let left: Vec<_> = std::iter::from_fn(|| ring.pop(now, &mut stale))
            .map(|queued| queued.item)
            .collect();
        assert_eq!(left, (2..18).collect::<Vec<_>>(), "the newest 16 in order");
        assert_eq!(stale, 0);
    }

    #[test]
    fn a_packet_of_150_ms_is_sent_and_an_older_one_is_not() {
        let start = Instant::now();
        let mut ring = PacketRing::default();
        ring.push(start, "too old");
        ring.push(start + MS, "just in time");
        let mut stale = 0;
        let next = ring.pop(start + MS + STALE_AFTER, &mut stale);
        assert_eq!(next.map(|queued| queued.item), Some("just in time"));
        assert_eq!(stale, 1);
    }
}
