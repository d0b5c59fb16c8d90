//! The file with the wrapped data keys: slots of equal size, each of one version of one gift's
//! address. It is the only place where they are.
//!
//! **Invariant:** what a call here has done is on the disk when it returns; several at once share
//! a sync. After a write or sync that failed nobody knows what is there: nothing more is written
//! until the next start, which reads it anew.
//!
//! **Invariant:** a slot is given out again only when nobody needs what it said.

use super::seal::{self, AddressKey, Secret, Wrapped, id_text};
use super::{Address, AddressOptions, Draft, Of};
use crate::entropy::Entropy;
use crate::mutants::{Mutant, is_planted};
use crate::storage::{Storage, StorageFile, read_all};
use crate::types::GiftId;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A divisor of every sector's size, so that no slot lies in two.
const SLOT_BYTES: usize = 128;
/// How many are added at a time, so that the file seldom grows.
const GROW: u32 = 512;
const FILE: &str = "slots";
/// Slots on their way to another address key.
const ROTATION: &str = "rotation";
const ROTATION_MAGIC: &[u8; 8] = b"hbrotate";
const FORM: u8 = 1;
const USED: u8 = 1;
const ERASED: u8 = 2;
const CRC_AT: usize = SLOT_BYTES - 4;

/// What is in a slot.
#[derive(Clone, PartialEq, Eq)]
enum Slot {
    /// Nothing ever.
    Blank,
    /// A wrapped data key.
    Used(GiftId, u32, Wrapped),
    /// It was one, of this version, and is overwritten.
    Erased(GiftId, u32),
    /// What a write that was interrupted has left.
    Torn,
}

/// What was found in a slot at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The key of this version of a gift's address.
    Used(GiftId, u32),
    /// That this one was overwritten.
    Erased(GiftId, u32),
    /// Nothing that can be read.
    Torn,
}

