//! What merchants have of their sales, as `merchant.lua` keeps it.
//!
//! **Invariant:** a bucket's time never goes back, so a merchant's entries stand in the
//! order of their numbers, and a place in them is one for ever.

use super::backend::{Core, Operation, Result};
use super::reply::{Answer, Decided, damaged};
use super::scripts::{MERCHANT, READ};
use crate::backend::{Listing, Page};
use crate::command::Transfer;
use crate::error::EngineError;
use crate::feed::SalesSettled;
use crate::sale::{
    MerchantBalance, MerchantEntry, MerchantEntryKind, SaleOf, SaleTerms, Slot, Statement, StatementTime,
};
use crate::types::{Amount, GiftId, OrderId, Timestamp, UserId};

/// What a cursor of entries begins with.
const CURSOR: &[u8] = b"sales:";

impl Core {
    pub(super) async fn withdraw_sales(&self, transfer: &Transfer, operation: &Operation) -> Result<Decided> {
        let reference = transfer.reference.as_ref().map(|r| [b"r", r.text.as_bytes()].concat()).unwrap_or_default();
        let args = [b"withdraw".to_vec(), transfer.amount.to_string().into_bytes(), reference];
        self.ask(&MERCHANT, operation, self.merchant_keys(&transfer.user), args).await
    }

    /// What a merchant has; one without sales has nothing.
    pub(super) async fn merchant_balance(&self, id: &UserId) -> Result<MerchantBalance> {
        let args = ["row", "owed", "pending"].map(|word| word.as_bytes().to_vec());
        owed_and_pending(&self.read(self.layout.of_user(id), &[self.layout.merchant(id)], &args).await?, 0)
    }

    pub(super) async fn statement(&self, id: &UserId, time: StatementTime, page: &Page) -> Result<Statement> {
        let from = match &page.cursor {
            None => 0,
            Some(cursor) => place(cursor).ok_or(EngineError::Cursor)?,
        };
        let ms = |at: Option<Timestamp>| at.map(|at| at.ms().to_string().into_bytes()).unwrap_or_default();
        let numbers = [from, page.limit as u64].map(|number| number.to_string().into_bytes());
        let args: Vec<Vec<u8>> = [b"sales".to_vec(), ms(time.from), ms(time.to)].into_iter().chain(numbers).collect();
        let keys = [self.layout.sales(id), self.layout.merchant(id)];
        let answer = Answer::read(self.call(self.layout.of_user(id), &READ, &keys, &args, true).await?)?;
        let (first, end, has) = (answer.number(0)?, answer.number(1)?, owed_and_pending(&answer, 2)?);
        // What it had before an entry; behind the last one, what it has.
        let before = |row: usize| match answer.bytes(row)? {
            b"" => Ok(has),
            member => entry(member, answer.at(row + 1)?)?.balance_before().ok_or_else(|| damaged("an entry")),
        };
        let (opening, closing) = (before(4)?, before(6)?);
        let rows = (8..answer.len()).step_by(2).map(|row| entry(answer.bytes(row)?, answer.at(row + 1)?));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let next = first + rows.len() as u64;
        let next = (next < end).then(|| [CURSOR, next.to_string().as_bytes()].concat());
        Ok(Statement { opening, entries: Listing { rows, next }, closing })
    }
}

impl Core {
    /// Some entries of a merchant, from a place on.
    pub(super) async fn sales_from(&self, id: &UserId, place: u64) -> Result<Vec<MerchantEntry>> {
        const TAKEN: usize = 256;
        let cursor = Some([CURSOR, place.to_string().as_bytes()].concat());
        let statement = self.statement(id, StatementTime::default(), &Page { limit: TAKEN, cursor }).await?;
        Ok(statement.entries.rows)
    }
}

fn place(cursor: &[u8]) -> Option<u64> {
    std::str::from_utf8(cursor.strip_prefix(CURSOR)?).ok()?.parse().ok()
}

/// A merchant's money by its row, which has all of it and what of it is pending.
pub(super) fn owed_and_pending(row: &Answer, first: usize) -> Result<MerchantBalance> {
    let amount = |index: usize| if row.maybe(index).is_some() { row.amount(index) } else { Ok(Default::default()) };
    MerchantBalance::of_total(amount(first)?, amount(first + 1)?).ok_or_else(|| damaged("a merchant's money"))
}

/// What is pending and what is available, from `first` on.
pub(super) fn balance(answer: &Answer, first: usize) -> Result<MerchantBalance> {
    Ok(MerchantBalance { pending: answer.amount(first)?, available: answer.amount(first + 1)? })
}

/// On which terms a merchant sells, from `first` on; the usual ones where none are kept.
pub(super) fn terms(answer: &Answer, first: usize) -> Result<SaleTerms> {
    if answer.maybe(first).is_none() {
        return Ok(SaleTerms::default());
    }
    let commission_bps = u16::try_from(answer.units(first + 1)?).map_err(|_| damaged("a commission"))?;
    Ok(SaleTerms { settle_after_s: answer.units(first)?, commission_bps })
}

/// What is due at one time, as a slot has it.
pub(super) fn slot(packed: &[u8]) -> Result<Slot> {
    let words = Answer::split(packed.to_vec(), 2);
    Ok(Slot { amount: words.amount(0)?, commission: words.amount(1)? })
}

