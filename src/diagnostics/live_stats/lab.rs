//! Owns what a lab session tells of its links: the transport's numbers where it has a network, the
//! observers' evidence otherwise.

use bevy::ecs::system::SystemParam;
use bevy::prelude::*;

use super::LinkVitals;
use crate::rollback::Links;
use crate::session::SessionInfo;
use crate::transport::LabNet;
use rollback_lab_link::route::RouteState;

/// Everything that knows a link.
#[derive(SystemParam)]
pub(super) struct LinkSource<'w> {
    net: Option<Res<'w, LabNet>>,
    info: Option<Res<'w, SessionInfo>>,
    observed: Option<Res<'w, Links>>,
}

impl LinkSource<'_> {
    /// Adds a line per remote player.
    pub(super) fn read(&self, links: &mut Vec<LinkVitals>) {
        let (Some(net), Some(info)) = (&self.net, &self.info) else {
            return super::observed_links(self.observed.as_deref(), links);
        };
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        for player_slot in info
            .player_slots
            .iter()
            .filter(|player_slot| !player_slot.local)
        {
            let turn = net
                .candidate_pair(player_slot.peer)
                .is_some_and(|pair| pair.is_relayed());
            links.extend(net.link(player_slot.peer, |link| LinkVitals {
                player: player_slot.handle,
                route: match link.route() {
                    RouteState::Direct if turn => "turn",
                    route => route.as_str(),
                },
                cause: link.last_change().map(|change| change.cause.as_str()),
                rtt_ms: link.srtt().map(millis),
                jitter_ms: link.srtt().map(|_| millis(link.jitter())),
                margin_ms: link.margin(),
                hidden: link.peer_hidden(),
            }));
        }
    }
}
