//! A bank's file beside the payouts: of a server, of its directory, of a backup.

use crate::backup::{backup, succeeds};
use crate::book::text;
use crate::client::{Ask, Client};
use crate::export::{export, moment_after};
use crate::inquiry::list;
use crate::process::{KEY, Running, hongbao, run, serve, told};
use crate::refusals::{USAGE, refused};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Payouts to `users` in their order, of as many fen more than 500 as there are before them.
fn pay_outside(client: &mut Client, users: &[&str]) -> Vec<Value> {
    for (more, user) in users.iter().enumerate() {
        let terms = json!({ "sender": "zoe", "total": 500 + more, "shares": 1, "auto_claim": true,
            "funding": { "reference": format!("in-{user}") }, "payout": "external" });
        let id = text(&client.json(&Ask::post("/v1/envelopes", &terms).with_key(format!("of-{user}"))), "id");
        client.json(&Ask::post(format!("/v1/envelopes/{id}/grab"), &json!({ "user": user })));
    }
    let mut payouts = list(client, "/v1/payouts", "payouts");
    // Those of one millisecond are listed in the order of their ids.
    payouts.sort_by_key(|payout| payout["amount"].as_u64());
    payouts
}

fn tell(client: &mut Client, payout: &Value, state: &str) {
    let id = text(payout, "id");
    let result = json!({ "id": id, "state": state, "reference": format!("bank-{}", text(payout, "user")) });
    let key = format!("{state}-{id}");
    client.json(&Ask::post("/v1/payouts/results", &json!({ "results": [result] })).with_key(key));
}

fn reconcile(file: &Path) -> Command {
    let mut command = hongbao();
    command.args(["reconcile", "payouts"]).arg(file);
    command
}

/// What it finds, with its status.
fn reconciled(command: &mut Command, status: i32) -> Value {
    let output = run(command.args(["--format", "json"]));
    assert_eq!(output.status.code(), Some(status), "{}", told(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&output)))
}

/// What a bank makes of the file that says what to pay: it pays every row, under its id.
fn pay_all(exported: &str) -> String {
    let rows = exported.lines().map(|row| {
        let fields: Vec<&str> = row.split(',').collect();
        // id and amount, by the export's own names of them.
        format!("{},{},ok", fields[0], fields[4])
    });
    rows.collect::<Vec<_>>().join("\r\n") + "\r\n"
}

#[test]
fn what_is_exported_and_paid_is_matched_wherever_it_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let data = path("data");
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    let mut client = Client::new(address);
    let payouts = pay_outside(&mut client, &["yan", "xia", "wen"]);
    let to = moment_after(address);
    succeeds(&mut export("payouts", &data, &to, &path("to-pay.csv")));
    let to_pay = std::fs::read_to_string(path("to-pay.csv")).unwrap();
    assert!(to_pay.starts_with("id,kind,user,amount_minor,amount,"), "{to_pay}");
    let bank = path("bank.csv");
    std::fs::write(&bank, pay_all(&to_pay)).unwrap();

    // The bank is ahead of what it was told.
    let target = format!("http://{address}");
    let of_server = |file: &Path| {
        let mut command = reconcile(file);
        command.args(["--target", &target, "--key", KEY]);
        command
    };
    let found = reconciled(&mut of_server(&bank), 1);
    assert_eq!(found["differences"], json!({ "not_paid_here": { "count": 3, "amount_minor": 1503 } }), "{found}");
    payouts.iter().for_each(|payout| tell(&mut client, payout, "paid"));
    let of_data = |data: &Path| {
        let mut command = reconcile(&bank);
        command.arg("--data").arg(data);
        command
    };
    let of_all = reconciled(&mut of_server(&bank), 0);
    assert_eq!(of_all["matched"], json!({ "count": 3, "amount_minor": 1503 }), "{of_all}");
    assert_eq!(
        [&of_all["bank"], &of_all["currency"], &of_all["listed"]],
        [&of_all["matched"], &json!("CNY"), &json!([])]
    );
    // Of a server that runs, of a backup, of the directory.
    assert_eq!(reconciled(of_data(&data).current_dir(directory.path()), 0), of_all);
    succeeds(&mut backup(&data, &path("backup")));
    assert_eq!(reconciled(&mut of_data(&path("backup")), 0), of_all);
    assert!(server.stop().0.success());
    assert_eq!(reconciled(&mut of_data(&data), 0), of_all);
    let output = run(&mut of_data(&data));
    let said = told(&output);
    for words in
        ["3 payments, 15.03; references in \"id\", amounts in \"amount\" (CNY)", "matched: 3, 15.03", "no differences"]
    {
        assert!(output.status.success() && said.contains(words), "{said}");
    }
    // The export itself has both the id and a column for a reference: the id is ours.
    succeeds(&mut export("payouts", &data, &to, &path("again.csv")));
    assert_eq!(reconciled(reconcile(&path("again.csv")).arg("--data").arg(&data), 0)["matched"], of_all["matched"]);
}

