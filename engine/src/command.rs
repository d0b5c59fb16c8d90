//! The one vocabulary from door to disk: what can be asked ([`Command`]) and
//! what can be answered ([`Outcome`]).
//!
//! A business "no" (`sold_out`, `expired`, `insufficient_funds`) is an outcome,
//! a value. Failures of operation are [`EngineError`](crate::EngineError).

use crate::api_key::{ApiKey, NewApiKey};
use crate::code::Code;
use crate::gift::{Gift, GiftStep, GiftToken, NewGift};
use crate::gift_envelope::{GiftEnvelope, GiftEnvelopeStep, NewGiftEnvelope};
use crate::group::{Group, NewGroup};
use crate::order::{OrderProgress, OrderStep};
use crate::payment::{NewPayment, Payment, PaymentTold};
use crate::payout::{Outside, PayoutAnswer, PayoutResult};
use crate::relation::RelationRow;
use crate::sale::MerchantBalance;
use crate::split::{Seed, SplitRule};
use crate::types::{
    Amount, ApiKeyId, EnvelopeId, GiftEnvelopeId, GiftId, GroupId, HoldId, ItemId, OrderId, PaymentId, Timestamp,
    UserId,
};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::ops::RangeInclusive;

pub use crate::item::{ItemChange, ItemKind, ItemOrigin, NewItem};
pub use crate::merchant::{Merchant, MerchantStatus, NewMerchant, NewVerification, Verification};

