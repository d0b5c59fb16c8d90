//! A directory of an older form, served.

use crate::client::{Ask, Client};
use crate::process::{Running, serve};
use crate::refusals::{BROKEN, USAGE, refused};
use std::process::Command;

#[test]
fn a_directory_of_an_older_form_is_served_once_that_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/fixtures/form-1.tar.gz");
    let unpacked = Command::new("tar").arg("xzf").arg(fixture).arg("-C").arg(place.path()).status();
    assert!(unpacked.expect("tar is there: apt install tar gzip").success());
    let data = place.path().join("form-1");
    let options = ["--max-downtime-s", "9000000000"];
    refused(&mut serve(&data, &options), BROKEN, &["has format 1", "make a backup", "hongbao serve --migrate"]);
    for life in 0..2 {
        let (server, address) = Running::ready(serve(&data, &options).arg("--migrate"));
        let made = Client::new(address).json(&Ask::get("/v1/envelopes/env_2megycbrjd590kp5cngk0j4vfp"));
        assert_eq!(made["message"], "Happy new year", "{made}");
        let (status, log) = server.stop();
        assert!(status.success() && log.contains("migrated") == (life == 0), "{log}");
    }
    let in_redis = ["--migrate", "--backend", "redis", "--redis", "redis://127.0.0.1:1"];
    refused(&mut serve(&data, &in_redis), USAGE, &["--migrate is for an embedded engine"]);
}
