//! Relations in memory: those that somebody just told or asked about.

use super::{Router, Shard, Shards};
use crate::command::Refusal;
use crate::mutants::{Mutant, is_planted};
use crate::relation::{Relation, RelationKey, RelationRow};
use crate::types::{Lsn, Timestamp, UserId};

/// What a user is to another, or the knowledge that it is nothing.
pub(crate) struct KnownRelation {
    pub(crate) relation: Relation,
    pub(crate) last_lsn: Lsn,
    pub(crate) touched_at: Timestamp,
}

impl Shard {
    /// Remembers what was told until the store has it.
    pub(super) fn apply_relation(&mut self, row: &RelationRow, at: Timestamp, lsn: Lsn) {
        let known = KnownRelation { relation: row.relation, last_lsn: lsn, touched_at: at };
        self.relations.insert(RelationKey::of(&row.user, &row.other), known);
    }
}

/// Whether one may give to the other, or be asked to pay by the other; if they have to, also
/// whether they follow each other.
///
/// # Errors
/// A refusal that does not tell which of the two it is because of.
pub(super) fn check(
    shards: &impl Shards,
    router: Router,
    (one, other): (&UserId, &UserId),
    must_follow: bool,
) -> Result<(), Refusal> {
    if one == other {
        return Ok(());
    }
    let both = [RelationKey::of(one, other), RelationKey::of(other, one)].map(|key| {
        let known = shards.shard(router.relation(key)).relations.get(&key);
        known.map_or(Relation::None, |known| known.relation)
    });
    if both.contains(&Relation::Blocks) && !is_planted(Mutant::IgnoreBlocks) {
        return Err(Refusal::Apart);
    }
    if must_follow && both != [Relation::Follows; 2] {
        return Err(Refusal::NotMutual);
    }
    Ok(())
}
