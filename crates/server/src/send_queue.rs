//! What waits to be written to one client, in its order: a close frame, control messages and signals, the
//! answer to a probe, notices, then relayed packets from one ring per source.
//!
//! The connection's writer takes from it; the readers of the other members add to it. Time is
//! passed in as `now`.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::ws::{Message, Utf8Bytes};
use rollback_lab_link::wire::relay::{
    CLOSE_TOO_SLOW, DropReason, MAX_MEMBERS, Notice, encode_notice, encode_probe,
};
use tokio::sync::Notify;

use super::ring::{PacketRing, Queued};

/// Control messages that may wait; with more the client is taken for one that does not read. A
/// room of 64 that fills and empties once makes fewer.
const MAX_CONTROL: usize = 512;
/// Signals that may wait from one source: several sessions' worth of candidates.
const MAX_SIGNALS_PER_SOURCE: u16 = 64;
/// Bytes of signals that may wait from all sources together.
const MAX_SIGNAL_BYTES: usize = 1024 * 1024;
/// Least time between two notices about drops for the same reason.
const NOTICE_INTERVAL: Duration = Duration::from_millis(500);
/// Longest reason that a close frame can carry, in bytes: control frames hold 125, the code takes
/// two (RFC 6455, section 5.5).
const MAX_CLOSE_REASON: usize = 123;

const REASONS: usize = DropReason::ALL.len();

/// Why and how the server ends a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closing {
    /// Close code.
    pub code: u16,
    /// Text for the client, at most 123 bytes.
    pub text: String,
    /// Name of the reason for the counters.
    pub name: &'static str,
}

impl Closing {
    /// A closing whose text is cut to what a close frame can carry.
    pub(crate) fn new(code: u16, name: &'static str, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(MAX_CLOSE_REASON));
        Self { code, text, name }
    }
}

/// What the writer does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Write this close frame and stop.
    Close(Closing),
    /// Write a control message, a signal or a notice.
    Control(Message),
    /// Write a relay packet.
    Packet(Queued<Bytes>),
    /// Nothing until woken, or until this moment.
    Wait(Option<Instant>),
}

/// Everything that waits for one client, shared by its writer and the members that send to it.
#[derive(Default)]
pub(crate) struct SendQueue {
    queues: Mutex<Queues>,
    notify: Notify,
}

#[derive(Default)]
struct Queues {
    closing: Option<Closing>,
    control: VecDeque<Control>,
    signals: Vec<u16>,
    signal_bytes: usize,
    /// Rings in the order in which their sources first sent.
    rings: Vec<(u8, PacketRing<Bytes>)>,
    /// Index in `rings` at which the search for the next packet starts, so that sources take turns.
    turn: usize,
    /// The newest probe that is not answered yet.
    probe: Option<u32>,
    dropped: [u32; REASONS],
    notice_due: [Option<Instant>; REASONS],
}

struct Control {
    message: Message,
    /// Slot and length, if it is a signal.
    signal: Option<(u8, usize)>,
}

impl SendQueue {
    /// Resolves when something was queued since the last call.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Queues a message of the server itself. A client that leaves too many unread is closed.
    pub(crate) fn control(&self, message: Message) {
        let mut queues = self.lock();
        queues.control.push_back(Control {
            message,
            signal: None,
        });
        if queues.control.len() > MAX_CONTROL {
            queues.control.clear();
            queues.close(Closing::new(
                CLOSE_TOO_SLOW,
                "tooSlow",
                "too many unread control messages",
            ));
        }
        drop(queues);
        self.notify.notify_one();
    }

    /// Queues a binary frame of the server itself, if it could be encoded.
    pub(crate) fn control_frame(&self, frame: Option<Vec<u8>>) {
        if let Some(frame) = frame {
            self.control(Message::Binary(frame.into()));
        }
    }

