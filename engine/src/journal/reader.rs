//! Reading the journal back: every record in order, everything checked.
//!
//! Reading changes nothing on the disk, so it can be repeated at will.
//!
//! **Invariant:** only the end of the last segment may be damaged, and only by
//! one frame: at most one batch was in flight. A sound frame behind a damaged
//! one, or a segment that continues beyond the valid end of the one before, is
//! corruption and refused.
//! **Invariant:** after a clean shutdown nothing may be damaged at all.

use super::frame::{self, BLOCK_BYTES, Found, Frame, Kind, Position, Records};
use super::segment::{self, FORMAT_VERSION, Header, Marker, Named, Unreadable, name_of};
use super::{JournalError, Replay, TornTail};
use crate::storage::{Storage, read_all};
use crate::types::Lsn;
use std::collections::BTreeMap;
use std::ops::Range;

/// What to do about damage that must not be cut away.
const REMEDY: &str = "do not delete anything: keep a copy of this directory, then restore it from a backup or a \
                      replica, or restore the store and this journal together";

/// A segment as it was read.
#[derive(Clone, Debug)]
pub(crate) struct SegmentRead {
    pub(crate) name: String,
    pub(crate) header: Header,
    /// The last record up to the end of this segment.
    pub(crate) last_lsn: u64,
    /// Where its last valid frame ends.
    pub(crate) end: u64,
    pub(crate) file_bytes: u64,
    /// Where its last valid frame lies, if it has any.
    pub(crate) last_frame: Option<Range<u64>>,
}

/// The journal as it was read.
#[derive(Debug, Default)]
pub(crate) struct JournalRead {
    pub(crate) segments: Vec<SegmentRead>,
    /// Segments that are kept to be read, by their sequence.
    pub(crate) kept: BTreeMap<u64, String>,
    pub(crate) spares: BTreeMap<u64, u64>,
    pub(crate) unfinished: Vec<String>,
    pub(crate) has_ballast: bool,
    pub(crate) clean: bool,
    pub(crate) last_lsn: u64,
    pub(crate) chain: u32,
    pub(crate) epoch_max: u64,
    pub(crate) records: u64,
    pub(crate) torn_tail: Option<TornTail>,
    /// The last LSN and the bytes of every frame that reaches beyond `after`.
    pub(crate) frames: Vec<(u64, u64)>,
}

/// Reads everything and gives the records behind `after` to `replay`.
pub(crate) fn read(
    storage: &dyn Storage,
    after: Lsn,
    ignore_epoch: bool,
    replay: &mut Replay<'_>,
) -> Result<JournalRead, JournalError> {
    let mut journal = JournalRead::default();
    let mut sequences = BTreeMap::new();
    let mut has_marker = false;
    for file in storage.list().map_err(JournalError::io("list", storage, ""))? {
        match name_of(&file) {
            Named::Segment(sequence) => drop(sequences.insert(sequence, file)),
            Named::Kept(sequence) => drop(journal.kept.insert(sequence, file)),
            Named::Spare(serial) => drop(journal.spares.insert(serial, 0)),
            Named::Marker => has_marker = true,
            Named::Ballast => journal.has_ballast = true,
            Named::Unfinished => journal.unfinished.push(file),
            Named::Stranger => tracing::warn!(file = storage.path_of(&file), "not a file of the journal; left alone"),
        }
    }
    let marker = if has_marker { Some(read_marker(storage)?) } else { None };
    let mut ended_by = Kind::Batch;
    for (sequence, file) in sequences {
        ended_by = journal.read_segment(storage, sequence, &file, after, ignore_epoch, replay)?;
    }
    if let Some(marker) = marker {
        journal.check_marker(storage, &marker, ended_by)?;
        journal.clean = true;
    }
    journal.look_at_spares(storage)?;
    if after.0 > journal.last_lsn {
        let (name, offset) = journal.segments.last().map_or(("", 0), |last| (&*last.name, last.end));
        let file = storage.path_of(name);
        return Err(JournalError::Behind { file, offset, after, last: Lsn(journal.last_lsn) });
    }
    Ok(journal)
}

