//! Links with the lab's transport: its own numbers while it has a network, the observers' evidence
//! otherwise.

use std::time::Duration;

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

use super::LinkStats;
use crate::rollback::Links;
use crate::session::SessionInfo;
use crate::transport::LabNet;
use crate::{RouteState, Via};

/// Where the numbers of links come from.
#[derive(SystemParam)]
pub(super) struct LinkSource<'w> {
    net: Option<Res<'w, LabNet>>,
    info: Option<Res<'w, SessionInfo>>,
    observed: Option<Res<'w, Links>>,
}

impl LinkSource<'_> {
    /// Adds an entry per remote player.
    pub(super) fn read(&self, links: &mut Vec<LinkStats>) {
        let (Some(net), Some(info)) = (&self.net, &self.info) else {
            return super::observed_links(self.observed.as_deref(), links);
        };
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        for remote in info.player_slots.iter().filter(|slot| !slot.local) {
            let turn = net
                .candidate_pair(remote.peer)
                .is_some_and(|pair| pair.is_relayed());
            links.extend(net.link(remote.peer, |link| LinkStats {
                player: remote.handle,
                route: Some(link.route()),
                via: via(link.route(), turn),
                cause: link.last_change().map(|change| change.cause),
                rtt_ms: link.srtt().map(millis),
                jitter_ms: link.srtt().map(|_| millis(link.jitter())),
                margin_ms: link.margin(),
                hidden: link.peer_hidden(),
            }));
        }
    }
}

/// Where game packets go; `turn` if the direct path leads through a TURN server.
fn via(route: RouteState, turn: bool) -> Via {
    match route {
        RouteState::Connecting => Via::Unknown,
        RouteState::Direct | RouteState::Suspect if turn => Via::Turn,
        RouteState::Direct | RouteState::Suspect => Via::Direct,
        RouteState::Provisional | RouteState::Relay | RouteState::Survival => Via::Relay,
    }
}
