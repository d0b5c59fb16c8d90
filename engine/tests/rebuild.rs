//! A store that is lost or damaged is made anew from the archive and the
//! journal, and answers as the old one did.

mod stand;

use hongbao_engine::audit::audit;
use hongbao_engine::backend::{Backend, ItemFilter, OnceKey, Page};
use hongbao_engine::command::*;
use hongbao_engine::entropy::SeededEntropy;
use hongbao_engine::memory::{Embedded, EmbeddedOptions, OpenError};
use hongbao_engine::rebuild::{Rebuilt, rebuild};
use hongbao_engine::storage::Directory;
use stand::*;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

struct Place {
    world: World,
    root: tempfile::TempDir,
}

impl Place {
    fn new(seed: u64) -> Place {
        Place { world: World::new(seed), root: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> std::path::PathBuf {
        self.root.path().join("data")
    }

    fn archive(&self) -> std::path::PathBuf {
        self.root.path().join("archive")
    }

    fn open(&self, archived: bool) -> Embedded {
        let mut options: EmbeddedOptions = self.world.options();
        options.journal.archive = archived.then(|| Arc::new(Directory::open(self.archive()).unwrap()) as _);
        std::fs::create_dir_all(self.data()).unwrap();
        Embedded::open(&self.data(), options).unwrap().0
    }

    fn rebuild(&self) -> Result<Rebuilt, OpenError> {
        let mut findings = Vec::new();
        let rebuilt = rebuild(&self.data(), &self.archive(), &mut |_| (), &mut |finding| findings.push(finding));
        assert_eq!(findings, [] as [&str; 0]);
        rebuilt
    }
}

/// What is asked in each life, each under a key of its own.
fn commands(life: usize) -> Vec<Command> {
    let transfer = |name: &str, amount: u64| Transfer {
        user: user(name),
        amount: fen(amount),
        reference: Some(reference("app", &format!("{name} {life}"))),
    };
    let long = "{}".repeat(6000);
    let mut commands = vec![
        Command::Deposit(transfer("alice", 1000)),
        Command::Deposit(transfer("bob", 50)),
        Command::CreateEnvelope(Box::new(NewEnvelope { metadata: long, ..envelope(100, 5) })),
        Command::CreateEnvelope(Box::new(NewEnvelope { auto_claim: true, ..envelope(30, 3) })),
        Command::PutMerchant(Box::new(NewMerchant::new(user("rosy"), "Rosy", Some(MerchantStatus::Verified)))),
        Command::CreateItem(Box::new(item(4))),
    ];
    commands.push(Command::Withdraw(transfer("bob", 7)));
    commands.extend([1, 2].map(|nth| Command::CreateApiKey(Box::new(api_key("shop", 2 * life as u8 + nth)))));
    commands
}

/// Asks everything of a life under its keys, and with what was made what follows from it.
fn live(engine: &Embedded, life: usize) -> Vec<String> {
    let mut answers = Vec::new();
    let mut ask = |command: Command| {
        let key = OnceKey::idempotency("app", "any", &format!("{life} {}", answers.len()));
        let outcome = engine.ask_under(command, Some(key)).outcome;
        answers.push(format!("{outcome:?}"));
        outcome
    };
    let made: Vec<Outcome> = commands(life).into_iter().map(&mut ask).collect();
    for outcome in made {
        match outcome {
            Outcome::Envelope(envelope) => {
                for name in ["bob", "carol", "dave", "erin"] {
                    ask(Command::Grab { envelope: envelope.id, user: user(name) });
                }
                ask(Command::Claim { envelope: envelope.id, user: user("carol") });
                if life == 0 {
                    ask(Command::Cancel { envelope: envelope.id });
                }
            }
            Outcome::Item(item) => {
                let grab = |name| Command::GrabItem { item: item.id, user: user(name), quantity: 1 };
                if let Outcome::Held { hold, .. } = ask(grab("bob")) {
                    ask(Command::ClaimHold { hold, user: user("bob") });
                }
                ask(grab("carol"));
            }
            Outcome::ApiKey(key) if key.digest[0] % 2 == 0 => {
                ask(Command::DeleteApiKey { key: key.id });
            }
            _ => {}
        }
    }
    answers
}

/// Every read.
fn told(engine: &Embedded) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |answer: &dyn Debug| lines.push(format!("{answer:?}"));
    let page = Page { limit: 100, cursor: None };
    for name in ["alice", "bob", "carol", "dave", "erin", "nobody"] {
        let who = user(name);
        say(&wait(engine.wallet(&who)).unwrap());
        say(&wait(engine.entries(&who, &page)).unwrap().rows);
        say(&wait(engine.sent(&who, &page)).unwrap().rows);
        let received = wait(engine.received(&who, &page)).unwrap().rows;
        for row in &received {
            say(row);
        }
    }
    for envelope in wait(engine.sent(&user("alice"), &page)).unwrap().rows {
        say(&wait(engine.envelope(envelope.id)).unwrap());
        say(&wait(engine.grabs(envelope.id, &page)).unwrap().unwrap().rows);
    }
    let filter = ItemFilter::default();
    say(&wait(engine.items(&filter, &page)).unwrap().rows);
    say(&wait(engine.api_keys(&page)).unwrap().rows);
    say(&wait(engine.audit()).unwrap());
    lines
}

/// Three lives, the later ones with an archive; what was answered and what is told at the end.
fn three_lives(place: &Place, archived_from: usize) -> (Vec<Vec<String>>, Vec<String>) {
    let mut answers = Vec::new();
    let mut last = Vec::new();
    for life in 0..3 {
        let engine = place.open(life >= archived_from);
        until("what the life before wrote is not needed in the journal any more", || {
            let segments = std::fs::read_dir(place.data().join("journal")).unwrap().flatten();
            segments.filter(|file| file.file_name().to_string_lossy().starts_with("segment")).count() <= 1
        });
        answers.push(live(&engine, life));
        last = told(&engine);
        engine.close().unwrap();
    }
    (answers, last)
}

/// Flips a byte in the middle of every file of `directory` and below.
fn damage(directory: &Path) {
    fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => files(&entry.path(), found),
                false => found.push(entry.path()),
            }
        }
    }
    let mut found = Vec::new();
    files(directory, &mut found);
    for path in found {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x55;
            std::fs::write(path, bytes).unwrap();
        }
    }
}

