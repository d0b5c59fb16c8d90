//! Sales: merchants, items, holds and orders.
//!
//! **Invariant:** an item whose limit is not one a user is grabbed only under an
//! idempotency key, since two grabs of one user may both be meant.

use crate::access::ADMIN;
use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::envelopes::ByUser;
use crate::extract::{Content, Json, MaybeOnce, NoParams, Once, One, Params, key_required};
use crate::fields::{Count, CountOrNone, Int, Money, Seconds, SecondsOrNone, Text, Time, Url, some, some_word, word};
use crate::payments::begin;
use crate::problem::{Code, Problem};
use crate::reply::{from_engine, json, list, reply};
use crate::views::{HoldJson, ItemJson, MerchantJson};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, ItemFilter};
use hongbao_engine::command::{
    Command, ItemChange, ItemKind, ItemOrigin, MerchantStatus, NewItem, NewMerchant, NewVerification,
};
use hongbao_engine::group::{GroupBuy, SIZE_MAX};
use hongbao_engine::order::RETURN_WITHIN_S;
use hongbao_engine::payment::PaymentFor;
use hongbao_engine::sale::COMMISSION_BPS_MAX;
use hongbao_engine::types::{HoldId, ItemId, UserId};
use serde::Deserialize;

/// Adds the routes of sales.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/merchants", Class::Ordinary, put_merchant::<B>)
        .get("/v1/merchants", Class::Ordinary, merchants::<B>)
        .get("/v1/merchants/{id}", Class::Ordinary, merchant::<B>)
        .post("/v1/items", Class::Ordinary, create::<B>)
        .get("/v1/items", Class::Ordinary, find::<B>)
        .get("/v1/items/{id}", Class::Ordinary, show::<B>)
        .patch("/v1/items/{id}", Class::Ordinary, change::<B>)
        .post("/v1/items/{id}/restock", Class::Ordinary, restock::<B>)
        .post("/v1/items/{id}/grab", Class::Ordinary, grab::<B>)
        .get("/v1/holds/{id}", Class::Ordinary, hold::<B>)
        .post("/v1/holds/{id}/claim", Class::Settling, claim::<B>)
        .post("/v1/holds/{id}/release", Class::Settling, release::<B>)
}

/// A seller, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutMerchant {
    id: UserId,
    name: Text<1, 200>,
    #[serde(default, deserialize_with = "some_word")]
    status: Option<MerchantStatus>,
    #[serde(default)]
    verification: Option<Papers>,
    #[serde(default, deserialize_with = "some")]
    settle_after_s: Option<SecondsOrNone>,
    #[serde(default, deserialize_with = "some")]
    commission_bps: Option<BasisPoints>,
}

/// Hundredths of a percent, of all at most.
type BasisPoints = Int<0, { COMMISSION_BPS_MAX as u64 }>;

/// What is told of a merchant's papers, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Papers {
    #[serde(default)]
    by: Option<Text<1, 128>>,
    #[serde(default)]
    reference: Option<Text<1, 128>>,
}

impl Content for PutMerchant {}

/// An item to be put on sale, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    merchant: UserId,
    name: Text<1, 200>,
    category: Text<1, 64>,
    price: Money,
    #[serde(default, deserialize_with = "some")]
    stock: Option<CountOrNone>,
    #[serde(default = "one_each")]
    per_user_limit: Option<Count>,
    #[serde(default)]
    starts_at: Option<Time>,
    #[serde(default)]
    ends_at: Option<Time>,
    #[serde(default = "a_quarter_of_an_hour")]
    hold_ttl_s: Seconds,
    #[serde(default)]
    image_url: Option<Url>,
    #[serde(default, deserialize_with = "word")]
    kind: ItemKind,
    #[serde(default)]
    variant_of: Option<String>,
    #[serde(default = "a_week")]
    return_within_s: SecondsOrNone,
    #[serde(default)]
    group_buy: Option<SentGroupBuy>,
}

