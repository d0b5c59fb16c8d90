//! Buckets: a deployment's keys lie in a fixed number of them, and each bucket
//! in one slot, so that a script finds all that it decides about in one place.
//!
//! **Invariant:** what lies in which bucket never changes while a deployment
//! lives: neither their number, nor the hash, nor the tag.

use sha2::{Digest, Sha256};

/// One bucket; every key in it carries the tag `{b<number>}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Bucket(u16);

/// Slots of a Redis Cluster.
pub(crate) const SLOTS: u16 = 16_384;

impl Bucket {
    /// The bucket of this number.
    pub(crate) const fn new(number: u16) -> Bucket {
        Bucket(number)
    }

    /// The bucket in which the thing of this name lies, of `buckets`.
    pub(crate) fn of(name: &[u8], buckets: u16) -> Bucket {
        Bucket(u16::from_le_bytes(Bucket::begins(name)) % buckets)
    }

    /// What an id begins with that lies in the bucket of a name, however many buckets
    /// there are: so it is the same after a copy into another number of them.
    pub(crate) fn begins(name: &[u8]) -> [u8; 2] {
        let digest = Sha256::digest(name);
        [digest[7], digest[6]]
    }

    /// Its number.
    pub(crate) const fn number(self) -> u16 {
        self.0
    }

    /// The Cluster's slot of all its keys.
    pub(crate) fn slot(self) -> u16 {
        let tag = format!("b{}", self.0);
        crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % SLOTS
    }

    /// The key `<prefix>:{b<number>}:<rest>`.
    pub(crate) fn key(self, prefix: &str, rest: impl AsRef<[u8]>) -> Vec<u8> {
        let rest = rest.as_ref();
        let mut key = Vec::with_capacity(prefix.len() + rest.len() + 10);
        key.extend_from_slice(prefix.as_bytes());
        key.extend_from_slice(format!(":{{b{}}}:", self.0).as_bytes());
        key.extend_from_slice(rest);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;

    #[test]
    fn buckets_and_slots_stay_where_they_are() {
        // `redis-cli CLUSTER KEYSLOT hb:{b17}:w`
        for (number, slot) in [(0, 6939), (17, 1307), (1023, 10_080)] {
            assert_eq!(Bucket::new(number).slot(), slot, "b{number}");
        }
        assert_eq!(Bucket::of(b"alice", 64), Bucket::new(47));
        assert_eq!(Bucket::of(b"bob", 64), Bucket::new(26));
        assert_eq!(Bucket::new(17).key("hb", "w"), b"hb:{b17}:w");
        assert_eq!(Bucket::of(b"alice", 5), Bucket::new(u16::from_le_bytes(Bucket::begins(b"alice")) % 5));
    }
}
