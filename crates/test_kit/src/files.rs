//! Owns the two files the tests work with: the golden one and that of its opponent, who saw no
//! input late. Both satisfy every invariant and agree with each other.

use std::fs;
use std::path::{Path, PathBuf};

use rollback_lab_record::check::{check_episode, check_pair};
use rollback_lab_record::{
    EpisodeDocument, Lateness, Player, Rollbacks, SessionDocument, Software,
};

/// Path of the golden episode file.
pub const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../record/tests/golden/episode.json"
);

/// How far the opponent's clock is ahead of the golden file's, in microseconds.
pub const AHEAD_US: u64 = 5_000_000;

/// Frames by which every input of the golden file's player arrives late at the opponent.
const LATE_FRAMES: u32 = 2;

/// The golden file, with a study and players. Some of its texts need escaping in CSV and HTML.
pub fn golden() -> EpisodeDocument {
    let text = fs::read_to_string(GOLDEN).expect("the golden file is there");
    let mut document = EpisodeDocument::parse(&text).expect("it is one of this version");
    document.session.study_id = Some("study, with a comma".into());
    document.session.group_id = Some("g\"1\"".into());
    document.session.players = (0..2).map(player).collect();
    assert_eq!(check_episode(&document), []);
    document
}

/// The file of the golden file's opponent: the same match without a rollback.
pub fn opponent() -> EpisodeDocument {
    let mut document = golden();
    let end = document.frames.total;
    document.player_id = Some(1);
    document.session.local_player_id = Some(1);
    document.rollbacks = Rollbacks {
        events: Vec::new(),
        count: 0,
        max_frames: 0,
        mean_frames: None,
        resimulated_frames: 0,
        resim_time_us: 0,
        by_cause: Default::default(),
        reloads_without_correction: 0,
    };
    document.frames.resimulated = 0;
    document.frames.predicted = 0;
    document.frames.prediction_hits = 0;
    document.frames.prediction_misses = 0;
    let times = &mut document.timeline;
    times.frame_at_us.first = times.frame_at_us.first.map(|first| first + AHEAD_US);
    times.predicted_first.clear();
    times.lateness = vec![Lateness {
        player_id: 0,
        runs: vec![(
            Some(LATE_FRAMES),
            u32::try_from(end).expect("a short episode"),
        )],
    }];
    document.inputs.local_changes.clear();
    document.sync.peer_history_digest = [(0, None)].into();
    document
        .quality
        .route_changes
        .iter_mut()
        .for_each(|change| {
            change.player_id = 0;
            change.at_us += AHEAD_US;
        });
    document.connection.peers[0].player_id = 0;
    assert_eq!(check_episode(&document), []);
    assert_eq!(check_pair(&golden(), &document), []);
    document
}

/// The session document of `player` in the same session.
pub fn session(player: usize) -> SessionDocument {
    let mut session = golden().session;
    session.local_player_id = Some(player);
    SessionDocument::new(Software::default(), session, 1_700_000_000_000)
}

fn player(player_id: usize) -> Player {
    Player {
        player_id,
        kind: None,
        policy_name: None,
        policy_version: None,
        policy_digest: None,
        pseudonym: Some(format!("</script><b>{player_id}")),
    }
}

/// Creates an empty folder for one test below `base`, the `CARGO_TARGET_TMPDIR` of its binary.
pub fn folder(base: &str, name: &str) -> PathBuf {
    let path = Path::new(base).join(format!("files-{name}"));
    if path.exists() {
        fs::remove_dir_all(&path).expect("it can be removed");
    }
    fs::create_dir_all(&path).expect("it can be created");
    path
}

/// Writes the episode files and session documents of both players to `folder`, in the layout that
/// the plugin writes.
pub fn export(folder: &Path) {
    let session_folder = folder.join("00c0ffee");
    fs::create_dir_all(&session_folder).expect("it can be created");
    let write = |name: &str, text: serde_json::Result<String>| {
        fs::write(session_folder.join(name), text.expect("it serializes")).expect("writable");
    };
    for (player, document) in [golden(), opponent()].iter().enumerate() {
        let name = format!("episode-0.player-{player}.json");
        write(&name, serde_json::to_string(document));
        let name = format!("session.player-{player}.json");
        write(&name, serde_json::to_string(&session(player)));
    }
}
