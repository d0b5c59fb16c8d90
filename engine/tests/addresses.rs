//! Sealed addresses: given, changed, opened by nobody else, erased; and what a power failure at
//! any moment leaves of them.

mod stand;

use hongbao_engine::EngineError;
use hongbao_engine::address::{Address, AddressKeep, AddressKey, AddressOptions, AddressRead};
use hongbao_engine::audit::audit;
use hongbao_engine::backend::{Backend, OnceKey};
use hongbao_engine::command::*;
use hongbao_engine::gift::{Gift, GiftState, GiftStep, NewGift};
use hongbao_engine::memory::{Embedded, EmbeddedOptions, OpenError};
use hongbao_engine::storage::faulty::{Fault, FaultyDisk};
use hongbao_engine::store::MemoryRows;
use hongbao_engine::types::*;
use stand::*;
use std::path::Path;
use std::sync::Arc;

const SLOT_BYTES: usize = 128;
const KEEP: AddressKeep = AddressKeep { delivered_s: 100, shipped_s: 500 };

fn key(nth: u8) -> AddressKey {
    AddressKey::from_bytes([nth; 32])
}

fn keeping(options: &mut EmbeddedOptions) {
    options.addresses = Some(kept_addresses(1));
}

fn by_hand(options: &mut EmbeddedOptions) {
    options.threaded = false;
    keeping(options);
}

fn accept_to(street: &str) -> GiftStep {
    GiftStep::AcceptTo { user: user("bob"), token: None, address: Box::new(address(street)) }
}

fn ship_to(address_version: u32) -> GiftStep {
    GiftStep::ShipTo { carrier: "sf".to_owned(), tracking: "SF1".to_owned(), address_version }
}

fn step(stand: &Embedded, gift: GiftId, step: GiftStep) -> Outcome {
    stand.ask(Command::StepGift { gift, step: Box::new(step) })
}

fn gift_of(outcome: Outcome) -> Gift {
    match outcome {
        Outcome::Gift(gift) => *gift,
        other => panic!("a gift was expected, not {other:?}"),
    }
}

/// A gift of alice's to bob, which she has paid.
fn offered(stand: &InDirectory, item: ItemId) -> GiftId {
    stand.deposit(&user("alice"), 10);
    let terms = NewGift { ship_within_s: 50, ..NewGift::new("app", user("alice"), user("bob"), item) };
    gift_of(stand.ask(Command::CreateGift(Box::new(terms)))).id
}

fn read(stand: &Embedded, gift: GiftId) -> AddressRead {
    wait(stand.address(gift)).expect("it is read")
}

fn open(version: u32, street: &str) -> AddressRead {
    AddressRead::Open { version, address: Box::new(address(street)) }
}

fn is_wrong_state(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::WrongState(_)))
}

/// The bytes of all slots that have a key.
fn keys_in(slots: &[u8]) -> Vec<&[u8]> {
    slots.chunks(SLOT_BYTES).filter(|slot| slot.get(1) == Some(&1)).map(|slot| &slot[32..92]).collect()
}

fn slots_of(stand: &InDirectory) -> Vec<u8> {
    std::fs::read(stand.directory.path().join("addresses/slots")).expect("the slots")
}

/// Whether `wanted`, which has no block of zeros, is in a file: most of a journal's are zeros.
fn has(file: &[u8], wanted: &[u8]) -> bool {
    const BLOCK: usize = 4096;
    let blocks = file.chunks(BLOCK).enumerate().filter(|(_, block)| **block != [0; BLOCK][..block.len()]);
    blocks.map(|(nth, block)| nth * BLOCK..(nth * BLOCK + block.len() + wanted.len()).min(file.len())).any(|around| {
        let around = &file[around.start.saturating_sub(wanted.len())..around.end];
        around.windows(wanted.len()).any(|window| window == wanted)
    })
}

