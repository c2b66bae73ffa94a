//! Owns `rollback-lab verify`: every file checked alone, and against the others of its episode, one
//! line for each. Never changes a file, and judges by the JSON Schema and `record::check` alone; what
//! only the game can judge, it asks the game's own program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Args;
use jsonschema::Validator;
use rollback_lab_record::check::{Violation, check_episode, check_pair};
use rollback_lab_record::desync::DesyncBundle;
use rollback_lab_record::{EpisodeDocument, SCHEMA_VERSION, SessionDocument, schema};
use serde::Serialize;
use serde_json::Value;

use crate::files::{self, Group};

/// Faults that a line of text tells; all of them stand in the JSON.
const TOLD: usize = 3;

#[derive(Args)]
pub(crate) struct Verify {
    /// Folders, searched for episode and session files, or such files, of one or several peers.
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Print one JSON document instead of a line per file.
    #[arg(long)]
    json: bool,
    /// Play every episode file back with the game's own program, as volley's example `replay`: it gets
    /// the file's path and fails where a state differs.
    #[arg(long, value_name = "PROGRAM")]
    replay: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    in_order: bool,
    episode_files: usize,
    session_files: usize,
    /// Halves of desyncs; `rollback-lab desync` puts two side by side.
    desync_files: usize,
    unreadable_files: usize,
    pairs: usize,
    /// Episodes of which a player's file was not given.
    incomplete_episodes: usize,
    /// Episode files by what they claim in `sync.status`.
    claims: BTreeMap<&'static str, usize>,
    /// JSON documents of another kind that lay in a folder.
    skipped: usize,
    faults: usize,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileReport {
    path: PathBuf,
    /// `episode`, `session`, `desync` or `unreadable`.
    kind: &'static str,
    session_id: Option<String>,
    episode_num: Option<u32>,
    player_id: Option<usize>,
    frames: Option<u64>,
    rollbacks: Option<u64>,
    /// `sync.status` of an episode file.
    status: Option<&'static str>,
    /// Players whose file agrees with this one.
    agrees_with: Vec<usize>,
    /// Players whose file was not given.
    missing_players: Vec<usize>,
    /// Whether the game's program played it back without a difference.
    replayed: bool,
    faults: Vec<Fault>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fault {
    /// `read`, `schema`, `invariants`, `pair` or `replay`.
    check: &'static str,
    /// The other player, of a pair.
    with_player: Option<usize>,
    identity: Option<u8>,
    message: String,
}

/// The validators of all documents.
struct Schemas {
    episode: Validator,
    session: Validator,
    desync: Validator,
}

/// One file of a group, while the group is checked.
struct Loaded {
    document: Option<EpisodeDocument>,
    report: FileReport,
}

/// Prints a line per file, then one of counts. Returns whether nothing is wrong.
///
/// # Errors
/// A path that is not there.
pub(crate) fn verify(options: &Verify) -> Result<bool, String> {
    let found = files::find(&options.paths)?;
    let schemas = Schemas {
        episode: validator(schema::EPISODE)?,
        session: validator(schema::SESSION)?,
        desync: validator(schema::DESYNC)?,
    };
    let mut report = Report {
        skipped: found.foreign.len(),
        ..Report::default()
    };
    let bar = files::progress("verifying", found.files());
    let tell = |file: FileReport, report: &mut Report| {
        if !options.json {
            bar.suspend(|| println!("{}", line(&file)));
        }
        report.count(file, options.json);
    };
    for (path, why) in &found.unreadable {
        let mut file = FileReport::new(path, "unreadable");
        file.fault("read", why.clone());
        tell(file, &mut report);
    }
    for group in &found.groups {
        let mut checked = check(group, &schemas, &mut report);
        if let Some(program) = &options.replay {
            replay(program, &mut checked);
        }
        for loaded in checked {
            tell(loaded.report, &mut report);
            bar.inc(1);
        }
    }
    for bundle in &found.bundles {
        tell(load_bundle(&bundle.path, &schemas), &mut report);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.in_order = report.faults == 0;
    if options.json {
        let json = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
        println!("{json}");
    } else {
        println!("{}", summary(&report));
    }
    Ok(report.in_order)
}

/// Checks one group, which is all that is in memory meanwhile.
fn check(group: &Group, schemas: &Schemas, report: &mut Report) -> Vec<Loaded> {
    let Some(number) = group.episode else {
        let session = |path: &PathBuf| load_session(path, schemas);
        return group.files.iter().map(session).collect();
    };
    let mut loaded: Vec<Loaded> = group
        .files
        .iter()
        .map(|path| load_episode(path, number, schemas))
        .collect();
    compare(&mut loaded, report);
    find_missing(&mut loaded, report);
    loaded
}

fn load_session(path: &Path, schemas: &Schemas) -> Loaded {
    let mut report = FileReport::new(path, "session");
    match read(path, &schemas.session, SessionDocument::parse, &mut report) {
        Err(why) => report.fault("read", why),
        Ok(document) => {
            report.session_id = Some(document.session.session_id);
            report.player_id = document.session.local_player_id;
        }
    }
    Loaded {
        document: None,
        report,
    }
}

fn load_bundle(path: &Path, schemas: &Schemas) -> FileReport {
    let mut report = FileReport::new(path, "desync");
    match read(path, &schemas.desync, DesyncBundle::parse, &mut report) {
        Err(why) => report.fault("read", why),
        Ok(bundle) => {
            report.session_id = Some(bundle.session.session_id);
            report.episode_num = Some(bundle.episode_num);
            report.player_id = bundle.session.local_player_id;
        }
    }
    report
}

fn load_episode(path: &Path, number: u32, schemas: &Schemas) -> Loaded {
    let mut report = FileReport::new(path, "episode");
    report.episode_num = Some(number);
    let document = match read(path, &schemas.episode, EpisodeDocument::parse, &mut report) {
        Err(why) => {
            report.fault("read", why);
            None
        }
        Ok(document) => {
            report.session_id = Some(document.session.session_id.clone());
            report.player_id = document.session.local_player_id;
            report.frames = Some(document.frames.total);
            report.rollbacks = Some(document.rollbacks.count);
            report.status = Some(document.sync.status.as_str());
            let found = check_episode(&document);
            report.violations("identities", None, &found);
            Some(document)
        }
    };
    Loaded { document, report }
}

/// Reads a document and validates it. The schema is the one of this build's minor version: an
/// older file lacks later fields, and is held to what reading demands.
fn read<T, E: std::fmt::Display>(
    path: &Path,
    schema: &Validator,
    parse: impl Fn(&str) -> Result<T, E>,
    report: &mut FileReport,
) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if value.pointer("/schema/version").and_then(Value::as_str) == Some(SCHEMA_VERSION) {
        for error in schema.iter_errors(&value) {
            report.fault("schema", format!("{}: {error}", error.instance_path()));
        }
    }
    parse(&text).map_err(|error| error.to_string())
}

/// Every pair of the group; a fault of a pair stands at both files.
fn compare(loaded: &mut [Loaded], report: &mut Report) {
    for second in 1..loaded.len() {
        let (before, rest) = loaded.split_at_mut(second);
        let Some(two) = rest.first_mut() else { break };
        for one in before {
            let (Some(a), Some(b)) = (&one.document, &two.document) else {
                continue;
            };
            report.pairs += 1;
            let found = check_pair(a, b);
            let (player_a, player_b) = (a.session.local_player_id, b.session.local_player_id);
            if found.is_empty() {
                one.report.agrees_with.extend(player_b);
                two.report.agrees_with.extend(player_a);
            }
            one.report.violations("pair", player_b, &found);
            two.report.violations("pair", player_a, &found);
        }
    }
}

/// A player's file that was not given is no fault of the others: it may never have been written.
fn find_missing(loaded: &mut [Loaded], report: &mut Report) {
    let given: Vec<usize> = loaded
        .iter()
        .filter_map(|file| file.report.player_id)
        .collect();
    let mut incomplete = false;
    for file in loaded {
        let Some(document) = &file.document else {
            continue;
        };
        let players = document.session.player_ids.iter().copied();
        file.report.missing_players = players.filter(|player| !given.contains(player)).collect();
        incomplete |= !file.report.missing_players.is_empty();
    }
    report.incomplete_episodes += usize::from(incomplete);
}

/// Has the game play every episode file of the group.
fn replay(program: &Path, loaded: &mut [Loaded]) {
    for file in loaded.iter_mut().filter(|file| file.document.is_some()) {
        match Command::new(program).arg(&file.report.path).output() {
            Ok(output) if output.status.success() => file.report.replayed = true,
            Ok(output) => file.report.fault("replay", last_words(&output)),
            Err(error) => {
                let why = format!("{} does not run: {error}", program.display());
                file.report.fault("replay", why);
            }
        }
    }
}

/// The last line that a program said, of errors if there are any.
fn last_words(output: &Output) -> String {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        line.map(str::to_owned)
    };
    let said = last(&output.stderr).or_else(|| last(&output.stdout));
    said.unwrap_or_else(|| format!("the program ended with {}", output.status))
}

fn validator(schema: &str) -> Result<Validator, String> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    jsonschema::validator_for(&schema).map_err(|error| error.to_string())
}

