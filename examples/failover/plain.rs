//! One peer over plain `bevy_ggrs` + matchbox: matchbox's own ggrs socket, ggrs's defaults, and a thin
//! wrapper that drops packets during the outage. Of this crate only the observers are used.

use std::thread;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use bevy_ggrs::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, ggrs};
use bevy_matchbox::matchbox_socket::{
    PeerId, RtcIceServerConfig, WebRtcChannel, WebRtcSocket, WebRtcSocketBuilder,
};
use bevy_rollback_lab::RollbackObserverPlugins;
use bevy_rollback_lab::internals::transport::websocket::spawn_network;
use ggrs::{Message, NonBlockingSocket, P2PSession};

use crate::Rules;
use crate::frame_scheduler::{self, FPS, WINDOW};
use crate::measure::{End, MeasurePlugin, Measured, Outage, Peer};
use volley::bot::BotPlugin;
use volley::{VolleyConfig, VolleyPlugin, start_court};

type Config = VolleyConfig<PeerId>;

const CHANNEL: usize = 0;
const PLAYERS: usize = 2;
/// Two peers on one machine connect within a second.
const MEETING: Duration = Duration::from_secs(15);
/// Reports that follow the opponent's disconnect come within this time.
const REPORT_WAIT: Duration = Duration::from_millis(300);

/// Plays the match to its end, or until ggrs disconnects the opponent.
///
/// # Errors
/// The peers do not connect, or the match does not end.
pub(crate) fn play(rules: &Rules) -> Result<Peer, String> {
    let url = format!("{}/{}?players={PLAYERS}", rules.server, rules.room);
    // Without STUN and TURN only local addresses are tried.
    let (mut socket, message_loop) = WebRtcSocketBuilder::new(url)
        .ice_server(RtcIceServerConfig {
            urls: Vec::new(),
            ..RtcIceServerConfig::default()
        })
        .add_unreliable_channel()
        .build();
    // `MatchboxSocket` would run this on Bevy's task pool, which a headless app without
    // `multi_threaded` ticks once a frame; a thread of its own is the faster of the two.
    spawn_network(async move {
        // It ends with the socket; its error would say only that.
        let _ended = message_loop.await;
    })
    .map_err(|error| format!("no thread for matchbox: {error}"))?;
    meet(&mut socket)?;
    let session = session(&mut socket, rules).map_err(|error| error.to_string())?;

    let mut app = App::new();
    app.add_plugins(MinimalPlugins)
        .insert_resource(rules.clock.clone())
        .add_plugins(GgrsPlugin::<Config>::default())
        .add_plugins(VolleyPlugin::<Config>::default())
        .add_plugins(BotPlugin::<Config>::new(rules.seed, FPS))
        .insert_resource(RollbackFrameRate(FPS as usize))
        .add_plugins(RollbackObserverPlugins::<Config>::in_memory().read_events())
        .add_plugins(MeasurePlugin(rules.outage.clone()));
    start_court(app.world_mut(), PLAYERS, rules.seed);
    app.insert_resource(Session::P2P(session));

    let last = rules.frames as i32;
    let confirmed = |app: &App| app.world().resource::<ConfirmedFrameCount>().0;
    let disconnected = |app: &App| app.world().resource::<Measured>().disconnected();
    let ended = frame_scheduler::run(&mut app, |app| match disconnected(app) {
        Some(at) => rules.clock.now() > at + REPORT_WAIT,
        None => confirmed(app) >= last,
    });
    let end = match (disconnected(&app), ended) {
        (Some(at), _) => rules.outage.since_start(at).map_or_else(
            || End::Failed("the opponent was disconnected before the outage".to_owned()),
            End::OpponentDisconnected,
        ),
        (None, Ok(())) => End::Complete,
        (None, Err(error)) => End::Failed(error),
    };
    let measured = app.world().resource::<Measured>();
    Ok(measured.peer(&rules.outage, end, rules.clock.now()))
}

fn meet(socket: &mut WebRtcSocket) -> Result<(), String> {
    let start = Instant::now();
    while socket.connected_peers().count() + 1 < PLAYERS || socket.id().is_none() {
        socket
            .try_update_peers()
            .map_err(|error| format!("matchbox's socket closed: {error}"))?;
        if start.elapsed() > MEETING {
            return Err(format!("no opponent connected within {MEETING:?}"));
        }
        thread::sleep(frame_scheduler::tick());
    }
    Ok(())
}

/// Everything but players, frame rate, window and delay is ggrs's default.
fn session(
    socket: &mut WebRtcSocket,
    rules: &Rules,
) -> Result<P2PSession<Config>, ggrs::GgrsError> {
    let mut builder = SessionBuilder::<Config>::new()
        .with_num_players(PLAYERS)?
        .with_fps(FPS as usize)?
        .with_max_prediction_window(WINDOW as usize)
        .with_input_delay(rules.input_delay as usize);
    for (handle, player) in socket.players().into_iter().enumerate() {
        builder = builder.add_player(player, handle)?;
    }
    let channel = socket
        .take_channel(CHANNEL)
        .expect("the socket was built with this channel");
    builder.start_p2p_session(Droppable {
        channel,
        outage: rules.outage.clone(),
    })
}

/// matchbox's own ggrs socket, whose packets are dropped during the outage.
struct Droppable {
    channel: WebRtcChannel,
    outage: Outage,
}

impl NonBlockingSocket<PeerId> for Droppable {
    fn send_to(&mut self, message: &Message, peer: &PeerId) {
        if self.outage.start().is_none() {
            self.channel.send_to(message, peer);
        }
    }

    fn receive_all_messages(&mut self) -> Vec<(PeerId, Message)> {
        let messages = self.channel.receive_all_messages();
        if self.outage.start().is_none() {
            messages
        } else {
            Vec::new()
        }
    }
}
