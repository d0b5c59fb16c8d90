//! The store from outside: what lists, loads and crashes must keep.

mod audit;
mod checkpoint;
mod damage;
mod full_disk;
mod kill;
mod power;
#[path = "../random/mod.rs"]
mod random;
mod script;
#[path = "../small_disk/mod.rs"]
mod small_disk;
mod throughput;

use hongbao_engine::EngineError;
use hongbao_engine::backend::{Listing, Page};
use hongbao_engine::payout::{Payout, PayoutFilter, PayoutState};
use hongbao_engine::store::*;
use hongbao_engine::types::*;
use proptest::prelude::*;
use script::{Script, user};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn by_hand(store: &Arc<Store>) -> Projector {
    let options = ProjectorOptions { threaded: false, ..ProjectorOptions::default() };
    Projector::spawn(Arc::clone(store), Box::new(|_| ()), options)
}

fn in_memory() -> (Arc<MemoryRows>, Arc<Store>) {
    let rows = Arc::new(MemoryRows::default());
    let store = Store::over(Arc::<MemoryRows>::clone(&rows)).unwrap();
    (rows, Arc::new(store))
}

/// All pages of a list.
fn all<T>(limit: usize, list: impl Fn(&Page) -> Result<Listing<T>, EngineError>) -> Vec<T> {
    let mut rows = Vec::new();
    let mut cursor = None;
    loop {
        let page = list(&Page { limit, cursor }).unwrap();
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return rows,
        }
    }
}

/// Every answer of a view, as lines of text.
fn answers(view: &View, script: &Script, limit: usize) -> Vec<String> {
    fn say(lines: &mut Vec<String>, what: &str, answer: impl Debug) {
        lines.push(format!("{what}: {answer:?}"));
    }
    let mut lines = Vec::new();
    say(&mut lines, "position", view.position().unwrap());
    let made = MadeBetween::default();
    let late = MadeBetween { from: Some(Timestamp::from_ms(1_770_000_000_300)), to: None };
    let early = MadeBetween { from: None, to: late.from };
    for who in (0..8).map(user) {
        say(&mut lines, &format!("wallet {who}"), view.wallet(&who).unwrap());
        say(&mut lines, &format!("entries {who}"), all(limit, |page| view.entries(&who, page)));
        say(&mut lines, &format!("received {who}"), all(limit, |page| view.received(&who, page)));
        for between in [made, late, early] {
            let sent = all(limit, |page| view.sent(&who, between, page, |id| Ok(Some(id))));
            say(&mut lines, &format!("sent {who}"), sent);
        }
    }
    for between in [made, late, early] {
        let ids = all(limit, |page| view.envelopes(between, page, |id| Ok(Some(id))));
        say(&mut lines, "envelopes", ids);
    }
    let odd = |id: EnvelopeId| Ok((id.bytes()[7] % 2 == 1).then_some(id));
    say(&mut lines, "odd envelopes", all(limit, |page| view.envelopes(made, page, odd)));
    say(&mut lines, "items", all(limit, |page| view.items(page, |id| Ok(Some(id)))));
    for id in script.envelope_ids() {
        let row = view.envelope(id).unwrap();
        say(&mut lines, &format!("wins {id}"), all(limit, |page| view.wins(id, page)));
        if let Some(row) = &row {
            for who in (0..8).map(user) {
                say(&mut lines, &format!("win of {who}"), view.win_of(row, &who).unwrap());
            }
        }
        say(&mut lines, &format!("envelope {id}"), row);
    }
    for id in script.hold_ids() {
        say(&mut lines, &format!("hold {id}"), view.hold(id).unwrap());
    }
    for id in script.order_ids() {
        say(&mut lines, &format!("order {id}"), view.order(id).unwrap());
    }
    let mut filters = vec![PayoutFilter::default()];
    filters.extend(PayoutState::ALL.map(|state| PayoutFilter { state: Some(state), ..PayoutFilter::default() }));
    filters.push(PayoutFilter { created_from: late.from, ..PayoutFilter::default() });
    filters.push(PayoutFilter { created_to: early.to, user: Some(user(1)), ..PayoutFilter::default() });
    filters.extend(
        script.envelope_ids().into_iter().map(|id| PayoutFilter { envelope: Some(id), ..PayoutFilter::default() }),
    );
    for filter in filters {
        let found = all(limit, |page| view.payouts(&filter, page, |payout| Ok(Some(payout))));
        let expected = script.payouts.iter().filter(|payout| {
            filter.state.is_none_or(|state| state == payout.state)
                && filter.user.as_ref().is_none_or(|user| *user == payout.user)
                && filter.envelope.is_none_or(|envelope| envelope == payout.envelope)
                && filter.created_from.is_none_or(|from| payout.created_at >= from)
                && filter.created_to.is_none_or(|to| payout.created_at < to)
        });
        let mut expected: Vec<Payout> = expected.cloned().collect();
        expected.sort_by_key(|payout| (payout.created_at, payout.id));
        assert_eq!(found, expected, "{filter:?}");
        say(&mut lines, &format!("payouts {filter:?}"), found);
    }
    for payout in &script.payouts {
        assert_eq!(view.payout(payout.id).unwrap().as_ref(), Some(payout));
    }
    lines
}

