//! When the data channel to a peer is negotiated anew: nothing comes over the direct path any more while
//! the relay delivers. The old channel may come back by itself, but not behind a new address, and not
//! after ICE has given it up; where it can, SCTP tries only 1, 3, 7, 15 and 31 s after the loss.

use std::time::Duration;

use super::Link;
use crate::{
    route::{DEAD_SILENCE, RouteState},
    wire::Path,
};

/// Time for one attempt before the next: ICE over STUN usually completes within two seconds. It doubles
/// with every attempt that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
/// Longest pause: a network without UDP costs a handshake every half minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Direct silence where the peer only sends a probe a second, of which four may be lost on a bad link.
const PROBED_SILENCE: Duration = Duration::from_secs(5);
/// How old the newest relayed packet may be: the peer is there to answer.
const RELAY_ALIVE: Duration = Duration::from_millis(2_500);

/// The attempts since the direct path delivered last. Times are awake times.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Renegotiation {
    /// A data channel was open once.
    pub(super) opened: bool,
    attempts: u32,
    began: Duration,
}

impl Renegotiation {
    fn pause(&self) -> Duration {
        let doubled = FIRST_PAUSE * 2_u32.saturating_pow(self.attempts.saturating_sub(1).min(10));
        doubled.min(LONGEST_PAUSE)
    }
}

impl Link {
    /// Whether the data channel to the peer is to be negotiated anew now. It is due once the direct path
    /// is lost, and again after 3, 6, 12, 24 and then every 30 s as long as it is.
    pub fn renegotiation_due(&mut self, now: Duration) -> bool {
        let awake = self.cadence.awake(now);
        let direct = self.paths[Path::Direct.index()].received.last();
        if direct.is_some_and(|at| at > self.renegotiation.began) {
            self.renegotiation.attempts = 0;
        }
        if !self.direct_is_lost(awake) {
            return false;
        }
        let Renegotiation {
            attempts, began, ..
        } = self.renegotiation;
        if attempts > 0 && awake < began + self.renegotiation.pause() {
            return false;
        }
        self.renegotiation.attempts += 1;
        self.renegotiation.began = awake;
        true
    }

    /// Whether the relay delivers and the direct path, which was open once, does not.
    fn direct_is_lost(&self, awake: Duration) -> bool {
        let last = |path: Path| self.paths[path.index()].received.last();
        let Some(relay) = last(Path::Relay) else {
            return false;
        };
        let direct = last(Path::Direct).unwrap_or_default();
        self.renegotiation.opened
            && self.relay_up
            && self.settings.policy.directs()
            && awake.saturating_sub(relay) <= RELAY_ALIVE
            && relay.saturating_sub(direct.max(self.direct_grace)) >= self.lost_after(direct)
    }

    /// The direct silence after which the path is lost, if `direct` is when it delivered last.
    fn lost_after(&self, direct: Duration) -> Duration {
        // Not only the game's packets have left it.
        let died = self.last_change.as_ref().is_some_and(|change| {
            let silence = self.cadence.awake(change.at).saturating_sub(direct);
            change.to.failed_over() && silence >= DEAD_SILENCE / 2
        });
        let in_use = !matches!(
            self.route(),
            RouteState::Relay | RouteState::Provisional | RouteState::Connecting
        );
        if self.episode.is_some() && (in_use || died) {
            DEAD_SILENCE
        } else {
            PROBED_SILENCE
        }
    }
}
