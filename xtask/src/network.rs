//! The stage `network` and `cargo xtask network`: matches of real processes in network namespaces,
//! while paths, players and servers go away and come back. Each row's outcome is compared with what
//! is expected of it; `network/rows.rs` lists the rows.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::matches::{Arguments, Programs, Unknown};
use crate::process::{empty_folder, target_folder};
use crate::stages::Outcome;

mod judge;
mod play;
mod row;
mod rows;
mod space;
mod table;
mod topology;

use row::Row;
use space::Space;
use table::Line;

/// Rows at the same time. A match of two takes a tenth of a core; most of its time it waits.
const AT_ONCE: usize = 6;
/// Rows that are played again at most: load explains a few.
const AGAIN: usize = 4;
/// The whole, if something never ends: all rows after one another would take this long.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Where the failed rows are named for the program outside.
const FAILED: &str = "failed.txt";

/// What is played and where.
struct Plan {
    programs: Programs,
    rows: Vec<&'static Row>,
    at_once: usize,
    out: PathBuf,
}

/// The stage: the short rows. Where no namespaces can be made it has not run.
pub(crate) fn check() -> Outcome {
    let space = match Space::find() {
        Ok(space) => space,
        Err(why) => return Outcome::NotRun(why),
    };
    let plan = || {
        Ok(Plan {
            programs: Programs::find(None)?,
            rows: rows::all().filter(|row| row.short).collect(),
            at_once: AT_ONCE,
            out: folder()?,
        })
    };
    plan().and_then(|plan| plan.run_inside(space)).into()
}

/// Installs what the stage needs.
pub(crate) fn prepare() -> Result<(), String> {
    space::tools()
}

/// `cargo xtask network [ROW]... [--list] [--jobs N] [--programs DIR]`.
///
/// `--inside OUT` is how this program calls itself in its namespaces.
pub(crate) fn command(arguments: &[String]) -> Result<(), String> {
    let mut arguments = Arguments::new(arguments);
    if arguments.switch("--list") {
        for row in rows::all() {
            let mark = if row.short { ' ' } else { '*' };
            println!("{:<26}{mark} {}", row.name, row.about);
        }
        println!("\n* not in `cargo xtask test`");
        return Ok(());
    }
    let folder_of_programs = arguments.folder("--programs")?;
    let inside = arguments.folder("--inside")?;
    let at_once: usize = arguments.value("--jobs")?.unwrap_or(AT_ONCE).max(1);
    let rows = rows::named(&arguments.names()?)?;
    let plan = |out| {
        Ok::<Plan, String>(Plan {
            rows,
            programs: Programs::find(folder_of_programs.as_deref())?,
            at_once,
            out,
        })
    };
    let Some(out) = inside else {
        // Without namespaces the programs need not be built.
        let space = Space::find()?;
        return plan(folder()?)?.run_inside(space);
    };
    space::end_with_parent();
    let passed = plan(out)?.play()?;
    // The program outside reports it.
    std::process::exit(i32::from(!passed));
}

fn folder() -> Result<PathBuf, String> {
    Ok(target_folder()?.join("xtask/network"))
}

impl Plan {
    /// Runs this program again, in namespaces of its own.
    fn run_inside(&self, space: Space) -> Result<(), String> {
        empty_folder(&self.out)?;
        let mut arguments: Vec<String> = [
            "network",
            "--inside",
            &self.out.to_string_lossy(),
            "--programs",
            &self.programs.folder().to_string_lossy(),
            "--jobs",
            &self.at_once.to_string(),
        ]
        .map(str::to_owned)
        .into();
        arguments.extend(self.rows.iter().map(|row| row.name.to_owned()));
        let status = space.run(&arguments, LIMIT)?;
        if status.success() {
            return Ok(());
        }
        let failed = fs::read_to_string(self.out.join(FAILED));
        Err(failed.unwrap_or_else(|_| format!("the rows were not played: {status}")))
    }

    /// Plays the rows, several at a time, prints the table, and returns whether all passed.
    fn play(&self) -> Result<bool, String> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by(|a, b| self.rows[*b].limit().total_cmp(&self.rows[*a].limit()));
        let waiting = Mutex::new(VecDeque::from(order));
        let lines = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(|| {
                    loop {
                        let mut queue = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                        let next = queue.pop_front();
                        drop(queue);
                        let Some(number) = next else { return };
                        let line = self.line(number, false);
                        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                        lines.push((number, line));
                    }
                });
            }
        });
        let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        lines.sort_by_key(|(number, _)| *number);
        // Only what a busy machine does too: a second time it has no other rows to blame.
        let by_load = lines.iter_mut().filter(|(_, line)| {
            !line.wrong.is_empty() && line.wrong.iter().all(|wrong| wrong.by_load)
        });
        for (number, line) in by_load.take(AGAIN) {
            *line = self.line(*number, true);
        }
        let lines: Vec<Line> = lines.into_iter().map(|(_, line)| line).collect();
        report(&lines, &self.out)
    }

    fn line(&self, number: usize, alone: bool) -> Line {
        let row = self.rows[number];
        let from = Instant::now();
        let again = if alone { "-alone" } else { "" };
        let folder = self.out.join(format!("{}{again}", row.name));
        let seen = play::play(row, number, &self.programs, &folder);
        let wrong = match &seen {
            Ok(seen) => judge::judge(row, seen),
            Err(why) => vec![why.clone().into()],
        };
        let took = from.elapsed().as_secs_f64();
        let result = if wrong.is_empty() { "passed" } else { "FAILED" };
        println!(
            "{:<26} {result} in {took:.1} s{}",
            row.name,
            if alone { ", alone" } else { "" }
        );
        Line {
            row,
            seen,
            wrong,
            took,
            alone,
        }
    }
}

/// Prints the table, and leaves the names of the failed rows in a file.
fn report(lines: &[Line], out: &Path) -> Result<bool, String> {
    println!("\n{}", table::table(lines));
    let is_compared = |line: &Line| rows::COMPARED.iter().any(|row| row.name == line.row.name);
    if lines.iter().any(is_compared) {
        let compared: Vec<&Line> = lines.iter().filter(|line| is_compared(line)).collect();
        println!("{}", table::delays(&compared));
    }
    let mut unknown = Unknown::default();
    for seen in lines.iter().filter_map(|line| line.seen.as_ref().ok()) {
        unknown.add(seen.unknown());
    }
    println!("unknown causes in all rows: {unknown}");
    let failed = lines.iter().filter(|line| !line.wrong.is_empty());
    let failed: Vec<&str> = failed.map(|line| line.row.name).collect();
    let rows = (!failed.is_empty()).then(|| {
        let (failed, all, names) = (failed.len(), lines.len(), failed.join(", "));
        format!("{failed} of {all} rows failed: {names}")
    });
    let why: Vec<String> = rows.into_iter().chain(unknown.exceeded()).collect();
    if why.is_empty() {
        println!("{} rows passed", lines.len());
        return Ok(true);
    }
    let why = why.join("; ");
    let file = out.join(FAILED);
    fs::write(&file, &why).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(false)
}
