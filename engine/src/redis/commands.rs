//! Commands: which script decides each, in which bucket, and what its answer means.
//!
//! **Invariant:** every command is decided by one run of one script; whatever
//! else it does is caused by that (see `effects`).

use super::api_keys::api_key;
use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::gifts::gift_of_bytes;
use super::layout::{Layout, flag, is_mass};
use super::memos::Verdict;
use super::orders;
use super::reply::{Answer, Decided, Effect, Told, damaged};
use super::sales;
use super::scripts::{DEPLOYMENT, ENVELOPE, FUND, HOLD, ITEM, MERCHANT, READ, WALLET};
use crate::backend::{Listing, OnceKey, Page, Reply};
use crate::command::{
    Command, HoldView, ItemKind, ItemView, Merchant, MerchantStatus, NewEnvelope, NewItem, NewMerchant, Outcome,
    Refusal, Stock, Transfer, Unclaimed, Verification, WalletView,
};
use crate::creates::Allowance;
use crate::error::EngineError;
use crate::event::EnvelopeCreated;
use crate::gift::GiftStep;
use crate::merchant;
use crate::order::OrderStep;
use crate::payout::{PayoutAnswer, secret_of};
use crate::state::envelope::{Figures, check_opening, share_status};
use crate::state::{decide, stock};
use crate::types::{Amount, EnvelopeId, HoldId, ItemId, OrderId, Timestamp, UserId};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;

/// How often a command about units is decided again, because others' payments
/// or the ends of many holds come first.
pub(super) const ATTEMPTS_MAX: usize = 1000;
/// Rows of one list read at once.
const LOOKED_AT_ONCE: usize = 64;
/// What a bucket gets beyond what it needs when it asks for more deposits.
const QUOTA_STEP: u64 = 1 << 33;

impl Core {
    pub(super) async fn execute(&self, command: &Command, once: Option<OnceKey>) -> Result<Reply> {
        if let Err(refusal) = decide::check(command) {
            return Ok(Reply { outcome: Outcome::Refused(refusal), replayed: false });
        }
        if matches!(command, Command::AdvanceClock { .. }) && !self.test_mode {
            return Err(EngineError::NotReady("the clock can be moved only in test mode".to_owned()));
        }
        let once = once.filter(|_| !is_kept_under_no_key(command));
        let references = decide::reference_keys(command);
        if once.into_iter().chain(references.into_iter().flatten()).next().is_some() {
            return self.run_keyed(command, once, references).await;
        }
        let operation = self.draw(command, keep_of(command));
        match self.decide(command, &operation).await? {
            Verdict::Answered { outcome, .. } => Ok(Reply { outcome, replayed: false }),
            Verdict::Void => Err(damaged("an operation")),
        }
    }

    /// In which bucket a command is decided. An item is made where the operation's id
    /// leads, and results of many payouts are answered there.
    pub(super) fn home(&self, command: &Command, id: &[u8; 16]) -> Bucket {
        let layout = &self.layout;
        match command {
            Command::Deposit(transfer) | Command::Withdraw(transfer) => layout.of_user(&transfer.user),
            Command::CreateEnvelope(terms) => layout.of_user(&terms.sender),
            Command::Grab { envelope, user } | Command::Claim { envelope, user } if is_mass(*envelope) => {
                layout.of_user(user)
            }
            Command::Grab { envelope, .. }
            | Command::Claim { envelope, .. }
            | Command::Cancel { envelope }
            | Command::Redact { envelope, .. } => layout.of_id(envelope.bytes()),
            Command::PutMerchant(merchant) => layout.of_user(&merchant.id),
            Command::CreateItem(_) | Command::PayoutResults(_) => layout.of_id(id),
            Command::CreateGift(terms) => layout.of_id(terms.item.bytes()),
            Command::CreateGiftEnvelope(terms) => layout.of_id(terms.item.bytes()),
            Command::GrabGift { envelope, .. } | Command::StepGiftEnvelope { envelope, .. } => {
                layout.of_id(envelope.bytes())
            }
            Command::StepGift { gift, .. } => layout.of_id(gift.bytes()),
            Command::WithdrawSales(transfer) => layout.of_user(&transfer.user),
            Command::RedactGift { gift, .. } => layout.of_id(gift.bytes()),
            Command::AddCodes { item, .. } => layout.of_id(item.bytes()),
            Command::StepOrder { order, .. } => layout.of_id(order.bytes()),
            Command::CreatePayment(terms) => layout.of_id(terms.purpose.bytes()),
            Command::TellPayment { payment, .. } => layout.of_id(payment.bytes()),
            Command::OpenGroup(terms) => layout.of_id(terms.item.bytes()),
            Command::JoinGroup { group, .. } | Command::LeaveGroup { group, .. } => layout.of_id(group.bytes()),
            Command::ChangeItem { item, .. } | Command::Restock { item, .. } | Command::GrabItem { item, .. } => {
                layout.of_id(item.bytes())
            }
            Command::ClaimHold { hold, .. } | Command::ReleaseHold { hold, .. } => layout.of_id(hold.bytes()),
            Command::AdvanceClock { .. }
            | Command::CreateApiKey(_)
            | Command::DeleteApiKey { .. }
            | Command::PutRelations(_) => Layout::COMMON,
        }
    }

