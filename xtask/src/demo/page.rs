//! Builds the page of `examples/volley`: the program for browsers, the page's files, and both
//! compressed.
//!
//! By hand because the bundlers for wasm (trunk, wasm-pack) bring their own downloads and lay the
//! page out their way; what is left is two commands and the page's files. Compression is left to
//! the system's programs: the crates need minutes for the page in an unoptimized build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use crate::graph::locked_version;
use crate::process::{
    cargo, empty_folder, logged, output_of, program, root, run, shown, target_folder, works,
};
use crate::wasm;

/// The package and its binary.
const GAME: &str = "volley";
/// Its features on a page: without `screenshot`, which brings PNG.
const FEATURES: &str = "--no-default-features --features screen";
/// The page's own files.
const PAGE: &str = "examples/volley/page";
/// The line of `index.html` that the size of the program goes into.
const SIZE_LINE: &str = "const WASM_BYTES = 0;";

/// Compressed beside themselves; images are compressed already.
const COMPRESSIBLE: [&str; 5] = ["wasm", "js", "html", "json", "ts"];

/// How the page is built.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Build {
    profile: &'static str,
    /// Folder below the target folder.
    folder: &'static str,
    /// Levels of gzip and brotli.
    gzip: &'static str,
    brotli: &'static str,
    /// Whether wasm-opt makes it smaller, where there is one.
    optimize: bool,
    /// Whether the texts of panics name files of the dependencies without the folders of this
    /// machine. Such a build shares nothing with one that names them.
    remap: bool,
}

/// Built quickly, for CI and for a local network.
pub(crate) const FAST: Build = Build {
    profile: "page",
    folder: "demo",
    gzip: "-6",
    brotli: "5",
    optimize: false,
    remap: false,
};

/// As small as it gets, for participants' lines.
pub(crate) const RELEASE: Build = Build {
    profile: "page-release",
    folder: "demo-release",
    gzip: "-9",
    brotli: "11",
    optimize: true,
    remap: true,
};

/// The page of the fast build, built once per run.
pub(crate) fn built() -> Result<PathBuf, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build(&FAST)).clone()
}

/// As [`built`], beside another build: the output goes to a file.
pub(crate) fn built_beside() -> Result<PathBuf, String> {
    let log = target_folder()?.join("xtask/page.log");
    println!(
        "the page is built beside it; its output goes to {}",
        log.display()
    );
    let from = Instant::now();
    let page = logged(&log, built);
    let took = from.elapsed().as_secs_f64();
    match &page {
        Ok(_) => println!("-- the page: done in {took:.1} s"),
        Err(_) => println!("{}", fs::read_to_string(&log).unwrap_or_default()),
    }
    page
}

/// Installs what a build of the page needs beside cargo.
pub(crate) fn prepare() -> Result<(), String> {
    wasm_bindgen(&target_folder()?).map(drop)
}

/// Builds the page and returns its folder.
pub(crate) fn build(how: &Build) -> Result<PathBuf, String> {
    let target = target_folder()?;
    let wasm = build_wasm(&target, how)?;
    let page = target.join(how.folder);
    empty_folder(&page)?;
    let bindgen = wasm_bindgen(&target)?;
    let mut command = program(&bindgen.to_string_lossy());
    command
        .args(["--target", "web", "--no-typescript"])
        .args(["--remove-name-section", "--remove-producers-section"])
        .args(["--out-name", GAME, "--out-dir"])
        .arg(page.join("pkg"))
        .arg(&wasm);
    run(&mut command)?;
    if how.optimize {
        optimize(&page.join(format!("pkg/{GAME}_bg.wasm")))?;
    }
    copy_page(&page)?;
    compress_all(&page, how)?;
    Ok(page)
}

fn build_wasm(target: &Path, how: &Build) -> Result<PathBuf, String> {
    // A folder of its own: the page's profile shares nothing with any other build, and cargo does
    // not wait for the native one.
    let folder = target.join("page");
    let arguments = format!(
        "build --locked --package {GAME} --bin {GAME} {FEATURES} --profile {} --target {}",
        how.profile,
        wasm::TARGET
    );
    let mut command = wasm::cargo_for(&arguments)?;
    if how.remap {
        command.env("CARGO_ENCODED_RUSTFLAGS", remapped_paths()?);
    }
    run(command.arg("--target-dir").arg(&folder))?;
    Ok(folder
        .join(wasm::TARGET)
        .join(how.profile)
        .join(format!("{GAME}.wasm")))
}

/// Options of the compiler, as cargo reads them from its environment: sources from registries are named
/// from their package's folder on.
fn remapped_paths() -> Result<String, String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let sources = home.ok_or("there is no home folder")?.join("registry/src");
    let failed = |error: std::io::Error| format!("{}: {error}", sources.display());
    let mut options = Vec::new();
    for registry in fs::read_dir(&sources).map_err(failed)? {
        let registry = registry.map_err(failed)?.path();
        options.push(format!("--remap-path-prefix={}=", registry.display()));
    }
    options.sort();
    Ok(options.join("\x1f"))
}

