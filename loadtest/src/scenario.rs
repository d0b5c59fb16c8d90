//! What is asked, how often and by whom: the built-in scenarios and those in files.
//!
//! **Invariant:** a built-in scenario is the same type as one read from a file,
//! and printing it and reading it back changes nothing.

use crate::failure::Failure;
use crate::options::{Span, duration};
use crate::schedule::Segment;
use crate::threshold::Threshold;
use crate::world::KeyRange;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// `hot`: one mass envelope, more users than shares. `groups`: many small
/// envelopes of 2 to 100 shares, each with a few users too many. `flash`: an item
/// of which 100 times as many users as units want one at once. `mixed`: all of
/// them together, with claims, repeats and wallet reads. `gifts`: whole lives of gifts,
/// each to one of its ends. `group-buy`: whole lives of groups that buy an item together.
pub(crate) const BUILT_IN: [&str; 6] = ["hot", "groups", "flash", "mixed", "gifts", "group-buy"];

/// A small envelope's users are different people: up to 121.
pub(crate) const USERS_MIN_OF_GROUPS: u32 = 121;

/// A gift's life has more steps than this on average.
const STEPS_MIN_MEAN: f64 = 2.5;
/// And a group's, without those that only its members take.
const TURNS_MIN_MEAN: f64 = 4.0;

/// A scenario. Everything but `name`, `stages` and `mix` may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    #[serde(default = "defaults::seed")]
    pub(crate) seed: u64,
    #[serde(default = "defaults::connections")]
    pub(crate) connections: u16,
    /// People that grab envelopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<u32>,
    /// Exponential gaps between requests instead of even ones.
    #[serde(default)]
    pub(crate) poisson: bool,
    #[serde(default)]
    pub(crate) thresholds: Vec<Threshold>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) mix: Mix,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mass: Option<Mass>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<Groups>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sale: Option<Sale>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gifts: Option<Gifts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group_buy: Option<GroupBuy>,
}

/// A stretch of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    /// Requests due in the moment the stage begins, on top of its rate.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) at_once: u32,
    /// Requests a second.
    #[serde(default)]
    pub(crate) rate: f64,
    /// The rate at the stage's end, if it changes; evenly in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<f64>,
    #[serde(default)]
    pub(crate) duration: Span,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How often each kind of request is asked, in parts of their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mix {
    /// Grabs from the mass envelope.
    pub(crate) mass: u32,
    /// Grabs from small envelopes.
    pub(crate) groups: u32,
    /// Grabs of units on sale; who gets one pays for it or gives it back by itself.
    pub(crate) units: u32,
    /// Claims of shares that were won.
    pub(crate) claims: u32,
    /// Grabs by those who have won already.
    pub(crate) repeats: u32,
    /// Reads of wallets, and again whatever was asked before.
    pub(crate) others: u32,
    /// Steps of gifts' lives.
    pub(crate) gifts: u32,
    /// Turns of lives of groups that buy together.
    pub(crate) group_buy: u32,
}

impl Mix {
    pub(crate) fn parts(self) -> [u32; 8] {
        [self.mass, self.groups, self.units, self.claims, self.repeats, self.others, self.gifts, self.group_buy]
    }

    pub(crate) fn sum(self) -> u64 {
        self.parts().iter().map(|part| u64::from(*part)).sum()
    }

    /// Whether everything is of one kind.
    pub(crate) fn is_single(self) -> bool {
        self.parts().iter().filter(|part| **part > 0).count() == 1
    }
}

/// The mass envelope.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Mass {
    pub(crate) shares: u32,
    /// What a share holds on average, in minor units.
    pub(crate) share_amount: u64,
    /// Which users grab; by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<KeyRange>,
}

impl Default for Mass {
    fn default() -> Self {
        Self { shares: 200_000, share_amount: 500, users: None }
    }
}

/// Small envelopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Groups {
    /// By default as many as the rate can exhaust, up to 50,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) envelopes: Option<u32>,
    /// Which users grab; by default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<KeyRange>,
}

/// An item on sale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sale {
    pub(crate) stock: u32,
    /// Who wants one; by default a hundred times the stock. People of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<u32>,
    /// In minor units.
    pub(crate) price: u64,
    /// How long a unit is held, in whole seconds.
    pub(crate) hold_ttl: Span,
}