    /// Decides a command under an operation.
    pub(super) async fn decide(&self, command: &Command, operation: &Operation) -> Result<Verdict> {
        let decided = match command {
            Command::Deposit(transfer) => self.deposit(transfer, operation).await?,
            Command::Withdraw(transfer) => self.wallet_script(b"withdraw", transfer, 0, operation).await?,
            Command::CreateEnvelope(terms) => match self.fund(terms, operation).await? {
                Ok(decided) => decided,
                Err(refusal) => return Ok(self.refuse(refusal)),
            },
            Command::Grab { envelope, user } if is_mass(*envelope) => {
                let decided = self.grab_from_pool(*envelope, user, operation).await?;
                self.or_archived(operation, decided, self.archived_grab(*envelope, user)).await?
            }
            Command::Grab { envelope, user } => return self.grab(command, *envelope, user, operation).await,
            Command::Claim { envelope, user } => {
                let decided = match is_mass(*envelope) {
                    true => self.claim_from_pool(*envelope, user, operation).await?,
                    false => self.envelope_script(b"claim", *envelope, Some(user), operation).await?,
                };
                self.or_archived(operation, decided, self.archived_claim(*envelope, user)).await?
            }
            Command::Cancel { envelope } if is_mass(*envelope) => self.cancel_mass(*envelope, operation).await?,
            Command::Cancel { envelope } => {
                let decided = self.envelope_script(b"cancel", *envelope, None, operation).await?;
                self.or_archived(operation, decided, self.archived_cancel(*envelope)).await?
            }
            Command::PutRelations(_) => return Ok(self.refuse(Refusal::no_relations())),
            Command::CreateGiftEnvelope(_) => return Ok(self.refuse(Refusal::no_gift_envelopes())),
            Command::GrabGift { .. } | Command::StepGiftEnvelope { .. } => {
                return Ok(self.refuse(Refusal::NotFound));
            }
            Command::CreateGift(terms) if terms.must_follow && terms.recipient.is_some() => {
                return Ok(self.refuse(Refusal::no_relations()));
            }
            Command::CreateGift(terms) => match self.create_gift(terms, operation).await? {
                Ok(decided) => decided,
                Err(outcome) => return Ok(self.answer(outcome)),
            },
            Command::StepGift { gift, step } => match self.step_gift(*gift, step, operation).await? {
                Ok(decided) => decided,
                Err(outcome) => return Ok(self.answer(outcome)),
            },
            Command::WithdrawSales(transfer) => self.withdraw_sales(transfer, operation).await?,
            Command::AddCodes { item, codes } => self.add_codes(*item, codes, operation).await?,
            Command::StepOrder { order, step } => match self.step_order(*order, step, operation).await? {
                Ok(decided) => decided,
                Err(outcome) => return Ok(self.answer(outcome)),
            },
            Command::CreatePayment(_) => return Ok(self.refuse(Refusal::no_payments())),
            Command::TellPayment { .. } => return Ok(self.refuse(Refusal::NotFound)),
            Command::OpenGroup(_) | Command::JoinGroup { .. } | Command::LeaveGroup { .. } => {
                return Ok(self.refuse(Refusal::no_groups()));
            }
            Command::CreateItem(terms) if terms.group_buy.is_some() => return Ok(self.refuse(Refusal::no_groups())),
            Command::ChangeItem { change, .. } if change.group_buy.flatten().is_some() => {
                return Ok(self.refuse(Refusal::no_groups()));
            }
            Command::PutMerchant(merchant) => self.put_merchant(merchant, operation).await?,
            Command::CreateItem(terms) => match self.create_item(terms, operation).await? {
                Ok(decided) => decided,
                Err(refusal) => return Ok(self.refuse(refusal)),
            },
            Command::ChangeItem { item, change } => loop {
                let Some((version, found)) = self.item_with_version(*item).await? else {
                    return Ok(self.refuse(Refusal::NotFound));
                };
                let terms = match stock::changed(&found.terms, change, self.clock.now()) {
                    Ok(terms) => terms,
                    Err(refusal) => return Ok(self.refuse(refusal)),
                };
                let args = [b"change".to_vec(), item.bytes().to_vec(), version].into_iter().chain(item_fields(&terms));
                let decided = self.ask(&ITEM, operation, self.item_keys(*item), args).await?;
                // Somebody else changed it in between.
                if !is_no(&decided, b"changed") {
                    break decided;
                }
            },
            Command::Restock { item, quantity } => {
                let args = [b"restock".to_vec(), item.bytes().to_vec(), quantity.to_string().into_bytes()];
                self.ask(&ITEM, operation, self.item_keys(*item), args).await?
            }
            Command::GrabItem { item, user, quantity } => self.grab_item(*item, user, *quantity, operation).await?,
            Command::ClaimHold { hold, user } => match self.claim_hold(*hold, user, operation).await? {
                Ok(decided) => decided,
                Err(outcome) => return Ok(self.answer(outcome)),
            },
            Command::ReleaseHold { hold, user } => match self.hold_script(b"release", *hold, user, operation).await? {
                Some(decided) => decided,
                None => return Ok(self.refuse(Refusal::NotFound)),
            },
            Command::AdvanceClock { by_s } => {
                let keys = [self.layout.deployment(), self.layout.quotas()];
                let args = [b"advance".to_vec(), by_s.saturating_mul(1000).to_string().into_bytes()];
                self.ask(&DEPLOYMENT, operation, keys, args).await?
            }
            Command::CreateApiKey(new) => self.create_api_key(new, operation).await?,
            Command::DeleteApiKey { key } => self.delete_api_key(*key, operation).await?,
            Command::PayoutResults(results) => self.tell_results(results, operation).await?,
            Command::Redact { envelope, metadata } => {
                return Ok(self.answer(self.redact(*envelope, *metadata, operation).await?));
            }
            Command::RedactGift { gift, metadata } => {
                return Ok(self.answer(self.redact_gift(*gift, *metadata, operation).await?));
            }
        };
        self.verdict(command, operation, decided).await
    }

