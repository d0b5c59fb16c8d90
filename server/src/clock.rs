//! `hongbao clock accept`: an operator's word that the clock is right after all.
//!
//! A running engine looks every second or so for a file in its directory, and
//! takes it away. Beside it the server keeps another, which says why deadlines
//! stand still, for as long as they do: so whoever accepts is told what.
//!
//! **Invariant:** a word that nobody took is taken back, so that it cannot count
//! for a clock that nobody has looked at.

use crate::failure::{Failure, check_data_directory};
use hongbao_engine::backup::BackupInfo;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the engine looks.
const ACCEPT_FILE: &str = "clock.accept";
/// Where it is said why deadlines stand still.
const ALARM_FILE: &str = "clock.alarm";
/// How long a word may wait for the engine, which looks every second.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often an [`Alarm`] should be told.
pub const TELL_EVERY: Duration = Duration::from_millis(500);

/// Tells the engine that serves `data` to take the clock for right. Answers what
/// came of it.
///
/// # Errors
/// Why nobody would hear it, or why nobody did.
pub fn accept(data: &Path) -> Result<String, Failure> {
    check_data_directory("--data", data, &["journal", "store"])?;
    let shown = data.display();
    if BackupInfo::read(data).is_ok() {
        let why = "is a backup, which no server serves; name the directory of the server whose clock it is with --data";
        return Err(Failure::Usage(format!("{shown} {why}")));
    }
    let why = fs::read_to_string(data.join(ALARM_FILE)).ok();
    let file = data.join(ACCEPT_FILE);
    let made = OpenOptions::new().write(true).create(true).truncate(true).open(&file);
    made.map_err(|error| Failure::Usage(format!("{}: {error}; is this the server's --data?", file.display())))?;
    if !is_taken(&file) {
        let unheard = "no server took the word within 5 s, and it was taken back";
        let remedy = "a word counts only while the server runs: start it, then accept if it asks for it";
        return Err(Failure::Usage(format!("{shown}: {unheard}; {remedy}")));
    }
    Ok(match why {
        Some(why) => format!("accepted, deadlines go on; they stood still because {}", without_remedy(&why)),
        None => format!("nothing to accept: the clock of the server on {shown} is in order"),
    })
}

/// What an alarm says before it comes to what could be done, which has been done now.
fn without_remedy(why: &str) -> &str {
    why.split([':', ';']).next().unwrap_or(why)
}

/// Whether somebody takes `file` away in time; if not, it is gone all the same.
fn is_taken(file: &Path) -> bool {
    let until = Instant::now() + PATIENCE;
    while file.exists() {
        if Instant::now() >= until {
            return fs::remove_file(file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// Why deadlines stand still, in a file for `hongbao clock accept` to read.
pub struct Alarm {
    file: PathBuf,
    is_told: bool,
}

impl Alarm {
    /// That of the server on `data`. One that was left behind goes.
    pub fn new(data: &Path) -> Alarm {
        let file = data.join(ALARM_FILE);
        // Mostly there is none.
        let _ = fs::remove_file(&file);
        Alarm { file, is_told: false }
    }

    /// Keeps the file while there is a reason.
    pub fn tell(&mut self, why: Option<String>) {
        let done = match why {
            Some(why) if !self.is_told => fs::write(&self.file, why),
            None if self.is_told => fs::remove_file(&self.file),
            _ => return,
        };
        self.is_told = !self.is_told;
        if let Err(error) = done {
            tracing::warn!(file = %self.file.display(), %error, "hongbao clock accept cannot be told what it accepts");
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.tell(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_there_while_it_lasts() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join(ALARM_FILE);
        fs::write(&file, "left by a server that was killed").unwrap();
        let mut alarm = Alarm::new(data.path());
        assert!(!file.exists());
        for (why, there) in [(None, false), (Some("it leapt"), true), (Some("it leapt more"), true), (None, false)] {
            alarm.tell(why.map(str::to_owned));
            assert_eq!(file.exists(), there, "{why:?}");
        }
        alarm.tell(Some("it leapt again".to_owned()));
        assert_eq!(fs::read_to_string(&file).unwrap(), "it leapt again");
        drop(alarm);
        assert!(!file.exists());
    }
}
