//! Where gifts are sent: a canary that is looked for in everything a server tells and leaves, and
//! what stays true when it is killed.

use crate::backup::{backup, is_clean, succeeds};
use crate::book::text;
use crate::client::{Ask, Client};
use crate::export::{export, moment_after};
use crate::process::{Running, hongbao, serve};
use crate::refusals::{USAGE, refused};
use hongbao_engine::types::GiftId;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const CANARY: &str = "canary";

fn address(street: &str) -> Value {
    json!({"name": "canary bob", "phone": "canary 138", "lines": [street, "canary house"], "city": "canaryzhou",
           "postcode": "canary1"})
}

struct Shop {
    place: tempfile::TempDir,
}

impl Shop {
    fn new() -> Shop {
        let shop = Shop { place: tempfile::tempdir().unwrap() };
        std::fs::write(shop.at("key"), "1f".repeat(32)).unwrap();
        std::fs::write(shop.at("new-key"), "2e".repeat(32)).unwrap();
        shop
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn start(&self, data: &str, options: &[&str]) -> (Running, SocketAddr) {
        let (key, archive) = (self.at("key"), self.at("archive"));
        let own = ["--address-key-file", key.to_str().unwrap(), "--archive", archive.to_str().unwrap()];
        Running::ready(&mut serve(&self.at(data), &[&own[..], options].concat()))
    }
}

/// A key that opens what this role may. A key is shown once, so each has a name of its own.
fn key_with(client: &mut Client, name: &str, role: &str) -> String {
    let body = json!({"name": name, "owner": "shop", "roles": [role]});
    text(&client.json(&Ask::post("/v1/keys", &body).with_key(name)), "key")
}

/// A gift of alice's to bob, accepted there.
fn accepted(client: &mut Client, item: &str, street: &str) -> String {
    let body = json!({"giver": "alice", "recipient": "bob", "item": item, "message": "for you"});
    let gift =
        text(&client.json(&Ask::post("/v1/gifts", &body).with_key(format!("g {street}").replace(' ', "-"))), "id");
    let body = json!({"user": "bob", "address": address(street)});
    let accept = Ask::post(format!("/v1/gifts/{gift}/accept"), &body).with_key(format!("a-{gift}"));
    let told = client.ask(&accept);
    assert_eq!((told.status, told.replayed), (200, false), "{told:?}");
    assert!(client.ask(&accept).replayed);
    gift
}

fn open_shop(client: &mut Client) -> String {
    client.json(&Ask::post("/v1/wallets/alice/deposits", &json!({"amount": 1000})).with_key("d"));
    client
        .json(&Ask::post("/v1/merchants", &json!({"id": "rosy", "name": "Rosy", "status": "verified"})).with_key("m"));
    let body = json!({"merchant": "rosy", "name": "roses", "category": "flowers", "price": 10, "stock": 50,
                      "per_user_limit": null});
    text(&client.json(&Ask::post("/v1/items", &body).with_key("i")), "id")
}

/// Whether `wanted`, which has no block of zeros, is in a file: most of a journal's are zeros.
fn has(file: &[u8], wanted: &[u8]) -> bool {
    const BLOCK: usize = 4096;
    let blocks = file.chunks(BLOCK).enumerate().filter(|(_, block)| **block != [0; BLOCK][..block.len()]);
    blocks.map(|(nth, block)| nth * BLOCK..(nth * BLOCK + block.len() + wanted.len()).min(file.len())).any(|around| {
        let around = &file[around.start.saturating_sub(wanted.len())..around.end];
        around.windows(wanted.len()).any(|window| window == wanted)
    })
}

/// The files below a directory with these bytes.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if has(&std::fs::read(&path).unwrap_or_default(), bytes) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn the_canary_is_told_to_its_merchant_and_is_nowhere_else() {
    let shop = Shop::new();
    let (server, at) = shop.start("data", &["--events-kept-s", "86400"]);
    let mut client = Client::new(at);
    let item = open_shop(&mut client);
    let gift = accepted(&mut client, &item, "canary street");
    let merchants = key_with(&mut client, "till", "merchant:rosy");
    let opened = Client::with_key(at, &merchants).json(&Ask::get(format!("/v1/gifts/{gift}/address")));
    assert_eq!((&opened["lines"][0], &opened["version"]), (&json!("canary street"), &json!(1)));
    // Bad ones too, with all that is said of them.
    for bad in [json!("canary street"), json!({"name": "canary"}), address(&"canary".repeat(40))] {
        let body = json!({"user": "bob", "address": bad});
        let told = client.ask(&Ask::post(format!("/v1/gifts/{gift}/accept"), &body));
        assert!(told.status == 422 && !told.body.contains(CANARY), "{told:?}");
    }
    let ask =
        Ask::post(format!("/v1/gifts/{gift}/ship"), &json!({"carrier": "sf", "tracking": "1", "address_version": 1}));
    Client::with_key(at, &merchants).json(&ask.with_key("s"));
    let until = moment_after(at);
    for role in ["admin", "issuer", "caller", "treasurer", "merchant:rosy", "viewer"] {
        let key = key_with(&mut client, role, role);
        let mut theirs = Client::with_key(at, &key);
        for path in [
            format!("/v1/gifts/{gift}"),
            "/v1/users/alice/gifts?role=given".to_owned(),
            "/v1/users/bob/gifts".to_owned(),
            "/v1/wallets/alice/entries".to_owned(),
            "/v1/wallets/bob".to_owned(),
            format!("/v1/items/{item}"),
            "/v1/items?merchant=rosy".to_owned(),
            "/v1/events?wait_s=0".to_owned(),
            "/v1/audit".to_owned(),
            "/metrics".to_owned(),
        ] {
            let told = theirs.ask(&Ask::get(path));
            assert!(!told.body.contains(CANARY), "{role}: {told:?}");
        }
        if role != "merchant:rosy" {
            let told = theirs.ask(&Ask::get(format!("/v1/gifts/{gift}/address")));
            assert!(told.status == 403 && !told.body.contains(CANARY), "{role}: {told:?}");
        }
    }
    succeeds(&mut backup(&shop.at("data"), &shop.at("backup")));
    assert!(!shop.at("backup/addresses").exists(), "no key of an address is in a backup");
    for what in ["ledger", "envelopes", "grabs", "payouts"] {
        succeeds(&mut export(what, &shop.at("data"), &until, &shop.at(what)));
    }
    let log = server.kill();
    assert!(!log.contains(CANARY), "{log}");
    assert!(log.contains("opened a gift's address") && log.contains(&gift), "each opening is in the log: {log}");
    is_clean(&shop.at("data"));
    assert_eq!(files_with(shop.place.path(), CANARY.as_bytes()), [""; 0]);

