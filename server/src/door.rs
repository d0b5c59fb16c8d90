//! The door every request passes on its way in and out: it sheds what is too
//! much, checks the key, gives the request its id, and on the way out writes
//! problems and counts.
//!
//! It is a handler around a handler and not a layer, since every layer costs each
//! request allocations.
//!
//! **Invariant:** a route that is not [`Class::Open`] is never entered without a
//! key that has a role for it, and whatever leaves with a status of 400 or more is problem+json.

use crate::access::{self, Roles};
use crate::auth::{Caller, Keys};
use crate::faults::{Fault, Faults, Lost, SLOW};
use crate::metrics::{Metrics, RouteMetrics};
use crate::problem::{Code, Problem};
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_CHARS_MAX: usize = 128;
const TEST: HeaderName = HeaderName::from_static("hongbao-test");

/// About how long a request waits that is shed, so that its connection cannot ask for more
/// meanwhile: a refusal costs a third of a grab, and refusals by the ten thousand would
/// leave nothing for whoever was let in. Not among the requests in flight.
const SHED_PAUSE: Duration = Duration::from_millis(100);

/// How a route is treated when there is too much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Needs no key and is never shed: health, metrics, documentation.
    Open,
    /// Moves money or goods to whom they belong: has a reserve of its own.
    Settling,
    /// Everything else; shed first.
    Ordinary,
    /// Waits for what happens: has bounded places of its own, and none among the
    /// requests in flight.
    Waiting,
}

/// Counts requests in flight and says when there are too many.
pub struct Gate {
    in_flight: AtomicUsize,
    ordinary_max: usize,
    settling_max: usize,
}

impl Gate {
    /// A gate for `max` requests at once, and a quarter more that settle.
    pub fn new(max: usize) -> Gate {
        Gate { in_flight: AtomicUsize::new(0), ordinary_max: max, settling_max: max + max.div_ceil(4) }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn is_open_to(&self, class: Class, in_flight: usize) -> bool {
        match class {
            Class::Open | Class::Waiting => true,
            Class::Settling => in_flight < self.settling_max,
            Class::Ordinary => in_flight < self.ordinary_max,
        }
    }
}

/// What all doors share.
pub struct House {
    /// The keys that open.
    pub keys: Keys,
    /// How many may be inside.
    pub gate: Gate,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// What is told to go wrong, if this is a test, as all answers then say.
    pub faults: Option<Faults>,
}

impl House {
    /// A house with nobody in it.
    pub fn new(keys: Keys, in_flight_max: usize, metrics: Arc<Metrics>, test: bool) -> House {
        House { keys, gate: Gate::new(in_flight_max), metrics, faults: test.then(Faults::default) }
    }
}

/// A door, to be put in front of the handlers of one route.
#[derive(Clone)]
pub struct Door(Arc<Post>);

struct Post {
    house: Arc<House>,
    class: Class,
    allowed: Roles,
    path: &'static str,
    metrics: Arc<RouteMetrics>,
}

impl Door {
    /// A door for `method path`.
    pub fn new(house: &Arc<House>, class: Class, method: &'static str, path: &'static str) -> Door {
        let metrics = house.metrics.route(method, path);
        let allowed = match class {
            Class::Open => Roles::NONE,
            Class::Settling | Class::Ordinary | Class::Waiting => access::allowed(method, path),
        };
        Door(Arc::new(Post { house: house.clone(), class, allowed, path, metrics }))
    }

