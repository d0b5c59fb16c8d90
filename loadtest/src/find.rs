//! Searches for the highest rate at which the thresholds hold.
//!
//! **Invariant:** a rate is told as found only if a run of its own, longer than
//! the tries, has confirmed it; an audit that fails ends the search.

use crate::failure::Failure;
use crate::limit::{Limit, What};
use crate::options::{self, Options};
use crate::report::human_us;
use crate::run::{Attempt, listen, make_directory, status};
use crate::scenario::Stage;
use crate::summary::{Quantiles, Summary};
use clap::Args;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

const FIRST_RATE: f64 = 1000.0;
/// What keeps up answers at least this share of what is offered.
const KEEPS_UP: f64 = 0.98;
/// A confirmation lasts so many times as long as a try.
const CONFIRMATION: u32 = 3;
const CONFIRMATIONS_MAX: usize = 4;
const TRIES_MAX: usize = 40;

#[derive(Debug, Args)]
pub(crate) struct FindOptions {
    #[command(flatten)]
    pub(crate) options: Options,
    /// The highest rate that is tried
    #[arg(long, default_value_t = 1_000_000.0, value_parser = options::rate)]
    pub(crate) rate_max: f64,
    /// How near to the knee, in percent of the rate
    #[arg(long, default_value_t = 5.0, value_parser = percent)]
    pub(crate) precision: f64,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.1..=50.0).contains(&percent) => Ok(percent),
        _ => Err("percent, 0.1 to 50".to_owned()),
    }
}

/// `find.json`.
#[derive(Debug, Serialize)]
struct Found {
    scenario: String,
    thresholds: Vec<String>,
    /// The highest rate that was confirmed; none if not even the lowest held.
    rate_per_s: Option<f64>,
    /// The lowest rate that did not hold; none if all did.
    fails_at_per_s: Option<f64>,
    /// What was used up where it did not hold.
    limit: Option<Limit>,
    tries: Vec<Try>,
}

#[derive(Clone, Debug, Serialize)]
struct Try {
    rate_per_s: f64,
    duration_s: f64,
    confirms: bool,
    holds: bool,
    achieved_per_s: f64,
    latency_us: Quantiles,
    dropped_starts: u64,
    errors: u64,
    thresholds_missed: Vec<String>,
    limit: Limit,
}

/// The interval that the knee is in, narrowed by tries.
#[derive(Debug)]
struct Search {
    first: f64,
    max: f64,
    precision: f64,
    /// Rates that held, in no order.
    held: Vec<f64>,
    fails: Option<f64>,
}

impl Search {
    /// The highest rate that held.
    fn holds(&self) -> Option<f64> {
        self.held.iter().copied().max_by(f64::total_cmp)
    }

    /// The rate to try next; none when the knee is known nearly enough.
    fn next(&self) -> Option<f64> {
        match (self.holds(), self.fails) {
            (None, None) => Some(self.first.min(self.max)),
            (Some(holds), None) => (holds < self.max).then(|| (holds * 2.0).min(self.max)),
            (None, Some(fails)) => (fails > 1.0).then(|| (fails / 2.0).max(1.0)),
            // In the middle by ratio, as precision is one.
            (Some(holds), Some(fails)) => (fails / holds > 1.0 + self.precision).then(|| (holds * fails).sqrt()),
        }
    }

    fn record(&mut self, rate: f64, holds: bool) {
        if holds {
            self.held.push(rate);
        } else {
            self.fails = Some(self.fails.map_or(rate, |known| known.min(rate)));
            // A rate that held once and fails now does not hold.
            self.held.retain(|known| *known < rate);
        }
    }
}

