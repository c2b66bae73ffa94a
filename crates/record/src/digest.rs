//! The history digest: one number for everything that decided an episode. All that enters it stands
//! in the file, so that any reader can compute it again.
//!
//! The chain, with `‖` for concatenation and LE for little endian:
//!
//! ```text
//! d(0)   = seahash(utf8("bevy_rollback_lab.history.1"))
//! d(f+1) = seahash(LE64(d(f)) ‖ LE32(f) ‖ input(f, 0) ‖ LF ‖ input(f, 1) ‖ LF ‖ ... ‖ hash(f))
//! ```
//!
//! - `input(f, p)` is the applied input of player `p` at frame `f` (`inputs.confirmed`) as compact
//!   JSON in UTF-8, the keys of objects in ascending byte order.
//! - `hash(f)` is empty, except where `f` is a multiple of `sync.hashes.everyFrames` and the value
//!   there is not `null`: then its sixteen hex digits and LF.
//! - `historyDigest` is `d(n)`, `n` being the number of confirmed frames below `endFrame`.

use serde_json::Value;

/// A digest that grows frame by frame.
#[derive(Clone, Debug)]
pub struct HistoryDigest {
    state: u64,
    frame: u32,
    bytes: Vec<u8>,
}

impl Default for HistoryDigest {
    fn default() -> Self {
        Self {
            state: seahash::hash(b"bevy_rollback_lab.history.1"),
            frame: 0,
            bytes: Vec::new(),
        }
    }
}

impl HistoryDigest {
    /// Adds the next frame: the canonical inputs of all players, and the hash of its state if one
    /// is exported there.
    pub fn push<'a>(&mut self, inputs: impl IntoIterator<Item = &'a [u8]>, hash: Option<u64>) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.state.to_le_bytes());
        self.bytes.extend_from_slice(&self.frame.to_le_bytes());
        for input in inputs {
            self.bytes.extend_from_slice(input);
            self.bytes.push(b'\n');
        }
        if let Some(hash) = hash {
            self.bytes
                .extend_from_slice(format!("{hash:016x}\n").as_bytes());
        }
        self.state = seahash::hash(&self.bytes);
        self.frame += 1;
    }

    /// The digest of all frames so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.state
    }
}

/// A digest from runs of inputs, one list of `(input, count)` per player, for frames `0..frames`
/// or as far as every list reaches. `hash` returns the exported hash of a frame's state.
#[must_use]
pub fn of_runs(
    players: &[Vec<(Value, u32)>],
    frames: u32,
    hash: impl Fn(u32) -> Option<u64>,
) -> u64 {
    let mut digest = HistoryDigest::default();
    let mut cursors: Vec<Cursor<'_>> = players.iter().map(|runs| Cursor::new(runs)).collect();
    for frame in 0..frames {
        if cursors.is_empty() || !cursors.iter_mut().all(Cursor::advance) {
            break;
        }
        digest.push(
            cursors.iter().map(|cursor| cursor.bytes.as_slice()),
            hash(frame),
        );
    }
    digest.value()
}

/// Walks one player's runs; the bytes of an input are made once per run.
struct Cursor<'a> {
    runs: std::slice::Iter<'a, (Value, u32)>,
    left: u32,
    bytes: Vec<u8>,
}

impl<'a> Cursor<'a> {
    fn new(runs: &'a [(Value, u32)]) -> Self {
        Self {
            runs: runs.iter(),
            left: 0,
            bytes: Vec::new(),
        }
    }

    fn advance(&mut self) -> bool {
        while self.left == 0 {
            let Some((value, count)) = self.runs.next() else {
                return false;
            };
            self.left = *count;
            self.bytes.clear();
            canonical_json(value, &mut self.bytes);
        }
        self.left -= 1;
        true
    }
}

/// Compact JSON with the keys of objects in ascending byte order, however the map keeps them.
pub fn canonical_json(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                canonical_json(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            out.push(b'{');
            for (position, (key, item)) in entries.into_iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                out.push(b':');
                canonical_json(item, out);
            }
            out.push(b'}');
        }
        leaf => out.extend_from_slice(leaf.to_string().as_bytes()),
    }
}

/// The 64 bits of a checksum that are exported: both halves combined by exclusive or, so that a
/// checksum of 64 bits stays as it is.
#[must_use]
pub fn fold_checksum(checksum: u128) -> u64 {
    (checksum as u64) ^ ((checksum >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn canonical_json_sorts_keys_at_every_depth() {
        let value: Value =
            serde_json::from_str(r#"{"b":{"z":1,"a":[{"d":2,"c":"\""}]},"a":1.5}"#).unwrap();
        let mut out = Vec::new();
        canonical_json(&value, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, r#"{"a":1.5,"b":{"a":[{"c":"\"","d":2}],"z":1}}"#);
    }

    #[test]
    fn the_chain_is_the_documented_one() {
        let mut expected = seahash::hash(b"bevy_rollback_lab.history.1");
        for (frame, text) in [(0u32, "3\n0\n00000000000000ff\n"), (1, "3\n1\n")] {
            let mut bytes = expected.to_le_bytes().to_vec();
            bytes.extend_from_slice(&frame.to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
            expected = seahash::hash(&bytes);
        }
        let players = [vec![(json!(3), 2)], vec![(json!(0), 1), (json!(1), 1)]];
        let hash = |frame| (frame == 0).then_some(0xff);
        assert_eq!(of_runs(&players, 2, hash), expected);
        assert_eq!(
            of_runs(&players, 9, hash),
            expected,
            "it ends where the runs end"
        );
        assert_ne!(of_runs(&players, 1, hash), expected);
    }
}
