//! Where ids and the secret parts of seeds come from.

use rand::{Rng, SeedableRng};
use std::sync::atomic::{AtomicBool, Ordering};

/// Fills bytes that nobody can guess. Handed to the engine, so that a
/// simulation can repeat a run.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// The process's cryptographic generator (ChaCha12, reseeded from the operating system).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// A repeatable sequence, for simulations and benches. Everybody can guess it.
pub struct SeededEntropy(parking_lot::Mutex<chacha20::ChaCha12Rng>);

impl SeededEntropy {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> SeededEntropy {
        SeededEntropy(parking_lot::Mutex::new(chacha20::ChaCha12Rng::seed_from_u64(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }
}

static REPEATABLE_USERS: AtomicBool = AtomicBool::new(false);

/// Lets every process put users into the same shards, so that a simulation can
/// be repeated. Called before the first engine is opened, never in production:
/// anybody could choose users that collide.
#[doc(hidden)]
pub fn lay_users_repeatably() {
    REPEATABLE_USERS.store(true, Ordering::Relaxed);
}

pub(crate) fn users_lie_repeatably() -> bool {
    REPEATABLE_USERS.load(Ordering::Relaxed)
}
