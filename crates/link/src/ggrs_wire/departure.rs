//! A player leaves a running session of several: when the survivors agree on its last input, and when
//! ggrs may disconnect it.

use std::time::Duration;

use crate::frame::Frame;

use super::PeerInputs;

/// Silence of a player who has left after which its last inputs have arrived, over whatever way: a
/// survivor with more of them passes them on after [`SILENT`] at the latest, and the message about the
/// leaving may overtake the last packets. What survivors report of each other does not suffice: while
/// their games stand still, their packets are repeated as they were.
const ARRIVED: Duration = Duration::from_millis(500);
/// How long the survivors try to agree: several repeats of a lost message. After that each goes on
/// with the inputs that it has; the checksums report it if they differ.
const AGREEMENT_LIMIT: Duration = Duration::from_secs(1);
/// Silence of a player after which its inputs are passed on to peers that have fewer of them: above a
/// usual stall, and well below the 2 s after which ggrs disconnects a silent peer by default.
const SILENT: Duration = Duration::from_millis(300);
/// The same for a player who is known to leave: long enough for reports in flight to arrive.
const LEAVING: Duration = Duration::from_millis(100);
/// How long a game may take to disconnect the player itself before the reports of the others do it:
/// it gets an error when it comes second.
const GAME_FIRST: Duration = Duration::from_millis(250);

/// Whether inputs of a silent player are passed on to a peer that has fewer of them, and may be taken
/// from one that has more.
#[must_use]
pub fn shares_inputs(silence: Duration, leaving: bool) -> bool {
    silence >= if leaving { LEAVING } else { SILENT }
}

/// What is due for a player who leaves, see [`Departure::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DepartureStep {
    /// Nothing.
    Wait,
    /// The game may be notified, and may disconnect the player.
    Notice,
    /// Reports that it is disconnected may reach ggrs.
    Release,
}

/// A player who leaves a running session.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    since: Duration,
    noticed: Option<Duration>,
    released: bool,
}

impl Departure {
    /// It became known at `now`.
    #[must_use]
    pub const fn new(now: Duration) -> Self {
        Self {
            since: now,
            noticed: None,
            released: false,
        }
    }

    /// When it became known.
    #[must_use]
    pub const fn since(&self) -> Duration {
        self.since
    }

    /// Whether the game was notified.
    #[must_use]
    pub const fn is_noticed(&self) -> bool {
        self.noticed.is_some()
    }

    /// Takes one step. `reported` is the newest input of the player that each other survivor has, the
    /// pair where the own session stands and its prediction window. Returns whether the player's inputs
    /// are to be [closed](PeerInputs::close), and what is due.
    pub fn step(
        &mut self,
        now: Duration,
        peer_inputs: &PeerInputs,
        mut reported: impl Iterator<Item = Option<Frame>>,
        (current_frame, max_prediction): (Frame, Frame),
    ) -> (bool, DepartureStep) {
        let closed = peer_inputs.is_closed() || {
            let own = peer_inputs.last_frame();
            let mut alone = true;
            let agreed = reported.all(|theirs| {
                alone = false;
                theirs == Some(own)
            });
            let arrived = peer_inputs.silence(now) >= ARRIVED;
            alone || (agreed && arrived) || now.saturating_sub(self.since) >= AGREEMENT_LIMIT
        };
        if !closed {
            return (false, DepartureStep::Wait);
        }
        let step = match self.noticed {
            None if peer_inputs.removable(current_frame, max_prediction) => {
                self.noticed = Some(now);
                DepartureStep::Notice
            }
            Some(at) if !self.released && now.saturating_sub(at) >= GAME_FIRST => {
                self.released = true;
                DepartureStep::Release
            }
            _ => DepartureStep::Wait,
        };
        (true, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn step(
        departure: &mut Departure,
        now: u32,
        peer_inputs: &mut PeerInputs,
        reported: &[Option<Frame>],
        current: Frame,
    ) -> DepartureStep {
        let reported = reported.iter().copied();
        let (close, step) = departure.step(MS * now, peer_inputs, reported, (current, 8));
        if close {
            peer_inputs.close();
        }
        step
    }

    #[test]
    fn a_notice_waits_for_agreement_and_for_ggrs() {
        use DepartureStep::{Notice, Release, Wait};
        let mut peer_inputs = PeerInputs::default();
        peer_inputs.restart(MS * 1_000);
        let mut departure = Departure::new(MS * 1_000);
        let last = peer_inputs.last_frame();
        let fewer = Some(last - 1);
        assert_eq!(
            step(&mut departure, 1_100, &mut peer_inputs, &[Some(last)], 9),
            Wait
        );
        assert!(!peer_inputs.is_closed(), "packets may still be in flight");
        assert_eq!(
            step(
                &mut departure,
                1_300,
                &mut peer_inputs,
                &[Some(last), fewer],
                9
            ),
            Wait
        );
        assert!(!peer_inputs.is_closed(), "one has fewer inputs");
        assert_eq!(
            step(
                &mut departure,
                1_700,
                &mut peer_inputs,
                &[Some(last)],
                last + 1
            ),
            Wait
        );
        assert!(peer_inputs.is_closed());
        assert_eq!(
            step(&mut departure, 1_800, &mut peer_inputs, &[], last + 2),
            Notice
        );
        assert_eq!(
            step(&mut departure, 1_950, &mut peer_inputs, &[], last + 2),
            Wait
        );
        assert_eq!(
            step(&mut departure, 2_050, &mut peer_inputs, &[], last + 2),
            Release
        );
        assert_eq!(
            step(&mut departure, 2_100, &mut peer_inputs, &[], last + 2),
            Wait
        );
    }

    #[test]
    fn the_last_survivor_waits_only_for_ggrs_and_disagreement_ends_after_a_second() {
        let mut peer_inputs = PeerInputs::default();
        peer_inputs.restart(MS * 1_000);
        let mut departure = Departure::new(MS * 1_000);
        assert_eq!(
            step(&mut departure, 1_001, &mut peer_inputs, &[], 9),
            DepartureStep::Notice
        );

        let mut peer_inputs = PeerInputs::default();
        peer_inputs.restart(MS * 1_000);
        let mut departure = Departure::new(MS * 1_000);
        assert_eq!(
            step(&mut departure, 1_999, &mut peer_inputs, &[None], 9),
            DepartureStep::Wait
        );
        assert_eq!(
            step(&mut departure, 2_000, &mut peer_inputs, &[None], 9),
            DepartureStep::Notice
        );
    }
}
