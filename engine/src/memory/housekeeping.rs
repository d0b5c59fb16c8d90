//! What happens by itself: deadlines, eviction, telling the journal what it may
//! recycle, and watching the clock.
//!
//! **Invariant:** a deadline becomes an ordinary record, decided under the same
//! locks as a command, so the journal's order decides every race with one.
//!
//! **Invariant:** while deadlines stand still nothing here expires anything:
//! the clock's time does not move.

use super::{Core, Footprint, Log, Miss};
use crate::command::Unclaimed;
use crate::error::EngineError;
use crate::journal::Class;
use crate::mutants::{Mutant, is_planted};
use crate::state::Chore;
use crate::state::decide::{CREDIT_RECORD_MAX, envelope_due, gift_due, item_due};
use crate::state::sales::settlements_due;
use crate::types::{EnvelopeId, GiftId, ItemId, Lsn, Timestamp};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(5);
/// How often it is told that deadlines wait.
const TELL_WAITING: Duration = Duration::from_secs(10);
const CHECK: Duration = Duration::from_secs(1);
/// Timers taken from one shard at a time.
const CHORES_MAX: usize = 1024;
/// Records of one envelope or item before it is the others' turn: an envelope
/// may have millions of winners to credit.
const TURN_RECORDS_MAX: usize = 8;
/// Expired answers forgotten at a time, before deadlines are looked at again.
const PURGE_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct State {
    /// A file that appears when an operator has accepted the clock.
    pub(super) accept_file: Option<PathBuf>,
    pub(super) evict_next: AtomicUsize,
    pub(super) released: AtomicU64,
    /// The first record behind the oldest part of the journal that is kept for events, and its time.
    pub(super) second_kept: Mutex<Option<(Lsn, Timestamp)>>,
    /// When it was last told that a deadline has to wait.
    pub(super) told_waiting: Mutex<Option<Instant>>,
    /// Whether something due was left for another turn.
    pub(super) left: AtomicBool,
}

/// What came of a turn.
#[derive(Clone, Copy, Default)]
pub(super) struct Turn {
    /// Whether anything was due.
    any: bool,
    /// Whether more is due, and it was the others' turn.
    left: bool,
}

impl Core {
    /// The housekeeper's life.
    pub(super) fn keep_house(&self) {
        let mut checked = Instant::now();
        let mut forgetting = false;
        while !self.is_closing() {
            if self.readiness().is_ok() {
                self.tick();
            }
            if checked.elapsed() >= CHECK {
                checked = Instant::now();
                self.check();
                self.forget_events();
                forgetting = true;
            }
            if forgetting {
                forgetting = self.forget_answers();
            }
            if !self.housekeeping.left.load(Ordering::Relaxed) {
                std::thread::park_timeout(TICK);
            }
        }
    }

    /// Does what is due now, a turn of each envelope and item. Says whether
    /// anything was due.
    pub(super) fn tick(&self) -> bool {
        let (mut any, mut left) = (false, false);
        let mut to_erase = self.addresses_to_erase();
        for index in 0..self.shards.len() {
            for chore in self.due_chores(index) {
                let turn = match chore {
                    Chore::Envelope(id) => self.settle_envelope(id),
                    Chore::Item(id) => self.release_due(id),
                    Chore::Gift(id) => self.end_gift(id),
                    Chore::Group(id) => self.end_group(id),
                    Chore::Address(id) => {
                        to_erase.push(id);
                        continue;
                    }
                };
                any |= turn.any;
                left |= turn.left;
            }
            let turn = self.settle_sales(index);
            any |= turn.any;
            left |= turn.left;
        }
        any |= self.erase_addresses(to_erase);
        self.housekeeping.left.store(left, Ordering::Relaxed);
        let index = self.housekeeping.evict_next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        self.evict(index);
        self.release_journal();
        any
    }

    /// Compares the clock with the outside and looks for an operator's word.
    fn check(&self) {
        self.clock.check();
        if let Some(file) = &self.housekeeping.accept_file
            && std::fs::remove_file(file).is_ok()
        {
            if self.clock.alarm().is_some() || self.readiness().is_err() {
                self.accept_clock();
            } else {
                // Kept, it would accept the next step of the clock, which nobody has looked at.
                tracing::warn!("there was nothing about the clock to accept");
            }
        }
    }

