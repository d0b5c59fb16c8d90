//! One file of the archive: rows in the order of their keys, and over them the
//! index, in blocks of one form. The index has as many levels as it takes until
//! one block is left, so a reader keeps nothing of it in memory.
//!
//! ```text
//! magic | block ... block | footer
//! block   row ... row, crc32c of the block's offset and its rows
//! row     length of the key (u16), of the value (u32), key, value
//! footer  offset of the topmost block (u64), its length (u32), levels of the
//!         index (u32), rows (u64), crc32c of all before it in the footer
//! ```
//!
//! A row of the index has the first key of a block, and the block's offset and
//! length.
//!
//! **Invariant:** a file is written once and never changed. Whatever in it is not
//! as it was written is refused with file, offset and remedy, and never half read.

use crate::error::EngineError;
use crate::storage::StorageFile;
use std::io;

/// How every file begins; the last digit is the form's number.
const MAGIC: &[u8; 16] = b"hongbao archive1";
const FORM_AT: usize = MAGIC.len() - 1;
/// A block is written once it has so many bytes. One with a longer row is longer.
const BLOCK_BYTES: usize = 16 << 10;
/// The longest block there can be.
const BLOCK_BYTES_MAX: u32 = 64 << 20;
/// So much is collected before it is written.
const COLLECTED_BYTES: usize = 256 << 10;
const FOOTER_BYTES: usize = 28;
const CRC_BYTES: usize = 4;

pub(super) type Row = (Vec<u8>, Vec<u8>);
type Result<T> = std::result::Result<T, EngineError>;

/// Where a block lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    length: u32,
}

/// A block while it is filled.
#[derive(Default)]
struct Open {
    first: Vec<u8>,
    rows: Vec<u8>,
}

/// Writes a file, rows in the order of their keys.
pub(super) struct Writer {
    file: Box<dyn StorageFile>,
    /// What is collected, and where it comes to lie.
    collected: Vec<u8>,
    written: u64,
    /// The block of rows that is being filled, and of each level of the index.
    open: Vec<Open>,
    rows: u64,
    last: Vec<u8>,
}

impl Writer {
    pub(super) fn new(file: Box<dyn StorageFile>) -> Writer {
        let collected = MAGIC.to_vec();
        Writer { file, collected, written: 0, open: Vec::new(), rows: 0, last: Vec::new() }
    }

    /// Adds a row. Its key comes after all before it.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert!(self.rows == 0 || *self.last < *key, "rows come in the order of their keys");
        self.last.clear();
        self.last.extend_from_slice(key);
        self.rows += 1;
        self.push(0, key, value)
    }

    /// Ends the file, and waits until all of it is on the disk.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut level = 0;
        let top = loop {
            let place = self.write_block(level)?;
            if level + 1 >= self.open.len() {
                break place;
            }
            let (first, place) = place;
            self.push(level + 1, &first, &packed(place))?;
            level += 1;
        };
        let (_, place) = top;
        let mut footer = packed(place).to_vec();
        footer.extend_from_slice(&(level as u32).to_le_bytes());
        footer.extend_from_slice(&self.rows.to_le_bytes());
        let crc = crc32c::crc32c(&footer);
        footer.extend_from_slice(&crc.to_le_bytes());
        self.collected.extend_from_slice(&footer);
        self.write()?;
        self.file.sync_data()
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&self.collected, self.written)?;
        self.written += self.collected.len() as u64;
        self.collected.clear();
        Ok(())
    }

    fn push(&mut self, level: usize, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.open.len() == level {
            self.open.push(Open::default());
        }
        let bytes = 6 + key.len() + value.len();
        if !self.open[level].rows.is_empty() && self.open[level].rows.len() + bytes > BLOCK_BYTES {
            let (first, place) = self.write_block(level)?;
            self.push(level + 1, &first, &packed(place))?;
        }
        let block = &mut self.open[level];
        if block.rows.is_empty() {
            block.first = key.to_vec();
        }
        let key_length = u16::try_from(key.len()).map_err(|_| io::Error::other("a key is too long"))?;
        let value_length = u32::try_from(value.len()).map_err(|_| io::Error::other("a row is too long"))?;
        block.rows.extend_from_slice(&key_length.to_le_bytes());
        block.rows.extend_from_slice(&value_length.to_le_bytes());
        block.rows.extend_from_slice(key);
        block.rows.extend_from_slice(value);
        Ok(())
    }

    fn write_block(&mut self, level: usize) -> io::Result<(Vec<u8>, Place)> {
        if self.open.len() == level {
            self.open.push(Open::default());
        }
        let block = std::mem::take(&mut self.open[level]);
        let offset = self.written + self.collected.len() as u64;
        let crc = checksum(offset, &block.rows);
        self.collected.extend_from_slice(&block.rows);
        self.collected.extend_from_slice(&crc.to_le_bytes());
        if self.collected.len() >= COLLECTED_BYTES {
            self.write()?;
        }
        let length =
            u32::try_from(block.rows.len() + CRC_BYTES).map_err(|_| io::Error::other("a block is too long"))?;
        Ok((block.first, Place { offset, length }))
    }
}

