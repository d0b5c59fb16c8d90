//! The journal with its threads: nobody waits for ever, nobody is told too early.

mod journal_support;

use hongbao_engine::journal::{Class, FailureAction, Journal, JournalFailed, JournalOptions, Refused};
use hongbao_engine::storage::faulty::{Fault, FaultyDisk};
use hongbao_engine::storage::{Directory, Storage, StorageFile};
use hongbao_engine::types::Lsn;
use journal_support::random::Random;
use journal_support::{open, options, record, records};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

fn threaded() -> JournalOptions {
    JournalOptions { threaded: true, record_bytes_max: 400, threads_max: 16, spare_segments: 3, ..options() }
}

#[test]
fn no_wake_up_is_lost_by_threads_that_stage_and_wait() {
    for seed in 0..3 {
        let disk = FaultyDisk::new(1);
        let (journal, _, _) = open(&disk, threaded(), Lsn(0)).expect("an empty disk is sound");
        let lsns = Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (journal, lsns) = (&journal, &lsns);
                scope.spawn(move || {
                    let mut random = Random(seed * 8 + thread);
                    for _ in 0..600 {
                        if journal.admit(Class::Grab).is_err() {
                            std::thread::yield_now();
                            continue;
                        }
                        let lsn = journal.stage(|buffer| buffer.extend_from_slice(&thread.to_le_bytes()));
                        assert!(lsns.lock().expect("nobody panics").insert(lsn), "an LSN is given once");
                        if random.below(4) > 0 {
                            journal.wait_blocking(lsn).expect("the disk is sound");
                            assert!(journal.durable_lsn() >= lsn);
                            journal.release_through(Lsn(lsn.0 / 2));
                        }
                    }
                });
            }
        });
        let last = journal.staged_lsn();
        journal.close().expect("the disk is sound");
        assert_eq!(journal.durable_lsn(), last);
        assert_eq!(lsns.into_inner().expect("nobody panics").len() as u64, last.0);
        disk.crash();
        let (_, recovery, _) = open(&disk, options(), Lsn(last.0 / 2)).expect("nothing is damaged");
        assert!(recovery.clean_shutdown && recovery.last_lsn == last);
    }
}

#[test]
fn no_wake_up_is_lost_by_ten_thousand_tasks() {
    let disk = FaultyDisk::new(1);
    let (journal, _, _) = open(&disk, threaded(), Lsn(0)).expect("an empty disk is sound");
    let journal = Arc::new(journal);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().expect("threads start");
    let acknowledged = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..10_000 {
            let (journal, acknowledged) = (Arc::clone(&journal), Arc::clone(&acknowledged));
            tasks.push(tokio::spawn(async move {
                for _ in 0..3 {
                    let lsn = journal.stage(|buffer| buffer.push(1));
                    journal.wait(lsn).await.expect("the disk is sound");
                    assert!(journal.durable_lsn() >= lsn);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    journal.release_through(lsn);
                }
            }));
        }
        for task in tasks {
            task.await.expect("no task panics");
        }
    });
    assert_eq!(acknowledged.load(Ordering::Relaxed), 30_000);
    assert_eq!(journal.staged_lsn(), Lsn(30_000));
}

#[test]
fn a_wait_that_is_polled_again_by_another_waker_wakes_that_one() {
    struct Count(AtomicU64);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (journal, _, _) = open(&FaultyDisk::new(1), options(), Lsn(0)).expect("an empty disk is sound");
    let lsn = journal.stage(|buffer| buffer.push(1));
    let mut wait = Box::pin(journal.wait(lsn));
    let counts = [(); 2].map(|()| Arc::new(Count(AtomicU64::new(0))));
    for count in &counts {
        for _ in 0..3 {
            let waker = Waker::from(Arc::clone(count));
            assert_eq!(wait.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);
        }
    }
    drop(journal.wait(lsn));
    journal.pump().expect("the disk is sound");
    assert_eq!(counts[1].0.load(Ordering::Relaxed), 1, "the last waker is woken, once");
    assert_eq!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
}

