//! `summary.json`: what a run measured, for machines. `summary.schema.json` is
//! its shape.
//!
//! **Invariant:** what is written can be read back, unchanged: merging and
//! comparing use nothing but the files of a run.

use crate::chaos::ChaosReport;
use crate::failure::Failure;
use crate::limit::Limit;
use crate::money::MoneySummary;
use crate::threshold::Threshold;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const SUMMARY_FILE: &str = "summary.json";

/// Everything a run measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// What every name of the run carries: parts of one run have the same.
    pub(crate) run: String,
    /// Which part of the run it is, as `2/4`; of a merged run, how many parts there are.
    pub(crate) part: Option<String>,
    pub(crate) scenario: String,
    pub(crate) seed: u64,
    pub(crate) target: String,
    pub(crate) started_at: String,
    /// Of the schedule, up to where it was interrupted.
    pub(crate) duration_s: f64,
    pub(crate) interrupted: bool,
    /// From the first due start to the last answer.
    pub(crate) elapsed_s: f64,
    pub(crate) threads: u32,
    pub(crate) connections: usize,
    pub(crate) users: u32,
    pub(crate) envelopes: usize,
    pub(crate) shares: u64,
    pub(crate) stock: u64,
    pub(crate) offered: u64,
    pub(crate) answered: u64,
    pub(crate) offered_per_s: f64,
    pub(crate) achieved_per_s: f64,
    pub(crate) wins: u64,
    pub(crate) sold_outs: u64,
    /// Between the first win and the last.
    pub(crate) wins_per_s: f64,
    pub(crate) wins_period: Option<Period>,
    /// Between the first sold-out and the last.
    pub(crate) sold_out_per_s: f64,
    pub(crate) sold_outs_period: Option<Period>,
    pub(crate) late_starts: u64,
    /// Late starts that this program noticed late: it had no processor.
    pub(crate) late_by_generator: u64,
    pub(crate) late_after_us: u64,
    pub(crate) dropped_starts: u64,
    pub(crate) dropped: Dropped,
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) errors: u64,
    pub(crate) errors_during_outage: u64,
    pub(crate) errors_by_kind: BTreeMap<String, ErrorSummary>,
    pub(crate) thresholds: Vec<ThresholdSummary>,
    pub(crate) thresholds_missed: Vec<String>,
    /// From when a request was due to its answer.
    pub(crate) latency_us: Quantiles,
    /// From when a request was sent to its answer.
    pub(crate) service_us: Quantiles,
    /// Cores' worth of processor time this program used during the run.
    pub(crate) generator_cpu: f64,
    pub(crate) limit: Limit,
    pub(crate) by_second: Vec<Second>,
    pub(crate) money: MoneySummary,
    pub(crate) chaos: Option<ChaosReport>,
    pub(crate) audit: AuditSummary,
}

/// A second of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Second {
    pub(crate) second: u64,
    /// Due in it, by the schedule.
    pub(crate) offered: f64,
    pub(crate) answers: u64,
    pub(crate) wins: u64,
    pub(crate) sold_outs: u64,
    pub(crate) errors: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

/// From the first to the last of something, in seconds since the run's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Period {
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
}

impl Period {
    /// The rate while they came; all in one moment count as a second.
    pub(crate) fn rate(period: Option<Self>, count: u64) -> f64 {
        let seconds = period.map_or(0.0, |period| period.to_s - period.from_s);
        if count < 2 || seconds <= 0.0 { count as f64 } else { count as f64 / seconds }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) in_flight_bound: u64,
    pub(crate) waited_too_long: u64,
    pub(crate) run_over: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ErrorSummary {
    pub(crate) count: u64,
    pub(crate) during_outage: u64,
    pub(crate) example: String,
}

/// A threshold, as it was given, and what was measured: microseconds, a count,
/// a percentage or a rate a second, as the threshold has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ThresholdSummary {
    pub(crate) threshold: String,
    pub(crate) met: bool,
    pub(crate) measured: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct AuditSummary {
    pub(crate) ok: bool,
    pub(crate) checked: u64,
    pub(crate) differences: u64,
    pub(crate) first_differences: Vec<String>,
    /// Requests whose outcome had to be asked for.
    pub(crate) unknown: u64,
    pub(crate) took_s: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Quantiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: histogram.max() }
    }
}

impl Summary {
    /// Holds every threshold against what was measured.
    pub(crate) fn hold_against(&mut self, thresholds: &[Threshold]) {
        self.thresholds = thresholds.iter().map(|threshold| threshold.check(self)).collect();
        let missed = self.thresholds.iter().filter(|checked| !checked.met);
        self.thresholds_missed = missed.map(|checked| checked.threshold.clone()).collect();
    }

    /// Writes it into a run's directory.
    ///
    /// # Errors
    /// With the path that could not be written.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), String> {
        let path = directory.join(SUMMARY_FILE);
        let mut text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        text.push('\n');
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads that of a run's directory.
    ///
    /// # Errors
    /// With the path and what to do about it.
    pub(crate) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(SUMMARY_FILE);
        let unreadable = |why: &dyn std::fmt::Display| {
            let path = path.display();
            Failure::Usage(format!("{path}: {why}; give directories that this version's `run --out DIR` has written"))
        };
        let text = std::fs::read(&path).map_err(|error| unreadable(&error))?;
        serde_json::from_slice(&text).map_err(|error| unreadable(&error))
    }
}

/// A rate; none of no time.
pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
