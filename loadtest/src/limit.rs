//! What a run could not have exceeded: the generator itself, its connections,
//! the server's disk, the machine's processors, or nothing.
//!
//! **Invariant:** a limit is named only where something measured says so, with
//! the figures; a run that kept up has none.

use crate::asker::Asker;
use crate::client::{Request, Target};
use crate::summary::Summary;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Below this share of the requests, late starts are chance.
const LATE_SHARE: f64 = 0.01;
/// A resource that is busy for this share of the time is used up.
const BUSY: f64 = 0.9;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// The run kept up with its rate.
    #[default]
    Nothing,
    Generator,
    Connections,
    Disk,
    Processor,
    Server,
}

impl What {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Generator => "the generator",
            Self::Connections => "its connections",
            Self::Disk => "the server's disk",
            Self::Processor => "this machine's processors",
            Self::Server => "the server",
        }
    }
}

/// What the run was limited by, and what says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) what: What,
    pub(crate) why: String,
}

/// What can be seen of the machine and the server at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Busy and all processor time since the start, if the server is on this machine.
    processors: Option<(u64, u64)>,
    /// Batches that the journal has synced, and how long a slow sync takes, in seconds.
    syncs: Option<(f64, f64)>,
}

impl Sample {
    /// Looks once; a server whose metrics are elsewhere tells less.
    pub(crate) async fn take(target: &Arc<Target>) -> Self {
        let mut asker = Asker::new(Arc::clone(target), Duration::from_secs(1));
        let metrics = Request { path: "/metrics", idempotency_key: None, body: None };
        let syncs = match asker.ask(&metrics).await {
            Ok(200) => {
                let text = String::from_utf8_lossy(asker.body());
                metric(&text, "hongbao_journal_batches").zip(metric(&text, "hongbao_journal_sync_p99_seconds"))
            }
            _ => None,
        };
        let stat = std::fs::read_to_string("/proc/stat").ok().filter(|_| target.is_loopback());
        Self { processors: stat.and_then(|stat| processor_ticks(&stat)), syncs }
    }
}

fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split(' ').next()?.parse().ok()
}

/// Busy and all ticks of all processors together.
fn processor_ticks(stat: &str) -> Option<(u64, u64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let all: u64 = ticks.iter().sum();
    Some((all - ticks.get(3)? - ticks.get(4)?, all))
}

