//! The life of a server connection over any websocket: connect with retries, pump the queues, take a lost
//! websocket up again (`resume.rs`), close.
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

use rollback_lab_link::wire::relay::{CLOSE_LEFT, CLOSE_SERVER_STOPS, CLOSE_TOO_SLOW, ResumeToken};

use super::{
    ConnectError, ServerEvent, SignalingSettings,
    liveness::{CHECK_EVERY, Liveness, Verdict},
    queues::{OutFrame, Shared, TextSeen},
    resume::{NotResumed, Resumed, reconnect, resume, resume_url},
};
use crate::clock::LabClock;

/// Largest message accepted: the server's bound for signaling text.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;
/// Lowest close code that is an application's own (RFC 6455, section 7.4.2).
const FIRST_OWN_CODE: u16 = 4_000;
/// The code and reason with which this peer leaves for good.
pub(super) const LEAVE: (u16, &str) = (CLOSE_LEFT, "left");
/// How long to wait for the server's close frame, and, after a write has failed, for the reason that
/// the server may have sent before.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a silent websocket is replaced.
const DEAD: &str = "nothing came from the server for a second, although it was asked";

/// A platform's websocket.
pub(super) trait Backend: Sized {
    /// The sending half.
    type Writer: Writer;
    /// The receiving half.
    type Reader: Reader;
    /// Attempts to take a lost websocket up again that may be under way together.
    const ATTEMPTS_AT_ONCE: usize;
    /// Time for each of them.
    const ATTEMPT_TIMEOUT: Duration;

    /// Makes one attempt to open a websocket. Dropping the future abandons the attempt.
    async fn connect(url: &str, clock: &LabClock) -> Result<Opened<Self>, AttemptError>;

    /// The token that an earlier life of this page has kept for the room at `url`.
    fn kept_token(url: &str) -> Option<ResumeToken>;

    /// Keeps the newest token for a later life of this page, or with `None` forgets it.
    fn keep_token(url: &str, token: Option<&ResumeToken>);
}

/// Both halves of an open websocket.
pub(super) type Opened<B> = (<B as Backend>::Writer, <B as Backend>::Reader);

/// The sending half of a websocket. Errors are the platform's own texts.
pub(super) trait Writer {
    /// Waits until the platform's own buffer has room; at once where writing itself waits for that.
    async fn ready(&self);

    async fn text(&mut self, text: String) -> Result<(), String>;

    async fn binary(&mut self, frame: Vec<u8>) -> Result<(), String>;

    /// Sends a close frame with [`LEAVE`].
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
    /// A sign of life without content.
    #[cfg_attr(
        target_arch = "wasm32",
        expect(dead_code, reason = "browsers do not show them")
    )]
    Alive,
    /// The server closed the connection; `None` where it named no code.
    Closed {
        code: Option<u16>,
        reason: String,
    },
    /// The connection broke.
    Failed(String),
}

/// How a websocket ended.
pub(super) enum End {
    /// It is lost; another one may take the membership up.
    Lost(String),
    /// The connection ends with this event.
    Final(ServerEvent),
    /// The game let go of the connection.
    ByGame,
}

/// Connects and pumps the queues until the connection ends, over as many websockets as that takes.
pub(super) async fn run<B: Backend>(
    shared: Arc<Shared>,
    settings: SignalingSettings,
    clock: LabClock,
) {
    let end = live::<B>(&shared, &settings, &clock).await;
    let event = match end {
        End::ByGame => ServerEvent::Lost {
            reason: "closed by this peer".into(),
            reconnecting: false,
        },
        End::Lost(reason) => ServerEvent::Lost {
            reason,
            reconnecting: false,
        },
        End::Final(event) => event,
    };
    // A server that could not be reached may still have the slot for a later life of this page.
    if !matches!(event, ServerEvent::Unreachable(_)) {
        B::keep_token(&settings.url, None);
    }
    shared.end(event);
}

async fn live<B: Backend>(shared: &Shared, settings: &SignalingSettings, clock: &LabClock) -> End {
    let mut opened = match first::<B>(shared, settings, clock).await {
        Ok(Some(opened)) => opened,
        Ok(None) => return End::ByGame,
        Err(error) => return End::Final(ServerEvent::Unreachable(error)),
    };
    loop {
        let reason = match pump::<B>(shared, opened, settings, clock).await {
            End::Lost(reason) => reason,
            end => return end,
        };
        // A stock server gives every websocket a new id, so there is nothing to take up.
        let Some(token) = shared.token() else {
            return End::Lost(reason);
        };
        shared.lose(reason, clock.now());
        match reconnect::<B>(shared, settings, clock, token).await {
            Ok(resumed) => opened = take_up::<B>(shared, resumed),
            Err(end) => return end,
        }
    }
}

