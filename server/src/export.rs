//! `hongbao export`: a period's ledger, envelopes or grabs as a file for those who keep books
//! elsewhere, with its sums in another beside it.
//!
//! **Invariant:** the same question has the same bytes as its answer whenever it is asked after
//! the period's end: nothing in either file depends on when it was made.

use crate::backup;
use crate::csv::write_row;
use crate::failure::{Failure, check_data_directory};
use crate::money::decimal;
use crate::progress::Bar;
use crate::zone::{Zone, ZoneError};
use clap::Args;
use hongbao_engine::backend::EntryKind;
use hongbao_engine::backup::BackupError;
use hongbao_engine::command::EnvelopeView;
use hongbao_engine::export::Books;
use hongbao_engine::memory::OpenError;
use hongbao_engine::payout::Payout;
use hongbao_engine::store::{Accounts, GrabLine, Movement, MovementKind, Period, PeriodError};
use hongbao_engine::types::{Amount, Timestamp};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::SystemTime;

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

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowForm {
    /// Comma-separated values with a head, for spreadsheets.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

impl FromStr for RowForm {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<RowForm, &'static str> {
        match text {
            "csv" => Ok(RowForm::Csv),
            "jsonl" => Ok(RowForm::Jsonl),
            _ => Err("use csv, or jsonl"),
        }
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
        return Err(Failure::Usage("--from is before --to".to_owned()));
    }
    let totals_file = beside(&options.out, ".totals.json");
    for path in [&options.out, &totals_file] {
        if path.exists() {
            let why = "is there already; name another file with --out, or move it away";
            return Err(Failure::Usage(format!("{} {why}", path.display())));
        }
    }
    let (books, _scratch) = open(options)?;
    let known_until = books.known_until(now());
    if period.to > known_until {
        let known = zone.text(known_until);
        let why = "a period is exported once it is over, and a backup knows what was before it was made";
        return Err(Failure::Usage(format!("--to must lie in the past, by {known} at the latest: {why}")));
    }
    let part = beside(&options.out, ".part");
    let written = write(&books, options, &zone, period, &part);
    let totals = match written {
        Ok(totals) => totals,
        Err(error) => {
            let _ = fs::remove_file(&part);
            return Err(error);
        }
    };
    let text = serde_json::to_string_pretty(&totals).map_err(|error| Failure::Broken(error.to_string()))?;
    let kept = File::create_new(&totals_file).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&part, &options.out)
    });
    kept.map_err(|error| Failure::Broken(format!("{}: {error}", options.out.display())))?;
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

fn wrong(option: &'static str) -> impl Fn(ZoneError) -> Failure {
    move |error| Failure::Usage(format!("{option}: {error}"))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

fn now() -> Timestamp {
    Timestamp::from_ms(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64))
}

/// The books, and what has to be kept as long. Of a server that runs a backup is made first.
fn open(options: &Export) -> Result<(Books, Option<tempfile::TempDir>), Failure> {
    check_data_directory("--data", &options.data, &["journal", "store"])?;
    match Books::open(&options.data) {
        Err(BackupError::Open(OpenError::Locked(_))) => {}
        opened => return Ok((opened?, None)),
    }
    let parent = options.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = tempfile::Builder::new().prefix(".hongbao-export-").tempdir_in(parent);
    let place = place.map_err(|error| Failure::Usage(format!("{}: {error}; make it first", parent.display())))?;
    let copy = place.path().join("backup");
    let bar = Bar::of("rows");
    backup::make(&options.data, &copy, options.mib_per_s_max, &mut |progress| {
        bar.tell(progress.done, progress.about.max(progress.done));
    })?;
    Ok((Books::open(&copy)?, Some(place)))
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

/// One cell, or two of them.
enum Field {
    Text(String),
    /// May be missing.
    Maybe(Option<String>),
    Number(Option<u64>),
    /// Minor units, and the same as a decimal.
    Money(Option<Amount>),
    Time(Option<Timestamp>),
}

use Field::{Maybe, Money, Number, Text, Time};

/// Writes rows of one shape and counts what is in them.
struct Sheet<'a> {
    to: Hashing<BufWriter<File>>,
    form: RowForm,
    zone: &'a Zone,
    currency: &'a str,
    rows: u64,
    sums: BTreeMap<&'static str, i128>,
}

