//! The `hongbao` binary: the only place that knows which engine runs.
//!
//! **Invariant:** the engine is closed after the last answer was given, never
//! before.

use hongbao_engine::backend::Backend;
use hongbao_engine::journal::{JournalOptions, SyncTimes};
use hongbao_engine::memory::{Embedded, EmbeddedOptions, OpenError, StartReport};
use hongbao_engine::redis::{RedisBackend, RedisBackendOptions, RedisOptions};
use hongbao_engine::storage::{Directory, Storage};
use hongbao_server::app::{Server, Setup, Shared, admin_app, app};
use hongbao_server::auth::{ADMIN_KEY, given_key, kept_key, new_key};
use hongbao_server::clock::Alarm;
use hongbao_server::config::{BackendName, Cli, Clock, ListenAddress, Serve, Task};
use hongbao_server::demo::{campaign, invitation};
use hongbao_server::failure::Failure;
use hongbao_server::handover::Handover;
use hongbao_server::metrics::Durations;
use hongbao_server::operator::Door;
use hongbao_server::payments::{self, PaymentOptions};
use hongbao_server::serve::{Limits, Refused, listen_on_first, serve};
use hongbao_server::webhooks::{self, WebhookOptions};
use hongbao_server::{audit, backup, clock, copy, export, rebuild, reconcile, redact, restore, split, top};
use rustls::ClientConfig;
use std::env;
use std::fmt::Display;
use std::io::IsTerminal;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long it is waited for webhooks to be let go of.
const DELIVERER_ENDS: Duration = Duration::from_secs(2);

/// What is logged unless `HONGBAO_LOG` says otherwise.
const LOGGED: &str = "info,fjall=warn,lsm_tree=warn";

