//! A plain `bevy_ggrs` game over UDP that writes episode files after one added line.
//!
//!     cargo run --release --example observe_existing
//!
//! plays ten seconds of volley between two apps in one process, then exits; the files are in
//! `exports`. Two processes, or two machines, play by port, handle and the other's address:
//!
//!     cargo run --release --example observe_existing -- 7000 0 127.0.0.1:7001
//!     cargo run --release --example observe_existing -- 7001 1 127.0.0.1:7000

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bevy::app::ScheduleRunnerPlugin;
use bevy::log::LogPlugin;
use bevy::prelude::*;
use bevy_ggrs::prelude::*;
use bevy_ggrs::{ConfirmedFrameCount, ggrs};
use bevy_rollback_lab::prelude::*;
use ggrs::{DesyncDetection, P2PSession, UdpNonBlockingSocket};

use volley::bot::BotPlugin;
use volley::{VolleyConfig, VolleyPlugin, start_court};

type Config = VolleyConfig<SocketAddr>;
type Failure = Box<dyn Error + Send + Sync>;

const FPS: u32 = 60;
/// Ten seconds.
const FRAMES: i32 = 600;
const SEED: u64 = 7;
const USAGE: &str = "usage: observe_existing [LOCAL_PORT HANDLE(0|1) OTHER_ADDRESS:PORT]";

/// One of the two players: its port, its handle and the address of the other.
struct PlayerSlot {
    port: u16,
    handle: usize,
    other: SocketAddr,
}

fn main() -> ExitCode {
    // A process can set up logging once, so the apps do not.
    App::new().add_plugins(LogPlugin::default());
    match player_slots().and_then(play_all) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play_all(player_slots: Vec<PlayerSlot>) -> Result<(), Failure> {
    let peers: Vec<_> = player_slots
        .into_iter()
        .map(|player_slot| thread::spawn(move || play(&player_slot)))
        .collect();
    for peer in peers {
        peer.join().map_err(|_| "a peer's thread panicked")??;
    }
    Ok(())
}

/// The game as it was before; the marked line is the one that was added.
fn play(player_slot: &PlayerSlot) -> Result<(), Failure> {
    let session = session(player_slot)?;
    let mut app = App::new();
    app.add_plugins(MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(
        // Four updates per frame, so that packets do not wait long.
        Duration::from_secs(1) / (4 * FPS),
    )))
    .add_plugins(GgrsPlugin::<Config>::default())
    .add_plugins(VolleyPlugin::<Config>::default())
    .add_plugins(BotPlugin::<Config>::new(SEED, FPS))
    .insert_resource(RollbackFrameRate(FPS as usize))
    .add_systems(Update, exit_after_the_last_frame);

    app.add_plugins(RollbackObserverPlugins::<Config>::default()); // <- the added line

    start_court(app.world_mut(), 2, SEED);
    app.insert_resource(Session::P2P(session));
    match app.run() {
        AppExit::Success => Ok(()),
        AppExit::Error(code) => {
            Err(format!("player {} left with {code}", player_slot.handle).into())
        }
    }
}

fn session(player_slot: &PlayerSlot) -> Result<P2PSession<Config>, Failure> {
    let builder = SessionBuilder::<Config>::new()
        .with_num_players(2)?
        .with_fps(FPS as usize)?
        .with_input_delay(0)
        .with_desync_detection_mode(DesyncDetection::On { interval: 10 })
        .add_player(PlayerType::Local, player_slot.handle)?
        .add_player(
            PlayerType::Remote(player_slot.other),
            1 - player_slot.handle,
        )?;
    let socket = UdpNonBlockingSocket::bind_to_port(player_slot.port)?;
    Ok(builder.start_p2p_session(socket)?)
}

/// Exits once the last frame is confirmed: by then the other peer has all inputs that it needs.
fn exit_after_the_last_frame(
    confirmed: Option<Res<ConfirmedFrameCount>>,
    mut exit: MessageWriter<AppExit>,
) {
    if confirmed.is_some_and(|confirmed| confirmed.0 >= FRAMES) {
        exit.write(AppExit::Success);
    }
}

/// Both player slots, or the one that the arguments name.
fn player_slots() -> Result<Vec<PlayerSlot>, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            let ports = free_ports()?;
            let player_slot = |handle: usize| PlayerSlot {
                port: ports[handle],
                handle,
                other: SocketAddr::from((Ipv4Addr::LOCALHOST, ports[1 - handle])),
            };
            Ok(vec![player_slot(0), player_slot(1)])
        }
        [port, handle, other] => {
            let handle = handle.parse().ok().filter(|handle| *handle < 2);
            Ok(vec![PlayerSlot {
                port: port.parse().map_err(|_| USAGE)?,
                handle: handle.ok_or(USAGE)?,
                other: other.parse().map_err(|_| USAGE)?,
            }])
        }
        _ => Err(USAGE.into()),
    }
}

/// Two free ports. ggrs binds by number only, so they are found first and then released.
fn free_ports() -> std::io::Result<[u16; 2]> {
    let sockets = [
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?,
    ];
    Ok([
        sockets[0].local_addr()?.port(),
        sockets[1].local_addr()?.port(),
    ])
}