/// The files below a directory that have these bytes.
fn files_with(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        // The store removes some of its files while it runs.
        } else if has(&std::fs::read(&path).unwrap_or_default(), bytes) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Race 27: address changed against shipped.
#[test]
fn race_27_an_address_changes_until_it_is_shipped_and_the_merchant_ships_to_what_was_read() {
    let stand = InDirectory::with(80, by_hand);
    let gift = offered(&stand, stand.sell(item(9)));
    assert_eq!(read(&stand, gift), AddressRead::None);
    assert_eq!(gift_of(step(&stand, gift, accept_to("1 West Lake"))).state, GiftState::Accepted);
    assert_eq!(read(&stand, gift), open(1, "1 West Lake"));
    let before = stand.stats().staged_lsn;
    assert_eq!(gift_of(step(&stand, gift, accept_to("1 West Lake"))).state, GiftState::Accepted);
    assert_eq!(stand.stats().staged_lsn, before, "the same again changes nothing");
    let first = keys_in(&slots_of(&stand))[0].to_vec();
    step(&stand, gift, accept_to("2 West Lake"));
    assert_eq!(read(&stand, gift), open(2, "2 West Lake"));
    stand.tick();
    let slots = slots_of(&stand);
    assert!(keys_in(&slots).len() == 1 && keys_in(&slots)[0] != first, "the old one is overwritten");
    // The merchant has read the first one.
    let refused = step(&stand, gift, ship_to(1));
    assert!(matches!(&refused, Outcome::Refused(Refusal::WrongState(why)) if why.contains("version 2")), "{refused:?}");
    assert_eq!(gift_of(step(&stand, gift, ship_to(2))).state, GiftState::Shipped);
    assert!(is_wrong_state(&step(&stand, gift, accept_to("3 West Lake"))), "frozen once it is shipped");
    assert_eq!(gift_of(step(&stand, gift, accept_to("2 West Lake"))).state, GiftState::Shipped, "said again");
    assert_eq!(gift_of(step(&stand, gift, ship_to(2))).state, GiftState::Shipped, "said again");
    assert_eq!(read(&stand, gift), open(2, "2 West Lake"));
}

#[test]
fn many_changes_and_ships_at_once_ship_to_what_was_read() {
    let stand = InDirectory::with(81, keeping);
    let item = stand.sell(item(9));
    for _ in 0..5 {
        let gift = offered(&stand, item);
        step(&stand, gift, accept_to("street 0"));
        let shipped = at_once(4, |thread| {
            for nth in 0..20 {
                match (thread, read(&stand, gift)) {
                    (0, AddressRead::Open { version, address }) if nth > 5 => {
                        match step(&stand, gift, ship_to(version)) {
                            Outcome::Gift(_) => return Some(address),
                            refused => assert!(is_wrong_state(&refused), "told {refused:?}"),
                        }
                    }
                    (0, AddressRead::Open { .. }) => {}
                    (0, told) => panic!("told {told:?}"),
                    _ => {
                        let told = step(&stand, gift, accept_to(&format!("street {thread} {nth}")));
                        assert!(matches!(told, Outcome::Gift(_)) || is_wrong_state(&told), "told {told:?}");
                    }
                }
            }
            None
        });
        if let Some(sent_to) = shipped.into_iter().flatten().next() {
            let AddressRead::Open { address, .. } = read(&stand, gift) else { panic!("it is not erased yet") };
            assert_eq!(address, sent_to, "frozen at what was read");
        }
    }
    until("one slot a gift is left", || keys_in(&slots_of(&stand)).len() == 5);
}

