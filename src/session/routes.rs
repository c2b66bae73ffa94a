//! Route changes as [`RouteChanged`] messages: by player, once the player slots are assigned.

use bevy::log::info;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Frame;

use super::RouteChanged;
use super::room::RoomView;
use crate::transport::LabNet;
use rollback_lab_link::route::RouteChange;

/// Changes that are not reported yet: by peer, with the next frame to simulate.
pub(super) type PendingRoutes = Vec<(PeerId, Option<Frame>, RouteChange)>;

/// Moves the changes of `net` to `emit`. They wait in `pending` until the player slots are assigned.
pub(super) fn report_changes(
    net: &LabNet,
    room: &RoomView,
    pending: &mut PendingRoutes,
    mut emit: impl FnMut(RouteChanged),
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
        emit(RouteChanged {
            player,
            peer,
            frame,
            change,
        });
    }
}
