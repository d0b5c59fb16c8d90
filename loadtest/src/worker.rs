//! The run itself: threads, each with its connections, its part of the schedule
//! and its part of the facts.
//!
//! **Invariant:** latency is measured from when a request was *due*, not from
//! when a connection was free for it; workers share nothing while they run.

use crate::client::{CallError, Connection, Request, Target};
use crate::facts::{Answer, Facts, HoldState, Pair};
use crate::gifts::{GiftAnswer, Step, StepRequest};
use crate::group_buy::{GroupAnswer, Turn};
use crate::interrupt::Interrupt;
use crate::pacer::Pacer;
use crate::plan::Plan;
use crate::scenario::Mix;
use crate::schedule::{Backlog, Schedule, Segment, Spacing, Starts};
use crate::tally::{Interval, Tally};
use crate::world::{Action, World};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Write;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Barrier, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Due arrivals are started in steps of this, so that a timer tick starts a few.
const TICK: Duration = Duration::from_micros(50);
/// How often it is looked whether the run goes on, at least.
const LOOK: Duration = Duration::from_millis(100);
const RECONNECT_MIN: Duration = Duration::from_millis(5);
const RECONNECT_MAX: Duration = Duration::from_millis(250);

/// What all workers of a run have in common.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) target: Arc<Target>,
    pub(crate) world: Arc<World>,
    pub(crate) mix: Mix,
    pub(crate) seed: u64,
    pub(crate) workers: u32,
    pub(crate) connections: usize,
    /// The whole run's rates; each worker takes its part.
    pub(crate) segments: Vec<Segment>,
    pub(crate) poisson: bool,
    pub(crate) in_flight_max: usize,
    pub(crate) timeout: Duration,
    pub(crate) interrupt: Arc<Interrupt>,
    /// Raised while the chaos command has the server down.
    pub(crate) outage: AtomicBool,
    /// Workers have their connections; then `start` is set; then they go.
    pub(crate) barrier: Barrier,
    pub(crate) start: OnceLock<Instant>,
}

/// What a worker hands back.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) facts: Facts,
    pub(crate) starts: Starts,
    pub(crate) tally: Tally,
}

/// Runs worker number `worker` on this thread to the end of the schedule.
pub(crate) fn work(run: &Arc<Run>, worker: u32, intervals: &Sender<Interval>) -> std::io::Result<Part> {
    let prepared = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        let inside = runtime.enter();
        let pacer = Pacer::new();
        drop(inside);
        Ok((runtime, pacer?))
    });
    if prepared.is_err() {
        // The others wait for everybody.
        run.barrier.wait();
        run.barrier.wait();
    }
    let (runtime, pacer) = prepared?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, work_all(run, worker, pacer, intervals.clone()))
}

async fn work_all(run: &Arc<Run>, worker: u32, pacer: Pacer, intervals: Sender<Interval>) -> std::io::Result<Part> {
    let mut lanes = Vec::new();
    for n in 0..run.connections {
        if n as u32 % run.workers == worker {
            // One that cannot connect tries again when it has something to send.
            lanes.push(Connection::open(&run.target, run.timeout).await.ok());
        }
    }
    run.barrier.wait();
    run.barrier.wait();
    let start = *run.start.get().expect("the start is set between the barriers");
    let state = Rc::new(Worker {
        run: Arc::clone(run),
        start,
        backlog: RefCell::new(backlog(run, worker)),
        waiting: RefCell::new(Vec::new()),
        over: Cell::new(false),
        plan: RefCell::new(Plan::new(run.mix, &run.world, run.seed, worker, run.workers)),
        facts: RefCell::new(Facts { hold_ttl: run.world.hold_ttl, ..Facts::default() }),
        tally: RefCell::new(Tally::new(Some(intervals))),
    });
    let lanes: Vec<_> =
        lanes.into_iter().map(|connection| tokio::task::spawn_local(drive(Rc::clone(&state), connection))).collect();
    let paced = pace(&state, pacer).await;
    for lane in lanes {
        lane.await.map_err(std::io::Error::other)?;
    }
    paced?;
    let state = Rc::into_inner(state).expect("every lane has ended");
    let mut tally = state.tally.into_inner();
    tally.finish(start.elapsed());
    Ok(Part { facts: state.facts.into_inner(), starts: state.backlog.into_inner().starts(), tally })
}