    fn refuse(&self, refusal: Refusal) -> Verdict {
        self.answer(Outcome::Refused(refusal))
    }

    fn answer(&self, outcome: Outcome) -> Verdict {
        Verdict::Answered { outcome, at: self.clock.now(), kept: false }
    }

    /// Carries what was caused, and reads the answer.
    pub(super) async fn verdict(&self, command: &Command, operation: &Operation, decided: Decided) -> Result<Verdict> {
        let (told, kept) = match decided {
            Decided::New(told) => (told, false),
            Decided::Kept(told) => (told, true),
            Decided::Void => return Ok(Verdict::Void),
        };
        let Told { at, answer, effects } = told;
        if answer.tag() == b"paying" {
            return self.end_payment(command, operation, effects).await;
        }
        // It is decided. What is left others will do, but the answer has to wait for it.
        let carried = self.carry(operation.bucket, effects).await;
        carried.map_err(decided_all_the_same)?;
        let outcome = match answer.tag() {
            b"gift" if kept => self.kept_gift(answer.bytes(1)?).await?,
            _ => self.outcome(command, at, &answer).await?,
        };
        Ok(Verdict::Answered { outcome, at, kept })
    }

    async fn deposit(&self, transfer: &Transfer, operation: &Operation) -> Result<Decided> {
        let mut quota = 0;
        loop {
            let decided = self.wallet_script(b"deposit", transfer, quota, operation).await?;
            match self.more_quota(&decided, transfer.amount, operation.bucket).await? {
                Some(more) => quota = more,
                None => return Ok(decided),
            }
        }
    }

    /// All deposits together are bounded: each bucket has a part of what may come in.
    /// How much it is if it was not enough for this amount, and there is more.
    async fn more_quota(&self, decided: &Decided, amount: Amount, bucket: Bucket) -> Result<Option<u64>> {
        let Decided::New(Told { answer, .. }) = decided else { return Ok(None) };
        if answer.tag() != b"no" || answer.maybe(1) != Some(b"quota") {
            return Ok(None);
        }
        let needed = answer.number(2)? + amount.minor();
        if needed > Amount::MAX.minor() {
            return Ok(None);
        }
        let wanted = (needed + QUOTA_STEP).min(Amount::MAX.minor());
        let granted = self.grant(bucket, needed, wanted).await?;
        Ok((granted >= needed).then_some(granted))
    }

    async fn grant(&self, bucket: Bucket, needed: u64, wanted: u64) -> Result<u64> {
        let natural = Operation { id: [0; 16], keep: Keep::Natural, bucket: Layout::COMMON };
        let keys = [self.layout.deployment(), self.layout.quotas()];
        let numbers = [u64::from(bucket.number()), needed, wanted].map(|number| number.to_string().into_bytes());
        let args = [b"grant".to_vec()].into_iter().chain(numbers);
        match self.ask(&DEPLOYMENT, &natural, keys, args).await? {
            Decided::New(Told { answer, .. }) => answer.number(1),
            _ => Err(damaged("a grant")),
        }
    }

