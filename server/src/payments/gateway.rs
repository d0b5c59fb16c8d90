//! What a payment gateway is asked, and the adapter that asks one over HTTP.
//!
//! What a gateway does is found out by its answers alone: one that does not come says nothing.

use super::GatewayTerms;
use crate::config::Currency;
use crate::views::At;
use crate::webhooks::{Letter, Names, Secret, Sender};
use axum::http::HeaderMap;
use bytes::Bytes;
use hongbao_engine::payment::{NUMBER_CHARS_MAX, Payment, PaymentTold, REASON_CHARS_MAX, URL_CHARS_MAX};
use hongbao_engine::types::{Amount, PaymentId};
use hyper::{Method, StatusCode};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is asked, and answered later.
pub(super) type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + Send + 'a>>;

/// No answer that could be understood: it may have been done, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unanswered(pub(super) String);

/// How something stands at a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has never heard of it.
    None,
    /// Nothing has come of it yet.
    Waits,
    /// This is to be told.
    Told(PaymentTold),
}

/// What a payment gateway can be asked. All of it may be asked again: our reference says for what.
pub(super) trait Gateway: Send + Sync {
    /// To take a payment; known already, it is the same one.
    fn create<'a>(&'a self, payment: &'a Payment, currency: Currency) -> Asked<'a, Standing>;
    /// How a payment stands.
    fn query<'a>(&'a self, payment: &'a Payment) -> Asked<'a, Standing>;
    /// To take nothing for it any more; paid already, it says so.
    fn close<'a>(&'a self, payment: &'a Payment) -> Asked<'a, Standing>;
    /// To give its money back; known already, it is the same one.
    fn refund<'a>(&'a self, payment: &'a Payment, currency: Currency) -> Asked<'a, Standing>;
    /// How that stands.
    fn query_refund<'a>(&'a self, payment: &'a Payment) -> Asked<'a, Standing>;
    /// What it calls back: about which payment, and what of it.
    ///
    /// # Errors
    /// Why it is not the gateway's, or not of now; or not understood.
    fn called_back(&self, headers: &HeaderMap, body: &[u8]) -> Result<(PaymentId, Option<PaymentTold>), BadCallback>;
}

/// Why a callback says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadCallback {
    /// It is not signed by the gateway, or was some time ago.
    Forged(&'static str),
    /// It is, and makes no sense.
    Malformed(&'static str),
}

/// A callback has to be signed within so many seconds of our clock.
const WINDOW_S: u64 = 300;

/// A gateway that is asked over HTTP, as docs/PAYMENTS.md says.
pub(super) struct HttpGateway {
    url: String,
    secret: Secret,
    sender: Sender,
}

/// How a payment or refund stands, as the gateway tells it, and what it calls back.
#[derive(Deserialize)]
pub(super) struct Message {
    #[serde(default)]
    reference: Option<String>,
    /// `payment`, or `refund`; only in callbacks.
    #[serde(default)]
    about: Option<String>,
    state: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    amount: Option<u64>,
    #[serde(default)]
    pay_url: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Serialize)]
struct NewPayment<'a> {
    reference: String,
    amount: Amount,
    currency: &'a str,
    expires_at: At,
}

#[derive(Serialize)]
struct NewRefund<'a> {
    reference: String,
    amount: Amount,
    currency: &'a str,
}

fn shortened(text: String, most: usize) -> String {
    text.chars().take(most).collect()
}

impl Message {
    fn number(&self) -> Option<String> {
        self.id.clone().filter(|id| !id.is_empty()).map(|id| shortened(id, NUMBER_CHARS_MAX))
    }

    /// What it tells of a payment.
    fn of_payment(self) -> Result<Standing, &'static str> {
        let number = self.number();
        Ok(match &*self.state {
            "none" => Standing::None,
            "pending" => {
                let pay_url = self.pay_url.filter(|url| (1..=URL_CHARS_MAX).contains(&url.len()));
                Standing::Told(PaymentTold::Created { number, pay_url })
            }
            "paid" => {
                let amount = self.amount.and_then(Amount::new).filter(|amount| !amount.is_zero());
                let amount = amount.ok_or("a payment that is paid has an amount")?;
                let number = number.ok_or("a payment that is paid has an id")?;
                Standing::Told(PaymentTold::Paid { amount, number })
            }
            "failed" => {
                let reason = self.reason.filter(|reason| !reason.is_empty());
                let reason = reason.unwrap_or_else(|| "the gateway says no more".to_owned());
                Standing::Told(PaymentTold::Failed { reason: shortened(reason, REASON_CHARS_MAX) })
            }
            "closed" => Standing::Told(PaymentTold::Unpaid),
            _ => return Err("a payment is pending, paid, failed or closed"),
        })
    }

    /// What it tells of a refund.
    fn of_refund(self) -> Result<Standing, &'static str> {
        Ok(match &*self.state {
            "none" => Standing::None,
            "refunded" => Standing::Told(PaymentTold::Refunded { number: self.number() }),
            // What failed is tried again, for ever: somebody has to look, and is told by an alert.
            "pending" | "failed" => Standing::Waits,
            _ => return Err("a refund is pending, refunded or failed"),
        })
    }
}

