//! Lab sessions over real WebRTC.

mod players;
mod sessions;
