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
use wasm_bindgen::{JsCast, JsValue, closure::Closure};
use web_sys::{BinaryType, CloseEvent, Event, MessageEvent, WebSocket};

use super::driver::{AttemptError, Backend, InFrame, MAX_MESSAGE, Reader, Writer};
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

    async fn connect(
        url: &str,
        clock: &LabClock,
    ) -> Result<(Self::Writer, Self::Reader), AttemptError> {
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
        let _ = self.0.close();
    }
}

/// What the browser threw, as text.
fn describe(thrown: &JsValue) -> String {
    thrown
        .dyn_ref::<js_sys::Error>()
        .map_or_else(|| format!("{thrown:?}"), |error| error.message().into())
}
