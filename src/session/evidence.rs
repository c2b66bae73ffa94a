//! Owns the glue from the lab's links to the evidence behind a late input. It reads counters of
//! the transport and never a packet.

use bevy::prelude::*;

use super::SessionInfo;
use crate::clock::LabClock;
use crate::rollback::Links;
use crate::rollback::cause::{Evidence, PlayerLink, Via};
use crate::transport::LabNet;
use crate::transport::route::RouteState;

/// Runs in [`PreUpdate`] before the trace is drained.
pub(super) fn gather(
    net: Option<Res<LabNet>>,
    info: Option<Res<SessionInfo>>,
    clock: Res<LabClock>,
    links: Option<ResMut<Links>>,
) {
    let (Some(net), Some(info), Some(mut links)) = (net, info, links) else {
        return;
    };
    let now = clock.now();
    for seat in info.seats.iter().filter(|seat| !seat.local) {
        let turn = net
            .candidate_pair(seat.peer)
            .is_some_and(|pair| pair.is_relayed());
        let link = net.link(seat.peer, |link| {
            let late = link.late_evidence(now);
            let millis = |time: std::time::Duration| time.as_secs_f64() * 1e3;
            // A variation and a gap both lie between two packets.
            let measured = link.stats().path(link.route_path()).received >= 2;
            PlayerLink {
                via: match link.route() {
                    RouteState::Direct | RouteState::Suspect if turn => Via::Turn,
                    RouteState::Direct | RouteState::Suspect => Via::Direct,
                    RouteState::Provisional | RouteState::Relay | RouteState::Survival => {
                        Via::Relay
                    }
                    RouteState::Connecting => Via::Unknown,
                },
                evidence: Evidence {
                    rtt_ms: late.rtt.map(millis),
                    jitter_ms: measured.then(|| millis(late.jitter)),
                    lost_packets: measured.then_some(late.lost_packets),
                    frames_ahead: None,
                    peer_silence_ms: Some(millis(late.peer_silence)),
                },
                route_changed_at: late.route_changed,
            }
        });
        if let Some(link) = link {
            links.set(seat.handle, link);
        }
    }
}
