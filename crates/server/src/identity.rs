//! Makes peer ids and room nonces, and keeps when a peer was active. Ids and nonces are unlikely to collide and hard to guess, but they are
//! names, not secrets: knowing one must not admit a client to anything.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use matchbox_protocol::PeerId;

/// 16 bytes that differ from those of every other call: a keyed hash (`SipHash`, keys from the
/// operating system) of a counter.
pub(crate) fn random_bytes() -> [u8; 16] {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&KEYS.hash_one((number, 0_u8)).to_le_bytes());
    bytes[8..].copy_from_slice(&KEYS.hash_one((number, 1_u8)).to_le_bytes());
    bytes
}

/// A new peer id, in the form of a random (version 4) UUID.
pub(crate) fn new_peer_id() -> PeerId {
    let mut bytes = random_bytes();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    PeerId(
        Vec::from(bytes)
            .try_into()
            .expect("16 bytes make a UUID of any content"),
    )
}

/// A number that no other websocket of this process has.
pub(crate) fn next_connection() -> u64 {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    CONNECTIONS.fetch_add(1, Ordering::Relaxed)
}

/// When something last came over a websocket: written by its reader, read under its room's lock.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    after_us: AtomicU64,
}

impl Activity {
    /// Nothing has come since it was opened.
    pub(crate) fn new(opened: Instant) -> Self {
        Self {
            opened,
            after_us: AtomicU64::new(0),
        }
    }

    /// Something came at `now`.
    pub(crate) fn record(&self, now: Instant) {
        self.after_us.store(self.micros(now), Ordering::Relaxed);
    }

    /// Whether anything came after `moment`.
    pub(crate) fn since(&self, moment: Instant) -> bool {
        moment < self.opened || self.after_us.load(Ordering::Relaxed) > self.micros(moment)
    }

    fn micros(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.opened).as_micros();
        u64::try_from(after).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_read_as_version_4() {
        let ids: HashSet<_> = (0..1000).map(|_| new_peer_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.to_string().as_bytes()[14] == b'4'));
    }
}
