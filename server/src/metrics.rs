//! Counters, gauges and histograms, and their Prometheus text.
//!
//! Every series a request touches is registered before the first request, so
//! that counting is an atomic addition and looks nothing up.
//!
//! **Invariant:** no label holds anything a caller chose: no user, no id, no path.

use crate::reply::Kind;
use axum::http::StatusCode;
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::Mutex;
use std::time::Duration;

/// How often recorded latencies are folded into their buckets; until then each
/// takes eight bytes.
pub const UPKEEP_EVERY: Duration = Duration::from_secs(1);

const LATENCY_NAME: &str = "hongbao_http_request_seconds";
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0];
const METADATA: Metadata<'static> = Metadata::new("hongbao", Level::INFO, None);

/// Sets gauges whenever the metrics are asked for.
type Asked = Box<dyn Fn() + Send>;

/// All metrics of one server.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    outcomes: [Counter; Kind::ALL.len()],
    asked: Mutex<Vec<Asked>>,
    /// Requests refused because too many were in flight.
    pub shed: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections open.
    pub connections_open: Gauge,
    /// Connections that could not be accepted.
    pub accept_errors: Counter,
}

/// What is counted of one route.
pub struct RouteMetrics {
    by_class: [Counter; 4],
    seconds: Histogram,
}

impl Metrics {
    /// Fresh metrics, all at zero.
    pub fn new() -> Metrics {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(LATENCY_NAME.to_owned()), &LATENCY_BUCKETS_S)
            .expect("the buckets are not empty")
            .build_recorder();
        let describe = |name: &'static str, text: &'static str| {
            recorder.describe_counter(name.into(), None, text.into());
        };
        describe("hongbao_http_requests_total", "Answers by route and class of status");
        describe("hongbao_outcomes_total", "Outcomes of commands by kind");
        describe("hongbao_http_shed_total", "Requests refused because too many were in flight");
        describe("hongbao_http_connections_total", "Connections accepted");
        describe("hongbao_http_accept_errors_total", "Connections that could not be accepted");
        let open = "hongbao_http_connections_open";
        recorder.describe_gauge(open.into(), None, "Connections open".into());
        recorder.describe_histogram(
            LATENCY_NAME.into(),
            None,
            "Seconds from a request's head to its answer, by route".into(),
        );
        let counter = |name: &'static str| recorder.register_counter(&Key::from_static_name(name), &METADATA);
        let outcome = |kind: Kind| {
            let key = Key::from_parts("hongbao_outcomes_total", vec![Label::new("outcome", kind.name())]);
            recorder.register_counter(&key, &METADATA)
        };
        Metrics {
            outcomes: Kind::ALL.map(outcome),
            asked: Mutex::default(),
            shed: counter("hongbao_http_shed_total"),
            connections: counter("hongbao_http_connections_total"),
            connections_open: recorder.register_gauge(&Key::from_static_name(open), &METADATA),
            accept_errors: counter("hongbao_http_accept_errors_total"),
            handle: recorder.handle(),
            recorder,
        }
    }

    /// The series of one route.
    pub fn route(&self, method: &'static str, path: &'static str) -> RouteMetrics {
        let route = [Label::new("method", method), Label::new("route", path)];
        let counter = |class: &'static str| {
            let mut labels = route.to_vec();
            labels.push(Label::new("status", class));
            self.recorder.register_counter(&Key::from_parts("hongbao_http_requests_total", labels), &METADATA)
        };
        RouteMetrics {
            by_class: ["2xx", "3xx", "4xx", "5xx"].map(counter),
            seconds: self.recorder.register_histogram(&Key::from_parts(LATENCY_NAME, route.to_vec()), &METADATA),
        }
    }

    /// Counts an outcome.
    pub fn count(&self, kind: Kind) {
        self.outcomes[kind as usize].increment(1);
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
        self.handle.render()
    }

    /// Folds recorded latencies into their buckets; to be called every [`UPKEEP_EVERY`].
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
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
        self.by_class[class].increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}
