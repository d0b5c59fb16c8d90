//! Files of Redis keep what was erased until they are written anew: the append-only file of every
//! server that has the bucket, and its dump if it makes any.
//!
//! That an address is erased, or a text taken back, is noted in its bucket, in the same step; the note goes when all servers that
//! have the bucket have written their files since. So nobody who ends in the middle has to be
//! followed by anybody in particular.
//!
//! **Invariant:** a server is asked at most once in five minutes, however much is erased
//! and however many engines there are: writing a file anew costs it memory and disk.

use super::backend::{Core, Result};
use super::bucket::Bucket;
use super::layout::Layout;
use super::nodes::Node;
use super::reply::{Answer, damaged};
use super::scripts::REWRITE;
use super::settings::field;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// So long a server that was asked is not asked again.
const ASKED_EVERY_MS: u64 = 300_000;
/// Until it has to have said how it stands.
const QUESTION: Duration = Duration::from_secs(10);
/// Between two looks at whether it has written its files.
const LOOK: Duration = Duration::from_millis(100);
/// So long it may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// What a server says of itself while it writes, or will soon.
const BUSY: [&str; 3] = ["aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress"];

impl Core {
    /// Has the files of these buckets' servers written anew, of each unless it was asked not long ago.
    pub(super) async fn rewrite_files(&self, buckets: Vec<Bucket>) -> Result<()> {
        let mut left = buckets;
        while let Some(first) = left.first().copied() {
            let Some(servers) = self.nodes.servers_of(first) else { return Ok(()) };
            let is_there = |bucket: &Bucket| {
                self.nodes.servers_of(*bucket).is_some_and(|others| others[0].address == servers[0].address)
            };
            let (there, elsewhere) =
                left.into_iter().partition::<Vec<_>, _>(|bucket| *bucket == first || is_there(bucket));
            left = elsewhere;
            self.rewrite_files_of(&servers, &there).await?;
        }
        Ok(())
    }

    async fn rewrite_files_of(&self, servers: &[Arc<Node>], buckets: &[Bucket]) -> Result<()> {
        let primary = servers[0].address.to_string();
        let ask = [b"ask".to_vec(), primary.clone().into_bytes(), ASKED_EVERY_MS.to_string().into_bytes()];
        let asked = self.run(Layout::COMMON, &REWRITE, [self.layout.rewrites()], ask).await?;
        match Answer::of_script(asked)?.tag() {
            b"ask" => {}
            b"no" => return Ok(()),
            _ => return Err(damaged("an answer")),
        }
        // What is erased from here on may be in the files that are written.
        let mut notes = Vec::new();
        for &bucket in buckets {
            let row =
                self.read(bucket, &[self.layout.erased(bucket)], &["row", "last"].map(|word| word.into())).await?;
            notes.extend(row.maybe(0).map(|last| (bucket, last.to_vec())));
        }
        // Where the primary's own log was by then; 0 says that a server is one.
        let mut written = 0;
        for server in servers {
            let done = write_anew(server, written).await;
            if let Ok(position) = done {
                written = written.max(position);
            }
            if let Err(why) = done {
                let server = server.address.to_string();
                tracing::warn!(
                    server,
                    why,
                    "its files may have what was erased or taken back; it is asked again in some minutes, or write them anew \
                     by hand: redis-cli BGREWRITEAOF, and BGSAVE if it makes dumps"
                );
                return Ok(());
            }
        }
        for (bucket, last) in notes {
            self.run(bucket, &REWRITE, [self.layout.erased(bucket)], [b"done".to_vec(), last]).await?;
        }
        tracing::info!(
            primary,
            servers = servers.len(),
            "files of Redis were written anew, without what was erased and taken back"
        );
        Ok(())
    }
}

/// Has a server write its files anew, once it has what its primary had at a position of its log, and
/// waits until it has. Tells where its own log was before.
async fn write_anew(server: &Node, primary: u64) -> std::result::Result<u64, String> {
    let until = Instant::now() + PATIENCE;
    let number = |info: &str, name| field(info, name).and_then(|number| number.parse::<u64>().ok());
    let mut info = info_of(server).await?;
    while number(&info, "slave_repl_offset").is_some_and(|position| position < primary) {
        if Instant::now() >= until {
            return Err("it does not come up with its primary".to_owned());
        }
        sleep(LOOK).await;
        info = info_of(server).await?;
    }
    if field(&info, "aof_enabled") == Some("1") {
        carry_out(server, &info, "BGREWRITEAOF", "aof_last_bgrewrite_status").await?;
    }
    let saves: Vec<String> = server.query(&["CONFIG", "GET", "save"], QUESTION).await.map_err(|e| e.to_string())?;
    if saves.get(1).is_some_and(|times| !times.is_empty()) {
        carry_out(server, &info, "BGSAVE", "rdb_last_bgsave_status").await?;
    }
    Ok(number(&info, "master_repl_offset").unwrap_or(0))
}

async fn carry_out(server: &Node, before: &str, command: &str, status: &str) -> std::result::Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let mut is_asked = false;
    loop {
        let info = info_of(server).await?;
        if field(&info, "run_id") != field(before, "run_id") {
            return Err("it was started again in the middle".to_owned());
        }
        let is_busy = BUSY.iter().any(|what| field(&info, what) == Some("1"));
        match (is_busy, is_asked) {
            (false, true) if field(&info, status) == Some("ok") => return Ok(()),
            (false, true) => return Err(format!("{command} failed; its log says why")),
            (false, false) => match server.query::<String>(&[command], QUESTION).await {
                Ok(_) => is_asked = true,
                // Somebody else was faster, and began before.
                Err(error) if error.to_string().contains("in progress") || error.to_string().contains("child") => {}
                Err(error) => return Err(format!("{command}: {error}")),
            },
            (true, _) => {}
        }
        if Instant::now() >= until {
            return Err(format!("{command} does not end"));
        }
        sleep(LOOK).await;
    }
}

async fn info_of(server: &Node) -> std::result::Result<String, String> {
    server.query(&["INFO"], QUESTION).await.map_err(|error| error.to_string())
}
