//! Counters, gauges and histograms, and their Prometheus text.
//!
//! What every request touches is counted here, in lanes: two workers that
//! count at the same time do not wait for each other's cache lines, nothing is
//! looked up, and nothing is kept but sums. What is counted rarely, and gauges,
//! are left to the `metrics` crate.
//!
//! **Invariant:** no label holds anything a caller chose: no user, no id, no path.

use crate::problem::Code;
use crate::reply::Kind;
use axum::http::StatusCode;
use metrics::{Counter, Gauge, Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The classes of status that answers are counted by.
pub(crate) const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// Where the buckets of latencies end; one more takes what is slower.
const LATENCY_ENDS_NS: [u64; 14] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
];
const METADATA: Metadata<'static> = Metadata::new("hongbao", Level::INFO, None);

/// Sets gauges whenever the metrics are asked for.
type Asked = Box<dyn Fn() + Send>;
/// Writes a histogram that is kept elsewhere, whenever the metrics are asked for.
type Written = Box<dyn Fn(&mut String) -> std::fmt::Result + Send>;

/// All metrics of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    outcomes: Lanes<{ Kind::ALL.len() }>,
    routes: Mutex<Vec<Arc<RouteMetrics>>>,
    asked: Mutex<Vec<Asked>>,
    written: Mutex<Vec<Written>>,
    problems: Lanes<{ Code::ALL.len() }>,
    /// Requests refused because too many were in flight.
    pub shed: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections open.
    pub connections_open: Gauge,
    /// Connections that could not be accepted.
    pub accept_errors: Counter,
    /// Events told by the feed.
    pub events_told: Counter,
}

/// Durations as a histogram tells them.
#[derive(Clone, Copy, Debug)]
pub struct Durations<const N: usize> {
    /// How many ended within each of the histogram's ends.
    pub within: [u64; N],
    /// How many there were.
    pub count: u64,
    /// All of them together, in seconds.
    pub total_s: f64,
}

/// What is counted of one route.
pub struct RouteMetrics {
    method: &'static str,
    path: &'static str,
    by_class: Lanes<{ CLASSES.len() }>,
    by_latency: Lanes<{ LATENCY_ENDS_NS.len() + 1 }>,
    total_ns: Lanes<1>,
}