/// The first websocket: one that takes up what an earlier life of this page had, or one that joins.
async fn first<B: Backend>(
    shared: &Shared,
    settings: &SignalingSettings,
    clock: &LabClock,
) -> Result<Option<Opened<B>>, ConnectError> {
    if let Some(token) = B::kept_token(&settings.url) {
        let url = resume_url(&settings.url);
        let Some(opened) = connect::<B>(shared, settings, &url, clock).await? else {
            return Ok(None);
        };
        let limit = Delay::new(settings.attempt_timeout);
        let attempt = shared.next_resume_attempt();
        let resuming = pin!(resume::<B>(opened, &token, (true, attempt)));
        match select(resuming, limit).await {
            Either::Left((Ok(resumed), _)) => {
                shared.emit(ServerEvent::Connected);
                return Ok(Some(take_up::<B>(shared, resumed)));
            }
            // The match of then is over: the page joins like any other.
            Either::Left((Err(NotResumed::Refused(_) | NotResumed::Failed), _))
            | Either::Right(_) => B::keep_token(&settings.url, None),
        }
    }
    let opened = connect::<B>(shared, settings, &settings.url, clock).await?;
    if opened.is_some() {
        shared.emit(ServerEvent::Connected);
    }
    Ok(opened)
}

fn take_up<B: Backend>(shared: &Shared, resumed: Resumed<B>) -> Opened<B> {
    shared.on_binary(&resumed.welcome, resumed.at);
    resumed.opened
}

/// `None` when the game let go of the connection before it came about.
async fn connect<B: Backend>(
    shared: &Shared,
    settings: &SignalingSettings,
    url: &str,
    clock: &LabClock,
) -> Result<Option<Opened<B>>, ConnectError> {
    let attempts = settings.attempts.max(1);
    let mut error = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            select(Delay::new(settings.retry_pause), pin!(shared.closing())).await;
        }
        if shared.is_closing() {
            return Ok(None);
        }
        let connecting = pin!(B::connect(url, clock));
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

/// Sends and receives until the websocket ends; returns how it did.
async fn pump<B: Backend>(
    shared: &Shared,
    (writer, reader): Opened<B>,
    settings: &SignalingSettings,
    clock: &LabClock,
) -> End {
    let reading = pin!(read::<B>(shared, reader, settings, clock));
    let writing = pin!(write(shared, writer, clock));
    match select(reading, writing).await {
        Either::Left((end, _)) => end,
        // The server's reason, if it gave one, is still to be read.
        Either::Right((written, reading)) => {
            let end = match written {
                Ok(()) => End::ByGame,
                Err(reason) => End::Lost(reason),
            };
            match select(reading, Delay::new(CLOSE_TIMEOUT)).await {
                Either::Left((refused @ End::Final(_), _)) => refused,
                _ => end,
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

/// Receives until the websocket ends, and watches whether it is alive; returns how it ended.
async fn read<B: Backend>(
    shared: &Shared,
    mut reader: B::Reader,
    settings: &SignalingSettings,
    clock: &LabClock,
) -> End {
    let mut relay_deadline = Either::Left(futures::future::pending()).fuse();
    let mut liveness = Liveness::new(clock.now());
    let mut check = Delay::new(CHECK_EVERY).fuse();
    loop {
        let next = {
            let mut next = pin!(reader.next().fuse());
            // What has come is read before silence is judged.
            futures::select_biased! {
                next = next => next,
                () = relay_deadline => {
                    shared.relay_wait_over();
                    continue;
                }
                () = check => {
                    check = Delay::new(CHECK_EVERY).fuse();
                    match liveness.check(clock.now()) {
                        // A stock server answers no probe, and could not take this peer back either.
                        _ if shared.token().is_none() => {}
                        Verdict::Wait => {}
                        Verdict::Probe => shared.probe(),
                        Verdict::Dead => return End::Lost(DEAD.into()),
                    }
                    continue;
                }
            }
        };
        liveness.activity(clock.now());
        match next {
            InFrame::Alive => {}
            InFrame::Text(text) => {
                if shared.on_text(&text) == TextSeen::FirstId {
                    relay_deadline = Either::Right(Delay::new(settings.relay_wait)).fuse();
                }
            }
            InFrame::Binary { bytes, at } => {
                if let Some(token) = shared.on_binary(bytes.as_ref(), at) {
                    B::keep_token(&settings.url, Some(&token));
                }
            }
            InFrame::Closed { code, reason } => return closed(code, reason),
            InFrame::Failed(reason) => return End::Lost(reason),
        }
    }
}

/// What the server's close frame means.
pub(super) fn closed(code: Option<u16>, reason: String) -> End {
    match code {
        // No fault of this peer, and gone with the next websocket.
        Some(CLOSE_SERVER_STOPS | CLOSE_TOO_SLOW) => {
            End::Lost(format!("the server closed the connection: {reason}"))
        }
        Some(code @ FIRST_OWN_CODE..) => End::Final(ServerEvent::Refused { code, reason }),
        Some(code) => End::Lost(format!(
            "the server closed the connection with code {code}: {reason}"
        )),
        None => End::Lost("the server closed the connection".into()),
    }
}
