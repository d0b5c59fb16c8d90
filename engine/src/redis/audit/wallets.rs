//! Wallets: each balance follows from its own movements, and each movement that
//! came from another bucket has the mark that keeps it from coming twice.

use super::{FindingKind, Look, PAGE, words};
use crate::backend::{Entry, EntryKind};
use crate::redis::backend::Result;
use crate::redis::reads::entry;
use crate::types::{Amount, EnvelopeId, Timestamp, UserId};

impl Look<'_> {
    pub(super) async fn wallets(&mut self) -> Result<()> {
        for name in self.names.wallets.sorted() {
            let Ok(user) = UserId::new(name) else {
                self.found(FindingKind::Unreadable, format!("wallet {name}: no user has this name"));
                continue;
            };
            self.counts.wallets += 1;
            let looked = self.wallet(&user).await;
            self.told_of(&format!("wallet of {user}"), looked)?;
        }
        Ok(())
    }

    async fn wallet(&mut self, user: &UserId) -> Result<()> {
        let key = self.core.layout.wallet(user);
        let head = self.core.fields(self.bucket, key, &words(["rows", "available"])).await?;
        if head.maybe(0).is_none() {
            return Ok(());
        }
        let (rows, available) = (head.number(0)?, head.number(1)?);
        self.money.wallets += available;
        let mut balance = 0;
        let mut first = 1;
        while first <= rows {
            let last = rows.min(first + PAGE as u64 - 1);
            let page = self.core.movements(user, first..=last).await?;
            let mut marks = Vec::new();
            let mut marked = Vec::new();
            for (index, number) in (first..=last).enumerate() {
                let row = page[index].as_ref().and_then(|row| entry(row).ok());
                let Some(row) = row else {
                    let what =
                        format!("wallet of {user}: its movement {number} of {rows} is missing or cannot be read");
                    self.found(FindingKind::Wallet, what);
                    return Ok(());
                };
                self.counts.entries += 1;
                if let Some(mark) = mark_of(&row.kind) {
                    marks.push(mark);
                    marked.push(number);
                }
                balance = self.movement(user, number, &row, balance);
            }
            let found = self.core.marked(user, &marks).await?;
            for (found, number) in found.iter().zip(marked) {
                if found.as_deref() != Some(number.to_string().as_bytes()) {
                    let what = format!("wallet of {user}: nothing keeps its movement {number} from coming again");
                    self.found(FindingKind::Wallet, what);
                }
            }
            first = last + 1;
        }
        if balance != available {
            let what = format!("wallet of {user}: {available} is on record, its movements make {balance}");
            self.found(FindingKind::Wallet, what);
        }
        Ok(())
    }

    /// What the balance is afterwards, as the row says, so that one wrong row is one finding.
    fn movement(&mut self, user: &UserId, number: u64, row: &Entry, before: u64) -> u64 {
        let (amount, after) = (row.amount.minor(), row.balance_after.minor());
        let made = match row.kind.is_credit() {
            true => before.checked_add(amount),
            false => before.checked_sub(amount),
        };
        match row.kind {
            EntryKind::Deposit(_) => self.money.deposited += amount,
            EntryKind::Withdrawal(_) => self.money.withdrawn += amount,
            _ => {}
        }
        if made != Some(after) {
            let what = format!("wallet of {user}: after movement {number} of {amount} on {before} it had {after}");
            self.found(FindingKind::Wallet, what);
        }
        after
    }
}

/// The field that says that a movement was entered, of those that cross buckets.
pub(in crate::redis) fn mark_of(kind: &EntryKind) -> Option<Vec<u8>> {
    let mark = |kind: &[u8], id: &[u8; 16]| Some([b"#", kind, id].concat());
    match kind {
        EntryKind::GroupPaid(_) | EntryKind::GroupRefund(_) | EntryKind::Deposit(_) | EntryKind::Withdrawal(_) => None,
        EntryKind::EnvelopeCreated(envelope) => mark(b"f", envelope.bytes()),
        EntryKind::Claim(envelope) => mark(b"c", envelope.bytes()),
        EntryKind::Refund(envelope) => mark(b"r", envelope.bytes()),
        EntryKind::Lapse(envelope) => mark(b"l", envelope.bytes()),
        EntryKind::Order(order) => mark(b"o", order.bytes()),
        EntryKind::GiftPaid(gift) => mark(b"g", gift.bytes()),
        EntryKind::OrderRefund(order) => mark(b"u", order.bytes()),
        EntryKind::GiftRefund(gift) => mark(b"b", gift.bytes()),
    }
}

/// What was entered in a wallet under an effect's id, and when its user
/// grabbed from an envelope.
pub(in crate::redis) struct Arrived {
    pub(in crate::redis) amount: Option<Amount>,
    pub(in crate::redis) at: Option<Timestamp>,
    pub(in crate::redis) grabbed_at_ms: Option<i64>,
}

impl crate::redis::backend::Core {
    /// `is_outside`: it became a payout, which says the same.
    pub(in crate::redis) async fn arrived(
        &self,
        user: &UserId,
        effect: &[u8],
        envelope: &[u8; 16],
        is_outside: bool,
    ) -> Result<Arrived> {
        use crate::redis::reply::Answer;
        let keys = [self.layout.wallet(user), self.layout.received(user)];
        let args = [b"arrived".to_vec(), effect.to_vec(), envelope.to_vec()];
        let answer = Answer::read(self.inspect(self.layout.of_user(user), &keys, &args).await?)?;
        let mut row = match answer.bytes(0)? {
            b"" => None,
            row => Some(entry(row)?),
        };
        let mut grabbed_at_ms = match answer.bytes(1)? {
            b"" => None,
            _ => Some(-answer.signed(1)?),
        };
        if is_outside {
            let id = EnvelopeId::from_bytes(*envelope);
            let payout = self.payout_of(id, effect.first().copied().unwrap_or_default(), user).await?;
            let (amount, at) = payout.map(|payout| (payout.amount, payout.created_at)).unzip();
            if grabbed_at_ms.is_none() {
                grabbed_at_ms = self.archived_win(id, user).await?.map(|win| win.grabbed_at.ms() as i64);
            }
            return Ok(Arrived { amount, at, grabbed_at_ms });
        }
        if row.is_none() {
            row = self.archived_movement(user, effect).await?.map(|row| entry(&row)).transpose()?;
        }
        if grabbed_at_ms.is_none() {
            let win = self.archived_win(EnvelopeId::from_bytes(*envelope), user).await?;
            grabbed_at_ms = win.map(|win| win.grabbed_at.ms() as i64);
        }
        Ok(Arrived { amount: row.as_ref().map(|row| row.amount), at: row.as_ref().map(|row| row.at), grabbed_at_ms })
    }
}
