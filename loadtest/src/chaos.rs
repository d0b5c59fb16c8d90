//! Runs the command that breaks the server, once, at its time.
//!
//! **Invariant:** the outage flag is up from the command's start until the server
//! is ready again, and the command never outlives the bound given to it unnoticed.

use crate::asker::wait_ready;
use crate::worker::Run;
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub(crate) struct Chaos {
    pub(crate) command: String,
    pub(crate) at: Duration,
    pub(crate) recovery_timeout: Duration,
    /// Where the command's output goes; nowhere without.
    pub(crate) log: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ChaosReport {
    pub(crate) command: String,
    pub(crate) at_s: f64,
    /// From the command's start until `/readyz` answered 200.
    pub(crate) recovered_after_s: Option<f64>,
    pub(crate) failure: Option<String>,
}

/// How often it is looked whether the run goes on until then.
const LOOK: Duration = Duration::from_millis(100);

/// Sleeps, breaks, waits for recovery. Blocking: has a thread of its own. Does
/// nothing if the run is interrupted before.
pub(crate) fn strike(chaos: &Chaos, run: &Arc<Run>, target: &Arc<crate::client::Target>) -> Option<ChaosReport> {
    let start = *run.start.get().expect("strikes after the start");
    while let Some(left) = (start + chaos.at).checked_duration_since(Instant::now()) {
        if run.interrupt.is_raised() {
            return None;
        }
        std::thread::sleep(left.min(LOOK));
    }
    run.outage.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let mut report = ChaosReport {
        command: chaos.command.clone(),
        at_s: began.duration_since(start).as_secs_f64(),
        recovered_after_s: None,
        failure: None,
    };
    let until = began + chaos.recovery_timeout;
    if let Err(failure) = execute(chaos, until) {
        report.failure = Some(failure);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ready = match runtime {
        Ok(runtime) => runtime.block_on(wait_ready(target, until.saturating_duration_since(Instant::now()))),
        Err(error) => Err(error.to_string()),
    };
    match ready {
        Ok(_) => {
            report.recovered_after_s = Some(began.elapsed().as_secs_f64());
            run.outage.store(false, Ordering::Relaxed);
        }
        Err(why) => drop(report.failure.get_or_insert(format!("the server did not recover: {why}"))),
    }
    Some(report)
}

fn execute(chaos: &Chaos, until: Instant) -> Result<(), String> {
    let output = || -> std::io::Result<(Stdio, Stdio)> {
        let Some(path) = &chaos.log else { return Ok((Stdio::null(), Stdio::null())) };
        let file = std::fs::File::create(path)?;
        Ok((file.try_clone()?.into(), file.into()))
    };
    let (stdout, stderr) = output().map_err(|error| format!("the chaos command's log: {error}"))?;
    let mut command = Command::new("sh");
    command.arg("-c").arg(&chaos.command).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    // A Ctrl-C is for this program, and not for the server that the command starts.
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| format!("the chaos command cannot start: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("the chaos command failed: {status}")),
            Ok(None) if Instant::now() >= until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("the chaos command did not end: it must leave the server in the background".to_owned());
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("the chaos command: {error}")),
        }
    }
}
