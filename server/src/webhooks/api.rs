//! Endpoints, as admins make and change them.
//!
//! **Invariant:** a secret is in the answer that made it, and in no other.

use super::client::{Letter, Line};
use super::deliver::{Outcome, outcome};
use super::record::{DeadLetter, Endpoint, Signing};
use super::shelf::{ENDPOINTS_MAX, Made};
use super::sign::Secret;
use super::target::Target;
use super::{batch, shelf};
use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::events::{problem, unknown_cursor};
use crate::extract::{Content, Empty, Json, NoParams, Once, One, hex, read_hex};
use crate::fields::some;
use crate::problem::{Code, Problem};
use crate::reply::{created, from_engine, from_refusal, json, list, mark_replayed, no_content};
use crate::views::{At, Shown};
use axum::extract::State;
use axum::response::Response;
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, Listing};
use hongbao_engine::command::Refusal;
use hongbao_engine::feed::{After, EventQuery, EventTypes};
use hongbao_engine::types::{BatchId, Timestamp, UserId, WebhookId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most dead letters that are named at once.
const IDS_MAX: usize = super::record::DEAD_MAX;

/// Adds the routes of webhooks.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/webhooks", Class::Ordinary, create::<B>)
        .get("/v1/webhooks", Class::Ordinary, find::<B>)
        .get("/v1/webhooks/{id}", Class::Ordinary, show::<B>)
        .patch("/v1/webhooks/{id}", Class::Ordinary, change::<B>)
        .delete("/v1/webhooks/{id}", Class::Ordinary, delete::<B>)
        .post("/v1/webhooks/{id}/rotate", Class::Ordinary, rotate::<B>)
        .post("/v1/webhooks/{id}/test", Class::Waiting, ping::<B>)
        .get("/v1/webhooks/{id}/dead", Class::Ordinary, dead::<B>)
        .post("/v1/webhooks/{id}/redeliver", Class::Ordinary, redeliver::<B>)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    url: String,
    #[serde(default)]
    types: Option<Vec<String>>,
    #[serde(default)]
    owner: Option<UserId>,
    #[serde(default)]
    after: Option<String>,
}

impl Content for Create {
    fn check(&self) -> Result<(), Problem> {
        check_types(self.types.as_deref())
    }
}

fn check_types(types: Option<&[String]>) -> Result<(), Problem> {
    batch::types_of(types).map(drop).map_err(|why| Problem::field("types", why))
}

fn check_url<B: Backend>(server: &Shared<B>, url: &str) -> Result<(), Problem> {
    let allowed = &server.webhooks.sender.allowed;
    if allowed.is_empty() {
        let why = "there are no webhooks here until the server is started with --webhook-allow HOST[:PORT]";
        return Err(Problem::field("url", why));
    }
    Target::read(url, allowed).map(drop).map_err(|why| Problem::field("url", why))
}

/// The cursor that `after` names, which the feed must know; so also its types.
async fn cursor_at<B: Backend>(
    server: &Shared<B>,
    field: &'static str,
    after: &str,
    types: EventTypes,
) -> Result<String, Problem> {
    let (from, limit) = match after {
        "now" => (After::Now, 0),
        "oldest" => (After::Oldest, 0),
        cursor => (After::Cursor(read_hex(cursor).ok_or_else(|| unknown_cursor(field))?), 1),
    };
    let told = server.backend.events(&EventQuery { after: from.clone(), types, owner: None, limit, until: None }).await;
    let page = told.map_err(|error| match error {
        EngineError::Cursor => unknown_cursor(field),
        error => problem(&error),
    })?;
    Ok(match from {
        After::Cursor(cursor) => hex(&cursor),
        After::Now | After::Oldest => hex(&page.next),
    })
}

