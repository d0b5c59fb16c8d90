//! A suite that finds no bug proves nothing: bugs planted on purpose, each of
//! which some seed has to find.

use crate::trial::{Faults, run};
use hongbao_engine::journal;
use hongbao_engine::mutants::Mutant;
use std::sync::Mutex;

/// Far fewer than an ordinary run has.
const SEEDS_MAX: u64 = 2_000;

#[test]
fn mutants_are_caught() {
    let journal = |mutants| Faults { journal: mutants, engine: None };
    let skip_sync = journal::Mutants { skip_sync: true, ..journal::Mutants::default() };
    let ignore_epoch = journal::Mutants { ignore_epoch: true, ..journal::Mutants::default() };
    let mut rows = vec![("SkipSync".to_owned(), journal(skip_sync)), ("IgnoreEpoch".to_owned(), journal(ignore_epoch))];
    rows.extend(
        Mutant::ALL.map(|mutant| {
            (format!("{mutant:?}"), Faults { journal: journal::Mutants::default(), engine: Some(mutant) })
        }),
    );
    // Of one that is new, say: `MUTANT=SettleTwice`.
    if let Ok(only) = std::env::var("MUTANT") {
        rows.retain(|(name, _)| *name == only);
        assert!(!rows.is_empty(), "{only} is no mutant");
    }
    println!("{:<22} {:>6}  seeds that catch it of the first 100; noticed by", "mutant", "seed");
    // A bug is planted into what runs on one thread, so several can be looked for at once.
    let (rows, survivors) = (Mutex::new(rows.into_iter()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, faults)) = { rows.lock().unwrap().next() } {
                    if !is_caught(&name, faults) {
                        survivors.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner().unwrap();
    assert!(survivors.is_empty(), "not caught within {SEEDS_MAX} seeds: {survivors:?}");
}

/// Looks for a bug in the first seeds, and in more if none of them has it; prints which did.
fn is_caught(name: &str, faults: Faults) -> bool {
    let caught: Vec<(u64, String)> =
        (0..100).filter_map(|seed| Some((seed, run(seed, faults, false).err()?))).collect();
    let many = caught.len();
    let first = caught.into_iter().next();
    let first = first.or_else(|| (100..SEEDS_MAX).find_map(|seed| Some((seed, run(seed, faults, false).err()?))));
    let Some((seed, wrong)) = first else { return false };
    let mut words = wrong.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    words = words.chars().take(120).collect();
    println!("{name:<22} {seed:>6}  {many:>3}; {words}");
    true
}
