//! Who may give to whom: a rule of the calling app's, and what it tells of who follows and blocks whom.
//!
//! **Invariant:** nobody is told who has blocked whom but who may read what that user is to others.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::extract::{Content, Json, NoParams, One, Params};
use crate::fields::word;
use crate::problem::Problem;
use crate::reply::{from_engine, from_refusal, list, no_content, reply};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::relation::{RELATIONS_MAX, Relation, RelationRow, RelationSide};
use hongbao_engine::types::UserId;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Who may give to whom. Nobody ever gives to somebody with whom one has blocked the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MayGive {
    /// Anybody to anybody.
    #[default]
    Anyone,
    /// Those who follow each other: as was told with `POST /v1/relations`, or as the call asserts.
    Mutual,
}

impl MayGive {
    /// Whether the engine has to look whether two users follow each other, of a call that asserts it or does not.
    pub(crate) fn must_follow(self, is_asserted: bool) -> bool {
        self == MayGive::Mutual && !is_asserted
    }
}

impl FromStr for MayGive {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<MayGive, &'static str> {
        match text {
            "anyone" => Ok(MayGive::Anyone),
            "mutual" => Ok(MayGive::Mutual),
            _ => Err("use anyone, or mutual"),
        }
    }
}

/// Adds the routes of relations.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/relations", Class::Ordinary, put::<B>)
        .get("/v1/users/{user}/relations", Class::Ordinary, of_user::<B>)
        .delete("/v1/users/{user}/relations", Class::Ordinary, erase::<B>)
}

/// Relations as they are sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    relations: Vec<Told>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    user: UserId,
    other: UserId,
    #[serde(deserialize_with = "word")]
    relation: Relation,
}

impl Content for Put {
    fn check(&self) -> Result<(), Problem> {
        if (1..=RELATIONS_MAX).contains(&self.relations.len()) {
            return Ok(());
        }
        Err(Problem::field("relations", format!("must hold 1 to {RELATIONS_MAX} relations")))
    }
}

/// What a user is to another, as it is told.
#[derive(Serialize)]
struct RelationJson<'a> {
    user: &'a UserId,
    other: &'a UserId,
    relation: Relation,
}

async fn put<B: Backend>(
    State(server): State<Shared<B>>,
    Json(Put { relations }): Json<Put>,
) -> Result<Response, Problem> {
    let rows = relations.into_iter().map(|Told { user, other, relation }| RelationRow { user, other, relation });
    // The same again makes nothing else of it, so no answer is kept for it.
    reply(&server, server.backend.execute(Command::PutRelations(rows.collect()), None).await, StatusCode::OK)
}

async fn of_user<B: Backend>(
    State(server): State<Shared<B>>,
    One(user): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    let rows = server.backend.relations(&user, RelationSide::Own, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("relations", &rows, |row| RelationJson { user: &row.user, other: &row.other, relation: row.relation }))
}

/// Forgets what a user is to others, and they to the user.
async fn erase<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(user): One<UserId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let mut erased = 0;
    for side in [RelationSide::Own, RelationSide::OfOthers] {
        // Once more, as some may have been told meanwhile.
        loop {
            match erase_side(&server, &user, side).await? {
                0 => break,
                some => erased += some,
            }
        }
    }
    tracing::info!(by = caller.owner(), relations = erased, "a user's relations are erased");
    Ok(no_content())
}

/// Forgets what is known by now on one side, and says of how many.
async fn erase_side<B: Backend>(server: &Shared<B>, user: &UserId, side: RelationSide) -> Result<usize, Problem> {
    let mut page = Page { limit: ERASED_AT_ONCE, cursor: None };
    let mut erased = 0;
    loop {
        let known = server.backend.relations(user, side, &page).await.map_err(|error| from_engine(&error))?;
        if !known.rows.is_empty() {
            erased += known.rows.len();
            let none = known.rows.into_iter().map(|row| RelationRow { relation: Relation::None, ..row }).collect();
            let done = server.backend.execute(Command::PutRelations(none), None).await;
            if let Outcome::Refused(refusal) = done.map_err(|error| from_engine(&error))?.outcome {
                return Err(from_refusal(refusal));
            }
        }
        match known.next {
            Some(next) => page.cursor = Some(next),
            None => return Ok(erased),
        }
    }
}

/// Few enough that the longest names fit in a record.
const ERASED_AT_ONCE: usize = 900;
