//! The server on real sockets, all on loopback and free ports.

mod hostile;
mod lifecycle;
mod matchbox;
mod page;
mod relay;
mod resume;
mod signaling;
mod support;