impl Default for Sale {
    fn default() -> Self {
        Self { stock: 500, users: None, price: 29_900, hold_ttl: Span(Duration::from_secs(900)) }
    }
}

impl Sale {
    pub(crate) fn users(&self) -> u32 {
        self.users.unwrap_or(self.stock.saturating_mul(100))
    }
}

/// What is given, and by how many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Gifts {
    /// Gifts that may be made; by default more than the rate can make, up to 500,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lives: Option<u32>,
    /// Who gives, pays and gets. People of their own.
    pub(crate) users: u32,
    /// In minor units.
    pub(crate) price: u64,
    /// Items that are given.
    pub(crate) items: u32,
}

impl Default for Gifts {
    fn default() -> Self {
        Self { lives: None, users: 1000, price: 9900, items: 16 }
    }
}

/// What is bought together, and by how many.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GroupBuy {
    /// Groups that may be opened; by default more than the rate can open, up to 500,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lives: Option<u32>,
    /// How many members a group has.
    pub(crate) size: u32,
    /// Who opens, joins and leaves. People of their own.
    pub(crate) users: u32,
    /// What each member pays, in minor units.
    pub(crate) price: u64,
    /// Items that are bought, and as many whose groups soon expire.
    pub(crate) items: u32,
}

impl Default for GroupBuy {
    fn default() -> Self {
        Self { lives: None, size: 3, users: 1000, price: 9900, items: 8 }
    }
}

mod defaults {
    pub(super) fn seed() -> u64 {
        1
    }

    pub(super) fn connections() -> u16 {
        64
    }
}

impl Stage {
    pub(crate) fn steady(rate: f64, duration: Duration) -> Self {
        Self { rate, duration: Span(duration), ..Self::default() }
    }

    pub(crate) fn segment(&self) -> Segment {
        Segment {
            at_once: f64::from(self.at_once),
            per_second: self.rate,
            to_per_second: self.to.unwrap_or(self.rate),
            length: self.duration.0,
        }
    }

    fn check(&self) -> Result<(), String> {
        const RATE_MAX: f64 = 10_000_000.0;
        for rate in [Some(self.rate), self.to].into_iter().flatten() {
            if !(0.0..=RATE_MAX).contains(&rate) {
                return Err(format!("a stage's rate is {rate}; give 0 to {RATE_MAX} requests a second"));
            }
        }
        if self.duration.0.is_zero() && (self.at_once == 0 || self.rate > 0.0 || self.to.is_some()) {
            return Err("a stage without duration has at_once and no rate; give it duration = \"30s\"".to_owned());
        }
        Ok(())
    }
}

impl Scenario {
    /// One of [`BUILT_IN`], at its usual size.
    pub(crate) fn built_in(name: &str) -> Option<Self> {
        let mix = match name {
            "hot" => Mix { mass: 100, ..Mix::default() },
            "groups" => Mix { groups: 100, ..Mix::default() },
            "flash" => Mix { units: 100, ..Mix::default() },
            "mixed" => Mix { mass: 35, groups: 25, units: 15, claims: 15, repeats: 5, others: 5, ..Mix::default() },
            "gifts" => Mix { gifts: 100, ..Mix::default() },
            "group-buy" => Mix { group_buy: 100, ..Mix::default() },
            _ => return None,
        };
        let mut scenario = Self {
            name: name.to_owned(),
            seed: defaults::seed(),
            connections: defaults::connections(),
            users: None,
            poisson: false,
            thresholds: Vec::new(),
            stages: Vec::new(),
            mix,
            mass: (mix.mass > 0).then(Mass::default),
            groups: (mix.groups > 0).then(Groups::default),
            sale: (mix.units > 0).then(Sale::default),
            gifts: (mix.gifts > 0).then(Gifts::default),
            group_buy: (mix.group_buy > 0).then(GroupBuy::default),
        };
        scenario.stage_as_built_in(20_000.0, Duration::from_secs(30), Duration::from_secs(2));
        Some(scenario)
    }

