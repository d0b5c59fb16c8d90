//! What may happen thousands of times a second, told in the log once in a while.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Says when something is to be told again, and how often it happened untold.
pub(crate) struct Seldom {
    every: Duration,
    told: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    pub(crate) const fn every(every: Duration) -> Seldom {
        Seldom { every, told: Mutex::new((None, 0)) }
    }

    /// How often it happened since it was last told, this time too, if it is to be told now.
    pub(crate) fn due(&self) -> Option<u64> {
        let (last, untold) = &mut *self.told.lock();
        *untold += 1;
        if last.is_some_and(|last| last.elapsed() < self.every) {
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_twice_in_a_while_and_nothing_is_left_out_of_the_count() {
        let seldom = Seldom::every(Duration::from_secs(3600));
        assert_eq!([seldom.due(), seldom.due(), seldom.due()], [Some(1), None, None]);
        let always = Seldom { every: Duration::ZERO, ..seldom };
        assert_eq!([always.due(), always.due()], [Some(3), Some(1)]);
    }
}
