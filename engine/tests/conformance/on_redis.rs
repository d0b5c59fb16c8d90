//! Engines in front of a redis-server that the tests start.

use crate::Stand;
use crate::deployment::Deployment;
use hongbao_engine::redis::RedisBackend;
use std::future::Future;

/// One engine, and a deployment of its own for each story.
pub(crate) struct OnRedis {
    // Ended before its runtime and its server.
    backend: RedisBackend,
    deployment: Deployment,
}

impl OnRedis {
    fn over(deployment: Deployment) -> OnRedis {
        OnRedis { backend: deployment.open(), deployment }
    }
}

impl Stand for OnRedis {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;

    fn fresh() -> OnRedis {
        OnRedis::over(Deployment::new(5))
    }

    fn backend(&self) -> &RedisBackend {
        &self.backend
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        self.deployment.drive(future)
    }

    fn settle(&self) {
        self.deployment.settle(&self.backend);
    }
}

/// One engine in front of a Cluster of three primaries.
pub(crate) struct OnCluster(OnRedis);

impl Stand for OnCluster {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;

    fn fresh() -> OnCluster {
        OnCluster(OnRedis::over(Deployment::on_cluster(7)))
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
}

/// The same with another engine after every command: none keeps anything.
pub(crate) struct OnRedisAnew(OnRedis);

impl Stand for OnRedisAnew {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;

    fn fresh() -> OnRedisAnew {
        OnRedisAnew(OnRedis::over(Deployment::new(6)))
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
        self.0.backend = self.0.deployment.open();
        self
    }
}

/// One engine, and every envelope in a pool and a reserve. With one bucket there
/// is one pool, so shares are grabbed in their order, as stories tell them.
pub(crate) struct OnPool(OnRedis);

impl Stand for OnPool {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;
    const BATCHES_IN_ORDER: bool = false;

    fn fresh() -> OnPool {
        OnPool(OnRedis::over(Deployment::in_pools(8, 1)))
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

    fn befall(mut self) -> OnPool {
        self.0.backend = self.0.deployment.open();
        self
    }
}

/// One engine, and every envelope in three pools, between which shares have to move.
pub(crate) struct OnPools(OnRedis);

impl Stand for OnPools {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;
    const BATCHES_IN_ORDER: bool = false;
    const IN_ORDER: bool = false;

    fn fresh() -> OnPools {
        OnPools(OnRedis::over(Deployment::in_pools(9, 3)))
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
}

/// The same with sixteen pools on the three primaries of a Cluster.
pub(crate) struct OnClusteredPools(OnRedis);

impl Stand for OnClusteredPools {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;
    const BATCHES_IN_ORDER: bool = false;
    const IN_ORDER: bool = false;

    fn fresh() -> OnClusteredPools {
        OnClusteredPools(OnRedis::over(Deployment::on_cluster(10).with_pools(16)))
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
}
