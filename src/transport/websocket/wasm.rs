//! The websocket in browsers: `WebSocket` of the page, driven by a task of its event loop.
//!
//! A browser does not let a page know why an attempt failed; the error texts leave it at that.

use std::{future::Future, io, time::Duration};

use bevy::tasks::IoTaskPool;
use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use futures_timer::Delay;
use js_sys::{ArrayBuffer, Uint8Array};
use rollback_lab_link::wire::relay::ResumeToken;
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, Storage, WebSocket};

use super::driver::{AttemptError, Backend, InFrame, LEAVE, MAX_MESSAGE, Opened, Reader, Writer};
use crate::clock::LabClock;

/// What a browser reports when a connection ended without a close frame (RFC 6455, section 7.4.1).
const NO_CLOSE_FRAME: u16 = 1_006;
/// What it reports when the close frame named no code.
const NO_CODE: u16 = 1_005;
/// A browser buffers without a bound. Above this the queues wait, where old packets give way: about
/// a quarter of a second of one peer's packets at 60 Hz.
const MAX_BUFFERED: u32 = 8 * 1024;
/// How often a full buffer is looked at; browsers have no event for one that has drained.
const BUFFER_POLL: Duration = Duration::from_millis(4);

/// Runs a network task on the page's event loop.
///
/// # Errors
/// None; the signature is that of the native one.
pub fn spawn_network(task: impl Future<Output = ()> + 'static) -> io::Result<()> {
    IoTaskPool::get_or_init(Default::default)
        .spawn(task)
        .detach();
    Ok(())
}

/// The page's own websocket.
pub(super) struct Platform;

impl Backend for Platform {
    type Writer = PageWriter;
    type Reader = Socket;
    /// Browsers connect to one address with one websocket at a time (RFC 6455, section 4.1).
    const ATTEMPTS_AT_ONCE: usize = 1;
    /// An attempt that began while the network was away waits for TCP's repetitions; the next one does not.
    const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

    async fn connect(url: &str, clock: &LabClock) -> Result<Opened<Self>, AttemptError> {
        let mut socket =
            Socket::open(url, clock).map_err(|thrown| AttemptError::Url(describe(&thrown)))?;
        match socket.events.next().await {
            Some(SocketEvent::Opened) => Ok((PageWriter(socket.socket.clone()), socket)),
            Some(SocketEvent::Closed { code, .. }) => Err(AttemptError::Failed(format!(
                "the browser could not connect (code {code}), and gives no reason"
            ))),
            _ => Err(AttemptError::Failed("the browser could not connect".into())),
        }
    }

    fn kept_token(url: &str) -> Option<ResumeToken> {
        let text = storage()?.get_item(&storage_key(url)).ok()??;
        ResumeToken::new(&from_hex(&text)?)
    }

    /// A page without storage, as in some private windows, joins anew after a reload.
    fn keep_token(url: &str, token: Option<&ResumeToken>) {
        let Some(storage) = storage() else {
            return;
        };
        let key = storage_key(url);
        let _ = match token {
            Some(token) => storage.set_item(&key, &to_hex(token.as_bytes())),
            None => storage.remove_item(&key),
        };
    }
}

/// The storage of this tab, which lives as long as the tab does and is read by pages of the same origin.
fn storage() -> Option<Storage> {
    web_sys::window()?.session_storage().ok()?
}

