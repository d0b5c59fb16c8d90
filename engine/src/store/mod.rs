//! The store: a projection of the durable journal into rows on disk. It holds
//! history, what is cold, and what the next start needs; the journal stays the
//! truth. Nobody who grabs waits for it.
//!
//! - `keys.rs`, `values.rs`: where a row stands and what its bytes are
//! - `rows.rs`: what is asked of where rows are kept; `fjall_rows.rs` on disk,
//!   `memory_rows.rs` in memory
//! - `parts.rs`: long values, in rows of less than a page
//! - `projection.rs`: from events to rows, purely
//! - `batch.rs`: durable records on their way here
//! - `index.rs`: which of them write the rows that are asked for
//! - `projector.rs`: the thread that writes what has become durable
//! - `reads.rs`: what the engine loads, by key or at its start
//! - `history.rs`: lists that hold everything durable, written yet or not
//! - `statements.rs`: what merchants have, and how it came to that
//! - `audit.rs`, `audit_gifts.rs`, `audit_groups.rs`, `audit_merchants.rs`, `audit_payouts.rs`, `audit_sales.rs`: every invariant, checked from the rows
//! - `copy.rs`: everything, out of a store and into one (with the feature `redis`)
//! - `period.rs`: what happened in a time, as it was at its end
//! - `form_1.rs`: the rows of a store of the form before
//! - `picture.rs`: all rows as they lie there, for a backup, and a store of them
//!
//! **Invariant:** the rows are exactly those of the records up to
//! [`Store::applied_lsn`]: all rows of a record, their [`Position`] and thereby
//! the money totals are written in one commit, in the order of the journal.
//!
//! **Invariant:** only [`Store::project`], [`Store::purge_memos`],
//! [`Store::put_setting`], [`Store::checkpoint`], [`Store::reopen`] and a copy
//! write, one at a time.

mod audit;
mod audit_codes;
mod audit_gifts;
mod audit_groups;
mod audit_merchants;
mod audit_payments;
mod audit_payouts;
mod audit_relations;
mod audit_sales;
mod batch;
#[cfg(feature = "redis")]
pub(crate) mod copy;
mod fjall_rows;
pub(crate) mod form_1;
mod history;
mod index;
mod keys;
mod memory_rows;
mod parts;
mod payments;
mod period;
pub(crate) mod picture;
mod projection;
mod projector;
mod reads;
mod rows;
mod statements;
mod values;

pub use audit::{Audited, SplitOf};
pub use batch::{DurableBatch, RecordSource, Replayed};
pub use fjall_rows::{FjallOptions, FjallRows};
pub use history::View;
pub use keys::{Bytes, KeyRange, MadeBetween, Table};
pub use memory_rows::MemoryRows;
pub use period::{
    Account, Accounts, Balances, GrabLine, Movement, MovementKind, PayoutLine, Period, PeriodError, Take,
};
pub use projection::Position;
pub use projector::{OnPersisted, Projector, ProjectorOptions};
pub(crate) use reads::damaged_win;
pub use reads::{LiveItem, Winners};
pub use rows::{Accept, RowChange, RowRead, Rows, Snapshot, StoreError};
pub use values::{EnvelopeRow, WalletRow, WinRow};

use crate::backend::Audit;
use crate::event::Record;
use crate::types::{Lsn, Timestamp, hex};
use parking_lot::Mutex;
use projection::{RowSink, rows_of};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The form of all keys and values. It is raised with any change to them.
const FORMAT: u32 = 2;

const FORMAT_KEY: &[u8] = b"format";
const POSITION_KEY: &[u8] = b"position";
const SETTING_PREFIX: &str = "setting:";

/// The projection of the journal. Reads go to a snapshot and never wait for writes.
pub struct Store {
    rows: Arc<dyn Rows>,
    /// Held by whoever commits.
    position: Mutex<Position>,
    applied: AtomicU64,
}

/// How much of the journal one commit takes up.
#[derive(Clone, Copy, Debug)]
pub struct StepLimits {
    /// Events after which no further record is added.
    pub events: usize,
    /// Bytes of records after which no further record is added.
    pub bytes: usize,
}

impl Default for StepLimits {
    /// Sorted rows find their neighbours in the memtable sooner the more there
    /// are: 32,768 events cost a fifth less than 8,192, and more gain nothing.
    /// While the projector keeps up, a step is what came during the last one.
    fn default() -> Self {
        StepLimits { events: 32 << 10, bytes: 4 << 20 }
    }
}

