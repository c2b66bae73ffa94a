//! One remote peer as the network task knows it: its link, and when its paths opened and closed.

use std::time::Duration;

use bevy_matchbox::matchbox_socket::{CandidatePair, PeerId};
use ggrs::{Frame, NULL_FRAME};

use crate::transport::exchange::PeerView;
use crate::transport::network::Received;
use rollback_lab_link::link::{Incoming, Link, LinkError};
use rollback_lab_link::route::RouteState;
use rollback_lab_link::wire::Path;

/// matchbox reports a peer that only left the server like one whose data channel closed. Silence
/// for this long distinguishes the two; a suspect route uses both paths long before. Between episodes
/// there is one probe a second, of which two may get lost.
const CLOSED_SILENCE: Duration = Duration::from_millis(2_500);

pub(super) struct Peer {
    pub(super) id: PeerId,
    pub(super) link: Link,
    /// Newest local input that some path took.
    pub(super) carried: Frame,
    /// When the direct path last brought anything.
    direct_at: Duration,
    /// When matchbox reported that the data channel closed.
    pub(super) closing: Option<Duration>,
    named_at: Duration,
    pub(super) usable_at: Option<Duration>,
    /// Control messages taken from the game.
    pub(super) control_taken: u64,
}

impl Peer {
    pub(super) fn new(id: PeerId, link: Link, now: Duration) -> Self {
        Self {
            id,
            link,
            carried: NULL_FRAME,
            direct_at: now,
            closing: None,
            named_at: now,
            usable_at: None,
            control_taken: 0,
        }
    }

    pub(super) fn start_epoch(&mut self, now: Duration, epoch: u16) {
        self.link.start_epoch(now, epoch);
        self.carried = NULL_FRAME;
    }

    /// Takes in one datagram, which arrived at or before `now`.
    pub(super) fn receive<'a>(
        &mut self,
        now: Duration,
        received: Received<'a>,
    ) -> Result<Incoming<'a>, LinkError> {
        let Received {
            path, at, bytes, ..
        } = received;
        if path == Path::Direct {
            self.direct_at = now;
        }
        self.link.receive_stamped(now, at, path, bytes)
    }

    /// Closes the direct path when it has been silent since matchbox reported it closed.
    pub(super) fn notice_closed(&mut self, now: Duration) {
        let Some(since) = self.closing else {
            return;
        };
        if self.direct_at <= since && now >= since.max(self.direct_at) + CLOSED_SILENCE {
            self.closing = None;
            self.link.direct_closed();
        }
    }

    pub(super) fn route_is_direct(&self) -> bool {
        matches!(self.link.route(), RouteState::Direct | RouteState::Suspect)
    }

    pub(super) fn view(&self, now: Duration, pair: Option<CandidatePair>) -> PeerView {
        PeerView {
            id: self.id,
            link: self.link.snapshot(now),
            pair,
            control_taken: self.control_taken,
            connect_time: self
                .usable_at
                .map(|usable| usable.saturating_sub(self.named_at)),
        }
    }
}
