//! Red envelopes in Redis as they are usually built: the amounts in a list, the
//! winners in a hash, and one script that takes the next amount for who has none.

use super::closed::Measured;
use super::process::{self, Process};
use super::{Absence, Options};
use std::path::Path;
use std::process::Command;

const REMEDY: &str = "apt-get install redis-server redis-tools";
const TAKE: &str = "local had = redis.call('HGET', KEYS[1], ARGV[1]) if had then return had end \
    local amount = redis.call('LPOP', KEYS[2]) if not amount then return 'sold out' end \
    redis.call('HSET', KEYS[1], ARGV[1], amount) return amount";
const FILL: &str = "for n = 1, ARGV[1] do redis.call('RPUSH', KEYS[1], 100) end return redis.call('LLEN', KEYS[1])";
/// Pushed by one run of the script: short enough for nobody to wait.
const CHUNK: u64 = 100_000;
/// Grabs that tell how fast it goes; `redis-benchmark` takes a count and no time.
const PROBE: u64 = 10_000;
/// The most that `redis-benchmark` draws from: hardly any user comes twice.
const USERS: &str = "2147483647";

pub(super) fn turn(options: &Options, directory: &Path, is_synced: bool) -> Result<Measured, Absence> {
    let server = process::need("redis-server", &[], REMEDY)?;
    let client = process::need("redis-cli", &[], REMEDY)?;
    let benchmark = process::need("redis-benchmark", &[], REMEDY)?;
    let port = process::free_port()?.to_string();
    let mut command = Command::new(server);
    command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(directory);
    command.args(["--appendfsync", "always", "--appendonly", if is_synced { "yes" } else { "no" }]);
    let mut server = Process::start(command, Some(&directory.join("log")))?;
    let cli = |arguments: &[&str]| {
        let told = process::output(Command::new(&client).args(["-p", &port]).args(arguments));
        told.map(|told| told.trim().to_owned())
    };
    server.wait_until(|| cli(&["PING"]).is_ok_and(|told| told == "PONG"))?;
    let sha = cli(&["SCRIPT", "LOAD", TAKE])?;
    let run = |grabs: u64| {
        let mut command = Command::new(&benchmark);
        command.args(["-p", &port, "-c", &options.connections.to_string(), "-n", &grabs.to_string()]);
        command.args(["-r", USERS, "--csv", "EVALSHA", &sha, "2", "winners", "amounts", "u__rand_int__"]);
        process::output(&mut command).and_then(|told| read(&told))
    };
    let fill = |grabs: u64| {
        (0..grabs.div_ceil(CHUNK)).try_for_each(|_| cli(&["EVAL", FILL, "1", "amounts", &CHUNK.to_string()]).map(drop))
    };
    fill(PROBE)?;
    let probe = run(PROBE)?;
    let grabs = (probe.per_s * options.duration.as_secs_f64()).max(1.0) as u64;
    fill(grabs)?;
    let told = run(grabs)?;
    let winners: u64 = cli(&["HLEN", "winners"])?.parse().map_err(|_| "HLEN tells no number".to_owned())?;
    // Users are drawn, so a few come twice; more missing than that, and it was not grabs that were counted.
    let sent = PROBE + grabs;
    if winners > sent || winners < sent - sent / 1_000 {
        return Err(format!("{sent} grabs were sent, {winners} winners are there").into());
    }
    Ok(Measured { grabs, ..told })
}

/// The last line of `redis-benchmark --csv`, times in milliseconds.
fn read(csv: &str) -> Result<Measured, String> {
    let wrong = || format!("redis-benchmark printed something else than a line of CSV: {csv}");
    let rows: Vec<Vec<&str>> =
        csv.lines().map(|line| line.split(',').map(|field| field.trim_matches('"')).collect()).collect();
    let [.., head, figures] = rows.as_slice() else { return Err(wrong()) };
    // The name of the test is the command, which has commas of its own: count from the end.
    let of = |name: &str| {
        let from_end = head.len() - head.iter().position(|field| *field == name)?;
        figures.get(figures.len().checked_sub(from_end)?)?.parse::<f64>().ok()
    };
    let us = |name| of(name).map(|ms| (ms * 1_000.0) as u64);
    let (Some(per_s), Some(p50), Some(p99)) = (of("rps"), us("p50_latency_ms"), us("p99_latency_ms")) else {
        return Err(wrong());
    };
    Ok(Measured { grabs: 0, per_s, p50_us: p50, p99_us: p99 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_csv() {
        let csv = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
            \"p99_latency_ms\",\"max_latency_ms\"\n\
            \"EVALSHA a 2 b,c d\",\"66225.16\",\"0.5\",\"0.1\",\"0.431\",\"0.7\",\"1.207\",\"3.1\"\n";
        let read = read(csv).unwrap();
        assert!((read.per_s - 66225.16).abs() < 0.01);
        assert_eq!((read.p50_us, read.p99_us), (431, 1207));
        assert!(super::read("ERR unknown command").is_err());
    }
}