/// What one commit took up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Records.
    pub records: usize,
    /// Events in them.
    pub events: usize,
    /// Bytes of the records.
    pub bytes: usize,
    /// Rows written, after several to one key became one.
    pub rows: usize,
}

impl Store {
    /// Opens the store in `directory`, or makes it.
    ///
    /// # Errors
    /// [`StoreError`] if it is of another format, damaged or cannot be read.
    pub fn open(directory: &Path, options: FjallOptions) -> Result<Store, StoreError> {
        Store::over(Arc::new(FjallRows::open(directory, options)?))
    }

    /// The store whose rows are kept in `rows`.
    ///
    /// # Errors
    /// [`StoreError`] if they are of another format, damaged or cannot be read.
    pub fn over(rows: Arc<dyn Rows>) -> Result<Store, StoreError> {
        let snapshot = rows.snapshot();
        match form_1::form_of(&*snapshot)? {
            Some(found) if found > FORMAT => return Err(StoreError::Newer { found, known: FORMAT }),
            Some(found) if found < FORMAT => return Err(StoreError::Older { found, known: FORMAT }),
            Some(_) => {}
            None => {
                rows.commit(vec![(Table::Meta, Bytes::from(FORMAT_KEY), Some(values::put_cold(&FORMAT)))])?;
                rows.persist()?;
            }
        }
        let position = position_of(&*snapshot)?;
        drop(snapshot);
        Ok(Store { rows, position: Mutex::new(position), applied: AtomicU64::new(position.applied.0) })
    }

    /// The last record whose rows can be read.
    pub fn applied_lsn(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// How far the journal is projected, and what adds up over all of it.
    pub fn position(&self) -> Position {
        *self.position.lock()
    }

    /// Where all money was after the last record projected.
    pub fn totals(&self) -> Audit {
        self.position().totals
    }

    /// Writes the rows of `records`, which follow each other and of which the
    /// first has `first_lsn`, up to `limits`; those already written are passed
    /// over. An error leaves the store as it was; after one of the disk nothing
    /// more can be written until [`Store::reopen`].
    ///
    /// # Errors
    /// [`StoreError`] if a record cannot be read, does not follow, does not
    /// balance, or cannot be written.
    pub fn project<'a>(
        &self,
        first_lsn: Lsn,
        records: impl Iterator<Item = &'a [u8]>,
        limits: StepLimits,
    ) -> Result<Step, StoreError> {
        let mut position = self.position.lock();
        let mut after = *position;
        let mut step = Step::default();
        let mut changes = Changes(Vec::new());
        let passed_over = position.applied.next().0.saturating_sub(first_lsn.0) as usize;
        let first_lsn = Lsn(first_lsn.0 + passed_over as u64);
        for (lsn, bytes) in (first_lsn.0..).map(Lsn).zip(records.skip(passed_over)) {
            let unusable = |why: &str| StoreError::Record { lsn: lsn.0, why: why.to_owned() };
            let record = Record::decode(bytes).map_err(|error| unusable(&error.to_string()))?;
            after.advance(lsn, &record).map_err(unusable)?;
            rows_of(lsn, &record, &mut changes);
            step.records += 1;
            step.events += record.events.len();
            step.bytes += bytes.len();
            if step.events >= limits.events || step.bytes >= limits.bytes {
                break;
            }
        }
        if step.records == 0 {
            return Ok(step);
        }
        let mut changes = changes.coalesced();
        changes.push((Table::Meta, Bytes::from(POSITION_KEY), Some(after.put())));
        step.rows = changes.len();
        self.rows.commit(parts::in_parts(changes))?;
        *position = after;
        self.applied.store(after.applied.0, Ordering::Release);
        Ok(step)
    }

    /// Makes everything projected so far survive a loss of power, and says how
    /// far that was.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails; then nothing more is to be written.
    pub fn persist(&self) -> Result<Lsn, StoreError> {
        let applied = self.applied_lsn();
        self.rows.persist()?;
        Ok(applied)
    }

