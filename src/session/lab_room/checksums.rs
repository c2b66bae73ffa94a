//! Desyncs of a game that brings its own session: ggrs reports them to the game alone, but the checksums
//! of the other peers come through the room.

use std::collections::VecDeque;

use bevy::ecs::message::MessageCursor;
use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, Frame};

use crate::clock::LabClock;
use crate::rollback::trace::Fact;
use crate::rollback::{DesyncDetected, TraceLog};
use crate::session::SessionInfo;
use crate::transport::LabNet;

/// Frames whose own checksum is kept. A report is older than the newest frame by a round trip and two
/// prediction windows at most.
const KEPT: usize = 512;
/// Reports kept until their frame is confirmed here; the oldest one gives way. In a game without checksums
/// of its own no frame ever is.
const EARLY: usize = 128;

/// The checksums of the running episode that can still be compared.
pub(super) struct Checksums<I: Copy + Send + Sync + 'static> {
    /// What was read of the trace.
    facts: MessageCursor<Fact<I>>,
    /// This peer's, of confirmed frames in order.
    own: VecDeque<(Frame, u128)>,
    /// Reports about frames that are not confirmed here.
    early: Vec<(PeerId, Frame, u128)>,
    /// The first desync of the episode is logged; after it every compared frame differs.
    logged: bool,
}

impl<I: Copy + Send + Sync + 'static> Default for Checksums<I> {
    fn default() -> Self {
        Self {
            facts: MessageCursor::default(),
            own: VecDeque::new(),
            early: Vec::new(),
            logged: false,
        }
    }
}

impl<I: Copy + Send + Sync + 'static> Checksums<I> {
    fn read(&mut self, facts: &Messages<Fact<I>>) {
        let mut cursor = std::mem::take(&mut self.facts);
        for fact in cursor.read(facts) {
            match fact {
                Fact::Began { .. } => {
                    self.own.clear();
                    self.early.clear();
                    self.logged = false;
                }
                &Fact::Confirmed {
                    frame,
                    checksum: Some(checksum),
                    ..
                } => self.confirm(frame, checksum),
                _ => {}
            }
        }
        self.facts = cursor;
    }

    fn confirm(&mut self, frame: Frame, checksum: u128) {
        if self.own.len() == KEPT {
            self.own.pop_front();
        }
        self.own.push_back((frame, checksum));
    }

    /// Compares the reports that can be compared by now; those about older frames are dropped.
    fn compare(&mut self, mut differs: impl FnMut(PeerId, Frame, u128, u128)) {
        let excess = self.early.len().saturating_sub(EARLY);
        self.early.drain(..excess);
        let Some(&(newest, _)) = self.own.back() else {
            return;
        };
        let own = &self.own;
        self.early.retain(|&(peer, frame, theirs)| {
            if frame > newest {
                return true;
            }
            let found = own.binary_search_by_key(&frame, |&(frame, _)| frame);
            if let Ok(index) = found
                && own[index].1 != theirs
            {
                differs(peer, frame, own[index].1, theirs);
            }
            false
        });
    }
}

/// Compares the checksums that other peers report with this peer's, unless the observers read ggrs's
/// events, which say the same.
///
/// Runs in [`PreUpdate`] after ggrs's steps.
pub(super) fn compare_checksums<C: Config<Address = PeerId>>(
    log: Option<Res<TraceLog<C>>>,
    net: Option<Res<LabNet>>,
    info: Option<Res<SessionInfo>>,
    clock: Res<LabClock>,
    facts: Option<Res<Messages<Fact<C::Input>>>>,
    mut checksums: Local<Checksums<C::Input>>,
    mut desyncs: Option<MessageWriter<DesyncDetected>>,
) {
    let (Some(log), Some(net), Some(info), Some(facts)) = (log, net, info, facts) else {
        return;
    };
    let Some(desyncs) = desyncs.as_mut().filter(|_| !log.reads_events()) else {
        return;
    };
    checksums.read(&facts);
    net.drain_checksums(&mut checksums.early);
    let mut logged = checksums.logged;
    checksums.compare(|peer, frame, local_checksum, remote_checksum| {
        let of_peer = info.player_slots.iter().filter(|slot| slot.peer == peer);
        let players: Vec<usize> = of_peer.map(|slot| slot.handle).collect();
        if !std::mem::replace(&mut logged, true) {
            warn!("players {players:?} have another state before frame {frame}");
        }
        desyncs.write(DesyncDetected {
            at: clock.now(),
            frame,
            local_checksum,
            remote_checksum,
            players,
        });
    });
    checksums.logged = logged;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u128) -> PeerId {
        PeerId(uuid::Uuid::from_u128(number))
    }

    fn compared(checksums: &mut Checksums<u8>) -> Vec<(PeerId, Frame)> {
        let mut differ = Vec::new();
        checksums.compare(|peer, frame, _, _| differ.push((peer, frame)));
        differ
    }

    #[test]
    fn a_report_waits_for_its_frame_and_is_compared_once() {
        let mut checksums = Checksums::<u8>::default();
        checksums.early.extend([(peer(1), 10, 7), (peer(2), 10, 8)]);
        assert_eq!(compared(&mut checksums), []);
        checksums.confirm(10, 7);
        assert_eq!(compared(&mut checksums), [(peer(2), 10)]);
        assert_eq!(compared(&mut checksums), []);
    }

    #[test]
    fn a_report_about_a_frame_long_forgotten_is_no_desync() {
        let mut checksums = Checksums::<u8>::default();
        for frame in 0..2_000 {
            checksums.confirm(frame, 7);
        }
        checksums.early.push((peer(1), 10, 8));
        assert_eq!(compared(&mut checksums), []);
        assert!(checksums.early.is_empty());
        assert_eq!(checksums.own.len(), KEPT);
    }

    #[test]
    fn reports_to_a_game_without_checksums_are_bounded() {
        let mut checksums = Checksums::<u8>::default();
        for frame in 0..10_000 {
            checksums.early.push((peer(1), frame, 7));
            assert_eq!(compared(&mut checksums), []);
        }
        assert_eq!(checksums.early.len(), EARLY);
    }
}
