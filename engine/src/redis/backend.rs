//! The engine in front of Redis: opening it, and what its parts share.
//!
//! **Invariant:** it keeps nothing of its own that has to outlive it: any number
//! of engines stand before one deployment, and any of them may end at any time.

use super::archive::{Archived, Archiving, NOTED, archive_of, note_archive};
use super::attach::other_format;
use super::bucket::Bucket;
use super::copy::{MARK, refusal};
use super::effects::{Arrived, Generations};
use super::error::RedisOpenError;
use super::events::{KnownFacts, RedisEvents};
use super::lane::Words;
use super::layout::{FORMAT, Key, Layout};
use super::nodes::Nodes;
use super::options::RedisOptions;
use super::pools::Turns;
use super::reply::{Answer, Decided, damaged, is_late};
use super::script::Script;
use super::scripts::SETTINGS;
use super::sweep::blind;
use crate::address::{AddressKeys, AddressOptions};
use crate::clock::{Clock, SystemClock};
use crate::creates::CreatesCap;
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::EngineError;
use crate::feed::cursor::Seal;
use crate::memory::option_of;
use crate::types::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

pub(super) type Result<T> = std::result::Result<T, EngineError>;

/// How an engine in front of Redis is opened.
#[derive(Clone)]
pub struct RedisBackendOptions {
    /// The servers.
    pub redis: RedisOptions,
    /// The currency of all amounts, fixed at the deployment's first start.
    pub currency: String,
    /// Whether this is a test deployment, whose clock can be moved; fixed at its first start.
    pub test_mode: bool,
    /// Which events are told, and for how long.
    pub events: RedisEvents,
    /// How many envelopes a sender may make in a day; `None` is no cap. The same for
    /// all engines of the deployment.
    pub creates: Option<CreatesCap>,
    /// How addresses of gifts are kept; without it none is taken. The same key for all engines
    /// of the deployment.
    pub addresses: Option<AddressOptions>,
    /// Where time comes from; `None` is the system's clocks.
    pub clock: Option<Arc<dyn Clock>>,
    /// Where ids and secrets come from.
    pub entropy: Arc<dyn Entropy>,
    /// How often what is due is looked for; `None` leaves it to [`RedisBackend::sweep`].
    pub sweep_every: Option<Duration>,
    /// How long a grab waits for shares to be moved, and for an end to be told,
    /// before it is refused as overload.
    #[doc(hidden)]
    pub mover_patience: Duration,
    /// Ends the engine in the middle, for tests.
    #[doc(hidden)]
    pub fuse: Option<Arc<Fuse>>,
}

/// After so many calls an engine's others do not reach Redis any more, as if
/// it had been killed there.
#[doc(hidden)]
#[derive(Debug)]
pub struct Fuse {
    /// Calls that still reach it.
    pub calls_left: AtomicI64,
    /// Whether the last of them is carried out and its answer lost.
    pub loses_answer: bool,
}

impl Default for RedisBackendOptions {
    fn default() -> RedisBackendOptions {
        RedisBackendOptions {
            redis: RedisOptions::default(),
            currency: "CNY".to_owned(),
            test_mode: false,
            events: RedisEvents::default(),
            creates: None,
            addresses: None,
            clock: None,
            entropy: Arc::new(SystemEntropy),
            sweep_every: Some(Duration::from_secs(1)),
            mover_patience: Duration::from_millis(250),
            fuse: None,
        }
    }
}

