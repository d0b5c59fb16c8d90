//! What the journal's tests share: small segments, records that say their LSN.

#![allow(dead_code)]

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

/// The record of an LSN: itself, and bytes that depend on it, up to a few hundred.
pub(crate) fn record(lsn: u64) -> Vec<u8> {
    let mut bytes = lsn.to_le_bytes().to_vec();
    let more = lsn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    bytes.extend((0..more % 300).map(|i| (more + i) as u8));
    bytes
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

/// A journal that is written to record by record.
pub(crate) struct Story {
    pub(crate) journal: Journal,
}

impl Story {
    pub(crate) fn start(disk: &FaultyDisk) -> Story {
        Story { journal: open(disk, options(), Lsn(0)).expect("the disk is sound").0 }
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

    pub(crate) fn close(self) {
        self.journal.close().expect("the disk is sound");
    }
}
