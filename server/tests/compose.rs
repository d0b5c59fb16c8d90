//! What `docs/compose` names is there: no Docker engine runs it in the tests.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

use hongbao_server::metrics::Metrics;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compose"))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(directory().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every metric that a dashboard asks for exists; without a route asked for, histograms and
/// counters of routes have only their heads.
#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/hongbao.json")).expect("JSON");
    // Gauges of the engine are named where the engine is chosen.
    let known = Metrics::new().render() + include_str!("../src/main.rs");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let asked: BTreeSet<String> = targets
        .flat_map(|target| {
            let words =
                target["expr"].as_str().expect("an expression").split(|c: char| !c.is_alphanumeric() && c != '_');
            words.filter(|word| word.starts_with("hongbao_")).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(asked.len() >= 5, "{asked:?}");
    for name in asked {
        let base = name.trim_end_matches("_bucket");
        let is_known = known.contains(&format!("# TYPE {base} ")) || known.contains(&format!("\"{base}\""));
        assert!(is_known, "no metric {name}");
    }
}

#[test]
fn files_that_are_mounted_are_there() {
    let compose = read("compose.yaml");
    let mounted: Vec<_> =
        compose.lines().filter_map(|line| line.trim().strip_prefix("- ./")?.split(':').next()).collect();
    assert_eq!(mounted.len(), 4, "{mounted:?}");
    for file in mounted {
        assert!(directory().join(file).exists(), "{file}");
    }
    assert!(compose.contains("dockerfile: docs/compose/Dockerfile") && directory().join("Dockerfile").exists());
}

/// The options that the servers are started with are those of the binary.
#[test]
fn the_servers_options_exist() {
    use clap::Parser;
    let compose = read("compose.yaml");
    let options =
        compose.lines().skip_while(|line| line.trim() != "- serve").map_while(|line| line.trim().strip_prefix("- "));
    let line: Vec<_> = ["hongbao"].into_iter().chain(options).collect();
    assert!(line.len() > 4, "{line:?}");
    hongbao_server::config::Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
}
