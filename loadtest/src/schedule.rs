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

/// A stretch of the run: some arrivals in its first moment, then a rate that
/// stays or changes evenly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) at_once: f64,
    pub(crate) per_second: f64,
    /// The rate at its end.
    pub(crate) to_per_second: f64,
    pub(crate) length: Duration,
}

impl Segment {
    /// How many arrivals it has.
    pub(crate) fn arrivals(&self) -> f64 {
        self.arrivals_until(self.length)
    }

    /// How many there are up to `time` after its start.
    fn arrivals_until(&self, time: Duration) -> f64 {
        let (t, slope) = (time.as_secs_f64(), self.slope());
        self.at_once + (self.per_second + slope * t / 2.0) * t
    }

    /// The part of it that one of several generators offers.
    pub(crate) fn scaled(&self, part: f64) -> Self {
        Self {
            at_once: self.at_once * part,
            per_second: self.per_second * part,
            to_per_second: self.to_per_second * part,
            length: self.length,
        }
    }

    /// By how much the rate changes in a second.
    fn slope(&self) -> f64 {
        if self.length.is_zero() {
            return 0.0;
        }
        (self.to_per_second - self.per_second) / self.length.as_secs_f64()
    }

    /// When the arrival number `place` (not whole with a phase) is due, after the
    /// segment's start: where as many have arrived.
    fn due(&self, place: f64) -> Duration {
        let place = place - self.at_once;
        if place < 0.0 {
            return Duration::ZERO;
        }
        let slope = self.slope();
        // Of the two forms of the quadratic's root the one that does not cancel.
        let root = (self.per_second * self.per_second + 2.0 * slope * place).max(0.0).sqrt();
        if self.per_second + root == 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(2.0 * place / (self.per_second + root)).unwrap_or(self.length)
    }
}

/// How many arrivals are due in each second of the run.
pub(crate) fn offered_by_second(segments: &[Segment]) -> Vec<f64> {
    let length: Duration = segments.iter().map(|segment| segment.length).sum();
    let until = |time: Duration| {
        let mut start = Duration::ZERO;
        let mut sum = 0.0;
        for segment in segments {
            let inside = time.saturating_sub(start).min(segment.length);
            if time > start {
                sum += segment.arrivals_until(inside);
            }
            start += segment.length;
        }
        sum
    };
    let seconds = length.as_secs_f64().ceil() as u64;
    let mut before = 0.0;
    let by_second = (1..=seconds).map(|second| {
        let now = until(Duration::from_secs(second));
        let offered = now - before;
        before = now;
        offered
    });
    by_second.collect()
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
///
/// Arrivals are numbered through all segments. Even ones are due where as many
/// have arrived as their number says; exponential gaps between those places make
/// a Poisson process of whatever rate.
#[derive(Debug)]
pub(crate) struct Schedule {
    segments: VecDeque<Segment>,
    segment_start: Duration,
    /// Arrivals of the segments that are over.
    before_segment: f64,
    /// Even arrivals drawn so far.
    drawn: u64,
    /// The place of the last arrival with exponential gaps.
    place: f64,
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
            segment_start: Duration::ZERO,
            before_segment: 0.0,
            drawn: 0,
            place: 0.0,
            phase,
            gaps,
            next_ns: None,
        };
        schedule.draw();
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
        self.draw();
        Some(due)
    }

    fn draw(&mut self) {
        let place = match &mut self.gaps {
            // From its number each time, so that rounding does not add up.
            None => self.drawn as f64 + self.phase,
            Some(rng) => self.place - (1.0 - rng.random::<f64>()).ln(),
        };
        (self.drawn, self.place) = (self.drawn + 1, place);
        while let Some(segment) = self.segments.front() {
            let inside = place - self.before_segment;
            if inside < segment.arrivals() {
                self.next_ns = Some((self.segment_start + segment.due(inside)).as_nanos() as u64);
                return;
            }
            self.segment_start += segment.length;
            self.before_segment += segment.arrivals();
            self.segments.pop_front();
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
    /// Of those: this program itself looked as late as that, so that neither the
    /// server nor a lack of connections was the reason.
    pub(crate) noticed_late: u64,
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
        self.noticed_late += other.noticed_late;
        self.dropped_bound += other.dropped_bound;
        self.dropped_waited += other.dropped_waited;
        self.dropped_over += other.dropped_over;
    }
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at_ns: u64,
    noticed_late: bool,
}

