//! When requests are due, and which of those that are due may start.
//!
//! **Invariant:** the intended times depend on the rate (and the seed) only: no
//! answer, slow or missing, moves a later arrival. What could not start in time
//! is counted late, what could not start at all is counted dropped: every
//! arrival offered is in exactly one of started, dropped and still waiting.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::time::Duration;

/// A start this long after it was due is told as late.
pub(crate) const LATE_AFTER: Duration = Duration::from_millis(1);

/// A stretch of the run with one rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) per_second: f64,
    pub(crate) length: Duration,
}

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spacing {
    /// Evenly; `phase` (0 to 1) is where in its first gap a worker begins, so
    /// that workers do not fire together.
    Constant { phase: f64 },
    /// With exponential gaps, as independent users arrive.
    Poisson { seed: u64 },
}

/// The intended times of one worker, in nanoseconds since the run's start.
#[derive(Debug)]
pub(crate) struct Schedule {
    segments: VecDeque<Segment>,
    segment_start_ns: u64,
    in_segment: u64,
    phase: f64,
    gaps: Option<SmallRng>,
    next_ns: Option<u64>,
}

impl Schedule {
    pub(crate) fn new(segments: &[Segment], spacing: Spacing) -> Self {
        let (phase, gaps) = match spacing {
            Spacing::Constant { phase } => (phase, None),
            Spacing::Poisson { seed } => (0.0, Some(SmallRng::seed_from_u64(seed))),
        };
        let mut schedule = Self {
            segments: segments.iter().copied().collect(),
            segment_start_ns: 0,
            in_segment: 0,
            phase,
            gaps,
            next_ns: None,
        };
        schedule.draw(0);
        schedule
    }

    /// When the next arrival is due; `None` after the last.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.next_ns
    }

    fn end(&mut self) {
        self.segments.clear();
        self.next_ns = None;
    }

    fn pop(&mut self) -> Option<u64> {
        let due = self.next_ns?;
        self.draw(due);
        Some(due)
    }

    fn draw(&mut self, after_ns: u64) {
        let mut from_ns = after_ns;
        while let Some(segment) = self.segments.front() {
            let end_ns = self.segment_start_ns + segment.length.as_nanos() as u64;
            if segment.per_second > 0.0 {
                let at_ns = match &mut self.gaps {
                    // From the segment's start each time, so that rounding does not add up.
                    None => {
                        let place = self.in_segment as f64 + self.phase;
                        self.segment_start_ns + (place / segment.per_second * 1e9) as u64
                    }
                    Some(rng) => {
                        let gap_s = -(1.0 - rng.random::<f64>()).ln() / segment.per_second;
                        from_ns + (gap_s * 1e9) as u64
                    }
                };
                if at_ns < end_ns {
                    self.in_segment += 1;
                    self.next_ns = Some(at_ns);
                    return;
                }
            }
            self.segments.pop_front();
            self.segment_start_ns = end_ns;
            self.in_segment = 0;
            from_ns = end_ns;
        }
        self.next_ns = None;
    }
}

/// What became of the arrivals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Starts {
    pub(crate) offered: u64,
    pub(crate) started: u64,
    /// Started more than [`LATE_AFTER`] after they were due.
    pub(crate) late: u64,
    /// Not started: as many as allowed were waiting or in flight.
    pub(crate) dropped_bound: u64,
    /// Not started: waited for a connection longer than a caller would.
    pub(crate) dropped_waited: u64,
    /// Not started: the run was over.
    pub(crate) dropped_over: u64,
}

impl Starts {
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped_bound + self.dropped_waited + self.dropped_over
    }

    pub(crate) fn add(&mut self, other: &Starts) {
        self.offered += other.offered;
        self.started += other.started;
        self.late += other.late;
        self.dropped_bound += other.dropped_bound;
        self.dropped_waited += other.dropped_waited;
        self.dropped_over += other.dropped_over;
    }
}

/// Arrivals that are due and wait for a free connection.
#[derive(Debug)]
pub(crate) struct Backlog {
    schedule: Schedule,
    due: VecDeque<u64>,
    in_flight: usize,
    in_flight_max: usize,
    patience_ns: u64,
    starts: Starts,
}

impl Backlog {
    /// At most `in_flight_max` wait or are in flight; none waits longer than `patience`.
    pub(crate) fn new(schedule: Schedule, in_flight_max: usize, patience: Duration) -> Self {
        Self {
            schedule,
            due: VecDeque::new(),
            in_flight: 0,
            in_flight_max,
            patience_ns: patience.as_nanos() as u64,
            starts: Starts::default(),
        }
    }

    /// Takes in everything due at `now_ns`; tells how many wait.
    pub(crate) fn admit(&mut self, now_ns: u64) -> usize {
        while self.schedule.next_due_ns().is_some_and(|due| due <= now_ns) {
            let Some(due) = self.schedule.pop() else { break };
            self.starts.offered += 1;
            if self.due.len() + self.in_flight < self.in_flight_max {
                self.due.push_back(due);
            } else {
                self.starts.dropped_bound += 1;
            }
        }
        self.due.len()
    }

