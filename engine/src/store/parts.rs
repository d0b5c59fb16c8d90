//! Values that are longer than a page of the disk, in parts that are not.
//!
//! A loss of power may lose a page of what fjall was writing. fjall finds the
//! end of its journal by a broken row; but where a lost page lies wholly inside
//! one value there is only a wrong checksum, and it does not open any more.
//!
//! **Invariant:** a row is written with less than a page. One of exactly
//! [`PART_BYTES`] goes on in [`Table::Parts`], and a shorter one is the last of
//! its value.

use super::damaged;
use super::keys::{Bytes, KeyRange, Table};
use super::rows::{RowChange, RowRead, Snapshot, StoreError};
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

/// The longest part.
pub(super) const PART_BYTES: usize = 3840;

// The longest key, what says which part it is, and fjall's own words about a row.
const _: () = assert!(PART_BYTES + 89 + 5 + 32 < PAGE_BYTES);

/// Where the part `number` of a value stands; the first, 0, stands where the
/// value belongs.
fn part_key(table: Table, key: &[u8], number: u32) -> Bytes {
    Bytes::from([&[table as u8], key, &number.to_be_bytes()].concat())
}

/// Where all further parts of a value stand, those too that an earlier and longer one has left.
pub(super) fn further(table: Table, key: &[u8]) -> KeyRange {
    KeyRange::prefix(&[&[table as u8], key].concat())
}

/// The same changes, values in parts. What an earlier and longer value leaves
/// behind its last part is never read.
pub(super) fn in_parts(mut changes: Vec<RowChange>) -> Vec<RowChange> {
    let mut further = Vec::new();
    for (table, key, value) in &mut changes {
        let Some(whole) = value.take_if(|value| value.len() >= PART_BYTES) else { continue };
        *value = Some(Bytes::from(&whole[..PART_BYTES]));
        let mut rest = &whole[PART_BYTES..];
        for number in 1.. {
            let (part, left) = rest.split_at(rest.len().min(PART_BYTES));
            further.push((Table::Parts, part_key(*table, key, number), Some(Bytes::from(part))));
            if part.len() < PART_BYTES {
                break;
            }
            rest = left;
        }
    }
    changes.append(&mut further);
    changes
}

/// What deletes a row with all its parts, given its value.
pub(super) fn deleted(table: Table, key: &[u8], value: &[u8]) -> impl Iterator<Item = RowChange> {
    let further = (1..=(value.len() / PART_BYTES) as u32).map(move |number| part_key(table, key, number));
    std::iter::once((table, Bytes::from(key), None)).chain(further.map(|key| (Table::Parts, key, None)))
}

/// A snapshot in which every value is whole.
pub(super) struct Whole(Arc<dyn Snapshot>);

impl Whole {
    pub(super) fn of(snapshot: impl Into<Arc<dyn Snapshot>>) -> Box<dyn Snapshot> {
        Box::new(Whole(snapshot.into()))
    }
}

impl Snapshot for Whole {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let first = self.0.get(table, key)?;
        first.map(|first| whole(&*self.0, table, key, first)).transpose()
    }

    fn scan(&self, table: Table, range: &KeyRange) -> Box<dyn Iterator<Item = RowRead> + Send> {
        let snapshot = Arc::clone(&self.0);
        Box::new(self.0.scan(table, range).map(move |row| {
            let (key, first) = row?;
            let value = whole(&*snapshot, table, &key, first)?;
            Ok((key, value))
        }))
    }
}

fn whole(snapshot: &dyn Snapshot, table: Table, key: &[u8], first: Bytes) -> Result<Bytes, StoreError> {
    if first.len() != PART_BYTES || table == Table::Parts {
        return Ok(first);
    }
    let mut value = first.to_vec();
    for number in 1.. {
        let part = snapshot.get(Table::Parts, &part_key(table, key, number))?.ok_or_else(|| damaged(table, key))?;
        value.extend_from_slice(&part);
        if part.len() != PART_BYTES {
            break;
        }
    }
    Ok(Bytes::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryRows, Rows};

    #[test]
    fn values_of_every_length_are_read_as_they_were_written() {
        const P: usize = PART_BYTES;
        let rows = MemoryRows::default();
        // Each also over what a longer and a shorter one has left.
        for length in [0, 1, P - 1, P, P + 1, 5 * P + 7, 2 * P, 2 * P - 1, 3 * P, 7, P, 3 * P + 1] {
            let value = Bytes::from((0..length).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
            let other = (Table::Envelopes, Bytes::from(b"other"), Some(Bytes::from(vec![1; P + 9])));
            let changes = in_parts(vec![(Table::Envelopes, Bytes::from(b"it"), Some(value.clone())), other]);
            assert!(changes.iter().all(|(_, _, value)| value.as_ref().is_none_or(|value| value.len() <= P)));
            rows.commit(changes).unwrap();
            let snapshot = Whole::of(rows.snapshot());
            assert!(snapshot.get(Table::Envelopes, b"it").unwrap() == Some(value.clone()), "{length}");
            let scanned: Vec<_> = snapshot.scan(Table::Envelopes, &KeyRange::all()).map(Result::unwrap).collect();
            assert!(scanned[0].1 == value && scanned[1].1.len() == P + 9, "{length}");
            let parts = snapshot.scan(Table::Parts, &KeyRange::all()).map(Result::unwrap).count();
            assert!(parts > length / P, "{length}");
            if length == 3 * P {
                rows.commit(deleted(Table::Envelopes, b"it", &value).collect()).unwrap();
                let snapshot = rows.snapshot();
                assert_eq!(snapshot.get(Table::Envelopes, b"it").unwrap(), None);
                assert_eq!(snapshot.get(Table::Parts, &part_key(Table::Envelopes, b"it", 3)).unwrap(), None);
            }
        }
    }

    #[test]
    fn a_value_without_one_of_its_parts_is_damaged() {
        let rows = MemoryRows::default();
        let value = Some(Bytes::from(vec![1; 2 * PART_BYTES]));
        rows.commit(in_parts(vec![(Table::Memos, Bytes::from(b"it"), value)])).unwrap();
        rows.commit(vec![(Table::Parts, part_key(Table::Memos, b"it", 2), None)]).unwrap();
        let read = Whole::of(rows.snapshot()).get(Table::Memos, b"it");
        assert!(matches!(read, Err(StoreError::Damaged { table: "memos", .. })), "{read:?}");
    }
}
