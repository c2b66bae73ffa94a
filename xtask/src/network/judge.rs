//! The verdict on a row: what was seen against what is expected. No clock and no I/O.

use super::row::{Ends, Row, Stalled, Step};
use super::topology::{Node, letter};
use crate::matches::{Played, Report, Unknown};

/// A window in which a match that goes on simulates at least half of its frames.
const GOING_ON_US: u64 = 1_000_000;
/// The cause that says the peer's game stood still.
const PEER_STALL: &str = "peerStall";

/// What a match left.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub players: Vec<SeenPlayer>,
    /// The end of the last step, in Unix microseconds.
    pub last_step_us: u64,
    /// The last time at which a step brought a path.
    pub path_at_us: Option<u64>,
    /// What is wrong with the files.
    pub faults: Vec<String>,
}

/// What one player left.
#[derive(Clone, Debug, Default)]
pub(super) struct SeenPlayer {
    /// Whether its program ended in time.
    pub ended: bool,
    pub report: Report,
}

impl Seen {
    /// Unknown causes in all files.
    pub(super) fn unknown(&self) -> Unknown {
        let mut sum = Unknown::default();
        let played = self.players.iter();
        for played in played.filter_map(|player| player.report.episode.as_ref()) {
            sum.add(played.unknown());
        }
        sum
    }

    /// Milliseconds until the match went on for every player after the last step that brought a
    /// path.
    pub(super) fn back_ms(&self) -> Option<u64> {
        let at = self.path_at_us?;
        let of = |player: &SeenPlayer| {
            let played = player.report.episode.as_ref()?;
            goes_on_after_ms(&played.frames_at_us, played.fps, at)
        };
        let all: Option<Vec<u64>> = self.players.iter().map(of).collect();
        all?.into_iter().max()
    }
}

/// Milliseconds from `at` to the first frame from which on the match goes on: in the second behind
/// it, or in what is left of the match, at least half of the frames are simulated.
fn goes_on_after_ms(frames_at_us: &[u64], fps: u64, at: u64) -> Option<u64> {
    let first = frames_at_us.partition_point(|frame| *frame < at);
    let last = *frames_at_us.last()?;
    let begins = (first..frames_at_us.len()).find(|index| {
        let from = frames_at_us[*index];
        let until = (from + GOING_ON_US).min(last);
        let behind = frames_at_us.partition_point(|frame| *frame <= until) - index;
        2 * behind as u64 * GOING_ON_US >= fps * (until - from)
    })?;
    Some((frames_at_us[begins] - at) / 1000)
}

/// Why a row failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub why: String,
    /// A busy machine does that too: a program that waits for its processor misses frames.
    pub by_load: bool,
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self {
            why,
            by_load: false,
        }
    }
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl Wrong {
    const fn by_load(why: String) -> Self {
        Self { why, by_load: true }
    }
}

/// Why a row failed; nothing if it passed.
pub(super) fn judge(row: &Row, seen: &Seen) -> Vec<Wrong> {
    let faults = seen.faults.iter().cloned();
    let mut wrong: Vec<Wrong> = faults.map(Wrong::from).collect();
    for (index, player) in seen.players.iter().enumerate() {
        let reason = match row.expected.ends {
            Ends::Completed => Some("completed"),
            Ends::Early { reasons, .. } => reasons.get(index).copied().flatten(),
        };
        // A killed player owes nothing.
        let Some(reason) = reason else { continue };
        for mut fault in judge_player(row, seen, player, reason) {
            fault.why = format!("{}: {}", letter(index), fault.why);
            wrong.push(fault);
        }
    }
    let Some(limit) = row.expected.back_within_ms else {
        return wrong;
    };
    match seen.back_ms() {
        None => wrong.push("the match did not go on".into()),
        Some(took) if took > limit => wrong.push(Wrong::by_load(format!(
            "went on after {took} ms, {limit} ms are allowed"
        ))),
        Some(_) => {}
    }
    wrong
}

