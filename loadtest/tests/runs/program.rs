//! The program under test, and what it leaves.

use crate::fake::{self, Lies};
use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const SMALL: [&str; 4] = ["--rate", "2000", "--duration", "1s"];

pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) summary: Value,
    pub(crate) out: TempDir,
}

impl Outcome {
    pub(crate) fn number(&self, pointer: &str) -> f64 {
        self.summary.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {}", self.summary))
    }

    pub(crate) fn tell(&self) -> String {
        format!("exit {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }

    /// The latencies of the whole run, from the interval log.
    pub(crate) fn latencies(&self) -> (usize, Histogram<u64>) {
        latencies(self.out.path())
    }
}

/// The latencies of a run's directory: how many seconds, and all of them.
pub(crate) fn latencies(directory: &Path) -> (usize, Histogram<u64>) {
    let log = std::fs::read(directory.join("latency.hlog")).unwrap();
    let mut total = Histogram::new(3).unwrap();
    let mut lines = 0;
    for entry in IntervalLogIterator::new(&log) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            assert_eq!(interval.duration(), Duration::from_secs(1));
            let bytes = base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram()).unwrap();
            let part: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            total.add(part).unwrap();
            lines += 1;
        }
    }
    (lines, total)
}

pub(crate) fn run(target: &str, arguments: &[&str]) -> Outcome {
    let out = TempDir::new().unwrap();
    let output = program(target, arguments, &out).output().unwrap();
    outcome(output, out)
}

pub(crate) fn program(target: &str, arguments: &[&str], out: &TempDir) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_hongbao-load"));
    program.arg("run").args(arguments).args(["--target", target, "--connections", "16", "--out"]).arg(out.path());
    program.env("HONGBAO_KEY", "hb_test");
    program
}

pub(crate) fn outcome(output: Output, out: TempDir) -> Outcome {
    let summary = std::fs::read(out.path().join("summary.json")).unwrap_or_default();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        summary: serde_json::from_slice(&summary).unwrap_or_default(),
        out,
    }
}

pub(crate) fn run_small(lies: Lies, arguments: &[&str]) -> Outcome {
    let fake = fake::start(lies);
    run(&fake.url, &[arguments, &SMALL].concat())
}
