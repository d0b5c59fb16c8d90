//! Orders: what comes of a unit once it is paid. It is shipped, arrives, and may go back.
//!
//! An order is kept as it was paid, in a row that never changes; what has become of it since
//! stands in a row of its own, and in memory only for as long as somebody has just asked.
//!
//! **Invariant:** an order's money goes back once, to who paid it.

use crate::command::{OrderView, Refusal};
use crate::types::{Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// How long after its delivery an order may be sent back, if its item says nothing else: seven days.
pub const RETURN_WITHIN_S: u32 = 7 * 86_400;
/// How long a merchant may take to answer who wants to send something back: seven days.
pub const ANSWER_WITHIN_S: u64 = 7 * 86_400;
/// The longest reason, carrier or tracking number, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Where an order stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// It is paid.
    #[default]
    Paid,
    /// It is on its way.
    Shipped,
    /// It has arrived.
    Delivered,
    /// Its user wants to send it back; its merchant is to answer.
    ReturnRequested,
    /// It went back, and its money to who had paid.
    Returned,
    /// The merchant does not take it back.
    Refused,
}

impl OrderState {
    /// All of them.
    pub const ALL: [OrderState; 6] = [
        OrderState::Paid,
        OrderState::Shipped,
        OrderState::Delivered,
        OrderState::ReturnRequested,
        OrderState::Returned,
        OrderState::Refused,
    ];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            OrderState::Paid => "paid",
            OrderState::Shipped => "shipped",
            OrderState::Delivered => "delivered",
            OrderState::ReturnRequested => "return_requested",
            OrderState::Returned => "returned",
            OrderState::Refused => "refused",
        }
    }
}

/// What has become of an order since it was paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderProgress {
    /// Where it stands.
    pub state: OrderState,
    /// When it was shipped.
    pub shipped_at: Option<Timestamp>,
    /// By whom it was sent.
    pub carrier: Option<String>,
    /// Under which number.
    pub tracking: Option<String>,
    /// When it arrived.
    pub delivered_at: Option<Timestamp>,
    /// When its user asked to send it back.
    pub return_requested_at: Option<Timestamp>,
    /// Why.
    pub return_reason: Option<String>,
    /// Until when the merchant is to answer: who asks again from then on has the return.
    pub answer_by: Option<Timestamp>,
    /// When it went back, or the merchant refused that.
    pub ended_at: Option<Timestamp>,
    /// Why the merchant refused.
    pub refusal: Option<String>,
    /// Whether its units are on sale again.
    pub restocked: bool,
}

/// What somebody does about an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderStep {
    /// The merchant has sent it.
    Ship {
        /// By whom.
        carrier: String,
        /// Under which number.
        tracking: String,
    },
    /// It has arrived.
    Deliver,
    /// Its user wants to send it back.
    Return {
        /// Who; only who has paid may.
        user: UserId,
        /// Why.
        reason: String,
    },
    /// The merchant takes it back.
    AcceptReturn {
        /// Whether its units are on sale again.
        restock: bool,
    },
    /// The merchant does not take it back.
    RefuseReturn {
        /// Why.
        reason: String,
    },
}

impl OrderStep {
    /// Checks what can be told from the step alone.
    ///
    /// # Errors
    /// A [`Refusal::Invalid`] that names the field.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let text = |field, text: &str| Refusal::unless_long(field, text, 1..=TEXT_CHARS_MAX);
        match self {
            OrderStep::Ship { carrier, tracking } => {
                text("carrier", carrier)?;
                text("tracking", tracking)
            }
            OrderStep::Return { reason, .. } | OrderStep::RefuseReturn { reason } => text("reason", reason),
            OrderStep::Deliver | OrderStep::AcceptReturn { .. } => Ok(()),
        }
    }
}

