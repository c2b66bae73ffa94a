//! The table of the stage `network`, and the delays of matches over TCP.

use std::fmt::Write;

use super::judge::{Seen, SeenPlayer, Wrong};
use super::row::Row;
use crate::matches::{Played, RoundTrip};

/// One line of the table.
pub(super) struct Line {
    pub row: &'static Row,
    /// What the match left, or why there was none.
    pub seen: Result<Seen, String>,
    /// Why it failed; nothing if it passed.
    pub wrong: Vec<Wrong>,
    pub took: f64,
    /// It was played a second time, without other rows beside it.
    pub alone: bool,
}

/// Reasons that are shown of one row.
const REASONS: usize = 6;

/// The whole table: a line for each row, and below it why it failed.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<26} {:<6} {:>11} {:>13} {:>7} {:>5} {:<23} {:<5} causes",
        "row", "", "stalled", "gap ms", "back ms", "s", "ends", "files"
    );
    for line in lines {
        let result = if line.wrong.is_empty() {
            "passed"
        } else {
            "FAILED"
        };
        let _ = write!(text, "{:<26} {result:<6} ", line.row.name);
        match &line.seen {
            Ok(seen) => text.push_str(&figures(seen, line.took)),
            Err(_) => text.push('-'),
        }
        text.push('\n');
        let _ = writeln!(
            text,
            "    {}; expected: {}",
            line.row.about, line.row.expected
        );
        for why in line.wrong.iter().take(REASONS) {
            let _ = writeln!(text, "    -> {}", why.why);
        }
        if line.alone {
            let _ = writeln!(text, "    (played again, alone)");
        }
        if line.wrong.len() > REASONS {
            let _ = writeln!(text, "    -> {} more", line.wrong.len() - REASONS);
        }
    }
    text
}

fn figures(seen: &Seen, took: f64) -> String {
    let each = |of: &dyn Fn(&Played) -> String| {
        let of_player = |player: &SeenPlayer| {
            let episode = player.report.episode.as_ref();
            episode.map_or_else(|| "-".into(), of)
        };
        let all: Vec<String> = seen.players.iter().map(of_player).collect();
        all.join("/")
    };
    let ends = seen.players.iter().map(|player| {
        let end = player.report.end.as_deref();
        end.unwrap_or(if player.ended { "-" } else { "running" })
    });
    let back = seen.back_ms();
    format!(
        "{:>11} {:>13} {:>7} {took:>5.1} {:<23} {:<5} {}",
        each(&|played| played.stalled.to_string()),
        each(&|played| played.longest_gap_ms().to_string()),
        back.map_or_else(|| "-".into(), |back| back.to_string()),
        ends.collect::<Vec<_>>().join("/"),
        if seen.faults.is_empty() {
            "agree"
        } else {
            "FAULT"
        },
        each(&|played| {
            let causes = played.causes().into_iter();
            let each: Vec<String> = causes.map(|(cause, n)| format!("{cause} {n}")).collect();
            if each.is_empty() {
                "none".into()
            } else {
                each.join(" ")
            }
        }),
    )
}

/// How late inputs came in matches over the relay's TCP, and the round trips of the relay.
pub(super) fn delays(lines: &[&Line]) -> String {
    let mut text = String::from(
        "delays over the relay: an input came so many ms after its frame was first simulated\n\
         match                      player  in time   p50   p90   p99   max   RTT min/median/max ms\n",
    );
    for line in lines {
        let Ok(seen) = &line.seen else { continue };
        for (player, seen) in seen.players.iter().enumerate() {
            let Some(played) = &seen.report.episode else {
                continue;
            };
            let late = Lateness::of(played);
            let _ = writeln!(
                text,
                "{:<26} {player:>6} {:>7.1}% {:>5} {:>5} {:>5} {:>5}   {}",
                line.row.name,
                100.0 * late.in_time(),
                late.percentile(50),
                late.percentile(90),
                late.percentile(99),
                late.percentile(100),
                relay_round_trip(&played.round_trips),
            );
        }
    }
    text
}

fn relay_round_trip(paths: &[RoundTrip]) -> String {
    let shown = |value: Option<f64>| value.map_or_else(|| "-".into(), |ms| format!("{ms:.1}"));
    let relay = paths.iter().find(|path| path.path == "relay");
    relay.map_or_else(
        || "-".into(),
        |path| {
            format!(
                "{} / {} / {}",
                shown(path.min),
                shown(path.median),
                shown(path.max)
            )
        },
    )
}

/// Ticks of lateness, sorted, with how many inputs had each.
struct Lateness {
    counts: Vec<(u64, u64)>,
    fps: u64,
}

impl Lateness {
    fn of(played: &Played) -> Self {
        let known = played.lateness.iter();
        let mut counts: Vec<(u64, u64)> = known
            .filter_map(|(ticks, count)| Some(((*ticks)?, *count)))
            .collect();
        counts.sort_unstable();
        Self {
            counts,
            fps: played.fps.max(1),
        }
    }

    fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    fn in_time(&self) -> f64 {
        let zero = self.counts.iter().filter(|(ticks, _)| *ticks == 0);
        let zero: u64 = zero.map(|(_, count)| count).sum();
        zero as f64 / self.total().max(1) as f64
    }

    /// Milliseconds that so many percent of the inputs were late at most.
    fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.total() * percent).div_ceil(100);
        let mut passed = 0;
        for (ticks, count) in &self.counts {
            passed += count;
            if passed >= wanted {
                return ticks * 1000 / self.fps;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matches::Report;

    fn line(name: &'static str, seen: Result<Seen, String>, wrong: &[&str]) -> Line {
        let row = super::super::rows::all().find(|row| row.name == name);
        Line {
            row: row.unwrap(),
            seen,
            wrong: wrong.iter().map(|why| Wrong::from(*why)).collect(),
            took: 12.0,
            alone: false,
        }
    }

    #[test]
    fn a_row_is_shown_with_its_figures_and_reasons() {
        let player = SeenPlayer {
            ended: true,
            report: Report {
                end: Some("completed".into()),
                episode: Some(Played {
                    stalled: 7,
                    ..Played::default()
                }),
                ..Report::default()
            },
        };
        let seen = Seen {
            players: vec![player, SeenPlayer::default()],
            ..Seen::default()
        };
        let lines = [
            line("healthy", Ok(seen), &["B: no file"]),
            line("udp-lost", Err("no server".into()), &["no server"]),
        ];
        let text = table(&lines);
        assert!(text.contains("FAILED") && text.contains("7/-"), "{text}");
        assert!(text.contains("completed/running"), "{text}");
        assert!(text.contains("-> B: no file") && text.contains("-> no server"));
    }

    #[test]
    fn percentiles_are_those_of_the_known_inputs() {
        let played = Played {
            fps: 50,
            lateness: vec![(Some(0), 80), (Some(12), 1), (None, 5), (Some(2), 19)],
            ..Played::default()
        };
        let late = Lateness::of(&played);
        assert!((late.in_time() - 0.8).abs() < 1e-9);
        let shown = [50, 90, 99, 100].map(|percent| late.percentile(percent));
        assert_eq!(shown, [0, 40, 40, 240]);
    }
}
