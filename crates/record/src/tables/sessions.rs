//! The table of lab sessions, read off their session documents.

use super::table;
use crate::SessionDocument;

table! {
    /// Every session document.
    SESSIONS = "sessions", "One peer's session document: also of sessions without an episode.";
    for session in Session(document) => [&document.session];
    "room" Text ["-"] "The room's name." = session.room.as_ref();
    "players" Int ["players"] "Players whose seats were known." = session.player_ids.len();
    "routePolicy" Text ["-"] "p2p-first, p2p-only, relay-only or dual-path. Empty without the lab's transport." = session.route_policy.map(crate::RoutePolicy::as_str);
    "pseudonym" Text ["-"] "The local player's pseudonym." = own(document).and_then(|player| player.pseudonym.as_ref());
    "policyName" Text ["-"] "Name of the local player's policy, if it is a bot." = own(document).and_then(|player| player.policy_name.as_ref());
    "game" Text ["-"] "The game's name." = &document.software.game;
    "gameVersion" Text ["-"] "The game's version." = &document.software.version;
    "target" Text ["-"] "What it ran on." = &document.software.target;
    "browser" Text ["-"] "Browser family and major version. Empty natively." = document.software.browser.as_ref();
    "originUnixMs" Int ["ms since 1970"] "The moment of atUs = 0." = document.origin_unix_ms;
    "waitedMs" Float ["ms"] "From joining to the first episode. Empty if none began." = document.waited_ms;
    "episodes" Int ["episodes"] "Episodes whose files were written." = document.episodes.len();
    "lastPhase" Text ["-"] "The phase it ended in." = document.phases.last().map(|phase| &phase.phase);
    "lastPhaseAtUs" Int ["us"] "When that was entered, since originUnixMs." = document.phases.last().map(|phase| phase.at_us);
    "endReason" Text ["-"] "How it ended. Empty if the file was never closed." = document.end_reason.as_ref().map(crate::EndReason::as_str);
}

fn own(document: &SessionDocument) -> Option<&crate::Player> {
    let local = document.session.local_player_id?;
    let players = &document.session.players;
    players.iter().find(|player| player.player_id == local)
}
