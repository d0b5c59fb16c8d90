//! Wakes those who wait for events when there may be more.
//!
//! One task waits for the engine, and all who follow wait for it: so what is
//! left with the engine is one waker, however many come and go.
//!
//! **Invariant:** who has marked the pulse as seen before reading is woken by
//! whatever became durable after that.

use crate::app::Shared;
use hongbao_engine::backend::Backend;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Under load something becomes durable thousands of times a second; followers
/// are woken together, after so long at the most.
const PAUSE: Duration = Duration::from_millis(2);
/// How long after an error of the engine it is asked again.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// The beat of the feed.
pub struct Pulse {
    beat: Arc<watch::Sender<u64>>,
    wanted: Arc<Notify>,
    has_begun: AtomicBool,
}

/// What the beat has come to.
pub(crate) struct Beat(Arc<watch::Sender<u64>>);

impl Beat {
    #[cfg(test)]
    pub(super) fn of(beat: &Arc<watch::Sender<u64>>) -> Beat {
        Beat(Arc::clone(beat))
    }

    /// The last mark that the engine gave while somebody followed.
    pub(super) fn last(&self) -> u64 {
        *self.0.borrow()
    }
}

impl Default for Pulse {
    fn default() -> Pulse {
        let (beat, wanted) = (Arc::new(watch::Sender::new(0)), Arc::default());
        Pulse { beat, wanted, has_begun: AtomicBool::new(false) }
    }
}

impl Pulse {
    /// What the beat comes to, for those who only look.
    pub(crate) fn beat(&self) -> Beat {
        Beat(Arc::clone(&self.beat))
    }

    /// Follows it, from now on.
    pub(crate) fn follow<B: Backend>(&self, server: &Shared<B>) -> watch::Receiver<u64> {
        let follower = self.beat.subscribe();
        if !self.has_begun.swap(true, Ordering::Relaxed) {
            let (beat, wanted) = (Arc::clone(&self.beat), Arc::clone(&self.wanted));
            let (backend, stop) = (Arc::clone(&server.backend), server.stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = run(&*backend, &beat, &wanted) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        self.wanted.notify_one();
        follower
    }
}

async fn run(backend: &impl Backend, beat: &watch::Sender<u64>, wanted: &Notify) {
    let mut mark = 0;
    loop {
        while beat.receiver_count() == 0 {
            wanted.notified().await;
        }
        match backend.more_events(mark).await {
            Ok(more) => {
                mark = more;
                beat.send_replace(mark);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                tracing::debug!(%error, "no events can be waited for");
                // Whoever waits asks for itself, and is told.
                beat.send_replace(mark);
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}