    async fn wallet_script(
        &self,
        verb: &[u8],
        transfer: &Transfer,
        quota: u64,
        operation: &Operation,
    ) -> Result<Decided> {
        let reference = transfer.reference.as_ref().map(|r| [b"r", r.text.as_bytes()].concat()).unwrap_or_default();
        let amount = transfer.amount.to_string().into_bytes();
        let args = [verb.to_vec(), amount, reference, quota.to_string().into_bytes()];
        self.ask(&WALLET, operation, [self.layout.wallet(&transfer.user)], args).await
    }

    async fn fund(&self, terms: &NewEnvelope, operation: &Operation) -> Result<std::result::Result<Decided, Refusal>> {
        let now = self.clock.now();
        if let Err(refusal) = check_opening(terms, now) {
            return Ok(Err(refusal));
        }
        let mut id = self.random::<16>();
        let is_mass = terms.shares >= self.layout.mass_shares_min;
        flag(&mut id, terms.auto_claim, is_mass, terms.outside.payout);
        let opens_at = terms.opens_at.unwrap_or(now);
        let expires_at = opens_at.plus_s(terms.expires_in_s);
        let mut created = EnvelopeCreated {
            id: EnvelopeId::from_bytes(id),
            terms: terms.clone(),
            created_at: now,
            opens_at,
            expires_at,
            claim_by: expires_at.plus_s(terms.claim_within_s),
            secret: self.random(),
            best_share: 0,
            payout_secret: secret_of(&self.fingerprint_secret, EnvelopeId::from_bytes(id)),
            redacted: None,
        };
        created.best_share = created.split().best();
        let bytes = created.to_bytes();
        let layout = &self.layout;
        let keys = [layout.wallet(&terms.sender), layout.sent(&terms.sender), layout.funded(operation.bucket)];
        let args = [id.to_vec(), terms.total.to_string().into_bytes(), now.ms().to_string().into_bytes(), bytes];
        let allowance = self.creates.as_ref().map(|cap| cap.at(now));
        let mut keys = keys.to_vec();
        let mut in_a_day = Vec::new();
        if let Some(Allowance { most, day }) = &allowance {
            keys.push(layout.made(&terms.sender, day.from));
            in_a_day =
                [(*most).into(), day.from.ms(), day.to.ms()].map(|number: u64| number.to_string().into_bytes()).into();
        }
        let from: &[u8] = if terms.outside.funding.is_some() { b"1" } else { b"" };
        let mut quota = 0u64;
        loop {
            let args = args.iter().cloned().chain([from.to_vec(), quota.to_string().into_bytes()]);
            let decided = self.ask(&FUND, operation, keys.iter().cloned(), args.chain(in_a_day.clone())).await?;
            if let Some(allowance) = allowance.as_ref().filter(|_| is_no(&decided, b"creates")) {
                return Ok(Err(allowance.refusal()));
            }
            match self.more_quota(&decided, terms.total, operation.bucket).await? {
                Some(more) => quota = more,
                None => return Ok(Ok(decided)),
            }
        }
    }

    async fn envelope_script(
        &self,
        verb: &[u8],
        id: EnvelopeId,
        user: Option<&UserId>,
        operation: &Operation,
    ) -> Result<Decided> {
        let user = user.map(|user| user.as_str().as_bytes().to_vec()).unwrap_or_default();
        self.ask(&ENVELOPE, operation, self.envelope_keys(id), [verb.to_vec(), id.bytes().to_vec(), user]).await
    }

    async fn put_merchant(&self, merchant: &NewMerchant, operation: &Operation) -> Result<Decided> {
        let status = merchant.status.map_or("", MerchantStatus::name);
        let (by, reference) = (merchant.checker(), merchant.checked_under().unwrap_or_default());
        let said = if merchant.verification.is_some() { "1" } else { "" };
        let after = merchant.settle_after_s.map_or_else(String::new, |seconds| seconds.to_string());
        let bps = merchant.commission_bps.map_or_else(String::new, |bps| bps.to_string());
        let args = ["put", &merchant.name, status, by, reference, said, &after, &bps];
        let args = args.map(|word| word.as_bytes().to_vec());
        self.ask(&MERCHANT, operation, self.merchant_keys(&merchant.id), args).await
    }