/// Makes sure that the first segment holds the record that follows `after`, or
/// begins with it, and reads no more than that segment's header.
pub(crate) fn check_first(storage: &dyn Storage, after: Lsn) -> Result<(), JournalError> {
    let mut files = storage.list().map_err(JournalError::io("list", storage, ""))?;
    files.retain(|file| matches!(name_of(file), Named::Segment(_)));
    // Their numbers are written with as many digits.
    let Some(first) = files.iter().min() else { return Ok(()) };
    let file = storage.open(first).map_err(JournalError::io("open", storage, first))?;
    let mut block = vec![0; BLOCK_BYTES];
    file.read_at(&mut block, 0).map_err(JournalError::io("read", storage, first))?;
    let header = Header::decode(&block).map_err(|why| unreadable(storage, first, why))?;
    check_begins(storage, first, &header, after)
}

fn check_begins(storage: &dyn Storage, file: &str, header: &Header, after: Lsn) -> Result<(), JournalError> {
    let (first, needed) = (Lsn(header.first_lsn), Lsn(after.0 + 1));
    if first <= needed {
        return Ok(());
    }
    Err(JournalError::BeginsLater { file: storage.path_of(file), first, needed })
}

fn read_marker(storage: &dyn Storage) -> Result<Marker, JournalError> {
    let bytes = read_file(storage, segment::MARKER)?;
    Marker::decode(&bytes).map_err(|why| unreadable(storage, segment::MARKER, why))
}

impl JournalRead {
    fn read_segment(
        &mut self,
        storage: &dyn Storage,
        sequence: u64,
        file: &str,
        after: Lsn,
        ignore_epoch: bool,
        replay: &mut Replay<'_>,
    ) -> Result<Kind, JournalError> {
        let bytes = read_file(storage, file)?;
        let header = Header::decode(&bytes).map_err(|why| unreadable(storage, file, why))?;
        if header.sequence != sequence {
            return Err(corrupt(storage, file, 16, format!("the header says segment {}", header.sequence)));
        }
        self.check_continues(storage, file, &header, after)?;
        let mut offset = BLOCK_BYTES;
        let mut ended_by = Kind::Batch;
        let mut last_frame = None;
        while ended_by == Kind::Batch {
            let any_epoch = ignore_epoch && bytes.len() >= offset + BLOCK_BYTES;
            let epoch = if any_epoch { frame::claimed(&bytes[offset..]).epoch } else { header.epoch };
            let expected = Position { epoch, first_lsn: self.last_lsn + 1, previous: self.chain };
            match frame::find(&bytes[offset..], &expected) {
                Found::Next(found) => {
                    self.replay_frame(storage, file, offset, &found, after, replay)?;
                    last_frame = Some(offset as u64..(offset + found.frame_bytes) as u64);
                    offset += found.frame_bytes;
                    ended_by = found.kind;
                }
                Found::Damaged => {
                    let bytes = (bytes.len() - offset) as u64;
                    self.torn_tail = Some(TornTail { file: storage.path_of(file), offset: offset as u64, bytes });
                    break;
                }
                Found::Nothing => break,
            }
        }
        let later = frame::find_later(&bytes, offset, (!ignore_epoch).then_some(header.epoch));
        if let Some(later) = later {
            let what = format!("the frame of LSN {} is damaged, but a sound one follows at {later}", self.last_lsn + 1);
            return Err(corrupt(storage, file, offset as u64, what));
        }
        self.segments.push(SegmentRead {
            name: file.to_owned(),
            header,
            last_lsn: self.last_lsn,
            end: offset as u64,
            file_bytes: bytes.len() as u64,
            last_frame,
        });
        Ok(ended_by)
    }

    fn check_continues(
        &mut self,
        storage: &dyn Storage,
        file: &str,
        header: &Header,
        after: Lsn,
    ) -> Result<(), JournalError> {
        match self.segments.last() {
            None => {
                check_begins(storage, file, header, after)?;
                self.last_lsn = header.first_lsn - 1;
                self.chain = header.chain;
            }
            Some(before) => {
                if header.sequence != before.header.sequence + 1 {
                    let what = format!("segment {} is missing before it", before.header.sequence + 1);
                    return Err(corrupt(storage, file, 16, what));
                }
                if header.epoch <= before.header.epoch {
                    return Err(corrupt(storage, file, 24, "its epoch is not above the one before".to_owned()));
                }
                let is_chained = header.chain == self.chain || before.header.may_differ(header);
                if header.first_lsn != self.last_lsn + 1 || !is_chained {
                    let what = format!(
                        "its valid frames end at LSN {}, but the next segment continues at LSN {}",
                        self.last_lsn, header.first_lsn
                    );
                    return Err(corrupt(storage, &before.name, before.end, what));
                }
                // The segment that follows vouches for the cut: it was made, and reported, at an earlier start.
                self.torn_tail = None;
                self.chain = header.chain;
            }
        }
        self.epoch_max = self.epoch_max.max(header.epoch);
        Ok(())
    }

