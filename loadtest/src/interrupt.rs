//! Ctrl-C: the first one ends the load, and what was acknowledged until then is
//! audited; the second one ends the program.
//!
//! **Invariant:** it is raised once and stays raised.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// What a program that was interrupted ends with, as shells have it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether the run was interrupted, and when.
#[derive(Debug, Default)]
pub(crate) struct Interrupt {
    raised_at: OnceLock<Instant>,
}

impl Interrupt {
    /// One that SIGINT and SIGTERM raise from now on.
    ///
    /// # Errors
    /// Why signals cannot be listened to.
    pub(crate) fn listen() -> std::io::Result<Arc<Interrupt>> {
        let interrupt = Arc::new(Interrupt::default());
        let raised = Arc::clone(&interrupt);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(inside);
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupted.recv() => {}
                        _ = terminated.recv() => {}
                    }
                    raised.raise();
                }
            });
        });
        Ok(interrupt)
    }

    fn raise(&self) {
        if self.raised_at.set(Instant::now()).is_err() {
            eprintln!("hongbao-load: interrupted twice; nothing is audited");
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("hongbao-load: interrupted; what was asked is awaited and audited (again to end at once)");
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised_at.get().is_some()
    }

    /// How long after `start` it was raised, if it was.
    pub(crate) fn after(&self, start: Instant) -> Option<Duration> {
        self.raised_at.get().map(|at| at.saturating_duration_since(start))
    }
}