    async fn create_item(
        &self,
        terms: &NewItem,
        operation: &Operation,
    ) -> Result<std::result::Result<Decided, Refusal>> {
        if let Err(refusal) = stock::check_times(terms, None, self.clock.now()) {
            return Ok(Err(refusal));
        }
        match self.merchant(&terms.merchant).await? {
            None => return Ok(Err(Refusal::invalid("merchant", "is not registered; POST /v1/merchants first"))),
            Some(merchant) if merchant.status != MerchantStatus::Verified => {
                return Ok(Err(Refusal::merchant(merchant.status)));
            }
            Some(_) => {}
        }
        if let Some(of) = terms.origin.variant_of {
            // What is looked at of it never changes.
            let of = self.item(of).await?;
            if let Err(refusal) = terms.check_variant(of.as_ref().map(|view| &view.terms)) {
                return Ok(Err(refusal));
            }
        }
        let id = ItemId::from_bytes(operation.id);
        let args = [b"create".to_vec(), id.bytes().to_vec(), terms.stock.to_string().into_bytes()];
        let merchant = [b"merchant".to_vec(), terms.merchant.as_str().as_bytes().to_vec()];
        let args = args.into_iter().chain(merchant).chain(item_fields(terms));
        self.ask(&ITEM, operation, self.item_keys(id), args).await.map(Ok)
    }

    /// Ends the payment of another call that stands in the way.
    pub(super) async fn resolve(&self, decided: &mut Decided, bucket: Bucket) -> Result<()> {
        let Decided::New(Told { effects, .. }) = decided else { return Ok(()) };
        self.carry(bucket, std::mem::take(effects)).await
    }

    async fn hold_script(
        &self,
        verb: &[u8],
        hold: HoldId,
        user: &UserId,
        operation: &Operation,
    ) -> Result<Option<Decided>> {
        // The item of a hold never changes.
        let Some(found) = self.hold(hold).await? else { return Ok(None) };
        for _ in 0..ATTEMPTS_MAX {
            let order = self.random_beside(hold.bytes());
            let args = [
                verb.to_vec(),
                found.item.bytes().to_vec(),
                hold.bytes().to_vec(),
                user.as_str().as_bytes().to_vec(),
                order.to_vec(),
            ];
            let mut decided = self.ask(&HOLD, operation, self.hold_keys(found.item), args).await?;
            if !is_no(&decided, b"unresolved") {
                return Ok(Some(decided));
            }
            self.resolve(&mut decided, operation.bucket).await?;
        }
        Err(EngineError::Overloaded)
    }

    async fn claim_hold(
        &self,
        hold: HoldId,
        user: &UserId,
        operation: &Operation,
    ) -> Result<std::result::Result<Decided, Outcome>> {
        let not_found = Outcome::Refused(Refusal::NotFound);
        let Some(decided) = self.hold_script(b"pay", hold, user, operation).await? else { return Ok(Err(not_found)) };
        let payment = match &decided {
            Decided::New(Told { answer, effects, .. }) if answer.tag() == b"paying" => effects.first().cloned(),
            _ => return Ok(Ok(decided)),
        };
        let payment: Effect = payment.ok_or_else(|| damaged("a payment"))?;
        let paid = self.pay(&payment, operation).await;
        match paid.map_err(decided_all_the_same)? {
            Some(decided) => Ok(Ok(decided)),
            None => Ok(Err(Outcome::CannotPay)),
        }
    }

    /// What an answer means.
    pub(super) async fn outcome(&self, command: &Command, at: Timestamp, answer: &Answer) -> Result<Outcome> {
        Ok(match answer.tag() {
            b"no" if answer.maybe(1) == Some(b"quota") && matches!(command, Command::CreateEnvelope(_)) => {
                Outcome::Refused(Refusal::deposits_exceeded("total"))
            }
            b"no" => refusal_or_no(answer)?,
            b"wallet" => {
                let (Command::Deposit(transfer) | Command::Withdraw(transfer)) = command else {
                    return Err(damaged("an answer"));
                };
                let available = answer.amount(1)?;
                Outcome::Wallet(WalletView { user: transfer.user.clone(), available, held: Amount::ZERO })
            }
            b"created" => {
                let id = EnvelopeId::from_bytes(answer.id(1)?);
                let created = self.created(id).await?.ok_or_else(|| damaged("an envelope"))?;
                Outcome::Envelope(Box::new(Figures::FRESH.view(&created, answer.at(2)?)))
            }
            b"envelope" => {
                let Command::Cancel { envelope } = command else { return Err(damaged("an answer")) };
                let created = self.created(*envelope).await?.ok_or_else(|| damaged("an envelope"))?;
                Outcome::Envelope(Box::new(figures(answer, 1)?.view(&created, at)))
            }
            b"won" => won(at, answer)?,
            b"claimed" => {
                Outcome::Claimed { amount: answer.amount(1)?, claimed_at: answer.at(2)?, replayed: answer.flag(3) }
            }
            b"merchant" => Outcome::Merchant(Box::new(merchant_of_answer(answer)?)),
            b"sales" => Outcome::Sales { merchant: answer.user(3)?, balance: sales::balance(answer, 1)? },
            b"item" => Outcome::Item(Box::new(item_view(ItemId::from_bytes(answer.id(1)?), answer, 2)?)),
            b"held" => Outcome::Held {
                hold: HoldId::from_bytes(answer.id(1)?),
                quantity: answer.units(2)?,
                amount: answer.amount(3)?,
                expires_at: answer.at(4)?,
                replayed: answer.flag(5),
            },
            b"ordered" => Outcome::Ordered { order: OrderId::from_bytes(answer.id(1)?), replayed: answer.flag(2) },
            b"released" => Outcome::Released { replayed: answer.flag(1) },
            b"clock" => {
                self.catch_up(answer.number(2)?);
                Outcome::Clock(answer.at(1)?)
            }
            b"payouts" => {
                let answers = answer.bytes(1)?.iter().map(|&letter| PayoutAnswer::of_letter(letter));
                Outcome::Payouts(answers.collect::<Option<_>>().ok_or_else(|| damaged("an answer"))?)
            }
            b"api_key" => Outcome::ApiKey(Box::new(api_key(answer.bytes(1)?)?)),
            b"order" => orders::outcome_of(answer.bytes(1)?)?,
            b"gift" => {
                let mut gift = gift_of_bytes(answer.bytes(1)?)?;
                gift.tell(gift.redacted);
                Outcome::Gift(Box::new(gift))
            }
            b"kept_gift" => self.kept_gift(answer.bytes(1)?).await?,
            _ => return Err(damaged("an answer")),
        })
    }

