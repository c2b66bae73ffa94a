//! Owns the server's counters and their Prometheus text. Never decides anything.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use rollback_lab_link::wire::relay::DropReason;

/// Upper bounds in seconds: a frame at 120 and at 60 Hz stand out, and the stale limit closes it.
const LATENCY_BUCKETS: [f64; 12] = [
    0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.033, 0.075, 0.15,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

type ByReason = Family<Reason, Counter>;

/// What the server counts.
pub(crate) struct Metrics {
    registry: Registry,
    /// Rooms with at least one peer.
    pub rooms: Gauge,
    /// Peers in rooms.
    pub peers: Gauge,
    /// Peers that joined.
    pub joins: Counter,
    /// Rooms looked at to let peers join and leave: one per join and one per leave, however many
    /// rooms there are.
    pub room_visits: Counter,
    /// Packets written to their receiver. Pairs with `drops`.
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
            registry: Registry::default(),
            rooms: Gauge::default(),
            peers: Gauge::default(),
            joins: Counter::default(),
            room_visits: Counter::default(),
            forwards: Counter::default(),
            forwarded_bytes: Counter::default(),
            signals: Counter::default(),
            drops: Family::default(),
            malformed: Family::default(),
            refusals: Family::default(),
            closes: Family::default(),
            queue: Histogram::new(LATENCY_BUCKETS),
            added_latency: Histogram::new(LATENCY_BUCKETS),
        };
        registry.register(
            "rooms",
            "Rooms with at least one peer",
            metrics.rooms.clone(),
        );
        registry.register("peers", "Peers in rooms", metrics.peers.clone());
        registry.register("joins", "Peers that joined a room", metrics.joins.clone());
        registry.register(
            "room_visits",
            "Rooms looked at to let peers join and leave",
            metrics.room_visits.clone(),
        );
        registry.register(
            "forwards",
            "Relay packets written to their receiver",
            metrics.forwards.clone(),
        );
        registry.register_with_unit(
            "forwarded",
            "Payload of the forwarded packets",
            Unit::Bytes,
            metrics.forwarded_bytes.clone(),
        );
        registry.register(
            "signals",
            "Signaling messages queued for their receiver",
            metrics.signals.clone(),
        );
        registry.register(
            "drops",
            "Relay packets and signals not delivered, by reason",
            metrics.drops.clone(),
        );
        registry.register(
            "malformed",
            "Messages that did not decode, by reason",
            metrics.malformed.clone(),
        );
        registry.register(
            "refusals",
            "Connections refused a room, by reason",
            metrics.refusals.clone(),
        );
        registry.register(
            "closes",
            "Connections the server ended, by reason",
            metrics.closes.clone(),
        );
        registry.register_with_unit(
            "queue",
            "From reading a packet to taking it for writing",
            Unit::Seconds,
            metrics.queue.clone(),
        );
        registry.register_with_unit(
            "added_latency",
            "From reading a packet to having written it",
            Unit::Seconds,
            metrics.added_latency.clone(),
        );
        // Every reason stands in the text from the start, so that a rate can be taken of it.
        for reason in DropReason::ALL {
            metrics.dropped(reason, 0);
        }
        Self {
            registry,
            ..metrics
        }
    }
}

impl Metrics {
    /// Packets or signals were not delivered.
    pub(crate) fn dropped(&self, reason: DropReason, count: u32) {
        by_reason(&self.drops, reason.as_str(), count);
    }

    /// A message did not decode.
    pub(crate) fn malformed(&self, reason: &'static str) {
        by_reason(&self.malformed, reason, 1);
    }

    /// A connection was refused a room.
    pub(crate) fn refused(&self, reason: &'static str) {
        by_reason(&self.refusals, reason, 1);
    }

    /// The server ended a connection.
    pub(crate) fn closed(&self, reason: &'static str) {
        by_reason(&self.closes, reason, 1);
    }

    /// A packet was taken for writing after it had waited for `queued`.
    pub(crate) fn queued(&self, queued: Duration) {
        self.queue.observe(queued.as_secs_f64());
    }

    /// A packet of `payload` bytes was written, `latency` after it had been read.
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
        .get_or_create(&Reason { reason })
        .inc_by(u64::from(count));
}
