//! What has happened, as a feed tells it: events with their types, and the
//! positions from which to go on.
//!
//! An event of the feed is made of what was decided and is durable. Which form
//! it is kept in is the engine's: the embedded one reads its journal.
//!
//! **Invariant:** whoever goes on from the cursor of each page is told every
//! event that is kept, once, those of one envelope, wallet, item, hold, payout or
//! merchant in the order in which they happened; or is told that some are gone.
//! event that is kept, once, those of one envelope, wallet, item, hold, gift or payout in
//! the order in which they happened; or is told that some are gone.

pub(crate) mod cursor;
pub(crate) mod histories;
pub(crate) mod record;

use crate::command::{EnvelopeView, HoldView, Merchant, OrderView};
use crate::event::{EnvelopeCreated, ItemPut};
use crate::gift::{Gift, GiftState};
use crate::group::Group;
use crate::order::OrderState;
use crate::payment::{Payment, PaymentState};
use crate::payout::{Payout, PayoutState, PayoutView};
use crate::redaction::Redaction;
use crate::sale::MerchantBalance;
use crate::types::{Amount, EnvelopeId, EventId, Timestamp, UserId};
use std::fmt;
use std::str::FromStr;

macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What an event tells of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventType { $($(#[$doc])* $variant,)* }

        impl EventType {
            /// Every type.
            pub const ALL: &'static [EventType] = &[$(EventType::$variant),*];

            /// Its name in the API.
            pub const fn name(self) -> &'static str {
                match self { $(EventType::$variant => $name),* }
            }
        }
    };
}
event_types! {
    /// An envelope was funded and split.
    EnvelopeCreated = "envelope.created",
    /// Its last share was grabbed.
    EnvelopeSoldOut = "envelope.sold_out",
    /// Its time was over, and what was unsold went back.
    EnvelopeExpired = "envelope.expired",
    /// Its sender ended it, and what was unsold went back.
    EnvelopeCancelled = "envelope.cancelled",
    /// No share is unclaimed any more; nothing about it will change.
    EnvelopeSettled = "envelope.settled",
    /// A share was taken.
    ShareGrabbed = "share.grabbed",
    /// A share went to its winner.
    ShareClaimed = "share.claimed",
    /// All shares that were not claimed in time went back, as one event.
    ShareLapsed = "share.lapsed",
    /// Money came in from outside.
    WalletDeposited = "wallet.deposited",
    /// Money went out.
    WalletWithdrawn = "wallet.withdrawn",
    /// An item was put on sale, changed or restocked.
    ItemPut = "item.put",
    /// Units were set aside for a user.
    HoldHeld = "hold.held",
    /// A hold was paid.
    HoldClaimed = "hold.claimed",
    /// Its user gave it back.
    HoldReleased = "hold.released",
    /// Its time was over.
    HoldExpired = "hold.expired",
    /// An order was made of a hold.
    OrderCreated = "order.created",
    /// A payout is to be paid: it was made, or is to be tried again.
    PayoutDue = "payout.due",
    /// It was handed to whoever pays.
    PayoutSent = "payout.sent",
    /// It was paid.
    PayoutPaid = "payout.paid",
    /// It could not be paid.
    PayoutFailed = "payout.failed",
    /// An envelope's message was taken back: whoever keeps it lets it go.
    EnvelopeRedacted = "envelope.redacted",
    /// A merchant was registered, or what is known of it changed: whether it may sell, say.
    MerchantChanged = "merchant.changed",
    /// A gift was made, and somebody was asked to pay.
    GiftAwaitingPayment = "gift.awaiting_payment",
    /// It is paid, and its recipient may accept.
    GiftOffered = "gift.offered",
    /// Its recipient has accepted; the merchant is to ship.
    GiftAccepted = "gift.accepted",
    /// It is on its way, and its money is the merchant's.
    GiftShipped = "gift.shipped",
    /// It has arrived.
    GiftDelivered = "gift.delivered",
    /// Its recipient did not want it, and the money went back.
    GiftDeclined = "gift.declined",
    /// It was not paid or accepted in time, and what was paid went back.
    GiftExpired = "gift.expired",
    /// Its giver took it back, and the money went back.
    GiftCancelled = "gift.cancelled",
    /// The merchant cannot ship, or did not in time, and the money went back.
    GiftFailed = "gift.failed",
    /// Money of sales became available to their merchant, and the commission the platform's.
    MerchantSettled = "merchant.settled",
    /// A gift's texts were taken back: whoever keeps them lets them go.
    GiftRedacted = "gift.redacted",
    /// An order is on its way.
    OrderShipped = "order.shipped",
    /// It has arrived.
    OrderDelivered = "order.delivered",
    /// Its user wants to send it back; the merchant is to answer.
    OrderReturnRequested = "order.return_requested",
    /// It went back, and its money to who had paid.
    OrderReturned = "order.returned",
    /// The merchant does not take it back.
    OrderRefused = "order.refused",
    /// Somebody is to pay at a gateway.
    PaymentCreated = "payment.created",
    /// Somebody has.
    PaymentPaid = "payment.paid",
    /// It was not paid: the gateway will not take it, or its time is over.
    PaymentFailed = "payment.failed",
    /// Its money is to go back to who paid.
    PaymentRefunding = "payment.refunding",
    /// It went back.
    PaymentRefunded = "payment.refunded",
    /// A group was opened, and its leader has joined it.
    GroupOpened = "group.opened",
    /// Somebody else has joined it.
    GroupJoined = "group.joined",
    /// Somebody has left it, and has the money back.
    GroupLeft = "group.left",
    /// It is full, and each member has an order.
    GroupFull = "group.full",
    /// It was not full in time, and all have their money back.
    GroupExpired = "group.expired",
    /// Its leader has left it, and all have their money back.
    GroupLeaderLeft = "group.leader_left",
}

