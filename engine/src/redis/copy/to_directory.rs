//! From Redis into a directory: bucket by bucket, as the rows that the
//! projection of records would have written, in a store that takes its place
//! only when it is whole.
//!
//! What Redis does not keep is told by what it does: when an envelope ended by
//! the movement that sent back what was unsold.

use super::answers::REMEMBER_S;
use super::directory::{failed, settle, take_back, unmark};
use super::{COPIED, CopyError, CopyOptions, CopyReport, MARK, OUT, Result, occupied};
use crate::audit::audit;
use crate::backend::{Audit, OnceKey};
use crate::code::HandedTo;
use crate::command::{EndedAs, HoldState, OrderView};
use crate::event::{
    Claimed, CodesHanded, EnvelopeCreated, EnvelopeEnded, EnvelopeOutside, EnvelopeRedacted, EnvelopeSettled, Event,
    Grabbed, Held, HoldEnded, ItemPut, OrderChanged, PayoutChanged, PayoutMade, Remembered, Units,
};
use crate::memory::{Settings, lock};
use crate::order::{OrderProgress, OrderState};
use crate::payout::{Payout, PayoutCounts, PayoutState};
use crate::redis::attach::found;
use crate::redis::audit::{HoldRow, OnProgress, Pages, Progress, Sums, sum, units_of, words};
use crate::redis::backend::{Core, RedisBackend};
use crate::redis::bucket::Bucket;
use crate::redis::layout::Layout;
use crate::redis::names::Names;
use crate::redis::orders::OrderRow;
use crate::redis::reads::{Win, entry};
use crate::redis::reply::{Answer, damaged, parts};
use crate::state::envelope::Figures;
use crate::store::copy::Copied;
use crate::store::{FjallOptions, Position, Store};
use crate::types::{Amount, EnvelopeId, HoldId, ItemId, OrderId, PayoutId, Timestamp, UserId, hex};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Rows collected for one commit.
const COMMIT_ROWS: usize = 8192;
/// Movements taken at a time.
const PAGE: u64 = 256;
/// The setting of a store that says of what it is a copy, until it is whole.
const COPY_OF: &str = "copy_of";

/// Copies a deployment into an empty `directory`, or goes on with a copy of it
/// that was interrupted, and audits the directory.
///
/// # Errors
/// [`CopyError`] says what is wrong and what to do.
pub async fn copy_to_directory(options: CopyOptions, directory: &Path, progress: OnProgress<'_>) -> Result<CopyReport> {
    let backend = RedisBackend::attach(options.backend.clone()).await?;
    let core = &backend.core;
    let settled = found(&options.backend.redis).await?.unwrap_or_default();
    let mark = settled.get(MARK).map(|mark| String::from_utf8_lossy(mark).into_owned());
    if mark.as_ref().is_some_and(|mark| !mark.starts_with(OUT)) {
        let why = "this deployment is itself what an interrupted copy has left; finish that one first";
        return Err(CopyError::Occupied(why.to_owned()));
    }
    let was_there = directory.exists();
    let guard = lock(directory)?;
    let path = directory.join("store.copied");
    take_back(directory, &path)?;
    let store = Store::open(&path, FjallOptions::default())?;
    // A mark that is set now is a new one: what is there belongs to another.
    if mark.is_none() && store.get_setting(COPY_OF)?.is_some() {
        return Err(occupied(&path));
    }
    // Nobody serves while the mark stands. Who takes it away to serve takes with
    // it what says that nothing was decided since.
    let mark = mark.unwrap_or_else(|| format!("{OUT}{}", hex(&core.random::<16>())));
    core.change_deployment("HSET", &[MARK, &mark]).await?;
    let copied = take_along(core, (&settled, &mark), (directory, &path, store), &options, progress).await;
    if let Err(CopyError::Form(_) | CopyError::Served(_)) = &copied {
        // It cannot go on: whoever serves there may go on, and nothing is left here.
        core.change_deployment("HDEL", &[MARK]).await?;
        fs::remove_dir_all(&path).map_err(failed(&path))?;
        unmark(directory)?;
        if !was_there {
            let locked = directory.join("lock");
            fs::remove_file(&locked).map_err(failed(&locked))?;
            fs::remove_dir(directory).map_err(failed(directory))?;
        }
    }
    drop(guard);
    let (things, position) = copied?;
    let mut differences = Vec::new();
    let audited = audit(directory, None, &mut |difference| differences.push(difference))?;
    if audited.last_lsn.0 != 0 {
        differences.push(format!("record {} is there and none should be", audited.last_lsn.0));
    }
    if differences.is_empty() {
        unmark(directory)?;
        core.change_deployment("HDEL", &[MARK]).await?;
    }
    Ok(CopyReport { things, totals: position.totals, differences })
}

