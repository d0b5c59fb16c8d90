//! The accept loops: from a listening socket to a router, and an orderly end.
//!
//! Every core has a listening socket of its own on the one port
//! (`SO_REUSEPORT`), since a single accept loop is a limit when connections come
//! and go quickly.
//!
//! **Invariant:** nothing is read from a connection before it has one of a
//! bounded number of places; whatever it does or fails to do, it is gone after a
//! bounded time; and a request that was read is answered before the server
//! stops, unless it takes longer than the drain.
//!
//! **Invariant:** a connection that idles is closed only after its peer had time
//! to send what it was about to send, or was told with an answer.

use crate::door::refuse;
use crate::faults::{Lost, ReplyLost};
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};
use crate::timer::ConnectionTimer;
use crate::wire::Wire;
use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, HOST};
use axum::http::{HeaderMap, HeaderValue, Version};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics::Gauge;
use rustix::net::{self, AddressFamily, SocketType, sockopt};
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Connections the kernel may hold ready for us.
const BACKLOG: i32 = 4096;
/// How long to wait when a connection could not be accepted: for want of file
/// descriptors, mostly, which only others can give back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections may do, and whether their answers say that this is a test.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections open at once.
    pub connections_max: usize,
    /// How long a head may take to arrive; also how long a connection may idle.
    pub head_timeout: Duration,
    /// How long sent bytes may stay unacknowledged before the peer counts as gone.
    pub write_timeout: Duration,
    /// How long requests in flight get to finish when the server stops.
    pub drain: Duration,
    /// How long a connection that idles when the server stops may still ask, at
    /// most half the drain.
    pub last_call: Duration,
    /// Whether what no route answers has `Hongbao-Test` as well.
    pub is_test: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            head_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            last_call: Duration::from_secs(1),
            is_test: false,
        }
    }
}

/// Listens on `address` with one socket a core. Whoever connects waits until
/// [`serve`] takes the sockets.
///
/// # Errors
/// Those of binding, for instance that somebody else listens there.
pub fn listen(address: SocketAddr) -> io::Result<Vec<StdListener>> {
    // With SO_REUSEPORT from the first on, a second server would silently share
    // the port. So the first socket listens alone, which fails if anybody else
    // does, and from then on keeps the port while it lets its sisters in.
    let first = bind(address, false)?;
    net::listen(&first, BACKLOG)?;
    sockopt::set_socket_reuseport(&first, true)?;
    let first = StdListener::from(first);
    let address = first.local_addr()?;
    let sister = |_| {
        let socket = bind(address, true)?;
        net::listen(&socket, BACKLOG)?;
        Ok(StdListener::from(socket))
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::iter::once(Ok(first)).chain((1..cores).map(sister)).collect()
}

/// Why none of some addresses lets itself be listened on, each with its reason.
#[derive(Debug)]
pub struct Refused(Vec<(SocketAddr, io::Error)>);

impl Refused {
    /// Whether one of them would be free if another process let go of it.
    pub fn is_held(&self) -> bool {
        self.0.iter().any(|(_, error)| error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: Vec<_> = self.0.iter().map(|(tried, error)| format!("{tried}: {error}")).collect();
        write!(f, "cannot listen on {}", why.join(", nor on "))
    }
}

/// Listens on the first of `addresses` that lets itself be listened on.
///
/// # Errors
/// Those of all addresses.
pub fn listen_on_first(addresses: &[SocketAddr]) -> Result<Vec<StdListener>, Refused> {
    let mut refused = Vec::new();
    for &address in addresses {
        match listen(address) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => refused.push((address, error)),
        }
    }
    Err(Refused(refused))
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// Serves `router` on `listeners` until `stop` is cancelled, then finishes what
/// is in flight. Must run within a tokio runtime.
///
/// # Errors
/// Those of handing the sockets to the runtime.
pub async fn serve(
    router: Router,
    listeners: Vec<StdListener>,
    limits: Limits,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let connections = TaskTracker::new();
    let loops = TaskTracker::new();
    for listener in listeners {
        listener.set_nonblocking(true)?;
        let acceptor = Acceptor {
            listener: TcpListener::from_std(listener)?,
            router: router.clone(),
            limits,
            metrics: metrics.clone(),
            places: places.clone(),
            connections: connections.clone(),
            stop: stop.clone(),
        };
        loops.spawn(acceptor.run());
    }
    loops.close();
    loops.wait().await;
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "some requests took longer than the drain and were cut off");
    }
    Ok(())
}

