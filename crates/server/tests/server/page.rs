//! A server with a page serves its files beside the rooms, and no other file.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use crate::support::{Client, run};
use rollback_lab_server::{LabServer, ServerError, ServerSettings};

/// A folder that is removed at the end of its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("page-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("site/pkg")).expect("the temporary folder is writable");
        fs::write(folder.join("secret.txt"), "secret").expect("it is writable");
        let file = |name: &str, text: &[u8]| {
            fs::write(folder.join("site").join(name), text).expect("it is writable");
        };
        file("index.html", b"<title>lab</title>");
        file("pkg/game.wasm", b"\0asm plain");
        file("pkg/game.wasm.gz", b"gzipped");
        file("pkg/game.wasm.br", b"brotlied");
        file("alone.gz", b"an archive of its own");
        Self(folder)
    }

    fn server(&self) -> LabServer {
        LabServer::start(ServerSettings {
            page: Some(self.0.join("site")),
            ..ServerSettings::loopback()
        })
        .expect("the page can be read")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Head and body of the answer to a request that is sent verbatim.
fn ask(server: &LabServer, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.local_addr()).expect("it listens");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n{headers}\r\n"
    )
    .expect("the request fits");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a head");
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head is text");
    (head.to_ascii_lowercase(), answer[end + 4..].to_vec())
}

fn get(server: &LabServer, path: &str, headers: &str) -> (String, Vec<u8>) {
    ask(server, "GET", path, headers)
}

#[test]
fn files_are_served_with_their_types_and_in_the_encoding_that_is_accepted() {
    let folder = Folder::new("types");
    let server = folder.server();
    let (head, body) = get(&server, "/", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/html"), "{head}");
    assert_eq!(body, b"<title>lab</title>");

    for (accepted, encoding, content) in [
        ("", None, &b"\0asm plain"[..]),
        (
            "Accept-Encoding: gzip, deflate\r\n",
            Some("gzip"),
            b"gzipped",
        ),
        (
            "Accept-Encoding: gzip, deflate, br\r\n",
            Some("br"),
            b"brotlied",
        ),
        ("Accept-Encoding: br;q=0\r\n", None, b"\0asm plain"),
    ] {
        let (head, body) = get(&server, "/pkg/game.wasm", accepted);
        assert!(head.contains("content-type: application/wasm"), "{head}");
        assert!(head.contains("vary: accept-encoding"), "{head}");
        let served = head
            .lines()
            .find_map(|line| line.strip_prefix("content-encoding: "));
        assert_eq!(served, encoding, "{accepted}");
        assert_eq!(body, content, "{accepted}");
    }
    let (_, body) = get(&server, "/alone.gz", "");
    assert_eq!(
        body, b"an archive of its own",
        "it is not a variant of another file"
    );
}

#[test]
fn files_outside_the_page_cannot_be_reached() {
    let folder = Folder::new("paths");
    let server = folder.server();
    for path in [
        "/../secret.txt",
        "/pkg/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//etc/passwd",
        "/pkg/game.wasm.br",
        "/pkg/",
        "/nothing",
    ] {
        let (head, body) = get(&server, path, "");
        assert!(head.starts_with("http/1.1 404"), "{path}: {head}");
        assert!(!body.windows(6).any(|part| part == b"secret"), "{path}");
    }
    let (head, _) = ask(&server, "POST", "/", "Content-Length: 0\r\n");
    assert!(head.starts_with("http/1.1 405"), "{head}");
    let (head, body) = ask(&server, "HEAD", "/", "");
    assert!(head.contains("content-length: 18"), "{head}");
    assert!(body.is_empty(), "a head has no body");
}

#[test]
fn an_unchanged_file_is_not_sent_again() {
    let folder = Folder::new("tags");
    let server = folder.server();
    let (head, _) = get(&server, "/pkg/game.wasm", "");
    let tag = head
        .lines()
        .find_map(|line| line.strip_prefix("etag: "))
        .expect("a file has a tag")
        .to_owned();
    let (head, body) = get(
        &server,
        "/pkg/game.wasm",
        &format!("If-None-Match: {tag}\r\n"),
    );
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert!(body.is_empty());
}

#[test]
fn rooms_and_health_keep_their_paths_beside_a_page() {
    let folder = Folder::new("rooms");
    let server = folder.server();
    let (head, body) = get(&server, "/healthz", "");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, b"ok\n");
    run(async {
        let (_client, _id, roster) = Client::join(&server, "index.html?players=2").await;
        assert_eq!(
            roster.capacity, 2,
            "a websocket request names a room, even where a file has its name"
        );
    });
}

#[test]
fn a_folder_without_an_index_is_refused_before_the_start() {
    let folder = Folder::new("none");
    let empty = folder.0.join("site/pkg");
    let started = LabServer::start(ServerSettings {
        page: Some(empty.clone()),
        ..ServerSettings::loopback()
    });
    let error = started.expect_err("there is no index.html");
    assert!(matches!(error, ServerError::Page { .. }));
    let text = error.to_string();
    assert!(
        text.contains("index.html") && text.contains(&empty.display().to_string()),
        "{text}"
    );
}
