//! The reconciler: what an audit finds, and effects that nobody carried.
//!
//! **Invariant:** it repairs only by carrying effects, as any server does. That
//! is harmless if it was wrong, and however often it is done.

use super::audit::{Finding, LATE_MS, OnProgress, RedisAudit};
use super::backend::{Core, RedisBackend, Result};
use super::bucket::Bucket;
use crate::error::EngineError;
use std::sync::Arc;

/// What a reconciliation did, and what is left.
#[derive(Clone, Debug)]
pub struct Reconciled {
    /// Effects that had waited for a minute and were carried.
    pub carried: u64,
    /// Those that could not be carried, and why.
    pub refused: Vec<String>,
    /// What is found now.
    pub left: RedisAudit,
}

impl Reconciled {
    /// Everything that is left, late effects first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.left.late.iter().chain(&self.left.findings)
    }
}

impl RedisBackend {
    /// Looks for everything that is not as it should be. With `repair` it first
    /// carries effects that nobody carried for a minute.
    ///
    /// # Errors
    /// [`EngineError`] when Redis cannot be asked now; what was done stays done.
    pub async fn reconcile(&self, repair: bool, progress: OnProgress<'_>) -> Result<Reconciled> {
        let (mut carried, mut refused) = (0, Vec::new());
        if repair {
            let late = self.core.in_every_bucket(|core, bucket| async move { core.carry_older(bucket, LATE_MS).await });
            for (of_it, why) in late.await? {
                carried += of_it;
                refused.extend(why);
            }
        }
        Ok(Reconciled { carried, refused, left: self.audit_rows(progress).await? })
    }
}

impl Core {
    /// Carries a bucket's effects that are so old.
    pub(super) async fn carry_older(self: Arc<Self>, bucket: Bucket, age_ms: u64) -> Result<(u64, Vec<String>)> {
        let (mut carried, mut refused) = (0, Vec::new());
        for effect in self.waiting(bucket, age_ms).await?.late {
            let name = String::from_utf8_lossy(&effect.field).into_owned();
            match self.carry(bucket, vec![effect]).await {
                Ok(()) => carried += 1,
                Err(EngineError::Backend(why)) => {
                    refused.push(format!("{name:?} in bucket {}: {why}", bucket.number()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((carried, refused))
    }
}
