//! The websocket natively: async-tungstenite over a TCP stream without Nagle's delay.
//! Reads and writes in two halves, so that a server that reads slowly is still heard.

use std::time::Duration;

use async_net::TcpStream;
use async_tungstenite::smol::{ClientStream, client_async_tls};
use async_tungstenite::tungstenite::http::Uri;
use async_tungstenite::tungstenite::{Message, protocol::CloseFrame};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use futures::future::{Either, select};
use futures::{FutureExt, StreamExt, pin_mut, select_biased};
use futures_timer::Delay;

use super::{ServerEvent, ServerSettings, TaskEnds, WELCOME_TIMEOUT};

type Stream = ClientStream<TcpStream>;

pub(super) async fn run(settings: ServerSettings, mut ends: TaskEnds) {
    let socket = match connect(&settings).await {
        Ok(socket) => socket,
        Err(error) => {
            let url = settings.url;
            ends.tell(ServerEvent::Unreachable { url, error });
            return;
        }
    };
    let (mut sender, mut receiver) = socket.split();
    let (close, error) = converse(&mut sender, &mut receiver, &mut ends).await;
    ends.on_end(close, error);
}

async fn connect(settings: &ServerSettings) -> Result<WebSocketStream<Stream>, String> {
    let mut attempt = 1;
    loop {
        let trial = connect_once(&settings.url);
        pin_mut!(trial);
        let error = match select(trial, Delay::new(settings.timeout)).await {
            Either::Left((Ok(socket), _)) => return Ok(socket),
            Either::Left((Err(error), _)) => error,
            Either::Right(_) => format!("no answer within {} ms", settings.timeout.as_millis()),
        };
        if attempt >= settings.attempts {
            return Err(error);
        }
        bevy::log::warn!("attempt {attempt} to reach {} failed: {error}", settings.url);
        attempt += 1;
        Delay::new(settings.pause).await;
    }
}

async fn connect_once(url: &str) -> Result<WebSocketStream<Stream>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let host = uri.host().ok_or("the address names no host")?;
    let default_port = if uri.scheme_str() == Some("wss") { 443 } else { 80 };
    let port = uri.port_u16().unwrap_or(default_port);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = TcpStream::connect((bare, port))
        .await
        .map_err(|error| error.to_string())?;
    tcp.set_nodelay(true).map_err(|error| error.to_string())?;
    let (socket, _response) = client_async_tls(url, tcp)
        .await
        .map_err(|error| error.to_string())?;
    Ok(socket)
}

/// Reads and writes until either ends; tells the server's close frame, or what went wrong.
async fn converse(
    sender: &mut WebSocketSender<Stream>,
    receiver: &mut WebSocketReceiver<Stream>,
    ends: &mut TaskEnds,
) -> (Option<(u16, String)>, String) {
    let outbox = ends.outbox.clone();
    let (_closed_tx, mut requests) = {
        let (tx, empty) = futures::channel::mpsc::unbounded();
        (tx, std::mem::replace(&mut ends.requests, empty))
    };
    let write = async {
        loop {
            // Signals first: relayed packets never starve them.
            let message = select_biased! {
                request = requests.next() => match request {
                    Some(request) => match serde_json::to_string(&request) {
                        Ok(text) => Message::text(text),
                        Err(error) => return error.to_string(),
                    },
                    // matchbox is gone; relayed packets may still be sent.
                    None => match outbox.pop().await {
                        Some(frame) => Message::binary(frame),
                        None => Message::Close(None),
                    },
                },
                frame = outbox.pop().fuse() => match frame {
                    Some(frame) => Message::binary(frame),
                    None => Message::Close(None),
                },
            };
            let closing = matches!(message, Message::Close(_));
            if let Err(error) = sender.send(message).await {
                return error.to_string();
            }
            if closing {
                return String::from("left");
            }
        }
    };
    let read = read(receiver, ends);
    pin_mut!(write, read);
    match select(read, write).await {
        Either::Left((end, _)) => end,
        Either::Right((error, read)) => {
            // The server's reason, if it gave one, is worth more than our failed write.
            match select(read, Delay::new(Duration::from_millis(500))).await {
                Either::Left((end, _)) if end.0.is_some() => end,
                _ => (None, error),
            }
        }
    }
}

async fn read(
    receiver: &mut WebSocketReceiver<Stream>,
    ends: &mut TaskEnds,
) -> (Option<(u16, String)>, String) {
    let mut welcome = None;
    let mut told = false;
    loop {
        if ends.named && !told && welcome.is_none() {
            welcome = Some(Delay::new(WELCOME_TIMEOUT).fuse());
        }
        let next = match &mut welcome {
            Some(timer) if !ends.welcomed && !told => {
                select_biased! {
                    message = receiver.next().fuse() => message,
                    () = timer => {
                        told = true;
                        ends.tell(ServerEvent::NoRelay);
                        continue;
                    }
                }
            }
            _ => receiver.next().await,
        };
        match next {
            Some(Ok(Message::Text(text))) => ends.on_text(&text),
            Some(Ok(Message::Binary(bytes))) => ends.on_binary(&bytes),
            Some(Ok(Message::Close(frame))) => {
                let close = frame.map(|CloseFrame { code, reason }| {
                    (u16::from(code), reason.to_string())
                });
                return (close, String::from("closed by the server"));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return (None, error.to_string()),
            None => return (None, String::from("the connection ended")),
        }
    }
}
