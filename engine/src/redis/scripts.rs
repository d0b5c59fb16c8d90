//! The Lua scripts, one decision family each, over a common prelude.

use super::script::Script;

macro_rules! lua {
    ($name:literal) => {
        include_str!(concat!("../../../scripts/lua/", $name, ".lua"))
    };
}

/// What scripts for many calls have of their own, and those for one around them:
/// what a call answers that failed, time and sums, what operations were answered.
const FAILURE: &str = lua!("failure");
/// What those for many calls do alike.
const LANE: &str = lua!("lane");
const LEDGER: &str = lua!("ledger");
const OPERATIONS: &str = lua!("operations");
/// The time of a call.
const PRELUDE: &str = lua!("prelude");
/// What a command was answered before.
const DECIDE: &str = lua!("decide");
/// Holds of an item, and where its keys stand among those of one call, or of many.
const HOLDS: &str = lua!("holds");
const HOLD_KEYS: &str = "local ITEM, USERS, LIVE, PAYING, HOLDS, DUE = unpack(KEYS, 4, 9)";
const GRAB_ITEM_KEYS: &str = "local ITEM, USERS, LIVE, PAYING, HOLDS, DUE = unpack(KEYS, 3, 8)\nlocal GIFTS = KEYS[10]";
/// Gifts that hold units of an item; their key has the same place among those of one call, and of many.
const GIFTS: &str = lua!("gifts");
const GIFT_KEYS: &str = "local GIFTS = KEYS[10]";
/// When an envelope is looked at again.
const SETTLING: &str = lua!("settling");
/// A share of a winner: which, when grabbed, when claimed.
const WIN: &str = lua!("win");
/// What of a row has changed.
const CHANGED: &str = lua!("changed");
/// What a bucket may take in from outside.
const QUOTA: &str = lua!("quota");
/// Payouts and the lists in which they stand.
const PAYOUT: &str = lua!("payout");
/// Whether an effect was read before what it left behind was archived.
const FENCE: &str = lua!("fence");

pub(super) static MEMO: Script = Script::one("memo", &[PRELUDE, lua!("memo")]);
pub(super) static OPERATION: Script = Script::one("operation", &[PRELUDE, DECIDE, lua!("operation")]);
pub(super) static WALLET: Script = Script::one("wallet", &[PRELUDE, DECIDE, QUOTA, lua!("wallet")]);
pub(super) static FUND: Script = Script::one("fund", &[PRELUDE, DECIDE, QUOTA, lua!("fund")]);
pub(super) static OPEN: Script = Script::one("open", &[PRELUDE, FENCE, lua!("open")]);
pub(super) static ENVELOPE: Script =
    Script::one("envelope", &[PRELUDE, DECIDE, CHANGED, SETTLING, WIN, lua!("envelope")]);
pub(super) static GRAB: Script =
    Script::lane("grab", &[FAILURE, LANE, LEDGER, OPERATIONS, SETTLING, WIN, lua!("grab")], 8, 3);
/// What is due of one envelope: up to 64 credits.
pub(super) static ENVELOPE_DUE: Script =
    Script::one("envelope", &[PRELUDE, DECIDE, CHANGED, SETTLING, WIN, lua!("envelope")]).alone();
pub(super) static REDACT: Script = Script::one("redact", &[PRELUDE, DECIDE, lua!("redact")]);
pub(super) static RESERVE: Script = Script::one("reserve", &[PRELUDE, DECIDE, CHANGED, SETTLING, lua!("reserve")]);
pub(super) static POOL: Script = Script::one("pool", &[PRELUDE, lua!("pool")]);
pub(super) static POOL_GRAB: Script =
    Script::lane("pool grab", &[FAILURE, LANE, LEDGER, OPERATIONS, WIN, PAYOUT, lua!("pool_grab")], 4, 3);