    /// Forgets some expired answers. Says whether there may be more.
    fn forget_answers(&self) -> bool {
        let Some(durable) = &self.durable else { return false };
        if durable.projector.failure().is_some() {
            return false;
        }
        match durable.store.purge_memos(self.clock.now(), PURGE_MAX) {
            Ok(seen) => seen.is_none_or(|seen| seen == PURGE_MAX),
            Err(error) => {
                durable.projector.note_failure(error);
                false
            }
        }
    }

    /// Tells the journal what is on disk in the store.
    fn release_journal(&self) {
        let (Log::Journal(journal), Some(durable)) = (&self.log, &self.durable) else { return };
        let persisted = match is_planted(Mutant::ReleaseUnpersisted) {
            true => durable.store.applied_lsn().0,
            false => durable.persisted.load(Ordering::Acquire),
        };
        if self.housekeeping.released.swap(persisted, Ordering::Relaxed) != persisted {
            journal.release_through(Lsn(persisted));
        }
    }

    fn due_chores(&self, index: usize) -> Vec<Chore> {
        let mut shard = self.shards[index].lock();
        let Some(Reverse((first, _))) = shard.timers.peek() else { return Vec::new() };
        let now = self.clock.now();
        if *first > now {
            return Vec::new();
        }
        let mut chores = Vec::new();
        while chores.len() < CHORES_MAX
            && let Some(Reverse((at, chore))) = shard.timers.peek().copied()
            && at <= now
        {
            shard.timers.pop();
            // Cleared, so that the timer can be set again for the same deadline.
            match chore {
                Chore::Envelope(id) => {
                    if let Some(envelope) = shard.envelopes.get_mut(&id).filter(|e| e.timer_at == Some(at)) {
                        envelope.timer_at = None;
                        chores.push(chore);
                    }
                }
                Chore::Gift(id) => {
                    if let Some(known) = shard.gifts.get_mut(&id).filter(|known| known.timer_at == Some(at)) {
                        known.timer_at = None;
                        chores.push(chore);
                    }
                }
                Chore::Group(id) => {
                    if let Some(known) = shard.groups.get_mut(&id).filter(|known| known.timer_at == Some(at)) {
                        known.timer_at = None;
                        chores.push(chore);
                    }
                }
                Chore::Address(id) => {
                    if shard.addresses.get(&id).is_some_and(|mark| mark.erase_at == Some(at)) {
                        chores.push(chore);
                    }
                }
                Chore::Item(id) => {
                    if let Some(item) = shard.items.get_mut(&id).filter(|item| item.timer_at == Some(at)) {
                        item.timer_at = None;
                        chores.push(chore);
                    }
                }
            }
        }
        chores
    }

    /// Expires an envelope, and lapses or credits what was not claimed: whatever is due.
    fn settle_envelope(&self, id: EnvelopeId) -> Turn {
        let router = self.router;
        let turn = self.take_turn(
            || self.envelope_footprint(id),
            |core, footprint| {
                core.run_due(footprint, |locked, now| envelope_due(locked, router, now, id, &footprint.wallets))
            },
        );
        let mut shard = self.shards[router.envelope(id)].lock();
        if shard.envelopes.contains_key(&id) {
            match turn.left {
                true => shard.defer_envelope(id, self.clock.now()),
                false => shard.arm_envelope(id),
            }
        }
        turn
    }

    /// Gives back the units of all holds of an item that are due.
    fn release_due(&self, id: ItemId) -> Turn {
        let router = self.router;
        let turn = self.take_turn(
            || Some(Footprint { shards: [router.item(id)].into_iter().collect(), ..Footprint::default() }),
            |core, footprint| core.run_due(footprint, |locked, now| item_due(locked, router, now, id)),
        );
        self.shards[router.item(id)].lock().arm_item(id);
        turn
    }

