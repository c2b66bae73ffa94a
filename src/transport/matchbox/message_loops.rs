//! The message loops of matchbox's sockets, which carry every datagram between a socket and its peer
//! connections. Natively the network task polls them itself: on a thread of their own a datagram would
//! switch threads twice more in each direction. On a page they run in the event loop.

use std::task::Context;

use bevy_matchbox::matchbox_socket::MessageLoopFuture;

#[cfg(not(target_arch = "wasm32"))]
pub(super) use self::native::MessageLoops;
#[cfg(target_arch = "wasm32")]
pub(super) use self::page::MessageLoops;

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::{Poll, Waker};

    use futures::FutureExt;

    use super::{Context, MessageLoopFuture};

    pub(in super::super) struct MessageLoops {
        loops: Vec<MessageLoopFuture>,
        /// A task polls them: it is woken when there is something to do.
        driven: bool,
    }

    impl MessageLoops {
        pub(in super::super) const fn new() -> Self {
            Self {
                loops: Vec::new(),
                driven: false,
            }
        }

        pub(in super::super) fn add(&mut self, message_loop: MessageLoopFuture) {
            self.loops.push(message_loop);
        }

        /// Lets them do what is due, and wakes the task of `context` when something is again.
        pub(in super::super) fn poll(&mut self, context: &mut Context<'_>) {
            self.driven = true;
            self.turn(context);
        }

        /// The same where no task polls them, in virtual time and for a network in a test.
        pub(in super::super) fn poll_by_hand(&mut self) {
            if !self.driven {
                self.turn(&mut Context::from_waker(Waker::noop()));
            }
        }

        /// Lets them do what is due now.
        pub(in super::super) fn flush(&mut self) {
            self.turn(&mut Context::from_waker(Waker::noop()));
        }

        fn turn(&mut self, context: &mut Context<'_>) {
            self.loops.retain_mut(|message_loop| {
                // matchbox may panic on a malformed signal: the direct path is lost then, and the relay
                // goes on.
                let polled = catch_unwind(AssertUnwindSafe(|| message_loop.poll_unpin(context)));
                match polled {
                    Ok(Poll::Pending) => true,
                    Ok(Poll::Ready(ended)) => {
                        if let Err(error) = ended {
                            bevy::log::debug!("matchbox's message loop ended: {error}");
                        }
                        false
                    }
                    Err(_panic) => {
                        bevy::log::error!(
                            "matchbox's message loop panicked: its data channels end"
                        );
                        false
                    }
                }
            });
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod page {
    use super::{Context, MessageLoopFuture};
    use crate::transport::websocket::spawn_network;

    pub(in super::super) struct MessageLoops;

    impl MessageLoops {
        pub(in super::super) const fn new() -> Self {
            Self
        }

        pub(in super::super) fn add(&mut self, message_loop: MessageLoopFuture) {
            let spawned = spawn_network(async move {
                if let Err(error) = message_loop.await {
                    bevy::log::debug!("matchbox's message loop ended: {error}");
                }
            });
            if let Err(error) = spawned {
                bevy::log::error!("direct paths are impossible: no task for WebRTC: {error}");
            }
        }

        pub(in super::super) fn poll(&mut self, _context: &mut Context<'_>) {}

        pub(in super::super) fn poll_by_hand(&mut self) {}

        pub(in super::super) fn flush(&mut self) {}
    }
}
