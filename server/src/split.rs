//! `hongbao split`: prints splits, or their statistics by position.

use clap::{Args, ValueEnum};
use hongbao_engine::fairness::Fairness;
use hongbao_engine::split::{Seed, SplitRule, split};
use hongbao_engine::types::Amount;
use std::error::Error;

/// What to split, and how often.
#[derive(Clone, Debug, Args)]
pub struct Split {
    /// The money to split, in minor units
    #[arg(long)]
    pub total: u64,
    /// How many shares
    #[arg(long)]
    pub shares: u32,
    /// How
    #[arg(long, default_value = "lucky")]
    pub rule: Rule,
    /// The least in a share
    #[arg(long, default_value_t = 1)]
    pub min_share: u64,
    /// The most in a share (lucky only)
    #[arg(long)]
    pub max_share: Option<u64>,
    /// Splits to draw; more than one prints statistics
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub count: u64,
    /// 64 hexadecimal digits that decide the draw; random if left out
    #[arg(long, value_parser = seed)]
    pub seed: Option<Seed>,
}

/// A rule by its name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Rule {
    /// Double mean, shuffled
    Lucky,
    /// Every division equally likely
    Uniform,
    /// The same in every share
    Equal,
}

fn seed(text: &str) -> Result<Seed, String> {
    let wrong = || "64 hexadecimal digits are a seed".to_owned();
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    let mut seed = Seed::default();
    for (byte, digits) in seed.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(seed)
}

/// Draws and prints.
///
/// # Errors
/// Why the total cannot be split so.
pub fn run(options: &Split) -> Result<(), Box<dyn Error>> {
    let amount = |minor| Amount::new(minor).ok_or("an amount is at most 9007199254740991");
    let total = amount(options.total)?;
    let min_share = amount(options.min_share)?;
    let rule = match options.rule {
        Rule::Lucky => SplitRule::Lucky { min_share, max_share: options.max_share.map(amount).transpose()? },
        Rule::Uniform => SplitRule::Uniform { min_share },
        Rule::Equal => SplitRule::Equal,
    };
    if options.max_share.is_some() && !matches!(options.rule, Rule::Lucky) {
        return Err("--max-share goes only with --rule lucky".into());
    }
    rule.check(total, options.shares)?;
    let seed = options.seed.unwrap_or_else(rand::random);
    let hex: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("seed {hex}");
    if options.count == 1 {
        let shares = split(&rule, total, options.shares, &seed);
        for amount in shares.iter() {
            println!("{amount}");
        }
        return Ok(());
    }
    let fairness = Fairness::measure(&rule, total, options.shares, &seed, options.count);
    println!("position        mean   deviation  variation         min         max");
    for (index, position) in fairness.positions().enumerate() {
        println!(
            "{index:>8} {:>11.3} {:>11.3} {:>10.4} {:>11} {:>11}",
            position.mean, position.deviation, position.variation, position.min, position.max
        );
    }
    let verdict = fairness.verdict();
    println!(
        "{} splits: the largest difference of a mean from {:.3} is {:.2} standard errors, of a spread {:.2}: {}",
        fairness.splits(),
        fairness.fair_mean(),
        verdict.mean_errors,
        verdict.spread_errors,
        if verdict.is_fair() { "every position is alike" } else { "positions differ" },
    );
    Ok(())
}
