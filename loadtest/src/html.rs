//! `report.html`: the run on one page that needs no network.
//!
//! **Invariant:** the page holds all of `summary.json`, and shows its numbers.

use crate::chart::{Chart, Line, Scale, Tick};
use crate::report::human_us;
use crate::summary::{Second, Summary};
use hdrhistogram::Histogram;
use std::fmt::Write;
use std::path::Path;

pub(crate) const REPORT_FILE: &str = "report.html";

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;color:#111;background:#fff;max-width:760px;margin:2em auto;padding:0 1em}\
h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:1.6em 0 .3em}p{margin:.4em 0}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2em .8em .2em 0;border-bottom:1px solid #ddd;vertical-align:top}\
td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#a00;font-weight:bold}.good{color:#060;font-weight:bold}\
figure{margin:1.4em 0;break-inside:avoid}figcaption{font-weight:bold}svg{width:100%;height:auto}svg text{font-size:12px;fill:#222}\
.grid{stroke:#ddd;fill:none}.line{fill:none;stroke-width:1.8;stroke-linecap:round;stroke-linejoin:round}\
@media print{body{margin:0;max-width:none;font-size:11pt}}";

/// Writes the page into the run's directory.
///
/// # Errors
/// With the path that could not be written.
pub(crate) fn write(out: &Path, summary: &Summary, latency: &Histogram<u64>) -> Result<(), String> {
    let path = out.join(REPORT_FILE);
    let page = page(summary, latency).map_err(|error| error.to_string())?;
    std::fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))
}

fn page(s: &Summary, latency: &Histogram<u64>) -> Result<String, serde_json::Error> {
    let mut out = String::new();
    let title = escaped(&format!("hongbao-load {} on {}", s.scenario, s.target));
    let part = s.part.as_ref().map_or(String::new(), |part| format!(", part {}", escaped(part)));
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\n\
         <h1>{title}</h1><p>Run {}{part}, started {}, {:.1} s, seed {}</p>\n",
        escaped(&s.run),
        escaped(&s.started_at),
        s.duration_s,
        s.seed
    );
    verdicts(&mut out, s);
    figures(&mut out, s);
    for chart in charts(s, latency) {
        out.push_str(&chart.draw());
    }
    outcomes(&mut out, s);
    // `</script>` in an error's text must not end the element.
    let json = serde_json::to_string(s)?.replace('<', "\\u003c");
    let _ = write!(out, "<script type=\"application/json\" id=\"summary\">{json}</script>\n</body></html>\n");
    Ok(out)
}

fn verdicts(out: &mut String, s: &Summary) {
    let verdict = |good: bool, words: &str| {
        let class = if good { "good" } else { "bad" };
        format!("<p><span class=\"{class}\">{words}</span>")
    };
    let a = &s.audit;
    let words = if a.ok { "Audit ok" } else { "Audit FAILED" };
    let _ = writeln!(
        out,
        "{}: {} checks, {} differences, {} unknown outcomes asked again</p>",
        verdict(a.ok, words),
        a.checked,
        a.differences,
        a.unknown
    );
    for difference in &a.first_differences {
        let _ = writeln!(out, "<p class=\"bad\">{}</p>", escaped(difference));
    }
    for checked in &s.thresholds {
        let words = if checked.met { "Threshold met" } else { "Threshold missed" };
        let _ = writeln!(
            out,
            "{}: {} (measured {:.6})</p>",
            verdict(checked.met, words),
            escaped(&checked.threshold),
            checked.measured
        );
    }
    if s.interrupted {
        let _ = writeln!(out, "{}: this is about the part until then</p>", verdict(false, "Interrupted"));
    }
    if let Some(chaos) = &s.chaos {
        let recovered = match (&chaos.failure, chaos.recovered_after_s) {
            (Some(failure), _) => escaped(failure),
            (None, Some(seconds)) => format!("ready again after {seconds:.2} s"),
            (None, None) => "not ready again".to_owned(),
        };
        let good = chaos.failure.is_none() && chaos.recovered_after_s.is_some();
        let _ = writeln!(out, "{} at {:.1} s: {recovered}</p>", verdict(good, "Chaos"), chaos.at_s);
    }
    let limited_by_itself = s.limit.what == crate::limit::What::Generator;
    let _ = writeln!(
        out,
        "{}: {}</p>",
        verdict(!limited_by_itself, &format!("Limited by {}", s.limit.what.name())),
        escaped(&s.limit.why)
    );
}

