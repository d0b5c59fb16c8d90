//! Holds every acknowledged answer against the server, after the run.
//!
//! **Invariant:** first what is unknown is asked and becomes a fact; then nothing
//! is excused: each win, hold, order and balance must be what was acknowledged,
//! and the server's own lists and sums must contain exactly that.

use crate::asker::{Asker, for_each};
use crate::client::{Request, Target};
use crate::facts::{Answer, Differences, Facts, Known, Pair, ShareFact, changed_win, forgotten_win};
use crate::world::World;
use serde::Deserialize;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const BATCH: usize = 1000;
const PAGE: usize = 1000;

/// What the audit found.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) checked: u64,
    pub(crate) differences: Differences,
    /// What is known now, nothing unknown.
    pub(crate) facts: Facts,
}

pub(crate) struct Audit {
    pub(crate) target: Arc<Target>,
    pub(crate) world: Arc<World>,
    pub(crate) facts: RefCell<Facts>,
    /// Of the run: facts have times since then.
    pub(crate) start: Instant,
    checked: Cell<u64>,
    differences: RefCell<Differences>,
}

type Shared = Rc<Audit>;

/// Audits everything in `facts`. Must run inside a `LocalSet`.
pub(crate) async fn audit(target: Arc<Target>, world: Arc<World>, mut facts: Facts, start: Instant) -> Verdict {
    let differences = std::mem::take(&mut facts.differences);
    let audit = Rc::new(Audit {
        target,
        world,
        facts: RefCell::new(facts),
        start,
        checked: Cell::new(0),
        differences: RefCell::new(differences),
    });
    if let Err(why) = audit_all(&audit).await {
        audit.differ(format!("the audit could not be finished: {why}"));
    }
    let differences = audit.differences.take();
    Verdict { checked: audit.checked.get(), differences, facts: audit.facts.take() }
}

async fn audit_all(audit: &Shared) -> Result<(), String> {
    settle_grabs(audit).await?;
    settle_claims(audit).await?;
    crate::audit_units::settle_units(audit).await?;
    one_user_a_share(audit);
    ask_wins_again(audit).await?;
    ask_wins_again_in_batches(audit).await?;
    compare_lists(audit).await?;
    crate::audit_units::audit_units(audit).await?;
    crate::audit_gifts::audit_gifts(audit).await?;
    crate::audit_group_buy::audit_group_buy(audit).await?;
    crate::audit_gifts::compare_merchant(audit).await?;
    crate::audit_units::audit_wallets(audit).await?;
    crate::audit_units::audit_books(audit).await
}

impl Audit {
    pub(crate) fn differ(&self, words: String) {
        self.differences.borrow_mut().add(words);
    }

    pub(crate) fn absorb(&self, found: Differences) {
        self.differences.borrow_mut().absorb(found);
    }

    pub(crate) fn check(&self, holds: bool, words: impl FnOnce() -> String) {
        self.checked.set(self.checked.get() + 1);
        if !holds {
            self.differ(words());
        }
    }

    /// Does `job` for each of `jobs`, many at a time.
    pub(crate) async fn each<J, F>(self: &Rc<Self>, jobs: Vec<J>, job: F) -> Result<(), String>
    where
        J: 'static,
        F: AsyncFn(&Shared, &mut Asker, J) -> Result<(), String> + 'static,
    {
        let audit = Rc::clone(self);
        for_each(&self.target, PATIENCE, jobs, async move |asker: &mut Asker, next: J| job(&audit, asker, next).await)
            .await
    }

    fn share_path(&self, pair: Pair, verb: &str) -> (String, String) {
        let path = format!("/v1/envelopes/{}/{verb}", self.world.envelopes[pair.0 as usize].id);
        (path, self.user_body(pair.1))
    }

    pub(crate) fn user_body(&self, user: u32) -> String {
        format!("{{\"user\":\"{}\"}}", self.world.user(user))
    }

    fn wins(&self) -> Vec<(Pair, Win)> {
        let facts = self.facts.borrow();
        let wins = facts.shares.iter().filter_map(|(pair, fact)| match *fact {
            ShareFact::Won { share, amount, claimed } => Some((*pair, Win { share, amount, claimed })),
            ShareFact::Unknown => None,
        });
        wins.collect()
    }

