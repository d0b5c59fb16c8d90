//! A server in memory that keeps the promises of the API, or breaks those that
//! a test asks it to.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the server does wrong. Counts are of wins: every how manieth.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lies {
    /// A repeat tells another amount.
    pub(crate) changes_amount_every: Option<u64>,
    /// The win is gone once it has been answered.
    pub(crate) forgets_win_every: Option<u64>,
    /// The win gets the share of the one before.
    pub(crate) shares_twice_every: Option<u64>,
    /// Items are held without looking at the stock.
    pub(crate) oversells: bool,
    /// Claimed holds give another order each time.
    pub(crate) changes_orders: bool,
    /// Every key is a wrong one.
    pub(crate) knows_no_key: bool,
    /// It is not in test mode: no lie, but its money is real.
    pub(crate) is_live: bool,
    /// How long each grab takes. No lie either.
    pub(crate) takes: Option<Duration>,
    /// Withdrawals are refused.
    pub(crate) keeps_money: bool,
    /// `balanced: false`.
    pub(crate) unbalanced: bool,
    /// Claims of shares do not reach the wallet.
    pub(crate) keeps_claims: bool,
    /// After this many grabs nothing is answered for a time.
    pub(crate) stalls: Option<(u64, Duration)>,
    /// After this many grabs the file is made. No lie, but something to wait for.
    pub(crate) tells: Option<(u64, PathBuf)>,
    /// Every so manieth grab is done, and the connection closed without an answer.
    pub(crate) loses_replies_every: Option<u64>,
    /// Every so manieth grab is answered 503, and not done.
    pub(crate) sheds_every: Option<u64>,
    /// When the file appears it is removed, and everything is refused for a time.
    pub(crate) outage: Option<(PathBuf, Duration)>,
}

pub(crate) struct Fake {
    pub(crate) url: String,
    server: Arc<Server>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Fake {
    /// Money paid in and not out again.
    pub(crate) fn deposited(&self) -> u64 {
        self.server.state.lock().unwrap().deposited
    }

    /// What the deposits were called.
    pub(crate) fn references(&self) -> Vec<String> {
        self.server.state.lock().unwrap().references.iter().cloned().collect()
    }

    pub(crate) fn envelopes(&self) -> usize {
        self.server.state.lock().unwrap().envelopes.len()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// Starts a server on a free port of this machine.
pub(crate) fn start(lies: Lies) -> Fake {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let server = Arc::new(Server { state: Mutex::default(), lies });
    let served = Arc::clone(&server);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::select! {
                () = accept(&served, listener) => {}
                _ = stopped => {}
            }
        });
    });
    Fake { url: format!("http://{address}"), server, stop: Some(stop), thread: Some(thread) }
}

async fn accept(server: &Arc<Server>, listener: tokio::net::TcpListener) {
    if let Some((file, time)) = server.lies.outage.clone() {
        let server = Arc::clone(server);
        tokio::spawn(async move {
            while !file.exists() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            server.state.lock().unwrap().down_until = Some(Instant::now() + time);
            // Whoever made it sees by this that the outage has begun.
            std::fs::remove_file(&file).unwrap();
        });
    }
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if server.state.lock().unwrap().is_down() {
            continue;
        }
        stream.set_nodelay(true).unwrap();
        let server = Arc::clone(server);
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| serve(Arc::clone(&server), request));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

struct Server {
    state: Mutex<State>,
    lies: Lies,
}

#[derive(Default)]
struct State {
    serial: u64,
    grabs: u64,
    wins: u64,
    wallets: HashMap<String, u64>,
    /// Paid in and not out.
    deposited: u64,
    references: HashSet<String>,
    /// Answers by idempotency key.
    created: HashMap<String, Value>,
    /// Envelope to its sender.
    senders: HashMap<String, String>,
    envelopes: HashMap<String, Envelope>,
    items: HashMap<String, Item>,
    /// Hold to its item.
    holds: HashMap<String, String>,
    orders: HashSet<String>,
    stall_until: Option<Instant>,
    down_until: Option<Instant>,
}

impl State {
    fn is_down(&self) -> bool {
        self.down_until.is_some_and(|until| Instant::now() < until)
    }

    fn id(&mut self, kind: &str) -> String {
        self.serial += 1;
        format!("{kind}_{}", self.serial)
    }
}

