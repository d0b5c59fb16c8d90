//! Reading what is left of a journal, its archive or both, damaged or not: what follows
//! a store without a gap, and what can be read behind one.
//!
//! **Invariant:** what is told to follow is what the strict reader would replay: frames
//! chained from the segment that has the next record on.

use super::JournalError;
use super::frame::{self, BLOCK_BYTES, Found, Frame, Kind, Position, Records};
use super::segment::{Header, Marker, Named, name_of};
use crate::storage::{Storage, read_all};
use crate::types::Lsn;
use std::collections::BTreeMap;

/// Whether a record follows what was there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The store has one of its number: one of the last few of these.
    Known,
    /// It is the next one.
    Follows,
    /// There is a gap, or damage, before it.
    BehindGap,
}

/// So many records of those that the store has are told.
const KNOWN_TOLD: u64 = 64;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    /// The last record that follows without a gap.
    pub(crate) last: Lsn,
    /// Records that can be read, and do not follow.
    pub(crate) behind_gap: u64,
    /// Records that there were and that cannot be read.
    pub(crate) missing: u64,
    /// What is wrong, in plain words.
    pub(crate) notes: Vec<String>,
    /// The segments from the one with the next record on, and where each ends; none if there is
    /// a gap, or they end before the store does.
    pub(crate) segments: Vec<Whole>,
    /// The checksum of the last frame that follows.
    pub(crate) chain: u32,
    /// Which of the storages has the last segment, if it reaches the store's last record.
    pub(crate) ends_in: Option<usize>,
}

/// A segment all of which follows.
#[derive(Clone, Debug)]
pub(crate) struct Whole {
    /// Which of the storages has it.
    pub(crate) storage: usize,
    pub(crate) name: String,
    pub(crate) header: HeaderOf,
    pub(crate) end: u64,
}

/// What goes on behind a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderOf {
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
}

/// Reads the segments of all `storages`, of which a later one counts before an earlier
/// one, and gives `each` every record behind `after` that can be read, and before them the last
/// ones up to there, by which it is known whether they are of the store's own history.
///
/// # Errors
/// [`JournalError::Io`] if the disk refuses; damage is no error.
pub(crate) fn salvage(
    storages: &[&dyn Storage],
    after: Lsn,
    each: &mut dyn FnMut(Lsn, &[u8], Place),
) -> Result<Salvaged, JournalError> {
    let mut names = BTreeMap::new();
    let mut marker = None;
    for (index, storage) in storages.iter().enumerate() {
        for file in storage.list().map_err(JournalError::io("list", *storage, ""))? {
            match name_of(&file) {
                // What was kept after it was released has the same.
                Named::Segment(sequence) | Named::Kept(sequence) => drop(names.insert(sequence, (index, file))),
                Named::Marker => marker = Some((*storage, file)),
                Named::Spare(_) | Named::Ballast | Named::Unfinished | Named::Stranger => {}
            }
        }
    }
    let mut reading = Reading {
        each,
        after: after.0,
        found: Salvaged { last: after, ..Salvaged::default() },
        place: Place::Follows,
        last: after.0,
        before: None,
        has_begun: false,
    };
    let firsts = names.values().map(|(index, file)| first_of(storages[*index], file)).collect::<Result<Vec<_>, _>>()?;
    // Those before the one with the next record have nothing that is needed.
    let begin = firsts.iter().rposition(|first| first.is_some_and(|first| first <= after.0 + 1)).unwrap_or(0);
    for (sequence, (index, file)) in names.into_iter().skip(begin) {
        reading.segment(storages[index], index, sequence, file)?;
    }
    if let Some((storage, file)) = marker {
        reading.compare_with_marker(storage, &file)?;
    }
    if reading.last < after.0 {
        reading.found.ends_in = None;
    }
    if reading.place == Place::BehindGap || reading.last < after.0 {
        reading.found.segments.clear();
    }
    Ok(reading.found)
}

/// The first record of a segment, if its header can be read.
fn first_of(storage: &dyn Storage, file: &str) -> Result<Option<u64>, JournalError> {
    let open = storage.open(file).map_err(JournalError::io("open", storage, file))?;
    let mut block = vec![0; BLOCK_BYTES];
    open.read_at(&mut block, 0).map_err(JournalError::io("read", storage, file))?;
    Ok(Header::decode(&block).ok().map(|header| header.first_lsn))
}

struct Reading<'a> {
    each: &'a mut dyn FnMut(Lsn, &[u8], Place),
    after: u64,
    found: Salvaged,
    place: Place,
    /// The last record read.
    last: u64,
    /// Of the segment before.
    before: Option<Header>,
    has_begun: bool,
}

