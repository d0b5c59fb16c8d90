//! The offline audit of relations: each stands with both of its users, and says the same.

use super::audit::Auditor;
use super::keys::{self, KeyRange, Table};
use super::{StoreError, damaged, values};
use crate::relation::{Relation, RelationSide};

impl Auditor<'_> {
    pub(super) fn relations(&mut self) -> Result<(), StoreError> {
        for row in self.scan(Table::Relations, &KeyRange::all()) {
            let (key, value) = row?;
            let wrong = || damaged(Table::Relations, &key);
            let relation: Relation = values::cold(&value).ok_or_else(wrong)?;
            let (user, other) = keys::user_of(&key).zip(keys::other_of_relation(&key)).ok_or_else(wrong)?;
            let sides = [RelationSide::Own, RelationSide::OfOthers];
            let side = sides.into_iter().find(|side| key == keys::relation(&user, *side, &other)).ok_or_else(wrong)?;
            let mirrored = match side {
                RelationSide::Own => keys::relation(&other, RelationSide::OfOthers, &user),
                RelationSide::OfOthers => keys::relation(&other, RelationSide::Own, &user),
            };
            if self.snapshot.get(Table::Relations, &mirrored)?.as_deref() != Some(&*value) {
                self.found(format!("{user} and {other}: what the one is to the other does not stand with both"));
            }
            if relation == Relation::None {
                self.found(format!("{user} and {other}: it is on record that they are nothing to each other"));
            }
            self.audited.relations += u64::from(side == RelationSide::Own);
        }
        Ok(())
    }
}
