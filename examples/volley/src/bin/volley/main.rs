//! Volley on screen: two sides, a net, a ball, and a rollback session that survives the loss of its
//! direct path. In a window
//!
//!     cargo run --release --features demo --example volley
//!
//! it plays against a bot at once, over a server of its own; in a browser it is the page that
//! `cargo xtask demo` serves. `--help` lists the options. The exit status is 0 if everything went
//! well, 1 if a session failed, a file was not written or files disagree, and 2 if the options
//! cannot work.

mod devices;
mod figures;
mod game;
mod overlay;
#[cfg(target_arch = "wasm32")]
mod page;
mod playback;
mod rounds;
mod scene;
mod settings;
mod trail;

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
mod opponent;
#[cfg(not(target_arch = "wasm32"))]
mod options;
#[cfg(not(target_arch = "wasm32"))]
mod shot;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    native::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {
    if page::replay() {
        return;
    }
    match page::settings() {
        Ok(settings) => {
            game::app(settings).run();
        }
        Err(error) => page::refuse(&error),
    }
}