impl EventType {
    /// That of a payout which stands so from now on.
    pub(crate) const fn of_payout(state: PayoutState) -> EventType {
        match state {
            PayoutState::Due => EventType::PayoutDue,
            PayoutState::Sent => EventType::PayoutSent,
            PayoutState::Paid => EventType::PayoutPaid,
            PayoutState::Failed => EventType::PayoutFailed,
        }
    }

    /// That of an order which stands so from now on.
    pub(crate) const fn of_order(state: OrderState) -> EventType {
        match state {
            OrderState::Paid => EventType::OrderCreated,
            OrderState::Shipped => EventType::OrderShipped,
            OrderState::Delivered => EventType::OrderDelivered,
            OrderState::ReturnRequested => EventType::OrderReturnRequested,
            OrderState::Returned => EventType::OrderReturned,
            OrderState::Refused => EventType::OrderRefused,
        }
    }

    /// That of a payment which stands so from now on.
    pub(crate) const fn of_payment(state: PaymentState) -> EventType {
        match state {
            PaymentState::Created | PaymentState::Pending => EventType::PaymentCreated,
            PaymentState::Paid => EventType::PaymentPaid,
            PaymentState::Failed | PaymentState::Expired => EventType::PaymentFailed,
            PaymentState::Refunding => EventType::PaymentRefunding,
            PaymentState::Refunded => EventType::PaymentRefunded,
        }
    }

    /// That of a gift which stands so from now on.
    pub(crate) const fn of_gift(state: GiftState) -> EventType {
        match state {
            GiftState::AwaitingPayment => EventType::GiftAwaitingPayment,
            GiftState::Offered => EventType::GiftOffered,
            GiftState::Accepted => EventType::GiftAccepted,
            GiftState::Shipped => EventType::GiftShipped,
            GiftState::Delivered => EventType::GiftDelivered,
            GiftState::Declined => EventType::GiftDeclined,
            GiftState::Expired => EventType::GiftExpired,
            GiftState::Cancelled => EventType::GiftCancelled,
            GiftState::Failed => EventType::GiftFailed,
        }
    }
}

