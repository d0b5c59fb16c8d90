//! Gifts on both ways: a gift as it stands says all that there is of it.

use super::to_directory::Copying;
use super::to_redis::{Writing, before, number};
use super::{CopyError, Result};
use crate::event::{Event, GiftChanged, Units};
use crate::gift::{Gift, GiftRole};
use crate::redis::audit::Pages;
use crate::redis::bucket::Bucket;
use crate::redis::codes::gift_field;
use crate::redis::gifts::{gift_of, packed};
use crate::redis::sales::Owed;
use crate::types::{GiftId, ItemId, UserId};
use std::collections::{HashMap, HashSet};

impl Writing {
    pub(super) async fn gift(&mut self, gift: &Gift, code: Option<u32>) -> Result<()> {
        let id = gift.id.bytes().to_vec();
        let bucket = self.core.layout.of_id(gift.id.bytes());
        if bucket != self.core.layout.of_id(gift.item.bytes()) {
            return Err(CopyError::Form(format!("{} does not begin like {}", gift.id, gift.item)));
        }
        self.write(bucket, "HSET", self.core.layout.gifts(bucket), [id.clone(), packed(gift)]).await?;
        if let Some(place) = code {
            let handed = [gift_field(gift.id.bytes()), number(place.into())];
            self.write(bucket, "HSET", self.core.layout.item(gift.item), handed).await?;
        }
        if let Some(deadline) = gift.deadline() {
            let due = [number(deadline.ms()), [b"g", &id[..]].concat()];
            self.write(bucket, "ZADD", self.core.layout.due(bucket), due).await?;
            if gift.state.holds_unit() {
                let member = [&id[..], gift.giver.as_str().as_bytes()].concat();
                let place = [number(deadline.ms()), member];
                self.write(bucket, "ZADD", self.core.layout.gifts_of_item(gift.item), place).await?;
            }
        }
        let recipient = gift.recipient.as_ref().map(|user| (user, GiftRole::Received));
        for (user, role) in [Some((&gift.giver, GiftRole::Given)), recipient].into_iter().flatten() {
            let layout = &self.core.layout;
            let (own, list) = (layout.of_user(user), layout.gifts_of_user(user, role));
            self.write(own, "ZADD", list, [before(gift.created_at), id.clone()]).await?;
        }
        if gift.state.is_escrowed() {
            self.money(bucket).escrowed += gift.amount.minor();
        }
        if gift.state.is_merchants() {
            let layout = &self.core.layout;
            let (own, owed) = (layout.of_user(&gift.merchant), layout.owed(&gift.merchant));
            self.write(own, "HSETNX", owed, [id, Owed::at_once(gift.amount).packed()]).await?;
        }
        Ok(())
    }
}

impl Copying<'_> {
    pub(super) async fn gifts(&mut self, bucket: Bucket, units: &HashMap<(ItemId, UserId), Units>) -> Result<()> {
        let core = std::sync::Arc::clone(self.core);
        let mut seen = HashSet::<GiftId>::new();
        let mut pages = Pages::of(&core, bucket, core.layout.gifts(bucket));
        while let Some(page) = pages.next().await? {
            for (_, row) in page {
                let gift = gift_of(&row)?;
                if !seen.insert(gift.id) {
                    continue;
                }
                let units_after = units.get(&(gift.item, gift.giver.clone())).copied().unwrap_or_default();
                let owed_after = if gift.state.is_merchants() {
                    Some(core.merchant_balance(&gift.merchant).await?.total())
                } else {
                    None
                };
                let changed = GiftChanged { was: None, gift, units_after, owed_after, redacts: false };
                self.thing(changed.gift.created_at, Event::GiftChanged(Box::new(changed)))?;
            }
        }
        Ok(())
    }
}
