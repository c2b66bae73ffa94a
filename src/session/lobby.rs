//! The pure part of meeting: the members of a room become ordered player slots, a session id and
//! seeds, the same on every peer.

use std::hash::Hasher;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::PlayerHandle;
use seahash::SeaHasher;

/// A player's place in the session: see [`SessionInfo::player_slots`](super::SessionInfo::player_slots).
#[derive(Reflect, Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlayerSlot {
    /// The ggrs player handle.
    pub handle: PlayerHandle,
    /// The peer that plays.
    #[reflect(ignore, default = "no_peer")]
    pub peer: PeerId,
    /// Whether that is this peer.
    pub local: bool,
}

/// A peer id is not reflected; a slot made by reflection alone has none.
fn no_peer() -> PeerId {
    PeerId(uuid::Uuid::nil())
}

/// Orders the members of a room into player slots: by server slot, which is the same on every peer; on
/// a stock server all of them are 0 and the peer id decides.
pub(super) fn player_slots(local: PeerId, members: &[(u8, PeerId)]) -> Vec<PlayerSlot> {
    let mut members = members.to_vec();
    members.sort();
    members.dedup_by_key(|(_, peer)| *peer);
    members
        .into_iter()
        .enumerate()
        .map(|(handle, (_, peer))| PlayerSlot {
            handle,
            peer,
            local: peer == local,
        })
        .collect()
}

/// The id of a lab session: 32 hex digits over room, sorted peer ids and the server's nonce.
pub(super) fn session_id(room: &str, player_slots: &[PlayerSlot], nonce: &[u8; 16]) -> String {
    let mut ids: Vec<_> = player_slots
        .iter()
        .map(|player_slot| player_slot.peer)
        .collect();
    ids.sort();
    // Two keyed halves: 64 bits alone would collide among some billions of sessions.
    let half = |key: u64| {
        let mut hasher = SeaHasher::with_seeds(key, !key, key.rotate_left(32), 1);
        hasher.write_u64(room.len() as u64);
        hasher.write(room.as_bytes());
        for id in &ids {
            hasher.write(id.0.as_bytes());
        }
        hasher.write(nonce);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0x6c61_6273), half(0x6573_7369))
}

/// The epoch of the first episode of a session, below `limit`: a hash of the session's id.
pub(super) fn first_epoch(session_id: &str, limit: u16) -> u16 {
    let hash = seahash::hash(session_id.as_bytes()) % u64::from(limit);
    u16::try_from(hash).expect("a remainder of 16 bits fits")
}

/// The seed of an episode: configured plus its number, or a hash of session id and number.
pub(super) fn episode_seed(configured: Option<u64>, session_id: &str, number: u32) -> u64 {
    if let Some(seed) = configured {
        return seed.wrapping_add(u64::from(number));
    }
    let mut hasher = SeaHasher::new();
    hasher.write(session_id.as_bytes());
    hasher.write_u32(number);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> PeerId {
        serde_json::from_value(serde_json::json!(format!(
            "{n:08x}-0000-0000-0000-000000000000"
        )))
        .unwrap()
    }

    #[test]
    fn every_peer_computes_the_same_slots_and_id() {
        let members = [(0, peer(9)), (1, peer(3)), (2, peer(5))];
        let mut reversed = members;
        reversed.reverse();
        for (_, local) in members {
            let ours = player_slots(local, &members);
            let theirs = player_slots(peer(9), &reversed);
            let order = |player_slots: &[PlayerSlot]| {
                player_slots.iter().map(|s| s.peer).collect::<Vec<_>>()
            };
            assert_eq!(
                order(&ours),
                order(&theirs),
                "handles are the same on every peer"
            );
            assert_eq!(
                ours.iter().filter(|player_slot| player_slot.local).count(),
                1
            );
            assert_eq!(
                session_id("room", &ours, &[7; 16]),
                session_id("room", &theirs, &[7; 16])
            );
        }
    }

    #[test]
    fn another_room_nonce_or_peer_is_another_session() {
        let two = player_slots(peer(1), &[(0, peer(1)), (1, peer(2))]);
        let other = player_slots(peer(1), &[(0, peer(1)), (1, peer(3))]);
        let id = session_id("room", &two, &[0; 16]);
        assert_eq!(id.len(), 32);
        assert_ne!(id, session_id("moor", &two, &[0; 16]));
        assert_ne!(id, session_id("room", &two, &[1; 16]));
        assert_ne!(id, session_id("room", &other, &[0; 16]));
    }

    #[test]
    fn a_configured_seed_counts_up_and_a_derived_one_differs_per_episode() {
        assert_eq!(episode_seed(Some(7), "id", 2), 9);
        assert_ne!(episode_seed(None, "id", 0), episode_seed(None, "id", 1));
        assert_eq!(episode_seed(None, "id", 1), episode_seed(None, "id", 1));
    }
}
