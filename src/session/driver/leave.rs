//! Leaving the room: by the game's wish, after the last episode, or because the app exits. The others are
//! notified, and the network stays until they have acknowledged it.

use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::LabSession;
use super::play::END_REPORT_TIMEOUT;
use crate::clock::LabClock;
use crate::metrics::EpisodeRecord;
use crate::rollback::Links;
use crate::session::{SessionInfo, SessionPhase};
use crate::transport::LabNet;
use rollback_lab_link::wire::{ByeReason, ControlMessage};

/// How long a finished or failed session waits at most for the acknowledgement of its last messages: as
/// long as the others wait for it at the end of an episode.
pub(super) const LEAVE_MAX: Duration = END_REPORT_TIMEOUT;
/// How long leaving by the game's wish waits: 30 repeats of a lost message. A participant who goes back
/// to the menu because no peer answers should be able to join again soon.
pub(super) const QUIT_MAX: Duration = Duration::from_secs(3);
/// How long a player is waited for who is not in the room any more: ten repeats. It closed its
/// connection, or lost it and is still reached directly.
const OFF_MAX: Duration = Duration::from_secs(1);
/// How long the connection to the server may take to close: the queued packets and the close frame go out
/// in a task of its own, and a room that is joined again at once must have a free slot.
const CLOSE_TIME: Duration = Duration::from_millis(200);
/// How long an app that exits waits for the acknowledgement of its last messages: a few repeats. The
/// others wait for 35 s for a peer that was lost without one.
#[cfg(not(target_arch = "wasm32"))]
const EXIT_MAX: Duration = Duration::from_millis(500);

/// Trigger it to leave the lab session: the other players are notified, a running episode ends with a partial
/// file, and [`SessionPhase::Idle`](crate::session::SessionPhase::Idle) follows, after 3 s at the latest.
///
/// In any phase. Until then the phase is [`Leaving`](crate::session::SessionPhase::Leaving), and no update
/// waits. An episode that has ended here is completed by the reports of the others first. What the
/// episode spawned stays in the world: despawn it with your game's screen, or leave that to the start of
/// the next episode. [`JoinLab`](crate::JoinLab) has an example.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// fn back_to_menu(mut commands: Commands) {
///     commands.trigger(LeaveLab);
/// }
/// # bevy::ecs::system::assert_is_system(back_to_menu);
/// ```
#[derive(Event, Reflect, Clone, Copy, Debug, Default)]
pub struct LeaveLab;

/// Notes that the game wants to leave. Not done at once: it may be asked for in the middle of a ggrs step.
pub(in crate::session) fn request_leave<C: Config<Address = PeerId>>(
    _: On<LeaveLab>,
    mut session: ResMut<LabSession<C>>,
) {
    session.request_leave();
}

impl<C: Config<Address = PeerId>> LabSession<C> {
    /// Leaves in the next step.
    pub(crate) fn request_leave(&mut self) {
        self.leave_requested = self.phase != SessionPhase::Idle;
    }

    /// Whether this peer is on its way to [`SessionPhase::Idle`].
    pub(crate) fn is_leaving(&self) -> bool {
        self.leave_requested || self.quit_at.is_some()
    }

    /// Whether there is no room, or it is left and its connection had the time to close.
    pub(crate) fn has_left(&self, now: Duration) -> bool {
        let closed = |at| now.saturating_sub(at) >= CLOSE_TIME;
        !self.joined || self.closed_at.is_some_and(closed)
    }

    /// A step without a network: a session that was refused has nothing to leave.
    pub(super) fn step_offline(&mut self, world: &mut World, now: Duration) {
        if std::mem::take(&mut self.leave_requested) && !self.joined {
            self.enter(world, SessionPhase::Idle, now);
        }
    }

    /// Leaves by the game's wish.
    pub(super) fn quit(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        if self.quit_at.is_some() {
            return;
        }
        self.quit_at = Some(now);
        match self.phase {
            SessionPhase::Idle | SessionPhase::Leaving => {}
            // The episode is over: the reports of the others complete its file, and they may need the
            // last inputs of this peer for theirs.
            SessionPhase::Ending => {}
            SessionPhase::Finished | SessionPhase::Failed => {
                self.enter(world, SessionPhase::Leaving, now);
            }
            _ => {
                self.stop_here(world, now, "localQuit", true);
                self.depart(world, net, now, ByeReason::Left, "localQuit");
            }
        }
    }