/// An engine whose state is in Redis.
pub struct RedisBackend {
    pub(super) core: Arc<Core>,
    /// The sweeper, and who empties outboxes.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What commands, reads and the sweeper share.
pub(super) struct Core {
    pub(super) nodes: Nodes,
    pub(super) layout: Layout,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) fingerprint_secret: [u8; 32],
    pub(super) test_mode: bool,
    /// Effects that have arrived and may leave their outbox.
    pub(super) arrived: mpsc::UnboundedSender<Arrived>,
    pub(super) mover_patience: Duration,
    pub(super) turns: Turns,
    pub(super) generations: Generations,
    pub(super) archive: Archived,
    pub(super) archiving: Archiving,
    pub(super) events: RedisEvents,
    pub(super) creates: Option<CreatesCap>,
    pub(super) addresses: Option<AddressKeys>,
    /// Of the feed's cursors.
    pub(super) seal: Seal,
    pub(super) known_facts: KnownFacts,
    /// Whether something may have been archived that it cannot read.
    pub(super) is_blind: AtomicBool,
    fuse: Option<Arc<Fuse>>,
    /// Itself, for what goes on when its caller does not wait any more.
    me: Weak<Core>,
    /// How far a test deployment's clock is known to have been moved.
    advanced_ms: Mutex<u64>,
    /// Why the last tour of the sweeper failed, if it did.
    pub(super) unready: Mutex<Option<String>>,
    /// How many payouts were due, sent and failed at the last tour.
    pub(super) payouts_counted: Mutex<[u64; 3]>,
}

/// An operation: what a command does is done at most once under its id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) id: [u8; 16],
    pub(super) keep: Keep,
    /// Where it is decided.
    pub(super) bucket: Bucket,
}

/// How long an operation's answer is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Not at all: what it did says that it was done.
    Natural,
    /// As long as a call may arrive again because its answer was lost.
    Repeats,
    /// As long as an idempotency key counts, and a day.
    Once,
    /// For ever, under a reference.
    Ever,
}

/// A call that is refused for its time after so long was not wrong about the time.
const LATE: Duration = Duration::from_secs(1);

/// A mass envelope has at least so many shares for each pool.
const SHARES_A_POOL_MIN: u32 = 64;

/// Buckets that are asked at once when all are.
pub(super) const ASKED_AT_ONCE: usize = 128;

pub(super) const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

impl Keep {
    /// As scripts take it.
    pub(super) fn word(self) -> Vec<u8> {
        match self {
            Keep::Natural => b"-".to_vec(),
            // Scripts refuse times more than two seconds off, so no call is older.
            Keep::Repeats => HOUR_MS.to_string().into_bytes(),
            Keep::Once => (9 * DAY_MS).to_string().into_bytes(),
            Keep::Ever => b"0".to_vec(),
        }
    }
}

impl RedisBackend {
    /// Opens an engine, and makes the deployment if it is the first. Must run
    /// within a tokio runtime, which has to outlive the engine.
    ///
    /// # Errors
    /// [`RedisOpenError`] says what is wrong and what to do.
    pub async fn open(options: RedisBackendOptions) -> std::result::Result<RedisBackend, RedisOpenError> {
        let nodes = Nodes::connect(&options.redis).await?;
        let mut layout = layout_of(&options.redis);
        if nodes.buckets_mix() && options.redis.mass_shares_min.is_none() {
            // Pools spread grabs over primaries. Where there is one, they only cost.
            layout.mass_shares_min = u32::MAX;
        }
        let mut secret = [0; 32];
        options.entropy.fill(&mut secret);
        let mut settled = settle_settings(&nodes, &layout, &options, &secret).await?;
        if options.redis.archive.is_some() && !settled.contains_key(NOTED) {
            settled = note_archive(&nodes, &layout, &options, settled).await?;
        }
        let engine = RedisBackend::over(nodes, layout, options, &settled)?;
        let tended = engine.core.tend_all_events().await;
        tended.map_err(|error| RedisOpenError::Deployment { why: error.to_string() })?;
        if !engine.core.is_fused() {
            engine.core.take_up_addresses().await?;
        }
        Ok(engine)
    }

