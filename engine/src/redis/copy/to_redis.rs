//! From a directory into Redis: everything that the store holds, thing by
//! thing, as the rows that scripts would have written.
//!
//! **Invariant:** what is written into one bucket is written in order.

use super::answers::{answered_at, verification_words, words_of};
use super::pools::{Pools, end_of};
use super::{COPIED, CopyError, CopyOptions, CopyReport, MARK, NO_ADDRESSES, Result};
use crate::audit::{bring_up, open};
use crate::backend::{Audit, Entry, EntryKind};
use crate::command::{HoldState, MerchantStatus};
use crate::event::EnvelopeCreated;
use crate::memory::{OpenError, Settings, lock};
use crate::payout::{Payout, PayoutState};
use crate::redis::api_keys::api_key_row;
use crate::redis::attach::found;
use crate::redis::audit::{Money, OnProgress, Progress, mark_of};
use crate::redis::backend::{Core, RedisBackend, RedisBackendOptions, Settled, layout_of, named};
use crate::redis::bucket::Bucket;
use crate::redis::commands::item_fields;
use crate::redis::error::RedisOpenError;
use crate::redis::layout::{FORMAT, Key, Layout, MONEY};
use crate::redis::nodes::Nodes;
use crate::redis::orders::order_row;
use crate::redis::payouts;
use crate::redis::reply::Answer;
use crate::redis::rows::{packed, packed_win, small_fields, width};
use crate::redis::sales::Owed;
use crate::redis::scripts::{COPY, SETTINGS};
use crate::store::copy::{Taken, Thing};
use crate::store::{EnvelopeRow, FjallOptions, Position, Store, StoreError, WinRow};
use crate::types::{Timestamp, UserId, hex};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Bytes collected for one bucket before they are sent.
const SENT_BYTES: usize = 32 << 10;
/// Bytes of shares in one write.
pub(super) const FILL_BYTES: usize = 128 << 10;
/// Things after which it is written how far the copy is.
const MARKED_EVERY: u64 = 20_000;
const DAY_MS: u64 = 86_400_000;

/// Copies the engine's `directory` into an empty deployment, or goes on with
/// a copy of it that was interrupted, and audits the deployment.
///
/// # Errors
/// [`CopyError`] says what is wrong and what to do.
pub async fn copy_to_redis(directory: &Path, options: CopyOptions, progress: OnProgress<'_>) -> Result<CopyReport> {
    let _lock = lock(directory)?;
    let settings = Settings::read(directory)?;
    let path = directory.join("store");
    if !path.is_dir() {
        let unopened = StoreError::Unopened { directory: path, why: "it is not there".to_owned() };
        return Err(OpenError::from(unopened).into());
    }
    let store = Arc::new(Store::open(&path, FjallOptions::default())?);
    bring_up(&store, &path, &open(&directory.join("journal"))?, &mut |_| ())?;
    let position = store.position();
    let marks = store.addresses()?;
    if marks.iter().any(|(_, mark)| mark.slot.is_some()) {
        return Err(CopyError::Form(format!("gifts in the directory {NO_ADDRESSES}")));
    }
    if store.has_relations()? {
        return Err(CopyError::Form(NO_RELATIONS.to_owned()));
    }
    if store.has_gift_envelopes()? {
        return Err(CopyError::Form(NO_GIFT_ENVELOPES.to_owned()));
    }
    if store.has_payments()? {
        return Err(CopyError::Form(NO_PAYMENTS.to_owned()));
    }
    if store.has_groups()? {
        return Err(CopyError::Form(NO_GROUPS.to_owned()));
    }
    let mut told = Progress { done: 0, all: 0 };
    store.things(|_| {
        told.all += 1;
        true
    })?;
    let mut source = Sha256::new();
    source.update(settings.secret());
    source.update(position.applied.0.to_le_bytes());
    // Keys whose time is over go without a record, and what stands behind them moves up.
    source.update(told.all.to_le_bytes());
    let source: String = hex(&source.finalize()[..16]);
    let (backend, done) = target(&options.backend, &settings, &position, &format!("in:{source}")).await?;

    let marked_every = options.rows_max.map_or(MARKED_EVERY, |most| most / 3 + 1);
    let mut writing = Writing::new(Arc::clone(&backend.core), done, position, marked_every);
    let (sender, mut things) = tokio::sync::mpsc::channel(1024);
    let reading = tokio::task::spawn_blocking(move || store.things(|thing| sender.blocking_send(thing).is_ok()));
    while let Some(thing) = things.recv().await {
        if options.rows_max.is_some_and(|most| told.done >= done + most) {
            // Written and not marked as written, as a kill would leave it.
            writing.send_all().await?;
            return Err(CopyError::Stopped);
        }
        writing.take(thing).await?;
        told.done += 1;
        progress(told);
    }
    reading.await.expect("reading does not panic")?;
    writing.erased_addresses(&marks).await?;
    writing.finish().await?;
    let audit = backend.audit_rows(&mut |_| ()).await?;
    let mut differences: Vec<String> = audit.findings.into_iter().map(|finding| finding.what).collect();
    let totals = Audit { in_flight: 0, ..audit.totals };
    if totals != position.totals {
        differences.insert(0, format!("the source has {:?}, the target {totals:?}", position.totals));
    }
    if differences.is_empty() {
        backend.core.change_deployment("HDEL", &[MARK, COPIED]).await?;
    }
    Ok(CopyReport { things: told.done, totals, differences })
}

