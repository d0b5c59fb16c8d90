//! Whether a call has found Redis away, for whoever asks if this engine serves:
//! the sweeper's next tour would tell it seconds later.
//!
//! **Invariant:** an answered call pays one look at a flag.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What calls have found out since Redis was last seen whole.
#[derive(Default)]
pub(super) struct Absence {
    is_noted: AtomicBool,
    /// Why, and when the last call said so.
    noted: Mutex<Option<(String, Instant)>>,
}

impl Absence {
    /// A call found no server that serves it.
    pub(super) fn note(&self, why: &str) {
        *self.noted.lock() = Some((why.to_owned(), Instant::now()));
        self.is_noted.store(true, Ordering::Release);
    }

    /// The server that answers everything has answered.
    pub(super) fn answered(&self) {
        if self.is_noted.load(Ordering::Relaxed) {
            self.clear(Instant::now());
        }
    }

    /// All servers have answered what was asked of them after `began`.
    pub(super) fn all_answered(&self, began: Instant) {
        self.clear(began);
    }

    /// Why Redis is away, if it is.
    pub(super) fn why(&self) -> Option<String> {
        self.noted.lock().as_ref().map(|(why, _)| why.clone())
    }

    /// What was noted later stays.
    fn clear(&self, until: Instant) {
        let mut noted = self.noted.lock();
        if noted.as_ref().is_some_and(|(_, at)| *at <= until) {
            *noted = None;
            self.is_noted.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_lasts_until_redis_has_answered_since() {
        let absence = Absence::default();
        let before = Instant::now();
        absence.note("Redis at a: refused");
        absence.all_answered(before);
        assert_eq!(absence.why().as_deref(), Some("Redis at a: refused"), "a tour that began before says nothing");
        absence.all_answered(Instant::now());
        assert_eq!(absence.why(), None);
        absence.note("Redis at b: refused");
        absence.answered();
        assert_eq!(absence.why(), None);
    }
}
