//! The engine in front of Redis: that it means the same as the embedded one,
//! and that nothing is lost or doubled wherever an engine ends.

mod archive;
mod archive_pools;
mod audit;
mod audit_pools;
mod copy;
mod copy_pools;
mod creates;
#[path = "../stand/on_redis.rs"]
mod deployment;
mod differential;
mod ended_in_the_middle;
mod events;
#[path = "../feed_story/mod.rs"]
mod feed_story;
mod gifts;
mod groups;
mod lanes;
mod notes;
mod orders;
mod payouts;
mod races;
#[path = "../random/mod.rs"]
mod random;
#[path = "../redis_stand/mod.rs"]
mod redis_stand;
mod scene;
#[path = "../stand/mod.rs"]
mod stand;
