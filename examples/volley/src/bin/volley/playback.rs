//! Watching an episode file: keys for pause, step, seek, speed and view, and a status line. The game,
//! the scene and the marks of corrections are those of a match.

use bevy::prelude::*;
use bevy::state::app::StatesPlugin;
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::record::EpisodeDocument;
use bevy_rollback_lab::replay::{Replay, ReplayPlugin, View};

use crate::rounds::{Config, set_up_episode};
use crate::scene::{INK, LIGHT};
use crate::settings::Settings;
use crate::{figures, game, overlay, scene, trail};
use volley::VolleyPlugin;
use volley::input::VolleyInput;

/// Speeds that plus and minus go through.
const SPEEDS: [f64; 7] = [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
const KEYS: &str = "space: pause    left right: step    home end: seek    + -: speed    V: view";

/// The game without a screen, for a replay that only compares.
#[cfg_attr(
    not(target_arch = "wasm32"),
    expect(
        dead_code,
        reason = "for the page; natively the example `replay` does it"
    )
)]
pub(crate) fn headless() -> App {
    let mut app = App::new();
    app.add_plugins((
        MinimalPlugins,
        StatesPlugin,
        VolleyPlugin::<Config>::default(),
    ))
    .add_observer(set_up_episode);
    app
}

/// An app that plays an episode file on screen.
///
/// # Errors
/// The file cannot be played.
pub(crate) fn app(
    document: &EpisodeDocument,
    view: View,
    settings: &Settings,
) -> Result<App, String> {
    let replay = ReplayPlugin::<Config>::new(document).map_err(|error| error.to_string())?;
    let mut app = game::screen(&Settings {
        name: String::from("recorded here"),
        rival: String::from("the other"),
        room: document.session.session_id.clone(),
        ..settings.clone()
    });
    app.add_plugins((
        replay.view(view),
        VolleyPlugin::<Config>::default(),
        scene::plugin,
        figures::plugin,
        trail::plugin,
        overlay::score,
    ))
    .init_resource::<LastRollback>()
    .add_observer(set_up_episode)
    .add_systems(Startup, write_line)
    .add_systems(PreUpdate, control_replay.after(bevy::input::InputSystems))
    .add_systems(Update, (record_rollback, show_status).chain());
    if settings.quit {
        app.add_systems(Update, leave_at_the_end);
    }
    #[cfg(not(target_arch = "wasm32"))]
    crate::screenshot::plugin(&mut app, settings);
    Ok(app)
}

/// The rollback shown last.
#[derive(Resource, Default)]
struct LastRollback(Option<RollbackCompleted<VolleyInput>>);

/// The status line.
#[derive(Component)]
struct Line;

fn write_line(mut commands: Commands) {
    let text = (
        TextFont::from_font_size(16.0),
        TextColor(LIGHT),
        Text::default(),
    );
    commands.spawn((
        Node {
            position_type: PositionType::Absolute,
            left: px(12),
            top: px(12),
            padding: UiRect::axes(px(12), px(8)),
            border_radius: BorderRadius::all(px(8)),
            ..default()
        },
        BackgroundColor(INK.with_alpha(0.72)),
        children![(Line, text)],
    ));
}

fn control_replay(
    keys: Res<ButtonInput<KeyCode>>,
    mut replay: ResMut<Replay>,
    mut exit: MessageWriter<AppExit>,
) {
    for key in keys.get_just_pressed() {
        match key {
            KeyCode::Space => replay.toggle(),
            KeyCode::ArrowRight => replay.step(1),
            KeyCode::ArrowLeft => replay.step(-1),
            KeyCode::Home => replay.seek(0),
            KeyCode::End => {
                let end = replay.frames();
                replay.seek(end);
            }
            KeyCode::Equal | KeyCode::NumpadAdd => faster(&mut replay, true),
            KeyCode::Minus | KeyCode::NumpadSubtract => faster(&mut replay, false),
            KeyCode::KeyV => {
                let other = match replay.view() {
                    View::Canonical => View::AsSeen,
                    View::AsSeen => View::Canonical,
                };
                replay.show(other);
            }
            KeyCode::Escape => {
                exit.write(AppExit::Success);
            }
            _ => {}
        }
    }
}

fn faster(replay: &mut Replay, up: bool) {
    let now = replay.speed();
    let next = if up {
        SPEEDS.iter().find(|speed| **speed > now)
    } else {
        SPEEDS.iter().rev().find(|speed| **speed < now)
    };
    replay.set_speed(*next.unwrap_or(&now));
}

fn record_rollback(
    mut rollbacks: MessageReader<RollbackCompleted<VolleyInput>>,
    mut last: ResMut<LastRollback>,
) {
    if let Some(newest) = rollbacks.read().last() {
        last.0 = Some(newest.clone());
    }
}

fn show_status(
    replay: Res<Replay>,
    last: Res<LastRollback>,
    mut lines: Query<&mut Text, With<Line>>,
) {
    let view = match replay.view() {
        View::Canonical => "as confirmed",
        View::AsSeen => "as its peer saw it",
    };
    let pause = if replay.is_paused() { "    paused" } else { "" };
    let mut text = format!(
        "frame {} of {}    {view}    x{}{pause}\n{KEYS}",
        replay.frame(),
        replay.frames(),
        replay.speed()
    );
    if replay.view() == View::AsSeen {
        for (player, late) in replay.lateness() {
            text += &match late {
                Some(0) => format!("\ninput of player {player}: on time"),
                Some(late) => format!("\ninput of player {player}: {late} frames late"),
                None => format!("\ninput of player {player}: did not arrive"),
            };
        }
    }
    // After a seek back, the last rollback may lie ahead.
    let shown = last.0.as_ref().filter(|rollback| {
        replay.view() == View::AsSeen && rollback.current_frame <= replay.frame()
    });
    if let Some(RollbackCompleted {
        frame,
        current_frame,
        player,
        predicted_action: Some(predicted),
        actual_action: Some(actual),
        ..
    }) = shown
    {
        text += &format!(
            "\nframe {current_frame}: back to {frame}, player {player} pressed {actual}, not {predicted}"
        );
    }
    for mut line in &mut lines {
        if line.0 != text {
            line.0.clone_from(&text);
        }
    }
}

fn leave_at_the_end(replay: Res<Replay>, mut exit: MessageWriter<AppExit>) {
    if replay.is_over() {
        exit.write(AppExit::Success);
    }
}
