//! Pools: a mass envelope has one in every bucket, so that all primaries serve
//! its grabs. A user grabs from the pool of the user's own bucket and claims
//! there; what the pools do not hold lies in a reserve in the envelope's bucket.
//!
//! Shares move between reserve and pools by transfers, one at a time for each
//! pool: the reserve opens it, the pool carries it out, the reserve notes what
//! the pool reports. An open transfer waits in the outbox of the envelope's
//! bucket, so whoever comes next finishes what an ended engine began.
//!
//! **Invariant:** every step's answer is confirmed before the next is asked for:
//! all of these scripts are calls that ask for it.
//!
//! **Invariant:** nobody but `reserve note` says that an envelope is sold out.

use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::reply::{Answer, Decided, Effect, Told, damaged};
use super::rows::TransferRow;
use super::scripts::{POOL, POOL_CLAIM, POOL_GRAB, RESERVE};
use crate::error::EngineError;
use crate::types::{EnvelopeId, Timestamp, UserId};
use redis::Value;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Shares that a pool asks for when somebody waits; the reserve gives its part.
const WANTED: &[u8] = b"64";
/// When somebody waits and the reserve has none, a share for every so many pools
/// is recalled: others will wait soon.
const POOLS_A_RECALLED: u64 = 4;
/// How long a grab that found nothing twice waits before it looks again.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(3);
/// Turns known before those that nobody waits for are forgotten.
const TURNS_KEPT: usize = 1024;

/// Who moves shares of which pool, or of all pools of an envelope, in this engine.
/// Several may, and do no harm; they would do the same work.
#[derive(Default)]
pub(super) struct Turns(parking_lot::Mutex<HashMap<(EnvelopeId, Option<Bucket>), Weak<Mutex<()>>>>);

/// What shares are wanted for, and so what has to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// The pool has no share.
    Empty,
    /// The envelope is being ended, or its end has passed and nobody ended it.
    Ending,
}

/// An open transfer, as the reserve shows it.
struct Transfer {
    kind: u8,
    sequence: Vec<u8>,
    count: Vec<u8>,
    shares: Vec<u8>,
}

/// What the reserve answers to whoever wants to open a transfer.
enum Opened {
    /// This one is open, now or since before.
    Transfer(Transfer),
    /// The reserve has no share.
    Empty,
    /// The envelope has ended as told, or is about to.
    Ended(Vec<u8>),
    /// There is nothing to transfer any more.
    Done,
}

/// What came of looking whether an envelope's end is due.
pub(super) struct Ending {
    /// Whether anything was.
    pub(super) any: bool,
    /// How it has ended, if it has.
    how: Vec<u8>,
}

impl Turns {
    fn of(&self, id: EnvelopeId, pool: Option<Bucket>) -> Arc<Mutex<()>> {
        let mut turns = self.0.lock();
        if turns.len() >= TURNS_KEPT {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let known = turns.entry((id, pool)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let turn = Arc::default();
            *known = Arc::downgrade(&turn);
            turn
        })
    }
}

