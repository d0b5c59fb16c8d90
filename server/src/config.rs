//! The command line of the server.
//!
//! **Invariant:** what was parsed can be used: a wrong value ends with status 2
//! and a sentence that says what would be right.

use crate::address_key::AddressTerms;
use crate::backup::BackupTask;
use crate::caps::{Caps, DailyCap};
use crate::export::Export;
use crate::extract::read_hex;
use crate::failure::Failure;
use crate::payments::{GatewayTerms, SandboxTask};
use crate::reconcile::ReconcilePayouts;
use crate::redact::RedactTask;
use crate::relations::MayGive;
use crate::restore::RestoreTask;
use crate::webhooks::AllowedTarget;
use clap::{Args, Parser, Subcommand};
use hongbao_engine::redis::{Durability, RedisEvents, RedisIdentity, RedisOptions, RedisTls, ToldEvents};
use hongbao_engine::split::Seed;
use serde::{Serialize, Serializer};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::{fmt, io};

const STATUS: &str = "Exit status: 0 fine; 1 a check failed or something broke; 2 it has to be called otherwise";

/// Red envelopes and flash sales: nothing is lost, doubled or oversold.
#[derive(Debug, Parser)]
#[command(name = "hongbao", version, arg_required_else_help = true, after_help = STATUS)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub task: Task,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Serve the HTTP API
    Serve(Serve),
    /// Serve a Spring Festival campaign on a temporary directory, in test mode
    Demo {
        /// Address or name, and port, to listen on
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: ListenAddress,
    },
    /// Check every invariant of a directory that is not being served, or of a deployment in Redis
    ///
    /// A directory: it does not touch the journal. The store it brings up to the journal's end, as the next start
    /// would. With --archive it builds the store once more beside it, which takes as much disk until it is done.
    /// A deployment: with --redis instead of --data, whether servers run or not. It changes nothing there.
    Audit {
        /// Directory of journal, store and keys; ./data without it, unless HONGBAO_REDIS says where a deployment is
        #[arg(long, conflicts_with = "redis")]
        data: Option<PathBuf>,
        /// Directory of archived segments: check everything from the first record
        #[arg(long, conflicts_with = "redis")]
        archive: Option<PathBuf>,
        /// A deployment instead of a directory
        #[command(flatten)]
        place: Placed,
    },
    /// Find what is not as it should be in Redis, by type; with --repair carry what nobody carried. Or `reconcile payouts
    /// BANK.csv`: compare a bank's file with the payouts
    Reconcile(Reconcile),
    /// Make a backup of a directory, whether it is served or not
    ///
    /// It has everything that was answered before it was asked for, as of one record. Grabs go on meanwhile. It is a
    /// data directory that `hongbao restore` and `hongbao audit` take, and appears under its name once it is whole.
    Backup(BackupTask),
    /// Make a data directory of a backup, and of what came after it
    ///
    /// With the old directory's journal, or an archive, it brings back what was answered after the backup. Answers that
    /// it cannot bring back it lists, and does nothing unless that is accepted: exit status 1.
    Restore(RestoreTask),
    /// Take messages back, and with --metadata what was kept with the envelopes
    ///
    /// Of a server that runs, with --target: nobody is told them any more from then on; exit status 1 if an envelope is
    /// not there. With --from and --to of what nobody writes to: an archive, a backup or a stopped data directory is
    /// copied without them, and the copy takes its place. docs/REDACT.md says what lies where on disk, and until when.
    Redact(RedactTask),
    /// Write a period's ledger, envelopes, grabs or payouts into a file, and its sums into another
    ///
    /// Of a directory, served or not, or of a backup. The period has to be over: the same question has the same bytes as
    /// its answer. Beside FILE stands FILE.totals.json with sums, accounts and the file's SHA-256.
    Export(Export),
    /// Make a lost or damaged store anew from the archive and the journal; the old one is set aside
    Rebuild {
        /// Directory of journal, store and keys
        #[arg(long, default_value = "./data")]
        data: PathBuf,
        /// Directory of archived segments, kept from the first start on
        #[arg(long)]
        archive: PathBuf,
    },
    /// Copy a directory into Redis, or a deployment in Redis into a directory
    ///
    /// Neither may be served meanwhile: stop all servers first. The target has to be empty, or what an interrupted copy
    /// of the same source has left: then it goes on. At the end the target is audited and compared with the source.
    Copy(Copy),
    /// Show how a total is divided, or prove over many splits that the order of grabbing changes nothing
    Split(Split),
    /// Show what a server does now: wins, sold-outs and refusals a second, latency, syncs, lag
    Top(Top),
    /// Run a payment gateway that takes nobody's money, to try payments with
    SandboxGateway(SandboxTask),
    /// Take the server's clock for right after it stopped its deadlines
    #[command(subcommand)]
    Clock(Clock),
}

