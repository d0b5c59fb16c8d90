//! Payments outside: gateways that take money from users, and give it back.
//!
//! - `api`: payments as callers begin and read them, and what gateways call back
//! - `gateway`: what a gateway is asked, and the adapter that asks one over HTTP
//! - `drive`: asks gateways for what nobody has told, and sends money back
//! - `sandbox`: a gateway to try it with, which can be told to be late, double, lost or wrong
//!
//! **Invariant:** a payment is on record before its gateway hears of it, and what a gateway did
//! not answer is asked again before it is done again.

mod api;
mod drive;
mod gateway;
mod sandbox;
mod terms;

pub use api::routes;
pub(crate) use api::{Awaiting, PaymentJson, begin};
pub use drive::drive;
pub use sandbox::{Faults, Sandbox, SandboxTask, run};
pub use terms::GatewayTerms;

use crate::metrics::Metrics;
use gateway::{Gateway, HttpGateway};
use metrics::Counter;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How payments outside are made.
#[derive(Clone, Debug)]
pub struct PaymentOptions {
    /// By which gateways; by none, and nothing is paid outside.
    pub gateways: Vec<GatewayTerms>,
    /// Whom to trust with TLS: see [`trusting`](crate::webhooks::trusting).
    pub tls: Arc<ClientConfig>,
    /// How fast.
    pub pace: PaymentPace,
}

impl Default for PaymentOptions {
    fn default() -> PaymentOptions {
        let tls = crate::webhooks::config(RootCertStore::empty());
        PaymentOptions { gateways: Vec::new(), tls, pace: PaymentPace::default() }
    }
}

/// The times of what is asked of gateways.
#[derive(Clone, Copy, Debug)]
pub struct PaymentPace {
    /// How often it is looked what has to be asked.
    pub look_every: Duration,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long it is waited before something is asked again; twice as long each time.
    pub again_first: Duration,
    /// The longest of these.
    pub again_max: Duration,
}

impl Default for PaymentPace {
    fn default() -> PaymentPace {
        PaymentPace {
            look_every: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            again_first: Duration::from_secs(5),
            again_max: Duration::from_secs(300),
        }
    }
}

impl PaymentPace {
    /// How long to wait before something is asked once more that was asked so often.
    fn again(&self, attempts: u32) -> Duration {
        self.again_first.saturating_mul(1 << attempts.min(20)).min(self.again_max)
    }
}

/// A gateway and on what terms it is used.
pub(crate) struct Known {
    terms: GatewayTerms,
    gateway: Box<dyn Gateway>,
}

/// What handlers and the driver share.
pub struct Payments {
    gateways: BTreeMap<String, Known>,
    pace: PaymentPace,
    figures: Arc<Mutex<[f64; FIGURES.len()]>>,
    unanswered: Counter,
    refused: Counter,
    discrepancies: Counter,
}

/// What is told of all payments together.
const FIGURES: [(&str, &str); 3] = [
    ("hongbao_payments_open", "Payments that may still be paid in time"),
    ("hongbao_payments_refunding", "Payments whose money is on its way back"),
    ("hongbao_payment_refund_age_seconds", "Age of the oldest payment whose money is on its way back"),
];

impl Payments {
    pub(crate) fn new(options: &PaymentOptions, metrics: &Metrics) -> Payments {
        let figures = Arc::new(Mutex::new([0.0; FIGURES.len()]));
        let told = Arc::clone(&figures);
        metrics.gauges(FIGURES, move || *told.lock());
        let known = |terms: &GatewayTerms| {
            let gateway = HttpGateway::new(terms, Arc::clone(&options.tls), options.pace.timeout);
            (terms.name.clone(), Known { terms: terms.clone(), gateway: Box::new(gateway) })
        };
        Payments {
            gateways: options.gateways.iter().map(known).collect(),
            pace: options.pace,
            figures,
            unanswered: metrics
                .counter("hongbao_payment_unanswered_total", "Requests to payment gateways that were not answered"),
            refused: metrics.counter("hongbao_payment_callbacks_refused_total", "Callbacks that no gateway has signed"),
            discrepancies: metrics
                .counter("hongbao_payment_discrepancies_total", "What gateways said that cannot be right"),
        }
    }
}
