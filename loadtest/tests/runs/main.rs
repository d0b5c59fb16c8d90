//! Whole runs of the program against a server that keeps its promises, and
//! against servers that do not.

mod fake;
mod files;
mod gifts;
mod lying;
mod money;
mod parts;
mod peers;
mod program;
mod proxy;
mod real;

use fake::Lies;
use program::{Outcome, outcome, program, run, run_small};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

#[test]
fn an_honest_server_passes_every_scenario() {
    for (arguments, wins) in [
        (&["hot", "--shares", "700"][..], 700.0),
        (&["hot", "--shares", "700", "--threads", "3", "--poisson"], 700.0),
        (&["groups", "--envelopes", "30"], 1.0),
        (&["flash", "--stock", "10", "--spike", "500ms"], 10.0),
        (&["mixed", "--shares", "300", "--envelopes", "30", "--stock", "3"], 300.0),
    ] {
        let done = run_small(Lies::default(), arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.tell());
        assert_eq!(done.summary["audit"]["ok"], true);
        assert!(done.number("/audit/checked") > wins, "{arguments:?}");
        assert!(done.number("/wins") >= wins, "{arguments:?}: {}", done.tell());
        assert_eq!(done.number("/errors"), 0.0, "{arguments:?}: {}", done.tell());
        assert_eq!(done.number("/dropped_starts"), 0.0);
        assert_eq!(done.number("/answered"), done.number("/offered"));
        assert_eq!(done.summary["scenario"], arguments[0]);
        assert!(done.number("/generator_cpu") > 0.0);
        assert!(done.number("/latency_us/p50") <= done.number("/latency_us/p99"));
        let (lines, latencies) = done.latencies();
        assert!(lines >= 1);
        assert_eq!(latencies.len() as f64, done.number("/answered"));
        assert!(done.stdout.contains("audit      ok"), "{}", done.tell());
    }
}

#[test]
fn the_rate_is_what_was_asked_for() {
    let done = run_small(Lies::default(), &["hot", "--shares", "100", "--users", "300"]);
    assert!((1999.0..=2001.0).contains(&done.number("/offered_per_s")), "{}", done.tell());
    assert_eq!(done.number("/wins"), 100.0);
    assert!(done.number("/wins_per_s") > 0.0 && done.number("/sold_out_per_s") > 0.0);
    // Of 2000 requests 300 are first ones; winners among the rest win again.
    let again = done.number("/outcomes/grab_won_again");
    assert_eq!(100.0 + again + done.number("/outcomes/grab_sold_out"), 2000.0, "{}", done.tell());
}

#[test]
fn what_cannot_start_is_dropped_and_counted() {
    let fake = fake::start(Lies { stalls: Some((500, Duration::from_secs(1))), ..Lies::default() });
    let bounded = ["hot", "--shares", "500", "--rate", "1000", "--duration", "2s", "--max-in-flight", "100"];
    let done = run(&fake.url, &bounded);
    assert_eq!(done.code, Some(0), "{}", done.tell());
    // A second at this rate, less the hundred that may wait.
    assert!(done.number("/dropped/in_flight_bound") >= 800.0, "{}", done.tell());
    assert_eq!(done.number("/offered"), 2000.0);
    assert_eq!(done.number("/answered") + done.number("/dropped_starts"), 2000.0);
}

#[test]
fn unknown_outcomes_are_asked_again_and_become_facts() {
    let lies = Lies { loses_replies_every: Some(20), sheds_every: Some(33), ..Lies::default() };
    let done = run_small(lies, &["hot", "--shares", "500", "--users", "700"]);
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert!(done.number("/audit/unknown") >= 10.0, "{}", done.tell());
    assert!(done.number("/errors_by_kind/connection_lost/count") >= 50.0, "{}", done.tell());
    assert!(done.number("/errors_by_kind/503_overloaded/count") >= 30.0, "{}", done.tell());
}

