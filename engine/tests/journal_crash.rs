//! The journal under crashes, kills and failing calls, from seeds.
//!
//! The model is a list of records. Whatever happens to the disk, a start must
//! replay a prefix of what was staged, at least up to what was acknowledged.

mod journal_support;

use hongbao_engine::journal::{Class, Journal, JournalError, JournalOptions, Mutants, Recovery};
use hongbao_engine::storage::Storage;
use hongbao_engine::storage::faulty::{Fault, FaultyDisk};
use hongbao_engine::types::Lsn;
use journal_support::random::Random;
use journal_support::{open, options, record_of};
use std::sync::Arc;

/// What must be true of the journal.
struct Model {
    /// What was staged, LSN 1 first; the life it was staged in tells records of one LSN apart.
    staged: Vec<Vec<u8>>,
    acknowledged: u64,
    /// What the store has persisted.
    applied: u64,
    lives: u64,
    closed: bool,
}

impl Model {
    fn check(&mut self, recovery: &Recovery, seen: &[(u64, Vec<u8>)]) -> Result<(), String> {
        let last = recovery.last_lsn.0;
        if last < self.acknowledged {
            return Err(format!("LSN {} was acknowledged, but the journal ends at {last}", self.acknowledged));
        }
        if last > self.staged.len() as u64 {
            return Err(format!("LSN {last} was never staged"));
        }
        if !seen.iter().map(|(lsn, _)| *lsn).eq(self.applied + 1..=last) {
            return Err(format!("not every LSN from {} to {last} was replayed once, in order", self.applied + 1));
        }
        if let Some((lsn, _)) = seen.iter().find(|(lsn, bytes)| self.staged[*lsn as usize - 1] != *bytes) {
            return Err(format!("LSN {lsn} was replayed as something else than was staged"));
        }
        if self.closed && !recovery.clean_shutdown {
            return Err("a clean shutdown was not recognised".to_owned());
        }
        if self.closed && last != self.staged.len() as u64 {
            return Err("a clean shutdown lost records".to_owned());
        }
        self.staged.truncate(last as usize);
        self.acknowledged = last;
        self.closed = false;
        Ok(())
    }
}

/// Starts the journal, with calls that fail and crashes on the way.
fn start(
    disk: &FaultyDisk,
    options: &JournalOptions,
    model: &mut Model,
    random: &mut Random,
) -> Result<Journal, String> {
    for attempt in 0.. {
        if attempt < 3 && random.below(3) == 0 {
            let fault = random.pick(&[Fault::Eio, Fault::NoSpace, Fault::ShortWrite, Fault::PowerCut]);
            disk.fail_call(1 + random.below(40), fault, random.below(2) == 0);
        }
        let opened = open(disk, options.clone(), Lsn(model.applied));
        if random.below(2) == 0 {
            disk.heal();
        }
        match opened {
            Ok((journal, recovery, seen)) => {
                disk.heal();
                model.check(&recovery, &seen)?;
                return Ok(journal);
            }
            Err(JournalError::Io { .. }) if attempt < 3 => {
                disk.set_capacity(None);
                // The marker may be gone by now; whatever else was true must still be.
                model.closed = false;
                model.acknowledged = model.acknowledged.min(model.staged.len() as u64);
                if random.below(2) == 0 {
                    disk.crash();
                } else {
                    disk.heal();
                }
                if attempt == 2 {
                    disk.crash();
                }
            }
            Err(error) => return Err(format!("recovery refused: {error}")),
        }
    }
    unreachable!("the loop returns")
}

