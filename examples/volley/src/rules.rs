//! One frame of the game: [`step`] turns state f and the inputs of frame f into state f + 1, with
//! gravity, contacts, the net and points. It reads nothing but its arguments.

use super::court::{
    BALL_RADIUS, Body, Court, HALF_WIDTH, HEIGHT, MAX_TOUCHES, NET_HALF, NET_HEIGHT, PLAYER_RADIUS,
    POINT_FRAMES, PX, Phase, Side,
};
use super::input::VolleyInput;

/// Speed of a running player: 300 pixels a second at 60 Hz, half the court in 1.3 s.
pub const RUN_SPEED: i32 = 5 * PX;
/// Speed at which a player leaves the ground.
pub const JUMP_SPEED: i32 = 9 * PX;
/// Half a pixel per frame and frame: a jump lasts 36 frames and rises 81 pixels.
pub const PLAYER_GRAVITY: i32 = PX / 2;
/// A quarter of a pixel per frame and frame: a struck ball is in the air for about a second.
pub const BALL_GRAVITY: i32 = PX / 4;

/// The least speed at which the ball leaves a player along the line of contact: a ball does not come
/// to rest on a player.
const MIN_BOUNCE: i32 = 17 * PX / 2;
/// Bounds of the ball's velocity; with them nothing passes through anything within one frame.
const MAX_BALL_VX: i32 = 8 * PX;
const MAX_BALL_VY: i32 = 12 * PX;
/// Contacts of one side closer together than this are one touch.
const TOUCH_GAP: u8 = 10;

/// Where the ball is after one frame of flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flight {
    /// Still in the air.
    Air,
    /// On the floor.
    Floor,
}

/// Simulates one frame. Inputs are by handle; missing ones hold nothing, surplus ones are ignored.
pub fn step(court: &mut Court, inputs: &[VolleyInput]) {
    court.score.tick = court.score.tick.wrapping_add(1);
    for handle in 0..court.count {
        let input = inputs.get(handle).copied().unwrap_or_default();
        move_player(&mut court.players[handle], Side::of(handle), input);
    }
    match court.score.phase {
        Phase::Serve => {
            count_down(court, |court| court.score.phase = Phase::Rally);
        }
        Phase::Rally => rally(court),
        Phase::Point => count_down(court, Court::serve),
    }
}

/// One frame of flight without players: gravity, walls, ceiling, net, floor.
///
/// `last_side` is the side to which a ball falls that lands exactly on the middle of the net.
pub fn fly(ball: &mut Body, last_side: Side) -> Flight {
    let came_from = ball.x;
    ball.vy -= BALL_GRAVITY;
    ball.x += ball.vx;
    ball.y += ball.vy;

    let wall = HALF_WIDTH - BALL_RADIUS;
    if ball.x.abs() > wall {
        ball.x = ball.x.signum() * wall;
        ball.vx = -ball.vx;
    }
    let ceiling = HEIGHT - BALL_RADIUS;
    if ball.y > ceiling {
        ball.y = ceiling;
        ball.vy = -ball.vy.abs();
    }
    meet_net(ball, came_from, last_side);
    if ball.y > BALL_RADIUS {
        return Flight::Air;
    }
    ball.y = BALL_RADIUS;
    Flight::Floor
}

fn count_down(court: &mut Court, at_zero: impl FnOnce(&mut Court)) {
    court.score.timer = court.score.timer.saturating_sub(1);
    if court.score.timer == 0 {
        at_zero(court);
    }
}

fn move_player(player: &mut Body, side: Side, input: VolleyInput) {
    player.vx = input.direction() * RUN_SPEED;
    if player.y == 0 && input.holds(VolleyInput::JUMP) {
        player.vy = JUMP_SPEED;
    } else if player.y > 0 {
        player.vy -= PLAYER_GRAVITY;
    }
    player.y += player.vy;
    if player.y <= 0 {
        player.y = 0;
        player.vy = 0;
    }
    let from_net = (player.x + player.vx) * side.sign();
    player.x = side.sign() * from_net.clamp(NET_HALF + PLAYER_RADIUS, HALF_WIDTH - PLAYER_RADIUS);
}

fn rally(court: &mut Court) {
    court.score.since_touch = court.score.since_touch.saturating_add(1);
    let flight = fly(&mut court.ball, court.score.last_side);
    let touched = meet_players(court);
    if touched != [false; 2] {
        count_touch(court, touched);
    }
    if court.score.touches > MAX_TOUCHES {
        score_point(court, court.score.last_side.other());
    } else if flight == Flight::Floor {
        let fell_on = match court.ball.x.signum() {
            -1 => Side::Left,
            1 => Side::Right,
            _ => court.score.last_side,
        };
        score_point(court, fell_on.other());
    }
}

