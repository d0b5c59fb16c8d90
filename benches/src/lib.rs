//! What the benches share: pairs that are measured in turns, the rows they are
//! printed as, and the engines and users they are measured with.
//!
//! **Invariant:** a ratio compares two things measured in the same run, in
//! turns, so that whatever else the machine does falls on both.
//!
//! **Invariant:** what one turn leaves behind is done before the next begins
//! ([`settle`]): nobody pays for another's work.

pub mod burst;
pub mod http;
pub mod lives;

use hongbao_engine::backend::Backend;
use hongbao_engine::command::{
    Command, ItemOrigin, MerchantStatus, NewEnvelope, NewItem, NewMerchant, Outcome, Transfer,
};
use hongbao_engine::journal::JournalStats;
use hongbao_engine::memory::{Embedded, EmbeddedOptions};
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::{Amount, EnvelopeId, ItemId, UserId};
use rustix::time::{ClockId, clock_gettime};
use std::future::Future;
use std::path::Path;
use std::str::FromStr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What is measured of one operation; less is better.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Bytes.
    Bytes,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Time => format!("{} ({})", show_ns(value), show_rate(1e9 / value)),
            Unit::Bytes => format!("{value:.1} bytes"),
        }
    }
}

fn show_ns(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} µs", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// So many a second, with three digits that count.
pub fn show_rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 1e3 => format!("{rate:.1}/s"),
        rate if rate < 1e6 => format!("{:.1} k/s", rate / 1e3),
        rate => format!("{:.2} M/s", rate / 1e6),
    }
}

/// What a ratio has to be. Ratios are told as the goals are: of time (or bytes)
/// or of rate.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times the baseline's time or bytes.
    Times {
        /// The most that is good enough.
        at_most: f64,
        /// What is aimed at.
        aim: f64,
    },
    /// At least this part of the baseline's rate.
    Rate {
        /// The least that is good enough.
        at_least: f64,
        /// What is aimed at.
        aim: f64,
    },
    /// At most so many times the baseline's; the aim is that only cache misses grow.
    Flat {
        /// The most that is good enough.
        at_most: f64,
    },
    /// No goal, told as times the baseline.
    ReportTimes,
    /// No goal, told as a part of the baseline's rate.
    ReportRate,
    /// Nothing that must be, only an aim, told as a part of the baseline's rate.
    RateAim(f64),
}

impl Goal {
    fn ratio(self, ours: f64, baseline: f64) -> f64 {
        match self {
            Goal::Times { .. } | Goal::Flat { .. } | Goal::ReportTimes => ours / baseline,
            Goal::Rate { .. } | Goal::ReportRate | Goal::RateAim(_) => baseline / ours,
        }
    }

    fn show(self) -> String {
        match self {
            Goal::Times { at_most, aim } => format!("at most {at_most}, aim {aim}"),
            Goal::Rate { at_least, aim } => format!("at least {at_least}, aim {aim}"),
            Goal::Flat { at_most } => format!("at most {at_most}, aim flat but for cache misses"),
            Goal::ReportTimes => "report (times)".to_owned(),
            Goal::ReportRate => "report (rate)".to_owned(),
            Goal::RateAim(aim) => format!("report (rate), aim {aim}"),
        }
    }

    fn verdict(self, ratio: f64) -> &'static str {
        match self {
            Goal::Times { at_most, aim } => verdict(ratio <= at_most, ratio <= aim),
            Goal::Rate { at_least, aim } => verdict(ratio >= at_least, ratio >= aim),
            Goal::Flat { at_most } => verdict(ratio <= at_most, false),
            Goal::RateAim(aim) if ratio >= aim => "aim met",
            Goal::RateAim(_) => "aim missed",
            Goal::ReportTimes | Goal::ReportRate => "",
        }
    }
}

fn verdict(enough: bool, aimed: bool) -> &'static str {
    match (enough, aimed) {
        (_, true) => "aim met",
        (true, false) => "met",
        (false, false) => "missed",
    }
}