impl Slot {
    fn bytes(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        let (state, gift, version) = match self {
            Slot::Blank | Slot::Torn => return bytes,
            Slot::Used(gift, version, _) => (USED, gift, version),
            Slot::Erased(gift, version) => (ERASED, gift, version),
        };
        bytes[0] = FORM;
        bytes[1] = state;
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        bytes[8..24].copy_from_slice(gift.bytes());
        if let Slot::Used(.., wrapped) = self {
            bytes[24..32].copy_from_slice(&wrapped.key_id);
            bytes[32..44].copy_from_slice(&wrapped.nonce);
            bytes[44..92].copy_from_slice(&wrapped.bytes);
        }
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` for a form of a later version.
    fn read(bytes: &[u8]) -> Option<Slot> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Some(Slot::Blank);
        }
        let part = |from: usize, to: usize| &bytes[from..to];
        if crc32c::crc32c(part(0, CRC_AT)).to_le_bytes() != part(CRC_AT, SLOT_BYTES) {
            return Some(Slot::Torn);
        }
        fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
            bytes.try_into().expect("the part is as long as it says")
        }
        let version = u32::from_le_bytes(array(part(4, 8)));
        let gift = GiftId::from_bytes(array(part(8, 24)));
        match (bytes[0], bytes[1]) {
            (FORM, USED) => {
                let wrapped =
                    Wrapped { key_id: array(part(24, 32)), nonce: array(part(32, 44)), bytes: array(part(44, 92)) };
                Some(Slot::Used(gift, version, wrapped))
            }
            (FORM, ERASED) => Some(Slot::Erased(gift, version)),
            _ => None,
        }
    }
}

/// Why slots cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotsError {
    #[error("{path}: {source}; check that it may be read and written, and look at its disk")]
    Disk { path: String, source: io::Error },
    #[error("{0} is of a later version; run the one that wrote it")]
    Newer(String),
    #[error(
        "{count} addresses are sealed with address keys that were not given: {missing}; start it with the one they were \
         sealed with (--address-key-file), or name it beside a new one (--address-old-key-file)"
    )]
    OtherKey { count: usize, missing: String },
}

/// The slots, and what opens them.
pub(crate) struct SlotFile {
    inner: Mutex<Inner>,
    key: AddressKey,
    entropy: Arc<dyn Entropy>,
}

struct Inner {
    file: Box<dyn StorageFile>,
    count: u32,
    free: BTreeSet<u32>,
    /// Slots that addresses name which may not be in them: given to another they would be two addresses' at once.
    withheld: BTreeSet<u32>,
    /// Writes so far, and how many of them are on the disk.
    written: u64,
    synced: u64,
    failed: Option<String>,
}

impl Inner {
    fn read(&self, slot: u32) -> io::Result<Slot> {
        let mut bytes = [0; SLOT_BYTES];
        let read = self.file.read_at(&mut bytes, place(slot))?;
        Ok(if read < SLOT_BYTES { Slot::Blank } else { Slot::read(&bytes).unwrap_or(Slot::Torn) })
    }

    fn write(&mut self, slot: u32, content: &Slot) -> io::Result<()> {
        self.sound()?;
        let written = self.file.write_at(&content.bytes(), place(slot));
        self.note(written)?;
        self.written += 1;
        Ok(())
    }

    fn grow(&mut self) -> io::Result<()> {
        self.sound()?;
        let written = self.file.write_at(&vec![0; SLOT_BYTES * GROW as usize], place(self.count));
        self.note(written)?;
        let grown = self.count..self.count + GROW;
        self.free.extend(grown.filter(|slot| !self.withheld.contains(slot)));
        self.count += GROW;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sound()?;
        let written = self.written;
        let synced = self.file.sync_data();
        self.note(synced)?;
        self.synced = written;
        Ok(())
    }

    fn sound(&self) -> io::Result<()> {
        match &self.failed {
            Some(why) => Err(io::Error::other(format!("{why}; restart the server after mending the disk"))),
            None => Ok(()),
        }
    }

    fn note(&mut self, done: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &done {
            tracing::error!(%error, "the slots of addresses cannot be written; no address is taken or erased until a restart");
            self.failed = Some(error.to_string());
        }
        done
    }
}

fn place(slot: u32) -> u64 {
    u64::from(slot) * SLOT_BYTES as u64
}

impl SlotFile {
    /// Opens the slots, or makes the file; ends a rotation that was interrupted; wraps anew
    /// what is wrapped with an older key. Gives what was found, by slot.
    pub(crate) fn open(
        storage: &dyn Storage,
        options: &AddressOptions,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(SlotFile, Vec<(u32, Found)>), SlotsError> {
        let failed = |source| SlotsError::Disk { path: storage.path_of(FILE), source };
        let names: BTreeSet<String> = storage.list().map_err(failed)?.into_iter().collect();
        let mut file = match names.contains(FILE) {
            true => storage.open(FILE).map_err(failed)?,
            false => storage.create(FILE).and_then(|file| storage.sync_directory().map(|()| file)).map_err(failed)?,
        };
        if names.contains(ROTATION) {
            end_rotation(storage, &mut *file).map_err(failed)?;
        }
        let bytes = read_all(&*file).map_err(failed)?;
        let whole = bytes.chunks_exact(SLOT_BYTES);
        let slots: Option<Vec<Slot>> = whole.map(Slot::read).collect();
        let mut slots = slots.ok_or_else(|| SlotsError::Newer(storage.path_of(FILE)))?;
        rotate(storage, &mut *file, &mut slots, options, &*entropy)?;
        let mut inner = Inner {
            file,
            count: slots.len() as u32,
            free: BTreeSet::new(),
            withheld: BTreeSet::new(),
            written: 0,
            synced: 0,
            failed: None,
        };
        let mut found = Vec::new();
        for (slot, content) in (0..).zip(&slots) {
            match content {
                Slot::Blank => _ = inner.free.insert(slot),
                Slot::Used(gift, version, _) => found.push((slot, Found::Used(*gift, *version))),
                Slot::Erased(gift, version) => found.push((slot, Found::Erased(*gift, *version))),
                Slot::Torn => found.push((slot, Found::Torn)),
            }
        }
        Ok((SlotFile { inner: Mutex::new(inner), key: options.key.clone(), entropy }, found))
    }

    /// Whether any slot there has a key: then addresses cannot be done without an address key.
    pub(crate) fn any_used(storage: &dyn Storage) -> io::Result<bool> {
        if !storage.list()?.iter().any(|name| name == FILE) {
            return Ok(false);
        }
        let bytes = read_all(&*storage.open(FILE)?)?;
        Ok(bytes.chunks_exact(SLOT_BYTES).any(|slot| !matches!(Slot::read(slot), Some(Slot::Blank | Slot::Erased(..)))))
    }

    /// Seals an address with a new data key, whose slot is on the disk when this returns.
    pub(crate) fn seal(&self, of: Of, address: &Address, keep: super::AddressKeep) -> io::Result<Draft> {
        let (sealed, key) = seal::seal(address, of, &*self.entropy);
        let (slot, mine) = {
            let mut inner = self.inner.lock();
            while inner.free.is_empty() {
                inner.grow()?;
            }
            let slot = inner.free.pop_first().expect("it has grown");
            let wrapped = self.key.wrap(&key, of, slot, &*self.entropy);
            inner.write(slot, &Slot::Used(of.gift, of.version, wrapped))?;
            (slot, inner.written)
        };
        if !is_planted(Mutant::StageBeforeSlot) {
            self.sync_through(mine)?;
        }
        Ok(Draft { version: of.version, slot, sealed, keep })
    }

    /// Opens one; `None` if its slot is another's by now, or overwritten.
    ///
    /// # Errors
    /// The slot cannot be read, or what it opens is not what was sealed.
    pub(crate) fn open_sealed(&self, slot: u32, of: Of, sealed: &[u8]) -> io::Result<Option<Address>> {
        let Slot::Used(gift, version, wrapped) = self.inner.lock().read(slot)? else { return Ok(None) };
        if (gift, version) != (of.gift, of.version) {
            return Ok(None);
        }
        let opened = self.key.unwrap(&wrapped, of, slot).and_then(|key: Secret| seal::open(sealed, of, &key));
        opened.map(Some).ok_or_else(|| io::Error::other("a sealed address is not as it was sealed"))
    }

    /// Overwrites the slots of these, as far as they are still theirs. They are not given out
    /// again before [`SlotFile::release`]: until the record is durable the next start has to find
    /// what was erased.
    pub(crate) fn erase(&self, slots: &[(u32, Of)]) -> io::Result<()> {
        let mine = {
            let mut inner = self.inner.lock();
            let before = inner.written;
            for (slot, of) in slots {
                let is_theirs = match inner.read(*slot)? {
                    Slot::Used(gift, version, _) => (gift, version) == (of.gift, of.version),
                    Slot::Torn => true,
                    Slot::Blank | Slot::Erased(..) => false,
                };
                if is_theirs && !is_planted(Mutant::KeepSlot) {
                    inner.write(*slot, &Slot::Erased(of.gift, of.version))?;
                }
            }
            // Another may have overwritten it and not have synced it yet.
            if inner.written == before && inner.synced == before {
                return Ok(());
            }
            inner.written
        };
        self.sync_through(mine)
    }

    /// Gives a slot in which this was erased to whoever is next. One that is another's stays so: what was
    /// restored from a backup names slots that were not restored.
    pub(crate) fn release(&self, slot: u32, of: Of) {
        let mut inner = self.inner.lock();
        if inner.read(slot).is_ok_and(|content| content == Slot::Erased(of.gift, of.version)) {
            inner.free.insert(slot);
        }
    }

    /// Gives this slot to nobody before it is released: an address names it, and may not be in it.
    pub(crate) fn withhold(&self, slot: u32) {
        let mut inner = self.inner.lock();
        inner.free.remove(&slot);
        inner.withheld.insert(slot);
    }

    /// Those that came while another synced are on the disk with one more sync.
    fn sync_through(&self, mine: u64) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.synced >= mine { Ok(()) } else { inner.sync() }
    }
}

/// Wraps with the key what is wrapped with an older one: first in a file beside the slots, so
/// that a crash in the middle loses no slot.
fn rotate(
    storage: &dyn Storage,
    file: &mut dyn StorageFile,
    slots: &mut [Slot],
    options: &AddressOptions,
    entropy: &dyn Entropy,
) -> Result<(), SlotsError> {
    let failed = |source| SlotsError::Disk { path: storage.path_of(FILE), source };
    let (mut anew, mut missing) = (Vec::new(), Vec::new());
    for (slot, content) in (0..).zip(slots.iter_mut()) {
        let Slot::Used(gift, version, wrapped) = content else { continue };
        if wrapped.key_id == options.key.id_bytes() {
            continue;
        }
        let of = Of { gift: *gift, version: *version };
        let older = options.older.iter().find(|key| key.id_bytes() == wrapped.key_id);
        match older.and_then(|key| key.unwrap(wrapped, of, slot)) {
            Some(key) => {
                *wrapped = options.key.wrap(&key, of, slot, entropy);
                anew.push((slot, content.bytes()));
            }
            None => missing.push(id_text(&wrapped.key_id)),
        }
    }
    if !missing.is_empty() {
        let ids: BTreeSet<&String> = missing.iter().collect();
        let text = ids.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(SlotsError::OtherKey { count: missing.len(), missing: text });
    }
    if anew.is_empty() {
        return Ok(());
    }
    let mut bytes: Vec<u8> =
        anew.iter().flat_map(|(slot, content)| [&slot.to_le_bytes()[..], content].concat()).collect();
    bytes.extend_from_slice(ROTATION_MAGIC);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    let mut write = || {
        let mut beside = storage.create(ROTATION)?;
        beside.write_at(&bytes, 0)?;
        beside.sync_data()?;
        storage.sync_directory()?;
        end_rotation(storage, file)
    };
    write().map_err(failed)?;
    tracing::info!(
        slots = anew.len(),
        key = options.key.id(),
        "slots of addresses are wrapped with the new key; older ones are not needed any more"
    );
    Ok(())
}

/// Carries a rotation's file into the slots, if it is whole: otherwise none of it was carried.
/// Overwrites and removes it then.
fn end_rotation(storage: &dyn Storage, file: &mut dyn StorageFile) -> io::Result<()> {
    const ENTRY: usize = 4 + SLOT_BYTES;
    let mut beside = storage.open(ROTATION)?;
    let bytes = read_all(&*beside)?;
    if let Some((content, crc)) = bytes.split_last_chunk::<4>()
        && crc32c::crc32c(content).to_le_bytes() == *crc
        && let Some(entries) = content.strip_suffix(ROTATION_MAGIC)
    {
        for entry in entries.chunks_exact(ENTRY) {
            let (slot, content) = entry.split_first_chunk::<4>().expect("an entry begins with its slot");
            file.write_at(content, place(u32::from_le_bytes(*slot)))?;
        }
        file.sync_data()?;
    }
    beside.write_at(&vec![0; bytes.len()], 0)?;
    beside.sync_data()?;
    storage.remove(ROTATION)?;
    storage.sync_directory()
}

#[cfg(test)]
mod tests;
