//! The scene: a beach at dusk, a court with its net, and the camera. Coordinates are pixels, with the
//! net at x = 0 and the floor at y = 0.

use bevy::asset::RenderAssetUsages;
use bevy::camera::ScalingMode;
use bevy::mesh::{Indices, PrimitiveTopology};
use bevy::prelude::*;
use bevy::render::renderer::RenderAdapterInfo;

use volley::court::{HALF_WIDTH, HEIGHT, NET_HALF, NET_HEIGHT, PX};

/// Colours by side: left is coral, right is teal; partners are a shade lighter.
pub(crate) const TEAM: [[Color; 2]; 2] = [
    [Color::srgb(0.94, 0.33, 0.36), Color::srgb(0.98, 0.55, 0.45)],
    [Color::srgb(0.10, 0.66, 0.62), Color::srgb(0.38, 0.80, 0.70)],
];
/// Outlines and text.
pub(crate) const INK: Color = Color::srgb(0.10, 0.13, 0.24);
/// Highlights.
pub(crate) const LIGHT: Color = Color::srgb(1.0, 0.96, 0.86);
/// Marks of corrections.
pub(crate) const CORRECTION: Color = Color::srgb(1.0, 0.78, 0.18);

const NIGHT: Color = Color::srgb(0.14, 0.19, 0.40);
const DUSK: Color = Color::srgb(0.55, 0.38, 0.58);
const GLOW: Color = Color::srgb(0.99, 0.72, 0.52);
const SUN: Color = Color::srgb(1.0, 0.89, 0.66);
const SEA_FAR: Color = Color::srgb(0.86, 0.58, 0.55);
const SEA_NEAR: Color = Color::srgb(0.13, 0.34, 0.50);
const SAND_FAR: Color = Color::srgb(0.93, 0.80, 0.62);
const SAND_NEAR: Color = Color::srgb(0.78, 0.60, 0.45);
const HILL: Color = Color::srgb(0.36, 0.27, 0.48);

/// Where the sky meets the sea.
const HORIZON: f32 = 190.0;
/// Where the sea meets the sand.
const SHORE: f32 = 64.0;
/// Half the width of the background, beyond the edge of any window.
const FAR: f32 = 2_400.0;

/// Corners of large round shapes.
const CORNERS: u32 = 128;

/// Pixels of a court length.
pub(crate) fn px(length: i32) -> f32 {
    length as f32 / PX as f32
}

/// Adds the scene.
pub(crate) fn plugin(app: &mut App) {
    app.insert_resource(ClearColor(NIGHT))
        .add_systems(Startup, (spawn_camera, paint_background, build_court))
        .add_systems(Update, drift);
}

/// Shows the whole court, whatever the window's shape. A software renderer gets no multisampling: with
/// it the frame rate is a third.
fn spawn_camera(mut commands: Commands, adapter: Option<Res<RenderAdapterInfo>>) {
    // wgpu's type of this field is not exported by Bevy.
    let software = adapter.is_some_and(|adapter| format!("{:?}", adapter.device_type) == "Cpu");
    commands.spawn((
        Camera2d,
        if software { Msaa::Off } else { Msaa::Sample4 },
        Projection::from(OrthographicProjection {
            scaling_mode: ScalingMode::AutoMin {
                min_width: 850.0,
                min_height: 700.0,
            },
            ..OrthographicProjection::default_2d()
        }),
        Transform::from_xyz(0.0, 272.0, 0.0),
    ));
}

/// A cloud and its speed.
#[derive(Component)]
struct Drifting(f32);