/// The heading of the table whose rows [`Pair::row`] and [`figure`] print.
pub fn heading() {
    println!("| what | median | against | its median | ratio (quartiles) | goal | | rounds |");
    println!("|---|---|---|---|---|---|---|---|");
}

/// What one operation cost, of two things measured in turns.
#[derive(Default)]
pub struct Pair {
    /// Costs of the thing measured, one a round.
    pub ours: Vec<f64>,
    /// Costs of what it is measured against.
    pub baseline: Vec<f64>,
}

impl Pair {
    /// Measures both `rounds` times, in turns, the first one alternating.
    pub fn measure(rounds: usize, mut ours: impl FnMut() -> f64, mut baseline: impl FnMut() -> f64) -> Pair {
        let mut pair = Pair::default();
        for round in 0..rounds {
            if round % 2 == 0 {
                pair.ours.push(ours());
                pair.baseline.push(baseline());
            } else {
                pair.baseline.push(baseline());
                pair.ours.push(ours());
            }
        }
        pair
    }

    /// Prints both medians, and the median and the quartiles of the rounds' ratios.
    pub fn row(&self, what: &str, against: &str, unit: Unit, goal: Goal) {
        let ratios: Vec<_> =
            self.ours.iter().zip(&self.baseline).map(|(&ours, &baseline)| goal.ratio(ours, baseline)).collect();
        let ratio = median(&ratios);
        println!(
            "| {what} | {} | {against} | {} | {ratio:.2} ({:.2} to {:.2}) | {} | {} | {} |",
            unit.show(median(&self.ours)),
            unit.show(median(&self.baseline)),
            quantile(&ratios, 0.25),
            quantile(&ratios, 0.75),
            goal.show(),
            goal.verdict(ratio),
            self.ours.len(),
        );
    }
}

/// Prints a figure that has no baseline, only a goal: `enough` and `aimed` say
/// whether it is reached, in that order.
pub fn figure(what: &str, value: &str, goal: &str, reached: Option<(bool, bool)>, rounds: usize) {
    let verdict = reached.map_or("", |(enough, aimed)| verdict(enough, aimed));
    println!("| {what} | {value} | | | | {goal} | {verdict} | {rounds} |");
}

/// The middle one of `values`.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Between two values, by how near each is.
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = (values.len() - 1) as f64 * part;
    let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

/// Nanoseconds of one of `count` operations that took `elapsed` together.
pub fn each(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_nanos() as f64 / count as f64
}

/// What the environment says under `name`, else `default`.
///
/// # Panics
/// If it says something that is not of this kind.
pub fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} cannot be read; give a plain number")),
        Err(_) => default,
    }
}

/// A fresh directory on the disk of the build directory, which is not a memory
/// file system as `/tmp` may be.
pub fn directory() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    tempfile::tempdir_in(target).expect("a directory can be made beside the build's")
}

/// Processor time this process has used.
pub fn process_time() -> Duration {
    time_of(ClockId::ProcessCPUTime)
}

/// Processor time the calling thread has used.
pub fn thread_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    clock_gettime(clock).try_into().expect("processor time is not negative")
}

/// Waits until this process is idle: no thread is still busy with what was
/// measured before.
pub fn settle() {
    const LOOK: Duration = Duration::from_millis(50);
    let mut quiet = 0;
    let give_up = Instant::now() + Duration::from_secs(60);
    while quiet < 4 && Instant::now() < give_up {
        let before = process_time();
        std::thread::sleep(LOOK);
        quiet = if process_time() - before < LOOK / 20 { quiet + 1 } else { 0 };
    }
}

/// Waits until everything durable is on disk in the store too, then until the
/// store's own threads are done.
pub fn catch_up(engine: &Embedded) {
    while engine.stats().lag_records > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    if let Some(projector) = engine.projector() {
        projector.persist();
    }
    settle();
}