    /// What was fixed when an envelope was made.
    pub(super) async fn created(&self, id: EnvelopeId) -> Result<Option<EnvelopeCreated>> {
        let (row, _) = self.envelope_fields(id, ["created"]).await?;
        let Some(bytes) = row.maybe(0) else { return Ok(None) };
        EnvelopeCreated::of_bytes(bytes).map(Some).ok_or_else(|| damaged("an envelope"))
    }

    async fn item_with_version(&self, id: ItemId) -> Result<Option<(Vec<u8>, ItemView)>> {
        let fields = ["row", "version", "terms", "created", "total", "held", "sold"];
        let args = fields.map(|field| field.as_bytes().to_vec());
        let row = self.read(self.layout.of_id(id.bytes()), &[self.layout.item(id)], &args).await?;
        match row.maybe(0) {
            Some(version) => Ok(Some((version.to_vec(), item_view(id, &row, 1)?))),
            None => Ok(None),
        }
    }

    pub(super) async fn item(&self, id: ItemId) -> Result<Option<ItemView>> {
        Ok(self.item_with_version(id).await?.map(|(_, view)| view))
    }

    pub(super) async fn merchant(&self, id: &UserId) -> Result<Option<Merchant>> {
        let fields = ["row", "name", "status", "by", "reference", "checked", "after", "bps"];
        let args = fields.map(|field| field.as_bytes().to_vec());
        let row = self.read(self.layout.of_user(id), &[self.layout.merchant(id)], &args).await?;
        if row.maybe(0).is_none() {
            return Ok(None);
        }
        let (name, status) = (row.text(0)?.to_owned(), row.merchant_status(1)?);
        let (verification, terms) = (verification(&row, 2)?, sales::terms(&row, 5)?);
        Ok(Some(Merchant { id: id.clone(), name, status, verification, terms }))
    }

    /// Of every bucket the first merchants behind an id, then which of them stand so.
    pub(super) async fn merchants(
        self: &Arc<Self>,
        status: Option<MerchantStatus>,
        page: &Page,
    ) -> Result<Listing<Merchant>> {
        let mut rows = merchant::FirstOf::new(page.limit);
        let mut after = merchant::after(page)?;
        // Until the page is full of those that are wanted, or there are no more.
        loop {
            let from = after.as_ref().map_or(b"-".to_vec(), |after| [b"(", after.as_str().as_bytes()].concat());
            let most = page.limit + 1;
            let found = self.in_every_bucket(|core, bucket| {
                let args = [b"names".to_vec(), from.clone(), most.to_string().into_bytes()];
                async move { core.read(bucket, &[core.layout.merchants(bucket)], &args).await }
            });
            let mut names = Vec::new();
            for found in found.await? {
                for index in 0..found.len() {
                    names.push(found.user(index)?);
                }
            }
            names.sort_unstable();
            let is_end = names.len() < most;
            names.truncate(most);
            after = names.last().cloned();
            let looked = stream::iter(names).map(|name| async move { self.merchant(&name).await });
            let looked: Vec<_> = looked.buffered(LOOKED_AT_ONCE).try_collect().await?;
            let wanted = |merchant: &Merchant| status.is_none_or(|status| merchant.status == status);
            looked.into_iter().flatten().filter(wanted).for_each(|merchant| rows.offer(&merchant));
            if is_end || rows.is_full() {
                return Ok(rows.listing());
            }
        }
    }