/// Why a directory is not copied in which gifts are for whoever comes first.
pub(super) const NO_GIFT_ENVELOPES: &str = "the directory has gift envelopes, and deployments in Redis cannot hold any yet; serve it \
    where it is";

/// Why a directory is not copied that knows who has blocked whom.
pub(super) const NO_RELATIONS: &str = "the directory has relations between users, and deployments in Redis cannot hold any yet: people \
    who were blocked could give again; serve it where it is, or take them back with DELETE /v1/users/{user}/relations";
/// Why a directory is not copied in which something was to be paid outside.
pub(super) const NO_PAYMENTS: &str =
    "the directory has payments outside, and deployments in Redis cannot hold any yet; serve it where it is";
/// Why a directory is not copied in which something is bought together.
pub(super) const NO_GROUPS: &str = "the directory has items that are or were sold to groups, and deployments in Redis cannot \
     hold any yet; serve it where it is";

/// An engine in front of the deployment to copy into, and how much is there already.
async fn target(
    options: &RedisBackendOptions,
    settings: &Settings,
    position: &Position,
    mark: &str,
) -> Result<(RedisBackend, u64)> {
    if let Some(settled) = found(&options.redis).await? {
        if settled.get(MARK).map(Vec::as_slice) != Some(mark.as_bytes()) {
            let prefix = &options.redis.key_prefix;
            return Err(CopyError::Occupied(format!(
                "there is a deployment under the key prefix {prefix:?}, and it is not what an interrupted copy of this \
                 directory as it is now has left; copy under another prefix (--redis-prefix)"
            )));
        }
        let text = settled.get(COPIED).and_then(|text| std::str::from_utf8(text).ok());
        let done = text.and_then(|text| text.parse().ok()).unwrap_or(0);
        return Ok((RedisBackend::attach(options.clone()).await?, done));
    }
    let nodes = Nodes::connect(&options.redis).await?;
    let layout = layout_of(&options.redis);
    let buckets = layout.buckets;
    let mode = settings.value("mode").to_owned();
    let fields = [
        (MARK, mark.as_bytes().to_vec()),
        (COPIED, b"0".to_vec()),
        ("format", FORMAT.as_bytes().to_vec()),
        ("buckets", buckets.to_string().into_bytes()),
        ("currency", settings.value("currency").as_bytes().to_vec()),
        ("mode", mode.as_bytes().to_vec()),
        ("secret", settings.secret().to_vec()),
        ("advanced", position.advanced_ms.to_string().into_bytes()),
    ];
    let words: Vec<Vec<u8>> = fields.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value]).collect();
    let made = nodes.call(Layout::COMMON, &SETTINGS, &[layout.deployment()], &words, true).await?;
    let settled: Settled = named(&Answer::read(made)?)?;
    if settled.get(MARK).map(Vec::as_slice) != Some(mark.as_bytes()) {
        return Err(RedisOpenError::Deployment { why: "another deployment was made there just now".to_owned() }.into());
    }
    let options = RedisBackendOptions { test_mode: mode == "test", sweep_every: None, ..options.clone() };
    Ok((RedisBackend::over(nodes, layout, options, &settled)?, 0))
}

