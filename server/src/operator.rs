//! The operator's door: a socket in the directory of a running server, for tasks of
//! the command line that need what only that server has.
//!
//! What it says is `backup`, and it gets all rows. It writes no file for anybody: whoever
//! asked does, as who they are.
//!
//! **Invariant:** it opens only for the user whom the server runs as, and for root.

use hongbao_engine::backup;
use hongbao_engine::memory::Embedded;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

const SOCKET: &str = "operator.sock";
const BACKUP: &str = "backup";
/// An address of a socket has 108 bytes.
const PATH_BYTES_MAX: usize = 100;
/// How long somebody may take no rows: a snapshot is kept meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// Behind whoever waits for an answer.
pub(crate) const BACKGROUND_NICE: i32 = 10;

/// A path to the socket in `data` that is short enough; the directory has to stay open as long.
fn path_in(data: &Path) -> io::Result<(PathBuf, File)> {
    let directory = File::open(data)?;
    let path = data.join(SOCKET);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok((path, directory));
    }
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd())), directory))
}

/// The socket while the server runs. Dropped after the engine was closed it waits a moment for
/// those who are still told why they get no more.
pub struct Door {
    socket: PathBuf,
    /// One besides its own for everybody who is being answered.
    answering: Arc<()>,
}

/// How long that moment is at most.
const FAREWELL: Duration = Duration::from_secs(3);

impl Door {
    /// Opens it in the directory that `engine` is on, which nobody else uses. Without one a
    /// server serves all the same.
    pub fn open(engine: &Arc<Embedded>, data: &Path) -> Option<Door> {
        let told = |error: io::Error| {
            tracing::warn!(%error, "{SOCKET} cannot be opened: hongbao backup has to wait until the server is stopped");
        };
        let listener = listen(data).map_err(told).ok()?;
        let engine = Arc::downgrade(engine);
        let answering = Arc::new(());
        let of_thread = Arc::downgrade(&answering);
        let thread = thread::Builder::new().name("operator".to_owned());
        thread.spawn(move || answer_all(&listener, &engine, &of_thread)).map_err(told).ok()?;
        Some(Door { socket: data.join(SOCKET), answering })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
        let until = Instant::now() + FAREWELL;
        while Arc::strong_count(&self.answering) > 1 && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn listen(data: &Path) -> io::Result<UnixListener> {
    let (path, _directory) = path_in(data)?;
    // Left by a server that was killed.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn answer_all(listener: &UnixListener, engine: &Weak<Embedded>, answering: &Weak<()>) {
    // On Linux this is the thread's own priority, and that of those it starts.
    let _ = rustix::process::setpriority_process(None, BACKGROUND_NICE);
    for stream in listener.incoming() {
        let (Some(engine), Some(one_more)) = (engine.upgrade(), answering.upgrade()) else { return };
        let answered = stream.and_then(|stream| {
            check_peer(&stream)?;
            let thread = thread::Builder::new().name("operator".to_owned());
            let answer = move || {
                answer(stream, &engine);
                drop(one_more);
            };
            thread.spawn(answer).map(drop)
        });
        if let Err(error) = answered {
            tracing::warn!(%error, "somebody at the operator's door was not answered");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn check_peer(stream: &UnixStream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
        if peer != rustix::process::geteuid() && !peer.is_root() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {} asked", peer.as_raw())));
        }
    }
    let _ = stream;
    Ok(())
}

fn answer(mut stream: UnixStream, engine: &Embedded) {
    let asked = || {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(io::Read::take(&stream, 64)).read_line(&mut line)?;
        Ok::<_, io::Error>(line)
    };
    match asked() {
        Ok(line) if line.trim() == BACKUP => {
            tracing::info!("sending all rows for a backup");
            match backup::send(engine, &mut stream) {
                Ok(()) => tracing::info!("all rows were sent"),
                Err(error) => tracing::warn!(%error, "a backup was not ended"),
            }
        }
        Ok(line) => tracing::warn!(line, "the operator asked for something else than a backup"),
        Err(error) => tracing::warn!(%error, "the operator asked for nothing"),
    }
}

/// All rows of the server that uses `data`.
///
/// # Errors
/// That nobody answers there.
pub(crate) fn rows_of(data: &Path) -> io::Result<UnixStream> {
    let (path, _directory) = path_in(data)?;
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(format!("{BACKUP}\n").as_bytes())?;
    Ok(stream)
}
