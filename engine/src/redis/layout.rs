//! Where everything lies: which bucket, and under which key.
//!
//! An envelope lies whole in the bucket that its id begins with, an item with
//! its holds and orders likewise; wallets, what a user sent and received, and
//! merchants lie in the bucket of the user; idempotency keys and references in
//! that of their hash. A mass envelope has a pool in every bucket, and a user
//! grabs from that of the user's.
//!
//! **Invariant:** all keys of a call carry the tag of its bucket.

use super::bucket::Bucket;
use super::lane::Words;
use crate::backend::OnceKey;
use crate::gift::GiftRole;
use crate::notes::Shelf;
use crate::payout::{PayoutState, PayoutTo};
use crate::types::{EnvelopeId, ItemId, PayoutId, Timestamp, UserId, hex};

/// The form of everything in Redis. A new form has a new number.
pub(super) const FORMAT: &str = "8";
/// The money in a bucket's sums: what came and went, where it is, and what is on its way.
pub(super) const MONEY: [&str; 9] =
    ["deposited", "withdrawn", "paid_out", "wallets", "escrowed", "payable", "merchants", "platform", "transit"];

/// A deployment's keys.
pub(super) struct Layout {
    pub(super) prefix: String,
    pub(super) buckets: u16,
    /// Envelopes made from now on that have so many shares are mass envelopes.
    pub(super) mass_shares_min: u32,
}

/// Whether an envelope has pools: its id says so, for ever.
pub(super) fn is_mass(id: EnvelopeId) -> bool {
    id.is_mass()
}

/// The third byte of a new envelope's id says how a grab is carried out, as in
/// the embedded engine, so that nothing has to be looked up to know.
pub(super) fn flag(id: &mut [u8; 16], auto_claim: bool, is_mass: bool, payout: PayoutTo) {
    let mass = if is_mass { EnvelopeId::MASS } else { 0 };
    let flags = 1 | EnvelopeId::MASS | EnvelopeId::OUTSIDE;
    id[2] = id[2] & !flags | u8::from(auto_claim) | mass | payout.flag();
}

pub(super) type Key = Vec<u8>;

impl Layout {
    /// Where what all servers have in common lies.
    pub(super) const COMMON: Bucket = Bucket::new(0);

    pub(super) fn all(&self) -> impl Iterator<Item = Bucket> + use<> {
        (0..self.buckets).map(Bucket::new)
    }

    pub(super) fn of_user(&self, user: &UserId) -> Bucket {
        Bucket::of(user.as_str().as_bytes(), self.buckets)
    }

    /// Ids and keys are random: their first two bytes say where they lie.
    pub(super) fn of_id(&self, id: &[u8; 16]) -> Bucket {
        Bucket::new(u16::from_le_bytes([id[0], id[1]]) % self.buckets)
    }

    fn key(&self, bucket: Bucket, rest: &str) -> Key {
        bucket.key(&self.prefix, rest)
    }

    pub(super) fn sums(&self, bucket: Bucket) -> Key {
        self.key(bucket, "sums")
    }

    pub(super) fn outbox(&self, bucket: Bucket) -> Key {
        self.key(bucket, "outbox")
    }

    pub(super) fn due(&self, bucket: Bucket) -> Key {
        self.key(bucket, "due")
    }

    /// Its settled envelopes by time, until they are archived.
    pub(super) fn settled(&self, bucket: Bucket) -> Key {
        self.key(bucket, "settled")
    }

    /// By another bucket's number: from which of its generations on effects are taken.
    pub(super) fn fences(&self, bucket: Bucket) -> Key {
        self.key(bucket, "fences")
    }

    /// Envelope -> what was taken back of it.
    pub(super) fn redactions(&self, bucket: Bucket) -> Key {
        self.key(bucket, "redactions")
    }

    pub(super) fn deployment(&self) -> Key {
        self.key(Layout::COMMON, "deployment")
    }

    pub(super) fn quotas(&self) -> Key {
        self.key(Layout::COMMON, "quotas")
    }

    /// Id -> API key, and under `version` how often any was made or deleted.
    pub(super) fn api_keys(&self) -> Key {
        self.key(Layout::COMMON, "api_keys")
    }

    /// Id -> API key that was deleted.
    pub(super) fn deleted_api_keys(&self) -> Key {
        self.key(Layout::COMMON, "deleted_api_keys")
    }

    /// Name -> what a server has noted.
    pub(super) fn notes(&self, shelf: Shelf) -> Key {
        self.key(Layout::COMMON, shelf.name())
    }

