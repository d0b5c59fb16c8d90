//! Webhooks over the real engine, with receivers that do what real ones do.

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

mod deliveries;
mod endpoints;
mod house;
mod receiver;
