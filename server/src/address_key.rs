//! Where the address key comes from: a file, or the environment.
//!
//! **Invariant:** no option has the key itself, which a list of processes would show.

use crate::failure::Failure;
use clap::Args;
use hongbao_engine::address::{AddressKeep, AddressKey, AddressOptions};
use std::path::{Path, PathBuf};

/// The variable with the address key.
const KEY: &str = "HONGBAO_ADDRESS_KEY";
/// The variable with what it was before.
const OLD_KEY: &str = "HONGBAO_ADDRESS_OLD_KEY";

/// How addresses of gifts are kept.
#[derive(Clone, Debug, Args)]
pub struct AddressTerms {
    /// File with the key that gifts' addresses are sealed under, 64 hexadecimal digits; without it, and without
    /// HONGBAO_ADDRESS_KEY, no address is taken
    #[arg(long, value_name = "FILE")]
    pub address_key_file: Option<PathBuf>,
    /// File with what that key was before, or HONGBAO_ADDRESS_OLD_KEY: at the start all is sealed under the new one. After
    /// that it is not needed any more
    #[arg(long, value_name = "FILE")]
    pub address_old_key_file: Option<PathBuf>,
    /// Seconds from a gift's delivery until its address is erased
    #[arg(long, default_value_t = AddressKeep::default().delivered_s, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    pub address_keep_s: u64,
    /// Seconds from a gift's shipping until its address is erased, if it is never told to have arrived
    #[arg(long, default_value_t = AddressKeep::default().shipped_s, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    pub address_undelivered_keep_s: u64,
}

impl AddressTerms {
    /// The engine's options; `None` without a key.
    ///
    /// # Errors
    /// [`Failure::Usage`] says which file or variable has no key.
    pub fn for_engine(&self) -> Result<Option<AddressOptions>, Failure> {
        let key = read_key("--address-key-file", self.address_key_file.as_deref(), KEY)?;
        let old = read_key("--address-old-key-file", self.address_old_key_file.as_deref(), OLD_KEY)?;
        let Some(key) = key else {
            return match old {
                Some(_) => Err(Failure::Usage(
                    "an old address key opens nothing without a new one: --address-key-file".to_owned(),
                )),
                None => Ok(None),
            };
        };
        let keep = AddressKeep { delivered_s: self.address_keep_s, shipped_s: self.address_undelivered_keep_s };
        Ok(Some(AddressOptions { older: old.into_iter().collect(), keep, ..AddressOptions::new(key) }))
    }
}

fn read_key(option: &str, file: Option<&Path>, variable: &str) -> Result<Option<AddressKey>, Failure> {
    let given = std::env::var(variable).ok().filter(|text| !text.is_empty());
    let (place, text) = match (file, given) {
        (Some(_), Some(_)) => {
            return Err(Failure::Usage(format!("{option} and {variable} both name an address key; keep one of them")));
        }
        (Some(file), None) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| Failure::Usage(format!("{option} {}: {error}", file.display())))?;
            (format!("{option} {}", file.display()), text)
        }
        (None, Some(text)) => (variable.to_owned(), text),
        (None, None) => return Ok(None),
    };
    text.parse().map(Some).map_err(|error| Failure::Usage(format!("{place}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_key_or_is_refused_with_words_that_do_not_tell_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let digits = "0123456789abcdef".repeat(4);
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_key("--address-key-file", Some(&path), "HONGBAO_NO_SUCH_KEY").map_err(|error| error.to_string())
        };
        let key: AddressKey = digits.parse().unwrap();
        assert_eq!(read(&format!("{digits}\n")).unwrap().map(|key| key.id()), Some(key.id()));
        let told = read(&digits[1..]).unwrap_err();
        assert!(told.contains("64 hexadecimal digits") && told.contains("--address-key-file"), "{told}");
        assert!(!told.contains(&digits[10..20]), "{told}");
        let missing = read_key("--address-key-file", Some(&directory.path().join("none")), "HONGBAO_NO_SUCH_KEY");
        assert!(missing.unwrap_err().to_string().contains("No such file"));
    }
}
