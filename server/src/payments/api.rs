//! Payments as callers begin and read them, and what gateways call back.
//!
//! **Invariant:** a callback counts only if its gateway has signed it a moment ago; it may come
//! twice, and before whoever asked for the payment was answered.

use super::Known;
use super::gateway::{BadCallback, Standing};
use crate::app::{Server, Shared, Table};
use crate::config::Currency;
use crate::door::Class;
use crate::extract::{NoParams, One, Params, RawBody, Segment, read_time};
use crate::problem::{Code, Problem};
use crate::reply::{Kind, from_engine, json, list, reply};
use crate::seldom::Seldom;
use crate::views::{At, Shown};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hongbao_engine::backend::{Backend, Reply};
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::payment::{NewPayment, Payment, PaymentFilter, PaymentFor, PaymentState, PaymentTold};
use hongbao_engine::types::{Amount, GiftId, HoldId, OrderId, PaymentId, UserId};
use serde::Serialize;
use std::time::Duration;

/// Adds the routes of payments.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.get("/v1/payments", Class::Ordinary, find::<B>).get("/v1/payments/{id}", Class::Ordinary, show::<B>).post(
        "/v1/payments/callbacks/{gateway}",
        Class::Open,
        called_back::<B>,
    )
}

/// What somebody who is to pay is told.
#[derive(Serialize)]
pub(crate) struct Awaiting<'a> {
    outcome: &'static str,
    payment: Shown<PaymentId>,
    gateway: &'a str,
    amount: Amount,
    currency: Currency,
    pay_url: Option<&'a str>,
    expires_at: At,
    order: Option<Shown<OrderId>>,
    reason: Option<&'a str>,
}

impl<'a> Awaiting<'a> {
    /// `payment`, as whoever has begun it is told.
    pub(crate) fn new(payment: &'a Payment, currency: Currency) -> Self {
        let outcome = match payment.state {
            PaymentState::Created | PaymentState::Pending => "awaiting_payment",
            PaymentState::Paid => "paid",
            _ => "payment_failed",
        };
        Awaiting {
            outcome,
            payment: Shown(payment.id),
            gateway: &payment.gateway,
            amount: payment.amount,
            currency,
            pay_url: payment.pay_url.as_deref(),
            expires_at: At(payment.pay_by),
            order: payment.order.map(Shown),
            reason: payment.reason.as_deref(),
        }
    }
}

/// A payment.
#[derive(Serialize)]
pub(crate) struct PaymentJson<'a> {
    id: Shown<PaymentId>,
    gateway: &'a str,
    state: PaymentState,
    hold: Option<Shown<HoldId>>,
    gift: Option<Shown<GiftId>>,
    payer: &'a UserId,
    merchant: &'a UserId,
    amount: Amount,
    currency: Currency,
    taken: Amount,
    created_at: At,
    expires_at: At,
    kept_until: At,
    pay_url: Option<&'a str>,
    gateway_id: Option<&'a str>,
    paid_at: Option<At>,
    order: Option<Shown<OrderId>>,
    refunding_at: Option<At>,
    refunded_at: Option<At>,
    refund_id: Option<&'a str>,
    reason: Option<&'a str>,
    discrepancy: Option<&'static str>,
}

impl<'a> PaymentJson<'a> {
    /// `payment`, shown.
    pub(crate) fn new(payment: &'a Payment, currency: Currency) -> Self {
        let (hold, gift) = match payment.purpose {
            PaymentFor::Hold(hold) => (Some(Shown(hold)), None),
            PaymentFor::Gift(gift) => (None, Some(Shown(gift))),
        };
        PaymentJson {
            id: Shown(payment.id),
            gateway: &payment.gateway,
            state: payment.state,
            hold,
            gift,
            payer: &payment.payer,
            merchant: &payment.merchant,
            amount: payment.amount,
            currency,
            taken: payment.taken,
            created_at: At(payment.created_at),
            expires_at: At(payment.pay_by),
            kept_until: At(payment.kept_until),
            pay_url: payment.pay_url.as_deref(),
            gateway_id: payment.number.as_deref(),
            paid_at: payment.paid_at.map(At),
            order: payment.order.map(Shown),
            refunding_at: payment.refunding_at.map(At),
            refunded_at: payment.refunded_at.map(At),
            refund_id: payment.refund_number.as_deref(),
            reason: payment.reason.as_deref(),
            discrepancy: payment.discrepancy.map(|discrepancy| discrepancy.name()),
        }
    }
}

impl<B> Server<B> {
    /// The gateway that callers call so.
    fn gateway(&self, name: &str) -> Result<&Known, Problem> {
        let gateways = &self.payments.gateways;
        if gateways.is_empty() {
            let why = "Nothing is paid outside here; pay from a wallet, or start the server with --payments.";
            return Err(Problem::new(Code::WrongState, why));
        }
        gateways.get(name).ok_or_else(|| {
            let names: Vec<_> = gateways.keys().map(String::as_str).collect();
            Problem::field("pay_with", format!("is no gateway of this server; there are {}", names.join(", ")))
        })
    }
}

