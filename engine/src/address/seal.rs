//! Keys, and what is sealed and wrapped with them: AES-256-GCM of the crate ring.
//!
//! **Invariant:** a data key seals one text, so its nonce is fixed; the address key wraps many
//! data keys, each with a random nonce.

use super::{Address, Of};
use crate::entropy::Entropy;
use crate::types::hex;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// A data key, wrapped.
pub(super) const WRAPPED_BYTES: usize = 32 + TAG_BYTES;
/// What a padded text may be long; the last one is longer than any address.
const SIZES: [usize; 4] = [256, 1024, 3072, 6144];

/// Bytes that are overwritten when they are not needed any more.
pub(super) struct Secret(pub(super) [u8; 32]);

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Read afterwards, as far as the compiler knows, so that it is written.
        std::hint::black_box(&self.0);
    }
}

/// What data keys are wrapped with: 256 bits that the operator keeps. Its `Debug` tells its id.
#[derive(Clone)]
pub struct AddressKey {
    secret: Arc<Secret>,
    id: [u8; 8],
}

impl fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressKey({})", self.id())
    }
}

/// Why a text is no address key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address key is 64 hexadecimal digits; make one with `openssl rand -hex 32`")]
pub struct AddressKeyError;

impl std::str::FromStr for AddressKey {
    type Err = AddressKeyError;

    fn from_str(text: &str) -> Result<AddressKey, AddressKeyError> {
        let text = text.trim().as_bytes();
        if text.len() != 64 {
            return Err(AddressKeyError);
        }
        let mut secret = Secret([0; 32]);
        for (byte, digits) in secret.0.iter_mut().zip(text.chunks(2)) {
            let digit = |at: usize| char::from(digits[at]).to_digit(16).ok_or(AddressKeyError);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Ok(AddressKey::new(secret))
    }
}

impl AddressKey {
    /// The key of these bits.
    pub fn from_bytes(bytes: [u8; 32]) -> AddressKey {
        AddressKey::new(Secret(bytes))
    }

    fn new(secret: Secret) -> AddressKey {
        let digest = Sha256::new_with_prefix(b"hongbao address key").chain_update(secret.0).finalize();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        AddressKey { secret: Arc::new(secret), id }
    }

    /// What it is called, in slots and messages: nothing of it can be told from that.
    pub fn id(&self) -> String {
        id_text(&self.id)
    }

    pub(super) fn id_bytes(&self) -> [u8; 8] {
        self.id
    }

    pub(super) fn wrap(&self, key: &Secret, of: Of, slot: u32, entropy: &dyn Entropy) -> Wrapped {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce);
        let mut bytes = [0; WRAPPED_BYTES];
        bytes[..32].copy_from_slice(&key.0);
        let sealed = cipher(&self.secret).seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(authenticated(b"hongbao data key 1", of, slot)),
            &mut bytes[..32],
        );
        bytes[32..].copy_from_slice(sealed.expect("a key is short enough to be wrapped").as_ref());
        Wrapped { key_id: self.id, nonce, bytes }
    }

    /// The data key, if this is what it was wrapped with, of that and there.
    pub(super) fn unwrap(&self, wrapped: &Wrapped, of: Of, slot: u32) -> Option<Secret> {
        let mut bytes = wrapped.bytes;
        let opened = cipher(&self.secret).open_in_place(
            Nonce::assume_unique_for_key(wrapped.nonce),
            Aad::from(authenticated(b"hongbao data key 1", of, slot)),
            &mut bytes,
        );
        let key = opened.ok().map(|key| Secret(key.try_into().expect("a data key has 32 bytes")));
        bytes.fill(0);
        std::hint::black_box(&bytes);
        key
    }
}

pub(super) fn id_text(id: &[u8; 8]) -> String {
    hex(id)
}

/// A wrapped data key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wrapped {
    pub(super) key_id: [u8; 8],
    pub(super) nonce: [u8; NONCE_BYTES],
    pub(super) bytes: [u8; WRAPPED_BYTES],
}

fn cipher(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.0).expect("the key is as long as the cipher's"))
}

/// Names what it is for, so that nothing can be put in another's place.
fn authenticated(what: &[u8], of: Of, slot: u32) -> Vec<u8> {
    [what, of.gift.bytes(), &of.version.to_le_bytes(), &slot.to_le_bytes()].concat()
}

