//! A server on a socket and a sandbox gateway beside it, in one process.

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_server::app::{Server, Setup, Shared, app};
use hongbao_server::caps::Caps;
use hongbao_server::metrics::Metrics;
use hongbao_server::payments::{Faults, GatewayTerms, PaymentOptions, PaymentPace, Sandbox, drive};
use hongbao_server::serve::{Limits, listen, serve};
use hongbao_server::webhooks::WebhookOptions;
use serde_json::{Value, json};
use sha2::Sha256;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const KEY: &str = "hb_test_0123456789";
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Longer than anything takes; only a test that hangs notices.
const PATIENCE: Duration = Duration::from_secs(60);
/// Gateways are asked again within moments; payments last as long as they do, by the engine's clock.
const FAST: PaymentPace = PaymentPace {
    look_every: Duration::from_millis(20),
    timeout: Duration::from_secs(20),
    again_first: Duration::from_millis(50),
    again_max: Duration::from_millis(200),
};
pub const PAY_WITHIN_S: u64 = 600;
pub const KEEP_S: u64 = 86_400;

pub struct House {
    pub sandbox: Arc<Sandbox>,
    address: SocketAddr,
    gateway: SocketAddr,
    engine: Arc<Embedded>,
    stop: CancellationToken,
    running: Vec<JoinHandle<()>>,
    _data: tempfile::TempDir,
}

fn run(router: axum::Router, listeners: Vec<std::net::TcpListener>, stop: &CancellationToken) -> JoinHandle<()> {
    let (stop, metrics) = (stop.clone(), Arc::new(Metrics::new()));
    tokio::spawn(async move { serve(router, listeners, Limits::default(), metrics, stop).await.unwrap() })
}

impl House {
    pub async fn open(faults: Faults) -> House {
        House::with(faults, true).await
    }

    /// One whose gateway may be asked for nothing but what callers ask for.
    pub async fn with(faults: Faults, drives: bool) -> House {
        let data = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions { test_mode: true, ..EmbeddedOptions::default() };
        let engine = Arc::new(Embedded::open(data.path(), options).unwrap().0);
        let [own, theirs] = [(); 2].map(|()| listen("127.0.0.1:0".parse().unwrap()).unwrap());
        let [address, gateway] = [&own, &theirs].map(|listeners| listeners[0].local_addr().unwrap());
        let callback = format!("http://{address}/v1/payments/callbacks/sandbox");
        let sandbox = Sandbox::new(&format!("http://{gateway}"), SECRET, &callback, faults).unwrap();
        let terms = |name: &str| {
            let mut terms = GatewayTerms::new(name, &format!("http://{gateway}"), SECRET).unwrap();
            (terms.pay_within_s, terms.keep_s) = (PAY_WITHIN_S, KEEP_S);
            terms
        };
        let payments = PaymentOptions {
            gateways: vec![terms("sandbox"), terms("other")],
            pace: FAST,
            ..PaymentOptions::default()
        };
        let setup = Setup {
            currency: "CNY".parse().unwrap(),
            admin_key: KEY.to_owned(),
            test: true,
            metrics_apart: false,
            in_flight_max: 100,
            event_readers_max: 10,
            body_timeout: Duration::from_secs(15),
            caps: Caps::default(),
            may_give: hongbao_server::relations::MayGive::default(),
            webhooks: WebhookOptions::default(),
            payments,
        };
        let server: Shared<Embedded> = Server::new(Arc::clone(&engine), &setup);
        let stop = server.stop.clone();
        let mut running = vec![run(app(Arc::clone(&server)), own, &stop), run(sandbox.router(), theirs, &stop)];
        if drives {
            running.push(tokio::spawn(drive(Arc::clone(&server))));
        }
        drop(server);
        let house = House { sandbox, address, gateway, engine, stop, running, _data: data };
        house.post("/v1/merchants", json!({"id": "rosy", "name": "Rosy", "status": "verified"}), 201).await;
        house
    }

