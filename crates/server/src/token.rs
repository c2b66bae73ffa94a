//! Resume tokens: what a member needs to get its slot back, signed by the server.
//!
//! | bytes | |
//! |---|---|
//! | 1 | version |
//! | 1 | slot |
//! | 1 | 1 if the match runs, else 0 |
//! | 16 | peer id |
//! | 16 | nonce of the room |
//! | 8 | tag of the room's name and grouping |
//! | 8 | when it was issued, in Unix milliseconds |
//! | 8 | when it expires, in Unix milliseconds |
//! | 32 | keyed BLAKE3 hash of all before |
//!
//! Numbers are little-endian.

use std::time::Duration;

use matchbox_protocol::PeerId;
use rollback_lab_link::wire::relay::{MAX_MEMBERS, ResumeToken};
use thiserror::Error;

use crate::request::{Grouping, RoomRequest};
use crate::secret::ServerSecret;

const VERSION: u8 = 1;
const BODY_LEN: usize = 3 + 16 + 16 + TAG_LEN + 8 + 8;
const TOKEN_LEN: usize = BODY_LEN + blake3::OUT_LEN;
/// The tag only keeps a token from being used in another room; the signature is what cannot be forged.
const TAG_LEN: usize = 8;
/// How long a token is valid. A websocket that stays open renews nothing, so this is the longest match
/// that can be resumed: a day in the laboratory.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// First byte of what is hashed, so that a tag is never a signature.
const HASH_OF_ROOM: u8 = 1;
const HASH_OF_BODY: u8 = 2;

/// What a valid token states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// The member's id.
    pub peer: PeerId,
    /// The room, by its nonce.
    pub nonce: [u8; 16],
    /// The member's slot.
    pub slot: u8,
    /// Whether its match had begun.
    pub running: bool,
    /// When the token was issued, in Unix milliseconds.
    pub issued_ms: u64,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TokenError {
    /// It does not have the form of a token.
    #[error("token is malformed")]
    Malformed,
    /// This server's secret has not signed it.
    #[error("token is not signed with this server's secret")]
    Forged,
    /// It was issued for another room.
    #[error("token is for another room")]
    ForeignRoom,
    /// It is too old.
    #[error("token expired")]
    Expired,
}

/// Issues and checks tokens with one secret.
pub(crate) struct TokenKey([u8; blake3::KEY_LEN]);

impl TokenKey {
    /// The key of a secret.
    pub(crate) fn new(secret: &ServerSecret) -> Self {
        Self(blake3::derive_key(
            "rollback_lab_server resume token version 1",
            secret.as_bytes(),
        ))
    }

    /// Signs a token for a member of the room.
    pub(crate) fn issue(&self, room: &RoomRequest, claims: &Claims) -> ResumeToken {
        let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = claims.issued_ms.saturating_add(lifetime);
        let mut token = Vec::with_capacity(TOKEN_LEN);
        token.extend([VERSION, claims.slot, u8::from(claims.running)]);
        token.extend(claims.peer.0.as_bytes());
        token.extend(claims.nonce);
        token.extend(self.tag(room));
        token.extend(claims.issued_ms.to_le_bytes());
        token.extend(expires_ms.to_le_bytes());
        let signature = self.hash(HASH_OF_BODY, &[&token]);
        token.extend(signature.as_bytes());
        ResumeToken::new(&token).expect("91 bytes fit into a token")
    }

    /// Reads a token that a client of this room presents at `now_ms`.
    ///
    /// # Errors
    /// [`TokenError`], the signature being checked before anything that it covers.
    pub(crate) fn check(
        &self,
        room: &RoomRequest,
        token: &ResumeToken,
        now_ms: u64,
    ) -> Result<Claims, TokenError> {
        let token: &[u8; TOKEN_LEN] = token
            .as_bytes()
            .try_into()
            .map_err(|_| TokenError::Malformed)?;
        let (body, signature) = token.split_at(BODY_LEN);
        let signature: [u8; blake3::OUT_LEN] =
            signature.try_into().map_err(|_| TokenError::Malformed)?;
        // Hashes are compared in constant time.
        if self.hash(HASH_OF_BODY, &[body]) != signature {
            return Err(TokenError::Forged);
        }
        let (&[version, slot, running], body) =
            body.split_first_chunk().ok_or(TokenError::Malformed)?;
        let (&peer, body) = body
            .split_first_chunk::<16>()
            .ok_or(TokenError::Malformed)?;
        let (&nonce, body) = body
            .split_first_chunk::<16>()
            .ok_or(TokenError::Malformed)?;
        let (tag, body) = body
            .split_first_chunk::<TAG_LEN>()
            .ok_or(TokenError::Malformed)?;
        let (&issued, body) = body.split_first_chunk::<8>().ok_or(TokenError::Malformed)?;
        let (&expires, _) = body.split_first_chunk::<8>().ok_or(TokenError::Malformed)?;
        // A server of another version may share the secret.
        if version != VERSION || running > 1 || usize::from(slot) >= MAX_MEMBERS {
            return Err(TokenError::Malformed);
        }
        if *tag != self.tag(room) {
            return Err(TokenError::ForeignRoom);
        }
        if u64::from_le_bytes(expires) <= now_ms {
            return Err(TokenError::Expired);
        }
        Ok(Claims {
            peer: PeerId(
                Vec::from(peer)
                    .try_into()
                    .expect("16 bytes make a UUID of any content"),
            ),
            nonce,
            slot,
            running: running == 1,
            issued_ms: u64::from_le_bytes(issued),
        })
    }

