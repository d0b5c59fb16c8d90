//! `hongbao reconcile payouts`: a bank's file beside what Hongbao says of its payouts.
//!
//! A payment of the bank belongs to the payout whose id is its reference, or whose last told
//! reference is. The file's rows are in memory, 40 bytes each, and twice that while they are read; payouts pass by.
//!
//! **Invariant:** every payment of the file is in one figure of the report: matched, or of one kind
//! of difference.

use super::bank::{AmountUnit, Bank, Wanted, key_of};
use super::here::{Here, Source};
use super::report::{Difference, DifferenceKind, Report, untaken};
use crate::books::{beside, check_is_new, wrong};
use crate::config::Format;
use crate::failure::{Failure, check_outside};
use crate::progress::Bar;
use crate::zone::Zone;
use clap::Args;
use hongbao_engine::payout::PayoutState;
use hongbao_engine::store::Period;
use hongbao_engine::types::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};

/// What is compared, and how it is told.
#[derive(Clone, Debug, Args)]
pub struct ReconcilePayouts {
    /// The bank's file: comma-separated values in UTF-8, whose first row names the columns
    #[arg(value_name = "BANK.csv")]
    pub bank: PathBuf,
    /// Directory of journal, store and keys, or a backup
    #[arg(long, default_value = "./data", conflicts_with = "target")]
    pub data: PathBuf,
    /// A server instead, as http://127.0.0.1:8080: with either engine, and nothing is copied
    #[arg(long)]
    pub target: Option<String>,
    /// A key of that server with the role treasurer, viewer or admin, which sees all payouts
    #[arg(long, env = "HONGBAO_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Only what was told paid then or later has to be in the file: a date or time in --time-zone, or one with its own offset
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only what was told paid before then has to be in it
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Whose dates those are: an IANA name, as Asia/Shanghai
    #[arg(long, default_value = "UTC", value_name = "NAME")]
    pub time_zone: String,
    /// The column with the payout's id, or with the reference that was told of it; found by its name unless it is given
    #[arg(long, value_name = "NAME")]
    pub reference_column: Option<String>,
    /// The column with the amount, below zero if it came back; found by its name unless it is given
    #[arg(long, value_name = "NAME")]
    pub amount_column: Option<String>,
    /// How amounts are written: decimal (4.17), or minor (417); as the column's name says unless it is given
    #[arg(long, value_name = "UNIT")]
    pub amount_unit: Option<AmountUnit>,
    /// text, or json
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// A file to write all differences to, as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Of a directory that a server uses: most MiB of rows to read and write in a second
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=65_536), value_name = "COUNT")]
    pub mib_per_s_max: u64,
}

/// Compares, and prints what was found. Says whether there is no difference.
///
/// # Errors
/// What cannot be read, and how it could.
pub(super) fn run(options: &ReconcilePayouts) -> Result<bool, Failure> {
    let period = period(options)?;
    let part = options.out.as_deref().map(|out| check_is_new(out).map(|()| beside(out, ".part"))).transpose()?;
    let wanted = Wanted {
        reference: options.reference_column.clone(),
        amount: options.amount_column.clone(),
        unit: options.amount_unit,
    };
    Bank::check(&options.bank, &wanted)?;
    if let (Some(out), None) = (&options.out, &options.target) {
        check_outside("--out", out, &options.data)?;
    }
    let source = Source::open(options)?;
    let mut bank = Bank::read(&options.bank, &wanted, source.currency())?;
    let bar = Bar::of("payouts");
    let compared = Report::new(source.currency(), period, part.as_deref()).and_then(|mut report| {
        let mut done = 0;
        source.each(|here| {
            report.compare(&here, &mut bank);
            done += 1;
            bar.tell(done, done);
        })?;
        report.rest(&bank, &options.bank, &wanted)?;
        report.end()
    });
    drop(bar);
    let kept = compared.and_then(|report| {
        if let (Some(part), Some(out)) = (&part, &options.out) {
            fs::rename(part, out).map_err(|error| untaken(out, &error))?;
        }
        Ok(report)
    });
    if let (Err(_), Some(part)) = (&kept, &part) {
        let _ = fs::remove_file(part);
    }
    let report = kept?;
    match options.format {
        Format::Json => report.print_json(bank.columns())?,
        Format::Lines => report.print_text(options, bank.columns()),
    }
    Ok(report.differences.is_empty())
}

