//! The part of the audit for API keys, which all lie in one bucket.

use super::{FindingKind, Look};
use crate::redis::api_keys::api_key;
use crate::redis::backend::Result;

impl Look<'_> {
    /// A key stands under its own id, and works or is deleted.
    pub(super) async fn api_keys(&mut self) -> Result<()> {
        let layout = &self.core.layout;
        let (working, deleted) = (layout.api_keys(), layout.deleted_api_keys());
        let deleted = self.core.api_key_rows(deleted).await?;
        let working = self.core.api_key_rows(working).await?;
        for (rows, is_deleted) in [(&working, false), (&deleted, true)] {
            for (id, row) in rows {
                let Some(key) = self.told_of("an API key", api_key(row))? else { continue };
                if id != key.id.bytes() {
                    self.found(FindingKind::ApiKey, format!("{}: it stands under another id", key.id));
                } else if key.deleted_at.is_some() != is_deleted {
                    let is = if is_deleted { "is not deleted" } else { "is deleted" };
                    self.found(FindingKind::ApiKey, format!("{}: it {is}, and does not stand among such", key.id));
                } else if is_deleted && working.contains_key(id) {
                    self.found_if_still(FindingKind::ApiKey, format!("{}: it was deleted, and works", key.id));
                }
            }
        }
        Ok(())
    }
}
