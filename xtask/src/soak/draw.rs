//! What a match of the soak is like, drawn from a seed: settings, network conditions, and what
//! happens to players and server. Every draw is one that must be played to its end.

use std::fmt;

use super::random::Random;

/// What happens to a program, and how long after all players play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub at_ms: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A player's program stands still: SIGSTOP.
    Stop(usize),
    /// It goes on: SIGCONT.
    Continue(usize),
    /// SIGKILL to the server.
    KillServer,
    /// SIGTERM to the server.
    TerminateServer,
    /// The server is started again, with the same port and secret.
    StartServer,
}

/// One match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draw {
    pub seed: u64,
    pub players: usize,
    pub fps: u64,
    /// Of each episode.
    pub seconds: u64,
    pub episodes: u64,
    pub input_delay: u64,
    pub max_prediction: u64,
    pub policy: &'static str,
    pub conditions: String,
    /// From this frame on the direct paths are blackholed.
    pub cut_direct_at: Option<u64>,
    /// In the order of time.
    pub events: Vec<Event>,
}

/// Most matches have the default policy.
pub(super) const POLICIES: [&str; 6] = [
    "p2p-first",
    "p2p-first",
    "p2p-first",
    "p2p-only",
    "relay-only",
    "dual-path",
];
const RATES: [u64; 4] = [30, 60, 60, 120];
const PLAYERS: [usize; 5] = [2, 2, 2, 3, 4];
/// The longest outage and pause. With all of them at once a peer is still silent for less than
/// half of the 35 s after which it is gone.
const OUTAGE_MS: u64 = 4000;
const PAUSE_MS: (u64, u64) = (50, 3000);
/// A second meeting, the end, and a busy machine.
const SLACK_S: u64 = 40;
/// A short window over a slow path simulates a third of the frames that its rate asks for.
const SLOWEST: u64 = 4;

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let players = random.pick(&PLAYERS);
        let fps = random.pick(&RATES);
        let seconds = random.between(5, 9);
        let episodes = if random.one_in(6) { 2 } else { 1 };
        let input_delay = random.between(0, 3);
        let max_prediction = random.between(5, 12);
        let policy = random.pick(&POLICIES);
        let conditions = conditions(random, players, seconds);
        let can_fail_over = policy == "p2p-first" || policy == "dual-path";
        let cut = random.one_in(3) && can_fail_over;
        let at = fps * random.between(1, seconds - 2);
        Self {
            seed,
            players,
            fps,
            seconds,
            episodes,
            input_delay,
            max_prediction,
            policy,
            conditions,
            cut_direct_at: cut.then_some(at),
            events: events(random, players, seconds),
        }
    }

    /// Whether the server is stopped and started.
    pub(super) fn restarts_server(&self) -> bool {
        let starts = |event: &Event| event.what == What::StartServer;
        self.events.iter().any(starts)
    }

    /// Seconds that the match may take, from its first frame on.
    pub(super) fn limit(&self) -> u64 {
        let last = self.events.last().map_or(0, |event| event.at_ms / 1000);
        self.episodes * self.seconds * SLOWEST + last + SLACK_S
    }

    /// The options of a player.
    pub(super) fn options(&self) -> Vec<String> {
        let cut = self.cut_direct_at;
        let pairs = [
            ("--seed", self.seed.to_string()),
            ("--players", self.players.to_string()),
            ("--fps", self.fps.to_string()),
            ("--frames", (self.fps * self.seconds).to_string()),
            ("--episodes", self.episodes.to_string()),
            ("--input-delay", self.input_delay.to_string()),
            ("--max-prediction", self.max_prediction.to_string()),
            ("--route-policy", self.policy.to_owned()),
            ("--conditions", self.conditions.clone()),
            (
                "--cut-direct-at",
                cut.map_or_else(|| "never".into(), |frame| frame.to_string()),
            ),
        ];
        let pairs = pairs.into_iter();
        pairs
            .flat_map(|(name, value)| [name.to_owned(), value])
            .collect()
    }
}

