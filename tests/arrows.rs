//! Owns the arrow rule: a room of the library imports only from its left, pure rooms import
//! neither Bevy nor a clock, and the server knows the wire alone. It reads the sources as text
//! and never runs the library.

#[path = "arrows/paths.rs"]
mod paths;

use paths::{Source, references};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms from left to right; a room imports only from itself and from its left. `lib` stands
/// for whatever the crate root itself defines or re-exports.
const ORDER: [&str; 17] = [
    "checksum",
    "clock",
    "transport",
    "rollback",
    "session",
    "metrics",
    "record",
    "offline",
    "replay",
    "proof",
    "diagnostics",
    "display",
    "hud",
    "config",
    "plugins",
    "web",
    "lib",
];

/// Rooms that take `now` as an argument and do no I/O; their submodules are pure too.
const PURE: [&str; 10] = [
    "transport::wire",
    "transport::ggrs_wire",
    "transport::health",
    "transport::route",
    "transport::link",
    "transport::conditions",
    "rollback::trace",
    "rollback::cause",
    "record",
    "replay::script",
];

/// The edges of `record`: they meet the metrics, the disk and the clock.
const EDGES_OF_PURE: [&str; 5] = [
    "record::build",
    "record::lab",
    "record::links",
    "record::recorder",
    "record::sink",
];

/// Rooms whose plain numbers a pure room may use although the room itself meets Bevy: the
/// document is built of what the metrics hold.
const PLAIN_DATA: [(&str, &str); 1] = [("record", "metrics")];

/// What the server may know of the rest of the crate.
const SERVER_MAY_IMPORT: &str = "transport::wire";

/// Crates that a pure room never names: Bevy, sockets, executors.
const IMPURE_CRATES: [&str; 6] = [
    "bevy",
    "matchbox_socket",
    "async_tungstenite",
    "futures_timer",
    "tokio",
    "axum",
];

/// Parts of `std` that reach outside the process.
const IMPURE_STD: [&str; 5] = ["fs", "net", "env", "thread", "process"];

/// Names that read a clock or unseeded randomness, whatever path leads to them.
const CLOCKS: [&str; 4] = ["Instant", "SystemTime", "thread_rng", "OsRng"];

fn within(module: &str, room: &str) -> bool {
    module == room
        || module
            .strip_prefix(room)
            .is_some_and(|rest| rest.starts_with("::"))
}

fn is_pure(module: &str) -> bool {
    PURE.iter().any(|room| within(module, room))
        && !EDGES_OF_PURE.iter().any(|edge| within(module, edge))
}

/// The top room of a path inside the crate: a known room, or `lib` for an item of the root.
fn room_of(path: &[String]) -> &str {
    match path.first().map(String::as_str) {
        Some("server") => "server",
        Some(first) => ORDER
            .iter()
            .find(|room| **room == first)
            .copied()
            .unwrap_or("lib"),
        None => "lib",
    }
}

/// Everything a source does against the rules, one sentence each.
fn violations(source: &Source) -> Vec<String> {
    let module = source.module.join("::");
    let room = if source.module.is_empty() {
        "lib"
    } else {
        source.module[0].as_str()
    };
    let mut found = Vec::new();
    let rank = ORDER.iter().position(|known| *known == room);
    if rank.is_none() && room != "server" {
        found.push(format!(
            "{module}: the room `{room}` has no place in the import order; give it one in ORDER"
        ));
        return found;
    }
    for reference in references(source) {
        let shown = reference.path.join("::");
        if reference.inside_crate {
            let target = room_of(&reference.path);
            let target_rank = ORDER.iter().position(|known| *known == target);
            if room == "server" {
                if target != "server" && !within(&shown, SERVER_MAY_IMPORT) {
                    found.push(format!(
                        "{module} imports crate::{shown}: the server knows {SERVER_MAY_IMPORT} and nothing else of the crate"
                    ));
                }
            } else if target == "server" {
                if room != "lib" {
                    found.push(format!(
                        "{module} imports crate::{shown}: no room imports the server"
                    ));
                }
            } else if target_rank > rank {
                found.push(format!(
                    "{module} imports crate::{shown}: `{room}` stands left of `{target}` and a room imports only from its left ({})",
                    ORDER.join(" < ")
                ));
            }
            let plain_data = PLAIN_DATA.contains(&(room, target));
            if is_pure(&module) && !is_pure(&shown) && !plain_data && !reference.of_own_children {
                found.push(format!(
                    "{module} imports crate::{shown}: a pure room imports only pure rooms"
                ));
            }
        }
        if is_pure(&module)
            && let Some(why) = impurity(&reference.path, reference.inside_crate)
        {
            found.push(format!("{module} names {shown}: a pure room {why}"));
        }
    }
    found.sort();
    found.dedup();
    found
}