/// Something that changes state. Ids, seeds and times that the engine has to
/// invent are not part of it: it fills them in from its entropy and clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Puts money from outside into a wallet. Answers [`Outcome::Wallet`].
    Deposit(Transfer),
    /// Takes money out of a wallet. Answers [`Outcome::Wallet`].
    Withdraw(Transfer),
    /// Funds an envelope from its sender's wallet and splits it. Answers [`Outcome::Envelope`].
    CreateEnvelope(Box<NewEnvelope>),
    /// Takes one share, at most one a user.
    Grab {
        /// The envelope to grab from.
        envelope: EnvelopeId,
        /// Who grabs.
        user: UserId,
    },
    /// Credits a grabbed share to its winner's wallet.
    Claim {
        /// The envelope grabbed from.
        envelope: EnvelopeId,
        /// Who grabbed.
        user: UserId,
    },
    /// Ends an envelope early; what is unsold goes back to the sender.
    Cancel {
        /// The envelope to end.
        envelope: EnvelopeId,
    },
    /// Registers or changes a merchant. Answers [`Outcome::Merchant`].
    PutMerchant(Box<NewMerchant>),
    /// Puts an item on sale. Answers [`Outcome::Item`].
    CreateItem(Box<NewItem>),
    /// Changes an item; what is `None` stays. Answers [`Outcome::Item`].
    ChangeItem {
        /// The item to change.
        item: ItemId,
        /// What to change.
        change: Box<ItemChange>,
    },
    /// Adds units to an item's stock. Answers [`Outcome::Item`].
    Restock {
        /// The item.
        item: ItemId,
        /// Units to add, 1 to 4,294,967,295 in all.
        quantity: u32,
    },
    /// Holds units of an item for a user, all of them or none.
    GrabItem {
        /// The item.
        item: ItemId,
        /// Who grabs.
        user: UserId,
        /// Units wanted.
        quantity: u32,
    },
    /// Pays for a hold from its user's wallet and makes an order.
    ClaimHold {
        /// The hold.
        hold: HoldId,
        /// Who claims; only the hold's own user may.
        user: UserId,
    },
    /// Gives a hold's units back.
    ReleaseHold {
        /// The hold.
        hold: HoldId,
        /// Who releases; only the hold's own user may.
        user: UserId,
    },
    /// Moves the clock of a test deployment forward.
    AdvanceClock {
        /// How far, in seconds.
        by_s: u64,
    },
    /// Makes an API key. Answers [`Outcome::ApiKey`].
    CreateApiKey(Box<NewApiKey>),
    /// Ends an API key for ever; again, the same answer. Answers [`Outcome::ApiKey`].
    DeleteApiKey {
        /// The key.
        key: ApiKeyId,
    },
    /// Tells what came of payouts, 1 to 1000, each for itself and in order.
    /// Answers [`Outcome::Payouts`].
    PayoutResults(Vec<PayoutResult>),
    /// Takes an envelope's message back, whatever has become of the envelope; again, the
    /// same answer. Answers [`Outcome::Envelope`]. It needs no key, and none is kept for it.
    Redact {
        /// The envelope.
        envelope: EnvelopeId,
        /// Whether its metadata as well.
        metadata: bool,
    },
    /// Sets a unit of an item aside to be given. Answers [`Outcome::Gift`], or as a
    /// grab of the item does when there is none.
    CreateGift(Box<NewGift>),
    /// What somebody does about a gift. Answers [`Outcome::Gift`].
    StepGift {
        /// The gift.
        gift: GiftId,
        /// What is done.
        step: Box<GiftStep>,
    },
    /// Takes available sale money of a merchant, whom the transfer names as its user, out.
    /// Answers [`Outcome::Sales`].
    WithdrawSales(Transfer),
    /// Takes a gift's texts back: its message, a reason and a note, whatever has become of it;
    /// again, the same answer, unless something was written since. Answers [`Outcome::Gift`].
    /// It needs no key, and none is kept for it.
    RedactGift {
        /// The gift.
        gift: GiftId,
        /// Whether its metadata as well.
        metadata: bool,
    },
    /// Adds codes to an item of that kind, all of them or none. Answers [`Outcome::Item`].
    AddCodes {
        /// The item.
        item: ItemId,
        /// The codes, 1 to 1000, none of which the item has had.
        codes: Vec<Code>,
    },
    /// What somebody does about a paid order. Answers [`Outcome::Order`].
    StepOrder {
        /// The order.
        order: OrderId,
        /// What is done.
        step: Box<OrderStep>,
    },
    /// Tells what users are to others, 1 to 1000 in a call; of the same two the last counts.
    /// Answers [`Outcome::Relations`].
    PutRelations(Vec<RelationRow>),
    /// Sets units of an item aside for whoever comes first. Answers [`Outcome::GiftEnvelope`], or as a
    /// grab of the item does when there are too few.
    CreateGiftEnvelope(Box<NewGiftEnvelope>),
    /// Makes one gift of a gift envelope this user's, at most one a user. Answers [`Outcome::Gift`],
    /// [`Outcome::SoldOut`], [`Outcome::Expired`] or [`Outcome::Cancelled`].
    GrabGift {
        /// The gift envelope.
        envelope: GiftEnvelopeId,
        /// Who grabs.
        user: UserId,
        /// The envelope's token, if it has one.
        token: Option<GiftToken>,
        /// Whether the user and the giver have to follow each other. It is a rule of the calling app's at
        /// this moment, and no part of what is asked.
        #[serde(skip)]
        must_follow: bool,
    },
    /// What somebody does about all that nobody has grabbed. Answers [`Outcome::GiftEnvelope`].
    StepGiftEnvelope {
        /// The gift envelope.
        envelope: GiftEnvelopeId,
        /// What is done.
        step: Box<GiftEnvelopeStep>,
    },
    /// Has a hold or a gift paid outside, by a gateway; again while that is open, the same one.
    /// Answers [`Outcome::Payment`], or as a claim does where there is nothing to pay any more.
    CreatePayment(Box<NewPayment>),
    /// Tells what came of a payment; again, the same answer. Answers [`Outcome::Payment`].
    TellPayment {
        /// Which.
        payment: PaymentId,
        /// What.
        told: Box<PaymentTold>,
    },
    /// Opens a group that buys an item together. Answers [`Outcome::Group`], or as a grab of
    /// the item does when there is no unit, or [`Outcome::CannotPay`].
    OpenGroup(Box<NewGroup>),
    /// Joins a group; who is its last member buys for all. Answers [`Outcome::Joined`],
    /// [`Outcome::GroupFull`], [`Outcome::Expired`], [`Outcome::LeaderLeft`], or as opening one does.
    JoinGroup {
        /// Which.
        group: GroupId,
        /// Who joins.
        user: UserId,
    },
    /// Leaves a group that is not full; if its leader does, it ends. Again, the same. Answers [`Outcome::Group`].
    LeaveGroup {
        /// Which.
        group: GroupId,
        /// Who leaves.
        user: UserId,
    },
}

