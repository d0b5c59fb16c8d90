//! Several generators, one run.

use crate::fake::{self, Lies};
use crate::files::misfits;
use crate::program::{Outcome, latencies, outcome, program, run};
use hdrhistogram::Histogram;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Late enough for all parts to have set up.
fn soon() -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4)).to_string()
}

/// Runs all parts at the same time.
fn run_parts(url: &str, arguments: &[&str], threads: &[&str]) -> Vec<Outcome> {
    let start_at = soon();
    let parts = threads.len();
    let started: Vec<_> = threads
        .iter()
        .enumerate()
        .map(|(n, threads)| {
            let out = TempDir::new().unwrap();
            let part = format!("{}/{parts}", n + 1);
            let own = ["--part", &part, "--start-at", &start_at, "--threads", threads];
            let mut program = program(url, &[arguments, &own].concat(), &out);
            (program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), out)
        })
        .collect();
    started.into_iter().map(|(child, out)| outcome(child.wait_with_output().unwrap(), out)).collect()
}

fn merge(parts: &[Outcome], arguments: &[&str], out: &Path) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_hongbao-load"));
    program.arg("merge").args(parts.iter().map(|part| part.out.path())).args(arguments).arg("--out").arg(out);
    program.output().unwrap()
}

fn number(summary: &Value, pointer: &str) -> f64 {
    summary.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {summary}"))
}

fn check_merged(scenario: &[&str], wins: Option<f64>) {
    let fake = fake::start(Lies::default());
    let parts = run_parts(&fake.url, &[scenario, &["--rate", "2000", "--duration", "2s"]].concat(), &["1", "2", "1"]);
    for part in &parts {
        assert_eq!(part.code, Some(0), "{scenario:?}: {}", part.tell());
    }
    let merged = TempDir::new().unwrap();
    let done = merge(&parts, &["--threshold", "max<1h"], merged.path());
    assert_eq!(done.status.code(), Some(0), "{scenario:?}: {done:?}");
    let summary: Value = serde_json::from_slice(&std::fs::read(merged.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(misfits(&summary), Vec::<String>::new());
    // Together they offer the whole rate, to the request.
    assert_eq!(number(&summary, "/offered"), 4000.0, "{scenario:?}: {summary}");
    for count in
        ["/offered", "/answered", "/wins", "/sold_outs", "/late_starts", "/errors", "/audit/checked", "/threads"]
    {
        let sum: f64 = parts.iter().map(|part| part.number(count)).sum();
        assert_eq!(number(&summary, count), sum, "{scenario:?}: {count}");
    }
    if let Some(wins) = wins {
        // There is one envelope for all of them.
        assert_eq!(number(&summary, "/wins"), wins, "{scenario:?}: {summary}");
    }
    // The merged histogram is the sum, value by value.
    let mut sum = Histogram::<u64>::new(3).unwrap();
    parts.iter().for_each(|part| sum.add(part.latencies().1).unwrap());
    let all = latencies(merged.path()).1;
    let values = |histogram: &Histogram<u64>| -> Vec<(u64, u64)> {
        histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    };
    assert_eq!(values(&all), values(&sum), "{scenario:?}");
    assert_eq!(number(&summary, "/latency_us/p99"), all.value_at_quantile(0.99) as f64);
    assert_eq!(number(&summary, "/latency_us/max"), all.max() as f64);
    assert_eq!(summary["part"], "3 of 3 parts");
    assert!(merged.path().join("report.html").exists());

    let missed = merge(&parts, &["--threshold", "p50<1us"], merged.path());
    assert_eq!(missed.status.code(), Some(99), "{missed:?}");
    let [first, second, _] = &parts[..] else { unreachable!("three parts") };
    let compared = Command::new(env!("CARGO_BIN_EXE_hongbao-load"))
        .args(["compare".as_ref(), first.out.path(), second.out.path()])
        .output()
        .unwrap();
    let table = String::from_utf8(compared.stdout).unwrap();
    let ratio = second.number("/latency_us/p50") / first.number("/latency_us/p50");
    let row = table.lines().find(|line| line.starts_with("latency p50")).unwrap();
    assert!(row.ends_with(&format!("{ratio:.3}")), "{ratio}: {table}");
}

#[test]
fn parts_of_one_run_share_an_envelope_and_merge_exactly() {
    check_merged(&["hot", "--shares", "600", "--users", "900"], Some(600.0));
}

#[test]
fn parts_of_a_mixed_run_merge_exactly() {
    check_merged(&["mixed", "--shares", "300", "--envelopes", "30", "--stock", "3"], None);
}

#[test]
fn a_part_catches_a_lie_and_the_merged_run_tells_it() {
    let fake = fake::start(Lies { forgets_win_every: Some(50), ..Lies::default() });
    let hot = ["hot", "--shares", "600", "--users", "5000", "--rate", "2000", "--duration", "1s"];
    let parts = run_parts(&fake.url, &hot, &["1", "1"]);
    let merged = TempDir::new().unwrap();
    let done = merge(&parts, &["--threshold", "p50<1us"], merged.path());
    // A failed audit wins over a missed threshold.
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let stdout = String::from_utf8(done.stdout).unwrap();
    assert!(stdout.contains("/2: envelope") && stdout.contains("an acknowledged win was forgotten"), "{stdout}");
}

#[test]
fn only_parts_of_one_run_are_merged() {
    let fake = fake::start(Lies::default());
    let small = ["hot", "--shares", "100", "--rate", "500", "--duration", "1s"];
    let (one, other) = (run(&fake.url, &small), run(&fake.url, &small));
    let merged = TempDir::new().unwrap();
    for (parts, words) in [
        (vec![one.out.path(), other.out.path()], "is not a part of run"),
        (vec![one.out.path(), one.out.path()], "give each part once"),
        (vec![merged.path()], "summary.json"),
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_hongbao-load")).arg("merge").args(parts).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains(words), "{done:?}");
    }
}

#[test]
fn parts_that_differ_are_refused() {
    let fake = fake::start(Lies::default());
    let start_at = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3600)).to_string();
    let over = run(&fake.url, &["hot", "--part", "1/2", "--start-at", "2020-01-01T00:00:00Z"]);
    assert_eq!(over.code, Some(2), "{}", over.tell());
    assert!(over.stderr.contains("--start-at 2020-01-01T00:00:00Z is over"), "{}", over.tell());
    for wrong in [&["--part", "3/2", "--start-at", &start_at][..], &["--part", "1/2"]] {
        let done = run(&fake.url, &[&["hot"][..], wrong].concat());
        assert_eq!(done.code, Some(2), "{}", done.tell());
    }
}
