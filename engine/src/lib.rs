//! The Hongbao engine.

pub mod types;
