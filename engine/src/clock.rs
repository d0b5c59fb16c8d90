//! The time by which deadlines are kept.
//!
//! **Invariant:** the engine's time never goes back, and never leaps ahead
//! without an operator's word: both would break promises made with deadlines.

use crate::types::Timestamp;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Tells the time. Handed to the engine, so that tests can hold it in their hands.
pub trait Clock: Send + Sync + 'static {
    /// The engine's time. Never earlier than what it said before.
    fn now(&self) -> Timestamp;

    /// What the outside says, before any doubt about it.
    fn outside(&self) -> Timestamp {
        self.now()
    }

    /// Compares itself with the outside; called about once a second.
    fn check(&self) {}

    /// Why deadlines stand still, if they do.
    fn alarm(&self) -> Option<String> {
        None
    }

    /// Takes the outside's time for right after all.
    fn accept(&self) {}

    /// Moves a test deployment's time forward.
    fn advance(&self, by_ms: u64);
}

/// A difference between the wall clock and the engine's time beyond which
/// deadlines stand still until an operator has looked.
pub const DRIFT_MAX_MS: u64 = 10_000;
/// How far the engine's time is moved towards the wall clock at each check.
const SLEW_MS: u64 = 1;

/// Where the outside's time comes from: replaced in tests of the clock itself.
type Source = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// The wall clock at the start plus the monotonic clock since, slewed towards
/// the wall clock as long as the two stay close.
///
/// Both clocks are the coarse ones of the kernel, which tick every few
/// milliseconds and cost a few nanoseconds to read.
pub struct SystemClock {
    wall: Source,
    monotonic: Source,
    pace: Mutex<Pace>,
    /// What to add to the monotonic clock.
    offset_ms: AtomicU64,
    /// No time below this is told any more.
    floor_ms: AtomicU64,
    frozen: AtomicBool,
}

struct Pace {
    /// By how much the engine's time is meant to be ahead of the wall clock: a
    /// test deployment's advances, or more by an accepted step back.
    ahead_ms: u64,
    /// The advances' part of it, which no step of the wall clock takes away.
    advanced_ms: u64,
    drift_ms: i64,
}

fn coarse(clock: ClockId) -> Timestamp {
    let time = clock_gettime(clock);
    let ms = time.tv_sec.max(0).unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000;
    Timestamp::from_ms(ms)
}

impl SystemClock {
    /// A clock that starts now, `advanced_ms` ahead of the wall clock (0 but for
    /// test deployments), and says nothing below `not_before`.
    pub fn start(advanced_ms: u64, not_before: Timestamp) -> SystemClock {
        SystemClock::with_sources(
            advanced_ms,
            not_before,
            Box::new(|| coarse(ClockId::RealtimeCoarse)),
            Box::new(|| coarse(ClockId::MonotonicCoarse)),
        )
    }

    fn with_sources(advanced_ms: u64, not_before: Timestamp, wall: Source, monotonic: Source) -> SystemClock {
        let now_ms = wall().ms() + advanced_ms;
        SystemClock {
            offset_ms: AtomicU64::new(now_ms.wrapping_sub(monotonic().ms())),
            floor_ms: AtomicU64::new(now_ms.max(not_before.ms())),
            frozen: AtomicBool::new(false),
            pace: Mutex::new(Pace { ahead_ms: advanced_ms, advanced_ms, drift_ms: 0 }),
            wall,
            monotonic,
        }
    }

    fn running_ms(&self) -> u64 {
        (self.monotonic)().ms().wrapping_add(self.offset_ms.load(Ordering::Relaxed))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let floor_ms = self.floor_ms.load(Ordering::Relaxed);
        if self.frozen.load(Ordering::Relaxed) {
            return Timestamp::from_ms(floor_ms);
        }
        let now_ms = self.running_ms();
        if now_ms <= floor_ms {
            return Timestamp::from_ms(floor_ms);
        }
        // Only at the coarse clock's ticks: reads in between share the cache line.
        let before = self.floor_ms.fetch_max(now_ms, Ordering::Relaxed);
        Timestamp::from_ms(now_ms.max(before))
    }

    fn outside(&self) -> Timestamp {
        (self.wall)().plus_ms(self.pace.lock().ahead_ms)
    }

