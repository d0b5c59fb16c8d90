//! A disk of a test's own, which can be filled and emptied again.

#![allow(unreachable_pub)]

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Where the disk of its own is, for the process that has one.
const DISK: &str = "HONGBAO_SMALL_DISK";

/// Tells `story` on a disk of its own, of so many MiB: in a process of its own, whose mounts
/// nobody else sees and which end with it.
pub fn on_a_small_disk(test: &str, mebibytes: u32, story: impl FnOnce(&Path)) {
    if let Some(directory) = std::env::var_os(DISK) {
        return story(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let script = format!(r#"mount -t tmpfs -o size={mebibytes}m none "$0" && exec "$@""#);
    command.args(["sh", "-c", &script]).arg(directory.path());
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let told = command.env(DISK, directory.path()).output().expect("`unshare` is there: apt-get install util-linux");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(told.status.success(), "on the small disk:\n{}\n{}", text(&told.stdout), text(&told.stderr));
    assert!(text(&told.stdout).contains("1 passed"), "no test is called {test}");
}

/// Fills the disk up to `room` bytes.
pub fn fill(directory: &Path, room: u64) {
    let mut file = std::fs::File::create(directory.join("ballast")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let full = file.metadata().unwrap().len();
    file.set_len(full.saturating_sub(room)).unwrap();
}

pub fn make_room(directory: &Path) {
    std::fs::remove_file(directory.join("ballast")).unwrap();
}
