//! Addresses of gifts: the sealed text lies in the gift's bucket, and what opens it, the wrapped
//! data key, under a key of its own.
//!
//! What becomes of an address with a step of its gift is decided by `gift.lua` in the same step,
//! and only if the address still stands as it was seen.
//!
//! **Invariant:** the text of an address goes to Redis sealed only, and the address key never.
//!
//! **Invariant:** an address that is erased has no wrapped data key. That files of Redis may have
//! it yet is noted in the same step, until they were written anew (see `rewrite`).

use super::audit::Pages;
use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::error::RedisOpenError;
use super::gifts::Seen;
use super::reply::{Answer, Decided, damaged};
use super::scripts::ADDRESS_KEY;
use crate::address::{AddressKeep, AddressMark, AddressRead, KeyId, Of, Unwrapped, name_of};
use crate::command::Refusal;
use crate::error::EngineError;
use crate::gift::{Gift, GiftState, GiftStep};
use crate::state::addresses::{check_version, erase_at};
use crate::types::{GiftId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a wrapped key that changes is looked at again.
const LOOKS_MAX: usize = 16;

/// What is known of a gift's address without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Which one it is, from 1 on.
    pub(super) version: u32,
    /// What its data key is wrapped with; `None` once that is gone.
    pub(super) key: Option<KeyId>,
    /// When it is erased by itself, once the gift is shipped.
    pub(super) erase_at: Option<Timestamp>,
    keep: AddressKeep,
}

impl Mark {
    pub(super) fn read(packed: &[u8]) -> Result<Mark> {
        postcard::from_bytes(packed).map_err(|_| damaged("an address's mark"))
    }

    /// What is left of an erased one, as long as another may be given.
    pub(super) fn of_erased(mark: &AddressMark) -> Mark {
        Mark { version: mark.version, key: None, erase_at: None, keep: mark.keep }
    }

    /// The same where slots have numbers; `None` if it is not erased.
    pub(super) fn erased(&self) -> Option<AddressMark> {
        let Mark { version, key, erase_at, keep } = *self;
        key.is_none().then_some(AddressMark { version, slot: None, erase_at, keep })
    }

    pub(super) fn packed(&self) -> Vec<u8> {
        postcard::to_extend(self, Vec::new()).expect("every mark has a postcard form")
    }

    /// Which address there is, if it is not erased.
    fn live(&self) -> Option<u32> {
        self.key.map(|_| self.version)
    }
}

/// A gift's address as `gift_look.lua` has seen it.
#[derive(Default)]
pub(super) struct SeenAddress {
    packed: Vec<u8>,
    mark: Option<Mark>,
    /// The sealed text and what opens it, if they were asked for and are there.
    text: Vec<u8>,
    wrapped: Vec<u8>,
}

impl SeenAddress {
    /// It stands in a row from `first` on.
    pub(super) fn read(row: &Answer, first: usize) -> Result<SeenAddress> {
        let bytes = |index: usize| row.bytes(first + index).map(<[u8]>::to_vec);
        let packed = bytes(0)?;
        let mark = if packed.is_empty() { None } else { Some(Mark::read(&packed)?) };
        Ok(SeenAddress { packed, mark, text: bytes(1)?, wrapped: bytes(2)? })
    }

    /// What follows for it from what becomes of its gift.
    pub(super) fn follow(&self, gift: &Gift, now: Timestamp) -> Change {
        let Some(mark) = &self.mark else { return Change::None };
        match gift.state {
            GiftState::Accepted => Change::None,
            GiftState::Shipped | GiftState::Delivered if mark.key.is_some() => {
                Change::Mark(Mark { erase_at: erase_at(gift.state, mark.keep, now), ..mark.clone() })
            }
            // It came to nothing; or there is only the number of an address, and none can be given any more.
            _ => Change::Erase(None),
        }
    }

    /// Erased at once.
    fn erased(&self) -> Change {
        match &self.mark {
            // As long as another may be given, its number is the next.
            Some(mark) if mark.key.is_some() => {
                Change::Erase(mark.erase_at.is_none().then(|| Mark { key: None, ..mark.clone() }))
            }
            _ => Change::None,
        }
    }
}

/// What becomes of a gift's address.
pub(super) enum Change {
    None,
    /// It is what it was, but for its mark.
    Mark(Mark),
    /// Another takes its place: its sealed text, and its wrapped data key.
    Put(Mark, [Vec<u8>; 2]),
    /// There is none any more; its mark may stay.
    Erase(Option<Mark>),
}

impl Change {
    pub(super) fn is_none(&self) -> bool {
        matches!(self, Change::None)
    }

