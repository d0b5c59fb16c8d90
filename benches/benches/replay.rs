//! How long a start takes: the journal's tail after a crash, and a history of
//! settled envelopes after an orderly stop or a kill.
//!
//! `cargo bench -p hongbao-benches --bench replay`, with `TAIL` records,
//! `SETTLED` grabs in histories (a list, comma between), and `ROUNDS`. With
//! `HISTORIES` a directory where histories are kept for the next run; `ROUNDS=0` only
//! makes them.

use hongbao_benches::{
    catch_up, create_many, create_with, decimal_users, directory, each, figure, fund, grab_of, heading, is_new, median,
    sender, setting, settle, show_rate, terms, thread_time,
};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{Command, NewEnvelope, Outcome};
use hongbao_engine::memory::{Embedded, EmbeddedOptions, StartReport};
use hongbao_engine::store::ProjectorOptions;
use hongbao_engine::types::{EnvelopeId, UserId};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const AT_ONCE: usize = 1_024;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The store stays as it was: whatever is in the journal is its tail.
fn unprojected() -> EmbeddedOptions {
    let projector = ProjectorOptions { threaded: false, ..ProjectorOptions::default() };
    EmbeddedOptions { projector, ..EmbeddedOptions::default() }
}

fn open(directory: &Path, options: EmbeddedOptions) -> (Embedded, StartReport) {
    Embedded::open(directory, options).expect("the engine opens")
}

async fn do_all(engine: &Embedded, commands: impl Iterator<Item = Command>, is_done: fn(&Outcome) -> bool) {
    let mut commands = commands.peekable();
    while commands.peek().is_some() {
        for reply in engine.execute_all(commands.by_ref().take(AT_ONCE).collect()).await {
            let outcome = reply.expect("a command is decided").outcome;
            assert!(is_done(&outcome), "every user of the bench wins and claims once, not {outcome:?}");
        }
    }
}

fn grabs(ids: &[EnvelopeId], users: &[UserId]) -> impl Iterator<Item = Command> {
    users.iter().enumerate().map(|(number, user)| grab_of(ids, number, user))
}

/// Leaves a directory as a crash does: `records` grabs, or half grabs and half
/// claims of them, in the journal, and nothing of them in the store.
fn crash(runtime: &Runtime, directory: &Path, records: usize, claims: bool) {
    const ENVELOPES: usize = 16;
    let users = decimal_users(if claims { records / 2 } else { records } as u64);
    let (engine, _) = open(directory, unprojected());
    runtime.block_on(async {
        let sender = sender();
        fund(&engine, &sender).await;
        let mut ids = Vec::new();
        for _ in 0..ENVELOPES {
            ids.push(create_with(&engine, terms(&sender, users.len().div_ceil(ENVELOPES) as u32)).await);
        }
        do_all(&engine, grabs(&ids, &users), is_new).await;
        if claims {
            let claim = |(number, user): (usize, &UserId)| Command::Claim {
                envelope: ids[number % ENVELOPES],
                user: user.clone(),
            };
            let commands = users.iter().enumerate().map(claim);
            do_all(&engine, commands, |outcome| matches!(outcome, Outcome::Claimed { replayed: false, .. })).await;
        }
    });
    // Not closed: for the disk this is a crash.
    drop(engine);
}

/// Records replayed a second of wall time, and a second of the one core that replays.
fn tail(runtime: &Runtime, records: usize, claims: bool, rounds: usize) {
    let directory = directory();
    crash(runtime, directory.path(), records, claims);
    let (mut wall, mut core) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        settle();
        let (start, busy) = (Instant::now(), thread_time());
        let (engine, report) = open(directory.path(), unprojected());
        let (took, busy) = (start.elapsed(), thread_time() - busy);
        let replayed = report.journal.records as usize;
        assert!(replayed >= records, "the whole tail is replayed: {replayed} of {records}");
        wall.push(1e9 / each(took, replayed));
        core.push(1e9 / each(busy, replayed));
        drop(engine);
    }
    let what = if claims { "half grabs, half claims" } else { "grabs" };
    let rate = median(&wall);
    // The goal is for grabs; what claims cost is told beside it.
    let reached = (!claims).then_some((rate >= 1e6, rate >= 3e6));
    let goal = if claims { "report" } else { "at least 1 M/s a core, aim 3 M/s" };
    figure(
        &format!("replay at start, {records} records ({what}), one thread, the whole start"),
        &format!("{}; of processor time {}", show_rate(rate), show_rate(median(&core))),
        goal,
        reached,
        rounds,
    );
}

