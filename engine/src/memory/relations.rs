//! Relations: what a pair of users is to each other, brought in before it is decided upon.

use super::{Core, Durable, Footprint};
use crate::error::EngineError;
use crate::relation::{RelationKey, RelationRow};
use crate::state::Router;
use crate::state::relations::KnownRelation;
use crate::types::{Lsn, UserId};

/// How long a relation is known that the store has too.
pub(super) const RELATION_MS: u64 = 1_000;

impl Footprint {
    /// What two users are to each other.
    pub(super) fn pair(&mut self, router: Router, one: &UserId, other: &UserId) {
        if one == other {
            return;
        }
        self.shards.push(router.relation(RelationKey::of(one, other)));
        self.relations.extend([(one.clone(), other.clone()), (other.clone(), one.clone())]);
    }
}

impl Core {
    /// What the shards are that a command needs which tells relations.
    pub(super) fn relations_footprint(&self, rows: &[RelationRow], footprint: &mut Footprint) {
        let shards = rows.iter().map(|row| self.router.relation(RelationKey::of(&row.user, &row.other)));
        footprint.shards.extend(shards);
    }

    pub(super) fn warm_relation(&self, durable: &Durable, user: &UserId, other: &UserId) -> Result<(), EngineError> {
        let key = RelationKey::of(user, other);
        self.warm_one(
            self.router.relation(key),
            |shard| shard.relations.get_mut(&key).map(|known| &mut known.touched_at),
            || durable.store.relation(user, other),
            |shard, relation, touched_at| {
                shard.relations.insert(key, KnownRelation { relation, last_lsn: Lsn(0), touched_at });
            },
        )
    }
}
