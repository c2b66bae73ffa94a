//! Players and ball with shadows and names, drawn at this peer's newest frame. The drawn figures are
//! entities of their own beside the rolled-back ones, and only read the court.

use std::f32::consts::FRAC_PI_2;

use bevy::prelude::*;
use bevy_ggrs::RollbackFrameCount;
use bevy_rollback_lab::prelude::*;

use crate::game::LocalPlayer;
use crate::scene::{INK, LIGHT, TEAM, px};
use volley::CourtReader;
use volley::court::{BALL_RADIUS, Body, Court, MAX_PLAYERS, PLAYER_RADIUS, Phase, Side};

/// Draws the newest court of every update.
pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Shown>()
        .add_systems(Startup, (make_players, make_ball))
        .add_systems(
            Update,
            (
                show_court,
                (place_players, place_ball, name_players, watch_ball),
            )
                .chain()
                .in_set(DrawSystems),
        );
}

/// Systems that draw the newest court. Runs in [`Update`].
#[derive(SystemSet, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DrawSystems;

/// The court on screen.
#[derive(Resource, Clone, Copy, Debug, Default)]
pub(crate) struct Shown {
    /// The court, once there is one.
    pub court: Option<Court>,
    /// The next frame to simulate.
    pub frame: i32,
}

/// The figure of a player handle.
#[derive(Component)]
struct Figure(usize);

/// A pupil of a player handle, and where its eye is.
#[derive(Component)]
struct Pupil(usize, Vec2);

/// The shadow of a player handle, or of the ball (`None`).
#[derive(Component)]
struct Shadow(Option<usize>);

/// The name under a player handle.
#[derive(Component)]
struct NameTag(usize);

/// The marker over the local player.
#[derive(Component)]
struct Mark(usize);

/// The drawn ball.
#[derive(Component)]
struct DrawnBall;

fn show_court(
    reader: CourtReader,
    frame: Option<Res<RollbackFrameCount>>,
    phase: Res<State<SessionPhase>>,
    mut shown: ResMut<Shown>,
) {
    // The last court stays in view until the next episode sets up its own.
    if let Some(court) = reader.court() {
        shown.court = Some(court);
    }
    if let (Some(frame), SessionPhase::Playing | SessionPhase::Ending) = (frame, phase.get()) {
        shown.frame = frame.0;
    }
}

fn make_players(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    let radius = px(PLAYER_RADIUS);
    let half_disc = |radius: f32| Mesh::from(CircularSector::new(radius, FRAC_PI_2));
    let body = meshes.add(half_disc(radius));
    let rim = meshes.add(half_disc(radius + 3.0));
    let eye = meshes.add(Circle::new(9.5));
    let pupil = meshes.add(Circle::new(4.2));
    let shine = meshes.add(Ellipse::new(13.0, 6.5));
    let mark = meshes.add(Triangle2d::new(
        Vec2::new(-8.0, 7.0),
        Vec2::new(8.0, 7.0),
        Vec2::new(0.0, -5.0),
    ));
    let shadow = meshes.add(Ellipse::new(radius, 7.0));
    let ink = materials.add(INK);
    let white = materials.add(LIGHT);
    let dark = materials.add(INK.with_alpha(0.30));
    let shiny = materials.add(Color::WHITE.with_alpha(0.28));

    for handle in 0..MAX_PLAYERS {
        let side = Side::of(handle);
        let color = TEAM[side.index()][handle / 2];
        let facing = -side.sign() as f32;
        // Partners stand a little behind each other.
        let z = 2.0 - handle as f32 * 0.1;
        commands
            .spawn((
                Figure(handle),
                Transform::from_xyz(0.0, 0.0, z),
                Visibility::Hidden,
            ))
            .with_children(|figure| {
                figure.spawn(part(&rim, &ink, Vec3::new(0.0, -2.0, 0.0)));
                figure.spawn(part(&body, &materials.add(color), Vec3::Z * 0.01));
                figure.spawn(part(&shine, &shiny, Vec3::new(-12.0 * facing, 30.0, 0.02)));
                for x in [8.0, 28.0] {
                    let at = Vec2::new(x * facing, 20.0);
                    figure.spawn(part(&eye, &white, at.extend(0.03)));
                    figure.spawn((Pupil(handle, at), part(&pupil, &ink, at.extend(0.04))));
                }
            });
        commands.spawn((
            Shadow(Some(handle)),
            Mesh2d(shadow.clone()),
            MeshMaterial2d(dark.clone()),
            Transform::from_xyz(0.0, -5.0, -30.0),
            Visibility::Hidden,
        ));
        commands.spawn((
            NameTag(handle),
            Text2d::default(),
            TextFont::from_font_size(16.0),
            TextColor(INK),
            Transform::from_xyz(0.0, -30.0, -20.0),
            Visibility::Hidden,
        ));
        commands.spawn((
            Mark(handle),
            Mesh2d(mark.clone()),
            MeshMaterial2d(white.clone()),
            Transform::from_xyz(0.0, 0.0, 6.0),
            Visibility::Hidden,
        ));
    }
}

