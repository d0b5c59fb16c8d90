//! Asks gateways for what nobody has told, and sends money back.
//!
//! **Invariant:** what a gateway did not answer says nothing: a payment is unpaid only if the
//! gateway says that it takes nothing for it any more, and a refund is sent again only once the
//! gateway was asked whether it has it, under the same id.

use super::api::tell;
use super::gateway::{Standing, Unanswered};
use super::{Known, Payments};
use crate::app::Shared;
use hongbao_engine::EngineError;
use hongbao_engine::backend::{Backend, Page, Result};
use hongbao_engine::payment::{Payment, PaymentFilter, PaymentState, PaymentTold};
use hongbao_engine::types::{PaymentId, Timestamp};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Requests to gateways at once.
const ASKED_MAX: usize = 16;
/// Payments looked at in one state at a time.
const LOOKED_AT_MAX: usize = 10_000;
/// For how long after its time a payment is asked for that nobody has told of, seconds.
const LATE_S: u64 = 86_400;

/// What a payment is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The gateway has not said that it knows of it.
    Unknown,
    /// Its user may pay.
    Open,
    /// Its time is over.
    Due,
    /// Its money is to go back.
    Back,
    /// It has ended, and may be paid all the same.
    Late,
}

impl Stage {
    fn of(payment: &Payment, now: Timestamp) -> Option<Stage> {
        match payment.state {
            PaymentState::Created | PaymentState::Pending if now >= payment.pay_by => Some(Stage::Due),
            PaymentState::Created => Some(Stage::Unknown),
            PaymentState::Pending => Some(Stage::Open),
            PaymentState::Refunding => Some(Stage::Back),
            PaymentState::Failed | PaymentState::Expired => Some(Stage::Late),
            PaymentState::Paid | PaymentState::Refunded => None,
        }
    }

    /// Whether somebody else has just asked for it, or will tell soon.
    fn waits_first(self) -> bool {
        matches!(self, Stage::Unknown | Stage::Open)
    }
}

/// When a payment is asked for next.
struct Turn {
    stage: Stage,
    attempts: u32,
    at: Instant,
}

