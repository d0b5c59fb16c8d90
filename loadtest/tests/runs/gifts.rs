//! Lives of gifts, and of groups that buy together, on the real server, which is killed in the middle of them.

use crate::program::run;
use crate::real::{self, KEY};
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;

/// Ends the server that the chaos command has started.
struct Restarted(PathBuf);

impl Drop for Restarted {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Runs a scenario of lives over a kill: how they went, each of these at least once.
fn over_a_kill(scenario: &str, outcomes: &[&str]) {
    let real = real::start(&["--test"]);
    let place = tempfile::TempDir::new().unwrap();
    let pid = place.path().join("pid");
    let restarted = Restarted(pid.clone());
    let command = format!(
        "kill -9 {}; HONGBAO_ADMIN_KEY={KEY} '{}' serve --test --listen {} --data '{}' >/dev/null 2>&1 & echo $! > '{}'",
        real.pid(),
        real::binary().display(),
        real.address,
        real.data().display(),
        pid.display()
    );
    let url = format!("http://{}", real.address);
    let lives = [scenario, "--rate", "500", "--duration", "3s", "--chaos-at", "1s", "--chaos-command", &command];
    let done = run(&url, &[&lives[..], &["--key", KEY]].concat());
    drop(restarted);
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert!(done.stdout.contains("audit      ok"), "{}", done.tell());
    assert!(done.number("/errors_during_outage") >= 1.0, "{}", done.tell());
    for outcome in outcomes {
        assert!(done.number(&format!("/outcomes/{outcome}")) >= 1.0, "{outcome}: {}", done.tell());
    }
    // Each step of a few hundred lives asked again, and each gift or group looked at.
    assert!(done.number("/audit/checked") >= done.number("/wins") * 3.0, "{}", done.tell());
}

#[test]
fn what_was_answered_about_gifts_is_true_after_a_kill() {
    let states = ["offered", "awaiting_payment", "accepted", "declined", "cancelled", "shipped", "delivered", "failed"];
    let outcomes = states.map(|state| format!("gift_{state}"));
    over_a_kill("gifts", &outcomes.each_ref().map(String::as_str));
}

#[test]
fn what_was_answered_about_groups_is_true_after_a_kill() {
    let outcomes = ["group_open", "group_joined", "group_joined_again", "group_full", "group_leader_left"];
    over_a_kill("group-buy", &outcomes);
}

#[test]
fn with_real_money_nothing_stays() {
    nothing_stays("gifts");
}

#[test]
fn with_real_money_no_group_keeps_any() {
    nothing_stays("group-buy");
}

fn nothing_stays(scenario: &str) {
    let real = real::start(&[]);
    let url = format!("http://{}", real.address);
    let lives = [scenario, "--rate", "200", "--duration", "1s", "--allow-live", "--budget", "1000000000"];
    let done = run(&url, &[&lives[..], &["--key", KEY]].concat());
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert!(done.number("/money/deposited") > 0.0);
    assert_eq!(done.number("/money/deposited"), done.number("/money/refunded"), "{}", done.tell());
    let books = real.get("/v1/audit");
    for place in ["wallets", "escrowed", "merchants"] {
        assert_eq!(books[place], 0, "{books}");
    }
}
