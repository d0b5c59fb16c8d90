//! The frame: one batch of records as it lies in a segment.
//!
//! ```text
//! 0 magic  4 crc32c  8 epoch  16 first_lsn  24 count  28 payload_bytes  32 previous  36 kind  40 payload, zeros
//! ```
//! Numbers are little endian. A record is a length (one byte below 128, else
//! three of LEB128) and its bytes. `previous` is the checksum of the frame before.
//!
//! **Invariant:** a frame starts and ends on a block boundary, so writing one
//! never touches a block that holds another, acknowledged one.
//! **Invariant:** the checksum covers everything but the magic, padding included:
//! no flipped byte of a frame goes unseen.

/// Frames are aligned to this, and it is the size of the segment header.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Bytes of a frame before its payload.
pub(crate) const HEADER_BYTES: usize = 40;

const MAGIC: [u8; 4] = *b"HBFR";
const CHECKED_FROM: usize = 8;
/// Lengths from here on take [`LONG_BYTES`].
const LONG_FROM: usize = 0x80;
const LONG_BYTES: usize = 3;
/// The most bytes three digits of LEB128 can say.
pub(crate) const RECORD_BYTES_LIMIT: usize = 1 << 21;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records.
    Batch,
    /// Nothing: the journal was closed in order.
    Closing,
}

impl Kind {
    const fn code(self) -> u32 {
        match self {
            Kind::Batch => 1,
            Kind::Closing => 2,
        }
    }
}

/// Where a frame stands in the journal: what its header must repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) first_lsn: u64,
    pub(crate) previous: u32,
}

/// A frame whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) position: Position,
    pub(crate) kind: Kind,
    pub(crate) count: u32,
    pub(crate) payload: &'a [u8],
    pub(crate) checksum: u32,
    /// Bytes with header and padding.
    pub(crate) frame_bytes: usize,
}

/// What lies where the next frame would.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// The next frame.
    Next(Frame<'a>),
    /// Something that was meant to be the next frame and is damaged.
    Damaged,
    /// Nothing of this life of the segment.
    Nothing,
}

/// The bytes a frame of this many takes on disk.
pub(crate) const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// Appends zeros up to a block boundary.
pub(crate) fn pad(buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&[0; BLOCK_BYTES][..padded(buffer.len()) - buffer.len()]);
}

/// Fills in the header of `frame` (header, payload, zeros up to a block
/// boundary), and returns its checksum.
pub(crate) fn seal(frame: &mut [u8], payload_bytes: usize, position: Position, count: u32, kind: Kind) -> u32 {
    assert_eq!(frame.len(), padded(HEADER_BYTES + payload_bytes), "a frame ends on a block boundary");
    frame[0..4].copy_from_slice(&MAGIC);
    frame[8..16].copy_from_slice(&position.epoch.to_le_bytes());
    frame[16..24].copy_from_slice(&position.first_lsn.to_le_bytes());
    frame[24..28].copy_from_slice(&count.to_le_bytes());
    frame[28..32].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    frame[32..36].copy_from_slice(&position.previous.to_le_bytes());
    frame[36..40].copy_from_slice(&kind.code().to_le_bytes());
    let checksum = crc32c::crc32c(&frame[CHECKED_FROM..]);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    checksum
}

/// Reads the frame at the start of `bytes`, whatever its position.
pub(crate) fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    if bytes.len() < BLOCK_BYTES || bytes[0..4] != MAGIC {
        return None;
    }
    let payload_bytes = u32_at(bytes, 28) as usize;
    let frame_bytes = padded(HEADER_BYTES + payload_bytes);
    if frame_bytes > bytes.len() {
        return None;
    }
    let kind = match u32_at(bytes, 36) {
        1 => Kind::Batch,
        2 => Kind::Closing,
        _ => return None,
    };
    let checksum = u32_at(bytes, 4);
    if crc32c::crc32c(&bytes[CHECKED_FROM..frame_bytes]) != checksum {
        return None;
    }
    Some(Frame {
        position: claimed(bytes),
        kind,
        count: u32_at(bytes, 24),
        payload: &bytes[HEADER_BYTES..HEADER_BYTES + payload_bytes],
        checksum,
        frame_bytes,
    })
}

/// Looks for the frame that continues the journal at `expected`.
pub(crate) fn find<'a>(bytes: &'a [u8], expected: &Position) -> Found<'a> {
    if let Some(frame) = decode(bytes)
        && frame.position == *expected
    {
        return Found::Next(frame);
    }
    if bytes.len() < BLOCK_BYTES {
        return Found::Nothing;
    }
    // Old bytes behind the tail agree with at most one or two of these; a frame
    // of ours with a flipped byte agrees with at least three.
    let claims = claimed(bytes);
    let agreements = [
        bytes[0..4] == MAGIC,
        claims.epoch == expected.epoch,
        claims.first_lsn == expected.first_lsn,
        claims.previous == expected.previous,
    ];
    if agreements.into_iter().filter(|&agrees| agrees).count() >= 3 { Found::Damaged } else { Found::Nothing }
}

