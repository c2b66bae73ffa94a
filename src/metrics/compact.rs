//! The compact series that an episode is kept in: runs of equal values, and times as distances.

use std::time::Duration;

/// Values in order, equal neighbours as one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Runs<T> {
    runs: Vec<(T, u32)>,
    len: u32,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self {
            runs: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Copy + PartialEq> Runs<T> {
    pub(crate) fn push(&mut self, value: T) {
        self.push_many(value, 1);
    }

    pub(crate) fn push_many(&mut self, value: T, count: u32) {
        if count == 0 {
            return;
        }
        self.len += count;
        match self.runs.last_mut() {
            Some((last, run)) if *last == value => *run += count,
            _ => self.runs.push((value, count)),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The runs of the first `limit` values.
    pub(crate) fn up_to(&self, limit: u32) -> impl Iterator<Item = (T, u32)> {
        self.runs.iter().scan(limit, |left, &(value, count)| {
            let count = count.min(*left);
            *left -= count;
            (count > 0).then_some((value, count))
        })
    }

    /// The value at `index`.
    pub(crate) fn at(&self, index: u32) -> Option<T> {
        let mut after = 0;
        let mut runs = self.runs.iter();
        runs.find(|(_, count)| {
            after += count;
            after > index
        })
        .map(|&(value, _)| value)
    }

    /// How many of the first `limit` values equal `value`.
    pub(crate) fn count(&self, value: T, limit: u32) -> u64 {
        let runs = self.up_to(limit).filter(|(of, _)| *of == value);
        runs.map(|(_, count)| u64::from(count)).sum()
    }
}

/// Rising times, each kept as microseconds since the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Times {
    first: Option<u64>,
    last: u64,
    deltas: Vec<u32>,
}

impl Times {
    /// A time before the last one counts as the last one; a distance beyond 71 minutes as those.
    pub(crate) fn push(&mut self, at: Duration) {
        let at = micros(at);
        if self.first.is_none() {
            self.first = Some(at);
            self.last = at;
            return;
        }
        let delta = u32::try_from(at.saturating_sub(self.last)).unwrap_or(u32::MAX);
        self.deltas.push(delta);
        self.last += u64::from(delta);
    }

    /// The times from the first on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        let deltas = self.deltas.iter();
        self.first.into_iter().flat_map(move |first| {
            let rest = deltas.clone().scan(first, |at, &delta| {
                *at += u64::from(delta);
                Some(*at)
            });
            std::iter::once(first).chain(rest)
        })
    }

    /// The distances between the first `limit` times.
    pub(crate) fn deltas(&self, limit: u32) -> &[u32] {
        let count = limit.saturating_sub(1) as usize;
        self.deltas.get(..count).unwrap_or(&self.deltas)
    }
}

pub(crate) fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_the_limit() {
        let mut runs = Runs::default();
        for value in [1, 1, 2, 2, 2, 1] {
            runs.push(value);
        }
        assert_eq!(runs.up_to(4).collect::<Vec<_>>(), [(1, 2), (2, 2)]);
        assert_eq!(runs.up_to(9).collect::<Vec<_>>(), [(1, 2), (2, 3), (1, 1)]);
        assert_eq!((runs.count(1, 5), runs.count(1, 6), runs.len()), (2, 3, 6));
        let values: Vec<_> = (0..7).map(|index| runs.at(index)).collect();
        let wanted = [1, 1, 2, 2, 2, 1].map(Some);
        assert_eq!((&values[..6], values[6]), (&wanted[..], None));
    }

    #[test]
    fn times_come_back_as_they_went_in() {
        let mut times = Times::default();
        let at = [5, 5, 16_672, 33_340];
        at.iter()
            .for_each(|&us| times.push(Duration::from_micros(us)));
        assert_eq!(times.iter().collect::<Vec<_>>(), at);
        assert_eq!(times.deltas(3), [0, 16_667]);
        assert_eq!(times.deltas(0), [0u32; 0]);
        assert_eq!(times.deltas(100).len(), 3);
    }
}
