//! Reading what is durable while the journal goes on, and keeping it for that.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

mod journal_support;

use hongbao_engine::journal::{Journal, JournalOptions, ReadError};
use hongbao_engine::storage::faulty::FaultyDisk;
use hongbao_engine::types::Lsn;
use journal_support::{SEGMENT_BYTES, Story, open, options, record, records};
use std::ops::ControlFlow;

fn keeping(segments: u64) -> JournalOptions {
    JournalOptions { kept_bytes_max: segments * SEGMENT_BYTES, ..options() }
}

fn begun(disk: &FaultyDisk, options: JournalOptions, after: u64) -> Story {
    Story::of(open(disk, options, Lsn(after)).expect("the disk is sound").0)
}

/// Everything from `from` on, in pages.
fn read(journal: &Journal, from: u64, bytes_max: usize) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    let (mut seen, mut next) = (Vec::new(), Lsn(from));
    loop {
        let began = next;
        next = journal.read(next, bytes_max, &mut |lsn, bytes| {
            seen.push((lsn.0, bytes.to_vec()));
            ControlFlow::Continue(())
        })?;
        if next == began {
            return Ok(seen);
        }
    }
}

/// Writes some records, a few of them a batch, and releases them.
fn write(story: &mut Story, count: u64) {
    for _ in 0..count / 20 {
        story.stage(20);
        story.pump();
        story.release_all();
        story.pump_idle();
    }
}

