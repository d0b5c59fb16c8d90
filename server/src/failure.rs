//! Why a task of the command line failed, and with which status it ends.
//!
//! **Invariant:** status 2 says that it has to be called otherwise, and nothing
//! was checked; status 1 that a check failed or something broke.

use hongbao_client::Error;
use hongbao_engine::EngineError;
use hongbao_engine::memory::OpenError;
use hongbao_engine::redis::RedisOpenError;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::{fmt, io};

/// Why a task failed, in words that name the remedy.
#[derive(Debug)]
pub enum Failure {
    /// It cannot be done as it was asked for: arguments, environment, directory, port.
    Usage(String),
    /// Something that was sound or should have been is not.
    Broken(String),
}

impl Failure {
    /// The status the process ends with.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Broken(_) => 1,
            Failure::Usage(_) => 2,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failure::Usage(why) | Failure::Broken(why)) = self;
        f.write_str(why)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let why = error.to_string();
        match error {
            OpenError::Directory { .. }
            | OpenError::Locked(_)
            | OpenError::HalfCopied(_)
            | OpenError::IsBackup(_)
            | OpenError::HalfMade(_)
            | OpenError::HalfMigrated(_)
            | OpenError::OtherForm { .. }
            | OpenError::Migration { .. }
            | OpenError::Setting { .. }
            | OpenError::Addresses(_)
            | OpenError::Rebuild(_) => Failure::Usage(why),
            OpenError::Journal(_)
            | OpenError::Store(_)
            | OpenError::StoreIn { .. }
            | OpenError::StoreBehind { .. }
            | OpenError::Unwritten { .. }
            | OpenError::Backup(_)
            | OpenError::Sweep(_) => Failure::Broken(why),
        }
    }
}

impl From<RedisOpenError> for Failure {
    fn from(error: RedisOpenError) -> Failure {
        let why = match &error {
            // By the names of the command line.
            RedisOpenError::Option { option: "urls", why } => format!("--redis: {why}"),
            RedisOpenError::Option { option: "key_prefix", why } => format!("--redis-prefix: {why}"),
            _ => error.to_string(),
        };
        match error {
            RedisOpenError::Option { .. }
            | RedisOpenError::Certificate { .. }
            | RedisOpenError::Password { .. }
            | RedisOpenError::Rights { .. }
            | RedisOpenError::TooOld { .. }
            | RedisOpenError::Setting { .. }
            | RedisOpenError::Archive { .. }
            | RedisOpenError::Addresses { .. }
            | RedisOpenError::Deployment { .. } => Failure::Usage(why),
            RedisOpenError::Unreachable { .. }
            | RedisOpenError::ArchiveDamaged(_)
            | RedisOpenError::Cluster { .. }
            | RedisOpenError::Replicas { .. }
            | RedisOpenError::Primary { .. } => Failure::Broken(why),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        Failure::Broken(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Broken(error.to_string())
    }
}

/// Makes sure that `data`, which was given with `option`, is a directory some
/// engine has made, with all of `parts` in it, so that nothing is made in one that is not.
///
/// # Errors
/// [`Failure::Usage`] names the directory.
pub fn check_data_directory(option: &str, data: &Path, parts: &[&str]) -> Result<(), Failure> {
    let why = if !data.exists() {
        "does not exist".to_owned()
    } else if !parts.iter().all(|part| data.join(part).is_dir()) {
        format!("is not a data directory: it has no {}", parts.join(" and "))
    } else {
        return Ok(());
    };
    Err(Failure::Usage(format!("{} {why}; name the server's with {option}", data.display())))
}

/// Makes sure that what is to be written at `path`, which was given with `option`, does not come
/// into `directory`, which has to stay as it is.
///
/// # Errors
/// [`Failure::Usage`] names both.
pub fn check_outside(option: &str, path: &Path, directory: &Path) -> Result<(), Failure> {
    let Ok(directory) = directory.canonicalize() else { return Ok(()) };
    let whole = std::path::absolute(path)?;
    // What is not there yet is where the nearest directory above it is.
    let place = whole.ancestors().find_map(|above| above.canonicalize().ok());
    if !place.is_some_and(|place| place.starts_with(&directory)) {
        return Ok(());
    }
    let (path, directory) = (path.display(), directory.display());
    Err(Failure::Usage(format!(
        "{path} lies in {directory}, which has to stay as it is; name another place with {option}"
    )))
}

/// How files are made that have users and their money in them.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// What a server's refusal comes to: refused is asked wrongly, anything else is broken, also a server that cannot answer now.
pub(crate) fn asked(target: &str) -> impl Fn(Error) -> Failure {
    move |error| {
        let why = format!("{target}: {error}");
        match error {
            Error::Problem(problem) if problem.status >= 500 || problem.status == 429 => Failure::Broken(why),
            Error::Request(_) | Error::Problem(_) => Failure::Usage(why),
            // Nothing is told here, so there is no key to repeat.
            Error::NoAnswer { reason, attempts, .. } => Failure::Broken(format!(
                "{target}: no answer after {attempts} attempts: {reason}; is the server running, and is --target right?"
            )),
            _ => Failure::Broken(why),
        }
    }
}
