//! Whether this peer's tab or window is hidden, and reporting that to the other peers.

use std::marker::PhantomData;
use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::driver::LabSession;
use crate::clock::LabClock;
use crate::transport::LabNet;

/// Trigger it when the tab or window of this peer is hidden (`true`) or visible again (`false`): the
/// other peers then stop expecting packets, and the file lists it under `focusLoss`.
///
/// The web plugin triggers it in browsers; a native app that can be hidden does it itself. From the
/// first one on, even of `false`, an empty `focusLoss` in a file means that the game was visible all
/// the time; without any it means that this was not observed.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::session::SetHidden;
///
/// fn minimized(mut commands: Commands) {
///     commands.trigger(SetHidden(true));
/// }
/// # bevy::ecs::system::assert_is_system(minimized);
/// ```
#[derive(Event, Reflect, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetHidden(pub bool);

/// What is known of this peer's tab or window.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Focus {
    /// Whether [`SetHidden`] was triggered so far.
    pub(crate) watched: bool,
    /// Whether it is hidden.
    pub(crate) hidden: bool,
}

/// This peer's tab or window was hidden, or shown again.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FocusChanged {
    /// Whether it is hidden now.
    pub(crate) hidden: bool,
    /// When.
    pub(crate) at: Duration,
}

pub(super) struct FocusPlugin<C>(pub PhantomData<fn() -> C>);

impl<C: Config<Address = PeerId>> Plugin for FocusPlugin<C> {
    fn build(&self, app: &mut App) {
        app.init_resource::<Focus>()
            .add_message::<FocusChanged>()
            .register_type::<SetHidden>()
            .add_observer(record_hidden::<C>);
    }
}

fn record_hidden<C: Config<Address = PeerId>>(
    set: On<SetHidden>,
    session: Option<Res<LabSession<C>>>,
    net: Option<Res<LabNet>>,
    clock: Res<LabClock>,
    mut focus: ResMut<Focus>,
    mut changed: MessageWriter<FocusChanged>,
) {
    let SetHidden(hidden) = *set.event();
    let first = !std::mem::replace(&mut focus.watched, true);
    if focus.hidden == hidden && !first {
        return;
    }
    let changes = focus.hidden != hidden;
    focus.hidden = hidden;
    changed.write(FocusChanged {
        hidden,
        at: clock.now(),
    });
    let Some(net) = net else {
        return;
    };
    net.set_hidden(hidden);
    if let Some(session) = session.filter(|_| changes) {
        session.report_hidden(&net, hidden);
    }
}