struct Envelope {
    total: u64,
    shares: u32,
    next_share: u32,
    claimed: u64,
    winners: HashMap<String, Win>,
    forgotten: HashSet<String>,
}

#[derive(Clone, Copy)]
struct Win {
    serial: u64,
    share: u32,
    claimed: bool,
}

impl Envelope {
    fn amount(&self, share: u32) -> u64 {
        let even = self.total / u64::from(self.shares);
        if share == 0 { self.total - even * u64::from(self.shares - 1) } else { even }
    }
}

struct Item {
    price: u64,
    total: i64,
    free: i64,
    /// User to its hold.
    live: HashMap<String, String>,
    /// Hold to its order.
    sold: HashMap<String, String>,
    released: HashSet<String>,
    buyers: HashSet<String>,
}

struct Lost;

impl std::fmt::Debug for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reply is lost")
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reply is lost")
    }
}

impl std::error::Error for Lost {}

type Reply = Result<(u16, Value), Lost>;

async fn serve(server: Arc<Server>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Lost> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let stall = {
        let state = server.state.lock().unwrap();
        if state.is_down() {
            return Err(Lost);
        }
        state.stall_until
    };
    if let Some(until) = stall {
        tokio::time::sleep_until(until.into()).await;
    }
    if let Some(time) = server.lies.takes.filter(|_| parts.uri.path().ends_with("/grab")) {
        tokio::time::sleep(time).await;
    }
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let path: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    let query = parts.uri.query().unwrap_or("");
    let key = parts.headers.get("idempotency-key").map_or("", |key| key.to_str().unwrap());
    let (status, answer) = server.answer(&path, query, key, &body)?;
    let response = Response::builder().status(status).header("content-type", "application/json");
    let response = if server.lies.is_live { response } else { response.header("hongbao-test", "true") };
    let response = if status == 503 { response.header("retry-after", "1") } else { response };
    Ok(response.body(Full::from(answer.to_string())).unwrap())
}

impl Server {
    fn answer(&self, path: &[&str], query: &str, key: &str, body: &Value) -> Reply {
        let mut state = self.state.lock().unwrap();
        let state = &mut *state;
        let user = || body["user"].as_str().unwrap().to_owned();
        let posted = !body.is_null();
        let answer = match path {
            ["readyz"] => json!({"ready": true}),
            _ if self.lies.knows_no_key => {
                return Ok((401, json!({"title": "Not authorized", "code": "unauthorized", "detail": "no such key"})));
            }
            ["v1", "wallets", user, "deposits"] => {
                let reference = body["reference"].as_str().unwrap().to_owned();
                // The same one again is the same deposit.
                if state.references.insert(reference) {
                    let amount = body["amount"].as_u64().unwrap();
                    *state.wallets.entry((*user).to_owned()).or_default() += amount;
                    state.deposited += amount;
                }
                return Ok((201, json!({})));
            }
            ["v1", "wallets", _, "withdrawals"] if self.lies.keeps_money => {
                return Ok((403, json!({"code": "forbidden", "detail": "the money stays"})));
            }
            ["v1", "wallets", user, "withdrawals"] => {
                let amount = body["amount"].as_u64().unwrap();
                let wallet = state.wallets.entry((*user).to_owned()).or_default();
                *wallet = wallet.checked_sub(amount).unwrap();
                state.deposited -= amount;
                return Ok((201, json!({})));
            }
            ["v1", "wallets", user] => {
                json!({"user": user, "available": state.wallets.get(*user).copied().unwrap_or(0), "held": 0})
            }
            ["v1", "envelopes"] => return Ok((201, once(state, (path[1], key), |state| create_envelope(state, body)))),
            ["v1", "envelopes", id, "cancel"] => {
                let Some(sender) = state.senders.get(*id).cloned() else { return Ok((404, json!({}))) };
                let envelope = state.envelopes.get_mut(*id).unwrap();
                if envelope.next_share == envelope.shares {
                    return Ok((409, json!({"code": "wrong_state", "detail": "sold out"})));
                }
                let left: u64 = (envelope.next_share..envelope.shares).map(|share| envelope.amount(share)).sum();
                envelope.next_share = envelope.shares;
                *state.wallets.entry(sender).or_default() += left;
                json!({"id": id})
            }
            ["v1", "envelopes", id, "grab"] => return self.grab(state, id, &user()),
            ["v1", "grabs"] => {
                let grabs = body["grabs"].as_array().unwrap().iter();
                let results = grabs.map(|one| {
                    let (id, user) = (one["envelope"].as_str().unwrap(), one["user"].as_str().unwrap());
                    self.decide(state, id, user)
                });
                json!({"results": results.collect::<Vec<_>>()})
            }
            ["v1", "envelopes", id, "claim"] => self.claim(state, id, &user()),
            ["v1", "envelopes", id, "grabs"] => list(&state.envelopes[*id], query),
            ["v1", "envelopes", id] => {
                let envelope = &state.envelopes[*id];
                let taken: u64 = (0..envelope.next_share).map(|share| envelope.amount(share)).sum();
                json!({
                    "id": id, "total": envelope.total, "shares": envelope.shares,
                    "remaining_shares": envelope.shares - envelope.next_share,
                    "remaining_amount": envelope.total - taken, "refunded_amount": 0,
                    "claimed_amount": envelope.claimed,
                })
            }
            ["v1", "merchants"] => return Ok((201, json!({}))),
            ["v1", "items"] => return Ok((201, once(state, (path[1], key), |state| create_item(state, body)))),
            ["v1", "items", id, "grab"] => self.hold(state, id, &user()),
            ["v1", "items", id] => {
                let item = &state.items[*id];
                json!({"id": id, "stock": {
                    "total": item.total, "free": item.free, "held": item.live.len(), "sold": item.sold.len(),
                }})
            }
            ["v1", "holds", hold, verb] if posted => self.follow_up(state, hold, verb, &user()),
            ["v1", "orders", order] if state.orders.contains(*order) => json!({"id": order}),
            ["v1", "audit"] => json!({"balanced": !self.lies.unbalanced}),
            _ => return Ok((404, json!({"code": "not_found", "detail": "no such thing"}))),
        };
        Ok((200, answer))
    }