    fn check(&self) {
        let mut pace = self.pace.lock();
        let expected_ms = (self.wall)().ms() + pace.ahead_ms;
        let drift_ms = expected_ms as i64 - self.running_ms() as i64;
        pace.drift_ms = drift_ms;
        if drift_ms.unsigned_abs() > DRIFT_MAX_MS {
            if !self.frozen.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    drift_ms,
                    "the wall clock stepped; deadlines stand still until `hongbao clock accept` is run"
                );
            }
        } else if self.frozen.swap(false, Ordering::Relaxed) {
            tracing::warn!("the wall clock stepped back to where it was; deadlines run again");
        } else if drift_ms != 0 {
            let step = SLEW_MS.min(drift_ms.unsigned_abs());
            let step = if drift_ms > 0 { step } else { step.wrapping_neg() };
            self.offset_ms.fetch_add(step, Ordering::Relaxed);
        }
    }

    fn alarm(&self) -> Option<String> {
        self.frozen.load(Ordering::Relaxed).then(|| {
            let drift_ms = self.pace.lock().drift_ms;
            format!(
                "the wall clock differs by {drift_ms} ms from the engine's time and deadlines stand still; \
                 check the clock, then run `hongbao clock accept --data DIR`"
            )
        })
    }

    fn accept(&self) {
        let mut pace = self.pace.lock();
        let floor_ms = self.floor_ms.load(Ordering::Relaxed);
        let wall_ms = (self.wall)().ms();
        // A step back is accepted by going on from where time stands.
        pace.ahead_ms = pace.advanced_ms.max(floor_ms.saturating_sub(wall_ms));
        pace.drift_ms = 0;
        let now_ms = wall_ms + pace.ahead_ms;
        self.offset_ms.store(now_ms.wrapping_sub((self.monotonic)().ms()), Ordering::Relaxed);
        self.frozen.store(false, Ordering::Relaxed);
        tracing::warn!(now_ms, "the wall clock was accepted");
    }

    fn advance(&self, by_ms: u64) {
        let mut pace = self.pace.lock();
        pace.ahead_ms += by_ms;
        pace.advanced_ms += by_ms;
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

/// A clock that stands until it is moved, for tests and simulations.
#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Timestamp) -> ManualClock {
        ManualClock(AtomicU64::new(now.ms()))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::Relaxed))
    }

    fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Outside {
        wall: Arc<AtomicU64>,
        monotonic: Arc<AtomicU64>,
    }

    impl Outside {
        fn new() -> (Outside, SystemClock) {
            let outside = Outside { wall: Arc::new(1_000_000.into()), monotonic: Arc::new(77.into()) };
            let (wall, monotonic) = (outside.wall.clone(), outside.monotonic.clone());
            let read = |ms: Arc<AtomicU64>| Box::new(move || Timestamp::from_ms(ms.load(Ordering::Relaxed)));
            let clock = SystemClock::with_sources(0, Timestamp::default(), read(wall), read(monotonic));
            (outside, clock)
        }

        fn pass(&self, ms: u64) {
            self.wall.fetch_add(ms, Ordering::Relaxed);
            self.monotonic.fetch_add(ms, Ordering::Relaxed);
        }
    }

    #[test]
    fn race_18_a_clock_that_jumps_back_stands_still_and_nothing_unexpires() {
        let (outside, clock) = Outside::new();
        outside.pass(5000);
        assert_eq!(clock.now().ms(), 1_005_000);
        outside.wall.fetch_sub(3_600_000 / 4, Ordering::Relaxed);
        clock.check();
        assert!(clock.alarm().is_some());
        outside.pass(60_000);
        assert_eq!(clock.now().ms(), 1_005_000, "frozen");
        clock.accept();
        assert_eq!(clock.alarm(), None);
        assert_eq!(clock.now().ms(), 1_005_000, "goes on from where it stood");
        outside.pass(10);
        clock.check();
        assert_eq!(clock.now().ms(), 1_005_010);
        assert_eq!(clock.alarm(), None, "an accepted difference is no alarm");
    }

    #[test]
    fn race_19_a_clock_that_jumps_forward_freezes_deadlines_until_accepted() {
        let (outside, clock) = Outside::new();
        outside.wall.fetch_add(86_400_000, Ordering::Relaxed);
        outside.pass(1000);
        assert_eq!(clock.now().ms(), 1_001_000, "the wall clock is not asked");
        clock.check();
        outside.pass(50_000);
        assert_eq!(clock.now().ms(), 1_001_000, "frozen");
        assert!(clock.alarm().unwrap().contains("clock accept"));
        clock.accept();
        assert_eq!(clock.now().ms(), 1_000_000 + 86_400_000 + 51_000);
    }

    #[test]
    fn a_step_that_is_accepted_leaves_a_test_deployments_advance_as_it_is() {
        const HOUR_MS: u64 = 3_600_000;
        let (outside, clock) = Outside::new();
        clock.advance(HOUR_MS);
        // The wall clock goes past the advance, back again, and ahead by less than it.
        for step_ms in [5 * HOUR_MS as i64, -2 * HOUR_MS as i64, HOUR_MS as i64 / 2] {
            outside.wall.fetch_add(step_ms as u64, Ordering::Relaxed);
            clock.check();
            assert!(clock.alarm().is_some(), "{step_ms}");
            let before = clock.now();
            clock.accept();
            let expected_ms = (outside.wall.load(Ordering::Relaxed) + HOUR_MS).max(before.ms());
            assert_eq!((clock.now().ms(), clock.alarm()), (expected_ms, None), "{step_ms}");
            outside.pass(1000);
            clock.check();
            assert_eq!((clock.now().ms(), clock.alarm()), (expected_ms + 1000, None), "{step_ms}");
        }
    }

    #[test]
    fn small_differences_are_slewed_away_without_a_step_back() {
        let (outside, clock) = Outside::new();
        for difference in [400_i64, -400] {
            outside.wall.fetch_add(difference as u64, Ordering::Relaxed);
            let mut before = clock.now();
            for _ in 0..500 {
                outside.pass(1000);
                clock.check();
                let now = clock.now();
                assert!(now >= before && now.ms() - before.ms() <= 1000 + SLEW_MS);
                before = now;
            }
            assert_eq!(clock.now().ms(), outside.wall.load(Ordering::Relaxed));
        }
    }
}