/// Where a deployment in Redis is, for tasks that do not serve.
#[derive(Clone, Debug, Args)]
pub struct Placed {
    /// Servers of the deployment, as redis://user:password@host:port; of a Cluster some are enough. Without it what
    /// HONGBAO_REDIS says, which no list of processes shows
    #[arg(long, value_delimiter = ',')]
    pub redis: Vec<String>,
    /// How.
    #[command(flatten)]
    pub way: Way,
}

impl Placed {
    /// The way there.
    ///
    /// # Errors
    /// [`Failure::Usage`] if no server is named.
    pub fn options(&self) -> Result<RedisOptions, Failure> {
        let urls = if self.redis.is_empty() { urls_of_environment() } else { self.redis.clone() };
        if urls.is_empty() {
            let why = "name the servers: --redis redis://HOST:PORT[,...], or the same in HONGBAO_REDIS";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok(self.way.options(urls))
    }
}

/// What stands for the urls where they have a password that nobody is to see.
pub(crate) fn urls_of_environment() -> Vec<String> {
    let urls = std::env::var(REDIS_URLS).unwrap_or_default();
    urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

/// The variable with the urls of a deployment's servers.
const REDIS_URLS: &str = "HONGBAO_REDIS";

/// The way to a deployment's servers.
#[derive(Clone, Debug, Args)]
pub struct Way {
    /// What acknowledged answers survive in Redis: confirmed (a failover), or relaxed (not the last second)
    #[arg(long, default_value = "confirmed")]
    pub redis_durability: RedisDurability,
    /// What every key in Redis starts with; one for each deployment
    #[arg(long, default_value = "hb")]
    pub redis_prefix: String,
    /// How many buckets keys are spread over, fixed when a deployment is made; more for over some 16 primaries
    #[arg(long, default_value_t = RedisOptions::default().buckets, value_name = "COUNT")]
    pub redis_buckets: u16,
    /// At least so many replicas confirm an answer, and all that a primary has; without it as many as the primary with
    /// the most has at the start
    #[arg(long)]
    pub redis_replicas: Option<u8>,
    /// Directory that all servers of the deployment share, for envelopes that leave Redis once they are settled
    #[arg(long)]
    pub redis_archive: Option<PathBuf>,
    /// Whose certificates are trusted with rediss://, as a file in PEM; without it those whom the system trusts
    #[arg(long)]
    pub redis_ca: Option<PathBuf>,
    /// Certificate to show to a Redis that asks for one, in PEM
    #[arg(long, requires = "redis_key")]
    pub redis_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, requires = "redis_cert")]
    pub redis_key: Option<PathBuf>,
}

impl Way {
    /// To the servers of these urls.
    pub fn options(&self, urls: Vec<String>) -> RedisOptions {
        let identity = self.redis_cert.clone().zip(self.redis_key.clone());
        let identity = identity.map(|(certificate_file, key_file)| RedisIdentity { certificate_file, key_file });
        RedisOptions {
            urls,
            tls: RedisTls { ca_file: self.redis_ca.clone(), identity },
            key_prefix: self.redis_prefix.clone(),
            buckets: self.redis_buckets,
            replicas_needed: self.redis_replicas,
            archive: self.redis_archive.clone(),
            durability: self.redis_durability.into(),
            ..RedisOptions::default()
        }
    }
}

/// What to reconcile, and how it is told.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Reconcile {
    /// With what, if not a deployment in Redis with itself.
    #[command(subcommand)]
    pub with: Option<ReconcileWith>,
    /// Where.
    #[command(flatten)]
    pub place: Placed,
    /// Carry effects that nobody carried for a minute, as any server would
    #[arg(long)]
    pub repair: bool,
    /// text, or json
    #[arg(long, default_value = "text")]
    pub format: Format,
}

