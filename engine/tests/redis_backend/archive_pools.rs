//! What is particular of mass envelopes that leave Redis: pools in parts, and pools
//! that have left while others have not.

use crate::archive::{AFTER_S, Alone, WEEK_S, alone_in_pools, assert_same, assert_sound, keys};
use crate::stand::{envelope, nth_user};
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::command::*;
use hongbao_engine::redis::{Finding, Fuse, RedisBackend, RedisBackendOptions};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// More winners than one file has.
const CROWD: usize = 9_000;

impl Alone {
    /// A tour of an engine that ends after so many calls.
    fn end_after(&self, calls: i64) {
        let deployment = &self.two.deployment;
        let fuse = Arc::new(Fuse { calls_left: AtomicI64::new(calls), loses_answer: false });
        let options = RedisBackendOptions { fuse: Some(Arc::clone(&fuse)), ..deployment.options.clone() };
        let ended = deployment.drive(RedisBackend::open(options)).expect("it opens");
        fuse.calls_left.store(calls, Ordering::Relaxed);
        deployment.drive(ended.sweep()).expect_err("it is ended");
    }

    fn findings(&self) -> Vec<Finding> {
        self.two.deployment.drive(self.engine().audit_rows(&mut |_| ())).expect("it reads").findings
    }

    /// The key of a wallet, where there is one bucket.
    fn wallet(&self, name: &str) -> String {
        format!("{}:{{b0}}:wallet:{name}", self.two.deployment.options.redis.key_prefix)
    }
}

/// A pool that leaves in parts, and whoever archives it is ended in the middle of each.
#[test]
fn a_pool_leaves_in_parts() {
    let Some(alone) = alone_in_pools(12, 1) else { return };
    let Alone { two, server } = &alone;
    let deployment = &two.deployment;
    let id = two.give(NewEnvelope { auto_claim: true, ..envelope(10 * CROWD as u64, CROWD as u32) });
    let grabs: Vec<Command> = (0..CROWD).map(|n| Command::Grab { envelope: id, user: nth_user(n) }).collect();
    for some in grabs.chunks(1000) {
        let answers = deployment.drive(alone.engine().execute_all(some.to_vec()));
        assert!(
            answers.iter().all(|answer| matches!(answer, Ok(reply) if matches!(reply.outcome, Outcome::Won { .. })))
        );
    }
    alone.advance(WEEK_S);
    let told = |backend: &RedisBackend| {
        let mut told = Vec::new();
        let mut page = Page { limit: 3000, cursor: None };
        loop {
            let listing = deployment.drive(backend.grabs(id, &page)).expect("a read").expect("it is there");
            told.extend(listing.rows.iter().map(|row| format!("{row:?}")));
            let Some(next) = listing.next else { break };
            page.cursor = Some(next);
        }
        assert_eq!(told.len(), CROWD);
        for n in (0..CROWD).step_by(500) {
            let all = Page { limit: 10, cursor: None };
            told.push(format!("{:?}", deployment.drive(backend.grab_of(id, &nth_user(n))).expect("a read")));
            told.push(format!("{:?}", deployment.drive(backend.entries(&nth_user(n), &all)).expect("a read")));
            told.push(format!("{:?}", deployment.drive(backend.received(&nth_user(n), &all)).expect("a read")));
        }
        told
    };
    let before = told(alone.engine());
    two.ask(Command::AdvanceClock { by_s: AFTER_S });
    let movements = || server.cli(&["EVAL", "return redis.call('HLEN', KEYS[1])", "1", &alone.wallet("u8999")]);
    assert_eq!(movements(), "4");
    // Two calls a winner, and others.
    for calls in [9_000, 17_000] {
        alone.end_after(calls);
        assert_same(&before, &told(&two.engines[1]), &format!("ended after {calls} calls"));
        two.ask(Command::AdvanceClock { by_s: 1000 });
    }
    assert!(keys(server).iter().any(|key| key.ends_with(":pool")), "the pool answers for all until all have left");
    deployment.settle(alone.engine());
    assert!(!keys(server).iter().any(|key| key.contains("env_")));
    assert_eq!(movements(), "2");
    assert!(alone.files().len() > 2, "{:?}", alone.files());
    assert_same(&before, &told(alone.engine()), "archived");
    assert_sound(deployment, alone.engine());
}

/// A mass envelope that may leave now.
fn settled_in_pools(seed: u64) -> Option<Alone> {
    let alone = alone_in_pools(seed, 3)?;
    let two = &alone.two;
    let id = two.give(NewEnvelope { unclaimed: Unclaimed::Credit, ..envelope(300, 30) });
    for n in 0..12 {
        two.ask(Command::Grab { envelope: id, user: nth_user(n) });
    }
    alone.advance(WEEK_S);
    two.ask(Command::AdvanceClock { by_s: AFTER_S });
    Some(alone)
}

/// Whichever file of an archived mass envelope is missing, the audit tells.
#[test]
fn a_file_that_is_missing_is_found() {
    let Some(alone) = settled_in_pools(13) else { return };
    alone.two.deployment.settle(alone.engine());
    let files = alone.files();
    assert_eq!(files.len(), 4, "the envelope's, and one of each pool");
    for file in files {
        let away = file.with_extension("away");
        fs::rename(&file, &away).expect("it is moved");
        let found = alone.findings();
        assert_ne!(found, [], "without {}", file.display());
        fs::rename(&away, &file).expect("it is back");
    }
    assert_sound(&alone.two.deployment, alone.engine());
}

/// The same while it leaves: of a pool that has left Redis nothing is left out.
#[test]
fn files_that_are_missing_while_it_leaves_are_found() {
    let Some(alone) = settled_in_pools(14) else { return };
    let Alone { two, server } = &alone;
    let pools = || keys(server).iter().filter(|key| key.ends_with(":pool")).count();
    for calls in (5..).step_by(5) {
        alone.end_after(calls);
        if pools() < 3 {
            break;
        }
        two.ask(Command::AdvanceClock { by_s: 1000 });
    }
    assert!(pools() > 0, "not all have left");
    assert_eq!(alone.findings(), []);
    let files = alone.files();
    for file in &files {
        fs::rename(file, file.with_extension("away")).expect("it is moved");
    }
    assert_ne!(alone.findings(), []);
    for file in &files {
        fs::rename(file.with_extension("away"), file).expect("it is back");
    }
    assert_sound(&two.deployment, alone.engine());
}
