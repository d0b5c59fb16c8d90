//! Gift envelopes: units of an item for whoever comes first, one for each.
//!
//! **Invariant:** a gift envelope's token is told only to those who act for its giver.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::config::Currency;
use crate::door::Class;
use crate::envelopes::ByUser;
use crate::extract::{Content, Json, NoParams, Once, One, Params};
use crate::fields::{Int, Seconds, Text, Visible, id};
use crate::gifts::{Pay, a_day, no_unit, read_token, shown, three_days, two_weeks};
use crate::problem::{Code, Problem};
use crate::reply::{created, from_engine, from_refusal, json, list, mark_replayed, reply};
use crate::views::{At, GiftJson, Shown};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, OnceKey, Reply};
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::gift::GiftState;
use hongbao_engine::gift_envelope::{
    EXPIRES_IN_S, GiftEnvelopeState, GiftEnvelopeStep, GiftEnvelopeView, NewGiftEnvelope, UNITS_MAX,
};
use hongbao_engine::types::{Amount, GiftEnvelopeId, GiftId, ItemId, UserId};
use serde::{Deserialize, Serialize};

/// Adds the routes of gift envelopes.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/gift-envelopes", Class::Ordinary, create::<B>)
        .get("/v1/gift-envelopes/{id}", Class::Ordinary, show::<B>)
        .post("/v1/gift-envelopes/{id}/pay", Class::Settling, pay::<B>)
        .post("/v1/gift-envelopes/{id}/grab", Class::Ordinary, grab::<B>)
        .post("/v1/gift-envelopes/{id}/cancel", Class::Settling, cancel::<B>)
        .get("/v1/users/{user}/gift-envelopes", Class::Ordinary, of_user::<B>)
}

/// A gift envelope to be made, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    giver: UserId,
    #[serde(deserialize_with = "id")]
    item: ItemId,
    units: Int<1, { UNITS_MAX as u64 }>,
    #[serde(default)]
    payer: Option<UserId>,
    #[serde(default)]
    message: Text<0, 200>,
    #[serde(default)]
    with_token: bool,
    #[serde(default = "a_day")]
    pay_within_s: Seconds,
    #[serde(default = "usual_expiry")]
    expires_in_s: Seconds,
    #[serde(default = "three_days")]
    accept_within_s: Seconds,
    #[serde(default = "two_weeks")]
    ship_within_s: Seconds,
    #[serde(default)]
    reference: Option<Visible>,
}

fn usual_expiry() -> Seconds {
    Seconds::new(EXPIRES_IN_S)
}

impl Content for Create {}

