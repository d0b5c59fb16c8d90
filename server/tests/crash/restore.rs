//! What is made of a backup: all that was answered where something still has it, and
//! otherwise the names of what is lost.

use crate::backup::{backup, is_clean, succeeds, under_load};
use crate::book::{Book, ask_again};
use crate::client::{Ask, Client};
use crate::damage::{flip, frames, newest_segment};
use crate::inquiry::inquire;
use crate::kill::open_table;
use crate::load::Dice;
use crate::process::{Running, audit, hongbao, run, serve, told};
use crate::refusals::{BROKEN, USAGE, refused};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn backup(&self) {
        succeeds(&mut backup(&self.path("data"), &self.path("backup")));
    }

    /// Of the backup into `again`.
    fn restore(&self, options: &[&str]) -> Command {
        let mut command = hongbao();
        command.arg("restore").arg("--from").arg(self.path("backup")).arg("--data").arg(self.path("again"));
        for option in options {
            match option.strip_prefix('@') {
                Some(name) => command.arg(self.path(name)),
                None => command.arg(option),
            };
        }
        command
    }
}

fn deposit(client: &mut Client, number: usize) -> Value {
    let body = json!({ "amount": 100 + number, "reference": format!("=ref-{number}") });
    client.json(&Ask::post("/v1/wallets/bob/deposits", &body).with_key(format!("k{number}")))
}

fn bob(address: SocketAddr) -> u64 {
    Client::new(address).json(&Ask::get("/v1/wallets/bob"))["available"].as_u64().unwrap()
}

/// What bob has after the deposits of these numbers.
fn sum(numbers: impl Iterator<Item = usize>) -> u64 {
    numbers.map(|number| 100 + number as u64).sum()
}

#[test]
fn a_backup_under_load_and_the_old_journal_are_everything() {
    let place = Place::new();
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &[]));
    let (mut book, mut before) = (Book::default(), Book::default());
    let table = Mutex::new(open_table(address, &mut book));
    open_table(address, &mut before);
    let mut asked = Vec::new();
    let mut rest = Duration::from_millis(200);
    let mut play = |round, meanwhile: &dyn Fn()| {
        let (answered, began) = under_load(address, &table, round, || {
            std::thread::sleep(rest);
            let began = Instant::now();
            meanwhile();
            began
        });
        asked.extend(answered);
        rest = Duration::from_millis(100);
        began
    };
    let began = play(1, &|| place.backup());
    play(2, &|| ());
    server.kill();
    asked.sort_by_key(|(_, _, at)| *at);
    for (ask, answer, at) in &asked {
        book.learn(ask, answer);
        if *at < began {
            before.learn(ask, answer);
        }
    }
    assert!(before.promises.len() > 20 && book.promises.len() > before.promises.len());

    // Of what came after it nothing is known.
    refused(&mut place.restore(&[]), BROKEN, &["is not known", "--journal DIR", "--accept-loss"]);
    assert!(!place.path("again").exists());
    let said = succeeds(&mut place.restore(&["--accept-loss"]));
    assert!(said.contains("clean"), "{said}");
    is_clean(&place.path("again"));
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &[]));
    let mut client = Client::new(address);
    before.promises.iter().for_each(|promise| ask_again(&mut client, promise));
    assert_eq!(client.json(&Ask::get("/v1/audit"))["balanced"], true);
    assert!(server.stop().0.success());
    refused(&mut place.restore(&["--accept-loss"]), USAGE, &["is not empty", "new directory"]);
    std::fs::remove_dir_all(place.path("again")).unwrap();

    // The old journal has the rest.
    let said = succeeds(&mut place.restore(&["--journal", "@data"]));
    assert!(said.contains("no answer is lost") && said.contains("are brought back"), "{said}");
    is_clean(&place.path("again"));
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &[]));
    inquire(address.into(), &book, &mut Dice(1), true);
    assert!(server.stop().0.success());
    is_clean(&place.path("again"));
}

