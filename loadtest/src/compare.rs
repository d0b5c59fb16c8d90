//! Two runs beside each other.
//!
//! **Invariant:** a ratio is B to A; what one of them does not have has no ratio.

use crate::failure::Failure;
use crate::report::human_us;
use crate::summary::Summary;
use std::io::{self, Write};
use std::path::Path;

/// Prints the figures of two runs and their ratios.
///
/// # Errors
/// Which directory is not a run's.
pub(crate) fn compare(a: &Path, b: &Path) -> Result<u8, Failure> {
    let (a, b) = (Summary::read(a)?, Summary::read(b)?);
    print(&a, &b, &mut io::stdout().lock()).map_err(|error| error.to_string())?;
    Ok(0)
}

fn print(a: &Summary, b: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:<18} {:>14} {:>14} {:>9}", "", "A", "B", "B / A")?;
    for (what, of) in WORDS {
        writeln!(out, "{what:<18} {:>14} {:>14}", of(a), of(b))?;
    }
    for (what, of) in FIGURES {
        row(out, what, [of(a), of(b)], |value| format!("{value:.2}"))?;
    }
    for (what, of) in LATENCIES {
        row(out, what, [of(a) as f64, of(b) as f64], |value| human_us(value as u64))?;
    }
    for (name, s) in [("A", a), ("B", b)] {
        if !s.audit.ok {
            writeln!(
                out,
                "{name}: its audit FAILED, so its figures are not those of a server that keeps its promises"
            )?;
        }
        if s.limit.what == crate::limit::What::Generator {
            writeln!(out, "{name}: the generator was the limit: {}", s.limit.why)?;
        }
    }
    if (a.scenario.as_str(), a.connections, a.seed) != (b.scenario.as_str(), b.connections, b.seed) {
        writeln!(out, "the runs differ in scenario, connections or seed: ratios compare more than the server")?;
    }
    Ok(())
}

fn row(out: &mut impl Write, what: &str, [a, b]: [f64; 2], text: impl Fn(f64) -> String) -> io::Result<()> {
    let ratio = if a > 0.0 { format!("{:.3}", b / a) } else { "-".to_owned() };
    writeln!(out, "{what:<18} {:>14} {:>14} {ratio:>9}", text(a), text(b))
}

const WORDS: [(&str, fn(&Summary) -> String); 4] = [
    ("scenario", |s| s.scenario.clone()),
    ("connections", |s| s.connections.to_string()),
    ("audit", |s| if s.audit.ok { "ok" } else { "FAILED" }.to_owned()),
    ("limited by", |s| {
        s.limit.what.name().trim_start_matches("the server's ").trim_start_matches("this machine's ").to_owned()
    }),
];

const FIGURES: [(&str, fn(&Summary) -> f64); 9] = [
    ("offered_per_s", |s| s.offered_per_s),
    ("achieved_per_s", |s| s.achieved_per_s),
    ("wins_per_s", |s| s.wins_per_s),
    ("sold_out_per_s", |s| s.sold_out_per_s),
    ("wins", |s| s.wins as f64),
    ("errors", |s| s.errors as f64),
    ("late_starts", |s| s.late_starts as f64),
    ("dropped_starts", |s| s.dropped_starts as f64),
    ("generator_cpu", |s| s.generator_cpu),
];

const LATENCIES: [(&str, fn(&Summary) -> u64); 10] = [
    ("latency p50", |s| s.latency_us.p50),
    ("latency p90", |s| s.latency_us.p90),
    ("latency p99", |s| s.latency_us.p99),
    ("latency p99.9", |s| s.latency_us.p999),
    ("latency max", |s| s.latency_us.max),
    ("service p50", |s| s.service_us.p50),
    ("service p90", |s| s.service_us.p90),
    ("service p99", |s| s.service_us.p99),
    ("service p99.9", |s| s.service_us.p999),
    ("service max", |s| s.service_us.max),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Quantiles;

    #[test]
    fn ratios_are_b_to_a() {
        let latency_us = Quantiles { p50: 100, p90: 0, ..Quantiles::default() };
        let a = Summary { achieved_per_s: 200.0, latency_us, ..Summary::default() };
        let latency_us = Quantiles { p50: 250, p90: 7, ..Quantiles::default() };
        let b = Summary { achieved_per_s: 100.0, latency_us, seed: 2, ..Summary::default() };
        let mut out = Vec::new();
        print(&a, &b, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let row = |what: &str| text.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
        assert!(row("achieved_per_s").ends_with("200.00         100.00     0.500"), "{text}");
        assert!(row("latency p50").ends_with("100 us         250 us     2.500"), "{text}");
        assert!(row("latency p90").ends_with(" -"), "{text}");
        assert!(text.contains("A: its audit FAILED") && text.contains("the runs differ"), "{text}");
    }
}
