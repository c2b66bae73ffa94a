//! Plays one draw on loopback and names what is wrong with what it leaves.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::draw::{Draw, What};
use crate::matches::{Played, Process, Programs, Report, Signal, Unknown, session_phases};
use crate::process::{create_folder, program};

/// A server listens within a fraction of this.
const LISTENING: Duration = Duration::from_secs(10);
/// Until all play: the direct path is given up after 15 s.
const PLAYING: Duration = Duration::from_secs(40);
/// How often a player's session document is looked at.
const POLL: Duration = Duration::from_millis(50);
/// The end of a match that was played.
const COMPLETED: &str = "completed";

/// A running match.
struct Match<'a> {
    draw: &'a Draw,
    programs: &'a Programs,
    folder: &'a Path,
    players: Vec<Process>,
    servers: Vec<Process>,
    /// Address and port of the first server, for the next ones.
    address: String,
}

/// What a match left.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What is wrong; nothing if it is in order.
    pub wrong: Vec<String>,
    /// Unknown causes in all files.
    pub unknown: Unknown,
}

/// Plays a match with its files below `folder`.
pub(super) fn play(draw: &Draw, programs: &Programs, folder: &Path) -> Result<Outcome, String> {
    create_folder(folder)?;
    let mut match_ = Match {
        draw,
        programs,
        folder,
        players: Vec::new(),
        servers: Vec::new(),
        address: String::from("127.0.0.1:0"),
    };
    match_.serve()?;
    for player in 0..draw.players {
        match_.join(player)?;
    }
    match_.await_play()?;
    let began = Instant::now();
    let deadline = began + Duration::from_secs(draw.limit());
    for event in &draw.events {
        let at = began + Duration::from_millis(event.at_ms);
        thread::sleep(at.saturating_duration_since(Instant::now()));
        match_.take(event.what)?;
    }
    match_.finish(deadline)
}

impl Match<'_> {
    fn exports(&self, player: usize) -> PathBuf {
        self.folder.join(format!("peer-{player}"))
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut command = program(&self.programs.lab().to_string_lossy());
        command.args(["serve", "--bind", &self.address]);
        if self.draw.restarts_server() {
            command.arg("--secret").arg(self.folder.join("secret"));
        }
        let log = format!("server-{}.log", self.servers.len());
        let mut server = Process::start(&mut command, &self.folder.join(log))?;
        let line = server.line_with("ws://", LISTENING)?;
        let (_, address) = line.rsplit_once("ws://").unwrap_or_default();
        address.trim().clone_into(&mut self.address);
        self.servers.push(server);
        Ok(())
    }

    fn join(&mut self, player: usize) -> Result<(), String> {
        let mut command = program(&self.programs.player().to_string_lossy());
        command
            .args(["--server", &format!("ws://{}", self.address)])
            .args(["--room", &format!("soak-{}", self.draw.seed)])
            .args(["--join", "--json", "--out"])
            .arg(self.exports(player))
            .args(self.draw.options());
        let log = self.folder.join(format!("peer-{player}.log"));
        self.players.push(Process::start(&mut command, &log)?);
        Ok(())
    }

    fn await_play(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PLAYING;
        for player in 0..self.draw.players {
            loop {
                let phases = session_phases(&self.exports(player));
                if phases.iter().any(|phase| phase == "playing") {
                    break;
                }
                let over = self.players[player].ended()?.is_some();
                if over || Instant::now() > deadline {
                    let last = phases.last().map_or("no phase", String::as_str);
                    let what = if over { "ended" } else { "waits" };
                    return Err(format!("peer {player} {what} before play, in phase {last}"));
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    fn take(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Stop(player) => self.players[player].signal(Signal::Stop),
            What::Continue(player) => self.players[player].signal(Signal::Continue),
            What::KillServer => self.end_server(Signal::Kill),
            What::TerminateServer => self.end_server(Signal::Terminate),
            What::StartServer => self.serve(),
        }
    }

    fn end_server(&mut self, signal: Signal) -> Result<(), String> {
        let Some(server) = self.servers.last_mut() else {
            return Ok(());
        };
        server.signal(signal)?;
        // Its port must be free before it is started again.
        let ended = server.wait_until(Instant::now() + LISTENING)?;
        ended.map_or_else(|| Err("the server does not stop".into()), |_| Ok(()))
    }

    /// Waits for the players' ends, and judges what they left.
    fn finish(mut self, deadline: Instant) -> Result<Outcome, String> {
        let Outcome {
            mut wrong,
            mut unknown,
        } = Outcome::default();
        for (player, process) in self.players.iter_mut().enumerate() {
            match process.wait_until(deadline)? {
                Some(status) if status.success() => {}
                Some(status) => wrong.push(format!("peer {player} ended with {status}")),
                None => {
                    let limit = self.draw.limit();
                    wrong.push(format!("peer {player} still runs after {limit} s"));
                }
            }
        }
        // Programs that still run are ended before files are read.
        self.players.clear();
        for player in 0..self.draw.players {
            let of_player = match Report::read(&self.exports(player)) {
                Ok(report) => {
                    let played = report.episode.as_ref();
                    unknown.add(played.map(Played::unknown).unwrap_or_default());
                    judge(&report)
                }
                Err(error) => vec![error],
            };
            let name = |why: String| format!("peer {player}: {why}");
            wrong.extend(of_player.into_iter().map(name));
        }
        wrong.extend(self.programs.verify(self.folder)?);
        Ok(Outcome { wrong, unknown })
    }
}

/// What is wrong with one player's files that `verify` accepts, such as a session that ended early.
fn judge(report: &Report) -> Vec<String> {
    let end = report.end.as_deref().unwrap_or("nothing");
    let mut wrong = Vec::new();
    if end != COMPLETED {
        wrong.push(format!("the session ended with {end}"));
    }
    match &report.episode {
        None => wrong.push("no file of the first episode".into()),
        Some(played) => {
            if played.status != "verified" {
                wrong.push(format!("the file is {}", played.status));
            }
            wrong.extend(played.causeless());
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_ended_early_is_wrong_although_its_files_verify() {
        let mut report = Report {
            end: Some(COMPLETED.into()),
            episode: Some(Played {
                status: "verified".into(),
                ..Played::default()
            }),
            ..Report::default()
        };
        assert_eq!(judge(&report), [""; 0]);
        report.end = Some("peerLeft".into());
        assert_eq!(judge(&report), ["the session ended with peerLeft"]);
        let nothing = judge(&Report::default());
        assert_eq!(nothing[1], "no file of the first episode");
    }
}