/// When payouts have to have been told paid to be missed in the file.
fn period(options: &ReconcilePayouts) -> Result<Period, Failure> {
    let zone = Zone::named(&options.time_zone).map_err(wrong("--time-zone"))?;
    let read = |text: &Option<String>, option| text.as_deref().map(|text| zone.read(text).map_err(wrong(option)));
    let from = read(&options.from, "--from").transpose()?.unwrap_or(Timestamp::from_ms(0));
    let to = read(&options.to, "--to").transpose()?.unwrap_or(Timestamp::from_ms(u64::MAX));
    if from >= to {
        return Err(Failure::Usage("--to must be after --from".to_owned()));
    }
    Ok(Period { from, to })
}

impl Report {
    /// Looks up one payout in the bank's file.
    fn compare(&mut self, here: &Here, bank: &mut Bank) {
        let by_id = key_of(&here.id);
        // Blanks around it are not in the file's either; nothing is no reference.
        let told = here.reference.as_deref().map(str::trim).filter(|told| !told.is_empty());
        let by_reference = told.map(key_of).filter(|key| *key != by_id);
        let (mut payments, mut is_shared) = (Vec::new(), false);
        for key in [Some(by_id), by_reference].into_iter().flatten() {
            let rows = bank.under(key);
            // Whoever has one has all of a reference; so rows are not gone through for each that shares it.
            if rows.first().is_some_and(|payment| payment.is_ours) {
                is_shared = true;
                continue;
            }
            for payment in rows {
                payment.is_ours = true;
                payments.push((payment.line, payment.amount_minor));
            }
        }
        payments.sort_unstable();
        let returned = payments.extract_if(.., |(_, amount)| *amount < 0).collect::<Vec<_>>();
        // Among several, the one that was asked for.
        let paid = payments.iter().position(|(_, amount)| *amount == here.amount_minor).unwrap_or(0);
        let paid = (!payments.is_empty()).then(|| payments.remove(paid));
        let is_paid_here = here.state == PayoutState::Paid;
        match paid {
            Some(there) if there.1 != here.amount_minor => {
                self.tell(Difference::of(DifferenceKind::AmountDiffers, here, Some(there)));
            }
            Some(there) if !is_paid_here => {
                self.tell(Difference::of(DifferenceKind::NotPaidHere, here, Some(there)));
            }
            Some((_, amount)) => self.matched.add(amount),
            None if is_shared => self.tell(Difference::of(DifferenceKind::SharedReference, here, None)),
            None if !is_paid_here => {
                self.waiting.entry(here.state.name()).or_default().add(here.amount_minor);
            }
            None if (self.period.from..self.period.to).contains(&here.changed_at) => {
                self.tell(Difference::of(DifferenceKind::MissingThere, here, None));
            }
            // Its payment is in another file.
            None => {}
        }
        for there in payments {
            self.tell(Difference::of(DifferenceKind::PaidTwice, here, Some(there)));
        }
        for there in returned {
            self.tell(Difference::of(DifferenceKind::Returned, here, Some(there)));
        }
    }