/// Copies what has not been copied, and puts the store into its place.
async fn take_along(
    core: &Arc<Core>,
    (settled, mark): (&HashMap<String, Vec<u8>>, &str),
    (directory, path, store): (&Path, &Path, Store),
    options: &CopyOptions,
    progress: OnProgress<'_>,
) -> Result<(u64, Position)> {
    core.carry_everything().await?;
    // With their clocks: whatever is decided in a bucket moves its clock, also
    // where it moves no money.
    let before = core.sums_of_all().await?;
    let text =
        |name: &str| settled.get(name).map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let settings = Settings::of_copy(&text("currency"), &text("mode"), &core.fingerprint_secret);
    let source = source_of(&core.fingerprint_secret, mark, &before);
    let (done, things) = match store.get_setting(COPY_OF)? {
        None => (0, 0),
        Some(of) if of == source => {
            let copied = store.get_setting(COPIED)?.unwrap_or_default();
            let numbers =
                copied.split_once(' ').and_then(|(done, things)| Some((done.parse().ok()?, things.parse().ok()?)));
            numbers.unwrap_or((0, 0))
        }
        Some(_) => return Err(occupied(path)),
    };
    store.put_setting(COPY_OF, &source)?;
    settings.put(&store)?;
    // A copy that goes on has begun its history before.
    let settings = Settings::of(&store)?;

    let names = core.names(&vec![true; before.len()]).await?;
    let mut told = Progress { done: 0, all: core.layout.buckets.into() };
    let mut copying =
        Copying { core, store: &store, copied: Copied::new(), things, rows: 0, rows_max: options.rows_max };
    for (bucket, names) in core.layout.all().zip(&names) {
        if bucket.number() >= done {
            let things = copying.things;
            copying.bucket(bucket, names).await?;
            if copying.things > things {
                copying.commit()?;
                store.put_setting(COPIED, &format!("{} {}", bucket.number() + 1, copying.things))?;
            }
        }
        told.done += 1;
        progress(told);
    }
    let things = copying.things;
    let mut payouts = PayoutCounts::default();
    core.in_buckets(
        core.layout.all(),
        |core, bucket| async move { core.count_payouts(bucket).await },
        |of_it: PayoutCounts| payouts.iter_mut().zip(of_it).for_each(|(all, of_it)| *all += of_it),
    )
    .await?;
    let position = Position { payouts, ..position_of(&before, &text("advanced"))? };
    let after = core.sums_of_all().await?;
    let latest = after.iter().map(|sums| sum(sums, "clock")).collect::<std::result::Result<Vec<_>, _>>()?;
    let at = latest.into_iter().max().unwrap_or(0);
    let position = Position { at: Timestamp::from_ms(at.try_into().unwrap_or(0)), ..position };
    if after != before {
        let why = "something was decided there meanwhile, and the copy was given up: stop all servers, and copy again";
        return Err(CopyError::Served(why.to_owned()));
    }
    store.stand_at(position)?;
    store.checkpoint()?;
    drop(store);
    settle(directory, path, &settings)?;
    Ok((things, position))
}

fn source_of(secret: &[u8; 32], mark: &str, sums: &[Sums]) -> String {
    let mut hash = Sha256::new();
    hash.update(secret);
    hash.update(mark);
    for (name, value) in sums.iter().flatten() {
        hash.update(name.as_bytes());
        hash.update(value);
        hash.update([0]);
    }
    hex(&hash.finalize()[..16])
}

/// Where a store stands that holds everything, before the first record.
fn position_of(sums: &[Sums], advanced: &str) -> Result<Position> {
    let all = |name: &str| -> Result<u64> {
        let mut all = 0i64;
        for sums in sums {
            all += sum(sums, name)?;
        }
        u64::try_from(all).map_err(|_| CopyError::Form(format!("{name} is below zero; run `hongbao audit --redis`")))
    };
    if all("transit")? != 0 {
        return Err(CopyError::Form("money is still on its way; run `hongbao reconcile --repair` first".to_owned()));
    }
    Ok(Position {
        advanced_ms: advanced.parse().unwrap_or(0),
        totals: Audit {
            deposited: all("deposited")?,
            withdrawn: all("withdrawn")?,
            paid_out: all("paid_out")?,
            wallets: all("wallets")?,
            escrowed: all("escrowed")?,
            payable: all("payable")?,
            merchants: all("merchants")?,
            platform: all("platform")?,
            ..Audit::default()
        },
        ..Position::default()
    })
}

