//! What was decided: the events of one record, and their form in the journal.
//!
//! An event carries what both its readers need: the state in memory, which
//! applies it on the way up and again at replay, and the projection, which
//! turns it into rows without looking anything up. Hence the post-images
//! (`available_after`, `units_after`): the state asserts that they agree with
//! what it computes itself.
//!
//! **Invariant:** within a record the money that leaves accounts is the money
//! that enters others ([`Record::balances`]).
//!
//! **Invariant:** the form of a variant never changes once released; a new
//! meaning is a new variant with a new tag, or one more behind the last variant
//! of an enum in it, so that what is there is read as it was.

use crate::address::AddressMark;
use crate::api_key::ApiKey;
use crate::backend::{EntryKind, OnceKey};
use crate::code::{Code, HandedTo};
use crate::command::{EndedAs, HoldState, HoldView, Merchant, NewEnvelope, NewItem, OrderView, Outcome};
use crate::gift::{Gift, GiftState};
use crate::gift_envelope::GiftEnvelope;
use crate::group::{Group, Member};
use crate::order::{OrderProgress, OrderState};
use crate::payment::{Payment, PaymentState};
use crate::payout::{Outside, Payout, PayoutKind, PayoutState};
use crate::redaction::Redaction;
use crate::relation::RelationRow;
use crate::sale::{MerchantBalance, MerchantEntryKind, SaleOf, Slot};
use crate::split::{self, Shares};
use crate::types::{Amount, EnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PayoutId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// The events of one record. Most commands make one or two.
pub type Events = SmallVec<[Event; 2]>;

/// Something that has been decided and can no longer be refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Money moved on a wallet.
    WalletMoved(WalletMoved),
    /// An envelope was funded and split.
    EnvelopeCreated(Box<EnvelopeCreated>),
    /// A share was taken.
    Grabbed(Grabbed),
    /// A share went to its winner; the credit is a [`WalletMoved`] beside it.
    Claimed(Claimed),
    /// An envelope can no longer be grabbed, though shares were left. Their
    /// refund is a [`WalletMoved`] beside it.
    EnvelopeEnded(EnvelopeEnded),
    /// What was not claimed in time went back; the refund stands beside it.
    EnvelopeLapsed {
        /// The envelope.
        envelope: EnvelopeId,
        /// The money of all shares grabbed and not claimed.
        amount: Amount,
    },
    /// No share is unclaimed any more; nothing about the envelope will change.
    EnvelopeSettled(EnvelopeSettled),
    /// A merchant as it is from now on.
    MerchantPut(Box<Merchant>),
    /// An item as it is from now on.
    ItemPut(Box<ItemPut>),
    /// Units were set aside for a user.
    Held(Held),
    /// A hold came to its end.
    HoldEnded(Box<HoldEnded>),
    /// An answer to be given again under the same key.
    Remembered(Box<Remembered>),
    /// A test deployment's clock was moved forward.
    ClockAdvanced {
        /// How far.
        by_ms: u64,
    },
    /// An API key as it is from now on.
    ApiKeyPut(Box<ApiKey>),
    /// The envelope created in the same record has to do with the outside.
    EnvelopeOutside(Box<EnvelopeOutside>),
    /// Money that left an envelope is to be paid outside.
    PayoutMade(PayoutMade),
    /// Something came of a payout.
    PayoutChanged(Box<PayoutChanged>),
    /// An envelope's message was taken back.
    EnvelopeRedacted(Box<EnvelopeRedacted>),
    /// A gift was made, or something has become of it. The payment and what goes back
    /// is a [`WalletMoved`] beside it.
    GiftChanged(Box<GiftChanged>),
    /// A merchant's money moved; a sale and what goes back of it stand beside their cause.
    MerchantMoved(Box<MerchantMoved>),
    /// A gift's address was given, or it is known when it is to be erased.
    AddressPut(Box<AddressPut>),
    /// A gift's address was erased.
    AddressErased(AddressErased),
    /// An item has more codes; its stock is an [`ItemPut`] beside it.
    CodesAdded(Box<CodesAdded>),
    /// Codes went to an order or a gift, which stands beside it.
    CodesHanded(CodesHanded),
    /// Something has become of an order. What goes back of its money stands beside it.
    OrderChanged(Box<OrderChanged>),
    /// It was told what users are to others.
    RelationsPut(Vec<RelationRow>),
    /// Gifts made in the same record are for whoever comes first.
    GiftEnvelopeMade(Box<GiftEnvelope>),
    /// A payment outside was made, or something has become of it. What it pays for stands beside it.
    PaymentChanged(Box<PaymentChanged>),
    /// A group was opened, or something has become of it. What members pay and what goes
    /// back to them is a [`WalletMoved`] each beside it.
    GroupChanged(Box<GroupChanged>),
    /// A member of a group that is full has an order; its money goes from the group to the merchant.
    GroupOrdered(Box<GroupOrdered>),
}

/// Money on a wallet moved; whether in or out is told by the kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalletMoved {
    /// Whose wallet.
    pub user: UserId,
    /// Why.
    pub kind: EntryKind,
    /// How much.
    pub amount: Amount,
    /// What can be spent afterwards.
    pub available_after: Amount,
}

impl WalletMoved {
    /// Whether the money came in.
    pub fn is_credit(&self) -> bool {
        self.kind.is_credit()
    }
}

