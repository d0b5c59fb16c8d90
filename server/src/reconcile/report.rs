//! What a comparison of a bank's file with the payouts has found, and how it is told.

use super::bank::{AmountUnit, Columns};
use super::here::Here;
use super::payouts::ReconcilePayouts;
use crate::csv::write_row;
use crate::failure::{Failure, private};
use crate::money::decimal;
use hongbao_engine::payout::PayoutState;
use hongbao_engine::store::Period;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Differences that are told one by one; all of them are in the file of `--out`.
const LISTED_MAX: usize = 1000;
/// The same, where people read them.
const LINES_MAX: usize = 20;

pub(super) fn untaken(path: &Path, error: &io::Error) -> Failure {
    Failure::Broken(format!("{}: {error}; free space", path.display()))
}

/// How bank and Hongbao differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DifferenceKind {
    /// The bank has a payment, and no payout here is known by its reference.
    MissingHere,
    /// It was told paid here, and the bank's file has no payment of it.
    MissingThere,
    AmountDiffers,
    /// The bank has paid it, and here it is due, sent or failed.
    NotPaidHere,
    /// A further payment of the same payout.
    PaidTwice,
    /// Money that came back to the bank.
    Returned,
    /// One payment, and two payouts that were told its reference.
    SharedReference,
}

impl DifferenceKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            DifferenceKind::MissingHere => "missing_here",
            DifferenceKind::MissingThere => "missing_there",
            DifferenceKind::AmountDiffers => "amount_differs",
            DifferenceKind::NotPaidHere => "not_paid_here",
            DifferenceKind::PaidTwice => "paid_twice",
            DifferenceKind::Returned => "returned",
            DifferenceKind::SharedReference => "shared_reference",
        }
    }

    /// What it is, and what to do.
    fn meaning(self) -> &'static str {
        match self {
            DifferenceKind::MissingHere => {
                "the bank paid what no payout asks for: look up its reference before you pay more"
            }
            DifferenceKind::MissingThere => {
                "told paid, and not in the bank's file: ask the bank, or take a file of more days"
            }
            DifferenceKind::AmountDiffers => {
                "the bank paid another amount than the payout's: settle it with whoever was paid"
            }
            DifferenceKind::NotPaidHere => "the bank has paid it: tell paid, before it is paid again",
            DifferenceKind::PaidTwice => "the bank paid it more than once: ask for it back",
            DifferenceKind::Returned => {
                "it came back to the bank: paid stays; take it in as a new deposit, or fund an envelope with it"
            }
            DifferenceKind::SharedReference => {
                "several payouts were told one reference: find out for which the bank paid"
            }
        }
    }
}

/// One difference. What stands on one side only has nothing of the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) kind: DifferenceKind,
    /// Of the bank's file.
    pub(super) line: Option<u64>,
    pub(super) reference: Option<String>,
    pub(super) id: Option<String>,
    pub(super) user: Option<String>,
    pub(super) state: Option<PayoutState>,
    pub(super) amount_here_minor: Option<i64>,
    pub(super) amount_there_minor: Option<i64>,
}

impl Difference {
    pub(super) fn of(kind: DifferenceKind, here: &Here, there: Option<(u64, i64)>) -> Difference {
        Difference {
            kind,
            line: there.map(|(line, _)| line),
            reference: here.reference.clone(),
            id: Some(here.id.clone()),
            user: Some(here.user.clone()),
            state: Some(here.state),
            amount_here_minor: Some(here.amount_minor),
            amount_there_minor: there.map(|(_, amount)| amount),
        }
    }
}

/// How many, and their money: what the bank has of it, or else what Hongbao has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Figure {
    pub(super) count: u64,
    pub(super) amount_minor: i128,
}

impl Figure {
    pub(super) fn add(&mut self, amount_minor: i64) {
        self.count += 1;
        self.amount_minor += i128::from(amount_minor);
    }
}

/// What was found.
pub(super) struct Report {
    pub(super) currency: String,
    pub(super) period: Period,
    /// What the bank's file has, without what came back.
    pub(super) bank: Figure,
    pub(super) matched: Figure,
    /// Payouts without a payment that wait for one.
    pub(super) waiting: BTreeMap<&'static str, Figure>,
    pub(super) differences: BTreeMap<DifferenceKind, Figure>,
    pub(super) listed: Vec<Difference>,
    pub(super) out: Option<(PathBuf, io::Result<BufWriter<File>>)>,
}

/// The columns of `--out`.
const HEAD: [&str; 10] = [
    "kind",
    "line",
    "reference",
    "id",
    "user",
    "state",
    "amount_here_minor",
    "amount_here",
    "amount_there_minor",
    "amount_there",
];

impl Report {
    pub(super) fn new(currency: &str, period: Period, part: Option<&Path>) -> Result<Report, Failure> {
        let out = part.map(|part| {
            let file = private().truncate(true).open(part).map(BufWriter::new);
            let headed = file.and_then(|mut file| write_row(&mut file, HEAD).map(|()| file));
            (part.to_owned(), headed)
        });
        let waiting = [PayoutState::Due, PayoutState::Sent, PayoutState::Failed];
        let mut report = Report {
            currency: currency.to_owned(),
            period,
            bank: Figure::default(),
            matched: Figure::default(),
            waiting: waiting.into_iter().map(|state| (state.name(), Figure::default())).collect(),
            differences: BTreeMap::new(),
            listed: Vec::new(),
            out,
        };
        report.check_out()?;
        Ok(report)
    }