fn paint_background(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    let white = materials.add(Color::WHITE);
    let mut band = |low: f32, high: f32, bottom: Color, top: Color, z: f32| {
        commands.spawn((
            Mesh2d(meshes.add(gradient(low, high, bottom, top))),
            MeshMaterial2d(white.clone()),
            Transform::from_xyz(0.0, 0.0, z),
        ));
    };
    band(HORIZON + 130.0, 1_100.0, DUSK, NIGHT, -50.0);
    band(HORIZON, HORIZON + 130.0, GLOW, DUSK, -50.0);
    band(SHORE, HORIZON, SEA_NEAR, SEA_FAR, -46.0);
    band(-500.0, SHORE, SAND_NEAR, SAND_FAR, -42.0);

    let mut shape = |mesh: Mesh, color: Color, at: Vec3| {
        commands.spawn((
            Mesh2d(meshes.add(mesh)),
            MeshMaterial2d(materials.add(color)),
            Transform::from_translation(at),
        ));
    };
    for (radius, alpha) in [(230.0, 0.07), (165.0, 0.10), (112.0, 0.16)] {
        let halo = SUN.with_alpha(alpha);
        shape(
            round(Circle::new(radius)),
            halo,
            Vec3::new(0.0, 232.0, -49.0),
        );
    }
    shape(round(Circle::new(74.0)), SUN, Vec3::new(0.0, 232.0, -48.0));
    for (x, width, height) in [
        (-560.0, 330.0, 62.0),
        (-330.0, 210.0, 36.0),
        (520.0, 390.0, 74.0),
    ] {
        let hill = smooth(Ellipse::new(width, height));
        shape(hill, HILL, Vec3::new(x, HORIZON, -47.0));
    }
    // The reflection of the sun.
    for step in 0..9 {
        let down = step as f32;
        let width = 150.0 - down * 9.0 + if step % 2 == 0 { 30.0 } else { -18.0 };
        let ray = Rectangle::new(width, 3.2).into();
        let at = Vec3::new(
            (down * 1.9).sin() * 10.0,
            HORIZON - 9.0 - down * 12.5,
            -45.0,
        );
        shape(ray, SUN.with_alpha(0.42 - down * 0.035), at);
    }
    // A line of foam along the shore.
    shape(
        Rectangle::new(FAR * 2.0, 4.0).into(),
        LIGHT.with_alpha(0.55),
        Vec3::new(0.0, SHORE, -41.0),
    );

    let puff = meshes.add(Ellipse::new(64.0, 15.0));
    let white = materials.add(LIGHT.with_alpha(0.12));
    for (x, y, size, speed) in [
        (-420.0, 545.0, 1.5, 5.0),
        (-90.0, 480.0, 0.9, 3.0),
        (260.0, 560.0, 1.2, 4.0),
        (560.0, 430.0, 1.7, 6.0),
    ] {
        commands
            .spawn((
                Drifting(speed),
                Transform::from_xyz(x, y, -44.0).with_scale(Vec3::splat(size)),
                Visibility::default(),
            ))
            .with_children(|cloud| {
                for (dx, dy) in [(0.0, 0.0), (40.0, 11.0), (-38.0, 8.0), (8.0, 16.0)] {
                    cloud.spawn((
                        Mesh2d(puff.clone()),
                        MeshMaterial2d(white.clone()),
                        Transform::from_xyz(dx, dy, 0.0),
                    ));
                }
            });
    }
}

fn drift(time: Res<Time>, mut clouds: Query<(&Drifting, &mut Transform)>) {
    for (speed, mut at) in &mut clouds {
        at.translation.x += speed.0 * time.delta_secs();
        if at.translation.x > 900.0 {
            at.translation.x = -900.0;
        }
    }
}

fn build_court(
    mut commands: Commands,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    let (half, height) = (px(HALF_WIDTH), px(HEIGHT));
    let mut shape = |mesh: Mesh, color: Color, x: f32, y: f32, z: f32| {
        commands.spawn((
            Mesh2d(meshes.add(mesh)),
            MeshMaterial2d(materials.add(color)),
            Transform::from_xyz(x, y, z),
        ));
    };
    // The court's sand is a little brighter than the beach.
    let floor = Rectangle::new(half * 2.0, 34.0);
    shape(floor.into(), LIGHT.with_alpha(0.20), 0.0, -17.0, -40.0);
    shape(
        Rectangle::new(half * 2.0, 3.0).into(),
        LIGHT.with_alpha(0.8),
        0.0,
        0.0,
        -39.0,
    );
    for side in [-1.0, 1.0] {
        let outside = Rectangle::new(FAR, 1_600.0);
        let x = side * (half + FAR / 2.0);
        shape(outside.into(), INK.with_alpha(0.34), x, height / 2.0, -38.0);
        let wall = Rectangle::new(3.0, height + 120.0);
        shape(
            wall.into(),
            LIGHT.with_alpha(0.30),
            side * (half + 1.5),
            height / 2.0 + 60.0,
            -37.0,
        );
    }
    let (width, top) = (px(NET_HALF) * 2.0, px(NET_HEIGHT));
    let pole = Rectangle::new(width, top + 12.0);
    shape(pole.into(), INK, 0.0, top / 2.0 - 6.0, 4.0);
    let band = Rectangle::new(width, 26.0);
    shape(band.into(), LIGHT, 0.0, top - 13.0, 4.1);
    shape(Circle::new(width / 2.0).into(), LIGHT, 0.0, top, 4.1);
    let foot = Ellipse::new(22.0, 6.0);
    shape(foot.into(), INK.with_alpha(0.5), 0.0, -11.0, -36.0);
}

/// A large circle without corners.
fn round(circle: Circle) -> Mesh {
    circle.mesh().resolution(CORNERS).build()
}

/// A large ellipse without corners.
fn smooth(ellipse: Ellipse) -> Mesh {
    ellipse.mesh().resolution(CORNERS).build()
}

/// A band across the whole view whose colour changes with the height.
fn gradient(low: f32, high: f32, bottom: Color, top: Color) -> Mesh {
    let color = |color: Color| color.to_linear().to_f32_array();
    Mesh::new(
        PrimitiveTopology::TriangleList,
        RenderAssetUsages::RENDER_WORLD,
    )
    .with_inserted_attribute(
        Mesh::ATTRIBUTE_POSITION,
        vec![
            [-FAR, low, 0.0],
            [FAR, low, 0.0],
            [FAR, high, 0.0],
            [-FAR, high, 0.0],
        ],
    )
    .with_inserted_attribute(
        Mesh::ATTRIBUTE_COLOR,
        vec![color(bottom), color(bottom), color(top), color(top)],
    )
    .with_inserted_indices(Indices::U32(vec![0, 1, 2, 0, 2, 3]))
}