/// An envelope as it was made. None of it changes later, but for what is taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeCreated {
    /// Its id.
    pub id: EnvelopeId,
    /// The terms asked for.
    pub terms: NewEnvelope,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it opens.
    pub opens_at: Timestamp,
    /// When it can no longer be grabbed.
    pub expires_at: Timestamp,
    /// When grabbed shares can no longer be claimed.
    pub claim_by: Timestamp,
    /// The secret part of the draw's seed.
    pub secret: [u8; 32],
    /// The luckiest share; of equal ones the lowest.
    pub best_share: u32,
    /// From what the ids of its payouts are made, if it makes any; see [`EnvelopeOutside`].
    #[serde(skip)]
    pub payout_secret: [u8; 32],
    /// What of it was taken back; see [`EnvelopeRedacted`].
    #[serde(skip)]
    pub redacted: Option<Redaction>,
}

/// Where an envelope's money comes from and goes to, if not from and into wallets:
/// an event of its own, so that the form of [`EnvelopeCreated`] stays as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeOutside {
    /// The envelope, which the event before has created.
    pub envelope: EnvelopeId,
    /// The terms.
    pub outside: Outside,
    /// What came from outside into it: its total, or nothing.
    pub deposited: Amount,
    /// From what the ids of its payouts are made.
    pub payout_secret: [u8; 32],
}

impl EnvelopeOutside {
    /// That of an envelope, if it has to do with the outside.
    pub(crate) fn of(created: &EnvelopeCreated) -> Option<EnvelopeOutside> {
        let EnvelopeCreated { id, terms, payout_secret, .. } = created;
        let deposited = if terms.outside.funding.is_some() { terms.total } else { Amount::ZERO };
        terms.outside.is_any().then(|| EnvelopeOutside {
            envelope: *id,
            outside: terms.outside.clone(),
            deposited,
            payout_secret: *payout_secret,
        })
    }

    /// That of an envelope within wallets.
    #[cfg(feature = "redis")]
    fn none(envelope: EnvelopeId) -> EnvelopeOutside {
        EnvelopeOutside { envelope, outside: Outside::default(), deposited: Amount::ZERO, payout_secret: [0; 32] }
    }

    /// Puts it where it belongs.
    pub(crate) fn put(self, created: &mut EnvelopeCreated) {
        created.terms.outside = self.outside;
        created.payout_secret = self.payout_secret;
    }
}

/// An envelope's message was taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeRedacted {
    /// The envelope without what was taken back.
    pub created: EnvelopeCreated,
    /// What was.
    pub redaction: Redaction,
}

impl EnvelopeRedacted {
    /// The event that makes `redaction` of an envelope.
    pub(crate) fn new(mut created: EnvelopeCreated, redaction: Redaction) -> EnvelopeRedacted {
        redaction.put(&mut created);
        EnvelopeRedacted { created, redaction }
    }
}

/// Money that left an envelope is to be paid outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PayoutMade {
    /// The new payout.
    pub payout: PayoutId,
    /// What it is for.
    pub kind: PayoutKind,
    /// Out of this envelope.
    pub envelope: EnvelopeId,
    /// How much.
    pub amount: Amount,
    /// Who gets it.
    pub user: UserId,
}

impl PayoutMade {
    /// The payout as it is from `at`, the record's time, on.
    pub(crate) fn payout(&self, at: Timestamp) -> Payout {
        Payout::made(self.payout, self.kind, self.envelope, self.user.clone(), self.amount, at)
    }
}

/// Something came of a payout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PayoutChanged {
    /// As what it stood before.
    pub was: PayoutState,
    /// The payout afterwards.
    pub payout: Payout,
}

#[cfg(feature = "redis")]
impl EnvelopeCreated {
    /// All of it in one piece, with what it has to do with the outside behind the
    /// rest, if it has; and behind both, then, what was taken back.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        const FORM: &str = "every envelope has a postcard form";
        let bytes = postcard::to_extend(self, Vec::new()).expect(FORM);
        match (EnvelopeOutside::of(self), self.redacted) {
            (None, None) => bytes,
            (Some(outside), None) => postcard::to_extend(&outside, bytes).expect(FORM),
            (outside, Some(redaction)) => {
                let outside = outside.unwrap_or_else(|| EnvelopeOutside::none(self.id));
                postcard::to_extend(&(outside, redaction), bytes).expect(FORM)
            }
        }
    }

    /// What [`EnvelopeCreated::to_bytes`] wrote.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<EnvelopeCreated> {
        let (mut created, rest) = postcard::take_from_bytes::<EnvelopeCreated>(bytes).ok()?;
        if !rest.is_empty() {
            let (outside, rest) = postcard::take_from_bytes::<EnvelopeOutside>(rest).ok()?;
            if outside.envelope != created.id {
                return None;
            }
            outside.put(&mut created);
            if !rest.is_empty() {
                postcard::from_bytes::<Redaction>(rest).ok()?.put(&mut created);
            }
        }
        Some(created)
    }
}

impl EnvelopeCreated {
    /// The amounts of its shares. Takes up to a second for ten million.
    pub fn split(&self) -> Shares {
        let terms = &self.terms;
        let client_seed = terms.client_seed.as_deref().unwrap_or("");
        let seed = split::envelope_seed(&self.secret, &self.id, client_seed.as_bytes());
        split::split(&terms.split, terms.total, terms.shares, &seed)
    }
}

/// A share was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Grabbed {
    /// Of this envelope.
    pub envelope: EnvelopeId,
    /// Its position in the split.
    pub share: u32,
    /// Its money.
    pub amount: Amount,
    /// Who took it.
    pub user: UserId,
    /// Whether none is left. Records of earlier versions do not say it.
    pub is_last: bool,
}