impl Create {
    fn command(self, caller: &Caller) -> Command {
        Command::CreateGiftEnvelope(Box::new(NewGiftEnvelope {
            owner: caller.owner().to_owned(),
            payer: self.payer.unwrap_or_else(|| self.giver.clone()),
            giver: self.giver,
            item: self.item,
            units: self.units.count(),
            message: self.message.0,
            has_token: self.with_token,
            pay_within_s: self.pay_within_s.get(),
            expires_in_s: self.expires_in_s.get(),
            accept_within_s: self.accept_within_s.get(),
            ship_within_s: self.ship_within_s.get(),
            reference: self.reference.map(|text| caller.reference(text)),
        }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Grab {
    user: UserId,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    mutual: bool,
}

impl Content for Grab {}

/// A gift envelope as it is told.
#[derive(Serialize)]
struct GiftEnvelopeJson<'a> {
    id: Shown<GiftEnvelopeId>,
    state: GiftEnvelopeState,
    giver: &'a UserId,
    payer: &'a UserId,
    item: Shown<ItemId>,
    merchant: &'a UserId,
    units: usize,
    amount: Amount,
    currency: Currency,
    message: &'a str,
    remaining: u32,
    grabbed: u32,
    created_at: At,
    pay_by: Option<At>,
    expires_at: Option<At>,
    accept_within_s: u64,
    reference: Option<&'a str>,
    gifts: Vec<UnitJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// One of its units.
#[derive(Serialize)]
struct UnitJson<'a> {
    gift: Shown<GiftId>,
    recipient: Option<&'a UserId>,
    state: GiftState,
}

impl<'a> GiftEnvelopeJson<'a> {
    fn new(view: &'a GiftEnvelopeView, caller: &Caller, currency: Currency) -> GiftEnvelopeJson<'a> {
        let GiftEnvelopeView { envelope, gifts } = view;
        let first = &gifts[0];
        // What nobody has tells until when it can be grabbed.
        let left = gifts.iter().find(|gift| gift.recipient.is_none());
        let is_told = caller.acts_for_users()
            && matches!(view.state(), GiftEnvelopeState::AwaitingPayment | GiftEnvelopeState::Open);
        GiftEnvelopeJson {
            id: Shown(envelope.id),
            state: view.state(),
            giver: &envelope.giver,
            payer: &envelope.payer,
            item: Shown(envelope.item),
            merchant: &envelope.merchant,
            units: gifts.len(),
            amount: envelope.amount,
            currency,
            message: &first.message,
            remaining: view.remaining(),
            grabbed: view.grabbed(),
            created_at: At(envelope.created_at),
            pay_by: first.pay_by.map(At),
            expires_at: left.and_then(|gift| gift.accept_by).map(At),
            accept_within_s: envelope.accept_within_s,
            reference: envelope.reference.as_deref(),
            gifts: gifts
                .iter()
                .map(|gift| UnitJson { gift: Shown(gift.id), recipient: gift.recipient.as_ref(), state: gift.state })
                .collect(),
            token: envelope.token.filter(|_| is_told).map(|token| token.to_string()),
        }
    }
}

/// What a grab comes to.
#[derive(Serialize)]
struct GrabbedJson<'a> {
    outcome: &'static str,
    gift: GiftJson<'a>,
    replayed: bool,
}

/// Tells a command's outcome: the envelope as it stands now.
async fn tell<B: Backend>(
    server: &Shared<B>,
    caller: &Caller,
    command: Command,
    once: OnceKey,
    made: StatusCode,
) -> Result<Response, Problem> {
    let Reply { outcome, replayed } =
        server.backend.execute(command, Some(once)).await.map_err(|error| from_engine(&error))?;
    let envelope = match outcome {
        Outcome::GiftEnvelope(envelope) => envelope,
        Outcome::Refused(refusal) => return Err(from_refusal(refusal)),
        outcome => {
            let why = no_unit(&outcome, "The giver holds, has given and has bought")
                .unwrap_or_else(|| format!("{outcome:?}"));
            return Err(Problem::new(Code::WrongState, why));
        }
    };
    let view = gift_envelope(server, envelope.id).await?;
    let shown = GiftEnvelopeJson::new(&view, caller, server.currency);
    let mut response = if made == StatusCode::CREATED { created(&shown) } else { json(&shown) };
    if replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

async fn gift_envelope<B: Backend>(server: &Shared<B>, id: GiftEnvelopeId) -> Result<GiftEnvelopeView, Problem> {
    let view = server.backend.gift_envelope(id).await.map_err(|error| from_engine(&error))?;
    view.ok_or_else(Problem::not_found)
}

async fn create<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Once(once): Once,
    Json(body): Json<Create>,
) -> Result<Response, Problem> {
    let command = body.command(&caller);
    tell(&server, &caller, command, once, StatusCode::CREATED).await
}

async fn pay<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(envelope): One<GiftEnvelopeId>,
    Once(once): Once,
    Json(Pay { payer }): Json<Pay>,
) -> Result<Response, Problem> {
    let step = Box::new(GiftEnvelopeStep::Pay { payer });
    tell(&server, &caller, Command::StepGiftEnvelope { envelope, step }, once, StatusCode::OK).await
}

async fn cancel<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(envelope): One<GiftEnvelopeId>,
    Once(once): Once,
    Json(ByUser { user }): Json<ByUser>,
) -> Result<Response, Problem> {
    let step = Box::new(GiftEnvelopeStep::Cancel { user });
    tell(&server, &caller, Command::StepGiftEnvelope { envelope, step }, once, StatusCode::OK).await
}

async fn grab<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(envelope): One<GiftEnvelopeId>,
    Json(Grab { user, token, mutual }): Json<Grab>,
) -> Result<Response, Problem> {
    let (token, must_follow) = (read_token(token)?, server.may_give.must_follow(mutual));
    let command = Command::GrabGift { envelope, user, token, must_follow };
    // Who has one is told so again: no answer is kept for it.
    let decided = server.backend.execute(command, None).await;
    match decided {
        Ok(Reply { outcome: Outcome::Gift(gift), replayed }) => {
            Ok(json(&GrabbedJson { outcome: "offered", gift: shown(&gift, &caller, &server), replayed }))
        }
        decided => reply(&server, decided, StatusCode::OK),
    }
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GiftEnvelopeId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let view = gift_envelope(&server, id).await?;
    if !caller.sees_owner(&view.envelope.owner) {
        return Err(Problem::not_found());
    }
    Ok(json(&GiftEnvelopeJson::new(&view, &caller, server.currency)))
}

async fn of_user<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(user): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    let rows = server.backend.gift_envelopes(&user, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("gift_envelopes", &rows, |view| GiftEnvelopeJson::new(view, &caller, server.currency)))
}
