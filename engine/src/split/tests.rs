//! The frozen vectors were computed by a separate program, written in another
//! language from the documentation of `split` alone. A failure here means that
//! envelopes already created would be divided differently after a restart.

use super::*;
use crate::types::hex;
use proptest::prelude::*;

const TOTAL_MAX: u64 = Amount::MAX.minor();
const ZEROS: Seed = [0; 32];
const SEVENS: Seed = [7; 32];
const COUNTING: Seed = {
    let mut seed = [0; 32];
    let mut i = 0;
    while i < 32 {
        seed[i] = i as u8;
        i += 1;
    }
    seed
};

fn fen(minor: u64) -> Amount {
    Amount::new(minor).expect("a test's amount")
}

fn lucky_rule(min: u64, max: Option<u64>) -> SplitRule {
    SplitRule::Lucky { min_share: fen(min), max_share: max.map(fen) }
}

fn uniform_rule(min: u64) -> SplitRule {
    SplitRule::Uniform { min_share: fen(min) }
}

fn specified_rule(amounts: &[u64]) -> SplitRule {
    SplitRule::Specified(amounts.iter().copied().map(fen).collect())
}

fn minor(shares: &Shares) -> Vec<u64> {
    shares.iter().map(Amount::minor).collect()
}

#[test]
fn frozen_amounts() {
    #[track_caller]
    fn check(rule: &SplitRule, total: u64, seed: &Seed, amounts: &[u64]) {
        let shares = amounts.len() as u32;
        assert_eq!(rule.check(fen(total), shares), Ok(()));
        assert_eq!(minor(&split(rule, fen(total), shares, seed)), amounts);
    }
    let lucky = lucky_rule(1, None);
    check(&lucky, 10_000, &ZEROS, &[1930, 12, 1675, 201, 792, 1731, 656, 948, 1903, 152]);
    check(&lucky, 10_000, &SEVENS, &[844, 2149, 317, 281, 257, 1474, 1590, 1092, 516, 1480]);
    check(&lucky, 12, &ZEROS, &[2, 1, 1, 1, 1, 1, 1, 1, 2, 1]);
    check(&lucky, 1, &ZEROS, &[1]);
    check(
        &lucky,
        TOTAL_MAX,
        &COUNTING,
        &[2551593990845011, 2058844441104825, 1333843931116252, 2511214896602362, 551701995072541],
    );
    let capped = lucky_rule(100, Some(1500));
    check(&capped, 10_000, &COUNTING, &[501, 1450, 396, 1495, 1031, 972, 947, 618, 1460, 1130]);
    check(&lucky_rule(1, Some(2)), 15, &ZEROS, &[2, 2, 2, 1, 1, 2, 1, 1, 2, 1]);

    let uniform = uniform_rule(1);
    check(&uniform, 10_000, &ZEROS, &[1599, 61, 1034, 107, 434, 193, 800, 2679, 806, 2287]);
    check(&uniform_rule(5), 60, &SEVENS, &[6, 6, 5, 7, 7, 7, 5, 6, 6, 5]);
    check(&uniform, 14, &COUNTING, &[2, 1, 1, 1, 1, 1, 2, 1, 1, 3]);
    check(&uniform, 1, &ZEROS, &[1]);
    check(
        &uniform,
        TOTAL_MAX,
        &COUNTING,
        &[1431065906873805, 2382814162719742, 1903543920916825, 2655655062454074, 634120201776545],
    );

    check(&specified_rule(&[1, 2, 3, 4, 5, 6, 7, 8]), 36, &ZEROS, &[8, 7, 5, 4, 2, 1, 6, 3]);
    check(&SplitRule::Equal, 40, &ZEROS, &[10; 4]);
}

/// SHA-256 of 100,000 amounts, each as eight little-endian bytes.
#[test]
fn frozen_digests() {
    #[track_caller]
    fn check(rule: &SplitRule, total: u64, seed: &Seed, digest: &str) {
        let shares = split(rule, fen(total), 100_000, seed);
        let bytes: Vec<u8> = shares.iter().flat_map(|amount| amount.minor().to_le_bytes()).collect();
        assert_eq!(hex(&Sha256::digest(bytes)), digest);
    }
    let (lucky, capped, uniform) = (lucky_rule(1, None), lucky_rule(1, Some(30)), uniform_rule(1));
    check(&lucky, 2_000_000, &ZEROS, "575648ad05998d7a8cbf969c92268d6888db499c3d757ccc7a652ab54dcf0348");
    check(&capped, 2_000_000, &SEVENS, "94b5604f8369dfe553297eb1bc239072ae3913769b3fff0c9872067809fa3900");
    check(&uniform, 2_000_000, &ZEROS, "366f0748a5729c9b52787dd43c46640127de076978f6a3454734c38654f169ff");
    check(&uniform, 190_000, &SEVENS, "016bcb355cc67448fcce7fb8056ae633c98ed8191580104771ea4c3291facd42");
    check(&uniform, TOTAL_MAX, &COUNTING, "53e09bacbcb7049317d97caa41ac1166d3d13516b81dd6c8f07e4b2db56d4769");
}

