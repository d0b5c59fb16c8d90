//! The journal against the disk itself, and what staging and waking cost.
//!
//! `cargo bench -p hongbao-benches --bench journal`, with `BATCHES` of each.
//!
//! Every round writes one batch of 1,024 records of 32 bytes with each contestant,
//! one after the other, so that a noisy disk is noisy for all. The files lie in
//! the target directory.

use hongbao_benches::{Goal, Pair, Unit, each, figure, heading, median, setting, show_rate};
use hongbao_engine::journal::{DurableBatch, Journal, JournalOptions};
use hongbao_engine::storage::Directory;
use hongbao_engine::types::Lsn;
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RECORDS: u64 = 1_024;
const RECORD_BYTES: usize = 32;
const RAW_BYTES: u64 = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    heading();
    let rounds = setting("BATCHES", 1_500);
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    staging(root)?;
    against_the_disk(root, rounds)?;
    waking(root)?;
    Ok(())
}

fn open(path: &Path, options: JournalOptions) -> Result<Journal, Box<dyn Error>> {
    let storage = Arc::new(Directory::open(path)?);
    let on_durable = Box::new(|batch: DurableBatch| drop(black_box(batch)));
    Ok(Journal::open(storage, options, Lsn(0), &mut |_, _| Ok(()), on_durable)?.0)
}

fn stage_batch(journal: &Journal, record: &[u8; RECORD_BYTES]) -> Lsn {
    let mut last = Lsn(0);
    for _ in 0..RECORDS {
        last = journal.stage(|buffer| buffer.extend_from_slice(black_box(record)));
    }
    last
}

/// Nanoseconds of one `stage`, nobody contending.
fn staging(root: &Path) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir_in(root)?;
    let journal = open(directory.path(), JournalOptions { threaded: false, ..JournalOptions::default() })?;
    let record = [7; RECORD_BYTES];
    let mut stage = Vec::new();
    let mut admit = Vec::new();
    for _ in 0..400 {
        let began = Instant::now();
        let last = stage_batch(&journal, &record);
        stage.push(each(began.elapsed(), RECORDS as usize));
        let began = Instant::now();
        for _ in 0..RECORDS {
            black_box(journal.admit(black_box(hongbao_engine::journal::Class::Grab)))?;
        }
        admit.push(each(began.elapsed(), RECORDS as usize));
        journal.wait_blocking(last)?;
        journal.release_through(last);
    }
    report("journal: stage a record of 32 bytes, one thread", &stage);
    report("journal: admit", &admit);
    let mut contended = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..8).map(|_| stage_batch(&journal, &record)).max());
            }
        });
        contended.push(each(began.elapsed(), 16 * RECORDS as usize));
        journal.wait_blocking(journal.staged_lsn())?;
        journal.release_through(journal.staged_lsn());
    }
    report("journal: stage a record of 32 bytes, two threads at once, wall time of both together", &contended);
    Ok(())
}

fn report(what: &str, ns: &[f64]) {
    figure(what, &format!("{:.1} ns", median(ns)), "report", None, ns.len());
}

fn against_the_disk(root: &Path, rounds: usize) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir_in(root)?;
    let raw = prefilled(&directory.path().join("raw"))?;
    let pumped =
        open(&directory.path().join("pumped"), JournalOptions { threaded: false, ..JournalOptions::default() })?;
    let threaded = open(&directory.path().join("threaded"), JournalOptions::default())?;
    let record = [7; RECORD_BYTES];
    let batch = vec![7u8; RECORDS as usize * RECORD_BYTES];
    let mut took: [Vec<f64>; 3] = Default::default();
    let mut at = 0;
    for round in 0..rounds {
        // In turn, so that nobody always follows the same neighbour.
        for turn in 0..3 {
            let contestant = (round + turn) % 3;
            let began = Instant::now();
            match contestant {
                0 => {
                    raw.write_all_at(&batch, at)?;
                    raw.sync_data()?;
                    at = (at + batch.len() as u64) % RAW_BYTES;
                }
                1 => write_batch(&pumped, &record)?,
                _ => write_batch(&threaded, &record)?,
            }
            took[contestant].push(each(began.elapsed(), RECORDS as usize));
        }
    }
    let [raw, pumped_took, threaded_took] = took;
    for (name, ours, goal) in [
        ("its writer on a thread of its own", threaded_took, Goal::Rate { at_least: 0.7, aim: 0.9 }),
        ("pumped by the caller", pumped_took, Goal::ReportRate),
    ] {
        let what = format!("journal, {RECORDS} records of {RECORD_BYTES} bytes a batch, {name}");
        Pair { ours, baseline: raw.clone() }.row(&what, "raw write + fdatasync", Unit::Time, goal);
    }
    let stats = threaded.stats();
    let records = format!("{:.0} records", stats.records as f64 / stats.batches as f64);
    figure("journal: records in a sync of the row above, on average", &records, "1024 is fair", None, rounds);
    Ok(())
}

fn write_batch(journal: &Journal, record: &[u8; RECORD_BYTES]) -> Result<(), Box<dyn Error>> {
    let last = stage_batch(journal, record);
    journal.wait_blocking(last)?;
    journal.release_through(last);
    Ok(())
}

fn prefilled(path: &Path) -> Result<File, Box<dyn Error>> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..RAW_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}

/// Tasks that stage a record, wait for it and begin again.
fn waking(root: &Path) -> Result<(), Box<dyn Error>> {
    for tasks in [16, 100, 1_000, 10_000] {
        let mut rates = Vec::new();
        for _ in 0..5 {
            let directory = tempfile::tempdir_in(root)?;
            let options = JournalOptions { spare_segments: 1, ..JournalOptions::default() };
            rates.push(closed_loop(&Arc::new(open(directory.path(), options)?), tasks)?);
        }
        let what = format!("journal: {tasks} tokio tasks, each stages a record and waits for it");
        figure(&what, &show_rate(median(&rates)), "report", None, rates.len());
    }
    Ok(())
}

fn closed_loop(journal: &Arc<Journal>, tasks: usize) -> Result<f64, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_millis(700);
    let began = Instant::now();
    runtime.block_on(async {
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let (journal, acknowledged) = (Arc::clone(journal), Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    while Instant::now() < until {
                        let lsn = journal.stage(|buffer| buffer.extend_from_slice(&[7; RECORD_BYTES]));
                        if journal.wait(lsn).await.is_err() {
                            return;
                        }
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for task in running {
            task.await?;
        }
        Ok::<(), tokio::task::JoinError>(())
    })?;
    Ok(acknowledged.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64())
}
