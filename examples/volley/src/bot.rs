//! Bots for the local player handles of a volley game: [`BotPlugin`] samples them in [`ReadInputs`]
//! from the newest state of their own peer. They are not rolled back: like a person, a bot does not
//! take back what it pressed.

use std::marker::PhantomData;

use bevy::platform::collections::HashMap;
use bevy::prelude::*;
use bevy_ggrs::{LocalInputs, LocalPlayers, ReadInputs, ggrs};

use crate::CourtReader;
use crate::input::VolleyInput;

pub mod policy;

use policy::Bot;

/// The bots of this peer, one for each local handle, made at its first input.
#[derive(Resource, Clone, Debug)]
pub struct Bots {
    seed: u64,
    fps: u32,
    bots: Vec<Bot>,
}

impl Bots {
    /// Bots for a game of `fps` frames a second. Equal seeds play equal games.
    pub fn new(seed: u64, fps: u32) -> Self {
        Self {
            seed,
            fps,
            bots: Vec::new(),
        }
    }

    /// Resets all bots for the next episode.
    pub fn restart(&mut self, seed: u64) {
        *self = Self::new(seed, self.fps);
    }

    /// The bots in the order of their first input.
    pub fn iter(&self) -> impl Iterator<Item = &Bot> {
        self.bots.iter()
    }

    fn at(&mut self, handle: usize) -> &mut Bot {
        let place = match self.bots.iter().position(|bot| bot.handle() == handle) {
            Some(place) => place,
            None => {
                self.bots.push(Bot::new(handle, self.fps, self.seed));
                self.bots.len() - 1
            }
        };
        &mut self.bots[place]
    }
}

/// Bots play every local player handle. Their seed is that of the first episode; for the next one call
/// [`Bots::restart`].
pub struct BotPlugin<C> {
    seed: u64,
    fps: u32,
    config: PhantomData<C>,
}

impl<C> BotPlugin<C> {
    /// Bots with this seed in a game of `fps` frames a second. Equal seeds play equal games.
    pub fn new(seed: u64, fps: u32) -> Self {
        Self {
            seed,
            fps,
            config: PhantomData,
        }
    }
}

impl<C: ggrs::Config<Input = VolleyInput>> Plugin for BotPlugin<C> {
    fn build(&self, app: &mut App) {
        app.insert_resource(Bots::new(self.seed, self.fps))
            .add_systems(ReadInputs, press_buttons::<C>);
    }
}

fn press_buttons<C: ggrs::Config<Input = VolleyInput>>(
    mut commands: Commands,
    local: Res<LocalPlayers>,
    court: CourtReader,
    mut bots: ResMut<Bots>,
) {
    let shown = court.court();
    let inputs: HashMap<_, _> = local
        .0
        .iter()
        .map(|&handle| {
            let input = shown.as_ref().map(|court| bots.at(handle).sample(court));
            (handle, input.unwrap_or_default())
        })
        .collect();
    commands.insert_resource(LocalInputs::<C>(inputs));
}