/// Some of the types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTypes(u64);

impl EventTypes {
    /// None of them.
    pub const NONE: EventTypes = EventTypes(0);
    /// All of them.
    pub const ALL: EventTypes = EventTypes((1 << EventType::ALL.len()) - 1);
    /// What is told to those who ask for no types: all but those that come by the million.
    pub const USUAL: EventTypes = EventTypes(
        EventTypes::ALL.0 & !EventTypes::of(EventType::ShareGrabbed).0 & !EventTypes::of(EventType::HoldHeld).0,
    );

    /// One of them.
    pub const fn of(of: EventType) -> EventTypes {
        EventTypes(1 << of as u32)
    }

    /// Whether it is among them.
    pub const fn has(self, of: EventType) -> bool {
        self.0 & EventTypes::of(of).0 != 0
    }

    /// These and those.
    #[must_use]
    pub const fn or(self, others: EventTypes) -> EventTypes {
        EventTypes(self.0 | others.0)
    }

    /// Their names, with commas between.
    pub fn names(self) -> String {
        let named = EventType::ALL.iter().filter(|of| self.has(**of)).map(|of| of.name());
        named.collect::<Vec<_>>().join(", ")
    }

    /// Whether any is among `others`.
    pub const fn any_of(self, others: EventTypes) -> bool {
        self.0 & others.0 != 0
    }
}

/// A name that no type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownType(String);

impl fmt::Display for UnknownType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = EventType::ALL.iter().map(|known| known.name()).collect();
        let shown: String = self.0.chars().take(40).collect();
        write!(f, "{shown} is no type of event; there are {}", names.join(", "))
    }
}

impl FromStr for EventTypes {
    type Err = UnknownType;

    /// Names with commas between; `envelope.*` stands for all that begin so.
    fn from_str(text: &str) -> Result<EventTypes, UnknownType> {
        let mut types = EventTypes::NONE;
        for word in text.split(',') {
            let group = word.strip_suffix('*').filter(|group| group.ends_with('.'));
            let fits = |known: &&EventType| match group {
                Some(group) => known.name().starts_with(group),
                None => known.name() == word,
            };
            let found =
                EventType::ALL.iter().filter(fits).fold(EventTypes::NONE, |all, one| all.or(EventTypes::of(*one)));
            if found == EventTypes::NONE {
                return Err(UnknownType(word.to_owned()));
            }
            types = types.or(found);
        }
        Ok(types)
    }
}

/// From where on events are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// From the oldest that is kept.
    Oldest,
    /// From those that happen from now on.
    Now,
    /// From behind what a page or event before it told, by its cursor.
    Cursor(Vec<u8>),
}

/// Which events are wanted.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// From where on.
    pub after: After,
    /// Of which types.
    pub types: EventTypes,
    /// Only of this owner's envelopes; `None` is everybody's, and everything else.
    pub owner: Option<String>,
    /// At most so many; 0 gives the cursor only at which `after` is.
    pub limit: usize,
    /// Nothing behind this cursor, which a page behind `after` gave. What lies between two cursors is the same whenever
    /// it is asked for.
    pub until: Option<Vec<u8>>,
}

/// A part of the feed.
#[derive(Clone, Debug)]
pub struct EventPage {
    /// What happened, in order.
    pub events: Vec<FeedEvent>,
    /// Where to go on.
    pub next: Vec<u8>,
    /// Whether this was all there was when it was asked for, or all up to `until`.
    pub is_end: bool,
}

/// Something that happened, and is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedEvent {
    /// The same whenever it is told.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happened,
    /// Where to go on behind it.
    pub cursor: Vec<u8>,
}

/// What of an envelope never changes and is told with what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeFacts {
    /// Its id.
    pub id: EnvelopeId,
    /// The owner of the key that made it.
    pub owner: String,
    /// Whose money it is.
    pub sender: UserId,
    /// The caller's own number.
    pub reference: Option<String>,
    /// Under which reference its money came from outside for it, if it did.
    pub funding_reference: Option<String>,
}

