//! From what the engine answers to what the caller reads: one match over every
//! outcome, one over every error.
//!
//! **Invariant:** an outcome has one JSON shape, whether it answers a request of
//! its own or an element of a batch.

use crate::app::Server;
use crate::config::Currency;
use crate::groups::{GroupJson, JoinedJson};
use crate::payments::Awaiting;
use crate::problem::{Code, Problem};
use crate::sale_money::SalesJson;
use crate::seldom::Seldom;
use crate::views::{ApiKeyJson, At, EnvelopeJson, GiftJson, ItemJson, MerchantJson, OrderJson, Shown, WalletJson};
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Listing, Reply};
use hongbao_engine::command::{Outcome, Refusal, ShareStatus};
use hongbao_engine::types::{Amount, HoldId, OrderId, Timestamp};
use serde::Serialize;
use std::time::Duration;

macro_rules! kinds {
    ($($kind:ident = $name:literal),* $(,)?) => {
        /// What was answered, as it is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the outcomes'")]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// Every kind, in the order of their numbers.
            pub const ALL: [Kind; [$($name),*].len()] = [$(Kind::$kind),*];

            /// Its name as a metric's label.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }
        }
    };
}
kinds! {
    Wallet = "wallet", Envelope = "envelope", Won = "won", SoldOut = "sold_out", Expired = "expired",
    Cancelled = "cancelled", NotOpen = "not_open", Claimed = "claimed", NotWon = "not_won", Lapsed = "lapsed",
    Merchant = "merchant", Item = "item", Held = "held", LimitReached = "limit_reached", Ended = "ended",
    Ordered = "ordered", HoldExpired = "hold_expired", Released = "released",
    CannotPay = "cannot_pay", Clock = "clock", ApiKey = "api_key", Payouts = "payouts", Gift = "gift", Order = "order",
    Sales = "sales", Relations = "relations", GiftEnvelope = "gift_envelope", Payment = "payment", Group = "group", Joined = "joined", GroupFull = "full",
    LeaderLeft = "leader_left",
}