/// On which terms groups buy an item, as they are sent.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct SentGroupBuy {
    size: Int<2, { SIZE_MAX as u64 }>,
    price: Money,
    within_s: Seconds,
}

impl SentGroupBuy {
    fn terms(self) -> GroupBuy {
        let size = u32::try_from(self.size.get()).expect("a group has at most a hundred members");
        GroupBuy { size, price: self.price.amount(), within_s: self.within_s.get() }
    }
}

fn one_each() -> Option<Count> {
    Some(Count::new(1))
}

fn a_quarter_of_an_hour() -> Seconds {
    Seconds::new(900)
}

fn a_week() -> SecondsOrNone {
    SecondsOrNone::new(RETURN_WITHIN_S as u64)
}

impl Content for Create {
    fn check(&self) -> Result<(), Problem> {
        let bounds = format!("must be an integer from 1 to {}", u32::MAX);
        match (self.kind, self.stock.map(CountOrNone::get)) {
            (ItemKind::Code, None | Some(0)) | (ItemKind::Physical | ItemKind::Virtual, Some(1..)) => {}
            (ItemKind::Code, Some(_)) => {
                let why = "must be 0 or absent for the kind code; POST /v1/items/{id}/codes adds what it has";
                return Err(Problem::field("stock", why));
            }
            (ItemKind::Physical | ItemKind::Virtual, _) => return Err(Problem::field("stock", bounds)),
        }
        check_times(self.starts_at, self.ends_at)
    }
}

fn check_times(starts_at: Option<Time>, ends_at: Option<Time>) -> Result<(), Problem> {
    match (starts_at, ends_at) {
        (Some(starts_at), Some(ends_at)) if ends_at.0 <= starts_at.0 => {
            Err(Problem::field("ends_at", "must be after starts_at"))
        }
        _ => Ok(()),
    }
}

impl Create {
    fn command(self, caller: &Caller) -> Result<Command, Problem> {
        let variant_of = self.variant_of.map(|id| id.parse::<ItemId>()).transpose();
        let variant_of = variant_of.map_err(|_| Problem::field("variant_of", "is no item's id"))?;
        Ok(Command::CreateItem(Box::new(NewItem {
            merchant: self.merchant,
            name: self.name.0,
            category: self.category.0,
            price: self.price.amount(),
            stock: self.stock.map_or(0, CountOrNone::count),
            per_user_limit: self.per_user_limit.map(Count::count),
            starts_at: self.starts_at.map(|time| time.0),
            ends_at: self.ends_at.map(|time| time.0),
            hold_ttl_s: self.hold_ttl_s.get(),
            image_url: self.image_url.map(|url| url.0),
            origin: ItemOrigin {
                owner: caller.owner().to_owned(),
                kind: self.kind,
                variant_of,
                return_within_s: u32::try_from(self.return_within_s.get()).expect("a year has fewer seconds"),
            },
            group_buy: self.group_buy.map(SentGroupBuy::terms),
        })))
    }
}

/// Changes to an item, as they are sent: what is not there stays, and what may
/// be null can be set to null.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default, deserialize_with = "some")]
    name: Option<Text<1, 200>>,
    #[serde(default, deserialize_with = "some")]
    category: Option<Text<1, 64>>,
    #[serde(default, deserialize_with = "some")]
    price: Option<Money>,
    #[serde(default, deserialize_with = "some")]
    per_user_limit: Option<Option<Count>>,
    #[serde(default, deserialize_with = "some")]
    starts_at: Option<Option<Time>>,
    #[serde(default, deserialize_with = "some")]
    ends_at: Option<Option<Time>>,
    #[serde(default, deserialize_with = "some")]
    hold_ttl_s: Option<Seconds>,
    #[serde(default, deserialize_with = "some")]
    image_url: Option<Option<Url>>,
    #[serde(default, deserialize_with = "some")]
    group_buy: Option<Option<SentGroupBuy>>,
}

impl Content for Change {
    fn check(&self) -> Result<(), Problem> {
        check_times(self.starts_at.flatten(), self.ends_at.flatten())
    }
}

