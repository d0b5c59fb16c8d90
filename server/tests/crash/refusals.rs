//! What a start refuses, in words that say what to do.

use crate::client::{Ask, Client};
use crate::process::{KEY, Running, audit, hongbao, run, serve, told};
use serde_json::json;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const ADMIN_KEY: &str = "HONGBAO_ADMIN_KEY";

/// What has to be called otherwise, and what is broken.
pub const USAGE: i32 = 2;
pub const BROKEN: i32 = 1;

/// Nothing that another process has is waited for.
const AT_ONCE: &[&str] = &["--start-wait-s", "0"];

/// Ends with `status` and says all of `words`.
pub fn refused(command: &mut Command, status: i32, words: &[&str]) {
    let output = run(command);
    let told = told(&output);
    assert_eq!(output.status.code(), Some(status), "{told}");
    for word in words {
        assert!(told.contains(word), "it says {word:?}: {told}");
    }
}

fn live(data: &Path) -> Command {
    let mut command = hongbao();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    let name = data.display().to_string();
    refused(&mut serve(&data, AT_ONCE), USAGE, &[&name, "in use by another process", "stop that one first"]);
    refused(hongbao().arg("audit").arg("--data").arg(&data), USAGE, &[&name, "in use by another process"]);
    server.wait_ready(address);
    server.kill();
    // A lock does not outlive its process.
    let (server, _) = Running::ready(&mut serve(&data, &[]));
    assert!(server.stop().0.success());
    assert!(audit(&data).status.success());
}

#[test]
fn a_port_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, taken) = Running::ready(&mut serve(&directory.path().join("one"), &[]));
    let data = directory.path().join("two");
    let free = "127.0.0.1:0".to_owned();
    for (listen, admin_listen, named) in [
        (taken.to_string(), None, taken.to_string()),
        (free.clone(), Some(taken.to_string()), taken.to_string()),
        // An address of nobody's here, kept for documentation.
        ("192.0.2.1:0".to_owned(), Some(free), "192.0.2.1:0".to_owned()),
    ] {
        let mut second = hongbao();
        second.args(["serve", "--listen", &listen, "--data"]).arg(&data).args(AT_ONCE);
        second.args(admin_listen.iter().flat_map(|address| ["--admin-listen", address]));
        let option = if admin_listen.as_ref() == Some(&named) { "--admin-listen" } else { "--listen" };
        refused(&mut second, USAGE, &["cannot listen on", &named, "another address", &format!(": {option} 127")]);
        let is_held = named == taken.to_string();
        assert_eq!(told(&run(&mut second)).contains("end the program that has it"), is_held, "{named}");
        assert!(!data.exists(), "nothing was made, as --listen {listen} --admin-listen {admin_listen:?} is wrong");
    }
}

/// What is started anew the moment it was killed meets what the kernel has not taken back.
#[test]
fn a_start_waits_for_the_port_and_directory_of_one_that_ends() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = holder.local_addr().unwrap().to_string();
    let starting = Running::start(hongbao().args(["serve", "--test", "--listen", &held, "--data"]).arg(&data));
    starting.wait_logged("waiting up to");
    assert!(!data.exists(), "it has begun without its port");
    drop(holder);
    let address = starting.address();
    assert_eq!(address.to_string(), held);
    starting.wait_ready(address);

    let mut next = Running::start(&mut serve(&data, &[]));
    next.wait_logged("waiting up to");
    assert!(next.is_alive());
    let first_log = starting.kill();
    let address = next.address();
    next.wait_ready(address);
    for log in [first_log, next.stop().1] {
        assert_eq!(log.matches("waiting up to").count(), 1, "it says so once:\n{log}");
    }
    // Who does not let go is told of when the time is over.
    let (_server, _) = Running::ready(&mut serve(&data, &[]));
    let patient = ["--start-wait-s", "1"];
    refused(&mut serve(&data, &patient), USAGE, &["in use by another process", "stop that one first"]);
}

#[test]
fn a_name_is_listened_on_by_its_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let named = |name: &str, listen: &str, admin: &str| {
        let mut command = hongbao();
        command.args(["serve", "--test", "--listen", listen, "--admin-listen", admin, "--data"]);
        command.arg(directory.path().join(name));
        command
    };
    let (server, address) = Running::ready(&mut named("data", "localhost:0", "localhost:0"));
    assert!(address.ip().is_loopback(), "{address}");
    let words = ["no..where:0", "not known here", "127.0.0.1:8080"];
    refused(&mut named("none", "no..where:0", "localhost:0"), USAGE, &words);
    refused(&mut named("none", "localhost:0", "no..where:0"), USAGE, &words);
    assert!(!directory.path().join("none").exists());
    assert!(server.stop().0.success());
}

