//! The servers of a deployment: where each bucket's slot is, and calls of
//! scripts that find their way there.
//!
//! A call is tried until its time is up. Redirections are followed; a server
//! that does not serve at the moment is asked again after a pause that doubles;
//! a script that a server does not know is sent to it. A lost answer is asked
//! for again, because a script answers a repeat with what it did. At the end of
//! its time a call that may have been carried out is
//! [`EngineError::Unconfirmed`], one that surely was not [`EngineError::NotReady`].
//!
//! **Invariant:** `NotReady` and `Overloaded` are told only of calls that were
//! not carried out.

use super::absence::Absence;
use super::bucket::{Bucket, SLOTS};
use super::error::RedisOpenError;
use super::lane::{self, Answered, Call, Request, Road, Words};
use super::options::{Durability, RedisOptions};
use super::script::Script;
use super::settings;
use super::tls;
use super::topology::{Address, NodeLine, Topology};
use crate::error::EngineError;
use deadpool_redis::{Manager, Pool, Runtime};
use parking_lot::{Mutex, RwLock};
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo};
use redis::{RedisError, ServerError, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

/// The servers, and the way to them.
pub(crate) struct Nodes {
    fleet: Arc<Fleet>,
    surveyor: JoinHandle<()>,
}

pub(super) struct Fleet {
    pub(super) options: RedisOptions,
    /// The first url's user, password and socket settings; all servers have the same.
    pub(super) login: ConnectionInfo,
    pub(super) seeds: Vec<Address>,
    pub(super) clustered: bool,
    /// Whether calls of different buckets can be one run, because one server has them all.
    pub(super) buckets_mix: Arc<AtomicBool>,
    /// However few replicas a primary has, so many have to confirm.
    pub(super) replicas_min: Arc<AtomicU8>,
    slots: Vec<u16>,
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    /// By bucket: who serves it.
    homes: RwLock<Vec<Option<Arc<Node>>>>,
    /// By primary: who could take its place.
    replicas: RwLock<BTreeMap<Address, Vec<Address>>>,
    survey: Notify,
    absence: Absence,
}

/// One server.
pub(super) struct Node {
    pub(super) address: Address,
    lane: mpsc::Sender<Call>,
    /// For questions about itself, and for whatever blocks a connection.
    pool: Pool,
    replicas_known: Arc<AtomicU8>,
    unreachable_since: Arc<Mutex<Option<std::time::Instant>>>,
}

/// A server that cannot be reached for so long is not waited for: its slots'
/// next owner is found by then, or nobody knows when it will be back.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Between two looks at who serves what, if nothing calls for one.
const SURVEY_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at least.
const SURVEY_PAUSE: Duration = Duration::from_millis(25);
/// Until a server has to have said what it knows.
const SURVEY_TIMEOUT: Duration = Duration::from_millis(700);
/// Connections to one server for questions and for blocking work.
const POOL_MAX: usize = 4;

impl Nodes {
    /// Finds the servers and checks that acknowledged answers are safe there.
    pub(crate) async fn connect(options: &RedisOptions) -> Result<Nodes, RedisOpenError> {
        let (login, seeds) = logins(options)?;
        let mut fleet = Fleet {
            login,
            seeds,
            clustered: false,
            buckets_mix: Arc::default(),
            replicas_min: Arc::new(AtomicU8::new(options.replicas_needed.unwrap_or(0))),
            slots: (0..options.buckets).map(|number| Bucket::new(number).slot()).collect(),
            nodes: Mutex::default(),
            homes: RwLock::new(vec![None; usize::from(options.buckets)]),
            replicas: RwLock::default(),
            survey: Notify::new(),
            absence: Absence::default(),
            options: options.clone(),
        };
        settings::examine(&mut fleet).await?;
        let fleet = Arc::new(fleet);
        let surveyor = tokio::spawn(keep_surveying(Arc::clone(&fleet)));
        Ok(Nodes { fleet, surveyor })
    }

    /// Runs `script` in the slot of `bucket` and returns its answer. With
    /// `confirm`, and unless durability is relaxed, the answer is returned only
    /// when it survives the loss of the server.
    pub(crate) async fn call(
        &self,
        bucket: Bucket,
        script: &'static Script,
        keys: &[Vec<u8>],
        args: &[Vec<u8>],
        confirm: bool,
    ) -> Result<Value, EngineError> {
        self.call_with(bucket, script, Words::of(keys), Words::of(args), 1, confirm).await
    }

    /// The same, with keys and arguments that were put together for so many decisions.
    pub(super) async fn call_with(
        &self,
        bucket: Bucket,
        script: &'static Script,
        keys: Words,
        args: Words,
        decisions: usize,
        confirm: bool,
    ) -> Result<Value, EngineError> {
        let request = Arc::new(Request {
            script,
            bucket,
            keys,
            args,
            decisions,
            confirm: confirm && self.fleet.options.durability == Durability::Confirmed,
            sent: AtomicBool::new(false),
        });
        let deadline = Instant::now() + self.fleet.options.call_timeout;
        Attempts { fleet: &self.fleet, request, deadline, pauses: 0, doubt: None }.run().await
    }

    /// Whether one server has all buckets, so that a script may touch several.
    pub(super) fn buckets_mix(&self) -> bool {
        !self.fleet.clustered
    }

    /// Whether calls find Redis away.
    pub(super) fn absence(&self) -> &Absence {
        &self.fleet.absence
    }

    /// How many buckets keys are spread over.
    pub(crate) fn buckets(&self) -> u16 {
        self.fleet.options.buckets
    }

    /// The key `<prefix>:{b<number>}:<rest>`.
    pub(crate) fn key(&self, bucket: Bucket, rest: impl AsRef<[u8]>) -> Vec<u8> {
        bucket.key(&self.fleet.options.key_prefix, rest)
    }

    /// A bucket of each server that serves any: who has asked in all of them has asked every server.
    pub(crate) fn bucket_of_each(&self) -> Result<Vec<Bucket>, EngineError> {
        let mut seen = Vec::new();
        let mut buckets = Vec::new();
        for (number, home) in (0..).zip(&*self.fleet.homes.read()) {
            let unserved = || EngineError::NotReady(format!("no Redis serves the bucket {number}"));
            let home = home.as_ref().ok_or_else(unserved)?;
            if !seen.contains(&home.address) {
                seen.push(home.address.clone());
                buckets.push(Bucket::new(number));
            }
        }
        Ok(buckets)
    }

    /// Who has the files of a bucket: its primary first, then the replicas that could take its place.
    pub(super) fn servers_of(&self, bucket: Bucket) -> Option<Vec<Arc<Node>>> {
        let primary = self.fleet.home(bucket)?;
        let replicas = self.fleet.replicas.read().get(&primary.address).cloned().unwrap_or_default();
        let replicas = replicas.iter().filter_map(|address| self.fleet.node_at(address));
        Some(std::iter::once(primary).chain(replicas).collect())
    }

    /// A connection of its own to whoever serves `bucket`, for blocking reads
    /// and for questions. It has no time limit: the caller sets one.
    pub(crate) async fn connection(&self, bucket: Bucket) -> Result<deadpool_redis::Connection, EngineError> {
        let unserved = || EngineError::NotReady(format!("no Redis serves {bucket:?}"));
        let node = self.fleet.home(bucket).ok_or_else(unserved)?;
        let unreachable = |error| EngineError::NotReady(format!("Redis at {}: {error}", node.address));
        node.pool.get().await.map_err(unreachable)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.surveyor.abort();
    }
}

/// A call on its way.
struct Attempts<'a> {
    fleet: &'a Fleet,
    request: Arc<Request>,
    deadline: Instant,
    pauses: u32,
    /// Why it may have been carried out already.
    doubt: Option<String>,
}

