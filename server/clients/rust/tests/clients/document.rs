//! No client has less than the document, or something else.

use crate::server::clients;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

/// Pages for browsers.
const PAGES: [&str; 2] = ["/", "/docs"];

fn documented() -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(clients().join("../src/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let paths = document["paths"].as_object().unwrap().iter().filter(|(path, _)| !PAGES.contains(&path.as_str()));
    let calls = paths.flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    });
    calls.filter(|(method, _)| method != "PARAMETERS").collect()
}

#[test]
fn every_client_has_every_call_of_the_document() {
    let expected = documented();
    let rust = hongbao_client::OPERATIONS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(rust.collect::<BTreeSet<_>>(), expected, "Rust: run python3 server/clients/generate");
    for (file, open, close) in [("python/hongbao.py", "(\"", "\"),"), ("typescript/hongbao.ts", "[\"", "\"],")] {
        let text = std::fs::read_to_string(clients().join(file)).unwrap();
        let (_, table) = text.split_once("OPERATIONS").unwrap();
        let rows = table.lines().skip(1).map_while(|line| line.trim().strip_prefix(open)?.strip_suffix(close));
        let rows = rows.map(|row| row.split_once("\", \"").unwrap());
        let listed: BTreeSet<_> = rows.map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
        assert_eq!(listed, expected, "{file}: run python3 server/clients/generate");
    }
}

#[test]
fn what_is_generated_is_what_would_be_generated() {
    let Ok(done) = Command::new("python3").arg(clients().join("generate")).arg("--check").output() else {
        eprintln!("SKIPPED: python3 is not installed, so what is generated was not checked: apt-get install python3");
        return;
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