    /// As `gift.lua` takes it, behind the mark that was seen.
    pub(super) fn args(self, seen: &SeenAddress) -> [Vec<u8>; 6] {
        let none = || [Vec::new(), Vec::new()];
        let (what, mark, [text, wrapped]) = match self {
            Change::None => ("", None, none()),
            Change::Mark(mark) => ("mark", Some(mark), none()),
            Change::Put(mark, sealed) => ("put", Some(mark), sealed),
            Change::Erase(mark) => ("erase", mark, none()),
        };
        let due = mark.as_ref().and_then(|mark| mark.erase_at).map(|at| at.ms().to_string().into_bytes());
        let mark = mark.map(|mark| mark.packed()).unwrap_or_default();
        [seen.packed.clone(), what.as_bytes().to_vec(), mark, due.unwrap_or_default(), text, wrapped]
    }
}

/// Wrapped data keys that are not wrapped with the address key that counts.
#[derive(Default)]
struct Others {
    /// Gifts whose data key an older one opens.
    older: Vec<GiftId>,
    /// How many are wrapped with each key that is not here.
    unknown: BTreeMap<KeyId, usize>,
}

impl Core {
    /// What becomes of a gift's address with a step, of which `after` is what it makes of the gift.
    pub(super) fn address_after(
        &self,
        step: &GiftStep,
        seen: &Seen,
        gift: &Gift,
        after: Option<&Gift>,
    ) -> std::result::Result<Change, Refusal> {
        let address = &seen.address;
        if let Some(text) = step.address() {
            let Some(keys) = &self.addresses else { return Err(Refusal::no_address_key()) };
            let version = address.mark.as_ref().map_or(0, |mark| mark.version);
            if after.is_none() {
                if let Some(key) = address.mark.as_ref().and_then(|mark| mark.key)
                    && let of = (Of { gift: gift.id, version })
                    && let Unwrapped::Is(known) = keys.open(&address.text, (&key, &address.wrapped), of)
                    && known == *text
                {
                    return Ok(Change::None);
                }
                gift.takes_address(seen.at)?;
            }
            let of = Of { gift: gift.id, version: version + 1 };
            let sealed = keys.seal(text, of);
            let mark = Mark { version: of.version, key: Some(sealed.key), erase_at: None, keep: keys.keep };
            return Ok(Change::Put(mark, [sealed.text, sealed.wrapped]));
        }
        match step {
            GiftStep::EraseAddress => return Ok(address.erased()),
            GiftStep::ShipTo { address_version, .. } if after.is_some() => {
                check_version(address.mark.as_ref().and_then(Mark::live), *address_version)?;
            }
            _ => {}
        }
        let changed = after.filter(|after| after.state != gift.state);
        Ok(changed.map_or(Change::None, |after| address.follow(after, seen.at)))
    }

    /// A gift's address for its merchant.
    pub(super) async fn address(&self, id: GiftId) -> Result<AddressRead> {
        let seen = self.seen_address(id, true).await?;
        let Some((version, key)) = seen.mark.as_ref().and_then(|mark| Some((mark.version, mark.key?))) else {
            return Ok(AddressRead::None);
        };
        if seen.wrapped.is_empty() {
            return Ok(AddressRead::KeyLost);
        }
        let unknown = || {
            let why =
                format!("the address is sealed with the address key {}, which this server has not", name_of(&key));
            EngineError::OperatorNeeded(format!("{why}: start it with --address-key-file, or --address-old-key-file"))
        };
        let keys = self.addresses.as_ref().ok_or_else(unknown)?;
        match keys.open(&seen.text, (&key, &seen.wrapped), Of { gift: id, version }) {
            Unwrapped::Is(address) => Ok(AddressRead::Open { version, address: Box::new(address) }),
            Unwrapped::OtherKey => Err(unknown()),
            Unwrapped::Damaged => {
                Err(EngineError::Addresses(format!("the sealed address of {id} is not as it was sealed")))
            }
        }
    }

    /// Erases the address of a gift whose time is over. Says whether there was anything to do.
    pub(super) async fn end_address(&self, bucket: Bucket, id: GiftId) -> Result<bool> {
        let natural = natural(bucket);
        loop {
            let seen = self.seen_gift(id, &natural, false, false).await?;
            let due = seen.address.mark.as_ref().and_then(|mark| mark.erase_at);
            let (Some(gift), true) = (&seen.gift, due.is_some_and(|due| due <= seen.at)) else { return Ok(false) };
            let decided = self.change_gift(&seen, gift, None, seen.address.erased(), &natural).await?;
            if self.in_the_way(decided, bucket).await?.is_some() {
                return Ok(true);
            }
        }
    }