#[test]
fn it_is_erased_when_it_is_not_needed_any_more() {
    let mut stand = InDirectory::with(82, by_hand);
    let item = stand.sell(item(9));
    let is_erased_after = |stand: &InDirectory, gift: GiftId, seconds: u64| {
        stand.world.advance_s(seconds - 1);
        while stand.tick() {}
        assert!(matches!(read(stand, gift), AddressRead::Open { .. }), "a second before");
        stand.world.advance_s(1);
        while stand.tick() {}
        assert_eq!(read(stand, gift), AddressRead::None);
        assert!(keys_in(&slots_of(stand)).is_empty());
    };
    let delivered = offered(&stand, item);
    step(&stand, delivered, accept_to("a"));
    step(&stand, delivered, ship_to(1));
    step(&stand, delivered, GiftStep::Deliver);
    is_erased_after(&stand, delivered, KEEP.delivered_s);
    let never_delivered = offered(&stand, item);
    step(&stand, never_delivered, accept_to("b"));
    step(&stand, never_delivered, ship_to(1));
    // How long it is kept was said when it was given.
    stand.reopen(|options| {
        let keep = AddressKeep { delivered_s: 1, shipped_s: 1 };
        options.addresses = Some(AddressOptions { keep, ..AddressOptions::new(key(1)) });
    });
    is_erased_after(&stand, never_delivered, KEEP.shipped_s);
    stand.reopen(by_hand);
    let failed = offered(&stand, item);
    step(&stand, failed, accept_to("c"));
    step(&stand, failed, GiftStep::Fail { reason: "none left".to_owned() });
    while stand.tick() {}
    assert_eq!(read(&stand, failed), AddressRead::None);
    let never_shipped = offered(&stand, item);
    step(&stand, never_shipped, accept_to("d"));
    is_erased_after(&stand, never_shipped, 50);
    stand.assert_balanced();
}

#[test]
fn it_is_erased_at_once_when_that_is_asked_for_and_may_be_given_again_until_it_is_shipped() {
    let mut stand = InDirectory::with(83, by_hand);
    let gift = offered(&stand, stand.sell(item(9)));
    step(&stand, gift, accept_to("a"));
    let slots = slots_of(&stand);
    let key_of_a = keys_in(&slots)[0].to_vec();
    assert_eq!(gift_of(step(&stand, gift, GiftStep::EraseAddress)).state, GiftState::Accepted);
    assert_eq!(files_with(stand.directory.path(), &key_of_a), [""; 0]);
    assert_eq!(read(&stand, gift), AddressRead::None);
    assert!(is_wrong_state(&step(&stand, gift, ship_to(1))), "there is nothing to ship to");
    let before = stand.stats().staged_lsn;
    step(&stand, gift, GiftStep::EraseAddress);
    assert_eq!(stand.stats().staged_lsn, before, "said again");
    step(&stand, gift, accept_to("b"));
    assert_eq!(read(&stand, gift), open(2, "b"), "the merchant that has read the first one notices");
    stand.reopen(|_| ());
    assert_eq!(read(&stand, gift), open(2, "b"));
    step(&stand, gift, GiftStep::EraseAddress);
    stand.reopen(|_| ());
    step(&stand, gift, GiftStep::Ship { carrier: "sf".to_owned(), tracking: "1".to_owned() });
    assert!(is_wrong_state(&step(&stand, gift, accept_to("c"))));
    assert_eq!(read(&stand, gift), AddressRead::None);
}