    /// Ends it in order, and looks whether the books are.
    pub async fn close(self) {
        let audit = self.get("/v1/audit").await;
        assert_eq!((&audit["balanced"], &audit["in_flight"]), (&json!(true), &json!(0)), "{audit}");
        let House { stop, running, engine, .. } = self;
        stop.cancel();
        for task in running {
            task.await.unwrap();
        }
        engine.close().unwrap();
    }

    /// Sends a request as it stands, and gives what it is answered.
    pub async fn raw(&self, to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let key: u64 = rand::random();
        let headers =
            format!("authorization: Bearer {KEY}\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\n");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.raw(self.address, method, path, &headers, &body).await
    }

    pub async fn post(&self, path: &str, body: Value, status: u16) -> Value {
        let (given, answer) = self.ask("POST", path, body).await;
        assert_eq!(given, status, "POST {path}: {answer}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        let (given, answer) = self.ask("GET", path, Value::Null).await;
        assert_eq!(given, 200, "GET {path}: {answer}");
        answer
    }

    pub async fn item(&self, stock: u32) -> String {
        let body = json!({"merchant": "rosy", "name": "roses", "category": "flowers", "price": 100, "stock": stock,
                          "hold_ttl_s": 900});
        text(&self.post("/v1/items", body, 201).await["id"])
    }

    pub async fn hold(&self, item: &str, user: &str) -> String {
        let held = self.post(&format!("/v1/items/{item}/grab"), json!({"user": user}), 200).await;
        text(&held["hold"])
    }

    pub async fn claim(&self, hold: &str, user: &str) -> Value {
        let body = json!({"user": user, "pay_with": "sandbox"});
        self.post(&format!("/v1/holds/{hold}/claim"), body, 200).await
    }

    /// What a user does at the gateway.
    pub async fn pay_there(&self, payment: &str) -> u16 {
        self.raw(self.gateway, "POST", &format!("/pay/{payment}"), "", "").await.0
    }

    pub async fn payment(&self, id: &str) -> Value {
        self.get(&format!("/v1/payments/{id}")).await
    }

    /// Waits until a payment stands so.
    pub async fn until(&self, id: &str, state: &str) -> Value {
        let since = Instant::now();
        loop {
            let payment = self.payment(id).await;
            if payment["state"] == state {
                return payment;
            }
            assert!(since.elapsed() < PATIENCE, "it never came to be {state}: {payment}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn advance(&self, by_s: u64) {
        self.post("/v1/test/clock", json!({"advance_s": by_s}), 200).await;
    }

    /// A callback as the gateway would sign it, so many seconds ago, by this secret.
    pub async fn call_back(&self, name: &str, secret: &str, age_s: i64, message: &Value) -> (u16, Value) {
        let body = message.to_string();
        let headers = signed(secret, "m1", age_s, &body);
        self.raw(self.address, "POST", &format!("/v1/payments/callbacks/{name}"), &headers, &body).await
    }

    /// The same with these headers, whatever they sign.
    pub async fn call_back_with(&self, headers: &str, body: &str) -> (u16, Value) {
        self.raw(self.address, "POST", "/v1/payments/callbacks/sandbox", headers, body).await
    }

    pub async fn audit(&self) -> [u64; 5] {
        let audit = self.get("/v1/audit").await;
        ["deposited", "withdrawn", "wallets", "merchants", "refunding"].map(|name| audit[name].as_u64().unwrap())
    }
}

/// Headers that sign a body.
pub fn signed(secret: &str, id: &str, age_s: i64, body: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let at = now.checked_add_signed(-age_s).unwrap();
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = base64.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{at}.{body}").as_bytes());
    let signature = base64.encode(mac.finalize().into_bytes());
    format!(
        "content-type: application/json\r\nwebhook-id: {id}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: v1,{signature}\r\n"
    )
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
