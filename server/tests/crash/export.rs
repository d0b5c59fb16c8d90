//! A period's books: what the API tells, the same bytes whenever they are asked for.

use crate::backup::{backup, succeeds, under_load};
use crate::book::{Book, text};
use crate::client::{Ask, Client};
use crate::inquiry::list;
use crate::kill::open_table;
use crate::load::{USERS, user};
use crate::process::{Running, hongbao, run, serve, told};
use crate::refusals::{USAGE, refused};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const WHAT: [&str; 4] = ["ledger", "envelopes", "grabs", "payouts"];

pub fn export(what: &str, data: &Path, to: &str, out: &Path) -> Command {
    let mut command = hongbao();
    let period = ["--from", "2020-01-01", "--to", to, "--time-zone", "Asia/Shanghai"];
    command.args(["export", what]).args(period).arg("--data").arg(data).arg("--out").arg(out);
    command
}

/// Rows and totals of an export as JSON.
fn exported(what: &str, data: &Path, to: &str, out: &Path) -> (Vec<Value>, Value) {
    succeeds(export(what, data, to, out).args(["--format", "jsonl"]));
    let rows = std::fs::read_to_string(out).unwrap();
    let rows = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (rows, serde_json::from_str(&std::fs::read_to_string(totals_of(out)).unwrap()).unwrap())
}

fn totals_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".totals.json");
    name.into()
}

/// A moment after everything that was answered before it and before everything later.
pub fn moment_after(address: SocketAddr) -> String {
    let mut client = Client::new(address);
    let mut asked = 0;
    let mut newest = || {
        asked += 1;
        let body = json!({ "amount": 1 });
        let key = format!("moment-{asked}");
        client.json(&Ask::post("/v1/wallets/moment/deposits", &body).with_key(key));
        text(&client.json(&Ask::get("/v1/wallets/moment/entries?limit=1"))["entries"][0], "at")
    };
    let first = newest();
    loop {
        let later = newest();
        if later > first {
            return later;
        }
    }
}

/// A time of the API, with the offset that was asked for.
fn utc(row: &Value, field: &str) -> Option<jiff::Timestamp> {
    row[field].as_str().map(|at| at.parse().unwrap_or_else(|error| panic!("{at}: {error}")))
}

/// An envelope past the wallets: one share is paid, one is due, and the rest goes back.
fn past_the_wallets(client: &mut Client) -> Vec<Value> {
    let terms = json!({ "sender": "zoe", "total": 300, "shares": 3, "split": "equal",
        "funding": { "reference": "alipay-1" }, "payout": "external" });
    let id = text(&client.json(&Ask::post("/v1/envelopes", &terms).with_key("funded")), "id");
    for user in ["yan", "xia"] {
        for what in ["grab", "claim"] {
            client.json(&Ask::post(format!("/v1/envelopes/{id}/{what}"), &json!({ "user": user })));
        }
    }
    client.json(&Ask::post(format!("/v1/envelopes/{id}/cancel"), &json!({})).with_key("back"));
    let mut payouts = list(client, "/v1/payouts", "payouts");
    let result = json!({ "results": [{ "id": payouts[0]["id"], "state": "paid", "reference": "bank-1" }] });
    client.json(&Ask::post("/v1/payouts/results", &result).with_key("paid"));
    payouts.sort_by_key(|payout| text(payout, "id"));
    assert_eq!(payouts.len(), 3, "{payouts:?}");
    payouts
}

/// Of wallets' movements the story has at least so many.
const KINDS_MIN: usize = 5;

/// Returns once money has moved in so many ways, however slow the machine is.
fn until_money_moves_in(kinds_min: usize, address: SocketAddr) {
    let until = Instant::now() + Duration::from_secs(120);
    let mut client = Client::new(address);
    loop {
        let mut kinds = HashSet::new();
        for name in (0..USERS).map(user) {
            let entries = list(&mut client, &format!("/v1/wallets/{name}/entries"), "entries");
            kinds.extend(entries.iter().map(|entry| text(entry, "kind")));
        }
        if kinds.len() >= kinds_min {
            return;
        }
        assert!(Instant::now() < until, "money has moved by {kinds:?} only");
    }
}

