//! Serves a page with one of its files broken, as networks, proxies and bad uploads break files.
//!
//! By hand because the fault is what it is for: HTTP servers take care that an answer is whole.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What is wrong with a file.
#[derive(Clone)]
pub(super) enum Fault {
    /// The answer is 404.
    Missing,
    /// The connection is closed in the middle of the file.
    CutShort,
    /// Nothing comes after the middle of the file, and the connection stays open.
    Stalls,
    /// The whole content and its type are others.
    Replaced {
        content_type: &'static str,
        content: String,
    },
}

/// A server for one page; ended with this value.
pub(super) struct FaultyServer {
    /// Where the page is.
    pub url: String,
    address: SocketAddr,
    files: Arc<Files>,
}

struct Files {
    folder: PathBuf,
    broken: &'static str,
    fault: Fault,
    ended: AtomicBool,
    /// Connections that stay open without an answer.
    stalled: Mutex<Vec<TcpStream>>,
}

impl FaultyServer {
    /// Serves `folder` on a port of loopback that the system chose; `broken` is a file below it.
    pub(super) fn start(folder: &Path, broken: &'static str, fault: Fault) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("the faulty server does not start: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let files = Arc::new(Files {
            folder: folder.to_owned(),
            broken,
            fault,
            ended: AtomicBool::new(false),
            stalled: Mutex::default(),
        });
        let served = Arc::clone(&files);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if served.ended.load(Ordering::Relaxed) {
                    return;
                }
                let served = Arc::clone(&served);
                // A browser that closes its connection early does not want the rest.
                thread::spawn(move || served.answer(stream).ok());
            }
        });
        Ok(Self {
            url: format!("http://{address}/"),
            address,
            files,
        })
    }
}

impl Drop for FaultyServer {
    fn drop(&mut self) {
        self.files.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; if that fails, it has ended already.
        let _ = TcpStream::connect(self.address);
    }
}

impl Files {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let name = requested(&stream)?;
        let plain = (!name.contains("..")).then(|| fs::read(self.folder.join(&name)));
        let fault = (name == self.broken).then_some(&self.fault);
        let (content_type, content) = match (fault, plain) {
            (
                Some(Fault::Replaced {
                    content_type,
                    content,
                }),
                _,
            ) => (*content_type, content.clone().into_bytes()),
            (Some(Fault::Missing), _) | (_, None | Some(Err(_))) => {
                return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
            }
            (_, Some(Ok(content))) => (content_type(&name), content),
        };
        let sent = match fault {
            Some(Fault::CutShort | Fault::Stalls) => &content[..content.len() / 2],
            _ => &content[..],
        };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            content.len()
        )?;
        stream.write_all(sent)?;
        if matches!(fault, Some(Fault::Stalls)) {
            let mut stalled = self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
            stalled.push(stream);
        }
        Ok(())
    }
}

/// The file that a request asks for; the rest of its head is read and dropped.
fn requested(stream: &TcpStream) -> std::io::Result<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let path = first.split(' ').nth(1).unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let name = path.trim_start_matches('/');
    Ok(match name {
        "" => String::from("index.html"),
        name => name.to_owned(),
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    }
}