    /// The intended time of the arrival to start now, if one is due.
    pub(crate) fn start(&mut self, now_ns: u64) -> Option<u64> {
        self.admit(now_ns);
        while let Some(due) = self.due.pop_front() {
            if now_ns - due > self.patience_ns {
                self.starts.dropped_waited += 1;
                continue;
            }
            self.starts.started += 1;
            self.in_flight += 1;
            if now_ns - due > LATE_AFTER.as_nanos() as u64 {
                self.starts.late += 1;
            }
            return Some(due);
        }
        None
    }

    /// One that was started has been answered or given up.
    pub(crate) fn finish(&mut self) {
        assert!(self.in_flight > 0, "only what was started can finish");
        self.in_flight -= 1;
    }

    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        self.schedule.next_due_ns()
    }

    /// Whether nothing is left to start.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.due.is_empty() && self.schedule.next_due_ns().is_none()
    }

    /// Nothing more is offered.
    pub(crate) fn stop(&mut self, now_ns: u64) {
        self.admit(now_ns);
        self.schedule.end();
    }

    /// The run is over: what still waits is dropped.
    pub(crate) fn close(&mut self, now_ns: u64) {
        self.admit(now_ns);
        self.starts.dropped_over += self.due.len() as u64;
        self.due.clear();
    }

    pub(crate) fn starts(&self) -> Starts {
        self.starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn constant(per_second: f64, length: Duration) -> Schedule {
        Schedule::new(&[Segment { per_second, length }], Spacing::Constant { phase: 0.0 })
    }

    fn all(mut schedule: Schedule) -> Vec<u64> {
        std::iter::from_fn(|| schedule.pop()).collect()
    }

    #[test]
    fn constant_spacing_is_even_to_the_end() {
        let times = all(constant(1000.0, Duration::from_secs(3)));
        assert_eq!(times.len(), 3000);
        for (k, at) in times.iter().enumerate() {
            assert!(at.abs_diff(k as u64 * MS) <= 1, "arrival {k} at {at}");
        }
    }

    #[test]
    fn poisson_spacing_has_the_rate_and_repeats_with_its_seed() {
        let segments = [Segment { per_second: 10_000.0, length: Duration::from_secs(10) }];
        let times = all(Schedule::new(&segments, Spacing::Poisson { seed: 7 }));
        // The count's standard deviation is 316.
        assert!(times.len().abs_diff(100_000) < 2000, "{}", times.len());
        assert!(times.is_sorted());
        assert_eq!(times, all(Schedule::new(&segments, Spacing::Poisson { seed: 7 })));
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "gaps are exponential");
    }

    #[test]
    fn segments_follow_each_other() {
        let segments = [
            Segment { per_second: 1000.0, length: Duration::from_secs(1) },
            Segment { per_second: 0.0, length: Duration::from_secs(1) },
            Segment { per_second: 10.0, length: Duration::from_secs(1) },
        ];
        let times = all(Schedule::new(&segments, Spacing::Constant { phase: 0.5 }));
        assert_eq!(times.len(), 1010);
        assert!(times[999] < 1000 * MS);
        assert_eq!(times[1000], 2050 * MS);
    }

    #[test]
    fn intended_times_do_not_depend_on_delays() {
        let at_once: Vec<u64> = all(constant(500.0, Duration::from_secs(1)));
        let schedule = constant(500.0, Duration::from_secs(1));
        let mut backlog = Backlog::new(schedule, usize::MAX, Duration::from_secs(60));
        let mut seen = Vec::new();
        // Served in jerks: nothing for 300 ms, then everything that is due.
        for now_ms in [0, 300, 600, 601, 2000] {
            while let Some(due) = backlog.start(now_ms * MS) {
                seen.push(due);
            }
        }
        assert_eq!(seen, at_once);
        assert!(backlog.is_exhausted());
    }

    #[test]
    fn nothing_is_offered_after_a_stop() {
        let mut backlog = Backlog::new(constant(100.0, Duration::from_secs(1)), 9, Duration::from_secs(60));
        assert_eq!(backlog.start(0), Some(0));
        backlog.stop(25 * MS);
        assert!(!backlog.is_exhausted(), "two wait");
        backlog.close(500 * MS);
        assert_eq!((backlog.start(900 * MS), backlog.is_exhausted()), (None, true));
        let starts = backlog.starts();
        assert_eq!((starts.offered, starts.started, starts.dropped_over), (3, 1, 2));
    }

    #[test]
    fn late_and_dropped_starts_are_counted() {
        // Ten arrivals, one each 10 ms, 0 to 90.
        let schedule = constant(100.0, Duration::from_millis(100));
        let mut backlog = Backlog::new(schedule, 4, Duration::from_millis(50));
        assert_eq!(backlog.start(0), Some(0));
        assert_eq!(backlog.start(10 * MS), Some(10 * MS));
        // Two in flight: of those due at 20, 30, 40, 50 only two may wait.
        assert_eq!(backlog.admit(55 * MS), 2);
        assert_eq!(backlog.start(55 * MS), Some(20 * MS), "late");
        for _ in 0..3 {
            backlog.finish();
        }
        // At 85: 30 has waited 55 ms, longer than patience; 60, 70 and 80 came.
        assert_eq!(backlog.start(85 * MS), Some(60 * MS), "late");
        backlog.close(200 * MS);
        let starts = backlog.starts();
        let expected =
            Starts { offered: 10, started: 4, late: 2, dropped_bound: 2, dropped_waited: 1, dropped_over: 3 };
        assert_eq!(starts, expected);
        assert_eq!(starts.offered, starts.started + starts.dropped());
    }
}
