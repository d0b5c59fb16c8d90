//! All rows of a running engine as they are now, for a backup.

use super::cold::store_failed;
use super::{Embedded, Log};
use crate::error::EngineError;
use crate::rebuild::BEGAN_AS_COPY;
use crate::store::picture::Picture;
use std::time::Duration;

/// Between two looks at how far the store is.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Embedded {
    /// All rows after everything that is decided at the call, which may be a while
    /// away from the store: later records are of a later time. And whether the directory began as a copy.
    ///
    /// # Errors
    /// [`EngineError`] if it has no store, or that takes no writes, or the engine closes.
    pub(crate) fn picture(&self) -> Result<(Picture, bool), EngineError> {
        let (Some(durable), Log::Journal(journal)) = (&self.core.durable, &self.core.log) else {
            return Err(EngineError::NotReady("this engine keeps nothing on a disk".to_owned()));
        };
        let wanted = journal.staged_lsn();
        while durable.store.applied_lsn() < wanted {
            if let Some(why) = self.picture_must_end() {
                return Err(EngineError::NotReady(why));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let began_as_copy = durable.place.as_ref().is_some_and(|(path, _)| path.join(BEGAN_AS_COPY).exists());
        Ok((durable.store.picture().map_err(store_failed)?, began_as_copy))
    }

    /// Why a picture is not to be read any further: a store that failed cannot be
    /// opened anew while it is.
    pub(crate) fn picture_must_end(&self) -> Option<String> {
        if self.core.is_closing() {
            return Some("the server is shutting down".to_owned());
        }
        let failure = self.core.durable.as_ref()?.projector.failure()?;
        Some(format!("the server's store has failed: {failure}"))
    }
}
