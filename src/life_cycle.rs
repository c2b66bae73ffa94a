//! Joining at run time: [`JoinLab`], and the network and the record of every session of an app. Leaving is
//! the session's own, [`LeaveLab`].

use std::marker::PhantomData;

use bevy::prelude::*;
use bevy_matchbox::matchbox_socket::PeerId;
use ggrs::Config;

use crate::clock::LabClock;
use crate::config::LabConfig;
use crate::record::begin_session;
use crate::rollback::{Links, TraceLog};
pub use crate::session::LeaveLab;
use crate::session::{
    Focus, LabSession, PollNetworkSystems, SessionError, SessionFailed, SessionInfo, SessionPhase,
};
use crate::transport::LabNet;
use rollback_lab_link::conditions::Conditions;

/// Trigger it to join a room: from a menu, for the next room, for a rematch in the same one, again after a
/// failure.
///
/// It joins in the next update, in [`SessionPhase::Idle`], [`SessionPhase::Finished`] and
/// [`SessionPhase::Failed`]. While this peer is [leaving](LeaveLab) it waits until the room is left, so
/// that `LeaveLab` and `JoinLab` together change the room. In any other phase the session goes on, and
/// [`JoinRefused`] is triggered: a button that is pressed twice ends no match.
///
/// A configuration that [`LabConfig::validate`] refuses, or a folder that cannot be written, is a
/// [`SessionFailed`]. Every session has documents of its own, with times since it was joined. The
/// [`LabConfig`] resource is replaced by this one.
///
/// ```no_run
/// use bevy::{prelude::*, state::app::StatesPlugin};
/// use bevy_rollback_lab::bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::prelude::*;
///
/// type Config = GgrsConfig<u8, PeerId>;
///
/// /// What the buttons of the menu ask for.
/// #[derive(Message)]
/// enum Pressed {
///     Play(String),
///     Back,
/// }
///
/// fn menu(mut pressed: MessageReader<Pressed>, mut commands: Commands) {
///     for button in pressed.read() {
///         match button {
///             Pressed::Play(room) => {
///                 let config = LabConfig::new("ws://127.0.0.1:3536", room).frame_limit(1_800);
///                 commands.trigger(JoinLab(config));
///             }
///             Pressed::Back => commands.trigger(LeaveLab),
///         }
///     }
/// }
///
/// fn show_menu() {}
///
/// App::new()
///     .add_plugins((MinimalPlugins, StatesPlugin))
///     .add_plugins(RollbackLabPlugins::<Config>::idle())
///     .add_message::<Pressed>()
///     .add_systems(Update, menu)
///     .add_systems(OnEnter(SessionPhase::Idle), show_menu)
///     .add_systems(OnEnter(SessionPhase::Finished), show_menu)
///     .add_observer(|failed: On<SessionFailed>| error!("{}", failed.error))
///     .add_observer(|refused: On<JoinRefused>| warn!("{}", refused.event()))
///     .run();
/// ```
#[derive(Event, Reflect, Clone, Debug)]
pub struct JoinLab(pub LabConfig);

/// A [`JoinLab`] was refused, because this peer is in a room; the session there goes on.
///
/// ```
/// use bevy::prelude::*;
/// use bevy_rollback_lab::prelude::*;
///
/// # let mut app = App::new();
/// app.add_observer(|refused: On<JoinRefused>| warn!("{}", refused.event()));
/// ```
#[derive(Event, Reflect, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "room {wanted} is not joined: this peer is in room {room} ({}); trigger `LeaveLab` first",
    phase.as_str()
)]
pub struct JoinRefused {
    /// The room that it names.
    pub wanted: String,
    /// The room in which this peer is.
    pub room: String,
    /// The phase of the session there.
    pub phase: SessionPhase,
}

/// Opens the network of a lab session by its configuration and clock.
pub type NetworkOpener = dyn Fn(&LabConfig, &LabClock) -> LabNet + Send + Sync;

/// How the network of a session is opened; a test opens one in memory.
#[derive(Resource)]
pub struct OpenNetwork(pub Box<NetworkOpener>);

impl Default for OpenNetwork {
    /// Connects to the server of the configuration.
    fn default() -> Self {
        Self(Box::new(|lab, clock| {
            // Validated.
            let conditions = Conditions::parse(&lab.conditions).unwrap_or_default();
            LabNet::open(
                lab.matchbox_settings(),
                clock.clone(),
                lab.link_settings(),
                &conditions,
                lab.conditions_seed(),
            )
        }))
    }
}

/// The configuration of a [`JoinLab`] that is not joined yet.
#[derive(Resource, Default)]
struct Wanted(Option<LabConfig>);

/// Opens the network of the first session when the app starts, unless the app brings its own [`LabNet`],
/// and joins at run time.
pub(crate) struct LifeCyclePlugin<C> {
    lab: Option<LabConfig>,
    config: PhantomData<fn() -> C>,
}

