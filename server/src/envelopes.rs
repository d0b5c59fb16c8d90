//! Envelopes: create, grab, claim, cancel, and what can be asked about them.
//!
//! **Invariant:** a grab, claim or redaction needs no idempotency key, since envelope and
//! user already name it.

use crate::access::ADMIN;
use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::{Class, Visit};
use crate::extract::{Content, Empty, Json, NoParams, Object, Once, One, Params, Two, from_json, read_time};
use crate::fields::{JsonObject, Money, Seconds, SecondsOrNone, Shares, Text, Time, Visible, word};
use crate::problem::{Code, FieldError, Problem};
use crate::reply::{from_engine, json, json_bytes, list, reply, write_element};
use crate::views::{AuditJson, EnvelopeJson, GrabJson, ReceivedJson};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, EnvelopeFilter, Reply};
use hongbao_engine::command::{Command, EnvelopeState, NewEnvelope, Outcome, Unclaimed};
use hongbao_engine::payout::{Outside, PayoutTo};
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::{EnvelopeId, UserId};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Adds the routes of envelopes.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/envelopes", Class::Ordinary, create::<B>)
        .get("/v1/envelopes", Class::Ordinary, find::<B>)
        .get("/v1/envelopes/{id}", Class::Ordinary, show::<B>)
        .post("/v1/envelopes/{id}/grab", Class::Ordinary, grab::<B>)
        .post("/v1/envelopes/{id}/claim", Class::Settling, claim::<B>)
        .post("/v1/envelopes/{id}/cancel", Class::Settling, cancel::<B>)
        .post("/v1/envelopes/{id}/redact", Class::Settling, redact::<B>)
        .get("/v1/envelopes/{id}/grabs", Class::Ordinary, grabs::<B>)
        .get("/v1/envelopes/{id}/grabs/{user}", Class::Ordinary, grab_of::<B>)
        .post("/v1/grabs", Class::Ordinary, grab_many::<B>)
        .get("/v1/users/{user}/sent", Class::Ordinary, sent::<B>)
        .get("/v1/users/{user}/received", Class::Ordinary, received::<B>)
        .get("/v1/audit", Class::Ordinary, audit::<B>)
}

/// The names of the rules.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SplitName {
    #[default]
    Lucky,
    Uniform,
    Equal,
    Specified,
}

/// Under which reference the money came from outside.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Funding {
    reference: Visible,
}

/// The terms of an envelope, as they are sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    sender: UserId,
    total: Money,
    shares: Shares,
    #[serde(default, deserialize_with = "word")]
    split: SplitName,
    #[serde(default)]
    min_share: Option<Money>,
    #[serde(default)]
    max_share: Option<Money>,
    #[serde(default)]
    amounts: Option<Vec<Money>>,
    #[serde(default)]
    message: Text<0, 200>,
    #[serde(default)]
    opens_at: Option<Time>,
    #[serde(default = "a_day")]
    expires_in_s: Seconds,
    #[serde(default = "a_day_to_claim")]
    claim_within_s: SecondsOrNone,
    #[serde(default)]
    auto_claim: bool,
    #[serde(default = "to_sender", deserialize_with = "word")]
    unclaimed: Unclaimed,
    #[serde(default)]
    reference: Option<Visible>,
    #[serde(default)]
    metadata: JsonObject,
    #[serde(default)]
    client_seed: Option<Text<0, 128>>,
    #[serde(default)]
    funding: Option<Object<Funding>>,
    #[serde(default, deserialize_with = "word")]
    payout: PayoutTo,
}

fn a_day() -> Seconds {
    Seconds::new(86_400)
}

fn a_day_to_claim() -> SecondsOrNone {
    SecondsOrNone::new(86_400)
}

fn to_sender() -> Unclaimed {
    Unclaimed::Return
}

const ONE: Money = Money::new(1);

