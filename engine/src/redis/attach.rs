//! Engines for work on a deployment that is there already: audits, repairs, copies.
//!
//! **Invariant:** such an engine makes no deployment, and does nothing by itself.

use super::backend::{RedisBackend, RedisBackendOptions, Settled, layout_of, named};
use super::error::RedisOpenError;
use super::layout::{FORMAT, Layout};
use super::nodes::Nodes;
use super::options::RedisOptions;
use super::reply::Answer;
use super::scripts::READ;

impl RedisBackend {
    /// Opens an engine in front of a deployment that was made before, whatever
    /// its buckets, currency and mode are. It keeps no deadlines.
    ///
    /// # Errors
    /// [`RedisOpenError::Deployment`] if there is none; the others say what is
    /// wrong and what to do.
    pub async fn attach(options: RedisBackendOptions) -> Result<RedisBackend, RedisOpenError> {
        let settled = found(&options.redis).await?;
        let Some(settled) = settled else {
            let prefix = &options.redis.key_prefix;
            let why =
                format!("there is no deployment under the key prefix {prefix:?}; name its own with --redis-prefix");
            return Err(RedisOpenError::Deployment { why });
        };
        let text = |name: &str| settled.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let format = text("format").unwrap_or_default();
        if format != FORMAT {
            return Err(other_format(&format));
        }
        let buckets = text("buckets").and_then(|text| text.parse().ok()).unwrap_or(0);
        let redis = RedisOptions { buckets, ..options.redis };
        let nodes = Nodes::connect(&redis).await?;
        let layout = layout_of(&redis);
        let test_mode = text("mode").as_deref() == Some("test");
        let options = RedisBackendOptions { redis, test_mode, sweep_every: None, ..options };
        RedisBackend::over(nodes, layout, options, &settled)
    }
}

/// The refusal of a deployment of another format.
pub(super) fn other_format(found: &str) -> RedisOpenError {
    let is_older = found.parse::<u32>().ok() < FORMAT.parse().ok();
    let remedy = if is_older {
        "run the version that made it, or take it along: `hongbao copy` of that one into a directory, and of this one from \
         there under another --redis-prefix"
    } else {
        "run the version that made it or a newer one"
    };
    let why = format!("the deployment has format {found} and this version knows {FORMAT}; {remedy}");
    RedisOpenError::Deployment { why }
}

/// What the deployment under a prefix was made with, if there is one.
pub(super) async fn found(options: &RedisOptions) -> Result<Option<Settled>, RedisOpenError> {
    let failed = |error: crate::EngineError| RedisOpenError::Deployment { why: error.to_string() };
    // Where all deployments have a bucket, however many they have.
    let options = RedisOptions { buckets: 1, ..options.clone() };
    let nodes = Nodes::connect(&options).await?;
    let layout = layout_of(&options);
    let row = nodes.call(Layout::COMMON, &READ, &[layout.deployment()], &[b"row".to_vec()], true).await;
    let settled = row.and_then(Answer::read).and_then(|answer| named(&answer)).map_err(failed)?;
    Ok((!settled.is_empty()).then_some(settled))
}
