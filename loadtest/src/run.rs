//! A run from its beginning to its end: set up, load, audit, report.
//!
//! **Invariant:** whatever ends the load, what was acknowledged until then is
//! audited; whatever ends the run, real money is taken back.

use crate::asker::{self, Ready};
use crate::audit::{self, Verdict};
use crate::chaos::{self, Chaos, ChaosReport};
use crate::client::Target;
use crate::facts::{Differences, Facts, HoldState, Known, ShareFact};
use crate::failure::Failure;
use crate::html;
use crate::interrupt::{INTERRUPTED, Interrupt};
use crate::limit::{self, Sample};
use crate::money::{self, MoneySummary};
use crate::options::Options;
use crate::report;
use crate::scenario::Scenario;
use crate::schedule::{LATE_AFTER, Starts, offered_by_second};
use crate::setup;
use crate::summary::{AuditSummary, Dropped, ErrorSummary, Quantiles, Summary, per_second};
use crate::tally::Tally;
use crate::watch::{self, LATENCY_FILE, SERVICE_FILE, Watched};
use crate::worker::{self, Part, Run};
use crate::world::World;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::time::{Duration, Instant, SystemTime};

/// How long before `--start-at` machine and server are looked at.
const LOOK_BEFORE: Duration = Duration::from_secs(1);
/// How long a server is waited for that has had its time to recover.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// A run to be made.
pub(crate) struct Attempt<'a> {
    pub(crate) options: &'a Options,
    pub(crate) scenario: &'a Scenario,
    pub(crate) target: Arc<Target>,
    pub(crate) interrupt: Arc<Interrupt>,
    /// Where its files go.
    pub(crate) out: Option<&'a Path>,
}

/// One run and its report; its exit code.
pub(crate) fn run(options: &Options) -> Result<u8, Failure> {
    let (scenario, target) = (options.scenario()?, Arc::new(options.target()?));
    let interrupt = listen()?;
    let attempt = Attempt { options, scenario: &scenario, target, interrupt, out: options.out.as_deref() };
    let summary = attempt.make()?;
    report::print(&summary, &mut std::io::stdout().lock()).map_err(|error| error.to_string())?;
    Ok(status(&summary))
}

pub(crate) fn listen() -> Result<Arc<Interrupt>, Failure> {
    Ok(Interrupt::listen().map_err(|error| format!("signals cannot be listened to: {error}"))?)
}

/// The exit code of a run.
pub(crate) fn status(summary: &Summary) -> u8 {
    let chaos_failed = summary.chaos.as_ref().is_some_and(|chaos| chaos.failure.is_some());
    match (summary.audit.ok && !chaos_failed, summary.interrupted, summary.thresholds_missed.is_empty()) {
        (false, _, _) => 1,
        (true, true, _) => INTERRUPTED,
        (true, false, false) => 99,
        (true, false, true) => 0,
    }
}

/// Makes a directory for files of a run.
pub(crate) fn make_directory(out: &Path) -> Result<(), Failure> {
    let unmade = |error| Failure::Usage(format!("--out {}: {error}", out.display()));
    std::fs::create_dir_all(out).map_err(unmade)
}

