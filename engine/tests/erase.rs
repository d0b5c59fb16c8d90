//! Archive, backup and data directory without an envelope's texts: they are nowhere in the copy, and
//! each goes on with the others, erased or not.

#![allow(missing_docs, reason = "nothing outside reads this crate")]

mod feed_story;
mod stand;

use feed_story::follow;
use hongbao_engine::audit::audit;
use hongbao_engine::backend::OnceKey;
use hongbao_engine::backup::*;
use hongbao_engine::command::*;
use hongbao_engine::erase::Erasure;
use hongbao_engine::feed::{After, EventTypes};
use hongbao_engine::memory::Embedded;
use hongbao_engine::rebuild::rebuild;
use hongbao_engine::storage::Directory;
use hongbao_engine::types::*;
use stand::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MESSAGE: &str = "CANARY-you-are-福";
const KEPT: u64 = 16 << 20;
const SPARED: &str = "SPARED-greeting";

/// A deployment with an archive, of which a backup was made in its second life.
struct Place {
    world: World,
    root: tempfile::TempDir,
    /// Of released segments, for whoever follows the events.
    kept_bytes_max: u64,
}

/// An envelope with texts: its terms, and the key under which it was made.
fn terms(text: &str) -> (Command, OnceKey) {
    let number = text.len().to_string();
    let terms = NewEnvelope {
        message: text.to_owned(),
        metadata: format!("{{\"{text}-metadata\":\"{}\"}}", "poem ".repeat(1500)),
        reference: Some(reference("app", &number)),
        ..envelope(100, 5)
    };
    (Command::CreateEnvelope(Box::new(terms)), OnceKey::idempotency("app", "POST /v1/envelopes", &number))
}

impl Place {
    fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn open(&self, data: &str, archive: Option<&str>) -> Embedded {
        let mut options = self.world.options();
        options.journal.kept_bytes_max = self.kept_bytes_max;
        options.journal.archive = archive.map(|archive| Arc::new(Directory::open(self.at(archive)).unwrap()) as _);
        Embedded::open(&self.at(data), options).unwrap().0
    }

    /// Three lives with an envelope each; in each life something else becomes of the first one's.
    fn story(kept_bytes_max: u64) -> (Place, Vec<EnvelopeId>) {
        let place = Place { world: World::new(11), root: tempfile::tempdir().unwrap(), kept_bytes_max };
        let mut made = Vec::new();
        for (life, text) in [MESSAGE, SPARED, "CANARY-of-the-third-life"].into_iter().enumerate() {
            let engine = place.open("data", Some("archive"));
            engine.deposit(&user("alice"), 100);
            let (command, key) = terms(text);
            let Outcome::Envelope(view) = engine.ask_under(command, Some(key)).outcome else { panic!("it is made") };
            made.push(view.id);
            engine.grab(made[0], &nth_user(life));
            if life == 1 {
                let mut stream = Vec::new();
                send(&engine, &mut stream).unwrap();
                let stream = BackupStream::read(&*stream, u64::MAX).unwrap();
                stream.make(&place.at("backup"), START, &mut |_| ()).unwrap();
            }
            engine.claim(made[0], &nth_user(life));
            if life == 2 {
                let key = OnceKey::idempotency("app", "cancel", "1");
                engine.ask_under(Command::Cancel { envelope: made[0] }, Some(key));
                // Taken back while it is served; its metadata stays, in that record too.
                engine.ask(Command::Redact { envelope: made[2], metadata: false });
            }
            until("what is released is archived", || {
                engine.stats().journal.is_some_and(|journal| journal.segments == 1)
            });
            engine.close().unwrap();
            drop(engine);
        }
        (place, made)
    }

    fn erase(&self, name: &str, erasure: &Erasure) -> Erased {
        erase(&self.at(name), &self.at(&format!("{name}.clean")), erasure, &mut |_| ()).unwrap()
    }
}

/// How often `needle` is in any file below `directory`, and the lengths of them all.
fn search(directory: &Path, needle: &str) -> (usize, BTreeMap<PathBuf, u64>) {
    let (mut found, mut lengths) = (0, BTreeMap::new());
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (below, of_below) = search(&path, needle);
            found += below;
            lengths.extend(of_below);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found += String::from_utf8_lossy(&bytes).matches(needle).count();
            lengths.insert(path, bytes.len() as u64);
        }
    }
    (found, lengths)
}

