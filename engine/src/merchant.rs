//! Merchants: who sells, and who has checked that they may.
//!
//! **Invariant:** only a verified merchant's units are taken from its items. What
//! was held before it was suspended may still be paid: its buyer was promised it,
//! and the money stays with the merchant's account.

use crate::backend::{Listing, Page};
use crate::command::Refusal;
use crate::error::EngineError;
use crate::sale::SaleTerms;
use crate::types::{Timestamp, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Characters of who checked papers, and of the reference of what was checked.
const VERIFICATION_CHARS_MAX: usize = 128;
/// What a cursor of their list begins with.
const CURSOR: &str = "merchant:";

/// Whether a merchant's items may be sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MerchantStatus {
    /// Papers not checked yet.
    Pending,
    /// May sell.
    Verified,
    /// May not sell any more.
    Suspended,
}

impl MerchantStatus {
    /// All of them.
    pub const ALL: [MerchantStatus; 3] = [MerchantStatus::Pending, MerchantStatus::Verified, MerchantStatus::Suspended];

    /// Its name in the API, and in Redis.
    pub const fn name(self) -> &'static str {
        match self {
            MerchantStatus::Pending => "pending",
            MerchantStatus::Verified => "verified",
            MerchantStatus::Suspended => "suspended",
        }
    }
}

/// That a merchant's papers were checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Who checked them.
    pub by: String,
    /// The checker's own number of what was checked.
    pub reference: Option<String>,
    /// When this was told.
    pub at: Timestamp,
}

/// A seller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "MerchantForm", into = "MerchantForm")]
pub struct Merchant {
    /// The caller's name for it; the same characters as a user.
    pub id: UserId,
    /// What people read, 1 to 200 characters.
    pub name: String,
    /// Whether it may sell.
    pub status: MerchantStatus,
    /// Who checked its papers, if somebody did since it was pending. One that was
    /// verified by a version that did not ask has none.
    pub verification: Option<Verification>,
    /// On which terms it sells from now on. One of a version that did not ask has the usual ones.
    pub terms: SaleTerms,
}

/// A merchant as it is kept. One without a verification and on the usual terms has the form
/// that it had before there were any; an older version refuses the others.
#[derive(Serialize, Deserialize)]
struct MerchantForm {
    id: UserId,
    name: String,
    standing: Standing,
}

/// The first three are those of [`MerchantStatus`], by their numbers.
#[derive(Serialize, Deserialize)]
enum Standing {
    Pending,
    Verified,
    Suspended,
    Checked(MerchantStatus, Verification),
    OnTerms(MerchantStatus, Option<Verification>, SaleTerms),
}

impl From<Merchant> for MerchantForm {
    fn from(merchant: Merchant) -> MerchantForm {
        let Merchant { id, name, status, verification, terms } = merchant;
        let standing = match (verification, status) {
            (verification, status) if terms != SaleTerms::default() => Standing::OnTerms(status, verification, terms),
            (Some(verification), status) => Standing::Checked(status, verification),
            (None, MerchantStatus::Pending) => Standing::Pending,
            (None, MerchantStatus::Verified) => Standing::Verified,
            (None, MerchantStatus::Suspended) => Standing::Suspended,
        };
        MerchantForm { id, name, standing }
    }
}

impl From<MerchantForm> for Merchant {
    fn from(form: MerchantForm) -> Merchant {
        let MerchantForm { id, name, standing } = form;
        let usual = SaleTerms::default();
        let (status, verification, terms) = match standing {
            Standing::Pending => (MerchantStatus::Pending, None, usual),
            Standing::Verified => (MerchantStatus::Verified, None, usual),
            Standing::Suspended => (MerchantStatus::Suspended, None, usual),
            Standing::Checked(status, verification) => (status, Some(verification), usual),
            Standing::OnTerms(status, verification, terms) => (status, verification, terms),
        };
        Merchant { id, name, status, verification, terms }
    }
}

/// What is told of a merchant's papers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVerification {
    /// Who checked them, 1 to 128 characters; `None` is whoever tells it.
    pub by: Option<String>,
    /// The checker's own number of what was checked, 1 to 128 characters.
    pub reference: Option<String>,
}

/// A seller to be registered or changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewMerchant {
    /// The caller's name for it; the same characters as a user.
    pub id: UserId,
    /// What people read, 1 to 200 characters.
    pub name: String,
    /// Whether it may sell; `None` keeps what is known, which of a new one is nothing yet.
    pub status: Option<MerchantStatus>,
    /// What is told of its papers; only of one that is verified with it.
    #[serde(skip)]
    pub verification: Option<NewVerification>,
    /// Who tells it: the name of the calling key.
    #[serde(skip)]
    pub told_by: String,
    /// How long the money of its sales is pending from now on, seconds; `None` keeps what is
    /// known, which of a new one is a week.
    #[serde(skip)]
    pub settle_after_s: Option<u32>,
    /// What of it is the platform's from now on, in hundredths of a percent; `None` keeps what
    /// is known, which of a new one is nothing.
    #[serde(skip)]
    pub commission_bps: Option<u16>,
}

impl NewMerchant {
    /// A merchant of which nothing is told of its papers, if it is verified with
    /// this, but that somebody has checked them.
    pub fn new(id: UserId, name: &str, status: Option<MerchantStatus>) -> NewMerchant {
        NewMerchant {
            id,
            name: name.to_owned(),
            status,
            verification: None,
            told_by: String::new(),
            settle_after_s: None,
            commission_bps: None,
        }
    }

