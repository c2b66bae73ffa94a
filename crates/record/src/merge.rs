//! Merges the files of one episode into one document on one clock. What each peer observed stays side
//! by side; nothing that a file says is changed.
//!
//! ```
//! use rollback_lab_record::{EpisodeDocument, merge::merge};
//!
//! # let text = include_str!("../tests/golden/episode.json");
//! # let files = [EpisodeDocument::parse(text)?];
//! let merged = merge(&files)?;
//! for peer in &merged.clock.peers {
//!     println!("player {}: {} us, by {:?}", peer.player_id, peer.offset_us, peer.method);
//! }
//! for rollback in &merged.rollbacks {
//!     println!("{} us: {:?}", rollback.at_us, rollback.cause);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use super::causes;
use super::check::check_pair;
use super::{CustomEvent, EpisodeDocument, LatencySample, Schema, TimesUs};

mod clocks;
mod document;
mod sender;

pub use clocks::{ClockMethod, PeerOffset};
pub use document::{
    Agreement, Background, Claim, MERGED_SCHEMA, MERGED_VERSION, MergeError, MergedClock,
    MergedEpisode, MergedPeer, MergedRollback, MergedSession, MergedTimes, Observed,
};
pub use sender::{RouteLabel, SenderView};

/// A file and how its times become those of the one clock.
struct Placed<'a> {
    player: usize,
    document: &'a EpisodeDocument,
    /// First simulations of its frames, by its own clock.
    times: Vec<i64>,
    offset: PeerOffset,
}

/// Puts the files of one episode, one per peer, on one clock.
///
/// # Errors
/// [`MergeError`] when the files are not of one episode and one per player.
pub fn merge(documents: &[EpisodeDocument]) -> Result<MergedEpisode, MergeError> {
    let placed = place(documents)?;
    let Some(reference) = placed.first() else {
        return Err(MergeError::Nothing);
    };
    let document = reference.document;
    Ok(MergedEpisode {
        schema: Schema {
            name: MERGED_SCHEMA.to_owned(),
            version: MERGED_VERSION.to_owned(),
        },
        session: session(&placed, document),
        episode: document.episode.clone(),
        clock: MergedClock {
            reference_player_id: reference.player,
            origin_unix_ms: document.clock.origin_unix_ms,
            peers: placed.iter().map(|peer| peer.offset.clone()).collect(),
        },
        agreement: agreement(&placed),
        confirmed: placed
            .iter()
            .max_by_key(|peer| (peer.document.sync.confirmed_frame, usize::MAX - peer.player))
            .map(|peer| peer.document.inputs.confirmed.clone())
            .unwrap_or_default(),
        peers: placed.iter().map(peer).collect(),
        rollbacks: rollbacks(&placed),
        stalls: observed(&placed, |file| &file.frames.stalls, |stall| stall.at_us),
        route_changes: observed(
            &placed,
            |file| &file.quality.route_changes,
            |change| change.at_us,
        ),
        latency: latency(&placed),
        desyncs: observed(&placed, |file| &file.sync.desyncs, |desync| desync.at_us),
        background: background(&placed),
        custom: custom(&placed),
    })
}

/// Orders the files by player and finds each one's offset from the first.
fn place(documents: &[EpisodeDocument]) -> Result<Vec<Placed<'_>>, MergeError> {
    let mut files = Vec::new();
    for document in documents {
        let player = document
            .session
            .local_player_id
            .ok_or(MergeError::NoPlayer)?;
        files.push((player, document));
    }
    files.sort_by_key(|(player, _)| *player);
    let of = |document: &EpisodeDocument| {
        let num = document.episode.episode_num;
        format!("{}-{num}", document.session.session_id)
    };
    for pair in files.windows(2) {
        let ((one, first), (two, second)) = (pair[0], pair[1]);
        if of(first) != of(second) {
            return Err(MergeError::DifferentEpisodes {
                one: of(first),
                other: of(second),
            });
        }
        if one == two {
            return Err(MergeError::SamePlayer { player: one });
        }
    }
    let Some(&(reference, reference_file)) = files.first() else {
        return Ok(Vec::new());
    };
    Ok(files
        .into_iter()
        .map(|(player, document)| Placed {
            player,
            document,
            times: clocks::times(document),
            offset: clocks::offset((reference, reference_file), (player, document)),
        })
        .collect())
}

impl Placed<'_> {
    /// A time of this file on the one clock.
    fn time(&self, at_us: u64) -> i64 {
        self.offset.apply(at_us)
    }

    /// A wall-clock time of this file on the one clock.
    fn wall(&self, unix_ms: u64) -> i64 {
        let since = i128::from(unix_ms) - i128::from(self.document.clock.origin_unix_ms);
        // A period may have begun before the clock's origin.
        let at_us = i64::try_from(since * 1000).unwrap_or_default();
        self.offset.apply_signed(at_us)
    }
}