    /// Puts everything where the next opening finds it without doing anything
    /// again. It may take as long as writing some megabytes.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails; then nothing more is to be written.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let _one_writer = self.position.lock();
        self.rows.checkpoint()
    }

    /// Opens the rows anew after a write has failed, so that there can be more.
    ///
    /// # Errors
    /// [`StoreError`] if that is not possible now; [`StoreError::Receded`] if
    /// they lack what was in them, and then it never is.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let mut position = self.position.lock();
        self.rows.reopen(&mut |snapshot| {
            let found = position_of(snapshot)?;
            // The records between the two are with nobody any more who could project them.
            if found.applied < position.applied {
                return Err(StoreError::Receded { found: found.applied.0, applied: position.applied.0 });
            }
            *position = found;
            self.applied.store(found.applied.0, Ordering::Release);
            Ok(())
        })
    }

    /// Forgets up to `at_most` answers that were to be kept until `now` or
    /// before, and says how many rows it looked at; fewer than `at_most` means
    /// that none is left. `None` if somebody else writes: a commit may wait for
    /// the disk, and deadlines are not to wait for a commit.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot read or write.
    pub fn purge_memos(&self, now: Timestamp, at_most: usize) -> Result<Option<usize>, StoreError> {
        let Some(_one_writer) = self.position.try_lock() else { return Ok(None) };
        let snapshot = self.snapshot();
        let due = KeyRange {
            from: std::ops::Bound::Unbounded,
            to: std::ops::Bound::Excluded(Bytes::from(&now.ms().saturating_add(1).to_be_bytes())),
        };
        let mut changes = Vec::new();
        let mut seen = 0;
        for row in snapshot.scan(Table::MemoExpiries, &due).take(at_most) {
            let (expiry, _) = row?;
            let key = keys::tail(&expiry).ok_or_else(|| damaged(Table::MemoExpiries, &expiry))?;
            let once = crate::backend::OnceKey::from_bytes(key);
            // A key may have been given a new answer that is kept for longer.
            if let Some(bytes) = snapshot.get(Table::Memos, &key)? {
                let memo = projection::memo(once, &bytes).ok_or_else(|| damaged(Table::Memos, &key))?;
                if memo.expires_at.is_some_and(|expires_at| expires_at <= now) {
                    changes.extend(parts::deleted(Table::Memos, &key, &bytes));
                }
            }
            changes.push((Table::MemoExpiries, expiry, None));
            seen += 1;
        }
        // Two expiries of one key may both be due.
        let changes = Changes(changes).coalesced();
        if !changes.is_empty() {
            self.rows.commit(changes)?;
        }
        Ok(Some(seen))
    }

    /// Something fixed for this store, such as its currency.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn get_setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let key = format!("{SETTING_PREFIX}{name}");
        let Some(value) = self.rows.snapshot().get(Table::Meta, key.as_bytes())? else { return Ok(None) };
        String::from_utf8(value.to_vec()).map(Some).map_err(|_| damaged(Table::Meta, key.as_bytes()))
    }

    /// Keeps `value` under `name` and makes it last before it returns.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be written.
    pub fn put_setting(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let _one_writer = self.position.lock();
        let key = format!("{SETTING_PREFIX}{name}");
        self.rows.commit(vec![(Table::Meta, Bytes::from(key.as_bytes()), Some(Bytes::from(value.as_bytes())))])?;
        self.rows.persist()
    }

    fn snapshot(&self) -> Box<dyn Snapshot> {
        parts::Whole::of(self.rows.snapshot())
    }
}

/// The position a snapshot was taken at.
fn position_of(snapshot: &dyn Snapshot) -> Result<Position, StoreError> {
    match snapshot.get(Table::Meta, POSITION_KEY)? {
        Some(position) => Position::read(&position).ok_or_else(|| damaged(Table::Meta, POSITION_KEY)),
        None => Ok(Position::default()),
    }
}

fn damaged(table: Table, key: &[u8]) -> StoreError {
    StoreError::Damaged { table: table.name(), key: hex(key) }
}

/// The changes of one commit in the order in which they were made.
struct Changes(Vec<RowChange>);

impl RowSink for Changes {
    fn wants(&self, _: Table) -> bool {
        true
    }

    fn put(&mut self, table: Table, key: Bytes, value: Option<Bytes>) {
        self.0.push((table, key, value));
    }
}

impl Changes {
    /// The changes in key order, the last one to each key. A wallet that moves a
    /// hundred times in a step is written once, and sorted rows find their
    /// neighbours in the memtable still in the processor's cache.
    fn coalesced(self) -> Vec<RowChange> {
        let mut changes = self.0;
        changes.sort_by(|(table, key, _), (other_table, other_key, _)| (table, key).cmp(&(other_table, other_key)));
        let mut last_of_each = Vec::<RowChange>::with_capacity(changes.len() + 1);
        for change in changes {
            match last_of_each.last_mut() {
                Some(last) if last.0 == change.0 && last.1 == change.1 => *last = change,
                _ => last_of_each.push(change),
            }
        }
        last_of_each
    }
}
