//! Gifts as the model sees them: a state, and what follows from it, said again.

use crate::model::{Decided, Model, Moment, When, is_due_by, no, refuse};
use hongbao_engine::backend::EntryKind;
use hongbao_engine::code::HandedTo;
use hongbao_engine::command::{Command, HoldState, NewItem, Outcome, Refusal};
use hongbao_engine::gift::{Gift, GiftState, GiftStep, GiftToken, NewGift};
use hongbao_engine::types::{GiftId, GroupId, ItemId, Timestamp, UserId};

#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// As it is told; of its end only a range may be known.
    pub(crate) gift: Gift,
    ended: Option<When>,
    /// The last record that changed it.
    pub(crate) lsn: u64,
}

/// What ends so that a command finds a unit: one record each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InTheWay {
    HoldsOf(ItemId),
    Gift(GiftId),
    Group(GroupId),
}

impl Given {
    pub(crate) fn gift(&self) -> Gift {
        Gift { ended_at: self.ended.map(|when| when.from), ..self.gift.clone() }
    }

    pub(crate) fn state(&self) -> GiftState {
        self.gift.state
    }

    /// Until when it may stay as it is.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        match self.gift.state {
            GiftState::AwaitingPayment => self.gift.pay_by,
            GiftState::Offered => self.gift.accept_by,
            GiftState::Accepted => self.gift.ship_by,
            _ => None,
        }
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Whether a unit is kept for it, and whether that is sold.
    fn unit(&self) -> (u32, u32) {
        match self.gift.state {
            GiftState::AwaitingPayment | GiftState::Offered => (1, 0),
            GiftState::Accepted | GiftState::Shipped | GiftState::Delivered => (0, 1),
            _ => (0, 0),
        }
    }

    fn escrow(&self) -> u64 {
        match self.gift.state {
            GiftState::Offered | GiftState::Accepted => self.gift.amount.minor(),
            _ => 0,
        }
    }

    pub(crate) fn end(&mut self, state: GiftState, when: When, lsn: u64) {
        (self.gift.state, self.ended, self.lsn) = (state, Some(when), lsn);
    }
}

/// Why some steps are never taken here.
const NO_ADDRESS: &str = "gifts have no addresses here: see tests/addresses.rs";

impl Model {
    /// Units that gifts of an item hold, and that they have sold; of one giver or of all.
    pub(crate) fn given_units(&self, item: ItemId, giver: Option<&UserId>) -> (u32, u32) {
        let mine =
            self.given.values().filter(|it| it.gift.item == item && giver.is_none_or(|it2| *it2 == it.gift.giver));
        mine.map(Given::unit).fold((0, 0), |(held, sold), unit| (held + unit.0, sold + unit.1))
    }

    /// Money that is gifts' own.
    pub(crate) fn in_gifts(&self) -> u64 {
        self.given.values().map(Given::escrow).sum()
    }

