//! What `docs/compose` and `docs/operations` name is there: no Docker engine, no systemd and no
//! Prometheus run it in the tests.

#![allow(missing_docs, unreachable_pub, reason = "nothing outside reads this crate")]

#[path = "crash/client.rs"]
#[allow(dead_code, reason = "only metrics are asked for")]
mod client;
#[path = "crash/process.rs"]
#[allow(dead_code, reason = "not all that the crash tests do is done here")]
mod process;
#[path = "../../engine/tests/redis_stand/mod.rs"]
mod redis_stand;

use clap::{CommandFactory, Parser};
use client::{Ask, Client};
use hongbao_server::config::{BackendName, Cli, Serve, Task};
use process::{Running, serve};
use redis_stand::{RedisServer, ServerOptions, is_missing};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn docs(file: &str) -> PathBuf {
    top().join("docs").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(docs(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

const ALERTS: &str = "operations/alerts.yaml";
const DASHBOARD: &str = "compose/grafana/dashboards/hongbao.json";
const RUNBOOK: &str = "OPERATIONS.md";

/// The metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("hongbao_")).map(str::to_owned).collect()
}

/// What each expression of the dashboard asks for.
fn dashboard() -> BTreeSet<String> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets.flat_map(|target| metrics_in(target["expr"].as_str().expect("an expression"))).collect()
}

/// The metrics of a server, and the names of its series.
fn metrics_of(command: &mut Command) -> (String, BTreeSet<String>) {
    let (running, address) = Running::ready(command);
    let text = Client::new(address).send(&Ask::get("/metrics")).expect("it answers").body;
    let (status, log) = running.stop();
    assert!(status.success(), "{log}");
    let mut names = BTreeSet::new();
    for head in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = head.split_once(' ').expect("a name and a kind");
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
    }
    (text, names)
}

#[test]
fn whatever_is_asked_for_a_server_tells() {
    let place = tempfile::tempdir().expect("a directory");
    let (text, known) = metrics_of(&mut serve(&place.path().join("data"), &[]));
    let known_there = metrics_in_front_of_redis(&place.path().join("keys"));
    for (file, named) in [
        (ALERTS, metrics_in(&read(ALERTS))),
        (DASHBOARD, dashboard()),
        (RUNBOOK, metrics_in(&read(RUNBOOK))),
        ("../README.md", metrics_in(&read("../README.md"))),
        ("SCALING.md", metrics_in(&read("SCALING.md"))),
    ] {
        assert!(!named.is_empty(), "{file} names none");
        // The library's name is like a metric's.
        for name in named.iter().filter(|&name| name != "hongbao_engine") {
            let is_of = |part: &str| name.starts_with(&format!("hongbao_{part}"));
            let (of_directory, of_redis) = (["engine_", "journal_", "data_"].into_iter().any(is_of), is_of("archive"));
            assert!(of_redis || known.contains(name), "{file} names {name}, which an embedded server does not tell");
            let is_told = known_there.as_ref().is_none_or(|there| there.contains(name));
            assert!(of_directory || is_told, "{file} names {name}, which a server in front of Redis does not tell");
        }
    }
    // Of what has these labels every value is told from the start.
    let alerts = read(ALERTS);
    for label in ["code", "outcome"] {
        let begin = format!("{label}=");
        let asked = alerts.split(&begin).skip(1);
        let values: Vec<&str> = asked.flat_map(|rest| rest.split('"').nth(1).expect("a value").split('|')).collect();
        assert!(!values.is_empty(), "no alert asks for a {label}");
        for value in values {
            assert!(text.contains(&format!("{label}=\"{value}\"")), "no {label} {value}");
        }
    }
}

/// What a server in front of Redis tells, if there is a Redis here.
fn metrics_in_front_of_redis(keys: &Path) -> Option<BTreeSet<String>> {
    if is_missing() {
        return None;
    }
    let redis = RedisServer::start(ServerOptions::default());
    Some(metrics_of(&mut serve(keys, &["--backend", "redis", "--redis", &redis.url()])).1)
}

#[test]
fn the_dashboard_shows_what_alerts_are_made_of() {
    let (alerts, shown) = (metrics_in(&read(ALERTS)), dashboard());
    let lacking: Vec<_> = alerts.difference(&shown).collect();
    assert!(lacking.is_empty(), "{DASHBOARD} lacks {lacking:?}");
}

