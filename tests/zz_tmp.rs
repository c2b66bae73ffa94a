#![allow(missing_docs, dead_code, unused)]
#[path = "link/world.rs"]
mod world;
use world::*;
use bevy_rollback_lab::transport::{route::*, wire::Path};
#[test]
fn losses() {
    for spec in ["direct:loss=1%","direct:loss=2%","direct:loss=5%","direct:loss=10%","direct:loss=20%","direct:loss=40%","direct:jitter=10ms,latency=30ms", "direct:jitter=30ms,latency=40ms","direct:jitter=60ms,latency=70ms"] {
        let setup = Setup { conditions: spec, tick_jitter: 2 * MS, input_delay: 2, direct: 20*MS, relay: 25*MS, ..Setup::default() };
        let w = World::playing(setup, 120 * SECOND);
        println!("{spec}: both {:.1}% stalls {} suspects {} promos {:?} relaybytes share {:.2}", w.both_paths().as_secs_f64() / 1.2, w.stalls(), w.causes_into(RouteState::Suspect).len(), w.causes_into(RouteState::Relay), w.peers[0].link.stats().game_bytes_relay as f64 / w.peers[0].link.stats().game_bytes_direct as f64);
    }
    // negative margin band
    for (fps, rtt) in [(60, 60), (60, 70), (120, 20), (120, 30)] {
        let setup = Setup { fps, tick_jitter: 2 * MS, input_delay: 0, direct: MS*rtt/2, relay: MS*rtt/2, ..Setup::default() };
        let w = World::playing(setup, 120 * SECOND);
        println!("{fps} rtt {rtt}: margin {:.1} S {:?} both {:.1}% suspects {}", w.margin(), w.peers[0].link.silence_limit(), w.both_paths().as_secs_f64() / 1.2, w.causes_into(RouteState::Suspect).len());
    }
}
