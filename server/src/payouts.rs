//! Payouts: what is to be paid to people outside, and what came of it.
//!
//! **Invariant:** results are taken in under an idempotency key, the whole call
//! under one, so that a late repeat changes nothing.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::{Class, Visit};
use crate::extract::{Content, Json, NoParams, Once, One, Params, from_json, read_time};
use crate::fields::{Text, Visible, word};
use crate::problem::{Code, Problem};
use crate::reply::{Kind, from_engine, json, json_bytes, list, mark_replayed, reply};
use crate::views::PayoutJson;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, Reply};
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::payout::{PayoutAnswer, PayoutFilter, PayoutKind, PayoutResult, PayoutState, RESULTS_MAX};
use hongbao_engine::types::{EnvelopeId, PayoutId, UserId};
use serde::de::value::StrDeserializer;
use serde::de::{Error as _, value};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Adds the routes of payouts.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.get("/v1/payouts", Class::Ordinary, find::<B>).get("/v1/payouts/{id}", Class::Ordinary, show::<B>).post(
        "/v1/payouts/results",
        Class::Settling,
        tell::<B>,
    )
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<PayoutId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let view = server.backend.payout(id).await.map_err(|error| from_engine(&error))?;
    let view = view.filter(|view| caller.sees_all_payouts() || caller.owner() == view.owner);
    Ok(json(&PayoutJson::new(&view.ok_or_else(Problem::not_found)?, server.currency)))
}

async fn find<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&["state", "kind", "user", "envelope", "created_from", "created_to"])?;
    let filter = PayoutFilter {
        owner: (!caller.sees_all_payouts()).then(|| caller.owner().to_owned()),
        state: params.parse("state", read_word("must be due, sent, paid or failed"))?,
        kind: params.parse("kind", read_word::<PayoutKind>("must be win or refund"))?,
        user: params.parse("user", UserId::new)?,
        envelope: params.parse("envelope", str::parse::<EnvelopeId>)?,
        created_from: params.parse("created_from", read_time)?,
        created_to: params.parse("created_to", read_time)?,
    };
    let rows = server.backend.payouts(&filter, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("payouts", &rows, |view| PayoutJson::new(view, server.currency)))
}

/// Reads an enum's word in a query; `names` says which there are.
fn read_word<T: for<'de> Deserialize<'de>>(names: &'static str) -> impl FnOnce(&str) -> Result<T, &'static str> {
    move |text| T::deserialize(StrDeserializer::<value::Error>::new(text)).map_err(|_| names)
}

/// What came of one payout, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    id: String,
    #[serde(deserialize_with = "word")]
    state: PayoutState,
    #[serde(default)]
    reference: Option<Visible>,
    #[serde(default)]
    reason: Option<Text<1, 200>>,
}

impl Content for Told {}

/// Of a result that cannot be read, which payout it is about.
#[derive(Deserialize)]
struct About {
    id: String,
}

/// Results to be taken in each for itself. One that cannot be read is told in its
/// place and does not spoil the others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    #[serde(deserialize_with = "some_results")]
    results: Vec<Box<RawValue>>,
}

impl Content for Results {}

fn some_results<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<RawValue>>, D::Error> {
    let results = Vec::deserialize(deserializer)?;
    if (1..=RESULTS_MAX).contains(&results.len()) {
        return Ok(results);
    }
    Err(D::Error::custom(format_args!("must hold 1 to {RESULTS_MAX} results")))
}

/// The most characters of an id that are told again: a caller may have made it up.
const ID_CHARS_MAX: usize = 64;

/// A result and the id that it is answered under.
struct Element {
    id: Option<String>,
    result: Result<PayoutResult, Problem>,
}

impl Element {
    fn read(i: usize, raw: &RawValue) -> Element {
        let bytes = raw.get().as_bytes();
        match from_json::<Told>(bytes) {
            Ok(Told { id, state, reference, reason }) => Element {
                // A malformed id is that of no payout.
                result: id.parse().map_err(|_| Problem::not_found()).map(|payout| PayoutResult {
                    payout,
                    state,
                    reference: reference.map(|text| text.0),
                    reason: reason.map(|text| text.0),
                }),
                id: Some(shown(&id)),
            },
            Err(problem) => Element {
                id: serde_json::from_slice(bytes).ok().map(|About { id }| shown(&id)),
                result: Err(problem.within(&format!("results[{i}]"))),
            },
        }
    }
}

fn shown(id: &str) -> String {
    id.chars().take(ID_CHARS_MAX).collect()
}

async fn tell<B: Backend>(
    State(server): State<Shared<B>>,
    Extension(visit): Extension<Visit>,
    Once(once): Once,
    Json(Results { results }): Json<Results>,
) -> Result<Response, Problem> {
    let elements: Vec<Element> = results.iter().enumerate().map(|(i, raw)| Element::read(i, raw)).collect();
    let told = elements.iter().filter_map(|element| element.result.as_ref().ok().cloned()).collect();
    let decided = server.backend.execute(Command::PayoutResults(told), Some(once)).await;
    let (answers, replayed) = match decided {
        Ok(Reply { outcome: Outcome::Payouts(answers), replayed }) => (answers, replayed),
        other => return reply(&server, other, StatusCode::OK),
    };
    server.metrics.count(Kind::Payouts);
    let mut answers = answers.into_iter();
    let mut body = Vec::with_capacity(32 + 64 * elements.len());
    body.extend_from_slice(b"{\"results\":[");
    for (i, Element { id, result }) in elements.into_iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        let stands = result.and_then(|result| {
            answer_of(answers.next().expect("each result that could be read is answered"), result.state)
        });
        body.extend_from_slice(b"{\"id\":");
        serde_json::to_writer(&mut body, &id).expect("a vector takes everything");
        match stands {
            Ok(state) => body.extend_from_slice(format!(",\"state\":\"{}\"}}", state.name()).as_bytes()),
            Err(problem) => {
                server.metrics.count_problem(problem.code());
                body.extend_from_slice(b",\"error\":");
                problem.write_json(&mut body, visit.request_id());
                body.push(b'}');
            }
        }
    }
    body.extend_from_slice(b"]}");
    let mut response = json_bytes(body);
    if replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

/// How a payout stands for which `told` was told, or why it was refused.
fn answer_of(answer: PayoutAnswer, told: PayoutState) -> Result<PayoutState, Problem> {
    let stands = match answer {
        PayoutAnswer::Stands(state) => return Ok(state),
        PayoutAnswer::NotFound => return Err(Problem::not_found()),
        PayoutAnswer::WrongState(state) => state,
    };
    let why = match stands {
        PayoutState::Paid => "which is final; nothing that comes later changes it",
        PayoutState::Due => "under other words; tell sent, paid or failed",
        PayoutState::Sent => "tell first whether that was paid or failed",
        PayoutState::Failed => "make it due again first",
    };
    let (stands, told) = (stands.name(), told.name());
    Err(Problem::new(Code::WrongState, format!("It cannot be {told} now: it is {stands}, {why}.")))
}
