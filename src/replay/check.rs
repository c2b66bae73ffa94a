//! [`check`]: a headless replay that compares every state hash of the file.

use std::collections::BTreeMap;

use bevy::prelude::*;
use ggrs::Config;

use super::{
    Difference, DifferenceKind, Playback, ReplayReport, Script, ScriptError, Step, View,
    mark_loads, script_of, setup_of,
};
use crate::metrics::input_json;
use crate::offline::{Driver, start_app, start_episode};
use crate::record::{EpisodeDocument, Hex64};
use crate::rollback::EpisodeRecord;
use crate::rollback::trace::Frame;
use rollback_lab_record::digest::{self, fold_checksum};

/// Plays a file as fast as possible, and compares every state hash, `initialStateHash` and
/// `historyDigest` with those in the file.
///
/// `app` has not run yet and holds the game's plugins, without network and window;
/// [`OfflinePlugin`](crate::offline::OfflinePlugin) is added here. `EpisodeStarting` carries the seed,
/// players and local player of the file. With [`View::AsSeen`] every prediction and every rollback of
/// the match is played again, and the corrected states are compared.
///
/// ```no_run
/// use bevy::prelude::*;
/// use bevy_ggrs::GgrsConfig;
/// use bevy_rollback_lab::record::EpisodeDocument;
/// use bevy_rollback_lab::replay::{self, View};
///
/// type Config = GgrsConfig<u8>;
///
/// fn my_game(app: &mut App) {
///     // Rollback state, GgrsSchedule systems, an observer of EpisodeStarting: as in a match.
/// #   let _ = app;
/// }
///
/// fn replays(document: &EpisodeDocument) -> Result<bool, replay::ScriptError> {
///     let mut app = App::new();
///     app.add_plugins((MinimalPlugins, my_game));
///     let report = replay::check::<Config>(app, document, View::Canonical)?;
///     println!("{report}");
///     Ok(report.is_proven())
/// }
/// ```
///
/// # Errors
/// [`ScriptError`] if the file cannot be played in a game with this input type.
pub fn check<C: Config>(
    mut app: App,
    document: &EpisodeDocument,
    view: View,
) -> Result<ReplayReport, ScriptError> {
    let script = script_of::<C>(document)?;
    start_app::<C>(&mut app);
    let world = app.world_mut();
    start_episode(world, &setup_of(document));

    let steps = script.steps(view);
    let frames = script.frames() as usize;
    let mut saved = vec![false; frames + 1];
    for frame in hashed_frames(document).take_while(|&frame| frame <= frames) {
        saved[frame] = true;
    }
    // The first state has a hash of its own.
    saved[0] = true;
    mark_loads(steps, &mut saved);
    let floors = earliest_loads(steps);
    let local = vec![setup_of(document).local_player];
    let mut playback = Playback::new(Driver::<C>::new(deepest(steps) + 2, local), saved);
    let mut hashes = BTreeMap::new();
    let mut rollbacks = 0;
    for (step, floor) in steps.iter().zip(floors) {
        playback
            .driver
            .confirm(floor.min(playback.driver.frame()) - 1);
        rollbacks += u64::from(matches!(step, Step::Rollback { .. }));
        playback.play(world, step, |frame, checksum| {
            hashes.insert(frame, checksum.map(fold_checksum));
        });
        // Nothing reads the game's own events here: they would accumulate.
        if let Some(mut record) = world.get_resource_mut::<EpisodeRecord>() {
            record.take_confirmed(Frame::MAX).for_each(drop);
        }
    }
    // A file without a frame still has a first state.
    if steps.is_empty() {
        let checksum = playback.driver.save(world);
        hashes.insert(0, checksum.map(fold_checksum));
    }
    Ok(ReplayReport {
        frames: script.frames(),
        simulated: playback.simulated,
        rollbacks,
        hashes_checked: compared(document, &hashes).count() as u32,
        first_difference: first_difference::<C>(document, &script, &hashes),
        recorded_on: document.software.target.clone(),
        replayed_on: crate::record::software("", "").target,
    })
}