impl FileReport {
    fn new(path: &Path, kind: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            session_id: None,
            episode_num: None,
            player_id: None,
            frames: None,
            rollbacks: None,
            status: None,
            agrees_with: Vec::new(),
            missing_players: Vec::new(),
            replayed: false,
            faults: Vec::new(),
        }
    }

    fn fault(&mut self, check: &'static str, message: String) {
        self.faults.push(Fault {
            check,
            with_player: None,
            identity: None,
            message,
        });
    }

    fn violations(&mut self, check: &'static str, with: Option<usize>, found: &[Violation]) {
        self.faults.extend(found.iter().map(|violation| Fault {
            check,
            with_player: with,
            identity: Some(violation.invariant),
            message: violation.to_string(),
        }));
    }
}

impl Report {
    fn count(&mut self, file: FileReport, keep: bool) {
        match file.kind {
            "episode" => self.episode_files += 1,
            "session" => self.session_files += 1,
            "desync" => self.desync_files += 1,
            _ => self.unreadable_files += 1,
        }
        if let Some(status) = file.status {
            *self.claims.entry(status).or_default() += 1;
        }
        self.faults += file.faults.len();
        if keep {
            self.files.push(file);
        }
    }
}

/// One line, whatever is wrong.
fn line(file: &FileReport) -> String {
    let path = file.path.display();
    if !file.faults.is_empty() {
        let mut told: Vec<String> = file.faults.iter().take(TOLD).map(told).collect();
        if let Some(more) = file.faults.len().checked_sub(TOLD).filter(|more| *more > 0) {
            told.push(format!("and {more} more (--json tells all)"));
        }
        return format!("FAULT  {path}: {}", told.join("; "));
    }
    let mut about = vec![file.kind.to_owned()];
    about.extend(file.frames.map(|frames| format!("{frames} frames")));
    about.extend(
        file.rollbacks
            .map(|rollbacks| format!("{rollbacks} rollbacks")),
    );
    about.extend(file.status.map(str::to_owned));
    let agrees = players("agrees with player", &file.agrees_with);
    let missing = players("no file of player", &file.missing_players);
    about.extend(agrees.into_iter().chain(missing));
    about.extend(file.replayed.then(|| String::from("replayed")));
    format!("ok     {path}: {}", about.join(", "))
}

