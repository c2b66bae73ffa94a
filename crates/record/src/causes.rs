//! Decides causes again from both files: the file of the player whose input was late shows what its
//! packets could only suggest.

use super::{EpisodeDocument, RollbackEvent, RouteCause};
use rollback_lab_link::cause::{Cause, Evidence, decide};

/// A failover this long after an input was due explains its loss.
const FAILED_OVER_WITHIN_US: u64 = 1_000_000;
/// Shortest gap between two frames that is a stall: two frames at 60 Hz.
const GAP_MIN_US: u64 = 33_000;

/// The cause of `event`, of a file of one peer, by the file of the player `event.playerId`.
///
/// That player's own file holds when it simulated the frame that the input was pressed in, when its
/// window was hidden and when it left the direct path. A file that does not reach so far, or is not
/// that player's, leaves the cause as it was decided live.
#[must_use]
pub fn finalise(event: &RollbackEvent, theirs: &EpisodeDocument) -> Cause {
    let decided = matches!(event.cause, Cause::Disconnect | Cause::RouteChange);
    if decided || theirs.session.local_player_id != Some(event.player_id) {
        return event.cause;
    }
    let Some(sent) = sent(event, theirs) else {
        return event.cause;
    };
    let lost = event.evidence.packet_lost == Some(true);
    if lost && left_direct_path(theirs, sent.at_us) {
        return Cause::RouteChange;
    }
    if sent.late && hidden(theirs, sent.before_us, sent.at_us) {
        return Cause::PeerHidden;
    }
    if sent.late {
        return match event.cause {
            Cause::PeerHidden => Cause::PeerHidden,
            _ => Cause::PeerStall,
        };
    }
    match event.cause {
        // Its packets had a gap and its game did not; what came instead may have been sent later.
        Cause::PeerStall if !lost => decide(
            false,
            &Evidence {
                peer_pause_ms: Some(0.0),
                ..event.evidence
            },
        ),
        cause => cause,
    }
}

/// When the late input was sent, by the clock of who sent it.
struct Sent {
    at_us: u64,
    /// The frame before the gap.
    before_us: u64,
    /// Its game stood still before, and was behind its own pace.
    late: bool,
}

fn sent(event: &RollbackEvent, theirs: &EpisodeDocument) -> Option<Sent> {
    let delay = theirs.episode.input_delay_frames.get(&event.player_id)?;
    let made = usize::try_from(event.frame)
        .ok()?
        .checked_sub(*delay as usize)?;
    let times = &theirs.timeline.frame_at_us;
    let mut times: Vec<u64> = std::iter::once(times.first?)
        .chain(times.deltas.iter().copied())
        .take(made + 1)
        .scan(0, |at: &mut u64, step| {
            *at = at.saturating_add(step);
            Some(*at)
        })
        .collect();
    if times.len() <= made {
        return None;
    }
    let frame_us = 1_000_000 / u64::from(theirs.episode.fps.max(1));
    let at_us = times.pop()?;
    // Frames that a game makes up for are simulated in the same tick.
    let earlier = times.iter().rposition(|&at| at + frame_us / 2 <= at_us);
    let Some(earlier) = earlier else {
        return Some(Sent {
            at_us,
            before_us: at_us,
            late: false,
        });
    };
    let before_us = times[earlier];
    let due = before_us + (made - earlier) as u64 * frame_us;
    let gap = at_us - before_us;
    // Its game had to wait for the inputs of others for most of the gap.
    let waited = theirs.frames.stalls.iter().any(|stall| {
        let stalled_us = stall.ticks.saturating_mul(frame_us);
        usize::try_from(stall.frame) == Ok(earlier + 1) && stalled_us >= gap / 2
    });
    let stalled = gap > GAP_MIN_US.max(frame_us * 5 / 2) && !waited;
    Some(Sent {
        at_us,
        before_us,
        late: stalled && at_us >= due + frame_us / 2,
    })
}

fn left_direct_path(theirs: &EpisodeDocument, at_us: u64) -> bool {
    let soon = at_us..=at_us.saturating_add(FAILED_OVER_WITHIN_US);
    let changes = &theirs.quality.route_changes;
    changes.iter().any(|change| {
        let dead = matches!(change.cause, RouteCause::Dead | RouteCause::Closed);
        dead && change.is_fallback() && soon.contains(&change.at_us)
    })
}

