//! The report of a divergence: its frame, what differs, and the pitfalls that fit.

use std::fmt;

use ggrs::Frame;

/// The first frame at which a game was not deterministic. Its text names the types that differ and the
/// pitfalls that fit, each with its remedy.
///
/// ```
/// use bevy_rollback_lab::proof::{Comparison, Divergence, Pitfall};
///
/// let divergence = Divergence {
///     frame: 12,
///     comparison: Comparison::Resimulation { from: 10 },
///     parts: vec!["game::Position".into()],
///     pitfalls: vec![Pitfall::UnregisteredResource("game::Wind".into())],
/// };
/// let text = divergence.to_string();
/// assert!(text.starts_with("frame 12: `game::Position` differs after resimulation from frame 10"));
/// assert!(text.contains("register resource `game::Wind`"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Divergence {
    /// The state before this frame is the first that differs.
    pub frame: Frame,
    /// Which two simulations were compared.
    pub comparison: Comparison,
    /// Names of the registered types whose checksums differ.
    pub parts: Vec<String>,
    /// Pitfalls that fit what was seen, the most certain first.
    pub pitfalls: Vec<Pitfall>,
}

/// Which two simulations of a frame were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Two new apps played the same inputs, without any rollback.
    TwoRuns,
    /// A state was loaded, and its frames were simulated again with the same inputs.
    Resimulation {
        /// The state that was loaded.
        from: Frame,
    },
}

/// A common cause of nondeterminism that fits what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pitfall {
    /// This resource is written during simulation, and loading a state does not restore it.
    UnregisteredResource(String),
    /// This component of a rolled-back entity is written during simulation, and loading a state does
    /// not restore it.
    UnregisteredComponent(String),
    /// After a load, queries visit the entities in another order than before.
    QueryOrder {
        /// The first state in which they do.
        frame: Frame,
    },
    /// The same state and inputs give another result each time within one app: a `Local`, a static,
    /// a cell.
    HiddenState,
    /// Simulating again gives the same result each time, but not the first one: the loaded state is
    /// not the saved one.
    IncompleteSnapshot,
    /// The same inputs give different results in two apps: the order of a `HashMap`, a random number,
    /// the time of day.
    Randomness,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}: ", self.frame)?;
        match self.parts.as_slice() {
            [] => f.write_str("the checksum differs")?,
            [one] => write!(f, "`{one}` differs")?,
            several => write!(f, "`{}` differ", several.join("`, `"))?,
        }
        match self.comparison {
            Comparison::TwoRuns => {
                f.write_str(" between two runs of the same inputs, without any rollback")?;
            }
            Comparison::Resimulation { from } => {
                write!(f, " after resimulation from frame {from}")?;
            }
        }
        for pitfall in &self.pitfalls {
            write!(f, "\n  {pitfall}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Pitfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnregisteredResource(name) => write!(
                f,
                "register resource `{name}` with rollback_resource_with_copy, _clone or _reflect: \
                 it is written during simulation, and loading a state does not restore it"
            ),
            Self::UnregisteredComponent(name) => write!(
                f,
                "register component `{name}` with rollback_component_with_copy, _clone or \
                 _reflect: it is written during simulation, and loading a state does not restore it"
            ),
            Self::QueryOrder { frame } => write!(
                f,
                "from frame {frame} on queries visit the entities in another order than before the \
                 rollback: where the order matters, sort by a component or by RollbackOrdered"
            ),
            Self::HiddenState => f.write_str(
                "the same state and inputs give another result each time: a `Local` in \
                 GgrsSchedule, a static or a cell holds state; keep it in a registered resource",
            ),
            Self::IncompleteSnapshot => f.write_str(
                "simulating again gives the same result each time, but not the first one, so the \
                 loaded state is not the saved one: look for a component that is not registered, an \
                 entity id without MapEntities, or a `Local` that was empty the first time only",
            ),
            Self::Randomness => f.write_str(
                "two runs of the same inputs differ: look for the iteration order of a std \
                 `HashMap` or `HashSet`, a random number without a rolled-back seed, or the time of \
                 day",
            ),
        }
    }
}
