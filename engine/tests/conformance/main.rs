//! One meaning for every backend: the stories in the text files beside this
//! one, told to each backend in turn.
//!
//! A new backend is a [`Stand`] and one line at the end.

#[cfg(feature = "redis")]
#[path = "../stand/on_redis.rs"]
mod deployment;
mod interpreter;
#[cfg(feature = "redis")]
mod on_redis;
#[cfg(feature = "redis")]
#[path = "../redis_stand/mod.rs"]
mod redis_stand;
#[path = "../stand/mod.rs"]
mod stand;

use hongbao_engine::address::AddressOptions;
use hongbao_engine::backend::Backend;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::storage::Storage;
use hongbao_engine::storage::faulty::FaultyDisk;
use hongbao_engine::store::MemoryRows;
use interpreter::tell;
use stand::{InDirectory, World, creates_cap, kept_addresses};
use std::future::Future;
use std::sync::Arc;

/// A backend to tell a story to, fresh and empty at first.
trait Stand: Sized {
    type Backend: Backend;

    /// Whether what is due is done by somebody else, sooner or later; otherwise [`Stand::settle`] does it.
    const EVENTUALLY: bool;
    /// Whether the n-th grab is of share n.
    const IN_ORDER: bool = true;
    /// Whether the elements of a batch are decided in their order, and not at once.
    const BATCHES_IN_ORDER: bool = true;

    /// A sender makes so many envelopes in a day, if that is capped.
    fn fresh(creates: Option<u32>) -> Self;
    fn backend(&self) -> &Self::Backend;
    fn drive<T>(&self, future: impl Future<Output = T>) -> T;
    /// Does what is due.
    fn settle(&self) {}
    /// What befalls the backend after each command.
    fn befall(self) -> Self {
        self
    }
}

/// The engine as it is served: threads, real files.
struct Threaded(InDirectory);

impl Stand for Threaded {
    type Backend = Embedded;
    const EVENTUALLY: bool = true;

    fn fresh(creates: Option<u32>) -> Threaded {
        Threaded(InDirectory::with(1, |options| {
            options.creates = creates.map(creates_cap);
            options.addresses = Some(kept_addresses(1));
        }))
    }

    fn backend(&self) -> &Embedded {
        self.0.engine()
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        stand::wait(future)
    }
}

/// The same, closed and opened again after every command.
struct Reopened(InDirectory);

impl Stand for Reopened {
    type Backend = Embedded;
    const EVENTUALLY: bool = true;

    fn fresh(creates: Option<u32>) -> Reopened {
        // The smallest files, as they are made anew at each start.
        Reopened(InDirectory::with(2, |options| {
            options.journal.segment_bytes = 2 << 20;
            options.journal.threads_max = 4;
            options.creates = creates.map(creates_cap);
            options.addresses = Some(kept_addresses(1));
        }))
    }

    fn backend(&self) -> &Embedded {
        self.0.engine()
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        stand::wait(future)
    }

    fn befall(mut self) -> Reopened {
        self.0.reopen(|_| ());
        self
    }
}

/// An engine without threads, on a disk and rows in memory.
struct InMemory {
    world: World,
    disk: FaultyDisk,
    rows: Arc<MemoryRows>,
    engine: Embedded,
}

impl InMemory {
    fn open(world: World, disk: FaultyDisk, rows: Arc<MemoryRows>) -> InMemory {
        let mut options: EmbeddedOptions = world.options_by_hand();
        let slots: Arc<dyn Storage> = Arc::new(disk.clone());
        options.addresses = Some(AddressOptions { storage: Some(slots), ..kept_addresses(1) });
        let opened = Embedded::open_over(Arc::new(disk.clone()), Arc::<MemoryRows>::clone(&rows), options);
        let engine = opened.expect("it opens").0;
        InMemory { world, disk, rows, engine }
    }
}

impl Stand for InMemory {
    type Backend = Embedded;
    const EVENTUALLY: bool = false;

    fn fresh(creates: Option<u32>) -> InMemory {
        InMemory::open(World::new(3).capped(creates), FaultyDisk::new(3), Arc::default())
    }

    fn backend(&self) -> &Embedded {
        &self.engine
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        stand::wait_pumping(&self.engine, future)
    }

