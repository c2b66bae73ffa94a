//! `cargo xtask bench`: it builds the benches, runs them alone and under valgrind, prints their
//! figures as Markdown rows, and judges the promises that do not depend on the machine.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{cargo, output_of, program, run, target_folder, works};

const BENCHES: [&str; 3] = ["observer_cost", "packet_path", "allocations"];
/// Rolled-back entities of the two games.
const ENTITIES: [u64; 2] = [1_000, 20];
/// Lengths of the two runs whose difference is the steady state, whole cycles of the bench's
/// script: a quarter of a minute under valgrind where it must be quick.
const QUICK: (u64, u64) = (100, 200);
const FULL: (u64, u64) = (300, 900);
/// More instructions per frame, at 1,000 entities.
const PROMISED_PERCENT: f64 = 1.0;
/// Added to a frame, at 1,000 entities.
const PROMISED_US: f64 = 2.0;
/// Allocations that may come with the growth of a record in 3,000 frames: the bound of
/// `tests/allocations.rs`.
const PROMISED_GROWTH: u64 = 48;

/// A line of the table, and what it breaks if anything.
struct Row {
    cells: [String; 5],
    broken: Option<String>,
}

/// Runs the benches; an error if a promise that can be judged anywhere does not hold.
pub(crate) fn bench(arguments: &[String]) -> Result<(), String> {
    let quick = match arguments {
        [] => false,
        [word] if word == "--quick" => true,
        _ => return Err("`bench` knows --quick alone".into()),
    };
    let built = build()?;
    let folder = target_folder()?.join("xtask/bench");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let [observer_cost, packet_path, allocations] = &built;
    let mut rows = Vec::new();
    let valgrind = works(program("valgrind").arg("--version"));
    if valgrind {
        for entities in ENTITIES {
            rows.push(instructions(observer_cost, &folder, entities, quick)?);
        }
    }
    let mut counted = program(&allocations.to_string_lossy());
    if quick {
        counted.arg("--quick");
    } else {
        counted.arg("--out").arg(&folder);
        rows.extend(times(observer_cost)?);
        rows.push(packet_time(packet_path)?);
    }
    rows.extend(allocated(&lines(&output_of(&mut counted)?)?, &folder)?);
    print(&rows);
    let broken: Vec<String> = rows.into_iter().filter_map(|row| row.broken).collect();
    if !broken.is_empty() {
        return Err(format!("promises broken\n  {}", broken.join("\n  ")));
    }
    if valgrind {
        Ok(())
    } else {
        Err("instructions were not counted: valgrind is not installed".into())
    }
}

/// Builds the benches as `cargo bench` does and returns their programs, in the order of
/// [`BENCHES`].
fn build() -> Result<[PathBuf; 3], String> {
    let wanted = BENCHES.map(|name| format!("--bench {name}")).join(" ");
    let command = format!("bench --locked --no-run {wanted}");
    run(&mut cargo(&command))?;
    // Everything is fresh now; cargo reports where.
    let messages = output_of(&mut cargo(&format!("{command} --message-format json")))?;
    let messages: Vec<Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let path_of = |name: &str| {
        messages
            .iter()
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str())
            .map(PathBuf::from)
            .ok_or_else(|| format!("cargo built no bench {name}"))
    };
    let [first, second, third] = BENCHES.map(path_of);
    Ok([first?, second?, third?])
}

fn lines(text: &str) -> Result<Vec<Value>, String> {
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("`{line}`: {error}")))
        .collect()
}

fn number(line: &Value, name: &str) -> Result<f64, String> {
    line[name]
        .as_f64()
        .ok_or_else(|| format!("no {name} in {line}"))
}

/// Instructions per frame in steady state: two lengths, bare and observed.
fn instructions(bench: &Path, folder: &Path, entities: u64, quick: bool) -> Result<Row, String> {
    let (short, long) = if quick { QUICK } else { FULL };
    let mut work = Vec::new();
    let mut per_frame = |observers: &str| -> Result<f64, String> {
        let mut total = |frames: u64| {
            let (work_done, instructions) = profiled(bench, folder, observers, entities, frames)?;
            work.push((frames, work_done));
            Ok::<_, String>(instructions)
        };
        let (few, many) = (total(short)?, total(long)?);
        Ok((many - few) / (long - short) as f64)
    };
    let (bare, observed) = (per_frame("none")?, per_frame("memory")?);
    for frames in [short, long] {
        let mut same = work
            .iter()
            .filter(|(of, _)| *of == frames)
            .map(|(_, work)| work);
        if same.next() != same.next() {
            return Err(format!(
                "{frames} frames bare and observed did not do the same work"
            ));
        }
    }
    let percent = 100.0 * (observed - bare) / bare;
    let promised = entities == ENTITIES[0];
    let broken = (promised && percent > PROMISED_PERCENT)
        .then(|| format!("{percent:.2} % more instructions at {entities} entities"));
    Ok(Row {
        cells: [
            format!("instructions per frame, {entities} entities"),
            format!("{bare:.0}"),
            format!("{observed:.0}"),
            format!("{:+.0} ({percent:+.2} %)", observed - bare),
            if promised {
                format!("at most {PROMISED_PERCENT:.0} %")
            } else {
                "-".into()
            },
        ],
        broken,
    })
}