async fn create<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Once(once): Once,
    Json(body): Json<Create>,
) -> Result<Response, Problem> {
    check_url(&server, &body.url)?;
    let Create { url, types, owner, after } = body;
    let id = WebhookId::from_bytes(server.backend.id_under(once));
    let owner = owner.map(|owner| owner.as_str().to_owned());
    let after = after.unwrap_or_else(|| "now".to_owned());
    let asked = asked(&(&url, &types, &owner, &after));
    if let Some(made) = shelf::endpoint(&server, id).await.map_err(|error| from_engine(&error))? {
        return replayed(id, &made, &asked, &server);
    }
    let known = batch::types_of(types.as_deref()).map_err(|why| Problem::field("types", why))?;
    let cursor = cursor_at(&server, "after", &after, known).await?;
    let secret = Secret::random();
    let endpoint = Endpoint {
        url,
        types,
        owner,
        asked: asked.clone(),
        created_at_ms: server.backend.now().ms(),
        secrets: vec![Signing { secret: secret.clone(), until_ms: None }],
        rotated_under: None,
        disabled: None,
        cursor,
        rewinds: 0,
        pending: None,
        last_success_at_ms: None,
        last_error: None,
        dead: 0,
        holder: None,
    };
    match shelf::create(&server, id, &endpoint).await.map_err(|error| from_engine(&error))? {
        Made::New => {}
        Made::There => return replayed(id, &found(&server, id).await?, &asked, &server),
        Made::TooMany => {
            let why = format!("There are {ENDPOINTS_MAX} webhooks, which are as many as may be; delete one first.");
            return Err(Problem::new(Code::WrongState, why));
        }
    }
    server.webhooks.tell_changed();
    // Its url may hold what only the receiver is to know.
    tracing::info!(%id, by = %caller, "made a webhook");
    Ok(created(&EndpointJson::new(id, &endpoint, Some(secret.shown()), server.backend.now())))
}

/// A digest of what an endpoint was asked for with.
fn asked(body: &impl Serialize) -> String {
    let text = serde_json::to_vec(body).expect("a body is made of strings");
    hex(&Sha256::digest(text)[..16])
}

fn replayed<B: Backend>(id: WebhookId, made: &Endpoint, asked: &str, server: &Shared<B>) -> Result<Response, Problem> {
    if made.asked != asked {
        return Err(from_refusal(Refusal::IdempotencyMismatch));
    }
    let mut response = created(&EndpointJson::new(id, made, None, server.backend.now()));
    mark_replayed(&mut response);
    Ok(response)
}

async fn found<B: Backend>(server: &Shared<B>, id: WebhookId) -> Result<Endpoint, Problem> {
    let endpoint = shelf::endpoint(server, id).await.map_err(|error| from_engine(&error))?;
    endpoint.ok_or_else(Problem::not_found)
}

async fn find<B: Backend>(State(server): State<Shared<B>>, _: NoParams) -> Result<Response, Problem> {
    let mut rows = shelf::endpoints(&server).await.map_err(|error| from_engine(&error))?;
    rows.sort_by_key(|(id, endpoint)| (std::cmp::Reverse(endpoint.created_at_ms), *id));
    let now = server.backend.now();
    Ok(list("webhooks", &Listing { rows, next: None }, |(id, endpoint)| EndpointJson::new(*id, endpoint, None, now)))
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<WebhookId>,
    _: NoParams,
) -> Result<Response, Problem> {
    Ok(json(&EndpointJson::new(id, &found(&server, id).await?, None, server.backend.now())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default, deserialize_with = "some")]
    url: Option<String>,
    #[serde(default, deserialize_with = "some")]
    types: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "some")]
    disabled: Option<bool>,
}

impl Content for Change {
    fn check(&self) -> Result<(), Problem> {
        check_types(self.types.as_ref().and_then(Option::as_deref))
    }
}

async fn change<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<WebhookId>,
    Json(body): Json<Change>,
) -> Result<Response, Problem> {
    if let Some(url) = &body.url {
        check_url(&server, url)?;
    }
    if let Some(types) = &body.types {
        let known = batch::types_of(types.as_deref()).map_err(|why| Problem::field("types", why))?;
        cursor_at(&server, "types", "now", known).await?;
    }
    let now = server.backend.now();
    let endpoint = update(&server, id, |it| {
        if let Some(url) = &body.url {
            it.url.clone_from(url);
        }
        if let Some(types) = &body.types {
            it.types.clone_from(types);
        }
        if let Some(disabled) = body.disabled {
            it.disabled = disabled.then(|| "an admin disabled it".to_owned());
        }
        it.hurry(now);
    })
    .await?;
    tracing::info!(%id, disabled = endpoint.disabled, by = %caller, "changed a webhook");
    Ok(json(&EndpointJson::new(id, &endpoint, None, now)))
}