    pub(super) fn memo(&self, key: OnceKey) -> Key {
        self.key(self.of_id(key.bytes()), &format!("key:{}", hex(key.bytes())))
    }

    pub(super) fn operation(&self, bucket: Bucket, id: &[u8; 16]) -> Key {
        self.key(bucket, &format!("operation:{}", hex(id)))
    }

    pub(super) fn wallet(&self, user: &UserId) -> Key {
        self.key(self.of_user(user), &format!("wallet:{user}"))
    }

    pub(super) fn received(&self, user: &UserId) -> Key {
        self.key(self.of_user(user), &format!("received:{user}"))
    }

    pub(super) fn sent(&self, user: &UserId) -> Key {
        self.key(self.of_user(user), &format!("sent:{user}"))
    }

    /// How many envelopes a user has made in the day that begins then.
    pub(super) fn made(&self, user: &UserId, day: Timestamp) -> Key {
        self.key(self.of_user(user), &format!("made:{}:{user}", day.ms()))
    }

    pub(super) fn merchant(&self, id: &UserId) -> Key {
        self.key(self.of_user(id), &format!("merchant:{id}"))
    }

    /// A bucket's merchants, in the order of their ids.
    pub(super) fn merchants(&self, bucket: Bucket) -> Key {
        self.key(bucket, "merchants")
    }

    /// Of all merchants those that have been kept from selling: as what each stands,
    /// and how often that has changed. In every bucket, for the items there.
    pub(super) fn not_selling(&self, bucket: Bucket) -> Key {
        self.key(bucket, "not_selling")
    }

    pub(super) fn owed(&self, id: &UserId) -> Key {
        self.key(self.of_user(id), &format!("owed:{id}"))
    }

    /// When money of a merchant is due -> how much, and the commission in it.
    pub(super) fn slots(&self, id: &UserId) -> Key {
        self.key(self.of_user(id), &format!("slots:{id}"))
    }

    /// A merchant's entries by time.
    pub(super) fn sales(&self, id: &UserId) -> Key {
        self.key(self.of_user(id), &format!("sales:{id}"))
    }

    /// The mark of an order that its payer could not pay.
    pub(super) fn unpaid(&self, user: &UserId, order: &[u8; 16]) -> Key {
        self.key(self.of_user(user), &format!("unpaid:{}", hex(order)))
    }

    pub(super) fn payout(&self, id: PayoutId) -> Key {
        self.key(self.of_id(id.bytes()), &id.to_string())
    }

    /// All of a bucket's payouts by time.
    pub(super) fn payouts(&self, bucket: Bucket) -> Key {
        self.key(bucket, "payouts")
    }

    /// Those in a state; there is no list of those that are paid.
    pub(super) fn payouts_in(&self, bucket: Bucket, state: PayoutState) -> Key {
        self.key(bucket, &format!("payouts:{}", state.name()))
    }

    /// Envelope -> total of what senders of this bucket had funded from outside.
    pub(super) fn funded(&self, bucket: Bucket) -> Key {
        self.key(bucket, "funded")
    }

    pub(super) fn envelopes_by_time(&self, bucket: Bucket) -> Key {
        self.key(bucket, "envelopes")
    }

    pub(super) fn envelope(&self, id: EnvelopeId) -> Key {
        self.key(self.of_id(id.bytes()), &id.to_string())
    }

    pub(super) fn shares(&self, id: EnvelopeId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:shares"))
    }

    /// User -> share, when grabbed, when claimed, as `win.lua` packs it.
    pub(super) fn winners(&self, id: EnvelopeId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:winners"))
    }

    /// Users in the order of their shares.
    pub(super) fn winners_in_order(&self, id: EnvelopeId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:order"))
    }

    /// The keys of `grab.lua`: the envelope's, and of each who grabs, if that is to
    /// arrive in the same run.
    pub(super) fn grabs(&self, id: EnvelopeId, arriving: &[&UserId]) -> Words {
        let mut keys = Words::with_capacity(400 + 200 * arriving.len());
        let (place, name) = (self.key(self.of_id(id.bytes()), ""), id.to_string());
        keys.push(&[&place, b"sums"]);
        keys.push(&[&place, b"outbox"]);
        for of_envelope in ["", ":shares", ":winners", ":order"] {
            keys.push(&[&place, name.as_bytes(), of_envelope.as_bytes()]);
        }
        keys.push(&[&place, b"due"]);
        keys.push(&[&place, b"settled"]);
        for user in arriving {
            let (place, name) = (self.key(self.of_user(user), ""), user.as_str().as_bytes());
            keys.push(&[&place, b"received:", name]);
            if id.is_auto_claim() {
                keys.push(&[&place, b"wallet:", name]);
                keys.push(&[&place, b"sums"]);
            }
        }
        keys
    }

