// Written by server/clients/generate from server/src/openapi.json; do not edit.

//! The types of the API. What is not known of a newer server is kept or passed over.

use crate::word::{union, words};
use serde::{Deserialize, Serialize};

/// Minor units (fen). Never a float, never a string.
pub type Amount = u64;

/// Minor units (fen).
pub type Balance = u64;

/// `Count` of the API.
pub type Count = u64;

/// 1 to 64 of A-Z a-z 0-9 _ . : @ -, not . or .. ; use pseudonymous ids.
pub type User = String;

/// `Time` of the API.
pub type Time = String;

/// The caller's own number: visible characters, unique per owner and kind for ever. Sent again under another
/// Idempotency-Key, the same content gets the first answer, with Idempotency-Replayed: true; other content is 409
/// reference_conflict.
pub type Reference = String;

/// `EnvelopeId` of the API.
pub type EnvelopeId = String;

/// `ItemId` of the API.
pub type ItemId = String;

/// `HoldId` of the API.
pub type HoldId = String;

/// `OrderId` of the API.
pub type OrderId = String;

/// `PaymentId` of the API.
pub type PaymentId = String;

/// `PayoutId` of the API.
pub type PayoutId = String;

/// `GiftId` of the API.
pub type GiftId = String;

/// `GiftEnvelopeId` of the API.
pub type GiftEnvelopeId = String;

/// `GroupId` of the API.
pub type GroupId = String;

/// `WebhookId` of the API.
pub type WebhookId = String;

/// `NewWebhook` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewWebhook {
    /// https, or http where the operator allows it; no user, no password, no fragment.
    pub url: String,
    /// Types as of GET /v1/events, each an element; null for all but share.grabbed and hold.held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Option<Vec<String>>>,
    /// Only what happens to this owner's envelopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Option<User>>,
    /// now, oldest, or a cursor of the feed; now if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Option<String>>,
}

impl NewWebhook {
    /// With what there must be; the rest is left out.
    pub fn new(url: impl Into<String>) -> Self {
        NewWebhook { url: url.into(), types: None, owner: None, after: None }
    }

    /// Sets `types`. `None` is sent as null.
    #[must_use]
    pub fn types(mut self, types: impl Into<Option<Vec<String>>>) -> Self {
        self.types = Some(types.into());
        self
    }

    /// Sets `owner`. `None` is sent as null.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<Option<User>>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Sets `after`. `None` is sent as null.
    #[must_use]
    pub fn after(mut self, after: impl Into<Option<String>>) -> Self {
        self.after = Some(after.into());
        self
    }
}

/// `WebhookChange` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WebhookChange {
    /// https, or http where the operator allows it; no user, no password, no fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Types as of GET /v1/events, each an element; null for all but share.grabbed and hold.held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Option<Vec<String>>>,
    /// `disabled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

impl WebhookChange {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        WebhookChange { url: None, types: None, disabled: None }
    }

    /// Sets `url`.
    #[must_use]
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Sets `types`. `None` is sent as null.
    #[must_use]
    pub fn types(mut self, types: impl Into<Option<Vec<String>>>) -> Self {
        self.types = Some(types.into());
        self
    }

    /// Sets `disabled`.
    #[must_use]
    pub fn disabled(mut self, disabled: bool) -> Self {
        self.disabled = Some(disabled);
        self
    }
}

impl Default for WebhookChange {
    fn default() -> Self {
        Self::new()
    }
}

/// `WebhookFailure` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct WebhookFailure {
    /// `at`.
    pub at: Time,
    /// `detail`.
    pub detail: String,
}

words! {
    /// `state` of [`Webhook`].
    WebhookState { Active = "active", Failing = "failing", Disabled = "disabled" }
}

/// `Webhook` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Webhook {
    /// `id`.
    pub id: WebhookId,
    /// `url`.
    pub url: String,
    /// `types`.
    pub types: Option<Vec<String>>,
    /// `owner`.
    pub owner: Option<String>,
    /// failing: the last request failed.
    pub state: WebhookState,
    /// `disabled_reason`.
    pub disabled_reason: Option<String>,
    /// What signatures are made with: whsec_ and base64. Null when this is not the answer that made it.
    pub secret: Option<String>,
    /// Behind what was delivered, or is a dead letter.
    pub cursor: String,
    /// Events of the batch that is on its way.
    pub pending: u64,
    /// How often that was tried.
    pub attempts: u64,
    /// When it is tried again.
    pub next_attempt_at: Option<Time>,
    /// The age of its first event.
    pub lag_s: u64,
    /// Dead letters that are kept.
    pub dead: u64,
    /// When a batch was taken last.
    pub last_success_at: Option<Time>,
    /// `last_error`.
    pub last_error: Option<WebhookFailure>,
    /// `created_at`.
    pub created_at: Time,
}

/// Where the next page starts; null at the end.
pub type Cursor = Option<String>;

/// `Webhooks` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Webhooks {
    /// `webhooks`.
    pub webhooks: Vec<Webhook>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `WebhookPinged` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct WebhookPinged {
    /// Whether a 2xx came back.
    pub delivered: bool,
    /// What came back instead.
    pub error: Option<String>,
}

/// `DeadLetter` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its webhook-id.
    pub id: String,
    /// How many; 0 if they were gone before they were counted.
    pub events: u64,
    /// The cursor before them.
    pub after: String,
    /// The cursor behind them.
    pub until: String,
    /// `attempts`.
    pub attempts: u64,
    /// `died_at`.
    pub died_at: Time,
    /// Why the last attempt failed.
    pub detail: String,
    /// Whether its events are not kept any more.
    pub gone: bool,
    /// Whether it is about to be sent once more.
    pub redelivering: bool,
}

/// `DeadLetters` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct DeadLetters {
    /// `dead`.
    pub dead: Vec<DeadLetter>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `Redeliver` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Redeliver {
    /// Of dead letters; either these or from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Option<Vec<String>>>,
    /// A cursor of the feed, or oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Option<String>>,
}

impl Redeliver {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        Redeliver { ids: None, from: None }
    }

    /// Sets `ids`. `None` is sent as null.
    #[must_use]
    pub fn ids(mut self, ids: impl Into<Option<Vec<String>>>) -> Self {
        self.ids = Some(ids.into());
        self
    }

    /// Sets `from`. `None` is sent as null.
    #[must_use]
    pub fn from(mut self, from: impl Into<Option<String>>) -> Self {
        self.from = Some(from.into());
        self
    }
}

impl Default for Redeliver {
    fn default() -> Self {
        Self::new()
    }
}

/// `KeyId` of the API.
pub type KeyId = String;

/// admin: everything. issuer: creates envelopes and items, sees and cancels its owner's envelopes, changes its
/// owner's items. caller: grabs, claims and reads on behalf of users. treasurer: moves money in and out of wallets.
/// merchant:\<id>: reads this merchant's items and orders. viewer: reads everything but keys.
pub type Role = String;

/// `NewKey` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// Whose references, idempotency keys and envelopes are meant; several keys may have one owner. The name, unless
    /// it is given. What is made with the admin key is the owner admin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<User>,
    /// `roles`.
    pub roles: Vec<Role>,
}

impl NewKey {
    /// With what there must be; the rest is left out.
    pub fn new(name: impl Into<String>, roles: Vec<Role>) -> Self {
        NewKey { name: name.into(), roles, owner: None }
    }

    /// Sets `owner`.
    #[must_use]
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }
}

/// `Key` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Key {
    /// `id`.
    pub id: KeyId,
    /// `name`.
    pub name: String,
    /// `owner`.
    pub owner: User,
    /// `roles`.
    pub roles: Vec<Role>,
    /// `created_at`.
    pub created_at: Time,
}

words! {
    /// `type` of [`Event`].
    EventType { EnvelopeCreated = "envelope.created", EnvelopeSoldOut = "envelope.sold_out", EnvelopeExpired = "envelope.expired", EnvelopeCancelled = "envelope.cancelled", EnvelopeSettled = "envelope.settled", ShareGrabbed = "share.grabbed", ShareClaimed = "share.claimed", ShareLapsed = "share.lapsed", WalletDeposited = "wallet.deposited", WalletWithdrawn = "wallet.withdrawn", ItemPut = "item.put", HoldHeld = "hold.held", HoldClaimed = "hold.claimed", HoldReleased = "hold.released", HoldExpired = "hold.expired", OrderCreated = "order.created", PayoutDue = "payout.due", PayoutSent = "payout.sent", PayoutPaid = "payout.paid", PayoutFailed = "payout.failed", EnvelopeRedacted = "envelope.redacted", MerchantChanged = "merchant.changed", GiftAwaitingPayment = "gift.awaiting_payment", GiftOffered = "gift.offered", GiftAccepted = "gift.accepted", GiftShipped = "gift.shipped", GiftDelivered = "gift.delivered", GiftDeclined = "gift.declined", GiftExpired = "gift.expired", GiftCancelled = "gift.cancelled", GiftFailed = "gift.failed", MerchantSettled = "merchant.settled", GiftRedacted = "gift.redacted", OrderShipped = "order.shipped", OrderDelivered = "order.delivered", OrderReturnRequested = "order.return_requested", OrderReturned = "order.returned", OrderRefused = "order.refused", PaymentCreated = "payment.created", PaymentPaid = "payment.paid", PaymentFailed = "payment.failed", PaymentRefunding = "payment.refunding", PaymentRefunded = "payment.refunded", GroupOpened = "group.opened", GroupJoined = "group.joined", GroupLeft = "group.left", GroupFull = "group.full", GroupExpired = "group.expired", GroupLeaderLeft = "group.leader_left" }
}

/// `Event` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The same whenever this event is told.
    pub id: String,
    /// More may come: pass over what you do not know. item.put is an item put on sale, changed or restocked;
    /// share.lapsed is one event for all shares of an envelope that nobody claimed in time.
    pub r#type: EventType,
    /// `at`.
    pub at: Time,
    /// The owner of the envelope, gift or group, if it is about one or its payouts, or of the item that was put.
    #[serde(default)]
    pub owner: Option<String>,
    /// What it is about, as it was then: of envelope.created an Envelope, of hold.* a Hold, of order.* an Order, of
    /// payout.* a Payout, of payment.* a Payment, of merchant.changed a Merchant, of merchant.settled SettledSales,
    /// of gift.* a Gift, of group.* GroupHappened, of item.put an Item whose stock tells `total` only.
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// `Events` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Events {
    /// `events`.
    pub events: Vec<Event>,
    /// Where to go on; also where there are no events.
    pub next_cursor: String,
}

words! {
    /// `EnvelopeState` of the API.
    EnvelopeState { Scheduled = "scheduled", Open = "open", SoldOut = "sold_out", Expired = "expired", Cancelled = "cancelled", Settled = "settled" }
}

words! {
    /// `ended_as` of [`EnvelopeChanged`].
    EnvelopeChangedEndedAs { SoldOut = "sold_out", Expired = "expired", Cancelled = "cancelled" }
}

