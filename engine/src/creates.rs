//! How many envelopes a sender may make in a day.
//!
//! Neither a record nor a row of its own says it: envelopes are listed by sender and
//! time, and that list is counted. So the cap may be set, changed and left out
//! from start to start.
//!
//! **Invariant:** an envelope counts in the day of its `created_at`, whenever it is
//! decided, and only if it was made: what is refused or repeated does not count.

use crate::command::Refusal;
use crate::types::{Lsn, Timestamp};
use std::sync::Arc;

/// A day, as people count days where the deployment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    /// When it begins.
    pub from: Timestamp,
    /// When the next one begins.
    pub to: Timestamp,
    /// The same for people to read.
    pub ends: String,
}

/// Says in which day a time is. The same time is always in the same day, and days
/// follow each other without a gap.
pub type DayOf = Arc<dyn Fn(Timestamp) -> Day + Send + Sync>;

/// The cap of an operator.
#[derive(Clone)]
pub struct CreatesCap {
    /// So many at most.
    pub per_day_max: u32,
    /// In which days.
    pub day_of: DayOf,
}

impl CreatesCap {
    /// What it allows a sender who makes an envelope at that time.
    pub(crate) fn at(&self, at: Timestamp) -> Allowance {
        Allowance { most: self.per_day_max, day: (self.day_of)(at) }
    }
}

/// So many envelopes of a sender in one day.
pub(crate) struct Allowance {
    pub(crate) most: u32,
    pub(crate) day: Day,
}

impl Allowance {
    /// The refusal of one more.
    pub(crate) fn refusal(&self) -> Refusal {
        let Allowance { most, day } = self;
        Refusal::invalid(
            "sender",
            format!(
                "has made as many envelopes as it may in a day: creates_per_sender_per_day is {most} here; it may make \
                     more from {} on",
                day.ends
            ),
        )
    }
}

/// What a sender has made in a day; at least the day's cap if more.
#[derive(Clone, Debug)]
pub(crate) struct MadeInDay {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) count: u32,
    /// The last record that changed it; evicted only once that is in the store.
    pub(crate) last_lsn: Lsn,
    /// When it was last needed.
    pub(crate) touched_at: Timestamp,
}

impl MadeInDay {
    pub(crate) fn new(day: &Day, count: u32, touched_at: Timestamp) -> MadeInDay {
        MadeInDay { from: day.from, to: day.to, count, last_lsn: Lsn(0), touched_at }
    }

    pub(crate) fn has(&self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }
}
