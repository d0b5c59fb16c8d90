//! The types of request fields: each reads only what is allowed in it, so that
//! a body that was read holds nothing to check again.
//!
//! **Invariant:** an integer is read from a JSON integer only: no float, no
//! string, nothing negative, nothing beyond its bounds.

use crate::extract::read_time;
use hongbao_engine::split::SHARES_MAX;
use hongbao_engine::types::{Amount, NameError, Timestamp};
use serde::de::value::{self, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

/// An integer of `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int<const MIN: u64, const MAX: u64>(u64);

/// An amount of at least 1 minor unit.
pub type Money = Int<1, { Amount::MAX.minor() }>;
/// A number of things, at least 1.
pub type Count = Int<1, { u32::MAX as u64 }>;
/// A number of things, or none.
pub type CountOrNone = Int<0, { u32::MAX as u64 }>;
/// A number of shares of an envelope.
pub type Shares = Int<1, { SHARES_MAX as u64 }>;
/// A duration of at least a second and at most a year.
pub type Seconds = Int<1, YEAR_S>;
/// A duration of at most a year.
pub type SecondsOrNone = Int<0, YEAR_S>;

/// 365 days.
pub const YEAR_S: u64 = 31_536_000;

impl<const MIN: u64, const MAX: u64> Int<MIN, MAX> {
    /// `value`, which must be within the bounds; a wrong one does not compile in
    /// a constant.
    pub const fn new(value: u64) -> Self {
        assert!(MIN <= value && value <= MAX);
        Int(value)
    }

    /// The integer.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Money {
    /// As the engine's amount.
    pub fn amount(self) -> Amount {
        Amount::new(self.0).expect("money was read within the bounds of an amount")
    }
}

/// For bounds within 32 bits only: others do not compile.
impl<const MIN: u64, const MAX: u64> Int<MIN, MAX> {
    const FITS: () = assert!(MAX <= u32::MAX as u64);

    /// As a number of 32 bits.
    pub fn count(self) -> u32 {
        let () = Self::FITS;
        u32::try_from(self.0).expect("a count was read within 32 bits")
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Int<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InBounds<const MIN: u64, const MAX: u64>;
        impl<const MIN: u64, const MAX: u64> Visitor<'_> for InBounds<MIN, MAX> {
            type Value = Int<MIN, MAX>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an integer from {MIN} to {MAX}")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
                if (MIN..=MAX).contains(&value) {
                    return Ok(Int(value));
                }
                Err(E::invalid_value(Unexpected::Unsigned(value), &self))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
                Err(E::invalid_value(Unexpected::Signed(value), &self))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
                let bounds = format_args!("must be an integer from {MIN} to {MAX}");
                // A parser of JSON takes an integer beyond 64 bits for a float.
                if value.abs() >= u64::MAX as f64 {
                    return Err(E::custom(bounds));
                }
                Err(E::custom(format_args!("{bounds}, without fraction or exponent")))
            }
        }
        deserializer.deserialize_u64(InBounds)
    }
}

/// A text of `MIN` to `MAX` characters without control characters other than
/// line breaks; one that must have some has a visible one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<const MIN: usize, const MAX: usize>(pub String);

/// A text that may be empty is, where none is given.
impl<const MAX: usize> Default for Text<0, MAX> {
    fn default() -> Self {
        Self(String::new())
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Text<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !(MIN..=MAX).contains(&text.chars().count()) {
            return Err(D::Error::custom(format_args!("must be {MIN} to {MAX} characters long")));
        }
        if text.chars().any(|char| char.is_control() && char != '\n') {
            return Err(D::Error::custom("may not contain control characters"));
        }
        if MIN > 0 && !text.chars().any(is_visible) {
            return Err(D::Error::custom("must hold a visible character"));
        }
        Ok(Text(text))
    }
}

/// 1 to `MAX` visible characters; a caller's own number has up to 128.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible<const MAX: usize = 128>(pub String);

impl<'de, const MAX: usize> Deserialize<'de> for Visible<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if !(1..=MAX).contains(&text.chars().count()) {
            return Err(D::Error::custom(format_args!("must be 1 to {MAX} characters long")));
        }
        if !text.chars().all(is_visible) {
            return Err(D::Error::custom("may only contain visible characters: no spaces, no control characters"));
        }
        Ok(Visible(text))
    }
}

/// Characters that print nothing, or turn the direction of what follows, would
/// let two different references look the same.
fn is_visible(char: char) -> bool {
    let blank = matches!(char, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !(char.is_control() || char.is_whitespace() || blank)
}

/// An RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read_time(&text).map(Time).map_err(D::Error::custom)
    }
}

/// The address of a picture: http or https, up to 2,048 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let good = rest.is_some_and(|rest| !rest.is_empty()) && text.len() <= 2048;
        if good && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Url(text));
        }
        Err(D::Error::custom("must be an http or https URL of up to 2048 visible ASCII characters"))
    }
}

/// A JSON object kept as the text it came in, up to 4 KiB and 32 levels deep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonObject(pub String);

impl JsonObject {
    const BYTES_MAX: usize = 4096;
    const LEVELS_MAX: usize = 32;
}

impl Default for JsonObject {
    fn default() -> JsonObject {
        JsonObject("{}".to_owned())
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        if !text.starts_with('{') {
            return Err(D::Error::custom("must be a JSON object"));
        }
        if text.len() > JsonObject::BYTES_MAX {
            return Err(D::Error::custom(format_args!("must be at most {} bytes of JSON", JsonObject::BYTES_MAX)));
        }
        if levels(text) > JsonObject::LEVELS_MAX {
            return Err(D::Error::custom(format_args!("must be at most {} levels deep", JsonObject::LEVELS_MAX)));
        }
        Ok(JsonObject(text.to_owned()))
    }
}

/// How deep the objects and arrays of well-formed JSON are nested.
fn levels(json: &str) -> usize {
    let (mut level, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !in_string => level -= 1,
            _ => {}
        }
    }
    deepest
}

/// Reads an enum's word, and tells which there are also to those who send no string.
///
/// # Errors
/// Those of the enum.
pub fn word<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct InWords<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for InWords<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let none = T::deserialize(StrDeserializer::<value::Error>::new("")).err();
            let told = none.map(|error| error.to_string()).unwrap_or_default();
            f.write_str(told.split_once("expected ").map_or("a word", |(_, words)| words))
        }
        fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
            T::deserialize(StrDeserializer::new(word))
        }
    }
    deserializer.deserialize_str(InWords(PhantomData))
}

/// As [`word`], of a field that may be missing but not null.
///
/// # Errors
/// Those of the enum.
pub fn some_word<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    word(deserializer).map(Some)
}

/// Reads an id as it is written.
///
/// # Errors
/// That it is not one of its kind.
pub fn id<'de, T: FromStr<Err = NameError>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Reads a field that, if it is there at all, may be null: to be told apart
/// from one that is not there.
///
/// # Errors
/// Those of the field.
pub fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_outside_strings() {
        for (json, expected) in [("{}", 1), (r#"{"a":[1,{"b":2}],"c":{}}"#, 3), (r#"{"a":"[[[\"[["}"#, 1)] {
            assert_eq!(levels(json), expected, "{json}");
        }
    }

    #[test]
    fn invisible_characters_are_told() {
        for char in ['a', '红', '-', '~', '\u{1f9e7}'] {
            assert!(is_visible(char), "{char:?}");
        }
        for char in [' ', '\n', '\0', '\u{a0}', '\u{200b}', '\u{202e}', '\u{feff}', '\u{3000}'] {
            assert!(!is_visible(char), "{char:?}");
        }
    }
}