    /// What is due and ends because this command wants a unit and finds none, in the order of
    /// the records, which come before the command's own.
    pub(crate) fn in_the_way(&self, now: Timestamp, command: &Command) -> Vec<InTheWay> {
        let none = Vec::new();
        if let Some(group) = self.due_group(now, command) {
            return vec![group];
        }
        let in_group = self.wanted_in_group(command);
        let (id, user, quantity) = match (command, in_group) {
            (_, Some((item, user))) => (item, user, 1),
            (Command::GrabItem { item, user, quantity }, _) => (*item, user, *quantity),
            (Command::CreateGift(terms), _) if self.given_apart(terms).is_some() => return none,
            (Command::CreateGift(terms), _) => (terms.item, &terms.giver, 1),
            (Command::CreateGiftEnvelope(terms), _) if self.given_many_apart(terms).is_some() => return none,
            (Command::CreateGiftEnvelope(terms), _) => (terms.item, &terms.giver, terms.units),
            _ => return none,
        };
        let Some(item) = self.items.get(&id) else { return none };
        let terms = &item.terms;
        let limit = terms.per_user_limit.unwrap_or(u32::MAX);
        let is_grab = matches!(command, Command::GrabItem { .. });
        let is_open = terms.ends_at.is_none_or(|at| now < at) && terms.starts_at.is_none_or(|at| now >= at);
        if !self.may_sell(&terms.merchant)
            || !is_open
            || is_grab && (quantity == 0 || quantity > limit)
            || self.has_hold_again(now, command)
        {
            return none;
        }
        let mut due: Vec<_> =
            self.given.values().filter(|it| it.gift.item == id && it.unit().0 == 1 && it.is_due(now)).collect();
        due.sort_by_key(|it| (it.deadline(), it.gift.id));
        // As if the due holds had ended, which they do first.
        let holds = self.holds.values().filter(|(hold, _)| hold.item == id);
        let live = holds.filter(|(hold, _)| match hold.state {
            HoldState::Held => !is_due_by(hold, now),
            HoldState::Claimed(_) => true,
            _ => false,
        });
        let units = |user: Option<&UserId>| {
            let held = live.clone().filter(|(hold, _)| user.is_none_or(|user| *user == hold.user));
            let (given, sold) = self.given_units(id, user);
            let bought = held.map(|(hold, _)| u64::from(hold.quantity)).sum::<u64>();
            bought + u64::from(given + sold + self.group_units(id, user)) - u64::from(self.restocked(id, user))
        };
        // As many as it takes, and none if that are more than there are: first the user's own,
        // for the limit, and then anybody's.
        let mut ended: Vec<InTheWay> = Vec::new();
        let mut gone = 0;
        for (owner, bound) in [(Some(user), limit), (None, item.total)] {
            let is_theirs = |gift: &&Given| owner.is_none_or(|owner| gift.gift.giver == *owner);
            let needed = (units(owner) - gone + u64::from(quantity)).saturating_sub(u64::from(bound));
            let gifts = due.iter().copied().filter(is_theirs).map(|gift| (InTheWay::Gift(gift.gift.id), 1, 1));
            let groups = self.due_groups(now, id, owner).into_iter();
            let groups = groups.map(|(group, theirs, all)| (InTheWay::Group(group), theirs, all));
            let (mut freed, mut all_freed, mut ends) = (0, 0, Vec::new());
            for (what, theirs, all) in gifts.chain(groups) {
                if freed < needed && theirs > 0 && !ended.contains(&what) {
                    (freed, all_freed) = (freed + theirs, all_freed + all);
                    ends.push(what);
                }
            }
            if freed < needed {
                break;
            }
            gone += all_freed;
            ended.extend(ends);
        }
        if ended.is_empty() {
            return none;
        }
        let mut holds = self.holds.values().map(|(hold, _)| hold);
        let any_due = holds.any(|hold| hold.item == id && hold.state == HoldState::Held && is_due_by(hold, now));
        let holds = any_due.then_some(InTheWay::HoldsOf(id));
        holds.into_iter().chain(ended).collect()
    }

    /// Ends it, in the next record.
    pub(crate) fn clear(&mut self, now: Timestamp, what: InTheWay) {
        self.lsn += 1;
        match what {
            InTheWay::HoldsOf(item) => {
                self.end_due_holds(now, Some(item), self.lsn);
            }
            InTheWay::Gift(gift) => self.end_due_gift(gift, Moment::now(now, self.lsn)),
            InTheWay::Group(group) => self.end_due_group(group, Moment::now(now, self.lsn)),
        }
    }

    fn end_due_gift(&mut self, id: GiftId, moment: Moment) {
        let given = self.given.get_mut(&id).expect("a gift that is due exists");
        let state = if given.gift.state == GiftState::Accepted { GiftState::Failed } else { GiftState::Expired };
        if state == GiftState::Failed {
            given.gift.reason = Some("it was not shipped in time".to_owned());
        }
        let back = given.escrow();
        given.end(state, moment.when, moment.records.first);
        let payer = given.gift.payer.clone();
        if back > 0 {
            self.move_money(&payer, EntryKind::GiftRefund(id), back, moment);
        }
    }

