//! Waiting for durability.
//!
//! A waiter looks at the durable LSN; if that is not enough it takes the lock,
//! looks again, and only then leaves its waker. The writer stores the durable LSN
//! first and takes the wakers under the same lock afterwards. Whoever takes the
//! lock second sees what the other did: either the writer finds the waker, or the
//! waiter finds the LSN. So no wake-up is lost.
//!
//! Wakers are kept in two lists, for the frame in flight and for everything
//! later, so that publishing a frame hands over one list without searching it.
//!
//! The writer wakes by itself, and where many wait those it has woken help. Handing the wakers to another thread lets the next
//! write start earlier, but costs that thread's wake-up and its share of the
//! cores; acknowledged records a second, tasks in a closed loop on tokio, two cores:
//!
//! | tasks | woken by the writer | by another thread |
//! |---|---|---|
//! | 16 | 50 k | 44 k |
//! | 300 | 970 k | 840 k |
//! | 1,000 | 1.9 to 2.1 M | 1.7 to 1.9 M |
//! | 3,000 | 2.4 M | 1.6 M |
//! | 10,000 | 0.9 to 1.4 M | 0.6 to 1.6 M |
//! | 30,000 | 1.6 M | 1.7 M |
//!
//! **Invariant:** every waker in `later` waits for an LSN above `in_flight`, every
//! waker in `now` for one at or below it.

use super::JournalFailed;
use crate::types::Lsn;
use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

#[derive(Default)]
struct Waiters {
    in_flight: u64,
    now: Vec<Waker>,
    later: Vec<(u64, Waker)>,
    stopped: Option<JournalFailed>,
}

/// The durable LSN and who waits for it.
#[derive(Default)]
pub(crate) struct Durability {
    durable: CachePadded<AtomicU64>,
    waiters: CachePadded<Mutex<Waiters>>,
    /// Who waited for what is durable now and has not been woken yet.
    ready: CachePadded<Mutex<Vec<Waker>>>,
    has_ready: CachePadded<AtomicBool>,
}

/// So many are woken at a time by one who helps.
const WOKEN_TOGETHER: usize = 32;

impl Durability {
    pub(crate) fn new(durable: u64) -> Durability {
        let durability = Durability::default();
        durability.durable.store(durable, Ordering::Release);
        durability.waiters.lock().in_flight = durable;
        durability
    }

    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// The frame that ends with `lsn` is about to be written.
    pub(crate) fn begin(&self, lsn: u64) {
        let waiters = &mut *self.waiters.lock();
        waiters.in_flight = lsn;
        let Waiters { now, later, .. } = waiters;
        if later.iter().all(|&(waits_for, _)| waits_for <= lsn) {
            now.extend(later.drain(..).map(|(_, waker)| waker));
        } else {
            now.extend(later.extract_if(.., |&mut (waits_for, _)| waits_for <= lsn).map(|(_, waker)| waker));
        }
    }

    /// The frame in flight is durable. Wakes who waited for it, through `list`,
    /// which is empty before and after and only kept for its memory.
    pub(crate) fn publish(&self, lsn: u64, list: &mut Vec<Waker>) {
        self.durable.store(lsn, Ordering::Release);
        let mut waiters = self.waiters.lock();
        debug_assert_eq!(waiters.in_flight, lsn, "what is published was in flight");
        std::mem::swap(&mut waiters.now, list);
        drop(waiters);
        if list.len() <= WOKEN_TOGETHER {
            return list.drain(..).for_each(Waker::wake);
        }
        self.ready.lock().append(list);
        self.has_ready.store(true, Ordering::Release);
        while self.wake_some() {}
    }

    /// Wakes some of those who are to be woken, if any are. The writer goes on
    /// until all are; whoever it has woken helps, from inside the runtime, whose
    /// own queues take a task without the lock of the shared one.
    fn wake_some(&self) -> bool {
        let mut some = ArrayVec::<Waker, WOKEN_TOGETHER>::new();
        {
            let mut ready = self.ready.lock();
            let from = ready.len().saturating_sub(WOKEN_TOGETHER);
            some.extend(ready.drain(from..));
            if ready.is_empty() {
                self.has_ready.store(false, Ordering::Relaxed);
            }
        }
        let any = !some.is_empty();
        some.into_iter().for_each(Waker::wake);
        any
    }