    /// What a token keeps of the room's name and grouping.
    fn tag(&self, room: &RoomRequest) -> [u8; TAG_LEN] {
        let grouping = match room.grouping {
            Grouping::Open => [0, 0],
            Grouping::Players(n) => [1, n],
            Grouping::Next(n) => [2, n],
        };
        let hash = self.hash(HASH_OF_ROOM, &[&grouping, room.name.as_bytes()]);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hash.as_bytes()[..TAG_LEN]);
        tag
    }

    fn hash(&self, what: u8, parts: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[what]);
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::new_peer_id;

    const NOW: u64 = 1_700_000_000_000;
    const DAY: u64 = 24 * 60 * 60 * 1000;

    fn key(secret: &[u8]) -> TokenKey {
        TokenKey::new(&ServerSecret::new(secret).unwrap())
    }

    fn ours() -> TokenKey {
        key(b"the secret of these tests")
    }

    fn room(name: &str, grouping: Grouping) -> RoomRequest {
        RoomRequest {
            name: name.to_owned(),
            grouping,
        }
    }

    fn duel() -> RoomRequest {
        room("duel", Grouping::Players(2))
    }

    fn claims() -> Claims {
        Claims {
            peer: new_peer_id(),
            nonce: [7; 16],
            slot: 1,
            running: true,
            issued_ms: NOW,
        }
    }

    #[test]
    fn a_token_is_read_as_it_was_issued_also_by_another_server_with_the_secret() {
        let claims = claims();
        let token = ours().issue(&duel(), &claims);
        assert_eq!(token.as_bytes().len(), TOKEN_LEN);
        assert_eq!(ours().check(&duel(), &token, NOW), Ok(claims));
    }

    #[test]
    fn a_token_is_refused_from_the_end_of_its_day_on() {
        let token = ours().issue(&duel(), &claims());
        assert!(ours().check(&duel(), &token, NOW + DAY - 1).is_ok());
        assert_eq!(
            ours().check(&duel(), &token, NOW + DAY),
            Err(TokenError::Expired)
        );
    }

    #[test]
    fn a_token_is_good_for_its_room_alone() {
        let token = ours().issue(&duel(), &claims());
        for other in [
            room("due", Grouping::Players(2)),
            room("duel", Grouping::Players(3)),
            room("duel", Grouping::Next(2)),
            room("duel", Grouping::Open),
        ] {
            assert_eq!(
                ours().check(&other, &token, NOW),
                Err(TokenError::ForeignRoom),
                "{other:?}"
            );
        }
    }

    #[test]
    fn another_secret_refuses_the_token() {
        let token = key(b"another secret of 16+").issue(&duel(), &claims());
        assert_eq!(ours().check(&duel(), &token, NOW), Err(TokenError::Forged));
    }

    #[test]
    fn a_token_of_another_length_is_malformed() {
        let token = ours().issue(&duel(), &claims());
        for len in 1..TOKEN_LEN {
            let cut = ResumeToken::new(&token.as_bytes()[..len]).unwrap();
            assert_eq!(ours().check(&duel(), &cut, NOW), Err(TokenError::Malformed));
        }
        let mut longer = token.as_bytes().to_vec();
        longer.push(0);
        let longer = ResumeToken::new(&longer).unwrap();
        assert_eq!(
            ours().check(&duel(), &longer, NOW),
            Err(TokenError::Malformed)
        );
    }

    proptest! {
        #[test]
        fn a_changed_bit_anywhere_makes_a_forgery(at in 0..TOKEN_LEN * 8) {
            let token = ours().issue(&duel(), &claims());
            let mut bytes = token.as_bytes().to_vec();
            bytes[at / 8] ^= 1 << (at % 8);
            let changed = ResumeToken::new(&bytes).unwrap();
            prop_assert_eq!(ours().check(&duel(), &changed, NOW), Err(TokenError::Forged));
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 1..=128), now in any::<u64>(),
        ) {
            let token = ResumeToken::new(&bytes).unwrap();
            prop_assert!(ours().check(&duel(), &token, now).is_err());
        }
    }
}
