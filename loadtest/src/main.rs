//! `hongbao-load`: an open-model load tester for Hongbao servers, with an audit
//! of every acknowledged answer.
//!
//! **Invariant:** exit code 0 means that the server kept every promise it made
//! during the run; 1 that it did not, or that this could not be found out; 2 is
//! wrong usage, and nothing was offered; 99 a missed threshold and 130 an interruption of a run that is
//! otherwise fine.
//!
//! # Layout
//! - `schedule` when requests are due, `pacer` sleeps until then
//! - `scenario` what is asked, `setup` creates what that needs
//! - `client` one connection, `worker` drives many, `tally` counts
//! - `facts` what was acknowledged, `audit` and `audit_units` hold it against the server
//! - `chaos` breaks the server, `interrupt` ends the load early, `report` tells it all,
//!   `failure` why there is nothing to tell

mod asker;
mod audit;
mod audit_units;
mod chaos;
mod client;
mod facts;
mod failure;
mod interrupt;
mod pacer;
mod report;
mod scenario;
mod schedule;
mod setup;
mod tally;
mod threshold;
mod worker;

use crate::chaos::{Chaos, ChaosReport};
use crate::client::Target;
use crate::facts::{Facts, HoldState, Known, ShareFact};
use crate::failure::Failure;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::report::{AuditSummary, Dropped, ErrorSummary, Quantiles, Summary};
use crate::scenario::{Scenario, World};
use crate::schedule::{LATE_AFTER, Segment, Starts};
use crate::tally::Tally;
use crate::threshold::Threshold;
use crate::worker::{Part, Run};
use clap::{Args, Parser, Subcommand};
use hdrhistogram::Histogram;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::time::{Duration, Instant, SystemTime};

/// Open-model load tester for Hongbao servers, with an audit of every acknowledged answer.
///
/// Exit codes: 0 fine, 1 the audit failed or could not be made, 2 wrong usage
/// (also a key that is not the server's, or a target where nobody listens), 99 a
/// threshold was missed, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "hongbao-load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario, then audit
    Run(Box<Options>),
}

#[derive(Debug, Args)]
struct Options {
    scenario: Scenario,
    /// Base URL of the server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    target: String,
    /// API key with the role admin
    #[arg(long, env = "HONGBAO_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Requests offered a second, whatever the server does (for flash: after the spike)
    #[arg(long, default_value_t = 20_000.0, value_parser = rate)]
    rate: f64,
    /// How long requests are offered, e.g. 30s, 500ms, 2m
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Connections, kept open, one request at a time on each
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    connections: u16,
    /// Threads; by default half of the cores, as the server may need the others
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// People that grab envelopes (groups, mixed: at least 121)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    users: Option<u32>,
    /// Shares of the mass envelope (hot, mixed)
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    shares: u32,
    /// Small envelopes (groups, mixed); by default as many as the rate can exhaust, up to 50,000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    envelopes: Option<u32>,
    /// Units on sale (flash, mixed); 100 times as many users want one
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    stock: u32,
    /// Over how long the users of a flash sale arrive
    #[arg(long, default_value = "2s", value_parser = duration)]
    spike: Duration,
    /// How long a unit is held (whole seconds)
    #[arg(long, default_value = "900s", value_parser = duration)]
    hold_ttl: Duration,
    /// Exponential gaps between requests instead of even ones
    #[arg(long)]
    poisson: bool,
    /// Of the scenario's choices; the same seed asks the same
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long a request may wait for its connection, and again for its answer
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Requests due or in flight at once, at most; more are dropped and counted
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    max_in_flight: u32,
    /// Latency that must be kept, e.g. 'p99<20ms' (p50, p90, p99, p999, max); may be repeated
    #[arg(long)]
    threshold: Vec<Threshold>,
    /// How long to wait for the server to be ready before the run
    #[arg(long, default_value = "10s", value_parser = duration)]
    start_timeout: Duration,
    /// Directory for summary.json, latency.hlog and chaos.log
    #[arg(long)]
    out: Option<PathBuf>,
    /// Run through `sh -c` during the run: must kill the server and start it again in the background
    #[arg(long, requires = "chaos_at")]
    chaos_command: Option<String>,
    /// When, since the run's start
    #[arg(long, value_parser = duration, requires = "chaos_command")]
    chaos_at: Option<Duration>,
    /// How long the server may take to be ready again before the audit
    #[arg(long, default_value = "60s", value_parser = duration)]
    recovery_timeout: Duration,
    /// Allow a target that is not this machine
    #[arg(long)]
    allow_remote: bool,
}

