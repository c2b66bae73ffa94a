//! The command line of the native demo.

use std::path::PathBuf;

use bevy_rollback_lab::prelude::RoutePolicy;
use clap::Parser;

use crate::settings::Settings;

/// Volley, played over a rollback session that survives the loss of its direct path.
///
/// Without --server it plays against a bot at once, over an embedded server. Left and right are
/// the arrows or A and D, jumping is space, W or up; F3 shows the HUD.
#[derive(Parser, Clone, Debug)]
#[command(name = "volley", version)]
pub(crate) struct Options {
    /// Play over a server that runs elsewhere, against the other peers in the room.
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// Room on the server.
    #[arg(long, value_name = "NAME", default_value = "volley")]
    pub room: String,
    /// Players of a match; without a server bots play all but one.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub players: usize,
    /// Name under the local player; shown, not sent and not written.
    #[arg(long, default_value = "you")]
    pub name: String,
    /// Let the bot play this side too.
    #[arg(long)]
    pub bot: bool,
    /// Frames per episode; the same for every peer.
    #[arg(long, value_name = "N", default_value_t = Settings::default().frames)]
    pub frames: u32,
    /// Episodes of the session; without it they follow each other until a player leaves.
    #[arg(long, value_name = "N")]
    pub episodes: Option<u32>,
    /// Game frames per second.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub fps: u32,
    /// Seed of the first episode; the same for every peer.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Network conditions, such as 'latency=50ms,jitter=10ms,loss=5%' or 'preset=busy-wifi'.
    #[arg(long, value_name = "SPEC", default_value = "")]
    pub conditions: String,
    /// Which path game packets take: p2p-first, p2p-only, relay-only or dual-path.
    #[arg(long, value_name = "POLICY", default_value_t = RoutePolicy::P2pFirst)]
    pub route_policy: RoutePolicy,
    /// Frames between reading an input and applying it.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub input_delay: u32,
    /// Blackhole every direct path from that frame of episode 0 on.
    #[arg(long, value_name = "FRAME")]
    pub cut_direct_at: Option<u32>,
    /// Seconds to wait for the other players.
    #[arg(long, value_name = "SECONDS", default_value_t = Settings::default().wait)]
    pub wait_timeout: u64,
    /// Identifier of the study, for the file.
    #[arg(long, value_name = "ID")]
    pub study: Option<String>,
    /// Identifier of the group, for the file.
    #[arg(long, value_name = "ID")]
    pub group: Option<String>,
    /// Label of the trial, for the file.
    #[arg(long, value_name = "LABEL")]
    pub trial: Option<String>,
    /// Folder of the exported files.
    #[arg(long, value_name = "DIR", default_value = "exports")]
    pub out: PathBuf,
    /// Watch this episode file instead of playing: space pauses, the arrows step, Home and End seek,
    /// plus and minus change the speed, V shows it as confirmed or as its peer saw it.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Watch it as its peer saw it, predictions and rollbacks included.
    #[arg(long, requires = "replay")]
    pub as_seen: bool,
    /// Show the HUD from the start.
    #[arg(long)]
    pub hud: bool,
    /// Close the window when the last episode is over.
    #[arg(long)]
    pub quit: bool,
    /// Save a screenshot of the window.
    #[arg(long, value_name = "FILE")]
    pub screenshot: Option<PathBuf>,
    /// The frame of episode 0 at which the screenshot is taken. Defaults to half of the frames.
    #[arg(long, value_name = "FRAME", requires = "screenshot")]
    pub screenshot_at: Option<u32>,
}

impl Options {
    /// The settings of this peer at `server`.
    pub(crate) fn settings(&self, server: &str) -> Settings {
        let at = self.screenshot_at.unwrap_or(self.frames / 2);
        Settings {
            server: server.to_owned(),
            room: self.room.clone(),
            players: self.players,
            name: self.name.clone(),
            rival: String::from(if self.opponents() > 0 {
                "bot"
            } else {
                "opponent"
            }),
            bot: self.bot,
            frames: self.frames,
            episodes: self.episodes,
            fps: self.fps,
            seed: self.seed,
            conditions: self.conditions.clone(),
            route_policy: self.route_policy,
            input_delay: self.input_delay,
            cut_direct_at: self.cut_direct_at,
            wait: self.wait_timeout,
            study: self.study.clone(),
            group: self.group.clone(),
            trial: self.trial.clone(),
            token: None,
            out: Some(self.out.clone()),
            hud: self.hud,
            quit: self.quit,
            screenshot: self.screenshot.clone().map(|file| (file, at)),
        }
    }

    /// Number of bots as opponents: none with `--server`.
    pub(crate) fn opponents(&self) -> usize {
        match self.server {
            Some(_) => 0,
            None => self.players.saturating_sub(1),
        }
    }
}
