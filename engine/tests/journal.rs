//! The journal on a disk in memory: one story a race.

mod journal_support;

use hongbao_engine::journal::{Class, Journal, JournalError, JournalFailed, JournalOptions, Refused};
use hongbao_engine::storage::faulty::{Fault, FaultyDisk};
use hongbao_engine::types::Lsn;
use journal_support::random::Random;
use journal_support::{SEGMENT_BYTES, Story, open, options, records};
use std::sync::{Arc, Mutex};

#[test]
fn what_was_staged_is_replayed_in_order() {
    let disk = FaultyDisk::new(1);
    let mut story = Story::start(&disk);
    for batch in 0..200 {
        story.stage(batch % 7 + 1);
        story.pump();
    }
    let staged = story.journal.staged_lsn().0;
    assert!(story.journal.stats().segments > 3, "the story is long enough to roll");
    drop(story);
    for after in [0, 1, 333, staged] {
        let (_, recovery, seen) = open(&disk, options(), Lsn(after)).expect("nothing is damaged");
        assert_eq!(seen, records(after + 1..=staged));
        assert_eq!((recovery.records, recovery.last_lsn), (staged - after, Lsn(staged)));
        assert!(!recovery.clean_shutdown && recovery.torn_tail.is_none());
    }
}

#[test]
fn durable_batches_are_handed_over_in_order_before_they_are_published() {
    let disk = FaultyDisk::new(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let (journal, _) = Journal::open(
        Arc::new(disk),
        options(),
        Lsn(0),
        &mut |_, _| Ok(()),
        Box::new(move |batch| {
            let records = batch.records().map(|(lsn, bytes)| (lsn.0, bytes.to_vec()));
            sink.lock().expect("nobody panics").extend(records);
            assert_eq!(batch.records().count(), batch.count as usize);
        }),
    )
    .expect("an empty disk is sound");
    // More than a batch holds: split at record boundaries.
    let mut story = Story::of(journal);
    story.stage(400);
    while story.journal.pump().expect("the disk is sound") {}
    assert!(story.journal.stats().batches > 2);
    assert_eq!(*seen.lock().expect("nobody panics"), records(1..=400));
    assert_eq!(story.journal.durable_lsn(), Lsn(400));
}

#[test]
fn a_clean_shutdown_is_recognised_once() {
    let disk = FaultyDisk::new(1);
    let mut story = Story::start(&disk);
    story.stage(3);
    story.close();
    let (journal, recovery, seen) = open(&disk, options(), Lsn(1)).expect("nothing is damaged");
    assert!(recovery.clean_shutdown);
    assert_eq!(seen, records(2..=3));
    drop(journal);
    let (_, recovery, _) = open(&disk, options(), Lsn(0)).expect("nothing is damaged");
    assert!(!recovery.clean_shutdown);
}

#[test]
fn a_closed_journal_admits_nothing_and_fails_late_waits() {
    let mut story = Story::start(&FaultyDisk::new(1));
    story.stage(1);
    story.journal.close().expect("the disk is sound");
    story.journal.close().expect("closing again says the same");
    assert_eq!(story.journal.admit(Class::Settle), Err(Refused::Closed));
    assert_eq!(story.journal.wait_blocking(Lsn(1)), Ok(()));
    let late = story.journal.stage(|buffer| buffer.push(1));
    assert_eq!(story.journal.wait_blocking(late), Err(JournalFailed::Closed));
}

#[test]
fn race_7_and_8_a_crash_before_the_sync_forgets_and_after_it_keeps() {
    let disk = FaultyDisk::new(3);
    let mut story = Story::start(&disk);
    story.stage(5);
    story.pump();
    story.stage(5);
    drop(story);
    disk.crash();
    let (_, recovery, seen) = open(&disk, options(), Lsn(0)).expect("nothing is damaged");
    assert_eq!(seen, records(1..=5));
    assert_eq!(recovery.torn_tail, None);
}

#[test]
fn race_9_a_torn_batch_is_all_or_nothing() {
    let mut outcomes = [0; 3];
    for seed in 0..300 {
        let disk = FaultyDisk::new(seed);
        let mut story = Story::start(&disk);
        story.stage(50);
        story.pump();
        story.stage(60);
        // The write, then the sync: the power fails during one of them.
        disk.fail_call(1 + seed % 2, Fault::PowerCut, false);
        assert!(matches!(story.journal.pump(), Err(JournalFailed::Disk(_))));
        drop(story);
        disk.crash();
        let (_, recovery, seen) = open(&disk, options(), Lsn(0)).expect("a torn tail is cut");
        match (recovery.records, recovery.torn_tail) {
            (110, None) => outcomes[0] += 1,
            (50, None) => outcomes[1] += 1,
            (50, Some(torn)) => {
                outcomes[2] += 1;
                assert!(torn.file.contains("segment-"), "{torn:?}");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
        assert_eq!(seen, records(1..=recovery.records));
    }
    assert!(outcomes.iter().all(|&times| times > 10), "whole, absent, torn: {outcomes:?}");
}

#[test]
fn race_33_a_failed_sync_acknowledges_nothing_and_is_not_tried_again() {
    for seed in 0..100 {
        let disk = FaultyDisk::new(seed);
        let mut story = Story::start(&disk);
        story.stage(3);
        story.pump();
        story.stage(40);
        disk.fail_call(2, Fault::Eio, false);
        let failed = story.journal.pump().expect_err("the sync failed");
        assert!(failed.to_string().contains("segment-") && failed.to_string().contains("restart"), "{failed}");
        let calls = disk.calls();
        assert_eq!(story.journal.pump(), Err(failed.clone()));
        assert_eq!(story.journal.wait_blocking(Lsn(43)), Err(failed.clone()));
        assert_eq!(story.journal.close(), Err(failed));
        assert_eq!(disk.calls(), calls, "a failed journal leaves the disk alone");
        assert_eq!(story.journal.admit(Class::Settle), Err(Refused::Failed));
        assert_eq!(story.journal.durable_lsn(), Lsn(3));
        drop(story);

        // The pages look clean now. What recovery replays from them must be durable again.
        let (journal, recovery, _) = open(&disk, options(), Lsn(0)).expect("the cache is sound");
        drop(journal);
        disk.crash();
        let (_, again, _) = open(&disk, options(), Lsn(0)).expect("nothing is damaged");
        assert_eq!(again.last_lsn, recovery.last_lsn, "seed {seed}");
    }
}

#[test]
fn race_34_every_call_of_recycling_may_crash_or_fail() {
    every_call(|story| {
        // Ten segments, all but the last released at once, and rolling on.
        for _ in 0..60 {
            story.stage(30);
            if story.journal.pump().is_err() {
                break;
            }
            if story.journal.durable_lsn().0 % 300 == 0 {
                story.release_all();
            }
        }
    });
}

#[test]
fn race_35_every_call_of_recovery_may_crash_or_fail() {
    for clean in [false, true] {
        let disk = FaultyDisk::new(9);
        let mut story = Story::start(&disk);
        for _ in 0..30 {
            story.stage(20);
            story.pump();
        }
        if clean {
            story.close();
        } else {
            drop(story);
        }
        for fault in [Fault::PowerCut, Fault::Eio, Fault::NoSpace, Fault::ShortWrite] {
            for k in 1.. {
                let disk = disk.fork(k);
                let before = disk.calls();
                disk.fail_call(k, fault, false);
                let opened = open(&disk, options(), Lsn(100));
                let finished = disk.calls() < before + k;
                match opened {
                    Ok((_, recovery, seen)) => {
                        assert_eq!(recovery.clean_shutdown, clean);
                        assert_eq!(seen, records(101..=600));
                    }
                    Err(JournalError::Io { .. }) => {}
                    Err(error) => panic!("{fault:?} at call {k}: {error}"),
                }
                disk.crash();
                let (_, _, seen) = open(&disk, options(), Lsn(100)).expect("the same again");
                assert_eq!(seen, records(101..=600), "{fault:?} at call {k}");
                if finished {
                    break;
                }
            }
        }
    }
}

#[test]
fn race_41_old_frames_behind_the_tail_of_a_recycled_segment_are_never_read() {
    let disk = FaultyDisk::new(5);
    let mut story = Story::start(&disk);
    for batch in 0..400 {
        // Equal batches: old frames lie exactly where new ones would.
        story.stage(8);
        story.pump();
        story.release_all();
        if batch % 3 == 0 {
            let last = story.journal.durable_lsn().0;
            let opened = open(&disk.fork(batch), options(), Lsn(last - 1));
            let (_, recovery, seen) = opened.expect("old frames are nothing");
            assert_eq!(seen, records(last..=last));
            assert_eq!(recovery.torn_tail, None);
        }
    }
    assert!(disk.names().len() <= 4, "segments were recycled: {:?}", disk.names());
}

#[test]
fn race_32_a_full_disk_refuses_creates_first_then_grabs_and_settles_last() {
    let disk = FaultyDisk::new(7);
    let mut story = Story::of(open(&disk, roomy(), Lsn(0)).expect("there is room").0);
    let mut refused_at = [0; 3];
    assert!(!story.journal.stats().disk_full);
    disk.set_capacity(Some(disk.used_bytes()));
    let classes = [Class::Create, Class::Grab, Class::Settle];
    while refused_at[2] == 0 {
        for (class, at) in classes.into_iter().zip(&mut refused_at) {
            match story.journal.admit(class) {
                Ok(()) => assert_eq!(*at, 0, "{class:?} stays refused while the disk is full"),
                Err(Refused::StorageFull) if *at == 0 => *at = story.journal.staged_lsn().0,
                Err(Refused::StorageFull) => {}
                Err(other) => panic!("{class:?}: {other}"),
            }
        }
        if refused_at[2] == 0 {
            story.stage(1);
            story.pump();
        }
    }
    let [create, grab, settle] = refused_at;
    assert!(create < grab && grab < settle, "{refused_at:?}");
    assert_eq!(story.journal.durable_lsn(), story.journal.staged_lsn(), "what was admitted had its place");
    let stats = story.journal.stats();
    assert!(stats.disk_full && !stats.has_ballast, "{stats:?}");
    // The margin: as many threads as may be between admit and stage.
    story.stage(roomy().threads_max as u64);
    story.pump();

    disk.set_capacity(None);
    story.release_all();
    story.pump_idle();
    assert!(classes.into_iter().all(|class| story.journal.admit(class).is_ok()), "space was freed");
    let stats = story.journal.stats();
    assert!(stats.has_ballast && !stats.disk_full, "the ballast is made again: {stats:?}");
    story.close();
}

#[test]
fn what_was_admitted_has_its_place_on_a_full_disk_whatever_its_size() {
    for seed in 0..300 {
        let random = &mut Random(seed);
        let disk = FaultyDisk::new(seed);
        let options = JournalOptions { threads_max: 10, record_bytes_max: 1_600, ..options() };
        let (journal, _, _) = open(&disk, options, Lsn(0)).expect("there is room");
        disk.set_capacity(Some(disk.used_bytes()));
        let sizes = 1 + random.below(1_600);
        let pumps = random.below(60);
        while journal.admit(Class::Settle).is_ok() {
            let bytes = vec![1; random.below(sizes + 1) as usize];
            journal.stage(|buffer| buffer.extend_from_slice(&bytes));
            if random.below(60) < pumps {
                journal.pump().expect("only spares need space");
            }
        }
        for _ in 0..10 {
            journal.stage(|buffer| buffer.extend_from_slice(&[2; 1_600]));
        }
        while journal.pump().expect("only spares need space") {}
        assert_eq!(journal.durable_lsn(), journal.staged_lsn(), "seed {seed}");
        journal.close().expect("the closing frame has its place, too");
        let recovery = Journal::verify(&disk, Lsn(0), &mut |_, _| Ok(())).expect("nothing is damaged");
        assert!(recovery.clean_shutdown, "and so has the marker");
    }
}

#[test]
fn a_full_disk_does_not_keep_the_journal_from_starting_with_its_ballast() {
    let disk = FaultyDisk::new(7);
    let mut story = Story::of(open(&disk, roomy(), Lsn(0)).expect("there is room").0);
    story.stage(3);
    story.pump();
    drop(story);
    disk.set_capacity(Some(disk.used_bytes()));
    for start in 0..20 {
        let opened = open(&disk, roomy(), Lsn(0));
        let (_, recovery, _) = opened.unwrap_or_else(|error| panic!("start {start}: {error}"));
        assert_eq!(recovery.records, 3);
    }
}

#[test]
fn the_backlog_is_bounded_while_a_sync_hangs() {
    let options = JournalOptions { buffer_bytes_max: 32_000, segment_bytes: 4 * SEGMENT_BYTES, ..options() };
    let mut story = Story::of(open(&FaultyDisk::new(1), options, Lsn(0)).expect("an empty disk is sound").0);
    let mut refused_at = Vec::new();
    for class in [Class::Create, Class::Grab, Class::Settle] {
        while story.journal.admit(class).is_ok() {
            story.stage(1);
        }
        assert_eq!(story.journal.admit(class), Err(Refused::Backlog));
        refused_at.push(story.journal.stats().backlog_bytes);
    }
    for (at, bound) in refused_at.into_iter().zip([16_000, 24_000, 32_000]) {
        assert!((bound..bound + 400).contains(&at), "refused at {at} of {bound}");
    }
    while story.journal.pump().expect("the disk is sound") {}
    assert_eq!(story.journal.admit(Class::Create), Ok(()));
}

#[test]
fn the_lag_of_the_store_is_bounded() {
    let options = JournalOptions { lag_bytes_max: 400_000, ..options() };
    let disk = FaultyDisk::new(1);
    let mut story = Story::of(open(&disk, options.clone(), Lsn(0)).expect("an empty disk is sound").0);
    let mut refused_at = Vec::new();
    for class in [Class::Create, Class::Grab, Class::Settle] {
        while story.journal.admit(class) != Err(Refused::ProjectionLag) {
            story.stage(10);
            story.pump();
        }
        refused_at.push(story.journal.unreleased_bytes());
    }
    for (at, bound) in refused_at.into_iter().zip([200_000, 300_000, 400_000]) {
        assert!((bound..bound + 4_000).contains(&at), "refused at {at} of {bound}");
    }
    drop(story);
    // A restart does not forget how far the store lags.
    let (journal, _, _) = open(&disk, options, Lsn(0)).expect("nothing is damaged");
    let mut story = Story::of(journal);
    assert_eq!(story.journal.admit(Class::Grab), Err(Refused::ProjectionLag));
    story.release_all();
    assert_eq!(story.journal.unreleased_bytes(), 0);
    assert_eq!(story.journal.admit(Class::Create), Ok(()));
}

#[test]
fn released_segments_are_archived_and_can_be_replayed_from_there() {
    let (disk, archive) = (FaultyDisk::new(1), FaultyDisk::new(2));
    let options = JournalOptions { archive: Some(Arc::new(archive.clone())), ..options() };
    let mut story = Story::of(open(&disk, options, Lsn(0)).expect("an empty disk is sound").0);
    for batch in 0..60 {
        // A full archive only keeps segments from being recycled.
        archive.set_capacity((batch % 20 < 10).then_some(100_000));
        story.stage(30);
        story.pump();
        story.release_all();
    }
    let last = story.journal.durable_lsn().0;
    let mut seen = Vec::new();
    let mut replay = |lsn: Lsn, bytes: &[u8]| {
        seen.push((lsn.0, bytes.to_vec()));
        Ok(())
    };
    Journal::verify(&archive, Lsn(0), &mut replay).expect("the archive is sound");
    assert!(seen.len() as u64 > last / 2);
    assert_eq!(seen, records(1..=seen.len() as u64));
}

#[test]
fn a_store_that_is_ahead_of_the_journal_is_refused() {
    let disk = FaultyDisk::new(1);
    let mut story = Story::start(&disk);
    story.stage(3);
    story.close();
    let refused = open(&disk, options(), Lsn(4)).err().expect("the store knows more");
    let JournalError::Behind { ref file, offset, after: Lsn(4), last: Lsn(3) } = refused else { panic!("{refused}") };
    assert!(file.contains("segment-") && offset > 4096, "{refused}");
    assert!(refused.to_string().contains(&format!("{file} ends at offset {offset}")), "{refused}");
}

#[test]
fn a_record_the_state_refuses_stops_the_start() {
    let disk = FaultyDisk::new(1);
    let mut story = Story::start(&disk);
    story.stage(3);
    story.close();
    let mut replay = |lsn: Lsn, _: &[u8]| if lsn == Lsn(2) { Err("unknown event 99".to_owned()) } else { Ok(()) };
    let opened = Journal::open(Arc::new(disk), options(), Lsn(0), &mut replay, Box::new(|_| {}));
    let error = opened.err().expect("record 2 is refused").to_string();
    assert!(error.contains("record 2 in") && error.contains("unknown event 99"), "{error}");
}

#[test]
fn a_record_that_is_too_long_is_a_programmers_error_and_leaves_nothing() {
    let disk = FaultyDisk::new(1);
    let mut story = Story::start(&disk);
    story.stage(1);
    let staged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        story.journal.stage(|buffer| buffer.extend([0; 2_001]));
    }));
    assert!(staged.is_err());
    story.stage(1);
    story.close();
    assert_eq!(open(&disk, options(), Lsn(0)).expect("nothing is damaged").2, records(1..=2));
}

