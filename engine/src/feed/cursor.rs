//! Cursors and ids of events: opaque, and nobody but the deployment can make them.
//!
//! A position in a feed tells how much was decided, which is nobody's business;
//! so it is sealed. The seal is deterministic: the same place has one cursor.

use crate::types::{EventId, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a seal's tag.
const TAG_BYTES: usize = 8;
/// Bytes that one hash covers up.
const BLOCK_BYTES: usize = 32;

/// Seals and opens the cursors of one deployment, by its secret.
#[derive(Clone)]
pub(crate) struct Seal(Hmac<Sha256>);

impl Seal {
    pub(crate) fn new(secret: &[u8; 32]) -> Seal {
        let keyed = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
        let key = keyed(secret).chain_update(b"events").finalize().into_bytes();
        Seal(keyed(&key))
    }

    fn hash(&self, domain: u8, parts: &[&[u8]]) -> [u8; BLOCK_BYTES] {
        let mut hash = self.0.clone();
        hash.update(&[domain]);
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize().into_bytes().into()
    }

    /// `position` of a feed of this `kind`, sealed.
    pub(crate) fn seal(&self, kind: u8, position: &[u8]) -> Vec<u8> {
        let tag = self.hash(1, &[&[kind], position]);
        let mut sealed = tag[..TAG_BYTES].to_vec();
        sealed.extend_from_slice(position);
        self.cover(&mut sealed);
        sealed
    }

    /// What [`Seal::seal`] sealed; nothing for what it did not seal.
    pub(crate) fn open(&self, kind: u8, sealed: &[u8]) -> Option<Vec<u8>> {
        let mut opened = sealed.to_vec();
        if opened.len() < TAG_BYTES {
            return None;
        }
        self.cover(&mut opened);
        let (tag, position) = opened.split_at(TAG_BYTES);
        (self.hash(1, &[&[kind], position])[..TAG_BYTES] == *tag).then(|| position.to_vec())
    }

    /// Covers up what stands behind the tag, or uncovers it.
    fn cover(&self, sealed: &mut [u8]) {
        let (tag, position) = sealed.split_at_mut(TAG_BYTES);
        for (number, block) in position.chunks_mut(BLOCK_BYTES).enumerate() {
            let cover = self.hash(2, &[tag, &(number as u32).to_le_bytes()]);
            block.iter_mut().zip(cover).for_each(|(byte, cover)| *byte ^= cover);
        }
    }

    /// The id of what happened at `place` and at that time: after a restore
    /// another thing may stand at the same place.
    pub(crate) fn id(&self, place: &[&[u8]], at: Timestamp) -> EventId {
        let mut parts = place.to_vec();
        let at = at.ms().to_le_bytes();
        parts.push(&at);
        let hash = self.hash(3, &parts);
        EventId::from_bytes(*hash.first_chunk().expect("a hash is longer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_opens_and_only_as_its_kind() {
        let (seal, other) = (Seal::new(&[1; 32]), Seal::new(&[2; 32]));
        for bytes in [0, 1, 16, 32, 33, 5000] {
            let position: Vec<u8> = (0..bytes).map(|i| i as u8).collect();
            let sealed = seal.seal(1, &position);
            assert_eq!(seal.open(1, &sealed), Some(position), "{bytes}");
            assert_eq!(seal.seal(1, &seal.open(1, &sealed).unwrap()), sealed, "a place has one cursor");
            assert_eq!((seal.open(2, &sealed), other.open(1, &sealed)), (None, None));
            for at in 0..sealed.len().min(48) {
                let mut forged = sealed.clone();
                forged[at] ^= 1;
                assert_eq!(seal.open(1, &forged), None, "{bytes}: byte {at}");
            }
        }
        assert_eq!(seal.open(1, &[7; 7]), None);
    }
}
