//! `hongbao top`: what a server does now, from its metrics, a line a second.
//!
//! **Invariant:** every figure is the difference of two answers of the server, or
//! one of the last; what the server does not tell is left out, never guessed.

use crate::config::Top;
use crate::failure::Failure;
use crate::metrics::CLASSES;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How long a server may take to tell its metrics.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines between two heads, where they are not one screen.
const LINES_A_HEAD: u64 = 20;
/// Outcomes that give something, and that say there is no more.
const WINS: [&str; 2] = ["won", "held"];
const SOLD_OUT: [&str; 1] = ["sold_out"];
/// Clears what is below the cursor's home.
const HOME: &str = "\x1b[H\x1b[J";

/// Asks and prints until it has done so `count` times, or is interrupted.
///
/// # Errors
/// An address that is none, and a server that cannot be asked at the start.
pub fn run(options: &Top, mut out: impl Write) -> Result<(), Failure> {
    let place = Place::parse(&options.target).map_err(Failure::Usage)?;
    let mut last = place.ask().map_err(|why| Failure::Usage(format!("{}: {why}", options.target)))?;
    let (is_screen, interval) = (io::stdout().is_terminal(), Duration::from_secs(options.interval_s));
    for nth in 0..options.count.unwrap_or(u64::MAX) {
        std::thread::sleep(interval);
        let mut text = String::new();
        if is_screen {
            text.push_str(HOME);
            _ = writeln!(text, "{}, every {} s; Ctrl-C ends it\n", options.target, options.interval_s);
        }
        let now = place.ask();
        let told = match &now {
            Ok(now) => Figures::between(&last, now),
            Err(why) => {
                _ = writeln!(text, "{}: {why}", options.target);
                Figures(Vec::new())
            }
        };
        told.write(&mut text, is_screen, nth % LINES_A_HEAD == 0);
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            // Whoever read it has gone.
            return Ok(());
        }
        last = now.unwrap_or(last);
    }
    Ok(())
}

/// Where the metrics are: host and port.
struct Place(String);

