//! The books of a directory that is not served, or of a backup, for those who keep
//! books elsewhere.
//!
//! **Invariant:** it tells nothing of a time whose end it does not know: a backup knows what
//! was before it was made.

use crate::audit::{SCRATCH, bring_up, open};
use crate::backup::{self, BackupError, BackupInfo};
use crate::memory::{Settings, lock, lock_any};
use crate::store::{FjallOptions, Store, StoreError};
use crate::types::Timestamp;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A directory's books, open. What it needed beside the directory goes with it.
pub struct Books {
    store: Option<Store>,
    scratch: Option<PathBuf>,
    currency: String,
    known_until: Option<Timestamp>,
    advanced_ms: u64,
    _lock: File,
}

impl Books {
    /// Those of `data`, a data directory or a backup. The former's store is brought up to the
    /// journal's end, as the next start would; of the latter nothing is changed.
    ///
    /// # Errors
    /// [`BackupError`] if it is in use or cannot be read.
    pub fn open(data: &Path) -> Result<Books, BackupError> {
        if !data.join(backup::INFO).exists() {
            return Books::in_place(data, lock(data)?, None, None);
        }
        let info = BackupInfo::read(data)?;
        let lock = lock_any(data)?;
        let scratch = data.join(SCRATCH);
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(backup::at(&scratch))?;
        }
        let books = backup::linked(data, &scratch)
            .and_then(|()| Books::in_place(&scratch, lock, Some(info.made_at), Some(scratch.clone())));
        if books.is_err() {
            let _ = fs::remove_dir_all(&scratch);
        }
        books
    }

    fn in_place(
        data: &Path,
        lock: File,
        made_at: Option<Timestamp>,
        scratch: Option<PathBuf>,
    ) -> Result<Books, BackupError> {
        let path = data.join("store");
        if !path.is_dir() {
            return Err(StoreError::Unopened { directory: path, why: "it is not there".to_owned() }.into());
        }
        let store = Store::open(&path, FjallOptions::default())?;
        bring_up(&store, &path, &open(&data.join("journal"))?, &mut |_| ())?;
        let currency = Settings::of(&store)?.value("currency").to_owned();
        let advanced_ms = store.position().advanced_ms;
        // A test deployment's time is ahead of the clock.
        let known_until = made_at.map(|at| at.plus_ms(advanced_ms));
        Ok(Books { store: Some(store), scratch, currency, known_until, advanced_ms, _lock: lock })
    }

    /// The rows.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("it is there until the books are closed")
    }

    /// The currency of all amounts.
    pub fn currency(&self) -> &str {
        &self.currency
    }

    /// Up to when everything is known, at a time `now` of the clock.
    pub fn known_until(&self, now: Timestamp) -> Timestamp {
        let ours = now.plus_ms(self.advanced_ms);
        self.known_until.map_or(ours, |until| until.min(ours))
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        self.store = None;
        if let Some(scratch) = &self.scratch {
            // The next look at the backup takes it away otherwise.
            let _ = fs::remove_dir_all(scratch);
        }
    }
}
