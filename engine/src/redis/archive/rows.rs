//! Which rows the archive has. Keys begin with what a row is of; lists run from
//! the newest to the oldest, as they do in Redis.
//!
//! | key | value |
//! | --- | --- |
//! | `e` envelope | the fields of its row |
//! | `w` envelope, share | winners from this share on |
//! | `u` envelope, user | the user's win |
//! | `t` time, envelope | nothing: a list of all envelopes |
//! | `s`, `r` user, time, envelope | nothing: lists of what the user sent, and received |
//! | `m` user, number | a movement of the user's wallet |
//! | `#` user, mark | the number of the movement that was entered under the mark |

use crate::error::EngineError;
use crate::redis::reads::Win;
use crate::redis::reply::damaged;
use crate::types::{EnvelopeId, Timestamp, UserId};

type Result<T> = std::result::Result<T, EngineError>;

/// No user's name has it.
const END: u8 = 0;

/// A list of envelopes.
#[derive(Clone, Copy)]
pub(in crate::redis) enum Listed<'a> {
    All,
    Sent(&'a UserId),
    Received(&'a UserId),
}

pub(in crate::redis) fn envelope(id: EnvelopeId) -> Vec<u8> {
    [b"e", &id.bytes()[..]].concat()
}

pub(in crate::redis) fn winners(id: EnvelopeId) -> Vec<u8> {
    [b"w", &id.bytes()[..]].concat()
}

pub(in crate::redis) fn winners_from(id: EnvelopeId, share: u32) -> Vec<u8> {
    [&winners(id)[..], &share.to_be_bytes()].concat()
}

pub(in crate::redis) fn winner(id: EnvelopeId, user: &UserId) -> Vec<u8> {
    [b"u", &id.bytes()[..], user.as_str().as_bytes()].concat()
}

fn of_user(kind: u8, user: &UserId) -> Vec<u8> {
    [&[kind], user.as_str().as_bytes(), &[END]].concat()
}

/// How the rows of a list begin.
pub(in crate::redis) fn list(list: Listed<'_>) -> Vec<u8> {
    match list {
        Listed::All => b"t".to_vec(),
        Listed::Sent(user) => of_user(b's', user),
        Listed::Received(user) => of_user(b'r', user),
    }
}

/// A place in a list: what is newer comes first, what is as new in the order of ids.
pub(in crate::redis) fn listed(of: Listed<'_>, at_ms: u64, id: &[u8; 16]) -> Vec<u8> {
    [&list(of)[..], &(u64::MAX - at_ms).to_be_bytes(), id].concat()
}

/// Time and id of a place in a list.
pub(in crate::redis) fn place(key: &[u8]) -> Result<(u64, [u8; 16])> {
    let wrong = || damaged("a row of the archive");
    let (rest, id) = key.split_last_chunk::<16>().ok_or_else(wrong)?;
    let (_, at) = rest.split_last_chunk::<8>().ok_or_else(wrong)?;
    Ok((u64::MAX - u64::from_be_bytes(*at), *id))
}

pub(in crate::redis) fn movement(user: &UserId, number: u64) -> Vec<u8> {
    [&of_user(b'm', user)[..], &number.to_be_bytes()].concat()
}

/// A mark as the wallet has it, with its `#`.
pub(in crate::redis) fn mark(user: &UserId, mark: &[u8]) -> Vec<u8> {
    [&of_user(b'#', user)[..], mark].concat()
}

/// The envelope of a row under `e`.
pub(in crate::redis) fn envelope_of(key: &[u8]) -> Result<EnvelopeId> {
    let id = key.get(1..).and_then(|id| id.try_into().ok());
    id.map(EnvelopeId::from_bytes).ok_or_else(|| damaged("a row of the archive"))
}

type Packed = (String, u32, u64, u64, Option<u64>);

fn pack(win: &Win) -> Packed {
    let claimed_at = win.claimed_at.map(Timestamp::ms);
    (win.user.to_string(), win.share, win.amount.minor(), win.grabbed_at.ms(), claimed_at)
}

fn unpack((user, share, amount, grabbed_at, claimed_at): Packed) -> Result<Win> {
    Ok(Win {
        user: UserId::new(&user).map_err(|_| damaged("a user"))?,
        share,
        amount: crate::types::Amount::new(amount).ok_or_else(|| damaged("a share"))?,
        grabbed_at: Timestamp::from_ms(grabbed_at),
        claimed_at: claimed_at.map(Timestamp::from_ms),
    })
}

pub(in crate::redis) fn packed_win(win: &Win) -> Vec<u8> {
    postcard::to_extend(&pack(win), Vec::new()).expect("every winner has a postcard form")
}

pub(in crate::redis) fn packed_wins(wins: &[Win]) -> Vec<u8> {
    let wins: Vec<Packed> = wins.iter().map(pack).collect();
    postcard::to_extend(&wins, Vec::new()).expect("every winner has a postcard form")
}

pub(in crate::redis) fn win(value: &[u8]) -> Result<Win> {
    postcard::from_bytes(value).map_err(|_| damaged("a winner")).and_then(unpack)
}

pub(in crate::redis) fn wins(value: &[u8]) -> Result<Vec<Win>> {
    let wins: Vec<Packed> = postcard::from_bytes(value).map_err(|_| damaged("winners"))?;
    wins.into_iter().map(unpack).collect()
}

/// Fields and values of an envelope's row, in the order of their names.
pub(in crate::redis) type Fields = std::collections::BTreeMap<String, Vec<u8>>;

pub(in crate::redis) fn packed_fields(fields: &Fields) -> Vec<u8> {
    postcard::to_extend(fields, Vec::new()).expect("every row has a postcard form")
}

pub(in crate::redis) fn fields(value: &[u8]) -> Result<Fields> {
    postcard::from_bytes(value).map_err(|_| damaged("an envelope"))
}
