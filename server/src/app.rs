//! Every route, and the state its handler works on.
//!
//! **Invariant:** a route exists only by being put into the [`Table`], so each
//! has a door, a class and its metrics, and the list of routes is complete.

use crate::caps::Caps;
use crate::config::Currency;
use crate::door::{Class, Door, House};
use crate::events::{Followers, Pulse};
use crate::faults::Faults;
use crate::metrics::Metrics;
use crate::payments::{PaymentOptions, Payments};
use crate::problem::{Code, Problem};
use crate::relations::MayGive;
use crate::webhooks::{WebhookOptions, Webhooks};
use crate::{
    addresses, auth::Keys, codes, envelopes, events, gift_envelopes, gifts, groups, keys, orders, payments, payouts,
    relations, sale_money, sales, service, wallets, webhooks,
};
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, patch, post};
use hongbao_engine::EngineError;
use hongbao_engine::backend::{self, Backend, OnceKey, Reply};
use hongbao_engine::command::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What handlers work on.
pub struct Server<B> {
    /// The engine.
    pub backend: Arc<B>,
    /// The currency of this deployment.
    pub currency: Currency,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// What no envelope may exceed.
    pub caps: Caps,
    /// Who may give to whom.
    pub may_give: MayGive,
    /// Cancelled when the server is told to stop.
    pub stop: CancellationToken,
    /// Places of those who follow the events.
    pub readers: Arc<Semaphore>,
    /// What wakes them.
    pub pulse: Pulse,
    /// How webhooks are sent.
    pub webhooks: Webhooks,
    /// How payments outside are made.
    pub payments: Payments,
    /// How far those are who follow it.
    pub followers: Arc<Followers>,
    metrics_apart: bool,
    house: Arc<House>,
    /// Turns of commands that take long to decide.
    apart: Arc<Semaphore>,
}

/// So many commands that take long to decide are decided at once: each may take
/// a core for a second and a hundred megabytes.
const APART_MAX: usize = 2;

/// A server's state, as handlers get it.
pub type Shared<B> = Arc<Server<B>>;

/// How a server is set up, apart from its engine.
pub struct Setup {
    /// The currency of this deployment.
    pub currency: Currency,
    /// The key that may do everything.
    pub admin_key: String,
    /// Whether test routes exist and answers say so.
    pub test: bool,
    /// What no envelope may exceed.
    pub caps: Caps,
    /// Who may give to whom.
    pub may_give: MayGive,
    /// How webhooks are sent.
    pub webhooks: WebhookOptions,
    /// How payments outside are made.
    pub payments: PaymentOptions,
    /// Whether the metrics are served by [`admin_app`] and not by [`app`].
    pub metrics_apart: bool,
    /// How many requests may be in flight before some are shed.
    pub in_flight_max: usize,
    /// How many may follow the events at once.
    pub event_readers_max: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
}

impl<B: Backend> Server<B> {
    /// A server in front of `backend`.
    pub fn new(backend: Arc<B>, setup: &Setup) -> Shared<B> {
        let metrics = Arc::new(Metrics::new());
        let keys = Keys::new(&setup.admin_key);
        let house = Arc::new(House::new(keys, setup.in_flight_max, metrics.clone(), setup.test));
        let counted = Arc::downgrade(&house);
        metrics.gauges([("hongbao_http_in_flight", "Requests in flight")], move || {
            [counted.upgrade().map_or(0.0, |house| house.gate.in_flight() as f64)]
        });
        let asked = Arc::downgrade(&backend);
        metrics.gauges([("hongbao_ready", "1 while /readyz says that the server is ready")], move || {
            let is_ready = asked.upgrade().is_some_and(|backend| backend.ready().is_ok());
            [f64::from(u8::from(is_ready))]
        });
        let (currency, body_timeout, caps) = (setup.currency, setup.body_timeout, setup.caps);
        let (metrics_apart, apart) = (setup.metrics_apart, Arc::new(Semaphore::new(APART_MAX)));
        let (stop, pulse) = (CancellationToken::new(), Pulse::default());
        let readers = Arc::new(Semaphore::new(setup.event_readers_max));
        let (places, places_max) = (Arc::downgrade(&readers), setup.event_readers_max);
        metrics.gauges([("hongbao_event_readers", "Requests that wait for events, and streams of them")], move || {
            [places.upgrade().map_or(0.0, |places| (places_max - places.available_permits()) as f64)]
        });
        let webhooks = Webhooks::new(&setup.webhooks, &metrics);
        let payments = Payments::new(&setup.payments, &metrics);
        let followers = Arc::new(Followers::of(pulse.beat()));
        let behind = Arc::clone(&followers);
        let help = "Seconds from what the slowest reader of events was given to what is durable";
        metrics.gauges([("hongbao_event_lag_seconds", help)], move || [behind.lag().as_secs_f64()]);
        Arc::new(Server {
            backend,
            currency,
            metrics,
            body_timeout,
            caps,
            may_give: setup.may_give,
            stop,
            readers,
            pulse,
            webhooks,
            payments,
            followers,
            metrics_apart,
            house,
            apart,
        })
    }
}

impl<B> Server<B> {
    /// The faults it is told to make, if it is for tests.
    pub fn faults(&self) -> Option<&Faults> {
        self.house.faults.as_ref()
    }
}

