//! The one trait behind which an engine stands: embedded today, Redis beside it.
//!
//! Everything is asynchronous and there is no blocking twin. An implementation
//! answers only what will still be true after a crash: a positive [`Outcome`],
//! a list and a balance wait until what they tell is durable.

use crate::address::AddressRead;
use crate::api_key::ApiKey;
use crate::code::{Code, HandedTo};
use crate::command::{
    Command, EnvelopeState, EnvelopeView, HoldView, ItemKind, ItemView, Merchant, MerchantStatus, NewItem, OrderView,
    Outcome, ShareStatus, WalletView,
};
use crate::error::EngineError;
use crate::feed::{EventPage, EventQuery};
use crate::gift::{Gift, GiftRole};
use crate::gift_envelope::GiftEnvelopeView;
use crate::group::{Group, GroupsOf};
use crate::notes::Notes;
use crate::payment::{Payment, PaymentFilter};
use crate::payout::{PayoutFilter, PayoutView};
use crate::relation::{RelationRow, RelationSide};
use crate::sale::{MerchantBalance, Statement, StatementTime};
use crate::types::{
    Amount, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PaymentId, PayoutId, Timestamp,
    UserId,
};
use sha2::{Digest, Sha256};
use std::future::Future;

/// An idempotency key with its scope, as the 128 bits under which its answer is kept.
///
/// A caller who looked for two of its own keys with the same 128 bits would
/// only confuse itself; to hit another owner's it would need a second preimage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OnceKey([u8; 16]);

impl OnceKey {
    /// The key `text` that `owner` used on `route`.
    pub fn idempotency(owner: &str, route: &str, text: &str) -> OnceKey {
        OnceKey::digest(b"idempotency", [owner, route, text])
    }

    /// The `reference` that `owner` used for a `kind` of thing.
    pub fn reference(owner: &str, kind: &str, text: &str) -> OnceKey {
        OnceKey::digest(b"reference", [owner, kind, text])
    }

    fn digest(domain: &[u8], parts: [&str; 3]) -> OnceKey {
        let mut hash = Sha256::new();
        hash.update(domain);
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        OnceKey(bytes)
    }

    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> OnceKey {
        OnceKey(bytes)
    }

    /// The bits.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// An outcome, and whether it is the one first given under the same idempotency key.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer.
    pub outcome: Outcome,
    /// Whether it was remembered rather than decided now.
    pub replayed: bool,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug)]
pub struct Page {
    /// At most so many rows, 1 to 1000.
    pub limit: usize,
    /// Where the last page ended: [`Listing::next`] of it.
    pub cursor: Option<Vec<u8>>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The rows in order.
    pub rows: Vec<T>,
    /// Where the next page starts, if there may be one.
    pub next: Option<Vec<u8>>,
}

/// A movement on a wallet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// What it was.
    pub kind: EntryKind,
    /// How much moved; whether in or out is told by the kind.
    pub amount: Amount,
    /// What could be spent afterwards.
    pub balance_after: Amount,
}

/// What moved a wallet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum EntryKind {
    /// In, from outside, with the caller's reference.
    Deposit(Option<String>),
    /// Out, with the caller's reference.
    Withdrawal(Option<String>),
    /// Out, into an envelope.
    EnvelopeCreated(EnvelopeId),
    /// In, a share claimed.
    Claim(EnvelopeId),
    /// In, what nobody grabbed.
    Refund(EnvelopeId),
    /// In, what winners did not claim.
    Lapse(EnvelopeId),
    /// Out, for an order.
    Order(OrderId),
    /// Out, for a gift.
    GiftPaid(GiftId),
    /// In, from a gift that came to nothing.
    GiftRefund(GiftId),
    /// In, from an order that went back.
    OrderRefund(OrderId),
    /// Out, into a group that buys together.
    GroupPaid(GroupId),
    /// In, from a group that was left, or came to nothing.
    GroupRefund(GroupId),
}