/// A share went to its winner.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// Of this envelope.
    pub envelope: EnvelopeId,
    /// Its position in the split.
    pub share: u32,
    /// Its money.
    pub amount: Amount,
    /// Who has it.
    pub user: UserId,
    /// When it was grabbed.
    pub grabbed_at: Timestamp,
}

/// An envelope ended with shares left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeEnded {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// Expired or cancelled.
    pub how: EndedAs,
    /// The money nobody grabbed.
    pub refund: Amount,
}

/// The final figures of an envelope.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeSettled {
    /// The envelope.
    pub envelope: EnvelopeId,
    /// How it ended.
    pub how: EndedAs,
    /// Shares that were grabbed.
    pub taken: u32,
    /// Money that winners have.
    pub claimed: Amount,
    /// Money that went back.
    pub refunded: Amount,
}

/// An item's terms and how many units there ever were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemPut {
    /// The item.
    pub id: ItemId,
    /// When it was put on sale.
    pub created_at: Timestamp,
    /// Its terms now (`stock` is what it began with).
    pub terms: NewItem,
    /// All units there ever were.
    pub stock_total: u32,
}

/// A user's units of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// Held now.
    pub held: u32,
    /// Bought.
    pub sold: u32,
}

/// Units were set aside for a user.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The new hold.
    pub hold: HoldId,
    /// Of this item.
    pub item: ItemId,
    /// For whom.
    pub user: UserId,
    /// Units.
    pub quantity: u32,
    /// What they will cost together.
    pub amount: Amount,
    /// Until when.
    pub expires_at: Timestamp,
    /// The user's units of the item afterwards.
    pub units_after: Units,
}

impl Held {
    /// The hold as it is from `at`, the record's time, on.
    pub(crate) fn view(&self, at: Timestamp) -> HoldView {
        HoldView {
            id: self.hold,
            item: self.item,
            user: self.user.clone(),
            quantity: self.quantity,
            amount: self.amount,
            state: HoldState::Held,
            created_at: at,
            expires_at: self.expires_at,
        }
    }
}

/// A hold ended: `hold.state` says how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldEnded {
    /// The hold, with its final state.
    pub hold: HoldView,
    /// The user's units of the item afterwards.
    pub units_after: Units,
    /// Who is paid, if it was claimed, and what the merchant is owed afterwards.
    pub merchant: Option<(UserId, Amount)>,
}

impl HoldEnded {
    /// The order that it makes, at the record's time, if it was paid.
    pub(crate) fn order(&self, at: Timestamp) -> Option<OrderView> {
        let (merchant, _) = self.merchant.as_ref()?;
        Some(OrderView {
            id: order_of(&self.hold)?,
            hold: self.hold.id,
            item: self.hold.item,
            merchant: merchant.clone(),
            user: self.hold.user.clone(),
            quantity: self.hold.quantity,
            amount: self.hold.amount,
            created_at: at,
            progress: OrderProgress::default(),
        })
    }
}

/// A gift as it is from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GiftChanged {
    /// As what it stood before; `None` if it is new.
    pub was: Option<GiftState>,
    /// The gift afterwards.
    pub gift: Gift,
    /// The giver's units of the item afterwards.
    pub units_after: Units,
    /// What the merchant is owed afterwards, if the money went there.
    pub owed_after: Option<Amount>,
    /// Whether this takes its texts back, and nothing else.
    pub redacts: bool,
}

impl GiftChanged {
    /// How much more the gift itself has afterwards, and how much more its merchant.
    pub(crate) fn moved(&self) -> (i64, i64) {
        let amount = i64::try_from(self.gift.amount.minor()).expect("an amount has 53 bits");
        let more = |has: fn(GiftState) -> bool| {
            amount * (i64::from(has(self.gift.state)) - i64::from(self.was.is_some_and(has)))
        };
        (more(GiftState::is_escrowed), more(GiftState::is_merchants))
    }
}

/// A merchant's money moved. A sale's money comes with the order or gift beside it: this
/// says only that it is pending. What a merchant was owed by records without it is available.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MerchantMoved {
    /// Whose money.
    pub merchant: UserId,
    /// Why, and where it was and is.
    pub kind: MerchantMove,
    /// How much; of sales that are settled with their commission.
    pub amount: Amount,
    /// What the merchant has afterwards.
    pub balance_after: MerchantBalance,
}

/// What moved a merchant's money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MerchantMove {
    /// Something was sold: its money is pending.
    Sold {
        /// What.
        of: SaleOf,
        /// What of it is the platform's once it is due.
        commission: Amount,
        /// When it is due.
        due: Timestamp,
        /// All that is due then.
        slot_after: Slot,
    },
    /// What was due became available, and the commission the platform's.
    Settled {
        /// When it was due.
        due: Timestamp,
        /// What of it is the platform's.
        commission: Amount,
    },
    /// Available money went out, under the caller's reference.
    Withdrawn(Option<String>),
    /// A sale's money went back to who had paid, which the event beside it tells.
    Refunded {
        /// What was sold.
        of: SaleOf,
        /// What of it would have been the platform's, if it was still pending.
        commission: Amount,
        /// When it would have been due, and what is due then without it, if it was still pending.
        pending: Option<(Timestamp, Slot)>,
    },
}

