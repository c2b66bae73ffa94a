//! The server's limits with their reasons, and the token bucket that enforces the rate.

use std::time::{Duration, Instant};

/// Longest signaling text, in bytes. Session descriptions with many candidates stay below 20 KiB.
pub(crate) const MAX_SIGNAL_LEN: usize = 64 * 1024;
/// Longest message that the websocket reads at all. Above [`MAX_SIGNAL_LEN`], so that an oversized
/// message can be read to its end and answered with a clean close; small enough to bound memory.
pub(crate) const MAX_MESSAGE_LEN: usize = 4 * MAX_SIGNAL_LEN;
/// A write that takes longer than this ends the connection: its client is lost. A write that blocks is no
/// proof of that by itself: an outage of 2.5 s does it, and TCP repeats only after 1, 3 and 7 s.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client gets to answer a close frame before its connection is dropped.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection silent for this long is pinged. Longer than matchbox's keep-alive of 10 s, so
/// that stock clients, which warn about a ping, get none.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(15);
/// Pings without any answer after which a connection is closed, [`PING_AFTER`] apart: 60 s after
/// its last message. A tab that a browser throttles answers pings; a machine asleep does not.
pub(crate) const UNANSWERED_PINGS: u32 = 3;
/// The same for a client that has sent frames of the relay. It probes every websocket that is silent for
/// 0.3 s, so there is nothing to wait for; a page that a browser throttles does it once a second.
pub(crate) const LAB_PING_AFTER: Duration = Duration::from_secs(1);
/// Pings to such a client without any answer after which it is lost: 3 s after its last message.
pub(crate) const LAB_UNANSWERED_PINGS: u32 = 2;
/// How long a websocket that was opened to resume may take to send its token.
pub(crate) const TOKEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a newcomer to a full room waits for members that may be lost: until those are taken off.
pub(crate) const GHOST_WAIT: Duration = Duration::from_millis(3_500);
/// How often it looks meanwhile.
pub(crate) const GHOST_CHECK: Duration = Duration::from_millis(50);
/// Kernel send buffer asked for per connection: about a dozen full packets, so that what a slow
/// receiver does not read waits in the rings, where it can be dropped, and not in the kernel.
pub(crate) const SEND_BUFFER: u32 = 16 * 1024;

/// Messages a client may send per second and other member of its room. The fastest supported game
/// has 240 frames a second, and a peer sends an input and an acknowledgement in each; reports,
/// checksums, probes and repeats come on top. A limit below what a game needs is loss made by the
/// server.
const RATE_PER_MEMBER: f64 = 600.0;
/// The burst is this share of one second's allowance.
const BURST_SHARE: f64 = 0.25;

/// Allowance of one client: 600 messages/s for every other member of its room, and a quarter of
/// that at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenBucket {
    tokens: f64,
    last: Option<Instant>,
}

impl TokenBucket {
    /// Takes one token, if there is one. A new bucket is full.
    pub(crate) fn take(&mut self, now: Instant, room_size: usize) -> bool {
        let others = u32::try_from(room_size.saturating_sub(1)).unwrap_or(u32::MAX);
        // Alone in a room a client still signals and probes.
        let rate = RATE_PER_MEMBER * f64::from(others.max(1));
        let burst = rate * BURST_SHARE;
        self.tokens = match self.last {
            None => burst,
            Some(last) => {
                let refill = now.saturating_duration_since(last).as_secs_f64() * rate;
                (self.tokens + refill).min(burst)
            }
        };
        self.last = Some(now);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bucket: &mut TokenBucket, now: Instant, room_size: usize, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(now, room_size)).count()
    }

    #[test]
    fn the_burst_is_a_quarter_of_a_second_and_scales_with_the_room() {
        let now = Instant::now();
        assert_eq!(passed(&mut TokenBucket::default(), now, 1, 1000), 150);
        assert_eq!(passed(&mut TokenBucket::default(), now, 2, 1000), 150);
        assert_eq!(passed(&mut TokenBucket::default(), now, 4, 1000), 450);
    }

    #[test]
    fn a_flood_gets_exactly_the_rate_in_the_long_run() {
        let start = Instant::now();
        let mut bucket = TokenBucket::default();
        let through: usize = (0..10_000)
            .map(|ms| passed(&mut bucket, start + Duration::from_millis(ms), 2, 5))
            .sum();
        assert!(
            (6000..=6150).contains(&through),
            "ten seconds allow 6000 and a burst of 150, not {through}"
        );
    }

    /// What a peer sends each other peer over the relay: an input and an acknowledgement per frame,
    /// and in every sixth frame a report, a checksum, a probe or a repeat.
    #[test]
    fn a_game_of_up_to_240_fps_is_not_limited() {
        for (fps, others) in [(60, 1), (60, 3), (120, 1), (120, 3), (240, 1), (240, 3)] {
            let start = Instant::now();
            let mut bucket = TokenBucket::default();
            for frame in 0..fps * 20 {
                let now = start + Duration::from_secs_f64(f64::from(frame) / f64::from(fps));
                let messages = others * if frame % 6 == 0 { 3 } else { 2 };
                let through = passed(&mut bucket, now, others + 1, messages);
                assert_eq!(
                    through, messages,
                    "{fps} fps, {others} others, frame {frame}"
                );
            }
        }
    }

    #[test]
    fn a_shrinking_room_takes_the_surplus_away() {
        let now = Instant::now();
        let mut bucket = TokenBucket::default();
        assert!(bucket.take(now, 64));
        assert_eq!(passed(&mut bucket, now, 2, 1000), 150);
    }
}
