//! The Hongbao engine.

pub mod backend;
pub mod command;
pub mod error;
pub mod event;
pub mod split;
pub mod store;
pub mod types;

pub use error::EngineError;
