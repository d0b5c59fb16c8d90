//! What else one would pick, measured on the same machine: each system started
//! here, alone, on the loopback, in a directory of its own, and ended by its pid.
//!
//! The load is the same for all: so many connections, each with one request
//! under way, the next sent when the last is answered. That is a closed loop,
//! because it is what `redis-benchmark` and `pgbench` can do; its latencies
//! leave out what would have waited, and are told beside each other only.
//!
//! **Invariant:** a rate is told only of grabs that happened: afterwards the
//! winners that the system has are as many as were told that they won.

mod closed;
mod constant;
mod ours;
mod postgres;
mod process;
mod redis;

use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::report::human_us;
use clap::ValueEnum;
use closed::Measured;
pub(crate) use constant::serve as serve_constant;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Connections and time of a turn may not be more, so that it stays one.
const CONNECTIONS_MAX: usize = 1_000;

/// What to measure and how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Time of a turn
    #[arg(long, default_value = "5s", value_parser = crate::options::duration)]
    duration: Duration,
    /// Turns of each, in alternation; the median is told
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// The hongbao binary [default: the one beside this program, else on the PATH]
    #[arg(long)]
    server: Option<PathBuf>,
    /// Where the systems keep their data while they run: the disk that is measured [default: where temporary files are]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Options {
    fn check(&self) -> Result<(), Failure> {
        let limits = [
            ((1..=CONNECTIONS_MAX).contains(&self.connections), "--connections must be 1 to 1000"),
            ((1..=99).contains(&self.rounds), "--rounds must be 1 to 99"),
            ((1..=300_000).contains(&self.duration.as_millis()), "--duration must be 1ms to 300s"),
        ];
        match limits.into_iter().find(|(is_kept, _)| !is_kept) {
            Some((_, why)) => Err(Failure::Usage(why.to_owned())),
            None => Ok(()),
        }
    }
}

/// A system that decides grabs, or the least that any could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Peer {
    /// `hongbao serve`
    Hongbao,
    /// An axum server that answers a constant: what HTTP alone costs
    Axum,
    /// One Lua script a grab, written to a file that is synced before every answer
    Redis,
    /// The same, in memory only
    RedisMemory,
    /// One UPDATE with SKIP LOCKED a grab, synced at the commit
    Postgres,
}

impl Peer {
    /// What it is, in the table.
    fn title(self) -> &'static str {
        match self {
            Peer::Hongbao => "hongbao serve",
            Peer::Axum => "axum, a constant",
            Peer::Redis => "redis, a Lua script a grab, AOF always",
            Peer::RedisMemory => "redis, a Lua script a grab, AOF off",
            Peer::Postgres => "postgres, UPDATE with SKIP LOCKED",
        }
    }

    /// Who sends and measures.
    fn generator(self) -> &'static str {
        match self {
            Peer::Hongbao | Peer::Axum => "this program",
            Peer::Redis | Peer::RedisMemory => "redis-benchmark",
            Peer::Postgres => "pgbench",
        }
    }

    /// What of an answered grab a loss of power leaves.
    fn keeps(self) -> &'static str {
        match self {
            Peer::Hongbao | Peer::Redis | Peer::Postgres => "synced",
            Peer::RedisMemory => "nothing",
            Peer::Axum => "-",
        }
    }
}

/// Why a system was not measured.
enum Absence {
    /// It is not here, and this line brings it.
    Missing { what: String, remedy: String },
    /// It failed.
    Failed(String),
}

impl From<String> for Absence {
    fn from(why: String) -> Absence {
        Absence::Failed(why)
    }
}

/// One line of the table.
#[derive(serde::Serialize)]
struct Row {
    peer: Peer,
    #[serde(flatten)]
    measured: Measured,
}

