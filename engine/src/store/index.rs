//! Which records of a batch write the rows that are asked for.
//!
//! A record is found by the stem of what it writes: whose row, or of which id.
//! The first reader who looks at a batch makes its index, for all who come
//! later; nobody who grabs does, and it goes when the batch goes.
//!
//! **Invariant:** every record that writes a row under a stem is found by it.
//! One that does not may be found as well, if two hashes are the same: readers
//! look at the keys themselves.

use super::keys::{self, Bytes, Table};
use super::projection::{RowSink, rows_of};
use super::{DurableBatch, StoreError};
use foldhash::fast::RandomState;
use std::hash::BuildHasher;
use std::sync::LazyLock;

/// One seed a process, so that nobody can choose user ids that collide.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// Hash and record number in one, sorted: eight bytes a row.
pub(super) struct Index(Box<[u64]>);

/// The hash under which a record is found that writes a row of `table` with this stem.
pub(super) fn hash(table: Table, stem: &[u8]) -> u32 {
    HASHER.hash_one((table as u8, stem)) as u32
}

impl Index {
    pub(super) fn of(batch: &DurableBatch) -> Result<Index, StoreError> {
        let mut written = Written { number: 0, found: Vec::new() };
        for record in batch.decoded(0..) {
            let (lsn, record) = record?;
            rows_of(lsn, &record, &mut written);
            written.number += 1;
        }
        written.found.sort_unstable();
        written.found.dedup();
        Ok(Index(written.found.into()))
    }

    /// Adds the numbers of the records found under `hash`, in order.
    pub(super) fn find(&self, hash: u32, numbers: &mut Vec<u32>) {
        // Hashes lie evenly, so it is known where one is to be found but for some places.
        let from = u64::from(hash) << 32;
        let guess = ((u64::from(hash) * self.0.len() as u64) >> 32) as usize;
        let above = self.0[..guess].iter().rev().take_while(|&&found| found >= from).count();
        let below = self.0[guess..].iter().take_while(|&&found| found < from).count();
        let found = self.0[guess - above + below..].iter().take_while(|&&found| found >> 32 == u64::from(hash));
        numbers.extend(found.map(|&found| found as u32));
    }
}

struct Written {
    number: u32,
    found: Vec<u64>,
}

impl RowSink for Written {
    fn wants(&self, _: Table) -> bool {
        true
    }

    fn put(&mut self, table: Table, key: Bytes, _: Option<Bytes>) {
        let hash = hash(table, keys::stem(table, &key));
        self.found.push(u64::from(hash) << 32 | u64::from(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{EntryKind, Page};
    use crate::event::{Event, WalletMoved, encode};
    use crate::store::{MemoryRows, Store, View};
    use crate::types::{Amount, Lsn, Timestamp, UserId};
    use std::collections::HashMap;
    use std::sync::Arc;

    fn deposit(user: &UserId, minor: u64) -> Vec<u8> {
        let amount = Amount::new(minor).unwrap();
        let kind = EntryKind::Deposit(None);
        let moved = WalletMoved { user: user.clone(), kind, amount, available_after: amount };
        let mut bytes = Vec::new();
        encode(Timestamp::from_ms(1), &[Event::WalletMoved(moved)], &mut bytes);
        bytes
    }

    fn view(records: &[Vec<u8>]) -> View {
        let store = Store::over(Arc::new(MemoryRows::default())).unwrap();
        store.view(vec![DurableBatch::copied(Lsn(1), records.iter().map(Vec::as_slice))]).unwrap()
    }

    #[test]
    fn whose_hash_is_the_same_does_not_get_the_others_rows() {
        let mut met = HashMap::new();
        let (one, other) = (0u32..)
            .find_map(|number| {
                let user = UserId::new(&format!("u{number}")).unwrap();
                Some((met.insert(hash(Table::Wallets, &keys::user(&user)), user.clone())?, user))
            })
            .unwrap();
        let view = view(&[deposit(&other, 2), deposit(&one, 1)]);
        for (user, minor) in [(&one, 1), (&other, 2)] {
            assert_eq!(view.wallet(user).unwrap().unwrap().available.minor(), minor);
        }
    }

    #[test]
    fn every_record_is_found_by_what_it_writes_and_hardly_another() {
        let users: Vec<UserId> = (0..3000).map(|number| UserId::new(&format!("u{}", number % 1000)).unwrap()).collect();
        let records: Vec<Vec<u8>> = users.iter().map(|user| deposit(user, 1)).collect();
        let index = Index::of(&DurableBatch::copied(Lsn(1), records.iter().map(Vec::as_slice))).unwrap();
        let mut others = 0;
        for (number, user) in (0..1000).zip(&users) {
            for (table, key) in [(Table::Wallets, keys::user(user)), (Table::Entries, keys::user_prefix(user))] {
                let mut found = Vec::new();
                index.find(hash(table, keys::stem(table, &key)), &mut found);
                assert!(found.is_sorted(), "{found:?}");
                assert!([number, number + 1000, number + 2000].iter().all(|number| found.contains(number)));
                others += found.len() - 3;
            }
        }
        assert!(others < 30, "{others}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_told_to_every_reader() {
        let user = UserId::new("bob").unwrap();
        let view = view(&[deposit(&user, 1), vec![1, 2, 3]]);
        for _ in 0..2 {
            assert!(matches!(view.wallet(&user), Err(StoreError::Record { lsn: 2, .. })));
            assert!(view.entries(&user, &Page { limit: 1, cursor: None }).is_err());
        }
    }
}
