//! Gifts: a gift lies in the bucket of its item, whose unit it has; what was paid
//! comes from the payer's bucket and goes back there; lists lie with their users.
//!
//! What a step makes of a gift is decided by the gift itself, as in the embedded
//! engine. So it is looked at first, and `gift.lua` decides whether the step is
//! done: only if the gift still stands as it was seen.
//!
//! **Invariant:** while it is not known whether a gift is paid, its payment waits in
//! the outbox, with the gift as it is to be: whoever meets it ends the payment
//! first, and nothing else happens to the gift.

use super::addresses::{Change, SeenAddress};
use super::backend::{Core, Keep, Operation, Result};
use super::bucket::Bucket;
use super::commands::{ATTEMPTS_MAX, decided_all_the_same, is_no};
use super::effects::as_read;
pub(super) use super::gift_row::{bytes_of, gift_of, gift_of_bytes, kept, packed};
use super::layout::Key;
use super::lists::{Bounds, Walk};
use super::memos::Verdict;
use super::reads::{List, cursor, position};
use super::reply::{Answer, Decided, Effect, Told, damaged};
use super::scripts::{GIFT, GIFT_LOOK, LISTED, OPERATION, PAY};
use crate::backend::{Listing, Page};
use crate::command::{Command, Outcome, Refusal};
use crate::error::EngineError;
use crate::event::{GiftChanged, Units};
use crate::gift::{Gift, GiftRole, GiftState, GiftStep, GiftToken, NewGift};
use crate::types::{Amount, GiftId, ItemId, Timestamp, UserId};
use futures_util::future::try_join_all;
use std::sync::Arc;

/// A script's answer, or one that nothing is left to be decided for.
pub(super) type Either = std::result::Result<Decided, Outcome>;

/// A payment of a gift that is under way.
pub(super) struct Payment {
    /// By which it is known among all payments of the gift that were begun.
    attempt: [u8; 16],
    begun_at: Timestamp,
    /// Whose answer it is to be.
    operation: Operation,
    keep: Vec<u8>,
    /// The gift once it is paid.
    pub(super) gift: Gift,
}

impl Payment {
    pub(super) fn read(effect: &Effect, bucket: Bucket) -> Result<Payment> {
        let wrong = || damaged("a payment");
        let (begun_at, words) = effect.words()?;
        let (attempt, rest) = words.bytes(4)?.split_first_chunk::<16>().ok_or_else(wrong)?;
        let (operation, rest) = rest.split_first_chunk::<16>().ok_or_else(wrong)?;
        let (keep, gift) = rest.iter().position(|&byte| byte == b' ').map(|at| rest.split_at(at)).ok_or_else(wrong)?;
        // By itself it decides nothing under the operation.
        let operation = Operation { id: *operation, keep: Keep::Natural, bucket };
        let gift = postcard::from_bytes(&gift[1..]).map_err(|_| damaged("a gift"))?;
        Ok(Payment { attempt: *attempt, begun_at, operation, keep: keep.to_vec(), gift })
    }

    /// What stands in the outbox, behind the time and the kind.
    fn packed(attempt: &[u8; 16], operation: &Operation, gift: &Gift) -> Vec<u8> {
        let words = format!("{} {} ", gift.amount, gift.payer);
        let keep = [&operation.keep.word(), &b" "[..]].concat();
        [words.as_bytes(), attempt, &operation.id, &keep, &bytes_of(gift)].concat()
    }

    /// Whether the gift is made with it.
    pub(super) fn makes(&self) -> bool {
        self.gift.pay_by.is_none()
    }
}

/// A gift as `gift_look.lua` has seen it, and the bucket's time.
pub(super) struct Seen {
    pub(super) at: Timestamp,
    pub(super) packed: Vec<u8>,
    pub(super) gift: Option<Gift>,
    pub(super) address: SeenAddress,
    /// What an item costs and who sells it, if that was asked for and there is such an item.
    sold: Option<(Amount, UserId)>,
    pub(super) effects: Vec<Effect>,
}

impl Seen {
    pub(super) fn read(told: Told) -> Result<Seen> {
        let Told { at, answer, effects } = told;
        let packed = answer.bytes(1)?.to_vec();
        let gift = if packed.is_empty() { None } else { Some(gift_of(&packed)?) };
        let address = SeenAddress::read(&answer, 2)?;
        let sold = match answer.bytes(5)? {
            b"" => None,
            _ => Some((answer.amount(5)?, answer.user(6)?)),
        };
        Ok(Seen { at, packed, gift, address, sold, effects })
    }