    pub(super) async fn hold(&self, id: HoldId) -> Result<Option<HoldView>> {
        let bucket = self.layout.of_id(id.bytes());
        let args = [b"row".to_vec(), id.bytes().to_vec()];
        let row = self.read(bucket, &[self.layout.holds(bucket)], &args).await?;
        row.maybe(0).map(|packed| hold_view(id, packed)).transpose()
    }

    pub(super) async fn read(&self, bucket: Bucket, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Result<Answer> {
        Answer::read(self.call(bucket, &READ, keys, args, true).await?)
    }

    fn item_keys(&self, id: ItemId) -> [Vec<u8>; 2] {
        [self.layout.item(id), self.layout.items_by_time(self.layout.of_id(id.bytes()))]
    }
}

/// Whether it is known again by what it did, or does it again.
fn is_kept_under_no_key(command: &Command) -> bool {
    match command {
        Command::Redact { .. } | Command::RedactGift { .. } => true,
        Command::StepGift { step, .. } => matches!(**step, GiftStep::EraseAddress),
        _ => false,
    }
}

/// What a command's operation is kept for when it has no key.
fn keep_of(command: &Command) -> Keep {
    match command {
        Command::Grab { .. }
        | Command::Claim { .. }
        | Command::Cancel { .. }
        | Command::PutMerchant(_)
        | Command::GrabItem { .. }
        | Command::ClaimHold { .. }
        | Command::ReleaseHold { .. }
        | Command::DeleteApiKey { .. }
        | Command::Redact { .. }
        | Command::RedactGift { .. }
        | Command::PutRelations(_)
        | Command::CreateGiftEnvelope(_)
        | Command::GrabGift { .. }
        | Command::StepGiftEnvelope { .. }
        | Command::CreatePayment(_)
        | Command::TellPayment { .. }
        | Command::OpenGroup(_)
        | Command::JoinGroup { .. }
        | Command::LeaveGroup { .. } => Keep::Natural,
        // How a payment ends stands under its mark, and how a return does.
        Command::StepGift { step, .. } if matches!(**step, GiftStep::Pay { .. }) => Keep::Repeats,
        Command::StepOrder { step, .. }
            if matches!(**step, OrderStep::Return { .. } | OrderStep::AcceptReturn { .. }) =>
        {
            Keep::Repeats
        }
        Command::StepGift { .. } | Command::StepOrder { .. } => Keep::Natural,
        Command::Deposit(_)
        | Command::Withdraw(_)
        | Command::CreateEnvelope(_)
        | Command::CreateItem(_)
        | Command::ChangeItem { .. }
        | Command::Restock { .. }
        | Command::AdvanceClock { .. }
        | Command::CreateApiKey(_)
        | Command::CreateGift(_)
        | Command::WithdrawSales(_)
        | Command::AddCodes { .. }
        | Command::PayoutResults(_) => Keep::Repeats,
    }
}

/// After a decision a failure says nothing about the outcome any more.
pub(super) fn decided_all_the_same(error: EngineError) -> EngineError {
    match error {
        EngineError::Unconfirmed(_) => error,
        other => EngineError::Unconfirmed(other.to_string()),
    }
}

pub(super) fn is_no(decided: &Decided, why: &[u8]) -> bool {
    matches!(decided, Decided::New(Told { answer, .. }) if answer.tag() == b"no" && answer.maybe(1) == Some(why))
}

/// A win, as it is told at this time.
pub(super) fn won(at: Timestamp, answer: &Answer) -> Result<Outcome> {
    let claim_by = answer.at(5)?;
    let claimed = answer.at_if_any(4)?.is_some();
    Ok(Outcome::Won {
        amount: answer.amount(1)?,
        share: answer.units(2)?,
        status: share_status(at, claimed, claim_by, unclaimed(answer.bytes(6)?)?),
        grabbed_at: answer.at(3)?,
        claim_by,
        replayed: answer.flag(7),
    })
}

pub(super) fn refusal_or_no(answer: &Answer) -> Result<Outcome> {
    let refused = Outcome::Refused;
    Ok(match answer.bytes(1)? {
        b"not_found" => refused(Refusal::NotFound),
        b"forbidden" => refused(Refusal::Forbidden),
        b"insufficient_funds" => refused(Refusal::InsufficientFunds),
        b"quota" => refused(Refusal::deposits_exceeded("amount")),
        b"ended_otherwise" => refused(Refusal::too_late_to_cancel()),
        b"units" => {
            refused(Refusal::invalid("quantity", "must be at least 1, and the stock at most 4294967295 in all"))
        }
        b"quantity" => refused(Refusal::over_limit(answer.units(2)?)),
        b"over_codes" => refused(Refusal::over_codes()),
        b"stock_is_codes" => refused(Refusal::stock_is_codes()),
        b"no_codes" => refused(Refusal::no_code_item()),
        b"known_code" => refused(Refusal::known_code(answer.units(2)? as usize)),
        b"codes" => refused(Refusal::too_many_codes()),
        b"price" => refused(Refusal::price_too_high()),
        b"merchant" => refused(Refusal::merchant(answer.merchant_status(2)?)),
        b"sold_out" => Outcome::SoldOut,
        b"expired" => Outcome::Expired,
        b"cancelled" => Outcome::Cancelled,
        b"not_open" => Outcome::NotOpen { opens_at: answer.at(2)? },
        b"not_won" => Outcome::NotWon,
        b"lapsed" => Outcome::Lapsed,
        b"limit_reached" => Outcome::LimitReached,
        b"ended" => Outcome::Ended,
        b"hold_expired" => Outcome::HoldExpired,
        _ => return Err(damaged("an answer")),
    })
}

/// A merchant as `merchant.lua` answers.
pub(super) fn merchant_of_answer(answer: &Answer) -> Result<Merchant> {
    let (id, name) = (answer.user(2)?, answer.text(3)?.to_owned());
    let (status, verification) = (answer.merchant_status(1)?, verification(answer, 4)?);
    Ok(Merchant { id, name, status, verification, terms: sales::terms(answer, 7)? })
}

/// Who checked a merchant's papers, under which reference and when, from `first` on.
pub(super) fn verification(row: &Answer, first: usize) -> Result<Option<Verification>> {
    let Some(at) = row.at_if_any(first + 2)? else { return Ok(None) };
    let reference = Some(row.text(first + 1)?.to_owned()).filter(|reference| !reference.is_empty());
    Ok(Some(Verification { by: row.text(first)?.to_owned(), reference, at }))
}

/// The figures of an envelope, which stand in a row from `first` on.
pub(super) fn figures(row: &Answer, first: usize) -> Result<Figures> {
    Ok(Figures {
        ended: row.ended(first)?,
        settled: row.flag(first + 1),
        taken: row.units(first + 2)?,
        taken_amount: row.amount(first + 3)?,
        claimed: row.amount(first + 4)?,
        refunded: row.amount(first + 5)?,
    })
}

fn unclaimed(word: &[u8]) -> Result<Unclaimed> {
    match word {
        b"return" => Ok(Unclaimed::Return),
        b"credit" => Ok(Unclaimed::Credit),
        _ => Err(damaged("an envelope")),
    }
}

/// The fields that an item's terms become.
pub(super) fn item_fields(terms: &NewItem) -> impl Iterator<Item = Vec<u8>> + use<> {
    let or_none = |number: Option<u64>| number.map(|number| number.to_string().into_bytes()).unwrap_or_default();
    let at = |at: Option<Timestamp>| or_none(at.map(Timestamp::ms));
    let bytes = postcard::to_extend(terms, Vec::new()).expect("every item has a postcard form");
    let codes = if terms.origin.kind == ItemKind::Code { b"1".to_vec() } else { Vec::new() };
    let fields = [
        ("codes", codes),
        ("terms", bytes),
        ("price", or_none(Some(terms.price.minor()))),
        ("limit", or_none(terms.per_user_limit.map(u64::from))),
        ("starts", at(terms.starts_at)),
        ("ends", at(terms.ends_at)),
        ("ttl", or_none(Some(terms.hold_ttl_s))),
    ];
    fields.into_iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value])
}

