//! Owns the glue from the lab's links to the evidence behind a late input. It hands on what the
//! transport noted of every packet of inputs, and decides nothing.

use bevy::prelude::*;

use super::SessionInfo;
use crate::clock::LabClock;
use crate::rollback::Links;
use crate::rollback::trace::MAX_PLAYERS;
use crate::transport::{InputPacket, LabNet, PacketCursor};
use rollback_lab_link::cause::{Arrival, Evidence, LinkEvidence, Pause, PlayerLink, RouteShift};
use rollback_lab_link::wire::Path;

/// Runs in [`PreUpdate`] before the trace is drained.
pub(super) fn gather(
    net: Option<Res<LabNet>>,
    info: Option<Res<SessionInfo>>,
    clock: Res<LabClock>,
    links: Option<ResMut<Links>>,
    mut cursors: Local<[PacketCursor; MAX_PLAYERS]>,
) {
    let (Some(net), Some(info), Some(mut links)) = (net, info, links) else {
        return;
    };
    let now = clock.now();
    for player_slot in info
        .player_slots
        .iter()
        .filter(|player_slot| !player_slot.local)
    {
        let turn = net
            .candidate_pair(player_slot.peer)
            .is_some_and(|pair| pair.is_relayed());
        let link = net.link(player_slot.peer, |link| {
            let late = link.late_evidence(now);
            let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
            // A variation and a gap both lie between two packets.
            let measured = link.stats().path(link.route_path()).received >= 2;
            PlayerLink {
                via: link.route().via(turn),
                evidence: Evidence {
                    rtt_ms: late.rtt.map(millis),
                    jitter_ms: measured.then(|| millis(late.jitter)),
                    lost_packets: measured.then_some(late.lost_packets),
                    frames_ahead: None,
                    peer_silence_ms: Some(millis(late.peer_silence)),
                    ..Evidence::default()
                },
                shift: late.route_shift.map(|shift| RouteShift {
                    at: shift.at,
                    left: shift.left,
                }),
                offset_us: link.clock_offset().map(|offset| offset.offset_us),
                frame: link.frame(),
                interval: link.interval(),
                covered: link.covered(),
            }
        });
        if let Some(link) = link {
            links.set(player_slot.handle, link);
        }
        if let Some(cursor) = cursors.get_mut(player_slot.handle) {
            net.input_packets(player_slot.peer, cursor, |restarted, packet| {
                hand_on(&mut links, player_slot.handle, restarted, packet);
            });
        }
    }
}

fn hand_on(links: &mut LinkEvidence, player: usize, restarted: bool, packet: &InputPacket) {
    if restarted {
        links.restart(player);
    }
    let header = &packet.packet;
    let Some((first, newest)) = packet.frames else {
        links.copied(player, header.seq);
        return;
    };
    links.arrived(
        player,
        Arrival {
            first,
            newest,
            sent: header.sent,
            at: packet.at,
            seq: header.seq,
            relay: packet.via == Path::Relay,
            alone: packet.alone,
            hidden: header.hidden,
            held: header.held,
            behind: header.behind,
            missing: header.missing,
            pause: header.pause.map(|pause| Pause {
                from: pause.from,
                to: pause.to,
                hidden: pause.hidden,
            }),
        },
    );
}
