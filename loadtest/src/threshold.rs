//! Bounds on the measured latency, given as `p99<20ms`.

use crate::report::Quantiles;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A quantile of the latency and what it must stay below.
#[derive(Clone, Debug)]
pub(crate) struct Threshold {
    text: String,
    quantile: fn(&Quantiles) -> u64,
    below: Duration,
}

impl Threshold {
    pub(crate) fn is_met(&self, latency: &Quantiles) -> bool {
        u128::from((self.quantile)(latency)) < self.below.as_micros()
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, bound) = text.split_once('<').ok_or("give a quantile and its bound: p99<20ms")?;
        let quantile: fn(&Quantiles) -> u64 = match name.trim() {
            "p50" => |latency| latency.p50,
            "p90" => |latency| latency.p90,
            "p99" => |latency| latency.p99,
            "p999" | "p99.9" => |latency| latency.p999,
            "max" => |latency| latency.max,
            _ => return Err("the quantile is p50, p90, p99, p999 or max".to_owned()),
        };
        Ok(Self { text: text.to_owned(), quantile, below: crate::duration(bound.trim())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let latency = Quantiles { p50: 1, p90: 10, p99: 20_000, p999: 30_000, max: 40_000 };
        for (text, met) in [
            ("p50<2us", Some(true)),
            ("p50<1us", Some(false)),
            ("p99<20ms", Some(false)),
            ("p99 < 20.001ms", Some(true)),
            ("p99.9<1s", Some(true)),
            ("max<1m", Some(true)),
            ("p98<1s", None),
            ("p99<20", None),
            ("p99", None),
        ] {
            let threshold = text.parse::<Threshold>().ok();
            assert_eq!(threshold.map(|threshold| threshold.is_met(&latency)), met, "{text}");
        }
    }
}