#[test]
fn differences_are_told_and_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let data = path("data");
    let (server, address) = Running::ready(&mut serve(&data, &[]));
    let mut client = Client::new(address);
    let payouts = pay_outside(&mut client, &["yan", "xia", "wen", "uma", "tao"]);
    payouts[..3].iter().for_each(|payout| tell(&mut client, payout, "paid"));
    tell(&mut client, &payouts[3], "sent");
    assert!(server.stop().0.success());
    let bank = path("bank.csv");
    let rows = [
        "Our ref;x,Sum",
        "bank-yan,499",
        "bank-uma,503",
        "bank-uma,503",
        "bank-nobody,7",
        "bank-xia,501",
        "bank-xia,-501",
    ];
    std::fs::write(&bank, format!("\u{feff}{}", rows.join("\r\n"))).unwrap();
    let options = ["--reference-column", "Our ref;x", "--amount-column", "Sum", "--amount-unit", "minor"];
    let of = |extra: &[&str]| {
        let mut command = reconcile(&bank);
        command.arg("--data").arg(&data).args(options).args(extra);
        command
    };
    let out = path("differences.csv");
    let found = reconciled(of(&[]).arg("--out").arg(&out), 1);
    let counts =
        found["differences"].as_object().unwrap().iter().map(|(kind, figure)| format!("{kind} {}", figure["count"]));
    let expected =
        ["amount_differs 1", "missing_here 1", "missing_there 1", "not_paid_here 1", "paid_twice 1", "returned 1"];
    assert_eq!(counts.collect::<Vec<_>>(), expected, "{found}");
    assert_eq!(found["matched"], json!({ "count": 1, "amount_minor": 501 }));
    assert_eq!(found["waiting"]["due"], json!({ "count": 1, "amount_minor": 504 }));
    let written = std::fs::read_to_string(&out).unwrap();
    assert_eq!(written.lines().count(), 1 + found["listed"].as_array().unwrap().len(), "{written}");
    assert!(
        written.contains("not_paid_here,3,bank-uma,") || written.contains("not_paid_here,4,bank-uma,"),
        "{written}"
    );
    // What was told paid in another period is not missed.
    let elsewhere =
        reconciled(&mut of(&["--from", "2020-01-01", "--to", "2020-01-02", "--time-zone", "Asia/Shanghai"]), 1);
    assert!(elsewhere["differences"]["missing_there"].is_null() && elsewhere["matched"]["count"] == 1, "{elsewhere}");
    let said = told(&run(&mut of(&[])));
    for words in [
        "tell paid, before it is paid again",
        "missing_here line=5 reference=\"bank-nobody\" there=0.07",
        "due and not in the file: 1, 5.04",
    ] {
        assert!(said.contains(words), "{said}");
    }

    refused(of(&[]).arg("--out").arg(&out), USAGE, &["is there already"]);
    refused(of(&[]).arg("--out").arg(data.join("out.csv")), USAGE, &["has to stay as it is", "--out"]);
    refused(&mut of(&["--from", "2026-01-02", "--to", "2026-01-01"]), USAGE, &["--to must be after --from"]);
    refused(&mut of(&["--time-zone", "Mars"]), USAGE, &["use an IANA name"]);
    refused(&mut of(&["--target", "http://127.0.0.1:1", "--key", "k"]), USAGE, &["cannot be used with"]);
    refused(
        reconcile(&bank).args(options).args(["--target", "http://127.0.0.1:1"]).env_remove("HONGBAO_KEY"),
        USAGE,
        &["--key"],
    );
    refused(reconcile(&path("none.csv")).arg("--data").arg(&data), USAGE, &["none.csv"]);
    refused(reconcile(&bank).arg("--data").arg(&data), USAGE, &["bank.csv", "name it with --reference-column"]);
    std::fs::write(&bank, "id,amount\npay_1,\"1,234.50\"\n").unwrap();
    refused(
        reconcile(&bank).arg("--data").arg(&data),
        USAGE,
        &["bank.csv: line 2: 1,234.50", "separators of thousands"],
    );
    assert!(!path("differences.csv.part").exists());
}

#[test]
fn a_key_that_does_not_see_all_payouts_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, address) = Running::ready(&mut serve(&directory.path().join("data"), &[]));
    let issuer = json!({ "name": "shop", "roles": ["issuer"] });
    let key = text(&Client::new(address).json(&Ask::post("/v1/keys", &issuer).with_key("made")), "key");
    let bank = directory.path().join("bank.csv");
    std::fs::write(&bank, "id,amount\n").unwrap();
    let target = format!("http://{address}");
    let of_key = |key: &str| {
        let mut command = reconcile(&bank);
        command.args(["--target", &target]).env("HONGBAO_KEY", key);
        command
    };
    refused(&mut of_key(&key), USAGE, &["forbidden", "treasurer"]);
    refused(&mut of_key("hb_wrong"), USAGE, &["unauthorized"]);
    reconciled(&mut of_key(KEY), 0);
}
