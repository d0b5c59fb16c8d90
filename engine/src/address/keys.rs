//! Address keys, and what they wrap and open where there is no file of slots: in front of Redis,
//! where each wrapped data key lies under a key of its own.
//!
//! **Invariant:** what is wrapped here opens in no slot of a file, and the other way round.

use super::seal::{self, AddressKey, Secret, Wrapped, id_text};
use super::{Address, AddressKeep, AddressOptions, Of};
use crate::entropy::Entropy;
use std::sync::Arc;

/// Stands for the number of a slot where none has a number.
const NO_SLOT: u32 = u32::MAX;

/// By which of its ids an address key is known in what it wrapped.
pub(crate) type KeyId = [u8; 8];

/// An address, sealed with a data key of its own, and that wrapped.
pub(crate) struct SealedAddress {
    pub(crate) text: Vec<u8>,
    pub(crate) key: KeyId,
    pub(crate) wrapped: Vec<u8>,
}

/// What came of unwrapping a data key.
pub(crate) enum Unwrapped<T> {
    Is(T),
    /// It was wrapped with an address key that is not here.
    OtherKey,
    /// It was not wrapped so, or not for that.
    Damaged,
}

/// The address key, and those that were before it.
pub(crate) struct AddressKeys {
    key: AddressKey,
    older: Vec<AddressKey>,
    pub(crate) keep: AddressKeep,
    entropy: Arc<dyn Entropy>,
}

impl AddressKeys {
    pub(crate) fn new(options: AddressOptions, entropy: Arc<dyn Entropy>) -> AddressKeys {
        let AddressOptions { key, older, keep, .. } = options;
        AddressKeys { key, older, keep, entropy }
    }

    /// What new data keys are wrapped with.
    pub(crate) fn id(&self) -> KeyId {
        self.key.id_bytes()
    }

    /// Whether what is wrapped with it can be opened.
    pub(crate) fn has(&self, id: &KeyId) -> bool {
        self.known(id).is_some()
    }

    fn known(&self, id: &KeyId) -> Option<&AddressKey> {
        std::iter::once(&self.key).chain(&self.older).find(|key| key.id_bytes() == *id)
    }

    pub(crate) fn seal(&self, address: &Address, of: Of) -> SealedAddress {
        let (text, key) = seal::seal(address, of, &*self.entropy);
        SealedAddress { text, key: self.id(), wrapped: self.wrap(&key, of) }
    }

    pub(crate) fn open(&self, text: &[u8], (key, wrapped): (&KeyId, &[u8]), of: Of) -> Unwrapped<Address> {
        match self.unwrap(key, wrapped, of) {
            Unwrapped::Is(key) => seal::open(text, of, &key).map_or(Unwrapped::Damaged, Unwrapped::Is),
            Unwrapped::OtherKey => Unwrapped::OtherKey,
            Unwrapped::Damaged => Unwrapped::Damaged,
        }
    }

    /// The same data key, wrapped with the address key that counts now.
    pub(crate) fn rewrap(&self, key: &KeyId, wrapped: &[u8], of: Of) -> Unwrapped<Vec<u8>> {
        match self.unwrap(key, wrapped, of) {
            Unwrapped::Is(key) => Unwrapped::Is(self.wrap(&key, of)),
            Unwrapped::OtherKey => Unwrapped::OtherKey,
            Unwrapped::Damaged => Unwrapped::Damaged,
        }
    }

    fn wrap(&self, key: &Secret, of: Of) -> Vec<u8> {
        let Wrapped { nonce, bytes, .. } = self.key.wrap(key, of, NO_SLOT, &*self.entropy);
        [&nonce[..], &bytes].concat()
    }

    fn unwrap(&self, id: &KeyId, wrapped: &[u8], of: Of) -> Unwrapped<Secret> {
        let Some(key) = self.known(id) else { return Unwrapped::OtherKey };
        let parts = wrapped.split_first_chunk().and_then(|(nonce, bytes)| Some((*nonce, bytes.try_into().ok()?)));
        let Some((nonce, bytes)) = parts else { return Unwrapped::Damaged };
        let wrapped = Wrapped { key_id: *id, nonce, bytes };
        key.unwrap(&wrapped, of, NO_SLOT).map_or(Unwrapped::Damaged, Unwrapped::Is)
    }
}

/// What a key is called in messages.
pub(crate) fn name_of(key: &KeyId) -> String {
    id_text(key)
}
