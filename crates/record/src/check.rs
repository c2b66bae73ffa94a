//! Checks the invariants of one file and of a pair of files. Everything is recomputed from what is
//! listed, not from totals.
//!
//! ```
//! use rollback_lab_record::{EpisodeDocument, check};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! let mut document = EpisodeDocument::parse(text)?;
//! assert!(check::check_episode(&document).is_empty());
//!
//! document.rollbacks.count += 1;
//! let violation = &check::check_episode(&document)[0];
//! assert_eq!((violation.invariant, violation.path.as_str()), (2, "rollbacks.count"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | invariant | what |
//! |---|---|
//! | 1 | frames, ticks and stalls add up |
//! | 2 | rollbacks add up to their totals, by cause too |
//! | 3 | predictions are hits, misses, voided or open |
//! | 4 | what a rollback corrected is the confirmed input |
//! | 5 | inputs add up over the paths that carried them |
//! | 6 | nothing lies beyond the end, and everything below it is there |
//! | 7 | a fallback is explained by a route change, and conditions add up |
//! | 8 | the history digest is that of the listed inputs; two peers' files agree |
//! | 9 | causes follow from their evidence, clocks from their samples |

use std::fmt;

use serde_json::Value;

use super::{EpisodeDocument, RollbackEvent};

mod content;
mod measured;
mod pair;
mod totals;

pub use pair::check_pair;

/// A rule that a document breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the invariant: 1 to 7 of one file, 8 of its history and of a pair, 9 of what follows
    /// from the measurements beside it.
    pub invariant: u8,
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
            invariant,
            path,
            found,
            expected,
        } = self;
        write!(
            f,
            "invariant {invariant}: {path} is {found}, expected {expected}"
        )
    }
}

/// Checks invariants 1 to 7, that `historyDigest` is the one of what is listed, and that causes and
/// clocks follow from their evidence. An empty list is a file in order.
#[must_use]
pub fn check_episode(document: &EpisodeDocument) -> Vec<Violation> {
    let mut found = Findings::default();
    totals::frames_add_up(document, &mut found);
    totals::rollbacks_add_up(document, &mut found);
    totals::predictions_add_up(document, &mut found);
    content::corrections_are_confirmed(document, &mut found);
    content::send_paths_add_up(document, &mut found);
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
        invariant: u8,
        path: impl Into<String>,
        found: T,
        expected: T,
        rule: &str,
    ) {
        if found != expected {
            self.add(invariant, path, &found, format!("{expected:?} ({rule})"));
        }
    }

    /// Says so unless it holds.
    fn holds(
        &mut self,
        invariant: u8,
        path: impl Into<String>,
        found: impl fmt::Debug,
        holds: bool,
        rule: &str,
    ) {
        if !holds {
            self.add(invariant, path, &found, rule.to_owned());
        }
    }

    fn add(
        &mut self,
        invariant: u8,
        path: impl Into<String>,
        found: &dyn fmt::Debug,
        expected: String,
    ) {
        self.0.push(Violation {
            invariant,
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