/// `EnvelopeChanged` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct EnvelopeChanged {
    /// `id`.
    pub id: EnvelopeId,
    /// `sender`.
    pub sender: User,
    /// `reference`.
    pub reference: Option<String>,
    /// `state`.
    pub state: EnvelopeState,
    /// `ended_as`.
    pub ended_as: EnvelopeChangedEndedAs,
    /// `claimed_amount`.
    #[serde(default)]
    pub claimed_amount: Option<Balance>,
    /// `refunded_amount`.
    #[serde(default)]
    pub refunded_amount: Option<Balance>,
}

/// `RedactedEnvelope` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct RedactedEnvelope {
    /// `id`.
    pub id: EnvelopeId,
    /// `sender`.
    pub sender: User,
    /// `reference`.
    pub reference: Option<String>,
    /// `redacted_at`.
    pub redacted_at: Time,
    /// Whether the metadata was taken back as well.
    pub with_metadata: bool,
}

words! {
    /// `status` of [`ShareOf`].
    ShareOfStatus { Grabbed = "grabbed", Claimed = "claimed" }
}

/// `ShareOf` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ShareOf {
    /// `envelope`.
    pub envelope: EnvelopeId,
    /// `sender`.
    pub sender: User,
    /// `reference`.
    pub reference: Option<String>,
    /// `user`.
    pub user: User,
    /// `share`.
    pub share: u64,
    /// `amount`.
    pub amount: Amount,
    /// `status`.
    pub status: ShareOfStatus,
    /// `grabbed_at`.
    pub grabbed_at: Time,
    /// `claimed_at`.
    pub claimed_at: Option<String>,
}

/// `LapsedShares` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct LapsedShares {
    /// `envelope`.
    pub envelope: EnvelopeId,
    /// `sender`.
    pub sender: User,
    /// `reference`.
    pub reference: Option<String>,
    /// `amount`.
    pub amount: Amount,
}

/// `Currency` of the API.
pub type Currency = String;

/// `MovedMoney` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct MovedMoney {
    /// `user`.
    pub user: User,
    /// `currency`.
    pub currency: Currency,
    /// `amount`.
    pub amount: Amount,
    /// `available`.
    pub available: Balance,
    /// `reference`.
    pub reference: Option<String>,
}

/// `MadeKey` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct MadeKey {
    /// `id`.
    pub id: KeyId,
    /// `name`.
    pub name: String,
    /// `owner`.
    pub owner: User,
    /// `roles`.
    pub roles: Vec<Role>,
    /// `created_at`.
    pub created_at: Time,
    /// What is sent as Authorization: Bearer. Null when this is not the answer that made it.
    pub key: Option<String>,
}

/// `Keys` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Keys {
    /// `keys`.
    pub keys: Vec<Key>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

words! {
    /// `ShareStatus` of the API.
    ShareStatus { Grabbed = "grabbed", Claimed = "claimed", Lapsed = "lapsed" }
}

words! {
    /// `PayoutState` of the API.
    PayoutState { Due = "due", Sent = "sent", Paid = "paid", Failed = "failed" }
}

words! {
    /// win: a share that was claimed. refund: what nobody took, to the sender.
    PayoutKind { Win = "win", Refund = "refund" }
}

/// `Transfer` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Transfer {
    /// `amount`.
    pub amount: Amount,
    /// `reference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Option<Reference>>,
}

impl Transfer {
    /// With what there must be; the rest is left out.
    pub fn new(amount: Amount) -> Self {
        Transfer { amount, reference: None }
    }

    /// Sets `reference`. `None` is sent as null.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<Option<Reference>>) -> Self {
        self.reference = Some(reference.into());
        self
    }
}

/// `Wallet` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Wallet {
    /// `user`.
    pub user: User,
    /// `currency`.
    pub currency: Currency,
    /// `available`.
    pub available: Balance,
    /// `held`.
    pub held: Balance,
}

words! {
    /// `kind` of [`Entry`].
    EntryKind { Deposit = "deposit", Withdrawal = "withdrawal", Envelope = "envelope", Claim = "claim", Refund = "refund", Lapse = "lapse", Order = "order", Gift = "gift", GiftRefund = "gift_refund", OrderRefund = "order_refund", Group = "group", GroupRefund = "group_refund" }
}

/// `Entry` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// `at`.
    pub at: Time,
    /// `kind`.
    pub kind: EntryKind,
    /// `amount`.
    pub amount: Amount,
    /// `balance_after`.
    pub balance_after: Balance,
    /// `envelope`.
    #[serde(default)]
    pub envelope: Option<EnvelopeId>,
    /// `order`.
    #[serde(default)]
    pub order: Option<OrderId>,
    /// `gift`.
    #[serde(default)]
    pub gift: Option<GiftId>,
    /// `group`.
    #[serde(default)]
    pub group: Option<GroupId>,
    /// `reference`.
    #[serde(default)]
    pub reference: Option<Reference>,
}

/// `Entries` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Entries {
    /// `entries`.
    pub entries: Vec<Entry>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `NewEnvelopeFunding` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewEnvelopeFunding {
    /// `reference`.
    pub reference: Reference,
}

impl NewEnvelopeFunding {
    /// With what there must be; the rest is left out.
    pub fn new(reference: impl Into<String>) -> Self {
        NewEnvelopeFunding { reference: reference.into() }
    }
}

words! {
    /// `split` of [`NewEnvelope`].
    NewEnvelopeSplit { Lucky = "lucky", Uniform = "uniform", Equal = "equal", Specified = "specified" }
}

words! {
    /// `unclaimed` of [`NewEnvelope`].
    NewEnvelopeUnclaimed { Return = "return", Credit = "credit" }
}

words! {
    /// `payout` of [`NewEnvelope`].
    NewEnvelopePayout { Wallet = "wallet", External = "external" }
}

/// `NewEnvelope` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewEnvelope {
    /// `sender`.
    pub sender: User,
    /// `total`.
    pub total: Amount,
    /// `shares`.
    pub shares: u64,
    /// lucky: double mean, then shuffled. uniform: every division that keeps the minimum is equally likely. equal:
    /// total must divide by shares. specified: the amounts given, shuffled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<NewEnvelopeSplit>,
    /// Only with lucky and uniform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_share: Option<Option<u64>>,
    /// Only with lucky.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_share: Option<Option<u64>>,
    /// Only with specified: one for each share, summing to the total.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amounts: Option<Option<Vec<Amount>>>,
    /// `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// At most a year ahead and not in the past; null is at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Option<String>>,
    /// `expires_in_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// `claim_within_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_within_s: Option<u64>,
    /// A grab credits the winner at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_claim: Option<bool>,
    /// `unclaimed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclaimed: Option<NewEnvelopeUnclaimed>,
    /// `reference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Option<Reference>>,
    /// Kept with the envelope; up to 4 KiB of JSON, 32 levels deep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// The creator's share in the draw's seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_seed: Option<Option<String>>,
    /// The money comes from outside for this envelope: it is deposited and put in at once, and the sender's wallet
    /// has no part. What goes back becomes a payout with this reference, which is the owner's for ever, as a
    /// reference of its own kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funding: Option<Option<NewEnvelopeFunding>>,
    /// Where a claim goes: into the winner's wallet, or outside, by a payout of kind win.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout: Option<NewEnvelopePayout>,
}

impl NewEnvelope {
    /// With what there must be; the rest is left out.
    pub fn new(sender: impl Into<String>, total: Amount, shares: u64) -> Self {
        NewEnvelope { sender: sender.into(), total, shares, split: None, min_share: None, max_share: None, amounts: None, message: None, opens_at: None, expires_in_s: None, claim_within_s: None, auto_claim: None, unclaimed: None, reference: None, metadata: None, client_seed: None, funding: None, payout: None }
    }

    /// Sets `split`.
    #[must_use]
    pub fn split(mut self, split: NewEnvelopeSplit) -> Self {
        self.split = Some(split);
        self
    }

    /// Sets `min_share`. `None` is sent as null.
    #[must_use]
    pub fn min_share(mut self, min_share: impl Into<Option<u64>>) -> Self {
        self.min_share = Some(min_share.into());
        self
    }

    /// Sets `max_share`. `None` is sent as null.
    #[must_use]
    pub fn max_share(mut self, max_share: impl Into<Option<u64>>) -> Self {
        self.max_share = Some(max_share.into());
        self
    }

    /// Sets `amounts`. `None` is sent as null.
    #[must_use]
    pub fn amounts(mut self, amounts: impl Into<Option<Vec<Amount>>>) -> Self {
        self.amounts = Some(amounts.into());
        self
    }

    /// Sets `message`.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets `opens_at`. `None` is sent as null.
    #[must_use]
    pub fn opens_at(mut self, opens_at: impl Into<Option<String>>) -> Self {
        self.opens_at = Some(opens_at.into());
        self
    }

    /// Sets `expires_in_s`.
    #[must_use]
    pub fn expires_in_s(mut self, expires_in_s: u64) -> Self {
        self.expires_in_s = Some(expires_in_s);
        self
    }

    /// Sets `claim_within_s`.
    #[must_use]
    pub fn claim_within_s(mut self, claim_within_s: u64) -> Self {
        self.claim_within_s = Some(claim_within_s);
        self
    }

    /// Sets `auto_claim`.
    #[must_use]
    pub fn auto_claim(mut self, auto_claim: bool) -> Self {
        self.auto_claim = Some(auto_claim);
        self
    }

    /// Sets `unclaimed`.
    #[must_use]
    pub fn unclaimed(mut self, unclaimed: NewEnvelopeUnclaimed) -> Self {
        self.unclaimed = Some(unclaimed);
        self
    }

    /// Sets `reference`. `None` is sent as null.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<Option<Reference>>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// Sets `metadata`.
    #[must_use]
    pub fn metadata(mut self, metadata: serde_json::Map<String, serde_json::Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Sets `client_seed`. `None` is sent as null.
    #[must_use]
    pub fn client_seed(mut self, client_seed: impl Into<Option<String>>) -> Self {
        self.client_seed = Some(client_seed.into());
        self
    }

    /// Sets `funding`. `None` is sent as null.
    #[must_use]
    pub fn funding(mut self, funding: impl Into<Option<NewEnvelopeFunding>>) -> Self {
        self.funding = Some(funding.into());
        self
    }

    /// Sets `payout`.
    #[must_use]
    pub fn payout(mut self, payout: NewEnvelopePayout) -> Self {
        self.payout = Some(payout);
        self
    }
}

/// Under which reference its money came from outside; null if it came from the sender's wallet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct EnvelopeFunding {
    /// `reference`.
    pub reference: Reference,
}

words! {
    /// `ended_as` of [`Envelope`].
    EnvelopeEndedAs { SoldOut = "sold_out", Expired = "expired", Cancelled = "cancelled" }
}

words! {
    /// `payout` of [`Envelope`].
    EnvelopePayout { Wallet = "wallet", External = "external" }
}