/// The journal's figures once it has counted `records` of them. It counts a batch
/// just after it has told the waiters.
///
/// # Panics
/// If there are more, or still fewer after ten seconds.
pub fn counted(engine: &Embedded, records: u64) -> JournalStats {
    let give_up = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = engine.stats().journal.expect("a durable engine has a journal");
        if stats.records >= records || Instant::now() > give_up {
            assert_eq!(stats.records, records, "every win is in the journal, and only once");
            return stats;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `1 envelope`, or so many.
pub fn envelopes(count: usize) -> String {
    if count == 1 { "1 envelope".to_owned() } else { format!("{count} envelopes") }
}

/// Opens a durable engine, as the server does, in a fresh directory.
pub fn durable(directory: &Path) -> Embedded {
    Embedded::open(directory, EmbeddedOptions::default()).expect("an engine opens in a fresh directory").0
}

/// An engine without durability and without threads.
pub fn volatile() -> Embedded {
    Embedded::volatile(&EmbeddedOptions { threaded: false, ..EmbeddedOptions::default() })
}

/// Runs a future that never waits, as those of a volatile engine.
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a volatile engine never waits"),
    }
}

/// `count` different users, decimal, in no order.
pub fn decimal_users(count: u64) -> Vec<UserId> {
    users(count, |number| (1_000_000_000 + number).to_string())
}

/// `count` different users with ids of 24 characters, in no order.
pub fn text_users(count: u64) -> Vec<UserId> {
    users(count, |number| format!("openid-wx-{:0>14}", 1_000_000_000 + number))
}

/// Made in one allocation of the right size: what is freed on the way would be
/// taken for memory that winners do not need.
fn users(count: u64, name: impl Fn(u64) -> String) -> Vec<UserId> {
    let mut users = Vec::with_capacity(count as usize);
    // An odd multiplier permutes the numbers below a power of two.
    let size = count.next_power_of_two();
    let numbers = (0..size).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (size - 1)).filter(|&i| i < count);
    users.extend(numbers.map(|number| UserId::new(&name(number)).expect("letters and digits are a user")));
    users
}

/// Who sends the envelopes of a bench.
pub fn sender() -> UserId {
    UserId::new("sender").expect("a word is a user")
}

/// Terms of an envelope that lives for a day.
pub fn terms(sender: &UserId, shares: u32) -> NewEnvelope {
    let total = Amount::new(u64::from(shares) * 100).expect("it fits");
    NewEnvelope::new("bench", sender.clone(), total, shares, SplitRule::lucky())
}

/// Gives a rich sender what the envelopes of a bench need.
pub async fn fund(engine: &impl Backend, sender: &UserId) {
    fund_with(engine, sender, 1 << 50).await;
}

/// Gives a user so much, in minor units.
pub async fn fund_with(engine: &impl Backend, user: &UserId, amount: u64) {
    let amount = Amount::new(amount).expect("it fits");
    let transfer = Transfer { user: user.clone(), amount, reference: None };
    engine.execute(Command::Deposit(transfer), None).await.expect("a deposit is taken");
}

/// Makes an envelope of `shares`.
pub async fn create(engine: &impl Backend, sender: &UserId, shares: u32) -> EnvelopeId {
    create_with(engine, terms(sender, shares)).await
}

/// Makes an envelope by these terms.
pub async fn create_with(engine: &impl Backend, terms: NewEnvelope) -> EnvelopeId {
    let command = Command::CreateEnvelope(Box::new(terms));
    match engine.execute(command, None).await.expect("an envelope is made").outcome {
        Outcome::Envelope(view) => view.id,
        other => panic!("an envelope was to be made, not {other:?}"),
    }
}