#[test]
fn a_period_is_what_the_api_tells_and_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let data = path("data");
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    let mut book = Book::default();
    let table = Mutex::new(open_table(address, &mut book));
    under_load(address, &table, 1, || until_money_moves_in(KINDS_MIN, address));
    let payouts = past_the_wallets(&mut Client::new(address));
    let to = moment_after(address);
    let before = |row: &Value, field: &str| utc(row, field).is_some_and(|at| at < to.parse().unwrap());

    // Of a server that runs.
    let (ledger, totals) = exported("ledger", &data, &to, &path("ledger.jsonl"));
    let mut client = Client::new(address);
    let audit = client.json(&Ask::get("/v1/audit"));
    under_load(address, &table, 2, || std::thread::sleep(Duration::from_millis(250)));
    let mut by_user: HashMap<String, Vec<&Value>> = HashMap::new();
    for row in &ledger {
        by_user.entry(text(row, "user")).or_default().push(row);
    }
    let mut sums: HashMap<String, u64> = HashMap::new();
    for name in (0..USERS).map(user) {
        let entries = list(&mut client, &format!("/v1/wallets/{name}/entries"), "entries");
        let told: Vec<&Value> = entries.iter().rev().filter(|entry| before(entry, "at")).collect();
        let rows = by_user.remove(&name).unwrap_or_default();
        assert_eq!(rows.len(), told.len(), "{name}");
        for (row, entry) in rows.into_iter().zip(told) {
            assert_eq!(utc(row, "at"), utc(entry, "at"), "{row} {entry}");
            assert!(text(row, "at").ends_with("+08:00"), "{row}");
            let of = ["envelope", "order"].iter().find_map(|of| entry[of].as_str());
            let fields = [&row["kind"], &row["amount_minor"], &row["balance_after_minor"], &row["reference"]];
            assert_eq!(fields, [&entry["kind"], &entry["amount"], &entry["balance_after"], &entry["reference"]]);
            assert_eq!(row["of"].as_str(), of, "{row} {entry}");
            let amount = entry["amount"].as_u64().unwrap();
            assert_eq!(row["amount"], format!("{}.{:02}", amount / 100, amount % 100));
            *sums.entry(text(entry, "kind")).or_default() += amount;
        }
    }
    for row in by_user.remove("moment").expect("there is one who tells moments") {
        *sums.entry("deposit".to_owned()).or_default() += row["amount_minor"].as_u64().unwrap();
    }
    let mut past: Vec<(String, u64)> = Vec::new();
    for name in ["zoe", "yan", "xia"] {
        let rows = by_user.remove(name).unwrap_or_default();
        past.extend(rows.iter().map(|row| (text(row, "kind"), row["amount_minor"].as_u64().unwrap())));
    }
    past.sort();
    let each = |kind: &str, amount| (kind.to_owned(), amount);
    assert_eq!(
        past,
        [each("funding", 300), each("paid", 100), each("payout", 100), each("payout", 100), each("payout", 100)]
    );
    assert!(by_user.is_empty(), "{by_user:?}");
    assert!(sums.len() >= KINDS_MIN, "{sums:?}");
    for (kind, sum) in &sums {
        assert_eq!(totals["sums"][kind]["amount_minor"], *sum, "{kind}: {totals}");
    }
    assert_eq!(totals["rows"], ledger.len());
    assert_eq!(totals["differences"], json!([]));
    let digest = run(Command::new("sha256sum").arg(path("ledger.jsonl")));
    assert!(told(&digest).contains(totals["sha256"].as_str().unwrap()), "{totals}");

    // Nobody decided between the moment and the audit, but for deadlines and the moment's own deposit.
    let accounts = |of: &str| totals["accounts"][of]["closing_minor"].as_i64().unwrap();
    let told = |of: &str| audit[of].as_i64().unwrap();
    let moved = told("escrowed") - accounts("escrow");
    assert_eq!(accounts("external"), told("deposited") - told("withdrawn") - told("paid_out") - 1);
    assert_eq!((accounts("payable"), told("payable")), (200, 200), "{audit} {totals}");
    assert_eq!(accounts("merchants"), told("merchants"), "{audit} {totals}");
    assert_eq!(accounts("wallets"), told("wallets") + moved - 1, "{audit} {totals}");

    // The same of the server later, of a backup, and of the directory when it is stopped.
    let kept = path("backup");
    succeeds(&mut backup(&data, &kept));
    let later = |place: &Path, name: &str| {
        for what in WHAT {
            succeeds(&mut export(what, place, &to, &path(&format!("{what}-{name}.csv"))));
        }
    };
    later(&data, "running");
    later(&kept, "backup");
    let (grabs, _) = exported("grabs", &data, &to, &path("grabs.jsonl"));
    let (envelopes, envelope_totals) = exported("envelopes", &data, &to, &path("envelopes.jsonl"));
    // The server closes connections that ask nothing for a while.
    check_envelopes(&mut Client::new(address), &envelopes, &grabs, &before);
    assert_eq!(envelope_totals["rows"], envelopes.len());
    let (mut rows, payout_totals) = exported("payouts", &data, &to, &path("payouts.jsonl"));
    rows.sort_by_key(|row| text(row, "id"));
    let told = |rows: &[Value], amount: &str| -> Vec<Vec<Value>> {
        rows.iter().map(|row| ["id", "kind", "user", amount, "envelope"].map(|of| row[of].clone()).to_vec()).collect()
    };
    assert_eq!(told(&rows, "amount_minor"), told(&payouts, "amount"));
    let paid: Vec<&Value> = rows.iter().filter(|row| row["paid_at"].is_string()).collect();
    assert!(paid.len() == 1 && paid[0]["reference"] == "bank-1", "{rows:?}");
    assert_eq!(
        [&payout_totals["sums"]["paid"]["amount"], &payout_totals["sums"]["payable"]["amount"]],
        ["1.00", "2.00"]
    );
    assert!(server.stop().0.success());
    later(&data, "stopped");
    for what in WHAT {
        let file = |name: &str| path(&format!("{what}-{name}.csv"));
        let [first, totals] = [file("running"), totals_of(&file("running"))].map(|file| std::fs::read(file).unwrap());
        assert!(first.len() > 300, "{what}");
        for name in ["backup", "stopped"] {
            assert!(std::fs::read(file(name)).unwrap() == first, "{what} of the {name}");
            assert_eq!(std::fs::read(totals_of(&file(name))).unwrap(), totals, "{what} of the {name}");
        }
    }
    let left = |name: &str| name.starts_with(".hongbao-export") || name.ends_with(".part");
    let names = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.map(|name| name.to_string_lossy().into_owned()).all(|name| !left(&name)));
    crate::backup::is_clean(&kept);
}