/// Every point load and live load of a store, as lines of text.
fn loads(store: &Store, script: &Script) -> Vec<String> {
    let mut lines = Vec::new();
    for who in (0..8).map(user) {
        lines.push(format!("{:?}", store.wallet(&who).unwrap()));
    }
    let envelopes = |row: EnvelopeRow, winners: &mut Winners<'_>| {
        lines.push(format!("{row:?} {:?}", winners.collect::<Result<Vec<_>, _>>()?));
        Ok(())
    };
    store.live_envelopes(envelopes).unwrap();
    let items = |item: LiveItem<'_>| {
        let units = item.units.collect::<Result<Vec<_>, _>>()?;
        lines.push(format!("{:?} {units:?} {:?}", item.item, item.holds));
        Ok(())
    };
    store.items(items).unwrap();
    let merchants = |merchant, balance| {
        lines.push(format!("{merchant:?} {balance:?}"));
        Ok(())
    };
    store.merchants(merchants).unwrap();
    let slots = |merchant, due, slot| {
        lines.push(format!("{merchant:?} {due:?} {slot:?}"));
        Ok(())
    };
    store.slots(slots).unwrap();
    let api_keys = |key| {
        lines.push(format!("{key:?}"));
        Ok(())
    };
    store.api_keys(api_keys).unwrap();
    for id in script.envelope_ids() {
        let row = store.envelope(id).unwrap();
        for who in (0..8).map(user) {
            lines.push(format!("{:?}", row.as_ref().map(|row| store.win_of(row, &who).unwrap())));
        }
    }
    for id in script.hold_ids() {
        lines.push(format!("{:?}", store.hold(id).unwrap()));
    }
    for id in script.order_ids() {
        lines.push(format!("{:?}", store.order(id).unwrap()));
    }
    for payout in &script.payouts {
        lines.push(format!("{:?}", store.payout(payout.id).unwrap()));
    }
    lines
}

