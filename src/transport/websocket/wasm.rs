//! The websocket in browsers: a task of the page's event loop.
//!
//! Owns the browser's socket and its event handlers. What it tells about attempts, refusals and
//! losses is what the native backend tells; what a browser keeps from a page (why an attempt
//! failed) is said as such, never guessed.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use bevy::tasks::IoTaskPool;
use futures::{
    FutureExt, StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    future::{Either, select},
};
use futures_timer::Delay;
use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

use super::{
    ConnectError, ServerEvent, ServerSettings,
    queues::{OutFrame, Shared, TextSeen},
};
use crate::clock::LabClock;

/// Largest message accepted: the server's bound for signaling text.
const MAX_MESSAGE: usize = 64 * 1024;
/// Lowest close code that is an application's own (RFC 6455, section 7.4.2).
const FIRST_OWN_CODE: u16 = 4_000;
/// What a browser says when a connection ended without a close frame (RFC 6455, section 7.4.1).
const NO_CLOSE_FRAME: u16 = 1_006;
/// What it says when the close frame named no code.
const NO_CODE: u16 = 1_005;
/// How long to listen for the reason after a write has failed, and to wait for the goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A browser buffers without a bound. Above this the queues wait, where old packets give way: about
/// a quarter of a second of one peer's packets at 60 Hz.
const MAX_BUFFERED: u32 = 8 * 1024;
/// How often a full buffer is looked at; browsers tell nobody when it has drained.
const BUFFER_POLL: Duration = Duration::from_millis(4);

/// Runs a network task on the page's event loop.
///
/// # Errors
/// Never; the signature is that of the native one.
pub fn spawn_network(task: impl Future<Output = ()> + 'static) -> io::Result<()> {
    IoTaskPool::get_or_init(Default::default)
        .spawn(task)
        .detach();
    Ok(())
}

/// Connects and pumps the queues until the connection ends.
pub(super) async fn run(shared: Arc<Shared>, settings: ServerSettings, clock: LabClock) {
    let socket = match connect(&shared, &settings, &clock).await {
        Ok(Some(socket)) => socket,
        Ok(None) => return shared.end(closed_here()),
        Err(error) => return shared.end(ServerEvent::Unreachable(error)),
    };
    shared.tell(ServerEvent::Connected);
    let end = pump(&shared, socket, settings.relay_wait, &clock).await;
    shared.end(end);
}

/// What the handlers saw.
enum Seen {
    Opened,
    Text(String),
    Binary(Vec<u8>, Duration),
    TooLong(usize),
    Closed { code: u16, reason: String },
}

/// The browser's socket. Dropping it takes the handlers off and closes the connection.
struct Socket {
    socket: WebSocket,
    seen: UnboundedReceiver<Seen>,
    _handlers: Handlers,
}

