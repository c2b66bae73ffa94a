//! Where each document's file belongs below the output folder.

use std::path::{Path, PathBuf};

use crate::{DesyncBundle, EpisodeDocument, Session, SessionDocument};

impl EpisodeDocument {
    /// Where its file belongs below the output folder: `<sessionId>/episode-<n>.player-<k>.json`.
    /// Without a local player it ends in `.spectator.json`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let stem = format!("episode-{}", self.episode.episode_num);
        file_path(&self.session, &stem)
    }
}

impl SessionDocument {
    /// Where its file belongs below the output folder: `<sessionId>/session.player-<k>.json`.
    /// Without a local player it ends in `.spectator.json`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        file_path(&self.session, "session")
    }
}

impl DesyncBundle {
    /// Where its file belongs below the output folder: `<sessionId>/desync-<n>.player-<k>.json`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        file_path(&self.session, &format!("desync-{}", self.episode_num))
    }
}

fn file_path(session: &Session, stem: &str) -> PathBuf {
    let who = session
        .local_player_id
        .map_or("spectator".to_owned(), |player| format!("player-{player}"));
    Path::new(&folder_name(&session.session_id)).join(format!("{stem}.{who}.json"))
}

/// A session id as a folder name: what a path could read as more than a name is replaced.
fn folder_name(session_id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name: String = session_id
        .chars()
        .take(128)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    if name.is_empty() {
        "session".to_owned()
    } else {
        name
    }
}
