//! Gifts: made, paid, accepted or not, shipped.
//!
//! **Invariant:** what is told of a gift has no address, and its token is told only to
//! those who act for its giver.

use crate::addresses::SentAddress;
use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::envelopes::{ByUser, Redact};
use crate::extract::{Content, Empty, Json, MaybeOnce, NoParams, Once, One, Params};
use crate::fields::{JsonObject, Seconds, Text, Visible, id};
use crate::payments::begin;
use crate::problem::{Code, Problem};
use crate::relations::MayGive;
use crate::reply::{from_engine, json, list, reply};
use crate::views::{At, GiftJson};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, OnceKey, Reply};
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::gift::{
    ACCEPT_WITHIN_S, Acceptance, Gift, GiftRole, GiftStep, GiftToken, NewGift, PAY_WITHIN_S, SHIP_WITHIN_S,
};
use hongbao_engine::payment::PaymentFor;
use hongbao_engine::types::{GiftId, ItemId, UserId};
use serde::Deserialize;

/// Adds the routes of gifts.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/gifts", Class::Ordinary, create::<B>)
        .get("/v1/gifts/{id}", Class::Ordinary, show::<B>)
        .post("/v1/gifts/{id}/pay", Class::Settling, pay::<B>)
        .post("/v1/gifts/{id}/payment", Class::Settling, pay_outside::<B>)
        .post("/v1/gifts/{id}/accept", Class::Settling, accept::<B>)
        .post("/v1/gifts/{id}/decline", Class::Settling, decline::<B>)
        .post("/v1/gifts/{id}/cancel", Class::Settling, cancel::<B>)
        .post("/v1/gifts/{id}/thank", Class::Ordinary, thank::<B>)
        .post("/v1/gifts/{id}/ship", Class::Settling, ship::<B>)
        .post("/v1/gifts/{id}/deliver", Class::Settling, deliver::<B>)
        .post("/v1/gifts/{id}/fail", Class::Settling, fail::<B>)
        .post("/v1/gifts/{id}/redact", Class::Settling, redact::<B>)
        .get("/v1/users/{user}/gifts", Class::Ordinary, of_user::<B>)
}

/// A gift to be made, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    giver: UserId,
    #[serde(default)]
    recipient: Option<UserId>,
    #[serde(deserialize_with = "id")]
    item: ItemId,
    #[serde(default)]
    payer: Option<UserId>,
    #[serde(default)]
    message: Text<0, 200>,
    #[serde(default = "a_day")]
    pay_within_s: Seconds,
    #[serde(default = "three_days")]
    accept_within_s: Seconds,
    #[serde(default = "two_weeks")]
    ship_within_s: Seconds,
    #[serde(default)]
    mutual: bool,
    #[serde(default)]
    reference: Option<Visible>,
    #[serde(default)]
    metadata: JsonObject,
}

pub(crate) fn a_day() -> Seconds {
    Seconds::new(PAY_WITHIN_S)
}

pub(crate) fn three_days() -> Seconds {
    Seconds::new(ACCEPT_WITHIN_S)
}

pub(crate) fn two_weeks() -> Seconds {
    Seconds::new(SHIP_WITHIN_S)
}

impl Content for Create {}

