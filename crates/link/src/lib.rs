//! A link between two peers of a rollback game over two paths: peer to peer first, with a relay in
//! reserve.
//!
//! A [`Link`](link::Link) carries the packets of one [ggrs] session to one remote peer. It sends them
//! on the direct path (a WebRTC data channel, usually) while that is healthy, on both paths while it
//! is suspect, and over the relay after a failover. ggrs does not notice: copies are dropped before
//! it, packets from outside are validated, and a path that takes over starts with the newest inputs.
//! Every change of the route states its cause and the measurement that decided.
//!
//! The crate is *sans I/O*. There is no socket, clock, thread or random source in it, and no Bevy:
//! time and datagrams are passed in, datagrams leave through a closure, and simulated networks are
//! seeded. The same code runs natively, in a browser and in a test that plays an hour in a second.
//! After the first packets only control messages allocate.
//!
//! Used by [`bevy_rollback_lab`](https://docs.rs/bevy_rollback_lab), which adds matchbox, sessions,
//! a recorder and the Bevy plugins.
//!
//! # Example
//!
//! Two peers at 60 Hz, 20 ms apart on both paths, in virtual time. Half-way the direct path goes
//! silent, and both links fail over to the relay.
//!
//! ```
//! use std::time::Duration;
//!
//! use rollback_lab_link::conditions::{Conditions, Direction, Shaper};
//! use rollback_lab_link::link::{Incoming, Link, LinkSettings, Transmit};
//! use rollback_lab_link::route::{RouteCause, RouteState};
//! use rollback_lab_link::wire::Path;
//!
//! const TICK: Duration = Duration::from_micros(16_667);
//!
//! // A peer: its link, and the simulated network that delays what it sends.
//! let conditions: Conditions = "latency=20ms,jitter=2ms".parse()?;
//! let mut peers = [0, 1].map(|player| {
//!     let mut link = Link::new(LinkSettings::default(), Duration::ZERO);
//!     link.peer_named(Duration::ZERO);          // the server's roster names the peer
//!     link.direct_opened(Duration::ZERO);       // the data channel opened
//!     link.relay_usable(Duration::ZERO, true);  // the server relays
//!     (link, Shaper::new(&conditions, player, 7))
//! });
//! let mut delivered = [0, 0];
//! let mut changes = Vec::new();
//!
//! for tick in 1..=600 {
//!     let now = TICK * tick;
//!     for player in [0, 1] {
//!         let [first, second] = &mut peers;
//!         let ((link, network), (_, incoming)) =
//!             if player == 0 { (first, second) } else { (second, first) };
//!         if tick == 120 {
//!             link.start_epoch(now, 1);
//!         }
//!         if tick == 360 {
//!             network.cut(Path::Direct, Direction::Outgoing);
//!         }
//!
//!         // 1. Receive everything that arrived.
//!         while let Some(packet) = incoming.pop_due(now) {
//!             if let Incoming::Data { .. } = link.receive(now, packet.path, &packet.bytes)? {
//!                 delivered[player] += 1;       // validate with `ggrs_wire`, pass it to ggrs
//!             }
//!         }
//!         // 2. Decide the route; send heartbeats, probes and control messages.
//!         let mut out = |datagram: Transmit<'_>| {
//!             network.push(now, datagram.path, datagram.bytes, ());
//!             Ok(())
//!         };
//!         link.poll(now, &mut out);
//!         // 3. Send the packets of the game.
//!         if tick >= 120 {
//!             link.send_data(now, b"an encoded ggrs message", true, &mut out);
//!         }
//!         changes.extend(link.drain_changes());
//!     }
//! }
//!
//! for (link, _) in &peers {
//!     assert_eq!(link.route(), RouteState::Relay);
//! }
//! assert!(changes.iter().any(|change| change.cause == RouteCause::Dead));
//! assert!(delivered.iter().all(|&packets| packets > 450), "{delivered:?}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where `now` comes from
//!
//! Every `now` is the time since an arbitrary origin, the same for all calls to one link: a monotonic
//! clock in a game, a counter in a test. Take it once per tick and use it for everything in that tick.
//! The clocks of two peers need no common origin; a link estimates the offset from the echoes in the
//! headers ([`Link::clock_offset`](link::Link::clock_offset)).
//!
//! A link measures silence on its *awake clock*, which pauses while the link is not called: when this
//! peer stalls, the stall is not held against a path.
//!
//! # Modules
//!
//! | module | what |
//! |---|---|
//! | [`link`] | one remote peer: acknowledgements, heartbeats, probes, de-duplication, resending |
//! | [`route`] | when a path is suspect, when a route fails over or fails back, and why |
//! | [`wire`] | the datagram: header, control messages, [relay frames](wire::relay), [clock queries](wire::clock) |
//! | [`ggrs_wire`] | validates ggrs messages from outside before ggrs sees them |
//! | [`conditions`] | simulated networks: latency, jitter, loss, bursts, outages and presets, seeded |
//! | [`cause`] | why an input was late, decided from the packets that carried it |
//! | [`frame`] | frame numbers and the number of players |
//!
//! # Features
//!
//! | feature | what |
//! |---|---|
//! | `schema` | `schemars::JsonSchema` for the types in exported files |
//! | `reflect` | `bevy_reflect::Reflect` for the types that a Bevy app keeps in resources and messages |
//!
//! # Limits
//!
//! Two paths, one remote peer per link, at most [`MAX_PAYLOAD`](link::MAX_PAYLOAD) bytes per packet.
//! Packets are not encrypted or authenticated here: WebRTC and TLS below do that. Bytes from a hostile
//! peer are errors with a counter, never a panic; a peer can still lie about its own clock and losses.
//!
//! # Glossary
//!
//! - **path**: the direct path between two peers (possibly through TURN) or the relay.
//! - **route**: the [state](route::RouteState) of a link, which decides the paths of game packets.
//! - **suspect**: the direct path may be failing; both paths are used until that is clear.
//! - **degraded**: this peer's own evidence about its path is bad, as its headers state.
//! - **failover**: the route becomes the relay; **failback**: it becomes direct again.
//! - **survival**: both paths are used after a failover, because the relay is silent.
//! - **epoch**: the number of an episode on the wire; packets of another epoch are dropped.
//! - **heartbeat**: a header sent in a tick in which ggrs sends nothing, so that silence means loss.
//! - **probe**: a header that keeps the measurements of an idle path fresh.
//! - **interval `I`**: the expected time between packets; **silence limit `S`**: the silence that makes
//!   a path suspect.
//! - **failover margin**: what is left of the prediction window when a lost direct path is noticed and
//!   replaced, see [`Link::margin`](link::Link::margin).
//! - **own stall**: a gap in this peer's own polling; **pause**: one in the packets of the other.
//! - **transit time**: from sending a packet to receiving it, with the offset of the two clocks in it.
//! - **input delay**, **prediction window**, **confirmed frame**: as in ggrs.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod cause;
pub mod conditions;
pub mod frame;
pub mod ggrs_wire;
mod health;
pub mod link;
mod path;
pub mod route;
pub mod wire;