/// Where the next attempt goes, and how.
#[derive(Default)]
struct Way {
    /// To a server that was named, or home.
    to: Option<Address>,
    asking: bool,
    load: bool,
}

/// What to do about a refusal.
enum Remedy {
    Load,
    Follow {
        to: Option<Address>,
        asking: bool,
    },
    /// It will serve again, or another one will.
    Wait,
    /// Nothing that would change soon.
    GiveUp,
    /// The script itself failed.
    Fail,
}

impl Attempts<'_> {
    async fn run(mut self) -> Result<Value, EngineError> {
        let mut way = Way::default();
        let mut followed = 0;
        loop {
            let node = match way.to.take() {
                Some(address) => self.fleet.node_at(&address),
                None => self.fleet.home(self.request.bucket),
            };
            let Some(node) = node else {
                self.fleet.survey.notify_one();
                self.pause("no Redis serves its slot").await?;
                continue;
            };
            let answered = node.ask(&self.request, &way, self.deadline).await;
            way = Way::default();
            match answered {
                Some(Answered::Value(value)) => {
                    // Of a Cluster's servers others may still be away.
                    if !self.fleet.clustered {
                        self.fleet.absence.answered();
                    }
                    return Ok(value);
                }
                Some(Answered::Unconfirmed(why)) => return Err(EngineError::Unconfirmed(node.says(&why))),
                Some(Answered::Broken(why)) => return Err(self.failed(&why)),
                Some(Answered::Refused(error)) => match remedy(&error, &node.address) {
                    Remedy::Load if followed < 5 => (followed, way.load) = (followed + 1, true),
                    Remedy::Follow { to, asking } if followed < 5 => {
                        followed += 1;
                        if !asking {
                            self.fleet.survey.notify_one();
                        }
                        way = Way { to, asking, load: false };
                    }
                    Remedy::Wait | Remedy::Load | Remedy::Follow { .. } => {
                        self.fleet.survey.notify_one();
                        self.pause(&node.says(&error.to_string())).await?;
                    }
                    Remedy::GiveUp => return Err(self.ended(node.says(&error.to_string()))),
                    Remedy::Fail => return Err(self.failed(&error.to_string())),
                },
                Some(Answered::NotSent(why)) => {
                    self.fleet.survey.notify_one();
                    let since = *node.unreachable_since.lock();
                    if since.is_some_and(|since| since.elapsed() > PATIENCE) {
                        let why = node.says(&why);
                        self.fleet.absence.note(&why);
                        return Err(self.ended(why));
                    }
                    self.pause(&node.says(&why)).await?;
                }
                Some(Answered::Lost(why)) => {
                    let why = node.says(&why);
                    self.doubt = Some(why.clone());
                    self.fleet.survey.notify_one();
                    self.pause(&why).await?;
                }
                None if self.doubt.is_some() => return Err(self.ended(String::new())),
                None => return Err(EngineError::Overloaded),
            }
        }
    }

    /// 2 ms, then twice as long each time up to 128 ms, while there is time.
    async fn pause(&mut self, why: &str) -> Result<(), EngineError> {
        let pause = Duration::from_millis(2 << self.pauses.min(6));
        self.pauses += 1;
        // Callers that failed together do not come back together.
        let pause = pause.mul_f64(0.5 + rand::random::<f64>());
        if Instant::now() + pause >= self.deadline {
            sleep_until(self.deadline).await;
            self.fleet.absence.note(why);
            return Err(self.ended(why.to_owned()));
        }
        sleep(pause).await;
        Ok(())
    }

    fn ended(&mut self, why: String) -> EngineError {
        match self.doubt.take() {
            Some(doubt) => EngineError::Unconfirmed(doubt),
            None => EngineError::NotReady(why),
        }
    }

    fn failed(&self, why: &str) -> EngineError {
        EngineError::Backend(format!("the script {}: {why}", self.request.script.name()))
    }
}

