//! The closed loop over HTTP.

use crate::client::{Connection, Request, Target};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Answered before the turn is measured: connections are accepted, caches filled.
const WARM_UP: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);
/// Threads that send: with more, two cores only switch between them.
const THREADS: usize = 2;

/// What a turn came to.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Measured {
    /// Grabs that were told to have won, before and after the measured time too.
    pub(super) grabs: u64,
    /// Of them in a second of the measured time.
    pub(super) per_s: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
}

impl Measured {
    pub(super) fn new(grabs: u64, per_s: f64, latency_us: &Histogram<u64>) -> Measured {
        let at = |quantile| latency_us.value_at_quantile(quantile);
        Measured { grabs, per_s, p50_us: at(0.5), p99_us: at(0.99) }
    }
}

/// What a thread counted.
struct Counted {
    answers: u64,
    measured: u64,
    latency_us: Histogram<u64>,
}

pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds are in order")
}

/// Posts `{"user":…}` to `path`, a new user each time; every answer's body has to
/// begin with `expected`.
///
/// # Errors
/// The first answer that does not, or that does not come.
pub(super) fn run(
    target: &Arc<Target>,
    path: &str,
    expected: &[u8],
    connections: usize,
    slice: Duration,
) -> Result<Measured, String> {
    let users = AtomicU64::new(0);
    let threads = THREADS.min(connections);
    let ready = Barrier::new(threads);
    let counted: Vec<Counted> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let share = connections / threads + usize::from(thread < connections % threads);
                let (users, ready) = (&users, &ready);
                scope.spawn(move || send(target, path, expected, share, slice, users, ready))
            })
            .collect();
        running.into_iter().map(|thread| thread.join().expect("a sender does not panic")).collect::<Result<_, _>>()
    })?;
    let mut latency_us = histogram();
    let (mut answers, mut measured) = (0, 0);
    for part in counted {
        answers += part.answers;
        measured += part.measured;
        latency_us.add(part.latency_us).expect("the same bounds");
    }
    if measured == 0 {
        return Err("nothing was answered in the measured time".to_owned());
    }
    Ok(Measured::new(answers, measured as f64 / slice.as_secs_f64(), &latency_us))
}

fn send(
    target: &Arc<Target>,
    path: &str,
    expected: &[u8],
    connections: usize,
    slice: Duration,
    users: &AtomicU64,
    ready: &Barrier,
) -> Result<Counted, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string());
    let inside = runtime.and_then(|runtime| {
        let opened = runtime.block_on(async {
            let mut opened = Vec::new();
            for _ in 0..connections {
                opened.push(Connection::open(target, PATIENCE).await.map_err(|error| error.to_string())?);
            }
            Ok::<_, String>(opened)
        });
        opened.map(|opened| (runtime, opened))
    });
    // Also when it failed, or the other thread would wait for ever.
    ready.wait();
    let (runtime, opened) = inside?;
    let from = Instant::now() + WARM_UP;
    let until = from + slice;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async {
        let mut ended = Vec::new();
        for connection in opened {
            let first = users.fetch_add(1 << 32, Ordering::Relaxed);
            let one = drive(Arc::clone(target), path.to_owned(), expected.to_vec(), connection, first, from, until);
            ended.push(tokio::task::spawn_local(one));
        }
        let mut all = Counted { answers: 0, measured: 0, latency_us: histogram() };
        for task in ended {
            let one = task.await.map_err(|error| error.to_string())??;
            all.answers += one.answers;
            all.measured += one.measured;
            all.latency_us.add(one.latency_us).expect("the same bounds");
        }
        Ok(all)
    })
}

async fn drive(
    target: Arc<Target>,
    path: String,
    expected: Vec<u8>,
    mut connection: Connection,
    mut user: u64,
    from: Instant,
    until: Instant,
) -> Result<Counted, String> {
    let mut counted = Counted { answers: 0, measured: 0, latency_us: histogram() };
    let mut bytes = Vec::new();
    loop {
        let sent = Instant::now();
        if sent >= until {
            return Ok(counted);
        }
        let body = format!(r#"{{"user":"{user}"}}"#);
        user += 1;
        target.compose(&mut bytes, &Request { path: &path, idempotency_key: None, body: Some(body.as_bytes()) });
        let status = connection.exchange(&bytes, PATIENCE).await.map_err(|error| error.to_string())?;
        if status != 200 || !connection.body().starts_with(&expected) {
            return Err(format!("answered {status}: {}", String::from_utf8_lossy(connection.body())));
        }
        counted.answers += 1;
        let now = Instant::now();
        if now >= from && now < until {
            counted.measured += 1;
            counted.latency_us.saturating_record(u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX));
        }
    }
}
