//! The policy of a bot: it acts on what it saw a fifth of a second ago and holds each combination of
//! buttons for a while, as a person does. Seeded; no Bevy, no clock.
//!
//! It reads the newest state of its own peer, predictions included.

use std::collections::VecDeque;

use crate::court::{
    BALL_RADIUS, Court, HALF_WIDTH, NET_HALF, PLAYER_RADIUS, PX, Phase, Side, home, split_mix,
};
use crate::input::VolleyInput;
use crate::rules::{Flight, RUN_SPEED, fly};

/// Name of the policy in exported files.
pub const POLICY_NAME: &str = "volley-rally";
/// Version of the policy; a change of any constant or decision below raises it.
pub const POLICY_VERSION: &str = "1.0.0";

/// Simple visual reaction time of adults, 180 to 250 ms in the literature.
const REACTION_MS: u32 = 200;
/// Shortest and longest time that it holds a combination of buttons.
const HOLD_MS: (u32, u32) = (100, 600);
/// Shortest and longest time that it waits before it decides again.
const WATCH_MS: (u32, u32) = (100, 260);
/// Within this distance of its target it stands still.
const CLOSE_ENOUGH: i32 = 16 * PX;
/// How far behind the ball it positions itself, so that the ball flies towards the net.
const BEHIND: i32 = 15 * PX;
/// Largest error of its aim; the distribution is triangular around 0.
const AIM_ERROR: i32 = 42 * PX;
/// Share of the balls at which it jumps, in percent.
const JUMP_PERCENT: u64 = 35;
/// It takes off when the ball is this many frames away.
const TAKE_OFF_FRAMES: i32 = 14;
/// Longest flight that it predicts, in frames.
const LONGEST_FLIGHT: i32 = 240;

/// One bot at one player handle.
#[derive(Clone, Debug)]
pub struct Bot {
    handle: usize,
    fps: u32,
    rng: u64,
    seen: VecDeque<Court>,
    news: Option<News>,
    aim_error: i32,
    will_jump: bool,
    held: VolleyInput,
    frames_left: u32,
    samples: u64,
    changes: u64,
}

/// Events that make it decide again.
type News = (Phase, Side, u16, u8);

/// Where and when the ball comes down to a player's height.
#[derive(Clone, Copy, Debug)]
struct Landing {
    x: i32,
    in_frames: i32,
}

impl Bot {
    /// A bot for `handle` in a game of `fps` frames a second. Equal seeds play equal games.
    pub fn new(handle: usize, fps: u32, seed: u64) -> Self {
        let mut rng = seed ^ (handle as u64 + 1).wrapping_mul(0xa076_1d64_78bd_642f);
        split_mix(&mut rng);
        Self {
            handle,
            fps,
            rng,
            seen: VecDeque::new(),
            news: None,
            aim_error: 0,
            will_jump: false,
            held: VolleyInput::NONE,
            frames_left: 0,
            samples: 0,
            changes: 0,
        }
    }

    /// The player handle it plays.
    pub fn handle(&self) -> usize {
        self.handle
    }

    /// How often the held buttons changed per second of play.
    pub fn changes_per_second(&self) -> f64 {
        self.changes as f64 * f64::from(self.fps) / self.samples.max(1) as f64
    }

    /// The buttons held in this frame, given what its peer shows.
    pub fn sample(&mut self, shown: &Court) -> VolleyInput {
        let before = self.held;
        self.look(shown);
        if self.frames_left == 0 {
            self.decide(shown);
        }
        self.frames_left = self.frames_left.saturating_sub(1);
        self.samples += 1;
        self.changes += u64::from(self.held != before);
        self.held
    }

    /// Records the state, and reacts to events after the reaction time.
    fn look(&mut self, shown: &Court) {
        let reaction = self.frames(REACTION_MS) as usize;
        self.seen.push_back(*shown);
        while self.seen.len() > reaction + 1 {
            self.seen.pop_front();
        }
        let score = self.seen[0].score;
        let news = (score.phase, score.last_side, score.exchanges, score.touches);
        if self.news != Some(news) {
            self.news = Some(news);
            self.aim_error = self.between(0, AIM_ERROR) - self.between(0, AIM_ERROR);
            self.will_jump = self.draw() % 100 < JUMP_PERCENT;
            // Reaction times vary by a few frames.
            let soon = self.between(0, 4).unsigned_abs();
            self.frames_left = self.frames_left.min(soon);
        }
    }

