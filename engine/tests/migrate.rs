//! A directory that a build of form 1 has left, brought to this build's.
//!
//! `fixtures/form-1.tar.gz` is what the last such build left after a stop in order, without spares and the
//! journal's zeros: a deposit, an envelope with long metadata, two grabs and a claim, an item, an order and a hold.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

mod stand;

use hongbao_engine::audit::audit;
use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::command::*;
use hongbao_engine::event::{Event, encode};
use hongbao_engine::journal::{Journal, JournalOptions};
use hongbao_engine::memory::{Embedded, OpenError};
use hongbao_engine::storage::Directory;
use hongbao_engine::types::*;
use stand::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::sync::Arc;

const ENVELOPE: &str = "env_2megycbrjd590kp5cngk0j4vfp";
const ITEM: &str = "item_66g148m3bmp8sxsh2pd5jrkvrf";
const ORDER: &str = "order_66g2yj89epqgrpwn0gbmtxwr14";
const HOLD: &str = "hold_66g2d3byrkdqja9x2nfwbzxy33";
/// The last record in it.
const LAST: Lsn = Lsn(11);

/// The directory of form 1, below `place`.
fn unpacked(place: &Path) -> PathBuf {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/form-1.tar.gz");
    let unpacked = Process::new("tar").arg("xzf").arg(fixture).arg("-C").arg(place).status();
    assert!(unpacked.expect("tar is there: apt install tar gzip").success());
    place.join("form-1")
}

fn open(directory: &Path, migrate: bool) -> Result<Embedded, OpenError> {
    let mut options = World::new(2).options();
    options.migrate = migrate;
    Embedded::open(directory, options).map(|(engine, _)| engine)
}

fn refused(directory: &Path, migrate: bool) -> String {
    open(directory, migrate).map(drop).expect_err("it is refused").to_string()
}

/// What was answered by the build that wrote it is answered again.
fn answers_the_same(engine: &Embedded) {
    let transfer = Transfer { user: user("alice"), amount: fen(5000), reference: Some(reference("app", "deposit-1")) };
    assert!(engine.ask_under(Command::Deposit(transfer), None).replayed);
    assert_eq!((engine.available(&user("alice")), engine.available(&user("dave"))), (4000, 80));
    let metadata = format!("{{\"poem\":\"{}\"}}", "red ".repeat(1750));
    let terms = NewEnvelope {
        message: "Happy new year".to_owned(),
        metadata: metadata.clone(),
        reference: Some(reference("app", "envelope-1")),
        ..envelope(1000, 5)
    };
    let id: EnvelopeId = ENVELOPE.parse().unwrap();
    for once in [Some(OnceKey::idempotency("app", "POST /v1/envelopes", "create-1")), None] {
        let again = engine.ask_under(Command::CreateEnvelope(Box::new(terms.clone())), once);
        let Outcome::Envelope(view) = again.outcome else { panic!("{:?}", again.outcome) };
        assert!(again.replayed && view.id == id && view.metadata == metadata);
    }
    assert!(engine.seen(id).metadata == metadata);
    let wins: Vec<_> = engine.all_grabs(id).into_iter().map(|row| (row.share, row.user)).collect();
    assert_eq!(wins, [(0, user("bob")), (1, user("carol"))]);
    assert!(matches!(engine.grab(id, &user("carol")), Outcome::Won { share: 1, replayed: true, .. }));
    assert!(matches!(engine.claim(id, &user("bob")), Outcome::Claimed { replayed: true, .. }));
    let item: ItemId = ITEM.parse().unwrap();
    assert_eq!(engine.stock(item), Stock { total: 10, free: 7, held: 1, sold: 2 });
    let order = wait(engine.order(ORDER.parse().unwrap())).unwrap().expect("it was paid");
    assert_eq!((order.user, order.quantity, order.amount), (user("dave"), 2, fen(20)));
    let hold = wait(engine.hold(HOLD.parse().unwrap())).unwrap().expect("it is held");
    assert_eq!((hold.state, hold.quantity), (HoldState::Held, 1));
    engine.assert_balanced();
}

