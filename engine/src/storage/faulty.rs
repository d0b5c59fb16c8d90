//! A disk in memory that behaves as badly as disks may, from a seed.
//!
//! It keeps two versions of every file and of the directory: what a reader sees
//! (the cache) and what would survive a power failure (the platter).
//!
//! **Invariant:** after [`FaultyDisk::crash`] every block holds what was last
//! synced or, sector by sector, what was written since; never anything else.
//! **Invariant:** a failed sync leaves the cache looking right and the platter
//! wrong, and a later sync does not repair it; only writing the bytes again does.

use super::{Storage, StorageFile};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`. A failed sync may have synced some blocks and forgets the others.
    Eio,
    /// `ENOSPC`.
    NoSpace,
    /// A write that stores only a part and then fails; any other call just fails.
    ShortWrite,
    /// The power fails during the call: it and every later call fail until
    /// [`FaultyDisk::crash`].
    PowerCut,
}

#[derive(Clone, Default)]
struct Inode {
    cache: Vec<u8>,
    platter: Vec<u8>,
    dirty: BTreeSet<usize>,
    length_dirty: bool,
}

#[derive(Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone)]
struct State {
    random: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    names_on_platter: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    capacity_bytes: Option<u64>,
    calls: u64,
    syncs: u64,
    fault: Option<(u64, Fault, bool)>,
    power_is_off: bool,
    life: u64,
}

/// A seeded disk in memory. Clones are the same disk.
#[derive(Clone)]
pub struct FaultyDisk(Arc<Mutex<State>>);

impl FaultyDisk {
    /// An empty disk. The same seed and the same calls give the same disk.
    pub fn new(seed: u64) -> FaultyDisk {
        FaultyDisk(Arc::new(Mutex::new(State {
            random: seed,
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: BTreeMap::new(),
            names_on_platter: BTreeMap::new(),
            unsynced_names: Vec::new(),
            capacity_bytes: None,
            calls: 0,
            syncs: 0,
            fault: None,
            power_is_off: false,
            life: 0,
        })))
    }

    /// Another disk with the same content, faults and future of its own.
    pub fn fork(&self, seed: u64) -> FaultyDisk {
        let mut state = self.0.lock().clone();
        state.random = seed;
        FaultyDisk(Arc::new(Mutex::new(state)))
    }

    /// The power fails and comes back: a random part of what was not synced
    /// survives, in whole blocks, in sectors or not at all. Open files of before
    /// are dead; planned faults are forgotten.
    pub fn crash(&self) {
        let state = &mut *self.0.lock();
        state.lose_names();
        let random = &mut state.random;
        for inode in state.inodes.values_mut() {
            inode.lose_blocks(random);
        }
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| named.contains(inode));
        state.fault = None;
        state.power_is_off = false;
        state.life += 1;
    }

    /// Lets a call fail: the `nth` from now (1 is the next), once or, if
    /// `forever`, that one and all after it.
    pub fn fail_call(&self, nth: u64, fault: Fault, forever: bool) {
        let mut state = self.0.lock();
        state.fault = Some((state.calls + nth, fault, forever));
    }

    /// Takes a planned fault back.
    pub fn heal(&self) {
        self.0.lock().fault = None;
    }

    /// Bounds the bytes of all files; a write beyond is `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// The bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    /// How many syncs of files succeeded so far.
    pub fn syncs(&self) -> u64 {
        self.0.lock().syncs
    }

    /// What a reader of the file sees, without counting as a call.
    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.0.lock();
        state.names.get(name).map(|inode| state.inodes[inode].cache.clone())
    }

    /// The names a reader sees, without counting as a call.
    pub fn names(&self) -> Vec<String> {
        self.0.lock().names.keys().cloned().collect()
    }

    /// Changes one byte durably, as failing hardware would. The file and the
    /// offset must exist.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) {
        let state = &mut *self.0.lock();
        let inode = state.inodes.get_mut(&state.names[name]).expect("every name has an inode");
        inode.cache[offset as usize] ^= mask;
        if let Some(byte) = inode.platter.get_mut(offset as usize) {
            *byte ^= mask;
        }
    }

    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let (state, fault) = self.call_with_fault();
        fault.map_or(Ok(state), |fault| Err(error_of(fault)))
    }

    fn call_with_fault(&self) -> (MutexGuard<'_, State>, Option<Fault>) {
        let mut state = self.0.lock();
        state.calls += 1;
        if state.power_is_off {
            return (state, Some(Fault::PowerCut));
        }
        let due = match state.fault {
            Some((at, fault, forever)) if state.calls == at || (forever && state.calls > at) => Some(fault),
            _ => None,
        };
        if due == Some(Fault::PowerCut) {
            state.power_is_off = true;
        }
        (state, due)
    }
}