/// Makes `count` envelopes by the same terms, waiting for durability once every
/// few hundred, and for the store when it falls behind.
pub async fn create_many(engine: &Embedded, terms: &NewEnvelope, count: usize) -> Vec<EnvelopeId> {
    const AT_ONCE: usize = 256;
    const LAG_MAX: u64 = 100_000;
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let commands = (ids.len()..count).take(AT_ONCE).map(|_| Command::CreateEnvelope(Box::new(terms.clone())));
        for reply in engine.execute_all(commands.collect()).await {
            match reply.expect("an envelope is made").outcome {
                Outcome::Envelope(view) => ids.push(view.id),
                other => panic!("an envelope was to be made, not {other:?}"),
            }
        }
        while engine.stats().lag_records > LAG_MAX {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    ids
}

/// Puts so many units on sale, one a user.
pub async fn sell(engine: &impl Backend, stock: u32) -> ItemId {
    sell_for(engine, stock, Some(1), 900).await
}

/// Puts so many units on sale, as many a user as the limit says, held for so long.
pub async fn sell_for(engine: &impl Backend, stock: u32, per_user_limit: Option<u32>, hold_ttl_s: u64) -> ItemId {
    let id = UserId::new("rosy").expect("a merchant");
    let merchant = NewMerchant::new(id.clone(), "Rosy", Some(MerchantStatus::Verified));
    engine.execute(Command::PutMerchant(Box::new(merchant)), None).await.expect("a merchant is made");
    let terms = NewItem {
        merchant: id,
        name: "99 roses".to_owned(),
        category: "flowers".to_owned(),
        price: Amount::new(29_900).expect("it fits"),
        stock,
        per_user_limit,
        starts_at: None,
        ends_at: None,
        hold_ttl_s,
        image_url: None,
        origin: ItemOrigin::default(),
        group_buy: None,
    };
    match engine.execute(Command::CreateItem(Box::new(terms)), None).await.expect("an item is made").outcome {
        Outcome::Item(view) => view.id,
        other => panic!("an item was to be made, not {other:?}"),
    }
}

/// The user with this number grabs from the envelopes in turn: users come in no
/// order, so neighbours in time are at different envelopes.
pub fn grab_of(envelopes: &[EnvelopeId], number: usize, user: &UserId) -> Command {
    Command::Grab { envelope: envelopes[number % envelopes.len()], user: user.clone() }
}

/// Whether an answer tells of something won or held just now.
pub fn is_new(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Won { replayed: false, .. } | Outcome::Held { replayed: false, .. })
}

/// How long a volatile engine takes for one grab of each user, from one thread,
/// on `envelopes` envelopes made before.
pub fn grab_all(users: &[UserId], envelopes: usize) -> Duration {
    let (engine, sender) = (volatile(), sender());
    now(fund(&engine, &sender));
    let ids = now(create_many(&engine, &terms(&sender, users.len().div_ceil(envelopes) as u32), envelopes));
    grab_each(&engine, users, &ids)
}

/// How long `engine`, which must be volatile, takes for one grab of each user.
pub fn grab_each(engine: &Embedded, users: &[UserId], envelopes: &[EnvelopeId]) -> Duration {
    let start = Instant::now();
    let mut won = 0;
    for (number, user) in users.iter().enumerate() {
        let reply = now(engine.execute(grab_of(envelopes, number, user), None)).expect("a grab is decided");
        won += usize::from(is_new(&reply.outcome));
    }
    let elapsed = start.elapsed();
    assert_eq!(won, users.len(), "every user of the bench wins once");
    elapsed
}

/// The same in calls of `batch`, all of one envelope.
pub fn grab_batches(users: &[UserId], batch: usize) -> Duration {
    let (engine, sender) = (volatile(), sender());
    now(fund(&engine, &sender));
    let ids = [now(create(&engine, &sender, users.len() as u32))];
    let start = Instant::now();
    let mut won = 0;
    for users in users.chunks(batch) {
        let commands = users.iter().map(|user| grab_of(&ids, 0, user)).collect();
        for reply in now(engine.execute_all(commands)) {
            won += usize::from(is_new(&reply.expect("a grab is decided").outcome));
        }
    }
    let elapsed = start.elapsed();
    assert_eq!(won, users.len(), "every user of the bench wins once");
    elapsed
}

/// The memory this process holds, in bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells the memory of a process");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * rustix::param::page_size() as u64
}