    /// Checks what can be told from it alone.
    ///
    /// # Errors
    /// A refusal that names the field.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if !(1..=200).contains(&self.name.chars().count()) {
            return Err(Refusal::invalid("name", "must be 1 to 200 characters long"));
        }
        SaleTerms::check(self.settle_after_s, self.commission_bps)?;
        let Some(NewVerification { by, reference }) = &self.verification else { return Ok(()) };
        if self.status != Some(MerchantStatus::Verified) {
            return Err(Refusal::invalid("verification", "stands only beside \"status\":\"verified\""));
        }
        for (text, field) in [(by, "verification.by"), (reference, "verification.reference")] {
            if text.as_ref().is_some_and(|text| !(1..=VERIFICATION_CHARS_MAX).contains(&text.chars().count())) {
                return Err(Refusal::invalid(field, format!("must be 1 to {VERIFICATION_CHARS_MAX} characters long")));
            }
        }
        Ok(())
    }

    /// Who checked its papers, if they are checked with this.
    pub(crate) fn checker(&self) -> &str {
        self.verification.as_ref().and_then(|verification| verification.by.as_deref()).unwrap_or(&self.told_by)
    }

    /// What of its papers is told besides.
    pub(crate) fn checked_under(&self) -> Option<&str> {
        self.verification.as_ref().and_then(|verification| verification.reference.as_deref())
    }

    /// What it becomes now, by what is known of it. Papers are checked when it becomes
    /// verified, or is told of by whom; they are forgotten when it is pending again.
    pub(crate) fn over(&self, known: Option<&Merchant>, now: Timestamp) -> Merchant {
        let status = self.status.or(known.map(|known| known.status)).unwrap_or(MerchantStatus::Pending);
        let sold_on = known.map(|known| known.terms).unwrap_or_default();
        let terms = SaleTerms {
            settle_after_s: self.settle_after_s.unwrap_or(sold_on.settle_after_s),
            commission_bps: self.commission_bps.unwrap_or(sold_on.commission_bps),
        };
        let known = known.filter(|known| status != MerchantStatus::Verified || known.status == status);
        let known = known.and_then(|known| known.verification.clone());
        let verification = match status {
            MerchantStatus::Pending => None,
            MerchantStatus::Verified if self.verification.is_some() || self.status.is_some() && known.is_none() => {
                let reference = self.checked_under().map(str::to_owned);
                Some(Verification { by: self.checker().to_owned(), reference, at: now })
            }
            MerchantStatus::Verified | MerchantStatus::Suspended => known,
        };
        Merchant { id: self.id.clone(), name: self.name.clone(), status, verification, terms }
    }
}

/// Behind which merchant a page of them begins.
///
/// # Errors
/// [`EngineError::Cursor`] for a cursor of another list.
pub(crate) fn after(page: &Page) -> Result<Option<UserId>, EngineError> {
    let after = |cursor: &[u8]| UserId::new(std::str::from_utf8(cursor).ok()?.strip_prefix(CURSOR)?).ok();
    page.cursor.as_deref().map(|cursor| after(cursor).ok_or(EngineError::Cursor)).transpose()
}

/// The first of many merchants, by their ids.
pub(crate) struct FirstOf {
    limit: usize,
    rows: BTreeMap<UserId, Merchant>,
}

impl FirstOf {
    /// At most so many.
    pub(crate) fn new(limit: usize) -> FirstOf {
        FirstOf { limit, rows: BTreeMap::new() }
    }

    pub(crate) fn offer(&mut self, merchant: &Merchant) {
        // One more tells whether there is a next page.
        let is_full = self.rows.len() > self.limit;
        if is_full && self.rows.last_key_value().is_some_and(|(last, _)| merchant.id > *last) {
            return;
        }
        self.rows.insert(merchant.id.clone(), merchant.clone());
        if self.rows.len() > self.limit + 1 {
            self.rows.pop_last();
        }
    }

    /// Whether there is a page, and one more.
    #[cfg(feature = "redis")]
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() > self.limit
    }

    pub(crate) fn listing(self) -> Listing<Merchant> {
        let more = self.rows.len() > self.limit;
        let rows: Vec<Merchant> = self.rows.into_values().take(self.limit).collect();
        let last = rows.last().filter(|_| more);
        let next = last.map(|last| format!("{CURSOR}{}", last.id).into_bytes());
        Listing { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merchant(status: MerchantStatus, verification: Option<Verification>) -> Merchant {
        let (id, name) = (UserId::new("rosy").unwrap(), "玫瑰".to_owned());
        Merchant { id, name, status, verification, terms: SaleTerms::default() }
    }

    /// As it was kept before papers were asked for.
    #[derive(Serialize)]
    struct Before<'a>(&'a str, &'a str, MerchantStatus);

    #[test]
    fn what_was_kept_before_papers_were_asked_for_is_still_read() {
        for status in MerchantStatus::ALL {
            let bytes = postcard::to_extend(&Before("rosy", "玫瑰", status), Vec::new()).unwrap();
            assert_eq!(postcard::from_bytes::<Merchant>(&bytes), Ok(merchant(status, None)));
            assert_eq!(postcard::to_extend(&merchant(status, None), Vec::new()), Ok(bytes), "and written so");
            let at = Timestamp::from_ms(7);
            let papers = Some(Verification { by: "li".to_owned(), reference: Some("p-1".to_owned()), at });
            let bytes = postcard::to_extend(&merchant(status, papers.clone()), Vec::new()).unwrap();
            assert_eq!(postcard::from_bytes::<Merchant>(&bytes), Ok(merchant(status, papers.clone())));
            for verification in [None, papers] {
                let terms = SaleTerms { settle_after_s: 60, commission_bps: 250 };
                let sold_on = Merchant { terms, ..merchant(status, verification) };
                let bytes = postcard::to_extend(&sold_on, Vec::new()).unwrap();
                assert_eq!(postcard::from_bytes::<Merchant>(&bytes), Ok(sold_on));
            }
        }
    }
}