fn projected(script: &mut Script) -> Arc<Store> {
    let (_, store) = in_memory();
    for batch in script.batches() {
        let mut left = batch.records().count();
        while left > 0 {
            left -= store.project(batch.first_lsn(), batch.records(), StepLimits::default()).unwrap().records;
        }
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// However much of the journal is projected, a view tells the same.
    #[test]
    fn a_view_does_not_depend_on_the_lag(
        seed: u64,
        records in 1usize..120,
        limit in 1usize..9,
        step in 1usize..20,
        batch in 1u64..60,
    ) {
        let mut script = Script::of(seed, records);
        let batches = script.batches_of(batch);
        let expected = answers(&projected(&mut script).view(Vec::new()).unwrap(), &script, 1000);
        let (_, store) = in_memory();
        let step = StepLimits { events: step, ..StepLimits::default() };
        let options = ProjectorOptions { threaded: false, step, ..ProjectorOptions::default() };
        let projector = Projector::spawn(Arc::clone(&store), Box::new(|_| ()), options);
        batches.into_iter().for_each(|batch| projector.offer(batch));
        loop {
            prop_assert_eq!(&answers(&projector.view().unwrap(), &script, limit), &expected, "applied {}", store.applied_lsn().0);
            if !projector.pump() {
                break;
            }
        }
        prop_assert_eq!(store.applied_lsn(), Lsn(records as u64));
        prop_assert_eq!((projector.lag_bytes(), projector.unprojected().len()), (0, 0));
    }

    /// An envelope that many grab is listed whole, wherever a page ends and
    /// however much of it is projected; and each of them sees the share.
    #[test]
    fn a_crowd_is_listed_whole(seed: u64, shares in 1u32..900, limit in 1usize..600, projected in 0usize..1200) {
        let mut script = Script::of(seed, 20);
        let envelope = script.crowd(shares);
        let (_, store) = in_memory();
        let projector = by_hand(&store);
        script.batches_of(100).into_iter().for_each(|batch| projector.offer(batch));
        let records = script.records.iter().map(Vec::as_slice);
        let limits = StepLimits { events: projected, ..StepLimits::default() };
        store.project(Lsn(1), records, limits).unwrap();
        let whole = crate::projected(&mut script).view(Vec::new()).unwrap();
        let view = projector.view().unwrap();
        let wins = all(limit, |page| view.wins(envelope, page));
        prop_assert_eq!(&wins, &all(1000, |page| whole.wins(envelope, page)));
        prop_assert!(wins.iter().map(|win| win.share).eq(0..shares));
        for win in wins.iter().step_by(50) {
            prop_assert_eq!(&all(limit, |page| view.received(&win.user, page)), &[(envelope, win.clone())]);
            let entries = all(limit, |page| view.entries(&win.user, page));
            prop_assert_eq!(entries.len(), usize::from(win.claimed_at.is_some()));
        }
    }

    /// What a reader took before some steps is as good as what it takes after them.
    #[test]
    fn a_list_of_batches_taken_early_is_not_applied_twice(seed: u64, steps in 0usize..20) {
        let mut script = Script::of(seed, 60);
        let (_, store) = in_memory();
        let step = StepLimits { events: 3, ..StepLimits::default() };
        let options = ProjectorOptions { threaded: false, step, ..ProjectorOptions::default() };
        let projector = Projector::spawn(Arc::clone(&store), Box::new(|_| ()), options);
        script.batches().into_iter().for_each(|batch| projector.offer(batch));
        let early = projector.unprojected();
        for _ in 0..steps {
            projector.pump();
        }
        let late = answers(&projector.view().unwrap(), &script, 5);
        prop_assert_eq!(answers(&store.view(early).unwrap(), &script, 5), late);
    }

    /// After a crash there is a prefix of the journal, never less than was
    /// called persisted, and going on from there gives the same rows.
    #[test]
    fn a_crash_leaves_a_prefix_and_replay_completes_it(seed: u64, crash: u64, persist_every in 1usize..30) {
        let mut script = Script::of(seed, 80);
        let expected = loads(&projected(&mut script), &script);
        let (rows, store) = in_memory();
        let persisted = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&persisted);
        let step = StepLimits { events: 4, ..StepLimits::default() };
        let options = ProjectorOptions { threaded: false, step, ..ProjectorOptions::default() };
        let on_persisted = Box::new(move |lsn: Lsn| told.store(lsn.0, Ordering::Relaxed));
        let projector = Projector::spawn(Arc::clone(&store), on_persisted, options);
        let batches = script.batches();
        batches.iter().for_each(|batch| projector.offer(batch.clone()));
        for i in 0..crash % 30 {
            projector.pump();
            if (i as usize).is_multiple_of(persist_every) {
                projector.persist();
            }
        }
        let survived = Arc::new(Store::over(Arc::new(rows.crash(crash))).unwrap());
        prop_assert!(survived.applied_lsn().0 >= persisted.load(Ordering::Relaxed));
        prop_assert!(survived.applied_lsn() <= store.applied_lsn());
        let projector = by_hand(&survived);
        batches.iter().for_each(|batch| projector.offer(batch.clone()));
        projector.stop();
        prop_assert_eq!(projector.failure(), None);
        prop_assert_eq!(survived.applied_lsn(), Lsn(80));
        prop_assert_eq!(loads(&survived, &script), expected);
    }
}

#[test]
fn rows_on_disk_are_those_in_memory_and_are_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut script = Script::of(7, 300);
    let in_memory = projected(&mut script);
    {
        let store = Arc::new(Store::open(directory.path(), FjallOptions::default()).unwrap());
        let projector = Projector::spawn(Arc::clone(&store), Box::new(|_| ()), ProjectorOptions::default());
        script.batches().into_iter().for_each(|batch| projector.offer(batch));
        assert!(projector.view().unwrap().position().unwrap().applied == Lsn(300), "a view holds what was offered");
        projector.stop();
        assert_eq!(projector.failure(), None);
    }
    let store = Store::open(directory.path(), FjallOptions::default()).unwrap();
    assert_eq!(store.position(), in_memory.position());
    assert!(store.totals().balanced());
    assert_eq!(loads(&store, &script), loads(&in_memory, &script));
    let on_disk = answers(&store.view(Vec::new()).unwrap(), &script, 3);
    assert_eq!(on_disk, answers(&in_memory.view(Vec::new()).unwrap(), &script, 1000));
}

