//! The files of a run: its summary fits the schema, its page shows it.

use crate::fake::{self, Lies};
use crate::program::{Outcome, run, run_small};
use serde_json::Value;
use std::process::Command;

const SCHEMA: &str = include_str!("../../summary.schema.json");

/// Checks `value` against the keywords of JSON Schema that ours uses; any other is a mistake in it.
fn fit(root: &Value, schema: &Value, value: &Value, at: &str, misfits: &mut Vec<String>) {
    for (keyword, bound) in schema.as_object().unwrap() {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "$ref" => {
                let pointer = bound.as_str().unwrap().strip_prefix('#').unwrap();
                fit(root, root.pointer(pointer).unwrap(), value, at, misfits);
            }
            "type" => {
                let is = |name: &Value| match name.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64() || value.is_i64(),
                    other => panic!("{at}: type {other}"),
                };
                let fits = bound.as_array().map_or_else(|| is(bound), |names| names.iter().any(is));
                misfits.extend((!fits).then(|| format!("{at}: {value} is not {bound}")));
            }
            "minimum" => {
                let fits = value.as_f64().is_none_or(|number| number >= bound.as_f64().unwrap());
                misfits.extend((!fits).then(|| format!("{at}: {value} is below {bound}")));
            }
            "enum" => {
                let fits = bound.as_array().unwrap().contains(value);
                misfits.extend((!fits).then(|| format!("{at}: {value} is none of {bound}")));
            }
            "anyOf" => {
                let fits = bound.as_array().unwrap().iter().any(|one| {
                    let mut misfits = Vec::new();
                    fit(root, one, value, at, &mut misfits);
                    misfits.is_empty()
                });
                misfits.extend((!fits).then(|| format!("{at}: {value} fits none of {bound}")));
            }
            "required" => {
                let missing =
                    bound.as_array().unwrap().iter().filter(|name| value.get(name.as_str().unwrap()).is_none());
                misfits.extend(missing.map(|name| format!("{at}: {name} is missing")));
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    fit(root, bound, item, &format!("{at}/{n}"), misfits);
                }
            }
            "properties" => {
                for (name, property) in bound.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        fit(root, property, value, &format!("{at}/{name}"), misfits);
                    }
                }
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.contains_key(name)) {
                        continue;
                    }
                    if bound == false {
                        misfits.push(format!("{at}: {name} is not in the schema"));
                    } else {
                        fit(root, bound, value, &format!("{at}/{name}"), misfits);
                    }
                }
            }
            other => panic!("{at}: the schema uses {other}, which this test does not know"),
        }
    }
}

/// What about a summary does not fit the committed schema.
pub(crate) fn misfits(summary: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut misfits = Vec::new();
    fit(&schema, &schema, summary, "", &mut misfits);
    misfits
}

#[test]
fn a_summary_fits_its_schema() {
    let nothing: [String; 0] = [];
    for (lies, arguments) in [
        (Lies::default(), &["hot", "--shares", "500", "--threshold", "p99<10s,errors<1%"][..]),
        (Lies::default(), &["mixed", "--shares", "300", "--envelopes", "30", "--stock", "3"]),
        (Lies { sheds_every: Some(20), forgets_win_every: Some(50), ..Lies::default() }, &["hot", "--shares", "500"]),
        (Lies::default(), &["groups", "--envelopes", "5", "--chaos-at", "100ms", "--chaos-command", "exit 3"]),
    ] {
        let done = run_small(lies, arguments);
        assert_eq!(misfits(&done.summary), nothing, "{}", done.summary);
    }
}

#[test]
fn the_schema_refuses_what_does_not_fit() {
    let done = run_small(Lies::default(), &["hot", "--shares", "100"]);
    for (name, value) in [
        ("offered_per_s", Value::Null),
        ("audit", serde_json::json!({"ok": true})),
        ("limit", serde_json::json!({"what": "luck", "why": ""})),
        ("extra", Value::from(1)),
        ("errors", Value::from(-1)),
        ("wins", Value::from(1.5)),
    ] {
        let mut summary = done.summary.clone();
        summary[name] = value;
        assert!(!misfits(&summary).is_empty(), "{name}");
    }
}

