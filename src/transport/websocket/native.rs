//! The websocket on native targets: a thread of its own.
//!
//! Owns the socket. Reading and writing are two futures that live as long as the connection,
//! so that neither is ever cancelled with a frame in its hands.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use async_tungstenite::{
    WebSocketReceiver, WebSocketSender, WebSocketStream,
    smol::{ConnectStream, connect_async_with_config},
    stream::Stream as MaybeTls,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, WebSocketConfig},
    },
};
use futures::{
    FutureExt, StreamExt,
    future::{Either, select},
};
use futures_timer::Delay;

use super::{
    ConnectError, ServerEvent, ServerSettings,
    queues::{OutFrame, Shared, TextSeen},
};
use crate::clock::LabClock;

/// Largest message accepted: the server's bound for signaling text.
const MAX_MESSAGE: usize = 64 * 1024;
/// Lowest close code that is an application's own (RFC 6455, section 7.4.2).
const FIRST_OWN_CODE: u16 = 4_000;
/// How long to listen for the reason after a write has failed, and to wait for the goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a network task on a thread of its own: a websocket that must answer between frames
/// cannot wait for the game's next update.
///
/// # Errors
/// When the system cannot start another thread.
pub fn spawn_network(task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new()
        .name("rollback-lab-net".into())
        .spawn(move || futures::executor::block_on(task))
        .map(drop)
}

/// Connects and pumps the queues until the connection ends.
pub(super) async fn run(shared: Arc<Shared>, settings: ServerSettings, clock: LabClock) {
    let websocket = match connect(&shared, &settings).await {
        Ok(Some(websocket)) => websocket,
        Ok(None) => return shared.end(closed_here()),
        Err(error) => return shared.end(ServerEvent::Unreachable(error)),
    };
    shared.tell(ServerEvent::Connected);
    let (sink, stream) = websocket.split();
    let end = pump(&shared, sink, stream, settings.relay_wait, &clock).await;
    shared.end(end);
}

/// `None` when the game let go of the connection before it came about.
async fn connect(
    shared: &Shared,
    settings: &ServerSettings,
) -> Result<Option<WebSocketStream<ConnectStream>>, ConnectError> {
    let url = || settings.url.clone();
    let request = settings
        .url
        .as_str()
        .into_client_request()
        .and_then(|request| {
            async_tungstenite::tungstenite::client::uri_mode(request.uri()).map(|_| request)
        })
        .map_err(|error| ConnectError::Url {
            url: url(),
            error: error.to_string(),
        })?;
    let attempts = settings.attempts.max(1);
    let mut error = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            select(Delay::new(settings.retry_pause), pin!(shared.closing())).await;
        }
        if shared.is_closing() {
            return Ok(None);
        }
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let connecting = pin!(connect_async_with_config(request.clone(), Some(config)));
        let patience = pin!(async {
            select(Delay::new(settings.attempt_timeout), pin!(shared.closing())).await;
        });
        match select(connecting, patience).await {
            Either::Left((Ok((websocket, _)), _)) => {
                let tcp = match websocket.get_ref() {
                    MaybeTls::Plain(tcp) => tcp,
                    MaybeTls::Tls(tls) => tls.get_ref().0,
                };
                // Without it Nagle's algorithm holds an input packet back until the one
                // before it is acknowledged. A failure costs latency, never the connection.
                let _ = tcp.set_nodelay(true);
                return Ok(Some(websocket));
            }
            Either::Left((Err(failed), _)) => error = failed.to_string(),
            Either::Right(_) => error = format!("no answer in {:?}", settings.attempt_timeout),
        }
    }
    Err(ConnectError::Unreachable {
        url: url(),
        attempts,
        error,
    })
}

async fn pump(
    shared: &Shared,
    sink: WebSocketSender<ConnectStream>,
    stream: WebSocketReceiver<ConnectStream>,
    relay_wait: Duration,
    clock: &LabClock,
) -> ServerEvent {
    let reading = pin!(read(shared, stream, relay_wait, clock));
    let writing = pin!(write(shared, sink, clock));
    match select(reading, writing).await {
        Either::Left((end, _)) => end,
        // The server's reason, if it gave one, is still to be read.
        Either::Right((written, reading)) => {
            let lost = match written {
                Ok(()) => closed_here(),
                Err(error) => ServerEvent::Lost {
                    reason: error.to_string(),
                },
            };
            match select(reading, Delay::new(LAST_WORDS)).await {
                Either::Left((refused @ ServerEvent::Refused { .. }, _)) => refused,
                _ => lost,
            }
        }
    }
}

async fn write(
    shared: &Shared,
    mut sink: WebSocketSender<ConnectStream>,
    clock: &LabClock,
) -> Result<(), Error> {
    loop {
        match shared.next_outgoing(clock).await {
            OutFrame::Text(text) => sink.send(Message::Text(text.into())).await?,
            OutFrame::Binary(frame) => sink.send(Message::Binary(frame.into())).await?,
            OutFrame::Close => {
                let leave_message = pin!(sink.close(None));
                select(leave_message, Delay::new(LAST_WORDS)).await;
                return Ok(());
            }
        }
    }
}

/// Reads until the connection ends, and returns how it did.
async fn read(
    shared: &Shared,
    mut stream: WebSocketReceiver<ConnectStream>,
    relay_wait: Duration,
    clock: &LabClock,
) -> ServerEvent {
    let mut relay_deadline = Either::Left(futures::future::pending()).fuse();
    loop {
        let message = futures::select! {
            message = stream.next().fuse() => message,
            () = relay_deadline => {
                shared.relay_wait_over();
                continue;
            }
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                if shared.on_text(&text) == TextSeen::FirstId {
                    relay_deadline = Either::Right(Delay::new(relay_wait)).fuse();
                }
            }
            Some(Ok(Message::Binary(bytes))) => shared.on_binary(&bytes, clock.now()),
            Some(Ok(Message::Close(frame))) => return closed(frame),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                return ServerEvent::Lost {
                    reason: error.to_string(),
                };
            }
            None => return closed(None),
        }
    }
}

fn closed_here() -> ServerEvent {
    ServerEvent::Lost {
        reason: "closed by this peer".into(),
    }
}

fn closed(frame: Option<CloseFrame>) -> ServerEvent {
    let Some(frame) = frame else {
        return ServerEvent::Lost {
            reason: "the server closed the connection".into(),
        };
    };
    let code = u16::from(frame.code);
    let reason = frame.reason.to_string();
    if code >= FIRST_OWN_CODE {
        ServerEvent::Refused { code, reason }
    } else {
        ServerEvent::Lost {
            reason: format!("the server closed the connection with code {code}: {reason}"),
        }
    }
}