/// `Envelope` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Envelope {
    /// `id`.
    pub id: EnvelopeId,
    /// `sender`.
    pub sender: User,
    /// `state`.
    pub state: EnvelopeState,
    /// `ended_as`.
    pub ended_as: Option<EnvelopeEndedAs>,
    /// `total`.
    pub total: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `shares`.
    pub shares: Count,
    /// `split`.
    pub split: String,
    /// `message`.
    pub message: String,
    /// `remaining_shares`.
    pub remaining_shares: Count,
    /// `remaining_amount`.
    pub remaining_amount: Balance,
    /// `claimed_amount`.
    pub claimed_amount: Balance,
    /// `refunded_amount`.
    pub refunded_amount: Balance,
    /// `created_at`.
    pub created_at: Time,
    /// `opens_at`.
    pub opens_at: Time,
    /// `expires_at`.
    pub expires_at: Time,
    /// `claim_by`.
    pub claim_by: Time,
    /// SHA-256 over the bytes of `hongbao/commitment/1`, a zero byte and the 32 bytes of `seed_secret`, in
    /// hexadecimal. The seed of the draw is HMAC-SHA256 with `seed_secret` as key over the 16 bytes of the id and the
    /// `client_seed`.
    pub commitment: String,
    /// The secret, in hexadecimal, once no share is ungrabbed.
    pub seed_secret: Option<String>,
    /// `reference`.
    pub reference: Option<Reference>,
    /// `metadata`.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Under which reference its money came from outside; null if it came from the sender's wallet.
    pub funding: Option<EnvelopeFunding>,
    /// Where a claim goes: into the winner's wallet, or outside, by a payout of kind win.
    pub payout: EnvelopePayout,
    /// When its message was taken back; then `message` is empty.
    pub redacted_at: Option<String>,
}

/// `Envelopes` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Envelopes {
    /// `envelopes`.
    pub envelopes: Vec<Envelope>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `ByUser` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ByUser {
    /// `user`.
    pub user: User,
}

impl ByUser {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        ByUser { user: user.into() }
    }
}

/// What is taken back besides the message, or a gift's texts; the body may also be empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Redact {
    /// The metadata as well; later is fine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<bool>,
}

impl Redact {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        Redact { metadata: None }
    }

    /// Sets `metadata`.
    #[must_use]
    pub fn metadata(mut self, metadata: bool) -> Self {
        self.metadata = Some(metadata);
        self
    }
}

impl Default for Redact {
    fn default() -> Self {
        Self::new()
    }
}

/// `Won` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Won {
    /// `amount`.
    pub amount: Amount,
    /// `share`.
    pub share: Count,
    /// `status`.
    pub status: ShareStatus,
    /// `grabbed_at`.
    pub grabbed_at: Time,
    /// `claim_by`.
    pub claim_by: Time,
    /// `replayed`.
    pub replayed: bool,
}

/// `SoldOut` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SoldOut {
}

/// `Expired` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Expired {
}

/// `Cancelled` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Cancelled {
}

/// `NotOpen` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct NotOpen {
    /// `opens_at`.
    pub opens_at: Time,
}

/// `NotEligible` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct NotEligible {
    /// `reason`.
    pub reason: String,
}

/// `Claimed` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Claimed {
    /// `amount`.
    pub amount: Amount,
    /// `claimed_at`.
    pub claimed_at: Time,
    /// `replayed`.
    pub replayed: bool,
}

/// `NotWon` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct NotWon {
}

/// `Lapsed` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Lapsed {
}

/// `Held` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Held {
    /// `hold`.
    pub hold: HoldId,
    /// `quantity`.
    pub quantity: Count,
    /// `amount`.
    pub amount: Amount,
    /// `expires_at`.
    pub expires_at: Time,
    /// Whether the user held this unit already when it was asked for. A repeat under the same Idempotency-Key is
    /// answered with the first answer as it was, false included; that it is a repeat says the header
    /// Idempotency-Replayed.
    pub replayed: bool,
}

/// `LimitReached` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct LimitReached {
}

/// `Ended` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Ended {
}

/// `Ordered` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Ordered {
    /// `order`.
    pub order: OrderId,
    /// `replayed`.
    pub replayed: bool,
}

/// `Released` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Released {
    /// `replayed`.
    pub replayed: bool,
}

/// `CannotPay` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct CannotPay {
}

/// `Failed` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Failed {
    /// `error`.
    pub error: crate::Problem,
}

union! {
    /// Treat an outcome you do not know as no win so far.
    GrabOutcome by "outcome" { "won" => Won(Won), "sold_out" => SoldOut(SoldOut), "expired" => Expired(Expired), "cancelled" => Cancelled(Cancelled), "not_open" => NotOpen(NotOpen), "not_eligible" => NotEligible(NotEligible) }
}

union! {
    /// Treat an outcome you do not know as no win so far.
    ClaimOutcome by "outcome" { "claimed" => Claimed(Claimed), "not_won" => NotWon(NotWon), "lapsed" => Lapsed(Lapsed) }
}

union! {
    /// Treat an outcome you do not know as no win so far.
    ItemGrabOutcome by "outcome" { "held" => Held(Held), "sold_out" => SoldOut(SoldOut), "limit_reached" => LimitReached(LimitReached), "not_open" => NotOpen(NotOpen), "ended" => Ended(Ended) }
}

/// `AwaitingPayment` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct AwaitingPayment {
    /// `payment`.
    pub payment: PaymentId,
    /// `gateway`.
    pub gateway: String,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}.
    pub pay_url: Option<String>,
    /// `expires_at`.
    pub expires_at: Time,
    /// The order that it has made.
    pub order: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// `PaidOutside` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PaidOutside {
    /// `payment`.
    pub payment: PaymentId,
    /// `gateway`.
    pub gateway: String,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}.
    pub pay_url: Option<String>,
    /// `expires_at`.
    pub expires_at: Time,
    /// The order that it has made.
    pub order: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
}

/// `PaymentFailed` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PaymentFailed {
    /// `payment`.
    pub payment: PaymentId,
    /// `gateway`.
    pub gateway: String,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// Where to pay; null until the gateway has said so: ask again, or GET /v1/payments/{id}.
    pub pay_url: Option<String>,
    /// `expires_at`.
    pub expires_at: Time,
    /// The order that it has made.
    pub order: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
}

union! {
    /// Treat an outcome you do not know as no win so far.
    HoldClaimOutcome by "outcome" { "claimed" => Claimed(Ordered), "expired" => Expired(Expired), "released" => Released(Released), "insufficient_funds" => InsufficientFunds(CannotPay), "awaiting_payment" => AwaitingPayment(AwaitingPayment), "paid" => Paid(PaidOutside), "payment_failed" => PaymentFailed(PaymentFailed) }
}

union! {
    /// Treat an outcome you do not know as no win so far.
    ReleaseOutcome by "outcome" { "released" => Released(Released), "expired" => Expired(Expired), "claimed" => Claimed(Ordered) }
}

/// `GrabPair` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GrabPair {
    /// `envelope`.
    pub envelope: String,
    /// `user`.
    pub user: User,
}

impl GrabPair {
    /// With what there must be; the rest is left out.
    pub fn new(envelope: impl Into<String>, user: impl Into<String>) -> Self {
        GrabPair { envelope: envelope.into(), user: user.into() }
    }
}

/// `GrabMany` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GrabMany {
    /// `grabs`.
    pub grabs: Vec<GrabPair>,
}

impl GrabMany {
    /// With what there must be; the rest is left out.
    pub fn new(grabs: Vec<GrabPair>) -> Self {
        GrabMany { grabs }
    }
}

/// `GrabResult` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum GrabResult {
    /// See [`GrabOutcome`].
    GrabOutcome(GrabOutcome),
    /// See [`Failed`].
    Failed(Failed),
}

/// `GrabResults` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GrabResults {
    /// `results`.
    pub results: Vec<GrabResult>,
}

/// `Grab` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Grab {
    /// `user`.
    pub user: User,
    /// `amount`.
    pub amount: Amount,
    /// `share`.
    pub share: Count,
    /// `status`.
    pub status: ShareStatus,
    /// `grabbed_at`.
    pub grabbed_at: Time,
    /// `claimed_at`.
    pub claimed_at: Option<String>,
    /// The luckiest, told once every share is taken.
    pub best: bool,
}

/// `Grabs` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Grabs {
    /// `grabs`.
    pub grabs: Vec<Grab>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `Received` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Received {
    /// `envelope`.
    pub envelope: EnvelopeId,
    /// `sender`.
    pub sender: User,
    /// `amount`.
    pub amount: Amount,
    /// `status`.
    pub status: ShareStatus,
    /// `grabbed_at`.
    pub grabbed_at: Time,
    /// `claimed_at`.
    pub claimed_at: Option<String>,
}

/// `ReceivedGrabs` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ReceivedGrabs {
    /// `grabs`.
    pub grabs: Vec<Received>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

union! {
    /// Treat an outcome you do not know as not paid so far.
    GiftPaymentOutcome by "outcome" { "awaiting_payment" => AwaitingPayment(AwaitingPayment), "paid" => Paid(PaidOutside), "payment_failed" => PaymentFailed(PaymentFailed) }
}

/// `HoldClaim` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HoldClaim {
    /// `user`.
    pub user: User,
    /// A payment gateway of the server's; null pays from the wallet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_with: Option<Option<String>>,
}

impl HoldClaim {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        HoldClaim { user: user.into(), pay_with: None }
    }

    /// Sets `pay_with`. `None` is sent as null.
    #[must_use]
    pub fn pay_with(mut self, pay_with: impl Into<Option<String>>) -> Self {
        self.pay_with = Some(pay_with.into());
        self
    }
}

/// `GiftPayOutside` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftPayOutside {
    /// `payer`.
    pub payer: User,
    /// A payment gateway of the server's.
    pub pay_with: String,
}

impl GiftPayOutside {
    /// With what there must be; the rest is left out.
    pub fn new(payer: impl Into<String>, pay_with: impl Into<String>) -> Self {
        GiftPayOutside { payer: payer.into(), pay_with: pay_with.into() }
    }
}

words! {
    /// `about` of [`GatewayMessage`].
    GatewayMessageAbout { Payment = "payment", Refund = "refund" }
}

/// `GatewayMessage` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GatewayMessage {
    /// `about`.
    pub about: GatewayMessageAbout,
    /// `reference`.
    pub reference: PaymentId,
    /// Of a payment pending, paid, failed or closed; of a refund pending, refunded or failed.
    pub state: String,
    /// The gateway's own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `amount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// `reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl GatewayMessage {
    /// With what there must be; the rest is left out.
    pub fn new(about: GatewayMessageAbout, reference: impl Into<String>, state: impl Into<String>) -> Self {
        GatewayMessage { about, reference: reference.into(), state: state.into(), id: None, amount: None, reason: None }
    }

    /// Sets `id`.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets `amount`.
    #[must_use]
    pub fn amount(mut self, amount: Amount) -> Self {
        self.amount = Some(amount);
        self
    }

    /// Sets `reason`.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

words! {
    /// `PaymentState` of the API.
    PaymentState { Created = "created", Pending = "pending", Paid = "paid", Failed = "failed", Expired = "expired", Refunding = "refunding", Refunded = "refunded" }
}

