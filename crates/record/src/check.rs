//! Owns the identities that every file and every pair of files must satisfy, recomputed from what
//! is listed and never from totals alone. Pure; it judges documents, it never changes them.

use std::fmt;

use serde_json::Value;

use super::{EpisodeDocument, RollbackEvent};

mod content;
mod ledger;
mod measured;
mod pair;

pub use pair::check_pair;

/// A rule that a document breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the identity: 1 to 7 of one file, 8 of its history and of a pair, 9 of what follows
    /// from the measurements beside it.
    pub identity: u8,
    /// Where, as a path of keys.
    pub path: String,
    /// What stands there.
    pub found: String,
    /// What had to stand there, and by which rule.
    pub expected: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            identity,
            path,
            found,
            expected,
        } = self;
        write!(
            f,
            "identity {identity}: {path} is {found}, expected {expected}"
        )
    }
}

/// Checks identities 1 to 7, that `historyDigest` is the one of what is listed, and that causes and
/// clocks follow from their evidence. An empty list is a file in order.
#[must_use]
pub fn check_episode(document: &EpisodeDocument) -> Vec<Violation> {
    let mut found = Findings::default();
    ledger::frames_add_up(document, &mut found);
    ledger::rollbacks_add_up(document, &mut found);
    ledger::predictions_add_up(document, &mut found);
    content::corrections_are_confirmed(document, &mut found);
    content::carriers_add_up(document, &mut found);
    content::nothing_lies_beyond_the_end(document, &mut found);
    content::fallback_is_explained(document, &mut found);
    content::realised_conditions_add_up(document, &mut found);
    content::history_is_reproducible(document, &mut found);
    measured::causes_follow_from_the_evidence(document, &mut found);
    measured::clocks_follow_from_the_samples(document, &mut found);
    found.0
}

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    /// Says so unless both are equal; `rule` explains the expected value.
    fn same<T: PartialEq + fmt::Debug>(
        &mut self,
        identity: u8,
        path: impl Into<String>,
        found: T,
        expected: T,
        rule: &str,
    ) {
        if found != expected {
            self.add(identity, path, &found, format!("{expected:?} ({rule})"));
        }
    }

    /// Says so unless it holds.
    fn holds(
        &mut self,
        identity: u8,
        path: impl Into<String>,
        found: impl fmt::Debug,
        holds: bool,
        rule: &str,
    ) {
        if !holds {
            self.add(identity, path, &found, rule.to_owned());
        }
    }

    fn add(
        &mut self,
        identity: u8,
        path: impl Into<String>,
        found: &dyn fmt::Debug,
        expected: String,
    ) {
        self.0.push(Violation {
            identity,
            path: path.into(),
            found: format!("{found:?}"),
            expected,
        });
    }
}

/// A frame and player that a rollback corrected, the event's own or one of the others.
#[derive(Clone, Copy)]
struct Correction<'a> {
    frame: i32,
    player_id: usize,
    predicted: &'a Value,
    actual: &'a Value,
}

fn corrections(document: &EpisodeDocument) -> impl Iterator<Item = (String, Correction<'_>)> {
    let events = document.rollbacks.events.iter().enumerate();
    events.flat_map(|(index, event)| {
        let path = format!("rollbacks.events[{index}]");
        let also = event.also_mispredicted.iter().enumerate().map({
            let path = path.clone();
            move |(also, pair)| {
                let correction = Correction {
                    frame: pair.frame,
                    player_id: pair.player_id,
                    predicted: &pair.predicted_action,
                    actual: &pair.actual_action,
                };
                (format!("{path}.alsoMispredicted[{also}]"), correction)
            }
        });
        own_correction(event)
            .map(|own| (path, own))
            .into_iter()
            .chain(also)
    })
}

fn own_correction(event: &RollbackEvent) -> Option<Correction<'_>> {
    Some(Correction {
        frame: event.frame,
        player_id: event.player_id,
        predicted: event.predicted_action.as_ref()?,
        actual: event.actual_action.as_ref()?,
    })
}

fn end(document: &EpisodeDocument) -> u64 {
    u64::try_from(document.episode.end_frame).unwrap_or(0)
}
