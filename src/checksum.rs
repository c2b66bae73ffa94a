//! [`portable_hash`]: a hash of game state that is equal natively and in a browser.

use std::hash::{Hash, Hasher};

use bevy_ggrs::checksum_hasher;

/// Hashes `value` to the same number natively and in a browser.
///
/// Give it to `checksum_component` and `checksum_resource` of `bevy_ggrs` in a game that browsers and
/// native peers play together. `checksum_component_with_hash` uses `Hash` directly, and that hashes
/// `usize`, the variant of an enum and the length of an array or a `Vec` at the width of a pointer:
/// 4 bytes on wasm32, 8 on a 64-bit platform. Two equal worlds then report a desync.
///
/// Two differences remain: a slice, an array or a `Vec` *of* `usize` or `isize` is hashed as raw
/// memory (keep such state as `u32` or `u64`), and floats may differ in their last bits between
/// platforms.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_ggrs::RollbackApp;
/// use bevy_rollback_lab::prelude::*;
///
/// #[derive(Component, Clone, Copy, Hash)]
/// enum Facing { Left, Right }
///
/// # let mut app = App::new();
/// # app.add_plugins(bevy_ggrs::GgrsPlugin::<bevy_ggrs::GgrsConfig<u8>>::default());
/// app.rollback_component_with_copy::<Facing>()
///     .checksum_component::<Facing>(portable_hash);
/// ```
pub fn portable_hash<T: Hash>(value: &T) -> u64 {
    let mut hasher = FixedWidth(checksum_hasher());
    value.hash(&mut hasher);
    hasher.finish()
}

/// Hashes integers of a pointer's width as 64 bits.
struct FixedWidth<H>(H);

impl<H: Hasher> Hasher for FixedWidth<H> {
    fn finish(&self) -> u64 {
        self.0.finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn write_usize(&mut self, value: usize) {
        self.0.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.0.write_i64(value as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hasher of a machine whose pointers have `N` bytes; it keeps the bytes it gets.
    struct Pointers<const N: usize>(Vec<u8>);

    impl<const N: usize> Hasher for Pointers<N> {
        fn finish(&self) -> u64 {
            0
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }

        fn write_usize(&mut self, value: usize) {
            self.0.extend_from_slice(&(value as u64).to_le_bytes()[..N]);
        }

        fn write_isize(&mut self, value: isize) {
            self.0.extend_from_slice(&(value as i64).to_le_bytes()[..N]);
        }
    }

    #[derive(Hash)]
    enum Phase {
        Serve,
        Rally { hits: u8 },
    }

    fn hashed_bytes<const N: usize>(value: &impl Hash) -> [Vec<u8>; 2] {
        let mut plain = Pointers::<N>(Vec::new());
        value.hash(&mut plain);
        let mut fixed = FixedWidth(Pointers::<N>(Vec::new()));
        value.hash(&mut fixed);
        [plain.0, fixed.0.0]
    }

    #[test]
    fn handles_variants_and_lengths_hash_alike_on_32_and_64_bits() {
        let state = (
            3_usize,
            -1_isize,
            [1_u8, 2],
            Phase::Rally { hits: 4 },
            Phase::Serve,
        );
        let ([plain_32, fixed_32], [plain_64, fixed_64]) =
            (hashed_bytes::<4>(&state), hashed_bytes::<8>(&state));
        assert_ne!(
            plain_32, plain_64,
            "`Hash` alone differs: that is why this exists"
        );
        assert_eq!(fixed_32, fixed_64);
    }
}
