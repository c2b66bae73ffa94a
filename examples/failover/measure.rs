//! Owns what is measured of one peer, in the same way for every stack: the observers' facts about
//! its ggrs session, before and after the cut. Never touches a session or a socket.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::RollbackFrameCount;
use bevy_rollback_lab::RollbackLabSystems;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::trace::Fact;
use bevy_rollback_lab::rollback::{SessionEvent, SessionEventKind};

use volley::input::VolleyInput;

/// Frames after the start in which peers wait for each other: they pass the start up to a few
/// round trips apart.
const START: usize = 30;

/// The moment from which every direct packet of a match is dropped: when the first of its peers
/// reaches a frame.
#[derive(Resource, Clone)]
pub(crate) struct Cut {
    at: i32,
    clock: LabClock,
    moment: Arc<OnceLock<Duration>>,
}

impl Cut {
    /// A cut at this frame.
    pub(crate) fn new(at: i32, clock: LabClock) -> Self {
        Self {
            at,
            clock,
            moment: Arc::default(),
        }
    }

    /// When it was made, if it was.
    pub(crate) fn moment(&self) -> Option<Duration> {
        self.moment.get().copied()
    }

    /// From its moment to a later one; none before it.
    pub(crate) fn until(&self, later: Duration) -> Option<Duration> {
        later.checked_sub(self.moment()?)
    }

    fn note(&self, frame: i32) {
        if frame >= self.at {
            self.moment.get_or_init(|| self.clock.now());
        }
    }
}

/// How a match ended for a peer.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// It was played to its last frame by both.
    Whole,
    /// The other peer was declared gone, so long after the cut.
    OpponentGone(Duration),
    /// It failed.
    Failed(String),
}

/// What one peer came to.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// How its match ended.
    pub end: End,
    /// Ticks after the cut that simulated no new frame.
    pub stalled: u32,
    /// Longest time after the cut between the first simulations of two frames.
    pub longest_gap: Duration,
    /// The same before the cut.
    pub gap_before: Duration,
    /// Rollbacks after the cut.
    pub rollbacks: u32,
    /// From the cut to the first game packet that this peer handed to the relay.
    pub first_relayed: Option<Duration>,
    /// From the cut to the promotion of the route.
    pub failed_over: Option<Duration>,
    /// Game packets before the cut: on the direct path, on the relay. None where there is no relay.
    pub sent_before: Option<[u64; 2]>,
    /// Gaps in its own polling that its link noticed.
    pub own_stalls: u64,
}

/// Notes what the observers tell, and makes the cut when its frame is reached.
pub(crate) struct MeasurePlugin(pub Cut);

impl Plugin for MeasurePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.0.clone())
            .init_resource::<Measured>()
            // Once per update, after what the observers tell when an app exits.
            .add_systems(Last, record_facts.after(RollbackLabSystems::Observe))
            .add_systems(Update, make_cut);
    }
}

/// What was noted so far.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct Measured {
    /// First simulation of every frame.
    advanced: Vec<Duration>,
    /// Start and ticks of every stall.
    stalls: Vec<(Duration, u32)>,
    rollbacks: Vec<Duration>,
    gone: Option<Duration>,
}

impl Measured {
    /// When ggrs declared the other peer gone, if it did.
    pub(crate) fn gone(&self) -> Option<Duration> {
        self.gone
    }

    /// What it comes to, at a moment at which the match is over or was given up.
    pub(crate) fn peer(&self, cut: &Cut, end: End, now: Duration) -> Peer {
        let moment = cut.moment().unwrap_or(now);
        let gaps = || {
            self.advanced
                .windows(2)
                .map(|pair| (pair[1], pair[1] - pair[0]))
        };
        let longest = |gaps: &mut dyn Iterator<Item = (Duration, Duration)>| {
            gaps.map(|(_, gap)| gap).max().unwrap_or_default()
        };
        let open = match (&end, self.advanced.last()) {
            (End::Whole, _) | (_, None) => Duration::ZERO,
            (_, Some(last)) => now.saturating_sub(*last),
        };
        let later = |at: &Duration| *at >= moment;
        Peer {
            stalled: self
                .stalls
                .iter()
                .filter(|(at, _)| later(at))
                .map(|(_, ticks)| ticks)
                .sum(),
            longest_gap: longest(&mut gaps().filter(|(at, _)| later(at))).max(open),
            gap_before: longest(&mut gaps().skip(START).filter(|(at, _)| !later(at))),
            rollbacks: self.rollbacks.iter().filter(|at| later(at)).count() as u32,
            end,
            first_relayed: None,
            failed_over: None,
            sent_before: None,
            own_stalls: 0,
        }
    }
}

fn record_facts(
    mut facts: MessageReader<Fact<VolleyInput>>,
    mut events: MessageReader<SessionEvent>,
    mut measured: ResMut<Measured>,
) {
    for fact in facts.read() {
        match fact {
            Fact::FrameAdvanced { at, .. } => measured.advanced.push(*at),
            Fact::Stalled { at, ticks, .. } => measured.stalls.push((*at, *ticks)),
            Fact::RollbackRan(rollback) => measured.rollbacks.push(rollback.at),
            _ => {}
        }
    }
    for event in events.read() {
        if event.kind == SessionEventKind::Disconnected {
            measured.gone.get_or_insert(event.at);
        }
    }
}

fn make_cut(cut: Res<Cut>, frame: Option<Res<RollbackFrameCount>>) {
    if let Some(frame) = frame {
        cut.note(frame.0);
    }
}
