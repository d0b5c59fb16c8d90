//! `hongbao audit`: checks every invariant of a directory, or of a deployment in Redis.

use crate::config::{Placed, urls_of_environment};
use crate::failure::{Failure, check_data_directory};
use crate::progress::Bar;
use crate::reconcile::{in_front_of, tell_unsettled, word_of};
use hongbao_engine::audit::audit;
use hongbao_engine::redis::Progress;
use hongbao_engine::store::Audited;
use hongbao_engine::types::Lsn;
use std::path::Path;

/// How many findings are printed; the rest is counted.
const PRINTED_MAX: u64 = 20;

/// Audits a directory, or the deployment in Redis that is named or else in the environment, and prints what was
/// found. Says whether it was clean.
///
/// # Errors
/// Why it cannot be audited at all.
pub fn run(data: Option<&Path>, archive: Option<&Path>, place: &Placed) -> Result<bool, Failure> {
    // Whoever names a directory means it, whatever the environment says.
    let names_directory = data.is_some() || archive.is_some();
    if !place.redis.is_empty() || !names_directory && !urls_of_environment().is_empty() {
        return run_on_redis(place);
    }
    run_on_directory(data.unwrap_or(Path::new("./data")), archive)
}

fn run_on_directory(data: &Path, archive: Option<&Path>) -> Result<bool, Failure> {
    check_data_directory("--data", data, &["journal", "store"])?;
    if let Some(archive) = archive.filter(|path| !path.is_dir()) {
        let why = "is not a directory; name the one that the server was given with --archive";
        return Err(Failure::Usage(format!("{} {why}", archive.display())));
    }
    let report = audit(data, archive, &mut printer())?;
    Ok(tell(&report.audited, report.records, report.last_lsn))
}

fn run_on_redis(place: &Placed) -> Result<bool, Failure> {
    let report = in_front_of(place, async |backend| {
        let bar = Bar::of("buckets");
        Ok(backend.audit_rows(&mut |Progress { done, all }| bar.tell(done, all)).await?)
    })?;
    let mut print = printer();
    for finding in &report.findings {
        print(format!("{}: {}", word_of(finding), finding.what));
    }
    println!(
        "{}; {} effects wait, with {} in flight",
        looked_at(&report.looked_at),
        report.waiting,
        report.totals.in_flight
    );
    tell_unsettled(&report);
    Ok(tell_findings(&report.looked_at))
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
    println!("{}; {records} records read, the last is {}", looked_at(audited), last_lsn.0);
    tell_findings(audited)
}

fn looked_at(audited: &Audited) -> String {
    let Audited {
        wallets,
        entries,
        envelopes,
        wins,
        items,
        holds,
        orders,
        payouts,
        gifts,
        groups,
        codes,
        relations,
        ..
    } = audited;
    format!(
        "{wallets} wallets, {entries} movements, {envelopes} envelopes, {wins} shares, {items} items, {holds} holds, \
         {orders} orders, {payouts} payouts, {gifts} gifts, {groups} groups, {codes} codes, {relations} relations"
    )
}

fn tell_findings(audited: &Audited) -> bool {
    match audited.findings {
        0 => println!("clean: nothing is lost, doubled or oversold"),
        findings => println!("{findings} differences"),
    }
    audited.findings == 0
}