impl Create {
    fn command(self, caller: &Caller, may_give: MayGive) -> Command {
        Command::CreateGift(Box::new(NewGift {
            owner: caller.owner().to_owned(),
            payer: self.payer.unwrap_or_else(|| self.giver.clone()),
            giver: self.giver,
            recipient: self.recipient,
            item: self.item,
            message: self.message.0,
            pay_within_s: self.pay_within_s.get(),
            accept_within_s: self.accept_within_s.get(),
            ship_within_s: self.ship_within_s.get(),
            reference: self.reference.map(|text| caller.reference(text)),
            metadata: self.metadata.0,
            must_follow: may_give.must_follow(self.mutual),
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pay {
    pub(crate) payer: UserId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayOutside {
    payer: UserId,
    pay_with: Text<1, 32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accept {
    user: UserId,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    address: Option<SentAddress>,
    #[serde(default)]
    mutual: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decline {
    user: UserId,
    #[serde(default)]
    reason: Option<Text<1, 200>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Thank {
    user: UserId,
    note: Text<1, 200>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ship {
    carrier: Text<1, 200>,
    tracking: Text<1, 200>,
    #[serde(default)]
    address_version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fail {
    reason: Text<1, 200>,
}

impl Content for Pay {}
impl Content for PayOutside {}
impl Content for Accept {}
impl Content for Decline {}
impl Content for Thank {}
impl Content for Ship {}
impl Content for Fail {}

async fn create<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Once(once): Once,
    Json(body): Json<Create>,
) -> Result<Response, Problem> {
    let decided = server.backend.execute(body.command(&caller, server.may_give), Some(once)).await;
    if let Ok(Reply { outcome, .. }) = &decided
        && let Some(why) = no_unit(outcome, "The giver holds, has given and has bought")
    {
        return Err(Problem::new(Code::WrongState, why));
    }
    reply(&server, decided, StatusCode::CREATED)
}

/// Why there was no unit for what was to be made; nothing was made then. `has`: what somebody at the limit does.
pub(crate) fn no_unit(outcome: &Outcome, has: &str) -> Option<String> {
    Some(match outcome {
        Outcome::SoldOut => "The item is sold out.".to_owned(),
        Outcome::LimitReached => format!("{has} as many of this item as one user may."),
        Outcome::NotOpen { opens_at } => format!("The sale opens at {}.", At(*opens_at)),
        Outcome::Ended => "The sale is over.".to_owned(),
        _ => return None,
    })
}

pub(crate) async fn step<B: Backend>(
    server: &Shared<B>,
    gift: GiftId,
    step: GiftStep,
    once: Option<OnceKey>,
) -> Result<Response, Problem> {
    let command = Command::StepGift { gift, step: Box::new(step) };
    reply(server, server.backend.execute(command, once).await, StatusCode::OK)
}

/// The same for what only the gift's own merchant does; to another there is no such gift.
async fn merchants_step<B: Backend>(
    server: &Shared<B>,
    caller: &Caller,
    id: GiftId,
    done: GiftStep,
    once: Option<OnceKey>,
) -> Result<Response, Problem> {
    let gift = gift(server, id).await?;
    if !caller.is_merchant(&gift.merchant) {
        return Err(Problem::not_found());
    }
    step(server, id, done, once).await
}

pub(crate) async fn gift<B: Backend>(server: &Shared<B>, id: GiftId) -> Result<Gift, Problem> {
    let gift = server.backend.gift(id).await.map_err(|error| from_engine(&error))?;
    gift.ok_or_else(Problem::not_found)
}

async fn pay<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<GiftId>,
    Once(once): Once,
    Json(Pay { payer }): Json<Pay>,
) -> Result<Response, Problem> {
    step(&server, id, GiftStep::Pay { payer }, Some(once)).await
}

async fn pay_outside<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<GiftId>,
    Json(PayOutside { payer, pay_with }): Json<PayOutside>,
) -> Result<Response, Problem> {
    begin(&server, PaymentFor::Gift(id), payer, &pay_with.0).await
}

async fn accept<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<GiftId>,
    MaybeOnce(once): MaybeOnce,
    Json(Accept { user, token, address, mutual }): Json<Accept>,
) -> Result<Response, Problem> {
    let token = read_token(token)?;
    let must_follow = server.may_give.must_follow(mutual);
    let done = match address {
        address if must_follow => {
            let address = address.map(|SentAddress(address)| address);
            GiftStep::AcceptWith(Box::new(Acceptance { user, token, address, must_follow }))
        }
        Some(SentAddress(address)) => GiftStep::AcceptTo { user, token, address: Box::new(address) },
        None => GiftStep::Accept { user, token },
    };
    step(&server, id, done, once).await
}

/// A token as it is sent.
///
/// # Errors
/// 422 for what can be none.
pub(crate) fn read_token(token: Option<String>) -> Result<Option<GiftToken>, Problem> {
    let token = token.map(|text| text.parse::<GiftToken>()).transpose();
    token.map_err(|_| Problem::field("token", "must be the gift's, 32 hexadecimal digits"))
}

async fn decline<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<GiftId>,
    Once(once): Once,
    Json(Decline { user, reason }): Json<Decline>,
) -> Result<Response, Problem> {
    step(&server, id, GiftStep::Decline { user, reason: reason.map(|text| text.0) }, Some(once)).await
}

async fn cancel<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<GiftId>,
    Once(once): Once,
    Json(ByUser { user }): Json<ByUser>,
) -> Result<Response, Problem> {
    step(&server, id, GiftStep::Cancel { user }, Some(once)).await
}

async fn thank<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<GiftId>,
    MaybeOnce(once): MaybeOnce,
    Json(Thank { user, note }): Json<Thank>,
) -> Result<Response, Problem> {
    step(&server, id, GiftStep::Thank { user, note: note.0 }, once).await
}

async fn ship<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GiftId>,
    Once(once): Once,
    Json(Ship { carrier, tracking, address_version }): Json<Ship>,
) -> Result<Response, Problem> {
    let (carrier, tracking) = (carrier.0, tracking.0);
    let done = match address_version {
        Some(address_version) => GiftStep::ShipTo { carrier, tracking, address_version },
        None => GiftStep::Ship { carrier, tracking },
    };
    merchants_step(&server, &caller, id, done, Some(once)).await
}

async fn deliver<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GiftId>,
    MaybeOnce(once): MaybeOnce,
    Json(Empty {}): Json<Empty>,
) -> Result<Response, Problem> {
    merchants_step(&server, &caller, id, GiftStep::Deliver, once).await
}

async fn fail<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GiftId>,
    Once(once): Once,
    Json(Fail { reason }): Json<Fail>,
) -> Result<Response, Problem> {
    merchants_step(&server, &caller, id, GiftStep::Fail { reason: reason.0 }, Some(once)).await
}

async fn redact<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(gift): One<GiftId>,
    Json(Redact { metadata }): Json<Redact>,
) -> Result<Response, Problem> {
    let result = server.backend.execute(Command::RedactGift { gift, metadata }, None).await;
    if let Ok(Reply { outcome: Outcome::Gift(gift), .. }) = &result {
        tracing::info!(gift = %gift.id, by = caller.owner(), metadata, "a gift's texts are taken back");
    }
    reply(&server, result, StatusCode::OK)
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GiftId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let gift = gift(&server, id).await?;
    if !caller.sees_owner(&gift.owner) && !caller.merchants().contains(&gift.merchant) {
        return Err(Problem::not_found());
    }
    Ok(json(&shown(&gift, &caller, &server)))
}

async fn of_user<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(user): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&["role"])?;
    let role = params.parse("role", |text| match text {
        "given" => Ok(GiftRole::Given),
        "received" => Ok(GiftRole::Received),
        _ => Err("must be given or received"),
    })?;
    let role = role.unwrap_or(GiftRole::Received);
    let rows = server.backend.gifts(&user, role, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("gifts", &rows, |gift| shown(gift, &caller, &server)))
}

/// A gift as this caller may see it.
pub(crate) fn shown<'a, B>(gift: &'a Gift, caller: &Caller, server: &Shared<B>) -> GiftJson<'a> {
    match caller.acts_for_users() {
        true => GiftJson::with_token(gift, server.currency),
        false => GiftJson::new(gift, server.currency),
    }
}
