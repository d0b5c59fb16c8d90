//! The lane to one server: the calls that wait for it, and the few connections
//! that carry them.
//!
//! Whichever connection is free takes all that waits and writes it at once;
//! while all are under way the next calls gather. There is no timer: a lone
//! call leaves at once, and the busier it is the larger batches get. Calls of one
//! script become one run of it: those that share its keys if it says that it has
//! shared ones (see [`Script::lane`]), otherwise those of one bucket, and on a
//! single server of any buckets.
//!
//! Confirmation is for the batch: one fence write and one WAIT behind its
//! scripts, on the same connection, because WAIT speaks of what its own
//! connection wrote. A repeat or a balance wrote nothing, and tells of what
//! other connections wrote; the fence comes after all of it.
//!
//! **Invariant:** a call that asked for confirmation is answered only if as many
//! replicas as are needed hold everything the server had written up to its answer.

use super::bucket::Bucket;
use super::script::{RUN_BYTES_MAX, Script, Shape};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, ServerError, Value};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc, oneshot};

/// What is asked, the same through all attempts.
pub(super) struct Request {
    pub(super) script: &'static Script,
    pub(super) bucket: Bucket,
    pub(super) keys: Words,
    pub(super) args: Words,
    /// For how many decisions they are; more than one only of a script that is
    /// written for many. They are made in one run, and answered by an array.
    pub(super) decisions: usize,
    pub(super) confirm: bool,
    /// Whether it was given to a connection in the attempt that is under way.
    pub(super) sent: AtomicBool,
}

impl Request {
    /// The keys that all calls of a run have in common.
    fn shared_keys(&self) -> &[u8] {
        self.keys.first(self.script.shape().shared().0)
    }

    /// The keys and arguments that each decision has of its own.
    fn own_words(&self) -> (usize, usize) {
        let (shared_keys, shared_args) = self.script.shape().shared();
        ((self.keys.len() - shared_keys) / self.decisions, (self.args.len() - shared_args) / self.decisions)
    }

    /// The bytes that it adds to a run.
    fn bytes(&self) -> usize {
        let (_, shared_args) = self.script.shape().shared();
        let shared = self.shared_keys().len() + self.args.first(shared_args).len();
        self.keys.bytes.len() + self.args.bytes.len() - shared
    }
}

/// One attempt at a request.
pub(super) struct Call {
    pub(super) request: Arc<Request>,
    /// Send the script's text first: the server does not know its hash.
    pub(super) load: bool,
    /// The slot is moving to this server, which serves it only when asked so.
    pub(super) asking: bool,
    pub(super) answer: oneshot::Sender<Answered>,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    /// It was carried out, and confirmed if that was asked for.
    Value(Value),
    /// The server did not carry it out, or the script failed.
    Refused(ServerError),
    /// There was no connection. It was not carried out.
    NotSent(String),
    /// The script does not keep to its shape.
    Broken(String),
    /// No answer came that counts. It may have been carried out; asking again tells.
    Lost(String),
    /// It was carried out, and is not known to be safe.
    Unconfirmed(String),
}

/// Byte strings, one after the other.
#[derive(Default)]
pub(super) struct Words {
    bytes: Vec<u8>,
    ends: SmallVec<[u32; 12]>,
}

impl Words {
    pub(super) fn of(words: &[Vec<u8>]) -> Words {
        let mut all = Words::with_capacity(words.iter().map(Vec::len).sum());
        words.iter().for_each(|word| all.push(&[word]));
        all
    }

    pub(super) fn with_capacity(bytes: usize) -> Words {
        Words { bytes: Vec::with_capacity(bytes), ends: SmallVec::new() }
    }

    /// Adds a word that is made of these parts.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.ends.push(u32::try_from(self.bytes.len()).expect("arguments of a script are far below 4 GiB"));
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn range(&self, words: std::ops::Range<usize>) -> impl Iterator<Item = &[u8]> {
        words.map(|index| {
            let start = if index == 0 { 0 } else { self.ends[index - 1] };
            &self.bytes[start as usize..self.ends[index] as usize]
        })
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.range(0..self.len())
    }

    fn first(&self, count: usize) -> &[u8] {
        if count == 0 { &[] } else { &self.bytes[..self.ends[count - 1] as usize] }
    }
}

