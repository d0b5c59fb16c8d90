//! `hongbao restore`: a data directory of a backup and of what came after it, and a list of
//! the answers that are no longer so.

use crate::audit::{printer, tell};
use crate::csv::write_row;
use crate::failure::{Failure, check_outside, private};
use crate::progress::Bar;
use crate::views::At;
use clap::Args;
use hongbao_engine::backup::{Answer, Left, RestoreOptions, Restored, restore, what_is_left};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// What is restored, and where to.
#[derive(Clone, Debug, Args)]
pub struct RestoreTask {
    /// The backup
    #[arg(long)]
    pub from: PathBuf,
    /// The directory to make: an empty one, or none yet
    #[arg(long)]
    pub data: PathBuf,
    /// Directory of archived segments
    #[arg(long)]
    pub archive: Option<PathBuf>,
    /// The old data directory, or its journal: it has what was answered last
    #[arg(long)]
    pub journal: Option<PathBuf>,
    /// Leave webhooks behind: for a copy beside the original, whose receivers are not to hear of it
    #[arg(long)]
    pub without_webhooks: bool,
    /// Restore though answers are lost, or nobody knows of all of them
    #[arg(long)]
    pub accept_loss: bool,
    /// File for the answers that are lost, as CSV [default: that of --data with .lost.csv]
    #[arg(long, value_name = "FILE")]
    pub lost: Option<PathBuf>,
}

/// How many lost answers are printed; all are in the file.
const PRINTED_MAX: u64 = 100;
/// How that file begins.
const HEAD: [&str; 7] = ["record", "at", "kind", "of", "user", "amount_minor", "reference"];

/// Restores, and prints what. Says whether it was done: it is not if answers would be
/// lost and nobody has accepted that.
///
/// # Errors
/// Why it cannot be done at all.
pub fn run(options: &RestoreTask) -> Result<bool, Failure> {
    let RestoreTask { from, data, archive, journal, without_webhooks, accept_loss, lost } = options;
    let of = RestoreOptions {
        from: from.clone(),
        archive: archive.clone(),
        journal: journal.clone(),
        without_webhooks: *without_webhooks,
    };
    let lost = lost.clone().unwrap_or_else(|| beside(data));
    for directory in [Some(from), archive.as_ref(), journal.as_ref()].into_iter().flatten() {
        check_outside("--data", data, directory)?;
        check_outside("--lost", &lost, directory)?;
    }
    let mut list = LostList::at(lost);
    let left = what_is_left(&of, &mut |answer| list.add(&answer))?;
    let listed = list.end()?;
    tell_loss(&left, &listed);
    if left.is_loss() && !accept_loss {
        println!("nothing was restored; to do it all the same: the same with --accept-loss");
        return Ok(false);
    }
    let bar = Bar::of("bytes");
    let mut progress = |done, all| bar.tell(done, all);
    let restored = restore(&of, data, &mut progress, &mut printer())?;
    drop(bar);
    let Restored { records, last, archive_goes_on, audited } = restored;
    let is_clean = tell(&audited, records, last);
    println!("{}: everything up to record {}", data.display(), last.0);
    let webhooks = std::fs::read_dir(data.join("webhooks")).map_or(0, Iterator::count);
    if webhooks > 0 {
        println!(
            "{webhooks} webhooks are in it: a server there that is started with --webhook-allow goes on to send to them; for a \
             copy beside the original restore with --without-webhooks"
        );
    }
    if let Some(archive) = archive.as_ref().filter(|_| !archive_goes_on) {
        println!("{} does not go on from there: serve with a new directory as --archive", archive.display());
    }
    Ok(is_clean)
}

fn beside(data: &Path) -> PathBuf {
    let mut name = data.file_name().unwrap_or(data.as_os_str()).to_owned();
    name.push(".lost.csv");
    data.with_file_name(name)
}

/// Makes sure that nothing else than such a list is written over: the same restore without
/// `--accept-loss` has left one.
fn check_replaced(path: &Path) -> io::Result<()> {
    let mut head = Vec::new();
    write_row(&mut head, HEAD)?;
    let mut begins = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(head.len() as u64).read_to_end(&mut begins)?,
        Err(_) => return Ok(()),
    };
    if begins.is_empty() || begins == head {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there, and is no list of lost answers"))
}

fn tell_loss(left: &Left, listed: &Listed) {
    let Left { info, last, lost, missing, is_end_known, notes } = left;
    println!("the backup has everything up to record {}, the last of {}", info.lsn.0, At(info.at));
    for note in notes {
        println!("{note}");
    }
    if last > &info.lsn {
        println!("records {} to {} come after it and are brought back", info.lsn.0 + 1, last.0);
    }
    if *lost > 0 {
        let Listed { answers, file } = listed;
        println!("{answers} answers in {lost} records behind a gap are lost: {}", file.display());
    }
    if *missing > 0 {
        println!("{missing} records are lost that nobody can read: their answers are not known");
    }
    if !is_end_known {
        println!(
            "what was answered after record {} is not known: only the old journal has it (--journal DIR), if it is \
             still there",
            last.0
        );
    }
    if !left.is_loss() {
        println!("no answer is lost");
    }
}

/// The lost answers, in a file of their own once there is one.
struct LostList {
    path: PathBuf,
    file: Option<io::Result<BufWriter<File>>>,
    answers: u64,
}

/// What is in it.
struct Listed {
    answers: u64,
    file: PathBuf,
}

impl LostList {
    fn at(path: PathBuf) -> LostList {
        LostList { path, file: None, answers: 0 }
    }

    fn add(&mut self, answer: &Answer) {
        let Answer { lsn, at, kind, of, user, amount, reference } = answer;
        let (lsn, at, amount) =
            (lsn.0.to_string(), At(*at).to_string(), amount.map_or(String::new(), |it| it.to_string()));
        if self.answers < PRINTED_MAX {
            let said = [of, user, &amount, reference].map(String::as_str);
            let said: Vec<&str> = said.into_iter().filter(|word| !word.is_empty()).collect();
            println!("lost: {at} {kind} {}", said.join(" "));
        }
        self.answers += 1;
        let path = &self.path;
        let file = self.file.get_or_insert_with(|| {
            check_replaced(path)?;
            let mut file = BufWriter::new(private().truncate(true).open(path)?);
            write_row(&mut file, HEAD)?;
            Ok(file)
        });
        if let Ok(open) = file
            && let Err(error) = write_row(open, [&*lsn, &at, kind, of, user, &amount, reference])
        {
            *file = Err(error);
        }
    }

    fn end(self) -> Result<Listed, Failure> {
        let LostList { path, file, answers } = self;
        let written = file.transpose().and_then(|file| file.map_or(Ok(()), |mut file| file.flush()));
        written
            .map_err(|error| Failure::Broken(format!("{}: {error}; name another file with --lost", path.display())))?;
        Ok(Listed { answers, file: path })
    }
}