impl MerchantMoved {
    /// What is due at a time from now on, if that changed; nothing more if it is `None`.
    pub(crate) fn slot_after(&self) -> Option<(Timestamp, Option<Slot>)> {
        match self.kind {
            MerchantMove::Sold { due, slot_after, .. } => Some((due, Some(slot_after))),
            MerchantMove::Settled { due, .. } => Some((due, None)),
            MerchantMove::Refunded { pending: Some((due, slot)), .. } => Some((due, Some(slot))),
            MerchantMove::Withdrawn(_) | MerchantMove::Refunded { pending: None, .. } => None,
        }
    }

    /// The entries of its statement, each with what the merchant has after it.
    pub(crate) fn entries(&self) -> SmallVec<[(MerchantEntryKind, Amount, MerchantBalance); 2]> {
        let (amount, after) = (self.amount, self.balance_after);
        match &self.kind {
            MerchantMove::Sold { of, commission, due, .. } => {
                let (of, commission, due) = (*of, *commission, *due);
                smallvec::smallvec![(MerchantEntryKind::Sale { of, commission, due }, amount, after)]
            }
            MerchantMove::Settled { due, commission } => {
                let (due, net) = (*due, amount - *commission);
                let settled = (MerchantEntryKind::Settled { due }, net, after);
                if commission.is_zero() {
                    return smallvec::smallvec![settled];
                }
                // The commission goes first, so that it is pending money that it is taken from.
                let before = MerchantBalance { pending: after.pending + net, available: after.available - net };
                smallvec::smallvec![(MerchantEntryKind::Commission { due }, *commission, before), settled]
            }
            MerchantMove::Withdrawn(reference) => {
                smallvec::smallvec![(MerchantEntryKind::Withdrawal(reference.clone()), amount, after)]
            }
            MerchantMove::Refunded { of, commission, pending } => {
                let pending_until = pending.map(|(due, _)| due);
                let kind = MerchantEntryKind::Refund { of: *of, commission: *commission, pending_until };
                smallvec::smallvec![(kind, amount, after)]
            }
        }
    }
}

/// What is known of a gift's address from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPut {
    /// Whose.
    pub gift: GiftId,
    /// What is known of it.
    pub mark: AddressMark,
    /// The address, sealed, if it is a new one.
    pub sealed: Option<Vec<u8>>,
}

/// A gift's address was erased: its slot is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressErased {
    /// Whose.
    pub gift: GiftId,
    /// What is still known of it, while another one may be given.
    pub kept: Option<AddressMark>,
}

/// An item has more codes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodesAdded {
    /// The item.
    pub item: ItemId,
    /// The place of the first among all its codes.
    pub first: u32,
    /// The codes, in the order in which they will be handed out.
    pub codes: Vec<Code>,
}

/// Something has become of an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderChanged {
    /// As what it stood before.
    pub was: OrderState,
    /// The order, as it was paid.
    pub order: OrderView,
    /// What has become of it.
    pub progress: OrderProgress,
    /// The user's units of the item afterwards, if they are on sale again.
    pub units_after: Option<Units>,
}

impl OrderChanged {
    /// The order with its progress.
    pub(crate) fn view(&self) -> OrderView {
        OrderView { progress: self.progress.clone(), ..self.order.clone() }
    }
}

/// A group as it is from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupChanged {
    /// What has become of it.
    pub step: GroupMove,
    /// The group afterwards.
    pub group: Group,
    /// The units of the item that those have afterwards whom it concerns, in their order.
    pub units_after: Vec<Units>,
}

/// What has become of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupMove {
    /// The last of its members has joined; the first has opened it.
    Joined,
    /// Somebody is no member any more.
    Left(Member),
    /// It came to nothing.
    Ended,
}

impl GroupChanged {
    /// Whom it concerns: each has one unit and one part of the money in the group more than before, or less.
    pub(crate) fn concerned(&self) -> impl Iterator<Item = &Member> {
        let members = &self.group.members;
        let (left, members) = match &self.step {
            GroupMove::Joined => (None, &members[members.len().saturating_sub(1)..]),
            GroupMove::Left(member) => (Some(member), &members[..0]),
            GroupMove::Ended => (None, &members[..]),
        };
        left.into_iter().chain(members)
    }

    /// Whether they have more.
    pub(crate) fn is_joined(&self) -> bool {
        self.step == GroupMove::Joined
    }

    /// How much more the group has afterwards.
    pub(crate) fn moved(&self) -> i64 {
        let amount = i64::try_from(self.group.price.minor()).expect("an amount has 53 bits");
        let users = self.concerned().count() as i64;
        amount * if self.is_joined() { users } else { -users }
    }
}

/// A member of a group that is full has an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupOrdered {
    /// The group.
    pub group: GroupId,
    /// The order, of a hold that is made and paid with it.
    pub order: OrderView,
    /// The user's units of the item afterwards.
    pub units_after: Units,
    /// What the merchant is owed afterwards.
    pub owed_after: Amount,
}

impl OrderView {
    /// The hold of which a group's order is: it was made and paid with it.
    pub(crate) fn hold_of_group(&self) -> HoldView {
        let OrderView { id, hold, item, user, quantity, amount, created_at, .. } = self;
        HoldView {
            id: *hold,
            item: *item,
            user: user.clone(),
            quantity: *quantity,
            amount: *amount,
            state: HoldState::Claimed(*id),
            created_at: *created_at,
            expires_at: *created_at,
        }
    }
}

/// Codes went to an order or a gift.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodesHanded {
    /// Of this item.
    pub item: ItemId,
    /// The place of the first among all its codes.
    pub first: u32,
    /// How many, in a row.
    pub count: u32,
    /// To what.
    pub to: HandedTo,
}

