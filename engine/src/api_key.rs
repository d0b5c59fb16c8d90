//! API keys: who calls, for which owner and in which roles.
//!
//! An engine keeps the digest of a key and never the key. What a role may do is
//! for the server to say.
//!
//! **Invariant:** a deleted key stays deleted. Its row stays too, so that
//! deleting it again is answered the same.

use crate::backend::{Listing, Page};
use crate::command::Refusal;
use crate::error::EngineError;
use crate::types::{ApiKeyId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

/// A digest of a key: SHA-256.
pub type KeyDigest = [u8; 32];

const NAME_CHARS_MAX: usize = 200;
const ROLES_MAX: usize = 32;
/// What a cursor of the list of keys starts with.
const CURSOR: u8 = b'k';

/// What a key may be used for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Everything.
    Admin,
    /// Creates envelopes and items, and cancels its owner's envelopes.
    Issuer,
    /// Grabs, claims and reads on behalf of users.
    Caller,
    /// Moves money in and out of wallets.
    Treasurer,
    /// Reads this merchant's items and orders.
    Merchant(UserId),
    /// Reads everything but keys.
    Viewer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Admin => f.write_str("admin"),
            Role::Issuer => f.write_str("issuer"),
            Role::Caller => f.write_str("caller"),
            Role::Treasurer => f.write_str("treasurer"),
            Role::Merchant(id) => write!(f, "merchant:{id}"),
            Role::Viewer => f.write_str("viewer"),
        }
    }
}

/// A text that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role; take admin, issuer, caller, treasurer, merchant:<id> or viewer")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        let unknown = || UnknownRole(text.chars().take(80).collect());
        Ok(match text {
            "admin" => Role::Admin,
            "issuer" => Role::Issuer,
            "caller" => Role::Caller,
            "treasurer" => Role::Treasurer,
            "viewer" => Role::Viewer,
            _ => {
                let merchant = text.strip_prefix("merchant:").ok_or_else(unknown)?;
                Role::Merchant(UserId::new(merchant).map_err(|_| unknown())?)
            }
        })
    }
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewApiKey {
    /// What people call it, 1 to 200 characters.
    pub name: String,
    /// Whose references and idempotency keys it uses, and whose envelopes it may cancel.
    pub owner: UserId,
    /// What it may be used for: 1 to 32, each once.
    pub roles: Vec<Role>,
    /// Of the key, which whoever asks has drawn. It is no part of what is asked:
    /// the same command under the same idempotency key is answered with the key
    /// that was made first, whose digest is another.
    #[serde(skip)]
    pub digest: KeyDigest,
}

impl NewApiKey {
    /// What can be said against it from itself alone.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if !(1..=NAME_CHARS_MAX).contains(&self.name.chars().count()) {
            return Err(Refusal::invalid("name", "must be 1 to 200 characters long"));
        }
        if !(1..=ROLES_MAX).contains(&self.roles.len()) {
            return Err(Refusal::invalid("roles", "must name 1 to 32 roles"));
        }
        for (index, role) in self.roles.iter().enumerate() {
            if self.roles[..index].contains(role) {
                return Err(Refusal::invalid("roles", format!("names {role} twice; name it once")));
            }
        }
        Ok(())
    }

    /// The key that it becomes.
    pub(crate) fn made(&self, id: ApiKeyId, created_at: Timestamp) -> ApiKey {
        let NewApiKey { name, owner, roles, digest } = self.clone();
        ApiKey { id, name, owner, roles, digest, created_at, deleted_at: None }
    }
}

/// A key as it is kept. Nothing of it changes but that it may be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id, which opens nothing.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// Whose references, idempotency keys and envelopes are meant.
    pub owner: UserId,
    /// What it may be used for.
    pub roles: Vec<Role>,
    /// By which it is known.
    pub digest: KeyDigest,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was deleted, if it was.
    pub deleted_at: Option<Timestamp>,
}

impl ApiKey {
    /// The same key, deleted.
    pub(crate) fn deleted(&self, at: Timestamp) -> ApiKey {
        ApiKey { deleted_at: Some(at), ..self.clone() }
    }

    /// Where it stands in the list: the newest first.
    fn place(&self) -> (Reverse<Timestamp>, ApiKeyId) {
        (Reverse(self.created_at), self.id)
    }
}

/// A page of those of `keys` that are not deleted, the newest first.
///
/// # Errors
/// [`EngineError::Cursor`] for a cursor of another list.
pub(crate) fn list(keys: impl Iterator<Item = ApiKey>, page: &Page) -> Result<Listing<ApiKey>, EngineError> {
    let after = page.cursor.as_deref().map(|cursor| place_of(cursor).ok_or(EngineError::Cursor)).transpose()?;
    let mut rows: Vec<ApiKey> = keys
        .filter(|key| key.deleted_at.is_none() && after.as_ref().is_none_or(|after| key.place() > *after))
        .collect();
    rows.sort_unstable_by_key(ApiKey::place);
    let is_last = rows.len() <= page.limit;
    rows.truncate(page.limit);
    let next = rows
        .last()
        .filter(|_| !is_last)
        .map(|last| [&[CURSOR], &last.created_at.ms().to_be_bytes()[..], last.id.bytes()].concat());
    Ok(Listing { rows, next })
}

fn place_of(cursor: &[u8]) -> Option<(Reverse<Timestamp>, ApiKeyId)> {
    let (ms, id) = cursor.strip_prefix(&[CURSOR])?.split_first_chunk()?;
    Some((Reverse(Timestamp::from_ms(u64::from_be_bytes(*ms))), ApiKeyId::from_bytes(id.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_back_from_their_text() {
        for text in ["admin", "issuer", "caller", "treasurer", "viewer", "merchant:rosy", "merchant:a:b"] {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        for wrong in ["", "Admin", "janitor", "merchant", "merchant:", "merchant:a b", "admin "] {
            let error = wrong.parse::<Role>().expect_err(wrong).to_string();
            assert!(error.starts_with(&format!("{wrong:?} is not a role")), "{error}");
        }
    }

    #[test]
    fn what_is_drawn_is_no_part_of_what_is_asked() {
        use crate::command::Command;
        let new = NewApiKey {
            name: "shop".to_owned(),
            owner: UserId::new("shop").unwrap(),
            roles: vec![Role::Caller],
            digest: [1; 32],
        };
        let print = |new: &NewApiKey| Command::CreateApiKey(Box::new(new.clone())).fingerprint(&[0; 32]);
        assert_eq!(print(&new), print(&NewApiKey { digest: [2; 32], ..new.clone() }));
        assert_ne!(print(&new), print(&NewApiKey { roles: vec![Role::Viewer], ..new.clone() }));
        assert_ne!(print(&new), print(&NewApiKey { owner: UserId::new("other").unwrap(), ..new.clone() }));
    }
}