impl Core {
    /// A grab from the pool of the user's bucket. Whoever finds it without
    /// shares waits for some, or for the end to be told, and asks again.
    pub(super) async fn grab_from_pool(&self, id: EnvelopeId, user: &UserId, operation: &Operation) -> Result<Decided> {
        let since = Instant::now();
        for attempt in 0.. {
            if attempt > 1 {
                // What was moved here others have taken.
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            let payout = (id.is_auto_claim() && id.may_pay_outside()).then(|| self.claim_id(id, user));
            let keys =
                self.layout.pool_grab(id, user, payout.map(|payout| self.payout_keys(payout)), self.mark(operation));
            let mut args = self.grab_args(id, &[user]);
            payout.iter().for_each(|payout| args.push(&[payout.bytes()]));
            if operation.keep != Keep::Natural {
                args.push(&[&operation.keep.word()]);
            }
            let decided = match self.run_with(operation.bucket, &POOL_GRAB, keys, args, 1).await? {
                Value::BulkString(text) => grabbed(text)?,
                told => Decided::read(told, 0)?,
            };
            let Decided::New(Told { answer, .. }) = &decided else { return Ok(decided) };
            let lack = match (answer.tag(), answer.maybe(1)) {
                (b"no", Some(b"empty")) => Lack::Empty,
                (b"no", Some(b"closing" | b"ending")) => Lack::Ending,
                _ => {
                    if let Some(wanted) = answer.maybe(8).filter(|wanted| !wanted.is_empty()) {
                        self.refill(id, operation.bucket, wanted.to_vec()).await;
                    }
                    return Ok(decided);
                }
            };
            let left = self.mover_patience.saturating_sub(since.elapsed());
            if left.is_zero() {
                break;
            }
            self.wait_for_mover(id, operation.bucket, lack, left).await?;
        }
        Err(EngineError::Overloaded)
    }

    /// A claim of what was grabbed from a pool, or its credit at the deadline.
    pub(super) async fn claim_from_pool(
        &self,
        id: EnvelopeId,
        user: &UserId,
        operation: &Operation,
    ) -> Result<Decided> {
        let (layout, pool) = (&self.layout, operation.bucket);
        let keys =
            [layout.pool(pool, id), layout.pool_shares(pool, id), layout.pool_winners(pool, id), layout.wallet(user)];
        let payout = self.claim_id(id, user);
        let keys = keys.into_iter().chain(self.payout_keys(payout));
        self.ask(
            &POOL_CLAIM,
            operation,
            keys,
            [id.bytes().to_vec(), user.as_str().as_bytes().to_vec(), payout.bytes().to_vec()],
        )
        .await
    }

    /// Has shares moved, or the end told, unless somebody of this engine does
    /// so already; then waits until that is over.
    async fn wait_for_mover(&self, id: EnvelopeId, pool: Bucket, lack: Lack, left: Duration) -> Result<()> {
        let turn = self.turns.of(id, (lack == Lack::Empty).then_some(pool));
        let Ok(turn) = Arc::clone(&turn).try_lock_owned() else {
            drop(tokio::time::timeout(left, turn.lock()).await);
            return Ok(());
        };
        if self.is_fused() {
            return self.mend(id, pool, lack, turn).await;
        }
        // It goes on when its first waiter has given up: others wait for it, too.
        let core = self.shared();
        let mover = tokio::spawn(async move { core.mend(id, pool, lack, turn).await });
        match tokio::time::timeout(left, mover).await {
            Ok(Ok(moved)) => moved,
            Ok(Err(_)) => Err(EngineError::ShuttingDown),
            Err(_) => Ok(()),
        }
    }

    async fn mend(&self, id: EnvelopeId, pool: Bucket, lack: Lack, _turn: OwnedMutexGuard<()>) -> Result<()> {
        match lack {
            Lack::Empty => self.move_shares(id, pool).await,
            Lack::Ending => {
                let Ending { how, .. } = self.end_mass(id).await?;
                // Whoever ended it may have gone before all pools were told.
                if !how.is_empty() {
                    self.tell_pool(id, pool, how).await?;
                }
                Ok(())
            }
        }
    }

    /// Asks for more shares for a pool that has few, while nobody waits.
    async fn refill(&self, id: EnvelopeId, pool: Bucket, wanted: Vec<u8>) {
        let Ok(turn) = self.turns.of(id, Some(pool)).try_lock_owned() else { return };
        let core = self.shared();
        let refill = async move {
            let _turn = turn;
            if let Err(error) = core.grant_shares(id, pool, wanted).await {
                tracing::debug!(%error, "a pool is not refilled");
            }
        };
        // An engine that ends after so many calls makes them one after the other.
        if self.is_fused() {
            refill.await;
        } else {
            tokio::spawn(refill);
        }
    }

    /// Brings a share to a pool that has none; if there is none anywhere, that is found out.
    async fn move_shares(&self, id: EnvelopeId, pool: Bucket) -> Result<()> {
        if self.grant_shares(id, pool, WANTED.to_vec()).await? {
            return Ok(());
        }
        // One at a time: what one recalls the next may find.
        let turn = self.turns.of(id, None);
        let _turn = turn.lock().await;
        if self.grant_shares(id, pool, WANTED.to_vec()).await? {
            return Ok(());
        }
        let mut left = self.look_into_pools(id).await?;
        left.retain(|(_, left)| *left > 0);
        left.sort_unstable_by_key(|(pool, left)| (std::cmp::Reverse(*left), *pool));
        let mut missing = u64::from(self.layout.buckets).div_ceil(POOLS_A_RECALLED);
        let mut halves = HashMap::new();
        for (pool, left) in left {
            if missing == 0 {
                break;
            }
            let half = left.div_ceil(2);
            missing = missing.saturating_sub(half);
            halves.insert(pool, half);
        }
        self.recall_shares(id, halves).await?;
        self.grant_shares(id, pool, WANTED.to_vec()).await.map(drop)
    }

    /// Moves shares from pools to the reserve.
    async fn recall_shares(&self, id: EnvelopeId, halves: HashMap<Bucket, u64>) -> Result<()> {
        let halves = Arc::new(halves);
        let recalled = self.in_every_bucket(|core, pool| {
            let halves = Arc::clone(&halves);
            async move {
                let Some(half) = halves.get(&pool) else { return Ok(()) };
                let count = half.to_string().into_bytes();
                if let Opened::Transfer(transfer) = core.open_transfer(id, pool, b"recall", count).await? {
                    core.carry_transfer(id, pool, &transfer).await?;
                }
                Ok(())
            }
        });
        recalled.await.map(drop)
    }

    /// Moves shares from the reserve to a pool. `false` if the reserve has none.
    async fn grant_shares(&self, id: EnvelopeId, pool: Bucket, wanted: Vec<u8>) -> Result<bool> {
        match self.open_transfer(id, pool, b"grant", wanted).await? {
            Opened::Transfer(transfer) => self.carry_transfer(id, pool, &transfer).await?,
            Opened::Empty => return Ok(false),
            Opened::Ended(how) if how.is_empty() => _ = self.end_mass(id).await?,
            Opened::Ended(how) => self.tell_pool(id, pool, how).await?,
            Opened::Done => {}
        }
        Ok(true)
    }

    /// Finishes open transfers, and notes of every pool whether it is empty.
    /// Answers how many shares each has left.
    async fn look_into_pools(&self, id: EnvelopeId) -> Result<Vec<(Bucket, u64)>> {
        let home = self.layout.of_id(id.bytes());
        let row = self.read(home, &[self.layout.transfers(id)], &[b"row".to_vec()]).await?;
        let mut known = HashMap::new();
        for index in (0..row.len()).step_by(2) {
            if let Ok(pool) = row.text(index)?.parse() {
                known.insert(Bucket::new(pool), TransferRow::read(row.bytes(index + 1)?)?);
            }
        }
        let known = Arc::new(known);
        let looked = self.in_every_bucket(|core, pool| {
            let known = Arc::clone(&known);
            async move {
                match known.get(&pool) {
                    Some(last) if last.is_open() => core.finish_transfer(id, pool).await?,
                    Some(last) if last.was_empty() => return Ok((pool, 0)),
                    Some(_) | None => {}
                }
                let report = core.pool_script(id, pool, b"report", Vec::new()).await?;
                let Some(report) = report else { return Ok((pool, 0)) };
                if report.number(5)? == 0 {
                    core.note(id, pool, &report).await?;
                }
                Ok((pool, report.number(5)?))
            }
        });
        looked.await
    }

    /// Finishes the transfer that is open with a pool, if one is.
    pub(super) async fn finish_transfer(&self, id: EnvelopeId, pool: Bucket) -> Result<()> {
        match self.open_transfer(id, pool, b"peek", Vec::new()).await? {
            Opened::Transfer(transfer) => self.carry_transfer(id, pool, &transfer).await,
            Opened::Empty | Opened::Ended(_) | Opened::Done => Ok(()),
        }
    }

    async fn open_transfer(&self, id: EnvelopeId, pool: Bucket, verb: &[u8], count: Vec<u8>) -> Result<Opened> {
        let Told { answer, .. } = self.reserve(id, verb, [pool.number().to_string().into_bytes(), count]).await?;
        Ok(match (answer.tag(), answer.maybe(1)) {
            (b"transfer", Some(&[kind])) => Opened::Transfer(Transfer {
                kind,
                sequence: answer.bytes(2)?.to_vec(),
                count: answer.bytes(3)?.to_vec(),
                shares: answer.bytes(4)?.to_vec(),
            }),
            (b"no", Some(b"empty")) => Opened::Empty,
            (b"no", Some(b"ended")) => Opened::Ended(answer.bytes(2)?.to_vec()),
            (b"no", Some(b"done" | b"not_found")) => Opened::Done,
            _ => return Err(damaged("a transfer")),
        })
    }

    /// From the reserve to the pool, and what the pool reports back to the reserve.
    async fn carry_transfer(&self, id: EnvelopeId, pool: Bucket, transfer: &Transfer) -> Result<()> {
        let (verb, what): (&[u8], _) = match transfer.kind {
            b'g' => (b"take", &transfer.shares),
            b'r' => (b"give", &transfer.count),
            b'c' => (b"close", &transfer.count),
            b'l' => (b"lapse", &transfer.count),
            _ => return Err(damaged("a transfer")),
        };
        let args = vec![transfer.sequence.clone(), what.clone()];
        match self.pool_script(id, pool, verb, args).await? {
            Some(report) => self.note(id, pool, &report).await,
            None => Ok(()),
        }
    }

    /// `reserve note`; if that says that all is sold out, the pools are told.
    async fn note(&self, id: EnvelopeId, pool: Bucket, report: &Answer) -> Result<()> {
        let mut args = vec![pool.number().to_string().into_bytes()];
        for index in 1..6 {
            args.push(report.bytes(index)?.to_vec());
        }
        let Told { effects, .. } = self.reserve(id, b"note", args).await?;
        for effect in effects {
            self.tell_pools(&effect).await?;
            self.leave(self.layout.of_id(id.bytes()), effect.field);
        }
        Ok(())
    }

    /// Tells all pools how their envelope has ended.
    pub(super) async fn tell_pools(&self, effect: &Effect) -> Result<()> {
        let id = EnvelopeId::from_bytes(effect.id()?);
        let (_, words) = effect.words()?;
        let how: Arc<[u8]> = words.bytes(2)?.into();
        let told = self.in_every_bucket(|core, pool| {
            let how = Arc::clone(&how);
            async move { core.tell_pool(id, pool, how.to_vec()).await }
        });
        told.await.map(drop)
    }

    async fn tell_pool(&self, id: EnvelopeId, pool: Bucket, how: Vec<u8>) -> Result<()> {
        self.pool_script(id, pool, b"end", vec![how]).await.map(drop)
    }

    /// `None` if the pool has left Redis: whoever still carries something to it is late.
    async fn pool_script(
        &self,
        id: EnvelopeId,
        pool: Bucket,
        verb: &[u8],
        args: Vec<Vec<u8>>,
    ) -> Result<Option<Answer>> {
        let keys = [self.layout.pool(pool, id), self.layout.pool_shares(pool, id)];
        let mut args = args;
        args.insert(0, verb.to_vec());
        let answer = Answer::of_script(self.run(pool, &POOL, keys, args).await?)?;
        match answer.tag() {
            b"report" | b"done" => Ok(Some(answer)),
            b"absent" if self.may_have_left(id).await? => Ok(None),
            _ => Err(damaged("a pool")),
        }
    }

    async fn reserve(&self, id: EnvelopeId, verb: &[u8], args: impl IntoIterator<Item = Vec<u8>>) -> Result<Told> {
        let natural = Operation { id: [0; 16], keep: Keep::Natural, bucket: self.layout.of_id(id.bytes()) };
        match self.ask_reserve(id, verb, args, &natural).await? {
            Decided::New(told) => Ok(told),
            Decided::Kept(_) | Decided::Void => Err(damaged("a transfer")),
        }
    }

    async fn ask_reserve(
        &self,
        id: EnvelopeId,
        verb: &[u8],
        args: impl IntoIterator<Item = Vec<u8>>,
        operation: &Operation,
    ) -> Result<Decided> {
        let keys = [
            self.layout.envelope(id),
            self.layout.reserve(id),
            self.layout.transfers(id),
            self.layout.due(self.layout.of_id(id.bytes())),
            self.layout.settled(self.layout.of_id(id.bytes())),
        ];
        let args = [verb.to_vec(), id.bytes().to_vec()].into_iter().chain(args);
        self.ask(&RESERVE, operation, keys, args).await
    }

    /// Cancels a mass envelope: closes it, and tells the figures that are left.
    pub(super) async fn cancel_mass(&self, id: EnvelopeId, operation: &Operation) -> Result<Decided> {
        let decided = self.ask_reserve(id, b"cancel", [], operation).await?;
        match &decided {
            Decided::New(Told { answer, .. }) if answer.tag() == b"closing" => self.end_mass(id).await.map(drop)?,
            Decided::New(Told { answer, .. }) if answer.tag() == b"ended" => {}
            _ => return self.or_archived(operation, decided, self.archived_cancel(id)).await,
        }
        let figures = self.mass_figures(id).await?;
        let number = |number: u64| number.to_string().into_bytes();
        let args = [
            if figures.settled { b"1".to_vec() } else { Vec::new() },
            number(figures.taken.into()),
            number(figures.taken_amount.minor()),
            number(figures.claimed.minor()),
        ];
        let decided = self.ask_reserve(id, b"cancelled", args, operation).await?;
        self.or_archived(operation, decided, self.archived_cancel(id)).await
    }

    /// Does all that is due for a mass envelope: its end, its lapse or the
    /// credits of its winners.
    pub(super) async fn end_mass(&self, id: EnvelopeId) -> Result<Ending> {
        let mut any = false;
        loop {
            let Told { answer, .. } = self.reserve(id, b"due", []).await?;
            let last: &[u8] = match answer.tag() {
                b"closing" => {
                    self.transfer_all(id, b"close").await?;
                    b"resolve"
                }
                b"lapsing" => {
                    self.transfer_all(id, b"lapse").await?;
                    b"settle"
                }
                b"crediting" => {
                    self.credit_winners(id).await?;
                    b"credited"
                }
                b"no" => return Ok(Ending { any, how: answer.maybe(2).unwrap_or_default().to_vec() }),
                _ => return Err(damaged("an envelope")),
            };
            any = true;
            let Told { effects, .. } = self.reserve(id, last, []).await?;
            self.carry(self.layout.of_id(id.bytes()), effects).await?;
        }
    }

    /// Closes or lapses every pool, after whatever transfer is open with it.
    async fn transfer_all(&self, id: EnvelopeId, verb: &'static [u8]) -> Result<()> {
        let done = self.in_every_bucket(|core, pool| async move {
            while let Opened::Transfer(transfer) = core.open_transfer(id, pool, verb, Vec::new()).await? {
                core.carry_transfer(id, pool, &transfer).await?;
            }
            Ok(())
        });
        done.await.map(drop)
    }

    /// Credits what was not claimed in time to its winners.
    async fn credit_winners(&self, id: EnvelopeId) -> Result<()> {
        let credited = self.in_every_bucket(|core, pool| async move {
            let natural = Operation { id: [0; 16], keep: Keep::Natural, bucket: pool };
            let mut cursor = b"0".to_vec();
            loop {
                let found = core.scan_winners(id, pool, cursor).await?;
                for win in found.wins.iter().filter(|win| win.claimed_at.is_none()) {
                    core.claim_from_pool(id, &win.user, &natural).await?;
                }
                if found.is_last() {
                    return Ok(());
                }
                cursor = found.next;
            }
        });
        credited.await.map(drop)
    }
}

/// What `pool_grab.lua` says in one line; nothing it causes lies in another bucket.
fn grabbed(text: Vec<u8>) -> Result<Decided> {
    let answer = Answer::split(text, 10);
    let at = if answer.tag() == b"won" { answer.at(9)? } else { Timestamp::default() };
    Ok(Decided::New(Told { at, answer, effects: Vec::new() }))
}

#[cfg(test)]
mod tests;
