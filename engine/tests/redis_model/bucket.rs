//! A bucket as its clients see it.

/// The rows of a bucket on its primary, and on the replica that would follow it.
///
/// A write changes `now`. Whatever reached the replica, asked for or not, is
/// `kept`. A failover goes back to what is kept, so that it loses any number of
/// the last unconfirmed writes. Who reads and then confirms does both on one
/// connection: a failover in between ends it, and nothing was read. So reading
/// and confirming are one step here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Bucket<T> {
    pub(crate) now: T,
    kept: T,
}

impl<T: Copy> Bucket<T> {
    pub(crate) fn new(rows: T) -> Bucket<T> {
        Bucket { now: rows, kept: rows }
    }

    /// Every write so far survives any failover: a fence write and WAIT.
    pub(crate) fn confirm(&mut self) {
        self.kept = self.now;
    }

    pub(crate) fn kept(&self) -> &T {
        &self.kept
    }

    pub(crate) fn fail_over(&mut self) {
        self.now = self.kept;
    }
}