/// Every way in which a server says no.
fn remedy(error: &ServerError, by: &Address) -> Remedy {
    let named = || error.details().and_then(|details| Address::named(details.split(' ').nth(1)?, by));
    match error.code() {
        "NOSCRIPT" => Remedy::Load,
        "MOVED" => Remedy::Follow { to: named(), asking: false },
        "ASK" => Remedy::Follow { to: named(), asking: true },
        "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "LOADING" | "BUSY" => Remedy::Wait,
        "OOM" | "MISCONF" | "NOREPLICAS" | "NOAUTH" | "WRONGPASS" | "NOPERM" => Remedy::GiveUp,
        _ => Remedy::Fail,
    }
}

impl Node {
    /// One attempt. `None`: too many wait already.
    async fn ask(&self, request: &Arc<Request>, way: &Way, deadline: Instant) -> Option<Answered> {
        request.sent.store(false, Ordering::Release);
        let (answer, answered) = oneshot::channel();
        let call = Call { request: Arc::clone(request), load: way.load, asking: way.asking, answer };
        match self.lane.try_send(call) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return None,
            Err(mpsc::error::TrySendError::Closed(_)) => return Some(Answered::NotSent("it has left".to_owned())),
        }
        let lost = |why: &str| match request.sent.load(Ordering::Acquire) {
            true => Answered::Lost(why.to_owned()),
            false => Answered::NotSent(why.to_owned()),
        };
        match timeout_at(deadline, answered).await {
            Ok(Ok(answered)) => Some(answered),
            Ok(Err(_)) => Some(lost("the connection ended")),
            Err(_) => Some(lost("no answer in time")),
        }
    }

    fn says(&self, what: &str) -> String {
        format!("Redis at {}: {what}", self.address)
    }

    /// A question about itself, to be answered within `limit`.
    pub(super) async fn query<T: FromRedisValue>(&self, words: &[&str], limit: Duration) -> Result<T, QueryError> {
        let mut command = Cmd::new();
        words.iter().for_each(|word| _ = command.arg(word));
        let asked = async {
            let mut connection = self.pool.get().await.map_err(|error| match error {
                deadpool_redis::PoolError::Backend(error) => QueryError::Redis(error),
                other => QueryError::Other(other.to_string()),
            })?;
            command.query_async(&mut *connection).await.map_err(QueryError::Redis)
        };
        timeout(limit, asked).await.unwrap_or_else(|_| Err(QueryError::Other("no answer in time".to_owned())))
    }
}