    /// An engine in front of a deployment whose settings are these.
    pub(super) fn over(
        nodes: Nodes,
        layout: Layout,
        options: RedisBackendOptions,
        settled: &Settled,
    ) -> std::result::Result<RedisBackend, RedisOpenError> {
        let fingerprint_secret = setting(settled, "secret")?;
        let advanced_ms = settled
            .get("advanced")
            .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
            .ok_or_else(|| RedisOpenError::Deployment { why: damaged("the deployment").to_string() })?;
        let (archive, archiving) = archive_of(&options, &layout, settled, &fingerprint_secret)?;
        let clock = options
            .clock
            .unwrap_or_else(|| Arc::new(SystemClock::start(advanced_ms, Timestamp::default())) as Arc<dyn Clock>);
        let (arrived, leaving) = mpsc::unbounded_channel();
        let core = Arc::new_cyclic(|me| Core {
            me: Weak::clone(me),
            mover_patience: options.mover_patience,
            turns: Turns::default(),
            generations: Generations::of(layout.buckets),
            archive,
            archiving,
            events: options.events,
            creates: options.creates.clone(),
            addresses: options.addresses.map(|asked| AddressKeys::new(asked, Arc::clone(&options.entropy))),
            seal: Seal::new(&fingerprint_secret),
            known_facts: KnownFacts::default(),
            is_blind: AtomicBool::new(false),
            nodes,
            layout,
            clock,
            entropy: options.entropy,
            fingerprint_secret,
            test_mode: options.test_mode,
            arrived,
            fuse: options.fuse,
            advanced_ms: Mutex::new(advanced_ms),
            unready: Mutex::default(),
            payouts_counted: Mutex::default(),
        });
        let mut tasks = vec![tokio::spawn(Arc::clone(&core).empty_outboxes(leaving))];
        tasks.extend(options.sweep_every.map(|every| tokio::spawn(Arc::clone(&core).keep_sweeping(every))));
        Ok(RedisBackend { core, tasks: Mutex::new(tasks) })
    }

    /// Does what is due in all buckets, and what ended engines have left in the
    /// middle. Says whether there was anything.
    ///
    /// # Errors
    /// [`EngineError`] when it cannot be done now.
    pub async fn sweep(&self) -> Result<bool> {
        self.core.sweep().await
    }

    /// How many payouts were due, sent and failed when the sweeper last looked.
    pub fn payouts_counted(&self) -> [u64; 3] {
        *self.core.payouts_counted.lock()
    }

    /// Forgets events that are kept no longer.
    ///
    /// # Errors
    /// [`EngineError`] when it cannot be done now.
    pub async fn forget_events(&self) -> Result<()> {
        self.core.tend_all_events().await
    }

    /// Why deadlines stand still, if they do.
    pub fn clock_alarm(&self) -> Option<String> {
        self.core.clock.alarm()
    }

    /// Ends the sweeper. What it leaves others do.
    pub fn close(&self) {
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }
}

impl Drop for RedisBackend {
    fn drop(&mut self) {
        self.close();
    }
}

/// What was fixed when a deployment was made, by name.
pub(super) type Settled = HashMap<String, Vec<u8>>;

/// What was fixed at the first start, which may be this one.
async fn settle_settings(
    nodes: &Nodes,
    layout: &Layout,
    options: &RedisBackendOptions,
    secret: &[u8; 32],
) -> std::result::Result<Settled, RedisOpenError> {
    let failed = |error: EngineError| RedisOpenError::Deployment { why: error.to_string() };
    let buckets = layout.buckets.to_string();
    let asked = [
        ("format", FORMAT.as_bytes()),
        ("buckets", buckets.as_bytes()),
        ("currency", options.currency.as_bytes()),
        ("mode", if options.test_mode { b"test" } else { b"live" }),
        ("secret", secret),
        ("advanced", b"0"),
    ];
    let words = asked.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.to_vec()]).collect::<Vec<_>>();
    let value = nodes.call(Layout::COMMON, &SETTINGS, &[layout.deployment()], &words, true).await.map_err(failed)?;
    let settled = Answer::read(value).and_then(|answer| named(&answer)).map_err(failed)?;
    if let Some(mark) = settled.get(MARK) {
        return Err(refusal(&layout.prefix, mark));
    }
    for (name, value) in &asked[..4] {
        let made = settled.get(*name).map(Vec::as_slice).unwrap_or_default();
        if made != *value && *name == "format" {
            return Err(other_format(&String::from_utf8_lossy(made)));
        }
        if made != *value {
            let (made, asked) = (String::from_utf8_lossy(made), String::from_utf8_lossy(value));
            return Err(RedisOpenError::Deployment {
                why: format!(
                    "the deployment under the key prefix {:?} was made with {name} = {made}, not {asked}; \
                     use another prefix, or start the server {}",
                    layout.prefix,
                    option_of(name, &made)
                ),
            });
        }
    }
    Ok(settled)
}