/// A slot that is named by an address of a backup is not given to another, or both would name it.
#[test]
fn an_address_whose_slot_was_not_restored_shares_it_with_nobody() {
    let mut stand = InDirectory::with(87, by_hand);
    let item = stand.sell(NewItem { per_user_limit: None, ..item(9) });
    let gifts = [offered(&stand, item), offered(&stand, item), offered(&stand, item)];
    let directory = stand.directory.path().to_owned();
    step(&stand, gifts[0], accept_to("one street"));
    step(&stand, gifts[1], accept_to("two street"));
    stand.reopen(|_| std::fs::remove_dir_all(directory.join("addresses")).expect("the slots are there"));
    step(&stand, gifts[2], accept_to("three street"));
    let mut found = Vec::new();
    let mut look = || audit(&directory, None, &mut |difference| found.push(difference)).expect("an audit");
    stand.reopen(|_| _ = look());
    assert_eq!(read(&stand, gifts[0]), AddressRead::KeyLost);
    step(&stand, gifts[0], accept_to("one street"));
    step(&stand, gifts[1], GiftStep::EraseAddress);
    stand.engine().tick();
    assert_eq!(read(&stand, gifts[0]), open(2, "one street"));
    assert_eq!(read(&stand, gifts[1]), AddressRead::None);
    assert_eq!(read(&stand, gifts[2]), open(1, "three street"));
    // Once nobody names it, it is there for others again.
    stand.reopen(|_| _ = look());
    step(&stand, gifts[1], accept_to("two street"));
    assert_eq!(read(&stand, gifts[1]), open(2, "two street"));
    assert_eq!(read(&stand, gifts[2]), open(1, "three street"));
    stand.reopen(|_| _ = look());
    assert_eq!(found, [""; 0]);
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            std::fs::create_dir(&target).expect("a new directory");
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a file");
        }
    }
}

/// The canary is in no file but in the memory of whoever asks; and what was copied before the
/// erasure opens nothing without the slots.
#[test]
fn its_text_is_in_no_file_and_copies_open_nothing_without_the_slots() {
    let mut stand = InDirectory::with(84, by_hand);
    let item = stand.sell(item(9));
    let gift = offered(&stand, item);
    let once = OnceKey::idempotency("app", "accept", "k");
    let accept = Command::StepGift { gift, step: Box::new(accept_to("canary street")) };
    assert!(matches!(stand.ask_under(accept.clone(), Some(once)).outcome, Outcome::Gift(_)));
    assert!(stand.ask_under(accept, Some(once)).replayed);
    let shown = format!("{:?} {:?}", accept_to("canary street"), read(&stand, gift)).to_lowercase();
    assert!(!shown.contains("canary"), "{shown}");
    stand.reopen(|_| ());
    stand.close();
    for part in ["canary", "Canary", "CANARY"] {
        assert_eq!(files_with(stand.directory.path(), part.as_bytes()), [""; 0]);
    }
    // A copy without the slots, as a backup or an archive is.
    let copy = tempfile::tempdir().expect("a directory");
    copy_all(stand.directory.path(), copy.path());
    std::fs::remove_dir_all(copy.path().join("addresses")).expect("the slots are there");
    let mut options = stand.world.options();
    by_hand(&mut options);
    let (copied, _) = Embedded::open(copy.path(), options.clone()).expect("it opens");
    assert_eq!(read(&copied, gift), AddressRead::KeyLost);
    assert_eq!(read(&copied, gift), AddressRead::KeyLost, "whoever has the address key, too");
    // The recipient gives it again.
    assert!(matches!(step(&copied, gift, accept_to("canary street")), Outcome::Gift(_)));
    assert_eq!(read(&copied, gift), open(2, "canary street"));
    // The slot that the restored record names is not given to another while it is this one's.
    copied.tick();
    let terms = NewGift::new("app", user("payer"), user("bob"), item);
    copied.deposit(&user("payer"), 10);
    let other = gift_of(copied.ask(Command::CreateGift(Box::new(terms)))).id;
    step(&copied, other, accept_to("another street"));
    assert_eq!(read(&copied, gift), open(2, "canary street"));
    assert_eq!(read(&copied, other), open(1, "another street"));
    copied.close().expect("it closes");
    drop(copied);
    // And without the address key nothing is opened, nor served.
    options.addresses = None;
    let refused = Embedded::open(copy.path(), options).err().expect("it has slots");
    assert!(matches!(&refused, OpenError::Addresses(why) if why.contains("--address-key-file")), "{refused}");
}

