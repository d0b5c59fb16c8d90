//! `hongbao split`: shows how totals are divided, or proves over many splits
//! that no position is better than another.
//!
//! **Invariant:** the same arguments and seed print the same splits for ever.

use crate::config::Split;
use crate::extract::hex;
use crate::failure::Failure;
use hongbao_engine::fairness::{Fairness, nth_seed};
use hongbao_engine::split::{Seed, SplitRule, split};
use hongbao_engine::types::Amount;
use std::io::{self, BufWriter, Write};

/// Up to so many splits are printed one by one, more as statistics.
const PRINTED_MAX: u64 = 20;
/// Up to so many positions are printed.
const POSITIONS_MAX: u32 = 100;

/// How a run of `hongbao split` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is well.
    Fine,
    /// Some position is better than another by more than chance explains.
    Unfair,
}

/// Prints what `options` ask for to `out`.
///
/// # Errors
/// A sentence on what cannot be divided so, or on why nothing can be printed.
pub fn run(options: &Split, out: impl Write) -> Result<Ended, Failure> {
    let (rule, total) = checked(options).map_err(Failure::Usage)?;
    let seed = options.seed.map_or_else(rand::random, |seed| seed.0);
    let mut out = BufWriter::new(out);
    let ended = if options.count <= PRINTED_MAX {
        print_splits(&mut out, options, &rule, total, &seed)
    } else {
        print_statistics(&mut out, options, &rule, total, &seed)
    };
    Ok(ended.and_then(|ended| out.flush().map(|()| ended))?)
}

fn checked(options: &Split) -> Result<(SplitRule, Amount), String> {
    let total = Amount::new(options.total).ok_or("--total is at most 9007199254740991")?;
    let rule = rule(options)?;
    rule.check(total, options.shares).map_err(|error| error.to_string())?;
    Ok((rule, total))
}

fn rule(options: &Split) -> Result<SplitRule, String> {
    let amount = |minor, name| Amount::new(minor).ok_or(format!("--{name} is at most 9007199254740991"));
    let min_share = amount(options.min_share, "min-share")?;
    let max_share = options.max_share.map(|minor| amount(minor, "max-share")).transpose()?;
    match (options.rule.as_str(), max_share) {
        ("lucky", max_share) => Ok(SplitRule::Lucky { min_share, max_share }),
        (_, Some(_)) => Err("--max-share is only for --rule lucky".to_owned()),
        ("uniform", None) => Ok(SplitRule::Uniform { min_share }),
        ("equal", None) => Ok(SplitRule::Equal),
        (other, None) => Err(format!("--rule is lucky, uniform or equal, not {other}")),
    }
}

fn print_splits(
    out: &mut impl Write,
    options: &Split,
    rule: &SplitRule,
    total: Amount,
    seed: &Seed,
) -> io::Result<Ended> {
    for number in 0..options.count {
        let amounts = split(rule, total, options.shares, &nth_seed(seed, number));
        let mut amounts = amounts.iter();
        if let Some(first) = amounts.next() {
            write!(out, "{first}")?;
        }
        for amount in amounts {
            write!(out, " {amount}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "seed {}", hex(seed))?;
    Ok(Ended::Fine)
}

fn print_statistics(
    out: &mut impl Write,
    options: &Split,
    rule: &SplitRule,
    total: Amount,
    seed: &Seed,
) -> io::Result<Ended> {
    let fairness = Fairness::measure(rule, total, options.shares, seed, options.count);
    writeln!(
        out,
        "{:>10} {:>14} {:>14} {:>10} {:>12} {:>12}",
        "position", "mean", "deviation", "variation", "min", "max"
    )?;
    for (index, position) in fairness.positions().enumerate().take(POSITIONS_MAX as usize) {
        let (mean, deviation, variation) = (position.mean, position.deviation, position.variation);
        let (min, max) = (position.min, position.max);
        writeln!(out, "{index:>10} {mean:>14.3} {deviation:>14.3} {variation:>10.4} {min:>12} {max:>12}")?;
    }
    if options.shares > POSITIONS_MAX {
        writeln!(out, "and {} positions more", options.shares - POSITIONS_MAX)?;
    }
    let verdict = fairness.verdict();
    let (mean_errors, spread_errors, errors_max) = (verdict.mean_errors, verdict.spread_errors, verdict.errors_max);
    writeln!(
        out,
        "{} splits, seed {}: means differ by up to {mean_errors:.2} standard errors, spreads by up to \
         {spread_errors:.2}; chance explains {errors_max:.2}",
        options.count,
        hex(seed)
    )?;
    if verdict.is_fair() {
        writeln!(out, "fair: the order of grabbing changes nobody's odds")?;
        Ok(Ended::Fine)
    } else {
        writeln!(out, "not fair: some position is better than another")?;
        Ok(Ended::Unfair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cli, Task};
    use clap::Parser;

    fn run_line(line: &str) -> Result<(Ended, String), String> {
        let cli = Cli::try_parse_from(["hongbao", "split"].into_iter().chain(line.split(' ')));
        let Task::Split(options) = cli.map_err(|error| error.to_string())?.task else { panic!("another task") };
        let mut out = Vec::new();
        let ended = run(&options, &mut out).map_err(|failure| failure.to_string())?;
        Ok((ended, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn the_same_seed_prints_the_same_splits() {
        let seed = "07".repeat(32);
        let line = format!("--total 10000 --shares 10 --rule lucky --count 3 --seed {seed}");
        let (ended, text) = run_line(&line).unwrap();
        assert_eq!((ended, run_line(&line).unwrap().1), (Ended::Fine, text.clone()));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[3]), (4, format!("seed {seed}").as_str()));
        for line in &lines[..3] {
            assert_eq!(line.split(' ').map(|amount| amount.parse::<u64>().unwrap()).sum::<u64>(), 10_000, "{line}");
        }
    }

    #[test]
    fn many_splits_are_told_by_position() {
        let line = format!("--total 10000 --shares 4 --rule uniform --count 2000 --seed {}", "07".repeat(32));
        let (ended, text) = run_line(&line).unwrap();
        assert_eq!((ended, text.lines().count()), (Ended::Fine, 7), "{text}");
        assert!(text.ends_with("fair: the order of grabbing changes nobody's odds\n"), "{text}");
    }

    #[test]
    fn what_cannot_be_divided_is_refused_with_its_remedy() {
        for (line, expected) in [
            ("--total 10 --shares 11 --rule lucky", "raise the total or have fewer shares"),
            ("--total 10 --shares 3 --rule equal", "not a multiple"),
            ("--total 10 --shares 3 --rule fair", "lucky, uniform or equal"),
            ("--total 10 --shares 3 --rule equal --max-share 5", "only for --rule lucky"),
            ("--total 10 --shares 3 --rule lucky --seed 07", "64 hexadecimal digits"),
        ] {
            let error = run_line(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