    // Restored, the address is lost, and whoever reads it is told so.
    let mut restore = hongbao();
    restore.arg("restore").arg("--from").arg(shop.at("backup")).arg("--data").arg(shop.at("restored"));
    succeeds(restore.arg("--journal").arg(shop.at("data")));
    let key = shop.at("key");
    let (server, at) = Running::ready(&mut serve(&shop.at("restored"), &["--address-key-file", key.to_str().unwrap()]));
    let told = Client::with_key(at, &merchants).ask(&Ask::get(format!("/v1/gifts/{gift}/address")));
    assert_eq!(told.status, 409, "{told:?}");
    server.wait_logged("addresses cannot be opened");
    assert!(server.stop().0.success());
}

#[test]
fn what_was_answered_about_addresses_stays_true_over_kills_and_another_key() {
    let shop = Shop::new();
    let (mut server, mut at) = shop.start("data", &[]);
    let mut client = Client::new(at);
    let item = open_shop(&mut client);
    let merchants = key_with(&mut client, "till", "merchant:rosy");
    let mut kept = Vec::new();
    for cycle in 0..3 {
        let mut client = Client::new(at);
        let [one, other] = ["keep", "erase"].map(|what| {
            let street = format!("canary {what} {cycle}");
            (accepted(&mut client, &item, &street), street)
        });
        let slots = std::fs::read(shop.at("data/addresses/slots")).unwrap();
        let id: GiftId = other.0.parse().unwrap();
        let slot = slots.chunks(128).find(|slot| slot[8..24] == *id.bytes()).expect("it has a slot");
        let key = slot[44..92].to_vec();
        for _ in 0..2 {
            client.json(&Ask::post(format!("/v1/gifts/{}/address/erase", other.0), &json!({})));
        }
        assert_eq!(files_with(&shop.at("data"), &key), [""; 0], "nothing is left of its key");
        kept.push(one);
        server.kill();
        (server, at) = shop.start("data", &[]);
        let mut merchant = Client::with_key(at, &merchants);
        for (gift, street) in &kept {
            let told = merchant.json(&Ask::get(format!("/v1/gifts/{gift}/address")));
            assert_eq!(told["lines"][0], json!(street));
        }
        assert_eq!(merchant.ask(&Ask::get(format!("/v1/gifts/{}/address", other.0))).status, 404);
    }
    assert!(server.stop().0.success());
    let [old, new] = ["key", "new-key"].map(|name| shop.at(name).to_str().unwrap().to_owned());
    let start = |options: &[&str]| serve(&shop.at("data"), options);
    refused(&mut start(&[]), USAGE, &["no address key was given", "--address-key-file"]);
    refused(&mut start(&["--address-key-file", &new]), USAGE, &["3 addresses", "--address-old-key-file"]);
    let (server, _) = Running::ready(&mut start(&["--address-key-file", &new, "--address-old-key-file", &old]));
    server.kill();
    let (server, at) = Running::ready(&mut start(&["--address-key-file", &new]));
    let told = Client::with_key(at, &merchants).json(&Ask::get(format!("/v1/gifts/{}/address", kept[0].0)));
    assert_eq!(told["lines"][0], json!(kept[0].1));
    // What a test deployment's clock passes by is erased by itself.
    let mut client = Client::new(at);
    client.json(&Ask::post("/v1/test/clock", &json!({"advance_s": 15 * 86_400})).with_key("c"));
    let mut merchant = Client::with_key(at, &merchants);
    for (gift, _) in &kept {
        let ask = Ask::get(format!("/v1/gifts/{gift}/address"));
        while merchant.ask(&ask).status != 404 {
            std::thread::yield_now();
        }
    }
    assert!(server.stop().0.success());
}