    /// Notifies the others that this peer leaves, and records why the session ends here.
    pub(super) fn depart(
        &mut self,
        world: &mut World,
        net: &LabNet,
        now: Duration,
        reason: ByeReason,
        end: &'static str,
    ) {
        self.send_to_all(net, &ControlMessage::Bye { reason });
        self.finalize(world);
        self.abandon(world, net, now);
        self.end = Some(end);
        self.enter(world, SessionPhase::Leaving, now);
    }

    pub(super) fn leaving(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        let limit = match self.quit_at {
            Some(_) => QUIT_MAX,
            None => LEAVE_MAX,
        };
        self.close_when_acknowledged(net, now, limit);
        if !self.has_left(now) {
            return;
        }
        // What was annotated belongs to no later session.
        if let Some(mut record) = world.get_resource_mut::<EpisodeRecord>() {
            record.take_annotations();
            record.drop_events();
        }
        if self.quit_at.is_none() {
            self.enter(world, SessionPhase::Finished, now);
            return;
        }
        self.joined = false;
        world.remove_resource::<LabNet>();
        world.remove_resource::<SessionInfo>();
        if let Some(mut links) = world.get_resource_mut::<Links>() {
            links.clear();
        }
        self.enter(world, SessionPhase::Idle, now);
    }

    /// Leaves the room once the others have acknowledged everything that was sent to them, or after
    /// `limit`. One that left itself acknowledges nothing any more, and its own message of that may be lost.
    pub(super) fn close_when_acknowledged(&mut self, net: &LabNet, now: Duration, limit: Duration) {
        let waited = now.saturating_sub(self.since);
        let off = |peer| waited >= OFF_MAX && self.room.is_off(peer);
        if self.closed_at.is_none() && (waited >= limit || self.all_acknowledged(net, off)) {
            net.close();
            self.closed_at = Some(now);
        }
    }

    fn all_acknowledged(&self, net: &LabNet, off: impl Fn(PeerId) -> bool) -> bool {
        self.room.remotes().all(|player_slot| {
            let peer = player_slot.peer;
            self.room.is_gone(peer) || off(peer) || net.unacked_control(peer) == 0
        })
    }

    /// The app exits: cuts a running episode short and notifies the others.
    fn exit(&mut self, world: &mut World, net: &LabNet, now: Duration) {
        self.follow_session(world);
        if !self.is_over() {
            // An episode that has ended here is complete but for the reports of the others.
            self.stop_here(world, now, "localQuit", true);
            self.depart(world, net, now, ByeReason::Left, "localQuit");
            self.phase = SessionPhase::Finished;
            let mut next = world.resource_mut::<NextState<SessionPhase>>();
            next.set(SessionPhase::Finished);
        }
        if self.phase == SessionPhase::Idle || self.closed_at.is_some() {
            return;
        }
        net.poll();
        #[cfg(not(target_arch = "wasm32"))]
        self.wait_for_acknowledgements(world, net);
        net.close();
        self.closed_at = Some(now);
    }

    /// There is no update after this one: what is lost now is not repeated. Virtual time does not pass
    /// here.
    #[cfg(not(target_arch = "wasm32"))]
    fn wait_for_acknowledgements(&self, world: &World, net: &LabNet) {
        /// A control message is due again after 100 ms.
        const POLL: Duration = Duration::from_millis(5);
        if world.resource::<LabClock>().is_manual() {
            return;
        }
        let until = std::time::Instant::now() + EXIT_MAX;
        while !self.all_acknowledged(net, |_| false) && std::time::Instant::now() < until {
            std::thread::sleep(POLL);
            net.poll();
        }
    }
}

/// Leaves the room when the app exits, so that the file of a running episode is written and the others
/// need not wait for this peer.
pub(in crate::session) fn leave_on_exit<C: Config<Address = PeerId>>(world: &mut World) {
    let exiting = world
        .get_resource::<Messages<AppExit>>()
        .is_some_and(|exits| !exits.is_empty());
    let Some(net) = world.get_resource::<LabNet>().cloned().filter(|_| exiting) else {
        return;
    };
    let now = world.resource::<LabClock>().now();
    world.try_resource_scope(|world, mut session: Mut<LabSession<C>>| {
        session.exit(world, &net, now);
    });
}
