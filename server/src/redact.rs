//! `hongbao redact`: takes messages back, of a server that runs, or out of a copy of what none writes to.

use crate::failure::{Failure, asked};
use crate::redact_copy::copy;
use clap::Args;
use hongbao_client::types::Redact;
use hongbao_client::{Client, Error};
use hongbao_engine::erase::Erasure;
use hongbao_engine::types::EnvelopeId;
use std::path::PathBuf;

/// Whose messages are taken back, and where.
#[derive(Clone, Debug, Args)]
pub struct RedactTask {
    /// The server, as http://127.0.0.1:8080: with either engine
    #[arg(long, required_unless_present = "from", conflicts_with = "from")]
    pub target: Option<String>,
    /// Archive, backup or stopped data directory to copy instead; it is left as it is
    #[arg(long, value_name = "DIR", requires = "to")]
    pub from: Option<PathBuf>,
    /// The copy: a directory that is not there yet
    #[arg(long, value_name = "NEWDIR", requires = "from")]
    pub to: Option<PathBuf>,
    /// The admin key of that server, or another with the role admin
    #[arg(long, env = "HONGBAO_ADMIN_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// The metadata as well
    #[arg(long)]
    pub metadata: bool,
    /// Envelopes whose messages are taken back
    #[arg(required = true, value_name = "ENVELOPE")]
    pub envelopes: Vec<EnvelopeId>,
}

/// Takes the messages back, or makes a copy without them, and says so, envelope by envelope. Says whether all were there.
///
/// # Errors
/// Why the server cannot be asked; what was taken back until then has been told.
pub fn run(options: &RedactTask) -> Result<bool, Failure> {
    let RedactTask { target, from, to, metadata, envelopes, .. } = options;
    if let (Some(from), Some(to)) = (from, to) {
        return copy(from, to, &Erasure::of(envelopes.iter().copied(), *metadata));
    }
    let why = "a server is asked with an admin key: --key, or HONGBAO_ADMIN_KEY";
    let key = options.key.as_deref().ok_or_else(|| Failure::Usage(why.to_owned()))?;
    let target = target.as_deref().ok_or_else(|| Failure::Usage("name the server: --target URL".to_owned()))?;
    let client = Client::new(target, key).map_err(asked(target))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut all_there = true;
    for id in envelopes {
        let what = Redact::new().metadata(*metadata);
        match runtime.block_on(client.redact(&id.to_string(), &what)) {
            Ok(envelope) => println!("{id}: taken back {}", envelope.redacted_at.unwrap_or_default()),
            Err(Error::Problem(problem)) if problem.status == 404 => {
                println!("{id}: there is no such envelope; nothing of it was taken back");
                all_there = false;
            }
            Err(error) => return Err(asked(target)(error)),
        }
    }
    Ok(all_there)
}