/// Searches, prints each try and the knee; the exit code.
pub(crate) fn find(find: &FindOptions) -> Result<u8, Failure> {
    let options = &find.options;
    let mut scenario = options.scenario()?;
    if scenario.thresholds.is_empty() {
        return Err(Failure::Usage("find needs to know what must hold: --threshold 'p99<20ms'".to_owned()));
    }
    if options.part.is_some() || options.start_at.is_some() || options.chaos_command.is_some() {
        let why = "find makes many runs; --part, --start-at and --chaos-command are for `run`";
        return Err(Failure::Usage(why.to_owned()));
    }
    if options.allow_live {
        let why = "find makes many runs, each with deposits of its own; with real money make single ones with `run`";
        return Err(Failure::Usage(why.to_owned()));
    }
    let duration = options.duration.unwrap_or(Duration::from_secs(10));
    let (target, interrupt) = (Arc::new(options.target()?), listen()?);
    let precision = find.precision / 100.0;
    let first = options.rate.unwrap_or(FIRST_RATE);
    let mut search = Search { first, max: find.rate_max, precision, held: Vec::new(), fails: None };
    let mut tries: Vec<Try> = Vec::new();
    let mut confirmations = 0;
    let mut confirmed = None;
    println!("{:>10} {:>8} {:>10} {:>10} {:>10}  limited by", "rate /s", "seconds", "achieved", "p50", "p99");
    while tries.len() < TRIES_MAX {
        let (rate, confirms) = match (search.next(), search.holds()) {
            (Some(rate), _) => (rate, false),
            (None, Some(rate)) if confirmations < CONFIRMATIONS_MAX => (rate, true),
            (None, _) => break,
        };
        confirmations += usize::from(confirms);
        let length = if confirms { duration * CONFIRMATION } else { duration };
        scenario.stages = vec![Stage::steady(rate, length)];
        let out = options.out.as_ref().map(|out| out.join(format!("try-{:02}", tries.len() + 1)));
        let attempt = Attempt {
            options,
            scenario: &scenario,
            target: Arc::clone(&target),
            interrupt: Arc::clone(&interrupt),
            out: out.as_deref(),
        };
        let summary = attempt.make()?;
        let code = status(&summary);
        if summary.interrupted || code == 1 {
            crate::report::print(&summary, &mut std::io::stdout().lock()).map_err(|error| error.to_string())?;
            return Ok(code);
        }
        let made = Try::new(&summary, rate, confirms);
        println!("{}", made.line());
        search.record(rate, made.holds);
        let is_found = confirms && made.holds;
        tries.push(made);
        if is_found {
            confirmed = Some(rate);
            break;
        }
    }
    let failing = tries.iter().filter(|made| !made.holds).min_by(|a, b| a.rate_per_s.total_cmp(&b.rate_per_s));
    let found = Found {
        scenario: scenario.name.clone(),
        thresholds: scenario.thresholds.iter().map(ToString::to_string).collect(),
        rate_per_s: confirmed,
        fails_at_per_s: failing.map(|made| made.rate_per_s),
        limit: failing.map(|made| made.limit.clone()),
        tries: tries.clone(),
    };
    print!("{}", found.words());
    if let Some(out) = &options.out {
        make_directory(out)?;
        let path = out.join("find.json");
        let text = serde_json::to_string_pretty(&found).map_err(|error| error.to_string())?;
        std::fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(if confirmed.is_some() { 0 } else { 99 })
}

impl Try {
    fn new(s: &Summary, rate: f64, confirms: bool) -> Self {
        let answered = (s.answered + s.errors) as f64;
        let keeps_up = s.dropped_starts == 0
            && answered >= s.offered as f64 * KEEPS_UP
            && s.elapsed_s * KEEPS_UP <= s.duration_s + 0.5;
        Self {
            rate_per_s: rate,
            duration_s: s.duration_s,
            confirms,
            holds: keeps_up && s.thresholds_missed.is_empty(),
            achieved_per_s: s.achieved_per_s,
            latency_us: s.latency_us,
            dropped_starts: s.dropped_starts,
            errors: s.errors,
            thresholds_missed: s.thresholds_missed.clone(),
            limit: s.limit.clone(),
        }
    }

    fn line(&self) -> String {
        let q = self.latency_us;
        let mut line = format!(
            "{:>10.0} {:>8.0} {:>10.0} {:>10} {:>10}  {}",
            self.rate_per_s,
            self.duration_s,
            self.achieved_per_s,
            human_us(q.p50),
            human_us(q.p99),
            self.limit.what.name()
        );
        line += match (self.holds, self.confirms) {
            (true, true) => ": holds, confirmed",
            (true, false) => ": holds",
            (false, _) => ": does not hold",
        };
        if !self.thresholds_missed.is_empty() {
            line += &format!(" ({})", self.thresholds_missed.join(", "));
        } else if !self.holds {
            line += " (it did not keep up)";
        }
        line
    }
}

impl Found {
    fn words(&self) -> String {
        let at = |rate: f64| self.tries.iter().rfind(|made| made.rate_per_s == rate);
        let mut words = match self.rate_per_s {
            Some(rate) => {
                format!("highest rate that holds: {rate:.0} /s, confirmed ({})\n", self.thresholds.join(", "))
            }
            None => format!("no rate was confirmed to hold ({})\n", self.thresholds.join(", ")),
        };
        if let (Some(holds), Some(fails)) = (self.rate_per_s.and_then(at), self.fails_at_per_s.and_then(at)) {
            words += &format!(
                "knee: from {:.0} to {:.0} /s p50 goes from {} to {}, p99 from {} to {}\n",
                holds.rate_per_s,
                fails.rate_per_s,
                human_us(holds.latency_us.p50),
                human_us(fails.latency_us.p50),
                human_us(holds.latency_us.p99),
                human_us(fails.latency_us.p99)
            );
        }
        match &self.limit {
            Some(limit) if limit.what == What::Nothing => {
                words += "saturated: nothing, as far as can be seen from here\n";
            }
            Some(limit) => words += &format!("saturated: {}: {}\n", limit.what.name(), limit.why),
            None => words += "no limit was reached: try a larger --rate-max\n",
        }
        if self.limit.as_ref().is_some_and(|limit| limit.what == What::Generator) {
            words += "the server may hold more: this is the generator's knee\n";
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates tried for a server that holds up to `knee`.
    fn tried(knee: f64, max: f64) -> (Vec<f64>, Search) {
        let mut search = Search { first: 1000.0, max, precision: 0.05, held: Vec::new(), fails: None };
        let mut rates = Vec::new();
        while let Some(rate) = search.next() {
            search.record(rate, rate <= knee);
            rates.push(rate);
            assert!(rates.len() < 40, "{rates:?}");
        }
        (rates, search)
    }

    #[test]
    fn the_knee_is_bracketed() {
        for knee in [3.0, 700.0, 1000.0, 33_333.0, 900_000.0] {
            let (rates, search) = tried(knee, 1e6);
            let (holds, fails) = (search.holds().unwrap(), search.fails.unwrap());
            assert!(holds <= knee && knee < fails && fails / holds <= 1.05, "{knee}: {rates:?}");
        }
    }

    #[test]
    fn nothing_and_everything_hold() {
        let (rates, search) = tried(0.5, 1e6);
        assert_eq!((search.holds(), rates.last()), (None, Some(&1.0)));
        let (rates, search) = tried(1e9, 5000.0);
        assert_eq!((search.fails, rates), (None, vec![1000.0, 2000.0, 4000.0, 5000.0]));
    }

    #[test]
    fn what_is_not_confirmed_does_not_hold() {
        let mut search = tried(10_000.0, 1e6).1;
        let holds = search.holds().unwrap();
        search.record(holds, false);
        let below = search.holds().unwrap();
        assert!(below < holds && search.fails == Some(holds));
        // It goes on between the two, unless they are near enough.
        assert!(search.next().is_none_or(|next| below < next && next < holds));
    }
}
