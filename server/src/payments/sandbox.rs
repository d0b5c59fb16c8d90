//! `hongbao sandbox-gateway`: a payment gateway to try it with, that takes nobody's money and can be
//! told to be late, double, lost or wrong. It keeps everything in memory.

use super::GatewayTerms;
use crate::config::ListenAddress;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::reply::json as answer_json;
use crate::serve::{Limits, listen_on_first, serve};
use crate::webhooks::{Letter, Names, Secret, Sender};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Args;
use parking_lot::Mutex;
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How the sandbox is run.
#[derive(Clone, Debug, Args)]
pub struct SandboxTask {
    /// Address or name, and port, to listen on
    #[arg(long, default_value = "127.0.0.1:9100")]
    pub listen: ListenAddress,
    /// File with the secret that messages are signed with; a new one is written there if there is none
    #[arg(long)]
    pub secret_file: PathBuf,
    /// Where it calls back: the server's /v1/payments/callbacks/NAME
    #[arg(long, default_value = "http://127.0.0.1:8080/v1/payments/callbacks/sandbox")]
    pub callback: String,
    /// How it misbehaves: late=SECONDS, double=TIMES, lost=1, wrong=1, unanswered=COUNT; several with commas between
    #[arg(long, default_value = "")]
    pub fault: Faults,
}

/// How a sandbox misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Callbacks come so many seconds later, and what was closed can be paid all the same.
    pub late: u64,
    /// Each callback comes so many times more.
    pub double: u64,
    /// No callback comes, if it is not 0.
    pub lost: u64,
    /// Another amount is taken than was asked for, if it is not 0.
    pub wrong: u64,
    /// So many requests are carried out, and not answered.
    pub unanswered: u64,
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        const FORM: &str = "say late=SECONDS, double=TIMES, lost=1, wrong=1 or unanswered=COUNT";
        let mut faults = Faults::default();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, number) = pair.split_once('=').ok_or(FORM)?;
            let number = number.parse().map_err(|_| FORM)?;
            let place = match name {
                "late" => &mut faults.late,
                "double" => &mut faults.double,
                "lost" => &mut faults.lost,
                "wrong" => &mut faults.wrong,
                "unanswered" => &mut faults.unanswered,
                _ => return Err(FORM.to_owned()),
            };
            *place = number;
        }
        Ok(faults)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Taken {
    Pending,
    Paid,
    Closed,
}

struct Account {
    amount: u64,
    state: Taken,
    refunds: u64,
}

/// A sandbox as it runs.
pub struct Sandbox {
    accounts: Mutex<HashMap<String, Account>>,
    faults: Mutex<Faults>,
    terms: GatewayTerms,
    callback: Mutex<String>,
    sender: Sender,
    /// Where its own pages are.
    own_url: String,
}

/// Runs it until it is interrupted.
///
/// # Errors
/// [`Failure`] if it cannot listen, or its options are wrong.
pub fn run(task: &SandboxTask) -> Result<(), Failure> {
    let wrong = |why: String| Failure::Usage(why);
    let named = |error: std::io::Error| wrong(format!("{}: {error}", task.secret_file.display()));
    if !task.secret_file.exists() {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&task.secret_file);
        writeln!(file.map_err(named)?, "{}", Secret::random().shown()).map_err(named)?;
    }
    let secret = std::fs::read_to_string(&task.secret_file).map_err(named)?;
    let addresses = task.listen.resolve().map_err(|error| wrong(format!("{}: {error}", task.listen)))?;
    let listeners = listen_on_first(&addresses).map_err(|refused| wrong(refused.to_string()))?;
    let address = listeners[0].local_addr()?;
    let sandbox = Sandbox::new(&format!("http://{address}"), &secret, &task.callback, task.fault).map_err(wrong)?;
    println!("a gateway that takes nobody's money listens on http://{address}; it is not for money");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let ended = stop.clone();
        tokio::spawn(async move {
            let _ = tokio::signal::ctrl_c().await;
            ended.cancel();
        });
        serve(sandbox.router(), listeners, Limits::default(), Arc::new(Metrics::new()), stop).await
    })?;
    Ok(())
}