impl Sheet<'_> {
    fn row<const N: usize>(&mut self, fields: [(&'static str, Field); N]) -> io::Result<()> {
        // A column of money is one of minor units and one with a decimal point.
        let mut cells: Vec<(String, Cell)> = Vec::with_capacity(N + 4);
        for (name, field) in fields {
            match field {
                Text(text) => cells.push((name.to_owned(), Cell::Text(text))),
                Maybe(text) => cells.push((name.to_owned(), text.map_or(Cell::Nothing, Cell::Text))),
                Number(number) => cells.push((name.to_owned(), number.map_or(Cell::Nothing, Cell::Number))),
                Time(at) => {
                    cells.push((name.to_owned(), at.map_or(Cell::Nothing, |at| Cell::Text(self.zone.text(at)))));
                }
                Money(amount) => {
                    let minor = amount.map(Amount::minor);
                    let decimal = minor.map(|minor| decimal(minor.into(), self.currency));
                    cells.push((format!("{name}_minor"), minor.map_or(Cell::Nothing, Cell::Number)));
                    cells.push((name.to_owned(), decimal.map_or(Cell::Nothing, Cell::Text)));
                }
            }
        }
        match self.form {
            RowForm::Csv => {
                if self.rows == 0 {
                    write_row(&mut self.to, cells.iter().map(|(name, _)| name.as_str()))?;
                }
                let cells: Vec<String> = cells.into_iter().map(|(_, cell)| cell.text()).collect();
                write_row(&mut self.to, cells.iter().map(String::as_str))?;
            }
            RowForm::Jsonl => {
                for (number, (name, cell)) in cells.iter().enumerate() {
                    let begin = if number == 0 { '{' } else { ',' };
                    write!(self.to, "{begin}\"{name}\":{}", cell.json()?)?;
                }
                self.to.write_all(b"}\n")?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn add(&mut self, name: &'static str, amount: Amount) {
        *self.sums.entry(name).or_default() += i128::from(amount.minor());
    }
}

enum Cell {
    Nothing,
    Text(String),
    Number(u64),
}

impl Cell {
    fn text(self) -> String {
        match self {
            Cell::Nothing => String::new(),
            Cell::Text(text) => text,
            Cell::Number(number) => number.to_string(),
        }
    }

    fn json(&self) -> io::Result<String> {
        Ok(match self {
            Cell::Nothing => "null".to_owned(),
            Cell::Text(text) => serde_json::to_string(text)?,
            Cell::Number(number) => number.to_string(),
        })
    }
}

/// Writes on, and makes a digest of it.
struct Hashing<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn write(books: &Books, options: &Export, zone: &Zone, period: Period, part: &Path) -> Result<Totals, Failure> {
    let untaken = |error: io::Error| Failure::Broken(format!("{}: {error}; free space", part.display()));
    let file = File::create(part).map_err(untaken)?;
    let to = Hashing { to: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new() };
    let currency = books.currency();
    let mut sheet = Sheet { to, form: options.format, zone, currency, rows: 0, sums: BTreeMap::new() };
    let store = books.store();
    let told = match options.what {
        ExportKind::Ledger => store.movements(period, &mut |movement| write_movement(&mut sheet, movement)).map(Some),
        ExportKind::Envelopes => {
            store.envelopes_made(period, &mut |view| write_envelope(&mut sheet, view)).map(|()| None)
        }
        ExportKind::Payouts => store
            .payouts_made(period, &mut |(payout, paid_at)| write_payout(&mut sheet, payout, paid_at))
            .map(|()| None),
        ExportKind::Grabs => store.grabs_made(period, &mut |line| write_grab(&mut sheet, line)).map(|()| None),
    };
    let accounts = told.map_err(|error| match error {
        PeriodError::Store(error) => Failure::Broken(error.to_string()),
        PeriodError::Untaken(error) => untaken(error),
    })?;
    let Sheet { to: Hashing { mut to, hash }, rows, sums, .. } = sheet;
    to.flush().map_err(untaken)?;
    to.get_ref().sync_all().map_err(untaken)?;
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
        sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
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
            };
            (word, of, reference, Some(balance_after))
        }
        MovementKind::Funding(id, reference) => ("funding", Some(id.to_string()), Some(reference), None),
        MovementKind::PayoutMade(id) => ("payout", Some(id.to_string()), None, None),
        MovementKind::Paid(id, reference) => ("paid", Some(id.to_string()), reference, None),
    };
    sheet.add(word, amount);
    sheet.row([
        ("user", Text(user.to_string())),
        ("record", Number(lsn.map(|lsn| lsn.0))),
        ("at", Time(Some(at))),
        ("kind", Text(word.to_owned())),
        ("from", Text(from.to_string())),
        ("to", Text(to.to_string())),
        ("amount", Money(Some(amount))),
        ("balance_after", Money(balance_after)),
        ("of", Maybe(of)),
        ("reference", Maybe(reference)),
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
        ("id", Text(view.id.to_string())),
        ("owner", Text(view.owner)),
        ("sender", Text(view.sender.to_string())),
        ("created_at", Time(Some(view.created_at))),
        ("opens_at", Time(Some(view.opens_at))),
        ("expires_at", Time(Some(view.expires_at))),
        ("claim_by", Time(Some(view.claim_by))),
        ("state", Text(word_of(&view.state))),
        ("ended_as", Maybe(view.ended_as.as_ref().map(word_of))),
        ("split", Text(view.split)),
        ("shares", Number(Some(view.shares.into()))),
        ("remaining_shares", Number(Some(view.remaining_shares.into()))),
        ("total", Money(Some(view.total))),
        ("remaining", Money(Some(view.remaining_amount))),
        ("claimed", Money(Some(view.claimed_amount))),
        ("refunded", Money(Some(view.refunded_amount))),
        ("message", Text(view.message)),
        ("reference", Maybe(view.reference)),
        ("metadata", Text(view.metadata)),
    ])
}

fn write_grab(sheet: &mut Sheet<'_>, line: GrabLine) -> io::Result<()> {
    let GrabLine { envelope, sender, win, status } = line;
    sheet.add("grabbed", win.amount);
    if win.claimed_at.is_some() {
        sheet.add("claimed", win.amount);
    }
    sheet.row([
        ("envelope", Text(envelope.to_string())),
        ("sender", Text(sender.to_string())),
        ("share", Number(Some(win.share.into()))),
        ("user", Text(win.user.to_string())),
        ("amount", Money(Some(win.amount))),
        ("status", Text(word_of(&status))),
        ("grabbed_at", Time(Some(win.grabbed_at))),
        ("claimed_at", Time(win.claimed_at)),
    ])
}

/// What came of it before it was paid is not kept, so it cannot be told the same later.
fn write_payout(sheet: &mut Sheet<'_>, payout: Payout, paid_at: Option<Timestamp>) -> io::Result<()> {
    sheet.add(if paid_at.is_some() { "paid" } else { "payable" }, payout.amount);
    sheet.row([
        ("id", Text(payout.id.to_string())),
        ("kind", Text(word_of(&payout.kind))),
        ("user", Text(payout.user.to_string())),
        ("amount", Money(Some(payout.amount))),
        ("envelope", Text(payout.envelope.to_string())),
        ("created_at", Time(Some(payout.created_at))),
        ("paid_at", Time(paid_at)),
        ("reference", Maybe(payout.reference.filter(|_| paid_at.is_some()))),
    ])
}

/// A word as JSON has it.
fn word_of(word: &impl Serialize) -> String {
    serde_json::to_value(word).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