impl EntryKind {
    /// Whether the money came in.
    pub fn is_credit(&self) -> bool {
        match self {
            EntryKind::Deposit(_)
            | EntryKind::Claim(_)
            | EntryKind::Refund(_)
            | EntryKind::Lapse(_)
            | EntryKind::GiftRefund(_)
            | EntryKind::OrderRefund(_)
            | EntryKind::GroupRefund(_) => true,
            EntryKind::Withdrawal(_)
            | EntryKind::EnvelopeCreated(_)
            | EntryKind::Order(_)
            | EntryKind::GiftPaid(_)
            | EntryKind::GroupPaid(_) => false,
        }
    }
}

/// A share somebody grabbed, as the list of an envelope's grabs tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrabRow {
    /// Who.
    pub user: UserId,
    /// How much.
    pub amount: Amount,
    /// Its position in the split.
    pub share: u32,
    /// What it has become.
    pub status: ShareStatus,
    /// When it was grabbed.
    pub grabbed_at: Timestamp,
    /// When it was claimed.
    pub claimed_at: Option<Timestamp>,
    /// Whether it is the luckiest, told once every share is taken.
    pub best: bool,
}

/// A share a user grabbed, as the list of that user's grabs tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRow {
    /// From which envelope.
    pub envelope: EnvelopeId,
    /// Whose.
    pub sender: UserId,
    /// The share.
    pub grab: GrabRow,
}

/// Which envelopes a list is to hold; `None` is no restriction.
#[derive(Clone, Debug, Default)]
pub struct EnvelopeFilter {
    /// The owner whose references are meant.
    pub owner: String,
    /// Only those made by a key of that owner.
    pub of_owner: bool,
    /// Only the one made under this reference.
    pub reference: Option<String>,
    /// Only this sender's.
    pub sender: Option<UserId>,
    /// Only those that stand so.
    pub state: Option<EnvelopeState>,
    /// Only those made then or later.
    pub created_from: Option<Timestamp>,
    /// Only those made before then.
    pub created_to: Option<Timestamp>,
}

impl EnvelopeFilter {
    pub(crate) fn matches(&self, view: &EnvelopeView) -> bool {
        (!self.of_owner || self.owner == view.owner)
            && self.sender.as_ref().is_none_or(|sender| *sender == view.sender)
            && self.state.is_none_or(|state| state == view.state)
            && self.created_from.is_none_or(|from| view.created_at >= from)
            && self.created_to.is_none_or(|to| view.created_at < to)
    }
}

/// Which items a list is to hold; `None` is no restriction.
#[derive(Clone, Debug, Default)]
pub struct ItemFilter {
    /// Only this category.
    pub category: Option<String>,
    /// Only this merchant's.
    pub merchant: Option<UserId>,
    /// Only of this kind.
    pub kind: Option<ItemKind>,
    /// Only variants of this item.
    pub variant_of: Option<ItemId>,
    /// Only those whose merchant may sell and whose sale has begun and not ended, or
    /// only the others. What is sold out is on sale all the same.
    pub on_sale: Option<bool>,
}

impl ItemFilter {
    /// All but whether it is on sale.
    pub(crate) fn matches(&self, view: &ItemView) -> bool {
        let NewItem { category, merchant, origin, .. } = &view.terms;
        self.category.as_ref().is_none_or(|wanted| wanted == category)
            && self.merchant.as_ref().is_none_or(|wanted| wanted == merchant)
            && self.kind.is_none_or(|wanted| wanted == origin.kind)
            && self.variant_of.is_none_or(|wanted| origin.variant_of == Some(wanted))
    }
}

/// Where all money is. `deposited = withdrawn + paid_out + wallets + escrowed +
/// payable + refunding + merchants + platform + in_flight` (invariant I1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Audit {
    /// Ever put in.
    pub deposited: u64,
    /// Ever taken out of wallets.
    pub withdrawn: u64,
    /// Ever paid out to winners and payers outside.
    pub paid_out: u64,
    /// In users' wallets.
    pub wallets: u64,
    /// In envelopes.
    pub escrowed: u64,
    /// Owed as payouts.
    pub payable: u64,
    /// On its way back to who paid outside. Kept beside the others where they are stored.
    #[serde(skip)]
    pub refunding: u64,
    /// Owed to merchants.
    pub merchants: u64,
    /// The platform's own.
    pub platform: u64,
    /// Between two places of one decision; always 0 where decisions are one record.
    /// Below zero, money has arrived somewhere that never left.
    pub in_flight: i64,
}