/// `PaymentTaken` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PaymentTaken {
    /// `payment`.
    pub payment: PaymentId,
    /// `state`.
    pub state: PaymentState,
}

words! {
    /// `discrepancy` of [`Payment`].
    PaymentDiscrepancy { OtherAmount = "other_amount", PaidTwice = "paid_twice", PaidAfterRefund = "paid_after_refund" }
}

/// `Payment` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Payment {
    /// `id`.
    pub id: PaymentId,
    /// `gateway`.
    pub gateway: String,
    /// `state`.
    pub state: PaymentState,
    /// What it is for, if it is a hold.
    pub hold: Option<String>,
    /// What it is for, if it is a gift.
    pub gift: Option<String>,
    /// `payer`.
    pub payer: User,
    /// `merchant`.
    pub merchant: User,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// What the gateway has taken.
    pub taken: Balance,
    /// `created_at`.
    pub created_at: Time,
    /// `expires_at`.
    pub expires_at: Time,
    /// Until when what it is for is kept at most while the gateway does not say whether it was paid.
    pub kept_until: Time,
    /// `pay_url`.
    pub pay_url: Option<String>,
    /// The gateway's own number.
    pub gateway_id: Option<String>,
    /// `paid_at`.
    pub paid_at: Option<String>,
    /// The order that it has made.
    pub order: Option<String>,
    /// `refunding_at`.
    pub refunding_at: Option<String>,
    /// `refunded_at`.
    pub refunded_at: Option<String>,
    /// The gateway's own number of the refund.
    pub refund_id: Option<String>,
    /// Why it failed, or why its money goes back.
    pub reason: Option<String>,
    /// What the gateway said that cannot be right: the first of it.
    pub discrepancy: Option<PaymentDiscrepancy>,
}

/// `Payments` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Payments {
    /// `payments`.
    pub payments: Vec<Payment>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `Payout` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Payout {
    /// `id`.
    pub id: PayoutId,
    /// `kind`.
    pub kind: PayoutKind,
    /// `user`.
    pub user: User,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `envelope`.
    pub envelope: EnvelopeId,
    /// That of the envelope's funding, if it was funded from outside.
    pub funding_reference: Option<String>,
    /// `state`.
    pub state: PayoutState,
    /// How often it was no longer due.
    pub attempts: Count,
    /// The last one told.
    pub reference: Option<String>,
    /// The last one told.
    pub reason: Option<String>,
    /// `created_at`.
    pub created_at: Time,
    /// `changed_at`.
    pub changed_at: Time,
}

/// `Payouts` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Payouts {
    /// `payouts`.
    pub payouts: Vec<Payout>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `PayoutResultsResultsItem` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PayoutResultsResultsItem {
    /// `id`.
    pub id: String,
    /// `state`.
    pub state: PayoutState,
    /// A number by which you or the bank know it: visible characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Option<String>>,
    /// `reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Option<String>>,
}

impl PayoutResultsResultsItem {
    /// With what there must be; the rest is left out.
    pub fn new(id: impl Into<String>, state: PayoutState) -> Self {
        PayoutResultsResultsItem { id: id.into(), state, reference: None, reason: None }
    }

    /// Sets `reference`. `None` is sent as null.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<Option<String>>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// Sets `reason`. `None` is sent as null.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<Option<String>>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// `PayoutResults` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PayoutResults {
    /// `results`.
    pub results: Vec<PayoutResultsResultsItem>,
}

impl PayoutResults {
    /// With what there must be; the rest is left out.
    pub fn new(results: Vec<PayoutResultsResultsItem>) -> Self {
        PayoutResults { results }
    }
}

/// `PayoutAnswersResultsItem` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PayoutAnswersResultsItem {
    /// As it was sent, up to 64 characters; null if there was none.
    pub id: Option<String>,
    /// `state`.
    #[serde(default)]
    pub state: Option<PayoutState>,
    /// `error`.
    #[serde(default)]
    pub error: Option<crate::Problem>,
}

/// `PayoutAnswers` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PayoutAnswers {
    /// `results`.
    pub results: Vec<PayoutAnswersResultsItem>,
}

/// `Audit` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Audit {
    /// `balanced`.
    pub balanced: bool,
    /// `deposited`.
    pub deposited: Balance,
    /// `withdrawn`.
    pub withdrawn: Balance,
    /// `paid_out`.
    pub paid_out: Balance,
    /// `wallets`.
    pub wallets: Balance,
    /// `escrowed`.
    pub escrowed: Balance,
    /// `payable`.
    pub payable: Balance,
    /// On its way back to who paid outside.
    pub refunding: Balance,
    /// `merchants`.
    pub merchants: Balance,
    /// `platform`.
    pub platform: Balance,
    /// `in_flight`.
    pub in_flight: Balance,
}

/// Who checked its papers; only beside the status `verified`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewMerchantVerification {
    /// Left out, the name of the calling key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Option<String>>,
    /// The checker's own number of what was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Option<String>>,
}

impl NewMerchantVerification {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        NewMerchantVerification { by: None, reference: None }
    }

    /// Sets `by`. `None` is sent as null.
    #[must_use]
    pub fn by(mut self, by: impl Into<Option<String>>) -> Self {
        self.by = Some(by.into());
        self
    }

    /// Sets `reference`. `None` is sent as null.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<Option<String>>) -> Self {
        self.reference = Some(reference.into());
        self
    }
}

impl Default for NewMerchantVerification {
    fn default() -> Self {
        Self::new()
    }
}

words! {
    /// `status` of [`NewMerchant`].
    NewMerchantStatus { Pending = "pending", Verified = "verified", Suspended = "suspended" }
}

/// `NewMerchant` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewMerchant {
    /// `id`.
    pub id: User,
    /// `name`.
    pub name: String,
    /// Left out, a merchant keeps the one it has; a new one is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<NewMerchantStatus>,
    /// Who checked its papers; only beside the status `verified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Option<NewMerchantVerification>>,
    /// How long the money of its sales is pending from now on, seconds; then until the next whole minute, or from a
    /// day on the next whole hour. Left out, it stays; a new merchant has 604800, a week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle_after_s: Option<u64>,
    /// What of its sales is the platform's from now on, in hundredths of a percent, each rounded down. Left out, it
    /// stays; a new merchant has 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commission_bps: Option<u64>,
}

impl NewMerchant {
    /// With what there must be; the rest is left out.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        NewMerchant { id: id.into(), name: name.into(), status: None, verification: None, settle_after_s: None, commission_bps: None }
    }

    /// Sets `status`.
    #[must_use]
    pub fn status(mut self, status: NewMerchantStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets `verification`. `None` is sent as null.
    #[must_use]
    pub fn verification(mut self, verification: impl Into<Option<NewMerchantVerification>>) -> Self {
        self.verification = Some(verification.into());
        self
    }

    /// Sets `settle_after_s`.
    #[must_use]
    pub fn settle_after_s(mut self, settle_after_s: u64) -> Self {
        self.settle_after_s = Some(settle_after_s);
        self
    }

    /// Sets `commission_bps`.
    #[must_use]
    pub fn commission_bps(mut self, commission_bps: u64) -> Self {
        self.commission_bps = Some(commission_bps);
        self
    }
}

words! {
    /// `MerchantStatus` of the API.
    MerchantStatus { Pending = "pending", Verified = "verified", Suspended = "suspended" }
}

/// Who checked its papers, if somebody did since it was last pending.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct MerchantVerification {
    /// Who checked them.
    pub by: String,
    /// The checker's own number of what was checked.
    pub reference: Option<String>,
    /// `at`.
    pub at: Time,
}

/// `Merchant` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Merchant {
    /// `id`.
    pub id: User,
    /// `name`.
    pub name: String,
    /// `status`.
    pub status: MerchantStatus,
    /// Who checked its papers, if somebody did since it was last pending.
    pub verification: Option<MerchantVerification>,
    /// How long the money of its sales is pending, seconds.
    pub settle_after_s: u64,
    /// What of its sales is the platform's, in hundredths of a percent.
    pub commission_bps: u64,
}

/// What a merchant has of its sales.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SalesBalance {
    /// `merchant`.
    pub merchant: User,
    /// `currency`.
    pub currency: Currency,
    /// Of sales that are not due yet, the platform's commission in it.
    pub pending: Balance,
    /// What can be taken out.
    pub available: Balance,
}

/// `PendingAndAvailable` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct PendingAndAvailable {
    /// `pending`.
    pub pending: Balance,
    /// `available`.
    pub available: Balance,
}

words! {
    /// `kind` of [`SalesEntry`].
    SalesEntryKind { Sale = "sale", Commission = "commission", Settled = "settled", Refund = "refund", Withdrawal = "withdrawal" }
}

words! {
    /// `from` of [`SalesEntry`].
    SalesEntryFrom { Pending = "pending", Available = "available" }
}

/// A movement of a merchant's money. A sale comes into what is pending; a commission leaves that for the platform,
/// and what is settled for what is available; a refund leaves either, and a withdrawal what is available.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SalesEntry {
    /// `at`.
    pub at: Time,
    /// `kind`.
    pub kind: SalesEntryKind,
    /// `amount`.
    pub amount: Balance,
    /// `balance_after`.
    pub balance_after: PendingAndAvailable,
    /// `order`.
    #[serde(default)]
    pub order: Option<OrderId>,
    /// `gift`.
    #[serde(default)]
    pub gift: Option<GiftId>,
    /// `commission`.
    #[serde(default)]
    pub commission: Option<Balance>,
    /// `from`.
    #[serde(default)]
    pub from: Option<SalesEntryFrom>,
    /// `due`.
    #[serde(default)]
    pub due: Option<Time>,
    /// `reference`.
    #[serde(default)]
    pub reference: Option<Reference>,
}

/// The entries of a time, and what the merchant had before and after all of it, on every page.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SalesStatement {
    /// `merchant`.
    pub merchant: User,
    /// `currency`.
    pub currency: Currency,
    /// `opening`.
    pub opening: PendingAndAvailable,
    /// `entries`.
    pub entries: Vec<SalesEntry>,
    /// `closing`.
    pub closing: PendingAndAvailable,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `SettledSales` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct SettledSales {
    /// `merchant`.
    pub merchant: User,
    /// `currency`.
    pub currency: Currency,
    /// `due`.
    pub due: Time,
    /// `amount`.
    pub amount: Amount,
    /// `commission`.
    pub commission: Balance,
    /// `balance_after`.
    pub balance_after: PendingAndAvailable,
}

/// `Merchants` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Merchants {
    /// `merchants`.
    pub merchants: Vec<Merchant>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

words! {
    /// What comes of a unit that is paid: it is shipped, or delivered otherwise, or is one of a list of codes.
    ItemKind { Physical = "physical", Virtual = "virtual", Code = "code" }
}

/// On which terms groups buy an item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupBuy {
    /// How many members a group has, its leader among them.
    pub size: u64,
    /// What each pays for one unit, at most the item's price.
    pub price: Amount,
    /// How long a group may take to be full.
    pub within_s: u64,
}