impl Content for Create {
    fn check(&self) -> Result<(), Problem> {
        let mut errors = Vec::new();
        let mut refuse = |wrong: bool, field: &str, message: &str| {
            if wrong {
                errors.push(FieldError { field: field.to_owned(), message: message.to_owned() });
            }
        };
        let (by_lucky, by_amounts) = (self.split == SplitName::Lucky, self.split == SplitName::Specified);
        let has_least = by_lucky || self.split == SplitName::Uniform;
        refuse(!by_lucky && self.max_share.is_some(), "max_share", "is only for the split lucky; leave it out");
        let least_is_said = self.min_share.is_some_and(|least| least != ONE);
        refuse(!has_least && least_is_said, "min_share", "is only for the splits lucky and uniform; leave it out");
        refuse(!by_amounts && self.amounts.is_some(), "amounts", "is only for the split specified; leave it out");
        refuse(by_amounts && self.amounts.is_none(), "amounts", "is needed with the split specified");
        if !errors.is_empty() {
            return Err(Problem::fields(errors));
        }
        let check = self.rule().check(self.total.amount(), self.shares.count());
        check.map_err(|error| Problem::field(error.field(), error.to_string()))
    }
}

impl Create {
    fn rule(&self) -> SplitRule {
        let min_share = self.min_share.unwrap_or(ONE).amount();
        match self.split {
            SplitName::Lucky => SplitRule::Lucky { min_share, max_share: self.max_share.map(Money::amount) },
            SplitName::Uniform => SplitRule::Uniform { min_share },
            SplitName::Equal => SplitRule::Equal,
            SplitName::Specified => {
                SplitRule::Specified(self.amounts.iter().flatten().map(|amount| amount.amount()).collect())
            }
        }
    }

    fn command(self, caller: &Caller) -> Command {
        Command::CreateEnvelope(Box::new(NewEnvelope {
            owner: caller.owner().to_owned(),
            split: self.rule(),
            sender: self.sender,
            total: self.total.amount(),
            shares: self.shares.count(),
            message: self.message.0,
            opens_at: self.opens_at.map(|time| time.0),
            expires_in_s: self.expires_in_s.get(),
            claim_within_s: self.claim_within_s.get(),
            auto_claim: self.auto_claim,
            unclaimed: self.unclaimed,
            reference: self.reference.map(|text| caller.reference(text)),
            metadata: self.metadata.0,
            client_seed: self.client_seed.map(|text| text.0),
            outside: Outside { funding: self.funding.map(|Object(funding)| funding.reference.0), payout: self.payout },
        }))
    }
}

/// The user on whose behalf something is done.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByUser {
    /// Who.
    pub user: UserId,
}

impl Content for ByUser {
    /// No character of a user has to be escaped, and none ends a string.
    fn read_common(bytes: &[u8]) -> Option<ByUser> {
        let user = bytes.strip_prefix(br#"{"user":""#)?.strip_suffix(br#""}"#)?;
        let user = UserId::new(std::str::from_utf8(user).ok()?).ok()?;
        Some(ByUser { user })
    }
}

/// More shares than this take longer to split than others should wait.
const SHARES_IN_PASSING_MAX: u64 = 100_000;

async fn create<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Once(once): Once,
    Json(body): Json<Create>,
) -> Result<Response, Problem> {
    server.caps.check(&body.rule(), body.total.amount(), body.shares.count())?;
    let is_large = body.shares.get() > SHARES_IN_PASSING_MAX;
    let command = body.command(&caller);
    let result = if is_large {
        server.execute_apart(command, Some(once)).await
    } else {
        server.backend.execute(command, Some(once)).await
    };
    reply(&server, result, StatusCode::CREATED)
}

async fn grab<B: Backend>(
    State(server): State<Shared<B>>,
    One(envelope): One<EnvelopeId>,
    Json(ByUser { user }): Json<ByUser>,
) -> Result<Response, Problem> {
    let command = Command::Grab { envelope, user };
    reply(&server, server.backend.execute(command, None).await, StatusCode::OK)
}

async fn claim<B: Backend>(
    State(server): State<Shared<B>>,
    One(envelope): One<EnvelopeId>,
    Json(ByUser { user }): Json<ByUser>,
) -> Result<Response, Problem> {
    let command = Command::Claim { envelope, user };
    reply(&server, server.backend.execute(command, None).await, StatusCode::OK)
}

/// Whether the envelope belongs to the caller's owner. Its owner never changes.
async fn check_owner<B: Backend>(server: &Shared<B>, caller: &Caller, id: EnvelopeId) -> Result<(), Problem> {
    let view = server.backend.envelope(id).await.map_err(|error| from_engine(&error))?;
    if view.is_some_and(|view| view.owner == caller.owner()) { Ok(()) } else { Err(not_of_owner()) }
}

