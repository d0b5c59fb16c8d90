//! What is fixed for a directory at its first start, in the store and beside it.

use super::recovery::{EmbeddedOptions, OpenError};
use crate::entropy::SystemEntropy;
use crate::feed::histories::Histories;
use crate::notes::put_file;
use crate::store::{Store, StoreError};
use crate::types::{Lsn, hex};
use std::path::Path;

/// What is fixed for a directory at its first start. It is in no record: the
/// store has it, and a file beside the store, for when the store is lost.
pub(crate) struct Settings(Vec<(&'static str, String)>);

/// How a server is started that has this setting.
pub(crate) fn option_of(setting: &str, value: &str) -> String {
    match (setting, value) {
        ("mode", "test") => "with --test".to_owned(),
        ("mode", _) => "without --test".to_owned(),
        ("currency", _) => format!("with --currency {value}"),
        ("buckets", _) => format!("with --redis-buckets {value}"),
        _ => "of the version that made it".to_owned(),
    }
}

impl Settings {
    const SECRET: &str = "fingerprint_secret";
    /// Histories that restores have begun: nothing in a directory that none has made.
    const HISTORIES: &str = "histories";
    const NAMES: [&str; 4] = ["currency", "mode", Settings::SECRET, Settings::HISTORIES];
    /// The form of that file, in its first line. The first ones do not say it.
    const FORM: u32 = 1;
    /// The file beside the store.
    pub(super) const FILE: &str = "settings";

    /// Compares what is asked for with what the store was made with, and keeps
    /// it at the first start. A store that is new although something was `kept`
    /// of another stands in for one that was lost.
    pub(super) fn settle(
        store: &Store,
        options: &EmbeddedOptions,
        kept: Option<&Settings>,
    ) -> Result<Settings, OpenError> {
        let made = |setting| match store.get_setting(setting) {
            Ok(None) => Ok(kept.map(|kept| kept.value(setting).to_owned())),
            made => made,
        };
        let mode = if options.test_mode { "test" } else { "live" };
        let mut settings = Vec::new();
        for (setting, asked) in [("currency", options.currency.as_str()), ("mode", mode)] {
            match made(setting)? {
                Some(made) if made != asked => {
                    return Err(OpenError::Setting { setting, made, asked: asked.to_owned() });
                }
                _ => settings.push((setting, asked.to_owned())),
            }
        }
        let secret = made(Settings::SECRET)?.unwrap_or_else(|| {
            let mut secret = [0; 32];
            options.entropy.fill(&mut secret);
            hex(&secret)
        });
        settings.push((Settings::SECRET, secret));
        settings.push((Settings::HISTORIES, made(Settings::HISTORIES)?.unwrap_or_default()));
        let settings = Settings(settings);
        settings.put(store)?;
        Ok(settings)
    }

    /// Those of a directory that takes in a copy.
    ///
    /// What an earlier directory of the deployment told is of another history.
    #[cfg(feature = "redis")]
    pub(crate) fn of_copy(currency: &str, mode: &str, secret: &[u8; 32]) -> Settings {
        let secret = hex(secret);
        let mut histories = Histories::default();
        histories.begin(&SystemEntropy, Lsn(0));
        let histories = (Settings::HISTORIES, histories.text());
        Settings(vec![
            ("currency", currency.to_owned()),
            ("mode", mode.to_owned()),
            (Settings::SECRET, secret),
            histories,
        ])
    }

    /// Those that a store has.
    pub(crate) fn of(store: &Store) -> Result<Settings, StoreError> {
        let setting = |name| Ok((name, store.get_setting(name)?.unwrap_or_default()));
        Ok(Settings(Settings::NAMES.into_iter().map(setting).collect::<Result<_, StoreError>>()?))
    }

    pub(crate) fn value(&self, setting: &str) -> &str {
        self.0.iter().find(|(name, _)| *name == setting).map_or("", |(_, value)| value)
    }

    /// The secret of fingerprints.
    pub(crate) fn secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        for (byte, digits) in secret.iter_mut().zip(self.value(Settings::SECRET).as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("the setting is hexadecimal");
            *byte = u8::from_str_radix(digits, 16).expect("the setting is hexadecimal");
        }
        secret
    }

    /// The histories that restores have begun.
    pub(super) fn histories(&self) -> Result<Histories, StoreError> {
        let text = self.value(Settings::HISTORIES);
        Histories::read(text).ok_or_else(|| StoreError::Broken(format!("its setting histories cannot be read: {text}")))
    }

    /// Begins another one behind `after`, in the store and here.
    pub(crate) fn begin_history(&mut self, store: &Store, after: Lsn) -> Result<(), StoreError> {
        let mut histories = self.histories()?;
        histories.begin(&SystemEntropy, after);
        self.0.retain(|(name, _)| *name != Settings::HISTORIES);
        self.0.push((Settings::HISTORIES, histories.text()));
        store.put_setting(Settings::HISTORIES, self.value(Settings::HISTORIES))
    }

    /// Puts those into a store that it does not have.
    pub(crate) fn put(&self, store: &Store) -> Result<(), StoreError> {
        for (name, value) in self.0.iter().filter(|(_, value)| !value.is_empty()) {
            if store.get_setting(name)?.is_none() {
                store.put_setting(name, value)?;
            }
        }
        Ok(())
    }

    /// What [`Settings::write`] wrote in `directory`.
    pub(crate) fn read(directory: &Path) -> Result<Settings, OpenError> {
        let path = directory.join(Settings::FILE);
        let text =
            std::fs::read_to_string(&path).map_err(|source| OpenError::Directory { path: path.clone(), source })?;
        let form = text.lines().find_map(|line| line.strip_prefix("form="));
        if let Some(found) = form.filter(|found| *found != Settings::FORM.to_string()) {
            return Err(OpenError::OtherForm { path, found: found.to_owned(), known: Settings::FORM });
        }
        let setting = |name: &'static str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let is_secret = |value: &str| value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
            let value = value.filter(|value| name != Settings::SECRET || is_secret(value));
            let value = value.or((name == Settings::HISTORIES).then_some(""));
            let missing = || OpenError::Rebuild(format!("{} has no {name}; restore it from a backup", path.display()));
            Ok((name, value.ok_or_else(missing)?.to_owned()))
        };
        Ok(Settings(Settings::NAMES.into_iter().map(setting).collect::<Result<_, OpenError>>()?))
    }

    /// Keeps them beside the store, readable for nobody else: with the secret
    /// one could try what a request was.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), OpenError> {
        let path = directory.join(Settings::FILE);
        let written = self.0.iter().filter(|(_, value)| !value.is_empty());
        let lines = written.map(|(name, value)| format!("{name}={value}\n"));
        let text: String = std::iter::once(format!("form={}\n", Settings::FORM)).chain(lines).collect();
        if std::fs::read_to_string(&path).is_ok_and(|written| written == text) {
            return Ok(());
        }
        let written = put_file(directory, Settings::FILE, Some(text.as_bytes()));
        written.map_err(|source| OpenError::Directory { path: path.clone(), source })
    }
}