/// The elements of a page, each closed in its order, or void; with their attributes.
fn elements(page: &str) -> Vec<String> {
    const VOID: [&str; 2] = ["!DOCTYPE", "meta"];
    let (mut elements, mut open) = (Vec::new(), Vec::new());
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "after {elements:?}");
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap().to_owned();
        if !tag.ends_with('/') && !VOID.contains(&name.as_str()) {
            open.push(name);
        }
        elements.push(tag.to_owned());
    }
    assert!(open.is_empty(), "{open:?} is not closed");
    elements
}

fn page(done: &Outcome) -> String {
    std::fs::read_to_string(done.out.path().join("report.html")).unwrap()
}

#[test]
fn the_page_shows_the_summary_and_needs_nothing_else() {
    let lies = Lies { loses_replies_every: Some(100), ..Lies::default() };
    let done = run_small(lies, &["hot", "--shares", "500", "--threshold", "p50<10s"]);
    let page = page(&done);
    let elements = elements(&page);
    for chart in ["latency-by-time", "latency-by-percentile", "rates", "wins"] {
        assert!(elements.contains(&format!("figure id=\"{chart}\"")), "{elements:?}");
    }
    for line in ["p50", "p99", "max", "latency", "offered", "answers", "errors", "wins", "sold out"] {
        let drawn = elements.iter().find(|element| element.contains(&format!("data-line=\"{line}\"")));
        let points = drawn.unwrap().matches(['M', 'L']).count();
        assert!(points >= 1, "{line} is empty: {drawn:?}");
    }
    assert!(!page.contains("://") || page.matches("://").count() == page.matches("http://127.0.0.1").count(), "{page}");
    assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("@import"), "{page}");
    let json = page.split("id=\"summary\">").nth(1).unwrap().split("</script>").next().unwrap();
    assert_eq!(serde_json::from_str::<Value>(json).unwrap(), done.summary);
    for shown in
        ["/offered", "/answered", "/wins", "/sold_outs", "/errors", "/late_starts", "/latency_us/p99", "/audit/checked"]
    {
        let number = done.summary.pointer(shown).unwrap().to_string();
        assert!(page.split("<script").next().unwrap().contains(&number), "{shown} {number} is not shown");
    }
    assert!(page.contains("Audit ok") && page.contains("Threshold met"), "{page}");
}

#[test]
fn a_page_with_hostile_words_is_still_a_page() {
    // The lie's words come from the server; a target's name could be anything.
    let lies = Lies { forgets_win_every: Some(10), sheds_every: Some(7), ..Lies::default() };
    let done = run_small(lies, &["hot", "--shares", "500", "--users", "5000"]);
    let page = page(&done);
    elements(&page);
    assert!(page.contains("Audit FAILED") && page.contains("an acknowledged win was forgotten"), "{page}");
    assert!(page.contains("&lt;b&gt;too much&lt;/b&gt;"), "{page}");
}

#[test]
fn nothing_is_drawn_on_a_pipe() {
    let done = run_small(Lies::default(), &["hot", "--shares", "100"]);
    assert_eq!(done.stderr, "", "{}", done.tell());
    assert!(!done.stdout.contains('\u{1b}'), "{}", done.tell());
}

