//! Units that are codes: in the bucket of their item, in the order in which they were
//! added, and handed out in that order by the script that makes a payment final.
//!
//! **Invariant:** the next code is the one behind all units that were sold; whoever is
//! handed codes is written with the place of the first, in the step that sells them.

use super::backend::{Core, Operation, Result};
use super::reply::{Answer, Decided, damaged};
use super::scripts::CODES;
use crate::code::{Code, CodeDigest, HandedTo};
use crate::types::ItemId;

impl Core {
    pub(super) async fn add_codes(&self, item: ItemId, codes: &[Code], operation: &Operation) -> Result<Decided> {
        let layout = &self.layout;
        let keys = [layout.item(item), layout.codes(item), layout.codes_had(item)];
        let digests = CodeDigest::of_all(item, codes);
        let mut args = vec![item.bytes().to_vec()];
        for (code, digest) in codes.iter().zip(digests) {
            args.extend([code.as_str().as_bytes().to_vec(), digest.0.to_vec()]);
        }
        self.ask(&CODES, operation, keys, args).await
    }

    /// What an order or a gift was handed, in order; nothing if it was handed none.
    pub(super) async fn handed(&self, to: HandedTo) -> Result<Vec<Code>> {
        let (item, first, count) = match to {
            HandedTo::Order(id) => match self.order_with_codes(id).await? {
                Some((order, Some(first))) => (order.item, first, order.quantity),
                _ => return Ok(Vec::new()),
            },
            HandedTo::Gift(id) => {
                let Some(gift) = self.gift(id).await? else { return Ok(Vec::new()) };
                let args = [b"row".to_vec(), gift_field(id.bytes())];
                let row = self.read(self.layout.of_id(id.bytes()), &[self.layout.item(gift.item)], &args).await?;
                match row.maybe(0) {
                    Some(_) => (gift.item, row.units(0)?, 1),
                    None => return Ok(Vec::new()),
                }
            }
        };
        let codes = self.codes_from(item, first, count).await?;
        // They stand there before anything is sold.
        if codes.len() == count as usize { Ok(codes) } else { Err(damaged("codes of an item")) }
    }

    /// At most so many codes of an item, from a place on.
    pub(super) async fn codes_from(&self, item: ItemId, first: u32, count: u32) -> Result<Vec<Code>> {
        let (first, last) = (u64::from(first), u64::from(first) + u64::from(count));
        if first == last {
            return Ok(Vec::new());
        }
        let args = [b"list".to_vec(), first.to_string().into_bytes(), (last - 1).to_string().into_bytes()];
        let row: Answer = self.read(self.layout.of_id(item.bytes()), &[self.layout.codes(item)], &args).await?;
        (0..row.len()).map(|place| row.text(place).map(Code::new)).collect()
    }
}

/// Under which the place of a gift's code stands in its item.
pub(super) fn gift_field(gift: &[u8; 16]) -> Vec<u8> {
    [b"#", &gift[..]].concat()
}