#[test]
fn an_older_form_is_migrated_when_that_is_asked_for_and_answers_the_same() {
    let place = tempfile::tempdir().unwrap();
    let directory = unpacked(place.path());
    let aside = directory.join("before-migration-1/was");
    for _ in 0..2 {
        let why = refused(&directory, false);
        for word in ["format 1", "backup of the whole data directory", "hongbao serve --migrate"] {
            assert!(why.contains(word), "no {word:?} in {why}");
        }
        assert!(audit(&directory, None, &mut |_| ()).is_err_and(|error| error.to_string().contains("--migrate")));
    }
    let engine = open(&directory, true).unwrap();
    assert_eq!(engine.stats().durable_lsn, LAST);
    answers_the_same(&engine);
    // And it goes on.
    let id: EnvelopeId = ENVELOPE.parse().unwrap();
    assert!(matches!(engine.claim(id, &user("carol")), Outcome::Claimed { replayed: false, .. }));
    assert!(matches!(engine.grab(id, &user("zoe")), Outcome::Won { share: 2, replayed: false, .. }));
    engine.close().unwrap();
    drop(engine);
    audit(&directory, None, &mut |finding| panic!("{finding}")).unwrap();
    assert!(aside.join("store").is_dir() && aside.join("journal").is_dir());
    let engine = open(&directory, true).unwrap();
    assert!(!directory.join("before-migration-2").exists(), "nothing was to be done");
    engine.close().unwrap();
}

#[test]
fn records_that_the_store_lacks_are_refused_and_nothing_is_touched() {
    let place = tempfile::tempdir().unwrap();
    let directory = unpacked(place.path());
    // As a crash would leave it: the store is behind its journal.
    let storage = Arc::new(Directory::open(directory.join("journal")).unwrap());
    let options =
        JournalOptions { segment_bytes: 4 << 20, threads_max: 4, ballast_bytes: 0, ..JournalOptions::default() };
    let (journal, _) =
        Journal::open(storage, options, LAST, &mut |_, _| Ok(()), Box::new(|_| {})).expect("its journal has this form");
    let lsn = journal.stage(|bytes| encode(START, &[Event::ClockAdvanced { by_ms: 1 }], bytes));
    journal.wait_blocking(lsn).unwrap();
    journal.close().unwrap();
    drop(journal);
    for _ in 0..2 {
        let why = refused(&directory, true);
        assert!(why.contains("lacks the last 1 records") && why.contains("stop it in order"), "{why}");
    }
    assert!(refused(&directory, false).contains("format 1"), "it is of the form that it was");
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| ["store", "journal", "lock"].iter().any(|known| name == known)), "{names:?}");
}

/// Moves something from one place to another, unless it is not there.
type Move = (&'static str, &'static str);

#[test]
fn a_migration_that_was_cut_off_anywhere_is_ended_by_the_next() {
    let place = tempfile::tempdir().unwrap();
    let directory = unpacked(place.path());
    open(&directory, true).unwrap().close().unwrap();
    // What it does last, the last first: with more and more of it taken back.
    let moves: [Move; 6] = [
        ("before-migration-1", "migration"),
        ("journal", "migration/journal"),
        ("migration/was/journal", "journal"),
        ("store", "migration/store"),
        ("migration/was/store", "store"),
        ("settings", "migration/settings"),
    ];
    for cut in [1, 3, 4, 6] {
        for (from, to) in &moves[..cut] {
            fs::rename(directory.join(from), directory.join(to)).unwrap();
        }
        let why = refused(&directory, false);
        assert!(why.contains("is not finished") && why.contains("--migrate"), "{cut}: {why}");
        let engine = open(&directory, true).unwrap_or_else(|error| panic!("{cut}: {error}"));
        assert_eq!(engine.seen(ENVELOPE.parse().unwrap()).message, "Happy new year", "{cut}");
        engine.close().unwrap();
        assert!(directory.join("before-migration-1/was/store").is_dir(), "{cut}");
    }
    // Before anything was ready.
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    let directory = unpacked(&other);
    fs::create_dir_all(directory.join("migration.part/store")).unwrap();
    fs::write(directory.join("migration.part/settings"), "half").unwrap();
    assert!(refused(&directory, false).contains("format 1"));
    let engine = open(&directory, true).unwrap();
    answers_the_same(&engine);
    engine.close().unwrap();
    assert!(!directory.join("migration.part").exists());
}

#[test]
fn settings_of_another_form_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("data");
    open(&directory, false).unwrap().close().unwrap();
    let settings = directory.join("settings");
    let text = fs::read_to_string(&settings).unwrap();
    for form in ["form=0", "form=2"] {
        fs::write(&settings, text.replace("form=1", form)).unwrap();
        let why = refused(&directory, true);
        assert!(why.contains("run the version that wrote it") && why.contains("settings"), "{why}");
    }
    // The first ones did not say it.
    fs::write(&settings, text.replace("form=1\n", "")).unwrap();
    open(&directory, false).unwrap().close().unwrap();
    assert_eq!(fs::read_to_string(&settings).unwrap(), text);
}

#[test]
fn a_directory_of_this_form_and_a_new_one_are_opened_as_without() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("data");
    for _ in 0..2 {
        let engine = open(&directory, true).unwrap();
        engine.deposit(&user("alice"), 10);
        engine.close().unwrap();
    }
    let names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("migration")));
}