impl Reading<'_> {
    fn segment(
        &mut self,
        storage: &dyn Storage,
        index: usize,
        sequence: u64,
        file: String,
    ) -> Result<(), JournalError> {
        self.found.ends_in = Some(index);
        let open = storage.open(&file).map_err(JournalError::io("open", storage, &file))?;
        let bytes = read_all(&*open).map_err(JournalError::io("read", storage, &file))?;
        let path = storage.path_of(&file);
        let header = Header::decode(&bytes).ok().filter(|header| header.sequence == sequence);
        // The first frame behind a header that cannot be read is of its life.
        let first = || frame::decode(bytes.get(BLOCK_BYTES..)?).map(|frame| frame.position);
        let (epoch, first_lsn, previous) = match (&header, first()) {
            (Some(header), _) => (header.epoch, header.first_lsn, header.chain),
            (None, Some(position)) => {
                self.gap(format!("the header of {path} is damaged"));
                (position.epoch, position.first_lsn, position.previous)
            }
            (None, None) => {
                self.gap(format!("{path} is damaged, and nothing in it can be read"));
                return Ok(());
            }
        };
        let is_rewritten = header.is_some_and(|header| header.is_rewritten);
        let header = Header { sequence, epoch, first_lsn, chain: previous, is_rewritten };
        self.begin(&path, &header);
        let mut next = Position { epoch, first_lsn, previous };
        let mut offset = BLOCK_BYTES;
        loop {
            let rest = &bytes[offset.min(bytes.len())..];
            let frame = match frame::find(rest, &next) {
                Found::Next(frame) => frame,
                Found::Damaged | Found::Nothing => {
                    let Some(later) = frame::find_later(&bytes, offset, Some(epoch)) else { break };
                    self.gap(format!("{path} is damaged at offset {offset}"));
                    offset = later;
                    frame::decode(&bytes[later..]).expect("a sound frame was found there")
                }
            };
            if !self.frame(&frame) {
                self.gap(format!("a frame in {path} at offset {offset} does not hold the records it says"));
            }
            offset += frame.frame_bytes;
            next = Position { epoch, first_lsn: self.last + 1, previous: frame.checksum };
            if frame.kind == Kind::Closing {
                break;
            }
        }
        let of = HeaderOf { sequence, epoch };
        self.found.segments.push(Whole { storage: index, name: file, header: of, end: offset as u64 });
        // What a next one has to say of this one.
        self.before = Some(Header { first_lsn: self.last + 1, chain: next.previous, ..header });
        if self.place == Place::Follows {
            self.found.chain = next.previous;
        }
        Ok(())
    }

    /// Compares a segment's header with where the one before ended.
    fn begin(&mut self, path: &str, header: &Header) {
        let continues = match self.before.take() {
            None if self.has_begun => false,
            // The first one: the store says where it has to begin.
            None => header.first_lsn <= self.after + 1,
            Some(before) => {
                header.sequence == before.sequence + 1
                    && header.epoch > before.epoch
                    && header.first_lsn == before.first_lsn
                    && (header.chain == before.chain || before.may_differ(header))
            }
        };
        if !continues {
            self.gap(format!("{path} begins with record {} and does not follow what is before it", header.first_lsn));
        }
        if !self.has_begun && continues {
            self.last = header.first_lsn - 1;
        }
        self.has_begun = true;
        self.skip_to(header.first_lsn);
    }

    /// Counts what is missing before `first_lsn`, and goes on there.
    fn skip_to(&mut self, first_lsn: u64) {
        let known = self.last.max(self.after);
        self.found.missing += (first_lsn - 1).saturating_sub(known);
        self.last = first_lsn - 1;
    }

    /// Gives on what a frame holds; says whether it is as it says.
    fn frame(&mut self, frame: &Frame<'_>) -> bool {
        self.skip_to(frame.position.first_lsn);
        let records = Records::of(frame.payload);
        if !records.are_sound(frame.count) {
            self.found.missing += u64::from(frame.count);
            self.last += u64::from(frame.count);
            return false;
        }
        for record in records {
            self.last += 1;
            if self.last <= self.after {
                if self.last + KNOWN_TOLD > self.after {
                    (self.each)(Lsn(self.last), record, Place::Known);
                }
                continue;
            }
            match self.place {
                Place::Known => unreachable!("of a journal it is only told that it follows, or a gap"),
                Place::Follows => self.found.last = Lsn(self.last),
                Place::BehindGap => self.found.behind_gap += 1,
            }
            (self.each)(Lsn(self.last), record, self.place);
        }
        true
    }

    fn gap(&mut self, note: String) {
        self.place = Place::BehindGap;
        self.found.notes.push(note);
    }

    /// A journal that was closed in order ends where its marker says.
    fn compare_with_marker(&mut self, storage: &dyn Storage, file: &str) -> Result<(), JournalError> {
        let open = storage.open(file).map_err(JournalError::io("open", storage, file))?;
        let bytes = read_all(&*open).map_err(JournalError::io("read", storage, file))?;
        let Ok(marker) = Marker::decode(&bytes) else { return Ok(()) };
        let short = marker.last_lsn.saturating_sub(self.last.max(self.after));
        if short > 0 {
            self.found.missing += short;
            self.gap(format!("{} says that the last record was {}", storage.path_of(file), marker.last_lsn));
        }
        Ok(())
    }
}