#[test]
fn chaos_is_survived_counted_apart_and_audited() {
    let flag = TempDir::new().unwrap();
    let file = flag.path().join("down");
    let fake = fake::start(Lies { outage: Some((file.clone(), Duration::from_millis(800))), ..Lies::default() });
    let command = format!(": > '{}'; sleep 0.3", file.display());
    let chaos = ["hot", "--shares", "1500", "--rate", "1000", "--duration", "2s", "--chaos-at", "500ms"];
    let done = run(&fake.url, &[&chaos[..], &["--chaos-command", &command]].concat());
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert!(done.number("/errors") >= 1.0, "{}", done.tell());
    assert!(done.number("/errors_during_outage") >= 1.0, "{}", done.tell());
    assert!(done.number("/chaos/recovered_after_s") >= 0.3, "{}", done.tell());
    assert!(done.number("/wins") > 500.0, "{}", done.tell());
}

#[test]
fn a_server_that_does_not_recover_is_waited_for_once() {
    let flag = TempDir::new().unwrap();
    let file = flag.path().join("down");
    let fake = fake::start(Lies { outage: Some((file.clone(), Duration::from_secs(600))), ..Lies::default() });
    // Ends when the server is down, and not before: or one answer more would be a recovery.
    let command = format!("f='{}'; : > \"$f\"; while [ -e \"$f\" ]; do sleep 0.01; done", file.display());
    let chaos = ["hot", "--rate", "200", "--duration", "1s", "--chaos-at", "200ms", "--recovery-timeout", "4s"];
    let done = run(&fake.url, &[&chaos[..], &["--chaos-command", &command]].concat());
    assert_eq!(done.code, Some(1), "{}", done.tell());
    let told = done.summary["audit"]["first_differences"][0].as_str().unwrap();
    assert!(told.contains("the audit could not be made") && told.contains("for 2 s"), "{told}");
    let failure = done.summary["chaos"]["failure"].as_str().unwrap();
    assert!(failure.contains("did not recover"), "{failure}");
}

#[test]
fn a_failing_chaos_command_is_reported() {
    let done =
        run_small(Lies::default(), &["hot", "--shares", "100", "--chaos-at", "100ms", "--chaos-command", "exit 3"]);
    assert_eq!(done.code, Some(1), "{}", done.tell());
    assert!(done.stdout.contains("the chaos command failed: exit status: 3"), "{}", done.tell());
    assert_eq!(done.summary["audit"]["ok"], true);
}

#[test]
fn a_missed_threshold_exits_99_unless_the_audit_failed() {
    let hot = ["hot", "--shares", "500", "--users", "5000", "--threshold", "p50<10s", "--threshold"];
    let forgetful = Lies { forgets_win_every: Some(50), ..Lies::default() };
    for (lies, threshold, code) in
        [(Lies::default(), "max<1h", 0), (Lies::default(), "p99<1us", 99), (forgetful, "p99<1us", 1)]
    {
        let done = run_small(lies, &[&hot[..], &[threshold]].concat());
        assert_eq!(done.code, Some(code), "{threshold}: {}", done.tell());
        assert_eq!(done.stdout.contains("threshold  p99<1us missed"), code != 0, "{}", done.tell());
    }
}

/// A run of ten minutes that gets a signal after some grabs, and the next ones when it says so.
fn interrupted(lies: Lies, arguments: &[&str], signals: &[Signal]) -> Outcome {
    let told = TempDir::new().unwrap();
    let file = told.path().join("told");
    let fake = fake::start(Lies { tells: Some((200, file.clone())), ..lies });
    let out = TempDir::new().unwrap();
    let long = ["hot", "--shares", "5000", "--users", "50000", "--rate", "500", "--duration", "10m"];
    let mut program = program(&fake.url, &[&long[..], arguments].concat(), &out);
    let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !file.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was interrupted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut stderr = String::new();
    for signal in signals {
        kill_process(Pid::from_child(&child), *signal).unwrap();
        lines.read_line(&mut stderr).unwrap();
    }
    lines.read_to_string(&mut stderr).unwrap();
    let output = child.wait_with_output().unwrap();
    outcome(Output { stderr: stderr.into_bytes(), ..output }, out)
}

