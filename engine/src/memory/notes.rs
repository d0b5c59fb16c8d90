//! Notes of the embedded engine: see [`NoteFiles`](crate::notes::NoteFiles).

use super::Embedded;
use crate::backend::{OnceKey, Result};
use crate::notes::{Note, Notes, Shelf, Version, id_under};

impl Notes for Embedded {
    async fn notes(&self, shelf: Shelf) -> Result<Vec<Note>> {
        Ok(self.core.notes.all(shelf))
    }

    async fn note(&self, shelf: Shelf, name: &str) -> Result<Option<Note>> {
        Ok(self.core.notes.one(shelf, name))
    }

    fn id_under(&self, key: OnceKey) -> [u8; 16] {
        id_under(&self.core.fingerprint_secret, key)
    }

    async fn put_note(
        &self,
        shelf: Shelf,
        name: &str,
        was: Option<Version>,
        bytes: Option<&[u8]>,
    ) -> Result<Option<Version>> {
        self.core.notes.put(shelf, name, was, bytes)
    }
}

impl Embedded {
    /// All notes as files, for a backup.
    pub(crate) fn note_files(&self) -> Vec<(String, Vec<u8>)> {
        self.core.notes.as_files()
    }
}
