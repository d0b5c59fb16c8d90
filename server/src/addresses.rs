//! Addresses of gifts: opened for the gift's merchant, erased.
//!
//! **Invariant:** an address is told by one operation only, and only to a key with the role of
//! that gift's merchant: an admin's other keys do not open it. Each opening is in the log, with
//! who and which, and never with what.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::door::Class;
use crate::extract::{Empty, Json, NoParams, Object, One};
use crate::fields::Text;
use crate::gifts::{gift, step};
use crate::problem::{Code, Problem};
use crate::reply::{from_engine, json};
use crate::views::Shown;
use axum::extract::State;
use axum::response::Response;
use hongbao_engine::address::{Address, AddressRead, LINES_MAX};
use hongbao_engine::backend::Backend;
use hongbao_engine::gift::{GiftState, GiftStep};
use hongbao_engine::types::GiftId;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// Adds the routes of addresses.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table.get("/v1/gifts/{id}/address", Class::Ordinary, show::<B>).post(
        "/v1/gifts/{id}/address/erase",
        Class::Settling,
        erase::<B>,
    )
}

/// An address, as it is sent. Not even a bad one is told again.
pub(crate) struct SentAddress(pub(crate) Address);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    name: Text<1, 100>,
    phone: Text<1, 40>,
    lines: Lines,
    city: Text<1, 100>,
    #[serde(default)]
    postcode: Text<0, 20>,
}

impl<'de> Deserialize<'de> for SentAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(Fields { name, phone, lines: Lines(lines), city, postcode }) = Object::deserialize(deserializer)?;
        Ok(SentAddress(Address { name: name.0, phone: phone.0, lines, city: city.0, postcode: postcode.0 }))
    }
}

struct Lines(Vec<String>);

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lines = Vec::<Text<1, 200>>::deserialize(deserializer)?;
        if !(1..=LINES_MAX).contains(&lines.len()) {
            return Err(D::Error::custom(format_args!("must hold 1 to {LINES_MAX} lines")));
        }
        Ok(Lines(lines.into_iter().map(|line| line.0).collect()))
    }
}

#[derive(Serialize)]
struct AddressJson<'a> {
    gift: Shown<GiftId>,
    version: u32,
    name: &'a str,
    phone: &'a str,
    lines: &'a [String],
    city: &'a str,
    postcode: &'a str,
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GiftId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let gift = gift(&server, id).await?;
    if !caller.merchants().contains(&gift.merchant) {
        return Err(Problem::not_found());
    }
    let read = server.backend.address(id).await.map_err(|error| from_engine(&error))?;
    let told = match &read {
        AddressRead::Open { version, .. } => format!("version {version}"),
        AddressRead::None => "none".to_owned(),
        AddressRead::KeyLost => "its key is not here".to_owned(),
    };
    let what = if matches!(read, AddressRead::Open { .. }) { "opened" } else { "did not open" };
    tracing::info!(gift = %id, merchant = %gift.merchant, by = %caller, told, "{what} a gift's address");
    match read {
        AddressRead::Open { version, address } => {
            let Address { name, phone, lines, city, postcode } = &*address;
            let mut answer = json(&AddressJson { gift: Shown(id), version, name, phone, lines, city, postcode });
            let no_store = axum::http::HeaderValue::from_static("no-store");
            answer.headers_mut().insert(axum::http::header::CACHE_CONTROL, no_store);
            Ok(answer)
        }
        AddressRead::None => Err(Problem::not_found()),
        AddressRead::KeyLost => {
            let why = "The address cannot be opened any more, as the server was restored from a backup, which has no keys of \
                       addresses; ";
            let remedy = match gift.state {
                GiftState::Accepted => "have the recipient give it again with POST /v1/gifts/{id}/accept.",
                _ => "ask the recipient for it, as the gift was shipped and takes none any more.",
            };
            Err(Problem::new(Code::WrongState, format!("{why}{remedy}")))
        }
    }
}

async fn erase<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GiftId>,
    Json(Empty {}): Json<Empty>,
) -> Result<Response, Problem> {
    let answer = step(&server, id, GiftStep::EraseAddress, None).await?;
    tracing::info!(gift = %id, by = %caller, "erased a gift's address");
    Ok(answer)
}
