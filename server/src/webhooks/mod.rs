//! Webhooks: the events of the feed, sent to services that wait for them.
//!
//! - `api`: endpoints, as admins make and change them
//! - `deliver`, `lease`: a task for each endpoint, on one server
//! - `batch`: what is sent at once
//! - `client`, `target`, `sign`: requests, where they may go, and their signatures
//! - `record`, `shelf`: what is kept of an endpoint, and where
//!
//! **Invariant:** neither the engine nor a request waits for a receiver.

mod api;
mod batch;
mod client;
mod deliver;
mod lease;
mod record;
mod shelf;
mod sign;
mod target;

pub use api::routes;
pub(crate) use client::config;
pub use client::trusting;
pub(crate) use client::{Letter, Names, Sender};
pub use deliver::deliver;
pub(crate) use sign::Secret;
pub use target::AllowedTarget;
pub(crate) use target::allowed_by_url;

use crate::metrics::Metrics;
use crate::problem::{Code, Problem};
use hongbao_engine::types::{Timestamp, WebhookId};
use metrics::Counter;
use parking_lot::Mutex;
use record::Endpoint;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// The most pings at once.
const PINGS_MAX: usize = 8;

/// How webhooks are sent.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// Where they may go; nowhere, and there are none.
    pub allowed: Vec<AllowedTarget>,
    /// Whom to trust: see [`trusting`].
    pub tls: Arc<ClientConfig>,
    /// How fast, and for how long.
    pub pace: Pace,
    /// Whether other servers stand in front of the same engine.
    pub is_shared: bool,
}

impl Default for WebhookOptions {
    fn default() -> WebhookOptions {
        let tls = config(RootCertStore::empty());
        WebhookOptions { allowed: Vec::new(), tls, pace: Pace::default(), is_shared: false }
    }
}

/// The times of deliveries.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a request may take.
    pub timeout: Duration,
    /// How long it is waited at most after the first failure; twice as long after each more.
    pub backoff_first: Duration,
    /// The longest of these.
    pub backoff_max: Duration,
    /// Since a batch's first attempt; what fails then is a dead letter.
    pub give_up_after: Duration,
    /// A server that has not stirred for so long has ended.
    pub lease: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            timeout: Duration::from_secs(15),
            backoff_first: Duration::from_secs(2),
            backoff_max: Duration::from_secs(3600),
            give_up_after: Duration::from_secs(24 * 3600),
            lease: Duration::from_secs(8),
        }
    }
}

impl Pace {
    /// How long to wait after a failure that came after `attempts` others: any time up to
    /// the bound, so that those that failed together do not come back together.
    fn backoff(&self, attempts: u32) -> Duration {
        let bound = self.backoff_first.saturating_mul(1 << attempts.min(20)).min(self.backoff_max);
        bound.mul_f64(rand::random())
    }

    fn beat_every(&self) -> Duration {
        self.lease / 4
    }
}

/// What handlers and deliverers share.
pub struct Webhooks {
    sender: Sender,
    pace: Pace,
    is_shared: bool,
    /// Places of pings, whose receivers may take their time.
    pings: Semaphore,
    /// Held by who makes an endpoint.
    creating: tokio::sync::Mutex<()>,
    /// This server, among others.
    server: u64,
    /// Another number whenever somebody here has changed an endpoint.
    changed: watch::Sender<u64>,
    figures: Arc<Mutex<[f64; FIGURES.len()]>>,
    /// Endpoints of which was told that their notes cannot be read.
    unreadable: Mutex<BTreeSet<WebhookId>>,
    delivered: Counter,
    failed: Counter,
    dead: Counter,
}

/// What is told of all endpoints together.
const FIGURES: [(&str, &str); 4] = [
    ("hongbao_webhook_lag_seconds", "Age of the oldest event that waits at an endpoint which is not disabled"),
    ("hongbao_webhook_failing", "Endpoints whose last request failed"),
    ("hongbao_webhook_disabled", "Endpoints to which nothing is sent"),
    ("hongbao_webhook_dead_letters", "Batches that were given up and are kept for redelivery"),
];

impl Webhooks {
    pub(crate) fn new(options: &WebhookOptions, metrics: &Metrics) -> Webhooks {
        let WebhookOptions { allowed, tls, pace, is_shared } = options.clone();
        let figures = Arc::new(Mutex::new([0.0; FIGURES.len()]));
        let told = Arc::clone(&figures);
        metrics.gauges(FIGURES, move || *told.lock());
        Webhooks {
            sender: Sender { allowed: allowed.into(), tls, timeout: pace.timeout, names: Names::System },
            pace,
            is_shared,
            pings: Semaphore::new(PINGS_MAX),
            creating: tokio::sync::Mutex::new(()),
            server: rand::random(),
            changed: watch::Sender::new(0),
            figures,
            unreadable: Mutex::default(),
            delivered: metrics
                .counter("hongbao_webhook_delivered_total", "Events that receivers of webhooks have taken"),
            failed: metrics.counter("hongbao_webhook_failed_total", "Requests to receivers of webhooks that failed"),
            dead: metrics.counter("hongbao_webhook_dead_total", "Batches of webhooks that were given up"),
        }
    }

    fn place_of_ping(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.pings.try_acquire().map_err(|_| {
            Problem::new(Code::Overloaded, "As many webhooks are tested as may be at once; ask again in a moment.")
        })
    }

    fn tell_changed(&self) {
        self.changed.send_modify(|number| *number += 1);
    }

    fn count(&self, endpoints: &[(WebhookId, Endpoint)], now: Timestamp) {
        let sent_to = || endpoints.iter().map(|(_, endpoint)| endpoint).filter(|endpoint| endpoint.disabled.is_none());
        let lag_ms = sent_to().map(|endpoint| endpoint.lag_ms(now)).max().unwrap_or(0);
        let failing = sent_to().filter(|endpoint| endpoint.state() == "failing").count();
        let dead: usize = endpoints.iter().map(|(_, endpoint)| endpoint.dead).sum();
        let disabled = endpoints.len() - sent_to().count();
        *self.figures.lock() = [lag_ms as f64 / 1e3, failing as f64, disabled as f64, dead as f64];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_random_and_double_up_to_their_bound() {
        let pace = Pace::default();
        for (attempts, bound_s) in [(0, 2), (1, 4), (5, 64), (11, 3600), (u32::MAX, 3600)] {
            let waits: Vec<_> = (0..100).map(|_| pace.backoff(attempts)).collect();
            let bound = Duration::from_secs(bound_s);
            assert!(waits.iter().all(|wait| *wait <= bound), "{attempts}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait > bound / 2), "{attempts}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait < bound / 2), "{attempts}: {waits:?}");
        }
    }
}
