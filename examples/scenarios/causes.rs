//! Reported causes of rollbacks against true ones: matches over simulated paths that log the fate of
//! every packet, a test case for each cause and mixed ones, and the confusion matrix.

use std::fmt::Write as _;
use std::sync::OnceLock;

use rollback_lab_link::cause::Cause;

use crate::options::Options;
use crate::routes::side_by_side;
use crate::table::Row;

mod cases;
mod harness;
mod oracle;
mod simulated_path;

use cases::CASES;

/// Fewer rollbacks of a cause give no meaningful recall.
const LEAST: u64 = 200;
/// Least recall and precision of every cause.
const LEAST_SHARE: f64 = 0.9;
/// Largest share of rollbacks with the cause `unknown`.
const UNKNOWN: f64 = 0.01;

static MATRIX: OnceLock<String> = OnceLock::new();

/// The confusion matrices as Markdown, once they are measured.
pub(crate) fn matrix() -> Option<&'static str> {
    MATRIX.get().map(String::as_str)
}

/// The confusion matrix: how often a cause was reported where another one, or the same, was true.
#[derive(Clone, Default)]
struct Matrix {
    /// By true and by reported cause, in the order of [`Cause::ALL`].
    reported: [[u64; Cause::ALL.len()]; Cause::ALL.len()],
    /// Rollbacks whose packet the log does not hold.
    unlogged: u64,
    /// Rollbacks whose first reported cause was the true one, by true cause.
    at_first: [u64; Cause::ALL.len()],
}

impl Matrix {
    fn add(&mut self, other: &Self) {
        for (row, more) in self.reported.iter_mut().zip(&other.reported) {
            for (cell, more) in row.iter_mut().zip(more) {
                *cell += more;
            }
        }
        for (cell, more) in self.at_first.iter_mut().zip(&other.at_first) {
            *cell += more;
        }
        self.unlogged += other.unlogged;
    }

    fn of(&self, cause: Cause) -> u64 {
        self.reported[cause as usize].iter().sum()
    }

    fn recall(&self, cause: Cause) -> f64 {
        self.reported[cause as usize][cause as usize] as f64 / self.of(cause).max(1) as f64
    }

    fn precision(&self, cause: Cause) -> f64 {
        let reported = self.reported.iter().map(|row| row[cause as usize]);
        self.reported[cause as usize][cause as usize] as f64 / reported.sum::<u64>().max(1) as f64
    }

    fn unknown(&self) -> f64 {
        let unknown: u64 = self
            .reported
            .iter()
            .map(|row| row[Cause::Unknown as usize])
            .sum();
        let all: u64 = self.reported.iter().flatten().sum();
        unknown as f64 / all.max(1) as f64
    }

    fn markdown(&self, title: &str) -> String {
        let mut text = format!("{title}\n\n| true \\ reported |");
        for cause in Cause::ALL {
            let _ = write!(text, " {} |", cause.as_str());
        }
        text += " all | recall | at first |\n|---|";
        text += &"---|".repeat(Cause::ALL.len() + 3);
        for cause in Cause::ALL.into_iter().filter(|&cause| self.of(cause) > 0) {
            let _ = write!(text, "\n| {} |", cause.as_str());
            for count in self.reported[cause as usize] {
                let _ = write!(text, " {count} |");
            }
            let at_first = self.at_first[cause as usize] as f64 / self.of(cause) as f64;
            let _ = write!(
                text,
                " {} | {:.1} % | {:.1} % |",
                self.of(cause),
                self.recall(cause) * 100.0,
                at_first * 100.0
            );
        }
        text += "\n| precision |";
        for cause in Cause::ALL {
            let _ = write!(text, " {:.1} % |", self.precision(cause) * 100.0);
        }
        text += " | | |";
        let _ = write!(text, "\n\nunknown: {:.2} %", self.unknown() * 100.0);
        text
    }
}

/// Every cause is reported where it is true.
pub(crate) fn causes(options: &Options) -> Vec<Row> {
    let jobs: Vec<_> = CASES
        .iter()
        .enumerate()
        .flat_map(|(index, case)| {
            let matches = if options.quick {
                case.quick
            } else {
                case.quick * 3
            };
            (0..matches).map(move |seed| (index, case, seed))
        })
        .collect();
    let results = side_by_side(&jobs, |(_, case, seed)| {
        oracle::judge(case.name, &harness::play(case, *seed))
    });
    let mut by_case = vec![Matrix::default(); CASES.len()];
    for ((index, ..), result) in jobs.iter().zip(&results) {
        by_case[*index].add(result);
    }
    let mut rows = Vec::new();
    let mut text = String::new();
    for impaired in [false, true] {
        let what = if impaired {
            "under 1 to 5 % loss and jitter"
        } else {
            "one case for each and one with all at once"
        };
        let mut all = Matrix::default();
        for (case, matrix) in CASES.iter().zip(&by_case) {
            if case.impaired == impaired {
                all.add(matrix);
                if std::env::var_os("CAUSES_BY_CASE").is_some() {
                    eprintln!("{}\n", matrix.markdown(case.name));
                }
            }
        }
        let _ = writeln!(text, "{}\n", all.markdown(&format!("Causes, {what}:")));
        for cause in Cause::ALL
            .into_iter()
            .filter(|&cause| cause != Cause::Unknown)
        {
            let (count, recall) = (all.of(cause), all.recall(cause));
            let precision = all.precision(cause);
            rows.push(
                Row::new(
                    format!("{}, {what}", cause.as_str()),
                    count,
                    format!(
                        "recall {:.1} %, precision {:.1} %",
                        recall * 100.0,
                        precision * 100.0
                    ),
                )
                .require(count >= LEAST, "at least 200 rollbacks")
                .require(recall >= LEAST_SHARE, "recall of 90 %")
                .require(precision >= LEAST_SHARE, "precision of 90 %"),
            );
        }
        let judged: u64 = all.reported.iter().flatten().sum();
        rows.push(
            Row::new(
                format!("all, {what}"),
                judged,
                format!(
                    "unknown {:.2} %; {} rollbacks without a packet in the log",
                    all.unknown() * 100.0,
                    all.unlogged
                ),
            )
            .require(all.unknown() < UNKNOWN, "less than 1 % unknown")
            .require(
                all.unlogged * 100 < judged,
                "the log holds 99 % of the packets",
            ),
        );
    }
    let _ = MATRIX.set(text.trim_end().to_owned());
    rows
}
