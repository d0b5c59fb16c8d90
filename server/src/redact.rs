//! `hongbao redact`: takes messages back, of a server that runs.

use crate::failure::{Failure, asked};
use clap::Args;
use hongbao_client::types::Redact;
use hongbao_client::{Client, Error};
use hongbao_engine::types::EnvelopeId;

/// Whose messages are taken back, and where.
#[derive(Clone, Debug, Args)]
pub struct RedactTask {
    /// The server, as http://127.0.0.1:8080: with either engine
    #[arg(long)]
    pub target: String,
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

/// Takes the messages back and says so, envelope by envelope. Says whether all were there.
///
/// # Errors
/// Why the server cannot be asked; what was taken back until then has been told.
pub fn run(options: &RedactTask) -> Result<bool, Failure> {
    let why = "a server is asked with an admin key: --key, or HONGBAO_ADMIN_KEY";
    let key = options.key.as_deref().ok_or_else(|| Failure::Usage(why.to_owned()))?;
    let target = &options.target;
    let client = Client::new(target, key).map_err(asked(target))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut all_there = true;
    for id in &options.envelopes {
        let what = Redact::new().metadata(options.metadata);
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
