//! The engine in front of Redis or Valkey, a single server or a Cluster: every
//! decision is one atomic Lua script, so any number of servers may stand before it.
//!
//! - `backend`: opening it, and what its parts share.
//! - `commands`: which script decides each command, and what its answer means.
//! - `grabs`: grabs of envelopes, which travel together.
//! - `api_keys`: who may call.
//! - `memos`: idempotency keys and references.
//! - `effects`: what crosses from bucket to bucket.
//! - `opening`: a funded envelope opens.
//! - `pools`, `pool_reads`: mass envelopes, of which every bucket has a part.
//! - `payouts`: what is to be paid outside, and what came of it.
//! - `redact`: messages that are taken back.
//! - `sweep`: deadlines, and what ended engines left in the middle.
//! - `reads`, `lists`: reads, lists and where all money is.
//! - `archive`: what has left Redis, in files.
//! - `attach`, `names`: engines for work on a deployment, and who and what is in it.
//! - `copy`: from an embedded engine's directory, and into one.
//! - `audit`, `reconcile`: every invariant checked from the rows, and what is late carried.
//! - `gifts`: gifts, and the payments with which they are made.
//! - `codes`: units that are codes, and who was handed which.
//! - `orders`: orders that are led on and sent back.
//! - `sales`: what merchants have of their sales.
//! - `notes`: what servers keep for themselves.
//! - `layout`, `rows`, `reply`, `scripts`: keys, envelopes' rows, answers, and the scripts themselves.
//! - `bucket`: which of the fixed buckets a thing lies in, and so which slot.
//! - `script`: a Lua script, known to servers by its hash.
//! - `nodes`: where slots are, and calls that are followed, retried and confirmed.
//! - `absence`: whether calls find Redis away.
//! - `lane`: calls that wait for the same connection travel together.
//! - `tls`: certificates for connections that are encrypted.
//! - `topology`, `settings`: what the servers say of themselves, and what must be so.

mod absence;
mod api_keys;
mod archive;
mod attach;
mod audit;
mod backend;
mod bucket;
mod codes;
mod commands;
mod copy;
mod effects;
mod error;
mod events;
mod gifts;
mod grabs;
mod lane;
mod layout;
mod lists;
mod memos;
mod names;
#[allow(dead_code, reason = "lanes of grabs and blocking reads will want it")]
mod nodes;
mod notes;
mod opening;
mod options;
mod orders;
mod payouts;
mod pool_reads;
mod pools;
mod reads;
mod reconcile;
mod redact;
mod reply;
mod rows;
mod sales;
#[allow(dead_code, reason = "scripts that write whenever they answer will want it")]
mod script;
mod scripts;
mod settings;
mod sweep;
mod tls;
mod topology;

#[cfg(test)]
mod tests;

pub use archive::RedisArchived;
pub use audit::{Finding, FindingKind, OnProgress, Progress, RedisAudit};
#[doc(hidden)]
pub use backend::Fuse;
pub use backend::{RedisBackend, RedisBackendOptions};
pub use copy::{CopyError, CopyOptions, CopyReport, copy_to_directory, copy_to_redis};
pub use error::RedisOpenError;
pub use events::{RedisEvents, ToldEvents};
pub use options::{Durability, RedisIdentity, RedisOptions, RedisTls};
pub use reconcile::Reconciled;

#[cfg(test)]
use {bucket::Bucket, nodes::Nodes, script::Script};
