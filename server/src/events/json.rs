//! The JSON of an event: what it is about, by the names that the API's other
//! answers use.

use crate::config::Currency;
use crate::views::{At, EnvelopeJson, HoldJson, OrderJson, Shown};
use hongbao_engine::command::{EndedAs, EnvelopeState, ShareStatus};
use hongbao_engine::event::ItemPut;
use hongbao_engine::feed::{EnvelopeFacts, FeedEvent, Happened, Moved, Share};
use hongbao_engine::types::{Amount, EnvelopeId, EventId, ItemId, UserId};
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
    Item(Box<ItemPutJson<'a>>),
    Hold(HoldJson<'a>),
    Order(OrderJson<'a>),
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

/// An item as it was put; what is held and sold changes without it.
#[derive(Serialize)]
struct ItemPutJson<'a> {
    id: Shown<ItemId>,
    merchant: &'a UserId,
    name: &'a str,
    category: &'a str,
    price: Amount,
    currency: Currency,
    stock: TotalJson,
    per_user_limit: Option<u32>,
    starts_at: Option<At>,
    ends_at: Option<At>,
    hold_ttl_s: u64,
    image_url: Option<&'a str>,
    created_at: At,
}

#[derive(Serialize)]
struct TotalJson {
    total: u32,
}

impl<'a> ItemPutJson<'a> {
    fn new(put: &'a ItemPut, currency: Currency) -> Self {
        let terms = &put.terms;
        ItemPutJson {
            id: Shown(put.id),
            merchant: &terms.merchant,
            name: &terms.name,
            category: &terms.category,
            price: terms.price,
            currency,
            stock: TotalJson { total: put.stock_total },
            per_user_limit: terms.per_user_limit,
            starts_at: terms.starts_at.map(At),
            ends_at: terms.ends_at.map(At),
            hold_ttl_s: terms.hold_ttl_s,
            image_url: terms.image_url.as_deref(),
            created_at: At(put.created_at),
        }
    }
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
            Happened::Item(put) => Data::Item(Box::new(ItemPutJson::new(put, currency))),
            Happened::Hold(hold) => Data::Hold(HoldJson::new(hold, currency)),
            Happened::Order(order) => Data::Order(OrderJson::new(order, currency)),
        }
    }
}