#[test]
fn frozen_seeds_and_commitments() {
    let envelope = EnvelopeId::from_bytes([0xab; 16]);
    let seed = envelope_seed(&COUNTING, &envelope, b"luck");
    assert_eq!(hex(&seed), "d068f4cfe43febe76fcc154f99f9a297cb42ef989dc1e2af571ee78bc38e7d34");
    let seed = envelope_seed(&ZEROS, &EnvelopeId::from_bytes([0; 16]), b"");
    assert_eq!(hex(&seed), "853c7403937d8b6239569b184eb7993fc5f751aefcea28f2c863858e2d29c50b");
    assert_eq!(hex(&commitment(&COUNTING)), "1ea5aae33b0ea2f431a66dce0730d1bd1cf9a019bbb7555cff9fd14dd5888520");
    assert_eq!(hex(&commitment(&ZEROS)), "f0dc10b35689c22f35185c5ff21acf39298d7f04e01499712f2fadc01a34cbec");
}

/// The first key stream bytes for an all-zero key and nonce, as published in
/// draft-strombergson-chacha-test-vectors (TC1, 12 rounds, 256 bits).
#[test]
fn the_stream_is_chacha12() {
    let mut stream = Stream::new(&ZEROS);
    let bytes: Vec<u8> = (0..4).flat_map(|_| stream.0.next_u64().to_le_bytes()).collect();
    assert_eq!(hex(&bytes), "9bf49a6a0755f953811fce125f2683d50429c3bb49e074147e0089a52eae155f");
}

/// 2^64 is one more than a multiple of 3, so exactly one draw of 2^64 must be
/// rejected: 0.
#[test]
fn a_draw_from_the_uneven_rest_is_rejected() {
    let mut draws = [0, 1 << 63].into_iter();
    assert_eq!(below(3, || draws.next().unwrap()), 1);
    assert_eq!(draws.next(), None);
    assert_eq!(below(3, || 1), 0);
    assert_eq!(below(3, || u64::MAX), 2);
    assert_eq!(below(1 << 63, || u64::MAX), (1 << 63) - 1);
}

#[test]
fn what_cannot_be_divided_is_refused() {
    #[track_caller]
    fn check(rule: &SplitRule, total: u64, shares: u32, field: &str, error: SplitError) {
        assert_eq!(rule.check(fen(total), shares), Err(error));
        assert_eq!(error.field(), field);
    }
    let (lucky, capped, equal) = (lucky_rule(1, None), lucky_rule(10, Some(20)), SplitRule::Equal);
    let over = SHARES_MAX + 1;
    let small = |total, shares, min| SplitError::TotalTooSmall { total: fen(total), shares, min_share: fen(min) };

    check(&lucky, 10, 0, "shares", SplitError::Shares { shares: 0 });
    check(&equal, u64::from(over), over, "shares", SplitError::Shares { shares: over });
    check(&lucky_rule(0, None), 10, 1, "min_share", SplitError::MinShareZero);
    check(&uniform_rule(0), 10, 1, "min_share", SplitError::MinShareZero);
    check(&lucky, 9, 10, "shares", small(9, 10, 1));
    check(&uniform_rule(2), 19, 10, "min_share", small(19, 10, 2));
    check(&uniform_rule(TOTAL_MAX), TOTAL_MAX, 2, "min_share", small(TOTAL_MAX, 2, TOTAL_MAX));
    check(&equal, 0, 10, "total", small(0, 10, 1));
    let (min_share, max_share, total) = (fen(10), fen(9), fen(20));
    check(&lucky_rule(10, Some(9)), 20, 2, "max_share", SplitError::MaxShareBelowMin { min_share, max_share });
    let (total_over, max_share) = (fen(41), fen(20));
    check(&capped, 41, 2, "max_share", SplitError::MaxShareTooSmall { total: total_over, shares: 2, max_share });
    check(&equal, 20, 3, "total", SplitError::TotalIndivisible { total, shares: 3, remainder: 2 });
    check(&specified_rule(&[]), 20, 3, "amounts", SplitError::Amounts { amounts: 0 });
    let many = vec![1; SPECIFIED_MAX + 1];
    check(&specified_rule(&many), 10_001, 10_001, "amounts", SplitError::Amounts { amounts: 10_001 });
    check(&specified_rule(&[20, 0]), 20, 2, "amounts", SplitError::AmountZero { index: 1 });
    check(&specified_rule(&[10, 10]), 20, 3, "amounts", SplitError::AmountsCount { amounts: 2, shares: 3 });
    check(&specified_rule(&[10, 11]), 20, 2, "amounts", SplitError::AmountsSum { sum: 21, total });
    let (sum, most) = (u64::MAX, vec![TOTAL_MAX; SPECIFIED_MAX]);
    check(&specified_rule(&most), 20, 10_000, "amounts", SplitError::AmountsSum { sum, total });
}

