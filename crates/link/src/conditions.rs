//! Simulated networks for tests and experiments: latency, jitter, loss, bursts, rate limits and
//! outages, drawn from a seed.
//!
//! [`Conditions`] parses a specification for all players and paths; a [`Shaper`] applies it to what
//! one peer sends, so everything here is one-way; [`Realised`] counts what it did to the packets.

use std::{fmt, str::FromStr, time::Duration};

use crate::wire::Path;

mod grammar;
mod preset;
mod realised;
mod relay;
mod shaper;
mod tcp;

pub use grammar::ConditionError;
pub use realised::Realised;
pub use relay::PacketTag;
pub use shaper::{Direction, Shaped, Shaper};

use preset::Preset;

/// Loses packets in bursts: the two states of Gilbert (1960) and Elliott (1963). In the bad state every
/// packet is lost, in the good one [`Shape::loss`] applies.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Burst {
    /// Share of packets lost in bursts, from 0 up to, but not including, 1.
    pub share: f64,
    /// Mean length of a burst in packets, at least 1.
    pub length: f64,
}

impl Burst {
    /// The probabilities to enter and to leave the bad state, per packet. It lasts for `1 / leave`
    /// packets on average, and holds `enter / (enter + leave)` of all packets.
    fn chances(&self) -> (f64, f64) {
        let leave = 1.0 / self.length;
        (leave * self.share / (1.0 - self.share), leave)
    }
}

/// Holds packets back, so that later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Reorder {
    /// Share of packets held back, 0 to 1.
    pub share: f64,
    /// Additional delay of these packets.
    pub hold: Duration,
}

/// A stretch of every episode in which every packet sent is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Outage {
    /// Its start, since the start of the episode.
    pub from: Duration,
    /// Its end, since the start of the episode. `None` lasts until the episode ends.
    pub to: Option<Duration>,
}

impl Outage {
    /// Whether a packet sent `since` the start of the episode is lost.
    fn covers(&self, since: Duration) -> bool {
        since >= self.from && self.to.is_none_or(|to| since < to)
    }
}

/// How the relay path carries packets. The direct path carries datagrams, whatever this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub enum Transport {
    /// As a lab server does: over two TCP connections with the queues around them. Lost segments are
    /// sent again, and what was sent after them waits.
    #[default]
    Tcp,
    /// One datagram for every packet, as on the direct path: what is lost stays lost.
    Datagram,
}

impl Transport {
    /// Both, in the order of the documentation.
    const ALL: [Self; 2] = [Self::Tcp, Self::Datagram];

    /// Its name in a specification.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Datagram => "datagram",
        }
    }
}

/// What happens to the packets of one player on one path. The default leaves them alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
pub struct Shape {
    /// One-way delay, up to 10 s. Defaults to none.
    pub latency: Duration,
    /// The delay varies uniformly by up to this much in both directions, never below zero.
    /// Packets are not put back in order: jitter above the send interval reorders. Up to 10 s.
    /// Defaults to none.
    pub jitter: Duration,
    /// Share of packets lost independently, 0 to 1. Defaults to 0.
    pub loss: f64,
    /// Losses in bursts, beside `loss`. Defaults to none.
    pub burst: Option<Burst>,
    /// Share of packets that arrive twice, 0 to 1; the second copy has a delay of its own. Defaults to
    /// 0.
    pub duplicate: f64,
    /// Packets held back beyond their delay. Defaults to none.
    pub reorder: Option<Reorder>,
    /// Capacity of the path in bits per second, payload alone, for all receivers together. Packets
    /// queue for at most 300 ms; those that would wait longer are dropped. Defaults to unlimited.
    pub rate: Option<u64>,
    /// When the path is down. Defaults to no outage.
    pub cut: Option<Outage>,
    /// What carries the packets on the relay path. Defaults to TCP: losses and outages delay packets,
    /// and duplicates are discarded on the way.
    pub transport: Transport,
}

/// Longest wait at a rate limit: about the full buffer of a household router (Gettys and Nichols,
/// "Bufferbloat", 2011, report several hundred milliseconds).
const QUEUE_LIMIT: Duration = Duration::from_millis(300);

impl Shape {
    /// Whether packets pass unchanged.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        // What carries packets that nothing happens to makes no difference.
        let transport = Transport::default();
        Self { transport, ..*self } == Self::default()
    }
}

/// The keys of one segment; `None` for those that it does not set.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ConditionKeys {
    latency: Option<Duration>,
    jitter: Option<Duration>,
    loss: Option<f64>,
    burst: Option<Option<Burst>>,
    duplicate: Option<f64>,
    reorder: Option<Option<Reorder>>,
    rate: Option<Option<u64>>,
    cut: Option<Option<Outage>>,
    transport: Option<Transport>,
}

impl ConditionKeys {
    /// Overrides `shape` with the keys that are set.
    fn apply(&self, shape: &mut Shape) {
        *shape = Shape {
            latency: self.latency.unwrap_or(shape.latency),
            jitter: self.jitter.unwrap_or(shape.jitter),
            loss: self.loss.unwrap_or(shape.loss),
            burst: self.burst.unwrap_or(shape.burst),
            duplicate: self.duplicate.unwrap_or(shape.duplicate),
            reorder: self.reorder.unwrap_or(shape.reorder),
            rate: self.rate.unwrap_or(shape.rate),
            cut: self.cut.unwrap_or(shape.cut),
            transport: self.transport.unwrap_or(shape.transport),
        };
    }
}