#[test]
fn a_printed_scenario_can_be_changed_and_run() {
    let fake = fake::start(Lies::default());
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("evening.toml");
    let printed = Command::new(env!("CARGO_BIN_EXE_hongbao-load")).args(["scenario", "mixed"]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let mut text = String::from_utf8(printed.stdout).unwrap();
    let stages = text.find("[[stages]]").unwrap();
    let mix = text.find("[mix]").unwrap();
    // A rush at the beginning, a ramp, and quiet.
    let own = "[[stages]]\nat_once = 300\nrate = 500\nto = 1500\nduration = \"1s\"\n\n[[stages]]\nrate = 100\nduration = \"500ms\"\n\n";
    text.replace_range(stages..mix, own);
    let text =
        text.replace("name = \"mixed\"", "name = \"evening\"").replace("thresholds = []", "thresholds = [\"max<1h\"]");
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let done = run(&fake.url, &[path, "--shares", "300", "--envelopes", "30", "--stock", "3", "--users", "500"]);
    assert_eq!(done.code, Some(0), "{}", done.tell());
    assert_eq!(done.number("/offered"), 300.0 + 1000.0 + 50.0, "{}", done.tell());
    assert_eq!((done.summary["scenario"].as_str(), done.number("/duration_s")), (Some("evening"), 1.5));
    assert_eq!(done.summary["thresholds"][0]["met"], true);
    let due: Vec<f64> =
        done.summary["by_second"].as_array().unwrap().iter().map(|s| s["offered"].as_f64().unwrap()).collect();
    assert_eq!(due[..2], [1300.0, 50.0], "{}", done.tell());
    // With a rate it has one stage.
    let done = run(&fake.url, &[path, "--rate", "400", "--duration", "1s", "--shares", "300", "--envelopes", "30"]);
    assert_eq!((done.code, done.number("/offered")), (Some(0), 400.0), "{}", done.tell());
    for wrong in [&["--duration", "1s"][..], &["--spike", "1s"], &["--users", "50"]] {
        let done = run(&fake.url, &[&[path][..], wrong].concat());
        assert_eq!(done.code, Some(2), "{}", done.tell());
    }
    std::fs::write(&file, "name = \"x\"\nstages = 5\n").unwrap();
    let done = run(&fake.url, &[path]);
    assert_eq!(done.code, Some(2), "{}", done.tell());
    assert!(done.stderr.contains("evening.toml") && done.stderr.contains("line 2"), "{}", done.tell());
}

#[test]
fn find_ends_at_the_knee() {
    // A server that serves 16 connections with 4 ms each has its knee at 4000 a second.
    let fake = fake::start(Lies { takes: Some(std::time::Duration::from_millis(4)), ..Lies::default() });
    let directory = tempfile::TempDir::new().unwrap();
    let out = directory.path().to_str().unwrap();
    let find = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hongbao-load"));
        program.args(["find", "hot", "--target", &fake.url, "--key", "k", "--connections", "16", "--shares", "200"]);
        program.args(["--users", "300", "--precision", "50", "--duration", "1s", "--out", out]).args(arguments);
        program.output().unwrap()
    };
    let done = find(&["--rate", "500", "--rate-max", "64000", "--threshold", "p90<400ms"]);
    let stdout = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{stdout}");
    let found: Value = serde_json::from_slice(&std::fs::read(directory.path().join("find.json")).unwrap()).unwrap();
    let rate = found["rate_per_s"].as_f64().unwrap();
    // Never above what is possible; how near depends on the machine.
    assert!((1.0..=5800.0).contains(&rate), "{rate}: {stdout}");
    let tries = found["tries"].as_array().unwrap();
    assert!(tries.last().unwrap()["confirms"] == true && tries.last().unwrap()["holds"] == true, "{stdout}");
    assert!(found["fails_at_per_s"].as_f64().unwrap() > rate, "{stdout}");
    assert!(stdout.contains("highest rate that holds") && stdout.contains("knee: from"), "{stdout}");
    assert!(stdout.contains("saturated: "), "{stdout}");
    assert!(directory.path().join("try-01").join("summary.json").exists());
    let done = find(&["--rate", "2", "--threshold", "p50<1us"]);
    assert_eq!(done.status.code(), Some(99), "{done:?}");
    assert_eq!(find(&[]).status.code(), Some(2));
    assert_eq!(find(&["--threshold", "p50<1s", "--allow-live", "--budget", "1000000"]).status.code(), Some(2));
    assert_eq!(find(&["--threshold", "p50<1s", "--start-at", "2030-01-01T00:00:00Z"]).status.code(), Some(2));
}
