//! Codes: added to an item, and told to whoever was handed them.
//!
//! **Invariant:** a code is told in two answers only, to those who act for users: with the order that
//! paid for it, and of a gift to its recipient. A code that nobody was handed is told to nobody.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::extract::{Content, Json, Once, One, Params};
use crate::fields::Visible;
use crate::gifts::gift;
use crate::problem::{Code as ProblemCode, Problem};
use crate::reply::{from_engine, json, reply};
use crate::sales::check_owner;
use crate::views::CodesJson;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::Backend;
use hongbao_engine::code::{CODE_CHARS_MAX, CODES_MAX, Code, HandedTo};
use hongbao_engine::command::{Command, ItemKind, OrderView};
use hongbao_engine::types::{GiftId, ItemId, UserId};
use serde::Deserialize;

/// Adds the routes of codes.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.post("/v1/items/{id}/codes", Class::Ordinary, add::<B>).get(
        "/v1/gifts/{id}/codes",
        Class::Ordinary,
        of_gift::<B>,
    )
}

/// Codes to be added, as they are sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    codes: Vec<Visible<CODE_CHARS_MAX>>,
}

impl Content for Add {
    fn check(&self) -> Result<(), Problem> {
        if (1..=CODES_MAX).contains(&self.codes.len()) {
            return Ok(());
        }
        Err(Problem::field("codes", format!("must hold 1 to {CODES_MAX} codes")))
    }
}

async fn add<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(item): One<ItemId>,
    Once(once): Once,
    Json(Add { codes }): Json<Add>,
) -> Result<Response, Problem> {
    check_owner(&server, &caller, item).await?;
    let codes = codes.into_iter().map(|code| Code::new(code.0)).collect();
    reply(&server, server.backend.execute(Command::AddCodes { item, codes }, Some(once)).await, StatusCode::OK)
}

async fn of_gift<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<GiftId>,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["user"])?;
    let user = params.parse("user", UserId::new)?;
    let user = user.ok_or_else(|| Problem::field("user", "must name the gift's recipient: ?user=bob"))?;
    let gift = gift(&server, id).await?;
    // Whoever gives must not get at what was given, so only who has accepted is told.
    if gift.accepted_at.is_none() || gift.recipient.as_ref() != Some(&user) {
        let detail = "Codes of a gift are told for the user who has accepted it; accept it first, as that user.";
        return Err(Problem::new(ProblemCode::Forbidden, detail));
    }
    let codes = server.backend.codes(HandedTo::Gift(id)).await.map_err(|error| from_engine(&error))?;
    Ok(json(&CodesJson::new(&codes)))
}

/// The codes of an order, if its units are any and this caller may see them.
///
/// # Errors
/// A failure of the engine.
pub(crate) async fn of_order<B: Backend>(
    server: &Shared<B>,
    caller: &Caller,
    order: &OrderView,
) -> Result<Option<Vec<Code>>, Problem> {
    if !caller.acts_for_users() {
        return Ok(None);
    }
    let item = server.backend.item(order.item).await.map_err(|error| from_engine(&error))?;
    if item.is_none_or(|item| item.terms.origin.kind != ItemKind::Code) {
        return Ok(None);
    }
    let codes = server.backend.codes(HandedTo::Order(order.id)).await.map_err(|error| from_engine(&error))?;
    Ok(Some(codes))
}
