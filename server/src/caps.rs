//! Caps: what an operator lets no envelope, and no sender, exceed, whoever makes it.
//!
//! They are a rule of this server's, not of an envelope: one made before they were
//! set stays as it is, and a cap on an envelope that is lowered is also told to who
//! repeats a call.

use crate::problem::Problem;
use crate::zone::Zone;
use clap::Args;
use hongbao_engine::creates::CreatesCap;
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::Amount;
use std::str::FromStr;
use std::sync::Arc;

/// What no envelope may exceed; without any, nothing but the API's own bounds.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Caps {
    /// The most money that an envelope may have, in minor units
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub largest_total: Option<Amount>,
    /// The most that one share may turn out to be, in minor units
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    pub largest_share: Option<Amount>,
}

/// How many envelopes a sender may make in a day. The engine decides it, as two that
/// are made at once may not both be the last.
#[derive(Clone, Debug, Args)]
pub struct DailyCap {
    /// The most envelopes that a sender may make in a day; repeats of a call do not count. The same for all servers
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub creates_per_sender_per_day: Option<u32>,
    /// Whose days those are, as an IANA name
    #[arg(long, value_name = "NAME", default_value = "UTC")]
    pub creates_time_zone: ZoneName,
}

impl DailyCap {
    /// As the engine takes it.
    pub fn for_engine(&self) -> Option<CreatesCap> {
        let per_day_max = self.creates_per_sender_per_day?;
        let ZoneName(zone) = self.creates_time_zone.clone();
        Some(CreatesCap { per_day_max, day_of: Arc::new(move |at| zone.day_of(at)) })
    }
}

/// A time zone that is known here.
#[derive(Clone, Debug)]
pub struct ZoneName(Zone);

impl FromStr for ZoneName {
    type Err = String;
    fn from_str(name: &str) -> Result<ZoneName, String> {
        Zone::named(name).map(ZoneName)
    }
}

fn amount(text: &str) -> Result<Amount, &'static str> {
    let amount = text.parse().ok().and_then(Amount::new).filter(|amount| !amount.is_zero());
    amount.ok_or("an amount is a whole number of minor units from 1 to 9007199254740991")
}

impl Caps {
    /// Whether an envelope of these terms keeps to them.
    ///
    /// # Errors
    /// 422 with the field that would have to be another, and the cap's name.
    pub fn check(&self, rule: &SplitRule, total: Amount, shares: u32) -> Result<(), Problem> {
        if let Some(largest) = self.largest_total.filter(|&largest| total > largest) {
            return Err(Problem::field("total", format!("is above largest_total, which is {largest} here")));
        }
        let Some(largest) = self.largest_share else { return Ok(()) };
        let (field, most) = most_in_a_share(rule, total, shares);
        if most <= largest.minor() {
            return Ok(());
        }
        let remedy = match rule {
            SplitRule::Lucky { .. } => format!("has to be at most {largest}"),
            _ => format!("could make a share of {most}"),
        };
        Err(Problem::field(field, format!("{remedy}: largest_share is {largest} here")))
    }
}

/// The most that a share can turn out to be, and the field that bounds it.
fn most_in_a_share(rule: &SplitRule, total: Amount, shares: u32) -> (&'static str, u64) {
    let others = u64::from(shares.saturating_sub(1));
    let above = |least: &Amount| total.minor().saturating_sub(others.saturating_mul(least.minor()));
    match rule {
        SplitRule::Lucky { max_share: Some(most), min_share } => ("max_share", most.minor().min(above(min_share))),
        SplitRule::Lucky { max_share: None, min_share } => ("max_share", above(min_share)),
        SplitRule::Uniform { min_share } => ("total", above(min_share)),
        SplitRule::Equal => ("total", total.minor() / u64::from(shares.max(1))),
        SplitRule::Specified(amounts) => ("amounts", amounts.iter().map(|amount| amount.minor()).max().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minor(minor: u64) -> Amount {
        Amount::new(minor).expect("an amount")
    }

    #[test]
    fn the_worst_share_that_each_rule_can_make_counts() {
        let caps = Caps { largest_total: Some(minor(1000)), largest_share: Some(minor(200)) };
        let lucky = |most: Option<u64>| SplitRule::Lucky { min_share: minor(1), max_share: most.map(minor) };
        let uniform = |least| SplitRule::Uniform { min_share: minor(least) };
        let specified = |amounts: &[u64]| SplitRule::Specified(amounts.iter().map(|&it| minor(it)).collect());
        for (rule, total, shares, refused) in [
            (lucky(Some(200)), 1000, 10, None),
            (lucky(Some(200)), 1001, 10, Some("total")),
            (lucky(Some(201)), 1000, 10, Some("max_share")),
            (lucky(None), 1000, 10, Some("max_share")),
            // Even a share that gets all but the least of the others stays below.
            (lucky(None), 209, 10, None),
            (lucky(None), 210, 10, Some("max_share")),
            (lucky(Some(500)), 209, 10, None),
            (SplitRule::Equal, 1000, 5, None),
            (SplitRule::Equal, 1000, 4, Some("total")),
            (uniform(90), 1000, 10, None),
            (uniform(80), 1000, 10, Some("total")),
            (specified(&[200, 200, 1]), 401, 3, None),
            (specified(&[199, 201]), 400, 2, Some("amounts")),
        ] {
            let told = caps.check(&rule, minor(total), shares).err();
            let field = told.as_ref().map(|problem| {
                let mut json = Vec::new();
                problem.write_json(&mut json, "");
                let json: serde_json::Value = serde_json::from_slice(&json).expect("a problem is JSON");
                json["errors"][0]["field"].as_str().map(str::to_owned).expect("it names a field")
            });
            assert_eq!(field.as_deref(), refused, "{rule:?} of {total} in {shares}: {told:?}");
            assert!(Caps::default().check(&rule, minor(total), shares).is_ok());
        }
    }
}
