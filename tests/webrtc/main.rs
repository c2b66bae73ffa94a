//! Lab sessions over real WebRTC on loopback, by the wall clock:
//!
//! - `players`: three and four players
//! - `renegotiation`: data channels that replace a lost one
//! - `sessions`: two players; a lab server and a stock signaling server

mod players;
mod renegotiation;
mod sessions;