/// Why a server did not answer a question.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    #[error("{0}")]
    Redis(RedisError),
    #[error("{0}")]
    Other(String),
}

impl Fleet {
    fn home(&self, bucket: Bucket) -> Option<Arc<Node>> {
        self.homes.read()[usize::from(bucket.number())].clone()
    }

    /// The server there, known or new. `None` if no client can be made for it.
    pub(super) fn node_at(&self, address: &Address) -> Option<Arc<Node>> {
        let mut nodes = self.nodes.lock();
        if let Some(node) = nodes.get(address) {
            return Some(Arc::clone(node));
        }
        let node = Arc::new(self.open(address).ok()?);
        nodes.insert(address.clone(), Arc::clone(&node));
        Some(node)
    }

    fn open(&self, address: &Address) -> Result<Node, RedisError> {
        let place = match self.login.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: address.host.clone(),
                port: address.port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(address.host.clone(), address.port),
        };
        let info = self.login.clone().set_addr(place);
        let replicas_known = Arc::<AtomicU8>::default();
        let unreachable_since = Arc::default();
        let road = Road {
            client: Client::open(info.clone())?,
            connect_timeout: self.options.connect_timeout,
            response_timeout: self.options.response_timeout,
            key_prefix: self.options.key_prefix.clone(),
            buckets_mix: Arc::clone(&self.buckets_mix),
            replicas_known: Arc::clone(&replicas_known),
            replicas_min: Arc::clone(&self.replicas_min),
            unconfirmed: AtomicBool::new(false),
            unreachable_since: Arc::clone(&unreachable_since),
        };
        let usual = if self.options.durability == Durability::Confirmed { 2 } else { 3 };
        let lane = lane::open(road, self.options.connections.unwrap_or(usual));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(None);
        let pool = Pool::builder(Manager::new_with_config(info, config)?)
            .max_size(POOL_MAX)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.options.connect_timeout))
            .recycle_timeout(Some(self.options.connect_timeout))
            .build()
            .expect("a runtime is given");
        Ok(Node { address: address.clone(), lane, pool, replicas_known, unreachable_since })
    }

    /// Asks all known servers at once and takes their answers together.
    pub(super) async fn look(&self) -> Option<Topology> {
        let question: &[&str] = if self.clustered { &["CLUSTER", "NODES"] } else { &["INFO", "replication"] };
        let known: Vec<_> = self.nodes.lock().values().cloned().collect();
        let mut asked = JoinSet::new();
        for node in known {
            asked.spawn(async move {
                let text: String = node.query(question, SURVEY_TIMEOUT).await.ok()?;
                Some((node.address.clone(), text))
            });
        }
        let answers: Vec<_> = asked.join_all().await.into_iter().flatten().collect();
        if self.clustered {
            let views: Vec<_> = answers.iter().map(|(address, text)| NodeLine::all(text, address)).collect();
            return (!views.is_empty()).then(|| Topology::of_cluster(&views));
        }
        // With two that say they are the primary, nobody knows which: all stays as it was.
        let mut primaries = answers.iter().filter(|(_, text)| text.contains("role:master"));
        let (primary, text) = primaries.next()?;
        primaries.next().is_none().then(|| Topology::single(primary.clone(), settings::replicas_in_step(text)))
    }

    /// Takes a topology for true: calls go where it says from now on.
    pub(super) fn adopt(&self, topology: &Topology) {
        for (address, replicas) in &topology.primaries {
            if let Some(node) = self.node_at(address) {
                let known = u8::try_from(replicas.len()).unwrap_or(u8::MAX);
                node.replicas_known.store(known, Ordering::Release);
            }
        }
        for address in &topology.servers {
            self.node_at(address);
        }
        self.nodes.lock().retain(|address, _| topology.servers.contains(address) || self.seeds.contains(address));
        let home = |&slot: &u16| topology.primary_of(slot).and_then(|address| self.node_at(address));
        let homes = self.slots.iter().map(home).collect();
        *self.homes.write() = homes;
        topology.primaries.clone_into(&mut self.replicas.write());
    }
}