/// Bounces the ball off every player it runs into and returns which sides touched it.
///
/// All contacts start from the same ball and are added up, so the order of players does not matter.
fn meet_players(court: &mut Court) -> [bool; 2] {
    let ball = court.ball;
    let mut touched = [false; 2];
    for handle in 0..court.count {
        let Some(change) = contact(ball, court.players[handle]) else {
            continue;
        };
        touched[Side::of(handle).index()] = true;
        court.ball.x += change.x;
        court.ball.y += change.y;
        court.ball.vx += change.vx;
        court.ball.vy += change.vy;
    }
    let ball = &mut court.ball;
    ball.vx = ball.vx.clamp(-MAX_BALL_VX, MAX_BALL_VX);
    ball.vy = ball.vy.clamp(-MAX_BALL_VY, MAX_BALL_VY);
    let wall = HALF_WIDTH - BALL_RADIUS;
    ball.x = ball.x.clamp(-wall, wall);
    ball.y = ball.y.clamp(BALL_RADIUS, HEIGHT - BALL_RADIUS);
    touched
}

/// The change of the ball's position and velocity by one player, if it runs into that player.
fn contact(ball: Body, player: Body) -> Option<Body> {
    let dx = i64::from(ball.x - player.x);
    let dy = i64::from(ball.y - player.y);
    let reach = i64::from(BALL_RADIUS + PLAYER_RADIUS);
    let square = dx * dx + dy * dy;
    // The upper half of the disc only: a player has no underside.
    if dy < 0 || square >= reach * reach {
        return None;
    }
    let distance = square.isqrt().max(1);
    let approach =
        (dx * i64::from(ball.vx - player.vx) + dy * i64::from(ball.vy - player.vy)) / distance;
    if approach > 0 {
        return None;
    }
    // It leaves at its own speed or at the least bounce, whichever is more.
    let impulse = (-approach).max(i64::from(MIN_BOUNCE)) - approach;
    let along = |component: i64, amount: i64| narrow(component * amount / distance);
    Some(Body {
        x: along(dx, reach - distance),
        y: along(dy, reach - distance),
        vx: along(dx, impulse),
        vy: along(dy, impulse),
    })
}

fn count_touch(court: &mut Court, touched: [bool; 2]) {
    let score = &mut court.score;
    let [left, right] = touched;
    if left && right {
        // Both at once over the net: a touch of neither side.
        score.touches = 0;
        score.since_touch = 0;
        return;
    }
    let side = if left { Side::Left } else { Side::Right };
    if side != score.last_side {
        score.exchanges = score.exchanges.saturating_add(1);
        score.longest = score.longest.max(score.exchanges);
        score.last_side = side;
        score.touches = 1;
    } else if score.since_touch >= TOUCH_GAP {
        score.touches += 1;
    }
    score.since_touch = 0;
}

fn score_point(court: &mut Court, winner: Side) {
    let score = &mut court.score;
    let points = &mut score.points[winner.index()];
    *points = points.saturating_add(1);
    score.server = winner;
    score.phase = Phase::Point;
    score.timer = POINT_FRAMES;
}

/// The net is a thin wall with a rounded top; the ball keeps most of its speed.
fn meet_net(ball: &mut Body, came_from: i32, last_side: Side) {
    let reach = NET_HALF + BALL_RADIUS;
    if ball.y >= NET_HEIGHT + reach || ball.x.abs() >= reach {
        return;
    }
    if ball.y < NET_HEIGHT {
        let side = match came_from.signum() {
            0 => last_side.sign(),
            sign => sign,
        };
        ball.x = side * reach;
        ball.vx = side * (ball.vx.abs() * 3 / 4);
        return;
    }
    let dx = i64::from(ball.x);
    let dy = i64::from(ball.y - NET_HEIGHT);
    let reach = i64::from(reach);
    let square = dx * dx + dy * dy;
    if square >= reach * reach {
        return;
    }
    let distance = square.isqrt().max(1);
    let approach = (dx * i64::from(ball.vx) + dy * i64::from(ball.vy)) / distance;
    ball.x += narrow(dx * (reach - distance) / distance);
    ball.y += narrow(dy * (reach - distance) / distance);
    if approach < 0 {
        let impulse = -approach * 7 / 4;
        ball.vx += narrow(dx * impulse / distance);
        ball.vy += narrow(dy * impulse / distance);
    }
    if ball.vx == 0 && dx == 0 {
        ball.vx = last_side.sign() * PX;
    }
}

fn narrow(value: i64) -> i32 {
    i32::try_from(value).expect("products of court lengths over a length stay court lengths")
}
