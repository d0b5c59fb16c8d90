//! Hongbao itself, as it is served.

use super::closed::{self, Measured};
use super::process::{self, Process};
use super::{Absence, Options};
use crate::asker::{Asker, wait_ready};
use crate::client::{Request, Target};
use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const KEY: &str = "hb_peers_0123456789";
/// More than a server of one machine gives away in a second, and the most of one envelope.
const SHARES_PER_S: f64 = 500_000.0;
const SHARES_MAX: f64 = 10_000_000.0;
const PATIENCE: Duration = Duration::from_secs(30);
const REMEDY: &str = "cargo build --release -p hongbao-server, or name it with --server";

pub(super) fn turn(options: &Options, directory: &Path) -> Result<Measured, Absence> {
    let binary = match &options.server {
        Some(named) if named.is_file() => named.clone(),
        Some(named) => {
            return Err(Absence::Missing { what: named.display().to_string(), remedy: REMEDY.to_owned() });
        }
        None => {
            let beside = env::current_exe().ok().and_then(|this| this.parent().map(Path::to_owned));
            process::need("hongbao", beside.as_slice(), REMEDY)?
        }
    };
    let shares = (SHARES_PER_S * (options.duration.as_secs_f64() + 1.0)).min(SHARES_MAX) as u64;
    let port = process::free_port()?;
    let mut command = Command::new(binary);
    command.args(["serve", "--test", "--listen", &format!("127.0.0.1:{port}"), "--data"]);
    command.arg(directory.join("data")).env("HONGBAO_ADMIN_KEY", KEY);
    let mut server = Process::start(command, Some(&directory.join("log")))?;
    server.wait_for_port(port)?;
    let target = Arc::new(Target::new(&format!("http://127.0.0.1:{port}"), Some(KEY))?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let envelope = runtime.block_on(async {
        wait_ready(&target, PATIENCE).await?;
        envelope(&target, shares).await
    })?;
    let path = format!("/v1/envelopes/{envelope}/grab");
    let measured = closed::run(&target, &path, b"{\"outcome\":\"won\"", options.connections, options.duration)?;
    let left = runtime.block_on(async {
        let view = asked(&target, &format!("/v1/envelopes/{envelope}"), None, 200).await?;
        view["remaining_shares"].as_u64().ok_or_else(|| format!("no remaining_shares: {view}"))
    })?;
    if left + measured.grabs != shares {
        return Err(format!("{} were told they won, {} shares are gone", measured.grabs, shares - left).into());
    }
    Ok(measured)
}

/// One that pays for itself, of a sender who has the money.
async fn envelope(target: &Arc<Target>, shares: u64) -> Result<String, String> {
    let total = shares * 100;
    let deposit = format!(r#"{{"amount":{total}}}"#);
    asked(target, "/v1/wallets/peers/deposits", Some(&deposit), 201).await?;
    let terms = format!(r#"{{"sender":"peers","total":{total},"shares":{shares}}}"#);
    let created = asked(target, "/v1/envelopes", Some(&terms), 201).await?;
    created["id"].as_str().map(str::to_owned).ok_or_else(|| format!("an envelope without an id: {created}"))
}

async fn asked(
    target: &Arc<Target>,
    path: &str,
    body: Option<&str>,
    expected: u16,
) -> Result<serde_json::Value, String> {
    let mut asker = Asker::new(Arc::clone(target), PATIENCE);
    let request = Request { path, idempotency_key: body.map(|_| "peers"), body: body.map(str::as_bytes) };
    let status = asker.ask(&request).await?;
    if status != expected {
        return Err(format!("{path} answered {status}: {}", asker.text()));
    }
    serde_json::from_slice(asker.body()).map_err(|error| format!("{path}: {error}"))
}
