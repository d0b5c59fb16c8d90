//! The Hongbao engine.

pub mod fairness;
pub mod split;
pub mod types;

pub use error::EngineError;