    /// Queues a signal from the member in `source`.
    ///
    /// # Errors
    /// When too many wait already; the signal is dropped.
    pub(crate) fn signal(&self, source: u8, text: Utf8Bytes) -> Result<(), DropReason> {
        let mut queues = self.lock();
        let length = text.len();
        queues.signals.resize(MAX_MEMBERS, 0);
        let waiting = queues.signals[usize::from(source)];
        let full = waiting >= MAX_SIGNALS_PER_SOURCE
            || queues.signal_bytes + length > MAX_SIGNAL_BYTES
            || queues.control.len() >= MAX_CONTROL;
        if full {
            return Err(DropReason::RingFull);
        }
        queues.signals[usize::from(source)] += 1;
        queues.signal_bytes += length;
        queues.control.push_back(Control {
            message: Message::Text(text),
            signal: Some((source, length)),
        });
        drop(queues);
        self.notify.notify_one();
        Ok(())
    }

    /// Queues a relay packet from the member in `source`. Returns whether an older one was dropped
    /// for it.
    pub(crate) fn packet(&self, source: u8, received: Instant, frame: Bytes) -> bool {
        let mut queues = self.lock();
        let found = queues.rings.iter().position(|(slot, _)| *slot == source);
        let index = found.unwrap_or_else(|| {
            queues.rings.push((source, PacketRing::default()));
            queues.rings.len() - 1
        });
        let dropped = queues.rings[index].1.push(received, frame).is_some();
        drop(queues);
        self.notify.notify_one();
        dropped
    }

    /// Queues the last packets of the member that left `source` and then `notices`. No packet of it
    /// follows them, because the next member in that slot would be taken for its sender. Returns
    /// how many of its packets were stale.
    pub(crate) fn source_left(&self, now: Instant, source: u8, notices: Vec<Message>) -> u32 {
        let mut stale = 0;
        {
            let mut queues = self.lock();
            if let Some(index) = queues.rings.iter().position(|(slot, _)| *slot == source) {
                let (_, mut ring) = queues.rings.remove(index);
                while let Some(queued) = ring.pop(now, &mut stale) {
                    queues.control.push_back(Control {
                        message: Message::Binary(queued.item),
                        signal: None,
                    });
                }
            }
        }
        for message in notices {
            self.control(message);
        }
        stale
    }

    /// Answers a probe of this client before any packet is written. An older one that is not answered
    /// yet gives way: the newest answer has all that it would have.
    pub(crate) fn answer_probe(&self, number: u32) {
        self.lock().probe = Some(number);
        self.notify.notify_one();
    }

    /// Counts packets that this client sent and that were not delivered; the next notice reports
    /// them.
    pub(crate) fn record_dropped(&self, reason: DropReason, count: u32) {
        let mut queues = self.lock();
        let total = &mut queues.dropped[reason.index()];
        *total = total.saturating_add(count);
        drop(queues);
        self.notify.notify_one();
    }

    /// Ends the connection once the writer gets there; the first reason is kept.
    pub(crate) fn close(&self, closing: Closing) {
        self.lock().close(closing);
        self.notify.notify_one();
    }

    /// Whether the connection is about to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing.is_some()
    }

    /// What to write next: close, then control, then the answer to a probe, then due notices, then packets, sources in turn.
    /// `stale` receives the source and number of packets that waited too long.
    pub(crate) fn next(&self, now: Instant, stale: &mut Vec<(u8, u32)>) -> Next {
        let mut queues = self.lock();
        if let Some(closing) = &queues.closing {
            return Next::Close(closing.clone());
        }
        if let Some(control) = queues.control.pop_front() {
            if let Some((source, length)) = control.signal {
                queues.signals[usize::from(source)] -= 1;
                queues.signal_bytes -= length;
            }
            return Next::Control(control.message);
        }
        if let Some(number) = queues.probe.take() {
            let answer = Bytes::copy_from_slice(&encode_probe(number));
            return Next::Control(Message::Binary(answer));
        }
        if let Some(notice) = queues.due_notice(now) {
            return Next::Control(notice);
        }
        if let Some(packet) = queues.next_packet(now, stale) {
            return Next::Packet(packet);
        }
        Next::Wait(queues.next_notice())
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues
            .lock()
            .expect("nothing panics while it holds a queue")
    }
}

