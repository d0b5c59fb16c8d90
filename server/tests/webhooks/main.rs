//! Webhooks over the real engines, with receivers that do what real ones do.

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

mod addresses;
#[path = "../crash/client.rs"]
#[allow(dead_code, reason = "not all that the crash tests ask is asked here")]
mod client;
mod deliveries;
mod endpoints;
mod full_disk;
mod house;
mod killed;
#[path = "../crash/process.rs"]
#[allow(dead_code, reason = "not all that the crash tests do is done here")]
mod process;
mod receiver;
mod redis;
#[path = "../../../engine/tests/redis_stand/mod.rs"]
mod redis_stand;
#[path = "../../../engine/tests/small_disk/mod.rs"]
mod small_disk;
