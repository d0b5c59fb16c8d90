//! Health, metrics, documentation, and what only test deployments have.
//!
//! **Invariant:** none of these but those for tests needs a key, and none is ever shed.

use crate::app::{Shared, Table};
use crate::door::Class;
use crate::extract::{Content, Json};
use crate::faults;
use crate::fields::Seconds;
use crate::problem::{Code, Problem};
use crate::reply::reply;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{Redirect, Response};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::Command;
use serde::Deserialize;

/// The OpenAPI document of the routes.
pub const OPENAPI: &str = include_str!("openapi.json");
const DOCS: &str = include_str!("docs.html");

/// Adds whether the server lives and serves.
pub fn health_routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.get("/livez", Class::Open, live).get("/readyz", Class::Open, ready::<B>)
}

/// Adds the metrics.
pub fn metrics_routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.get("/metrics", Class::Open, metrics::<B>)
}

/// Adds the OpenAPI document, for machines and for people.
pub fn documentation_routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.get("/", Class::Open, home).get("/openapi.json", Class::Open, openapi).get("/docs", Class::Open, docs)
}

/// Adds the routes that only test deployments have.
pub fn test_routes<B: Backend>(table: Table<B>) -> Table<B> {
    faults::routes(table.post("/v1/test/clock", Class::Ordinary, advance_clock::<B>))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_s: Seconds,
}

impl Content for Advance {}

type Text = ([(HeaderName, &'static str); 1], &'static str);

async fn live() -> Text {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"live"}"#)
}

async fn ready<B: Backend>(State(server): State<Shared<B>>) -> Result<Text, Problem> {
    server.backend.ready().map_err(|why| Problem::new(Code::NotReady, why))?;
    Ok(([(CONTENT_TYPE, "application/json")], r#"{"status":"ready"}"#))
}

async fn metrics<B: Backend>(State(server): State<Shared<B>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], server.metrics.render())
}

/// Not for ever: whoever looks at another server on this port later is not to be sent here.
async fn home() -> Redirect {
    Redirect::to("/docs")
}

async fn openapi() -> Text {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn docs() -> Text {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], DOCS)
}

async fn advance_clock<B: Backend>(
    State(server): State<Shared<B>>,
    Json(Advance { advance_s }): Json<Advance>,
) -> Result<Response, Problem> {
    let command = Command::AdvanceClock { by_s: advance_s.get() };
    reply(&server, server.backend.execute(command, None).await, StatusCode::OK)
}
