//! Why an episode or a lab session ended.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why an episode or a lab session ended: a reason of the library, or the game's own word.
///
/// Files hold it as a plain string, `endReason`. Reading a known word gives its variant, any other
/// word gives [`Game`](EndReason::Game), so that every file reads back as it was written.
///
/// ```
/// use rollback_lab_record::EndReason;
///
/// assert_eq!(EndReason::from("frameLimit"), EndReason::FrameLimit);
/// assert_eq!(EndReason::from("goal"), EndReason::Game("goal".into()));
/// assert_eq!(EndReason::PeerLeft.as_str(), "peerLeft");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "reflect", derive(bevy_reflect::Reflect))]
#[non_exhaustive]
pub enum EndReason {
    /// The episode's last frame was reached.
    FrameLimit,
    /// Every episode of the session was played.
    Completed,
    /// Not all players came in time.
    WaitTimeout,
    /// The peers met and could not reach each other.
    NeverConnected,
    /// Another player left, or no path to that player was left.
    PeerLeft,
    /// This peer's player left.
    LocalQuit,
    /// The game was in the background for longer than allowed.
    FocusTimeout,
    /// The peers computed different states.
    Desync,
    /// The server refused the room, or the peers' settings differ.
    Refused,
    /// The connection to the server was lost before the peers had met.
    ServerLost,
    /// The network task of this peer ended by a fault of its own.
    NetworkFailed,
    /// The ggrs session was removed from the world: the end of an observed game's episode.
    SessionRemoved,
    /// The app exited while the episode of an observed game ran.
    AppExit,
    /// The word that the game ended the episode with.
    Game(String),
}

impl EndReason {
    /// Every reason of the library, that is all but [`Game`](Self::Game).
    pub const KNOWN: [Self; 13] = [
        Self::FrameLimit,
        Self::Completed,
        Self::WaitTimeout,
        Self::NeverConnected,
        Self::PeerLeft,
        Self::LocalQuit,
        Self::FocusTimeout,
        Self::Desync,
        Self::Refused,
        Self::ServerLost,
        Self::NetworkFailed,
        Self::SessionRemoved,
        Self::AppExit,
    ];

    /// The text in the exported file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::FrameLimit => "frameLimit",
            Self::Completed => "completed",
            Self::WaitTimeout => "waitTimeout",
            Self::NeverConnected => "neverConnected",
            Self::PeerLeft => "peerLeft",
            Self::LocalQuit => "localQuit",
            Self::FocusTimeout => "focusTimeout",
            Self::Desync => "desync",
            Self::Refused => "refused",
            Self::ServerLost => "serverLost",
            Self::NetworkFailed => "networkFailed",
            Self::SessionRemoved => "sessionRemoved",
            Self::AppExit => "appExit",
            Self::Game(word) => word,
        }
    }

    fn known(text: &str) -> Option<Self> {
        Self::KNOWN
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for EndReason {
    fn from(text: &str) -> Self {
        Self::known(text).unwrap_or_else(|| Self::Game(text.to_owned()))
    }
}

impl From<String> for EndReason {
    fn from(text: String) -> Self {
        Self::known(&text).unwrap_or(Self::Game(text))
    }
}

impl FromStr for EndReason {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text))
    }
}

impl Serialize for EndReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EndReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Ok(Self::from(text.as_ref()))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for EndReason {
    fn schema_name() -> Cow<'static, str> {
        "EndReason".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let known: Vec<String> = Self::KNOWN.iter().map(Self::to_string).collect();
        schemars::json_schema!({
            "type": "string",
            "description": "Why an episode or a lab session ended: one of the examples, or the \
                            game's own word.",
            "examples": known,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_a_plain_string_and_reads_back() {
        let game = EndReason::Game(String::from("goal"));
        for reason in EndReason::KNOWN.into_iter().chain([game]) {
            let text = serde_json::to_value(&reason).unwrap();
            assert_eq!(text, reason.as_str());
            assert_eq!(serde_json::from_value::<EndReason>(text).unwrap(), reason);
        }
    }
}
