//! Payments outside, from the request to the gateway and back, with a gateway that misbehaves.

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

mod callbacks;
mod house;
mod stories;
