//! Groups that buy an item together: many at once, the last place, and a hundred members in one record.

mod stand;

use hongbao_engine::audit::audit;
use hongbao_engine::backend::{Backend, OnceKey, Page};
use hongbao_engine::code::Code;
use hongbao_engine::command::*;
use hongbao_engine::group::{Group, GroupBuy, GroupState, GroupsOf, NewGroup};
use hongbao_engine::types::*;
use stand::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const THREADS: usize = 8;

fn to_groups(size: u32, within_s: u64) -> Option<GroupBuy> {
    Some(GroupBuy { size, price: fen(9), within_s })
}

fn open(stand: &InDirectory, item: ItemId, leader: &UserId) -> Outcome {
    let terms = NewGroup { owner: "app".to_owned(), item, leader: leader.clone(), reference: None };
    stand.ask(Command::OpenGroup(Box::new(terms)))
}

fn opened(stand: &InDirectory, item: ItemId, leader: &UserId) -> GroupId {
    match open(stand, item, leader) {
        Outcome::Group(group) => group.id,
        other => panic!("a group was expected, not {other:?}"),
    }
}

fn join(stand: &InDirectory, group: GroupId, user: &UserId) -> Outcome {
    stand.ask(Command::JoinGroup { group, user: user.clone() })
}

fn leave(stand: &InDirectory, group: GroupId, user: &UserId) -> Outcome {
    stand.ask(Command::LeaveGroup { group, user: user.clone() })
}

fn seen(stand: &InDirectory, group: GroupId) -> Group {
    wait(stand.group(group)).expect("a read").expect("a group")
}

fn all(stand: &InDirectory, item: ItemId) -> Vec<Group> {
    let (mut groups, mut page) = (Vec::new(), Page { limit: 1000, cursor: None });
    loop {
        let listing = wait(stand.groups(&GroupsOf::Item(item, None), &page)).expect("a read");
        groups.extend(listing.rows);
        match listing.next {
            Some(next) => page.cursor = Some(next),
            None => return groups,
        }
    }
}

#[test]
fn the_last_place_goes_to_one_of_many_who_want_it() {
    const ROUNDS: usize = 20;
    let stand = InDirectory::new(80);
    let item = stand.sell(NewItem { group_buy: to_groups(2, 3600), ..item(2 * ROUNDS as u32) });
    let joiners: Vec<UserId> = (0..THREADS).map(nth_user).collect();
    let leader = user("leader");
    stand.deposit(&leader, 9 * ROUNDS as u64);
    joiners.iter().for_each(|joiner| stand.deposit(joiner, 9 * ROUNDS as u64));
    for _ in 0..ROUNDS {
        let group = opened(&stand, item, &leader);
        let told = at_once(THREADS, |n| join(&stand, group, &joiners[n]));
        let joined = |told: &&Outcome| matches!(told, Outcome::Joined { order: Some(_), replayed: false, .. });
        assert_eq!(told.iter().filter(joined).count(), 1, "{told:?}");
        assert_eq!(told.iter().filter(|told| **told == Outcome::GroupFull).count(), THREADS - 1, "{told:?}");
    }
    let spent: u64 = joiners.iter().map(|joiner| 9 * ROUNDS as u64 - stand.available(joiner)).sum();
    assert_eq!((spent, stand.available(&leader)), (9 * ROUNDS as u64, 0));
    assert_eq!(stand.stock(item), Stock { total: 2 * ROUNDS as u32, free: 0, held: 0, sold: 2 * ROUNDS as u32 });
    stand.assert_balanced();
}