    /// Nothing more becomes durable: every waiter learns why.
    pub(crate) fn stop(&self, why: &JournalFailed) {
        let mut waiters = self.waiters.lock();
        waiters.stopped.get_or_insert_with(|| why.clone());
        let now = std::mem::take(&mut waiters.now);
        let later = std::mem::take(&mut waiters.later);
        drop(waiters);
        now.into_iter().chain(later.into_iter().map(|(_, waker)| waker)).for_each(Waker::wake);
    }

    pub(crate) fn stopped(&self) -> Option<JournalFailed> {
        self.waiters.lock().stopped.clone()
    }

    /// The verdict, or `None` after leaving the waker.
    fn look(&self, lsn: u64, waker: Option<&Waker>) -> Option<Result<(), JournalFailed>> {
        if self.durable() >= lsn {
            return Some(Ok(()));
        }
        let mut waiters = self.waiters.lock();
        if self.durable() >= lsn {
            return Some(Ok(()));
        }
        if let Some(why) = &waiters.stopped {
            return Some(Err(why.clone()));
        }
        if let Some(waker) = waker {
            if lsn <= waiters.in_flight {
                waiters.now.push(waker.clone());
            } else {
                waiters.later.push((lsn, waker.clone()));
            }
        }
        None
    }
}

/// Waits until a record is durable. Dropping it is safe at any time.
#[must_use = "a wait does nothing unless it is awaited"]
pub struct DurableWait<'a> {
    durability: &'a Durability,
    lsn: u64,
    /// The waker that was left, so that polling again does not leave another.
    left: Option<Waker>,
}

impl<'a> DurableWait<'a> {
    pub(crate) fn new(durability: &'a Durability, lsn: Lsn) -> DurableWait<'a> {
        DurableWait { durability, lsn: lsn.0, left: None }
    }
}

impl Future for DurableWait<'_> {
    type Output = Result<(), JournalFailed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = context.waker();
        let already_left = self.left.as_ref().is_some_and(|left| left.will_wake(waker));
        match self.durability.look(self.lsn, (!already_left).then_some(waker)) {
            Some(verdict) => {
                if self.left.is_some() && self.durability.has_ready.load(Ordering::Relaxed) {
                    self.durability.wake_some();
                }
                Poll::Ready(verdict)
            }
            None => {
                if !already_left {
                    self.left = Some(waker.clone());
                }
                Poll::Pending
            }
        }
    }
}

/// Runs a wait on a thread that has nothing else to do.
pub(crate) fn block_on(wait: DurableWait<'_>) -> Result<(), JournalFailed> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut wait = std::pin::pin!(wait);
    loop {
        match wait.as_mut().poll(&mut context) {
            Poll::Ready(verdict) => return verdict,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_record_that_becomes_durable_while_its_waiter_queues_for_the_lock_is_seen() {
        let durability = Durability::new(0);
        std::thread::scope(|scope| {
            let held = durability.waiters.lock();
            let waiter = scope.spawn(|| durability.look(1, Some(Waker::noop())));
            // The waiter has looked once and queues behind this lock.
            std::thread::sleep(Duration::from_millis(50));
            durability.durable.store(1, Ordering::Release);
            drop(held);
            assert_eq!(waiter.join().expect("it does not panic"), Some(Ok(())));
        });
    }

    #[test]
    fn waiters_are_woken_by_the_frame_that_holds_their_record() {
        let durability = Durability::new(0);
        let look = |lsn| durability.look(lsn, Some(Waker::noop()));
        let waiting = || {
            let waiters = durability.waiters.lock();
            (waiters.now.len(), waiters.later.len())
        };
        durability.begin(2);
        assert_eq!([look(1), look(2), look(3), look(7)], [None, None, None, None]);
        assert_eq!(waiting(), (2, 2));
        let mut list = Vec::new();
        durability.publish(2, &mut list);
        assert_eq!(waiting(), (0, 2));
        durability.begin(5);
        assert_eq!(waiting(), (1, 1));
        durability.publish(5, &mut list);
        assert_eq!((look(5), look(6)), (Some(Ok(())), None));
        durability.begin(7);
        durability.publish(7, &mut list);
        assert_eq!(waiting(), (0, 0));
        durability.stop(&JournalFailed::Closed);
        assert_eq!((look(7), look(8)), (Some(Ok(())), Some(Err(JournalFailed::Closed))));
    }
}
