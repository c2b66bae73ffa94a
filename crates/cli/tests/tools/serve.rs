//! `rollback-lab serve`, run as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

fn rollback_lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollback-lab"));
    command
        .env_remove("ROLLBACK_LAB_SECRET")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A process that is killed at the end of its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn serve_prints_its_address_and_stops_at_a_signal() {
    let child = rollback_lab(&["serve", "--bind", "127.0.0.1:0"]).spawn();
    let mut running = Running(child.expect("the binary runs"));
    let mut lines = BufReader::new(running.0.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let address = first
        .strip_prefix("listening at ws://")
        .unwrap_or_else(|| panic!("{first}"));
    let second = lines.next().expect("a line").expect("text");
    assert_eq!(second, "nothing is stored");

    let mut stream = TcpStream::connect(address).expect("it listens there");
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
    )
    .expect("the request fits");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let id = running.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status();
    assert!(sent.expect("kill runs").success());
    let status = running.0.wait().expect("it ends");
    assert!(
        status.success(),
        "an end by a signal is a success: {status}"
    );
}

/// What `serve` with these arguments prints before it serves.
fn first_lines(command: &mut Command, count: usize) -> Vec<String> {
    let mut running = Running(command.spawn().expect("the binary runs"));
    // The pipe stays open: the server prints more.
    let mut output = BufReader::new(running.0.stdout.take().expect("piped")).lines();
    let lines: Vec<_> = output
        .by_ref()
        .take(count)
        .map(|line| line.expect("text"))
        .collect();
    let id = running.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status();
    assert!(sent.expect("kill runs").success());
    assert!(running.0.wait().expect("it ends").success());
    lines
}

#[test]
fn serve_creates_its_secret_file_once_and_prints_no_secret() {
    let folder = std::env::temp_dir().join(format!("rollback-lab-serve-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a scratch folder");
    let path = folder.join("secret");
    let path_text = path.to_str().expect("text");
    let arguments = ["serve", "--bind", "127.0.0.1:0", "--secret", path_text];
    let first = first_lines(&mut rollback_lab(&arguments), 2);
    let secret = std::fs::read_to_string(&path).expect("it was created");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().expect("it is there"));
        assert_eq!(mode & 0o777, 0o600);
    }
    let second = first_lines(&mut rollback_lab(&arguments), 2);
    assert_eq!(std::fs::read_to_string(&path).expect("still"), secret);
    for lines in [first, second] {
        assert_eq!(lines[1], "nothing is stored");
        assert!(!lines.concat().contains(secret.trim()), "{lines:?}");
    }
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn serve_says_that_a_restart_ends_resumption_unless_it_has_a_secret() {
    let arguments = ["serve", "--bind", "127.0.0.1:0"];
    let without = first_lines(&mut rollback_lab(&arguments), 3);
    assert!(
        without[2].starts_with("a restart ends resumption: there is neither --secret FILE"),
        "{without:?}"
    );
    let mut short = rollback_lab(&arguments);
    let output = short.env("ROLLBACK_LAB_SECRET", "hunter2").output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        text.contains("ROLLBACK_LAB_SECRET: secret has 7 bytes") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn serve_refuses_a_public_address_with_the_reason_and_the_way_out() {
    let output = rollback_lab(&["serve", "--bind", "0.0.0.0:0"]).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        text.starts_with("rollback-lab: cannot listen at 0.0.0.0:0: there is no admission yet"),
        "{text}"
    );
    assert!(text.contains("--allow-public"), "{text}");
}

#[test]
fn an_unknown_option_is_named() {
    let output = rollback_lab(&["serve", "--bnid", "127.0.0.1:0"]).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(
        text.contains("'--bnid'") && text.contains("--bind"),
        "{text}"
    );
}
