//! Who is calling: bearer keys, kept and compared as digests.
//!
//! The admin key is the operator's, and stands in no table. All others are made
//! and deleted by the API; the engine keeps them, and this server a table of
//! those that work.
//!
//! **Invariant:** how long a check takes does not depend on how much of a wrong
//! key is right. Where its digest is looked for depends on the digest's first
//! word, which tells nothing of the key; it is compared as a whole.
//!
//! **Invariant:** after a key was deleted here, no request that comes in later is
//! let in with it here. Other servers follow within a second of theirs reading
//! the engine (see [`Keys::refresh`]). What was let in before goes on: a key is
//! checked once, at the door.

use crate::access::{ADMIN, Roles};
use crate::problem::{Code, Problem};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use hongbao_engine::EngineError;
use hongbao_engine::api_key::{ApiKey, KeyDigest, Role};
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::types::{ApiKeyId, UserId, hex};
use parking_lot::RwLock;
use rand::Rng;
use sha2::{Digest, Sha256};
use std::env::VarError;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs, io};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

/// What a key we made begins with, so that secret scanners know it.
const KEY_PREFIX: &str = "hb_";
/// The shortest key an operator may set.
const KEY_CHARS_MIN: usize = 16;
/// A longer key is refused unread.
const KEY_CHARS_MAX: usize = 256;
const KEY_FILE: &str = "admin.key";
/// The variable of the environment that may set the admin key.
pub const ADMIN_KEY: &str = "HONGBAO_ADMIN_KEY";
/// The owner of what is made with the admin key.
const ADMIN_OWNER: &str = "admin";
/// Keys read at a time.
const PAGE: usize = 1000;

/// The caller of a request, as its key says. The door puts it into the request.
#[derive(Clone, Debug)]
pub struct Caller(
    /// Nobody for the admin key.
    Option<Arc<Holder>>,
);

/// What is known of a key in the table.
#[derive(Debug)]
struct Holder {
    id: ApiKeyId,
    name: String,
    owner: UserId,
    roles: Roles,
    merchants: Box<[UserId]>,
}

impl Caller {
    /// Whose references, idempotency keys and envelopes are meant.
    pub fn owner(&self) -> &str {
        self.0.as_ref().map_or(ADMIN_OWNER, |holder| holder.owner.as_str())
    }

    /// What the key is called.
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or(ADMIN_OWNER, |holder| &holder.name)
    }

    /// What the key may be used for.
    pub fn roles(&self) -> Roles {
        self.0.as_ref().map_or(ADMIN, |holder| holder.roles)
    }

    /// The merchants whose items and orders it reads.
    pub fn merchants(&self) -> &[UserId] {
        self.0.as_ref().map_or(&[], |holder| &holder.merchants)
    }
}

impl fmt::Display for Caller {
    /// The key by its id, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(holder) => holder.id.fmt(f),
            None => f.write_str("the admin key"),
        }
    }
}

/// The keys this server knows.
pub struct Keys {
    admin: Words,
    working: RwLock<Table>,
    /// The version of what stands in the table. Whoever changes that holds it
    /// from before it reads until it has written, so that nothing older than
    /// what is there is ever written.
    version: Mutex<Option<u64>>,
}

/// Keys that work, in the order of their digests.
type Table = Vec<(Words, Arc<Holder>)>;

impl Keys {
    /// A server whose admin key is `admin`.
    pub fn new(admin: &str) -> Keys {
        let admin = words(&digest(admin.as_bytes()));
        Keys { admin, working: RwLock::default(), version: Mutex::new(None) }
    }

    /// Who calls.
    ///
    /// # Errors
    /// 401 without a key, and with one that is not known.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (given.next(), given.next()) else {
            return Err(unauthorized("Send one header Authorization: Bearer <key>."));
        };
        let bytes = value.as_bytes();
        let (scheme, key) = bytes.split_at(bytes.len().min(7));
        if !scheme.eq_ignore_ascii_case(b"bearer ") || key.is_empty() || key.len() > KEY_CHARS_MAX {
            return Err(unauthorized("Send the header Authorization: Bearer <key>."));
        }
        let digest = words(&digest(key));
        if same(&digest, &self.admin) {
            return Ok(Caller(None));
        }
        if let Some(holder) = find(&self.working.read(), &digest) {
            return Ok(Caller(Some(Arc::clone(holder))));
        }
        Err(unauthorized(
            "This key is not known here, or was deleted; an admin lists those that work with GET /v1/keys. The admin key \
             is in HONGBAO_ADMIN_KEY or the file admin.key of the server.",
        ))
    }

    /// Brings the table to what the engine has by now.
    ///
    /// # Errors
    /// Those of the engine; the table then stays as it was.
    pub async fn refresh(&self, backend: &impl Backend) -> Result<(), EngineError> {
        let mut known = self.version.lock().await;
        let version = backend.api_keys_version().await?;
        if *known == Some(version) {
            return Ok(());
        }
        let mut table = Table::new();
        let mut page = Page { limit: PAGE, cursor: None };
        loop {
            let listing = backend.api_keys(&page).await?;
            table.extend(listing.rows.iter().map(|key| (words(&key.digest), Arc::new(Holder::of(key)))));
            page.cursor = listing.next;
            if page.cursor.is_none() {
                break;
            }
        }
        table.sort_unstable_by_key(|(digest, _)| *digest);
        *self.working.write() = table;
        *known = Some(version);
        Ok(())
    }

    /// Takes a key out of the table that has been deleted.
    pub async fn remove(&self, id: ApiKeyId) {
        let _reading = self.version.lock().await;
        self.working.write().retain(|(_, holder)| holder.id != id);
    }
}

