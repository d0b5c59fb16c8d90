//! The least that HTTP can cost: an axum server that reads the body and answers
//! what a grab is answered.

use super::closed::{self, Measured};
use super::process::{self, Process};
use super::{Absence, Options};
use crate::client::Target;
use crate::failure::Failure;
use axum::Router;
use axum::routing::post;
use std::env;
use std::process::Command;
use std::sync::Arc;

/// As long as a win.
const ANSWER: &str = r#"{"outcome":"won","amount":417,"share":17,"status":"grabbed","grabbed_at":"2026-02-16T12:00:00.000Z","claim_by":"2026-02-18T12:00:00.000Z","replayed":false}"#;

/// Serves it on a port of the loopback, until the process is ended.
///
/// # Errors
/// Why it cannot.
pub(crate) fn serve(port: u16) -> Result<u8, Failure> {
    let serving = async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        let json = [("content-type", "application/json")];
        let router = Router::new().route("/grab", post(async move |_: axum::body::Bytes| (json, ANSWER)));
        axum::serve(listener, router).await
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.and_then(|runtime| runtime.block_on(serving)).map_err(|error| error.to_string())?;
    Ok(0)
}

pub(super) fn turn(options: &Options) -> Result<Measured, Absence> {
    let port = process::free_port()?;
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(this);
    command.args(["constant", "--port", &port.to_string()]);
    let mut server = Process::start(command, None)?;
    server.wait_for_port(port)?;
    let target = Arc::new(Target::new(&format!("http://127.0.0.1:{port}"), None)?);
    Ok(closed::run(&target, "/grab", b"{\"outcome\":\"won\"", options.connections, options.duration)?)
}
