//! The projector: takes durable batches from the journal and writes their rows,
//! a step of many records at a time, behind everybody's back.
//!
//! **Invariant:** a batch leaves the list of what is unprojected only after the
//! commit that holds its rows has returned. So a reader who takes the list
//! first and a snapshot of the store second misses nothing.
//!
//! **Invariant:** the LSN given to `on_persisted` was applied before the
//! persist began, so the journal may recycle everything up to it.
//!
//! **Invariant:** after a failure nothing is written and nothing is called
//! persisted until the store was opened anew, which is tried again and again
//! after one of the disk; offers are still taken and reads still answered.

use super::fjall_rows::BACKGROUND_NICE;
use super::{DurableBatch, StepLimits, Store, StoreError, View};
use crate::types::Lsn;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the projector works.
#[derive(Clone, Copy, Debug)]
pub struct ProjectorOptions {
    /// Whether it has a thread; without one [`Projector::pump`] does its work.
    pub threaded: bool,
    /// How much one commit takes up.
    pub step: StepLimits,
    /// Bytes of records that may wait while more keep coming (with a thread).
    /// Readers make an index of them.
    pub defer_bytes: usize,
    /// How long records may wait while more keep coming (with a thread).
    pub defer_for: Duration,
    /// Bytes of records after which what was projected is persisted.
    pub persist_bytes: usize,
    /// How long at most something projected stays unpersisted (with a thread).
    pub persist_after: Duration,
    /// Bytes of records after which the store is left as the next start likes it, once
    /// it is quiet: what was projected lately is read again by a start after a kill.
    pub tidy_bytes: usize,
    /// How long it has to be quiet for that (with a thread).
    pub tidy_after: Duration,
    /// How long after a failure the store is opened anew, and twice as long
    /// each time that this fails (with a thread).
    pub reopen_after: Duration,
}

impl Default for ProjectorOptions {
    fn default() -> Self {
        ProjectorOptions {
            threaded: true,
            step: StepLimits::default(),
            defer_bytes: 64 << 20,
            defer_for: Duration::from_secs(2),
            persist_bytes: 32 << 20,
            persist_after: Duration::from_secs(1),
            tidy_bytes: 256 << 10,
            tidy_after: Duration::from_secs(1),
            reopen_after: Duration::from_secs(1),
        }
    }
}

/// Nothing offered for so long is quiet: longer than a slow disk's sync.
const QUIET: Duration = Duration::from_millis(25);

/// How often the pause before the next attempt is doubled.
const DOUBLED_MAX: u32 = 5;

/// Told how far the store is persisted, each time it is.
pub type OnPersisted = Box<dyn Fn(Lsn) + Send>;

/// The one who writes to the [`Store`].
pub struct Projector {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    store: Arc<Store>,
    options: ProjectorOptions,
    queue: Mutex<Queue>,
    /// Notified when there is something to do earlier than the thread knew, and at the stop.
    woken: Condvar,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Queue {
    unprojected: VecDeque<Offered>,
    lag_bytes: usize,
    stopping: bool,
    failure: Option<StoreError>,
    /// When the store is opened anew, if that can help.
    reopen_at: Option<Instant>,
    /// How often that was tried since something was last persisted.
    reopened: u32,
}

/// A batch, and since when it waits.
struct Offered {
    batch: DurableBatch,
    at: Instant,
}

/// What the thread does next.
enum Next {
    Project,
    Persist,
    Tidy,
    Reopen,
    End,
}

/// What only the one who projects needs.
struct Work {
    on_persisted: OnPersisted,
    unpersisted_bytes: usize,
    unpersisted_since: Option<Instant>,
    /// Bytes of records projected since the store was last left as a start likes it.
    untidy_bytes: usize,
    stepped_at: Instant,
}

impl Projector {
    /// A projector into `store`, with its thread if `options` say so.
    ///
    /// # Panics
    /// If the thread cannot be started.
    pub fn spawn(store: Arc<Store>, on_persisted: OnPersisted, options: ProjectorOptions) -> Projector {
        let work = Work {
            on_persisted,
            unpersisted_bytes: 0,
            unpersisted_since: None,
            // A kill may have left it in any way.
            untidy_bytes: options.tidy_bytes,
            stepped_at: Instant::now(),
        };
        let shared =
            Arc::new(Shared { store, options, queue: Mutex::default(), woken: Condvar::new(), work: Mutex::new(work) });
        let thread = options.threaded.then(|| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("hongbao-projector".to_owned());
            builder.spawn(move || shared.run()).expect("the projector's thread can be started")
        });
        Projector { shared, thread: Mutex::new(thread) }
    }

