//! The desync bundle: what one peer kept of the states around the first frame in which two peers
//! differed, and the comparison of two such halves.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DocumentError, Hex64, Schema, SessionMeta, Software};

/// `schema.name` of a desync bundle.
pub const DESYNC_SCHEMA: &str = "bevy_rollback_lab.desync";

/// One peer's half of a desync: the content of `desync-<n>.player-<k>.json`, written when the
/// desync is seen. Put beside the other peer's it says what differed, and from which frame on.
///
/// States are kept at the frames whose checksums peers compare; what made them differ happened
/// after the newest frame that is equal in both halves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DesyncBundle {
    /// Name and version of the format.
    pub schema: Schema,
    /// What ran.
    pub software: Software,
    /// Who played.
    pub session: SessionMeta,
    /// `sessionId` and number, as in the episode's file.
    pub episode_id: String,
    /// Counts from 0 within the lab session.
    pub episode_num: u32,
    /// First compared frame whose states differed. `null` if only the digests of the whole history
    /// did, at the end: the states of the last frames come too late to be compared.
    pub first_differing_frame: Option<i32>,
    /// Peers compare the states of every so-manieth frame.
    pub compared_every_frames: u32,
    /// This peer's hash of that state, or its digest of the history.
    pub local_hash: Hex64,
    /// The other peer's.
    pub remote_hash: Hex64,
    /// Handles of the players on the other peer.
    pub remote_players: Vec<usize>,
    /// When it was seen, on this file's clock.
    pub at_us: u64,
    /// Confirmed states around that frame, oldest first, as the game prints them; empty if it does
    /// not print any.
    pub snapshots: Vec<Snapshot>,
    /// The inputs applied at every frame from the first snapshot to the last, every player.
    pub inputs: Vec<FrameInputs>,
}

/// A confirmed state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Snapshot {
    /// Its frame.
    pub frame: i32,
    /// Its hash. `null` where the game computes none.
    pub hash: Option<Hex64>,
    /// The game's own words.
    pub state: Value,
}

/// The inputs that turned a state into the next one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FrameInputs {
    /// The frame at which they were applied.
    pub frame: i32,
    /// One per player, by handle.
    pub inputs: Vec<Value>,
}

/// What two halves of a desync show together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Newest frame that both kept before the states differ. `None` if they never agree.
    pub last_equal_frame: Option<i32>,
    /// First frame that both kept and whose states differ. `None` if the printed states never do:
    /// then what differs is not printed.
    pub first_differing_frame: Option<i32>,
    /// What differs in it: a JSON pointer (RFC 6901) and both values, `None` where there is none.
    pub differences: Vec<(String, [Option<Value>; 2])>,
    /// Frames before it at which the inputs of the two differ: then it is no fault of the
    /// simulation.
    pub differing_inputs: Vec<i32>,
}

/// Why two files are no two halves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotHalves {
    /// They are about different episodes.
    #[error("one is about episode {0}, the other about {1}")]
    Episodes(String, String),
    /// One peer's half twice.
    #[error("both are of player {0:?}")]
    Players(Option<usize>),
}

impl DesyncBundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// Says what else it is.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        super::parse(text, DESYNC_SCHEMA)
    }

    /// Puts this half beside `other`.
    ///
    /// # Errors
    /// If they are no two halves of one desync.
    pub fn compare(&self, other: &Self) -> Result<Comparison, NotHalves> {
        if self.episode_id != other.episode_id {
            let ids = (self.episode_id.clone(), other.episode_id.clone());
            return Err(NotHalves::Episodes(ids.0, ids.1));
        }
        if self.session.local_player_id == other.session.local_player_id {
            return Err(NotHalves::Players(self.session.local_player_id));
        }
        let theirs: BTreeMap<i32, &Value> = states(other).collect();
        let mut comparison = Comparison::default();
        for (frame, ours) in states(self) {
            let Some(&theirs) = theirs.get(&frame) else {
                continue;
            };
            if ours == theirs {
                comparison.last_equal_frame = Some(frame);
                continue;
            }
            comparison.first_differing_frame = Some(frame);
            let mut path = String::new();
            differ(
                Some(ours),
                Some(theirs),
                &mut path,
                &mut comparison.differences,
            );
            break;
        }
        let theirs: BTreeMap<i32, &Vec<Value>> = inputs(other).collect();
        let until = comparison.first_differing_frame.unwrap_or(i32::MAX);
        comparison.differing_inputs = inputs(self)
            .filter(|(frame, ours)| {
                *frame < until && theirs.get(frame).is_some_and(|theirs| theirs != ours)
            })
            .map(|(frame, _)| frame)
            .collect();
        Ok(comparison)
    }
}