/// A payment outside as it is from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentChanged {
    /// As what it stood before; `None` if it is new.
    pub was: Option<PaymentState>,
    /// The payment afterwards.
    pub payment: Payment,
    /// The hold that is due at another time from now on, if one is.
    pub hold: Option<HoldView>,
}

/// What of a payment's money moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PaymentMoves {
    /// It came from outside.
    pub(crate) deposited: Amount,
    /// How much more is on its way back.
    pub(crate) refunding: i64,
    /// It went outside.
    pub(crate) withdrawn: Amount,
}

impl PaymentChanged {
    /// What moved. What did not come to be on its way back comes from or goes to what is paid for.
    pub(crate) fn moves(&self) -> PaymentMoves {
        let (was, is, taken) = (self.was, self.payment.state, self.payment.taken);
        let signed = i64::try_from(taken.minor()).expect("an amount has 53 bits");
        let had_come = was.is_some_and(PaymentState::has_come);
        let is_back = |state| i64::from(state == PaymentState::Refunding);
        PaymentMoves {
            deposited: if is.has_come() && !had_come { taken } else { Amount::ZERO },
            refunding: signed * (is_back(is) - was.map_or(0, is_back)),
            withdrawn: if is == PaymentState::Refunded && was != Some(is) { taken } else { Amount::ZERO },
        }
    }
}

/// An answer kept under a key.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// The key.
    pub key: OnceKey,
    /// A keyed hash of what was asked.
    pub fingerprint: [u8; 16],
    /// What was answered.
    pub answer: Outcome,
    /// Until when it is kept; `None` is for ever.
    pub expires_at: Option<Timestamp>,
}

/// One record of the journal: what was decided at one moment, all of it or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When.
    pub at: Timestamp,
    /// What.
    pub events: Events,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record's bytes are not of a form this version knows; use the version that wrote them or a newer one")]
pub struct UnknownForm;

const WALLET_MOVED: u8 = 1;
const ENVELOPE_CREATED: u8 = 2;
const GRABBED: u8 = 3;
const CLAIMED: u8 = 4;
const ENVELOPE_ENDED: u8 = 5;
const ENVELOPE_LAPSED: u8 = 6;
const ENVELOPE_SETTLED: u8 = 7;
const MERCHANT_PUT: u8 = 8;
const ITEM_PUT: u8 = 9;
const HELD: u8 = 10;
const HOLD_ENDED: u8 = 11;
const REMEMBERED: u8 = 12;
const CLOCK_ADVANCED: u8 = 13;
/// A claim's credit, the one wallet movement that comes by the million.
const CLAIM_CREDITED: u8 = 14;
const API_KEY_PUT: u8 = 15;
/// [`GRABBED`], and no share is left.
const LAST_GRABBED: u8 = 32;
const ENVELOPE_OUTSIDE: u8 = 16;
const PAYOUT_MADE: u8 = 17;
const PAYOUT_CHANGED: u8 = 18;
const ENVELOPE_REDACTED: u8 = 19;
const GIFT_CHANGED: u8 = 24;
const MERCHANT_MOVED: u8 = 33;
/// [`MERCHANT_MOVED`] by a sale, which comes as often as orders are paid.
const MERCHANT_SOLD: u8 = 34;
const ADDRESS_PUT: u8 = 30;
const ADDRESS_ERASED: u8 = 31;
const CODES_ADDED: u8 = 36;
const CODES_HANDED: u8 = 37;
const ORDER_CHANGED: u8 = 38;
const RELATIONS_PUT: u8 = 51;
const GIFT_ENVELOPE_MADE: u8 = 52;
const PAYMENT_CHANGED: u8 = 39;
const GROUP_CHANGED: u8 = 44;
const GROUP_ORDERED: u8 = 45;

/// Appends the record's bytes: the time in eight bytes, then each event as a
/// tag and its fields. Frequent events are laid out by hand, rare ones with postcard.
pub fn encode(at: Timestamp, events: &[Event], bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&at.ms().to_le_bytes());
    for event in events {
        encode_event(event, bytes);
    }
}

/// The record of one grab alone: the one that comes by the million.
#[inline]
pub(crate) fn encode_grab(at: Timestamp, grabbed: &Grabbed, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&at.ms().to_le_bytes());
    encode_grabbed(grabbed, bytes);
}

#[inline]
fn encode_grabbed(e: &Grabbed, bytes: &mut Vec<u8>) {
    let mut fixed = [0u8; 30];
    fixed[0] = if e.is_last { LAST_GRABBED } else { GRABBED };
    fixed[1..17].copy_from_slice(e.envelope.bytes());
    fixed[17..21].copy_from_slice(&e.share.to_le_bytes());
    fixed[21..29].copy_from_slice(&e.amount.minor().to_le_bytes());
    fixed[29] = e.user.as_str().len() as u8;
    bytes.extend_from_slice(&fixed);
    bytes.extend_from_slice(e.user.as_str().as_bytes());
}

/// Whether a record is a grab alone, and not of the last share.
#[inline]
pub(crate) fn is_lone_grab(record: &[u8]) -> bool {
    const AT: usize = 8;
    const USER_BYTES: usize = AT + 29;
    record.get(AT) == Some(&GRABBED)
        && record.get(USER_BYTES).is_some_and(|&bytes| record.len() == USER_BYTES + 1 + usize::from(bytes))
}