    fn unknown_grabs(&self) -> Vec<Pair> {
        let facts = self.facts.borrow();
        let unknown = facts.shares.iter().filter(|(_, fact)| **fact == ShareFact::Unknown);
        unknown.map(|(pair, _)| *pair).collect()
    }

    fn compare_win(&self, pair: Pair, win: Win, got: &Answer<'_>) {
        let name = || self.world.share_name(pair);
        let expected = (win.share, win.amount);
        if got.outcome != "won" {
            let outcome = if got.outcome.is_empty() { "an error" } else { got.outcome };
            return self.check(false, || forgotten_win(&name(), expected, outcome));
        }
        let answered = (got.share.unwrap_or(u32::MAX), got.amount.unwrap_or(0));
        self.check(answered == expected, || format!("{}: {}", name(), changed_win(expected, answered)));
        self.check(got.replayed == Some(true), || {
            format!("{}: an acknowledged win was won again: expected replayed true, got false", name())
        });
        let status = if win.claimed == Known::Yes { "claimed" } else { "grabbed" };
        self.check(got.status == Some(status), || {
            format!("{}: expected status {status}, got {}", name(), got.status.unwrap_or("none"))
        });
    }
}

#[derive(Clone, Copy)]
struct Win {
    share: u32,
    amount: u64,
    claimed: Known,
}

/// A POST whose answer is an outcome: its status. The body is in the asker.
pub(crate) async fn post(asker: &mut Asker, path: &str, body: &str) -> Result<u16, String> {
    asker.ask(&Request { path, idempotency_key: None, body: Some(body.as_bytes()) }).await
}

pub(crate) async fn get(asker: &mut Asker, path: &str) -> Result<u16, String> {
    asker.ask(&Request { path, idempotency_key: None, body: None }).await
}

/// The outcome in the last answer, or the words for what came instead.
pub(crate) fn outcome_of(asker: &Asker, status: u16) -> Result<Answer<'_>, String> {
    if status != 200 {
        return Err(format!("expected an outcome, got {status}: {}", asker.text()));
    }
    serde_json::from_slice(asker.body()).map_err(|error| format!("unreadable answer ({error}): {}", asker.text()))
}

/// Asks every grab without an answer: what is said now is the fact.
async fn settle_grabs(audit: &Shared) -> Result<(), String> {
    audit
        .each(audit.unknown_grabs(), async |audit: &Shared, asker: &mut Asker, pair: Pair| {
            let (path, body) = audit.share_path(pair, "grab");
            let status = post(asker, &path, &body).await?;
            let answer = outcome_of(asker, status);
            let name = || audit.world.share_name(pair);
            let mut facts = audit.facts.borrow_mut();
            match answer {
                Ok(Answer { outcome: "won", share: Some(share), amount: Some(amount), .. }) => {
                    facts.won(pair, share, amount, name);
                }
                Ok(_) => drop(facts.shares.remove(&pair)),
                Err(why) => {
                    facts.shares.remove(&pair);
                    audit.differ(format!("{}: asked again about an unknown grab: {why}", name()));
                }
            }
            Ok(())
        })
        .await
}

/// Asks every claim without an answer again.
async fn settle_claims(audit: &Shared) -> Result<(), String> {
    let mut unknown = audit.wins();
    unknown.retain(|(_, win)| win.claimed == Known::Unknown);
    audit
        .each(unknown, async |audit: &Shared, asker: &mut Asker, (pair, _): (Pair, Win)| {
            let (path, body) = audit.share_path(pair, "claim");
            let status = post(asker, &path, &body).await?;
            let name = || audit.world.share_name(pair);
            match outcome_of(asker, status) {
                Ok(Answer { outcome: "claimed", amount, .. }) => {
                    audit.facts.borrow_mut().share_claimed(pair, amount.unwrap_or(0), name);
                }
                Ok(other) => audit.differ(format!("{}: expected claimed, got {}", name(), other.outcome)),
                Err(why) => audit.differ(format!("{}: asked again about an unknown claim: {why}", name())),
            }
            Ok(())
        })
        .await
}

/// From the acknowledged answers alone: no share has two users.
fn one_user_a_share(audit: &Shared) {
    let mut taken: Vec<(u32, u32, u32)> =
        audit.wins().into_iter().map(|(pair, win)| (pair.0, win.share, pair.1)).collect();
    taken.sort_unstable();
    for two in taken.windows(2) {
        let [(envelope, share, user), (other_envelope, other_share, other)] = two else { continue };
        audit.check((envelope, share) != (other_envelope, other_share), || {
            let id = &audit.world.envelopes[*envelope as usize].id;
            let (user, other) = (audit.world.user(*user), audit.world.user(*other));
            format!("envelope {id}: share {share} was sold twice: to {user} and to {other}")
        });
    }
}