/// One write of `copy.lua`.
struct Write {
    verb: &'static str,
    key: Key,
    args: Vec<Vec<u8>>,
}

/// The envelope whose winners come.
struct Current {
    row: Box<EnvelopeRow>,
    bucket: Bucket,
    /// If it is a mass envelope.
    pools: Option<Pools>,
}

pub(super) struct Writing {
    pub(super) core: Arc<Core>,
    /// By bucket: what is to be written next, and what is under way.
    waiting: Vec<Vec<Write>>,
    bytes: Vec<usize>,
    sent: Vec<Option<JoinHandle<std::result::Result<(), crate::EngineError>>>>,
    money: Vec<Money>,
    position: Position,
    pub(super) thing: u64,
    /// Things that an earlier attempt has written.
    done: u64,
    marked_every: u64,
    current: Option<Current>,
}

impl Writing {
    fn new(core: Arc<Core>, done: u64, position: Position, marked_every: u64) -> Writing {
        let count = usize::from(core.layout.buckets);
        let (mut waiting, mut sent) = (Vec::new(), Vec::new());
        waiting.resize_with(count, Vec::new);
        sent.resize_with(count, || None);
        let (bytes, money) = (vec![0; count], vec![Money::default(); count]);
        Writing { core, waiting, bytes, sent, money, position, thing: 0, done, marked_every, current: None }
    }

