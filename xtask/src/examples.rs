//! The stage `examples`: it runs them as a user would, and reads the files they write. The
//! invariants of one file are checked by the library; here the files of a match are compared.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::process::{
    create_folder, empty_folder, program, run_within, shown as shown_command, target_folder,
    workspace,
};
use crate::{clocks, native};

/// An example is built before; this bounds a match that never ends.
const LIMIT: Duration = Duration::from_secs(120);
/// Thousands of matches: five minutes on two free cores.
const JUDGE_LIMIT: Duration = Duration::from_secs(20 * 60);

struct Run {
    example: &'static str,
    options: &'static str,
    setting: Setting,
}

enum Setting {
    /// Takes `--out`, where these files must lie afterwards.
    Out(Files),
    /// Writes so many episode files into `exports` of its working folder.
    Folder(usize),
    /// Judges itself: its exit status is the verdict. The options are those of a short form; the
    /// example without them is the whole.
    Judge,
    /// Reads the episode files that an earlier row wrote, and judges them by its exit status.
    FilesOf(usize),
    /// Two of them meet on a server of their own; they write into `exports` of their folder.
    PairOnServer(Files),
}

/// What a match leaves behind.
pub(crate) struct Files {
    pub episodes: usize,
    pub players: usize,
    pub frames: u64,
    pub fallback: bool,
}

/// Every example at least once; the matches are short, a developer waits for them.
const RUNS: &[Run] = &[
    Run {
        example: "headless_duel",
        options: "--frames 300 --seed 1",
        setting: Setting::Out(Files {
            episodes: 1,
            players: 2,
            frames: 300,
            fallback: true,
        }),
    },
    Run {
        example: "headless_duel",
        options: "--frames 120 --episodes 2 --seed 2 --input-delay 0 --cut-direct-at never",
        setting: Setting::Out(Files {
            episodes: 2,
            players: 2,
            frames: 120,
            fallback: false,
        }),
    },
    Run {
        example: "replay",
        options: "",
        setting: Setting::FilesOf(0),
    },
    Run {
        example: "replay",
        options: "",
        setting: Setting::FilesOf(1),
    },
    Run {
        example: "minimal",
        options: "",
        setting: Setting::PairOnServer(Files {
            episodes: 1,
            players: 2,
            frames: 600,
            fallback: false,
        }),
    },
    Run {
        example: "observe_existing",
        options: "",
        setting: Setting::Folder(2),
    },
    Run {
        example: "lab_socket",
        options: "",
        setting: Setting::Folder(2),
    },
    Run {
        example: "failover",
        options: "--quick",
        setting: Setting::Judge,
    },
    Run {
        example: "scenarios",
        options: "--quick",
        setting: Setting::Judge,
    },
];

pub(crate) fn check() -> Result<(), String> {
    let listed: BTreeSet<&str> = RUNS.iter().map(|run| run.example).collect();
    compare(&listed, &present()?)?;
    let built = native::programs()?;
    let exports = target_folder()?.join("xtask/exports");
    empty_folder(&exports)?;
    for (number, row) in RUNS.iter().enumerate() {
        let out = exports.join(number.to_string());
        play(row, &built, &out)
            .map_err(|error| format!("{} {}: {error}", row.example, row.options))?;
    }
    Ok(())
}

/// Runs one row; its files go below `out`.
fn play(row: &Run, built: &Path, out: &Path) -> Result<(), String> {
    create_folder(out)?;
    let command = || {
        let name = built.join("examples").join(row.example);
        let mut command = program(&name.to_string_lossy());
        command
            .current_dir(out)
            .args(row.options.split_whitespace());
        command
    };
    match &row.setting {
        Setting::Out(files) => {
            run_within(command().arg("--out").arg(out), LIMIT)?;
            read_match(out, files)
        }
        Setting::Judge => run_within(&mut command(), JUDGE_LIMIT),
        Setting::Folder(files) => {
            run_within(&mut command(), LIMIT)?;
            read_folder(&out.join("exports"), *files)
        }
        Setting::FilesOf(row) => {
            let files = episode_files(&out.with_file_name(row.to_string()))?;
            run_within(command().args(files), LIMIT)
        }
        Setting::PairOnServer(files) => {
            let server = Server::start(built)?;
            let [first, second] = [(), ()].map(|()| {
                let mut command = command();
                command.arg(&server.url);
                thread::spawn(move || run_within(&mut command, LIMIT))
            });
            for peer in [first, second] {
                peer.join().map_err(|_| "a peer's thread panicked")??;
            }
            let exports = out.join("exports");
            read_match(&exports, files)?;
            let sessions = entries(&exports)?;
            sessions
                .iter()
                .try_for_each(|session| clocks::check(session, files.players))
        }
    }
}

