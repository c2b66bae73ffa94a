//! Lab sessions of two and more apps over an in-memory network in virtual time.
//!
//! One binary, because every binary compiles Bevy's generics anew; one file per behaviour:
//!
//! - `causes`: causes of stalls and rollbacks, clock offsets
//! - `conditions`: latency, loss, duplicates, reordering, rate limits and outages by condition spec
//! - `cut`: failover after a lost direct path, and what must not cause one
//! - `desync`: bundles of a desync
//! - `diagnostics`: Bevy's diagnostics against the file
//! - `end`: how sessions end when peers end late, at another frame or not at all
//! - `episodes`: several episodes in one session
//! - `errors`: failures, their errors and the files they leave
//! - `first_mistakes`: what building an app refuses, and what it says
//! - `healthy`: ten minutes at 10 to 120 frames per second
//! - `hostile`: forged and random datagrams, nonsense from the server
//! - `input_timing`: devices and time stamps of input changes
//! - `life_cycle`: joining and leaving at run time, several sessions in one app
//! - `lossy`: failover from a lossy path
//! - `open_room`: players who come and go before the first frame, and who is waited for
//! - `own_session`: games that build their own ggrs session over a `LabRoom`
//! - `players`: three and four players
//! - `policies`: the route policies

mod causes;
mod conditions;
mod cut;
mod desync;
mod diagnostics;
mod end;
mod episodes;
mod errors;
mod first_mistakes;
mod healthy;
mod hostile;
mod input_timing;
mod life_cycle;
mod lossy;
mod open_room;
mod own_session;
mod players;
mod policies;
