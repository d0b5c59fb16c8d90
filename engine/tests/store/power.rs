//! A loss of power takes pages of what fjall had not synced, in any order.

use super::audit::findings;
use super::loads;
use super::script::Script;
use hongbao_engine::store::*;
use hongbao_engine::types::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            std::fs::copy(file.path(), target).unwrap();
        }
    }
}

fn journal(directory: &Path) -> PathBuf {
    let files = std::fs::read_dir(directory).unwrap().flatten().map(|file| file.path());
    files.filter(|path| path.extension().is_some_and(|ext| ext == "jnl")).max().unwrap()
}

fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

#[test]
#[cfg_attr(debug_assertions, ignore = "fjall's debug assertions take a torn header for a bug; run with --release")]
fn lost_pages_leave_a_prefix_that_holds_what_was_persisted() {
    let script = Script::of(33, 2500);
    let step = StepLimits { events: 40, ..StepLimits::default() };
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), FjallOptions::default()).unwrap();
    let project = |store: &Store, to: u64| {
        while store.applied_lsn() < Lsn(to) {
            store.project(Lsn(1), script.records[..to as usize].iter().map(Vec::as_slice), step).unwrap();
        }
    };
    project(&store, 1000);
    let persisted = store.persist().unwrap();
    let synced_bytes = written(&std::fs::read(journal(directory.path())).unwrap());
    project(&store, 2500);
    let whole = std::fs::read(journal(directory.path())).unwrap();
    let whole_bytes = written(&whole);
    let pages: Vec<usize> = (synced_bytes.div_ceil(PAGE_BYTES)..whole_bytes / PAGE_BYTES).collect();
    assert!(pages.len() > 20);
    for seed in 0..12u64 {
        let after = tempfile::tempdir().unwrap();
        copy(directory.path(), after.path());
        let mut torn = whole.clone();
        for &page in pages.iter().filter(|&&page| (page as u64 * 7 + seed * 13).is_multiple_of(seed + 2)) {
            torn[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].fill(0);
        }
        std::fs::write(journal(after.path()), &torn).unwrap();
        let store =
            Store::open(after.path(), FjallOptions::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let applied = store.applied_lsn();
        assert!(applied >= persisted, "seed {seed}: {persisted:?} was persisted, {applied:?} is there");
        let expected = Store::over(Arc::new(MemoryRows::default())).unwrap();
        project(&expected, applied.0);
        assert_eq!(store.position(), expected.position());
        assert_eq!(loads(&store, &script), loads(&expected, &script), "seed {seed}");
        assert_eq!(findings(&store), [] as [&str; 0], "seed {seed}");
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "fjall's debug assertions take damage for a bug; run with --release")]
fn a_store_that_cannot_be_opened_is_named_with_the_remedy() {
    let script = Script::of(34, 300);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Store::open(&path, FjallOptions::default()).unwrap();
    store.project(Lsn(1), script.records.iter().map(Vec::as_slice), StepLimits::default()).unwrap();
    drop(store);
    let mut bytes = std::fs::read(journal(&path)).unwrap();
    let envelopes = bytes.windows(12).position(|window| window == "恭喜发财".as_bytes()).unwrap();
    bytes[envelopes] ^= 1;
    std::fs::write(journal(&path), bytes).unwrap();
    let error = Store::open(&path, FjallOptions::default()).err().unwrap().to_string();
    for says in [&*path.to_string_lossy(), "journal is damaged", "hongbao rebuild --data", "backup"] {
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
    assert!(error.contains(&format!("--data {} ", directory.path().display())), "{error}");
}
