//! A store of form 1, in which every value stood in one row however long it was, read as the rows of
//! this form. In everything else the two are the same.

use super::keys::{Bytes, KeyRange, Table};
use super::picture::Row;
use super::{FORMAT, FORMAT_KEY, Position, Rows, Snapshot, StoreError, damaged, parts, position_of, values};
use std::collections::BTreeMap;

/// The form that is read here.
pub(crate) const FORM: u32 = 1;

/// The form of `rows`; nothing where there are none yet.
pub(crate) fn form_of(snapshot: &dyn Snapshot) -> Result<Option<u32>, StoreError> {
    let form = snapshot.get(Table::Meta, FORMAT_KEY)?;
    form.map(|form| values::cold(&form).ok_or_else(|| damaged(Table::Meta, FORMAT_KEY))).transpose()
}

/// The rows of a store of form 1.
pub(crate) struct Form1 {
    snapshot: Box<dyn Snapshot>,
    /// After which record they stand.
    pub(crate) position: Position,
    /// What does not fit into one row any more, by its key in [`Table::Parts`]. Only metadata and the answers that repeat
    /// it are so long.
    further: BTreeMap<Bytes, Bytes>,
}

impl Form1 {
    /// Those of `rows`.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub(crate) fn of(rows: &dyn Rows) -> Result<Form1, StoreError> {
        let snapshot = rows.snapshot();
        let position = position_of(&*snapshot)?;
        let mut further = BTreeMap::new();
        for &table in Table::ALL {
            for row in snapshot.scan(table, &KeyRange::all()) {
                let (key, value) = row?;
                let in_parts = parts::in_parts(vec![(table, key, Some(value))]).into_iter().skip(1);
                further.extend(in_parts.filter_map(|(_, key, part)| Some((key, part?))));
            }
        }
        Ok(Form1 { snapshot, position, further })
    }

    /// The same rows in this build's form, as [`Store::of_rows`](super::Store::of_rows) takes them.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<Row, StoreError>> {
        Table::ALL.iter().flat_map(|&table| {
            let further = (table == Table::Parts).then(|| self.further.iter()).into_iter().flatten();
            let further = further.map(move |(key, part)| Ok((table, key.clone(), part.clone())));
            let own = self.snapshot.scan(table, &KeyRange::all()).map(move |row| {
                let (key, value) = row?;
                if table == Table::Meta && *key == *FORMAT_KEY {
                    return Ok((table, key, values::put_cold(&FORMAT)));
                }
                let first = parts::in_parts(vec![(table, key, Some(value))]).into_iter().next();
                let (table, key, value) = first.expect("a change stays one, and more behind it");
                Ok((table, key, value.expect("it was put")))
            });
            own.chain(further)
        })
    }
}
