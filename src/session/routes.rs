//! Owns how a change of route is told: by player, once it is known who is who. The links decide.

use bevy::log::info;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Frame;

use super::RouteChanged;
use super::room::Room;
use crate::transport::LabNet;
use rollback_lab_link::route::RouteChange;

/// Changes that nobody was told of yet: by peer, with the next frame to simulate.
pub(super) type PendingRoutes = Vec<(PeerId, Option<Frame>, RouteChange)>;

/// Moves the changes of `net` to `tell`. They wait in `pending` until everybody has a seat.
pub(super) fn report_changes(
    net: &LabNet,
    room: &Room,
    pending: &mut PendingRoutes,
    mut tell: impl FnMut(RouteChanged),
) {
    net.drain_route_changes(pending);
    if room.player_slots().is_empty() {
        return;
    }
    for (peer, frame, change) in pending.drain(..) {
        let Some(player) = room.player_of(peer) else {
            continue;
        };
        info!(
            "route to player {player}: {:?} -> {:?} ({:?}, {} {:.1}, threshold {:.1})",
            change.from, change.to, change.cause, change.metric, change.value, change.threshold
        );
        tell(RouteChanged {
            player,
            peer,
            frame,
            change,
        });
    }
}