/// The record of one hold alone: it comes by the million in a flash sale.
#[inline]
pub(crate) fn encode_held(at: Timestamp, held: &Held, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&at.ms().to_le_bytes());
    encode_held_event(held, bytes);
}

#[inline]
fn encode_held_event(e: &Held, bytes: &mut Vec<u8>) {
    let mut fixed = [0u8; 33 + 5 * VARINT_MAX + 1];
    fixed[0] = HELD;
    fixed[1..17].copy_from_slice(e.hold.bytes());
    fixed[17..33].copy_from_slice(e.item.bytes());
    let mut end = 33;
    let units = e.units_after;
    for number in [e.quantity.into(), e.amount.minor(), e.expires_at.ms(), units.held.into(), units.sold.into()] {
        end += put_varint(number, &mut fixed[end..]);
    }
    fixed[end] = e.user.as_str().len() as u8;
    bytes.extend_from_slice(&fixed[..=end]);
    bytes.extend_from_slice(e.user.as_str().as_bytes());
}

fn encode_sold(e: &MerchantMoved, sold: (SaleOf, Amount, Timestamp, Slot), bytes: &mut Vec<u8>) {
    let (of, commission, due, slot) = sold;
    let (kind, id) = match of {
        SaleOf::Order(order) => (0, *order.bytes()),
        SaleOf::Gift(gift) => (1, *gift.bytes()),
    };
    let mut fixed = [0u8; 18 + 7 * VARINT_MAX];
    (fixed[0], fixed[1]) = (MERCHANT_SOLD, kind);
    fixed[2..18].copy_from_slice(&id);
    let mut end = 18;
    let amounts = [e.amount, commission, slot.amount, slot.commission, e.balance_after.pending];
    let amounts = amounts.into_iter().chain([e.balance_after.available]).map(Amount::minor);
    for number in amounts.chain([due.ms()]) {
        end += put_varint(number, &mut fixed[end..]);
    }
    bytes.extend_from_slice(&fixed[..end]);
    put_user(&e.merchant, bytes);
}

/// Bytes of the longest number in groups of seven bits.
const VARINT_MAX: usize = 10;

/// Writes a number in groups of seven bits, the lowest first, and says how many.
#[inline]
fn put_varint(mut number: u64, bytes: &mut [u8]) -> usize {
    let mut length = 0;
    while number >= 0x80 {
        bytes[length] = number as u8 | 0x80;
        number >>= 7;
        length += 1;
    }
    bytes[length] = number as u8;
    length + 1
}

fn encode_event(event: &Event, bytes: &mut Vec<u8>) {
    match event {
        Event::Grabbed(e) => encode_grabbed(e, bytes),
        Event::Claimed(e) => {
            bytes.push(CLAIMED);
            bytes.extend_from_slice(e.envelope.bytes());
            bytes.extend_from_slice(&e.share.to_le_bytes());
            bytes.extend_from_slice(&e.amount.minor().to_le_bytes());
            bytes.extend_from_slice(&e.grabbed_at.ms().to_le_bytes());
            put_user(&e.user, bytes);
        }
        Event::WalletMoved(WalletMoved { user, kind: EntryKind::Claim(envelope), amount, available_after }) => {
            bytes.push(CLAIM_CREDITED);
            bytes.extend_from_slice(envelope.bytes());
            bytes.extend_from_slice(&amount.minor().to_le_bytes());
            bytes.extend_from_slice(&available_after.minor().to_le_bytes());
            put_user(user, bytes);
        }
        Event::Held(e) => encode_held_event(e, bytes),
        Event::WalletMoved(e) => put_cold(WALLET_MOVED, e, bytes),
        Event::EnvelopeCreated(e) => put_cold(ENVELOPE_CREATED, e, bytes),
        Event::EnvelopeEnded(e) => put_cold(ENVELOPE_ENDED, e, bytes),
        Event::EnvelopeLapsed { envelope, amount } => put_cold(ENVELOPE_LAPSED, &(envelope, amount), bytes),
        Event::EnvelopeSettled(e) => put_cold(ENVELOPE_SETTLED, e, bytes),
        Event::MerchantPut(e) => put_cold(MERCHANT_PUT, e, bytes),
        Event::ItemPut(e) => put_cold(ITEM_PUT, e, bytes),
        Event::HoldEnded(e) => put_cold(HOLD_ENDED, e, bytes),
        Event::Remembered(e) => {
            put_cold(REMEMBERED, &(e.key.bytes(), &e.fingerprint, &e.answer, e.expires_at), bytes);
        }
        Event::ClockAdvanced { by_ms } => put_cold(CLOCK_ADVANCED, by_ms, bytes),
        Event::ApiKeyPut(e) => put_cold(API_KEY_PUT, e, bytes),
        Event::EnvelopeOutside(e) => put_cold(ENVELOPE_OUTSIDE, e, bytes),
        Event::PayoutMade(e) => put_cold(PAYOUT_MADE, e, bytes),
        Event::PayoutChanged(e) => put_cold(PAYOUT_CHANGED, e, bytes),
        Event::EnvelopeRedacted(e) => put_cold(ENVELOPE_REDACTED, e, bytes),
        Event::GiftChanged(e) => put_cold(GIFT_CHANGED, e, bytes),
        Event::MerchantMoved(e) => match e.kind {
            MerchantMove::Sold { of, commission, due, slot_after } => {
                encode_sold(e, (of, commission, due, slot_after), bytes);
            }
            _ => put_cold(MERCHANT_MOVED, e, bytes),
        },
        Event::AddressPut(e) => put_cold(ADDRESS_PUT, e, bytes),
        Event::AddressErased(e) => put_cold(ADDRESS_ERASED, e, bytes),
        Event::CodesAdded(e) => put_cold(CODES_ADDED, e, bytes),
        Event::CodesHanded(e) => put_cold(CODES_HANDED, e, bytes),
        Event::OrderChanged(e) => put_cold(ORDER_CHANGED, e, bytes),
        Event::RelationsPut(e) => put_cold(RELATIONS_PUT, e, bytes),
        Event::GiftEnvelopeMade(e) => put_cold(GIFT_ENVELOPE_MADE, e, bytes),
        Event::PaymentChanged(e) => put_cold(PAYMENT_CHANGED, e, bytes),
        Event::GroupChanged(e) => put_cold(GROUP_CHANGED, e, bytes),
        Event::GroupOrdered(e) => put_cold(GROUP_ORDERED, e, bytes),
    }
}

