//! The life of a server connection over any websocket: connect with retries, pump the queues, close.
//!
//! A platform implements [`Backend`]; another one is one more file beside `native.rs` and `wasm.rs`.
//! Reading and writing are two futures that live as long as the connection, so that neither is ever
//! cancelled with a frame in its hands.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{
    FutureExt,
    future::{Either, select},
};
use futures_timer::Delay;

use super::{
    ConnectError, ServerEvent, SignalingSettings,
    queues::{OutFrame, Shared, TextSeen},
};
use crate::clock::LabClock;

/// Largest message accepted: the server's bound for signaling text.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;
/// Lowest close code that is an application's own (RFC 6455, section 7.4.2).
const FIRST_OWN_CODE: u16 = 4_000;
/// How long to wait for the server's close frame, and, after a write has failed, for the reason that
/// the server may have sent before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A platform's websocket.
pub(super) trait Backend {
    /// The sending half.
    type Writer: Writer;
    /// The receiving half.
    type Reader: Reader;

    /// Makes one attempt to open a websocket. Dropping the future abandons the attempt.
    async fn connect(
        url: &str,
        clock: &LabClock,
    ) -> Result<(Self::Writer, Self::Reader), AttemptError>;
}

/// The sending half of a websocket. Errors are the platform's own texts.
pub(super) trait Writer {
    /// Waits until the platform's own buffer has room; at once where writing itself waits for that.
    async fn ready(&self);

    async fn text(&mut self, text: String) -> Result<(), String>;

    async fn binary(&mut self, frame: Vec<u8>) -> Result<(), String>;

    /// Sends a close frame.
    async fn close(&mut self);
}

/// The receiving half of a websocket.
pub(super) trait Reader {
    type Bytes: AsRef<[u8]>;

    /// Waits for the next message. Dropping the future loses none.
    async fn next(&mut self) -> InFrame<Self::Bytes>;
}

/// Why an attempt to connect failed.
pub(super) enum AttemptError {
    /// The address cannot be used; another attempt would fail alike.
    Url(String),
    /// The server did not take the connection.
    Failed(String),
}

/// What a websocket received.
pub(super) enum InFrame<B> {
    Text(String),
    Binary {
        bytes: B,
        /// When it was read from the socket.
        at: Duration,
    },
    /// The server closed the connection; `None` where it named no code.
    Closed {
        code: Option<u16>,
        reason: String,
    },
    /// The connection broke.
    Failed(String),
}

/// Connects and pumps the queues until the connection ends.
pub(super) async fn run<B: Backend>(
    shared: Arc<Shared>,
    settings: SignalingSettings,
    clock: LabClock,
) {
    let (writer, reader) = match connect::<B>(&shared, &settings, &clock).await {
        Ok(Some(websocket)) => websocket,
        Ok(None) => return shared.end(closed_here()),
        Err(error) => return shared.end(ServerEvent::Unreachable(error)),
    };
    shared.emit(ServerEvent::Connected);
    let end = pump(&shared, writer, reader, settings.relay_wait, &clock).await;
    shared.end(end);
}

/// `None` when the game let go of the connection before it came about.
async fn connect<B: Backend>(
    shared: &Shared,
    settings: &SignalingSettings,
    clock: &LabClock,
) -> Result<Option<(B::Writer, B::Reader)>, ConnectError> {
    let attempts = settings.attempts.max(1);
    let mut error = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            select(Delay::new(settings.retry_pause), pin!(shared.closing())).await;
        }
        if shared.is_closing() {
            return Ok(None);
        }
        let connecting = pin!(B::connect(&settings.url, clock));
        let patience = pin!(async {
            select(Delay::new(settings.attempt_timeout), pin!(shared.closing())).await;
        });
        match select(connecting, patience).await {
            Either::Left((Ok(websocket), _)) => return Ok(Some(websocket)),
            Either::Left((Err(AttemptError::Url(error)), _)) => {
                let url = settings.url.clone();
                return Err(ConnectError::Url { url, error });
            }
            Either::Left((Err(AttemptError::Failed(failed)), _)) => error = failed,
            Either::Right(_) => error = format!("no answer in {:?}", settings.attempt_timeout),
        }
    }
    Err(ConnectError::Unreachable {
        url: settings.url.clone(),
        attempts,
        error,
    })
}

/// Sends and receives until the connection ends; returns how it did.
async fn pump(
    shared: &Shared,
    writer: impl Writer,
    reader: impl Reader,
    relay_wait: Duration,
    clock: &LabClock,
) -> ServerEvent {
    let reading = pin!(read(shared, reader, relay_wait));
    let writing = pin!(write(shared, writer, clock));
    match select(reading, writing).await {
        Either::Left((end, _)) => end,
        // The server's reason, if it gave one, is still to be read.
        Either::Right((written, reading)) => {
            let lost = match written {
                Ok(()) => closed_here(),
                Err(reason) => ServerEvent::Lost { reason },
            };
            match select(reading, Delay::new(CLOSE_TIMEOUT)).await {
                Either::Left((refused @ ServerEvent::Refused { .. }, _)) => refused,
                _ => lost,
            }
        }
    }
}

/// Sends until the game lets go of the connection, or the platform refuses a frame.
async fn write(shared: &Shared, mut writer: impl Writer, clock: &LabClock) -> Result<(), String> {
    loop {
        // A frame waits in the queues as long as it can: there the oldest one gives way.
        select(pin!(writer.ready()), pin!(shared.closing())).await;
        match shared.next_outgoing(clock).await {
            OutFrame::Text(text) => writer.text(text).await?,
            OutFrame::Binary(frame) => writer.binary(frame).await?,
            OutFrame::Close => {
                select(pin!(writer.close()), Delay::new(CLOSE_TIMEOUT)).await;
                return Ok(());
            }
        }
    }
}

/// Receives until the connection ends; returns how it did.
async fn read(shared: &Shared, mut reader: impl Reader, relay_wait: Duration) -> ServerEvent {
    let mut relay_deadline = Either::Left(futures::future::pending()).fuse();
    loop {
        let next = {
            let mut next = pin!(reader.next().fuse());
            futures::select! {
                next = next => Some(next),
                () = relay_deadline => None,
            }
        };
        match next {
            None => shared.relay_wait_over(),
            Some(InFrame::Text(text)) => {
                if shared.on_text(&text) == TextSeen::FirstId {
                    relay_deadline = Either::Right(Delay::new(relay_wait)).fuse();
                }
            }
            Some(InFrame::Binary { bytes, at }) => shared.on_binary(bytes.as_ref(), at),
            Some(InFrame::Closed { code, reason }) => return closed(code, reason),
            Some(InFrame::Failed(reason)) => return ServerEvent::Lost { reason },
        }
    }
}

fn closed_here() -> ServerEvent {
    ServerEvent::Lost {
        reason: "closed by this peer".into(),
    }
}

fn closed(code: Option<u16>, reason: String) -> ServerEvent {
    match code {
        Some(code @ FIRST_OWN_CODE..) => ServerEvent::Refused { code, reason },
        Some(code) => ServerEvent::Lost {
            reason: format!("the server closed the connection with code {code}: {reason}"),
        },
        None => ServerEvent::Lost {
            reason: "the server closed the connection".into(),
        },
    }
}
