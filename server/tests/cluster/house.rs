//! Two servers in front of a Cluster of three primaries with replicas.

use crate::client::{Ask, Client, Door};
use crate::process::{Running, serve};
use crate::redis_stand::RedisCluster;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long an answer may take after a failover, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
pub const SERVERS: usize = 2;

/// Where the servers listen now.
pub struct Doors([Mutex<SocketAddr>; SERVERS]);

impl Doors {
    pub fn address(&self, server: usize) -> SocketAddr {
        *self.0[server].lock().unwrap()
    }
}

pub struct House {
    pub cluster: RedisCluster,
    pub doors: Arc<Doors>,
    servers: [Option<Running>; SERVERS],
    data: tempfile::TempDir,
    options: Vec<String>,
}

impl House {
    pub fn open() -> House {
        House::open_with(1, &[])
    }

    /// With so many replicas of each primary, and further options of the servers.
    pub fn open_with(replicas: usize, options: &[&str]) -> House {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let cluster = RedisCluster::start(3, replicas);
        let data = tempfile::tempdir().unwrap();
        let urls = cluster.urls();
        let started = [0, 1].map(|server| start(&data, server, &urls, &options));
        let doors = Arc::new(Doors([Mutex::new(started[0].1), Mutex::new(started[1].1)]));
        let servers = started.map(|(server, _)| Some(server));
        House { cluster, doors, servers, data, options }
    }

    /// A door at which whoever is told to ask again does.
    pub fn door(&self, server: usize) -> Door {
        Door { address: self.doors.address(server), patience: PATIENCE }
    }

    pub fn client(&self, server: usize) -> Client {
        Client::new(self.door(server))
    }

    pub fn server(&self, server: usize) -> &Running {
        self.servers[server].as_ref().expect("it runs")
    }

    /// SIGKILL, without a word to Redis or to its callers.
    pub fn kill_server(&mut self, server: usize) {
        let log = self.servers[server].take().expect("it runs").kill();
        assert!(!log.contains("panicked"), "{log}");
    }

    pub fn start_server(&mut self, server: usize) {
        let (running, address) = start(&self.data, server, &self.cluster.urls(), &self.options);
        self.servers[server] = Some(running);
        *self.doors.0[server].lock().unwrap() = address;
    }

    /// Until what was on its way has arrived, all sums are whole and nothing is in flight.
    pub fn wait_settled(&self, server: usize) -> Value {
        let mut client = self.client(server);
        let until = Instant::now() + PATIENCE;
        loop {
            let audit = client.json(&Ask::get("/v1/audit"));
            assert_eq!(audit["balanced"], true, "{audit}");
            if audit["in_flight"] == 0 {
                return audit;
            }
            assert!(Instant::now() < until, "somebody has to carry it: {audit}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the servers in order.
    pub fn close(mut self) {
        for server in &mut self.servers {
            let (status, log) = server.take().expect("it runs").stop();
            assert!(status.success() && !log.contains("panicked"), "{status}:\n{log}");
        }
    }
}

fn start(data: &tempfile::TempDir, server: usize, urls: &[String], options: &[String]) -> (Running, SocketAddr) {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let (data, urls) = (data.path().join(format!("keys-{server}")), urls.join(","));
    Running::ready(&mut serve(
        &data,
        &[&["--backend", "redis", "--redis", &urls, "--redis-events", "all"][..], &options].concat(),
    ))
}
