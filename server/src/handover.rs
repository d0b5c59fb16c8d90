//! A start right after another process's end: what that one has not let go of
//! yet is waited for.
//!
//! A process that was killed keeps its port and its lock until the kernel has
//! taken its memory back, which on a busy machine takes a second or two.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The time in which another process may let go of what is needed.
pub struct Handover {
    until: Instant,
    is_told: bool,
}

impl Handover {
    /// From now on, for `patience`.
    pub fn within(patience: Duration) -> Handover {
        Handover { until: Instant::now() + patience, is_told: false }
    }

    /// Attempts it until it succeeds, fails for another reason than that somebody
    /// has it, or the time is over. Says in the log, once, that it waits.
    ///
    /// # Errors
    /// That of the last attempt.
    pub fn take<T, E: Display>(
        &mut self,
        mut attempt: impl FnMut() -> Result<T, E>,
        is_held: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        loop {
            match attempt() {
                Err(error) if is_held(&error) && Instant::now() < self.until => {
                    if !self.is_told {
                        self.is_told = true;
                        let patience_s = self.until.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
                        tracing::warn!("{error}; waiting up to {patience_s} s for a process that is ending");
                    }
                    thread::sleep(PAUSE);
                }
                done => return done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_held_is_tried_again() {
        for (errors, patience_s, expected) in [
            (&["held", "held"][..], 600, Ok(3)),
            (&["held", "broken", "held"], 600, Err("broken")),
            (&["held", "held"], 0, Err("held")),
        ] {
            let mut attempts = 0;
            let attempt = || {
                attempts += 1;
                errors.get(attempts - 1).map_or(Ok(attempts), |error| Err(*error))
            };
            let done = Handover::within(Duration::from_secs(patience_s)).take(attempt, |error| *error == "held");
            assert_eq!(done, expected, "{errors:?} within {patience_s} s");
        }
    }
}
