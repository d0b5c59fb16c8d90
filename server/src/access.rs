//! Which roles let whom do what.
//!
//! **Invariant:** an operation that needs a key stands in [`OPERATIONS`], with
//! the roles that do: a server with one that does not stand there does not start.
//!
//! A role that is let in may still not see everything. What belongs to another
//! owner, or is another merchant's, is answered as if it were not there.

use crate::auth::Caller;
use crate::problem::{Code, Problem};
use hongbao_engine::api_key::Role;
use hongbao_engine::types::UserId;

/// Some of the roles; of merchants' all or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

/// Everything.
pub const ADMIN: Roles = Roles(1);
/// Creates envelopes and items, and cancels its owner's envelopes.
pub const ISSUER: Roles = Roles(2);
/// Grabs, claims and reads on behalf of users.
pub const CALLER: Roles = Roles(4);
/// Moves money in and out of wallets.
pub const TREASURER: Roles = Roles(8);
/// Reads a merchant's items and orders.
pub const MERCHANT: Roles = Roles(16);
/// Reads everything but keys.
pub const VIEWER: Roles = Roles(32);

/// By their bits.
const NAMES: [&str; 6] = ["admin", "issuer", "caller", "treasurer", "merchant:<id>", "viewer"];

/// What users do, and what is told of them.
const USERS_READ: Roles = CALLER.or(VIEWER);
/// A key with one of these sees what belongs to any owner.
const OF_ANY_OWNER: Roles = ADMIN.or(CALLER).or(VIEWER);
/// A key with one of these sees the payouts of any owner's envelopes.
const PAYOUTS_OF_ANY_OWNER: Roles = ADMIN.or(TREASURER).or(VIEWER);
/// A key with one of these sees what is any merchant's.
const OF_ANY_MERCHANT: Roles = ADMIN.or(ISSUER).or(CALLER).or(VIEWER);

