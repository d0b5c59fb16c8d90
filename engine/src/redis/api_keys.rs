//! API keys, in bucket 0: those that work in one hash, those that were deleted
//! in another.
//!
//! **Invariant:** a key is in one of the two hashes, and moves only from the
//! first to the second.

use super::audit::Pages;
use super::backend::{Core, Operation, Result};
use super::layout::{Key, Layout};
use super::reply::{Answer, Decided, damaged};
use super::scripts::API_KEY;
use crate::api_key::{self, ApiKey, NewApiKey};
use crate::backend::{Listing, Page};
use crate::types::ApiKeyId;
use std::collections::BTreeMap;

/// A key as it lies in its hash.
pub(super) fn api_key_row(key: &ApiKey) -> Vec<u8> {
    postcard::to_extend(key, Vec::new()).expect("every key has a postcard form")
}

/// The key of such a row.
pub(super) fn api_key(row: &[u8]) -> Result<ApiKey> {
    postcard::from_bytes(row).map_err(|_| damaged("an API key"))
}

impl Core {
    pub(super) async fn create_api_key(&self, new: &NewApiKey, operation: &Operation) -> Result<Decided> {
        let key = new.made(ApiKeyId::from_bytes(operation.id), self.clock.now());
        self.api_key_script(b"create", key.id, api_key_row(&key), operation).await
    }

    pub(super) async fn delete_api_key(&self, id: ApiKeyId, operation: &Operation) -> Result<Decided> {
        // Nothing of a key changes until it is deleted.
        let args = [b"row".to_vec(), id.bytes().to_vec()];
        let row = self.read(Layout::COMMON, &[self.layout.api_keys()], &args).await?;
        let deleted = match row.maybe(0) {
            Some(row) => api_key_row(&api_key(row)?.deleted(self.clock.now())),
            None => Vec::new(),
        };
        self.api_key_script(b"delete", id, deleted, operation).await
    }

    async fn api_key_script(&self, verb: &[u8], id: ApiKeyId, row: Vec<u8>, operation: &Operation) -> Result<Decided> {
        let keys = [self.layout.api_keys(), self.layout.deleted_api_keys()];
        self.ask(&API_KEY, operation, keys, [verb.to_vec(), id.bytes().to_vec(), row]).await
    }

    pub(super) async fn api_keys(&self, page: &Page) -> Result<Listing<ApiKey>> {
        let rows = self.api_key_rows(self.layout.api_keys()).await?;
        let keys = rows.values().map(|row| api_key(row)).collect::<Result<Vec<_>>>()?;
        api_key::list(keys.into_iter(), page)
    }

    pub(super) async fn api_keys_version(&self) -> Result<u64> {
        let args = ["row", "version"].map(|word| word.as_bytes().to_vec());
        let row: Answer = self.read(Layout::COMMON, &[self.layout.api_keys()], &args).await?;
        if row.maybe(0).is_some() { row.number(0) } else { Ok(0) }
    }

    /// Every key, deleted ones too.
    pub(super) async fn every_api_key(&self) -> Result<Vec<ApiKey>> {
        let mut keys = Vec::new();
        for place in [self.layout.api_keys(), self.layout.deleted_api_keys()] {
            for row in self.api_key_rows(place).await?.values() {
                keys.push(api_key(row)?);
            }
        }
        Ok(keys)
    }

    /// What one of the two hashes holds, by id. It is walked through page by page,
    /// and tells what was there all the time, once.
    pub(super) async fn api_key_rows(&self, place: Key) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut rows = BTreeMap::new();
        let mut pages = Pages::of(self, Layout::COMMON, place);
        while let Some(page) = pages.next().await? {
            rows.extend(page.into_iter().filter(|(field, _)| field != b"version"));
        }
        Ok(rows)
    }
}