fn make_ball(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    let radius = px(BALL_RADIUS);
    let rim = meshes.add(Circle::new(radius));
    let wedge = meshes.add(CircularSector::new(radius - 2.0, FRAC_PI_2 / 3.0));
    let hub = meshes.add(Circle::new(4.0));
    let shine = meshes.add(Ellipse::new(6.0, 4.0));
    let shadow = meshes.add(Ellipse::new(radius, 5.0));
    let [ink, white] = [INK, LIGHT].map(|color| materials.add(color));
    let stripes = [
        Color::srgb(0.98, 0.76, 0.20),
        Color::srgb(0.20, 0.46, 0.80),
        Color::srgb(0.93, 0.36, 0.34),
    ]
    .map(|color| materials.add(color));
    let shiny = materials.add(Color::WHITE.with_alpha(0.45));
    commands
        .spawn((
            DrawnBall,
            Transform::from_xyz(0.0, 0.0, 5.0),
            Visibility::Hidden,
        ))
        .with_children(|ball| {
            ball.spawn(part(&rim, &ink, Vec3::ZERO));
            for sixth in 0..6 {
                let material = if sixth % 2 == 0 {
                    &white
                } else {
                    &stripes[sixth / 2]
                };
                let turn = Quat::from_rotation_z(sixth as f32 * FRAC_PI_2 / 1.5);
                let (mesh, material, at) = part(&wedge, material, Vec3::Z * 0.01);
                ball.spawn((mesh, material, at.with_rotation(turn)));
            }
            ball.spawn(part(&hub, &white, Vec3::Z * 0.02));
            ball.spawn(part(&shine, &shiny, Vec3::new(-6.0, 8.0, 0.03)));
        });
    commands.spawn((
        Shadow(None),
        Mesh2d(shadow),
        MeshMaterial2d(materials.add(INK.with_alpha(0.30))),
        Transform::from_xyz(0.0, -5.0, -30.0),
        Visibility::Hidden,
    ));
}

/// A shape of one colour.
fn part(
    mesh: &Handle<Mesh>,
    material: &Handle<ColorMaterial>,
    at: Vec3,
) -> (Mesh2d, MeshMaterial2d<ColorMaterial>, Transform) {
    (
        Mesh2d(mesh.clone()),
        MeshMaterial2d(material.clone()),
        Transform::from_translation(at),
    )
}

/// Where a body is drawn.
pub(crate) fn place(body: Body) -> Vec2 {
    Vec2::new(px(body.x), px(body.y))
}

