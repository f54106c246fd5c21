//! Writes the trail: one row for each event of the kinds that it holds.

use chrono::{DateTime, Utc};
use optimist_plane::domain::Follow;
use optimist_plane::error::Result;
use optimist_plane::outbox::event::Event;
use optimist_plane::postgres::transaction::Tx;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use serde_json::Value;

statements! {
    /// Adds events. One that is tried again is there already.
    const ADD: &str = "-- trail::add
insert into audit (at, xid, seq, kind, actor, circle_id, user_id, payload)
select at, xid::xid8, seq, kind, actor, circle_id, user_id, payload
from unnest($1::timestamptz[], $2::text[], $3::bigint[], $4::text[], $5::uuid[], $6::uuid[], $7::uuid[], $8::jsonb[])
    as event (at, xid, seq, kind, actor, circle_id, user_id, payload)
on conflict do nothing";
}

const KEEP: Follow = Follow::Whole(|tx, events| Box::pin(keep(tx, events)));

/// The kinds of events that the trail holds.
pub const FOLLOWS: &[(&str, Follow)] = &[
    ("user.registered", KEEP),
    ("user.updated", KEEP),
    ("user.preferences", KEEP),
    ("session.opened", KEEP),
    ("session.revoked", KEEP),
    ("session.reused", KEEP),
    ("password.changed", KEEP),
    ("email.asked", KEEP),
    ("email.verified", KEEP),
    ("email.changed", KEEP),
    ("account.erased", KEEP),
    ("circle.created", KEEP),
    ("circle.updated", KEEP),
    ("circle.archived", KEEP),
    ("circle.restored", KEEP),
    ("join.declined", KEEP),
    ("ownership.offered", KEEP),
    ("ownership.withdrawn", KEEP),
    ("member.joined", KEEP),
    ("member.left", KEEP),
    ("member.role", KEEP),
    ("member.removed", KEEP),
    ("ban.lifted", KEEP),
    ("invite.created", KEEP),
    ("invite.revoked", KEEP),
    ("report.decided", KEEP),
    ("export.asked", KEEP),
    ("admin.suspended", KEEP),
    ("admin.restored", KEEP),
    ("admin.role-changed", KEEP),
    ("admin.copy-dropped", KEEP),
];

async fn keep(tx: &Tx, events: &[Event]) -> Result<()> {
    let at: Vec<DateTime<Utc>> = events.iter().map(|event| event.at).collect();
    let (xids, places): (Vec<&str>, Vec<i64>) = events.iter().map(Event::row).unzip();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let actors: Vec<Option<Uuid>> = events.iter().map(|event| event.actor).collect();
    let circles: Vec<Option<Uuid>> = events.iter().map(|event| event.id("circle")).collect();
    let people: Vec<Option<Uuid>> = events.iter().map(|event| event.id("user")).collect();
    let payloads: Vec<&Value> = events.iter().map(Event::payload).collect();
    tx.execute(ADD, &[&at, &xids, &places, &kinds, &actors, &circles, &people, &payloads]).await.map(drop)
}