impl OrderView {
    /// What a step at `now` makes of it; `None` if it was done before. `return_within_s` is its item's.
    ///
    /// # Errors
    /// A refusal: it is not that user's to do, or the order stands elsewhere, or it is too late.
    pub(crate) fn step(
        &self,
        step: &OrderStep,
        return_within_s: u32,
        now: Timestamp,
    ) -> Result<Option<OrderProgress>, Refusal> {
        let progress = &self.progress;
        let state = progress.state;
        let wrong = Refusal::WrongState;
        let must_be = |states: &[OrderState], what: &str| {
            if states.contains(&state) {
                return Ok(());
            }
            let names: Vec<_> = states.iter().map(|state| state.name()).collect();
            Err(wrong(format!(
                "the order is {} and can be {what} only while it is {}",
                state.name(),
                names.join(" or ")
            )))
        };
        let after = match step {
            OrderStep::Ship { carrier, tracking } => {
                let (carrier, tracking) = (Some(carrier.clone()), Some(tracking.clone()));
                if progress.shipped_at.is_some() && (&progress.carrier, &progress.tracking) == (&carrier, &tracking) {
                    return Ok(None);
                }
                must_be(&[OrderState::Paid], "shipped")?;
                let shipped_at = Some(now);
                OrderProgress { state: OrderState::Shipped, shipped_at, carrier, tracking, ..progress.clone() }
            }
            OrderStep::Deliver => {
                if progress.delivered_at.is_some() {
                    return Ok(None);
                }
                must_be(&[OrderState::Paid, OrderState::Shipped], "delivered")?;
                OrderProgress { state: OrderState::Delivered, delivered_at: Some(now), ..progress.clone() }
            }
            OrderStep::Return { user, reason } => {
                if *user != self.user {
                    return Err(Refusal::Forbidden);
                }
                match state {
                    // The merchant had its time, and has not said no.
                    OrderState::ReturnRequested if progress.answer_by.is_some_and(|by| now >= by) => {
                        return Ok(Some(self.returned(false, now)));
                    }
                    OrderState::ReturnRequested | OrderState::Returned => return Ok(None),
                    _ => must_be(&[OrderState::Paid, OrderState::Shipped, OrderState::Delivered], "sent back")?,
                }
                if return_within_s == 0 {
                    return Err(wrong("the item is sold without return".to_owned()));
                }
                // A merchant that never tells of a delivery gains nothing by it.
                let until = progress.delivered_at.map(|at| at.plus_s(return_within_s.into()));
                if until.is_some_and(|until| now >= until) {
                    let why = format!("its time to be sent back is over: {return_within_s} s from its delivery on");
                    return Err(wrong(why));
                }
                OrderProgress {
                    state: OrderState::ReturnRequested,
                    return_requested_at: Some(now),
                    return_reason: Some(reason.clone()),
                    answer_by: Some(now.plus_s(ANSWER_WITHIN_S)),
                    ..progress.clone()
                }
            }
            OrderStep::AcceptReturn { restock } => {
                if state == OrderState::Returned && progress.restocked == *restock {
                    return Ok(None);
                }
                must_be(&[OrderState::ReturnRequested], "taken back")?;
                self.returned(*restock, now)
            }
            OrderStep::RefuseReturn { reason } => {
                if state == OrderState::Refused {
                    return Ok(None);
                }
                must_be(&[OrderState::ReturnRequested], "refused")?;
                if progress.answer_by.is_some_and(|by| now >= by) {
                    return Err(wrong("the time to refuse is over; take it back with accept-return".to_owned()));
                }
                let refusal = Some(reason.clone());
                OrderProgress { state: OrderState::Refused, ended_at: Some(now), refusal, ..progress.clone() }
            }
        };
        Ok(Some(after))
    }

    /// Until when a step is in time, if it ever is too late.
    #[cfg(feature = "redis")]
    pub(crate) fn in_time_until(&self, step: &OrderStep, return_within_s: u32) -> Option<Timestamp> {
        match (step, self.progress.state) {
            (OrderStep::Return { .. }, OrderState::Delivered) => {
                self.progress.delivered_at.map(|at| at.plus_s(return_within_s.into()))
            }
            (OrderStep::RefuseReturn { .. }, OrderState::ReturnRequested) => self.progress.answer_by,
            _ => None,
        }
    }

    fn returned(&self, restocked: bool, now: Timestamp) -> OrderProgress {
        OrderProgress { state: OrderState::Returned, ended_at: Some(now), restocked, ..self.progress.clone() }
    }
}
