//! Owns the advice about the failover margin: when it is given, and its words. It never measures.

use std::time::Duration;

use ggrs::PlayerHandle;

use super::SessionSettings;

/// Shorter dips are jitter, and the first seconds of an episode measure little.
const THIN_FOR: Duration = Duration::from_secs(3);

/// Since when each player's margin has been negative, in one episode.
#[derive(Debug, Default)]
pub(super) struct MarginWatch {
    thin: Vec<(PlayerHandle, Thin)>,
    told: bool,
}

#[derive(Debug)]
struct Thin {
    since: Duration,
    worst_ms: f64,
}

impl MarginWatch {
    /// Takes the margin towards `player`; returns the worst one, once, when it has been negative
    /// for so long that somebody should know.
    pub(super) fn note(
        &mut self,
        now: Duration,
        player: PlayerHandle,
        margin_ms: Option<f64>,
    ) -> Option<f64> {
        let Some(margin_ms) = margin_ms.filter(|ms| *ms < 0.0) else {
            self.thin.retain(|(thin, _)| *thin != player);
            return None;
        };
        let known = self.thin.iter_mut().find(|(thin, _)| *thin == player);
        let Some((_, thin)) = known else {
            let since = now;
            let worst_ms = margin_ms;
            self.thin.push((player, Thin { since, worst_ms }));
            return None;
        };
        thin.worst_ms = thin.worst_ms.min(margin_ms);
        if self.told || now.saturating_sub(thin.since) < THIN_FOR {
            return None;
        }
        self.told = true;
        Some(thin.worst_ms)
    }
}

impl SessionSettings {
    /// What to tell the person who chose the input delay: each frame of it adds one to the margin.
    pub(super) fn margin_advice(&self, player: PlayerHandle, margin_ms: f64) -> String {
        let frame_ms = 1e3 / f64::from(self.fps.max(1));
        // Negative and small: the margin is a few hundred milliseconds at most.
        let missing = (-margin_ms / frame_ms).ceil().max(1.0) as u32;
        let delay = self.input_delay.saturating_add(missing);
        format!(
            "failover margin to player {player} is {margin_ms:.1} ms: losing the direct path would \
             stall the game; an input delay of {delay} frames instead of {} would prevent that",
            self.input_delay
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LabConfig;

    #[test]
    fn a_margin_below_zero_for_three_seconds_is_told_once() {
        let mut watch = MarginWatch::default();
        let at = Duration::from_millis;
        assert_eq!(watch.note(at(0), 1, Some(-5.0)), None);
        assert_eq!(watch.note(at(2_000), 1, Some(2.0)), None);
        assert_eq!(watch.note(at(2_500), 1, Some(-5.0)), None);
        assert_eq!(
            watch.note(at(5_000), 1, Some(-9.0)),
            None,
            "it recovered in between"
        );
        assert_eq!(watch.note(at(5_500), 1, Some(-4.0)), Some(-9.0));
        assert_eq!(watch.note(at(9_500), 1, Some(-4.0)), None, "once");
    }

    #[test]
    fn an_unknown_margin_is_not_a_thin_one() {
        let mut watch = MarginWatch::default();
        for second in 0..10 {
            assert_eq!(watch.note(Duration::from_secs(second), 1, None), None);
        }
    }

    #[test]
    fn the_advice_is_the_smallest_delay_that_suffices() {
        let settings = LabConfig::new("ws://lab", "room")
            .input_delay(1)
            .session_settings();
        let text = settings.margin_advice(2, -17.0);
        for words in [
            "player 2",
            "-17.0 ms",
            "input delay of 3 frames instead of 1",
        ] {
            assert!(text.contains(words), "{text:?} says {words:?}");
        }
    }
}