/// An item of which terms, time and units stand in a row from `first` on.
fn item_view(id: ItemId, row: &Answer, first: usize) -> Result<ItemView> {
    let terms: NewItem = postcard::from_bytes(row.bytes(first)?).map_err(|_| damaged("an item"))?;
    let (total, held, sold) = (row.units(first + 2)?, row.units(first + 3)?, row.units(first + 4)?);
    let free = total.checked_sub(held).and_then(|left| left.checked_sub(sold)).ok_or_else(|| damaged("an item"))?;
    Ok(ItemView { id, created_at: row.at(first + 1)?, terms, stock: Stock { total, free, held, sold } })
}

/// A hold as `hold.lua` packs it.
pub(super) fn hold_view(id: HoldId, packed: &[u8]) -> Result<HoldView> {
    use crate::command::HoldState;
    let wrong = || damaged("a hold");
    let (item, rest) = packed.split_first_chunk::<16>().ok_or_else(wrong)?;
    let (order, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
    let words = Answer::split(rest.to_vec(), 6);
    Ok(HoldView {
        id,
        item: ItemId::from_bytes(*item),
        user: words.user(5)?,
        quantity: words.units(1)?,
        amount: words.amount(2)?,
        state: match words.bytes(0)? {
            b"h" | b"p" => HoldState::Held,
            b"c" => HoldState::Claimed(OrderId::from_bytes(*order)),
            b"r" => HoldState::Released,
            b"e" => HoldState::Expired,
            _ => return Err(wrong()),
        },
        created_at: words.at(3)?,
        expires_at: words.at(4)?,
    })
}