fn impurity(path: &[String], inside_crate: bool) -> Option<&'static str> {
    let first = path.first()?.as_str();
    if path.iter().any(|part| CLOCKS.contains(&part.as_str())) {
        return Some("reads no clock and no unseeded randomness: `now` and seeds are passed in");
    }
    if inside_crate {
        return None;
    }
    if first.starts_with("bevy") || IMPURE_CRATES.contains(&first) {
        return Some("imports no Bevy, no socket and no executor");
    }
    let second = path.get(1).map_or("", String::as_str);
    if first == "std" && IMPURE_STD.contains(&second) {
        return Some("does no I/O");
    }
    if first == "rand" && matches!(second, "rng" | "random") {
        return Some("reads no clock and no unseeded randomness: `now` and seeds are passed in");
    }
    None
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("the source folder is readable");
    for entry in entries {
        let path = entry.expect("the folder entry is readable").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

/// The library's sources; the binaries under `src/bin` stand outside the house, and files of
/// test modules are no part of it.
fn library() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    let all: Vec<Source> = files
        .iter()
        .filter_map(|file| {
            let inside = file.strip_prefix(&root).expect("found below the root");
            let text = fs::read_to_string(file).expect("sources are UTF-8");
            Source::of_file(inside, &text)
        })
        .collect();
    let tests: Vec<Vec<String>> = all.iter().flat_map(Source::test_modules).collect();
    all.into_iter()
        .filter(|source| !tests.iter().any(|test| source.module.starts_with(test)))
        .collect()
}

#[test]
fn every_room_imports_only_from_its_left() {
    let sources = library();
    assert!(
        sources.iter().any(|source| source.module.is_empty())
            && sources
                .iter()
                .any(|source| is_pure(&source.module.join("::"))),
        "the walk must find lib.rs and the pure rooms, or it proves nothing"
    );
    let found: Vec<String> = sources.iter().flat_map(violations).collect();
    assert!(
        found.is_empty(),
        "the arrow rule of the house is broken:\n  {}",
        found.join("\n  ")
    );
}

#[test]
fn every_pure_room_named_here_exists() {
    let modules: Vec<String> = library()
        .iter()
        .map(|source| source.module.join("::"))
        .collect();
    for room in PURE {
        assert!(
            modules.iter().any(|module| module == room),
            "`{room}` is listed as pure but src has no such module; a renamed room must stay guarded"
        );
    }
}

fn judge(file: &str, text: &str) -> Vec<String> {
    violations(&Source::of_file(Path::new(file), text).expect("a library file"))
}

#[track_caller]
fn refused(file: &str, text: &str, because: &str) {
    let found = judge(file, text);
    assert!(
        found.iter().any(|sentence| sentence.contains(because)),
        "{file}: {text:?} must be refused with {because:?}, found {found:?}"
    );
}

#[track_caller]
fn accepted(file: &str, text: &str) {
    let found = judge(file, text);
    assert!(
        found.is_empty(),
        "{file}: {text:?} is fine, found {found:?}"
    );
}

#[test]
fn an_import_from_the_right_is_refused() {
    refused(
        "transport.rs",
        "use crate::session::SessionPhase;",
        "from its left",
    );
    refused(
        "clock.rs",
        "fn f() { crate::metrics::fold() }",
        "from its left",
    );
    refused(
        "transport/socket.rs",
        "use super::super::rollback::Cause;",
        "from its left",
    );
    refused(
        "session.rs",
        "use crate::{clock::LabClock, metrics::{self, X}};",
        "from its left",
    );
    refused("metrics.rs", "use crate::LabConfig;", "from its left");
    refused(
        "session.rs",
        "mod inner { use super::super::record::EpisodeDocument; }",
        "from its left",
    );
    refused("rollback.rs", "use crate::*;", "from its left");
}