#[test]
fn a_leader_who_leaves_and_the_last_who_joins_are_one_before_the_other() {
    let stand = InDirectory::new(81);
    let item = stand.sell(NewItem { group_buy: to_groups(2, 3600), ..item(1000) });
    let [leader, joiner] = [user("leader"), user("joiner")];
    stand.deposit(&leader, 9000);
    stand.deposit(&joiner, 9000);
    let mut bought = 0;
    for _ in 0..60 {
        let group = opened(&stand, item, &leader);
        let told = at_once(2, |n| if n == 0 { leave(&stand, group, &leader) } else { join(&stand, group, &joiner) });
        match (&told[0], &told[1]) {
            (Outcome::Refused(Refusal::WrongState(_)), Outcome::Joined { order: Some(_), .. }) => bought += 2,
            (Outcome::Group(left), Outcome::LeaderLeft) => assert_eq!(left.state, GroupState::LeaderLeft),
            other => panic!("{other:?}"),
        }
        assert_eq!(9000 - stand.available(&leader), 9 * bought / 2);
        assert_eq!(9000 - stand.available(&joiner), 9 * bought / 2);
        assert_eq!(u64::from(stand.stock(item).sold), bought);
    }
    assert_eq!(stand.stock(item).held, 0);
    stand.assert_balanced();
}

/// With the longest names, under keys, and of codes, as no record is longer.
#[test]
fn a_hundred_members_buy_or_have_their_money_back_in_one_record() {
    const SIZE: u32 = 100;
    let mut stand = InDirectory::with(82, |options| options.threaded = false);
    let long = |n: u32| UserId::new(&format!("{n:x>64}")).expect("a user's text has up to 64 characters");
    let merchant = UserId::new(&"r".repeat(64)).expect("a user's text");
    let kind = ItemKind::Code;
    let origin = ItemOrigin { kind, ..ItemOrigin::default() };
    let item = stand.sell(NewItem { merchant, origin, group_buy: to_groups(SIZE, 60), ..item(0) });
    let codes = (0..SIZE).map(|n| Code::new(format!("code-{n}"))).collect();
    assert!(matches!(stand.ask(Command::AddCodes { item, codes }), Outcome::Item(_)));
    (0..SIZE).for_each(|n| stand.deposit(&long(n), 9));
    let records = |stand: &InDirectory| stand.stats().staged_lsn.0;
    let gather = |stand: &InDirectory, members: u32| {
        let group = opened(stand, item, &long(0));
        for n in 1..members {
            let once = Some(OnceKey::idempotency("app", "join", &format!("{group}{n}")));
            let told = stand.ask_under(Command::JoinGroup { group, user: long(n) }, once).outcome;
            assert!(matches!(told, Outcome::Joined { replayed: false, .. }), "{told:?}");
        }
        group
    };
    let expired = gather(&stand, SIZE - 1);
    assert_eq!(stand.stock(item).free, 1);
    // Its members' wallets are not in memory any more.
    stand.reopen(|options| options.threaded = false);
    stand.world.advance_s(60);
    let before = records(&stand);
    assert_eq!(join(&stand, expired, &long(SIZE)), Outcome::Expired);
    assert_eq!(records(&stand) - before, 1);
    assert_eq!(seen(&stand, expired).state, GroupState::Expired);
    assert!((0..SIZE).all(|n| stand.available(&long(n)) == 9));
    let left = gather(&stand, SIZE - 1);
    let before = records(&stand);
    assert!(matches!(leave(&stand, left, &long(0)), Outcome::Group(group) if group.state == GroupState::LeaderLeft));
    assert_eq!(records(&stand) - before, 1);
    assert!((0..SIZE).all(|n| stand.available(&long(n)) == 9));
    let before = records(&stand);
    let full = gather(&stand, SIZE);
    assert_eq!(records(&stand) - before, u64::from(SIZE));
    let group = seen(&stand, full);
    let mut handed = Vec::new();
    for member in &group.members {
        let order = group.order_of(&member.user).expect("it is full");
        let view = wait(stand.order(order)).expect("a read").expect("an order");
        assert_eq!((&view.user, view.amount, view.quantity), (&member.user, fen(9), 1));
        let hold = wait(stand.hold(view.hold)).expect("a read").expect("a hold");
        assert_eq!(hold.state, HoldState::Claimed(order));
        // Whoever claims it is told that this was done.
        assert_eq!(stand.claim_hold(view.hold, &member.user), Outcome::Ordered { order, replayed: true });
        handed.extend(wait(stand.codes(hongbao_engine::code::HandedTo::Order(order))).expect("a read"));
    }
    let expected: Vec<Code> = (0..SIZE).map(|n| Code::new(format!("code-{n}"))).collect();
    assert_eq!(handed, expected, "in the order in which they joined");
    assert_eq!(stand.stock(item), Stock { total: SIZE, free: 0, held: 0, sold: SIZE });
    stand.assert_balanced();
    stand.reopen(|options| options.threaded = false);
    assert_eq!(seen(&stand, full), group);
    assert!(matches!(join(&stand, full, &long(7)), Outcome::Joined { order: Some(_), replayed: true, .. }));
}