/// Measures what there is and prints one table.
///
/// # Errors
/// Wrong options, and signals that cannot be listened to.
pub(crate) fn peers(options: &Options) -> Result<u8, Failure> {
    options.check()?;
    let interrupt = Interrupt::listen().map_err(|error| format!("signals: {error}"))?;
    let peers = match options.only.as_slice() {
        [] => Peer::value_variants(),
        only => only,
    };
    let mut turns: Vec<(Peer, Vec<Measured>, Option<Absence>)> =
        peers.iter().map(|&peer| (peer, Vec::new(), None)).collect();
    for round in 1..=options.rounds {
        for (peer, measured, absence) in &mut turns {
            if absence.is_some() || interrupt.is_raised() {
                continue;
            }
            eprintln!("{} of {}: {}", round, options.rounds, peer.title());
            match turn(*peer, options) {
                Ok(turn) => measured.push(turn),
                Err(why) => *absence = Some(why),
            }
        }
    }
    let mut rows = Vec::new();
    let (mut is_failed, mut is_asked_for_and_missing) = (false, false);
    for (peer, measured, absence) in turns {
        match absence {
            Some(Absence::Missing { what, remedy }) => {
                let is_named = peer == Peer::Hongbao && options.server.is_some();
                is_asked_for_and_missing |= is_named || !options.only.is_empty();
                eprintln!("{}: {what} is not here: {remedy}", peer.title());
            }
            Some(Absence::Failed(why)) => {
                is_failed = true;
                eprintln!("{}: {why}", peer.title());
            }
            None => rows.extend(median(measured).map(|measured| Row { peer, measured })),
        }
    }
    let mut out = io::stdout().lock();
    let printed = if options.json {
        serde_json::to_writer_pretty(&mut out, &rows).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        table(&mut out, &rows, options)
    };
    printed.map_err(|error| format!("cannot print: {error}"))?;
    Ok(match (is_failed, is_asked_for_and_missing) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    })
}

fn turn(peer: Peer, options: &Options) -> Result<Measured, Absence> {
    let directory = match &options.directory {
        Some(under) => tempfile::tempdir_in(under),
        None => tempfile::tempdir(),
    };
    let directory = directory.map_err(|error| format!("no directory for its data: {error}"))?;
    match peer {
        Peer::Hongbao => ours::turn(options, directory.path()),
        Peer::Axum => constant::turn(options),
        Peer::Redis => redis::turn(options, directory.path(), true),
        Peer::RedisMemory => redis::turn(options, directory.path(), false),
        Peer::Postgres => postgres::turn(options, directory.path()),
    }
}

/// The turn in the middle, by its rate.
fn median(mut turns: Vec<Measured>) -> Option<Measured> {
    turns.sort_by(|a, b| a.per_s.total_cmp(&b.per_s));
    let middle = turns.len() / 2;
    (!turns.is_empty()).then(|| turns.swap_remove(middle))
}

fn table(out: &mut impl Write, rows: &[Row], options: &Options) -> io::Result<()> {
    let (connections, rounds) = (options.connections, options.rounds);
    writeln!(
        out,
        "{connections} connections, one request under way on each (closed loop), median of {rounds} turns of {:?};\n\
         system and generator share this machine\n",
        options.duration
    )?;
    let ours = rows.iter().find(|row| row.peer == Peer::Hongbao).map(|row| row.measured.per_s);
    writeln!(
        out,
        "{:<40} {:>8} {:>10} {:>10} {:>10} {:>9}  sent by",
        "", "keeps", "grabs/s", "p50", "p99", "hongbao/it"
    )?;
    for Row { peer, measured } in rows {
        let ratio = ours.map_or("-".to_owned(), |ours| format!("{:.2}", ours / measured.per_s));
        writeln!(
            out,
            "{:<40} {:>8} {:>10.0} {:>10} {:>10} {ratio:>9}  {}",
            peer.title(),
            peer.keeps(),
            measured.per_s,
            human_us(measured.p50_us),
            human_us(measured.p99_us),
            peer.generator()
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_in_the_middle() {
        let turn = |per_s| Measured { grabs: 1, per_s, p50_us: 1, p99_us: 1 };
        assert!(median(Vec::new()).is_none());
        let middle = median(vec![turn(9.0), turn(1.0), turn(5.0)]).unwrap();
        assert!((middle.per_s - 5.0).abs() < f64::EPSILON);
    }
}
