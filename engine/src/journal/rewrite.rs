//! A journal or archive copied with some of its records changed.
//!
//! **Invariant:** every record keeps its LSN, its length and its place; what changes
//! besides are the checksums from it on.
//! **Invariant:** only sound frames are copied, in the order in which they were written: of
//! what cannot be read nobody could say what is in it.

use super::JournalError;
use super::frame::{self, BLOCK_BYTES, Found, Frame, Position, Records};
use super::reader::{corrupt, unreadable};
use super::segment::{Header, MARKER, Marker, Named, name_of};
use crate::storage::{Storage, read_all};
use crate::types::Lsn;
use std::collections::BTreeMap;

/// Changes a record, or not; an error says why that cannot be, and ends it all.
pub(crate) type Change<'a> = dyn FnMut(Lsn, &[u8]) -> Result<Option<Vec<u8>>, String> + 'a;

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Segments.
    pub(crate) segments: usize,
    /// Records that were changed.
    pub(crate) changed: u64,
    /// The last record.
    pub(crate) last: Lsn,
}

/// Copies all segments of `from` to `to`, those too that are kept only to be read, each
/// record as `change` wants it, and the marker of a clean shutdown. Tells `progress` the bytes done of all.
///
/// # Errors
/// [`JournalError`] if something cannot be read or written, or a record not be changed.
pub(crate) fn rewrite(
    from: &dyn Storage,
    to: &dyn Storage,
    change: &mut Change<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Rewritten, JournalError> {
    let mut names = BTreeMap::new();
    let mut has_marker = false;
    let mut all_bytes = 0;
    for file in from.list().map_err(JournalError::io("list", from, ""))? {
        match name_of(&file) {
            Named::Segment(sequence) | Named::Kept(sequence) => {
                let bytes = from.open(&file).and_then(|file| file.len());
                all_bytes += bytes.map_err(JournalError::io("measure", from, &file))?;
                names.insert(sequence, file);
            }
            Named::Marker => has_marker = true,
            // Spares hold what earlier lives have left in them.
            Named::Spare(_) | Named::Ballast | Named::Unfinished | Named::Stranger => {}
        }
    }
    let mut copying = Copying { from, to, change, before: None, done: Rewritten::default() };
    let mut done_bytes = 0;
    for (sequence, file) in names {
        done_bytes += copying.segment(sequence, &file)?;
        progress(done_bytes, all_bytes);
    }
    if has_marker {
        copying.marker()?;
    }
    to.sync_directory().map_err(JournalError::io("sync the directory of", to, MARKER))?;
    Ok(copying.done)
}

struct Copying<'a, 'b> {
    from: &'a dyn Storage,
    to: &'a dyn Storage,
    change: &'a mut Change<'b>,
    before: Option<Before>,
    done: Rewritten,
}

/// Where the segment before ended.
struct Before {
    is_kept: bool,
    header: Header,
    last_lsn: u64,
    end: u64,
    /// The checksum of its last frame, as it was and as it is.
    chain: Chain,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Chain {
    was: u32,
    is: u32,
}

impl Copying<'_, '_> {
    /// Copies one segment, and says how long the file was.
    fn segment(&mut self, sequence: u64, file: &str) -> Result<u64, JournalError> {
        let from = self.from;
        let open = from.open(file).map_err(JournalError::io("open", from, file))?;
        let bytes = read_all(&*open).map_err(JournalError::io("read", from, file))?;
        let header = Header::decode(&bytes).map_err(|why| unreadable(from, file, why))?;
        let wrong = |offset: usize, what: String| corrupt(from, file, offset as u64, what);
        if header.sequence != sequence {
            return Err(wrong(16, format!("the header says segment {}", header.sequence)));
        }
        let begins = self.begins(file, &header)?;
        let mut chain = begins;
        let mut last_lsn = header.first_lsn - 1;
        let mut copy = vec![0; BLOCK_BYTES];
        let mut offset = BLOCK_BYTES;
        loop {
            let expected = Position { epoch: header.epoch, first_lsn: last_lsn + 1, previous: chain.was };
            let Found::Next(found) = frame::find(&bytes[offset..], &expected) else { break };
            if !Records::of(found.payload).are_sound(found.count) {
                return Err(wrong(
                    offset,
                    format!("the frame of LSN {} does not hold the records it says", last_lsn + 1),
                ));
            }
            copy.extend_from_slice(&bytes[offset..offset + found.frame_bytes]);
            chain = Chain { was: found.checksum, is: self.frame(file, &found, chain.is, &mut copy[offset..])? };
            last_lsn += u64::from(found.count);
            offset += found.frame_bytes;
        }
        if let Some(later) = frame::find_later(&bytes, offset, Some(header.epoch)) {
            let what = format!("the frame of LSN {} is damaged, but a sound one follows at {later}", last_lsn + 1);
            return Err(wrong(offset, what));
        }
        let is_rewritten = header.is_rewritten || begins.is != begins.was || chain.is != chain.was;
        copy[..BLOCK_BYTES].copy_from_slice(&Header { chain: begins.is, is_rewritten, ..header }.encode());
        self.write(file, &copy)?;
        let is_kept = matches!(name_of(file), Named::Kept(_));
        self.before = Some(Before { is_kept, header, last_lsn, end: offset as u64, chain });
        self.done.segments += 1;
        self.done.last = Lsn(last_lsn);
        Ok(bytes.len() as u64)
    }

    /// The checksum with which a segment begins, which has to follow the one before.
    fn begins(&self, file: &str, header: &Header) -> Result<Chain, JournalError> {
        let own = Chain { was: header.chain, is: header.chain };
        let Some(before) = &self.before else { return Ok(own) };
        let follows = header.sequence == before.header.sequence + 1
            && header.epoch > before.header.epoch
            && header.first_lsn == before.last_lsn + 1;
        if follows && header.chain == before.chain.was {
            return Ok(before.chain);
        }
        // What is kept only to be read need not lead up to what is not.
        if follows && before.header.may_differ(header) || before.is_kept {
            return Ok(own);
        }
        let what =
            format!("it ends at LSN {} and is followed by another segment at {}", before.last_lsn, header.first_lsn);
        Err(corrupt(self.from, file, before.end, what))
    }

    /// Changes the records of a frame that was copied, and seals it behind `previous`.
    fn frame(&mut self, file: &str, found: &Frame<'_>, previous: u32, copy: &mut [u8]) -> Result<u32, JournalError> {
        let mut records = Records::of(found.payload);
        for lsn in (found.position.first_lsn..).map(Lsn) {
            let Some(record) = records.next() else { break };
            let changed = (self.change)(lsn, record).map_err(|message| JournalError::Replay {
                lsn,
                file: self.from.path_of(file),
                message,
            })?;
            if let Some(changed) = changed {
                assert_eq!(changed.len(), record.len(), "a record keeps its length");
                let end = frame::HEADER_BYTES + found.payload.len() - records.left_bytes();
                copy[end - record.len()..end].copy_from_slice(&changed);
                self.done.changed += 1;
            }
        }
        let position = Position { previous, ..found.position };
        Ok(frame::seal(copy, found.payload.len(), position, found.count, found.kind))
    }

    fn marker(&mut self) -> Result<(), JournalError> {
        let open = self.from.open(MARKER).map_err(JournalError::io("open", self.from, MARKER))?;
        let bytes = read_all(&*open).map_err(JournalError::io("read", self.from, MARKER))?;
        let marker = Marker::decode(&bytes).map_err(|why| unreadable(self.from, MARKER, why))?;
        let ends = self.before.as_ref().map(|last| {
            let Header { sequence, epoch, .. } = last.header;
            let ends = Marker { sequence, epoch, last_lsn: last.last_lsn, chain: last.chain.was, end: last.end };
            (ends, last.chain.is)
        });
        let Some((_, chain)) = ends.filter(|(ends, _)| *ends == marker) else {
            let what = "the journal was closed in order, but does not end as its marker says".to_owned();
            return Err(corrupt(self.from, MARKER, 16, what));
        };
        self.write(MARKER, &Marker { chain, ..marker }.encode())
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<(), JournalError> {
        let written = self.to.create(file).and_then(|mut new| {
            new.write_at(bytes, 0)?;
            new.sync_data()
        });
        written.map_err(JournalError::io("write", self.to, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, JournalOptions};
    use crate::storage::faulty::FaultyDisk;
    use std::sync::Arc;

    /// A journal of several segments with records of many lengths, closed in order.
    fn written() -> (FaultyDisk, Vec<Vec<u8>>) {
        let disk = FaultyDisk::new(1);
        let options = JournalOptions {
            segment_bytes: 128 << 10,
            record_bytes_max: 4096,
            threads_max: 4,
            ballast_bytes: 0,
            threaded: false,
            ..JournalOptions::default()
        };
        let storage = Arc::new(disk.clone());
        let (journal, _) = Journal::open(storage, options, Lsn(0), &mut |_, _| Ok(()), Box::new(|_| {})).unwrap();
        let records: Vec<Vec<u8>> = (0..300usize).map(|n| vec![n as u8; n * 37 % 3000]).collect();
        for (n, record) in records.iter().enumerate() {
            journal.stage(|bytes| bytes.extend_from_slice(record));
            if n % 5 == 0 {
                while journal.pump().unwrap() {}
            }
        }
        journal.close().unwrap();
        (disk, records)
    }

    fn segments(disk: &FaultyDisk) -> BTreeMap<String, Vec<u8>> {
        let names = disk.list().unwrap().into_iter().filter(|name| matches!(name_of(name), Named::Segment(_)));
        names.map(|name| (name.clone(), read_all(&*disk.open(&name).unwrap()).unwrap())).collect()
    }

    fn read(disk: &FaultyDisk) -> Result<(Vec<Vec<u8>>, bool), JournalError> {
        let mut records = Vec::new();
        let recovery = Journal::verify(disk, Lsn(0), &mut |_, record| {
            records.push(record.to_vec());
            Ok(())
        })?;
        Ok((records, recovery.clean_shutdown))
    }

    #[test]
    fn records_change_and_everything_else_stays() {
        let (from, records) = written();
        let change =
            |lsn: Lsn, record: &[u8]| (lsn.0 >= 140 && lsn.0.is_multiple_of(7)).then(|| vec![b' '; record.len()]);
        let to = FaultyDisk::new(2);
        let done = rewrite(&from, &to, &mut |lsn, record| Ok(change(lsn, record)), &mut |_, _| ()).unwrap();
        assert_eq!(
            (done.changed, done.last),
            ((140..=300).filter(|lsn: &u64| lsn.is_multiple_of(7)).count() as u64, Lsn(300))
        );
        let expected = (1..).map(Lsn).zip(&records).map(|(lsn, record)| change(lsn, record).unwrap_or(record.clone()));
        assert_eq!(read(&to).unwrap(), (expected.collect(), true));
        let (old, new) = (segments(&from), segments(&to));
        assert!(old.len() > 3 && old.keys().eq(new.keys()) && done.segments == old.len());
        let is_rewritten: Vec<bool> = new.values().map(|bytes| Header::decode(bytes).unwrap().is_rewritten).collect();
        assert!(
            is_rewritten.is_sorted() && !is_rewritten[0] && is_rewritten.last() == Some(&true),
            "from the first change on"
        );

        // Beside any that was not rewritten with it.
        for name in old.keys().skip(1) {
            let mixed = FaultyDisk::new(3);
            for (file, bytes) in
                new.iter().map(|(file, bytes)| if file == name { (file, &old[file]) } else { (file, bytes) })
            {
                mixed.create(file).unwrap().write_at(bytes, 0).unwrap();
            }
            assert_eq!(read(&mixed).unwrap().0.len(), records.len(), "{name}");
        }
        // Without a change every byte stays, of what is not left of earlier lives.
        let same = FaultyDisk::new(4);
        rewrite(&from, &same, &mut |_, _| Ok(None), &mut |_, _| ()).unwrap();
        for (name, bytes) in segments(&same) {
            assert!(bytes == old[&name][..bytes.len()], "{name}");
        }
    }

    #[test]
    fn what_is_damaged_or_missing_is_refused() {
        let (from, _) = written();
        let refused = |disk: &FaultyDisk| {
            let error = rewrite(disk, &FaultyDisk::new(9), &mut |_, _| Ok(None), &mut |_, _| ()).unwrap_err();
            assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
        };
        let names: Vec<String> = segments(&from).into_keys().collect();
        for (name, offset) in [(&names[0], 20), (&names[0], 5000), (&names[1], 5000), (names.last().unwrap(), 4100)] {
            from.flip(name, offset, 1);
            refused(&from);
            from.flip(name, offset, 1);
        }
        from.remove(&names[1]).unwrap();
        refused(&from);
    }
}