    pub(super) fn is_being_paid(&self) -> bool {
        self.effects.iter().any(|effect| effect.kind() == b'q')
    }
}

impl Core {
    pub(super) async fn create_gift(&self, terms: &NewGift, operation: &Operation) -> Result<Either> {
        for _ in 0..ATTEMPTS_MAX {
            let id = GiftId::from_bytes(self.random_beside(terms.item.bytes()));
            let token = GiftToken(self.random());
            let seen = match self.look_at_gift(id, Some(terms.item), operation, false, false).await? {
                Decided::New(told) => Seen::read(told)?,
                Decided::Kept(_) | Decided::Void => match self.answered(operation).await? {
                    Some(answered) => return Ok(answered),
                    None => continue,
                },
            };
            let Some((price, merchant)) = seen.sold else { return Ok(Err(Outcome::Refused(Refusal::NotFound))) };
            let mut gift = Gift::make(terms, (id, token), (&merchant, price), seen.at);
            let mut payment = Vec::new();
            if terms.payer == terms.giver {
                gift = gift.paid_at_once(seen.at);
                payment = Payment::packed(&self.random_beside(terms.item.bytes()), operation, &gift);
            }
            let args = [
                b"give".to_vec(),
                id.bytes().to_vec(),
                packed(&gift),
                price.to_string().into_bytes(),
                terms.giver.as_str().as_bytes().to_vec(),
                payment,
                terms.item.bytes().to_vec(),
                kept(&gift, &operation.keep.word()),
            ];
            let args = args.into_iter().chain(listed(None, &gift));
            let decided = self.ask(&GIFT, operation, self.gift_keys(terms.item, id), args).await?;
            match self.in_the_way(decided, operation.bucket).await? {
                Some(decided) => return Ok(or_unpaid(decided, operation)),
                None => continue,
            }
        }
        Err(EngineError::Overloaded)
    }

    pub(super) async fn step_gift(&self, id: GiftId, step: &GiftStep, operation: &Operation) -> Result<Either> {
        let gives_address = step.address().is_some();
        if gives_address && self.addresses.is_none() {
            return Ok(Err(Outcome::Refused(Refusal::no_address_key())));
        }
        let bucket = operation.bucket;
        // What is answered by what was seen, or carried, has to be confirmed.
        let mut confirm = false;
        let mut is_code = false;
        for _ in 0..ATTEMPTS_MAX {
            let seen = match self.look_at_gift(id, None, operation, gives_address, confirm).await? {
                Decided::New(told) => Seen::read(told)?,
                Decided::Kept(_) | Decided::Void => match self.answered(operation).await? {
                    Some(answered) => return Ok(answered),
                    None => continue,
                },
            };
            if seen.is_being_paid() {
                if confirm {
                    self.carry(bucket, seen.effects).await?;
                }
                confirm = !confirm;
                continue;
            }
            let Some(gift) = &seen.gift else { return Ok(Err(Outcome::Refused(Refusal::NotFound))) };
            let after = gift.step(step, seen.at).and_then(|after| {
                let change = self.address_after(step, &seen, gift, after.as_ref())?;
                Ok((after, change))
            });
            let (after, change) = match after {
                Err(refusal) => return Ok(Err(Outcome::Refused(refusal))),
                Ok((Some(_), _)) if step.must_follow(gift) => {
                    return Ok(Err(Outcome::Refused(Refusal::no_relations())));
                }
                Ok(after) => after,
            };
            if after.is_none() && change.is_none() {
                if confirm {
                    let mut answer = Answer::default();
                    let words = match operation.keep {
                        Keep::Natural => [b"gift".to_vec(), bytes_of(gift)],
                        keep => [b"kept_gift".to_vec(), kept(gift, &keep.word())],
                    };
                    words.iter().for_each(|word| answer.push(word));
                    self.carry(bucket, seen.effects).await?;
                    return self.archived_decision(operation, answer).await.map(Ok);
                }
                confirm = true;
                continue;
            }
            confirm = false;
            // A code needs nobody to ship it.
            let handed = |after: Gift| match is_code && after.state == GiftState::Accepted {
                true => after.handed(seen.at),
                false => after,
            };
            let decided = match (step, after.map(handed)) {
                (GiftStep::Pay { .. }, Some(after)) => {
                    let payment = Payment::packed(&self.random_beside(id.bytes()), operation, &after);
                    let args = [b"pay".to_vec(), id.bytes().to_vec(), payment, seen.packed, text(seen.at.ms())];
                    self.ask(&GIFT, operation, self.gift_keys(gift.item, id), args).await?
                }
                (_, after) => self.change_gift(&seen, gift, after, change, operation).await?,
            };
            if is_no(&decided, b"code") {
                if gives_address {
                    return Ok(Err(Outcome::Refused(Refusal::no_address_of_code())));
                }
                is_code = true;
                continue;
            }
            match self.in_the_way(decided, bucket).await? {
                Some(decided) => return Ok(or_unpaid(decided, operation)),
                None => continue,
            }
        }
        Err(EngineError::Overloaded)
    }

