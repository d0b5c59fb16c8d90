//! What can be asked of a run on the command line.
//!
//! **Invariant:** what is said there wins over what the scenario says.

use crate::client::Target;
use crate::failure::Failure;
use crate::scenario::{Scenario, Stage};
use crate::threshold::Threshold;
use crate::world::Share;
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a server is loaded.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// hot, groups, flash, mixed, gifts, group-buy, or a TOML file; `hongbao-load scenario hot` prints one to start from
    pub(crate) scenario: String,
    /// Base URL of the server
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub(crate) target: String,
    /// API key with the role admin
    #[arg(long, env = "HONGBAO_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Requests offered a second, whatever the server does (for flash: after the spike) [default:
    /// 20000]; with a file: one stage of this rate instead of its own
    #[arg(long, value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// How long requests are offered, e.g. 30s, 500ms, 2m [default: 30s]
    #[arg(long, value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// Connections, kept open, one request at a time on each [default: 64]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(crate) connections: Option<u16>,
    /// Threads; by default half of the cores, as the server may need the others
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) threads: Option<u16>,
    /// People that grab envelopes (groups, mixed: at least 121)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    pub(crate) users: Option<u32>,
    /// Shares of the mass envelope (hot, mixed) [default: 200000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) shares: Option<u32>,
    /// Small envelopes (groups, mixed); by default as many as the rate can exhaust, up to 50,000
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) envelopes: Option<u32>,
    /// Units on sale (flash, mixed); 100 times as many users want one [default: 500]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) stock: Option<u32>,
    /// Over how long the users of a flash sale arrive [default: 2s]
    #[arg(long, value_parser = duration)]
    pub(crate) spike: Option<Duration>,
    /// How long a unit is held, in whole seconds [default: 900s]
    #[arg(long, value_parser = duration)]
    pub(crate) hold_ttl: Option<Duration>,
    /// Exponential gaps between requests instead of even ones
    #[arg(long)]
    pub(crate) poisson: bool,
    /// Of the scenario's choices; the same seed asks the same [default: 1]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// How long a request may wait for its connection, and again for its answer
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Requests due or in flight at once, at most; more are dropped and counted
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) max_in_flight: u32,
    /// What must hold, or the exit code is 99: 'p99<20ms', 'errors<1%', 'wins_per_s>5000', also with
    /// p50, p90, p99.9, max, late_starts, dropped_starts, achieved_per_s, sold_out_per_s,
    /// generator_cpu; several with commas, or repeated
    #[arg(long, value_delimiter = ',')]
    pub(crate) threshold: Vec<Threshold>,
    /// How long to wait for the server to be ready before the run
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) start_timeout: Duration,
    /// Directory for summary.json, report.html, latency.hlog, service.hlog and chaos.log
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Run through `sh -c` during the run: must kill the server and start it again in the background
    #[arg(long, requires = "chaos_at")]
    pub(crate) chaos_command: Option<String>,
    /// When, since the run's start
    #[arg(long, value_parser = duration, requires = "chaos_command")]
    pub(crate) chaos_at: Option<Duration>,
    /// How long the server may take to be ready again before the audit
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) recovery_timeout: Duration,
    /// Allow a target that is not this machine
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// Allow a server that is not in test mode: money is deposited, at most --budget, and taken back
    #[arg(long, requires = "budget")]
    pub(crate) allow_live: bool,
    /// What may be deposited on a server that is not in test mode, in minor units
    #[arg(long, requires = "allow_live")]
    pub(crate) budget: Option<u64>,
    /// Which of several generators this is, e.g. 2/4; all have the same options and --start-at
    #[arg(long, requires = "start_at")]
    pub(crate) part: Option<Share>,
    /// When the load begins, e.g. 2026-12-31T20:00:00Z
    #[arg(long)]
    pub(crate) start_at: Option<Timestamp>,
}

pub(crate) const DURATION_MAX: Duration = Duration::from_secs(86_400);

/// A duration as it is written: `30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Span(pub(crate) Duration);

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| "give a number and a unit: 30s, 500ms, 2m".to_owned())?;
    let unit_s = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("the unit is us, ms, s, m or h: 30s, 500ms, 2m".to_owned()),
    };
    let duration = Duration::try_from_secs_f64(number * unit_s).map_err(|error| error.to_string())?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err("more than nothing and at most a day".to_owned());
    }
    Ok(duration)
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=10_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("requests a second, 0.1 to 10000000".to_owned()),
    }
}

impl Options {
    /// Where the load goes, if it may go there.
    ///
    /// # Errors
    /// What to say instead.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        let target = Target::new(&self.target, self.key.as_deref()).map_err(Failure::Usage)?;
        if !target.is_loopback() && !self.allow_remote {
            let why = "--target is not this machine; if you may load it, say --allow-remote";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok(target)
    }

