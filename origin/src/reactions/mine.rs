//! The caller's own reactions to a page of messages: from Redis where it has a message's state, otherwise from Postgres and the
//! entries that are not flushed yet. Nothing is installed for it.

use std::collections::HashSet;

use ::redis::{Cmd, Value};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use optimist_plane::ctx::Ctx;
use optimist_plane::describe;
use optimist_plane::error::{Error, Result};
use optimist_plane::hash::digest;
use optimist_plane::http::body::{tagged, to_json};
use optimist_plane::http::page::{List, parameters_of};
use optimist_plane::redis::{Items, Position};
use optimist_plane::request::Caller;
use optimist_plane::statements;
use optimist_plane::write_behind::entry::number;
use optimist_plane::write_behind::open::open_patiently;
use optimist_shared::error::ErrorCode;
use optimist_shared::ids::{Partition, Uuid, parse_hex, parse_sent_id};
use optimist_shared::keys::Key;
use optimist_shared::reactions::{KINDS, Kind};
use optimist_shared::scripts::Scalars as _;
use optimist_shared::scripts::mine::{self, Unflushed};
use optimist_shared::vouching::Vouched;
use schemars::JsonSchema;
use serde::Serialize;

use crate::circles::access::reader_of_circle;
use crate::reactions::installing::AGAIN;
use crate::reactions::shapes::ReactionKind;
use crate::reactions::snapshot::kind_of;

/// As many as a page of messages has.
const MOST_MESSAGES: usize = 100;
/// Flushes that may come between a snapshot and the entries after it.
const ATTEMPTS: u32 = 10;

statements! {
    /// How far the partition is flushed, and the caller's reactions as of then: a look-up for each message and kind. `is_on` is
    /// compared as a number, so that the planner uses the primary key: the index of the newest holds everyone's.
    const SNAPSHOT: &str = "-- reactions::mine_of, planned anew
select generation, position_ms, position_seq, null::uuid as message_id, null::smallint as kind
from write_behind where region = $1 and partition = $2
union all
select null, null, null, r.message_id, r.kind from reactions r
where r.circle_id = $3 and r.message_id = any($4) and r.kind = any($5::smallint[]) and r.user_id = $6 and r.is_on::integer = 1
  and exists (
      select from messages m
      where m.circle_id = r.circle_id and m.id = r.message_id and m.id = any($4) and m.deleted_at is null)";
}

/// Up to a hundred ids, separated by commas.
pub struct MessageIds;

describe!(MessageIds, {
    "type": "string",
    "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(,[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}){0,99}$",
});

/// The caller's reactions to a message.
#[derive(Serialize, JsonSchema)]
pub struct OwnReactions {
    message: Uuid,
    #[schemars(with = "Vec<ReactionKind>")]
    kinds: Vec<&'static str>,
}

/// The right to read comes first; then the query may be refused.
pub async fn list(State(ctx): State<Ctx>, caller: Caller, headers: HeaderMap, uri: Uri) -> Result<Response> {
    let (circle, _) = reader_of_circle(&ctx, &caller).await?;
    let messages = messages_of(uri.query())?;
    let own = own_reactions(&ctx, circle, &messages, caller.user).await?;
    let kinds_of = |message: Uuid| {
        let kinds = (1..=KINDS.len()).filter_map(Kind::from_place);
        kinds.filter(|kind| own.contains(&(message, *kind))).map(Kind::as_str).collect()
    };
    let items = messages.iter().map(|message| OwnReactions { message: *message, kinds: kinds_of(*message) });
    let json = to_json(&List::whole(items.collect()))?;
    Ok(tagged(&headers, &digest(&[&json]), "", json))
}

/// The messages that a query asks for, each once, in its order.
fn messages_of(query: Option<&str>) -> Result<Vec<Uuid>> {
    let refused = |name: &str, reason: String| Error::new(ErrorCode::BadRequest).field(name, reason);
    let mut messages = Vec::new();
    for (name, value) in parameters_of(query)? {
        if name != "messages" {
            return Err(refused(&name, "is not a parameter of this list".to_owned()));
        }
        for id in value.split(',') {
            let id = parse_sent_id(id)
                .ok_or_else(|| refused("messages", "must be ids, separated by commas".to_owned()))?;
            if !messages.contains(&id) {
                messages.push(id);
            }
            if messages.len() > MOST_MESSAGES {
                return Err(refused("messages", format!("must be at most {MOST_MESSAGES}")));
            }
        }
    }
    if messages.is_empty() { Err(refused("messages", "is required".to_owned())) } else { Ok(messages) }
}

