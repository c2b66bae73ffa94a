//! Owns what is said about a divergence: where it is, what differs, and which pitfalls fit. Pure
//! text; it measures nothing.

use std::fmt;

use ggrs::Frame;

/// The first frame at which a game was not deterministic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Divergence {
    /// The state before this frame is the first that differs.
    pub frame: Frame,
    /// What was done when it showed.
    pub how: How,
    /// Names of the registered types whose checksums differ there.
    pub parts: Vec<String>,
    /// What fits, most certain first.
    pub suspicions: Vec<Suspicion>,
}

/// What two simulations of one frame had in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Two new apps played the same inputs, and no state was ever loaded.
    TwoRuns,
    /// A state was loaded, and its frames were simulated again with the same inputs.
    Resimulation {
        /// The state that was loaded.
        from: Frame,
    },
}

/// A pitfall that fits what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// This resource is written while frames are simulated, and a load does not restore it.
    UnregisteredResource(String),
    /// The same of a component on a rolled-back entity.
    UnregisteredComponent(String),
    /// Entities that a load brought back are visited in another order.
    QueryOrder {
        /// The first state in which they are.
        frame: Frame,
    },
    /// The same state and inputs gave two results within one app, and no registered type explains
    /// it: a `Local`, a static, a cell.
    HiddenState,
    /// The same state and inputs give the same result again, but another than at first: what is
    /// loaded is not what was saved.
    IncompleteSnapshot,
    /// The same inputs gave two results in two apps: the order of a `HashMap`, a random number, the
    /// time of day.
    Chance,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {}: ", self.frame)?;
        match self.parts.as_slice() {
            [] => f.write_str("the checksum differs")?,
            [one] => write!(f, "`{one}` differs")?,
            several => write!(f, "`{}` differ", several.join("`, `"))?,
        }
        match self.how {
            How::TwoRuns => {
                f.write_str(" between two runs of the same inputs, without any rollback")?;
            }
            How::Resimulation { from } => {
                write!(f, " after resimulation from frame {from}")?;
            }
        }
        for suspicion in &self.suspicions {
            write!(f, "\n  {suspicion}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnregisteredResource(name) => write!(
                f,
                "resource `{name}` is written while frames are simulated and a load does not \
                 restore it: rollback_resource_with_copy, _clone or _reflect"
            ),
            Self::UnregisteredComponent(name) => write!(
                f,
                "component `{name}` of a rolled-back entity is written while frames are simulated \
                 and a load does not restore it: rollback_component_with_copy, _clone or _reflect"
            ),
            Self::QueryOrder { frame } => write!(
                f,
                "from frame {frame} on queries visit the entities in another order than at first: \
                 where the order counts, sort by a component or by RollbackOrdered"
            ),
            Self::HiddenState => f.write_str(
                "the same state and inputs give another result each time: a `Local` in \
                 GgrsSchedule, a static, a cell; keep it in a registered resource",
            ),
            Self::IncompleteSnapshot => f.write_str(
                "simulating again gives the same result each time, but not the first one: what is \
                 loaded is not what was saved; a component that is not registered, an entity id \
                 without MapEntities, or a `Local` that only the first simulation saw empty",
            ),
            Self::Chance => f.write_str(
                "chance is at work: the order of a std `HashMap` or `HashSet`, a random number \
                 without a rolled-back seed, the time of day",
            ),
        }
    }
}
