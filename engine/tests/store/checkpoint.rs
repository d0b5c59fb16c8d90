//! A checkpoint leaves fjall nothing to do again, and loses nothing: neither
//! what was before it nor what is written after it.

use super::audit::findings;
use super::loads;
use super::script::Script;
use hongbao_engine::store::*;
use hongbao_engine::types::*;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const STEP: StepLimits = StepLimits { events: 40, bytes: 4 << 20 };

fn project(store: &Store, script: &Script, to: u64) {
    while store.applied_lsn() < Lsn(to) {
        store.project(Lsn(1), script.records[..to as usize].iter().map(Vec::as_slice), STEP).unwrap();
    }
}

/// Bytes that fjall would read again if it were opened now.
fn journal_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap().flatten();
    let journals = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "jnl"));
    journals.map(|file| file.metadata().unwrap().len()).sum()
}

#[track_caller]
fn check(store: &Store, script: &Script, to: u64) {
    let expected = Store::over(Arc::new(MemoryRows::default())).unwrap();
    project(&expected, script, to);
    assert_eq!(store.position(), expected.position());
    assert_eq!(loads(store, script), loads(&expected, script));
    assert_eq!(findings(store), [] as [&str; 0]);
}

#[test]
fn what_is_before_and_after_a_checkpoint_is_there_at_the_next_start() {
    let script = Script::of(51, 1200);
    let directory = tempfile::tempdir().unwrap();
    let mut done = 0;
    for (to, at_the_end) in [(300, true), (600, false), (900, true), (1200, false)] {
        let store = Store::open(directory.path(), FjallOptions::default()).unwrap();
        check(&store, &script, done);
        project(&store, &script, to - 100);
        store.checkpoint().unwrap();
        assert_eq!(journal_bytes(directory.path()), 0, "nothing is left to do again");
        check(&store, &script, to - 100);
        project(&store, &script, to);
        assert!(journal_bytes(directory.path()) > 0);
        if at_the_end {
            store.checkpoint().unwrap();
        }
        done = to;
    }
    let store = Store::open(directory.path(), FjallOptions::default()).unwrap();
    check(&store, &script, done);
}

#[test]
fn the_journal_of_the_database_stays_short() {
    const MAX_BYTES: u64 = 128 << 10;
    let script = Script::of(52, 2000);
    let directory = tempfile::tempdir().unwrap();
    let options = FjallOptions { journal_bytes: MAX_BYTES, ..FjallOptions::default() };
    let store = Store::open(directory.path(), options).unwrap();
    let mut checkpoints = 0;
    let mut before = 0;
    for to in (50..=2000).step_by(50) {
        project(&store, &script, to);
        let bytes = journal_bytes(directory.path());
        assert!(bytes < 2 * MAX_BYTES, "{bytes} bytes at {to}");
        checkpoints += u32::from(bytes < before);
        before = bytes;
    }
    assert!(checkpoints > 3, "{checkpoints}");
    // Not closed: all that is not in a file is in what is left of the journal.
    drop(store);
    check(&Store::open(directory.path(), options).unwrap(), &script, 2000);
}

#[test]
fn a_stopped_projector_leaves_nothing_to_do_again() {
    let script = Script::of(53, 400);
    let directory = tempfile::tempdir().unwrap();
    for threaded in [true, false] {
        let store = Arc::new(Store::open(directory.path(), FjallOptions::default()).unwrap());
        let options = ProjectorOptions { threaded, ..ProjectorOptions::default() };
        let projector = Projector::spawn(Arc::clone(&store), Box::new(|_| ()), options);
        let from = store.applied_lsn().0;
        let records = script.records[from as usize..from as usize + 200].iter().map(Vec::as_slice);
        projector.offer(DurableBatch::copied(Lsn(from + 1), records));
        projector.stop();
        assert_eq!((projector.failure(), journal_bytes(directory.path())), (None, 0));
    }
    check(&Store::open(directory.path(), FjallOptions::default()).unwrap(), &script, 400);
}