impl Place {
    fn parse(target: &str) -> Result<Place, String> {
        let host = target.strip_prefix("http://").unwrap_or(target).trim_end_matches('/');
        let is_port = |port: &str| port.parse::<u16>().is_ok();
        if host.contains('/') || !host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && is_port(port)) {
            return Err(format!("{target}: name host and port, as http://127.0.0.1:8080"));
        }
        Ok(Place(host.to_owned()))
    }

    fn ask(&self) -> Result<Told, String> {
        let asked = Instant::now();
        let text = self.metrics().map_err(|error| format!("{error}; is the server running, and is --target right?"))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("it does not speak HTTP")?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(Told { at: asked, figures: read(body) }),
            Some("404") => Err("it has no /metrics here: name the address of its --admin-listen".to_owned()),
            status => Err(format!("/metrics answers {}", status.unwrap_or("nothing"))),
        }
    }

    fn metrics(&self) -> io::Result<String> {
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for address in self.0.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(mut stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    let head = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.0);
                    stream.write_all(head.as_bytes())?;
                    let mut text = String::new();
                    stream.read_to_string(&mut text)?;
                    return Ok(text);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

/// What a server told, and when it was asked.
struct Told {
    at: Instant,
    figures: HashMap<String, f64>,
}

/// The series of a Prometheus text, name and labels as they stand there.
fn read(text: &str) -> HashMap<String, f64> {
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .filter_map(|line| line.rsplit_once(' '))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}

impl Told {
    fn one(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    fn sum(&self, mut belongs: impl FnMut(&str) -> bool) -> f64 {
        self.figures.iter().filter(|(name, _)| belongs(name)).map(|(_, value)| value).sum()
    }

    fn outcomes(&self, kinds: &[&str]) -> f64 {
        kinds.iter().filter_map(|kind| self.one(&format!("hongbao_outcomes_total{{outcome=\"{kind}\"}}"))).sum()
    }

    fn answers(&self, class: &str) -> f64 {
        let status = format!("status=\"{class}\"}}");
        self.sum(|name| name.starts_with("hongbao_http_requests_total{") && is_api(name) && name.ends_with(&status))
    }

    /// Answers under `/v1` that took at most so long, by the bucket's end.
    fn by_latency(&self) -> Vec<(f64, f64)> {
        let mut sums: Vec<(f64, f64)> = Vec::new();
        for (name, count) in &self.figures {
            let labels = name.strip_prefix("hongbao_http_request_seconds_bucket{").filter(|_| is_api(name));
            let end = labels.and_then(|labels| labels.rsplit_once("le=\"")?.1.strip_suffix("\"}"));
            let Some(end) = end.and_then(|end| if end == "+Inf" { Some(f64::INFINITY) } else { end.parse().ok() })
            else {
                continue;
            };
            match sums.iter_mut().find(|(other, _)| *other == end) {
                Some((_, sum)) => *sum += count,
                None => sums.push((end, *count)),
            }
        }
        sums.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        sums
    }
}

fn is_api(series: &str) -> bool {
    series.contains("route=\"/v1/")
}

/// What is shown: a heading, and the figure under it.
struct Figures(Vec<(&'static str, String)>);

impl Figures {
    fn between(last: &Told, now: &Told) -> Figures {
        let seconds = now.at.duration_since(last.at).as_secs_f64().max(1e-3);
        // A server that has started anew counts from zero.
        let rate = |of: &dyn Fn(&Told) -> f64| rounded((of(now) - of(last)).max(0.0) / seconds);
        let mut figures = vec![
            ("wins/s", rate(&|told| told.outcomes(&WINS))),
            ("sold out/s", rate(&|told| told.outcomes(&SOLD_OUT))),
            ("answers/s", rate(&|told| CLASSES.iter().map(|class| told.answers(class)).sum())),
            ("4xx/s", rate(&|told| told.answers("4xx"))),
            ("5xx/s", rate(&|told| told.answers("5xx"))),
            ("shed/s", rate(&|told| told.one("hongbao_http_shed_total").unwrap_or(0.0))),
            ("p99", p99(&last.by_latency(), &now.by_latency())),
        ];
        let mut gauge = |name: &str, heading: &'static str, shown: &dyn Fn(f64) -> String| {
            figures.extend(now.one(name).map(|value| (heading, shown(value))));
        };
        gauge("hongbao_http_in_flight", "in flight", &rounded);
        gauge("hongbao_http_connections_open", "connections", &rounded);
        gauge("hongbao_journal_sync_p99_seconds", "sync p99", &duration);
        gauge("hongbao_engine_lag_records", "store lag", &rounded);
        let raised = [("hongbao_clock_alarm", "CLOCK"), ("hongbao_engine_projection_failed", "STORE")];
        let raised = raised.iter().filter(|(name, _)| now.one(name).is_some_and(|value| value > 0.0));
        let raised: Vec<&str> = raised.map(|(_, what)| *what).collect();
        figures.push(("alarms", if raised.is_empty() { "-".to_owned() } else { raised.join(",") }));
        Figures(figures)
    }

    fn write(&self, text: &mut String, is_screen: bool, with_head: bool) {
        if self.0.is_empty() {
            return;
        }
        if is_screen {
            for (heading, figure) in &self.0 {
                _ = writeln!(text, "  {heading:<12}{figure:>12}");
            }
            return;
        }
        if with_head {
            let heads: Vec<String> = self.0.iter().map(|(heading, _)| format!("{heading:>11}")).collect();
            _ = writeln!(text, "{}", heads.join(" "));
        }
        let figures: Vec<String> = self.0.iter().map(|(_, figure)| format!("{figure:>11}")).collect();
        _ = writeln!(text, "{}", figures.join(" "));
    }
}

fn rounded(value: f64) -> String {
    format!("{value:.0}")
}

fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds.is_infinite() => "over 5 s".to_owned(),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.0} us", seconds * 1e6),
    }
}

