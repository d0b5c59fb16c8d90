//! Lives of gifts on the real server, which is killed in the middle of them.

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

#[test]
fn what_was_answered_about_gifts_is_true_after_a_kill() {
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
    let gifts = ["gifts", "--rate", "500", "--duration", "3s", "--chaos-at", "1s", "--chaos-command", &command];
    let done = run(&url, &[&gifts[..], &["--key", KEY]].concat());
    drop(restarted);
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert!(done.stdout.contains("audit      ok"), "{}", done.tell());
    assert!(done.number("/errors_during_outage") >= 1.0, "{}", done.tell());
    for state in ["offered", "awaiting_payment", "accepted", "declined", "cancelled", "shipped", "delivered", "failed"]
    {
        assert!(done.number(&format!("/outcomes/gift_{state}")) >= 1.0, "{state}: {}", done.tell());
    }
    // Each step of a few hundred lives asked again, and each gift looked at.
    assert!(done.number("/audit/checked") >= done.number("/wins") * 3.0, "{}", done.tell());
}

#[test]
fn with_real_money_nothing_stays() {
    let real = real::start(&[]);
    let url = format!("http://{}", real.address);
    let gifts = ["gifts", "--rate", "200", "--duration", "1s", "--allow-live", "--budget", "1000000000"];
    let done = run(&url, &[&gifts[..], &["--key", KEY]].concat());
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert!(done.number("/money/deposited") > 0.0);
    assert_eq!(done.number("/money/deposited"), done.number("/money/refunded"), "{}", done.tell());
    let books = real.get("/v1/audit");
    for place in ["wallets", "escrowed", "merchants"] {
        assert_eq!(books[place], 0, "{books}");
    }
}
