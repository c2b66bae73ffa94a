//! The game's own data: annotations and frame-keyed events. An event of a simulation that was rolled
//! back does not reach the file, and no event reaches it twice.

use std::collections::BTreeMap;

use bevy::prelude::Resource;
use serde_json::Value;

use super::trace::Frame;

/// Adds the game's own data to the episode's file: `custom.annotations` and `custom.events`.
///
/// Systems in `GgrsSchedule` may call [`event`](Self::event) whenever they simulate a frame: when
/// the frame is simulated again its earlier events are replaced, and what is left is written once,
/// when the frame is confirmed.
///
/// ```
/// use bevy_rollback_lab::metrics::EpisodeRecord;
///
/// let mut record = EpisodeRecord::default();
/// record.annotate("difficulty", 3);
/// record.event(120, "goal", serde_json::json!({ "by": 0 }));
/// ```
#[derive(Resource, Clone, Debug, Default)]
pub struct EpisodeRecord {
    annotations: BTreeMap<String, Value>,
    pending: Vec<EventNote>,
    simulating: Option<Frame>,
}

/// One of the game's events.
#[derive(Clone, Debug, PartialEq)]
pub struct EventNote {
    /// The frame the game gave it.
    pub frame: Frame,
    /// The frame whose simulation raised it. `None` outside of a simulation.
    pub raised_in: Option<Frame>,
    /// Its name.
    pub name: String,
    /// Its content.
    pub data: Value,
}

impl EventNote {
    /// The frame that must be confirmed before the event is written, and that must lie before the
    /// episode's end.
    #[must_use]
    pub fn key(&self) -> Frame {
        self.raised_in.unwrap_or(self.frame)
    }
}

impl EpisodeRecord {
    /// Adds an annotation to the running episode, or to the next one if none runs. The last value of
    /// a key counts.
    pub fn annotate(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.annotations.insert(key.into(), value.into());
    }

    /// Adds an event that happened at a frame.
    ///
    /// Inside a simulation the event lives and falls with the frame being simulated, whatever
    /// `frame` says. Outside of one it is written once `frame` is confirmed.
    pub fn event(&mut self, frame: Frame, name: impl Into<String>, data: impl Into<Value>) {
        self.pending.push(EventNote {
            frame,
            raised_in: self.simulating,
            name: name.into(),
            data: data.into(),
        });
    }

    /// The simulation of `frame` starts: events that an earlier simulation of it or of a later
    /// frame raised are dropped. Called before the game's own systems.
    pub fn begin_frame(&mut self, frame: Frame) {
        // Nearly always the newest events are older than this frame; then nothing moves.
        self.pending
            .retain(|event| event.raised_in.is_none_or(|raised| raised < frame));
        self.simulating = Some(frame);
    }

    /// The simulation that [`begin_frame`](Self::begin_frame) named ended.
    pub fn end_frame(&mut self) {
        self.simulating = None;
    }

    /// Takes the events of frames up to `confirmed`, in the order in which they were raised.
    pub fn take_confirmed(&mut self, confirmed: Frame) -> impl Iterator<Item = EventNote> {
        self.pending
            .extract_if(.., move |event| event.key() <= confirmed)
    }

    pub(crate) fn take_annotations(&mut self) -> BTreeMap<String, Value> {
        std::mem::take(&mut self.annotations)
    }

    /// Drops the events that were not confirmed before their episode ended.
    pub(crate) fn drop_events(&mut self) {
        self.pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(record: &mut EpisodeRecord, confirmed: Frame) -> Vec<String> {
        record
            .take_confirmed(confirmed)
            .map(|event| event.name)
            .collect()
    }

    fn simulate(record: &mut EpisodeRecord, frame: Frame, name: Option<&str>) {
        record.begin_frame(frame);
        if let Some(name) = name {
            // Inside GgrsSchedule the frame count is already one further.
            record.event(frame + 1, name, frame);
        }
        record.end_frame();
    }

    #[test]
    fn an_event_of_a_frame_simulated_three_times_is_written_once() {
        let mut record = EpisodeRecord::default();
        for _ in 0..3 {
            simulate(&mut record, 4, Some("jump"));
            simulate(&mut record, 5, None);
        }
        assert_eq!(
            names(&mut record, 3),
            [""; 0],
            "frame 4 is not confirmed yet"
        );
        assert_eq!(names(&mut record, 4), ["jump"]);
        assert_eq!(names(&mut record, 99), [""; 0]);
    }

    #[test]
    fn an_event_that_the_correction_undid_is_forgotten() {
        let mut record = EpisodeRecord::default();
        simulate(&mut record, 3, Some("kept"));
        simulate(&mut record, 4, Some("wrong"));
        simulate(&mut record, 5, Some("wrong too"));
        simulate(&mut record, 4, None);
        simulate(&mut record, 5, Some("right"));
        assert_eq!(names(&mut record, 5), ["kept", "right"]);
    }

    #[test]
    fn an_event_from_outside_the_simulation_waits_for_its_frame() {
        let mut record = EpisodeRecord::default();
        record.event(7, "menu", Value::Null);
        simulate(&mut record, 2, None);
        assert_eq!(names(&mut record, 6), [""; 0]);
        assert_eq!(names(&mut record, 7), ["menu"]);
    }
}
