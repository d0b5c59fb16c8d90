//! All rows on their way from whoever has the store to whoever makes a backup of
//! them, in one process or between two.
//!
//! ```text
//! the head: 253, length (4), head
//! a row: number of its table (1), length of the key (2), of the value (4), key, value
//! the end: 255, count of rows (8), crc32c of all rows (4)
//! no more, at any time: 254, length (2), why
//! ```
//! Numbers are little endian. Both ends are of one version: the head says which
//! tables there are.
//!
//! **Invariant:** a stream that was cut off anywhere is not taken for whole.

use super::BackupError;
use crate::memory::Embedded;
use crate::store::picture::{Picture, Row};
use crate::store::{Bytes, Position, Table};
use serde::{Deserialize, Serialize};
use std::io::{BufReader, BufWriter, Read, Write};
use std::time::{Duration, Instant};

const FORM: u32 = 2;
const END: u8 = 255;
const NO_MORE: u8 = 254;
const HEAD: u8 = 253;
/// Longer than any head or value.
const LENGTH_MAX: u32 = 16 << 20;
/// Bytes between two looks at whether it may go on, and how fast.
const LOOK_EVERY_BYTES: u64 = 64 << 10;

/// What comes before the rows.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    form: u32,
    /// Tables by their numbers.
    tables: Vec<String>,
    /// Where the store was, in the form that its own row has.
    position: Vec<u8>,
    /// About how many rows follow.
    pub(super) count_about: u64,
    /// Whether the directory began as a copy, which stands in no record.
    pub(super) began_as_copy: bool,
    /// Files that stand beside the rows, by their paths below the directory.
    pub(super) files: Vec<(String, Vec<u8>)>,
}

/// Sends all rows of the engine as they are now: after everything that was
/// acknowledged before. Grabs go on meanwhile. The reader of a stream that could not be
/// ended is told why.
///
/// # Errors
/// [`BackupError`] if the store cannot be read, or nobody takes the rows.
pub fn send(engine: &Embedded, to: impl Write) -> Result<(), BackupError> {
    let mut to = BufWriter::with_capacity(256 << 10, to);
    // Before the rows: how far somebody is must not be further than they are.
    let files = engine.note_files();
    let sent = engine
        .picture()
        .map_err(|error| BackupError::Ended(error.to_string()))
        .and_then(|(picture, copied)| send_rows(&picture, copied, files, &mut to, &|| engine.picture_must_end()));
    if let Err(error) = &sent {
        let why = error.to_string();
        let why = &why.as_bytes()[..why.len().min(usize::from(u16::MAX))];
        // If nobody takes it, it has ended all the same.
        let _ = to.write_all(&[NO_MORE]);
        let _ = to.write_all(&(why.len() as u16).to_le_bytes());
        let _ = to.write_all(why);
    }
    to.flush().map_err(untaken).and(sent)
}

fn untaken(error: std::io::Error) -> BackupError {
    BackupError::Ended(format!("whoever asked for them takes no more ({error})"))
}

/// Sends the rows of `picture` unless there is a reason to end before.
pub(super) fn send_rows(
    picture: &Picture,
    began_as_copy: bool,
    files: Vec<(String, Vec<u8>)>,
    to: &mut impl Write,
    must_end: &dyn Fn() -> Option<String>,
) -> Result<(), BackupError> {
    let tables = Table::ALL.iter().map(|table| table.name().to_owned()).collect();
    let count_about = picture.count_about();
    let position = picture.position().put().to_vec();
    let head = Head { form: FORM, tables, position, count_about, began_as_copy, files };
    let head = postcard::to_allocvec(&head).expect("a head has a postcard form");
    let length = (head.len() as u32).to_le_bytes();
    to.write_all(&[&[HEAD][..], &length, &head].concat()).map_err(untaken)?;
    let (mut count, mut checksum, mut unlooked_bytes) = (0u64, 0, LOOK_EVERY_BYTES);
    for row in picture.rows() {
        if unlooked_bytes >= LOOK_EVERY_BYTES {
            unlooked_bytes = 0;
            if let Some(why) = must_end() {
                return Err(BackupError::Ended(why));
            }
        }
        let (table, key, value) = row?;
        let mut lengths = [table as u8, 0, 0, 0, 0, 0, 0];
        lengths[1..3].copy_from_slice(&(key.len() as u16).to_le_bytes());
        lengths[3..7].copy_from_slice(&(value.len() as u32).to_le_bytes());
        for part in [&lengths[..], &key, &value] {
            checksum = crc32c::crc32c_append(checksum, part);
            to.write_all(part).map_err(untaken)?;
            unlooked_bytes += part.len() as u64;
        }
        count += 1;
    }
    let end = [&[END][..], &count.to_le_bytes(), &checksum.to_le_bytes()].concat();
    to.write_all(&end).map_err(untaken)
}

