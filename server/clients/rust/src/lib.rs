//! Client of a Hongbao server: every call of its HTTP API, typed, repeated as the
//! server says.
//!
//! ```no_run
//! use hongbao_client::types::{ByUser, GrabOutcome, NewEnvelope, Transfer};
//! use hongbao_client::Client;
//!
//! # async fn evening() -> Result<(), hongbao_client::Error> {
//! let hongbao = Client::new("http://127.0.0.1:8080", "hb_...")?;
//! hongbao.deposit("alice", &Transfer::new(1000)).await?;
//! let envelope = hongbao.create_envelope(&NewEnvelope::new("alice", 1000, 3)).await?;
//! if let GrabOutcome::Won(won) = hongbao.grab(&envelope.id, &ByUser::new("bob")).await? {
//!     println!("{}", won.amount);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A call that gets no answer is made again, under the same idempotency key, until its
//! time is over; whatever happened on the way happened once. A business "no" is an
//! outcome, not an error; an outcome that this version does not know is `Unknown`, to be
//! read as "no win so far". Amounts are integers of minor units (fen).
//!
//! It speaks `http`, as the server does; for `https` there is a proxy on either side.
//!
//! # Layout
//! - `calls`, `types`: generated from the OpenAPI document by `server/clients/generate`
//! - `transport`: connections, keys, repeats
//! - `webhook`: what receivers of webhooks check
//! - `error`, `word`: what is the same of all calls and types

#[rustfmt::skip]
mod calls;
mod error;
mod transport;
#[rustfmt::skip]
pub mod types;
mod webhook;
mod word;

pub use calls::OPERATIONS;
pub use error::{Error, FieldError, Problem};
pub use transport::{Client, Pages};
pub use webhook::{InvalidWebhook, TOLERANCE, WebhookHeaders, verify_webhook};