    /// Ends gifts and groups that are due and hold units that somebody wants.
    ///
    /// # Errors
    /// Why one cannot be ended now: it is not tried for ever.
    pub(super) fn end_in_the_way(&self, chores: &[Chore]) -> Result<(), EngineError> {
        for &chore in chores {
            self.check_serving()?;
            let mut footprint = Footprint::default();
            match chore {
                Chore::Gift(gift) => _ = self.gift_footprint(gift, &mut footprint)?,
                Chore::Group(group) => self.group_footprint(group, None, &mut footprint)?,
                Chore::Envelope(_) | Chore::Item(_) | Chore::Address(_) => {
                    unreachable!("only gifts and groups are in anybody's way")
                }
            }
            self.warm(&footprint)?;
            self.admit(Class::Settle)?;
            match chore {
                Chore::Gift(gift) => _ = self.end_gift(gift),
                Chore::Group(group) => _ = self.end_group(group),
                Chore::Envelope(_) | Chore::Item(_) | Chore::Address(_) => {}
            }
        }
        Ok(())
    }

    /// Ends a gift whose time is over.
    fn end_gift(&self, id: GiftId) -> Turn {
        let router = self.router;
        let turn = self.take_turn(
            || {
                let mut footprint = Footprint::default();
                // A store that cannot be read now is asked again at the next tick.
                let found = self.gift_footprint(id, &mut footprint).is_ok_and(|giver| giver.is_some());
                footprint.sort();
                found.then_some(footprint)
            },
            |core, footprint| core.run_due(footprint, |locked, now| gift_due(locked, router, now, id)),
        );
        self.shards[router.gift(id)].lock().arm_gift(id);
        turn
    }

    /// Settles what is due to the merchants of a shard.
    fn settle_sales(&self, index: usize) -> Turn {
        let next = self.shards[index].lock().next_settlement();
        if next.is_none_or(|due| due > self.clock.now()) {
            return Turn::default();
        }
        self.take_turn(
            || Some(Footprint { shards: [index].into_iter().collect(), ..Footprint::default() }),
            |core, footprint| core.run_due(footprint, |locked, now| settlements_due(locked, now, index)),
        )
    }

    /// Repeats a record of housekeeping until nothing is due or it is the
    /// others' turn. What cannot be done now is tried again at the next tick.
    pub(super) fn take_turn(
        &self,
        footprint: impl Fn() -> Option<Footprint>,
        run: impl Fn(&Core, &Footprint) -> Result<bool, Miss>,
    ) -> Turn {
        let mut turn = Turn::default();
        let mut records = 0;
        loop {
            // Crediting ten million winners takes a while, and goes on after the next start.
            if self.is_closing() {
                return turn;
            }
            if records == TURN_RECORDS_MAX {
                return Turn { left: true, ..turn };
            }
            let Some(footprint) = footprint() else { return turn };
            let ready = self.warm(&footprint).and_then(|()| self.admit(Class::Settle));
            match ready {
                Ok(()) => {}
                Err(EngineError::ShuttingDown) => return turn,
                Err(error) => {
                    self.tell_waiting(&error);
                    return turn;
                }
            }
            match run(self, &footprint) {
                Ok(true) => {
                    turn.any = true;
                    records += 1;
                }
                Ok(false) => return turn,
                Err(Miss::Again | Miss::InTheWay(_) | Miss::Cold) => {}
            }
        }
    }

    /// Tells it once in a while: on a full disk every deadline waits at every tick.
    pub(super) fn tell_waiting(&self, error: &EngineError) {
        let mut told = self.housekeeping.told_waiting.lock();
        if told.is_none_or(|at| at.elapsed() >= TELL_WAITING) {
            *told = Some(Instant::now());
            tracing::warn!(%error, "deadlines have to wait");
        }
    }

    /// The sender's wallet, and those of the winners who are credited next.
    fn envelope_footprint(&self, id: EnvelopeId) -> Option<Footprint> {
        let mut footprint = Footprint::default();
        footprint.shards.push(self.router.envelope(id));
        let users = {
            let shard = self.shards[self.router.envelope(id)].lock();
            let envelope = shard.envelopes.get(&id)?;
            let mut users = vec![envelope.created.terms.sender.clone()];
            if envelope.unclaimed == Unclaimed::Credit && self.clock.now() >= envelope.claim_by {
                let next = envelope.unclaimed_shares(CREDIT_RECORD_MAX);
                users.extend(next.into_iter().map(|share| envelope.winners.user(share)));
            }
            users
        };
        for user in users {
            footprint.wallet(self.router, &user);
        }
        footprint.sort();
        Some(footprint)
    }
}
