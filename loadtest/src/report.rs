//! The page for people, on the terminal.

use crate::limit::What;
use crate::summary::Summary;
use std::io::{self, Write};

/// Microseconds in the unit that people would choose.
pub(crate) fn human_us(us: u64) -> String {
    match us {
        0..1000 => format!("{us} us"),
        1000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// The page for people.
pub(crate) fn print(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let s = summary;
    writeln!(out, "hongbao-load {} on {} (seed {})", s.scenario, s.target, s.seed)?;
    writeln!(
        out,
        "  offered    {:>10.0} /s for {:.1} s ({} requests, {} threads, {} connections)",
        s.offered_per_s, s.duration_s, s.offered, s.threads, s.connections
    )?;
    if let Some(part) = &s.part {
        writeln!(out, "  part       {part} of run {}", s.run)?;
    }
    if s.interrupted {
        writeln!(out, "  INTERRUPTED after {:.1} s: what follows is about the part until then", s.duration_s)?;
    }
    writeln!(out, "  achieved   {:>10.0} /s ({} answers in {:.1} s)", s.achieved_per_s, s.answered, s.elapsed_s)?;
    writeln!(out, "  wins       {:>10.0} /s while there were any ({})", s.wins_per_s, s.wins)?;
    writeln!(out, "  sold out   {:>10.0} /s while it was ({})", s.sold_out_per_s, s.sold_outs)?;
    for (what, q) in [("latency", &s.latency_us), ("service", &s.service_us)] {
        writeln!(
            out,
            "  {what}    p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
            human_us(q.p50),
            human_us(q.p90),
            human_us(q.p99),
            human_us(q.p999),
            human_us(q.max)
        )?;
    }
    writeln!(
        out,
        "  starts     {} late (by more than {}; {} by the generator itself), {} dropped",
        s.late_starts,
        human_us(s.late_after_us),
        s.late_by_generator,
        s.dropped_starts
    )?;
    writeln!(out, "  generator  {:.2} cores", s.generator_cpu)?;
    let mark = if s.limit.what == What::Generator { "LIMIT    " } else { "limit    " };
    writeln!(out, "  {mark}  {}: {}", s.limit.what.name(), s.limit.why)?;
    for (outcome, count) in &s.outcomes {
        writeln!(out, "    {outcome:<28} {count:>10}")?;
    }
    if s.errors > 0 {
        writeln!(out, "  errors     {} ({} during the outage)", s.errors, s.errors_during_outage)?;
        for (kind, error) in &s.errors_by_kind {
            writeln!(out, "    {kind:<28} {:>10}  {}", error.count, error.example)?;
        }
    }
    if let Some(chaos) = &s.chaos {
        let recovered = match chaos.recovered_after_s {
            Some(seconds) => format!("ready again after {seconds:.2} s"),
            None => "not ready again".to_owned(),
        };
        writeln!(out, "  chaos      at {:.1} s: {recovered}", chaos.at_s)?;
        if let Some(failure) = &chaos.failure {
            writeln!(out, "  CHAOS      {failure}")?;
        }
    }
    for checked in &s.thresholds {
        let verdict = if checked.met { "met" } else { "missed" };
        writeln!(out, "  threshold  {} {verdict}", checked.threshold)?;
    }
    if !s.money.test_mode {
        let (deposited, refunded) = (s.money.deposited, s.money.refunded);
        writeln!(out, "  money      {deposited} minor units deposited, {refunded} taken back")?;
    }
    let a = &s.audit;
    let verdict = if a.ok { "ok" } else { "FAILED" };
    writeln!(
        out,
        "  audit      {verdict}: {} checks, {} differences, {} unknown outcomes asked again ({:.1} s)",
        a.checked, a.differences, a.unknown, a.took_s
    )?;
    for words in &a.first_differences {
        writeln!(out, "    DIFFERENCE {words}")?;
    }
    let untold = a.differences.saturating_sub(a.first_differences.len() as u64);
    if untold > 0 {
        writeln!(out, "    and {untold} more")?;
    }
    Ok(())
}
