//! A text taken out of what a server has left.

use crate::backup::{backup, is_clean, succeeds};
use crate::client::{Ask, Client};
use crate::process::{Running, hongbao, serve};
use crate::refusals::{USAGE, refused};
use serde_json::json;
use std::path::Path;
use std::process::Command;

fn redact(from: &Path, to: &Path, envelope: &str) -> Command {
    let mut command = hongbao();
    command.arg("redact").arg("--from").arg(from).arg("--to").arg(to).arg(envelope).arg("--metadata");
    command
}

#[test]
fn a_message_is_taken_out_of_a_stopped_directory_and_a_backup() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let (server, address) = Running::ready(&mut serve(&at("data"), &[]));
    let mut client = Client::new(address);
    client.json(&Ask::post("/v1/wallets/alice/deposits", &json!({"amount": 100})).with_key("d"));
    let body =
        json!({"sender": "alice", "total": 100, "shares": 2, "message": "insult", "metadata": {"why": "insult"}});
    let create = Ask::post("/v1/envelopes", &body).with_key("e");
    let made = client.json(&create);
    let envelope = made["id"].as_str().unwrap().to_owned();
    succeeds(&mut backup(&at("data"), &at("backup")));
    refused(&mut redact(&at("data"), &at("new"), &envelope), USAGE, &["in use by another process"]);
    refused(&mut redact(&at("data"), &at("data/new"), &envelope), USAGE, &["lies in", "--to"]);
    refused(&mut redact(&at("data"), &at("new"), "env_nobody"), USAGE, &["env_nobody"]);
    assert!(server.stop().0.success());
    for (name, said) in [("data", "out of 2 rows and 1 records"), ("backup", "out of 2 rows")] {
        let new = at(&format!("{name}.new"));
        let told = succeeds(&mut redact(&at(name), &new, &envelope));
        assert!(told.contains(said) && told.contains("hongbao audit --data"), "{told}");
        is_clean(&new);
        is_clean(&at(name));
    }
    refused(&mut redact(&at("data"), &at("data.new"), &envelope), USAGE, &["is there already"]);

    let (server, address) = Running::ready(&mut serve(&at("data.new"), &[]));
    let mut client = Client::new(address);
    for told in [client.json(&Ask::get(format!("/v1/envelopes/{envelope}"))), client.json(&create)] {
        assert_eq!((&told["id"], &told["message"], &told["metadata"]), (&made["id"], &json!("      "), &json!({})));
    }
    assert!(server.stop().0.success());
}
