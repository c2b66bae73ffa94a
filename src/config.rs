//! Owns [`LabConfig`], the one run-time configuration of a lab session, and its validation.
//! It composes the settings of the rooms below it and never reads a clock or a socket.

use std::path::PathBuf;
use std::time::Duration;

use bevy::prelude::*;

use crate::metrics::{self, EpisodeMeta};
use crate::record::{RecordSettings, SCHEMA_VERSION, software};
use crate::session::SessionSettings;
use crate::transport::MatchboxSettings;
use rollback_lab_link::conditions::{ConditionError, Conditions};
use rollback_lab_link::link::LinkSettings;
use rollback_lab_link::route::RoutePolicy;
use rollback_lab_link::wire::{Hello, WIRE_VERSION};

pub use crate::metrics::PlayerKind;

/// Most players of one episode: handles and rosters are fixed-size up to here.
pub const MAX_PLAYERS: usize = crate::rollback::trace::MAX_PLAYERS;

/// Run-time configuration of a lab session.
///
/// Built in the order it reads, checked once when the plugin is added:
///
/// ```
/// use bevy_rollback_lab::config::LabConfig;
///
/// let config = LabConfig::new("ws://127.0.0.1:3536", "my-room")
///     .players(2)
///     .input_delay(2)
///     .frame_limit(1800);
/// assert!(config.validate().is_ok());
/// assert!(LabConfig::new("http://127.0.0.1", "my-room").validate().is_err());
/// ```
#[derive(Resource, Clone, Debug)]
pub struct LabConfig {
    /// Address of the signaling server, `ws://` or `wss://`, without the room.
    pub server: String,
    /// Name of the room: 1 to 64 letters, digits, `-`, `_` or `.`.
    pub room: String,
    /// Number of players, 1 to [`MAX_PLAYERS`]. Defaults to 2.
    pub players: usize,
    /// Game frames per second, 1 to 240. Defaults to 60. Every peer must say the same.
    pub fps: u32,
    /// Frames between reading a local input and applying it, 0 to 16. Defaults to 2.
    pub input_delay: u32,
    /// Prediction window in frames, 1 to 32. Defaults to 8, which allows 7 predicted frames.
    pub max_prediction: u32,
    /// Frames between the checksums that peers compare. Defaults to 10.
    pub desync_interval: u32,
    /// Frame at which an episode ends at the latest. Defaults to none.
    pub frame_limit: Option<u32>,
    /// Episodes of the lab session; after the last one it is finished. Defaults to none: no end.
    pub episodes: Option<u32>,
    /// Whether an episode starts as soon as everybody is ready. Defaults to true; if false, the
    /// game triggers [`ReadyForEpisode`](crate::session::ReadyForEpisode).
    pub auto_start: bool,
    /// Seed of the first episode, the next ones add 1. Defaults to a hash of the session id.
    pub seed: Option<u64>,
    /// Which path game packets take. Defaults to [`RoutePolicy::P2pFirst`].
    pub route_policy: RoutePolicy,
    /// Whether a promoted route may return to a direct path that stayed good for 15 s. Defaults to
    /// false: fallback is final. Every peer must say the same.
    pub return_to_direct: bool,
    /// Artificial network conditions of what this peer sends, for experiments and tests.
    pub conditions: String,
    /// ICE servers (STUN, TURN). Defaults to none, which suits loopback and a local network.
    pub ice_servers: Vec<String>,
    /// User name of the ICE servers.
    pub ice_username: Option<String>,
    /// Credential of the ICE servers.
    pub ice_credential: Option<String>,
    /// How long to wait for the other players. Defaults to 120 s.
    pub wait_timeout: Duration,
    /// Folder of the exported files. Defaults to `exports`; none keeps documents in memory.
    pub export_dir: Option<PathBuf>,
    /// Name of the game, compared between peers. At most 64 bytes.
    pub game: String,
    /// Version of the game, compared between peers. At most 64 bytes.
    pub game_version: String,
    /// What stands in the files about the study.
    pub study: StudyConfig,
    /// The game's own settings, exported as `episode.config` and compared between peers.
    pub game_config: serde_json::Map<String, serde_json::Value>,
}

