//! Words and kinds that may become more: what is not known is kept.

use serde::de::{DeserializeOwned, Error};
use serde_json::Value;

/// An enum of words, one variant each, and one for those that are newer.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant,)+
            /// One that is newer than this version.
            Other(String),
        }

        impl $name {
            /// As the API spells it.
            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$variant => $word,)+
                    $name::Other(word) => word,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = String::deserialize(deserializer)?;
                Ok(match &*word {
                    $($word => $name::$variant,)+
                    _ => $name::Other(word),
                })
            }
        }
    };
}

/// An enum of kinds that a word tells apart, and one for those that are newer.
macro_rules! union {
    ($(#[$meta:meta])* $name:ident by $tag:literal { $($word:literal => $variant:ident($of:ty)),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant($of),)+
            /// One that is newer than this version; an outcome like this is no win so far.
            Unknown {
                /// Which it is.
                name: String,
                /// All of it.
                body: serde_json::Value,
            },
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let body = serde_json::Value::deserialize(deserializer)?;
                let name = crate::word::tag::<D::Error>(&body, $tag)?.to_owned();
                Ok(match &*name {
                    $($word => $name::$variant(crate::word::part(body)?),)+
                    _ => $name::Unknown { name, body },
                })
            }
        }
    };
}

pub(crate) use {union, words};

/// The word of a value that tells what it is.
pub(crate) fn tag<'a, E: Error>(body: &'a Value, tag: &str) -> Result<&'a str, E> {
    body.get(tag).and_then(Value::as_str).ok_or_else(|| E::custom(format_args!("there is no {tag}")))
}

/// A part of an answer.
pub(crate) fn part<T: DeserializeOwned, E: Error>(body: Value) -> Result<T, E> {
    serde_json::from_value(body).map_err(E::custom)
}