    /// `handler` behind this door.
    pub fn before<H>(&self, handler: H) -> Guarded<H> {
        Guarded { post: self.0.clone(), handler }
    }
}

/// A handler behind its door.
#[derive(Clone)]
pub struct Guarded<H> {
    post: Arc<Post>,
    handler: H,
}

impl<T, S, H> Handler<T, S> for Guarded<H>
where
    H: Handler<T, S, Future: Unpin>,
{
    type Future = Passage<H::Future>;

    fn call(self, mut request: Request, state: S) -> Self::Future {
        let mut start = Instant::now();
        let (mut inside, before) = Inside::step_in(self.post);
        let id = Id::of(request.headers());
        let is_shed = !inside.post.house.gate.is_open_to(inside.post.class, before);
        let admitted = if is_shed { Err(inside.post.shed()) } else { inside.post.admit(request.headers()) };
        let answer = admitted.map(|caller| {
            request.extensions_mut().insert(Visit { caller, template: inside.post.path, id: id.clone() });
            self.handler.call(request, state)
        });
        let mut until = inside.post.is_befallen_by(Fault::Slow).then(|| Box::pin(sleep(SLOW)));
        if is_shed {
            inside.step_out();
            let pause = SHED_PAUSE.mul_f64(0.5 + rand::random::<f64>());
            until = Some(Box::pin(sleep(pause)));
            // What it took is told, and not how long it was kept.
            start += pause;
        }
        Passage { answer, inside, id, start, until }
    }
}

/// A request on its way through a door: the handler's answer to come, or why
/// there is none.
pub struct Passage<F> {
    answer: Result<F, Problem>,
    inside: Inside,
    id: Id,
    start: Instant,
    /// When it goes on, if it is told to be slow.
    until: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = Response> + Unpin> Future for Passage<F> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let Passage { answer, inside: Inside { post, .. }, id, start, until } = self.get_mut();
        if let Some(sleep) = until {
            ready!(sleep.as_mut().poll(context));
            *until = None;
        }
        let mut response = match answer {
            Ok(answer) => ready!(Pin::new(answer).poll(context)),
            Err(problem) => post.tell(problem, id),
        };
        post.see_off(&mut response, id);
        post.metrics.answered(response.status(), start.elapsed());
        if post.is_befallen_by(Fault::LoseReply) {
            response.extensions_mut().insert(Lost);
        }
        Poll::Ready(response)
    }
}

/// A place among the requests in flight, given back when dropped: a caller that
/// hangs up does so by dropping the whole request.
struct Inside {
    post: Arc<Post>,
    counts: usize,
}

impl Inside {
    /// Counts one more, and says how many there were before.
    fn step_in(post: Arc<Post>) -> (Inside, usize) {
        let counts = usize::from(post.class != Class::Waiting);
        let before = post.house.gate.in_flight.fetch_add(counts, Ordering::Relaxed);
        (Inside { post, counts }, before)
    }

    /// Counts no longer.
    fn step_out(&mut self) {
        self.post.house.gate.in_flight.fetch_sub(std::mem::take(&mut self.counts), Ordering::Relaxed);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.step_out();
    }
}

impl Post {
    fn shed(&self) -> Problem {
        self.house.metrics.shed.increment(1);
        Problem::new(Code::Overloaded, "Too many requests at once; ask again in a moment.")
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
        if self.is_befallen_by(Fault::Overloaded) {
            return Err(Problem::new(Code::Overloaded, "A test told this request to be shed; ask again in a moment."));
        }
        match self.class {
            Class::Open => Ok(None),
            Class::Settling | Class::Ordinary | Class::Waiting => {
                let caller = self.house.keys.caller(headers)?;
                match caller.roles().any_of(self.allowed) {
                    true => Ok(Some(caller)),
                    false => Err(access::forbidden(&caller, self.allowed)),
                }
            }
        }
    }

    /// Whether a test told it so. What tests tell is never kept from the server.
    fn is_befallen_by(&self, fault: Fault) -> bool {
        let Some(faults) = &self.house.faults else { return false };
        self.class != Class::Open && !self.path.starts_with("/v1/test/") && faults.befalls(fault)
    }

    fn tell(&self, problem: &Problem, id: &Id) -> Response {
        self.house.metrics.count_problem(problem.code());
        problem.response(id.as_str())
    }

    fn see_off(&self, response: &mut Response, id: &Id) {
        if response.status().as_u16() >= 400 {
            if let Some(problem) = response.extensions_mut().remove::<Problem>() {
                *response = self.tell(&problem, id);
            } else if response.headers().get(CONTENT_TYPE).is_none_or(|it| it != "application/problem+json") {
                let allow = response.headers_mut().remove("allow");
                *response = self.tell(&stray(response.status()), id);
                if let Some(allow) = allow {
                    response.headers_mut().insert("allow", allow);
                }
            }
        }
        mark(response, id, self.house.faults.is_some());
    }
}

/// What is told where something other than our own code refused a request.
fn stray(status: StatusCode) -> Problem {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => Problem::method_not_allowed(),
        status if status.is_client_error() => Problem::not_found(),
        _ => Problem::internal(),
    }
}