    async fn take(&mut self, thing: Thing) -> Result<()> {
        self.thing += 1;
        if !matches!(thing, Thing::Win(_)) {
            self.end_of_winners().await?;
        }
        match thing {
            Thing::Wallet(user, wallet, rows) => {
                let (bucket, key) = (self.core.layout.of_user(&user), self.core.layout.wallet(&user));
                if !wallet.held.is_zero() {
                    return Err(CopyError::Form(format!("{user} has money held, which Redis has no place for")));
                }
                self.money(bucket).wallets += wallet.available.minor();
                let fields = [text("rows"), number(rows.into()), text("available"), number(wallet.available.minor())];
                self.write(bucket, "HSET", key, fields).await?;
            }
            Thing::Entry(user, nth, entry) => self.entry(&user, nth, &entry).await?,
            Thing::Envelope(row, taken) => self.envelope(row, taken).await?,
            Thing::Win(win) => self.win(&win).await?,
            Thing::Merchant(merchant, balance, slots, entries) => {
                let bucket = self.core.layout.of_user(&merchant.id);
                let status = merchant.status.name();
                let [by, reference, checked] = verification_words(&merchant);
                let mut fields = vec![text("name"), text(&merchant.name), text("status"), text(status)];
                fields.extend([text("by"), by, text("reference"), reference, text("checked"), checked]);
                if merchant.status != MerchantStatus::Verified {
                    fields.extend([text("turn"), number(1)]);
                    for bucket in self.core.layout.all() {
                        let standing = [text(merchant.id.as_str()), text(&format!("1 {status}"))];
                        self.write(bucket, "HSET", self.core.layout.not_selling(bucket), standing).await?;
                    }
                }
                let listed = [number(0), text(merchant.id.as_str())];
                self.write(bucket, "ZADD", self.core.layout.merchants(bucket), listed).await?;
                fields.extend(self.sales(&merchant, balance, slots, entries).await?);
                self.write(bucket, "HSET", self.core.layout.merchant(&merchant.id), fields).await?;
            }
            Thing::Sale(merchant, nth, entry) => self.sale(&merchant, nth, &entry).await?,
            Thing::Item(item, units, holds) => {
                let (id, bucket) = (item.id, self.core.layout.of_id(item.id.bytes()));
                let stock = [("total", item.stock_total), ("held", units.held), ("sold", units.sold), ("version", 1)];
                let stock = stock.into_iter().flat_map(|(name, units)| [text(name), number(units.into())]);
                let made = [text("created"), number(item.created_at.ms())];
                let merchant = [text("merchant"), text(item.terms.merchant.as_str())];
                let fields = made.into_iter().chain(merchant).chain(stock).chain(item_fields(&item.terms));
                self.write(bucket, "HSET", self.core.layout.item(id), fields).await?;
                let listed = [before(item.created_at), id.bytes().to_vec()];
                self.write(bucket, "ZADD", self.core.layout.items_by_time(bucket), listed).await?;
                if let Some(first) = holds.iter().map(|(_, expires_at)| *expires_at).min() {
                    let due = [number(first.ms()), [b"i", &id.bytes()[..]].concat()];
                    self.write(bucket, "ZADD", self.core.layout.due(bucket), due).await?;
                }
                for (hold, expires_at) in holds {
                    let live = [number(expires_at.ms()), hold.bytes().to_vec()];
                    self.write(bucket, "ZADD", self.core.layout.live_holds(id), live).await?;
                }
            }
            Thing::Units(item, user, units, holds) => {
                let numbers = [units.held.to_le_bytes(), units.sold.to_le_bytes()].concat();
                let packed = holds.iter().fold(numbers, |packed, hold| [&packed[..], hold.bytes()].concat());
                let bucket = self.core.layout.of_id(item.bytes());
                self.write(bucket, "HSET", self.core.layout.units(item), [text(user.as_str()), packed]).await?;
            }
            Thing::Hold(hold) => {
                let (bucket, item) = (self.core.layout.of_id(hold.id.bytes()), hold.item);
                if bucket != self.core.layout.of_id(item.bytes()) {
                    return Err(CopyError::Form(format!("{} does not begin like {item}", hold.id)));
                }
                let (state, order) = match hold.state {
                    HoldState::Held => ('h', [0; 16]),
                    HoldState::Claimed(order) => ('c', *order.bytes()),
                    HoldState::Released => ('r', [0; 16]),
                    HoldState::Expired => ('e', [0; 16]),
                };
                let (created, expires) = (hold.created_at.ms(), hold.expires_at.ms());
                let words = format!("{state} {} {} {created} {expires} {}", hold.quantity, hold.amount, hold.user);
                let packed = [item.bytes(), &order[..], words.as_bytes()].concat();
                self.write(bucket, "HSET", self.core.layout.holds(bucket), [hold.id.bytes().to_vec(), packed]).await?;
            }
            Thing::Codes(item, first, codes) => self.codes(item, first, &codes).await?,
            Thing::Order(order, codes_from) => {
                let bucket = self.core.layout.of_id(order.id.bytes());
                let id = order.id.bytes().to_vec();
                self.write(
                    bucket,
                    "HSET",
                    self.core.layout.orders(bucket),
                    [id.clone(), order_row(&order, codes_from)],
                )
                .await?;
                let owed = self.core.layout.owed(&order.merchant);
                let bucket = self.core.layout.of_user(&order.merchant);
                // Unless an entry of its merchant has said more.
                self.write(bucket, "HSETNX", owed, [id, Owed::at_once(order.amount).packed()]).await?;
            }
            Thing::Payout(payout) => self.payout(&payout).await?,
            Thing::Gift(gift, code) => self.gift(&gift, code).await?,
            Thing::Memo(memo) => self.memo(&memo).await?,
            Thing::ApiKey(key) => {
                let layout = &self.core.layout;
                let place = if key.deleted_at.is_some() { layout.deleted_api_keys() } else { layout.api_keys() };
                let fields = [key.id.bytes().to_vec(), api_key_row(&key)];
                self.write(Layout::COMMON, "HSET", place, fields).await?;
            }
        }
        if self.thing.is_multiple_of(self.marked_every) && self.thing > self.done {
            self.send_all().await?;
            self.core.change_deployment("HSET", &[COPIED, &self.thing.to_string()]).await?;
        }
        Ok(())
    }