/// Envelopes and grabs against the API, which tells of now.
fn check_envelopes(client: &mut Client, envelopes: &[Value], grabs: &[Value], before: &dyn Fn(&Value, &str) -> bool) {
    assert!(envelopes.len() > 5 && grabs.len() > 5, "{} {}", envelopes.len(), grabs.len());
    let mut left = grabs.iter().peekable();
    for row in envelopes {
        let id = text(row, "id");
        let view = client.json(&Ask::get(format!("/v1/envelopes/{id}")));
        for field in ["sender", "shares", "split", "message", "reference"] {
            assert_eq!(row[field], view[field], "{field}: {row} {view}");
        }
        assert_eq!(row["total_minor"], view["total"]);
        assert!(before(row, "created_at"), "{row}");
        let told = list(client, &format!("/v1/envelopes/{id}/grabs"), "grabs");
        let (mut taken, mut claimed) = (0, 0);
        for grab in told.iter().filter(|grab| before(grab, "grabbed_at")) {
            let row = left.next().expect("every grab is there");
            assert_eq!(row["envelope"].as_str(), Some(&*id));
            for (field, of) in [("share", "share"), ("user", "user"), ("amount_minor", "amount")] {
                assert_eq!(row[field], grab[of], "{row} {grab}");
            }
            taken += grab["amount"].as_u64().unwrap();
            // It may have been claimed since.
            let was_claimed = before(grab, "claimed_at");
            assert_eq!(row["claimed_at"].is_string(), was_claimed, "{row} {grab}");
            claimed += if was_claimed { grab["amount"].as_u64().unwrap() } else { 0 };
        }
        let [total, remaining, of_claimed, refunded] =
            ["total_minor", "remaining_minor", "claimed_minor", "refunded_minor"].map(|it| row[it].as_u64().unwrap());
        assert_eq!(of_claimed, claimed, "{row}");
        let is_open = row["ended_as"].is_null();
        assert!(!is_open || (remaining, refunded) == (total - taken, 0), "{taken}: {row}");
        assert!(row["state"] != "settled" || claimed + refunded == total, "{row}");
    }
    assert!(left.next().is_none(), "grabs of envelopes that were not made then");
}