#[test]
fn a_repeat_tells_no_text_that_was_taken_back() {
    let stand = InDirectory::with(88, by_hand);
    let item = stand.sell(item(9));
    stand.deposit(&user("alice"), 10);
    let terms = NewGift { message: "insult".to_owned(), ..NewGift::new("app", user("alice"), user("bob"), item) };
    let gift = gift_of(stand.ask(Command::CreateGift(Box::new(terms)))).id;
    let accept = Command::StepGift { gift, step: Box::new(accept_to("a")) };
    let once = Some(OnceKey::idempotency("app", "accept", "k"));
    assert_eq!(gift_of(stand.ask_under(accept.clone(), once).outcome).message, "insult");
    stand.ask(Command::RedactGift { gift, metadata: false });
    for once in [once, None] {
        assert!(!gift_of(stand.ask_under(accept.clone(), once).outcome).message.contains("insult"), "{once:?}");
    }
    assert_eq!(read(&stand, gift), open(1, "a"), "its address is another matter");
}

#[test]
fn another_address_key_takes_over_and_the_old_one_is_not_needed_then() {
    let mut stand = InDirectory::with(85, by_hand);
    let gift = offered(&stand, stand.sell(item(9)));
    step(&stand, gift, accept_to("a"));
    stand.engine().close().expect("it closes");
    stand.reopen(|options| {
        options.addresses = Some(AddressOptions { older: vec![key(1)], ..AddressOptions::new(key(2)) });
    });
    assert_eq!(read(&stand, gift), open(1, "a"));
    stand.reopen(|options| options.addresses = Some(AddressOptions::new(key(2))));
    assert_eq!(read(&stand, gift), open(1, "a"));
    stand.close();
    let mut options = stand.world.options();
    keeping(&mut options);
    let refused = Embedded::open(stand.directory.path(), options).err().expect("the first key opens nothing");
    assert!(refused.to_string().contains("address keys that were not given"), "{refused}");
}

#[test]
fn a_code_is_sent_nowhere() {
    let stand = InDirectory::with(87, by_hand);
    let origin = ItemOrigin { kind: ItemKind::Code, ..ItemOrigin::default() };
    let item = stand.sell(NewItem { origin, ..item(0) });
    let codes = vec![hongbao_engine::code::Code::new("code-1")];
    assert!(matches!(stand.ask(Command::AddCodes { item, codes }), Outcome::Item(_)));
    let gift = offered(&stand, item);
    assert!(is_wrong_state(&step(&stand, gift, accept_to("canary"))));
    assert!(keys_in(&slots_of(&stand)).is_empty(), "no slot is left of the attempt");
    let accept = GiftStep::Accept { user: user("bob"), token: None };
    assert_eq!(gift_of(step(&stand, gift, accept)).state, GiftState::Delivered);
}

#[test]
fn bounds_and_what_is_missing_are_told() {
    let stand = InDirectory::with(86, by_hand);
    let item = stand.sell(item(9));
    let gift = offered(&stand, item);
    let told = |change: fn(&mut Address)| {
        let mut address = address("a");
        change(&mut address);
        let accept = GiftStep::AcceptTo { user: user("bob"), token: None, address: Box::new(address) };
        match step(&stand, gift, accept) {
            Outcome::Refused(Refusal::Invalid { field, message }) => {
                assert!(!message.to_lowercase().contains("canary"), "{message}");
                field
            }
            other => panic!("told {other:?}"),
        }
    };
    assert_eq!(told(|address| address.name.clear()), "address.name");
    assert_eq!(told(|address| address.name = "n".repeat(101)), "address.name");
    assert_eq!(told(|address| address.phone = "1".repeat(41)), "address.phone");
    assert_eq!(told(|address| address.lines.clear()), "address.lines");
    assert_eq!(told(|address| address.lines = vec!["l".to_owned(); 6]), "address.lines");
    assert_eq!(told(|address| address.lines[1] = "l".repeat(201)), "address.lines[1]");
    assert_eq!(told(|address| address.lines[0] = "canary\nstreet".to_owned()), "address.lines[0]");
    assert_eq!(told(|address| address.city.clear()), "address.city");
    assert_eq!(told(|address| address.postcode = "1".repeat(21)), "address.postcode");
    // Not the recipient's to give, and nothing is left of the attempt.
    let theirs = GiftStep::AcceptTo { user: user("carol"), token: None, address: Box::new(address("a")) };
    assert_eq!(step(&stand, gift, theirs), Outcome::Refused(Refusal::Forbidden));
    assert!(keys_in(&slots_of(&stand)).is_empty());
    // Without a key none is taken, and what needs none goes on.
    let bare = InDirectory::with(87, |options| options.threaded = false);
    let item = bare.sell(stand::item(9));
    let gift = offered(&bare, item);
    let refused = step(&bare, gift, accept_to("a"));
    assert!(matches!(&refused, Outcome::Refused(Refusal::WrongState(why)) if why.contains("--address-key-file")));
    step(&bare, gift, GiftStep::EraseAddress);
    let accepted = step(&bare, gift, GiftStep::Accept { user: user("bob"), token: None });
    assert_eq!(gift_of(accepted).state, GiftState::Accepted);
}