impl Holder {
    fn of(key: &ApiKey) -> Holder {
        let merchant = |role: &Role| match role {
            Role::Merchant(id) => Some(id.clone()),
            _ => None,
        };
        let merchants = key.roles.iter().filter_map(merchant).collect();
        let (name, owner) = (key.name.clone(), key.owner.clone());
        Holder { id: key.id, name, owner, roles: Roles::of(&key.roles), merchants }
    }
}

/// Whose digest it is.
fn find<'a>(table: &'a Table, digest: &Words) -> Option<&'a Arc<Holder>> {
    let first = table.partition_point(|(known, _)| known[0] < digest[0]);
    let alike = table[first..].iter().take_while(|(known, _)| known[0] == digest[0]);
    alike.filter(|(known, _)| same(known, digest)).map(|(_, holder)| holder).next()
}

fn unauthorized(detail: &'static str) -> Problem {
    Problem::new(Code::Unauthorized, detail)
}

/// A digest in words, since to compare in constant time costs as much a word as a byte.
type Words = [u64; 4];

fn same(one: &Words, other: &Words) -> bool {
    one.as_slice().ct_eq(other).into()
}

/// By what a key is known.
pub fn digest(key: &[u8]) -> KeyDigest {
    Sha256::digest(key).into()
}

fn words(digest: &KeyDigest) -> Words {
    let word = |i: usize| digest[8 * i..8 * i + 8].try_into().expect("a word is eight bytes");
    std::array::from_fn(|i| u64::from_le_bytes(word(i)))
}

/// The admin key that `variable`, [`ADMIN_KEY`], gives, if it is set.
///
/// # Errors
/// One that is too short, too long or not visible ASCII: without a word, another
/// key than the operator meant would open.
pub fn given_key(variable: Result<String, VarError>) -> io::Result<Option<String>> {
    let key = match variable {
        Ok(key) => key,
        Err(VarError::NotPresent) => return Ok(None),
        Err(VarError::NotUnicode(text)) => text.to_string_lossy().into_owned(),
    };
    check_key(&key, ADMIN_KEY).map(|()| Some(key))
}

/// The admin key in `<data>/admin.key`, if there is such a file.
///
/// # Errors
/// A file that cannot be read, or that holds no key.
pub fn kept_key(data: &Path) -> io::Result<Option<String>> {
    let path = data.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let key = text.trim();
            check_key(key, &path.display().to_string())?;
            Ok(Some(key.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(in_words(&path, &error)),
    }
}

/// A new admin key, written to `<data>/admin.key` for its owner's eyes only.
///
/// A temporary file is made with mode 0600, so that nobody else can read the
/// key at any moment, and is put in place whole or not at all.
///
/// # Errors
/// A file that cannot be written.
pub fn new_key(data: &Path) -> io::Result<String> {
    let (path, key) = (data.join(KEY_FILE), random_key());
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(data)?;
        writeln!(file, "{key}")?;
        file.as_file().sync_all()?;
        file.persist_noclobber(&path).map_err(|error| error.error)
    };
    write().map_err(|error| in_words(&path, &error))?;
    tracing::info!(path = %path.display(), "wrote a new admin key; keep this file secret");
    Ok(key)
}

/// 256 random bits behind the prefix.
pub fn random_key() -> String {
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    format!("{KEY_PREFIX}{}", hex(&bytes))
}

fn check_key(key: &str, place: &str) -> io::Result<()> {
    let length = KEY_CHARS_MIN..=KEY_CHARS_MAX;
    if length.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let remedy = format!("{place} must be {KEY_CHARS_MIN} to {KEY_CHARS_MAX} visible ASCII characters");
    Err(io::Error::new(io::ErrorKind::InvalidInput, remedy))
}

fn in_words(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_start_writes_a_key_that_the_second_reads() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(kept_key(data.path()).unwrap(), None);
        let first = new_key(data.path()).unwrap();
        assert!(first.starts_with(KEY_PREFIX) && first.len() == KEY_PREFIX.len() + 64, "{first}");
        assert_eq!(kept_key(data.path()).unwrap(), Some(first));
        let mode = fs::metadata(data.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(new_key(data.path()).is_err(), "one that is there is not written over");
    }

    #[test]
    fn a_key_that_is_given_is_used_or_refused() {
        let chosen = "chosen-by-an-operator".to_owned();
        assert_eq!(given_key(Ok(chosen.clone())).unwrap(), Some(chosen));
        assert_eq!(given_key(Err(VarError::NotPresent)).unwrap(), None);
        let bytes = OsString::from_vec(b"chosen-by-an-operator\xff".to_vec());
        for variable in [Ok(String::new()), Ok("short".to_owned()), Err(VarError::NotUnicode(bytes))] {
            let error = given_key(variable.clone()).expect_err("no key").to_string();
            assert!(error.contains("HONGBAO_ADMIN_KEY must be 16 to 256"), "{variable:?}: {error}");
        }
    }

    #[test]
    fn only_the_key_itself_opens() {
        let keys = Keys::new("hb_0123456789abcdef");
        for (header, opens) in [
            (Some("Bearer hb_0123456789abcdef"), true),
            (Some("bearer hb_0123456789abcdef"), true),
            (Some("Bearer hb_0123456789abcdeg"), false),
            (Some("Bearer hb_0123456789abcde"), false),
            (Some("Bearer  hb_0123456789abcdef"), false),
            (Some("Basic hb_0123456789abcdef"), false),
            (Some("Bearer "), false),
            (Some("Bear"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(AUTHORIZATION, header.parse().unwrap());
            }
            assert_eq!(keys.caller(&headers).is_ok(), opens, "{header:?}");
        }
    }
}