#[test]
fn each_alert_has_its_section_and_each_section_its_alert() {
    let (alerts, runbook) = (read(ALERTS), read(RUNBOOK));
    let named: BTreeSet<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let sections: Vec<&str> = runbook.split("\n### ").skip(1).collect();
    let titles: BTreeSet<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    let titles: BTreeSet<&str> = titles.into_iter().filter(|title| title.starts_with("Hongbao")).collect();
    assert!(named.len() > 10, "{named:?}");
    assert_eq!(named, titles);
    for section in sections.iter().filter(|section| section.starts_with("Hongbao")) {
        for part in ["**Means**", "**Look**", "**Do**", "**Ends**"] {
            assert!(section.contains(part), "no {part} in {section}");
        }
    }
    for name in named {
        let rule = alerts.split(&format!("- alert: {name}\n")).nth(1).and_then(|rest| rest.split("\n\n").next());
        let rule = rule.expect("a rule");
        let link = format!("runbook: docs/{RUNBOOK}#{}", name.to_lowercase());
        assert!(rule.lines().any(|line| line.trim() == link), "{name} does not lead to {link}");
        for part in ["expr: ", "labels: {severity: ", "summary: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
    }
}

/// What a program says is told in “these quotes”, without what varies.
#[test]
fn what_the_runbook_quotes_is_said() {
    let runbook = read(RUNBOOK).split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted: Vec<&str> = runbook.split('“').skip(1).map(|rest| rest.split('”').next().unwrap_or(rest)).collect();
    assert!(quoted.len() > 10, "{quoted:?}");
    let mut said = String::new();
    for source in ["engine/src", "server/src"] {
        collect_sources(&top().join(source), &mut said);
    }
    for text in quoted {
        assert!(said.contains(text), "nothing says {text:?}");
    }
}

/// All sources below a directory, without the breaks of long literals.
fn collect_sources(directory: &Path, into: &mut String) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_sources(&path, into);
        } else if path.extension().is_some_and(|it| it == "rs" || it == "lua") {
            let text = std::fs::read_to_string(&path).expect("a text");
            let lines = text.lines().map(|line| line.trim_start());
            lines.for_each(|line| match line.strip_suffix('\\') {
                Some(begun) => into.push_str(begun),
                None => into.extend([line, "\n"]),
            });
        }
    }
}

/// The commands in the runbook's blocks have the binary's words.
#[test]
fn the_runbooks_commands_exist() {
    let runbook = read(RUNBOOK);
    let command = Cli::command();
    let tasks: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    let mut checked = BTreeSet::new();
    for line in runbook.split("```").skip(1).step_by(2).flat_map(str::lines) {
        let line = line.split(" #").next().unwrap_or(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        let begins = words.windows(2).position(|pair| pair[0].ends_with("hongbao") && tasks.contains(&pair[1]));
        if let Some(at) = begins {
            Cli::try_parse_from(&words[at..]).unwrap_or_else(|error| panic!("{line}: {error}"));
            checked.insert(words[at + 1]);
        }
    }
    for task in ["audit", "backup", "restore", "export", "rebuild", "clock", "reconcile", "top"] {
        assert!(checked.contains(task), "the runbook has no hongbao {task}, only {checked:?}");
    }
}

/// The values of a directive of the unit.
fn directive<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

fn options_of(words: &[&str]) -> Serve {
    let words = ["hongbao"].iter().chain(words).map(Into::into).collect();
    match Cli::from_words(words).unwrap_or_else(|error| panic!("{error}")).task {
        Task::Serve(options) => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_unit_and_its_options_fit() {
    let unit = read("operations/hongbao.service");
    let [started] = directive(&unit, "ExecStart")[..] else { panic!("one ExecStart") };
    let file = docs("operations/hongbao.toml");
    let words = started.strip_prefix("/usr/local/bin/hongbao ").expect("the binary");
    let words = words.replace("/etc/hongbao/hongbao.toml", file.to_str().expect("a path of text"));
    let options = options_of(&words.split(' ').collect::<Vec<_>>());

    let number = |name: &str| {
        let [value] = directive(&unit, name)[..] else { panic!("one {name}") };
        value.trim_end_matches('s').parse::<u64>().unwrap_or_else(|error| panic!("{name}={value}: {error}"))
    };
    assert!(number("LimitNOFILE") >= u64::from(options.connections_max) + 512);
    assert!(number("TimeoutStopSec") > options.drain_s + 60);
    assert_eq!(directive(&unit, "StateDirectory"), ["hongbao"]);
    assert_eq!(options.data, Path::new("/var/lib/hongbao"));
    assert!(options.admin_listen.is_some() && options.backend == BackendName::Embedded);

    // What is proposed in comments is in order too.
    let text = std::fs::read_to_string(&file).expect("the file");
    let proposed = |line: &str| line.strip_prefix("# ").is_some_and(|rest| rest.contains(" = ")).then_some(2);
    let lines = text.lines().map(|line| &line[proposed(line).unwrap_or(0)..]);
    let place = tempfile::tempdir().expect("a directory");
    let whole = place.path().join("hongbao.toml");
    std::fs::write(&whole, lines.collect::<Vec<_>>().join("\n")).expect("it is written");
    let options = options_of(&["serve", "--config", whole.to_str().expect("a path of text")]);
    assert!(options.archive.is_some() && options.backend == BackendName::Redis && options.redis.len() == 2);
}

#[test]
fn files_that_are_mounted_are_there() {
    let compose = read("compose/compose.yaml");
    let volumes = compose.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split_once(':'));
    let mounted: Vec<_> = volumes.map(|(file, _)| file).filter(|file| file.starts_with('.')).collect();
    assert_eq!(mounted.len(), 5, "{mounted:?}");
    for file in mounted {
        assert!(docs("compose").join(file).exists(), "{file}");
    }
    assert!(compose.contains("dockerfile: docs/compose/Dockerfile") && docs("compose/Dockerfile").exists());
    assert!(read("compose/prometheus.yaml").contains("- alerts.yaml"));
}

/// The options that the servers are started with are those of the binary.
#[test]
fn the_servers_options_exist() {
    let compose = read("compose/compose.yaml");
    let options =
        compose.lines().skip_while(|line| line.trim() != "- serve").map_while(|line| line.trim().strip_prefix("- "));
    let line: Vec<_> = ["hongbao"].into_iter().chain(options).collect();
    assert!(line.len() > 4, "{line:?}");
    Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
}
