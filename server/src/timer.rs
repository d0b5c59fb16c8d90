//! The timer of a connection: how long a head may take to arrive.
//!
//! A head has its own deadline, and nearly always arrives long before. To
//! register each with the runtime and take it out again would lock the wheel of
//! timers, which all workers share, twice a request. So a connection has one
//! alarm, which is moved only when it rings before the deadline there is by then.
//!
//! **Invariant:** whoever sleeps is woken at its deadline: the alarm rings no
//! later, and is set anew if it rang too early.

use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

type Alarm = Arc<Mutex<Pin<Box<tokio::time::Sleep>>>>;

/// A timer for one connection. Its sleeps share an alarm, so they must be
/// slept by the connection's own task, and one at a time.
pub(crate) struct ConnectionTimer(Alarm);

impl ConnectionTimer {
    /// A timer whose sleeps are expected to last about `usual`, or longer. Must
    /// be made within a tokio runtime.
    pub(crate) fn new(usual: Duration) -> ConnectionTimer {
        ConnectionTimer(Arc::new(Mutex::new(Box::pin(tokio::time::sleep(usual)))))
    }
}

impl Timer for ConnectionTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until { deadline, alarm: Arc::clone(&self.0) })
    }
}

struct Until {
    deadline: Instant,
    alarm: Alarm,
}

impl Sleep for Until {}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.lock().expect("an alarm does not panic");
        let deadline = self.deadline.into();
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        ready!(alarm.as_mut().poll(context));
        if alarm.deadline() < deadline {
            alarm.as_mut().reset(deadline);
            return alarm.as_mut().poll(context);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn each_sleeps_until_its_own_deadline() {
        let timer = ConnectionTimer::new(Duration::from_millis(20));
        for sleep_ms in [1, 20, 50, 5, 0] {
            let start = Instant::now();
            let sleep = Duration::from_millis(sleep_ms);
            // One that is given up (or, on a busy machine, is over) leaves the alarm to the next.
            let given_up = timer.sleep(Duration::from_millis(10));
            let _ = tokio::time::timeout(Duration::from_millis(2), given_up).await;
            let due = start + Duration::from_millis(2) + sleep;
            timer.sleep_until(due).await;
            let late = Instant::now().checked_duration_since(due);
            assert!(late.is_some_and(|late| late < Duration::from_secs(2)), "{sleep_ms} ms: {late:?}");
        }
    }
}
