//! Seeded network conditions for tests and experiments: what they are and how they are written.
//!
//! Owns the grammar of `--conditions`. Never touches packets; that is [`Shaper`]'s job. Every peer
//! shapes what it sends, so latency is one-way.

use std::{fmt, str::FromStr, time::Duration};

use super::wire::Path;

mod shaper;

pub use shaper::{Direction, Realised, Shaped, Shaper};

/// Keys of the grammar, as error messages list them.
const KNOWN_KEYS: &str = "latency, jitter, loss";
/// Scopes of the grammar, as error messages list them.
const KNOWN_SCOPES: &str = "p0 to p63, direct, relay";
/// Longest latency or jitter: ten seconds is beyond every game and keeps queues bounded.
const TIME_MAX: Duration = Duration::from_secs(10);

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
}

impl Shape {
    /// Whether packets pass untouched.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        *self == Self::default()
    }
}

/// One segment of a specification.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rule {
    player: Option<u8>,
    path: Option<Path>,
    latency: Option<Duration>,
    jitter: Option<Duration>,
    loss: Option<f64>,
}

/// Conditions of all players and paths.
///
/// `latency=50ms,jitter=10ms,loss=15%` holds for everyone on both paths; `p1:` in front makes a
/// segment hold for one player, `direct:` or `relay:` for one path, `p1:direct:` for both;
/// `;` separates segments. Where segments overlap, the later one wins, key by key.
///
/// ```
/// # use bevy_rollback_lab::transport::{conditions::Conditions, wire::Path};
/// # use std::time::Duration;
/// let conditions = Conditions::parse("latency=50ms,loss=1%; p1:direct:latency=80ms")?;
/// assert_eq!(conditions.shape(0, Path::Direct).latency, Duration::from_millis(50));
/// assert_eq!(conditions.shape(1, Path::Direct).latency, Duration::from_millis(80));
/// assert_eq!(conditions.shape(1, Path::Direct).loss, 0.01);
/// # Ok::<(), bevy_rollback_lab::transport::conditions::ConditionError>(())
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
            .map(parse_rule)
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
            shape.latency = rule.latency.unwrap_or(shape.latency);
            shape.jitter = rule.jitter.unwrap_or(shape.jitter);
            shape.loss = rule.loss.unwrap_or(shape.loss);
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
            if let Some(player) = rule.player {
                write!(f, "p{player}:")?;
            }
            if let Some(path) = rule.path {
                write!(f, "{path}:")?;
            }
            let mut comma = "";
            let times = [("latency", rule.latency), ("jitter", rule.jitter)];
            for (key, time) in times {
                if let Some(time) = time {
                    write!(f, "{comma}{key}={}ms", time.as_secs_f64() * 1e3)?;
                    comma = ",";
                }
            }
            if let Some(loss) = rule.loss {
                write!(f, "{comma}loss={}%", loss * 100.0)?;
            }
        }
        Ok(())
    }
}

/// Why a specification is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// No such key.
    #[error("unknown condition {key:?}: known are {KNOWN_KEYS}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// No such scope.
    #[error("unknown scope {scope:?} of a condition: known are {KNOWN_SCOPES}")]
    UnknownScope {
        /// The scope.
        scope: String,
    },
    /// The same key or kind of scope twice in one segment.
    #[error("{what:?} stands twice in condition {segment:?}")]
    Twice {
        /// What stands twice.
        what: String,
        /// The segment.
        segment: String,
    },
    /// Neither `key=value` nor a scope.
    #[error("condition {text:?} is not of the form key=value; known keys are {KNOWN_KEYS}")]
    NotKeyValue {
        /// The text.
        text: String,
    },
    /// A value out of range or without its unit.
    #[error("condition {key}={value}: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
}

fn parse_rule(segment: &str) -> Result<Rule, ConditionError> {
    let mut rule = Rule::default();
    let twice = |what: &str| ConditionError::Twice {
        what: what.to_owned(),
        segment: segment.to_owned(),
    };
    let mut rest = segment;
    while let Some((scope, after)) = rest.split_once(':') {
        let scope = scope.trim();
        let path = Path::ALL.into_iter().find(|path| path.as_str() == scope);
        let player = scope
            .strip_prefix('p')
            .and_then(|digits| digits.parse::<u8>().ok())
            .filter(|player| *player < 64);
        let doubled = match (path, player) {
            (Some(path), _) => rule.path.replace(path).is_some(),
            (None, Some(player)) => rule.player.replace(player).is_some(),
            (None, None) => {
                return Err(ConditionError::UnknownScope {
                    scope: scope.to_owned(),
                });
            }
        };
        if doubled {
            return Err(twice(scope));
        }
        rest = after;
    }
    for pair in rest.split(',') {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(ConditionError::NotKeyValue {
                text: pair.trim().to_owned(),
            });
        };
        let (key, value) = (key.trim(), value.trim());
        let doubled = match key {
            "latency" => rule
                .latency
                .replace(parse_time("latency", value)?)
                .is_some(),
            "jitter" => rule.jitter.replace(parse_time("jitter", value)?).is_some(),
            "loss" => rule.loss.replace(parse_share("loss", value)?).is_some(),
            _ => {
                return Err(ConditionError::UnknownKey {
                    key: key.to_owned(),
                });
            }
        };
        if doubled {
            return Err(twice(key));
        }
    }
    Ok(rule)
}

fn parse_time(key: &'static str, value: &str) -> Result<Duration, ConditionError> {
    let (digits, scale) = if let Some(digits) = value.strip_suffix("ms") {
        (digits, 1e-3)
    } else if let Some(digits) = value.strip_suffix("us") {
        (digits, 1e-6)
    } else if let Some(digits) = value.strip_suffix('s') {
        (digits, 1.0)
    } else {
        ("", 1.0)
    };
    number(digits)
        .and_then(|number| Duration::try_from_secs_f64(number * scale).ok())
        .filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| ConditionError::Value {
            key,
            value: value.to_owned(),
            expected: "a time up to 10 s with its unit, like 50ms",
        })
}

fn parse_share(key: &'static str, value: &str) -> Result<f64, ConditionError> {
    value
        .strip_suffix('%')
        .and_then(number)
        .map(|percent| percent / 100.0)
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| ConditionError::Value {
            key,
            value: value.to_owned(),
            expected: "a percentage from 0% to 100%, like 15%",
        })
}

/// A plain non-negative decimal number; Rust's own parser would let `inf`, `NaN` and `1e3` in.
fn number(digits: &str) -> Option<f64> {
    let digits = digits.trim();
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