fn main() -> ExitCode {
    let Cli { task } = Cli::from_words(env::args_os().collect()).unwrap_or_else(|error| error.exit());
    let filter = EnvFilter::try_from_env("HONGBAO_LOG").unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        // It would tell of a log that cannot be written in the log, and panic.
        .log_internal_errors(false)
        .init();
    let done = match task {
        Task::Serve(options) => run(&options, false).map(|()| true),
        Task::Demo { listen } => run_demo(listen).map(|()| true),
        Task::Split(options) => split::run(&options, std::io::stdout()).map(|ended| ended == split::Ended::Fine),
        Task::Audit { data, archive, place } => audit::run(data.as_deref(), archive.as_deref(), &place),
        Task::SandboxGateway(options) => payments::run(&options).map(|()| true),
        Task::Top(options) => top::run(&options, std::io::stdout()).map(|()| true),
        Task::Reconcile(options) => reconcile::run(&options),
        Task::Backup(options) => backup::run(&options),
        Task::Restore(options) => restore::run(&options),
        Task::Redact(options) => redact::run(&options),
        Task::Export(options) => export::run(&options),
        Task::Copy(options) => copy::run(&options),
        Task::Rebuild { data, archive } => rebuild::run(&data, &archive),
        Task::Clock(Clock::Accept { data }) => clock::accept(&data).map(|said| {
            println!("{said}");
            true
        }),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        // What was found has been told.
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("hongbao: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn run_demo(listen: ListenAddress) -> Result<(), Failure> {
    let data = tempfile::Builder::new().prefix("hongbao-demo-").tempdir()?;
    run(&Serve::for_demo(listen, data.path().to_owned()), true)
}

/// An engine as it is served from here.
trait Engine: Backend {
    /// Lets its figures be asked for with the metrics.
    fn watch(server: &Shared<Self>, data: &Path)
    where
        Self: Sized;

    /// Whether other servers may stand in front of the same one.
    const IS_SHARED: bool;

    /// Lets the command line ask for what only a running server has.
    fn open_door(self: &Arc<Self>, data: &Path) -> Option<Door>;

    /// Tells why deadlines stand still, if they do, and keeps on telling.
    fn tell_alarm(self: Arc<Self>, data: &Path) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Ends it, and says where everything is that was answered.
    fn end(&self) -> Result<&'static str, Failure>;
}

/// What is the same for every engine, found to be right before anything is written.
struct Prepared {
    /// The admin key; one has to be made if there is none.
    key: Option<String>,
    listeners: Vec<TcpListener>,
    admin_listeners: Option<Vec<TcpListener>>,
    runtime: Runtime,
    webhook_tls: Arc<ClientConfig>,
    payment_tls: Arc<ClientConfig>,
}

fn run(options: &Serve, is_demo: bool) -> Result<(), Failure> {
    raise_descriptor_limit(options.connections_max);
    // What was asked for wrongly is found out before anything is written.
    let given = given_key(env::var(ADMIN_KEY)).map_err(wrong)?;
    match (options.backend, options.redis.is_empty()) {
        (BackendName::Redis, true) => return Err(wrong("name the servers: --redis redis://HOST:PORT[,...]")),
        (BackendName::Embedded, false) => {
            return Err(wrong("--redis (or HONGBAO_REDIS) is for --backend redis: give both, or neither"));
        }
        (BackendName::Redis, false) if options.migrate => {
            return Err(wrong(
                "--migrate is for an embedded engine's directory; what is in Redis says itself what to do",
            ));
        }
        (BackendName::Redis, false) if options.archive.is_some() => {
            let why = "--archive keeps an embedded engine's journal; with --backend redis name --redis-archive";
            return Err(wrong(why));
        }
        (BackendName::Embedded, true) if options.way.redis_archive.is_some() => {
            return Err(wrong(
                "--redis-archive is for --backend redis; an embedded engine keeps its segments by --archive",
            ));
        }
        (BackendName::Redis, false) | (BackendName::Embedded, true) => {}
    }
    let webhook_tls = match options.webhook_allow.is_empty() {
        true => WebhookOptions::default().tls,
        false => webhooks::trusting(options.webhook_ca.as_deref()).map_err(wrong)?,
    };
    let payment_tls = match options.payments.is_empty() {
        true => PaymentOptions::default().tls,
        false => webhooks::trusting(options.webhook_ca.as_deref()).map_err(wrong)?,
    };
    if options.backend == BackendName::Redis && !options.payments.is_empty() {
        return Err(wrong("nothing is paid outside in front of Redis yet; leave --payments out"));
    }
    let mut names: Vec<_> = options.payments.iter().map(|terms| &terms.name).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong(format!("--payments names the gateway {} twice; give each a name of its own", pair[0])));
    }
    let mut handover = Handover::within(Duration::from_secs(options.start_wait_s));
    let listeners = open_port("--listen", &options.listen, &mut handover)?;
    let open_admin_port = |address| open_port("--admin-listen", address, &mut handover);
    let admin_listeners = options.admin_listen.as_ref().map(open_admin_port).transpose()?;
    let key = given.map_or_else(|| kept_key(&options.data), |key| Ok(Some(key))).map_err(wrong)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let prepared = Prepared { key, listeners, admin_listeners, runtime, webhook_tls, payment_tls };
    let made = Made::before([Some(&*options.data), options.archive.as_deref()]);
    match options.backend {
        BackendName::Embedded => {
            let engine = open(options, &mut handover).inspect_err(|_| made.unmake())?;
            run_engine(Arc::new(engine), options, prepared, is_demo)
        }
        BackendName::Redis => {
            let opened = make_directory(&options.data).and_then(|()| prepared.runtime.block_on(open_redis(options)));
            run_engine(Arc::new(opened.inspect_err(|_| made.unmake())?), options, prepared, is_demo)
        }
    }
}

/// Directories that are not there before the start.
struct Made<'a>(Vec<&'a Path>);

