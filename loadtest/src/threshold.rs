//! Bounds on what was measured, given as `p99<20ms` or `errors<1%`.
//!
//! **Invariant:** a latency bound is missed when nothing was answered: silence
//! has no latency, and must not pass for a fast server.

use crate::summary::{Quantiles, Summary, ThresholdSummary};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Something measured and what it must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Threshold {
    text: String,
    metric: Metric,
    comparison: Comparison,
    bound: f64,
    /// Whether a count is compared as a percentage of what was offered.
    is_share: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Latency(Quantile),
    Count(Counted),
    Rate(Rated),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Quantile {
    P50,
    P90,
    P99,
    P999,
    Max,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Counted {
    Errors,
    LateStarts,
    DroppedStarts,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rated {
    Offered,
    Achieved,
    Wins,
    SoldOut,
    GeneratorCpu,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Every metric by the name it has in `summary.json`.
const METRICS: [(&str, Metric); 14] = [
    ("p50", Metric::Latency(Quantile::P50)),
    ("p90", Metric::Latency(Quantile::P90)),
    ("p99", Metric::Latency(Quantile::P99)),
    ("p999", Metric::Latency(Quantile::P999)),
    ("p99.9", Metric::Latency(Quantile::P999)),
    ("max", Metric::Latency(Quantile::Max)),
    ("errors", Metric::Count(Counted::Errors)),
    ("late_starts", Metric::Count(Counted::LateStarts)),
    ("dropped_starts", Metric::Count(Counted::DroppedStarts)),
    ("offered_per_s", Metric::Rate(Rated::Offered)),
    ("achieved_per_s", Metric::Rate(Rated::Achieved)),
    ("wins_per_s", Metric::Rate(Rated::Wins)),
    ("sold_out_per_s", Metric::Rate(Rated::SoldOut)),
    ("generator_cpu", Metric::Rate(Rated::GeneratorCpu)),
];

impl Threshold {
    /// Holds it against a run.
    pub(crate) fn check(&self, summary: &Summary) -> ThresholdSummary {
        let measured = match self.metric {
            Metric::Latency(quantile) => quantile.of(&summary.latency_us) as f64,
            Metric::Count(counted) if self.is_share => {
                counted.of(summary) as f64 / summary.offered.max(1) as f64 * 100.0
            }
            Metric::Count(counted) => counted.of(summary) as f64,
            Metric::Rate(rated) => rated.of(summary),
        };
        let holds = match self.comparison {
            Comparison::Below => measured < self.bound,
            Comparison::AtMost => measured <= self.bound,
            Comparison::Above => measured > self.bound,
            Comparison::AtLeast => measured >= self.bound,
        };
        let silent = matches!(self.metric, Metric::Latency(_)) && summary.answered == 0;
        ThresholdSummary { threshold: self.text.clone(), met: holds && !silent, measured }
    }
}

impl Quantile {
    fn of(self, latency: &Quantiles) -> u64 {
        match self {
            Self::P50 => latency.p50,
            Self::P90 => latency.p90,
            Self::P99 => latency.p99,
            Self::P999 => latency.p999,
            Self::Max => latency.max,
        }
    }
}

impl Counted {
    fn of(self, summary: &Summary) -> u64 {
        match self {
            Self::Errors => summary.errors,
            Self::LateStarts => summary.late_starts,
            Self::DroppedStarts => summary.dropped_starts,
        }
    }
}

impl Rated {
    fn of(self, summary: &Summary) -> f64 {
        match self {
            Self::Offered => summary.offered_per_s,
            Self::Achieved => summary.achieved_per_s,
            Self::Wins => summary.wins_per_s,
            Self::SoldOut => summary.sold_out_per_s,
            Self::GeneratorCpu => summary.generator_cpu,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> String {
        threshold.text
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at =
            text.find(['<', '>']).ok_or("give a metric, < or >, and a bound: p99<20ms, errors<1%, wins_per_s>5000")?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let (comparison, bound) = if let Some(bound) = rest.strip_prefix("<=") {
            (Comparison::AtMost, bound)
        } else if let Some(bound) = rest.strip_prefix('<') {
            (Comparison::Below, bound)
        } else if let Some(bound) = rest.strip_prefix(">=") {
            (Comparison::AtLeast, bound)
        } else {
            (Comparison::Above, &rest[1..])
        };
        let Some((_, metric)) = METRICS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = METRICS.iter().map(|(known, _)| *known).collect();
            return Err(format!("'{name}' is not measured; choose one of {}", names.join(", ")));
        };
        let bound = bound.trim();
        let share = bound.strip_suffix('%').filter(|_| matches!(metric, Metric::Count(_)));
        let value = match (metric, share) {
            (Metric::Latency(_), _) => crate::options::duration(bound)?.as_secs_f64() * 1e6,
            (_, Some(percent)) => number(percent.trim_end())?,
            (_, None) => number(bound)?,
        };
        Ok(Self { text: text.trim().to_owned(), metric: *metric, comparison, bound: value, is_share: share.is_some() })
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err(format!("'{text}' is not a number from 0 on")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Summary {
        Summary {
            latency_us: Quantiles { p50: 1, p90: 10, p99: 20_000, p999: 30_000, max: 40_000 },
            offered: 1000,
            answered: 990,
            errors: 10,
            dropped_starts: 0,
            wins_per_s: 500.0,
            ..Summary::default()
        }
    }

    #[test]
    fn bounds() {
        for (text, met) in [
            ("p50<2us", Some(true)),
            ("p50<1us", Some(false)),
            ("p50<=1us", Some(true)),
            ("p99<20ms", Some(false)),
            ("p99 < 20.001ms", Some(true)),
            ("p99.9<1s", Some(true)),
            ("max<1m", Some(true)),
            ("max>1m", Some(false)),
            ("errors<1%", Some(false)),
            ("errors <= 1 %", Some(true)),
            ("errors<11", Some(true)),
            ("dropped_starts<1", Some(true)),
            ("wins_per_s > 499.5", Some(true)),
            ("wins_per_s>=500", Some(true)),
            ("wins_per_s>500", Some(false)),
            ("wins_per_s>5%", None),
            ("p98<1s", None),
            ("p99<20", None),
            ("p99<5%", None),
            ("errors<-1", None),
            ("errors<", None),
            ("p99", None),
            ("", None),
        ] {
            let threshold = text.parse::<Threshold>().ok();
            assert_eq!(threshold.map(|threshold| threshold.check(&measured()).met), met, "{text}");
        }
    }

    #[test]
    fn silence_is_not_fast() {
        let silent = Summary { answered: 0, latency_us: Quantiles::default(), ..measured() };
        assert!(!"p99<20ms".parse::<Threshold>().unwrap().check(&silent).met);
    }

    #[test]
    fn a_bound_is_told_as_it_was_given() {
        let checked = " errors < 0.5% ".parse::<Threshold>().unwrap().check(&measured());
        assert_eq!((checked.threshold.as_str(), checked.measured), ("errors < 0.5%", 1.0));
    }
}