impl HttpGateway {
    pub(super) fn new(terms: &GatewayTerms, tls: Arc<ClientConfig>, timeout: Duration) -> HttpGateway {
        let allowed = [terms.allowed.clone()].into();
        let sender = Sender { allowed, tls, timeout, names: Names::System };
        HttpGateway { url: terms.url.clone(), secret: terms.secret.clone(), sender }
    }

    async fn ask(&self, method: Method, path: String, body: Bytes) -> Result<Message, Unanswered> {
        let url = format!("{}{path}", self.url);
        let id = format!("{:032x}", rand::random::<u128>());
        // What is asked for is signed as well, so that nobody changes it on its way.
        let letter = Letter::signed([&self.secret], format!("{method}.{path}.{id}"), body);
        let (status, body) = self.sender.call(method, &url, &letter).await.map_err(Unanswered)?;
        match status {
            StatusCode::OK | StatusCode::CREATED => {
                serde_json::from_slice(&body).map_err(|error| Unanswered(format!("{status} and no JSON: {error}")))
            }
            StatusCode::NOT_FOUND => Ok(Message {
                reference: None,
                about: None,
                state: "none".to_owned(),
                id: None,
                amount: None,
                pay_url: None,
                reason: None,
            }),
            status => Err(Unanswered(status.to_string())),
        }
    }

    fn body(value: &impl Serialize) -> Bytes {
        Bytes::from(serde_json::to_vec(value).expect("what we ask has string keys only"))
    }
}

fn understood(told: Result<Standing, &'static str>) -> Result<Standing, Unanswered> {
    told.map_err(|why| Unanswered(why.to_owned()))
}

impl Gateway for HttpGateway {
    fn create<'a>(&'a self, payment: &'a Payment, currency: Currency) -> Asked<'a, Standing> {
        Box::pin(async move {
            let new = NewPayment {
                reference: payment.id.to_string(),
                amount: payment.amount,
                currency: currency.as_str(),
                expires_at: At(payment.pay_by),
            };
            let told = self.ask(Method::POST, "/payments".to_owned(), HttpGateway::body(&new)).await?;
            understood(told.of_payment())
        })
    }

    fn query<'a>(&'a self, payment: &'a Payment) -> Asked<'a, Standing> {
        Box::pin(async move {
            let told = self.ask(Method::GET, format!("/payments/{}", payment.id), Bytes::new()).await?;
            understood(told.of_payment())
        })
    }

    fn close<'a>(&'a self, payment: &'a Payment) -> Asked<'a, Standing> {
        Box::pin(async move {
            let told = self.ask(Method::POST, format!("/payments/{}/close", payment.id), Bytes::new()).await?;
            understood(told.of_payment())
        })
    }

    fn refund<'a>(&'a self, payment: &'a Payment, currency: Currency) -> Asked<'a, Standing> {
        Box::pin(async move {
            let (reference, amount) = (payment.id.to_string(), payment.taken);
            let new = NewRefund { reference, amount, currency: currency.as_str() };
            let told = self.ask(Method::POST, "/refunds".to_owned(), HttpGateway::body(&new)).await?;
            understood(told.of_refund())
        })
    }

    fn query_refund<'a>(&'a self, payment: &'a Payment) -> Asked<'a, Standing> {
        Box::pin(async move {
            let told = self.ask(Method::GET, format!("/refunds/{}", payment.id), Bytes::new()).await?;
            understood(told.of_refund())
        })
    }

    fn called_back(&self, headers: &HeaderMap, body: &[u8]) -> Result<(PaymentId, Option<PaymentTold>), BadCallback> {
        use BadCallback::{Forged, Malformed};
        let header = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
            value.ok_or(Forged("send webhook-id, webhook-timestamp and webhook-signature, each once"))
        };
        let (id, at, signatures) = (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
        let at_s: u64 = at.parse().map_err(|_| Forged("webhook-timestamp is seconds since 1970"))?;
        if !self.secret.has_signed(id, at_s, body, signatures) {
            return Err(Forged("the signature is not this gateway's, of this id, time and body"));
        }
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if now_s.abs_diff(at_s) > WINDOW_S {
            return Err(Forged("it was signed over five minutes ago, or in the future; sign it again"));
        }
        let message: Message = serde_json::from_slice(body)
            .map_err(|_| Malformed("the body is a JSON object with reference, about, state, id and amount"))?;
        let reference = message.reference.as_deref().and_then(|text| text.parse().ok());
        let reference = reference.ok_or(Malformed("reference is a payment's id"))?;
        let told = match message.about.as_deref() {
            Some("payment") => message.of_payment(),
            Some("refund") => message.of_refund(),
            _ => return Err(Malformed("about is payment or refund")),
        };
        match told.map_err(Malformed)? {
            Standing::Told(told) => Ok((reference, Some(told))),
            Standing::None | Standing::Waits => Ok((reference, None)),
        }
    }
}