#[test]
fn an_encoder_that_panics_at_the_start_of_a_frame_holds_nobody_up() {
    // After one of these counts the batch is full, and the next record opens another.
    for count in 85..100 {
        let disk = FaultyDisk::new(1);
        let mut story = Story::start(&disk);
        for _ in 0..count {
            story.journal.stage(|buffer| buffer.extend_from_slice(&[1; 150]));
        }
        let panicking = || story.journal.stage(|_| panic!("on purpose"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panicking)).is_err());
        while story.journal.pump().expect("the disk is sound") {}
        assert_eq!((story.journal.durable_lsn(), story.journal.staged_lsn()), (Lsn(count), Lsn(count)));
        story.stage(1);
        story.close();
        let (_, recovery, _) = open(&disk, options(), Lsn(0)).expect("nothing is damaged");
        assert_eq!(recovery.records, count + 1);
    }
}

#[test]
fn the_size_of_segments_may_change_between_starts() {
    let disk = FaultyDisk::new(1);
    let mut staged = 0;
    for segment_bytes in [SEGMENT_BYTES, 2 * SEGMENT_BYTES, SEGMENT_BYTES] {
        let options = JournalOptions { segment_bytes, ..options() };
        let (journal, _, seen) = open(&disk, options, Lsn(0)).expect("nothing is damaged");
        assert_eq!(seen, records(1..=staged));
        let mut story = Story::of(journal);
        for _ in 0..20 {
            story.stage(30);
            story.pump();
        }
        staged = story.journal.durable_lsn().0;
    }
    let spares = disk.names().into_iter().filter(|name| name.starts_with("spare-"));
    let sizes: Vec<_> = spares.map(|name| disk.content(&name).expect("it is named").len() as u64).collect();
    assert!(sizes.iter().all(|&bytes| bytes == SEGMENT_BYTES), "{sizes:?}");
}