fn judge_player(row: &Row, seen: &Seen, player: &SeenPlayer, reason: &str) -> Vec<Wrong> {
    let mut wrong: Vec<Wrong> = Vec::new();
    let report = &player.report;
    let end = report.end.as_deref().unwrap_or("nothing");
    if !player.ended {
        wrong.push(format!("still running after {:.0} s", row.limit()).into());
    }
    if end != reason {
        wrong.push(format!("session ended with {end}, not {reason}").into());
    }
    let Some(played) = &report.episode else {
        wrong.push("no file of the episode".into());
        return wrong;
    };
    match row.expected.ends {
        Ends::Completed => {
            if played.partial || played.status != "verified" {
                wrong.push(format!("the file is {}", played.status).into());
            }
        }
        Ends::Early { after, .. } => {
            let end = played.end.as_deref().unwrap_or("nothing");
            if end != reason {
                wrong.push(format!("the episode ended with {end}, not {reason}").into());
            }
            let ended = report.ended_at_us.unwrap_or(0) as f64 - seen.last_step_us as f64;
            let seconds = ended / 1e6;
            if seconds < after.0 || seconds > after.1 {
                let (from, to) = after;
                wrong.push(format!("ended after {seconds:.1} s, not {from} to {to} s").into());
            }
        }
    }
    wrong.extend(judge_stalls(row, played));
    wrong.extend(judge_rollbacks(played));
    wrong.extend(played.causeless().map(Wrong::from));
    if row.expected.single_path && played.failover_feasible == Some(true) {
        wrong.push("failoverFeasible is true although there was one path only".into());
    }
    wrong
}

fn judge_stalls(row: &Row, played: &Played) -> Option<Wrong> {
    let longest = played.stalls.iter().max_by_key(|stall| stall.ticks);
    let ticks = longest.map_or(0, |stall| stall.ticks);
    let stalled = played.stalled;
    match row.expected.stalled {
        Stalled::AtMost(most) if stalled > most => {
            let why = format!("{stalled} frames stalled, the longest time {ticks}");
            // A program that loses its processor for longer than a window is rare.
            let by_load = ticks < played.fps;
            return Some(Wrong { why, by_load });
        }
        Stalled::Listed(seconds) if ticks < seconds * played.fps => {
            let why = format!("the longest stall listed has {ticks} ticks, {stalled} are counted");
            return Some(why.into());
        }
        _ => {}
    }
    let is_kill = |step: &Step| matches!(step, Step::Kill(Node::Player(_)));
    // Short stalls may have the cause, on a busy machine.
    let long = longest.filter(|stall| 2 * stall.ticks >= played.fps)?;
    let named = long.cause.as_deref() == Some(PEER_STALL) && !row.during.iter().any(is_kill);
    named.then(|| {
        let ticks = long.ticks;
        format!("an outage of the network of {ticks} ticks is called peerStall").into()
    })
}