impl EnvelopeFacts {
    pub(crate) fn of(created: &EnvelopeCreated) -> EnvelopeFacts {
        let terms = &created.terms;
        EnvelopeFacts {
            id: created.id,
            owner: terms.owner.clone(),
            sender: terms.sender.clone(),
            reference: terms.reference.as_ref().map(|reference| reference.text.clone()),
            funding_reference: terms.outside.funding.clone(),
        }
    }

    /// A payout out of it, as it is told.
    pub(crate) fn paying(self, payout: Payout) -> PayoutView {
        PayoutView { payout, owner: self.owner, funding_reference: self.funding_reference }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// An envelope was made, as it was then.
    Created(Box<EnvelopeView>),
    /// Its last share was taken.
    SoldOut(EnvelopeFacts),
    /// It expired.
    Expired {
        /// Which.
        envelope: EnvelopeFacts,
        /// What went back.
        refunded: Amount,
    },
    /// It was cancelled.
    Cancelled {
        /// Which.
        envelope: EnvelopeFacts,
        /// What went back.
        refunded: Amount,
    },
    /// It has settled.
    Settled {
        /// Which.
        envelope: EnvelopeFacts,
        /// How it had ended.
        ended_as: crate::command::EndedAs,
        /// Money that winners have.
        claimed: Amount,
        /// Money that went back.
        refunded: Amount,
    },
    /// A share was taken.
    Grabbed(Share),
    /// A share went to its winner.
    Claimed(Share),
    /// What was not claimed in time went back.
    Lapsed {
        /// Of which envelope.
        envelope: EnvelopeFacts,
        /// The money of all such shares.
        amount: Amount,
    },
    /// Money came in.
    Deposited(Moved),
    /// Money went out.
    Withdrawn(Moved),
    /// An item as it is from then on.
    Item(Box<ItemPut>),
    /// A hold as it is from then on.
    Hold(Box<HoldView>),
    /// An order was made.
    Order(Box<OrderView>),
    /// A payout as it is from then on.
    Payout(Box<PayoutView>),
    /// An envelope's message was taken back.
    Redacted {
        /// Which.
        envelope: EnvelopeFacts,
        /// What of it.
        redaction: Redaction,
    },
    /// A merchant as it is from then on.
    Merchant(Box<Merchant>),
    /// A gift as it is from then on.
    Gift(Box<Gift>),
    /// A gift whose texts were taken back, as it is from then on.
    GiftRedacted(Box<Gift>),
    /// Sales of a merchant were settled.
    SalesSettled(Box<SalesSettled>),
    /// A payment outside as it is from then on.
    Payment(Box<Payment>),
    /// Something has become of a group.
    Group(Box<GroupHappened>),
}

/// What has become of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHappened {
    /// What: a type of groups.
    pub what: EventType,
    /// Who opened, joined or left it; nobody if it came to its end.
    pub user: Option<UserId>,
    /// The group as it is from then on.
    pub group: Group,
}

/// Sales of a merchant that were settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesSettled {
    /// Which.
    pub merchant: UserId,
    /// When their money was due.
    pub due: Timestamp,
    /// All that had been paid for them.
    pub amount: Amount,
    /// What of it is the platform's.
    pub commission: Amount,
    /// What the merchant had afterwards.
    pub balance: MerchantBalance,
}

/// A share that somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of which envelope.
    pub envelope: EnvelopeFacts,
    /// Its position in the split.
    pub share: u32,
    /// Its money.
    pub amount: Amount,
    /// Whose.
    pub user: UserId,
    /// When it was grabbed.
    pub grabbed_at: Timestamp,
}

/// Money that came from outside or went there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whose.
    pub user: UserId,
    /// How much.
    pub amount: Amount,
    /// What could be spent afterwards.
    pub available: Amount,
    /// The caller's own number.
    pub reference: Option<String>,
}

