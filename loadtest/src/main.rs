//! `hongbao-load`: an open-model load tester for Hongbao servers, with an audit
//! of every acknowledged answer.
//!
//! **Invariant:** exit code 0 means that the server kept every promise it made
//! during the run; 1 that it did not, or that this could not be found out; 2 is
//! wrong usage, and nothing was offered; 99 a missed threshold and 130 an interruption of a run that is
//! otherwise fine.
//!
//! # Layout
//! - `options` what can be asked for, `scenario` what is asked, how often and by whom
//! - `world` what a run has created, `setup` creates it, `money` bounds it and takes it back
//! - `schedule` when requests are due, `pacer` sleeps until then, `plan` which they are
//! - `client` one connection, `worker` drives many, `tally` counts, `watch` and `live` tell the seconds
//! - `facts`, `gifts` and `group_buy` what was acknowledged, `audit`, `audit_units`, `audit_gifts` and `audit_group_buy` hold it against the server
//! - `chaos` breaks the server, `interrupt` ends the load early, `failure` why there is nothing to tell
//! - `run` one run with all of that; `find` many of them; `merge` and `compare` their files
//! - `peers` other systems beside Hongbao, each started here
//! - `summary`, `threshold`, `limit` what was measured and what it means; `report`, `html` and `chart` show it

mod asker;
mod audit;
mod audit_gifts;
mod audit_group_buy;
mod audit_units;
mod chaos;
mod chart;
mod client;
mod compare;
mod facts;
mod failure;
mod find;
mod gifts;
mod group_buy;
mod html;
mod interrupt;
mod limit;
mod live;
mod merge;
mod money;
mod options;
mod pacer;
mod peers;
mod plan;
mod report;
mod run;
mod scenario;
mod schedule;
mod setup;
mod summary;
mod tally;
mod threshold;
mod watch;
mod worker;
mod world;

use crate::failure::Failure;
use crate::find::FindOptions;
use crate::options::Options;
use crate::scenario::Scenario;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Open-model load tester for Hongbao servers, with an audit of every acknowledged answer.
///
/// Exit codes: 0 fine, 1 the audit failed or could not be made, 2 wrong usage
/// (also a key that is not the server's, or a target where nobody listens), 99 a
/// threshold was missed, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "hongbao-load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a scenario, then audit
    Run(Box<Options>),
    /// Search for the highest rate at which the thresholds hold (--rate: the first one tried,
    /// --duration: of a try, 10s by default)
    Find(Box<FindOptions>),
    /// Print a scenario as TOML, as a file to start from
    Scenario {
        /// hot, groups, flash, mixed, gifts, group-buy, or a file
        name: String,
    },
    /// Put the parts of one run together
    Merge(merge::Options),
    /// Print the figures of two runs and their ratios
    Compare {
        /// A directory that `run --out DIR` has written
        a: PathBuf,
        /// Another one
        b: PathBuf,
    },
    /// Start what else one would pick beside Hongbao, one after the other, and print one table
    Peers(Box<peers::Options>),
    /// Answer a constant, for `peers`
    #[command(hide = true)]
    Constant {
        #[arg(long)]
        port: u16,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Find(options) => find::find(&options),
        Command::Scenario { name } => print_scenario(&name),
        Command::Merge(options) => merge::merge(&options),
        Command::Compare { a, b } => compare::compare(&a, &b),
        Command::Peers(options) => peers::peers(&options),
        Command::Constant { port } => peers::serve_constant(port),
    };
    done.map_or_else(|failure| failed(&failure), ExitCode::from)
}

fn print_scenario(name: &str) -> Result<u8, Failure> {
    let scenario = match Scenario::built_in(name) {
        Some(scenario) => scenario,
        None => Scenario::read(name.as_ref())?,
    };
    scenario.check().map_err(Failure::Usage)?;
    print!("{}", scenario.to_toml()?);
    Ok(0)
}

fn failed(failure: &Failure) -> ExitCode {
    eprintln!("hongbao-load: {failure}");
    ExitCode::from(failure.status())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