async fn update<B: Backend>(
    server: &Shared<B>,
    id: WebhookId,
    mut change: impl FnMut(&mut Endpoint),
) -> Result<Endpoint, Problem> {
    let updated = shelf::update(server, id, |it| {
        change(it);
        Some(())
    });
    let updated = updated.await.map_err(|error| from_engine(&error))?;
    server.webhooks.tell_changed();
    updated.map(|((), endpoint)| endpoint).ok_or_else(Problem::not_found)
}

async fn delete<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<WebhookId>,
    _: NoParams,
) -> Result<Response, Problem> {
    if !shelf::remove(&server, id).await.map_err(|error| from_engine(&error))? {
        return Err(Problem::not_found());
    }
    server.webhooks.tell_changed();
    tracing::info!(%id, by = %caller, "deleted a webhook");
    Ok(no_content())
}

async fn rotate<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<WebhookId>,
    Once(once): Once,
    _: Json<Empty>,
) -> Result<Response, Problem> {
    let (under, now, secret) = (hex(once.bytes()), server.backend.now(), Secret::random());
    let endpoint = update(&server, id, |it| {
        if it.rotated_under.as_ref() != Some(&under) {
            it.rotate(secret.clone(), under.clone(), now);
        }
    })
    .await?;
    let is_new = endpoint.secrets.first().is_some_and(|signing| signing.secret == secret);
    let mut response = json(&EndpointJson::new(id, &endpoint, is_new.then(|| secret.shown()), now));
    if is_new {
        tracing::info!(%id, by = %caller, "rotated a webhook's secret");
    } else {
        mark_replayed(&mut response);
    }
    Ok(response)
}

#[derive(Serialize)]
struct Ping {
    r#type: &'static str,
    webhook: Shown<WebhookId>,
}

#[derive(Serialize)]
struct Pinged {
    delivered: bool,
    error: Option<String>,
}

async fn ping<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<WebhookId>,
    _: Json<Empty>,
) -> Result<Response, Problem> {
    let endpoint = found(&server, id).await?;
    check_url(&server, &endpoint.url)?;
    let _place = server.webhooks.place_of_ping()?;
    let (now, letter_id) = (server.backend.now(), BatchId::from_bytes(rand::random()).to_string());
    let body = serde_json::to_vec(&Ping { r#type: "ping", webhook: Shown(id) }).expect("strings");
    let letter = Letter::signed(endpoint.signing(now), letter_id, body.into());
    let mut line = Line::default();
    let answer = tokio::select! {
        answer = server.webhooks.sender.send(&mut line, &endpoint.url, &letter) => answer,
        () = server.stop.cancelled() => return Err(from_engine(&EngineError::ShuttingDown)),
    };
    let error = match outcome(answer) {
        Outcome::Taken => None,
        Outcome::Gone => Some("410 Gone".to_owned()),
        Outcome::Failed(why, _) => Some(why),
    };
    Ok(json(&Pinged { delivered: error.is_none(), error }))
}

async fn dead<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<WebhookId>,
    _: NoParams,
) -> Result<Response, Problem> {
    found(&server, id).await?;
    let rows = shelf::dead(&server, id).await.map_err(|error| from_engine(&error))?;
    Ok(list("dead", &Listing { rows, next: None }, DeadJson::new))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redeliver {
    #[serde(default)]
    ids: Option<Vec<String>>,
    #[serde(default)]
    from: Option<String>,
}

impl Content for Redeliver {
    fn check(&self) -> Result<(), Problem> {
        match (&self.ids, &self.from) {
            (Some(ids), None) if (1..=IDS_MAX).contains(&ids.len()) => Ok(()),
            (Some(_), None) => Err(Problem::field("ids", format!("must hold 1 to {IDS_MAX} ids of dead letters"))),
            (None, Some(_)) => Ok(()),
            _ => Err(Problem::field("ids", "send either ids of dead letters, or from with a cursor")),
        }
    }
}

async fn redeliver<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<WebhookId>,
    Json(body): Json<Redeliver>,
) -> Result<Response, Problem> {
    let endpoint = found(&server, id).await?;
    let now = server.backend.now();
    let endpoint = match body.from {
        Some(from) => {
            let types = batch::types_of(endpoint.types.as_deref()).unwrap_or(EventTypes::USUAL);
            let cursor = cursor_at(&server, "from", &from, types).await?;
            update(&server, id, |it| {
                it.cursor.clone_from(&cursor);
                it.pending = None;
                it.rewinds += 1;
            })
            .await?
        }
        None => {
            mark(&server, id, &body.ids.unwrap_or_default()).await?;
            endpoint
        }
    };
    server.webhooks.tell_changed();
    tracing::info!(%id, by = %caller, "a webhook is delivered to again");
    Ok(json(&EndpointJson::new(id, &endpoint, None, now)))
}

/// Marks dead letters as to be sent once more: all of them, or none.
async fn mark<B: Backend>(server: &Shared<B>, id: WebhookId, ids: &[String]) -> Result<(), Problem> {
    let mut refused = None;
    let marked = shelf::update_dead(server, id, |letters| {
        refused = ids.iter().enumerate().find_map(|(i, id)| {
            let why = match letters.iter().find(|letter| letter.batch.id == *id) {
                Some(letter) if letter.gone => "is a dead letter whose events are not kept any more",
                Some(_) => return None,
                None => "is no dead letter of this endpoint; it may have been delivered meanwhile",
            };
            Some(Problem::field(format!("ids[{i}]"), why))
        });
        if refused.is_some() {
            return false;
        }
        letters.iter_mut().filter(|letter| ids.contains(&letter.batch.id)).for_each(|letter| letter.redeliver = true);
        true
    });
    marked.await.map_err(|error| from_engine(&error))?;
    refused.map_or(Ok(()), Err)
}

#[derive(Serialize)]
struct EndpointJson<'a> {
    id: Shown<WebhookId>,
    url: &'a str,
    types: Option<&'a [String]>,
    owner: Option<&'a str>,
    state: &'static str,
    disabled_reason: Option<&'a str>,
    /// In the answer that made it only.
    secret: Option<String>,
    cursor: &'a str,
    pending: usize,
    attempts: u32,
    next_attempt_at: Option<At>,
    lag_s: u64,
    dead: usize,
    last_success_at: Option<At>,
    last_error: Option<ErrorJson<'a>>,
    created_at: At,
}

