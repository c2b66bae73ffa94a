//! The advice about the failover margin: when it is logged, and its text. The links measure.

use std::time::Duration;

use ggrs::PlayerHandle;

use super::lobby::PlayerSlot;
use crate::transport::LabNet;

/// Shorter dips are jitter, and the first seconds of an episode measure little.
const THIN_FOR: Duration = Duration::from_secs(3);

/// Since when each player's margin has been negative, in one episode.
#[derive(Debug, Default)]
pub(super) struct MarginWatch {
    thin: Vec<(PlayerHandle, Thin)>,
    advised: bool,
}

#[derive(Debug)]
struct Thin {
    since: Duration,
    worst_ms: f64,
}

impl MarginWatch {
    /// Takes the margins towards all peers; returns, once per episode, whose loss of the direct
    /// path would stall the game, and the worst margin.
    pub(super) fn watch(
        &mut self,
        now: Duration,
        margins: impl Iterator<Item = (PlayerHandle, Option<f64>)>,
    ) -> Option<(PlayerHandle, f64)> {
        let mut advice = None;
        for (player, margin_ms) in margins {
            let worst = self.record(now, player, margin_ms);
            advice = advice.or(worst.map(|worst| (player, worst)));
        }
        advice
    }

    /// Takes the margin towards `player`; returns the worst one, once, when it has been negative
    /// for three seconds.
    fn record(
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
        if self.advised || now.saturating_sub(thin.since) < THIN_FOR {
            return None;
        }
        self.advised = true;
        Some(thin.worst_ms)
    }
}

/// The failover margin towards each of `player_slots` in milliseconds, where there is a failover left.
pub(super) fn margins<'a>(
    net: &'a LabNet,
    player_slots: impl Iterator<Item = &'a PlayerSlot>,
) -> impl Iterator<Item = (PlayerHandle, Option<f64>)> {
    player_slots.map(|player_slot| {
        // After a failover there is none to judge.
        let left = net.link(player_slot.peer, |link| {
            link.p2p_healthy().then(|| link.margin()).flatten()
        });
        (player_slot.handle, left.flatten())
    })
}

/// For the developer who chose the input delay: each frame of it adds one to the margin.
///
/// `input_delay` is the present one and the largest that can be set.
pub(super) fn advice(
    fps: u32,
    (input_delay, largest): (u32, u32),
    player: PlayerHandle,
    margin_ms: f64,
) -> String {
    let frame_ms = 1e3 / f64::from(fps.max(1));
    // Negative and small: the margin is a few hundred milliseconds at most.
    let missing = (-margin_ms / frame_ms).ceil().max(1.0) as u32;
    let delay = input_delay.saturating_add(missing);
    let way_out = if delay <= largest {
        format!("an input delay of {delay} frames instead of {input_delay} would prevent that")
    } else {
        format!(
            "the paths are too slow for any input delay, of which {largest} frames is the largest"
        )
    };
    format!(
        "failover margin to player {player} is {margin_ms:.1} ms: losing the direct path would \
         stall the game; {way_out}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_below_zero_for_three_seconds_is_logged_once() {
        let mut watch = MarginWatch::default();
        let at = Duration::from_millis;
        assert_eq!(watch.record(at(0), 1, Some(-5.0)), None);
        assert_eq!(watch.record(at(2_000), 1, Some(2.0)), None);
        assert_eq!(watch.record(at(2_500), 1, Some(-5.0)), None);
        assert_eq!(
            watch.record(at(5_000), 1, Some(-9.0)),
            None,
            "it recovered in between"
        );
        assert_eq!(watch.record(at(5_500), 1, Some(-4.0)), Some(-9.0));
        assert_eq!(watch.record(at(9_500), 1, Some(-4.0)), None, "once");
    }

    #[test]
    fn an_unknown_margin_is_not_a_thin_one() {
        let mut watch = MarginWatch::default();
        for second in 0..10 {
            assert_eq!(watch.record(Duration::from_secs(second), 1, None), None);
        }
    }

    #[test]
    fn the_advice_is_the_smallest_delay_that_suffices() {
        let text = advice(60, (1, 16), 2, -17.0);
        for part in [
            "player 2",
            "-17.0 ms",
            "input delay of 3 frames instead of 1",
        ] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        let text = advice(60, (2, 16), 2, -4_000.0);
        assert!(text.contains("16 frames is the largest"), "{text:?}");
        assert!(!text.contains("242"), "{text:?}");
    }
}