async fn check_seen<B: Backend>(server: &Shared<B>, caller: &Caller, id: EnvelopeId) -> Result<(), Problem> {
    if caller.sees_all_owners() { Ok(()) } else { check_owner(server, caller, id).await }
}

/// What belongs to another owner is not told apart from what is not there.
fn not_of_owner() -> Problem {
    let detail = "There is no such envelope of this key's owner; check the id, or use the key that made it.";
    Problem::new(Code::NotFound, detail)
}

async fn cancel<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(envelope): One<EnvelopeId>,
    Once(once): Once,
    Json(Empty {}): Json<Empty>,
) -> Result<Response, Problem> {
    if !caller.roles().any_of(ADMIN) {
        check_owner(&server, &caller, envelope).await?;
    }
    let command = Command::Cancel { envelope };
    reply(&server, server.backend.execute(command, Some(once)).await, StatusCode::OK)
}

/// What of an envelope or gift is taken back besides its texts.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redact {
    /// Whether its metadata as well.
    #[serde(default)]
    pub metadata: bool,
}

impl Content for Redact {
    const MAY_BE_EMPTY: bool = true;
}

async fn redact<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(envelope): One<EnvelopeId>,
    Json(Redact { metadata }): Json<Redact>,
) -> Result<Response, Problem> {
    let result = server.backend.execute(Command::Redact { envelope, metadata }, None).await;
    if let Ok(Reply { outcome: Outcome::Envelope(view), .. }) = &result {
        tracing::info!(envelope = %view.id, by = caller.owner(), metadata, "a message is taken back");
    }
    reply(&server, result, StatusCode::OK)
}

/// An element of a batch. A malformed id is that of no envelope, which is told
/// in its place and does not spoil the others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrabOne {
    #[serde(deserialize_with = "id_or_none")]
    envelope: Option<EnvelopeId>,
    user: UserId,
}

fn id_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EnvelopeId>, D::Error> {
    Ok(String::deserialize(deserializer)?.parse().ok())
}

/// Grabs to be decided each for itself, and answered in order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrabMany {
    #[serde(deserialize_with = "some_grabs")]
    grabs: Vec<Element>,
}

/// A grab, or why none could be read.
struct Element(Result<GrabOne, Box<Problem>>);

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(deserializer).map(|Object(grab)| Element(Ok(grab)))
    }
}

/// The same, each to be read for itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrabsApart {
    #[serde(deserialize_with = "some_grabs")]
    grabs: Vec<Box<RawValue>>,
}

impl Content for GrabOne {}
impl Content for GrabsApart {}

impl Content for GrabMany {
    /// A grab that cannot be read is told in its place and does not spoil the others.
    fn read(bytes: &[u8]) -> Result<Self, Problem> {
        if let Ok(Object(whole)) = serde_json::from_slice(bytes) {
            return Ok(whole);
        }
        let GrabsApart { grabs } = from_json(bytes)?;
        let element = |(i, raw): (usize, Box<RawValue>)| {
            let read = from_json(raw.get().as_bytes());
            Element(read.map_err(|problem| Box::new(problem.within(&format!("grabs[{i}]")))))
        };
        Ok(GrabMany { grabs: grabs.into_iter().enumerate().map(element).collect() })
    }
}

const GRABS_MAX: usize = 1000;

fn some_grabs<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let grabs = Vec::deserialize(deserializer)?;
    if (1..=GRABS_MAX).contains(&grabs.len()) {
        return Ok(grabs);
    }
    Err(D::Error::custom(format_args!("must hold 1 to {GRABS_MAX} grabs")))
}