/// Everything about a few users' groups and holds of one item at once, while deadlines pass and what
/// has ended leaves memory.
#[test]
fn many_threads_buy_one_item_together() {
    const USERS: usize = 10;
    const FORTUNE: u64 = 100_000;
    for (per_user_limit, stock) in [(None, 60), (Some(3), 40), (Some(1), 1000)] {
        let mut stand = InDirectory::with(83, |options| options.projector.persist_after = Duration::from_millis(5));
        let terms = NewItem { per_user_limit, hold_ttl_s: 5, group_buy: to_groups(3, 6), ..item(stock) };
        let item = stand.sell(terms);
        (0..USERS).for_each(|k| stand.deposit(&nth_user(k), FORTUNE));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    stand.assert_balanced();
                    let Stock { total, free, held, sold } = stand.stock(item);
                    assert_eq!(free + held + sold, total);
                    stand.world.advance_s(1);
                    stand.tick();
                }
            });
            at_once(THREADS, |n| {
                let mut roll = n;
                let mut below = |end: usize| {
                    roll = roll.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (roll >> 33) % end
                };
                let mut known = Vec::new();
                for nth in 0..120 {
                    let me = nth_user(below(USERS));
                    let group =
                        if known.is_empty() { None } else { Some(known[known.len() - 1 - below(known.len().min(3))]) };
                    match (below(8), group) {
                        (0, _) | (_, None) => {
                            if let Outcome::Group(group) = open(&stand, item, &me) {
                                known.push(group.id);
                            }
                            known.extend(all(&stand, item).iter().take(2).map(|group| group.id));
                        }
                        (1, Some(group)) => _ = leave(&stand, group, &me),
                        (2, _) => {
                            if let Outcome::Held { hold, .. } = stand.grab_item(item, &me, 1)
                                && nth % 2 == 0
                            {
                                stand.release_hold(hold, &me);
                            }
                        }
                        (_, Some(group)) => _ = join(&stand, group, &me),
                    }
                }
            });
            is_over.store(true, Ordering::SeqCst);
        });
        stand.world.advance_s(60);
        until("nothing is held any more", || stand.stock(item).held == 0);
        let groups = all(&stand, item);
        assert!(groups.iter().all(|group| group.state != GroupState::Open));
        let full: Vec<&Group> = groups.iter().filter(|group| group.state == GroupState::Full).collect();
        let sold = full.iter().map(|group| u64::from(group.size)).sum::<u64>();
        assert_eq!(u64::from(stand.stock(item).sold), sold);
        let wallets: u64 = (0..USERS).map(|k| stand.available(&nth_user(k))).sum();
        let told = wait(Backend::audit(stand.engine())).expect("a read");
        assert_eq!((told.escrowed, told.merchants, wallets), (0, 9 * sold, USERS as u64 * FORTUNE - 9 * sold));
        if let Some(most) = per_user_limit {
            for k in 0..USERS {
                let bought = full.iter().filter(|group| group.member(&nth_user(k)).is_some()).count();
                assert!(bought <= most as usize, "{bought} of {most}");
            }
        }
        let directory = stand.directory.path().to_owned();
        stand.reopen(|_| _ = audit(&directory, None, &mut |finding| panic!("{finding}")).expect("an audit"));
    }
}