/// What the bench reports as done, and the instructions inside the app's updates.
fn profiled(
    bench: &Path,
    folder: &Path,
    observers: &str,
    entities: u64,
    frames: u64,
) -> Result<(String, f64), String> {
    let out = folder.join(format!("{observers}-{entities}-{frames}.callgrind"));
    let mut command = program("valgrind");
    command
        .arg("--quiet")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg("--toggle-collect=*measured_update*")
        .arg(bench)
        .args(["run", "--observers", observers])
        .args(["--entities", &entities.to_string()])
        .args(["--frames", &frames.to_string()]);
    let work = output_of(&mut command)?;
    let profile =
        fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|total| total.trim().parse().ok())
        .ok_or_else(|| format!("no totals in {}", out.display()))?;
    Ok((work, total))
}

/// Time per frame by the clock, and the same match against itself: how far to trust the first.
fn times(bench: &Path) -> Result<Vec<Row>, String> {
    let measure = |observers: &str| {
        let mut command = program(&bench.to_string_lossy());
        lines(&output_of(command.args([
            "pair",
            "--observers",
            observers,
        ]))?)
    };
    let (control, measured) = (measure("none")?, measure("memory")?);
    let mut rows = Vec::new();
    for (line, control) in measured.iter().zip(&control) {
        let entities = number(line, "entities")?;
        let (bare, added) = (
            number(line, "bareUsPerFrame")?,
            number(line, "addedUsPerFrame")?,
        );
        let control = number(control, "addedUsPerFrame")?;
        rows.push(Row {
            cells: [
                format!("us per frame, {entities} entities"),
                format!("{bare:.2}"),
                format!("{:.2}", bare + added),
                format!(
                    "{added:+.2} ({:+.2} %); against itself {control:+.2}",
                    100.0 * added / bare
                ),
                if entities as u64 == ENTITIES[0] {
                    format!("at most {PROMISED_US:.0} us")
                } else {
                    "-".into()
                },
            ],
            // A clock on a busy machine is no judge.
            broken: None,
        });
    }
    Ok(rows)
}

fn packet_time(bench: &Path) -> Result<Row, String> {
    let printed = lines(&output_of(&mut program(&bench.to_string_lossy()))?)?;
    let line = printed
        .first()
        .ok_or("the bench packet_path printed nothing")?;
    let (theirs, ours) = (
        number(line, "adapterNsPerPacket")?,
        number(line, "labNsPerPacket")?,
    );
    Ok(Row {
        cells: [
            "ns per packet, matchbox's adapter against the lab".into(),
            format!("{theirs:.0}"),
            format!("{ours:.0}"),
            format!("x {:.2}", ours / theirs),
            "-".into(),
        ],
        broken: None,
    })
}

/// The rows of what the bench `allocations` printed.
fn allocated(printed: &[Value], folder: &Path) -> Result<Vec<Row>, String> {
    let [frames, packets, rest @ ..] = printed else {
        return Err("the bench allocations printed too little".into());
    };
    let count = number(frames, "frames")?;
    let (bare, observed) = (
        number(frames, "bareAllocations")?,
        number(frames, "observedAllocations")?,
    );
    let growth = observed - bare;
    let (theirs, ours) = (
        number(packets, "adapterAllocationsPerPacket")?,
        number(packets, "labAllocationsPerPacket")?,
    );
    let mut rows = vec![
        Row {
            cells: [
                format!("allocations in {count} frames"),
                format!("{bare}"),
                format!("{observed}"),
                format!("{growth:+}"),
                format!("none per frame; the record's growth, at most {PROMISED_GROWTH}"),
            ],
            broken: (growth > PROMISED_GROWTH as f64)
                .then(|| format!("{growth} more allocations in {count} frames")),
        },
        Row {
            cells: [
                "allocations per packet, matchbox's adapter against the lab".into(),
                format!("{theirs:.2}"),
                format!("{ours:.2}"),
                format!("{:+.2}", ours - theirs),
                "no more".into(),
            ],
            broken: (ours > theirs).then(|| format!("{ours:.2} allocations per packet")),
        },
    ];
    if let [hour] = rest {
        let file = zipped(&folder.join("hour.json"));
        let mib = |name: &str| Ok::<_, String>(number(hour, name)? / f64::from(1 << 20));
        rows.push(Row {
            cells: [
                "MiB after an hour of play (216,000 frames)".into(),
                format!("{:.2}", mib("bareGrowthBytes")?.max(0.0)),
                format!("{:+.2}", mib("growthBytes")?),
                format!(
                    "{} rollbacks; {:.1} more for a moment at the end; file {:.2}, gzip {}",
                    number(hour, "rollbacks")?,
                    mib("peakAtEndBytes")?,
                    mib("fileBytes")?,
                    file.map_or("not run".into(), |bytes| {
                        format!("{:.2}", bytes as f64 / f64::from(1 << 20))
                    })
                ),
                "-".into(),
            ],
            broken: None,
        });
    }
    Ok(rows)
}

/// Size of a file compressed with gzip, where that is installed.
fn zipped(file: &Path) -> Option<u64> {
    if !works(program("gzip").args(["-9", "--keep", "--force"]).arg(file)) {
        return None;
    }
    let zipped = file.with_extension("json.gz");
    fs::metadata(zipped).ok().map(|file| file.len())
}

fn print(rows: &[Row]) {
    println!("\n{}\n", machine());
    println!("| measured | without | with | difference | promise |");
    println!("|---|---|---|---|---|");
    for row in rows {
        println!("| {} |", row.cells.join(" | "));
    }
    println!();
}

/// Processor, cores, compiler and profiler.
fn machine() -> String {
    let model = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let version = |name: &str| {
        output_of(program(name).arg("--version"))
            .map_or_else(|_| format!("no {name}"), |text| text.trim().to_owned())
    };
    format!(
        "{}, {cores} cores; {}; {}",
        model.unwrap_or_else(|| "unknown processor".into()),
        version("rustc"),
        version("valgrind")
    )
}