impl GroupBuy {
    /// With what there must be; the rest is left out.
    pub fn new(size: u64, price: Amount, within_s: u64) -> Self {
        GroupBuy { size, price, within_s }
    }
}

/// `NewItem` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewItem {
    /// `merchant`.
    pub merchant: User,
    /// `name`.
    pub name: String,
    /// What lists are asked for by: `flowers`, `home`, `beauty`, `digital`, `jewelry`, or a word of your own.
    pub category: String,
    /// `price`.
    pub price: Amount,
    /// Units to sell, at least 1. Of the kind `code` it is 0 or absent: its stock is the number of its codes, which
    /// are added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stock: Option<u64>,
    /// Units a user may hold and have bought together; null is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_user_limit: Option<Option<u64>>,
    /// Not in the past, and at most a year ahead; null opens the sale at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Option<String>>,
    /// In the future, after starts_at, and at most two years ahead; null is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Option<String>>,
    /// `hold_ttl_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ttl_s: Option<u64>,
    /// `image_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<Option<String>>,
    /// `kind`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ItemKind>,
    /// How long after its delivery an order may be sent back; 0 is never. A code never may. It does not change later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_within_s: Option<u64>,
    /// Of which item of the same merchant this is a variant; that one is none itself. Like `kind` it never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant_of: Option<Option<String>>,
    /// On which terms groups buy it; null is not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_buy: Option<Option<GroupBuy>>,
}

impl NewItem {
    /// With what there must be; the rest is left out.
    pub fn new(merchant: impl Into<String>, name: impl Into<String>, category: impl Into<String>, price: Amount) -> Self {
        NewItem { merchant: merchant.into(), name: name.into(), category: category.into(), price, stock: None, per_user_limit: None, starts_at: None, ends_at: None, hold_ttl_s: None, image_url: None, kind: None, return_within_s: None, variant_of: None, group_buy: None }
    }

    /// Sets `stock`.
    #[must_use]
    pub fn stock(mut self, stock: u64) -> Self {
        self.stock = Some(stock);
        self
    }

    /// Sets `per_user_limit`. `None` is sent as null.
    #[must_use]
    pub fn per_user_limit(mut self, per_user_limit: impl Into<Option<u64>>) -> Self {
        self.per_user_limit = Some(per_user_limit.into());
        self
    }

    /// Sets `starts_at`. `None` is sent as null.
    #[must_use]
    pub fn starts_at(mut self, starts_at: impl Into<Option<String>>) -> Self {
        self.starts_at = Some(starts_at.into());
        self
    }

    /// Sets `ends_at`. `None` is sent as null.
    #[must_use]
    pub fn ends_at(mut self, ends_at: impl Into<Option<String>>) -> Self {
        self.ends_at = Some(ends_at.into());
        self
    }

    /// Sets `hold_ttl_s`.
    #[must_use]
    pub fn hold_ttl_s(mut self, hold_ttl_s: u64) -> Self {
        self.hold_ttl_s = Some(hold_ttl_s);
        self
    }

    /// Sets `image_url`. `None` is sent as null.
    #[must_use]
    pub fn image_url(mut self, image_url: impl Into<Option<String>>) -> Self {
        self.image_url = Some(image_url.into());
        self
    }

    /// Sets `kind`.
    #[must_use]
    pub fn kind(mut self, kind: ItemKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Sets `return_within_s`.
    #[must_use]
    pub fn return_within_s(mut self, return_within_s: u64) -> Self {
        self.return_within_s = Some(return_within_s);
        self
    }

    /// Sets `variant_of`. `None` is sent as null.
    #[must_use]
    pub fn variant_of(mut self, variant_of: impl Into<Option<String>>) -> Self {
        self.variant_of = Some(variant_of.into());
        self
    }

    /// Sets `group_buy`. `None` is sent as null.
    #[must_use]
    pub fn group_buy(mut self, group_buy: impl Into<Option<GroupBuy>>) -> Self {
        self.group_buy = Some(group_buy.into());
        self
    }
}

/// What is left out stays as it is; null takes it away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ItemChange {
    /// `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What lists are asked for by: `flowers`, `home`, `beauty`, `digital`, `jewelry`, or a word of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// `price`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Amount>,
    /// `per_user_limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_user_limit: Option<Option<u64>>,
    /// As of a new item. The time that stands may be sent again after it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Option<String>>,
    /// At most two years ahead, after starts_at. Now, or up to a minute ago, ends the sale at once; further in the
    /// past is refused. The time that stands may be sent again after it has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Option<String>>,
    /// `hold_ttl_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ttl_s: Option<u64>,
    /// `image_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<Option<String>>,
    /// For groups opened from now on; those that are open keep what they saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_buy: Option<Option<GroupBuy>>,
}

impl ItemChange {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        ItemChange { name: None, category: None, price: None, per_user_limit: None, starts_at: None, ends_at: None, hold_ttl_s: None, image_url: None, group_buy: None }
    }

    /// Sets `name`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets `category`.
    #[must_use]
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.category = Some(category.into());
        self
    }

    /// Sets `price`.
    #[must_use]
    pub fn price(mut self, price: Amount) -> Self {
        self.price = Some(price);
        self
    }

    /// Sets `per_user_limit`. `None` is sent as null.
    #[must_use]
    pub fn per_user_limit(mut self, per_user_limit: impl Into<Option<u64>>) -> Self {
        self.per_user_limit = Some(per_user_limit.into());
        self
    }

    /// Sets `starts_at`. `None` is sent as null.
    #[must_use]
    pub fn starts_at(mut self, starts_at: impl Into<Option<String>>) -> Self {
        self.starts_at = Some(starts_at.into());
        self
    }

    /// Sets `ends_at`. `None` is sent as null.
    #[must_use]
    pub fn ends_at(mut self, ends_at: impl Into<Option<String>>) -> Self {
        self.ends_at = Some(ends_at.into());
        self
    }

    /// Sets `hold_ttl_s`.
    #[must_use]
    pub fn hold_ttl_s(mut self, hold_ttl_s: u64) -> Self {
        self.hold_ttl_s = Some(hold_ttl_s);
        self
    }

    /// Sets `image_url`. `None` is sent as null.
    #[must_use]
    pub fn image_url(mut self, image_url: impl Into<Option<String>>) -> Self {
        self.image_url = Some(image_url.into());
        self
    }

    /// Sets `group_buy`. `None` is sent as null.
    #[must_use]
    pub fn group_buy(mut self, group_buy: impl Into<Option<GroupBuy>>) -> Self {
        self.group_buy = Some(group_buy.into());
        self
    }
}

impl Default for ItemChange {
    fn default() -> Self {
        Self::new()
    }
}

/// `Stock` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Stock {
    /// `total`.
    pub total: Count,
    /// `free`.
    pub free: Count,
    /// `held`.
    pub held: Count,
    /// `sold`.
    pub sold: Count,
}

/// `Item` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Item {
    /// `id`.
    pub id: ItemId,
    /// `merchant`.
    pub merchant: User,
    /// `name`.
    pub name: String,
    /// `category`.
    pub category: String,
    /// `kind`.
    pub kind: ItemKind,
    /// The item of which it is a variant.
    pub variant_of: Option<String>,
    /// How long after its delivery an order may be sent back; 0 is never, as it is of a code.
    pub return_within_s: u64,
    /// `price`.
    pub price: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `stock`.
    pub stock: Stock,
    /// `per_user_limit`.
    pub per_user_limit: Option<u64>,
    /// `starts_at`.
    pub starts_at: Option<String>,
    /// `ends_at`.
    pub ends_at: Option<String>,
    /// `hold_ttl_s`.
    pub hold_ttl_s: u64,
    /// `image_url`.
    pub image_url: Option<String>,
    /// `group_buy`.
    pub group_buy: Option<GroupBuy>,
    /// `created_at`.
    pub created_at: Time,
}

/// `Items` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Items {
    /// `items`.
    pub items: Vec<Item>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `Restock` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Restock {
    /// `quantity`.
    pub quantity: u64,
}

impl Restock {
    /// With what there must be; the rest is left out.
    pub fn new(quantity: u64) -> Self {
        Restock { quantity }
    }
}

/// `ItemGrab` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ItemGrab {
    /// `user`.
    pub user: User,
    /// `quantity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<u64>,
}

impl ItemGrab {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        ItemGrab { user: user.into(), quantity: None }
    }

    /// Sets `quantity`.
    #[must_use]
    pub fn quantity(mut self, quantity: u64) -> Self {
        self.quantity = Some(quantity);
        self
    }
}

words! {
    /// `state` of [`Hold`].
    HoldState { Held = "held", Claimed = "claimed", Released = "released", Expired = "expired" }
}

/// `Hold` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Hold {
    /// `id`.
    pub id: HoldId,
    /// `item`.
    pub item: ItemId,
    /// `user`.
    pub user: User,
    /// `quantity`.
    pub quantity: Count,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `state`.
    pub state: HoldState,
    /// `order`.
    pub order: Option<OrderId>,
    /// `created_at`.
    pub created_at: Time,
    /// `expires_at`.
    pub expires_at: Time,
}

words! {
    /// `OrderState` of the API.
    OrderState { Paid = "paid", Shipped = "shipped", Delivered = "delivered", ReturnRequested = "return_requested", Returned = "returned", Refused = "refused" }
}

/// `Order` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Order {
    /// `id`.
    pub id: OrderId,
    /// `hold`.
    pub hold: HoldId,
    /// `item`.
    pub item: ItemId,
    /// `merchant`.
    pub merchant: User,
    /// `user`.
    pub user: User,
    /// `quantity`.
    pub quantity: Count,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `created_at`.
    pub created_at: Time,
    /// `state`.
    pub state: OrderState,
    /// `shipped_at`.
    pub shipped_at: Option<String>,
    /// `carrier`.
    pub carrier: Option<String>,
    /// `tracking`.
    pub tracking: Option<String>,
    /// `delivered_at`.
    pub delivered_at: Option<String>,
    /// `return_requested_at`.
    pub return_requested_at: Option<String>,
    /// `return_reason`.
    pub return_reason: Option<String>,
    /// Until when the merchant is to answer a return: who asks again from then on has it.
    pub answer_by: Option<String>,
    /// `ended_at`.
    pub ended_at: Option<String>,
    /// Why the merchant does not take it back.
    pub refusal: Option<String>,
    /// Whether its units are on sale again.
    pub restocked: bool,
    /// What it was handed, if its item is of the kind `code`, where one order is asked for with a key of the role
    /// `admin` or `caller`; null for others. No event and no list has it.
    #[serde(default)]
    pub codes: Option<Vec<String>>,
}

/// `OrderShip` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OrderShip {
    /// `carrier`.
    pub carrier: String,
    /// `tracking`.
    pub tracking: String,
}

impl OrderShip {
    /// With what there must be; the rest is left out.
    pub fn new(carrier: impl Into<String>, tracking: impl Into<String>) -> Self {
        OrderShip { carrier: carrier.into(), tracking: tracking.into() }
    }
}

/// `OrderReturn` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OrderReturn {
    /// `user`.
    pub user: User,
    /// `reason`.
    pub reason: String,
}

