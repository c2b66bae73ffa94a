//! Causes of rollbacks against the truth: matches over an in-memory network that logs the fate of
//! every packet, one scene for each cause and mixed ones, and the matrix of what was told of what.

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

use cases::SCENES;

/// Rollbacks of a class below which its recall says little.
const LEAST: u64 = 200;
/// The recall that must be reached.
const RECALL: f64 = 0.9;
/// The share that may be left unexplained.
const UNKNOWN: f64 = 0.02;

static MATRIX: OnceLock<String> = OnceLock::new();

/// The matrices as Markdown, once they were measured.
pub(crate) fn matrix() -> Option<&'static str> {
    MATRIX.get().map(String::as_str)
}

/// How often a cause was told where another one, or the same, was true.
#[derive(Clone, Default)]
struct Matrix {
    /// By truth and by what was told, in the order of [`Cause::ALL`].
    told: [[u64; Cause::ALL.len()]; Cause::ALL.len()],
    /// Corrections whose own packet the log does not hold.
    pending: u64,
    /// What was told at once and not revised later.
    at_once: [u64; Cause::ALL.len()],
}

impl Matrix {
    fn add(&mut self, other: &Self) {
        for (row, more) in self.told.iter_mut().zip(&other.told) {
            for (cell, more) in row.iter_mut().zip(more) {
                *cell += more;
            }
        }
        for (cell, more) in self.at_once.iter_mut().zip(&other.at_once) {
            *cell += more;
        }
        self.pending += other.pending;
    }

    fn of(&self, cause: Cause) -> u64 {
        self.told[cause as usize].iter().sum()
    }

    fn recall(&self, cause: Cause) -> f64 {
        self.told[cause as usize][cause as usize] as f64 / self.of(cause).max(1) as f64
    }

    fn unknown(&self) -> f64 {
        let unknown: u64 = self
            .told
            .iter()
            .map(|row| row[Cause::Unknown as usize])
            .sum();
        let all: u64 = self.told.iter().flatten().sum();
        unknown as f64 / all.max(1) as f64
    }

    fn markdown(&self, title: &str) -> String {
        let mut text = format!("{title}\n\n| truth \\ told |");
        for cause in Cause::ALL {
            let _ = write!(text, " {} |", cause.as_str());
        }
        text += " all | recall | told at once |\n|---|";
        text += &"---|".repeat(Cause::ALL.len() + 3);
        for cause in Cause::ALL.into_iter().filter(|&cause| self.of(cause) > 0) {
            let _ = write!(text, "\n| {} |", cause.as_str());
            for told in self.told[cause as usize] {
                let _ = write!(text, " {told} |");
            }
            let at_once = self.at_once[cause as usize] as f64 / self.of(cause) as f64;
            let _ = write!(
                text,
                " {} | {:.1} % | {:.1} % |",
                self.of(cause),
                self.recall(cause) * 100.0,
                at_once * 100.0
            );
        }
        let _ = write!(text, "\n\nunknown: {:.2} %", self.unknown() * 100.0);
        text
    }
}

/// Every cause is told where it is true.
pub(crate) fn causes(options: &Options) -> Vec<Row> {
    let jobs: Vec<_> = SCENES
        .iter()
        .enumerate()
        .flat_map(|(index, scene)| {
            let matches = if options.quick {
                scene.quick
            } else {
                scene.quick * 3
            };
            (0..matches).map(move |seed| (index, scene, seed))
        })
        .collect();
    let results = side_by_side(&jobs, |(_, scene, seed)| {
        oracle::judge(scene.name, &harness::play(scene, *seed))
    });
    let mut by_scene = vec![Matrix::default(); SCENES.len()];
    for ((index, ..), result) in jobs.iter().zip(&results) {
        by_scene[*index].add(result);
    }
    let mut rows = Vec::new();
    let mut text = String::new();
    for background in [false, true] {
        let what = if background {
            "scenes under 1 to 5 % loss and jitter"
        } else {
            "a scene for each and one with all at once"
        };
        let mut all = Matrix::default();
        for (scene, matrix) in SCENES.iter().zip(&by_scene) {
            if scene.background == background {
                all.add(matrix);
                if std::env::var_os("CAUSES_BY_SCENE").is_some() {
                    eprintln!("{}\n", matrix.markdown(scene.name));
                }
            }
        }
        let _ = writeln!(text, "{}\n", all.markdown(&format!("Causes, {what}:")));
        for cause in Cause::ALL
            .into_iter()
            .filter(|&cause| cause != Cause::Unknown)
        {
            let (count, recall) = (all.of(cause), all.recall(cause));
            rows.push(
                Row::new(
                    format!("{}, {what}", cause.as_str()),
                    count,
                    format!("recall {:.1} %", recall * 100.0),
                )
                .require(count >= LEAST, "at least 200 rollbacks")
                .require(recall >= RECALL, "recall of 90 %"),
            );
        }
        let judged: u64 = all.told.iter().flatten().sum();
        rows.push(
            Row::new(
                format!("all, {what}"),
                judged,
                format!(
                    "unknown {:.2} %; {} corrections without a packet in the log",
                    all.unknown() * 100.0,
                    all.pending
                ),
            )
            .require(all.unknown() < UNKNOWN, "less than 2 % unknown")
            .require(
                all.pending * 100 < judged,
                "the log holds 99 % of the packets",
            ),
        );
    }
    let _ = MATRIX.set(text.trim_end().to_owned());
    rows
}
