//! Reads runs and deltas back into one value per frame.

use crate::{EpisodeDocument, LocalChange, TimesUs};

/// One frame of one file.
#[derive(Default)]
pub(super) struct FrameRow {
    pub frame: usize,
    pub at_us: u64,
    pub frame_time_us: Option<u64>,
    pub drawn_times: Option<u32>,
    pub late_frames: Option<u32>,
    pub late_players: u32,
    pub missing_players: u32,
    pub wrong_players: u32,
    pub stalled_ticks: u64,
}

/// A run of equal values with its first frame.
pub(super) struct Run<'a, T> {
    pub player_id: usize,
    pub frame: u64,
    pub frames: u32,
    pub value: &'a T,
}

/// Every time of a series.
pub(super) fn times(series: &TimesUs) -> impl Iterator<Item = u64> + '_ {
    let mut at = series.first;
    let deltas = series.deltas.iter().copied().map(Some).chain([None]);
    deltas.map_while(move |delta| {
        let this = at?;
        at = delta.map(|delta| this.saturating_add(delta));
        Some(this)
    })
}

/// Runs of one player with their first frames.
pub(super) fn runs<T>(player_id: usize, runs: &[(T, u32)]) -> impl Iterator<Item = Run<'_, T>> {
    let mut next = 0;
    runs.iter().map(move |(value, frames)| {
        let frame = next;
        next += u64::from(*frames);
        Run {
            player_id,
            frame,
            frames: *frames,
            value,
        }
    })
}

/// One row per frame that has a time.
pub(super) fn frames(document: &EpisodeDocument) -> Vec<FrameRow> {
    let timeline = &document.timeline;
    let mut rows: Vec<FrameRow> = Vec::new();
    for (frame, at_us) in times(&timeline.frame_at_us).enumerate() {
        rows.push(FrameRow {
            frame,
            at_us,
            frame_time_us: rows.last().map(|before| at_us - before.at_us),
            ..FrameRow::default()
        });
    }
    for run in timeline
        .drawn_frames
        .iter()
        .flat_map(|drawn| runs(0, drawn))
    {
        for row in part(&mut rows, run.frame, run.frames) {
            row.drawn_times = Some(*run.value);
        }
    }
    for lateness in &timeline.lateness {
        for run in runs(lateness.player_id, &lateness.runs) {
            for row in part(&mut rows, run.frame, run.frames) {
                match run.value {
                    Some(late) => row.late_frames = row.late_frames.max(Some(*late)),
                    None => row.missing_players += 1,
                }
                row.late_players += u32::from(*run.value != Some(0));
            }
        }
    }
    for shown in timeline
        .predicted_first
        .iter()
        .flat_map(|first| &first.runs)
    {
        let first = u64::try_from(shown.frame).unwrap_or(u64::MAX);
        for row in part(&mut rows, first, shown.count) {
            row.wrong_players += 1;
        }
    }
    for stall in &document.frames.stalls {
        let first = u64::try_from(stall.frame).unwrap_or(u64::MAX);
        for row in part(&mut rows, first, 1) {
            row.stalled_ticks += stall.ticks;
        }
    }
    rows
}

/// When and by which device a run of inputs began, if the player is local.
pub(super) fn change_of<'a, T>(
    document: &'a EpisodeDocument,
    run: &Run<'_, T>,
) -> Option<&'a LocalChange> {
    let changes = &document.inputs.local_changes;
    let from = changes.partition_point(|change| i64::from(change.frame) < run.frame.cast_signed());
    changes[from..]
        .iter()
        .take_while(|change| i64::from(change.frame) == run.frame.cast_signed())
        .find(|change| change.player_id == run.player_id)
}

/// The rows of some frames, as far as they exist.
fn part(rows: &mut [FrameRow], first: u64, count: u32) -> &mut [FrameRow] {
    let first = usize::try_from(first).unwrap_or(usize::MAX).min(rows.len());
    let last = first.saturating_add(count as usize).min(rows.len());
    &mut rows[first..last]
}