    /// Ends every gift that is due. Says whether any was.
    pub(crate) fn end_due_gifts(&mut self, now: Timestamp, moment: Moment) -> bool {
        let due: Vec<GiftId> = self.given.values().filter(|it| it.is_due(now)).map(|it| it.gift.id).collect();
        due.iter().for_each(|id| self.end_due_gift(*id, moment));
        !due.is_empty()
    }

    pub(crate) fn create_gift(&mut self, now: Timestamp, terms: &NewGift, drawn: &[Vec<u8>], lsn: u64) -> Decided {
        if self.items.contains_key(&terms.item)
            && let Some(refusal) = self.given_apart(terms)
        {
            return refuse(refusal);
        }
        let sale = match self.set_aside(now, terms, 1, lsn) {
            Ok(sale) => sale,
            Err(decided) => return decided,
        };
        let mut id: [u8; 16] = drawn[0].as_slice().try_into().expect("a gift's id is drawn");
        id[..2].copy_from_slice(&terms.item.bytes()[..2]);
        let token = GiftToken(drawn[1].as_slice().try_into().expect("a gift's token is drawn"));
        let token = terms.recipient.is_none().then_some(token);
        let gift = self.put_gift(now, terms, (GiftId::from_bytes(id), token), &sale, lsn);
        Decided(Outcome::Gift(Box::new(gift)), true, lsn)
    }

    /// Whether there are so many units for gifts of these terms, and money for them if the giver pays.
    pub(crate) fn set_aside(
        &mut self,
        now: Timestamp,
        terms: &NewGift,
        units: u32,
        lsn: u64,
    ) -> Result<NewItem, Decided> {
        let Some(item) = self.items.get(&terms.item) else { return Err(refuse(Refusal::NotFound)) };
        let (sale, total) = (item.terms.clone(), item.total);
        let Some(price) = sale.price.checked_mul(units.into()) else {
            return Err(refuse(Refusal::invalid("units", "")));
        };
        if !self.may_sell(&sale.merchant) {
            return Err(refuse(Refusal::WrongState(String::new())));
        }
        if sale.ends_at.is_some_and(|ends_at| now >= ends_at) {
            return Err(no(Outcome::Ended));
        }
        if let Some(opens_at) = sale.starts_at.filter(|&starts_at| now < starts_at) {
            return Err(no(Outcome::NotOpen { opens_at }));
        }
        let expired = self.end_due_holds(now, Some(terms.item), lsn);
        let limit = u64::from(sale.per_user_limit.unwrap_or(u32::MAX));
        if self.units_of(terms.item, &terms.giver) + u64::from(units) > limit {
            return Err(Decided(Outcome::LimitReached, expired, 0));
        }
        let stock = self.stock(terms.item);
        if stock.held + stock.sold + units > total {
            return Err(Decided(Outcome::SoldOut, expired, 0));
        }
        if terms.payer == terms.giver && self.balance(&terms.payer) < price.minor() {
            return Err(Decided(Outcome::Refused(Refusal::InsufficientFunds), expired, 0));
        }
        Ok(sale)
    }

    pub(crate) fn put_gift(
        &mut self,
        now: Timestamp,
        terms: &NewGift,
        (id, token): (GiftId, Option<GiftToken>),
        sale: &NewItem,
        lsn: u64,
    ) -> Gift {
        let is_own = terms.payer == terms.giver;
        let paid = is_own.then_some(now);
        let gift = Gift {
            id,
            owner: terms.owner.clone(),
            state: if is_own { GiftState::Offered } else { GiftState::AwaitingPayment },
            giver: terms.giver.clone(),
            recipient: terms.recipient.clone(),
            payer: terms.payer.clone(),
            item: terms.item,
            merchant: sale.merchant.clone(),
            amount: sale.price,
            message: terms.message.clone(),
            token,
            created_at: now,
            pay_by: (!is_own).then(|| now.plus_s(terms.pay_within_s)),
            paid_at: paid,
            accept_within_s: terms.accept_within_s,
            accept_by: paid.map(|paid| paid.plus_s(terms.accept_within_s)),
            accepted_at: None,
            ship_within_s: terms.ship_within_s,
            ship_by: None,
            shipped_at: None,
            carrier: None,
            tracking: None,
            ended_at: None,
            reason: None,
            note: None,
            reference: terms.reference.as_ref().map(|reference| reference.text.clone()),
            metadata: terms.metadata.clone(),
            redacted: None,
        };
        if is_own {
            self.move_money(&terms.payer, EntryKind::GiftPaid(id), sale.price.minor(), Moment::now(now, lsn));
        }
        self.given.insert(id, Given { gift: gift.clone(), ended: None, lsn });
        gift
    }

