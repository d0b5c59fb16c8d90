//! Addresses of gifts: sealed before they are decided upon, opened for their merchant, erased.
//!
//! **Invariant:** whoever gives or erases a gift's address is alone with it from the look at what
//! is known to the record; so a slot belongs to at most one record.
//!
//! **Invariant:** a slot that is not needed is overwritten, at the latest at the next start: one
//! whose record never came, and one whose address was changed.

use super::cold::store_failed;
use super::{Core, Done, EmbeddedOptions, Footprint, Log, OpenError};
use crate::address::{Address, AddressKeep, AddressMark, AddressOptions, AddressRead, Found, Of, SLOTS, SlotFile};
use crate::backend::OnceKey;
use crate::command::{Command, Outcome, Refusal};
use crate::error::EngineError;
use crate::event::Events;
use crate::gift::{Gift, GiftStep};
use crate::journal::Class;
use crate::state::addresses::erased;
use crate::state::decide::{self, Drawn};
use crate::storage::{Directory, Storage};
use crate::types::{GiftId, Lsn};
use parking_lot::{Mutex, RwLock};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Gifts whose addresses are given or erased one after the other.
const TURNS: usize = 64;
/// How often an address that changes while it is opened is looked at again.
const LOOKS_MAX: usize = 16;

/// What opens addresses, and what is to be done about slots.
pub(super) struct Addresses {
    slots: SlotFile,
    keep: AddressKeep,
    turns: [Mutex<()>; TURNS],
    /// Taken for reading by whoever has a turn, for writing by who erases many at once.
    all: RwLock<()>,
    later: Mutex<Later>,
}

/// What waits for a record to be durable, or for another try.
#[derive(Default)]
struct Later {
    /// Slots of addresses that were changed by this record.
    changed: Vec<(Lsn, u32, Of)>,
    /// Slots that are overwritten, and of no use once this record is durable.
    free: Vec<(Lsn, u32, Of)>,
    /// Gifts whose slots are overwritten, or due to be, and that have no record of it.
    unrecorded: Vec<GiftId>,
}

/// Whether a step needs more than its gift.
pub(super) fn is_about(step: &GiftStep) -> bool {
    step.address().is_some() || matches!(step, GiftStep::EraseAddress)
}

fn slots_failed(error: io::Error) -> EngineError {
    EngineError::Addresses(error.to_string())
}

impl Addresses {
    /// Opens the slots, if there is an address key. Gives what was found in them.
    pub(super) fn open(
        directory: Option<&Path>,
        options: &EmbeddedOptions,
    ) -> Result<(Option<Addresses>, Vec<(u32, Found)>), OpenError> {
        let path = directory.map(|directory| directory.join(SLOTS));
        let failed = |source: io::Error| OpenError::Addresses(format!("the slots of addresses: {source}"));
        let Some(asked) = &options.addresses else {
            if let Some(path) = path.filter(|path| path.exists())
                && SlotFile::any_used(&Directory::open(&path).map_err(failed)?).map_err(failed)?
            {
                let why = format!(
                    "{} has what opens addresses, and no address key was given: start it with --address-key-file",
                    path.display()
                );
                return Err(OpenError::Addresses(why));
            }
            return Ok((None, Vec::new()));
        };
        let AddressOptions { keep, storage, .. } = asked;
        let storage: Arc<dyn Storage> = match (storage, path) {
            (Some(storage), _) => Arc::clone(storage),
            (None, Some(path)) => Arc::new(private_directory(&path).map_err(failed)?),
            (None, None) => return Ok((None, Vec::new())),
        };
        let opened = SlotFile::open(&*storage, asked, options.entropy.clone());
        let (slots, found) = opened.map_err(|error| OpenError::Addresses(error.to_string()))?;
        let turns = std::array::from_fn(|_| Mutex::new(()));
        let addresses = Addresses { slots, keep: *keep, turns, all: RwLock::default(), later: Mutex::default() };
        Ok((Some(addresses), found))
    }

    fn erase(&self, slots: &[(u32, Of)]) -> Result<(), EngineError> {
        self.slots.erase(slots).map_err(slots_failed)
    }
}

