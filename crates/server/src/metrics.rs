//! The server's counters and histograms, and their `OpenMetrics` text.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};
use rollback_lab_link::wire::relay::DropReason;

/// Upper bounds in seconds. A frame at 120 and at 60 Hz is about a bucket of its own, and the last
/// bound is the age at which a packet is stale.
const LATENCY_BUCKETS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.075, 0.15,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

type ByReason = Family<ReasonLabel, Counter>;

/// What the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    /// Rooms with at least one peer.
    pub rooms: Gauge,
    /// Peers in rooms.
    pub peers: Gauge,
    /// Peers that joined.
    pub joins: Counter,
    /// Peers that resumed after their websocket was lost.
    pub resumes: Counter,
    /// Rooms locked for joins and leaves: one per join and one per leave, however many rooms there
    /// are.
    pub room_visits: Counter,
    /// Packets written to their receiver.
    pub forwards: Counter,
    /// Payload bytes of `forwards`.
    pub forwarded_bytes: Counter,
    /// Signals queued for their receiver.
    pub signals: Counter,
    drops: ByReason,
    malformed: ByReason,
    refusals: ByReason,
    closes: ByReason,
    queue: Histogram,
    added_latency: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rollback_lab_server");
        let metrics = Self {
            rooms: counted(&mut registry, "rooms", "Rooms with at least one peer"),
            peers: counted(&mut registry, "peers", "Peers in rooms"),
            joins: counted(&mut registry, "joins", "Peers that joined a room"),
            resumes: counted(
                &mut registry,
                "resumes",
                "Peers that resumed a slot in a room",
            ),
            room_visits: counted(
                &mut registry,
                "room_visits",
                "Rooms locked for joins and leaves",
            ),
            forwards: counted(
                &mut registry,
                "forwards",
                "Relay packets written to their receiver",
            ),
            forwarded_bytes: with_unit(
                &mut registry,
                "forwarded",
                "Payload of the forwarded packets",
                Unit::Bytes,
                Counter::default(),
            ),
            signals: counted(
                &mut registry,
                "signals",
                "Signaling messages queued for their receiver",
            ),
            drops: counted(
                &mut registry,
                "drops",
                "Relay packets and signals not delivered, by reason",
            ),
            malformed: counted(
                &mut registry,
                "malformed",
                "Messages that did not decode, by reason",
            ),
            refusals: counted(
                &mut registry,
                "refusals",
                "Connections refused a room, by reason",
            ),
            closes: counted(
                &mut registry,
                "closes",
                "Connections the server ended, by reason",
            ),
            queue: with_unit(
                &mut registry,
                "queue",
                "From reading a packet to taking it for writing",
                Unit::Seconds,
                Histogram::new(LATENCY_BUCKETS),
            ),
            added_latency: with_unit(
                &mut registry,
                "added_latency",
                "From reading a packet to having written it",
                Unit::Seconds,
                Histogram::new(LATENCY_BUCKETS),
            ),
            registry,
        };
        // Every reason is in the text from the start: a rate over a series that appears later
        // misses its first increase.
        for reason in DropReason::ALL {
            metrics.dropped(reason, 0);
        }
        metrics
    }
}

/// A counter, a gauge or a family of them, registered as `name`.
fn counted<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// `metric`, registered as `name` with its unit behind it.
fn with_unit<M: Metric + Clone>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Unit,
    metric: M,
) -> M {
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

impl Metrics {
    /// Counts packets or signals that were not delivered.
    pub(crate) fn dropped(&self, reason: DropReason, count: u32) {
        by_reason(&self.drops, reason.as_str(), count);
    }

    /// Counts a message that did not decode.
    pub(crate) fn malformed(&self, reason: &'static str) {
        by_reason(&self.malformed, reason, 1);
    }

    /// Counts a connection that was refused a room.
    pub(crate) fn refused(&self, reason: &'static str) {
        by_reason(&self.refusals, reason, 1);
    }

    /// Counts a connection that the server ended.
    pub(crate) fn closed(&self, reason: &'static str) {
        by_reason(&self.closes, reason, 1);
    }

    /// Records how long a packet waited until it was taken for writing.
    pub(crate) fn queued(&self, queued: Duration) {
        self.queue.observe(queued.as_secs_f64());
    }

    /// Counts a packet of `payload` bytes that was written `latency` after it had been read.
    pub(crate) fn forwarded(&self, payload: usize, latency: Duration) {
        self.forwards.inc();
        self.forwarded_bytes
            .inc_by(u64::try_from(payload).unwrap_or(u64::MAX));
        self.added_latency.observe(latency.as_secs_f64());
    }

    /// Everything in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// When the formatter fails, which a `String` does not.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn by_reason(family: &ByReason, reason: &'static str, count: u32) {
    family
        .get_or_create(&ReasonLabel { reason })
        .inc_by(u64::from(count));
}