/// What can be reconciled with something else.
#[derive(Clone, Debug, Subcommand)]
pub enum ReconcileWith {
    /// Compare a bank's file with the payouts: what is missing on either side, other amounts, paid twice, came back
    ///
    /// Each row of the file is a payment under the payout's id, or under the reference that was told of it. Rows are kept in
    /// memory, at most 80 bytes each. Exit status: 0 no differences; 1 there are some; 2 it has to be called otherwise, or the
    /// file is not understood.
    Payouts(Box<ReconcilePayouts>),
}

/// What is copied, and where to.
#[derive(Clone, Debug, Args)]
pub struct Copy {
    /// The source: a data directory, or redis://user:password@host:port[,...]; redis:// alone stands for HONGBAO_REDIS,
    /// which no list of processes shows
    #[arg(long)]
    pub from: String,
    /// The target: the other of the two
    #[arg(long)]
    pub to: String,
    /// How.
    #[command(flatten)]
    pub way: Way,
}

/// How findings are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One a line.
    Lines,
    /// All in one object.
    Json,
}

impl FromStr for Format {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Format, &'static str> {
        match text {
            "lines" | "text" => Ok(Format::Lines),
            "json" => Ok(Format::Json),
            _ => Err("use text, or json"),
        }
    }
}

/// Which server to look at.
#[derive(Clone, Debug, Args)]
pub struct Top {
    /// Where its metrics are: its address, or that of its --admin-listen
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub target: String,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub interval_s: u64,
    /// Looks until it ends; without it, until it is interrupted
    #[arg(long)]
    pub count: Option<u64>,
}

/// What can be done about the clock.
#[derive(Debug, Subcommand)]
pub enum Clock {
    /// Let deadlines go on
    Accept {
        /// Directory of the running server
        #[arg(long, default_value = "./data")]
        data: PathBuf,
    },
}

/// What to divide.
#[derive(Clone, Debug, Args)]
pub struct Split {
    /// What is divided, in minor units
    #[arg(long)]
    pub total: u64,
    /// Into how many shares
    #[arg(long)]
    pub shares: u32,
    /// lucky, uniform or equal
    #[arg(long, default_value = "lucky")]
    pub rule: String,
    /// The least in a share
    #[arg(long, default_value_t = 1)]
    pub min_share: u64,
    /// The most in a share, with lucky
    #[arg(long)]
    pub max_share: Option<u64>,
    /// How many splits: up to 20 are printed, more as statistics by position
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// 64 hexadecimal digits that decide the splits; random without
    #[arg(long)]
    pub seed: Option<SeedHex>,
}

/// A seed as it is written on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedHex(pub Seed);

impl FromStr for SeedHex {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<SeedHex, &'static str> {
        let seed = read_hex(text).and_then(|bytes| bytes.try_into().ok());
        seed.map(SeedHex).ok_or("a seed is 64 hexadecimal digits")
    }
}