impl Change {
    fn command(self, item: ItemId) -> Command {
        let change = ItemChange {
            name: self.name.map(|text| text.0),
            category: self.category.map(|text| text.0),
            price: self.price.map(Money::amount),
            per_user_limit: self.per_user_limit.map(|limit| limit.map(Count::count)),
            starts_at: self.starts_at.map(|time| time.map(|time| time.0)),
            ends_at: self.ends_at.map(|time| time.map(|time| time.0)),
            hold_ttl_s: self.hold_ttl_s.map(Seconds::get),
            image_url: self.image_url.map(|url| url.map(|url| url.0)),
            group_buy: self.group_buy.map(|terms| terms.map(SentGroupBuy::terms)),
        };
        Command::ChangeItem { item, change: Box::new(change) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Restock {
    quantity: Count,
}

impl Content for Restock {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grab {
    user: UserId,
    #[serde(default = "one_unit")]
    quantity: Count,
}

impl Content for Grab {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    user: UserId,
    #[serde(default)]
    pay_with: Option<Text<1, 32>>,
}

impl Content for Claim {
    fn read_common(bytes: &[u8]) -> Option<Claim> {
        ByUser::read_common(bytes).map(|ByUser { user }| Claim { user, pay_with: None })
    }
}

fn one_unit() -> Count {
    Count::new(1)
}

async fn put_merchant<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Once(once): Once,
    Json(body): Json<PutMerchant>,
) -> Result<Response, Problem> {
    let PutMerchant { id, name, status, verification, settle_after_s, commission_bps } = body;
    let verification = verification.map(|Papers { by, reference }| NewVerification {
        by: by.map(|text| text.0),
        reference: reference.map(|text| text.0),
    });
    let told_by = caller.name().to_owned();
    let new = NewMerchant {
        verification,
        told_by,
        settle_after_s: settle_after_s
            .map(|seconds| u32::try_from(seconds.get()).expect("a year has 25 bits of seconds")),
        commission_bps: commission_bps.map(|bps| u16::try_from(bps.get()).expect("all of it has 14 bits")),
        ..NewMerchant::new(id, &name.0, status)
    };
    let command = Command::PutMerchant(Box::new(new));
    reply(&server, server.backend.execute(command, Some(once)).await, StatusCode::CREATED)
}

async fn merchants<B: Backend>(State(server): State<Shared<B>>, params: Params) -> Result<Response, Problem> {
    let page = params.page(&["status"])?;
    let status = params.parse("status", |name| {
        let found = MerchantStatus::ALL.into_iter().find(|status| status.name() == name);
        found.ok_or("must be pending, verified or suspended")
    })?;
    let rows = server.backend.merchants(status, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("merchants", &rows, MerchantJson::new))
}

async fn merchant<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<UserId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let merchant = server.backend.merchant(&id).await.map_err(|error| from_engine(&error))?;
    let merchant = merchant.filter(|_| caller.sees_merchant(&id));
    Ok(json(&MerchantJson::new(&merchant.ok_or_else(Problem::not_found)?)))
}

async fn create<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Once(once): Once,
    Json(body): Json<Create>,
) -> Result<Response, Problem> {
    let command = body.command(&caller)?;
    reply(&server, server.backend.execute(command, Some(once)).await, StatusCode::CREATED)
}

/// Whether the caller may change the item: its owner made it, or nobody did since
/// items have owners. Its owner never changes.
pub(crate) async fn check_owner<B: Backend>(server: &Shared<B>, caller: &Caller, id: ItemId) -> Result<(), Problem> {
    if caller.roles().any_of(ADMIN) {
        return Ok(());
    }
    let view = server.backend.item(id).await.map_err(|error| from_engine(&error))?;
    let is_own = |owner: &str| owner.is_empty() || owner == caller.owner();
    if view.is_some_and(|view| is_own(&view.terms.origin.owner)) {
        return Ok(());
    }
    let detail = "There is no such item of this key's owner; check the id, or use a key of the owner that made it.";
    Err(Problem::new(Code::NotFound, detail))
}

async fn change<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(item): One<ItemId>,
    MaybeOnce(once): MaybeOnce,
    Json(body): Json<Change>,
) -> Result<Response, Problem> {
    check_owner(&server, &caller, item).await?;
    let command = body.command(item);
    reply(&server, server.backend.execute(command, once).await, StatusCode::OK)
}

