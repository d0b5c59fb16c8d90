//! `hongbao rebuild`: makes the store of a directory anew from its archive and journal.

use crate::audit::{printer, tell};
use crate::failure::{Failure, check_data_directory};
use hongbao_engine::rebuild::rebuild;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it is told how far it is.
const TELL: Duration = Duration::from_secs(1);

/// Rebuilds, and prints what was done. Says whether the new store is in place.
///
/// # Errors
/// Why the store cannot be made anew; the old one is where it was.
pub fn run(data: &Path, archive: &Path) -> Result<bool, Failure> {
    check_data_directory("--data", data, &["journal"])?;
    let began = Instant::now();
    let mut told = began;
    let end = if std::io::stderr().is_terminal() { '\r' } else { '\n' };
    let rebuilt = rebuild(
        data,
        archive,
        &mut |lsn| {
            if told.elapsed() >= TELL {
                told = Instant::now();
                let rate = lsn.0 as f64 / began.elapsed().as_secs_f64();
                // Nobody has to read it.
                let _ = write!(std::io::stderr(), "{} records, {rate:.0} a second{end}", lsn.0);
            }
        },
        &mut printer(),
    )?;
    let clean = tell(&rebuilt.audited, rebuilt.records, rebuilt.last_lsn);
    let store = data.join("store");
    match (clean, rebuilt.old_store) {
        (true, Some(old)) => println!("{} is new; the old one is {}", store.display(), old.display()),
        (true, None) => println!("{} is new; there was none", store.display()),
        (false, _) => println!("{} is as it was; the new one is {}.rebuilt", store.display(), store.display()),
    }
    Ok(clean)
}