type Shared = State<Arc<Sandbox>>;

#[derive(Deserialize)]
struct New {
    reference: String,
    amount: u64,
}

impl Sandbox {
    /// One that says to be at `own_url` and calls back at `callback`.
    ///
    /// # Errors
    /// What of it is wrong.
    pub fn new(own_url: &str, secret: &str, callback: &str, faults: Faults) -> Result<Arc<Sandbox>, String> {
        // Its terms tell where it may send to.
        let terms = GatewayTerms::new("sandbox", callback, secret)?;
        let tls = crate::webhooks::config(RootCertStore::empty());
        let (allowed, timeout) = ([terms.allowed.clone()].into(), Duration::from_secs(10));
        let sender = Sender { allowed, tls, timeout, names: Names::System };
        Ok(Arc::new(Sandbox {
            accounts: Mutex::default(),
            faults: Mutex::new(faults),
            callback: Mutex::new(terms.url.clone()),
            terms,
            sender,
            own_url: own_url.to_owned(),
        }))
    }

    /// Its routes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/payments", post(create))
            .route("/payments/{reference}", get(query))
            .route("/payments/{reference}/close", post(close))
            .route("/refunds", post(refund))
            .route("/refunds/{reference}", get(query_refund))
            .route("/pay/{reference}", post(pay).get(pay))
            .route("/sandbox/faults", post(change_faults))
            .with_state(Arc::clone(self))
    }

    /// Has it misbehave otherwise from now on.
    pub fn misbehave(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// How often it was asked to give a payment's money back; it does so once, whoever asks.
    pub fn refunds(&self, reference: &str) -> u64 {
        self.accounts.lock().get(reference).map_or(0, |account| account.refunds)
    }

    /// Whether it has heard of a payment.
    pub fn knows(&self, reference: &str) -> bool {
        self.accounts.lock().contains_key(reference)
    }

    fn is_signed(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> bool {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = header("webhook-id");
        let is_of_it = id.starts_with(&format!("{method}.{}.", uri.path()));
        let at_s = header("webhook-timestamp").parse().unwrap_or(0);
        is_of_it && self.terms.secret.has_signed(id, at_s, body, header("webhook-signature"))
    }

    /// What was carried out, unless it is told not to answer.
    fn answer(&self, told: Value) -> Response {
        let mut faults = self.faults.lock();
        if faults.unanswered > 0 {
            faults.unanswered -= 1;
            return StatusCode::GATEWAY_TIMEOUT.into_response();
        }
        answer_json(&told)
    }

    fn told(&self, reference: &str, account: &Account) -> Value {
        let amount = self.taken(account);
        let (id, pay_url) = (format!("sandbox-{reference}"), format!("{}/pay/{reference}", self.own_url));
        json!({"reference": reference, "about": "payment", "state": account.state, "id": id, "amount": amount, "pay_url": pay_url})
    }

    fn taken(&self, account: &Account) -> u64 {
        // One fen more or less: nobody would see it.
        let is_wrong = self.faults.lock().wrong > 0;
        if is_wrong { account.amount + 1 } else { account.amount }
    }

    /// Tells the server, as often as it is told to, and again while it is not taken.
    fn call_back(self: &Arc<Self>, told: &Value) {
        let faults = *self.faults.lock();
        if faults.lost > 0 {
            return;
        }
        let body = Bytes::from(told.to_string());
        let sandbox = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(faults.late)).await;
            let id = format!("{:032x}", rand::random::<u128>());
            for _ in 0..=faults.double {
                for attempt in 0..5 {
                    let letter = Letter::signed([&sandbox.terms.secret], id.clone(), body.clone());
                    let url = sandbox.callback.lock().clone();
                    let answer = sandbox.sender.call(Method::POST, &url, &letter).await;
                    match answer {
                        Ok((status, _)) if status.is_success() => break,
                        Ok((status, _)) => eprintln!("{url} answers {status}"),
                        Err(why) => eprintln!("{url}: {why}"),
                    }
                    tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
                }
            }
        });
    }
}