    /// Ends a gift that is due, or the payment that it waits for. Says whether there was
    /// anything to do.
    pub(super) async fn end_gift(&self, bucket: Bucket, id: GiftId) -> Result<bool> {
        let natural = Operation { id: [0; 16], keep: Keep::Natural, bucket };
        let mut any = false;
        for _ in 0..ATTEMPTS_MAX {
            let Decided::New(told) = self.look_at_gift(id, None, &natural, false, true).await? else {
                return Err(damaged("a gift"));
            };
            let seen = Seen::read(told)?;
            if seen.is_being_paid() {
                self.carry(bucket, seen.effects).await?;
                any = true;
                continue;
            }
            let Some((gift, after)) = seen.gift.as_ref().and_then(|gift| Some((gift, gift.due(seen.at)?))) else {
                return Ok(any);
            };
            let change = seen.address.follow(&after, seen.at);
            let mut decided = self.change_gift(&seen, gift, Some(after), change, &natural).await?;
            let is_done = !is_no(&decided, b"unresolved") && !is_no(&decided, b"changed");
            self.resolve(&mut decided, bucket).await?;
            if is_done {
                return Ok(true);
            }
        }
        Err(EngineError::Overloaded)
    }

    /// What stands under an operation's mark, confirmed; nothing if that is gone by now.
    pub(super) async fn answered(&self, operation: &Operation) -> Result<Option<Either>> {
        Ok(match self.ask(&OPERATION, operation, [], peek()).await? {
            Decided::New(_) => None,
            decided => Some(or_unpaid(decided, operation)),
        })
    }

    /// A decision, unless it is to be made again: something else has happened, or what is
    /// in the way has been ended now.
    pub(super) async fn in_the_way(&self, mut decided: Decided, bucket: Bucket) -> Result<Option<Decided>> {
        if is_no(&decided, b"unresolved") {
            self.resolve(&mut decided, bucket).await?;
        } else if is_no(&decided, b"gifts") {
            let Decided::New(Told { answer, .. }) = decided else { return Err(damaged("an answer")) };
            for index in 2..answer.len() {
                self.end_gift(bucket, GiftId::from_bytes(answer.id(index)?)).await?;
            }
        } else if !is_no(&decided, b"again") && !is_no(&decided, b"changed") {
            return Ok(Some(decided));
        }
        Ok(None)
    }

    /// Ends the payment that an operation has begun, and tells what was decided under it by that.
    pub(super) async fn end_payment(
        &self,
        command: &Command,
        operation: &Operation,
        mut payments: Vec<Effect>,
    ) -> Result<Verdict> {
        for _ in 0..ATTEMPTS_MAX {
            let mut ended = None;
            for payment in payments {
                let carried = match payment.kind() {
                    b'o' => self.give_back(operation.bucket, &payment).await,
                    _ => self.pay_gift(operation.bucket, &payment).await,
                };
                ended = carried.map_err(decided_all_the_same)?;
            }
            let ended = match ended {
                Some(told) => Decided::Kept(told),
                None => self.ask(&OPERATION, operation, [], peek()).await?,
            };
            match ended {
                // Another has begun it again.
                Decided::Kept(Told { answer, effects, .. }) if answer.tag() == b"paying" => payments = effects,
                Decided::Kept(Told { at, answer, effects }) => {
                    self.carry(operation.bucket, effects).await.map_err(decided_all_the_same)?;
                    let outcome = self.outcome(command, at, &answer).await?;
                    return Ok(Verdict::Answered { outcome, at, kept: false });
                }
                // Unpaid, so that nothing is decided under it any more.
                Decided::Void => {
                    let outcome = Outcome::Refused(Refusal::InsufficientFunds);
                    return Ok(Verdict::Answered { outcome, at: self.clock.now(), kept: false });
                }
                Decided::New(_) => {
                    let why = "the payment took longer than its answer is kept; look at the gift or order".to_owned();
                    return Err(EngineError::Unconfirmed(why));
                }
            }
        }
        Err(EngineError::Overloaded)
    }