    fn decide(&mut self, shown: &Court) {
        let me = shown.players[self.handle];
        let sign = Side::of(self.handle).sign();
        let landing = self.landing();
        let (target, arrives_in) = match landing {
            Some(landing) if self.is_mine(landing, shown) => {
                let behind = landing.x + sign * BEHIND + self.aim_error;
                (behind, Some(landing.in_frames))
            }
            _ => (self.station(shown.count), None),
        };
        let reachable = NET_HALF + PLAYER_RADIUS..=HALF_WIDTH - PLAYER_RADIUS;
        let target = sign * (target * sign).clamp(*reachable.start(), *reachable.end());
        let gap = target - me.x;

        if gap.abs() > CLOSE_ENOUGH {
            let frames = (gap.abs() / RUN_SPEED) as u32;
            let sloppy = frames * (90 + self.between(0, 20).unsigned_abs()) / 100;
            let direction = if gap < 0 {
                VolleyInput::LEFT
            } else {
                VolleyInput::RIGHT
            };
            self.hold(direction, sloppy);
            return;
        }
        match arrives_in {
            Some(frames) if self.will_jump && (0..=TAKE_OFF_FRAMES).contains(&frames) => {
                self.will_jump = false;
                let forward = if sign < 0 {
                    VolleyInput::RIGHT
                } else {
                    VolleyInput::LEFT
                };
                let buttons = if self.draw() & 1 == 0 {
                    VolleyInput::JUMP.with(forward)
                } else {
                    VolleyInput::JUMP
                };
                let frames = self.between_ms((100, 220));
                self.hold(buttons, frames);
            }
            Some(frames) if self.will_jump && frames > TAKE_OFF_FRAMES => {
                let watch = self.between_ms(WATCH_MS);
                self.held = VolleyInput::NONE;
                self.frames_left = watch.min(frames.abs_diff(TAKE_OFF_FRAMES)).max(1);
            }
            _ => {
                let frames = self.between_ms(WATCH_MS);
                self.hold(VolleyInput::NONE, frames);
            }
        }
    }

    fn hold(&mut self, buttons: VolleyInput, frames: u32) {
        let (shortest, longest) = HOLD_MS;
        self.held = buttons;
        self.frames_left = frames.clamp(self.frames(shortest), self.frames(longest));
    }

    /// Predicts the flight of the ball, as seen a reaction time ago, down to a player's height.
    fn landing(&self) -> Option<Landing> {
        let seen = self.seen[0];
        let hanging = match seen.score.phase {
            Phase::Serve => i32::from(seen.score.timer),
            Phase::Rally => 0,
            Phase::Point => return None,
        };
        let mut ball = seen.ball;
        for frame in 0..LONGEST_FLIGHT {
            let flight = fly(&mut ball, seen.score.last_side);
            let low = ball.vy < 0 && ball.y < PLAYER_RADIUS + BALL_RADIUS;
            if low || flight == Flight::Floor {
                return Some(Landing {
                    x: ball.x,
                    in_frames: hanging + frame - self.seen.len() as i32 + 1,
                });
            }
        }
        None
    }

    /// Whether the ball comes down on its side and no partner is nearer.
    fn is_mine(&self, landing: Landing, shown: &Court) -> bool {
        let side = Side::of(self.handle);
        if landing.x.signum() != side.sign() {
            return false;
        }
        let distance = |handle: usize| (shown.players[handle].x - landing.x).abs();
        (0..shown.count)
            .filter(|other| Side::of(*other) == side)
            .all(|other| (distance(self.handle), self.handle) <= (distance(other), other))
    }

    /// Where it waits while the other side plays: near its place, with a random deviation.
    fn station(&mut self, count: usize) -> i32 {
        let wander = self.between(-60, 60) * PX;
        home(self.handle, count) + wander
    }

    fn frames(&self, ms: u32) -> u32 {
        (ms * self.fps / 1000).max(1)
    }

    fn between_ms(&mut self, (low, high): (u32, u32)) -> u32 {
        let (low, high) = (self.frames(low) as i32, self.frames(high) as i32);
        self.between(low, high).unsigned_abs()
    }

    fn between(&mut self, low: i32, high: i32) -> i32 {
        let span = u64::from(low.abs_diff(high)) + 1;
        low + (self.draw() % span) as i32
    }

    fn draw(&mut self) -> u64 {
        split_mix(&mut self.rng)
    }
}