impl Audit {
    /// Whether all money is accounted for.
    pub fn balanced(&self) -> bool {
        let inside = [self.wallets, self.escrowed, self.payable, self.refunding, self.merchants, self.platform];
        let places = [self.withdrawn, self.paid_out].into_iter().chain(inside);
        let placed = places.map(i128::from).sum::<i128>();
        self.in_flight >= 0 && i128::from(self.deposited) == placed + i128::from(self.in_flight)
    }
}

/// The result of a read or a command.
pub type Result<T> = std::result::Result<T, EngineError>;

/// An engine: decides commands and tells what it has decided.
pub trait Backend: Notes + Send + Sync + 'static {
    /// Decides `command`, makes the decision durable, and answers. With `once`
    /// a positive answer is remembered, and the same command under the same key
    /// gets it again.
    ///
    /// # Errors
    /// [`EngineError`] when it cannot be decided or made durable now.
    fn execute(&self, command: Command, once: Option<OnceKey>) -> impl Future<Output = Result<Reply>> + Send;

    /// Decides independent commands, those about one thing in order, and answers in
    /// order. Not atomic: each is decided for itself; the call waits once for the
    /// last of them.
    fn execute_all(&self, commands: Vec<Command>) -> impl Future<Output = Vec<Result<Reply>>> + Send;

    /// A user's wallet; one never seen has zeros.
    fn wallet(&self, user: &UserId) -> impl Future<Output = Result<WalletView>> + Send;
    /// A wallet's movements, newest first.
    fn entries(&self, user: &UserId, page: &Page) -> impl Future<Output = Result<Listing<Entry>>> + Send;
    /// One envelope.
    fn envelope(&self, id: EnvelopeId) -> impl Future<Output = Result<Option<EnvelopeView>>> + Send;
    /// Envelopes, newest first.
    fn envelopes(
        &self,
        filter: &EnvelopeFilter,
        page: &Page,
    ) -> impl Future<Output = Result<Listing<EnvelopeView>>> + Send;
    /// An envelope's grabs by share; `None` if there is no such envelope.
    fn grabs(&self, envelope: EnvelopeId, page: &Page)
    -> impl Future<Output = Result<Option<Listing<GrabRow>>>> + Send;
    /// One user's grab from an envelope; never grabs.
    fn grab_of(&self, envelope: EnvelopeId, user: &UserId) -> impl Future<Output = Result<Option<GrabRow>>> + Send;
    /// Envelopes a user sent, newest first.
    fn sent(&self, user: &UserId, page: &Page) -> impl Future<Output = Result<Listing<EnvelopeView>>> + Send;
    /// Shares a user grabbed, newest first.
    fn received(&self, user: &UserId, page: &Page) -> impl Future<Output = Result<Listing<ReceivedRow>>> + Send;
    /// One merchant.
    fn merchant(&self, id: &UserId) -> impl Future<Output = Result<Option<Merchant>>> + Send;
    /// Merchants by their ids, only those that stand so if a status is given.
    fn merchants(
        &self,
        status: Option<MerchantStatus>,
        page: &Page,
    ) -> impl Future<Output = Result<Listing<Merchant>>> + Send;
    /// What a merchant has; `None` if there is no such merchant.
    fn merchant_balance(&self, id: &UserId) -> impl Future<Output = Result<Option<MerchantBalance>>> + Send;
    /// A merchant's entries of a time, the oldest first; `None` if there is no such merchant.
    fn statement(
        &self,
        id: &UserId,
        time: StatementTime,
        page: &Page,
    ) -> impl Future<Output = Result<Option<Statement>>> + Send;
    /// One item.
    fn item(&self, id: ItemId) -> impl Future<Output = Result<Option<ItemView>>> + Send;
    /// Items, newest first.
    fn items(&self, filter: &ItemFilter, page: &Page) -> impl Future<Output = Result<Listing<ItemView>>> + Send;
    /// One hold.
    fn hold(&self, id: HoldId) -> impl Future<Output = Result<Option<HoldView>>> + Send;
    /// One order.
    fn order(&self, id: OrderId) -> impl Future<Output = Result<Option<OrderView>>> + Send;
    /// The codes that an order or a gift was handed, in order; none if it was handed none.
    /// They are whoever's it is, and nobody else's.
    fn codes(&self, to: HandedTo) -> impl Future<Output = Result<Vec<Code>>> + Send;
    /// One gift.
    fn gift(&self, id: GiftId) -> impl Future<Output = Result<Option<Gift>>> + Send;
    /// A gift's address, opened: for nobody but its merchant.
    fn address(&self, gift: GiftId) -> impl Future<Output = Result<AddressRead>> + Send;
    /// A user's gifts, the newest first.
    fn gifts(&self, user: &UserId, role: GiftRole, page: &Page) -> impl Future<Output = Result<Listing<Gift>>> + Send;
    /// One gift envelope, with its gifts.
    fn gift_envelope(&self, id: GiftEnvelopeId) -> impl Future<Output = Result<Option<GiftEnvelopeView>>> + Send;
    /// Gift envelopes that a user gives, the newest first.
    fn gift_envelopes(
        &self,
        giver: &UserId,
        page: &Page,
    ) -> impl Future<Output = Result<Listing<GiftEnvelopeView>>> + Send;
    /// What a user is to others, or others are to the user, by the others' ids.
    fn relations(
        &self,
        user: &UserId,
        side: RelationSide,
        page: &Page,
    ) -> impl Future<Output = Result<Listing<RelationRow>>> + Send;
    /// One payment outside.
    fn payment(&self, id: PaymentId) -> impl Future<Output = Result<Option<Payment>>> + Send;
    /// Payments outside, state by state, the oldest first. A page may be short, even empty, and
    /// still have a next one.
    fn payments(&self, filter: &PaymentFilter, page: &Page) -> impl Future<Output = Result<Listing<Payment>>> + Send;
    /// One group.
    fn group(&self, id: GroupId) -> impl Future<Output = Result<Option<Group>>> + Send;
    /// A user's or an item's groups, the newest first. A page may be short, even empty, and still have a next one.
    fn groups(&self, of: &GroupsOf, page: &Page) -> impl Future<Output = Result<Listing<Group>>> + Send;
    /// One payout.
    fn payout(&self, id: PayoutId) -> impl Future<Output = Result<Option<PayoutView>>> + Send;
    /// Payouts, the oldest first. A page may be short, even empty, and still have a
    /// next one. While states change none is told twice on the way from page to page.
    fn payouts(&self, filter: &PayoutFilter, page: &Page) -> impl Future<Output = Result<Listing<PayoutView>>> + Send;
    /// API keys that were not deleted, the newest first.
    fn api_keys(&self, page: &Page) -> impl Future<Output = Result<Listing<ApiKey>>> + Send;
    /// A number that is another one after an API key was made or deleted, by
    /// whichever engine. A list asked for afterwards holds what it stands for.
    fn api_keys_version(&self) -> impl Future<Output = Result<u64>> + Send;
    /// What has happened, from a position on; only what is durable, and all of it.
    ///
    /// # Errors
    /// [`EngineError::Cursor`] for a cursor that is not of this feed,
    /// [`EngineError::CursorGone`] if what follows it is not kept any more.
    fn events(&self, query: &EventQuery) -> impl Future<Output = Result<EventPage>> + Send;
    /// Waits until more may have happened than stood behind `mark` (0 at first), and
    /// gives the mark of what has by then. To be waited for by one at a time.
    fn more_events(&self, mark: u64) -> impl Future<Output = Result<u64>> + Send;
    /// Where all money is, at one moment.
    fn audit(&self) -> impl Future<Output = Result<Audit>> + Send;
    /// The engine's time, by which deadlines are kept.
    fn now(&self) -> Timestamp;
    /// Whether it serves: `Err` says why not and what to do.
    fn ready(&self) -> std::result::Result<(), String>;
}
