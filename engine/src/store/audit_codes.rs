//! The offline audit of codes: each in one place of its item, and handed to one order or gift.

use super::audit::Auditor;
use super::keys::{self, CodePart, KeyRange, Table};
use super::{StoreError, damaged, reads, values};
use crate::code::{Code, CodeDigest, HandedTo};
use crate::command::{ItemKind, OrderView};
use crate::event::{CodesHanded, ItemPut};
use crate::gift::Gift;
use crate::types::ItemId;
use std::collections::BTreeMap;

/// What was handed of each item.
pub(super) type HandedOfItem = BTreeMap<ItemId, Vec<CodesHanded>>;

impl Auditor<'_> {
    /// What orders and gifts were handed.
    pub(super) fn handed(&mut self) -> Result<HandedOfItem, StoreError> {
        let mut all = HandedOfItem::new();
        for row in self.scan(Table::Codes, &KeyRange::all()) {
            let (key, value) = row?;
            if key.get(16) == Some(&(CodePart::Handed as u8)) && key.len() == 17 {
                let handed: CodesHanded = values::cold(&value).ok_or_else(|| damaged(Table::Codes, &key))?;
                if key != keys::handed(handed.to) {
                    self.found(format!("{}: what it was handed stands under another id", handed.to));
                }
                all.entry(handed.item).or_default().push(handed);
            }
        }
        Ok(all)
    }

    /// An item's codes: as many as its stock, each found by its digest, and handed out in order.
    pub(super) fn codes(&mut self, item: &ItemPut, sold: u64, mut handed: Vec<CodesHanded>) -> Result<(), StoreError> {
        let id = item.id;
        let (mut texts, mut places) = (0u64, 0u64);
        for row in self.scan(Table::Codes, &KeyRange::prefix(id.bytes())) {
            let (key, value) = row?;
            let wrong = || damaged(Table::Codes, &key);
            match key.get(16) {
                Some(&part) if part == CodePart::Text as u8 => {
                    let code: Code = values::cold(&value).ok_or_else(wrong)?;
                    let place = u32::from_be_bytes(keys::tail(&key).ok_or_else(wrong)?);
                    let key = keys::place_of_code(id, CodeDigest::of(id, &code));
                    let found = self.snapshot.get(Table::Codes, &key)?;
                    if u64::from(place) != texts {
                        self.found(format!("{id}: its code {texts} is missing"));
                    }
                    if reads::cold::<u32>(Table::Codes, &key, found)? != Some(place) {
                        self.found(format!("{id}: its code {place} is not found by its digest"));
                    }
                    texts = u64::from(place) + 1;
                }
                Some(&part) if part == CodePart::Place as u8 => places += 1,
                _ => return Err(wrong()),
            }
        }
        let stock = if item.terms.origin.kind == ItemKind::Code { u64::from(item.stock_total) } else { 0 };
        self.expect(&format!("{id}: codes"), stock, texts);
        self.expect(&format!("{id}: digests of codes"), places, texts);
        self.audited.codes += texts;
        handed.sort_by_key(|handed| handed.first);
        let mut gone = 0;
        for CodesHanded { first, count, to, .. } in handed {
            if u64::from(first) != gone {
                let how = if u64::from(first) < gone { "were handed twice" } else { "were handed to nobody" };
                self.found(format!("{id}: codes before {to}'s, from {gone} and {first} on, {how}"));
            }
            gone = u64::from(first) + u64::from(count);
            if self.units_of(to, id)? != count {
                self.found(format!("{to}: it was handed {count} codes of {id} and is not an order or gift of so many"));
            }
        }
        if item.terms.origin.kind == ItemKind::Code {
            self.expect(&format!("{id}: codes handed out"), gone, sold);
        } else if gone > 0 {
            self.found(format!("{id}: codes of it were handed out and its units are none"));
        }
        Ok(())
    }

    /// How many units of an item an order or a gift has brought.
    fn units_of(&self, to: HandedTo, item: ItemId) -> Result<u32, StoreError> {
        Ok(match to {
            HandedTo::Order(id) => {
                let order = self.snapshot.get(Table::Orders, id.bytes())?;
                let order = reads::cold::<OrderView>(Table::Orders, id.bytes(), order)?;
                order.filter(|order| order.item == item).map_or(0, |order| order.quantity)
            }
            HandedTo::Gift(id) => {
                let gift = self.snapshot.get(Table::Gifts, id.bytes())?;
                let gift = reads::cold::<Gift>(Table::Gifts, id.bytes(), gift)?;
                u32::from(gift.is_some_and(|gift| gift.item == item && gift.state.has_sold()))
            }
        })
    }
}
