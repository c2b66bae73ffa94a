//! Owns `cargo xtask demo`: the page of `examples/volley`, built for browsers, compressed, and
//! served with signaling and relay on one port. It never changes what the page does.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::graph::locked_version;
use crate::process::{cargo, output_of, program, root, run, shown, target_folder, works};
use crate::wasm;

const EXAMPLE: &str = "volley";
const DEFAULT_PORT: u16 = 8080;

/// The line of `index.html` that the size of the program goes into.
const SIZE_LINE: &str = "const WASM_BYTES = 0;";

/// Compressed beside themselves; pictures are compressed already.
const COMPRESSIBLE: [&str; 5] = ["wasm", "js", "html", "json", "ts"];

struct Options {
    bind: IpAddr,
    port: u16,
    build_only: bool,
}

/// Builds the page and serves it until Ctrl-C.
pub fn demo(arguments: &[String]) -> Result<(), String> {
    let options = parse(arguments)?;
    let page = build()?;
    build_native("server")?;
    if options.build_only {
        println!("the page is in {}", page.display());
        return Ok(());
    }
    let mut server = PageServer::start(&page, options.bind, options.port)?;
    println!("\nopen this in two tabs, or on two machines:\n");
    for link in links(&server.url, options.bind) {
        println!("    {link}");
    }
    println!("\n`?bot=1` lets a bot play a side. Ctrl-C ends it.");
    server.wait()
}

/// The server, and a native peer for whoever wants one. With an example among the targets cargo
/// resolves the same features as for the tests, so nothing is compiled twice.
pub fn build_native(features: &str) -> Result<(), String> {
    run(&mut cargo(&format!(
        "build --locked --release --features {features} --bin rollback-lab --example headless_duel --example replay"
    )))
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options {
        bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: DEFAULT_PORT,
        build_only: false,
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
            _ => {
                return Err(format!(
                    "unknown option `{argument}`; `demo` knows --port N, --bind ADDR and --build-only"
                ));
            }
        }
    }
    Ok(options)
}

/// Builds the page into `target/demo` and tells where that is.
pub fn build() -> Result<PathBuf, String> {
    let target = target_folder()?;
    let wasm = build_wasm(&target)?;
    let page = target.join("demo");
    if page.exists() {
        fs::remove_dir_all(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    }
    let bindgen = wasm_bindgen(&target)?;
    let mut command = program(&bindgen.to_string_lossy());
    command
        .args(["--target", "web", "--no-typescript"])
        .args(["--remove-name-section", "--remove-producers-section"])
        .args(["--out-name", EXAMPLE, "--out-dir"])
        .arg(page.join("pkg"))
        .arg(&wasm);
    run(&mut command)?;
    copy_page(&page)?;
    compress_all(&page)?;
    Ok(page)
}

fn build_wasm(target: &Path) -> Result<PathBuf, String> {
    // A folder of its own: the page's profile shares nothing with any other build.
    let folder = target.join("page");
    let arguments = format!(
        "build --locked --example {EXAMPLE} --features demo --profile page --target {}",
        wasm::TARGET
    );
    let mut command = wasm::cargo_for(&arguments)?;
    run(command.arg("--target-dir").arg(&folder))?;
    Ok(folder
        .join(wasm::TARGET)
        .join("page/examples")
        .join(format!("{EXAMPLE}.wasm")))
}

/// The tool must be of the library's very version. One that lies on the path is used where it is;
/// else it is installed below the target folder, which needs no root and leaves nothing behind.
fn wasm_bindgen(target: &Path) -> Result<PathBuf, String> {
    let lock = fs::read_to_string(root().join("Cargo.lock"))
        .map_err(|error| format!("Cargo.lock: {error}"))?;
    let version =
        locked_version(&lock, "wasm-bindgen").ok_or("Cargo.lock names no wasm-bindgen")?;
    let fits = |tool: &Path| {
        let told = output_of(program(&tool.to_string_lossy()).arg("--version"));
        told.is_ok_and(|told| told.split_whitespace().nth(1) == Some(version))
    };
    let on_path = PathBuf::from("wasm-bindgen");
    if fits(&on_path) {
        return Ok(on_path);
    }
    let folder = target.join("tools").join(format!("wasm-bindgen-{version}"));
    let tool = folder.join("bin/wasm-bindgen");
    if !fits(&tool) {
        // Without --locked: its own lock file names crates that are yanked by now.
        let mut command = cargo(&format!(
            "install wasm-bindgen-cli --version ={version} --root"
        ));
        command
            .arg(&folder)
            .arg("--target-dir")
            .arg(target.join("tools/build"));
        run(&mut command)?;
    }
    Ok(tool)
}

/// The page's own files, with the size of the program filled in.
fn copy_page(page: &Path) -> Result<(), String> {
    let source = root().join("assets/page");
    let program = page.join(format!("pkg/{EXAMPLE}_bg.wasm"));
    let bytes = fs::metadata(&program)
        .map_err(|error| format!("{}: {error}", program.display()))?
        .len();
    let entries = fs::read_dir(&source).map_err(|error| format!("assets/page: {error}"))?;
    for entry in entries {
        let path = entry
            .map_err(|error| format!("assets/page: {error}"))?
            .path();
        let Some(name) = path.file_name() else {
            continue;
        };
        let mut content =
            fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if name == "index.html" {
            let text = String::from_utf8_lossy(&content);
            if !text.contains(SIZE_LINE) {
                return Err(format!("index.html has no line `{SIZE_LINE}`"));
            }
            let filled = SIZE_LINE.replace('0', &bytes.to_string());
            content = text.replace(SIZE_LINE, &filled).into_bytes();
        }
        fs::write(page.join(name), content).map_err(|error| format!("{name:?}: {error}"))?;
    }
    Ok(())
}

/// One way to compress: the ending, and the command that writes to stdout what it reads from a file.
struct Compressor {
    ending: &'static str,
    command: fn(&Path) -> Command,
}

fn compress_all(page: &Path) -> Result<(), String> {
    let compressors = compressors();
    for folder in [page.to_owned(), page.join("pkg")] {
        let entries =
            fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|error| error.to_string())?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            if !ending.is_some_and(|ending| COMPRESSIBLE.contains(&ending)) {
                continue;
            }
            let size = |path: &Path| fs::metadata(path).map_or(0, |of| of.len());
            let mut line = format!(
                "{:<22} {:>9} bytes",
                path.file_name().unwrap_or_default().to_string_lossy(),
                size(&path)
            );
            for Compressor { ending, command } in &compressors {
                let packed = PathBuf::from(format!("{}.{ending}", path.display()));
                let file = fs::File::create(&packed).map_err(|error| error.to_string())?;
                let mut command = command(&path);
                let done = command.stdout(file).status();
                if !done.is_ok_and(|status| status.success()) {
                    return Err(format!("`{}` failed", shown(&command)));
                }
                line.push_str(&format!(", {ending} {:>8}", size(&packed)));
            }
            println!("{line}");
        }
    }
    Ok(())
}