/// Where everything lies in a deployment of these options.
pub(super) fn layout_of(options: &RedisOptions) -> Layout {
    let mass_shares_min = options.mass_shares_min.unwrap_or(SHARES_A_POOL_MIN * u32::from(options.buckets));
    Layout { prefix: options.key_prefix.clone(), buckets: options.buckets, mass_shares_min }
}

/// Names and values, one after the other.
pub(super) fn named(answer: &Answer) -> Result<Settled> {
    let pairs = (0..answer.len()).step_by(2);
    pairs.map(|index| Ok((answer.text(index)?.to_owned(), answer.bytes(index + 1)?.to_vec()))).collect()
}

pub(super) fn setting<const N: usize>(settled: &Settled, name: &str) -> std::result::Result<[u8; N], RedisOpenError> {
    let value = settled.get(name).and_then(|value| value.as_slice().try_into().ok());
    value.ok_or_else(|| RedisOpenError::Deployment { why: damaged("the deployment").to_string() })
}

impl Core {
    /// The words that every deciding script begins with.
    pub(super) fn preamble(&self) -> [Vec<u8>; 2] {
        let mode: &[u8] = if self.test_mode { b"test" } else { b"live" };
        [self.clock.now().ms().to_string().into_bytes(), mode.to_vec()]
    }

    /// Itself, to be shared with a task.
    pub(super) fn shared(&self) -> Arc<Core> {
        self.me.upgrade().expect("whoever calls it keeps it alive")
    }

    /// Whether it ends after so many calls.
    pub(super) fn is_fused(&self) -> bool {
        self.fuse.is_some()
    }

    /// Runs a script.
    pub(super) async fn call(
        &self,
        bucket: Bucket,
        script: &'static Script,
        keys: &[Key],
        args: &[Vec<u8>],
        confirm: bool,
    ) -> Result<redis::Value> {
        self.call_with(bucket, script, Words::of(keys), Words::of(args), 1, confirm).await
    }

    /// The same, with keys and arguments that were put together for so many decisions.
    pub(super) async fn call_with(
        &self,
        bucket: Bucket,
        script: &'static Script,
        keys: Words,
        args: Words,
        decisions: usize,
        confirm: bool,
    ) -> Result<redis::Value> {
        if self.is_blind.load(Ordering::Relaxed) {
            return Err(blind());
        }
        let Some(fuse) = &self.fuse else {
            return self.nodes.call_with(bucket, script, keys, args, decisions, confirm).await;
        };
        let left = fuse.calls_left.fetch_sub(1, Ordering::Relaxed);
        let blown = || EngineError::Unconfirmed("the fuse has blown".to_owned());
        if left <= 0 {
            return Err(blown());
        }
        let value = self.nodes.call_with(bucket, script, keys, args, decisions, confirm).await?;
        if left == 1 && fuse.loses_answer { Err(blown()) } else { Ok(value) }
    }

