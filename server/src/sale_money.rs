//! What merchants have of their sales: balances, statements, withdrawals.
//!
//! **Invariant:** a merchant's key sees and moves no other merchant's money; to it there is
//! no such merchant.

use crate::access::{ADMIN, TREASURER, VIEWER};
use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::config::Currency;
use crate::door::Class;
use crate::extract::{Json, NoParams, Once, One, Params, hex, read_time};
use crate::problem::{Code, Problem};
use crate::reply::{from_engine, json, reply};
use crate::views::{At, Shown};
use crate::wallets::Moved;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, Reply};
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::sale::{MerchantBalance, MerchantEntry, MerchantEntryKind, SaleOf, Statement, StatementTime};
use hongbao_engine::types::{Amount, GiftId, OrderId, UserId};
use serde::Serialize;

/// Adds the routes of merchants' money.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .get("/v1/merchants/{id}/balance", Class::Ordinary, balance::<B>)
        .get("/v1/merchants/{id}/statement", Class::Ordinary, statement::<B>)
        .post("/v1/merchants/{id}/withdrawals", Class::Settling, withdraw::<B>)
}

/// A merchant's money.
#[derive(Serialize)]
pub struct SalesJson<'a> {
    merchant: &'a UserId,
    currency: Currency,
    pending: Amount,
    available: Amount,
}

impl<'a> SalesJson<'a> {
    /// `balance` of `merchant`, shown.
    pub fn new(merchant: &'a UserId, balance: MerchantBalance, currency: Currency) -> Self {
        let MerchantBalance { pending, available } = balance;
        SalesJson { merchant, currency, pending, available }
    }
}

#[derive(Serialize)]
struct StatementJson<'a> {
    merchant: &'a UserId,
    currency: Currency,
    opening: MerchantBalance,
    entries: Vec<EntryJson<'a>>,
    closing: MerchantBalance,
    next_cursor: Option<String>,
}

/// A movement of a merchant's money.
#[derive(Serialize)]
struct EntryJson<'a> {
    at: At,
    kind: &'static str,
    amount: Amount,
    balance_after: MerchantBalance,
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Shown<OrderId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gift: Option<Shown<GiftId>>,
    /// What of a sale is the platform's once it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    commission: Option<Amount>,
    /// Out of what a refund came.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

impl<'a> EntryJson<'a> {
    fn new(entry: &'a MerchantEntry) -> Self {
        let mut json = EntryJson {
            at: At(entry.at),
            kind: "",
            amount: entry.amount,
            balance_after: entry.balance_after,
            order: None,
            gift: None,
            commission: None,
            from: None,
            due: None,
            reference: None,
        };
        match &entry.kind {
            MerchantEntryKind::Sale { of, commission, due } => {
                json.kind = "sale";
                json.of(*of);
                (json.commission, json.due) = (Some(*commission), Some(At(*due)));
            }
            MerchantEntryKind::Commission { due } => (json.kind, json.due) = ("commission", Some(At(*due))),
            MerchantEntryKind::Settled { due } => (json.kind, json.due) = ("settled", Some(At(*due))),
            MerchantEntryKind::Refund { of, commission, pending_until } => {
                json.kind = "refund";
                json.of(*of);
                json.commission = Some(*commission);
                json.from = Some(if pending_until.is_some() { "pending" } else { "available" });
                json.due = pending_until.map(At);
            }
            MerchantEntryKind::Withdrawal(reference) => {
                (json.kind, json.reference) = ("withdrawal", reference.as_deref());
            }
        }
        json
    }

    fn of(&mut self, of: SaleOf) {
        match of {
            SaleOf::Order(order) => self.order = Some(Shown(order)),
            SaleOf::Gift(gift) => self.gift = Some(Shown(gift)),
        }
    }
}

impl Caller {
    /// 404 for who does not see the money of `merchant`.
    fn check_money_of(&self, merchant: &UserId) -> Result<(), Problem> {
        let is_seen = self.roles().any_of(ADMIN.or(TREASURER).or(VIEWER)) || self.merchants().contains(merchant);
        if is_seen { Ok(()) } else { Err(Problem::not_found()) }
    }
}

async fn balance<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<UserId>,
    _: NoParams,
) -> Result<Response, Problem> {
    caller.check_money_of(&id)?;
    let balance = server.backend.merchant_balance(&id).await.map_err(|error| from_engine(&error))?;
    Ok(json(&SalesJson::new(&id, balance.ok_or_else(Problem::not_found)?, server.currency)))
}

async fn statement<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&["from", "to"])?;
    let time = StatementTime { from: params.parse("from", read_time)?, to: params.parse("to", read_time)? };
    if let (Some(from), Some(to)) = (time.from, time.to)
        && to < from
    {
        return Err(Problem::field("to", "must not be before from"));
    }
    caller.check_money_of(&id)?;
    let statement = server.backend.statement(&id, time, &page).await.map_err(|error| from_engine(&error))?;
    let Statement { opening, entries, closing } = statement.ok_or_else(Problem::not_found)?;
    Ok(json(&StatementJson {
        merchant: &id,
        currency: server.currency,
        opening,
        entries: entries.rows.iter().map(EntryJson::new).collect(),
        closing,
        next_cursor: entries.next.as_deref().map(hex),
    }))
}

async fn withdraw<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<UserId>,
    Once(once): Once,
    Json(body): Json<Moved>,
) -> Result<Response, Problem> {
    let command = Command::WithdrawSales(body.transfer(id, &caller));
    let result = server.backend.execute(command, Some(once)).await;
    if let Ok(Reply { outcome: Outcome::Refused(Refusal::InsufficientFunds), .. }) = result {
        let detail =
            "The merchant has less than that available; take less, or wait until more of its sales are settled.";
        return Err(Problem::new(Code::InsufficientFunds, detail));
    }
    reply(&server, result, StatusCode::CREATED)
}