impl<'a> Made<'a> {
    fn before(directories: [Option<&'a Path>; 2]) -> Made<'a> {
        Made(directories.into_iter().flatten().filter(|path| !path.exists()).collect())
    }

    /// Removes those that the start made, unless there is something in them.
    fn unmake(&self) {
        for path in &self.0 {
            // One that is not empty stays, and tells why by what is in it.
            let _ = std::fs::remove_dir(path);
        }
    }
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| wrong(format!("{}: {error}", path.display())))
}

fn run_engine<E: Engine>(engine: Arc<E>, options: &Serve, prepared: Prepared, is_demo: bool) -> Result<(), Failure> {
    let Prepared { key, listeners, admin_listeners, runtime, webhook_tls, payment_tls } = prepared;
    let key = match key.map_or_else(|| new_key(&options.data), Ok) {
        Ok(key) => key,
        Err(error) => {
            engine.end()?;
            return Err(wrong(error));
        }
    };
    let setup = Setup {
        currency: options.currency,
        admin_key: key.clone(),
        test: options.test,
        metrics_apart: options.admin_listen.is_some(),
        in_flight_max: options.in_flight_max as usize,
        event_readers_max: options.event_readers_max as usize,
        body_timeout: Duration::from_secs(options.read_timeout_s),
        caps: options.caps,
        may_give: options.gifts_may_give,
        webhooks: WebhookOptions {
            allowed: options.webhook_allow.clone(),
            is_shared: E::IS_SHARED,
            tls: webhook_tls,
            ..WebhookOptions::default()
        },
        payments: PaymentOptions { gateways: options.payments.clone(), tls: payment_tls, ..PaymentOptions::default() },
    };
    let server = Server::new(Arc::clone(&engine), &setup);
    E::watch(&server, &options.data);
    let limits = Limits {
        connections_max: options.connections_max as usize,
        head_timeout: Duration::from_secs(options.read_timeout_s),
        drain: Duration::from_secs(options.drain_s),
        is_test: options.test,
        ..Limits::default()
    };
    let door = engine.open_door(&options.data);
    let served = runtime.block_on(async {
        let stop = server.stop.clone();
        tokio::spawn(stop_on_signal(stop.clone())?);
        tokio::spawn(Arc::clone(&engine).tell_alarm(&options.data));
        server.keys().refresh(&*engine).await?;
        if E::IS_SHARED {
            tokio::spawn(Arc::clone(&server).follow_keys());
        }
        let address = listeners[0].local_addr()?;
        tracing::info!(%address, test = options.test, "serving; try /docs");
        if is_demo {
            let campaign = campaign(&*engine).await?;
            println!("{}", invitation(address, &key, &campaign));
        }
        tokio::spawn(payments::drive(Arc::clone(&server)));
        let deliverer = tokio::spawn(webhooks::deliver(Arc::clone(&server)));
        let metrics = Arc::clone(&server.metrics);
        let admin = async {
            if let Some(listeners) = admin_listeners {
                let (app, metrics) = (admin_app(Arc::clone(&server)), Arc::clone(&server.metrics));
                serve(app, listeners, limits, metrics, stop.clone()).await?;
            }
            Ok::<_, Failure>(())
        };
        let public = async {
            serve(app(Arc::clone(&server)), listeners, limits, metrics, stop.clone()).await?;
            Ok(())
        };
        let served = tokio::try_join!(admin, public).map(drop);
        stop.cancel();
        // What was on its way is sent again by whoever goes on.
        let _ = tokio::time::timeout(DELIVERER_ENDS, deliverer).await;
        served
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    let kept = engine.end()?;
    drop(door);
    let kept = if is_demo { "nothing of the demonstration is kept" } else { kept };
    tracing::info!("stopped; {kept}");
    served
}

fn wrong(why: impl Display) -> Failure {
    Failure::Usage(why.to_string())
}

fn open_port(option: &str, address: &ListenAddress, handover: &mut Handover) -> Result<Vec<TcpListener>, Failure> {
    let unknown = |error| {
        let remedy = format!("name one of this machine's addresses: {option} 127.0.0.1:8080");
        wrong(format!("{address}: the name is not known here: {error}; {remedy}"))
    };
    let found = address.resolve().map_err(unknown)?;
    handover.take(|| listen_on_first(&found), Refused::is_held).map_err(|refused| {
        let other = format!("choose another address or port: {option} 127.0.0.1:8081");
        let remedy = if refused.is_held() { format!("end the program that has it, or {other}") } else { other };
        wrong(format!("{refused}; {remedy}"))
    })
}

fn open_archive(path: &Path) -> Result<Arc<dyn Storage>, Failure> {
    let directory = Directory::open(path);
    Ok(Arc::new(directory.map_err(|error| wrong(format!("{}: {error}", path.display())))?))
}

fn open(options: &Serve, handover: &mut Handover) -> Result<Embedded, Failure> {
    let archive = options.archive.as_deref().map(open_archive).transpose()?;
    make_directory(&options.data)?;
    let engine = EmbeddedOptions {
        currency: options.currency.as_str().to_owned(),
        test_mode: options.test,
        downtime_s_max: options.max_downtime_s,
        events_kept_s: options.events_kept_s,
        creates: options.daily_cap.for_engine(),
        addresses: options.addresses.for_engine()?,
        migrate: options.migrate,
        journal: JournalOptions {
            archive,
            kept_bytes_max: if options.events_kept_s == 0 { 0 } else { options.events_kept_bytes },
            ..JournalOptions::default()
        },
        ..EmbeddedOptions::default()
    };
    let is_held = |error: &OpenError| matches!(error, OpenError::Locked(_));
    let (engine, report) = handover.take(|| Embedded::open(&options.data, engine.clone()), is_held)?;
    // What was torn has been told.
    let StartReport { journal, live_envelopes, swept } = report;
    let last_end = match (journal.segments, journal.clean_shutdown) {
        (0, _) => "none",
        (_, true) => "in order",
        (_, false) => "crash",
    };
    tracing::info!(
        data = %options.data.display(),
        mode = if options.test { "test" } else { "live" },
        currency = options.currency.as_str(),
        last_end,
        records_replayed = journal.records,
        last_record = journal.last_lsn.0,
        segments = journal.segments,
        live_envelopes,
        swept,
        "opened"
    );
    Ok(engine)
}

async fn open_redis(options: &Serve) -> Result<RedisBackend, Failure> {
    let way = &options.way;
    let archive_after = Duration::from_secs(options.redis_archive_after_s);
    let engine = RedisBackend::open(RedisBackendOptions {
        redis: RedisOptions { archive_after, ..way.options(options.redis.clone()) },
        currency: options.currency.as_str().to_owned(),
        test_mode: options.test,
        events: options.redis_events(),
        creates: options.daily_cap.for_engine(),
        addresses: options.addresses.for_engine()?,
        ..RedisBackendOptions::default()
    });
    let engine = engine.await?;
    tracing::info!(
        urls = options.redis.len(),
        prefix = way.redis_prefix,
        durability = %way.redis_durability,
        mode = if options.test { "test" } else { "live" },
        currency = options.currency.as_str(),
        "opened in front of Redis"
    );
    Ok(engine)
}

impl Engine for Embedded {
    const IS_SHARED: bool = false;

    fn watch(server: &Shared<Embedded>, data: &Path) {
        watch_embedded(server);
        let disk = Directory::open(data).expect("the engine has opened it");
        let names = [("hongbao_data_free_bytes", "Bytes free on the disk of --data")];
        server.metrics.gauges(names, move || [disk.free_bytes().map_or(f64::NAN, |bytes| bytes as f64)]);
    }

    fn open_door(self: &Arc<Self>, data: &Path) -> Option<Door> {
        Door::open(self, data)
    }

    fn tell_alarm(self: Arc<Self>, data: &Path) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut alarm = Alarm::new(data);
        let mut tell = move || alarm.tell(self.clock_alarm().or_else(|| self.ready().err()));
        tell();
        Box::pin(async move {
            loop {
                tokio::time::sleep(clock::TELL_EVERY).await;
                tell();
            }
        })
    }

    fn end(&self) -> Result<&'static str, Failure> {
        self.close()?;
        Ok("everything is on disk")
    }
}

impl Engine for RedisBackend {
    const IS_SHARED: bool = true;

