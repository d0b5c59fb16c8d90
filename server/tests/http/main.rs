//! The server over a fake backend: what goes in wrong, what comes out, and how
//! it behaves on a real socket.

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

mod addresses;
mod answers;
mod bad_input;
mod codes;
mod events;
mod fake;
mod gift_envelopes;
mod gifts;
mod groups;
mod keys;
mod orders;
mod payouts;
mod relations;
mod routes;
mod socket;
