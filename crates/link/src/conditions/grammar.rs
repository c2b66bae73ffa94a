//! The grammar of conditions: parsing and writing a specification.

use std::fmt;
use std::time::Duration;

use super::preset::{PRESETS, Preset};
use super::{Burst, ConditionKeys, Outage, Reorder, Rule, Transport};
use crate::wire::Path;

/// Keys of the grammar, as error messages list them.
const KNOWN_KEYS: &str = "latency, jitter, loss, burst, duplicate, reorder, rate, cut, \
     transport, preset";
/// Scopes of the grammar, as error messages list them.
const KNOWN_SCOPES: &str = "p0 to p63, direct, relay";
/// Longest latency, jitter or hold: ten seconds is beyond every game and keeps queues bounded.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Latest start or end of an outage: no episode lasts for a day.
const CUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest mean burst: ten seconds of packets at 120 Hz.
const BURST_MAX: f64 = 1_200.0;
/// Lowest rate, in bits per second: a slower path does not carry one heartbeat a second.
const RATE_MIN: f64 = 1_000.0;
/// Highest rate, in bits per second: a faster path is not a limit to a game.
const RATE_MAX: f64 = 1e9;
/// Removes a condition of an earlier segment.
const NONE: &str = "none";

/// Why a specification is not valid. The message lists the valid keys, scopes or presets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// The key does not exist.
    #[error("unknown condition {key:?}: known are {KNOWN_KEYS}")]
    UnknownKey {
        /// The key.
        key: String,
    },
    /// The scope does not exist.
    #[error("unknown scope {scope:?} of a condition: known are {KNOWN_SCOPES}")]
    UnknownScope {
        /// The scope.
        scope: String,
    },
    /// The preset does not exist.
    #[error("unknown preset {name:?}: known are {}", known_presets())]
    UnknownPreset {
        /// The name.
        name: String,
    },
    /// The same key or kind of scope twice in one segment.
    #[error("{what:?} is set twice in condition {segment:?}")]
    Twice {
        /// The key or scope.
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
        /// The expected form and range.
        expected: &'static str,
    },
}

fn known_presets() -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    names.join(", ")
}