    /// One rate for all of the run; a sale alone begins with a spike in which
    /// everybody comes.
    pub(crate) fn stage_as_built_in(&mut self, rate: f64, duration: Duration, spike: Duration) {
        self.stages = match &self.sale {
            Some(sale) if self.mix.is_single() => {
                let spike = spike.min(duration);
                let everybody = Stage::steady(f64::from(sale.users()) / spike.as_secs_f64(), spike);
                let rest = (duration > spike).then(|| Stage::steady(rate, duration - spike));
                std::iter::once(everybody).chain(rest).collect()
            }
            _ => vec![Stage::steady(rate, duration)],
        };
    }

    /// Reads one from a TOML file.
    ///
    /// # Errors
    /// With the file, the line and what is wrong there.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let named = |why: &dyn std::fmt::Display| Failure::Usage(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| {
            let names = BUILT_IN.join(", ");
            named(&format!("{error}; SCENARIO is {names}, or a file as `hongbao-load scenario hot` prints one"))
        })?;
        let mut scenario: Self = toml::from_str(&text).map_err(|error| named(&error))?;
        scenario.complete();
        Ok(scenario)
    }

    /// What is asked for and not described has its usual size.
    fn complete(&mut self) {
        if self.mix.mass > 0 {
            self.mass.get_or_insert_default();
        }
        if self.mix.groups > 0 {
            self.groups.get_or_insert_default();
        }
        if self.mix.units > 0 {
            self.sale.get_or_insert_default();
        }
        if self.mix.gifts > 0 {
            self.gifts.get_or_insert_default();
        }
        if self.mix.group_buy > 0 {
            self.group_buy.get_or_insert_default();
        }
    }

    /// The scenario as a file.
    pub(crate) fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|error| error.to_string())
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// Which field has to be otherwise.
    pub(crate) fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: u64, range: std::ops::RangeInclusive<u64>| {
            if range.contains(&value) {
                return Ok(());
            }
            Err(format!("{what} is {value}; give {} to {}", range.start(), range.end()))
        };
        let tag_like = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(tag_like) {
            return Err("name: 1 to 64 of A-Z a-z 0-9 - _ .".to_owned());
        }
        within("connections", self.connections.into(), 1..=10_000)?;
        if self.stages.is_empty() {
            return Err("no stages: add [[stages]] with rate and duration".to_owned());
        }
        for stage in &self.stages {
            stage.check()?;
        }
        if self.duration().is_zero() || self.duration() > crate::options::DURATION_MAX {
            return Err("the stages last no time, or more than a day".to_owned());
        }
        if self.arrivals() < 1.0 {
            return Err("the stages offer no request: give a rate".to_owned());
        }
        for part in self.mix.parts() {
            within("a part of mix", part.into(), 0..=1_000_000)?;
        }
        let Mix { mass, groups, units, claims, repeats, others, gifts, group_buy } = self.mix;
        if self.mix.sum() == 0 || self.mix.sum() == u64::from(claims) + u64::from(repeats) + u64::from(others) {
            return Err("mix: one of mass, groups, units, gifts and group_buy must be more than 0".to_owned());
        }
        if claims + repeats > 0 && mass + groups == 0 {
            return Err("mix: claims and repeats need wins: give mass or groups a part".to_owned());
        }
        for (part, section, is_there) in [
            (mass, "mass", self.mass.is_some()),
            (groups, "groups", self.groups.is_some()),
            (units, "sale", self.sale.is_some()),
            (gifts, "gifts", self.gifts.is_some()),
            (group_buy, "group_buy", self.group_buy.is_some()),
        ] {
            if is_there && part == 0 {
                return Err(format!("[{section}] is described, but mix never asks for it; give it a part or drop it"));
            }
        }
        let users = u64::from(self.population());
        within("users", users, 1..=50_000_000)?;
        let keys = |what: &str, range: Option<KeyRange>| match range {
            Some(range) if range.start >= range.end || u64::from(range.end) > users => {
                Err(format!("{what}.users: [{}, {}] is not a range of {users} users", range.start, range.end))
            }
            _ => Ok(()),
        };
        if let Some(mass) = &self.mass {
            within("shares", mass.shares.into(), 1..=10_000_000)?;
            within("mass.share_amount", mass.share_amount, 1..=1_000_000)?;
            keys("mass", mass.users)?;
        }
        if let Some(groups) = &self.groups {
            within("envelopes", self.envelopes().into(), 1..=1_000_000)?;
            keys("groups", groups.users)?;
            if self.group_users().count() < USERS_MIN_OF_GROUPS {
                return Err(format!(
                    "users: small envelopes have up to {USERS_MIN_OF_GROUPS} different people each; give at least as many"
                ));
            }
        }
        if let Some(sale) = &self.sale {
            within("stock", sale.stock.into(), 1..=100_000)?;
            within("sale.users", sale.users().into(), 1..=50_000_000)?;
            within("sale.price", sale.price, 1..=1_000_000_000)?;
            if sale.hold_ttl.0.subsec_nanos() != 0 || sale.hold_ttl.0.is_zero() {
                return Err("hold_ttl: whole seconds".to_owned());
            }
        }
        if let Some(gifts) = &self.gifts {
            within("gifts.lives", self.lives().into(), 1..=10_000_000)?;
            within("gifts.users", gifts.users.into(), 3..=1_000_000)?;
            within("gifts.price", gifts.price, 1..=1_000_000_000)?;
            within("gifts.items", gifts.items.into(), 1..=1000)?;
        }
        if let Some(group_buy) = &self.group_buy {
            within("group_buy.lives", self.gatherings().into(), 1..=10_000_000)?;
            within("group_buy.size", group_buy.size.into(), 2..=100)?;
            within("group_buy.users", group_buy.users.into(), u64::from(group_buy.size) + 2..=1_000_000)?;
            within("group_buy.price", group_buy.price, 1..=1_000_000_000)?;
            within("group_buy.items", group_buy.items.into(), 1..=1000)?;
        }
        Ok(())
    }

    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.stages.iter().map(Stage::segment).collect()
    }

    pub(crate) fn duration(&self) -> Duration {
        self.stages.iter().map(|stage| stage.duration.0).sum()
    }

    /// Requests of the whole run.
    pub(crate) fn arrivals(&self) -> f64 {
        self.segments().iter().map(Segment::arrivals).sum()
    }

    pub(crate) fn population(&self) -> u32 {
        let wanted = self.mass.map_or(100_000, |mass| mass.shares.saturating_add(mass.shares.div_ceil(2)));
        let least = if self.mix.groups > 0 { USERS_MIN_OF_GROUPS } else { 1 };
        self.users.unwrap_or(wanted.max(least))
    }

    /// Small envelopes: unless given, as many as there will be grabs for.
    pub(crate) fn envelopes(&self) -> u32 {
        let part = f64::from(self.mix.groups) / self.mix.sum() as f64;
        let wanted = self.arrivals() * part / crate::setup::SMALL_ENVELOPE_USERS_MEAN;
        let given = self.groups.and_then(|groups| groups.envelopes);
        given.unwrap_or((wanted as u32).clamp(100, 50_000))
    }

    /// Gifts that may be made: unless given, more than there are requests for.
    pub(crate) fn lives(&self) -> u32 {
        let wanted = self.arrivals() * f64::from(self.mix.gifts) / self.mix.sum() as f64 / STEPS_MIN_MEAN;
        let given = self.gifts.and_then(|gifts| gifts.lives);
        given.unwrap_or((wanted as u32).clamp(100, 500_000))
    }

    /// Groups that may be opened: unless given, more than there are requests for.
    pub(crate) fn gatherings(&self) -> u32 {
        let wanted = self.arrivals() * f64::from(self.mix.group_buy) / self.mix.sum() as f64 / TURNS_MIN_MEAN;
        let given = self.group_buy.and_then(|group_buy| group_buy.lives);
        given.unwrap_or((wanted as u32).clamp(100, 500_000))
    }

    pub(crate) fn mass_users(&self) -> KeyRange {
        let all = KeyRange { start: 0, end: self.population() };
        self.mass.and_then(|mass| mass.users).unwrap_or(all)
    }

    pub(crate) fn group_users(&self) -> KeyRange {
        let all = KeyRange { start: 0, end: self.population() };
        self.groups.and_then(|groups| groups.users).unwrap_or(all)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "0s" { Ok(Span(Duration::ZERO)) } else { duration(&text).map(Span) }
    }
}