/// Has something paid outside, and tells where.
pub(crate) async fn begin<B: Backend>(
    server: &Shared<B>,
    purpose: PaymentFor,
    payer: UserId,
    gateway: &str,
) -> Result<Response, Problem> {
    let known = server.gateway(gateway)?;
    let terms = NewPayment {
        gateway: gateway.to_owned(),
        purpose,
        payer,
        pay_within_s: known.terms.pay_within_s,
        keep_s: known.terms.keep_s,
    };
    let result = server.backend.execute(Command::CreatePayment(Box::new(terms)), None).await;
    let mut payment = match result {
        Ok(Reply { outcome: Outcome::Payment(payment), .. }) => *payment,
        Ok(Reply { outcome: Outcome::Gift(_), .. }) => {
            return Err(Problem::new(Code::WrongState, "The gift is paid already."));
        }
        result => return reply(server, result, StatusCode::OK),
    };
    let id = payment.id;
    if payment.state == PaymentState::Created {
        match known.gateway.create(&payment, server.currency).await {
            Ok(Standing::Told(told)) => payment = tell(server, id, told).await?.unwrap_or(payment),
            Ok(Standing::None | Standing::Waits) => {}
            // It is asked again by itself, and whoever is to pay asks where.
            Err(why) => server.payments.note_unanswered(&payment, &why.0),
        }
    }
    server.metrics.count(Kind::Payment);
    Ok(json(&Awaiting::new(&payment, server.currency)))
}

/// Tells the engine what came of a payment; nothing if there is no such payment.
pub(super) async fn tell<B: Backend>(
    server: &Shared<B>,
    id: PaymentId,
    told: PaymentTold,
) -> Result<Option<Payment>, Problem> {
    let command = Command::TellPayment { payment: id, told: Box::new(told.clone()) };
    let before = server.backend.payment(id).await.map_err(|error| from_engine(&error))?;
    let reply = server.backend.execute(command, None).await.map_err(|error| from_engine(&error))?;
    match reply.outcome {
        Outcome::Payment(payment) => {
            let was = before.and_then(|before| before.discrepancy);
            if let Some(discrepancy) = payment.discrepancy.filter(|_| was.is_none()) {
                server.payments.discrepancies.increment(1);
                let (gateway, what) = (&payment.gateway, discrepancy.name());
                tracing::warn!(payment = %id, gateway, what, "a gateway said of a payment what cannot be right");
            }
            Ok(Some(*payment))
        }
        Outcome::Refused(Refusal::NotFound) => Ok(None),
        Outcome::Refused(refusal) => {
            // A refund of what is not to be refunded, say.
            tracing::warn!(payment = %id, %refusal, "a gateway said of a payment what cannot be");
            Ok(server.backend.payment(id).await.map_err(|error| from_engine(&error))?)
        }
        other => unreachable!("a payment is told as a payment, not as {other:?}"),
    }
}

/// A gateway's name in a path.
struct GatewayName(String);

impl Segment for GatewayName {
    fn read(text: &str) -> Result<Self, Problem> {
        Ok(GatewayName(text.to_owned()))
    }
}

/// The largest callback.
const CALLBACK_BYTES_MAX: usize = 64 << 10;

#[derive(Serialize)]
struct Taken {
    payment: Shown<PaymentId>,
    state: PaymentState,
}

async fn called_back<B: Backend>(
    State(server): State<Shared<B>>,
    One(GatewayName(name)): One<GatewayName>,
    headers: HeaderMap,
    RawBody(body): RawBody<CALLBACK_BYTES_MAX>,
) -> Result<Response, Problem> {
    let forged = |why: &'static str| {
        server.payments.refused.increment(1);
        // Whoever finds the port may send as many as it likes.
        static REFUSED: Seldom = Seldom::every(Duration::from_secs(1));
        if let Some(callbacks) = REFUSED.due() {
            tracing::warn!(gateway = name, why, callbacks, "callbacks were refused");
        }
        Problem::new(Code::Unauthorized, format!("This is not taken: {why}."))
    };
    let known = server.payments.gateways.get(&name).ok_or_else(|| forged("there is no gateway of this name"))?;
    let (id, told) = match known.gateway.called_back(&headers, &body) {
        Ok(message) => message,
        Err(BadCallback::Forged(why)) => return Err(forged(why)),
        Err(BadCallback::Malformed(why)) => return Err(Problem::field("body", why)),
    };
    let payment = server.backend.payment(id).await.map_err(|error| from_engine(&error))?;
    // A gateway speaks of its own payments only, whatever the secret.
    let payment = payment.filter(|payment| payment.gateway == name);
    let payment = payment.ok_or_else(|| forged("this gateway has no such payment"))?;
    let after = match told {
        Some(told) => tell(&server, id, told).await?.unwrap_or(payment),
        None => payment,
    };
    Ok(json(&Taken { payment: Shown(id), state: after.state }))
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    One(id): One<PaymentId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let payment = server.backend.payment(id).await.map_err(|error| from_engine(&error))?;
    Ok(json(&PaymentJson::new(&payment.ok_or_else(Problem::not_found)?, server.currency)))
}

async fn find<B: Backend>(State(server): State<Shared<B>>, params: Params) -> Result<Response, Problem> {
    let page = params.page(&["state", "gateway", "discrepant", "created_from", "created_to"])?;
    let filter = PaymentFilter {
        state: params.parse("state", |name| {
            let found = PaymentState::ALL.into_iter().find(|state| state.name() == name);
            found.ok_or("must be created, pending, paid, failed, expired, refunding or refunded")
        })?,
        gateway: params.get("gateway").map(str::to_owned),
        discrepant: params
            .parse("discrepant", |word| match word {
                "true" => Ok(true),
                _ => Err("must be true; leave it out for all"),
            })?
            .unwrap_or(false),
        created_from: params.parse("created_from", read_time)?,
        created_to: params.parse("created_to", read_time)?,
    };
    let rows = server.backend.payments(&filter, &page).await.map_err(|error| from_engine(&error))?;
    Ok(list("payments", &rows, |payment| PaymentJson::new(payment, server.currency)))
}
