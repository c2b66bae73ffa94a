//! The texts on screen: score, time left, phase of the session, and how to play.

use bevy::prelude::*;
use bevy::sprite::Text2dShadow;
use bevy_rollback_lab::prelude::*;

use crate::devices::{Held, TOUCH_ZONES};
use crate::figures::Shown;
use crate::game::LocalPlayer;
use crate::rounds::Config;
use crate::scene::{INK, LIGHT, TEAM};
use volley::input::VolleyInput;

/// Time that the help stays on screen, in seconds of play.
const HELP_SECONDS: f32 = 8.0;

/// All texts of a match.
pub(crate) fn plugin(app: &mut App) {
    app.add_plugins(score)
        .add_systems(Startup, (write_panel, write_help))
        .add_systems(
            Update,
            (show_time_left, show_phase, fade_help, show_touch).after(crate::figures::DrawSystems),
        );
}

/// The points only, which need no session.
pub(crate) fn score(app: &mut App) {
    app.add_systems(Startup, write_score)
        .add_systems(Update, count_points.after(crate::figures::DrawSystems));
}

/// The points of a side.
#[derive(Component)]
struct Points(usize);

/// The time left.
#[derive(Component)]
struct Clock;

/// The panel in the middle, and its text.
#[derive(Component)]
struct Panel;

#[derive(Component)]
struct PanelText;

/// How to play, and the time it has been shown.
#[derive(Component)]
struct Help(f32);

/// A button under a finger.
#[derive(Component)]
struct TouchButton(VolleyInput);

fn write_score(mut commands: Commands) {
    for (side, x) in [(0, -62.0), (1, 62.0)] {
        commands.spawn((
            Points(side),
            Text2d::new("0"),
            TextFont::from_font_size(68.0),
            TextColor(TEAM[side][0]),
            Text2dShadow {
                offset: Vec2::new(2.0, -2.0),
                color: INK.with_alpha(0.55),
            },
            Transform::from_xyz(x, 568.0, 10.0),
        ));
    }
    commands.spawn((
        Text2d::new(":"),
        TextFont::from_font_size(52.0),
        TextColor(LIGHT),
        Transform::from_xyz(0.0, 572.0, 10.0),
    ));
    commands.spawn((
        Clock,
        Text2d::default(),
        TextFont::from_font_size(19.0),
        TextColor(LIGHT.with_alpha(0.85)),
        Transform::from_xyz(0.0, 522.0, 10.0),
    ));
}

fn write_panel(mut commands: Commands) {
    let whole = Node {
        position_type: PositionType::Absolute,
        width: percent(100),
        height: percent(100),
        justify_content: JustifyContent::Center,
        align_items: AlignItems::Center,
        ..default()
    };
    commands.spawn((
        whole,
        children![(
            Panel,
            Node {
                max_width: percent(80),
                padding: UiRect::axes(px(28), px(18)),
                border_radius: BorderRadius::all(px(12)),
                ..default()
            },
            BackgroundColor(INK.with_alpha(0.82)),
            children![(
                PanelText,
                Text::new("starting"),
                TextFont::from_font_size(24.0),
                TextColor(LIGHT),
                TextLayout::justify(Justify::Center),
            )],
        )],
    ));
}

fn write_help(mut commands: Commands, local: Res<LocalPlayer>) {
    let hands = if local.bot {
        "a bot plays this side"
    } else {
        "A D or arrows: run    W or space: jump"
    };
    // A page has no key to leave: its tab is closed.
    let leave = if cfg!(target_arch = "wasm32") {
        ""
    } else {
        "    Esc: leave"
    };
    let text = format!("{hands}    F3: numbers{leave}");
    commands.spawn((
        Help(0.0),
        Text2d::new(text),
        TextFont::from_font_size(15.0),
        TextColor(INK),
        Transform::from_xyz(0.0, -58.0, 10.0),
    ));
    for (button, word, left, width) in [
        (VolleyInput::LEFT, "<", 0.0, TOUCH_ZONES[0]),
        (
            VolleyInput::RIGHT,
            ">",
            TOUCH_ZONES[0],
            TOUCH_ZONES[1] - TOUCH_ZONES[0],
        ),
        (
            VolleyInput::JUMP,
            "jump",
            TOUCH_ZONES[1],
            1.0 - TOUCH_ZONES[1],
        ),
    ] {
        commands.spawn((
            TouchButton(button),
            Visibility::Hidden,
            BackgroundColor(LIGHT.with_alpha(0.10)),
            Node {
                position_type: PositionType::Absolute,
                left: percent(left * 100.0),
                width: percent(width * 100.0),
                bottom: px(0),
                height: percent(18),
                border: UiRect::all(px(1)),
                justify_content: JustifyContent::Center,
                align_items: AlignItems::Center,
                ..default()
            },
            BorderColor::all(LIGHT.with_alpha(0.25)),
            children![(
                Text::new(word),
                TextFont::from_font_size(26.0),
                TextColor(LIGHT.with_alpha(0.8)),
            )],
        ));
    }
}

