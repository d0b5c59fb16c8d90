//! Notes of servers, in bucket 0: each shelf is a hash of name to version and text.
//!
//! **Invariant:** a note is compared and changed in one run of one script.

use super::RedisBackend;
use super::layout::Layout;
use super::reply::{Answer, damaged};
use super::scripts::NOTE;
use crate::backend::{OnceKey, Result};
use crate::notes::{Note, Notes, Shelf, Version, id_under};

impl Notes for RedisBackend {
    async fn notes(&self, shelf: Shelf) -> Result<Vec<Note>> {
        let core = &self.core;
        let row = core.read(Layout::COMMON, &[core.layout.notes(shelf)], &[b"row".to_vec()]).await?;
        let mut notes = Vec::new();
        for at in (0..row.len()).step_by(2) {
            notes.push(note(row.text(at)?, row.bytes(at + 1)?)?);
        }
        notes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(notes)
    }

    async fn note(&self, shelf: Shelf, name: &str) -> Result<Option<Note>> {
        let core = &self.core;
        let args = [b"row".to_vec(), name.as_bytes().to_vec()];
        let row = core.read(Layout::COMMON, &[core.layout.notes(shelf)], &args).await?;
        row.maybe(0).map(|row| note(name, row)).transpose()
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
        let core = &self.core;
        let version = Version::drawn();
        let row = bytes.map_or_else(Vec::new, |bytes| [&version.0, bytes].concat());
        let was = was.map_or_else(Vec::new, |Version(was)| was.to_vec());
        let args = [name.as_bytes().to_vec(), was, row];
        let value = core.call(Layout::COMMON, &NOTE, &[core.layout.notes(shelf)], &args, true).await?;
        Ok((Answer::read(value)?.tag() == b"put").then_some(version))
    }
}

fn note(name: &str, row: &[u8]) -> Result<Note> {
    let (version, bytes) = row.split_first_chunk().ok_or_else(|| damaged("a note"))?;
    Ok(Note { name: name.to_owned(), version: Version(*version), bytes: bytes.to_vec() })
}