impl OrderReturn {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>, reason: impl Into<String>) -> Self {
        OrderReturn { user: user.into(), reason: reason.into() }
    }
}

/// `AcceptReturn` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AcceptReturn {
    /// Whether its units are on sale again.
    pub restock: bool,
}

impl AcceptReturn {
    /// With what there must be; the rest is left out.
    pub fn new(restock: bool) -> Self {
        AcceptReturn { restock }
    }
}

/// `RefuseReturn` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RefuseReturn {
    /// `reason`.
    pub reason: String,
}

impl RefuseReturn {
    /// With what there must be; the rest is left out.
    pub fn new(reason: impl Into<String>) -> Self {
        RefuseReturn { reason: reason.into() }
    }
}

/// `NewCodes` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewCodes {
    /// Visible characters without spaces, together at most 100 KiB.
    pub codes: Vec<String>,
}

impl NewCodes {
    /// With what there must be; the rest is left out.
    pub fn new(codes: Vec<String>) -> Self {
        NewCodes { codes }
    }
}

/// `Codes` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Codes {
    /// `codes`.
    pub codes: Vec<String>,
}

/// `NewGiftEnvelope` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewGiftEnvelope {
    /// `giver`.
    pub giver: User,
    /// `item`.
    pub item: ItemId,
    /// With long names and a long message fewer than 100 fit: 422.
    pub units: u64,
    /// Who pays for all of them; the giver unless said. Anybody else is asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Option<String>>,
    /// `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether who grabs has to show a token: make a link of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_token: Option<bool>,
    /// How long whoever was asked may take to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_within_s: Option<u64>,
    /// How long it can be grabbed from, once it is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// How long who has grabbed may take to accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_within_s: Option<u64>,
    /// How long the merchant may take, from the acceptance on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship_within_s: Option<u64>,
    /// `reference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Option<Reference>>,
}

impl NewGiftEnvelope {
    /// With what there must be; the rest is left out.
    pub fn new(giver: impl Into<String>, item: impl Into<String>, units: u64) -> Self {
        NewGiftEnvelope { giver: giver.into(), item: item.into(), units, payer: None, message: None, with_token: None, pay_within_s: None, expires_in_s: None, accept_within_s: None, ship_within_s: None, reference: None }
    }

    /// Sets `payer`. `None` is sent as null.
    #[must_use]
    pub fn payer(mut self, payer: impl Into<Option<String>>) -> Self {
        self.payer = Some(payer.into());
        self
    }

    /// Sets `message`.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets `with_token`.
    #[must_use]
    pub fn with_token(mut self, with_token: bool) -> Self {
        self.with_token = Some(with_token);
        self
    }

    /// Sets `pay_within_s`.
    #[must_use]
    pub fn pay_within_s(mut self, pay_within_s: u64) -> Self {
        self.pay_within_s = Some(pay_within_s);
        self
    }

    /// Sets `expires_in_s`.
    #[must_use]
    pub fn expires_in_s(mut self, expires_in_s: u64) -> Self {
        self.expires_in_s = Some(expires_in_s);
        self
    }

    /// Sets `accept_within_s`.
    #[must_use]
    pub fn accept_within_s(mut self, accept_within_s: u64) -> Self {
        self.accept_within_s = Some(accept_within_s);
        self
    }

    /// Sets `ship_within_s`.
    #[must_use]
    pub fn ship_within_s(mut self, ship_within_s: u64) -> Self {
        self.ship_within_s = Some(ship_within_s);
        self
    }

    /// Sets `reference`. `None` is sent as null.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<Option<Reference>>) -> Self {
        self.reference = Some(reference.into());
        self
    }
}

words! {
    /// `GiftState` of the API.
    GiftState { AwaitingPayment = "awaiting_payment", Offered = "offered", Accepted = "accepted", Shipped = "shipped", Delivered = "delivered", Declined = "declined", Expired = "expired", Cancelled = "cancelled", Failed = "failed" }
}

/// `GiftUnit` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GiftUnit {
    /// `gift`.
    pub gift: GiftId,
    /// Who has grabbed it.
    pub recipient: Option<User>,
    /// `state`.
    pub state: GiftState,
}

words! {
    /// `state` of [`GiftEnvelope`].
    GiftEnvelopeState { AwaitingPayment = "awaiting_payment", Open = "open", SoldOut = "sold_out", Expired = "expired", Cancelled = "cancelled" }
}

/// `GiftEnvelope` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GiftEnvelope {
    /// `id`.
    pub id: GiftEnvelopeId,
    /// `state`.
    pub state: GiftEnvelopeState,
    /// `giver`.
    pub giver: User,
    /// `payer`.
    pub payer: User,
    /// `item`.
    pub item: ItemId,
    /// `merchant`.
    pub merchant: User,
    /// `units`.
    pub units: Count,
    /// Of a unit.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `message`.
    pub message: String,
    /// `remaining`.
    pub remaining: Count,
    /// `grabbed`.
    pub grabbed: Count,
    /// `created_at`.
    pub created_at: Time,
    /// `pay_by`.
    pub pay_by: Option<Time>,
    /// null before it is paid, and once every unit is grabbed.
    pub expires_at: Option<Time>,
    /// `accept_within_s`.
    pub accept_within_s: u64,
    /// `reference`.
    pub reference: Option<String>,
    /// In the order in which they are grabbed.
    pub gifts: Vec<GiftUnit>,
    /// What has to be shown to grab, as long as that can be; for keys with the role admin or caller.
    #[serde(default)]
    pub token: Option<String>,
}

/// `GiftEnvelopes` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GiftEnvelopes {
    /// `gift_envelopes`.
    pub gift_envelopes: Vec<GiftEnvelope>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `GiftGrab` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftGrab {
    /// `user`.
    pub user: User,
    /// The gift envelope's, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Option<String>>,
    /// The app knows that this user and the giver follow each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<bool>,
}

impl GiftGrab {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        GiftGrab { user: user.into(), token: None, mutual: None }
    }

    /// Sets `token`. `None` is sent as null.
    #[must_use]
    pub fn token(mut self, token: impl Into<Option<String>>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets `mutual`.
    #[must_use]
    pub fn mutual(mut self, mutual: bool) -> Self {
        self.mutual = Some(mutual);
        self
    }
}

/// `Gift` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Gift {
    /// `id`.
    pub id: GiftId,
    /// `state`.
    pub state: GiftState,
    /// `giver`.
    pub giver: User,
    /// null until somebody accepts it, if it was made for nobody in particular.
    pub recipient: Option<String>,
    /// Who pays or has paid, and gets the money back if it comes to nothing.
    pub payer: User,
    /// `item`.
    pub item: ItemId,
    /// `merchant`.
    pub merchant: User,
    /// `amount`.
    pub amount: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `message`.
    pub message: String,
    /// What whoever accepts it has to show, if it was made for nobody in particular: told while it can be accepted,
    /// to keys with the role admin or caller.
    #[serde(default)]
    pub token: Option<String>,
    /// `created_at`.
    pub created_at: Time,
    /// Until when it may be paid, if somebody else was asked.
    pub pay_by: Option<String>,
    /// When it was paid.
    pub paid_at: Option<String>,
    /// Until when it may be accepted, once it is paid.
    pub accept_by: Option<String>,
    /// When it was accepted.
    pub accepted_at: Option<String>,
    /// Until when it is to be shipped, once it is accepted.
    pub ship_by: Option<String>,
    /// When it was shipped.
    pub shipped_at: Option<String>,
    /// `carrier`.
    pub carrier: Option<String>,
    /// `tracking`.
    pub tracking: Option<String>,
    /// When it came to its end.
    pub ended_at: Option<String>,
    /// Why it was declined or failed.
    pub reason: Option<String>,
    /// What the recipient has said.
    pub note: Option<String>,
    /// `reference`.
    pub reference: Option<String>,
    /// `metadata`.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// When its texts were taken back, the first time.
    pub redacted_at: Option<String>,
}

/// `OfferedGift` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct OfferedGift {
    /// `gift`.
    pub gift: Gift,
    /// `replayed`.
    pub replayed: bool,
}

union! {
    /// Treat an outcome you do not know as no gift so far.
    GiftGrabOutcome by "outcome" { "offered" => Offered(OfferedGift), "sold_out" => SoldOut(SoldOut), "expired" => Expired(Expired), "cancelled" => Cancelled(Cancelled) }
}

words! {
    /// `relation` of [`NewRelation`].
    NewRelationRelation { None = "none", Follows = "follows", Blocks = "blocks" }
}

/// `NewRelation` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewRelation {
    /// `user`.
    pub user: User,
    /// `other`.
    pub other: User,
    /// What the user is to the other.
    pub relation: NewRelationRelation,
}

impl NewRelation {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>, other: impl Into<String>, relation: NewRelationRelation) -> Self {
        NewRelation { user: user.into(), other: other.into(), relation }
    }
}

/// `NewRelations` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewRelations {
    /// `relations`.
    pub relations: Vec<NewRelation>,
}

impl NewRelations {
    /// With what there must be; the rest is left out.
    pub fn new(relations: Vec<NewRelation>) -> Self {
        NewRelations { relations }
    }
}

/// `RelationsTold` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct RelationsTold {
    /// `rows`.
    pub rows: u64,
}

words! {
    /// `relation` of [`Relation`].
    RelationRelation { Follows = "follows", Blocks = "blocks" }
}

/// `Relation` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Relation {
    /// `user`.
    pub user: User,
    /// `other`.
    pub other: User,
    /// `relation`.
    pub relation: RelationRelation,
}

/// `Relations` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Relations {
    /// `relations`.
    pub relations: Vec<Relation>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `NewGift` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewGift {
    /// `giver`.
    pub giver: User,
    /// null: whoever accepts first with the gift's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Option<String>>,
    /// `item`.
    pub item: ItemId,
    /// Who pays; the giver unless said. Anybody else is asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<Option<String>>,
    /// `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// How long whoever was asked may take to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_within_s: Option<u64>,
    /// How long the recipient may take, from the payment on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_within_s: Option<u64>,
    /// How long the merchant may take, from the acceptance on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ship_within_s: Option<u64>,
    /// The app knows that giver and recipient follow each other; needed where that is the rule and it was not told
    /// with POST /v1/relations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<bool>,
    /// `reference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Option<Reference>>,
    /// Up to 4 KiB and 32 levels deep, kept as it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl NewGift {
    /// With what there must be; the rest is left out.
    pub fn new(giver: impl Into<String>, item: impl Into<String>) -> Self {
        NewGift { giver: giver.into(), item: item.into(), recipient: None, payer: None, message: None, pay_within_s: None, accept_within_s: None, ship_within_s: None, mutual: None, reference: None, metadata: None }
    }

    /// Sets `recipient`. `None` is sent as null.
    #[must_use]
    pub fn recipient(mut self, recipient: impl Into<Option<String>>) -> Self {
        self.recipient = Some(recipient.into());
        self
    }

    /// Sets `payer`. `None` is sent as null.
    #[must_use]
    pub fn payer(mut self, payer: impl Into<Option<String>>) -> Self {
        self.payer = Some(payer.into());
        self
    }

    /// Sets `message`.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Sets `pay_within_s`.
    #[must_use]
    pub fn pay_within_s(mut self, pay_within_s: u64) -> Self {
        self.pay_within_s = Some(pay_within_s);
        self
    }

    /// Sets `accept_within_s`.
    #[must_use]
    pub fn accept_within_s(mut self, accept_within_s: u64) -> Self {
        self.accept_within_s = Some(accept_within_s);
        self
    }

    /// Sets `ship_within_s`.
    #[must_use]
    pub fn ship_within_s(mut self, ship_within_s: u64) -> Self {
        self.ship_within_s = Some(ship_within_s);
        self
    }

    /// Sets `mutual`.
    #[must_use]
    pub fn mutual(mut self, mutual: bool) -> Self {
        self.mutual = Some(mutual);
        self
    }

    /// Sets `reference`. `None` is sent as null.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<Option<Reference>>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// Sets `metadata`.
    #[must_use]
    pub fn metadata(mut self, metadata: serde_json::Map<String, serde_json::Value>) -> Self {
        self.metadata = Some(metadata);
        self
    }
}