#[test]
fn cursors_are_checked() {
    let mut script = Script::of(3, 200);
    let view = projected(&mut script).view(Vec::new()).unwrap();
    let page = |cursor: &[u8]| Page { limit: 1, cursor: Some(cursor.to_vec()) };
    let who = user(0);
    let good = view.entries(&who, &Page { limit: 1, cursor: None }).unwrap().next.unwrap();
    assert!(view.entries(&who, &page(&good)).is_ok());
    let other_list = view.envelopes(MadeBetween::default(), &page(&good), |id| Ok(Some(id)));
    assert!(matches!(other_list, Err(EngineError::Cursor)));
    for wrong in [&[] as &[u8], &[0], &good[1..], &good[..good.len() - 1], &[good.as_slice(), &[0]].concat()] {
        assert!(matches!(view.entries(&who, &page(wrong)), Err(EngineError::Cursor)), "{wrong:?}");
    }
    // A cursor of the whole list in a list of a time goes on inside that time.
    let from_the_top = [&[2], [0; 24].as_slice()].concat();
    let early = MadeBetween { from: None, to: Some(Timestamp::from_ms(1_770_000_000_300)) };
    let rows = |page: &Page| view.envelopes(early, page, |id| Ok(Some(id))).unwrap().rows;
    assert_eq!(rows(&page(&from_the_top)), rows(&Page { limit: 1, cursor: None }));
}

#[test]
fn a_failure_stops_the_projection_and_nothing_else() {
    for threaded in [false, true] {
        let (rows, store) = in_memory();
        let persisted = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&persisted);
        let step = StepLimits { events: 1, ..StepLimits::default() };
        let options = ProjectorOptions { threaded, step, ..ProjectorOptions::default() };
        let on_persisted = Box::new(move |lsn: Lsn| told.store(lsn.0, Ordering::Relaxed));
        let projector = Projector::spawn(Arc::clone(&store), on_persisted, options);
        rows.fail_after(10);
        let mut script = Script::of(5, 40);
        script.batches().into_iter().for_each(|batch| projector.offer(batch));
        while projector.failure().is_none() {
            projector.pump();
        }
        assert_eq!(store.applied_lsn(), Lsn(10));
        let view = projector.view().unwrap();
        assert_eq!(view.position().unwrap().applied, Lsn(40), "reads go on over what is unprojected");
        projector.persist();
        projector.stop();
        assert_eq!(persisted.load(Ordering::Relaxed), 0, "nothing is called persisted after a failure");
    }
}

#[test]
fn a_failure_that_passes_loses_nothing() {
    for (threaded, commits) in [false, true].into_iter().flat_map(|threaded| (0..12).map(move |n| (threaded, n))) {
        let (rows, store) = in_memory();
        let (tell, told) = std::sync::mpsc::channel();
        let step = StepLimits { events: 1, ..StepLimits::default() };
        let reopen_after = Duration::from_millis(1);
        let options = ProjectorOptions { threaded, step, reopen_after, ..ProjectorOptions::default() };
        let projector = Projector::spawn(Arc::clone(&store), Box::new(move |lsn| tell.send(lsn).unwrap()), options);
        let mut script = Script::of(5, 40);
        let batches = script.batches();
        let expected = loads(&projected(&mut script), &script);
        rows.fail_after(commits);
        let (early, late) = batches.split_at(batches.len() / 2);
        early.iter().for_each(|batch| projector.offer(batch.clone()));
        while projector.failure().is_none() {
            projector.pump();
        }
        late.iter().for_each(|batch| projector.offer(batch.clone()));
        rows.mend();
        while projector.lag_bytes() > 0 {
            projector.pump();
        }
        projector.stop();
        assert_eq!((projector.failure(), told.try_iter().last()), (None, Some(Lsn(40))), "{threaded} {commits}");
        let survived = Store::over(Arc::new(rows.crash(0))).unwrap();
        assert_eq!(survived.position(), store.position());
        assert_eq!(loads(&survived, &script), expected);
    }
}

