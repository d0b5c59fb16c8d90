//! The real server, as a child process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub(crate) const KEY: &str = "key-of-the-lying-tests";

/// A server of its own; ended with its value.
pub(crate) struct Real {
    child: Child,
    pub(crate) address: SocketAddr,
    data: TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one on a free port, with these options.
pub(crate) fn start(options: &[&str]) -> Real {
    let data = TempDir::new().unwrap();
    let mut serve = Command::new(binary());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data.path().join("data")).args(options);
    serve.env("HONGBAO_ADMIN_KEY", KEY).env_remove("HONGBAO_LOG").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut told = String::new();
    let address = lines.by_ref().find_map(|line| {
        told += &format!("{line}\n");
        if line.contains("serving") { line.split("address=").nth(1)?.split(' ').next()?.parse().ok() } else { None }
    });
    let address = address.unwrap_or_else(|| panic!("the server did not say where it listens:\n{told}"));
    // Whatever else it logs must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Real { child, address, data }
}

/// The server's program.
pub(crate) fn binary() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_hongbao-load")).with_file_name("hongbao");
    assert!(binary.exists(), "{} is missing: cargo build --workspace --bins", binary.display());
    binary
}

impl Real {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// The body that a GET is answered with.
    pub(crate) fn get(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let address = self.address;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}
