//! Rows on their way into a backup: cut off anywhere they make none.

mod stand;

use hongbao_engine::audit::audit;
use hongbao_engine::backup::{BackupError, BackupInfo, BackupStream, send};
use hongbao_engine::command::*;
use hongbao_engine::memory::{Embedded, OpenError};
use hongbao_engine::types::Timestamp;
use stand::*;
use std::path::Path;

const PACE: u64 = 1 << 40;

fn made(stream: &[u8], to: &Path) -> Result<u64, BackupError> {
    Ok(BackupStream::read(stream, PACE)?.make(to, Timestamp::from_ms(7), &mut |_| ())?.rows)
}

/// An engine with a little of everything, and its rows as they are sent.
fn sent(directory: &Path) -> (Embedded, Vec<u8>) {
    let engine = Embedded::open(directory, World::new(5).options()).unwrap().0;
    let funds = Transfer { user: user("alice"), amount: fen(1000), reference: Some(reference("app", "r")) };
    engine.ask(Command::Deposit(funds));
    let terms = NewEnvelope { metadata: "{}".repeat(3000), ..envelope(100, 5) };
    let asked = engine.ask(Command::CreateEnvelope(Box::new(terms)));
    let Outcome::Envelope(made) = asked else { panic!("{asked:?}") };
    engine.ask(Command::Grab { envelope: made.id, user: user("bob") });
    engine.ask(Command::Claim { envelope: made.id, user: user("bob") });
    let mut stream = Vec::new();
    send(&engine, &mut stream).unwrap();
    (engine, stream)
}

#[test]
fn rows_that_were_cut_off_make_no_backup() {
    let place = tempfile::tempdir().unwrap();
    let (engine, stream) = sent(&place.path().join("data"));
    let to = place.path().join("backup");
    let step = stream.len() / 40;
    for cut in (0..stream.len()).step_by(step).chain(stream.len() - 14..stream.len()) {
        let error = made(&stream[..cut], &to).expect_err("it was cut off");
        assert!(matches!(error, BackupError::Ended(_)), "{cut}: {error}");
        assert!(error.to_string().contains("make it again"), "{error}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left of it");
    }
    // A byte of the last row: a page of the metadata's parts, or what stands behind it.
    let mut flipped = stream.clone();
    flipped[stream.len() - 40] ^= 1;
    assert!(made(&flipped, &to).is_err());

    // Of another form: it stands behind the head's length.
    let mut other = stream.clone();
    other[5] += 1;
    let told = made(&other, &to).expect_err("it is of another form").to_string();
    assert!(told.contains("of another version than this one: use that one"), "{told}");

    let rows = made(&stream, &to).unwrap();
    assert!(rows > 10);
    let info = BackupInfo::read(&to).unwrap();
    assert_eq!((info.lsn, info.made_at, &*info.mode), (engine.stats().durable_lsn, Timestamp::from_ms(7), "test"));
    let report = audit(&to, None, &mut |finding| panic!("{finding}")).unwrap();
    assert_eq!((report.last_lsn, report.audited.wins), (info.lsn, 1));
    assert!(matches!(Embedded::open(&to, World::new(5).options()), Err(OpenError::IsBackup(_))));
    assert!(matches!(made(&stream, &to), Err(BackupError::Refused(_))), "there is one already");
    let told = to.join("backup");
    let text = std::fs::read_to_string(&told).unwrap();
    for form in ["form=0", "form=2"] {
        std::fs::write(&told, text.replace("form=1", form)).unwrap();
        let error = BackupInfo::read(&to).expect_err("it is of another form").to_string();
        assert!(error.contains("use the version that made it"), "{error}");
    }
    engine.close().unwrap();

    let mut refusal = Vec::new();
    send(&engine, &mut refusal).expect_err("it is closed");
    let told = made(&refusal, &place.path().join("another")).expect_err("it is closed").to_string();
    assert!(told.contains("shutting down"), "{told}");
}