/// A directory with so many grabs in settled envelopes of a hundred, left as
/// a kill leaves it as soon as everything is in the store.
fn settled(runtime: &Runtime, directory: &Path, count: usize) {
    const SHARES: usize = 100;
    let projector = ProjectorOptions { tidy_after: Duration::from_secs(86_400), ..ProjectorOptions::default() };
    let (engine, _) = open(directory, EmbeddedOptions { projector, ..EmbeddedOptions::default() });
    runtime.block_on(async {
        let sender = sender();
        fund(&engine, &sender).await;
        let terms = NewEnvelope { auto_claim: true, ..terms(&sender, SHARES as u32) };
        let users = decimal_users(count as u64);
        let ids = create_many(&engine, &terms, count / SHARES).await;
        // Piece by piece: the store is not to shed the last of many.
        for (ids, users) in ids.chunks(100).zip(users.chunks(100 * SHARES)) {
            do_all(&engine, grabs(ids, users), is_new).await;
            while engine.stats().lag_records > 200_000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    catch_up(&engine);
}

/// Makes such a history below `place` as each of its ends leaves it: an orderly stop, a
/// kill when it has been quiet for a while, and one just behind the last grab.
fn make(runtime: &Runtime, count: usize, place: &Path) -> [PathBuf; 3] {
    let ends = ["closed", "quiet", "killed"].map(|end| place.join(end));
    let [closed, quiet, killed] = &ends;
    if closed.exists() {
        return ends;
    }
    let part = place.join("part");
    let copy_to = |to: &Path| {
        fs::create_dir(to).and_then(|()| copy_all(&part, to)).expect("a directory can be copied beside itself");
    };
    // What an interrupted run left.
    for left in [&part, quiet, killed] {
        let _ = fs::remove_dir_all(left);
    }
    fs::create_dir_all(&part).expect("a directory can be made");
    settled(runtime, &part, count);
    copy_to(killed);
    let (engine, _) = open(&part, EmbeddedOptions::default());
    let since = Instant::now();
    while database_journal_bytes(&part) > 0 {
        assert!(since.elapsed() < Duration::from_secs(60), "a store that is left alone is put in order");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(engine);
    copy_to(quiet);
    open(&part, EmbeddedOptions::default()).0.close().expect("the engine closes");
    fs::rename(&part, closed).expect("a directory can be renamed");
    ends
}

/// Bytes that fjall reads again at a start.
fn database_journal_bytes(data: &Path) -> u64 {
    let files = fs::read_dir(data.join("store")).expect("a store").flatten();
    let journals = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "jnl"));
    journals.map(|file| file.metadata().expect("a file's length").len()).sum()
}

/// Nanoseconds of a start on a copy of `history`, as a start changes what the next one finds.
fn start(history: &Path) -> f64 {
    let copy = directory();
    copy_all(history, copy.path()).expect("a directory can be copied beside itself");
    settle();
    let start = Instant::now();
    let (engine, report) = open(copy.path(), EmbeddedOptions::default());
    let took = start.elapsed();
    assert_eq!((report.live_envelopes, report.journal.records), (0, 0), "everything was settled and projected");
    engine.close().expect("the engine closes");
    each(took, 1)
}

/// Copies and syncs, so that the start's own syncs do not write the copy. The store's
/// tables are never written to again, so they are the same files where that can be.
fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    let are_tables = from.ends_with("tables");
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&to)?;
            copy_all(&entry.path(), &to)?;
        } else if !are_tables || fs::hard_link(entry.path(), &to).is_err() {
            fs::copy(entry.path(), &to)?;
            File::open(&to)?.sync_all()?;
        }
    }
    Ok(())
}

fn main() {
    heading();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let records: usize = setting("TAIL", 5_000_000);
    let rounds: usize = setting("ROUNDS", 5);
    if records > 0 && rounds > 0 {
        tail(&runtime, records, false, rounds);
        tail(&runtime, records, true, rounds);
    }
    let kept: String = setting("HISTORIES", String::new());
    let mut first = None;
    for count in setting("SETTLED", "10000,100000,1000000,10000000".to_owned()).split(',') {
        let count: usize = count.parse().expect("SETTLED is a list of numbers");
        let made_now = directory();
        let place = if kept.is_empty() { made_now.path().to_owned() } else { Path::new(&kept).join(count.to_string()) };
        let ends = make(&runtime, count, &place);
        if rounds == 0 {
            continue;
        }
        let took = ends.map(|end| median(&(0..rounds).map(|_| start(&end)).collect::<Vec<_>>()));
        let [closed, quiet, killed] = took.map(|took| took / 1e6);
        let against = *first.get_or_insert(took);
        let ratios = [0, 1, 2].map(|end| took[end] / against[end]);
        // What a kill under load leaves is bounded, and a small history has less than that.
        let is_flat = ratios[0].max(ratios[1]) <= 2.0;
        figure(
            &format!("start with {count} settled grabs in the history"),
            &format!(
                "{closed:.0} ms after an orderly stop, {quiet:.0} after a kill when it was quiet, {killed:.0} after one \
                 just behind the last grab ({:.1}, {:.1} and {:.1} times the first row)",
                ratios[0], ratios[1], ratios[2]
            ),
            "at most 2 times the first row, but for the last",
            Some((is_flat, is_flat)),
            rounds,
        );
    }
}
