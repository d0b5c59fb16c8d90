//! Deployments on a redis-server that the tests start.

use crate::redis_stand::{RedisServer, ServerOptions};
use crate::stand::World;
use hongbao_engine::redis::{Durability, RedisBackend, RedisBackendOptions, RedisOptions};
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::Runtime;

/// Whether there is no redis-server, and the tests were told to do without.
pub(crate) fn is_missing() -> bool {
    let without = std::env::var_os("HONGBAO_WITHOUT_REDIS").is_some();
    let is_missing = without && std::process::Command::new("redis-server").arg("--version").output().is_err();
    if is_missing {
        eprintln!("redis-server is missing, so nothing is tested here; install it: apt-get install redis-server");
    }
    is_missing
}

/// One server for all tests of this process, while any of them runs.
fn server() -> Arc<RedisServer> {
    static SERVER: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
    let mut known = SERVER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    known.upgrade().unwrap_or_else(|| {
        let server = Arc::new(RedisServer::start(ServerOptions::without_aof()));
        *known = Arc::downgrade(&server);
        server
    })
}

/// A new deployment, and the options that engines in front of it are opened with.
pub(crate) struct Deployment {
    pub(crate) options: RedisBackendOptions,
    pub(crate) runtime: Runtime,
    // Ended after all that stands before it.
    _server: Arc<RedisServer>,
}

impl Deployment {
    /// Time is moved by hand, and what is due is done when it is asked for.
    pub(crate) fn new(seed: u64) -> Deployment {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let world = World::new(seed);
        let redis = RedisOptions {
            urls: vec![server.url()],
            key_prefix: format!("made{}", MADE.fetch_add(1, Ordering::Relaxed)),
            // Few, so that of what crosses from bucket to bucket some stays in one.
            buckets: 8,
            durability: Durability::Relaxed,
            ..RedisOptions::default()
        };
        let options = RedisBackendOptions {
            redis,
            test_mode: true,
            clock: Some(Arc::<hongbao_engine::clock::ManualClock>::clone(&world.clock)),
            entropy: Arc::<hongbao_engine::entropy::SeededEntropy>::clone(&world.entropy),
            sweep_every: None,
            ..RedisBackendOptions::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Deployment { options, runtime: runtime.expect("a runtime"), _server: server }
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
