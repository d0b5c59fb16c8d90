//! Engines in front of a redis-server that the tests start.

use crate::Stand;
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

/// One engine, and a deployment of its own for each story.
pub(crate) struct OnRedis {
    runtime: Runtime,
    options: RedisBackendOptions,
    // Ended before its runtime and its server.
    backend: Option<RedisBackend>,
    _server: Arc<RedisServer>,
}

impl OnRedis {
    fn new(seed: u64) -> OnRedis {
        static STORIES: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let world = World::new(seed);
        let redis = RedisOptions {
            urls: vec![server.url()],
            key_prefix: format!("story{}", STORIES.fetch_add(1, Ordering::Relaxed)),
            // Few, so that what is on its way between buckets also stays in one.
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
            ..RedisBackendOptions::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut stand = OnRedis { runtime: runtime.expect("a runtime"), options, backend: None, _server: server };
        stand.open();
        stand
    }

    fn open(&mut self) {
        self.backend = None;
        let opened = self.runtime.block_on(RedisBackend::open(self.options.clone()));
        self.backend = Some(opened.expect("it opens"));
    }
}

impl Drop for OnRedis {
    fn drop(&mut self) {
        self.backend = None;
    }
}

impl Stand for OnRedis {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;

    fn fresh() -> OnRedis {
        OnRedis::new(5)
    }

    fn backend(&self) -> &RedisBackend {
        self.backend.as_ref().expect("it is open")
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn settle(&self) {
        while self.drive(self.backend().sweep()).expect("it sweeps") {}
    }
}

/// The same with another engine after every command: none keeps anything.
pub(crate) struct OnRedisAnew(OnRedis);

impl Stand for OnRedisAnew {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;

    fn fresh() -> OnRedisAnew {
        OnRedisAnew(OnRedis::new(6))
    }

    fn backend(&self) -> &RedisBackend {
        self.0.backend()
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.drive(future)
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn befall(mut self) -> OnRedisAnew {
        self.0.open();
        self
    }
}
