//! A process that gets a signal to end exits like an app that ends by itself: its files are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bevy::app::TerminalCtrlCHandlerPlugin;
use bevy::prelude::*;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// What a shell adds to the number of a signal that ended a process.
const SIGNAL_EXIT: i32 = 128;

/// Exits the app on SIGTERM, SIGHUP and Ctrl-C (SIGINT), so that a running episode is written and the other
/// players learn that this one left. A second signal ends the process at once. Unix only.
///
/// Part of [`RollbackLabPlugins`](crate::RollbackLabPlugins), where it can be disabled; add it beside
/// [`RollbackObserverPlugins`](crate::RollbackObserverPlugins), which add nothing to a game but observers.
/// Bevy's `TerminalCtrlCHandlerPlugin` of `DefaultPlugins` handles Ctrl-C alone, and `MinimalPlugins` lack
/// it; where it is added, Ctrl-C stays its own.
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_rollback_lab::ExitOnSignalPlugin;
///
/// App::new().add_plugins((MinimalPlugins, ExitOnSignalPlugin)).run();
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitOnSignalPlugin;

/// The signal that came, 0 before.
#[derive(Resource, Clone, Default)]
struct Signal(Arc<AtomicUsize>);

impl Plugin for ExitOnSignalPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Signal>()
            .add_systems(First, exit_on_signal);
    }

    /// Only now is it known whether Bevy handles Ctrl-C.
    fn finish(&self, app: &mut App) {
        let signal = app.world().resource::<Signal>().0.clone();
        let second = Arc::new(AtomicBool::new(false));
        let mut handled = vec![SIGTERM, SIGHUP];
        if !app.is_plugin_added::<TerminalCtrlCHandlerPlugin>() {
            handled.push(SIGINT);
        }
        for number in handled {
            // The order matters: the first signal finds the flag down.
            let registered = flag::register_conditional_shutdown(
                number,
                SIGNAL_EXIT + number,
                Arc::clone(&second),
            )
            .and_then(|_| flag::register(number, Arc::clone(&second)))
            .and_then(|_| {
                let value = usize::try_from(number).unwrap_or_default();
                flag::register_usize(number, Arc::clone(&signal), value)
            });
            if let Err(error) = registered {
                warn!("signal {number} ends the process without its files: {error}");
            }
        }
    }
}

fn exit_on_signal(signal: Res<Signal>, mut exit: MessageWriter<AppExit>) {
    let number = signal.0.swap(0, Ordering::Relaxed);
    if number == 0 {
        return;
    }
    info!("signal {number}: the app exits");
    let code = u8::try_from(SIGNAL_EXIT.unsigned_abs() as usize + number).unwrap_or(u8::MAX);
    exit.write(AppExit::from_code(code));
}
