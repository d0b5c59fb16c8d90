//! The real binary: started, asked, killed, started again.
//!
//! What the process does is judged from outside only: by its answers, its exit
//! code, its log and the files it leaves.
//!
//! - `process.rs`, `client.rs`: a running binary, and one connection to it
//! - `load.rs`, `book.rs`, `inquiry.rs`, `kill.rs`: everything at once, killed at any moment,
//!   and every answer asked again
//! - `feed.rs`, `follower.rs`: whoever follows the events, over every crash
//! - `backup.rs`, `restore.rs`: backups of a server under load, and what is made of them
//! - `addresses.rs`: where gifts are sent: looked for everywhere, and killed in between
//! - `gifts.rs`, `sales.rs`: gifts, killed in the middle of their lives; merchants' money, in the middle of settling
//! - `export.rs`, `reconcile.rs`: the books of a period, and a bank's file beside them
//! - `migrate.rs`, `redact.rs`: a directory of an older form; a text taken out of what it has left
//! - `refusals.rs`, `damage.rs`, `downtime.rs`, `commands.rs`: one story a test

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

mod addresses;
mod backup;
mod book;
mod client;
mod commands;
mod damage;
mod downtime;
mod export;
mod feed;
mod follower;
mod gifts;
mod inquiry;
mod kill;
mod load;
mod migrate;
mod payments;
mod process;
mod reconcile;
mod redact;
mod refusals;
mod restore;
mod sales;