fn count_points(
    shown: Res<Shown>,
    time: Res<Time>,
    mut points: Query<(&Points, &mut Text2d, &mut Transform)>,
) {
    let Some(court) = &shown.court else {
        return;
    };
    for (side, mut text, mut at) in &mut points {
        let now = court.score.points[side.0].to_string();
        if text.0 != now {
            text.0 = now;
            // A new point pops up.
            at.scale = Vec3::splat(1.7);
        }
        let rest = (-7.0 * time.delta_secs()).exp();
        at.scale = Vec3::ONE + (at.scale - Vec3::ONE) * rest;
    }
}

fn show_time_left(
    shown: Res<Shown>,
    lab: Res<LabConfig>,
    phase: Res<State<SessionPhase>>,
    mut clocks: Query<&mut Text2d, With<Clock>>,
) {
    let limit = lab.frame_limit.unwrap_or(0);
    let frame = u32::try_from(shown.frame).unwrap_or(0);
    let seconds = limit.saturating_sub(frame).div_ceil(lab.fps.max(1));
    let text = match phase.get() {
        SessionPhase::Playing => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => String::new(),
    };
    for mut clock in &mut clocks {
        if clock.0 != text {
            clock.0.clone_from(&text);
        }
    }
}

fn show_phase(
    phase: Res<State<SessionPhase>>,
    session: Res<LabSession<Config>>,
    info: Option<Res<SessionInfo>>,
    lab: Res<LabConfig>,
    (shown, waiting): (Res<Shown>, Option<Res<WaitingForPlayers>>),
    mut panels: Query<&mut Visibility, With<Panel>>,
    mut texts: Query<&mut Text, With<PanelText>>,
) {
    let played = shown.court.is_some();
    let result = || {
        let court = shown.court.as_ref()?;
        let own = usize::from(info.as_ref()?.local_player % 2 == 1);
        let [ours, theirs] = [court.score.points[own], court.score.points[1 - own]];
        Some(match ours.cmp(&theirs) {
            std::cmp::Ordering::Greater => format!("you won {ours} : {theirs}"),
            std::cmp::Ordering::Less => format!("you lost {ours} : {theirs}"),
            std::cmp::Ordering::Equal => format!("a draw, {ours} : {theirs}"),
        })
    };
    let text = match phase.get() {
        SessionPhase::Connecting => Some(format!("connecting to {}", lab.server)),
        SessionPhase::Idle => None,
        SessionPhase::Gathering => Some(format!(
            "room {}\nwaiting for the other player{}{}",
            lab.room,
            if lab.players > 2 { "s" } else { "" },
            waiting.map_or_else(String::new, |waiting| waiting_line(&waiting)),
        )),
        SessionPhase::Meeting => Some(String::from("connecting to the other players")),
        SessionPhase::Between | SessionPhase::Starting if played => result(),
        SessionPhase::Between | SessionPhase::Starting => Some(String::from("get ready")),
        SessionPhase::Playing => None,
        SessionPhase::Ending | SessionPhase::Leaving => result(),
        SessionPhase::Finished => Some(format!(
            "{}\nthe session is over",
            result().unwrap_or_default()
        )),
        SessionPhase::Failed => Some(
            session
                .failure()
                .map_or_else(|| String::from("the session failed"), ToString::to_string),
        ),
    };
    for mut visible in &mut panels {
        visible.set_if_neq(if text.is_some() {
            Visibility::Inherited
        } else {
            Visibility::Hidden
        });
    }
    for mut shown in &mut texts {
        if let Some(text) = &text
            && shown.0 != *text
        {
            shown.0.clone_from(text);
        }
    }
}

/// How many have come, and how long they are waited for.
fn waiting_line(waiting: &WaitingForPlayers) -> String {
    let limit = waiting.limit.unwrap_or_default();
    format!(
        "\n{} of {} are here, {} s of {} s",
        waiting.present,
        waiting.needed,
        waiting.waited.as_secs(),
        limit.as_secs()
    )
}

fn fade_help(
    phase: Res<State<SessionPhase>>,
    time: Res<Time>,
    mut helps: Query<(Entity, &mut Help, &mut TextColor)>,
    mut commands: Commands,
) {
    if *phase.get() != SessionPhase::Playing {
        return;
    }
    for (entity, mut help, mut color) in &mut helps {
        help.0 += time.delta_secs();
        if help.0 > HELP_SECONDS {
            commands.entity(entity).despawn();
        } else {
            let left = (HELP_SECONDS - help.0).min(1.0);
            color.0.set_alpha(left);
        }
    }
}

/// Shows the touch buttons from the first touch on, and highlights those under a finger.
fn show_touch(
    held: Res<Held>,
    mut buttons: Query<(&TouchButton, &mut Visibility, &mut BackgroundColor)>,
) {
    if !held.touched {
        return;
    }
    for (button, mut visible, mut color) in &mut buttons {
        visible.set_if_neq(Visibility::Inherited);
        let alpha = if held.touch().holds(button.0) {
            0.35
        } else {
            0.10
        };
        color.set_if_neq(BackgroundColor(LIGHT.with_alpha(alpha)));
    }
}