impl From<Span> for String {
    fn from(Span(duration): Span) -> String {
        let us = duration.as_micros();
        match (us % 1_000_000, us % 1000) {
            (0, _) => format!("{}s", us / 1_000_000),
            (_, 0) => format!("{}ms", us / 1000),
            _ => format!("{us}us"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for name in BUILT_IN {
            let scenario = Scenario::built_in(name).unwrap();
            let text = scenario.to_toml().unwrap();
            let read: Scenario = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_eq!(read, scenario, "{text}");
            assert_eq!(read.check(), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_flash_sale_begins_with_everybody() {
        let mut flash = Scenario::built_in("flash").unwrap();
        assert_eq!(flash.stages[0], Stage::steady(25_000.0, Duration::from_secs(2)));
        assert_eq!((flash.duration(), flash.arrivals()), (Duration::from_secs(30), 610_000.0));
        flash.stage_as_built_in(100.0, Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(flash.arrivals(), 50_000.0, "a spike longer than the run is the run");
    }

    #[test]
    fn files() {
        const STAGE: &str = "[[stages]]\nrate = 100\nduration = \"2s\"\n";
        let text = |rest: &str, mix: &str| format!("name = \"n\"\n{rest}\n{STAGE}[mix]\n{mix}\n");
        for (text, words) in [
            (text("", "mass = 1"), ""),
            (text("thresholds = ['p99<20ms', 'errors<1%']", "mass = 1"), ""),
            (text("", "mass = 1\n[mass]\nshares = 10\nusers = [5, 10]"), ""),
            (text("", "mass = 1\n[mass]\nshares = 10\nusers = [5, 100]"), "not a range of 15 users"),
            (text("", "units = 1\n[sale]\nstock = 3\nhold_ttl = '500ms'"), "whole seconds"),
            (text("", "mass = 1\n[sale]\nstock = 3"), "[sale] is described"),
            (text("", "units = 1\nclaims = 1"), "claims and repeats need wins"),
            (text("", "others = 1"), "one of mass, groups, units, gifts and group_buy"),
            (text("", "gifts = 1\n[gifts]\nlives = 10\nusers = 3"), ""),
            (text("", "gifts = 1\n[gifts]\nusers = 2"), "gifts.users is 2; give 3 to"),
            (text("", "group_buy = 1\n[group_buy]\nusers = 5"), ""),
            (text("", "group_buy = 1\n[group_buy]\nusers = 4"), "group_buy.users is 4; give 5 to"),
            (text("", "group_buy = 1\n[group_buy]\nsize = 1"), "group_buy.size is 1; give 2 to"),
            (text("", "mass = 1\n[group_buy]\nusers = 5"), "[group_buy] is described"),
            (text("", "mass = 1\n[gifts]\nusers = 3"), "[gifts] is described"),
            (text("users = 100", "groups = 1"), "121 different people"),
            (text("connections = 0", "mass = 1"), "connections is 0; give 1 to 10000"),
            (text("conections = 5", "mass = 1"), "unknown field `conections`"),
            (text("thresholds = ['p98<20ms']", "mass = 1"), "'p98' is not measured"),
            (text("[[stages]]\nrate = 5", "mass = 1"), "a stage without duration"),
            (text("[[stages]]\nat_once = 500", "mass = 1"), ""),
            (text("[[stages]]\nrate = 5\nduration = '9'", "mass = 1"), "the unit is"),
            (text("[[stages]]\nrate = -1\nduration = '9s'", "mass = 1"), "a stage's rate is -1"),
            ("name = 'n'\nstages = []\n[mix]\nmass = 1".to_owned(), "no stages"),
        ] {
            let read = toml::from_str::<Scenario>(&text).map_err(|error| error.to_string());
            let checked = read.and_then(|mut scenario| {
                scenario.complete();
                scenario.check()
            });
            match checked {
                Ok(()) => assert_eq!(words, "", "{text}"),
                Err(why) => assert!(!words.is_empty() && why.contains(words), "{why}\n{text}"),
            }
        }
    }
}
