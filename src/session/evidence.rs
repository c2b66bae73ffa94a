//! From the lab's links to the evidence behind a late input: the state of every link, and every packet
//! of inputs that came.

use bevy::prelude::*;

use super::SessionInfo;
use crate::rollback::Links;
use crate::rollback::trace::MAX_PLAYERS;
use crate::transport::{InputPacket, LabNet, PacketCursor};
use rollback_lab_link::cause::LinkEvidence;

/// Describes every link to the trace of rollbacks, and hands it the packets of inputs.
///
/// Runs in [`PreUpdate`] before the trace is drained.
pub(super) fn gather_evidence(
    net: Option<Res<LabNet>>,
    info: Option<Res<SessionInfo>>,
    links: Option<ResMut<Links>>,
    mut cursors: Local<[PacketCursor; MAX_PLAYERS]>,
) {
    let (Some(net), Some(info), Some(mut links)) = (net, info, links) else {
        return;
    };
    for player_slot in info
        .player_slots
        .iter()
        .filter(|player_slot| !player_slot.local)
    {
        let turn = net
            .candidate_pair(player_slot.peer)
            .is_some_and(|pair| pair.is_relayed());
        let link = net.link(player_slot.peer, |link| link.player_link(turn));
        if let Some(link) = link {
            links.set(player_slot.handle, link);
        }
        if let Some(cursor) = cursors.get_mut(player_slot.handle) {
            net.input_packets(player_slot.peer, cursor, |restarted, packet| {
                record_packet(&mut links, player_slot.handle, restarted, packet);
            });
        }
    }
}

fn record_packet(links: &mut LinkEvidence, player: usize, restarted: bool, packet: &InputPacket) {
    if restarted {
        links.restart(player);
    }
    match *packet {
        InputPacket::First { arrival, .. } => links.arrived(player, arrival),
        InputPacket::Copy { seq } => links.copied(player, seq),
    }
}