    pub(super) fn tell(&mut self, found: Difference) {
        let amount = found.amount_there_minor.or(found.amount_here_minor).unwrap_or_default();
        self.differences.entry(found.kind).or_default().add(amount);
        if let Some((_, out)) = &mut self.out
            && let Ok(file) = out
            && let Err(error) = write_difference(file, &found, &self.currency)
        {
            *out = Err(error);
        }
        if self.listed.len() < LISTED_MAX {
            self.listed.push(found);
        }
    }

    fn check_out(&mut self) -> Result<(), Failure> {
        match &self.out {
            Some((path, Err(error))) => Err(untaken(path, error)),
            _ => Ok(()),
        }
    }

    /// Everything was told.
    pub(super) fn end(mut self) -> Result<Report, Failure> {
        if let Some((_, out)) = &mut self.out
            && let Ok(file) = out
            && let Err(error) = file.flush().and_then(|()| file.get_ref().sync_all())
        {
            *out = Err(error);
        }
        self.check_out()?;
        Ok(self)
    }

    fn not_listed(&self, listed: usize) -> u64 {
        self.differences.values().map(|figure| figure.count).sum::<u64>() - listed.min(self.listed.len()) as u64
    }

    fn money(&self, minor: impl Into<i128>) -> String {
        decimal(minor.into(), &self.currency)
    }

    pub(super) fn print_text(&self, options: &ReconcilePayouts, columns: &Columns) {
        let Columns { reference_name, amount_name, unit, .. } = columns;
        let unit = if *unit == AmountUnit::Minor { "minor units" } else { &*self.currency };
        println!(
            "{}: {} payments, {}; references in {reference_name:?}, amounts in {amount_name:?} ({unit})",
            options.bank.display(),
            self.bank.count,
            self.money(self.bank.amount_minor)
        );
        println!("matched: {}, {}", self.matched.count, self.money(self.matched.amount_minor));
        for (state, figure) in self.waiting.iter().filter(|(_, figure)| figure.count > 0) {
            println!("{state} and not in the file: {}, {}", figure.count, self.money(figure.amount_minor));
        }
        for (kind, figure) in &self.differences {
            println!("{}: {}, {}: {}", kind.name(), figure.count, self.money(figure.amount_minor), kind.meaning());
        }
        for found in self.listed.iter().take(LINES_MAX) {
            println!("  {}", self.line(found));
        }
        let more = self.not_listed(LINES_MAX);
        match (&options.out, more) {
            (Some(out), _) => println!("{}: all differences", out.display()),
            (None, 0) => {}
            (None, more) => println!("  and {more} more; --out FILE has all of them"),
        }
        if self.differences.is_empty() {
            println!("no differences");
        }
    }

    pub(super) fn line(&self, found: &Difference) -> String {
        let Difference { kind, line, reference, id, user, state, amount_here_minor, amount_there_minor } = found;
        let mut text = kind.name().to_owned();
        for (name, value) in [
            ("line", line.map(|line| line.to_string())),
            ("reference", reference.as_ref().map(|reference| format!("{reference:?}"))),
            ("id", id.clone()),
            ("user", user.clone()),
            ("state", state.map(|state| state.name().to_owned())),
            ("here", amount_here_minor.map(|minor| self.money(minor))),
            ("there", amount_there_minor.map(|minor| self.money(minor))),
        ] {
            if let Some(value) = value {
                text.push_str(&format!(" {name}={value}"));
            }
        }
        text
    }

    pub(super) fn print_json(&self, columns: &Columns) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Json<'a> {
            currency: &'a str,
            reference_column: &'a str,
            amount_column: &'a str,
            bank: Figure,
            matched: Figure,
            waiting: &'a BTreeMap<&'static str, Figure>,
            differences: BTreeMap<&'static str, Figure>,
            listed: &'a [Difference],
            not_listed: u64,
        }
        let json = Json {
            currency: &self.currency,
            reference_column: &columns.reference_name,
            amount_column: &columns.amount_name,
            bank: self.bank,
            matched: self.matched,
            waiting: &self.waiting,
            differences: self.differences.iter().map(|(kind, figure)| (kind.name(), *figure)).collect(),
            listed: &self.listed,
            not_listed: self.not_listed(LISTED_MAX),
        };
        let text = serde_json::to_string(&json).map_err(|error| Failure::Broken(error.to_string()))?;
        println!("{text}");
        Ok(())
    }
}

fn write_difference(to: &mut impl Write, found: &Difference, currency: &str) -> io::Result<()> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let minor = |minor: Option<i64>| minor.map(|minor| minor.to_string()).unwrap_or_default();
    let money = |minor: Option<i64>| minor.map(|minor| decimal(minor.into(), currency)).unwrap_or_default();
    let row = [
        found.kind.name().to_owned(),
        found.line.map(|line| line.to_string()).unwrap_or_default(),
        text(&found.reference),
        text(&found.id),
        text(&found.user),
        found.state.map(|state| state.name().to_owned()).unwrap_or_default(),
        minor(found.amount_here_minor),
        money(found.amount_here_minor),
        minor(found.amount_there_minor),
        money(found.amount_there_minor),
    ];
    write_row(to, row.iter().map(String::as_str))
}
