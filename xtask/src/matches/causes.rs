//! The causes of rollbacks and stalls in one player's file.

use std::collections::BTreeMap;
use std::fmt;

use super::documents::Played;

/// The cause without evidence.
const UNKNOWN: &str = "unknown";
/// At most one rollback or stall in so many may have no known cause.
const ONE_IN: u64 = 100;

impl Played {
    /// Rollbacks and stalls by cause.
    pub(crate) fn causes(&self) -> BTreeMap<String, u64> {
        let mut causes = self.rollbacks.clone();
        for cause in self.stalls.iter().filter_map(|stall| stall.cause.clone()) {
            *causes.entry(cause).or_default() += 1;
        }
        causes
    }

    /// How many of them are unknown.
    pub(crate) fn unknown(&self) -> Unknown {
        let causes = self.causes();
        Unknown {
            unknown: causes.get(UNKNOWN).copied().unwrap_or(0),
            of: causes.values().sum(),
        }
    }

    /// Stalls that the file explains by nothing.
    pub(crate) fn causeless(&self) -> Option<String> {
        let without = self.stalls.iter().filter(|stall| stall.cause.is_none());
        let without = without.count();
        (without > 0).then(|| format!("{without} stalls have no cause"))
    }
}

/// Unknown causes, counted over many files: a share of one match's few rollbacks says little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub unknown: u64,
    pub of: u64,
}

impl Unknown {
    pub(crate) const fn add(&mut self, other: Self) {
        self.unknown += other.unknown;
        self.of += other.of;
    }

    /// What is wrong: more than one in a hundred.
    pub(crate) fn exceeded(self) -> Option<String> {
        let exceeded = self.unknown * ONE_IN > self.of;
        exceeded.then(|| format!("more than 1 % of the causes are unknown: {self}"))
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.unknown, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matches::Stall;

    #[test]
    fn one_unknown_cause_in_a_hundred_is_allowed() {
        let with = |known: u64, unknown: u64| {
            let played = Played {
                rollbacks: BTreeMap::from([
                    ("baseLatency".to_owned(), known),
                    (UNKNOWN.to_owned(), unknown),
                ]),
                ..Played::default()
            };
            played.unknown()
        };
        assert_eq!(with(99, 1).exceeded(), None);
        assert!(with(98, 1).exceeded().unwrap().ends_with("1 of 99"));
        assert_eq!(with(0, 0).exceeded(), None);
        let mut sum = with(98, 1);
        sum.add(with(1, 0));
        assert_eq!(sum.exceeded(), None);
    }

    #[test]
    fn a_stall_has_a_cause() {
        let stall = |cause: Option<&str>| Stall {
            ticks: 3,
            cause: cause.map(String::from),
        };
        let played = Played {
            stalls: vec![stall(Some("peerStall")), stall(None)],
            ..Played::default()
        };
        assert_eq!(played.causeless().unwrap(), "1 stalls have no cause");
        assert_eq!(played.causes()["peerStall"], 1);
    }
}
