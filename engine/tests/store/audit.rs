//! The audit: silent over what was projected, and not over what is planted.

use super::script::{self, Script};
use super::{in_memory, projected};
use hongbao_engine::address::AddressMark;
use hongbao_engine::event::CodesHanded;
use hongbao_engine::gift::{Gift, GiftState};
use hongbao_engine::group::{Group, GroupState};
use hongbao_engine::payout::{Payout, PayoutState};
use hongbao_engine::sale::{MerchantBalance, MerchantEntryKind, SaleOf, Slot};
use hongbao_engine::store::*;
use hongbao_engine::types::*;

pub(crate) fn findings(store: &Store) -> Vec<String> {
    let mut findings = Vec::new();
    let equal = |created: &hongbao_engine::event::EnvelopeCreated| {
        let each = created.terms.total.minor() / u64::from(created.terms.shares);
        Some(vec![script::amount(each); created.terms.shares as usize])
    };
    let audited = store.audit(&equal, &mut |finding| findings.push(finding)).unwrap();
    assert_eq!(audited.findings, findings.len() as u64);
    findings
}

#[test]
fn an_audit_of_what_was_projected_finds_nothing() {
    for seed in 0..8 {
        for records in [0, 1, 30, 400] {
            let store = projected(&mut Script::of(seed, records));
            assert_eq!(findings(&store), [] as [&str; 0], "seed {seed}, {records} records");
        }
    }
    let mut looked_at = 0;
    let store = projected(&mut Script::of(0, 400));
    let audited = store.audit(&|_| None, &mut |_| looked_at += 1).unwrap();
    let Audited {
        wallets,
        entries,
        envelopes,
        wins,
        items,
        holds,
        orders,
        payouts,
        gifts,
        groups,
        codes,
        relations,
        findings: _,
    } = audited;
    assert!(
        [wallets, entries, envelopes, wins, items, holds, orders, payouts, gifts, groups, codes, relations]
            .iter()
            .all(|&seen| seen > 0),
        "{audited:?}"
    );
}

/// A change to one row, and what an audit is to say to it.
struct Plant {
    says: &'static str,
    table: Table,
    /// What to do to a row; `None` if this one does not lend itself to it.
    change: fn(&[u8], &[u8]) -> Option<Planted>,
}

enum Planted {
    Deleted,
    Value(Vec<u8>),
    Copied(Vec<u8>),
}

/// A gift changed, if that makes it another.
fn gift_changed(value: &[u8], change: impl FnOnce(&mut Gift)) -> Option<Planted> {
    let before: Gift = postcard::from_bytes(value).ok()?;
    let mut gift = before.clone();
    change(&mut gift);
    (gift != before).then(|| Planted::Value(postcard::to_allocvec(&gift).unwrap()))
}

/// The same of one that was paid: of another nothing else tells what it costs.
fn moved_money(value: &[u8], change: impl FnOnce(&mut Gift)) -> Option<Planted> {
    postcard::from_bytes::<Gift>(value).ok()?.paid_at?;
    gift_changed(value, change)
}

/// A group changed, if `change` says that it lends itself to that.
fn group_changed(value: &[u8], change: impl FnOnce(&mut Group) -> bool) -> Option<Planted> {
    let mut group: Group = postcard::from_bytes(value).ok()?;
    change(&mut group).then(|| Planted::Value(postcard::to_allocvec(&group).unwrap()))
}

/// Whether a key of codes is of a text (0), a digest (1) or of what was handed (2).
fn is_part(key: &[u8], part: u8) -> bool {
    key[16] == part
}

/// What was handed, changed, if it is that and can be.
fn handed(value: &[u8], change: impl FnOnce(&mut CodesHanded) -> Option<()>) -> Option<Planted> {
    let (mut handed, rest) = postcard::take_from_bytes::<CodesHanded>(value).ok()?;
    if !rest.is_empty() {
        return None;
    }
    change(&mut handed)?;
    Some(Planted::Value(postcard::to_allocvec(&handed).unwrap()))
}