/// A specification of network conditions: what holds for all, and up to two outages.
fn conditions(random: &mut Random, players: usize, seconds: u64) -> String {
    let mut keys = vec![
        format!("latency={}ms", random.between(0, 60)),
        format!("jitter={}ms", random.between(0, 20)),
    ];
    if random.one_in(2) {
        keys.push(format!("loss={}%", random.between(1, 15)));
    } else if random.one_in(2) {
        let (share, length) = (random.between(1, 6), random.between(2, 8));
        keys.push(format!("burst={share}%/{length}"));
    }
    if random.one_in(4) {
        keys.push(format!("duplicate={}%", random.between(1, 5)));
    }
    if random.one_in(4) {
        let (share, hold) = (random.between(1, 5), random.between(10, 60));
        keys.push(format!("reorder={share}%/{hold}ms"));
    }
    if random.one_in(8) {
        keys.push(String::from("rate=512kbit"));
    }
    let mut segments = vec![keys.join(",")];
    for _ in 0..random.between(0, 2) {
        let mut scope = String::new();
        if random.one_in(2) {
            let player = random.between(0, players as u64 - 1);
            scope.push_str(&format!("p{player}:"));
        }
        scope.push_str(random.pick(&["", "direct:", "relay:"]));
        let from = random.between(500, seconds * 1000 - 1500);
        let to = from + random.between(100, OUTAGE_MS);
        segments.push(format!("{scope}cut={from}ms..{to}ms"));
    }
    segments.join(";")
}

/// Each player may stand still once, and the server may be away once.
fn events(random: &mut Random, players: usize, seconds: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let mut add = |at_ms, what| events.push(Event { at_ms, what });
    let latest = seconds * 1000 - 1500;
    for player in 0..players {
        if random.one_in(3) {
            let from = random.between(200, latest);
            let lasts = random.between(PAUSE_MS.0, PAUSE_MS.1);
            add(from, What::Stop(player));
            add(from + lasts, What::Continue(player));
        }
    }
    if random.one_in(5) {
        let from = random.between(200, latest);
        let away = random.between(0, 3000);
        let how = random.pick(&[What::KillServer, What::TerminateServer]);
        add(from, how);
        add(from + away, What::StartServer);
    }
    events.sort_by_key(|event| event.at_ms);
    events
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} players, {} fps, {} x {} s, delay {}, window {}, {}, {}",
            self.players,
            self.fps,
            self.episodes,
            self.seconds,
            self.input_delay,
            self.max_prediction,
            self.policy,
            self.conditions
        )?;
        if let Some(frame) = self.cut_direct_at {
            write!(f, ", direct paths blackholed at frame {frame}")?;
        }
        for event in &self.events {
            write!(f, ", {:?} at {} ms", event.what, event.at_ms)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_match_and_another_seed_another_one() {
        assert_eq!(Draw::new(7), Draw::new(7));
        assert_ne!(
            Draw::new(7),
            Draw {
                seed: 7,
                ..Draw::new(8)
            }
        );
    }

    #[test]
    fn a_draw_is_known_to_the_letter() {
        // A change of the draw makes the seeds of old reports worthless: change it knowingly.
        let draw = Draw::new(1);
        assert_eq!(
            draw.to_string(),
            "2 players, 120 fps, 1 x 5 s, delay 1, window 5, p2p-only, \
             latency=15ms,jitter=15ms,loss=13%,reorder=3%/32ms, Stop(0) at 1065 ms, \
             Stop(1) at 2173 ms, Continue(0) at 2982 ms, Continue(1) at 3218 ms"
        );
    }

    #[test]
    fn every_kind_is_drawn_and_every_draw_can_be_played() {
        let draws: Vec<Draw> = (0..500).map(Draw::new).collect();
        let some = |of: &dyn Fn(&Draw) -> bool| draws.iter().any(of);
        assert!((2..=4).all(|players| some(&|draw| draw.players == players)));
        assert!(
            POLICIES
                .iter()
                .all(|policy| some(&|draw| draw.policy == *policy))
        );
        assert!(some(&|draw| draw.conditions.contains("cut=")));
        assert!(some(&|draw| draw.restarts_server()));
        assert!(some(
            &|draw| draw.events.len() > 2 && draw.cut_direct_at.is_some()
        ));
        for draw in &draws {
            let last = draw.fps * draw.seconds;
            assert!(draw.cut_direct_at.is_none_or(|at| at > 0 && at < last));
            assert!(draw.policy != "p2p-only" || draw.cut_direct_at.is_none());
            assert!(draw.events.is_sorted_by_key(|event| event.at_ms));
        }
    }

    #[test]
    fn what_stops_goes_on_again() {
        for draw in (0..500).map(Draw::new) {
            let count = |of: fn(&What) -> bool| {
                let what = draw.events.iter().map(|event| event.what);
                what.filter(of).count()
            };
            let stopped = count(|what| matches!(what, What::Stop(_)));
            assert_eq!(stopped, count(|what| matches!(what, What::Continue(_))));
            let away = count(|what| matches!(what, What::KillServer | What::TerminateServer));
            assert_eq!(away, count(|what| *what == What::StartServer));
        }
    }
}
