//! The server on real sockets.

mod hostile;
mod lifecycle;
mod matchbox;
mod page;
mod relay;
mod signaling;
mod support;