impl Command {
    /// A keyed hash of what is asked, so that keys and references can tell
    /// whether they are used for the same again.
    pub(crate) fn fingerprint(&self, secret: &[u8; 32]) -> [u8; 16] {
        const FORM: &str = "every command has a postcard form";
        let mut bytes = postcard::to_extend(self, Vec::new()).expect(FORM);
        // Of an envelope within wallets it is what it was before there were others.
        if let Command::CreateEnvelope(terms) = self
            && terms.outside.is_any()
        {
            bytes = postcard::to_extend(&terms.outside, bytes).expect(FORM);
        }
        // And of an item, whoever makes it: keys are its owner's anyway.
        if let Command::CreateItem(terms) = self {
            let origin = ItemOrigin { owner: String::new(), ..terms.origin.clone() };
            let command = Command::CreateItem(Box::new(NewItem { origin, ..(**terms).clone() }));
            bytes = postcard::to_extend(&command, Vec::new()).expect(FORM);
        }
        // The same of a merchant whose papers nobody names.
        if let Command::PutMerchant(new) = self
            && let Some(verification) = &new.verification
        {
            bytes = postcard::to_extend(verification, bytes).expect(FORM);
        }
        // And of a change that says nothing of groups.
        if let Command::ChangeItem { change, .. } = self
            && let Some(group_buy) = &change.group_buy
        {
            bytes = postcard::to_extend(&("group_buy", group_buy), bytes).expect(FORM);
        }
        // And of one whose terms of sale are not told.
        if let Command::PutMerchant(new) = self
            && (new.settle_after_s, new.commission_bps) != (None, None)
        {
            bytes = postcard::to_extend(&("terms", new.settle_after_s, new.commission_bps), bytes).expect(FORM);
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length will do");
        mac.update(&bytes);
        let mut fingerprint = [0; 16];
        fingerprint.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        fingerprint
    }
}

/// Money in or out of a wallet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Whose wallet.
    pub user: UserId,
    /// How much.
    pub amount: Amount,
    /// The caller's own number for it, unique per owner and kind for ever.
    pub reference: Option<Reference>,
}

/// A caller's own number for something it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Who counts: the owner of the calling key.
    pub owner: String,
    /// 1 to 128 visible characters.
    pub text: String,
}

/// What becomes of shares that were grabbed and not claimed in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unclaimed {
    /// They go back to the sender.
    Return,
    /// They are credited to their winners all the same.
    Credit,
}

/// The terms of an envelope to be made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewEnvelope {
    /// The owner of the calling key.
    pub owner: String,
    /// Whose wallet pays.
    pub sender: UserId,
    /// The money in it.
    pub total: Amount,
    /// How many shares it is split into, 1 to 10,000,000.
    pub shares: u32,
    /// How it is split.
    pub split: SplitRule,
    /// A greeting of up to 200 characters.
    pub message: String,
    /// When grabbing opens; `None` is at once. At most a year ahead.
    pub opens_at: Option<Timestamp>,
    /// How long after opening it can be grabbed, 1 to 31,536,000 seconds.
    pub expires_in_s: u64,
    /// How long after expiry a grabbed share can be claimed, 0 to 31,536,000 seconds.
    pub claim_within_s: u64,
    /// Whether a grab credits the winner's wallet in the same record.
    pub auto_claim: bool,
    /// What becomes of shares not claimed in time.
    pub unclaimed: Unclaimed,
    /// The caller's own number for it.
    pub reference: Option<Reference>,
    /// Anything the caller wants to keep with it, as JSON text of an object.
    pub metadata: String,
    /// The creator's share in the draw's seed.
    pub client_seed: Option<String>,
    /// Where its money comes from and goes to, if not from and into wallets. It is
    /// kept beside the other terms: see [`EnvelopeOutside`](crate::event::EnvelopeOutside).
    #[serde(skip)]
    pub outside: Outside,
}

