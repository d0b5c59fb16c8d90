//! Groups are not in front of Redis yet: what has to do with them is refused, and not copied there.

use crate::copy::Stage;
use crate::races::Two;
use crate::redis_stand::is_missing;
use crate::stand::{fen, item, user};
use hongbao_engine::backend::{Backend, Page};
use hongbao_engine::command::*;
use hongbao_engine::group::{GroupBuy, GroupsOf, NewGroup};
use hongbao_engine::memory::Embedded;
use hongbao_engine::types::*;

fn to_groups() -> Option<GroupBuy> {
    Some(GroupBuy { size: 2, price: fen(9), within_s: 60 })
}

fn opening(item: ItemId) -> Command {
    let (owner, leader) = ("app".to_owned(), user("alice"));
    Command::OpenGroup(Box::new(NewGroup { owner, item, leader, reference: None }))
}

#[test]
fn nothing_is_sold_to_groups() {
    let Some(two) = Two::new(90) else { return };
    let id = two.sell(item(3));
    let group = GroupId::from_bytes(*id.bytes());
    let change = |group_buy| Box::new(ItemChange { group_buy: Some(group_buy), ..ItemChange::default() });
    for refused in [
        Command::CreateItem(Box::new(NewItem { group_buy: to_groups(), ..item(3) })),
        Command::ChangeItem { item: id, change: change(to_groups()) },
        opening(id),
        Command::JoinGroup { group, user: user("alice") },
        Command::LeaveGroup { group, user: user("alice") },
    ] {
        let told = two.ask(refused.clone());
        let is_named =
            matches!(&told, Outcome::Refused(Refusal::WrongState(why)) if why.contains("--backend embedded"));
        assert!(is_named, "{refused:?} was told {told:?}");
    }
    assert!(matches!(two.ask(Command::ChangeItem { item: id, change: change(None) }), Outcome::Item(_)));
    assert_eq!(two.deployment.drive(two.engines[1].group(group)).expect("a read"), None);
    let page = Page { limit: 10, cursor: None };
    let listing = two.deployment.drive(two.engines[1].groups(&GroupsOf::Item(id, None), &page)).expect("a read");
    assert_eq!(listing.rows, []);
}

#[test]
fn a_directory_with_groups_is_not_copied_there() {
    if is_missing() {
        return;
    }
    for is_opened in [false, true] {
        let stage = Stage::new(91);
        let first = stage.path("first");
        let (engine, _) = Embedded::open(&first, stage.embedded.clone()).expect("it opens");
        let ask = |command| stage.deployment.drive(engine.execute(command, None)).expect("it is answered").outcome;
        ask(Command::PutMerchant(Box::new(NewMerchant::new(user("rosy"), "Rosy", Some(MerchantStatus::Verified)))));
        ask(Command::Deposit(Transfer { user: user("alice"), amount: fen(100), reference: None }));
        let terms = NewItem { group_buy: to_groups(), ..item(3) };
        let Outcome::Item(made) = ask(Command::CreateItem(Box::new(terms))) else { panic!("no item") };
        if is_opened {
            // And sold to groups no more.
            assert!(matches!(ask(opening(made.id)), Outcome::Group(_)));
            let change = Box::new(ItemChange { group_buy: Some(None), ..ItemChange::default() });
            assert!(matches!(ask(Command::ChangeItem { item: made.id, change }), Outcome::Item(_)));
        }
        engine.close().expect("it closes");
        drop(engine);
        let why = stage.to_redis(&first, None).expect_err("it is refused").to_string();
        assert!(why.contains("sold to groups"), "{why}");
    }
}