impl Metrics {
    /// Fresh metrics, all at zero.
    pub fn new() -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let counter = |name: &'static str, text: &'static str| {
            recorder.describe_counter(name.into(), None, text.into());
            recorder.register_counter(&Key::from_static_name(name), &METADATA)
        };
        let gauge = |name: &'static str, text: &'static str| {
            recorder.describe_gauge(name.into(), None, text.into());
            recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        };
        let since = gauge("hongbao_start_time_seconds", "Unix time since when this process serves");
        since.set(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()));
        Metrics {
            outcomes: Lanes::default(),
            routes: Mutex::default(),
            asked: Mutex::default(),
            written: Mutex::default(),
            problems: Lanes::default(),
            shed: counter("hongbao_http_shed_total", "Requests refused because too many were in flight"),
            connections: counter("hongbao_http_connections_total", "Connections accepted"),
            connections_open: gauge("hongbao_http_connections_open", "Connections open"),
            accept_errors: counter("hongbao_http_accept_errors_total", "Connections that could not be accepted"),
            events_told: counter("hongbao_events_told_total", "Events told by the feed"),
            handle: recorder.handle(),
            recorder,
        }
    }

    /// The series of one route: the same ones whenever the same route is asked for.
    pub fn route(&self, method: &'static str, path: &'static str) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().expect("a list of routes is not left half changed");
        if let Some(route) = routes.iter().find(|route| (route.method, route.path) == (method, path)) {
            return Arc::clone(route);
        }
        let (by_class, by_latency, total_ns) = (Lanes::default(), Lanes::default(), Lanes::default());
        let route = Arc::new(RouteMetrics { method, path, by_class, by_latency, total_ns });
        routes.push(Arc::clone(&route));
        route
    }

    /// Counts an outcome.
    pub fn count(&self, kind: Kind) {
        self.outcomes.add(kind as usize, 1);
    }

    /// Counts a problem that was told.
    pub fn count_problem(&self, code: Code) {
        self.problems.add(code as usize, 1);
    }

    /// Adds a histogram whose values are asked for whenever the metrics are.
    /// Its buckets end at `ends_s`, in seconds.
    pub fn histogram<const N: usize>(
        &self,
        name: &'static str,
        help: &'static str,
        ends_s: [f64; N],
        values: impl Fn() -> Durations<N> + Send + 'static,
    ) {
        let write = move |out: &mut String| {
            write_head(out, name, "histogram", help)?;
            write_durations(out, name, "", ends_s, &values())
        };
        self.written.lock().expect("no histogram panics").push(Box::new(write));
    }

    /// Adds a counter of something rare.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        self.recorder.describe_counter(name.into(), None, help.into());
        self.recorder.register_counter(&Key::from_static_name(name), &METADATA)
    }

    /// Adds gauges whose values are asked for whenever the metrics are: the
    /// engine's figures come in this way.
    pub fn gauges<const N: usize>(
        &self,
        names: [(&'static str, &'static str); N],
        values: impl Fn() -> [f64; N] + Send + 'static,
    ) {
        let gauges: [Gauge; N] = names.map(|(name, help)| {
            self.recorder.describe_gauge(name.into(), None, help.into());
            self.recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        });
        let ask = move || {
            for (gauge, value) in gauges.iter().zip(values()) {
                gauge.set(value);
            }
        };
        self.asked.lock().expect("no gauge panics").push(Box::new(ask));
    }

    /// The Prometheus text.
    pub fn render(&self) -> String {
        for ask in self.asked.lock().expect("no gauge panics").iter() {
            ask();
        }
        let mut text = self.handle.render();
        self.write_own(&mut text).expect("a string takes everything");
        text
    }

    fn write_own(&self, out: &mut String) -> std::fmt::Result {
        write_head(out, "hongbao_outcomes_total", "counter", "Outcomes of commands by kind")?;
        for (kind, count) in Kind::ALL.iter().zip(self.outcomes.sums()) {
            writeln!(out, "hongbao_outcomes_total{{outcome=\"{}\"}} {count}", kind.name())?;
        }
        let name = "hongbao_problems_total";
        write_head(out, name, "counter", "Problems told by code, those of single grabs in a batch too")?;
        for (code, count) in Code::ALL.iter().zip(self.problems.sums()) {
            writeln!(out, "{name}{{code=\"{}\"}} {count}", code.facts().1)?;
        }
        for write in self.written.lock().expect("no histogram panics").iter() {
            write(out)?;
        }
        let routes = self.routes.lock().expect("a list of routes is not left half changed");
        write_head(out, "hongbao_http_requests_total", "counter", "Answers by route and class of status")?;
        for route in routes.iter() {
            for (class, count) in CLASSES.iter().zip(route.by_class.sums()) {
                let labels = route.labels();
                writeln!(out, "hongbao_http_requests_total{{{labels},status=\"{class}\"}} {count}")?;
            }
        }
        let name = "hongbao_http_request_seconds";
        write_head(out, name, "histogram", "Seconds from a request's head to its answer, by route")?;
        for route in routes.iter() {
            route.write_latencies(out, name)?;
        }
        Ok(())
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl RouteMetrics {
    /// Counts an answer.
    pub fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        let took_ns = took.as_nanos() as u64;
        self.by_class.add(class, 1);
        self.by_latency.add(LATENCY_ENDS_NS.partition_point(|&end_ns| end_ns < took_ns), 1);
        self.total_ns.add(0, took_ns);
    }

    fn labels(&self) -> String {
        format!("method=\"{}\",route=\"{}\"", self.method, self.path)
    }

    fn write_latencies(&self, out: &mut String, name: &str) -> std::fmt::Result {
        let (inside, [total_ns]) = (self.by_latency.sums(), self.total_ns.sums());
        let within = std::array::from_fn(|at| inside[..=at].iter().sum());
        let durations = Durations { within, count: inside.iter().sum(), total_s: seconds(total_ns) };
        write_durations(out, name, &self.labels(), LATENCY_ENDS_NS.map(seconds), &durations)
    }
}