/// How to serve.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// File with these options in TOML, _ for -; what is said on the command line counts before it
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Address or name, and port, to listen on; of a name's addresses the first that is free
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: ListenAddress,
    /// Address of its own for /metrics, with /livez and /readyz
    #[arg(long)]
    pub admin_listen: Option<ListenAddress>,
    /// Directory of journal, store and keys; with redis, of keys
    #[arg(long, default_value = "./data")]
    pub data: PathBuf,
    /// What decides and remembers: embedded, or redis
    #[arg(long, default_value = "embedded")]
    pub backend: BackendName,
    /// Servers of the redis backend, as redis://user:password@host:port, or rediss:// for TLS; of a Cluster some are enough
    #[arg(long, value_delimiter = ',', env = REDIS_URLS, hide_env_values = true)]
    pub redis: Vec<String>,
    /// How those are reached, and what has to confirm.
    #[command(flatten)]
    pub way: Way,
    /// Seconds from an envelope's settlement until it leaves Redis for --redis-archive
    #[arg(long, default_value_t = 3600)]
    pub redis_archive_after_s: u64,
    /// Directory to keep full journal segments in, instead of recycling them
    #[arg(long)]
    pub archive: Option<PathBuf>,
    /// Which events are told in front of Redis: none; usual, all but share.grabbed and hold.held; or all. The same for
    /// all servers
    #[arg(long, default_value = "usual")]
    pub redis_events: EventsTold,
    /// Seconds that events can be read again; 0 keeps none beyond what the journal needs for itself
    #[arg(long, default_value_t = 3 * 86_400, value_parser = clap::value_parser!(u64).range(0..=31_536_000))]
    pub events_kept_s: u64,
    /// Bytes at most that they may take: of the disk, to which they give way when it is full; or of Redis, where an event
    /// counts for 200
    #[arg(long, default_value_t = 1 << 30)]
    pub events_kept_bytes: u64,
    /// Most requests that wait for events, and streams of them, at once
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub event_readers_max: u32,
    /// Where webhooks may go, several times: HOST (port 443), HOST:PORT, *.example.com, or http://HOST:PORT for one without
    /// TLS; without it there are none
    #[arg(long, value_delimiter = ',')]
    pub webhook_allow: Vec<AllowedTarget>,
    /// Certificates of those who sign for webhooks' receivers, in PEM; those whom the system trusts, if it is not given
    #[arg(long, requires = "webhook_allow")]
    pub webhook_ca: Option<PathBuf>,
    /// Payment gateways, with ; between: NAME,url=URL,secret_file=FILE and if need be pay_within_s=SECONDS, keep_s=SECONDS;
    /// without one nothing is paid outside
    #[arg(long, value_delimiter = ';')]
    pub payments: Vec<GatewayTerms>,
    /// Seconds without a record after which deadlines that have passed wait for an operator
    #[arg(long, default_value_t = 3 * 86_400)]
    pub max_downtime_s: u64,
    /// ISO 4217 code of the one currency, fixed at the first start
    #[arg(long, default_value = "CNY")]
    pub currency: Currency,
    /// Mark a new data directory for tests: the clock can be moved
    #[arg(long)]
    pub test: bool,
    /// Bring a data directory of an older form to this version's first. Make a backup of it before: a copy of the
    /// whole directory while nothing runs there
    #[arg(long)]
    pub migrate: bool,
    /// Addresses of gifts.
    #[command(flatten)]
    pub addresses: AddressTerms,
    /// What no envelope may exceed.
    #[command(flatten)]
    pub caps: Caps,
    /// Who may give to whom: anyone, or mutual, only those who follow each other. Who has blocked whom never does. The
    /// same for all servers
    #[arg(long, default_value = "anyone", value_name = "RULE")]
    pub gifts_may_give: MayGive,
    /// What no sender may exceed.
    #[command(flatten)]
    pub daily_cap: DailyCap,
    /// Most connections open at once
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_max: u32,
    /// Most requests in flight before new ones are answered 503
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight_max: u32,
    /// Seconds after which a request whose head or body is incomplete is ended
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub read_timeout_s: u64,
    /// Seconds that requests in flight get to finish when the server is told to stop
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub drain_s: u64,
    /// Seconds that a start waits for a port or directory that another process has not let go of yet
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub start_wait_s: u64,
}

/// What an event takes of Redis, about.
const REDIS_EVENT_BYTES: u64 = 200;

impl Serve {
    /// Which events are told in front of Redis, and for how long they are kept.
    pub fn redis_events(&self) -> RedisEvents {
        let EventsTold(told) = self.redis_events;
        RedisEvents { told, kept_s: self.events_kept_s, kept_max: self.events_kept_bytes / REDIS_EVENT_BYTES }
    }

    /// How the demonstration in `data` is served.
    pub fn for_demo(listen: ListenAddress, data: PathBuf) -> Serve {
        let defaults = Cli::parse_from(["hongbao", "serve"]);
        let Task::Serve(defaults) = defaults.task else { unreachable!("serve was asked for one line above") };
        Serve { listen, data, test: true, redis: Vec::new(), ..defaults }
    }
}

/// Where to listen: an address or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress(String);

