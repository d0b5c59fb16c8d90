//! How many events a second the projection sustains on this machine.
//! `cargo test --release -p hongbao-engine --test store throughput -- --ignored --nocapture`

use super::script;
use hongbao_engine::backend::EntryKind;
use hongbao_engine::event::*;
use hongbao_engine::store::*;
use hongbao_engine::types::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn option(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Batches as the journal gives them: 512 records of one grab each, by users
/// and from envelopes without an order; with `claims`, an auto-claimed one.
fn batch(number: u64, claims: bool) -> DurableBatch {
    const RECORDS: u64 = 512;
    let first = number * RECORDS;
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for record in first..first + RECORDS {
        let mixed = record.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let user = UserId::new(&format!("usr{:08}", mixed >> 40)).unwrap();
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(record % 5000).wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes());
        let (envelope, share) = (EnvelopeId::from_bytes(id), (record / 5000) as u32);
        let amount = Amount::new(1 + mixed % 1000).unwrap();
        let at = Timestamp::from_ms(1_770_000_000_000 + record / 100);
        let mut events = vec![Event::Grabbed(Grabbed { envelope, share, amount, user: user.clone(), is_last: false })];
        if claims {
            events.push(Event::Claimed(Claimed { envelope, share, amount, user: user.clone(), grabbed_at: at }));
            let kind = EntryKind::Claim(envelope);
            events.push(Event::WalletMoved(WalletMoved { user, kind, amount, available_after: amount }));
        }
        if record == 0 {
            // The envelopes themselves are left out, but their money must be somewhere.
            let lot = Amount::new(1 << 50).unwrap();
            let sender = UserId::new("sender").unwrap();
            let id = EnvelopeId::from_bytes([255; 16]);
            for (kind, available_after) in
                [(EntryKind::Deposit(None), lot), (EntryKind::EnvelopeCreated(id), Amount::ZERO)]
            {
                events.push(Event::WalletMoved(WalletMoved {
                    user: sender.clone(),
                    kind,
                    amount: lot,
                    available_after,
                }));
            }
            events.push(Event::EnvelopeCreated(Box::new(script::made(id, sender, lot, 1, at))));
        }
        encode(at, &events, &mut bytes);
        ends.push(bytes.len());
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    DurableBatch::copied(Lsn(first + 1), starts.zip(&ends).map(|(start, &end)| &bytes[start..end]))
}

#[test]
#[ignore = "a measurement, not a check"]
fn throughput() {
    for claims in [false, true].into_iter().filter(|&claims| option("CLAIMS", claims.into()) == claims.into()) {
        let directory = tempfile::tempdir().unwrap();
        let options = FjallOptions { memtable_bytes: option("MEMTABLE_MIB", 16) << 20, ..FjallOptions::default() };
        let rows = Arc::new(FjallRows::open(directory.path(), options).unwrap());
        let store = Arc::new(Store::over(Arc::<FjallRows>::clone(&rows)).unwrap());
        let step = StepLimits {
            events: option("STEP_EVENTS", 32 << 10) as usize,
            bytes: option("STEP_KIB", 4096) as usize * 1024,
        };
        let projector_options = ProjectorOptions { step, ..ProjectorOptions::default() };
        let projector = Projector::spawn(Arc::clone(&store), Box::new(|_| ()), projector_options);
        let records = option("RECORDS", 4_000_000) / 512 * 512;
        let started = Instant::now();
        let mut told = (0, started);
        for number in 0..records / 512 {
            projector.offer(batch(number, claims));
            while projector.lag_bytes() > 8 << 20 {
                std::thread::sleep(Duration::from_millis(1));
            }
            if told.1.elapsed() > Duration::from_secs(2) {
                let applied = store.applied_lsn().0;
                let rate = (applied - told.0) as f64 / told.1.elapsed().as_secs_f64();
                println!("    {applied:>9} records, {rate:>8.0} records/s");
                told = (applied, Instant::now());
            }
        }
        while projector.lag_bytes() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        print_cpu_by_thread();
        projector.stop();
        println!("    {} MiB on disk", rows.disk_bytes().unwrap() >> 20);
        assert_eq!(projector.failure(), None);
        let seconds = started.elapsed().as_secs_f64();
        let per_record = if claims { 3 } else { 1 };
        println!(
            "claims {claims}: {:.0} records/s, {:.0} events/s, {seconds:.1} s for {records}",
            records as f64 / seconds,
            (records * per_record) as f64 / seconds,
        );
    }
}

/// Where the processor's time went; the machine's other load does not count in it.
fn print_cpu_by_thread() {
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(')') else { continue };
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        println!("    {:<22} {:.1} s", &name[name.find('(').unwrap_or(0) + 1..], ticks as f64 / 100.0);
    }
}
