//! The whole state of a volley game as plain integers: the measures of the court, the state, its
//! mirror image and its digest. [`rules`](super::rules) advances it. No Bevy, no clock, no floats, no
//! unseeded randomness: every machine computes the same.
//!
//! Lengths are in units of [`PX`] parts of a pixel, x to the right with the net at 0, y upwards
//! with the floor at 0. Divisions truncate towards zero, so that a mirrored state moves as the
//! mirror image of the original.

/// One pixel in the court's units.
pub const PX: i32 = 256;
/// From the net to a wall.
pub const HALF_WIDTH: i32 = 400 * PX;
/// From the floor to the ceiling.
pub const HEIGHT: i32 = 600 * PX;
/// Top of the net.
pub const NET_HEIGHT: i32 = 110 * PX;
/// Half of the net's thickness, and the radius of its rounded top.
pub const NET_HALF: i32 = 4 * PX;
/// Radius of a player, whose centre is at its feet: a half disc on the floor.
pub const PLAYER_RADIUS: i32 = 44 * PX;
/// Radius of the ball.
pub const BALL_RADIUS: i32 = 20 * PX;
/// Most players: two teams of two.
pub const MAX_PLAYERS: usize = 4;
/// How long the ball hangs in the air before a serve falls, in frames.
pub const SERVE_FRAMES: u16 = 45;
/// How long the ball lies on the floor after a point, in frames.
pub const POINT_FRAMES: u16 = 30;
/// A side that touches the ball once more than this loses the point.
pub const MAX_TOUCHES: u8 = 3;

/// One half of the court. Handles 0 and 2 play left, 1 and 3 right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// Negative x.
    #[default]
    Left,
    /// Positive x.
    Right,
}

impl Side {
    /// The side a player handle plays on.
    pub const fn of(handle: usize) -> Self {
        if handle.is_multiple_of(2) {
            Self::Left
        } else {
            Self::Right
        }
    }

    /// The other side.
    pub const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// The sign of x on this side.
    pub const fn sign(self) -> i32 {
        match self {
            Self::Left => -1,
            Self::Right => 1,
        }
    }

    /// Index into arrays of one entry per side.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Position and velocity per frame of a player or the ball.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Body {
    /// Horizontal position.
    pub x: i32,
    /// Height above the floor.
    pub y: i32,
    /// Horizontal velocity.
    pub vx: i32,
    /// Vertical velocity.
    pub vy: i32,
}

impl Body {
    /// The body mirrored at the net.
    pub const fn mirrored(self) -> Self {
        Self {
            x: -self.x,
            vx: -self.vx,
            ..self
        }
    }
}

/// The phase of play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The ball hangs in the air over the serving side.
    #[default]
    Serve,
    /// The ball is in play.
    Rally,
    /// A point was scored; the ball lies where it fell.
    Point,
}

/// Everything of the game that is neither a player nor the ball.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Score {
    /// Frames simulated since the start.
    pub tick: u32,
    /// The phase of play.
    pub phase: Phase,
    /// Frames left in [`Phase::Serve`] or [`Phase::Point`], 0 in a rally.
    pub timer: u16,
    /// The side that serves next, or served this rally.
    pub server: Side,
    /// Points by side.
    pub points: [u16; 2],
    /// The side that touched the ball last in this rally; the server before the first touch.
    pub last_side: Side,
    /// Touches of that side in a row, of both its players together.
    pub touches: u8,
    /// Frames since the last counted touch; stops at 255.
    pub since_touch: u8,
    /// How often the ball changed sides between two touches in this rally.
    pub exchanges: u16,
    /// The longest `exchanges` of any rally so far.
    pub longest: u16,
    /// State of the generator that varies the serves.
    pub rng: u64,
}

/// The whole game between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Court {
    /// Players by handle; entries from `count` on stay at their default.
    pub players: [Body; MAX_PLAYERS],
    /// How many of `players` play.
    pub count: usize,
    /// The ball.
    pub ball: Body,
    /// Phase, points and the serve.
    pub score: Score,
}

