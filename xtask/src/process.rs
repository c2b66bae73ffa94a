//! Runs other programs in the repository's root, with an environment like that of an interactive
//! shell, and shows their output as it comes. What a failure means is the caller's decision.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cargo_metadata::{Metadata, MetadataCommand};

/// How often a running child is polled.
const POLL: Duration = Duration::from_millis(50);

thread_local! {
    /// Where the programs that this thread runs write, if not to the terminal.
    static LOG: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository's root")
        .to_path_buf()
}

/// A program to be run in the root.
///
/// `cargo run` describes its own package in the environment, and build scripts that watch those
/// variables (ring's) would run again at every change between a shell and xtask: they are removed.
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    for (key, _) in std::env::vars_os() {
        let Some(key) = key.to_str() else { continue };
        let of_a_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| key.starts_with(prefix));
        if of_a_package
            || matches!(
                key,
                "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE" | "OUT_DIR"
            )
        {
            command.env_remove(key);
        }
    }
    command
}

/// The cargo that runs this program, with the arguments split at blanks.
pub(crate) fn cargo(arguments: &str) -> Command {
    let mut command = program(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(arguments.split_whitespace());
    command
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Sends the output of every program that `work` runs on this thread into a file.
pub(crate) fn logged<T>(
    file: &Path,
    work: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    if let Some(folder) = file.parent() {
        create_folder(folder)?;
    }
    let log = File::create(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let before = LOG.replace(Some(log));
    let result = work();
    LOG.set(before);
    result
}

/// Prepares a program that is about to run: it is shown, and its output goes where the thread's
/// does.
fn announce(command: &mut Command) -> Result<(), String> {
    LOG.with_borrow_mut(|log| {
        let Some(log) = log else {
            println!("$ {}", shown(command));
            return Ok(());
        };
        let copy = || log.try_clone().map_err(|error| error.to_string());
        command.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?);
        Ok(())
    })
}

/// Runs to the end, output inherited.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    announce(command)?;
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", shown(command)))?;
    succeeded(command, status)
}

/// Runs to the end, or kills the program when the limit has passed.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<(), String> {
    announce(command)?;
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", shown(command)))?;
    match wait(&mut child, limit)? {
        Some(status) => succeeded(command, status),
        None => Err(format!(
            "`{}` was not done after {} s",
            shown(command),
            limit.as_secs()
        )),
    }
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<(), String> {
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` ended with {status}", shown(command)))
    }
}

fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>, String> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(Some(status));
        }
        if started.elapsed() > limit {
            child.kill().map_err(|error| error.to_string())?;
            child.wait().map_err(|error| error.to_string())?;
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// What a program prints on stdout; its stderr is shown only when it fails.
pub(crate) fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", shown(command)))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!(
            "`{}` ended with {}\n{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        ))
    }
}

/// Whether a program can be run and succeeds, silently.
pub(crate) fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The workspace's own packages as cargo describes them; the dependencies are not resolved.
pub(crate) fn workspace() -> Result<&'static Metadata, String> {
    static WORKSPACE: OnceLock<Result<Metadata, String>> = OnceLock::new();
    WORKSPACE
        .get_or_init(|| metadata(&["--no-deps"]))
        .as_ref()
        .map_err(String::clone)
}

/// `cargo metadata` of the root, with these options.
pub(crate) fn metadata(options: &[&str]) -> Result<Metadata, String> {
    let mut command = MetadataCommand::new();
    if let Ok(cargo) = std::env::var("CARGO") {
        command.cargo_path(cargo);
    }
    command
        .current_dir(root())
        .other_options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .exec()
        .map_err(|error| format!("cargo metadata: {error}"))
}

/// The folder that cargo builds into, `CARGO_TARGET_DIR` honoured.
pub(crate) fn target_folder() -> Result<PathBuf, String> {
    Ok(workspace()?.target_directory.clone().into_std_path_buf())
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

/// An empty folder at this place, whatever was there before.
pub(crate) fn empty_folder(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    create_folder(folder)
}