/// An entry as `merchant.lua` writes it.
pub(super) fn entry(member: &[u8], at: Timestamp) -> Result<MerchantEntry> {
    let wrong = || damaged("an entry");
    // Its number, its kind, how much, what was pending and available afterwards, and the rest.
    let words = Answer::split(member.to_vec(), 6);
    let about = words.bytes(5)?;
    let due = || Answer::split(about.to_vec(), 1).at(0);
    let kind = match words.bytes(1)? {
        b"s" => {
            let sale = Answer::split(about.to_vec(), 3);
            let of = sale_of(sale.bytes(2)?)?;
            MerchantEntryKind::Sale { of, commission: sale.amount(1)?, due: sale.at(0)? }
        }
        b"c" => MerchantEntryKind::Commission { due: due()? },
        b"t" => MerchantEntryKind::Settled { due: due()? },
        b"r" => {
            let refund = Answer::split(about.to_vec(), 3);
            let of = sale_of(refund.bytes(2)?)?;
            let pending_until = if refund.bytes(1)? == b"-" { None } else { Some(refund.at(1)?) };
            MerchantEntryKind::Refund { of, commission: refund.amount(0)?, pending_until }
        }
        b"w" => {
            let text = std::str::from_utf8(about).map_err(|_| wrong())?;
            MerchantEntryKind::Withdrawal(text.strip_prefix('r').map(str::to_owned))
        }
        _ => return Err(wrong()),
    };
    Ok(MerchantEntry { at, kind, amount: words.amount(2)?, balance_after: balance(&words, 3)? })
}

/// What was sold: an order or a gift.
fn sale_of(bytes: &[u8]) -> Result<SaleOf> {
    let (of, id) = bytes.split_first().ok_or_else(|| damaged("an entry"))?;
    let id: [u8; 16] = id.try_into().map_err(|_| damaged("an entry"))?;
    match of {
        b'o' => Ok(SaleOf::Order(OrderId::from_bytes(id))),
        b'g' => Ok(SaleOf::Gift(GiftId::from_bytes(id))),
        _ => Err(damaged("an entry")),
    }
}

fn sale_bytes(of: &SaleOf) -> Vec<u8> {
    match of {
        SaleOf::Order(order) => [b"o", &order.bytes()[..]].concat(),
        SaleOf::Gift(gift) => [b"g", &gift.bytes()[..]].concat(),
    }
}

/// What a merchant was owed for an order or a gift.
pub(super) struct Owed {
    pub(super) amount: Amount,
    pub(super) commission: Amount,
    pub(super) due: Timestamp,
    /// Whether it went back.
    pub(super) is_back: bool,
}

impl Owed {
    pub(super) fn read(packed: &[u8]) -> Result<Owed> {
        let words = Answer::split(packed.to_vec(), 4);
        let is_back = match words.maybe(3) {
            None => false,
            Some(b"r") => true,
            Some(_) => return Err(damaged("what a merchant is owed")),
        };
        Ok(Owed { amount: words.amount(0)?, commission: words.amount(1)?, due: words.at(2)?, is_back })
    }

    pub(super) fn packed(&self) -> Vec<u8> {
        let Owed { amount, commission, due, is_back } = self;
        let back = if *is_back { " r" } else { "" };
        format!("{amount} {commission} {}{back}", due.ms()).into_bytes()
    }

    /// Of a sale whose money was never pending: before that there was no commission.
    pub(super) fn at_once(amount: Amount) -> Owed {
        Owed { amount, commission: Amount::ZERO, due: Timestamp::default(), is_back: false }
    }

    /// What an entry of its merchant says of it, if it is about one.
    pub(super) fn of_entry(entry: &MerchantEntry) -> Option<(SaleOf, Owed)> {
        let amount = entry.amount;
        match entry.kind {
            MerchantEntryKind::Sale { of, commission, due } => {
                Some((of, Owed { amount, commission, due, is_back: false }))
            }
            // Whether it was pending does not matter any more.
            MerchantEntryKind::Refund { of, .. } => Some((of, Owed { is_back: true, ..Owed::at_once(amount) })),
            _ => None,
        }
    }
}

/// The same, to be written: the `nth` entry of its merchant, from 1 on.
pub(super) fn packed(nth: u64, entry: &MerchantEntry) -> Vec<u8> {
    let (kind, about) = match &entry.kind {
        MerchantEntryKind::Sale { of, commission, due } => {
            ('s', [format!("{} {commission} ", due.ms()).as_bytes(), &sale_bytes(of)].concat())
        }
        MerchantEntryKind::Commission { due } => ('c', due.ms().to_string().into_bytes()),
        MerchantEntryKind::Settled { due } => ('t', due.ms().to_string().into_bytes()),
        MerchantEntryKind::Withdrawal(reference) => {
            ('w', reference.as_ref().map(|text| format!("r{text}").into_bytes()).unwrap_or_default())
        }
        MerchantEntryKind::Refund { of, commission, pending_until } => {
            let until = pending_until.map_or_else(|| "-".to_owned(), |due| due.ms().to_string());
            ('r', [format!("{commission} {until} ").as_bytes(), &sale_bytes(of)].concat())
        }
    };
    let MerchantBalance { pending, available } = entry.balance_after;
    let head = format!("{nth:016} {kind} {} {pending} {available} ", entry.amount);
    [head.as_bytes(), &about].concat()
}

/// Sales that were settled, as `merchant.lua` tells it.
pub(super) fn settled(words: &Answer) -> Result<SalesSettled> {
    Ok(SalesSettled {
        due: words.at(1)?,
        amount: words.amount(2)?,
        commission: words.amount(3)?,
        balance: balance(words, 4)?,
        merchant: words.user(6)?,
    })
}
