//! Backups of a server that is under load, interrupted ones too, and what is
//! made of them.

use crate::book::Book;
use crate::client::{Answer, Ask, Client};
use crate::kill::open_table;
use crate::load::{Dice, Player, Table};
use crate::process::{Running, audit, hongbao, run, serve, told};
use crate::refusals::{BROKEN, USAGE, refused};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PLAYERS: u64 = 4;

pub fn backup(data: &Path, to: &Path) -> Command {
    let mut command = hongbao();
    command.arg("backup").arg("--data").arg(data).arg("--to").arg(to);
    command
}

#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = run(command);
    // What it did may be right and what it left behind not.
    let is_quiet = !String::from_utf8_lossy(&output.stderr).contains("ERROR");
    assert!(output.status.success() && is_quiet, "{command:?}: {}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn is_clean(data: &Path) {
    let output = audit(data);
    assert!(output.status.success() && told(&output).contains("clean"), "{}", told(&output));
}

/// What was asked, what was answered, and when the answer was there.
pub type Asked = (Ask, Answer, Instant);

/// Everybody plays while `meanwhile` goes on.
pub fn under_load<T>(
    address: SocketAddr,
    table: &Mutex<Table>,
    round: u64,
    meanwhile: impl FnOnce() -> T,
) -> (Vec<Asked>, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let play = |number: u64| {
            let mut player = Player::new(format!("r{round}p{number}"), Dice(round * 100 + number));
            let (mut client, mut asked) = (Client::new(address), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let ask = player.next(table);
                let answer = client.ask(&ask);
                table.lock().unwrap().note(&ask, &answer);
                if ask.key.is_some() {
                    player.own.push(ask.clone());
                }
                asked.push((ask, answer, Instant::now()));
            }
            asked
        };
        let players: Vec<_> = (0..PLAYERS).map(|number| scope.spawn(move || play(number))).collect();
        let done = meanwhile();
        stop.store(true, Ordering::Relaxed);
        (players.into_iter().flat_map(|player| player.join().unwrap()).collect(), done)
    })
}

fn places(directory: &tempfile::TempDir) -> [PathBuf; 3] {
    ["data", "backup", "again"].map(|name| directory.path().join(name))
}

#[test]
fn a_backup_under_load_is_whole_and_nothing_changes_it() {
    let directory = tempfile::tempdir().unwrap();
    let [data, kept, again] = places(&directory);
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    let mut book = Book::default();
    let table = Mutex::new(open_table(address, &mut book));
    let (asked, said) = under_load(address, &table, 1, || {
        std::thread::sleep(Duration::from_millis(300));
        let said = succeeds(&mut backup(&data, &kept));
        succeeds(&mut backup(&data, &again));
        said
    });
    assert!(asked.len() > 100, "{}", asked.len());
    assert!(said.contains("everything up to record"), "{said}");
    refused(&mut backup(&data, &kept), USAGE, &["is there already", "never written over"]);
    // Twice, as the first audit must leave nothing in it.
    for _ in 0..2 {
        is_clean(&kept);
    }
    let summed = run(Command::new("sha256sum").args(["--check", "--quiet", "SHA256SUMS"]).current_dir(&kept));
    assert!(summed.status.success(), "{}", told(&summed));
    for refusing in [&mut serve(&kept, &[]), &mut backup(&kept, &directory.path().join("of-a-backup"))] {
        refused(refusing, USAGE, &["is a backup, which nothing may change", "hongbao restore"]);
    }
    // It was not touched by any of these.
    is_clean(&kept);
    is_clean(&again);
    let (status, log) = server.stop();
    assert!(status.success() && log.contains("all rows were sent"), "{log}");
    // Nobody serves it now.
    let stopped = directory.path().join("stopped");
    succeeds(&mut backup(&data, &stopped));
    is_clean(&stopped);
    is_clean(&data);
}

#[test]
fn what_is_no_backup_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let [data, kept, nowhere] = places(&directory);
    refused(&mut backup(&data, &kept), USAGE, &["does not exist", "--data"]);
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    open_table(address, &mut Book::default());
    refused(&mut backup(&data, &nowhere.join("deeper")), USAGE, &["is not a directory", "make it first"]);
    for inside in ["inside", "store/inside", "store/../inside", "nowhere/../inside"] {
        refused(&mut backup(&data, &data.join(inside)), USAGE, &["lies in", "has to stay as it is", "--to"]);
    }
    std::fs::create_dir(directory.path().join("backup.part")).unwrap();
    let stranger = directory.path().join("backup.part/letters");
    std::fs::write(&stranger, "from home").unwrap();
    refused(&mut backup(&data, &kept), USAGE, &["backup.part", "is in the way"]);
    assert!(stranger.exists());
    std::fs::remove_dir_all(stranger.parent().unwrap()).unwrap();
    succeeds(&mut backup(&data, &kept));
    assert!(server.stop().0.success());

    // A byte, a file too few, a file too many.
    let table = tables(&kept).next().expect("there are rows");
    let bytes = std::fs::read(&table).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    std::fs::write(&table, &flipped).unwrap();
    refused(hongbao().args(["audit", "--data"]).arg(&kept), BROKEN, &["is not as it was made", "has changed"]);
    std::fs::remove_file(&table).unwrap();
    refused(hongbao().args(["audit", "--data"]).arg(&kept), BROKEN, &["is not as it was made", "is missing"]);
    std::fs::write(&table, &bytes).unwrap();
    std::fs::write(kept.join("store/notes"), "mine").unwrap();
    refused(hongbao().args(["audit", "--data"]).arg(&kept), BROKEN, &["store/notes", "was added"]);
    std::fs::remove_file(kept.join("store/notes")).unwrap();
    is_clean(&kept);
}

