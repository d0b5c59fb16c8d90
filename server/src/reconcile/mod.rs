//! `hongbao reconcile`: what is not as it should be in Redis, by type, and what
//! nobody carried, carried; and what a bank's file says otherwise than payouts do.
//!
//! # Layout
//! - `payouts`: a bank's file beside the payouts; `bank` reads it, `here` what is said here, `report` what was found

mod bank;
mod here;
mod payouts;
mod report;

pub use bank::AmountUnit;
pub use payouts::ReconcilePayouts;

use crate::config::{Format, Placed, Reconcile, ReconcileWith};
use crate::failure::Failure;
use crate::progress::Bar;
use hongbao_engine::redis::{Finding, Progress, Reconciled, RedisAudit, RedisBackend, RedisBackendOptions};
use serde::Serialize;

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    carried: u64,
    refused: &'a [String],
    findings: Vec<&'a Finding>,
    /// Effects that wait, the late ones included.
    waiting: u64,
    in_flight: i64,
    /// Buckets in which servers decided all the time.
    unsettled: u64,
    /// Mass envelopes between whose pools shares moved all the time.
    moving: u64,
}

/// Reconciles, and prints what was done and found. Says whether nothing is left.
///
/// # Errors
/// Why it cannot be looked at.
pub fn run(options: &Reconcile) -> Result<bool, Failure> {
    match &options.with {
        Some(ReconcileWith::Payouts(options)) => payouts::run(options),
        None => run_on_redis(options),
    }
}

fn run_on_redis(options: &Reconcile) -> Result<bool, Failure> {
    let done = in_front_of(&options.place, async |backend| {
        let bar = Bar::of("buckets");
        Ok(backend.reconcile(options.repair, &mut |Progress { done, all }| bar.tell(done, all)).await?)
    })?;
    match options.format {
        Format::Json => print_json(&done)?,
        Format::Lines => print_lines(&done, options.repair),
    }
    Ok(done.findings().next().is_none() && done.refused.is_empty())
}

fn print_json(done: &Reconciled) -> Result<(), Failure> {
    let report = Report {
        carried: done.carried,
        refused: &done.refused,
        findings: done.findings().collect(),
        waiting: done.left.waiting,
        in_flight: done.left.totals.in_flight,
        unsettled: done.left.unsettled,
        moving: done.left.moving,
    };
    let text = serde_json::to_string(&report).map_err(|error| Failure::Broken(error.to_string()))?;
    println!("{text}");
    Ok(())
}

fn print_lines(done: &Reconciled, repair: bool) {
    if repair {
        println!("carried {} effects that had waited for a minute", done.carried);
    }
    for why in &done.refused {
        println!("not carried: {why}");
    }
    let mut late = 0;
    for finding in done.findings() {
        late += u64::from(finding.kind == hongbao_engine::redis::FindingKind::LateEffect);
        println!("{}: {}", word_of(finding), finding.what);
    }
    if late > 0 && !repair {
        println!("{late} effects nobody carried: any running server does it, or --repair");
    }
    if done.findings().next().is_none() {
        println!("nothing is left; {} effects are on their way", done.left.waiting);
    }
    tell_unsettled(&done.left);
}

/// The type of a finding as JSON has it.
pub(crate) fn word_of(finding: &Finding) -> String {
    let word = serde_json::to_value(finding.kind).ok();
    word.as_ref().and_then(serde_json::Value::as_str).unwrap_or("finding").to_owned()
}

/// Says what could not be compared because servers decided meanwhile.
pub(crate) fn tell_unsettled(report: &RedisAudit) {
    if report.unsettled > 0 {
        println!(
            "in {} buckets servers decided all the time: their sums were not compared with their rows; \
             stop the servers, or look again when less is asked",
            report.unsettled
        );
    }
    if report.moving > 0 {
        println!(
            "between the pools of {} mass envelopes shares moved all the time: where all of them are was not compared",
            report.moving
        );
    }
    if !report.settled {
        println!("money moved all the time: what is between buckets was not compared with what waits");
    }
}

/// Does `work` with an engine in front of a deployment that is there.
pub(crate) fn in_front_of<T>(
    place: &Placed,
    work: impl AsyncFnOnce(RedisBackend) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let redis = place.options()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = RedisBackendOptions { redis, ..RedisBackendOptions::default() };
        work(RedisBackend::attach(options).await?).await
    })
}