/// The sealed text, and the data key that opens it.
pub(super) fn seal(address: &Address, of: Of, entropy: &dyn Entropy) -> (Vec<u8>, Secret) {
    let mut text = postcard::to_extend(address, Vec::with_capacity(SIZES[SIZES.len() - 1] + TAG_BYTES))
        .expect("every address has a postcard form");
    let size = SIZES.into_iter().find(|size| text.len() <= *size).expect("an address within its bounds fits");
    text.resize(size, 0);
    let mut key = Secret([0; 32]);
    entropy.fill(&mut key.0);
    let aad = Aad::from(authenticated(b"hongbao address 1", of, 0));
    let nonce = Nonce::assume_unique_for_key([0; NONCE_BYTES]);
    cipher(&key).seal_in_place_append_tag(nonce, aad, &mut text).expect("an address is short enough to be sealed");
    (text, key)
}

/// The address, if this key opens it and it is of that.
pub(super) fn open(sealed: &[u8], of: Of, key: &Secret) -> Option<Address> {
    let mut bytes = sealed.to_vec();
    let aad = Aad::from(authenticated(b"hongbao address 1", of, 0));
    let text = cipher(key).open_in_place(Nonce::assume_unique_for_key([0; NONCE_BYTES]), aad, &mut bytes).ok()?;
    let address = postcard::take_from_bytes(text).ok().map(|(address, _)| address);
    bytes.fill(0);
    std::hint::black_box(&bytes);
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::types::GiftId;

    fn address(line: &str) -> Address {
        Address {
            name: "Bob".to_owned(),
            phone: "138".to_owned(),
            lines: vec![line.to_owned()],
            city: "Hangzhou".to_owned(),
            postcode: String::new(),
        }
    }

    #[test]
    fn only_its_own_key_gift_version_and_slot_open_it() {
        let of = |gift, version| Of { gift: GiftId::from_bytes([gift; 16]), version };
        let [kek, other] = [1, 2].map(|byte| AddressKey::from_bytes([byte; 32]));
        let (sealed, key) = seal(&address("7 West Lake"), of(1, 1), &SystemEntropy);
        let wrapped = kek.wrap(&key, of(1, 1), 9, &SystemEntropy);
        let opened = |kek: &AddressKey, of, slot| kek.unwrap(&wrapped, of, slot);
        assert!(
            opened(&kek, of(1, 1), 9).is_some_and(|key| open(&sealed, of(1, 1), &key) == Some(address("7 West Lake")))
        );
        for (what, key) in [
            ("another address key", opened(&other, of(1, 1), 9)),
            ("another gift", opened(&kek, of(2, 1), 9)),
            ("another version", opened(&kek, of(1, 2), 9)),
            ("another slot", opened(&kek, of(1, 1), 8)),
        ] {
            assert!(key.is_none(), "{what}");
        }
        assert_eq!(open(&sealed, of(1, 2), &key), None);
        assert_eq!(open(&sealed, of(1, 1), &Secret([0; 32])), None);
    }

    #[test]
    fn lengths_tell_little_and_the_longest_fits() {
        let of = Of { gift: GiftId::from_bytes([1; 16]), version: 1 };
        let bytes = |address: &Address| seal(address, of, &SystemEntropy).0.len();
        assert_eq!(bytes(&address("x")), bytes(&address(&"x".repeat(150))));
        let longest = Address {
            name: "寄".repeat(100),
            phone: "𝟙".repeat(40),
            lines: vec!["𝕏".repeat(200); 5],
            city: "𝕏".repeat(100),
            postcode: "𝕏".repeat(20),
        };
        assert!(longest.check().is_ok());
        assert_eq!(bytes(&longest), 6144 + TAG_BYTES);
    }

    #[test]
    fn nothing_of_keys_and_addresses_is_in_what_debug_tells() {
        assert_eq!(format!("{:?}", address("West Lake")), "Address");
        let key: AddressKey = "0123456789abcdef".repeat(4).parse().unwrap();
        assert_eq!(format!("{key:?}"), format!("AddressKey({})", key.id()));
        for text in ["", "01", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(text.parse::<AddressKey>().err(), Some(AddressKeyError), "{text}");
        }
    }
}