fn count(directory: &Path, needle: &str) -> usize {
    search(directory, needle).0
}

#[test]
fn no_byte_of_a_text_is_in_the_copies_and_everything_else_is() {
    let (place, made) = Place::story(KEPT);
    let erasure = Erasure::of([made[0], made[2], EnvelopeId::from_bytes([9; 16])], true);
    let names = ["archive", "backup", "data"];
    let before: Vec<_> = names.map(|name| search(&place.at(name), "CANARY")).into();
    let archived = place.erase("archive", &erasure);
    let backed_up = place.erase("backup", &erasure);
    let data = place.erase("data", &erasure);
    // Made, and remembered under key and reference; cancelled, and remembered under a key.
    assert_eq!((archived.kind, archived.records), (Kind::Archive, 1));
    assert_eq!((backed_up.kind, backed_up.rows), (Kind::Backup, 3));
    assert_eq!((data.kind, data.rows), (Kind::Data, 7));
    assert!(data.records == 4 && data.last > archived.last && archived.last > backed_up.last);
    for (name, before) in names.into_iter().zip(before) {
        let clean = place.at(&format!("{name}.clean"));
        assert!(before.0 > 0, "{name} had it");
        assert_eq!(count(&clean, "CANARY"), 0, "{name}");
        assert!(count(&place.at(name), "CANARY") >= before.0, "{name} is as it was");
        let spared = if name == "archive" { 0 } else { 3 };
        assert!(count(&clean, SPARED) >= spared, "{name}");
        if name == "archive" {
            let lengths: Vec<u64> = search(&clean, "CANARY").1.into_values().collect();
            assert_eq!(lengths, before.1.into_values().collect::<Vec<_>>(), "nothing has moved");
        }
    }
    for (directory, archive) in [("data", "archive.clean"), ("data.clean", "archive")] {
        let report = audit(&place.at(directory), Some(&place.at(archive)), &mut |finding| panic!("{finding}")).unwrap();
        assert_eq!(report.last_lsn, data.last, "{directory} with {archive}");
    }
    audit(&place.at("backup.clean"), None, &mut |finding| panic!("{finding}")).unwrap();
    // Again: nothing is left to be taken out.
    let again = erase(&place.at("archive.clean"), &place.at("again"), &erasure, &mut |_| ()).unwrap();
    assert_eq!((again.records, again.last), (0, archived.last));
}

#[test]
fn an_erased_directory_goes_on_with_the_same_answers_and_cursors() {
    let (place, made) = Place::story(KEPT);
    let engine = place.open("data", Some("archive"));
    let told = |engine: &Embedded| follow(engine, After::Oldest, EventTypes::ALL, None, 1);
    let (events, end) = told(&engine);
    // As a crash leaves it.
    drop(engine);
    let erasure = Erasure::of([made[0]], false);
    place.erase("data", &erasure);
    place.erase("archive", &erasure);

    // The archive of before is as good as the other: whichever is gone on with.
    let engine = place.open("data.clean", Some("archive.clean"));
    let (command, key) = terms(MESSAGE);
    for once in [Some(key), None] {
        let again = engine.ask_under(command.clone(), once);
        let Outcome::Envelope(view) = again.outcome else { panic!("it was made") };
        assert!(again.replayed, "its fingerprint is what it was");
        assert_eq!((view.id, view.message), (made[0], " ".repeat(MESSAGE.len())));
        assert!(view.metadata.contains(MESSAGE), "that was not asked for");
    }
    assert_eq!(engine.seen(made[0]).message.trim(), "");
    assert_eq!(engine.seen(made[1]).message, SPARED);
    let key = OnceKey::idempotency("app", "cancel", "1");
    let again = engine.ask_under(Command::Cancel { envelope: made[0] }, Some(key));
    assert!(again.replayed && matches!(again.outcome, Outcome::Envelope(view) if view.message.trim().is_empty()));
    // Whoever followed goes on from wherever that was, behind a erased record too.
    let (clean, _) = told(&engine);
    assert_eq!(clean.len(), events.len());
    for (at, event) in events.iter().enumerate() {
        assert_eq!((event.id, event.at), (clean[at].id, clean[at].at));
        let (rest, _) = follow(&engine, After::Cursor(event.cursor.clone()), EventTypes::ALL, None, 1000);
        let ids = |events: &[hongbao_engine::feed::FeedEvent]| events.iter().map(|event| event.id).collect::<Vec<_>>();
        assert_eq!(ids(&rest), ids(&events[at + 1..]), "behind event {at}");
    }
    engine.deposit(&user("zoe"), 3);
    assert_eq!(follow(&engine, After::Cursor(end), EventTypes::ALL, None, 9).0.len(), 1);
    engine.assert_balanced();
    until("what is released is archived", || engine.stats().journal.is_some_and(|journal| journal.segments == 1));
    engine.close().unwrap();

    // The other one with the erased archive, which it goes on to fill.
    for life in 0..2 {
        let engine = place.open("data", Some("archive.clean"));
        engine.deposit(&user("zoe"), 3 + life);
        until("what is released is archived", || engine.stats().journal.is_some_and(|journal| journal.segments == 1));
        engine.close().unwrap();
    }
    let rebuilt = rebuild(&place.at("data"), &place.at("archive.clean"), &mut |_| (), &mut |what| panic!("{what}"));
    assert!(rebuilt.unwrap().old_store.is_some());
    let engine = place.open("data", Some("archive.clean"));
    assert_eq!(engine.seen(made[0]).message.trim(), "");
    engine.close().unwrap();
}