#[test]
fn a_failed_disk_fails_every_wait_and_only_those_not_yet_durable() {
    for seed in 0..20 {
        let disk = FaultyDisk::new(seed);
        let (journal, _, _) = open(&disk, threaded(), Lsn(0)).expect("an empty disk is sound");
        let acknowledged = AtomicU64::new(0);
        disk.fail_call(50 + seed * 7, Fault::Eio, true);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    loop {
                        match journal.admit(Class::Settle) {
                            Ok(()) => {}
                            // If the first that failed was a spare, and there is no room without it,
                            // nothing is staged any more that the writer could fail with.
                            Err(Refused::Failed | Refused::StorageFull) => return,
                            Err(_) => {
                                std::thread::yield_now();
                                continue;
                            }
                        }
                        let lsn = journal.stage(|buffer| buffer.push(9));
                        match journal.wait_blocking(lsn) {
                            Ok(()) => drop(acknowledged.fetch_max(lsn.0, Ordering::Relaxed)),
                            Err(JournalFailed::Disk(_)) => {}
                            Err(JournalFailed::Closed) => panic!("nobody closed it"),
                        }
                    }
                });
            }
        });
        assert!(journal.close().is_err());
        drop(journal);
        disk.crash();
        let (_, recovery, _) = open(&disk, options(), Lsn(0)).expect("nothing is damaged");
        assert!(recovery.last_lsn.0 >= acknowledged.into_inner(), "seed {seed}");
    }
}

#[test]
fn a_failed_disk_ends_the_process_with_70_and_says_why() {
    const CHILD: &str = "HONGBAO_TEST_JOURNAL_EXITS";
    if std::env::var_os(CHILD).is_some() {
        let disk = FaultyDisk::new(1);
        let options = JournalOptions { on_failure: FailureAction::ExitProcess, ..threaded() };
        let (journal, _, _) = open(&disk, options, Lsn(0)).expect("an empty disk is sound");
        disk.fail_call(1, Fault::Eio, true);
        let lsn = journal.stage(|buffer| buffer.push(1));
        let waited = journal.wait_blocking(lsn);
        unreachable!("the process has ended before an answer, not {waited:?}");
    }
    let this = std::env::current_exe().expect("a test is a program");
    let name = "a_failed_disk_ends_the_process_with_70_and_says_why";
    let child = std::process::Command::new(this).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output();
    let child = child.expect("a test can be started");
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(FailureAction::EXIT_CODE), "{said}");
    assert!(said.contains("segment-0000000000000001") && said.contains("restart"), "{said}");
}

#[test]
fn dropping_without_closing_ends_the_threads() {
    let disk = FaultyDisk::new(1);
    let (journal, _, _) = open(&disk, threaded(), Lsn(0)).expect("an empty disk is sound");
    let lsn = journal.stage(|buffer| buffer.push(1));
    journal.wait_blocking(lsn).expect("the disk is sound");
    drop(journal);
    let (_, recovery, _) = open(&disk, options(), Lsn(0)).expect("nothing is damaged");
    assert_eq!((recovery.records, recovery.clean_shutdown), (1, false));
}

#[test]
fn a_panicking_projector_fails_the_journal() {
    let disk = Arc::new(FaultyDisk::new(1));
    let on_durable = Box::new(|_| panic!("the projector panics on purpose"));
    let (journal, _) =
        Journal::open(disk, threaded(), Lsn(0), &mut |_, _| Ok(()), on_durable).expect("an empty disk is sound");
    let lsn = journal.stage(|buffer| buffer.push(1));
    assert!(matches!(journal.wait_blocking(lsn), Err(JournalFailed::Disk(_))));
}

/// A disk whose syncs hang until they are let go.
struct Hanging {
    disk: FaultyDisk,
    hangs: Arc<Mutex<()>>,
}

struct HangingFile(Box<dyn StorageFile>, Arc<Mutex<()>>);