struct Acceptor {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Acceptor {
    /// A place is waited for with a connection in hand, not before: a loop that
    /// kept a place for whoever comes would keep it from its sisters' callers.
    async fn run(self) {
        loop {
            let next = async {
                let stream = self.listener.accept().await?.0;
                let place = self.places.clone().acquire_owned().await.expect("the places are never closed");
                Ok::<_, io::Error>((stream, place))
            };
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.take_in_the_last(),
                accepted = next => accepted,
            };
            match accepted {
                Ok((stream, place)) => self.start(stream, place),
                Err(error) => {
                    self.metrics.accept_errors.increment(1);
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Those the kernel has accepted for us would be cut off with the socket.
    fn take_in_the_last(&self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while let Ok(place) = self.places.clone().try_acquire_owned() {
            match self.listener.poll_accept(&mut context) {
                std::task::Poll::Ready(Ok((stream, _))) => self.start(stream, place),
                _ => return,
            }
        }
    }

    fn start(&self, stream: TcpStream, place: OwnedSemaphorePermit) {
        self.metrics.connections.increment(1);
        if let Err(error) = self.prepare(&stream) {
            tracing::debug!(%error, "a connection was gone before it began");
            return;
        }
        let (router, limits, stop) = (self.router.clone(), self.limits, self.stop.clone());
        let open = Open::new(self.metrics.connections_open.clone(), place);
        self.connections.spawn(async move {
            converse(stream, router, limits, stop).await;
            drop(open);
        });
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let unacknowledged_ms = u32::try_from(self.limits.write_timeout.as_millis()).unwrap_or(u32::MAX);
        Ok(sockopt::set_tcp_user_timeout(stream, unacknowledged_ms)?)
    }
}

/// A connection's place, counted for as long as it is taken.
struct Open {
    count: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(count: Gauge, place: OwnedSemaphorePermit) -> Open {
        count.increment(1.0);
        Open { count, _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.decrement(1.0);
    }
}

async fn converse(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    // To call it changes nothing in it, and a clone would count all connections' clones in one place.
    let router = RefCell::new(router);
    let is_last = &AtomicBool::new(false);
    let is_unread = &AtomicBool::new(false);
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let has_body = !request.body().is_end_stream();
        let is_named = names_host(request.version(), request.headers());
        let answer = is_named.then(|| router.borrow_mut().call(request.map(Body::new)));
        async move {
            let mut response = match answer {
                Some(answer) => answer.await.unwrap_or_else(|never| match never {}),
                None => {
                    let detail =
                        "A request has one header Host, with host and port or empty; see RFC 9112, section 3.2.";
                    refuse(&Problem::new(Code::MalformedRequest, detail), limits.is_test)
                }
            };
            is_unread.store(has_body && response.status().is_client_error(), Ordering::Relaxed);
            if is_last.load(Ordering::Relaxed) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            match response.extensions().get::<Lost>() {
                Some(Lost) => Err(ReplyLost),
                None => Ok(response),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(ConnectionTimer::new(limits.head_timeout))
        .header_read_timeout(limits.head_timeout)
        .half_close(true)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Wire::new(stream, limits.is_test, is_unread)), answer);
    let mut connection = pin!(connection);
    let stopped = async {
        stop.cancelled().await;
        is_last.store(true, Ordering::Relaxed);
        tokio::time::sleep(limits.last_call.min(limits.drain / 2)).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Whether a head says for which host it is, as RFC 9112 wants it: HTTP/1.1 must,
/// and nobody may twice, as two that pass a request on could understand two things.
fn names_host(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let is_host = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@');
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => host.as_bytes().iter().all(is_host),
        (Some(_), Some(_)) => false,
    }
}