impl Attempt<'_> {
    /// Makes the run and writes its files.
    ///
    /// # Errors
    /// Why there is nothing to report.
    pub(crate) fn make(&self) -> Result<Summary, Failure> {
        if let Some(out) = self.out {
            make_directory(out)?;
        }
        let options = self.options;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let local = tokio::task::LocalSet::new();
        let (world, mut money) = local.block_on(&runtime, self.set_up())?;
        let run = self.prepare(world);
        self.wait_for_start(LOOK_BEFORE);
        let before = local.block_on(&runtime, Sample::take(&self.target));
        let mut load = match self.load(&run) {
            Ok(load) => load,
            Err(why) => {
                local.block_on(&runtime, self.undo(&run.world));
                return Err(why.into());
            }
        };
        let after = local.block_on(&runtime, Sample::take(&self.target));
        let unknown = unknown(&load.facts);
        let audit_started = Instant::now();
        let facts = std::mem::take(&mut load.facts);
        let has_waited = load.chaos.as_ref().is_some_and(|chaos| chaos.recovered_after_s.is_none());
        let patience = if has_waited { LAST_LOOK.min(options.recovery_timeout) } else { options.recovery_timeout };
        let verdict = local.block_on(&runtime, async {
            // An audit of a server that is down can only say so.
            asker::wait_ready(&self.target, patience).await?;
            Ok::<_, String>(audit::audit(Arc::clone(&self.target), Arc::clone(&run.world), facts, load.start).await)
        });
        let mut verdict = verdict.unwrap_or_else(|why| {
            let mut differences = Differences::default();
            differences.add(format!("the audit could not be made: {why}"));
            Verdict { checked: 0, differences, facts: Facts::default() }
        });
        if run.world.is_live {
            local.block_on(&runtime, self.take_back(&run.world, &mut money, &mut verdict));
        }
        let audit = AuditSummary {
            ok: verdict.differences.count == 0,
            checked: verdict.checked,
            differences: verdict.differences.count,
            first_differences: verdict.differences.words,
            unknown,
            took_s: audit_started.elapsed().as_secs_f64(),
        };
        let mut summary = self.summarise(&run, &load, money, audit);
        summary.limit = limit::judge(&summary, &load.tally.service, before, after);
        summary.hold_against(&self.scenario.thresholds);
        if let Some(out) = self.out {
            summary.write(out)?;
            let what = "[Time from sent to answered, in microseconds; Interval_Max in milliseconds]";
            watch::write_log(&out.join(SERVICE_FILE), load.started, what, std::slice::from_ref(&load.tally.service))?;
            html::write(out, &summary, &load.watched.latency)?;
        }
        Ok(summary)
    }

    /// Creates what the run needs, if it may.
    async fn set_up(&self) -> Result<(World, MoneySummary), Failure> {
        let options = self.options;
        self.check_start()?;
        let Ready { test_mode } =
            asker::wait_ready(&self.target, options.start_timeout).await.map_err(Failure::Usage)?;
        let mut world = setup::plan(self.scenario, options.tag(), options.part(), !test_mode);
        let money = money::allow(&world, test_mode, options.allow_live, options.budget)?;
        if let Err(why) = setup::create(&self.target, &mut world).await {
            self.undo(&Arc::new(world)).await;
            return Err(why);
        }
        if let Err(why) = self.check_start() {
            self.undo(&Arc::new(world)).await;
            return Err(why);
        }
        Ok((world, money))
    }

    /// Whether `--start-at` is still to come.
    fn check_start(&self) -> Result<(), Failure> {
        let over = self.options.start_at.filter(|start_at| SystemTime::from(*start_at) < SystemTime::now());
        over.map_or(Ok(()), |start_at| {
            let now = jiff::Timestamp::now();
            Err(Failure::Usage(format!(
                "--start-at {start_at} is over at {now}; choose a later time, with enough of it for setting up"
            )))
        })
    }

    /// Takes back the money of a run that was not made.
    async fn undo(&self, world: &Arc<World>) {
        if !world.is_live {
            return;
        }
        let (amount, failures) = money::take_back(&self.target, world, &Facts::default()).await;
        eprintln!("hongbao-load: {amount} minor units were taken back");
        for why in failures {
            eprintln!("hongbao-load: not taken back: {why}");
        }
    }

    async fn take_back(&self, world: &Arc<World>, money: &mut MoneySummary, verdict: &mut Verdict) {
        let (amount, failures) = money::take_back(&self.target, world, &verdict.facts).await;
        money.refunded = amount;
        if amount != money.deposited || !failures.is_empty() {
            let why = failures.first().map_or("every wallet is empty", String::as_str);
            verdict.differences.add(format!(
                "money: {} minor units were deposited and {amount} taken back ({why}); references begin with {}",
                money.deposited, money.reference_prefix
            ));
        }
    }

    fn prepare(&self, world: World) -> Arc<Run> {
        let (options, scenario) = (self.options, self.scenario);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let connections = usize::from(scenario.connections);
        let threads = options.threads.map_or(cores / 2, usize::from).clamp(1, connections);
        Arc::new(Run {
            target: Arc::clone(&self.target),
            world: Arc::new(world),
            mix: scenario.mix,
            seed: scenario.seed,
            workers: threads as u32,
            connections,
            segments: scenario.segments(),
            poisson: scenario.poisson,
            in_flight_max: options.max_in_flight as usize,
            timeout: options.timeout,
            interrupt: Arc::clone(&self.interrupt),
            outage: AtomicBool::new(false),
            barrier: Barrier::new(threads + 1),
            start: OnceLock::new(),
        })
    }

    fn load(&self, run: &Arc<Run>) -> Result<Load, String> {
        let options = self.options;
        let (sender, intervals) = mpsc::channel();
        let handles: Vec<_> = (0..run.workers)
            .map(|worker| {
                let (run, sender) = (Arc::clone(run), sender.clone());
                std::thread::spawn(move || worker::work(&run, worker, &sender))
            })
            .collect();
        run.barrier.wait();
        self.wait_for_start(Duration::ZERO);
        let start = Instant::now();
        let started = SystemTime::now();
        run.start.set(start).expect("only set here");
        let cpu_before = processor_time();
        run.barrier.wait();
        let chaos = options.chaos_command.clone().zip(options.chaos_at).map(|(command, at)| {
            let log = self.out.map(|out| out.join("chaos.log"));
            let chaos = Chaos { command, at, recovery_timeout: options.recovery_timeout, log };
            let (run, target) = (Arc::clone(run), Arc::clone(&run.target));
            std::thread::spawn(move || chaos::strike(&chaos, &run, &target))
        });
        drop(sender);
        let part = 1.0 / f64::from(run.world.part.of());
        let segments: Vec<_> = run.segments.iter().map(|segment| segment.scaled(part)).collect();
        let log = self.out.map(|out| out.join(LATENCY_FILE));
        let watched = watch::watch(&intervals, run.workers, started, &offered_by_second(&segments), log.as_deref());
        let watched = watched.map_err(|error| format!("{LATENCY_FILE}: {error}"))?;
        // Whoever interrupts the audit did not interrupt the load.
        let interrupted_after = run.interrupt.after(start).filter(|after| *after < self.scenario.duration());
        let mut load = Load {
            facts: Facts::default(),
            start,
            started,
            watched,
            starts: Starts::default(),
            tally: Tally::new(None),
            generator_cpu: 0.0,
            chaos: None,
            interrupted_after,
        };
        for handle in handles {
            let part = handle.join().map_err(|_| "a worker died".to_owned())?;
            let Part { facts, starts, tally } = part.map_err(|error| error.to_string())?;
            load.facts.absorb(facts);
            load.starts.add(&starts);
            load.tally.absorb(&tally);
        }
        load.generator_cpu = (processor_time() - cpu_before).as_secs_f64() / start.elapsed().as_secs_f64();
        if let Some(strike) = chaos {
            load.chaos = strike.join().map_err(|_| "the chaos thread died".to_owned())?;
        }
        Ok(load)
    }

    /// Waits until so long before `--start-at`, or for whoever does not want to wait.
    fn wait_for_start(&self, before: Duration) {
        let Some(start_at) = self.options.start_at.map(|at| SystemTime::from(at) - before) else { return };
        while let Ok(left) = start_at.duration_since(SystemTime::now()) {
            if self.interrupt.is_raised() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    fn summarise(&self, run: &Run, load: &Load, money: MoneySummary, audit: AuditSummary) -> Summary {
        let world: &World = &run.world;
        let (starts, tally) = (&load.starts, &load.tally);
        let duration_s = load.interrupted_after.unwrap_or(self.scenario.duration()).as_secs_f64();
        let elapsed_s = tally.last_answer.as_secs_f64().max(duration_s);
        let errors_by_kind = tally.errors.iter().map(|error| {
            let summary =
                ErrorSummary { count: error.count, during_outage: error.during_outage, example: error.example.clone() };
            (error.kind.clone(), summary)
        });
        let outcomes = tally.outcomes.iter();
        Summary {
            run: world.tag.clone(),
            part: self.options.part.map(|part| part.to_string()),
            scenario: self.scenario.name.clone(),
            seed: run.seed,
            target: run.target.url.clone(),
            started_at: jiff::Timestamp::try_from(load.started).map(|at| at.to_string()).unwrap_or_default(),
            duration_s,
            interrupted: load.interrupted_after.is_some(),
            elapsed_s,
            threads: run.workers,
            connections: run.connections,
            users: world.population,
            envelopes: world.envelopes.len(),
            shares: world.envelopes.iter().map(|envelope| u64::from(envelope.shares)).sum(),
            stock: stock(world),
            offered: starts.offered,
            answered: tally.answers,
            offered_per_s: per_second(starts.offered, duration_s),
            achieved_per_s: per_second(tally.answers, elapsed_s),
            wins: tally.wins.count,
            sold_outs: tally.sold_outs.count,
            wins_per_s: tally.wins.per_second(),
            wins_period: tally.wins.period(),
            sold_out_per_s: tally.sold_outs.per_second(),
            sold_outs_period: tally.sold_outs.period(),
            late_starts: starts.late,
            late_by_generator: starts.noticed_late,
            late_after_us: LATE_AFTER.as_micros() as u64,
            dropped_starts: starts.dropped(),
            dropped: Dropped {
                in_flight_bound: starts.dropped_bound,
                waited_too_long: starts.dropped_waited,
                run_over: starts.dropped_over,
            },
            outcomes: outcomes.map(|(action, outcome, count)| (format!("{action}_{outcome}"), *count)).collect(),
            errors: tally.errors.iter().map(|error| error.count).sum(),
            errors_during_outage: tally.errors.iter().map(|error| error.during_outage).sum(),
            errors_by_kind: errors_by_kind.collect(),
            thresholds: Vec::new(),
            thresholds_missed: Vec::new(),
            latency_us: Quantiles::of(&load.watched.latency),
            service_us: Quantiles::of(&tally.service),
            generator_cpu: load.generator_cpu,
            limit: limit::Limit::default(),
            by_second: load.watched.seconds.clone(),
            money,
            chaos: load.chaos.clone(),
            audit,
        }
    }
}

/// What the load phase leaves.
struct Load {
    facts: Facts,
    start: Instant,
    started: SystemTime,
    watched: Watched,
    starts: Starts,
    tally: Tally,
    generator_cpu: f64,
    chaos: Option<ChaosReport>,
    /// When the load was interrupted, if it was.
    interrupted_after: Option<Duration>,
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
    let steps = facts.gifts.values().chain(facts.gatherings.values()).filter(|known| known.is_unknown);
    (shares.count() + units.count() + steps.count()) as u64
}

/// Units on sale and to be given.
fn stock(world: &World) -> u64 {
    let sale: u64 = world.items.iter().map(|item| u64::from(item.stock)).sum();
    let together = world.gathering.as_ref().map_or(0, |it| u64::from(it.stock()) * it.items.len() as u64);
    sale + together + world.giving.as_ref().map_or(0, |giving| u64::from(giving.stock()) * giving.items.len() as u64)
}
