//! A game that stands still although its peers are reachable: which rule keeps their packets out, and
//! by which numbers.

use std::time::Duration;

use ggrs::{Frame, PlayerHandle};

use super::SessionError;
use super::lobby::PlayerSlot;
use crate::transport::LabNet;
use rollback_lab_link::ggrs_wire::MAX_MESSAGE;

/// Without a frame for so long, packets that are refused are the reason: any that were refused by
/// chance are repeated by ggrs every 200 ms.
const STANDSTILL: Duration = Duration::from_secs(2);
/// Silence beyond which a path is not alive: its peer stands still, or is gone, which others notice.
const ALIVE: Duration = Duration::from_millis(500);
/// A longer pause between two updates is one of this game.
const OWN_PAUSE: Duration = Duration::from_secs(1);
/// A match does not wait longer for a player whose game stands still while its network answers. A hidden tab
/// goes on, and a suspended one answers nothing; five minutes are for a dialog that blocks a game.
const GAME_STANDS_STILL: Duration = Duration::from_secs(300);
/// Packets that show a rule and no accident: two of ggrs's repeats.
const REFUSALS: u64 = 3;

/// What a peer's packets met, since the episode began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerReport {
    /// The player.
    pub(super) player: PlayerHandle,
    /// Whether something of the peer came within half a second.
    pub(super) alive: bool,
    /// Its messages that a rule refused, and that rule.
    pub(super) refused: u64,
    pub(super) rule: String,
    /// Messages to it that fit into no datagram, and the length of the newest one.
    pub(super) unsendable: u64,
    pub(super) bytes: usize,
    /// Its newest input that was accepted.
    pub(super) last_frame: Frame,
}

/// Watches for a standstill in one episode.
#[derive(Clone, Debug, Default)]
pub(super) struct Standstill {
    /// The newest frame, and since when.
    frame: Option<(Frame, Duration)>,
    /// The same without the time in which this game itself stood still, which says nothing of the others.
    watched: Duration,
    watched_at: Duration,
    /// Refused and unsendable messages of every player at that moment.
    before: Vec<(PlayerHandle, u64, u64)>,
    /// Since when inputs of all players wait for ggrs: those that came with the end of an outage are
    /// read in the next update.
    unread_since: Option<Duration>,
    reported: bool,
}

impl Standstill {
    /// Takes where the session stands, its next frame and its newest confirmed one. Returns, once per
    /// standstill, what keeps it there. `reports` is asked only while the frame does not change.
    pub(super) fn watch(
        &mut self,
        now: Duration,
        (current, confirmed): (Frame, Frame),
        reports: impl FnOnce() -> Vec<PeerReport>,
    ) -> Option<SessionError> {
        let watched_at = std::mem::replace(&mut self.watched_at, now);
        let Some((_, since)) = self.frame.filter(|(frame, _)| *frame == current) else {
            self.frame = Some((current, now));
            self.watched = Duration::ZERO;
            self.before.clear();
            self.unread_since = None;
            self.reported = false;
            return None;
        };
        let waited = now.saturating_sub(since);
        self.watched += now.saturating_sub(watched_at).min(OWN_PAUSE);
        if self.reported || (waited < STANDSTILL && !self.before.is_empty()) {
            return None;
        }
        let reports = reports();
        if self.before.is_empty() {
            let counts = reports
                .iter()
                .map(|of| (of.player, of.refused, of.unsendable));
            self.before = counts.collect();
        }
        if waited < STANDSTILL {
            return None;
        }
        let error = self.judge(now, waited, confirmed, &reports);
        self.reported = error.is_some();
        error
    }

    fn judge(
        &mut self,
        now: Duration,
        waited: Duration,
        confirmed: Frame,
        reports: &[PeerReport],
    ) -> Option<SessionError> {
        let before = |player| self.before.iter().find(|(known, ..)| *known == player);
        for report in reports.iter().filter(|report| report.alive) {
            let player = report.player;
            let &(_, refused, unsendable) = before(player)?;
            if report.unsendable >= unsendable + REFUSALS {
                return Some(SessionError::InputsTooLarge {
                    player,
                    bytes: report.bytes,
                    limit: MAX_MESSAGE,
                    waited,
                });
            }
            let count = report.refused.saturating_sub(refused);
            if count >= REFUSALS {
                let rule = report.rule.clone();
                return Some(SessionError::PacketsRefused {
                    player,
                    count,
                    rule,
                    waited,
                });
            }
        }
        let oldest = reports.iter().min_by_key(|report| report.last_frame)?;
        if self.watched >= GAME_STANDS_STILL && oldest.alive {
            return Some(SessionError::GameStandsStill {
                player: oldest.player,
                waited: self.watched,
            });
        }
        // ggrs reads the packets of all and confirms none of their inputs: it cannot read one's.
        let came = |report: &PeerReport| report.alive && report.last_frame > confirmed;
        if !reports.iter().all(came) {
            self.unread_since = None;
            return None;
        }
        let since = *self.unread_since.get_or_insert(now);
        (now.saturating_sub(since) >= STANDSTILL).then(|| SessionError::PacketsRefused {
            player: oldest.player,
            count: 0,
            rule: format!(
                "ggrs cannot read its inputs through frame {} as this game's input type",
                oldest.last_frame
            ),
            waited,
        })
    }
}

