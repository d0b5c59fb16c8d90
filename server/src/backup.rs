//! `hongbao backup`: a data directory as it was after one record, while it is served or not.

use crate::failure::{Failure, check_data_directory, check_outside};
use crate::operator::{BACKGROUND_NICE, rows_of};
use crate::progress::Bar;
use crate::views::At;
use clap::Args;
use hongbao_engine::backup::{Backup, BackupError, BackupOptions, BackupStream, Progress, back_up};
use hongbao_engine::memory::OpenError;
use hongbao_engine::store::StoreError;
use hongbao_engine::types::Timestamp;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is backed up, and where to.
#[derive(Clone, Debug, Args)]
pub struct BackupTask {
    /// Directory of journal, store and keys
    #[arg(long, default_value = "./data")]
    pub data: PathBuf,
    /// The backup: a directory that is not there yet
    #[arg(long)]
    pub to: PathBuf,
    /// Most MiB of rows to read and write in a second; more is sooner done, and felt by whoever waits for an answer
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=65_536), value_name = "COUNT")]
    pub mib_per_s_max: u64,
}

/// Makes a backup and prints what it is.
///
/// # Errors
/// Why there is none.
pub fn run(options: &BackupTask) -> Result<bool, Failure> {
    // On Linux also that of the threads to come.
    let _ = rustix::process::setpriority_process(None, BACKGROUND_NICE);
    let bar = Bar::of("rows");
    let made = make(&options.data, &options.to, options.mib_per_s_max, &mut |Progress { done, about }| {
        bar.tell(done, about.max(done));
    })?;
    drop(bar);
    let Backup { info, rows, files, bytes } = made;
    println!(
        "{}: everything up to record {}, the last of {}; {rows} rows in {files} files, {} MiB",
        options.to.display(),
        info.lsn.0,
        At(info.at),
        bytes.div_ceil(1 << 20)
    );
    Ok(true)
}

/// Makes a backup of `data` at `to`.
///
/// # Errors
/// Why there is none.
pub(crate) fn make(
    data: &Path,
    to: &Path,
    mib_per_s_max: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Backup, Failure> {
    check_data_directory("--data", data, &["journal", "store"])?;
    check_outside("--to", to, data)?;
    let options = BackupOptions { made_at: now(), bytes_per_s_max: mib_per_s_max << 20 };
    match back_up(data, to, options, progress) {
        Err(BackupError::Open(OpenError::Locked(_))) => {}
        made => return Ok(made?),
    }
    let stream = rows_of(data).map_err(|error| {
        let why = "is in use by another process, and no server answers at its operator.sock";
        let remedy = "wait for that process to end, or start a server of this version";
        Failure::Usage(format!("{} {why} ({error}); {remedy}", data.display()))
    })?;
    Ok(BackupStream::read(stream, options.bytes_per_s_max)?.make(to, options.made_at, progress)?)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Failure {
        match error {
            BackupError::Open(error) => error.into(),
            BackupError::Refused(why) => Failure::Usage(why),
            // No server of theirs is to be restarted.
            BackupError::Store(StoreError::Failed(why)) => {
                Failure::Broken(format!("the disk: {why}; free space or look at the disk, then run the same again"))
            }
            error @ (BackupError::Store(_)
            | BackupError::File { .. }
            | BackupError::Ended(_)
            | BackupError::Record { .. }
            | BackupError::Unsound(_)
            | BackupError::Changed { .. }) => Failure::Broken(error.to_string()),
        }
    }
}

/// What the clock says.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_ms(SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64))
}