impl Court {
    /// A game about to serve. The seed decides which side serves first, and varies every serve.
    ///
    /// # Panics
    /// If `count` is not 1 to [`MAX_PLAYERS`].
    pub fn new(count: usize, seed: u64) -> Self {
        assert!(
            (1..=MAX_PLAYERS).contains(&count),
            "a court holds 1 to {MAX_PLAYERS} players, not {count}"
        );
        let mut players = [Body::default(); MAX_PLAYERS];
        for (handle, player) in players.iter_mut().enumerate().take(count) {
            player.x = home(handle, count);
        }
        let mut score = Score {
            rng: seed,
            ..Score::default()
        };
        score.server = Side::of((score.draw() & 1) as usize);
        let mut court = Self {
            players,
            count,
            ball: Body::default(),
            score,
        };
        court.serve();
        court
    }

    /// The players in play, by handle.
    pub fn playing(&self) -> &[Body] {
        &self.players[..self.count]
    }

    /// Hangs the ball over the serving side.
    pub fn serve(&mut self) {
        // A quarter of the half court around its middle, so that no two serves are the same.
        let spread = (self.score.draw() % 100) as i32 - 50;
        self.ball = Body {
            x: self.score.server.sign() * (HALF_WIDTH / 2 + spread * PX),
            y: 320 * PX,
            vx: 0,
            vy: 0,
        };
        self.score.phase = Phase::Serve;
        self.score.timer = SERVE_FRAMES;
        self.score.last_side = self.score.server;
        self.score.touches = 0;
        self.score.since_touch = u8::MAX;
        self.score.exchanges = 0;
    }

    /// The game mirrored at the net: handles 0 and 1, 2 and 3 change places.
    ///
    /// # Panics
    /// If a side has more players than the other.
    pub fn mirrored(&self) -> Self {
        assert!(
            self.count.is_multiple_of(2),
            "only equal teams have a mirror image"
        );
        let mut other = *self;
        for handle in 0..self.count {
            other.players[handle ^ 1] = self.players[handle].mirrored();
        }
        other.ball = self.ball.mirrored();
        other.score.server = self.score.server.other();
        other.score.last_side = self.score.last_side.other();
        other.score.points.swap(0, 1);
        other
    }

    /// A 64-bit digest of every field, the same on every machine (FNV-1a over little-endian bytes).
    pub fn digest(&self) -> u64 {
        let score = &self.score;
        let bodies = self.playing().iter().chain([&self.ball]);
        let words = bodies
            .flat_map(|body| [body.x, body.y, body.vx, body.vy])
            .map(i64::from)
            .chain([
                i64::from(score.tick),
                score.phase as i64,
                i64::from(score.timer),
                score.server as i64,
                i64::from(score.points[0]),
                i64::from(score.points[1]),
                score.last_side as i64,
                i64::from(score.touches),
                i64::from(score.since_touch),
                i64::from(score.exchanges),
                i64::from(score.longest),
                score.rng.cast_signed(),
            ]);
        words
            .flat_map(i64::to_le_bytes)
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            })
    }
}

impl Score {
    /// The next random number (`SplitMix64`), part of the rolled-back state.
    pub fn draw(&mut self) -> u64 {
        split_mix(&mut self.rng)
    }
}

/// `SplitMix64` (Steele, Lea and Flood 2014): one addition of state, equal on every machine.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// x of a player at the start: the middle of its half, or a third or three quarters of it with a
/// partner.
pub fn home(handle: usize, count: usize) -> i32 {
    let side = Side::of(handle);
    let team = (0..count).filter(|other| Side::of(*other) == side).count();
    let place = match (team, handle / 2) {
        (1, _) => HALF_WIDTH / 2,
        (_, 0) => HALF_WIDTH / 3,
        _ => HALF_WIDTH * 3 / 4,
    };
    side.sign() * place
}