    /// Takes a batch that has just become durable. Only queues it: this is
    /// called by the journal's writer, before it tells anyone of the new LSN.
    pub fn offer(&self, batch: DurableBatch) {
        let mut queue = self.shared.queue.lock();
        let before_bytes = queue.lag_bytes;
        queue.lag_bytes += batch.bytes();
        queue.unprojected.push_back(Offered { batch, at: Instant::now() });
        // The thread knows when to look again at what waits already.
        let defer_bytes = self.shared.options.defer_bytes;
        let wake = queue.unprojected.len() == 1 || before_bytes < defer_bytes && queue.lag_bytes >= defer_bytes;
        drop(queue);
        if wake {
            self.shared.woken.notify_one();
        }
    }

    /// Projects one step of what was offered, persists when that is due by
    /// bytes, and says whether there was anything to do. After a failure it
    /// opens the store anew, if that is possible.
    pub fn pump(&self) -> bool {
        let work = &mut *self.shared.work.lock();
        if self.shared.queue.lock().reopen_at.is_some() {
            return self.shared.reopen(work);
        }
        let stepped = self.shared.step(work);
        if work.unpersisted_bytes >= self.shared.options.persist_bytes {
            self.shared.persist(work);
        }
        stepped
    }

    /// Persists what was projected so far and tells the journal.
    pub fn persist(&self) {
        self.shared.persist(&mut self.shared.work.lock());
    }

    /// The batches of which a part may not be in the store yet, in order. A
    /// reader takes this list before its snapshot of the store.
    pub fn unprojected(&self) -> Vec<DurableBatch> {
        self.shared.queue.lock().unprojected.iter().map(|offered| offered.batch.clone()).collect()
    }

    /// Everything durable now, projected or not: for lists.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub fn view(&self) -> Result<View, StoreError> {
        let unprojected = self.unprojected();
        self.shared.store.view(unprojected)
    }

    /// Bytes of records that are durable and not in the store yet. The engine
    /// sheds load when there are too many of them.
    pub fn lag_bytes(&self) -> usize {
        self.shared.queue.lock().lag_bytes
    }

    /// The last record projected.
    pub fn applied_lsn(&self) -> Lsn {
        self.shared.store.applied_lsn()
    }

    /// Why projection stands still, if it does.
    pub fn failure(&self) -> Option<StoreError> {
        self.shared.queue.lock().failure.clone()
    }

    /// Takes note of what befell another who wrote to the store.
    pub fn note_failure(&self, error: StoreError) {
        self.shared.fail(error);
    }

    /// Projects all that was offered, persists it, leaves the store as the next
    /// start likes it, and ends the thread. After a failure it only does the last.
    pub fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.woken.notify_one();
        match self.thread.lock().take() {
            Some(thread) => thread.join().expect("the projector's thread does not panic"),
            None if self.shared.options.threaded => {}
            None => {
                while self.pump() {}
                self.persist();
            }
        }
        if self.failure().is_none()
            && let Err(error) = self.shared.store.checkpoint()
        {
            self.shared.fail(error);
        }
    }
}

impl Drop for Projector {
    /// Ends the thread as soon as its step is done; only [`Projector::stop`] drains.
    fn drop(&mut self) {
        let Some(thread) = self.thread.get_mut().take() else { return };
        let mut queue = self.shared.queue.lock();
        queue.stopping = true;
        queue.unprojected.clear();
        drop(queue);
        self.shared.woken.notify_one();
        let _ = thread.join();
    }
}

impl Work {
    /// Everything up to `applied` is on the disk.
    fn persisted(&mut self, applied: Lsn) {
        self.unpersisted_bytes = 0;
        self.unpersisted_since = None;
        (self.on_persisted)(applied);
    }
}

impl Queue {
    fn drop_projected(&mut self, applied: Lsn) {
        while self.unprojected.front().is_some_and(|offered| offered.batch.end_lsn() <= applied.next()) {
            let projected = self.unprojected.pop_front();
            self.lag_bytes -= projected.map_or(0, |offered| offered.batch.bytes());
        }
    }

    /// From when on what waits is to be projected, if it is to be.
    fn ripe_at(&self, options: &ProjectorOptions, now: Instant) -> Option<Instant> {
        let (oldest, newest) = (self.unprojected.front()?, self.unprojected.back()?);
        if self.stopping || self.lag_bytes >= options.defer_bytes {
            return Some(now);
        }
        Some((newest.at + QUIET).min(oldest.at + options.defer_for))
    }
}

impl Shared {
    fn run(&self) {
        // On Linux this is the thread's own priority.
        let _ = rustix::process::setpriority_process(None, BACKGROUND_NICE);
        loop {
            match self.next() {
                Next::Project => {
                    self.step(&mut self.work.lock());
                }
                Next::Reopen => {
                    self.reopen(&mut self.work.lock());
                }
                Next::Persist => self.persist(&mut self.work.lock()),
                Next::Tidy => self.tidy(&mut self.work.lock()),
                Next::End => return self.persist(&mut self.work.lock()),
            }
        }
    }