fn place_players(
    shown: Res<Shown>,
    info: Option<Res<SessionInfo>>,
    time: Res<Time>,
    mut figures: Query<(&Figure, &mut Transform, &mut Visibility)>,
    mut marks: Query<(&Mark, &mut Transform, &mut Visibility), Without<Figure>>,
) {
    let Some(court) = &shown.court else {
        return;
    };
    for (figure, mut at, mut visible) in &mut figures {
        let Some(body) = court.playing().get(figure.0) else {
            *visible = Visibility::Hidden;
            continue;
        };
        *visible = Visibility::Inherited;
        at.translation = place(*body).extend(at.translation.z);
        // A jump stretches the figure.
        let stretch = px(body.vy).abs() * 0.012;
        at.scale = Vec3::new(1.0 - stretch * 0.6, 1.0 + stretch, 1.0);
    }
    let local = info.map(|info| info.local_player);
    for (mark, mut at, mut visible) in &mut marks {
        let body = court.playing().get(mark.0);
        match body.filter(|_| local == Some(mark.0)) {
            Some(body) => {
                let bob = (time.elapsed_secs() * 4.0).sin() * 3.0;
                let over = place(*body) + Vec2::new(0.0, 66.0 + bob);
                at.translation = over.extend(at.translation.z);
                *visible = Visibility::Inherited;
            }
            None => *visible = Visibility::Hidden,
        }
    }
}

fn place_ball(
    shown: Res<Shown>,
    time: Res<Time>,
    mut balls: Query<(&mut Transform, &mut Visibility), With<DrawnBall>>,
    mut shadows: Query<(&Shadow, &mut Transform, &mut Visibility), Without<DrawnBall>>,
) {
    let Some(court) = &shown.court else {
        return;
    };
    for (mut at, mut visible) in &mut balls {
        *visible = Visibility::Inherited;
        at.translation = place(court.ball).extend(at.translation.z);
        // It rolls as it flies, and pulses before the serve.
        at.rotate_z(-px(court.ball.vx) * 0.6 * time.delta_secs());
        let breath = match court.score.phase {
            Phase::Serve => (time.elapsed_secs() * 9.0).sin() * 0.06,
            Phase::Rally | Phase::Point => 0.0,
        };
        at.scale = Vec3::splat(1.0 + breath);
    }
    for (shadow, mut at, mut visible) in &mut shadows {
        let body = match shadow.0 {
            Some(handle) => court.playing().get(handle).copied(),
            None => Some(court.ball),
        };
        let Some(body) = body else {
            *visible = Visibility::Hidden;
            continue;
        };
        *visible = Visibility::Inherited;
        at.translation.x = px(body.x);
        at.scale = Vec3::splat((1.0 - px(body.y) / 900.0).max(0.3));
    }
}

fn name_players(
    shown: Res<Shown>,
    local: Res<LocalPlayer>,
    info: Option<Res<SessionInfo>>,
    mut tags: Query<(&NameTag, &mut Text2d, &mut Transform, &mut Visibility)>,
) {
    let (Some(court), Some(info)) = (&shown.court, info) else {
        return;
    };
    for (tag, mut text, mut at, mut visible) in &mut tags {
        let Some(body) = court.playing().get(tag.0) else {
            *visible = Visibility::Hidden;
            continue;
        };
        *visible = Visibility::Inherited;
        at.translation.x = px(body.x);
        let name = match (tag.0 == info.local_player, local.bot) {
            (true, true) => format!("{} (bot)", local.name),
            (true, false) => local.name.clone(),
            (false, _) if court.count == 2 => local.rival.clone(),
            (false, _) => format!("{} {}", local.rival, tag.0),
        };
        if text.0 != name {
            text.0 = name;
        }
    }
}

/// All players look at the ball.
fn watch_ball(shown: Res<Shown>, mut pupils: Query<(&Pupil, &mut Transform)>) {
    let Some(court) = &shown.court else {
        return;
    };
    for (pupil, mut at) in &mut pupils {
        let Some(body) = court.playing().get(pupil.0) else {
            continue;
        };
        let eye = place(*body) + pupil.1;
        let look = (place(court.ball) - eye).normalize_or_zero() * 4.0;
        at.translation = (pupil.1 + look).extend(at.translation.z);
    }
}
