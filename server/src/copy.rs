//! `hongbao copy`: from a directory into Redis, or back.

use crate::audit::printer;
use crate::config::{Copy, urls_of_environment};
use crate::failure::{Failure, check_data_directory};
use crate::progress::Bar;
use hongbao_engine::EngineError;
use hongbao_engine::redis::{CopyError, CopyOptions, CopyReport, Progress, RedisBackendOptions, RedisOpenError};
use hongbao_engine::redis::{copy_to_directory, copy_to_redis};
use std::path::Path;

/// Copies, and prints what was copied. Says whether the copy can be served.
///
/// # Errors
/// Why it cannot be copied.
pub fn run(options: &Copy) -> Result<bool, Failure> {
    let (urls, directory, into_redis) = match (is_url(&options.from), is_url(&options.to)) {
        (false, true) => (&options.to, Path::new(&options.from), true),
        (true, false) => (&options.from, Path::new(&options.to), false),
        _ => {
            let why = "one of --from and --to is a directory, and the other redis://HOST:PORT[,...]";
            return Err(Failure::Usage(why.to_owned()));
        }
    };
    if into_redis {
        check_data_directory("--from", directory, &["journal", "store"])?;
    }
    let redis = options.way.options(urls_at(urls)?);
    let copying = CopyOptions {
        backend: RedisBackendOptions { redis, ..RedisBackendOptions::default() },
        ..CopyOptions::default()
    };
    let bar = Bar::of(if into_redis { "things" } else { "buckets" });
    let mut progress = |Progress { done, all }| bar.tell(done, all);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        match into_redis {
            true => copy_to_redis(directory, copying, &mut progress).await,
            false => copy_to_directory(copying, directory, &mut progress).await,
        }
    })?;
    drop(bar);
    Ok(tell(&report))
}

/// The urls that were given, or of which was said that the environment has them.
fn urls_at(place: &str) -> Result<Vec<String>, Failure> {
    if place.split_once("://").is_some_and(|(_, rest)| !rest.is_empty()) {
        return Ok(place.split(',').map(str::to_owned).collect());
    }
    let urls = urls_of_environment();
    if urls.is_empty() {
        let why = format!(
            "{place} alone stands for what HONGBAO_REDIS says, and that says nothing; set it, or name the servers"
        );
        return Err(Failure::Usage(why));
    }
    Ok(urls)
}

fn is_url(place: &str) -> bool {
    place.starts_with("redis://") || place.starts_with("rediss://")
}

fn tell(report: &CopyReport) -> bool {
    let CopyReport { things, totals, differences } = report;
    differences.iter().cloned().for_each(printer());
    println!(
        "{things} things copied: {} deposited, {} withdrawn, {} in wallets, {} in envelopes, {} with merchants",
        totals.deposited, totals.withdrawn, totals.wallets, totals.escrowed, totals.merchants
    );
    match differences.len() {
        0 => println!("clean: the copy has the same totals, and nothing is lost, doubled or oversold"),
        count => println!("{count} differences: do not serve the copy"),
    }
    differences.is_empty()
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Failure {
        match error {
            CopyError::Directory(error) => error.into(),
            CopyError::Redis(RedisOpenError::Option { option: "urls", why }) => {
                Failure::Usage(format!("the url in --from or --to: {why}"))
            }
            CopyError::Redis(error) => error.into(),
            CopyError::Occupied(why) => Failure::Usage(why),
            CopyError::Engine(EngineError::NotReady(why)) if why.contains("OOM") => {
                let remedy = "raise its maxmemory (redis-cli CONFIG SET maxmemory BYTES, and in redis.conf, on every \
                              server), then run the same copy again, it goes on where it was";
                Failure::Broken(format!("the memory of Redis is full: {why}; {remedy}"))
            }
            error @ (CopyError::Store(_)
            | CopyError::Engine(_)
            | CopyError::Served(_)
            | CopyError::Form(_)
            | CopyError::Stopped) => Failure::Broken(error.to_string()),
        }
    }
}
