//! Tells the run: progress while it lasts, `summary.json` and `latency.hlog`
//! for machines, a page for people.
//!
//! **Invariant:** every interval is told once, whole (all workers' parts merged)
//! and in order.

use crate::chaos::ChaosReport;
use crate::tally::{Interval, new_histogram};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

/// `summary.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) scenario: &'static str,
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
    /// Between the first sold-out and the last.
    pub(crate) sold_out_per_s: f64,
    pub(crate) late_starts: u64,
    pub(crate) late_after_us: u64,
    pub(crate) dropped_starts: u64,
    pub(crate) dropped: Dropped,
    pub(crate) outcomes: BTreeMap<String, u64>,
    pub(crate) errors: u64,
    pub(crate) errors_during_outage: u64,
    pub(crate) errors_by_kind: BTreeMap<String, ErrorSummary>,
    pub(crate) thresholds_missed: Vec<String>,
    /// From when a request was due to its answer.
    pub(crate) latency_us: Quantiles,
    /// From when a request was sent to its answer.
    pub(crate) service_us: Quantiles,
    /// Cores' worth of processor time this program used during the run.
    pub(crate) generator_cpu: f64,
    pub(crate) chaos: Option<ChaosReport>,
    pub(crate) audit: AuditSummary,
}

#[derive(Debug, Serialize)]
pub(crate) struct Dropped {
    pub(crate) in_flight_bound: u64,
    pub(crate) waited_too_long: u64,
    pub(crate) run_over: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct ErrorSummary {
    pub(crate) count: u64,
    pub(crate) during_outage: u64,
    pub(crate) example: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct AuditSummary {
    pub(crate) ok: bool,
    pub(crate) checked: u64,
    pub(crate) differences: u64,
    pub(crate) first_differences: Vec<String>,
    /// Requests whose outcome had to be asked for.
    pub(crate) unknown: u64,
    pub(crate) took_s: f64,
}

#[derive(Debug, Serialize)]
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

/// Merges the workers' seconds until all workers are done, telling each. Returns
/// the latencies of the whole run.
pub(crate) fn watch(
    intervals: &Receiver<Interval>,
    workers: u32,
    started: SystemTime,
    seconds: u64,
    log: Option<&mut dyn Write>,
) -> io::Result<Histogram<u64>> {
    let mut nowhere = io::sink();
    let mut log = log.unwrap_or(&mut nowhere);
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Latency from the intended start, in microseconds; Interval_Max in milliseconds]")
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(1000.0)
        .begin_log_with(&mut log, &mut serializer)?;
    let bar = progress_bar(seconds);
    let mut total = new_histogram();
    let mut open: BTreeMap<u64, (u32, Interval)> = BTreeMap::new();
    for part in intervals {
        let entry = open.entry(part.second).or_insert_with(|| (0, Interval::new(part.second)));
        entry.0 += 1;
        merge(&mut entry.1, &part);
        while let Some(first) = open.first_entry() {
            if first.get().0 < workers {
                break;
            }
            tell(&first.remove().1, &mut total, &mut writer, &bar)?;
        }
    }
    for (_, interval) in open.into_values() {
        tell(&interval, &mut total, &mut writer, &bar)?;
    }
    bar.finish_and_clear();
    Ok(total)
}

fn merge(into: &mut Interval, part: &Interval) {
    into.latency += &part.latency;
    into.wins += part.wins;
    into.sold_outs += part.sold_outs;
    into.errors += part.errors;
}

fn tell<W: Write>(
    interval: &Interval,
    total: &mut Histogram<u64>,
    writer: &mut IntervalLogWriter<'_, '_, W, V2DeflateSerializer>,
    bar: &ProgressBar,
) -> io::Result<()> {
    *total += &interval.latency;
    writer
        .write_histogram(&interval.latency, Duration::from_secs(interval.second), Duration::from_secs(1), None)
        .map_err(io::Error::other)?;
    bar.set_position(interval.second + 1);
    bar.set_message(format!(
        "{} answers/s  {} wins/s  {} sold out/s  {} errors/s  p99 {}",
        interval.latency.len(),
        interval.wins,
        interval.sold_outs,
        interval.errors,
        human_us(interval.latency.value_at_quantile(0.99)),
    ));
    Ok(())
}

/// Shows itself on a terminal only.
fn progress_bar(seconds: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(seconds), ProgressDrawTarget::stderr_with_hz(5));
    if let Ok(style) = ProgressStyle::with_template("{pos:>4}/{len} s {bar:30} {msg}") {
        bar.set_style(style);
    }
    bar
}