fn session(placed: &[Placed<'_>], document: &EpisodeDocument) -> MergedSession {
    let session = &document.session;
    let file_of = |player: usize| placed.iter().find(|peer| peer.player == player);
    MergedSession {
        session_id: session.session_id.clone(),
        room: session.room.clone(),
        study_id: session.study_id.clone(),
        group_id: session.group_id.clone(),
        route_policy: session.route_policy,
        players: session
            .players
            .iter()
            .map(|player| {
                let own = file_of(player.player_id).and_then(|peer| {
                    let players = &peer.document.session.players;
                    players.iter().find(|own| own.player_id == player.player_id)
                });
                own.unwrap_or(player).clone()
            })
            .collect(),
        missing_player_ids: session
            .player_ids
            .iter()
            .copied()
            .filter(|player| file_of(*player).is_none())
            .collect(),
    }
}

fn agreement(placed: &[Placed<'_>]) -> Agreement {
    let mut violations = Vec::new();
    for (index, one) in placed.iter().enumerate() {
        for other in &placed[index + 1..] {
            let found = check_pair(one.document, other.document);
            violations.extend(found.iter().map(|violation| {
                let pair = Pair(one.player, other.player);
                format!("{pair}: {violation}")
            }));
        }
    }
    Agreement {
        agrees: violations.is_empty(),
        violations,
        claims: placed
            .iter()
            .map(|peer| Claim {
                player_id: peer.player,
                status: peer.document.sync.status,
                confirmed_frame: peer.document.sync.confirmed_frame,
                history_digest: peer.document.sync.history_digest,
            })
            .collect(),
    }
}

struct Pair(usize, usize);

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "players {} and {}", self.0, self.1)
    }
}

fn peer(placed: &Placed<'_>) -> MergedPeer {
    let document = placed.document;
    let TimesUs { first, deltas } = &document.timeline.frame_at_us;
    MergedPeer {
        player_id: placed.player,
        software: document.software.clone(),
        is_partial: document.episode.is_partial,
        frames: document.frames.clone(),
        conditions: document.quality.conditions.clone(),
        routes: document.connection.peers.clone(),
        frame_at_us: MergedTimes {
            first: first.map(|at_us| placed.time(at_us)),
            deltas: deltas.clone(),
        },
        lateness: document.timeline.lateness.clone(),
    }
}

/// Everything of one kind, in order of time.
fn observed<T: Clone>(
    placed: &[Placed<'_>],
    events: impl Fn(&EpisodeDocument) -> &Vec<T>,
    at_us: impl Fn(&T) -> u64,
) -> Vec<Observed<T>> {
    let mut all: Vec<_> = placed
        .iter()
        .flat_map(|peer| {
            events(peer.document).iter().map(|event| Observed {
                observer_id: peer.player,
                at_us: peer.time(at_us(event)),
                event: event.clone(),
            })
        })
        .collect();
    all.sort_by_key(|observed| (observed.at_us, observed.observer_id));
    all
}

fn rollbacks(placed: &[Placed<'_>]) -> Vec<MergedRollback> {
    let events = observed(placed, |file| &file.rollbacks.events, |event| event.at_us);
    events
        .into_iter()
        .map(|rollback| {
            let peer = placed
                .iter()
                .find(|peer| peer.player == rollback.event.player_id);
            MergedRollback {
                sender: peer.and_then(|peer| sender::view(peer, &rollback)),
                cause: peer.map_or(rollback.event.cause, |peer| {
                    causes::finalise(&rollback.event, peer.document)
                }),
                observer_id: rollback.observer_id,
                at_us: rollback.at_us,
                event: rollback.event,
            }
        })
        .collect()
}

fn latency(placed: &[Placed<'_>]) -> Vec<Observed<LatencySample>> {
    let mut all: Vec<_> = placed
        .iter()
        .flat_map(|peer| {
            peer.document.latency.samples.iter().map(|sample| Observed {
                observer_id: peer.player,
                at_us: peer.wall(sample.timestamp),
                event: sample.clone(),
            })
        })
        .collect();
    all.sort_by_key(|sample| (sample.at_us, sample.observer_id));
    all
}

fn background(placed: &[Placed<'_>]) -> Vec<Background> {
    let mut all: Vec<_> = placed
        .iter()
        .flat_map(|peer| {
            let periods = &peer.document.focus_loss.background_periods;
            periods.iter().map(|period| Background {
                observer_id: peer.player,
                at_us: peer.wall(period.start),
                duration_ms: period.duration_ms,
            })
        })
        .collect();
    all.sort_by_key(|period| (period.at_us, period.observer_id));
    all
}

/// An event whose time is not known has no place on a clock; it stands in its own file.
fn custom(placed: &[Placed<'_>]) -> Vec<Observed<CustomEvent>> {
    let mut all: Vec<_> = placed
        .iter()
        .flat_map(|peer| {
            peer.document.custom.events.iter().filter_map(|event| {
                Some(Observed {
                    observer_id: peer.player,
                    at_us: peer.time(event.at_us?),
                    event: event.clone(),
                })
            })
        })
        .collect();
    all.sort_by_key(|event| (event.at_us, event.observer_id));
    all
}
