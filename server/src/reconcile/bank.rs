//! A bank's file: which payments it has, under which references.
//!
//! **Invariant:** a row that is not understood ends it with the row's line and the remedy; no
//! payment is left out, and none is guessed.

use crate::csv::{Rows, unmarked};
use crate::failure::Failure;
use crate::money::{read_decimal, read_minor};
use sha2::{Digest, Sha256};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::str::FromStr;

/// What columns with our reference for a payment are called, in lower case with `_` for blanks.
const REFERENCES: [&str; 12] = [
    "payout",
    "payout_id",
    "id",
    "reference",
    "client_reference",
    "customer_reference",
    "payment_reference",
    "end_to_end_id",
    "endtoendid",
    "out_biz_no",
    "商户订单号",
    "商家订单号",
];
/// What columns with amounts in the currency's own unit are called.
const DECIMALS: [&str; 7] =
    ["amount", "transaction_amount", "trans_amount", "金额", "交易金额", "转账金额", "付款金额"];
/// The same, of minor units.
const MINORS: [&str; 3] = ["amount_minor", "amount_cents", "amount_fen"];

/// How amounts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountUnit {
    /// In the currency's own unit: 4.17.
    Decimal,
    /// In its minor unit: 417.
    Minor,
}

impl FromStr for AmountUnit {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<AmountUnit, &'static str> {
        match text {
            "decimal" => Ok(AmountUnit::Decimal),
            "minor" | "fen" => Ok(AmountUnit::Minor),
            _ => Err("use decimal (4.17), or minor (417)"),
        }
    }
}

/// How a file is to be read, as far as it was said.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) reference: Option<String>,
    pub(super) amount: Option<String>,
    pub(super) unit: Option<AmountUnit>,
}

/// Under what a payment is found: of any reference so much of its digest.
pub(super) type Key = [u8; 16];

pub(super) fn key_of(reference: &str) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&Sha256::digest(reference)[..16]);
    key
}

/// A row, whatever else stands in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payment {
    key: Key,
    /// Less than nothing if it came back.
    pub(super) amount_minor: i64,
    /// The line that it begins in.
    pub(super) line: u64,
    /// Whether it belongs to a payout here.
    pub(super) is_ours: bool,
}

const _: () = assert!(size_of::<Payment>() == 40);

/// All rows of a file, to be found by their reference.
#[derive(Debug)]
pub(super) struct Bank {
    payments: Vec<Payment>,
    columns: Columns,
}

impl Bank {
    /// Reads a file.
    ///
    /// # Errors
    /// What in it is not understood, and how it would be.
    pub(super) fn read(path: &Path, wanted: &Wanted, currency: &str) -> Result<Bank, Failure> {
        Bank::of(open(path)?, wanted, currency).map_err(in_file(path))
    }

