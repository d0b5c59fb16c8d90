//! Failures of operation. A business "no" is not here: it is an
//! [`Outcome`](crate::command::Outcome).

/// Why a command or a read could not be carried out. Nothing was acknowledged;
/// what a command asked for may or may not have happened only for
/// [`EngineError::Journal`] and [`EngineError::Unconfirmed`], and asking again settles it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// More is being asked than can be made durable in time.
    #[error("too much is being asked at once; try again after a moment")]
    Overloaded,
    /// The disk's reserve is kept for claims and refunds.
    #[error("the journal's disk is full; free space on it (claims and refunds still work)")]
    StorageFull,
    /// The journal failed; nothing is acknowledged until a restart.
    #[error("the journal failed and the engine has stopped: {0}; restart it after mending the disk")]
    Journal(String),
    /// The store failed.
    #[error("the store failed: {0}; restart, and if it fails again make the store anew with `hongbao rebuild`")]
    Store(String),
    /// The slots that open addresses cannot be read or written.
    #[error("the slots of addresses failed: {0}")]
    Addresses(String),
    /// Redis did not answer, or did not confirm, in time: the command may have
    /// been carried out, and asking again tells.
    #[error("the outcome is not known: {0}; ask again with the same key")]
    Unconfirmed(String),
    /// Redis, or a script in it, failed.
    #[error("Redis failed: {0}; look at its log, and run `hongbao reconcile` when it is mended")]
    Backend(String),
    /// Files of the archive in front of Redis cannot be read or written.
    #[error("the archive failed: {0}; if its disk is sound, restore the directory from a backup")]
    Archive(String),
    /// The engine does not serve yet, or not now.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The engine decides nothing until its operator has acted. The sentence
    /// says why and what to do, and nothing of the inside: callers may read it.
    #[error("not ready: {0}")]
    OperatorNeeded(String),
    /// The engine is being closed.
    #[error("the engine is shutting down; ask another one or again after its restart")]
    ShuttingDown,
    /// A list's cursor is not one this engine gave.
    #[error("this cursor was not given by this list; start again without one")]
    Cursor,
    /// The deployment does not tell of such events.
    #[error("events of these types are not told here: {}", .0.names())]
    EventsOff(crate::feed::EventTypes),
    /// What follows a cursor of the feed is not kept any more.
    #[error("what follows this cursor is not kept any more; go on from the oldest that is kept")]
    CursorGone {
        /// The cursor from which the oldest that is kept is told.
        oldest: Vec<u8>,
    },
}