    /// The keys of `grab_item.lua`.
    pub(super) fn grab_item(&self, id: ItemId, mark: Option<Key>) -> Words {
        let mut keys = Words::with_capacity(600);
        let (place, name) = (self.key(self.of_id(id.bytes()), ""), id.to_string());
        keys.push(&[&place, b"sums"]);
        keys.push(&[&place, b"outbox"]);
        for of_item in ["", ":units", ":live", ":paying"] {
            keys.push(&[&place, name.as_bytes(), of_item.as_bytes()]);
        }
        keys.push(&[&place, b"holds"]);
        keys.push(&[&place, b"due"]);
        keys.push(&[&place, b"not_selling"]);
        keys.push(&[&place, name.as_bytes(), b":gifts"]);
        mark.iter().for_each(|mark| keys.push(&[mark]));
        keys
    }

    /// A mass envelope's shares that lie in no pool.
    pub(super) fn reserve(&self, id: EnvelopeId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:reserve"))
    }

    /// Pool -> its last transfer.
    pub(super) fn transfers(&self, id: EnvelopeId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:transfers"))
    }

    pub(super) fn pool(&self, pool: Bucket, id: EnvelopeId) -> Key {
        self.key(pool, &format!("{id}:pool"))
    }

    pub(super) fn pool_shares(&self, pool: Bucket, id: EnvelopeId) -> Key {
        self.key(pool, &format!("{id}:shares"))
    }

    pub(super) fn pool_winners(&self, pool: Bucket, id: EnvelopeId) -> Key {
        self.key(pool, &format!("{id}:winners"))
    }

    /// The keys of `pool_grab.lua`; those of a payout if a grab may make one.
    pub(super) fn pool_grab(
        &self,
        id: EnvelopeId,
        user: &UserId,
        payout: Option<[Key; 3]>,
        mark: Option<Key>,
    ) -> Words {
        let mut keys = Words::with_capacity(400);
        let (place, name, user) = (self.key(self.of_user(user), ""), id.to_string(), user.as_str().as_bytes());
        keys.push(&[&place, b"sums"]);
        for of_pool in [":pool", ":shares", ":winners"] {
            keys.push(&[&place, name.as_bytes(), of_pool.as_bytes()]);
        }
        keys.push(&[&place, b"received:", user]);
        if id.is_auto_claim() {
            keys.push(&[&place, b"wallet:", user]);
        }
        payout.iter().flatten().for_each(|key| keys.push(&[key]));
        mark.iter().for_each(|mark| keys.push(&[mark]));
        keys
    }

    pub(super) fn items_by_time(&self, bucket: Bucket) -> Key {
        self.key(bucket, "items")
    }

    pub(super) fn item(&self, id: ItemId) -> Key {
        self.key(self.of_id(id.bytes()), &id.to_string())
    }

    /// An item's codes, in the order in which they are handed out.
    pub(super) fn codes(&self, id: ItemId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:codes"))
    }

    /// By digest, which codes an item has had.
    pub(super) fn codes_had(&self, id: ItemId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:had"))
    }

    pub(super) fn units(&self, id: ItemId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:units"))
    }

    pub(super) fn live_holds(&self, id: ItemId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:live"))
    }

    pub(super) fn holds_being_paid(&self, id: ItemId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:paying"))
    }

    pub(super) fn holds(&self, bucket: Bucket) -> Key {
        self.key(bucket, "holds")
    }

    pub(super) fn orders(&self, bucket: Bucket) -> Key {
        self.key(bucket, "orders")
    }

    /// Gift -> the gift.
    pub(super) fn gifts(&self, bucket: Bucket) -> Key {
        self.key(bucket, "gifts")
    }

    /// An item's gifts that have a unit set aside, by deadline.
    pub(super) fn gifts_of_item(&self, id: ItemId) -> Key {
        self.key(self.of_id(id.bytes()), &format!("{id}:gifts"))
    }

    /// A user's gifts by time.
    pub(super) fn gifts_of_user(&self, user: &UserId, role: GiftRole) -> Key {
        let list = match role {
            GiftRole::Given => "given",
            GiftRole::Received => "gifts",
        };
        self.key(self.of_user(user), &format!("{list}:{user}"))
    }
}