/// A payout changed, if that makes it another.
fn changed(value: &[u8], change: impl FnOnce(&mut Payout)) -> Option<Planted> {
    let before: Payout = postcard::from_bytes(value).ok()?;
    let mut payout = before.clone();
    change(&mut payout);
    (payout != before).then(|| Planted::Value(postcard::to_allocvec(&payout).unwrap()))
}

const PLANTS: &[Plant] = &[
    Plant {
        says: "the totals do not balance",
        table: Table::Meta,
        change: |key, value| {
            let mut position: Position = postcard::from_bytes(value).ok().filter(|_| key == b"position")?;
            position.totals.wallets += 1;
            Some(Planted::Value(postcard::to_allocvec(&position).unwrap()))
        },
    },
    Plant { says: "money in wallets", table: Table::Wallets, change: |_, _| Some(Planted::Value(vec![101, 0])) },
    Plant { says: "s wallet at", table: Table::Wallets, change: |_, _| Some(Planted::Value(vec![101, 0])) },
    Plant { says: "has movements and no wallet", table: Table::Wallets, change: |_, _| Some(Planted::Deleted) },
    Plant { says: "movement", table: Table::Entries, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "is taken and share",
        table: Table::Wins,
        change: |key, _| (key[19] == 0).then_some(Planted::Deleted),
    },
    Plant {
        says: "the split has",
        table: Table::Wins,
        change: |_, value| Some(Planted::Value([&[value[0] ^ 1], &value[1..]].concat())),
    },
    Plant {
        says: "more than one share",
        table: Table::Wins,
        change: |key, _| Some(Planted::Copied([&key[..19], &[key[19] + 1]].concat())),
    },
    Plant {
        says: "shares are taken of",
        table: Table::Wins,
        change: |key, _| Some(Planted::Copied([&key[..19], &[5]].concat())),
    },
    Plant { says: "is not in the list of", table: Table::Received, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "lists of received shares",
        table: Table::Received,
        change: |key, _| Some(Planted::Copied([b"u", key].concat())),
    },
    Plant { says: "missing from the list `sent`", table: Table::Sent, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "missing from the list `envelopes_by_time`",
        table: Table::EnvelopesByTime,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant { says: "list `live_envelopes`", table: Table::LiveEnvelopes, change: |_, _| Some(Planted::Deleted) },
    Plant { says: "with those of no envelope", table: Table::Envelopes, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "money in envelopes",
        table: Table::EnvelopeEnds,
        change: |key, _| (key[16] == 0).then_some(Planted::Deleted),
    },
    Plant {
        says: "money sent back when it was settled",
        table: Table::EnvelopeEnds,
        change: |key, _| (key[16] == 1).then_some(Planted::Deleted),
    },
    Plant {
        says: "not settled",
        table: Table::EnvelopeEnds,
        change: |key, _| (key[16] == 2).then_some(Planted::Deleted),
    },
    Plant {
        says: "shares taken when it was settled",
        table: Table::EnvelopeEnds,
        change: |key, value| {
            let (at, mut settled): (Timestamp, hongbao_engine::event::EnvelopeSettled) =
                postcard::from_bytes(value).ok().filter(|_| key[16] == 2)?;
            settled.taken += 1;
            Some(Planted::Value(postcard::to_allocvec(&(at, settled)).unwrap()))
        },
    },
    Plant {
        says: "money refunded at its end",
        table: Table::EnvelopeEnds,
        change: |key, value| {
            let (at, mut ended): (Timestamp, hongbao_engine::event::EnvelopeEnded) =
                postcard::from_bytes(value).ok().filter(|_| key[16] == 0)?;
            ended.refund += script::amount(1);
            Some(Planted::Value(postcard::to_allocvec(&(at, ended)).unwrap()))
        },
    },
    Plant {
        says: "oversold",
        table: Table::Items,
        change: |_, value| {
            let mut item: hongbao_engine::event::ItemPut = postcard::from_bytes(value).ok()?;
            item.stock_total = 0;
            Some(Planted::Value(postcard::to_allocvec(&item).unwrap()))
        },
    },
    Plant {
        says: "missing from the list `items_by_time`",
        table: Table::ItemsByTime,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant { says: "there is no such item", table: Table::Items, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "units held for",
        table: Table::ItemUnits,
        change: |_, value| Some(Planted::Value(vec![value[0] + 1, value[1]])),
    },
    Plant {
        says: "units sold to its users",
        table: Table::ItemUnits,
        change: |_, value| Some(Planted::Value(vec![value[0], value[1] + 1])),
    },
    Plant { says: "units held for", table: Table::LiveHolds, change: |_, _| Some(Planted::Deleted) },
    Plant { says: "not listed as live", table: Table::LiveHolds, change: |_, _| Some(Planted::Deleted) },
    Plant { says: "is missing", table: Table::Orders, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "does not agree with",
        table: Table::Orders,
        change: |_, value| {
            let mut order: hongbao_engine::command::OrderView = postcard::from_bytes(value).ok()?;
            order.quantity += 1;
            Some(Planted::Value(postcard::to_allocvec(&order).unwrap()))
        },
    },
    Plant {
        says: "does not agree with",
        table: Table::Holds,
        // One that is live is missed before: nothing else tells of what it is.
        change: |_, value| {
            let hold: hongbao_engine::command::HoldView = postcard::from_bytes(value).ok()?;
            (hold.state != hongbao_engine::command::HoldState::Held).then_some(Planted::Deleted)
        },
    },
    Plant {
        says: "it stands under another id",
        table: Table::ApiKeys,
        change: |_, _| Some(Planted::Copied(vec![7; 16])),
    },
    Plant {
        says: "it is the same key as",
        table: Table::ApiKeys,
        change: |_, value| {
            let key: hongbao_engine::api_key::ApiKey = postcard::from_bytes(value).ok()?;
            key.deleted_at.is_none().then(|| Planted::Copied(vec![7; 16]))
        },
    },
    Plant {
        says: "money in payouts to its winners",
        table: Table::PayoutsOfEnvelope,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant {
        says: "money in payouts to its sender",
        table: Table::PayoutsOfEnvelope,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant { says: "in its list and not on record", table: Table::Payouts, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "missing from the list `payouts_by_state`",
        table: Table::PayoutsByState,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant {
        says: "rows in the lists of payouts by state",
        table: Table::PayoutsByState,
        change: |key, _| Some(Planted::Copied([&[key[0] ^ 1], &key[1..]].concat())),
    },
    Plant {
        says: "money in payouts not paid",
        table: Table::Payouts,
        change: |_, value| changed(value, |payout| payout.amount += script::amount(1)),
    },
    Plant {
        says: "do not go to those who claimed",
        table: Table::Payouts,
        change: |_, value| changed(value, |payout| payout.user = script::user(30)),
    },
    Plant {
        says: "not to its sender",
        table: Table::Payouts,
        change: |_, value| changed(value, |payout| payout.user = script::user(30)),
    },
    Plant {
        says: "money paid out",
        table: Table::Payouts,
        change: |_, value| changed(value, |payout| payout.state = PayoutState::Paid),
    },
    Plant {
        says: "payouts that are due",
        table: Table::Payouts,
        change: |_, value| changed(value, |payout| payout.state = PayoutState::Due),
    },
    Plant {
        says: "and out of",
        table: Table::Payouts,
        change: |_, value| changed(value, |payout| payout.envelope = EnvelopeId::from_bytes([9; 16])),
    },
    Plant {
        says: "money in payouts to its winners",
        table: Table::EnvelopeEnds,
        change: |key, _| (key[16] == 3).then_some(Planted::Deleted),
    },
    Plant {
        says: "money deposited",
        table: Table::EnvelopeEnds,
        change: |key, _| (key[16] == 3).then_some(Planted::Deleted),
    },
    Plant {
        says: "missing from the list `gifts_of_user`",
        table: Table::GiftsOfUser,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant {
        says: "list of users' gifts",
        table: Table::GiftsOfUser,
        change: |key, _| Some(Planted::Copied([b"u", key].concat())),
    },
    Plant {
        says: "missing from the list `live_gifts`",
        table: Table::LiveGifts,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant { says: "list of gifts that have a deadline", table: Table::Gifts, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "money in envelopes, gifts and groups",
        table: Table::Gifts,
        change: |_, value| moved_money(value, |gift| gift.amount += script::amount(1)),
    },
    Plant {
        says: "was paid for gifts",
        table: Table::Gifts,
        change: |_, value| moved_money(value, |gift| gift.payer = script::user(30)),
    },
    Plant {
        says: "came back from gifts",
        table: Table::Gifts,
        change: |_, value| moved_money(value, |gift| gift.amount += script::amount(1)),
    },
    Plant { says: "does not stand with both", table: Table::Relations, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "does not stand with both",
        table: Table::Relations,
        change: |_, value| Some(Planted::Value(vec![3 - value[0]])),
    },
    Plant {
        says: "they are nothing to each other",
        table: Table::Relations,
        change: |_, _| Some(Planted::Value(vec![0])),
    },
    Plant {
        says: "money owed to merchant",
        table: Table::Gifts,
        change: |_, value| moved_money(value, |gift| gift.state = GiftState::Shipped),
    },
    Plant {
        says: "units held for",
        table: Table::Gifts,
        change: |_, value| {
            postcard::from_bytes::<Gift>(value).ok().filter(|gift| gift.state == GiftState::Offered)?;
            gift_changed(value, |gift| gift.giver = script::user(30))
        },
    },
    Plant {
        says: "units sold to its users",
        table: Table::Gifts,
        change: |_, value| moved_money(value, |gift| gift.state = GiftState::Accepted),
    },
    Plant {
        says: "should not be in the list `live_gifts`",
        table: Table::Gifts,
        change: |_, value| {
            postcard::from_bytes::<Gift>(value).ok().filter(|gift| gift.state == GiftState::Offered)?;
            gift_changed(value, |gift| gift.state = GiftState::Declined)
        },
    },
    Plant {
        says: "its sealed address is missing",
        table: Table::SealedAddresses,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant {
        says: "sealed addresses",
        table: Table::SealedAddresses,
        change: |_, _| Some(Planted::Copied(vec![7; 16])),
    },
    Plant {
        says: "of a gift that is not there",
        table: Table::Addresses,
        change: |_, _| Some(Planted::Copied(vec![7; 16])),
    },
    Plant {
        says: "is not erased as its state says",
        table: Table::Addresses,
        change: |_, value| {
            let mark: AddressMark = postcard::from_bytes(value).ok()?;
            let erase_at = if mark.erase_at.is_some() { None } else { Some(Timestamp::default()) };
            Some(Planted::Value(postcard::to_allocvec(&AddressMark { erase_at, ..mark }).unwrap()))
        },
    },
    Plant {
        says: "it stands under another id",
        table: Table::Gifts,
        change: |_, _| Some(Planted::Copied(vec![7; 16])),
    },
    Plant { says: "missing from the groups of", table: Table::GroupsOfUser, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "lists of users' groups",
        table: Table::GroupsOfUser,
        change: |key, _| Some(Planted::Copied([b"u", key].concat())),
    },
    Plant {
        says: "list `live_groups` says otherwise",
        table: Table::LiveGroups,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant { says: "list of open groups", table: Table::LiveGroups, change: |_, _| Some(Planted::Copied(vec![7; 16])) },
    Plant {
        says: "does not tell as what it stands",
        table: Table::GroupsOfItem,
        change: |_, value| Some(Planted::Value(vec![(value[0] + 1) % 4])),
    },
    Plant {
        says: "lists of items' groups",
        table: Table::GroupsOfItem,
        change: |key, _| Some(Planted::Copied([&key[..24], &[7; 16]].concat())),
    },
    Plant {
        says: "not those who joined and did not leave",
        table: Table::GroupJoins,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant {
        says: "rows of who joined groups",
        table: Table::GroupJoins,
        change: |_, _| Some(Planted::Copied(vec![7; 32])),
    },
    // Somebody paid twice, and one of those who left has no money back.
    Plant { says: "was paid for groups", table: Table::GroupJoins, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "came back from groups",
        table: Table::Groups,
        change: |_, value| {
            group_changed(value, |group| {
                let was = group.state;
                group.state = GroupState::Expired;
                was == GroupState::Open
            })
        },
    },
    Plant {
        says: "it stands under another id",
        table: Table::Groups,
        change: |_, _| Some(Planted::Copied(vec![7; 16])),
    },
    Plant {
        says: "somebody is in it twice",
        table: Table::Groups,
        change: |_, value| {
            group_changed(value, |group| {
                let first = group.members[0].clone();
                group.members.push(first);
                true
            })
        },
    },
    Plant {
        says: "members of",
        table: Table::Groups,
        change: |_, value| {
            group_changed(value, |group| {
                group.size += 1;
                group.state == GroupState::Full
            })
        },
    },
    Plant {
        says: "its end is told otherwise",
        table: Table::Groups,
        change: |_, value| group_changed(value, |group| group.ended_at.take().is_some()),
    },
    Plant {
        says: "money in envelopes, gifts and groups",
        table: Table::Groups,
        change: |_, value| {
            group_changed(value, |group| {
                group.price += script::amount(1);
                group.state == GroupState::Open
            })
        },
    },
    Plant {
        says: "units held for",
        table: Table::Groups,
        change: |_, value| {
            group_changed(value, |group| {
                group.members[0].user = script::user(30);
                group.state == GroupState::Open
            })
        },
    },
    Plant {
        says: "is not as that says",
        table: Table::Groups,
        change: |_, value| {
            group_changed(value, |group| {
                group.members[0].user = script::user(30);
                group.state == GroupState::Full
            })
        },
    },
    Plant { says: "is missing", table: Table::Codes, change: |key, _| is_part(key, 0).then_some(Planted::Deleted) },
    Plant {
        says: "is not found by its digest",
        table: Table::Codes,
        change: |key, _| is_part(key, 0).then(|| Planted::Value(b"\x05other".to_vec())),
    },
    Plant {
        says: "is not found by its digest",
        table: Table::Codes,
        change: |key, _| is_part(key, 1).then_some(Planted::Deleted),
    },
    Plant {
        says: "digests of codes",
        table: Table::Codes,
        change: |key, value| is_part(key, 1).then(|| Planted::Copied([&key[..32], &[!value[0]][..]].concat())),
    },
    Plant {
        says: "codes handed out",
        table: Table::Codes,
        change: |key, _| is_part(key, 2).then_some(Planted::Deleted),
    },
    Plant {
        says: "were handed twice",
        table: Table::Codes,
        change: |_, value| {
            handed(value, |handed| {
                handed.first = handed.first.checked_sub(1)?;
                Some(())
            })
        },
    },
    Plant {
        says: "were handed to nobody",
        table: Table::Codes,
        change: |_, value| {
            handed(value, |handed| {
                handed.first += 1;
                Some(())
            })
        },
    },
    Plant {
        says: "is not an order or gift of so many",
        table: Table::Codes,
        change: |_, value| {
            handed(value, |handed| {
                handed.count += 1;
                Some(())
            })
        },
    },
    Plant {
        says: "stands under another id",
        table: Table::Codes,
        change: |key, _| is_part(key, 2).then(|| Planted::Copied([&[7; 16], &[2][..]].concat())),
    },
    Plant {
        says: "money owed to merchant",
        table: Table::Merchants,
        change: |key, _| (key.last() == Some(&1)).then(|| Planted::Value(vec![1])),
    },
    Plant {
        says: "pending, its entries make",
        table: Table::Merchants,
        change: |key, _| (key.last() == Some(&2)).then(|| Planted::Value(vec![0])),
    },
    Plant { says: "what is pending by time", table: Table::MerchantSlots, change: |_, _| Some(Planted::Deleted) },
    Plant {
        says: "money pending of merchant",
        table: Table::MerchantSlots,
        change: |_, value| {
            let mut slot: Slot = postcard::from_bytes(value).ok()?;
            slot.amount += script::amount(1);
            Some(Planted::Value(postcard::to_allocvec(&slot).unwrap()))
        },
    },
    Plant {
        says: "does not begin where the one before it ended",
        table: Table::MerchantEntries,
        change: |_, _| Some(Planted::Deleted),
    },
    Plant {
        says: "settled of what was due",
        table: Table::MerchantEntries,
        change: |_, value| entry_changed(value, |kind| matches!(kind, MerchantEntryKind::Commission { .. })),
    },
    Plant {
        says: "the platform's commissions",
        table: Table::MerchantEntries,
        change: |_, value| entry_changed(value, |kind| matches!(kind, MerchantEntryKind::Commission { .. })),
    },
    Plant {
        says: "money withdrawn",
        table: Table::MerchantEntries,
        change: |_, value| entry_changed(value, |kind| matches!(kind, MerchantEntryKind::Withdrawal(_))),
    },
    Plant {
        says: "something was sold of which there is no row",
        table: Table::MerchantEntries,
        change: |_, value| {
            entry_changed(value, |kind| match kind {
                MerchantEntryKind::Sale { of, .. } => {
                    *of = SaleOf::Order(OrderId::from_bytes([9; 16]));
                    true
                }
                _ => false,
            })
        },
    },
];

/// An entry of a merchant with one more moved, if it is one that `change` wants.
fn entry_changed(value: &[u8], change: fn(&mut MerchantEntryKind) -> bool) -> Option<Planted> {
    let (mut kind, mut amount, after) =
        postcard::from_bytes::<(MerchantEntryKind, Amount, MerchantBalance)>(value).ok()?;
    amount += script::amount(1);
    change(&mut kind).then(|| Planted::Value(postcard::to_allocvec(&(kind, amount, after)).unwrap()))
}

#[test]
fn an_audit_finds_what_is_planted() {
    for plant in PLANTS {
        // Not every row, and not every journal, has what a plant needs.
        let found = (0..20).any(|seed| {
            let (rows, store) = in_memory();
            let mut script = Script::of(seed, 200);
            for batch in script.batches() {
                store.project(batch.first_lsn(), batch.records(), StepLimits { events: 9999, bytes: 1 << 30 }).unwrap();
            }
            rows.snapshot().scan(plant.table, &KeyRange::all()).any(|row| {
                let (key, value) = row.unwrap();
                let Some(change) = (plant.change)(&key, &value) else { return false };
                let before = rows.snapshot();
                let (key, value) = match change {
                    Planted::Deleted => (key, None),
                    Planted::Value(value) => (key, Some(Bytes::from(value))),
                    Planted::Copied(other) => (Bytes::from(other), Some(value)),
                };
                let was = before.get(plant.table, &key).unwrap();
                rows.commit(vec![(plant.table, key.clone(), value)]).unwrap();
                let found = findings(&store);
                // Where nothing was claimed yet, nothing else tells whether an envelope pays outside.
                let may_be_silent = [Table::Items, Table::Holds, Table::EnvelopeEnds].contains(&plant.table);
                assert!(!found.is_empty() || may_be_silent, "{:?} {}", plant.table, plant.says);
                rows.commit(vec![(plant.table, key, was)]).unwrap();
                found.iter().any(|finding| finding.contains(plant.says))
            })
        });
        assert!(found, "{:?}: nothing says {:?}", plant.table, plant.says);
    }
}
