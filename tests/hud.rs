//! The overlay: shown and hidden by its key, without cost while hidden. The display plugin: drawn
//! frames and display size in the file.

use bevy::asset::AssetPlugin;
use bevy::prelude::*;
use bevy::window::{Monitor, OnMonitor, PrimaryWindow, WindowResolution};
use bevy_rollback_lab::diagnostics::LiveStats;
use bevy_rollback_lab::display::NotDrawn;
use bevy_rollback_lab::hud::{Hud, HudShown};
use bevy_rollback_lab::prelude::*;
use bevy_rollback_lab::rollback::DesyncDetected;

use rollback_lab_test_kit::lab::{
    LabPeer, TestConfig, VirtualNetwork, frame, lab_peer, lab_peer_with, play, run_until,
};

fn config() -> LabConfig {
    LabConfig::new("ws://lab", "room")
        .frame_limit(600)
        .episodes(1)
        .conditions("latency=60ms,jitter=15ms")
        .no_files()
}

/// A match whose first peer has the HUD, without a window.
fn peers_with_hud() -> Vec<LabPeer> {
    let network = VirtualNetwork::new(2, true);
    vec![
        lab_peer_with(&network, config(), 1, |app| {
            app.add_plugins(AssetPlugin::default())
                .init_asset::<Image>()
                .init_resource::<ButtonInput<KeyCode>>()
                .add_plugins(LabHudPlugin::<TestConfig>::default());
        }),
        lab_peer(&network, config(), 2),
    ]
}

fn until(peers: &mut [LabPeer], goal: i32) {
    assert!(
        run_until(peers, frame(60), 2_000, |peers| peers[0].frame() > goal),
        "the match reaches frame {goal}"
    );
}

fn press_f3(peers: &mut [LabPeer]) {
    let keys = |peers: &mut [LabPeer]| {
        let world = peers[0].app.world_mut();
        world.resource_mut::<ButtonInput<KeyCode>>().clear();
        world
            .resource_mut::<ButtonInput<KeyCode>>()
            .release(KeyCode::F3);
    };
    peers[0]
        .app
        .world_mut()
        .resource_mut::<ButtonInput<KeyCode>>()
        .press(KeyCode::F3);
    run_until(peers, frame(60), 1, |_| true);
    keys(peers);
    run_until(peers, frame(60), 2, |_| false);
}

fn huds(peer: &mut LabPeer) -> usize {
    let world = peer.app.world_mut();
    world.query_filtered::<(), With<Hud>>().iter(world).count()
}

fn words(peer: &mut LabPeer) -> String {
    let world = peer.app.world_mut();
    let mut texts = world.query::<&Text>();
    let all: Vec<&str> = texts.iter(world).map(|text| text.0.as_str()).collect();
    all.join("\n")
}

/// Number of UI entities and of images, and whether live stats are collected.
fn cost(peer: &mut LabPeer) -> (usize, usize, bool) {
    let world = peer.app.world_mut();
    let nodes = world.query_filtered::<(), With<Node>>().iter(world).count();
    let images = world.resource::<Assets<Image>>().len();
    (nodes, images, world.contains_resource::<LiveStats>())
}

#[test]
fn f3_shows_and_hides_the_hud_and_a_hidden_hud_has_no_entity_image_or_live_stats() {
    let mut peers = peers_with_hud();
    until(&mut peers, 120);
    let before = cost(&mut peers[0]);
    assert_eq!((before.0, before.2), (0, false), "hidden by default");

    press_f3(&mut peers);
    assert_eq!(huds(&mut peers[0]), 1);
    until(&mut peers, 260);
    let text = words(&mut peers[0]);
    for part in ["player 1: direct (", "rtt 1", "predictions right"] {
        assert!(text.contains(part), "{text:?} contains {part:?}");
    }
    let (_, images, counted) = cost(&mut peers[0]);
    assert_eq!((images, counted), (before.1 + 1, true));
    let live_stats = peers[0].app.world().resource::<LiveStats>();
    assert!(live_stats.history().any(|tick| tick.depth > 0));
    let painted = peers[0]
        .app
        .world()
        .resource::<Assets<Image>>()
        .iter()
        .filter_map(|(_, image)| image.data.as_deref())
        .any(|pixels| {
            pixels
                .chunks_exact(4)
                .any(|pixel| pixel == [255, 196, 61, 255])
        });
    assert!(painted, "a rollback is a bar of the graph");

    press_f3(&mut peers);
    assert_eq!(huds(&mut peers[0]), 0);
    assert_eq!(cost(&mut peers[0]), before, "everything is removed");
}

#[test]
fn a_desync_shows_the_desync_banner() {
    let mut peers = peers_with_hud();
    peers[0].app.world_mut().resource_mut::<HudShown>().0 = true;
    until(&mut peers, 60);
    let seen = |peer: &mut LabPeer| {
        let world = peer.app.world_mut();
        let mut texts = world.query::<(&Text, &Node)>();
        texts
            .iter(world)
            .any(|(text, node)| text.0.starts_with("DESYNC") && node.display == Display::Flex)
    };
    assert!(!seen(&mut peers[0]), "no banner without a desync");
    let at = peers[0].clock.now();
    peers[0].app.world_mut().write_message(DesyncDetected {
        at,
        frame: 40,
        local_checksum: 1,
        remote_checksum: 2,
        players: vec![1],
    });
    run_until(&mut peers, frame(60), 3, |_| false);
    assert!(seen(&mut peers[0]));
}

#[test]
fn the_file_records_drawn_frames_and_the_display() {
    let network = VirtualNetwork::new(2, true);
    let mut peers = vec![
        lab_peer_with(&network, config(), 1, |app| {
            app.add_plugins(LabDisplayPlugin::<TestConfig>::default());
            let monitor = app.world_mut().spawn(Monitor {
                name: None,
                physical_height: 1_080,
                physical_width: 1_920,
                physical_position: IVec2::ZERO,
                refresh_rate_millihertz: Some(59_940),
                scale_factor: 1.0,
                video_modes: Vec::new(),
            });
            let monitor = monitor.id();
            app.world_mut().spawn((
                Window {
                    resolution: WindowResolution::new(1_120, 700),
                    ..default()
                },
                PrimaryWindow,
                OnMonitor(monitor),
            ));
        }),
        lab_peer(&network, config(), 2),
    ];
    until(&mut peers, 100);
    peers[0].app.world_mut().resource_mut::<NotDrawn>().0 = true;
    until(&mut peers, 160);
    peers[0].app.world_mut().resource_mut::<NotDrawn>().0 = false;
    let documents = play(&mut peers, frame(60), 3_000);
    let (windowed, headless) = (&documents[0][0], &documents[1][0]);
    let display = &windowed.display;
    assert_eq!(
        (display.refresh_hz, display.width, display.height),
        (Some(59.94), Some(1_120), Some(700))
    );
    let runs = windowed.timeline.drawn_frames.as_ref().unwrap();
    let times: Vec<u32> = runs
        .iter()
        .flat_map(|&(times, frames)| std::iter::repeat_n(times, frames as usize))
        .collect();
    assert_eq!(times.len(), 600, "one count per frame");
    assert!(times[110..150].iter().all(|times| *times == 0), "hidden");
    assert!(times[200..580].iter().all(|times| *times >= 1), "visible");
    assert_eq!(
        headless.timeline.drawn_frames, None,
        "a headless peer draws nothing"
    );
    assert_eq!(headless.display.width, None);
}
