//! Files played back.

mod play;
mod script;
