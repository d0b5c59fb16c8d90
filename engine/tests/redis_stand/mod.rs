//! Redis servers and clusters for tests: on random ports of the loopback, in
//! directories of their own, ended by their own process ids.
//!
//! Each server's life hangs on a pipe from the test's process: when that ends,
//! however it ends, the server is killed. Nothing here ever talks to a server
//! that it did not start.

#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Whether there is no redis-server, and the tests were told to do without.
pub fn is_missing() -> bool {
    let without = std::env::var_os("HONGBAO_WITHOUT_REDIS").is_some();
    let is_missing = without && Command::new("redis-server").arg("--version").output().is_err();
    if is_missing {
        eprintln!("redis-server is missing, so nothing is tested here; install it: apt-get install redis-server");
    }
    is_missing
}

/// How a test's server is set up.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Append-only file, synced before every answer.
    pub aof: bool,
    /// On a disk, for who measures. Tests kill processes, not machines, so
    /// theirs lie in memory where there is such a directory, and do not wait
    /// for whatever else keeps the disk.
    pub on_disk: bool,
    /// Where on a disk; without it where temporary files are.
    pub under: Option<PathBuf>,
    /// `requirepass`.
    pub password: Option<String>,
    /// Listen for TLS on a port of its own too, with the files of [`Certificates`] in this directory.
    pub tls: Option<PathBuf>,
    /// Further lines of redis.conf, e.g. `user shop on >secret ~* +@all`.
    pub lines: Vec<String>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions { aof: true, on_disk: false, under: None, password: None, tls: None, lines: Vec::new() }
    }
}

impl ServerOptions {
    /// Without an append-only file.
    pub fn without_aof() -> ServerOptions {
        ServerOptions { aof: false, ..ServerOptions::default() }
    }

    /// With one more line of redis.conf.
    #[must_use]
    pub fn line(mut self, line: &str) -> ServerOptions {
        self.lines.push(line.to_owned());
        self
    }
}

/// An authority of its own, and certificates of it for `server` (at 127.0.0.1)
/// and for `client`, each with its key: `ca.pem`, `server.pem`, `server.key` and so on.
pub struct Certificates {
    directory: tempfile::TempDir,
}

impl Certificates {
    /// Made by openssl.
    ///
    /// # Panics
    /// If openssl is missing or fails.
    pub fn new() -> Certificates {
        let certificates = Certificates { directory: tempfile::tempdir().expect("a directory") };
        let request = |name: &str, rest: &str| {
            format!("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -subj /CN={name} {rest}")
        };
        certificates.openssl(&request("ca", "-x509 -days 2 -out ca.pem"));
        std::fs::write(certificates.path("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("a file");
        for name in ["server", "client"] {
            certificates.openssl(&request(name, &format!("-out {name}.csr")));
            certificates.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
            ));
        }
        certificates
    }