    fn watch(server: &Shared<RedisBackend>, _data: &Path) {
        let engine = Arc::downgrade(&server.backend);
        let [payouts_due, payouts_sent, payouts_failed] = PAYOUT_GAUGES;
        let names = [
            payouts_due,
            payouts_sent,
            payouts_failed,
            ("hongbao_clock_alarm", "1 while this server's clock stands still until it is started again"),
            ("hongbao_archived_envelopes", "Envelopes that this server has archived"),
            ("hongbao_archive_files", "Files of the archive, when it was last looked at"),
            ("hongbao_archive_bytes", "Bytes in them"),
            ("hongbao_archive_failed", "1 while the archive cannot be written: free space or look at its disk"),
        ];
        server.metrics.gauges(names, move || {
            let Some(engine) = engine.upgrade() else { return [0.0; 8] };
            let archived = engine.archived();
            let [envelopes, files, bytes] =
                [archived.envelopes, archived.files, archived.bytes].map(|count| count as f64);
            let flag = |set: bool| f64::from(u8::from(set));
            let [due, sent, failed] = engine.payouts_counted().map(|count| count as f64);
            let alarm = flag(engine.clock_alarm().is_some());
            [due, sent, failed, alarm, envelopes, files, bytes, flag(archived.has_failed)]
        });
    }

    /// Its tasks ask Redis.
    fn open_door(self: &Arc<Self>, _data: &Path) -> Option<Door> {
        None
    }

    /// It is in the log, and nobody but a restart can accept it.
    fn tell_alarm(self: Arc<Self>, _data: &Path) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }

    fn end(&self) -> Result<&'static str, Failure> {
        let is_there = self.ready().is_ok();
        self.close();
        Ok(if is_there {
            "everything is in Redis"
        } else {
            "Redis is away: what was answered is there when it is back"
        })
    }
}

