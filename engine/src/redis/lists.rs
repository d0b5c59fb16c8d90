//! Walks through lists of things in the order of their time, of which parts lie
//! in buckets, and another in the archive.
//!
//! **Invariant:** the archive is asked after whatever was read in Redis last. So
//! what left Redis meanwhile is found in one of them; what is found in both is
//! passed once.

use super::archive::rows::Listed;
use super::backend::{Core, Result};
use super::bucket::Bucket;
use super::layout::{Key, Layout};
use super::reply::damaged;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows a list looks at for one page when few of them are wanted; then the page
/// ends early and its cursor goes on from there.
const LOOKED_AT_MAX: usize = 10_000;
/// Rows taken at a time from each bucket of a list that lies in all of them.
const TAKEN_EACH: usize = 32;

/// A place in a list that is ordered by time, the newest first, and by id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) ms: u64,
    pub(super) id: [u8; 16],
}

impl Place {
    /// The newest first, then by id.
    fn order(&self, other: &Place) -> Ordering {
        other.ms.cmp(&self.ms).then_with(|| self.id.cmp(&other.id))
    }

    fn comes_before(&self, other: &Place) -> bool {
        self.order(other).is_lt()
    }

    fn bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.id);
        bytes
    }
}

/// One bucket's part of a list.
struct Source {
    bucket: Bucket,
    key: Key,
    rows: VecDeque<Place>,
    more: bool,
}

/// The archive's part of a list.
struct Archived<'a> {
    of: Listed<'a>,
    rows: VecDeque<Place>,
    more: bool,
}

/// After which place a page begins, and the times between which it lies.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    last: Option<Place>,
    /// Only what is at least so new.
    pub(super) from_ms: Option<u64>,
    /// Only what is older.
    pub(super) before_ms: Option<u64>,
}

impl Bounds {
    pub(super) fn after(cursor: Option<[u8; 24]>) -> Bounds {
        let last = cursor.map(|bytes| Place {
            ms: u64::from_be_bytes(*bytes.first_chunk().expect("24 bytes begin with 8")),
            id: *bytes.last_chunk().expect("24 bytes end with 16"),
        });
        Bounds { last, from_ms: None, before_ms: None }
    }

    /// The scores between which it lies.
    fn scores(&self) -> [String; 2] {
        let from = self.before_ms.map_or("-inf".to_owned(), |before| format!("(-{before}"));
        let to = self.from_ms.map_or("+inf".to_owned(), |from| format!("-{from}"));
        [from, to]
    }

    fn has(&self, place: Place) -> bool {
        self.from_ms.is_none_or(|from| place.ms >= from) && self.before_ms.is_none_or(|before| place.ms < before)
    }
}

/// A walk through a list that lies in one or many buckets.
pub(super) struct Walk<'a> {
    core: &'a Core,
    sources: Vec<Source>,
    archived: Option<Archived<'a>>,
    bounds: Bounds,
    looked_at: usize,
}