impl NewEnvelope {
    /// Terms as the API has them when nothing else is said: open at once, to be
    /// grabbed for a day and claimed for another; what is not claimed goes back.
    pub fn new(owner: &str, sender: UserId, total: Amount, shares: u32, split: SplitRule) -> NewEnvelope {
        NewEnvelope {
            owner: owner.to_owned(),
            sender,
            total,
            shares,
            split,
            message: String::new(),
            opens_at: None,
            expires_in_s: 86_400,
            claim_within_s: 86_400,
            auto_claim: false,
            unclaimed: Unclaimed::Return,
            reference: None,
            metadata: "{}".to_owned(),
            client_seed: None,
            outside: Outside::default(),
        }
    }
}

/// What a grabbed share has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareStatus {
    /// Owed to its winner until `claim_by`.
    Grabbed,
    /// In its winner's wallet.
    Claimed,
    /// Gone back to the sender.
    Lapsed,
}

/// The answer to a command or a batch's element.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The wallet after a deposit or withdrawal.
    Wallet(WalletView),
    /// The envelope after its creation or cancellation.
    Envelope(Box<EnvelopeView>),
    /// The user has this share.
    Won {
        /// Its money.
        amount: Amount,
        /// Its position in the split.
        share: u32,
        /// What it has become.
        status: ShareStatus,
        /// When it was grabbed.
        grabbed_at: Timestamp,
        /// Until when it can be claimed.
        claim_by: Timestamp,
        /// Whether it had been won before this call.
        replayed: bool,
    },
    /// No share, or no unit, is left.
    SoldOut,
    /// The envelope has expired.
    Expired,
    /// The envelope was cancelled.
    Cancelled,
    /// Grabbing has not opened yet.
    NotOpen {
        /// When it opens.
        opens_at: Timestamp,
    },
    /// The share is in the user's wallet.
    Claimed {
        /// Its money.
        amount: Amount,
        /// When it was claimed.
        claimed_at: Timestamp,
        /// Whether it had been claimed before this call.
        replayed: bool,
    },
    /// The user has no share of this envelope.
    NotWon,
    /// The share was not claimed in time and went back to the sender.
    Lapsed,
    /// The merchant as it is now.
    Merchant(Box<Merchant>),
    /// The item as it is now.
    Item(Box<ItemView>),
    /// Units are held for the user.
    Held {
        /// The hold.
        hold: HoldId,
        /// Units held.
        quantity: u32,
        /// What they will cost together.
        amount: Amount,
        /// Until when they are held.
        expires_at: Timestamp,
        /// Whether this hold had been made before this call.
        replayed: bool,
    },
    /// The user holds or has bought as many as one user may.
    LimitReached,
    /// The sale is over.
    Ended,
    /// The hold is paid.
    Ordered {
        /// The order.
        order: OrderId,
        /// Whether it had been made before this call.
        replayed: bool,
    },
    /// The hold's time was over; its units went back.
    HoldExpired,
    /// The hold's units went back.
    Released {
        /// Whether they had gone back before this call.
        replayed: bool,
    },
    /// The user's wallet cannot pay for the hold.
    CannotPay,
    /// The clock of a test deployment stands here now.
    Clock(Timestamp),
    /// The command makes no sense as it stands; nothing changed.
    Refused(Refusal),
    /// The API key as it is now.
    ApiKey(Box<ApiKey>),
    /// What each result of payouts came to, in their order. Last, as answers are
    /// kept by their variant's number.
    Payouts(Vec<PayoutAnswer>),
    /// The gift as it is now.
    Gift(Box<Gift>),
    /// What a merchant has now.
    Sales {
        /// Which.
        merchant: UserId,
        /// Its money.
        balance: MerchantBalance,
    },
    /// The order as it is now.
    Order(Box<OrderNow>),
    /// So many relations stand as they were told.
    Relations(u32),
    /// The gift envelope; what becomes of its gifts is theirs to tell.
    GiftEnvelope(Box<GiftEnvelope>),
    /// The payment as it is now.
    Payment(Box<Payment>),
    /// The group as it is now.
    Group(Box<Group>),
    /// The user is a member of the group.
    Joined {
        /// The group as it is now.
        group: Box<Group>,
        /// The user's order, once it is full.
        order: Option<OrderId>,
        /// Whether the user was a member before this call.
        replayed: bool,
    },
    /// The group has as many members as it takes.
    GroupFull,
    /// The group's leader has left it, and all have their money back.
    LeaderLeft,
}

