//! Named conditions, with the sources of their figures. The table in the docs of
//! [`Conditions`](super::Conditions) lists them.

use std::time::Duration;

use super::{Burst, ConditionKeys};

/// Conditions with a name, for what one player sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Preset {
    /// Its name in a specification.
    pub(super) name: &'static str,
    /// Round trip in milliseconds; half of it is the one-way latency.
    pub(super) rtt_ms: u64,
    /// Jitter in milliseconds, in both directions.
    jitter_ms: u64,
    /// Losses in bursts.
    pub(super) burst: Option<Burst>,
    /// Upload capacity in bits per second.
    pub(super) rate: Option<u64>,
}

/// Latency and upload rate of `WebPageTest`'s connectivity profiles (its file
/// `settings/connectivity.ini.sample`), which have neither jitter nor loss.
const fn profile(name: &'static str, rtt_ms: u64, kbit: u64) -> Preset {
    Preset {
        name,
        rtt_ms,
        jitter_ms: 0,
        burst: None,
        rate: Some(kbit * 1_000),
    }
}

/// All presets. Those of Wi-Fi are not measured: they are chosen to exercise the route rules.
pub(super) const PRESETS: &[Preset] = &[
    profile("cable", 28, 1_000),
    profile("dsl", 50, 384),
    profile("lte", 70, 12_000),
    profile("4g", 170, 9_000),
    profile("3g", 300, 768),
    Preset {
        name: "busy-wifi",
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
    /// The preset with this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The keys that it sets; it leaves duplicates, reordering and outages alone.
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
