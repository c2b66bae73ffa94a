//! [`LabConfig`], the run-time configuration of a lab session, and its validation.
//!
//! Each layer gets its own part of it: `session_settings`, `link_settings`, `record_settings`,
//! `matchbox_settings`.

use std::path::PathBuf;
use std::time::Duration;

use bevy::prelude::*;

use crate::metrics::{self, EpisodeMeta};
use crate::record::{RecordSettings, software};
use crate::session::SessionSettings;
use crate::transport::MatchboxSettings;
use rollback_lab_link::conditions::{ConditionError, Conditions};
use rollback_lab_link::link::LinkSettings;
use rollback_lab_link::route::RoutePolicy;

mod compared;

pub use crate::metrics::PlayerKind;

/// Most players of one episode: player handles are 0 to 3.
pub const MAX_PLAYERS: usize = crate::rollback::trace::MAX_PLAYERS;
/// Largest input delay of a lab session, in frames: more is felt as lag in any game.
pub(crate) const MAX_INPUT_DELAY: u32 = 16;

/// Address of a server started with `rollback-lab serve` on the same machine.
const LOCAL_SERVER: &str = "ws://127.0.0.1:3536";
/// Longest name of a room in bytes: the server's own limit.
const MAX_ROOM_BYTES: usize = 64;
/// Longest name and version of a game in bytes: they travel in the first message between peers.
const MAX_GAME_BYTES: usize = 64;

/// Configures a lab session: where to meet, how to play, what to record.
///
/// Give it to [`RollbackLabPlugins::new`](crate::RollbackLabPlugins::new), or to
/// [`JoinLab`](crate::JoinLab) while the app runs; both check it with [`validate`](Self::validate). It is a
/// resource, for reading: that of the newest session. Changes have no effect.
///
/// ```
/// use bevy_rollback_lab::config::{LabConfig, PlayerKind, StudyConfig};
///
/// let config = LabConfig::new("ws://127.0.0.1:3536", "my-room")
///     .players(2)
///     .input_delay(2)
///     .frame_limit(1_800) // half a minute at 60 frames per second
///     .episodes(3)
///     .game("pong", "1.2.0")
///     .study(StudyConfig {
///         study_id: Some("pilot".into()),
///         player_kind: PlayerKind::Human,
///         ..StudyConfig::default()
///     });
/// assert!(config.validate().is_ok());
///
/// let refused = LabConfig::new("http://127.0.0.1", "my-room").validate().unwrap_err();
/// assert!(refused.to_string().contains("ws://"));
/// ```
///
/// # What peers must agree on
///
/// Peers compare their settings before the first episode, and a difference fails the session with
/// [`SessionError::Mismatch`](crate::session::SessionError::Mismatch): [`players`](field@Self::players),
/// [`fps`](field@Self::fps), [`input_delay`](field@Self::input_delay),
/// [`max_prediction`](field@Self::max_prediction), [`desync_interval`](field@Self::desync_interval),
/// [`frame_limit`](field@Self::frame_limit), [`episodes`](field@Self::episodes),
/// [`seed`](field@Self::seed), [`route_policy`](field@Self::route_policy),
/// [`return_to_direct`](field@Self::return_to_direct), [`game`](field@Self::game),
/// [`game_version`](Self::game_version), [`game_config`](Self::game_config). Everything else is each
/// peer's own.
#[derive(Resource, Reflect, Clone, Debug)]
#[reflect(Resource, Clone, Debug, Default)]
pub struct LabConfig {
    /// Address of the server, `ws://` or `wss://`, without the room. Default of
    /// [`LabConfig::default`]: `ws://127.0.0.1:3536`.
    pub server: String,
    /// Name of the room: 1 to 64 letters, digits, `-`, `_` or `.`. Peers that name the same room
    /// meet.
    pub room: String,
    /// Number of players, 1 to [`MAX_PLAYERS`]. Default: 2.
    pub players: usize,
    /// Game frames per second, 1 to 240. Default: 60.
    pub fps: u32,
    /// Input delay in frames, 0 to 16. Default: 2.
    pub input_delay: u32,
    /// Prediction window in frames, 1 to 32. Default: 8.
    pub max_prediction: u32,
    /// Frames between the checksums that peers compare, 1 to 600. Default: 10.
    pub desync_interval: u32,
    /// Frame at which an episode ends at the latest, 1 to 1,073,741,823. Default: none, the game ends
    /// its episodes.
    pub frame_limit: Option<u32>,
    /// Episodes of the lab session, 1 to 65,535. Default: none, it goes on until a player leaves.
    pub episodes: Option<u32>,
    /// Whether an episode starts as soon as all players are ready. Default: true.
    pub auto_start: bool,
    /// Seed of the first episode; every following one adds 1. Default: none, a hash of the session id.
    pub seed: Option<u64>,
    /// Which paths game packets may take. Default: [`RoutePolicy::P2pFirst`].
    #[reflect(ignore)]
    pub route_policy: RoutePolicy,
    /// Whether a route that failed over may fail back to the direct path. Default: false.
    pub return_to_direct: bool,
    /// Artificial network conditions of what this peer sends. Default: empty, none.
    pub conditions: String,
    /// Addresses of STUN and TURN servers. Default: none.
    pub ice_servers: Vec<String>,
    /// User name for the TURN servers. Default: none.
    pub ice_username: Option<String>,
    /// Credential for the TURN servers. Default: none. Not written to files; `Debug` prints it.
    #[reflect(ignore)]
    pub ice_credential: Option<String>,
    /// How long to wait for the other players. Default: 120 s.
    pub wait_timeout: Duration,
    /// Folder of the exported files; none keeps documents in memory. Default: `exports`.
    pub export_dir: Option<PathBuf>,
    /// Name of the game, at most 64 bytes. Default: `game`.
    pub game: String,
    /// Version of the game, at most 64 bytes. Default: `0`.
    pub game_version: String,
    /// The study, as recorded in the files. Default: nothing.
    pub study: StudyConfig,
    /// The game's own settings, by name; `episode.config` of every file. Default: none.
    #[reflect(ignore)]
    pub game_config: serde_json::Map<String, serde_json::Value>,
}

