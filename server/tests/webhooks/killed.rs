//! The real binary, killed while it delivers.

use crate::client::{Ask, Client};
use crate::process::{Running, hongbao, run, serve, told};
use crate::receiver::{Got, Receiver, status};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Every event of the feed, in order.
fn told_by(address: SocketAddr) -> Vec<String> {
    let (mut client, mut ids, mut after) = (Client::new(address), Vec::new(), "oldest".to_owned());
    loop {
        let page = client.json(&Ask::get(format!("/v1/events?wait_s=0&limit=1000&after={after}")));
        let events = page["events"].as_array().expect("events").clone();
        if events.is_empty() {
            return ids;
        }
        ids.extend(events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()));
        page["next_cursor"].as_str().expect("a cursor").clone_into(&mut after);
    }
}

/// Each event once, in the order in which they came first.
fn first_of(got: &[Got]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    got.iter().flat_map(Got::events).filter(|id| seen.insert(id.clone())).collect()
}

/// However fast the machine, there are no more events than are delivered soon.
const BETWEEN_DEPOSITS: Duration = Duration::from_millis(2);

fn deposit(client: &mut Client, reference: &str) -> bool {
    let ask =
        Ask::post("/v1/wallets/alice/deposits", &json!({"amount": 5, "reference": reference})).with_key(reference);
    client.send(&ask).is_ok_and(|answer| answer.status == 201)
}

#[test]
fn killed_again_and_again_it_delivers_everything_that_was_acknowledged() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let receiver = runtime.block_on(Receiver::start());
    receiver.answer(|_, before| if before % 3 == 1 { status(503) } else { status(200) });
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let allowed = format!("http://{}", receiver.address);
    let start = || Running::ready(&mut serve(&data, &["--webhook-allow", &allowed]));
    let (mut running, mut address) = start();
    let made = Client::new(address).json(&Ask::post("/v1/webhooks", &json!({"url": receiver.url()})).with_key("w1"));
    let mut acknowledged = 0;
    for round in 0..6 {
        let (before, enough) = (receiver.got().len(), AtomicBool::new(false));
        acknowledged += std::thread::scope(|scope| {
            let depositing = scope.spawn(|| {
                let (mut client, mut count) = (Client::new(address), 0);
                while !enough.load(Ordering::Relaxed) {
                    count += usize::from(deposit(&mut client, &format!("{round}-{count}")));
                    std::thread::sleep(BETWEEN_DEPOSITS);
                }
                count
            });
            // In the middle of deliveries, each time in another one.
            runtime.block_on(receiver.wait("some requests", |got| got.len() > before + 1 + round));
            running.kill();
            enough.store(true, Ordering::Relaxed);
            depositing.join().unwrap()
        });
        (running, address) = start();
    }
    receiver.answer(|_, _| status(200));
    let all = told_by(address);
    assert!(all.len() >= acknowledged, "{} of {acknowledged}", all.len());
    let got = runtime.block_on(receiver.wait("everything", |got| first_of(got).len() >= all.len()));
    assert_eq!(first_of(&got), all, "all of it, in order");
    let mut bodies = BTreeMap::new();
    let secret = made["secret"].as_str().unwrap();
    for got in &got {
        let first = bodies.entry(got.header("webhook-id")).or_insert(&got.body);
        assert_eq!(*first, &got.body, "an id stands for one body");
        assert_eq!(got.signed_by(secret), [true]);
    }
    let (code, log) = running.stop();
    assert!(code.success(), "{log}");
    assert!(!log.contains(&secret[6..]), "{log}");
    a_backup_has_them(&data, place.path(), made["id"].as_str().unwrap());
}

fn a_backup_has_them(data: &Path, place: &Path, id: &str) {
    let (backup, restored) = (place.join("backup"), place.join("restored"));
    let made = run(hongbao().arg("backup").arg("--data").arg(data).arg("--to").arg(&backup));
    assert!(made.status.success(), "{}", told(&made));
    let mut restore = hongbao();
    restore.arg("restore").arg("--from").arg(&backup).arg("--data").arg(&restored).arg("--journal").arg(data);
    let done = run(&mut restore);
    assert!(done.status.success(), "{}", told(&done));
    assert!(told(&done).contains("1 webhooks are in it"), "{}", told(&done));
    let file = Path::new("webhooks").join(id);
    let note = std::fs::read(data.join(&file)).unwrap();
    for copy in [&backup, &restored] {
        assert_eq!(std::fs::read(copy.join(&file)).unwrap(), note);
        assert_eq!(std::fs::metadata(copy.join(&file)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (running, address) = Running::ready(&mut serve(&restored, &[]));
    let hooks = Client::new(address).json(&Ask::get("/v1/webhooks"));
    assert_eq!(hooks["webhooks"][0]["id"], id, "{hooks}");
    running.wait_logged("webhooks are not sent");
    running.stop();
    a_copy_can_be_without_them(&backup, data, place);
}

fn a_copy_can_be_without_them(backup: &Path, journal: &Path, place: &Path) {
    let copy = place.join("copy");
    let mut restore = hongbao();
    restore.arg("restore").arg("--from").arg(backup).arg("--data").arg(&copy).arg("--journal").arg(journal);
    let done = run(restore.arg("--without-webhooks"));
    assert!(done.status.success(), "{}", told(&done));
    assert!(!told(&done).contains("webhooks"), "{}", told(&done));
    assert!(!copy.join("webhooks").exists() && !copy.join("dead_letters").exists());
    let (running, address) = Running::ready(&mut serve(&copy, &["--webhook-allow", "http://127.0.0.1:9"]));
    let hooks = Client::new(address).json(&Ask::get("/v1/webhooks"));
    assert_eq!(hooks["webhooks"], json!([]), "{hooks}");
    running.stop();
}

/// A backup of a server that serves has them too: they come over its socket.
#[test]
fn a_backup_of_a_running_server_has_them() {
    let place = tempfile::tempdir().unwrap();
    let (data, backup) = (place.path().join("data"), place.path().join("backup"));
    let (running, address) = Running::ready(&mut serve(&data, &["--webhook-allow", "http://127.0.0.1:9"]));
    let ask = Ask::post("/v1/webhooks", &json!({"url": "http://127.0.0.1:9/"})).with_key("w1");
    let made = Client::new(address).json(&ask);
    let done = run(hongbao().arg("backup").arg("--data").arg(&data).arg("--to").arg(&backup));
    assert!(done.status.success(), "{}", told(&done));
    let note = std::fs::read_to_string(backup.join("webhooks").join(made["id"].as_str().unwrap())).unwrap();
    assert!(note.contains(made["secret"].as_str().unwrap()));
    let sums = std::fs::read_to_string(backup.join("SHA256SUMS")).unwrap();
    assert!(sums.contains("  webhooks/hook_"), "{sums}");
    running.stop();
}