/// Where a lane leads, and what its batches have to reach.
pub(super) struct Road {
    pub(super) client: Client,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) key_prefix: String,
    /// Whether calls of different buckets can be one run: not in a Cluster,
    /// where each bucket has its slot.
    pub(super) buckets_mix: Arc<AtomicBool>,
    /// Replicas that have to confirm: as many as this server is known to have,
    pub(super) replicas_known: Arc<AtomicU8>,
    /// and however few that are, so many.
    pub(super) replicas_min: Arc<AtomicU8>,
    /// Whether replicas have not confirmed the last batch.
    pub(super) unconfirmed: AtomicBool,
    /// Since when no connection could be made.
    pub(super) unreachable_since: Arc<parking_lot::Mutex<Option<Instant>>>,
}

/// Calls that may wait for one connection. More are refused as overload.
const WAITING_MAX: usize = 16_384;
/// Calls that travel in one batch.
const BATCH_MAX: usize = 512;

/// Opens a lane; it closes when the sender is dropped and all that wait is answered.
pub(super) fn open(road: Road, connections: usize) -> mpsc::Sender<Call> {
    let (sender, inbox) = mpsc::channel(WAITING_MAX);
    let (road, inbox) = (Arc::new(road), Arc::new(Mutex::new(inbox)));
    for _ in 0..connections {
        tokio::spawn(run(Arc::clone(&road), Arc::clone(&inbox)));
    }
    sender
}

async fn run(road: Arc<Road>, inbox: Arc<Mutex<mpsc::Receiver<Call>>>) {
    let mut connection = None;
    let mut waiting = Vec::with_capacity(BATCH_MAX);
    loop {
        let taken = inbox.lock().await.recv_many(&mut waiting, BATCH_MAX).await;
        if taken == 0 {
            return;
        }
        // Whoever has given up need not be carried out.
        waiting.retain(|call| !call.answer.is_closed());
        if waiting.is_empty() {
            continue;
        }
        let open = match connection.take() {
            Some(open) => open,
            None => match connect(&road).await {
                Ok(open) => open,
                Err(error) => {
                    let why = error.to_string();
                    waiting.drain(..).for_each(|call| drop(call.answer.send(Answered::NotSent(why.clone()))));
                    continue;
                }
            },
        };
        connection = exchange(&road, open, &mut waiting).await;
    }
}

async fn connect(road: &Road) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(road.connect_timeout))
        .set_response_timeout(Some(road.response_timeout));
    let connected = road.client.get_multiplexed_async_connection_with_config(&config).await;
    let mut since = road.unreachable_since.lock();
    match &connected {
        Ok(_) => *since = None,
        Err(_) => _ = since.get_or_insert_with(Instant::now),
    }
    connected
}

/// Sends all that waits as one batch and answers it. Gives the connection back
/// if it is still good.
async fn exchange(
    road: &Road,
    mut connection: MultiplexedConnection,
    waiting: &mut Vec<Call>,
) -> Option<MultiplexedConnection> {
    let batch = Batch::of(road, waiting);
    let sent = connection.send_packed_commands(&batch.pipeline, 0, batch.pipeline.len()).await;
    match sent {
        Ok(replies) if replies.len() == batch.pipeline.len() => {
            batch.answer(road, replies);
            Some(connection)
        }
        Ok(_) => {
            batch.lose("the server's answer has another length than the batch");
            None
        }
        // After a timeout answers would still come, for nobody.
        Err(error) => {
            batch.lose(&error.to_string());
            None
        }
    }
}

/// What is written at once, and who gets which reply.
struct Batch {
    pipeline: Pipeline,
    runs: Vec<Run>,
    confirmation: Option<Confirmation>,
}

/// One run of a script, for one call or for several.
struct Run {
    calls: SmallVec<[Call; 1]>,
    decisions: usize,
    bytes: usize,
    reply: usize,
}

struct Confirmation {
    fence: Option<usize>,
    wait: usize,
    needed: u8,
}

