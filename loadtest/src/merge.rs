//! The parts of one run, put together.
//!
//! **Invariant:** merging is exact: histograms add value by value, counts add,
//! and only parts of the same run, each once, are put together. The audit is
//! each part's own: a merged run is fine if all of its parts are.

use crate::failure::Failure;
use crate::html;
use crate::limit::{Limit, What};
use crate::report;
use crate::run::{make_directory, status};
use crate::summary::{AuditSummary, ErrorSummary, Period, Quantiles, Second, Summary, per_second};
use crate::tally::new_histogram;
use crate::threshold::Threshold;
use crate::watch::{LATENCY_FILE, SERVICE_FILE, read_log, write_log};
use clap::Args;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is put together.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Directories that `run --part --out DIR` has written, one for each part
    #[arg(required = true)]
    pub(crate) parts: Vec<PathBuf>,
    /// What must hold for all parts together, or the exit code is 99
    #[arg(long, value_delimiter = ',')]
    pub(crate) threshold: Vec<Threshold>,
    /// Directory for the files of the whole run
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
}

/// Merges, reports; the exit code is that of a run.
pub(crate) fn merge(options: &Options) -> Result<u8, Failure> {
    let mut parts = Vec::new();
    for directory in &options.parts {
        parts.push(Summary::read(directory)?);
    }
    check(&options.parts, &parts)?;
    let mut seconds: BTreeMap<u64, Histogram<u64>> = BTreeMap::new();
    let mut service = new_histogram();
    for directory in &options.parts {
        for (second, part) in read_log(&directory.join(LATENCY_FILE)).map_err(Failure::Usage)? {
            *seconds.entry(second).or_insert_with(new_histogram) += &part;
        }
        for part in read_log(&directory.join(SERVICE_FILE)).map_err(Failure::Usage)?.values() {
            service += part;
        }
    }
    let mut latency = new_histogram();
    seconds.values().for_each(|second| latency += second);
    let mut summary = sum(&parts, &seconds);
    summary.latency_us = Quantiles::of(&latency);
    summary.service_us = Quantiles::of(&service);
    summary.hold_against(&options.threshold);
    report::print(&summary, &mut std::io::stdout().lock()).map_err(|error| error.to_string())?;
    if let Some(out) = &options.out {
        write(out, &summary, &seconds, &latency, service)?;
    }
    Ok(status(&summary))
}

fn write(
    out: &Path,
    summary: &Summary,
    seconds: &BTreeMap<u64, Histogram<u64>>,
    latency: &Histogram<u64>,
    service: Histogram<u64>,
) -> Result<(), Failure> {
    make_directory(out)?;
    let started = summary.started_at.parse::<jiff::Timestamp>().map_or(SystemTime::UNIX_EPOCH, SystemTime::from);
    let last = seconds.keys().last().map_or(0, |last| last + 1);
    let all: Vec<_> = (0..last).map(|second| seconds.get(&second).cloned().unwrap_or_else(new_histogram)).collect();
    let what = "[Of all parts: in microseconds; Interval_Max in milliseconds]";
    summary.write(out)?;
    write_log(&out.join(LATENCY_FILE), started, what, &all)?;
    write_log(&out.join(SERVICE_FILE), started, what, &[service])?;
    html::write(out, summary, latency)?;
    Ok(())
}

/// Whether these are parts of one run, each once.
fn check(directories: &[PathBuf], parts: &[Summary]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    for (directory, part) in directories.iter().zip(parts) {
        let refused = |why: String| Err(Failure::Usage(format!("{}: {why}", directory.display())));
        let first = &parts[0];
        if (&part.run, &part.scenario) != (&first.run, &first.scenario) {
            return refused(format!(
                "run {} of {} is not a part of run {} of {}; merge takes the parts of one run, started with the same --start-at",
                part.run, part.scenario, first.run, first.scenario
            ));
        }
        let number = part.part.as_deref().unwrap_or("1/1");
        if number.ends_with(" parts") || !seen.insert(number.to_owned()) {
            return refused(format!("{number} is there already; give each part once"));
        }
    }
    Ok(())
}

