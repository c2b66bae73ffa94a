//! What peers compare before they play: settings that must be the same on all of them.

use rollback_lab_link::wire::{Hello, MAX_SETTINGS, WIRE_VERSION};

use super::LabConfig;
use crate::record::SCHEMA_VERSION;

impl LabConfig {
    /// What peers compare in their first message.
    pub(super) fn hello(&self) -> Hello {
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
            settings: self.named_settings(),
            route_policy: self.route_policy as u8,
        }
    }

    /// What [`config_digest`](Self::config_digest) covers, by name: the game's own settings as
    /// `game_setting.<name>`. Those that do not fit into a hello are left out.
    fn named_settings(&self) -> Vec<(String, String)> {
        let own = [
            (
                "frame_limit",
                self.frame_limit.map(|limit| limit.to_string()),
            ),
            (
                "episodes",
                self.episodes.map(|episodes| episodes.to_string()),
            ),
            ("seed", self.seed.map(|seed| seed.to_string())),
            ("return_to_direct", Some(self.return_to_direct.to_string())),
        ];
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let game = self
            .game_config
            .iter()
            .map(|(name, value)| (format!("game_setting.{name}"), shortened(value.to_string())));
        let mut left = MAX_SETTINGS;
        own.chain(game)
            .take_while(|(name, value)| {
                let fits = left.checked_sub(name.len() + value.len());
                left = fits.unwrap_or_default();
                fits.is_some()
            })
            .collect()
    }

    /// Hash of what must be the same on every peer and is not compared by itself: the game's own
    /// settings, the frame limit, the number of episodes, a configured seed, whether failback is
    /// allowed. `episode.configDigest` of the files, in 16 hex digits.
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
}

/// A value as an error can show it. The digest at the end differs where the part left out does.
fn shortened(value: String) -> String {
    const LONGEST: usize = 60;
    if value.len() <= LONGEST {
        return value;
    }
    let digest = seahash::hash(value.as_bytes());
    let start: String = value.chars().take(LONGEST - 30).collect();
    format!("{start}... ({digest:016x})")
}

#[cfg(test)]
mod tests {
    use rollback_lab_link::wire::{ControlMessage, encode_control};

    use super::*;

    #[test]
    fn a_hello_names_every_setting_that_fits_into_it() {
        let long: Vec<u32> = (0..200).collect();
        let mut config = LabConfig::new("ws://localhost", "room")
            .frame_limit(100)
            .game_setting("ball", 1.5)
            .game_setting("court", long.clone());
        let settings = config.hello().settings;
        let value = |name: &str| {
            let setting = settings.iter().find(|(of, _)| of == name);
            setting.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        assert_eq!(value("frame_limit"), "100");
        assert_eq!(value("episodes"), "", "not set");
        assert_eq!(value("game_setting.ball"), "1.5");
        let court = value("game_setting.court");
        assert!(court.starts_with("[0,1,2,"), "{court}");
        assert!(court.len() < 70, "{court}");
        let mut other = long;
        other[199] = 0;
        let other = config.clone().game_setting("court", other).hello();
        let mismatch = config.hello().mismatch(&other).unwrap();
        assert_eq!(mismatch.field, "game_setting.court");
        for number in 0..100 {
            config = config.game_setting(format!("setting {number}"), "some text");
        }
        let hello = config.hello();
        assert!(hello.settings.len() > 10);
        let message = ControlMessage::Hello(hello);
        assert!(encode_control(0, 0, Some(&message)).is_ok());
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
