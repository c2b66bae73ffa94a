//! Keyboard, gamepad and touch: their bindings to the buttons of the game. When the buttons change, the
//! record gets the time and the device ([`InputTiming`]).

use bevy::input::InputSystems;
use bevy::platform::collections::HashMap;
use bevy::prelude::*;
use bevy::window::PrimaryWindow;
use bevy_ggrs::{LocalInputs, LocalPlayers, ReadInputs, RunGgrsSystems};
use bevy_rollback_lab::clock::LabClock;
use bevy_rollback_lab::hud::HudShown;
use bevy_rollback_lab::prelude::*;

use crate::game::LocalPlayer;
use crate::rounds::Config;
use volley::input::VolleyInput;

/// Dead zone of the stick.
const STICK: f32 = 0.35;
/// Touch zones as shares of the screen's width: the left button up to the first, the right button up
/// to the second, the jump beyond it.
pub(crate) const TOUCH_ZONES: [f32; 2] = [0.22, 0.5];

/// The buttons held on each device, apart, so that the record can name the one that changed.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    keyboard: VolleyInput,
    gamepad: VolleyInput,
    touch: VolleyInput,
    /// The screen was touched at least once.
    pub touched: bool,
}

impl Held {
    fn all(&self) -> VolleyInput {
        self.keyboard.with(self.gamepad).with(self.touch)
    }

    /// The buttons held by touch.
    pub(crate) fn touch(&self) -> VolleyInput {
        self.touch
    }
}

/// Reads the devices for the local player, unless a bot plays, and for the keys of the window.
pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Held>()
        .add_systems(
            PreUpdate,
            read_devices
                .after(InputSystems)
                .before(RunGgrsSystems)
                .run_if(human_plays),
        )
        .add_systems(ReadInputs, press.run_if(human_plays))
        .add_systems(Update, (close_on_escape, toggle_hud_by_gamepad));
}

fn human_plays(local: Res<LocalPlayer>) -> bool {
    !local.bot
}

fn read_devices(
    keys: Res<ButtonInput<KeyCode>>,
    pads: Query<&Gamepad>,
    touches: Res<Touches>,
    windows: Query<&Window, With<PrimaryWindow>>,
    clock: Res<LabClock>,
    mut held: ResMut<Held>,
    mut timing: ResMut<InputTiming>,
) {
    let before = *held;
    held.keyboard = keyboard(&keys);
    held.gamepad = pads
        .iter()
        .map(gamepad)
        .fold(VolleyInput::NONE, VolleyInput::with);
    let width = windows.single().map_or(1.0, Window::width);
    held.touch = touches
        .iter()
        .map(|touch| zone(touch.position().x / width))
        .fold(VolleyInput::NONE, VolleyInput::with);
    held.touched |= held.touch != VolleyInput::NONE;

    if held.all() == before.all() {
        return;
    }
    let devices = [
        ("keyboard", before.keyboard, held.keyboard),
        ("gamepad", before.gamepad, held.gamepad),
        ("touch", before.touch, held.touch),
    ];
    let changed = devices.into_iter().find(|(_, before, now)| before != now);
    if let Some((device, ..)) = changed {
        timing.changed(device, clock.now());
    }
}

fn keyboard(keys: &ButtonInput<KeyCode>) -> VolleyInput {
    use KeyCode::{ArrowLeft, ArrowRight, ArrowUp, KeyA, KeyD, KeyW, Space};
    buttons([
        keys.any_pressed([ArrowLeft, KeyA]),
        keys.any_pressed([ArrowRight, KeyD]),
        keys.any_pressed([ArrowUp, KeyW, Space]),
    ])
}

fn gamepad(pad: &Gamepad) -> VolleyInput {
    let x = pad.left_stick().x;
    buttons([
        x < -STICK || pad.pressed(GamepadButton::DPadLeft),
        x > STICK || pad.pressed(GamepadButton::DPadRight),
        pad.any_pressed([
            GamepadButton::South,
            GamepadButton::East,
            GamepadButton::DPadUp,
        ]),
    ])
}

/// The button under a finger, by its share of the screen's width.
fn zone(x: f32) -> VolleyInput {
    let [left, right] = TOUCH_ZONES;
    buttons([x < left, (left..right).contains(&x), x >= right])
}

/// Left, right, jump.
fn buttons(held: [bool; 3]) -> VolleyInput {
    VolleyInput::BUTTONS
        .iter()
        .zip(held)
        .filter(|(_, held)| *held)
        .fold(VolleyInput::NONE, |all, ((button, _), _)| all.with(*button))
}

fn press(held: Res<Held>, local: Res<LocalPlayers>, mut commands: Commands) {
    let inputs: HashMap<_, _> = local.0.iter().map(|&handle| (handle, held.all())).collect();
    commands.insert_resource(LocalInputs::<Config>(inputs));
}

/// Closes the window on Escape; a browser's tab is closed by its user.
fn close_on_escape(keys: Res<ButtonInput<KeyCode>>, mut exit: MessageWriter<AppExit>) {
    if cfg!(not(target_arch = "wasm32")) && keys.just_pressed(KeyCode::Escape) {
        exit.write(AppExit::Success);
    }
}

/// The gamepad's key for the HUD; F3 is handled by the library.
fn toggle_hud_by_gamepad(pads: Query<&Gamepad>, mut shown: ResMut<HudShown>) {
    if pads
        .iter()
        .any(|pad| pad.just_pressed(GamepadButton::Select))
    {
        shown.0 = !shown.0;
    }
}