/// What the packets of `player_slots` met.
pub(super) fn reports<'a>(
    net: &LabNet,
    now: Duration,
    player_slots: impl Iterator<Item = &'a PlayerSlot>,
) -> Vec<PeerReport> {
    player_slots
        .filter_map(|player_slot| {
            let silence = net.link(player_slot.peer, |link| link.peer_silence(now))?;
            net.peer_inputs(player_slot.peer, |peer_inputs| {
                let (unsendable, bytes) = peer_inputs.unsendable();
                let refused = peer_inputs.refused();
                let rule = refused.rule.as_ref().map(ToString::to_string);
                PeerReport {
                    player: player_slot.handle,
                    alive: silence < ALIVE,
                    refused: refused.count,
                    rule: rule.unwrap_or_default(),
                    unsendable,
                    bytes,
                    last_frame: peer_inputs.last_frame(),
                }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(refused: u64, unsendable: u64) -> PeerReport {
        PeerReport {
            player: 1,
            alive: true,
            refused,
            rule: String::from("the rule"),
            unsendable,
            bytes: 1_500,
            last_frame: 10,
        }
    }

    /// Watches a game that stands at frame 18, with inputs confirmed through 10; each entry is a
    /// second and the report at that time.
    fn watch(seen: &[(u64, PeerReport)]) -> Option<SessionError> {
        let mut standstill = Standstill::default();
        let mut error = None;
        for (second, report) in seen {
            let now = Duration::from_secs(*second);
            let found = standstill.watch(now, (18, 10), || vec![report.clone()]);
            assert!(error.is_none() || found.is_none(), "reported once");
            error = error.or(found);
        }
        error
    }

    #[test]
    fn refused_packets_without_progress_name_the_rule() {
        let error = watch(&[
            (0, report(5, 0)),
            (1, report(6, 0)),
            (3, report(60, 0)),
            (4, report(90, 0)),
        ]);
        let text = error.unwrap().to_string();
        assert_eq!(
            text,
            "no frame for 3.0s: 54 packets of player 1 were refused, the last one because the rule"
        );
    }

    #[test]
    fn packets_that_fit_into_no_datagram_name_both_lengths() {
        let error = watch(&[(0, report(0, 0)), (1, report(0, 1)), (3, report(0, 20))]);
        let text = error.unwrap().to_string();
        assert!(
            text.contains("1500 bytes") && text.contains(&MAX_MESSAGE.to_string()),
            "{text}"
        );
    }

    #[test]
    fn a_peer_that_stands_still_or_is_silent_is_no_error() {
        assert_eq!(
            watch(&[(0, report(9, 9)), (1, report(9, 9)), (9, report(11, 9))]),
            None
        );
        let silent = PeerReport {
            alive: false,
            ..report(99, 99)
        };
        assert_eq!(
            watch(&[(0, report(0, 0)), (1, report(0, 0)), (3, silent)]),
            None
        );
    }

    #[test]
    fn a_game_that_stands_still_is_waited_for_five_minutes() {
        let seen: Vec<_> = (0..=300).map(|second| (second, report(0, 0))).collect();
        assert_eq!(watch(&seen[..300]), None);
        assert_eq!(
            watch(&seen).unwrap().to_string(),
            "no frame for 300s: the game of player 1 stands still, although its network answers"
        );
    }

    #[test]
    fn a_pause_of_this_game_is_no_standstill_of_another_one() {
        // 2 s, a pause of ten minutes that counts as one second, and 297 s.
        let seconds = (0..=2).chain(602..=899);
        let mut seen: Vec<_> = seconds.map(|second| (second, report(0, 0))).collect();
        assert!(watch(&seen).is_some());
        seen.pop();
        assert_eq!(watch(&seen), None);
    }

    #[test]
    fn inputs_that_come_with_the_end_of_an_outage_are_read_in_time() {
        let came = PeerReport {
            last_frame: 14,
            ..report(0, 0)
        };
        let away = PeerReport {
            alive: false,
            ..report(0, 0)
        };
        let seen = [(0, report(0, 0)), (1, away.clone()), (6, away), (7, came)];
        assert_eq!(watch(&seen), None);
    }

    #[test]
    fn inputs_that_ggrs_cannot_read_are_named() {
        let unread = PeerReport {
            last_frame: 14,
            ..report(0, 0)
        };
        let seen = [0, 1, 3, 4, 5].map(|second| (second, unread.clone()));
        let text = watch(&seen).unwrap().to_string();
        assert!(
            text.contains("cannot read its inputs through frame 14"),
            "{text}"
        );
    }
}