    fn grab(&self, state: &mut State, id: &str, user: &str) -> Reply {
        state.grabs += 1;
        let number = state.grabs;
        let every = |n: Option<u64>| n.is_some_and(|n| number.is_multiple_of(n));
        if let Some((after, file)) = &self.lies.tells
            && state.grabs == *after
        {
            std::fs::write(file, "").unwrap();
        }
        if let Some((after, time)) = self.lies.stalls
            && number == after
        {
            state.stall_until = Some(Instant::now() + time);
        }
        if every(self.lies.sheds_every) {
            return Ok((503, json!({"code": "overloaded", "detail": "<b>too much</b>"})));
        }
        let answer = self.decide(state, id, user);
        if every(self.lies.loses_replies_every) { Err(Lost) } else { Ok((200, answer)) }
    }

    fn decide(&self, state: &mut State, id: &str, user: &str) -> Value {
        let every = |serial: u64, n: Option<u64>| n.is_some_and(|n| serial.is_multiple_of(n));
        let envelope = state.envelopes.get_mut(id).unwrap();
        if let Some(win) = envelope.winners.get(user) {
            let lie = u64::from(every(win.serial, self.lies.changes_amount_every));
            let status = if win.claimed { "claimed" } else { "grabbed" };
            return json!({
                "outcome": "won", "amount": envelope.amount(win.share) + lie, "share": win.share,
                "status": status, "replayed": true,
            });
        }
        if envelope.next_share == envelope.shares || envelope.forgotten.contains(user) {
            return json!({"outcome": "sold_out"});
        }
        state.wins += 1;
        let twice = every(state.wins, self.lies.shares_twice_every) && envelope.next_share > 0;
        let share = if twice { envelope.next_share - 1 } else { envelope.next_share };
        envelope.next_share += u32::from(!twice);
        if every(state.wins, self.lies.forgets_win_every) {
            envelope.forgotten.insert(user.to_owned());
        } else {
            envelope.winners.insert(user.to_owned(), Win { serial: state.wins, share, claimed: false });
        }
        let amount = envelope.amount(share);
        json!({"outcome": "won", "amount": amount, "share": share, "status": "grabbed", "replayed": false})
    }

    fn claim(&self, state: &mut State, id: &str, user: &str) -> Value {
        let envelope = state.envelopes.get_mut(id).unwrap();
        let Some(win) = envelope.winners.get(user).copied() else { return json!({"outcome": "not_won"}) };
        let amount = envelope.amount(win.share);
        if !win.claimed {
            envelope.winners.get_mut(user).unwrap().claimed = true;
            envelope.claimed += amount;
            if !self.lies.keeps_claims {
                *state.wallets.entry(user.to_owned()).or_default() += amount;
            }
        }
        json!({"outcome": "claimed", "amount": amount, "replayed": win.claimed})
    }

