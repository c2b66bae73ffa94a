//! The reliable channel for control messages between two peers: sequences, acknowledgements, retries
//! and order. The caller sends each payload of [`ControlChannel::poll`] on every open path.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{ControlMessage, WireError, decode_control, encode_control, seq_diff};

/// Wait for an acknowledgement before a message is sent again; at least one and a half round trips,
/// so that on a healthy path it is sent once. It does not grow: a message is some 70 bytes, and the
/// last message of an episode must survive a burst of losses.
const RETRY: Duration = Duration::from_millis(100);
/// Messages in flight at once, more than a session ever queues together; also how far ahead of the
/// next expected one a receiver keeps messages, which bounds its memory to this many datagrams.
const WINDOW: u16 = 16;

/// A message that is not acknowledged yet.
#[derive(Clone, Debug)]
struct Pending {
    seq: u16,
    message: ControlMessage,
    /// It has been sent at least once.
    sent: bool,
    due: Duration,
}

/// One end of the control channel to one peer: every message arrives once and in order.
///
/// Retries have no limit: a message is kept until it is acknowledged or the channel is dropped. The
/// session decides when a peer is gone.
#[derive(Clone, Debug)]
pub(crate) struct ControlChannel {
    pending: VecDeque<Pending>,
    next_seq: u16,
    /// Newest sequence received with everything before it.
    received: u16,
    early: BTreeMap<u16, ControlMessage>,
    ack_owed: bool,
}

impl Default for ControlChannel {
    fn default() -> Self {
        Self::new()
    }
}

impl ControlChannel {
    /// A channel on which nothing was sent yet.
    pub(crate) const fn new() -> Self {
        Self {
            pending: VecDeque::new(),
            next_seq: 1,
            received: 0,
            early: BTreeMap::new(),
            ack_owed: false,
        }
    }

    /// Queues a message; it is due at the next [`poll`](Self::poll).
    ///
    /// # Errors
    /// [`WireError::ControlBounds`] names a field of the message that the peer would refuse.
    pub(crate) fn queue(&mut self, message: ControlMessage) -> Result<(), WireError> {
        encode_control(0, 0, Some(&message))?;
        self.pending.push_back(Pending {
            seq: self.next_seq,
            message,
            sent: false,
            due: Duration::ZERO,
        });
        self.next_seq = self.next_seq.wrapping_add(1);
        Ok(())
    }

    /// The next control payload to send, if one is due; call it until it returns `None`.
    ///
    /// `rtt` is the best estimate of the round trip, zero when unknown: retries wait for at least
    /// one and a half of it.
    pub(crate) fn poll(&mut self, now: Duration, rtt: Duration) -> Option<Vec<u8>> {
        let due = self
            .pending
            .iter_mut()
            .take(usize::from(WINDOW))
            .find(|pending| pending.due <= now);
        let (seq, message) = match due {
            Some(pending) => {
                pending.sent = true;
                pending.due = now.saturating_add(RETRY.max(rtt + rtt / 2));
                (pending.seq, Some(&pending.message))
            }
            None if self.ack_owed => (self.next_seq.wrapping_sub(1), None),
            None => return None,
        };
        self.ack_owed = false;
        Some(
            encode_control(seq, self.received, message)
                .expect("queue admits only messages that encode"),
        )
    }

    /// Makes every unacknowledged message due at once: a path opened or recovered.
    pub(crate) fn retry_now(&mut self) {
        for pending in &mut self.pending {
            pending.due = Duration::ZERO;
        }
    }

    /// Applies a control payload; returns the messages it completes, in order, each once.
    ///
    /// # Errors
    /// [`WireError`] when the payload does not decode, acknowledges a message that was never sent,
    /// or is ahead of the window. The channel is unchanged then.
    pub(crate) fn on_received(&mut self, payload: &[u8]) -> Result<Vec<ControlMessage>, WireError> {
        let frame = decode_control(payload)?;
        // Only messages in flight can be newly acknowledged; older acknowledgements arrive late and
        // are ignored.
        let first_unsent = self
            .pending
            .iter()
            .find(|pending| !pending.sent)
            .map_or(self.next_seq, |pending| pending.seq);
        if seq_diff(frame.ack, first_unsent) >= 0 {
            return Err(WireError::ControlAck { ack: frame.ack });
        }
        let ahead = seq_diff(frame.seq, self.received);
        if frame.message.is_some() && ahead > i16::try_from(WINDOW).unwrap_or(i16::MAX) {
            return Err(WireError::ControlSequence { seq: frame.seq });
        }
        while let Some(front) = self.pending.front()
            && seq_diff(frame.ack, front.seq) >= 0
        {
            self.pending.pop_front();
        }
        let Some(message) = frame.message else {
            return Ok(Vec::new());
        };
        self.ack_owed = true;
        if ahead > 0 {
            self.early.entry(frame.seq).or_insert(message);
        }
        let mut complete = Vec::new();
        while let Some(message) = self.early.remove(&self.received.wrapping_add(1)) {
            self.received = self.received.wrapping_add(1);
            complete.push(message);
        }
        Ok(complete)
    }

