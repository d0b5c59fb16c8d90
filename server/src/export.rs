//! `hongbao export`: a period's ledger, envelopes or grabs as a file for those who keep books
//! elsewhere, with its sums in another beside it.
//!
//! **Invariant:** the same question has the same bytes as its answer whenever it is asked after
//! the period's end: nothing in either file depends on when it was made.
//! **Invariant:** what users have is for whoever exported it: nobody else may read the files.

use crate::backup::now;
use crate::books::{Opened, beside, check_is_new, open, wrong};
use crate::failure::{Failure, check_data_directory, check_outside, private};
use crate::money::decimal;
use crate::sheet::Field::{Maybe, Money, Number, Text, Time};
use crate::sheet::{Hashing, RowForm, Sheet};
use crate::zone::Zone;
use clap::Args;
use hongbao_engine::backend::EntryKind;
use hongbao_engine::command::EnvelopeView;
use hongbao_engine::export::Books;
use hongbao_engine::store::{Accounts, GrabLine, Movement, MovementKind, PayoutLine, Period, PeriodError};
use hongbao_engine::types::hex;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What is exported, and where to.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// ledger, envelopes, grabs or payouts
    pub what: ExportKind,
    /// Directory of journal, store and keys, or a backup
    #[arg(long, default_value = "./data")]
    pub data: PathBuf,
    /// The period's beginning: a date or time in --time-zone, or one with its own offset
    #[arg(long, value_name = "TIME")]
    pub from: String,
    /// Its end, which is not in it, and must lie in the past
    #[arg(long, value_name = "TIME")]
    pub to: String,
    /// Whose dates those are, and in which times are written: an IANA name, as Asia/Shanghai
    #[arg(long, default_value = "UTC", value_name = "NAME")]
    pub time_zone: String,
    /// csv, or jsonl
    #[arg(long, default_value = "csv")]
    pub format: RowForm,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Of a server that runs: most MiB of rows to read and write in a second
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=65_536), value_name = "COUNT")]
    pub mib_per_s_max: u64,
}

/// What can be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportKind {
    /// Movements of money.
    Ledger,
    /// Envelopes that were made.
    Envelopes,
    /// Shares that were grabbed.
    Grabs,
    /// Payouts that were made.
    Payouts,
}

impl ExportKind {
    /// As it is asked for.
    pub fn word(self) -> &'static str {
        match self {
            ExportKind::Ledger => "ledger",
            ExportKind::Envelopes => "envelopes",
            ExportKind::Grabs => "grabs",
            ExportKind::Payouts => "payouts",
        }
    }
}

impl FromStr for ExportKind {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<ExportKind, &'static str> {
        let all = [ExportKind::Ledger, ExportKind::Envelopes, ExportKind::Grabs, ExportKind::Payouts];
        all.into_iter().find(|kind| kind.word() == text).ok_or("use ledger, envelopes, grabs or payouts")
    }
}

/// Exports, and prints the sums. Says whether they add up.
///
/// # Errors
/// Why it cannot be exported.
pub fn run(options: &Export) -> Result<bool, Failure> {
    let zone = Zone::named(&options.time_zone).map_err(wrong("--time-zone"))?;
    let period = Period {
        from: zone.read(&options.from).map_err(wrong("--from"))?,
        to: zone.read(&options.to).map_err(wrong("--to"))?,
    };
    if period.from >= period.to {
        return Err(Failure::Usage("--to must be after --from".to_owned()));
    }
    let totals_file = beside(&options.out, ".totals.json");
    let check_free = || [&options.out, &totals_file].into_iter().try_for_each(|path| check_is_new(path));
    check_free()?;
    check_data_directory("--data", &options.data, &["journal", "store"])?;
    check_outside("--out", &options.out, &options.data)?;
    let Opened { books, .. } = &open(&options.data, &options.out, options.mib_per_s_max)?;
    let known_until = books.known_until(now());
    if period.to > known_until {
        let known = zone.text(known_until);
        let why = "a period is exported once it is over, and a backup knows what was before it was made";
        return Err(Failure::Usage(format!("--to must lie in the past, by {known} at the latest: {why}")));
    }
    let parts = [&options.out, &totals_file].map(|path| beside(path, ".part"));
    let part = begin(&parts[0])?;
    let made = write(books, options, &zone, period, (&parts[0], part)).and_then(|totals| {
        let text = serde_json::to_string_pretty(&totals).map_err(|error| Failure::Broken(error.to_string()))?;
        let written = private().truncate(true).open(&parts[1]).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        });
        written.map_err(untaken(&parts[1]))?;
        check_free()?;
        fs::rename(&parts[1], &totals_file).map_err(untaken(&totals_file))?;
        fs::rename(&parts[0], &options.out).map_err(untaken(&options.out))?;
        Ok(totals)
    });
    // It may be what filled the disk.
    if made.is_err() {
        parts.iter().for_each(|part| drop(fs::remove_file(part)));
    }
    let totals = made?;
    println!("{}: {} rows, sha256 {}", options.out.display(), totals.rows, totals.sha256);
    for (name, sum) in &totals.sums {
        println!("  {name}: {}", sum.amount);
    }
    for difference in &totals.differences {
        println!("difference: {difference}");
    }
    if totals.accounts.is_some() && totals.differences.is_empty() {
        println!("opening and movements are the closing, of every kind of account");
    }
    Ok(totals.differences.is_empty())
}

