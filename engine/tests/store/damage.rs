//! A byte that changes in a file of the store: whoever finds it says how the
//! store is made anew.

use super::script::{Script, user};
use hongbao_engine::store::*;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    found.sort();
    found
}

fn flip(path: &Path, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let place = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(&file, place).unwrap();
    }
}

/// Opens the store and reads what a start and a few questions read.
fn look(directory: &Path, script: &Script) -> Result<(), StoreError> {
    let store = Store::open(directory, FjallOptions::default())?;
    store.live_envelopes(|_, winners| {
        for win in winners {
            win?;
        }
        Ok(())
    })?;
    store.items(|item| {
        for units in item.units {
            units?;
        }
        Ok(())
    })?;
    store.merchants(|_, _| Ok(()))?;
    (0..8).try_for_each(|n| store.wallet(&user(n)).map(drop))?;
    script.envelope_ids().into_iter().try_for_each(|id| store.envelope(id).map(drop))?;
    script.hold_ids().into_iter().try_for_each(|id| store.hold(id).map(drop))
}

#[test]
fn whoever_finds_a_flipped_byte_names_the_remedy() {
    let mut script = Script::of(81, 600);
    let directory = tempfile::tempdir().unwrap();
    let sound = directory.path().join("sound");
    {
        let store = Store::open(&sound, FjallOptions::default()).unwrap();
        for batch in script.batches() {
            store.project(batch.first_lsn(), batch.records(), StepLimits::default()).unwrap();
        }
        store.checkpoint().unwrap();
    }
    look(&sound, &script).unwrap();
    let (mut at_open, mut at_read) = (0, 0);
    let in_tables = |path: &PathBuf| path.parent().unwrap().ends_with("tables");
    for file in files(&sound).into_iter().filter(in_tables) {
        let length = file.metadata().unwrap().len();
        // The beginning, the middle, and where a file says what is where in it.
        for offset in [10, length / 2, length.saturating_sub(90), length - 3] {
            let damaged = directory.path().join("damaged");
            copy(&sound, &damaged);
            let flipped = damaged.join(file.strip_prefix(&sound).unwrap());
            flip(&flipped, offset);
            if let Err(error) = look(&damaged, &script) {
                let counted = if matches!(error, StoreError::Unopened { .. }) { &mut at_open } else { &mut at_read };
                *counted += 1;
                let (says, place) = (error.to_string(), flipped.display());
                for word in ["hongbao rebuild", "backup"] {
                    assert!(says.contains(word), "{place} at {offset}: {says}");
                }
            }
            std::fs::remove_dir_all(&damaged).unwrap();
        }
    }
    assert!(at_open > 0 && at_read > 0, "{at_open} {at_read}");
}
