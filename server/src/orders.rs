//! Orders: told, shipped, delivered and sent back.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::codes;
use crate::door::Class;
use crate::extract::{Content, Empty, Json, MaybeOnce, NoParams, Once, One};
use crate::fields::Text;
use crate::problem::{Code, Problem};
use crate::reply::{from_engine, json, reply};
use crate::views::OrderWithCodes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, OnceKey, Reply};
use hongbao_engine::command::{Command, OrderView, Outcome, Refusal};
use hongbao_engine::order::OrderStep;
use hongbao_engine::types::{OrderId, UserId};
use serde::Deserialize;

/// Adds the routes of orders.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .get("/v1/orders/{id}", Class::Ordinary, show::<B>)
        .post("/v1/orders/{id}/ship", Class::Settling, ship::<B>)
        .post("/v1/orders/{id}/deliver", Class::Settling, deliver::<B>)
        .post("/v1/orders/{id}/return", Class::Settling, send_back::<B>)
        .post("/v1/orders/{id}/accept-return", Class::Settling, accept_return::<B>)
        .post("/v1/orders/{id}/refuse-return", Class::Settling, refuse_return::<B>)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ship {
    carrier: Text<1, 200>,
    tracking: Text<1, 200>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendBack {
    user: UserId,
    reason: Text<1, 200>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptReturn {
    restock: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefuseReturn {
    reason: Text<1, 200>,
}

impl Content for Ship {}
impl Content for SendBack {}
impl Content for AcceptReturn {}
impl Content for RefuseReturn {}

async fn order<B: Backend>(server: &Shared<B>, id: OrderId) -> Result<OrderView, Problem> {
    let order = server.backend.order(id).await.map_err(|error| from_engine(&error))?;
    order.ok_or_else(Problem::not_found)
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<OrderId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let order = order(&server, id).await?;
    if !caller.sees_merchant(&order.merchant) {
        return Err(Problem::not_found());
    }
    let codes = codes::of_order(&server, &caller, &order).await?;
    Ok(json(&OrderWithCodes::new(&order, codes.as_deref(), server.currency)))
}

async fn step<B: Backend>(
    server: &Shared<B>,
    order: OrderId,
    step: OrderStep,
    once: Option<OnceKey>,
) -> Result<Response, Problem> {
    let command = Command::StepOrder { order, step: Box::new(step) };
    let result = server.backend.execute(command, once).await;
    if let Ok(Reply { outcome: Outcome::Refused(Refusal::InsufficientFunds), .. }) = result {
        let detail = "The merchant has less available than was paid; repeat this once more of its sales are settled.";
        return Err(Problem::new(Code::InsufficientFunds, detail));
    }
    reply(server, result, StatusCode::OK)
}

/// The same for what only the order's own merchant does; to another there is no such order.
async fn merchants_step<B: Backend>(
    server: &Shared<B>,
    caller: &Caller,
    id: OrderId,
    done: OrderStep,
    once: Option<OnceKey>,
) -> Result<Response, Problem> {
    if !caller.is_merchant(&order(server, id).await?.merchant) {
        return Err(Problem::not_found());
    }
    step(server, id, done, once).await
}

async fn ship<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<OrderId>,
    MaybeOnce(once): MaybeOnce,
    Json(Ship { carrier, tracking }): Json<Ship>,
) -> Result<Response, Problem> {
    let done = OrderStep::Ship { carrier: carrier.0, tracking: tracking.0 };
    merchants_step(&server, &caller, id, done, once).await
}

async fn deliver<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<OrderId>,
    MaybeOnce(once): MaybeOnce,
    Json(Empty {}): Json<Empty>,
) -> Result<Response, Problem> {
    merchants_step(&server, &caller, id, OrderStep::Deliver, once).await
}

async fn send_back<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<OrderId>,
    Once(once): Once,
    Json(SendBack { user, reason }): Json<SendBack>,
) -> Result<Response, Problem> {
    step(&server, id, OrderStep::Return { user, reason: reason.0 }, Some(once)).await
}

async fn accept_return<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<OrderId>,
    Once(once): Once,
    Json(AcceptReturn { restock }): Json<AcceptReturn>,
) -> Result<Response, Problem> {
    merchants_step(&server, &caller, id, OrderStep::AcceptReturn { restock }, Some(once)).await
}

async fn refuse_return<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<OrderId>,
    MaybeOnce(once): MaybeOnce,
    Json(RefuseReturn { reason }): Json<RefuseReturn>,
) -> Result<Response, Problem> {
    merchants_step(&server, &caller, id, OrderStep::RefuseReturn { reason: reason.0 }, once).await
}