    async fn payout(&mut self, payout: &Payout) -> Result<()> {
        let (id, state) = (payout.id, payout.state);
        let bucket = self.core.layout.of_id(id.bytes());
        let money = self.money(bucket);
        let sum = if state == PayoutState::Paid { &mut money.paid_out } else { &mut money.payable };
        *sum += payout.amount.minor();
        let fields = payouts::FIELDS.into_iter().zip(payouts::payout_row(payout));
        let fields: Vec<Vec<u8>> = fields.flat_map(|(name, value)| [text(name), value]).collect();
        self.write(bucket, "HSET", self.core.layout.payout(id), fields).await?;
        let place = [payouts::score(payout.created_at).to_string().into_bytes(), id.bytes().to_vec()];
        self.write(bucket, "ZADD", self.core.layout.payouts(bucket), place.clone()).await?;
        if state != PayoutState::Paid {
            self.write(bucket, "ZADD", self.core.layout.payouts_in(bucket, state), place).await?;
        }
        Ok(())
    }

    /// What an envelope was funded with from outside stands with its sender.
    async fn funded(&mut self, created: &EnvelopeCreated) -> Result<()> {
        let terms = &created.terms;
        if terms.outside.funding.is_some() {
            let bucket = self.core.layout.of_user(&terms.sender);
            let total = terms.total.minor();
            self.money(bucket).deposited += total;
            let fields = [created.id.bytes().to_vec(), number(total)];
            self.write(bucket, "HSET", self.core.layout.funded(bucket), fields).await?;
        }
        Ok(())
    }

    async fn entry(&mut self, user: &UserId, nth: u32, entry: &Entry) -> Result<()> {
        let bucket = self.core.layout.of_user(user);
        let amount = entry.amount.minor();
        match entry.kind {
            EntryKind::Deposit(_) => self.money(bucket).deposited += amount,
            EntryKind::Withdrawal(_) => self.money(bucket).withdrawn += amount,
            _ => {}
        }
        let (kind, about) = match &entry.kind {
            EntryKind::Deposit(reference) => ("d", said(reference.as_deref())),
            EntryKind::Withdrawal(reference) => ("w", said(reference.as_deref())),
            EntryKind::EnvelopeCreated(id) => ("f", id.bytes().to_vec()),
            EntryKind::Claim(id) => ("c", id.bytes().to_vec()),
            EntryKind::Refund(id) => ("r", id.bytes().to_vec()),
            EntryKind::Lapse(id) => ("l", id.bytes().to_vec()),
            EntryKind::Order(id) => ("o", id.bytes().to_vec()),
            EntryKind::GiftPaid(id) => ("g", id.bytes().to_vec()),
            EntryKind::OrderRefund(id) => ("u", id.bytes().to_vec()),
            EntryKind::GroupPaid(_) | EntryKind::GroupRefund(_) => {
                return Err(CopyError::Form(NO_GROUPS.to_owned()));
            }
            EntryKind::GiftRefund(id) => ("b", id.bytes().to_vec()),
        };
        let words = format!("{} {kind} {amount} {} ", entry.at.ms(), entry.balance_after);
        let mut fields = vec![number(nth.into()), [words.as_bytes(), &about].concat()];
        if let Some(mark) = mark_of(&entry.kind) {
            fields.extend([mark, number(nth.into())]);
        }
        self.write(bucket, "HSET", self.core.layout.wallet(user), fields).await
    }

