//! The Hongbao engine.

pub mod journal;
pub mod storage;
pub mod types;

pub use error::EngineError;