fn figures(out: &mut String, s: &Summary) {
    out.push_str("<h2>Figures</h2><table id=\"figures\">\n");
    let mut row = |what: &str, value: String, meaning: &str| {
        let _ = writeln!(out, "<tr><th>{what}</th><td class=\"n\">{value}</td><td>{meaning}</td></tr>");
    };
    row("offered", format!("{:.0} /s", s.offered_per_s), &format!("{} requests were due", s.offered));
    row("achieved", format!("{:.0} /s", s.achieved_per_s), &format!("{} were answered", s.answered));
    row("wins", format!("{:.0} /s", s.wins_per_s), &format!("{} in all, while there were any", s.wins));
    row("sold out", format!("{:.0} /s", s.sold_out_per_s), &format!("{} in all, while it was", s.sold_outs));
    let errors = format!("{} during the outage", s.errors_during_outage);
    row("errors", s.errors.to_string(), &errors);
    let by_generator = format!("of these {} because the generator was late itself", s.late_by_generator);
    row("late starts", s.late_starts.to_string(), &by_generator);
    row("dropped starts", s.dropped_starts.to_string(), "due, and never asked");
    let threads = format!("cores, with {} threads and {} connections", s.threads, s.connections);
    row("generator", format!("{:.2}", s.generator_cpu), &threads);
    if !s.money.test_mode {
        let back = format!("minor units of real money, of which {} were taken back", s.money.refunded);
        row("deposited", s.money.deposited.to_string(), &back);
    }
    out.push_str("</table>\n<table id=\"latencies\"><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr>\n");
    for (what, q) in [("latency, from when it was due", s.latency_us), ("service, from when it was sent", s.service_us)]
    {
        let _ = write!(out, "<tr><th>{what}</th>");
        for us in [q.p50, q.p90, q.p99, q.p999, q.max] {
            let _ = write!(out, "<td title=\"{us} us\">{}</td>", human_us(us));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}

fn charts(s: &Summary, latency: &Histogram<u64>) -> [Chart; 4] {
    // After the last request there may be a second in which nothing more came.
    let is_empty = |second: &&Second| second.offered == 0.0 && second.answers + second.errors == 0;
    let silent = s.by_second.iter().rev().take_while(is_empty).count();
    let seconds = &s.by_second[..s.by_second.len() - silent];
    let line = |name: &'static str, value: fn(&Second) -> f64| Line {
        name,
        points: seconds.iter().map(|second| (second.second as f64, value(second))).collect(),
    };
    // A second without answers has no latency; it is not a fast one.
    let of_answers = |name: &'static str, value: fn(&Second) -> u64| {
        let answered = seconds.iter().filter(|second| second.answers > 0);
        Line { name, points: answered.map(|second| (second.second as f64, value(second) as f64)).collect() }
    };
    let by_time = |id, title, y_scale, y_text, lines| Chart {
        id,
        title,
        x_label: "seconds since the start",
        x_scale: Scale::Linear,
        x_ticks: Vec::new(),
        y_scale,
        y_text,
        lines,
    };
    let in_us = |value: f64| human_us(value as u64);
    let count = |value: f64| format!("{value}");
    [
        by_time(
            "latency-by-time",
            "Latency by time",
            Scale::Log,
            in_us,
            vec![
                of_answers("p50", |second| second.p50_us),
                of_answers("p99", |second| second.p99_us),
                of_answers("max", |second| second.max_us),
            ],
        ),
        latency_by_percentile(latency, in_us),
        by_time(
            "rates",
            "Rates",
            Scale::Linear,
            count,
            vec![
                line("offered", |second| second.offered),
                line("answers", |second| second.answers as f64),
                line("errors", |second| second.errors as f64),
            ],
        ),
        by_time(
            "wins",
            "Wins against sold-outs",
            Scale::Linear,
            count,
            vec![line("wins", |second| second.wins as f64), line("sold out", |second| second.sold_outs as f64)],
        ),
    ]
}

/// The whole distribution: one in ten, one in a hundred, ... is slower.
fn latency_by_percentile(latency: &Histogram<u64>, y_text: fn(f64) -> String) -> Chart {
    let nines = (latency.len().max(10) as f64).log10().floor().clamp(1.0, 6.0) as i32;
    let label = |power: i32| match power {
        0 => "0%".to_owned(),
        1 => "90%".to_owned(),
        2 => "99%".to_owned(),
        more => format!("99.{}%", "9".repeat(more as usize - 2)),
    };
    let x_ticks = (0..=nines).map(|power| Tick { at: 10_f64.powi(power), label: label(power) }).collect();
    // Thirty steps for each nine, evenly on the axis.
    let steps = (0..=nines * 30).map(|step| 10_f64.powf(f64::from(step) / 30.0));
    let points = steps.map(|one_in| (one_in, latency.value_at_quantile(1.0 - 1.0 / one_in) as f64)).collect();
    let lines = vec![Line { name: "latency", points: if latency.is_empty() { Vec::new() } else { points } }];
    Chart {
        id: "latency-by-percentile",
        title: "Latency by percentile",
        x_label: "of all requests are faster",
        x_scale: Scale::Log,
        x_ticks,
        y_scale: Scale::Log,
        y_text,
        lines,
    }
}

fn outcomes(out: &mut String, s: &Summary) {
    out.push_str("<h2>Outcomes</h2><table id=\"outcomes\">\n");
    for (outcome, count) in &s.outcomes {
        let _ = writeln!(out, "<tr><th>{}</th><td class=\"n\">{count}</td><td></td></tr>", escaped(outcome));
    }
    for (kind, error) in &s.errors_by_kind {
        let (kind, example) = (escaped(kind), escaped(&error.example));
        let _ = writeln!(
            out,
            "<tr><th class=\"bad\">{kind}</th><td class=\"n\">{}</td><td>{example}</td></tr>",
            error.count
        );
    }
    out.push_str("</table>\n");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
