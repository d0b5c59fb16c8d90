//! Faults that test deployments are told to make, so that callers can see what
//! they do when an answer does not come.
//!
//! **Invariant:** a live deployment has none: they are made only where [`Faults`]
//! exist, and those exist only with `--test`.

use crate::app::{Shared, Table};
use crate::door::Class;
use crate::extract::{Content, Json};
use crate::fields::{Int, word};
use crate::problem::Problem;
use crate::reply::json;
use axum::extract::State;
use axum::response::Response;
use hongbao_engine::backend::Backend;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How late an answer is that is told to be slow.
pub const SLOW: Duration = Duration::from_secs(2);
/// The most requests that can be told to fail.
const COUNT_MAX: u64 = 1_000_000;

/// What can be told to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The request is shed: 503, and nothing happens.
    Overloaded,
    /// The request is carried out [`SLOW`] later.
    Slow,
    /// The request is carried out, and the connection ends without an answer.
    LoseReply,
}

/// How many requests each fault is still to befall.
#[derive(Default)]
pub struct Faults {
    overloaded: AtomicU64,
    slow: AtomicU64,
    lose_reply: AtomicU64,
}

impl Faults {
    fn left(&self, fault: Fault) -> &AtomicU64 {
        match fault {
            Fault::Overloaded => &self.overloaded,
            Fault::Slow => &self.slow,
            Fault::LoseReply => &self.lose_reply,
        }
    }

    /// Whether it befalls the request that asks: each that it does is one less to come.
    pub fn befalls(&self, fault: Fault) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.left(fault).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// Marks a response that is not to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost;

/// Why a connection ends without an answer.
#[derive(Debug)]
pub(crate) struct ReplyLost;

impl fmt::Display for ReplyLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reply was lost, as a test asked")
    }
}

impl std::error::Error for ReplyLost {}

/// Adds the route that plants faults.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.post("/v1/test/faults", Class::Ordinary, plant::<B>)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plant {
    #[serde(deserialize_with = "word")]
    fault: Fault,
    /// So many of the next requests; none takes back what was told.
    count: Int<0, COUNT_MAX>,
}

impl Content for Plant {}

#[derive(Serialize)]
struct Planted {
    fault: Fault,
    count: u64,
}

async fn plant<B: Backend>(
    State(server): State<Shared<B>>,
    Json(Plant { fault, count }): Json<Plant>,
) -> Result<Response, Problem> {
    let faults = server.faults().ok_or_else(Problem::not_found)?;
    let count = count.get();
    faults.left(fault).store(count, Ordering::Relaxed);
    tracing::info!(?fault, count, "requests are told to fail");
    Ok(json(&Planted { fault, count }))
}
