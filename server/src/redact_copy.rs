//! `hongbao redact --from`: a copy of an archive, a backup or a stopped data directory without some
//! envelopes' messages.

use crate::failure::{Failure, check_outside};
use crate::progress::Bar;
use hongbao_engine::backup::{Erased, Kind, Step, erase};
use hongbao_engine::erase::Erasure;
use std::path::Path;

/// Makes the copy, and prints what was taken out and what is left to be done.
///
/// # Errors
/// Why there is none.
pub(crate) fn copy(from: &Path, to: &Path, erasure: &Erasure) -> Result<bool, Failure> {
    check_outside("--to", to, from)?;
    let (mut rows, mut bytes) = (None, None);
    let erased = erase(from, to, erasure, &mut |step| match step {
        Step::Rows(done, about) => rows.get_or_insert_with(|| Bar::of("rows")).tell(done, about),
        Step::Bytes(done, all) => {
            rows = None;
            bytes.get_or_insert_with(|| Bar::of("bytes")).tell(done, all);
        }
    })?;
    drop((rows, bytes));
    let Erased { kind, records, rows, last } = erased;
    let (from, to) = (from.display(), to.display());
    let what = match kind {
        Kind::Archive => format!("texts were taken out of {records} records"),
        Kind::Backup => format!("texts were taken out of {rows} rows"),
        Kind::Data => format!("texts were taken out of {rows} rows and {records} records"),
    };
    println!("{to}: everything up to record {}; {what}", last.0);
    let audit = match kind {
        Kind::Archive => format!("hongbao audit --data DATA --archive {to}"),
        Kind::Backup | Kind::Data => format!("hongbao audit --data {to}"),
    };
    println!("{from} is as it was: once `{audit}` says clean, put {to} in its place and delete it");
    Ok(true)
}