/// How often a server that is not the only one looks whether keys were made or
/// deleted: so that a deleted one stops working within a second.
const KEYS_FOLLOWED_EVERY: Duration = Duration::from_millis(500);

impl<B: Backend> Server<B> {
    /// The keys that open.
    pub fn keys(&self) -> &Keys {
        &self.house.keys
    }

    /// Follows what other servers in front of the same engine do to keys. As long
    /// as they cannot be read, those that are known go on working.
    pub async fn follow_keys(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEYS_FOLLOWED_EVERY).await;
            if let Err(error) = self.keys().refresh(&*self.backend).await {
                tracing::debug!(%error, "the API keys could not be read");
            }
        }
    }

    /// Executes a command that takes long to decide on a thread of its own, so
    /// that it does not hold up the requests that share this one.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn execute_apart(self: &Arc<Self>, command: Command, once: Option<OnceKey>) -> backend::Result<Reply> {
        let turn = Arc::clone(&self.apart).acquire_owned().await.expect("the turns are never closed");
        let (server, runtime) = (Arc::clone(self), Handle::current());
        let decide = move || {
            let reply = runtime.block_on(server.backend.execute(command, once));
            drop(turn);
            reply
        };
        // It is lost only when the runtime ends before it began.
        tokio::task::spawn_blocking(decide).await.unwrap_or(Err(EngineError::ShuttingDown))
    }
}

/// The routes of `server`, each behind its door.
pub fn app<B: Backend>(server: Shared<B>) -> Router {
    table(&server).finish(server)
}

/// The routes for those who run the server, to be served where only they can reach.
pub fn admin_app<B: Backend>(server: Shared<B>) -> Router {
    service::metrics_routes(service::health_routes(Table::new(&server))).finish(server)
}

/// Method and path of every route, for the documentation to be held against.
pub fn routes<B: Backend>(server: &Shared<B>) -> Vec<(&'static str, &'static str)> {
    table(server).routes
}

fn table<B: Backend>(server: &Shared<B>) -> Table<B> {
    let table = Table::new(server);
    let table = wallets::routes(table);
    let table = envelopes::routes(table);
    let table = payouts::routes(table);
    let table = payments::routes(table);
    let table = addresses::routes(gifts::routes(table));
    let table = groups::routes(table);
    let table = codes::routes(table);
    let table = orders::routes(table);
    let table = relations::routes(table);
    let table = gift_envelopes::routes(table);
    let table = sales::routes(table);
    let table = sale_money::routes(table);
    let table = events::routes(table);
    let table = webhooks::routes(table);
    let table = keys::routes(table);
    let table = service::health_routes(table);
    let table = service::documentation_routes(table);
    let table = if server.metrics_apart { table } else { service::metrics_routes(table) };
    if server.faults().is_some() { service::test_routes(table) } else { table }
}

/// Routes as they are put together.
pub struct Table<B> {
    router: Router<Shared<B>>,
    house: Arc<House>,
    routes: Vec<(&'static str, &'static str)>,
}

impl<B: Backend> Table<B> {
    fn new(server: &Shared<B>) -> Self {
        Table { router: Router::new(), house: server.house.clone(), routes: Vec::new() }
    }

    fn finish(self, server: Shared<B>) -> Router {
        let nowhere = Door::new(&self.house, Class::Open, "any", "none");
        let not_found = async || Problem::new(Code::NotFound, "There is no such path; see /docs.");
        let not_allowed = async || Problem::method_not_allowed();
        self.router
            .fallback(nowhere.before(not_found))
            .method_not_allowed_fallback(nowhere.before(not_allowed))
            .with_state(server)
    }

    /// Adds `GET path`.
    pub fn get<H, T>(self, path: &'static str, class: Class, handler: H) -> Self
    where
        H: Handler<T, Shared<B>, Future: Unpin>,
        T: 'static,
    {
        self.route("GET", path, class, |door| get(door.before(handler)))
    }

    /// Adds `POST path`.
    pub fn post<H, T>(self, path: &'static str, class: Class, handler: H) -> Self
    where
        H: Handler<T, Shared<B>, Future: Unpin>,
        T: 'static,
    {
        self.route("POST", path, class, |door| post(door.before(handler)))
    }

    /// Adds `PATCH path`.
    pub fn patch<H, T>(self, path: &'static str, class: Class, handler: H) -> Self
    where
        H: Handler<T, Shared<B>, Future: Unpin>,
        T: 'static,
    {
        self.route("PATCH", path, class, |door| patch(door.before(handler)))
    }

    /// Adds `DELETE path`.
    pub fn delete<H, T>(self, path: &'static str, class: Class, handler: H) -> Self
    where
        H: Handler<T, Shared<B>, Future: Unpin>,
        T: 'static,
    {
        self.route("DELETE", path, class, |door| delete(door.before(handler)))
    }

    fn route(
        mut self,
        method: &'static str,
        path: &'static str,
        class: Class,
        method_router: impl FnOnce(Door) -> MethodRouter<Shared<B>>,
    ) -> Self {
        let door = Door::new(&self.house, class, method, path);
        self.router = self.router.route(path, method_router(door));
        self.routes.push((method, path));
        self
    }
}
