//! Programs of others, started and ended.
//!
//! **Invariant:** whatever was started is ended by its pid, and waited for, before
//! its directory goes.

use super::Absence;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START_PATIENCE: Duration = Duration::from_secs(30);
const END_PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// A program that runs until this is dropped.
pub(super) struct Process {
    child: Child,
    /// What asks it to end at once and in order.
    ending: Signal,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts it; what it says goes to `log`.
    pub(super) fn start(mut command: Command, log: Option<&Path>) -> Result<Process, String> {
        let told = |error| format!("{}: {error}", command.get_program().to_string_lossy());
        let (out, err) = match log {
            Some(path) => {
                let file = File::create(path).map_err(told)?;
                (Stdio::from(file.try_clone().map_err(told)?), Stdio::from(file))
            }
            None => (Stdio::null(), Stdio::null()),
        };
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.map_err(|error| format!("{program}: {error}"))?;
        Ok(Process { child, ending: Signal::TERM, log: log.map(Path::to_owned) })
    }

    /// The same, ended by another signal.
    pub(super) fn ended_by(mut self, signal: Signal) -> Process {
        self.ending = signal;
        self
    }

    /// Asks until `is_ready` says so.
    pub(super) fn wait_until(&mut self, mut is_ready: impl FnMut() -> bool) -> Result<(), String> {
        let until = Instant::now() + START_PATIENCE;
        loop {
            if is_ready() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended at its start ({status}){}", self.said()));
            }
            if Instant::now() > until {
                return Err(format!("did not start within {} s{}", START_PATIENCE.as_secs(), self.said()));
            }
            thread::sleep(PAUSE);
        }
    }

    pub(super) fn wait_for_port(&mut self, port: u16) -> Result<(), String> {
        self.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok())
    }

    /// The end of what it said.
    fn said(&self) -> String {
        let said = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
        let lines: Vec<_> = said.trim().lines().collect();
        match &lines[lines.len().saturating_sub(5)..] {
            [] => String::new(),
            last => format!(": {}", last.join("\n")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let until = Instant::now() + END_PATIENCE;
        let _ = kill_process(pid, self.ending);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(PAUSE);
        }
        // One that has ended already was waited for, so this finds nobody else.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody had a moment ago.
pub(super) fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no free port: {error}"))?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

/// The program `name`, in one of `directories` or on the PATH; or what is missing and how it comes.
pub(super) fn need(name: &str, directories: &[PathBuf], remedy: &str) -> Result<PathBuf, Absence> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = directories.iter().cloned().chain(std::env::split_paths(&path));
    let found = all.map(|directory| directory.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| Absence::Missing { what: name.to_owned(), remedy: remedy.to_owned() })
}

/// Runs a program to its end: what it printed.
///
/// # Errors
/// What it complained of, with its status.
pub(super) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if !done.status.success() {
        let complaint = String::from_utf8_lossy(&done.stderr);
        return Err(format!("{program}: {}: {}", done.status, complaint.trim()));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
