//! What a row is: a match, what happens to its network, and what is expected of it.

use std::fmt;

use super::topology::Node;

/// Something that happens to the network of a match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing, for so many seconds.
    Wait(f64),
    /// UDP between all players is dropped from now on.
    DropUdp,
    /// UDP from one player to another is dropped from now on.
    DropUdpOneWay(Node, Node),
    /// The whole network of these nodes is away for so many seconds.
    Away(&'static [Node], f64),
    /// The whole network of a node is away from now on.
    Gone(Node),
    /// SIGKILL.
    Kill(Node),
    /// SIGTERM.
    Terminate(Node),
    /// The server is started again, with the same secret.
    Restart,
    /// The server's address leads to another server with the same secret.
    StartOther,
    /// A middlebox resets connections to the server for so many seconds.
    ResetTcp(f64),
    /// A player's network is away for so many seconds and comes back with another address.
    NewAddress(Node, f64),
    /// A player's NAT forgets its UDP mappings.
    ForgetNat(Node),
    /// A share of the server's TCP segments is lost from now on, in percent.
    LoseTcp(u32),
}

impl Step {
    /// Whether a path is there (again) after it: the recovery is measured from there.
    pub(super) const fn brings_path(self) -> bool {
        !matches!(
            self,
            Self::Wait(_) | Self::Kill(Node::Server) | Self::Gone(_)
        )
    }
}

/// The end of a match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ends {
    /// All frames are played, all files verified.
    Completed,
    /// Each player's session ends with its reason, at most so many seconds after the last step;
    /// a player without a reason was killed and need not leave files.
    Early {
        reasons: &'static [Option<&'static str>],
        after: (f64, f64),
    },
}

/// Ticks without a new frame, of every player that leaves files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stalled {
    Any,
    /// At most so many in total.
    AtMost(u64),
    /// One stall lasts at least so many seconds, and is listed with a cause that is not the
    /// peer's game.
    Listed(u64),
}

/// What a row's verdict asks for, beside files in agreement and known causes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expected {
    pub ends: Ends,
    pub stalled: Stalled,
    /// Milliseconds from the last step that brings a path to the match going on.
    pub back_within_ms: Option<u64>,
    /// There was one path only for a while, so `failoverFeasible` is not true.
    pub single_path: bool,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ends {
            Ends::Completed => f.write_str("completed")?,
            Ends::Early { reasons, after } => {
                let reasons = reasons.iter().map(|reason| reason.unwrap_or("killed"));
                let reasons: Vec<&str> = reasons.collect();
                write!(f, "{} {}..{} s after", reasons.join("/"), after.0, after.1)?;
            }
        }
        match self.stalled {
            Stalled::Any => {}
            Stalled::AtMost(most) => write!(f, ", stalled <= {most}")?,
            Stalled::Listed(seconds) => write!(f, ", a stall of {seconds} s listed")?,
        }
        if let Some(limit) = self.back_within_ms {
            write!(f, ", goes on within {limit} ms")?;
        }
        if self.single_path {
            f.write_str(", failoverFeasible false")?;
        }
        Ok(())
    }
}

/// One match.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub name: &'static str,
    pub about: &'static str,
    pub players: usize,
    /// So many players, from the first on, are behind a NAT.
    pub nats: usize,
    pub fps: u64,
    /// Seconds of play; outages in which the match stands still do not count.
    pub seconds: u64,
    /// Artificial conditions of every player.
    pub conditions: &'static str,
    /// Further options of every player.
    pub options: &'static str,
    /// The server is started with `--secret FILE`.
    pub secret: bool,
    /// Whether CI plays it.
    pub short: bool,
    /// Before the players start.
    pub before: &'static [Step],
    /// While all play.
    pub during: &'static [Step],
    pub expected: Expected,
}

impl Row {
    /// Two players, eight seconds at 30 frames per second, which a busy machine keeps; nothing
    /// happens, no frame stalls.
    pub(super) const fn new(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            players: 2,
            nats: 0,
            fps: 30,
            seconds: 8,
            conditions: "none",
            options: "",
            secret: false,
            short: true,
            before: &[],
            during: &[],
            expected: Expected {
                ends: Ends::Completed,
                stalled: Stalled::AtMost(0),
                back_within_ms: None,
                single_path: false,
            },
        }
    }

    pub(super) const fn players(mut self, players: usize) -> Self {
        self.players = players;
        self
    }

    pub(super) const fn nats(mut self, nats: usize) -> Self {
        self.nats = nats;
        self
    }

    pub(super) const fn fps(mut self, fps: u64) -> Self {
        self.fps = fps;
        self
    }

    pub(super) const fn seconds(mut self, seconds: u64) -> Self {
        self.seconds = seconds;
        self
    }

    pub(super) const fn conditions(mut self, conditions: &'static str) -> Self {
        self.conditions = conditions;
        self
    }

    pub(super) const fn options(mut self, options: &'static str) -> Self {
        self.options = options;
        self
    }

    /// The server keeps its secret in a file.
    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Not in CI.
    pub(super) const fn long(mut self) -> Self {
        self.short = false;
        self
    }

    /// UDP is blocked before the players start: they play over the relay alone.
    pub(super) const fn on_relay(mut self) -> Self {
        self.before = &[Step::DropUdp];
        self.single_path()
    }

    pub(super) const fn during(mut self, steps: &'static [Step]) -> Self {
        self.during = steps;
        self
    }

    pub(super) const fn stalled(mut self, stalled: Stalled) -> Self {
        self.expected.stalled = stalled;
        self
    }

    /// The match stands still, and goes on so many milliseconds after a path is back.
    pub(super) const fn back_within_ms(mut self, limit: u64) -> Self {
        self.expected.stalled = Stalled::Any;
        self.expected.back_within_ms = Some(limit);
        self
    }

    pub(super) const fn single_path(mut self) -> Self {
        self.expected.single_path = true;
        self
    }

    pub(super) const fn ends(
        mut self,
        reasons: &'static [Option<&'static str>],
        after: (f64, f64),
    ) -> Self {
        self.expected.ends = Ends::Early { reasons, after };
        self.expected.stalled = Stalled::Any;
        self
    }

    /// Seconds that it may take, from the first frame on.
    pub(super) fn limit(&self) -> f64 {
        let steps = self.during.iter().map(|step| match *step {
            Step::Wait(seconds)
            | Step::Away(_, seconds)
            | Step::ResetTcp(seconds)
            | Step::NewAddress(_, seconds) => seconds,
            _ => 0.0,
        });
        let late = match self.expected.ends {
            Ends::Completed => 0.0,
            Ends::Early { after, .. } => after.1,
        };
        // Frames over a lossy relay take longer than their rate says.
        steps.sum::<f64>() + late + 2.0 * self.seconds as f64 + SLACK
    }
}

/// The end may take 10 s without the other's report, and the machine is busy.
const SLACK: f64 = 25.0;