type Own = HashSet<(Uuid, Kind)>;

async fn own_reactions(ctx: &Ctx, circle: Uuid, messages: &[Uuid], user: Uuid) -> Result<Own> {
    let (mut own, missing) = live(ctx, circle, messages, user).await;
    if !missing.is_empty() {
        own.extend(joined(ctx, circle, &missing, user).await?);
    }
    Ok(own)
}

/// The reactions that Redis knows, and the messages whose state it lacks.
async fn live(ctx: &Ctx, circle: Uuid, messages: &[Uuid], user: Uuid) -> (Own, Vec<Uuid>) {
    let mut vouch = Cmd::new();
    vouch.arg("GET").arg(Key::Vouch.of_partition(Partition::of(circle)));
    let states = messages.iter().map(|message| {
        let mut fields = Cmd::new();
        fields.arg("HMGET").arg(Key::reactions(circle, *message).name()).arg("@");
        for place in 1..=KINDS.len() {
            fields.arg(format!("{place}:{user}"));
        }
        fields
    });
    let commands = std::iter::once(vouch).chain(states);
    let Ok(values) = ctx.redis.send(commands).await else { return (Own::new(), messages.to_vec()) };
    let mut values = values.into_iter();
    let vouched = values.next().and_then(|value| Vouched::parse(&Items::new(value).bytes()));
    let (mut own, mut missing) = (Own::new(), Vec::new());
    for (message, value) in messages.iter().zip(values) {
        let fields = if let Value::Array(fields) = value { fields } else { Vec::new() };
        let mut fields = fields.into_iter();
        let epoch = fields.next().and_then(|epoch| parse_hex(&Items::new(epoch).text()));
        if epoch.is_none() || epoch != vouched.as_ref().map(|vouched| vouched.epoch) {
            missing.push(*message);
            continue;
        }
        let set = fields.enumerate().filter(|(_, value)| !matches!(value, Value::Nil));
        own.extend(set.filter_map(|(index, _)| Some((*message, Kind::from_place(index + 1)?))));
    }
    (own, missing)
}

/// The reactions that Postgres has, and those that are on their way to it.
async fn joined(ctx: &Ctx, circle: Uuid, messages: &[Uuid], user: Uuid) -> Result<Own> {
    let partition = Partition::of(circle);
    let kinds: Vec<i16> = (1..=KINDS.len() as i16).collect();
    let region = &ctx.config.region;
    let mut own = Own::new();
    for _ in 0..ATTEMPTS {
        let rows =
            ctx.db.query(SNAPSHOT, &[region, &number(partition), &circle, &messages, &kinds, &user]).await?;
        let stored = rows.iter().filter_map(|row| {
            let message: Uuid = row.get::<_, Option<Uuid>>("message_id")?;
            Some((message, kind_of(row.get("kind"))?))
        });
        own = stored.collect();
        let opened = rows.iter().find_map(|row| Some((row.get::<_, Option<i64>>("generation")?, row)));
        // Without an opened partition, or without Redis, there is nothing but what Postgres has.
        let (Some((generation, row)), Some(epoch)) = (opened, ctx.region.vouched()) else { return Ok(own) };
        let position = Position(row.get("position_ms"), row.get("position_seq")).to_string();
        let call = mine::call(circle, epoch, generation, position, user, messages);
        let Ok(mut reply) = ctx.redis.call_one(&call).await else { return Ok(own) };
        match mine::read(&mut reply) {
            Unflushed::Entries(entries) => {
                for (message, kind, reacted) in entries {
                    if reacted {
                        own.insert((message, kind))
                    } else {
                        own.remove(&(message, kind))
                    };
                }
                return Ok(own);
            }
            Unflushed::Late => tokio::time::sleep(AGAIN).await,
            Unflushed::Closed => {
                if !open_patiently(ctx, partition).await? {
                    return Ok(own);
                }
            }
        }
    }
    Ok(own)
}