#[test]
fn what_cannot_be_exported_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let data = path("data");
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    let formula = json!({ "amount": 7, "reference": "=HYPERLINK(\"http://x\",\"y\")" });
    Client::new(address).json(&Ask::post("/v1/wallets/bob/deposits", &formula).with_key("k"));
    succeeds(&mut backup(&data, &path("backup")));
    let to = moment_after(address);
    assert!(server.stop().0.success());
    let out = path("out.csv");
    succeeds(&mut export("ledger", &data, &to, &out));
    let rows = std::fs::read_to_string(&out).unwrap();
    assert!(rows.contains(",\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\"\r\n"), "{rows}");
    refused(&mut export("ledger", &data, &to, &out), USAGE, &["out.csv", "is there already"]);
    let other = path("other.csv");
    refused(&mut export("ledger", &data, "2999-01-01", &other), USAGE, &["must lie in the past"]);
    refused(&mut export("ledger", &path("backup"), &to, &other), USAGE, &["before it was made"]);
    refused(&mut export("ledger", &data, "2019-01-01", &other), USAGE, &["--to must be after --from"]);
    refused(&mut export("ledger", &data, "soon", &other), USAGE, &["--to: soon is no time"]);
    refused(&mut export("everything", &data, &to, &other), USAGE, &["use ledger"]);
    refused(&mut export("ledger", &path("nothing"), &to, &other), USAGE, &["does not exist"]);
    refused(&mut export("ledger", &data, &to, &data.join("ledger.csv")), USAGE, &["lies in", "--out"]);
    // Somebody writes it at the same time; what somebody has left is begun anew.
    let part = path("other.csv.part");
    std::fs::write(&part, "left".repeat(10_000)).unwrap();
    let writing = std::fs::File::open(&part).unwrap();
    writing.lock().unwrap();
    refused(&mut export("ledger", &data, &to, &other), USAGE, &["is being written by another export"]);
    assert!(part.exists(), "it is the other's");
    drop(writing);
    succeeds(&mut export("ledger", &data, &to, &other));
    assert_eq!(std::fs::read(&other).unwrap(), std::fs::read(&out).unwrap());
    std::fs::remove_file(&other).unwrap();
    assert!(!other.exists());
}

#[test]
fn a_period_with_nothing_in_it_has_its_head_and_nobody_elses_eyes() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (_server, _) = Running::ready(&mut serve(&data, &[]));
    for what in WHAT {
        let [csv, jsonl] = ["csv", "jsonl"].map(|form| directory.path().join(format!("{what}.{form}")));
        succeeds(&mut export(what, &data, "2020-01-02", &csv));
        let (rows, totals) = exported(what, &data, "2020-01-02", &jsonl);
        assert_eq!((rows.len(), &totals["rows"]), (0, &json!(0)), "{what}");
        let head = std::fs::read_to_string(&csv).unwrap();
        assert!(head.ends_with("\r\n") && head.lines().count() == 1 && head.contains(','), "{what}: {head}");
        for file in [&csv, &jsonl, &totals_of(&csv)] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
        }
    }
}