pub(super) static POOL_CLAIM: Script = Script::one("pool claim", &[PRELUDE, DECIDE, WIN, PAYOUT, lua!("pool_claim")]);
pub(super) static POOL_WIN: Script = Script::one("pool win", &[lua!("pool_wins")]);
/// Some hundred winners of a pool.
pub(super) static POOL_WINS: Script = Script::one("pool wins", &[lua!("pool_wins")]).alone();
pub(super) static CREDIT: Script = Script::one("credit", &[PRELUDE, FENCE, lua!("credit")]);
pub(super) static PAY_OUT: Script = Script::one("pay out", &[PRELUDE, FENCE, PAYOUT, lua!("pay_out")]);
/// Of as many payouts as a call tells of.
pub(super) static RESULTS: Script = Script::one("results", &[PRELUDE, DECIDE, PAYOUT, lua!("results")]).alone();
pub(super) static LISTED: Script = Script::lane("listed", &[FAILURE, LANE, FENCE, lua!("listed")], 0, 0);
pub(super) static MERCHANT: Script = Script::one("merchant", &[PRELUDE, DECIDE, lua!("merchant")]);
pub(super) static LET_SELL: Script = Script::one("let sell", &[lua!("let_sell")]);
pub(super) static ITEM: Script = Script::one("item", &[PRELUDE, DECIDE, lua!("item")]);
/// Up to a thousand codes.
pub(super) static CODES: Script = Script::one("codes", &[PRELUDE, DECIDE, lua!("codes")]).alone();
pub(super) static HOLD: Script = Script::one("hold", &[PRELUDE, DECIDE, HOLD_KEYS, HOLDS, lua!("hold")]);
pub(super) static GRAB_ITEM: Script = Script::lane(
    "grab_item",
    &[FAILURE, LANE, LEDGER, OPERATIONS, GRAB_ITEM_KEYS, HOLDS, GIFTS, lua!("grab_item")],
    10,
    3,
);
pub(super) static GIFT_LOOK: Script = Script::one("gift look", &[PRELUDE, DECIDE, lua!("gift_look")]);
pub(super) static GIFT: Script =
    Script::one("gift", &[PRELUDE, DECIDE, HOLD_KEYS, GIFT_KEYS, HOLDS, GIFTS, lua!("gift")]);
pub(super) static ORDER_LOOK: Script = Script::one("order look", &[PRELUDE, DECIDE, lua!("order_look")]);
pub(super) static ORDER: Script = Script::one("order", &[PRELUDE, DECIDE, HOLD_KEYS, HOLDS, lua!("order")]);
/// What is due of one item: up to 512 ended holds.
pub(super) static HOLD_DUE: Script = Script::one("hold", &[PRELUDE, DECIDE, HOLD_KEYS, HOLDS, lua!("hold")]).alone();
pub(super) static PAY: Script = Script::one("pay", &[PRELUDE, lua!("pay")]);
pub(super) static DEPLOYMENT: Script = Script::one("deployment", &[PRELUDE, DECIDE, lua!("deployment")]);
pub(super) static API_KEY: Script = Script::one("api key", &[PRELUDE, DECIDE, lua!("api_key")]);
pub(super) static NOTE: Script = Script::one("note", &[lua!("note")]);
pub(super) static SETTINGS: Script = Script::one("settings", &[lua!("settings")]);
pub(super) static SETTLED: Script = Script::one("settled", &[lua!("settled")]);
pub(super) static TOUR: Script = Script::one("tour", &[lua!("tour")]);
pub(super) static TURN: Script = Script::one("turn", &[lua!("turn")]);
pub(super) static TAKE_SETTLED: Script = Script::one("take settled", &[lua!("take_settled")]);
pub(super) static MOVED: Script = Script::one("moved", &[lua!("moved")]);
pub(super) static LEAVE: Script = Script::one("leave", &[FENCE, lua!("leave")]);
pub(super) static LEAVE_POOL: Script = Script::one("leave pool", &[FENCE, lua!("leave_pool")]);
pub(super) static LEAVE_ENVELOPE: Script = Script::one("leave envelope", &[FENCE, lua!("leave_envelope")]);
/// What has happened in a bucket; which of it is told, and for how long it is kept.
pub(super) static TOLD: Script = Script::one("told", &[lua!("told")]);
pub(super) static TELLING: Script = Script::one("telling", &[lua!("telling")]);
pub(super) static READ: Script = Script::one("read", &[WIN, lua!("read")]);
pub(super) static INSPECT: Script = Script::one("inspect", &[lua!("inspect")]);
pub(super) static COPY: Script = Script::one("copy", &[lua!("copy")]);