fn hidden(theirs: &EpisodeDocument, from_us: u64, to_us: u64) -> bool {
    let unix = |at_us: u64| theirs.clock.origin_unix_ms + at_us / 1_000;
    let periods = &theirs.focus_loss.background_periods;
    periods.iter().any(|period| {
        period.start <= unix(to_us) && period.end.is_none_or(|end| end >= unix(from_us))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Period, RouteChangeRecord, RouteState, StallRecord};

    /// A file of player 1 whose frames came every 16.7 ms, but for 200 ms before frame 50.
    fn theirs() -> EpisodeDocument {
        let text = include_str!("../tests/golden/episode.json");
        let mut document = EpisodeDocument::parse(text).unwrap();
        document.session.local_player_id = Some(1);
        document.episode.fps = 60;
        document.episode.input_delay_frames = [(0, 2), (1, 2)].into();
        document.timeline.frame_at_us.first = Some(1_000_000);
        document.timeline.frame_at_us.deltas = (1..100)
            .map(|frame| match frame {
                50 => 200_000,
                // Eleven frames are made up for in the same tick.
                51..62 => 0,
                _ => 16_667,
            })
            .collect();
        document.quality.route_changes.clear();
        document.focus_loss.background_periods.clear();
        document
    }

    fn late(frame: i32, cause: Cause, lost: bool) -> RollbackEvent {
        let text = include_str!("../tests/golden/episode.json");
        let document = EpisodeDocument::parse(text).unwrap();
        let mut event = document.rollbacks.events[0].clone();
        event.player_id = 1;
        event.frame = frame;
        event.cause = cause;
        event.evidence = Evidence {
            packet_lost: Some(lost),
            peer_pause_ms: Some(0.0),
            late_ms: Some(20.0),
            over_usual_ms: Some(18.0),
            ..Evidence::default()
        };
        event
    }

    #[test]
    fn a_gap_in_their_frames_is_a_stall_for_what_was_sent_late_by_it() {
        let theirs = theirs();
        let cause = |frame| finalise(&late(frame, Cause::JitterSpike, false), &theirs);
        assert_eq!(cause(51), Cause::JitterSpike, "sent before the gap");
        assert_eq!(
            cause(52),
            Cause::PeerStall,
            "pressed two frames earlier, in frame 50"
        );
        assert_eq!(cause(60), Cause::PeerStall);
        assert_eq!(cause(63), Cause::JitterSpike, "made up for in time");
        assert_eq!(cause(64), Cause::JitterSpike, "in pace again");
    }

    #[test]
    fn a_gap_in_which_their_game_waited_for_inputs_is_no_stall_of_theirs() {
        let mut theirs = theirs();
        let stall = |frame, ticks| StallRecord {
            frame,
            ticks,
            at_us: 1_830_000,
            cause: Cause::PacketLoss,
        };
        for (frame, ticks, cause) in [
            (50, 11, Cause::JitterSpike),
            (50, 2, Cause::PeerStall),
            (49, 11, Cause::PeerStall),
        ] {
            theirs.frames.stalls = vec![stall(frame, ticks)];
            let finalised = finalise(&late(52, Cause::JitterSpike, false), &theirs);
            assert_eq!(finalised, cause, "frame {frame}, {ticks} ticks");
        }
    }

    #[test]
    fn a_gap_while_hidden_is_that() {
        let mut theirs = theirs();
        let start = theirs.clock.origin_unix_ms + 1_900;
        theirs.focus_loss.background_periods.push(Period {
            start,
            end: Some(start + 50),
            duration_ms: 50.0,
        });
        let cause = |frame| finalise(&late(frame, Cause::JitterSpike, false), &theirs);
        assert_eq!(cause(52), Cause::PeerHidden);
        assert_eq!(cause(40), Cause::JitterSpike);
    }

    #[test]
    fn a_loss_before_their_failover_is_the_path_that_died() {
        let mut theirs = theirs();
        theirs.quality.route_changes.push(RouteChangeRecord {
            player_id: 0,
            frame: 40,
            at_us: 1_600_000,
            from: RouteState::Suspect,
            to: RouteState::Relay,
            cause: RouteCause::Dead,
            metric: "directSilenceMs".to_owned(),
            value: None,
            threshold: None,
        });
        let cause = |frame, lost| finalise(&late(frame, Cause::PacketLoss, lost), &theirs);
        assert_eq!(cause(30, true), Cause::RouteChange);
        assert_eq!(cause(45, true), Cause::PacketLoss, "after it");
        assert_eq!(cause(30, false), Cause::PacketLoss, "nothing was lost");
    }

    #[test]
    fn what_their_file_does_not_hold_stays_as_it_was() {
        let mut theirs = theirs();
        let disconnect = late(52, Cause::Disconnect, false);
        assert_eq!(finalise(&disconnect, &theirs), Cause::Disconnect);
        let beyond = late(500, Cause::PacketLoss, true);
        assert_eq!(finalise(&beyond, &theirs), Cause::PacketLoss);
        let no_gap = late(40, Cause::PeerStall, false);
        assert_eq!(
            finalise(&no_gap, &theirs),
            Cause::JitterSpike,
            "decided again"
        );
        theirs.session.local_player_id = Some(2);
        let foreign = late(52, Cause::PacketLoss, true);
        assert_eq!(finalise(&foreign, &theirs), Cause::PacketLoss);
    }
}
