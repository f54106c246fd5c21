//! What subscribers are told of their notifications: how many are unread, and which is the newest.

use chrono::{DateTime, Utc};
use optimist_plane::clock;
use optimist_plane::ctx::Ctx;
use optimist_plane::domain::{Of, State};
use optimist_plane::error::Result;
use optimist_plane::http::body::to_json;
use optimist_plane::http::time::Time;
use optimist_plane::months::Month;
use optimist_plane::operation::shape;
use optimist_plane::statements;
use optimist_shared::ids::Uuid;
use schemars::JsonSchema;
use serde::Serialize;

use crate::notifications::counts::STATE;

pub const STATES: &[State] = &[State {
    name: STATE,
    what: "How many of one's notifications are unread, and the newest one: when that changes, the list has.",
    shape: shape::<Notifications>,
    of: Of::Person,
    load: |ctx, user| Box::pin(load(ctx, user)),
    after: &[],
}];

statements! {
    /// The newest of the month `$2` and the one before, as the list is ordered.
    const NEWEST: &str = "-- notifications::newest, planned anew
select c.unread, n.id, n.updated_at from (select $1::uuid as user_id) me
left join notification_counts c on c.user_id = me.user_id
left join lateral (
    select id, updated_at from notifications where user_id = $1 and month <= $2 and month >= $3
    order by month desc, updated_at desc, id desc limit 1) n on true";
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NotificationsState")]
struct Notifications {
    /// Unread notifications.
    #[schemars(range(min = 0))]
    unread: i32,
    /// Null without one of this month or the last.
    newest: Option<Newest>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NewestNotification")]
struct Newest {
    id: Uuid,
    updated_at: Time,
}

async fn load(ctx: &Ctx, user: Uuid) -> Result<Option<Vec<u8>>> {
    let month = Month::of(clock::now());
    let (to, from) = (month.first_day(), month.plus(-1).first_day());
    let row = ctx.db.query_opt(NEWEST, &[&user, &to, &from]).await?;
    let unread = row.as_ref().and_then(|row| row.get(0)).unwrap_or(0);
    let newest = row.and_then(|row| {
        let (id, at): (Option<Uuid>, Option<DateTime<Utc>>) = (row.get(1), row.get(2));
        Some(Newest { id: id?, updated_at: Time(at?) })
    });
    to_json(&Notifications { unread, newest }).map(Some)
}