fn write_durations<const N: usize>(
    out: &mut String,
    name: &str,
    labels: &str,
    ends_s: [f64; N],
    durations: &Durations<N>,
) -> std::fmt::Result {
    let (begun, whole) = match labels {
        "" => (String::new(), String::new()),
        _ => (format!("{labels},"), format!("{{{labels}}}")),
    };
    for (end_s, within) in ends_s.iter().zip(durations.within) {
        writeln!(out, "{name}_bucket{{{begun}le=\"{end_s}\"}} {within}")?;
    }
    let Durations { count, total_s, .. } = durations;
    writeln!(out, "{name}_bucket{{{begun}le=\"+Inf\"}} {count}")?;
    writeln!(out, "{name}_sum{whole} {total_s}")?;
    writeln!(out, "{name}_count{whole} {count}")
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn write_head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "\n# HELP {name} {help}\n# TYPE {name} {kind}")
}

const LANES: usize = 8;

/// Sums that many threads add to. Each adds in a lane that, with up to
/// [`LANES`] threads, is nobody else's.
#[derive(Default)]
struct Lanes<const N: usize>([Lane<N>; LANES]);

/// Two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Lane<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Lane<N> {
    fn default() -> Lane<N> {
        Lane(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static LANE: usize = THREADS.fetch_add(1, Ordering::Relaxed) % LANES;
}

impl<const N: usize> Lanes<N> {
    fn add(&self, at: usize, more: u64) {
        self.0[LANE.with(|&lane| lane)].0[at].fetch_add(more, Ordering::Relaxed);
    }

    fn sums(&self) -> [u64; N] {
        std::array::from_fn(|at| self.0.iter().map(|lane| lane.0[at].load(Ordering::Relaxed)).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_counted_up_to_the_end_of_their_bucket() {
        let metrics = Metrics::new();
        let route = metrics.route("GET", "/x");
        for took_ns in [50_000, 50_001, 2_000_000_000, 9_000_000_000] {
            route.answered(StatusCode::OK, Duration::from_nanos(took_ns));
        }
        let text = metrics.render();
        for (line, value) in [
            (r#"_bucket{method="GET",route="/x",le="0.00005"}"#, "1"),
            (r#"_bucket{method="GET",route="/x",le="0.0001"}"#, "2"),
            (r#"_bucket{method="GET",route="/x",le="1"}"#, "2"),
            (r#"_bucket{method="GET",route="/x",le="5"}"#, "3"),
            (r#"_bucket{method="GET",route="/x",le="+Inf"}"#, "4"),
            (r#"_sum{method="GET",route="/x"}"#, "11.000100001"),
            (r#"_count{method="GET",route="/x"}"#, "4"),
        ] {
            let line = format!("hongbao_http_request_seconds{line} {value}");
            assert!(text.lines().any(|it| it == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn a_histogram_that_is_kept_elsewhere_is_told_without_labels() {
        let metrics = Metrics::new();
        let durations = Durations { within: [1, 3], count: 4, total_s: 2.5 };
        metrics.histogram("syncs_seconds", "Syncs", [0.001, 0.002], move || durations);
        let told = "# HELP syncs_seconds Syncs\n# TYPE syncs_seconds histogram\nsyncs_seconds_bucket{le=\"0.001\"} 1\n\
                    syncs_seconds_bucket{le=\"0.002\"} 3\nsyncs_seconds_bucket{le=\"+Inf\"} 4\nsyncs_seconds_sum 2.5\n\
                    syncs_seconds_count 4\n";
        let text = metrics.render();
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn problems_are_counted_under_their_own_code() {
        let metrics = Metrics::new();
        for (times, code) in Code::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| metrics.count_problem(code));
        }
        let text = metrics.render();
        for (times, code) in Code::ALL.into_iter().enumerate() {
            let line = format!("hongbao_problems_total{{code=\"{}\"}} {times}", code.facts().1);
            assert!(text.lines().any(|it| it == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn threads_and_doors_count_into_one_sum() {
        let metrics = Metrics::new();
        let count = |_| {
            let route = metrics.route("any", "none");
            (0..1000).for_each(|_| route.answered(StatusCode::NOT_FOUND, Duration::ZERO));
        };
        std::thread::scope(|scope| (0..10).for_each(|thread| drop(scope.spawn(move || count(thread)))));
        let line = r#"hongbao_http_requests_total{method="any",route="none",status="4xx"} 10000"#;
        assert!(metrics.render().lines().any(|it| it == line));
    }
}