/// The first url without its place, and the places of all.
fn logins(options: &RedisOptions) -> Result<(ConnectionInfo, Vec<Address>), RedisOpenError> {
    let wrong = |option: &'static str, why: &str| Err(RedisOpenError::Option { option, why: why.to_owned() });
    let mut login = None;
    let mut seeds = Vec::new();
    for url in &options.urls {
        // What the parser says may quote the url, and with it the password.
        let Ok(info) = url.as_str().into_connection_info() else {
            return wrong("urls", "one of them cannot be read; write redis://[user][:password@]host[:port]");
        };
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                seeds.push(Address { host: host.clone(), port: *port });
            }
            _ => return wrong("urls", "only TCP is supported; write redis://[user][:password@]host[:port]"),
        }
        let first: &ConnectionInfo = login.get_or_insert(info.clone());
        if tls::is_used(first) != tls::is_used(&info) {
            return wrong("urls", "some with TLS (rediss://) and some without; all servers have to be the same");
        }
    }
    let Some(login) = login else {
        return wrong("urls", "there is none; write redis://host:port");
    };
    if !(1..=SLOTS).contains(&options.buckets) {
        return wrong("buckets", "from 1 to 16384, and never changed afterwards; 64 suits up to some 16 primaries");
    }
    if options.key_prefix.is_empty() || options.key_prefix.contains(['{', '}', ' ']) {
        return wrong("key_prefix", "some letters without braces and spaces; hb is the default");
    }
    if options.connections == Some(0) {
        return wrong("connections", "at least one to each primary; leave it out for what suits most");
    }
    // Small packets have to leave at once; the crate's default is to let them wait.
    let tcp = TcpSettings::default().set_nodelay(true);
    let settings = login.redis_settings().clone().set_skip_set_lib_name();
    let login = login.set_tcp_settings(tcp).set_redis_settings(settings);
    Ok((tls::with_certificates(login, &options.tls)?, seeds))
}

async fn keep_surveying(fleet: Arc<Fleet>) {
    loop {
        // Wished for or due, whichever is first.
        let _ = timeout(SURVEY_EVERY, fleet.survey.notified()).await;
        if let Some(topology) = fleet.look().await {
            fleet.adopt(&topology);
        }
        sleep(SURVEY_PAUSE).await;
    }
}
