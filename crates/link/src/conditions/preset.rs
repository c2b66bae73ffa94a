//! Named conditions with the figures of their sources. Owns a table, nothing else.

use std::time::Duration;

use super::{Burst, ConditionKeys};

/// Conditions with a name: what one player's packets meet on the way out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Its name in a specification.
    pub name: &'static str,
    /// Where the figures come from.
    pub source: &'static str,
    /// Round trip in milliseconds; half of it is the one-way latency.
    pub rtt_ms: u64,
    /// Jitter in milliseconds, both ways.
    pub jitter_ms: u64,
    /// Losses in bursts.
    pub burst: Option<Burst>,
    /// Bits per second on the way up.
    pub rate: Option<u64>,
}

/// Latency and upload rate of `WebPageTest`'s connectivity profiles, which tell of neither jitter
/// nor loss.
const WEB_PAGE_TEST: &str = "WebPageTest, settings/connectivity.ini.sample";
/// No measurement: chosen to be seen.
const OURS: &str = "ours, chosen to exercise the route rules";

const fn profile(name: &'static str, rtt_ms: u64, kbit: u64) -> Preset {
    Preset {
        name,
        source: WEB_PAGE_TEST,
        rtt_ms,
        jitter_ms: 0,
        burst: None,
        rate: Some(kbit * 1_000),
    }
}

/// All presets.
///
/// | name | round trip | jitter | losses | rate up | source |
/// |---|---|---|---|---|---|
/// | `cable` | 28 ms | 0 | 0 | 1 Mbit/s | WebPageTest, "Cable" |
/// | `dsl` | 50 ms | 0 | 0 | 384 kbit/s | WebPageTest, "DSL" |
/// | `lte` | 70 ms | 0 | 0 | 12 Mbit/s | WebPageTest, "LTE" |
/// | `4g` | 170 ms | 0 | 0 | 9 Mbit/s | WebPageTest, "4G" |
/// | `3g` | 300 ms | 0 | 0 | 768 kbit/s | WebPageTest, "3G" |
/// | `busy-wifi` | 10 ms | 8 ms | 2 % in bursts of 3 | unlimited | ours |
/// | `bad-wifi` | 30 ms | 20 ms | 8 % in bursts of 6 | unlimited | ours |
pub const PRESETS: &[Preset] = &[
    profile("cable", 28, 1_000),
    profile("dsl", 50, 384),
    profile("lte", 70, 12_000),
    profile("4g", 170, 9_000),
    profile("3g", 300, 768),
    Preset {
        name: "busy-wifi",
        source: OURS,
        rtt_ms: 10,
        jitter_ms: 8,
        burst: Some(Burst {
            share: 0.02,
            length: 3.0,
        }),
        rate: None,
    },
    Preset {
        name: "bad-wifi",
        source: OURS,
        rtt_ms: 30,
        jitter_ms: 20,
        burst: Some(Burst {
            share: 0.08,
            length: 6.0,
        }),
        rate: None,
    },
];

impl Preset {
    /// The preset of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// What it says; it leaves duplicates, reordering and cuts alone.
    pub(super) fn keys(&self) -> ConditionKeys {
        ConditionKeys {
            latency: Some(Duration::from_micros(self.rtt_ms * 500)),
            jitter: Some(Duration::from_millis(self.jitter_ms)),
            loss: Some(0.0),
            burst: Some(self.burst),
            rate: Some(self.rate),
            ..ConditionKeys::default()
        }
    }
}
