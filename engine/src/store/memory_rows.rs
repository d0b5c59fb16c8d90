//! Rows in memory, for tests and the deterministic simulation, with crashes
//! that lose what a disk may lose.
//!
//! **Invariant:** after [`MemoryRows::crash`] there is a prefix of the commits,
//! each of them whole, that holds at least everything persisted.

use super::keys::{Bytes, KeyRange, Table};
use super::rows::{Accept, RowChange, RowRead, Rows, Snapshot, StoreError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

type Rowset = Vec<Arc<BTreeMap<Bytes, Bytes>>>;

/// Rows in memory.
pub struct MemoryRows {
    state: Mutex<State>,
}

struct State {
    now: Rowset,
    persisted: Rowset,
    since: Vec<Vec<RowChange>>,
    commits_until_failure: Option<u64>,
    /// After a failure, until it is opened anew.
    poisoned: bool,
    /// The commit that failed: nobody knows how much of it was written.
    in_doubt: Option<Vec<RowChange>>,
    reopened: u64,
}

impl Default for MemoryRows {
    fn default() -> Self {
        MemoryRows::of(vec![Arc::default(); Table::ALL.len()])
    }
}

impl MemoryRows {
    fn of(rows: Rowset) -> MemoryRows {
        MemoryRows {
            state: Mutex::new(State {
                persisted: rows.clone(),
                now: rows,
                since: Vec::new(),
                commits_until_failure: None,
                poisoned: false,
                in_doubt: None,
                reopened: 0,
            }),
        }
    }

    /// What a crash now would leave: what was persisted and a number of the
    /// commits since then that `seed` chooses.
    pub fn crash(&self, seed: u64) -> MemoryRows {
        let state = self.state.lock();
        let mut rows = state.persisted.clone();
        let since: Vec<_> = state.since.iter().chain(&state.in_doubt).collect();
        let kept = seed % (since.len() as u64 + 1);
        for changes in &since[..kept as usize] {
            write(&mut rows, changes);
        }
        MemoryRows::of(rows)
    }

    /// How many commits a crash now could lose.
    pub fn unpersisted(&self) -> usize {
        self.state.lock().since.len()
    }

    /// Lets `commits` more commits succeed and every one after them, and every
    /// persist, fail.
    pub fn fail_after(&self, commits: u64) {
        self.state.lock().commits_until_failure = Some(commits);
    }

    /// Ends what [`MemoryRows::fail_after`] began. Like fjall it takes writes
    /// only once it was opened anew.
    pub fn mend(&self) {
        self.state.lock().commits_until_failure = None;
    }
}

fn write(rows: &mut Rowset, changes: &[RowChange]) {
    for (table, key, value) in changes {
        let rows = Arc::make_mut(&mut rows[*table as usize]);
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

fn failed() -> StoreError {
    StoreError::Failed("Input/output error (os error 5)".to_owned())
}

impl Rows for MemoryRows {
    fn snapshot(&self) -> Box<dyn Snapshot> {
        Box::new(MemorySnapshot(self.state.lock().now.clone()))
    }

    fn commit(&self, changes: Vec<RowChange>) -> Result<(), StoreError> {
        let state = &mut *self.state.lock();
        if state.poisoned {
            return Err(failed());
        }
        match &mut state.commits_until_failure {
            Some(0) => {
                state.poisoned = true;
                state.in_doubt = Some(changes);
                return Err(failed());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        write(&mut state.now, &changes);
        state.since.push(changes);
        Ok(())
    }

    fn persist(&self) -> Result<(), StoreError> {
        let state = &mut *self.state.lock();
        if state.poisoned || state.commits_until_failure == Some(0) {
            state.poisoned = true;
            return Err(failed());
        }
        for changes in state.since.drain(..) {
            write(&mut state.persisted, &changes);
        }
        Ok(())
    }

    /// Every other time the commit that failed turns out to be there.
    fn reopen(&self, accept: Accept<'_>) -> Result<(), StoreError> {
        let state = &mut *self.state.lock();
        if state.commits_until_failure == Some(0) {
            return Err(failed());
        }
        state.reopened += 1;
        state.since.extend(state.in_doubt.take().filter(|_| state.reopened.is_multiple_of(2)));
        for changes in state.since.drain(..) {
            write(&mut state.persisted, &changes);
        }
        state.now = state.persisted.clone();
        state.poisoned = false;
        accept(&MemorySnapshot(state.now.clone()))
    }
}

struct MemorySnapshot(Rowset);

impl Snapshot for MemorySnapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0[table as usize].get(key).cloned())
    }

    fn scan(&self, table: Table, range: &KeyRange) -> Box<dyn Iterator<Item = RowRead> + Send> {
        Box::new(MemoryScan { rows: self.0[table as usize].clone(), range: range.clone() })
    }
}

/// Looks up the next key each time, so that it can own the rows it walks over.
struct MemoryScan {
    rows: Arc<BTreeMap<Bytes, Bytes>>,
    range: KeyRange,
}

impl Iterator for MemoryScan {
    type Item = RowRead;

    fn next(&mut self) -> Option<RowRead> {
        if self.range.is_empty() {
            return None;
        }
        let bounds = (self.range.from.as_ref(), self.range.to.as_ref());
        let (key, value) = self.rows.range::<Bytes, (Bound<&Bytes>, Bound<&Bytes>)>(bounds).next()?;
        self.range.from = Bound::Excluded(key.clone());
        Some(Ok((key.clone(), value.clone())))
    }
}
