//! What a player is told before a match: where, with whom, under which conditions.
//!
//! Owns the plain settings and what the library makes of them. Never reads a command line or an
//! address: that is `options.rs` at a desk and `page.rs` in a browser.

use std::path::PathBuf;

use bevy_rollback_lab::config::{LabConfig, PlayerKind, StudyConfig};
use bevy_rollback_lab::prelude::RoutePolicy;

use volley::bot::policy::{POLICY_NAME, POLICY_VERSION};

/// Name and version of the game, which peers compare: `headless_duel` plays the same.
const GAME: (&str, &str) = ("volley", "1");
/// A match that nobody gave a length: a minute and a half at 60 Hz.
const FRAMES: u32 = 5_400;

/// Everything that can be said about a match.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the server, `ws://` or `wss://`.
    pub server: String,
    /// Room on that server.
    pub room: String,
    /// Players of a match.
    pub players: usize,
    /// Name under the local player. Shown, never sent and never written.
    pub name: String,
    /// Name under the other players, whose own names nobody tells.
    pub rival: String,
    /// A bot plays this side.
    pub bot: bool,
    /// Frames per episode.
    pub frames: u32,
    /// Episodes of the session; none goes on until somebody leaves.
    pub episodes: Option<u32>,
    /// Game frames per second.
    pub fps: u32,
    /// Seed of the first episode.
    pub seed: Option<u64>,
    /// Artificial network conditions.
    pub conditions: String,
    /// Which path game packets take.
    pub route_policy: RoutePolicy,
    /// Frames between reading an input and applying it.
    pub input_delay: u32,
    /// Frame of episode 0 from which the direct paths are blackholed.
    pub cut_direct_at: Option<u32>,
    /// Identifier of the study.
    pub study: Option<String>,
    /// Identifier of the group.
    pub group: Option<String>,
    /// Label of the trial.
    pub trial: Option<String>,
    /// Admission token of the participant.
    #[expect(
        dead_code,
        reason = "kept for a server that admits by token; today's asks for none"
    )]
    pub token: Option<String>,
    /// Folder of the files; none keeps them in memory.
    pub out: Option<PathBuf>,
    /// The HUD is shown from the start.
    pub hud: bool,
    /// The app ends with the session, instead of waiting for the player to close it.
    pub quit: bool,
    /// Picture of the window, and the frame of episode 0 at which it is taken.
    #[cfg(not(target_arch = "wasm32"))]
    pub screenshot: Option<(PathBuf, u32)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: String::new(),
            room: String::from("volley"),
            players: 2,
            name: String::from("you"),
            rival: String::from("opponent"),
            bot: false,
            frames: FRAMES,
            episodes: None,
            fps: 60,
            seed: None,
            conditions: String::new(),
            route_policy: RoutePolicy::P2pFirst,
            input_delay: 2,
            cut_direct_at: None,
            study: None,
            group: None,
            trial: None,
            token: None,
            out: None,
            hud: false,
            quit: false,
            #[cfg(not(target_arch = "wasm32"))]
            screenshot: None,
        }
    }
}

impl Settings {
    /// The library's configuration for this peer.
    pub fn lab(&self) -> LabConfig {
        let mut lab = LabConfig::new(&self.server, &self.room)
            .game(GAME.0, GAME.1)
            .players(self.players)
            .fps(self.fps)
            .input_delay(self.input_delay)
            .frame_limit(self.frames)
            .conditions(&self.conditions)
            .route_policy(self.route_policy)
            .study(self.study_config());
        lab.episodes = self.episodes;
        lab.seed = self.seed;
        lab.export_dir.clone_from(&self.out);
        lab
    }

    fn study_config(&self) -> StudyConfig {
        let (player_kind, policy) = if self.bot {
            (PlayerKind::Bot, Some((POLICY_NAME, POLICY_VERSION)))
        } else {
            (PlayerKind::Human, None)
        };
        StudyConfig {
            study_id: self.study.clone(),
            group_id: self.group.clone(),
            trial_label: self.trial.clone(),
            player_kind,
            policy_name: policy.map(|(name, _)| name.to_owned()),
            policy_version: policy.map(|(_, version)| version.to_owned()),
            ..StudyConfig::default()
        }
    }
}
