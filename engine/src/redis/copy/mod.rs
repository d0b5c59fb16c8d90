//! Copies from an embedded engine's directory into Redis, and back: ids, wins,
//! balances, histories in their order, deadlines, idempotency keys and
//! references with what they were answered.
//!
//! - `to_redis`, `to_directory`: one way and the other
//! - `pools`: mass envelopes, which have pools only in Redis
//! - `gifts`: gifts, both ways
//! - `directory`: a directory while something is copied into it
//!
//! Neither side may be served meanwhile. A directory is locked; a deployment has
//! the mark `copying`, with which no server starts.
//!
//! **Invariant:** a copy goes only into what is empty, or into what an
//! interrupted copy of the very same source has left. What was written is written
//! again without harm, so how far it came need not be known exactly.
//!
//! **Invariant:** the target can be served only after it was audited and has the
//! source's totals.

mod answers;
mod codes;
mod directory;
mod gifts;
mod pools;
mod sales;
mod to_directory;
mod to_redis;

use super::backend::{Core, RedisBackendOptions};
use super::error::RedisOpenError;
use super::layout::Layout;
use super::scripts::COPY;
use crate::backend::Audit;
use crate::error::EngineError;
use crate::memory::OpenError;
use crate::store::StoreError;
use std::path::Path;

pub use to_directory::copy_to_directory;
pub use to_redis::copy_to_redis;

/// How a copy is made.
#[derive(Clone, Default)]
pub struct CopyOptions {
    /// The deployment. Currency and mode are those of what is copied.
    pub backend: RedisBackendOptions,
    /// After so many rows it ends in the middle, for tests.
    #[doc(hidden)]
    pub rows_max: Option<u64>,
}

/// What a copy came to.
#[derive(Clone, Debug)]
pub struct CopyReport {
    /// Things that were copied, those of earlier attempts included.
    pub things: u64,
    /// Where all money is.
    pub totals: Audit,
    /// What the target has otherwise than the source. It is not to be served then.
    pub differences: Vec<String>,
}

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The directory cannot be read, or made.
    #[error(transparent)]
    Directory(#[from] OpenError),
    /// Its store cannot.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The deployment cannot be opened.
    #[error(transparent)]
    Redis(#[from] RedisOpenError),
    /// Redis cannot be asked now.
    #[error("{0}; run the same copy again, it goes on where it was")]
    Engine(#[from] EngineError),
    /// The target has something else.
    #[error("{0}")]
    Occupied(String),
    /// The source was served meanwhile.
    #[error("{0}")]
    Served(String),
    /// It cannot be said in the other's form.
    #[error("{0}")]
    Form(String),
    /// A test's bound was reached.
    #[doc(hidden)]
    #[error("ended in the middle, as a test asked for")]
    Stopped,
}

type Result<T> = std::result::Result<T, CopyError>;

/// The field of a deployment's row that says that it is being copied.
pub(super) const MARK: &str = "copying";
/// How the mark of a copy out of it begins; a number that nobody can guess follows.
const OUT: &str = "out:";
/// How far a copy into it has come.
const COPIED: &str = "copied";

impl Core {
    /// Changes the deployment's row.
    async fn change_deployment(&self, verb: &str, words: &[&str]) -> std::result::Result<(), EngineError> {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let args = [verb.as_bytes().to_vec(), b"1".to_vec(), words.len().to_string().into_bytes()];
        let args: Vec<Vec<u8>> = args.into_iter().chain(words).collect();
        self.call(Layout::COMMON, &COPY, &[self.layout.deployment()], &args, true).await.map(drop)
    }
}

/// Why no server starts in front of a deployment with the mark, and what to do.
pub(super) fn refusal(prefix: &str, mark: &[u8]) -> RedisOpenError {
    let how = if mark.starts_with(b"in:") { "into" } else { "out of" };
    RedisOpenError::Deployment {
        why: format!(
            "a copy {how} the deployment under the key prefix {prefix:?} is under way or was interrupted: run the same \
             `hongbao copy` again; to give a copy out of it up: redis-cli HDEL '{prefix}:{{b0}}:deployment' {MARK}"
        ),
    }
}

fn occupied(place: &Path) -> CopyError {
    CopyError::Occupied(format!(
        "{} is not empty, and not what an interrupted copy of this source has left; copy into another directory",
        place.display()
    ))
}