#[test]
fn a_restore_takes_erased_pieces_with_others() {
    // Nothing is kept, so the journal begins where the archive ends.
    let (place, made) = Place::story(0);
    let erasure = Erasure::of([made[0], made[2]], true);
    let names = ["archive", "backup", "data"];
    let last = names.map(|name| place.erase(name, &erasure))[2].last;
    for choice in [1, 6, 7] {
        let choose = |bit: usize| {
            let clean = if choice >> bit & 1 == 1 { ".clean" } else { "" };
            place.at(&format!("{}{clean}", names[bit]))
        };
        let options = RestoreOptions {
            from: choose(1),
            archive: Some(choose(0)),
            journal: Some(choose(2)),
            ..RestoreOptions::default()
        };
        let left = what_is_left(&options, &mut |lost| panic!("{choice}: {lost:?}")).unwrap();
        assert!(!left.is_loss(), "{choice}: {left:?}");
        let to = place.at(&format!("restored-{choice}"));
        let restored = restore(&options, &to, &mut |_, _| (), &mut |what| panic!("{what}")).unwrap();
        assert_eq!((restored.last, restored.archive_goes_on), (last, true), "{choice}");
        // What was not erased brings the texts back.
        assert_eq!(count(&to, "CANARY") == 0, choice & 6 == 6, "{choice}");
    }
}

#[test]
fn what_cannot_be_erased_is_left_alone_with_words() {
    let (place, made) = Place::story(KEPT);
    let erasure = Erasure::of(made, true);
    let refused = |from: &Path, to: &Path| erase(from, to, &erasure, &mut |_| ()).unwrap_err().to_string();
    let to = place.at("new");
    assert!(refused(place.root.path(), &to).contains("is no archive"));
    assert!(refused(&place.at("data"), &place.at("backup")).contains("is there already"));
    let engine = place.open("data", None);
    assert!(refused(&place.at("data"), &to).contains("in use by another process"));
    engine.close().unwrap();
    drop(engine);
    // Damage may hide a text: nobody could say that it is gone.
    let segment = place.at("archive").join("segment-0000000000000001");
    let mut bytes = std::fs::read(&segment).unwrap();
    let frame = bytes.windows(MESSAGE.len()).position(|window| window == MESSAGE.as_bytes()).unwrap();
    bytes[frame] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    assert!(refused(&place.at("archive"), &to).contains("is corrupt at offset"));
    let sums = place.at("backup").join("settings");
    std::fs::write(&sums, "currency=EUR\n").unwrap();
    assert!(refused(&place.at("backup"), &to).contains("is not as it was made"));
    assert!(!to.exists() && !place.at("new.part").exists(), "nothing is left of an attempt");
}