fn backlog(run: &Run, worker: u32) -> Backlog {
    // Of all parts' workers together.
    let (worker, workers) = (run.world.part.worker(worker), run.world.part.workers(run.workers));
    let part = 1.0 / f64::from(workers);
    let segments: Vec<Segment> = run.segments.iter().map(|segment| segment.scaled(part)).collect();
    let spacing = if run.poisson {
        Spacing::Poisson { seed: run.seed ^ u64::from(worker).wrapping_mul(0xD6E8_FEB8_6659_FD93) }
    } else {
        Spacing::Constant { phase: (f64::from(worker) + 0.5) * part }
    };
    let in_flight_max = run.in_flight_max.div_ceil(run.workers as usize);
    Backlog::new(Schedule::new(&segments, spacing), in_flight_max, run.timeout)
}

struct Worker {
    run: Arc<Run>,
    start: Instant,
    backlog: RefCell<Backlog>,
    /// Lanes without anything to do.
    waiting: RefCell<Vec<Waker>>,
    over: Cell<bool>,
    plan: RefCell<Plan>,
    facts: RefCell<Facts>,
    tally: RefCell<Tally>,
}

impl Worker {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits for an arrival that is due: its intended time. `None`: the run is over.
    async fn next_start(&self) -> Option<Duration> {
        poll_fn(|cx| {
            let mut backlog = self.backlog.borrow_mut();
            if let Some(due_ns) = backlog.start(self.now().as_nanos() as u64) {
                return Poll::Ready(Some(Duration::from_nanos(due_ns)));
            }
            if self.over.get() || backlog.is_exhausted() {
                return Poll::Ready(None);
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn wake(&self, lanes: usize) {
        let mut waiting = self.waiting.borrow_mut();
        let keep = waiting.len().saturating_sub(lanes);
        waiting.drain(keep..).for_each(Waker::wake);
    }
}

/// Wakes as many lanes as arrivals are due, when they are due.
async fn pace(worker: &Worker, mut pacer: Pacer) -> std::io::Result<()> {
    let mut slept = Ok(());
    let mut give_up_at = None;
    while slept.is_ok() {
        let now = worker.now();
        if let Some(after) = worker.run.interrupt.after(worker.start) {
            worker.backlog.borrow_mut().stop(after.as_nanos() as u64);
            break;
        }
        let due = worker.backlog.borrow_mut().admit(now.as_nanos() as u64);
        worker.wake(due);
        let next_due_ns = worker.backlog.borrow().next_due_ns();
        let pause = if let Some(next_ns) = next_due_ns {
            Duration::from_nanos(next_ns).saturating_sub(worker.now()).max(TICK)
        } else {
            // All have come; what waits has as long as a caller is patient.
            let give_up_at = *give_up_at.get_or_insert(now + worker.run.timeout);
            if worker.backlog.borrow().is_exhausted() || now >= give_up_at {
                break;
            }
            Duration::from_millis(1)
        };
        // Seconds without answers are told as well.
        slept = pacer.sleep(pause.min(LOOK)).await;
        worker.tally.borrow_mut().roll_to(worker.now());
    }
    worker.backlog.borrow_mut().close(worker.now().as_nanos() as u64);
    worker.over.set(true);
    worker.wake(usize::MAX);
    slept
}

/// One connection: takes what is due, asks, records; reconnects after failures.
async fn drive(worker: Rc<Worker>, mut connection: Option<Connection>) {
    let mut line = Line::default();
    while let Some(due) = worker.next_start().await {
        let timeout = worker.run.timeout;
        let connected = reconnect(&worker, &mut connection, due + timeout).await;
        let now = worker.now();
        let action = {
            let facts = worker.facts.borrow();
            worker.plan.borrow_mut().next(&worker.run.world, &facts, now)
        };
        let result = match (connected, connection.as_mut()) {
            (Ok(()), Some(open)) => {
                line.compose(&worker, action);
                busy(&worker, action, true);
                let result = open.exchange(&line.request, timeout).await;
                busy(&worker, action, false);
                result
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => unreachable!("reconnecting leaves a connection or an error"),
        };
        let body = connection.as_ref().map_or(&[][..], Connection::body);
        let exchange = Exchange { action, due, sent: now, answered: worker.now() };
        record(&worker, &exchange, result, body);
        worker.backlog.borrow_mut().finish();
    }
}

fn busy(worker: &Worker, action: Action, begins: bool) {
    if let Action::GrabUnit(pair) | Action::ClaimUnit(pair) | Action::ReleaseUnit(pair) = action {
        let busy = &mut worker.facts.borrow_mut().busy;
        let changed = if begins { busy.insert(pair) } else { busy.remove(&pair) };
        assert!(changed, "one request at a time for a unit");
    }
}

/// Leaves a usable connection, trying with growing pauses until `until`.
async fn reconnect(worker: &Worker, connection: &mut Option<Connection>, until: Duration) -> Result<(), CallError> {
    if let Some(open) = connection {
        if open.is_usable().await {
            return Ok(());
        }
        *connection = None;
    }
    let mut pause = RECONNECT_MIN;
    loop {
        match Connection::open(&worker.run.target, worker.run.timeout).await {
            Ok(open) => {
                *connection = Some(open);
                return Ok(());
            }
            Err(error) if worker.now() + pause >= until || worker.over.get() => return Err(error),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

/// Buffers for composing a request, kept from one to the next.
#[derive(Default)]
struct Line {
    path: String,
    body: Vec<u8>,
    request: Vec<u8>,
    step: StepRequest,
}

impl Line {
    fn compose(&mut self, worker: &Worker, action: Action) {
        use std::fmt::Write as _;
        let world = &worker.run.world;
        let tag = &world.tag;
        if let Action::Gift(life) = action {
            return self.compose_step(worker, life);
        }
        if let Action::Gather(life) = action {
            return self.compose_turn(worker, life);
        }
        self.path.clear();
        self.body.clear();
        let user = match action {
            Action::GrabShare((envelope, user)) => {
                let id = &world.envelopes[envelope as usize].id;
                self.path.extend(["/v1/envelopes/", id, "/grab"]);
                Some(user)
            }
            Action::ClaimShare((envelope, user)) => {
                let id = &world.envelopes[envelope as usize].id;
                self.path.extend(["/v1/envelopes/", id, "/claim"]);
                Some(user)
            }
            Action::GrabUnit((item, user)) => {
                self.path.extend(["/v1/items/", &world.items[item as usize].id, "/grab"]);
                let _ = write!(self.body, "{{\"user\":\"u{tag}-{user}\",\"quantity\":1}}");
                None
            }
            Action::ClaimUnit(pair) | Action::ReleaseUnit(pair) => {
                let facts = worker.facts.borrow();
                let id = facts.holds.get(&pair).map_or("", |hold| &*hold.id);
                let verb = if matches!(action, Action::ClaimUnit(_)) { "/claim" } else { "/release" };
                self.path.extend(["/v1/holds/", id, verb]);
                Some(pair.1)
            }
            Action::ReadWallet(user) => {
                let _ = write!(self.path, "/v1/wallets/u{tag}-{user}");
                None
            }
            Action::Gift(_) | Action::Gather(_) => unreachable!("composed above"),
        };
        if let Some(user) = user {
            let _ = write!(self.body, "{{\"user\":\"u{tag}-{user}\"}}");
        }
        let body = (!self.body.is_empty()).then_some(&*self.body);
        let request = Request { path: &self.path, idempotency_key: None, body };
        worker.run.target.compose(&mut self.request, &request);
    }

    fn compose_step(&mut self, worker: &Worker, life: u32) {
        let (world, facts) = (&worker.run.world, worker.facts.borrow());
        let giving = world.giving.as_ref().expect("a life is of a run in which something is given");
        let step = facts.next_step(world, giving, life).expect("a life that is planned goes on");
        let id = facts.gifts.get(&life).map_or("", |known| &*known.id);
        self.step.compose(world, giving, life, step, id);
        self.send_step(worker);
    }

    fn compose_turn(&mut self, worker: &Worker, life: u32) {
        let (world, facts) = (&worker.run.world, worker.facts.borrow());
        let gathering = world.gathering.as_ref().expect("a group is of a run in which something is bought together");
        let (nth, id) = facts.gatherings.get(&life).map_or((0, ""), |known| (known.done, &*known.id));
        self.step.compose_turn(world, gathering, (life, nth), id);
        self.send_step(worker);
    }

    fn send_step(&mut self, worker: &Worker) {
        let StepRequest { path, key, body } = &self.step;
        let request = Request { path, idempotency_key: Some(key), body: Some(body.as_bytes()) };
        worker.run.target.compose(&mut self.request, &request);
    }
}

#[derive(Clone, Copy)]
struct Exchange {
    action: Action,
    due: Duration,
    sent: Duration,
    answered: Duration,
}

fn record(worker: &Worker, exchange: &Exchange, result: Result<u16, CallError>, body: &[u8]) {
    let mut tally = worker.tally.borrow_mut();
    let outage = worker.run.outage.load(Ordering::Relaxed);
    if let Action::Gift(life) = exchange.action {
        drop(tally);
        return record_gift(worker, exchange, life, result, body);
    }
    if let Action::Gather(life) = exchange.action {
        drop(tally);
        return record_group(worker, exchange, life, result, body);
    }
    let unanswered = match result {
        Ok(200) => match serde_json::from_slice::<Answer<'_>>(body) {
            Ok(answer) => {
                tally.answered(exchange.due, exchange.sent, exchange.answered);
                drop(tally);
                return outcome(worker, exchange, &answer);
            }
            Err(error) => {
                let start = String::from_utf8_lossy(&body[..body.len().min(200)]);
                tally.error("unreadable_answer", outage, || format!("{error} in {start}"));
                true
            }
        },
        Ok(status) => {
            tally.refused(status, body, outage);
            // Below 500 (but for "too many") the server says that nothing was done.
            status >= 500 || status == 429
        }
        Err(error) => {
            tally.error(error.kind(), outage, || error.to_string());
            !matches!(error, CallError::Unconnected(_))
        }
    };
    if unanswered {
        remember_unknown(&mut worker.facts.borrow_mut(), exchange);
    }
}

fn remember_unknown(facts: &mut Facts, exchange: &Exchange) {
    match exchange.action {
        Action::GrabShare(pair) => facts.grab_unknown(pair),
        Action::ClaimShare(pair) => facts.share_claim_unknown(pair),
        Action::GrabUnit(pair) => facts.unit_grab_unknown(pair, exchange.sent),
        Action::ClaimUnit(pair) => facts.unit_follow_up(pair, HoldState::ClaimUnknown),
        Action::ReleaseUnit(pair) => facts.unit_follow_up(pair, HoldState::ReleaseUnknown),
        Action::ReadWallet(_) | Action::Gift(_) | Action::Gather(_) => {}
    }
}

/// What became of a step of a gift's life; the life goes on after any answer but a refusal.
fn record_gift(worker: &Worker, exchange: &Exchange, life: u32, result: Result<u16, CallError>, body: &[u8]) {
    let outage = worker.run.outage.load(Ordering::Relaxed);
    let world = &worker.run.world;
    let giving = world.giving.as_ref().expect("a life is of a run in which something is given");
    let mut tally = worker.tally.borrow_mut();
    let mut facts = worker.facts.borrow_mut();
    let Some(step) = facts.next_step(world, giving, life) else { return };
    let is_unknown = match result {
        Ok(status @ (200 | 201)) => match serde_json::from_slice::<GiftAnswer<'_>>(body) {
            Ok(answer) => {
                tally.answered(exchange.due, exchange.sent, exchange.answered);
                tally.outcome("gift", answer.state);
                if step == Step::Make {
                    tally.win(exchange.answered);
                }
                facts.gift_stepped(world, giving, life, &answer);
                false
            }
            Err(error) => {
                tally.error("unreadable_answer", outage, || format!("{status}: {error}"));
                true
            }
        },
        Ok(status) => {
            tally.refused(status, body, outage);
            let is_again = status >= 500 || status == 429;
            if !is_again {
                facts.gift_refused(world, giving, life, status, &String::from_utf8_lossy(body));
                return;
            }
            true
        }
        Err(error) => {
            tally.error(error.kind(), outage, || error.to_string());
            true
        }
    };
    if is_unknown {
        facts.gift_unknown(life);
    }
    if facts.next_step(world, giving, life).is_some() {
        worker.plan.borrow_mut().on_gift(life, exchange.answered);
    }
}

/// What became of a turn of a group's life; the life goes on after any answer but a refusal.
fn record_group(worker: &Worker, exchange: &Exchange, life: u32, result: Result<u16, CallError>, body: &[u8]) {
    let outage = worker.run.outage.load(Ordering::Relaxed);
    let world = &worker.run.world;
    let gathering = world.gathering.as_ref().expect("a group is of a run in which something is bought together");
    let mut tally = worker.tally.borrow_mut();
    let mut facts = worker.facts.borrow_mut();
    let Some(turn) = facts.next_turn(world, gathering, life) else { return };
    match result {
        Ok(status @ (200 | 201)) => match serde_json::from_slice::<GroupAnswer<'_>>(body) {
            Ok(answer) => {
                tally.answered(exchange.due, exchange.sent, exchange.answered);
                tally.outcome("group", answer.name());
                if turn == Turn::Open {
                    tally.win(exchange.answered);
                }
                facts.group_turned(world, gathering, life, &answer);
            }
            Err(error) => {
                tally.error("unreadable_answer", outage, || format!("{status}: {error}"));
                facts.group_unknown(life);
            }
        },
        Ok(status) => {
            tally.refused(status, body, outage);
            if status < 500 && status != 429 {
                facts.group_refused(world, gathering, life, status, &String::from_utf8_lossy(body));
                return;
            }
            facts.group_unknown(life);
        }
        Err(error) => {
            tally.error(error.kind(), outage, || error.to_string());
            facts.group_unknown(life);
        }
    }
    if facts.next_turn(world, gathering, life).is_some() {
        worker.plan.borrow_mut().on_group(life, exchange.answered);
    }
}

fn outcome(worker: &Worker, exchange: &Exchange, answer: &Answer<'_>) {
    let mut facts = worker.facts.borrow_mut();
    let mut plan = worker.plan.borrow_mut();
    let mut tally = worker.tally.borrow_mut();
    let world = &worker.run.world;
    let now = exchange.answered;
    let replayed = answer.replayed == Some(true);
    let share_name = |pair: Pair| move || world.share_name(pair);
    let unit_name = |pair: Pair| move || world.unit_name(pair);
    match (exchange.action, answer.outcome) {
        (Action::GrabShare(pair), "won") => {
            tally.outcome("grab", if replayed { "won_again" } else { "won" });
            let (Some(share), Some(amount)) = (answer.share, answer.amount) else {
                facts.grab_unknown(pair);
                facts.differences.add(format!("{}: won without share or amount", world.share_name(pair)));
                return;
            };
            if facts.won(pair, share, amount, share_name(pair)) {
                tally.win(now);
                plan.on_win(pair);
            }
        }
        (Action::GrabShare(pair), other) => {
            tally.outcome("grab", other);
            if other == "sold_out" {
                tally.sold_out(now);
            }
            facts.refused(pair, other, share_name(pair));
        }
        (Action::ClaimShare(pair), "claimed") => {
            tally.outcome("claim", "claimed");
            facts.share_claimed(pair, answer.amount.unwrap_or(0), share_name(pair));
        }
        (Action::ClaimShare(pair), other) => {
            tally.outcome("claim", other);
            facts.refused(pair, other, share_name(pair));
        }
        (Action::GrabUnit(pair), "held") => {
            tally.outcome("unit", if replayed { "held_again" } else { "held" });
            if facts.held(pair, answer.hold.unwrap_or(""), exchange.sent, now, unit_name(pair)) {
                tally.win(now);
                plan.on_hold(pair, now);
            }
        }
        (Action::GrabUnit(pair), other) => {
            tally.outcome("unit", other);
            if other == "sold_out" {
                tally.sold_out(now);
            }
            facts.unit_refused(pair, other, now, unit_name(pair));
        }
        (Action::ClaimUnit(pair), "claimed") => {
            tally.outcome("unit", "claimed");
            let order = answer.order.unwrap_or("").into();
            facts.unit_follow_up(pair, HoldState::Claimed { order });
        }
        (Action::ReleaseUnit(pair), "released") => {
            tally.outcome("unit", "released");
            facts.unit_follow_up(pair, HoldState::Released);
        }
        (Action::ClaimUnit(pair) | Action::ReleaseUnit(pair), other) => {
            tally.outcome("unit_follow_up", other);
            facts.unit_refused(pair, other, now, unit_name(pair));
        }
        (Action::ReadWallet(_), _) => tally.outcome("wallet", "read"),
        (Action::Gift(_) | Action::Gather(_), _) => unreachable!("what becomes of a life is recorded for itself"),
    }
}