impl Batch {
    fn of(road: &Road, waiting: &mut Vec<Call>) -> Batch {
        let mut runs = Run::gather(waiting, road.buckets_mix.load(Ordering::Acquire));
        let mut pipeline = Pipeline::with_capacity(runs.len() + 4);
        let mut loaded: SmallVec<[&'static str; 4]> = SmallVec::new();
        for run in &mut runs {
            let script = run.calls[0].request.script;
            if run.calls.iter().any(|call| call.load) && !loaded.contains(&script.name()) {
                loaded.push(script.name());
                pipeline.add_command(command("SCRIPT", &[b"LOAD", script.source().as_bytes()]));
            }
            if run.calls[0].asking {
                pipeline.add_command(command("ASKING", &[]));
            }
            run.reply = pipeline.len();
            pipeline.add_command(run.command());
        }
        let confirmation = confirmation(road, &runs, &mut pipeline);
        Batch { pipeline, runs, confirmation }
    }

    fn answer(self, road: &Road, mut replies: Vec<Value>) {
        let mut unconfirmed = None;
        if let Some(confirmation) = &self.confirmation {
            unconfirmed = confirmation.missed(&replies);
            road.unconfirmed.store(unconfirmed.is_some(), Ordering::Relaxed);
        }
        for run in self.runs {
            let reply = std::mem::replace(&mut replies[run.reply], Value::Nil);
            run.answer(reply, unconfirmed.as_ref());
        }
    }

    fn lose(self, why: &str) {
        for call in self.runs.into_iter().flat_map(|run| run.calls) {
            // Whoever does not wait any more has drawn the same conclusion.
            let _ = call.answer.send(Answered::Lost(why.to_owned()));
        }
    }
}

impl Confirmation {
    /// What calls that asked for confirmation get instead of their answers, if it is missing.
    fn missed(&self, replies: &[Value]) -> Option<Answered> {
        if let Some(Value::ServerError(error)) = self.fence.map(|fence| &replies[fence]) {
            return Some(Answered::Lost(format!("the fence write was refused: {error}")));
        }
        match &replies[self.wait] {
            Value::Int(acks) if *acks >= i64::from(self.needed) => None,
            Value::Int(acks) => {
                Some(Answered::Unconfirmed(format!("{acks} of {} replicas have confirmed", self.needed)))
            }
            // It has become a replica while it waited: whoever is the primary now is asked again.
            Value::ServerError(error) => Some(Answered::Lost(format!("WAIT was refused: {error}"))),
            _ => Some(Answered::Lost("WAIT was answered with something else than a number".to_owned())),
        }
    }
}

/// Adds the fence and the WAIT behind a batch, if any of it has to be confirmed.
fn confirmation(road: &Road, runs: &[Run], pipeline: &mut Pipeline) -> Option<Confirmation> {
    let needed = road.replicas_known.load(Ordering::Acquire).max(road.replicas_min.load(Ordering::Acquire));
    let confirmed = || runs.iter().flat_map(|run| &run.calls).filter(|call| call.request.confirm);
    // Without replicas the server's own file is what confirms, before it answers.
    if needed == 0 || confirmed().next().is_none() {
        return None;
    }
    let unfenced = || confirmed().filter(|call| !call.request.script.fences());
    // A slot that this server surely serves, if there is one in the batch.
    let fenced_for = unfenced().find(|call| !call.asking).or_else(|| unfenced().next());
    let fence = fenced_for.map(|call| {
        if call.asking {
            pipeline.add_command(command("ASKING", &[]));
        }
        let key = call.request.bucket.key(&road.key_prefix, "fence");
        pipeline.add_command(command("SET", &[&key, b"1"]));
        pipeline.len() - 1
    });
    // Replicas that have just failed to confirm have less time, or a missing one
    // would keep every batch, and all that waits behind it, for as long as that.
    let timeout = match road.unconfirmed.load(Ordering::Relaxed) {
        false => road.response_timeout * 2 / 3,
        true => road.response_timeout / 10,
    };
    let timeout_ms = timeout.as_millis().to_string();
    pipeline.add_command(command("WAIT", &[needed.to_string().as_bytes(), timeout_ms.as_bytes()]));
    Some(Confirmation { fence, wait: pipeline.len() - 1, needed })
}

fn command(name: &str, args: &[&[u8]]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name);
    args.iter().for_each(|arg| _ = command.arg(arg));
    command
}

