//! Digests of a directory's files, and what is on the disk for sure.

use super::{BackupError, SUMS, at};
use crate::types::hex;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const CHUNK_BYTES: usize = 1 << 20;

/// A file below a directory, by the path from there.
pub(super) type Relative = String;

/// What is in a directory, however deep.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) files: Vec<Relative>,
    pub(super) directories: Vec<PathBuf>,
}

impl Tree {
    /// All of `directory`, in the order of names.
    pub(super) fn of(directory: &Path) -> Result<Tree, BackupError> {
        let mut tree = Tree::default();
        tree.add(directory, Path::new(""))?;
        tree.files.sort();
        Ok(tree)
    }

    fn add(&mut self, root: &Path, below: &Path) -> Result<(), BackupError> {
        let directory = root.join(below);
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let entry = entry.map_err(at(&directory))?;
            let path = below.join(entry.file_name());
            if entry.file_type().map_err(at(&directory))?.is_dir() {
                self.add(root, &path)?;
            } else {
                self.files.push(path.to_string_lossy().into_owned());
            }
        }
        self.directories.push(directory);
        Ok(())
    }
}

/// Gives `chunk` all of a file and answers its digest, as hexadecimal digits.
pub(super) fn digest(
    path: &Path,
    mut chunk: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<String, BackupError> {
    let mut file = File::open(path).map_err(at(path))?;
    let mut hash = Sha256::new();
    let mut bytes = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut bytes).map_err(at(path))?;
        if read == 0 {
            break;
        }
        hash.update(&bytes[..read]);
        chunk(&bytes[..read])?;
    }
    Ok(hex(&hash.finalize()))
}

/// Writes a new file that is on the disk when this returns.
pub(super) fn write(path: &Path, text: &str) -> Result<(), BackupError> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(at(path))
}

/// The directory that a name is in.
pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file, or the names in a directory, survive a loss of power.
pub(super) fn sync(path: &Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(at(path))
}

/// The digests that `directory` came with.
pub(super) fn sums_of(directory: &Path) -> Result<BTreeMap<Relative, String>, BackupError> {
    let path = directory.join(SUMS);
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let pair = |line: &str| {
        let (sum, file) = line.split_once("  ")?;
        let is_sum = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_sum.then(|| (file.to_owned(), sum.to_owned()))
    };
    let sums: Option<BTreeMap<Relative, String>> = text.lines().map(pair).collect();
    let what = || format!("its file {SUMS} cannot be read");
    sums.ok_or_else(|| BackupError::Changed { path: directory.to_owned(), what: what() })
}

/// Makes sure that there are the files that have digests and no others, and
/// answers them. What they hold is not looked at.
pub(super) fn listed(directory: &Path) -> Result<BTreeMap<Relative, String>, BackupError> {
    let changed = |what| BackupError::Changed { path: directory.to_owned(), what };
    let mut left = sums_of(directory)?;
    let mut sums = BTreeMap::new();
    for file in Tree::of(directory)?.files {
        // Those who look at it make these.
        if file == SUMS || file == "lock" || file.starts_with("audit.scratch/") {
            continue;
        }
        let (file, sum) = left.remove_entry(&file).ok_or_else(|| changed(format!("{file} was added")))?;
        sums.insert(file, sum);
    }
    match left.into_keys().next() {
        Some(file) => Err(changed(format!("{file} is missing"))),
        None => Ok(sums),
    }
}

/// Makes sure that every file of the backup in `from` is as it was made, and
/// makes a directory `to` of the same that can be written to without changing it.
pub(crate) fn linked(from: &Path, to: &Path) -> Result<(), BackupError> {
    for (file, sum) in listed(from)? {
        let (source, target) = (from.join(&file), to.join(&file));
        if digest(&source, |_| Ok(()))? != sum {
            return Err(BackupError::Changed { path: from.to_owned(), what: format!("{file} has changed") });
        }
        let parent = target.parent().unwrap_or(to);
        fs::create_dir_all(parent).map_err(at(parent))?;
        // Tables are written once and only ever removed; everything else is written to in its place.
        let is_table = source.parent().is_some_and(|parent| parent.ends_with("tables"));
        if !(is_table && fs::hard_link(&source, &target).is_ok()) {
            fs::copy(&source, &target).map_err(at(&target))?;
        }
    }
    Ok(())
}