pub(super) fn parse_rule(segment: &str) -> Result<Rule, ConditionError> {
    let mut rule = Rule::default();
    let twice = |what: &str| ConditionError::Twice {
        what: what.to_owned(),
        segment: segment.to_owned(),
    };
    let mut rest = segment;
    while let Some((scope, after)) = rest.split_once(':') {
        let scope = scope.trim();
        if !parse_scope(&mut rule, scope)? {
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
        let key = key.trim();
        if !parse_key(&mut rule, key, value.trim())? {
            return Err(twice(key));
        }
    }
    Ok(rule)
}

/// Parses one scope; returns false if its kind is set already.
fn parse_scope(rule: &mut Rule, scope: &str) -> Result<bool, ConditionError> {
    let path = Path::ALL.into_iter().find(|path| path.as_str() == scope);
    let player = scope
        .strip_prefix('p')
        .and_then(|digits| digits.parse::<u8>().ok())
        .filter(|player| *player < 64);
    match (path, player) {
        (Some(path), _) => Ok(rule.path.replace(path).is_none()),
        (None, Some(player)) => Ok(rule.player.replace(player).is_none()),
        (None, None) => Err(ConditionError::UnknownScope {
            scope: scope.to_owned(),
        }),
    }
}

/// Parses one key; returns false if it is set already.
fn parse_key(rule: &mut Rule, key: &str, value: &str) -> Result<bool, ConditionError> {
    let keys = &mut rule.keys;
    Ok(match key {
        "latency" => keys
            .latency
            .replace(parse_time("latency", value)?)
            .is_none(),
        "jitter" => keys.jitter.replace(parse_time("jitter", value)?).is_none(),
        "loss" => keys.loss.replace(parse_share("loss", value)?).is_none(),
        "burst" => keys
            .burst
            .replace(unless_none(value, parse_burst)?)
            .is_none(),
        "duplicate" => {
            let share = parse_share("duplicate", value)?;
            keys.duplicate.replace(share).is_none()
        }
        "reorder" => keys
            .reorder
            .replace(unless_none(value, parse_reorder)?)
            .is_none(),
        "rate" => keys.rate.replace(unless_none(value, parse_rate)?).is_none(),
        "cut" => keys.cut.replace(unless_none(value, parse_cut)?).is_none(),
        "transport" => keys.transport.replace(parse_transport(value)?).is_none(),
        "preset" => {
            let preset = Preset::named(value).ok_or_else(|| ConditionError::UnknownPreset {
                name: value.to_owned(),
            })?;
            rule.preset.replace(preset).is_none()
        }
        _ => {
            return Err(ConditionError::UnknownKey {
                key: key.to_owned(),
            });
        }
    })
}

fn unless_none<T>(
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, ConditionError>,
) -> Result<Option<T>, ConditionError> {
    if value == NONE {
        return Ok(None);
    }
    parse(value).map(Some)
}

fn parse_time(key: &'static str, value: &str) -> Result<Duration, ConditionError> {
    time(value)
        .filter(|time| *time <= TIME_MAX)
        .ok_or_else(|| wrong(key, value, "a time up to 10 s with its unit, like 50ms"))
}

fn parse_share(key: &'static str, value: &str) -> Result<f64, ConditionError> {
    share(value).ok_or_else(|| wrong(key, value, "a percentage from 0% to 100%, like 15%"))
}

fn parse_burst(value: &str) -> Result<Burst, ConditionError> {
    let burst = value.split_once('/').and_then(|(lost, length)| {
        let burst = Burst {
            share: share(lost)?,
            length: number(length)?,
        };
        let (enter, _) = burst.chances();
        let possible = burst.share < 1.0 && (1.0..=BURST_MAX).contains(&burst.length);
        // Bursts of this length, one packet apart, lose no larger share.
        (possible && enter <= 1.0).then_some(burst)
    });
    burst.ok_or_else(|| {
        wrong(
            "burst",
            value,
            "a share below 100% and a mean length from 1 to 1200 packets, like 5%/4, that leave a \
             packet between two bursts, or none",
        )
    })
}

fn parse_reorder(value: &str) -> Result<Reorder, ConditionError> {
    let reorder = value.split_once('/').and_then(|(held, hold)| {
        Some(Reorder {
            share: share(held)?,
            hold: time(hold).filter(|hold| *hold <= TIME_MAX)?,
        })
    });
    reorder.ok_or_else(|| {
        wrong(
            "reorder",
            value,
            "a percentage and a time up to 10 s, like 2%/30ms, or none",
        )
    })
}

fn parse_rate(value: &str) -> Result<u64, ConditionError> {
    let scaled = [("kbit", 1e3), ("Mbit", 1e6)]
        .into_iter()
        .find_map(|(unit, scale)| Some(number(value.strip_suffix(unit)?)? * scale));
    scaled
        .filter(|rate| (RATE_MIN..=RATE_MAX).contains(rate))
        .map(|rate| rate.round() as u64)
        .ok_or_else(|| {
            wrong(
                "rate",
                value,
                "bits per second from 1kbit to 1000Mbit, like 256kbit, or none",
            )
        })
}

fn parse_cut(value: &str) -> Result<Outage, ConditionError> {
    let at = |text: &str| time(text).filter(|time| *time <= CUT_MAX);
    let cut = value.split_once("..").and_then(|(from, to)| {
        let from = at(from)?;
        let to = match to.trim() {
            "" => None,
            to => Some(at(to).filter(|to| *to > from)?),
        };
        Some(Outage { from, to })
    });
    cut.ok_or_else(|| {
        wrong(
            "cut",
            value,
            "two times within a day, like 10s..12s, the first alone until the episode ends, like 10s.., or none",
        )
    })
}

fn parse_transport(value: &str) -> Result<Transport, ConditionError> {
    Transport::ALL
        .into_iter()
        .find(|transport| transport.as_str() == value)
        .ok_or_else(|| wrong("transport", value, "tcp or datagram"))
}

fn wrong(key: &'static str, value: &str, expected: &'static str) -> ConditionError {
    ConditionError::Value {
        key,
        value: value.to_owned(),
        expected,
    }
}

fn time(value: &str) -> Option<Duration> {
    let value = value.trim();
    // `s` is last: the other units end with it.
    [("ms", 1e-3), ("us", 1e-6), ("s", 1.0)]
        .into_iter()
        .find_map(|(unit, scale)| Some(number(value.strip_suffix(unit)?)? * scale))
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

fn share(value: &str) -> Option<f64> {
    number(value.trim().strip_suffix('%')?)
        .map(|percent| percent / 100.0)
        .filter(|share| (0.0..=1.0).contains(share))
}

/// A plain non-negative decimal number; Rust's own parser would accept `inf`, `NaN` and `1e3`.
fn number(digits: &str) -> Option<f64> {
    let digits = digits.trim();
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    plain.then(|| digits.parse().ok()).flatten()
}

/// Writes a segment that parses to the same rule.
pub(super) fn write_rule(f: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    if let Some(player) = rule.player {
        write!(f, "p{player}:")?;
    }
    if let Some(path) = rule.path {
        write!(f, "{path}:")?;
    }
    let ConditionKeys {
        latency,
        jitter,
        loss,
        burst,
        duplicate,
        reorder,
        rate,
        cut,
        transport,
    } = rule.keys;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let texts = [
        ("preset", rule.preset.map(|preset| preset.name.to_owned())),
        ("latency", latency.map(millis)),
        ("jitter", jitter.map(millis)),
        ("loss", loss.map(percent)),
        (
            "burst",
            burst.map(|burst| {
                or_none(burst.map(|burst| format!("{}/{}", percent(burst.share), burst.length)))
            }),
        ),
        ("duplicate", duplicate.map(percent)),
        (
            "reorder",
            reorder.map(|held| {
                or_none(held.map(|held| format!("{}/{}", percent(held.share), millis(held.hold))))
            }),
        ),
        (
            "rate",
            rate.map(|rate| or_none(rate.map(|rate| format!("{}kbit", rate as f64 / 1e3)))),
        ),
        (
            "cut",
            cut.map(|cut| {
                or_none(cut.map(|cut| {
                    let to = cut.to.map(millis).unwrap_or_default();
                    format!("{}..{to}", millis(cut.from))
                }))
            }),
        ),
        (
            "transport",
            transport.map(|transport| transport.as_str().to_owned()),
        ),
    ];
    let mut comma = "";
    for (key, text) in texts {
        if let Some(text) = text {
            write!(f, "{comma}{key}={text}")?;
            comma = ",";
        }
    }
    Ok(())
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_secs_f64() * 1e3)
}

fn percent(share: f64) -> String {
    format!("{}%", share * 100.0)
}
