//! Owns whether this peer's tab or window is hidden, and telling the others so. It never watches a
//! window itself: whoever does triggers [`SetHidden`].

use std::marker::PhantomData;
use std::time::Duration;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use super::driver::LabSession;
use crate::clock::LabClock;
use crate::transport::LabNet;

/// The tab or window of this peer is hidden from now on, or visible again.
///
/// Triggered by whoever watches it, in a browser the web plugin. The first
/// one, whatever it says, makes `focusLoss` of every later file a claim: without any, the file
/// says nothing.
#[derive(Event, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetHidden(pub bool);

/// What is known of this peer's tab or window.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Focus {
    /// Whether somebody watches it.
    pub watched: bool,
    /// Whether it is hidden.
    pub hidden: bool,
}

/// This peer's tab or window was hidden, or shown again.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct FocusChanged {
    /// Whether it is hidden now.
    pub hidden: bool,
    /// When.
    pub at: Duration,
}

pub(super) struct FocusPlugin<C>(pub PhantomData<fn() -> C>);

impl<C: Config<Address = PeerId>> Plugin for FocusPlugin<C> {
    fn build(&self, app: &mut App) {
        app.init_resource::<Focus>()
            .add_message::<FocusChanged>()
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