#[test]
fn what_was_asked_before_an_interruption_is_audited() {
    let forgetful = Lies { forgets_win_every: Some(50), ..Lies::default() };
    for (lies, arguments, signal, code) in [
        (Lies::default(), &["--threshold", "p50<1us"][..], Signal::INT, 130),
        (Lies::default(), &["--chaos-at", "9m", "--chaos-command", "exit 3"], Signal::TERM, 130),
        (forgetful, &[], Signal::INT, 1),
    ] {
        let done = interrupted(lies, arguments, &[signal]);
        assert_eq!(done.code, Some(code), "{}", done.tell());
        assert_eq!(done.summary["interrupted"], true, "{}", done.tell());
        assert_eq!(done.summary["audit"]["ok"], code == 130, "{}", done.tell());
        assert!(done.number("/audit/checked") >= 200.0, "{}", done.tell());
        assert!(done.number("/answered") >= 200.0, "{}", done.tell());
        assert_eq!(done.number("/answered") + done.number("/dropped_starts"), done.number("/offered"));
        assert_eq!(done.latencies().1.len() as f64, done.number("/answered"));
        // Of ten minutes at this rate.
        assert!(done.number("/offered") < 300_000.0 && done.number("/duration_s") < 600.0, "{}", done.tell());
        assert!(done.stdout.contains("INTERRUPTED after"), "{}", done.tell());
    }
}

#[test]
fn a_second_interruption_ends_it_at_once() {
    let stalling = Lies { stalls: Some((200, Duration::from_secs(600))), ..Lies::default() };
    let done = interrupted(stalling, &["--timeout", "10m"], &[Signal::INT, Signal::INT]);
    assert_eq!(done.code, Some(130), "{}", done.tell());
    assert!(done.stderr.contains("interrupted twice"), "{}", done.tell());
    assert_eq!(done.summary, Value::Null, "{}", done.tell());
}

#[test]
fn an_absent_server_is_told() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done = run(&format!("http://{free}"), &["hot", "--start-timeout", "200ms"]);
    assert_eq!(done.code, Some(2), "{}", done.tell());
    assert!(done.stderr.contains("is the server running"), "{}", done.tell());
}

#[test]
fn a_key_that_is_not_the_servers_is_wrong_usage() {
    let done = run_small(Lies { knows_no_key: true, ..Lies::default() }, &["hot", "--shares", "100"]);
    assert_eq!(done.code, Some(2), "{}", done.tell());
    assert!(done.stderr.contains("--key or HONGBAO_KEY"), "{}", done.tell());
    assert!(done.stderr.contains(": Not authorized: no such key (") && !done.stderr.contains('{'), "{}", done.tell());
    assert_eq!(done.summary, Value::Null, "{}", done.tell());
}

#[test]
fn chaos_after_the_end_is_refused() {
    for at in ["2s", "5s"] {
        let chaos = ["hot", "--duration", "2s", "--chaos-at", at, "--chaos-command", "true"];
        let done = run("http://127.0.0.1:1", &chaos);
        assert_eq!(done.code, Some(2), "{}", done.tell());
        let words = format!("--chaos-at {at} is not before the end of --duration 2s");
        assert!(done.stderr.contains(&words), "{}", done.tell());
    }
}

#[test]
fn wrong_usage_exits_2() {
    for (target, arguments) in [
        ("http://192.0.2.1:80", &["hot"][..]),
        ("https://127.0.0.1:1", &["hot"]),
        ("http://127.0.0.1:1", &["cold"]),
        ("http://127.0.0.1:1", &["hot", "--rate", "0"]),
        ("http://127.0.0.1:1", &["hot", "--duration", "5"]),
        ("http://127.0.0.1:1", &["hot", "--chaos-at", "5s"]),
        ("http://127.0.0.1:1", &["groups", "--users", "100"]),
        ("http://127.0.0.1:1", &["hot", "--threshold", "p98<1ms"]),
    ] {
        let done = run(target, arguments);
        assert_eq!(done.code, Some(2), "{target} {arguments:?}: {}", done.tell());
    }
}

/// How much the generator itself costs. Run it alone, in release:
/// `ARGUMENTS='hot --rate 40000' cargo test --release -p hongbao-load --test runs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a test"]
fn requests_a_generator_core() {
    let fake = fake::start(Lies::default());
    let arguments = std::env::var("ARGUMENTS");
    let arguments = arguments.as_deref().unwrap_or("hot --shares 50000 --rate 40000 --duration 5s");
    let done = run(&fake.url, &arguments.split_whitespace().collect::<Vec<_>>());
    let per_core = done.number("/achieved_per_s") / done.number("/generator_cpu");
    println!("{}\n{per_core:.0} requests a second a generator core", done.tell());
}
