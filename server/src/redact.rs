//! `hongbao redact`: takes messages and gifts' texts back, of a server that runs, or out of a copy of
//! what none writes to.

use crate::failure::{Failure, asked};
use crate::redact_copy::copy;
use clap::Args;
use hongbao_client::types::Redact;
use hongbao_client::{Client, Error};
use hongbao_engine::erase::Erasure;
use hongbao_engine::types::{EnvelopeId, GiftId};
use std::path::PathBuf;
use std::str::FromStr;

/// An envelope or a gift.
#[derive(Clone, Copy, Debug)]
pub enum Written {
    /// Its message.
    Envelope(EnvelopeId),
    /// Its message, a reason and a note.
    Gift(GiftId),
}

impl FromStr for Written {
    type Err = String;

    fn from_str(text: &str) -> Result<Written, String> {
        let envelope = text.parse().map(Written::Envelope);
        envelope.or_else(|_| text.parse().map(Written::Gift)).map_err(|_| "give ids: env_…, gift_…".to_owned())
    }
}

/// Whose texts are taken back, and where.
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
    /// Envelopes and gifts whose texts are taken back
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<Written>,
}

/// Takes the texts back, or makes a copy without them, and says so, id by id. Says whether all were there.
///
/// # Errors
/// Why the server cannot be asked; what was taken back until then has been told.
pub fn run(options: &RedactTask) -> Result<bool, Failure> {
    let RedactTask { target, from, to, metadata, ids, .. } = options;
    if let (Some(from), Some(to)) = (from, to) {
        return copy(from, to, &erasure(ids, *metadata));
    }
    let why = "a server is asked with an admin key: --key, or HONGBAO_ADMIN_KEY";
    let key = options.key.as_deref().ok_or_else(|| Failure::Usage(why.to_owned()))?;
    let target = target.as_deref().ok_or_else(|| Failure::Usage("name the server: --target URL".to_owned()))?;
    let client = Client::new(target, key).map_err(asked(target))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let what = Redact::new().metadata(*metadata);
    let mut all_there = true;
    for id in ids {
        let (id, kind, answer) = match id {
            Written::Envelope(id) => {
                let answer = runtime.block_on(client.redact(&id.to_string(), &what));
                (id.to_string(), "envelope", answer.map(|envelope| envelope.redacted_at))
            }
            Written::Gift(id) => {
                let answer = runtime.block_on(client.redact_gift(&id.to_string(), &what));
                (id.to_string(), "gift", answer.map(|gift| gift.redacted_at))
            }
        };
        match answer {
            Ok(redacted_at) => println!("{id}: taken back {}", redacted_at.unwrap_or_default()),
            Err(Error::Problem(problem)) if problem.status == 404 => {
                println!("{id}: there is no such {kind}; nothing of it was taken back");
                all_there = false;
            }
            Err(error) => return Err(asked(target)(error)),
        }
    }
    Ok(all_there)
}

fn erasure(ids: &[Written], with_metadata: bool) -> Erasure {
    let envelopes = ids.iter().filter_map(|id| if let Written::Envelope(id) = id { Some(*id) } else { None });
    let gifts = ids.iter().filter_map(|id| if let Written::Gift(id) = id { Some(*id) } else { None });
    Erasure::of(envelopes, with_metadata).and_gifts(gifts)
}