/// Asks until the server stops.
pub async fn drive<B: Backend>(server: Shared<B>) {
    if server.payments.gateways.is_empty() {
        return;
    }
    let places = Arc::new(Semaphore::new(ASKED_MAX));
    let mut turns: HashMap<PaymentId, Turn> = HashMap::new();
    let mut asking: JoinSet<PaymentId> = JoinSet::new();
    let mut asked: HashSet<PaymentId> = HashSet::new();
    // What a server finds at its start nobody has asked for since.
    let mut is_start = true;
    let mut late_at = Instant::now();
    loop {
        let looks_late = late_at <= Instant::now();
        let found = async {
            let mut found = due(&server, &mut turns, is_start).await?;
            if looks_late {
                found.extend(late(&server).await?);
            }
            Ok::<_, EngineError>(found)
        };
        match found.await {
            Ok(payments) => {
                is_start = false;
                if looks_late {
                    late_at = Instant::now() + server.payments.pace.again_max;
                }
                for payment in payments {
                    let id = payment.id;
                    if !asked.insert(id) {
                        continue;
                    }
                    let (server, places) = (Arc::clone(&server), Arc::clone(&places));
                    asking.spawn(async move {
                        let _place = places.acquire_owned().await.expect("the places are never closed");
                        lead_on(&server, &payment).await;
                        id
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "payments cannot be read; they are looked for again in a moment"),
        }
        let look_again = tokio::time::sleep(server.payments.pace.look_every);
        tokio::pin!(look_again);
        loop {
            tokio::select! {
                () = server.stop.cancelled() => return,
                () = &mut look_again => break,
                Some(done) = asking.join_next() => {
                    if let Ok(id) = done {
                        asked.remove(&id);
                    }
                }
            }
        }
    }
}

/// The payments that are to be asked for now.
async fn due<B: Backend>(
    server: &Shared<B>,
    turns: &mut HashMap<PaymentId, Turn>,
    is_start: bool,
) -> Result<Vec<Payment>> {
    let now = server.backend.now();
    let mut waiting = Vec::new();
    let mut figures = [0.0; super::FIGURES.len()];
    for state in [PaymentState::Created, PaymentState::Pending, PaymentState::Refunding] {
        for payment in in_state(server, state, None).await? {
            figures[0] += f64::from(u8::from(payment.state.is_open()));
            if let Some(at) = payment.refunding_at.filter(|_| state == PaymentState::Refunding) {
                figures[1] += 1.0;
                figures[2] = figures[2].max(now.ms().saturating_sub(at.ms()) as f64 / 1e3);
            }
            waiting.extend(Stage::of(&payment, now).map(|stage| (payment, stage)));
        }
    }
    *server.payments.figures.lock() = figures;
    let pace = server.payments.pace;
    let at = Instant::now();
    let mut next = HashMap::with_capacity(waiting.len());
    let mut now_due = Vec::new();
    for (payment, stage) in waiting {
        let known = turns.remove(&payment.id).filter(|turn| turn.stage == stage);
        let wait = if stage.waits_first() && !is_start { pace.again(0) } else { Duration::ZERO };
        let mut turn = known.unwrap_or(Turn { stage, attempts: 0, at: at + wait });
        if turn.at <= at {
            turn.at = at + pace.again(turn.attempts);
            turn.attempts = turn.attempts.saturating_add(1);
            now_due.push(payment.clone());
        }
        next.insert(payment.id, turn);
    }
    *turns = next;
    Ok(now_due)
}

/// Payments that ended without money, and are to be asked for once more: at times that are twice as
/// long after the end each time, for a day.
async fn late<B: Backend>(server: &Shared<B>) -> Result<Vec<Payment>> {
    let now = server.backend.now();
    let since = |at: Timestamp| now.ms().saturating_sub(at.ms());
    let terms = server.payments.gateways.values().map(|known| &known.terms);
    let longest_s = terms.map(|terms| terms.pay_within_s + terms.keep_s).max().unwrap_or(0);
    // By when they were made: that long ago at most.
    let from = Timestamp::from_ms(now.ms().saturating_sub((LATE_S + longest_s) * 1000));
    let between_ms = server.payments.pace.again_max.as_millis().max(1) as u64;
    let mut found = Vec::new();
    for state in [PaymentState::Failed, PaymentState::Expired] {
        let ended = in_state(server, state, Some(from)).await?;
        found.extend(ended.into_iter().filter(|payment| {
            let looks = since(payment.changed_at) / between_ms;
            since(payment.changed_at) < LATE_S * 1000 && (looks == 0 || looks.is_power_of_two())
        }));
    }
    Ok(found)
}

/// Payments in a state, the oldest first, as many as are looked at.
async fn in_state<B: Backend>(
    server: &Shared<B>,
    state: PaymentState,
    created_from: Option<Timestamp>,
) -> Result<Vec<Payment>> {
    let filter = PaymentFilter { state: Some(state), created_from, ..PaymentFilter::default() };
    let mut page = Page { limit: 1000, cursor: None };
    let mut found = Vec::new();
    while found.len() < LOOKED_AT_MAX {
        let listing = server.backend.payments(&filter, &page).await?;
        found.extend(listing.rows);
        match listing.next {
            Some(next) => page.cursor = Some(next),
            None => break,
        }
    }
    Ok(found)
}

impl Payments {
    pub(super) fn note_unanswered(&self, payment: &Payment, why: &str) {
        self.unanswered.increment(1);
        let (id, gateway) = (payment.id, &payment.gateway);
        tracing::warn!(payment = %id, gateway, why, "a payment gateway did not answer; it is asked again");
    }
}

/// Asks a gateway for a payment, and tells what it says.
async fn lead_on<B: Backend>(server: &Shared<B>, payment: &Payment) {
    let Some(known) = server.payments.gateways.get(&payment.gateway) else {
        tracing::warn!(payment = %payment.id, gateway = payment.gateway, "its gateway is none of this server's; name it with --payments");
        return;
    };
    let now = server.backend.now();
    let Some(stage) = Stage::of(payment, now) else { return };
    let told = match ask(known, server, payment, stage).await {
        Ok(told) => told,
        Err(why) => {
            server.payments.note_unanswered(payment, &why.0);
            None
        }
    };
    let told = told.or((stage == Stage::Due && now >= payment.kept_until).then_some(PaymentTold::GivenUp));
    if let Some(told) = told
        && let Err(problem) = tell(server, payment.id, told).await
    {
        let code = problem.code();
        tracing::warn!(payment = %payment.id, ?code, "what a gateway said could not be written down; it is asked again");
    }
}

async fn ask<B: Backend>(
    known: &Known,
    server: &Shared<B>,
    payment: &Payment,
    stage: Stage,
) -> std::result::Result<Option<PaymentTold>, Unanswered> {
    let gateway = &known.gateway;
    let told = match stage {
        Stage::Unknown => gateway.create(payment, server.currency).await?,
        Stage::Open => gateway.query(payment).await?,
        Stage::Due => match gateway.close(payment).await? {
            // It never heard of it, and nobody can pay what is not there.
            Standing::None => Standing::Told(PaymentTold::Unpaid),
            // It takes money for it still, whatever it was told.
            Standing::Told(PaymentTold::Created { .. }) => Standing::Waits,
            told => told,
        },
        Stage::Late => match gateway.query(payment).await? {
            told @ Standing::Told(PaymentTold::Paid { .. }) => told,
            _ => Standing::Waits,
        },
        Stage::Back => match gateway.query_refund(payment).await? {
            Standing::None => gateway.refund(payment, server.currency).await?,
            told => told,
        },
    };
    Ok(match told {
        Standing::Told(told) => Some(told),
        Standing::None | Standing::Waits => None,
    })
}