/// Arrivals that are due and wait for a free connection.
#[derive(Debug)]
pub(crate) struct Backlog {
    schedule: Schedule,
    due: VecDeque<Due>,
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
                self.due.push_back(Due { at_ns: due, noticed_late: is_late(due, now_ns) });
            } else {
                self.starts.dropped_bound += 1;
            }
        }
        self.due.len()
    }

    /// The intended time of the arrival to start now, if one is due.
    pub(crate) fn start(&mut self, now_ns: u64) -> Option<u64> {
        self.admit(now_ns);
        while let Some(Due { at_ns: due, noticed_late }) = self.due.pop_front() {
            if now_ns - due > self.patience_ns {
                self.starts.dropped_waited += 1;
                continue;
            }
            self.starts.started += 1;
            self.in_flight += 1;
            if is_late(due, now_ns) {
                self.starts.late += 1;
                self.starts.noticed_late += u64::from(noticed_late);
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

fn is_late(due_ns: u64, now_ns: u64) -> bool {
    now_ns - due_ns > LATE_AFTER.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn steady(per_second: f64, length: Duration) -> Segment {
        Segment { at_once: 0.0, per_second, to_per_second: per_second, length }
    }

    fn constant(per_second: f64, length: Duration) -> Schedule {
        Schedule::new(&[steady(per_second, length)], Spacing::Constant { phase: 0.0 })
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
        let segments = [steady(10_000.0, Duration::from_secs(10))];
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
            steady(1000.0, Duration::from_secs(1)),
            steady(0.0, Duration::from_secs(1)),
            steady(10.0, Duration::from_secs(1)),
        ];
        let times = all(Schedule::new(&segments, Spacing::Constant { phase: 0.5 }));
        assert_eq!(times.len(), 1010);
        assert!(times[999] < 1000 * MS);
        assert_eq!(times[1000], 2050 * MS);
    }

    #[test]
    fn ramps_and_what_comes_at_once() {
        let second = Duration::from_secs(1);
        let segments = [
            Segment { at_once: 50.0, ..Segment::default() },
            Segment { at_once: 0.0, per_second: 0.0, to_per_second: 1000.0, length: second },
            Segment { at_once: 10.0, per_second: 1000.0, to_per_second: 0.0, length: second },
        ];
        let times = all(Schedule::new(&segments, Spacing::Constant { phase: 0.5 }));
        assert_eq!(times.len(), 50 + 500 + 10 + 500);
        assert!(times.is_sorted());
        assert_eq!(times[..50], [0; 50]);
        // Half the way up a quarter has come, half the way down three quarters.
        let before = |ms: u64| times.iter().filter(|at| **at < ms * MS).count();
        assert_eq!((before(500), before(1000), before(1500)), (50 + 125, 550, 550 + 10 + 375));
        assert_eq!(times[550..560], [1000 * MS; 10]);
        assert_eq!(offered_by_second(&segments), [550.0, 510.0]);
        let poisson = all(Schedule::new(&segments, Spacing::Poisson { seed: 3 }));
        // The count's standard deviation is 33.
        assert!(poisson.len().abs_diff(1060) < 165 && poisson.is_sorted(), "{}", poisson.len());
    }

    #[test]
    fn slow_stages_are_not_rounded_up() {
        // A hundred stages with a third of an arrival each.
        let segments = [steady(1.0 / 3.0, Duration::from_secs(1)); 99];
        assert_eq!(all(Schedule::new(&segments, Spacing::Constant { phase: 0.5 })).len(), 33);
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
        let expected = Starts {
            offered: 10,
            started: 4,
            late: 2,
            noticed_late: 2,
            dropped_bound: 2,
            dropped_waited: 1,
            dropped_over: 3,
        };
        assert_eq!(starts, expected);
        assert_eq!(starts.offered, starts.started + starts.dropped());
    }

    /// What an open model must show of a server that stands still for a second:
    /// who is due `u` seconds after its beginning waits `1 - u` seconds.
    #[test]
    fn a_stall_of_a_second_is_arithmetic() {
        const RATE: u64 = 1000;
        const CONNECTIONS: usize = 16;
        let stall = 1000 * MS..2000 * MS;
        let mut backlog =
            Backlog::new(constant(RATE as f64, Duration::from_secs(3)), usize::MAX, Duration::from_secs(60));
        let mut latencies = crate::tally::new_histogram();
        // Each answer takes 100 us, unless the server stands still: then it comes after that.
        let mut free_at = [0_u64; CONNECTIONS];
        let mut now = 0;
        while now < 10_000 * MS && !backlog.is_exhausted() {
            backlog.admit(now);
            for at in &mut free_at {
                if *at <= now
                    && let Some(due) = backlog.start(now)
                {
                    let sent = if stall.contains(&now) { stall.end } else { now };
                    *at = sent + MS / 10;
                    latencies.record((*at - due) / 1000).unwrap();
                    backlog.finish();
                }
            }
            now += MS / 20;
        }
        let starts = backlog.starts();
        assert_eq!((starts.offered, starts.started, starts.noticed_late), (3 * RATE, 3 * RATE, 0));
        // A tenth of 3000 requests are the 300 due in the stall's first 0.3 s, a hundredth its first 0.03 s.
        // After it, 16 connections work off 1000 requests in steps of 0.1 ms: 6.3 ms more at most.
        for (quantile, wait_ms) in [(0.9, 700), (0.99, 970)] {
            let measured_us = latencies.value_at_quantile(quantile);
            let expected_us = wait_ms * 1000;
            assert!((expected_us..expected_us + 11_000).contains(&measured_us), "{quantile}: {measured_us} us");
        }
    }
}
