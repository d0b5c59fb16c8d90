//! The Hongbao engine.

pub mod split;
pub mod types;