/// What limited a run, seen before and after its load.
pub(crate) fn judge(summary: &Summary, service: &Histogram<u64>, before: Sample, after: Sample) -> Limit {
    let limit = |what: What, why: String| Limit { what, why };
    let s = summary;
    let offered = s.offered.max(1) as f64;
    let late = s.late_starts as f64 / offered;
    let noticed_late = s.late_by_generator as f64 / offered;
    let (cpu, threads) = (s.generator_cpu, f64::from(s.threads.max(1)));
    if late < LATE_SHARE && s.dropped_starts == 0 {
        return limit(What::Nothing, "it kept up with the rate".to_owned());
    }
    let processors = before.processors.zip(after.processors);
    let busy = processors.map_or(0.0, |((busy, all), (busy_after, all_after))| {
        busy_after.saturating_sub(busy) as f64 / all_after.saturating_sub(all).max(1) as f64
    });
    let used_up = cpu >= BUSY * threads && late >= LATE_SHARE;
    if used_up || (noticed_late >= LATE_SHARE && busy < BUSY) {
        let why = format!(
            "it noticed {:.1}% of the starts too late and used {cpu:.2} cores of {threads:.0}, so the latencies are \
             partly its own; give it more --threads, a machine of its own, or a part of the load (--part)",
            noticed_late * 100.0
        );
        return limit(What::Generator, why);
    }
    let processor_bound = || {
        let why = format!(
            "they were busy for {:.0}% of the time, {cpu:.2} cores of that with this program, which noticed {:.1}% of \
             the starts too late: the latencies are partly its own; a generator on another machine measures the \
             server alone",
            busy * 100.0,
            noticed_late * 100.0
        );
        limit(What::Processor, why)
    };
    if noticed_late >= LATE_SHARE {
        return processor_bound();
    }
    if let (Some((batches, _)), Some((batches_after, sync_p99_s))) = (before.syncs, after.syncs) {
        let syncing = (batches_after - batches) * sync_p99_s / s.elapsed_s.max(1e-9);
        if syncing >= BUSY {
            let per_second = (batches_after - batches) / s.elapsed_s.max(1e-9);
            let why = format!("{per_second:.0} syncs a second, of which a slow one takes {:.2} ms", sync_p99_s * 1e3);
            return limit(What::Disk, why);
        }
    }
    if busy >= BUSY {
        return processor_bound();
    }
    // Little's law: how many requests were with the server on average.
    let with_server = s.achieved_per_s * service.mean() / 1e6;
    let connections = s.connections.max(1) as f64;
    if with_server >= BUSY * connections {
        let why = format!(
            "{with_server:.1} of {connections:.0} were waiting for an answer on average, {:.2} ms each: the server is \
             slower than the rate, or --connections are too few for it",
            service.mean() / 1e3
        );
        return limit(What::Connections, why);
    }
    let why = format!(
        "{:.1}% of the starts were late and {} dropped as all connections waited for answers at the time",
        late * 100.0,
        s.dropped_starts
    );
    limit(What::Server, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(batches: f64, busy: u64) -> Sample {
        Sample { processors: Some((busy, 1000 + busy)), syncs: Some((batches, 0.001)) }
    }

    #[test]
    fn limits_by_what_was_measured() {
        let mut service = crate::tally::new_histogram();
        service.record_n(1000, 100).unwrap();
        let kept_up = Summary {
            offered: 10_000,
            threads: 1,
            connections: 10,
            elapsed_s: 10.0,
            achieved_per_s: 1000.0,
            generator_cpu: 0.2,
            ..Summary::default()
        };
        let late = Summary { late_starts: 500, ..kept_up.clone() };
        let idle = (sample(0.0, 0), Sample { processors: Some((100, 2000)), ..sample(10.0, 0) });
        for (summary, (before, after), what) in [
            (kept_up.clone(), idle, What::Nothing),
            (Summary { dropped_starts: 1, ..kept_up }, idle, What::Server),
            (late.clone(), idle, What::Server),
            (Summary { late_by_generator: 400, ..late.clone() }, idle, What::Generator),
            (Summary { late_by_generator: 50, ..late.clone() }, idle, What::Server),
            (Summary { generator_cpu: 0.95, ..late.clone() }, idle, What::Generator),
            (Summary { generator_cpu: 0.95, ..late.clone() }, (sample(0.0, 0), sample(10.0, 9000)), What::Generator),
            (Summary { late_by_generator: 400, ..late.clone() }, (sample(0.0, 0), sample(10.0, 9000)), What::Processor),
            (late.clone(), (sample(0.0, 0), sample(9500.0, 0)), What::Disk),
            (late.clone(), (sample(0.0, 0), sample(10.0, 5000)), What::Processor),
            (Summary { achieved_per_s: 9500.0, ..late.clone() }, idle, What::Connections),
            (late, (Sample::default(), Sample::default()), What::Server),
        ] {
            assert_eq!(judge(&summary, &service, before, after).what, what, "{summary:?}");
        }
    }

    #[test]
    fn what_is_looked_at() {
        let text = "# HELP hongbao_journal_batches x\nhongbao_journal_batches_total 7\nhongbao_journal_batches 12\n";
        assert_eq!(metric(text, "hongbao_journal_batches"), Some(12.0));
        assert_eq!(metric(text, "hongbao_journal"), None);
        assert_eq!(processor_ticks("cpu  10 1 20 300 40 5 6 7 0 0\ncpu0 1"), Some((49, 389)));
        assert_eq!(processor_ticks("cpux"), None);
    }
}