#[test]
fn what_is_kept_is_read_back_and_no_more_than_is_durable() {
    let disk = FaultyDisk::new(1);
    let mut story = begun(&disk, keeping(100), 0);
    assert_eq!((story.journal.oldest_lsn(), read(&story.journal, 1, 1).unwrap()), (Lsn(1), vec![]));
    write(&mut story, 2_000);
    assert!(story.journal.stats().kept_segments > 3, "{:?}", story.journal.stats());
    story.stage(3);
    for bytes_max in [1, 10_000, 1 << 30] {
        for from in [1, 2, 777, 1_999, 2_000] {
            assert_eq!(read(&story.journal, from, bytes_max).unwrap(), records(from..=2_000), "{from}, {bytes_max}");
        }
    }
    assert_eq!(read(&story.journal, 2_001, 1).unwrap(), vec![], "staged is not durable");
    story.pump();
    assert_eq!(read(&story.journal, 2_001, 1).unwrap(), records(2_001..=2_003));
    let mut seen = 0;
    let next = story.journal.read(Lsn(5), usize::MAX, &mut |_, _| {
        seen += 1;
        if seen == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((next.unwrap(), seen), (Lsn(12), 7), "whoever has enough goes on behind it");
    story.close();
}

#[test]
fn a_start_reads_what_earlier_ones_kept() {
    let disk = FaultyDisk::new(2);
    let mut last = 0;
    for _ in 0..5 {
        let mut story = begun(&disk, keeping(100), last);
        assert_eq!(read(&story.journal, 1, 5_000).unwrap(), records(1..=last));
        write(&mut story, 400);
        last += 400;
        story.release_all();
        story.close();
    }
    // What each start left is mostly empty; that takes no place.
    let story = begun(&disk, keeping(100), last);
    let stats = story.journal.stats();
    let record_bytes: usize = records(1..=last).iter().map(|(_, bytes)| bytes.len() + 8).sum();
    assert!((stats.kept_bytes as usize) < 4 * record_bytes, "{stats:?} for {record_bytes}");
    story.close();
    // Without keeping, all of it goes.
    let mut story = begun(&disk, options(), last);
    story.release_all();
    story.pump_idle();
    assert_eq!(story.journal.stats().kept_segments, 0);
    assert!(matches!(read(&story.journal, 1, 1), Err(ReadError::Gone { oldest }) if oldest.0 > 1));
}

#[test]
fn what_is_too_much_or_too_old_is_gone() {
    let disk = FaultyDisk::new(3);
    let mut story = begun(&disk, keeping(4), 0);
    write(&mut story, 3_000);
    let stats = story.journal.stats();
    assert!((2..=4).contains(&stats.kept_segments) && stats.kept_bytes <= 4 * SEGMENT_BYTES, "{stats:?}");
    let oldest = story.journal.oldest_lsn();
    assert!(oldest.0 > 1);
    for from in [1, oldest.0 - 1] {
        assert!(matches!(read(&story.journal, from, 1), Err(ReadError::Gone { oldest: told }) if told == oldest));
    }
    assert_eq!(read(&story.journal, oldest.0, 1).unwrap(), records(oldest.0..=3_000));
    let second = story.journal.second_kept_lsn().unwrap();
    story.journal.forget_below(Lsn(second.0 - 1));
    story.pump_idle();
    assert_eq!(story.journal.oldest_lsn(), oldest, "some of it is wanted");
    story.journal.forget_below(second);
    story.pump_idle();
    assert_eq!(story.journal.oldest_lsn(), second);
    story.journal.forget_below(Lsn(u64::MAX));
    story.pump_idle();
    assert_eq!(story.journal.stats().kept_segments, 0, "what is in use stays");
    let oldest = story.journal.oldest_lsn().0;
    assert_eq!(read(&story.journal, oldest, 1).unwrap(), records(oldest..=3_000));
    story.close();
}

#[test]
fn a_full_disk_takes_what_is_kept_first() {
    let disk = FaultyDisk::new(4);
    disk.set_capacity(Some(8 * SEGMENT_BYTES));
    let mut story = begun(&disk, keeping(1_000), 0);
    write(&mut story, 6_000);
    let stats = story.journal.stats();
    assert!(!stats.disk_full && stats.spares > 0 && stats.kept_segments > 0, "{stats:?}");
    let oldest = story.journal.oldest_lsn().0;
    assert!(oldest > 1);
    assert_eq!(read(&story.journal, oldest, 4_096).unwrap(), records(oldest..=6_000));
    story.close();
}

/// A file may be recycled between two looks at it, or be there in its next life.
#[test]
fn a_reader_is_told_the_truth_while_segments_go_round() {
    let disk = FaultyDisk::new(5);
    let threaded = JournalOptions { threaded: true, threads_max: 4, spare_segments: 2, ..keeping(2) };
    let (journal, ..) = open(&disk, threaded, Lsn(0)).expect("the disk is sound");
    const RECORDS: u64 = 20_000;
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let journal = &journal;
            scope.spawn(move || {
                let (mut next, mut told, mut gone) = (Lsn(1), 0u64, 0u64);
                while next.0 <= RECORDS {
                    let began = next;
                    let read = journal.read(next, 1 + 50_000 * reader as usize, &mut |lsn, bytes| {
                        assert_eq!(bytes, record(lsn.0), "record {}", lsn.0);
                        told += 1;
                        ControlFlow::Continue(())
                    });
                    match read {
                        Ok(after) => next = after,
                        Err(ReadError::Gone { oldest }) => {
                            assert!(oldest > began, "what is told as gone is behind the oldest");
                            gone += 1;
                            next = oldest;
                        }
                        Err(error) => panic!("{error}"),
                    }
                    if next == began {
                        std::thread::yield_now();
                    }
                }
                eprintln!("reader {reader}: {told} told, {gone} times behind");
            });
        }
        for lsn in 1..=RECORDS {
            while journal.admit(hongbao_engine::journal::Class::Settle).is_err() {
                std::thread::yield_now();
            }
            let staged = journal.stage(|buffer| buffer.extend(record(lsn)));
            if lsn % 50 == 0 {
                journal.wait_blocking(staged).unwrap();
                journal.release_through(staged);
            }
        }
        journal.wait_blocking(Lsn(RECORDS)).unwrap();
    });
    journal.close().unwrap();
}

/// Kept segments are no part of the journal: a start that finds one damaged
/// goes on without it and what is before it.
#[test]
fn a_damaged_kept_segment_is_given_up() {
    let disk = FaultyDisk::new(6);
    let mut story = begun(&disk, keeping(100), 0);
    write(&mut story, 2_000);
    let oldest = story.journal.oldest_lsn();
    let applied = story.applied();
    story.close();
    let mut kept: Vec<_> = disk.names().into_iter().filter(|name| name.starts_with("kept-")).collect();
    kept.sort();
    disk.flip(&kept[1], 20, 1);
    let story = begun(&disk, keeping(100), applied);
    let after = story.journal.oldest_lsn();
    assert!(after > oldest, "{after:?}");
    assert_eq!(read(&story.journal, after.0, 1).unwrap(), records(after.0..=2_000));
    assert!(!disk.names().contains(&kept[0]) && !disk.names().contains(&kept[1]));
    // Within a frame it is told when it is read.
    disk.flip(&kept[2], 4_096 + 100, 1);
    assert!(matches!(read(&story.journal, after.0, 1), Err(ReadError::File { .. })));
}
