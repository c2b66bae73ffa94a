//! The command line of `headless_duel`: its options, their defaults, and the checks before a match.
//!
//! The options are a stable interface. Nothing here opens a socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bevy_rollback_lab::config::LabConfig;
use clap::Parser;
use rollback_lab_link::conditions::Conditions;
use rollback_lab_link::route::RoutePolicy;

/// Default room.
const DEFAULT_ROOM: &str = "duel";
/// Default conditions: two homes of one region, with the jitter of a busy Wi-Fi. Inputs are late now
/// and then at input delay 1, so that both peers roll back, and the failover margin at 60 Hz and
/// window 8 stays positive: 8 to 15 ms in four matches on two cores. With 15 ms of latency and 5 ms
/// of jitter it was negative in matches in which one peer ran a frame ahead.
const EVERYDAY_NETWORK: &str = "latency=10ms,jitter=10ms";
/// The value of `--conditions` that means no artificial conditions.
const CLEAN_NETWORK: &str = "none";

/// Bots play a rollback match over real WebRTC and an everyday network (10 ms one way, 10 ms jitter,
/// seeded); the direct path is blackholed half-way, and every peer writes its episode file.
#[derive(Parser, Clone, Debug)]
#[command(name = "headless_duel", version)]
pub(crate) struct Options {
    /// Frames per episode.
    #[arg(long, value_name = "N", default_value_t = 1800)]
    pub frames: u32,
    /// Episodes, one after the other in the same lab session.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub episodes: u32,
    /// Game frames per second.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub fps: u32,
    /// Players of a match.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub players: usize,
    /// Folder of the exported files.
    #[arg(long, value_name = "DIR", default_value = "exports")]
    pub out: PathBuf,
    /// Seed of the first episode, the next ones add 1; every peer must use the same. Without it
    /// the seed follows from the session id. The network conditions have a seed of their own, made
    /// from the name of the room.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Frames between reading an input and applying it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub input_delay: u32,
    /// Prediction window in frames; 8 allows 7 predicted frames.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub max_prediction: u32,
    /// Blackhole every direct path, both ways, from that frame of episode 0 on; or `never`.
    /// Defaults to half of the frames.
    #[arg(long, value_name = "FRAME|never")]
    pub cut_direct_at: Option<Cut>,
    /// Network conditions, such as 'latency=50ms,jitter=10ms,loss=15%'; also burst=5%/4 (share lost
    /// in bursts of so many packets), duplicate=1%, reorder=2%/30ms, rate=256kbit, cut=10s..12s
    /// and preset=cable|dsl|lte|4g|3g|busy-wifi|bad-wifi. The prefix 'p1:' limits them to what one
    /// player sends, 'direct:' or 'relay:' to one path; ';' separates several. 'none' is the clean
    /// network.
    #[arg(long, value_name = "SPEC|none", default_value = EVERYDAY_NETWORK)]
    pub conditions: String,
    /// Which path game packets take: p2p-first, p2p-only, relay-only or dual-path.
    #[arg(long, value_name = "POLICY", default_value_t = RoutePolicy::P2pFirst)]
    pub route_policy: RoutePolicy,
    /// Play over a server that runs elsewhere instead of an embedded one.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Room on that server.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_ROOM)]
    pub room: String,
    /// Play one peer only; the others join from other processes. Needs --server.
    #[arg(long, requires = "server")]
    pub join: bool,
    /// Print the summary as JSON on stdout instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// When the direct paths are blackholed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Not at all.
    Never,
    /// From this frame of episode 0 on.
    At(u32),
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let frame = text.parse();
        frame
            .map(Self::At)
            .map_err(|_| format!("{text:?} is neither a frame number nor 'never'"))
    }
}

impl Options {
    /// The frame of episode 0 from which the direct paths are blackholed.
    pub(crate) fn cut_frame(&self) -> Option<u32> {
        match self.cut_direct_at {
            None => Some(self.frames / 2),
            Some(Cut::At(frame)) => Some(frame),
            Some(Cut::Never) => None,
        }
    }

    /// The network conditions as the library reads them; empty for the clean network.
    fn conditions(&self) -> &str {
        match self.conditions.as_str() {
            CLEAN_NETWORK => "",
            spec => spec,
        }
    }

    /// Number of peers in this process.
    pub(crate) fn local_peers(&self) -> usize {
        if self.join { 1 } else { self.players }
    }

    /// The library's configuration for one peer at `server`.
    pub(crate) fn lab(&self, server: &str) -> LabConfig {
        let lab = LabConfig::new(server, &self.room)
            .players(self.players)
            .fps(self.fps)
            .input_delay(self.input_delay)
            .max_prediction(self.max_prediction)
            .frame_limit(self.frames)
            .episodes(self.episodes)
            .conditions(self.conditions())
            .route_policy(self.route_policy)
            .export_dir(&self.out);
        match self.seed {
            Some(seed) => lab.seed(seed),
            None => lab,
        }
    }

    /// Checks everything that can be known before a match.
    ///
    /// # Errors
    /// The option that cannot work, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        // The embedded server has no address yet; any valid one will do for the check.
        let server = self.server.as_deref().unwrap_or("ws://127.0.0.1");
        self.lab(server)
            .validate()
            .map_err(|error| error.to_string())?;
        if let Some(frame) = self.cut_frame().filter(|frame| *frame >= self.frames) {
            return Err(format!(
                "--cut-direct-at {frame} lies beyond the {} frames of an episode",
                self.frames
            ));
        }
        let named = Conditions::parse(self.conditions())
            .map_err(|error| error.to_string())?
            .highest_player();
        if let Some(player) = named.filter(|player| *player >= self.players) {
            return Err(format!(
                "--conditions names player p{player}, players are p0 to p{}",
                self.players - 1
            ));
        }
        probe(&self.out)
            .map_err(|error| format!("folder {} cannot be written: {error}", self.out.display()))
    }
}

/// Writes and removes a file: permissions and full disks show no other way.
fn probe(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let file = folder.join(format!(".probe-{}", std::process::id()));
    fs::write(&file, b"probe")?;
    fs::remove_file(&file)
}
