//! Servers that break their promises are caught, with the right words.

use crate::fake::{self, Lies};
use crate::program::{run, run_small};
use std::time::Duration;

#[test]
fn lies_are_found_and_told() {
    let hot = ["hot", "--shares", "500", "--users", "700"];
    // Nobody asks twice during the run: it is the audit that finds it.
    let hot_once = ["hot", "--shares", "500", "--users", "5000"];
    let flash = ["flash", "--stock", "10", "--spike", "500ms"];
    let mixed = ["mixed", "--shares", "500", "--envelopes", "30", "--stock", "3"];
    let cases = [
        (Lies { changes_amount_every: Some(50), ..Lies::default() }, &hot[..], "the win changed when asked again"),
        (Lies { changes_amount_every: Some(50), ..Lies::default() }, &hot_once, "the win changed when asked again"),
        (Lies { forgets_win_every: Some(50), ..Lies::default() }, &hot_once, "an acknowledged win was forgotten"),
        (Lies { forgets_win_every: Some(50), ..Lies::default() }, &hot_once, "nothing in the list of grabs"),
        (Lies { shares_twice_every: Some(400), ..Lies::default() }, &hot_once, "was sold twice: to u"),
        (Lies { shares_twice_every: Some(400), ..Lies::default() }, &hot_once, "money does not add up"),
        (Lies { oversells: true, ..Lies::default() }, &flash, "oversold"),
        (Lies { changes_orders: true, ..Lies::default() }, &flash, "an acknowledged order was forgotten or changed"),
        (Lies { unbalanced: true, ..Lies::default() }, &hot_once, "the books are not balanced"),
        (Lies { keeps_claims: true, ..Lies::default() }, &mixed, "wallet u"),
    ];
    // Runs are mostly waiting: a few at once.
    for some in cases.chunks(4) {
        std::thread::scope(|scope| {
            for (lies, arguments, words) in some {
                scope.spawn(move || {
                    let done = run_small(lies.clone(), arguments);
                    assert_eq!(done.code, Some(1), "{lies:?}: {}", done.tell());
                    assert_eq!(done.summary["audit"]["ok"], false, "{lies:?}: {}", done.tell());
                    assert!(done.stdout.contains(words), "{lies:?}: no '{words}' in {}", done.tell());
                });
            }
        });
    }
}

/// The arithmetic of it is a test of the schedule; this is that the whole program keeps to it.
#[test]
fn a_stall_shows_in_the_latencies() {
    const RATE: u64 = 1000;
    let stall = Duration::from_secs(1);
    let fake = fake::start(Lies { stalls: Some((1000, stall)), ..Lies::default() });
    let done = run(&fake.url, &["hot", "--shares", "500", "--rate", "1000", "--duration", "3s"]);
    assert_eq!(done.code, Some(0), "{}", done.tell());
    let (lines, latencies) = done.latencies();
    assert!(lines >= 3);
    assert_eq!(done.number("/offered"), (3 * RATE) as f64);
    // What is due `u` seconds after the stall's beginning waits for `1 - u`, though no more than 16 are in
    // flight: `RATE x (1 - w)` requests wait for `w` or longer. A slow machine can only make it more; a
    // twentieth fewer is allowed, as the stall begins with a grab's arrival and not its due time.
    for wait_ms in [500, 700, 900, 970] {
        let expected = RATE * (1000 - wait_ms) / 1000;
        let waited = latencies.count_between(wait_ms * 1000, u64::MAX);
        assert!(waited + RATE / 20 >= expected, "{waited} of {expected} waited for {wait_ms} ms: {}", done.tell());
    }
    // A tenth of 3000 requests are the first 300 of the stall, a hundredth the first 30; less a twentieth of RATE.
    for (quantile, wait_ms) in [("p90", 650), ("p99", 920)] {
        let measured_us = done.number(&format!("/latency_us/{quantile}"));
        assert!(measured_us >= f64::from(wait_ms) * 1000.0, "{quantile}: {}", done.tell());
    }
    assert!(done.number("/late_starts") >= (RATE / 2) as f64, "{}", done.tell());
}