/// One token for every server and room; the address has both.
fn storage_key(url: &str) -> String {
    format!("rollbacklab:resume:{url}")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `None` of what another script has written there.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

/// What the event handlers saw.
enum SocketEvent {
    Opened,
    Text(String),
    Binary(Vec<u8>, Duration),
    TooLong(usize),
    Closed { code: u16, reason: String },
}

/// The browser's socket and what its handlers saw. Dropping it takes the handlers off and closes the
/// connection.
pub(super) struct Socket {
    socket: WebSocket,
    events: UnboundedReceiver<SocketEvent>,
    _handlers: Handlers,
}

/// Kept alive as long as the socket may call them.
struct Handlers {
    _open: Closure<dyn FnMut(Event)>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Socket {
    /// Fails when the address is bad, or the page may not use it (an insecure socket on a secure
    /// page).
    fn open(url: &str, clock: &LabClock) -> Result<Self, JsValue> {
        let socket = WebSocket::new(url)?;
        socket.set_binary_type(BinaryType::Arraybuffer);
        let (sender, events) = unbounded();
        let open = Closure::new({
            let sender = sender.clone();
            move |_: Event| emit(&sender, SocketEvent::Opened)
        });
        let message = Closure::new({
            let (sender, clock) = (sender.clone(), clock.clone());
            move |event: MessageEvent| {
                if let Some(message) = read_message(&event.data(), clock.now()) {
                    emit(&sender, message);
                }
            }
        });
        let close = Closure::new(move |event: CloseEvent| {
            emit(
                &sender,
                SocketEvent::Closed {
                    code: event.code(),
                    reason: event.reason(),
                },
            );
        });
        // An error event holds no reason, and a close event follows it.
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Ok(Self {
            socket,
            events,
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

fn emit(sender: &UnboundedSender<SocketEvent>, event: SocketEvent) {
    // The receiver is gone while the socket closes; then nothing is left to read it.
    let _ = sender.unbounded_send(event);
}

/// `None` for what is neither text nor bytes, which no server can send here.
fn read_message(data: &JsValue, now: Duration) -> Option<SocketEvent> {
    if let Some(text) = data.as_string() {
        return Some(too_long(text.len()).unwrap_or(SocketEvent::Text(text)));
    }
    let bytes = Uint8Array::new(data.dyn_ref::<ArrayBuffer>()?);
    let length = bytes.length() as usize;
    Some(too_long(length).unwrap_or_else(|| SocketEvent::Binary(bytes.to_vec(), now)))
}

fn too_long(length: usize) -> Option<SocketEvent> {
    (length > MAX_MESSAGE).then_some(SocketEvent::TooLong(length))
}

impl Reader for Socket {
    type Bytes = Vec<u8>;

    async fn next(&mut self) -> InFrame<Vec<u8>> {
        loop {
            return match self.events.next().await {
                Some(SocketEvent::Opened) => continue,
                Some(SocketEvent::Text(text)) => InFrame::Text(text),
                Some(SocketEvent::Binary(bytes, at)) => InFrame::Binary { bytes, at },
                Some(SocketEvent::TooLong(length)) => {
                    InFrame::Failed(format!("the server sent a message of {length} bytes"))
                }
                Some(SocketEvent::Closed { code, .. }) if code == NO_CLOSE_FRAME => {
                    InFrame::Failed("the connection broke".into())
                }
                Some(SocketEvent::Closed { code, reason }) => InFrame::Closed {
                    code: (code != NO_CODE).then_some(code),
                    reason,
                },
                None => InFrame::Closed {
                    code: None,
                    reason: String::new(),
                },
            };
        }
    }
}

pub(super) struct PageWriter(WebSocket);

impl Writer for PageWriter {
    async fn ready(&self) {
        while self.0.buffered_amount() > MAX_BUFFERED {
            Delay::new(BUFFER_POLL).await;
        }
    }

    /// What is sent to a socket that closes is dropped by the browser without an error; the reader
    /// learns of the end.
    async fn text(&mut self, text: String) -> Result<(), String> {
        let sent = self.0.send_with_str(&text);
        sent.map_err(|thrown| describe(&thrown))
    }

    async fn binary(&mut self, frame: Vec<u8>) -> Result<(), String> {
        let sent = self.0.send_with_u8_array(&frame);
        sent.map_err(|thrown| describe(&thrown))
    }

    /// The browser sends what it has buffered first.
    async fn close(&mut self) {
        let (code, reason) = LEAVE;
        let _ = self.0.close_with_code_and_reason(code, reason);
    }
}

/// What the browser threw, as text.
fn describe(thrown: &JsValue) -> String {
    thrown
        .dyn_ref::<js_sys::Error>()
        .map_or_else(|| format!("{thrown:?}"), |error| error.message().into())
}