/// Cancels `stop` at the first SIGTERM or SIGINT; a second one ends the process.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for nth in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if nth > 0 {
                tracing::error!("told to stop twice; not waiting any longer");
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing what is in flight");
            stop.cancel();
        }
    })
}

/// Payouts that somebody has to see to.
const PAYOUT_GAUGES: [(&str, &str); 3] = [
    ("hongbao_payouts_due", "Payouts to be paid"),
    ("hongbao_payouts_sent", "Payouts handed to whoever pays, of which no end was told"),
    ("hongbao_payouts_failed", "Payouts that could not be paid and were not made due again"),
];

/// Lets the engine's figures be asked for with the metrics.
fn watch_embedded(server: &Shared<Embedded>) {
    let engine = Arc::downgrade(&server.backend);
    let [payouts_due, payouts_sent, payouts_failed] = PAYOUT_GAUGES;
    let names = [
        ("hongbao_engine_envelopes", "Envelopes in memory"),
        ("hongbao_engine_wallets", "Wallets in memory"),
        ("hongbao_engine_holds", "Holds in memory"),
        payouts_due,
        payouts_sent,
        payouts_failed,
        ("hongbao_engine_lag_records", "Durable records not yet in the store"),
        ("hongbao_engine_projection_failed", "1 while the store takes no writes: free space or look at its disk"),
        ("hongbao_journal_records", "Records written"),
        ("hongbao_journal_batches", "Batches synced"),
        ("hongbao_journal_backlog_bytes", "Bytes staged and not yet durable"),
        ("hongbao_journal_sync_p99_seconds", "The sync that one in a hundred exceeds"),
        ("hongbao_journal_unreleased_bytes", "Bytes that the store does not hold for sure yet"),
        ("hongbao_journal_segments", "Segments in use"),
        ("hongbao_journal_kept_bytes", "Bytes of segments that are kept for events only"),
        ("hongbao_journal_disk_full", "1 while the disk has no room for what the journal keeps in reserve"),
        ("hongbao_clock_alarm", "1 while deadlines stand still until hongbao clock accept"),
    ];
    server.metrics.gauges(names, move || {
        let Some(engine) = engine.upgrade() else { return [0.0; 17] };
        let stats = engine.stats();
        let journal = stats.journal.unwrap_or_default();
        let counts = [stats.envelopes, stats.wallets, stats.holds, stats.lag_records];
        let [envelopes, wallets, holds, lag] = counts.map(|count| count as f64);
        let written = [journal.records, journal.batches, journal.backlog_bytes, journal.unreleased_bytes];
        let [records, batches, backlog, unreleased] = written.map(|count| count as f64);
        let (sync_p99_s, segments) = (journal.sync_p99_us as f64 / 1e6, journal.segments as f64);
        let flag = |set: bool| f64::from(u8::from(set));
        let (failed, full) = (flag(stats.projection_failed), flag(journal.disk_full));
        let alarm = flag(engine.clock_alarm().is_some());
        let of_journal = [records, batches, backlog, sync_p99_s, unreleased, segments, journal.kept_bytes as f64, full];
        let [due, sent, _, given_up] = stats.payouts.map(|count| count as f64);
        let of_state = [envelopes, wallets, holds, due, sent, given_up, lag, failed];
        [&of_state[..], &of_journal, &[alarm]].concat().try_into().expect("as many values as names")
    });
    let engine = Arc::downgrade(&server.backend);
    let ends_s = SyncTimes::ENDS_US.map(|end_us| end_us as f64 / 1e6);
    let help = "Seconds that the journal's syncs took";
    server.metrics.histogram("hongbao_journal_sync_seconds", help, ends_s, move || {
        let syncs = engine.upgrade().and_then(|engine| engine.stats().journal).unwrap_or_default().syncs;
        Durations { within: syncs.below, count: syncs.count, total_s: syncs.total_us as f64 / 1e6 }
    });
}

/// Every connection takes a descriptor, and most systems start a process with
/// room for a thousand.
fn raise_descriptor_limit(connections_max: u32) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let wanted = u64::from(connections_max) + 512;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
    if setrlimit(Resource::Nofile, limit).is_err() || limit.current < Some(wanted) {
        tracing::warn!(
            descriptors = limit.current,
            "fewer file descriptors than --connections-max needs; raise the limit (ulimit -n)"
        );
    }
}
