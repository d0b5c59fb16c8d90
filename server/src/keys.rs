//! API keys: made, listed and deleted by admins.
//!
//! **Invariant:** a key is shown once, in the answer that made it. It is neither
//! kept nor logged; what is kept is its digest.

use crate::app::{Shared, Table};
use crate::auth::{Caller, digest, random_key};
use crate::door::Class;
use crate::extract::{Content, Json, NoParams, Once, One, Params};
use crate::fields::{Text, some};
use crate::problem::Problem;
use crate::reply::{Kind, created, from_engine, list, no_content, reply};
use crate::views::ApiKeyJson;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::api_key::{ApiKey, NewApiKey, Role};
use hongbao_engine::backend::{Backend, Reply};
use hongbao_engine::command::{Command, Outcome};
use hongbao_engine::types::{ApiKeyId, UserId};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Adds the routes of keys.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.post("/v1/keys", Class::Ordinary, create::<B>).get("/v1/keys", Class::Ordinary, find::<B>).delete(
        "/v1/keys/{id}",
        Class::Settling,
        delete::<B>,
    )
}

/// A key to be made, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: Text<1, 200>,
    #[serde(default, deserialize_with = "some")]
    owner: Option<UserId>,
    roles: Vec<NamedRole>,
}

struct NamedRole(Role);

impl<'de> Deserialize<'de> for NamedRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(NamedRole).map_err(D::Error::custom)
    }
}

impl Content for Create {
    fn check(&self) -> Result<(), Problem> {
        self.owner().map(drop)
    }
}

impl Create {
    fn owner(&self) -> Result<UserId, Problem> {
        let of_name = || {
            UserId::new(&self.name.0).map_err(|error| {
                Problem::field("owner", format!("is the name unless it is given, and {error}; give one that may be so"))
            })
        };
        self.owner.clone().map_or_else(of_name, Ok)
    }
}

async fn create<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    Once(once): Once,
    Json(body): Json<Create>,
) -> Result<Response, Problem> {
    let key = random_key();
    let digest = digest(key.as_bytes());
    let owner = body.owner()?;
    let roles = body.roles.into_iter().map(|NamedRole(role)| role).collect();
    let command = Command::CreateApiKey(Box::new(NewApiKey { name: body.name.0, owner, roles, digest }));
    match server.backend.execute(command, Some(once)).await {
        // Under an idempotency key that made one before, that one is told, which is not the one drawn now.
        Ok(Reply { outcome: Outcome::ApiKey(made), .. }) if made.digest == digest => {
            log("made an API key", &made, &caller);
            if let Err(error) = server.keys().refresh(&*server.backend).await {
                // It is made, and nobody can be shown it a second time.
                tracing::warn!(%error, id = %made.id, "a new API key works here only after the keys could be read");
            }
            server.metrics.count(Kind::ApiKey);
            Ok(created(&ApiKeyJson::new(&made, Some(&key))))
        }
        other => reply(&server, other, StatusCode::CREATED),
    }
}

async fn find<B: Backend>(State(server): State<Shared<B>>, params: Params) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    let rows = server.backend.api_keys(&page).await.map_err(|error| from_engine(&error))?;
    Ok(list("keys", &rows, ApiKeyJson::listed))
}

async fn delete<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(key): One<ApiKeyId>,
    _: NoParams,
) -> Result<Response, Problem> {
    match server.backend.execute(Command::DeleteApiKey { key }, None).await {
        Ok(Reply { outcome: Outcome::ApiKey(deleted), .. }) => {
            server.keys().remove(key).await;
            log("deleted an API key", &deleted, &caller);
            server.metrics.count(Kind::ApiKey);
            Ok(no_content())
        }
        other => reply(&server, other, StatusCode::OK),
    }
}

fn log(what: &'static str, key: &ApiKey, by: &Caller) {
    let roles = key.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    tracing::info!(id = %key.id, name = key.name, owner = %key.owner, roles, %by, "{what}");
}