/// One segment of a specification.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rule {
    player: Option<u8>,
    path: Option<Path>,
    preset: Option<&'static Preset>,
    keys: ConditionKeys,
}

/// The conditions of all players and paths, parsed from a specification.
///
/// `latency=50ms,jitter=10ms,loss=15%` applies to all players on both paths. A prefix restricts a
/// segment: `p1:` to what one player sends, `direct:` or `relay:` to one path, `p1:direct:` to both;
/// `;` separates segments. Where segments overlap, the later one wins, key by key.
///
/// | key | value | meaning |
/// |---|---|---|
/// | `latency` | `50ms` | one-way delay, up to 10 s |
/// | `jitter` | `10ms` | the delay varies uniformly by up to this much in both directions |
/// | `loss` | `15%` | packets lost independently |
/// | `burst` | `5%/4` | 5 % lost in bursts of 4 packets on average (Gilbert-Elliott) |
/// | `duplicate` | `1%` | packets that arrive twice |
/// | `reorder` | `2%/30ms` | packets held back by 30 ms, so that later ones overtake |
/// | `rate` | `256kbit` | capacity per second, with a queue of 300 ms |
/// | `cut` | `10s..12s` | an outage: packets sent in this stretch of every episode are lost; `10s..` lasts until the episode ends |
/// | `transport` | `tcp` | what carries packets on the relay path: `tcp`, the default, or `datagram` |
/// | `preset` | `lte` | the keys of a preset; other keys of the segment override it |
///
/// The relay path is two TCP connections, to the server and from it to the receiver, and the queues
/// around them: on it `loss` and `burst` are those of the network under TCP, so they delay packets
/// and all that follow instead of dropping them, and what is sent in an outage comes after it.
/// `relay:transport=datagram` loses packets as the direct path does.
///
/// `none` removes an earlier `burst`, `reorder`, `rate` or `cut`. An outage in one direction is that
/// of one player's packets: `p0:direct:cut=10s..12s`.
///
/// | preset | round trip | jitter | losses | rate up | source |
/// |---|---|---|---|---|---|
/// | `cable` | 28 ms | 0 | 0 | 1 Mbit/s | WebPageTest, "Cable" |
/// | `dsl` | 50 ms | 0 | 0 | 384 kbit/s | WebPageTest, "DSL" |
/// | `lte` | 70 ms | 0 | 0 | 12 Mbit/s | WebPageTest, "LTE" |
/// | `4g` | 170 ms | 0 | 0 | 9 Mbit/s | WebPageTest, "4G" |
/// | `3g` | 300 ms | 0 | 0 | 768 kbit/s | WebPageTest, "3G" |
/// | `busy-wifi` | 10 ms | 8 ms | 2 % in bursts of 3 | unlimited | chosen to exercise the route rules |
/// | `bad-wifi` | 30 ms | 20 ms | 8 % in bursts of 6 | unlimited | chosen to exercise the route rules |
///
/// ```
/// # use rollback_lab_link::{conditions::Conditions, wire::Path};
/// # use std::time::Duration;
/// let conditions = Conditions::parse("latency=50ms,loss=1%; p1:direct:latency=80ms,burst=5%/4")?;
/// assert_eq!(conditions.shape(0, Path::Direct).latency, Duration::from_millis(50));
/// assert_eq!(conditions.shape(1, Path::Direct).latency, Duration::from_millis(80));
/// assert_eq!(conditions.shape(1, Path::Direct).loss, 0.01);
/// assert!(conditions.shape(1, Path::Direct).burst.is_some());
/// # Ok::<(), rollback_lab_link::conditions::ConditionError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conditions {
    rules: Vec<Rule>,
}

impl Conditions {
    /// Parses a specification. An empty one means no conditions.
    ///
    /// # Errors
    /// [`ConditionError`] names the key, scope or value that is not valid, and those that are.
    pub fn parse(spec: &str) -> Result<Self, ConditionError> {
        let rules = spec
            .split(';')
            .map(str::trim)
            .filter(|segment| !segment.is_empty())
            .map(grammar::parse_rule)
            .collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// What happens to packets that `player` sends on `path`.
    #[must_use]
    pub fn shape(&self, player: usize, path: Path) -> Shape {
        let mut shape = Shape::default();
        let holds = |rule: &&Rule| {
            rule.player.is_none_or(|only| usize::from(only) == player)
                && rule.path.is_none_or(|only| only == path)
        };
        for rule in self.rules.iter().filter(holds) {
            if let Some(preset) = rule.preset {
                preset.keys().apply(&mut shape);
            }
            rule.keys.apply(&mut shape);
        }
        shape
    }

    /// Whether no segment sets anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The highest player handle in the specification: check it against the number of players.
    #[must_use]
    pub fn highest_player(&self) -> Option<usize> {
        self.rules
            .iter()
            .filter_map(|rule| rule.player.map(usize::from))
            .max()
    }
}

impl FromStr for Conditions {
    type Err = ConditionError;

    fn from_str(spec: &str) -> Result<Self, Self::Err> {
        Self::parse(spec)
    }
}

/// Writes a specification that parses to the same conditions.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, rule) in self.rules.iter().enumerate() {
            if at > 0 {
                f.write_str(";")?;
            }
            grammar::write_rule(f, rule)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