/// `Gifts` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Gifts {
    /// `gifts`.
    pub gifts: Vec<Gift>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

words! {
    /// Of a group that is expired or whose leader has left all have their money back.
    GroupState { Open = "open", Full = "full", Expired = "expired", LeaderLeft = "leader_left" }
}

/// `NewGroup` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewGroup {
    /// Its leader.
    pub user: User,
    /// `reference`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<Reference>,
}

impl NewGroup {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        NewGroup { user: user.into(), reference: None }
    }

    /// Sets `reference`.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }
}

/// `GroupMember` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GroupMember {
    /// `user`.
    pub user: User,
    /// `joined_at`.
    pub joined_at: Time,
    /// Once the group is full.
    pub order: Option<String>,
}

/// `Group` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Group {
    /// `id`.
    pub id: GroupId,
    /// `state`.
    pub state: GroupState,
    /// `item`.
    pub item: ItemId,
    /// `merchant`.
    pub merchant: User,
    /// `leader`.
    pub leader: User,
    /// How many are in it.
    pub members: u64,
    /// How many it takes.
    pub size: u64,
    /// What each pays: the item's price for groups when it was opened.
    pub price: Amount,
    /// `currency`.
    pub currency: Currency,
    /// Who is in it, in the order in which they joined; of one that came to nothing, who was.
    pub joined: Vec<GroupMember>,
    /// `created_at`.
    pub created_at: Time,
    /// `expires_at`.
    pub expires_at: Time,
    /// When it was full, or came to nothing.
    pub ended_at: Option<String>,
    /// `reference`.
    pub reference: Option<String>,
}

/// A group, and who opened, joined or left it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GroupHappened {
    /// `user`.
    #[serde(default)]
    pub user: Option<User>,
    /// `id`.
    pub id: GroupId,
    /// `state`.
    pub state: GroupState,
    /// `item`.
    pub item: ItemId,
    /// `merchant`.
    pub merchant: User,
    /// `leader`.
    pub leader: User,
    /// `members`.
    pub members: u64,
    /// `size`.
    pub size: u64,
    /// `price`.
    pub price: Amount,
    /// `currency`.
    pub currency: Currency,
    /// `joined`.
    pub joined: Vec<GroupMember>,
    /// `created_at`.
    pub created_at: Time,
    /// `expires_at`.
    pub expires_at: Time,
    /// `ended_at`.
    pub ended_at: Option<String>,
    /// `reference`.
    pub reference: Option<String>,
}

/// `Groups` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Groups {
    /// `groups`.
    pub groups: Vec<Group>,
    /// `next_cursor`.
    pub next_cursor: Cursor,
}

/// `Joined` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Joined {
    /// `group`.
    pub group: GroupId,
    /// `state`.
    pub state: GroupState,
    /// `members`.
    pub members: u64,
    /// `size`.
    pub size: u64,
    /// `price`.
    pub price: Amount,
    /// `expires_at`.
    pub expires_at: Time,
    /// The user's, once the group is full.
    pub order: Option<String>,
    /// Whether the user was in it before.
    pub replayed: bool,
}

/// `GroupFull` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GroupFull {
}

/// `LeaderLeft` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct LeaderLeft {
}

union! {
    /// Treat an outcome you do not know as not joined so far.
    GroupOutcome by "outcome" { "joined" => Joined(Joined), "full" => Full(GroupFull), "expired" => Expired(Expired), "leader_left" => LeaderLeft(LeaderLeft), "sold_out" => SoldOut(SoldOut), "limit_reached" => LimitReached(LimitReached), "not_open" => NotOpen(NotOpen), "ended" => Ended(Ended), "insufficient_funds" => InsufficientFunds(CannotPay) }
}

/// `GiftPay` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftPay {
    /// `payer`.
    pub payer: User,
}

impl GiftPay {
    /// With what there must be; the rest is left out.
    pub fn new(payer: impl Into<String>) -> Self {
        GiftPay { payer: payer.into() }
    }
}

/// `Address` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Address {
    /// `name`.
    pub name: String,
    /// `phone`.
    pub phone: String,
    /// `lines`.
    pub lines: Vec<String>,
    /// `city`.
    pub city: String,
    /// `postcode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postcode: Option<String>,
}

impl Address {
    /// With what there must be; the rest is left out.
    pub fn new(name: impl Into<String>, phone: impl Into<String>, lines: Vec<String>, city: impl Into<String>) -> Self {
        Address { name: name.into(), phone: phone.into(), lines, city: city.into(), postcode: None }
    }

    /// Sets `postcode`.
    #[must_use]
    pub fn postcode(mut self, postcode: impl Into<String>) -> Self {
        self.postcode = Some(postcode.into());
        self
    }
}

/// `GiftAccept` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftAccept {
    /// `user`.
    pub user: User,
    /// The gift's, if it was made for nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Option<String>>,
    /// Where it is to be sent. Sealed as it comes; told to its merchant only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Option<Address>>,
    /// The app knows that this user and the giver follow each other; of a gift that was made for nobody in
    /// particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutual: Option<bool>,
}

impl GiftAccept {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        GiftAccept { user: user.into(), token: None, address: None, mutual: None }
    }

    /// Sets `token`. `None` is sent as null.
    #[must_use]
    pub fn token(mut self, token: impl Into<Option<String>>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets `address`. `None` is sent as null.
    #[must_use]
    pub fn address(mut self, address: impl Into<Option<Address>>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Sets `mutual`.
    #[must_use]
    pub fn mutual(mut self, mutual: bool) -> Self {
        self.mutual = Some(mutual);
        self
    }
}

/// `GiftAddress` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct GiftAddress {
    /// `gift`.
    pub gift: GiftId,
    /// Which address of the gift it is; shipping names it.
    pub version: u64,
    /// `name`.
    pub name: String,
    /// `phone`.
    pub phone: String,
    /// `lines`.
    pub lines: Vec<String>,
    /// `city`.
    pub city: String,
    /// `postcode`.
    pub postcode: String,
}

/// `GiftDecline` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftDecline {
    /// `user`.
    pub user: User,
    /// `reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Option<String>>,
}

impl GiftDecline {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        GiftDecline { user: user.into(), reason: None }
    }

    /// Sets `reason`. `None` is sent as null.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<Option<String>>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}

/// `GiftThank` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftThank {
    /// `user`.
    pub user: User,
    /// `note`.
    pub note: String,
}

impl GiftThank {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>, note: impl Into<String>) -> Self {
        GiftThank { user: user.into(), note: note.into() }
    }
}

/// `GiftShip` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftShip {
    /// `carrier`.
    pub carrier: String,
    /// `tracking`.
    pub tracking: String,
    /// The version of the address it is sent to: refused (409) if it is another one by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_version: Option<Option<u64>>,
}

impl GiftShip {
    /// With what there must be; the rest is left out.
    pub fn new(carrier: impl Into<String>, tracking: impl Into<String>) -> Self {
        GiftShip { carrier: carrier.into(), tracking: tracking.into(), address_version: None }
    }

    /// Sets `address_version`. `None` is sent as null.
    #[must_use]
    pub fn address_version(mut self, address_version: impl Into<Option<u64>>) -> Self {
        self.address_version = Some(address_version.into());
        self
    }
}

/// `GiftFail` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GiftFail {
    /// `reason`.
    pub reason: String,
}

impl GiftFail {
    /// With what there must be; the rest is left out.
    pub fn new(reason: impl Into<String>) -> Self {
        GiftFail { reason: reason.into() }
    }
}

/// `Advance` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Advance {
    /// `advance_s`.
    pub advance_s: u64,
}

impl Advance {
    /// With what there must be; the rest is left out.
    pub fn new(advance_s: u64) -> Self {
        Advance { advance_s }
    }
}

/// `Clock` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Clock {
    /// `now`.
    pub now: Time,
}

words! {
    /// `fault` of [`Faults`].
    FaultsFault { Overloaded = "overloaded", Slow = "slow", LoseReply = "lose_reply" }
}

/// `Faults` of the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Faults {
    /// `fault`.
    pub fault: FaultsFault,
    /// So many of the next requests.
    pub count: u64,
}

impl Faults {
    /// With what there must be; the rest is left out.
    pub fn new(fault: FaultsFault, count: u64) -> Self {
        Faults { fault, count }
    }
}

/// `Status` of the API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// `status`.
    pub status: String,
}

