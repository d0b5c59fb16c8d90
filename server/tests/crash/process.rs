//! The binary as a child process.
//!
//! **Invariant:** no child outlives its value: one that goes out of scope, also
//! by a panic, is killed and waited for.

use crate::client::{Answer, Ask, Client};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub const KEY: &str = "key-of-the-crash-tests";

/// Longer than anything takes; only a test that hangs notices.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn hongbao() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hongbao"));
    command.env("HONGBAO_ADMIN_KEY", KEY).env_remove("HONGBAO_LOG").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    command.output().expect("the binary can be started")
}

/// Status and everything printed, for messages.
pub fn told(output: &Output) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{error}", output.status)
}

pub fn audit(data: &Path) -> Output {
    run(hongbao().arg("audit").arg("--data").arg(data))
}

/// `hongbao serve` on a free port, in test mode.
pub fn serve(data: &Path, options: &[&str]) -> Command {
    let mut command = hongbao();
    command.args(["serve", "--listen", "127.0.0.1:0", "--test", "--data"]).arg(data).args(options);
    command
}

/// Lines that a child prints, as they come.
#[derive(Default)]
struct Lines {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Lines {
    /// Collects up to the end, or up to a line with `last` in it; then the pipe is closed.
    fn collect(self: &Arc<Self>, from: impl Read + Send + 'static, last: Option<&'static str>) -> JoinHandle<()> {
        let lines = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut text = lines.text.lock().unwrap();
                text.0.push_str(&line);
                text.0.push('\n');
                lines.more.notify_all();
                if last.is_some_and(|last| line.contains(last)) {
                    break;
                }
            }
            lines.text.lock().unwrap().1 = true;
            lines.more.notify_all();
        })
    }

    /// All there is once `found` sees what it looks for; `None` if the child ended before.
    fn wait<T>(&self, found: impl Fn(&str) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let mut text = self.text.lock().unwrap();
        loop {
            if let Some(found) = found(&text.0) {
                return Some(found);
            }
            if text.1 {
                return None;
            }
            let left =
                until.checked_duration_since(Instant::now()).unwrap_or_else(|| panic!("waited for:\n{}", text.0));
            text = self.more.wait_timeout(text, left).unwrap().0;
        }
    }
}

/// A running binary.
pub struct Running {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    log: Arc<Lines>,
    out: Arc<Lines>,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        Running::read_until(command, None)
    }

    fn read_until(command: &mut Command, last: Option<&'static str>) -> Running {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be started");
        let (log, out) = (Arc::new(Lines::default()), Arc::new(Lines::default()));
        let readers =
            vec![log.collect(child.stderr.take().unwrap(), last), out.collect(child.stdout.take().unwrap(), None)];
        Running { child, readers, log, out }
    }

    /// Starts and waits until it listens.
    pub fn listening(command: &mut Command) -> (Running, SocketAddr) {
        let running = Running::start(command);
        let address = running.address();
        (running, address)
    }

    /// Starts, and closes the pipe of its log when it listens.
    pub fn unread(command: &mut Command) -> (Running, SocketAddr) {
        let running = Running::read_until(command, Some("serving"));
        let address = running.address();
        running.wait_ready(address);
        (running, address)
    }

    /// Where it listens, once it does.
    pub fn address(&self) -> SocketAddr {
        let address = self.log.wait(address_in);
        address.unwrap_or_else(|| panic!("it ended before it served:\n{}", self.log()))
    }

    /// Starts and waits until it is ready.
    pub fn ready(command: &mut Command) -> (Running, SocketAddr) {
        let (running, address) = Running::listening(command);
        running.wait_ready(address);
        (running, address)
    }

    pub fn wait_ready(&self, address: SocketAddr) {
        let until = Instant::now() + PATIENCE;
        let mut client = Client::new(address);
        while readiness(&mut client).status != 200 {
            assert!(Instant::now() < until, "it does not get ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text.lock().unwrap().0.clone()
    }

    /// Waits until its log says `words`.
    pub fn wait_logged(&self, words: &str) {
        let said = self.log.wait(|log| log.contains(words).then_some(()));
        assert!(said.is_some(), "it ended before it said {words:?}:\n{}", self.log());
    }

    /// What it has printed once `found` sees what it looks for.
    pub fn printed<T>(&self, found: impl Fn(&str) -> Option<T>) -> T {
        self.out.wait(found).unwrap_or_else(|| panic!("it ended before:\n{}", self.log()))
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// SIGKILL: no goodbye.
    pub fn kill(mut self) -> String {
        self.child.kill().expect("a child can be killed");
        self.end().1
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Any signal, without waiting.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a child can be told things");
    }

    /// SIGTERM, then its exit and its log.
    pub fn stop(self) -> (ExitStatus, String) {
        self.terminate();
        self.ended()
    }

    /// Its exit and its log, once it has ended.
    pub fn ended(mut self) -> (ExitStatus, String) {
        self.end()
    }

    fn end(&mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        };
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        (status, self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_in(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("serving"))?;
    line.split("address=").nth(1)?.split(' ').next()?.parse().ok()
}

pub fn readiness(client: &mut Client) -> Answer {
    client.send(&Ask::get("/readyz")).expect("a server that listens answers")
}
