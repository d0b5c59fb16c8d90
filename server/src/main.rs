//! The `hongbao` binary.
fn main() {}
