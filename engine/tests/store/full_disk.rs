//! A disk that is full for a while: fjall takes no write after one that failed,
//! so the store is opened anew when there is room again, and nothing is lost.

use super::audit::findings;
use super::loads;
use super::script::Script;
use super::small_disk::{fill, make_room, on_a_small_disk};
use hongbao_engine::store::*;
use hongbao_engine::types::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[track_caller]
pub(crate) fn wait_until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_store_goes_on_when_a_full_disk_has_room_again() {
    on_a_small_disk("full_disk::a_store_goes_on_when_a_full_disk_has_room_again", 40, |disk| {
        let mut script = Script::of(71, 60_000);
        let batches = script.batches_of(250);
        let mut batches = batches.iter();
        let directory = disk.join("store");
        let options = FjallOptions { journal_bytes: 1 << 20, memtable_bytes: 256 << 10, ..FjallOptions::default() };
        let store = Arc::new(Store::open(&directory, options).unwrap());
        let persisted = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&persisted);
        let fast = Duration::from_millis(5);
        let options_of_it = ProjectorOptions {
            defer_for: fast,
            persist_after: fast,
            reopen_after: fast,
            ..ProjectorOptions::default()
        };
        let on_persisted = Box::new(move |lsn: Lsn| {
            let before = told.swap(lsn.0, Ordering::Relaxed);
            assert!(before <= lsn.0, "what was called persisted stays so");
        });
        let projector = Projector::spawn(Arc::clone(&store), on_persisted, options_of_it);
        let mut offered = Lsn(0);
        // The write that finds no room is one to fjall's journal, a table, or its list of tables.
        for (round, room) in [0, 100 << 10, 700 << 10, 1500 << 10, 4096, 300 << 10].into_iter().enumerate() {
            fill(disk, room);
            while projector.failure().is_none() {
                let batch = batches.next().expect("the disk is full before all is written").clone();
                offered = Lsn(batch.end_lsn().0 - 1);
                let first = batch.first_lsn();
                projector.offer(batch);
                wait_until("a step", || store.applied_lsn() >= first || projector.failure().is_some());
            }
            wait_until("an attempt that finds no room", || {
                let failure = projector.failure().expect("it does not end while the disk is full");
                failure.to_string().contains("to go on")
            });
            let view = projector.view().unwrap();
            assert_eq!(view.position().unwrap().applied, offered, "reads go on");
            let in_hand = (round == 1).then_some(view);
            make_room(disk);
            if let Some(view) = in_hand {
                wait_until("an attempt that finds a reader", || {
                    projector.failure().expect("a reader keeps it open").to_string().contains("reads")
                });
                assert_eq!(view.position().unwrap().applied, offered, "what is being read is not closed");
            }
            wait_until("all is projected and persisted", || persisted.load(Ordering::Relaxed) == offered.0);
            assert_eq!((projector.failure(), projector.lag_bytes()), (None, 0));
            assert_eq!(findings(&store), [] as [&str; 0]);
        }
        projector.stop();
        assert_eq!(projector.failure(), None);
        drop((projector, store));
        let store = Store::open(&directory, options).unwrap();
        let expected = Store::over(Arc::new(MemoryRows::default())).unwrap();
        let records = script.records[..offered.0 as usize].iter().map(Vec::as_slice);
        expected.project(Lsn(1), records, StepLimits { events: usize::MAX, bytes: usize::MAX }).unwrap();
        assert_eq!(store.position(), expected.position());
        assert_eq!(loads(&store, &script), loads(&expected, &script));
    });
}
