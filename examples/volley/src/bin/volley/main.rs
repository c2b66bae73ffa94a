//! Volley on screen: two sides, a net, a ball, and a rollback session that survives the loss of its
//! direct path. In a window
//!
//!     cargo run --release -p volley
//!
//! it plays against a bot at once, over an embedded server; in a browser it is the page that
//! `cargo xtask demo` serves. `--help` lists the options. The exit status is 0 on success, 1 if a
//! session failed, a file was not written or files disagree, and 2 if the options cannot work.
//!
//! | module | content |
//! |---|---|
//! | `game` | the app: which plugins a match has |
//! | `rounds` | the course of a match: courts, episodes, the demonstration of a lost path, the outcome |
//! | `scene`, `figures`, `trail`, `overlay` | what is drawn: the beach, players and ball, trail and corrections, texts |
//! | `devices` | keyboard, gamepad and touch |
//! | `playback` | watching an episode file |
//! | `settings` | the settings of a match, from `options` (command line) or `page` (address) |
//! | `native`, `opponent`, `screenshot` | the interactive run: server, bots on threads, a screenshot of the window |

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
mod screenshot;

#[cfg(not(target_arch = "wasm32"))]
fn main() -> std::process::ExitCode {
    native::main()
}

#[cfg(target_arch = "wasm32")]
fn main() {
    bevy_rollback_lab::web::report_panics();
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
