//! The end of an episode that stands still: because a rule keeps packets out, or without an end.

use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::Session;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::LabSession;
use crate::session::standstill::{Standstill, reports};
use crate::transport::LabNet;

impl<C: Config<Address = PeerId>> LabSession<C> {
    /// Fails when refused or unsendable packets have kept every frame away for two seconds, or a player's
    /// game for five minutes.
    pub(super) fn fail_if_stuck(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let Some(Session::P2P(session)) = world.get_resource::<Session<C>>() else {
            return;
        };
        if world.resource::<Time>().delta().is_zero() {
            // A paused game waits for no other player.
            self.standstill = Standstill::default();
            return;
        }
        let stands = (session.current_frame(), session.confirmed_frame());
        let (room, standstill) = (&self.room, &mut self.standstill);
        let error = standstill.watch(now, stands, || reports(net, now, room.remotes()));
        if let Some(error) = error {
            self.fail(world, net, now, error);
        }
    }
}
