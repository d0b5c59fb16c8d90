//! Two real servers in front of a real Cluster, under fire: whatever is killed,
//! paused or moved, no answer is lost or changed and no share is given twice.
//!
//! - `house.rs`: the servers, the Cluster, and what is done to them
//! - `game.rs`: players at both servers, and every answer asked again
//! - `fire.rs`: races 29 and 31, everything at once
//! - `races.rs`: races 30, 37, 38 and 39, each brought about on purpose
//! - `gifts.rs`: gifts, counted to the unit and the fen
//! - `pools.rs`: races 28 and 29 of a mass envelope, in the middle of its transfers
//! - `webhooks.rs`: deliveries while all that happens
//! - `outage.rs`: Redis away at the start or in the middle, wrong settings and logins
//!
//! The players, their book, the inquiry and whoever follows the events are those of `server/tests/crash`.
//! `FAILOVERS` (10), `ROUNDS` (1) of everything else, `OUTAGE_S` (3) and `SEED` choose how much.

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

#[path = "../crash/book.rs"]
mod book;
#[path = "../crash/client.rs"]
mod client;
mod fire;
#[path = "../crash/follower.rs"]
#[allow(dead_code, reason = "streams are listened to elsewhere")]
mod follower;
mod game;
mod gifts;
mod house;
#[path = "../crash/inquiry.rs"]
mod inquiry;
#[path = "../crash/load.rs"]
#[allow(dead_code, reason = "whoever plays until the server is gone plays elsewhere")]
mod load;
mod outage;
mod pools;
#[path = "../crash/process.rs"]
#[allow(dead_code, reason = "not all that the crash tests do is done here")]
mod process;
mod races;
#[path = "../webhooks/receiver.rs"]
#[allow(dead_code, reason = "not all that receivers can do is done here")]
mod receiver;
#[path = "../../../engine/tests/redis_stand/mod.rs"]
mod redis_stand;
mod webhooks;

/// What the environment says under `name`, else `default`.
fn number_of(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