/// Every operation that needs a key, and the roles that do besides `admin`.
pub const OPERATIONS: [(&str, &str, Roles); 90] = [
    ("POST", "/v1/wallets/{user}/deposits", TREASURER),
    ("POST", "/v1/wallets/{user}/withdrawals", TREASURER),
    ("GET", "/v1/wallets/{user}", USERS_READ.or(TREASURER)),
    ("GET", "/v1/wallets/{user}/entries", USERS_READ.or(TREASURER)),
    ("POST", "/v1/envelopes", ISSUER),
    ("GET", "/v1/envelopes", USERS_READ.or(ISSUER)),
    ("GET", "/v1/envelopes/{id}", USERS_READ.or(ISSUER)),
    ("POST", "/v1/envelopes/{id}/grab", CALLER),
    ("POST", "/v1/envelopes/{id}/claim", CALLER),
    ("POST", "/v1/envelopes/{id}/cancel", ISSUER),
    ("POST", "/v1/envelopes/{id}/redact", ADMIN),
    ("GET", "/v1/envelopes/{id}/grabs", USERS_READ.or(ISSUER)),
    ("GET", "/v1/envelopes/{id}/grabs/{user}", USERS_READ.or(ISSUER)),
    ("POST", "/v1/grabs", CALLER),
    ("GET", "/v1/users/{user}/sent", USERS_READ),
    ("GET", "/v1/users/{user}/received", USERS_READ),
    ("GET", "/v1/audit", TREASURER.or(VIEWER)),
    ("GET", "/v1/payouts", TREASURER.or(ISSUER).or(VIEWER)),
    ("GET", "/v1/payouts/{id}", TREASURER.or(ISSUER).or(VIEWER)),
    ("POST", "/v1/payouts/results", TREASURER),
    ("GET", "/v1/payments", TREASURER.or(VIEWER)),
    ("GET", "/v1/payments/{id}", CALLER.or(TREASURER).or(VIEWER)),
    ("POST", "/v1/merchants", ADMIN),
    ("GET", "/v1/merchants", USERS_READ.or(ISSUER)),
    ("GET", "/v1/merchants/{id}", USERS_READ.or(ISSUER).or(MERCHANT)),
    ("GET", "/v1/merchants/{id}/balance", TREASURER.or(MERCHANT).or(VIEWER)),
    ("GET", "/v1/merchants/{id}/statement", TREASURER.or(MERCHANT).or(VIEWER)),
    ("POST", "/v1/merchants/{id}/withdrawals", TREASURER),
    ("POST", "/v1/items", ISSUER),
    ("GET", "/v1/items", USERS_READ.or(ISSUER).or(MERCHANT)),
    ("GET", "/v1/items/{id}", USERS_READ.or(ISSUER).or(MERCHANT)),
    ("PATCH", "/v1/items/{id}", ISSUER),
    ("POST", "/v1/items/{id}/restock", ISSUER),
    ("POST", "/v1/items/{id}/codes", ISSUER),
    ("POST", "/v1/items/{id}/grab", CALLER),
    ("GET", "/v1/holds/{id}", USERS_READ),
    ("POST", "/v1/holds/{id}/claim", CALLER),
    ("POST", "/v1/holds/{id}/release", CALLER),
    ("GET", "/v1/orders/{id}", USERS_READ.or(MERCHANT)),
    ("POST", "/v1/orders/{id}/ship", MERCHANT),
    ("POST", "/v1/orders/{id}/deliver", MERCHANT),
    ("POST", "/v1/orders/{id}/return", CALLER),
    ("POST", "/v1/orders/{id}/accept-return", MERCHANT),
    ("POST", "/v1/orders/{id}/refuse-return", MERCHANT),
    ("POST", "/v1/gifts", CALLER),
    ("GET", "/v1/gifts/{id}", USERS_READ.or(ISSUER).or(MERCHANT)),
    ("POST", "/v1/gifts/{id}/pay", CALLER),
    ("POST", "/v1/gifts/{id}/payment", CALLER),
    ("POST", "/v1/gifts/{id}/accept", CALLER),
    ("POST", "/v1/gifts/{id}/decline", CALLER),
    ("POST", "/v1/gifts/{id}/cancel", CALLER),
    ("POST", "/v1/gifts/{id}/thank", CALLER),
    ("POST", "/v1/gifts/{id}/ship", MERCHANT),
    ("POST", "/v1/gifts/{id}/deliver", MERCHANT),
    ("POST", "/v1/gifts/{id}/fail", MERCHANT),
    ("POST", "/v1/gifts/{id}/redact", ADMIN),
    ("GET", "/v1/gifts/{id}/address", MERCHANT),
    ("POST", "/v1/gifts/{id}/address/erase", CALLER),
    ("GET", "/v1/gifts/{id}/codes", CALLER),
    ("GET", "/v1/users/{user}/gifts", USERS_READ),
    ("POST", "/v1/gift-envelopes", CALLER),
    ("GET", "/v1/gift-envelopes/{id}", USERS_READ.or(ISSUER)),
    ("POST", "/v1/gift-envelopes/{id}/pay", CALLER),
    ("POST", "/v1/gift-envelopes/{id}/grab", CALLER),
    ("POST", "/v1/gift-envelopes/{id}/cancel", CALLER),
    ("GET", "/v1/users/{user}/gift-envelopes", USERS_READ),
    ("POST", "/v1/relations", CALLER),
    ("GET", "/v1/users/{user}/relations", USERS_READ),
    ("DELETE", "/v1/users/{user}/relations", ADMIN),
    ("POST", "/v1/items/{id}/groups", CALLER),
    ("GET", "/v1/items/{id}/groups", USERS_READ.or(MERCHANT)),
    ("GET", "/v1/groups/{id}", USERS_READ.or(MERCHANT)),
    ("POST", "/v1/groups/{id}/join", CALLER),
    ("POST", "/v1/groups/{id}/leave", CALLER),
    ("GET", "/v1/users/{user}/groups", USERS_READ),
    ("GET", "/v1/events", ISSUER.or(VIEWER)),
    ("POST", "/v1/webhooks", ADMIN),
    ("GET", "/v1/webhooks", ADMIN),
    ("GET", "/v1/webhooks/{id}", ADMIN),
    ("PATCH", "/v1/webhooks/{id}", ADMIN),
    ("DELETE", "/v1/webhooks/{id}", ADMIN),
    ("POST", "/v1/webhooks/{id}/rotate", ADMIN),
    ("POST", "/v1/webhooks/{id}/test", ADMIN),
    ("GET", "/v1/webhooks/{id}/dead", ADMIN),
    ("POST", "/v1/webhooks/{id}/redeliver", ADMIN),
    ("POST", "/v1/keys", ADMIN),
    ("GET", "/v1/keys", ADMIN),
    ("DELETE", "/v1/keys/{id}", ADMIN),
    ("POST", "/v1/test/clock", ADMIN),
    ("POST", "/v1/test/faults", ADMIN),
];