/// What may be asked of [`entries`](crate::Client::entries).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct EntriesQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl EntriesQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        EntriesQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl EntriesQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`envelopes`](crate::Client::envelopes).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct EnvelopesQuery {
    /// `reference`.
    pub reference: Option<String>,
    /// `sender`.
    pub sender: Option<User>,
    /// `state`.
    pub state: Option<EnvelopeState>,
    /// `created_from`.
    pub created_from: Option<Time>,
    /// `created_to`.
    pub created_to: Option<Time>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl EnvelopesQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        EnvelopesQuery { reference: None, sender: None, state: None, created_from: None, created_to: None, limit: None }
    }

    /// Sets `reference`.
    #[must_use]
    pub fn reference(mut self, reference: impl Into<String>) -> Self {
        self.reference = Some(reference.into());
        self
    }

    /// Sets `sender`.
    #[must_use]
    pub fn sender(mut self, sender: impl Into<String>) -> Self {
        self.sender = Some(sender.into());
        self
    }

    /// Sets `state`.
    #[must_use]
    pub fn state(mut self, state: EnvelopeState) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets `created_from`.
    #[must_use]
    pub fn created_from(mut self, created_from: impl Into<String>) -> Self {
        self.created_from = Some(created_from.into());
        self
    }

    /// Sets `created_to`.
    #[must_use]
    pub fn created_to(mut self, created_to: impl Into<String>) -> Self {
        self.created_to = Some(created_to.into());
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl EnvelopesQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 6] {
        [
            ("reference", self.reference.as_ref().map(ToString::to_string)),
            ("sender", self.sender.as_ref().map(ToString::to_string)),
            ("state", self.state.as_ref().map(ToString::to_string)),
            ("created_from", self.created_from.as_ref().map(ToString::to_string)),
            ("created_to", self.created_to.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`grabs`](crate::Client::grabs).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct GrabsQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl GrabsQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        GrabsQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl GrabsQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`sent`](crate::Client::sent).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct SentQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl SentQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        SentQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl SentQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`received`](crate::Client::received).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct ReceivedQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl ReceivedQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        ReceivedQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl ReceivedQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`payments`](crate::Client::payments).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct PaymentsQuery {
    /// `state`.
    pub state: Option<PaymentState>,
    /// `gateway`.
    pub gateway: Option<String>,
    /// `discrepant`.
    pub discrepant: Option<bool>,
    /// `created_from`.
    pub created_from: Option<Time>,
    /// `created_to`.
    pub created_to: Option<Time>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl PaymentsQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        PaymentsQuery { state: None, gateway: None, discrepant: None, created_from: None, created_to: None, limit: None }
    }

    /// Sets `state`.
    #[must_use]
    pub fn state(mut self, state: PaymentState) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets `gateway`.
    #[must_use]
    pub fn gateway(mut self, gateway: impl Into<String>) -> Self {
        self.gateway = Some(gateway.into());
        self
    }

    /// Sets `discrepant`.
    #[must_use]
    pub fn discrepant(mut self, discrepant: bool) -> Self {
        self.discrepant = Some(discrepant);
        self
    }

    /// Sets `created_from`.
    #[must_use]
    pub fn created_from(mut self, created_from: impl Into<String>) -> Self {
        self.created_from = Some(created_from.into());
        self
    }

    /// Sets `created_to`.
    #[must_use]
    pub fn created_to(mut self, created_to: impl Into<String>) -> Self {
        self.created_to = Some(created_to.into());
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl PaymentsQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 6] {
        [
            ("state", self.state.as_ref().map(ToString::to_string)),
            ("gateway", self.gateway.as_ref().map(ToString::to_string)),
            ("discrepant", self.discrepant.as_ref().map(ToString::to_string)),
            ("created_from", self.created_from.as_ref().map(ToString::to_string)),
            ("created_to", self.created_to.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`payouts`](crate::Client::payouts).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct PayoutsQuery {
    /// `state`.
    pub state: Option<PayoutState>,
    /// `kind`.
    pub kind: Option<PayoutKind>,
    /// `user`.
    pub user: Option<User>,
    /// `envelope`.
    pub envelope: Option<EnvelopeId>,
    /// `created_from`.
    pub created_from: Option<Time>,
    /// `created_to`.
    pub created_to: Option<Time>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl PayoutsQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        PayoutsQuery { state: None, kind: None, user: None, envelope: None, created_from: None, created_to: None, limit: None }
    }

    /// Sets `state`.
    #[must_use]
    pub fn state(mut self, state: PayoutState) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets `kind`.
    #[must_use]
    pub fn kind(mut self, kind: PayoutKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Sets `user`.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets `envelope`.
    #[must_use]
    pub fn envelope(mut self, envelope: impl Into<String>) -> Self {
        self.envelope = Some(envelope.into());
        self
    }

    /// Sets `created_from`.
    #[must_use]
    pub fn created_from(mut self, created_from: impl Into<String>) -> Self {
        self.created_from = Some(created_from.into());
        self
    }

    /// Sets `created_to`.
    #[must_use]
    pub fn created_to(mut self, created_to: impl Into<String>) -> Self {
        self.created_to = Some(created_to.into());
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl PayoutsQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 7] {
        [
            ("state", self.state.as_ref().map(ToString::to_string)),
            ("kind", self.kind.as_ref().map(ToString::to_string)),
            ("user", self.user.as_ref().map(ToString::to_string)),
            ("envelope", self.envelope.as_ref().map(ToString::to_string)),
            ("created_from", self.created_from.as_ref().map(ToString::to_string)),
            ("created_to", self.created_to.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`merchants`](crate::Client::merchants).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct MerchantsQuery {
    /// `status`.
    pub status: Option<MerchantStatus>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl MerchantsQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        MerchantsQuery { status: None, limit: None }
    }

    /// Sets `status`.
    #[must_use]
    pub fn status(mut self, status: MerchantStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl MerchantsQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 2] {
        [
            ("status", self.status.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`merchant_statement`](crate::Client::merchant_statement).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct MerchantStatementQuery {
    /// `from`.
    pub from: Option<Time>,
    /// `to`.
    pub to: Option<Time>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl MerchantStatementQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        MerchantStatementQuery { from: None, to: None, limit: None }
    }

    /// Sets `from`.
    #[must_use]
    pub fn from(mut self, from: impl Into<String>) -> Self {
        self.from = Some(from.into());
        self
    }

    /// Sets `to`.
    #[must_use]
    pub fn to(mut self, to: impl Into<String>) -> Self {
        self.to = Some(to.into());
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl MerchantStatementQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("from", self.from.as_ref().map(ToString::to_string)),
            ("to", self.to.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`items`](crate::Client::items).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct ItemsQuery {
    /// `category`.
    pub category: Option<String>,
    /// `merchant`.
    pub merchant: Option<User>,
    /// `kind`.
    pub kind: Option<ItemKind>,
    /// `variant_of`.
    pub variant_of: Option<ItemId>,
    /// `true`: the merchant is verified, and the sale has begun and has not ended. What is sold out is on sale all
    /// the same. `false`: the others.
    pub on_sale: Option<bool>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl ItemsQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        ItemsQuery { category: None, merchant: None, kind: None, variant_of: None, on_sale: None, limit: None }
    }

    /// Sets `category`.
    #[must_use]
    pub fn category(mut self, category: impl Into<String>) -> Self {
        self.category = Some(category.into());
        self
    }

    /// Sets `merchant`.
    #[must_use]
    pub fn merchant(mut self, merchant: impl Into<String>) -> Self {
        self.merchant = Some(merchant.into());
        self
    }

    /// Sets `kind`.
    #[must_use]
    pub fn kind(mut self, kind: ItemKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Sets `variant_of`.
    #[must_use]
    pub fn variant_of(mut self, variant_of: impl Into<String>) -> Self {
        self.variant_of = Some(variant_of.into());
        self
    }

    /// Sets `on_sale`.
    #[must_use]
    pub fn on_sale(mut self, on_sale: bool) -> Self {
        self.on_sale = Some(on_sale);
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl ItemsQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 6] {
        [
            ("category", self.category.as_ref().map(ToString::to_string)),
            ("merchant", self.merchant.as_ref().map(ToString::to_string)),
            ("kind", self.kind.as_ref().map(ToString::to_string)),
            ("variant_of", self.variant_of.as_ref().map(ToString::to_string)),
            ("on_sale", self.on_sale.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`gift_codes`](crate::Client::gift_codes).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct GiftCodesQuery {
    /// The gift's recipient.
    pub user: User,
}

impl GiftCodesQuery {
    /// With what there must be; the rest is left out.
    pub fn new(user: impl Into<String>) -> Self {
        GiftCodesQuery { user: user.into() }
    }
}

impl GiftCodesQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("user", Some(self.user.to_string())),
        ]
    }
}

words! {
    /// `role` of [`GiftsOfQuery`].
    GiftsOfRole { Given = "given", Received = "received" }
}

/// What may be asked of [`gifts_of`](crate::Client::gifts_of).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct GiftsOfQuery {
    /// Those that the user gives, or those that are for the user.
    pub role: Option<GiftsOfRole>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl GiftsOfQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        GiftsOfQuery { role: None, limit: None }
    }

    /// Sets `role`.
    #[must_use]
    pub fn role(mut self, role: GiftsOfRole) -> Self {
        self.role = Some(role);
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl GiftsOfQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 2] {
        [
            ("role", self.role.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`groups_of_item`](crate::Client::groups_of_item).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct GroupsOfItemQuery {
    /// Only those that stand so.
    pub state: Option<GroupState>,
    /// `limit`.
    pub limit: Option<u64>,
}

impl GroupsOfItemQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        GroupsOfItemQuery { state: None, limit: None }
    }

    /// Sets `state`.
    #[must_use]
    pub fn state(mut self, state: GroupState) -> Self {
        self.state = Some(state);
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl GroupsOfItemQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 2] {
        [
            ("state", self.state.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`groups_of_user`](crate::Client::groups_of_user).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct GroupsOfUserQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl GroupsOfUserQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        GroupsOfUserQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl GroupsOfUserQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`gift_envelopes_of`](crate::Client::gift_envelopes_of).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct GiftEnvelopesOfQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl GiftEnvelopesOfQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        GiftEnvelopesOfQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl GiftEnvelopesOfQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`relations_of`](crate::Client::relations_of).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct RelationsOfQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl RelationsOfQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        RelationsOfQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl RelationsOfQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`events`](crate::Client::events).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct EventsQuery {
    /// The next_cursor, or the id in a stream, of what was told before; `oldest`, as if left out: all that is kept;
    /// `now`: what happens from now on.
    pub after: Option<String>,
    /// Types with commas between; `envelope.*` is all that begin so. Left out: all but share.grabbed and hold.held,
    /// which come by the million.
    pub types: Option<String>,
    /// `limit`.
    pub limit: Option<u64>,
    /// Seconds to wait for an event; a stream does not take it.
    pub wait_s: Option<u64>,
}

impl EventsQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        EventsQuery { after: None, types: None, limit: None, wait_s: None }
    }

    /// Sets `after`.
    #[must_use]
    pub fn after(mut self, after: impl Into<String>) -> Self {
        self.after = Some(after.into());
        self
    }

    /// Sets `types`.
    #[must_use]
    pub fn types(mut self, types: impl Into<String>) -> Self {
        self.types = Some(types.into());
        self
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets `wait_s`.
    #[must_use]
    pub fn wait_s(mut self, wait_s: u64) -> Self {
        self.wait_s = Some(wait_s);
        self
    }
}

impl EventsQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 4] {
        [
            ("after", self.after.as_ref().map(ToString::to_string)),
            ("types", self.types.as_ref().map(ToString::to_string)),
            ("limit", self.limit.as_ref().map(ToString::to_string)),
            ("wait_s", self.wait_s.as_ref().map(ToString::to_string)),
        ]
    }
}

/// What may be asked of [`keys`](crate::Client::keys).
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub struct KeysQuery {
    /// `limit`.
    pub limit: Option<u64>,
}

impl KeysQuery {
    /// With what there must be; the rest is left out.
    pub fn new() -> Self {
        KeysQuery { limit: None }
    }

    /// Sets `limit`.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl KeysQuery {
    pub(crate) fn told(&self) -> [(&'static str, Option<String>); 1] {
        [
            ("limit", self.limit.as_ref().map(ToString::to_string)),
        ]
    }
}