    /// Waits until there is something to do. While batches keep coming whoever
    /// waits for an answer has the processors and the disk; what came is written
    /// when it is quiet, or too old, or too much of it.
    fn next(&self) -> Next {
        let (due, tidy_at) = {
            let work = self.work.lock();
            if work.unpersisted_bytes >= self.options.persist_bytes && self.queue.lock().failure.is_none() {
                return Next::Persist;
            }
            let due = work.unpersisted_since.map(|since| since + self.options.persist_after);
            let is_untidy = due.is_none() && work.untidy_bytes >= self.options.tidy_bytes;
            (due, is_untidy.then(|| work.stepped_at + self.options.tidy_after))
        };
        let mut queue = self.queue.lock();
        loop {
            let now = Instant::now();
            if queue.failure.is_some() {
                match queue.reopen_at {
                    _ if queue.stopping => return Next::End,
                    Some(at) if at <= now => return Next::Reopen,
                    Some(at) => drop(self.woken.wait_until(&mut queue, at)),
                    None => self.woken.wait(&mut queue),
                }
                continue;
            }
            let ripe = queue.ripe_at(&self.options, now);
            // Never both: what is to be persisted is not tidied yet.
            let due = due.or(tidy_at.filter(|_| ripe.is_none()));
            match (ripe, due) {
                (None, Some(due)) if due <= now && tidy_at.is_some() && !queue.stopping => return Next::Tidy,
                (_, Some(due)) if due <= now && !queue.stopping => return Next::Persist,
                (Some(ripe), _) if ripe <= now => return Next::Project,
                (None, _) if queue.stopping => return Next::End,
                (None, None) => self.woken.wait(&mut queue),
                (ripe, due) => {
                    let until = ripe.into_iter().chain(due).min().expect("one of the two is there");
                    self.woken.wait_until(&mut queue, until);
                }
            }
        }
    }

    fn step(&self, work: &mut Work) -> bool {
        let limits = self.options.step;
        let batches = {
            let queue = self.queue.lock();
            if queue.failure.is_some() {
                return false;
            }
            let mut bytes = 0;
            let enough = |batch: &&DurableBatch| {
                let more = bytes < limits.bytes;
                bytes += batch.bytes();
                more
            };
            let unprojected = || queue.unprojected.iter().map(|offered| &offered.batch);
            // The first may be projected in part, so one more than enough is taken.
            let mut batches: Vec<DurableBatch> = unprojected().take_while(enough).cloned().collect();
            batches.extend(unprojected().nth(batches.len()).cloned());
            batches
        };
        let Some(first) = batches.first() else { return false };
        let gap = batches.windows(2).find(|pair| pair[0].end_lsn() != pair[1].first_lsn());
        assert!(gap.is_none(), "durable batches follow each other without a gap");
        let records = batches.iter().flat_map(DurableBatch::records);
        match self.store.project(first.first_lsn(), records, limits) {
            Ok(step) => {
                work.unpersisted_bytes += step.bytes;
                work.untidy_bytes = work.untidy_bytes.saturating_add(step.bytes);
                work.stepped_at = Instant::now();
                if step.records > 0 {
                    work.unpersisted_since.get_or_insert_with(Instant::now);
                }
                self.queue.lock().drop_projected(self.store.applied_lsn());
                true
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn persist(&self, work: &mut Work) {
        if work.unpersisted_since.is_none() || self.queue.lock().failure.is_some() {
            return;
        }
        match self.store.persist() {
            Ok(applied) => {
                work.persisted(applied);
                self.queue.lock().reopened = 0;
            }
            Err(error) => self.fail(error),
        }
    }

    fn tidy(&self, work: &mut Work) {
        match self.store.checkpoint() {
            Ok(()) => work.untidy_bytes = 0,
            Err(error) => self.fail(error),
        }
    }

    /// Opens the store anew after a failure; says whether that was possible.
    fn reopen(&self, work: &mut Work) -> bool {
        if let Err(error) = self.store.reopen() {
            self.fail(error);
            return false;
        }
        let applied = self.store.applied_lsn();
        work.persisted(applied);
        work.untidy_bytes = 0;
        let queue = &mut *self.queue.lock();
        queue.drop_projected(applied);
        (queue.failure, queue.reopen_at) = (None, None);
        tracing::info!(applied = applied.0, "the store was opened anew and takes writes again");
        true
    }

    fn fail(&self, error: StoreError) {
        let queue = &mut *self.queue.lock();
        let can_pass = matches!(error, StoreError::Failed(_));
        // What cannot pass is told even where something was told already.
        if queue.failure.is_none() || !can_pass {
            let again =
                if can_pass { "it is tried again and again" } else { "nothing more is projected until a restart" };
            tracing::error!(%error, "the store failed; {again}");
        }
        let pause = self.options.reopen_after * (1 << queue.reopened.min(DOUBLED_MAX));
        queue.reopened += 1;
        queue.reopen_at = can_pass.then(|| Instant::now() + pause);
        queue.failure = Some(error);
        self.woken.notify_one();
    }
}
