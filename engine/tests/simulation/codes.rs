//! Codes as the model sees them: what an item has had, what is left of it, and who got which.

use crate::model::{Decided, Model, refuse};
use hongbao_engine::code::{Code, HandedTo};
use hongbao_engine::command::{ItemKind, Refusal};
use hongbao_engine::types::ItemId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Debug, Default)]
pub(crate) struct Codes {
    /// By their items: all that there ever were, and those that nobody has.
    of_items: BTreeMap<ItemId, (BTreeSet<Code>, VecDeque<Code>)>,
    /// Who has which, and since which record.
    pub(crate) handed: BTreeMap<HandedTo, (Vec<Code>, u64)>,
}

/// The field at fault, whatever the state.
pub(crate) fn fault(codes: &[Code]) -> Option<String> {
    let again = (0..codes.len()).find(|&place| codes[..place].contains(&codes[place]));
    if codes.is_empty() { Some("codes".to_owned()) } else { again.map(|place| format!("codes[{place}]")) }
}

impl Model {
    pub(crate) fn sells_codes(&self, item: ItemId) -> bool {
        self.items.get(&item).is_some_and(|item| item.terms.origin.kind == ItemKind::Code)
    }

    pub(crate) fn add_codes(&mut self, id: ItemId, codes: &[Code], lsn: u64) -> Decided {
        let Some(item) = self.items.get_mut(&id) else { return refuse(Refusal::NotFound) };
        if item.terms.origin.kind != ItemKind::Code {
            return refuse(Refusal::WrongState(String::new()));
        }
        let (had, left) = self.codes.of_items.entry(id).or_default();
        if let Some(place) = codes.iter().position(|code| had.contains(code)) {
            return refuse(Refusal::invalid(&format!("codes[{place}]"), ""));
        }
        had.extend(codes.iter().cloned());
        left.extend(codes.iter().cloned());
        item.total += codes.len() as u32;
        item.lsn = lsn;
        Decided(self.item_answer(id), true, lsn)
    }

    /// Hands the next codes of an item, if that is what its units are.
    pub(crate) fn hand(&mut self, item: ItemId, count: u32, to: HandedTo, lsn: u64) {
        if self.sells_codes(item) {
            let (_, left) = self.codes.of_items.get_mut(&item).expect("what is sold was there");
            let codes = left.drain(..count as usize).collect();
            assert!(self.codes.handed.insert(to, (codes, lsn)).is_none(), "codes are handed once");
        }
    }
}