/// A game that waits for inputs while the network is away does not stall by itself.
fn judge_rollbacks(played: &Played) -> Option<Wrong> {
    let count = played.rollbacks.get(PEER_STALL).copied().unwrap_or(0);
    (count > 0).then(|| {
        let why = format!("{count} rollbacks are called {PEER_STALL}, and no game stalled");
        // A program that loses its processor for two frames stalls.
        Wrong::by_load(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matches::Stall;
    use crate::network::row::Step::{Away, Kill, Wait};
    use crate::network::topology::A;

    const ROW: Row = Row::new("away", "").during(&[Wait(3.0), Away(&[A], 2.0)]);

    /// Frames at 30 per second, from 0 to 3 s and from `back` on for 3 s.
    fn frames(back: u64) -> Vec<u64> {
        let frame = |from: u64| (0..90).map(move |n| from + n * 33_333);
        frame(0).chain(frame(back)).collect()
    }

    fn played(back: u64) -> Played {
        Played {
            end: Some("frameLimit".into()),
            status: "verified".into(),
            fps: 30,
            frames_at_us: frames(back),
            ..Played::default()
        }
    }

    fn seen(played: Played) -> Seen {
        let player = SeenPlayer {
            ended: true,
            report: Report {
                end: Some("completed".into()),
                ended_at_us: Some(9_000_000),
                episode: Some(played),
            },
        };
        Seen {
            players: vec![player.clone(), player],
            last_step_us: 5_000_000,
            path_at_us: Some(5_000_000),
            faults: Vec::new(),
        }
    }

    fn stall(ticks: u64, cause: Option<&str>) -> Stall {
        Stall {
            ticks,
            cause: cause.map(String::from),
        }
    }

    /// The reasons of a verdict.
    fn reasons(row: &Row, seen: &Seen) -> Vec<String> {
        judge(row, seen)
            .into_iter()
            .map(|wrong| wrong.why)
            .collect()
    }

    #[test]
    fn recovery_is_measured_to_the_first_frame_of_a_match_that_goes_on() {
        assert_eq!(seen(played(5_400_000)).back_ms(), Some(400));
        // Few frames follow at once, then nothing for a second: the match does not go on yet.
        let mut late = frames(7_000_000);
        late.splice(90..90, [5_010_000, 5_043_000, 5_076_000]);
        let late = Played {
            frames_at_us: late,
            ..played(0)
        };
        assert_eq!(seen(late).back_ms(), Some(2000));
        let over = Played {
            frames_at_us: frames(0)[..90].to_vec(),
            ..played(0)
        };
        assert_eq!(seen(over).back_ms(), None);
    }

    #[test]
    fn a_late_recovery_fails_and_one_in_time_passes() {
        let row = ROW.back_within_ms(1000);
        assert_eq!(reasons(&row, &seen(played(5_900_000))), [""; 0]);
        let wrong = reasons(&row, &seen(played(6_100_000)));
        assert_eq!(wrong, ["went on after 1100 ms, 1000 ms are allowed"]);
    }

    #[test]
    fn another_end_is_named_for_each_player() {
        let mut one = seen(played(5_400_000));
        one.players[1].report.end = Some("peerLeft".into());
        let wrong = reasons(&ROW, &one);
        assert_eq!(wrong, ["B: session ended with peerLeft, not completed"]);
        one.players[1] = SeenPlayer::default();
        let wrong = reasons(&ROW, &one).join("; ");
        assert!(wrong.contains("B: still running after"), "{wrong}");
        assert!(wrong.contains("no file of the episode"), "{wrong}");
    }

    #[test]
    fn stalls_are_counted_and_an_outage_is_no_stalled_peer() {
        let with = |stalled, stall: Stall| Played {
            stalled,
            stalls: vec![stall],
            ..played(5_400_000)
        };
        let one = seen(with(1, stall(1, Some("routeChange"))));
        assert_eq!(
            reasons(&ROW, &one)[0],
            "A: 1 frames stalled, the longest time 1"
        );
        let row = ROW.back_within_ms(1000);
        assert_eq!(reasons(&row, &one), [""; 0]);
        let wrong = reasons(&row, &seen(with(60, stall(60, Some(PEER_STALL)))));
        assert!(wrong[0].contains("called peerStall"), "{wrong:?}");
        let wrong = reasons(&row, &seen(with(60, stall(60, None))));
        assert!(wrong[0].contains("have no cause"), "{wrong:?}");
        let rollback = Played {
            rollbacks: [(PEER_STALL.to_owned(), 1)].into(),
            ..played(5_400_000)
        };
        let wrong = reasons(&row, &seen(rollback));
        assert!(
            wrong[0].contains("1 rollbacks are called peerStall"),
            "{wrong:?}"
        );
        let unknown = seen(with(60, stall(60, Some("unknown"))));
        assert_eq!(unknown.unknown(), Unknown { unknown: 2, of: 2 });
    }

    #[test]
    fn load_explains_a_short_stall_and_no_other_end() {
        let short = Played {
            stalled: 2,
            stalls: vec![stall(2, Some(PEER_STALL))],
            ..played(5_400_000)
        };
        let mut one = seen(short);
        assert!(judge(&ROW, &one).iter().all(|wrong| wrong.by_load));
        one.players[0].report.end = Some("peerLeft".into());
        assert!(!judge(&ROW, &one).iter().all(|wrong| wrong.by_load));
    }

    #[test]
    fn a_killed_player_owes_nothing_and_the_other_a_listed_stall() {
        let row = Row::new("killed", "")
            .during(&[Kill(A)])
            .ends(&[None, Some("peerLeft")], (34.0, 38.0))
            .stalled(Stalled::Listed(30));
        let mut one = seen(Played {
            end: Some("peerLeft".into()),
            stalled: 1050,
            stalls: vec![stall(1050, Some(PEER_STALL))],
            ..played(5_400_000)
        });
        one.players[0] = SeenPlayer::default();
        one.players[1].report.end = Some("peerLeft".into());
        one.players[1].report.ended_at_us = Some(41_000_000);
        assert_eq!(reasons(&row, &one), [""; 0]);
        one.players[1].report.ended_at_us = Some(8_000_000);
        let wrong = reasons(&row, &one);
        assert_eq!(wrong, ["B: ended after 3.0 s, not 34 to 38 s"]);
    }
}
