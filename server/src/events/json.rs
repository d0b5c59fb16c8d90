//! The JSON of an event: what it is about, by the names that the API's other
//! answers use.

use crate::config::Currency;
use crate::groups::GroupJson;
use crate::payments::PaymentJson;
use crate::views::{At, EnvelopeJson, GiftJson, HoldJson, ItemJson, MerchantJson, OrderJson, PayoutJson, Shown};
use hongbao_engine::command::{EndedAs, EnvelopeState, ShareStatus};
use hongbao_engine::feed::{EnvelopeFacts, FeedEvent, GroupHappened, Happened, Moved, SalesSettled, Share};
use hongbao_engine::sale::MerchantBalance;
use hongbao_engine::types::{Amount, EnvelopeId, EventId, UserId};
use serde::Serialize;

/// Appends an event.
pub(crate) fn write(out: &mut Vec<u8>, event: &FeedEvent, currency: Currency) {
    let (r#type, owner) = (event.what.event_type().name(), event.what.owner());
    let json = EventJson { id: Shown(event.id), r#type, at: At(event.at), owner, data: Data::of(event, currency) };
    serde_json::to_writer(out, &json).expect("what we show has string keys only, and a vector takes everything");
}

#[derive(Serialize)]
struct EventJson<'a> {
    id: Shown<EventId>,
    r#type: &'static str,
    at: At,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Created(Box<EnvelopeJson<'a>>),
    Envelope(EnvelopeChanged<'a>),
    Share(ShareJson<'a>),
    Lapsed(LapsedJson<'a>),
    Wallet(MovedJson<'a>),
    Item(Box<ItemJson<'a, TotalJson>>),
    Hold(HoldJson<'a>),
    Order(OrderJson<'a>),
    Payout(Box<PayoutJson<'a>>),
    Redacted(RedactedJson<'a>),
    Merchant(MerchantJson<'a>),
    Gift(Box<GiftJson<'a>>),
    SalesSettled(SalesSettledJson<'a>),
    Payment(Box<PaymentJson<'a>>),
    Group(Box<GroupHappenedJson<'a>>),
}

/// A group, and who opened, joined or left it.
#[derive(Serialize)]
struct GroupHappenedJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a UserId>,
    #[serde(flatten)]
    group: GroupJson<'a>,
}

#[derive(Serialize)]
struct SalesSettledJson<'a> {
    merchant: &'a UserId,
    currency: Currency,
    due: At,
    amount: Amount,
    commission: Amount,
    balance_after: MerchantBalance,
}

#[derive(Serialize)]
struct EnvelopeChanged<'a> {
    id: Shown<EnvelopeId>,
    sender: &'a UserId,
    reference: Option<&'a str>,
    state: EnvelopeState,
    ended_as: EndedAs,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_amount: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded_amount: Option<Amount>,
}

impl<'a> EnvelopeChanged<'a> {
    fn new(envelope: &'a EnvelopeFacts, ended_as: EndedAs, refunded_amount: Option<Amount>) -> Self {
        let state = match ended_as {
            EndedAs::SoldOut => EnvelopeState::SoldOut,
            EndedAs::Expired => EnvelopeState::Expired,
            EndedAs::Cancelled => EnvelopeState::Cancelled,
        };
        EnvelopeChanged {
            id: Shown(envelope.id),
            sender: &envelope.sender,
            reference: envelope.reference.as_deref(),
            state,
            ended_as,
            claimed_amount: None,
            refunded_amount,
        }
    }
}

#[derive(Serialize)]
struct ShareJson<'a> {
    envelope: Shown<EnvelopeId>,
    sender: &'a UserId,
    reference: Option<&'a str>,
    user: &'a UserId,
    share: u32,
    amount: Amount,
    status: ShareStatus,
    grabbed_at: At,
    claimed_at: Option<At>,
}

impl<'a> ShareJson<'a> {
    fn new(share: &'a Share, claimed_at: Option<At>) -> Self {
        ShareJson {
            envelope: Shown(share.envelope.id),
            sender: &share.envelope.sender,
            reference: share.envelope.reference.as_deref(),
            user: &share.user,
            share: share.share,
            amount: share.amount,
            status: if claimed_at.is_some() { ShareStatus::Claimed } else { ShareStatus::Grabbed },
            grabbed_at: At(share.grabbed_at),
            claimed_at,
        }
    }
}

#[derive(Serialize)]
struct LapsedJson<'a> {
    envelope: Shown<EnvelopeId>,
    sender: &'a UserId,
    reference: Option<&'a str>,
    amount: Amount,
}

#[derive(Serialize)]
struct RedactedJson<'a> {
    id: Shown<EnvelopeId>,
    sender: &'a UserId,
    reference: Option<&'a str>,
    redacted_at: At,
    with_metadata: bool,
}

#[derive(Serialize)]
struct MovedJson<'a> {
    user: &'a UserId,
    currency: Currency,
    amount: Amount,
    available: Amount,
    reference: Option<&'a str>,
}

impl<'a> MovedJson<'a> {
    fn new(moved: &'a Moved, currency: Currency) -> Self {
        let Moved { user, amount, available, reference } = moved;
        MovedJson { user, currency, amount: *amount, available: *available, reference: reference.as_deref() }
    }
}

/// What an item has in all; what is held and sold changes without it.
#[derive(Serialize)]
struct TotalJson {
    total: u32,
}

impl<'a> Data<'a> {
    fn of(event: &'a FeedEvent, currency: Currency) -> Data<'a> {
        let changed = EnvelopeChanged::new;
        match &event.what {
            Happened::Created(view) => Data::Created(Box::new(EnvelopeJson::new(view, currency))),
            Happened::SoldOut(envelope) => Data::Envelope(changed(envelope, EndedAs::SoldOut, None)),
            Happened::Expired { envelope, refunded } => {
                Data::Envelope(changed(envelope, EndedAs::Expired, Some(*refunded)))
            }
            Happened::Cancelled { envelope, refunded } => {
                Data::Envelope(changed(envelope, EndedAs::Cancelled, Some(*refunded)))
            }
            Happened::Settled { envelope, ended_as, claimed, refunded } => Data::Envelope(EnvelopeChanged {
                state: EnvelopeState::Settled,
                claimed_amount: Some(*claimed),
                ..changed(envelope, *ended_as, Some(*refunded))
            }),
            Happened::Grabbed(share) => Data::Share(ShareJson::new(share, None)),
            Happened::Claimed(share) => Data::Share(ShareJson::new(share, Some(At(event.at)))),
            Happened::Lapsed { envelope, amount } => Data::Lapsed(LapsedJson {
                envelope: Shown(envelope.id),
                sender: &envelope.sender,
                reference: envelope.reference.as_deref(),
                amount: *amount,
            }),
            Happened::Deposited(moved) | Happened::Withdrawn(moved) => Data::Wallet(MovedJson::new(moved, currency)),
            Happened::Item(put) => {
                let stock = TotalJson { total: put.stock_total };
                Data::Item(Box::new(ItemJson::with_stock(put.id, &put.terms, put.created_at, stock, currency)))
            }
            Happened::Hold(hold) => Data::Hold(HoldJson::new(hold, currency)),
            Happened::Order(order) => Data::Order(OrderJson::new(order, currency)),
            Happened::Gift(gift) | Happened::GiftRedacted(gift) => Data::Gift(Box::new(GiftJson::new(gift, currency))),
            Happened::Payout(view) => Data::Payout(Box::new(PayoutJson::new(view, currency))),
            Happened::Redacted { envelope, redaction } => Data::Redacted(RedactedJson {
                id: Shown(envelope.id),
                sender: &envelope.sender,
                reference: envelope.reference.as_deref(),
                redacted_at: At(redaction.at),
                with_metadata: redaction.metadata,
            }),
            Happened::SalesSettled(settled) => {
                let SalesSettled { merchant, due, amount, commission, balance } = &**settled;
                Data::SalesSettled(SalesSettledJson {
                    merchant,
                    currency,
                    due: At(*due),
                    amount: *amount,
                    commission: *commission,
                    balance_after: *balance,
                })
            }
            Happened::Group(happened) => {
                let GroupHappened { user, group, .. } = &**happened;
                let group = GroupJson::new(group, currency);
                Data::Group(Box::new(GroupHappenedJson { user: user.as_ref(), group }))
            }
            Happened::Merchant(merchant) => Data::Merchant(MerchantJson::new(merchant)),
            Happened::Payment(payment) => Data::Payment(Box::new(PaymentJson::new(payment, currency))),
        }
    }
}