fn told(fault: &Fault) -> String {
    let with = fault
        .with_player
        .map(|player| format!(" with player {player}"));
    // A message may quote the file, line ends included.
    let message = fault.message.replace(['\n', '\r'], " ");
    format!("{}{}: {message}", fault.check, with.unwrap_or_default())
}

fn players(what: &str, players: &[usize]) -> Option<String> {
    let list: Vec<String> = players.iter().map(usize::to_string).collect();
    (!list.is_empty()).then(|| format!("{what} {}", list.join(", ")))
}

fn summary(report: &Report) -> String {
    let claims: Vec<String> = report
        .claims
        .iter()
        .map(|(status, files)| format!("{files} {status}"))
        .collect();
    let mut text = format!("{} episode files", report.episode_files);
    if !claims.is_empty() {
        text.push_str(&format!(" ({})", claims.join(", ")));
    }
    text.push_str(&format!(
        ", {} pairs of them, {} session files",
        report.pairs, report.session_files
    ));
    for (count, what) in [
        (report.desync_files, "halves of desyncs"),
        (
            report.incomplete_episodes,
            "episodes without a player's file",
        ),
        (report.skipped, "other JSON files skipped"),
        (report.unreadable_files, "unreadable"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    match report.faults {
        0 => text.push_str(": in order"),
        faults => text.push_str(&format!(": {faults} faults")),
    }
    text
}