impl ListenAddress {
    /// The addresses it stands for, in the order in which they are tried.
    ///
    /// # Errors
    /// Those of looking up a name.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.to_socket_addrs()?.collect())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListenAddress {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<ListenAddress, &'static str> {
        let is_name = |(host, port): (&str, &str)| {
            !host.is_empty() && !host.contains([':', '[', ']']) && port.parse::<u16>().is_ok()
        };
        if text.parse::<SocketAddr>().is_ok() || text.rsplit_once(':').is_some_and(is_name) {
            return Ok(ListenAddress(text.to_owned()));
        }
        Err("name a host and a port, as 127.0.0.1:8080, [::1]:8080 or localhost:8080")
    }
}

/// Which engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendName {
    /// In this process, with a journal on local disk.
    Embedded,
    /// In Redis, behind any number of servers.
    Redis,
}

/// What acknowledged answers survive in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisDurability {
    /// The loss of a server.
    Confirmed,
    /// What the server's own settings promise.
    Relaxed,
}

impl fmt::Display for RedisDurability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RedisDurability::Confirmed => "confirmed",
            RedisDurability::Relaxed => "relaxed",
        })
    }
}

/// Which events are told in front of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsTold(pub ToldEvents);

impl FromStr for EventsTold {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<EventsTold, &'static str> {
        match text {
            "none" => Ok(EventsTold(ToldEvents::None)),
            "usual" => Ok(EventsTold(ToldEvents::Usual)),
            "all" => Ok(EventsTold(ToldEvents::All)),
            _ => Err("use none, usual, or all"),
        }
    }
}

impl From<RedisDurability> for Durability {
    fn from(named: RedisDurability) -> Durability {
        match named {
            RedisDurability::Confirmed => Durability::Confirmed,
            RedisDurability::Relaxed => Durability::Relaxed,
        }
    }
}

impl FromStr for RedisDurability {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<RedisDurability, &'static str> {
        match text {
            "confirmed" => Ok(RedisDurability::Confirmed),
            "relaxed" => Ok(RedisDurability::Relaxed),
            _ => Err("use confirmed, or relaxed"),
        }
    }
}

impl FromStr for BackendName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<BackendName, &'static str> {
        match text {
            "embedded" => Ok(BackendName::Embedded),
            "redis" => Ok(BackendName::Redis),
            _ => Err("use embedded, or redis"),
        }
    }
}

/// An ISO 4217 code, as CNY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three ASCII letters")
    }
}

impl FromStr for Currency {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Currency, &'static str> {
        match text.as_bytes() {
            &[a, b, c] if text.bytes().all(|byte| byte.is_ascii_uppercase()) => Ok(Currency([a, b, c])),
            _ => Err("a currency is three capital letters, as CNY"),
        }
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_place_to_listen_has_an_address_or_a_name() {
        for (text, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("localhost:80", "127.0.0.1:80"),
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let found = address.resolve().unwrap();
            assert!(found.contains(&expected.parse().unwrap()), "{text}: {found:?}");
        }
        let nowhere: ListenAddress = "no..where:80".parse().unwrap();
        assert!(nowhere.resolve().is_err(), "no name has an empty part");
    }

    #[test]
    fn a_durability_is_told_as_it_is_written() {
        for text in ["confirmed", "relaxed"] {
            assert_eq!(text.parse::<RedisDurability>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn wrong_values_are_refused_with_their_remedy() {
        for (arguments, expected) in [
            ("--backend etcd", "use embedded, or redis"),
            ("--redis-durability none", "use confirmed, or relaxed"),
            ("--redis-events some", "use none, usual, or all"),
            ("--webhook-allow ftp://host", "name a host, with a port if it is not 443"),
            ("--webhook-ca ca.pem", "--webhook-allow"),
            ("--currency cny", "three capital letters"),
            ("--currency EURO", "three capital letters"),
            ("--connections-max 0", "not in 1..=1000000"),
            ("--listen 8080", "name a host and a port"),
            ("--listen :8080", "name a host and a port"),
            ("--listen ::1:8080", "[::1]:8080"),
            ("--listen localhost:http", "localhost:8080"),
            ("--listen localhost:65536", "localhost:8080"),
            ("--admin-listen localhost", "name a host and a port"),
        ] {
            let line = ["hongbao", "serve"].into_iter().chain(arguments.split(' '));
            let error = Cli::try_parse_from(line).expect_err(arguments);
            assert_eq!(error.exit_code(), 2, "{arguments}");
            assert!(error.to_string().contains(expected), "{arguments}: {error}");
        }
    }
}