/// One machine whose power fails at a call of its disk.
struct Machine {
    world: World,
    disk: FaultyDisk,
    rows: Arc<MemoryRows>,
}

/// What is known of a gift's address by who gave it.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What may be read: the last that was answered, and what was asked for since.
    may_be: Vec<Option<&'static str>>,
}

impl Known {
    fn asked(&mut self, street: Option<&'static str>) {
        self.may_be.push(street);
    }

    fn answered(&mut self) {
        self.may_be.drain(..self.may_be.len() - 1);
    }
}

impl Machine {
    fn new(seed: u64) -> Machine {
        Machine { world: World::new(seed), disk: FaultyDisk::new(seed), rows: Arc::new(MemoryRows::default()) }
    }

    fn open(&self) -> Result<Embedded, OpenError> {
        let mut options = self.world.options_by_hand();
        (options.journal.segment_bytes, options.journal.record_bytes_max) = (64 << 10, 4_000);
        options.journal.threads_max = 1;
        let storage: Option<Arc<dyn hongbao_engine::storage::Storage>> = Some(Arc::new(self.disk.clone()));
        options.addresses = Some(AddressOptions { keep: KEEP, storage, ..AddressOptions::new(key(1)) });
        Embedded::open_over(Arc::new(self.disk.clone()), Arc::<MemoryRows>::clone(&self.rows), options).map(|it| it.0)
    }

    /// One call, at whose end everything is durable that it told.
    fn call(engine: &Embedded, command: Command) -> Result<Outcome, EngineError> {
        drive(engine.execute(command, None), || engine.pump().unwrap_or(false)).map(|reply| reply.outcome)
    }

    fn step(engine: &Embedded, gift: GiftId, step: GiftStep) -> Result<Gift, EngineError> {
        Machine::call(engine, Command::StepGift { gift, step: Box::new(step) }).map(gift_of)
    }

    /// Two gifts' lives; stops at the first failure. What is known of their addresses is noted.
    fn live(&self, engine: &Embedded, [one, two]: [GiftId; 2], known: &mut [Known; 2]) -> Result<(), EngineError> {
        let give = |known: &mut Known, gift, street| {
            known.asked(Some(street));
            Machine::step(engine, gift, accept_to(street))?;
            known.answered();
            Ok::<_, EngineError>(())
        };
        give(&mut known[0], one, "a")?;
        give(&mut known[0], one, "b")?;
        engine.tick();
        engine.pump()?;
        give(&mut known[1], two, "c")?;
        Machine::step(engine, one, ship_to(2))?;
        known[1].asked(None);
        Machine::step(engine, two, GiftStep::EraseAddress)?;
        known[1].answered();
        give(&mut known[1], two, "d")?;
        Machine::step(engine, one, GiftStep::Deliver)?;
        self.world.advance_s(KEEP.delivered_s);
        known[0].asked(None);
        engine.tick();
        engine.pump()?;
        engine.tick();
        engine.pump()?;
        Ok(())
    }

