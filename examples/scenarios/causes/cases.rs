//! The test cases: what happens in a match, once for each cause of rollbacks, and mixed.

use super::simulated_path::LinkProfile;

/// What a test case does to a peer after one of its updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    None,
    /// The peer does not update for a number of milliseconds.
    Stall(u64),
    /// The second peer waits until it is a number of frames behind.
    FallBehind(i32),
    /// The peer's window is hidden (true) or shown again (false).
    SetHidden(bool),
}

/// A kind of match.
#[derive(Clone, Copy, Debug)]
pub(super) struct TestCase {
    pub name: &'static str,
    /// Belongs to the table under loss and jitter.
    pub impaired: bool,
    pub link: LinkProfile,
    pub input_delay: u32,
    /// Frames of a match.
    pub frames: usize,
    /// Matches in quick mode; three times as many otherwise.
    pub quick: u64,
    /// Share of a tick by which the time between polls varies.
    pub tick_jitter: f64,
    /// Share of the updates that are followed by a stall of random length.
    pub stalls: f64,
    /// Frames by which the first peer leads.
    pub lead: Option<i32>,
    /// Updates after which a peer hides, and shows again after eight more.
    pub hides: Option<usize>,
    /// Milliseconds of play after which the direct path is blackholed.
    pub outage_after: Option<u64>,
    /// The first peer disconnects the second one at this frame.
    pub disconnect_at: Option<i32>,
}

impl TestCase {
    /// What happens after update number `update` of a peer; `chance` is a random number from 0 to 1.
    pub(super) fn action(&self, update: usize, chance: f64) -> Action {
        if let Some(every) = self.hides {
            match update % every {
                0 => return Action::SetHidden(true),
                8 => return Action::SetHidden(false),
                _ => {}
            }
        }
        if chance < self.stalls {
            // 70 to 300 ms.
            let spread = chance / self.stalls;
            return Action::Stall(70 + (230.0 * spread) as u64);
        }
        match self.lead {
            Some(lead) if update.is_multiple_of(60) => Action::FallBehind(lead),
            _ => Action::None,
        }
    }
}

/// A steady link.
const STEADY: LinkProfile = LinkProfile {
    latency: 10.0,
    relay: 12.0,
    jitter: 0.0,
    loss: 0.0,
    reorder: (0.0, 0.0),
    spike: (0.0, 0.0),
    outage: false,
};

/// The base of all other cases.
const PLAIN: TestCase = TestCase {
    name: "plain",
    impaired: false,
    link: STEADY,
    input_delay: 2,
    frames: 1_800,
    quick: 4,
    tick_jitter: 0.05,
    stalls: 0.0,
    lead: None,
    hides: None,
    outage_after: None,
    disconnect_at: None,
};

/// Loss and jitter between those of an ordinary connection and of a bad Wi-Fi.
const IMPAIRED: LinkProfile = LinkProfile {
    latency: 10.0,
    relay: 12.0,
    jitter: 4.0,
    loss: 0.03,
    reorder: (0.0, 0.0),
    spike: (0.0, 0.0),
    outage: false,
};

/// All test cases.
pub(super) const CASES: &[TestCase] = &[
    TestCase {
        name: "loss",
        link: LinkProfile {
            loss: 0.05,
            ..STEADY
        },
        quick: 8,
        ..PLAIN
    },
    TestCase {
        name: "reorder",
        link: LinkProfile {
            reorder: (0.05, 45.0),
            ..STEADY
        },
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "queue spikes",
        link: LinkProfile {
            spike: (0.02, 50.0),
            ..STEADY
        },
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "jitter",
        link: LinkProfile {
            latency: 22.0,
            jitter: 14.0,
            ..STEADY
        },
        quick: 3,
        ..PLAIN
    },
    TestCase {
        name: "far",
        link: LinkProfile {
            latency: 60.0,
            relay: 62.0,
            ..STEADY
        },
        input_delay: 1,
        quick: 2,
        ..PLAIN
    },
    TestCase {
        name: "lead",
        lead: Some(5),
        quick: 3,
        ..PLAIN
    },
    TestCase {
        name: "stalls",
        stalls: 0.02,
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "hidden",
        hides: Some(120),
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "cut",
        link: LinkProfile {
            latency: 8.0,
            relay: 50.0,
            ..STEADY
        },
        input_delay: 1,
        frames: 300,
        quick: 24,
        outage_after: Some(3_000),
        ..PLAIN
    },
    TestCase {
        name: "disconnect",
        frames: 140,
        quick: 220,
        lead: Some(2),
        disconnect_at: Some(110),
        link: LinkProfile {
            latency: 40.0,
            ..STEADY
        },
        input_delay: 0,
        ..PLAIN
    },
    TestCase {
        name: "all at once",
        link: LinkProfile {
            jitter: 6.0,
            loss: 0.02,
            reorder: (0.01, 45.0),
            spike: (0.005, 50.0),
            ..STEADY
        },
        stalls: 0.005,
        lead: Some(2),
        hides: Some(600),
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "loss 5 %",
        impaired: true,
        link: LinkProfile {
            loss: 0.05,
            ..IMPAIRED
        },
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "rough reorder",
        impaired: true,
        link: LinkProfile {
            reorder: (0.05, 45.0),
            ..IMPAIRED
        },
        quick: 12,
        ..PLAIN
    },
    TestCase {
        name: "rough queue spikes",
        impaired: true,
        link: LinkProfile {
            spike: (0.02, 50.0),
            ..IMPAIRED
        },
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "rough far",
        impaired: true,
        link: LinkProfile {
            latency: 60.0,
            relay: 62.0,
            loss: 0.01,
            ..IMPAIRED
        },
        input_delay: 1,
        quick: 2,
        ..PLAIN
    },
    TestCase {
        name: "rough lead",
        impaired: true,
        link: LinkProfile {
            loss: 0.01,
            ..IMPAIRED
        },
        lead: Some(5),
        quick: 3,
        ..PLAIN
    },
    TestCase {
        name: "rough stalls",
        impaired: true,
        link: IMPAIRED,
        stalls: 0.02,
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "rough hidden",
        impaired: true,
        link: IMPAIRED,
        hides: Some(120),
        quick: 6,
        ..PLAIN
    },
    TestCase {
        name: "rough cut",
        impaired: true,
        link: LinkProfile {
            latency: 8.0,
            relay: 50.0,
            ..IMPAIRED
        },
        input_delay: 1,
        frames: 300,
        quick: 24,
        outage_after: Some(3_000),
        ..PLAIN
    },
    TestCase {
        name: "rough disconnect",
        impaired: true,
        frames: 140,
        quick: 220,
        lead: Some(2),
        disconnect_at: Some(110),
        link: LinkProfile {
            latency: 40.0,
            ..IMPAIRED
        },
        input_delay: 0,
        ..PLAIN
    },
];
