//! Plays an episode file back in the game that recorded it: headless, comparing every state hash of
//! the file ([`check`]), or on screen ([`ReplayPlugin`]).
//!
//! Either plays the confirmed inputs ([`View::Canonical`]), or what the participant saw, predictions
//! and rollbacks included ([`View::AsSeen`]). The game needs no code for it: its world is set up by
//! the same `EpisodeStarting` as in a match.

use bevy::prelude::*;
use ggrs::{Config, InputPredictor, InputStatus};

use crate::offline::{Driver, EpisodeSetup};
use crate::record::EpisodeDocument;
use crate::rollback::trace::Known;

mod check;
mod play;
mod report;
pub(crate) mod script;

pub use check::check;
pub use play::{Replay, ReplayPlugin};
pub use report::{Difference, DifferenceKind, ReplayReport};
pub(crate) use script::{Script, Step};
pub use script::{ScriptError, View};

/// Frames per second of a file without them: `bevy_ggrs`'s default.
const DEFAULT_FPS: u32 = 60;

/// The script of a document; predictions come from the predictor of the game's config.
///
/// # Errors
/// [`ScriptError`] if inputs are missing or belong to another game.
pub fn script_of<C: Config>(document: &EpisodeDocument) -> Result<Script<C::Input>, ScriptError> {
    Script::read(document, C::InputPredictor::predict)
}

/// How a match with this file's settings begins.
fn setup_of(document: &EpisodeDocument) -> EpisodeSetup {
    EpisodeSetup {
        session_id: document.session.session_id.clone(),
        number: document.episode.episode_num,
        seed: document.episode.seed.map(|seed| seed.0),
        players: document.session.player_ids.len(),
        local_player: document.session.local_player_id.unwrap_or_default(),
        fps: match document.episode.fps {
            0 => DEFAULT_FPS,
            fps => fps,
        },
        clear: true,
    }
}

fn status(known: Known) -> InputStatus {
    match known {
        Known::Confirmed => InputStatus::Confirmed,
        Known::Predicted => InputStatus::Predicted,
        Known::Disconnected => InputStatus::Disconnected,
    }
}

/// Plays steps in a world, and passes on the checksum of every saved state.
struct Playback<C: Config> {
    driver: Driver<C>,
    /// Per frame 0..=frames: whether its state is saved when it is reached.
    saved: Vec<bool>,
    simulated: u64,
}

impl<C: Config> Playback<C> {
    fn new(driver: Driver<C>, saved: Vec<bool>) -> Self {
        Self {
            driver,
            saved,
            simulated: 0,
        }
    }

    /// Plays one step; `on_saved` gets frame and checksum of every state that was saved.
    fn play(
        &mut self,
        world: &mut World,
        step: &Step<C::Input>,
        mut on_saved: impl FnMut(i32, Option<u128>),
    ) {
        match step {
            Step::Advance { inputs, .. } => {
                self.save(world, &mut on_saved);
                self.advance(world, inputs);
            }
            Step::Rollback { load, inputs, .. } => {
                self.driver.load(world, *load);
                for (index, inputs) in inputs.iter().enumerate() {
                    // As in ggrs, a state that was just loaded is not saved again.
                    if index > 0 {
                        self.save(world, &mut on_saved);
                    }
                    self.advance(world, inputs);
                }
            }
        }
    }

    fn advance(&mut self, world: &mut World, inputs: &[(C::Input, Known)]) {
        let inputs = inputs.iter().map(|&(input, known)| (input, status(known)));
        self.driver.advance(world, inputs);
        self.simulated += 1;
    }

    fn save(&mut self, world: &mut World, on_saved: &mut impl FnMut(i32, Option<u128>)) {
        let frame = self.driver.frame();
        let wanted = usize::try_from(frame)
            .ok()
            .and_then(|at| self.saved.get(at));
        if wanted.copied().unwrap_or(false) {
            let checksum = self.driver.save(world);
            on_saved(frame, checksum);
        }
    }
}

/// Marks the states that rollbacks load.
fn mark_loads<I>(steps: &[Step<I>], saved: &mut [bool]) {
    for step in steps {
        if let Step::Rollback { load, .. } = step
            && let Some(saved) = usize::try_from(*load).ok().and_then(|at| saved.get_mut(at))
        {
            *saved = true;
        }
    }
}