/// The end of the bucket that the ninety-ninth of a hundred answers between the two lies in.
fn p99(last: &[(f64, f64)], now: &[(f64, f64)]) -> String {
    let before = |end: f64| last.iter().find(|(other, _)| *other == end).map_or(0.0, |(_, count)| *count);
    let between: Vec<(f64, f64)> = now.iter().map(|(end, count)| (*end, (count - before(*end)).max(0.0))).collect();
    let all = between.last().map_or(0.0, |(_, count)| *count);
    if all == 0.0 {
        return "-".to_owned();
    }
    let (end, _) = between.iter().find(|(_, count)| *count >= 0.99 * all).expect("the last bucket has all");
    if end.is_infinite() { duration(*end) } else { format!("< {}", duration(*end)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, at: Instant) -> Told {
        Told { at, figures: read(text) }
    }

    #[test]
    fn figures_are_the_difference_of_two_answers() {
        let first = r#"
# HELP hongbao_outcomes_total Outcomes
hongbao_outcomes_total{outcome="won"} 100
hongbao_outcomes_total{outcome="sold_out"} 0
hongbao_http_shed_total 5
hongbao_http_requests_total{method="POST",route="/v1/envelopes/{id}/grab",status="2xx"} 100
hongbao_http_requests_total{method="GET",route="/metrics",status="2xx"} 7
hongbao_http_request_seconds_bucket{method="POST",route="/v1/envelopes/{id}/grab",le="0.001"} 100
hongbao_http_request_seconds_bucket{method="POST",route="/v1/envelopes/{id}/grab",le="0.01"} 100
hongbao_http_request_seconds_bucket{method="POST",route="/v1/envelopes/{id}/grab",le="+Inf"} 100
"#;
        let second = r#"
hongbao_outcomes_total{outcome="won"} 300
hongbao_outcomes_total{outcome="held"} 20
hongbao_outcomes_total{outcome="sold_out"} 60
hongbao_http_shed_total 7
hongbao_http_requests_total{method="POST",route="/v1/envelopes/{id}/grab",status="2xx"} 298
hongbao_http_requests_total{method="POST",route="/v1/envelopes/{id}/grab",status="5xx"} 2
hongbao_http_requests_total{method="GET",route="/metrics",status="2xx"} 9
hongbao_http_request_seconds_bucket{method="POST",route="/v1/envelopes/{id}/grab",le="0.001"} 290
hongbao_http_request_seconds_bucket{method="POST",route="/v1/envelopes/{id}/grab",le="0.01"} 299
hongbao_http_request_seconds_bucket{method="POST",route="/v1/envelopes/{id}/grab",le="+Inf"} 300
hongbao_http_in_flight 3
hongbao_journal_sync_p99_seconds 0.00025
hongbao_clock_alarm 1
"#;
        let start = Instant::now();
        let figures = Figures::between(&told(first, start), &told(second, start + Duration::from_secs(2)));
        let of =
            |heading: &str| figures.0.iter().find(|(other, _)| *other == heading).map(|(_, figure)| figure.as_str());
        for (heading, figure) in [
            ("wins/s", Some("110")),
            ("sold out/s", Some("30")),
            ("answers/s", Some("100")),
            ("5xx/s", Some("1")),
            ("shed/s", Some("1")),
            ("p99", Some("< 10.0 ms")),
            ("in flight", Some("3")),
            ("sync p99", Some("250 us")),
            ("store lag", None),
            ("alarms", Some("CLOCK")),
        ] {
            assert_eq!(of(heading), figure, "{heading}");
        }
    }

    #[test]
    fn a_server_that_has_started_anew_shows_nothing_below_zero() {
        let start = Instant::now();
        let (before, after) = ("hongbao_http_shed_total 9", "hongbao_http_shed_total 1");
        let figures = Figures::between(&told(before, start), &told(after, start + Duration::from_secs(1)));
        assert!(figures.0.iter().all(|(_, figure)| !figure.starts_with('-') || figure == "-"), "{:?}", figures.0);
    }

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for good in ["http://127.0.0.1:8080", "127.0.0.1:8080", "http://localhost:1/", "http://[::1]:8080"] {
            assert!(Place::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "http://", "localhost", "http://localhost", "http://a:b", "https://a:1", "http://a:1/metrics"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }
}
