//! The panel of the HUD: its nodes and its text.

use std::fmt::Write;

use bevy::prelude::*;

use super::{Hud, graph};
use crate::diagnostics::{LinkStats, LiveStats};

/// Above everything that a game is likely to draw.
const LAYER: i32 = i32::MAX - 32;
const BACKGROUND: Color = Color::srgba(0.05, 0.06, 0.10, 0.82);
const INK: Color = Color::srgb(0.93, 0.95, 0.98);
const FAINT: Color = Color::srgb(0.62, 0.67, 0.75);
const RED: Color = Color::srgb(0.85, 0.15, 0.25);
/// Logical pixels on screen per pixel of the graph.
const GRAPH_SCALE: f32 = 1.5;

/// Marks the text with the numbers.
#[derive(Component)]
pub(super) struct StatsText;

/// Marks the line that reports a desync.
#[derive(Component)]
pub(super) struct DesyncBanner;

/// Builds the panel.
pub(super) fn spawn(commands: &mut Commands, image: &Handle<Image>) {
    let font = |size: f32| TextFont::from_font_size(size);
    commands.spawn((
        Hud,
        Name::new("rollback lab HUD"),
        GlobalZIndex(LAYER),
        BackgroundColor(BACKGROUND),
        Node {
            position_type: PositionType::Absolute,
            left: px(10),
            top: px(10),
            padding: UiRect::all(px(10)),
            row_gap: px(6),
            flex_direction: FlexDirection::Column,
            border_radius: BorderRadius::all(px(6)),
            ..default()
        },
        children![
            (StatsText, Text::default(), font(13.0), TextColor(INK)),
            (
                ImageNode::new(image.clone()),
                Node {
                    width: px(graph::WIDTH as f32 * GRAPH_SCALE),
                    height: px(graph::HEIGHT as f32 * GRAPH_SCALE),
                    ..default()
                },
            ),
            (
                Text::new("last 240 ticks: bar = rollback depth, a line per 4 frames; red = stall"),
                font(10.0),
                TextColor(FAINT),
            ),
            (
                DesyncBanner,
                Text::new("DESYNC: the peers computed different states"),
                font(15.0),
                TextColor(Color::WHITE),
                BackgroundColor(RED),
                Node {
                    display: Display::None,
                    padding: UiRect::all(px(4)),
                    ..default()
                },
            ),
        ],
    ));
}

/// Writes the numbers into `text`.
pub(super) fn write(live_stats: &LiveStats, text: &mut String) {
    text.clear();
    // Writing to a `String` cannot fail.
    let _ = write_lines(live_stats, text);
}

fn write_lines(live_stats: &LiveStats, text: &mut String) -> std::fmt::Result {
    if live_stats.links.is_empty() {
        writeln!(text, "no peer yet")?;
    }
    for link in &live_stats.links {
        write_link(link, text)?;
    }
    let (deepest, stalled) = live_stats.worst();
    writeln!(
        text,
        "frame {:>6}  confirmed {:>6}  unconfirmed {:>2}",
        number(live_stats.frame),
        number(live_stats.confirmed_frame),
        number(live_stats.unconfirmed()),
    )?;
    writeln!(
        text,
        "frames ahead {:>3}  predictions right {}",
        live_stats
            .frames_ahead
            .map_or_else(|| String::from("-"), |ahead| format!("{ahead:+}")),
        live_stats
            .prediction_hit_rate()
            .map_or_else(|| String::from("-"), |share| format!("{:.1}%", share * 1e2)),
    )?;
    write!(
        text,
        "deepest rollback {deepest:>2}  stalled ticks {stalled:>3}"
    )
}

fn write_link(link: &LinkStats, text: &mut String) -> std::fmt::Result {
    write!(text, "player {}: {}", link.player, link.route_name())?;
    if let Some(cause) = link.cause {
        write!(text, " ({cause})")?;
    }
    if link.hidden {
        write!(text, " [hidden]")?;
    }
    writeln!(
        text,
        "\n  rtt {}  jitter {}  failover margin {}",
        ms(link.rtt_ms),
        ms(link.jitter_ms),
        ms(link.margin_ms)
    )
}

fn number(value: Option<i32>) -> String {
    value.map_or_else(|| String::from("-"), |value| value.to_string())
}

fn ms(value: Option<f64>) -> String {
    value.map_or_else(|| String::from("-"), |ms| format!("{ms:.1} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RouteCause, RouteState, Via};

    #[test]
    fn the_text_names_every_peer_with_its_route_and_the_cause_of_its_last_change() {
        let mut live_stats = LiveStats::default();
        live_stats.frame = Some(120);
        live_stats.confirmed_frame = Some(116);
        live_stats.frames_ahead = Some(1);
        live_stats.links.push(LinkStats {
            player: 1,
            route: Some(RouteState::Relay),
            via: Via::Relay,
            cause: Some(RouteCause::Dead),
            rtt_ms: Some(41.26),
            jitter_ms: Some(2.0),
            margin_ms: None,
            hidden: true,
        });
        let mut text = String::from("old");
        write(&live_stats, &mut text);
        for expected in [
            "player 1: relay (dead) [hidden]",
            "rtt 41.3 ms  jitter 2.0 ms  failover margin -",
            "confirmed    116  unconfirmed  4",
            "frames ahead  +1  predictions right -",
        ] {
            assert!(text.contains(expected), "{text:?} contains {expected:?}");
        }
        assert!(!text.contains("old"));
    }
}
