//! Asks until there is an answer: for setting up and for the audit, where what
//! counts is the answer and not the time it takes.
//!
//! **Invariant:** everything asked here is idempotent (by its key or by nature),
//! so that asking again is safe; nothing is asked for longer than its patience.

use crate::client::{Connection, Request, Target};
use crate::tally::Problem;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections used at once for setting up and for the audit.
pub(crate) const LANES: usize = 32;

const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One connection that is replaced when it fails.
#[derive(Debug)]
pub(crate) struct Asker {
    target: Arc<Target>,
    connection: Option<Connection>,
    request: Vec<u8>,
    patience: Duration,
}

impl Asker {
    pub(crate) fn new(target: Arc<Target>, patience: Duration) -> Self {
        Self { target, connection: None, request: Vec::new(), patience }
    }

    /// The status of the answer; 429, 503 and broken connections are retried,
    /// honouring Retry-After. The error tells what was asked and why it failed.
    pub(crate) async fn ask(&mut self, request: &Request<'_>) -> Result<u16, String> {
        let until = Instant::now() + self.patience;
        let mut pause = PAUSE_MIN;
        loop {
            let (result, retry_after) = self.once(request).await;
            let why = match result {
                Ok(status) if !self.says_again(status) => return Ok(status),
                Ok(status) => format!("answered {status}"),
                Err(why) => why,
            };
            let wait = retry_after.unwrap_or(pause).min(Duration::from_secs(5));
            if Instant::now() + wait >= until {
                let patience_s = self.patience.as_secs();
                return Err(format!("{} {}: {why} (tried for {patience_s} s)", self.target.url, request.path));
            }
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        self.connection.as_ref().map_or(&[], Connection::body)
    }

    /// The last answer, for telling: a problem's words, or else its body.
    pub(crate) fn text(&self) -> String {
        let body = self.body();
        if let Ok(Problem { title, detail, .. }) = serde_json::from_slice(body)
            && !detail.is_empty()
        {
            return format!("{title}: {detail}");
        }
        String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned()
    }

    fn says_again(&self, status: u16) -> bool {
        match status {
            429 | 503 => true,
            409 => {
                serde_json::from_slice::<Problem<'_>>(self.body()).is_ok_and(|problem| problem.code == "in_progress")
            }
            _ => false,
        }
    }

    async fn once(&mut self, request: &Request<'_>) -> (Result<u16, String>, Option<Duration>) {
        let within = self.patience.min(Duration::from_secs(10));
        if let Some(open) = &mut self.connection
            && !open.is_usable().await
        {
            self.connection = None;
        }
        if self.connection.is_none() {
            match Connection::open(&self.target, within).await {
                Ok(open) => self.connection = Some(open),
                Err(error) => return (Err(error.to_string()), None),
            }
        }
        let open = self.connection.as_mut().expect("opened above");
        self.target.compose(&mut self.request, request);
        match open.exchange(&self.request, within).await {
            Ok(status) => (Ok(status), open.retry_after()),
            Err(error) => (Err(error.to_string()), None),
        }
    }
}

/// Does `job` for each of `jobs`, [`LANES`] at a time; stops at the first error.
/// Must run inside a `LocalSet`.
pub(crate) async fn for_each<J, I, F, E>(target: &Arc<Target>, patience: Duration, jobs: I, job: F) -> Result<(), E>
where
    I: IntoIterator<Item = J>,
    I::IntoIter: 'static,
    J: 'static,
    F: AsyncFn(&mut Asker, J) -> Result<(), E> + 'static,
    E: From<String> + 'static,
{
    let jobs = Rc::new(RefCell::new(jobs.into_iter().fuse()));
    let job = Rc::new(job);
    let failed = Rc::new(RefCell::new(None));
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        let (jobs, job, failed) = (Rc::clone(&jobs), Rc::clone(&job), Rc::clone(&failed));
        let mut asker = Asker::new(Arc::clone(target), patience);
        lanes.push(tokio::task::spawn_local(async move {
            loop {
                if failed.borrow().is_some() {
                    return;
                }
                let Some(next) = jobs.borrow_mut().next() else { return };
                if let Err(why) = job(&mut asker, next).await {
                    failed.borrow_mut().get_or_insert(why);
                }
            }
        }));
    }
    for lane in lanes {
        lane.await.map_err(|error| E::from(error.to_string()))?;
    }
    let failed = failed.borrow_mut().take();
    failed.map_or(Ok(()), Err)
}

/// What a server said when it was ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) test_mode: bool,
}

/// Waits until `/readyz` answers 200.
pub(crate) async fn wait_ready(target: &Arc<Target>, within: Duration) -> Result<Ready, String> {
    let until = Instant::now() + within;
    let ready = Request { path: "/readyz", idempotency_key: None, body: None };
    let mut asker = Asker::new(Arc::clone(target), Duration::from_secs(2).min(within));
    loop {
        let why = match asker.once(&ready).await.0 {
            Ok(200) => {
                return Ok(Ready { test_mode: asker.connection.as_ref().is_some_and(Connection::says_test) });
            }
            Ok(status) => format!("answered {status}"),
            Err(why) => why,
        };
        if Instant::now() >= until {
            return Err(format!(
                "{}/readyz: {why}, for {} s (is the server running, and is --target right?)",
                target.url,
                within.as_secs()
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