#[test]
fn an_import_from_the_left_is_fine() {
    accepted(
        "session.rs",
        "use crate::{clock::LabClock, transport::wire::{Hello, Path as Route}};",
    );
    accepted(
        "record/build.rs",
        "use crate::metrics::SessionMetrics; use super::EpisodeDocument;",
    );
    accepted(
        "rollback.rs",
        "pub(crate) fn f() {} pub(in crate::rollback) struct S; mod trace;",
    );
    accepted(
        "lib.rs",
        "pub use crate::server::Server; pub use crate::record::check;",
    );
}

#[test]
fn comments_strings_and_test_modules_do_not_count() {
    accepted(
        "clock.rs",
        "// use crate::record::X;\n/* crate::record /* nested */ crate::metrics */",
    );
    accepted(
        "clock.rs",
        "/// See [`crate::record`].\nconst A: &str = \"crate::record::X\";",
    );
    accepted(
        "clock.rs",
        "const A: &str = r#\"\"crate::record::X\"#; const C: char = '\"';",
    );
    accepted(
        "clock.rs",
        "#[cfg(test)]\nmod tests { use crate::record::X; fn f() { {} } }",
    );
    refused(
        "clock.rs",
        "#[cfg(test)] mod tests { fn f() {} } use crate::record::X;",
        "from its left",
    );
    refused(
        "clock.rs",
        "fn f<'a>(x: &'a str) { crate::record::x(x, '\\'') }",
        "from its left",
    );
}

#[test]
fn the_server_knows_the_wire_alone() {
    accepted(
        "server/relay.rs",
        "use crate::transport::wire::relay::Roster; use crate::server::Room;",
    );
    refused(
        "server.rs",
        "use crate::transport::link::Link;",
        "nothing else of the crate",
    );
    refused(
        "server.rs",
        "use crate::clock::LabClock;",
        "nothing else of the crate",
    );
    refused(
        "server.rs",
        "use crate::rollback::Cause;",
        "nothing else of the crate",
    );
    refused(
        "session.rs",
        "use crate::server::Server;",
        "no room imports the server",
    );
}

#[test]
fn a_pure_room_names_no_bevy_no_clock_and_no_disk() {
    accepted(
        "transport/wire.rs",
        "use std::time::Duration; use ggrs::Frame; mod relay;",
    );
    refused("transport/wire.rs", "use bevy::prelude::*;", "no Bevy");
    refused(
        "rollback/trace.rs",
        "fn f() -> bevy_ggrs::Frame { 0 }",
        "no Bevy",
    );
    refused(
        "transport/route.rs",
        "use std::time::{Duration, Instant};",
        "no clock",
    );
    refused(
        "transport/link.rs",
        "fn f() { let _ = SystemTime::now(); }",
        "no clock",
    );
    refused(
        "transport/health.rs",
        "use crate::clock::LabClock;",
        "only pure rooms",
    );
    refused("transport/conditions.rs", "use rand::rng;", "unseeded");
    refused(
        "record/check.rs",
        "fn f() { std::fs::read(\"x\"); }",
        "no I/O",
    );
    refused(
        "transport/wire/relay.rs",
        "use std::{fmt, net::IpAddr};",
        "no I/O",
    );
    refused(
        "transport/route.rs",
        "use super::websocket::Task;",
        "only pure rooms",
    );
    refused(
        "rollback/cause.rs",
        "use super::RollbackCompleted;",
        "only pure rooms",
    );
    accepted(
        "record/session.rs",
        "use crate::metrics::Consent; use crate::rollback::cause::Cause;",
    );
    accepted(
        "record/sink.rs",
        "use std::fs::File; use std::time::Instant;",
    );
    accepted(
        "transport/websocket.rs",
        "use std::net::TcpStream; use crate::clock::LabClock;",
    );
}

#[test]
fn a_room_without_a_place_in_the_order_is_refused() {
    refused("helpers.rs", "", "no place in the import order");
}