fn put_user(user: &UserId, bytes: &mut Vec<u8>) {
    bytes.push(user.as_str().len() as u8);
    bytes.extend_from_slice(user.as_str().as_bytes());
}

fn put_cold<T: Serialize>(tag: u8, value: &T, bytes: &mut Vec<u8>) {
    bytes.push(tag);
    let taken = std::mem::take(bytes);
    *bytes =
        postcard::to_extend(value, taken).expect("writing to memory cannot fail and every event has a postcard form");
}

impl Record {
    /// Reads what [`encode`] wrote.
    ///
    /// # Errors
    /// [`UnknownForm`] if these are not a record's bytes.
    pub fn decode(bytes: &[u8]) -> Result<Record, UnknownForm> {
        let mut reader = Reader(bytes);
        let at = Timestamp::from_ms(reader.u64()?);
        let mut events = Events::new();
        while !reader.0.is_empty() {
            events.push(reader.event()?);
        }
        Ok(Record { at, events })
    }

    /// Whether debits equal credits: what leaves wallets, envelopes and the
    /// outside is what enters wallets, envelopes, payouts, merchants and the outside.
    pub fn balances(&self) -> bool {
        let signed = |amount: Amount| amount.minor() as i128;
        let mut sum = 0i128;
        for event in &self.events {
            match event {
                Event::WalletMoved(e) => {
                    sum += if e.is_credit() { signed(e.amount) } else { -signed(e.amount) };
                    match e.kind {
                        EntryKind::Deposit(_) => sum -= signed(e.amount),
                        EntryKind::Withdrawal(_) => sum += signed(e.amount),
                        _ => {}
                    }
                }
                Event::EnvelopeCreated(e) => sum += signed(e.terms.total),
                Event::Claimed(e) => sum -= signed(e.amount),
                Event::EnvelopeEnded(e) => sum -= signed(e.refund),
                Event::EnvelopeLapsed { amount, .. } => sum -= signed(*amount),
                Event::HoldEnded(e) => {
                    if e.merchant.is_some() {
                        sum += signed(e.hold.amount);
                    }
                }
                Event::EnvelopeOutside(e) => sum -= signed(e.deposited),
                Event::PayoutMade(e) => sum += signed(e.amount),
                Event::GiftChanged(e) => {
                    let (gift, merchant) = e.moved();
                    sum += i128::from(gift) + i128::from(merchant);
                }
                Event::MerchantMoved(e) => {
                    if matches!(e.kind, MerchantMove::Refunded { .. }) {
                        sum -= signed(e.amount);
                    }
                }
                Event::PaymentChanged(e) => {
                    let moves = e.moves();
                    sum += i128::from(moves.refunding) + signed(moves.withdrawn) - signed(moves.deposited);
                }
                Event::GroupChanged(e) => sum += i128::from(e.moved()),
                // What is paid leaves one account of payouts for the other, and a group's money becomes its merchant's.
                Event::PayoutChanged(_)
                | Event::Grabbed(_)
                | Event::EnvelopeSettled(_)
                | Event::MerchantPut(_)
                | Event::ItemPut(_)
                | Event::Held(_)
                | Event::Remembered(_)
                | Event::ClockAdvanced { .. }
                | Event::ApiKeyPut(_)
                | Event::EnvelopeRedacted(_)
                | Event::AddressPut(_)
                | Event::AddressErased(_)
                | Event::CodesAdded(_)
                | Event::CodesHanded(_)
                | Event::OrderChanged(_)
                | Event::RelationsPut(_)
                | Event::GiftEnvelopeMade(_)
                | Event::GroupOrdered(_) => {}
            }
        }
        sum == 0
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], UnknownForm> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(UnknownForm)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u64(&mut self) -> Result<u64, UnknownForm> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, UnknownForm> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn varint(&mut self) -> Result<u64, UnknownForm> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(UnknownForm)
    }

    fn varint_u32(&mut self) -> Result<u32, UnknownForm> {
        u32::try_from(self.varint()?).map_err(|_| UnknownForm)
    }

    fn varint_amount(&mut self) -> Result<Amount, UnknownForm> {
        Amount::new(self.varint()?).ok_or(UnknownForm)
    }

    fn amount(&mut self) -> Result<Amount, UnknownForm> {
        Amount::new(self.u64()?).ok_or(UnknownForm)
    }

    fn user(&mut self) -> Result<UserId, UnknownForm> {
        let [length] = self.take()?;
        let (text, rest) = self.0.split_at_checked(length.into()).ok_or(UnknownForm)?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| UnknownForm)?;
        Ok(UserId::trusted(text))
    }

    fn cold<T: Deserialize<'a>>(&mut self) -> Result<T, UnknownForm> {
        let (value, rest) = postcard::take_from_bytes(self.0).map_err(|_| UnknownForm)?;
        self.0 = rest;
        Ok(value)
    }

    fn event(&mut self) -> Result<Event, UnknownForm> {
        let [tag] = self.take()?;
        Ok(match tag {
            GRABBED | LAST_GRABBED => Event::Grabbed(Grabbed {
                envelope: EnvelopeId::from_bytes(self.take()?),
                share: self.u32()?,
                amount: self.amount()?,
                user: self.user()?,
                is_last: tag == LAST_GRABBED,
            }),
            CLAIMED => Event::Claimed(Claimed {
                envelope: EnvelopeId::from_bytes(self.take()?),
                share: self.u32()?,
                amount: self.amount()?,
                grabbed_at: Timestamp::from_ms(self.u64()?),
                user: self.user()?,
            }),
            CLAIM_CREDITED => {
                let envelope = EnvelopeId::from_bytes(self.take()?);
                Event::WalletMoved(WalletMoved {
                    kind: EntryKind::Claim(envelope),
                    amount: self.amount()?,
                    available_after: self.amount()?,
                    user: self.user()?,
                })
            }
            HELD => Event::Held(Held {
                hold: HoldId::from_bytes(self.take()?),
                item: ItemId::from_bytes(self.take()?),
                quantity: self.varint_u32()?,
                amount: self.varint_amount()?,
                expires_at: Timestamp::from_ms(self.varint()?),
                units_after: Units { held: self.varint_u32()?, sold: self.varint_u32()? },
                user: self.user()?,
            }),
            WALLET_MOVED => Event::WalletMoved(self.cold()?),
            ENVELOPE_CREATED => Event::EnvelopeCreated(self.cold()?),
            ENVELOPE_ENDED => Event::EnvelopeEnded(self.cold()?),
            ENVELOPE_LAPSED => {
                let (envelope, amount) = self.cold()?;
                Event::EnvelopeLapsed { envelope, amount }
            }
            ENVELOPE_SETTLED => Event::EnvelopeSettled(self.cold()?),
            MERCHANT_PUT => Event::MerchantPut(self.cold()?),
            ITEM_PUT => Event::ItemPut(self.cold()?),
            HOLD_ENDED => Event::HoldEnded(self.cold()?),
            REMEMBERED => {
                let (key, fingerprint, answer, expires_at) = self.cold()?;
                Event::Remembered(Box::new(Remembered {
                    key: OnceKey::from_bytes(key),
                    fingerprint,
                    answer,
                    expires_at,
                }))
            }
            CLOCK_ADVANCED => Event::ClockAdvanced { by_ms: self.cold()? },
            API_KEY_PUT => Event::ApiKeyPut(self.cold()?),
            ENVELOPE_OUTSIDE => Event::EnvelopeOutside(self.cold()?),
            PAYOUT_MADE => Event::PayoutMade(self.cold()?),
            PAYOUT_CHANGED => Event::PayoutChanged(self.cold()?),
            ENVELOPE_REDACTED => {
                let EnvelopeRedacted { created, redaction } = self.cold()?;
                Event::EnvelopeRedacted(Box::new(EnvelopeRedacted::new(created, redaction)))
            }
            GIFT_CHANGED => Event::GiftChanged(self.cold()?),
            MERCHANT_MOVED => Event::MerchantMoved(self.cold()?),
            MERCHANT_SOLD => {
                let [kind] = self.take()?;
                let of = match kind {
                    0 => SaleOf::Order(OrderId::from_bytes(self.take()?)),
                    1 => SaleOf::Gift(GiftId::from_bytes(self.take()?)),
                    _ => return Err(UnknownForm),
                };
                let (amount, commission) = (self.varint_amount()?, self.varint_amount()?);
                let slot_after = Slot { amount: self.varint_amount()?, commission: self.varint_amount()? };
                let (pending, available) = (self.varint_amount()?, self.varint_amount()?);
                let due = Timestamp::from_ms(self.varint()?);
                Event::MerchantMoved(Box::new(MerchantMoved {
                    merchant: self.user()?,
                    kind: MerchantMove::Sold { of, commission, due, slot_after },
                    amount,
                    balance_after: MerchantBalance { pending, available },
                }))
            }
            ADDRESS_PUT => Event::AddressPut(self.cold()?),
            ADDRESS_ERASED => Event::AddressErased(self.cold()?),
            CODES_ADDED => Event::CodesAdded(self.cold()?),
            CODES_HANDED => Event::CodesHanded(self.cold()?),
            ORDER_CHANGED => Event::OrderChanged(self.cold()?),
            RELATIONS_PUT => Event::RelationsPut(self.cold()?),
            GIFT_ENVELOPE_MADE => Event::GiftEnvelopeMade(self.cold()?),
            PAYMENT_CHANGED => Event::PaymentChanged(self.cold()?),
            GROUP_CHANGED => Event::GroupChanged(self.cold()?),
            GROUP_ORDERED => Event::GroupOrdered(self.cold()?),
            _ => return Err(UnknownForm),
        })
    }
}

/// An order's id is told by its hold's final state.
pub(crate) fn order_of(hold: &HoldView) -> Option<OrderId> {
    match hold.state {
        HoldState::Claimed(order) => Some(order),
        _ => None,
    }
}