    /// Messages that the peer has not acknowledged yet.
    pub(crate) fn unacked(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ready(epoch: u16) -> ControlMessage {
        ControlMessage::Ready { epoch, seed: 1 }
    }

    #[test]
    fn a_message_is_sent_once_on_a_healthy_path() {
        let (mut a, mut b) = (ControlChannel::new(), ControlChannel::new());
        a.queue(ready(1)).unwrap();
        let sent = a.poll(MS, Duration::ZERO).unwrap();
        assert_eq!(a.poll(MS, Duration::ZERO), None, "one copy at a time");
        assert_eq!(b.on_received(&sent).unwrap(), [ready(1)]);
        assert_eq!(
            b.on_received(&sent).unwrap(),
            [],
            "a copy completes nothing"
        );
        let ack = b.poll(MS * 20, Duration::ZERO).unwrap();
        assert_eq!(
            b.poll(MS * 20, Duration::ZERO),
            None,
            "one acknowledgement for both copies"
        );
        assert_eq!(a.on_received(&ack).unwrap(), []);
        assert_eq!(a.unacked(), 0);
        assert_eq!(a.poll(MS * 10_000, Duration::ZERO), None);
    }

    #[test]
    fn a_message_is_retried_every_100_ms_without_end() {
        let mut channel = ControlChannel::new();
        channel.queue(ready(1)).unwrap();
        let sent: Vec<u32> = (0..500)
            .filter(|ms| channel.poll(MS * *ms, Duration::ZERO).is_some())
            .collect();
        assert_eq!(sent, [0, 100, 200, 300, 400]);
        channel.retry_now();
        assert!(channel.poll(MS * 450, Duration::ZERO).is_some());
        assert!(channel.poll(MS * 100_000, Duration::ZERO).is_some());
        assert_eq!(channel.unacked(), 1);
    }

    #[test]
    fn a_retry_waits_for_one_and_a_half_round_trips() {
        let mut channel = ControlChannel::new();
        channel.queue(ready(1)).unwrap();
        assert!(channel.poll(MS, MS * 200).is_some());
        assert_eq!(channel.poll(MS * 300, MS * 200), None);
        assert!(channel.poll(MS * 301, MS * 200).is_some());
    }

    #[test]
    fn forged_acknowledgements_and_sequences_are_refused() {
        let mut channel = ControlChannel::new();
        channel.queue(ready(1)).unwrap();
        let acks_unsent = encode_control(0, 1, None).unwrap();
        assert_eq!(
            channel.on_received(&acks_unsent).unwrap_err().reason(),
            "controlAck"
        );
        channel.poll(Duration::ZERO, Duration::ZERO).unwrap();
        channel.on_received(&acks_unsent).unwrap();
        assert_eq!(channel.unacked(), 0);
        let far = encode_control(WINDOW + 1, 0, Some(&ready(1))).unwrap();
        assert_eq!(
            channel.on_received(&far).unwrap_err().reason(),
            "controlSequence"
        );
    }

    #[test]
    fn a_hello_out_of_bounds_is_not_queued() {
        let mut channel = ControlChannel::new();
        let hello = crate::wire::Hello {
            wire_version: 1,
            schema: "1.0".into(),
            game: "g".repeat(100),
            game_version: String::new(),
            players: 2,
            fps: 60,
            input_delay: 0,
            max_prediction: 8,
            desync_interval: 0,
            config_digest: 0,
            settings: Vec::new(),
            route_policy: 0,
        };
        assert!(channel.queue(ControlMessage::Hello(hello)).is_err());
        assert_eq!(channel.unacked(), 0);
    }

    proptest! {
        /// Loss, duplication and reordering in both directions, many more messages than the window.
        #[test]
        fn every_message_arrives_once_and_in_order(
            count in 1_u16..60,
            start: u16,
            fates in prop::collection::vec(0_u8..6, 1..200),
        ) {
            let (mut a, mut b) = (ControlChannel::new(), ControlChannel::new());
            (a.next_seq, b.received) = (start.wrapping_add(1), start);
            for epoch in 0..count {
                a.queue(ready(epoch)).unwrap();
            }
            let mut arrived = Vec::new();
            let mut held: Vec<(bool, Vec<u8>)> = Vec::new();
            let mut fates = fates.into_iter().chain(std::iter::repeat(0));
            for tick in 0_u32..20_000 {
                let now = MS * (tick * 50);
                let mut out: Vec<(bool, Vec<u8>)> = Vec::new();
                while let Some(bytes) = a.poll(now, Duration::ZERO) {
                    out.push((true, bytes));
                }
                while let Some(bytes) = b.poll(now, Duration::ZERO) {
                    out.push((false, bytes));
                }
                for packet in out {
                    match fates.next().unwrap() {
                        1 => {}
                        2 => held.push(packet),
                        3 => held.extend([packet.clone(), packet]),
                        _ => held.insert(0, packet),
                    }
                }
                while held.len() > 3 || (tick % 4 == 3 && !held.is_empty()) {
                    let (to_b, bytes) = held.remove(0);
                    if to_b {
                        arrived.extend(b.on_received(&bytes).unwrap());
                    } else {
                        a.on_received(&bytes).unwrap();
                    }
                }
                if a.unacked() == 0 {
                    break;
                }
            }
            prop_assert_eq!(a.unacked(), 0);
            prop_assert_eq!(arrived, (0..count).map(ready).collect::<Vec<_>>());
        }

        #[test]
        fn any_payload_leaves_the_channel_bounded(payloads in prop::collection::vec(any::<Vec<u8>>(), 0..50)) {
            let mut channel = ControlChannel::new();
            for payload in payloads {
                let _ = channel.on_received(&payload);
                prop_assert!(channel.early.len() < usize::from(WINDOW));
            }
        }
    }
}