impl Core {
    /// Carries all that waits, and what that causes.
    async fn carry_everything(self: &Arc<Self>) -> Result<()> {
        loop {
            let carried = self.in_every_bucket(|core, bucket| async move { core.carry_older(bucket, 0).await }).await?;
            let mut any = false;
            for (of_it, refused) in carried {
                any |= of_it > 0;
                if let Some(why) = refused.first() {
                    return Err(CopyError::Form(format!(
                        "an effect cannot be carried: {why}; run `hongbao reconcile`"
                    )));
                }
            }
            if !any {
                return Ok(());
            }
        }
    }
}

/// Rows on their way into the store.
pub(super) struct Copying<'a> {
    pub(super) core: &'a Arc<Core>,
    store: &'a Store,
    pub(super) copied: Copied,
    pub(super) things: u64,
    rows: u64,
    rows_max: Option<u64>,
}

impl Copying<'_> {
    async fn bucket(&mut self, bucket: Bucket, names: &Names) -> Result<()> {
        for name in names.wallets.sorted() {
            self.wallet(bucket, &UserId::new(name).map_err(|_| damaged("a wallet"))?).await?;
        }
        // One on its way into the archive is among both.
        let envelopes: BTreeSet<&str> = names.envelopes.sorted().into_iter().chain(names.archived.sorted()).collect();
        for name in envelopes {
            self.envelope(name.parse().map_err(|_| damaged("an envelope"))?).await?;
        }
        for name in names.payouts.sorted() {
            self.payout(name.parse().map_err(|_| damaged("a payout"))?).await?;
        }
        for name in names.merchants.sorted() {
            let id = UserId::new(name).map_err(|_| damaged("a merchant"))?;
            if let Some(merchant) = self.core.merchant(&id).await? {
                self.thing(Timestamp::default(), Event::MerchantPut(Box::new(merchant)))?;
                self.seller(&id).await?;
            }
        }
        let mut units = HashMap::new();
        for name in names.items.sorted() {
            self.item(bucket, name.parse().map_err(|_| damaged("an item"))?, &mut units).await?;
        }
        self.holds(bucket, &units).await?;
        self.gifts(bucket, &units).await?;
        for name in names.keys.sorted() {
            self.memo(bucket, name).await?;
        }
        if bucket == Layout::COMMON {
            for key in self.core.every_api_key().await? {
                self.thing(key.deleted_at.unwrap_or(key.created_at), Event::ApiKeyPut(Box::new(key)))?;
            }
        }
        Ok(())
    }

    pub(super) fn thing(&mut self, at: Timestamp, event: Event) -> Result<()> {
        self.things += 1;
        self.copied.event(at, event);
        self.commit_if_many()
    }

    pub(super) fn commit_if_many(&mut self) -> Result<()> {
        if self.copied.len() >= COMMIT_ROWS {
            self.commit()?;
        }
        if self.rows_max.is_some_and(|most| self.rows + self.copied.len() as u64 > most) {
            self.commit()?;
            return Err(CopyError::Stopped);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.rows += self.copied.len() as u64;
        Ok(self.store.take_in(std::mem::replace(&mut self.copied, Copied::new()))?)
    }

    async fn wallet(&mut self, bucket: Bucket, user: &UserId) -> Result<()> {
        let key = self.core.layout.wallet(user);
        let head = self.core.fields(bucket, key, &words(["rows", "available"])).await?;
        let (rows, available) = (head.number(0)?, head.amount(1)?);
        self.things += 1;
        self.copied.wallet(user, available);
        let mut first = 1;
        while first <= rows {
            let last = rows.min(first + PAGE - 1);
            let page = self.core.movements(user, first..=last).await?;
            for (row, number) in page.into_iter().zip(first..=last) {
                let number = u32::try_from(number).map_err(|_| damaged("a wallet"))?;
                self.things += 1;
                self.copied.entry(user, number, &entry(&row.ok_or_else(|| damaged("a wallet"))?)?);
            }
            self.commit_if_many()?;
            first = last + 1;
        }
        Ok(())
    }

    async fn envelope(&mut self, id: EnvelopeId) -> Result<()> {
        if id.is_mass() {
            return self.envelope_in_pools(id).await;
        }
        let whole = self.core.whole_envelope(id).await?.ok_or_else(|| damaged("an envelope"))?;
        let created = whole.created.clone();
        let mut latest = created.created_at;
        self.created(created)?;
        let mut shares = 0;
        loop {
            let page = self.core.winners(&whole, shares).await?;
            if page.is_empty() {
                break;
            }
            for win in page {
                shares += 1;
                latest = latest.max(self.win(id, win)?);
            }
        }
        self.end(&whole.created, &whole.figures, latest).await
    }

    /// An envelope as it was made.
    pub(super) fn created(&mut self, created: EnvelopeCreated) -> Result<()> {
        let (at, outside) = (created.created_at, EnvelopeOutside::of(&created));
        if let Some(outside) = outside {
            self.copied.event(at, Event::EnvelopeOutside(Box::new(outside)));
        }
        if let Some(redaction) = created.redacted {
            let redacted = EnvelopeRedacted { created: created.clone(), redaction };
            self.copied.event(redaction.at, Event::EnvelopeRedacted(Box::new(redacted)));
        }
        self.thing(at, Event::EnvelopeCreated(Box::new(created)))
    }

    async fn payout(&mut self, id: PayoutId) -> Result<()> {
        let payout = self.core.payout_row(id).await?.ok_or_else(|| damaged("a payout"))?;
        let Payout { kind, envelope, amount, created_at, .. } = payout;
        let made = PayoutMade { payout: id, kind, envelope, amount, user: payout.user.clone() };
        self.copied.event(created_at, Event::PayoutMade(made));
        let was = PayoutState::Due;
        self.thing(payout.changed_at, Event::PayoutChanged(Box::new(PayoutChanged { was, payout })))
    }

    /// One who has a share, and when that was last changed.
    pub(super) fn win(&mut self, envelope: EnvelopeId, win: Win) -> Result<Timestamp> {
        let Win { user, share, amount, grabbed_at, claimed_at } = win;
        let grabbed = Grabbed { envelope, share, amount, user: user.clone(), is_last: false };
        self.thing(grabbed_at, Event::Grabbed(grabbed))?;
        if let Some(at) = claimed_at {
            self.copied.event(at, Event::Claimed(Claimed { envelope, share, amount, user, grabbed_at }));
        }
        Ok(claimed_at.unwrap_or(grabbed_at))
    }

    /// How an envelope ended, each step at its time.
    pub(super) async fn end(
        &mut self,
        created: &EnvelopeCreated,
        figures: &Figures,
        mut latest: Timestamp,
    ) -> Result<()> {
        let (id, sender) = (created.id, &created.terms.sender);
        let is_funded = created.terms.outside.funding.is_some();
        let unsold = match figures.ended {
            Some(EndedAs::Expired | EndedAs::Cancelled) => created.terms.total - figures.taken_amount,
            None | Some(EndedAs::SoldOut) => Amount::ZERO,
        };
        if let Some(how @ (EndedAs::Expired | EndedAs::Cancelled)) = figures.ended {
            let back = self.core.arrived(sender, &[b"r", &id.bytes()[..]].concat(), id.bytes(), is_funded).await?;
            let at = back.at.ok_or_else(|| CopyError::Form(format!("{id}: what was unsold did not go back")))?;
            latest = latest.max(at);
            self.copied.event(at, Event::EnvelopeEnded(EnvelopeEnded { envelope: id, how, refund: unsold }));
        }
        let lapsed = figures.refunded - unsold;
        if !lapsed.is_zero() {
            let back = self.core.arrived(sender, &[b"l", &id.bytes()[..]].concat(), id.bytes(), is_funded).await?;
            let at = back.at.ok_or_else(|| CopyError::Form(format!("{id}: what was unclaimed did not go back")))?;
            latest = latest.max(at);
            self.copied.event(at, Event::EnvelopeLapsed { envelope: id, amount: lapsed });
        }
        if let (true, Some(how)) = (figures.settled, figures.ended) {
            let (taken, claimed, refunded) = (figures.taken, figures.claimed, figures.refunded);
            let settled = EnvelopeSettled { envelope: id, how, taken, claimed, refunded };
            self.copied.event(latest, Event::EnvelopeSettled(settled));
        }
        Ok(())
    }

    async fn item(&mut self, bucket: Bucket, id: ItemId, all: &mut HashMap<(ItemId, UserId), Units>) -> Result<()> {
        let view = self.core.item(id).await?.ok_or_else(|| damaged("an item"))?;
        let (created_at, stock_total) = (view.created_at, view.stock.total);
        self.thing(created_at, Event::ItemPut(Box::new(ItemPut { id, created_at, terms: view.terms, stock_total })))?;
        let mut pages = Pages::of(self.core, bucket, self.core.layout.units(id));
        while let Some(page) = pages.next().await? {
            for (name, packed) in page {
                let (held, sold, _) = units_of(&packed)?;
                let user = Answer::split(name, 1).user(0)?;
                self.things += 1;
                all.insert((id, user), Units { held, sold });
            }
        }
        self.codes(bucket, id, created_at).await
    }

    async fn holds(&mut self, bucket: Bucket, units: &HashMap<(ItemId, UserId), Units>) -> Result<()> {
        let core = Arc::clone(self.core);
        let mut orders = HashMap::<OrderId, OrderRow>::new();
        let mut pages = Pages::of(&core, bucket, core.layout.orders(bucket));
        while let Some(page) = pages.next().await? {
            for (id, packed) in page {
                let order = OrderRow::read(&id, &packed)?;
                orders.insert(order.id, order);
            }
        }
        let mut seen = std::collections::HashSet::<HoldId>::new();
        let mut pages = Pages::of(&core, bucket, core.layout.holds(bucket));
        while let Some(page) = pages.next().await? {
            for (id, packed) in page {
                let HoldRow { view: hold, paying, .. } = HoldRow::read(&id, &packed)?;
                if paying {
                    return Err(CopyError::Form(format!("{}: it is being paid; run `hongbao reconcile`", hold.id)));
                }
                if !seen.insert(hold.id) {
                    continue;
                }
                let units_after = units.get(&(hold.item, hold.user.clone())).copied().unwrap_or_default();
                let ended = |merchant| HoldEnded { hold: hold.clone(), units_after, merchant };
                match hold.state {
                    HoldState::Held => {
                        let (quantity, amount, expires_at) = (hold.quantity, hold.amount, hold.expires_at);
                        let (item, user) = (hold.item, hold.user.clone());
                        let held = Held { hold: hold.id, item, user, quantity, amount, expires_at, units_after };
                        self.thing(hold.created_at, Event::Held(held))?;
                    }
                    HoldState::Claimed(id) => {
                        let order = orders.remove(&id).ok_or_else(|| damaged("an order"))?;
                        let owed = core.merchant_balance(&order.merchant).await?.total();
                        // The order, beside its hold.
                        self.things += 1;
                        let event = Event::HoldEnded(Box::new(ended(Some((order.merchant.clone(), owed)))));
                        self.thing(order.at, event)?;
                        let codes_from = order.codes_from;
                        let order = order.view(hold);
                        if let Some(first) = codes_from {
                            let (item, count, to) = (order.item, order.quantity, HandedTo::Order(order.id));
                            self.thing(order.created_at, Event::CodesHanded(CodesHanded { item, first, count, to }))?;
                        } else if order.progress != OrderProgress::default() {
                            self.order_led_on(order)?;
                        }
                    }
                    HoldState::Released | HoldState::Expired => {
                        self.thing(hold.expires_at, Event::HoldEnded(Box::new(ended(None))))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What has become of an order, beside it.
    fn order_led_on(&mut self, mut order: OrderView) -> Result<()> {
        let (at, progress) = (order.created_at, std::mem::take(&mut order.progress));
        let changed = OrderChanged { was: OrderState::Paid, order, progress, units_after: None };
        self.thing(at, Event::OrderChanged(Box::new(changed)))
    }

    /// An answer that still counts. A record without one stands for nothing that was done.
    async fn memo(&mut self, bucket: Bucket, name: &str) -> Result<()> {
        let key = once_key(name).ok_or_else(|| damaged("a key's record"))?;
        let args = words(["answer"]);
        let row = Answer::read(self.core.inspect(bucket, &[self.core.layout.memo(key)], &args).await?)?;
        if row.maybe(1).is_none() {
            return Ok(());
        }
        let at_home = Bucket::new(u16::try_from(row.number(2)?).map_err(|_| damaged("a key's record"))?);
        let operation = self.core.layout.operation(at_home, &row.id(1)?);
        let kept = parts(self.core.inspect(at_home, &[operation], &words(["kept"])).await?)?;
        let mut kept = kept.into_iter();
        let (Some(at), Some(answer)) = (kept.next(), kept.next()) else { return Ok(()) };
        let at = Answer::read(redis::Value::Array(vec![at]))?.at(0)?;
        let answer = self.core.outcome_kept(at, &Answer::read(answer)?).await?;
        let is_for_ever = row.signed(4)? < 0;
        let until = row.at_if_any(3)?.unwrap_or_else(|| at.plus_s(REMEMBER_S));
        let expires_at = (!is_for_ever).then_some(until);
        if expires_at.is_some_and(|until| until <= self.core.clock.now()) {
            return Ok(());
        }
        let fingerprint = row.id(0)?;
        self.thing(at, Event::Remembered(Box::new(Remembered { key, fingerprint, answer, expires_at })))
    }
}

fn once_key(hex: &str) -> Option<OnceKey> {
    let mut bytes = [0; 16];
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(OnceKey::from_bytes(bytes))
}
