//! What the file of the player whose input was late says about that input.

use serde::{Deserialize, Serialize};

use super::{Observed, Placed};
use crate::{RollbackEvent, RouteState, Via};

/// The late input where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SenderView {
    /// The frame in whose tick the input was read: its input delay before the frame it is applied at.
    pub read_at_frame: i32,
    /// When that frame was first simulated there, on the one clock.
    pub read_at_us: i64,
    /// From then until the observer's correction ran, as far as the clocks can be trusted.
    pub until_corrected_us: i64,
    /// Time since the frame before was first simulated there: long if that game stood still.
    pub frame_time_us: Option<u64>,
    /// Ticks in which that frame had to wait there.
    pub stalled_ticks: u64,
    /// Whether that game was in the background.
    pub in_background: bool,
    /// State of that player's route to the observer. `null` if its file holds none.
    pub route: Option<RouteLabel>,
    /// When that route last changed before the correction, on the one clock.
    pub route_changed_at_us: Option<i64>,
}

/// What a route was at some moment of a merged episode: a state where a file lists a change of it,
/// else the route in use at the end of that file's episode. A document holds one plain string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RouteLabel {
    /// The state that the route was in.
    State(RouteState),
    /// The route in use, for example [`Via::Turn`].
    InUse(Via),
}

impl RouteLabel {
    /// The text in the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State(state) => state.as_str(),
            Self::InUse(via) => via.as_str(),
        }
    }
}

/// What `peer` says about the input that `rollback` corrected. `None` for inputs of the first
/// frames, which no player pressed, and for frames that its file does not reach.
pub(super) fn view(peer: &Placed<'_>, rollback: &Observed<RollbackEvent>) -> Option<SenderView> {
    let document = peer.document;
    let delays = &document.episode.input_delay_frames;
    let delay = delays.get(&peer.player).copied().unwrap_or(0);
    let read_at_frame = rollback.event.frame.checked_sub_unsigned(delay)?;
    let index = usize::try_from(read_at_frame).ok()?;
    let read_at = *peer.times.get(index)?;
    let read_at_us = peer.offset.apply_signed(read_at);
    let background = &document.focus_loss.background_periods;
    let route = last_change(peer, rollback);
    Some(SenderView {
        read_at_frame,
        read_at_us,
        until_corrected_us: rollback.at_us.saturating_sub(read_at_us),
        frame_time_us: index.checked_sub(1).and_then(|before| {
            u64::try_from(read_at.saturating_sub(*peer.times.get(before)?)).ok()
        }),
        stalled_ticks: document
            .frames
            .stalls
            .iter()
            .filter(|stall| stall.frame == read_at_frame)
            .map(|stall| stall.ticks)
            .sum(),
        in_background: background.iter().any(|period| {
            let end = period.end.map_or(i64::MAX, |end| peer.wall(end));
            (peer.wall(period.start)..=end).contains(&read_at_us)
        }),
        route: route
            .as_ref()
            .map(|(state, _)| RouteLabel::State(*state))
            .or_else(|| route_without_changes(peer, rollback.observer_id)),
        route_changed_at_us: route.map(|(_, at_us)| at_us),
    })
}

fn last_change(peer: &Placed<'_>, rollback: &Observed<RollbackEvent>) -> Option<(RouteState, i64)> {
    let changes = &peer.document.quality.route_changes;
    changes
        .iter()
        .filter(|change| change.player_id == rollback.observer_id)
        .map(|change| (change.to, peer.time(change.at_us)))
        .take_while(|(_, at_us)| *at_us <= rollback.at_us)
        .last()
}

/// Before its first change a route was what that change left, without one what it is at the end.
fn route_without_changes(peer: &Placed<'_>, observer: usize) -> Option<RouteLabel> {
    let document = peer.document;
    let changes = &document.quality.route_changes;
    let first = changes.iter().find(|change| change.player_id == observer);
    first
        .map(|change| RouteLabel::State(change.from))
        .or_else(|| {
            let peers = &document.connection.peers;
            let peer = peers.iter().find(|peer| peer.player_id == observer)?;
            peer.route.map(RouteLabel::InUse)
        })
}