impl Storage for Hanging {
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.disk.create(name)
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(HangingFile(self.disk.open(name)?, Arc::clone(&self.hangs))))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
    fn path_of(&self, name: &str) -> String {
        self.disk.path_of(name)
    }
}

impl StorageFile for HangingFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        let _held = self.1.lock();
        self.0.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

#[test]
fn a_hanging_sync_sheds_by_class_and_everything_admitted_is_written_afterwards() {
    let hangs = Arc::new(Mutex::new(()));
    let storage = Arc::new(Hanging { disk: FaultyDisk::new(1), hangs: Arc::clone(&hangs) });
    let options = JournalOptions { buffer_bytes_max: 60_000, ..threaded() };
    let (journal, _) = Journal::open(storage, options, Lsn(0), &mut |_, _| Ok(()), Box::new(|_| {})).expect("sound");
    while journal.stats().spares < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let held = hangs.lock().expect("nobody panics");
    let mut refused_at = Vec::new();
    for class in [Class::Create, Class::Grab, Class::Settle] {
        while journal.admit(class) != Err(Refused::Backlog) {
            journal.stage(|buffer| buffer.extend_from_slice(&[1; 300]));
        }
        refused_at.push(journal.stats().backlog_bytes);
    }
    assert!(refused_at.is_sorted() && refused_at[0] < refused_at[2], "{refused_at:?}");
    assert!(refused_at[2] < 62_000, "{refused_at:?}");
    assert_eq!(journal.durable_lsn(), Lsn(0));
    drop(held);
    journal.wait_blocking(journal.staged_lsn()).expect("the sync came back");
    assert_eq!(journal.admit(Class::Create), Ok(()));
    journal.close().expect("the disk is sound");
}

#[test]
fn what_was_staged_beyond_a_full_disk_waits_until_space_is_freed() {
    let disk = FaultyDisk::new(1);
    let (journal, _, _) = open(&disk, threaded(), Lsn(0)).expect("an empty disk is sound");
    while journal.stats().spares < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    disk.set_capacity(Some(disk.used_bytes()));
    // Against the rules, without admission: five segments into four.
    let mut last = Lsn(0);
    for _ in 0..5 * 160 {
        last = journal.stage(|buffer| buffer.extend_from_slice(&[1; 400]));
    }
    while journal.admit(Class::Settle) != Err(Refused::StorageFull) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(journal.durable_lsn() < last);
    disk.set_capacity(None);
    journal.wait_blocking(last).expect("space was freed");
    journal.close().expect("the disk is sound");
}

#[test]
fn real_files_are_written_recycled_and_replayed() {
    let directory = tempfile::tempdir().expect("there is a temporary directory");
    let storage: Arc<dyn Storage> = Arc::new(Directory::open(directory.path().join("journal")).expect("it is made"));
    let options = JournalOptions { on_failure: FailureAction::ExitProcess, ..threaded() };
    let mut last = Lsn(0);
    for start in 0..3 {
        let mut seen = Vec::new();
        let mut replay = |lsn: Lsn, bytes: &[u8]| {
            seen.push((lsn.0, bytes.to_vec()));
            Ok(())
        };
        let after = Lsn(last.0.saturating_sub(20));
        let (journal, recovery) =
            Journal::open(Arc::clone(&storage), options.clone(), after, &mut replay, Box::new(|_| {})).expect("sound");
        assert_eq!(seen, records(after.0 + 1..=last.0));
        assert_eq!(recovery.clean_shutdown, start > 0);
        for _ in 0..100 {
            for _ in 0..25 {
                let lsn = journal.staged_lsn().next();
                last = journal.stage(|buffer| buffer.extend_from_slice(&record(lsn.0)));
            }
            journal.wait_blocking(last).expect("the disk is sound");
            journal.release_through(last);
        }
        // A thread of its own recycles what is released.
        while journal.stats().segments > 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        journal.close().expect("the disk is sound");
    }
    let files = storage.list().expect("it is there");
    assert!(files.len() <= 8, "segments were recycled: {files:?}");
}