/// Restarts until the journal has one segment only: what came before is in the store.
fn forget_segments(place: &Place, options: &[&str]) -> (Running, SocketAddr) {
    let (server, address) = Running::ready(&mut serve(&place.path("data"), options));
    let segments = || {
        let files = std::fs::read_dir(place.path("data/journal")).unwrap();
        files.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("segment-")).count()
    };
    let until = Instant::now() + Duration::from_secs(60);
    while segments() > 1 {
        assert!(Instant::now() < until, "segments of before are recycled:\n{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    (server, address)
}

#[test]
fn what_is_behind_a_gap_is_named() {
    let place = Place::new();
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &[]));
    (0..3).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    place.backup();
    (3..5).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    assert!(server.stop().0.success());
    let (server, address) = forget_segments(&place, &[]);
    let mut client = Client::new(address);
    let terms = json!({ "sender": "bob", "total": 200, "shares": 2, "split": "equal", "auto_claim": false });
    let envelope = client.json(&Ask::post("/v1/envelopes", &terms).with_key("e"));
    let id = envelope["id"].as_str().unwrap();
    let amy = json!({ "user": "amy" });
    client.json(&Ask::post(format!("/v1/envelopes/{id}/grab"), &amy));
    client.json(&Ask::post(format!("/v1/envelopes/{id}/claim"), &amy));
    deposit(&mut client, 5);
    let terms = json!({ "sender": "shop", "total": 70, "shares": 1, "auto_claim": true,
        "funding": { "reference": "bank-in" }, "payout": "external" });
    let funded = client.json(&Ask::post("/v1/envelopes", &terms).with_key("f"));
    let funded = funded["id"].as_str().unwrap();
    client.json(&Ask::post(format!("/v1/envelopes/{funded}/grab"), &amy));
    let payout = client.json(&Ask::get("/v1/payouts"))["payouts"][0]["id"].as_str().unwrap().to_owned();
    let paid = json!({ "results": [{ "id": payout, "state": "paid", "reference": "bank-out" }] });
    client.json(&Ask::post("/v1/payouts/results", &paid).with_key("p"));
    server.kill();
    // What is kept for the events is kept for a time only.
    let files = std::fs::read_dir(place.path("data/journal")).unwrap().map(|file| file.unwrap().path());
    let kept = files.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("kept-"));
    kept.for_each(|file| std::fs::remove_file(file).unwrap());

    let restore = || place.restore(&["--journal", "@data"]);
    // Only such a list is written over.
    std::fs::write(place.path("letters"), "from home").unwrap();
    let letters = ["no list of lost answers", "--lost"];
    refused(&mut place.restore(&["--journal", "@data", "--lost", "@letters"]), BROKEN, &letters);
    assert_eq!(std::fs::read_to_string(place.path("letters")).unwrap(), "from home");
    refused(
        &mut restore(),
        BROKEN,
        &["2 records are lost that nobody can read", "9 answers in 7 records behind a gap are lost", "--accept-loss"],
    );
    let lost = std::fs::read_to_string(place.path("again.lost.csv")).unwrap();
    let rows: Vec<Vec<&str>> = lost.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let told: Vec<[&str; 5]> = rows.iter().map(|row| [row[2], row[3], row[4], row[5], row[6]]).collect();
    assert_eq!(
        told,
        [
            ["envelope", id, "bob", "200", ""],
            ["grab", id, "amy", "100", ""],
            ["claim", id, "amy", "100", ""],
            ["deposit", "", "bob", "105", "'=ref-5"],
            ["envelope", funded, "shop", "70", ""],
            ["funding", funded, "", "70", "bank-in"],
            ["grab", funded, "amy", "70", ""],
            ["claim", funded, "amy", "70", ""],
            ["payout_paid", &payout, "amy", "70", "bank-out"],
        ],
        "{lost}"
    );
    assert!(!place.path("again").exists());
    let mode = std::fs::metadata(place.path("again.lost.csv")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has users and their money in it");
    let said = succeeds(restore().args(["--accept-loss"]));
    assert!(said.contains(&format!("grab {id} amy 100")), "{said}");
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &[]));
    assert_eq!(bob(address), sum(0..3));
    // What was lost can be done anew.
    deposit(&mut Client::new(address), 5);
    assert_eq!(bob(address), sum(0..3) + 105);
    assert!(server.stop().0.success());
    is_clean(&place.path("again"));
}