fn checksum(offset: u64, rows: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&offset.to_le_bytes()), rows)
}

fn packed(place: Place) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&place.offset.to_le_bytes());
    bytes[8..].copy_from_slice(&place.length.to_le_bytes());
    bytes
}

fn unpacked(bytes: &[u8]) -> Option<Place> {
    let (offset, length) = bytes.split_first_chunk::<8>()?;
    Some(Place { offset: u64::from_le_bytes(*offset), length: u32::from_le_bytes(length.try_into().ok()?) })
}

/// A file that can be read.
pub(super) struct Reader {
    file: Box<dyn StorageFile>,
    name: String,
    path: String,
    bytes: u64,
    top: Place,
    levels: u32,
    rows: u64,
}

impl Reader {
    /// Opens a file and reads its footer.
    pub(super) fn open(file: Box<dyn StorageFile>, name: &str, path: &str) -> io::Result<Result<Reader>> {
        let bytes = file.len()?;
        let least = (MAGIC.len() + FOOTER_BYTES) as u64;
        if bytes < least {
            return Ok(Err(damaged(path, 0, "it is cut short")));
        }
        let mut magic = [0; MAGIC.len()];
        read_exact(&*file, &mut magic, 0)?;
        if magic != *MAGIC {
            let (name, form) = magic.split_at(FORM_AT);
            if *name == MAGIC[..FORM_AT] && form[0].is_ascii_digit() {
                let (found, known) = (char::from(form[0]), char::from(MAGIC[FORM_AT]));
                let why =
                    format!("{path} has form {found} and this version knows {known}; run the version that wrote it");
                return Ok(Err(EngineError::Archive(why)));
            }
            return Ok(Err(damaged(path, 0, "it does not begin like a file of this form")));
        }
        let at = bytes - FOOTER_BYTES as u64;
        let mut footer = [0; FOOTER_BYTES];
        read_exact(&*file, &mut footer, at)?;
        let (said, crc) = footer.split_at(FOOTER_BYTES - CRC_BYTES);
        if crc32c::crc32c(said).to_le_bytes() != crc {
            return Ok(Err(damaged(path, at, "its footer has another checksum")));
        }
        let top = unpacked(&said[..12]).expect("twelve bytes are a place");
        let levels = u32::from_le_bytes(said[12..16].try_into().expect("four bytes"));
        let rows = u64::from_le_bytes(said[16..24].try_into().expect("eight bytes"));
        Ok(Ok(Reader { file, name: name.to_owned(), path: path.to_owned(), bytes, top, levels, rows }))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The row under a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let row = self.from(key)?.next()?;
        Ok(row.filter(|(found, _)| found == key).map(|(_, value)| value))
    }

    /// A walk through the rows from a key on.
    pub(super) fn from(&self, key: &[u8]) -> Result<Walk<'_>> {
        let mut walk = Walk { file: self, blocks: Vec::new() };
        let mut place = self.top;
        for _ in 0..self.levels {
            let mut block = self.block(place)?;
            // The last block that does not begin after the key, or the first.
            while let Some((first, end)) = block.peek() {
                if block.at > 0 && first > key {
                    break;
                }
                block.last = block.at;
                block.at = end;
            }
            block.at = block.last;
            place = self.child(&mut block)?;
            walk.blocks.push(block);
        }
        let mut block = self.block(place)?;
        while let Some((first, end)) = block.peek()
            && first < key
        {
            block.at = end;
        }
        walk.blocks.push(block);
        Ok(walk)
    }

    /// Where the block lies that an index's next row leads to.
    fn child(&self, block: &mut Block) -> Result<Place> {
        let row = block.take().and_then(|(_, place)| unpacked(&place));
        row.ok_or_else(|| damaged(&self.path, block.place.offset, "a row of its index cannot be read"))
    }

    fn block(&self, place: Place) -> Result<Block> {
        let wrong = |what: &str| damaged(&self.path, place.offset, what);
        let end = place.offset.checked_add(place.length.into());
        if place.length > BLOCK_BYTES_MAX
            || (place.length as usize) < CRC_BYTES
            || end.is_none_or(|end| end > self.bytes)
        {
            return Err(wrong("its index leads nowhere"));
        }
        let mut rows = vec![0; place.length as usize];
        read_exact(&*self.file, &mut rows, place.offset).map_err(|error| wrong(&error.to_string()))?;
        let crc = rows.split_off(rows.len() - CRC_BYTES);
        if checksum(place.offset, &rows).to_le_bytes() != *crc {
            return Err(wrong("a block has another checksum"));
        }
        Ok(Block { place, rows, at: 0, last: 0 })
    }
}

/// A block in memory, and how far it was read.
struct Block {
    place: Place,
    rows: Vec<u8>,
    at: usize,
    last: usize,
}

impl Block {
    /// The next row's key, and where the row ends.
    fn peek(&self) -> Option<(&[u8], usize)> {
        let (key, _, end) = self.parts()?;
        Some((key, end))
    }

