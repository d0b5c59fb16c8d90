//! Deployments on a redis-server, or a Cluster, that the tests start.

#![allow(dead_code)]

pub(crate) use crate::redis_stand::is_missing;
use crate::redis_stand::{RedisCluster, RedisServer, ServerOptions};
use crate::stand::World;
use hongbao_engine::redis::{Durability, RedisBackend, RedisBackendOptions, RedisOptions};
use std::any::Any;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What the tests of this process share, while any of them runs.
fn shared<T>(known: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    known.upgrade().unwrap_or_else(|| {
        let started = Arc::new(start());
        *known = Arc::downgrade(&started);
        started
    })
}

/// A new deployment, and the options that engines in front of it are opened with.
pub(crate) struct Deployment {
    pub(crate) options: RedisBackendOptions,
    pub(crate) runtime: Runtime,
    archive: Option<TempDir>,
    // Ended after all that stands before it.
    _servers: Arc<dyn Any + Send + Sync>,
}

impl Deployment {
    /// On a single server without a file, and whatever it said is good. Time is
    /// moved by hand, and what is due is done when it is asked for.
    pub(crate) fn new(seed: u64) -> Deployment {
        static SERVER: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        let server = shared(&SERVER, || RedisServer::start(ServerOptions::without_aof()));
        Deployment::over(seed, vec![server.url()], server)
    }

    /// The same on a Cluster of three primaries.
    pub(crate) fn on_cluster(seed: u64) -> Deployment {
        static CLUSTER: Mutex<Weak<RedisCluster>> = Mutex::new(Weak::new());
        let cluster = shared(&CLUSTER, || RedisCluster::start_with(3, 0, ServerOptions::without_aof()));
        Deployment::over(seed, cluster.urls(), cluster)
    }

    /// On a server that the test has for itself.
    pub(crate) fn alone_on(seed: u64, server: &Arc<RedisServer>) -> Deployment {
        let servers: Arc<dyn Any + Send + Sync> = Arc::<RedisServer>::clone(server);
        Deployment::over(seed, vec![server.url()], servers)
    }

    /// The same with all envelopes in so many pools.
    pub(crate) fn in_pools(seed: u64, buckets: u16) -> Deployment {
        Deployment::new(seed).with_pools(buckets)
    }

    /// With so many buckets, and a pool of every envelope in each.
    pub(crate) fn with_pools(mut self, buckets: u16) -> Deployment {
        self.options.redis.buckets = buckets;
        self.options.redis.mass_shares_min = Some(1);
        self
    }

    /// What is settled leaves Redis at the next tour.
    pub(crate) fn archiving(mut self) -> Deployment {
        let directory = tempfile::tempdir().expect("a directory");
        self.options.redis.archive = Some(directory.path().to_owned());
        self.options.redis.archive_after = Duration::ZERO;
        self.archive = Some(directory);
        self
    }

    /// Where it archives.
    pub(crate) fn archive(&self) -> &Path {
        self.archive.as_ref().expect("it archives").path()
    }

    fn over(seed: u64, urls: Vec<String>, servers: Arc<dyn Any + Send + Sync>) -> Deployment {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let world = World::new(seed);
        let redis = RedisOptions {
            urls,
            key_prefix: format!("made{}", MADE.fetch_add(1, Ordering::Relaxed)),
            // Few, so that of what crosses from bucket to bucket some stays in one.
            buckets: 8,
            durability: Durability::Relaxed,
            ..RedisOptions::default()
        };
        let options = RedisBackendOptions {
            redis,
            test_mode: true,
            clock: Some(world.clock),
            entropy: world.entropy,
            sweep_every: None,
            // A busy machine is not an overloaded deployment.
            mover_patience: Duration::from_secs(60),
            ..RedisBackendOptions::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Deployment { options, runtime: runtime.expect("a runtime"), archive: None, _servers: servers }
    }

    /// Another engine in front of it.
    pub(crate) fn open(&self) -> RedisBackend {
        self.drive(RedisBackend::open(self.options.clone())).expect("it opens")
    }

    pub(crate) fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Does all that is due.
    pub(crate) fn settle(&self, backend: &RedisBackend) {
        while self.drive(backend.sweep()).expect("it sweeps") {}
    }
}
