//! Seeded network conditions for tests and experiments: what they are, and to whom they apply.
//!
//! Never touches packets; that is [`Shaper`]'s job. Every peer shapes what it sends, so that
//! everything here is one-way.

use std::{fmt, str::FromStr, time::Duration};

use super::wire::Path;

mod grammar;
mod preset;
mod realised;
mod shaper;

pub use grammar::ConditionError;
pub use preset::{PRESETS, Preset};
pub use realised::Realised;
pub use shaper::{Direction, Shaped, Shaper};

/// Losses in bursts: the two states of Gilbert (1960) and Elliott (1963). In the bad one every
/// packet is lost, in the good one [`Shape::loss`] applies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// Share of packets lost in bursts, from 0 up to, but not including, 1.
    pub share: f64,
    /// Mean length of a burst in packets, at least 1.
    pub length: f64,
}

impl Burst {
    /// The chances to enter and to leave the bad state, packet by packet. The bad state is held
    /// for `1 / leave` packets on average, and for `enter / (enter + leave)` of all of them.
    #[must_use]
    pub fn chances(&self) -> (f64, f64) {
        let leave = 1.0 / self.length;
        (leave * self.share / (1.0 - self.share), leave)
    }
}

/// Packets that are held back, so that later ones overtake them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reorder {
    /// Share of packets held back, 0 to 1.
    pub share: f64,
    /// For how long, beyond their delay.
    pub hold: Duration,
}

/// A stretch of every episode in which nothing that is sent arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Its begin, from the begin of the episode.
    pub from: Duration,
    /// Its end, from the begin of the episode. `None` lasts to the end.
    pub to: Option<Duration>,
}

impl Outage {
    /// Whether a packet sent so long after the episode began is lost.
    #[must_use]
    pub fn covers(&self, since: Duration) -> bool {
        since >= self.from && self.to.is_none_or(|to| since < to)
    }
}

/// What happens to the packets of one player on one path.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shape {
    /// One-way delay. Defaults to none.
    pub latency: Duration,
    /// The delay varies uniformly by up to this much in both directions, never below zero.
    /// Packets are not put back in order: jitter above the send interval reorders. Defaults to none.
    pub jitter: Duration,
    /// Share of packets lost independently, 0 to 1. Defaults to 0.
    pub loss: f64,
    /// Losses in bursts, beside `loss`. Defaults to none.
    pub burst: Option<Burst>,
    /// Share of packets that come twice, 0 to 1; the second copy is delayed on its own.
    /// Defaults to 0.
    pub duplicate: f64,
    /// Packets held back beyond their delay. Defaults to none.
    pub reorder: Option<Reorder>,
    /// Bits per second that the path carries, payload alone, for all receivers together. Packets
    /// wait for their turn, at most [`QUEUE_LIMIT`]; later ones are lost. Defaults to unlimited.
    pub rate: Option<u64>,
    /// When the path is down. Defaults to never.
    pub cut: Option<Outage>,
}

/// What waits at a rate limit for longer is dropped: a household router's full buffer is worth
/// about as much (Gettys and Nichols, "Bufferbloat", 2011, tell of several hundred milliseconds).
pub const QUEUE_LIMIT: Duration = Duration::from_millis(300);

impl Shape {
    /// Whether packets pass untouched.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        *self == Self::default()
    }
}

/// The keys of one segment; `None` where the segment says nothing.
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
}

impl ConditionKeys {
    /// Puts what is said over `shape`.
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

/// Conditions of all players and paths.
///
/// `latency=50ms,jitter=10ms,loss=15%` holds for everyone on both paths; `p1:` in front makes a
/// segment hold for what one player sends, `direct:` or `relay:` for one path, `p1:direct:` for
/// both; `;` separates segments. Where segments overlap, the later one wins, key by key.
///
/// | key | value | meaning |
/// |---|---|---|
/// | `latency` | `50ms` | one-way delay, up to 10 s |
/// | `jitter` | `10ms` | the delay varies by so much both ways |
/// | `loss` | `15%` | packets lost one by one |
/// | `burst` | `5%/4` | 5 % lost in bursts of 4 packets on average (Gilbert-Elliott) |
/// | `duplicate` | `1%` | packets that come twice |
/// | `reorder` | `2%/30ms` | packets held back by 30 ms, so that later ones overtake |
/// | `rate` | `256kbit` | what the path carries per second; the queue before it is [`QUEUE_LIMIT`] long |
/// | `cut` | `10s..12s` | nothing sent in this stretch of every episode arrives; `10s..` for good |
/// | `preset` | `lte` | the keys of one of the [`PRESETS`]; other keys of the segment override it |
///
/// `none` takes back an earlier `burst`, `reorder`, `rate` or `cut`. A cut of one direction is
/// that of one player's packets: `p0:direct:cut=10s..12s`.
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
    /// Reads a specification. An empty one means no conditions.
    ///
    /// # Errors
    /// Names the key, scope or value that is not understood, and what would be.
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

    /// Whether nothing is shaped at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The highest player that a segment names, to be checked against the number of players.
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
