//! Lab sessions of two and more apps over an in-memory network in virtual time.
//!
//! One binary, because every app brings the whole of Bevy's generics with it; one behaviour a file.

mod causes;
mod conditions;
mod cut;
mod desync;
mod diagnostics;
mod end;
mod episodes;
mod errors;
mod healthy;
mod hostile;
mod input_timing;
mod lossy;
mod own_session;
mod players;
mod policies;