    /// Where they are.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// One of them.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn openssl(&self, words: &str) {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(self.directory.path()).output();
        let output = output.expect("openssl is missing: apt-get install openssl");
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// One server. Killed when dropped, its directory removed.
pub struct RedisServer {
    port: u16,
    tls_port: Option<u16>,
    directory: tempfile::TempDir,
    password: Option<String>,
    life: Option<Life>,
    hangs: AtomicBool,
}

/// The shell that ends the server when its input does, and the server's own id.
struct Life {
    shell: Child,
    pid: u32,
}

/// Kills the server when the test's end of the pipe is closed.
const GUARD: &str =
    r#"redis-server "$1" >/dev/null & server=$!; echo $server; read -r _; kill -9 $server 2>/dev/null; wait"#;

impl RedisServer {
    /// A server of its own that answers.
    ///
    /// # Panics
    /// With the line that installs redis-server if it is missing.
    pub fn start(options: ServerOptions) -> RedisServer {
        need_redis();
        for _ in 0..20 {
            let memory = Path::new("/dev/shm");
            let parent = match &options.under {
                Some(under) if options.on_disk => under.clone(),
                _ if memory.is_dir() && !options.on_disk => memory.to_owned(),
                _ => std::env::temp_dir(),
            };
            let directory = tempfile::Builder::new().prefix("hongbao-redis-").tempdir_in(parent).expect("a directory");
            let port = free_port();
            let tls_port = options.tls.as_ref().map(|_| free_port());
            write_conf(directory.path(), port, tls_port, &options);
            let mut server = RedisServer {
                port,
                tls_port,
                directory,
                password: options.password.clone(),
                life: None,
                hangs: AtomicBool::new(false),
            };
            // Somebody else may have taken the port in between: then another one.
            if server.run() {
                return server;
            }
        }
        panic!("redis-server does not start; run it by hand with the options {options:?}");
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What a client is told, with the password of [`ServerOptions::password`].
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// The same by TLS.
    ///
    /// # Panics
    /// Without [`ServerOptions::tls`].
    pub fn tls_url(&self) -> String {
        let port = self.tls_port.expect("it listens for TLS");
        self.url().replace("redis://", "rediss://").replace(&format!(":{}", self.port), &format!(":{port}"))
    }

    /// What it wrote into its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Ends it as a loss of the machine would.
    pub fn kill9(&mut self) {
        let mut life = self.life.take().expect("it runs");
        signal(life.pid, "KILL");
        self.hangs.store(false, Ordering::Relaxed);
        drop(life.shell.stdin.take());
        life.shell.wait().expect("the shell ends");
    }

    /// It hangs: connections stay open and nothing is answered.
    pub fn pause(&self) {
        signal(self.life.as_ref().expect("it runs").pid, "STOP");
        self.hangs.store(true, Ordering::Relaxed);
    }

    /// It goes on.
    pub fn resume(&self) {
        signal(self.life.as_ref().expect("it runs").pid, "CONT");
        self.hangs.store(false, Ordering::Relaxed);
    }

    /// Starts it again with what its directory holds, on the same port.
    pub fn restart(&mut self) {
        if self.life.is_some() {
            self.kill9();
        }
        assert!(self.run(), "it does not start again: {}", self.log());
    }

    /// Whether it was started and neither killed nor paused, so that it can be asked.
    pub fn runs(&self) -> bool {
        self.life.is_some() && !self.hangs.load(Ordering::Relaxed)
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What `redis-cli` prints for `words`, e.g. `["CONFIG", "SET", "appendonly", "no"]`.
    pub fn cli(&self, words: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]).args(words);
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        let output = cli.output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The port that others of its Cluster know it by.
    fn bus_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    fn run(&mut self) -> bool {
        let mut shell = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(self.directory.path().join("redis.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut line).expect("the server's id");
        let pid = line.trim().parse().expect("a process id");
        self.life = Some(Life { shell, pid });
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            let answer = self.cli(&["INFO"]);
            if answer.contains(&format!("process_id:{pid}")) {
                if answer.contains("loading:0") {
                    return true;
                }
                sleep(Duration::from_millis(10));
                continue;
            }
            // Without the rights to ask, an answer is enough to know that it is up.
            if answer.starts_with("NOAUTH") || answer.starts_with("NOPERM") || answer.starts_with("LOADING") {
                if !answer.starts_with("LOADING") {
                    return true;
                }
            } else if answer.contains("process_id:") || self.has_ended() {
                break;
            }
            sleep(Duration::from_millis(10));
        }
        self.kill9();
        false
    }

    fn has_ended(&self) -> bool {
        let pid = self.life.as_ref().expect("it runs").pid;
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if self.life.is_some() {
            self.kill9();
        }
    }
}

/// A cluster with all slots on its primaries. All of it ends when dropped.
pub struct RedisCluster {
    /// The primaries first, then replicas: the first of each primary, then the second of each.
    pub nodes: Vec<RedisServer>,
}

/// Until a silent node is taken for failed.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(2);

impl RedisCluster {
    /// A cluster in which every primary has `replicas`, all in step.
    ///
    /// # Panics
    /// If it does not come together in a minute.
    pub fn start(primaries: usize, replicas: usize) -> RedisCluster {
        RedisCluster::start_with(primaries, replicas, ServerOptions::default())
    }

    /// The same, every node with these options.
    ///
    /// # Panics
    /// If it does not come together in a minute.
    pub fn start_with(primaries: usize, replicas: usize, options: ServerOptions) -> RedisCluster {
        let options = options
            .line("cluster-enabled yes")
            .line(&format!("cluster-node-timeout {}", NODE_TIMEOUT.as_millis()))
            .line("cluster-require-full-coverage no")
            .line("repl-diskless-sync-delay 0");
        let count = primaries * (1 + replicas);
        let nodes: Vec<_> = (0..count).map(|_| RedisServer::start(options.clone())).collect();
        let cluster = RedisCluster { nodes };
        for (index, node) in cluster.nodes.iter().enumerate() {
            // Epochs that differ from the start need no vote to part them.
            expect_ok(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < primaries {
                let (first, last) = slots_of(index, primaries);
                expect_ok(node, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            }
            if index > 0 {
                expect_ok(node, &["CLUSTER", "MEET", "127.0.0.1", &cluster.nodes[0].bus_port().to_string()]);
            }
        }
        cluster.wait("all know all", || cluster.nodes.iter().all(|node| known_nodes(node) == count));
        for (index, replica) in cluster.nodes.iter().enumerate().skip(primaries) {
            let primary = cluster.nodes[index % primaries].cli(&["CLUSTER", "MYID"]);
            expect_ok(replica, &["CLUSTER", "REPLICATE", &primary]);
        }
        cluster.wait_ok();
        cluster
    }

    /// The urls of all nodes that run.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().filter(|node| node.runs()).map(RedisServer::url).collect()
    }

    /// Which node is the primary of `slot` now: of those that claim it, the
    /// one with the greatest epoch.
    ///
    /// # Panics
    /// If no node that runs does.
    pub fn primary_of(&self, slot: u16) -> usize {
        self.owner_of(slot).unwrap_or_else(|| panic!("slot {slot} has no primary"))
    }

    fn owner_of(&self, slot: u16) -> Option<usize> {
        let claim = |node: &RedisServer| {
            let lines = node.cli(&["CLUSTER", "NODES"]);
            let own = lines.lines().find(|line| line.contains("myself") && line.contains("master"))?;
            let epoch: u64 = own.split(' ').nth(6)?.parse().ok()?;
            let within = |range: &str| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let (first, last) = (first.parse::<u16>(), last.parse::<u16>());
                matches!((first, last), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            };
            own.split(' ').skip(8).any(within).then_some(epoch)
        };
        let claims = self.nodes.iter().enumerate().filter(|(_, node)| node.runs());
        let claims = claims.filter_map(|(index, node)| Some((claim(node)?, index)));
        Some(claims.max()?.1)
    }

    /// Until another node than `old` is the primary of `slot`.
    ///
    /// # Panics
    /// After a minute.
    pub fn wait_taken_over(&self, slot: u16, old: usize) {
        self.wait("a replica has taken over", || self.owner_of(slot).is_some_and(|owner| owner != old));
    }

    /// Until a node that was a primary follows the one that took its place.
    ///
    /// # Panics
    /// After a minute.
    pub fn wait_follows(&self, node: usize) {
        self.wait("the old primary follows the new one", || {
            let info = self.nodes[node].cli(&["INFO", "replication"]);
            info.contains("role:slave") && info.contains("master_link_status:up")
        });
        self.wait_ok();
    }

    /// Moves a slot to the primary `to`, as an operator does by hand, with a
    /// pause before and after each of its keys.
    ///
    /// # Panics
    /// If a node refuses a step.
    pub fn move_slot(&self, slot: u16, to: usize, pause: Duration) {
        let from = self.primary_of(slot);
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let (source_id, target_id) = (source.cli(&["CLUSTER", "MYID"]), target.cli(&["CLUSTER", "MYID"]));
        let (number, port) = (slot.to_string(), target.port.to_string());
        expect_ok(target, &["CLUSTER", "SETSLOT", &number, "IMPORTING", &source_id]);
        expect_ok(source, &["CLUSTER", "SETSLOT", &number, "MIGRATING", &target_id]);
        sleep(pause);
        loop {
            let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &number, "100"]);
            if keys.is_empty() {
                break;
            }
            for key in keys.lines() {
                // The key of fence writes may be at both; it says nothing, so either will do.
                let moved = source.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000", "REPLACE"]);
                // A key may have ended meanwhile.
                assert!(moved == "OK" || moved == "NOKEY", "{key}: {moved}");
                // Now the one asks the caller to ask the other.
                sleep(pause);
            }
        }
        expect_ok(target, &["CLUSTER", "SETSLOT", &number, "NODE", &target_id]);
        expect_ok(source, &["CLUSTER", "SETSLOT", &number, "NODE", &target_id]);
        self.wait("all know the slot's new owner", || self.owner_of(slot) == Some(to));
    }

    /// Makes the node `to` the primary of `slot`, with the consent of the old one.
    ///
    /// # Panics
    /// If it is not in a minute.
    pub fn hand_over(&self, slot: u16, to: usize) {
        let mut asked_at = None::<Instant>;
        self.wait("the replica is the primary", || {
            // The nodes give up after five seconds.
            if asked_at.is_none_or(|at| at.elapsed() > Duration::from_secs(6)) {
                self.nodes[to].cli(&["CLUSTER", "FAILOVER"]);
                asked_at = Some(Instant::now());
            }
            self.primary_of(slot) == to
        });
        self.wait_ok();
    }

    /// Kills the primary of `slot` and tells which node that was.
    pub fn kill_primary_of(&mut self, slot: u16) -> usize {
        let index = self.primary_of(slot);
        self.nodes[index].kill9();
        index
    }

    /// Until every node that runs says that all slots are served, and its link
    /// to its primary, if it is a replica, is up and in step.
    ///
    /// # Panics
    /// After a minute.
    pub fn wait_ok(&self) {
        let served = |node: &RedisServer| {
            let info = node.cli(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
        };
        let in_step = |node: &RedisServer| {
            let info = node.cli(&["INFO", "replication"]);
            info.contains("role:master") || info.contains("master_link_status:up")
        };
        let running = || self.nodes.iter().filter(|node| node.runs());
        self.wait("cluster_state:ok", || running().all(|node| served(node) && in_step(node)));
        // Each primary has to count its replicas as online before WAIT counts them.
        let online = |node: &RedisServer| {
            let info = node.cli(&["INFO", "replication"]);
            !info.lines().any(|line| line.contains("state=") && !line.contains("state=online"))
        };
        self.wait("replicas online", || running().all(online));
    }

    /// Moves so many slots from one primary to another with the tool that comes with Redis.
    ///
    /// # Panics
    /// If it fails.
    pub fn reshard(&self, slots: u16, from: usize, to: usize) {
        let id = |node: usize| self.nodes[node].cli(&["CLUSTER", "MYID"]);
        let output = Command::new("redis-cli")
            .args(["--cluster", "reshard", &format!("127.0.0.1:{}", self.nodes[from].port), "--cluster-yes"])
            .args(["--cluster-from", &id(from), "--cluster-to", &id(to)])
            .args(["--cluster-slots", &slots.to_string(), "--cluster-replace"])
            .output()
            .expect("redis-cli runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        self.wait_ok();
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < until, "the cluster does not reach: {what}");
            sleep(Duration::from_millis(50));
        }
    }
}

/// The slots of the primary `index` of `primaries`: first and last.
pub fn slots_of(index: usize, primaries: usize) -> (u16, u16) {
    let first = |index: usize| (16_384 * index / primaries) as u16;
    (first(index), first(index + 1) - 1)
}

fn known_nodes(node: &RedisServer) -> usize {
    let nodes = node.cli(&["CLUSTER", "NODES"]);
    nodes.lines().filter(|line| !line.contains("handshake") && line.contains(" connected")).count()
}

fn expect_ok(node: &RedisServer, words: &[&str]) {
    let answer = node.cli(words);
    assert_eq!(answer, "OK", "{words:?}");
}

fn write_conf(directory: &Path, port: u16, tls_port: Option<u16>, options: &ServerOptions) {
    let path = PathBuf::from(directory).join("redis.conf");
    let mut conf = std::fs::File::create(path).expect("its own directory");
    let aof = if options.aof { "yes" } else { "no" };
    let mut lines = vec![
        "bind 127.0.0.1".to_owned(),
        format!("port {port}"),
        format!("dir {}", directory.display()),
        format!("logfile {}", directory.join("log").display()),
        "save \"\"".to_owned(),
        format!("appendonly {aof}"),
        "appendfsync always".to_owned(),
        "maxmemory-policy noeviction".to_owned(),
    ];
    if let Some(password) = &options.password {
        lines.push(format!("requirepass {password}"));
        lines.push(format!("masterauth {password}"));
    }
    if let (Some(port), Some(files)) = (tls_port, &options.tls) {
        lines.push(format!("tls-port {port}"));
        for (setting, file) in
            [("tls-cert-file", "server.pem"), ("tls-key-file", "server.key"), ("tls-ca-cert-file", "ca.pem")]
        {
            lines.push(format!("{setting} {}", files.join(file).display()));
        }
        lines.extend(["tls-cluster yes", "tls-replication yes", "tls-auth-clients no"].map(str::to_owned));
    }
    lines.extend(options.lines.iter().cloned());
    conf.write_all((lines.join("\n") + "\n").as_bytes()).expect("a small file");
}

/// A port that nobody listens on, nor on the one 10000 above it, which a
/// cluster's nodes talk on. Both lie below the ports that clients are given.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16 % 11_000;
    loop {
        let port = 11_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

fn need_redis() {
    let found = Command::new("redis-server").arg("--version").output().is_ok();
    assert!(found, "redis-server is missing: apt-get install redis-server, or run scripts/test.sh, which does it");
}

fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(done.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}