impl<'a> Walk<'a> {
    /// Through a list that lies in one bucket.
    pub(super) fn of_one(
        core: &'a Core,
        bucket: Bucket,
        key: Key,
        bounds: Bounds,
        archived: Option<Listed<'a>>,
    ) -> Walk<'a> {
        let source = Source { bucket, key, rows: VecDeque::new(), more: true };
        Walk { core, sources: vec![source], archived: Archived::of(core, archived), bounds, looked_at: 0 }
    }

    /// Through a list of which every bucket has a part, under its `key`.
    pub(super) async fn of_all(
        core: &'a Arc<Core>,
        key: fn(&Layout, Bucket) -> Key,
        bounds: Bounds,
        archived: Option<Listed<'a>>,
    ) -> Result<Walk<'a>> {
        let filled = core.in_every_bucket(|core, bucket| {
            let mut source = Source { bucket, key: key(&core.layout, bucket), rows: VecDeque::new(), more: true };
            async move {
                source.fill(&core, &bounds).await?;
                Ok(source)
            }
        });
        let mut sources = filled.await?;
        sources.retain(|source| !source.rows.is_empty());
        Ok(Walk { core, sources, archived: Archived::of(core, archived), bounds, looked_at: 0 })
    }

    /// What stands next, without passing it.
    pub(super) async fn next(&mut self) -> Result<Option<Place>> {
        let mut next: Option<Place> = None;
        let mut refilled = false;
        for source in &mut self.sources {
            if source.rows.is_empty() && source.more {
                source.fill(self.core, &self.bounds).await?;
                refilled = true;
            }
            if let Some(&place) = source.rows.front()
                && next.is_none_or(|first| place.comes_before(&first))
            {
                next = Some(place);
            }
        }
        let Some(archived) = &mut self.archived else { return Ok(next) };
        if refilled || (archived.rows.is_empty() && archived.more) {
            archived.fill(self.core, &self.bounds).await?;
        }
        match (next, archived.rows.front()) {
            (Some(next), Some(place)) if !place.comes_before(&next) => Ok(Some(next)),
            (next, place) => Ok(place.copied().or(next)),
        }
    }

    /// The next places, `max` at most, as far as each part has been read: `next` will
    /// tell them in this order. Not for a walk through the archive.
    pub(super) fn ahead(&self, max: usize) -> Vec<Place> {
        let parts = || self.sources.iter().map(|source| (&source.rows, source.more));
        let mut ahead: Vec<Place> = parts().flat_map(|(rows, _)| rows.iter().copied()).collect();
        ahead.sort_unstable_by(Place::order);
        // Behind the last of a part may be more of it.
        let known_to = parts().filter(|(_, more)| *more).filter_map(|(rows, _)| rows.back().copied());
        if let Some(known_to) = known_to.min_by(Place::order) {
            ahead.truncate(ahead.partition_point(|place| !known_to.comes_before(place)));
        }
        ahead.truncate(max);
        ahead
    }

    pub(super) fn pass(&mut self, place: Place) {
        self.looked_at += 1;
        self.bounds.last = Some(place);
        for source in &mut self.sources {
            if source.rows.front() == Some(&place) {
                source.rows.pop_front();
            }
        }
        if let Some(archived) = &mut self.archived
            && archived.rows.front() == Some(&place)
        {
            archived.rows.pop_front();
        }
    }

    /// The cursor of the next page, if this one is full.
    pub(super) fn end_of_page(&self, rows: usize, limit: usize) -> Option<[u8; 24]> {
        let is_full = rows == limit || self.looked_at == LOOKED_AT_MAX;
        self.bounds.last.filter(|_| is_full).map(|last| last.bytes())
    }
}

impl<'a> Archived<'a> {
    fn of(core: &Core, list: Option<Listed<'a>>) -> Option<Archived<'a>> {
        let of = list.filter(|_| core.archive.is_some())?;
        Some(Archived { of, rows: VecDeque::new(), more: true })
    }

    /// Takes the next rows, whatever it had.
    async fn fill(&mut self, core: &Core, bounds: &Bounds) -> Result<()> {
        let last = bounds.last.map(|last| (last.ms, last.id));
        // What is too new comes first.
        let newest = bounds.before_ms.map(|before| (before, [u8::MAX; 16]));
        let after = last.into_iter().chain(newest).max_by_key(|&(ms, id)| (std::cmp::Reverse(ms), id));
        let found = core.archived_list(self.of, after, TAKEN_EACH).await?;
        self.more = found.len() == TAKEN_EACH;
        self.rows = found.into_iter().map(|(ms, id)| Place { ms, id }).collect();
        if let Some(end) = self.rows.iter().position(|place| !bounds.has(*place)) {
            self.rows.truncate(end);
            self.more = false;
        }
        Ok(())
    }
}

impl Source {
    /// Takes the next rows.
    async fn fill(&mut self, core: &Core, bounds: &Bounds) -> Result<()> {
        let (score, member) = match &bounds.last {
            Some(last) => (format!("-{}", last.ms).into_bytes(), last.id.to_vec()),
            None => (Vec::new(), Vec::new()),
        };
        let [from, to] = bounds.scores().map(String::into_bytes);
        let args = [b"listed".to_vec(), score, member, from, to, TAKEN_EACH.to_string().into_bytes()];
        let found = core.read(self.bucket, std::slice::from_ref(&self.key), &args).await?;
        self.more = found.len() >= 2 * TAKEN_EACH;
        for at in (0..found.len()).step_by(2) {
            let score = found.text(at + 1)?.strip_prefix('-').and_then(|ms| ms.parse().ok());
            let ms = score.ok_or_else(|| damaged("a list"))?;
            self.rows.push_back(Place { ms, id: found.id(at)? });
        }
        Ok(())
    }
}