#[test]
fn restarts_of_an_idle_machine_do_not_eat_the_disk() {
    let disk = FaultyDisk::new(1);
    let mut story = Story::start(&disk);
    story.stage(1);
    story.pump();
    drop(story);
    let mut names = 0;
    for start in 0..30 {
        drop(open(&disk, options(), Lsn(0)).expect("nothing is damaged"));
        names = names.max(if start > 3 { disk.names().len() } else { 0 });
    }
    assert!(names <= 4, "{names} files");
}

/// A reserve of three spares and a ballast, and a margin for four threads.
fn roomy() -> JournalOptions {
    JournalOptions {
        spare_segments: 3,
        ballast_bytes: SEGMENT_BYTES + 8_192,
        threads_max: 4,
        record_bytes_max: 400,
        ..options()
    }
}

/// Runs a story again and again; in the k-th run, call k fails.
fn every_call(tell: impl Fn(&mut Story)) {
    for fault in [Fault::PowerCut, Fault::Eio, Fault::NoSpace] {
        for k in 1.. {
            let disk = FaultyDisk::new(k);
            let mut story = Story::start(&disk);
            let before = disk.calls();
            disk.fail_call(k, fault, false);
            tell(&mut story);
            let finished = disk.calls() < before + k;
            let (acknowledged, applied) = (story.journal.durable_lsn().0, story.applied());
            drop(story);
            disk.crash();
            let (_, recovery, seen) =
                open(&disk, options(), Lsn(applied)).unwrap_or_else(|error| panic!("{fault:?} at call {k}: {error}"));
            assert!(recovery.last_lsn.0 >= acknowledged, "{fault:?} at call {k}");
            assert_eq!(seen, records(applied + 1..=recovery.last_lsn.0), "{fault:?} at call {k}");
            if finished {
                break;
            }
        }
    }
}
