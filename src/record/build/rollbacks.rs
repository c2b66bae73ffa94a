//! Builds `rollbacks`: every rollback before the end, with its cause and its path.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Cut;
use crate::metrics::{RollbackRow, input_json, micros};
use rollback_lab_record::{AlsoMispredicted, Path, RollbackEvent, Rollbacks, Via};

impl<I: Copy + PartialEq + Serialize> Cut<'_, I> {
    pub(super) fn rollbacks(&self) -> Rollbacks {
        let rows = self.of.rollbacks.iter();
        let events: Vec<RollbackEvent> = rows
            .filter(|row| self.keeps(row.record.frame))
            .map(|row| self.rollback_event(row))
            .collect();
        let mut by_cause = BTreeMap::new();
        for event in &events {
            *by_cause.entry(event.cause).or_insert(0) += 1;
        }
        let depths = events.iter().map(|event| event.rollback_frames);
        let sum: u64 = depths.clone().map(u64::from).sum();
        Rollbacks {
            count: events.len() as u64,
            max_frames: depths.max().unwrap_or(0),
            mean_frames: (!events.is_empty()).then(|| sum as f64 / events.len() as f64),
            resimulated_frames: events
                .iter()
                .map(|event| u64::from(event.resimulated_frames))
                .sum(),
            resim_time_us: events.iter().map(|event| event.resim_time_us).sum(),
            by_cause,
            reloads_without_correction: self
                .of
                .reloads
                .iter()
                .filter(|&&frame| self.keeps(frame))
                .count() as u64,
            events,
        }
    }

    fn rollback_event(&self, row: &RollbackRow<I>) -> RollbackEvent {
        let record = &row.record;
        let also = self.of.also[row.also.clone()].iter();
        RollbackEvent {
            frame: record.frame,
            current_frame: record.current_frame,
            rollback_frames: record.rollback_frames(),
            player_id: record.player,
            predicted_action: record.predicted.as_ref().map(input_json),
            actual_action: record.actual.as_ref().map(input_json),
            timestamp: self.unix_ms(record.at),
            rollback_id: record.id,
            at_us: micros(record.at),
            loaded_frame: record.loaded_frame,
            resimulated_frames: record.resimulated,
            resim_time_us: micros(record.resim_time),
            cause: record.cause,
            late_by_frames: record.late_by_frames,
            via: self.via(row),
            evidence: record.evidence.rounded(),
            also_mispredicted: also
                .filter(|pair| self.keeps(pair.frame))
                .map(|pair| AlsoMispredicted {
                    frame: pair.frame,
                    player_id: pair.player,
                    predicted_action: input_json(&pair.predicted),
                    actual_action: input_json(&pair.actual),
                })
                .collect(),
        }
    }

    /// The path of the first copy of the corrected input, which may be another one than the route in
    /// use. Where no copy was seen it is that route.
    fn via(&self, row: &RollbackRow<I>) -> Via {
        let (player, frame) = (row.record.player, row.record.frame);
        let received = self.of.received.get(player);
        let path = u32::try_from(frame)
            .ok()
            .and_then(|frame| received?.at(frame)?);
        match path {
            Some(Path::Relay) => Via::Relay,
            Some(Path::Direct) if row.record.via == Via::Turn || self.has_turn(player) => Via::Turn,
            Some(Path::Direct) => Via::Direct,
            None => row.record.via,
        }
    }

    /// Whether the direct path to `player` led through a TURN server.
    fn has_turn(&self, player: usize) -> bool {
        let link = self.of.links.get(&player);
        link.is_some_and(|link| link.connection.has_turn())
    }
}