/// A directory that nobody else may read.
fn private_directory(path: &Path) -> io::Result<Directory> {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::open(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    Ok(directory)
}

impl Core {
    /// Compares the slots with what is known: overwrites those of no record, and completes
    /// erasures that were interrupted behind the slot.
    pub(super) fn look_at_slots(&self, found: Vec<(u32, Found)>) -> Result<(), OpenError> {
        let Some(addresses) = &self.addresses else { return Ok(()) };
        let mut orphans = Vec::new();
        let mut opened = 0;
        {
            let mut later = addresses.later.lock();
            // A slot that was being overwritten is of no use, whoever's it was.
            let torn = |slot| found.contains(&(slot, Found::Torn));
            for shard in &self.shards {
                let shard = shard.lock();
                for (gift, mark) in &shard.addresses {
                    if mark.slot.is_some_and(torn) {
                        later.unrecorded.push(*gift);
                    }
                }
            }
            for (slot, found) in found.iter().copied() {
                let (Found::Used(gift, version) | Found::Erased(gift, version)) = found else {
                    orphans.push((slot, Of { gift: GiftId::from_bytes([0; 16]), version: 0 }));
                    continue;
                };
                let mark = self.address_mark(gift);
                let is_known = mark.is_some_and(|mark| (mark.slot, mark.version) == (Some(slot), version));
                match (found, is_known) {
                    (Found::Used(..), true) => opened += 1,
                    (Found::Used(..), false) => orphans.push((slot, Of { gift, version })),
                    (_, true) => later.unrecorded.push(gift),
                    (_, false) => addresses.slots.release(slot, Of { gift, version }),
                }
            }
        }
        addresses.erase(&orphans).map_err(|error| OpenError::Addresses(error.to_string()))?;
        orphans.iter().for_each(|(slot, of)| addresses.slots.release(*slot, *of));
        let known: usize = self
            .shards
            .iter()
            .map(|shard| shard.lock().addresses.values().filter(|mark| mark.slot.is_some()).count())
            .sum();
        let lost = known - opened - addresses.later.lock().unrecorded.len();
        if lost > 0 {
            for shard in &self.shards {
                shard
                    .lock()
                    .addresses
                    .values()
                    .filter_map(|mark| mark.slot)
                    .for_each(|slot| addresses.slots.withhold(slot));
            }
            tracing::warn!(
                addresses = lost,
                "addresses cannot be opened, as their slots are not in this directory: a backup has none; their recipients \
                 have to give them again"
            );
        }
        Ok(())
    }

    fn address_mark(&self, gift: GiftId) -> Option<AddressMark> {
        self.shards[self.router.gift(gift)].lock().addresses.get(&gift).copied()
    }

    /// A step that gives a gift's address or erases it.
    pub(super) fn step_address(
        &self,
        command: &Command,
        gift: GiftId,
        step: &GiftStep,
        once: Option<OnceKey>,
    ) -> Result<Done, EngineError> {
        self.check_serving()?;
        if let Err(refusal) = decide::check(command) {
            return Ok(super::no(Outcome::Refused(refusal)));
        }
        let Some(addresses) = &self.addresses else {
            return match step {
                // Nothing is there to be erased.
                GiftStep::EraseAddress => self.run_any(command, None, None),
                _ => self.refuse(command, once, Refusal::no_address_key()),
            };
        };
        let _all = addresses.all.read();
        let _turn = addresses.turns[usize::from(gift.bytes()[15]) % TURNS].lock();
        match step.address() {
            Some(address) => self.accept_to(addresses, command, (gift, step), address, once),
            // Asked again under the same key it erases what is there by then: none is kept for it.
            None => self.erase_asked(addresses, command, gift),
        }
    }

    /// A refusal, unless the command was answered before.
    fn refuse(&self, command: &Command, once: Option<OnceKey>, refusal: Refusal) -> Result<Done, EngineError> {
        self.answer_cold(command, &self.keys_of(command, once), Outcome::Refused(refusal))
    }

    fn accept_to(
        &self,
        addresses: &Addresses,
        command: &Command,
        (id, step): (GiftId, &GiftStep),
        address: &Address,
        once: Option<OnceKey>,
    ) -> Result<Done, EngineError> {
        let Some(gift) = self.find_gift(id)? else { return self.run_any(command, once, None) };
        let mark = self.address_mark(id);
        // What would be refused needs no slot. What was refused then can be refused now.
        if let Err(refusal) = gift.step(step, self.clock.now()) {
            return self.refuse(command, once, refusal);
        }
        if let Ok(Opened::Is(known)) = self.open_address(addresses, id)
            && known.1 == *address
        {
            return self.run_any(command, once, None);
        }
        if gift.accepted_at.is_some()
            && let Err(refusal) = gift.takes_address(self.clock.now())
        {
            return self.refuse(command, once, refusal);
        }
        self.admit(Class::Settle)?;
        let of = Of { gift: id, version: mark.map_or(0, |mark| mark.version) + 1 };
        let draft = addresses.slots.seal(of, address, addresses.keep).map_err(slots_failed)?;
        let slot = draft.slot;
        let done = self.run_any(command, once, Some(Drawn::Address(draft)));
        let is_taken = self.address_mark(id).is_some_and(|mark| (mark.slot, mark.version) == (Some(slot), of.version));
        if is_taken {
            let wait = done.as_ref().ok().and_then(|done| done.wait).unwrap_or_default();
            if let Some(before) = mark.and_then(|mark| Some((mark.slot?, Of { version: mark.version, ..of }))) {
                addresses.later.lock().changed.push((wait, before.0, before.1));
            }
        } else {
            addresses.erase(&[(slot, of)])?;
            addresses.slots.release(slot, of);
        }
        done
    }

    fn erase_asked(&self, addresses: &Addresses, command: &Command, gift: GiftId) -> Result<Done, EngineError> {
        let live = self.address_mark(gift).and_then(|mark| Some((mark.slot?, Of { gift, version: mark.version })));
        if let Some(live) = live {
            self.admit(Class::Settle)?;
            addresses.erase(&[live])?;
        }
        let done = self.run_any(command, None, None);
        if let Some((slot, of)) = live {
            match (&done, self.address_mark(gift).and_then(|mark| mark.slot)) {
                (Ok(done), None) => addresses.later.lock().free.push((done.wait.unwrap_or_default(), slot, of)),
                _ => addresses.later.lock().unrecorded.push(gift),
            }
        }
        done
    }

    /// Overwrites slots of addresses that were changed, gives free ones out again, as far as the
    /// records are durable; and says which gifts' erasures have no record yet.
    pub(super) fn addresses_to_erase(&self) -> Vec<GiftId> {
        let (Some(addresses), Log::Journal(journal)) = (&self.addresses, &self.log) else { return Vec::new() };
        let durable = journal.durable_lsn();
        let mut later = addresses.later.lock();
        let is_durable = |lsn: Lsn| lsn <= durable;
        for (_, slot, of) in later.free.extract_if(.., |(lsn, ..)| is_durable(*lsn)) {
            addresses.slots.release(slot, of);
        }
        let changed: Vec<(u32, Of)> =
            later.changed.extract_if(.., |(lsn, ..)| is_durable(*lsn)).map(|(_, slot, of)| (slot, of)).collect();
        if !changed.is_empty() && addresses.erase(&changed).is_ok() {
            changed.iter().for_each(|(slot, of)| addresses.slots.release(*slot, *of));
        }
        std::mem::take(&mut later.unrecorded)
    }

    /// Erases the addresses of these gifts with one sync, and a record for each. Says whether
    /// there was any.
    pub(super) fn erase_addresses(&self, gifts: Vec<GiftId>) -> bool {
        let Some(addresses) = self.addresses.as_ref().filter(|_| !gifts.is_empty()) else { return false };
        let _alone = addresses.all.write();
        let live = |gift| Some((self.address_mark(gift)?, gift));
        let live: Vec<(u32, Of)> = gifts
            .iter()
            .filter_map(|gift| live(*gift))
            .filter_map(|(mark, gift)| Some((mark.slot?, Of { gift, version: mark.version })))
            .collect();
        // The journal has to take the records, or it is tried again.
        let ready = self.admit(Class::Settle).and_then(|()| addresses.erase(&live));
        let mut any = false;
        for (slot, of) in &live {
            let recorded = ready.is_ok() && self.record_erased(of.gift);
            let mut later = addresses.later.lock();
            match recorded {
                true => later.free.push((self.shards[self.router.gift(of.gift)].lock().last_lsn, *slot, *of)),
                false => later.unrecorded.push(of.gift),
            }
            any |= recorded;
        }
        if let Err(error) = &ready {
            self.tell_waiting(error);
        }
        any
    }

    fn record_erased(&self, gift: GiftId) -> bool {
        let router = self.router;
        let footprint = Footprint { shards: [router.gift(gift)].into_iter().collect(), ..Footprint::default() };
        let done = self.run_due(&footprint, |locked, _| erased(locked, router, gift).into_iter().collect::<Events>());
        matches!(done, Ok(true))
    }

    fn find_gift(&self, id: GiftId) -> Result<Option<Gift>, EngineError> {
        if let Some(durable) = &self.durable {
            self.warm_gift(durable, id)?;
        }
        Ok(self.shards[self.router.gift(id)].lock().gift(id).cloned())
    }

    /// A gift's address for its merchant, and what has to be durable before it is told.
    pub(super) fn read_address(&self, gift: GiftId) -> Result<(AddressRead, Option<Lsn>), EngineError> {
        let known = self.shards[self.router.gift(gift)].lock().last_lsn;
        let Some(addresses) = &self.addresses else {
            let is_known = self.address_mark(gift).is_some_and(|mark| mark.slot.is_some());
            return Ok((if is_known { AddressRead::KeyLost } else { AddressRead::None }, Some(known)));
        };
        Ok(match self.open_address(addresses, gift)? {
            Opened::Is((mark, address, lsn)) => {
                (AddressRead::Open { version: mark.version, address: Box::new(address) }, Some(lsn))
            }
            Opened::None => (AddressRead::None, Some(known)),
            Opened::KeyLost => (AddressRead::KeyLost, Some(known)),
        })
    }

    fn open_address(&self, addresses: &Addresses, gift: GiftId) -> Result<Opened, EngineError> {
        let shard = &self.shards[self.router.gift(gift)];
        let mut failed = None;
        // It may be changed or erased between the look at what is known and at its slot.
        for _ in 0..LOOKS_MAX {
            let (mark, pending, lsn) = {
                let shard = shard.lock();
                let Some(mark) = shard.addresses.get(&gift) else { return Ok(Opened::None) };
                (*mark, shard.sealed.get(&gift).map(|(sealed, _)| sealed.clone()), shard.last_lsn)
            };
            let Some(slot) = mark.slot else { return Ok(Opened::None) };
            let sealed = match (pending, &self.durable) {
                (Some(sealed), _) => sealed,
                (None, Some(durable)) => durable.store.sealed_address(gift).map_err(store_failed)?,
                (None, None) => None,
            };
            let opened =
                sealed.map(|sealed| addresses.slots.open_sealed(slot, Of { gift, version: mark.version }, &sealed));
            let is_still_so = self.address_mark(gift) == Some(mark);
            match opened {
                Some(Ok(Some(address))) => return Ok(Opened::Is((mark, address, lsn))),
                Some(Ok(None)) if is_still_so => return Ok(Opened::KeyLost),
                Some(Err(error)) if is_still_so => failed = Some(slots_failed(error)),
                Some(Ok(None) | Err(_)) | None => {}
            }
        }
        let never =
            || EngineError::Addresses("a sealed address is missing from the store; run `hongbao audit`".to_owned());
        Err(failed.unwrap_or_else(never))
    }
}

/// What came of opening an address.
enum Opened {
    Is((AddressMark, Address, Lsn)),
    None,
    KeyLost,
}
