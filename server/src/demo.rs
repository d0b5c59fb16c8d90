//! `hongbao demo`: a Spring Festival campaign to look at and to grab from.

use hongbao_engine::EngineError;
use hongbao_engine::backend::Backend;
use hongbao_engine::command::{
    Command, ItemOrigin, MerchantStatus, NewEnvelope, NewItem, NewMerchant, Outcome, Reference, Transfer,
};
use hongbao_engine::group::GroupBuy;
use hongbao_engine::split::SplitRule;
use hongbao_engine::types::{Amount, EnvelopeId, ItemId, UserId};
use std::net::SocketAddr;

/// Group chats, who sends in them, and how many people are there.
const GROUPS: [(&str, &str, u32); 12] = [
    ("相亲相爱一家人", "grandma-chen", 12),
    ("姥姥家的饭桌", "uncle-wang", 9),
    ("高中三班", "li-na", 48),
    ("大学寝室 502", "zhang-wei", 6),
    ("产品部摸鱼群", "boss-liu", 32),
    ("周末羽毛球", "coach-zhao", 18),
    ("小区团购", "auntie-sun", 100),
    ("宝妈交流", "mama-huang", 76),
    ("深圳老乡会", "lao-xu", 88),
    ("程序员的自我修养", "wu-min", 50),
    ("只抢不发", "zhou-jie", 24),
    ("老板请客", "boss-liu", 5),
];
/// What people put in, in fen: numbers that sound like luck.
const TOTALS: [u64; 8] = [666, 888, 1_888, 5_200, 6_666, 8_888, 16_800, 20_000];
const GREETINGS: [&str; 6] = ["恭喜发财", "大吉大利", "新年快乐", "万事如意", "马到成功", "红包拿来"];
/// What lies on the shelf: name, category, price in fen, units, units a person.
const SHELF: [(&str, &str, u64, u32, u32); 6] = [
    ("99 roses", "flowers", 29_900, 500, 1),
    ("Peony bouquet", "flowers", 16_800, 800, 2),
    ("Lacquer tea set", "home", 45_900, 200, 1),
    ("Lipstick, festival red", "beauty", 26_000, 1_000, 2),
    ("Noise-cancelling headphones", "digital", 129_900, 100, 1),
    ("Gold bean, 1 g", "jewelry", 68_800, 300, 3),
];
/// Which of them two buy together for less, and for how much each.
const TOGETHER: (usize, u64) = (2, 39_900);
const GROUP_ENVELOPES: usize = 300;
const MASS_SHARES: u32 = 200_000;

/// What the campaign consists of.
pub struct Campaign {
    /// One envelope for everybody.
    pub mass: EnvelopeId,
    /// Small ones in group chats.
    pub groups: Vec<EnvelopeId>,
    /// A shelf of items on a flash sale.
    pub items: Vec<ItemId>,
}

/// Puts the campaign into an empty engine.
///
/// # Errors
/// [`EngineError`] if the engine fails.
pub async fn campaign(backend: &impl Backend) -> Result<Campaign, EngineError> {
    fund(backend, "cctv-gala", 1_000_000_000).await?;
    let mut rich = GROUPS.map(|(_, sender, _)| sender).to_vec();
    rich.sort_unstable();
    rich.dedup();
    for sender in rich {
        fund(backend, sender, 10_000_000).await?;
    }
    // Anybody who grabs may want to buy something.
    for user in ["bob", "carol"] {
        fund(backend, user, 500_000).await?;
    }
    let mass = NewEnvelope {
        message: "春晚摇一摇，恭喜发财".to_owned(),
        ..envelope("cctv-gala", "cctv-gala/2027/1", 100_000_000, MASS_SHARES)
    };
    let mass = create(backend, mass).await?;
    let mut groups = Vec::with_capacity(GROUP_ENVELOPES);
    for number in 0..GROUP_ENVELOPES {
        let (group, sender, people) = GROUPS[number % GROUPS.len()];
        let shares = [people, people / 2, 5.min(people)][number / GROUPS.len() % 3].max(2);
        let total = TOTALS[number % TOTALS.len()].max(u64::from(shares) * 10);
        let mut terms = envelope(sender, &format!("group/{number}"), total, shares);
        terms.message = format!("{group}：{}", GREETINGS[number % GREETINGS.len()]);
        terms.auto_claim = true;
        if number % 10 == 9 {
            terms.split = SplitRule::Equal;
            terms.total = fen(u64::from(shares) * 88);
        }
        groups.push(create(backend, terms).await?);
    }
    let rosy = user("rosy");
    let merchant = NewMerchant::new(rosy.clone(), "Rosy 花店", Some(MerchantStatus::Verified));
    expect(backend, Command::PutMerchant(Box::new(merchant))).await?;
    let mut items = Vec::new();
    for (at, (name, category, price, stock, limit)) in SHELF.into_iter().enumerate() {
        let (together, for_each) = TOGETHER;
        let terms_for_two = GroupBuy { size: 2, price: fen(for_each), within_s: 86_400 };
        let terms = NewItem {
            merchant: rosy.clone(),
            name: name.to_owned(),
            category: category.to_owned(),
            price: fen(price),
            stock,
            per_user_limit: Some(limit),
            starts_at: None,
            ends_at: None,
            hold_ttl_s: 900,
            image_url: None,
            origin: ItemOrigin::default(),
            group_buy: (at == together).then_some(terms_for_two),
        };
        if let Outcome::Item(view) = expect(backend, Command::CreateItem(Box::new(terms))).await? {
            items.push(view.id);
        }
    }
    Ok(Campaign { mass, groups, items })
}