/// The server's own program on a port that the system chose; ended with this value.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(built: &Path) -> Result<Self, String> {
        let name = built.join("rollback-lab");
        let mut command = program(&name.to_string_lossy());
        command.args(["serve", "--bind", "127.0.0.1:0"]);
        println!("$ {}", shown_command(&command));
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the server does not start: {error}"))?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|error| format!("the server's output ended: {error}"))?;
        }
        let url = line
            .trim()
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        let server = Self { process, url };
        if server.url.starts_with("ws://") {
            Ok(server)
        } else {
            Err(format!("the server's first line names no address: {line}"))
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The episode files of the sessions below a folder.
pub(crate) fn episode_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for session in entries(folder)? {
        files.extend(entries(&session)?.into_iter().filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("episode-")
        }));
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("no episode file in {}", folder.display()));
    }
    Ok(files)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("no exports: {error}"))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect())
}

/// Counts the episode files below a folder and reads each.
fn read_folder(folder: &Path, expected: usize) -> Result<(), String> {
    let mut found = 0;
    for session in entries(folder)? {
        for file in entries(&session)? {
            let document = read(&file)?;
            if document.pointer("/frames/total").and_then(Value::as_u64) == Some(0) {
                return Err(format!("{} holds no frame", file.display()));
            }
            found += 1;
        }
    }
    if found == expected {
        println!("{found} episode files");
        Ok(())
    } else {
        Err(format!(
            "{expected} episode files were expected, {found} were written"
        ))
    }
}

/// The library's examples as cargo finds them. Those that are packages of their own need a screen:
/// other stages run them.
fn present() -> Result<BTreeSet<String>, String> {
    let library = workspace()?
        .root_package()
        .ok_or("the workspace has no package in its root")?;
    let targets = library.targets.iter();
    Ok(targets
        .filter(|target| target.is_example())
        .map(|target| target.name.clone())
        .collect())
}

fn compare(listed: &BTreeSet<&str>, present: &BTreeSet<String>) -> Result<(), String> {
    if let Some(missing) = listed.iter().find(|name| !present.contains(**name)) {
        return Err(format!("there is no example `{missing}`"));
    }
    match present.iter().find(|name| !listed.contains(name.as_str())) {
        Some(new) => Err(format!(
            "the example `{new}` is run by no row of xtask/src/examples.rs"
        )),
        None => Ok(()),
    }
}

/// Reads the files of a match and compares them.
pub(crate) fn read_match(out: &Path, files: &Files) -> Result<(), String> {
    let sessions: Vec<_> = fs::read_dir(out)
        .map_err(|error| format!("no exports: {error}"))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    let [session] = sessions.as_slice() else {
        return Err(format!(
            "one session's folder was expected, {} were written",
            sessions.len()
        ));
    };
    for player in 0..files.players {
        read(&session.join(format!("session.player-{player}.json")))?;
    }
    for episode in 0..files.episodes {
        let documents = (0..files.players)
            .map(|player| {
                let name = format!("episode-{episode}.player-{player}.json");
                let document = read(&session.join(&name))?;
                episode_holds(&document, player, files)
                    .map_err(|error| format!("{name}: {error}"))?;
                Ok(document)
            })
            .collect::<Result<Vec<Value>, String>>()?;
        peers_agree(&documents).map_err(|error| format!("episode {episode}: {error}"))?;
    }
    println!(
        "{} episodes of {} frames, {} files each, in agreement",
        files.episodes, files.frames, files.players
    );
    Ok(())
}

/// Reads a file of JSON.
pub(crate) fn read(path: &Path) -> Result<Value, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))
}