/// Answers with what the engine replied; a thing that was made has status `made`.
///
/// # Errors
/// The engine's refusal or error, as the caller is to read it.
pub fn reply<B>(server: &Server<B>, result: Result<Reply, EngineError>, made: StatusCode) -> Result<Response, Problem> {
    let Reply { outcome, replayed } = result.map_err(|error| from_engine(&error))?;
    let mut written = Vec::new();
    let (kind, body) = match write_outcome(&mut written, outcome, server.currency)? {
        Told::Written(kind) => (kind, Bytes::from(written)),
        Told::Always(kind, text) => (kind, Bytes::from_static(text)),
    };
    server.metrics.count(kind);
    let mut response = json_bytes(body);
    *response.status_mut() = match kind {
        Kind::Wallet
        | Kind::Envelope
        | Kind::Merchant
        | Kind::Item
        | Kind::ApiKey
        | Kind::Gift
        | Kind::Order
        | Kind::Sales
        | Kind::Group => made,
        _ => StatusCode::OK,
    };
    if replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// Says that it is the answer that the key had before.
pub fn mark_replayed(response: &mut Response) {
    response.headers_mut().insert("idempotency-replayed", HeaderValue::from_static("true"));
}

/// 204.
pub fn no_content() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Appends an element of a batch: its outcome, or its problem under `error`.
pub fn write_element<B>(out: &mut Vec<u8>, server: &Server<B>, result: Result<Reply, Problem>, request_id: &str) {
    let start = out.len();
    let written = result.and_then(|reply| write_outcome(out, reply.outcome, server.currency));
    match written {
        Ok(Told::Written(kind)) => server.metrics.count(kind),
        Ok(Told::Always(kind, text)) => {
            out.extend_from_slice(text);
            server.metrics.count(kind);
        }
        Err(problem) => {
            server.metrics.count_problem(problem.code());
            out.truncate(start);
            out.extend_from_slice(b"{\"error\":");
            problem.write_json(out, request_id);
            out.push(b'}');
        }
    }
}

/// What tells an outcome.
enum Told {
    /// What was appended.
    Written(Kind),
    /// This, since it never varies; nothing was appended.
    Always(Kind, &'static [u8]),
}

/// How many relations were told.
#[derive(Serialize)]
struct RelationsJson {
    rows: u32,
}

/// Appends the JSON of an outcome, or gives it if it never varies.
fn write_outcome(out: &mut Vec<u8>, outcome: Outcome, currency: Currency) -> Result<Told, Problem> {
    Ok(match outcome {
        Outcome::Wallet(view) => {
            write_object(out, &WalletJson::new(&view, currency));
            Told::Written(Kind::Wallet)
        }
        Outcome::Order(order) => {
            write_object(out, &OrderJson::new(&order.view(), currency));
            Told::Written(Kind::Order)
        }
        Outcome::Gift(gift) => {
            write_object(out, &GiftJson::with_token(&gift, currency));
            Told::Written(Kind::Gift)
        }
        Outcome::Envelope(view) => {
            write_object(out, &EnvelopeJson::new(&view, currency));
            Told::Written(Kind::Envelope)
        }
        Outcome::Won { amount, share, status, grabbed_at, claim_by, replayed } => {
            write_won(out, &Won { amount, share, status, grabbed_at, claim_by, replayed });
            Told::Written(Kind::Won)
        }
        Outcome::SoldOut => Told::Always(Kind::SoldOut, br#"{"outcome":"sold_out"}"#),
        Outcome::Expired => Told::Always(Kind::Expired, br#"{"outcome":"expired"}"#),
        Outcome::Cancelled => Told::Always(Kind::Cancelled, br#"{"outcome":"cancelled"}"#),
        Outcome::NotOpen { opens_at } => {
            write_object(out, &NotOpen { outcome: "not_open", opens_at: At(opens_at) });
            Told::Written(Kind::NotOpen)
        }
        Outcome::Claimed { amount, claimed_at, replayed } => {
            write_object(out, &Claimed { outcome: "claimed", amount, claimed_at: At(claimed_at), replayed });
            Told::Written(Kind::Claimed)
        }
        Outcome::NotWon => Told::Always(Kind::NotWon, br#"{"outcome":"not_won"}"#),
        Outcome::Lapsed => Told::Always(Kind::Lapsed, br#"{"outcome":"lapsed"}"#),
        Outcome::Merchant(merchant) => {
            write_object(out, &MerchantJson::new(&merchant));
            Told::Written(Kind::Merchant)
        }
        Outcome::Item(view) => {
            write_object(out, &ItemJson::new(&view, currency));
            Told::Written(Kind::Item)
        }
        Outcome::Held { hold, quantity, amount, expires_at, replayed } => {
            let (hold, expires_at) = (Shown(hold), At(expires_at));
            write_object(out, &Held { outcome: "held", hold, quantity, amount, expires_at, replayed });
            Told::Written(Kind::Held)
        }
        Outcome::LimitReached => Told::Always(Kind::LimitReached, br#"{"outcome":"limit_reached"}"#),
        Outcome::Ended => Told::Always(Kind::Ended, br#"{"outcome":"ended"}"#),
        Outcome::Ordered { order, replayed } => {
            write_object(out, &Ordered { outcome: "claimed", order: Shown(order), replayed });
            Told::Written(Kind::Ordered)
        }
        Outcome::HoldExpired => Told::Always(Kind::HoldExpired, br#"{"outcome":"expired"}"#),
        Outcome::Released { replayed } => {
            write_object(out, &Released { outcome: "released", replayed });
            Told::Written(Kind::Released)
        }
        Outcome::CannotPay => Told::Always(Kind::CannotPay, br#"{"outcome":"insufficient_funds"}"#),
        Outcome::Clock(now) => {
            write_object(out, &Clock { now: At(now) });
            Told::Written(Kind::Clock)
        }
        Outcome::ApiKey(key) => {
            write_object(out, &ApiKeyJson::new(&key, None));
            Told::Written(Kind::ApiKey)
        }
        Outcome::Sales { merchant, balance } => {
            write_object(out, &SalesJson::new(&merchant, balance, currency));
            Told::Written(Kind::Sales)
        }
        Outcome::Relations(rows) => {
            write_object(out, &RelationsJson { rows });
            Told::Written(Kind::Relations)
        }
        Outcome::GiftEnvelope(_) => unreachable!("gift envelopes are told with their gifts, in gift_envelopes.rs"),
        Outcome::Payment(payment) => {
            write_object(out, &Awaiting::new(&payment, currency));
            Told::Written(Kind::Payment)
        }
        Outcome::Group(group) => {
            write_object(out, &GroupJson::new(&group, currency));
            Told::Written(Kind::Group)
        }
        Outcome::Joined { group, order, replayed } => {
            write_object(out, &JoinedJson::new(&group, order, replayed));
            Told::Written(Kind::Joined)
        }
        Outcome::GroupFull => Told::Always(Kind::GroupFull, br#"{"outcome":"full"}"#),
        Outcome::LeaderLeft => Told::Always(Kind::LeaderLeft, br#"{"outcome":"leader_left"}"#),
        Outcome::Payouts(_) => unreachable!("results of payouts are told with their ids, in payouts.rs"),
        Outcome::Refused(refusal) => return Err(from_refusal(refusal)),
    })
}

/// What a caller is told of a refusal.
pub fn from_refusal(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NotFound => Problem::not_found(),
        Refusal::InsufficientFunds => Problem::new(
            Code::InsufficientFunds,
            "There is not enough: deposit into the wallet first, or wait until more of the merchant's sales are settled; then repeat this.",
        ),
        Refusal::WrongState(why) => Problem::new(Code::WrongState, why),
        Refusal::Forbidden => Problem::new(
            Code::Forbidden,
            "This belongs to another user; send the user it was given to, or the token of a gift that is for whoever accepts first.",
        ),
        Refusal::Apart => {
            Problem::new(Code::Forbidden, "Nothing is given between these two users; name somebody else.")
        }
        Refusal::NotMutual => Problem::new(
            Code::Forbidden,
            "Only people who follow each other give to each other here, and these two do not, as far as it is known: tell it with \
             POST /v1/relations, or say \"mutual\": true if the app knows it.",
        ),
        Refusal::ReferenceConflict => Problem::new(
            Code::ReferenceConflict,
            "This reference was used with other content; use a new one, or send the first content again.",
        ),
        Refusal::IdempotencyMismatch => Problem::new(
            Code::IdempotencyMismatch,
            "This idempotency key was used for another request, with another path or body; use a new one, or repeat the \
             first request as it was.",
        ),
        Refusal::Invalid { field, message } => Problem::field(field, message),
    }
}

/// What a caller is told of an engine's error; the inside goes to the log.
pub fn from_engine(error: &EngineError) -> Problem {
    match error {
        EngineError::Overloaded => Problem::new(
            Code::Overloaded,
            "More is being asked than can be made durable in time; ask again in a moment.",
        ),
        EngineError::StorageFull => Problem::new(
            Code::StorageFull,
            "The server's disk is full; tell the operator, and ask again later. Claims and refunds still work.",
        ),
        EngineError::Journal(_) | EngineError::Unconfirmed(_) => {
            // In a failover it is so of every request.
            static NOT_CONFIRMED: Seldom = Seldom::every(Duration::from_secs(1));
            if let Some(requests) = NOT_CONFIRMED.due() {
                tracing::error!(%error, requests, "not confirmed");
            }
            Problem::new(Code::Unconfirmed, "It may or may not have happened; ask again with the same key to find out.")
        }
        EngineError::Store(_) | EngineError::Backend(_) | EngineError::Archive(_) => {
            tracing::error!(%error, "the store failed");
            Problem::internal()
        }
        EngineError::Addresses(_) => {
            tracing::error!(%error, "an address cannot be sealed, opened or erased");
            Problem::internal()
        }
        EngineError::NotReady(why) => {
            tracing::debug!(why, "asked before being ready");
            let detail = "The server cannot decide this now; ask again in a moment. If it lasts, /readyz tells why.";
            Problem::new(Code::NotReady, detail)
        }
        EngineError::OperatorNeeded(why) => {
            tracing::debug!(why, "asked before the operator has acted");
            Problem::new(Code::NotReady, format!("Not ready: {why}."))
        }
        EngineError::ShuttingDown => {
            Problem::new(Code::ShuttingDown, "The server is going away; ask again in a moment.")
        }
        EngineError::EventsOff(_) => {
            Problem::field("types", format!("{error}; start every server with --redis-events all, or ask for others"))
        }
        EngineError::CursorGone { oldest } => Problem::cursor_gone(crate::extract::hex(oldest)),
        EngineError::Cursor => Problem::field("cursor", "was not given by this list; start again without one"),
    }
}

/// Answers with a page of a list under `name`.
pub fn list<'a, T, J: Serialize>(name: &'static str, listing: &'a Listing<T>, show: impl Fn(&'a T) -> J) -> Response {
    let mut body = Vec::with_capacity(64 + 256 * listing.rows.len());
    body.extend_from_slice(b"{\"");
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(b"\":[");
    for (i, row) in listing.rows.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        write_json(&mut body, &show(row));
    }
    body.extend_from_slice(b"],\"next_cursor\":");
    write_json(&mut body, &listing.next.as_deref().map(crate::extract::hex));
    body.push(b'}');
    json_bytes(body)
}

/// Answers 200 with `value`.
pub fn json(value: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(512);
    write_json(&mut body, value);
    json_bytes(body)
}

/// Answers 201 with `value`.
pub fn created(value: &impl Serialize) -> Response {
    let mut response = json(value);
    *response.status_mut() = StatusCode::CREATED;
    response
}

/// Answers 200 with JSON already written.
pub fn json_bytes(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn write_object(out: &mut Vec<u8>, value: &impl Serialize) {
    out.reserve(JSON_BYTES);
    write_json(out, value);
}

fn write_json(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("what we show has string keys only, and a vector takes everything");
}

/// Longer than what tells most outcomes.
const JSON_BYTES: usize = 256;

struct Won {
    amount: Amount,
    share: u32,
    status: ShareStatus,
    grabbed_at: Timestamp,
    claim_by: Timestamp,
    replayed: bool,
}

/// By hand, since this is answered by the million, and a serializer looks at
/// every character of every name for one to be escaped.
fn write_won(out: &mut Vec<u8>, won: &Won) {
    out.reserve(JSON_BYTES);
    out.extend_from_slice(br#"{"outcome":"won","amount":"#);
    write_json(out, &won.amount);
    out.extend_from_slice(br#","share":"#);
    write_json(out, &won.share);
    out.extend_from_slice(br#","status":"#);
    write_json(out, &won.status);
    out.extend_from_slice(br#","grabbed_at":""#);
    out.extend_from_slice(&At(won.grabbed_at).text());
    out.extend_from_slice(br#"","claim_by":""#);
    out.extend_from_slice(&At(won.claim_by).text());
    out.extend_from_slice(br#"","replayed":"#);
    write_json(out, &won.replayed);
    out.push(b'}');
}

#[derive(Serialize)]
struct NotOpen {
    outcome: &'static str,
    opens_at: At,
}

#[derive(Serialize)]
struct Claimed {
    outcome: &'static str,
    amount: Amount,
    claimed_at: At,
    replayed: bool,
}

#[derive(Serialize)]
struct Held {
    outcome: &'static str,
    hold: Shown<HoldId>,
    quantity: u32,
    amount: Amount,
    expires_at: At,
    replayed: bool,
}

#[derive(Serialize)]
struct Ordered {
    outcome: &'static str,
    order: Shown<OrderId>,
    replayed: bool,
}

#[derive(Serialize)]
struct Released {
    outcome: &'static str,
    replayed: bool,
}

#[derive(Serialize)]
struct Clock {
    now: At,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_win_is_written_field_by_field() {
        for status in [ShareStatus::Grabbed, ShareStatus::Claimed, ShareStatus::Lapsed] {
            for (minor, share, replayed) in [(0, 0, false), (Amount::MAX.minor(), u32::MAX, true)] {
                let amount = Amount::new(minor).unwrap();
                let (grabbed_at, claim_by) = (Timestamp::from_ms(1_801_900_800_123), Timestamp::from_ms(0));
                let mut out = b"[".to_vec();
                write_won(&mut out, &Won { amount, share, status, grabbed_at, claim_by, replayed });
                let status = serde_json::to_string(&status).unwrap();
                let expected = format!(
                    r#"[{{"outcome":"won","amount":{minor},"share":{share},"status":{status},"grabbed_at":"2027-02-06T08:00:00.123Z","claim_by":"1970-01-01T00:00:00.000Z","replayed":{replayed}}}"#
                );
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }
}
