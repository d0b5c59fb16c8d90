//! Wallets: money in and out, balances and movements.
//!
//! **Invariant:** money moves only under an idempotency key.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::extract::{Content, Json, NoParams, Once, One, Params};
use crate::fields::{Money, Visible};
use crate::problem::Problem;
use crate::reply::{from_engine, json, list, reply};
use crate::views::{EntryJson, WalletJson};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, Reference, Transfer};
use hongbao_engine::types::UserId;
use serde::Deserialize;

/// Adds the routes of wallets.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/wallets/{user}/deposits", Class::Ordinary, deposit::<B>)
        .post("/v1/wallets/{user}/withdrawals", Class::Ordinary, withdraw::<B>)
        .get("/v1/wallets/{user}", Class::Ordinary, show::<B>)
        .get("/v1/wallets/{user}/entries", Class::Ordinary, entries::<B>)
}

/// Money in or out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    amount: Money,
    #[serde(default)]
    reference: Option<Visible>,
}

impl Content for Moved {}

impl Moved {
    /// As the engine's, on the account of `user`.
    pub fn transfer(self, user: UserId, caller: &Caller) -> Transfer {
        Transfer { user, amount: self.amount.amount(), reference: self.reference.map(|text| caller.reference(text)) }
    }
}

impl Caller {
    /// `text` as this caller's own number.
    pub fn reference(&self, text: Visible) -> Reference {
        Reference { owner: self.owner().to_owned(), text: text.0 }
    }
}

async fn deposit<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(user): One<UserId>,
    Once(once): Once,
    Json(body): Json<Moved>,
) -> Result<Response, Problem> {
    let command = Command::Deposit(body.transfer(user, &caller));
    reply(&server, server.backend.execute(command, Some(once)).await, StatusCode::CREATED)
}

async fn withdraw<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(user): One<UserId>,
    Once(once): Once,
    Json(body): Json<Moved>,
) -> Result<Response, Problem> {
    let command = Command::Withdraw(body.transfer(user, &caller));
    reply(&server, server.backend.execute(command, Some(once)).await, StatusCode::CREATED)
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    One(user): One<UserId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let view = server.backend.wallet(&user).await.map_err(|error| from_engine(&error))?;
    Ok(json(&WalletJson::new(&view, server.currency)))
}

async fn entries<B: Backend>(
    State(server): State<Shared<B>>,
    One(user): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    let rows = server.backend.entries(&user, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("entries", &rows, EntryJson::new))
}