fn sum(parts: &[Summary], seconds: &BTreeMap<u64, Histogram<u64>>) -> Summary {
    let first = &parts[0];
    let of = first.part.as_deref().and_then(|part| part.split_once('/')).map_or("1", |(_, of)| of);
    let mut all = Summary {
        part: Some(format!("{} of {of} parts", parts.len())),
        started_at: parts.iter().map(|part| &part.started_at).min().cloned().unwrap_or_default(),
        ..Summary {
            threads: 0,
            connections: 0,
            offered: 0,
            answered: 0,
            offered_per_s: 0.0,
            wins: 0,
            sold_outs: 0,
            wins_period: None,
            sold_outs_period: None,
            late_starts: 0,
            late_by_generator: 0,
            dropped_starts: 0,
            dropped: Default::default(),
            outcomes: BTreeMap::new(),
            errors: 0,
            errors_during_outage: 0,
            errors_by_kind: BTreeMap::new(),
            generator_cpu: 0.0,
            by_second: Vec::new(),
            limit: Limit::default(),
            chaos: None,
            audit: AuditSummary { ok: true, ..AuditSummary::default() },
            ..first.clone()
        }
    };
    for part in parts {
        add(&mut all, part);
    }
    all.achieved_per_s = per_second(all.answered, all.elapsed_s);
    all.wins_per_s = Period::rate(all.wins_period, all.wins);
    all.sold_out_per_s = Period::rate(all.sold_outs_period, all.sold_outs);
    for second in &mut all.by_second {
        let histogram = seconds.get(&second.second).cloned().unwrap_or_else(new_histogram);
        second.answers = histogram.len();
        second.p50_us = histogram.value_at_quantile(0.5);
        second.p99_us = histogram.value_at_quantile(0.99);
        second.max_us = histogram.max();
    }
    all
}

fn add(all: &mut Summary, part: &Summary) {
    all.duration_s = all.duration_s.max(part.duration_s);
    all.elapsed_s = all.elapsed_s.max(part.elapsed_s);
    all.interrupted |= part.interrupted;
    all.threads += part.threads;
    all.connections += part.connections;
    all.offered += part.offered;
    all.answered += part.answered;
    all.offered_per_s += part.offered_per_s;
    all.wins += part.wins;
    all.sold_outs += part.sold_outs;
    all.wins_period = union(all.wins_period, part.wins_period);
    all.sold_outs_period = union(all.sold_outs_period, part.sold_outs_period);
    all.late_starts += part.late_starts;
    all.late_by_generator += part.late_by_generator;
    all.dropped_starts += part.dropped_starts;
    all.dropped.in_flight_bound += part.dropped.in_flight_bound;
    all.dropped.waited_too_long += part.dropped.waited_too_long;
    all.dropped.run_over += part.dropped.run_over;
    for (outcome, count) in &part.outcomes {
        *all.outcomes.entry(outcome.clone()).or_default() += count;
    }
    all.errors += part.errors;
    all.errors_during_outage += part.errors_during_outage;
    for (kind, error) in &part.errors_by_kind {
        let none = ErrorSummary { count: 0, during_outage: 0, example: error.example.clone() };
        let known = all.errors_by_kind.entry(kind.clone()).or_insert(none);
        known.count += error.count;
        known.during_outage += error.during_outage;
    }
    all.generator_cpu += part.generator_cpu;
    let of = part.part.as_deref().unwrap_or("1/1");
    // What limited one part limited the run.
    if all.limit.what == What::Nothing {
        all.limit = part.limit.clone();
        if part.limit.what != What::Nothing {
            all.limit.why = format!("part {of}: {}", part.limit.why);
        }
    }
    if all.chaos.is_none() || part.chaos.as_ref().is_some_and(|chaos| chaos.failure.is_some()) {
        all.chaos.clone_from(&part.chaos);
    }
    add_seconds(&mut all.by_second, &part.by_second);
    let audit = &mut all.audit;
    audit.ok &= part.audit.ok;
    audit.checked += part.audit.checked;
    audit.differences += part.audit.differences;
    audit.unknown += part.audit.unknown;
    audit.took_s = audit.took_s.max(part.audit.took_s);
    let words = part.audit.first_differences.iter().map(|words| format!("part {of}: {words}"));
    audit.first_differences.extend(words);
}

fn add_seconds(all: &mut Vec<Second>, part: &[Second]) {
    for second in part {
        while all.len() <= second.second as usize {
            all.push(Second { second: all.len() as u64, ..Second::default() });
        }
        let sum = &mut all[second.second as usize];
        sum.offered += second.offered;
        sum.wins += second.wins;
        sum.sold_outs += second.sold_outs;
        sum.errors += second.errors;
    }
}

fn union(a: Option<Period>, b: Option<Period>) -> Option<Period> {
    match (a, b) {
        (Some(a), Some(b)) => Some(Period { from_s: a.from_s.min(b.from_s), to_s: a.to_s.max(b.to_s) }),
        (a, b) => a.or(b),
    }
}