    pub(crate) fn step_gift(&mut self, now: Timestamp, id: GiftId, step: &GiftStep, lsn: u64) -> Decided {
        use GiftState::*;
        let Some(given) = self.given.get(&id) else { return refuse(Refusal::NotFound) };
        let gift = &given.gift;
        let (step, must_follow) = match step {
            GiftStep::AcceptWith(how) => {
                (&GiftStep::Accept { user: how.user.clone(), token: how.token }, how.must_follow)
            }
            step => (step, false),
        };
        let by = match step {
            GiftStep::Pay { payer } => Some((payer, Some(&gift.payer))),
            GiftStep::Cancel { user } => Some((user, Some(&gift.giver))),
            GiftStep::Decline { user, .. } | GiftStep::Thank { user, .. } => Some((user, gift.recipient.as_ref())),
            GiftStep::Accept { user, token } => match (gift.token, token) {
                (Some(own), Some(shown)) if own == *shown => Some((user, gift.recipient.as_ref().or(Some(user)))),
                _ => Some((user, gift.recipient.as_ref())),
            },
            GiftStep::Ship { .. } | GiftStep::Deliver | GiftStep::Fail { .. } => None,
            GiftStep::AcceptTo { .. } | GiftStep::AcceptWith(_) | GiftStep::ShipTo { .. } | GiftStep::EraseAddress => {
                unreachable!("{NO_ADDRESS}")
            }
        };
        if by.is_some_and(|(user, allowed)| allowed != Some(user)) {
            return refuse(Refusal::Forbidden);
        }
        let is_done = match step {
            GiftStep::Pay { .. } => gift.paid_at.is_some(),
            GiftStep::Accept { .. } => gift.accepted_at.is_some(),
            GiftStep::Decline { .. } => gift.state == Declined,
            GiftStep::Cancel { .. } => gift.state == Cancelled,
            GiftStep::Ship { carrier, tracking } => {
                gift.shipped_at.is_some()
                    && gift.carrier.as_ref() == Some(carrier)
                    && gift.tracking.as_ref() == Some(tracking)
            }
            GiftStep::Deliver => gift.state == Delivered,
            GiftStep::Fail { .. } => gift.state == Failed,
            GiftStep::Thank { note, .. } => gift.accepted_at.is_some() && gift.note.as_ref() == Some(note),
            GiftStep::AcceptTo { .. } | GiftStep::AcceptWith(_) | GiftStep::ShipTo { .. } | GiftStep::EraseAddress => {
                unreachable!("{NO_ADDRESS}")
            }
        };
        if is_done {
            return Decided(Outcome::Gift(Box::new(given.gift())), false, given.lsn);
        }
        let is_right = match step {
            GiftStep::Pay { .. } => gift.state == AwaitingPayment,
            GiftStep::Accept { .. } | GiftStep::Decline { .. } => gift.state == Offered,
            GiftStep::Cancel { .. } => matches!(gift.state, AwaitingPayment | Offered),
            GiftStep::Ship { .. } | GiftStep::Fail { .. } => gift.state == Accepted,
            GiftStep::Deliver => gift.state == Shipped,
            GiftStep::Thank { .. } => gift.accepted_at.is_some(),
            GiftStep::AcceptTo { .. } | GiftStep::AcceptWith(_) | GiftStep::ShipTo { .. } | GiftStep::EraseAddress => {
                unreachable!("{NO_ADDRESS}")
            }
        };
        let is_over = given.is_due(now) && !matches!(step, GiftStep::Thank { .. });
        if !is_right || is_over {
            return refuse(Refusal::WrongState(String::new()));
        }
        let comes_to = match step {
            GiftStep::Accept { user, .. } | GiftStep::Pay { payer: user } => Some(user),
            _ => None,
        };
        let must_follow = must_follow && gift.recipient.is_none();
        if let Some(refusal) = comes_to.and_then(|user| self.apart(&gift.giver, user, must_follow)) {
            return refuse(refusal);
        }
        let item = gift.item;
        let (price, payer, merchant) = (gift.amount.minor(), gift.payer.clone(), gift.merchant.clone());
        if matches!(step, GiftStep::Pay { .. }) && self.balance(&payer) < price {
            return refuse(Refusal::InsufficientFunds);
        }
        let is_code = self.sells_codes(item);
        if is_code && matches!(step, GiftStep::Accept { .. }) {
            self.hand(item, 1, HandedTo::Gift(id), lsn);
        }
        let given = self.given.get_mut(&id).expect("it was just there");
        let was_paid = given.escrow() > 0;
        given.lsn = lsn;
        let end = When::at(now);
        match step.clone() {
            GiftStep::Pay { .. } => {
                given.gift.state = Offered;
                (given.gift.paid_at, given.gift.accept_by) = (Some(now), Some(now.plus_s(given.gift.accept_within_s)));
            }
            GiftStep::Accept { user, .. } => {
                given.gift.recipient = Some(user);
                given.gift.accepted_at = Some(now);
                if is_code {
                    given.end(Delivered, end, lsn);
                } else {
                    given.gift.state = Accepted;
                    given.gift.ship_by = Some(now.plus_s(given.gift.ship_within_s));
                }
            }
            GiftStep::Decline { reason, .. } => {
                given.gift.reason = reason;
                given.end(Declined, end, lsn);
            }
            GiftStep::Cancel { .. } => given.end(Cancelled, end, lsn),
            GiftStep::Ship { carrier, tracking } => {
                given.gift.state = Shipped;
                given.gift.shipped_at = Some(now);
                (given.gift.carrier, given.gift.tracking) = (Some(carrier), Some(tracking));
            }
            GiftStep::Deliver => given.end(Delivered, end, lsn),
            GiftStep::Fail { reason } => {
                given.gift.reason = Some(reason);
                given.end(Failed, end, lsn);
            }
            GiftStep::Thank { note, .. } => given.gift.note = Some(note),
            GiftStep::AcceptTo { .. } | GiftStep::AcceptWith(_) | GiftStep::ShipTo { .. } | GiftStep::EraseAddress => {
                unreachable!("{NO_ADDRESS}")
            }
        }
        let (answer, is_paid) = (given.gift(), given.escrow() > 0);
        let moment = Moment::now(now, lsn);
        match (was_paid, is_paid) {
            (false, true) => self.move_money(&payer, EntryKind::GiftPaid(id), price, moment),
            (true, false) if matches!(answer.state, Shipped | Delivered) => {
                self.sell(&merchant, price, now);
            }
            (true, false) => self.move_money(&payer, EntryKind::GiftRefund(id), price, moment),
            _ => {}
        }
        Decided(Outcome::Gift(Box::new(answer)), true, lsn)
    }

    /// From now on gifts ended when it is told here. Says what is wrong if these are not
    /// the user's.
    pub(crate) fn learn_gifts(&mut self, giver: &UserId, gifts: &[Gift]) -> Result<(), String> {
        let count = self.given.values().filter(|given| given.gift.giver == *giver).count();
        if count != gifts.len() {
            return Err(format!("{} instead of {count}", gifts.len()));
        }
        for told in gifts {
            let given = self.given.get_mut(&told.id).ok_or_else(|| format!("{told:?} was never given"))?;
            if let (Some(when), Some(ended_at)) = (&mut given.ended, told.ended_at)
                && when.holds(ended_at)
            {
                *when = When::at(ended_at);
            }
            if given.gift() != *told {
                return Err(format!("{told:?} should be {given:?}"));
            }
        }
        Ok(())
    }

    /// A crash left it open until `to` when gifts ended.
    pub(crate) fn widen_gifts(&mut self, to: Timestamp) {
        for when in self.given.values_mut().filter_map(|given| given.ended.as_mut()) {
            if when.from != when.to {
                when.to = to;
            }
        }
    }
}