/// Who follows the events behind what a restore lost is told so, whatever has its place now.
#[test]
fn whoever_was_told_of_what_a_restore_lost_hears_that_it_is_gone() {
    let events = |address: SocketAddr, after: &str| {
        Client::new(address).ask(&Ask::get(format!("/v1/events?wait_s=0&after={after}")))
    };
    let end = |address: SocketAddr| events(address, "now").json()["next_cursor"].as_str().expect("a cursor").to_owned();
    let place = Place::new();
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &[]));
    (0..3).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    let kept = end(address);
    place.backup();
    (3..6).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    let lost = end(address);
    server.kill();

    succeeds(&mut place.restore(&["--accept-loss"]));
    // None of what this one writes is kept longer than it has to be.
    let options = ["--events-kept-s", "0"];
    for round in 2..6 {
        let (server, address) = Running::ready(&mut serve(&place.path("again"), &options));
        let mut answer = events(address, &lost);
        assert_eq!((answer.status, &answer.json()["code"]), (410, &json!("cursor_gone")));
        // What was the oldest may be given up before it is asked for.
        for _ in 0..20 {
            let oldest = answer.json()["oldest_cursor"].as_str().expect("a cursor").to_owned();
            answer = events(address, &oldest);
            if answer.status != 410 {
                break;
            }
        }
        assert_eq!(answer.status, 200);
        deposit(&mut Client::new(address), 3 * round);
        assert_eq!(events(address, &end(address)).status, 200);
        assert!(server.stop().0.success());
    }
    std::fs::remove_dir_all(place.path("again")).unwrap();

    // Where nothing is lost it goes on.
    succeeds(&mut place.restore(&["--journal", "@data"]));
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &[]));
    for (cursor, behind) in [(&kept, 3), (&lost, 0)] {
        assert_eq!(events(address, cursor).json()["events"].as_array().expect("a list").len(), behind);
    }
    assert!(server.stop().0.success());
}

#[test]
fn what_is_behind_damage_is_named() {
    let place = Place::new();
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &[]));
    (0..3).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    place.backup();
    (3..9).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    server.kill();
    // One caller after the other is one frame after the other.
    let segment = newest_segment(&place.path("data"));
    flip(&segment, frames(&segment)[6].offset + 45);
    refused(&mut serve(&place.path("data"), &[]), BROKEN, &["is corrupt at offset"]);
    let restore = || place.restore(&["--journal", "@data/journal", "--lost", "@names"]);
    refused(
        &mut restore(),
        BROKEN,
        &["is damaged at offset", "1 records are lost that nobody can read", "2 answers in 2 records", "bob 107"],
    );
    let said = succeeds(restore().args(["--accept-loss"]));
    assert!(said.contains("records 4 to 6 come after it"), "{said}");
    assert_eq!(std::fs::read_to_string(place.path("names")).unwrap().lines().count(), 3);
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &[]));
    assert_eq!(bob(address), sum(0..6));
    assert!(server.stop().0.success());
}

#[test]
fn an_archive_brings_back_what_it_has_and_goes_on() {
    let place = Place::new();
    let archive = place.path("archive").display().to_string();
    let options = ["--archive", &*archive];
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &options));
    (0..3).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    place.backup();
    (3..5).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    server.kill();
    let (server, address) = forget_segments(&place, &options);
    (5..7).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    server.kill();

    // With the journal, which is where the archive ends.
    let whole = ["--archive", "@archive", "--journal", "@data"];
    let said = succeeds(&mut place.restore(&whole));
    assert!(said.contains("no answer is lost"), "{said}");
    std::fs::remove_dir_all(place.path("again")).unwrap();

    // The machine is gone.
    std::fs::rename(place.path("data"), place.path("gone")).unwrap();
    let restore = || place.restore(&["--archive", "@archive"]);
    refused(&mut restore(), BROKEN, &["records 4 to 5 come after it", "after record 5 is not known"]);
    succeeds(restore().args(["--accept-loss"]));
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &options));
    assert_eq!(bob(address), sum(0..5));
    deposit(&mut Client::new(address), 7);
    assert!(server.stop().0.success());
    let output = run(hongbao().args(["audit", "--archive", &archive, "--data"]).arg(place.path("again")));
    assert!(output.status.success() && told(&output).contains("6 records read"), "{}", told(&output));
    let rebuilt = run(hongbao().args(["rebuild", "--archive", &archive, "--data"]).arg(place.path("again")));
    assert!(rebuilt.status.success(), "{}", told(&rebuilt));

    // Restored without it, it is another history.
    std::fs::rename(place.path("again"), place.path("first")).unwrap();
    succeeds(&mut place.restore(&["--accept-loss"]));
    refused(&mut serve(&place.path("again"), &options), BROKEN, &["is not of this journal", "new directory"]);
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &["--archive", &format!("{archive}-2")]));
    assert_eq!(bob(address), sum(0..3));
    assert!(server.stop().0.success());
}