    /// Ends a payment: its payer's wallet decides, and then the gift is paid, or as before. Tells
    /// what was decided if it was paid by this, and nobody else has ended it.
    pub(super) async fn pay_gift(&self, cause: Bucket, effect: &Effect) -> Result<Option<Told>> {
        let payment = Payment::read(effect, cause)?;
        let Payment { attempt, begun_at, operation, keep, gift } = &payment;
        let (id, payer) = (gift.id.bytes(), &gift.payer);
        let keys = [self.layout.wallet(payer), self.layout.unpaid(payer, attempt)];
        let amount = gift.amount.to_string().into_bytes();
        let args = [id.to_vec(), amount.clone(), Keep::Repeats.word(), text(begun_at.ms()), b"g".to_vec()];
        let answer = Answer::of_script(self.run(self.layout.of_user(payer), &PAY, keys, args).await?)?;
        let (verb, gift_arg) = match answer.tag() {
            b"paid" => ("paid", packed(gift)),
            b"unpaid" => ("unpaid", gift.giver.as_str().as_bytes().to_vec()),
            _ => return Err(damaged("a payment")),
        };
        let lists = if payment.makes() && verb == "paid" { listed(None, gift).collect() } else { Vec::new() };
        let kept = kept(gift, keep);
        let args = [verb.as_bytes().to_vec(), id.to_vec(), gift_arg, attempt.to_vec(), amount, keep.clone(), kept];
        let decided =
            self.ask(&GIFT, operation, self.gift_keys(gift.item, gift.id), args.into_iter().chain(lists)).await?;
        let Decided::New(mut told) = decided else { return Err(damaged("a payment")) };
        let lists = std::mem::take(&mut told.effects);
        try_join_all(lists.iter().map(|list| self.list_gift(cause, list))).await?;
        lists.into_iter().for_each(|list| self.leave(cause, list.field));
        Ok((told.answer.tag() == b"gift").then_some(told))
    }

    /// Enters a gift into the list of a user.
    pub(super) async fn list_gift(&self, cause: Bucket, effect: &Effect) -> Result<()> {
        let (made_at, words) = effect.words()?;
        let user = words.user(3)?;
        let role = match effect.field.get(17) {
            Some(b'g') => GiftRole::Given,
            Some(b'r') => GiftRole::Received,
            _ => return Err(damaged("an effect")),
        };
        let bucket = self.layout.of_user(&user);
        let keys = [self.layout.gifts_of_user(&user, role), self.layout.fences(bucket)];
        let mut read_in = effect.read_in;
        loop {
            let [from, generation] = as_read((cause, read_in));
            let args = [text(made_at.ms()), effect.id()?.to_vec(), from, generation];
            let answer = Answer::read(self.call(bucket, &LISTED, &keys, &args, true).await?)?;
            if answer.tag() != b"fenced" {
                return Ok(());
            }
            match self.waits_in(cause, &effect.field).await? {
                Some(generation) => read_in = generation,
                None => return Ok(()),
            }
        }
    }

    pub(super) async fn gift(&self, id: GiftId) -> Result<Option<Gift>> {
        let bucket = self.layout.of_id(id.bytes());
        let args = [b"row".to_vec(), id.bytes().to_vec()];
        let row = self.read(bucket, &[self.layout.gifts(bucket)], &args).await?;
        row.maybe(0).map(gift_of).transpose()
    }

    pub(super) async fn gifts(self: &Arc<Self>, user: &UserId, role: GiftRole, page: &Page) -> Result<Listing<Gift>> {
        let bounds = Bounds::after(position(List::Gifts, page)?);
        let key = self.layout.gifts_of_user(user, role);
        let mut walk = Walk::of_one(self, self.layout.of_user(user), key, bounds, None);
        let mut rows = Vec::new();
        while let Some(at) = walk.next().await? {
            if let Some(next) = walk.end_of_page(rows.len(), page.limit) {
                return Ok(Listing { rows, next: Some(cursor(List::Gifts, &next)) });
            }
            let gift = self.gift(GiftId::from_bytes(at.id)).await?;
            rows.push(gift.ok_or_else(|| damaged("a gift that is listed"))?);
            walk.pass(at);
        }
        Ok(Listing { rows, next: None })
    }

