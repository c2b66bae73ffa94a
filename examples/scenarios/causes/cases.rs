//! Owns the scenes: what happens in a match. Never plays one.

use super::simulated_path::Weather;

/// What a scene does to a peer after one of its updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Act {
    Nothing,
    /// The peer does nothing for so many milliseconds.
    Stall(u64),
    /// The second peer waits until it is so many frames behind.
    Lead(i32),
    /// The peer's window is hidden, or shown again.
    Hide(bool),
}

/// A kind of match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub name: &'static str,
    /// It belongs to the table under loss and jitter.
    pub background: bool,
    pub weather: Weather,
    pub input_delay: u32,
    /// Frames of a match.
    pub frames: usize,
    /// Matches in quick mode; three times as many otherwise.
    pub quick: u64,
    /// By which share of a tick the time between polls varies.
    pub tick_jitter: f64,
    /// Stalls of random length after this share of the updates.
    pub stalls: f64,
    /// The first peer is to lead by so many frames.
    pub lead: Option<i32>,
    /// Updates after which a peer hides, and shows again after eight more.
    pub hides: Option<usize>,
    /// The direct path is cut so many milliseconds after play began.
    pub cut_after: Option<u64>,
    /// The first peer disconnects the second one at this frame.
    pub disconnect_at: Option<i32>,
}

impl Scene {
    /// What happens after update `turn` of a peer; `chance` is drawn for it.
    pub(super) fn act(&self, turn: usize, chance: f64) -> Act {
        if let Some(every) = self.hides {
            match turn % every {
                0 => return Act::Hide(true),
                8 => return Act::Hide(false),
                _ => {}
            }
        }
        if chance < self.stalls {
            // 70 to 300 ms.
            let spread = chance / self.stalls;
            return Act::Stall(70 + (230.0 * spread) as u64);
        }
        match self.lead {
            Some(lead) if turn.is_multiple_of(60) => Act::Lead(lead),
            _ => Act::Nothing,
        }
    }
}

const CALM: Weather = Weather {
    latency: 10.0,
    relay: 12.0,
    jitter: 0.0,
    loss: 0.0,
    reorder: (0.0, 0.0),
    spike: (0.0, 0.0),
    cut: false,
};

const PLAIN: Scene = Scene {
    name: "plain",
    background: false,
    weather: CALM,
    input_delay: 2,
    frames: 1_800,
    quick: 4,
    tick_jitter: 0.05,
    stalls: 0.0,
    lead: None,
    hides: None,
    cut_after: None,
    disconnect_at: None,
};

/// Loss and jitter as of an ordinary connection, a bad Wi-Fi at the upper end.
const ROUGH: Weather = Weather {
    latency: 10.0,
    relay: 12.0,
    jitter: 4.0,
    loss: 0.03,
    reorder: (0.0, 0.0),
    spike: (0.0, 0.0),
    cut: false,
};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "loss",
        weather: Weather { loss: 0.05, ..CALM },
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "reorder",
        weather: Weather {
            reorder: (0.05, 45.0),
            ..CALM
        },
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "queue spikes",
        weather: Weather {
            spike: (0.02, 50.0),
            ..CALM
        },
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "jitter",
        weather: Weather {
            latency: 22.0,
            jitter: 14.0,
            ..CALM
        },
        quick: 3,
        ..PLAIN
    },
    Scene {
        name: "far",
        weather: Weather {
            latency: 60.0,
            relay: 62.0,
            ..CALM
        },
        input_delay: 1,
        quick: 2,
        ..PLAIN
    },
    Scene {
        name: "lead",
        lead: Some(5),
        quick: 3,
        ..PLAIN
    },
    Scene {
        name: "stalls",
        stalls: 0.02,
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "hidden",
        hides: Some(120),
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "cut",
        weather: Weather {
            latency: 8.0,
            relay: 50.0,
            ..CALM
        },
        input_delay: 1,
        frames: 300,
        quick: 24,
        cut_after: Some(3_000),
        ..PLAIN
    },
    Scene {
        name: "disconnect",
        frames: 140,
        quick: 220,
        lead: Some(2),
        disconnect_at: Some(110),
        weather: Weather {
            latency: 40.0,
            ..CALM
        },
        input_delay: 0,
        ..PLAIN
    },
    Scene {
        name: "all at once",
        weather: Weather {
            jitter: 6.0,
            loss: 0.02,
            reorder: (0.01, 45.0),
            spike: (0.005, 50.0),
            ..CALM
        },
        stalls: 0.005,
        lead: Some(2),
        hides: Some(600),
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "loss 5 %",
        background: true,
        weather: Weather {
            loss: 0.05,
            ..ROUGH
        },
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "rough reorder",
        background: true,
        weather: Weather {
            reorder: (0.05, 45.0),
            ..ROUGH
        },
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "rough queue spikes",
        background: true,
        weather: Weather {
            spike: (0.02, 50.0),
            ..ROUGH
        },
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "rough far",
        background: true,
        weather: Weather {
            latency: 60.0,
            relay: 62.0,
            loss: 0.01,
            ..ROUGH
        },
        input_delay: 1,
        quick: 2,
        ..PLAIN
    },
    Scene {
        name: "rough lead",
        background: true,
        weather: Weather {
            loss: 0.01,
            ..ROUGH
        },
        lead: Some(5),
        quick: 3,
        ..PLAIN
    },
    Scene {
        name: "rough stalls",
        background: true,
        weather: ROUGH,
        stalls: 0.02,
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "rough hidden",
        background: true,
        weather: ROUGH,
        hides: Some(120),
        quick: 6,
        ..PLAIN
    },
    Scene {
        name: "rough cut",
        background: true,
        weather: Weather {
            latency: 8.0,
            relay: 50.0,
            ..ROUGH
        },
        input_delay: 1,
        frames: 300,
        quick: 24,
        cut_after: Some(3_000),
        ..PLAIN
    },
    Scene {
        name: "rough disconnect",
        background: true,
        frames: 140,
        quick: 220,
        lead: Some(2),
        disconnect_at: Some(110),
        weather: Weather {
            latency: 40.0,
            ..ROUGH
        },
        input_delay: 0,
        ..PLAIN
    },
];
