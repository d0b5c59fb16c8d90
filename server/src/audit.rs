//! `hongbao audit`: checks journal, store and every invariant of a directory.

use crate::failure::{Failure, check_data_directory};
use hongbao_engine::audit::audit;
use hongbao_engine::store::Audited;
use hongbao_engine::types::Lsn;
use std::path::Path;

/// How many findings are printed; the rest is counted.
const PRINTED_MAX: u64 = 20;

/// Audits a directory and prints what was found. Says whether it was clean.
///
/// # Errors
/// Why the directory cannot be audited at all.
pub fn run(data: &Path, archive: Option<&Path>) -> Result<bool, Failure> {
    check_data_directory(data, &["journal", "store"])?;
    if let Some(archive) = archive.filter(|path| !path.is_dir()) {
        let why = "is not a directory; name the one that the server was given with --archive";
        return Err(Failure::Usage(format!("{} {why}", archive.display())));
    }
    let report = audit(data, archive, &mut printer())?;
    Ok(tell(&report.audited, report.records, report.last_lsn))
}

/// Prints the first findings.
pub(crate) fn printer() -> impl FnMut(String) {
    let mut printed = 0;
    move |finding| {
        printed += 1;
        if printed <= PRINTED_MAX {
            println!("difference {printed}: {finding}");
        }
    }
}

/// Prints what was looked at, and says whether it was clean.
pub(crate) fn tell(audited: &Audited, records: u64, last_lsn: Lsn) -> bool {
    println!(
        "{} wallets, {} movements, {} envelopes, {} shares, {} items, {} holds, {} orders; \
         {} records read, the last is {}",
        audited.wallets,
        audited.entries,
        audited.envelopes,
        audited.wins,
        audited.items,
        audited.holds,
        audited.orders,
        records,
        last_lsn.0,
    );
    match audited.findings {
        0 => println!("clean: nothing is lost, doubled or oversold"),
        findings => println!("{findings} differences"),
    }
    audited.findings == 0
}