#[test]
fn what_is_projected_is_persisted_soon_and_at_the_stop() {
    let mut script = Script::of(9, 60);
    let batches = script.batches();
    let (rows, store) = in_memory();
    let (tell, told) = std::sync::mpsc::channel();
    let persist_after = Duration::from_millis(5);
    let options = ProjectorOptions { persist_after, ..ProjectorOptions::default() };
    let on_persisted = Box::new(move |lsn| tell.send(lsn).unwrap());
    let projector = Projector::spawn(Arc::clone(&store), on_persisted, options);
    let (last, first) = batches.split_last().unwrap();
    first.iter().for_each(|batch| projector.offer(batch.clone()));
    let so_far = Lsn(last.first_lsn().0 - 1);
    while told.recv_timeout(Duration::from_secs(10)).expect("persisted without a stop") < so_far {}
    assert_eq!(rows.unpersisted(), 0);
    projector.offer(last.clone());
    projector.stop();
    assert_eq!(told.try_iter().last(), Some(Lsn(60)));
    assert_eq!(Store::over(Arc::new(rows.crash(0))).unwrap().applied_lsn(), Lsn(60));
}

#[test]
fn records_that_cannot_be_right_are_not_projected() {
    let (_, store) = in_memory();
    let script = Script::of(1, 3);
    let project = |first: u64, records: &[&[u8]]| {
        store.project(Lsn(first), records.iter().copied(), StepLimits::default()).unwrap_err().to_string()
    };
    assert!(project(2, &[&script.records[1]]).contains("missing"));
    assert!(project(1, &[&[1, 2, 3]]).contains("form"));
    let unfunded = hongbao_engine::event::WalletMoved {
        user: user(0),
        kind: hongbao_engine::backend::EntryKind::Withdrawal(None),
        amount: script::amount(5),
        available_after: Amount::ZERO,
    };
    let mut bytes = Vec::new();
    let event = hongbao_engine::event::Event::WalletMoved(unfunded);
    hongbao_engine::event::encode(Timestamp::from_ms(1), &[event], &mut bytes);
    assert!(project(1, &[&bytes]).contains("does not hold it"));
    assert_eq!(store.applied_lsn(), Lsn(0));
}

#[test]
fn memos_are_purged_when_their_time_is_over_and_not_before() {
    let mut script = Script::of(11, 300);
    let store = projected(&mut script);
    let key = |n: u64| hongbao_engine::backend::OnceKey::reference("app", "deposit", &n.to_string());
    let kept = |at: Timestamp| {
        let kept = (1..400).filter_map(|n| store.memo(key(n)).unwrap()).collect::<Vec<_>>();
        (kept.len(), kept.iter().filter(|memo| memo.expires_at.is_none_or(|expires_at| expires_at > at)).count())
    };
    let now = Timestamp::from_ms(1_770_000_000_000).plus_s(3);
    let (before, alive) = kept(now);
    assert!(before > alive && alive > 0);
    while store.purge_memos(now, 3).unwrap() == Some(3) {}
    assert_eq!(kept(now), (alive, alive));
    assert_eq!(store.purge_memos(now, 3).unwrap(), Some(0));
}

#[test]
fn another_format_is_refused_and_settings_last() {
    let (rows, store) = in_memory();
    store.put_setting("currency", "CNY").unwrap();
    let again = Store::over(Arc::new(rows.crash(0))).unwrap();
    assert_eq!(again.get_setting("currency").unwrap().as_deref(), Some("CNY"));
    assert_eq!(again.get_setting("other").unwrap(), None);
    for (format, says) in [(9, "newer one"), (1, "hongbao serve --migrate")] {
        rows.commit(vec![(Table::Meta, Bytes::from(b"format"), Some(Bytes::from(&[format])))]).unwrap();
        let rows: Arc<dyn Rows> = Arc::<MemoryRows>::clone(&rows);
        let error = Store::over(rows).err().unwrap();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn persisting_by_hand_does_not_wait_for_a_burst_to_pass() {
    let (rows, store) = in_memory();
    let told = Arc::new(AtomicU64::new(0));
    let on_persisted = Arc::clone(&told);
    let options = ProjectorOptions { persist_after: Duration::from_secs(600), ..ProjectorOptions::default() };
    let on_persisted = Box::new(move |lsn: Lsn| on_persisted.store(lsn.0, Ordering::Release));
    let projector = Projector::spawn(store, on_persisted, options);
    let script = Script::of(61, 20_000);
    let mut records = (1..).map(Lsn).zip(&script.records);
    let mut offer = || {
        let (lsn, record) = records.next().expect("the burst is not over before it is persisted");
        projector.offer(DurableBatch::copied(lsn, [record.as_slice()]));
        std::thread::sleep(Duration::from_micros(300));
    };
    offer();
    while rows.unpersisted() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // From here on the projector lets pass what comes.
    std::thread::scope(|scope| {
        let by_hand = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            projector.persist();
        });
        while !by_hand.is_finished() {
            offer();
        }
    });
    assert!(told.load(Ordering::Acquire) >= 1);
}