    /// Looks at a gift; with `text` at its address as well.
    pub(super) async fn look_at_gift(
        &self,
        id: GiftId,
        item: Option<ItemId>,
        operation: &Operation,
        text: bool,
        confirm: bool,
    ) -> Result<Decided> {
        let (bucket, layout) = (operation.bucket, &self.layout);
        let keys = [layout.gifts(bucket), layout.addresses(bucket), layout.sealed(bucket), layout.address_key(id)];
        let keys = keys.into_iter().chain(item.map(|item| layout.item(item)));
        let args = [id.bytes().to_vec(), if text { b"1".to_vec() } else { Vec::new() }];
        self.look_at(&GIFT_LOOK, operation, keys, args, confirm).await
    }

    /// Leads a gift on that stands as it was seen, or its address alone.
    pub(super) async fn change_gift(
        &self,
        seen: &Seen,
        gift: &Gift,
        after: Option<Gift>,
        address: Change,
        operation: &Operation,
    ) -> Result<Decided> {
        let verb = if after.is_some() { "step" } else { "address" };
        let kept = [kept(after.as_ref().unwrap_or(gift), &operation.keep.word())];
        let mut after_packed = Vec::new();
        let (mut escrowed, mut effects) = (0, Vec::new());
        if let Some(after) = after {
            after_packed = packed(&after);
            let changed = GiftChanged {
                was: Some(gift.state),
                gift: after,
                units_after: Units::default(),
                owed_after: None,
                redacts: false,
            };
            let to_merchant;
            (escrowed, to_merchant) = changed.moved();
            let after = &changed.gift;
            effects = listed(Some(gift), after).collect::<Vec<_>>();
            if escrowed < 0 {
                let (kind, whose) = if to_merchant > 0 { ('s', &after.merchant) } else { ('b', &after.payer) };
                let value = format!("{} {kind} {} {whose}", seen.at.ms(), after.amount);
                effects.extend([[&[kind as u8], &gift.id.bytes()[..]].concat(), value.into_bytes()]);
            }
        }
        let args = [
            verb.as_bytes().to_vec(),
            gift.id.bytes().to_vec(),
            after_packed,
            seen.packed.clone(),
            text(seen.at.ms()),
            escrowed.to_string().into_bytes(),
        ];
        let args = args.into_iter().chain(address.args(&seen.address)).chain(kept).chain(effects);
        self.ask(&GIFT, operation, self.gift_keys(gift.item, gift.id), args).await
    }

    /// The keys of `gift.lua`.
    pub(super) fn gift_keys(&self, item: ItemId, gift: GiftId) -> Vec<Key> {
        let (bucket, layout) = (self.layout.of_id(item.bytes()), &self.layout);
        let mut keys = self.hold_keys(item)[..6].to_vec();
        keys.extend([layout.gifts_of_item(item), layout.gifts(bucket), layout.not_selling(bucket)]);
        keys.extend([layout.addresses(bucket), layout.sealed(bucket), layout.address_key(gift), layout.erased(bucket)]);
        keys
    }
}

/// The effects by which a gift enters lists, fields and values.
pub(super) fn listed<'a>(was: Option<&Gift>, gift: &'a Gift) -> impl Iterator<Item = Vec<u8>> + use<'a> {
    let giver = was.is_none().then_some((b'g', &gift.giver));
    let had_recipient = was.is_some_and(|was| was.recipient.is_some());
    let recipient = gift.recipient.as_ref().filter(|_| !had_recipient).map(|user| (b'r', user));
    giver.into_iter().chain(recipient).flat_map(|(role, user)| {
        let value = format!("{} v  {user}", gift.created_at.ms());
        [[b"v", &gift.id.bytes()[..], &[role]].concat(), value.into_bytes()]
    })
}

/// A call that was sent twice finds that its first was not paid. Under a key another
/// operation takes its place.
pub(super) fn or_unpaid(decided: Decided, operation: &Operation) -> Either {
    match decided {
        Decided::Void if operation.keep == Keep::Repeats => Err(Outcome::Refused(Refusal::InsufficientFunds)),
        decided => Ok(decided),
    }
}

fn peek() -> [Vec<u8>; 1] {
    [b"peek".to_vec()]
}

fn text(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}
