use super::*;
use crate::address::AddressKeep;
use crate::entropy::SystemEntropy;
use crate::storage::faulty::{Fault, FaultyDisk};

fn key(nth: u8) -> AddressKey {
    AddressKey::from_bytes([nth; 32])
}

fn of(nth: u8) -> Of {
    Of { gift: GiftId::from_bytes([nth; 16]), version: u32::from(nth) }
}

fn address(nth: u8) -> Address {
    Address {
        name: format!("name {nth}"),
        phone: "138".to_owned(),
        lines: vec![format!("{nth} West Lake")],
        city: "Hangzhou".to_owned(),
        postcode: "310000".to_owned(),
    }
}

fn open(disk: &FaultyDisk, keys: &[u8]) -> Result<(SlotFile, Vec<(u32, Found)>), SlotsError> {
    let older = keys[1..].iter().map(|nth| key(*nth)).collect();
    let options = AddressOptions { older, ..AddressOptions::new(key(keys[0])) };
    SlotFile::open(disk, &options, Arc::new(SystemEntropy))
}

fn seal(slots: &SlotFile, nth: u8) -> Draft {
    slots.seal(of(nth), &address(nth), AddressKeep::default()).unwrap()
}

#[test]
fn a_slot_is_on_the_disk_when_it_is_given_and_gone_when_it_is_erased() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let drafts: Vec<Draft> = {
            let (slots, found) = open(&disk, &[1]).unwrap();
            assert!(found.is_empty());
            (1..=3).map(|nth| seal(&slots, nth)).collect()
        };
        disk.crash();
        let (slots, found) = open(&disk, &[1]).unwrap();
        assert_eq!(found.len(), 3, "seed {seed}");
        let opened = |slots: &SlotFile, nth: u8| {
            let draft = &drafts[usize::from(nth) - 1];
            slots.open_sealed(draft.slot, of(nth), &draft.sealed).unwrap()
        };
        assert_eq!(opened(&slots, 2), Some(address(2)));
        let wrapped = disk.content(FILE).unwrap()[place(drafts[1].slot) as usize + 44..][..48].to_vec();
        slots.erase(&[(drafts[1].slot, of(2))]).unwrap();
        disk.crash();
        let (slots, found) = open(&disk, &[1]).unwrap();
        assert!(found.contains(&(drafts[1].slot, Found::Erased(of(2).gift, 2))), "seed {seed}: {found:?}");
        assert!(!disk.content(FILE).unwrap().windows(48).any(|bytes| bytes == wrapped));
        assert_eq!((opened(&slots, 2), opened(&slots, 1)), (None, Some(address(1))));
        // It is not given out again before it is released.
        assert!((4..=8).all(|nth| seal(&slots, nth).slot != drafts[1].slot));
        slots.release(drafts[1].slot, of(1));
        assert_ne!(seal(&slots, 10).slot, drafts[1].slot, "another's is not released");
        slots.release(drafts[1].slot, of(2));
        assert_eq!(seal(&slots, 9).slot, drafts[1].slot);
        assert_eq!(opened(&slots, 2), None);
    }
}

#[test]
fn a_rotation_ends_wherever_the_power_fails() {
    const SLOTS: u8 = 20;
    let sealed_under_one = FaultyDisk::new(7);
    let drafts: Vec<Draft> = {
        let (slots, _) = open(&sealed_under_one, &[1]).unwrap();
        (1..=SLOTS).map(|nth| seal(&slots, nth)).collect()
    };
    let mut interrupted = 0;
    for call in 1.. {
        let disk = sealed_under_one.fork(call);
        disk.fail_call(call, Fault::PowerCut, false);
        let failed = open(&disk, &[2, 1]).is_err();
        disk.crash();
        // Before it has begun the old key is needed, and afterwards too until it has ended.
        let (slots, _) = open(&disk, &[2, 1]).unwrap();
        for (nth, draft) in (1..).zip(&drafts) {
            let opened = slots.open_sealed(draft.slot, of(nth), &draft.sealed).unwrap();
            assert_eq!(opened, Some(address(nth)), "the power failed at call {call}");
        }
        disk.crash();
        assert!(open(&disk, &[2]).is_ok(), "the old key is not needed any more, call {call}");
        assert_eq!(disk.names(), [FILE], "call {call}");
        if !failed {
            break;
        }
        interrupted += 1;
    }
    assert!(interrupted > 5, "it was interrupted {interrupted} times");
}

#[test]
fn another_key_is_refused_with_words() {
    let disk = FaultyDisk::new(1);
    let (slots, _) = open(&disk, &[1]).unwrap();
    seal(&slots, 1);
    let told = open(&disk, &[2, 3]).err().expect("it is another key").to_string();
    assert!(
        told.starts_with(&format!("1 addresses are sealed with address keys that were not given: {}", key(1).id()))
    );
    assert!(SlotFile::any_used(&disk).unwrap());
    assert!(open(&disk, &[1]).is_ok());
}

#[test]
fn what_a_failed_sync_has_left_is_not_trusted() {
    let disk = FaultyDisk::new(3);
    let (slots, _) = open(&disk, &[1]).unwrap();
    let kept = seal(&slots, 1);
    // A slot that is there takes a write and a sync.
    disk.fail_call(2, Fault::Eio, false);
    assert!(slots.seal(of(2), &address(2), AddressKeep::default()).is_err());
    assert!(slots.erase(&[(kept.slot, of(1))]).is_err(), "nothing more is written");
    disk.crash();
    let (slots, _) = open(&disk, &[1]).unwrap();
    assert_eq!(slots.open_sealed(kept.slot, of(1), &kept.sealed).unwrap(), Some(address(1)));
}
