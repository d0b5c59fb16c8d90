//! Red envelopes and flash sales: money that is never lost or doubled, stock
//! that is never oversold, and answers that stay true after a crash.
//!
//! Money is put into an *envelope*, split into *shares*, *grabbed* by users
//! (each at most once), *claimed* into wallets; what nobody took goes back to
//! the sender. Units of *items* are *held* for a user for a while, then claimed
//! (paid for) or given back. This crate decides all that in memory, in shards,
//! and makes it durable in a journal before it answers; it serves no network.
//!
//! ```
//! use hongbao_engine::backend::Backend;
//! use hongbao_engine::command::{Command, NewEnvelope, Outcome, Transfer};
//! use hongbao_engine::memory::{Embedded, EmbeddedOptions};
//! use hongbao_engine::split::SplitRule;
//! use hongbao_engine::types::{Amount, UserId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let (engine, _) = Embedded::open(directory, EmbeddedOptions::default())?;
//! let (alice, bob) = (UserId::new("alice")?, UserId::new("bob")?);
//! let ten_yuan = Amount::new(1000).expect("far below the maximum");
//!
//! let deposit = Transfer { user: alice.clone(), amount: ten_yuan, reference: None };
//! engine.execute(Command::Deposit(deposit), None).await?;
//! let terms = NewEnvelope::new("app", alice, ten_yuan, 3, SplitRule::lucky());
//! let created = engine.execute(Command::CreateEnvelope(Box::new(terms)), None).await?;
//! let Outcome::Envelope(envelope) = created.outcome else { panic!("{created:?}") };
//!
//! let won = engine.execute(Command::Grab { envelope: envelope.id, user: bob.clone() }, None).await?;
//! assert!(matches!(won.outcome, Outcome::Won { share: 0, .. }));
//! engine.execute(Command::Claim { envelope: envelope.id, user: bob.clone() }, None).await?;
//! assert!(engine.wallet(&bob).await?.available > Amount::ZERO);
//! engine.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! - [`command`]: what can be asked ([`Command`](command::Command)) and answered ([`Outcome`](command::Outcome)).
//! - [`backend`]: the one trait behind which an engine stands, and what its reads tell.
//! - [`api_key`]: who calls, for which owner and in which roles.
//! - [`code`]: units that are codes, each handed out once.
//! - [`gift_envelope`]: units for whoever comes first.
//! - [`relation`]: who follows whom, and who has blocked whom.
//! - [`group`]: users who buy an item together.
//! - [`order`]: what comes of a unit once it is paid.
//! - [`payout`]: money that goes to people outside.
//! - [`address`]: where gifts are sent: sealed, opened, erased.
//! - [`creates`]: how many envelopes a sender may make in a day.
//! - [`memory`]: the embedded engine: lock, decide, stage, apply, unlock, wait; then
//!   housekeeping, eviction, reads and recovery.
//! - `state`: decisions and how events change what is live. Pure: no clock, no I/O, no randomness.
//! - [`event`]: what was decided, and its form in the journal.
//! - [`journal`]: one append-only log for all shards; one sync for all that arrived during the last.
//! - [`store`]: a projection of the durable journal: history, what has ended, what is live at the start.
//! - [`feed`]: what has happened, for those who follow it.
//! - [`notes`]: what a server keeps for itself.
//! - [`storage`]: the journal's door to the disk, and a disk that fails on purpose.
//! - `migrate`: a directory of an older form brought to this build's.
//! - [`audit`], [`rebuild`]: a directory that is not in use, checked, or its store made anew.
//! - [`erase`]: texts taken out of what was written, for copies of it.
//! - [`backup`]: a directory, in use or not, as it was after one record; [`export`]: its books.
//! - [`split`]: how a total is divided, as pure and frozen functions of a seed.
//! - [`fairness`]: measures that the order of grabbing changes nobody's odds.
//! - [`clock`], [`entropy`]: where time and chance come from; handed in, so that a run can be repeated.
//! - `redis` (a feature): the same decisions in front of Redis or Valkey, for more than one machine.
//! - [`types`], [`error`]: money, people, things and time; failures of operation.
//!
//! # Invariants
//!
//! Asserted where state changes, tested, and the first one told by [`backend::Backend::audit`]:
//!
//! 1. deposited = withdrawn + paid out + wallets + escrowed + payable + merchants + platform +
//!    in flight; every record's debits are its credits.
//! 2. Of an envelope: total = claimed + grabbed and not claimed + unsold + refunded.
//! 3. Of an envelope: at most one share a user, one user a share, and its amount is the split's.
//! 4. Of an item: stock = free + held + sold, none below zero.
//! 5. Every hold, payout and envelope ends in exactly one way; a payout is made once and paid once.
//! 6. Every positive answer given survives a restart and is repeated identically.

pub mod address;
pub mod api_key;
pub mod audit;
pub mod backend;
pub mod backup;
pub mod clock;
pub mod code;
pub mod command;
pub mod creates;
pub mod entropy;
pub mod erase;
pub mod error;
pub mod event;
pub mod export;
pub mod fairness;
pub mod feed;
pub mod gift;
pub mod gift_envelope;
pub mod group;
mod item;
pub mod journal;
pub mod memory;
mod merchant;
mod migrate;
#[doc(hidden)]
pub mod mutants;
pub mod notes;
pub mod order;
pub mod payment;
pub mod payout;
pub mod rebuild;
pub mod redaction;
#[cfg(feature = "redis")]
pub mod redis;
pub mod relation;
pub mod sale;
pub mod split;
mod state;
pub mod storage;
pub mod store;
pub mod types;

pub use error::EngineError;
