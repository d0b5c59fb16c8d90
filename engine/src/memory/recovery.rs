//! From disk to serving: lock the directory, load what is live from the store,
//! replay the journal's tail, look at the clock, sweep what is due.
//!
//! **Invariant:** start-up costs what is live plus the journal's tail, never
//! what ever was.
//!
//! **Invariant:** replay applies records with the same function as the running
//! engine, in the journal's order, from exactly where the store ends.

use super::addresses::Addresses;
use super::cold::store_failed;
use super::settings::{Settings, option_of};
use super::{CLOSING, Core, Durable, Embedded, EngineStats, Log, NOT_READY, SERVING, Unshared, housekeeping};
use crate::address::AddressOptions;
use crate::backup;
use crate::clock::{Clock, DRIFT_MAX_MS, SystemClock};
use crate::creates::{CreatesCap, MadeInDay};
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::EngineError;
use crate::event::{Event, Record};
use crate::feed::cursor::Seal;
use crate::feed::histories::Histories;
use crate::journal::{self, Journal, JournalError, JournalOptions, Recovery};
use crate::migrate::{MIGRATION, migrate};
use crate::mutants::{Mutant, is_planted};
use crate::notes::NoteFiles;
use crate::state::envelope::Envelope;
use crate::state::ledger::{MerchantAccount, Wallet};
use crate::state::stock::Item;
use crate::state::{Router, Shard, apply};
use crate::storage::{Directory, Storage};
use crate::store::{
    DurableBatch, FjallOptions, FjallRows, Projector, ProjectorOptions, RecordSource, Replayed, Rows, Store,
    StoreError, damaged_win,
};
use crate::types::{Lsn, Timestamp};
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// How an engine is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Parts of the state, a power of two. May differ from start to start.
    pub shards: usize,
    /// The journal's options.
    pub journal: JournalOptions,
    /// The store's options.
    pub store: FjallOptions,
    /// The projector's options.
    pub projector: ProjectorOptions,
    /// The currency of all amounts, fixed at the first start.
    pub currency: String,
    /// Whether this is a test deployment, whose clock can be moved; fixed at the first start.
    pub test_mode: bool,
    /// A longer time without a record makes the engine wait for an operator,
    /// seconds, if there are deadlines that would pass by it.
    pub downtime_s_max: u64,
    /// Where time comes from; `None` is the system's clocks.
    pub clock: Option<Arc<dyn Clock>>,
    /// Where ids and secrets come from.
    pub entropy: Arc<dyn Entropy>,
    /// How long events can be read again, seconds, if so much of the journal is kept (`journal.kept_bytes_max`). That is
    /// nothing unless it is set: then they go with what the journal needs no more, at the latest when the engine is closed,
    /// and older cursors are [`EngineError::CursorGone`]. Whoever follows events over a close sets both.
    pub events_kept_s: u64,
    /// How many envelopes a sender may make in a day; `None` is no cap.
    pub creates: Option<CreatesCap>,
    /// How addresses of gifts are kept; without it none are taken.
    pub addresses: Option<AddressOptions>,
    /// Whether deadlines are kept by a thread; without one
    /// [`Embedded::tick`] does it.
    pub threaded: bool,
    /// Whether a directory of an older form is brought to this build's first. What stood there is set aside.
    pub migrate: bool,
}

impl Default for EmbeddedOptions {
    fn default() -> EmbeddedOptions {
        EmbeddedOptions {
            shards: 64,
            journal: JournalOptions::default(),
            store: FjallOptions::default(),
            projector: ProjectorOptions::default(),
            currency: "CNY".to_owned(),
            test_mode: false,
            downtime_s_max: 3 * 86_400,
            clock: None,
            entropy: Arc::new(SystemEntropy),
            events_kept_s: 3 * 86_400,
            creates: None,
            addresses: None,
            threaded: true,
            migrate: false,
        }
    }
}

/// Appears when an operator has accepted the clock.
const ACCEPT_FILE: &str = "clock.accept";
/// Stands in a directory until a copy into it has been audited.
pub(crate) const BEING_COPIED: &str = "copying";

