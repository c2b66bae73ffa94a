//! When the devices of the local players changed: what a platform says about the moment of an
//! event, and which change of the game's input it led to.

use std::time::Duration;

use bevy::prelude::{Reflect, ReflectResource, Resource};

/// Names of devices kept at most. A game with more makes them up.
const MAX_DEVICES: usize = 8;

/// Reports which device changed the local input, and when: `inputs.localChanges` of the file.
///
/// Call [`changed`](Self::changed) once per change, when the game reads its devices. The platform
/// may report before when the event really happened, with
/// [`platform_event`](Self::platform_event): `WebPlugin` does so for `keyboard`, `mouse` and
/// `touch`. Times are those of the [`LabClock`](crate::clock::LabClock).
///
/// ```
/// use bevy_rollback_lab::metrics::InputTiming;
/// use std::time::Duration;
///
/// let mut timing = InputTiming::default();
/// timing.platform_event("keyboard", Duration::from_millis(12)); // a browser's event.timeStamp
/// timing.changed("keyboard", Duration::from_millis(15)); // the game found the key down
/// ```
#[derive(Resource, Reflect, Clone, Debug, Default)]
#[reflect(Resource)]
pub struct InputTiming {
    platform: Vec<(&'static str, Duration)>,
    changes: Vec<DeviceNote>,
}

/// One change of the local input.
#[derive(Reflect, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceNote {
    /// When the game read it.
    pub seen_at: Duration,
    /// Which device.
    pub device: &'static str,
    /// When the device says it happened.
    pub device_at: Option<Duration>,
}

impl InputTiming {
    /// The platform saw an event of `device` at `at`. Repeats of a held key are none.
    pub fn platform_event(&mut self, device: &'static str, at: Duration) {
        let known = self.platform.iter_mut().find(|(known, _)| *known == device);
        if let Some((_, last)) = known {
            *last = at;
        } else if self.platform.len() < MAX_DEVICES {
            self.platform.push((device, at));
        }
    }

    /// The local input changed by `device`; the game found that `now`, before it is sampled. The
    /// last event of that device since the change before explains it.
    pub fn changed(&mut self, device: &'static str, now: Duration) {
        let place = self.platform.iter().position(|(known, _)| *known == device);
        let device_at = place.map(|place| self.platform.swap_remove(place).1);
        self.changes.push(DeviceNote {
            seen_at: now,
            device,
            // A platform clock that runs ahead of ours is no evidence.
            device_at: device_at.filter(|at| *at <= now),
        });
    }

    /// The changes since the last call.
    pub(super) fn take(&mut self) -> std::vec::Drain<'_, DeviceNote> {
        self.changes.drain(..)
    }

    /// Whether there is nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// The change that was seen last after `after` and not later than `until`.
pub(crate) fn explains(
    notes: &[DeviceNote],
    after: Option<u64>,
    until: u64,
) -> Option<&DeviceNote> {
    let micros = super::micros;
    let end = notes.partition_point(|note| micros(note.seen_at) <= until);
    let note = notes.get(end.checked_sub(1)?)?;
    after
        .is_none_or(|after| micros(note.seen_at) > after)
        .then_some(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_change_takes_the_last_event_of_its_own_device_and_takes_it_once() {
        let mut timing = InputTiming::default();
        timing.platform_event("keyboard", ms(3));
        timing.platform_event("keyboard", ms(5));
        timing.platform_event("touch", ms(6));
        timing.changed("keyboard", ms(8));
        timing.changed("keyboard", ms(20));
        let seen: Vec<_> = timing.take().collect();
        assert_eq!(seen[0].device_at, Some(ms(5)));
        assert_eq!(
            seen[1].device_at, None,
            "no event explains the second change"
        );
        assert!(timing.is_empty());
    }

    #[test]
    fn an_event_from_the_future_is_no_evidence() {
        let mut timing = InputTiming::default();
        timing.platform_event("keyboard", ms(9));
        timing.changed("keyboard", ms(8));
        assert_eq!(timing.take().next().unwrap().device_at, None);
    }

    #[test]
    fn only_a_change_seen_since_the_sample_before_explains_a_sample() {
        let note = |at| DeviceNote {
            seen_at: ms(at),
            device: "keyboard",
            device_at: None,
        };
        let notes = [note(10), note(20), note(40)];
        let found = |after: Option<u64>, until: u64| {
            explains(&notes, after.map(|ms: u64| ms * 1000), until * 1000).map(|note| note.seen_at)
        };
        assert_eq!(found(Some(5), 25), Some(ms(20)));
        assert_eq!(found(Some(20), 30), None);
        assert_eq!(found(None, 5), None);
        assert_eq!(found(None, 99), Some(ms(40)));
    }
}
