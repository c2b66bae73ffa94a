//! What every plugin that plays over a [`LabNet`] adds: the poll of the network before ggrs runs, the
//! flush and the evidence after it, the messages about peers and routes.

use bevy::prelude::*;
use bevy_ggrs::RunGgrsSystems;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::evidence::gather_evidence;
use super::input::check_input;
use super::{PeerNotice, RouteChanged, SessionInfo};
use crate::clock::LabClock;
use crate::ggrs_fixes::GgrsFixesPlugin;
use crate::rollback::RollbackLabSystems;
use crate::transport::LabNet;

/// The network is polled. What inserts the [`LabNet`] resource runs before.
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PollNetworkSystems;

/// # Panics
/// One player's serialized input does not fit into a datagram.
pub(super) fn plugin<C: Config<Address = PeerId>>(app: &mut App) {
    if let Err(error) = check_input::<C>() {
        panic!("input of the game: {error}");
    }
    app.init_resource::<LabClock>()
        .register_type::<SessionInfo>()
        .register_type::<PeerNotice>()
        .add_message::<RouteChanged>()
        .add_message::<PeerNotice>()
        .add_plugins(GgrsFixesPlugin::<C>::default())
        .configure_sets(PreUpdate, PollNetworkSystems.before(RunGgrsSystems))
        .add_systems(PreUpdate, poll_network.in_set(PollNetworkSystems))
        .add_systems(
            PreUpdate,
            flush_network
                .after(RunGgrsSystems)
                .after(RollbackLabSystems::Session),
        )
        // What a game with sessions of its own sends elsewhere in its update.
        .add_systems(Last, flush_network.after(RollbackLabSystems::Session))
        .add_systems(
            PreUpdate,
            gather_evidence
                .after(RunGgrsSystems)
                .before(RollbackLabSystems::Observe),
        );
}

/// Sends what ggrs sent in this update.
fn flush_network(net: Option<Res<LabNet>>) {
    if let Some(net) = net {
        net.flush();
    }
}

fn poll_network(net: Option<Res<LabNet>>) {
    if let Some(net) = net {
        net.poll();
    }
}