/// Why an engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error("cannot use {path}: {source}; check that it exists and may be written")]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("{0} is in use by another process; stop that one first, or use another directory")]
    Locked(PathBuf),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is lost, or older than the journal.
    #[error(
        "the store in {} is lost, or older than the journal: record {} is the next it needs, and the journal begins with \
         record {}. {}",
        directory.join("store").display(), needed.0, first.0, anew(directory, archive.as_deref())
    )]
    StoreBehind {
        /// Where store and journal are.
        directory: PathBuf,
        /// The first record of the journal.
        first: Lsn,
        /// What follows the last record that the store has.
        needed: Lsn,
        /// Where full segments are kept, if it was said.
        archive: Option<String>,
    },
    /// The store in a directory cannot be read.
    #[error("{}", unreadable(directory, source))]
    StoreIn {
        /// Where it is.
        directory: PathBuf,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The store in a directory cannot be written.
    #[error(
        "the store in {directory} cannot be written: {why}; free space on its disk, or mend it, and run this again"
    )]
    Unwritten {
        /// Where it is.
        directory: PathBuf,
        /// What the disk said.
        why: String,
    },
    /// It is a backup.
    #[error(
        "{0} is a backup, which nothing may change: make a data directory of it with `hongbao restore --from {0} --data \
         DIR`"
    )]
    IsBackup(PathBuf),
    /// A backup or restore into it was interrupted.
    #[error(
        "{0} is what an unfinished `hongbao backup` or `hongbao restore` has left: run the same again, or remove the \
         directory"
    )]
    HalfMade(PathBuf),
    /// A copy into it was interrupted, or found a difference.
    #[error(
        "{0} is what an unfinished `hongbao copy` has left: run the same copy again, or remove the directory and copy \
         into a new one"
    )]
    HalfCopied(PathBuf),
    /// A file in it is of another form.
    #[error("{} has form {found} and this version knows {known}; run the version that wrote it", path.display())]
    OtherForm {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: String,
        /// The form of this version.
        known: u32,
    },
    /// A migration of it was interrupted.
    #[error("a migration of {0} is not finished: start it once with `hongbao serve --migrate`, which ends it")]
    HalfMigrated(PathBuf),
    /// It cannot be brought to this build's form.
    #[error("{} cannot be migrated: {why}", directory.display())]
    Migration {
        /// The directory.
        directory: PathBuf,
        /// What is in the way, and what to do.
        why: String,
    },
    /// It was made for something else.
    #[error(
        "this directory was made with {setting} = {made}, not {asked}; use another directory, or start it {}",
        option_of(.setting, .made)
    )]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What it is for this directory.
        made: String,
        /// What was asked for.
        asked: String,
    },
    /// A backup is not as it was made.
    #[error("{0}")]
    Backup(String),
    /// The store cannot be made anew.
    #[error("the store cannot be made anew: {0}")]
    Rebuild(String),
    /// What opens addresses cannot be used.
    #[error("{0}")]
    Addresses(String),
    /// What is due could not be done.
    #[error("before serving: {0}")]
    Sweep(EngineError),
}

/// How the store of a data directory is made anew.
fn anew(directory: &Path, archive: Option<&str>) -> String {
    let directory = directory.display();
    match archive {
        Some(archive) => format!(
            "Make it anew with `hongbao rebuild --data {directory} --archive {archive}`, if that archive was kept from \
             the first start on; if not, restore the whole data directory from a backup"
        ),
        None => format!(
            "If an archive was kept from the first start on, make it anew with `hongbao rebuild --data {directory} \
             --archive DIR`; if not, restore the whole data directory from a backup"
        ),
    }
}

/// What is wrong with the store in `directory`, in one sentence, and its remedy.
fn unreadable(directory: &Path, source: &StoreError) -> String {
    let why = match source {
        StoreError::Broken(why) => why.clone(),
        StoreError::Damaged { table, key } => format!("a row of its table `{table}` cannot be read (key {key})"),
        StoreError::Record { lsn, why } => format!("it does not take record {lsn} of the journal: {why}"),
        other => return format!("the store in {}: {other}", directory.display()),
    };
    let remedy = anew(directory.parent().unwrap_or(directory), None);
    format!("the store in {} is damaged: {why}. If its disk is sound: {remedy}", directory.display())
}