    async fn envelope(&mut self, row: Box<EnvelopeRow>, taken: Taken) -> Result<()> {
        let created = &row.created;
        let (id, terms) = (created.id, &created.terms);
        let (ended, refunded) = end_of(&row, taken.shares == terms.shares);
        let left = terms.total.minor().checked_sub(taken.claimed_amount.minor() + refunded);
        let Some(left) = left else {
            return Err(CopyError::Form(format!("{id}: more left it than was put in; run `hongbao audit`")));
        };
        self.funded(&row.created).await?;
        let layout = &self.core.layout;
        let bucket = layout.of_id(id.bytes());
        if id.is_mass() {
            let pools = Pools::new(&row, layout.buckets);
            self.current = Some(Current { row, bucket, pools: Some(pools) });
            return Ok(());
        }
        let (key, shares) = (layout.envelope(id), layout.shares(id));
        self.money(bucket).escrowed += left;
        let split = created.split();
        let mut fields = small_fields(created, width(&split));
        for (name, value) in [
            ("taken", taken.shares.into()),
            ("taken_amount", taken.amount.minor()),
            ("claimed", taken.claimed.into()),
            ("claimed_amount", taken.claimed_amount.minor()),
            ("refunded", refunded),
        ] {
            fields.extend([text(name), number(value)]);
        }
        let settled = if row.settled.is_some() { "1" } else { "" };
        fields.extend([text("ended"), text(ended), text("settled"), text(settled)]);
        self.fill(bucket, &shares, &packed(&split)).await?;
        self.write(bucket, "HSET", key, fields).await?;
        self.ways_to(&row, ended).await?;
        self.current = Some(Current { row, bucket, pools: None });
        Ok(())
    }

    async fn win(&mut self, win: &WinRow) -> Result<()> {
        let Some(Current { row, bucket, pools }) = &mut self.current else {
            return Err(CopyError::Form("a share of no envelope; run `hongbao audit`".to_owned()));
        };
        let (id, bucket, user) = (row.created.id, *bucket, text(win.user.as_str()));
        let layout = &self.core.layout;
        let (own, received) = (layout.of_user(&win.user), layout.received(&win.user));
        if let Some(pools) = pools {
            let packed = pools.win(own, win)?;
            let winners = layout.pool_winners(own, id);
            self.write(own, "HSET", winners, [user, packed]).await?;
        } else {
            let (winners, order) = (layout.winners(id), layout.winners_in_order(id));
            let packed = packed_win(row.created.opens_at, win.share, win.grabbed_at, win.claimed_at);
            self.write(bucket, "HSET", winners, [user.clone(), packed]).await?;
            self.write(bucket, "LIST", order, [number(win.share.into()), user]).await?;
        }
        self.write(own, "ZADD", received, [before(win.grabbed_at), id.bytes().to_vec()]).await
    }

    /// What has to wait for all winners of an envelope.
    async fn end_of_winners(&mut self) -> Result<()> {
        match self.current.take() {
            Some(Current { row, pools: Some(pools), .. }) => self.pools(&row, pools).await,
            Some(_) | None => Ok(()),
        }
    }

    /// Under its key, an operation that was decided: beside it, as nobody will
    /// decide it again before its time is over.
    async fn memo(&mut self, memo: &crate::event::Remembered) -> Result<()> {
        let now = self.core.clock.now();
        let left = memo.expires_at.map(|until| until.ms().saturating_sub(now.ms()));
        if left == Some(0) {
            return Ok(());
        }
        let bucket = self.core.layout.of_id(memo.key.bytes());
        let (key, operation) = (self.core.layout.memo(memo.key), self.core.layout.operation(bucket, memo.key.bytes()));
        let kept_ms = left.map_or(0, |left| left + DAY_MS);
        let until = memo.expires_at.map(|until| number(until.ms())).unwrap_or_default();
        let fields = [
            (text("fingerprint"), memo.fingerprint.to_vec()),
            (text("operation"), memo.key.bytes().to_vec()),
            (text("bucket"), number(bucket.number().into())),
            (text("until"), until),
        ];
        let at = answered_at(memo, self.position.at);
        let kept = [number(at.ms()), number(kept_ms)].into_iter().chain(words_of(memo, at)?);
        self.write(bucket, "KEPT", operation, kept).await?;
        self.write(bucket, "HSET", key.clone(), fields.into_iter().flat_map(|(name, value)| [name, value])).await?;
        if left.is_some() {
            self.write(bucket, "PEXPIRE", key, [number(kept_ms)]).await?;
        }
        Ok(())
    }

