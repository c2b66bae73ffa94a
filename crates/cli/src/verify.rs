//! `rollback-lab verify`: whether files are what they claim to be. Every file is validated against
//! the JSON Schema, its numbers are recomputed, and the files of one episode are compared in pairs;
//! one line per file says what is wrong or what it contains. With `--replay`, the game's own
//! program plays every episode file again, which only it can do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use clap::Args;
use jsonschema::Validator;
use rollback_lab_record::check::{Violation, check_episode, check_pair};
use rollback_lab_record::desync::DesyncBundle;
use rollback_lab_record::{
    DocumentError, EpisodeDocument, SCHEMA_VERSION, SessionDocument, schema,
};
use serde::Serialize;
use serde_json::Value;

use crate::error::{CommandError, FileError};
use crate::files::{self, FileGroup};

/// Faults that a line of text lists; the JSON has all.
const LISTED_FAULTS: usize = 3;

#[derive(Args)]
pub(crate) struct VerifyOptions {
    /// Episode, session and desync files of one or several peers, or folders that are searched for
    /// them
    #[arg(required = true, value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,
    /// Print one JSON document instead of a line per file
    #[arg(long)]
    json: bool,
    /// Also run PROGRAM on every episode file: the game's own player, which gets the file's path
    /// and fails if a state differs
    #[arg(long, value_name = "PROGRAM")]
    replay: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerifyReport {
    in_order: bool,
    episode_files: usize,
    session_files: usize,
    /// Halves of desyncs; `rollback-lab desync` puts two side by side.
    desync_files: usize,
    unreadable_files: usize,
    pairs: usize,
    /// Episodes of which the file of a player is missing.
    incomplete_episodes: usize,
    /// Episode files by what they claim in `sync.status`.
    claims: BTreeMap<&'static str, usize>,
    /// JSON documents of other kinds in the searched folders.
    skipped: usize,
    faults: usize,
    files: Vec<FileReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileReport {
    path: PathBuf,
    kind: FileKind,
    session_id: Option<String>,
    episode_num: Option<u32>,
    player_id: Option<usize>,
    frames: Option<u64>,
    rollbacks: Option<u64>,
    /// `sync.status` of an episode file.
    status: Option<&'static str>,
    /// Players whose file agrees with this one.
    agrees_with: Vec<usize>,
    /// Players whose file is missing.
    missing_players: Vec<usize>,
    /// Whether the game's program played it without a difference.
    replayed: bool,
    faults: Vec<FileFault>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
enum FileKind {
    Episode,
    Session,
    Desync,
    Unreadable,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileFault {
    check: Check,
    /// The other player, of a pair.
    with_player: Option<usize>,
    /// Number of the invariant that does not hold.
    #[serde(rename = "identity")]
    invariant: Option<u8>,
    message: String,
}

/// What a fault was found by.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
enum Check {
    /// Reading the file.
    Read,
    /// The JSON Schema.
    Schema,
    /// The invariants of one file.
    #[serde(rename = "identities")]
    Invariants,
    /// The invariants of two peers' files.
    Pair,
    /// The game's own program.
    Replay,
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

/// Prints a line per file, then one of totals. Faults are a failure.
///
/// # Errors
/// When a path cannot be read.
pub(crate) fn verify(options: &VerifyOptions) -> Result<ExitCode, CommandError> {
    let found = files::find(&options.paths)?;
    let schemas = Schemas {
        episode: validator(schema::EPISODE)?,
        session: validator(schema::SESSION)?,
        desync: validator(schema::DESYNC)?,
    };
    let mut report = VerifyReport {
        skipped: found.foreign.len(),
        ..VerifyReport::default()
    };
    let bar = files::progress("verifying", found.files());
    let add = |file: FileReport, report: &mut VerifyReport| {
        if !options.json {
            bar.suspend(|| println!("{}", line(&file)));
        }
        report.add(file, options.json);
    };
    for unreadable in &found.unreadable {
        let mut file = FileReport::new(&unreadable.path, FileKind::Unreadable);
        file.fault(Check::Read, unreadable.why.to_string());
        add(file, &mut report);
    }
    for group in &found.groups {
        let mut checked = check(group, &schemas, &mut report);
        if let Some(program) = &options.replay {
            replay(program, &mut checked);
        }
        for loaded in checked {
            add(loaded.report, &mut report);
            bar.inc(1);
        }
    }
    for desync in &found.desyncs {
        add(load_desync(&desync.path, &schemas), &mut report);
        bar.inc(1);
    }
    bar.finish_and_clear();
    report.in_order = report.faults == 0;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", summary(&report));
    }
    match report.in_order {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

/// Checks one group.
fn check(group: &FileGroup, schemas: &Schemas, report: &mut VerifyReport) -> Vec<Loaded> {
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
    let mut report = FileReport::new(path, FileKind::Session);
    match read(path, &schemas.session, SessionDocument::parse, &mut report) {
        Err(why) => report.fault(Check::Read, why.to_string()),
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

fn load_desync(path: &Path, schemas: &Schemas) -> FileReport {
    let mut report = FileReport::new(path, FileKind::Desync);
    match read(path, &schemas.desync, DesyncBundle::parse, &mut report) {
        Err(why) => report.fault(Check::Read, why.to_string()),
        Ok(bundle) => {
            report.session_id = Some(bundle.session.session_id);
            report.episode_num = Some(bundle.episode_num);
            report.player_id = bundle.session.local_player_id;
        }
    }
    report
}

fn load_episode(path: &Path, number: u32, schemas: &Schemas) -> Loaded {
    let mut report = FileReport::new(path, FileKind::Episode);
    report.episode_num = Some(number);
    let document = match read(path, &schemas.episode, EpisodeDocument::parse, &mut report) {
        Err(why) => {
            report.fault(Check::Read, why.to_string());
            None
        }
        Ok(document) => {
            report.session_id = Some(document.session.session_id.clone());
            report.player_id = document.session.local_player_id;
            report.frames = Some(document.frames.total);
            report.rollbacks = Some(document.rollbacks.count);
            report.status = Some(document.sync.status.as_str());
            let found = check_episode(&document);
            report.violations(Check::Invariants, None, &found);
            Some(document)
        }
    };
    Loaded { document, report }
}

/// Reads a document and validates it. The schema is the one of this build's minor version: an
/// older file lacks later fields, and only has to be readable.
fn read<T>(
    path: &Path,
    schema: &Validator,
    parse: impl Fn(&str) -> Result<T, DocumentError>,
    report: &mut FileReport,
) -> Result<T, FileError> {
    let text = fs::read_to_string(path)?;
    let value: Value = serde_json::from_str(&text).map_err(DocumentError::NotADocument)?;
    if value.pointer("/schema/version").and_then(Value::as_str) == Some(SCHEMA_VERSION) {
        for error in schema.iter_errors(&value) {
            report.fault(Check::Schema, format!("{}: {error}", error.instance_path()));
        }
    }
    Ok(parse(&text)?)
}

/// Checks every pair of the group; a fault of a pair is one of both files.
fn compare(loaded: &mut [Loaded], report: &mut VerifyReport) {
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
            one.report.violations(Check::Pair, player_b, &found);
            two.report.violations(Check::Pair, player_a, &found);
        }
    }
}

/// Notes the players whose file is missing. That is not a fault of the others: it may not have
/// been written.
fn find_missing(loaded: &mut [Loaded], report: &mut VerifyReport) {
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

/// Runs the game's program on every episode file of the group.
fn replay(program: &Path, loaded: &mut [Loaded]) {
    for file in loaded.iter_mut().filter(|file| file.document.is_some()) {
        match Command::new(program).arg(&file.report.path).output() {
            Ok(output) if output.status.success() => file.report.replayed = true,
            Ok(output) => file.report.fault(Check::Replay, last_line(&output)),
            Err(error) => {
                let why = format!("{} does not run: {error}", program.display());
                file.report.fault(Check::Replay, why);
            }
        }
    }
}

/// The last line that a program printed, to stderr if there is any, or else how it ended.
fn last_line(output: &Output) -> String {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let line = text.lines().rev().find(|line| !line.trim().is_empty());
        line.map(str::to_owned)
    };
    last(&output.stderr)
        .or_else(|| last(&output.stdout))
        .unwrap_or_else(|| format!("the program ended with {}", output.status))
}

fn validator(schema: &str) -> Result<Validator, CommandError> {
    let schema: Value = serde_json::from_str(schema)?;
    jsonschema::validator_for(&schema).map_err(|error| CommandError::Schema(error.into()))
}

impl FileReport {
    fn new(path: &Path, kind: FileKind) -> Self {
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

    fn fault(&mut self, check: Check, message: String) {
        self.faults.push(FileFault {
            check,
            with_player: None,
            invariant: None,
            message,
        });
    }

    fn violations(&mut self, check: Check, with: Option<usize>, found: &[Violation]) {
        self.faults.extend(found.iter().map(|violation| FileFault {
            check,
            with_player: with,
            invariant: Some(violation.invariant),
            message: violation.to_string(),
        }));
    }
}

impl VerifyReport {
    /// Counts a file, and keeps its report if it will be printed.
    fn add(&mut self, file: FileReport, keep: bool) {
        match file.kind {
            FileKind::Episode => self.episode_files += 1,
            FileKind::Session => self.session_files += 1,
            FileKind::Desync => self.desync_files += 1,
            FileKind::Unreadable => self.unreadable_files += 1,
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

impl FileKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Episode => "episode",
            Self::Session => "session",
            Self::Desync => "desync",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One line about a file, however much is wrong with it.
fn line(file: &FileReport) -> String {
    let path = file.path.display();
    if !file.faults.is_empty() {
        let faults = file.faults.iter().take(LISTED_FAULTS);
        let mut listed: Vec<String> = faults.map(FileFault::text).collect();
        if file.faults.len() > LISTED_FAULTS {
            let more = file.faults.len() - LISTED_FAULTS;
            listed.push(format!("and {more} more (--json lists all)"));
        }
        return format!("FAULT  {path}: {}", listed.join("; "));
    }
    let mut about = vec![file.kind.as_str().to_owned()];
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

impl FileFault {
    fn text(&self) -> String {
        let found_by = match (self.check, self.with_player) {
            (Check::Read, _) => String::from("read: "),
            (Check::Schema, _) => String::from("schema: "),
            // The message names the invariant.
            (Check::Invariants, _) => String::new(),
            (Check::Pair, Some(player)) => format!("pair with player {player}: "),
            (Check::Pair, None) => String::from("pair: "),
            (Check::Replay, _) => String::from("replay: "),
        };
        // A message may quote the file, line ends included.
        let message = self.message.replace(['\n', '\r'], " ");
        format!("{found_by}{message}")
    }
}

fn players(what: &str, players: &[usize]) -> Option<String> {
    let list: Vec<String> = players.iter().map(usize::to_string).collect();
    (!list.is_empty()).then(|| format!("{what} {}", list.join(", ")))
}

fn summary(report: &VerifyReport) -> String {
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
