//! The volley game's rules without Bevy: deterministic, symmetric, in bounds, and worth a rally.

use serde_json::json;

use volley::bot::policy::Bot;
use volley::court::{
    BALL_RADIUS, Body, Court, HALF_WIDTH, HEIGHT, MAX_TOUCHES, NET_HALF, NET_HEIGHT, PLAYER_RADIUS,
    PX, Phase, Side, split_mix,
};
use volley::input::VolleyInput;
use volley::rules::step;

/// Half a minute at 60 Hz, the default episode.
const EPISODE: usize = 1800;

/// A game of seeded random buttons, each held for a while, with every state visited.
fn random_game(players: usize, seed: u64, frames: usize, mut visit: impl FnMut(&Court)) -> Court {
    let mut court = Court::new(players, seed);
    let mut rng = seed ^ 0xdead_beef;
    let mut inputs = vec![VolleyInput::NONE; players];
    for _ in 0..frames {
        let draw = split_mix(&mut rng);
        inputs[(draw >> 8) as usize % players] = VolleyInput::from_bits(draw as u8);
        step(&mut court, &inputs);
        visit(&court);
    }
    court
}

fn bot_game(players: usize, seed: u64, frames: usize, mut visit: impl FnMut(&Court)) -> Vec<Bot> {
    let mut court = Court::new(players, seed);
    let mut bots: Vec<_> = (0..players).map(|h| Bot::new(h, 60, seed)).collect();
    for _ in 0..frames {
        let inputs: Vec<_> = bots.iter_mut().map(|bot| bot.sample(&court)).collect();
        step(&mut court, &inputs);
        visit(&court);
    }
    bots
}

#[test]
fn equal_seeds_and_inputs_give_the_pinned_digest() {
    let digest = |seed| random_game(2, seed, EPISODE, |_| {}).digest();
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8), "the digest must tell two games apart");
    assert_eq!(
        format!("{:016x}", digest(7)),
        "a5738ded066d8bac",
        "the rules changed: every recorded game now replays differently"
    );
}

#[test]
fn equal_bots_play_the_pinned_game() {
    let last = |seed| {
        let mut digest = 0;
        bot_game(2, seed, EPISODE, |court| digest = court.digest());
        digest
    };
    assert_eq!(last(7), last(7));
    assert_eq!(
        format!("{:016x}", last(7)),
        "77dbc404b758ae6a",
        "the policy or the rules changed: raise POLICY_VERSION"
    );
}

#[test]
fn the_digest_sees_every_field() {
    let court = Court::new(2, 7);
    let changes: [fn(&mut Court); 17] = [
        |c| c.players[0].x += 1,
        |c| c.players[1].y += 1,
        |c| c.players[0].vx += 1,
        |c| c.players[1].vy += 1,
        |c| c.ball.x += 1,
        |c| c.ball.vy += 1,
        |c| c.score.tick += 1,
        |c| c.score.phase = Phase::Point,
        |c| c.score.timer += 1,
        |c| c.score.server = c.score.server.other(),
        |c| c.score.points[0] += 1,
        |c| c.score.points[1] += 1,
        |c| c.score.last_side = c.score.last_side.other(),
        |c| c.score.touches += 1,
        |c| c.score.exchanges += 1,
        |c| c.score.longest += 1,
        |c| c.score.rng += 1,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut other = court;
        change(&mut other);
        assert_ne!(court.digest(), other.digest(), "change {index} is not seen");
    }
}

#[test]
fn a_mirrored_game_is_the_mirror_image_at_every_frame() {
    for players in [2, 4] {
        for seed in 0..20 {
            let mut court = Court::new(players, seed);
            let mut mirror = court.mirrored();
            let mut rng = seed;
            let mut inputs = vec![VolleyInput::NONE; players];
            for frame in 0..EPISODE {
                let draw = split_mix(&mut rng);
                inputs[(draw >> 8) as usize % players] = VolleyInput::from_bits(draw as u8);
                let swapped: Vec<_> = (0..players).map(|h| inputs[h ^ 1].mirrored()).collect();
                step(&mut court, &inputs);
                step(&mut mirror, &swapped);
                assert_eq!(
                    court.mirrored(),
                    mirror,
                    "neither side may have an advantage: {players} players, seed {seed}, frame {frame}"
                );
            }
        }
    }
}

#[test]
fn ball_and_players_stay_on_the_court() {
    for seed in 0..30 {
        let check = |court: &Court| {
            let ball = court.ball;
            let wall = HALF_WIDTH - BALL_RADIUS;
            assert!(ball.x.abs() <= wall, "ball left the court: {ball:?}");
            assert!((BALL_RADIUS..=HEIGHT).contains(&ball.y), "{ball:?}");
            for (handle, player) in court.playing().iter().enumerate() {
                let from_net = player.x * Side::of(handle).sign();
                let own_half = NET_HALF + PLAYER_RADIUS..=HALF_WIDTH - PLAYER_RADIUS;
                assert!(own_half.contains(&from_net), "{handle} crossed: {player:?}");
                assert!((0..HEIGHT / 2).contains(&player.y), "{handle}: {player:?}");
            }
        };
        random_game(2, seed, EPISODE, check);
        random_game(4, seed, EPISODE, check);
        bot_game(2, seed, EPISODE, check);
    }
}

