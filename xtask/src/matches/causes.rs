//! The causes of rollbacks and stalls in one player's file.

use std::collections::BTreeMap;

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

    /// What is wrong with them: every stall has a cause, and hardly any cause is unknown.
    pub(crate) fn causeless(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let causes = self.causes();
        let total: u64 = causes.values().sum();
        let unknown = causes.get(UNKNOWN).copied().unwrap_or(0);
        if unknown * ONE_IN > total {
            wrong.push(format!("{unknown} of {total} causes are unknown"));
        }
        let without = self.stalls.iter().filter(|stall| stall.cause.is_none());
        let without = without.count();
        if without > 0 {
            wrong.push(format!("{without} stalls have no cause"));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matches::Stall;

    #[test]
    fn one_unknown_cause_in_a_hundred_is_allowed() {
        let with = |known: u64, unknown: u64| Played {
            rollbacks: BTreeMap::from([
                ("baseLatency".to_owned(), known),
                (UNKNOWN.to_owned(), unknown),
            ]),
            ..Played::default()
        };
        assert_eq!(with(99, 1).causeless(), [""; 0]);
        assert_eq!(with(98, 1).causeless(), ["1 of 99 causes are unknown"]);
        assert_eq!(with(0, 0).causeless(), [""; 0]);
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
        assert_eq!(played.causeless(), ["1 stalls have no cause"]);
        assert_eq!(played.causes()["peerStall"], 1);
    }
}