/// Kept alive as long as the socket may call them.
struct Handlers {
    _open: Closure<dyn FnMut(Event)>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// The address is bad, or the page may not use it (an insecure socket on a secure page).
    fn open(url: &str, clock: &LabClock) -> Result<Self, JsValue> {
        let socket = WebSocket::new(url)?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let (tell, seen) = unbounded();
        let open = Closure::new({
            let tell = tell.clone();
            move |_: Event| report(&tell, Seen::Opened)
        });
        let message = Closure::new({
            let (tell, clock) = (tell.clone(), clock.clone());
            move |event: MessageEvent| {
                if let Some(message) = read_message(&event.data(), clock.now()) {
                    report(&tell, message);
                }
            }
        });
        let close = Closure::new(move |event: CloseEvent| {
            report(
                &tell,
                Seen::Closed {
                    code: event.code(),
                    reason: event.reason(),
                },
            );
        });
        // An error event says nothing, and a close event follows it.
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Ok(Self {
            socket,
            seen,
            _handlers: Handlers {
                _open: open,
                _message: message,
                _close: close,
            },
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // It fails for reserved codes alone, and none is given.
        let _ = self.socket.close();
    }
}

fn report(tell: &UnboundedSender<Seen>, seen: Seen) {
    // The reader is gone while the socket closes: nobody is left to be told.
    let _ = tell.unbounded_send(seen);
}

/// `None` for what is neither text nor bytes, which no server can send here.
fn read_message(data: &JsValue, now: Duration) -> Option<Seen> {
    if let Some(text) = data.as_string() {
        return Some(bounded(text.len()).unwrap_or(Seen::Text(text)));
    }
    let bytes = Uint8Array::new(data.dyn_ref::<ArrayBuffer>()?);
    let length = bytes.length() as usize;
    Some(bounded(length).unwrap_or_else(|| Seen::Binary(bytes.to_vec(), now)))
}

fn bounded(length: usize) -> Option<Seen> {
    (length > MAX_MESSAGE).then_some(Seen::TooLong(length))
}

/// `None` when the game let go of the connection before it came about.
async fn connect(
    shared: &Shared,
    settings: &ServerSettings,
    clock: &LabClock,
) -> Result<Option<Socket>, ConnectError> {
    let url = || settings.url.clone();
    let attempts = settings.attempts.max(1);
    let mut error = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            select(Delay::new(settings.retry_pause), pin!(shared.closing())).await;
        }
        if shared.is_closing() {
            return Ok(None);
        }
        let mut socket =
            Socket::open(&settings.url, clock).map_err(|thrown| ConnectError::Url {
                url: url(),
                error: words(&thrown),
            })?;
        let patience = pin!(async {
            select(Delay::new(settings.attempt_timeout), pin!(shared.closing())).await;
        });
        let first = match select(socket.seen.next(), patience).await {
            Either::Left((first, _)) => first,
            Either::Right(_) => {
                error = format!("no answer in {:?}", settings.attempt_timeout);
                continue;
            }
        };
        match first {
            Some(Seen::Opened) => return Ok(Some(socket)),
            Some(Seen::Closed { code, .. }) => {
                error = format!("the browser could not connect (code {code}), and tells no more");
            }
            _ => error = String::from("the browser could not connect"),
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
    mut socket: Socket,
    relay_wait: Duration,
    clock: &LabClock,
) -> ServerEvent {
    let sender = socket.socket.clone();
    let reading = pin!(read(shared, &mut socket.seen, relay_wait));
    let writing = pin!(write(shared, &sender, clock));
    match select(reading, writing).await {
        Either::Left((end, _)) => end,
        // The server's reason, if it gave one, is still to be read.
        Either::Right((written, reading)) => {
            let lost = match written {
                Ok(()) => closed_here(),
                Err(reason) => ServerEvent::Lost { reason },
            };
            match select(reading, Delay::new(LAST_WORDS)).await {
                Either::Left((refused @ ServerEvent::Refused { .. }, _)) => refused,
                _ => lost,
            }
        }
    }
}

/// Sends until the game lets go, or the browser refuses. What is sent to a socket that closes is
/// dropped by the browser without a word; the reader learns of the end.
async fn write(shared: &Shared, socket: &WebSocket, clock: &LabClock) -> Result<(), String> {
    loop {
        while socket.buffered_amount() > MAX_BUFFERED && !shared.is_closing() {
            Delay::new(BUFFER_POLL).await;
        }
        let sent = match shared.next_outgoing(clock).await {
            OutFrame::Text(text) => socket.send_with_str(&text),
            OutFrame::Binary(frame) => socket.send_with_u8_array(&frame),
            OutFrame::Close => {
                // The browser sends what it has buffered first.
                let _ = socket.close();
                return Ok(());
            }
        };
        sent.map_err(|thrown| words(&thrown))?;
    }
}

/// Reads until the connection ends, and returns how it did.
async fn read(
    shared: &Shared,
    seen: &mut UnboundedReceiver<Seen>,
    relay_wait: Duration,
) -> ServerEvent {
    let mut relay_deadline = Either::Left(futures::future::pending()).fuse();
    loop {
        let next = futures::select! {
            next = seen.next().fuse() => next,
            () = relay_deadline => {
                shared.relay_wait_over();
                continue;
            }
        };
        match next {
            Some(Seen::Text(text)) => {
                if shared.on_text(&text) == TextSeen::FirstId {
                    relay_deadline = Either::Right(Delay::new(relay_wait)).fuse();
                }
            }
            Some(Seen::Binary(bytes, at)) => shared.on_binary(&bytes, at),
            Some(Seen::TooLong(length)) => {
                return ServerEvent::Lost {
                    reason: format!("the server sent a message of {length} bytes"),
                };
            }
            Some(Seen::Closed { code, reason }) => return closed(code, reason),
            Some(Seen::Opened) => {}
            None => return closed(NO_CODE, String::new()),
        }
    }
}

fn closed_here() -> ServerEvent {
    ServerEvent::Lost {
        reason: "closed by this peer".into(),
    }
}

fn closed(code: u16, reason: String) -> ServerEvent {
    match code {
        FIRST_OWN_CODE.. => ServerEvent::Refused { code, reason },
        NO_CODE => ServerEvent::Lost {
            reason: "the server closed the connection".into(),
        },
        NO_CLOSE_FRAME => ServerEvent::Lost {
            reason: "the connection broke".into(),
        },
        _ => ServerEvent::Lost {
            reason: format!("the server closed the connection with code {code}: {reason}"),
        },
    }
}

/// What the browser threw, in words.
fn words(thrown: &JsValue) -> String {
    thrown
        .dyn_ref::<js_sys::Error>()
        .map_or_else(|| format!("{thrown:?}"), |error| error.message().into())
}
