//! Which directory has a deployment's archive, and that every engine needs it
//! from when the first had one.

use super::{Archive, Archived, Archiving, NOTED};
use crate::clock::{Clock, SystemClock};
use crate::error::EngineError;
use crate::redis::backend::{RedisBackendOptions, Settled, named, setting};
use crate::redis::error::RedisOpenError;
use crate::redis::layout::Layout;
use crate::redis::nodes::Nodes;
use crate::redis::reply::Answer;
use crate::redis::scripts::SETTINGS;
use crate::types::Timestamp;
use std::sync::Arc;

/// Says for ever that something may be archived, before anything is. The
/// directory is the right one, or was empty.
pub(in crate::redis) async fn note_archive(
    nodes: &Nodes,
    layout: &Layout,
    options: &RedisBackendOptions,
    settled: Settled,
) -> Result<Settled, RedisOpenError> {
    archive_of(options, layout, &settled, &setting(&settled, "secret")?)?;
    let now = match &options.clock {
        Some(clock) => clock.now(),
        None => SystemClock::start(0, Timestamp::default()).now(),
    };
    let words = [NOTED.as_bytes().to_vec(), now.ms().to_string().into_bytes()];
    let value = nodes.call(Layout::COMMON, &SETTINGS, &[layout.deployment()], &words, true).await;
    let failed = |error: EngineError| RedisOpenError::Deployment { why: error.to_string() };
    value.and_then(Answer::read).and_then(|answer| named(&answer)).map_err(failed)
}

/// The archive that these options name, if they do and if it is the deployment's.
pub(in crate::redis) fn archive_of(
    options: &RedisBackendOptions,
    layout: &Layout,
    settled: &Settled,
    secret: &[u8; 32],
) -> Result<(Archived, Archiving), RedisOpenError> {
    let noted_at = settled.get(NOTED).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let Some(path) = &options.redis.archive else {
        if noted_at.is_none() {
            return Ok((None, Archiving::default()));
        }
        return Err(RedisOpenError::Deployment {
            why: format!(
                "envelopes of the deployment under the key prefix {:?} are archived: name the directory that its servers \
                 archive into (--redis-archive DIR)",
                layout.prefix
            ),
        });
    };
    let mut nonce = [0; 16];
    options.entropy.fill(&mut nonce);
    let archive = Archive::open(path, secret, noted_at.is_some(), nonce)?;
    let extent = archive.files().map(|files| files.extent());
    let extent = extent.map_err(|error| RedisOpenError::ArchiveDamaged(error.to_string()))?;
    let after_ms = options.redis.archive_after.as_millis().try_into().unwrap_or(u64::MAX);
    let noted_at = Timestamp::from_ms(noted_at.unwrap_or(0));
    Ok((Some(Arc::new(archive)), Archiving::new(after_ms, noted_at, extent)))
}