    /// Looks whether the file is there and its columns are known, before anything takes long.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn check(path: &Path, wanted: &Wanted) -> Result<(), Failure> {
        begin(open(path)?, wanted).map(drop).map_err(in_file(path))
    }

    fn of(from: impl BufRead, wanted: &Wanted, currency: &str) -> Result<Bank, String> {
        let mut payments = Vec::new();
        let columns = each(from, wanted, currency, |line, reference, amount_minor| {
            payments.push(Payment { key: key_of(reference), amount_minor, line, is_ours: false });
        })?;
        if !payments.is_empty() && payments.iter().all(|payment| payment.amount_minor < 0) {
            let why = "every amount has a minus, as if all had come back; if the bank writes so what went out, take the minus away";
            return Err(why.to_owned());
        }
        payments.sort_unstable_by_key(|payment| (payment.key, payment.line));
        Ok(Bank { payments, columns })
    }

    /// In words, which columns were read.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    pub(super) fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// The rows under a reference, by line.
    pub(super) fn under(&mut self, key: Key) -> &mut [Payment] {
        let from = self.payments.partition_point(|payment| payment.key < key);
        let rest = &mut self.payments[from..];
        let rows = rest.partition_point(|payment| payment.key == key);
        &mut rest[..rows]
    }

    /// Gives `take` the rows that belong to no payout here, with their references, which are read from the file again.
    ///
    /// # Errors
    /// That the file cannot be read again.
    pub(super) fn each_foreign(
        &self,
        path: &Path,
        wanted: &Wanted,
        currency: &str,
        mut take: impl FnMut(u64, &str, i64),
    ) -> Result<(), Failure> {
        let foreign = self.payments.iter().filter(|payment| !payment.is_ours);
        let mut lines: Vec<u64> = foreign.map(|payment| payment.line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        lines.sort_unstable();
        let mut lines = lines.into_iter().peekable();
        let read = each(open(path)?, wanted, currency, |line, reference, amount_minor| {
            if lines.next_if_eq(&line).is_some() {
                take(line, reference, amount_minor);
            }
        });
        read.map(drop).map_err(in_file(path))
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let unread = |why: &dyn Display| Failure::Usage(format!("{}: {why}", path.display()));
    let is_file = fs::metadata(path).map_err(|error| unread(&error))?.is_file();
    if !is_file {
        // It is read more than once, and a pipe has its rows only once.
        return Err(unread(&"is no file; save what it has to one"));
    }
    let file = File::open(path).map_err(|error| unread(&error))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// What is quoted of a file may have been written for the terminal that shows it.
fn in_file(path: &Path) -> impl Fn(String) -> Failure {
    move |why| Failure::Usage(format!("{}: {}", path.display(), without_controls(&why)))
}

fn without_controls(text: &str) -> String {
    let shown = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Gives `take` line, reference and amount of each row.
fn each(
    from: impl BufRead,
    wanted: &Wanted,
    currency: &str,
    mut take: impl FnMut(u64, &str, i64),
) -> Result<Columns, String> {
    let (mut rows, mut row, head, columns) = begin(from, wanted)?;
    while let Some((line, fields)) = row {
        let in_line = |why: String| format!("line {line}: {why}");
        if fields.len() != head.len() {
            let why = "remove rows that are no payments, and put fields with commas in quotes";
            return Err(in_line(format!("it has {} fields, and the first row {}; {why}", fields.len(), head.len())));
        }
        let amount = unmarked(fields[columns.amount].trim());
        if amount.is_empty() {
            return Err(in_line("it has no amount; remove rows that are no payments".to_owned()));
        }
        let amount_minor = match columns.unit {
            AmountUnit::Decimal => read_decimal(&amount, currency),
            AmountUnit::Minor => read_minor(&amount),
        };
        take(line, &unmarked(fields[columns.reference].trim()), amount_minor.map_err(in_line)?);
        row = next(&mut rows)?;
    }
    Ok(columns)
}

/// A row, and the line it begins in.
type Row = (u64, Vec<String>);

/// The rows behind the first two, the second, the first, and what is read of them.
fn begin<R: BufRead>(from: R, wanted: &Wanted) -> Result<(Rows<R>, Option<Row>, Vec<String>, Columns), String> {
    let mut rows = Rows::new(from);
    let (_, head) = next(&mut rows)?.ok_or("it is empty; its first row names the columns")?;
    let row = next(&mut rows)?;
    let columns = Columns::find(&head, row.as_ref().map(|(_, row)| row.as_slice()), wanted)?;
    Ok((rows, row, head, columns))
}

/// The next row; empty lines are none.
fn next(rows: &mut Rows<impl BufRead>) -> Result<Option<Row>, String> {
    loop {
        match rows.next_row().map_err(|error| error.to_string())? {
            Some((_, row)) if row.len() == 1 && row[0].trim().is_empty() => {}
            read => return Ok(read),
        }
    }
}

/// Which columns are read, and as what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Columns {
    reference: usize,
    amount: usize,
    pub(super) unit: AmountUnit,
    /// As the first row has them.
    pub(super) reference_name: String,
    pub(super) amount_name: String,
}

impl Columns {
    fn find(head: &[String], first: Option<&[String]>, wanted: &Wanted) -> Result<Columns, String> {
        if let ([one], Some(separator)) = (head, head[0].chars().find(|it| matches!(it, ';' | '\t' | '|'))) {
            return Err(format!("{one:?} is separated by {separator:?}; save the file with commas between its fields"));
        }
        let reference = match &wanted.reference {
            Some(name) => named(head, name)?,
            None => {
                let known = known(head, &REFERENCES);
                // A payout's id is nobody else's.
                let has_id = |at: &&usize| first.and_then(|row| row.get(**at)).is_some_and(|it| it.starts_with("pay_"));
                let with_id: Vec<usize> = known.iter().filter(has_id).copied().collect();
                one_of(head, if with_id.is_empty() { &known } else { &with_id }, "--reference-column")?
            }
        };
        let is_of_minor = |at: usize| MINORS.contains(&&*plain(&head[at]));
        let amount = match &wanted.amount {
            Some(name) => named(head, name)?,
            None => match known(head, &DECIMALS) {
                decimals if decimals.is_empty() => one_of(head, &known(head, &MINORS), "--amount-column")?,
                decimals => one_of(head, &decimals, "--amount-column")?,
            },
        };
        let unit = if is_of_minor(amount) { AmountUnit::Minor } else { AmountUnit::Decimal };
        let name = |at: usize| head[at].trim().to_owned();
        Ok(Columns {
            reference,
            amount,
            unit: wanted.unit.unwrap_or(unit),
            reference_name: name(reference),
            amount_name: name(amount),
        })
    }
}

fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

fn known(head: &[String], names: &[&str]) -> Vec<usize> {
    (0..head.len()).filter(|at| names.contains(&&*plain(&head[*at]))).collect()
}

fn named(head: &[String], name: &str) -> Result<usize, String> {
    let found: Vec<usize> = (0..head.len()).filter(|at| head[*at].trim() == name.trim()).collect();
    match found[..] {
        [at] => Ok(at),
        [] => Err(format!("no column is called {name}; there are: {}", names_of(head))),
        _ => Err(format!("more than one column is called {name}; give one of them another name")),
    }
}

fn one_of(head: &[String], found: &[usize], option: &str) -> Result<usize, String> {
    match found {
        [at] => Ok(*at),
        [] => Err(format!("which column to read is not known; name it with {option}, of: {}", names_of(head))),
        several => {
            let names: Vec<&str> = several.iter().map(|at| head[*at].trim()).collect();
            Err(format!("{} could all be meant; name one with {option}", names.join(" and ")))
        }
    }
}

fn names_of(head: &[String]) -> String {
    head.iter().map(|name| name.trim()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, wanted: &Wanted) -> Result<Vec<(u64, String, i64)>, String> {
        let mut rows = Vec::new();
        each(text.as_bytes(), wanted, "CNY", |line, reference, amount| {
            rows.push((line, reference.to_owned(), amount));
        })?;
        Ok(rows)
    }

    fn wanted(reference: &str, amount: &str, unit: Option<AmountUnit>) -> Wanted {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Wanted { reference: text(reference), amount: text(amount), unit }
    }

    #[test]
    fn columns_are_found_or_named() {
        let minor = Some(AmountUnit::Minor);
        for (text, how) in [
            ("reference,amount\nr1,4.17\n", wanted("", "", None)),
            ("\u{feff}Payout ID,when,Amount\r\n\"r1\",,4.17\r\n\r\n", wanted("", "", None)),
            ("商户订单号,金额\nr1\t,4.17\n", wanted("", "", None)),
            ("id,amount_minor\nr1,417\n", wanted("", "", None)),
            ("id,amount_minor,amount\nr1,417,4.17\n", wanted("", "", None)),
            ("id,fee,Betrag\nr1,1,4.17\n", wanted("", "Betrag", None)),
            ("id,reference,amount\nb7,r1,4.17\n", wanted("reference", "", None)),
            ("id,amount\nr1,417\n", wanted("", "", minor)),
        ] {
            let rows = read(text, &how).unwrap_or_else(|why| panic!("{text:?}: {why}"));
            assert_eq!(rows, [(2, "r1".to_owned(), 417)], "{text:?}");
        }
        // Of two that could be meant, the one with a payout's id.
        let rows = read("id,reference,amount\nb7,pay_x,4.17\n", &wanted("", "", None));
        assert_eq!(rows.unwrap(), [(2, "pay_x".to_owned(), 417)]);
    }

    #[test]
    fn what_is_told_of_a_file_does_nothing_to_a_terminal() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("bank.csv");
        fs::write(&file, "id,amount\nr1,\u{1b}[2J\u{9b}1\u{7}\n").unwrap();
        let told = Bank::read(&file, &Wanted::default(), "CNY").unwrap_err().to_string();
        assert!(told.contains("\\u{1b}[2J\\u{9b}1\\u{7} is no amount") && !told.contains(char::is_control), "{told:?}");
        let told = Bank::check(place.path(), &Wanted::default()).unwrap_err().to_string();
        assert!(told.contains("is no file"), "{told}");
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_remedy() {
        let none = wanted("", "", None);
        for (text, how, why) in [
            ("", &none, "it is empty"),
            ("reference;amount\nr1;4,17\n", &none, "save the file with commas"),
            ("when,amount\nx,1\n", &none, "name it with --reference-column, of: when, amount"),
            ("id,sum\nr1,1\n", &none, "name it with --amount-column, of: id, sum"),
            (
                "id,reference,amount\nb7,r1,4.17\n",
                &none,
                "id and reference could all be meant; name one with --reference-column",
            ),
            ("id,amount\nr1,1\n", &wanted("ref", "", None), "no column is called ref; there are: id, amount"),
            (
                "id,amount\nr1,\"1,234.50\"\n",
                &none,
                "line 2: 1,234.50 is no amount; write it as 1234.05, without separators of thousands",
            ),
            ("id,amount\nr1,1,234.50\n", &none, "line 2: it has 3 fields, and the first row 2"),
            ("id,amount\nr1,\n", &none, "line 2: it has no amount"),
            ("id,amount\nr1,1\ntotal 1\n", &none, "line 3: it has 1 fields"),
            (
                "id,amount\nr1,4.17\n",
                &wanted("", "", Some(AmountUnit::Minor)),
                "line 2: 4.17 is no amount; write it as 1234,",
            ),
        ] {
            let error = read(text, how).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let out = Bank::of(b"id,amount\nr1,-1\nr2,-2\n".as_slice(), &none, "CNY").unwrap_err();
        assert!(out.contains("take the minus away"), "{out}");
    }
}
