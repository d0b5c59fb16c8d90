//! The real server in test mode, as a child process.

use hongbao_client::Client;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) const KEY: &str = "key-of-the-client-tests";

/// A server of its own; ended with its value.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    _data: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `target/debug`, or whichever profile this test was built with.
pub(crate) fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().to_owned()
}

/// `server/clients`.
pub(crate) fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Starts one on a free port.
pub(crate) fn start() -> Server {
    let binary = built().join("hongbao");
    assert!(binary.exists(), "{} is missing: cargo build --workspace --bins", binary.display());
    let data = TempDir::new().unwrap();
    let mut serve = Command::new(binary);
    serve.args(["serve", "--test", "--listen", "127.0.0.1:0", "--data"]).arg(data.path().join("data"));
    serve.env("HONGBAO_ADMIN_KEY", KEY).env_remove("HONGBAO_LOG").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut told = String::new();
    let address = lines.by_ref().find_map(|line| {
        told += &format!("{line}\n");
        if line.contains("serving") { Some(line.split("address=").nth(1)?.split(' ').next()?.to_owned()) } else { None }
    });
    let address = address.unwrap_or_else(|| panic!("the server did not say where it listens:\n{told}"));
    // Whatever else it logs must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Server { child, url: format!("http://{address}"), _data: data }
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, KEY).unwrap()
    }
}
