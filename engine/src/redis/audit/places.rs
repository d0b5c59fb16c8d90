//! What must hold between the places of a mass envelope: reserve, open transfers
//! and pools.

use super::mass::Places;
use super::pools::{Facts, PoolLooked};
use super::{FindingKind, Look};
use crate::redis::bucket::Bucket;
use crate::redis::rows::{TransferRow, shares_in};
use crate::types::EnvelopeId;

impl Look<'_> {
    /// Pools say of the end what their envelope does, once they were told.
    pub(super) fn told(&mut self, id: EnvelopeId, Places { head, after, is_telling, pools, .. }: &Places) {
        for PoolLooked { pool, row, .. } in pools {
            let Some(row) = row else { continue };
            let mut wrong = Vec::new();
            if !row.told.is_empty() && row.told != after.ended {
                wrong.push("tells another end than its envelope's");
            }
            if !head.ended.is_empty() && !is_telling && row.told.is_empty() {
                wrong.push("was not told that it has ended");
            }
            if row.is_closed && after.closing.is_empty() {
                wrong.push("is closed before its end");
            }
            if row.has_lapsed && !after.is_lapsing {
                wrong.push("has lapsed before its time");
            }
            if matches!(&head.ended[..], b"e" | b"c") && !row.is_closed {
                wrong.push("was not closed at its end");
            }
            for what in wrong {
                self.found(FindingKind::Envelope, format!("{id}, its pool in bucket {}: {what}", pool.number()));
            }
        }
    }

    /// The reserve's transfers: each pool is at its own, and the counters count them.
    pub(super) fn transfers(&mut self, id: EnvelopeId, Places { head, waiting, pools, .. }: &Places) {
        let count = |is: &dyn Fn(&TransferRow) -> bool| head.transfers.values().filter(|one| is(one)).count() as u64;
        let over = |over: u8| count(&|transfer: &TransferRow| transfer.over == over);
        let closed = if head.closed == pools.len() as u64 { over(b'c') + over(b'l') } else { over(b'c') };
        for (what, told, rows) in [
            ("open transfers", head.open, count(&TransferRow::is_open)),
            ("pools that are empty", head.empty, count(&TransferRow::was_empty)),
            ("pools that are closed", head.closed, closed),
            ("pools that have lapsed", head.lapsed, over(b'l')),
        ] {
            if told != rows {
                let what = format!("{id}: {what}: {told} is on record, the rows make {rows}");
                self.found(FindingKind::Envelope, what);
            }
        }
        for PoolLooked { pool, row, .. } in pools {
            let Some(row) = row else { continue };
            let (transfer, number) = (head.transfer(*pool), pool.number());
            let may_wait = transfer.is_open() && row.sequence + 1 == transfer.sequence;
            if row.sequence != transfer.sequence && !may_wait {
                let (here, there) = (row.sequence, transfer.sequence);
                let what =
                    format!("{id}, its pool in bucket {number}: it is at transfer {here}, its reserve at {there}");
                self.found(FindingKind::Envelope, what);
            }
            if transfer.was_empty() && !transfer.is_open() && row.tail > row.head {
                let left = row.tail - row.head;
                let what = format!("{id}, its pool in bucket {number}: {left} shares are left where none are known");
                self.found(FindingKind::Envelope, what);
            }
            if transfer.is_open() && !waiting.contains(pool) {
                let what = format!("{id}, its pool in bucket {number}: nobody will finish its transfer");
                self.found(FindingKind::List, what);
            }
        }
    }

    /// I3 over all places, and I2: each share is in one of them, and so is all money.
    pub(super) fn shares_in_places(&mut self, Places { head, reserve, pools, .. }: &Places, facts: &Facts) {
        let id = facts.created.id;
        let (shares, total) = (facts.created.terms.shares, facts.created.terms.total.minor());
        let mut seen = Seen { places: vec![None; shares as usize], twice: None };
        let mut in_reserve = 0u64;
        for (share, amount) in shares_in(reserve, facts.width) {
            let is_split = share < facts.split.len() && facts.split.get(share).minor() == amount;
            if !is_split {
                self.found(
                    FindingKind::Share,
                    format!("{id}: share {share} of {amount} in its reserve is not the split's"),
                );
            }
            in_reserve = in_reserve.saturating_add(amount);
            seen.at(share, Place::Reserve);
        }
        let found = reserve.len() as u64 / (4 + facts.width);
        if found != head.last.saturating_sub(head.first) {
            self.found(
                FindingKind::Share,
                format!("{id}: {found} shares lie in its reserve, from {} to {}", head.first, head.last),
            );
        }
        if pools.iter().any(|looked| looked.row.is_none()) {
            return;
        }
        let (mut there, mut in_flight, mut gone) = (0u64, 0u64, head.unsold);
        for PoolLooked { pool, row, shares, .. } in pools {
            let Some(row) = row else { continue };
            let transfer = head.transfer(*pool);
            let has_come = row.sequence == transfer.sequence;
            let mut lie_there = row.tail as usize;
            match transfer.kind {
                b'g' if !has_come => {
                    let granted = head.grants.get(pool).map(Vec::as_slice).unwrap_or_default();
                    let mut count = 0;
                    for (share, amount) in shares_in(granted, facts.width) {
                        seen.at(share, Place::Transfer(*pool));
                        in_flight = in_flight.saturating_add(amount);
                        count += 1;
                    }
                    if count != transfer.count {
                        let what = format!(
                            "{id}: a grant of {} shares to the pool in bucket {} has {count}",
                            transfer.count,
                            pool.number()
                        );
                        self.found(FindingKind::Share, what);
                    }
                }
                b'r' if has_come => {
                    lie_there = shares.len();
                    in_flight = in_flight.saturating_add(row.given_amount);
                }
                b'c' | b'l' if has_come => {
                    gone = gone.saturating_add(row.given);
                    in_flight = in_flight.saturating_add(row.given_amount);
                }
                _ => {}
            }
            shares.iter().take(lie_there).for_each(|&share| seen.at(share, Place::Pool(*pool)));
            let lapsed = if row.has_lapsed { row.taken_amount.saturating_sub(row.claimed_amount) } else { 0 };
            there = there.saturating_add(row.entered.saturating_sub(lapsed));
        }
        if let Some((share, first, second)) = seen.twice {
            self.found(FindingKind::Share, format!("{id}: share {share} lies {first} and {second}"));
        }
        // What is unsold at an end is given back as a sum.
        let is_resolved = matches!(&head.ended[..], b"e" | b"c");
        let lie_somewhere = seen.places.iter().flatten().count() as u64;
        if !is_resolved && lie_somewhere + gone != u64::from(shares) {
            let what = format!("{id}: of {shares} shares {lie_somewhere} lie somewhere, and {gone} were given back");
            self.found(FindingKind::Share, what);
        }
        let all = there.saturating_add(head.kept).saturating_add(in_flight).saturating_add(head.refunded);
        if all != total {
            let what = format!("{id}: of {total} in it {all} is in its places or went back");
            self.found(FindingKind::Envelope, what);
        }
        if head.ended.is_empty() && head.closing.is_empty() && in_reserve != head.kept {
            let what = format!("{id}: money in its reserve: {} is on record, the rows make {in_reserve}", head.kept);
            self.found(FindingKind::Envelope, what);
        }
    }
}

/// Where a share lies.
#[derive(Clone, Copy)]
enum Place {
    Reserve,
    Transfer(Bucket),
    Pool(Bucket),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Reserve => write!(f, "in the reserve"),
            Place::Transfer(pool) => write!(f, "in a transfer with the pool in bucket {}", pool.number()),
            Place::Pool(pool) => write!(f, "in the pool in bucket {}", pool.number()),
        }
    }
}

/// Where each share was seen, and the first that was seen twice.
struct Seen {
    places: Vec<Option<Place>>,
    twice: Option<(u32, Place, Place)>,
}

impl Seen {
    fn at(&mut self, share: u32, place: Place) {
        // Shares that are not the split's are told of where they lie.
        let Some(seen) = self.places.get_mut(share as usize) else { return };
        if let Some(first) = seen.replace(place) {
            self.twice.get_or_insert((share, first, place));
        }
    }
}