    /// The scenario, with what the command line says of it.
    ///
    /// # Errors
    /// What to say instead.
    pub(crate) fn scenario(&self) -> Result<Scenario, Failure> {
        let built_in = Scenario::built_in(&self.scenario);
        let is_built_in = built_in.is_some();
        let mut scenario = match built_in {
            Some(scenario) => scenario,
            None => Scenario::read(Path::new(&self.scenario))?,
        };
        self.apply(&mut scenario, is_built_in).map_err(Failure::Usage)?;
        let named = |why: String| if is_built_in { why } else { format!("{}: {why}", self.scenario) };
        scenario.check().map_err(|why| Failure::Usage(named(why)))?;
        let (at, duration) = (self.chaos_at.unwrap_or_default(), scenario.duration());
        if at >= duration {
            let (at_s, duration_s) = (at.as_secs_f64(), duration.as_secs_f64());
            return Err(Failure::Usage(format!(
                "--chaos-at {at_s}s is not before the end of --duration {duration_s}s; choose a time during the run"
            )));
        }
        Ok(scenario)
    }

    fn apply(&self, scenario: &mut Scenario, is_built_in: bool) -> Result<(), String> {
        let absent =
            |flag: &str, section: &str| Err(format!("--{flag}: the scenario has no [{section}] for it; leave it out"));
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.connections = self.connections.unwrap_or(scenario.connections);
        scenario.poisson |= self.poisson;
        scenario.users = self.users.or(scenario.users);
        scenario.thresholds.extend(self.threshold.iter().cloned());
        // The built-in ones have always taken every size, whether they use it or not.
        match (self.shares, &mut scenario.mass) {
            (Some(shares), Some(mass)) => mass.shares = shares,
            (Some(_), None) if !is_built_in => return absent("shares", "mass"),
            _ => {}
        }
        match (self.envelopes, &mut scenario.groups) {
            (Some(envelopes), Some(groups)) => groups.envelopes = Some(envelopes),
            (Some(_), None) if !is_built_in => return absent("envelopes", "groups"),
            _ => {}
        }
        match &mut scenario.sale {
            Some(sale) => {
                sale.stock = self.stock.unwrap_or(sale.stock);
                sale.hold_ttl = self.hold_ttl.map_or(sale.hold_ttl, Span);
            }
            None if is_built_in => {}
            None if self.stock.is_some() => return absent("stock", "sale"),
            None if self.hold_ttl.is_some() => return absent("hold-ttl", "sale"),
            None => {}
        }
        if is_built_in {
            let duration = self.duration.unwrap_or(Duration::from_secs(30));
            let spike = self.spike.unwrap_or(Duration::from_secs(2));
            scenario.stage_as_built_in(self.rate.unwrap_or(20_000.0), duration, spike);
            return Ok(());
        }
        if self.spike.is_some() {
            return Err("--spike: the stages of a file say this; give the first one at_once or a rate".to_owned());
        }
        match (self.rate, self.duration) {
            (Some(rate), duration) => {
                scenario.stages = vec![Stage::steady(rate, duration.unwrap_or(scenario.duration()))];
            }
            (None, Some(_)) => {
                return Err(
                    "--duration: the stages of a file have their own; with --rate it makes one stage".to_owned()
                );
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// What every name of the run begins with: parts of one run have the same, and no other run has it.
    pub(crate) fn tag(&self) -> String {
        let at = self.start_at.unwrap_or_else(Timestamp::now).as_millisecond();
        match self.part {
            Some(_) => format!("{at:x}"),
            // Others may begin in the same millisecond.
            None => format!("{at:x}{:08x}", rand::random::<u32>()),
        }
    }

    pub(crate) fn part(&self) -> Share {
        self.part.unwrap_or(Share::WHOLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_moment_have_names_of_their_own_and_its_parts_the_same() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let tag = |rest: &[&str]| {
            let words = ["run", "hot", "--start-at", "2026-12-31T20:00:00Z"];
            Line::try_parse_from(words.iter().chain(rest)).unwrap().options.tag()
        };
        assert_eq!(tag(&["--part", "1/2"]), tag(&["--part", "2/2"]));
        let tags = [tag(&[]), tag(&[]), tag(&["--part", "1/2"])];
        assert!(tags[0] != tags[1] && tags[1] != tags[2], "{tags:?}");
    }

    #[test]
    fn durations() {
        for (text, ms) in [("30s", 30_000), ("500ms", 500), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["30", "s", "", "-1s", "0s", "25h", "1d", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
