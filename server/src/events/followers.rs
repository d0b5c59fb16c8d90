//! How far those who follow the events are behind what is durable.
//!
//! **Invariant:** a follower counts as up to date as long as nothing has become durable since it was
//! given all there was; otherwise it is as far behind as the last of what it was given is old.

use super::pulse::Beat;
use hongbao_engine::feed::EventPage;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long whoever asked for a page and was not at the end is remembered, at least.
const REMEMBERED: Duration = Duration::from_secs(60);

/// All who follow.
pub struct Followers {
    beat: Beat,
    /// The number of who follows next.
    next: AtomicU64,
    open: Mutex<HashMap<u64, Place>>,
    behind: Mutex<Behind>,
}

/// How far one of them has come.
#[derive(Clone, Copy)]
struct Place {
    /// The beat before which it was given everything, if it was.
    end: Option<u64>,
    /// Up to when it was told what happened.
    told: SystemTime,
}

/// Who left without having been given all there was: the most of a minute, and of the one before.
struct Behind {
    since: Instant,
    now: Duration,
    before: Duration,
}

impl Behind {
    fn turn(&mut self) -> &mut Behind {
        let passed = self.since.elapsed();
        if passed >= REMEMBERED {
            self.before = if passed < 2 * REMEMBERED { self.now } else { Duration::ZERO };
            self.now = Duration::ZERO;
            self.since = Instant::now();
        }
        self
    }
}

impl Followers {
    /// Nobody, of a feed with this beat.
    pub(crate) fn of(beat: Beat) -> Followers {
        let behind = Behind { since: Instant::now(), now: Duration::ZERO, before: Duration::ZERO };
        Followers { beat, next: AtomicU64::new(0), open: Mutex::default(), behind: Mutex::new(behind) }
    }

    /// One more.
    pub(super) fn follow(self: &Arc<Self>) -> Follower {
        let place = Place { end: Some(self.beat.last()), told: SystemTime::now() };
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.open().insert(number, place);
        Follower { followers: Arc::clone(self), number }
    }

    /// How far the slowest is behind, of those who follow and of those who asked for a page lately.
    pub(crate) fn lag(&self) -> Duration {
        let last = self.beat.last();
        let open = self.open().values().map(|place| place.lag(last)).max().unwrap_or_default();
        let mut behind = self.behind.lock().expect("what is remembered is not left half changed");
        let Behind { now, before, .. } = *behind.turn();
        open.max(now).max(before)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Place>> {
        self.open.lock().expect("the places are not left half changed")
    }
}

impl Place {
    fn lag(&self, last: u64) -> Duration {
        if self.end == Some(last) { Duration::ZERO } else { self.told.elapsed().unwrap_or_default() }
    }
}

/// One who follows.
pub(super) struct Follower {
    followers: Arc<Followers>,
    number: u64,
}

impl Follower {
    /// It was given a page that was read after `beat`, begun at `asked`.
    pub(super) fn was_given(&self, page: &EventPage, beat: u64, asked: SystemTime) {
        if let Some(place) = self.followers.open().get_mut(&self.number) {
            if page.is_end {
                *place = Place { end: Some(beat), told: asked };
            } else {
                place.end = None;
                if let Some(last) = page.events.last() {
                    place.told = UNIX_EPOCH + Duration::from_millis(last.at.ms());
                }
            }
        }
    }

    /// It goes, and will ask for what there is more.
    pub(super) fn leaves(self) {
        let place = self.followers.open().get(&self.number).copied();
        if let Some(place) = place.filter(|place| place.end.is_none()) {
            let mut behind = self.followers.behind.lock().expect("what is remembered is not left half changed");
            let behind = behind.turn();
            behind.now = behind.now.max(place.told.elapsed().unwrap_or_default());
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.open().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hongbao_engine::command::EndedAs;
    use hongbao_engine::feed::{EnvelopeFacts, FeedEvent, Happened};
    use hongbao_engine::types::{Amount, EnvelopeId, EventId, Timestamp, UserId};
    use tokio::sync::watch;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A page that tells of what happened an hour ago, if of anything.
    fn page(is_end: bool, tells: bool) -> EventPage {
        let (id, sender) = (EnvelopeId::from_bytes([1; 16]), UserId::new("alice").unwrap());
        let envelope = EnvelopeFacts { id, owner: "shop".into(), sender, reference: None, funding_reference: None };
        let at = (SystemTime::now() - HOUR).duration_since(UNIX_EPOCH).unwrap();
        let event = FeedEvent {
            id: EventId::from_bytes([2; 16]),
            at: Timestamp::from_ms(at.as_millis() as u64),
            what: Happened::Settled {
                envelope,
                ended_as: EndedAs::Expired,
                claimed: Amount::ZERO,
                refunded: Amount::ZERO,
            },
            cursor: vec![3],
        };
        EventPage { events: tells.then_some(event).into_iter().collect(), next: vec![4], is_end }
    }

    #[test]
    fn the_slowest_counts_until_it_is_given_all_there_is() {
        let beat = Arc::new(watch::Sender::new(7));
        let followers = Arc::new(Followers::of(Beat::of(&beat)));
        assert_eq!(followers.lag(), Duration::ZERO, "nobody follows");
        let (slow, quick) = (followers.follow(), followers.follow());
        assert_eq!(followers.lag(), Duration::ZERO, "nothing has happened since");
        let long_ago = SystemTime::now() - HOUR;
        slow.was_given(&page(true, true), 7, long_ago);
        assert_eq!(followers.lag(), Duration::ZERO, "all there is, however old");
        beat.send_replace(8);
        quick.was_given(&page(true, false), 8, SystemTime::now());
        assert!(followers.lag() >= HOUR, "what is new since then it was not given");
        slow.was_given(&page(true, false), 8, SystemTime::now());
        assert_eq!(followers.lag(), Duration::ZERO);
        slow.was_given(&page(false, true), 8, SystemTime::now());
        assert!(followers.lag() >= HOUR, "there is more behind an event of an hour ago");
        slow.was_given(&page(false, false), 8, SystemTime::now());
        assert!(followers.lag() >= HOUR, "and nothing of it was for this one");
        drop(slow);
        assert_eq!(followers.lag(), Duration::ZERO, "who is gone waits for nothing");
        quick.was_given(&page(false, true), 8, SystemTime::now());
        quick.leaves();
        assert!(followers.lag() >= HOUR, "who asks page by page comes again");
    }
}