/// Why a command was refused. None of these is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// There is no such envelope, item, hold, order, gift, group, merchant, user, payout or key here.
    #[error("not found")]
    NotFound,
    /// The wallet does not hold enough.
    #[error("the wallet does not hold enough; deposit first")]
    InsufficientFunds,
    /// It has ended otherwise.
    #[error("{0}")]
    WrongState(String),
    /// Not this user's.
    #[error("this belongs to another user; name the user it was given to")]
    Forbidden,
    /// The reference stands for something else.
    #[error("this reference was used with other content; use a new one")]
    ReferenceConflict,
    /// The idempotency key stands for another command.
    #[error("this idempotency key was used for another command; use a new one")]
    IdempotencyMismatch,
    /// A field cannot be so.
    #[error("{field}: {message}")]
    Invalid {
        /// The field as the API names it.
        field: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// One of two users has blocked the other; nobody is told which.
    #[error("nothing is given between these two users; name somebody else")]
    Apart,
    /// Two users have to follow each other and do not, as far as it is known here.
    #[error(
        "the giver and the recipient do not follow each other; tell it with POST /v1/relations, or with \"mutual\": true"
    )]
    NotMutual,
}

impl Refusal {
    /// A refusal for `field`.
    pub fn invalid(field: &str, message: impl Into<String>) -> Refusal {
        Refusal::Invalid { field: field.to_owned(), message: message.into() }
    }

    /// Refuses a text for `field` that has fewer or more characters than it may.
    pub(crate) fn unless_long(field: &str, text: &str, chars: RangeInclusive<usize>) -> Result<(), Refusal> {
        if chars.contains(&text.chars().count()) {
            return Ok(());
        }
        let (least, most) = chars.into_inner();
        let bounds = if least == 0 { format!("at most {most}") } else { format!("{least} to {most}") };
        Err(Refusal::invalid(field, format!("must be {bounds} characters long")))
    }

    /// The refusal of an item of a merchant that is not verified.
    pub(crate) fn merchant(status: MerchantStatus) -> Refusal {
        let status = status.name();
        let remedy = "only a verified one sells: POST /v1/merchants with \"status\":\"verified\" first";
        Refusal::WrongState(format!("the merchant is {status}; {remedy}"))
    }

