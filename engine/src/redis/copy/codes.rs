//! Codes, both ways: all of an item in their order, and what gifts were handed; what orders
//! were stands with them.

use super::Result;
use super::to_directory::Copying;
use super::to_redis::{Writing, number};
use crate::code::{CODES_MAX, Code, CodeDigest, HandedTo};
use crate::event::{CodesAdded, CodesHanded, Event};
use crate::redis::audit::Pages;
use crate::redis::bucket::Bucket;
use crate::redis::reply::{Answer, damaged};
use crate::types::{GiftId, ItemId, Timestamp};
use std::collections::HashSet;
use std::sync::Arc;

impl Writing {
    pub(super) async fn codes(&mut self, item: ItemId, first: u32, codes: &[Code]) -> Result<()> {
        let bucket = self.core.layout.of_id(item.bytes());
        let digests = CodeDigest::of_all(item, codes).into_iter().map(|digest| digest.0.to_vec());
        self.write(bucket, "SADD", self.core.layout.codes_had(item), digests).await?;
        let texts = codes.iter().map(|code| code.as_str().as_bytes().to_vec());
        let pushed = std::iter::once(number(first.into())).chain(texts);
        self.write(bucket, "LIST", self.core.layout.codes(item), pushed).await
    }
}

impl Copying<'_> {
    pub(super) async fn codes(&mut self, bucket: Bucket, item: ItemId, at: Timestamp) -> Result<()> {
        let core = Arc::clone(self.core);
        let mut first = 0;
        loop {
            let codes = core.codes_from(item, first, CODES_MAX as u32).await?;
            let count = codes.len();
            if count > 0 {
                self.thing(at, Event::CodesAdded(Box::new(CodesAdded { item, first, codes })))?;
            }
            if count < CODES_MAX {
                break;
            }
            first += count as u32;
        }
        let mut seen = HashSet::new();
        let mut pages = Pages::of(&core, bucket, core.layout.item(item));
        while let Some(page) = pages.next().await? {
            for (field, place) in page {
                let Some(gift) = field.strip_prefix(b"#") else { continue };
                let gift = GiftId::from_bytes(gift.try_into().map_err(|_| damaged("a gift"))?);
                if seen.insert(gift) {
                    let first = Answer::split(place, 1).units(0)?;
                    let handed = CodesHanded { item, first, count: 1, to: HandedTo::Gift(gift) };
                    self.thing(at, Event::CodesHanded(handed))?;
                }
            }
        }
        Ok(())
    }
}
