//! Other systems beside Hongbao, really started.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

fn peers(arguments: &[&str], path: Option<&TempDir>) -> (Output, String) {
    let data = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hongbao-load"));
    command.args(["peers", "--connections", "4", "--duration", "200ms", "--rounds", "1", "--directory"]);
    command.arg(data.path()).args(arguments);
    if let Some(path) = path {
        command.env("PATH", path.path());
    }
    let output = command.output().unwrap();
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "what was started has left something");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, told)
}

fn on_path(name: &str) -> PathBuf {
    let all = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&all).map(|directory| directory.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: scripts/test.sh installs it"))
}

#[test]
fn each_is_started_and_its_grabs_are_counted() {
    let (output, told) = peers(&["--only", "hongbao,axum,redis,redis-memory", "--json"], None);
    assert_eq!(output.status.code(), Some(0), "{told}");
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    let names: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["peer"].as_str().unwrap()).collect();
    assert_eq!(names, ["hongbao", "axum", "redis", "redis-memory"]);
    for row in rows.as_array().unwrap() {
        let of = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row}"));
        assert!(of("grabs") >= 1.0 && of("per_s") > 1.0, "{row}");
        assert!(of("p50_us") >= 1.0 && of("p50_us") <= of("p99_us"), "{row}");
    }
}

#[test]
fn what_is_not_here_is_named_with_what_brings_it() {
    let nothing = TempDir::new().unwrap();
    let (output, told) = peers(&["--only", "redis,hongbao", "--server", "/nowhere/hongbao"], Some(&nothing));
    assert_eq!(output.status.code(), Some(2), "what was asked for is missing: {told}");
    assert!(told.contains("redis-server is not here: apt-get install redis-server redis-tools"), "{told}");
    assert!(told.contains("/nowhere/hongbao is not here: cargo build --release -p hongbao-server"), "{told}");
}

#[test]
fn grabs_that_did_not_happen_are_not_told() {
    let path = TempDir::new().unwrap();
    for name in ["redis-server", "redis-cli"] {
        symlink(on_path(name), path.path().join(name)).unwrap();
    }
    let benchmark = path.path().join("redis-benchmark");
    let csv = r#"echo '"test","rps","p50_latency_ms","p99_latency_ms"'; echo '"EVALSHA","1000.0","0.1","0.2"'"#;
    fs::write(&benchmark, format!("#!/bin/sh\n{csv}\n")).unwrap();
    fs::set_permissions(&benchmark, fs::Permissions::from_mode(0o755)).unwrap();
    let (output, told) = peers(&["--only", "redis-memory"], Some(&path));
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("10200 grabs were sent, 0 winners are there"), "{told}");
}