/// Files of rows.
fn tables(data: &Path) -> impl Iterator<Item = PathBuf> {
    let keyspaces = std::fs::read_dir(data.join("store/keyspaces")).unwrap();
    let tables = keyspaces.filter_map(|entry| std::fs::read_dir(entry.unwrap().path().join("tables")).ok());
    tables.flatten().map(|entry| entry.unwrap().path())
}

/// A server with some MiB of rows.
fn heavy(data: &Path) -> (Running, SocketAddr) {
    let (server, address) = Running::ready(&mut serve(data, &[]));
    let mut client = Client::new(address);
    let pad = "x".repeat(3000);
    client.json(&Ask::post("/v1/wallets/alice/deposits", &json!({ "amount": 1_000_000 })).with_key("d"));
    for n in 0..1000 {
        let body = json!({ "sender": "alice", "total": 10, "shares": 2, "metadata": { "pad": pad } });
        client.json(&Ask::post("/v1/envelopes", &body).with_key(format!("e{n}")));
    }
    (server, address)
}

fn slow(data: &Path, to: &Path) -> Running {
    Running::start(backup(data, to).args(["--mib-per-s-max", "1"]))
}

#[track_caller]
fn wait_for(what: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    while !what.exists() {
        assert!(Instant::now() < until, "never: {}", what.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_backup_killed_in_the_middle_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let [data, kept, _] = places(&directory);
    let part = directory.path().join("backup.part");
    let (server, _) = heavy(&data);

    // Somebody else makes it at the same time.
    let making = slow(&data, &kept);
    wait_for(&part.join("store/version"));
    refused(&mut backup(&data, &kept), USAGE, &["backup.part is in use by another process"]);

    // Whoever has the rows.
    server.kill();
    let (status, log) = making.ended();
    assert_eq!(status.code(), Some(BROKEN), "{log}");
    assert!(log.contains("the server has ended") && log.contains("make it again"), "{log}");
    assert!(!kept.exists() && !part.exists(), "nothing is left of it");

    // It ends in order, and tells why there is no backup.
    let (server, _) = Running::ready(&mut serve(&data, &[]));
    let making = slow(&data, &kept);
    wait_for(&part.join("store/version"));
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    let (status, log) = making.ended();
    assert!(status.code() == Some(BROKEN) && log.contains("the server is shutting down"), "{log}");
    assert!(!kept.exists() && !part.exists(), "nothing is left of it");

    // Whoever makes it.
    let (_server, _) = Running::ready(&mut serve(&data, &[]));
    let making = slow(&data, &kept);
    wait_for(&part.join("store/version"));
    making.kill();
    assert!(part.exists() && !kept.exists());
    refused(&mut serve(&part, &[]), USAGE, &["unfinished `hongbao backup`", "run the same again"]);

    succeeds(&mut backup(&data, &kept));
    is_clean(&kept);
    let mut accept = hongbao();
    refused(accept.args(["clock", "accept", "--data"]).arg(&kept), USAGE, &["is a backup", "--data"]);
    assert!(!kept.join("clock.accept").exists());
}

#[test]
fn a_full_disk_is_told_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let [data, _, disk] = places(&directory);
    std::fs::create_dir(&disk).unwrap();
    let (server, address) = heavy(&data);
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = r#"mount -t tmpfs -o size=2m none "$1" && "$0" backup --data "$2" --to "$1/backup"; echo "status $?"; ls -A "$1""#;
    command.args(["sh", "-c", script, env!("CARGO_BIN_EXE_hongbao")]).arg(&disk).arg(&data);
    let output = run(&mut command);
    let told = told(&output);
    assert!(told.contains("status 1\n") && told.contains("No space left") && told.contains("free space"), "{told}");
    assert!(!told.contains("restart"), "whose? {told}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("status 1\n"), "nothing is left there: {told}");
    // The server's own disk had nothing to do with it.
    assert_eq!(Client::new(address).json(&Ask::get("/v1/audit"))["balanced"], true);
    assert!(server.stop().0.success());
}
