//! The settings of a match, and the library's configuration made of them. They come from the command
//! line (`options.rs`) or from a page's address (`page.rs`).

use std::path::PathBuf;
use std::time::Duration;

use bevy_rollback_lab::config::{LabConfig, PlayerKind, StudyConfig};
use bevy_rollback_lab::prelude::RoutePolicy;

use volley::bot::policy::{POLICY_NAME, POLICY_VERSION};

/// Name and version of the game, which peers compare; the same as in `headless_duel`.
const GAME: (&str, &str) = ("volley", "1");
/// Default length of an episode: a minute and a half at 60 Hz.
const FRAMES: u32 = 5_400;

/// Default wait for the other players, the library's own.
const WAIT_SECONDS: u64 = 120;

/// Settings of a match, for one peer.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Address of the server, `ws://` or `wss://`.
    pub server: String,
    /// Room on that server.
    pub room: String,
    /// Players of a match.
    pub players: usize,
    /// Name under the local player. Shown, not sent and not written.
    pub name: String,
    /// Name under the other players, whose own names are not sent.
    pub rival: String,
    /// A bot plays this side.
    pub bot: bool,
    /// Frames per episode.
    pub frames: u32,
    /// Episodes of the session; without it they go on until a player leaves.
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
    /// Seconds to wait for the other players.
    pub wait: u64,
    /// Identifier of the study.
    pub study: Option<String>,
    /// Identifier of the group.
    pub group: Option<String>,
    /// Label of the trial.
    pub trial: Option<String>,
    /// Admission token of the participant.
    #[expect(
        dead_code,
        reason = "for a server that admits by token; the current one does not"
    )]
    pub token: Option<String>,
    /// Folder of the files; without it they stay in memory.
    pub out: Option<PathBuf>,
    /// The HUD is shown from the start.
    pub hud: bool,
    /// The app exits when the session ends, instead of waiting until it is closed.
    pub quit: bool,
    /// File of a screenshot, and the frame of episode 0 at which it is taken.
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
            wait: WAIT_SECONDS,
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
    pub(crate) fn lab(&self) -> LabConfig {
        let mut lab = LabConfig::new(&self.server, &self.room)
            .game(GAME.0, GAME.1)
            .players(self.players)
            .fps(self.fps)
            .input_delay(self.input_delay)
            .frame_limit(self.frames)
            .conditions(&self.conditions)
            .route_policy(self.route_policy)
            .wait_timeout(Duration::from_secs(self.wait))
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
