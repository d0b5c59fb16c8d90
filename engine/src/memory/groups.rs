//! Groups: what is needed to decide about one, and the end of one whose time is over.

use super::cold::store_failed;
use super::housekeeping::Turn;
use super::{Core, Durable, Footprint, Locked};
use crate::error::EngineError;
use crate::group::{Group, GroupState};
use crate::state::Shards;
use crate::state::groups::{KnownGroup, due};
use crate::types::{GroupId, UserId};

impl Core {
    pub(super) fn warm_group(&self, durable: &Durable, id: GroupId) -> Result<(), EngineError> {
        self.warm_one(
            self.router.group(id),
            |shard| shard.groups.get_mut(&id).map(|known| &mut known.touched_at),
            || durable.store.group(id),
            |shard, group, touched_at| _ = shard.groups.insert(id, KnownGroup::read(group.map(Box::new), touched_at)),
        )
    }

    /// What is needed when somebody joins or leaves a group, or it ends by itself: with its leader, or
    /// without anybody, everybody's wallet is.
    pub(super) fn group_footprint(
        &self,
        id: GroupId,
        user: Option<&UserId>,
        footprint: &mut Footprint,
    ) -> Result<(), EngineError> {
        if let Some(durable) = &self.durable {
            self.warm_group(durable, id)?;
        }
        footprint.group = Some(id);
        let router = self.router;
        footprint.shards.push(router.group(id));
        if let Some(user) = user {
            footprint.wallet(router, user);
        }
        let shard = self.shards[router.group(id)].lock();
        let Some(group) = shard.group(id).filter(|group| group.state == GroupState::Open) else { return Ok(()) };
        footprint.shards.push(router.user(&group.merchant));
        footprint.all_of_group = user.is_none_or(|user| *user == group.leader);
        if footprint.all_of_group {
            group.members.iter().for_each(|member| footprint.wallet(router, &member.user));
        }
        Ok(())
    }

    /// Whether the wallets of all that are in a group by now are at hand, if they are needed.
    pub(super) fn has_all_of_group(&self, locked: &Locked<'_>, footprint: &Footprint) -> bool {
        let has_all = |group: &Group| {
            group.state != GroupState::Open
                || group.members.iter().all(|member| footprint.wallets.contains(&member.user))
        };
        let needed = footprint.group.filter(|_| footprint.all_of_group);
        needed.is_none_or(|id| locked.shard(self.router.group(id)).group(id).is_none_or(has_all))
    }

    /// Ends a group whose time is over.
    pub(super) fn end_group(&self, id: GroupId) -> Turn {
        let router = self.router;
        let turn = self.take_turn(
            || {
                let mut footprint = Footprint::default();
                // A store that cannot be read now is asked again at the next tick.
                let found = self.group_footprint(id, None, &mut footprint);
                footprint.sort();
                found.ok().map(|()| footprint)
            },
            |core, footprint| core.run_due(footprint, |locked, now| due(locked, router, now, id)),
        );
        self.shards[router.group(id)].lock().arm_group(id);
        turn
    }

    /// A group that is in memory or in the store, and what has to be durable before it is told.
    pub(super) fn find_group(&self, id: GroupId) -> Result<Option<(Group, crate::types::Lsn)>, EngineError> {
        let found = {
            let shard = self.shards[self.router.group(id)].lock();
            shard.group(id).map(|group| (group.clone(), shard.last_lsn))
        };
        match (found, &self.durable) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(durable)) => {
                let group = durable.store.group(id).map_err(store_failed)?;
                Ok(group.map(|group| (group, crate::types::Lsn(0))))
            }
            (None, None) => Ok(None),
        }
    }
}