fn run(seed: u64, mutants: Mutants) -> Result<(), String> {
    let random = &mut Random(seed);
    let disk = FaultyDisk::new(random.next());
    let archive = (random.below(3) == 0).then(|| FaultyDisk::new(random.next()));
    let options = JournalOptions {
        mutants,
        spare_segments: 1 + random.below(2) as usize,
        ballast_bytes: random.below(2) * 80_000,
        archive: archive.clone().map(|archive| Arc::new(archive) as Arc<dyn Storage>),
        ..options()
    };
    let mut model = Model { staged: Vec::new(), acknowledged: 0, applied: 0, lives: 0, closed: false };
    for _ in 0..6 {
        let journal = start(&disk, &options, &mut model, random)?;
        model.lives += 1;
        let may_fail = random.below(2) == 0;
        if may_fail {
            let fault = random.pick(&[Fault::Eio, Fault::NoSpace, Fault::ShortWrite, Fault::PowerCut]);
            disk.fail_call(1 + random.below(120), fault, random.below(2) == 0);
        }
        let free_bytes = (random.below(4) == 0).then(|| random.below(200_000));
        disk.set_capacity(free_bytes.map(|free_bytes| disk.used_bytes() + free_bytes));
        for _ in 0..random.below(40) {
            for _ in 0..random.below(60) {
                if journal.admit(Class::Settle).is_ok() {
                    let bytes = record_of(journal.staged_lsn().next().0, model.lives);
                    let lsn = journal.stage(|buffer| buffer.extend_from_slice(&bytes));
                    model.staged.push(bytes);
                    assert_eq!(lsn.0, model.staged.len() as u64, "seed {seed}");
                }
            }
            let pumped = journal.pump();
            model.acknowledged = journal.durable_lsn().0;
            if pumped.is_err() {
                break;
            }
            if random.below(3) == 0 {
                model.applied += random.below(model.acknowledged - model.applied + 1);
                journal.release_through(Lsn(model.applied));
            }
        }
        match random.below(4) {
            0 => {
                let closed = journal.close().is_ok();
                // Without space for it, the marker is missing and nothing else.
                let marked = disk.names().iter().any(|name| name == "clean-shutdown");
                assert!(marked || !closed || may_fail || free_bytes.is_some(), "seed {seed}");
                model.closed = closed && marked;
            }
            1 => drop(journal),
            _ => drop((journal, disk.crash())),
        }
        disk.heal();
        if model.closed {
            disk.crash();
        }
        if let Some(archive) = &archive {
            archive.crash();
            let archived = check_archive(archive, &model)?;
            let survivor = disk.fork(seed);
            survivor.crash();
            let journal = Journal::verify(&survivor, archived, &mut |_, _| Ok(()));
            journal.map_err(|error| format!("archive and journal are not one history: {error}"))?;
        }
    }
    Ok(())
}

/// What was recycled is in the archive, in order, as it was staged.
fn check_archive(archive: &FaultyDisk, model: &Model) -> Result<Lsn, String> {
    let mut next = 1;
    let mut replay = |lsn: Lsn, bytes: &[u8]| {
        let right = lsn.0 == next && model.staged.get(next as usize - 1).is_some_and(|staged| staged == bytes);
        next += 1;
        if right { Ok(()) } else { Err(format!("LSN {} is not what was staged", lsn.0)) }
    };
    match Journal::verify(archive, Lsn(0), &mut replay) {
        Ok(recovery) => Ok(recovery.last_lsn),
        Err(error) => Err(format!("archive: {error}")),
    }
}

#[test]
fn acknowledged_records_survive_whatever_the_disk_does() {
    // More of them: HONGBAO_SEEDS=100000 cargo test --release --test journal_crash
    let seeds = std::env::var("HONGBAO_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(2_000);
    for seed in 0..seeds {
        if let Err(broken) = run(seed, Mutants::default()) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn a_journal_that_does_not_sync_is_found_out() {
    let mutant = Mutants { skip_sync: true, ..Mutants::default() };
    assert!((0..100).any(|seed| run(seed, mutant).is_err()));
}

#[test]
fn a_reader_that_ignores_epochs_is_found_out() {
    let mutant = Mutants { ignore_epoch: true, ..Mutants::default() };
    assert!((0..100).any(|seed| run(seed, mutant).is_err()));
}