/// The only operation for which the role `admin` does not do: an address is its merchant's to read.
const NOT_FOR_ADMIN: (&str, &str) = ("GET", "/v1/gifts/{id}/address");

/// The roles that do for an operation, `admin` among them but for one.
///
/// # Panics
/// If the operation is not in the table.
pub fn allowed(method: &str, path: &str) -> Roles {
    let found = OPERATIONS.iter().find(|(of, at, _)| *of == method && *at == path);
    let (.., roles) = found.unwrap_or_else(|| panic!("{method} {path} has no roles in access.rs"));
    if (method, path) == NOT_FOR_ADMIN { *roles } else { roles.or(ADMIN) }
}

/// 403 for a caller whose key has none of the roles that do.
pub fn forbidden(caller: &Caller, allowed: Roles) -> Problem {
    let detail = format!(
        "This key has the roles {}, and this takes {}; use another key, or have an admin make one with POST /v1/keys.",
        caller.roles().names(" and "),
        allowed.names(" or ")
    );
    Problem::new(Code::Forbidden, detail)
}

impl Roles {
    /// None of them.
    pub const NONE: Roles = Roles(0);

    /// These and those.
    pub const fn or(self, others: Roles) -> Roles {
        Roles(self.0 | others.0)
    }

    /// Whether any is among `others`.
    pub const fn any_of(self, others: Roles) -> bool {
        self.0 & others.0 != 0
    }

    /// Those that a key has.
    pub fn of(roles: &[Role]) -> Roles {
        let one = |role: &Role| match role {
            Role::Admin => ADMIN,
            Role::Issuer => ISSUER,
            Role::Caller => CALLER,
            Role::Treasurer => TREASURER,
            Role::Merchant(_) => MERCHANT,
            Role::Viewer => VIEWER,
        };
        roles.iter().map(one).fold(Roles::NONE, Roles::or)
    }

    fn names(self, between: &str) -> String {
        let named = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & 1 << bit != 0);
        named.map(|(_, name)| *name).collect::<Vec<_>>().join(between)
    }
}

impl Caller {
    /// Whether it sees what belongs to any owner, and not only to its own.
    pub fn sees_all_owners(&self) -> bool {
        self.roles().any_of(OF_ANY_OWNER)
    }

    /// Whether it sees what belongs to `owner`.
    pub fn sees_owner(&self, owner: &str) -> bool {
        self.sees_all_owners() || self.owner() == owner
    }

    /// Whether it sees the payouts of any owner's envelopes, and not only of its own's.
    pub fn sees_all_payouts(&self) -> bool {
        self.roles().any_of(PAYOUTS_OF_ANY_OWNER)
    }

    /// Whether it sees what is any merchant's.
    pub fn sees_all_merchants(&self) -> bool {
        self.roles().any_of(OF_ANY_MERCHANT)
    }

    /// Whether it acts for users.
    pub fn acts_for_users(&self) -> bool {
        self.roles().any_of(ADMIN.or(CALLER))
    }

    /// Whether it acts for `merchant`.
    pub fn is_merchant(&self, merchant: &UserId) -> bool {
        self.roles().any_of(ADMIN) || self.merchants().contains(merchant)
    }

    /// Whether it sees the items and orders of `merchant`.
    pub fn sees_merchant(&self, merchant: &UserId) -> bool {
        self.sees_all_merchants() || self.merchants().contains(merchant)
    }
}