async fn restock<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(item): One<ItemId>,
    Once(once): Once,
    Json(Restock { quantity }): Json<Restock>,
) -> Result<Response, Problem> {
    check_owner(&server, &caller, item).await?;
    let command = Command::Restock { item, quantity: quantity.count() };
    reply(&server, server.backend.execute(command, Some(once)).await, StatusCode::OK)
}

async fn grab<B: Backend>(
    State(server): State<Shared<B>>,
    One(item): One<ItemId>,
    MaybeOnce(once): MaybeOnce,
    Json(Grab { user, quantity }): Json<Grab>,
) -> Result<Response, Problem> {
    if once.is_none() {
        let view = server.backend.item(item).await.map_err(|error| from_engine(&error))?;
        if view.ok_or_else(Problem::not_found)?.terms.per_user_limit != Some(1) {
            return Err(key_required());
        }
    }
    let command = Command::GrabItem { item, user, quantity: quantity.count() };
    reply(&server, server.backend.execute(command, once).await, StatusCode::OK)
}

async fn claim<B: Backend>(
    State(server): State<Shared<B>>,
    One(hold): One<HoldId>,
    Json(Claim { user, pay_with }): Json<Claim>,
) -> Result<Response, Problem> {
    if let Some(gateway) = pay_with {
        return begin(&server, PaymentFor::Hold(hold), user, &gateway.0).await;
    }
    let command = Command::ClaimHold { hold, user };
    reply(&server, server.backend.execute(command, None).await, StatusCode::OK)
}

async fn release<B: Backend>(
    State(server): State<Shared<B>>,
    One(hold): One<HoldId>,
    Json(ByUser { user }): Json<ByUser>,
) -> Result<Response, Problem> {
    let command = Command::ReleaseHold { hold, user };
    reply(&server, server.backend.execute(command, None).await, StatusCode::OK)
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<ItemId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let view = server.backend.item(id).await.map_err(|error| from_engine(&error))?;
    let view = view.filter(|view| caller.sees_merchant(&view.terms.merchant));
    Ok(json(&ItemJson::new(&view.ok_or_else(Problem::not_found)?, server.currency)))
}

async fn find<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&["category", "merchant", "kind", "variant_of", "on_sale"])?;
    let filter = ItemFilter {
        category: params.get("category").map(str::to_owned),
        merchant: params.parse("merchant", UserId::new)?,
        kind: params.parse("kind", |name| {
            let found = ItemKind::ALL.into_iter().find(|kind| kind.name() == name);
            found.ok_or("must be physical, virtual or code")
        })?,
        variant_of: params.parse("variant_of", |id| id.parse::<ItemId>().map_err(|_| "is no item's id"))?,
        on_sale: params.parse("on_sale", |word| word.parse::<bool>().map_err(|_| "must be true or false"))?,
    };
    if !caller.sees_all_merchants() && !filter.merchant.as_ref().is_some_and(|it| caller.sees_merchant(it)) {
        let own: Vec<_> = caller.merchants().iter().map(|id| format!("?merchant={id}")).collect();
        let detail = format!("This key reads the items of its own merchants only; ask with {}.", own.join(" or "));
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let rows = server.backend.items(&filter, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("items", &rows, |view| ItemJson::new(view, server.currency)))
}

async fn hold<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<HoldId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let view = server.backend.hold(id).await.map_err(|error| from_engine(&error))?;
    Ok(json(&HoldJson::new(&view.ok_or_else(Problem::not_found)?, server.currency)))
}
