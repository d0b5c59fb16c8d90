//! A server with its deliverer, over any engine.

use crate::receiver::{PATIENCE, Receiver};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hongbao_engine::backend::Backend;
use hongbao_engine::journal::JournalOptions;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_server::app::{Server, Setup, Shared, app};
use hongbao_server::caps::Caps;
use hongbao_server::payments::PaymentOptions;
use hongbao_server::relations::MayGive;
use hongbao_server::webhooks::{AllowedTarget, Pace, WebhookOptions, deliver};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tower::ServiceExt;

const KEY: &str = "hb_test_0123456789";

/// Failures are tried again within moments; a day is still a day, of the engine's clock.
pub const FAST: Pace = Pace {
    timeout: Duration::from_secs(2),
    backoff_first: Duration::from_millis(10),
    backoff_max: Duration::from_millis(100),
    give_up_after: Duration::from_secs(24 * 3600),
    lease: Duration::from_secs(1),
};

/// Options that allow these receivers.
pub fn options(receivers: &[&Receiver]) -> WebhookOptions {
    let allowed: Vec<_> = receivers.iter().map(|receiver| format!("http://{}", receiver.address)).collect();
    WebhookOptions { allowed: allow(&allowed), pace: FAST, ..WebhookOptions::default() }
}

pub fn allow<T: AsRef<str>>(targets: &[T]) -> Vec<AllowedTarget> {
    targets.iter().map(|target| target.as_ref().parse().unwrap()).collect()
}

pub struct House<B> {
    pub server: Shared<B>,
    router: Router,
    deliverer: JoinHandle<()>,
}

impl House<Embedded> {
    pub async fn open(data: &Path, webhooks: WebhookOptions) -> House<Embedded> {
        House::keeping(data, webhooks, 1 << 30).await
    }

    /// The same, whose events are kept up to so many bytes.
    pub async fn keeping(data: &Path, webhooks: WebhookOptions, kept_bytes_max: u64) -> House<Embedded> {
        House::with(data, webhooks, JournalOptions { kept_bytes_max, ..JournalOptions::default() }).await
    }

    /// The same with a journal of its own kind.
    pub async fn with(data: &Path, webhooks: WebhookOptions, journal: JournalOptions) -> House<Embedded> {
        let options = EmbeddedOptions { test_mode: true, journal, ..EmbeddedOptions::default() };
        let (engine, _) = Embedded::open(data, options).unwrap();
        House::over(Arc::new(engine), webhooks).await
    }

    /// Ends it in order, with its engine.
    pub async fn close(self) {
        self.end().await.close().unwrap();
    }
}

impl<B: Backend> House<B> {
    pub async fn over(engine: Arc<B>, webhooks: WebhookOptions) -> House<B> {
        let setup = Setup {
            currency: "CNY".parse().unwrap(),
            admin_key: KEY.to_owned(),
            test: true,
            metrics_apart: false,
            in_flight_max: 100,
            event_readers_max: 10,
            body_timeout: Duration::from_secs(15),
            caps: Caps::default(),
            may_give: MayGive::default(),
            webhooks,
            payments: PaymentOptions::default(),
        };
        let server = Server::new(engine, &setup);
        let deliverer = tokio::spawn(deliver(server.clone()));
        House { router: app(server.clone()), server, deliverer }
    }

    /// Ends its deliverer in order.
    pub async fn end(self) -> Arc<B> {
        let House { server, deliverer, .. } = self;
        server.stop.cancel();
        deliverer.await.unwrap();
        Arc::clone(&server.backend)
    }

    pub async fn ask(&self, method: &str, path: &str, key: &str, body: Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {KEY}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub async fn post(&self, path: &str, key: &str, body: Value, status: u16) -> Value {
        let (given, answer) = self.ask("POST", path, key, body).await;
        assert_eq!(given, status, "POST {path}: {answer}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        let (given, answer) = self.ask("GET", path, "-", Value::Null).await;
        assert_eq!(given, 200, "GET {path}: {answer}");
        answer
    }

    /// Makes an endpoint; gives its path and secret.
    pub async fn hook(&self, receiver: &Receiver, key: &str, more: Value) -> (String, String) {
        let mut body = json!({"url": receiver.url()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.post("/v1/webhooks", key, body, 201).await;
        (format!("/v1/webhooks/{}", made["id"].as_str().unwrap()), made["secret"].as_str().unwrap().to_owned())
    }

    /// Deposits so many times, each an event; `key` keeps them apart from others.
    pub async fn deposit(&self, key: &str, times: usize) {
        for nth in 0..times {
            self.post("/v1/wallets/alice/deposits", &format!("{key}-{nth}"), json!({"amount": 5}), 201).await;
        }
    }

    /// The ids of the usual events, as the feed tells them.
    pub async fn told(&self) -> Vec<String> {
        let (mut ids, mut after) = (Vec::new(), "oldest".to_owned());
        loop {
            let page = self.get(&format!("/v1/events?wait_s=0&limit=1000&after={after}")).await;
            let events = page["events"].as_array().unwrap();
            if events.is_empty() {
                return ids;
            }
            ids.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
            page["next_cursor"].as_str().unwrap().clone_into(&mut after);
        }
    }

    /// Moves the clock of a test.
    pub async fn advance(&self, hours: u64) {
        self.post("/v1/test/clock", "-", json!({"advance_s": hours * 3600}), 200).await;
    }

    /// Waits until an endpoint tells what is wanted.
    pub async fn wait(&self, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let told = self.get(path).await;
            if wanted(&told) {
                return told;
            }
            assert!(tokio::time::Instant::now() < until, "waited for {what}: {told}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn metrics(&self) -> String {
        self.server.metrics.render()
    }
}
