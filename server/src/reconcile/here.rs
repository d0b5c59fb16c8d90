//! What Hongbao says of its payouts: read from a directory or a backup, or asked of a server.

use super::payouts::ReconcilePayouts;
use crate::books::{self, Opened};
use crate::failure::{Failure, asked};
use hongbao_client::Client;
use hongbao_client::types::PayoutsQuery;
use hongbao_engine::payout::{Payout, PayoutState};
use hongbao_engine::types::Timestamp;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Payouts asked for at a time.
const PAGE: u64 = 1000;
/// How long it is waited without a word.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Whose wallet is asked for, to learn the currency: a user that need not be.
const NOBODY: &str = "reconcile";

/// A payout, as far as a bank knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Here {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) amount_minor: i64,
    pub(super) state: PayoutState,
    /// The last one told.
    pub(super) reference: Option<String>,
    /// When its state last changed.
    pub(super) changed_at: Timestamp,
}

impl From<Payout> for Here {
    fn from(payout: Payout) -> Here {
        let Payout { id, user, amount, state, reference, changed_at, .. } = payout;
        Here {
            id: id.to_string(),
            user: user.to_string(),
            amount_minor: amount.minor() as i64,
            state,
            reference,
            changed_at,
        }
    }
}

/// Who says it.
pub(super) enum Source {
    Books(Opened),
    Server(Box<Served>),
}

pub(super) struct Served {
    client: Client,
    target: String,
    currency: String,
    runtime: Runtime,
}

impl Source {
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn open(options: &ReconcilePayouts) -> Result<Source, Failure> {
        let Some(target) = &options.target else {
            let near = options.out.as_deref().unwrap_or(Path::new("payouts"));
            return Ok(Source::Books(books::open(&options.data, near, options.mib_per_s_max)?));
        };
        let why = "a server is asked with a key: --key, or HONGBAO_KEY";
        let key = options.key.as_deref().ok_or_else(|| Failure::Usage(why.to_owned()))?;
        let client = Client::new(target, key).map_err(asked(target))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let wallet = runtime.block_on(patiently(target, client.wallet(NOBODY), tell));
        let currency = wallet.map_err(asked(target))?.currency;
        Ok(Source::Server(Box::new(Served { client, target: target.clone(), currency, runtime })))
    }

    pub(super) fn currency(&self) -> &str {
        match self {
            Source::Books(opened) => opened.books.currency(),
            Source::Server(server) => &server.currency,
        }
    }

    /// Gives `take` every payout.
    ///
    /// # Errors
    /// Why not all of them can be read.
    pub(super) fn each(&self, mut take: impl FnMut(Here)) -> Result<(), Failure> {
        match self {
            Source::Books(opened) => {
                let all = opened.books.store().all_payouts(&mut |payout| {
                    take(payout.into());
                    Ok(())
                });
                all.map_err(|error| Failure::Broken(error.to_string()))
            }
            Source::Server(server) => server.runtime.block_on(async {
                let mut pages = server.client.payouts(&PayoutsQuery::new().limit(PAGE));
                while let Some(payout) = patiently(&server.target, pages.next(), tell).await {
                    take(here_of(payout.map_err(asked(&server.target))?)?);
                }
                Ok(())
            }),
        }
    }
}

fn here_of(payout: hongbao_client::types::Payout) -> Result<Here, Failure> {
    let unknown = |what: &dyn std::fmt::Display| {
        let remedy = "take a hongbao of the server's version";
        Failure::Broken(format!("{}: {what} is not known to this version; {remedy}", payout.id))
    };
    let state = PayoutState::ALL.into_iter().find(|state| state.name() == payout.state.as_str());
    let state = state.ok_or_else(|| unknown(&payout.state.as_str()))?;
    let changed_at: jiff::Timestamp = payout.changed_at.parse().map_err(|error| unknown(&error))?;
    Ok(Here {
        amount_minor: i64::try_from(payout.amount).map_err(|error| unknown(&error))?,
        changed_at: Timestamp::from_ms(u64::try_from(changed_at.as_millisecond()).unwrap_or_default()),
        state,
        id: payout.id,
        user: payout.user,
        reference: payout.reference,
    })
}

fn tell(waits: String) {
    eprintln!("hongbao: {waits}");
}

/// Waits for an answer, and says so if that takes longer than people wait without asking themselves why.
async fn patiently<T>(target: &str, answer: impl Future<Output = T>, tell: impl FnOnce(String)) -> T {
    let mut answer = std::pin::pin!(answer);
    match tokio::time::timeout(SILENCE_MAX, &mut answer).await {
        Ok(answer) => answer,
        Err(_) => {
            tell(format!("waiting for an answer of {target}; it is asked again for up to 30 s"));
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_told_for_whom() {
        for (waits_s, told) in [(1, false), (9, true)] {
            let mut said = None;
            let answer = async {
                tokio::time::sleep(Duration::from_secs(waits_s)).await;
                7
            };
            assert_eq!(patiently("http://there", answer, |words| said = Some(words)).await, 7);
            assert_eq!(said.is_some_and(|words| words.contains("an answer of http://there")), told, "{waits_s} s");
        }
    }
}