/// The offset of a sound frame of `epoch` (or, with none, of any) in `bytes` at
/// or behind `from`.
pub(crate) fn find_later(bytes: &[u8], from: usize, epoch: Option<u64>) -> Option<usize> {
    (from..bytes.len()).step_by(BLOCK_BYTES).find(|&offset| {
        let rest = &bytes[offset..];
        // The epoch first: old frames behind the tail need not be checksummed.
        let ours = rest.len() >= BLOCK_BYTES && epoch.is_none_or(|epoch| claimed(rest).epoch == epoch);
        ours && decode(rest).is_some()
    })
}

/// Appends a record that `encode` pushes. Nothing is appended if `encode` panics.
///
/// # Panics
/// If the record is longer than `bytes_max`.
#[inline]
pub(crate) fn append_record(buffer: &mut Vec<u8>, bytes_max: usize, encode: impl FnOnce(&mut Vec<u8>)) {
    /// Takes a half-pushed record back while unwinding.
    struct Undo<'a>(&'a mut Vec<u8>, usize);
    impl Drop for Undo<'_> {
        fn drop(&mut self) {
            self.0.truncate(self.1);
        }
    }
    let start = buffer.len();
    let undo = Undo(buffer, start);
    undo.0.push(0);
    encode(undo.0);
    let bytes = undo.0.len().checked_sub(start + 1).expect("encoding a record only appends");
    assert!(bytes <= bytes_max, "a record of {bytes} bytes is longer than the {bytes_max} admission reserves");
    if bytes < LONG_FROM {
        undo.0[start] = bytes as u8;
    } else {
        lengthen(undo.0, start, bytes);
    }
    let _ = std::mem::ManuallyDrop::new(undo);
}

#[cold]
fn lengthen(buffer: &mut Vec<u8>, start: usize, bytes: usize) {
    buffer.extend_from_slice(&[0; LONG_BYTES - 1]);
    buffer.copy_within(start + 1..start + 1 + bytes, start + LONG_BYTES);
    buffer[start] = (bytes & 0x7f) as u8 | 0x80;
    buffer[start + 1] = (bytes >> 7 & 0x7f) as u8 | 0x80;
    buffer[start + 2] = (bytes >> 14) as u8;
}

/// The records of a payload, in order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn of(payload: &'a [u8]) -> Records<'a> {
        Records { rest: payload }
    }

    /// Bytes of the records that are still to come.
    pub(crate) fn left_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Whether the payload is exactly `count` well-formed records.
    pub(crate) fn are_sound(&self, count: u32) -> bool {
        let mut records = self.clone();
        records.by_ref().count() == count as usize && records.rest.is_empty()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&first, behind) = self.rest.split_first()?;
        let (bytes, behind) = if usize::from(first) < LONG_FROM {
            (usize::from(first), behind)
        } else {
            let (more, behind) = behind.split_at_checked(LONG_BYTES - 1)?;
            (usize::from(first & 0x7f) | usize::from(more[0] & 0x7f) << 7 | usize::from(more[1]) << 14, behind)
        };
        let (record, behind) = behind.split_at_checked(bytes)?;
        self.rest = behind;
        Some(record)
    }
}

/// The position a header claims, sound or not.
pub(crate) fn claimed(bytes: &[u8]) -> Position {
    Position { epoch: u64_at(bytes, 8), first_lsn: u64_at(bytes, 16), previous: u32_at(bytes, 32) }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Position = Position { epoch: 7, first_lsn: 100, previous: 0xfeed };

    fn sample() -> Vec<u8> {
        let mut frame = vec![0; HEADER_BYTES];
        for bytes in [0, 1, 127, 128, 5_000] {
            append_record(&mut frame, 10_000, |buffer| buffer.resize(buffer.len() + bytes, bytes as u8));
        }
        let payload_bytes = frame.len() - HEADER_BYTES;
        pad(&mut frame);
        seal(&mut frame, payload_bytes, AT, 5, Kind::Batch);
        frame
    }

    #[test]
    fn records_are_read_back_with_their_lengths() {
        let frame = sample();
        let Found::Next(found) = find(&frame, &AT) else { panic!("the frame is sound") };
        assert!(Records::of(found.payload).are_sound(5));
        let lengths: Vec<usize> = Records::of(found.payload).map(<[u8]>::len).collect();
        assert_eq!(lengths, [0, 1, 127, 128, 5_000]);
    }

    #[test]
    fn every_flipped_byte_is_seen_and_reported_as_damage() {
        let mut frame = sample();
        for at in 0..frame.len() {
            frame[at] ^= 0x10;
            assert!(matches!(find(&frame, &AT), Found::Damaged), "byte {at}");
            frame[at] ^= 0x10;
        }
    }

    #[test]
    fn a_frame_of_another_life_is_nothing() {
        let old = Position { epoch: 6, first_lsn: 12, previous: 3 };
        assert!(matches!(find(&sample(), &old), Found::Nothing));
    }

    #[test]
    fn a_panicking_encoder_leaves_no_bytes() {
        let mut buffer = b"before".to_vec();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            append_record(&mut buffer, 10, |buffer| {
                buffer.push(1);
                panic!("half way");
            });
        }));
        assert!(panicked.is_err());
        assert_eq!(buffer, b"before");
    }
}