/// What stands beside an export.
#[derive(Serialize)]
struct Totals {
    export: &'static str,
    from: String,
    to: String,
    time_zone: String,
    time_zone_data: String,
    currency: String,
    rows: u64,
    /// By kind of movement, or by what a column of money is called.
    sums: BTreeMap<&'static str, Sum>,
    /// Of a ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<BTreeMap<&'static str, AccountSums>>,
    differences: Vec<String>,
    sha256: String,
}

/// Money, in both forms.
#[derive(Serialize)]
struct Sum {
    amount_minor: i128,
    amount: String,
}

/// One kind of account.
#[derive(Serialize)]
struct AccountSums {
    opening_minor: i128,
    moved_minor: i128,
    closing_minor: i128,
}

impl ExportKind {
    /// What a row's cells are called, in their order.
    fn columns(self) -> Vec<&'static str> {
        let all = match self {
            ExportKind::Ledger => {
                "user record at kind from to amount_minor amount balance_after_minor balance_after of reference"
            }
            ExportKind::Envelopes => {
                "id owner sender created_at opens_at expires_at claim_by state ended_as split shares remaining_shares \
                 total_minor total remaining_minor remaining claimed_minor claimed refunded_minor refunded \
                 message reference metadata"
            }
            ExportKind::Grabs => "envelope sender share user amount_minor amount status grabbed_at claimed_at",
            ExportKind::Payouts => {
                "id kind user amount_minor amount envelope created_at paid_at reference funding_reference"
            }
        };
        all.split(' ').collect()
    }
}

fn untaken(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Broken(format!("{}: {error}; free space", path.display()))
}

/// A file to write into, of which nobody else writes one, empty whatever was left of it.
fn begin(part: &Path) -> Result<File, Failure> {
    let file = private().open(part).map_err(untaken(part))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        let why = "is being written by another export; wait for it, or name another file with --out";
        return Err(Failure::Usage(format!("{} {why}", part.display())));
    }
    file.set_len(0).map_err(untaken(part))?;
    Ok(file)
}

fn write(
    books: &Books,
    options: &Export,
    zone: &Zone,
    period: Period,
    (part, file): (&Path, File),
) -> Result<Totals, Failure> {
    let untaken = untaken(part);
    let to = Hashing { to: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() };
    let currency = books.currency();
    let columns = options.what.columns();
    let mut sheet = Sheet { to, form: options.format, columns, zone, currency, rows: 0, sums: BTreeMap::new() };
    sheet.head().map_err(&untaken)?;
    let store = books.store();
    let told = match options.what {
        ExportKind::Ledger => store.movements(period, &mut |movement| write_movement(&mut sheet, movement)).map(Some),
        ExportKind::Envelopes => {
            store.envelopes_made(period, &mut |view| write_envelope(&mut sheet, view)).map(|()| None)
        }
        ExportKind::Payouts => store.payouts_made(period, &mut |line| write_payout(&mut sheet, line)).map(|()| None),
        ExportKind::Grabs => store.grabs_made(period, &mut |line| write_grab(&mut sheet, line)).map(|()| None),
    };
    let accounts = told.map_err(|error| match error {
        PeriodError::Store(error) => Failure::Broken(error.to_string()),
        PeriodError::Untaken(error) => untaken(error),
    })?;
    let Sheet { to: Hashing { mut to, hash }, rows, sums, .. } = sheet;
    to.flush().map_err(&untaken)?;
    to.get_ref().sync_all().map_err(&untaken)?;
    let sums = sums
        .into_iter()
        .map(|(name, amount_minor)| (name, Sum { amount_minor, amount: decimal(amount_minor, currency) }));
    Ok(Totals {
        export: options.what.word(),
        from: zone.text(period.from),
        to: zone.text(period.to),
        time_zone: zone.name().to_owned(),
        time_zone_data: Zone::data_version(),
        currency: currency.to_owned(),
        rows,
        sums: sums.collect(),
        accounts: accounts.as_ref().map(account_sums),
        differences: accounts.map(|accounts| accounts.differences()).unwrap_or_default(),
        sha256: hex(&hash.finalize()),
    })
}

fn account_sums(accounts: &Accounts) -> BTreeMap<&'static str, AccountSums> {
    let [opening, moved, closing] = [accounts.opening, accounts.moved, accounts.closing].map(|sums| sums.named());
    let of = |index: usize| {
        let (name, opening_minor) = opening[index];
        (name, AccountSums { opening_minor, moved_minor: moved[index].1, closing_minor: closing[index].1 })
    };
    (0..opening.len()).map(of).collect()
}

