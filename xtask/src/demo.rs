//! `cargo xtask demo`: the page of `examples/volley`, built for browsers, compressed, and served
//! with signaling and relay on one port.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use crate::process::{cargo, program, run, shown, target_folder};

mod page;

use page::{Build, FAST, RELEASE, build};
pub(crate) use page::{built, built_beside, prepare};

const DEFAULT_PORT: u16 = 8080;

struct Options {
    bind: IpAddr,
    port: u16,
    build_only: bool,
    build: Build,
}

/// Builds the page and serves it until Ctrl-C.
pub(crate) fn demo(arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments)?;
    let page = build(&options.build)?;
    println!("the page is in {}", page.display());
    if options.build_only {
        return Ok(());
    }
    // The command line alone: it links no Bevy.
    run(&mut cargo(
        "build --locked --release --package rollback-lab",
    ))?;
    let programs = target_folder()?.join("release");
    let mut server = PageServer::start(&programs, &page, options.bind, options.port)?;
    println!("\nopen this in two tabs, or on two machines:\n");
    for link in links(&server.url, options.bind) {
        println!("    {link}");
    }
    println!("\n`?bot=1` lets a bot play a side. Ctrl-C ends it.");
    server.wait()
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: DEFAULT_PORT,
        build_only: false,
        build: FAST,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let (name, joined) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let mut value = || {
            let value = joined.clone().or_else(|| rest.next().cloned());
            value.ok_or(format!("{name} wants a value"))
        };
        match name {
            "--port" => {
                let text = value()?;
                options.port = text.parse().map_err(|_| format!("{text} is no port"))?;
            }
            "--bind" => {
                let text = value()?;
                options.bind = text
                    .parse()
                    .map_err(|_| format!("{text} is no IP address"))?;
            }
            "--build-only" => options.build_only = true,
            "--release" => options.build = RELEASE,
            _ => {
                return Err(format!(
                    "unknown option `{argument}`; `demo` knows --port N, --bind ADDR, --release and \
                     --build-only"
                ));
            }
        }
    }
    Ok(options)
}

/// `rollback-lab serve` with the page; ended with this value.
pub(crate) struct PageServer {
    process: Child,
    /// Held open: the server writes to it when it ends.
    output: Option<BufReader<ChildStdout>>,
    /// Where the page is.
    pub url: String,
}

impl PageServer {
    /// Starts the server in the folder `programs`; returns once it listens.
    pub(crate) fn start(
        programs: &Path,
        page: &Path,
        bind: IpAddr,
        port: u16,
    ) -> Result<Self, String> {
        let name = programs.join("rollback-lab");
        let mut command = program(&name.to_string_lossy());
        let address = std::net::SocketAddr::from((bind, port));
        command
            .args(["serve", "--bind", &address.to_string(), "--page"])
            .arg(page);
        if !bind.is_loopback() {
            println!(
                "every machine that reaches {bind} can join any room: there is no admission yet"
            );
            command.arg("--allow-public");
        }
        println!("$ {}", shown(&command));
        let process = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the server does not start: {error}"))?;
        let mut server = Self {
            process,
            output: None,
            url: String::new(),
        };
        let stdout = server.process.stdout.take().ok_or("it has no output")?;
        let output = server.output.insert(BufReader::new(stdout));
        loop {
            let mut line = String::new();
            let read = output
                .read_line(&mut line)
                .map_err(|error| format!("the server's output ended: {error}"))?;
            if read == 0 {
                return Err(String::from("the server ended before it served the page"));
            }
            if let Some(url) = line.trim_end().strip_prefix("the page is at ") {
                server.url = url.to_owned();
                return Ok(server);
            }
        }
    }

    fn wait(&mut self) -> Result<(), String> {
        let status = self.process.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the server ended with {status}"))
        }
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The links under which the page can be reached: an unspecified address means every one of this
/// machine's.
fn links(url: &str, bind: IpAddr) -> Vec<String> {
    if !bind.is_unspecified() {
        return vec![url.to_owned()];
    }
    let port = url
        .trim_end_matches('/')
        .rsplit(':')
        .next()
        .unwrap_or_default();
    [Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), outward_address()]
        .into_iter()
        .flatten()
        .map(|address| format!("http://{address}:{port}/"))
        .collect()
}

/// The address from which this machine would reach others. Connecting a UDP socket sends nothing;
/// the address is of a block kept for documentation (RFC 5737).
fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options, String> {
        let words: Vec<String> = text.split_whitespace().map(String::from).collect();
        parse(&words)
    }

    #[test]
    fn options_are_read_and_unknown_ones_are_refused_by_name() {
        let plain = options("").unwrap();
        assert_eq!((plain.port, plain.bind.is_loopback()), (8080, true));
        let other = options("--port 9000 --bind=0.0.0.0 --build-only --release").unwrap();
        assert_eq!((other.port, other.build_only), (9000, true));
        assert_eq!((plain.build, other.build), (FAST, RELEASE));
        assert!(other.bind.is_unspecified());
        let error = |text: &str| options(text).err().unwrap();
        assert!(error("--prot 1").contains("unknown option `--prot`"));
        assert!(error("--port").contains("wants a value"));
        assert!(error("--bind here").contains("no IP address"));
    }

    #[test]
    fn an_unspecified_address_is_shown_as_one_that_can_be_opened() {
        let bind = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let links = links("http://0.0.0.0:8080/", bind);
        assert_eq!(links[0], "http://127.0.0.1:8080/");
        assert!(links.iter().all(|link| !link.contains("0.0.0.0")));
        let one = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(
            super::links("http://127.0.0.1:1/", one),
            ["http://127.0.0.1:1/"]
        );
    }
}
