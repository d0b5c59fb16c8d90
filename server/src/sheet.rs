//! Rows of one shape, as a spreadsheet or a program reads them, with the sums of what is in them.
//!
//! **Invariant:** a sheet of no rows has its head all the same.

use crate::csv::write_row;
use crate::money::decimal;
use crate::zone::Zone;
use Field::{Maybe, Money, Number, Text, Time};
use hongbao_engine::types::{Amount, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;

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

/// One cell, or two of them.
pub(crate) enum Field {
    Text(String),
    /// May be missing.
    Maybe(Option<String>),
    Number(Option<u64>),
    /// Minor units, and the same as a decimal.
    Money(Option<Amount>),
    Time(Option<Timestamp>),
}

/// Writes rows of one shape and counts what is in them.
pub(crate) struct Sheet<'a> {
    pub(crate) to: Hashing<BufWriter<File>>,
    pub(crate) form: RowForm,
    pub(crate) columns: Vec<&'static str>,
    pub(crate) zone: &'a Zone,
    pub(crate) currency: &'a str,
    pub(crate) rows: u64,
    pub(crate) sums: BTreeMap<&'static str, i128>,
}

impl Sheet<'_> {
    /// Says what the cells are called, where rows do not say it themselves.
    pub(crate) fn head(&mut self) -> io::Result<()> {
        match self.form {
            RowForm::Csv => write_row(&mut self.to, self.columns.iter().copied()),
            RowForm::Jsonl => Ok(()),
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, fields: [Field; N]) -> io::Result<()> {
        let mut cells = Vec::with_capacity(self.columns.len());
        for field in fields {
            match field {
                Text(text) => cells.push(Cell::Text(text)),
                Maybe(text) => cells.push(text.map_or(Cell::Nothing, Cell::Text)),
                Number(number) => cells.push(number.map_or(Cell::Nothing, Cell::Number)),
                Time(at) => cells.push(at.map_or(Cell::Nothing, |at| Cell::Text(self.zone.text(at)))),
                Money(amount) => {
                    let minor = amount.map(Amount::minor);
                    let decimal = minor.map(|minor| decimal(minor.into(), self.currency));
                    cells.push(minor.map_or(Cell::Nothing, Cell::Number));
                    cells.push(decimal.map_or(Cell::Nothing, Cell::Text));
                }
            }
        }
        assert!(cells.len() == self.columns.len(), "a row has as many cells as there are columns");
        match self.form {
            RowForm::Csv => {
                let cells: Vec<String> = cells.into_iter().map(Cell::text).collect();
                write_row(&mut self.to, cells.iter().map(String::as_str))?;
            }
            RowForm::Jsonl => {
                for (number, (name, cell)) in self.columns.iter().zip(&cells).enumerate() {
                    let begin = if number == 0 { '{' } else { ',' };
                    write!(self.to, "{begin}\"{name}\":{}", cell.json()?)?;
                }
                self.to.write_all(b"}\n")?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    pub(crate) fn add(&mut self, name: &'static str, amount: Amount) {
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
pub(crate) struct Hashing<W> {
    pub(crate) to: W,
    pub(crate) hash: Sha256,
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
