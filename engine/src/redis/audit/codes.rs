//! Codes: as many as an item has units, and those that are gone handed out in order, each once.

use super::{FindingKind, Look, Pages, words};
use crate::command::HoldView;
use crate::redis::backend::Result;
use crate::redis::reply::{Answer, damaged};
use crate::types::{GiftId, ItemId, OrderId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an order or a gift was handed.
pub(super) struct Handed {
    first: u32,
    count: u32,
    to: String,
}

impl Handed {
    pub(super) fn order(first: u32, hold: &HoldView, order: OrderId) -> Handed {
        Handed { first, count: hold.quantity, to: order.to_string() }
    }
}

impl Look<'_> {
    /// `handed`: what orders have.
    pub(super) async fn codes(&mut self, id: ItemId, handed: Vec<Handed>) -> Result<()> {
        let core = Arc::clone(&self.core);
        let (bucket, layout) = (self.bucket, &core.layout);
        let row = core.fields(bucket, layout.item(id), &words(["codes", "total", "sold"])).await?;
        let (total, sold) = (row.number(1)?, row.number(2)?);
        if !row.flag(0) {
            for handed in handed {
                let what = format!("{}: it was handed codes of {id}, whose units are none", handed.to);
                self.found_if_still(FindingKind::Item, what);
            }
            return Ok(());
        }
        let sizes = core.sizes(bucket, [layout.codes(id), layout.codes_had(id)]).await?;
        self.counts.codes += sizes[0];
        self.expect(FindingKind::Item, &format!("{id}: codes"), sizes[0], total);
        self.expect(FindingKind::Item, &format!("{id}: digests of codes"), sizes[1], total);
        let mut by_first = BTreeMap::new();
        let mut twice = Vec::new();
        let mut keep = |handed: Handed| {
            if let Some(other) = by_first.insert(handed.first, handed) {
                twice.push(other.to);
            }
        };
        handed.into_iter().for_each(&mut keep);
        let mut seen = std::collections::HashSet::new();
        let mut pages = Pages::of(&core, bucket, layout.item(id));
        while let Some(page) = pages.next().await? {
            for (field, place) in page {
                let Some(gift) = field.strip_prefix(b"#") else { continue };
                let gift = GiftId::from_bytes(gift.try_into().map_err(|_| damaged("a gift"))?);
                if seen.insert(gift) {
                    let first = Answer::split(place, 1).units(0)?;
                    keep(Handed { first, count: 1, to: gift.to_string() });
                }
            }
        }
        for to in twice {
            self.found_if_still(FindingKind::Item, format!("{to}: it was handed codes of {id} that another has"));
        }
        let mut gone = 0u64;
        for Handed { first, count, to } in by_first.into_values() {
            if u64::from(first) != gone {
                let how = if u64::from(first) < gone { "were handed twice" } else { "were handed to nobody" };
                let what = format!("{id}: codes before {to}'s, from {gone} and {first} on, {how}");
                self.found_if_still(FindingKind::Item, what);
            }
            gone = u64::from(first) + u64::from(count);
        }
        self.expect(FindingKind::Item, &format!("{id}: codes handed out"), gone, sold);
        Ok(())
    }
}
