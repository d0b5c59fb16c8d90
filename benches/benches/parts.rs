//! The parts of a grab one by one, for comparing a change with what was before:
//! `cargo bench -p hongbao-benches --bench parts -- --save-baseline before`,
//! then `-- --baseline before`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hongbao_benches::{create, decimal_users, fund, grab_each, now, sender, terms, text_users, volatile};
use hongbao_engine::backend::Backend;
use hongbao_engine::command::Command;
use hongbao_engine::event::{Event, Grabbed, Record, encode};
use hongbao_engine::journal::{Journal, JournalOptions};
use hongbao_engine::split::split;
use hongbao_engine::storage::Directory;
use hongbao_engine::types::{Amount, EnvelopeId, Lsn, Timestamp, UserId};
use std::hint::black_box;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WINNERS: u64 = 1_000_000;

/// From text to a checked user and id.
fn names(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("name");
    for (kind, text) in [("decimal", "1000123456"), ("24 characters", "openid-wx-00001000123456")] {
        group.bench_function(format!("user, {kind}"), |b| b.iter(|| UserId::new(black_box(text))));
    }
    let id = EnvelopeId::from_bytes([7; 16]).to_string();
    group.bench_function("envelope", |b| b.iter(|| black_box(&id).parse::<EnvelopeId>()));
    group.finish();
}

/// Hashing a user and finding it among a million winners: a repeated grab,
/// which finds and answers and changes nothing.
fn winners(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("winners");
    for (kind, users) in [("decimal", decimal_users(WINNERS)), ("24 characters", text_users(WINNERS))] {
        let (engine, sender) = (volatile(), sender());
        now(fund(&engine, &sender));
        let envelope = now(create(&engine, &sender, WINNERS as u32));
        grab_each(&engine, &users, &[envelope]);
        let mut next = users.iter().cycle();
        group.bench_function(format!("repeat, {kind}"), |b| {
            b.iter(|| {
                let user = next.next().expect("a cycle does not end").clone();
                now(engine.execute(Command::Grab { envelope, user }, None))
            });
        });
    }
    group.finish();
}

fn event(criterion: &mut Criterion) {
    let at = Timestamp::from_ms(1_800_000_000_000);
    let grabbed = Event::Grabbed(Grabbed {
        envelope: EnvelopeId::from_bytes([7; 16]),
        share: 417,
        amount: Amount::new(417).expect("it fits"),
        user: UserId::new("1000123456").expect("a number is a user"),
        is_last: false,
    });
    let events = [grabbed];
    let mut bytes = Vec::new();
    encode(at, &events, &mut bytes);
    let mut group = criterion.benchmark_group("event");
    group.bench_function("encode a grab", |b| {
        let mut out = Vec::with_capacity(128);
        b.iter(|| {
            out.clear();
            encode(at, black_box(&events), &mut out);
            black_box(&out);
        });
    });
    group.bench_function("decode a grab", |b| b.iter(|| Record::decode(black_box(&bytes))));
    group.finish();
}

fn lucky(criterion: &mut Criterion) {
    let terms = terms(&sender(), 100);
    criterion.bench_function("split, lucky, 100 shares", |b| {
        b.iter(|| split(&terms.split, terms.total, terms.shares, black_box(&[7; 32])));
    });
}

/// One batch of 1,024 records, without the sync that follows.
fn stage(criterion: &mut Criterion) {
    const RECORDS: u64 = 1_024;
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory can be made");
    let storage = Arc::new(Directory::open(directory.path()).expect("it can be opened"));
    let options = JournalOptions { threaded: false, ..JournalOptions::default() };
    let (journal, _) = Journal::open(storage, options, Lsn(0), &mut |_, _| Ok(()), Box::new(|_| {})).expect("it opens");
    let write = || {
        while journal.pump().expect("the disk works") {}
        journal.release_through(journal.durable_lsn());
    };
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("stage 1,024 records of 32 bytes", |b| {
        b.iter_batched(
            write,
            |()| {
                for _ in 0..RECORDS {
                    black_box(journal.stage(|buffer| buffer.extend_from_slice(black_box(&[7; 32]))));
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group! {
    name = parts;
    config = Criterion::default().sample_size(30);
    targets = names, winners, event, lucky, stage
}
criterion_main!(parts);