    fn hold(&self, state: &mut State, id: &str, user: &str) -> Value {
        let hold = state.id("hold");
        let item = state.items.get_mut(id).unwrap();
        if let Some(live) = item.live.get(user) {
            return json!({"outcome": "held", "hold": live, "quantity": 1, "replayed": true});
        }
        if item.buyers.contains(user) {
            return json!({"outcome": "limit_reached"});
        }
        if item.free == 0 && !self.lies.oversells {
            return json!({"outcome": "sold_out"});
        }
        item.free -= 1;
        item.live.insert(user.to_owned(), hold.clone());
        state.holds.insert(hold.clone(), id.to_owned());
        json!({"outcome": "held", "hold": hold, "quantity": 1, "replayed": false})
    }

    fn follow_up(&self, state: &mut State, hold: &str, verb: &str, user: &str) -> Value {
        let order = state.id("order");
        let item = state.items.get_mut(&state.holds[hold]).unwrap();
        if let Some(known) = item.sold.get(hold) {
            let known = if self.lies.changes_orders { order } else { known.clone() };
            return json!({"outcome": "claimed", "order": known});
        }
        if item.released.contains(hold) {
            return json!({"outcome": "released"});
        }
        item.live.remove(user);
        if verb == "release" {
            item.released.insert(hold.to_owned());
            item.free += 1;
            return json!({"outcome": "released"});
        }
        item.sold.insert(hold.to_owned(), order.clone());
        item.buyers.insert(user.to_owned());
        *state.wallets.get_mut(user).unwrap() -= item.price;
        state.orders.insert(order.clone());
        json!({"outcome": "claimed", "order": order})
    }
}

/// The same key on the same route gets the same answer.
fn once(state: &mut State, (route, key): (&str, &str), make: impl FnOnce(&mut State) -> Value) -> Value {
    if let Some(known) = state.created.get(&format!("{route} {key}")) {
        return known.clone();
    }
    let made = make(state);
    state.created.insert(format!("{route} {key}"), made.clone());
    made
}

fn create_envelope(state: &mut State, body: &Value) -> Value {
    let total = body["total"].as_u64().unwrap();
    let sender = body["sender"].as_str().unwrap();
    *state.wallets.get_mut(sender).unwrap() -= total;
    let id = state.id("env");
    state.senders.insert(id.clone(), sender.to_owned());
    let envelope = Envelope {
        total,
        shares: body["shares"].as_u64().unwrap() as u32,
        next_share: 0,
        claimed: 0,
        winners: HashMap::new(),
        forgotten: HashSet::new(),
    };
    state.envelopes.insert(id.clone(), envelope);
    json!({"id": id})
}

fn create_item(state: &mut State, body: &Value) -> Value {
    let id = state.id("item");
    let stock = body["stock"].as_i64().unwrap();
    let item = Item {
        price: body["price"].as_u64().unwrap(),
        total: stock,
        free: stock,
        live: HashMap::new(),
        sold: HashMap::new(),
        released: HashSet::new(),
        buyers: HashSet::new(),
    };
    state.items.insert(id.clone(), item);
    json!({"id": id})
}

/// A page of grabs by share; the cursor is where to go on, with a character to escape.
fn list(envelope: &Envelope, query: &str) -> Value {
    let parameter =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    let limit: usize = parameter("limit").unwrap().parse().unwrap();
    let after = parameter("cursor").map_or(0, |cursor| cursor.strip_suffix("%3D").unwrap().parse::<usize>().unwrap());
    let sorted: BTreeMap<(u32, &str), &Win> =
        envelope.winners.iter().map(|(user, win)| ((win.share, user.as_str()), win)).collect();
    let page = sorted.iter().skip(after).take(limit).map(|((share, user), win)| {
        let status = if win.claimed { "claimed" } else { "grabbed" };
        json!({"user": user, "amount": envelope.amount(*share), "share": share, "status": status})
    });
    let end = after + limit;
    let next = (end < sorted.len()).then(|| format!("{end}="));
    json!({"grabs": page.collect::<Vec<_>>(), "next_cursor": next})
}
