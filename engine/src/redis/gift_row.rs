//! A gift as it lies in Redis, and as it is kept for who asks again.

use super::backend::{Keep, Result};
use super::reply::{Answer, damaged};
use crate::gift::{Gift, GiftState};
use crate::types::Timestamp;

/// A gift as it lies in Redis: what scripts know of it, and all of it.
pub(super) fn packed(gift: &Gift) -> Vec<u8> {
    let deadline = gift.deadline().map_or(0, Timestamp::ms);
    let words = format!("{} {deadline} {} ", letter(gift.state), gift.giver);
    [words.as_bytes(), &bytes_of(gift)].concat()
}

/// A gift out of what [`packed`] makes.
pub(super) fn gift_of(packed: &[u8]) -> Result<Gift> {
    gift_of_bytes(Answer::split(packed.to_vec(), 4).bytes(3)?)
}

/// All of a gift, as it is answered.
pub(super) fn bytes_of(gift: &Gift) -> Vec<u8> {
    postcard::to_extend(gift, Vec::new()).expect("every gift has a postcard form")
}

/// A gift as it is kept for so long for who asks again: without its texts, but for a note, which may be
/// another by then. Nothing if it is not kept.
pub(super) fn kept(gift: &Gift, keep: &[u8]) -> Vec<u8> {
    if keep == Keep::Natural.word() {
        return Vec::new();
    }
    let reason = gift.reason.as_ref().map(|_| String::new());
    bytes_of(&Gift { message: String::new(), metadata: String::new(), reason, ..gift.clone() })
}

pub(super) fn gift_of_bytes(bytes: &[u8]) -> Result<Gift> {
    postcard::from_bytes(bytes).map_err(|_| damaged("a gift"))
}

const fn letter(state: GiftState) -> char {
    match state {
        GiftState::AwaitingPayment => 'w',
        GiftState::Offered => 'o',
        GiftState::Accepted => 'a',
        GiftState::Shipped => 's',
        GiftState::Delivered => 'd',
        GiftState::Declined => 'n',
        GiftState::Expired => 'e',
        GiftState::Cancelled => 'c',
        GiftState::Failed => 'f',
    }
}