async fn ask_wins_again(audit: &Shared) -> Result<(), String> {
    audit
        .each(audit.wins(), async |audit: &Shared, asker: &mut Asker, (pair, win): (Pair, Win)| {
            let (path, body) = audit.share_path(pair, "grab");
            let status = post(asker, &path, &body).await?;
            match outcome_of(asker, status) {
                Ok(answer) => audit.compare_win(pair, win, &answer),
                Err(why) => audit.check(false, || format!("{}: {why}", audit.world.share_name(pair))),
            }
            Ok(())
        })
        .await
}

async fn ask_wins_again_in_batches(audit: &Shared) -> Result<(), String> {
    let wins = audit.wins();
    let batches: Vec<Vec<(Pair, Win)>> = wins.chunks(BATCH).map(<[_]>::to_vec).collect();
    audit
        .each(batches, async |audit: &Shared, asker: &mut Asker, batch: Vec<(Pair, Win)>| {
            #[derive(Deserialize)]
            struct Results<'a> {
                #[serde(borrow)]
                results: Vec<Answer<'a>>,
            }
            let mut body = String::from("{\"grabs\":[");
            for (n, ((envelope, user), _)) in batch.iter().enumerate() {
                let comma = if n == 0 { "" } else { "," };
                let id = &audit.world.envelopes[*envelope as usize].id;
                let tag = &audit.world.tag;
                let _ = write!(body, "{comma}{{\"envelope\":\"{id}\",\"user\":\"u{tag}-{user}\"}}");
            }
            body.push_str("]}");
            let status = post(asker, "/v1/grabs", &body).await?;
            let results = match serde_json::from_slice::<Results<'_>>(asker.body()) {
                Ok(answer) if status == 200 => answer.results,
                _ => {
                    audit.check(false, || format!("POST /v1/grabs: expected results, got {status}: {}", asker.text()));
                    return Ok(());
                }
            };
            audit.check(results.len() == batch.len(), || {
                format!("POST /v1/grabs: expected {} results, got {}", batch.len(), results.len())
            });
            for ((pair, win), answer) in batch.iter().zip(&results) {
                audit.compare_win(*pair, *win, answer);
            }
            Ok(())
        })
        .await
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    user: &'a str,
    amount: u64,
    share: u32,
    status: &'a str,
}

#[derive(Deserialize)]
struct Listing<'a> {
    #[serde(borrow)]
    grabs: Vec<Listed<'a>>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct EnvelopeAnswer {
    total: u64,
    shares: u32,
    remaining_shares: u32,
    remaining_amount: u64,
    refunded_amount: u64,
    claimed_amount: u64,
}

/// Every envelope's list holds exactly the acknowledged wins, and its money adds up.
async fn compare_lists(audit: &Shared) -> Result<(), String> {
    let mut by_envelope: HashMap<u32, HashMap<u32, Win>> = HashMap::new();
    for ((envelope, user), win) in audit.wins() {
        by_envelope.entry(envelope).or_default().insert(user, win);
    }
    let jobs: Vec<(u32, HashMap<u32, Win>)> = (0..audit.world.envelopes.len() as u32)
        .map(|envelope| (envelope, by_envelope.remove(&envelope).unwrap_or_default()))
        .collect();
    audit
        .each(jobs, async |audit: &Shared, asker: &mut Asker, (envelope, mut wins): (u32, HashMap<u32, Win>)| {
            let id = &audit.world.envelopes[envelope as usize].id;
            let mut sums = ListSums::default();
            let mut path = format!("/v1/envelopes/{id}/grabs?limit={PAGE}");
            loop {
                let status = get(asker, &path).await?;
                let page = match serde_json::from_slice::<Listing<'_>>(asker.body()) {
                    Ok(page) if status == 200 => page,
                    _ => {
                        audit.check(false, || format!("GET {path}: expected grabs, got {status}: {}", asker.text()));
                        return Ok(());
                    }
                };
                for listed in &page.grabs {
                    compare_listed(audit, envelope, &mut wins, &mut sums, listed);
                }
                let Some(cursor) = page.next_cursor else { break };
                if page.grabs.is_empty() || sums.count > u64::from(u32::MAX) {
                    audit.differ(format!("envelope {id}: its list of grabs does not end"));
                    return Ok(());
                }
                path = format!("/v1/envelopes/{id}/grabs?limit={PAGE}&cursor={}", escaped(&cursor));
            }
            for (user, win) in &wins {
                let expected = (win.share, win.amount);
                let name = audit.world.share_name((envelope, *user));
                audit.check(false, || forgotten_win(&name, expected, "nothing in the list of grabs"));
            }
            let path = format!("/v1/envelopes/{id}");
            let status = get(asker, &path).await?;
            match serde_json::from_slice::<EnvelopeAnswer>(asker.body()) {
                // Other parts may have grabbed between the list and this.
                Ok(_) if status == 200 && !audit.world.is_own(envelope) => {}
                Ok(answer) if status == 200 => compare_sums(audit, envelope, &sums, &answer),
                _ => audit.check(false, || format!("GET {path}: got {status}: {}", asker.text())),
            }
            Ok(())
        })
        .await
}