/// What happened at the start.
#[derive(Debug)]
pub struct StartReport {
    /// What the journal found.
    pub journal: Recovery,
    /// Live envelopes loaded from the store.
    pub live_envelopes: usize,
    /// Whether anything had fallen due while the engine was down.
    pub swept: bool,
}

impl Embedded {
    /// Opens the engine in `directory`, or makes it.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    pub fn open(directory: &Path, options: EmbeddedOptions) -> Result<(Embedded, StartReport), OpenError> {
        if options.migrate
            && let Some(aside) = migrate(directory)?
        {
            tracing::warn!(data = %directory.display(), aside = %aside.display(), "migrated; what stood there is set aside");
        }
        let lock = lock(directory)?;
        if directory.join(BEING_COPIED).exists() {
            return Err(OpenError::HalfCopied(directory.to_owned()));
        }
        let path = directory.join("journal");
        let storage = Directory::open(&path).map_err(|source| OpenError::Directory { path, source })?;
        let behind = {
            let archive = options.journal.archive.as_ref().map(|archive| archive.path_of(""));
            let archive = archive.map(|path| path.trim_end_matches('/').to_owned());
            move |first, needed| OpenError::StoreBehind { directory: directory.to_owned(), first, needed, archive }
        };
        let path = directory.join("store");
        if !path.exists() {
            // A new one that does not get what it needs would be taken for the old one.
            match Journal::check_first(&storage, Lsn(0)) {
                Err(JournalError::BeginsLater { first, needed, .. }) => return Err(behind(first, needed)),
                checked => checked?,
            }
        }
        let rows = FjallRows::open(&path, options.store)?;
        // Said while nobody served, it was not about the clock of this start.
        if std::fs::remove_file(directory.join(ACCEPT_FILE)).is_ok() {
            tracing::warn!("an operator's word about the clock was from before this start; it does not count");
        }
        Embedded::start(Arc::new(storage), Arc::new(rows), options, Some((directory, lock))).map_err(
            |error| match error {
                OpenError::Store(source) => OpenError::StoreIn { directory: path, source },
                OpenError::Journal(JournalError::BeginsLater { first, needed, .. }) => behind(first, needed),
                error => error,
            },
        )
    }

    /// Opens the engine over a storage and rows of the caller's: for simulations.
    ///
    /// # Errors
    /// [`OpenError`] says what is wrong and what to do.
    pub fn open_over(
        storage: Arc<dyn Storage>,
        rows: Arc<dyn Rows>,
        options: EmbeddedOptions,
    ) -> Result<(Embedded, StartReport), OpenError> {
        Embedded::start(storage, rows, options, None)
    }

    /// An engine that forgets everything with its process: for measuring what
    /// durability costs. It has no lists.
    pub fn volatile(options: &EmbeddedOptions) -> Embedded {
        let clock = options.clock.clone().unwrap_or_else(|| Arc::new(SystemClock::start(0, Timestamp::default())));
        let core = Core {
            shards: fresh_shards(options.shards),
            router: Router::new(options.shards),
            clock,
            entropy: options.entropy.clone(),
            log: Log::Off(AtomicU64::new(0)),
            durable: None,
            fingerprint_secret: [0; 32],
            seal: Seal::new(&[0; 32]),
            histories: Histories::default(),
            events_kept_s: options.events_kept_s,
            creates: options.creates.clone(),
            test_mode: options.test_mode,
            serving: AtomicU8::new(SERVING),
            unready: Mutex::default(),
            housekeeping: housekeeping::State::default(),
            notes: NoteFiles::open(None).expect("no file is looked for"),
            addresses: None,
        };
        Embedded::over(core, options.threaded)
    }

    fn over(core: Core, threaded: bool) -> Embedded {
        let core = Arc::new(core);
        let housekeeper = threaded.then(|| {
            let core = Arc::clone(&core);
            let thread = std::thread::Builder::new().name("hongbao-housekeeper".to_owned());
            thread.spawn(move || core.keep_house()).expect("the housekeeper's thread can be started")
        });
        Embedded { core, housekeeper: Mutex::new(housekeeper) }
    }

    fn start(
        storage: Arc<dyn Storage>,
        rows: Arc<dyn Rows>,
        options: EmbeddedOptions,
        place: Option<(&Path, std::fs::File)>,
    ) -> Result<(Embedded, StartReport), OpenError> {
        let store = Arc::new(Store::over(rows)?);
        let directory = place.as_ref().map(|(directory, _)| *directory);
        let accept_file = directory.map(|directory| directory.join(ACCEPT_FILE));
        let kept = match directory.filter(|directory| directory.join(Settings::FILE).exists()) {
            Some(directory) => Some(Settings::read(directory)?),
            None => None,
        };
        let settings = Settings::settle(&store, &options, kept.as_ref())?;
        let histories = settings.histories()?;
        if let Some(directory) = directory {
            settings.write(directory)?;
        }
        let of_directory =
            |source| OpenError::Directory { path: directory.unwrap_or(Path::new("")).to_owned(), source };
        let notes = NoteFiles::open(directory).map_err(of_directory)?;
        // A process that was killed leaves rows that can be read and are not on
        // the disk yet; the journal may forget only what is.
        if !is_planted(Mutant::TrustUnpersistedRows) {
            store.persist()?;
        }
        let position = store.position();
        let router = Router::new(options.shards);
        let mut loading = Loading {
            shards: fresh_shards(options.shards),
            router,
            store: Arc::clone(&store),
            creates: options.creates.clone(),
            last_at: position.at,
            advanced_ms: position.advanced_ms,
            tail: Replayed::default(),
            replayed: Vec::new(),
        };
        let live_envelopes = loading.load()?;
        let (addresses, found) = Addresses::open(directory, &options)?;

        let persisted = Arc::new(AtomicU64::new(position.applied.0));
        let told = Arc::clone(&persisted);
        let on_persisted = Box::new(move |lsn: Lsn| told.store(lsn.0, Ordering::Release));
        let projector = Arc::new(Projector::spawn(Arc::clone(&store), on_persisted, options.projector));
        let offered = Arc::clone(&projector);
        let (journal, recovery) = Journal::open(
            storage,
            options.journal.clone(),
            position.applied,
            &mut |lsn, bytes| loading.replay(lsn, bytes),
            Box::new(move |batch| {
                if is_planted(Mutant::ProjectBeforeDurable) {
                    return;
                }
                let (first_lsn, count, bytes) = (batch.first_lsn, batch.count, batch.payload_bytes());
                offered.offer(DurableBatch::over(first_lsn, count, bytes, batch));
            }),
        )?;
        let Loading { shards, last_at, advanced_ms, replayed, mut tail, .. } = loading;
        let place = place.map(|(directory, lock)| (directory.to_owned(), lock));
        replayed.into_iter().chain(tail.rest()).for_each(|batch| projector.offer(batch));
        let given = options.clock.clone();
        let clock = given.unwrap_or_else(|| Arc::new(SystemClock::start(advanced_ms, last_at)));
        let core = Core {
            shards,
            router,
            clock,
            entropy: options.entropy.clone(),
            log: Log::Journal(journal),
            durable: Some(Durable { store, projector, persisted, place }),
            fingerprint_secret: settings.secret(),
            seal: Seal::new(&settings.secret()),
            histories,
            events_kept_s: options.events_kept_s,
            creates: options.creates.clone(),
            test_mode: options.test_mode,
            serving: AtomicU8::new(SERVING),
            unready: Mutex::default(),
            housekeeping: housekeeping::State { accept_file, ..housekeeping::State::default() },
            notes,
            addresses,
        };
        core.look_at_slots(found)?;
        core.arm_all();
        let swept = match core.distrust_clock(last_at, options.downtime_s_max) {
            Some(why) => {
                tracing::error!("{why}");
                core.set_unready(Some(why));
                false
            }
            None => core.sweep(),
        };
        let report = StartReport { journal: recovery, live_envelopes, swept };
        Ok((Embedded::over(core, options.threaded), report))
    }

    /// Does what is due now: deadlines, eviction. For engines without a thread
    /// of their own; says whether anything was due.
    pub fn tick(&self) -> bool {
        self.core.readiness().is_ok() && self.core.tick()
    }

    /// Writes, syncs and publishes one batch of an unthreaded journal, and
    /// projects a step. Says whether there was anything to do.
    ///
    /// # Errors
    /// [`EngineError::Journal`] once the journal has failed.
    pub fn pump(&self) -> Result<bool, EngineError> {
        let mut any = self.pump_journal()?;
        if let Some(durable) = &self.core.durable {
            any |= durable.projector.pump();
        }
        Ok(any)
    }

    /// The journal's part of [`Embedded::pump`].
    ///
    /// # Errors
    /// [`EngineError::Journal`] once the journal has failed.
    pub fn pump_journal(&self) -> Result<bool, EngineError> {
        match &self.core.log {
            Log::Journal(journal) => journal.pump().map_err(|failed| EngineError::Journal(failed.to_string())),
            Log::Off(_) => Ok(false),
        }
    }

    /// The projector, for those who drive it by hand.
    pub fn projector(&self) -> Option<&Projector> {
        self.core.durable.as_ref().map(|durable| &*durable.projector)
    }

    /// Takes the clock for right after all: an operator has looked.
    pub fn accept_clock(&self) {
        self.core.accept_clock();
    }

    /// Why deadlines stand still, if they do.
    pub fn clock_alarm(&self) -> Option<String> {
        self.core.clock.alarm()
    }

    /// How it is doing.
    pub fn stats(&self) -> EngineStats {
        let mut stats = EngineStats::default();
        if let (Log::Journal(journal), Some(durable)) = (&self.core.log, &self.core.durable) {
            (stats.staged_lsn, stats.durable_lsn) = (journal.staged_lsn(), journal.durable_lsn());
            stats.lag_records = journal.durable_lsn().0.saturating_sub(durable.store.applied_lsn().0);
            stats.projection_failed = durable.projector.failure().is_some();
            stats.journal = Some(journal.stats());
        }
        for shard in &self.core.shards {
            let shard = shard.lock();
            stats.envelopes += shard.envelopes.len() as u64;
            stats.wallets += shard.wallets.len() as u64;
            stats.holds += shard.holds.len() as u64;
            stats.payouts_in_memory += shard.payouts.len() as u64;
            for (count, part) in stats.payouts.iter_mut().zip(shard.payout_counts) {
                *count = count.wrapping_add(part);
            }
        }
        stats
    }

    /// Answers what was accepted, makes everything durable, ends the threads.
    /// Commands given afterwards are refused.
    ///
    /// # Errors
    /// [`EngineError::Journal`] if not everything could be made durable.
    pub fn close(&self) -> Result<(), EngineError> {
        self.core.serving.store(CLOSING, Ordering::Release);
        if let Some(housekeeper) = self.housekeeper.lock().take() {
            housekeeper.thread().unpark();
            housekeeper.join().expect("the housekeeper does not panic");
        }
        if let Log::Journal(journal) = &self.core.log {
            journal.close().map_err(|failed| EngineError::Journal(failed.to_string()))?;
        }
        self.core.addresses_to_erase();
        if let Some(durable) = &self.core.durable {
            durable.projector.stop();
            if let Some(failure) = durable.projector.failure() {
                return Err(store_failed(failure));
            }
        }
        Ok(())
    }
}

