//! `hongbao demo`: a Spring Festival campaign to play with.
//!
//! **Invariant:** everything in it was made by ordinary commands, so its audit
//! balances like any other.

use hongbao_engine::EngineError;
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{
    Command, EnvelopeView, ItemView, Merchant, MerchantStatus, NewEnvelope, NewItem, Outcome, Transfer, Unclaimed,
};
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::{Amount, UserId};
use std::fmt;

const OWNER: &str = "admin";
const MINUTE_S: u64 = 60;
const DAY_S: u64 = 86_400;

/// What was made.
pub struct Campaign {
    /// 88.88 in 88 shares of luck.
    pub lucky: EnvelopeView,
    /// The same to everyone, credited at once.
    pub equal: EnvelopeView,
    /// Opens a minute after the start.
    pub midnight: EnvelopeView,
    /// Roses, one bunch a user.
    pub roses: ItemView,
}

/// Why there is no campaign.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The engine could not.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine would not.
    #[error("the demonstration's campaign was refused: {0:?}")]
    Refused(Outcome),
}

/// Makes the campaign.
///
/// # Errors
/// [`DemoError`], which is a mistake here or a full disk.
pub async fn campaign<B: Backend>(backend: &B) -> Result<Campaign, DemoError> {
    for (user, minor) in [("spring-gala", 10_000_000), ("alice", 100_000), ("bob", 100_000)] {
        let transfer = Transfer { user: user_id(user), amount: amount(minor), reference: None };
        backend.execute(Command::Deposit(transfer), None).await?;
    }
    let least = amount(1);
    let lucky = envelope(SplitRule::Lucky { min_share: least, max_share: None }, 8_888, 88, "恭喜发财");
    let equal = NewEnvelope { auto_claim: true, ..envelope(SplitRule::Equal, 8_800, 100, "年年有余") };
    let midnight = NewEnvelope {
        opens_at: Some(backend.now().plus_s(MINUTE_S)),
        ..envelope(SplitRule::Uniform { min_share: least }, 1_000_000, 10_000, "新年快乐")
    };
    let rosy = Merchant { id: user_id("rosy"), name: "Rosy's Flowers".to_owned(), status: MerchantStatus::Verified };
    backend.execute(Command::PutMerchant(Box::new(rosy)), None).await?;
    Ok(Campaign {
        lucky: made(backend, lucky).await?,
        equal: made(backend, equal).await?,
        midnight: made(backend, midnight).await?,
        roses: roses(backend).await?,
    })
}

async fn made<B: Backend>(backend: &B, terms: NewEnvelope) -> Result<EnvelopeView, DemoError> {
    match backend.execute(Command::CreateEnvelope(Box::new(terms)), None).await?.outcome {
        Outcome::Envelope(view) => Ok(*view),
        other => Err(DemoError::Refused(other)),
    }
}

async fn roses<B: Backend>(backend: &B) -> Result<ItemView, DemoError> {
    let terms = NewItem {
        merchant: user_id("rosy"),
        name: "99 roses".to_owned(),
        category: "flowers".to_owned(),
        price: amount(29_900),
        stock: 500,
        per_user_limit: Some(1),
        starts_at: None,
        ends_at: None,
        hold_ttl_s: 15 * MINUTE_S,
        image_url: None,
    };
    match backend.execute(Command::CreateItem(Box::new(terms)), None).await?.outcome {
        Outcome::Item(view) => Ok(*view),
        other => Err(DemoError::Refused(other)),
    }
}

fn envelope(split: SplitRule, total: u64, shares: u32, message: &str) -> NewEnvelope {
    NewEnvelope {
        owner: OWNER.to_owned(),
        sender: user_id("spring-gala"),
        total: amount(total),
        shares,
        split,
        message: message.to_owned(),
        opens_at: None,
        expires_in_s: DAY_S,
        claim_within_s: DAY_S,
        auto_claim: false,
        unclaimed: Unclaimed::Return,
        reference: None,
        metadata: "{}".to_owned(),
        client_seed: None,
    }
}

fn amount(minor: u64) -> Amount {
    Amount::new(minor).expect("the campaign's amounts are small")
}

fn user_id(text: &str) -> UserId {
    UserId::new(text).expect("the campaign's users are well-formed")
}

/// What to type first.
pub struct Invitation<'a> {
    /// What there is to grab.
    pub campaign: &'a Campaign,
    /// Where it is served.
    pub url: String,
    /// The key that opens it.
    pub key: &'a str,
}

impl fmt::Display for Invitation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Invitation { campaign, url, key } = self;
        let Campaign { lucky, equal, midnight, roses } = campaign;
        writeln!(f, "A Spring Festival campaign is on. Stop with Ctrl-C; nothing is kept.\n")?;
        writeln!(f, "  {} {}: {} in {} shares of luck", lucky.id, lucky.message, lucky.total, lucky.shares)?;
        writeln!(
            f,
            "  {} {}: {} in {} equal shares, paid at once",
            equal.id, equal.message, equal.total, equal.shares
        )?;
        writeln!(f, "  {} {}: {} shares, opens in a minute", midnight.id, midnight.message, midnight.shares)?;
        writeln!(f, "  {} {} at {}, {} in stock\n", roses.id, roses.terms.name, roses.terms.price, roses.stock.total)?;
        writeln!(
            f,
            "call() {{ curl -s -H 'authorization: Bearer {key}' -H 'content-type: application/json' \"$@\"; echo; }}"
        )?;
        writeln!(f, "call {url}/v1/envelopes/{}/grab -d '{{\"user\":\"bob\"}}'", lucky.id)?;
        writeln!(f, "call {url}/v1/envelopes/{}/claim -d '{{\"user\":\"bob\"}}'", lucky.id)?;
        writeln!(f, "call {url}/v1/wallets/bob")?;
        writeln!(f, "call {url}/v1/items/{}/grab -d '{{\"user\":\"bob\"}}'", roses.id)?;
        writeln!(f, "call {url}/v1/test/clock -d '{{\"advance_s\":86400}}'")?;
        write!(f, "call {url}/v1/audit\n\nEverything else: {url}/docs")
    }
}