fn human_us(us: u64) -> String {
    match us {
        0..1000 => format!("{us} us"),
        1000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// The page for people.
pub(crate) fn print(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let s = summary;
    writeln!(out, "hongbao-load {} on {} (seed {})", s.scenario, s.target, s.seed)?;
    writeln!(
        out,
        "  offered    {:>10.0} /s for {:.1} s ({} requests, {} threads, {} connections)",
        s.offered_per_s, s.duration_s, s.offered, s.threads, s.connections
    )?;
    if s.interrupted {
        writeln!(out, "  INTERRUPTED after {:.1} s: what follows is about the part until then", s.duration_s)?;
    }
    writeln!(out, "  achieved   {:>10.0} /s ({} answers in {:.1} s)", s.achieved_per_s, s.answered, s.elapsed_s)?;
    writeln!(out, "  wins       {:>10.0} /s while there were any ({})", s.wins_per_s, s.wins)?;
    writeln!(out, "  sold out   {:>10.0} /s while it was ({})", s.sold_out_per_s, s.sold_outs)?;
    for (what, q) in [("latency", &s.latency_us), ("service", &s.service_us)] {
        writeln!(
            out,
            "  {what}    p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            human_us(q.p50),
            human_us(q.p90),
            human_us(q.p99),
            human_us(q.p999),
            human_us(q.max)
        )?;
    }
    writeln!(
        out,
        "  starts     {} late (by more than {}), {} dropped",
        s.late_starts,
        human_us(s.late_after_us),
        s.dropped_starts
    )?;
    writeln!(out, "  generator  {:.2} cores", s.generator_cpu)?;
    for (outcome, count) in &s.outcomes {
        writeln!(out, "    {outcome:<28} {count:>10}")?;
    }
    if s.errors > 0 {
        writeln!(out, "  errors     {} ({} during the outage)", s.errors, s.errors_during_outage)?;
        for (kind, error) in &s.errors_by_kind {
            writeln!(out, "    {kind:<28} {:>10}  {}", error.count, error.example)?;
        }
    }
    if let Some(chaos) = &s.chaos {
        let recovered = match chaos.recovered_after_s {
            Some(seconds) => format!("ready again after {seconds:.2} s"),
            None => "not ready again".to_owned(),
        };
        writeln!(out, "  chaos      at {:.1} s: {recovered}", chaos.at_s)?;
        if let Some(failure) = &chaos.failure {
            writeln!(out, "  CHAOS      {failure}")?;
        }
    }
    for threshold in &s.thresholds_missed {
        writeln!(out, "  threshold  {threshold} missed")?;
    }
    let a = &s.audit;
    let verdict = if a.ok { "ok" } else { "FAILED" };
    writeln!(
        out,
        "  audit      {verdict}: {} checks, {} differences, {} unknown outcomes asked again ({:.1} s)",
        a.checked, a.differences, a.unknown, a.took_s
    )?;
    for words in &a.first_differences {
        writeln!(out, "    DIFFERENCE {words}")?;
    }
    let untold = a.differences.saturating_sub(a.first_differences.len() as u64);
    if untold > 0 {
        writeln!(out, "    and {untold} more")?;
    }
    Ok(())
}