#[derive(Serialize)]
struct ErrorJson<'a> {
    at: At,
    detail: &'a str,
}

fn at(ms: u64) -> At {
    At(Timestamp::from_ms(ms))
}

impl<'a> EndpointJson<'a> {
    fn new(id: WebhookId, endpoint: &'a Endpoint, secret: Option<String>, now: Timestamp) -> EndpointJson<'a> {
        let pending = endpoint.pending.as_ref();
        let is_waiting = pending.filter(|pending| pending.attempts > 0 && endpoint.disabled.is_none());
        EndpointJson {
            id: Shown(id),
            url: &endpoint.url,
            types: endpoint.types.as_deref(),
            owner: endpoint.owner.as_deref(),
            state: endpoint.state(),
            disabled_reason: endpoint.disabled.as_deref(),
            secret,
            cursor: &endpoint.cursor,
            pending: pending.map_or(0, |pending| pending.batch.events),
            attempts: pending.map_or(0, |pending| pending.attempts),
            next_attempt_at: is_waiting.map(|pending| at(pending.next_at_ms)),
            lag_s: endpoint.lag_ms(now) / 1000,
            dead: endpoint.dead,
            last_success_at: endpoint.last_success_at_ms.map(at),
            last_error: endpoint.last_error.as_ref().map(|last| ErrorJson { at: at(last.at_ms), detail: &last.why }),
            created_at: at(endpoint.created_at_ms),
        }
    }
}

#[derive(Serialize)]
struct DeadJson<'a> {
    id: &'a str,
    events: usize,
    after: &'a str,
    until: &'a str,
    attempts: u32,
    died_at: At,
    detail: &'a str,
    gone: bool,
    redelivering: bool,
}

impl<'a> DeadJson<'a> {
    fn new(letter: &'a DeadLetter) -> DeadJson<'a> {
        let batch = &letter.batch;
        DeadJson {
            id: &batch.id,
            events: batch.events,
            after: &batch.after,
            until: &batch.until,
            attempts: letter.attempts,
            died_at: at(letter.died_at_ms),
            detail: &letter.why,
            gone: letter.gone,
            redelivering: letter.redeliver,
        }
    }
}
