//! Items: what is sold, on which terms.

use crate::command::Refusal;
use crate::group::GroupBuy;
use crate::order::RETURN_WITHIN_S;
use crate::types::{Amount, ItemId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

/// What comes of a unit once it is paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    /// It is shipped.
    #[default]
    Physical,
    /// It is delivered otherwise.
    Virtual,
    /// It is one of a list of codes; its stock is how many there ever were.
    Code,
}

impl ItemKind {
    /// All of them.
    pub const ALL: [ItemKind; 3] = [ItemKind::Physical, ItemKind::Virtual, ItemKind::Code];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            ItemKind::Physical => "physical",
            ItemKind::Virtual => "virtual",
            ItemKind::Code => "code",
        }
    }
}

/// What of an item never changes, besides its merchant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemOrigin {
    /// The owner of the key that made it; empty of items made before they had one.
    pub owner: String,
    /// What comes of its units.
    pub kind: ItemKind,
    /// Of which item it is a variant: another colour, say. That is one of the same
    /// merchant, and no variant itself.
    pub variant_of: Option<ItemId>,
    /// How long after its delivery an order of it may be sent back, seconds, up to a year; 0 is never.
    pub return_within_s: u32,
}

impl Default for ItemOrigin {
    fn default() -> ItemOrigin {
        let (owner, kind) = (String::new(), ItemKind::default());
        ItemOrigin { owner, kind, variant_of: None, return_within_s: RETURN_WITHIN_S }
    }
}

impl ItemOrigin {
    /// How long an order of it may be sent back: a code never.
    pub fn return_within_s(&self) -> u32 {
        if self.kind == ItemKind::Code { 0 } else { self.return_within_s }
    }
}

/// An item to be put on sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "ItemForm", into = "ItemForm")]
pub struct NewItem {
    /// Who sells it.
    pub merchant: UserId,
    /// What people read, 1 to 200 characters.
    pub name: String,
    /// A category, 1 to 64 characters: `flowers`, `home`, `beauty`, `digital`, `jewelry`, or any other.
    /// It is what lists are asked for by, and nothing hangs on it, so whoever sells says what there is.
    pub category: String,
    /// The price of one unit.
    pub price: Amount,
    /// Units to sell.
    pub stock: u32,
    /// Units a user may hold and have bought together; `None` is no limit.
    pub per_user_limit: Option<u32>,
    /// When the sale opens; `None` is at once. At most a year ahead.
    pub starts_at: Option<Timestamp>,
    /// When the sale ends; `None` is never. At most two years ahead.
    pub ends_at: Option<Timestamp>,
    /// How long a hold lives, 1 to 31,536,000 seconds.
    pub hold_ttl_s: u64,
    /// A picture.
    pub image_url: Option<String>,
    /// What of it never changes.
    pub origin: ItemOrigin,
    /// On which terms groups buy it; `None` is not at all.
    pub group_buy: Option<GroupBuy>,
}

/// Changes to an item. The outer `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemChange {
    /// A new name.
    pub name: Option<String>,
    /// A new category.
    pub category: Option<String>,
    /// A new price; holds keep the price they saw.
    pub price: Option<Amount>,
    /// A new limit.
    pub per_user_limit: Option<Option<u32>>,
    /// A new opening time.
    pub starts_at: Option<Option<Timestamp>>,
    /// A new end; one that has passed by up to a minute ends the sale at once.
    pub ends_at: Option<Option<Timestamp>>,
    /// A new life of holds made from now on.
    pub hold_ttl_s: Option<u64>,
    /// A new picture.
    pub image_url: Option<Option<String>>,
    /// New terms for groups opened from now on. Not part of the command's old form: see
    /// [`Command::fingerprint`](crate::command::Command).
    #[serde(skip)]
    pub group_buy: Option<Option<GroupBuy>>,
}

/// An item as it is kept. One of which nothing but its terms is known has the form
/// that it had before more was: [`Rest`] then is an optional text. An older version
/// refuses the other.
#[derive(Serialize, Deserialize)]
struct ItemForm {
    merchant: UserId,
    name: String,
    category: String,
    price: Amount,
    stock: u32,
    per_user_limit: Option<u32>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    hold_ttl_s: u64,
    rest: Rest,
}

#[derive(Serialize, Deserialize)]
enum Rest {
    NoImage,
    Image(String),
    More(Option<String>, ItemOrigin),
    ToGroups(Option<String>, ItemOrigin, GroupBuy),
}

impl From<NewItem> for ItemForm {
    fn from(terms: NewItem) -> ItemForm {
        let NewItem { merchant, name, category, price, stock, per_user_limit, starts_at, ends_at, .. } = terms;
        let rest = match (terms.origin, terms.image_url, terms.group_buy) {
            (origin, image_url, Some(group_buy)) => Rest::ToGroups(image_url, origin, group_buy),
            (origin, None, None) if origin == ItemOrigin::default() => Rest::NoImage,
            (origin, Some(image_url), None) if origin == ItemOrigin::default() => Rest::Image(image_url),
            (origin, image_url, None) => Rest::More(image_url, origin),
        };
        let hold_ttl_s = terms.hold_ttl_s;
        ItemForm { merchant, name, category, price, stock, per_user_limit, starts_at, ends_at, hold_ttl_s, rest }
    }
}