/// Brotli is a quarter smaller, and browsers take it over TLS and from this machine alone; gzip
/// they take from everywhere.
fn compressors() -> Vec<Compressor> {
    let mut found = Vec::new();
    if works(program("gzip").arg("--version")) {
        found.push(Compressor {
            ending: "gz",
            command: |path| {
                let mut command = program("gzip");
                command.args(["-9", "-n", "-c"]).arg(path);
                command
            },
        });
    } else {
        println!("there is no gzip: the page is served as it is");
    }
    if works(program("brotli").arg("--version")) {
        found.push(Compressor {
            ending: "br",
            command: |path| {
                let mut command = program("brotli");
                command.args(["-q", "9", "-w", "24", "-c"]).arg(path);
                command
            },
        });
    } else if works(program("node").arg("--version")) {
        found.push(Compressor {
            ending: "br",
            command: |path| {
                let mut command = program("node");
                command.args(["-e", NODE_BROTLI]).arg(path);
                command
            },
        });
    } else {
        println!("there is neither brotli nor node: the page is served without brotli");
    }
    found
}

const NODE_BROTLI: &str = "\
const zlib = require('zlib'), fs = require('fs'), c = zlib.constants;
fs.writeSync(1, zlib.brotliCompressSync(fs.readFileSync(process.argv[1]), { params: {
  [c.BROTLI_PARAM_QUALITY]: 9, [c.BROTLI_PARAM_LGWIN]: 24 } }));";

/// `rollback-lab serve` with the page; ended with this value.
pub struct PageServer {
    process: Child,
    /// Held open: the server says its last words into it.
    output: Option<BufReader<ChildStdout>>,
    /// Where the page is.
    pub url: String,
}

impl PageServer {
    /// Returns once it listens.
    pub fn start(page: &Path, bind: IpAddr, port: u16) -> Result<Self, String> {
        let name = target_folder()?.join("release/rollback-lab");
        let mut command = program(&name.to_string_lossy());
        let address = std::net::SocketAddr::from((bind, port));
        command
            .args(["serve", "--bind", &address.to_string(), "--page"])
            .arg(page);
        if !bind.is_loopback() {
            println!("whoever reaches {bind} can join any room: there is no admission yet");
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
                .map_err(|error| format!("the server says nothing: {error}"))?;
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
        let other = options("--port 9000 --bind=0.0.0.0 --build-only").unwrap();
        assert_eq!((other.port, other.build_only), (9000, true));
        assert!(other.bind.is_unspecified());
        let error = |text: &str| options(text).err().unwrap();
        assert!(error("--prot 1").contains("unknown option `--prot`"));
        assert!(error("--port").contains("wants a value"));
        assert!(error("--bind here").contains("no IP address"));
    }

    #[test]
    fn an_unspecified_address_is_told_as_one_that_can_be_opened() {
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

    #[test]
    fn the_page_has_the_line_that_its_size_goes_into() {
        let text = fs::read_to_string(root().join("assets/page/index.html")).unwrap();
        assert!(text.contains(SIZE_LINE));
    }
}