    /// Tells what the bank's file has besides.
    fn rest(&mut self, bank: &Bank, path: &Path, wanted: &Wanted) -> Result<(), Failure> {
        for payment in bank.payments().iter().filter(|payment| payment.amount_minor >= 0) {
            self.bank.add(payment.amount_minor);
        }
        let currency = self.currency.clone();
        bank.each_foreign(path, wanted, &currency, |line, reference, amount_minor| {
            self.tell(Difference {
                kind: if amount_minor < 0 { DifferenceKind::Returned } else { DifferenceKind::MissingHere },
                line: Some(line),
                reference: Some(reference.to_owned()),
                id: None,
                user: None,
                state: None,
                amount_here_minor: None,
                amount_there_minor: Some(amount_minor),
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payouts as `id state amount reference changed_at_s`.
    fn here(text: &str) -> Vec<Here> {
        let of = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let [id, state, amount, reference, changed_at_s] = words[..] else { panic!("{line}") };
            Here {
                id: id.to_owned(),
                user: format!("user-of-{id}"),
                amount_minor: amount.parse().unwrap(),
                state: PayoutState::ALL.into_iter().find(|it| it.name() == state).unwrap(),
                reference: (reference != "-").then(|| reference.to_owned()),
                changed_at: Timestamp::from_ms(changed_at_s.parse::<u64>().unwrap() * 1000),
            }
        };
        text.split("; ").filter(|line| !line.is_empty()).map(of).collect()
    }

    /// The report, and what `--out` has, of payouts and of payments as `reference amount`.
    fn report(payouts: &str, payments: &str) -> (Report, String) {
        let place = tempfile::tempdir().unwrap();
        let [file, out] = ["bank.csv", "out.csv"].map(|name| place.path().join(name));
        let rows = payments.split("; ").filter(|row| !row.is_empty()).map(|row| row.replace(' ', ","));
        fs::write(&file, format!("reference,amount\n{}\n", rows.collect::<Vec<_>>().join("\n"))).unwrap();
        let wanted = Wanted { unit: Some(AmountUnit::Minor), ..Wanted::default() };
        let mut bank = Bank::read(&file, &wanted, "CNY").unwrap();
        let period = Period { from: Timestamp::from_ms(10_000), to: Timestamp::from_ms(20_000) };
        let mut report = Report::new("CNY", period, Some(&out)).unwrap();
        here(payouts).iter().for_each(|here| report.compare(here, &mut bank));
        report.rest(&bank, &file, &wanted).unwrap();
        let report = report.end().unwrap();
        (report, fs::read_to_string(&out).unwrap())
    }

    #[test]
    fn each_payment_is_in_one_figure() {
        let paid = "pay_a paid 500 ref-a 15";
        // Payouts, payments, how many match, and what differs: kind, line, id, what the bank has.
        for (payouts, payments, matched, differences) in [
            ("", "", 0, ""),
            (paid, "pay_a 500", 1, ""),
            (paid, "ref-a 500", 1, ""),
            ("pay_a paid 500 - 15", "pay_a 500", 1, ""),
            (paid, "", 0, "missing_there - pay_a -"),
            // Told before the period or after it: another file has it.
            ("pay_a paid 500 ref-a 9; pay_b paid 1 - 20", "", 0, ""),
            ("pay_a paid 500 ref-a 9", "ref-a 500", 1, ""),
            (paid, "pay_a 500; other 7", 1, "missing_here 3 - 7"),
            (paid, "pay_a 500;  7", 1, "missing_here 3 - 7"),
            (paid, "pay_a 499", 0, "amount_differs 2 pay_a 499"),
            (paid, "pay_a 0", 0, "amount_differs 2 pay_a 0"),
            ("pay_a due 500 - 15", "pay_a 500", 0, "not_paid_here 2 pay_a 500"),
            ("pay_a sent 500 ref-a 15", "ref-a 500", 0, "not_paid_here 2 pay_a 500"),
            ("pay_a failed 500 ref-a 15", "ref-a 500", 0, "not_paid_here 2 pay_a 500"),
            ("pay_a sent 500 ref-a 15", "ref-a 499", 0, "amount_differs 2 pay_a 499"),
            ("pay_a due 500 - 15; pay_b sent 2 - 15; pay_c failed 3 - 15", "", 0, ""),
            (paid, "pay_a 500; pay_a 500", 1, "paid_twice 3 pay_a 500"),
            // Under the id and under the reference; the one that was asked for is the one that matches.
            (paid, "ref-a 7; pay_a 500", 1, "paid_twice 2 pay_a 7"),
            (paid, "pay_a 500; other 1; other 1", 1, "missing_here 3 - 1; missing_here 4 - 1"),
            (paid, "pay_a 500; pay_a -500", 1, "returned 3 pay_a -500"),
            (paid, "pay_a -500; other 500", 0, "missing_there - pay_a -; returned 2 pay_a -500; missing_here 3 - 500"),
            (paid, "pay_a 500; other -7", 1, "returned 3 - -7"),
            ("pay_a paid 5 batch 15; pay_b paid 5 batch 15", "batch 5", 1, "shared_reference - pay_b -"),
            ("pay_a paid 5 batch 15; pay_b paid 5 batch 15", "batch 5; pay_b 5", 2, ""),
            (
                "pay_a paid 5 batch 15; pay_b paid 5 batch 15",
                "batch 5; batch 5",
                1,
                "paid_twice 3 pay_a 5; shared_reference - pay_b -",
            ),
            // The id of one is what was told of another.
            ("pay_a paid 5 pay_a 15", "pay_a 5", 1, ""),
        ] {
            let (report, out) = report(payouts, payments);
            let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
            let of = |found: &Difference| {
                let [line, there] = [found.line.map(|it| it as i64), found.amount_there_minor];
                let [line, there] = [line, there].map(|it| or_none(it.map(|it| it.to_string())));
                format!("{} {line} {} {there}", found.kind.name(), or_none(found.id.clone()))
            };
            let told = report.listed.iter().map(of).collect::<Vec<_>>().join("; ");
            assert_eq!((report.matched.count, &*told), (matched, differences), "{payouts} | {payments}");
            assert_eq!(out.lines().count(), 1 + report.listed.len(), "{out}");

            let there = |found: &&Difference| found.amount_there_minor.is_some_and(|amount| amount >= 0);
            let differing = report.listed.iter().filter(there).count() as u64;
            assert_eq!(report.bank.count, matched + differing, "{payouts} | {payments}");
            let is_waiting = |it: &Here| it.state != PayoutState::Paid && payments.is_empty();
            let waiting: u64 = report.waiting.values().map(|figure| figure.count).sum();
            assert_eq!(waiting, here(payouts).iter().filter(|it| is_waiting(it)).count() as u64, "{payouts}");
        }
    }

    /// Gone through for each payout, rows of one reference would take hours.
    #[test]
    fn a_reference_of_many_payouts_and_payments_is_looked_up_once() {
        let many = 100_000;
        let payouts: Vec<_> = (0..many).map(|nth| format!("pay_{nth} paid 5 batch 15")).collect();
        let (report, _) = report(&payouts.join("; "), &vec!["batch 5"; many].join("; "));
        let told: Vec<_> = report.differences.iter().map(|(kind, figure)| (kind.name(), figure.count)).collect();
        let others = many as u64 - 1;
        assert_eq!((report.matched.count, &*told), (1, &[("paid_twice", others), ("shared_reference", others)][..]));
    }

    #[test]
    fn blanks_around_a_told_reference_are_none_of_it() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("bank.csv");
        for (told, there, matched) in [(" ref-a ", "ref-a ", 1), ("ref-a", " ref-a", 1), (" ", "", 0), ("", " ", 0)] {
            let mut here = here("pay_a paid 500 - 15");
            here[0].reference = Some(told.to_owned());
            fs::write(&file, format!("reference,amount\n{there},5.00\n")).unwrap();
            let mut bank = Bank::read(&file, &Wanted::default(), "CNY").unwrap();
            let always = Period { from: Timestamp::from_ms(0), to: Timestamp::from_ms(u64::MAX) };
            let mut report = Report::new("CNY", always, None).unwrap();
            report.compare(&here[0], &mut bank);
            let differences = usize::from(matched == 0);
            assert_eq!((report.matched.count, report.differences.len()), (matched, differences), "{told:?} {there:?}");
        }
    }

    #[test]
    fn what_is_written_has_both_sides() {
        let (report, out) = report("pay_a paid 500 ref-a 15", "pay_a 499; =cmd 7");
        let rows = "kind,line,reference,id,user,state,amount_here_minor,amount_here,amount_there_minor,amount_there\r\n\
            amount_differs,2,ref-a,pay_a,user-of-pay_a,paid,500,5.00,499,4.99\r\n\
            missing_here,3,'=cmd,,,,,,7,0.07\r\n";
        assert_eq!(out, rows);
        let line =
            "amount_differs line=2 reference=\"ref-a\" id=pay_a user=user-of-pay_a state=paid here=5.00 there=4.99";
        assert_eq!(report.line(&report.listed[0]), line);
    }
}
