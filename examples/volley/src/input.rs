//! The input of a player: one byte on the wire, the names of the buttons in a file.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The buttons that one player holds during one frame.
///
/// A binary format (ggrs's wire) carries one byte. A readable one (the episode file) carries the
/// names joined by `+`, in the order left, right, jump, or `none`: an analysis script reads
/// `"left+jump"` and needs no table of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VolleyInput {
    bits: u8,
}

impl VolleyInput {
    /// Nothing is held.
    pub const NONE: Self = Self { bits: 0 };
    /// Run towards negative x.
    pub const LEFT: Self = Self { bits: 1 };
    /// Run towards positive x.
    pub const RIGHT: Self = Self { bits: 2 };
    /// Leave the ground, if standing on it.
    pub const JUMP: Self = Self { bits: 4 };

    /// Every button with its name, in the order in which names are written.
    pub const BUTTONS: [(Self, &'static str); 3] = [
        (Self::LEFT, "left"),
        (Self::RIGHT, "right"),
        (Self::JUMP, "jump"),
    ];

    /// The buttons of a byte from the wire. Bits without a button are dropped.
    pub const fn from_bits(bits: u8) -> Self {
        Self { bits: bits & 0b111 }
    }

    /// The byte that goes on the wire.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// Both sets of buttons together.
    pub const fn with(self, other: Self) -> Self {
        Self {
            bits: self.bits | other.bits,
        }
    }

    /// Whether every button of `other` is held.
    pub const fn holds(self, other: Self) -> bool {
        self.bits & other.bits == other.bits
    }

    /// The direction of running: -1, 0 or 1. Both directions at once stand still.
    pub const fn direction(self) -> i32 {
        self.holds(Self::RIGHT) as i32 - self.holds(Self::LEFT) as i32
    }

    /// The input mirrored at the net: left and right change places.
    pub const fn mirrored(self) -> Self {
        let jump = self.bits & Self::JUMP.bits;
        let left = self.bits & Self::LEFT.bits;
        let right = self.bits & Self::RIGHT.bits;
        Self {
            bits: jump | left << 1 | right >> 1,
        }
    }

    /// Reads what [`Display`](fmt::Display) writes; `None` if a name is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::NONE);
        }
        text.split('+').try_fold(Self::NONE, |held, name| {
            let (button, _) = Self::BUTTONS.iter().find(|(_, known)| *known == name)?;
            Some(held.with(*button))
        })
    }
}

impl fmt::Display for VolleyInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (button, name) in Self::BUTTONS {
            if self.holds(button) {
                write!(f, "{separator}{name}")?;
                separator = "+";
            }
        }
        if separator.is_empty() {
            f.write_str("none")?;
        }
        Ok(())
    }
}

impl Serialize for VolleyInput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u8(self.bits)
        }
    }
}

impl<'de> Deserialize<'de> for VolleyInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u8::deserialize(deserializer).map(Self::from_bits);
        }
        let text = String::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| de::Error::custom(format_args!("unknown volley input {text:?}")))
    }
}
