//! A text taken out of what a server has left.

use crate::backup::{backup, is_clean, succeeds};
use crate::client::{Ask, Client};
use crate::process::{Running, hongbao, serve};
use crate::refusals::{USAGE, refused};
use serde_json::json;
use std::path::Path;
use std::process::Command;

fn redact(from: &Path, to: &Path, ids: &[&str]) -> Command {
    let mut command = hongbao();
    command.arg("redact").arg("--from").arg(from).arg("--to").arg(to).args(ids).arg("--metadata");
    command
}

#[test]
fn messages_are_taken_out_of_a_stopped_directory_and_a_backup() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (server, address) = Running::ready(&mut serve(&at("data"), &[]));
    let mut client = Client::new(address);
    client.json(&Ask::post("/v1/wallets/alice/deposits", &json!({"amount": 200})).with_key("d"));
    let body =
        json!({"sender": "alice", "total": 100, "shares": 2, "message": "insult", "metadata": {"why": "insult"}});
    let create = Ask::post("/v1/envelopes", &body).with_key("e");
    let made = client.json(&create);
    let envelope = made["id"].as_str().unwrap().to_owned();
    let rosy = json!({"id": "rosy", "name": "Rosy", "status": "verified"});
    client.json(&Ask::post("/v1/merchants", &rosy).with_key("m"));
    let item = json!({"merchant": "rosy", "name": "99 roses", "category": "flowers", "price": 100, "stock": 1});
    let item = client.json(&Ask::post("/v1/items", &item).with_key("i"))["id"].clone();
    let body = json!({"giver": "alice", "recipient": "bob", "item": item, "message": "insult"});
    let give = Ask::post("/v1/gifts", &body).with_key("g");
    let given = client.json(&give);
    let gift = given["id"].as_str().unwrap().to_owned();
    let ids = [&*envelope, &*gift];
    succeeds(&mut backup(&at("data"), &at("backup")));
    refused(&mut redact(&at("data"), &at("new"), &ids), USAGE, &["in use by another process"]);
    refused(&mut redact(&at("data"), &at("data/new"), &ids), USAGE, &["lies in", "--to"]);
    refused(&mut redact(&at("data"), &at("new"), &["env_nobody"]), USAGE, &["env_nobody"]);
    assert!(server.stop().0.success());
    for (name, said) in [("data", "out of 4 rows and 2 records"), ("backup", "out of 4 rows")] {
        let new = at(&format!("{name}.new"));
        let told = succeeds(&mut redact(&at(name), &new, &ids));
        assert!(told.contains(said) && told.contains("hongbao audit --data"), "{told}");
        is_clean(&new);
        is_clean(&at(name));
    }
    refused(&mut redact(&at("data"), &at("data.new"), &ids), USAGE, &["is there already"]);

    let (server, address) = Running::ready(&mut serve(&at("data.new"), &[]));
    let mut client = Client::new(address);
    for told in [client.json(&Ask::get(format!("/v1/envelopes/{envelope}"))), client.json(&create)] {
        assert_eq!((&told["id"], &told["message"], &told["metadata"]), (&made["id"], &json!("      "), &json!({})));
    }
    for told in [client.json(&Ask::get(format!("/v1/gifts/{gift}"))), client.json(&give)] {
        assert_eq!((&told["id"], &told["message"]), (&given["id"], &json!("      ")));
    }
    assert!(server.stop().0.success());
}
