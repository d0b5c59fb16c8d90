//! The clients in Python and TypeScript, whose tests are in their own languages.

use crate::server::{KEY, built, clients, start};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

fn run(mut command: Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let told = [&*done.stdout, &*done.stderr].map(String::from_utf8_lossy).concat();
    assert!(done.status.success(), "{command:?}:\n{told}");
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success())
}

#[test]
fn python() {
    if !is_installed("python3") {
        eprintln!("SKIPPED: python3 is not installed, so hongbao.py was not tested: apt-get install python3");
        return;
    }
    let server = start();
    let mut tests = Command::new("python3");
    tests.args(["-B", "-m", "unittest", "-v", "test_hongbao"]).current_dir(clients().join("python"));
    tests.env("HONGBAO_URL", &server.url).env("HONGBAO_KEY", KEY);
    run(tests);
}

/// The compiler, where scripts/test.sh puts it.
fn compiler() -> PathBuf {
    built().parent().unwrap().join("tools/node_modules/.bin/tsc")
}

#[test]
fn typescript() {
    let compiler = compiler();
    if !is_installed("node") || !compiler.exists() {
        let missing = compiler.display();
        eprintln!(
            "SKIPPED: node or {missing} is missing, so hongbao.ts was not tested: install Node 20, then ./scripts/test.sh"
        );
        return;
    }
    let made = TempDir::new().unwrap();
    let directory = clients().join("typescript");
    let mut compile = Command::new(compiler);
    compile.arg("--project").arg(&directory).arg("--outDir").arg(made.path());
    run(compile);
    for file in ["package.json", "test_hongbao.js"] {
        std::fs::copy(directory.join(file), made.path().join(file)).unwrap();
    }
    let server = start();
    let mut tests = Command::new("node");
    tests.args(["--test", "test_hongbao.js"]).current_dir(made.path());
    tests.env("HONGBAO_URL", &server.url).env("HONGBAO_KEY", KEY);
    run(tests);
}