#[test]
fn a_damaged_store_is_made_anew_and_answers_as_before() {
    for lost in [false, true] {
        let place = Place::new(71);
        let (answers, last) = three_lives(&place, 0);
        let store = place.data().join("store");
        match lost {
            true => {
                std::fs::remove_dir_all(&store).unwrap();
                let error = audit(&place.data(), None, &mut |_| ()).unwrap_err().to_string();
                assert!(error.contains("it is not there") && error.contains("hongbao rebuild"), "{error}");
                assert!(!store.exists(), "an audit makes no store");
                // Nor does a start that finds records missing; it says how the store is made anew.
                for archived in [false, true] {
                    let mut options: EmbeddedOptions = place.world.options();
                    options.entropy = Arc::new(SeededEntropy::new(999));
                    options.journal.archive =
                        archived.then(|| Arc::new(Directory::open(place.archive()).unwrap()) as _);
                    let error = Embedded::open(&place.data(), options).err().expect("records are missing").to_string();
                    let archive = if archived { place.archive().display().to_string() } else { "DIR".to_owned() };
                    let remedy = format!("`hongbao rebuild --data {} --archive {archive}`", place.data().display());
                    for says in ["is lost, or older than the journal", "record 1 is the next", &remedy] {
                        assert!(error.contains(says), "{error:?} does not say {says:?}");
                    }
                    assert!(!error.contains("corrupt") && !store.exists(), "{error}");
                }
            }
            false => damage(&store),
        }
        let rebuilt = place.rebuild().unwrap();
        assert_eq!(rebuilt.old_store.is_some(), !lost);
        assert!(rebuilt.old_store.is_none_or(|old| old.join("keyspaces").is_dir()), "the old one is kept");
        assert!(rebuilt.records > 30 && rebuilt.records == rebuilt.last_lsn.0, "{}", rebuilt.records);
        let engine = place.open(true);
        assert_eq!(told(&engine), last);
        for (life, answered) in answers.iter().enumerate() {
            assert_eq!(live(&engine, life), *answered, "every answer of life {life} is given again");
        }
        assert_eq!(told(&engine), last, "and nothing was done twice");
        engine.close().unwrap();
    }
}

#[test]
fn an_archive_that_began_later_is_refused_and_nothing_is_touched() {
    let place = Place::new(72);
    let (_, last) = three_lives(&place, 2);
    let error = place.rebuild().unwrap_err().to_string();
    for says in [
        "does not go on from record 0",
        "begins with record",
        "from the first start on",
        &*place.archive().to_string_lossy(),
    ] {
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
    let engine = place.open(true);
    assert_eq!(told(&engine), last);
    let error = place.rebuild().unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    engine.close().unwrap();
}
