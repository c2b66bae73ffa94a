//! The oracle: why an input was really late, by the log of every packet's fate and of every update of
//! both peers. It uses nothing that the library reports.

use std::time::Duration;

use rollback_lab_link::cause::Cause;
use rollback_lab_link::wire::Path;

use super::Matrix;
use super::harness::{FRAME, Played, Update};
use super::simulated_path::{Fate, Sent};

/// A gap between two updates that is the peer's own: two and a half ticks.
const GAP: Duration = Duration::from_nanos(16_666_667 * 5 / 2);

/// Compares the reported causes of a match with the true ones.
pub(super) fn judge(case: &str, played: &Played) -> Matrix {
    let mut matrix = Matrix::default();
    for (of, rollbacks) in played.rollbacks.iter().enumerate() {
        let judged = rollbacks
            .iter()
            .filter(|rollback| rollback.frame >= played.judged_from);
        for rollback in judged {
            let truth = if rollback.disconnect {
                Some(Cause::Disconnect)
            } else {
                truth(played, of, rollback.frame)
            };
            let Some(truth) = truth else {
                matrix.unlogged += 1;
                continue;
            };
            matrix.reported[truth as usize][rollback.cause as usize] += 1;
            matrix.at_first[truth as usize] += u64::from(rollback.first_cause == truth);
            if truth != rollback.cause && std::env::var_os("CAUSES_WRONG").is_some() {
                eprintln!(
                    "{case}: peer {of}, frame {}: {truth:?} in truth, {rollback:?}",
                    rollback.frame
                );
            }
        }
    }
    matrix
}

/// The update in which a peer simulated `frame` first.
fn simulated(updates: &[Update], frame: i32) -> Option<usize> {
    let index = updates.partition_point(|update| update.next <= frame);
    (index < updates.len()).then_some(index)
}

/// The true cause of a rollback; `None` if the log does not hold the packet of its input.
fn truth(played: &Played, of: usize, frame: i32) -> Option<Cause> {
    let (mine, theirs) = (&played.updates[of], &played.updates[1 - of]);
    let delay = played.input_delay;
    let needed = mine[simulated(mine, frame)?].at;
    let from_them = || played.sent.iter().filter(|sent| sent.from != of);
    let first = from_them().find(|sent| sent.newest == frame)?;
    // The copies of one packet on both paths.
    let copies: Vec<&Sent> = from_them()
        .filter(|sent| sent.newest == frame && sent.at == first.at)
        .collect();
    if copies.iter().any(|copy| copy.fate == Fate::Outage) {
        return Some(Cause::RouteChange);
    }
    let arrival = |sent: &Sent| match sent.fate {
        Fate::Arrives(due) => Some(due),
        Fate::Lost | Fate::Outage => None,
    };
    let arrived = from_them()
        .filter(|sent| sent.newest >= frame)
        .filter_map(|sent| Some((arrival(sent)?, sent)))
        .min_by_key(|(due, _)| *due)?
        .1;

    // Whether the update that sent a packet came after a gap, and later than the frame rate allows.
    let resumed = |sent: &Sent| -> Option<(bool, bool)> {
        let update = theirs.iter().position(|update| update.at == sent.at)?;
        let before = theirs.get(update.checked_sub(1)?)?;
        let last = simulated(theirs, before.next - 1)?;
        let owed = u32::try_from(frame - delay - (before.next - 1)).unwrap_or(0);
        let due = theirs[last].at + FRAME * owed;
        let gap = sent.at - before.at > GAP;
        let late = sent.at >= due + FRAME / 2;
        let stalled = gap && late;
        Some((theirs[update].hidden || (stalled && before.hidden), stalled))
    };
    let (hidden, stalled) = resumed(first)?;
    let (packet_hidden, packet_stalled) = resumed(arrived)?;
    if hidden || packet_hidden {
        return Some(Cause::PeerHidden);
    }
    // Its game stood still between the two inputs, and did not wait for this peer's.
    let paused = from_them()
        .find(|sent| sent.newest == frame - 1)
        .is_some_and(|before| {
            let within = |update: &&Update| before.at < update.at && update.at < first.at;
            let waits = theirs.iter().filter(within).any(|update| update.waits);
            first.at > before.at + GAP && !waits
        });
    if stalled || packet_stalled || paused {
        return Some(Cause::PeerStall);
    }
    let direct = copies.iter().find(|copy| copy.path == Path::Direct);
    let main = direct.unwrap_or(&copies[0]);
    if main.fate == Fate::Lost {
        return Some(Cause::PacketLoss);
    }
    let came = copies.iter().filter_map(|copy| arrival(copy)).min()?;
    if arrived.newest > frame {
        return Some(Cause::Reordering);
    }
    let late = came.saturating_sub(needed);
    let excess = came.saturating_sub(main.at + main.base);
    if excess > late / 2 {
        return Some(Cause::JitterSpike);
    }
    let usual = late - excess;
    let lead = first
        .at
        .saturating_sub(mine[simulated(mine, frame - delay)?].at);
    Some(if lead > usual / 2 {
        Cause::FrameAdvantage
    } else {
        Cause::BaseLatency
    })
}