const DURATION_MAX: Duration = Duration::from_secs(86_400);

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "give a number and a unit: 30s, 500ms, 2m".to_owned())?;
    let unit_s = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("the unit is us, ms, s, m or h: 30s, 500ms, 2m".to_owned()),
    };
    let duration = Duration::try_from_secs_f64(number * unit_s).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err("more than nothing and at most a day".to_owned());
    }
    Ok(duration)
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("requests a second, 0.1 to 10000000".to_owned()),
    }
}

fn main() -> ExitCode {
    let Command::Run(options) = Cli::parse().command;
    let target = match Target::new(&options.target, options.key.as_deref()) {
        Ok(target) if target.is_loopback() || options.allow_remote => target,
        Ok(_) => return usage("--target is not this machine; if you may load it, say --allow-remote"),
        Err(why) => return usage(&why),
    };
    if options.scenario.has_groups() && options.users.is_some_and(|users| users < setup::USERS_MIN_OF_GROUPS) {
        return usage("--users: small envelopes have up to 121 different people each");
    }
    if options.hold_ttl.subsec_nanos() != 0 {
        return usage("--hold-ttl: whole seconds");
    }
    if let Some(at) = options.chaos_at.filter(|at| *at >= options.duration) {
        let (at_s, duration_s) = (at.as_secs_f64(), options.duration.as_secs_f64());
        let why = format!(
            "--chaos-at {at_s}s is not before the end of --duration {duration_s}s; choose a time during the run"
        );
        return usage(&why);
    }
    run(&options, target).map_or_else(|failure| failed(&failure), ExitCode::from)
}

fn usage(why: &str) -> ExitCode {
    failed(&Failure::Usage(why.to_owned()))
}

fn failed(failure: &Failure) -> ExitCode {
    eprintln!("hongbao-load: {failure}");
    ExitCode::from(failure.status())
}

/// The whole run; its exit code.
fn run(options: &Options, target: Target) -> Result<u8, Failure> {
    if let Some(out) = &options.out {
        let unmade = |error| Failure::Usage(format!("--out {}: {error}", out.display()));
        std::fs::create_dir_all(out).map_err(unmade)?;
    }
    let target = Arc::new(target);
    let segments = segments(options);
    let arrivals = segments.iter().map(|s| s.per_second * s.length.as_secs_f64()).sum();
    let size = size(options, arrivals);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let local = tokio::task::LocalSet::new();
    let world = local.block_on(&runtime, async {
        asker::wait_ready(&target, options.start_timeout).await.map_err(Failure::Usage)?;
        setup::create(&target, setup::plan(&size)).await
    })?;

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.map_or(cores / 2, usize::from).clamp(1, usize::from(options.connections));
    let run = Arc::new(Run {
        target: Arc::clone(&target),
        world: Arc::new(world),
        scenario: options.scenario,
        seed: options.seed,
        workers: threads as u32,
        connections: usize::from(options.connections),
        segments,
        poisson: options.poisson,
        in_flight_max: options.max_in_flight as usize,
        timeout: options.timeout,
        interrupt: Interrupt::listen().map_err(|error| format!("signals cannot be listened to: {error}"))?,
        outage: AtomicBool::new(false),
        barrier: Barrier::new(threads + 1),
        start: OnceLock::new(),
    });
    let load = load(options, &run)?;
    let world = Arc::clone(&run.world);
    let unknown = unknown(&load.facts);
    let audit_started = Instant::now();
    let verdict = local.block_on(&runtime, async {
        // An audit of a server that is down can only say so.
        asker::wait_ready(&target, options.recovery_timeout).await?;
        Ok::<_, String>(audit::audit(Arc::clone(&target), world, load.facts, load.start).await)
    });
    let verdict = verdict.unwrap_or_else(|why| {
        let mut differences = facts::Differences::default();
        differences.add(format!("the audit could not be made: {why}"));
        audit::Verdict { checked: 0, differences }
    });
    let audit = AuditSummary {
        ok: verdict.differences.count == 0,
        checked: verdict.checked,
        differences: verdict.differences.count,
        first_differences: verdict.differences.words,
        unknown,
        took_s: audit_started.elapsed().as_secs_f64(),
    };
    let summary = summarise(options, &run, load.measured, audit);
    report::print(&summary, &mut std::io::stdout().lock()).map_err(|error| error.to_string())?;
    if let Some(out) = &options.out {
        write_summary(out, &summary)?;
    }
    let chaos_failed = summary.chaos.as_ref().is_some_and(|chaos| chaos.failure.is_some());
    Ok(match (summary.audit.ok && !chaos_failed, summary.interrupted, summary.thresholds_missed.is_empty()) {
        (false, _, _) => 1,
        (true, true, _) => INTERRUPTED,
        (true, false, false) => 99,
        (true, false, true) => 0,
    })
}

