//! Relations as the model sees them: what was last said of each two, and what that allows.

use crate::commands::any_user;
use crate::model::{Decided, Model};
use crate::random::Random;
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::relation::{Relation, RelationRow};
use hongbao_engine::types::UserId;
use std::collections::BTreeMap;

/// What users are to others.
pub(crate) type Relations = BTreeMap<(UserId, UserId), Relation>;

/// The field at fault, whatever the state.
pub(crate) fn fault(rows: &[RelationRow]) -> Option<String> {
    let own = rows.iter().position(|row| row.user == row.other);
    if rows.is_empty() { Some("relations".to_owned()) } else { own.map(|at| format!("relations[{at}].other")) }
}

/// Mostly of people who can give to each other then.
pub(crate) fn put(random: &mut Random) -> Command {
    use Relation::{Blocks, Follows, None};
    let row = |random: &mut Random| {
        let (user, other) = (any_user(random), any_user(random));
        RelationRow { user, other, relation: random.pick(&[None, None, Follows, Follows, Follows, Blocks]) }
    };
    let rows = (0..random.below(6)).map(|_| row(random)).filter(|row| row.user != row.other);
    let mut rows: Vec<RelationRow> = rows.collect();
    if random.once_in(20) {
        let user = any_user(random);
        rows.push(RelationRow { user: user.clone(), other: user, relation: Blocks });
    }
    Command::PutRelations(rows)
}

impl Model {
    pub(crate) fn put_relations(&mut self, rows: &[RelationRow], lsn: u64) -> Decided {
        for RelationRow { user, other, relation } in rows {
            self.relations.insert((user.clone(), other.clone()), *relation);
        }
        Decided(Outcome::Relations(rows.len() as u32), true, lsn)
    }

    /// Why one may not give to the other, or be asked to pay by the other.
    pub(crate) fn apart(&self, one: &UserId, other: &UserId, must_follow: bool) -> Option<Refusal> {
        if one == other {
            return None;
        }
        let said = |by: &UserId, of: &UserId| self.relations.get(&(by.clone(), of.clone())).copied();
        let both = [said(one, other), said(other, one)];
        match both {
            [Some(Relation::Blocks), _] | [_, Some(Relation::Blocks)] => Some(Refusal::Apart),
            [Some(Relation::Follows), Some(Relation::Follows)] => None,
            _ => must_follow.then_some(Refusal::NotMutual),
        }
    }

    /// Why a gift of these users is not made.
    pub(crate) fn given_apart(&self, terms: &hongbao_engine::gift::NewGift) -> Option<Refusal> {
        let recipient = terms.recipient.as_ref();
        self.apart(&terms.giver, &terms.payer, false)
            .or_else(|| recipient.and_then(|recipient| self.apart(&terms.giver, recipient, terms.must_follow)))
    }
}
