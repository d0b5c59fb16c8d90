//! Every byte of a journal, flipped: refused with file and offset, or, in a last
//! batch that nobody vouches for, cut and reported. Never read as if it were right.

mod journal_support;

use hongbao_engine::journal::{Journal, JournalError, Recovery, TornTail};
use hongbao_engine::storage::faulty::FaultyDisk;
use hongbao_engine::types::Lsn;
use journal_support::{Story, open, options, records};

const BLOCK: u64 = 4096;
const MARKER: &str = "clean-shutdown";

/// What must come of a flipped byte.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Refused,
    Cut {
        last: u64,
    },
    /// Bytes behind the end are nobody's.
    Unread,
}

/// Two starts: one segment of two frames, one of three. Records 1 to 26.
fn sample(clean: bool) -> FaultyDisk {
    let disk = FaultyDisk::new(11);
    let mut story = Story::start(&disk);
    for count in [3, 4] {
        story.stage(count);
        story.pump();
    }
    drop(story);
    let mut story = Story::start(&disk);
    for count in [5, 4, 10] {
        story.stage(count);
        story.pump();
    }
    if clean {
        story.close();
    }
    disk
}

type Verified = (Recovery, Vec<(u64, Vec<u8>)>);

fn verify(disk: &FaultyDisk) -> Result<Verified, JournalError> {
    let mut seen = Vec::new();
    let mut replay = |lsn: Lsn, bytes: &[u8]| {
        seen.push((lsn.0, bytes.to_vec()));
        Ok(())
    };
    let recovery = Journal::verify(disk, Lsn(0), &mut replay)?;
    Ok((recovery, seen))
}

fn check(disk: &FaultyDisk, file: &str, offset: u64, verdict: Verdict) {
    let at = format!("{file} byte {offset}");
    disk.flip(file, offset, 0x40);
    let result = verify(disk);
    disk.flip(file, offset, 0x40);
    match (verdict, result) {
        (Verdict::Refused, Err(JournalError::Corrupt { file, remedy, .. })) => {
            assert!(file.starts_with("faulty:/") && !remedy.is_empty(), "{at}");
        }
        (Verdict::Refused, Err(JournalError::NewerFormat { .. } | JournalError::OlderFormat { .. })) => {
            assert!((8..12).contains(&offset), "{at}");
        }
        (Verdict::Cut { last }, Ok((recovery, seen))) => {
            assert_eq!(seen, records(1..=last), "{at}");
            assert!(matches!(recovery.torn_tail, Some(TornTail { .. })), "{at}: the cut is reported");
        }
        (Verdict::Unread, Ok((recovery, seen))) => {
            assert_eq!(seen, records(1..=26), "{at}");
            assert_eq!(recovery.torn_tail, None, "{at}");
        }
        (expected, result) => panic!("{at}: {expected:?}, but {result:?}"),
    }
}

#[test]
fn every_byte_before_the_last_batch_is_refused_and_in_it_cut() {
    let disk = sample(false);
    for offset in 0..7 * BLOCK {
        // A header and two frames; the segment that follows vouches for both.
        let verdict = if offset < 3 * BLOCK { Verdict::Refused } else { Verdict::Unread };
        check(&disk, "segment-0000000000000001", offset, verdict);
        let verdict = match offset / BLOCK {
            0..3 => Verdict::Refused,
            3 => Verdict::Cut { last: 16 },
            _ => Verdict::Unread,
        };
        check(&disk, "segment-0000000000000002", offset, verdict);
    }
}

#[test]
fn after_a_clean_shutdown_every_byte_is_refused() {
    let disk = sample(true);
    for offset in 0..7 * BLOCK {
        let verdict = if offset < 3 * BLOCK { Verdict::Refused } else { Verdict::Unread };
        check(&disk, "segment-0000000000000001", offset, verdict);
        // Header, three frames, the closing frame.
        let verdict = if offset < 5 * BLOCK { Verdict::Refused } else { Verdict::Unread };
        check(&disk, "segment-0000000000000002", offset, verdict);
    }
    for offset in 0..disk.content(MARKER).expect("it was closed in order").len() as u64 {
        check(&disk, MARKER, offset, Verdict::Refused);
    }
}

#[test]
fn the_closing_frame_stays_under_guard_after_the_next_start() {
    let disk = sample(true);
    drop(open(&disk, options(), Lsn(0)).expect("nothing is damaged"));
    for offset in 4 * BLOCK..5 * BLOCK {
        check(&disk, "segment-0000000000000002", offset, Verdict::Refused);
    }
}

#[test]
fn a_refused_journal_is_left_as_it_is() {
    for clean in [false, true] {
        let disk = sample(clean);
        disk.flip("segment-0000000000000001", BLOCK + 50, 1);
        let before = disk.names().into_iter().map(|name| (disk.content(&name), name)).collect::<Vec<_>>();
        let error = open(&disk, options(), Lsn(0)).err().expect("the first frame is damaged");
        let JournalError::Corrupt { file, offset, .. } = &error else { panic!("{error}") };
        assert_eq!((file.as_str(), *offset), ("faulty:/segment-0000000000000001", BLOCK));
        let after = disk.names().into_iter().map(|name| (disk.content(&name), name)).collect::<Vec<_>>();
        assert!(before == after);
    }
}

#[test]
fn a_cut_tail_stays_cut_and_is_written_over_by_nobody() {
    let disk = sample(false);
    disk.flip("segment-0000000000000002", 3 * BLOCK + 100, 1);
    let (journal, recovery, seen) = open(&disk, options(), Lsn(0)).expect("a torn tail is cut");
    assert_eq!(seen, records(1..=16));
    assert_eq!(recovery.torn_tail.expect("the cut is reported").offset, 3 * BLOCK);
    let mut story = Story::of(journal);
    story.stage(5);
    story.pump();
    drop(story);
    let (recovery, seen) = verify(&disk).expect("the next segment vouches for the cut");
    assert_eq!(seen, records(1..=21));
    assert_eq!(recovery.torn_tail, None);
    // Should the torn frame turn out whole after all, two histories exist: refused.
    disk.flip("segment-0000000000000002", 3 * BLOCK + 100, 1);
    assert!(matches!(verify(&disk), Err(JournalError::Corrupt { .. })));
}

#[test]
fn a_missing_segment_is_refused() {
    use hongbao_engine::storage::Storage;
    for (after, refused) in [(0, true), (6, true), (7, false)] {
        let disk = sample(false);
        disk.remove("segment-0000000000000001").expect("it is there");
        assert_eq!(open(&disk, options(), Lsn(after)).is_err(), refused, "after {after}");
    }
    let disk = sample(true);
    disk.remove("segment-0000000000000002").expect("it is there");
    assert!(open(&disk, options(), Lsn(0)).is_err(), "the marker vouches for it");
}

#[test]
fn another_format_is_refused_with_what_to_do() {
    // Version 1 becomes 3 and 0.
    for (mask, words) in [(2, "newer build"), (1, "the build that wrote it")] {
        for file in ["segment-0000000000000002", MARKER] {
            let disk = sample(true);
            disk.flip(file, 8, mask);
            let error = open(&disk, options(), Lsn(0)).err().expect("it is refused").to_string();
            assert!(error.contains(words) && error.contains(file), "{error}");
        }
    }
}
