//! What an export has, section after section, and how the next items of each are read.
//!
//! Sealed texts are [`super::texts`]', and what was posted is [`super::wrote`]'s.

use chrono::NaiveDate;
use futures_util::future::BoxFuture;
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::error::Result;
use optimist_plane::months::Month;
use optimist_plane::postgres::replicas::Reader;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use serde_json::Value;
use tokio_postgres::Row;

use crate::export::{texts, wrote};

/// Items of a section that follow a place.
pub struct Part {
    pub items: Vec<Value>,
    /// Where the section goes on; `None` at its end.
    pub after: Option<String>,
}

pub type Read = for<'a, 'r> fn(Reading<'a, 'r>) -> BoxFuture<'a, Result<Part>>;

/// What is read next.
pub struct Reading<'a, 'r> {
    pub ctx: &'a Ctx,
    pub reader: &'a mut Reader<'r>,
    pub user: Uuid,
    /// Empty at a section's begin.
    pub after: &'a str,
}

pub struct Section {
    pub name: &'static str,
    pub source: Source,
}

pub enum Source {
    /// A statement of the person `$1`, of what follows the place `$2`, at most `$3`: selects places and items.
    Rows(&'static str),
    /// The same, of the month from the day `$4` to before `$5`.
    Months(&'static str),
    Other(Read),
}

#[rustfmt::skip] // One line a row.
pub const SECTIONS: &[Section] = &[
    Section { name: "account", source: Source::Rows(ACCOUNT) },
    Section { name: "sessions", source: Source::Rows(SESSIONS) },
    Section { name: "notification-preferences", source: Source::Rows(PREFERENCES) },
    Section { name: "devices", source: Source::Rows(DEVICES) },
    Section { name: "circles", source: Source::Rows(CIRCLES) },
    Section { name: "muted-circles", source: Source::Rows(MUTED_CIRCLES) },
    Section { name: "blocks", source: Source::Rows(BLOCKS) },
    Section { name: "mutes", source: Source::Rows(MUTES) },
    Section { name: "favorites", source: Source::Rows(FAVORITES) },
    Section { name: "reports", source: Source::Rows(REPORTS) },
    Section { name: "messages", source: Source::Other(|reading| Box::pin(wrote::messages(reading))) },
    Section { name: "reactions", source: Source::Other(|reading| Box::pin(wrote::reactions(reading))) },
    Section { name: "activity", source: Source::Months(ACTIVITY) },
    Section { name: "notifications", source: Source::Months(NOTIFICATIONS) },
    Section { name: "audit", source: Source::Months(AUDIT) },
    Section { name: "journal-entries", source: Source::Other(|reading| Box::pin(texts::entries(reading))) },
    Section { name: "journal-versions", source: Source::Other(|reading| Box::pin(texts::versions(reading))) },
    Section { name: "journal-drafts", source: Source::Other(|reading| Box::pin(texts::drafts(reading))) },
    Section { name: "moods", source: Source::Other(|reading| Box::pin(texts::moods(reading))) },
];

/// Rows of one part.
const AT_ONCE: i64 = 500;

statements! {
    const ACCOUNT: &str = "-- exports::account
select 'x', jsonb_build_object('id', id, 'name', name, 'bio', bio, 'email', email, 'email_verified_at', email_verified_at,
    'time_zone', time_zone, 'locale', locale, 'week_start', week_start, 'presence', presence_to, 'discoverable', discoverable,
    'reduced_motion', reduced_motion, 'role', role, 'created_at', created_at, 'updated_at', updated_at)
from users where id = $1 and $2 = '' limit $3";

    /// A person has fifty at most.
    const SESSIONS: &str = "-- exports::sessions
select 'x', jsonb_build_object('id', id, 'user_agent', user_agent, 'created_at', created_at, 'first_used_at', first_used_at,
    'refreshed_at', refreshed_at, 'ends_at', absolute_until)
from sessions where user_id = $1 and revoked_at is null and $2 = '' limit $3";

    const PREFERENCES: &str = "-- exports::preferences
select 'x', jsonb_build_object('in_app', kinds(in_app), 'push', kinds(push), 'email', kinds(email), 'webhook', kinds(webhook),
    'quiet_from', quiet_from, 'quiet_to', quiet_to)
from notification_preferences where user_id = $1 and $2 = '' limit $3";

    const DEVICES: &str = "-- exports::devices
select id::text as place, jsonb_build_object('id', id, 'channel', channel, 'endpoint', endpoint, 'created_at', created_at, 'verified_at', verified_at)
from push_tokens where user_id = $1 and id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by id limit $3";

    const CIRCLES: &str = "-- exports::circles
select m.circle_id::text as place, jsonb_build_object('circle_id', m.circle_id, 'name', c.name, 'role', m.role, 'joined_at', m.joined_at,
    'read_number', r.number)
from memberships m join circles c on c.id = m.circle_id
left join read_markers r on r.circle_id = m.circle_id and r.user_id = m.user_id
where m.user_id = $1 and m.role <> 'banned'
  and m.circle_id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by m.circle_id limit $3";

    const MUTED_CIRCLES: &str = "-- exports::muted_circles
select circle_id::text as place, jsonb_build_object('circle_id', circle_id, 'until', until) from notification_mutes
where user_id = $1 and circle_id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by circle_id limit $3";

    const BLOCKS: &str = "-- exports::blocks
select blocked_id::text as place, jsonb_build_object('user_id', blocked_id, 'added_at', created_at) from blocks
where user_id = $1 and blocked_id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by blocked_id limit $3";

    const MUTES: &str = "-- exports::mutes
select muted_id::text as place, jsonb_build_object('user_id', muted_id, 'added_at', created_at) from mutes
where user_id = $1 and muted_id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by muted_id limit $3";

    const FAVORITES: &str = "-- exports::favorites
select message_id::text as place, jsonb_build_object('message_id', message_id, 'circle_id', circle_id, 'added_at', added_at) from favorites
where user_id = $1 and message_id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by message_id limit $3";

    const REPORTS: &str = "-- exports::reports
select message_id::text as place, jsonb_build_object('message_id', message_id, 'reason', reason, 'text', body, 'reported_at', created_at)
from reports where reporter_id = $1 and message_id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by message_id limit $3";

    /// A place is a day and a circle.
    const ACTIVITY: &str = "-- exports::activity, planned anew
select circle_id || ' ' || day, jsonb_build_object('circle_id', circle_id, 'day', day, 'posts', posts, 'comments', comments,
    'reactions', reactions, 'visits', bit_count(visits), 'last_seen_at', last_seen_at)
from activity where user_id = $1 and day >= $4 and day < $5
  and ($2 = '' or (circle_id, day) > (left($2, 36)::uuid, substr($2, 38)::date))
order by circle_id, day limit $3";

    const NOTIFICATIONS: &str = "-- exports::notifications, planned anew
select id::text as place, jsonb_build_object('id', id, 'kind', kind, 'circle_id', circle_id, 'message_id', message_id, 'actor_id', actor_id,
    'others', actors - 1, 'role', role, 'created_at', created_at, 'read_at', read_at)
from notifications where user_id = $1 and month >= $4 and month < $5
  and id > coalesce(nullif($2, ''), '00000000-0000-0000-0000-000000000000')::uuid
order by id limit $3";

    /// What was done to the person's account, or by them.
    const AUDIT: &str = "-- exports::audit, planned anew
select xid || ' ' || seq || ' ' || at, jsonb_build_object('at', at, 'kind', kind, 'actor_id', actor, 'circle_id', circle_id,
    'user_id', user_id, 'details', payload)
from (
    (select * from audit where user_id = $1 and at >= $4::date::timestamp at time zone 'UTC' and at < $5::date::timestamp at time zone 'UTC'
        and ($2 = '' or (at, xid, seq) > (split_part($2, ' ', 3)::timestamptz, split_part($2, ' ', 1)::xid8, split_part($2, ' ', 2)::bigint))
     order by at, xid, seq limit $3)
    union
    (select * from audit where actor = $1 and at >= $4::date::timestamp at time zone 'UTC' and at < $5::date::timestamp at time zone 'UTC'
        and ($2 = '' or (at, xid, seq) > (split_part($2, ' ', 3)::timestamptz, split_part($2, ' ', 1)::xid8, split_part($2, ' ', 2)::bigint))
     order by at, xid, seq limit $3)) own
order by at, xid, seq limit $3";
}

impl Section {
    /// Reads the items that follow a place.
    pub async fn read(&self, reading: Reading<'_, '_>) -> Result<Part> {
        match self.source {
            Source::Rows(sql) => {
                let Reading { reader, user, after, .. } = reading;
                let rows = reader.query(sql, &[&user, &after, &AT_ONCE]).await?;
                Ok(Part { after: last_place(&rows), items: items(&rows) })
            }
            Source::Months(sql) => of_month(sql, reading).await,
            Source::Other(read) => read(reading).await,
        }
    }
}

fn items(rows: &[Row]) -> Vec<Value> {
    rows.iter().map(|row| row.get(1)).collect()
}

/// Where the next rows follow, if these are as many as were asked for.
fn last_place(rows: &[Row]) -> Option<String> {
    rows.last().filter(|_| rows.len() as i64 == AT_ONCE).map(|row| row.get(0))
}

/// The months in which somebody can have done anything.
pub fn months_of(user: Uuid) -> (Month, Month) {
    (Month::of_id(user).plus(-1), Month::of(clock::now()).plus(1))
}

/// The next items of a month. A place is the month's first day, and the place within the month.
async fn of_month(sql: &'static str, Reading { reader, user, after, .. }: Reading<'_, '_>) -> Result<Part> {
    let (first, last) = months_of(user);
    let (month, within) = match after.split_once('/') {
        Some((day, within)) => (day.parse::<NaiveDate>().map_or(first, Month::of_day), within),
        None => (first, ""),
    };
    let (begin, end) = (month.first_day(), month.plus(1).first_day());
    let rows = reader.query(sql, &[&user, &within, &AT_ONCE, &begin, &end]).await?;
    let after = match last_place(&rows) {
        Some(place) => Some(format!("{begin}/{place}")),
        None if month < last => Some(format!("{end}/")),
        None => None,
    };
    Ok(Part { items: items(&rows), after })
}
