//! The engine in front of Redis or Valkey, a single server or a Cluster: every
//! decision is one atomic Lua script, so any number of servers may stand before it.
//!
//! - `bucket`: which of the fixed buckets a thing lies in, and so which slot.
//! - `script`: a Lua script, known to servers by its hash.
//! - `nodes`: where slots are, and calls that are followed, retried and confirmed.
//! - `lane`: calls that wait for the same connection travel together.
//! - `topology`, `settings`: what the servers say of themselves, and what must be so.

// The nodes are made before the backend that calls them.
#![allow(dead_code, unused_imports)]

mod bucket;
mod error;
mod lane;
mod nodes;
mod options;
mod script;
mod settings;
mod topology;

#[cfg(test)]
mod tests;

pub use error::RedisOpenError;
pub use options::{Durability, RedisOptions};

pub(crate) use bucket::Bucket;
pub(crate) use nodes::Nodes;
pub(crate) use script::Script;
