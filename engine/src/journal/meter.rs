//! Counters of the writer, cheap enough to be always on.
//!
//! **Invariant:** only the writer adds; everybody may read at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Four buckets an octave of microseconds: quantiles are exact to about 20 %.
const BUCKETS: usize = 4 * 32;

pub(crate) struct Meter {
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    sync_last_us: AtomicU64,
    sync_total_us: AtomicU64,
    syncs: [AtomicU64; BUCKETS],
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            batches: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            sync_last_us: AtomicU64::new(0),
            sync_total_us: AtomicU64::new(0),
            syncs: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

/// What a journal wrote since it was opened, and how it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Batches synced.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes written, headers and padding included.
    pub bytes: u64,
    /// The last sync, in microseconds.
    pub sync_last_us: u64,
    /// The median sync.
    pub sync_p50_us: u64,
    /// The sync that one in a hundred exceeds.
    pub sync_p99_us: u64,
    /// All syncs.
    pub syncs: SyncTimes,
    /// Staged and not yet durable.
    pub backlog_bytes: u64,
    /// Staged and not yet released.
    pub unreleased_bytes: u64,
    /// Spare segments ready.
    pub spares: usize,
    /// Segments in use.
    pub segments: usize,
    /// Segments kept only to be read.
    pub kept_segments: usize,
    /// Bytes of their files.
    pub kept_bytes: u64,
    /// Whether the ballast is in place.
    pub has_ballast: bool,
    /// Whether the disk has no room for what is missing of spares and ballast:
    /// commands are refused until it has.
    pub disk_full: bool,
}

/// How long syncs took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// How many took less than each of [`SyncTimes::ENDS_US`].
    pub below: [u64; 16],
    /// How many there were.
    pub count: u64,
    /// All of them together, in microseconds.
    pub total_us: u64,
}

impl SyncTimes {
    /// Where its buckets end, in microseconds: 128 µs to 4.2 s.
    pub const ENDS_US: [u64; 16] = [
        1 << 7,
        1 << 8,
        1 << 9,
        1 << 10,
        1 << 11,
        1 << 12,
        1 << 13,
        1 << 14,
        1 << 15,
        1 << 16,
        1 << 17,
        1 << 18,
        1 << 19,
        1 << 20,
        1 << 21,
        1 << 22,
    ];
}

impl Meter {
    pub(crate) fn batch(&self, records: u64, bytes: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.sync_last_us.store(us, Ordering::Relaxed);
        self.sync_total_us.fetch_add(us, Ordering::Relaxed);
        self.syncs[bucket_of(us)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> JournalStats {
        JournalStats {
            batches: self.batches.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            sync_last_us: self.sync_last_us.load(Ordering::Relaxed),
            sync_p50_us: self.sync_quantile_us(50),
            sync_p99_us: self.sync_quantile_us(99),
            syncs: self.sync_times(),
            ..JournalStats::default()
        }
    }

    fn sync_times(&self) -> SyncTimes {
        let mut times = SyncTimes { total_us: self.sync_total_us.load(Ordering::Relaxed), ..SyncTimes::default() };
        for (bucket, count) in self.syncs.iter().enumerate() {
            let count = count.load(Ordering::Relaxed);
            times.count += count;
            // Each end is where an octave begins, so no bucket lies on both sides.
            for (below, end_us) in times.below.iter_mut().zip(SyncTimes::ENDS_US) {
                *below += if upper_bound_us(bucket) < end_us { count } else { 0 };
            }
        }
        times
    }

    fn sync_quantile_us(&self, percent: u64) -> u64 {
        let counts: Vec<u64> = self.syncs.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let wanted = (total * percent).div_ceil(100);
        let mut seen = 0;
        for (bucket, count) in counts.into_iter().enumerate() {
            seen += count;
            if count > 0 && seen >= wanted {
                return upper_bound_us(bucket);
            }
        }
        0
    }
}

fn bucket_of(us: u64) -> usize {
    if us < 4 {
        return us as usize;
    }
    let octave = us.ilog2() as usize;
    let quarter = (us >> (octave - 2)) as usize & 3;
    ((octave - 1) * 4 + quarter).min(BUCKETS - 1)
}

fn upper_bound_us(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    let (octave, quarter) = (bucket / 4 + 1, bucket % 4);
    ((5 + quarter as u64) << (octave - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_at_or_below_the_bound_of_its_bucket() {
        for us in (0..5_000).chain([1 << 20, (1 << 31) + 5]) {
            let bound = upper_bound_us(bucket_of(us));
            assert!(us <= bound && bound <= us + us / 4 + 1, "{us} in a bucket up to {bound}");
        }
    }

    #[test]
    fn syncs_are_counted_below_the_ends_that_they_did_not_reach() {
        let meter = Meter::default();
        let took_us = [0, 127, 128, 255, 256, 4_194_303, 4_194_304, 600_000_000];
        took_us.into_iter().for_each(|us| meter.synced(Duration::from_micros(us)));
        let times = meter.stats().syncs;
        for (below, end_us) in times.below.into_iter().zip(SyncTimes::ENDS_US) {
            let expected = took_us.iter().filter(|&&us| us < end_us).count();
            assert_eq!(below, expected as u64, "below {end_us} µs");
        }
        assert_eq!((times.count, times.total_us), (8, took_us.iter().sum()));
    }

    #[test]
    fn quantiles_come_from_the_buckets() {
        let meter = Meter::default();
        for us in [100; 99].into_iter().chain([10_000]) {
            meter.synced(Duration::from_micros(us));
        }
        assert_eq!(meter.sync_quantile_us(50), upper_bound_us(bucket_of(100)));
        assert_eq!(meter.sync_quantile_us(99), upper_bound_us(bucket_of(100)));
        assert_eq!(meter.sync_quantile_us(100), upper_bound_us(bucket_of(10_000)));
        assert_eq!(meter.stats().sync_last_us, 10_000);
    }
}