impl Storage for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.call()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.call()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        let change = NameChange::Create(name.to_owned(), inode);
        change.apply(&mut state.names);
        state.unsynced_names.push(change);
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, life: state.life }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let state = self.call()?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(FaultyFile { disk: self.clone(), inode, life: state.life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call()?.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call()?.change_name(NameChange::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.call()?;
        state.names_on_platter = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn path_of(&self, name: &str) -> String {
        format!("faulty:/{name}")
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    inode: u64,
    life: u64,
}

impl FaultyFile {
    fn alive(&self, state: &State) -> io::Result<()> {
        if state.life == self.life && state.inodes.contains_key(&self.inode) {
            Ok(())
        } else {
            Err(io::Error::other("the machine that held this file open has crashed"))
        }
    }
}

impl StorageFile for FaultyFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, mut fault) = self.disk.call_with_fault();
        self.alive(&state)?;
        let mut stored = match fault {
            None => bytes.len(),
            Some(Fault::Eio | Fault::NoSpace) => 0,
            Some(Fault::ShortWrite | Fault::PowerCut) => below(&mut state.random, bytes.len() as u64 + 1) as usize,
        };
        if let Some(capacity) = state.capacity_bytes {
            let length = state.inodes[&self.inode].cache.len() as u64;
            let end_max = length + capacity.saturating_sub(state.used_bytes());
            if offset + stored as u64 > end_max {
                stored = end_max.saturating_sub(offset) as usize;
                fault = fault.or(Some(Fault::NoSpace));
            }
        }
        let inode = state.inodes.get_mut(&self.inode).expect("checked to be alive");
        inode.write(&bytes[..stored], offset as usize);
        fault.map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.call()?;
        self.alive(&state)?;
        let cache = &state.inodes[&self.inode].cache;
        let from = (offset as usize).min(cache.len());
        let read = buf.len().min(cache.len() - from);
        buf[..read].copy_from_slice(&cache[from..from + read]);
        Ok(read)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let (mut guard, fault) = self.disk.call_with_fault();
        self.alive(&guard)?;
        let state = &mut *guard;
        let inode = state.inodes.get_mut(&self.inode).expect("checked to be alive");
        match fault {
            None => {
                inode.sync(|_| true);
                state.syncs += 1;
                Ok(())
            }
            Some(Fault::PowerCut) => Err(error_of(Fault::PowerCut)),
            Some(fault) => {
                let random = &mut state.random;
                inode.sync(|_| below(random, 2) == 0);
                Err(error_of(fault))
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.call()?;
        self.alive(&state)?;
        Ok(state.inodes[&self.inode].cache.len() as u64)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.disk.call()?;
        self.alive(&state)?;
        let inode = state.inodes.get_mut(&self.inode).expect("checked to be alive");
        set_length(&mut inode.cache, len as usize);
        inode.length_dirty = true;
        Ok(())
    }
}

impl Inode {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        if end > self.cache.len() {
            set_length(&mut self.cache, end);
            self.length_dirty = true;
        }
        self.cache[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / BLOCK..=(end - 1) / BLOCK);
    }

    /// Brings the dirty blocks that `reaches` says to the platter; none is dirty
    /// afterwards, which is the lie a failed sync tells.
    fn sync(&mut self, mut reaches: impl FnMut(usize) -> bool) {
        if std::mem::take(&mut self.length_dirty) {
            set_length(&mut self.platter, self.cache.len());
        }
        for block in std::mem::take(&mut self.dirty) {
            if reaches(block) {
                self.copy(block * BLOCK, BLOCK);
            }
        }
    }

    fn copy(&mut self, from: usize, len: usize) {
        let end = (from + len).min(self.cache.len()).min(self.platter.len());
        if from < end {
            self.platter[from..end].copy_from_slice(&self.cache[from..end]);
        }
    }

    fn lose_blocks(&mut self, random: &mut u64) {
        if self.length_dirty {
            let (short, long) = (self.platter.len().min(self.cache.len()), self.platter.len().max(self.cache.len()));
            let length = match below(random, 3) {
                0 => self.platter.len(),
                1 => self.cache.len(),
                _ => short + below(random, (long - short) as u64 + 1) as usize,
            };
            set_length(&mut self.platter, length);
        }
        // One choice for the file (all, none, mixed) makes the extremes as likely as the mixtures.
        let mood = below(random, 4);
        for block in std::mem::take(&mut self.dirty) {
            match if mood < 2 { mood } else { below(random, 3) } {
                0 => {}
                1 => self.copy(block * BLOCK, BLOCK),
                _ => {
                    for sector in 0..BLOCK / SECTOR {
                        if below(random, 2) == 0 {
                            self.copy(block * BLOCK + sector * SECTOR, SECTOR);
                        }
                    }
                }
            }
        }
        self.cache = self.platter.clone();
        self.length_dirty = false;
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) -> bool {
        match self {
            NameChange::Create(name, inode) => names.insert(name.clone(), *inode).is_none(),
            NameChange::Rename(from, to) => match names.remove(from) {
                Some(inode) => {
                    names.insert(to.clone(), inode);
                    true
                }
                None => false,
            },
            NameChange::Remove(name) => names.remove(name).is_some(),
        }
    }
}

impl State {
    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        if !change.apply(&mut self.names) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.unsynced_names.push(change);
        Ok(())
    }

    fn lose_names(&mut self) {
        let changes = std::mem::take(&mut self.unsynced_names);
        let in_order = below(&mut self.random, 2) == 0;
        let kept = below(&mut self.random, changes.len() as u64 + 1) as usize;
        for (i, change) in changes.iter().enumerate() {
            if if in_order { i < kept } else { below(&mut self.random, 2) == 0 } {
                change.apply(&mut self.names_on_platter);
            }
        }
        self.names = self.names_on_platter.clone();
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].cache.len() as u64).sum()
    }
}

/// `Vec::resize` with zeros, a block at a time: fast in debug builds, too.
fn set_length(bytes: &mut Vec<u8>, length: usize) {
    bytes.truncate(length);
    while bytes.len() < length {
        let missing = (length - bytes.len()).min(BLOCK);
        bytes.extend_from_slice(&[0; BLOCK][..missing]);
    }
}

/// SplitMix64: seeded, tiny, and the same on every machine.
fn below(random: &mut u64, bound: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *random;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        // 5 and 28 are EIO and ENOSPC on every Unix the engine runs on.
        Fault::Eio => io::Error::from_raw_os_error(5),
        Fault::NoSpace | Fault::ShortWrite => io::Error::from_raw_os_error(28),
        Fault::PowerCut => io::Error::other("the power is off"),
    }
}