impl Run {
    /// Puts calls that can travel in one run together, in the order of their firsts.
    fn gather(waiting: &mut Vec<Call>, buckets_mix: bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::with_capacity(waiting.len());
        let mut open: HashMap<u64, usize, foldhash::fast::RandomState> = HashMap::default();
        for call in waiting.drain(..) {
            call.request.sent.store(true, Ordering::Release);
            let request = &call.request;
            let script: *const Script = request.script;
            let bucket = (!buckets_mix).then_some(request.bucket);
            let kind = (script, call.asking, bucket, request.own_words(), request.shared_keys());
            let hash = open.hasher().hash_one(kind);
            let (decisions, bytes) = (request.decisions, request.bytes());
            match open.get(&hash) {
                Some(&index) if runs[index].takes(&call, buckets_mix) => {
                    let run = &mut runs[index];
                    (run.decisions, run.bytes) = (run.decisions + decisions, run.bytes + bytes);
                    run.calls.push(call);
                }
                _ => {
                    open.insert(hash, runs.len());
                    runs.push(Run { calls: SmallVec::from_buf([call]), decisions, bytes, reply: 0 });
                }
            }
        }
        runs
    }

    fn takes(&self, call: &Call, buckets_mix: bool) -> bool {
        let (first, other) = (&self.calls[0].request, &call.request);
        std::ptr::eq(first.script, other.script)
            && self.decisions + other.decisions <= first.script.calls_max()
            && self.bytes + other.bytes() <= RUN_BYTES_MAX
            && self.calls[0].asking == call.asking
            && (buckets_mix || first.bucket == other.bucket)
            && first.shared_keys() == other.shared_keys()
            && first.own_words() == other.own_words()
    }

    fn command(&self) -> Cmd {
        let first = &*self.calls[0].request;
        let requests = || self.calls.iter().map(|call| &*call.request);
        let (shared_keys, shared_args) = first.script.shape().shared();
        let (own_keys, own_args) = first.own_words();
        let words = shared_keys + shared_args + self.decisions * (own_keys + own_args);
        let mut command = Cmd::with_capacity(4 + words, 256 + first.keys.bytes.len() + self.bytes);
        command.arg("EVALSHA").arg(first.script.sha());
        command.arg(shared_keys + self.decisions * own_keys);
        first.keys.range(0..shared_keys).for_each(|key| _ = command.arg(key));
        for request in requests() {
            request.keys.range(shared_keys..request.keys.len()).for_each(|key| _ = command.arg(key));
        }
        match first.script.shape() {
            Shape::Each => {
                requests().flat_map(|request| request.args.all()).for_each(|arg| _ = command.arg(arg));
                command.arg(self.decisions);
            }
            Shape::Lane { .. } => {
                command.arg(self.decisions);
                let newest = &self.calls[self.calls.len() - 1].request;
                newest.args.range(0..shared_args).for_each(|arg| _ = command.arg(arg));
                for request in requests() {
                    request.args.range(shared_args..request.args.len()).for_each(|arg| _ = command.arg(arg));
                }
            }
        }
        command
    }

    fn answer(self, reply: Value, unconfirmed: Option<&Answered>) {
        let tell = |call: Call, answered: Answered| {
            let answered = match (answered, unconfirmed) {
                // A script may refuse one of many calls.
                (Answered::Value(Value::ServerError(error)), _) => Answered::Refused(error),
                (Answered::Value(_), Some(instead)) if call.request.confirm => instead.clone(),
                (answered, _) => answered,
            };
            // Whoever does not wait any more counts it as lost.
            let _ = call.answer.send(answered);
        };
        if let Value::ServerError(error) = reply {
            self.calls.into_iter().for_each(|call| tell(call, Answered::Refused(error.clone())));
            return;
        }
        match reply {
            Value::Array(answers) if answers.len() == self.decisions => {
                let mut answers = answers.into_iter();
                for call in self.calls {
                    let mine = answers.by_ref().take(call.request.decisions);
                    let answer = match call.request.decisions {
                        1 => mine.last().expect("there is one for each decision"),
                        _ => Value::Array(mine.collect()),
                    };
                    tell(call, Answered::Value(answer));
                }
            }
            other => {
                let why = format!("answered {} calls with {other:?} instead of one value for each", self.decisions);
                self.calls.into_iter().for_each(|call| tell(call, Answered::Broken(why.clone())));
            }
        }
    }
}
