//! Addresses: each that is not erased is there, sealed, and nothing is that opens an erased one.
//!
//! An address without its data key is no damage: who loses the address key takes them away.

use super::{FindingKind, Look, Pages};
use crate::redis::addresses::Mark;
use crate::redis::backend::Result;
use crate::redis::reply::damaged;
use crate::types::GiftId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Look<'_> {
    pub(super) async fn addresses(&mut self) -> Result<()> {
        let core = Arc::clone(&self.core);
        let mut live = BTreeMap::new();
        let mut pages = Pages::of(&core, self.bucket, core.layout.addresses(self.bucket));
        while let Some(page) = pages.next().await? {
            for (id, packed) in page {
                let id = GiftId::from_bytes(id.try_into().map_err(|_| damaged("an address's mark"))?);
                let Some(mark) = self.told_of(&format!("{id}: its address"), Mark::read(&packed))? else { continue };
                if mark.key.is_some() {
                    live.insert(id, mark.erase_at);
                }
            }
        }
        let mut sealed = BTreeSet::new();
        let mut pages = Pages::of(&core, self.bucket, core.layout.sealed(self.bucket));
        while let Some(page) = pages.next().await? {
            for (id, _) in page {
                sealed.insert(GiftId::from_bytes(id.try_into().map_err(|_| damaged("a sealed address"))?));
            }
        }
        for id in sealed.iter().filter(|id| !live.contains_key(id)) {
            self.found_if_still(
                FindingKind::Address,
                format!("{id}: its address is erased, and its sealed text is there"),
            );
        }
        for id in live.keys().filter(|id| !sealed.contains(id)) {
            self.found_if_still(
                FindingKind::Address,
                format!("{id}: it has an address, and its sealed text is missing"),
            );
        }
        for name in self.names.address_keys.sorted() {
            let id: GiftId = name.parse().map_err(|_| damaged("an address's key"))?;
            if !live.contains_key(&id) {
                let what =
                    format!("{id}: its address is erased, and what opens it is there; delete the key address:{id}");
                self.found_if_still(FindingKind::Address, what);
            }
        }
        let due: Vec<_> = live.iter().filter_map(|(id, at)| Some((id, (*at)?.ms()))).collect();
        let members: Vec<Vec<u8>> = due.iter().map(|(id, _)| [b"a", &id.bytes()[..]].concat()).collect();
        let scores = core.scores(self.bucket, core.layout.due(self.bucket), &members).await?;
        for ((id, at), score) in due.into_iter().zip(scores) {
            if score != Some(at as i64) {
                self.found_if_still(FindingKind::List, format!("{id}: nobody will erase its address when it is due"));
            }
        }
        Ok(())
    }
}