/// The rates of the run: a flash sale begins with its spike.
fn segments(options: &Options) -> Vec<Segment> {
    if options.scenario != Scenario::Flash {
        return vec![Segment { per_second: options.rate, length: options.duration }];
    }
    let spike = options.spike.min(options.duration);
    let users = f64::from(size(options, 0.0).flash_users());
    vec![
        Segment { per_second: users / spike.as_secs_f64(), length: spike },
        Segment { per_second: options.rate, length: options.duration - spike },
    ]
}

fn size(options: &Options, arrivals: f64) -> setup::Size {
    setup::Size {
        scenario: options.scenario,
        seed: options.seed,
        arrivals,
        users: options.users,
        shares: options.shares,
        envelopes: options.envelopes,
        stock: options.stock,
        hold_ttl: options.hold_ttl,
    }
}

/// What the load phase leaves.
struct Load {
    facts: Facts,
    start: Instant,
    measured: Measured,
}

struct Measured {
    started_at: String,
    latency: Histogram<u64>,
    starts: Starts,
    tally: Tally,
    generator_cpu: f64,
    chaos: Option<ChaosReport>,
    /// When the load was interrupted, if it was.
    interrupted_after: Option<Duration>,
}

fn load(options: &Options, run: &Arc<Run>) -> Result<Load, String> {
    let (sender, intervals) = mpsc::channel();
    let handles: Vec<_> = (0..run.workers)
        .map(|worker| {
            let (run, sender) = (Arc::clone(run), sender.clone());
            std::thread::spawn(move || worker::work(&run, worker, &sender))
        })
        .collect();
    run.barrier.wait();
    let start = Instant::now();
    let started = SystemTime::now();
    let started_at = jiff::Timestamp::now().to_string();
    run.start.set(start).expect("only set here");
    let cpu_before = processor_time();
    run.barrier.wait();
    let chaos = options.chaos_command.clone().zip(options.chaos_at).map(|(command, at)| {
        let log = options.out.as_ref().map(|out| out.join("chaos.log"));
        let chaos = Chaos { command, at, recovery_timeout: options.recovery_timeout, log };
        let (run, target) = (Arc::clone(run), Arc::clone(&run.target));
        std::thread::spawn(move || chaos::strike(&chaos, &run, &target))
    });
    drop(sender);
    let latency = watch(options, run, &intervals, started)?;
    // Whoever interrupts the audit did not interrupt the load.
    let interrupted_after = run.interrupt.after(start).filter(|after| *after < options.duration);
    let mut totals = Tally::new(None);
    let mut facts = Facts::default();
    let mut starts = Starts::default();
    for handle in handles {
        let part = handle.join().map_err(|_| "a worker died".to_owned())?;
        let Part { facts: part_facts, starts: part_starts, tally } = part.map_err(|error| error.to_string())?;
        facts.absorb(part_facts);
        starts.add(&part_starts);
        totals.absorb(&tally);
    }
    let generator_cpu = (processor_time() - cpu_before).as_secs_f64() / start.elapsed().as_secs_f64();
    let chaos = match chaos {
        Some(strike) => strike.join().map_err(|_| "the chaos thread died".to_owned())?,
        None => None,
    };
    let measured = Measured { started_at, latency, starts, tally: totals, generator_cpu, chaos, interrupted_after };
    Ok(Load { facts, start, measured })
}

