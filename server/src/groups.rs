//! Group purchase: groups opened, joined and left.

use crate::app::{Shared, Table};
use crate::auth::Caller;
use crate::config::Currency;
use crate::door::Class;
use crate::envelopes::ByUser;
use crate::extract::{Content, Json, MaybeOnce, NoParams, Once, One, Params};
use crate::fields::Visible;
use crate::gifts::no_unit;
use crate::problem::{Code, Problem};
use crate::reply::{from_engine, from_refusal, json, list, reply};
use crate::views::{At, Shown};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hongbao_engine::backend::{Backend, Reply};
use hongbao_engine::command::{Command, Outcome, Refusal};
use hongbao_engine::group::{Group, GroupState, GroupsOf, Member, NewGroup};
use hongbao_engine::types::{Amount, GroupId, ItemId, OrderId, UserId};
use serde::{Deserialize, Serialize};

/// Adds the routes of groups.
pub fn routes<B: Backend>(table: Table<B>) -> Table<B> {
    table
        .post("/v1/items/{id}/groups", Class::Ordinary, open::<B>)
        .get("/v1/items/{id}/groups", Class::Ordinary, of_item::<B>)
        .get("/v1/groups/{id}", Class::Ordinary, show::<B>)
        .post("/v1/groups/{id}/join", Class::Ordinary, join::<B>)
        .post("/v1/groups/{id}/leave", Class::Settling, leave::<B>)
        .get("/v1/users/{user}/groups", Class::Ordinary, of_user::<B>)
}

/// A group to be opened, as it is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    user: UserId,
    #[serde(default)]
    reference: Option<Visible>,
}

impl Content for Open {}

async fn open<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(item): One<ItemId>,
    Once(once): Once,
    Json(Open { user, reference }): Json<Open>,
) -> Result<Response, Problem> {
    let owner = caller.owner().to_owned();
    let reference = reference.map(|text| caller.reference(text));
    let command = Command::OpenGroup(Box::new(NewGroup { owner, item, leader: user, reference }));
    let decided = server.backend.execute(command, Some(once)).await;
    if let Ok(Reply { outcome, .. }) = &decided {
        if *outcome == Outcome::CannotPay {
            return Err(from_refusal(Refusal::InsufficientFunds));
        }
        if let Some(why) = no_unit(outcome, "The leader holds and has bought") {
            return Err(Problem::new(Code::WrongState, why));
        }
    }
    reply(&server, decided, StatusCode::CREATED)
}

async fn join<B: Backend>(
    State(server): State<Shared<B>>,
    One(group): One<GroupId>,
    MaybeOnce(once): MaybeOnce,
    Json(ByUser { user }): Json<ByUser>,
) -> Result<Response, Problem> {
    let command = Command::JoinGroup { group, user };
    reply(&server, server.backend.execute(command, once).await, StatusCode::OK)
}

async fn leave<B: Backend>(
    State(server): State<Shared<B>>,
    One(group): One<GroupId>,
    MaybeOnce(once): MaybeOnce,
    Json(ByUser { user }): Json<ByUser>,
) -> Result<Response, Problem> {
    let command = Command::LeaveGroup { group, user };
    reply(&server, server.backend.execute(command, once).await, StatusCode::OK)
}

async fn show<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(id): One<GroupId>,
    _: NoParams,
) -> Result<Response, Problem> {
    let group = server.backend.group(id).await.map_err(|error| from_engine(&error))?;
    let group = group.filter(|group| caller.sees_merchant(&group.merchant));
    Ok(json(&GroupJson::new(&group.ok_or_else(Problem::not_found)?, server.currency)))
}

async fn of_item<B: Backend>(
    State(server): State<Shared<B>>,
    caller: Caller,
    One(item): One<ItemId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&["state"])?;
    let state = params.parse("state", |name| {
        let found = GroupState::ALL.into_iter().find(|state| state.name() == name);
        found.ok_or("must be open, full, expired or leader_left")
    })?;
    let view = server.backend.item(item).await.map_err(|error| from_engine(&error))?;
    if !view.is_some_and(|view| caller.sees_merchant(&view.terms.merchant)) {
        return Err(Problem::not_found());
    }
    let rows = server.backend.groups(&GroupsOf::Item(item, state), &page).await;
    Ok(list("groups", &rows.map_err(|error| from_engine(&error))?, |group| GroupJson::new(group, server.currency)))
}

async fn of_user<B: Backend>(
    State(server): State<Shared<B>>,
    One(user): One<UserId>,
    params: Params,
) -> Result<Response, Problem> {
    let page = params.page(&[])?;
    let rows = server.backend.groups(&GroupsOf::User(user), &page).await;
    Ok(list("groups", &rows.map_err(|error| from_engine(&error))?, |group| GroupJson::new(group, server.currency)))
}

/// A group.
#[derive(Serialize)]
pub struct GroupJson<'a> {
    id: Shown<GroupId>,
    state: &'static str,
    item: Shown<ItemId>,
    merchant: &'a UserId,
    leader: &'a UserId,
    members: usize,
    size: u32,
    price: Amount,
    currency: Currency,
    joined: Vec<MemberJson<'a>>,
    created_at: At,
    expires_at: At,
    ended_at: Option<At>,
    reference: Option<&'a str>,
}

#[derive(Serialize)]
struct MemberJson<'a> {
    user: &'a UserId,
    joined_at: At,
    order: Option<Shown<OrderId>>,
}

impl<'a> GroupJson<'a> {
    /// `group`, shown.
    pub fn new(group: &'a Group, currency: Currency) -> Self {
        let member = |member: &'a Member| MemberJson {
            user: &member.user,
            joined_at: At(member.joined_at),
            order: group.order_of(&member.user).map(Shown),
        };
        GroupJson {
            id: Shown(group.id),
            state: group.state.name(),
            item: Shown(group.item),
            merchant: &group.merchant,
            leader: &group.leader,
            members: group.members.len(),
            size: group.size,
            price: group.price,
            currency,
            joined: group.members.iter().map(member).collect(),
            created_at: At(group.created_at),
            expires_at: At(group.expires_at),
            ended_at: group.ended_at.map(At),
            reference: group.reference.as_deref(),
        }
    }
}

/// What who has joined is told.
#[derive(Serialize)]
pub struct JoinedJson {
    outcome: &'static str,
    group: Shown<GroupId>,
    state: &'static str,
    members: usize,
    size: u32,
    price: Amount,
    expires_at: At,
    order: Option<Shown<OrderId>>,
    replayed: bool,
}

impl JoinedJson {
    /// A group as it was when somebody joined it.
    pub fn new(group: &Group, order: Option<OrderId>, replayed: bool) -> Self {
        JoinedJson {
            outcome: "joined",
            group: Shown(group.id),
            state: group.state.name(),
            members: group.members.len(),
            size: group.size,
            price: group.price,
            expires_at: At(group.expires_at),
            order: order.map(Shown),
            replayed,
        }
    }
}