#[test]
fn the_edges_of_what_can_be_divided_are_accepted() {
    let shares = SHARES_MAX;
    let total = u64::from(shares);
    for (rule, total, shares) in [
        (lucky_rule(1, Some(1)), total, shares),
        (lucky_rule(1, Some(TOTAL_MAX)), TOTAL_MAX, shares),
        (uniform_rule(1), total, shares),
        (SplitRule::Equal, total, shares),
        (lucky_rule(10, Some(20)), 40, 2),
        (specified_rule(&vec![1; SPECIFIED_MAX]), 10_000, 10_000),
    ] {
        assert_eq!(rule.check(fen(total), shares), Ok(()), "{}", rule.name());
    }
}

#[test]
fn amounts_take_32_bits_while_they_fit() {
    let edge = u64::from(u32::MAX);
    let narrow = split(&specified_rule(&[edge, 1]), fen(edge + 1), 2, &ZEROS);
    let wide = split(&specified_rule(&[edge + 1, 1]), fen(edge + 2), 2, &ZEROS);
    assert!(matches!(narrow, Shares::Narrow(_)) && matches!(wide, Shares::Wide(_)));
    assert_eq!((narrow.total(), wide.total()), (fen(edge + 1), fen(edge + 2)));
}

#[test]
fn the_best_share_is_the_first_of_the_largest() {
    for (amounts, best) in [(vec![5], 0), (vec![1, 3, 2, 3], 1), (vec![4, 4], 0), (vec![1, 2, u64::MAX >> 11], 2)] {
        assert_eq!(Shares::pack(amounts.clone()).best(), best, "{amounts:?}");
    }
}

#[test]
fn rules_read_back_as_they_were_written() {
    for rule in
        [lucky_rule(1, None), lucky_rule(2, Some(9)), uniform_rule(3), SplitRule::Equal, specified_rule(&[4, 5])]
    {
        let bytes = postcard::to_stdvec(&rule).expect("a rule is written");
        assert_eq!(postcard::from_bytes::<SplitRule>(&bytes), Ok(rule));
    }
}

/// A seed, a number of shares, a minimum, and what a share gets beyond it on
/// average: from nothing to as much as an amount can be.
fn arguments() -> impl Strategy<Value = (Seed, u32, u64, u64)> {
    let total = prop_oneof![0..50u64, 0..10_000u64, 0..TOTAL_MAX - 60_000];
    (any::<Seed>(), 1..300u32, 1..200u64, total)
}

#[track_caller]
fn check_split(rule: &SplitRule, total: u64, shares: u32, seed: &Seed, min: u64, max: u64) {
    assert_eq!(rule.check(fen(total), shares), Ok(()));
    let drawn = split(rule, fen(total), shares, seed);
    assert_eq!(drawn.len(), shares);
    assert_eq!(minor(&drawn).iter().sum::<u64>(), total, "the sum is exact");
    assert!(drawn.iter().all(|amount| (min..=max).contains(&amount.minor())), "{min} to {max}: {drawn:?}");
    assert_eq!(split(rule, fen(total), shares, seed), drawn, "the same seed gives the same amounts");
    let (mut sorted, mut drawn_first) = (minor(&drawn), minor(&split_unshuffled(rule, fen(total), shares, seed)));
    sorted.sort_unstable();
    drawn_first.sort_unstable();
    assert_eq!(sorted, drawn_first, "the shuffle only reorders");
}

proptest! {
    #[test]
    fn lucky_keeps_its_bounds((seed, shares, min, rest) in arguments(), slack in 0..100u64) {
        let count = u64::from(shares);
        let total = count * min + rest;
        check_split(&lucky_rule(min, None), total, shares, &seed, min, total);
        let max = min + rest.div_ceil(count) + slack;
        check_split(&lucky_rule(min, Some(max)), total, shares, &seed, min, max);
    }

    #[test]
    fn full_shares_are_all_full((seed, shares, min, more) in arguments()) {
        let max = (min + more).min(TOTAL_MAX / u64::from(shares)).max(min);
        check_split(&lucky_rule(min, Some(max)), max * u64::from(shares), shares, &seed, max, max);
    }

    #[test]
    fn uniform_keeps_its_bounds((seed, shares, min, rest) in arguments()) {
        let total = u64::from(shares) * min + rest;
        check_split(&uniform_rule(min), total, shares, &seed, min, total);
    }

    #[test]
    fn specified_amounts_are_all_there((seed, ..) in arguments(), amounts in prop::collection::vec(1..u64::MAX >> 20, 1..50)) {
        let (total, shares) = (amounts.iter().sum(), amounts.len() as u32);
        check_split(&specified_rule(&amounts), total, shares, &seed, 1, total);
        let mut drawn = minor(&split(&specified_rule(&amounts), fen(total), shares, &seed));
        let mut amounts = amounts;
        drawn.sort_unstable();
        amounts.sort_unstable();
        prop_assert_eq!(drawn, amounts);
    }

    #[test]
    fn both_ways_to_place_draw_the_same((seed, count, ..) in arguments(), more in 0..20_000u64) {
        let (count, bound) = (count as usize, 2 * u64::from(count) + more);
        let (mut marked, mut sorted) = (Stream::new(&seed), Stream::new(&seed));
        prop_assert_eq!(marked.places_marked(count, bound), sorted.places_sorted(count, bound));
        prop_assert_eq!(marked.0, sorted.0, "and leave the stream at the same place");
    }
}
