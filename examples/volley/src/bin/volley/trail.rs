//! The trail of the ball, and the ghosts of corrections: where a rollback moves a figure, its predicted
//! figure stays for a moment, so that the correction can be seen.

use std::collections::VecDeque;
use std::f32::consts::FRAC_PI_2;

use bevy::prelude::*;
use bevy_rollback_lab::prelude::*;

use crate::figures::{Shown, place};
use crate::scene::{CORRECTION, LIGHT, px};
use volley::court::{BALL_RADIUS, Court, PLAYER_RADIUS, PX};
use volley::input::VolleyInput;
use volley::rules;

/// Points of the trail: a third of a second at 60 Hz.
const POINTS: usize = 20;
/// A body further than this from its extrapolation was moved by a correction.
const JUMP: i32 = 6 * PX;
/// Time in which a ghost fades out.
const FADE_SECONDS: f32 = 0.6;
/// Most frames to extrapolate; after a longer gap no ghosts are drawn.
const EXTRAPOLATED: i32 = 12;

/// Adds trail and ghosts.
pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Trail>()
        .init_resource::<Before>()
        .add_systems(Startup, make_points)
        .add_systems(
            // After the court of this update is known.
            PostUpdate,
            (leave_ghosts, follow_ball, fade)
                .chain()
                .before(TransformSystems::Propagate),
        );
}

/// Positions of the ball as rendered, newest first, and whether a correction moved it there.
#[derive(Resource, Default)]
struct Trail {
    points: VecDeque<(Vec2, bool)>,
    frame: i32,
    /// The newest rendered frame was corrected.
    corrected: bool,
}

/// The court of the last rendered frame.
#[derive(Resource, Default)]
struct Before(Option<(i32, Court)>);

/// A point of the trail, by its age.
#[derive(Component)]
struct Point(usize);

/// A predicted figure that fades out after its correction.
#[derive(Component)]
struct Ghost {
    left: f32,
    strength: f32,
    material: Handle<ColorMaterial>,
}

#[derive(Resource)]
struct Looks {
    ball: Handle<Mesh>,
    player: Handle<Mesh>,
    /// By age, plain and corrected.
    points: Vec<[Handle<ColorMaterial>; 2]>,
}

fn make_points(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    let (ball, player) = (px(BALL_RADIUS), px(PLAYER_RADIUS));
    let dot = meshes.add(Circle::new(ball));
    let mut points = Vec::new();
    for age in 0..POINTS {
        let young = 1.0 - age as f32 / POINTS as f32;
        let looks = [
            LIGHT.with_alpha(0.22 * young),
            CORRECTION.with_alpha(0.75 * young),
        ]
        .map(|color| materials.add(color));
        commands.spawn((
            Point(age),
            Mesh2d(dot.clone()),
            MeshMaterial2d(looks[0].clone()),
            // Older points are smaller and lie below.
            Transform::from_xyz(0.0, 0.0, 1.0 - age as f32 * 0.01)
                .with_scale(Vec3::splat(0.25 + 0.7 * young)),
            Visibility::Hidden,
        ));
        points.push(looks);
    }
    commands.insert_resource(Looks {
        ball: meshes.add(Annulus::new(ball - 3.0, ball + 1.0)),
        player: meshes.add(CircularSector::new(player, FRAC_PI_2)),
        points,
    });
}

/// Leaves a ghost of every body that a correction in this update moved.
fn leave_ghosts(
    shown: Res<Shown>,
    looks: Res<Looks>,
    mut before: ResMut<Before>,
    mut trail: ResMut<Trail>,
    mut rollbacks: MessageReader<RollbackCompleted<VolleyInput>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    let rolled_back = rollbacks.read().count() > 0;
    trail.corrected = false;
    let Some(court) = shown.court else {
        return;
    };
    let now = (shown.frame, court);
    let Some((then, old)) = before.0.replace(now) else {
        return;
    };
    let frames = shown.frame - then;
    if !rolled_back || !(0..=EXTRAPOLATED).contains(&frames) || old.count != court.count {
        return;
    }
    let expected = extrapolate(old, frames);
    let moved = |a: i32, b: i32| a.abs_diff(b) > JUMP.unsigned_abs();
    let mut ghost = |mesh: &Handle<Mesh>, strength: f32, at: Vec2| {
        let material = materials.add(CORRECTION.with_alpha(strength));
        commands.spawn((
            Ghost {
                left: FADE_SECONDS,
                strength,
                material: material.clone(),
            },
            Mesh2d(mesh.clone()),
            MeshMaterial2d(material),
            Transform::from_translation(at.extend(5.5)),
        ));
    };
    if moved(expected.ball.x, court.ball.x) || moved(expected.ball.y, court.ball.y) {
        trail.corrected = true;
        ghost(&looks.ball, 0.95, place(expected.ball));
    }
    for (expected, body) in expected.playing().iter().zip(court.playing()) {
        if moved(expected.x, body.x) || moved(expected.y, body.y) {
            ghost(&looks.player, 0.45, place(*expected));
        }
    }
}

/// Advances the last court as if all players went on running as shown.
fn extrapolate(mut court: Court, frames: i32) -> Court {
    let inputs = court.players.map(|player| match player.vx.signum() {
        -1 => VolleyInput::LEFT,
        1 => VolleyInput::RIGHT,
        _ => VolleyInput::NONE,
    });
    for _ in 0..frames {
        rules::step(&mut court, &inputs);
    }
    court
}

fn follow_ball(
    shown: Res<Shown>,
    looks: Res<Looks>,
    mut trail: ResMut<Trail>,
    mut points: Query<(
        &Point,
        &mut Transform,
        &mut MeshMaterial2d<ColorMaterial>,
        &mut Visibility,
    )>,
) {
    let Some(court) = &shown.court else {
        return;
    };
    if shown.frame < trail.frame {
        trail.points.clear();
    }
    if shown.frame != trail.frame {
        trail.frame = shown.frame;
        let point = (place(court.ball), trail.corrected);
        trail.points.push_front(point);
        trail.points.truncate(POINTS);
    }
    for (point, mut at, mut material, mut visible) in &mut points {
        let Some((place, corrected)) = trail.points.get(point.0) else {
            *visible = Visibility::Hidden;
            continue;
        };
        *visible = Visibility::Inherited;
        at.translation = place.extend(at.translation.z);
        let look = &looks.points[point.0][usize::from(*corrected)];
        if material.0 != *look {
            material.0 = look.clone();
        }
    }
}

fn fade(
    time: Res<Time>,
    mut ghosts: Query<(Entity, &mut Ghost)>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    for (entity, mut ghost) in &mut ghosts {
        ghost.left -= time.delta_secs();
        if ghost.left <= 0.0 {
            commands.entity(entity).despawn();
        } else if let Some(mut material) = materials.get_mut(&ghost.material) {
            material
                .color
                .set_alpha(ghost.strength * ghost.left / FADE_SECONDS);
        }
    }
}
