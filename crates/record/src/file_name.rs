//! Where each document's file belongs below the output folder.

use std::path::{Path, PathBuf};

use crate::{DesyncBundle, EpisodeDocument, SessionDocument, SessionMeta};

impl EpisodeDocument {
    /// Where its file belongs below the output folder: `<sessionId>/episode-<n>.player-<k>.json`.
    /// Without a local player it has no player part: `episode-<n>.json`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let stem = format!("episode-{}", self.episode.episode_num);
        file_path(&self.session, &stem)
    }
}

impl SessionDocument {
    /// Where its file belongs below the output folder: `<sessionId>/session.player-<k>.json`.
    /// Without a local player it has no player part: `session.json`.
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

fn file_path(session: &SessionMeta, stem: &str) -> PathBuf {
    let player = session
        .local_player_id
        .map_or(String::new(), |player| format!(".player-{player}"));
    Path::new(&folder_name(&session.session_id)).join(format!("{stem}{player}.json"))
}

/// A session id as a folder name: characters that have a meaning in a path are replaced.
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