impl Drop for Embedded {
    /// Without [`Embedded::close`] this is a crash, as far as the disk can tell.
    fn drop(&mut self) {
        self.core.serving.store(CLOSING, Ordering::Release);
        if let Some(housekeeper) = self.housekeeper.lock().take() {
            housekeeper.thread().unpark();
            let _ = housekeeper.join();
        }
    }
}

fn fresh_shards(count: usize) -> Box<[CachePadded<Mutex<Shard>>]> {
    (0..count).map(|_| CachePadded::new(Mutex::new(Shard::default()))).collect()
}

/// Makes this process the only one that uses `directory`, which it may change.
pub(crate) fn lock(directory: &Path) -> Result<std::fs::File, OpenError> {
    if directory.join(MIGRATION).exists() {
        return Err(OpenError::HalfMigrated(directory.to_owned()));
    }
    lock_unmigrated(directory)
}

/// The same for whoever ends a migration.
pub(crate) fn lock_unmigrated(directory: &Path) -> Result<std::fs::File, OpenError> {
    if [backup::UNFINISHED, backup::RESTORING].iter().any(|marker| directory.join(marker).exists()) {
        return Err(OpenError::HalfMade(directory.to_owned()));
    }
    if directory.join(backup::INFO).exists() {
        return Err(OpenError::IsBackup(directory.to_owned()));
    }
    lock_any(directory)
}