    /// Asks in every bucket, in many at once, so that the questions travel together.
    pub(super) async fn in_every_bucket<T, F>(&self, ask: impl Fn(Arc<Core>, Bucket) -> F) -> Result<Vec<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut answers = Vec::with_capacity(usize::from(self.layout.buckets));
        self.in_buckets(self.layout.all(), ask, |answer| answers.push(answer)).await?;
        Ok(answers)
    }

    /// The same in some buckets, each answer given to `take` as it comes.
    pub(super) async fn in_buckets<T, F>(
        &self,
        mut buckets: impl Iterator<Item = Bucket>,
        ask: impl Fn(Arc<Core>, Bucket) -> F,
        mut take: impl FnMut(T),
    ) -> Result<()>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let shared = self.shared();
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < ASKED_AT_ONCE
                && let Some(bucket) = buckets.next()
            {
                asked.spawn(ask(Arc::clone(&shared), bucket));
            }
            match asked.join_next().await {
                None => return Ok(()),
                Some(Ok(answer)) => take(answer?),
                Some(Err(ended)) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Err(EngineError::ShuttingDown),
                },
            }
        }
    }

    /// Runs a script that begins with the prelude.
    pub(super) async fn run(
        &self,
        bucket: Bucket,
        script: &'static Script,
        keys: impl IntoIterator<Item = Key>,
        args: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<redis::Value> {
        let keys: Vec<Key> = [self.layout.sums(bucket)].into_iter().chain(keys).collect();
        let args: Vec<Vec<u8>> = self.preamble().into_iter().chain(args).collect();
        self.run_with(bucket, script, Words::of(&keys), Words::of(&args), 1).await
    }

    /// The same, with keys and arguments that were put together for so many decisions.
    pub(super) async fn run_with(
        &self,
        bucket: Bucket,
        script: &'static Script,
        keys: Words,
        args: Words,
        decisions: usize,
    ) -> Result<redis::Value> {
        let asked = Instant::now();
        let value = self.call_with(bucket, script, keys, args, decisions, true).await?;
        // Asked again for so long that its time is over, it may have been carried out the first time.
        if asked.elapsed() >= LATE && is_late(&value) {
            return Err(EngineError::Unconfirmed("Redis did not answer in time".to_owned()));
        }
        Ok(value)
    }

    /// Runs a script that decides, under an operation. Its effects are still to be carried.
    pub(super) async fn ask(
        &self,
        script: &'static Script,
        operation: &Operation,
        keys: impl IntoIterator<Item = Key>,
        args: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Decided> {
        let bucket = operation.bucket;
        let read_in = self.generations.get(bucket);
        let before = [self.layout.operation(bucket, &operation.id), self.layout.outbox(bucket)];
        let value = self
            .run(bucket, script, before.into_iter().chain(keys), [operation.keep.word()].into_iter().chain(args))
            .await?;
        Decided::read(value, read_in)
    }

    /// Looks at what an operation is about, before it is decided by that; confirmed only if asked for.
    pub(super) async fn look_at(
        &self,
        script: &'static Script,
        operation: &Operation,
        keys: impl IntoIterator<Item = Key>,
        about: impl IntoIterator<Item = Vec<u8>>,
        confirm: bool,
    ) -> Result<Decided> {
        let (bucket, layout) = (operation.bucket, &self.layout);
        let read_in = self.generations.get(bucket);
        let before = [layout.sums(bucket), layout.operation(bucket, &operation.id), layout.outbox(bucket)];
        let keys: Vec<Key> = before.into_iter().chain(keys).collect();
        let args = [operation.keep.word()].into_iter().chain(about);
        let args: Vec<Vec<u8>> = self.preamble().into_iter().chain(args).collect();
        let value = self.call_with(bucket, script, Words::of(&keys), Words::of(&args), 1, confirm).await?;
        Decided::read(value, read_in)
    }

    /// Moves this engine's clock to where a test deployment's has been moved.
    pub(super) fn catch_up(&self, advanced_ms: u64) {
        let mut known = self.advanced_ms.lock();
        if advanced_ms > *known {
            self.clock.advance(advanced_ms - *known);
            *known = advanced_ms;
        }
    }

    pub(super) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// Random but for the two bytes that lead to the same bucket.
    pub(super) fn random_beside(&self, id: &[u8; 16]) -> [u8; 16] {
        let mut bytes = self.random::<16>();
        bytes[..2].copy_from_slice(&id[..2]);
        bytes
    }
}