    pub(super) fn money(&mut self, bucket: Bucket) -> &mut Money {
        &mut self.money[usize::from(bucket.number())]
    }

    pub(super) async fn write(
        &mut self,
        bucket: Bucket,
        verb: &'static str,
        key: Key,
        args: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<()> {
        if self.thing <= self.done {
            return Ok(());
        }
        let at = usize::from(bucket.number());
        let args: Vec<Vec<u8>> = args.into_iter().collect();
        self.bytes[at] += key.len() + args.iter().map(|arg| arg.len() + 16).sum::<usize>();
        self.waiting[at].push(Write { verb, key, args });
        if self.bytes[at] >= SENT_BYTES {
            self.send(bucket).await?;
        }
        Ok(())
    }

    async fn send(&mut self, bucket: Bucket) -> Result<()> {
        let at = usize::from(bucket.number());
        if let Some(before) = self.sent[at].take() {
            before.await.expect("writing does not panic")?;
        }
        let writes = std::mem::take(&mut self.waiting[at]);
        self.bytes[at] = 0;
        if writes.is_empty() {
            return Ok(());
        }
        let (mut keys, mut args) = (Vec::with_capacity(writes.len()), Vec::new());
        for write in writes {
            keys.push(write.key);
            args.extend([text(write.verb), number(keys.len() as u64), number(write.args.len() as u64)]);
            args.extend(write.args);
        }
        let core = Arc::clone(&self.core);
        self.sent[at] = Some(tokio::spawn(async move { core.call(bucket, &COPY, &keys, &args, true).await.map(drop) }));
        Ok(())
    }

    async fn send_all(&mut self) -> Result<()> {
        // What was sent is waited for in the second round.
        for _ in 0..2 {
            for bucket in self.core.layout.all() {
                self.send(bucket).await?;
            }
        }
        Ok(())
    }

    /// Sums, quotas and clocks, when everything else is there.
    async fn finish(&mut self) -> Result<()> {
        self.thing = self.thing.max(self.done) + 1;
        self.end_of_winners().await?;
        let mut all = 0;
        for bucket in self.core.layout.all() {
            let Money { deposited, withdrawn, paid_out, wallets, escrowed, payable, merchants, platform } =
                *self.money(bucket);
            let places = [deposited, withdrawn, paid_out, wallets, escrowed, payable, merchants, platform];
            let places = places.map(|place| place as i64);
            let transit = places[0] - places[1..].iter().sum::<i64>();
            let signed = |number: i64| number.to_string().into_bytes();
            let mut fields = vec![text("clock"), number(self.position.at.ms()), text("quota"), number(deposited)];
            for (name, sum) in MONEY.into_iter().zip(places.into_iter().chain([transit])) {
                fields.extend([text(name), signed(sum)]);
            }
            self.write(bucket, "HSET", self.core.layout.sums(bucket), fields).await?;
            if deposited > 0 {
                all += deposited;
                let granted = [number(bucket.number().into()), number(deposited)];
                self.write(Layout::COMMON, "HSET", self.core.layout.quotas(), granted).await?;
            }
        }
        self.write(Layout::COMMON, "HSET", self.core.layout.quotas(), [text("all"), number(all)]).await?;
        self.send_all().await
    }
}

pub(super) fn text(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

pub(super) fn number(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

/// A score by which the newest comes first.
pub(super) fn before(at: Timestamp) -> Vec<u8> {
    format!("-{}", at.ms()).into_bytes()
}

fn said(reference: Option<&str>) -> Vec<u8> {
    reference.map(|text| [b"r", text.as_bytes()].concat()).unwrap_or_default()
}