fn watch(
    options: &Options,
    run: &Run,
    intervals: &mpsc::Receiver<tally::Interval>,
    started: SystemTime,
) -> Result<Histogram<u64>, String> {
    let mut log = match &options.out {
        Some(out) => {
            let path = out.join("latency.hlog");
            let file = std::fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Some(BufWriter::new(file))
        }
        None => None,
    };
    let seconds = options.duration.as_secs_f64().ceil() as u64;
    let log = log.as_mut().map(|log| log as &mut dyn std::io::Write);
    report::watch(intervals, run.workers, started, seconds, log).map_err(|error| format!("latency.hlog: {error}"))
}

/// How much this process has used of all processors.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn unknown(facts: &Facts) -> u64 {
    let shares = facts
        .shares
        .values()
        .filter(|fact| matches!(fact, ShareFact::Unknown | ShareFact::Won { claimed: Known::Unknown, .. }));
    let units = facts.holds.values().filter(|hold| {
        matches!(hold.state, HoldState::GrabUnknown | HoldState::ClaimUnknown | HoldState::ReleaseUnknown)
    });
    (shares.count() + units.count()) as u64
}

fn summarise(options: &Options, run: &Run, measured: Measured, audit: AuditSummary) -> Summary {
    let Measured { started_at, latency, starts, tally, generator_cpu, chaos, interrupted_after } = measured;
    let world: &World = &run.world;
    let duration_s = interrupted_after.unwrap_or(options.duration).as_secs_f64();
    let elapsed_s = tally.last_answer.as_secs_f64().max(duration_s);
    let latency_us = Quantiles::of(&latency);
    let missed = options.threshold.iter().filter(|threshold| !threshold.is_met(&latency_us));
    let missed: Vec<String> = missed.map(Threshold::to_string).collect();
    let errors_by_kind = tally.errors.iter().map(|error| {
        let summary =
            ErrorSummary { count: error.count, during_outage: error.during_outage, example: error.example.clone() };
        (error.kind.clone(), summary)
    });
    Summary {
        scenario: options.scenario.name(),
        seed: options.seed,
        target: run.target.url.clone(),
        started_at,
        duration_s,
        interrupted: interrupted_after.is_some(),
        elapsed_s,
        threads: run.workers,
        connections: run.connections,
        users: world.population,
        envelopes: world.envelopes.len(),
        shares: world.envelopes.iter().map(|envelope| u64::from(envelope.shares)).sum(),
        stock: world.items.iter().map(|item| u64::from(item.stock)).sum(),
        offered: starts.offered,
        answered: tally.answers,
        offered_per_s: starts.offered as f64 / duration_s,
        achieved_per_s: tally.answers as f64 / elapsed_s,
        wins: tally.wins.count,
        sold_outs: tally.sold_outs.count,
        wins_per_s: tally.wins.per_second(),
        sold_out_per_s: tally.sold_outs.per_second(),
        late_starts: starts.late,
        late_after_us: LATE_AFTER.as_micros() as u64,
        dropped_starts: starts.dropped(),
        dropped: Dropped {
            in_flight_bound: starts.dropped_bound,
            waited_too_long: starts.dropped_waited,
            run_over: starts.dropped_over,
        },
        outcomes: tally
            .outcomes
            .iter()
            .map(|(action, outcome, count)| (format!("{action}_{outcome}"), *count))
            .collect(),
        errors: tally.errors.iter().map(|error| error.count).sum(),
        errors_during_outage: tally.errors.iter().map(|error| error.during_outage).sum(),
        errors_by_kind: errors_by_kind.collect(),
        thresholds_missed: missed,
        latency_us,
        service_us: Quantiles::of(&tally.service),
        generator_cpu,
        chaos,
        audit,
    }
}

fn write_summary(out: &Path, summary: &Summary) -> Result<(), String> {
    let path = out.join("summary.json");
    let mut text = serde_json::to_string_pretty(summary).map_err(|error| error.to_string())?;
    text.push('\n');
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, ms) in [("30s", 30_000), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["30", "s", "", "-1s", "0s", "25h", "1d", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