#[test]
fn the_ball_never_crosses_the_net_below_its_top() {
    for seed in 0..30 {
        let mut before: Option<Body> = None;
        random_game(2, seed, EPISODE, |court| {
            let ball = court.ball;
            if let Some(before) = before.filter(|_| court.score.phase == Phase::Rally) {
                let crossed = before.x.signum() * ball.x.signum() < 0;
                let low = before.y < NET_HEIGHT && ball.y < NET_HEIGHT;
                assert!(!(crossed && low), "{before:?} -> {ball:?}");
            }
            before = (court.score.phase == Phase::Rally).then_some(ball);
        });
    }
}

#[test]
fn an_untouched_serve_is_a_point_for_the_other_side() {
    let mut court = Court::new(2, 7);
    let server = court.score.server;
    // The server leaves the ball alone in its corner.
    let away = [VolleyInput::LEFT, VolleyInput::RIGHT];
    for _ in 0..200 {
        step(&mut court, &away);
        if court.score.phase == Phase::Point {
            break;
        }
    }
    let mut expected = [0, 0];
    expected[server.other().index()] = 1;
    assert_eq!(court.score.points, expected);
    assert_eq!(court.score.server, server.other(), "the winner serves next");
}

#[test]
fn a_side_that_touches_too_often_loses_the_point() {
    let mut court = Court::new(2, 7);
    court.score.phase = Phase::Rally;
    court.score.timer = 0;
    court.score.last_side = Side::Left;
    court.score.server = Side::Left;
    // A ball straight above a player that stands still comes back down on it for ever.
    court.ball = Body {
        x: court.players[0].x,
        y: 200 * PX,
        ..Body::default()
    };
    let mut most = 0;
    while court.score.phase == Phase::Rally {
        most = most.max(court.score.touches);
        step(&mut court, &[]);
        assert!(court.score.tick < 2000, "the rally must end");
    }
    assert_eq!(most, MAX_TOUCHES, "allowed touches are played");
    assert_eq!(court.score.points, [0, 1]);
}

#[test]
fn a_ball_on_the_middle_of_the_net_falls_to_the_side_that_played_it() {
    for side in [Side::Left, Side::Right] {
        let mut court = Court::new(2, 7);
        court.score.phase = Phase::Rally;
        court.score.last_side = side;
        court.ball = Body {
            y: 300 * PX,
            ..Body::default()
        };
        while court.score.phase == Phase::Rally {
            let away = [VolleyInput::LEFT, VolleyInput::RIGHT];
            step(&mut court, &away);
            assert!(court.score.tick < 2000, "the ball must not rest on the net");
        }
        let mut expected = [0, 0];
        expected[side.other().index()] = 1;
        assert_eq!(court.score.points, expected);
    }
}

#[test]
fn a_full_bot_game_has_rallies_and_points() {
    for seed in 0..20 {
        let (mut exchanges, mut before) = (0, 0);
        let mut points = 0;
        // Two minutes, so that luck evens out.
        bot_game(2, seed, 4 * EPISODE, |court| {
            exchanges += u32::from(court.score.exchanges > before);
            before = court.score.exchanges;
            points = court.score.points[0] + court.score.points[1];
        });
        assert!(exchanges >= 15, "seed {seed}: {exchanges} exchanges");
        assert!(points >= 6, "seed {seed}: {points} points");
    }
}

#[test]
fn bots_change_buttons_as_often_as_people_do() {
    for seed in 0..20 {
        for bot in bot_game(2, seed, 4 * EPISODE, |_| {}) {
            let rate = bot.changes_per_second();
            assert!((2.0..6.0).contains(&rate), "seed {seed}: {rate} a second");
        }
    }
}

#[test]
fn an_input_is_one_byte_on_the_wire_and_words_in_a_file() {
    for bits in 0..8 {
        let input = VolleyInput::from_bits(bits);
        let wire = postcard::to_allocvec(&input).unwrap();
        assert_eq!(wire, [bits]);
        assert_eq!(postcard::from_bytes::<VolleyInput>(&wire).unwrap(), input);
        let text = serde_json::to_string(&input).unwrap();
        assert_eq!(serde_json::from_str::<VolleyInput>(&text).unwrap(), input);
    }
    let input = VolleyInput::JUMP.with(VolleyInput::LEFT);
    assert_eq!(serde_json::to_value(input).unwrap(), json!("left+jump"));
    assert_eq!(
        serde_json::to_value(VolleyInput::NONE).unwrap(),
        json!("none")
    );
    assert!(serde_json::from_value::<VolleyInput>(json!("left+fly")).is_err());
    assert_eq!(
        postcard::from_bytes::<VolleyInput>(&[0xff]).unwrap(),
        VolleyInput::from_bits(7),
        "a byte from outside is never an impossible input"
    );
}
