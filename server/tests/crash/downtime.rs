//! Race 20: a restart after a downtime longer than the expiry.

use crate::client::{Ask, Client};
use crate::process::{Running, hongbao, readiness, run, serve, told};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Leaves an envelope of 1,000 behind of which `grabbed` was grabbed, and whose
/// deadlines have passed while nothing ran.
fn left_behind(data: &Path) -> (String, u64) {
    let (server, address) = Running::ready(&mut serve(data, &[]));
    let mut client = Client::new(address);
    let deposit = Ask::post("/v1/wallets/alice/deposits", &json!({ "amount": 1000 }));
    client.json(&deposit.with_key("deposit"));
    let terms = json!({ "sender": "alice", "total": 1000, "shares": 4, "expires_in_s": 3, "claim_within_s": 0 });
    let made = client.json(&Ask::post("/v1/envelopes", &terms).with_key("create"));
    let id = made["id"].as_str().unwrap().to_owned();
    let grab = client.json(&crate::book::grab(&id, "bob"));
    assert_eq!(grab["outcome"], "won", "{grab}");
    server.kill();
    std::thread::sleep(Duration::from_millis(4500));
    (id, grab["amount"].as_u64().unwrap())
}

/// Everything has gone back, once.
fn is_swept(address: SocketAddr, id: &str, grabbed: u64) {
    let mut client = Client::new(address);
    let view = client.json(&Ask::get(format!("/v1/envelopes/{id}")));
    let ended = (&view["state"], &view["ended_as"], &view["refunded_amount"]);
    assert_eq!(ended, (&json!("settled"), &json!("expired"), &json!(1000)), "{view}");
    assert_eq!(client.json(&Ask::get("/v1/wallets/alice"))["available"], 1000);
    let entries = client.json(&Ask::get("/v1/wallets/alice/entries"));
    let kinds: Vec<&Value> = entries["entries"].as_array().unwrap().iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["lapse", "refund", "envelope", "deposit"], "{entries}");
    let again = client.json(&crate::book::grab(id, "bob"));
    let said = (&again["outcome"], &again["amount"], &again["status"], &again["replayed"]);
    assert_eq!(said, (&json!("won"), &json!(grabbed), &json!("lapsed"), &json!(true)), "{again}");
    assert_eq!(client.json(&crate::book::grab(id, "carol"))["outcome"], "expired");
    assert_eq!(client.json(&Ask::get("/v1/audit"))["balanced"], true);
}

#[test]
fn race_20_a_short_downtime_is_swept_before_serving() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (id, grabbed) = left_behind(&data);
    for swept in [true, false] {
        // Not waiting to be ready: whoever can ask at all sees it swept.
        let (server, address) = Running::listening(&mut serve(&data, &[]));
        is_swept(address, &id, grabbed);
        let log = server.kill();
        assert!(log.contains(&format!("swept={swept}")), "{log}");
    }
}

#[test]
fn race_20_a_long_downtime_waits_for_the_operator() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (id, grabbed) = left_behind(&data);
    // It waits as well the second time, for nothing was written meanwhile.
    for _ in 0..2 {
        let (server, address) = Running::listening(&mut serve(&data, &["--max-downtime-s", "1"]));
        let mut client = Client::new(address);
        let answer = readiness(&mut client);
        assert!(answer.status == 503 && answer.body.contains("hongbao clock accept"), "{answer:?}");
        for ask in [crate::book::grab(&id, "bob"), crate::book::grab(&id, "carol")] {
            let answer = client.ask(&ask);
            assert!(answer.status == 503 && answer.body.contains("\"code\":\"not_ready\""), "{answer:?}");
            for told in ["hongbao clock accept --data DIR", "deadlines have passed since"] {
                assert!(answer.body.contains(told), "the caller is told what has to be done, and why: {answer:?}");
            }
        }
        assert_eq!(client.json(&Ask::get("/v1/wallets/alice"))["available"], 0, "nothing is swept meanwhile");
        assert_eq!(client.ask(&Ask::get("/livez")).status, 200);
        assert!(server.log().contains("hongbao clock accept"), "{}", server.log());
        assert!(server.stop().0.success());
    }
    let (server, address) = Running::listening(&mut serve(&data, &["--max-downtime-s", "1"]));
    let output = run(hongbao().args(["clock", "accept", "--data"]).arg(&data));
    assert!(output.status.success() && told(&output).contains("accepted"), "{}", told(&output));
    assert!(told(&output).contains("deadlines have passed since"), "it is told what was accepted: {}", told(&output));
    assert!(!told(&output).contains("hongbao clock accept"), "and not to do it once more: {}", told(&output));
    server.wait_ready(address);
    is_swept(address, &id, grabbed);
    assert!(!data.join("clock.accept").exists(), "the word counts once");
    assert!(server.stop().0.success());
}

#[test]
fn a_word_about_a_clock_that_is_in_order_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let accept = || run(hongbao().args(["clock", "accept", "--data"]).arg(&data));
    let (server, _) = Running::ready(&mut serve(&data, &[]));
    let output = accept();
    assert!(output.status.success() && told(&output).contains("nothing to accept"), "{}", told(&output));
    assert!(server.stop().0.success());
    let output = accept();
    assert!(output.status.code() == Some(2) && told(&output).contains("start it"), "nobody serves: {}", told(&output));
    assert!(!data.join("clock.accept").exists(), "a word that nobody took is taken back");
}
