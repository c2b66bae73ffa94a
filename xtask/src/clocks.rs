//! Compares what two processes measured of each other's clocks with the one they both read: the
//! machine's.

use std::path::Path;

use serde_json::Value;

use crate::examples;

/// What the files may be off by, in microseconds: an input's time on a timeline of all peers is
/// given in milliseconds.
const PROMISE_US: u64 = 1_000;

/// Compares what the peers of a session's first episode measured of each other's clocks with the
/// wall clock at which each clock began.
pub(crate) fn check(session: &Path, players: usize) -> Result<(), String> {
    let documents: Vec<Value> = (0..players)
        .map(|player| {
            let name = format!("episode-0.player-{player}.json");
            examples::read(&session.join(name))
        })
        .collect::<Result<_, String>>()?;
    for (player, document) in documents.iter().enumerate() {
        for (other, theirs) in documents.iter().enumerate() {
            if other != player {
                let measured = measured(document, other)
                    .ok_or_else(|| format!("player {player} has no clock of player {other}"))?;
                judge(&measured, origin(document)?, origin(theirs)?)
                    .map_err(|error| format!("player {player}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// Peer's clock minus one's own, and how far that may be off, in microseconds.
#[derive(Debug, PartialEq, Eq)]
struct Measured {
    offset: i64,
    uncertainty: u64,
}

fn measured(document: &Value, player: usize) -> Option<Measured> {
    let peers = document.pointer("/clock/peers")?.as_array()?;
    let clock = peers.iter().find(|peer| peer["playerId"] == player)?;
    Some(Measured {
        offset: clock["offsetUs"].as_i64()?,
        uncertainty: clock["uncertaintyUs"].as_u64()?,
    })
}

fn origin(document: &Value) -> Result<i64, String> {
    document
        .pointer("/clock/originUnixUs")
        .and_then(Value::as_i64)
        .ok_or_else(|| "no /clock/originUnixUs".into())
}

fn judge(measured: &Measured, ours: i64, theirs: i64) -> Result<(), String> {
    let actual = ours - theirs;
    let off = measured.offset.abs_diff(actual);
    println!(
        "clock of the other process: {off} us off, stated within {} us",
        measured.uncertainty
    );
    if off > measured.uncertainty {
        return Err(format!(
            "the clocks are {actual} us apart, not {measured:?}"
        ));
    }
    if off >= PROMISE_US {
        return Err(format!("{off} us off, {PROMISE_US} us are promised"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_offset_outside_its_interval_or_beyond_the_promise_is_refused() {
        let document = json!({ "clock": { "originUnixUs": 5_000, "peers": [
            { "playerId": 1, "offsetUs": -3_000, "uncertaintyUs": 400 },
        ] } });
        let measured = measured(&document, 1).unwrap();
        let ours = origin(&document).unwrap();
        assert!(
            judge(&measured, ours, 8_000).is_ok(),
            "they began 3 ms later"
        );
        assert!(judge(&measured, ours, 8_399).is_ok());
        assert!(
            judge(&measured, ours, 8_401).is_err(),
            "beyond what is stated"
        );
        let wide = Measured {
            uncertainty: 5_000,
            ..measured
        };
        assert!(judge(&wide, ours, 8_999).is_ok());
        assert!(judge(&wide, ours, 9_000).is_err(), "beyond the promise");
        assert_eq!(super::measured(&document, 0), None);
        assert!(origin(&json!({})).is_err());
    }
}
