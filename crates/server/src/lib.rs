//! Signaling and relay for peers of [`bevy_rollback_lab`], on one websocket and one port.
//!
//! Peers of a WebRTC game need a server for two things. Before they are connected they exchange
//! session descriptions and ICE candidates through it: *signaling*. When the direct path between
//! two of them is lost, their packets go through it: the *relay*. This crate does both on the same
//! websocket, so that a peer that could signal can also fail over. It can serve the game's page on
//! the same port, too.
//!
//! - Unmodified [matchbox] clients signal through it as through `matchbox_server`.
//! - Peers of [`bevy_rollback_lab`] also get a slot in their room and send binary relay frames to
//!   the slots of others; the format is that of [`rollback_lab_link::wire::relay`].
//! - It has no Bevy in its tree and knows nothing of the game. Rooms are kept in memory, nothing is
//!   stored.
//! - A peer whose websocket is lost during a match gets its slot back, from this server or from another one
//!   with the same secret: [resumption](#resumption).
//!
//! `rollback-lab serve` runs it from the command line. Embed it where a game, a test or an
//! experiment's own server process should bring it along.
//!
//! # Embedding
//!
//! [`LabServer::start`] takes [`ServerSettings`], runs the server on threads of its own and returns
//! once it listens. Dropping the [`LabServer`] ends it.
//!
//! ```
//! use rollback_lab_server::{LabServer, ServerSettings};
//!
//! // A free port of this machine, as tests and local games want it.
//! let server = LabServer::start(ServerSettings::loopback())?;
//! println!("peers join {}/lobby?players=2", server.url());
//! server.shutdown();
//! # Ok::<(), rollback_lab_server::ServerError>(())
//! ```
//!
//! A server for a laboratory network, with the game's page on the same port:
//!
//! ```no_run
//! use rollback_lab_server::{DEFAULT_PORT, LabServer, ServerSettings};
//!
//! let server = LabServer::start(ServerSettings {
//!     bind: ([0, 0, 0, 0], DEFAULT_PORT).into(),
//!     // There is no admission yet: every client that reaches the port can join any room.
//!     allow_public: true,
//!     page: Some("site".into()),
//!     ..ServerSettings::default()
//! })?;
//! println!("listening at {}", server.local_addr());
//! # Ok::<(), rollback_lab_server::ServerError>(())
//! ```
//!
//! The server speaks plain HTTP. Pages that are served over HTTPS may only open `wss://`
//! connections: put a reverse proxy that terminates TLS in front of it.
//!
//! # URLs
//!
//! | URL | |
//! |---|---|
//! | `/<room>?players=N` | websocket: one room for N peers, all of whom name the same N (1 to 64) |
//! | `/<room>` | websocket: one room for up to 64 peers |
//! | `/<room>?next=N` | websocket: rooms of N peers, filled in the order of arrival, as in `matchbox_server`; of this crate's peers a full group that loses a member before its match is filled again |
//! | `/healthz` | `ok` |
//! | `/metrics` | counters for Prometheus, in the `OpenMetrics` text format |
//! | anything else that does not ask for a websocket | a file of [`ServerSettings::page`], if one is set |
//!
//! Room names have 1 to 64 letters, digits, `-`, `_` or `.`; without a name the room is `world`.
//! Unknown parameters are ignored.
//!
//! # What a client receives
//!
//! After the upgrade: its id (`IdAssigned`, text), then the *welcome*, which is the first binary
//! frame: its slot, the room's nonce and all members. From then on text frames are matchbox's
//! events (`NewPeer`, `PeerLeft`, `Signal`, whose `data` it passes on unread) and binary frames are relayed packets, the roster
//! whenever it changes, the resume token, answers to probes, and notices (packets dropped and why, a peer
//! gone, lost or back). Stock clients ignore
//! binary frames. A slot is the smallest free number; slots do not move when others leave.
//!
//! Relayed packets are datagrams: they may be dropped and are not repeated. Close frames, control
//! messages and signals overtake them, and senders take turns.
//!
//! # Resumption
//!
//! *Lost is not left.* After its welcome, and whenever it is renewed, a member gets a token: its id, the
//! room's nonce, its slot and an expiry, signed with [`ServerSettings::secret`]. A websocket that is opened
//! with the parameter `resume` and sends the token in its first frame gets that slot and id again. The token
//! never is part of an address.
//!
//! - From the moment on that a member reports that its match runs, the server keeps the slots of all members
//!   that it loses for [`ServerSettings::resume_grace`]. The others receive the notices *lost* and *back*,
//!   and neither matchbox's `PeerLeft` nor `NewPeer`.
//! - A member is *gone* after its leave (close code 4000), or when the grace has run out.
//! - Before the match a member that is lost is taken off at once, and the slot is free. If it comes back and
//!   the slot still is, it is announced like any newcomer.
//! - A server that does not know the room (it was restarted, or is another one with the secret) opens it
//!   again under its nonce. For the length of the grace the slots of a match with `players=N` are kept for
//!   those who play it; a newcomer in the slot of a member gives way.
//! - Of two websockets of one member the later counts. The former is closed with 4008, and nothing that it
//!   still sends counts.
//! - A token is valid for a day. Without a secret in the settings it is random, and a restart ends
//!   resumption.
//! - A full room whose members are silent is asked first: a newcomer waits at most 3.5 s for a member that
//!   may be asleep.
//!
//! # Limits
//!
//! | limit | value | reason |
//! |---|---|---|
//! | rooms | 4,096 | [`ServerSettings::max_rooms`] |
//! | peers in all rooms | 8,192 | [`ServerSettings::max_peers`] |
//! | peers in a room | 64 | the slots of a roster frame |
//! | relayed packet | 1,200 bytes | one datagram of the direct path: what fits there fits here |
//! | signaling message | 64 KiB | session descriptions with many candidates stay below 20 KiB |
//! | messages of a client per second and other member, for packets and for signals each | 600, a quarter of that at once | 240 frames a second with an input and an acknowledgement each leave room for probes and reports |
//! | packets waiting, per sender and receiver | 16, the oldest is dropped | a quarter of a second at 60 Hz; ggrs repeats unacknowledged inputs, so the newest packets matter |
//! | age of a packet | 150 ms, then it is dropped | older than ggrs's default prediction window at 60 Hz |
//! | signals waiting, per sender and receiver | 64, and 1 MiB from all senders | several sessions' worth of candidates |
//! | control messages waiting | 512, then the connection is closed | a room of 64 that fills and empties makes fewer |
//! | one write | 10 s, then the client is lost | its receiver does not read; an outage of 2.5 s does not end a connection |
//! | silence | pinged after 15 s, closed after 60 s | matchbox clients send a keep-alive every 10 s |
//! | silence of a peer that has sent relay frames | pinged after 1 s, lost after 3 s | it probes a silent websocket every 0.3 s |
//! | the token of a websocket that resumes | 5 s | it is the first thing that the client sends |
//! | the page | 512 MiB | it is held in memory |
//!
//! A message above a limit in bytes closes its connection; packets and signals above a rate or a
//! queue's length are dropped, counted, and reported to their sender at most twice a second.
//!
//! # Close codes
//!
//! A client that is refused gets its websocket opened and closed again, because browsers show the
//! reason of a close frame to the page and that of a failed upgrade not. The reason is a sentence,
//! such as `room duel is full: it has 2 of 2 peers`.
//!
//! | code | |
//! |---|---|
//! | 1002 | a frame violates the websocket protocol |
//! | 1009 | a packet or a signaling message is too large |
//! | 4001 | the room is full |
//! | 4002 | the room was opened for another number of players |
//! | 4003 | the room's name or parameters are not acceptable |
//! | 4004 | the server has as many rooms or peers as its settings allow |
//! | 4005 | the client leaves control messages unread, or does not answer pings |
//! | 4006 | the resume token is malformed, forged, expired or for another room, or its slot has another holder |
//! | 4007 | the server stops; no member left, and each may resume when it is back |
//! | 4008 | another websocket has resumed the slot |
//!
//! A client that leaves for good closes with 4000.
//!
//! The codes from 4000 on are constants of [`rollback_lab_link::wire::relay`]. A connection that
//! ends because a write timed out gets no close frame: it would not be written either.
//!
//! # Metrics
//!
//! All names begin with `rollback_lab_server_`.
//!
//! | name | |
//! |---|---|
//! | `rooms`, `peers` | how many there are now |
//! | `joins_total` | peers that joined |
//! | `resumes_total` | peers that resumed a slot |
//! | `room_visits_total` | rooms locked for joins and leaves, one each |
//! | `forwards_total`, `forwarded_bytes_total` | relayed packets written, and their payload |
//! | `signals_total` | signaling messages queued |
//! | `drops_total{reason}` | packets and signals not delivered: `rateLimited`, `stale`, `ringFull`, `unknownSlot`, `tooLarge`, `receiverLost` |
//! | `malformed_total{reason}` | messages that did not decode; the connection is kept |
//! | `refusals_total{reason}` | clients refused a room: `roomFull`, `playersDiffer`, `badRoom`, `serverFull`, `resume` |
//! | `closes_total{reason}` | connections ended by the server: `shutdown`, `tooSlow`, `silent`, `packetTooLarge`, `signalTooLarge`, `messageTooLarge`, `protocol`, `replaced`, or a refusal |
//! | `queue_seconds` | histogram: from reading a packet to taking it for writing |
//! | `added_latency_seconds` | histogram: from reading a packet to having written it |
//!
//! The server logs with [`tracing`]: starts, stops and refusals at `info`, joins and leaves at
//! `debug`. Logs name rooms and peer ids, no client's address.
//!
//! # Privacy and admission
//!
//! - **The relay can read what it forwards.** Game packets are not encrypted from peer to peer on
//!   it, unlike on a data channel. It neither logs nor stores them.
//! - There is no admission yet: every client that reaches the server and knows or guesses a room's
//!   name can join it. Therefore the server refuses to listen at an address that is not a loopback
//!   address unless [`ServerSettings::allow_public`] is set.
//! - Peer ids and nonces are random names, not secrets. Resume tokens are: they are in no address, log or
//!   error text.
//! - `/metrics` is readable by every client that reaches the port. It has totals only.
//!
//! [`bevy_rollback_lab`]: https://docs.rs/bevy_rollback_lab
//! [matchbox]: https://github.com/johanhelsing/matchbox

mod connection;
mod http;
mod identity;
mod limits;
mod metrics;
mod page;
mod refusal;
mod request;
mod ring;
mod room;
mod rooms;
mod secret;
mod send_queue;
mod server;
mod settings;
mod token;

pub use secret::{SecretError, ServerSecret};
pub use server::{LabServer, ServerError};
pub use settings::{DEFAULT_PORT, ServerSettings};