impl From<ItemForm> for NewItem {
    fn from(form: ItemForm) -> NewItem {
        let ItemForm { merchant, name, category, price, stock, per_user_limit, starts_at, ends_at, .. } = form;
        let (image_url, origin, group_buy) = match form.rest {
            Rest::NoImage => (None, ItemOrigin::default(), None),
            Rest::Image(image_url) => (Some(image_url), ItemOrigin::default(), None),
            Rest::More(image_url, origin) => (image_url, origin, None),
            Rest::ToGroups(image_url, origin, group_buy) => (image_url, origin, Some(group_buy)),
        };
        let hold_ttl_s = form.hold_ttl_s;
        NewItem {
            merchant,
            name,
            category,
            price,
            stock,
            per_user_limit,
            starts_at,
            ends_at,
            hold_ttl_s,
            image_url,
            origin,
            group_buy,
        }
    }
}

impl NewItem {
    /// Whether its sale has begun and has not ended.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.starts_at.is_none_or(|starts_at| now >= starts_at) && self.ends_at.is_none_or(|ends_at| now < ends_at)
    }

    /// Checks of what it is to be a variant. `of` is that item, if it exists.
    ///
    /// # Errors
    /// A refusal that says why it cannot be.
    pub(crate) fn check_variant(&self, of: Option<&NewItem>) -> Result<(), Refusal> {
        let refuse = |message: &str| Err(Refusal::invalid("variant_of", message));
        match of {
            None => refuse("is no item here; name one of the same merchant"),
            Some(of) if of.merchant != self.merchant => {
                refuse("is another merchant's item; name one of the same merchant")
            }
            Some(of) if of.origin.variant_of.is_some() => {
                refuse("is a variant itself; name the item of which it is one")
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;

    type Before<'a> = (&'a str, &'a str, &'a str, u64, u32, Option<u32>, Option<Timestamp>, Option<Timestamp>, u64);

    fn terms(image_url: Option<&str>, origin: ItemOrigin) -> NewItem {
        NewItem {
            merchant: UserId::new("rosy").unwrap(),
            name: "99 roses".to_owned(),
            category: "flowers".to_owned(),
            price: Amount::new(29_900).unwrap(),
            stock: 500,
            per_user_limit: Some(1),
            starts_at: None,
            ends_at: Some(Timestamp::from_ms(77)),
            hold_ttl_s: 900,
            image_url: image_url.map(str::to_owned),
            origin,
            group_buy: None,
        }
    }

    #[test]
    fn what_was_kept_before_items_had_an_origin_is_still_read() {
        let ends_at = Some(Timestamp::from_ms(77));
        let before: Before<'_> = ("rosy", "99 roses", "flowers", 29_900, 500, Some(1), None, ends_at, 900);
        for image_url in [None, Some("https://example.com/roses.png")] {
            let bytes = postcard::to_extend(&(before, image_url), Vec::new()).unwrap();
            let known = terms(image_url, ItemOrigin::default());
            assert_eq!(postcard::from_bytes::<NewItem>(&bytes).as_ref(), Ok(&known));
            assert_eq!(postcard::to_extend(&known, Vec::new()), Ok(bytes), "and written so");
            let (owner, kind) = ("shop".to_owned(), ItemKind::Virtual);
            let variant_of = Some(ItemId::from_bytes([7; 16]));
            let origin = ItemOrigin { owner, kind, variant_of, ..ItemOrigin::default() };
            let more = terms(image_url, origin);
            let bytes = postcard::to_extend(&more, Vec::new()).unwrap();
            assert_eq!(postcard::from_bytes::<NewItem>(&bytes).as_ref(), Ok(&more));
            let group_buy = Some(GroupBuy { size: 3, price: Amount::new(9_900).unwrap(), within_s: 60 });
            let to_groups = NewItem { group_buy, ..more };
            let bytes = postcard::to_extend(&to_groups, Vec::new()).unwrap();
            assert_eq!(postcard::from_bytes::<NewItem>(&bytes), Ok(to_groups));
        }
    }

    #[test]
    fn keys_that_were_used_before_items_had_an_owner_still_count() {
        let fingerprint = |origin| Command::CreateItem(Box::new(terms(None, origin))).fingerprint(&[1; 32]);
        let before = fingerprint(ItemOrigin::default());
        assert_eq!(fingerprint(ItemOrigin { owner: "shop".to_owned(), ..ItemOrigin::default() }), before);
        assert_ne!(fingerprint(ItemOrigin { kind: ItemKind::Virtual, ..ItemOrigin::default() }), before);
    }
}