fn unsigned() -> Response {
    (StatusCode::UNAUTHORIZED, "sign it with this gateway's secret").into_response()
}

async fn create(State(sandbox): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if !sandbox.is_signed(&method, &uri, &headers, &body) {
        return unsigned();
    }
    let Ok(New { reference, amount }) = serde_json::from_slice(&body) else {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    };
    let told = {
        let mut accounts = sandbox.accounts.lock();
        let fresh = Account { amount, state: Taken::Pending, refunds: 0 };
        let account = accounts.entry(reference.clone()).or_insert(fresh);
        sandbox.told(&reference, account)
    };
    sandbox.answer(told)
}

async fn query(
    State(sandbox): Shared,
    Path(reference): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if !sandbox.is_signed(&method, &uri, &headers, b"") {
        return unsigned();
    }
    let told = sandbox.accounts.lock().get(&reference).map(|account| sandbox.told(&reference, account));
    told.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |told| sandbox.answer(told))
}

async fn close(
    State(sandbox): Shared,
    Path(reference): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if !sandbox.is_signed(&method, &uri, &headers, b"") {
        return unsigned();
    }
    let told = sandbox.accounts.lock().get_mut(&reference).map(|account| {
        if account.state == Taken::Pending {
            account.state = Taken::Closed;
        }
        sandbox.told(&reference, account)
    });
    told.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |told| sandbox.answer(told))
}

async fn refund(State(sandbox): Shared, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    if !sandbox.is_signed(&method, &uri, &headers, &body) {
        return unsigned();
    }
    let Ok(New { reference, amount }) = serde_json::from_slice(&body) else {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    };
    let told = {
        let mut accounts = sandbox.accounts.lock();
        let Some(account) = accounts.get_mut(&reference).filter(|account| account.state == Taken::Paid) else {
            return StatusCode::CONFLICT.into_response();
        };
        account.refunds += 1;
        json!({"reference": reference, "about": "refund", "state": "refunded", "id": format!("refund-{reference}"), "amount": amount})
    };
    sandbox.call_back(&told);
    sandbox.answer(told)
}

async fn query_refund(
    State(sandbox): Shared,
    Path(reference): Path<String>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if !sandbox.is_signed(&method, &uri, &headers, b"") {
        return unsigned();
    }
    if sandbox.refunds(&reference) == 0 {
        return StatusCode::NOT_FOUND.into_response();
    }
    let id = format!("refund-{reference}");
    sandbox.answer(json!({"reference": reference, "about": "refund", "state": "refunded", "id": id}))
}

/// What a user does: pay.
async fn pay(State(sandbox): Shared, Path(reference): Path<String>) -> Response {
    let is_late = sandbox.faults.lock().late > 0;
    let told = {
        let mut accounts = sandbox.accounts.lock();
        let Some(account) = accounts.get_mut(&reference) else { return StatusCode::NOT_FOUND.into_response() };
        match account.state {
            Taken::Closed if !is_late => {
                return (StatusCode::CONFLICT, "nothing is taken for it any more").into_response();
            }
            Taken::Paid => return "it is paid\n".into_response(),
            Taken::Closed | Taken::Pending => account.state = Taken::Paid,
        }
        sandbox.told(&reference, account)
    };
    sandbox.call_back(&told);
    "paid\n".into_response()
}

async fn change_faults(State(sandbox): Shared, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(faults) => {
            sandbox.misbehave(faults);
            answer_json(&faults)
        }
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response(),
    }
}
