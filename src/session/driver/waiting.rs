//! Who is waited for, for a game that shows it.

use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::{Config, PlayerHandle};

use super::LabSession;
use super::meet::MEETING_TIMEOUT;
use crate::session::SessionPhase;
use crate::transport::LabNet;
use rollback_lab_link::link::LinkSnapshot;

/// What is waited for: see [`WaitingForPlayers`].
#[derive(Reflect, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingFor {
    /// Players come into the room.
    Players,
    /// Players who came answer, and a path to them opens.
    Answers,
    /// Players are ready for the episode; [`ReadyForEpisode`](crate::session::ReadyForEpisode) of their
    /// games, where [`auto_start`](crate::session::SessionSettings::auto_start) is off.
    Readiness,
}

/// Who is waited for and how long, while a lab session waits for players: show it to the participant.
/// Absent while it does not.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// fn show_waiting(waiting: Option<Res<WaitingForPlayers>>) {
///     let Some(waiting) = waiting else { return };
///     let (present, needed) = (waiting.present, waiting.needed);
///     match waiting.limit {
///         Some(limit) => info!(
///             "{present} of {needed} players, {} s of {} s",
///             waiting.waited.as_secs(),
///             limit.as_secs()
///         ),
///         None => info!("{present} of {needed} players are ready, not {:?}", waiting.missing),
///     }
/// }
/// # let mut app = App::new();
/// # app.add_systems(Update, show_waiting).update();
/// ```
#[derive(Resource, Reflect, Clone, Debug, PartialEq, Eq)]
#[reflect(Resource, Clone, Debug, PartialEq)]
pub struct WaitingForPlayers {
    /// What is waited for.
    pub what: WaitingFor,
    /// Players who are there, have answered or are ready; this peer's own included.
    pub present: usize,
    /// Players of the session.
    pub needed: usize,
    /// Handles of those who are waited for, this peer's own included if it is not ready itself. Empty
    /// while players come into the room: who is not there has no handle.
    pub missing: Vec<PlayerHandle>,
    /// For how long.
    pub waited: Duration,
    /// After how long the wait ends: for players the
    /// [`wait_timeout`](field@crate::LabConfig::wait_timeout), for their answers 30 s. `None` while
    /// players get ready, who may take their time.
    pub limit: Option<Duration>,
    /// Why a player was taken off last, if one was.
    pub taken_off: Option<String>,
}

impl<C: Config<Address = PeerId>> LabSession<C> {
    /// Keeps [`WaitingForPlayers`] in the world up to date.
    pub(super) fn show_waiting(&self, world: &mut World, net: &LabNet, now: Duration) {
        match self.waiting(net, now) {
            Some(waiting) => world.insert_resource(waiting),
            None => {
                world.remove_resource::<WaitingForPlayers>();
            }
        }
    }

    /// How long players have been waited for, over all times they gathered until they met.
    pub(super) fn waited(&self, now: Duration) -> Duration {
        self.waited + now.saturating_sub(self.since)
    }

    fn waiting(&self, net: &LabNet, now: Duration) -> Option<WaitingForPlayers> {
        let since = now.saturating_sub(self.since);
        let (what, waited, limit) = match self.phase {
            SessionPhase::Gathering => {
                let limit = self.settings.wait_timeout;
                (WaitingFor::Players, self.waited(now), Some(limit))
            }
            SessionPhase::Meeting => (WaitingFor::Answers, since, Some(MEETING_TIMEOUT)),
            SessionPhase::Between | SessionPhase::Starting => (WaitingFor::Readiness, since, None),
            _ => return None,
        };
        let answered = |peer| {
            self.greeted.contains(&peer) && net.link(peer, LinkSnapshot::usable).unwrap_or_default()
        };
        let missing: Vec<_> = self
            .room
            .player_slots()
            .iter()
            .filter(|slot| match what {
                WaitingFor::Players => false,
                WaitingFor::Answers => !slot.local && !answered(slot.peer),
                WaitingFor::Readiness if slot.local => self.phase == SessionPhase::Between,
                WaitingFor::Readiness => !self.is_ready(slot.peer),
            })
            .map(|slot| slot.handle)
            .collect();
        let needed = self.settings.players;
        let present = match what {
            WaitingFor::Players => self.room.attending().len(),
            WaitingFor::Answers | WaitingFor::Readiness => needed.saturating_sub(missing.len()),
        };
        Some(WaitingForPlayers {
            what,
            present,
            needed,
            missing,
            waited,
            limit,
            taken_off: self.taken_off.as_ref().map(ToString::to_string),
        })
    }

    /// Whether a peer is ready for this episode.
    fn is_ready(&self, peer: PeerId) -> bool {
        let epoch = self.epoch();
        self.ready
            .iter()
            .any(|ready| ready.peer == peer && ready.epoch == epoch)
    }
}