    /// The refusal to cancel an envelope that has sold out or expired.
    pub(crate) fn too_late_to_cancel() -> Refusal {
        let why = "the envelope has sold out or expired, so there is nothing left to cancel; \
                   what nobody took goes back to its sender by itself";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of money from outside by which all that ever came in would no longer be an amount.
    pub(crate) fn deposits_exceeded(field: &str) -> Refusal {
        Refusal::invalid(field, "all deposits together would exceed 9007199254740991")
    }

    /// The refusal of results of payouts that are too long to be kept together.
    pub(crate) fn too_much_text() -> Refusal {
        let why = "carry too much text to be kept at once; send fewer in a call, or shorter references and reasons";
        Refusal::invalid("results", why)
    }

    /// The refusal of codes that are too long to be kept together.
    pub(crate) fn too_long_codes() -> Refusal {
        Refusal::invalid("codes", "are too long to be kept at once, together at most 100 KiB; send fewer in a call")
    }

    /// The refusal of a code that the item has had, by its place in the call.
    pub(crate) fn known_code(place: usize) -> Refusal {
        let why = "is a code that the item has had already; nothing was added";
        Refusal::invalid(&format!("codes[{place}]"), why)
    }

    /// The refusal of codes for an item of another kind.
    pub(crate) fn no_code_item() -> Refusal {
        let why = "the item's units are no codes; POST /v1/items/{id}/restock adds units to it";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of units that are to be codes.
    pub(crate) fn stock_is_codes() -> Refusal {
        let why = "the item's stock is the number of its codes; POST /v1/items/{id}/codes adds some";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of payments outside where there are none yet.
    #[cfg(feature = "redis")]
    pub(crate) fn no_payments() -> Refusal {
        Refusal::WrongState(
            "nothing is paid outside in front of Redis yet; pay from a wallet, or use the embedded engine".to_owned(),
        )
    }

    /// What is being paid outside is nobody's to end or to pay otherwise.
    pub(crate) fn being_paid(payment: &Payment) -> Refusal {
        Refusal::WrongState(format!(
            "it is being paid with {}; pay there, or wait until GET /v1/payments/{} says that it was not paid",
            payment.gateway, payment.id
        ))
    }

    /// The refusal of groups where there are none yet.
    #[cfg(feature = "redis")]
    pub(crate) fn no_groups() -> Refusal {
        let why = "items are not sold to groups in front of Redis yet; serve them from a server of its own with \
                   `--backend embedded`";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of a group for an item that is sold to single users only.
    pub(crate) fn no_group_buy() -> Refusal {
        let why = "the item is not sold to groups; PATCH /v1/items/{id} with group_buy first";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal to leave a group that has bought.
    pub(crate) fn group_is_full() -> Refusal {
        let why = "the group is full and each member has an order; send yours back with POST /v1/orders/{id}/return";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of more codes than an item may have units.
    pub(crate) fn too_many_codes() -> Refusal {
        Refusal::invalid("codes", "the item may have at most 4294967295 in all")
    }

    /// The refusal to look who follows whom where nothing of it is kept yet.
    #[cfg(feature = "redis")]
    pub(crate) fn no_relations() -> Refusal {
        let why = "who follows or blocks whom is not kept in front of Redis yet; say \"mutual\": true once the app has looked \
                   itself, or serve gifts from a server of its own with `--backend embedded`";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of gift envelopes where there are none yet.
    #[cfg(feature = "redis")]
    pub(crate) fn no_gift_envelopes() -> Refusal {
        let why = "gift envelopes are not made in front of Redis yet; give units one by one, or serve gifts from a server of \
                   its own with `--backend embedded`";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal to ship to an address that is not there any more.
    pub(crate) fn no_address_to_ship_to() -> Refusal {
        let why = "the gift has no address, or none any more; ship it without address_version, or have the recipient give \
                   one";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of an address where nothing could seal it.
    pub(crate) fn no_address_key() -> Refusal {
        let why = "addresses are not taken here, as the server has no address key: start it with --address-key-file, or \
                   leave the address out";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of an address for a gift that nobody sends.
    pub(crate) fn no_address_of_code() -> Refusal {
        let why = "the gift is a code, which its recipient is told here; accept it without an address";
        Refusal::WrongState(why.to_owned())
    }

    /// The refusal of more units than a user may have, or of none.
    pub(crate) fn over_limit(limit: u32) -> Refusal {
        let bounds = if limit == 1 { "must be 1".to_owned() } else { format!("must be 1 to {limit}") };
        Refusal::invalid("quantity", format!("{bounds} (the item's limit for one user)"))
    }

    /// The refusal of more codes than an order is handed.
    pub(crate) fn over_codes() -> Refusal {
        let most = crate::code::CODES_OF_ORDER_MAX;
        Refusal::invalid("quantity", format!("must be 1 to {most}: an order is handed so many codes at most"))
    }

    /// The refusal of units whose price together is no amount.
    pub(crate) fn price_too_high() -> Refusal {
        Refusal::invalid("quantity", "times the price is above 9007199254740991; take fewer units at once")
    }
}

/// A wallet as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletView {
    /// Whose.
    pub user: UserId,
    /// Money that can be spent.
    pub available: Amount,
    /// Money set aside.
    pub held: Amount,
}

/// Where an envelope stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvelopeState {
    /// Not open yet.
    Scheduled,
    /// Can be grabbed.
    Open,
    /// Every share is grabbed.
    SoldOut,
    /// Its time is over.
    Expired,
    /// Its sender ended it.
    Cancelled,
    /// It has ended and no share is unclaimed.
    Settled,
}

/// How an envelope ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedAs {
    /// Every share was grabbed.
    SoldOut,
    /// Its time was over.
    Expired,
    /// Its sender ended it.
    Cancelled,
}

/// An envelope as the caller sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnvelopeView {
    /// Its id.
    pub id: EnvelopeId,
    /// The owner of the key that made it.
    pub owner: String,
    /// Whose money it is.
    pub sender: UserId,
    /// Where it stands.
    pub state: EnvelopeState,
    /// How it ended, once it has.
    pub ended_as: Option<EndedAs>,
    /// The money put in.
    pub total: Amount,
    /// The shares it was split into.
    pub shares: u32,
    /// `lucky`, `uniform`, `equal` or `specified`.
    pub split: String,
    /// The greeting.
    pub message: String,
    /// Shares nobody has; 0 after the end.
    pub remaining_shares: u32,
    /// Their money; 0 after the end.
    pub remaining_amount: Amount,
    /// Money in winners' wallets.
    pub claimed_amount: Amount,
    /// Money gone back to the sender.
    pub refunded_amount: Amount,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it opens or opened.
    pub opens_at: Timestamp,
    /// When it can no longer be grabbed.
    pub expires_at: Timestamp,
    /// When grabbed shares can no longer be claimed.
    pub claim_by: Timestamp,
    /// SHA-256 over the secret part of the seed, published before the first grab.
    pub commitment: [u8; 32],
    /// The secret, once no share is ungrabbed: with the envelope id and the
    /// creator's `client_seed` anyone can repeat the draw.
    pub secret: Option<Seed>,
    /// The caller's own number.
    pub reference: Option<String>,
    /// What the caller keeps with it, as JSON text.
    pub metadata: String,
    /// Where its money comes from and goes to. Not kept with an answer, as what follows is
    /// not: whoever repeats that asks anew.
    #[serde(skip)]
    pub outside: Outside,
    /// When its message was taken back.
    #[serde(skip)]
    pub redacted_at: Option<Timestamp>,
}

/// Units of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// All there ever were.
    pub total: u32,
    /// To be had.
    pub free: u32,
    /// Held for somebody.
    pub held: u32,
    /// Paid for.
    pub sold: u32,
}

/// An item as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemView {
    /// Its id.
    pub id: ItemId,
    /// When it was put on sale.
    pub created_at: Timestamp,
    /// Its terms as they are now (`stock` is what it began with).
    pub terms: NewItem,
    /// Its units as they are now.
    pub stock: Stock,
}

/// What a hold has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldState {
    /// Its units are kept for its user.
    Held,
    /// It was paid.
    Claimed(OrderId),
    /// Its user gave it back.
    Released,
    /// Its time was over.
    Expired,
}

/// Units held for a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// Its id.
    pub id: HoldId,
    /// Of what.
    pub item: ItemId,
    /// For whom.
    pub user: UserId,
    /// Units.
    pub quantity: u32,
    /// What they cost together.
    pub amount: Amount,
    /// What it has become.
    pub state: HoldState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it lives.
    pub expires_at: Timestamp,
}

/// An order as it is answered and kept under a key: with what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderNow {
    order: OrderView,
    progress: OrderProgress,
}

impl OrderNow {
    /// An order with its progress.
    pub fn new(mut order: OrderView) -> OrderNow {
        // It is kept beside the order, so that one read again is the same.
        let progress = std::mem::take(&mut order.progress);
        OrderNow { order, progress }
    }

    /// The order, with its progress.
    pub fn view(&self) -> OrderView {
        OrderView { progress: self.progress.clone(), ..self.order.clone() }
    }
}

/// A paid order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderView {
    /// Its id.
    pub id: OrderId,
    /// The hold it was made of.
    pub hold: HoldId,
    /// Of what.
    pub item: ItemId,
    /// Who sold it.
    pub merchant: UserId,
    /// Who paid.
    pub user: UserId,
    /// Units.
    pub quantity: u32,
    /// What was paid.
    pub amount: Amount,
    /// When.
    pub created_at: Timestamp,
    /// What has become of it since; it stands in a row of its own.
    #[serde(skip)]
    pub progress: OrderProgress,
}