fn user(text: &str) -> UserId {
    UserId::new(text).expect("the demo's users are well-formed")
}

fn fen(minor: u64) -> Amount {
    Amount::new(minor).expect("the demo's amounts are small")
}

fn envelope(sender: &str, reference: &str, total: u64, shares: u32) -> NewEnvelope {
    let reference = Some(Reference { owner: "admin".to_owned(), text: reference.to_owned() });
    NewEnvelope { reference, ..NewEnvelope::new("admin", user(sender), fen(total), shares, SplitRule::lucky()) }
}

async fn fund(backend: &impl Backend, name: &str, minor: u64) -> Result<(), EngineError> {
    let transfer = Transfer { user: user(name), amount: fen(minor), reference: None };
    expect(backend, Command::Deposit(transfer)).await.map(drop)
}

async fn create(backend: &impl Backend, terms: NewEnvelope) -> Result<EnvelopeId, EngineError> {
    match expect(backend, Command::CreateEnvelope(Box::new(terms))).await? {
        Outcome::Envelope(view) => Ok(view.id),
        other => unreachable!("an envelope is answered with an envelope, not {other:?}"),
    }
}

/// Executes a command of the demo, none of which an empty engine refuses.
async fn expect(backend: &impl Backend, command: Command) -> Result<Outcome, EngineError> {
    let outcome = backend.execute(command, None).await?.outcome;
    assert!(!matches!(outcome, Outcome::Refused(_)), "an empty engine takes the demo's campaign: {outcome:?}");
    Ok(outcome)
}

/// What to paste into a terminal.
pub fn invitation(address: SocketAddr, key: &str, campaign: &Campaign) -> String {
    let Campaign { mass, groups, items } = campaign;
    let (group, item, present, together) = (groups[0], items[0], items[1], items[TOGETHER.0]);
    format!(
        "\
A Spring Festival evening is served on http://{address}
  one envelope of {MASS_SHARES} shares, {} group envelopes, {} items on a flash sale
  look at http://{address}/docs, http://{address}/metrics

Paste these into another terminal:

export HONGBAO_KEY={key}
curl -s http://{address}/v1/envelopes/{mass}/grab -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"bob\"}}'
curl -s http://{address}/v1/envelopes/{mass}/claim -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"bob\"}}'
curl -s http://{address}/v1/envelopes/{group}/grab -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"bob\"}}'
curl -s http://{address}/v1/envelopes/{group}/grabs -H \"Authorization: Bearer $HONGBAO_KEY\"
curl -s http://{address}/v1/items/{item}/grab -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"bob\",\"quantity\":1}}'
HOLD=$(curl -s http://{address}/v1/items/{item}/grab -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"bob\",\"quantity\":1}}' | grep -o 'hold_[0-9a-z]*')
curl -s http://{address}/v1/holds/$HOLD/claim -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"bob\"}}'
GIFT=$(curl -s http://{address}/v1/gifts -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Idempotency-Key: gift-1' -H 'Content-Type: application/json' -d '{{\"giver\":\"bob\",\"recipient\":\"carol\",\"item\":\"{present}\",\"message\":\"for you\"}}' | grep -o 'gift_[0-9a-z]*')
curl -s http://{address}/v1/gifts/$GIFT/accept -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"carol\"}}'
TOGETHER=$(curl -s http://{address}/v1/items/{together}/groups -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Idempotency-Key: group-1' -H 'Content-Type: application/json' -d '{{\"user\":\"bob\"}}' | grep -o 'group_[0-9a-z]*')
curl -s http://{address}/v1/groups/$TOGETHER/join -H \"Authorization: Bearer $HONGBAO_KEY\" -H 'Content-Type: application/json' -d '{{\"user\":\"carol\"}}'
curl -s http://{address}/v1/wallets/bob -H \"Authorization: Bearer $HONGBAO_KEY\"
curl -s http://{address}/v1/users/bob/received -H \"Authorization: Bearer $HONGBAO_KEY\"
curl -s http://{address}/v1/audit -H \"Authorization: Bearer $HONGBAO_KEY\"

Or send a crowd, which pays with play money and checks every answer at the end:

cargo run --release -p hongbao-load -- run hot --target http://{address} --rate 20000 --duration 10s

Ctrl-C ends the evening; nothing of it is kept.
",
        groups.len(),
        items.len(),
    )
}