/// Older ones make modules of today's compiler invalid (Debian's 108 does).
const WASM_OPT: u32 = 116;

/// What rustc's wasm32 target uses beyond the first version of WebAssembly; wasm-bindgen removes
/// the section that would say so.
const WASM_FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Makes the program smaller in its place, where there is a wasm-opt that is young enough.
fn optimize(wasm: &Path) -> Result<(), String> {
    let version = output_of(program("wasm-opt").arg("--version")).ok();
    if version.as_deref().and_then(wasm_opt_version) < Some(WASM_OPT) {
        println!("there is no wasm-opt of version {WASM_OPT} or later: the program stays as it is");
        return Ok(());
    }
    let smaller = wasm.with_extension("optimized");
    let mut command = program("wasm-opt");
    command
        .arg("-Oz")
        .args(WASM_FEATURES)
        .arg("--output")
        .arg(&smaller)
        .arg(wasm);
    run(&mut command)?;
    fs::rename(&smaller, wasm).map_err(|error| format!("{}: {error}", wasm.display()))
}

/// 116 of `wasm-opt version 116 (...)`.
fn wasm_opt_version(text: &str) -> Option<u32> {
    text.split_whitespace().nth(2)?.parse().ok()
}

/// The tool must be of the library's very version. One on the path is used where it is; else it is
/// installed below the target folder, which needs no root and leaves nothing behind.
fn wasm_bindgen(target: &Path) -> Result<PathBuf, String> {
    static INSTALL: Mutex<()> = Mutex::new(());
    let _one = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
    let lock = fs::read_to_string(root().join("Cargo.lock"))
        .map_err(|error| format!("Cargo.lock: {error}"))?;
    let version =
        locked_version(&lock, "wasm-bindgen").ok_or("Cargo.lock names no wasm-bindgen")?;
    let fits = |tool: &Path| {
        let answer = output_of(program(&tool.to_string_lossy()).arg("--version"));
        answer.is_ok_and(|answer| answer.split_whitespace().nth(1) == Some(version))
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
            .arg(target.join("tools/build"))
            // It runs for seconds; optimizing it fully takes longer than that.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        run(&mut command)?;
    }
    Ok(tool)
}

/// The page's own files, with the size of the program filled in.
fn copy_page(page: &Path) -> Result<(), String> {
    let source = root().join(PAGE);
    let program = page.join(format!("pkg/{GAME}_bg.wasm"));
    let bytes = fs::metadata(&program)
        .map_err(|error| format!("{}: {error}", program.display()))?
        .len();
    let entries = fs::read_dir(&source).map_err(|error| format!("{PAGE}: {error}"))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{PAGE}: {error}"))?.path();
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

/// One way to compress: the ending, and the command that writes to stdout what it reads from the
/// file that is appended.
struct Compressor {
    ending: &'static str,
    command: Box<dyn Fn() -> Command>,
}

fn compress_all(page: &Path, how: &Build) -> Result<(), String> {
    let compressors = compressors(how);
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
                let mut command = command();
                let done = command.arg(&path).stdout(file).status();
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
fn compressors(how: &Build) -> Vec<Compressor> {
    let Build { gzip, brotli, .. } = *how;
    let found = |name: &str| works(program(name).arg("--version"));
    let with = |ending: &'static str, name: &'static str, options: Vec<&'static str>| Compressor {
        ending,
        command: Box::new(move || {
            let mut command = program(name);
            command.args(&options);
            command
        }),
    };
    let mut chosen = Vec::new();
    if found("gzip") {
        chosen.push(with("gz", "gzip", vec![gzip, "-n", "-c"]));
    } else {
        println!("there is no gzip: the page is served as it is");
    }
    if found("brotli") {
        let options = vec!["-q", brotli, "-w", "24", "-c"];
        chosen.push(with("br", "brotli", options));
    } else if found("node") {
        chosen.push(with("br", "node", vec!["-e", NODE_BROTLI, brotli]));
    } else {
        println!("there is neither brotli nor node: the page is served without brotli");
    }
    chosen
}

const NODE_BROTLI: &str = "\
const zlib = require('zlib'), fs = require('fs'), c = zlib.constants;
const [, quality, file] = process.argv, source = fs.readFileSync(file);
fs.writeFileSync(1, zlib.brotliCompressSync(source, { params: {
  [c.BROTLI_PARAM_QUALITY]: Number(quality), [c.BROTLI_PARAM_LGWIN]: 24,
  [c.BROTLI_PARAM_SIZE_HINT]: source.length } }));";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_line_that_its_size_goes_into() {
        let text = fs::read_to_string(root().join(PAGE).join("index.html")).unwrap();
        assert!(text.contains(SIZE_LINE));
    }

    #[test]
    fn the_version_of_wasm_opt_is_compared_by_number() {
        assert_eq!(wasm_opt_version("wasm-opt version 108\n"), Some(108));
        let young = wasm_opt_version("wasm-opt version 121 (version_121-3-g1)");
        assert!(young > Some(WASM_OPT));
        assert!(wasm_opt_version("not found") < Some(WASM_OPT));
    }
}