/// Describes the study in every file of this peer. All of it is optional.
///
/// ```
/// use bevy_rollback_lab::config::{PlayerKind, StudyConfig};
///
/// let study = StudyConfig {
///     study_id: Some("cooperation-2".into()),
///     group_id: Some("dyad-07".into()),
///     pseudonym: Some("P14".into()),
///     condition: [("partner".to_owned(), "bot".into())].into_iter().collect(),
///     player_kind: PlayerKind::Human,
///     ..StudyConfig::default()
/// };
/// assert_eq!(study.consent, None);
/// ```
#[derive(Reflect, Clone, Debug, Default, PartialEq, Eq)]
#[reflect(Clone, Debug, Default, PartialEq)]
pub struct StudyConfig {
    /// Identifier of the study. Default: none.
    pub study_id: Option<String>,
    /// Identifier of the group (dyad, team). Default: none.
    pub group_id: Option<String>,
    /// Label of the trial. Default: none.
    pub trial_label: Option<String>,
    /// Pseudonym of the local participant, such as `P14`; not an id that leads to a person.
    /// Default: none.
    pub pseudonym: Option<String>,
    /// Consent: version of the form, and when it was given, in Unix milliseconds. Default: none.
    pub consent: Option<(String, u64)>,
    /// Experimental condition of the episode: names and values. Default: empty.
    #[reflect(ignore)]
    pub condition: serde_json::Map<String, serde_json::Value>,
    /// Who plays on this peer. Default: a person.
    #[reflect(ignore)]
    pub player_kind: PlayerKind,
    /// Name of the policy, if a bot plays. Default: none.
    pub policy_name: Option<String>,
    /// Version of the policy, if a bot plays. Default: none.
    pub policy_version: Option<String>,
    /// Digest of the policy (for example of its weights), if a bot plays. Default: none.
    pub policy_digest: Option<String>,
}

/// A setting that cannot work, with its value and the values that can.
///
/// ```
/// use bevy_rollback_lab::config::{ConfigError, LabConfig};
///
/// let error = LabConfig::default().players(9).validate().unwrap_err();
/// assert!(matches!(error, ConfigError::Range { name: "players", value: 9, .. }));
/// assert_eq!(error.to_string(), "players is 9, outside 1..=4");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The server address is no websocket address.
    #[error("server {0:?} is no websocket address: it starts with ws:// or wss://")]
    Server(String),
    /// The room name cannot be part of an address.
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
    /// A text does not fit into the first message between peers.
    #[error("{name} has {length} bytes, at most {max} fit")]
    TooLong {
        /// The setting.
        name: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most that fits.
        max: usize,
    },
    /// The network conditions cannot be parsed.
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

