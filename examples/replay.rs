//! Plays episode files of the volley game back without a window, as fast as it can, and checks
//! every state hash in them:
//!
//!     cargo run --release --example replay -- FILE...
//!
//! Each file is played twice: as the canonical history, and as its peer saw it, predictions and
//! rollbacks included; `--canonical` skips the second. The exit status is 0 if everything agreed, 1 if
//! something differed or could not be played, and 2 without files.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_matchbox::matchbox_socket::PeerId;
use bevy_rollback_lab::record::EpisodeDocument;
use bevy_rollback_lab::replay::{self, View};
use bevy_rollback_lab::session::EpisodeStarting;

use volley::{VolleyConfig, VolleyPlugin, start_court};

type Config = VolleyConfig<PeerId>;

/// The game as in a match, but without a session: the replay takes its place.
fn game() -> App {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins,
        StatesPlugin,
        VolleyPlugin::<Config>::default(),
    ))
    .add_observer(|starting: On<EpisodeStarting>, mut commands: Commands| {
        let EpisodeStarting { players, seed, .. } = *starting.event();
        commands.queue(move |world: &mut World| start_court(world, players, seed));
    });
    app
}

fn main() -> ExitCode {
    let mut views = vec![View::Canonical, View::AsSeen];
    let mut files = Vec::new();
    for argument in std::env::args().skip(1) {
        if argument == "--canonical" {
            views = vec![View::Canonical];
        } else {
            files.push(argument);
        }
    }
    if files.is_empty() {
        eprintln!("usage: replay [--canonical] FILE...");
        return ExitCode::from(2);
    }
    let mut good = true;
    for file in &files {
        for &view in &views {
            match play(Path::new(file), view) {
                Ok(proven) => good &= proven,
                Err(error) => {
                    eprintln!("error: {file}: {error}");
                    good = false;
                }
            }
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays one file, and returns whether everything agreed.
fn play(file: &Path, view: View) -> Result<bool, String> {
    let text_of = |error: &dyn Display| error.to_string();
    let text = fs::read_to_string(file).map_err(|error| text_of(&error))?;
    let document = EpisodeDocument::parse(&text).map_err(|error| text_of(&error))?;
    let app = game();
    let began = Instant::now();
    let report = replay::check::<Config>(app, &document, view).map_err(|error| text_of(&error))?;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{}: {}: {report}; {:.0} frames/s",
        file.display(),
        match view {
            View::Canonical => "canonical",
            View::AsSeen => "as seen",
        },
        report.simulated as f64 / seconds
    );
    Ok(report.is_proven())
}