#[derive(Default)]
struct ListSums {
    count: u64,
    amount: u64,
    claimed: u64,
    users: HashSet<String>,
    shares: HashMap<u32, String>,
}

fn compare_listed(
    audit: &Audit,
    envelope: u32,
    wins: &mut HashMap<u32, Win>,
    sums: &mut ListSums,
    listed: &Listed<'_>,
) {
    let id = &audit.world.envelopes[envelope as usize].id;
    let (user, share, amount) = (listed.user, listed.share, listed.amount);
    sums.count += 1;
    sums.amount += amount;
    sums.claimed += if listed.status == "claimed" { amount } else { 0 };
    audit.check(sums.users.insert(user.to_owned()), || {
        format!("envelope {id}: user {user} is listed twice: one user must not get two shares")
    });
    if let Some(other) = sums.shares.insert(share, user.to_owned()) {
        audit.check(false, || format!("envelope {id}: share {share} was sold twice: to {other} and to {user}"));
    }
    let prefix = format!("u{}-", audit.world.tag);
    let index = user.strip_prefix(&prefix).and_then(|index| index.parse::<u32>().ok());
    let win = index.and_then(|index| wins.remove(&index));
    match win {
        // What other parts were told, they check themselves.
        None if index.is_some_and(|index| !audit.world.owns((envelope, index))) => {}
        None => audit.check(false, || {
            format!("envelope {id} user {user}: listed with share {share}, but no win was ever acknowledged")
        }),
        Some(win) => {
            let expected = (win.share, win.amount);
            audit.check(expected == (share, amount), || {
                format!("envelope {id} user {user}: in the list {}", changed_win(expected, (share, amount)))
            });
        }
    }
}

fn compare_sums(audit: &Audit, envelope: u32, sums: &ListSums, answer: &EnvelopeAnswer) {
    let created = &audit.world.envelopes[envelope as usize];
    let id = &created.id;
    audit.check((answer.total, answer.shares) == (created.total, created.shares), || {
        format!(
            "envelope {id}: expected total {} in {} shares, got {} in {}",
            created.total, created.shares, answer.total, answer.shares
        )
    });
    let sum = sums.amount + answer.remaining_amount + answer.refunded_amount;
    audit.check(sum == created.total, || {
        format!(
            "envelope {id}: money does not add up: grabbed {} + remaining {} + refunded {} = {sum}, total {}",
            sums.amount, answer.remaining_amount, answer.refunded_amount, created.total
        )
    });
    let shares = sums.count + u64::from(answer.remaining_shares);
    audit.check(shares == u64::from(created.shares), || {
        format!(
            "envelope {id}: shares do not add up: grabbed {} + remaining {} = {shares}, shares {}",
            sums.count, answer.remaining_shares, created.shares
        )
    });
    audit.check(answer.claimed_amount == sums.claimed, || {
        format!("envelope {id}: claimed_amount is {}, its claimed grabs sum to {}", answer.claimed_amount, sums.claimed)
    });
}

/// A cursor in a query: opaque, so everything unusual is escaped.
pub(crate) fn escaped(cursor: &str) -> String {
    let mut out = String::with_capacity(cursor.len());
    for byte in cursor.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
