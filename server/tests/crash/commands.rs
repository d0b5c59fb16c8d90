//! The other things the binary does.

use crate::process::{Running, hongbao, run, told};
use serde_json::Value;
use std::process::Command;

#[test]
fn split_prints_the_same_for_the_same_seed() {
    let seed = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let split = |arguments: &[&str]| {
        let output = run(hongbao().args(["split", "--total", "10000", "--shares", "10"]).args(arguments));
        assert!(output.status.success(), "{}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    for rule in ["lucky", "uniform", "equal"] {
        let once = split(&["--rule", rule, "--seed", seed]);
        assert_eq!(once, split(&["--rule", rule, "--seed", seed]));
        let shares: Vec<u64> = once.lines().next().unwrap().split(' ').map(|share| share.parse().unwrap()).collect();
        assert_eq!((shares.len(), shares.iter().sum()), (10, 10_000), "{rule}: {once}");
    }
    // The seed that is printed is the one that was used.
    let random = split(&["--rule", "lucky"]);
    let used = random.lines().find_map(|line| line.strip_prefix("seed ")).unwrap();
    assert_eq!(random, split(&["--rule", "lucky", "--seed", used]));
    assert_ne!(random, split(&["--rule", "lucky"]), "a seed of its own each time");
    assert!(split(&["--rule", "lucky", "--count", "2000", "--seed", seed]).contains("fair: "));
}

#[test]
fn wrong_use_ends_with_status_2() {
    for line in [
        "",
        "dance",
        "serve --currency yen",
        "serve --backend redis",
        "serve --backend redis --redis redis://127.0.0.1:1 --archive somewhere",
        "serve --redis-archive somewhere",
        "serve --backend redis --redis redis://127.0.0.1:1 --redis-archive-after-s -1",
        "split --total 10",
        "split --total 5 --shares 10 --rule lucky",
    ] {
        let output = run(hongbao().args(line.split_whitespace()));
        assert_eq!(output.status.code(), Some(2), "{line}: {}", told(&output));
    }
}

#[test]
fn a_demo_serves_what_it_prints_and_leaves_nothing() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: there is no curl to paste into");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut demo = hongbao();
    demo.args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", directory.path()).env_remove("HONGBAO_ADMIN_KEY");
    let (server, _) = Running::ready(&mut demo);
    let pasted = server.printed(|text| {
        let is_pasted = |line: &&str| {
            ["export ", "curl ", "HOLD=", "GIFT=", "TOGETHER="].iter().any(|start| line.starts_with(start))
        };
        let lines = text.lines().filter(is_pasted);
        text.contains("Ctrl-C").then(|| lines.collect::<Vec<_>>().join(" && echo &&\n"))
    });
    let output = run(Command::new("sh").args(["-c", &pasted]).env("no_proxy", "*"));
    assert!(output.status.success(), "{pasted}\n{}", told(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let answers: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [mass, claimed, group, grabs, held, bought, gift, together, wallet, received, audit] = &answers[..] else {
        panic!("{text}")
    };
    let outcomes = [mass, claimed, group, held, bought].map(|answer| answer["outcome"].as_str().unwrap_or_default());
    assert_eq!(outcomes, ["won", "claimed", "won", "held", "claimed"], "{text}");
    assert_eq!(mass["amount"], claimed["amount"], "{text}");
    assert_eq!(grabs["grabs"][0]["user"], "bob", "{text}");
    assert_eq!(received["grabs"].as_array().map(Vec::len), Some(2), "{text}");
    let won = mass["amount"].as_u64().unwrap() + group["amount"].as_u64().unwrap();
    let [price, given] = [held, gift].map(|answer| answer["amount"].as_u64().unwrap());
    assert_eq!(gift["state"], "accepted", "{text}");
    assert_eq!((&together["outcome"], &together["state"]), (&"joined".into(), &"full".into()), "{text}");
    let each = together["price"].as_u64().unwrap();
    assert_eq!(wallet["available"].as_u64(), Some(500_000 + won - price - given - each), "{text}");
    assert_eq!(audit["balanced"], true, "{text}");

    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "all of it is in one directory");
    let (status, log) = server.stop();
    assert!(status.success(), "{status}:\n{log}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing of it is kept");
}