fn states(bundle: &DesyncBundle) -> impl Iterator<Item = (i32, &Value)> {
    bundle.snapshots.iter().map(|of| (of.frame, &of.state))
}

fn inputs(bundle: &DesyncBundle) -> impl Iterator<Item = (i32, &Vec<Value>)> {
    bundle.inputs.iter().map(|of| (of.frame, &of.inputs))
}

/// Gathers the smallest values that differ.
fn differ(
    ours: Option<&Value>,
    theirs: Option<&Value>,
    path: &mut String,
    found: &mut Vec<(String, [Option<Value>; 2])>,
) {
    if ours == theirs {
        return;
    }
    let mut into = |key: &str, ours: Option<&Value>, theirs: Option<&Value>| {
        let length = path.len();
        path.push('/');
        path.push_str(&key.replace('~', "~0").replace('/', "~1"));
        differ(ours, theirs, path, found);
        path.truncate(length);
    };
    match (ours, theirs) {
        (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
            let keys: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
            for key in keys {
                into(key, ours.get(key), theirs.get(key));
            }
        }
        (Some(Value::Array(ours)), Some(Value::Array(theirs))) => {
            for place in 0..ours.len().max(theirs.len()) {
                into(&place.to_string(), ours.get(place), theirs.get(place));
            }
        }
        _ => found.push((path.clone(), [ours.cloned(), theirs.cloned()])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn half(player: usize, states: &[(i32, Value)]) -> DesyncBundle {
        DesyncBundle {
            schema: Schema {
                name: DESYNC_SCHEMA.to_owned(),
                version: super::super::SCHEMA_VERSION.to_owned(),
            },
            software: Software::default(),
            session: SessionMeta {
                local_player_id: Some(player),
                ..SessionMeta::default()
            },
            episode_id: String::from("s.0"),
            episode_num: 0,
            first_differing_frame: Some(20),
            compared_every_frames: 10,
            local_hash: Hex64(1),
            remote_hash: Hex64(2),
            remote_players: vec![1 - player],
            at_us: 5,
            snapshots: states
                .iter()
                .map(|(frame, state)| Snapshot {
                    frame: *frame,
                    hash: None,
                    state: state.clone(),
                })
                .collect(),
            inputs: vec![FrameInputs {
                frame: 10,
                inputs: vec![json!("left"), json!("none")],
            }],
        }
    }

    #[test]
    fn the_first_difference_is_named_with_both_values_and_what_lies_behind_it_is_not() {
        let ours = half(
            0,
            &[
                (10, json!({"ball": {"x": 1}})),
                (20, json!({"ball": {"x": 2, "a/b": 1}, "list": [1, 2]})),
                (30, json!({"ball": {"x": 9}})),
            ],
        );
        let theirs = half(
            1,
            &[
                (10, json!({"ball": {"x": 1}})),
                (20, json!({"ball": {"x": 3}, "list": [1]})),
                (30, json!({"ball": {"x": 8}})),
            ],
        );
        let compared = ours.compare(&theirs).unwrap();
        assert_eq!(compared.last_equal_frame, Some(10));
        assert_eq!(compared.first_differing_frame, Some(20));
        assert_eq!(
            compared.differences,
            [
                ("/ball/a~1b".to_owned(), [Some(json!(1)), None]),
                ("/ball/x".to_owned(), [Some(json!(2)), Some(json!(3))]),
                ("/list/1".to_owned(), [Some(json!(2)), None]),
            ]
        );
        assert!(compared.differing_inputs.is_empty());
    }

    #[test]
    fn inputs_that_differ_are_distinguished_from_a_simulation_that_does() {
        let ours = half(0, &[(20, json!(1))]);
        let mut theirs = half(1, &[(20, json!(2))]);
        theirs.inputs[0].inputs[1] = json!("jump");
        assert_eq!(ours.compare(&theirs).unwrap().differing_inputs, [10]);
    }

    #[test]
    fn one_half_twice_and_halves_of_two_episodes_are_refused() {
        let ours = half(0, &[]);
        assert_eq!(ours.compare(&ours), Err(NotHalves::Players(Some(0))));
        let mut other = half(1, &[]);
        other.episode_id = String::from("s.1");
        assert!(matches!(ours.compare(&other), Err(NotHalves::Episodes(..))));
    }
}
