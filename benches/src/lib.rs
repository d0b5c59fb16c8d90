//! What the benches share: baselines and workloads.
