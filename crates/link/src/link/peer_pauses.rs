//! How long the peer now and then sends nothing although its game runs: a page whose thread draws in
//! software sends and answers nothing meanwhile, several times a second. Two packets that it sent one
//! after the other show it, whatever the path does to them.

use std::time::Duration;

use crate::wire::{DatagramKind, Header};

/// The longest pause of the last one to two of these counts: long enough that pauses that come every
/// second are known, short enough that a single one is forgotten.
const SPAN: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerPauses {
    /// The newest packet of the game's flow: its number on the direct path, and when it was sent.
    newest: Option<(u32, Duration)>,
    /// The longest pause of the span that began at `since`, and of the one before.
    longest: [Duration; 2],
    since: Duration,
}

impl PeerPauses {
    /// Takes in the header of a packet that arrived directly, `sent` by the peer's clock.
    pub(super) fn record(&mut self, now: Duration, header: &Header, sent: Duration) {
        let flows = matches!(header.kind, DatagramKind::Data | DatagramKind::Heartbeat);
        if !flows || header.failed_over {
            self.newest = None;
            return;
        }
        if let Some((number, before)) = self.newest
            && header.number == number.wrapping_add(1)
        {
            if now >= self.since + SPAN {
                let [newest, _] = self.longest;
                let recent = now < self.since + SPAN * 2;
                self.longest = [Duration::ZERO, if recent { newest } else { Duration::ZERO }];
                self.since = now;
            }
            self.longest[0] = self.longest[0].max(sent.saturating_sub(before));
        }
        self.newest = Some((header.number, sent));
    }

    /// The longest pause of the last seconds.
    pub(super) fn longest(&self, now: Duration) -> Duration {
        let [newest, before] = self.longest;
        match now.saturating_sub(self.since) {
            age if age < SPAN => newest.max(before),
            age if age < SPAN * 2 => newest,
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn record(pauses: &mut PeerPauses, at: u32, number: u32, kind: DatagramKind) {
        let header = Header {
            number,
            ..Header::new(kind)
        };
        pauses.record(MS * at, &header, MS * (at + 70_000));
    }

    #[test]
    fn a_pause_between_neighbours_counts_for_three_to_six_seconds() {
        let mut pauses = PeerPauses::default();
        record(&mut pauses, 0, 7, DatagramKind::Data);
        record(&mut pauses, 58, 8, DatagramKind::Heartbeat);
        for number in 0..200 {
            record(
                &mut pauses,
                75 + number * 17,
                9 + number,
                DatagramKind::Data,
            );
            assert!(pauses.longest(MS * (75 + number * 17)) >= MS * 17);
        }
        assert_eq!(pauses.longest(MS * 3_400), MS * 58);
        assert_eq!(pauses.longest(MS * 7_000), MS * 17);
        assert_eq!(pauses.longest(MS * 20_000), Duration::ZERO);
    }

    #[test]
    fn lost_packets_and_probes_are_no_pause() {
        let mut pauses = PeerPauses::default();
        record(&mut pauses, 0, 7, DatagramKind::Data);
        record(&mut pauses, 80, 11, DatagramKind::Data);
        record(&mut pauses, 97, 12, DatagramKind::Probe);
        record(&mut pauses, 500, 13, DatagramKind::Data);
        assert_eq!(pauses.longest(MS * 500), Duration::ZERO);
    }
}