fn episode_holds(document: &Value, player: usize, files: &Files) -> Result<(), String> {
    let expected = [
        ("/schema/name", Value::from("bevy_rollback_lab.episode")),
        ("/session/localPlayerId", Value::from(player)),
        ("/episode/isPartial", Value::from(false)),
        ("/episode/endFrame", Value::from(files.frames)),
        ("/frames/total", Value::from(files.frames)),
        ("/frames/advanced", Value::from(files.frames)),
        ("/quality/p2pFallbackTriggered", Value::from(files.fallback)),
        ("/sync/desyncs", Value::Array(Vec::new())),
    ];
    for (pointer, wanted) in expected {
        let found = document.pointer(pointer);
        if found != Some(&wanted) {
            return Err(format!(
                "{pointer} must be {wanted}, found {}",
                shown(found)
            ));
        }
    }
    let events = document
        .pointer("/rollbacks/events")
        .and_then(Value::as_array)
        .map(Vec::len);
    let count = document.pointer("/rollbacks/count");
    if events.map(Value::from).as_ref() != count {
        return Err(format!(
            "/rollbacks/count is {} but {events:?} events are listed",
            shown(count)
        ));
    }
    Ok(())
}

fn peers_agree(documents: &[Value]) -> Result<(), String> {
    for pointer in [
        "/session/sessionId",
        "/inputs/confirmed",
        "/sync/historyDigest",
    ] {
        for pair in documents.windows(2) {
            let (one, other) = (pair[0].pointer(pointer), pair[1].pointer(pointer));
            if one.is_none_or(Value::is_null) || one != other {
                return Err(format!(
                    "{pointer} differs between the peers, or is missing"
                ));
            }
        }
    }
    Ok(())
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".into(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const FILES: Files = Files {
        episodes: 1,
        players: 2,
        frames: 300,
        fallback: true,
    };

    fn document(player: usize) -> Value {
        json!({
            "schema": {"name": "bevy_rollback_lab.episode"},
            "session": {"sessionId": "a1", "localPlayerId": player},
            "episode": {"isPartial": false, "endFrame": 300},
            "frames": {"total": 300, "advanced": 300},
            "inputs": {"confirmed": [{"playerId": 0, "runs": [[1, 300]]}]},
            "rollbacks": {"events": [{"frame": 3}], "count": 1},
            "sync": {"desyncs": [], "historyDigest": "00ff"},
            "quality": {"p2pFallbackTriggered": true}
        })
    }

    #[test]
    fn a_whole_document_is_accepted() {
        assert_eq!(episode_holds(&document(1), 1, &FILES), Ok(()));
        assert_eq!(peers_agree(&[document(0), document(1)]), Ok(()));
    }

    #[test]
    fn a_wrong_figure_is_refused_with_its_place() {
        let cases = [
            ("/frames/total", json!(299)),
            ("/episode/isPartial", json!(true)),
            ("/rollbacks/count", json!(2)),
            ("/sync/desyncs", json!([{"frame": 7}])),
        ];
        for (pointer, wrong) in cases {
            let mut document = document(0);
            *document.pointer_mut(pointer).unwrap() = wrong;
            let error = episode_holds(&document, 0, &FILES).unwrap_err();
            assert!(error.contains(pointer), "{error}");
        }
    }

    #[test]
    fn peers_that_confirmed_different_inputs_are_refused() {
        let mut other = document(1);
        other["inputs"]["confirmed"][0]["runs"][0][1] = json!(299);
        assert!(peers_agree(&[document(0), other]).is_err());
        let empty = json!({});
        assert!(peers_agree(&[empty.clone(), empty]).is_err());
    }

    #[test]
    fn an_example_without_a_row_is_refused() {
        let listed = BTreeSet::from(["minimal"]);
        let present = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect();
        assert!(compare(&listed, &present(&["minimal"])).is_ok());
        assert!(
            compare(&listed, &present(&["minimal", "new"]))
                .unwrap_err()
                .contains("`new`")
        );
        assert!(
            compare(&listed, &present(&[]))
                .unwrap_err()
                .contains("no example `minimal`")
        );
    }
}
