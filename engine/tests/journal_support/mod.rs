//! What the journal's tests share: small segments, records that say their LSN.

#![allow(dead_code)]

#[path = "../random/mod.rs"]
pub(crate) mod random;

use hongbao_engine::journal::{FailureAction, Journal, JournalError, JournalOptions, Recovery};
use hongbao_engine::storage::faulty::FaultyDisk;
use hongbao_engine::types::Lsn;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub(crate) const SEGMENT_BYTES: u64 = 64 << 10;

pub(crate) fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: SEGMENT_BYTES,
        spare_segments: 1,
        ballast_bytes: 0,
        record_bytes_max: 2_000,
        threads_max: 0,
        threaded: false,
        on_failure: FailureAction::Poison,
        ..JournalOptions::default()
    }
}

/// The record of an LSN in a life: both, and bytes that depend on them, up to a few hundred.
pub(crate) fn record_of(lsn: u64, life: u64) -> Vec<u8> {
    let mut bytes = [lsn.to_le_bytes(), life.to_le_bytes()].concat();
    let more = (lsn + (life << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    bytes.extend_from_slice(&vec![more as u8; (more % 300) as usize]);
    bytes
}

pub(crate) fn record(lsn: u64) -> Vec<u8> {
    record_of(lsn, 0)
}

pub(crate) fn records(lsns: RangeInclusive<u64>) -> Vec<(u64, Vec<u8>)> {
    lsns.map(|lsn| (lsn, record(lsn))).collect()
}

pub(crate) type Opened = (Journal, Recovery, Vec<(u64, Vec<u8>)>);

pub(crate) fn open(disk: &FaultyDisk, options: JournalOptions, after: Lsn) -> Result<Opened, JournalError> {
    let mut seen = Vec::new();
    let mut replay = |lsn: Lsn, bytes: &[u8]| {
        seen.push((lsn.0, bytes.to_vec()));
        Ok(())
    };
    let (journal, recovery) = Journal::open(Arc::new(disk.clone()), options, after, &mut replay, Box::new(|_| {}))?;
    Ok((journal, recovery, seen))
}

/// A journal that is written to record by record, and a store that applies at once when asked.
pub(crate) struct Story {
    pub(crate) journal: Journal,
    applied: u64,
}

impl Story {
    pub(crate) fn of(journal: Journal) -> Story {
        Story { journal, applied: 0 }
    }

    pub(crate) fn start(disk: &FaultyDisk) -> Story {
        Story::of(open(disk, options(), Lsn(0)).expect("the disk is sound").0)
    }

    /// Stages the next `count` records.
    pub(crate) fn stage(&mut self, count: u64) {
        for _ in 0..count {
            let lsn = self.journal.staged_lsn().next();
            assert_eq!(self.journal.stage(|buffer| buffer.extend(record(lsn.0))), lsn);
        }
    }

    pub(crate) fn pump(&mut self) {
        assert_eq!(self.journal.pump(), Ok(true));
    }

    /// Gives the journal a chance to prepare what it lacks.
    pub(crate) fn pump_idle(&mut self) {
        assert_eq!(self.journal.pump(), Ok(false));
    }

    /// The store applies and persists everything durable.
    pub(crate) fn release_all(&mut self) {
        self.applied = self.journal.durable_lsn().0;
        self.journal.release_through(Lsn(self.applied));
    }

    /// What the store has persisted.
    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn close(self) {
        self.journal.close().expect("the disk is sound");
    }
}