    async fn seen_address(&self, id: GiftId, confirm: bool) -> Result<SeenAddress> {
        Ok(self.seen_gift(id, &natural(self.layout.of_id(id.bytes())), true, confirm).await?.address)
    }

    /// A gift as it is seen without a mark of the operation; with `text` its address as well.
    pub(super) async fn seen_gift(&self, id: GiftId, natural: &Operation, text: bool, confirm: bool) -> Result<Seen> {
        match self.look_at_gift(id, None, natural, text, confirm).await? {
            Decided::New(told) => Seen::read(told),
            Decided::Kept(_) | Decided::Void => Err(damaged("a gift")),
        }
    }

    /// Whether any gift of the bucket has an address.
    pub(super) async fn has_addresses(self: Arc<Core>, bucket: Bucket) -> Result<bool> {
        let mut pages = Pages::of(&self, bucket, self.layout.addresses(bucket));
        while let Some(page) = pages.next().await? {
            for (_, packed) in page {
                if Mark::read(&packed)?.key.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Wraps with the address key what is wrapped with an older one.
    ///
    /// # Errors
    /// Some is wrapped with a key that was not given.
    pub(super) async fn take_up_addresses(&self) -> std::result::Result<(), RedisOpenError> {
        let failed = |error: EngineError| RedisOpenError::Deployment { why: error.to_string() };
        let found = self.in_every_bucket(|core, bucket| async move { core.wrapped_with_others(bucket).await });
        let mut all = Others::default();
        for others in found.await.map_err(failed)? {
            all.older.extend(others.older);
            others.unknown.into_iter().for_each(|(key, count)| *all.unknown.entry(key).or_default() += count);
        }
        if !all.unknown.is_empty() {
            let keys: Vec<String> = all.unknown.keys().map(name_of).collect();
            return Err(RedisOpenError::Addresses { count: all.unknown.values().sum(), missing: keys.join(", ") });
        }
        let mut wrapped = 0;
        for id in all.older {
            wrapped += usize::from(self.wrap_anew(id).await.map_err(failed)?);
        }
        if let Some(keys) = self.addresses.as_ref().filter(|_| wrapped > 0) {
            let key = name_of(&keys.id());
            tracing::info!(addresses = wrapped, key, "data keys of addresses are wrapped with the new address key");
        }
        Ok(())
    }

    async fn wrapped_with_others(self: Arc<Core>, bucket: Bucket) -> Result<Others> {
        let own = self.addresses.as_ref().map(|keys| keys.id());
        let mut others = Others::default();
        let mut pages = Pages::of(&self, bucket, self.layout.addresses(bucket));
        while let Some(page) = pages.next().await? {
            for (id, packed) in page {
                let Some(key) = Mark::read(&packed)?.key.filter(|key| Some(*key) != own) else { continue };
                let id = GiftId::from_bytes(id.try_into().map_err(|_| damaged("an address's mark"))?);
                let is_older = self.addresses.as_ref().is_some_and(|keys| keys.has(&key));
                if is_older {
                    others.older.push(id);
                // What is lost is not waited for.
                } else if !self.seen_address(id, false).await?.wrapped.is_empty() {
                    *others.unknown.entry(key).or_default() += 1;
                }
            }
        }
        Ok(others)
    }

    /// Says whether it was this server that did it.
    async fn wrap_anew(&self, id: GiftId) -> Result<bool> {
        let Some(keys) = &self.addresses else { return Ok(false) };
        let bucket = self.layout.of_id(id.bytes());
        for _ in 0..LOOKS_MAX {
            let seen = self.seen_address(id, false).await?;
            let Some(mark) = &seen.mark else { return Ok(false) };
            let Some(key) = mark.key.filter(|key| *key != keys.id() && !seen.wrapped.is_empty()) else {
                return Ok(false);
            };
            let Unwrapped::Is(wrapped) = keys.rewrap(&key, &seen.wrapped, Of { gift: id, version: mark.version })
            else {
                let why = format!("the data key of the address of {id} is not as it was wrapped");
                return Err(EngineError::Addresses(why));
            };
            let after = Mark { key: Some(keys.id()), ..mark.clone() };
            let args = [id.bytes().to_vec(), seen.packed, after.packed(), seen.wrapped, wrapped];
            let layout = [self.layout.addresses(bucket), self.layout.address_key(id)];
            let answer = Answer::read(self.call(bucket, &ADDRESS_KEY, &layout, &args, true).await?)?;
            if answer.tag() == b"wrapped" {
                return Ok(true);
            }
        }
        Err(EngineError::Overloaded)
    }
}

fn natural(bucket: Bucket) -> Operation {
    Operation { id: [0; 16], keep: Keep::Natural, bucket }
}