fn write_movement(sheet: &mut Sheet<'_>, movement: Movement) -> io::Result<()> {
    let Movement { lsn, user, at, kind, from, to, amount } = movement;
    let (word, of, reference, balance_after) = match kind {
        MovementKind::Wallet(kind, balance_after) => {
            let (word, of, reference) = match kind {
                EntryKind::Deposit(reference) => ("deposit", None, reference),
                EntryKind::Withdrawal(reference) => ("withdrawal", None, reference),
                EntryKind::EnvelopeCreated(id) => ("envelope", Some(id.to_string()), None),
                EntryKind::Claim(id) => ("claim", Some(id.to_string()), None),
                EntryKind::Refund(id) => ("refund", Some(id.to_string()), None),
                EntryKind::Lapse(id) => ("lapse", Some(id.to_string()), None),
                EntryKind::Order(id) => ("order", Some(id.to_string()), None),
                EntryKind::OrderRefund(id) => ("order_refund", Some(id.to_string()), None),
                EntryKind::GiftPaid(id) => ("gift", Some(id.to_string()), None),
                EntryKind::GiftRefund(id) => ("gift_refund", Some(id.to_string()), None),
                EntryKind::GroupPaid(id) => ("group", Some(id.to_string()), None),
                EntryKind::GroupRefund(id) => ("group_refund", Some(id.to_string()), None),
            };
            (word, of, reference, Some(balance_after))
        }
        MovementKind::Funding(id, reference) => ("funding", Some(id.to_string()), Some(reference), None),
        MovementKind::PayoutMade(id) => ("payout", Some(id.to_string()), None, None),
        MovementKind::Commission => ("commission", None, None, None),
        MovementKind::SalesWithdrawn(reference) => ("sales_withdrawal", None, reference, None),
        MovementKind::GiftShipped(id) => ("shipped", Some(id.to_string()), None, None),
        MovementKind::PaymentCame(id, number) => ("payment", Some(id.to_string()), number, None),
        MovementKind::PaymentRefunding(id) => ("payment_refunding", Some(id.to_string()), None, None),
        MovementKind::PaymentRefunded(id, number) => ("payment_refunded", Some(id.to_string()), number, None),
        MovementKind::GroupBought(id) => ("group_bought", Some(id.to_string()), None, None),
        MovementKind::Paid(id, reference) => ("paid", Some(id.to_string()), reference, None),
    };
    sheet.add(word, amount);
    sheet.row([
        Text(user.to_string()),
        Number(lsn.map(|lsn| lsn.0)),
        Time(Some(at)),
        Text(word.to_owned()),
        Text(from.to_string()),
        Text(to.to_string()),
        Money(Some(amount)),
        Money(balance_after),
        Maybe(of),
        Maybe(reference),
    ])
}

fn write_envelope(sheet: &mut Sheet<'_>, view: EnvelopeView) -> io::Result<()> {
    for (name, amount) in [
        ("total", view.total),
        ("remaining", view.remaining_amount),
        ("claimed", view.claimed_amount),
        ("refunded", view.refunded_amount),
    ] {
        sheet.add(name, amount);
    }
    sheet.row([
        Text(view.id.to_string()),
        Text(view.owner),
        Text(view.sender.to_string()),
        Time(Some(view.created_at)),
        Time(Some(view.opens_at)),
        Time(Some(view.expires_at)),
        Time(Some(view.claim_by)),
        Text(word_of(&view.state)),
        Maybe(view.ended_as.as_ref().map(word_of)),
        Text(view.split),
        Number(Some(view.shares.into())),
        Number(Some(view.remaining_shares.into())),
        Money(Some(view.total)),
        Money(Some(view.remaining_amount)),
        Money(Some(view.claimed_amount)),
        Money(Some(view.refunded_amount)),
        Text(view.message),
        Maybe(view.reference),
        Text(view.metadata),
    ])
}

fn write_grab(sheet: &mut Sheet<'_>, line: GrabLine) -> io::Result<()> {
    let GrabLine { envelope, sender, win, status } = line;
    sheet.add("grabbed", win.amount);
    if win.claimed_at.is_some() {
        sheet.add("claimed", win.amount);
    }
    sheet.row([
        Text(envelope.to_string()),
        Text(sender.to_string()),
        Number(Some(win.share.into())),
        Text(win.user.to_string()),
        Money(Some(win.amount)),
        Text(word_of(&status)),
        Time(Some(win.grabbed_at)),
        Time(win.claimed_at),
    ])
}

/// What came of it before it was paid is not kept, so it cannot be told the same later.
fn write_payout(sheet: &mut Sheet<'_>, line: PayoutLine) -> io::Result<()> {
    let PayoutLine { payout, paid_at, funding_reference } = line;
    sheet.add(if paid_at.is_some() { "paid" } else { "payable" }, payout.amount);
    sheet.row([
        Text(payout.id.to_string()),
        Text(word_of(&payout.kind)),
        Text(payout.user.to_string()),
        Money(Some(payout.amount)),
        Text(payout.envelope.to_string()),
        Time(Some(payout.created_at)),
        Time(paid_at),
        Maybe(payout.reference.filter(|_| paid_at.is_some())),
        Maybe(funding_reference),
    ])
}

/// A word as JSON has it.
fn word_of(word: &impl Serialize) -> String {
    serde_json::to_value(word).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