impl Queues {
    fn close(&mut self, closing: Closing) {
        self.closing.get_or_insert(closing);
    }

    fn due_notice(&mut self, now: Instant) -> Option<Message> {
        let reason = DropReason::ALL.into_iter().find(|reason| {
            let due = self.notice_due[reason.index()];
            self.dropped[reason.index()] > 0 && due.is_none_or(|due| due <= now)
        })?;
        let count = std::mem::take(&mut self.dropped[reason.index()]);
        self.notice_due[reason.index()] = Some(now + NOTICE_INTERVAL);
        let frame = encode_notice(&Notice::Dropped { reason, count }).ok()?;
        Some(Message::Binary(frame.into()))
    }

    fn next_notice(&self) -> Option<Instant> {
        DropReason::ALL
            .into_iter()
            .filter(|reason| self.dropped[reason.index()] > 0)
            .filter_map(|reason| self.notice_due[reason.index()])
            .min()
    }

    fn next_packet(&mut self, now: Instant, stale: &mut Vec<(u8, u32)>) -> Option<Queued<Bytes>> {
        let count = self.rings.len();
        for offset in 0..count {
            let index = (self.turn + offset) % count;
            let (source, ring) = &mut self.rings[index];
            let mut aged = 0;
            let packet = ring.pop(now, &mut aged);
            if aged > 0 {
                stale.push((*source, aged));
            }
            if packet.is_some() {
                self.turn = index + 1;
                return packet;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollback_lab_link::wire::relay::{ServerFrame, decode_server};

    const MS: Duration = Duration::from_millis(1);

    fn bytes(byte: u8) -> Bytes {
        Bytes::from(vec![byte])
    }

    fn control(byte: u8) -> Message {
        Message::Binary(bytes(byte))
    }

    fn drain(send_queue: &SendQueue, now: Instant) -> Vec<Next> {
        let mut stale = Vec::new();
        std::iter::from_fn(|| match send_queue.next(now, &mut stale) {
            Next::Wait(_) | Next::Close(_) => None,
            next => Some(next),
        })
        .collect()
    }

    fn packets(send_queue: &SendQueue, now: Instant) -> Vec<u8> {
        drain(send_queue, now)
            .into_iter()
            .map(|next| match next {
                Next::Packet(queued) => queued.item[0],
                other => panic!("{other:?} is no packet"),
            })
            .collect()
    }

    #[test]
    fn control_overtakes_full_rings() {
        let now = Instant::now();
        let send_queue = SendQueue::default();
        for n in 0..40 {
            send_queue.packet(1, now, bytes(n));
        }
        send_queue.control(control(99));
        let mut stale = Vec::new();
        assert_eq!(send_queue.next(now, &mut stale), Next::Control(control(99)));
    }

    #[test]
    fn sources_take_turns_and_only_the_flooding_one_loses_packets() {
        let now = Instant::now();
        let send_queue = SendQueue::default();
        let dropped = (0..20)
            .filter(|n| send_queue.packet(1, now, bytes(*n)))
            .count();
        assert_eq!(dropped, 4, "a ring holds 16");
        for n in 100..103 {
            assert!(
                !send_queue.packet(2, now, bytes(n)),
                "source 2 loses nothing"
            );
        }
        let order = packets(&send_queue, now);
        assert_eq!(order[..7], [4, 100, 5, 101, 6, 102, 7]);
        assert_eq!(order.len(), 19);
    }

    #[test]
    fn stale_packets_are_reported_with_their_source() {
        let now = Instant::now();
        let send_queue = SendQueue::default();
        send_queue.packet(1, now, bytes(1));
        send_queue.packet(1, now, bytes(2));
        send_queue.packet(2, now + 100 * MS, bytes(3));
        let mut stale = Vec::new();
        let next = send_queue.next(now + 151 * MS, &mut stale);
        assert!(matches!(next, Next::Packet(queued) if queued.item[0] == 3));
        assert_eq!(stale, [(1, 2)]);
    }

    #[test]
    fn drops_are_reported_at_once_and_then_twice_a_second() {
        let start = Instant::now();
        let send_queue = SendQueue::default();
        let mut reported = Vec::new();
        for ms in 0..1001 {
            let now = start + ms * MS;
            send_queue.record_dropped(DropReason::RateLimited, 10);
            for next in drain(&send_queue, now) {
                let Next::Control(Message::Binary(frame)) = next else {
                    panic!("{next:?} is no notice");
                };
                let Ok(ServerFrame::Notice(Notice::Dropped { reason, count })) =
                    decode_server(&frame)
                else {
                    panic!("the notice must decode");
                };
                assert_eq!(reason, DropReason::RateLimited);
                reported.push((ms, count));
            }
        }
        assert_eq!(reported, [(0, 10), (500, 5000), (1000, 5000)]);
        send_queue.record_dropped(DropReason::RateLimited, 1);
        let wait = send_queue.next(start + 1001 * MS, &mut Vec::new());
        assert_eq!(
            wait,
            Next::Wait(Some(start + 1500 * MS)),
            "the writer wakes for a notice that is not due yet"
        );
    }

    #[test]
    fn the_last_packets_of_a_peer_come_before_the_notice_that_it_left() {
        let now = Instant::now();
        let send_queue = SendQueue::default();
        send_queue.packet(1, now, bytes(7));
        send_queue.packet(1, now + 149 * MS, bytes(8));
        send_queue.packet(2, now + 149 * MS, bytes(9));
        let stale = send_queue.source_left(now + 160 * MS, 1, vec![control(50)]);
        assert_eq!(stale, 1);
        let order = drain(&send_queue, now + 160 * MS);
        assert_eq!(order[0], Next::Control(control(8)));
        assert_eq!(order[1], Next::Control(control(50)));
        assert!(matches!(&order[2], Next::Packet(queued) if queued.item[0] == 9));
    }

    #[test]
    fn one_source_cannot_fill_the_signal_queue_of_another() {
        let now = Instant::now();
        let send_queue = SendQueue::default();
        let passed = (0..1000).filter(|_| send_queue.signal(1, "s".into()).is_ok());
        assert_eq!(passed.count(), 64);
        assert_eq!(send_queue.signal(2, "s".into()), Ok(()));
        assert_eq!(drain(&send_queue, now).len(), 65);
        assert_eq!(
            send_queue.signal(1, "s".into()),
            Ok(()),
            "there is room again once they are read"
        );
    }

    #[test]
    fn a_client_that_leaves_control_unread_is_closed() {
        let send_queue = SendQueue::default();
        for _ in 0..512 {
            send_queue.control(control(0));
        }
        assert!(!send_queue.is_closing());
        send_queue.control(control(0));
        let next = send_queue.next(Instant::now(), &mut Vec::new());
        assert!(matches!(next, Next::Close(closing) if closing.code == CLOSE_TOO_SLOW));
    }

    #[test]
    fn the_first_reason_to_close_is_kept_and_fits_the_frame() {
        let send_queue = SendQueue::default();
        send_queue.close(Closing::new(1009, "tooLarge", "\u{e4}".repeat(100)));
        send_queue.close(Closing::new(1001, "shutdown", "late"));
        let Next::Close(closing) = send_queue.next(Instant::now(), &mut Vec::new()) else {
            panic!("a closing queue yields its close frame");
        };
        assert_eq!(closing.code, 1009);
        assert_eq!(closing.text.len(), 122, "cut at a character");
    }
}