#[test]
fn the_wrong_currency_and_mode_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (test, real) = (directory.path().join("test"), directory.path().join("live"));
    for command in [&mut serve(&test, &["--currency", "EUR"]), &mut live(&real)] {
        assert!(Running::ready(command).0.stop().0.success());
    }
    refused(&mut serve(&test, &[]), USAGE, &["currency = EUR, not CNY", "start it with --currency EUR"]);
    refused(
        live(&test).args(["--currency", "EUR"]),
        USAGE,
        &["mode = test, not live", "another directory", "start it with --test"],
    );
    refused(&mut serve(&real, &[]), USAGE, &["mode = live, not test", "another directory"]);
    let without_key = |command: &mut Command| refused(command.env_remove(ADMIN_KEY), USAGE, &["another directory"]);
    without_key(live(&test).args(["--currency", "EUR"]));
    assert!(!test.join("admin.key").exists(), "a start that was refused leaves no key");
    // Refusing changed nothing.
    let (server, address) = Running::ready(&mut serve(&test, &["--currency", "EUR"]));
    assert_eq!(Client::new(address).json(&Ask::get("/v1/wallets/bob"))["currency"], "EUR");
    assert!(server.stop().0.success());
}

#[test]
fn a_start_that_is_refused_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let [data, archive] = ["data", "archive"].map(|name| directory.path().join(name));
    let mut on_redis = hongbao();
    on_redis
        .args(["serve", "--listen", "127.0.0.1:0", "--backend", "redis", "--redis", "http://x", "--data"])
        .arg(&data);
    refused(on_redis.env_remove(ADMIN_KEY), USAGE, &["--redis: ", "write redis://"]);
    assert!(!data.exists());
    // What somebody else put there stays.
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("admin.key"), "short").unwrap();
    let mut with_archive = serve(&data, &[]);
    with_archive.env_remove(ADMIN_KEY).arg("--archive").arg(&archive);
    refused(&mut with_archive, USAGE, &["admin.key", "16 to 256"]);
    std::fs::write(data.join("admin.key"), KEY).unwrap();
    let (server, _) = Running::ready(&mut serve(&data, &[]));
    refused(with_archive.args(AT_ONCE), USAGE, &["in use by another process"]);
    assert!(!archive.exists(), "made for nothing");
    assert!(server.stop().0.success());
    assert_eq!(std::fs::read_to_string(data.join("admin.key")).unwrap(), KEY);
}

#[test]
fn a_live_deployment_has_no_test_routes() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, address) = Running::ready(&mut live(&directory.path().join("data")));
    let answer = Client::new(address).ask(&Ask::post("/v1/test/clock", &json!({ "advance_s": 1 })));
    assert_eq!(answer.status, 404, "{answer:?}");
}

#[test]
fn the_log_says_what_was_opened() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for (last_end, last_record) in [("none", 0), ("crash", 1), ("in order", 1)] {
        let (server, address) = Running::ready(&mut serve(&data, &[]));
        let log = server.log();
        let line = log.lines().find(|line| line.contains("opened")).unwrap();
        let told = [
            format!("data={}", data.display()),
            "mode=\"test\" currency=\"CNY\"".to_owned(),
            format!("last_end={last_end:?}"),
            format!("last_record={last_record} "),
        ];
        assert!(told.iter().all(|told| line.contains(told)) && !line.contains(['{', '(']), "{line}");
        assert!(!log.contains(KEY), "{log}");
        if last_record == 0 {
            let deposit = Ask::post("/v1/wallets/bob/deposits", &json!({ "amount": 100 })).with_key("k");
            Client::new(address).json(&deposit);
            server.kill();
        } else {
            assert!(server.stop().0.success());
        }
    }
}

/// Whoever read the log may end before the server: it goes on, and stops when told to.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (server, address) = Running::unread(&mut serve(&data, &[]));
    let deposit = Ask::post("/v1/wallets/bob/deposits", &json!({ "amount": 100 })).with_key("k");
    assert_eq!(Client::new(address).json(&deposit)["available"], 100);
    assert!(server.stop().0.success(), "it stops in order all the same");
    assert!(audit(&data).status.success());
}

#[test]
fn a_key_file_is_written_once_mode_0600() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let file = data.join("admin.key");
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (server, address) = Running::ready(serve(&data, &[]).env_remove(ADMIN_KEY));
        let key = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let ask = Ask::get("/v1/audit");
        assert_eq!(Client::with_key(address, &key).ask(&ask).status, 200, "the key in the file opens");
        assert_eq!(Client::with_key(address, KEY).ask(&ask).status, 401, "another does not");
        let (status, log) = server.stop();
        assert!(status.success() && !log.contains(&key), "the log keeps the key to itself:\n{log}");
        keys.push((key, log.contains("wrote a new admin key")));
    }
    let (first, second) = (&keys[0], &keys[1]);
    assert_eq!((&first.0, first.1, second.1), (&second.0, true, false), "made by the first start, read by the second");
}

#[test]
fn a_key_that_is_none_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let latin = OsStr::from_bytes(b"schl\xfcssel-of-an-operator");
    for key in [OsStr::new("short"), OsStr::new(""), latin] {
        refused(serve(&data, &[]).env(ADMIN_KEY, key), USAGE, &[ADMIN_KEY, "16 to 256"]);
        assert!(!data.exists(), "{key:?}");
    }
}
