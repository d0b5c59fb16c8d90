//! What happens by itself: deadlines, and what ended engines left in the middle.
//!
//! Every engine visits every bucket, and all that it does there is idempotent:
//! nobody has to know of the others.
//!
//! **Invariant:** a deadline is kept by the same scripts that decide commands,
//! so Redis's order of scripts decides every race between them.

use super::archive::NOTED;
use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::layout::{Layout, is_mass};
use super::reply::{Answer, Decided, Effect, Told, damaged, effects, parts};
use super::scripts::{ENVELOPE_DUE, HOLD_DUE, MERCHANT, READ, TOUR};
use crate::error::EngineError;
use crate::payout::PayoutState;
use crate::types::{EnvelopeId, GiftId, ItemId, UserId};
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Deadlines and effects taken from a bucket at a time.
const TAKEN_MAX: usize = 64;

/// The states of payouts that are counted: somebody has to see to these.
const WITHOUT_AN_END: [PayoutState; 3] = [PayoutState::Due, PayoutState::Sent, PayoutState::Failed];

/// How often it is looked for events that need not be kept any more.
const TEND_EVENTS: Duration = Duration::from_secs(10);

/// What a tour found in a bucket.
struct Swept {
    bucket: Bucket,
    any: bool,
    /// Whether there is something to archive.
    settled: bool,
    /// Whether files of Redis may have what was erased.
    erased: bool,
    /// How many payouts are due, sent and failed.
    payouts: [u64; 3],
}

/// What a tour of all buckets found.
pub(super) struct Tour {
    /// Whether anything was to be done.
    any: bool,
    /// Buckets that have something to archive.
    settled: Vec<Bucket>,
    /// Buckets of which files may have what was erased.
    erased: Vec<Bucket>,
}

/// What a look at a bucket found.
struct Around {
    /// Deadlines that have passed.
    due: Answer,
    /// Effects that wait.
    waiting: Vec<Effect>,
    settled: bool,
    erased: bool,
    payouts: [u64; 3],
}

/// Why an engine answers nothing that does not know of the archive.
pub(super) fn blind() -> EngineError {
    EngineError::OperatorNeeded(
        "envelopes of this deployment are archived, and this server was started without the archive: start it again \
         with --redis-archive DIR"
            .to_owned(),
    )
}

/// Why an engine does not serve, for the one who runs it.
pub(super) fn waits_for_redis(why: &str) -> String {
    format!("{why}; look at Redis and the way there, it goes on by itself once it answers")
}

impl Core {
    /// The sweeper's life.
    pub(super) async fn keep_sweeping(self: Arc<Self>, every: Duration) {
        // Archiving may take minutes, and deadlines do not wait for it. It ends with the sweeper.
        let mut archiving = JoinSet::new();
        let mut rewriting = JoinSet::new();
        let mut tended = Instant::now();
        loop {
            self.clock.check();
            let began = Instant::now();
            let swept = self.sweep_buckets().await;
            let why = swept.as_ref().err().map(|error| match error {
                EngineError::NotReady(why) | EngineError::Unconfirmed(why) => waits_for_redis(why),
                error => error.to_string(),
            });
            if why.is_none() {
                self.nodes.absence().all_answered(began);
            }
            if let Some(why) = &why {
                tracing::warn!(why, "what is due has to wait");
            }
            *self.unready.lock() = why;
            while archiving.try_join_next().is_some() {}
            while rewriting.try_join_next().is_some() {}
            let (settled, erased) = swept.map(|tour| (tour.settled, tour.erased)).unwrap_or_default();
            if archiving.is_empty() && !settled.is_empty() {
                let core = Arc::clone(&self);
                archiving.spawn(async move {
                    if let Err(error) = core.archive_settled(settled).await {
                        tracing::warn!(%error, "what is settled stays in Redis for now");
                    }
                });
            }
            if rewriting.is_empty() && !erased.is_empty() {
                let core = Arc::clone(&self);
                rewriting.spawn(async move {
                    if let Err(error) = core.rewrite_files(erased).await {
                        tracing::warn!(%error, "what was erased or taken back stays in files of Redis for now");
                    }
                });
            }
            if tended.elapsed() >= TEND_EVENTS {
                tended = Instant::now();
                if let Err(error) = self.tend_all_events().await {
                    tracing::debug!(%error, "events are forgotten later");
                }
            }
            tokio::time::sleep(every).await;
        }
    }

    /// One tour of all buckets, archiving among it, and files that are written anew. Says whether
    /// anything was to be done.
    pub(super) async fn sweep(self: &Arc<Self>) -> Result<bool> {
        let Tour { any, settled, erased } = self.sweep_buckets().await?;
        self.rewrite_files(erased).await?;
        Ok(any | self.archive_settled(settled).await?)
    }

    /// The same but what takes long.
    async fn sweep_buckets(self: &Arc<Self>) -> Result<Tour> {
        self.look_at_deployment().await?;
        let swept = self.in_every_bucket(|core, bucket| async move { core.sweep_bucket(bucket).await }).await?;
        let any = swept.iter().any(|swept| swept.any);
        *self.payouts_counted.lock() =
            [0, 1, 2].map(|state| swept.iter().map(|swept| swept.payouts[state]).sum::<u64>());
        let those =
            |has: fn(&Swept) -> bool| swept.iter().filter(|swept| has(swept)).map(|swept| swept.bucket).collect();
        Ok(Tour { any, settled: those(|swept| swept.settled), erased: those(|swept| swept.erased) })
    }