/// Makes this process the only one that uses `directory`, whatever it is.
pub(crate) fn lock_any(directory: &Path) -> Result<std::fs::File, OpenError> {
    let failed = |source| OpenError::Directory { path: directory.to_owned(), source };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let options = std::fs::OpenOptions::new().create(true).write(true).truncate(false).to_owned();
    let file = options.open(directory.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

impl RecordSource for journal::DurableBatch {
    fn records(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(self.records().map(|(_, record)| record))
    }
}

/// State being brought up, before anybody shares it.
struct Loading {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    router: Router,
    store: Arc<Store>,
    creates: Option<CreatesCap>,
    last_at: Timestamp,
    advanced_ms: u64,
    /// What was replayed, for the projector.
    tail: Replayed,
    replayed: Vec<DurableBatch>,
}

impl Loading {
    /// Loads everything live from the store.
    fn load(&mut self) -> Result<usize, StoreError> {
        let Loading { shards, router, store, .. } = self;
        let external = shards[Router::EXTERNAL].get_mut();
        (external.sums, external.payout_counts) = (store.totals(), store.position().payouts);
        let mut count = 0;
        store.live_envelopes(|row, winners| {
            count += 1;
            let id = row.created.id;
            let mut envelope = Envelope::new(Box::new(row.created));
            for win in winners {
                let win = win?;
                if !envelope.can_restore(win.share) {
                    return Err(damaged_win(id, win.share));
                }
                envelope.restore_winner(win.share, &win.user, win.grabbed_at, win.claimed_at);
            }
            if let Some((_, ended)) = &row.ended {
                envelope.apply_ended(ended);
            }
            shards[router.envelope(id)].get_mut().envelopes.insert(id, Box::new(envelope));
            Ok(())
        })?;
        store.merchants(|merchant, balance| {
            let own = router.user(&merchant.id);
            let told =
                shards.iter_mut().enumerate().filter(|(at, _)| *at == own || !is_planted(Mutant::ForgetSuspensions));
            told.for_each(|(_, shard)| shard.get_mut().let_sell(&merchant));
            let accounts = &mut shards[router.user(&merchant.id)].get_mut().merchants;
            let (owed, pending) = (balance.total(), balance.pending);
            let account = MerchantAccount { owed, pending, ..MerchantAccount::new(merchant) };
            accounts.insert(account.merchant.id.clone(), account);
            Ok(())
        })?;
        if !is_planted(Mutant::ForgetSlots) {
            store.slots(|merchant, due, slot| {
                let shard = shards[router.user(&merchant)].get_mut();
                if let Some(account) = shard.merchants.get_mut(&merchant) {
                    account.slots.insert(due, slot);
                    shard.settlements.insert((due, merchant));
                }
                Ok(())
            })?;
        }
        store.api_keys(|key| {
            shards[Router::API_KEYS].get_mut().api_keys.insert(key.id, key);
            Ok(())
        })?;
        let gifts = store.live_gifts()?;
        let groups = store.live_groups()?;
        store.items(|live| {
            let id = live.item.id;
            let mut item = Item::new(Box::new(live.item));
            for units in live.units {
                let (user, units) = units?;
                item.restore_units(&user, units);
            }
            let shard = shards[router.item(id)].get_mut();
            for hold in live.holds {
                item.restore_hold(&mut shard.holds, &hold);
            }
            shard.items.insert(id, Box::new(item));
            Ok(())
        })?;
        for gift in gifts {
            shards[router.gift(gift.id)].get_mut().restore_gift(gift);
        }
        for payment in store.needed_payments()? {
            let shard = shards[router.payment(payment.id)].get_mut();
            if Shard::needs_payment(&shard.gifts, &payment) {
                shard.restore_payment(payment);
            }
        }
        for group in groups {
            shards[router.group(group.id)].get_mut().restore_group(group);
        }
        for (gift, mark) in store.addresses()? {
            shards[router.gift(gift)].get_mut().restore_address(gift, mark);
        }
        Ok(count)
    }

    /// Applies one record of the journal's tail.
    fn replay(&mut self, lsn: Lsn, bytes: &[u8]) -> Result<(), String> {
        let record = Record::decode(bytes).map_err(|error| error.to_string())?;
        for event in &record.events {
            if let Event::ClockAdvanced { by_ms } = event {
                self.advanced_ms += by_ms;
            }
            if let (Event::EnvelopeCreated(created), Some(cap)) = (event, &self.creates) {
                let (sender, allowance) = (&created.terms.sender, cap.at(created.created_at));
                let shard = self.shards[self.router.user(sender)].get_mut();
                if shard.made_by(sender, created.created_at).is_none() {
                    let count = self.store.made_by(sender, &allowance.day, allowance.most);
                    let count = count.map_err(|error| error.to_string())?;
                    let made = MadeInDay::new(&allowance.day, count, record.at);
                    shard.made.entry(sender.clone()).or_default().push(made);
                }
            }
            let Some(user) = event.wallet() else { continue };
            let wallets = &mut self.shards[self.router.user(user)].get_mut().wallets;
            if !wallets.contains_key(user) {
                let row = self.store.wallet(user).map_err(|error| error.to_string())?.unwrap_or_default();
                let (available, held) = (row.available, row.held);
                wallets.insert(user.clone(), Wallet { available, held, last_lsn: Lsn(0), touched_at: record.at });
            }
        }
        self.last_at = self.last_at.max(record.at);
        self.replayed.extend(self.tail.push(lsn, bytes));
        apply(&mut Unshared(&mut self.shards), self.router, record.at, lsn, record.events, None);
        Ok(())
    }
}

impl Core {
    pub(super) fn is_closing(&self) -> bool {
        self.serving.load(Ordering::Acquire) == CLOSING
    }

    /// Why it does not serve, if it does not; a clock that stands still is told too.
    pub(super) fn readiness(&self) -> Result<(), String> {
        if self.is_closing() {
            return Err("it is shutting down".to_owned());
        }
        match &*self.unready.lock() {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    fn set_unready(&self, why: Option<String>) {
        let mut unready = self.unready.lock();
        let (from, to) = if why.is_some() { (SERVING, NOT_READY) } else { (NOT_READY, SERVING) };
        // Once it is closing it stays so.
        let _ = self.serving.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        *unready = why;
    }

    pub(super) fn accept_clock(&self) {
        self.clock.accept();
        if self.serving.load(Ordering::Acquire) == NOT_READY {
            self.sweep();
            self.set_unready(None);
        }
    }

    /// Sets the timers of everything that was loaded.
    fn arm_all(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let envelopes: Vec<_> = shard.envelopes.keys().copied().collect();
            envelopes.into_iter().for_each(|id| shard.arm_envelope(id));
            let items: Vec<_> = shard.items.keys().copied().collect();
            items.into_iter().for_each(|id| shard.arm_item(id));
            let gifts: Vec<_> = shard.gifts.keys().copied().collect();
            gifts.into_iter().for_each(|id| shard.arm_gift(id));
            let groups: Vec<_> = shard.groups.keys().copied().collect();
            groups.into_iter().for_each(|id| shard.arm_group(id));
        }
    }

    /// Why the clock should be looked at before anything is decided by it.
    fn distrust_clock(&self, last_at: Timestamp, downtime_s_max: u64) -> Option<String> {
        let now = self.clock.outside();
        if now.plus_ms(DRIFT_MAX_MS) < last_at {
            let behind_s = (last_at.ms() - now.ms()) / 1000;
            return Some(format!(
                "the clock is {behind_s} s behind the last record: set it right, or run \
                 `hongbao clock accept --data DIR`; until then nothing is decided"
            ));
        }
        let due = self.shards.iter().any(|shard| {
            let shard = shard.lock();
            let timer = shard.timers.peek().map(|std::cmp::Reverse((at, _))| *at);
            timer.into_iter().chain(shard.next_settlement()).any(|at| at <= now)
        });
        if due && last_at.ms() > 0 && now > last_at.plus_s(downtime_s_max) {
            let downtime_s = (now.ms() - last_at.ms()) / 1000;
            return Some(format!(
                "the last record is {downtime_s} s old and deadlines have passed since: if the clock is right, run \
                 `hongbao clock accept --data DIR`; until then nothing is decided"
            ));
        }
        None
    }

    /// Does everything that is due, until nothing is.
    fn sweep(&self) -> bool {
        let mut any = false;
        while self.tick() {
            any = true;
        }
        any
    }
}