/// Another deployment has records of the same numbers, and money of its own.
#[test]
fn nothing_of_another_deployment_or_history_is_brought_in() {
    let place = Place::new();
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &[]));
    (0..3).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    place.backup();
    assert!(server.stop().0.success());
    let (server, address) = Running::ready(&mut serve(&place.path("other"), &[]));
    let mut client = Client::new(address);
    for number in 0..9 {
        let user = format!("/v1/wallets/mallory-{number}/deposits");
        client.json(&Ask::post(user, &json!({ "amount": 1000 })).with_key(format!("m{number}")));
    }
    assert!(server.stop().0.success());
    // A journal without the settings that say whose it is, and what another's archive would have.
    std::fs::create_dir(place.path("lost")).unwrap();
    std::fs::rename(place.path("other/journal"), place.path("lost/journal")).unwrap();
    for given in [&["--journal", "@lost/journal"][..], &["--archive", "@lost/journal", "--accept-loss"]] {
        refused(
            &mut place.restore(given),
            USAGE,
            &["record 1 ", "of another deployment", "that the backup was made of"],
        );
        assert!(!place.path("again").exists(), "nothing is left of it");
    }

    // A history that a restore has replaced: its record 4 is not the other's.
    succeeds(&mut place.restore(&["--accept-loss"]));
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &[]));
    (10..12).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    let later = place.path("later");
    succeeds(&mut backup(&place.path("again"), &later));
    assert!(server.stop().0.success());
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &[]));
    (20..29).for_each(|number| drop(deposit(&mut Client::new(address), number)));
    assert!(server.stop().0.success());
    let restore = |journal: &str| {
        let mut restore = hongbao();
        restore.args(["restore", "--from"]).arg(&later).arg("--data").arg(place.path("last"));
        restore.arg("--journal").arg(place.path(journal));
        restore
    };
    refused(&mut restore("data"), USAGE, &["record 4 ", "of a history that a restore has replaced"]);
    succeeds(&mut restore("again"));
    let (server, address) = Running::ready(&mut serve(&place.path("last"), &[]));
    assert_eq!(bob(address), sum(0..3) + sum(10..12));
    assert!(server.stop().0.success());
}

#[test]
fn what_cannot_be_restored_is_left() {
    let place = Place::new();
    let (server, address) = Running::ready(&mut serve(&place.path("data"), &[]));
    deposit(&mut Client::new(address), 0);
    place.backup();
    refused(&mut place.restore(&["--journal", "@data"]), USAGE, &["in use by another process", "stop that one first"]);
    assert!(server.stop().0.success());
    let (other, _) = Running::ready(&mut serve(&place.path("other"), &[]));
    assert!(other.stop().0.success());
    refused(&mut place.restore(&["--journal", "@other"]), USAGE, &["are of two deployments"]);
    refused(&mut place.restore(&["--journal", "@nothing"]), USAGE, &["is not a directory", "--journal"]);
    let mut of_data = hongbao();
    of_data.args(["restore", "--accept-loss", "--from"]).arg(place.path("data")).arg("--data").arg(place.path("again"));
    refused(&mut of_data, USAGE, &["is no backup"]);
    // Nothing comes into what has to stay as it is, not even the list of what is lost.
    for inside in ["backup", "data"] {
        let inside = place.path(inside).join("inside");
        let mut restore = hongbao();
        restore.args(["restore", "--from"]).arg(place.path("backup")).arg("--journal").arg(place.path("data"));
        refused(restore.arg("--data").arg(&inside), USAGE, &["lies in", "has to stay as it is", "--data"]);
        refused(place.restore(&["--journal", "@data", "--lost"]).arg(&inside), USAGE, &["lies in", "--lost"]);
    }
    is_clean(&place.path("backup"));

    // Changed since it was made.
    let settings = place.path("backup/settings");
    let kept = std::fs::read(&settings).unwrap();
    std::fs::write(&settings, "currency=USD\n").unwrap();
    let journal = ["--accept-loss"];
    refused(&mut place.restore(&journal), BROKEN, &["is not as it was made", "settings has changed"]);
    assert!(!place.path("again").exists(), "nothing is left of it");
    std::fs::write(&settings, kept).unwrap();

    // Left in the middle, as by a kill: no server takes it, and the next restore goes over it.
    std::fs::create_dir_all(place.path("again/store")).unwrap();
    std::fs::write(place.path("again/restoring"), "").unwrap();
    std::fs::create_dir(place.path("again/journal")).unwrap();
    refused(&mut serve(&place.path("again"), &[]), USAGE, &["an unfinished", "hongbao restore"]);
    succeeds(&mut place.restore(&["--journal", "@data"]));
    let (server, address) = Running::ready(&mut serve(&place.path("again"), &[]));
    assert_eq!(bob(address), 100);
    assert!(server.stop().0.success());
    let output = audit(&place.path("again"));
    assert!(output.status.success(), "{}", told(&output));
}