    fn crash(&mut self, seed: u64) {
        self.disk.crash();
        self.rows = Arc::new(self.rows.crash(seed));
    }
}

/// Says what is wrong after the power has failed at a call of the disk; `None` if it did not
/// come to that call.
fn fail_at(call: u64, seed: u64) -> Option<Result<(), String>> {
    let mut machine = Machine::new(seed);
    let engine = machine.open().expect("a sound disk");
    let rosy = NewMerchant::new(user("rosy"), "Rosy", Some(MerchantStatus::Verified));
    Machine::call(&engine, Command::PutMerchant(Box::new(rosy))).expect("a sound disk");
    let Ok(Outcome::Item(item)) = Machine::call(&engine, Command::CreateItem(Box::new(item(9)))) else { panic!() };
    let alice = Transfer { user: user("alice"), amount: fen(100), reference: None };
    Machine::call(&engine, Command::Deposit(alice)).expect("a sound disk");
    let gifts = [(); 2].map(|()| {
        let terms = NewGift::new("app", user("alice"), user("bob"), item.id);
        gift_of(Machine::call(&engine, Command::CreateGift(Box::new(terms))).expect("a sound disk")).id
    });
    let mut known = [(); 2].map(|()| Known { may_be: vec![None] });
    machine.disk.fail_call(call, Fault::PowerCut, false);
    let lived = machine.live(&engine, gifts, &mut known);
    // As whoever steals the disk reads it: what is erased must not be there.
    drop(engine);
    machine.crash(call);
    let engine = machine.open().expect("a sound disk");
    let found = check(&machine, &engine, gifts, &known);
    if found.is_ok() && lived.is_ok() { None } else { Some(found) }
}

fn check(machine: &Machine, engine: &Embedded, gifts: [GiftId; 2], known: &[Known; 2]) -> Result<(), String> {
    while engine.tick() || engine.pump().map_err(|error| error.to_string())? {}
    let mut live = 0;
    for (gift, known) in gifts.into_iter().zip(known) {
        let told = wait_pumping(engine, engine.address(gift)).map_err(|error| error.to_string())?;
        let is_right = known.may_be.iter().any(|street| match (&told, street) {
            (AddressRead::None, None) => true,
            (AddressRead::Open { address: told, .. }, Some(street)) => **told == address(street),
            _ => false,
        });
        if !is_right {
            return Err(format!("{told:?} is told of {known:?}"));
        }
        live += usize::from(matches!(told, AddressRead::Open { .. }));
    }
    let slots = machine.disk.content("slots").expect("the slots");
    let keys = keys_in(&slots).len();
    if keys != live { Err(format!("{keys} keys are left of {live} addresses")) } else { Ok(()) }
}

/// How many calls there are to fail at, or what is wrong after one.
fn fail_everywhere(seeds: std::ops::Range<u64>) -> Result<u64, String> {
    let mut interrupted = 0;
    for seed in seeds {
        for call in 1.. {
            match fail_at(call, seed) {
                None => break,
                Some(Ok(())) => interrupted += 1,
                Some(Err(why)) => return Err(format!("seed {seed}, call {call}: {why}")),
            }
        }
    }
    Ok(interrupted)
}

#[test]
fn wherever_the_power_fails_what_was_answered_stays_true_and_no_key_is_left() {
    let interrupted = fail_everywhere(0..6).unwrap_or_else(|why| panic!("{why}"));
    assert!(interrupted > 100, "it was interrupted {interrupted} times");
}

#[cfg(feature = "mutants")]
#[test]
fn planted_bugs_are_found() {
    use hongbao_engine::mutants::{Mutant, plant};
    for mutant in Mutant::OF_ADDRESSES {
        plant(Some(mutant));
        let found = fail_everywhere(0..30);
        plant(None);
        println!("{mutant:?}: {found:?}");
        assert!(found.is_err(), "{mutant:?} was not found");
    }
}
