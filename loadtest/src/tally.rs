//! What a worker counts and measures.
//!
//! **Invariant:** everything recorded is in exactly one interval of a second, and
//! every worker sends every second, so that the sum of intervals is the whole run.

use crate::summary::Period;
use hdrhistogram::Histogram;
use serde::Deserialize;
use std::borrow::Cow;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Latencies beyond this are recorded as this.
const LATENCY_MAX_US: u64 = 600_000_000;

pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are valid")
}

/// One second of one worker.
#[derive(Debug)]
pub(crate) struct Interval {
    pub(crate) second: u64,
    /// From when due to answered, in microseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) wins: u64,
    pub(crate) sold_outs: u64,
    pub(crate) errors: u64,
}

impl Interval {
    pub(crate) fn new(second: u64) -> Self {
        Self { second, latency: new_histogram(), wins: 0, sold_outs: 0, errors: 0 }
    }
}

/// How many, and from the first to the last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) count: u64,
    first: Option<Duration>,
    last: Duration,
}

impl Span {
    fn add(&mut self, at: Duration) {
        self.count += 1;
        self.first.get_or_insert(at);
        self.last = self.last.max(at);
    }

    fn absorb(&mut self, other: &Span) {
        self.count += other.count;
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last = self.last.max(other.last);
    }

    /// When the first and the last came.
    pub(crate) fn period(&self) -> Option<Period> {
        self.first.map(|first| Period { from_s: first.as_secs_f64(), to_s: self.last.as_secs_f64() })
    }

    /// The rate while they came: between the first and the last.
    pub(crate) fn per_second(&self) -> f64 {
        Period::rate(self.period(), self.count)
    }
}

/// Errors of one kind, with the words of the first.
#[derive(Clone, Debug)]
pub(crate) struct ErrorKind {
    pub(crate) kind: String,
    pub(crate) count: u64,
    pub(crate) during_outage: u64,
    pub(crate) example: String,
}

#[derive(Debug)]
pub(crate) struct Tally {
    interval: Interval,
    /// Where seconds go; `None` in the sum of several tallies.
    intervals: Option<Sender<Interval>>,
    /// From sent to answered, in microseconds.
    pub(crate) service: Histogram<u64>,
    pub(crate) answers: u64,
    pub(crate) last_answer: Duration,
    pub(crate) wins: Span,
    pub(crate) sold_outs: Span,
    pub(crate) outcomes: Vec<(&'static str, String, u64)>,
    pub(crate) errors: Vec<ErrorKind>,
}

impl Tally {
    /// Counts one worker, sending each second to `intervals`; or, without, sums up several.
    pub(crate) fn new(intervals: Option<Sender<Interval>>) -> Self {
        Self {
            interval: Interval::new(0),
            intervals,
            service: new_histogram(),
            answers: 0,
            last_answer: Duration::ZERO,
            wins: Span::default(),
            sold_outs: Span::default(),
            outcomes: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Sends every second that is over at `now`.
    pub(crate) fn roll_to(&mut self, now: Duration) {
        while self.interval.second < now.as_secs() {
            let next = Interval::new(self.interval.second + 1);
            let done = std::mem::replace(&mut self.interval, next);
            self.send(done);
        }
    }

    /// Sends the second that is not over.
    pub(crate) fn finish(&mut self, now: Duration) {
        self.roll_to(now);
        let next = Interval::new(self.interval.second + 1);
        let done = std::mem::replace(&mut self.interval, next);
        self.send(done);
        self.intervals = None;
    }

    fn send(&self, interval: Interval) {
        if let Some(intervals) = &self.intervals {
            // A reader that is gone has failed, and says so itself.
            let _ = intervals.send(interval);
        }
    }

    pub(crate) fn answered(&mut self, due: Duration, sent: Duration, answered: Duration) {
        self.roll_to(answered);
        self.interval.latency.saturating_record((answered.saturating_sub(due).as_micros() as u64).max(1));
        self.service.saturating_record((answered.saturating_sub(sent).as_micros() as u64).max(1));
        self.answers += 1;
        self.last_answer = self.last_answer.max(answered);
    }

    pub(crate) fn win(&mut self, at: Duration) {
        self.interval.wins += 1;
        self.wins.add(at);
    }

    pub(crate) fn sold_out(&mut self, at: Duration) {
        self.interval.sold_outs += 1;
        self.sold_outs.add(at);
    }

    pub(crate) fn outcome(&mut self, action: &'static str, outcome: &str) {
        count_outcome(&mut self.outcomes, action, outcome, 1);
    }

    pub(crate) fn error(&mut self, kind: &str, outage: bool, example: impl FnOnce() -> String) {
        self.interval.errors += 1;
        let at = self.errors.iter().position(|known| known.kind == kind).unwrap_or_else(|| {
            let (kind, example) = (kind.to_owned(), example());
            self.errors.push(ErrorKind { kind, count: 0, during_outage: 0, example });
            self.errors.len() - 1
        });
        self.errors[at].count += 1;
        self.errors[at].during_outage += u64::from(outage);
    }

    /// An answer that is a problem, not an outcome.
    pub(crate) fn refused(&mut self, status: u16, body: &[u8], outage: bool) {
        let problem: Problem<'_> = serde_json::from_slice(body).unwrap_or_default();
        self.error(&format!("{status}_{}", problem.code), outage, || problem.detail.into_owned());
    }

    pub(crate) fn absorb(&mut self, other: &Tally) {
        self.service += &other.service;
        self.answers += other.answers;
        self.last_answer = self.last_answer.max(other.last_answer);
        self.wins.absorb(&other.wins);
        self.sold_outs.absorb(&other.sold_outs);
        for (action, outcome, count) in &other.outcomes {
            count_outcome(&mut self.outcomes, action, outcome, *count);
        }
        for error in &other.errors {
            if let Some(known) = self.errors.iter_mut().find(|known| known.kind == error.kind) {
                known.count += error.count;
                known.during_outage += error.during_outage;
            } else {
                self.errors.push(error.clone());
            }
        }
    }
}

fn count_outcome(outcomes: &mut Vec<(&'static str, String, u64)>, action: &'static str, outcome: &str, count: u64) {
    match outcomes.iter_mut().find(|(a, o, _)| *a == action && o == outcome) {
        Some((_, _, known)) => *known += count,
        None => outcomes.push((action, outcome.to_owned(), count)),
    }
}

/// The parts of `application/problem+json` that are told.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Problem<'a> {
    #[serde(borrow, default)]
    pub(crate) title: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) code: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) detail: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn every_second_is_sent_once() {
        let (sender, receiver) = channel();
        let mut tally = Tally::new(Some(sender));
        let at = Duration::from_millis;
        tally.answered(at(0), at(0), at(10));
        tally.answered(at(500), at(600), at(2500));
        tally.finish(at(3200));
        drop(tally);
        let told: Vec<_> = receiver.iter().map(|i| (i.second, i.latency.len(), i.latency.max())).collect();
        assert_eq!((told.len(), told[0].1, told[1].1, told[2].1, told[3].1), (4, 1, 0, 1, 0));
        assert!(told[2].2.abs_diff(2_000_000) < 2_000, "from when it was due: {}", told[2].2);
    }

    #[test]
    fn rates_are_of_the_time_they_came() {
        let mut span = Span::default();
        for ms in [1000, 1500, 2000] {
            span.add(Duration::from_millis(ms));
        }
        assert_eq!(span.per_second(), 3.0);
        assert_eq!(Span::default().per_second(), 0.0);
    }
}