/// Per step, the earliest state that it or a later one loads.
fn earliest_loads<I>(steps: &[Step<I>]) -> Vec<Frame> {
    let mut earliest = Frame::MAX;
    let mut per_step: Vec<Frame> = steps
        .iter()
        .rev()
        .map(|step| {
            if let Step::Rollback { load, .. } = step {
                earliest = earliest.min(*load);
            }
            earliest
        })
        .collect();
    per_step.reverse();
    per_step
}

/// Depth of the deepest rollback.
fn deepest<I>(steps: &[Step<I>]) -> usize {
    let depth = steps.iter().map(|step| match step {
        Step::Advance { .. } => 0,
        Step::Rollback { inputs, .. } => inputs.len(),
    });
    depth.max().unwrap_or(0)
}

fn hashed_frames(document: &EpisodeDocument) -> impl Iterator<Item = usize> {
    let hashes = &document.sync.hashes;
    let every = hashes.every_frames as usize;
    (0..hashes.values.len())
        .filter(move |_| every > 0)
        .map(move |index| index * every)
}

/// Every hash of the file with its counterpart, in order of frames.
fn compared<'a>(
    document: &'a EpisodeDocument,
    replayed: &'a BTreeMap<Frame, Option<u64>>,
) -> impl Iterator<Item = (Frame, Hex64, Option<u64>)> + 'a {
    let values = document.sync.hashes.values.iter();
    hashed_frames(document)
        .zip(values)
        .filter_map(|(frame, recorded)| {
            let frame = Frame::try_from(frame).ok()?;
            Some((frame, (*recorded)?, *replayed.get(&frame)?))
        })
}

fn first_difference<C: Config>(
    document: &EpisodeDocument,
    script: &Script<C::Input>,
    replayed: &BTreeMap<Frame, Option<u64>>,
) -> Option<Difference> {
    let first = replayed.get(&0).copied().flatten();
    if let Some(recorded) = document.episode.initial_state_hash
        && first != Some(recorded.0)
    {
        return Some(Difference {
            kind: DifferenceKind::InitialState,
            frame: Some(0),
            recorded,
            replayed: first.map(Hex64),
        });
    }
    let state = compared(document, replayed)
        .find(|&(_, recorded, replayed)| replayed != Some(recorded.0))
        .map(|(frame, recorded, replayed)| Difference {
            kind: DifferenceKind::State,
            frame: Some(frame),
            recorded,
            replayed: replayed.map(Hex64),
        });
    state.or_else(|| {
        let recorded = document.sync.history_digest;
        let replayed = history_digest(document, script, replayed);
        (replayed != recorded.0).then_some(Difference {
            kind: DifferenceKind::HistoryDigest,
            frame: None,
            recorded,
            replayed: Some(Hex64(replayed)),
        })
    })
}

/// The digest of the replay: inputs as this game serializes them, hashes as computed here.
fn history_digest<I: Copy + PartialEq + serde::Serialize>(
    document: &EpisodeDocument,
    script: &Script<I>,
    replayed: &BTreeMap<Frame, Option<u64>>,
) -> u64 {
    let runs: Vec<Vec<_>> = (0..script.players())
        .map(|player| runs_of(script, player))
        .collect();
    let exported: BTreeMap<Frame, Option<u64>> = compared(document, replayed)
        .map(|(frame, _, hash)| (frame, hash))
        .collect();
    digest::of_runs(&runs, script.frames(), |frame| {
        *exported.get(&Frame::try_from(frame).ok()?)?
    })
}

/// One player's inputs as runs of equal values.
fn runs_of<I: Copy + PartialEq + serde::Serialize>(
    script: &Script<I>,
    player: usize,
) -> Vec<(serde_json::Value, u32)> {
    let inputs: Vec<I> = script
        .canonical()
        .iter()
        .filter_map(|step| match step {
            Step::Advance { inputs, .. } => Some(inputs[player].0),
            Step::Rollback { .. } => None,
        })
        .collect();
    inputs
        .chunk_by(|one, next| one == next)
        .map(|run| (input_json(&run[0]), run.len() as u32))
        .collect()
}