/// Rows as they come.
pub struct BackupStream<R> {
    from: BufReader<R>,
    pub(super) head: Head,
    /// Where the store was.
    pub(super) position: Position,
    count: u64,
    checksum: u32,
    bytes: u64,
    paced_bytes: u64,
    bytes_per_s_max: u64,
    began: Instant,
    has_ended: bool,
}

impl<R: Read> BackupStream<R> {
    /// What `from` tells, of which at most so many bytes a second are taken: whoever
    /// sends reads no faster, and what is made of them is not written faster.
    ///
    /// # Errors
    /// [`BackupError`] if it is no such stream, or one of another version.
    pub fn read(from: R, bytes_per_s_max: u64) -> Result<BackupStream<R>, BackupError> {
        let mut from = BufReader::with_capacity(256 << 10, from);
        match take(&mut from)? {
            [HEAD] => {}
            [NO_MORE] => return Err(no_more(&mut from)),
            _ => return Err(BackupError::Ended("something else than rows came".to_owned())),
        }
        let length = u32::from_le_bytes(take(&mut from)?);
        let other =
            || BackupError::Ended("whoever sends them is of another version than this one: use that one".to_owned());
        let head: Head = postcard::from_bytes(&take_bytes(&mut from, length)?).map_err(|_| other())?;
        if head.form != FORM || !Table::ALL.iter().map(|table| table.name()).eq(head.tables.iter().map(String::as_str))
        {
            return Err(other());
        }
        let position = Position::read(&head.position).ok_or_else(other)?;
        let began = Instant::now();
        let (count, checksum, bytes, paced_bytes) = (0, 0, 0, 0);
        let has_ended = false;
        Ok(BackupStream {
            from,
            head,
            position,
            count,
            checksum,
            bytes,
            paced_bytes,
            bytes_per_s_max,
            began,
            has_ended,
        })
    }

    fn next_row(&mut self) -> Result<Option<Row>, BackupError> {
        let [number] = take(&mut self.from)?;
        if number == END {
            let (count, checksum) =
                (u64::from_le_bytes(take(&mut self.from)?), u32::from_le_bytes(take(&mut self.from)?));
            if (count, checksum) != (self.count, self.checksum) {
                return Err(BackupError::Ended("they are not those that were sent".to_owned()));
            }
            return Ok(None);
        }
        if number == NO_MORE {
            return Err(no_more(&mut self.from));
        }
        let table = Table::ALL.get(usize::from(number)).copied();
        let table = table.ok_or_else(|| BackupError::Ended(format!("there is no table {number}")))?;
        let lengths: [u8; 6] = take(&mut self.from)?;
        let key_bytes = u16::from_le_bytes([lengths[0], lengths[1]]);
        let value_bytes = u32::from_le_bytes([lengths[2], lengths[3], lengths[4], lengths[5]]);
        let key = take_bytes(&mut self.from, key_bytes.into())?;
        let value = take_bytes(&mut self.from, value_bytes)?;
        for part in [&[number][..], &lengths, &key, &value] {
            self.checksum = crc32c::crc32c_append(self.checksum, part);
            self.bytes += part.len() as u64;
        }
        self.count += 1;
        if self.bytes >= self.paced_bytes + LOOK_EVERY_BYTES {
            self.paced_bytes = self.bytes;
            self.keep_pace();
        }
        Ok(Some((table, Bytes::from(key), Bytes::from(value))))
    }

    fn keep_pace(&self) {
        let due = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_s_max as f64);
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

impl<R: Read> Iterator for BackupStream<R> {
    type Item = Result<Row, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let row = self.next_row().transpose();
        self.has_ended = !matches!(row, Some(Ok(_)));
        row
    }
}

/// Why no more comes.
fn no_more(from: &mut impl Read) -> BackupError {
    let why = take(from).and_then(|length| take_bytes(from, u16::from_le_bytes(length).into()));
    why.map_or_else(|error| error, |why| BackupError::Ended(String::from_utf8_lossy(&why).into_owned()))
}

fn take<const N: usize>(from: &mut impl Read) -> Result<[u8; N], BackupError> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(cut)?;
    Ok(bytes)
}

fn take_bytes(from: &mut impl Read, length: u32) -> Result<Vec<u8>, BackupError> {
    if length > LENGTH_MAX {
        return Err(BackupError::Ended(format!("{length} bytes are longer than any row")));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).map_err(cut)?;
    Ok(bytes)
}

fn cut(error: std::io::Error) -> BackupError {
    BackupError::Ended(format!("the server has ended, or takes no more of this backup ({error})"))
}
