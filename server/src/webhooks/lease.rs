//! Which server delivers to an endpoint: the one that stands in its note.
//!
//! **Invariant:** who takes the place of another has changed the note. So what that one
//! still does to it comes to nothing.
//!
//! No clocks are compared: a server that has ended is one whose note has not changed for
//! as long as another has looked at it.

use super::deliver::{LOOK_EVERY, Worker};
use super::record::{Endpoint, Holder};
use super::shelf;
use hongbao_engine::backend::{Backend, Result};
use tokio::time::{Instant, sleep};

impl<B: Backend> Worker<B> {
    /// Changes the endpoint, unless another server delivers now.
    pub(super) async fn change(&self, mut change: impl FnMut(&mut Endpoint) -> Option<()>) -> Result<()> {
        let changed = shelf::update(&self.server, self.id, |it| if self.is_mine(it) { change(it) } else { None });
        changed.await.map(drop)
    }

    /// Notes what has happened, again and again until it stands there: what is not noted would be sent again,
    /// all the time while a disk is full.
    pub(super) async fn noted<T, F: Future<Output = Result<T>>>(&self, mut note: impl FnMut() -> F) -> Result<T> {
        let mut is_told = false;
        loop {
            let error = match note().await {
                Ok(noted) => return Ok(noted),
                Err(error) => error,
            };
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(id = %self.id, %error, "a webhook is sent nothing more until it can be noted what it has taken");
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = self.server.stop.cancelled() => return Err(error),
            }
        }
    }

    fn is_mine(&self, endpoint: &Endpoint) -> bool {
        let webhooks = self.webhooks();
        !webhooks.is_shared || endpoint.holder.is_some_and(|holder| holder.server == webhooks.server)
    }

    /// Whether this server delivers; takes the place of one that does not stir.
    pub(super) async fn holds(&mut self, endpoint: &Endpoint) -> Result<bool> {
        let pace = self.webhooks().pace;
        if self.is_mine(endpoint) {
            self.other = None;
            if self.webhooks().is_shared && self.beat_at.elapsed() >= pace.beat_every() {
                return self.beat().await;
            }
            return Ok(true);
        }
        if let Some(holder) = endpoint.holder {
            let since = self.other.filter(|(other, _)| *other == holder).map(|(_, since)| since);
            let since = since.unwrap_or_else(Instant::now);
            self.other = Some((holder, since));
            if since.elapsed() < pace.lease {
                return Ok(false);
            }
            tracing::info!(id = %self.id, "the server that delivered to a webhook is gone; this one goes on");
        }
        let own = Holder { server: self.webhooks().server, beat: 0 };
        let found = endpoint.holder;
        let taken =
            shelf::update(&self.server, self.id, |it| (it.holder == found).then(|| it.holder = Some(own))).await?;
        self.beat_at = Instant::now();
        Ok(taken.is_some())
    }

    /// Shows that this server is there; says whether it still delivers.
    pub(super) async fn beat(&mut self) -> Result<bool> {
        self.beat_at = Instant::now();
        let own = self.webhooks().server;
        let beaten = shelf::update(&self.server, self.id, |it| {
            let holder = it.holder.as_mut().filter(|holder| holder.server == own)?;
            holder.beat += 1;
            Some(())
        });
        Ok(beaten.await?.is_some())
    }

    /// Lets another server go on at once.
    pub(super) async fn release(&self) {
        if self.webhooks().is_shared {
            let released = self.change(|it| {
                it.holder = None;
                Some(())
            });
            if let Err(error) = released.await {
                tracing::debug!(%error, id = %self.id, "a webhook was not let go of; another server waits a moment");
            }
        }
    }
}
