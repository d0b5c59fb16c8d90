//! Durable records on their way from the journal to the projector.
//!
//! **Invariant:** a batch is never empty and its LSNs follow each other.

use super::StoreError;
use super::index::Index;
use crate::event::Record;
use crate::types::Lsn;
use std::sync::{Arc, OnceLock};

/// Where a batch's records are; the journal's own batches stay where they are.
pub trait RecordSource: Send + Sync {
    /// The records in order, as they were encoded.
    fn records(&self) -> Box<dyn Iterator<Item = &[u8]> + '_>;
}

/// Records that are durable, in order; cheap to clone.
#[derive(Clone)]
pub struct DurableBatch {
    first_lsn: Lsn,
    count: u32,
    bytes: usize,
    kept: Arc<Kept<dyn RecordSource>>,
}

/// What all clones of a batch share.
struct Kept<S: ?Sized> {
    index: OnceLock<Result<Index, StoreError>>,
    source: S,
}

impl DurableBatch {
    /// `count` records of `bytes` in all, of which the first has `first_lsn`.
    ///
    /// # Panics
    /// If there is none.
    pub fn over(first_lsn: Lsn, count: u32, bytes: usize, source: impl RecordSource + 'static) -> DurableBatch {
        assert!(count > 0, "a batch holds at least one record");
        DurableBatch { first_lsn, count, bytes, kept: Arc::new(Kept { index: OnceLock::new(), source }) }
    }

    /// A copy of `records`, of which the first has `first_lsn`.
    ///
    /// # Panics
    /// If there is none.
    pub fn copied<'a>(first_lsn: Lsn, records: impl IntoIterator<Item = &'a [u8]>) -> DurableBatch {
        let mut gathered = Gathered::default();
        records.into_iter().for_each(|record| gathered.push(record));
        gathered.batch(first_lsn)
    }

    /// The LSN of the first record.
    pub fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// The LSN of the record that follows the last.
    pub fn end_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 + u64::from(self.count))
    }

    /// How much memory its records take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The records in order.
    pub fn records(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        self.kept.source.records()
    }

    /// The records of these numbers, which count from 0 and ascend, up to the
    /// last record.
    pub(super) fn decoded(
        &self,
        numbers: impl IntoIterator<Item = u32>,
    ) -> impl Iterator<Item = Result<(Lsn, Record), StoreError>> {
        let mut records = self.records();
        let mut next = 0;
        numbers.into_iter().map_while(move |number| {
            let bytes = records.nth((number - next) as usize)?;
            next = number + 1;
            let lsn = Lsn(self.first_lsn.0 + u64::from(number));
            let record = Record::decode(bytes).map_err(|why| StoreError::Record { lsn: lsn.0, why: why.to_string() });
            Some(record.map(|record| (lsn, record)))
        })
    }

    /// By what its records are found; made when it is first asked for.
    pub(super) fn index(&self) -> Result<&Index, StoreError> {
        self.kept.index.get_or_init(|| Index::of(self)).as_ref().map_err(Clone::clone)
    }
}

/// Gathers the records that a start replays one by one into batches.
#[derive(Default)]
pub struct Replayed {
    first_lsn: Lsn,
    gathered: Gathered,
}

impl Replayed {
    /// Bytes after which a batch is handed on.
    const BATCH_BYTES: usize = 1 << 20;

    /// Takes the record that follows, and gives a batch when there is enough for one.
    pub fn push(&mut self, lsn: Lsn, record: &[u8]) -> Option<DurableBatch> {
        if self.gathered.ends.is_empty() {
            self.first_lsn = lsn;
        }
        assert!(
            lsn.0 == self.first_lsn.0 + self.gathered.ends.len() as u64,
            "records are replayed in order and without a gap"
        );
        self.gathered.push(record);
        if self.gathered.bytes.len() >= Self::BATCH_BYTES { self.rest() } else { None }
    }

    /// The records that are left.
    pub fn rest(&mut self) -> Option<DurableBatch> {
        if self.gathered.ends.is_empty() {
            return None;
        }
        Some(std::mem::take(&mut self.gathered).batch(self.first_lsn))
    }
}

/// Records one after the other, and where each ends.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Gathered {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    fn batch(self, first_lsn: Lsn) -> DurableBatch {
        DurableBatch::over(first_lsn, self.ends.len() as u32, self.bytes.len(), self)
    }
}

impl RecordSource for Gathered {
    fn records(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        Box::new(starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replayed_records_come_out_as_they_went_in() {
        let records: Vec<Vec<u8>> = (0..5000u32).map(|i| vec![i as u8; (i % 700) as usize]).collect();
        let mut replayed = Replayed::default();
        let mut batches = Vec::new();
        for (lsn, record) in (8..).map(Lsn).zip(&records) {
            batches.extend(replayed.push(lsn, record));
        }
        batches.extend(replayed.rest());
        assert!(batches.len() > 1 && replayed.rest().is_none());
        assert_eq!(batches[0].first_lsn(), Lsn(8));
        assert!(batches.windows(2).all(|pair| pair[0].end_lsn() == pair[1].first_lsn()));
        let out: Vec<&[u8]> = batches.iter().flat_map(DurableBatch::records).collect();
        assert_eq!(out, records.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(batches.iter().map(DurableBatch::bytes).sum::<usize>(), records.concat().len());
    }
}
