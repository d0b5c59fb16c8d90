//! The segment file: its names, its header, and the marker of a clean shutdown.
//!
//! ```text
//! segment  0 "HONGBAOJ"  8 version  12 crc32c  16 sequence  24 epoch  32 first_lsn  40 chain  44 rewritten (1)
//!          45 zeros to 4096, frames
//! marker   0 "HONGBAOC"  8 version  12 crc32c  16 sequence  24 epoch  32 last_lsn   40 chain  44 zeros  48 end offset
//! ```
//!
//! **Invariant:** a file with a segment's name has a durable header: the header
//! is synced while the file still has a spare's name.
//! **Invariant:** sequences have no gaps, epochs only grow; `first_lsn` and
//! `chain` repeat where the segment before ended, unless one of the two was rewritten since.

use super::frame::{BLOCK_BYTES, u32_at, u64_at};

/// The version this build reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The file that says the journal was closed in order.
pub(crate) const MARKER: &str = "clean-shutdown";
/// Bytes kept only to be given back when the disk is full.
pub(crate) const BALLAST: &str = "ballast";
/// What a segment is called once nothing in it is needed any more but to be read.
const KEPT: &str = "kept-";
/// Files being made; removed at the next start.
pub(crate) const UNFINISHED: &str = ".tmp";

const SEGMENT_MAGIC: &[u8; 8] = b"HONGBAOJ";
const MARKER_MAGIC: &[u8; 8] = b"HONGBAOC";
/// The size of that file.
pub(crate) const MARKER_BYTES: usize = 56;

/// Whose file it is, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Segment(u64),
    Kept(u64),
    Spare(u64),
    Marker,
    Ballast,
    Unfinished,
    Stranger,
}

pub(crate) fn segment_name(sequence: u64) -> String {
    format!("segment-{sequence:016}")
}

pub(crate) fn kept_name(sequence: u64) -> String {
    format!("{KEPT}{sequence:016}")
}

pub(crate) fn spare_name(serial: u64) -> String {
    format!("spare-{serial:016}")
}

pub(crate) fn name_of(file: &str) -> Named {
    // Only names as they are written: `segment-7` could hide `segment-0000000000000007`.
    let number = |prefix: &str| {
        let digits = file.strip_prefix(prefix).filter(|digits| digits.len() == 16)?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    if file.ends_with(UNFINISHED) {
        Named::Unfinished
    } else if file == MARKER {
        Named::Marker
    } else if file == BALLAST {
        Named::Ballast
    } else if let Some(sequence) = number("segment-") {
        Named::Segment(sequence)
    } else if let Some(sequence) = number(KEPT) {
        Named::Kept(sequence)
    } else if let Some(serial) = number("spare-") {
        Named::Spare(serial)
    } else {
        Named::Stranger
    }
}

/// Why a header or marker is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// No magic, too short, or a wrong checksum.
    Damaged(&'static str),
    /// Written by another version of the format.
    Version(u32),
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) first_lsn: u64,
    /// The checksum of the last frame before this segment.
    pub(crate) chain: u32,
    /// Whether records were changed, here or before, after it was written: then the checksums of
    /// neighbours that were not rewritten with it are others.
    pub(crate) is_rewritten: bool,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        block[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        block[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        block[32..40].copy_from_slice(&self.first_lsn.to_le_bytes());
        block[40..44].copy_from_slice(&self.chain.to_le_bytes());
        block[44] = u8::from(self.is_rewritten);
        sign(&mut block, SEGMENT_MAGIC);
        block
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Header, Unreadable> {
        let block = verify(bytes, BLOCK_BYTES, SEGMENT_MAGIC)?;
        Ok(Header {
            sequence: u64_at(block, 16),
            epoch: u64_at(block, 24),
            first_lsn: u64_at(block, 32),
            chain: u32_at(block, 40),
            is_rewritten: block[44] == 1,
        })
    }

    /// Whether a segment's last checksum may be another than the one that the next one repeats.
    pub(crate) fn may_differ(&self, next: &Header) -> bool {
        self.is_rewritten || next.is_rewritten
    }
}

/// What a clean shutdown promises about the end of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) sequence: u64,
    pub(crate) epoch: u64,
    pub(crate) last_lsn: u64,
    /// The checksum of the closing frame.
    pub(crate) chain: u32,
    /// Where the closing frame ends.
    pub(crate) end: u64,
}

impl Marker {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; MARKER_BYTES];
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.last_lsn.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.chain.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.end.to_le_bytes());
        sign(&mut bytes, MARKER_MAGIC);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Marker, Unreadable> {
        if bytes.len() > MARKER_BYTES {
            return Err(Unreadable::Damaged("it is too long"));
        }
        let bytes = verify(bytes, MARKER_BYTES, MARKER_MAGIC)?;
        Ok(Marker {
            sequence: u64_at(bytes, 16),
            epoch: u64_at(bytes, 24),
            last_lsn: u64_at(bytes, 32),
            chain: u32_at(bytes, 40),
            end: u64_at(bytes, 48),
        })
    }
}

fn sign(bytes: &mut [u8], magic: &[u8; 8]) {
    bytes[0..8].copy_from_slice(magic);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let checksum = checksum_of(bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
}

/// The version is looked at before the checksum: another format may compute it
/// in another way, and deserves the clearer message.
fn verify<'a>(bytes: &'a [u8], len: usize, magic: &[u8; 8]) -> Result<&'a [u8], Unreadable> {
    let bytes = bytes.get(..len).ok_or(Unreadable::Damaged("it is too short"))?;
    if bytes[0..8] != *magic {
        return Err(Unreadable::Damaged("it does not start with the magic bytes"));
    }
    let version = u32_at(bytes, 8);
    if version != FORMAT_VERSION {
        return Err(Unreadable::Version(version));
    }
    if u32_at(bytes, 12) != checksum_of(bytes) {
        return Err(Unreadable::Damaged("its checksum is wrong"));
    }
    Ok(bytes)
}

/// Of everything but the checksum itself.
fn checksum_of(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_markers_are_read_back_and_refuse_every_flipped_byte() {
        let header = Header { sequence: 3, epoch: 9, first_lsn: 77, chain: 0xabcd, is_rewritten: true };
        let marker = Marker { sequence: 3, epoch: 9, last_lsn: 99, chain: 0xabcd, end: 8192 };
        let (mut a, mut b) = (header.encode(), marker.encode());
        assert_eq!(Header::decode(&a), Ok(header));
        assert_eq!(Marker::decode(&b), Ok(marker));
        for at in 0..a.len() {
            a[at] ^= 1;
            assert!(Header::decode(&a).is_err(), "header byte {at}");
            a[at] ^= 1;
        }
        for at in 0..b.len() {
            b[at] ^= 1;
            assert!(Marker::decode(&b).is_err(), "marker byte {at}");
            b[at] ^= 1;
        }
    }

    #[test]
    fn names_tell_what_a_file_is() {
        let rows = [
            (segment_name(12), Named::Segment(12)),
            (kept_name(11), Named::Kept(11)),
            (spare_name(4), Named::Spare(4)),
            (format!("{}{UNFINISHED}", spare_name(4)), Named::Unfinished),
            (MARKER.to_owned(), Named::Marker),
            (BALLAST.to_owned(), Named::Ballast),
            ("lost+found".to_owned(), Named::Stranger),
            ("segment-7".to_owned(), Named::Stranger),
            ("segment-+000000000000007".to_owned(), Named::Stranger),
        ];
        for (file, named) in rows {
            assert_eq!(name_of(&file), named, "{file}");
        }
    }
}