    fn settle(&self) {
        while self.engine.tick() {}
    }
}

/// The same, and the power fails after every command: what was answered stays answered.
struct Crashing(InMemory);

impl Stand for Crashing {
    type Backend = Embedded;
    const EVENTUALLY: bool = false;

    fn fresh(creates: Option<u32>) -> Crashing {
        Crashing(InMemory::fresh(creates))
    }

    fn backend(&self) -> &Embedded {
        &self.0.engine
    }

    fn drive<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.drive(future)
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn befall(self) -> Crashing {
        let InMemory { world, disk, rows, engine } = self.0;
        drop(engine);
        disk.crash();
        let survived = Arc::new(rows.crash(disk.calls()));
        Crashing(InMemory::open(world, disk, survived))
    }
}

/// A test for each file and stand.
macro_rules! stories {
    ($($file:ident on $($test:ident: $stand:ty),+;)+) => {$(
        mod $file {
            use super::*;
            $(
                #[test]
                fn $test() {
                    let path = concat!("engine/tests/conformance/", stringify!($file), ".txt");
                    tell::<$stand>(path, include_str!(concat!(stringify!($file), ".txt")));
                }
            )+
        }
    )+};
}

macro_rules! on_every_backend {
    ($($file:ident),+ $(,)?) => {
        stories! {$(
            $file on
                threaded: Threaded,
                reopened_after_every_command: Reopened,
                in_memory: InMemory,
                crashed_after_every_command: Crashing;
        )+}
    };
}

on_every_backend!(
    wallets,
    envelopes,
    splits,
    answers_again,
    lists,
    items,
    holds,
    draws,
    api_keys,
    payouts,
    caps,
    redactions,
    gifts,
    addresses,
    codes,
    orders,
    relations,
    gift_envelopes,
    sales,
    gift_redactions,
    payments,
    groups
);

/// The same for the stands that need a redis-server.
#[cfg(feature = "redis")]
mod redis {
    use super::deployment::is_missing;
    use super::on_redis::{
        Alone, Anew, Archiving, ArchivingOutOfCluster, Clustered, InClusteredPools, InPool, InPools, On,
    };
    use super::tell;

    macro_rules! stories {
        ($($file:ident),+) => {$(
            mod $file {
                use super::*;

                const PATH: &str = concat!("engine/tests/conformance/", stringify!($file), ".txt");
                const TEXT: &str = include_str!(concat!(stringify!($file), ".txt"));

                #[test]
                fn on_redis() {
                    if !is_missing() {
                        tell::<On<Alone>>(PATH, TEXT);
                    }
                }

                #[test]
                fn on_a_cluster() {
                    if !is_missing() {
                        tell::<On<Clustered>>(PATH, TEXT);
                    }
                }

                #[test]
                fn in_a_pool_with_another_server_after_every_command() {
                    if !is_missing() {
                        tell::<On<InPool>>(PATH, TEXT);
                    }
                }

                #[test]
                fn in_three_pools() {
                    if !is_missing() {
                        tell::<On<InPools>>(PATH, TEXT);
                    }
                }

                #[test]
                fn on_redis_and_an_archive() {
                    if !is_missing() {
                        tell::<On<Archiving>>(PATH, TEXT);
                    }
                }

                #[test]
                fn on_a_cluster_and_an_archive() {
                    if !is_missing() {
                        tell::<On<ArchivingOutOfCluster>>(PATH, TEXT);
                    }
                }

                #[test]
                fn on_redis_with_another_server_after_every_command() {
                    if !is_missing() {
                        tell::<On<Anew>>(PATH, TEXT);
                    }
                }
            }
        )+};
    }

    stories!(
        wallets,
        envelopes,
        splits,
        answers_again,
        lists,
        items,
        holds,
        draws,
        api_keys,
        payouts,
        caps,
        redactions,
        gifts,
        addresses,
        gift_redactions,
        orders,
        codes,
        sales
    );

    #[test]
    fn in_pools_on_a_cluster() {
        if !is_missing() {
            tell::<On<InClusteredPools>>("engine/tests/conformance/envelopes.txt", include_str!("envelopes.txt"));
        }
    }
}
