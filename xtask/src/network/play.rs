//! Plays one row: builds its network, starts server and players in it, lets things happen, waits
//! for the end and reads the files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::judge::{Seen, SeenPlayer};
use super::row::{Row, Step};
use super::topology::{Network, Node, OTHER_SERVER, SERVER, letter};
use crate::matches::{Process, Programs, Report, Signal, session_phases};
use crate::process::{create_folder, program};

/// A server listens within a fraction of this.
const LISTENING: Duration = Duration::from_secs(10);
/// Until all play: the direct path is given up after 15 s.
const PLAYING: Duration = Duration::from_secs(40);
/// How often a player's session document is looked at.
const POLL: Duration = Duration::from_millis(50);

/// A match in its network. Programs end before their namespaces are removed: fields are dropped in
/// their order.
struct Match<'a> {
    row: &'a Row,
    programs: &'a Programs,
    folder: &'a Path,
    players: Vec<Process>,
    servers: Vec<Process>,
    network: Network,
    path_at_us: Option<u64>,
}

/// Plays a row, the `number`th of all, with its files below `folder`.
pub(super) fn play(
    row: &Row,
    number: usize,
    programs: &Programs,
    folder: &Path,
) -> Result<Seen, String> {
    create_folder(folder)?;
    let mut match_ = Match {
        row,
        programs,
        folder,
        players: Vec::new(),
        servers: Vec::new(),
        network: Network::build(number, row.players, row.nats)?,
        path_at_us: None,
    };
    match_.serve(Node::Server, SERVER)?;
    for step in row.before {
        match_.take(*step)?;
    }
    for player in 0..row.players {
        match_.join(player)?;
    }
    match_.await_play()?;
    let deadline = Instant::now() + Duration::from_secs_f64(row.limit());
    for step in row.during {
        match_.take(*step)?;
        if step.brings_path() {
            match_.path_at_us = Some(now_us());
        }
    }
    match_.finish(now_us(), deadline)
}

impl Match<'_> {
    fn exports(&self, player: usize) -> PathBuf {
        self.folder.join(letter(player).to_string())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// A program in a node's namespace.
    fn command(&self, node: Node, name: &Path) -> Command {
        let mut command = program("nsenter");
        command
            .arg(format!("--net={}", self.network.path(node)))
            .arg("--")
            .arg(name);
        command
    }

    fn serve(&mut self, node: Node, address: &str) -> Result<(), String> {
        let mut command = self.command(node, &self.programs.lab());
        command.args(["serve", "--allow-public", "--bind", address]);
        if self.row.secret {
            command.arg("--secret").arg(self.folder.join("secret"));
        }
        let log = self.log(&format!("server-{}", self.servers.len()));
        let mut server = Process::start(&mut command, &log)?;
        server.line_with("ws://", LISTENING)?;
        self.servers.push(server);
        Ok(())
    }

    fn join(&mut self, player: usize) -> Result<(), String> {
        let mut command = self.command(Node::Player(player), &self.programs.player());
        let frames = self.row.seconds * self.row.fps;
        command
            .args(["--server", &format!("ws://{SERVER}")])
            .args(["--join", "--json", "--cut-direct-at", "never"])
            .args(["--seed", "1"])
            .args(["--players", &self.row.players.to_string()])
            .args(["--frames", &frames.to_string()])
            .args(["--fps", &self.row.fps.to_string()])
            .arg("--out")
            .arg(self.exports(player))
            .args(["--conditions", self.row.conditions])
            .args(self.row.options.split_whitespace());
        let log = self.log(&letter(player).to_string());
        self.players.push(Process::start(&mut command, &log)?);
        Ok(())
    }

    /// Waits until every player is in the first episode.
    fn await_play(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PLAYING;
        for player in 0..self.row.players {
            loop {
                let phases = session_phases(&self.exports(player));
                if phases.iter().any(|phase| phase == "playing") {
                    break;
                }
                let over = self.players[player].ended()?.is_some();
                if over || Instant::now() > deadline {
                    let last = phases.last().map_or("no phase", String::as_str);
                    let after = PLAYING.as_secs();
                    let player = letter(player);
                    return Err(if over {
                        format!("{player} ended before play, in phase {last}")
                    } else {
                        format!("{player} did not play after {after} s, but is in phase {last}")
                    });
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Wait(seconds) => wait(seconds),
            Step::DropUdp => {
                for from in 0..self.row.players {
                    for to in (0..self.row.players).filter(|to| *to != from) {
                        self.network
                            .drop_udp(Node::Player(from), Node::Player(to))?;
                    }
                }
            }
            Step::DropUdpOneWay(from, to) => self.network.drop_udp(from, to)?,
            Step::Away(nodes, seconds) => {
                for node in nodes {
                    self.network.block(*node, true)?;
                }
                wait(seconds);
                for node in nodes {
                    self.network.block(*node, false)?;
                }
            }
            Step::Gone(node) => self.network.block(node, true)?,
            Step::Kill(node) => self.signal(node, Signal::Kill)?,
            Step::Terminate(node) => self.signal(node, Signal::Terminate)?,
            Step::Restart => self.serve(Node::Server, SERVER)?,
            Step::StartOther => {
                self.serve(Node::OtherServer, OTHER_SERVER)?;
                self.network.redirect_server()?;
            }
            Step::ResetTcp(seconds) => {
                self.network.reset_tcp(true)?;
                wait(seconds);
                self.network.reset_tcp(false)?;
            }
            Step::NewAddress(node, seconds) => {
                self.network.block(node, true)?;
                wait(seconds);
                self.network.renumber(player_of(node)?)?;
                self.network.block(node, false)?;
            }
            Step::ForgetNat(node) => self.network.forget_nat(player_of(node)?)?,
            Step::LoseTcp(percent) => self.network.lose_tcp(percent)?,
        }
        Ok(())
    }

    /// Signals a player, or the server that runs.
    fn signal(&mut self, node: Node, signal: Signal) -> Result<(), String> {
        let process = match node {
            Node::Player(player) => self.players.get_mut(player),
            _ => self.servers.last_mut(),
        };
        let process = process.ok_or_else(|| format!("no program runs in {node}"))?;
        process.signal(signal)?;
        if node == Node::Server {
            // Its port must be free before it is started again.
            process.wait_until(Instant::now() + LISTENING)?;
        }
        Ok(())
    }

    /// Waits for the players' ends, and reads what they left.
    fn finish(mut self, last_step_us: u64, deadline: Instant) -> Result<Seen, String> {
        let mut seen = Seen {
            last_step_us,
            path_at_us: self.path_at_us,
            ..Seen::default()
        };
        for process in &mut self.players {
            let ended = process.wait_until(deadline)?.is_some();
            seen.players.push(SeenPlayer {
                ended,
                report: Report::default(),
            });
        }
        // Programs that still run are ended before files are read.
        self.players.clear();
        for player in 0..self.row.players {
            let report = Report::read(&self.exports(player));
            match report {
                Ok(report) => seen.players[player].report = report,
                Err(error) => seen.faults.push(error),
            }
        }
        seen.faults.extend(self.programs.verify(self.folder)?);
        let secret = self.folder.join("secret");
        if secret.exists() {
            fs::remove_file(&secret).map_err(|error| format!("the secret: {error}"))?;
        }
        Ok(seen)
    }
}

fn player_of(node: Node) -> Result<usize, String> {
    match node {
        Node::Player(player) => Ok(player),
        other => Err(format!("{other} is no player")),
    }
}

fn wait(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}

/// Unix time in microseconds, the clock that all files of this machine share.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
