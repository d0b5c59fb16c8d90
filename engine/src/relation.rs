//! Relations: who follows whom and who has blocked whom, as the calling app tells it.
//!
//! What a user says of another stands in the store; memory knows of those pairs only that somebody just
//! asked about or told, so a million of them cost it nothing.
//!
//! **Invariant:** nobody gives to, is given something by or is asked to pay for somebody with whom one has
//! blocked the other, whichever of the two it was.

use crate::command::Refusal;
use crate::journal::MAX_RECORD_BYTES;
use crate::types::UserId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many relations are told at a time.
pub const RELATIONS_MAX: usize = 1000;

/// What relations may take in a record; the rest is for the answer that is kept.
const RELATIONS_BYTES_MAX: usize = MAX_RECORD_BYTES - 1024;

/// What a user is to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Relation {
    /// Nothing.
    #[default]
    None,
    /// The user follows the other.
    Follows,
    /// The user wants nothing to do with the other.
    Blocks,
}

impl Relation {
    /// All of them, by their numbers.
    pub const ALL: [Relation; 3] = [Relation::None, Relation::Follows, Relation::Blocks];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Relation::None => "none",
            Relation::Follows => "follows",
            Relation::Blocks => "blocks",
        }
    }
}

/// What one user is to another: it stands for what was told of these two before, in this direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRow {
    /// Who.
    pub user: UserId,
    /// To whom.
    pub other: UserId,
    /// What.
    pub relation: Relation,
}

/// Whose relations a list is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RelationSide {
    /// What the user is to others.
    Own,
    /// What others are to the user.
    OfOthers,
}

/// Checks what can be told from the rows alone.
///
/// # Errors
/// A [`Refusal::Invalid`] that names the field.
pub(crate) fn check(rows: &[RelationRow]) -> Result<(), Refusal> {
    if !(1..=RELATIONS_MAX).contains(&rows.len()) {
        return Err(Refusal::invalid("relations", format!("must hold 1 to {RELATIONS_MAX} relations")));
    }
    if let Some(at) = rows.iter().position(|row| row.user == row.other) {
        return Err(Refusal::invalid(&format!("relations[{at}].other"), "must be another user"));
    }
    // Two names with their lengths, and what they are to each other.
    let bytes: usize = rows.iter().map(|row| row.user.as_str().len() + row.other.as_str().len() + 3).sum();
    if bytes > RELATIONS_BYTES_MAX {
        return Err(Refusal::invalid("relations", "have names too long to be kept at once; send fewer in a call"));
    }
    Ok(())
}

/// By what it is known in memory what a user is to another: a digest of the two, whichever is named
/// first, and in the last bit which of them it is about. So both directions are in one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RelationKey(pub(crate) [u8; 16]);

impl RelationKey {
    /// Of what `user` is to `other`.
    pub(crate) fn of(user: &UserId, other: &UserId) -> RelationKey {
        let is_second = user > other;
        let (first, second) = if is_second { (other, user) } else { (user, other) };
        let digest = Sha256::new().chain_update(first.as_str()).chain_update([0]).chain_update(second.as_str());
        let digest = digest.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[15] = bytes[15] & !1 | u8::from(is_second);
        RelationKey(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_directions_of_a_pair_lie_together_and_are_two() {
        let [ab, a, b, bb] = ["ab", "a", "b", "bb"].map(|name| UserId::new(name).unwrap());
        let [there, back] = [RelationKey::of(&a, &b), RelationKey::of(&b, &a)];
        assert_ne!(there, back);
        assert_eq!(there.0[..15], back.0[..15]);
        assert_ne!(RelationKey::of(&ab, &b).0[..15], RelationKey::of(&a, &bb).0[..15], "names do not run together");
    }

    #[test]
    fn rows_are_checked_by_their_place() {
        let user = |name: &str| UserId::new(name).unwrap();
        let row = |user: UserId, other: UserId| RelationRow { user, other, relation: Relation::Follows };
        let field = |rows: &[RelationRow]| match check(rows) {
            Err(Refusal::Invalid { field, .. }) => field,
            told => panic!("{told:?}"),
        };
        let fine = row(user("a"), user("b"));
        assert_eq!(check(std::slice::from_ref(&fine)), Ok(()));
        assert_eq!(check(&vec![fine.clone(); RELATIONS_MAX]), Ok(()));
        assert_eq!(field(&[]), "relations");
        assert_eq!(field(&vec![fine.clone(); RELATIONS_MAX + 1]), "relations");
        assert_eq!(field(&[fine, row(user("a"), user("a"))]), "relations[1].other");
        let long = row(user(&"x".repeat(64)), user(&"y".repeat(64)));
        assert_eq!(field(&vec![long; RELATIONS_MAX]), "relations", "no record is that long");
    }
}