    /// How far a test deployment's clock has been moved, and whether something
    /// may have been archived that this engine cannot read.
    async fn look_at_deployment(&self) -> Result<()> {
        let args = ["row", "advanced", NOTED].map(|word| word.as_bytes().to_vec());
        let value = self.nodes.call(Layout::COMMON, &READ, &[self.layout.deployment()], &args, false).await?;
        let row = Answer::read(value)?;
        if self.test_mode {
            self.catch_up(row.number(0)?);
        }
        let is_blind = self.archive.is_none() && row.maybe(1).is_some();
        self.is_blind.store(is_blind, Ordering::Relaxed);
        if is_blind { Err(blind()) } else { Ok(()) }
    }

    async fn sweep_bucket(&self, bucket: Bucket) -> Result<Swept> {
        // Most buckets have nothing, and only what is carried has to be confirmed first.
        let mut around = self.look_around(bucket, false).await?;
        let mut any = !around.waiting.is_empty();
        if any {
            around = self.look_around(bucket, true).await?;
        }
        let Around { due, waiting, settled, erased, payouts } = around;
        self.carry_out(bucket, waiting).await?;
        let (mut gifts, mut addresses) = (Vec::new(), Vec::new());
        for index in 0..due.len() {
            let (kind, id) = due.bytes(index)?.split_first().ok_or_else(|| damaged("a deadline"))?;
            if *kind == b'm' {
                any |= self.settle_sales(bucket, &user_of(id)?).await?;
                continue;
            }
            let id: [u8; 16] = id.try_into().map_err(|_| damaged("a deadline"))?;
            any |= match kind {
                b'e' if is_mass(EnvelopeId::from_bytes(id)) => self.end_mass(EnvelopeId::from_bytes(id)).await?.any,
                b'e' => self.settle_envelope(bucket, EnvelopeId::from_bytes(id)).await?,
                b'i' => self.release_due(bucket, ItemId::from_bytes(id)).await?,
                b'g' => {
                    gifts.push(GiftId::from_bytes(id));
                    false
                }
                b'a' => {
                    addresses.push(GiftId::from_bytes(id));
                    false
                }
                _ => return Err(damaged("a deadline")),
            };
        }
        // Each has its own deadline, and many may have it together.
        let ended = gifts.into_iter().map(|id| self.end_gift(bucket, id));
        any |= try_join_all(ended).await?.into_iter().any(|any| any);
        let ended = addresses.into_iter().map(|id| self.end_address(bucket, id));
        any |= try_join_all(ended).await?.into_iter().any(|any| any);
        Ok(Swept { bucket, any, settled, erased, payouts })
    }

    async fn look_around(&self, bucket: Bucket, confirm: bool) -> Result<Around> {
        let [due, sent, failed] = WITHOUT_AN_END.map(|state| self.layout.payouts_in(bucket, state));
        let layout = &self.layout;
        let (first, outbox, settled) = (layout.due(bucket), layout.outbox(bucket), layout.settled(bucket));
        let keys = [first, outbox, settled, due, sent, failed, layout.erased(bucket)];
        let until = self.archives_until().map(|until| until.ms().to_string().into_bytes());
        let args = [
            self.clock.now().ms().to_string().into_bytes(),
            TAKEN_MAX.to_string().into_bytes(),
            until.unwrap_or_default(),
        ];
        let read_in = self.generations.get(bucket);
        let mut found = parts(self.call(bucket, &TOUR, &keys, &args, confirm).await?)?.into_iter();
        let (Some(due), Some(waiting)) = (found.next(), found.next()) else { return Err(damaged("a tour")) };
        let counted = Answer::read(redis::Value::Array(found.collect()))?;
        let payouts = [counted.number(1)?, counted.number(2)?, counted.number(3)?];
        let (settled, erased) = (counted.number(0)? > 0, counted.number(4)? > 0);
        Ok(Around { due: Answer::read(due)?, waiting: effects(waiting, read_in)?, settled, erased, payouts })
    }

    /// Expires an envelope, and lapses or credits what was not claimed: whatever is due.
    async fn settle_envelope(&self, bucket: Bucket, id: EnvelopeId) -> Result<bool> {
        let operation = Operation { id: [0; 16], keep: Keep::Natural, bucket };
        let mut any = false;
        loop {
            let args = [b"due".to_vec(), id.bytes().to_vec(), Vec::new()];
            match self.ask(&ENVELOPE_DUE, &operation, self.envelope_keys(id), args).await? {
                Decided::New(Told { answer, effects, .. }) if answer.tag() == b"done" => {
                    any = true;
                    self.carry_out(bucket, effects).await?;
                }
                _ => return Ok(any),
            }
        }
    }

    /// Settles what is due to a merchant.
    async fn settle_sales(&self, bucket: Bucket, merchant: &UserId) -> Result<bool> {
        let operation = Operation { id: [0; 16], keep: Keep::Natural, bucket };
        let mut any = false;
        loop {
            match self.ask(&MERCHANT, &operation, self.merchant_keys(merchant), [b"settle".to_vec()]).await? {
                Decided::New(Told { answer, .. }) if answer.tag() == b"done" => any = true,
                _ => return Ok(any),
            }
        }
    }

    /// Gives back the units of all holds of an item that are due.
    async fn release_due(&self, bucket: Bucket, id: ItemId) -> Result<bool> {
        let operation = Operation { id: [0; 16], keep: Keep::Natural, bucket };
        let mut any = false;
        loop {
            let args = [b"due".to_vec(), id.bytes().to_vec(), Vec::new(), Vec::new()];
            match self.ask(&HOLD_DUE, &operation, self.hold_keys(id), args).await? {
                Decided::New(Told { answer, .. }) if answer.tag() == b"done" => any = true,
                _ => return Ok(any),
            }
        }
    }
}

fn user_of(name: &[u8]) -> Result<UserId> {
    let name = std::str::from_utf8(name).ok().and_then(|name| UserId::new(name).ok());
    name.ok_or_else(|| damaged("a deadline"))
}