impl<C> LifeCyclePlugin<C> {
    /// With the session of `lab` from the start on, if there is one.
    pub(crate) fn new(lab: Option<LabConfig>) -> Self {
        Self {
            lab,
            config: PhantomData,
        }
    }
}

impl<C: Config<Address = PeerId>> Plugin for LifeCyclePlugin<C> {
    fn build(&self, app: &mut App) {
        app.register_type::<LabConfig>()
            .register_type::<JoinLab>()
            .register_type::<JoinRefused>()
            .init_resource::<Wanted>()
            .init_resource::<OpenNetwork>()
            .add_observer(want)
            .add_observer(want_no_more)
            .add_systems(
                PreUpdate,
                join_wanted::<C>
                    .run_if(|wanted: Res<Wanted>| wanted.0.is_some())
                    .before(PollNetworkSystems),
            );
        if let Some(lab) = &self.lab {
            app.insert_resource(lab.clone()).add_systems(
                PreStartup,
                open_network.run_if(not(resource_exists::<LabNet>)),
            );
        }
    }
}

fn open_network(
    lab: Res<LabConfig>,
    clock: Res<LabClock>,
    open: Res<OpenNetwork>,
    mut commands: Commands,
) {
    commands.insert_resource((open.0)(&lab, &clock));
}

/// Not joined at once: it may be asked for in the middle of a ggrs step.
fn want(join: On<JoinLab>, mut wanted: ResMut<Wanted>) {
    wanted.0 = Some(join.event().0.clone());
}

/// Leaving ends a wish to join that came before.
fn want_no_more(_: On<LeaveLab>, mut wanted: ResMut<Wanted>) {
    wanted.0 = None;
}

/// Joins as soon as this peer is in no room any more.
fn join_wanted<C: Config<Address = PeerId>>(world: &mut World) {
    let now = world.resource::<LabClock>().now();
    let mut session = world.resource_mut::<LabSession<C>>();
    let phase = session.phase();
    let may_join = match phase {
        SessionPhase::Idle => true,
        SessionPhase::Finished | SessionPhase::Failed => {
            let left = session.has_left(now);
            if !left {
                // Sooner than without a join that waits.
                session.request_leave();
            }
            left
        }
        _ if session.is_leaving() => false,
        SessionPhase::Leaving => false,
        _ => {
            let room = session.room().to_owned();
            if let Some(lab) = world.resource_mut::<Wanted>().0.take() {
                let wanted = lab.room;
                let refused = JoinRefused {
                    wanted,
                    room,
                    phase,
                };
                warn!("{refused}");
                world.trigger(refused);
            }
            return;
        }
    };
    if !may_join {
        return;
    }
    if let Some(lab) = world.resource_mut::<Wanted>().0.take()
        && let Err(error) = join::<C>(world, lab)
    {
        error!("lab session failed: {error}");
        world.resource_mut::<LabSession<C>>().refuse(error.clone());
        world
            .resource_mut::<NextState<SessionPhase>>()
            .set(SessionPhase::Failed);
        world.trigger(SessionFailed { error });
    }
}

/// Begins a session by `lab`; nothing of the last one is left.
fn join<C: Config<Address = PeerId>>(
    world: &mut World,
    lab: LabConfig,
) -> Result<(), SessionError> {
    // The network of the last session is closed. One that the app inserted since is for this session.
    if world.resource::<LabSession<C>>().has_joined() {
        world.remove_resource::<LabNet>();
    }
    world.remove_resource::<SessionInfo>();
    lab.validate().map_err(|error| SessionError::Config {
        error: error.to_string(),
    })?;
    // Every session counts its times from its own beginning.
    let clock = world.resource::<LabClock>().restarted();
    let before = world.resource::<LabClock>().clone();
    world.insert_resource(clock.clone());
    if let Err(error) = begin_session::<C>(world, lab.record_settings()) {
        world.insert_resource(before);
        return Err(SessionError::Output {
            error: error.to_string(),
        });
    }
    world.resource_mut::<TraceLog<C>>().follow(&clock);
    world.resource_mut::<Links>().clear();
    let settings = lab.session_settings();
    world.insert_resource(settings.clone());
    world.insert_resource(LabSession::<C>::new(settings));
    let net = match world.get_resource::<LabNet>() {
        Some(net) => net.clone(),
        None => {
            let net = (world.resource::<OpenNetwork>().0)(&lab, &clock);
            world.insert_resource(net.clone());
            net
        }
    };
    // The tab or window is what it is, whichever room is joined.
    net.set_hidden(world.resource::<Focus>().hidden);
    world.insert_resource(lab);
    world
        .resource_mut::<NextState<SessionPhase>>()
        .set(SessionPhase::Connecting);
    Ok(())
}