impl Default for LabConfig {
    /// A session of two players in the room `lab` of a server on this machine, as
    /// `rollback-lab serve` starts it.
    fn default() -> Self {
        Self::new(LOCAL_SERVER, "lab")
    }
}

impl LabConfig {
    /// A session of two players at 60 frames per second in `room` of the server at `server`
    /// (`ws://` or `wss://`, without the room).
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
        /// Sets the number of players, 1 to [`MAX_PLAYERS`]. Default: 2.
        ///
        /// The session begins when so many peers are in the room. Every peer plays one of them.
        players: usize,
        /// Sets the game frames per second, 1 to 240. Default: 60.
        ///
        /// Rendering is independent of it. A higher rate shortens the prediction window in time:
        /// 8 frames are 133 ms at 60 frames per second and 67 ms at 120.
        fps: u32,
        /// Sets the input delay in frames, 0 to 16. Default: 2.
        ///
        /// A local input is applied so many frames after it was read. Each frame of delay hides one
        /// frame of latency from the other peers, so rollbacks become fewer and less deep, and the
        /// own input feels later by 1/[`fps`](Self::fps) s. Two frames at 60 frames per second (33 ms)
        /// cover about 66 ms of round trip, and leave time for a failover without a stall.
        input_delay: u32,
        /// Sets the prediction window in frames, 1 to 32. Default: 8.
        ///
        /// ggrs simulates while less than so many frames are unconfirmed, so 8 allows 7 predicted
        /// frames; then the game stalls. A larger window tolerates more latency and makes deeper
        /// rollbacks possible, each of which simulates so many frames in one update.
        max_prediction: u32,
        /// Sets the frames between the checksums that peers compare, 1 to 600. Default: 10.
        ///
        /// A smaller value finds a desync sooner and costs a checksum of all registered state each
        /// time.
        desync_interval: u32,
        /// Sets whether an episode starts as soon as all players are ready. Default: true.
        ///
        /// With `false` the game triggers [`ReadyForEpisode`](crate::session::ReadyForEpisode),
        /// after instructions or a questionnaire for example.
        auto_start: bool,
        /// Sets which paths game packets may take. Default: [`RoutePolicy::P2pFirst`], peer to peer
        /// with the relay as fallback.
        route_policy: RoutePolicy,
        /// Sets whether a route that failed over may fail back to a direct path that stayed good for
        /// 15 s. Default: false, so that a route does not change back and forth in an experiment.
        return_to_direct: bool,
        /// Sets how long to wait for the other players, in all until they have met. Default: 120 s. Then
        /// the session fails with
        /// [`SessionError::WaitTimeout`](crate::session::SessionError::WaitTimeout), or with what kept a
        /// player from answering who is there.
        wait_timeout: Duration,
        /// Describes the study in every file. Default: nothing.
        study: StudyConfig,
        /// Sets the addresses of STUN and TURN servers, such as `stun:stun.example.org:3478`.
        /// Default: none, which suits one machine or a local network. Peers behind home routers need
        /// a STUN server for a direct path.
        ice_servers: Vec<String>,
    }

    /// Sets user name and credential for the TURN servers of [`ice_servers`](Self::ice_servers).
    /// Default: none.
    #[must_use]
    pub fn ice_login(mut self, username: impl Into<String>, credential: impl Into<String>) -> Self {
        self.ice_username = Some(username.into());
        self.ice_credential = Some(credential.into());
        self
    }

    /// Ends every episode after `frames` frames at the latest, 1 to 1,073,741,823. Default: no limit.
    ///
    /// The game may end an episode earlier with [`Episode::end`](crate::session::Episode::end).
    #[must_use]
    pub fn frame_limit(mut self, frames: u32) -> Self {
        self.frame_limit = Some(frames);
        self
    }

    /// Finishes the lab session after `episodes` episodes, 1 to 65,535. Default: it goes on until a
    /// player leaves.
    #[must_use]
    pub fn episodes(mut self, episodes: u32) -> Self {
        self.episodes = Some(episodes);
        self
    }

    /// Sets the seed of the first episode; every following one adds 1. Default: a hash of the session
    /// id, which is different in every lab session and the same on every peer.
    ///
    /// It also seeds the [`conditions`](Self::conditions).
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Degrades what this peer sends, for experiments and tests: `latency=50ms,jitter=10ms,loss=15%`.
    /// Default: nothing.
    ///
    /// Each peer shapes its own packets, so `latency=50ms` on both is a round trip of 100 ms more.
    /// The grammar with all keys and presets is in `docs/conditions.md`. The file records the
    /// conditions and what they did.
    #[must_use]
    pub fn conditions(mut self, spec: impl Into<String>) -> Self {
        self.conditions = spec.into();
        self
    }

    /// Sets the folder of the exported files. Default: `exports` in the working folder.
    ///
    /// It is created if it is missing. In a browser documents go to the page instead.
    #[must_use]
    pub fn export_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.export_dir = Some(dir.into());
        self
    }

    /// Writes no files: documents come with [`EpisodeEnded`](crate::record::EpisodeEnded) alone.
    #[must_use]
    pub fn no_files(mut self) -> Self {
        self.export_dir = None;
        self
    }

    /// Sets name and version of the game, at most 64 bytes each. Default: `game`, `0`.
    ///
    /// Peers with different games or versions refuse each other. Change the version whenever the
    /// simulation changes.
    #[must_use]
    pub fn game(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        self.game = name.into();
        self.game_version = version.into();
        self
    }

    /// Records one of the game's own settings in `episode.config` of every file. Peers must agree on
    /// all of them.
    ///
    /// ```
    /// use bevy_rollback_lab::config::LabConfig;
    ///
    /// let config = LabConfig::default().game_setting("ballSpeed", 1.5);
    /// assert_ne!(config.config_digest(), LabConfig::default().config_digest());
    /// ```
    #[must_use]
    pub fn game_setting(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.game_config.insert(name.into(), value.into());
        self
    }

    /// Checks every setting. [`RollbackLabPlugins`](crate::RollbackLabPlugins) does so when it is
    /// added; call it earlier to show the error to the person who made the settings.
    ///
    /// # Errors
    /// The first setting that cannot work, with the values that can.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.server.starts_with("ws://") && !self.server.starts_with("wss://") {
            return Err(ConfigError::Server(self.server.clone()));
        }
        let room_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let room_length = 1..=MAX_ROOM_BYTES;
        if !room_length.contains(&self.room.len()) || !self.room.chars().all(room_char) {
            return Err(ConfigError::Room(self.room.clone()));
        }
        self.validate_ranges()?;
        for (name, text) in [("game", &self.game), ("game_version", &self.game_version)] {
            if text.len() > MAX_GAME_BYTES {
                return Err(ConfigError::TooLong {
                    name,
                    length: text.len(),
                    max: MAX_GAME_BYTES,
                });
            }
        }
        Conditions::parse(&self.conditions)?;
        Ok(())
    }

    fn validate_ranges(&self) -> Result<(), ConfigError> {
        // Half of what a frame number holds: sums of two frames stay in range.
        let max_frames = i32::MAX as u64 / 2;
        let frame_limit = u64::from(self.frame_limit.unwrap_or(1));
        // An episode is numbered by 16 bits on the wire.
        let episodes = u64::from(self.episodes.unwrap_or(1));
        let ranges = [
            ("players", self.players as u64, 1, MAX_PLAYERS as u64),
            ("fps", u64::from(self.fps), 1, 240),
            (
                "input_delay",
                u64::from(self.input_delay),
                0,
                u64::from(MAX_INPUT_DELAY),
            ),
            ("max_prediction", u64::from(self.max_prediction), 1, 32),
            ("desync_interval", u64::from(self.desync_interval), 1, 600),
            ("frame_limit", frame_limit, 1, max_frames),
            ("episodes", episodes, 1, u64::from(u16::MAX)),
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
        Ok(())
    }

    /// The session's part.
    pub(crate) fn session_settings(&self) -> SessionSettings {
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

    /// Every link's part.
    pub(crate) fn link_settings(&self) -> LinkSettings {
        LinkSettings {
            policy: self.route_policy,
            fps: self.fps,
            max_prediction: self.max_prediction,
            input_delay: self.input_delay,
            return_to_direct: self.return_to_direct,
        }
    }

    /// The record's part.
    pub(crate) fn record_settings(&self) -> RecordSettings {
        RecordSettings {
            export_dir: self.export_dir.clone(),
            template: self.episode_template(),
        }
    }

    /// What is known of every episode before the peers have met.
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

    /// Seed of the network conditions: [`seed`](field@Self::seed), or a hash of the room's name.
    pub(crate) fn conditions_seed(&self) -> u64 {
        self.seed
            .unwrap_or_else(|| seahash::hash(self.room.as_bytes()))
    }

    /// The network's part.
    pub(crate) fn matchbox_settings(&self) -> MatchboxSettings {
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
}
