//! The journal on a disk in memory: order, durability, damage, recycling, room.

mod journal_support;

use hongbao_engine::storage::faulty::FaultyDisk;
use hongbao_engine::types::Lsn;
use journal_support::{Story, open, options, records};

#[test]
fn what_was_staged_is_replayed_in_order() {
    let disk = FaultyDisk::new(1);
    let mut story = Story::start(&disk);
    for batch in 0..40 {
        story.stage(batch % 7 + 1);
        story.pump();
    }
    drop(story);
    let (_, recovery, seen) = open(&disk, options(), Lsn(0)).expect("nothing is damaged");
    assert_eq!(recovery.records, seen.len() as u64);
    assert_eq!(seen, records(1..=seen.len() as u64));
    assert!(!recovery.clean_shutdown && recovery.torn_tail.is_none());
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
