//! Engines in front of a redis-server that the tests start.

use crate::Stand;
use crate::deployment::Deployment;
use crate::stand::{creates_cap, kept_addresses};
use hongbao_engine::redis::RedisBackend;
use std::future::Future;
use std::marker::PhantomData;

/// A kind of deployment, and of engine in front of it.
pub(crate) trait Place {
    /// Whether the n-th grab is of share n.
    const IN_ORDER: bool = true;
    /// Whether the elements of a batch are decided in their order.
    const BATCHES_IN_ORDER: bool = true;
    /// Whether another engine goes on after every command: none keeps anything.
    const ANEW: bool = false;
    /// Whether what is due is done after every command.
    const SETTLES: bool = false;

    /// One of its own for each story.
    fn deployment() -> Deployment;
}

/// One engine in front of such a deployment.
pub(crate) struct On<P> {
    // Ended before its runtime and its server.
    backend: RedisBackend,
    deployment: Deployment,
    place: PhantomData<P>,
}

impl<P: Place> Stand for On<P> {
    type Backend = RedisBackend;
    const EVENTUALLY: bool = false;
    const IN_ORDER: bool = P::IN_ORDER;
    const BATCHES_IN_ORDER: bool = P::BATCHES_IN_ORDER;

    fn fresh(creates: Option<u32>) -> On<P> {
        let mut deployment = P::deployment();
        deployment.options.creates = creates.map(creates_cap);
        deployment.options.addresses = Some(kept_addresses(1));
        On { backend: deployment.open(), deployment, place: PhantomData }
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

    fn befall(mut self) -> On<P> {
        if P::SETTLES {
            self.settle();
        }
        if P::ANEW {
            self.backend = self.deployment.open();
        }
        self
    }
}

/// A single server.
pub(crate) struct Alone;

impl Place for Alone {
    fn deployment() -> Deployment {
        Deployment::new(5)
    }
}

/// The same with another engine after every command.
pub(crate) struct Anew;

impl Place for Anew {
    const ANEW: bool = true;

    fn deployment() -> Deployment {
        Deployment::new(6)
    }
}

/// The same, and whatever is settled leaves Redis at once.
pub(crate) struct Archiving;

impl Place for Archiving {
    const ANEW: bool = true;
    const SETTLES: bool = true;

    fn deployment() -> Deployment {
        Deployment::new(11).archiving()
    }
}

/// The same on a Cluster, where all that users get is carried.
pub(crate) struct ArchivingOutOfCluster;

impl Place for ArchivingOutOfCluster {
    const SETTLES: bool = true;

    fn deployment() -> Deployment {
        Deployment::on_cluster(12).archiving()
    }
}

/// A Cluster of three primaries.
pub(crate) struct Clustered;

impl Place for Clustered {
    fn deployment() -> Deployment {
        Deployment::on_cluster(7)
    }
}

/// Every envelope in a pool and a reserve. With one bucket there is one pool, so
/// shares are grabbed in their order, as stories tell them.
pub(crate) struct InPool;

impl Place for InPool {
    const BATCHES_IN_ORDER: bool = false;
    const ANEW: bool = true;

    fn deployment() -> Deployment {
        Deployment::in_pools(8, 1)
    }
}

/// Every envelope in three pools, between which shares have to move.
pub(crate) struct InPools;

impl Place for InPools {
    const BATCHES_IN_ORDER: bool = false;
    const IN_ORDER: bool = false;

    fn deployment() -> Deployment {
        Deployment::in_pools(9, 3)
    }
}

/// The same with sixteen pools on the three primaries of a Cluster.
pub(crate) struct InClusteredPools;

impl Place for InClusteredPools {
    const BATCHES_IN_ORDER: bool = false;
    const IN_ORDER: bool = false;

    fn deployment() -> Deployment {
        Deployment::on_cluster(10).with_pools(16)
    }
}
