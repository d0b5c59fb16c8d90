//! Codes: what the units of an item of the kind `code` are, each handed out once.
//!
//! Codes stand in the order in which they were added, and are handed out in that order: the next
//! one is the one behind all that were sold. So how many units are sold says which codes are gone,
//! and memory keeps none of them; their texts are in the store.
//!
//! **Invariant:** a code is in one place of one item, and is handed to one order or gift, in the
//! record that pays for it.

use crate::command::Refusal;
use crate::types::{GiftId, ItemId, OrderId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// How many codes are added at a time.
pub const CODES_MAX: usize = 1000;
/// The longest code, in characters.
pub const CODE_CHARS_MAX: usize = 200;
/// How many codes an order is handed, at most: whoever asks for it is told them all.
pub const CODES_OF_ORDER_MAX: u32 = 1000;

/// A code: whoever knows it has what it stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(String);

impl Code {
    /// A code of this text.
    pub fn new(text: impl Into<String>) -> Code {
        Code(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Tells nothing: who has it has what it stands for.
impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code")
    }
}

/// By what an item knows a code that it has had: a digest of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CodeDigest(pub(crate) [u8; 16]);

impl CodeDigest {
    pub(crate) fn of(item: ItemId, code: &Code) -> CodeDigest {
        let digest = Sha256::new().chain_update(item.bytes()).chain_update(code.0.as_bytes()).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        CodeDigest(bytes)
    }

    pub(crate) fn of_all(item: ItemId, codes: &[Code]) -> Vec<CodeDigest> {
        codes.iter().map(|code| CodeDigest::of(item, code)).collect()
    }
}

/// To what codes are handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HandedTo {
    /// An order, with its payment.
    Order(OrderId),
    /// A gift, as it is accepted.
    Gift(GiftId),
}

impl HandedTo {
    /// The bytes of its id.
    pub(crate) const fn bytes(&self) -> &[u8; 16] {
        match self {
            HandedTo::Order(id) => id.bytes(),
            HandedTo::Gift(id) => id.bytes(),
        }
    }
}

impl std::fmt::Display for HandedTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HandedTo::Order(id) => id.fmt(f),
            HandedTo::Gift(id) => id.fmt(f),
        }
    }
}

/// Checks what can be told from codes alone.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the first that cannot be.
pub(crate) fn check(codes: &[Code]) -> Result<(), Refusal> {
    if !(1..=CODES_MAX).contains(&codes.len()) {
        return Err(Refusal::invalid("codes", format!("must hold 1 to {CODES_MAX} codes")));
    }
    let mut met = HashMap::new();
    for (place, code) in codes.iter().enumerate() {
        let refuse = |message| Err(Refusal::invalid(&format!("codes[{place}]"), message));
        if !(1..=CODE_CHARS_MAX).contains(&code.0.chars().count()) {
            return refuse(format!("must be 1 to {CODE_CHARS_MAX} characters long"));
        }
        if let Some(before) = met.insert(code, place) {
            return refuse(format!("is codes[{before}] again; nothing was added"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_codes_is_told_by_its_place_and_never_by_the_code() {
        let of = |texts: &[&str]| texts.iter().map(|text| Code::new(*text)).collect::<Vec<_>>();
        let long = "x".repeat(CODE_CHARS_MAX + 1);
        for (codes, field) in [
            (of(&[]), "codes"),
            (of(&["one", ""]), "codes[1]"),
            (of(&["one", "two", &long]), "codes[2]"),
            (of(&["one", "two", "one"]), "codes[2]"),
            (vec![Code::new("x"); CODES_MAX + 1], "codes"),
        ] {
            let Err(Refusal::Invalid { field: told, message }) = check(&codes) else { panic!("{codes:?}") };
            assert_eq!(told, field);
            assert!(!message.contains("one"), "{message}");
        }
        assert_eq!(check(&of(&["one", &"福".repeat(CODE_CHARS_MAX)])), Ok(()));
        assert_eq!(format!("{:?}", of(&["secret"])), "[Code]");
    }

    #[test]
    fn the_same_code_of_another_item_is_another() {
        let [one, other] = [1, 2].map(|byte| ItemId::from_bytes([byte; 16]));
        let code = Code::new("one");
        assert_eq!(CodeDigest::of(one, &code), CodeDigest::of(one, &code.clone()));
        assert_ne!(CodeDigest::of(one, &code), CodeDigest::of(other, &code));
    }
}