    fn replay_frame(
        &mut self,
        storage: &dyn Storage,
        file: &str,
        offset: usize,
        found: &Frame<'_>,
        after: Lsn,
        replay: &mut Replay<'_>,
    ) -> Result<(), JournalError> {
        let records = Records::of(found.payload);
        if !records.are_sound(found.count) {
            let what = format!("the frame of LSN {} does not hold the records it says", self.last_lsn + 1);
            return Err(corrupt(storage, file, offset as u64, what));
        }
        for record in records {
            self.last_lsn += 1;
            if self.last_lsn > after.0 {
                self.records += 1;
                replay(Lsn(self.last_lsn), record).map_err(|message| JournalError::Replay {
                    lsn: Lsn(self.last_lsn),
                    file: storage.path_of(file),
                    message,
                })?;
            }
        }
        self.chain = found.checksum;
        if self.last_lsn > after.0 && found.count > 0 {
            self.frames.push((self.last_lsn, found.frame_bytes as u64));
        }
        Ok(())
    }

    fn check_marker(&self, storage: &dyn Storage, marker: &Marker, ended_by: Kind) -> Result<(), JournalError> {
        let promised = "the journal was closed in order, but does not end as its marker says";
        let Some(last) = self.segments.last() else {
            return Err(corrupt(storage, segment::MARKER, 16, format!("{promised}: there is no segment")));
        };
        let end = Marker {
            sequence: last.header.sequence,
            epoch: last.header.epoch,
            last_lsn: self.last_lsn,
            chain: self.chain,
            end: last.end,
        };
        if end != *marker || ended_by != Kind::Closing {
            let what = format!("{promised}: LSN {} instead of {}", end.last_lsn, marker.last_lsn);
            return Err(corrupt(storage, &last.name, last.end, what));
        }
        Ok(())
    }

    /// Spares are read for their length, and for the epoch of their last life:
    /// if segments were lost, an epoch still never comes twice.
    fn look_at_spares(&mut self, storage: &dyn Storage) -> Result<(), JournalError> {
        for (&serial, file_bytes) in &mut self.spares {
            let name = segment::spare_name(serial);
            let file = storage.open(&name).map_err(JournalError::io("open", storage, &name))?;
            let mut block = vec![0; BLOCK_BYTES];
            *file_bytes = file.len().map_err(JournalError::io("measure", storage, &name))?;
            file.read_at(&mut block, 0).map_err(JournalError::io("read", storage, &name))?;
            if let Ok(header) = Header::decode(&block) {
                self.epoch_max = self.epoch_max.max(header.epoch);
            }
        }
        Ok(())
    }
}

fn read_file(storage: &dyn Storage, file: &str) -> Result<Vec<u8>, JournalError> {
    let open = storage.open(file).map_err(JournalError::io("open", storage, file))?;
    read_all(&*open).map_err(JournalError::io("read", storage, file))
}

pub(super) fn unreadable(storage: &dyn Storage, file: &str, why: Unreadable) -> JournalError {
    match why {
        Unreadable::Damaged(what) => corrupt(storage, file, 0, format!("its header is damaged: {what}")),
        Unreadable::Version(found) if found > FORMAT_VERSION => {
            JournalError::NewerFormat { file: storage.path_of(file), found, supported: FORMAT_VERSION }
        }
        Unreadable::Version(found) => {
            JournalError::OlderFormat { file: storage.path_of(file), found, supported: FORMAT_VERSION }
        }
    }
}

pub(super) fn corrupt(storage: &dyn Storage, file: &str, offset: u64, what: String) -> JournalError {
    JournalError::Corrupt { file: storage.path_of(file), offset, what, remedy: REMEDY }
}
