//! All rows of a store as they were after one record, as they lie in its tables,
//! and a store made of such rows.
//!
//! **Invariant:** a picture is of one commit: its rows are exactly those of the
//! records up to its position, however long it is read.

use super::keys::{KeyRange, Table};
use super::{
    Bytes, FORMAT, FORMAT_KEY, FjallOptions, FjallRows, Position, Rows, Snapshot, Store, StoreError, position_of,
};
use super::{damaged, parts, projection, values};
use crate::backend::OnceKey;
use crate::erase::Erasure;
use crate::event::EnvelopeCreated;
use crate::gift::Gift;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

/// A row and its table.
pub(crate) type Row = (Table, Bytes, Bytes);

/// All rows as they were after one record.
pub(crate) struct Picture {
    snapshot: Arc<dyn Snapshot>,
    position: Position,
    count_about: u64,
    /// Rows that are told otherwise than they lie there, or not at all.
    changed: BTreeMap<(Table, Bytes), Option<Bytes>>,
}

impl Picture {
    /// After which record, and what added up until then.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// About how many rows there are.
    pub(crate) fn count_about(&self) -> u64 {
        self.count_about
    }

    /// Every row, table by table, each in the order of its keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<Row, StoreError>> {
        Table::ALL.iter().flat_map(move |&table| {
            self.snapshot.scan(table, &KeyRange::all()).filter_map(move |row| {
                let row = row.map(|(key, value)| (table, key, value));
                match &row {
                    Ok((_, key, _)) if !self.changed.is_empty() => match self.changed.get(&(table, key.clone())) {
                        Some(changed) => changed.clone().map(|value| Ok((table, key.clone(), value))),
                        None => Some(row),
                    },
                    _ => Some(row),
                }
            })
        })
    }

    /// The same rows without the texts that `erasure` takes out, and how many had some.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn without(mut self, erasure: &Erasure) -> Result<(Picture, u64), StoreError> {
        let whole = parts::Whole::of(Arc::clone(&self.snapshot));
        let mut count = 0;
        for id in erasure.envelopes() {
            let Some(value) = whole.get(Table::Envelopes, id.bytes())? else { continue };
            let wrong = || damaged(Table::Envelopes, id.bytes());
            let mut created = values::cold::<EnvelopeCreated>(&value).ok_or_else(wrong)?;
            count += u64::from(erasure.created(&mut created));
            self.put(Table::Envelopes, Bytes::from(id.bytes()), values::put_cold(&created))?;
        }
        for id in erasure.gifts() {
            let Some(value) = whole.get(Table::Gifts, id.bytes())? else { continue };
            let mut gift = values::cold::<Gift>(&value).ok_or_else(|| damaged(Table::Gifts, id.bytes()))?;
            count += u64::from(erasure.gift(&mut gift));
            self.put(Table::Gifts, Bytes::from(id.bytes()), values::put_cold(&gift))?;
        }
        for row in whole.scan(Table::Memos, &KeyRange::all()) {
            let (key, value) = row?;
            if !erasure.is_named_in(&value) {
                continue;
            }
            let wrong = || damaged(Table::Memos, &key);
            let once = OnceKey::from_bytes(*key.first_chunk().ok_or_else(wrong)?);
            let mut memo = projection::memo(once, &value).ok_or_else(wrong)?;
            count += u64::from(erasure.answer(&mut memo.answer));
            self.put(Table::Memos, key, projection::put_memo(&memo))?;
        }
        Ok((self, count))
    }

    /// Tells `value` for what lies under `key`, and nothing of what longer ones have left behind it.
    fn put(&mut self, table: Table, key: Bytes, value: Bytes) -> Result<(), StoreError> {
        for row in self.snapshot.scan(Table::Parts, &parts::further(table, &key)) {
            self.changed.insert((Table::Parts, row?.0), None);
        }
        let changes = parts::in_parts(vec![(table, key, Some(value))]);
        self.changed.extend(changes.into_iter().map(|(table, key, value)| ((table, key), value)));
        Ok(())
    }
}

impl Store {
    /// All rows as they are now.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn picture(&self) -> Result<Picture, StoreError> {
        // Values stay in parts: a row of a picture is one of the table's.
        let snapshot: Arc<dyn Snapshot> = self.rows.snapshot().into();
        let position = position_of(&*snapshot)?;
        Ok(Picture { snapshot, position, count_about: self.rows.count_about(), changed: BTreeMap::new() })
    }

    /// Makes a store in `directory`, which must have none, of rows in the order in
    /// which [`Picture::rows`] tells them.
    ///
    /// # Errors
    /// The first among the rows, or [`StoreError`] if they are of another format
    /// or cannot be written.
    pub(crate) fn of_rows<E: From<StoreError>>(
        directory: &Path,
        rows: impl Iterator<Item = Result<Row, E>>,
    ) -> Result<Store, E> {
        // Nothing is read, and no row goes through a memtable.
        let options = FjallOptions { cache_bytes: 8 << 20, ..FjallOptions::default() };
        let filled = FjallRows::open(directory, options)?;
        let mut rows = rows.peekable();
        for &table in Table::ALL {
            let mut of_table = OfTable { rows: &mut rows, table };
            filled.fill(table, &mut of_table)?;
        }
        match rows.next() {
            Some(Ok((table, key, _))) => return Err(damaged(table, &key).into()),
            Some(Err(error)) => return Err(error),
            None => {}
        }
        let format = filled.snapshot().get(Table::Meta, FORMAT_KEY)?;
        if format.as_deref() != Some(&*values::put_cold(&FORMAT)) {
            return Err(damaged(Table::Meta, FORMAT_KEY).into());
        }
        filled.persist()?;
        Ok(Store::over(Arc::new(filled))?)
    }
}

/// The rows of one table, which are the next.
struct OfTable<'a, I: Iterator> {
    rows: &'a mut Peekable<I>,
    table: Table,
}

impl<E, I: Iterator<Item = Result<Row, E>>> Iterator for OfTable<'_, I> {
    type Item = Result<(Bytes, Bytes), E>;

    fn next(&mut self) -> Option<Self::Item> {
        let table = self.table;
        let row = self.rows.next_if(|row| row.as_ref().map_or(true, |(of, _, _)| *of == table))?;
        Some(row.map(|(_, key, value)| (key, value)))
    }
}
