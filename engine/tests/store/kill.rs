//! A process that is killed while it projects leaves whole commits and nothing else.

use super::audit::findings;
use super::loads;
use super::script::Script;
use hongbao_engine::store::*;
use hongbao_engine::types::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

const DIRECTORY: &str = "HONGBAO_TEST_STORE";
const SEED: u64 = 21;
const RECORDS: usize = 3000;

fn project(store: &Store, script: &Script, records: usize, mut told: impl FnMut()) {
    let step = StepLimits { events: 7, ..StepLimits::default() };
    let records = || script.records[..records].iter().map(Vec::as_slice);
    while store.project(Lsn(1), records(), step).unwrap().records > 0 {
        told();
    }
}

#[test]
#[ignore = "the process that the next test kills"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    // Killed at a checkpoint as well.
    let options = FjallOptions { journal_bytes: 64 << 10, ..FjallOptions::default() };
    let store = Store::open(directory.as_ref(), options).unwrap();
    println!();
    project(&store, &Script::of(SEED, RECORDS), RECORDS, || println!("applied {}", store.applied_lsn().0));
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_process_leaves_a_prefix_of_whole_commits() {
    let script = Script::of(SEED, RECORDS);
    let directory = tempfile::tempdir().unwrap();
    for kill_at in [1, 40, 150, 300] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "kill::child", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let told = lines
            .filter_map(|line| line.strip_prefix("applied ")?.parse().ok())
            .find(|&applied: &u64| applied >= kill_at);
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(directory.path(), FjallOptions::default()).unwrap();
        let applied = store.applied_lsn().0;
        assert!(Some(applied) >= told, "{told:?} was committed, {applied} is there");
        let expected = Store::over(Arc::new(MemoryRows::default())).unwrap();
        project(&expected, &script, applied as usize, || ());
        assert_eq!(store.position(), expected.position());
        assert_eq!(loads(&store, &script), loads(&expected, &script), "at {applied}");
        assert_eq!(findings(&store), [] as [&str; 0]);
    }
}