    fn parts(&self) -> Option<(&[u8], &[u8], usize)> {
        let rest = self.rows.get(self.at..)?;
        let (key, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_first_chunk::<4>()?;
        let (key, value) = (u16::from_le_bytes(*key) as usize, u32::from_le_bytes(*value) as usize);
        let end = self.at + 6 + key + value;
        Some((rest.get(..key)?, rest.get(key..key + value)?, end))
    }

    fn take(&mut self) -> Option<Row> {
        let (key, value, end) = self.parts()?;
        let row = (key.to_vec(), value.to_vec());
        self.at = end;
        Some(row)
    }
}

/// A walk through a file.
pub(super) struct Walk<'a> {
    file: &'a Reader,
    /// One of each level, the topmost first.
    blocks: Vec<Block>,
}

impl Walk<'_> {
    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            let Some(row) = self.blocks.last_mut().and_then(Block::take) else {
                if !self.turn()? {
                    return Ok(None);
                }
                continue;
            };
            return Ok(Some(row));
        }
    }

    /// Goes on to the next block of rows.
    fn turn(&mut self) -> Result<bool> {
        let depth = self.blocks.len();
        loop {
            self.blocks.pop();
            let Some(above) = self.blocks.last_mut() else { return Ok(false) };
            if above.at < above.rows.len() {
                break;
            }
        }
        while self.blocks.len() < depth {
            let above = self.blocks.last_mut().expect("there is one above");
            let place = self.file.child(above)?;
            self.blocks.push(self.file.block(place)?);
        }
        Ok(true)
    }
}

/// What is told of a file that is not as it was written.
fn damaged(path: &str, offset: u64, what: &str) -> EngineError {
    EngineError::Archive(format!("{path} is damaged at offset {offset}: {what}"))
}

fn read_exact(file: &dyn StorageFile, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(bytes, offset)? == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
mod tests {
    use super::{Reader, Writer};
    use crate::storage::{Directory, Storage};
    use std::fs;

    fn key(n: u32) -> Vec<u8> {
        format!("{n:09}").into_bytes()
    }

    fn open(directory: &Directory) -> std::io::Result<super::Result<Reader>> {
        Reader::open(directory.open("rows")?, "rows", &directory.path_of("rows"))
    }

    fn write(directory: &Directory, rows: u32) {
        let mut writer = Writer::new(directory.create("rows").unwrap());
        for n in 0..rows {
            writer.add(&key(2 * n), &vec![n as u8; (n % 50) as usize]).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn another_form_is_refused_with_what_to_do() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        write(&directory, 10);
        for (byte, says) in [(b'0', "has form 0"), (b'2', "run the version that wrote it"), (b'x', "is damaged")] {
            directory.open("rows").unwrap().write_at(&[byte], 15).unwrap();
            let error = open(&directory).unwrap().map(drop).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn every_row_is_found_and_no_other() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        let path = temporary.path().join("rows");
        // Of no level of the index, of one, and of two.
        for rows in [0, 1, 300, 5_000, 700_000] {
            let _ = fs::remove_file(&path);
            write(&directory, rows);
            let reader = open(&directory).unwrap().unwrap();
            assert_eq!(reader.rows(), u64::from(rows));
            for n in (0..rows).step_by(1 + rows as usize / 1_000).chain(rows.checked_sub(1)) {
                assert_eq!(reader.get(&key(2 * n)).unwrap(), Some(vec![n as u8; (n % 50) as usize]), "{n} of {rows}");
                assert_eq!(reader.get(&key(2 * n + 1)).unwrap(), None, "{n} of {rows}");
                let next = reader.from(&key(2 * n + 1)).unwrap().next().unwrap();
                assert_eq!(next.map(|(found, _)| found), (n + 1 < rows).then(|| key(2 * n + 2)), "{n} of {rows}");
            }
            let mut walk = reader.from(b"").unwrap();
            for n in 0..rows {
                assert_eq!(walk.next().unwrap().map(|(found, _)| found), Some(key(2 * n)));
            }
            assert_eq!(walk.next().unwrap(), None);
        }
    }

    #[test]
    fn whatever_byte_is_flipped_is_refused_with_its_place() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path()).unwrap();
        let path = temporary.path().join("rows");
        write(&directory, 1_200);
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(7).chain([sound.len() - 1]) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let told = (|| {
                let reader = open(&directory).unwrap()?;
                let mut walk = reader.from(b"")?;
                while walk.next()?.is_some() {}
                Ok::<_, crate::EngineError>(())
            })();
            let told = told.expect_err("a flipped byte is found").to_string();
            assert!(told.contains(&*path.to_string_lossy()) && told.contains("at offset "), "byte {at}: {told}");
        }
        for length in [0, 10, 20, sound.len() / 2, sound.len() - 1] {
            fs::write(&path, &sound[..length]).unwrap();
            assert!(open(&directory).unwrap().is_err(), "cut to {length} bytes");
        }
    }
}