/// A kill finds little to do again, unless it comes under load.
#[test]
fn a_projector_that_has_nothing_to_do_leaves_nothing_to_do_again() {
    let script = Script::of(54, 400);
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path(), FjallOptions::default()).unwrap());
    let options =
        ProjectorOptions { tidy_bytes: 1, tidy_after: Duration::from_millis(30), ..ProjectorOptions::default() };
    let projector = Projector::spawn(Arc::clone(&store), Box::new(|_| ()), options);
    for from in [0, 200] {
        let records = script.records[from as usize..from as usize + 200].iter().map(Vec::as_slice);
        projector.offer(DurableBatch::copied(Lsn(from + 1), records));
        super::full_disk::wait_until("nothing is left to do again", || {
            store.applied_lsn() == Lsn(from + 200) && journal_bytes(directory.path()) == 0
        });
    }
    assert!(projector.failure().is_none());
    drop(projector);
    drop(store);
    check(&Store::open(directory.path(), FjallOptions::default()).unwrap(), &script, 400);
}

/// A thread's nice value, from what the kernel tells of it.
#[cfg(target_os = "linux")]
fn nice_of(thread: &Path) -> Option<(String, i32)> {
    let told = std::fs::read_to_string(thread.join("stat")).ok()?;
    let (name, rest) = told.split_once('(')?.1.rsplit_once(") ")?;
    Some((name.to_owned(), rest.split(' ').nth(16)?.parse().ok()?))
}

#[test]
#[cfg(target_os = "linux")]
fn the_threads_of_the_database_go_behind_whoever_waits() {
    let directory = tempfile::tempdir().unwrap();
    let _store = Store::open(directory.path(), FjallOptions::default()).unwrap();
    let own = nice_of(Path::new("/proc/thread-self")).unwrap().1;
    let workers = || -> Vec<i32> {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let told = threads.filter_map(|thread| nice_of(&thread.path()));
        told.filter(|(name, _)| name == "fjall:worker").map(|(_, nice)| nice).collect()
    };
    // Other tests may be opening theirs.
    super::full_disk::wait_until("all of them are behind", || {
        let workers = workers();
        !workers.is_empty() && workers.iter().all(|&nice| nice == own.max(10))
    });
}

/// fjall begins another journal by itself once one has 64 MB and a table is put
/// into a file, as it may while a checkpoint waits for a slow disk.
#[test]
fn a_journal_that_the_database_began_by_itself_is_emptied_too() {
    let directory = tempfile::tempdir().unwrap();
    let options = FjallOptions { journal_bytes: u64::MAX, memtable_bytes: 4 << 20, ..FjallOptions::default() };
    let rows = FjallRows::open(directory.path(), options).unwrap();
    let key = |number: u32| Bytes::from(number.to_be_bytes().as_slice());
    let numbers = || {
        let files = std::fs::read_dir(directory.path()).unwrap().flatten().map(|file| file.path());
        let journals = files.filter(|file| file.extension().is_some_and(|extension| extension == "jnl"));
        journals.map(|file| file.file_stem().unwrap().to_str().unwrap().parse::<u32>().unwrap()).max().unwrap()
    };
    let (first, mut count) = (numbers(), 0);
    while numbers() == first {
        assert!(count < 100_000, "64 MB are enough");
        let row = |number| (Table::Memos, key(number), Some(Bytes::from(vec![number as u8; 3000])));
        rows.commit((count..count + 500).map(row).collect()).unwrap();
        count += 500;
    }
    let read = rows.snapshot();
    rows.checkpoint().unwrap();
    assert!(numbers() > first && read.get(Table::Memos, &key(7)).unwrap().is_some(), "a reader is not disturbed");
    drop(read);
    rows.checkpoint().unwrap();
    super::full_disk::wait_until("nothing is left to do again", || journal_bytes(directory.path()) == 0);
    rows.commit(vec![(Table::Memos, key(count), Some(Bytes::from(b"last")))]).unwrap();
    drop(rows);
    let rows = FjallRows::open(directory.path(), options).unwrap().snapshot();
    let there = rows.scan(Table::Memos, &KeyRange::all()).map(|row| row.unwrap().0);
    assert!(there.eq((0..=count).map(key)));
}
