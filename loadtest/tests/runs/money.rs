//! Real money: only if allowed, never more than the budget, and back at the end.

use crate::fake::{self, Lies};
use crate::program::{SMALL, run};
use crate::real::{self, KEY};

fn live() -> Lies {
    Lies { is_live: true, ..Lies::default() }
}

#[test]
fn a_server_that_is_not_in_test_mode_gets_nothing_unasked() {
    let fake = fake::start(live());
    // A thousand shares of 500.
    let hot = ["hot", "--shares", "1000", "--users", "1200"];
    for (arguments, words) in [
        (&[][..], "say --allow-live --budget 500000"),
        (&["--allow-live", "--budget", "499999"], "this run deposits 500000 minor units and --budget is 499999"),
        (&["--allow-live"], "--budget"),
        (&["--budget", "500000"], "--allow-live"),
        (&["--allow-live", "--budget", "500000", "--part", "1/2", "--start-at", "2100-01-01T00:00:00Z"], "drop --part"),
    ] {
        let done = run(&fake.url, &[&hot[..], &SMALL, arguments].concat());
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.tell());
        assert!(done.stderr.contains(words), "{arguments:?}: {}", done.tell());
        assert_eq!((fake.deposited(), fake.references().len(), fake.envelopes()), (0, 0, 0), "{arguments:?}");
    }
}

#[test]
fn real_money_is_bounded_tagged_and_taken_back() {
    for (scenario, budget) in [
        (&["hot", "--shares", "500", "--users", "700"][..], "250000"),
        (&["groups", "--envelopes", "30"], "1000000"),
        (&["flash", "--stock", "10", "--spike", "500ms"], "29900000"),
        (&["mixed", "--shares", "300", "--envelopes", "30", "--stock", "3"], "10000000"),
    ] {
        let fake = fake::start(live());
        let done = run(&fake.url, &[scenario, &SMALL, &["--allow-live", "--budget", budget]].concat());
        assert_eq!(done.code, Some(0), "{scenario:?}: {}", done.tell());
        let deposited = done.number("/money/deposited");
        assert!(deposited > 0.0 && deposited <= budget.parse().unwrap(), "{scenario:?}: {}", done.tell());
        assert_eq!(done.number("/money/refunded"), deposited, "{scenario:?}: {}", done.tell());
        assert_eq!(fake.deposited(), 0, "{scenario:?}: {}", done.tell());
        let prefix = done.summary["money"]["reference_prefix"].as_str().unwrap();
        let references = fake.references();
        assert!(!references.is_empty() && references.iter().all(|reference| reference.starts_with(prefix)));
        assert!(done.number("/wins") > 0.0 && done.stdout.contains("taken back"), "{}", done.tell());
        // Units are given back, not paid for: a merchant's money would stay.
        assert_eq!(done.summary.pointer("/outcomes/unit_claimed"), None, "{}", done.tell());
    }
}

#[test]
fn money_that_stays_is_told() {
    let fake = fake::start(Lies { keeps_money: true, ..live() });
    let arguments = ["hot", "--shares", "500", "--users", "700", "--allow-live", "--budget", "250000"];
    let done = run(&fake.url, &[&arguments[..], &SMALL].concat());
    assert_eq!(done.code, Some(1), "{}", done.tell());
    assert!(done.stdout.contains("250000 minor units were deposited and 0 taken back"), "{}", done.tell());
    assert_eq!(done.number("/money/refunded"), 0.0);
}

#[test]
fn what_was_lost_on_the_way_comes_back_too() {
    let fake = fake::start(Lies { loses_replies_every: Some(20), ..live() });
    let arguments = ["mixed", "--shares", "300", "--envelopes", "30", "--stock", "3", "--allow-live"];
    let done = run(&fake.url, &[&arguments[..], &SMALL, &["--budget", "10000000"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert!(done.number("/audit/unknown") > 0.0, "{}", done.tell());
    assert_eq!(fake.deposited(), 0, "{}", done.tell());
}

#[test]
fn test_mode_keeps_what_a_run_leaves() {
    let fake = fake::start(Lies::default());
    let done = run(&fake.url, &[&["hot", "--shares", "500", "--users", "700"][..], &SMALL].concat());
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert_eq!((done.number("/money/deposited"), done.number("/money/refunded")), (250_000.0, 0.0));
    assert_eq!(fake.deposited(), 250_000);
}

#[test]
fn a_real_server_has_its_money_back() {
    let real = real::start(&[]);
    let url = format!("http://{}", real.address);
    let mixed = ["mixed", "--shares", "300", "--envelopes", "30", "--stock", "3", "--key", KEY];
    let refused = run(&url, &[&mixed[..], &SMALL].concat());
    assert_eq!(refused.code, Some(2), "{}", refused.tell());
    assert!(refused.stderr.contains("--allow-live --budget"), "{}", refused.tell());
    assert_eq!(real.get("/v1/audit")["deposited"], 0);
    let done = run(&url, &[&mixed[..], &SMALL, &["--allow-live", "--budget", "10000000"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.tell());
    let books = real.get("/v1/audit");
    assert_eq!(books["balanced"], true, "{books}");
    assert_eq!(books["deposited"].as_f64(), Some(done.number("/money/deposited")), "{books}");
    assert_eq!(books["withdrawn"], books["deposited"], "{books}");
    assert_eq!(done.number("/money/refunded"), done.number("/money/deposited"), "{}", done.tell());
}
