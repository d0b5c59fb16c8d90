// Written by server/clients/generate from server/src/openapi.json; do not edit.

//! Every call of the API.

use crate::error::Error;
use crate::transport::{Call, Client, Pages, POLL_S, read};
use crate::types;
use hyper::Method;

/// Method and path of every call.
pub const OPERATIONS: &[(&str, &str)] = &[
    ("POST", "/v1/wallets/{user}/deposits"),
    ("POST", "/v1/wallets/{user}/withdrawals"),
    ("GET", "/v1/wallets/{user}"),
    ("GET", "/v1/wallets/{user}/entries"),
    ("POST", "/v1/envelopes"),
    ("GET", "/v1/envelopes"),
    ("GET", "/v1/envelopes/{id}"),
    ("POST", "/v1/envelopes/{id}/grab"),
    ("POST", "/v1/envelopes/{id}/claim"),
    ("POST", "/v1/envelopes/{id}/cancel"),
    ("POST", "/v1/envelopes/{id}/redact"),
    ("GET", "/v1/envelopes/{id}/grabs"),
    ("GET", "/v1/envelopes/{id}/grabs/{user}"),
    ("POST", "/v1/grabs"),
    ("GET", "/v1/users/{user}/sent"),
    ("GET", "/v1/users/{user}/received"),
    ("GET", "/v1/audit"),
    ("GET", "/v1/payments"),
    ("GET", "/v1/payments/{id}"),
    ("POST", "/v1/payments/callbacks/{gateway}"),
    ("GET", "/v1/payouts"),
    ("GET", "/v1/payouts/{id}"),
    ("POST", "/v1/payouts/results"),
    ("POST", "/v1/merchants"),
    ("GET", "/v1/merchants"),
    ("GET", "/v1/merchants/{id}"),
    ("GET", "/v1/merchants/{id}/balance"),
    ("GET", "/v1/merchants/{id}/statement"),
    ("POST", "/v1/merchants/{id}/withdrawals"),
    ("POST", "/v1/items"),
    ("GET", "/v1/items"),
    ("GET", "/v1/items/{id}"),
    ("PATCH", "/v1/items/{id}"),
    ("POST", "/v1/items/{id}/restock"),
    ("POST", "/v1/items/{id}/codes"),
    ("POST", "/v1/items/{id}/grab"),
    ("GET", "/v1/holds/{id}"),
    ("POST", "/v1/holds/{id}/claim"),
    ("POST", "/v1/holds/{id}/release"),
    ("GET", "/v1/orders/{id}"),
    ("POST", "/v1/orders/{id}/ship"),
    ("POST", "/v1/orders/{id}/deliver"),
    ("POST", "/v1/orders/{id}/return"),
    ("POST", "/v1/orders/{id}/accept-return"),
    ("POST", "/v1/orders/{id}/refuse-return"),
    ("POST", "/v1/test/clock"),
    ("POST", "/v1/test/faults"),
    ("POST", "/v1/gifts"),
    ("GET", "/v1/gifts/{id}"),
    ("GET", "/v1/gifts/{id}/codes"),
    ("POST", "/v1/gifts/{id}/pay"),
    ("POST", "/v1/gifts/{id}/payment"),
    ("POST", "/v1/gifts/{id}/accept"),
    ("POST", "/v1/gifts/{id}/decline"),
    ("POST", "/v1/gifts/{id}/cancel"),
    ("POST", "/v1/gifts/{id}/thank"),
    ("POST", "/v1/gifts/{id}/ship"),
    ("POST", "/v1/gifts/{id}/deliver"),
    ("POST", "/v1/gifts/{id}/fail"),
    ("POST", "/v1/gifts/{id}/redact"),
    ("GET", "/v1/gifts/{id}/address"),
    ("POST", "/v1/gifts/{id}/address/erase"),
    ("GET", "/v1/users/{user}/gifts"),
    ("POST", "/v1/items/{id}/groups"),
    ("GET", "/v1/items/{id}/groups"),
    ("GET", "/v1/groups/{id}"),
    ("POST", "/v1/groups/{id}/join"),
    ("POST", "/v1/groups/{id}/leave"),
    ("GET", "/v1/users/{user}/groups"),
    ("POST", "/v1/gift-envelopes"),
    ("GET", "/v1/gift-envelopes/{id}"),
    ("POST", "/v1/gift-envelopes/{id}/pay"),
    ("POST", "/v1/gift-envelopes/{id}/grab"),
    ("POST", "/v1/gift-envelopes/{id}/cancel"),
    ("GET", "/v1/users/{user}/gift-envelopes"),
    ("POST", "/v1/relations"),
    ("GET", "/v1/users/{user}/relations"),
    ("DELETE", "/v1/users/{user}/relations"),
    ("GET", "/v1/events"),
    ("POST", "/v1/webhooks"),
    ("GET", "/v1/webhooks"),
    ("GET", "/v1/webhooks/{id}"),
    ("PATCH", "/v1/webhooks/{id}"),
    ("DELETE", "/v1/webhooks/{id}"),
    ("POST", "/v1/webhooks/{id}/rotate"),
    ("POST", "/v1/webhooks/{id}/test"),
    ("GET", "/v1/webhooks/{id}/dead"),
    ("POST", "/v1/webhooks/{id}/redeliver"),
    ("POST", "/v1/keys"),
    ("GET", "/v1/keys"),
    ("DELETE", "/v1/keys/{id}"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
];

impl Client {
    /// Put money into a wallet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deposit(&self, user: &str, body: &types::Transfer) -> Result<types::Wallet, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/wallets/{}/deposits", &[user]).json(body).keyed()).await?)
    }

    /// Take money out of a wallet.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn withdraw(&self, user: &str, body: &types::Transfer) -> Result<types::Wallet, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/wallets/{}/withdrawals", &[user]).json(body).keyed()).await?)
    }

    /// A wallet; a user never seen has zeros.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn wallet(&self, user: &str) -> Result<types::Wallet, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/wallets/{}", &[user])).await?)
    }

    /// A wallet's movements, newest first. All of them, page after page as they are asked for; `limit` is a page's
    /// size.
    pub fn entries(&self, user: &str, query: &types::EntriesQuery) -> Pages<types::Entry> {
        Pages::new(self, Call::new(Method::GET, "/v1/wallets/{}/entries", &[user]).query(&query.told()), |body| {
            read::<types::Entries>(body).map(|page| (page.entries, page.next_cursor))
        })
    }

    /// Create an envelope, from its sender's wallet or funded from outside.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_envelope(&self, body: &types::NewEnvelope) -> Result<types::Envelope, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/envelopes", &[]).json(body).keyed()).await?)
    }

    /// Envelopes, newest first. All of them, page after page as they are asked for; `limit` is a page's size.
    pub fn envelopes(&self, query: &types::EnvelopesQuery) -> Pages<types::Envelope> {
        Pages::new(self, Call::new(Method::GET, "/v1/envelopes", &[]).query(&query.told()), |body| {
            read::<types::Envelopes>(body).map(|page| (page.envelopes, page.next_cursor))
        })
    }

    /// An envelope.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn envelope(&self, id: &str) -> Result<types::Envelope, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/envelopes/{}", &[id])).await?)
    }

    /// Take a share, at most one a user.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn grab(&self, id: &str, body: &types::ByUser) -> Result<types::GrabOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/envelopes/{}/grab", &[id]).json(body)).await?)
    }

    /// Credit a grabbed share to its winner.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn claim(&self, id: &str, body: &types::ByUser) -> Result<types::ClaimOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/envelopes/{}/claim", &[id]).json(body)).await?)
    }

    /// End an envelope; unsold shares go back to the sender.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel(&self, id: &str) -> Result<types::Envelope, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/envelopes/{}/cancel", &[id]).json(&serde_json::json!({})).keyed()).await?)
    }

    /// Take an envelope's message back. Whatever has become of the envelope. From the answer on nobody is told the
    /// message any more, also not who repeats the call that made the envelope; docs/REDACT.md says what lies where on
    /// disk, and until when. Asked again it answers the same. It is not undone.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn redact(&self, id: &str, body: &types::Redact) -> Result<types::Envelope, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/envelopes/{}/redact", &[id]).json(body)).await?)
    }

    /// An envelope's grabs, by share. All of them, page after page as they are asked for; `limit` is a page's size.
    pub fn grabs(&self, id: &str, query: &types::GrabsQuery) -> Pages<types::Grab> {
        Pages::new(self, Call::new(Method::GET, "/v1/envelopes/{}/grabs", &[id]).query(&query.told()), |body| {
            read::<types::Grabs>(body).map(|page| (page.grabs, page.next_cursor))
        })
    }

    /// A user's grab; never grabs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn grab_of(&self, id: &str, user: &str) -> Result<types::Grab, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/envelopes/{}/grabs/{}", &[id, user])).await?)
    }

    /// Grab from many envelopes, each for itself.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn grab_many(&self, body: &types::GrabMany) -> Result<types::GrabResults, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/grabs", &[]).json(body)).await?)
    }

    /// Envelopes a user sent, newest first. All of them, page after page as they are asked for; `limit` is a page's
    /// size.
    pub fn sent(&self, user: &str, query: &types::SentQuery) -> Pages<types::Envelope> {
        Pages::new(self, Call::new(Method::GET, "/v1/users/{}/sent", &[user]).query(&query.told()), |body| {
            read::<types::Envelopes>(body).map(|page| (page.envelopes, page.next_cursor))
        })
    }

    /// Shares a user grabbed, newest first. All of them, page after page as they are asked for; `limit` is a page's
    /// size.
    pub fn received(&self, user: &str, query: &types::ReceivedQuery) -> Pages<types::Received> {
        Pages::new(self, Call::new(Method::GET, "/v1/users/{}/received", &[user]).query(&query.told()), |body| {
            read::<types::ReceivedGrabs>(body).map(|page| (page.grabs, page.next_cursor))
        })
    }

    /// Where all money is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn audit(&self) -> Result<types::Audit, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/audit", &[])).await?)
    }

    /// Payments outside, state by state, the oldest first. A page may be short, even empty, and still have a next
    /// one. `discrepant=true`: those of which a gateway said what cannot be right. All of them, page after page as
    /// they are asked for; `limit` is a page's size.
    pub fn payments(&self, query: &types::PaymentsQuery) -> Pages<types::Payment> {
        Pages::new(self, Call::new(Method::GET, "/v1/payments", &[]).query(&query.told()), |body| {
            read::<types::Payments>(body).map(|page| (page.payments, page.next_cursor))
        })
    }

    /// A payment outside.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn payment(&self, id: &str) -> Result<types::Payment, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/payments/{}", &[id])).await?)
    }

    /// What a payment gateway calls back. Needs no key: the headers webhook-id, webhook-timestamp and
    /// webhook-signature sign it as Standard Webhooks says, with the gateway's secret, at most five minutes ago. 401
    /// for what is not so signed, or is about a payment of another gateway. Told twice it has one effect. A body of
    /// up to 64 KiB.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn payment_callback(&self, gateway: &str, body: &types::GatewayMessage) -> Result<types::PaymentTaken, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/payments/callbacks/{}", &[gateway]).json(body)).await?)
    }

    /// Payouts, the oldest first. A page may be short, even empty, and still have a next one. While states change, no
    /// payout is told twice on the way from page to page. An issuer sees those of its owner's envelopes. All of them,
    /// page after page as they are asked for; `limit` is a page's size.
    pub fn payouts(&self, query: &types::PayoutsQuery) -> Pages<types::Payout> {
        Pages::new(self, Call::new(Method::GET, "/v1/payouts", &[]).query(&query.told()), |body| {
            read::<types::Payouts>(body).map(|page| (page.payouts, page.next_cursor))
        })
    }

    /// A payout.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn payout(&self, id: &str) -> Result<types::Payout, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/payouts/{}", &[id])).await?)
    }

    /// Tell what came of payouts, each for itself. due leads to sent, paid or failed; sent to paid or failed; failed
    /// to due, under the same id. paid is final. The same again is the same answer. The whole call is remembered
    /// under its Idempotency-Key, so that a repeat that comes late changes nothing.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tell_payout_results(&self, body: &types::PayoutResults) -> Result<types::PayoutAnswers, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/payouts/results", &[]).json(body).keyed()).await?)
    }

    /// Register or change a merchant. The money of a sale is pending for `settle_after_s`, and then available to the
    /// merchant, less a commission of `commission_bps` that is the platform's; a change of either is for sales from
    /// then on. Only a verified merchant's items can be put on sale and grabbed. Units that are held when it is
    /// suspended may still be paid. With the status `verified` its papers count as checked: `verification` says by
    /// whom and under which reference; left out, by the calling key. It stays when a merchant is suspended, and goes
    /// when it is pending again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_merchant(&self, body: &types::NewMerchant) -> Result<types::Merchant, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/merchants", &[]).json(body).keyed()).await?)
    }

    /// Merchants, by their ids. All of them, page after page as they are asked for; `limit` is a page's size.
    pub fn merchants(&self, query: &types::MerchantsQuery) -> Pages<types::Merchant> {
        Pages::new(self, Call::new(Method::GET, "/v1/merchants", &[]).query(&query.told()), |body| {
            read::<types::Merchants>(body).map(|page| (page.merchants, page.next_cursor))
        })
    }

    /// A merchant.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn merchant(&self, id: &str) -> Result<types::Merchant, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/merchants/{}", &[id])).await?)
    }

    /// What a merchant has of its sales.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn merchant_balance(&self, id: &str) -> Result<types::SalesBalance, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/merchants/{}/balance", &[id])).await?)
    }

    /// The movements of a merchant's money in a time, the oldest first. Opening and entries are the closing. A time
    /// that is over is told the same whenever it is asked for. All of them, page after page as they are asked for;
    /// `limit` is a page's size.
    pub fn merchant_statement(&self, id: &str, query: &types::MerchantStatementQuery) -> Pages<types::SalesEntry> {
        Pages::new(self, Call::new(Method::GET, "/v1/merchants/{}/statement", &[id]).query(&query.told()), |body| {
            read::<types::SalesStatement>(body).map(|page| (page.entries, page.next_cursor))
        })
    }

    /// Take available money of a merchant out. 409 `insufficient_funds` if less is available: what is pending cannot
    /// be taken out.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn withdraw_sales(&self, id: &str, body: &types::Transfer) -> Result<types::SalesBalance, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/merchants/{}/withdrawals", &[id]).json(body).keyed()).await?)
    }

    /// Put an item on sale.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_item(&self, body: &types::NewItem) -> Result<types::Item, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/items", &[]).json(body).keyed()).await?)
    }

    /// Items, newest first. All of them, page after page as they are asked for; `limit` is a page's size.
    pub fn items(&self, query: &types::ItemsQuery) -> Pages<types::Item> {
        Pages::new(self, Call::new(Method::GET, "/v1/items", &[]).query(&query.told()), |body| {
            read::<types::Items>(body).map(|page| (page.items, page.next_cursor))
        })
    }

    /// An item.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn item(&self, id: &str) -> Result<types::Item, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/items/{}", &[id])).await?)
    }

    /// Change an item. An issuer changes its owner's items, and those that were made before items had owners; another
    /// owner's is 404. Holds keep the price they saw.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_item(&self, id: &str, body: &types::ItemChange) -> Result<types::Item, Error> {
        read(&self.call(Call::new(Method::PATCH, "/v1/items/{}", &[id]).json(body).keyed()).await?)
    }

    /// Add units to an item's stock. An issuer restocks its owner's items, and those that were made before items had
    /// owners; another owner's is 404. The stock of an item of the kind `code` is the number of its codes: 409
    /// `wrong_state`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn restock(&self, id: &str, body: &types::Restock) -> Result<types::Item, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/items/{}/restock", &[id]).json(body).keyed()).await?)
    }

    /// Add codes to an item of the kind `code`, all of them or none. Each code becomes a unit and is handed out once,
    /// in the order in which codes were added: with the order that pays for it, or as a gift of it is accepted. One
    /// that the item has had before is 422, named by its place, and nothing is added. For an item of another kind
    /// this is 409 `wrong_state`. An issuer adds to its owner's items; another owner's is 404.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_codes(&self, id: &str, body: &types::NewCodes) -> Result<types::Item, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/items/{}/codes", &[id]).json(body).keyed()).await?)
    }

    /// Hold units for a user, all or none. Of a merchant that is pending or suspended nothing is held: 409
    /// `wrong_state`. Who already has the one unit there is a user is told of it all the same.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn grab_item(&self, id: &str, body: &types::ItemGrab) -> Result<types::ItemGrabOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/items/{}/grab", &[id]).json(body).keyed()).await?)
    }

    /// A hold.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn hold(&self, id: &str) -> Result<types::Hold, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/holds/{}", &[id])).await?)
    }

    /// Pay for a hold from its user's wallet, or with `pay_with` outside, at a payment gateway.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn claim_hold(&self, id: &str, body: &types::HoldClaim) -> Result<types::HoldClaimOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/holds/{}/claim", &[id]).json(body)).await?)
    }

    /// Give a hold's units back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn release_hold(&self, id: &str, body: &types::ByUser) -> Result<types::ReleaseOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/holds/{}/release", &[id]).json(body)).await?)
    }

    /// An order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn order(&self, id: &str) -> Result<types::Order, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/orders/{}", &[id])).await?)
    }

    /// Say that an order was sent. Only its own merchant does; to others it is 404.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ship_order(&self, id: &str, body: &types::OrderShip) -> Result<types::Order, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/orders/{}/ship", &[id]).json(body).keyed()).await?)
    }

    /// Say that an order has arrived. From then on it may be sent back for as long as its item says.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deliver_order(&self, id: &str) -> Result<types::Order, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/orders/{}/deliver", &[id]).json(&serde_json::json!({})).keyed()).await?)
    }

    /// Ask to send an order back. By who has paid, until `return_within_s` of its item after its delivery. If the
    /// merchant has not answered by `answer_by`, to ask again takes effect: the money goes back.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn return_order(&self, id: &str, body: &types::OrderReturn) -> Result<types::Order, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/orders/{}/return", &[id]).json(body).keyed()).await?)
    }

    /// Take an order back: its money goes to who had paid. 409 `insufficient_funds` if the merchant has less
    /// available than was paid: repeat it once more of its sales are settled.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn accept_return(&self, id: &str, body: &types::AcceptReturn) -> Result<types::Order, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/orders/{}/accept-return", &[id]).json(body).keyed()).await?)
    }

    /// Do not take an order back. Until `answer_by`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn refuse_return(&self, id: &str, body: &types::RefuseReturn) -> Result<types::Order, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/orders/{}/refuse-return", &[id]).json(body).keyed()).await?)
    }

    /// Move the clock forward; only with --test, else 404.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn advance_clock(&self, body: &types::Advance) -> Result<types::Clock, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/test/clock", &[]).json(body).not_repeatable()).await?)
    }

    /// Make the next requests fail; only with --test, else 404. Befalls requests under /v1, but not those under
    /// /v1/test. `overloaded`: 503, and nothing happens. `slow`: carried out two seconds later. `lose_reply`: carried
    /// out, and the connection ends without an answer; ask again, with the same key. A count of 0 takes back what is
    /// left.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn plant_faults(&self, body: &types::Faults) -> Result<types::Faults, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/test/faults", &[]).json(body)).await?)
    }

    /// Set a unit aside and give it; the giver pays at once, or somebody else is asked to.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_gift(&self, body: &types::NewGift) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts", &[]).json(body).keyed()).await?)
    }

    /// A gift.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gift(&self, id: &str) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/gifts/{}", &[id])).await?)
    }

    /// The code of a gift, for who has accepted it. Of an item of another kind there are none. For anybody but the
    /// recipient who has accepted, the giver among them, this is 403.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gift_codes(&self, id: &str, query: &types::GiftCodesQuery) -> Result<types::Codes, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/gifts/{}/codes", &[id]).query(&query.told())).await?)
    }

    /// Pay for a gift that one was asked to pay for.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pay_gift(&self, id: &str, body: &types::GiftPay) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/pay", &[id]).json(body).keyed()).await?)
    }

    /// Pay outside, at a payment gateway, for a gift that one was asked to pay for. Asked again while that is open,
    /// the same payment. The gift does not expire before the payment does.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pay_gift_outside(&self, id: &str, body: &types::GiftPayOutside) -> Result<types::GiftPaymentOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/payment", &[id]).json(body)).await?)
    }

    /// Accept a gift, and say where it is to be sent; again with another address until it is shipped.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn accept_gift(&self, id: &str, body: &types::GiftAccept) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/accept", &[id]).json(body).keyed()).await?)
    }

    /// Decline a gift; the money goes back to whoever paid.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn decline_gift(&self, id: &str, body: &types::GiftDecline) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/decline", &[id]).json(body).keyed()).await?)
    }

    /// Take a gift back before it is accepted.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_gift(&self, id: &str, body: &types::ByUser) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/cancel", &[id]).json(body).keyed()).await?)
    }

    /// Say thank you; a later note stands for an earlier one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn thank_for_gift(&self, id: &str, body: &types::GiftThank) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/thank", &[id]).json(body).keyed()).await?)
    }

    /// Ship a gift; its money is the merchant's from then on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ship_gift(&self, id: &str, body: &types::GiftShip) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/ship", &[id]).json(body).keyed()).await?)
    }

    /// Tell that a gift has arrived.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn deliver_gift(&self, id: &str) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/deliver", &[id]).json(&serde_json::json!({})).keyed()).await?)
    }

    /// Tell that a gift cannot be shipped; the money goes back to whoever paid.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fail_gift(&self, id: &str, body: &types::GiftFail) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/fail", &[id]).json(body).keyed()).await?)
    }

    /// Take a gift's texts back: its message, a reason and a note. Whatever has become of the gift. From the answer
    /// on nobody is told its texts any more, also not who repeats a call about it; docs/REDACT.md says what lies
    /// where on disk, and until when. Asked again it answers the same, or takes back what was written since. It is
    /// not undone.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn redact_gift(&self, id: &str, body: &types::Redact) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/redact", &[id]).json(body)).await?)
    }

    /// Where a gift is to be sent, for its merchant only; each reading is in the server's log.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gift_address(&self, id: &str) -> Result<types::GiftAddress, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/gifts/{}/address", &[id])).await?)
    }

    /// Make a gift's address unreadable at once, for ever; again, the same.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn erase_gift_address(&self, id: &str) -> Result<types::Gift, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gifts/{}/address/erase", &[id]).json(&serde_json::json!({}))).await?)
    }

    /// A user's gifts, newest first. All of them, page after page as they are asked for; `limit` is a page's size.
    pub fn gifts_of(&self, user: &str, query: &types::GiftsOfQuery) -> Pages<types::Gift> {
        Pages::new(self, Call::new(Method::GET, "/v1/users/{}/gifts", &[user]).query(&query.told()), |body| {
            read::<types::Gifts>(body).map(|page| (page.gifts, page.next_cursor))
        })
    }

    /// Open a group that buys an item together. The leader pays the price for groups at once and has a unit set
    /// aside, as every member has. When the last has joined each has an order; otherwise all have their money back.
    /// With no unit to be had, before the sale opens or after its end, and at the leader's limit it is 409
    /// `wrong_state`, with too little money 409 `insufficient_funds`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn open_group(&self, id: &str, body: &types::NewGroup) -> Result<types::Group, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/items/{}/groups", &[id]).json(body).keyed()).await?)
    }

    /// An item's groups, newest first. All of them, page after page as they are asked for; `limit` is a page's size.
    pub fn groups_of_item(&self, id: &str, query: &types::GroupsOfItemQuery) -> Pages<types::Group> {
        Pages::new(self, Call::new(Method::GET, "/v1/items/{}/groups", &[id]).query(&query.told()), |body| {
            read::<types::Groups>(body).map(|page| (page.groups, page.next_cursor))
        })
    }

    /// A group.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn group(&self, id: &str) -> Result<types::Group, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/groups/{}", &[id])).await?)
    }

    /// Join a group. Again, the same with `replayed`. A group whose time is over is `expired`, exactly from
    /// `expires_at` on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn join_group(&self, id: &str, body: &types::ByUser) -> Result<types::GroupOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/groups/{}/join", &[id]).json(body).keyed()).await?)
    }

    /// Leave a group that is not full. The money and the unit come back. If its leader leaves it ends, and all have
    /// their money back. Who is not in it has nothing to leave: again, the same. A member of one that is full has an
    /// order: 409 `wrong_state`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn leave_group(&self, id: &str, body: &types::ByUser) -> Result<types::Group, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/groups/{}/leave", &[id]).json(body).keyed()).await?)
    }

    /// Groups that a user is in, newest first. Of those that came to nothing, those that the user was in then. All of
    /// them, page after page as they are asked for; `limit` is a page's size.
    pub fn groups_of_user(&self, user: &str, query: &types::GroupsOfUserQuery) -> Pages<types::Group> {
        Pages::new(self, Call::new(Method::GET, "/v1/users/{}/groups", &[user]).query(&query.told()), |body| {
            read::<types::Groups>(body).map(|page| (page.groups, page.next_cursor))
        })
    }

    /// Set units of an item aside for whoever comes first, one for each. Each unit is a gift, paid at once with all
    /// others or by whoever is asked, and grabbed by at most one user. Too few units, or more than the giver may
    /// have: 409 `wrong_state`, and nothing is made. In front of Redis this is 409 `wrong_state`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_gift_envelope(&self, body: &types::NewGiftEnvelope) -> Result<types::GiftEnvelope, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gift-envelopes", &[]).json(body).keyed()).await?)
    }

    /// A gift envelope, with its gifts.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn gift_envelope(&self, id: &str) -> Result<types::GiftEnvelope, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/gift-envelopes/{}", &[id])).await?)
    }

    /// Pay for all units, as whoever was asked to.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn pay_gift_envelope(&self, id: &str, body: &types::GiftPay) -> Result<types::GiftEnvelope, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gift-envelopes/{}/pay", &[id]).json(body).keyed()).await?)
    }

    /// Grab a gift, at most one a user; again: the same gift. The gift is then this user's to accept or to decline,
    /// within `accept_within_s`. Guards in this order: not found, has one already (`replayed`), token, blocked, not
    /// paid (409), sold out, expired or cancelled.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn grab_gift(&self, id: &str, body: &types::GiftGrab) -> Result<types::GiftGrabOutcome, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gift-envelopes/{}/grab", &[id]).json(body)).await?)
    }

    /// Take back what nobody has grabbed; again: the same answer.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cancel_gift_envelope(&self, id: &str, body: &types::ByUser) -> Result<types::GiftEnvelope, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/gift-envelopes/{}/cancel", &[id]).json(body).keyed()).await?)
    }

    /// Gift envelopes that a user gives, newest first. All of them, page after page as they are asked for; `limit` is
    /// a page's size.
    pub fn gift_envelopes_of(&self, user: &str, query: &types::GiftEnvelopesOfQuery) -> Pages<types::GiftEnvelope> {
        Pages::new(self, Call::new(Method::GET, "/v1/users/{}/gift-envelopes", &[user]).query(&query.told()), |body| {
            read::<types::GiftEnvelopes>(body).map(|page| (page.gift_envelopes, page.next_cursor))
        })
    }

    /// Tell who follows and who blocks whom. Each stands for what was told of the same two before, in this direction;
    /// of one that is told twice in a call the last counts. All of them or none; the same again changes nothing.
    /// Between two of whom one blocks the other nothing is given or paid, by whomever it is tried: 403. With
    /// `--gifts-may-give mutual` a recipient and the giver have to follow each other, unless the call says `mutual`.
    /// No event tells of relations. In front of Redis this is 409 `wrong_state`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_relations(&self, body: &types::NewRelations) -> Result<types::RelationsTold, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/relations", &[]).json(body)).await?)
    }

    /// What a user is to others, by their names. What others are to the user is not told: who is blocked is not to
    /// learn by whom. All of them, page after page as they are asked for; `limit` is a page's size.
    pub fn relations_of(&self, user: &str, query: &types::RelationsOfQuery) -> Pages<types::Relation> {
        Pages::new(self, Call::new(Method::GET, "/v1/users/{}/relations", &[user]).query(&query.told()), |body| {
            read::<types::Relations>(body).map(|page| (page.relations, page.next_cursor))
        })
    }

    /// Forget what a user is to others, and what they are to the user; again: the same answer. What is told of that
    /// user while it is carried out may stay. In front of Redis there is nothing to forget.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn erase_relations(&self, user: &str) -> Result<(), Error> {
        self.call(Call::new(Method::DELETE, "/v1/users/{}/relations", &[user])).await.map(drop)
    }

    /// What has happened, in order; waits for it. Everything that was acknowledged before it was asked for is there,
    /// or comes behind the cursor; nothing is passed over, and what is told survives a crash. Order is that in which
    /// things happened to one envelope, wallet, item, hold or payout. An event has the same id whenever it is told.
    /// With no events behind `after` the answer waits for one, up to `wait_s`, and is then empty, with a cursor to go
    /// on from. With `Accept: text/event-stream` they come as they happen, until the server stops: an event's `id` is
    /// the cursor behind it, and a stream that broke off goes on behind the header Last-Event-ID. A key with the role
    /// issuer and neither viewer nor admin is told what happens to its owner's envelopes and their payouts, and of
    /// its items what is put.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(&self, query: &types::EventsQuery) -> Result<types::Events, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/events", &[]).query(&query.told()).poll_s(query.wait_s.unwrap_or(POLL_S))).await?)
    }

    /// Make an endpoint for events; its secret is in this answer only. The url has to be one that the operator allows
    /// (--webhook-allow). Repeated with the same Idempotency-Key, `secret` is null: if the first answer was lost,
    /// rotate it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_webhook(&self, body: &types::NewWebhook) -> Result<types::Webhook, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/webhooks", &[]).json(body).keyed()).await?)
    }

    /// Endpoints and how they are, the newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn webhooks(&self) -> Result<types::Webhooks, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/webhooks", &[])).await?)
    }

    /// An endpoint and how it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn webhook(&self, id: &str) -> Result<types::Webhook, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/webhooks/{}", &[id])).await?)
    }

    /// Change, disable or enable an endpoint. What waits is tried at once. Events that happened while it was disabled
    /// are sent when it is enabled.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn change_webhook(&self, id: &str, body: &types::WebhookChange) -> Result<types::Webhook, Error> {
        read(&self.call(Call::new(Method::PATCH, "/v1/webhooks/{}", &[id]).json(body)).await?)
    }

    /// Delete an endpoint with its dead letters; again: the same answer. A request that is on its way may still
    /// arrive.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_webhook(&self, id: &str) -> Result<(), Error> {
        self.call(Call::new(Method::DELETE, "/v1/webhooks/{}", &[id])).await.map(drop)
    }

    /// Give an endpoint a new secret, shown in this answer only. For 24 hours the old one signs too, so that the
    /// header has two signatures.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rotate_webhook(&self, id: &str) -> Result<types::Webhook, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/webhooks/{}/rotate", &[id]).json(&serde_json::json!({})).keyed()).await?)
    }

    /// Send a ping now, and tell what came back. The body of the request is {"type":"ping","webhook":"hook_…"}. It
    /// takes up to 15 seconds, and is sent also to what is disabled.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn test_webhook(&self, id: &str) -> Result<types::WebhookPinged, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/webhooks/{}/test", &[id]).json(&serde_json::json!({}))).await?)
    }

    /// Batches that were given up, the oldest first. The last 100. Their events are in the feed as long as events are
    /// kept.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn dead_letters(&self, id: &str) -> Result<types::DeadLetters, Error> {
        read(&self.call(Call::new(Method::GET, "/v1/webhooks/{}/dead", &[id])).await?)
    }

    /// Send dead letters once more, or everything since a cursor. Dead letters keep their webhook-id. What is sent
    /// since a cursor has new ones: its events have the ids they had.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn redeliver_webhook(&self, id: &str, body: &types::Redeliver) -> Result<types::Webhook, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/webhooks/{}/redeliver", &[id]).json(body)).await?)
    }

    /// Make an API key; it is shown in this answer only. Repeated with the same Idempotency-Key, `key` is null: it is
    /// not kept, so it cannot be shown again. If the first answer was lost, delete the key by its id and make
    /// another.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_key(&self, body: &types::NewKey) -> Result<types::MadeKey, Error> {
        read(&self.call(Call::new(Method::POST, "/v1/keys", &[]).json(body).keyed()).await?)
    }

    /// API keys that were not deleted, newest first. All of them, page after page as they are asked for; `limit` is a
    /// page's size.
    pub fn keys(&self, query: &types::KeysQuery) -> Pages<types::Key> {
        Pages::new(self, Call::new(Method::GET, "/v1/keys", &[]).query(&query.told()), |body| {
            read::<types::Keys>(body).map(|page| (page.keys, page.next_cursor))
        })
    }

    /// Delete an API key; again: the same answer. No request that comes in after the answer is let in with it. With
    /// several servers in front of Redis the others follow within a second. What was let in before goes on.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_key(&self, id: &str) -> Result<(), Error> {
        self.call(Call::new(Method::DELETE, "/v1/keys/{}", &[id])).await.map(drop)
    }

    /// Whether the process lives.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn livez(&self) -> Result<types::Status, Error> {
        read(&self.call(Call::new(Method::GET, "/livez", &[])).await?)
    }

    /// Whether it serves. 503 also while the store takes no writes: requests are then answered until too much waits
    /// for it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn readyz(&self) -> Result<types::Status, Error> {
        read(&self.call(Call::new(Method::GET, "/readyz", &[])).await?)
    }

    /// Prometheus metrics.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn metrics(&self) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.call(Call::new(Method::GET, "/metrics", &[])).await?).into_owned())
    }

    /// This document.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn openapi(&self) -> Result<serde_json::Map<String, serde_json::Value>, Error> {
        read(&self.call(Call::new(Method::GET, "/openapi.json", &[])).await?)
    }
}