/// What the door knows of a request it let in. One value, since each that is
/// put into a request is an allocation.
#[derive(Clone)]
pub struct Visit {
    /// Who calls; nobody where no key is needed.
    pub caller: Option<Caller>,
    /// The template of the route.
    pub template: &'static str,
    id: Id,
}

impl Visit {
    /// The request's id.
    pub fn request_id(&self) -> &str {
        self.id.as_str()
    }
}

#[derive(Clone)]
enum Id {
    Given(HeaderValue),
    Made([u8; 16]),
}

impl Id {
    fn as_str(&self) -> &str {
        match self {
            Id::Given(value) => value.to_str().unwrap_or(""),
            Id::Made(digits) => std::str::from_utf8(digits).expect("hexadecimal digits are ASCII"),
        }
    }

    fn header(&self) -> HeaderValue {
        match self {
            Id::Given(value) => value.clone(),
            Id::Made(digits) => HeaderValue::from_bytes(digits).expect("hexadecimal digits make a header"),
        }
    }
}

/// The answer to what is not let to any door.
pub(crate) fn refuse(problem: &Problem, is_test: bool) -> Response {
    let id = Id::new();
    let mut response = problem.response(id.as_str());
    mark(&mut response, &id, is_test);
    response
}

/// What every answer says.
fn mark(response: &mut Response, id: &Id, is_test: bool) {
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.header());
    if is_test {
        headers.insert(TEST, HeaderValue::from_static("true"));
    }
}

/// A new request id, for what never comes to a door.
pub(crate) fn new_request_id() -> String {
    Id::new().as_str().to_owned()
}

/// Ids that do not repeat within a life of the process, nor, but for one in
/// 2^64, with another's.
static LIFE: LazyLock<u64> = LazyLock::new(rand::random);

/// A thread takes so many numbers at once, so that threads do not wait for each
/// other's cache line with every request.
const NUMBERS_AT_ONCE: u64 = 1024;
static NUMBERS_TAKEN: AtomicU64 = AtomicU64::new(0);
thread_local! {
    static NUMBER: Cell<u64> = const { Cell::new(0) };
}

/// A number that no thread had before.
fn number() -> u64 {
    let last = NUMBER.get();
    let taken = match last % NUMBERS_AT_ONCE {
        0 => NUMBERS_TAKEN.fetch_add(NUMBERS_AT_ONCE, Ordering::Relaxed),
        _ => last,
    };
    NUMBER.set(taken + 1);
    taken
}

impl Id {
    /// The id the caller gave, if it can be repeated without harm, else a new one.
    fn of(headers: &HeaderMap) -> Id {
        let sane = |value: &&HeaderValue| {
            let bytes = value.as_bytes();
            (1..=REQUEST_ID_CHARS_MAX).contains(&bytes.len())
                && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
        };
        headers.get(REQUEST_ID).filter(sane).map_or_else(Id::new, |given| Id::Given(given.clone()))
    }

    fn new() -> Id {
        // A factor that is odd leaves different numbers different, in an order that tells nobody how many there were.
        let number = number().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ *LIFE;
        let mut digits = [0u8; 16];
        for (i, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (60 - 4 * i)) as usize & 15];
        }
        Id::Made(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settling_has_a_reserve_and_health_is_never_shed() {
        let gate = Gate::new(4);
        for (class, in_flight, open) in [
            (Class::Ordinary, 3, true),
            (Class::Ordinary, 4, false),
            (Class::Settling, 4, true),
            (Class::Settling, 5, false),
            (Class::Open, 1_000_000, true),
            (Class::Waiting, 1_000_000, true),
        ] {
            assert_eq!(gate.is_open_to(class, in_flight), open, "{class:?} with {in_flight} in flight");
        }
    }

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        for (given, kept) in [("abc-1.2:3_", true), ("a b", false), ("", false), ("{", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, given.parse().unwrap());
            assert_eq!(Id::of(&headers).as_str() == given, kept, "{given}");
        }
        let first = Id::of(&HeaderMap::new());
        assert_ne!(first.as_str(), Id::of(&HeaderMap::new()).as_str());
        assert_eq!(first.as_str().len(), 16);
    }
}
