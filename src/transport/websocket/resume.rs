//! Taking a lost websocket up again: pauses, overlapping attempts, and the token.

use std::{pin::pin, time::Duration};

use futures::{
    FutureExt, StreamExt,
    future::{Either, select},
    select,
    stream::FuturesUnordered,
};
use futures_timer::Delay;

use rollback_lab_link::wire::relay::{
    CLOSE_SERVER_FULL, RESUME_PARAMETER, ResumeToken, ServerFrame, decode_server, encode_resume,
};

use super::{
    ConnectError, ServerEvent, SignalingSettings,
    driver::{AttemptError, Backend, End, InFrame, Opened, Reader, Writer, closed},
    queues::Shared,
};
use crate::clock::LabClock;

/// Shortest pause between two attempts; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(125);
/// Longest pause between two attempts: a match goes on within a second after its network is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Time for the server to accept the token. Below the 5 s for which it waits for one, so that a token that
/// comes too late is refused on a websocket that nothing reads any more.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(3);

/// A websocket that took the membership up, and the welcome that came first.
pub(super) struct Resumed<B: Backend> {
    pub opened: Opened<B>,
    pub welcome: Vec<u8>,
    pub at: Duration,
}

/// Why an open websocket did not take the membership up.
pub(super) enum NotResumed {
    /// Another attempt may do better.
    Failed,
    /// The server refused for good.
    Refused(ServerEvent),
}

/// Tries until the server has taken this peer back, refuses it, or the game lets go of the connection. An
/// attempt that hangs does not delay the next one.
///
/// # Errors
/// The event with which the connection ends.
pub(super) async fn reconnect<B: Backend>(
    shared: &Shared,
    settings: &SignalingSettings,
    clock: &LabClock,
    token: ResumeToken,
) -> Result<Resumed<B>, End> {
    let url = resume_url(&settings.url);
    let mut connecting = FuturesUnordered::new();
    let mut tries = 0;
    let mut pausing = Delay::new(pause(tries, &token)).fuse();
    let mut closing = pin!(shared.closing().fuse());
    loop {
        select! {
            () = closing => return Err(End::ByGame),
            () = pausing => {
                tries += 1;
                pausing = Delay::new(pause(tries, &token)).fuse();
                if connecting.len() < B::ATTEMPTS_AT_ONCE {
                    shared.record_attempt(clock.now());
                    let limit = B::ATTEMPT_TIMEOUT.min(settings.attempt_timeout);
                    connecting.push(attempt::<B>(&url, clock, limit));
                }
            }
            opened = connecting.select_next_some() => match opened {
                Some(Ok(opened)) => {
                    // One websocket at a time asks for the slot.
                    connecting.clear();
                    let attempt = shared.next_resume_attempt();
                    let resuming = pin!(resume::<B>(opened, &token, (false, attempt)));
                    match select(resuming, Delay::new(ACCEPT_TIMEOUT)).await {
                        Either::Left((Ok(resumed), _)) => return Ok(resumed),
                        Either::Left((Err(NotResumed::Refused(event)), _)) => {
                            return Err(End::Final(event));
                        }
                        Either::Left((Err(NotResumed::Failed), _)) | Either::Right(_) => {}
                    }
                }
                Some(Err(AttemptError::Url(error))) => {
                    let url = settings.url.clone();
                    let error = ConnectError::Url { url, error };
                    return Err(End::Final(ServerEvent::Unreachable(error)));
                }
                Some(Err(AttemptError::Failed(_))) | None => {}
            },
        }
    }
}

/// One attempt to open a websocket; `None` when it took longer than `limit`.
async fn attempt<B: Backend>(
    url: &str,
    clock: &LabClock,
    limit: Duration,
) -> Option<Result<Opened<B>, AttemptError>> {
    match select(pin!(B::connect(url, clock)), Delay::new(limit)).await {
        Either::Left((opened, _)) => Some(opened),
        Either::Right(_) => None,
    }
}

/// Sends the token over a new websocket and waits for the welcome.
pub(super) async fn resume<B: Backend>(
    (mut writer, mut reader): Opened<B>,
    token: &ResumeToken,
    (anew, attempt): (bool, u32),
) -> Result<Resumed<B>, NotResumed> {
    let frame = encode_resume(anew, attempt, token);
    writer
        .binary(frame)
        .await
        .map_err(|_broken| NotResumed::Failed)?;
    loop {
        match reader.next().await {
            InFrame::Alive => {}
            InFrame::Binary { bytes, at } => {
                let Ok(ServerFrame::Welcome(_)) = decode_server(bytes.as_ref()) else {
                    return Err(NotResumed::Failed);
                };
                return Ok(Resumed {
                    welcome: bytes.as_ref().to_vec(),
                    at,
                    opened: (writer, reader),
                });
            }
            // An id is what a server gives that does not know the parameter.
            InFrame::Text(_) => {
                let reason = "the server behind the address cannot resume".into();
                return Err(NotResumed::Refused(ServerEvent::Lost {
                    reason,
                    reconnecting: false,
                }));
            }
            InFrame::Closed { code, reason } => {
                return Err(match closed(code, reason) {
                    // It has room again when others have left it.
                    End::Final(ServerEvent::Refused { code, .. }) if code == CLOSE_SERVER_FULL => {
                        NotResumed::Failed
                    }
                    End::Final(refused) => NotResumed::Refused(refused),
                    End::Lost(_) | End::ByGame => NotResumed::Failed,
                });
            }
            InFrame::Failed(_) => return Err(NotResumed::Failed),
        }
    }
}

/// The address of the room, for a websocket that resumes.
pub(super) fn resume_url(url: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}{RESUME_PARAMETER}")
}

/// The pause before the next attempt, after so many of them. Half of it is drawn from the token, which
/// differs for every peer: a room full of them does not come back in one moment.
fn pause(tries: u32, token: &ResumeToken) -> Duration {
    let longest = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << tries.min(3)));
    let mut drawn = token.as_bytes().to_vec();
    drawn.extend(tries.to_le_bytes());
    let share = u32::try_from(seahash::hash(&drawn) % 1_000).unwrap_or(0);
    longest / 2 + longest * share / 2_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_at_most_and_differ_between_peers() {
        let tokens: Vec<_> = (1..=50)
            .map(|peer| ResumeToken::new(&[peer; 91]).unwrap())
            .collect();
        for tries in 0..100 {
            let all: Vec<_> = tokens.iter().map(|token| pause(tries, token)).collect();
            let longest = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << tries.min(3)));
            assert!(all.iter().all(|p| (longest / 2..longest).contains(p)));
            let distinct: std::collections::HashSet<_> = all.iter().collect();
            assert!(distinct.len() > 40, "{} of 50 differ", distinct.len());
        }
    }

    #[test]
    fn the_address_gets_a_parameter_and_no_token() {
        assert_eq!(resume_url("ws://lab/duel"), "ws://lab/duel?resume");
        assert_eq!(
            resume_url("ws://lab/duel?players=2"),
            "ws://lab/duel?players=2&resume"
        );
    }
}