impl Happened {
    /// Its type.
    pub fn event_type(&self) -> EventType {
        use crate::command::HoldState;
        match self {
            Happened::Created(_) => EventType::EnvelopeCreated,
            Happened::SoldOut(_) => EventType::EnvelopeSoldOut,
            Happened::Expired { .. } => EventType::EnvelopeExpired,
            Happened::Cancelled { .. } => EventType::EnvelopeCancelled,
            Happened::Settled { .. } => EventType::EnvelopeSettled,
            Happened::Grabbed(_) => EventType::ShareGrabbed,
            Happened::Claimed(_) => EventType::ShareClaimed,
            Happened::Lapsed { .. } => EventType::ShareLapsed,
            Happened::Deposited(_) => EventType::WalletDeposited,
            Happened::Withdrawn(_) => EventType::WalletWithdrawn,
            Happened::Item(_) => EventType::ItemPut,
            Happened::Hold(hold) => match hold.state {
                HoldState::Held => EventType::HoldHeld,
                HoldState::Claimed(_) => EventType::HoldClaimed,
                HoldState::Released => EventType::HoldReleased,
                HoldState::Expired => EventType::HoldExpired,
            },
            Happened::Order(order) => EventType::of_order(order.progress.state),
            Happened::Payout(view) => EventType::of_payout(view.payout.state),
            Happened::Redacted { .. } => EventType::EnvelopeRedacted,
            Happened::Merchant(_) => EventType::MerchantChanged,
            Happened::Gift(gift) => EventType::of_gift(gift.state),
            Happened::SalesSettled(_) => EventType::MerchantSettled,
            Happened::GiftRedacted(_) => EventType::GiftRedacted,
            Happened::Payment(payment) => EventType::of_payment(payment.state),
            Happened::Group(happened) => happened.what,
        }
    }

    /// Whose envelope, gift or item it is about, or whose envelope's payout, if it is about one.
    pub fn owner(&self) -> Option<&str> {
        match self {
            Happened::Created(view) => Some(&view.owner),
            Happened::SoldOut(envelope)
            | Happened::Expired { envelope, .. }
            | Happened::Cancelled { envelope, .. }
            | Happened::Settled { envelope, .. }
            | Happened::Redacted { envelope, .. }
            | Happened::Grabbed(Share { envelope, .. })
            | Happened::Claimed(Share { envelope, .. })
            | Happened::Lapsed { envelope, .. } => Some(&envelope.owner),
            Happened::Payout(view) => Some(&view.owner),
            Happened::Item(put) => Some(&*put.terms.origin.owner).filter(|owner| !owner.is_empty()),
            Happened::Gift(gift) | Happened::GiftRedacted(gift) => Some(&gift.owner),
            Happened::Group(happened) => Some(&happened.group.owner),
            Happened::Deposited(_)
            | Happened::Withdrawn(_)
            | Happened::Hold(_)
            | Happened::Order(_)
            | Happened::Merchant(_)
            | Happened::Payment(_)
            | Happened::SalesSettled(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_one_by_one_or_by_group() {
        let of = |types: &str| types.parse::<EventTypes>();
        for known in EventType::ALL {
            assert_eq!(of(known.name()), Ok(EventTypes::of(*known)));
        }
        let shares = EventTypes::of(EventType::ShareGrabbed)
            .or(EventTypes::of(EventType::ShareClaimed))
            .or(EventTypes::of(EventType::ShareLapsed));
        assert_eq!(of("share.*"), Ok(shares));
        assert_eq!(of("share.*,order.created"), Ok(shares.or(EventTypes::of(EventType::OrderCreated))));
        for wrong in ["", "share", "share.", "*", ".*", "share.lost", "share.*,", "Share.claimed", "nothing.*"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
        assert!(!EventTypes::USUAL.has(EventType::ShareGrabbed) && EventTypes::USUAL.has(EventType::ShareClaimed));
    }
}
