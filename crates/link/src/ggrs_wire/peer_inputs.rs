//! What is kept of one remote peer's input packets on their way into ggrs: enough to let a session of
//! three go on when that peer leaves, and to name the rule when nothing gets through any more.

use std::collections::VecDeque;
use std::time::Duration;

use ggrs::NULL_FRAME;

use crate::frame::Frame;

use super::{BodyMirror, Checked, GgrsWireError, StatusMirror, read};

/// Input packets kept. Two peers that lose the same player at the same time differ by the packets that
/// were lost to one of them at the end: a burst of 16 is more than any lost that a match survives.
const RECENT: usize = 16;

/// Silence after which ggrs's time-out is held back: far below any, and longer than healthy jitter.
const HELD_AFTER: Duration = Duration::from_millis(100);

/// A peer's input packets that were refused, see [`PeerInputs::refused`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many, since the episode began.
    pub count: u64,
    /// The rule that the newest one broke.
    pub rule: Option<GgrsWireError>,
}

/// The input packets of one remote peer in one episode. The owner of the link feeds it with every
/// message that [`decode`](super::decode) accepts or refuses.
///
/// # When a player leaves
///
/// Survivors of a session of three must agree on the last input of the player who left, or they
/// simulate different games from there; ggrs 0.13 has no protocol for it. They pass on what the others
/// lack: [`reported`](Self::reported) says what a survivor has, [`packets_after`](Self::packets_after)
/// what it can be given. Then each [closes](Self::close) the player's inputs, and lets ggrs know of the
/// disconnection once it is [safe](Self::removable).
#[derive(Clone, Debug, Default)]
pub struct PeerInputs {
    /// Newest frame and bytes of the last packets with new inputs, oldest first.
    recent: VecDeque<(Frame, Vec<u8>)>,
    /// What the newest packet reports of every player.
    reported: Vec<(bool, Frame)>,
    /// The newest packet, whole: it is handed over again when more of it may reach ggrs.
    newest: Vec<u8>,
    last_frame: Frame,
    fresh_at: Duration,
    closed: bool,
    refused: Refused,
    unsent: u64,
    unsent_bytes: usize,
}

impl PeerInputs {
    /// Another episode begins.
    pub fn restart(&mut self, now: Duration) {
        *self = Self {
            last_frame: NULL_FRAME,
            fresh_at: now,
            ..Self::default()
        };
    }

    /// Records a message that was accepted, with its bytes as they came.
    pub fn record(&mut self, now: Duration, bytes: &[u8], checked: &Checked) {
        let Some(newest) = checked.newest_input_frame else {
            return;
        };
        self.record_statuses(bytes);
        self.newest.clear();
        self.newest.extend_from_slice(bytes);
        if newest <= self.last_frame {
            return;
        }
        self.last_frame = newest;
        self.fresh_at = now;
        let mut packet = match self.recent.len() {
            RECENT.. => self.recent.pop_front().map(|(_, packet)| packet),
            _ => None,
        }
        .unwrap_or_default();
        packet.clear();
        packet.extend_from_slice(bytes);
        self.recent.push_back((newest, packet));
    }

    /// Records what an input packet reports of every player.
    fn record_statuses(&mut self, bytes: &[u8]) {
        let Ok(message) = read(bytes) else {
            return;
        };
        if let BodyMirror::Input(input) = &message.body {
            let of = |status: &StatusMirror| (status.disconnected, status.last_frame);
            self.reported.clear();
            self.reported
                .extend(input.statuses.as_slice().iter().map(of));
        }
    }

    /// Records a message that broke a rule.
    pub fn record_refused(&mut self, rule: GgrsWireError) {
        self.refused.count += 1;
        self.refused.rule = Some(rule);
    }

    /// Records a message to the peer that is too long for a datagram, with its length.
    pub fn record_unsendable(&mut self, bytes: usize) {
        self.unsent += 1;
        self.unsent_bytes = bytes;
    }

    /// Messages of the peer that broke a rule.
    #[must_use]
    pub const fn refused(&self) -> &Refused {
        &self.refused
    }

    /// Messages to the peer that were too long for a datagram, and the length of the newest one.
    #[must_use]
    pub const fn unsendable(&self) -> (u64, usize) {
        (self.unsent, self.unsent_bytes)
    }

    /// The newest input frame of the peer; [`NULL_FRAME`] before the first.
    #[must_use]
    pub const fn last_frame(&self) -> Frame {
        self.last_frame
    }

    /// Time since an input came that no packet had brought before.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.fresh_at)
    }

    /// Whether the peer's newest input packet reports player `handle` as disconnected, and the newest
    /// input of that player that the peer has. `None` before its first input packet.
    #[must_use]
    pub fn reported(&self, handle: usize) -> Option<(bool, Frame)> {
        self.reported.get(handle).copied()
    }

    /// The packets that brought inputs beyond `frame`, oldest first: each continues the one before.
    pub fn packets_after(&self, frame: Frame) -> impl Iterator<Item = &[u8]> {
        self.recent
            .iter()
            .filter(move |(newest, _)| *newest > frame)
            .map(|(_, bytes)| bytes.as_slice())
    }

    /// The newest input packet, to be handed over once more when ggrs may read more of it.
    #[must_use]
    pub fn newest_packet(&self) -> Option<&[u8]> {
        (!self.newest.is_empty()).then_some(self.newest.as_slice())
    }

    /// Closes the inputs of a peer that has left: what still comes must not be handed over, because the
    /// other peers would not have it.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether they are closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether ggrs 0.13 can disconnect this peer's player while it stands at `current_frame`: it loads
    /// the frame after the player's last input, and asserts that this is in the past
    /// (`SyncLayer::load_frame`). While inputs are closed this does not become false again. In lockstep
    /// (`max_prediction` 0) nothing is loaded. With a window of 1 it never becomes true.
    #[must_use]
    pub const fn removable(&self, current_frame: Frame, max_prediction: Frame) -> bool {
        max_prediction == 0 || current_frame > self.last_frame.saturating_add(1)
    }

    /// Whether ggrs must not count its time-out now, because it could not disconnect the peer's player
    /// without a failed assertion: hand it a [`keep_alive`](super::keep_alive). A session that goes on
    /// gets past that moment within a window, one that is paused does not count.
    #[must_use]
    pub fn holds_time_out(&self, now: Duration, current: Frame, max_prediction: Frame) -> bool {
        self.silence(now) >= HELD_AFTER && !self.removable(current, max_prediction)
    }
}
