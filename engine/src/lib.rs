//! The Hongbao engine.

pub mod audit;
pub mod backend;
pub mod clock;
pub mod command;
pub mod entropy;
pub mod error;
pub mod event;
pub mod fairness;
pub mod journal;
pub mod memory;
#[doc(hidden)]
pub mod mutants;
pub mod split;
mod state;
pub mod storage;
pub mod store;
pub mod types;

pub use error::EngineError;