async fn grab_many<B: Backend>(
    State(server): State<Shared<B>>,
    Extension(visit): Extension<Visit>,
    Json(GrabMany { grabs }): Json<GrabMany>,
) -> Result<Response, Problem> {
    let (count, mut refused) = (grabs.len(), Vec::new());
    let mut commands = Vec::with_capacity(count);
    for (i, Element(read)) in grabs.into_iter().enumerate() {
        match read {
            Ok(GrabOne { envelope: Some(envelope), user }) => commands.push(Command::Grab { envelope, user }),
            Ok(GrabOne { envelope: None, user: _ }) => refused.push((i, Problem::not_found())),
            Err(problem) => refused.push((i, *problem)),
        }
    }
    let mut results = server.backend.execute_all(commands).await.into_iter();
    let mut refused = refused.into_iter().peekable();
    let mut body = Vec::with_capacity(32 + 160 * count);
    body.extend_from_slice(b"{\"results\":[");
    for i in 0..count {
        if i > 0 {
            body.push(b',');
        }
        let result = match refused.next_if(|(at, _)| *at == i) {
            Some((_, problem)) => Err(problem),
            None => {
                results.next().expect("a batch is answered element by element").map_err(|error| from_engine(&error))
            }
        };
        write_element(&mut body, &server, result, visit.request_id());
    }
    body.extend_from_slice(b"]}");
    Ok(json_bytes(body))
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<EnvelopeId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let view = server.backend.envelope(id).await.map_err(|error| from_engine(&error))?;
    let view = view.ok_or_else(Problem::not_found)?;
    if !caller.sees_owner(&view.owner) {
        return Err(not_of_owner());
    }
    Ok(json(&EnvelopeJson::new(&view, server.currency)))
}

async fn find<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&["reference", "sender", "state", "created_from", "created_to"])?;
    let filter = EnvelopeFilter {
        owner: caller.owner().to_owned(),
        of_owner: !caller.sees_all_owners(),
        reference: params.get("reference").map(str::to_owned),
        sender: params.parse("sender", UserId::new)?,
        state: params.parse("state", read_state)?,
        created_from: params.parse("created_from", read_time)?,
        created_to: params.parse("created_to", read_time)?,
    };
    let rows = server.backend.envelopes(&filter, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("envelopes", &rows, |view| EnvelopeJson::new(view, server.currency)))
}

fn read_state(text: &str) -> Result<EnvelopeState, &'static str> {
    let state = serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text);
    let names = "must be scheduled, open, sold_out, expired, cancelled or settled";
    EnvelopeState::deserialize(state).map_err(|_| names)
}

async fn grabs<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<EnvelopeId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    check_seen(&server, &caller, id).await?;
    let rows = server.backend.grabs(id, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("grabs", &rows.ok_or_else(Problem::not_found)?, GrabJson::new))
}

async fn grab_of<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Two(id, user): Two<EnvelopeId, UserId>,
    _: NoParams,
) -> Result<Response, Problem> {
    check_seen(&server, &caller, id).await?;
    let row = server.backend.grab_of(id, &user).await.map_err(|error| from_engine(&error))?;
    Ok(json(&GrabJson::new(&row.ok_or_else(Problem::not_found)?)))
}

async fn sent<B: Backend>(
    State(server): State<Shared<B>>,
    One(user): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    let rows = server.backend.sent(&user, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("envelopes", &rows, |view| EnvelopeJson::new(view, server.currency)))
}

async fn received<B: Backend>(
    State(server): State<Shared<B>>,
    One(user): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    let rows = server.backend.received(&user, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("grabs", &rows, ReceivedJson::new))
}

async fn audit<B: Backend>(State(server): State<Shared<B>>, _: NoParams) -> Result<Response, Problem> {
    let audit = server.backend.audit().await.map_err(|error| from_engine(&error))?;
    Ok(json(&AuditJson::new(audit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_form_of_a_body_reads_as_any_other() {
        let long = format!(r#"{{"user":"{}"}}"#, "u".repeat(65));
        for (body, common) in [
            (r#"{"user":"bob"}"#, true),
            (r#"{"user":"A-z.0_9:@"}"#, true),
            (r#"{"user": "bob"}"#, false),
            (r#"{"user":"bob"} "#, false),
            (r#"{"user":"bo\u0062"}"#, false),
            (r#"{"user":"bob","x":"y"}"#, false),
            (r#"{"user":"bob","user":"eve"}"#, false),
            (r#"{"user":""}"#, false),
            (r#"{"user":".."}"#, false),
            (r#"{"user":"鲍勃"}"#, false),
            (r#"{"user":"bob"#, false),
            (&long, false),
        ] {
            let read = ByUser::read_common(body.as_bytes()).map(|read| read.user);
            assert_eq!(read.is_some(), common, "{body}");
            let carefully = serde_json::from_str::<ByUser>(body).map(|read| read.user);
            assert!(read.is_none_or(|user| carefully.is_ok_and(|same| same == user)), "{body}");
        }
    }
}
