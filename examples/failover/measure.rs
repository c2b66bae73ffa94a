//! The measurements of one peer, the same for every stack: the observers' facts about its ggrs session
//! before and during the outage.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bevy::prelude::*;
use bevy_ggrs::RollbackFrameCount;
use bevy_rollback_lab::RollbackLabSystems;
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::internals::trace::Fact;
use bevy_rollback_lab::rollback::{SessionEvent, SessionEventKind};

use volley::input::VolleyInput;

/// Frames after the start in which peers wait for each other: they start up to a few round trips
/// apart.
const START: usize = 30;

/// The outage of a match, in which every direct packet is dropped: from the moment at which the first
/// of its peers reaches a frame, to the end.
#[derive(Resource, Clone)]
pub(crate) struct Outage {
    frame: i32,
    clock: LabClock,
    start: Arc<OnceLock<Duration>>,
}

impl Outage {
    /// An outage from this frame on.
    pub(crate) fn new(frame: i32, clock: LabClock) -> Self {
        Self {
            frame,
            clock,
            start: Arc::default(),
        }
    }

    /// When it started, if it did.
    pub(crate) fn start(&self) -> Option<Duration> {
        self.start.get().copied()
    }

    /// From its start to a later moment; none before it.
    pub(crate) fn since_start(&self, later: Duration) -> Option<Duration> {
        later.checked_sub(self.start()?)
    }

    fn reach(&self, frame: i32) {
        if frame >= self.frame {
            self.start.get_or_init(|| self.clock.now());
        }
    }
}

/// How a match ended for a peer.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// Both peers played it to its last frame.
    Complete,
    /// ggrs disconnected the other peer, at this time after the start of the outage.
    OpponentDisconnected(Duration),
    /// It failed.
    Failed(String),
}

/// The measurements of one peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// How its match ended.
    pub end: End,
    /// Ticks during the outage that simulated no new frame.
    pub stalled: u32,
    /// Longest time between the first simulations of two frames during the outage.
    pub longest_gap: Duration,
    /// The same before the outage.
    pub gap_before: Duration,
    /// Rollbacks during the outage.
    pub rollbacks: u32,
    /// From the start of the outage to the first game packet that this peer sent over the relay.
    pub first_relayed: Option<Duration>,
    /// From the start of the outage to the failover of the route.
    pub failed_over: Option<Duration>,
    /// Game packets before the outage: on the direct path, on the relay. `None` where there is no relay.
    pub sent_before: Option<[u64; 2]>,
    /// Gaps in its own polling that its link detected.
    pub own_stalls: u64,
}

/// Records what the observers report, and starts the outage at its frame.
pub(crate) struct MeasurePlugin(pub Outage);

impl Plugin for MeasurePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(self.0.clone())
            .init_resource::<Measured>()
            // After the reports of the observers, those at the exit of the app included.
            .add_systems(Last, record_facts.after(RollbackLabSystems::Observe))
            .add_systems(Update, start_outage);
    }
}

/// The records so far.
#[derive(Resource, Clone, Debug, Default)]
pub(crate) struct Measured {
    /// First simulation of every frame.
    advanced: Vec<Duration>,
    /// Start and ticks of every stall.
    stalls: Vec<(Duration, u32)>,
    rollbacks: Vec<Duration>,
    disconnected: Option<Duration>,
}

impl Measured {
    /// When ggrs disconnected the other peer, if it did.
    pub(crate) fn disconnected(&self) -> Option<Duration> {
        self.disconnected
    }

    /// The measurements at the moment at which the match ended.
    pub(crate) fn peer(&self, outage: &Outage, end: End, now: Duration) -> Peer {
        let start = outage.start().unwrap_or(now);
        let gaps = || {
            self.advanced
                .windows(2)
                .map(|pair| (pair[1], pair[1] - pair[0]))
        };
        let longest = |gaps: &mut dyn Iterator<Item = (Duration, Duration)>| {
            gaps.map(|(_, gap)| gap).max().unwrap_or_default()
        };
        let open = match (&end, self.advanced.last()) {
            (End::Complete, _) | (_, None) => Duration::ZERO,
            (_, Some(last)) => now.saturating_sub(*last),
        };
        let later = |at: &Duration| *at >= start;
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
            measured.disconnected.get_or_insert(event.at);
        }
    }
}

fn start_outage(outage: Res<Outage>, frame: Option<Res<RollbackFrameCount>>) {
    if let Some(frame) = frame {
        outage.reach(frame.0);
    }
}
