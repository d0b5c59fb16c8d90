//! The HTTP server of Hongbao, over any [`Backend`](hongbao_engine::backend::Backend).
//!
//! A request is followed with a finger: [`serve`] takes the connection, [`door`]
//! checks the key and counts, a handler in [`wallets`], [`envelopes`], [`sales`],
//! [`events`],
//! [`webhooks`], [`keys`] or [`service`] extracts, builds the command, executes it and replies.
//!
//! # Layout
//! - [`app`]: every route, and what handlers work on
//! - [`door`]: what every request passes: shedding, keys, request ids, counting
//! - [`extract`], [`fields`]: from bytes to checked values
//! - [`access`]: which roles let whom do what
//! - [`wallets`], [`envelopes`], [`sales`], [`events`], [`webhooks`], [`keys`], [`service`]: one file a resource
//! - [`reply`], [`views`], [`problem`]: from outcomes, views and errors to JSON
//! - [`serve`], `timer`, `wire`: accept loops, limits of connections, stopping; [`handover`]: starting while another ends
//! - [`auth`], [`config`], [`metrics`]
//! - [`demo`], [`audit`], [`backup`], [`restore`], [`export`], [`rebuild`], [`reconcile`], [`redact`], [`copy`], [`split`], [`clock`]: the other tasks of the
//!   command line; [`operator`]: their door to a running server; [`failure`]: how any of them ends when it fails

pub mod access;
pub mod address_key;
pub mod addresses;
pub mod app;
pub mod audit;
pub mod auth;
pub mod backup;
mod books;
pub mod caps;
pub mod clock;
pub mod codes;
pub mod config;
pub mod copy;
mod csv;
pub mod demo;
pub mod door;
pub mod envelopes;
pub mod events;
pub mod export;
pub mod extract;
pub mod failure;
pub mod faults;
pub mod fields;
mod file;
pub mod gift_envelopes;
pub mod gifts;
pub mod groups;
pub mod handover;
pub mod keys;
pub mod metrics;
mod money;
pub mod operator;
pub mod orders;
pub mod payments;
pub mod payouts;
pub mod problem;
mod progress;
pub mod rebuild;
pub mod reconcile;
pub mod redact;
mod redact_copy;
pub mod relations;
pub mod reply;
pub mod restore;
pub mod sale_money;
pub mod sales;
mod seldom;
pub mod serve;
pub mod service;
mod sheet;
pub mod split;
mod timer;
pub mod top;
pub mod views;
pub mod wallets;
pub mod webhooks;
mod wire;
mod zone;
