//! Merchants' money, both ways.

use super::Result;
use super::to_directory::Copying;
use super::to_redis::{Writing, number, text};
use crate::command::Merchant;
use crate::redis::audit::Pages;
use crate::redis::reply::damaged;
use crate::redis::sales::{self, Owed};
use crate::sale::{MerchantBalance, MerchantEntry, MerchantEntryKind, Slot};
use crate::types::{Timestamp, UserId};
use std::collections::BTreeMap;

impl Writing {
    /// What of a merchant's row tells of its money; the rest of it is written.
    pub(super) async fn sales(
        &mut self,
        merchant: &Merchant,
        balance: MerchantBalance,
        slots: BTreeMap<Timestamp, Slot>,
        entries: u64,
    ) -> Result<Vec<Vec<u8>>> {
        let bucket = self.core.layout.of_user(&merchant.id);
        self.money(bucket).merchants += balance.total().minor();
        let (after, bps) = (merchant.terms.settle_after_s, merchant.terms.commission_bps);
        let mut fields = vec![text("after"), number(after.into()), text("bps"), number(bps.into())];
        if balance != MerchantBalance::default() || entries > 0 {
            for (name, amount) in [("owed", balance.total()), ("pending", balance.pending)] {
                fields.extend([text(name), number(amount.minor())]);
            }
            fields.extend([text("entries"), number(entries)]);
        }
        if let Some(first) = slots.keys().next() {
            let due = [number(first.ms()), [b"m", merchant.id.as_str().as_bytes()].concat()];
            self.write(bucket, "ZADD", self.core.layout.due(bucket), due).await?;
        }
        for (due, Slot { amount, commission }) in slots {
            let slot = [number(due.ms()), format!("{amount} {commission}").into_bytes()];
            self.write(bucket, "HSET", self.core.layout.slots(&merchant.id), slot).await?;
        }
        Ok(fields)
    }

    pub(super) async fn sale(&mut self, merchant: &UserId, nth: u64, entry: &MerchantEntry) -> Result<()> {
        let bucket = self.core.layout.of_user(merchant);
        match entry.kind {
            MerchantEntryKind::Commission { .. } => self.money(bucket).platform += entry.amount.minor(),
            MerchantEntryKind::Withdrawal(_) => self.money(bucket).withdrawn += entry.amount.minor(),
            _ => {}
        }
        if let Some((of, owed)) = Owed::of_entry(entry) {
            self.write(bucket, "HSET", self.core.layout.owed(merchant), [of.bytes().to_vec(), owed.packed()]).await?;
        }
        let row = [number(entry.at.ms()), sales::packed(nth, entry)];
        self.write(bucket, "ZADD", self.core.layout.sales(merchant), row).await
    }
}

impl Copying<'_> {
    /// What a merchant has, had, and will have.
    pub(super) async fn seller(&mut self, id: &UserId) -> Result<()> {
        let (core, bucket) = (self.core, self.core.layout.of_user(id));
        let balance = core.merchant_balance(id).await?;
        self.copied.merchant_balance(id, balance);
        let mut pages = Pages::of(core, bucket, core.layout.slots(id));
        while let Some(page) = pages.next().await? {
            for (due, packed) in page {
                let due = std::str::from_utf8(&due).ok().and_then(|due| due.parse().ok());
                let due = due.map(Timestamp::from_ms).ok_or_else(|| damaged("a slot"))?;
                self.copied.slot(id, due, sales::slot(&packed)?);
            }
        }
        let mut nth = 0u32;
        loop {
            let page = core.sales_from(id, nth.into()).await?;
            if page.is_empty() {
                return Ok(());
            }
            for entry in page {
                nth += 1;
                self.things += 1;
                self.copied.sale(id, nth, &entry);
                self.commit_if_many()?;
            }
        }
    }
}
