//! The websocket on native targets: `async-tungstenite` on a thread of its own.

use std::{future::Future, io, time::Duration};

use async_tungstenite::{
    WebSocketReceiver, WebSocketSender,
    smol::{ConnectStream, connect_async_with_config},
    stream::Stream as MaybeTls,
    tungstenite::{
        Bytes, Message,
        client::{IntoClientRequest, uri_mode},
        protocol::{CloseFrame, WebSocketConfig},
    },
};
use futures::StreamExt;

use rollback_lab_link::wire::relay::ResumeToken;

use super::driver::{AttemptError, Backend, InFrame, LEAVE, MAX_MESSAGE, Opened, Reader, Writer};
use crate::clock::LabClock;

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

/// `async-tungstenite` over TCP or TLS.
pub(super) struct Platform;

impl Backend for Platform {
    type Writer = NativeWriter;
    type Reader = NativeReader;
    /// One a second for five seconds: TCP repeats a lost first packet after 1 and 3 s, and an attempt that
    /// was begun after the network is back overtakes those before it.
    const ATTEMPTS_AT_ONCE: usize = 6;
    const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

    async fn connect(url: &str, clock: &LabClock) -> Result<Opened<Self>, AttemptError> {
        let request = url
            .into_client_request()
            .and_then(|request| uri_mode(request.uri()).map(|_mode| request))
            .map_err(|error| AttemptError::Url(error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let (websocket, _response) = connect_async_with_config(request, Some(config))
            .await
            .map_err(|error| AttemptError::Failed(error.to_string()))?;
        let tcp = match websocket.get_ref() {
            MaybeTls::Plain(tcp) => tcp,
            MaybeTls::Tls(tls) => tls.get_ref().0,
        };
        // Without it Nagle's algorithm holds an input packet back until the one before it is
        // acknowledged. A failure costs latency, not the connection.
        let _ = tcp.set_nodelay(true);
        let (sink, stream) = websocket.split();
        let clock = clock.clone();
        Ok((NativeWriter(sink), NativeReader { stream, clock }))
    }

    /// A process keeps its token in memory, and that ends with it.
    fn kept_token(_url: &str) -> Option<ResumeToken> {
        None
    }

    fn keep_token(_url: &str, _token: Option<&ResumeToken>) {}
}

pub(super) struct NativeWriter(WebSocketSender<ConnectStream>);

impl Writer for NativeWriter {
    /// Writing itself waits for the socket.
    async fn ready(&self) {}

    async fn text(&mut self, text: String) -> Result<(), String> {
        self.send(Message::Text(text.into())).await
    }

    async fn binary(&mut self, frame: Vec<u8>) -> Result<(), String> {
        self.send(Message::Binary(frame.into())).await
    }

    async fn close(&mut self) {
        // A connection that is gone already needs no close frame.
        let (code, reason) = LEAVE;
        let frame = CloseFrame {
            code: code.into(),
            reason: reason.into(),
        };
        let _ = self.0.close(Some(frame)).await;
    }
}

impl NativeWriter {
    async fn send(&mut self, message: Message) -> Result<(), String> {
        self.0
            .send(message)
            .await
            .map_err(|error| error.to_string())
    }
}

pub(super) struct NativeReader {
    stream: WebSocketReceiver<ConnectStream>,
    clock: LabClock,
}

impl Reader for NativeReader {
    type Bytes = Bytes;

    async fn next(&mut self) -> InFrame<Bytes> {
        match self.stream.next().await {
            Some(Ok(message)) => received(message, self.clock.now()),
            Some(Err(error)) => InFrame::Failed(error.to_string()),
            None => InFrame::Closed {
                code: None,
                reason: String::new(),
            },
        }
    }
}

/// Pings and pongs are signs of life; tungstenite itself answers pings.
fn received(message: Message, at: Duration) -> InFrame<Bytes> {
    match message {
        Message::Text(text) => InFrame::Text(text.as_str().to_owned()),
        Message::Binary(bytes) => InFrame::Binary { bytes, at },
        Message::Close(frame) => {
            let (code, reason) = frame.map_or((None, String::new()), |frame| {
                (Some(u16::from(frame.code)), frame.reason.to_string())
            });
            InFrame::Closed { code, reason }
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => InFrame::Alive,
    }
}