/// Plain settings of a study that stand in every file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StudyConfig {
    /// Identifier of the study.
    pub study_id: Option<String>,
    /// Identifier of the group (dyad, team).
    pub group_id: Option<String>,
    /// Label of the trial.
    pub trial_label: Option<String>,
    /// Pseudonym of the local participant. Never the participant's own id.
    pub pseudonym: Option<String>,
    /// Consent: version of the form, and when it was given, in Unix milliseconds.
    pub consent: Option<(String, u64)>,
    /// Experimental condition of the episode: names and values.
    pub condition: serde_json::Map<String, serde_json::Value>,
    /// Who plays on this peer. Defaults to a person.
    pub player_kind: PlayerKind,
    /// Name of the policy that plays, if a bot does.
    pub policy_name: Option<String>,
    /// Version of the policy that plays, if a bot does.
    pub policy_version: Option<String>,
    /// Digest of the policy that plays, if a bot does.
    pub policy_digest: Option<String>,
}

/// A setting that cannot work, named with its value and what would.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The server address is no websocket address.
    #[error("server {0:?} is no websocket address: it starts with ws:// or wss://")]
    Server(String),
    /// The room name cannot stand in a path.
    #[error("room {0:?} is no room name: 1 to 64 letters, digits, '-', '_' or '.'")]
    Room(String),
    /// A number lies outside its range.
    #[error("{name} is {value}, outside {min}..={max}")]
    Range {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: u64,
        /// Smallest value that works.
        min: u64,
        /// Largest value that works.
        max: u64,
    },
    /// A text is too long for the peers' greeting.
    #[error("{name} has {length} bytes, at most {max} fit")]
    TooLong {
        /// The setting.
        name: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most that fits.
        max: usize,
    },
    /// The network conditions cannot be read.
    #[error("conditions: {0}")]
    Conditions(#[from] ConditionError),
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty),* $(,)?) => {
        $($(#[$doc])* #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        })*
    };
}

impl LabConfig {
    /// A session of two players at 60 Hz in `room` of the server at `server`.
    #[must_use]
    pub fn new(server: impl Into<String>, room: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            room: room.into(),
            players: 2,
            fps: 60,
            input_delay: 2,
            max_prediction: 8,
            desync_interval: 10,
            frame_limit: None,
            episodes: None,
            auto_start: true,
            seed: None,
            route_policy: RoutePolicy::default(),
            return_to_direct: false,
            conditions: String::new(),
            ice_servers: Vec::new(),
            ice_username: None,
            ice_credential: None,
            wait_timeout: Duration::from_secs(120),
            export_dir: Some(PathBuf::from("exports")),
            game: String::from("game"),
            game_version: String::from("0"),
            study: StudyConfig::default(),
            game_config: serde_json::Map::new(),
        }
    }

    setters! {
        /// Sets the number of players.
        players: usize,
        /// Sets the game frames per second.
        fps: u32,
        /// Sets the input delay in frames.
        input_delay: u32,
        /// Sets the prediction window in frames.
        max_prediction: u32,
        /// Sets the frames between compared checksums.
        desync_interval: u32,
        /// Sets whether episodes start by themselves.
        auto_start: bool,
        /// Sets the route policy.
        route_policy: RoutePolicy,
        /// Sets whether a promoted route may return to the direct path.
        return_to_direct: bool,
        /// Sets how long to wait for the other players.
        wait_timeout: Duration,
        /// Sets what stands in the files about the study.
        study: StudyConfig,
        /// Sets the addresses of STUN and TURN servers.
        ice_servers: Vec<String>,
    }

    /// Ends every episode at `frames` at the latest.
    #[must_use]
    pub fn frame_limit(mut self, frames: u32) -> Self {
        self.frame_limit = Some(frames);
        self
    }

    /// Finishes the lab session after `episodes` episodes.
    #[must_use]
    pub fn episodes(mut self, episodes: u32) -> Self {
        self.episodes = Some(episodes);
        self
    }

    /// Sets the seed of the first episode.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the network conditions, for example `latency=50ms,jitter=10ms,loss=15%`.
    #[must_use]
    pub fn conditions(mut self, spec: impl Into<String>) -> Self {
        self.conditions = spec.into();
        self
    }

    /// Sets the folder of the exported files.
    #[must_use]
    pub fn export_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.export_dir = Some(dir.into());
        self
    }

    /// Keeps finished documents in memory instead of writing files.
    #[must_use]
    pub fn no_files(mut self) -> Self {
        self.export_dir = None;
        self
    }

    /// Names the game and its version; peers that differ refuse each other.
    #[must_use]
    pub fn game(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.game = name.into();
        self.game_version = version.into();
        self
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.server.starts_with("ws://") && !self.server.starts_with("wss://") {
            return Err(ConfigError::Server(self.server.clone()));
        }
        let room_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.room.is_empty() || self.room.len() > 64 || !self.room.chars().all(room_char) {
            return Err(ConfigError::Room(self.room.clone()));
        }
        let ranges = [
            ("players", self.players as u64, 1, MAX_PLAYERS as u64),
            ("fps", u64::from(self.fps), 1, 240),
            ("input_delay", u64::from(self.input_delay), 0, 16),
            ("max_prediction", u64::from(self.max_prediction), 1, 32),
            ("desync_interval", u64::from(self.desync_interval), 1, 600),
            (
                "frame_limit",
                u64::from(self.frame_limit.unwrap_or(1)),
                1,
                i32::MAX as u64 / 2,
            ),
            (
                "episodes",
                u64::from(self.episodes.unwrap_or(1)),
                1,
                u64::from(u16::MAX),
            ),
        ];
        for (name, value, min, max) in ranges {
            if value < min || value > max {
                return Err(ConfigError::Range {
                    name,
                    value,
                    min,
                    max,
                });
            }
        }
        for (name, text) in [("game", &self.game), ("game_version", &self.game_version)] {
            if text.len() > 64 {
                return Err(ConfigError::TooLong {
                    name,
                    length: text.len(),
                    max: 64,
                });
            }
        }
        Conditions::parse(&self.conditions)?;
        Ok(())
    }

    /// What peers must agree on, as they say it to each other.
    fn hello(&self) -> Hello {
        // Validated: every number below fits its field.
        Hello {
            wire_version: u16::from(WIRE_VERSION),
            schema: SCHEMA_VERSION.to_owned(),
            game: self.game.clone(),
            game_version: self.game_version.clone(),
            players: self.players as u8,
            fps: self.fps as u16,
            input_delay: self.input_delay as u8,
            max_prediction: self.max_prediction as u8,
            desync_interval: self.desync_interval,
            config_digest: self.config_digest(),
            route_policy: self.route_policy as u8,
        }
    }

    /// Hash of everything else that must be the same on every peer: the game's own settings, the
    /// frame limit, the number of episodes and a configured seed. 16 hex digits in the files.
    #[must_use]
    pub fn config_digest(&self) -> u64 {
        let shared = serde_json::json!({
            "game": self.game_config,
            "frameLimit": self.frame_limit,
            "episodes": self.episodes,
            "seed": self.seed,
            "returnToDirect": self.return_to_direct,
        });
        seahash::hash(shared.to_string().as_bytes())
    }

    /// The part that the session owns.
    #[must_use]
    pub fn session_settings(&self) -> SessionSettings {
        SessionSettings {
            room: self.room.clone(),
            players: self.players,
            fps: self.fps,
            input_delay: self.input_delay,
            max_prediction: self.max_prediction,
            desync_interval: self.desync_interval,
            frame_limit: self.frame_limit,
            episodes: self.episodes,
            auto_start: self.auto_start,
            seed: self.seed,
            wait_timeout: self.wait_timeout,
            hello: self.hello(),
        }
    }

    /// The part that every link owns.
    #[must_use]
    pub fn link_settings(&self) -> LinkSettings {
        LinkSettings {
            policy: self.route_policy,
            fps: self.fps,
            max_prediction: self.max_prediction,
            input_delay: self.input_delay,
            return_to_direct: self.return_to_direct,
        }
    }

    /// The part that the record owns.
    #[must_use]
    pub fn record_settings(&self) -> RecordSettings {
        RecordSettings {
            export_dir: self.export_dir.clone(),
            template: self.episode_template(),
        }
    }

    /// What is known of every episode before anybody is met.
    fn episode_template(&self) -> EpisodeMeta {
        let study = &self.study;
        EpisodeMeta {
            software: software(&self.game, &self.game_version),
            session: metrics::SessionMeta {
                room: Some(self.room.clone()),
                study_id: study.study_id.clone(),
                group_id: study.group_id.clone(),
                consent: study
                    .consent
                    .clone()
                    .map(|(version, at_unix_ms)| metrics::Consent {
                        version,
                        at_unix_ms,
                    }),
                route_policy: Some(self.route_policy),
                players: vec![metrics::Player {
                    player_id: 0,
                    kind: Some(study.player_kind),
                    policy_name: study.policy_name.clone(),
                    policy_version: study.policy_version.clone(),
                    policy_digest: study.policy_digest.clone(),
                    pseudonym: study.pseudonym.clone(),
                }],
                ..Default::default()
            },
            trial_label: study.trial_label.clone(),
            condition: study.condition.clone().into_iter().collect(),
            fps: self.fps,
            input_delay_frames: [(0, self.input_delay)].into(),
            max_prediction_frames: self.max_prediction,
            config: self.game_config.clone().into_iter().collect(),
            config_digest: Some(self.config_digest()),
            conditions: (!self.conditions.is_empty())
                .then(|| (self.conditions.clone(), self.conditions_seed())),
            has_transport: true,
            ..Default::default()
        }
    }

    /// Seed of the conditions' randomness: the configured one, or a hash of the room.
    #[must_use]
    pub fn conditions_seed(&self) -> u64 {
        self.seed
            .unwrap_or_else(|| seahash::hash(self.room.as_bytes()))
    }

    /// The part that the real network owns.
    #[must_use]
    pub fn matchbox_settings(&self) -> MatchboxSettings {
        let server = self.server.trim_end_matches('/');
        let mut settings =
            MatchboxSettings::new(format!("{server}/{}?players={}", self.room, self.players));
        settings.ice.urls.clone_from(&self.ice_servers);
        settings.ice.username.clone_from(&self.ice_username);
        settings.ice.credential.clone_from(&self.ice_credential);
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_setting_is_named_with_its_value_and_range() {
        let config = LabConfig::new("ws://localhost", "room").players(9);
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "players is 9, outside 1..=4"
        );
        let config = LabConfig::new("ws://localhost", "a room");
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("\"a room\"")
        );
        let config = LabConfig::new("ws://localhost", "room").conditions("latncy=5ms");
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("latncy")
        );
    }

    #[test]
    fn peers_agree_on_the_digest_only_with_the_same_shared_settings() {
        let config = LabConfig::new("ws://localhost", "room").frame_limit(100);
        let same = LabConfig::new("ws://other", "room").frame_limit(100);
        assert_eq!(config.config_digest(), same.config_digest());
        assert_ne!(
            config.config_digest(),
            same.frame_limit(101).config_digest()
        );
    }
}
